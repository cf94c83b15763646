"""Queues and streams whose handlers are functions, over a server."""

import threading
from typing import Any

from flo import NonRetryable, Snooze, Worker
from flo.calls import Message, StreamRecord
from flo.worker import Context
from tests.support.processes import wait_until
from tests.worker.conftest import running


def test_a_message_is_acknowledged_by_returning(worker: Worker) -> None:
    seen: list[Any] = []

    @worker.queue("raw")
    def raw(payload: bytes) -> None:
        seen.append(payload)

    @worker.queue("json")
    async def parsed(payload: dict[str, int]) -> None:
        seen.append(payload)

    @worker.queue("whole")
    def whole(ctx: Context, message: Message) -> None:
        seen.append((ctx.run_id, message.receipt, message.priority))

    client = worker.client
    with running(worker):
        client.queues.enqueue("raw", b"\xff")
        client.queues.enqueue("json", '{"a": 1}')
        seq = client.queues.enqueue("whole", "x", priority=3)
        wait_until(lambda: worker.counts["done"] == 3, "three messages")
    assert sorted(seen, key=str) == sorted([b"\xff", {"a": 1}, (f"{seq}-1", (seq, 1), 3)], key=str)
    assert {client.queues.stats(name)["acknowledged"] for name in ("raw", "json", "whole")} == {1}


def test_a_message_is_given_back_by_raising(worker: Worker) -> None:
    attempts: list[int] = []

    @worker.queue("twice", max_attempts=2, retry_delay=1)
    def twice(ctx: Context, payload: bytes) -> None:
        attempts.append(ctx.attempt)
        raise ValueError(payload)

    @worker.queue("bad")
    def bad(payload: bytes) -> None:
        raise NonRetryable("no")

    @worker.queue("later")
    def later(ctx: Context, payload: bytes) -> None:
        if ctx.attempt == 1:
            raise Snooze(0.05)

    @worker.queue("text")
    def text(payload: str) -> None:
        """Is never called: the payload is no JSON."""
        attempts.append(-1)

    client = worker.client
    with running(worker):
        for name in ("twice", "bad", "later", "text"):
            client.queues.enqueue(name, "m")
        wait_until(lambda: all(len(client.queues.dead_letters(name)) == 1 for name in ("twice", "bad", "text")), "the dead letters")
        wait_until(lambda: client.queues.stats("later")["acknowledged"] == 1, "the snoozed message")
    assert attempts == [1, 2] and client.queues.stats("twice")["max_attempts"] == 2
    assert worker.counts == {"done": 1, "failed": 2, "refused": 2, "snoozed": 1, "given back": 0, "lost": 0}


def test_records_of_a_group(worker: Worker) -> None:
    seen: list[Any] = []
    tries: list[int] = []

    @worker.stream("events", group="g", ack_timeout=5000, max_deliver=3, retry_delay=1)
    def event(ctx: Context, record: StreamRecord) -> None:
        if record.payload == b"bad":
            tries.append(ctx.attempt)
            raise ValueError
        seen.append((ctx.run_id, record.payload))

    @worker.stream("events", group="new", tail=True)
    def new(payload: list[int]) -> None:
        seen.append(payload)

    client = worker.client
    first = client.streams.append("events", "one")
    client.streams.append("events", "bad")
    with running(worker):
        wait_until(lambda: len(tries) == 3 and seen, "three attempts")
        wait_until(lambda: client.streams.group_info("events", "g")["dead"] == 1, "the dead letter")
        wait_until(lambda: client.streams.group_info("events", "new")["waiting"] == 1, "the group of new records")
        client.streams.append("events", "[1]")
        wait_until(lambda: len(seen) == 3, "the new record")
    assert tries == [1, 2, 3] and (str(first), b"one") in seen and [1] in seen
    info = client.streams.group_info("events", "g")
    assert (info["ack_timeout_ms"], info["max_deliver"], info["pending"]) == (5000, 3, 0)


def test_the_lease_of_a_message_and_of_a_record_is_extended(worker: Worker) -> None:
    attempts: list[tuple[str, int]] = []

    @worker.queue("slow", lease=300)
    def slow(ctx: Context, payload: bytes) -> None:
        attempts.append((ctx.name, ctx.attempt))
        assert not threading.Event().wait(1)

    @worker.stream("slowly", group="g", ack_timeout=300)
    async def slowly(ctx: Context, payload: bytes) -> None:
        import asyncio

        attempts.append((ctx.name, ctx.attempt))
        await asyncio.sleep(1)

    worker.client.queues.enqueue("slow", "m")
    worker.client.streams.append("slowly", "r")
    with running(worker):
        wait_until(lambda: worker.counts.get("done") == 2, "both")
    assert sorted(attempts) == [("slow", 1), ("slowly", 1)] and worker.counts["lost"] == 0
