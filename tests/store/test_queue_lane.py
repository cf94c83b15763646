"""A queue's lane, the plain way: seqs that came, in an array, of which some have left, and a heap of those that came back."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flo.engine import Engine
from flo.engine.queue import peek_job
from flo.store import queue as module
from flo.store.queue import DELAYED, LEASED, READY, QueueStore, attempts_of, kind_of
from tests.support.examples import examples

pytestmark = pytest.mark.computes

NAME = b"q"
LATER = 1 << 41


class LaneModel(RuleBasedStateMachine):
    """Records in any order, as a start may meet them, on a store and on a plain list of (seq, attempts) by what they are."""

    def __init__(self) -> None:
        super().__init__()
        self._trim_min, module.TRIM_MIN = module.TRIM_MIN, 3  # or no test would trim
        self.store = QueueStore()
        self.store.open(NAME)
        self.next = 1
        self.ready: dict[int, int] = {}  # seq -> attempts
        self.leased: dict[int, int] = {}
        self.dead: dict[int, int] = {}  # seq -> attempts
        self.bases: dict[int, int] = {}  # of those that are not dead

    def teardown(self) -> None:
        module.TRIM_MIN = self._trim_min

    @property
    def queue(self) -> module.Queue:
        return self.store.open(NAME)

    @rule(count=st.integers(1, 6), gap=st.integers(0, 3))
    def come(self, count: int, gap: int) -> None:
        self.next += gap
        seqs = array("Q", range(self.next, self.next + count))
        if count > 3:
            self.store.extend(NAME, 0, seqs)
        else:
            for seq in seqs:
                self.store.message(seq, NAME, 0, 0)
        self.ready |= dict.fromkeys(seqs, 0)
        self.next += count

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), first=st.booleans())
    def lease(self, data: st.DataObject, first: bool) -> None:
        """Of the first, as it is live, or of any, as a base's records come."""
        seq = min(self.ready) if first else data.draw(st.sampled_from(sorted(self.ready)))
        attempts = self.ready.pop(seq) + 1
        self.store.lease(seq, NAME, 0, attempts, LATER, self.bases.get(seq, 0))
        self.leased[seq] = attempts

    @precondition(lambda self: self.leased)
    @rule(data=st.data(), what=st.sampled_from(["back", "gone", "lapse", "die", "extend"]))
    def settle(self, data: st.DataObject, what: str) -> None:
        seq = data.draw(st.sampled_from(sorted(self.leased)))
        attempts = self.leased[seq]
        if what == "extend":
            self.store.lease(seq, NAME, 0, attempts, LATER + 1, self.bases.get(seq, 0))
            return
        del self.leased[seq]
        if what == "back":
            self.store.back(seq, NAME, 0, attempts, 0, self.bases.get(seq, 0))
            self.ready[seq] = attempts
        elif what == "lapse":
            state = self.store.state(seq)
            assert state is not None
            self.store.timers.remove(state >> module.DEADLINE_SHIFT, seq)
            self.store.ripen(seq)
            self.ready[seq] = attempts
        elif what == "die":
            self.store.die(seq, NAME, 0, attempts, 1)
            self.dead[seq] = attempts
            self.bases.pop(seq, None)
        else:
            self.store.remove(seq, NAME)
            self.bases.pop(seq, None)

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Of one that is ready: its payload was lost, or it was acknowledged after its lease."""
        seq = data.draw(st.sampled_from(sorted(self.ready)))
        del self.ready[seq]
        self.bases.pop(seq, None)
        self.store.remove(seq, NAME)
        self.store.remove(seq, NAME)  # and there is nothing more of it

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.dead)))
        attempts = self.ready[seq] = self.bases[seq] = self.dead.pop(seq)
        self.store.back(seq, NAME, 0, attempts, 0, attempts)

    @rule(really=st.integers(0, 9))
    def purge(self, really: int) -> None:
        if really:  # seldom: what takes many steps must get its time
            return
        places = list(self.store.snapshot(self.queue))
        self.store.purge(NAME)
        assert not [seq for seq, lane in places if self.store.still_ready(seq, self.queue, lane) is not None]
        while self.store.free(3):
            pass
        self.ready, self.leased, self.dead, self.bases = {}, {}, {}, {}

    @invariant()
    def same(self) -> None:
        store, queue = self.store, self.queue
        assert [(seq, attempts_of(state)) for seq, state in store.ready(queue)] == sorted(self.ready.items())
        seq, state = store.first(queue)
        assert seq == min(self.ready, default=0)
        assert not seq or (kind_of(state) != LEASED and attempts_of(state) == self.ready[seq])
        assert queue.ready == len(self.ready)
        assert queue.counts[LEASED] == len(self.leased) and not queue.counts[DELAYED]
        places = list(store.snapshot(queue))
        assert [seq for seq, lane in places if store.still_ready(seq, queue, lane) is not None] == sorted(self.ready)
        fresh = queue.fresh_count
        assert fresh <= queue.counts[READY]
        own = (
            module.QUEUE_BYTES
            + 2 * len(NAME)
            + module.LANE_BYTES * len(queue.lanes)
            + module.FRESH_BYTES * fresh
            + module.DEAD_BYTES * len(self.dead)
        )
        stated = len(self.ready) + len(self.leased) - fresh
        assert queue.bases == self.bases
        own += module.BASE_BYTES * len(self.bases)
        assert store.item_bytes == own + module.MESSAGE_BYTES * stated + module.TIMED_BYTES * len(self.leased)


LaneModel.TestCase.settings = settings(examples(300), stateful_step_count=40)
TestLane = LaneModel.TestCase


def test_what_is_tried_again_and_again_leaves_nothing_behind() -> None:
    store = QueueStore()
    store.message(1, NAME, 0, 0)
    for attempt in range(1, 100):
        store.lease(1, NAME, 0, attempt, LATER)
        store.back(1, NAME, 0, attempt, 0)
    lane = store.open(NAME).lanes[0]
    assert (lane.back, lane.taken, lane.stale, lane.fresh_count) == ([1], set(), set(), 0)


def lapse(store: QueueStore, seq: int) -> None:
    """Its lease has run out."""
    store.timers.remove(LATER, seq)
    store.ripen(seq)


@pytest.mark.parametrize("how", ["given back late", "extended late"])
def test_what_leaves_from_behind_another_and_comes_back_is_there_once(how: str) -> None:
    store = QueueStore()
    for seq in (1, 2, 3):
        store.message(seq, NAME, 0, 0)
        store.lease(seq, NAME, 0, 1, LATER)
    store.back(1, NAME, 0, 1, 0)
    for round_ in range(100):
        lapse(store, 2)
        if how == "given back late":
            store.back(2, NAME, 0, 1, 0)
        if not round_:
            store.back(3, NAME, 0, 1, 0)  # behind it: it is neither the heap's first nor its last
        store.lease(2, NAME, 0, 1, LATER)
    queue = store.open(NAME)
    assert sorted(queue.lanes[0].back) == [1, 2, 3]
    assert [seq for seq, _ in store.ready(queue)] == [1, 3]


@pytest.mark.parametrize("order", [range(1, 1001), range(1000, 0, -1), [*range(1, 1001, 2), *range(2, 1001, 2)], [*range(2, 1001), 1]])
def test_what_is_acknowledged_after_its_lease_is_not_kept(order: Sequence[int]) -> None:
    store = QueueStore()
    store.extend(NAME, 0, array("Q", range(1, 1001)))
    for seq in range(1, 1001):
        store.lease(seq, NAME, 0, 1, LATER)
    for seq in range(1, 1001):
        lapse(store, seq)
    for seq in order:
        store.remove(seq, NAME)
    lane = store.open(NAME).lanes[0]
    store.first(store.open(NAME))
    assert (lane.back, lane.stale, store.item_bytes) == ([], set(), module.QUEUE_BYTES + 2 * len(NAME) + module.LANE_BYTES)


def test_an_empty_lane_gives_its_memory_back() -> None:
    store = QueueStore()
    store.extend(NAME, 0, array("Q", range(1, 1001)))
    queue = store.open(NAME)
    for seq in range(1, 1001):
        store.remove(seq, NAME)
    assert not queue.lanes[0].fresh
    store.message(2000, NAME, 0, 0)
    assert store.first(queue)[0] == 2000


def test_a_look_at_what_is_flushed_meanwhile_ends(tmp_path: Path) -> None:
    with Engine(str(tmp_path)) as engine:
        engine.queues.enqueue_many(NAME, [b"%d" % number for number in range(9000)])
        for flushed_after in (1, 3):
            job = peek_job(engine.queues, NAME, 0, 5000)
            for _ in range(flushed_after):
                next(job)
            engine.flush([engine.namespace("default")])
            engine.compact()
            with pytest.raises(StopIteration) as end:
                while True:
                    next(job)
            assert len(end.value.value) <= 256 * flushed_after  # what was read before
            assert not engine.queues.peek(NAME)
            engine.queues.enqueue_many(NAME, [b"%d" % number for number in range(9000)])


def test_the_first_of_many_is_found_without_going_over_those_before() -> None:
    """Half a million that have left cost nothing: the offsets looked at are few."""
    store = QueueStore()
    store.extend(NAME, 0, array("Q", range(1, 10_001)))
    queue = store.open(NAME)
    for seq in range(1, 4_001):
        store.remove(seq, NAME)
    lane = queue.lanes[0]
    assert lane.at == 4_000
    lane.fresh = Counted("Q", lane.fresh)
    Counted.looks = 0
    assert next(store.ready(queue)) == (4_001, lane.plain)
    assert Counted.looks == 1


class Counted(array):  # type: ignore[type-arg]
    """An array that counts how often one of its items is asked for."""

    looks = 0

    def __getitem__(self, place: Any) -> Any:
        Counted.looks += 1
        return super().__getitem__(place)

    def __iter__(self) -> Any:
        raise AssertionError("gone over")


def test_messages_whose_payload_was_lost_are_found_whatever_happened_to_them(tmp_path: Path) -> None:
    with Engine(str(tmp_path)) as engine:
        leased, ready, dead = (engine.queues.enqueue(NAME, b"payload") for _ in range(3))
        engine.queues.dequeue(NAME, 1)
        engine.queues.store.die(dead, NAME, 0, 1, 1)
        found = sorted(lost.sentence for _, lost in engine.lost(lambda _: False))
        assert found == [f"message {seq} of queue {NAME!r}" for seq in (leased, ready, dead)]
        assert [lost.sentence for _, lost in engine.lost(lambda seq: seq != ready)] == [f"message {ready} of queue {NAME!r}"]
