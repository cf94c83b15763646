"""The totals of the stores beside a walk, on queues and streams that are empty again and again: the models rarely empty one."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from flo.engine import Bounds, Engine
from flo.engine.queue import Receipt
from flo.store import queue as queue_store
from flo.store.stream import Stream
from tests.support.totals import check_totals


@pytest.mark.parametrize("seed", range(3))
def test_totals_of_queues_that_are_often_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(queue_store, "DOUBTFUL_MAX", seed)  # of the queues in doubt, none, one or two are looked at later
    chance, now = random.Random(seed), 1_700_000_000_000
    with Engine(str(tmp_path), clock=lambda: now) as engine:
        queues = engine.queues
        seen = set()
        operations: list[Callable[[bytes, list[Receipt], list[int]], object]] = [
            lambda name, receipts, dead: queues.enqueue(name, b"x", priority=chance.choice([0, 0, 9]), delay=chance.choice([0, 0, 5])),
            lambda name, receipts, dead: queues.enqueue_many(name, [b"x"] * chance.randint(1, 3)),
            lambda name, receipts, dead: queues.dequeue(name, 9, acknowledge=True),
            lambda name, receipts, dead: queues.ack(name, receipts),
            lambda name, receipts, dead: queues.ack(name, receipts),
            lambda name, receipts, dead: queues.nack(name, receipts, delay=chance.choice([0, 5])),
            lambda name, receipts, dead: queues.nack(name, receipts, dead=True),
            lambda name, receipts, dead: queues.requeue(name, dead),
            lambda name, receipts, dead: queues.delete_dead(name, dead),
            lambda name, receipts, dead: queues.configure(name, max_attempts=3),
            lambda name, receipts, dead: queues.purge(name),
            lambda name, receipts, dead: queues.delete(name),
        ]
        for _ in range(400):
            name = chance.choice([b"a", b"b", b"c", b"d"])
            taken = queues.dequeue(name, chance.randint(0, 3), lease=chance.choice([1, 30_000]))
            receipts = [message.receipt for message in taken]
            dead = [message.seq for message in queues.dead_letters(name)[:2]]
            chance.choice(operations)(name, receipts, dead)
            now += chance.choice([0, 1, 10])
            check_totals(engine)
            seen.add(engine.counts()["queues"])
        assert len(seen) > 2


def test_a_queue_is_counted_no_longer_when_its_last_message_is_gone(tmp_path: Path) -> None:
    with Engine(str(tmp_path)) as engine:
        queues = engine.queues
        for leave in (
            lambda: queues.dequeue(b"q", acknowledge=True),
            lambda: queues.ack(b"q", [message.receipt for message in queues.dequeue(b"q")]),
            lambda: queues.purge(b"q"),
            lambda: queues.delete(b"q"),
        ):
            queues.enqueue(b"q", b"x")
            assert (engine.counts()["queues"], queues.names()) == (1, [b"q"])
            leave()
            assert (engine.counts()["queues"], queues.names()) == (0, [])


@pytest.mark.parametrize("seed", range(3))
def test_totals_of_streams_that_are_often_empty(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with Engine(str(tmp_path)) as engine:
        streams, groups = engine.streams, engine.streams.groups
        operations: list[Callable[[bytes, list[int], Stream | None], object]] = [
            lambda name, ids, stream: streams.append(name, b"x" * chance.randint(0, 9)),
            lambda name, ids, stream: streams.append(name, b"x"),
            lambda name, ids, stream: streams.trim(name, Bounds(max_len=chance.randint(0, 2))),
            lambda name, ids, stream: streams.delete_records(name, ids[:2]),
            lambda name, ids, stream: streams.delete(name),
            lambda name, ids, stream: stream and not stream.group(b"g") and groups.create(name, b"g", 0),
            lambda name, ids, stream: stream and stream.group(b"g") and groups.read(name, b"g", b"c", 2),
            lambda name, ids, stream: groups.ack(name, b"g", ids[:1]),
            lambda name, ids, stream: stream and stream.group(b"g") and groups.destroy(name, b"g"),
        ]
        for _ in range(300):
            name = chance.choice([b"a", b"b"])
            stream = streams.store.find(name)
            ids = [record.ident for record in streams.read(name, limit=3)]
            chance.choice(operations)(name, ids, stream)
            check_totals(engine)
