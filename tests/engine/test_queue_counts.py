"""What `queue_stats` says besides counts of the present: the age of the oldest message, and what was done; and pages of dead letters."""

from pathlib import Path

import pytest

from flo.engine import Engine
from flo.errors import BadRequest


def test_oldest_and_what_was_done(tmp_path: Path) -> None:
    wall = 1_000_000
    with Engine(str(tmp_path), clock=lambda: wall) as engine:
        queues = engine.queues

        def oldest() -> object:
            return queues.stats(b"q")["oldest_at"]

        assert oldest() == 0
        for priority in (9, 9, 0):
            queues.enqueue(b"q", b"m", priority=priority)
            wall += 1000
        assert oldest() == 1_000_000, "of any priority"
        late = queues.enqueue(b"q", b"later", delay=60_000)
        first = queues.dequeue(b"q", 2)
        assert oldest() == 1_001_000, "one is left, and it was the second"
        queues.nack(b"q", [message.receipt for message in first])
        assert oldest() == 1_000_000, "it came back with its own time"
        taken = queues.dequeue(b"q", 3)
        assert oldest() == 0 and late
        queues.ack(b"q", [message.receipt for message in taken])
        queues.enqueue_many(b"q", [b"a", b"b"])
        queues.dequeue(b"q", 1, acknowledge=True)
        stats = queues.stats(b"q")
        assert (stats["enqueued"], stats["delivered"], stats["acknowledged"]) == (6, 6, 4)
    with Engine(str(tmp_path), clock=lambda: wall) as engine:
        stats = engine.queues.stats(b"q")
        assert (stats["enqueued"], stats["delivered"], stats["acknowledged"]) == (0, 0, 0), "since the start"
        assert stats["oldest_at"] == wall


def test_pages_of_dead_letters(tmp_path: Path) -> None:
    with Engine(str(tmp_path)) as engine:
        queues = engine.queues
        queues.enqueue_many(b"q", [b"%d" % number for number in range(5)])
        messages = queues.dequeue(b"q", 5)
        order = [messages[at] for at in (3, 0, 4, 1, 2)]
        for message in order:
            queues.nack(b"q", [message.receipt], dead=True)
        seqs = [message.seq for message in order]

        def page(cursor: bytes) -> list[int]:
            return [letter.seq for letter in queues.dead_letters(b"q", 2, cursor=cursor)]

        assert page(b"") == seqs[:2]
        assert page(b"%d" % seqs[1]) == seqs[2:4], "in the order of their deaths, not of their seqs"
        assert page(seqs[1].to_bytes(8, "little")) == seqs[2:4]
        assert page(b"%d" % seqs[3]) == seqs[4:]
        assert page(b"%d" % seqs[4]) == []
        queues.requeue(b"q", [seqs[1]])
        assert page(b"%d" % seqs[1]) == [seqs[0], seqs[2]], "from the first one: what was seen last is gone"
        assert page(b"9" * 40) == [seqs[0], seqs[2]]
        with pytest.raises(BadRequest, match="cursor"):
            page(b"x")
