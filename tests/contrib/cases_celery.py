"""Celery on Flo: a worker with the default pool, results, chords, remote control, and tasks while workers and the server are killed. Runs
in the frameworks' environment: tests/contrib/test_frameworks.py."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import chain, chord, group, states
from celery.exceptions import TimeoutError

import flo.contrib.celery  # noqa: F401  makes the URLs known
from flo import Client
from tests.contrib.kills import Work, run_through_kills
from tests.contrib.worker import celery_program
from tests.support.processes import FloProcess, wait_until

APPLICATION = """
import os
import time
import flo.contrib.celery
from celery import Celery

app = Celery("application", broker=os.environ["FLO_URL"], backend=os.environ["FLO_URL"])
app.conf.update(worker_prefetch_multiplier=1, broker_transport_options={"visibility_timeout": 0.6}, task_acks_late=True)
app.conf.task_reject_on_worker_lost = True

@app.task
def add(x, y):
    return x + y

@app.task
def total(numbers):
    return sum(numbers)

@app.task(bind=True, max_retries=3)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return self.request.retries

@app.task
def fails():
    raise ValueError("no such luck")

@app.task
def sleeps(seconds):
    time.sleep(seconds)
    return os.getpid()
"""


@pytest.fixture(scope="module")
def app(shared_flo: FloProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application, with a worker of two processes."""
    directory = tmp_path_factory.mktemp("celery")
    (directory / "application.py").write_text(APPLICATION)
    os.environ["FLO_URL"] = f"flo://127.0.0.1:{shared_flo.port}"
    sys.path.insert(0, str(directory))
    application = importlib.import_module("application")
    log = (directory / "log").open("wb")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "application", "worker", "-c", "2", "-E", "-l", "INFO"],
        cwd=directory, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        assert application.add.delay(1, 2).get(timeout=30) == 3
        yield application
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            assert worker.wait(20) == 0, (directory / "log").read_text()
        finally:
            os.killpg(worker.pid, signal.SIGKILL) if worker.poll() is None else None
            log.close()
            sys.path.remove(str(directory))


def test_results(app: Any) -> None:
    assert app.third_time.delay().get(timeout=10) == 2
    failed = app.fails.delay()
    with pytest.raises(ValueError, match="no such luck"):
        failed.get(timeout=10)
    assert failed.state == states.FAILURE and "no such luck" in failed.traceback
    failed.forget()
    assert failed.state == states.PENDING
    with pytest.raises(TimeoutError):
        app.add.apply_async((1, 2), countdown=600).get(timeout=0.05)


def test_groups_and_chords(app: Any) -> None:
    assert chain(app.add.s(1, 2), app.add.s(4))().get(timeout=10) == 7
    several = group(app.add.s(number, number) for number in range(300))()
    assert several.get(timeout=30) == [2 * number for number in range(300)]
    assert chord([app.add.s(number, 1) for number in range(20)])(app.total.s()).get(timeout=20) == 210


def test_the_error_of_a_chords_part_is_raised(app: Any) -> None:
    for _ in range(5):
        with pytest.raises(ValueError, match="no such luck"):
            chord([app.add.s(1, 1), app.fails.s()])(app.total.s()).get(timeout=10)


def test_a_chord_waits_for_nested_groups_and_counts_a_repeated_part_once(app: Any) -> None:
    add = app.add
    nested = chain(add.si(1, 0), group(add.si(1, 1), chain(add.si(1, 2), group(app.sleeps.si(0.6), add.si(1, 3)))), add.si(1, 9))
    assert nested().get(timeout=20) == 10
    backend, header = app.app.backend, group(app.sleeps.s(1.5), add.s(1, 1), add.s(1, 1))
    result = chord(header)(app.total.s())
    group_id = result.parent.id
    done = result.parent.results[1]
    done.get(timeout=10)
    with Client(os.environ["FLO_URL"]) as client:
        wait_until(lambda: client.kv.get(f"celery-taskset-meta-{group_id}.count"), "the first part")
        for _ in range(3):  # as a part that runs again does
            again = SimpleNamespace(group=group_id, id=done.id, chord={})
            backend.on_chord_part_return(again, states.SUCCESS, 2)
        assert result.state == states.PENDING
        assert result.get(timeout=20) > 2
        wait_until(lambda: not list(client.kv.scan(f"celery-taskset-meta-{group_id}")), "the end of the chord's keys")
        backend.on_chord_part_return(again, states.SUCCESS, 2)  # and after the end
        assert result.state == states.SUCCESS


