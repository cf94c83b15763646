"""The stages that work on one stream. Each is a generator over the stream in front of it, and keeps little."""

import operator
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import compress, repeat
from math import ceil, floor, fmod, inf, isfinite, isnan
from typing import Any

from flo.floql.columns import PIECE_POINTS, POINT_NS, ROW_NS, Meter, Stream, cut, cut_at_windows, floats, open_block, opened, scaled
from flo.floql.condition import COMPARE, Compare, Condition, Every, holds
from flo.floql.kernels import Kernel, kernel_of
from flo.floql.plan import Aggregate, Fill, Limit, Math, Rate, Rounding, Where, Window
from flo.floql.query import Comparison, Expression, Negative, Number, Operation, Value
from flo.floql.source import Block, Columns

_CALCULATE: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": fmod,
}


# -- where, math, rounding: point by point ---------------------------------------------------------


def where(stream: Stream, step: Where, meter: Meter) -> Stream:
    """The points whose values compare as asked. A block's extremes may tell that all of its points do, or none, without reading it."""
    compare, number = COMPARE[step.comparison.operator], step.comparison.number
    for item in stream:
        if item is not None and not isinstance(item, Columns):
            decided = _all_or_none(item, step.comparison.operator, number)
            if decided is not None:
                meter.scan(0 if decided else 1)  # a later stage counts the block that stays
                meter.spend(ROW_NS)
                yield item if decided else None
                continue
            pieces: Iterator[Columns | None] = opened(iter([item]), meter)
        else:
            pieces = iter([item])
        for columns in pieces:
            if columns is None:
                yield None
                continue
            chosen = list(map(compare, scaled(columns.values, columns.divisor), repeat(number)))
            meter.spend(len(chosen) * POINT_NS)
            yield _chosen(columns, chosen)


def _all_or_none(block: Block, comparison: str, number: float) -> bool | None:
    """Whether all of the block's points compare so, or none; None if only the points tell."""
    low, high = block.minimum, block.maximum
    if comparison in ("==", "!="):
        if low == high == number:
            return comparison == "=="
        return comparison == "!=" if not low <= number <= high else None
    compare = COMPARE[comparison]
    both = compare(low, number), compare(high, number)
    return both[0] if both[0] == both[1] else None


def _chosen(columns: Columns, chosen: Sequence[object]) -> Columns:
    if all(chosen):
        return columns
    return Columns(array("q", compress(columns.times, chosen)), list(compress(columns.values, chosen)), columns.divisor)


def finite(columns: Columns) -> Columns:
    """The points that are neither NaN nor infinite. The sum tells at once whether all are finite, if it does not overflow itself."""
    if isfinite(sum(columns.values)):
        return columns
    return _chosen(columns, list(map(isfinite, columns.values)))


def calculate(stream: Stream, step: Math, meter: Meter) -> Stream:
    """Each value put into the expression."""
    cost = POINT_NS * _operations(step.expression)
    for columns in opened(stream, meter):
        if columns is None:
            yield None
            continue
        values = scaled(columns.values, columns.divisor)
        meter.spend(len(values) * cost)
        try:
            yield finite(Columns(columns.times, _calculate(step.expression, values)))
        except (ZeroDivisionError, ValueError, OverflowError):  # some points have no result, such as a division by zero
            meter.spend(len(values) * cost * 10)
            yield _calculate_each(step.expression, Columns(columns.times, values))


def _operations(expression: Expression) -> int:
    match expression:
        case Negative(operand):
            return 1 + _operations(operand)
        case Operation(_, left, right):
            return 1 + _operations(left) + _operations(right)
    return 1


def _calculate(expression: Expression, values: Sequence[float]) -> Sequence[float]:
    """The results for all values, one operator after the other."""
    match expression:
        case Value():
            return values
        case Number(number):
            return [number] * len(values)
        case Negative(operand):
            return list(map(operator.neg, _calculate(operand, values)))
        case Operation(sign, left, Number(number)):
            return list(map(_CALCULATE[sign], _calculate(left, values), repeat(number)))
        case Operation(sign, left, right):
            return list(map(_CALCULATE[sign], _calculate(left, values), _calculate(right, values)))
    raise AssertionError(expression)


def _calculate_each(expression: Expression, columns: Columns) -> Columns:
    times, values = array("q"), []
    for time, value in zip(columns.times, columns.values, strict=True):
        try:
            result = _calculate(expression, [value])[0]
        except (ZeroDivisionError, ValueError, OverflowError):
            continue
        if isfinite(result):
            times.append(time)
            values.append(result)
    return Columns(times, values)


