"""A query as the parser read it: an immutable tree with the positions of its parts, and the table of the stages with a sentence for each.

Positions are character offsets in the query's text. They count in no comparison: two queries are equal if they say the same.
"""

from dataclasses import dataclass, field
from enum import Enum

from flo.floql.regex import Regex
from flo.floql.source import TagMatcher


@dataclass(frozen=True)
class LastRange:
    """From `duration` ms before now until now."""

    duration: int
    position: int = field(compare=False, default=0)


@dataclass(frozen=True)
class FixedRange:
    """From `start` to `end` in ms, both included."""

    start: int
    end: int
    position: int = field(compare=False, default=0)


# -- arguments of stages ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True)
class Value:
    """The value of the point: the word `value`. In a condition on several fields, that of the field."""

    field: str = ""


@dataclass(frozen=True)
class Negative:
    """Unary minus."""

    operand: "Expression"


@dataclass(frozen=True)
class Operation:
    """Two operands and one of `+ - * / %`."""

    operator: str
    left: "Expression"
    right: "Expression"


Expression = Number | Value | Negative | Operation


@dataclass(frozen=True)
class Comparison:
    """The condition of `where`: a point stays if its value compares so with `number`."""

    operator: str
    number: float


class Argument(Enum):
    """The kinds of a stage's arguments; the value is what an error calls it."""

    NAME = "a name"
    TAGS = "names of tags"
    DURATION = "a duration such as 5m"
    WINDOW = "a window such as 5m, or nothing"
    PERCENT = "a number from 0 to 100"
    COUNT = "a whole number from 1"
    DIGITS = "a number of digits from 0 to 15, or nothing"
    COMPARISON = "a comparison such as value > 90"
    EXPRESSION = "an expression such as value * 1.8 + 32"
    FILL = "0, previous, linear or none"
    ORDER = "time or -time"


STAGES: dict[str, tuple[Argument, ...]] = {
    "field": (Argument.NAME,),
    "window": (Argument.DURATION,),
    "avg": (Argument.WINDOW,),
    "sum": (Argument.WINDOW,),
    "count": (Argument.WINDOW,),
    "min": (Argument.WINDOW,),
    "max": (Argument.WINDOW,),
    "first": (Argument.WINDOW,),
    "last": (Argument.WINDOW,),
    "stddev": (Argument.WINDOW,),
    "median": (Argument.WINDOW,),
    "percentile": (Argument.PERCENT, Argument.WINDOW),
    "rate": (Argument.DURATION,),
    "delta": (),
    "where": (Argument.COMPARISON,),
    "group_by": (Argument.TAGS,),
    "topk": (Argument.COUNT,),
    "bottomk": (Argument.COUNT,),
    "math": (Argument.EXPRESSION,),
    "alias": (Argument.NAME,),
    "abs": (),
    "ceil": (),
    "floor": (),
    "round": (Argument.DIGITS,),
    "fill": (Argument.FILL,),
    "limit": (Argument.COUNT,),
    "sort": (Argument.ORDER,),
}
SUMMARIES = {
    "field": "Reads only this field.",
    "window": "Cuts the range into windows of this width; the next aggregate gives one point for each.",
    "avg": "The mean of the points, for each window or of all.",
    "sum": "The sum of the points.",
    "count": "How many points there are.",
    "min": "The smallest point.",
    "max": "The largest point.",
    "first": "The oldest point.",
    "last": "The newest point.",
    "stddev": "The standard deviation of the points.",
    "median": "The middle point, or the mean of the middle two.",
    "percentile": "The point below which so many of 100 are.",
    "rate": "How much a counter grows in a second, for each window. A counter may begin again.",
    "delta": "Each point minus the one before it.",
    "where": "Keeps the points that compare so.",
    "group_by": "Makes one series of those that agree in these tags; without tags, one of all.",
    "topk": "Keeps the series with the largest mean.",
    "bottomk": "Keeps the series with the smallest mean.",
    "math": "Calculates with each point.",
    "alias": "Gives the series another name.",
    "abs": "Makes negative points positive.",
    "ceil": "Rounds up to a whole number.",
    "floor": "Rounds down to a whole number.",
    "round": "Rounds to so many digits.",
    "fill": "Gives windows without points a point.",
    "limit": "Keeps the first points of each series.",
    "sort": "Orders the points by time; -time puts the newest first.",
}
AGGREGATES = ("avg", "sum", "count", "min", "max", "first", "last", "stddev", "median", "percentile")

ArgumentValue = str | int | float | tuple[str, ...] | Comparison | Expression | None


@dataclass(frozen=True)
class Stage:
    """A stage's name and arguments, as `STAGES` has them; an argument that was left out is None."""

    name: str
    arguments: tuple[ArgumentValue, ...] = ()
    position: int = field(compare=False, default=0)


@dataclass(frozen=True)
class Query:
    """A whole query. `text` is for error messages."""

    measurement: str | Regex
    matchers: tuple[TagMatcher, ...] = ()
    range: LastRange | FixedRange | None = None
    stages: tuple[Stage, ...] = ()
    text: str = field(compare=False, default="", repr=False)