def test_a_waiting_client_is_told_at_once(app: Any) -> None:
    """It does not look again and again: here it would look once in a minute."""
    result = app.sleeps.delay(0.3)
    began = time.monotonic()
    assert result.get(timeout=60, interval=60) and time.monotonic() - began < 10
    assert app.app.backend.wait_for(app.add.delay(1, 1).id, timeout=60, interval=60)["result"] == 2


def test_a_result_expires(app: Any) -> None:
    result = app.add.delay(1, 2)
    assert result.get(timeout=10) == 3
    with Client(os.environ["FLO_URL"]) as client:
        key = f"celery-task-meta-{result.id}"
        assert 0 < client.kv.info(key)["deadline"] / 1000 - time.time() <= 24 * 3600
        app.app.backend.expire(key, 0)
        assert client.kv.info(key)["deadline"] == 0


def test_a_long_task_keeps_its_lease(app: Any) -> None:
    result = app.sleeps.delay(2.5)  # four leases
    with Client(os.environ["FLO_URL"]) as client:
        result.get(timeout=20)
        wait_until(lambda: not client.queues.stats("celery")["leased"], "the acknowledgement")
        meta = app.app.backend.get_task_meta(result.id)
        assert meta["status"] == states.SUCCESS
    assert app.app.control.inspect(timeout=0.5).stats()  # the worker is well


def test_an_eta_waits_in_the_server(app: Any) -> None:
    app.add.apply_async((1, 2), countdown=600)
    assert app.add.apply_async((1, 2), countdown=0.3).get(timeout=10) == 3
    (scheduled,) = app.app.control.inspect(timeout=0.5).scheduled().values()
    assert scheduled == []  # no worker holds it
    with Client(os.environ["FLO_URL"]) as client:
        assert client.queues.stats("celery")["delayed"] >= 1


def test_remote_control_and_events(app: Any) -> None:
    assert [list(reply.values()) for reply in app.app.control.ping(timeout=1)] == [[{"ok": "pong"}]]
    seen: list[str] = []
    with app.app.connection_for_read() as connection:
        receiver = app.app.events.Receiver(connection, handlers={"*": lambda event: seen.append(event["type"])})
        for _ in receiver.consume(limit=1, timeout=10, wakeup=False):
            pass  # a heartbeat: now it is there
        result = app.add.delay(1, 2)
        result.get(timeout=10)
        wait_until(lambda: list(receiver.consume(limit=1, timeout=5, wakeup=False)) or "task-succeeded" in seen, "an event of the task")
    long = app.sleeps.apply_async((60,))
    wait_until(lambda: long.id in str(app.app.control.inspect(timeout=0.3).active()), "the start of the task")
    app.app.control.revoke(long.id, terminate=True, signal="SIGKILL")
    with pytest.raises(Exception, match=r"terminated|revoked"):
        long.get(timeout=10)


def test_a_killed_child_costs_no_task(app: Any) -> None:
    """With task_reject_on_worker_lost, as docs/frameworks.md says."""
    (pool,) = [stats["pool"] for stats in app.app.control.inspect(timeout=0.5).stats().values()]
    result = app.sleeps.delay(1)
    wait_until(lambda: result.id in str(app.app.control.inspect(timeout=0.1).active()), "the start of the task")
    for process in pool["processes"]:
        os.kill(process, signal.SIGKILL)
    assert result.get(timeout=20) not in pool["processes"]


def read_in_child(app: Any, task_id: str, answers: Any) -> None:
    """In a forked child: the backend opens a client of its own."""
    answers.put(app.app.AsyncResult(task_id).get(timeout=10))


def test_a_forked_child_has_a_client_of_its_own(app: Any) -> None:
    result = app.add.delay(1, 2)
    assert result.get(timeout=10) == 3
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=read_in_child, args=(app, result.id, answers))
    child.start()
    assert answers.get(timeout=20) == 3
    child.join(20)


def test_no_task_is_lost_when_workers_and_the_server_are_killed(tmp_path: Path, long_run: bool) -> None:
    def send(work: Work, number: int) -> None:
        _, note = celery_program(work.url)
        note.delay(str(work.done), number)

    run_through_kills("celery", "work", send, tmp_path, long_run=long_run)