def rounded(stream: Stream, step: Rounding, meter: Meter) -> Stream:
    """Each value rounded, or without its sign."""
    for columns in opened(stream, meter):
        if columns is None:
            yield None
            continue
        meter.spend(len(columns.times) * POINT_NS * (7 if step.function == "round" else 1))
        if step.function == "abs":
            yield Columns(columns.times, list(map(abs, columns.values)), columns.divisor)
            continue
        values = scaled(columns.values, columns.divisor)
        match step.function:
            case "ceil":
                values = list(map(float, map(ceil, values)))
            case "floor":
                values = list(map(float, map(floor, values)))
            case "round":
                values = list(map(round, values, repeat(step.digits)))
        yield finite(Columns(columns.times, values))


# -- conditions on several fields ------------------------------------------------------------------


def chosen(stream: Stream, field: str, condition: Condition, others: Mapping[str, Stream], meter: Meter) -> Stream:
    """The points of a field for which the condition holds. It asks of no tag any more; `others` are its other fields of the same series."""
    steps = _on_itself(condition, field)
    if steps is not None:
        for step in steps:
            stream = where(stream, step, meter)
        yield from stream
        return
    beside = {name: _Beside(opened(other, meter)) for name, other in others.items()}
    for columns in opened(stream, meter):
        if columns is None or not columns.times:
            yield None
            continue
        columns = floats(columns)
        count = len(columns.times)
        values: dict[str, Sequence[float | None]] = {field: columns.values}
        for name, other in beside.items():
            values[name] = yield from other.at(columns.times)
        meter.spend(count * POINT_NS * 3 * (1 + len(others)))
        yield _chosen(columns, holds(condition, values, count))


def _on_itself(condition: Condition, field: str) -> list[Where] | None:
    """A condition that only compares the field with numbers, as steps which know blocks' extremes; None for any other."""
    match condition:
        case Compare(sign, Value(name), Number(number)) if name == field:
            return [Where(Comparison(sign, number))]
        case Every(conditions):
            steps: list[Where] = []
            for each in conditions:
                found = _on_itself(each, field)
                if found is None:
                    return None
                steps += found
            return steps
    return None


class _Beside:
    """The values of a stream at the times of another. It keeps only what may still be asked for."""

    def __init__(self, stream: Iterator[Columns | None]) -> None:
        self._stream = stream
        self._ahead: dict[int, float] = {}
        self._reach = -inf

    def at(self, times: Sequence[int]) -> Generator[None, None, list[float | None]]:
        """The values at these times, None where there is no point. The times of a later call are later."""
        last, wanted = times[-1], set(times)
        while self._reach < last:
            columns = next(self._stream, _END)
            if columns is _END:
                self._reach = inf
            elif columns is None:
                yield
            elif columns.times:
                pairs = zip(columns.times, scaled(columns.values, columns.divisor), strict=True)
                self._ahead.update((time, value) for time, value in pairs if time > last or time in wanted)
                self._reach = columns.times[-1]
        found = list(map(self._ahead.get, times))
        self._ahead = {time: value for time, value in self._ahead.items() if time > last}
        return found


_END = Columns((), ())  # behind the last of a stream


# -- delta, rate, aggregates -----------------------------------------------------------------------


def delta(stream: Stream, meter: Meter) -> Stream:
    """Each point minus the one before."""
    before: Columns | None = None  # the last point
    for columns in opened(stream, meter):
        if columns is None or not columns.times:
            yield None
            continue
        if before is not None and before.divisor != columns.divisor:
            before, columns = floats(before), floats(columns)
        times, values, divisor = columns
        meter.spend(len(times) * POINT_NS)
        last = cut(columns, len(times) - 1, len(times))
        if before is None:
            later, earlier, times = values[1:], values, times[1:]
        else:
            later, earlier = values, [before.values[0], *values]
        before = last
        yield finite(Columns(times, list(map(operator.sub, later, earlier)), divisor))


def aggregate(parts: Sequence[Stream], step: Aggregate | Rate, start: int, meter: Meter) -> Stream:
    """The aggregate's points over all parts: at the windows' starts, or one at `start`."""
    kernel = kernel_of(step)
    starts: Sequence[int] = []
    rows: list[Any] = []
    joined: dict[int, Any] = {}
    for part in parts:
        starts, rows = yield from _rows(part, kernel, step.window, start, meter)
        if len(parts) > 1:
            for first in range(0, len(rows), PIECE_POINTS):
                piece = rows[first : first + PIECE_POINTS]
                for at, row in zip(starts[first : first + PIECE_POINTS], piece, strict=True):
                    joined[at] = kernel.join(joined[at], row) if at in joined else row
                meter.spend(len(piece) * ROW_NS)
                yield None
    if len(parts) > 1:
        starts = sorted(joined)
        rows = [joined[at] for at in starts]
    for first in range(0, len(rows), PIECE_POINTS):
        piece = rows[first : first + PIECE_POINTS]
        values = yield from kernel.finish(piece, meter)
        own_time = isinstance(step, Aggregate) and step.own_time
        times = [time for time, _ in piece] if own_time else starts[first : first + PIECE_POINTS]
        undefined = isinstance(step, Aggregate) and step.undefined
        kept = [value is not None and (isfinite(value) or (undefined and isnan(value))) for value in values]
        meter.spend(len(piece) * POINT_NS * 4)
        yield Columns(array("q", compress(times, kept)), [value for value in compress(values, kept) if value is not None])


