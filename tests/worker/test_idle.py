"""Workers in tests: over an engine in the process, without a server, and in the thread of the test."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from flo import Client, Engine, NonRetryable, Snooze, Worker
from flo.calls import Message, StreamRecord, kv_get
from flo.errors import BadRequest, FloError, NotFound
from flo.worker import Context, RunCancelled, RunFailed


def made() -> tuple[Worker, list[Any]]:
    """A worker with handlers of each kind, and what they have seen. Its server does not exist."""
    worker = Worker("flo://127.0.0.1:1/nowhere")
    seen: list[Any] = []

    @worker.action("double", retry_delay=1000)
    def double(ctx: Context, n: int) -> int:
        seen.append(threading.current_thread().name)
        ctx.progress("half")
        seen.append(ctx.cancelled)
        return 2 * n

    @worker.action("chain")
    async def chain(n: int) -> str:
        await asyncio.sleep(0)
        return double.invoke(n).id

    @worker.action("bad", max_attempts=2, retry_delay=1000)
    def bad() -> None:
        raise ZeroDivisionError("by zero")

    @worker.queue("jobs")
    def job(message: Message) -> None:
        if message.payload == b"later":
            raise Snooze(60)
        seen.append(message.payload)

    @worker.stream("events", group="g")
    def event(record: StreamRecord) -> None:
        if record.payload == b"no":
            raise NonRetryable("no")
        seen.append(record.payload)

    return worker, seen


def test_without_a_server() -> None:
    worker, seen = made()
    chain = worker._actions["chain"]
    before = len(os.listdir("/proc/self/fd"))
    with worker.in_process() as engine:
        directory = engine.log.directory
        run = chain.invoke(21)
        engine.queues.enqueue(b"jobs", b"m")
        engine.queues.enqueue(b"jobs", b"later")
        engine.streams.append(b"events", b"r")
        with pytest.raises(TimeoutError, match="run_until_idle"):
            run.result(1)
        assert worker.run_until_idle() == 5
        inner = worker._actions["double"].run(run.result())
        assert inner.result() == 42 and inner.status()["status"] == "completed"
        assert seen[:2] == ["MainThread", False] and seen[2:] == [b"m", b"r"]
        assert engine.queues.stats(b"jobs")["delayed"] == 1 and engine.actions.counts()["pending_runs"] == 0
        assert not engine.streams.groups.need(b"events", b"g")[1].pending and worker.run_until_idle() == 0
        with pytest.raises(BadRequest, match="no operation of a worker"):
            worker._runner.run(kv_get("a"))
    assert not os.path.exists(directory) and len(os.listdir("/proc/self/fd")) == before


def test_exceptions_surface_and_are_reported(tmp_path: Path) -> None:
    worker, _ = made()
    bad = worker._actions["bad"]
    now = 1_700_000_000_000
    with Engine(str(tmp_path), clock=lambda: now) as engine, worker.in_process(engine):
        run = bad.invoke()
        with pytest.raises(ZeroDivisionError):
            worker.run_until_idle()
        assert run.status()["status"] == "pending" and worker.run_until_idle() == 0  # the back-off is a second
        now += 1000
        with pytest.raises(ZeroDivisionError):
            worker.run_until_idle()
        with pytest.raises(RunFailed, match="ZeroDivisionError: by zero"):
            run.result()
        engine.streams.append(b"events", b"no")
        with pytest.raises(NonRetryable):
            worker.run_until_idle()
        assert worker.run_until_idle() == 0
        cancelled = bad.invoke()
        cancelled.cancel()
        with pytest.raises(RunCancelled):
            cancelled.result()
        assert worker.run_until_idle() == 0


def test_an_engine_or_a_client_may_be_given(tmp_path: Path, url: str) -> None:
    worker, seen = made()
    with Engine(str(tmp_path)) as engine:
        engine.queues.enqueue(b"jobs", b"in process")
        assert worker.run_until_idle(engine) == 1
    with Client(url) as client:
        client.queues.enqueue("jobs", "over a server")
        assert worker.run_until_idle(client) == 1 and not list(client.workers.list())
        chain = client.actions.invoke("chain", '{"n": 4}')
        assert worker.run_until_idle(client) == 2  # a handler invokes where it runs
        assert client.actions.result(chain).state == "completed"
    assert seen == [b"in process", b"over a server", "MainThread", False]


def test_a_cancellation_is_seen(tmp_path: Path) -> None:
    worker = Worker()

    @worker.action("look")
    def look(ctx: Context) -> None:
        look.run(ctx.run_id).cancel()
        ctx.progress("on")
        seen.append(ctx.cancelled)

    seen: list[bool] = []
    with worker.in_process():
        run = look.invoke()
        assert worker.run_until_idle() == 1 and seen == [True]
        with pytest.raises(RunCancelled):
            run.result()
        with pytest.raises(NotFound):
            look.run("1").status()


def test_a_worker_without_handlers_is_refused() -> None:
    with pytest.raises(FloError, match="has no handlers"):
        Worker().run_until_idle()
    with pytest.raises(FloError, match="has no handlers"):
        Worker().run()
    with pytest.raises(ValueError, match="the concurrency is 0"):
        made()[0].run(concurrency=0)
