"""Deadlines and timers: everything is given out once it is due, no sooner, and nothing stays behind, whichever way the clock goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flo.store.deadlines import HOUR_SECONDS, SECOND_MS, Deadlines
from flo.store.timers import Timers
from tests.support.examples import examples

pytestmark = [pytest.mark.computes, pytest.mark.slow]

HOUR_MS = HOUR_SECONDS * SECOND_MS
# around the ends of hours, where a second's own hour and the one it is due in differ
TIMES = st.builds(lambda hour, ms: hour * HOUR_MS + ms, st.integers(1, 3), st.integers(-2100, 2100))


@examples(500)
@given(items=st.dictionaries(st.integers(0, 30), TIMES), steps=st.lists(TIMES, min_size=1, max_size=8))
def test_deadlines_give_out_what_is_due(items: dict[int, int], steps: list[int]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    for item, deadline in items.items():
        deadlines.add(deadline, item)
    left = dict(items)
    for now in steps:  # the wall clock goes either way
        while due := deadlines.due(now, 3):
            for item in due:
                assert left[item] < now, "not before its time"
                assert deadlines.remove(left.pop(item), item)
        following = deadlines.next_due()
        assert all(deadline // SECOND_MS >= now // SECOND_MS for deadline in left.values()), "at most a second late"
        assert (following is None) == (not left)
        assert following is None or following > now
    assert deadlines.count == len(left)


@examples(500)
@given(
    moves=st.lists(st.tuples(st.integers(0, 5), st.one_of(st.just(0), TIMES)), max_size=20),
    looks=st.lists(TIMES, min_size=1, max_size=8),
    limit=st.integers(1, 3),
)
def test_timers_give_out_each_item_once(moves: list[tuple[int, int]], looks: list[int], limit: int) -> None:
    """However often its deadline was moved away and back."""
    current: dict[int, int] = {}
    timers = Timers(lambda item: current.get(item, 0))
    for at, (item, deadline) in enumerate(moves):
        if current.get(item):
            timers.remove(current[item], item)
            current[item] = 0
        if deadline:
            current[item] = deadline
            timers.add(deadline, item)
        if at % 3 == 2:
            while timers.move(looks[0] - 10):
                pass
    for now in looks:
        while timers.move(now):
            pass
        given_out: list[tuple[int, int]] = []
        while due := timers.due(now, limit):
            for deadline, item in due:
                assert current[item] == deadline <= now
                given_out.append((deadline, item))
                current[item] = 0
        assert len(given_out) == len(set(given_out))
        assert all(deadline > now for deadline in current.values() if deadline)
        assert timers.quiet(now)
