"""The columns of a SELECT: what each shows, its name, and InfluxDB's rules of what may stand beside what.

A column is an expression over **sources of values**: calls (`Points`) or fields and tags (`Reference`). `*` and patterns become one column
for each name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flo.errors import BadRequest
from flo.floql.condition import calculated
from flo.floql.plan import Function
from flo.influxql.statement import (
    Binary,
    Call,
    Column,
    Duration,
    Expression,
    Negative,
    Number,
    Pattern,
    Reference,
    Select,
    Text,
    Wildcard,
)

AGGREGATES: dict[str, Function] = {
    "mean": "avg", "sum": "sum", "count": "count", "min": "min", "max": "max", "first": "first", "last": "last", "median": "median",
    "percentile": "percentile", "stddev": "stddev", "spread": "spread",
}  # fmt: skip
COUNTS = ("count", "distinct")  # of the plan's functions; InfluxDB has whole numbers there, also where it fills
CHANGES = ("derivative", "non_negative_derivative", "difference", "non_negative_difference")
SELECTORS = ("min", "max", "first", "last", "percentile")
# Functions of InfluxDB that Flo does not have
_MISSING = {
    *("mode", "integral", "distinct", "moving_average", "cumulative_sum", "elapsed", "top", "bottom", "sample"),
    *("holt_winters", "holt_winters_with_fit", "histogram", "exponential_moving_average", "double_exponential_moving_average"),
    *("triple_exponential_moving_average", "relative_strength_index", "triple_exponential_derivative", "kaufmans_efficiency_ratio"),
    *("kaufmans_adaptive_moving_average", "chande_momentum_oscillator"),
    *(
        "abs",
        "acos",
        "asin",
        "atan",
        "atan2",
        "ceil",
        "cos",
        "exp",
        "floor",
        "ln",
        "log",
        "log2",
        "log10",
        "pow",
        "round",
        "sin",
        "sqrt",
        "tan",
    ),
}
SECOND = 1_000_000_000

Cell = float | str | None
Row = Sequence[Cell]


@dataclass(frozen=True)
class Points:
    """A call: the points of a field; an aggregate of them, if there is a `function`; and the changes from one of these to the next, if
    there is a `change`, divided by the time if there is a `unit` (ns)."""

    field: str
    function: Function | None = None
    percent: float = 0.0
    change: str = ""
    unit: int = 0

    @property
    def is_typed(self) -> bool:
        """Whether InfluxDB knows its type without the field's: then `fill` with a number fills it also where no such field is."""
        return self.function in ("avg", "median", "stddev", *COUNTS) or bool(self.unit)

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers in InfluxDB, so that what fills them is one too."""
        return self.function in COUNTS and not self.unit


class Columns:
    """The columns of a statement that has passed all rules. `sources` are the values that its cells are made of."""

    def __init__(self, select: Select, fields: Sequence[str], tags: Sequence[str], shown: Sequence[str]) -> None:
        """`fields` and `tags` are the names of all measurements, in order; `shown` are the tags that `*` stands for. Raise `BadRequest`."""
        self._select = select
        self.tags: frozenset[str] = frozenset(tags)
        self.sources: list[Points | Reference] = []
        self.time: str = "time"
        self.is_raw: bool = not _check(select)
        columns: list[tuple[str, str, Callable[[Row], Cell]]] = []  # alias, name without one, cell
        for column in select.columns:
            if isinstance(column.expression, Reference) and column.expression.name == "time":
                self.time = column.alias or self.time
                continue
            expanded = _expanded(column, fields, shown)
            columns += [(each.alias, _name_of(each.expression), self._cell(each.expression)) for each in expanded]
        self.names: list[str] = [self.time, *_different([(alias, name) for alias, name, _ in columns])]
        self.cells: list[Callable[[Row], Cell]] = [cell for _, _, cell in columns]

    def _cell(self, expression: Expression) -> Callable[[Row], Cell]:
        """What computes the column's value from those of the sources."""
        match expression:
            case Reference() | Call():
                source = expression if isinstance(expression, Reference) else _points(expression, self._select)
                if source not in self.sources:
                    self.sources.append(source)
                place = self.sources.index(source)
                return lambda row: row[place]
            case Number(value):
                number = float(value)
                return lambda row: number
            case Negative(operand):
                inner = self._cell(operand)
                return lambda row: -value if isinstance(value := inner(row), float) else None
            case Binary(sign, left, right) if sign in "+-*/%":
                first, second = self._cell(left), self._cell(right)

                def calculate(row: Row) -> Cell:
                    a, b = first(row), second(row)
                    return calculated(sign, a, b) if isinstance(a, float) and isinstance(b, float) else None

                return calculate
        raise BadRequest("invalid expression in SELECT: expected fields, tags, functions, numbers and + - * / %")


