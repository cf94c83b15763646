"""A plan: what to read of which series, and what to do with the points, in order. FloQL and other query languages make the same plans.

Here stand the rules of order between stages. A window waits for its aggregate; `fill` needs the windows of an aggregate in front of it. The
order of `sort` is a property of the whole pipeline: points are computed in ascending order, and `limit` and the answer look at them from
the end where the order is descending.
"""

from dataclasses import dataclass
from typing import Literal, cast

from flo.errors import BadRequest
from flo.floql.condition import Condition
from flo.floql.lexer import fail
from flo.floql.query import AGGREGATES, ArgumentValue, Comparison, Expression, FixedRange, Query, Stage
from flo.floql.regex import Regex
from flo.floql.source import TagMatcher

LAST_DEFAULT = 3_600_000  # ms, of a query without a range: SPEC section 6
ANSWER_POINTS_MAX = 100_000  # SPEC section 6; about 2 MB of JSON. Also the windows of a range: each gives a point

Function = Literal["avg", "sum", "count", "min", "max", "first", "last", "stddev", "median", "percentile", "spread", "distinct"]


SELECTORS = ("min", "max", "first", "last", "percentile")


@dataclass(frozen=True)
class Window:
    """Windows of `width` ms that begin at `offset` and whole widths before and after it, in ms since the epoch."""

    width: int
    offset: int = 0

    def start(self, time: int) -> int:
        """The start of the window that has the time."""
        return time - (time - self.offset) % self.width

    def count(self, start: int, end: int) -> int:
        """The windows that have a time from `start` to `end`."""
        return (self.start(end) - self.start(start)) // self.width + 1


@dataclass(frozen=True)
class Aggregate:
    """One point for each window, or one for all points at the range's start. `distinct` counts different values, `spread` is from the least
    to the largest. With `own_time`, the point that a selector chooses stands at its own time instead: InfluxQL's lone selectors. With
    `undefined`, as InfluxQL has it, the deviation of one point is NaN instead of no point, and the percentile below the first rank is no
    point instead of the least."""

    function: Function
    percent: float = 0.0
    window: Window | None = None
    own_time: bool = False
    undefined: bool = False

    def __post_init__(self) -> None:
        assert not self.own_time or self.function in SELECTORS


@dataclass(frozen=True)
class Rate:
    """For each window, the rises between neighbours, divided by the window's seconds."""

    window: Window


@dataclass(frozen=True)
class Delta:
    """Each point minus the one before."""


@dataclass(frozen=True)
class Where:
    """Only the points whose values compare so."""

    comparison: Comparison


@dataclass(frozen=True)
class Math:
    """Each value put into the expression."""

    expression: Expression


@dataclass(frozen=True)
class Rounding:
    """Each value rounded, or without its sign. `digits` are for `round`."""

    function: Literal["abs", "ceil", "floor", "round"]
    digits: int = 0


@dataclass(frozen=True)
class GroupBy:
    """Series of one measurement and field that agree in these tags become one, which has these tags."""

    tags: tuple[str, ...]


