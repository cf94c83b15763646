"""Runs a plan over a source, in slices.

Each series of the answer is a `_Flow`: its name, tags and field, and one or several streams of points (`columns.py`). Stages that work on
one series wrap its streams and run only when points are asked for, one flow after the other. So a query keeps little more than its answer.
`group_by` only puts streams side by side. An aggregate takes them one by one and joins the results of equal windows. Only stages that look
at neighbours merge the streams by time. `topk` must run all flows, and keeps the best.
"""

from bisect import insort
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from flo.errors import BadRequest
from flo.floql import stages
from flo.floql.columns import POINT_NS, ROW_NS, SERIES_NS, STEP_NS, Meter, Stream, floats, in_order, merged, read
from flo.floql.condition import fields_of, matchers_of, of_series
from flo.floql.plan import (
    ANSWER_POINTS_MAX,
    Aggregate,
    Alias,
    Delta,
    Fill,
    GroupBy,
    Limit,
    Math,
    Only,
    Pipeline,
    Plan,
    Rate,
    Rounding,
    Step,
    Top,
    Where,
)
from flo.floql.source import Columns, Series, Source

QUERY_POINTS_MAX = 10_000_000  # SPEC section 6, the default of query.max_points: a few seconds of work
SERIES_MAX = 100_000  # of a query: about 100 MB while it runs; an answer has no more points
RANKED_POINTS_MAX = 2_000_000  # that topk and bottomk keep for their best series: about 70 MB


@dataclass(frozen=True)
class Budget:
    """How many points a query may look at, and how many it may answer."""

    max_points: int = QUERY_POINTS_MAX
    max_answer: int = ANSWER_POINTS_MAX


class AnswerSeries(NamedTuple):
    """One series of an answer. `points` are pairs of ms and value, in the order asked for; `pipeline` is the number of its pipeline."""

    name: str
    tags: dict[str, str]
    field: str
    points: list[tuple[int, float]]
    pipeline: int = 0


class Result(NamedTuple):
    """An answer, and how many points were looked at for it; a block whose summary was enough counts as one."""

    series: list[AnswerSeries]
    scanned: int


@dataclass
class _Flow:
    """A series under way; several `parts` are a group that is not merged yet."""

    name: str
    tags: dict[str, str]
    field: str
    parts: list[Stream]

    def order(self) -> tuple[str, list[tuple[str, str]], str]:
        return self.name, sorted(self.tags.items()), self.field


def evaluate(plan: Plan, source: Source, budget: Budget) -> Generator[None, None, Result]:
    """Run the plan. It pauses with a `yield` after each few ms of work; the generator's value is the answer. Raise `BadRequest` if the
    query needs more than the budget."""
    meter = Meter(budget.max_points)
    answer: list[AnswerSeries] = []
    left = budget.max_answer
    for number, pipeline in enumerate(plan.pipelines):
        flows: Iterable[_Flow] = _taken((yield from _flows(pipeline, source, meter)))
        for step in pipeline.steps:
            if isinstance(step, Top):
                flows = yield from _ranked(flows, step, meter)
            elif isinstance(step, GroupBy):
                flows = yield from _grouped(flows, step.tags, meter)
            elif isinstance(step, Only):
                flows = filter(partial(_is_chosen, step), flows)
            else:
                flows = map(partial(_apply, step=step, pipeline=pipeline, meter=meter), flows)
        for flow in flows:
            meter.spend(SERIES_NS)
            if meter.due():
                yield
            points: list[tuple[int, float]] = []
            for columns in merged(flow.parts, meter):
                if columns is not None:
                    left -= len(columns.times)
                    if left < 0:
                        raise BadRequest(
                            f"The answer has more than {budget.max_answer:,} points. "
                            "Ask for wider windows, a shorter range or fewer series, or limit the points of each."
                        )
                    points += zip(columns.times, floats(columns).values, strict=True)
                    meter.spend(len(columns.times) * POINT_NS)
                if meter.due():
                    yield
            if points:
                if pipeline.descending:
                    points.reverse()
                answer.append(AnswerSeries(flow.name, flow.tags, flow.field, points, number))
    return Result(answer, meter.scanned)


def _flows(pipeline: Pipeline, source: Source, meter: Meter) -> Generator[None, None, list[_Flow]]:
    """The series that the pipeline reads, in order."""
    names: list[str] = []
    if isinstance(pipeline.measurement, str):
        names.append(pipeline.measurement)
    else:
        for name in source.measurements():
            before = pipeline.measurement.steps
            if pipeline.measurement.search(name):
                names.append(name)
            meter.spend(ROW_NS + (pipeline.measurement.steps - before) * STEP_NS)
            if meter.due():
                yield
    asked = () if pipeline.condition is True or pipeline.fields is None else tuple(fields_of(pipeline.condition))
    fields = None if pipeline.fields is None else (*pipeline.fields, *asked)
    flows: list[_Flow] = []
    for name in names:
        matched: list[Series] = []
        for series in source.series(name, pipeline.matchers, fields):
            if series is None:
                yield
                continue
            if len(flows) + len(matched) == SERIES_MAX:
                raise BadRequest(f"The query matches more than {SERIES_MAX:,} series: add matchers on tags, or `| field(name)`.")
            matched.append(series)
            meter.spend(ROW_NS * 5)
            if meter.due():
                yield
        if pipeline.condition is True:
            flows += [_Flow(name, each.tags, each.field, [_points(each, pipeline, source, meter)]) for each in matched]
        else:
            flows += yield from _conditional(name, matched, pipeline, source, meter)
    return (yield from in_order(flows, _Flow.order, meter))


