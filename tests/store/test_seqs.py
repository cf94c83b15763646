"""A sorted set of indexes against Python's set."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flo.store import seqs as module
from flo.store.seqs import Seqs

Step = tuple[str, int]


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(module, "BLOCK", 4)
    patch.setattr(module, "FRONT", 3)
    yield
    patch.undo()


@given(st.lists(st.tuples(st.sampled_from(["add", "next", "next", "remove", "first", "look"]), st.integers(1, 60)), max_size=200))
def test_it_is_a_sorted_set(steps: list[Step]) -> None:
    made, plain, top = Seqs(), set[int](), 60
    for what, seq in steps:
        if what == "next":
            top += 1
            what, seq = "add", top
        if what == "add":
            assert made.add(seq) == (seq not in plain)
            plain.add(seq)
        elif what == "remove":
            assert made.remove(seq) == (seq in plain)
            plain.discard(seq)
        elif what == "first" and plain:
            first = min(plain)
            assert made.first() == first and made.remove(first)
            plain.remove(first)
        else:
            assert (seq in made) == (seq in plain)
            assert list(made.before(seq)) == sorted((each for each in plain if each < seq), reverse=True)
            assert list(made.after(seq)) == sorted(each for each in plain if each > seq)
        assert len(made) == len(plain) and made.first() == min(plain, default=0)
    assert list(made.after(0)) == sorted(plain) == list(made.before(1 << 63))[::-1]
