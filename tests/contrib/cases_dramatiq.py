"""Dramatiq on Flo, with its real workers. Runs in the frameworks' environment: tests/contrib/test_frameworks.py."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import ConnectionClosed, QueueJoinTimeout, QueueNotFound
from dramatiq.rate_limits import Barrier, ConcurrentRateLimiter, WindowRateLimiter
from dramatiq.results import ResultFailure, ResultMissing, Results, ResultTimeout

from flo import Client
from flo.contrib.dramatiq import FloBackend, FloBroker, FloRateLimiterBackend
from tests.contrib.kills import own_namespace, run_through_kills
from tests.contrib.worker import dramatiq_program
from tests.support.processes import ROOT, FloProcess, wait_until

JOIN_MS = 20_000
LEASE_MS = 1500  # two thirds of it are the room for a machine that is busy


@pytest.fixture
def url(shared_flo: FloProcess, request: pytest.FixtureRequest) -> str:
    """A namespace of this test's own."""
    return own_namespace(shared_flo, request)


@pytest.fixture
def broker(url: str) -> Iterator[FloBroker]:
    """A broker with results; leases are short."""
    broker = broker_on(url)
    yield broker
    broker.close()


def broker_on(url: str) -> FloBroker:
    broker = FloBroker(url, lease=LEASE_MS)
    broker.add_middleware(Results(backend=FloBackend(url)))
    dramatiq.set_broker(broker)
    return broker


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@contextmanager
def working(broker: FloBroker, threads: int = 4) -> Iterator[dramatiq.Worker]:
    """A worker."""
    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=threads)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


def test_tasks_are_done_and_their_results_are_there(broker: FloBroker, client: Client) -> None:
    @dramatiq.actor(store_results=True)
    def add(x: int, y: int) -> int:
        return x + y

    with working(broker):
        sent = [add.send(n, 1) for n in range(50)]
        assert [message.get_result(block=True, timeout=JOIN_MS) for message in sent] == [n + 1 for n in range(50)]
        assert dramatiq.pipeline([add.message(1, 2), add.message(4)]).run().get_result(block=True, timeout=JOIN_MS) == 7
        broker.join("default", timeout=JOIN_MS)
    assert client.queues.stats("default")["acknowledged"] == 52


def test_a_result_that_is_not_there(broker: FloBroker) -> None:
    @dramatiq.actor(store_results=True, max_retries=0)
    def fail() -> None:
        raise ValueError("no")

    message = fail.send()
    with pytest.raises(ResultMissing):
        message.get_result()
    began = time.monotonic()
    with pytest.raises(ResultTimeout):
        message.get_result(block=True, timeout=100)
    assert time.monotonic() - began >= 0.1
    with working(broker), pytest.raises(ResultFailure, match="no"):
        message.get_result(block=True, timeout=JOIN_MS)


def test_a_task_that_fails_is_retried_and_becomes_a_dead_letter(broker: FloBroker, client: Client) -> None:
    calls = []

    @dramatiq.actor(max_retries=2, min_backoff=50, max_backoff=60)
    def fail() -> None:
        calls.append(time.monotonic())
        raise ValueError("no")

    with working(broker):
        fail.send()
        broker.join("default", timeout=JOIN_MS)
        (dead,) = wait_until(lambda: client.queues.dead_letters("default"), "a dead letter")
    assert dramatiq.Message.decode(dead.payload).actor_name == "fail"
    assert len(calls) == 3 and calls[1] - calls[0] >= 0.025
    broker.flush_all()
    assert client.queues.dead_letters("default") == []


def test_what_nobody_can_do_becomes_a_dead_letter(broker: FloBroker, client: Client) -> None:
    broker.declare_queue("odd")
    client.queues.enqueue("odd", "no message of Dramatiq")
    broker.enqueue(dramatiq.Message(queue_name="odd", actor_name="missing", args=(), kwargs={}, options={}))
    with working(broker):
        wait_until(lambda: client.queues.stats("odd")["dead"] == 2, "two dead letters")
    with pytest.raises(QueueNotFound):
        broker.consume("never declared")


def test_a_delay_is_waited_for_in_flo(broker: FloBroker, client: Client) -> None:
    ran: list[tuple[int, float]] = []

    @dramatiq.actor
    def note(number: int) -> None:
        ran.append((number, time.monotonic()))

    began = time.monotonic()
    with working(broker, threads=1):
        note.send_with_options(args=(1,), delay=2000)
        later = note.send_with_options(args=(2,), delay=1000)
        assert later.options["eta"] > 0
        assert client.queues.stats("default")["delayed"] == 2
        broker.join("default", timeout=JOIN_MS)
    assert [number for number, _ in ran] == [2, 1]
    assert ran[0][1] - began >= 1 and ran[1][1] - began >= 2