# -- rules -----------------------------------------------------------------------------------------


def _check(select: Select) -> list[Call]:
    """The calls of a statement. Raise `BadRequest` where InfluxDB refuses it."""
    calls: list[Call] = []
    names = 0  # fields and tags outside of calls
    columns = [column for column in select.columns if not (isinstance(column.expression, Reference) and column.expression.name == "time")]
    if not columns:
        raise BadRequest("at least 1 non-time field must be queried")
    for column in columns:
        leaves = list(_leaves(column.expression))
        if all(isinstance(leaf, (Number, Text, Duration)) for leaf in leaves):
            raise BadRequest("field must contain at least one variable")
        for leaf in leaves:
            if isinstance(leaf, Call):
                _points(leaf, select)
                calls.append(leaf)
            names += isinstance(leaf, (Reference, Wildcard, Pattern))
            if leaf is not column.expression:
                _refuse_pattern(leaf)
    if not calls:
        if select.fill in ("none", "linear"):
            raise BadRequest(f"fill({select.fill}) must be used with a function")
        if select.windows:
            raise BadRequest("GROUP BY requires at least one aggregate function")
    elif names:
        if all(call.name in SELECTORS for call in calls):
            raise BadRequest("mixing a selector function with tags or fields is not supported by Flo; ask for each in its own statement")
        raise BadRequest("mixing aggregate and non-aggregate queries is not supported")
    return calls


def _refuse_pattern(leaf: Expression) -> None:
    """Refuse `*` and patterns in calculations."""
    if isinstance(leaf, (Wildcard, Pattern)):
        raise BadRequest(f"unable to use {'wildcard' if isinstance(leaf, Wildcard) else 'regex'} in a binary expression")
    pattern = _pattern_in(leaf)
    if pattern is not None:
        assert isinstance(leaf, Call)
        raise BadRequest(f"unsupported expression with {'wildcard' if isinstance(pattern, Wildcard) else 'regex field'}: {leaf.name}()")


def _leaves(expression: Expression) -> Iterator[Expression]:
    match expression:
        case Binary(_, left, right):
            yield from _leaves(left)
            yield from _leaves(right)
        case Negative(operand):
            yield from _leaves(operand)
        case _:
            yield expression


def _pattern_in(expression: Expression) -> Wildcard | Pattern | None:
    """The `*` or pattern that is the argument of a call, or of a call within it."""
    while isinstance(expression, Call) and expression.arguments:
        expression = expression.arguments[0]
        if isinstance(expression, (Wildcard, Pattern)):
            return expression
    return None


def _points(call: Call, select: Select) -> Points:
    """A call; a pattern in the place of the field counts as a field. Raise `BadRequest`."""
    name, arguments = call.name, call.arguments
    if name in CHANGES:
        return _change(call, select)
    if name in _MISSING:
        raise BadRequest(f"the function {name}() is not supported by Flo")
    if name not in AGGREGATES:
        raise BadRequest(f"undefined function {name}()")
    count = 2 if name == "percentile" else 1
    if len(arguments) != count:
        raise BadRequest(f"invalid number of arguments for {name}, expected {count}, got {len(arguments)}")
    match name, arguments[0]:
        case "count", Call("distinct", (Reference(field),)):
            return Points(field, "distinct")
    percent = 0.0
    if name == "percentile":
        if not isinstance(arguments[1], Number):
            raise BadRequest("expected float argument in percentile()")
        percent = float(arguments[1].value)
    return Points(_field(name, arguments[0]), AGGREGATES[name], percent)


