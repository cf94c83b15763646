"""Queues against a plain model, with restarts, crashes and moved clocks: nothing lost, nothing held by two, nothing acknowledged
twice, order by (priority, seq), attempts exact, no receipt given out twice; and what
the liveness rule keeps is enough to rebuild them."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from flo.engine import Engine, EngineSettings
from flo.engine import queue as engine_queue
from flo.engine.queue import Message
from flo.errors import BadRequest
from flo.store.queue import ATTEMPTS_MAX, DEDUP_MS, LEASE_MS, Queue, attempts_of, deadline_of, kind_of, priority_of, queue_of
from flo.ual.record import QUEUE_BACK, U64, Record, container
from tests.support.restarts import RestartModel
from tests.support.totals import check_totals

pytestmark = pytest.mark.computes

NAMES = st.sampled_from([b"a", b"b", b""])


@dataclass
class Item:
    """A message, as it should be."""

    queue: bytes
    payload: bytes
    priority: int
    time: int
    state: str  # ready, delayed, leased, lapsed, dead
    attempts: int = 0
    base: int = 0  # attempts when it was last put back from the dead letters
    deadline: int = 0
    died: int = 0
    recorded: tuple[str, int] | None = None  # its state and deadline before it ran out, which no record says

    def become(self, state: str, deadline: int = 0) -> None:
        """A record says so."""
        self.state, self.deadline, self.recorded = state, deadline, None

    def run_out(self, now: int) -> bool:
        """Its lease or delay ran out, which only memory knows; returns whether it did."""
        if self.state not in ("delayed", "leased") or self.deadline > now:
            return False
        self.recorded = self.state, self.deadline
        self.state, self.deadline = ("ready" if self.state == "delayed" else "lapsed"), 0
        return True

    def forget(self, now: int) -> bool:
        """Memory is made anew from the records; returns whether what ran out has time again."""
        if self.recorded is None or self.recorded[1] <= now:
            return False
        self.become(*self.recorded)
        return True

    def is_spent(self, limit: int) -> bool:
        return 0 < limit <= self.attempts - self.base


def snapshot(engine: Engine) -> Any:
    """Everything that must be the same after a rebuild, once time has done what it has to."""
    store = engine.queues.store
    while engine.queues.sweep():
        pass
    messages = {
        seq: (kind_of(s), priority_of(s), attempts_of(s), deadline_of(s), store.numbers[queue_of(s)].name)
        for shard in store.shards
        for seq, s in shard.items()
        if queue_of(s) in store.numbers
    }

    lifetimes = store.lifetimes.by_name

    def queue(q: Queue) -> Any:
        ready = [(seq, kind_of(state), priority_of(state), attempts_of(state)) for seq, state in store.ready(q)]
        return (
            q.lease,
            q.attempts_max,
            q.counts,
            list(q.dead.items()),
            q.evicted,
            dict(q.dedup),
            dict(q.bases),
            ready,
            lifetimes.get(q.name),
        )

    shown = {name: queue(q) for name, q in store.queues.items() if not q.empty or q.dedup or engine.queues.exists(name)}
    return messages, shown


class QueueModel(RestartModel):
    """Every operation, on the engine and on the model."""

    PASSES: ClassVar = [1, 400, 1000, 31_000, 301_000]

    @initialize()
    def open(self) -> None:
        self.items: dict[int, Item] = {}
        self.dedup: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        self.limits: dict[bytes, tuple[int, int]] = {}  # queue -> (lease, attempts)
        self.paused: set[bytes] = set()
        self.deadlines: dict[bytes, int] = {}  # of queues
        self.receipts: list[tuple[bytes, int, int]] = []
        self.given: set[tuple[int, int]] = set()  # (seq, attempt) of every delivery
        self.begin()

    # -- the model ---------------------------------------------------------------------------------

    def _now(self) -> int:
        """The time now, and what it has done."""
        for name in [name for name, deadline in self.deadlines.items() if deadline <= self.wall]:
            assert not self.engine.queues.exists(name)
            self._drop(name)
        for item in self.items.values():
            limit = self.limits.get(item.queue, (LEASE_MS, 5))[1]
            if item.run_out(self.wall) and item.state == "lapsed" and item.is_spent(limit):
                item.become("dead")
                item.died = self.wall
        self.dedup = {key: (seq, until) for key, (seq, until) in self.dedup.items() if until > self.wall}
        return self.wall

    def _drop(self, name: bytes) -> None:
        """All of a queue is gone."""
        self.items = {seq: item for seq, item in self.items.items() if item.queue != name}
        self.limits.pop(name, None)
        self.paused.discard(name)
        self.deadlines.pop(name, None)
        self.dedup = {key: value for key, value in self.dedup.items() if key[0] != name}

    def _fill(self, name: bytes) -> None:
        """A message comes: a queue that has run empty forgets its deadline."""
        if all(item.queue != name or item.state == "dead" for item in self.items.values()):
            self.deadlines.pop(name, None)

    def _ready(self, name: bytes) -> list[int]:
        found = [(item.priority, seq) for seq, item in self.items.items() if item.queue == name and item.state in ("ready", "lapsed")]
        return [seq for _, seq in sorted(found)]

    def _dead(self, name: bytes) -> list[int]:
        return sorted(
            (seq for seq, item in self.items.items() if item.queue == name and item.state == "dead"), key=lambda s: self.items[s].died
        )

    def _stands(self, name: bytes, seq: int, attempt: int) -> bool:
        item = self.items.get(seq)
        return bool(item and item.queue == name and item.state in ("leased", "lapsed") and attempt in (0, item.attempts))

    # -- operations --------------------------------------------------------------------------------

    @rule(
        name=NAMES,
        priority=st.sampled_from([0, 0, 0, 1, 255]),
        delay=st.sampled_from([0, 0, 1, 700, 40_000]),
        key=st.sampled_from([None, None, b"x", b""]),
    )
    def enqueue(self, name: bytes, priority: int, delay: int, key: bytes | None) -> None:
        now = self._now()
        payload = b"%d" % len(self.items)
        known = self.dedup.get((name, key)) if key is not None else None
        self._fill(name)
        seq = self.engine.queues.enqueue(name, payload, priority=priority, delay=delay, dedup=key)
        if known:
            assert seq == known[0]
            return
        assert seq not in self.items
        if key is not None:
            self.dedup[(name, key)] = (seq, now + DEDUP_MS)
        self.items[seq] = Item(name, payload, priority, now, "delayed" if delay else "ready", deadline=now + delay if delay else 0)

    @rule(name=NAMES, count=st.integers(1, 4))
    def push(self, name: bytes, count: int) -> None:
        now = self._now()
        self._fill(name)
        first = self.engine.log.next_index
        ready = self.engine.queues.enqueue_many(name, [b"p%d" % at for at in range(count)])
        # the stamp of something that ran out may have been a record of its own before
        seqs = range(self.engine.log.next_index - count, self.engine.log.next_index)
        assert seqs[0] >= first
        for at, seq in enumerate(seqs):
            self.items[seq] = Item(name, b"p%d" % at, 0, now, "ready")
        assert ready == len(self._ready(name))

    @rule(name=NAMES, count=st.integers(1, 3), lease=st.sampled_from([None, 1, 500, 60_000]), acknowledge=st.booleans())
    def dequeue(self, name: bytes, count: int, lease: int | None, acknowledge: bool) -> None:
        now = self._now()
        expected = self._ready(name)[:count] if name not in self.paused else []
        found = self.engine.queues.dequeue(name, count, lease=lease, acknowledge=acknowledge)
        assert [m.seq for m in found] == expected
        for message in found:
            item = self.items[message.seq]
            item.attempts += 1
            assert (message.seq, message.attempts) not in self.given
            self.given.add((message.seq, message.attempts))
            assert message == Message(message.seq, item.priority, item.attempts, item.time, item.payload)
            if acknowledge:
                del self.items[message.seq]
                continue
            own = self.limits.get(name, (LEASE_MS, 5))[0]
            item.become("leased", now + (own if lease is None else lease))
            self.receipts.append((name, message.seq, item.attempts))

    @precondition(lambda self: bool(getattr(self, "receipts", None)))
    @rule(
        data=st.data(),
        what=st.sampled_from(["ack", "ack", "nack", "nack", "touch"]),
        delay=st.sampled_from([0, 0, 600]),
        dead=st.booleans(),
    )
    def use(self, data: st.DataObject, what: str, delay: int, dead: bool) -> None:
        """Acknowledge, give back or extend by a receipt, old or new, once or twice."""
        now = self._now()
        name, seq, attempt = data.draw(st.sampled_from(self.receipts))
        name = data.draw(st.sampled_from([name, name, name, b"b"]))
        attempt = data.draw(st.sampled_from([attempt, attempt, 0, attempt + 1]))
        stands = self._stands(name, seq, attempt)
        queues, receipts = self.engine.queues, [(seq, attempt)] * data.draw(st.integers(1, 2))
        item = self.items.get(seq)
        if what == "ack":
            assert queues.ack(name, receipts) == stands
            if stands:
                del self.items[seq]
        elif what == "touch":
            lease = delay or None
            assert queues.touch(name, receipts, lease) == stands
            if stands and item:
                item.become("leased", now + (lease or self.limits.get(name, (LEASE_MS, 5))[0]))
        else:
            assert queues.nack(name, receipts, delay=delay, dead=dead) == stands
            if stands and item:
                limit = self.limits.get(name, (LEASE_MS, 5))[1]
                if dead or item.is_spent(limit):
                    item.become("dead")
                    item.died = now
                else:
                    item.become("delayed" if delay else "ready", now + delay if delay else 0)

    @rule(name=NAMES, lease=st.sampled_from([None, 1000, LEASE_MS]), attempts=st.sampled_from([None, 0, 1, 2]))
    def configure(self, name: bytes, lease: int | None, attempts: int | None) -> None:
        self._now()
        self.engine.queues.configure(name, lease=lease, max_attempts=attempts)
        old = self.limits.get(name, (LEASE_MS, 5))
        self.limits[name] = (old[0] if lease is None else lease, old[1] if attempts is None else attempts)
        for item in self.items.values():
            if attempts and item.queue == name and item.state == "lapsed" and item.is_spent(attempts):
                item.become("dead")
                item.died = self.wall

    @rule(name=NAMES, paused=st.booleans())
    def pause(self, name: bytes, paused: bool) -> None:
        self.engine.queues.pause(name, paused)
        (self.paused.add if paused else self.paused.discard)(name)
        assert self.engine.queues.stats(name)["paused"] == paused

    @rule(name=NAMES, data=st.data(), requeue=st.booleans())
    def dead_letters(self, name: bytes, data: st.DataObject, requeue: bool) -> None:
        self._now()
        dead = self._dead(name)
        shown = self.engine.queues.dead_letters(name)
        assert sorted(m.seq for m in shown) == sorted(dead)
        assert [(m.time, m.attempts) for m in shown] == [(self.items[m.seq].died, self.items[m.seq].attempts) for m in shown]
        chosen = data.draw(st.lists(st.sampled_from([*dead, 999_999]), max_size=3))
        there = {seq for seq in chosen if seq in dead}
        if requeue:
            assert self.engine.queues.requeue(name, chosen) == len(there)
            for seq in there:
                item = self.items[seq]
                item.become("ready")
                item.base = item.attempts
        else:
            assert self.engine.queues.delete_dead(name, chosen) == len(there)
            for seq in there:
                del self.items[seq]

    @rule(name=NAMES, delete=st.booleans())
    def purge(self, name: bytes, delete: bool) -> None:
        self._now()
        gone = [seq for seq, item in self.items.items() if item.queue == name and (delete or item.state != "dead")]
        if delete:
            there = bool(gone) or self._configured(name)
            assert self.engine.queues.delete(name) == there
            if there:
                self._drop(name)
        else:
            assert self.engine.queues.purge(name) == len(gone)
            for seq in gone:
                del self.items[seq]

    @rule(name=NAMES, ms=st.sampled_from([-5, 1, 800, 40_000, None]))
    def expire(self, name: bytes, ms: int | None) -> None:
        now, queues = self._now(), self.engine.queues
        there = self._configured(name) or any(item.queue == name for item in self.items.values())
        if ms is None:
            assert queues.persist(name) == (there and name in self.deadlines)
            if there:
                self.deadlines.pop(name, None)
        else:
            assert queues.expire_at(name, now + ms) == there
            if there and ms < 0:
                self._drop(name)
            elif there:
                self.deadlines[name] = now + ms

    def _configured(self, name: bytes) -> bool:
        queue = self.engine.queues.store.find(name)
        return queue is not None and (queue.lease, queue.attempts_max, queue.paused) != (0xFFFFFFFF, 0xFFFFFFFF, False)

    # -- time and restarts -------------------------------------------------------------------------

    def snapshot(self, engine: Engine) -> Any:
        return snapshot(engine)

    def look(self, ms: int, data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            self._now()
            self.engine.queues.ready_count(b"a")

    def last_snapshot(self) -> Any:
        self._now()
        self.engine.tick()
        last = super().last_snapshot()
        self.engine.commit()
        return last

    def forget(self, wall: int) -> bool:
        """What ran out may have time again, and the new time may bring more."""
        again = [item.forget(self.wall) for item in self.items.values()]
        return any(again) or self.wall > wall

    # -- what must always hold ---------------------------------------------------------------------

    def agree(self) -> None:
        self._now()
        check_totals(self.engine)
        for name in (b"a", b"b", b""):
            queues = self.engine.queues
            stats = queues.stats(name)
            count = {
                state: sum(i.queue == name and i.state == state for i in self.items.values()) for state in ("delayed", "leased", "dead")
            }
            assert (stats["delayed"], stats["leased"], stats["dead"]) == (count["delayed"], count["leased"], count["dead"])
            expected = self._ready(name)
            assert [m.seq for m in queues.peek(name, 1000)] == expected
            assert stats["ready"] == len(expected) == queues.ready_count(name)
            there = self._configured(name) or any(item.queue == name for item in self.items.values())
            assert queues.deadline(name) == (self.deadlines.get(name, 0) if there else None)
            for message in queues.peek(name, 1000):
                item = self.items[message.seq]
                assert (message.attempts, message.payload) == (item.attempts, item.payload)


TestQueueModel = pytest.mark.slow(QueueModel.TestCase)
TestQueueModel.settings = settings(max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.long
class TestQueueModelLong(QueueModel.TestCase):  # type: ignore[misc, valid-type]
    """The same, for longer."""

    settings = settings(max_examples=1500, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))


def test_dead_letters_are_bounded_and_counted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_queue, "DEAD_LETTERS_MAX", 5)
    with Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16)) as engine:
        queues = engine.queues
        for _ in range(8):
            queues.enqueue(b"q", b"x")
        taken = queues.dequeue(b"q", 8)
        assert queues.nack(b"q", [(m.seq, m.attempts) for m in taken], dead=True) == 8
        assert [m.seq for m in queues.dead_letters(b"q")] == [m.seq for m in taken[3:]]
        assert queues.stats(b"q")["dead_evicted"] == 3
    with Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16)) as engine:
        assert engine.queues.stats(b"q")["dead_evicted"] == 3
        assert len(engine.queues.dead_letters(b"q")) == 5


def test_an_old_receipt_does_not_count_after_a_return_from_the_dead_letters(tmp_path: Path) -> None:
    """Over compactions and restarts; and its failures are counted anew."""
    engine = Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16))
    engine.queues.configure(b"q", max_attempts=2)
    seq = engine.queues.enqueue(b"q", b"x")
    old: list[tuple[int, int]] = []
    for _ in range(3):
        for failure in range(2):
            (message,) = engine.queues.dequeue(b"q")
            receipt = (message.seq, message.attempts)
            assert message.seq == seq and receipt not in old
            assert engine.queues.ack(b"q", old) == engine.queues.nack(b"q", old) == engine.queues.touch(b"q", old) == 0
            assert sum(engine.queues.ack(b"q", [each]) for each in old) == 0
            old.append(receipt)
            assert not engine.queues.dead_letters(b"q"), f"failure {failure} since it was put back"
            assert engine.queues.nack(b"q", [receipt]) == 1
            engine.compact(tail=bool(failure))
            engine.close()
            engine = Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16))
        assert [letter.attempts for letter in engine.queues.dead_letters(b"q")] == [len(old)]
        engine.queues.purge(b"q")
        assert engine.queues.requeue(b"q", [seq]) == 1
    assert [m.attempts for m in engine.queues.peek(b"q")] == [6]
    (message,) = engine.queues.dequeue(b"q")
    assert engine.queues.ack(b"q", [(seq, 7)]) == 1
    assert not engine.queues.store.queues[b"q"].bases
    engine.close()


def test_a_message_that_a_receipt_cannot_count_further_is_a_dead_letter(tmp_path: Path) -> None:
    """Even where the queue has no limit: another delivery would have a receipt that was given before."""
    with Engine(str(tmp_path)) as engine:
        queues = engine.queues
        queues.configure(b"q", max_attempts=0)
        seq = queues.enqueue(b"q", b"x")
        entity, state = container(b"q") + U64.pack(seq), struct.pack("<BIQ", 0, ATTEMPTS_MAX - 1, 0)
        with engine.batch():
            engine.write(Record(QUEUE_BACK, 0, engine.now, entity, state, 0, (seq,)))
        (last,) = queues.dequeue(b"q")
        assert last.attempts == ATTEMPTS_MAX
        assert queues.nack(b"q", [(seq, ATTEMPTS_MAX)]) == 1
        assert not queues.dequeue(b"q")
        assert [letter.attempts for letter in queues.dead_letters(b"q")] == [ATTEMPTS_MAX]
        with pytest.raises(BadRequest, match="put its payload in again"):
            queues.requeue(b"q", [seq])
        assert queues.delete_dead(b"q", [seq]) == 1


def test_a_purge_frees_what_a_requeue_left(tmp_path: Path) -> None:
    with Engine(str(tmp_path)) as engine:
        queues = engine.queues
        before = queues.store.item_bytes
        seq = queues.enqueue(b"q", b"x")
        queues.dequeue(b"q")
        queues.nack(b"q", [(seq, 1)], dead=True)
        queues.requeue(b"q", [seq])
        queues.purge(b"q")
        while engine.upkeep(True):
            pass
        queues.delete(b"q")
        queues.store.drop(b"q")
        assert (queues.store.item_bytes, queues.store.garbage) == (before, [])
