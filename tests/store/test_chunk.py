"""Sealed chunks: what goes in comes out, exactly, and the summary is right."""

import math
import random
import struct
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.store.chunk import SUMMARY_BYTES, pack, summary_of, unpack

FINITE = st.floats(allow_nan=False, allow_infinity=False)
DECIMALS = st.integers(-(10**9), 10**9).map(lambda number: number / 1000)
TIMES = st.integers(-(1 << 50), 1 << 50)


def points(times: list[int], values: list[float]) -> tuple["array[int]", "array[float]"]:
    return array("q", times), array("d", values)


@settings(deadline=None)
@given(st.lists(TIMES, min_size=1, max_size=60, unique=True), st.data())
def test_round_trip(times: list[int], data: st.DataObject) -> None:
    times.sort()
    values = data.draw(
        st.lists(data.draw(st.sampled_from([FINITE, DECIMALS, st.integers(-9, 9).map(float)])), min_size=len(times), max_size=len(times))
    )
    made = pack(*points(times, values))
    columns = unpack(made)
    assert list(columns.times) == times
    back = [value / columns.divisor if columns.divisor else value for value in columns.values]
    assert struct.pack(f"<{len(back)}d", *back) == struct.pack(f"<{len(values)}d", *values), "to the bit: -0.0 too"
    summary = summary_of(made)
    assert (summary.start, summary.end, summary.points) == (times[0], times[-1], len(times))
    assert (summary.minimum, summary.maximum, summary.first, summary.last) == (min(values), max(values), values[0], values[-1])
    if all(abs(value) < 1e300 for value in values):
        assert math.isclose(summary.sum, math.fsum(values), rel_tol=1e-9, abs_tol=1e-9 * max(map(abs, values)))


@pytest.mark.parametrize("step", [1000, 7])
def test_a_gauge_is_small(step: int) -> None:
    chance = random.Random(1)
    times = array("q", range(0, 4096 * step, step))
    value, values = 50.0, array("d")
    for _ in times:
        value = round(min(max(value + chance.gauss(0, 0.5), 0), 100), 3)
        values.append(value)
    assert len(pack(times, values)) / len(times) < 2.2, "bytes a point"
    assert isinstance(unpack(pack(times, values)).times, range)
    uniform = array("d", [round(chance.uniform(0, 100), 3) for _ in times])
    assert len(pack(times, uniform)) / len(times) < 4
    constant = array("d", [21.5]) * len(times)
    assert len(pack(times, constant)) < SUMMARY_BYTES + 60


def test_times_with_gaps() -> None:
    times = array("q", [0, 1000, 2000, 90_000, 91_000])
    made = pack(times, array("d", [1, 2, 3, 4, 5]))
    assert list(unpack(made).times) == list(times) and unpack(made).divisor == 1
