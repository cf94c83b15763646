"""From a plan's answer to the rows of a SELECT, as InfluxDB makes them.

Each source of values is a stream of points, in the statement's order: windows are filled, then changes are made, then LIMIT and OFFSET
count. Rows join the streams of one group by time. Times are in ms as they come from the plan, and in ns from `_in_ns` on.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from math import isfinite
from operator import itemgetter
from typing import Any

from flo.errors import BadRequest
from flo.floql.columns import ROW_NS, Meter, in_order
from flo.floql.evaluate import AnswerSeries
from flo.floql.plan import ANSWER_POINTS_MAX, Window
from flo.influxql.columns import COUNTS, Cell, Points
from flo.influxql.index import Job, Series
from flo.influxql.plan import MS, Selection, refused_windows
from flo.influxql.statement import Reference, Select

ROWS_SLICE = 500  # rows between two pauses: 2 to 5 ms
CELLS_MAX = 1_000_000  # of an answer, with those of tags: 20 MB of JSON

Tags = tuple[tuple[str, str], ...]
Group = tuple[str, tuple[str, ...]]  # a measurement and the values of the tags of GROUP BY
Point = tuple[int, float | None]
Value = float | int | str | None


class Room:
    """How many values an answer may still have."""

    def __init__(self, points: int) -> None:
        self.points: int = points
        self.cells: int = CELLS_MAX

    def take(self, points: int, cells: int) -> None:
        """Count a row. Raise `BadRequest` past the limit."""
        self.points -= points
        self.cells -= cells
        if self.points < 0 or self.cells < 0:
            raise BadRequest(
                f"the answer has more than {ANSWER_POINTS_MAX:,} values. Ask for wider windows, a shorter range, fewer series, or a LIMIT"
            )


def make_series(
    select: Select, selection: Selection, answer: list[AnswerSeries], show: Callable[[int], Value], room: Room, meter: Meter
) -> Job[list[Series]]:
    """The series of an answer. `show` makes a time in ns what the client asked for. A job."""
    maker = _Raw(select, selection, meter) if selection.columns.is_raw else _Joined(select, selection, meter)
    found: list[Series] = []
    worked = 0  # rows and groups
    for name, tags in (yield from maker.groups(answer)):
        values: list[list[Value]] = []
        for found_row in maker.rows((name, tags)):
            if found_row is None:
                yield
                continue
            time, row = found_row
            room.take(maker.points, len(selection.columns.names))
            values.append([show(time), *[_shown(cell(row)) for cell in selection.columns.cells]])
            worked += 1
            if worked % ROWS_SLICE == 0:
                yield
        if values:
            series: Series = {"name": name}
            if selection.tags:
                series["tags"] = dict(zip(selection.tags, tags, strict=True))
            found.append({**series, "columns": selection.columns.names, "values": values})
        worked += 1
        if worked % ROWS_SLICE == 0:
            yield
    return found


def _shown(value: Cell) -> Value:
    """A value as InfluxDB's JSON has it: whole numbers without a point, null for what is no number."""
    if isinstance(value, float):
        if not isfinite(value):
            return None
        if value.is_integer() and abs(value) < 1e21:
            return int(value)
    return value


def _skip(rows: Iterator[Any], count: int) -> Iterator[None]:
    """Leave out the first rows, for OFFSET; None now and then, to pause."""
    for number, _ in enumerate(islice(rows, count), 1):
        if number % ROWS_SLICE == 0:
            yield None


def _default(select: Select, is_whole: bool = False) -> float | None:
    """What stands where a source has no value, unless the one before it stays (fill(previous)). `is_whole`: see `Points`."""
    if not isinstance(select.fill, float):
        return None
    return float(int(select.fill)) if is_whole else select.fill


# -- fields and tags as they are -------------------------------------------------------------------