def _points(series: Series, pipeline: Pipeline, source: Source, meter: Meter) -> Stream:
    return read(source, series.handle, pipeline.start, pipeline.end, meter)


def _conditional(name: str, matched: list[Series], pipeline: Pipeline, source: Source, meter: Meter) -> Generator[None, None, list[_Flow]]:
    """Flows of the points for which the pipeline's condition holds. The fields of one set of tags are looked at together."""
    matchers = matchers_of(pipeline.condition)
    together: dict[tuple[tuple[str, str], ...], dict[str, Series]] = {}
    for series in matched:
        together.setdefault(tuple(sorted(series.tags.items())), {})[series.field] = series
    flows: list[_Flow] = []
    for siblings in together.values():
        before = sum(matcher.steps for matcher in matchers)
        condition = of_series(pipeline.condition, next(iter(siblings.values())).tags)
        asked = fields_of(condition)
        meter.spend(ROW_NS * (5 + len(matchers)) + STEP_NS * (sum(matcher.steps for matcher in matchers) - before))
        for field, series in siblings.items():
            if condition is False or (pipeline.fields is not None and field not in pipeline.fields):
                continue
            points = _points(series, pipeline, source, meter)
            if condition is not True:
                others = {each: siblings.get(each) for each in asked if each != field}
                streams = {each: iter(()) if other is None else _points(other, pipeline, source, meter) for each, other in others.items()}
                points = stages.chosen(points, field, condition, streams, meter)
            flows.append(_Flow(name, series.tags, field, [points]))
        if meter.due():
            yield
    return flows


def _taken(flows: list[_Flow]) -> Iterator[_Flow]:
    """The flows one by one. Each is freed once it is done with: a hundred thousand at once take a tenth of a second."""
    flows.reverse()
    while flows:
        yield flows.pop()


def _is_chosen(step: Only, flow: _Flow) -> bool:
    return (flow.name, tuple([flow.tags.get(tag, "") for tag in step.tags])) in step.chosen


def _apply(flow: _Flow, step: Step, pipeline: Pipeline, meter: Meter) -> _Flow:
    """A flow behind a stage. Nothing is read yet."""
    parts = flow.parts
    match step:
        case Where():
            parts = [stages.where(part, step, meter) for part in parts]
        case Math():
            parts = [stages.calculate(part, step, meter) for part in parts]
        case Rounding():
            parts = [stages.rounded(part, step, meter) for part in parts]
        case Aggregate():
            parts = [stages.aggregate(parts, step, pipeline.start, meter)]
        case Rate():
            parts = [stages.aggregate([merged(parts, meter)], step, pipeline.start, meter)]
        case Delta():
            parts = [stages.delta(merged(parts, meter), meter)]
        case Fill():
            parts = [stages.fill(merged(parts, meter), step, pipeline.start, pipeline.end, meter)]
        case Limit():
            parts = [stages.limit(parts[0] if len(parts) == 1 else merged(parts, meter), step, meter)]
        case Alias(name):
            return replace(flow, name=name)
    return replace(flow, parts=parts)


def _grouped(flows: Iterable[_Flow], tags: tuple[str, ...], meter: Meter) -> Generator[None, None, list[_Flow]]:
    """One flow for all of one name and field that agree in the tags, in order."""
    groups: dict[tuple[str, tuple[str, ...], str], _Flow] = {}
    for flow in flows:
        values = tuple([flow.tags.get(tag, "") for tag in tags])
        group = groups.setdefault((flow.name, values, flow.field), _Flow(flow.name, dict(zip(tags, values, strict=True)), flow.field, []))
        group.parts += flow.parts
        meter.spend(SERIES_NS)
        if meter.due():
            yield
    return (yield from in_order(list(groups.values()), _Flow.order, meter))


def _ranked(flows: Iterable[_Flow], step: Top, meter: Meter) -> Generator[None, None, list[_Flow]]:
    """The flows of the largest or smallest means, the best first. Series without points have no mean."""
    best: list[tuple[float, tuple[str, list[tuple[str, str]], str], int, list[Columns], _Flow]] = []
    kept = 0
    for number, flow in enumerate(flows):
        meter.spend(SERIES_NS)
        pieces: list[Columns] = []
        count, total = 0, 0.0
        for columns in merged(flow.parts, meter):
            if columns is not None and columns.times:
                pieces.append(columns)
                count += len(columns.times)
                total += sum(columns.values) / (columns.divisor or 1)
                if kept + count > RANKED_POINTS_MAX:
                    raise BadRequest(
                        f"topk and bottomk keep at most {RANKED_POINTS_MAX:,} points of their best series. "
                        "Put an aggregate in front of them."
                    )
            if meter.due():
                yield
        if not count:
            continue
        mean = total / count
        insort(best, (-mean if step.largest else mean, flow.order(), number, pieces, flow))
        kept += count
        if len(best) > step.count:
            kept -= sum(len(columns.times) for columns in best.pop()[3])
    return [replace(flow, parts=[iter(pieces)]) for *_, pieces, flow in best]
