"""The aggregates. A kernel makes a row for each window of a piece of columns, or of a block's summary; joins two rows of one window; and
makes the values of the finished rows."""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Generator, Sequence
from itertools import islice, pairwise, repeat
from math import floor, nan, sqrt
from operator import itemgetter, le, mul, sub
from typing import Any, Generic, TypeVar

from flo.floql.columns import Meter, scaled
from flo.floql.plan import Aggregate, Rate
from flo.floql.ranks import SORTED_MAX, select
from flo.floql.source import Block, Columns

Row = TypeVar("Row")


class Kernel(ABC, Generic[Row]):
    """One aggregate. Rows may be changed by `join`, so each belongs to one window."""

    @abstractmethod
    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[Row]:
        """A row for the points between each bound, an index, and the next."""

    def summary(self, block: Block) -> Row | None:
        """The row of a whole block, if its summary is enough."""
        return None

    @abstractmethod
    def join(self, row: Row, other: Row) -> Row:
        """The row of both; `other` is later in the same series, or of a later series."""

    @abstractmethod
    def finish(self, rows: list[Row], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        """The value of each row; None for no point."""


def _windows(values: Sequence[float], bounds: Sequence[int]) -> list[Sequence[float]]:
    return [values] if len(bounds) == 2 else [values[first:last] for first, last in pairwise(bounds)]


class _Sum(Kernel[float]):
    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[float]:
        return list(scaled(map(sum, _windows(columns.values, bounds)), columns.divisor))

    def summary(self, block: Block) -> float:
        return block.sum

    def join(self, row: float, other: float) -> float:
        return row + other

    def finish(self, rows: list[float], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        yield
        return rows


class _Rate(Kernel[float | None]):
    """Rows are the sum of the rises between neighbours, None if there are none. It must be given all points of one stream, because it knows
    the point before."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._before: float | None = None

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[float | None]:
        """The rises that end in each window."""
        values, divisor = columns.values, columns.divisor
        first, last = scaled([values[0], values[-1]], divisor)
        rows: list[float | None]
        if all(map(le, values, islice(values, 1, None))):  # nothing falls: the rises of a window are its ends' difference
            ends = scaled([values[0], *[values[bound - 1] for bound in bounds[1:]]], divisor)
            rows = list(map(sub, ends[1:], ends))
        else:
            rises = [_rise(a, b) for a, b in pairwise(scaled(values, divisor))]
            rows = [sum(rises[max(begin - 1, 0) : end - 1]) for begin, end in pairwise(bounds)]
        if self._before is not None:
            rows[0] = (rows[0] or 0.0) + _rise(self._before, first)
        elif bounds[1] == 1:
            rows[0] = None
        self._before = last
        return rows

    def join(self, row: float | None, other: float | None) -> float | None:
        return other if row is None else row if other is None else row + other

    def finish(self, rows: list[float | None], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        yield
        return [None if row is None else row / self._seconds for row in rows]


def _rise(before: float, value: float) -> float:
    """From one value of a counter to the next. After a fall the counter began again at 0."""
    return value - before if value >= before else value


class _Mean(Kernel[tuple[float, int]]):
    """Rows are a sum and a count."""

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[tuple[float, int]]:
        sums = scaled(map(sum, _windows(columns.values, bounds)), columns.divisor)
        return list(zip(sums, map(sub, bounds[1:], bounds), strict=True))

    def summary(self, block: Block) -> tuple[float, int]:
        return block.sum, block.count

    def join(self, row: tuple[float, int], other: tuple[float, int]) -> tuple[float, int]:
        return row[0] + other[0], row[1] + other[1]

    def finish(self, rows: list[tuple[float, int]], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        yield
        return [total / count for total, count in rows]


class _Count(Kernel[int]):
    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[int]:
        return list(map(sub, bounds[1:], bounds))

    def summary(self, block: Block) -> int:
        return block.count

    def join(self, row: int, other: int) -> int:
        return row + other

    def finish(self, rows: list[int], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        yield
        return list(map(float, rows))


class _Extreme(Kernel[float]):
    def __init__(self, largest: bool) -> None:
        self._choose: Any = max if largest else min
        self._largest = largest

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[float]:
        return list(scaled(map(self._choose, _windows(columns.values, bounds)), columns.divisor))

    def summary(self, block: Block) -> float:
        return block.maximum if self._largest else block.minimum

    def join(self, row: float, other: float) -> float:
        return max(row, other) if self._largest else min(row, other)

    def finish(self, rows: list[float], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        yield
        return rows


class Selector(Kernel[tuple[int, float]]):
    """Rows are the time and the value of a chosen point."""

    def finish(self, rows: list[tuple[int, float]], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        yield
        return [value for _, value in rows]


class _First(Selector):
    """Of several series' points at one time, the larger value: the order of series tells nothing."""

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[tuple[int, float]]:
        values = scaled([columns.values[index] for index in bounds[:-1]], columns.divisor)
        return list(zip([columns.times[index] for index in bounds[:-1]], values, strict=True))

    def summary(self, block: Block) -> tuple[int, float]:
        return block.start, block.first

    def join(self, row: tuple[int, float], other: tuple[int, float]) -> tuple[int, float]:
        return max(row, other, key=itemgetter(1)) if row[0] == other[0] else min(row, other)


class _Last(Selector):
    """See `_First`."""

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[tuple[int, float]]:
        values = scaled([columns.values[index - 1] for index in bounds[1:]], columns.divisor)
        return list(zip([columns.times[index - 1] for index in bounds[1:]], values, strict=True))

    def summary(self, block: Block) -> tuple[int, float]:
        return block.end, block.last

    def join(self, row: tuple[int, float], other: tuple[int, float]) -> tuple[int, float]:
        return max(row, other)


class _TimedExtreme(Selector):
    """The extreme with its time, the earliest of several; summaries do not know it."""

    def __init__(self, largest: bool) -> None:
        self._choose: Any = max if largest else min
        self._largest = largest

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[tuple[int, float]]:
        windows = _windows(columns.values, bounds)
        chosen = list(map(self._choose, windows))
        places = [first + window.index(value) for first, window, value in zip(bounds, windows, chosen, strict=False)]
        return list(zip([columns.times[place] for place in places], scaled(chosen, columns.divisor), strict=True))

    def join(self, row: tuple[int, float], other: tuple[int, float]) -> tuple[int, float]:
        if row[1] == other[1]:
            return min(row, other)
        return row if (row[1] > other[1]) == self._largest else other


class _Spread(Kernel[tuple[float, float]]):
    """Rows are the least and the largest value."""

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[tuple[float, float]]:
        windows = _windows(columns.values, bounds)
        return list(zip(scaled(map(min, windows), columns.divisor), scaled(map(max, windows), columns.divisor), strict=True))

    def summary(self, block: Block) -> tuple[float, float]:
        return block.minimum, block.maximum

    def join(self, row: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
        return min(row[0], other[0]), max(row[1], other[1])

    def finish(self, rows: list[tuple[float, float]], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        yield
        return [largest - least for least, largest in rows]


class _Distinct(Kernel[set[float]]):
    """Rows are the different values."""

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[set[float]]:
        return [set(scaled(window, columns.divisor)) for window in _windows(columns.values, bounds)]

    def join(self, row: set[float], other: set[float]) -> set[float]:
        row |= other
        return row

    def finish(self, rows: list[set[float]], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        yield
        return [float(len(row)) for row in rows]


class _Deviation(Kernel[tuple[int, float, float]]):
    """Rows are the count, the mean and the sum of the squared distances from it (Chan, Golub and LeVeque 1979 for the joining). The
    deviation of one point is `alone`."""

    def __init__(self, alone: float | None) -> None:
        self._alone = alone

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[tuple[int, float, float]]:
        windows = _windows(columns.values, bounds)
        if not columns.divisor:
            return list(map(self._row, windows))
        rows = []
        for window in windows:  # integers: exact until the division
            count, total = len(window), sum(window)
            squares = count * sum(map(mul, window, window)) - total * total
            rows.append((count, total / (count * columns.divisor), squares / (count * columns.divisor**2)))
        return rows

    def _row(self, window: Sequence[float]) -> tuple[int, float, float]:
        mean = sum(window) / len(window)
        distances = list(map(sub, window, repeat(mean)))
        return len(window), mean, sum(map(mul, distances, distances))

    def join(self, row: tuple[int, float, float], other: tuple[int, float, float]) -> tuple[int, float, float]:
        count = row[0] + other[0]
        distance = other[1] - row[1]
        squares = row[2] + other[2] + distance * distance * row[0] * other[0] / count
        return count, row[1] + distance * other[0] / count, squares

    def finish(self, rows: list[tuple[int, float, float]], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        yield
        return [sqrt(squares / (count - 1)) if count > 1 else self._alone for count, _, squares in rows]


class _Ranked(Kernel[tuple["array[float]", int]]):
    """`percentile`, or `median` if `percent` is None. Rows are all values and their divisor. `first_rank` False: a rank below the first is
    no point."""

    def __init__(self, percent: float | None, first_rank: bool = True) -> None:
        self._percent = percent
        self._first_rank = first_rank

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[tuple["array[float]", int]]:
        kind = "q" if columns.divisor else "d"
        windows = _windows(columns.values, bounds)
        if len(windows) > 1 and isinstance(windows[0], array) and windows[0].typecode == kind:
            return [(window, columns.divisor) for window in windows if isinstance(window, array)]  # slices: nobody else has them
        return [(array(kind, window), columns.divisor) for window in windows]

    def join(self, row: tuple["array[float]", int], other: tuple["array[float]", int]) -> tuple["array[float]", int]:
        if row[1] != other[1]:
            row, other = self._floats(row), self._floats(other)
        row[0].extend(other[0])
        return row

    def _floats(self, row: tuple["array[float]", int]) -> tuple["array[float]", int]:
        return array("d", scaled(row[0], row[1])), 0

    def finish(self, rows: list[tuple["array[float]", int]], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        values: list[float | None] = []
        for column, divisor in rows:
            count = len(column)
            if self._percent is not None:
                rank = floor(count * self._percent / 100 + 0.5)
                if not 1 <= rank <= count and not self._first_rank:
                    values.append(None)
                    continue
                ranks = [max(1, rank)]
            else:
                ranks = [(count + 1) // 2] if count % 2 else [count // 2, count // 2 + 1]
            if count <= SORTED_MAX:
                ordered = sorted(column)
                found = [ordered[rank - 1] for rank in ranks]
                meter.spend(1_000 + count * 60)
                yield
            else:
                found = []
                for rank in ranks:
                    found.append((yield from select(column, rank, meter)))
            values.append(sum(found) / (len(found) * (divisor or 1)))
        return values


class _TimedPercentile(Kernel[Any]):
    """`percentile` with the time of its point, the earliest of several. Rows are all values with their times; `finish` puts the time and
    the value in their place, as `Selector` has them. A rank below the first is no point."""

    def __init__(self, percent: float) -> None:
        self._percent = percent

    def rows(self, columns: Columns, bounds: Sequence[int]) -> list[Any]:
        values = scaled(columns.values, columns.divisor)
        return [(array("q", columns.times[first:last]), array("d", values[first:last])) for first, last in pairwise(bounds)]

    def join(self, row: Any, other: Any) -> Any:
        row[0].extend(other[0])
        row[1].extend(other[1])
        return row

    def finish(self, rows: list[Any], meter: Meter) -> Generator[None, None, Sequence[float | None]]:
        found: list[float | None] = []
        for number, (times, values) in enumerate(rows):
            rank = floor(len(values) * self._percent / 100 + 0.5)
            if not 1 <= rank <= len(values):
                found.append(None)
                rows[number] = (times[0], None)
                continue
            value = yield from select(values, rank, meter)
            at: list[int] = []
            for first in range(0, len(values), SORTED_MAX):
                piece = slice(first, first + SORTED_MAX)
                at += [time for time, each in zip(times[piece], values[piece], strict=True) if each == value]
                yield
            found.append(value)
            rows[number] = (min(at), value)
        return found


def kernel_of(step: Aggregate | Rate) -> Kernel[Any]:
    """The kernel of an aggregate."""
    if isinstance(step, Rate):
        return _Rate(step.window.width / 1000)
    match step.function:
        case "avg":
            return _Mean()
        case "sum":
            return _Sum()
        case "count":
            return _Count()
        case "min" | "max":
            largest = step.function == "max"
            return _TimedExtreme(largest) if step.own_time else _Extreme(largest)
        case "first":
            return _First()
        case "last":
            return _Last()
        case "stddev":
            return _Deviation(nan if step.undefined else None)
        case "median":
            return _Ranked(None)
        case "percentile":
            return _TimedPercentile(step.percent) if step.own_time else _Ranked(step.percent, first_rank=not step.undefined)
        case "spread":
            return _Spread()
        case "distinct":
            return _Distinct()
