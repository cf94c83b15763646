"""Points on their way through the stages: streams of columns, read from blocks within the range, cut into windows, merged by time.

A stream is an iterator over `Columns`, ascending, with no time in two of them; over blocks that lie within the range and are not read yet,
so that a stage may use their summaries; and over None, where the stage has worked a while and the evaluation may pause.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush, merge
from itertools import chain, repeat
from math import inf
from operator import truediv
from typing import Any, TypeVar

from flo.errors import BadRequest
from flo.floql.plan import Window
from flo.floql.source import Block, Blocks, Columns

PIECE_POINTS = 5_000  # of the columns that a stage handles in one call: the slowest, `round`, takes 700 ns a point
SLICE_NS = 2_000_000  # of work in a slice, as `Meter.spend` estimates it: a slower machine stays below 5 ms
MERGED_SERIES_MAX = 10_000  # merged point by point: each step of a merge looks at all of them

READ_NS = 60  # estimates for a point: reading a block
POINT_NS = 100  # a stage that handles points by calls of C
MERGE_NS = 300  # a merge by time
ROW_NS = 1_000  # a window, a block's summary, or a series
SERIES_NS = 15_000  # what a series takes besides its points: the streams of its stages
STEP_NS = 200  # a step of a regular expression

SORT_NS = 4_000  # a series put in order
SORTED_AT_ONCE = 1_000  # series

Stream = Iterator[Columns | Block | None]
Item = TypeVar("Item")


class Meter:
    """What an evaluation has cost: the points it looked at, which are limited, and the work since its last pause."""

    def __init__(self, max_points: int) -> None:
        self.scanned: int = 0
        self._max_points = max_points
        self._work = 0

    def scan(self, points: int) -> None:
        """Count points in front of reading them. Raise `BadRequest` past the limit."""
        if self.scanned + points > self._max_points:
            raise BadRequest(
                f"The query looks at more than {self._max_points:,} points (query.max_points). "
                "Ask for a shorter range, fewer series, or wider windows, whose summaries need no points."
            )
        self.scanned += points

    def spend(self, nanoseconds: int) -> None:
        """Count work."""
        self._work += nanoseconds

    def due(self) -> bool:
        """Whether the slice is over; the next one begins."""
        if self._work < SLICE_NS:
            return False
        self._work = 0
        return True


def in_order(items: Sequence[Item], key: Callable[[Item], Any], meter: Meter) -> Generator[None, None, list[Item]]:
    """The items in the order of their keys: parts are sorted, then merged, so that 100,000 of them stop nobody."""
    parts = []
    for first in range(0, len(items), SORTED_AT_ONCE):
        parts.append(sorted(items[first : first + SORTED_AT_ONCE], key=key))
        meter.spend(len(parts[-1]) * SORT_NS)
        if meter.due():
            yield
    if len(parts) == 1:
        return parts[0]
    found: list[Item] = []
    for item in merge(*parts, key=key):
        found.append(item)
        if len(found) % SORTED_AT_ONCE == 0:
            meter.spend(SORTED_AT_ONCE * SORT_NS)
            if meter.due():
                yield
    return found


# -- columns ---------------------------------------------------------------------------------------


def scaled(values: Iterable[float], divisor: int) -> Sequence[float]:
    """The values as floats."""
    if divisor:
        return list(map(truediv, values, repeat(divisor)))
    return values if isinstance(values, (list, array)) else list(values)


def floats(columns: Columns) -> Columns:
    """The same points with floats as values."""
    return Columns(columns.times, scaled(columns.values, columns.divisor))


def cut(columns: Columns, first: int, last: int) -> Columns:
    """The points from the index `first` to before `last`."""
    return Columns(columns.times[first:last], columns.values[first:last], columns.divisor)


def _pieces(columns: Columns) -> Iterator[Columns]:
    count = len(columns.times)
    if count <= PIECE_POINTS:
        yield columns
    else:
        for first in range(0, count, PIECE_POINTS):
            yield cut(columns, first, first + PIECE_POINTS)


def open_block(block: Block, meter: Meter) -> Iterator[Columns]:
    """Read a block, in pieces that a stage can handle."""
    meter.scan(block.count)
    meter.spend(block.count * READ_NS)
    return _pieces(block.columns())


def read(source: Blocks, handle: Any, start: int, end: int, meter: Meter) -> Stream:
    """The points of a series from `start` to `end`, both included."""
    for block in source.blocks(handle, start, end):
        if start <= block.start and block.end <= end:
            yield block
        elif block.start <= end and start <= block.end:
            for columns in open_block(block, meter):
                yield cut(columns, bisect_left(columns.times, start), bisect_right(columns.times, end))


def opened(stream: Stream, meter: Meter) -> Iterator[Columns | None]:
    """The stream with its blocks read."""
    for item in stream:
        if item is None or isinstance(item, Columns):
            yield item
        else:
            yield from open_block(item, meter)


def cut_at_windows(times: Sequence[int], window: Window) -> tuple[Sequence[int], list[int]]:
    """The starts of the windows that have points, and the indexes where the windows begin, with the end of the last."""
    count, width = len(times), window.width
    first, last = window.start(times[0]), window.start(times[-1])
    if first == last:
        return [first], [0, count]
    if isinstance(times, range) and not width % times.step:
        begin = -((times[0] - first - width) // times.step)
        return range(first, last + 1, width), [0, *range(begin, count, width // times.step), count]
    starts, bounds = [], []
    index = 0
    while index < count:
        time = times[index]
        start = time - (time - window.offset) % width
        starts.append(start)
        bounds.append(index)
        index += 1
        if index < count and times[index] < start + width:
            index = bisect_left(times, start + width, index + 1)
    bounds.append(count)
    return starts, bounds


# -- merging ---------------------------------------------------------------------------------------


def merged(parts: Sequence[Stream], meter: Meter) -> Iterator[Columns | None]:
    """The points of all parts by time; of points at one time, those of the earlier part first."""
    if len(parts) == 1:
        return opened(parts[0], meter)
    if len(parts) > MERGED_SERIES_MAX:
        raise BadRequest(
            f"{len(parts):,} series would be merged point by point, and at most {MERGED_SERIES_MAX:,} can be. "
            "Put an aggregate behind group_by, or one with a window in front of it."
        )
    return _merge(parts, meter)


def _merge(parts: Sequence[Stream], meter: Meter) -> Iterator[Columns | None]:
    """Fill the buffers of the parts, then hand out all points up to the time that every buffer reaches; again until the parts end. The part
    that reaches least far is read next. Many points are read between two hand-outs, because each looks at all buffers."""
    streams = [opened(part, meter) for part in parts]
    buffers: list[list[Columns]] = [[] for _ in parts]
    reach: list[tuple[float, int]] = [(-inf, number) for number in range(len(parts))]  # how far each buffer reaches: a heap
    heapify(reach)
    fresh = 0
    while reach[0][0] < inf:
        number = reach[0][1]
        heappop(reach)
        meter.spend(SERIES_NS // 2)  # a part of one point is read twice: for that, and for its end
        yield None
        columns: Columns | None = None
        for columns in streams[number]:
            if columns is None:
                yield None
            elif columns.times:
                break
        if columns is None or not columns.times:  # the part has ended
            heappush(reach, (inf, number))
        else:
            buffers[number].append(columns)
            heappush(reach, (columns.times[-1], number))
            fresh += len(columns.times)
        if fresh >= max(PIECE_POINTS, 4 * len(parts)) and reach[0][0] > -inf:
            yield from _hand_out(buffers, reach[0][0], meter)
            fresh = 0
    yield from _hand_out(buffers, inf, meter)


def _hand_out(buffers: list[list[Columns]], until: float, meter: Meter) -> Iterator[Columns | None]:
    """Take all points up to the time from the buffers, in pieces of bounded size if their times allow it."""
    firsts = [buffer[0].times[0] for buffer in buffers if buffer]
    if not firsts or min(firsts) > until:
        return
    first = min(firsts)
    last = int(min(until, max(buffer[-1].times[-1] for buffer in buffers if buffer)))
    counts = [sum(bisect_right(columns.times, last) for columns in buffer) for buffer in buffers]
    meter.spend(len(buffers) * ROW_NS)
    if sum(counts) > PIECE_POINTS and first < last:
        yield from _hand_out(buffers, (first + last) // 2, meter)
        yield None
        yield from _hand_out(buffers, last, meter)
        return
    taken: list[Columns] = []
    for buffer in buffers:
        while buffer and buffer[0].times[0] <= last:
            columns = buffer.pop(0)
            index = bisect_right(columns.times, last)
            taken.append(cut(columns, 0, index))
            if index < len(columns.times):
                buffer.insert(0, cut(columns, index, len(columns.times)))
                break
    meter.spend(sum(counts) * MERGE_NS)
    yield _by_time(taken)


def _by_time(taken: list[Columns]) -> Columns:
    if len(taken) == 1:
        return taken[0]
    divisors = {columns.divisor for columns in taken}
    if len(divisors) > 1:
        taken = [floats(columns) for columns in taken]
    times = list(chain.from_iterable([columns.times for columns in taken]))
    values = list(chain.from_iterable([columns.values for columns in taken]))
    order = sorted(range(len(times)), key=times.__getitem__)  # it consists of runs in order, so it takes few comparisons
    return Columns([times[at] for at in order], [values[at] for at in order], divisors.pop() if len(divisors) == 1 else 0)
