"""Huey on Flo: Huey's own storage tests, and its consumer. Runs in the frameworks' environment: tests/contrib/test_frameworks.py."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from huey import crontab, signals
from huey.api import Huey
from huey.exceptions import ResultTimeout, TaskException
from huey.tests import base
from huey.tests.test_storage import StorageTests

from flo import Client
from flo.contrib.huey import FloHuey, FloStorage
from tests.contrib.kills import own_namespace, run_through_kills
from tests.contrib.worker import huey_program
from tests.support.processes import FloProcess, wait_until

LEASE_MS = 1500  # two thirds of it are the room for a machine that is busy


@pytest.fixture
def url(shared_flo: FloProcess, request: pytest.FixtureRequest) -> str:
    """A namespace of this test's own."""
    return own_namespace(shared_flo, request)


@pytest.fixture
def huey(url: str) -> Iterator[FloHuey]:
    """A Huey with a short lease."""
    huey = FloHuey("tasks", url=url, lease=LEASE_MS)
    yield huey
    huey.storage.close()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def huey_in_class(request: pytest.FixtureRequest, url: str) -> Iterator[None]:
    """Gives the test class its Huey."""
    huey = FloHuey(utc=False, url=url)
    request.cls.get_huey = lambda self: huey
    yield
    huey.storage.close()


@pytest.mark.usefixtures("huey_in_class")
class TestStorage(StorageTests, base.BaseTestCase):
    """Huey's own tests of a storage."""


@contextmanager
def consuming(huey: FloHuey, **options: Any) -> Iterator[Any]:
    """A consumer with its workers and its scheduler."""
    consumer = huey.create_consumer(**({"workers": 2, "check_worker_health": False} | options))
    consumer._set_signal_handlers = lambda: None  # only the main thread of a program may
    consumer.start()
    try:
        yield consumer
    finally:
        consumer.stop(graceful=True)


def test_tasks_are_done_and_their_results_are_there(huey: FloHuey, client: Client) -> None:
    @huey.task()
    def add(x: int, y: int) -> int:
        return x + y

    @huey.task(retries=1)
    def fail() -> None:
        raise ValueError("no")

    with consuming(huey):
        results = [add(n, 1) for n in range(20)]
        assert [result.get(blocking=True, timeout=20) for result in results] == [n + 1 for n in range(20)]
        with pytest.raises(TaskException, match="no"):
            fail().get(blocking=True, timeout=20)
        wait_until(lambda: not client.queues.stats("tasks")["leased"], "the end of the last task")
    stats = client.queues.stats("tasks")
    assert (stats["ready"], stats["dead"], stats["acknowledged"]) == (0, 0, 22)


