"""Queries of time series: what a namespace has, as flo.floql sees it, and the shape of the answer."""

from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any

from flo.engine.timeseries import Block, TimeSeries
from flo.floql.evaluate import Budget, evaluate
from flo.floql.parser import parse
from flo.floql.plan import Limit, Pipeline, Plan, make_plan
from flo.floql.source import Series, TagMatcher

LOOK_SLICE = 1000  # series or values looked at between two pauses: 1 ms, and more for regular expressions
STEPS_SLICE = 10_000  # steps of regular expressions between two pauses: 2 ms

Answer = dict[str, Any]


class NamespaceSource:
    """The series of one namespace (a `Source` of flo.floql.source)."""

    def __init__(self, part: TimeSeries) -> None:
        self._part = part

    def measurements(self) -> Iterable[str]:
        """See `Source`."""
        return self._part.store.names()

    def series(self, measurement: str, matchers: Sequence[TagMatcher], fields: Sequence[str] | None) -> Iterator[Series | None]:
        """See `Source`."""
        found = self._part.store.measurements.get(measurement)
        if found is None:
            return
        equal: dict[str, str] = {}
        others: list[TagMatcher] = []
        for matcher in matchers:
            exact = matcher.exact
            if exact is not None and len(exact) == 1 and matcher.name not in equal:
                (equal[matcher.name],) = exact
            else:
                others.append(matcher)
        steps = 0
        for number, each in enumerate(self._part.store.select(found, equal), 1):
            tags = dict(each.tags)
            if (fields is None or each.field in fields) and all(matcher.matches(tags.get(matcher.name, "")) for matcher in others):
                yield Series(tags, each.field, each)
            now = sum(matcher.steps for matcher in others)
            if number % LOOK_SLICE == 0 or now - steps > STEPS_SLICE:
                steps = now
                yield None

    def blocks(self, handle: Any, start: int, end: int) -> list[Block]:
        """See `Source`."""
        return self._part.blocks(handle, start, end)

    def fields(self, measurement: str) -> Collection[str]:
        """The fields of a measurement (as `tags` and `tag_values`, for flo.influxql.index)."""
        found = self._part.store.measurements.get(measurement)
        return found.fields if found else ()

    def tags(self, measurement: str) -> Collection[str]:
        """The names of its tags."""
        found = self._part.store.measurements.get(measurement)
        return found.by_tag if found else ()

    def tag_values(self, measurement: str, tag: str) -> Collection[str]:
        """The values of one of its tags."""
        found = self._part.store.measurements.get(measurement)
        return found.by_tag.get(tag, {}) if found else ()


def query_job(part: TimeSeries, text: str, max_points: int) -> Generator[None, None, Answer]:
    """The answer to a FloQL query (SPEC section 6). Raises `BadRequest`. A job."""
    return (yield from _run(part, make_plan(parse(text), part.engine.now), max_points))


def read_job(
    part: TimeSeries, measurement: str, start: int, end: int, field: str, tags: Iterable[tuple[str, str]], limit: int, max_points: int
) -> Generator[None, None, Answer]:
    """The first `limit` points of each series of a measurement that has all these tags; of one field, unless that is empty. A job."""
    matchers = tuple(TagMatcher(name, "=", value) for name, value in tags)
    pipeline = Pipeline(measurement, matchers, (field,) if field else None, start, end, (Limit(limit),))
    return (yield from _run(part, Plan((pipeline,)), max_points))


def _run(part: TimeSeries, plan: Plan, max_points: int) -> Generator[None, None, Answer]:
    started = monotonic()
    result = yield from evaluate(plan, NamespaceSource(part), Budget(max_points))
    return {
        "series": [{"name": each.name, "tags": each.tags, "field": each.field, "points": each.points} for each in result.series],
        "scanned": result.scanned,
        "elapsed_ms": round((monotonic() - started) * 1000, 3),
    }
