"""A sealed chunk of one series' points, as bytes: the state of its record.

    0  i64 start | 8 i64 end     times of the first and the last point, ms
    16 u32 count
    20 f64 sum | 28 f64 min | 36 f64 max | 44 f64 first | 52 f64 last
    60 u8 how times are kept: 0 at a regular interval, or the bytes of a difference (1, 2, 4, 8)
    61 u8 how values are kept: 0 as doubles, or the bytes of a difference (1, 2, 4, 8) of whole numbers; the first is in the summary
    62 u8 decimals: whole numbers are values times 10 to this power
    63 u8 0
    64 zlib: the planes of the differences of times, unless regular; then the planes of the values or their differences

The first 64 bytes are the summary: with it, a query that covers the chunk needs no point. Points are in order of time, one at a time.

A column of numbers is kept in planes: the first byte of each, then the second byte of each, and so on; zlib finds more to save then. Values
are kept as whole numbers only if every one comes back exactly.
"""

import struct
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate, repeat
from operator import mul, sub, truediv
from typing import NamedTuple

SUMMARY = struct.Struct("<qqIdddddBBBB")
SUMMARY_BYTES = SUMMARY.size
assert SUMMARY_BYTES == 64
WIDTHS = {1: "b", 2: "h", 4: "i", 8: "q"}  # bytes of a difference -> the array's code
BOUNDS = [(width, 1 << 8 * width - 1) for width in WIDTHS]
DECIMALS = (0, 1, 2, 3, 4, 6)  # tried in this order; a gauge has few
EXACT = 1 << 53  # whole numbers of doubles are exact below this
LEVEL = 4  # of zlib: a chunk of 4,096 points takes 0.03 to 0.15 ms; level 6 takes up to six times as long and saves a twentieth
PROBE = 16  # values that are tried before all of a column is


class Summary(NamedTuple):
    """What is known of a chunk without its points. `start` and `end` are ms."""

    start: int
    end: int
    points: int
    sum: float
    minimum: float
    maximum: float
    first: float
    last: float


class Columns(NamedTuple):
    """The points of a chunk. `times` are ms, ascending: a `range` if regular. With a `divisor` of 0, `values` are floats; else whole
    numbers, each of which stands for itself divided by it. They are lists: numbers in arrays are made anew at each look."""

    times: Sequence[int]
    values: Sequence[float]
    divisor: int


def summary_of(data: bytes) -> Summary:
    """The summary in the first SUMMARY_BYTES of a chunk."""
    return Summary(*SUMMARY.unpack_from(data)[:8])


def pack(times: "array[int]", values: "array[float]") -> bytes:
    """A chunk's bytes, of one point or more, in order of time."""
    stamps, plain = times.tolist(), values.tolist()  # a list hands its numbers out; an array makes them anew
    body, time_width = [], 0
    if not _is_regular(stamps):
        steps = list(map(sub, stamps[1:], stamps))
        time_width = _width(steps)
        body.append(_planes(steps, time_width))
    decimals, numbers = _whole_numbers(plain)
    value_width, divisor = 0, 10**decimals
    if numbers is not None:
        differences = list(map(sub, numbers[1:], numbers))
        value_width = _width(differences)
        body.append(_planes(differences, value_width))
        total, least, most = sum(numbers) / divisor, min(numbers) / divisor, max(numbers) / divisor
    else:
        body.append(_transposed(values.tobytes(), 8))
        total, least, most = sum(plain), min(plain), max(plain)
    widths = time_width, value_width, decimals
    head = SUMMARY.pack(stamps[0], stamps[-1], len(stamps), total, least, most, plain[0], plain[-1], *widths, 0)
    return head + zlib.compress(b"".join(body), LEVEL)


def _is_regular(times: list[int]) -> bool:
    count = len(times)
    if count < 3:
        return True
    start, end, step = times[0], times[-1], times[1] - times[0]
    return end - start == step * (count - 1) and times == list(range(start, end + 1, step))


def unpack(data: bytes) -> Columns:
    """The points of a chunk. Raises `zlib.error`, `struct.error` or `ValueError` for bytes that `pack` does not make."""
    start, end, count, _, _, _, first, _, time_width, value_width, decimals, _ = SUMMARY.unpack_from(data)
    body = zlib.decompress(memoryview(data)[SUMMARY_BYTES:])
    times: Sequence[int]
    at = 0
    if time_width:
        at = time_width * (count - 1)
        times = list(accumulate(_column(body[:at], time_width), initial=start))
    else:
        step = (end - start) // (count - 1) if count > 1 else 1
        times = range(start, end + 1, step)
    if not value_width:
        return Columns(times, array("d", _untransposed(body[at:], 8)).tolist(), 0)
    divisor = 10**decimals
    return Columns(times, list(accumulate(_column(body[at:], value_width), initial=round(first * divisor))), divisor)


def _whole_numbers(values: list[float]) -> tuple[int, list[int] | None]:
    """(decimals, the values times 10 to this power), as whole numbers; None if there is no such power."""
    for decimals in DECIMALS:
        scale = 10**decimals
        for part in (values[:PROBE], values):
            scaled = list(map(mul, part, repeat(float(scale))))
            if max(scaled) >= EXACT or min(scaled) <= -EXACT:
                return 0, None
            numbers = list(map(float.__round__, scaled))
            if list(map(truediv, numbers, repeat(scale))) != part:
                break
            if 0 in numbers and array("d", map(truediv, numbers, repeat(scale))).tobytes() != array("d", part).tobytes():
                return 0, None  # there is a -0.0, which equals 0.0
        else:
            return decimals, numbers
    return 0, None


def _width(numbers: Sequence[int]) -> int:
    """The bytes that each number needs."""
    least, most = min(numbers, default=0), max(numbers, default=0)
    return next(width for width, bound in BOUNDS if -bound <= least and most < bound)


def _planes(numbers: Sequence[int], width: int) -> bytes:
    return _transposed(array(WIDTHS[width], numbers).tobytes(), width)


def _column(planes: bytes, width: int) -> "array[int]":
    return array(WIDTHS[width], _untransposed(planes, width))


def _transposed(data: bytes, width: int) -> bytes:
    """Rows of `width` bytes as planes: the first byte of each row, then the second of each, and so on."""
    return b"".join([data[at::width] for at in range(width)]) if width != 1 else data


def _untransposed(planes: bytes, width: int) -> bytes:
    if width == 1:
        return planes
    rows, count = bytearray(len(planes)), len(planes) // width
    for at in range(width):
        rows[at::width] = planes[at * count : (at + 1) * count]
    return bytes(rows)
