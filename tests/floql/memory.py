"""A source in memory for tests: points cut into blocks at any place, in any of the forms that columns may have."""

from array import array
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from flo.floql.evaluate import Budget, Result, evaluate
from flo.floql.parser import parse
from flo.floql.plan import Plan, make_plan
from flo.floql.source import Columns, Series, TagMatcher
from tests.floql.reference import Data, Points


@dataclass
class MemoryBlock:
    """A block that counts how often it is read."""

    points: Points
    divisor: int
    opened: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        values = [v for _, v in self.points]
        self.start, self.end, self.count = self.points[0][0], self.points[-1][0], len(values)
        self.sum, self.minimum, self.maximum, self.first, self.last = sum(values), min(values), max(values), values[0], values[-1]

    def columns(self) -> Columns:
        self.opened.append(self.count)
        times: Sequence[int] = array("q", [t for t, _ in self.points])
        steps = {later - earlier for earlier, later in pairwise(times)}
        if len(steps) <= 1:
            step = steps.pop() if steps else 1
            times = range(times[0], times[-1] + 1, step)
        values = [v for _, v in self.points]
        if self.divisor and all((v * self.divisor).is_integer() for v in values):
            return Columns(times, array("q", [int(v * self.divisor) for v in values]), self.divisor)
        return Columns(times, array("d", values))


class MemorySource:
    """Series with their points. `cuts` are the sizes of the blocks, again and again. Every second block has `divisor` if its values allow
    it, else floats."""

    def __init__(self, data: Data, cuts: Sequence[int] = (1000,), divisor: int = 0) -> None:
        self.data = {key: sorted(points) for key, points in data.items()}
        self.opened: list[int] = []  # the points of each block that was read
        self._cuts = cuts
        self._divisor = divisor

    def measurements(self) -> Iterable[str]:
        return dict.fromkeys(name for name, _, _ in self.data)

    def series(self, measurement: str, matchers: Sequence[TagMatcher], fields: Sequence[str] | None) -> Iterable[Series | None]:
        for key in reversed(self.data):
            name, tags, field_name = key
            known = dict(tags)
            asked = name == measurement and (fields is None or field_name in fields)
            if asked and all(matcher.matches(known.get(matcher.name, "")) for matcher in matchers):
                yield Series(known, field_name, key)
            else:
                yield None

    def blocks(self, handle: tuple[str, tuple[tuple[str, str], ...], str], start: int, end: int) -> Iterable[MemoryBlock]:
        points = self.data[handle]
        first = number = 0
        while first < len(points):
            size = self._cuts[number % len(self._cuts)]
            block = MemoryBlock(points[first : first + size], self._divisor if number % 2 else 0, self.opened)
            if block.end >= start and block.start <= end:
                yield block
            first += size
            number += 1


def run(job: Generator[None, None, Result]) -> tuple[Result, int]:
    """The result of a job, and its pauses."""
    pauses = 0
    while True:
        try:
            next(job)
        except StopIteration as stop:
            assert isinstance(stop.value, Result)
            return stop.value, pauses
        pauses += 1


def ask(source: MemorySource, text: str, now: int = 0, budget: Budget | None = None) -> Result:
    """The answer to a query."""
    return run_plan(source, make_plan(parse(text), now), budget)


def run_plan(source: MemorySource, plan: Plan, budget: Budget | None = None) -> Result:
    """The answer to a plan."""
    return run(evaluate(plan, source, budget or Budget()))[0]