def test_a_wait_for_a_result_is_told(huey: FloHuey) -> None:
    @huey.task()
    def nothing() -> None:
        pass

    result = nothing()
    began = time.monotonic()
    with pytest.raises(ResultTimeout):
        result.get(blocking=True, timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 5


def test_a_task_for_later(huey: FloHuey, client: Client) -> None:
    ran: list[float] = []

    @huey.task()
    def note() -> None:
        ran.append(time.monotonic())

    with consuming(huey):
        began = time.monotonic()
        note.schedule(delay=1.2)
        wait_until(lambda: len(huey.scheduled()) == 1, "a task in the schedule")
        wait_until(lambda: ran, "the task")
        assert ran[0] - began >= 1.2
        wait_until(lambda: client.queues.stats("tasks")["acknowledged"] == 2, "the end")  # when it came, and when it was done
    assert huey.scheduled() == []


def test_two_schedulers_enqueue_a_task_once(huey: FloHuey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one of them was killed before it deleted the task from the schedule."""

    @huey.task()
    def note() -> None:
        pass

    task = note.s()
    task.eta = datetime(2020, 1, 1)
    huey.add_schedule(task)
    deleted: list[bytes] = []
    with monkeypatch.context() as patch:
        patch.setattr(huey.storage, "unschedule", deleted.append)
        assert huey.read_schedule(datetime.now()) == []
    assert len(deleted) == 1 and huey.pending_count() == 1 and huey.scheduled_count() == 1
    assert huey.read_schedule(datetime.now()) == []
    assert huey.pending_count() == 1 and huey.scheduled_count() == 0


def test_a_periodic_task(huey: FloHuey) -> None:
    ran = threading.Event()

    @huey.periodic_task(crontab(minute="*"))
    def tick() -> None:
        ran.set()

    with consuming(huey):
        assert ran.wait(20)


def test_a_more_urgent_task_goes_first(huey: FloHuey) -> None:
    ran: list[int] = []

    @huey.task()
    def note(number: int) -> None:
        ran.append(number)

    for priority in (-3, 500, 0, 7):
        note.schedule((priority,), delay=0, priority=priority)
    with consuming(huey, workers=1):
        wait_until(lambda: len(ran) == 4, "all tasks")
    assert ran == [500, 7, 0, -3]


def test_the_lease_of_a_long_task_is_extended(huey: FloHuey, client: Client) -> None:
    ran: list[int] = []

    @huey.task()
    def long() -> None:
        ran.append(1)
        time.sleep(LEASE_MS * 2 / 1000)

    with consuming(huey):
        long()
        wait_until(lambda: client.queues.stats("tasks")["acknowledged"] == 1, "the end")
    assert ran == [1]
    assert client.queues.stats("tasks")["delivered"] == 1


def test_an_interrupted_task_goes_back(huey: FloHuey, client: Client) -> None:
    told: list[str] = []
    huey.signal(signals.SIGNAL_INTERRUPTED)(lambda signal, task: told.append(task.id))

    @huey.task()
    def stop() -> None:
        raise KeyboardInterrupt

    result = stop()
    huey.execute(huey.dequeue())
    assert told == [result.id]
    stats = client.queues.stats("tasks")
    assert (stats["ready"], stats["leased"], stats["acknowledged"]) == (1, 0, 0)


def test_a_task_whose_result_cannot_be_stored_goes_back(huey: FloHuey, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    @huey.task()
    def one() -> int:
        return 1

    def refuse(*_: Any) -> None:
        raise OSError("no room")

    one()
    with monkeypatch.context() as patch:
        patch.setattr(huey, "put_result", refuse)
        with pytest.raises(OSError, match="no room"):
            huey.execute(huey.dequeue())
    assert client.queues.stats("tasks")["ready"] == 1
    assert huey.execute(huey.dequeue()) == 1
    assert client.queues.stats("tasks")["acknowledged"] == 1


def test_data_that_is_no_task_becomes_a_dead_letter(huey: FloHuey, client: Client) -> None:
    client.queues.enqueue("tasks", "no pickle")
    with pytest.raises(Exception):  # noqa: B017 - whatever the serializer raises
        huey.dequeue()
    assert client.queues.stats("tasks")["dead"] == 1


def test_a_lock_and_results_end_by_themselves(url: str, client: Client) -> None:
    huey = FloHuey("short", url=url, expire_time=100)
    with huey.lock_task("report", ttl=100):
        assert huey.is_locked("report")
    huey.put_result("a", 1)
    huey.put("b", 2)
    assert 0 < client.kv.info("huey.results.short:a")["deadline"] <= (time.time() + 101) * 1000
    assert client.kv.info("huey.results.short:b")["deadline"] == 0
    huey.storage.close()


def test_more_keys_than_one_request_takes(huey: FloHuey) -> None:
    huey.storage.put_data("key-299", b"last")
    assert huey.storage.peek_many([f"key-{number}" for number in range(300)]) == {"key-299": b"last"}
    assert huey.storage.peek_many([]) == {}


def test_workers_that_are_processes(huey: FloHuey, client: Client, tmp_path: Path) -> None:
    """They are forked, and one of them is killed."""
    path = tmp_path / "ran"

    @huey.task()
    def note(number: int) -> None:
        with path.open("a") as file:
            file.write(f"{number}\n")

    note(0)
    with consuming(huey, worker_type="process") as consumer:
        wait_until(path.exists, "a task")
        for number in range(1, 20):
            note(number)
        _, process = consumer.worker_threads[0]
        process.kill()
        wait_until(lambda: {int(line) for line in path.read_text().split()} == set(range(20)), "all tasks")
        wait_until(lambda: not client.queues.stats("tasks")["leased"], "their end")


def test_immediate_mode_needs_no_server() -> None:
    huey = FloHuey("none", url="flo://127.0.0.1:1", immediate=True)

    @huey.task()
    def one() -> int:
        return 1

    assert one().get() == 1
    assert huey.dequeue() is None and huey.read_schedule() == []


def test_a_plain_huey_on_the_storage_takes_a_task_as_from_redis(url: str, client: Client) -> None:
    huey = Huey("plain", storage_class=FloStorage, url=url)

    @huey.task()
    def one() -> int:
        return 1

    one()
    task = huey.dequeue()
    assert client.queues.stats("plain")["acknowledged"] == 1
    assert huey.execute(task) == 1
    huey.storage.close()


def test_kills(tmp_path: Path, long_run: bool) -> None:
    made: list[Any] = []

    def send(work: Any, number: int) -> None:
        if not made:
            made.extend(huey_program(work.url))
        made[1](str(work.done), number)

    run_through_kills("huey", "work", send, tmp_path, long_run=long_run)
    made[0].storage.close()