@dataclass(frozen=True)
class Only:
    """The series whose measurement and values of these tags are among `chosen`."""

    tags: tuple[str, ...]
    chosen: frozenset[tuple[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Top:
    """The series of the largest or smallest means."""

    count: int
    largest: bool


@dataclass(frozen=True)
class Alias:
    """A new name for each series."""

    name: str


@dataclass(frozen=True)
class Fill:
    """A point for each window from the pipeline's `start` to its `end` that has none. `how` is the value, or where it comes from."""

    window: Window
    how: float | Literal["previous", "linear"]


@dataclass(frozen=True)
class Limit:
    """At most so many points of each series, from the first or from the last on."""

    count: int
    from_end: bool = False


Step = Aggregate | Rate | Delta | Where | Math | Rounding | GroupBy | Only | Top | Alias | Fill | Limit


@dataclass(frozen=True)
class Pipeline:
    """The series to read, the range in ms with both ends included, and the steps. `fields` None: all. Of the series that match, the points
    are read for which the condition holds."""

    measurement: str | Regex
    matchers: tuple[TagMatcher, ...]
    fields: tuple[str, ...] | None
    start: int
    end: int
    steps: tuple[Step, ...]
    descending: bool = False
    condition: Condition = True


@dataclass(frozen=True)
class Plan:
    """Pipelines; their series are answered one pipeline after the other."""

    pipelines: tuple[Pipeline, ...]


def make_plan(query: Query, now: int) -> Plan:
    """The plan of a query at the time `now` (ms). Raise `BadRequest`, with a caret below the stage, if the stages do not fit together."""
    if query.range is None:
        start, end = now - LAST_DEFAULT, now
    elif isinstance(query.range, FixedRange):
        start, end = query.range.start, query.range.end
    else:
        start, end = now - query.range.duration, now
    return Plan((_Planner(query, start, end).pipeline(),))


def check_windows(window: Window, start: int, end: int) -> str:
    """The sentence that refuses windows that are too many for an answer; "" if they are not."""
    count = window.count(start, end)
    if count <= ANSWER_POINTS_MAX:
        return ""
    width = -(-(end - start + 1) // (ANSWER_POINTS_MAX - 1))
    return (
        f"Windows of {window.width} ms cut this range into {count:,}, and an answer has at most {ANSWER_POINTS_MAX:,} points; "
        f"expected a window of at least {width} ms, or a shorter range."
    )


# Between `window` and its aggregate stand only stages that do the same to a point in whatever window it is.
_INSIDE_WINDOW = ("field", "where", "math", "abs", "ceil", "floor", "round", "group_by", "alias")


class _Planner:
    """Walks over the stages and keeps what the next ones depend on."""

    def __init__(self, query: Query, start: int, end: int) -> None:
        self._query = query
        self._start = start
        self._end = end
        self._fields: tuple[str, ...] | None = None
        self._waiting: tuple[Stage, Window] | None = None  # a window without its aggregate yet
        self._grid: Window | None = None  # the windows that the points stand at
        self._descending = False
        self._ranked = False
        self._steps: list[Step] = []

    def pipeline(self) -> Pipeline:
        for stage in self._query.stages:
            if self._waiting and stage.name not in _INSIDE_WINDOW and stage.name not in AGGREGATES:
                raise self._fail(stage, f"`window` waits for its aggregate; expected one such as avg() in front of `{stage.name}`.")
            step = self._step(stage)
            if step is not None:
                self._steps.append(step)
        if self._waiting:
            raise self._fail(self._waiting[0], "This window has no aggregate; expected one behind it, such as `| avg()`.")
        query = self._query
        return Pipeline(query.measurement, query.matchers, self._fields, self._start, self._end, tuple(self._steps), self._descending)

    def _fail(self, stage: Stage, sentence: str) -> BadRequest:
        return fail(self._query.text, stage.position, sentence)

    def _step(self, stage: Stage) -> Step | None:
        match stage.name, stage.arguments:
            case "field", (str(name),):
                self._take_field(stage, name)
            case "window", (int(width),):
                self._waiting = stage, self._window(stage, width)
            case "rate", (int(width),):
                self._grid = self._window(stage, width)
                return Rate(self._grid)
            case "delta", ():
                return Delta()
            case "where", (Comparison() as comparison,):
                return Where(comparison)
            case "group_by", (tuple() as tags,):
                self._grid = None
                return GroupBy(tags)
            case "topk" | "bottomk", (int(count),):
                self._ranked = True
                return Top(count, stage.name == "topk")
            case "alias", (str(name),):
                return Alias(name)
            case "fill", (str(how),):
                return self._fill(stage, how)
            case "limit", (int(count),):
                return Limit(count, self._descending)
            case "sort", (str(order),):
                self._descending = order == "-time"
            case "math", (expression,) if isinstance(expression, Expression):
                return Math(expression)
            case ("abs" | "ceil" | "floor" | "round") as function, digits:
                return Rounding(function, digits[0] if digits and isinstance(digits[0], int) else 0)
            case _:
                return self._aggregate(stage)
        return None

    def _take_field(self, stage: Stage, name: str) -> None:
        if self._ranked:
            raise self._fail(stage, "`field` chooses what is read; expected it in front of topk and bottomk.")
        if self._fields is not None:
            raise self._fail(stage, "This is the second `field`, and each series has one; expected one `field`.")
        self._fields = (name,)

    def _window(self, stage: Stage, width: int) -> Window:
        window = Window(width)
        if sentence := check_windows(window, self._start, self._end):
            raise self._fail(stage, sentence)
        return window

    def _aggregate(self, stage: Stage) -> Aggregate:
        arguments: list[ArgumentValue] = list(stage.arguments)
        width = arguments.pop()
        window = self._waiting[1] if self._waiting else None
        if isinstance(width, int):
            if self._waiting:
                raise self._fail(stage, f"`{stage.name}` has a window, and one waits for it already; expected {stage.name}() here.")
            window = self._window(stage, width)
        self._waiting = None
        self._grid = window
        percent = arguments[0] if arguments else 0.0
        assert isinstance(percent, float)
        return Aggregate(cast(Function, stage.name), percent, window)

    def _fill(self, stage: Stage, how: str) -> Fill | None:
        if self._grid is None:
            raise self._fail(stage, "`fill` needs windows; expected it behind an aggregate with a window, such as avg(5m).")
        match how:
            case "previous" | "linear":
                return Fill(self._grid, how)
            case "0":
                return Fill(self._grid, 0.0)
        return None
