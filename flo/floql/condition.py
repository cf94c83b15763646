"""Conditions on points: comparisons of fields of one series at one time, and of its tags, joined by `and` and `or`.

For one series the tags are known, so `of_series` leaves only the fields to look at, or no question at all. A field without a point at the
time compares as false, whatever the comparison.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fmod

from flo.floql.query import Expression, Negative, Number, Operation, Value
from flo.floql.source import TagMatcher

Column = Sequence[float | None]


@dataclass(frozen=True)
class Compare:
    """Two expressions of numbers and fields, and one of `== != < <= > >=`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Every:
    """All of the conditions."""

    conditions: "tuple[Condition, ...]"


@dataclass(frozen=True)
class Some:
    """One of the conditions, or more."""

    conditions: "tuple[Condition, ...]"


Condition = bool | TagMatcher | Compare | Every | Some

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


def fields_of(condition: Condition | Expression) -> frozenset[str]:
    """The fields that the condition looks at."""
    match condition:
        case Value(field):
            return frozenset([field])
        case Negative(operand):
            return fields_of(operand)
        case Compare(_, left, right) | Operation(_, left, right):
            return fields_of(left) | fields_of(right)
        case Every(conditions) | Some(conditions):
            return frozenset().union(*[fields_of(each) for each in conditions])
    return frozenset()


def matchers_of(condition: Condition) -> tuple[TagMatcher, ...]:
    """The conditions on tags, wherever they stand: their regular expressions take steps."""
    match condition:
        case TagMatcher():
            return (condition,)
        case Every(conditions) | Some(conditions):
            return tuple([matcher for each in conditions for matcher in matchers_of(each)])
    return ()


def of_series(condition: Condition, tags: Mapping[str, str]) -> Condition:
    """What is left to ask of the points of a series with these tags."""
    match condition:
        case TagMatcher():
            return condition.matches(tags.get(condition.name, ""))
        case Every(conditions) | Some(conditions):
            decides = isinstance(condition, Some)  # the answer of one part that is the answer of the whole
            left = []
            for each in conditions:
                asked = of_series(each, tags)
                if asked is decides:
                    return decides
                if not isinstance(asked, bool):
                    left.append(asked)
            if len(left) < 2:
                return left[0] if left else not decides
            return Some(tuple(left)) if decides else Every(tuple(left))
    return condition


def holds(condition: Condition, columns: Mapping[str, Column], count: int) -> list[bool]:
    """For each of `count` rows whether the condition holds; `columns` are the values of the fields. No tag is asked for any more."""
    match condition:
        case bool():
            return [condition] * count
        case Every(conditions):
            return [all(row) for row in zip(*[holds(each, columns, count) for each in conditions], strict=True)]
        case Some(conditions):
            return [any(row) for row in zip(*[holds(each, columns, count) for each in conditions], strict=True)]
        case Compare(sign, left, right):
            compare = COMPARE[sign]
            pairs = zip(_values(left, columns, count), _values(right, columns, count), strict=True)
            return [a is not None and b is not None and compare(a, b) for a, b in pairs]
    raise AssertionError(condition)


def _values(expression: Expression, columns: Mapping[str, Column], count: int) -> Column:
    match expression:
        case Number(number):
            return [number] * count
        case Value(field):
            return columns[field]
        case Negative(operand):
            return [None if value is None else -value for value in _values(operand, columns, count)]
        case Operation(sign, left, right):
            pairs = zip(_values(left, columns, count), _values(right, columns, count), strict=True)
            return [None if a is None or b is None else calculated(sign, a, b) for a, b in pairs]


def calculated(sign: str, left: float, right: float) -> float:
    """The result of one of `+ - * / %` as InfluxQL has it: a division by zero gives 0, and a remainder of it NaN."""
    match sign:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right if right else 0.0
    try:
        return fmod(left, right)
    except ValueError:
        return float("nan")