def _change(call: Call, select: Select) -> Points:
    name, arguments = call.name, call.arguments
    has_unit = name.endswith("derivative")
    if not 1 <= len(arguments) <= 1 + has_unit:
        expected = "at least 1 but no more than 2" if has_unit else "1"
        raise BadRequest(f"invalid number of arguments for {name}, expected {expected}, got {len(arguments)}")
    unit = 0
    if has_unit:
        unit = select.windows.width if select.windows else SECOND
        if len(arguments) == 2:
            if not isinstance(arguments[1], Duration):
                raise BadRequest(f"second argument to {name} must be a duration")
            unit = arguments[1].ns
            if not unit:
                raise BadRequest("duration argument must be positive, got 0s")
    if isinstance(arguments[0], Call):
        if select.windows is None:
            raise BadRequest(f"{name} aggregate requires a GROUP BY interval")
        if arguments[0].name in CHANGES:
            raise BadRequest(f"the function {arguments[0].name}() inside {name}() is not supported by Flo")
        inner = _points(arguments[0], select)
        return Points(inner.field, inner.function, inner.percent, name, unit)
    if select.windows is not None:
        raise BadRequest(f"aggregate function required inside the call to {name}")
    return Points(_field(name, arguments[0]), change=name, unit=unit)


def _field(function: str, argument: Expression) -> str:
    match argument:
        case Reference(name):
            return name
        case Wildcard() | Pattern():
            return ""
    raise BadRequest(f"expected field argument in {function}()")


# -- one column for each name ----------------------------------------------------------------------


def _expanded(column: Column, fields: Sequence[str], tags: Sequence[str]) -> Iterator[Column]:
    """A column of a pattern becomes one for each name that matches, and a call of one a call for each field."""
    expression = column.expression
    if isinstance(expression, (Wildcard, Pattern)):
        kind = expression.kind if isinstance(expression, Wildcard) else ""
        names = sorted([*(() if kind == "tag" else fields), *(() if kind == "field" else tags)])
        seen: set[str] = set()
        for name in _matching(expression, names):
            yield Column(Reference(name, "tag" if name in seen or name not in fields else "field"))
            seen.add(name)
        return
    pattern = _pattern_in(expression)
    if pattern is None:
        yield column
        return
    for name in _matching(pattern, fields):
        yield Column(_replaced(expression, Reference(name)), f"{column.alias or _name_of(expression)}_{name}")


def _matching(pattern: Wildcard | Pattern, names: Sequence[str]) -> list[str]:
    return [name for name in names if isinstance(pattern, Wildcard) or pattern.regex.search(name)]


def _replaced(expression: Expression, reference: Reference) -> Expression:
    """A call with the reference in the place of its innermost first argument."""
    if isinstance(expression, Call):
        return Call(expression.name, (_replaced(expression.arguments[0], reference), *expression.arguments[1:]))
    return reference


# -- names -----------------------------------------------------------------------------------------


def _name_of(expression: Expression) -> str:
    """The name of a column without an alias: the names in it, joined."""
    names = [leaf.name for leaf in _leaves(expression) if isinstance(leaf, (Reference, Call))]
    return "_".join(names)


def _different(columns: Sequence[tuple[str, str]]) -> list[str]:
    """The columns' names, from aliases and the names without one: the second of one name becomes `name_1`."""
    counts = {alias: 1 for alias, _ in columns if alias}
    found = []
    for alias, name in columns:
        if not alias:
            wanted, count = name, counts.get(name, 0)
            while name in counts:
                name = f"{wanted}_{count}"
                count += 1
            counts[wanted] = max(count, 1)
            counts[name] = 1
        found.append(alias or name)
    return found
