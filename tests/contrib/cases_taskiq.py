"""taskiq on Flo, with its receiver. Runs in the frameworks' environment: tests/contrib/test_frameworks.py."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from taskiq import Context, ScheduledTask, SimpleRetryMiddleware, TaskiqDepends, TaskiqScheduler
from taskiq.api import run_receiver_task, run_scheduler_task
from taskiq.depends.progress_tracker import ProgressTracker, TaskState
from taskiq.exceptions import ResultGetError, SendTaskError

from flo import Client
from flo.contrib.taskiq import FloBroker, FloResultBackend, FloScheduleSource
from tests.contrib.kills import own_namespace, run_through_kills
from tests.contrib.worker import taskiq_program
from tests.support.processes import ROOT, FloProcess, wait_until

RESULT_SECONDS = 20
LEASE_MS = 1500  # two thirds of it are the room for a machine that is busy


@pytest.fixture
def url(shared_flo: FloProcess, request: pytest.FixtureRequest) -> str:
    """A namespace of this test's own."""
    return own_namespace(shared_flo, request)


@pytest.fixture
def broker(url: str) -> FloBroker:
    """A broker with results; leases are short."""
    return broker_on(url)


def broker_on(url: str) -> FloBroker:
    broker = FloBroker(url, lease=LEASE_MS)
    broker.with_result_backend(FloResultBackend(url))
    return broker


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@asynccontextmanager
async def working(broker: FloBroker, **options: Any) -> AsyncIterator[None]:
    """A worker, for as long as the block runs; it does not end the broker."""
    worker = asyncio.create_task(run_receiver_task(broker, **({"max_async_tasks": 10} | options)))
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


