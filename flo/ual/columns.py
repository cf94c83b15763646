"""Columns: arrays of numbers, as they lie in files, and such as grow by one step.

The latter are made by whole-number arithmetic on all of them at once, a tenth of what a loop takes: little-endian numbers side by side are
one large number, and start + step * (0, 1, 2, ...) is one multiplication and one addition of such.
"""

import sys
from array import array
from typing import NamedTuple

COUNT_MAX = 8192  # numbers made in one go: more would not be faster


class _Unit(NamedTuple):
    """Of numbers of one size: 1, 1, 1, … and 0, 1, 2, … as one number each."""

    bits: int
    ones: int
    steps: int


def _unit(code: str) -> _Unit:
    steps = to_bytes(array(code, range(COUNT_MAX)))
    size = len(steps) // COUNT_MAX
    return _Unit(8 * size, int.from_bytes((b"\1" + bytes(size - 1)) * COUNT_MAX, "little"), int.from_bytes(steps, "little"))


_UNITS: dict[str, _Unit] = {}  # by the array's type code; made when they are first needed


def extend(column: "array[int]", start: int, step: int, count: int) -> None:
    """Add `count` numbers to `column`: start, start + step, and so on. All of them must fit it."""
    code = column.typecode
    bits, ones, steps = _UNITS.get(code) or _UNITS.setdefault(code, _unit(code))
    while count > 0:
        size = min(count, COUNT_MAX)
        mask = (1 << bits * size) - 1
        column += from_bytes(code, (start * (ones & mask) + step * (steps & mask)).to_bytes(bits // 8 * size, "little"))
        start += step * size
        count -= size


def to_bytes(column: "array[int]") -> bytes:
    """A column's bytes, little-endian."""
    if sys.byteorder != "little":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def from_bytes(code: str, data: bytes) -> "array[int]":
    """The column with these bytes."""
    column = array(code, data)
    if sys.byteorder != "little":
        column.byteswap()
    return column