class _Raw:
    """Rows of fields: one for each time of a series at which one of the fields has a value."""

    def __init__(self, select: Select, selection: Selection, meter: Meter) -> None:
        self._select = select
        self._selection = selection
        self._meter = meter
        self._sources: list[Points | Reference] = selection.columns.sources
        self._series: dict[Group, dict[Tags, tuple[dict[str, str], dict[str, AnswerSeries]]]] = {}
        self.points = max(1, len({source for _, source in selection.reads}))

    def groups(self, answer: list[AnswerSeries]) -> Job[list[Group]]:
        """The groups of an answer, in the order of the statement; then `rows` can be asked for each. A job."""
        for number, each in enumerate(answer, 1):
            group = each.name, tuple([each.tags.get(tag, "") for tag in self._selection.tags])
            together = self._series.setdefault(group, {})
            together.setdefault(tuple(sorted(each.tags.items())), (each.tags, {}))[1][each.field] = each
            if number % ROWS_SLICE == 0:
                yield
        groups = yield from in_order(list(self._series), lambda group: group, self._meter)
        return groups[::-1] if self._select.descending else groups

    def rows(self, group: Group) -> Iterator[tuple[int, Sequence[Cell]] | None]:
        """The rows of a group, those of one series after those of another at the same time; None now and then, to pause."""
        select = self._select
        all_rows: list[tuple[int, list[Cell]]] = []
        tags_in_order = yield from in_order(list(self._series[group]), lambda tags: tags, self._meter)
        series = self._series.pop(group)
        for tags in tags_in_order:
            self._meter.spend(ROW_NS * 10)
            for row in self._rows_of(*series[tags]):
                all_rows.append(row)
                if self._meter.due():
                    yield None
        all_rows = yield from in_order(all_rows, itemgetter(0), self._meter)
        rows = iter(reversed(all_rows) if select.descending else all_rows)
        yield from _skip(rows, select.offset)
        before: list[Cell] = [None] * len(self._sources)
        for time, cells in islice(rows, select.limit or None):
            if select.fill == "previous":
                before = cells = [old if new is None else new for old, new in zip(before, cells, strict=True)]
            yield time * MS, cells

    def _rows_of(self, tags: dict[str, str], fields: dict[str, AnswerSeries]) -> Iterator[tuple[int, list[Cell]]]:
        """The rows of one series."""
        empty: list[Cell] = []
        streams: list[tuple[int, Iterator[tuple[int, float]]]] = []
        read = {source for _, source in self._selection.reads}
        for place, source in enumerate(self._sources):
            assert isinstance(source, Reference)
            is_field = source in read
            is_tag = source.name in self._selection.columns.tags and not is_field
            empty.append((is_tag and tags.get(source.name)) or _default(self._select))
            if source.name in fields and is_field:
                streams.append((place, iter(fields[source.name].points)))
        for time, found in _together(streams, descending=False):
            row = empty.copy()
            for place, value in found:
                row[place] = value
            self._meter.spend(ROW_NS * (4 + len(streams)))
            yield time, row


def _together(streams: Sequence[tuple[int, Iterator[Any]]], descending: bool) -> Iterator[tuple[int, list[tuple[int, Any]]]]:
    """The points of several streams by time: each time with the places and values of the streams that have it."""
    heads = [(place, stream, point) for place, stream in streams if (point := next(stream, None)) is not None]
    choose = max if descending else min
    while heads:
        time = choose(point[0] for _, _, point in heads)
        found = []
        following = []
        for place, stream, point in heads:
            if point[0] == time:
                found.append((place, point[1]))
                point = next(stream, None)
            if point is not None:
                following.append((place, stream, point))
        heads = following
        yield time, found


# -- calls -----------------------------------------------------------------------------------------