def test_the_urgent_actor_goes_first(broker: FloBroker) -> None:
    ran: list[str] = []
    actors = [
        dramatiq.actor(lambda: ran.append("later"), actor_name="later", priority=1000),
        dramatiq.actor(lambda: ran.append("soon"), actor_name="soon", priority=10),
        dramatiq.actor(lambda: ran.append("now"), actor_name="now", priority=-5),
    ]
    for actor in actors:
        actor.send()
    with working(broker, threads=1):
        broker.join("default", timeout=JOIN_MS)
    assert ran == ["now", "soon", "later"]
    # and in the queue itself, not only among what a worker holds
    for actor in actors:
        actor.send()
    consumer = broker.consume("default", prefetch=1, timeout=100)
    first = next(consumer)
    assert first is not None and first.actor_name == "now"
    consumer.ack(first)


def test_the_lease_of_a_long_task_is_extended(broker: FloBroker, client: Client) -> None:
    calls = []

    @dramatiq.actor
    def long() -> None:
        calls.append(1)
        time.sleep(LEASE_MS * 2 / 1000)

    with working(broker):
        long.send()
        broker.join("default", timeout=JOIN_MS)
    assert len(calls) == 1
    assert client.queues.stats("default")["delivered"] == 1


def test_a_stopped_worker_gives_back_what_it_did_not_start(broker: FloBroker, client: Client) -> None:
    started, finish = threading.Event(), threading.Event()

    @dramatiq.actor
    def slow() -> None:
        started.set()
        finish.wait()

    for _ in range(3):
        slow.send()
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    assert started.wait(10)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    wait_until(lambda: not any(thread.running for thread in worker.workers), "the stop")
    finish.set()
    stopping.join()
    stats = client.queues.stats("default")
    assert (stats["ready"], stats["leased"], stats["acknowledged"]) == (2, 0, 1)


def test_join_gives_up(broker: FloBroker) -> None:
    dramatiq.actor(lambda: None, actor_name="nothing").send()
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", interval=10, timeout=50)


def test_a_server_that_is_away(flo: FloProcess) -> None:
    broker = broker_on(f"flo://127.0.0.1:{flo.port}")
    nothing = dramatiq.actor(lambda: None, actor_name="nothing")
    flo.stop()
    with pytest.raises(ConnectionClosed):
        nothing.send()
    with pytest.raises(ConnectionClosed):
        next(broker.consume("default"))


def test_a_rate_limit_and_a_barrier(url: str) -> None:
    backend = FloRateLimiterBackend(url)
    limiter = ConcurrentRateLimiter(backend, "two at once", limit=2)
    with limiter.acquire(), limiter.acquire(), limiter.acquire(raise_on_failure=False) as third:
        assert not third
    with limiter.acquire(raise_on_failure=False) as free:
        assert free
    window = WindowRateLimiter(backend, "three in 300 s", limit=3, window=300)
    taken = []
    for _ in range(5):
        with window.acquire(raise_on_failure=False) as got:
            taken.append(got)
    assert taken == [True, True, True, False, False]
    barrier = Barrier(backend, "two parties")
    assert barrier.create(parties=2) and not barrier.create(parties=2)
    waited: list[Any] = []
    waiting = threading.Thread(target=lambda: waited.append(barrier.wait(timeout=10_000)))
    waiting.start()
    wait_until(lambda: backend._client.get().status()["waiting"] == 1, "a party that waits")
    assert barrier.wait(block=False)
    waiting.join()
    assert waited == [True]


def test_numbers_are_limited_exactly(url: str) -> None:
    """Threads that add at once: none passes the limit, none is lost."""
    backend = FloRateLimiterBackend(url)
    added: list[bool] = []
    threads = [threading.Thread(target=lambda: added.extend(backend.incr("n", 1, 50, 60_000) for _ in range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert added.count(True) == 50
    assert backend.decr("n", 50, 0, 60_000) and not backend.decr("n", 1, 0, 60_000)


def test_the_command_line(url: str, tmp_path: Path) -> None:
    """`dramatiq MODULE`, several processes, and SIGTERM."""
    (tmp_path / "app.py").write_text(
        f"import dramatiq\nfrom tests.contrib.worker import dramatiq_program\nbroker, note = dramatiq_program({url!r})\n"
    )
    _, note = dramatiq_program(url)
    done = tmp_path / "done"
    with (tmp_path / "log").open("wb") as log:
        program = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", "app", "--processes", "2", "--threads", "2", "--path", str(tmp_path)],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    try:
        for number in range(100):
            note.send(str(done), number)
        wait_until(lambda: done.exists() and len(done.read_bytes().splitlines()) == 100, "a hundred tasks")
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0, (tmp_path / "log").read_text()
    finally:
        program.kill()
        program.wait()
    assert {int(line) for line in done.read_bytes().splitlines()} == set(range(100))


def test_kills(tmp_path: Path, long_run: bool) -> None:
    broker, note = None, None

    def send(work: Any, number: int) -> None:
        nonlocal broker, note
        if note is None:
            broker, note = dramatiq_program(work.url)
        note.send(str(work.done), number)

    run_through_kills("dramatiq", "default", send, tmp_path, long_run=long_run)
    assert broker is not None
    broker.close()
