"""The condition behind WHERE: a range of time, and a condition on tags and fields (flo.floql.condition)."""

import re
from collections.abc import Callable, Container
from datetime import UTC, datetime
from typing import NamedTuple

from flo.errors import BadRequest
from flo.floql.condition import Compare, Condition, Every, Some
from flo.floql.query import Expression as Formula
from flo.floql.query import Negative as Minus
from flo.floql.query import Number, Operation, Value
from flo.floql.source import TagMatcher
from flo.influxql.statement import Binary, Call, Duration, Expression, Negative, Pattern, Reference, Text, Wildcard

NS = 1_000_000_000  # of a second
_COMPARISONS = {"=", "!=", "<", "<=", ">", ">=", "=~", "!~"}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))?)?")
# What InfluxDB calls the parts of a condition in its refusals
_KINDS: dict[type, str] = {
    Text: "StringLiteral", Pattern: "RegexLiteral", Reference: "VarRef", Binary: "BinaryExpr", Call: "Call", Wildcard: "Wildcard",
}  # fmt: skip


class Range(NamedTuple):
    """Times in ns, both included; None where there is no bound."""

    start: int | None = None
    end: int | None = None


# -- time ------------------------------------------------------------------------------------------


def split(expression: Expression | None, now: int) -> tuple[Range, Expression | None]:
    """The range of time, and what else is asked. `now` is in ns. All comparisons with the time hold together, also those behind OR, as in
    InfluxDB. Raise `BadRequest`."""
    match expression:
        case Binary(("and" | "or") as word, left, right):
            first, rest = split(left, now)
            second, other = split(right, now)
            starts = [start for start in (first.start, second.start) if start is not None]
            ends = [end for end in (first.end, second.end) if end is not None]
            both = Binary(word, rest, other) if rest is not None and other is not None else rest if other is None else other
            return Range(max(starts, default=None), min(ends, default=None)), both
        case Binary(sign, left, right) if sign in _COMPARISONS:
            if _is_time(left):
                return _bound(sign, _time(right, now)), None
            if _is_time(right):
                return _bound(_MIRRORED.get(sign, sign), _time(left, now)), None
    return Range(), expression


def _is_time(expression: Expression) -> bool:
    return isinstance(expression, Reference) and expression.name.lower() == "time" and expression.kind != "tag"


def _bound(sign: str, time: int) -> Range:
    match sign:
        case "=":
            return Range(time, time)
        case ">":
            return Range(time + 1, None)
        case ">=":
            return Range(time, None)
        case "<":
            return Range(None, time - 1)
        case "<=":
            return Range(None, time)
    raise BadRequest(f"invalid time comparison operator: {sign}")


def _time(expression: Expression, now: int) -> int:
    """A time in ns. Raise `BadRequest`."""
    match expression:
        case Number(value) | Duration(value):
            return int(value)
        case Negative(operand):
            return -_time(operand, now)
        case Call("now", ()):
            return now
        case Binary("+", left, right):
            return _time(left, now) + _time(right, now)
        case Binary("-", left, right):
            return _time(left, now) - _time(right, now)
        case Text(text) if re.match(r"\d{4}-\d\d-\d\d", text):
            return _time_of(text)
    raise BadRequest(f"invalid operation: time and *influxql.{_KINDS.get(type(expression), 'Literal')} are not compatible")


def _time_of(text: str) -> int:
    """The ns of a text such as `2026-01-31T12:00:00.5Z`, `2026-01-31 12:00:00` or `2026-01-31`. Raise `BadRequest`."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise BadRequest("invalid timestamp string")
    numbers = [int(each) if each else 0 for each in match.groups()[:6]]
    try:
        seconds = int(datetime(*numbers[:3], *numbers[3:], tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]  # seven ints
    except ValueError:
        raise BadRequest("invalid timestamp string") from None
    if match[8]:
        away = int(match[9]) * 3600 + int(match[10]) * 60
        seconds += -away if match[8] == "+" else away
    return seconds * NS + int((match[7] or "0").ljust(9, "0"))


# -- tags and fields -------------------------------------------------------------------------------


def condition_of(expression: Expression | None, is_field: Callable[[Reference], bool]) -> Condition:
    """The condition; what is no field is a tag. Raise `BadRequest`."""
    match expression:
        case None:
            return True
        case Binary("and", left, right):
            return Every((condition_of(left, is_field), condition_of(right, is_field)))
        case Binary("or", left, right):
            return Some((condition_of(left, is_field), condition_of(right, is_field)))
        case Binary(sign, left, right) if sign in _COMPARISONS:
            return _comparison(sign, left, right, is_field)
        case Reference(name):
            raise BadRequest(f"invalid condition expression: {name}")
    raise BadRequest("invalid condition expression: expected comparisons, joined by AND and OR")


def fields_among(fields: Container[str]) -> Callable[[Reference], bool]:
    """Whether a name stands for a field, in a measurement that has these."""
    return lambda reference: reference.kind != "tag" and reference.name in fields


def matchers_and_rest(condition: Condition) -> tuple[tuple[TagMatcher, ...], Condition]:
    """The conditions on tags that all series must match, for the store's index, and the rest."""
    match condition:
        case TagMatcher():
            return (condition,), True
        case Every(conditions):
            parts = [matchers_and_rest(each) for each in conditions]
            rest = tuple([each for _, each in parts if each is not True])
            return tuple([matcher for matchers, _ in parts for matcher in matchers]), Every(rest) if rest else True
    return (), condition


def _comparison(sign: str, left: Expression, right: Expression, is_field: Callable[[Reference], bool]) -> Condition:
    """As in InfluxDB, what cannot be compared is false: numbers with text, tags with numbers or with tags."""
    if isinstance(left, (Text, Pattern)):
        left, right, sign = right, left, _MIRRORED.get(sign, sign)
    if isinstance(right, (Text, Pattern)):
        if not isinstance(left, Reference):
            _formula(left, is_field)
            return False
        if is_field(left) or sign not in ("=", "!=", "=~", "!~"):
            return False
        return TagMatcher(left.name, sign, right.regex if isinstance(right, Pattern) else right.value)
    formulas = _formula(left, is_field), _formula(right, is_field)
    if formulas[0] is None or formulas[1] is None:
        return False
    return Compare("==" if sign == "=" else sign, formulas[0], formulas[1])


def _formula(expression: Expression, is_field: Callable[[Reference], bool]) -> Formula | None:
    """An expression of fields and numbers; None if it has anything else. Raise `BadRequest` for a function."""
    match expression:
        case Number():
            return expression
        case Reference(name):
            return Value(name) if is_field(expression) else None
        case Negative(operand):
            inner = _formula(operand, is_field)
            return None if inner is None else Minus(inner)
        case Binary(sign, left, right) if sign in "+-*/%":
            first, second = _formula(left, is_field), _formula(right, is_field)
            return None if first is None or second is None else Operation(sign, first, second)
        case Call(name):
            raise BadRequest(f"invalid function call in condition: {name}()")
    return None
