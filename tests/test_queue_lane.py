"""A queue's lane, the plain way: seqs that came, in an array, of which some have left, and a heap of those that came back."""

from array import array

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flo.store import queue as module
from flo.store.queue import DELAYED, LEASED, READY, QueueStore, attempts_of, kind_of

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
        self.dead: set[int] = set()

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
        self.store.lease(seq, NAME, 0, attempts, LATER)
        self.leased[seq] = attempts

    @precondition(lambda self: self.ready and not any(self.ready.values()))
    @rule(count=st.integers(1, 5), acknowledge=st.booleans())
    def lease_many(self, count: int, acknowledge: bool) -> None:
        lane = self.queue.lanes[0]
        if lane.back:
            return
        seqs = lane.next_seqs(count)
        assert seqs == sorted(self.ready)[: len(seqs)]
        assert seqs and (len(seqs) == count or len(seqs) == len(self.ready) or lane.left)
        for seq in seqs:
            del self.ready[seq]
        if acknowledge:
            self.store.take_all(len(seqs), self.queue, 0)
        else:
            self.store.lease_all(seqs, self.queue, 0, LATER)
            self.leased |= dict.fromkeys(seqs, 1)

    @precondition(lambda self: self.leased)
    @rule(data=st.data(), what=st.sampled_from(["back", "gone", "lapse", "die", "extend"]))
    def settle(self, data: st.DataObject, what: str) -> None:
        seq = data.draw(st.sampled_from(sorted(self.leased)))
        attempts = self.leased[seq]
        if what == "extend":
            self.store.lease(seq, NAME, 0, attempts, LATER + 1)
            return
        del self.leased[seq]
        if what == "back":
            self.store.back(seq, NAME, 0, attempts, 0)
            self.ready[seq] = attempts
        elif what == "lapse":
            state = self.store.state(seq)
            assert state is not None
            self.store.timers.remove(state >> module.DEADLINE_SHIFT, seq)
            self.store.ripen(seq)
            self.ready[seq] = attempts
        elif what == "die":
            self.store.die(seq, NAME, 0, attempts, 1)
            self.dead.add(seq)
        else:
            self.store.remove(seq, NAME)

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Of one that is ready: its payload was lost, or it was acknowledged after its lease."""
        seq = data.draw(st.sampled_from(sorted(self.ready)))
        del self.ready[seq]
        self.store.remove(seq, NAME)
        self.store.remove(seq, NAME)  # and there is nothing more of it

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        seq = data.draw(st.sampled_from(sorted(self.dead)))
        self.dead.remove(seq)
        self.store.back(seq, NAME, 0, 0, 0)
        self.ready[seq] = 0

    @rule(really=st.integers(0, 9))
    def purge(self, really: int) -> None:
        if really:  # seldom: what takes many steps must get its time
            return
        places = list(self.store.snapshot(self.queue))
        self.store.purge(NAME)
        assert not any(self.store.still_ready(seq, self.queue, lane) for seq, lane in places)
        while self.store.free(3):
            pass
        self.ready, self.leased, self.dead = {}, {}, set()

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
        untouched = queue.untouched
        assert untouched <= queue.counts[READY]
        own = module.QUEUE_BYTES + len(NAME) + module.FRESH_BYTES * untouched + module.DEAD_BYTES * len(self.dead)
        stated = len(self.ready) + len(self.leased) - untouched
        assert store.bytes == own + module.MESSAGE_BYTES * stated + module.TIMED_BYTES * len(self.leased)


LaneModel.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestLane = LaneModel.TestCase


def test_what_is_tried_again_and_again_leaves_nothing_behind() -> None:
    store = QueueStore()
    store.message(1, NAME, 0, 0)
    for attempt in range(1, 100):
        store.lease(1, NAME, 0, attempt, LATER)
        store.back(1, NAME, 0, attempt, 0)
    lane = store.open(NAME).lanes[0]
    assert (lane.back, lane.left, lane.untouched) == ([1], set(), 0)
