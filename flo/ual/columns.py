"""Columns: arrays of numbers. They are converted from and to the bytes in files, and extended by numbers in equal steps.

Equal steps are made by arithmetic on all the numbers at once, in a tenth of the time of a loop: little-endian numbers side by side are one
large number, so start + step * (0, 1, 2, ...) is one multiplication and one addition of large numbers.
"""

import sys
from array import array
from typing import NamedTuple

COUNT_MAX = 8192  # numbers made in one go: more are not faster


class _Unit(NamedTuple):
    """For numbers of one size: 1, 1, 1, … and 0, 1, 2, …, each as one large number."""

    bits: int
    ones: int
    steps: int


def _unit(code: str) -> _Unit:
    steps = to_bytes(array(code, range(COUNT_MAX)))
    size = len(steps) // COUNT_MAX
    return _Unit(8 * size, int.from_bytes((b"\1" + bytes(size - 1)) * COUNT_MAX, "little"), int.from_bytes(steps, "little"))


_UNITS: dict[str, _Unit] = {}  # by the array's type code; made on first use


def extend(column: "array[int]", start: int, step: int, count: int) -> None:
    """Add `count` numbers to `column`: start, start + step, and so on. All of them must fit the column's type."""
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
