"""The histogram of waits: buckets that do not overlap, quantiles that are right to a quarter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flo.waits import BUCKETS, FINE_USEC, Waits, bucket_of, end_of

pytestmark = pytest.mark.computes


@given(st.integers(0, 1 << 45))
def test_a_length_is_in_its_bucket(micros: int) -> None:
    """And a bucket is a quarter of what it begins with at most."""
    bucket = bucket_of(micros)
    assert 0 <= bucket < BUCKETS
    if micros < 1 << 40:
        assert micros <= end_of(bucket) <= micros * 1.25 + 1
        assert bucket == 0 or end_of(bucket - 1) < micros


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=200), st.floats(0.01, 1))
def test_quantiles(lengths: list[int], share: float) -> None:
    """Not below what they are, and not far above."""
    waits = Waits()
    for length in lengths:
        waits.add(length / 1e6 + 1e-9, 1)
    exact = sorted(lengths)[max(0, -(-len(lengths) * share // 1).__int__() - 1)]
    assert exact <= waits.quantile(share) + 1
    assert waits.quantile(share) <= max(exact * 1.25 + 1, exact + FINE_USEC)
    assert abs(waits.longest - max(lengths)) <= 1
    assert all(count == sum(length < usec for length in lengths) for usec, count in waits.under())
    assert abs(waits.seconds * 1e6 - sum(lengths)) <= sum(max(length / 8, FINE_USEC / 2) + 1 for length in lengths)
    waits.clear()
    assert (waits.count, waits.quantile(share), waits.longest) == (0, 0, 0)
