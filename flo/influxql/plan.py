"""From a SELECT to a plan of flo.floql.plan: a pipeline for each measurement and each source of values that it has.

The pipelines only read and aggregate. What InfluxQL does with rows (fill, derivatives, columns, limits) is in flo.influxql.rows.
"""

from dataclasses import dataclass

from flo.errors import BadRequest
from flo.floql.columns import ROW_NS, STEP_NS, Meter, in_order
from flo.floql.condition import Condition, matchers_of, of_series
from flo.floql.plan import Aggregate, GroupBy, Limit, Only, Pipeline, Plan, Step, Window, check_windows
from flo.floql.regex import Regex
from flo.floql.source import TagMatcher
from flo.influxql.columns import SELECTORS, Columns, Points
from flo.influxql.index import Index, Job
from flo.influxql.statement import Reference, Select, Wildcard
from flo.influxql.where import Range, condition_of, fields_among, matchers_and_rest, split

MS = 1_000_000  # ns
TIME_MAX = (1 << 63) - 1  # ms: where there is no bound
LIMITED_MAX = 10_000  # windows filled for the sake of LIMIT and OFFSET, in one slice: 3 ms
PIPELINES_MAX = 10_000  # each looks for its series: 20 us
# The value of a row's source: which one, of which measurement
Read = tuple[str, Points | Reference]


@dataclass(frozen=True)
class Selection:
    """A plan, and what its answer means: `reads` are the measurement and the source of each pipeline."""

    columns: Columns
    plan: Plan
    reads: tuple[Read, ...]
    tags: tuple[str, ...]  # of GROUP BY, in order
    range: Range  # in ns
    first: int | None  # the times in ms of the first and the last window, …
    last: int
    window: Window | None  # … if there are windows
    own_time: bool  # the only source is a selector whose point stands at its own time
    unknown: frozenset[int]  # the places of sources that no measurement has


def plan_select(select: Select, index: Index, now: int, meter: Meter) -> Job[Selection]:
    """The plan at the time `now` (ns). A job. Raise `BadRequest`."""
    measurements = yield from matching(select.sources, index, meter)
    fields = sorted({field for name in measurements for field in index.fields(name)})
    tags = sorted({tag for name in measurements for tag in index.tags(name)})
    grouped = _grouped(select, tags)
    groups_by_pattern = any(not isinstance(tag, str) for tag in select.tags)  # then `*` is only the fields, as in InfluxDB
    columns = Columns(select, fields, tags, () if groups_by_pattern else [tag for tag in tags if tag not in grouped])
    bounds, rest = split(select.condition, now)
    window = _window(select)
    start, end = _bounds(bounds, window, now)
    first = None if bounds.start is None else start
    if window and first is not None and (sentence := refused_windows(select, columns, window, start, end)):
        raise BadRequest(sentence)
    planner = _Planner(select, columns, grouped, window, start, end)
    unknown: set[int] = set(range(len(columns.sources)))
    for name in measurements:
        known = index.fields(name)
        matchers, condition = matchers_and_rest(condition_of(rest, fields_among(known)))
        chosen: Only | None = None
        if (select.series_limit or select.series_offset) and start <= end:
            groups = yield from _groups(index, name, matchers, condition, grouped, meter)
            groups = yield from in_order(groups, lambda group: _tags_key(grouped, group[1]), meter)
            stop = select.series_offset + select.series_limit if select.series_limit else None
            chosen = Only(grouped, frozenset(groups[select.series_offset : stop]))
        for place, source in enumerate(columns.sources):
            if (source.field if isinstance(source, Points) else source.name) in known:
                unknown.discard(place)
                planner.add(name, source, matchers, condition, chosen)
        meter.spend(ROW_NS * 20)
        if meter.due():
            yield
    unknown = {place for place in unknown if not _is_typed(columns.sources[place])}
    plan, reads = Plan(tuple(planner.pipelines)), tuple(planner.reads)
    return Selection(columns, plan, reads, grouped, bounds, first, end, window, planner.own_time, frozenset(unknown))


def refused_windows(select: Select, columns: Columns, window: Window, start: int, end: int) -> str:
    """The sentence that refuses windows that are too many to be filled; "" if they are not. With a LIMIT, only the first are."""
    changes = any(isinstance(source, Points) and source.change for source in columns.sources)
    if select.fill == "none" or (select.limit and select.limit + select.offset <= LIMITED_MAX and not changes):
        return ""
    return check_windows(window, start, end)


def _is_typed(source: Points | Reference) -> bool:
    return isinstance(source, Points) and source.is_typed


