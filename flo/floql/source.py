"""What an evaluation needs of a store: series by matchers, and their points in blocks whose summaries are known without reading the points.

A store implements `Source` and `Block`. Text is `str` (UTF-8 with surrogateescape), times are integers in ms, values are floats.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from flo.floql.regex import Regex


class Columns(NamedTuple):
    """Points as columns. `times` ascend without duplicates: a `range` if the interval is regular, else an `array('q')`. `values` are floats
    if `divisor` is 0. Otherwise they are integers of 64 bits, and each stands for itself divided by `divisor`: exact decimals."""

    times: Sequence[int]
    values: Sequence[float]
    divisor: int = 0


class Block(Protocol):
    """Points of one series that follow each other, with their summary. `start` and `end` are the times of the first and the last point."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def sum(self) -> float: ...
    @property
    def minimum(self) -> float: ...
    @property
    def maximum(self) -> float: ...
    @property
    def first(self) -> float: ...
    @property
    def last(self) -> float: ...

    def columns(self) -> Columns:
        """Read the points."""
        ...


@dataclass(frozen=True)
class TagMatcher:
    """A condition on one tag. A series without the tag has the empty value."""

    name: str
    operator: str  # = != =~ !~
    operand: str | Regex

    @property
    def exact(self) -> frozenset[str] | None:
        """The only values that match, if they are known: for an index."""
        if self.operator == "=" and isinstance(self.operand, str):
            return frozenset([self.operand])
        return self.operand.exact if self.operator == "=~" and isinstance(self.operand, Regex) else None

    @property
    def steps(self) -> int:
        """The steps of its regular expression so far, 0.2 us each."""
        return self.operand.steps if isinstance(self.operand, Regex) else 0

    def matches(self, value: str) -> bool:
        """Whether a series with this value of the tag matches."""
        found = self.operand.search(value) if isinstance(self.operand, Regex) else self.operand == value
        return found != self.operator.startswith("!")


class Series(NamedTuple):
    """One field of a measurement with one set of tags. `handle` is the store's own."""

    tags: dict[str, str]
    field: str
    handle: Any


class Blocks(Protocol):
    """Where the points of series are."""

    def blocks(self, handle: Any, start: int, end: int) -> Iterable[Block]:
        """The blocks of a series that have points from `start` to `end`, both included: ascending, not overlapping. They may have points
        outside the range too."""
        ...


class Source(Blocks, Protocol):
    """A store of time series, as one evaluation sees it."""

    def measurements(self) -> Iterable[str]:
        """The names of all measurements."""
        ...

    def series(self, measurement: str, matchers: Sequence[TagMatcher], fields: Sequence[str] | None) -> Iterable[Series | None]:
        """The series of a measurement that match all matchers, of these fields or of all. An unknown measurement has none. A store that
        looks at many series or values gives None now and then, so that the evaluation may pause: after some ms of its own work, and after
        about 10,000 `steps` of the matchers."""
        ...