def _rows(
    part: Stream, kernel: Kernel[Any], window: Window | None, start: int, meter: Meter
) -> Generator[None, None, tuple[list[int], list[Any]]]:
    """The starts of one part's windows that have points, and their rows. Without a window, the only one starts at `start`."""
    starts: list[int] = []
    rows: list[Any] = []
    for item in part:
        pieces: Iterator[Columns | None] = iter(())
        if item is None or isinstance(item, Columns):
            pieces = iter([item])
        else:
            first = start if window is None else window.start(item.start)
            row = kernel.summary(item) if window is None or item.end < first + window.width else None
            if row is None:
                pieces = open_block(item, meter)
            else:
                meter.scan(1)
                meter.spend(ROW_NS)
                _append(kernel, starts, rows, [first], [row])
                yield
        for columns in pieces:
            if columns is not None and columns.times:
                count = len(columns.times)
                begins, bounds = ([start], [0, count]) if window is None else cut_at_windows(columns.times, window)
                meter.spend(count * POINT_NS + len(bounds) * ROW_NS)
                _append(kernel, starts, rows, begins, kernel.rows(columns, bounds))
            yield
    return starts, rows


def _append(kernel: Kernel[Any], starts: list[int], rows: list[Any], more_starts: Sequence[int], more: list[Any]) -> None:
    """Add rows of later windows; the first may be of the last window so far."""
    if starts and starts[-1] == more_starts[0]:
        rows[-1] = kernel.join(rows[-1], more[0])
        more_starts, more = more_starts[1:], more[1:]
    starts += more_starts
    rows += more


# -- fill, limit -----------------------------------------------------------------------------------


def fill(stream: Stream, step: Fill, start: int, end: int, meter: Meter) -> Stream:
    """A point for each window without one: with a value from the first window of the range to the last, else between the points that tell
    it. A series without points stays so."""
    width = step.window.width
    before: tuple[int, float] | None = None
    for columns in opened(stream, meter):
        if columns is None or not columns.times:
            yield None
            continue
        times, values = array("q"), array("d")
        for time, value in zip(columns.times, scaled(columns.values, columns.divisor), strict=True):
            first = before[0] + width if before else step.window.start(start)
            if first < time:
                _fill_gap(times, values, range(first, time, width), step.how, before, (time, value))
            times.append(time)
            values.append(value)
            before = time, value
        meter.spend(len(times) * ROW_NS)
        yield Columns(times, values)
    if before:
        times, values = array("q"), array("d")
        _fill_gap(times, values, range(before[0] + width, end + 1, width), step.how, before, None)
        meter.spend(len(times) * ROW_NS)
        yield Columns(times, values)


def _fill_gap(
    times: "array[int]",
    values: "array[float]",
    gap: range,
    how: float | str,
    before: tuple[int, float] | None,
    after: tuple[int, float] | None,
) -> None:
    if how == "linear":
        if before is None or after is None:
            return
        slope = (after[1] - before[1]) / (after[0] - before[0])
        values.extend([before[1] + slope * (time - before[0]) for time in gap])
    elif how == "previous":
        if before is None:
            return
        values.extend([before[1]] * len(gap))
    else:
        assert isinstance(how, float)
        values.extend([how] * len(gap))
    times.extend(gap)


def limit(stream: Stream, step: Limit, meter: Meter) -> Stream:
    """The first points, or the last. No more is read than is needed for the first ones."""
    if step.from_end:
        yield from _last_points(stream, step.count, meter)
        return
    left = step.count
    for columns in opened(stream, meter):
        if columns is None:
            yield None
            continue
        yield cut(columns, 0, left)
        left -= len(columns.times)
        if left <= 0:
            return


def _last_points(stream: Stream, count: int, meter: Meter) -> Stream:
    kept: deque[tuple[int, Columns | Block]] = deque()  # blocks stay closed until it is known that they are among the last
    have = 0
    for item in stream:
        if item is not None:
            length = len(item.times) if isinstance(item, Columns) else item.count
            kept.append((length, item))
            have += length
            while have - kept[0][0] >= count:
                have -= kept.popleft()[0]
            meter.spend(ROW_NS)
        yield None
    surplus = max(0, have - count)
    for columns in opened(iter([item for _, item in kept]), meter):
        if columns is not None:
            skipped = min(surplus, len(columns.times))
            surplus -= skipped
            yield cut(columns, skipped, len(columns.times))
