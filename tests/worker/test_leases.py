"""Leases, and how many handlers are at work at once."""

import asyncio
import threading
import time

import pytest

from flo import Worker
from flo.worker import Context
from tests.support.processes import wait_until
from tests.worker.conftest import running

pytestmark = pytest.mark.slow


def test_a_run_three_times_as_long_as_its_lease_has_one_attempt(worker: Worker) -> None:
    @worker.action("long", timeout=400)
    def long(ctx: Context) -> list[int]:
        end = time.monotonic() + 1.2
        wait_until(lambda: time.monotonic() > end, "the end of three leases")
        return [ctx.attempt, ctx.cancelled]

    worker.register()
    with running(worker):
        run = long.invoke()
        assert run.result(10) == [1, 0] and run.status()["failures"] == 0


def test_a_lost_lease_is_told_and_its_report_dropped(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    told, release = threading.Event(), threading.Event()

    @worker.action("lost", timeout=300)
    def lost(ctx: Context) -> int:
        if ctx.attempt == 1:
            wait_until(lambda: ctx.cancelled, "the loss")
            told.set()
            release.wait(10)
        return ctx.attempt

    worker.register()
    with running(worker):
        run = lost.invoke()
        wait_until(lambda: run.status()["status"] == "running", "the start")
        status = run.status()
        worker.client.workers.release(run.id, worker_id=status["worker"], attempt=1)  # as if the lease had run out
        assert run.result(10) == 2 and told.wait(10)
        release.set()
        wait_until(lambda: worker.counts["lost"] == 1, "the report that is dropped")
        assert run.result(10) == 2
    assert worker.counts["done"] == 1
    assert [record.message for record in caplog.records] == [f"lost {run.id}, attempt 1: its lease is lost"]


@pytest.mark.parametrize("is_async", [False, True])
def test_the_concurrency_is_never_exceeded(worker: Worker, is_async: bool) -> None:
    """Over two sources together, and it is reached."""
    lock, at_work, most = threading.Lock(), 0, 0

    def change(by: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += by
            most = max(most, at_work)

    async def coroutine() -> None:
        change(1)
        await asyncio.sleep(0.01)
        change(-1)

    def function() -> None:
        change(1)
        threading.Event().wait(0.01)
        change(-1)

    handler = worker.action("count")(coroutine if is_async else function)

    @worker.queue("count")
    def count(payload: bytes) -> None:
        function()

    worker.register()
    client = worker.client
    for _ in range(60):
        handler.invoke()
        client.queues.enqueue("count", "m")
    with running(worker, concurrency=3):
        held: set[int] = set()

        def done() -> bool:
            held.update(len(each["runs"]) for each in client.workers.list())
            return worker.counts.get("done") == 120

        wait_until(done, "120 deliveries")
    assert most == 3 and max(held) <= 3


def test_two_sources_with_much_to_do_take_turns(worker: Worker) -> None:
    order: list[str] = []

    @worker.action("run")
    def run() -> None:
        order.append("run")

    @worker.queue("messages")
    def message(payload: bytes) -> None:
        order.append("message")

    worker.register()
    for _ in range(40):
        run.invoke()
        worker.client.queues.enqueue("messages", "m")
    with running(worker, concurrency=1):
        wait_until(lambda: len(order) == 80, "80 deliveries")
    assert 10 <= order[:40].count("run") <= 30, order


def test_one_slot_serves_two_sources(worker: Worker) -> None:
    """An idle source does not keep the slot that another one needs."""

    @worker.queue("idle")
    def idle(payload: bytes) -> None:
        """Has nothing to do."""

    @worker.action("busy")
    def busy(n: int) -> int:
        return n

    worker.register()
    with running(worker, concurrency=1):
        assert [busy.invoke(n).result(5) for n in range(5)] == list(range(5))
