"""A walk over all keys, as SCAN has it: it visits every key that is there throughout, and ends, whatever others do."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flo.engine import Engine
from flo.engine.kv import CURSOR_MAX, CURSORS_MAX, KeyValue
from flo.engine.operation import run_job
from flo.store.ordered import LEAF_KEYS, OrderedKeys
from tests.support.examples import examples

pytestmark = pytest.mark.computes


@pytest.fixture
def kv(tmp_path: Path) -> Iterator[KeyValue]:
    with Engine(str(tmp_path)) as engine, engine.batch():
        yield engine.kv


def pages(kv: KeyValue, prefix: bytes = b"", count: int = 10) -> Iterator[list[bytes]]:
    """The pages of one walk, a call each."""
    cursor = 0
    while True:
        keys, cursor = run_job(kv.walk_job(prefix, cursor, count))
        assert 0 <= cursor < CURSOR_MAX
        yield keys
        if not cursor:
            return


def put(kv: KeyValue, names: list[bytes]) -> None:
    for name in names:
        kv.put(name, b"")


@pytest.mark.parametrize("count", [1, 2, 7, 10, 1000, 10_000])
def test_each_key_comes_once_where_nothing_is_written(kv: KeyValue, count: int) -> None:
    names = [b"%s:%d" % (kind, number) for kind in (b"a", b"user", b"z") for number in range(1500)]
    put(kv, names)
    for prefix in (b"", b"user:", b"user:77", b"nothing"):
        found = list(pages(kv, prefix, count))
        assert sorted(key for page in found for key in page) == sorted(name for name in names if name.startswith(prefix))
        # keys of one place come together; so few do in a leaf of a thousand
        assert max(map(len, found)) <= max(count, 8)
        if count <= 10 and prefix == b"":
            assert len(found) < 1.7 * len(names) / count + 1


def test_keys_of_one_place_come_together(kv: KeyValue) -> None:
    """As keys that somebody has made for it: the page is as long as a leaf at most."""
    from zlib import crc32

    names = [name for number in range(400_000) if crc32(name := b"k%d" % number) & 1023 == 5]
    put(kv, names)
    found = list(pages(kv, count=10))
    assert max(map(len, found)) <= 2 * LEAF_KEYS and sorted(key for page in found for key in page) == sorted(names)


# What happens between two pages of a walk: keys added or deleted, together in one place of the order, so that leaves split and go.
CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "delete"]), st.integers(0, 999), st.integers(1, 60), st.sampled_from([1, -1])), max_size=6
)


@examples(60)
@given(turns=st.lists(CHANGES, min_size=1, max_size=25), count=st.sampled_from([1, 3, 20]), prefix=st.sampled_from([b"", b"0", b"05"]))
def test_what_is_there_throughout_is_visited_whatever_is_written(
    turns: list[list[tuple[str, int, int, int]]], count: int, prefix: bytes
) -> None:
    alive: dict[bytes, None] = {}
    ordered = OrderedKeys(alive.__contains__)

    def change(what: str, at: int, many: int, step: int) -> None:
        for number in range(at, at + many * step, step):
            name = b"%04d" % (number % 1000)
            if what == "add" and name not in alive:
                alive[name] = None
                ordered.fresh.append(name)
            elif what == "delete":
                alive.pop(name, None)

    change("add", 0, 600, 1)
    throughout = {name for name in alive if name.startswith(prefix)}
    seen: set[bytes] = set()
    position = (b"", 0)
    for at in range(5000):
        for each in turns[at % len(turns)] if at < 200 else ():
            change(*each)
        throughout &= alive.keys()
        while ordered.waiting:
            ordered.fold()
        found, following = ordered.walk(prefix, position, count)
        assert all(name.startswith(prefix) for name in found)
        seen.update(found)
        if following is None:
            break
        position = following
    else:
        pytest.fail("the walk did not end")
    assert throughout <= seen


@pytest.fixture
def small_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flo.store.ordered.LEAF_KEYS", 4)


@pytest.mark.usefixtures("small_leaves")
class TestWithSmallLeaves:
    """The same, where nearly every change splits a leaf or removes one."""

    test_what_is_there_throughout_is_visited_whatever_is_written = staticmethod(
        test_what_is_there_throughout_is_visited_whatever_is_written
    )


def test_a_slow_walk_ends_while_others_scan_and_add(kv: KeyValue) -> None:
    """Between two of its pages, others make more positions than are kept, and add more keys at the end than a page has."""
    names = [b"%08d" % number for number in range(2000)]
    put(kv, names)
    seen: set[bytes] = set()
    calls, end = 0, len(names)
    for page in pages(kv):
        calls += 1
        seen.update(page)
        if calls % 100 == 1:  # 12,000 positions
            for _ in range(6):
                assert sum(1 for _ in pages(kv, count=1)) > 1000
        put(kv, [b"%08d" % number for number in range(end, end + 20)])
        end += 20
    assert calls < 1000 and set(names) <= seen
    assert len(kv.cursors._bounds) <= CURSORS_MAX + 2 * kv.store.ordered.leaf_count


def test_numbers_that_are_pushed_out_start_over(kv: KeyValue) -> None:
    first = kv.cursors.number((b"a", 3), 1)
    assert kv.cursors.position(first) == (b"a", 3)
    for number in range(CURSORS_MAX + 2):
        kv.cursors.number((b"b%d" % number, 0), 0)
    assert kv.cursors.position(first) == kv.cursors.position(12345) == (b"", 0)
    accounted = kv.cursors.accounted
    kv.cursors.number((b"b5", 7), 0)
    assert kv.cursors.accounted == accounted


def test_a_cursor_of_another_pattern_or_of_nothing_is_harmless(kv: KeyValue) -> None:
    put(kv, [b"%04d" % number for number in range(2000)])
    rng = random.Random(5)
    for _ in range(200):
        keys, cursor = run_job(kv.walk_job(b"%d" % rng.randrange(10), rng.randrange(CURSOR_MAX), 10))
        assert len(keys) <= 12
        run_job(kv.walk_job(b"", cursor, 10))