def run(broker: FloBroker, work: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine in a loop of its own, and end the broker."""

    async def all_of_it() -> None:
        try:
            await work()
        finally:
            await broker.shutdown()

    asyncio.run(all_of_it())


async def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition, outside the loop."""
    return await asyncio.to_thread(wait_until, condition, what)


def test_tasks_are_done_and_their_results_are_there(broker: FloBroker, client: Client) -> None:
    @broker.task
    async def add(x: int, y: int) -> int:
        return x + y

    @broker.task
    def fail() -> None:
        raise ValueError("no")

    async def work() -> None:
        async with working(broker):
            sent = await asyncio.gather(*(add.kiq(n, 1) for n in range(50)))
            results = await asyncio.gather(*(task.wait_result(timeout=RESULT_SECONDS) for task in sent))
            assert [result.return_value for result in results] == [n + 1 for n in range(50)]
            failed = await (await fail.kiq()).wait_result(timeout=RESULT_SECONDS)
            assert failed.is_err and isinstance(failed.error, ValueError)
            await until(lambda: client.queues.stats("taskiq")["acknowledged"] == 51, "the end")

    run(broker, work)


def test_a_broker_may_run_in_one_loop_after_the_other(broker: FloBroker) -> None:
    @broker.task
    async def one() -> int:
        return 1

    async def work() -> None:
        async with working(broker):
            assert (await (await one.kiq()).wait_result(timeout=RESULT_SECONDS)).return_value == 1

    run(broker, work)
    run(broker, work)


def test_a_loop_that_ended_in_the_middle_of_a_call_disturbs_no_later_one(broker: FloBroker, client: Client) -> None:
    @broker.task
    async def nothing() -> None:
        pass

    async def leave() -> None:
        task = asyncio.create_task(nothing.kiq())
        while broker._sender.get()._task is None:
            await asyncio.sleep(0)
        assert not task.done()  # asyncio.run cancels it, and what sends for it

    async def work() -> None:
        await asyncio.wait_for(nothing.kiq(), RESULT_SECONDS)

    asyncio.run(leave())
    run(broker, work)
    assert client.queues.stats("taskiq")["ready"] >= 1


def test_results_are_kept_or_not(url: str, broker: FloBroker, client: Client) -> None:
    backend = FloResultBackend(url, keep_results=False, expire_time=100, prefix="mine")
    broker.with_result_backend(backend)

    @broker.task
    async def told(progress: ProgressTracker[str] = TaskiqDepends()) -> int:  # noqa: B008
        await progress.set_progress(TaskState.STARTED, "half")
        return 1

    async def work() -> None:
        async with working(broker):
            task = await told.kiq()
            await until(lambda: client.kv.exists(f"mine:result:{task.task_id}"), "a result")
            assert 0 < client.kv.info(f"mine:result:{task.task_id}")["deadline"] <= (time.time() + 101) * 1000
            progress = await task.get_progress()
            assert progress is not None and progress.meta == "half"
            assert (await task.get_result()).return_value == 1
            with pytest.raises(ResultGetError):
                await task.get_result()

    run(broker, work)


def test_labels_are_the_delay_the_priority_and_the_queue(broker: FloBroker, client: Client) -> None:
    ran: list[int] = []
    times: list[float] = []

    @broker.task
    async def note(number: int) -> None:
        ran.append(number)
        times.append(time.monotonic())

    async def work() -> None:
        began = time.monotonic()
        await note.kicker().with_labels(delay=1.5, priority=255).kiq(1)
        await note.kicker().with_labels(priority=200).kiq(2)
        await note.kicker().with_labels(priority=3).kiq(3)
        await note.kicker().with_labels(queue_name="other").kiq(4)
        async with working(broker, max_async_tasks=1):
            await until(lambda: len(ran) == 3, "all tasks")
        assert ran == [3, 2, 1]
        assert times[-1] - began >= 1.5
        assert client.queues.stats("other")["ready"] == 1

    run(broker, work)


def test_a_task_that_fails_is_retried(broker: FloBroker) -> None:
    ran: list[int] = []

    @broker.task(retry_on_error=True, max_retries=3)
    async def fail() -> int:
        ran.append(1)
        if len(ran) < 3:
            raise ValueError("no")
        return len(ran)

    broker.add_middlewares(SimpleRetryMiddleware())

    async def work() -> None:
        async with working(broker):
            assert (await (await fail.kiq()).wait_result(timeout=RESULT_SECONDS)).return_value == 3

    run(broker, work)


def test_the_lease_of_a_long_task_is_extended(broker: FloBroker, client: Client) -> None:
    ran: list[int] = []

    @broker.task
    async def long() -> None:
        ran.append(1)
        await asyncio.sleep(LEASE_MS * 2 / 1000)

    async def work() -> None:
        async with working(broker):
            await long.kiq()
            await until(lambda: client.queues.stats("taskiq")["acknowledged"] == 1, "the end")
        assert ran == [1] and client.queues.stats("taskiq")["delivered"] == 1

    run(broker, work)


def test_what_a_worker_did_not_finish_goes_back(broker: FloBroker, client: Client) -> None:
    started = asyncio.Event()

    @broker.task
    async def never() -> None:
        started.set()
        await asyncio.Event().wait()

    async def work() -> None:
        for _ in range(3):
            await never.kiq()
        async with working(broker, max_async_tasks=1):
            await started.wait()
        assert client.queues.stats("taskiq")["leased"] == 3

    run(broker, work)
    stats = client.queues.stats("taskiq")
    assert (stats["ready"], stats["leased"], stats["acknowledged"]) == (3, 0, 0)


def test_a_manual_acknowledgement(broker: FloBroker, client: Client) -> None:
    @broker.task(ack_type="manual")
    async def done(context: Context = TaskiqDepends()) -> None:  # noqa: B008
        await context.ack()

    async def work() -> None:
        async with working(broker):
            await done.kiq()
            await until(lambda: client.queues.stats("taskiq")["acknowledged"] == 1, "the acknowledgement")

    run(broker, work)


def test_a_server_that_is_away(flo: FloProcess) -> None:
    broker = broker_on(f"flo://127.0.0.1:{flo.port}")

    @broker.task
    async def nothing() -> None:
        pass

    flo.stop()

    async def work() -> None:
        with pytest.raises(SendTaskError):
            await nothing.kiq()

    run(broker, work)


def test_a_call_that_cannot_be_made_is_told(broker: FloBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for it must not wait for ever."""

    @broker.task
    async def nothing() -> None:
        pass

    def defect(_: Any) -> None:
        raise RuntimeError("a defect")

    async def work() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(broker._sender.get()._client, "run_many", defect)
            with pytest.raises(SendTaskError):
                await asyncio.wait_for(nothing.kiq(), RESULT_SECONDS)
        await nothing.kiq()

    run(broker, work)


def test_a_cancelled_call_disturbs_no_other(broker: FloBroker, client: Client) -> None:
    @broker.task
    async def nothing() -> None:
        pass

    async def work() -> None:
        tasks = [asyncio.create_task(nothing.kiq()) for _ in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, BaseException) for result in results) == 25
        assert client.queues.stats("taskiq")["ready"] >= 25

    run(broker, work)


def test_schedules(url: str, broker: FloBroker, client: Client) -> None:
    source = FloScheduleSource(url)
    ran: list[int] = []

    @broker.task(task_name="note")
    async def note(number: int) -> None:
        ran.append(number)

    async def work() -> None:
        now = datetime.now(UTC)
        await note.schedule_by_time(source, now - timedelta(seconds=1), 1)
        gone = await note.schedule_by_time(source, now + timedelta(days=1), 2)
        await note.schedule_by_cron(source, "* * * * *", 3)
        assert {schedule.args[0] for schedule in await source.get_schedules()} == {1, 2, 3}
        assert all(isinstance(schedule, ScheduledTask) for schedule in await source.get_schedules())
        await gone.unschedule()
        async with working(broker):
            scheduler = asyncio.create_task(run_scheduler_task(TaskiqScheduler(broker, [source]), run_startup=True))
            await until(lambda: {1, 3} <= set(ran), "the tasks that are due")
            await until(lambda: not [key for key, value in client.kv.scan("taskiq:schedule:") if b'"args":[1]' in value], "the deletion")
            scheduler.cancel()
            await asyncio.gather(scheduler, return_exceptions=True)
        assert [schedule.args for schedule in await source.get_schedules()] == [[3]]
        await source.shutdown()

    run(broker, work)


def test_the_command_line(url: str, tmp_path: Path) -> None:
    """`taskiq worker MODULE:broker`, several processes, and SIGTERM."""
    (tmp_path / "app.py").write_text(f"from tests.contrib.worker import taskiq_program\nbroker, note = taskiq_program({url!r})\n")
    broker, note = taskiq_program(url)
    done = tmp_path / "done"
    with (tmp_path / "log").open("wb") as log:
        program = subprocess.Popen(
            [sys.executable, "-m", "taskiq", "worker", "app:broker", "--workers", "2"],
            stdout=log,
            stderr=log,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        )

    async def work() -> None:
        for number in range(100):
            await note.kiq(str(done), number)
        await until(lambda: done.exists() and len(done.read_bytes().splitlines()) == 100, "a hundred tasks")

    try:
        run(broker, work)
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) in (0, None), (tmp_path / "log").read_text()
    finally:
        program.kill()
        program.wait()
    assert {int(line) for line in done.read_bytes().splitlines()} == set(range(100))


def test_kills(tmp_path: Path, long_run: bool) -> None:
    made: list[Any] = []
    with asyncio.Runner() as runner:

        def send(work: Any, number: int) -> None:
            if not made:
                made.extend(taskiq_program(work.url))
            runner.run(made[1].kiq(str(work.done), number))

        run_through_kills("taskiq", "work", send, tmp_path, long_run=long_run)
        runner.run(made[0].shutdown())