class _Joined:
    """Rows of calls, joined by time."""

    def __init__(self, select: Select, selection: Selection, meter: Meter) -> None:
        self._select = select
        self._selection = selection
        self._meter = meter
        self._sources: list[Points | Reference] = selection.columns.sources
        self._found: dict[Group, dict[int, list[tuple[int, float]]]] = {}
        self.points = len(self._sources)

    def groups(self, answer: list[AnswerSeries]) -> Job[list[Group]]:
        """See `_Raw`."""
        places = {source: place for place, source in enumerate(self._sources)}
        for number, each in enumerate(answer, 1):
            group = each.name, tuple([each.tags[tag] for tag in self._selection.tags])
            self._found.setdefault(group, {})[places[self._selection.reads[each.pipeline][1]]] = each.points
            if number % ROWS_SLICE == 0:
                yield
        groups = yield from in_order(list(self._found), lambda group: group, self._meter)
        return groups[::-1] if self._select.descending else groups

    def rows(self, group: Group) -> Iterator[tuple[int, Sequence[Cell]] | None]:
        """The rows of a group; None now and then, to pause."""
        select = self._select
        streams: list[tuple[int, Iterator[Point]]] = []
        for place, points in self._found.pop(group).items():
            stream = self._stream(place, points)
            yield from _skip(stream, select.offset)
            streams.append((place, islice(stream, select.limit or None)))
        keeps = select.fill == "previous"
        empty: list[Cell] = [
            None if place in self._selection.unknown else _default(select, is_whole=isinstance(source, Points) and source.is_whole)
            for place, source in enumerate(self._sources)
        ]
        row = empty.copy()
        for time, found in _together(streams, select.descending):
            row = row.copy() if keeps else empty.copy()
            for place, value in found:
                if value is not None:
                    row[place] = value
            yield time, row

    def _stream(self, place: int, points: list[tuple[int, float]]) -> Iterator[Point]:
        """The points of a source, in the order of the statement."""
        select, source = self._select, self._sources[place]
        assert isinstance(source, Points)
        if select.descending:
            points = points[::-1]
        stream: Iterator[Point] = iter(points)
        window = self._selection.window
        if window and select.fill != "none":
            stream = self._filled(points, window, source)
        if source.function and not window and not self._selection.own_time:
            stream = ((self._selection.range.start or 0, value) for _, value in points)
        else:
            stream = ((time * MS, value) for time, value in stream)
        return _changed(stream, source, select.descending) if source.change else stream

    def _filled(self, points: Sequence[tuple[int, float]], window: Window, source: Points) -> Iterator[Point]:
        """A point for each window; of windows without one, as `fill` says."""
        select, selection = self._select, self._selection
        width, first, last = window.width, selection.first, selection.last
        if source.change:  # see `_Planner.add`
            first, last = (first, last + width) if select.descending else (None if first is None else first - width, last)
        if first is None:
            first = points[-1 if select.descending else 0][0]
            if sentence := refused_windows(select, selection.columns, window, first, last):
                raise BadRequest(sentence)
        windows = range(window.start(first), window.start(last) + 1, width)
        how: float | str | None = select.fill
        is_count = source.function in COUNTS
        if is_count and not isinstance(how, str):
            how = float(int(how or 0))
        return _fill(points, windows[::-1] if select.descending else windows, how, is_count)


def _fill(points: Sequence[tuple[int, float]], windows: range, how: float | str | None, is_whole: bool) -> Iterator[Point]:
    before: Point | None = None
    at = 0
    for time in windows:
        value: float | None
        if at < len(points) and points[at][0] == time:
            before = points[at]
            value = before[1]
            at += 1
        elif how == "previous":
            value = before[1] if before else None
        elif how == "linear":
            value = None
            if before is not None and at < len(points):
                (left, low), (right, high) = before, points[at]
                assert low is not None
                value = (high - low) / ((right - left) / windows.step) * ((time - left) / windows.step) + low
                value = float(int(value)) if is_whole else value
        else:
            assert not isinstance(how, str)
            value = how
        yield time, value


def _changed(points: Iterator[Point], source: Points, descending: bool) -> Iterator[Point]:
    """The changes from one point to the next, per unit of time if there is one; of points at one time, the first counts."""
    before: tuple[int, float] | None = None
    for time, value in points:
        if value is None or (before and before[0] == time):
            continue
        if before:
            change = value - before[1]
            result = change / (abs(time - before[0]) / source.unit) if source.unit else change
            if not (change < 0 and source.change.startswith("non_negative")):
                yield time, result
        before = time, value