def matching(sources: tuple[str | Regex, ...], index: Index, meter: Meter) -> Job[list[str]]:
    """The measurements that the sources name, in order; all of them if there is no source. A job."""
    found = {source for source in sources if isinstance(source, str) and index.fields(source)}
    patterns = [source for source in sources if isinstance(source, Regex)]
    if patterns or not sources:
        for name in index.measurements():
            before = sum(pattern.steps for pattern in patterns)
            if not patterns or any(pattern.search(name) for pattern in patterns):
                found.add(name)
            meter.spend(ROW_NS + STEP_NS * (sum(pattern.steps for pattern in patterns) - before))
            if meter.due():
                yield
    return sorted(found)


def _grouped(select: Select, tags: list[str]) -> tuple[str, ...]:
    """The tags of GROUP BY, in order."""
    found: set[str] = set()
    for each in select.tags:
        if isinstance(each, str):
            found.add(each)
        else:
            found.update(tag for tag in tags if isinstance(each, Wildcard) or each.search(tag))
    return tuple(sorted(found))


def _window(select: Select) -> Window | None:
    """The windows in ms. Raise `BadRequest`."""
    windows = select.windows
    if windows is None:
        return None
    if windows.width % MS or windows.offset % MS:
        raise BadRequest("the duration of time() is no whole number of milliseconds; Flo keeps times in ms: use at least 1ms")
    width = windows.width // MS
    return Window(width, windows.offset // MS % width)


def _bounds(bounds: Range, window: Window | None, now: int) -> tuple[int, int]:
    """The range in ms, both included. Windows end now, unless something else is said."""
    end = now if bounds.end is None and window else bounds.end
    start = -TIME_MAX if bounds.start is None else -(-bounds.start // MS)
    return start, TIME_MAX if end is None else end // MS


def _groups(
    index: Index, name: str, matchers: tuple[TagMatcher, ...], condition: Condition, tags: tuple[str, ...], meter: Meter
) -> Job[list[tuple[str, tuple[str, ...]]]]:
    """The groups of a measurement. A job."""
    found: set[tuple[str, tuple[str, ...]]] = set()
    for series in index.series(name, matchers, None):
        if series is None:
            yield
            continue
        if of_series(condition, series.tags) is not False:
            found.add((name, tuple([series.tags.get(tag, "") for tag in tags])))
        meter.spend(ROW_NS * (2 + len(matchers_of(condition))))
        if meter.due():
            yield
    return list(found)


def _tags_key(tags: tuple[str, ...], values: tuple[str, ...]) -> str:
    """By what InfluxDB puts groups in order before SLIMIT, in both orders of time: the names of tags that have a value, and the values."""
    present = [(tag, value) for tag, value in zip(tags, values, strict=True) if value]
    return "|".join([*[tag for tag, _ in present], *[value for _, value in present]])


class _Planner:
    """Makes the pipelines of one statement."""

    def __init__(self, select: Select, columns: Columns, grouped: tuple[str, ...], window: Window | None, start: int, end: int) -> None:
        self._select = select
        self._grouped = grouped
        self._window = window
        self._start = start
        self._end = end
        lone = columns.sources[0] if len(columns.sources) == 1 else None
        self.own_time = isinstance(lone, Points) and lone.function in SELECTORS and not lone.change and window is None
        self.pipelines: list[Pipeline] = []
        self.reads: list[Read] = []

    def add(
        self, name: str, source: Points | Reference, matchers: tuple[TagMatcher, ...], condition: Condition, chosen: Only | None
    ) -> None:
        """The pipeline of a measurement's source."""
        if self._start > self._end or condition is False:
            return
        if len(self.pipelines) == PIPELINES_MAX:
            raise BadRequest(f"the statement reads more than {PIPELINES_MAX:,} fields of measurements: name fewer")
        steps: list[Step] = [] if chosen is None else [chosen]
        start, end = self._start, self._end
        if isinstance(source, Reference):
            field, limit = source.name, self._select.limit + self._select.offset
            if self._select.limit:
                steps.append(Limit(limit, from_end=self._select.descending))
        else:
            field = source.field
            steps.insert(0, GroupBy(self._grouped))
            if source.function:
                steps.append(Aggregate(source.function, source.percent, self._window, self.own_time, undefined=True))
            if source.change and self._window:  # the first change of the range needs the window before it
                start -= 0 if self._select.descending or start == -TIME_MAX else self._window.width
                end += self._window.width if self._select.descending else 0
        self.pipelines.append(Pipeline(name, matchers, (field,), start, end, tuple(steps), condition=condition))
        self.reads.append((name, source))
