"""A worker's life: workers and servers that are killed, draining, and a server that is away. The workers are processes."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flo import Client, calls
from tests.support.processes import ROOT, FloProcess, steady_port, wait_until

pytestmark = pytest.mark.slow

TASKS = """
import os
import threading
from flo import Worker
from flo.worker import Context

worker = Worker("flo://127.0.0.1:PORT", name="life")
HERE = os.path.dirname(__file__)


def note(text):
    with open(os.path.join(HERE, "notes"), "a") as file:
        file.write(text + "\\n")


@worker.action("step", timeout=1000, max_attempts=0, retry_delay=1)
def step(ctx: Context, n: int) -> int:
    note(f"step {n} {ctx.attempt}")
    threading.Event().wait(0.02)
    return n


@worker.queue("jobs", lease=1000, max_attempts=0)
def job(payload: bytes) -> None:
    note(f"job {payload.decode()}")
    threading.Event().wait(0.02)


@worker.action("gate", max_attempts=0)
def gate(ctx: Context) -> int:
    note(f"gate {ctx.attempt}")
    while not os.path.exists(os.path.join(HERE, "open")):
        if threading.Event().wait(0.01) or ctx.cancelled:
            note("told")
            break
    return ctx.attempt
"""


class Tasks:
    """A directory with a module of tasks, and processes that run its worker."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.stack = ExitStack()
        (directory / "tasks.py").write_text(TASKS.replace("PORT", str(port)))

    def start(self, *flags: str) -> subprocess.Popen[str]:
        """A worker."""
        process = subprocess.Popen(
            [sys.executable, "-m", "flo", "worker", "run", "tasks:worker", *flags],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self.stack.callback(end)
        return process

    def notes(self) -> list[str]:
        """What the handlers have written."""
        path = self.directory / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def open_gate(self) -> None:
        """Let the handlers of `gate` end."""
        (self.directory / "open").touch()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FloProcess]:
    """A server whose port stays over a restart."""
    with FloProcess(tmp_path / "data", "--port", str(steady_port())) as process:
        yield process


@pytest.fixture
def client(server: FloProcess) -> Iterator[Client]:
    with Client(f"flo://127.0.0.1:{server.port}") as made:
        yield made


@pytest.fixture
def tasks(tmp_path: Path, server: FloProcess) -> Iterator[Tasks]:
    directory = tmp_path / "tasks"
    directory.mkdir()
    made = Tasks(directory, server.port)
    with made.stack:
        yield made


def has_registered(client: Client) -> bool:
    """Whether a worker of `Tasks` has."""
    return any("gate" in worker["actions"] for worker in client.workers.list())


def test_nothing_is_lost_when_workers_and_the_server_are_killed(server: FloProcess, client: Client, tasks: Tasks, long_run: bool) -> None:
    """Each run and each message is executed at least once, none is left, and each result is the run's own."""
    rounds = 20 if long_run else 2
    workers = [tasks.start("--log-level", "warning") for _ in range(2)]
    wait_until(lambda: has_registered(client), "a worker")
    runs: list[str] = []
    for number in range(rounds):
        numbers, noted = range(len(runs), len(runs) + 75), len(tasks.notes())
        runs += client.run_many([calls.action_invoke("step", f'{{"n": {n}}}') for n in numbers])
        client.run_many([calls.queue_enqueue("jobs", str(n)) for n in numbers])
        wait_until(lambda: len(tasks.notes()) > noted + 20, "twenty deliveries")  # noqa: B023
        workers.pop(0).kill()
        if number % 2:
            server.kill()
            server.start()
            client.close()
        workers.append(tasks.start("--log-level", "warning"))
    assert [client.actions.result(run, block=30_000) for run in runs] == [("completed", str(n).encode()) for n in range(len(runs))]
    wait_until(lambda: not any(client.queues.stats("jobs")[name] for name in ("ready", "delayed", "leased")), "the queue's end")
    done = Counter(line.split()[0] for line in {" ".join(line.split()[:2]) for line in tasks.notes()})
    assert done == {"step": len(runs), "job": len(runs)} and client.queues.stats("jobs")["dead"] == 0


def test_a_held_run_is_reported_when_the_server_is_back(server: FloProcess, client: Client, tasks: Tasks) -> None:
    tasks.start()
    wait_until(lambda: has_registered(client), "the worker")
    run = client.actions.invoke("gate")
    wait_until(lambda: tasks.notes() == ["gate 1"], "the start")
    server.kill()
    tasks.open_gate()
    server.start()
    client.close()  # its connections were to the server that is gone
    assert client.actions.result(run, block=20_000) == ("completed", b"1")


def test_a_run_that_never_arrived_is_given_back(server: FloProcess, client: Client, tasks: Tasks) -> None:
    """Its lease of a minute is not waited for, and no failure is counted."""
    worker = tasks.start("--concurrency", "1")
    wait_until(lambda: client.status()["waiting"] == 2, "a worker that waits for both of its sources")
    client.actions.register("step", timeout=60_000, max_attempts=1)
    worker.send_signal(signal.SIGSTOP)
    server.kill()
    server.start()
    client.close()
    run = client.actions.invoke("step", '{"n": 8}')
    (found,) = client.workers.list()
    assert client.workers.take(found["worker_id"]) is not None  # in the worker's name: an answer that it never reads
    worker.send_signal(signal.SIGCONT)
    assert client.actions.result(run, block=10_000) == ("completed", b"8")
    assert client.actions.status(run)["failures"] == 0 and tasks.notes() == ["step 8 2"]


def test_a_worker_waits_for_its_server(server: FloProcess, client: Client, tasks: Tasks) -> None:
    server.kill()
    worker, stopped = tasks.start(), tasks.start()
    for each in (worker, stopped):
        assert each.stderr is not None
        assert "tries again and again" in each.stderr.readline()
    stopped.terminate()
    assert stopped.wait(20) == 0
    server.start()
    client.close()
    wait_until(lambda: has_registered(client), "the worker")


def test_a_server_that_has_forgotten_everything_is_told_again(tmp_path: Path) -> None:
    directory = tmp_path / "tasks"
    directory.mkdir()
    with FloProcess(tmp_path / "data", "--durability", "ephemeral", "--port", str(steady_port())) as server:
        tasks = Tasks(directory, server.port)
        with tasks.stack, Client(f"flo://127.0.0.1:{server.port}") as client:
            tasks.start()
            wait_until(lambda: client.status()["waiting"] == 2, "a worker that waits")
            server.kill()
            server.start()
            client.close()
            wait_until(lambda: client.status()["waiting"] == 2, "the same, at the new server")
            run = client.actions.invoke("step", '{"n": 1}')
            assert client.actions.result(run, block=10_000) == ("completed", b"1")


def test_sigterm_lets_finish_what_has_begun(client: Client, tasks: Tasks) -> None:
    worker = tasks.start("--concurrency", "2")
    wait_until(lambda: has_registered(client), "the worker")
    runs = [client.actions.invoke("gate") for _ in range(3)]
    wait_until(lambda: len(tasks.notes()) == 2, "two handlers")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: [each["status"] for each in client.workers.list()] == ["draining"], "the end of its waits")
    client.queues.enqueue("jobs", "left")
    assert worker.poll() is None
    tasks.open_gate()
    assert worker.wait(20) == 0
    assert [client.actions.status(run)["status"] for run in runs] == ["completed", "completed", "pending"]
    assert client.queues.stats("jobs")["ready"] == 1 and not list(client.workers.list())


@pytest.mark.parametrize("by_signal", [True, False])
def test_the_rest_is_given_back(client: Client, tasks: Tasks, by_signal: bool) -> None:
    """By a second signal, or when the grace is over."""
    worker = tasks.start("--grace", "60" if by_signal else "0")
    wait_until(lambda: has_registered(client), "the worker")
    run = client.actions.invoke("gate")
    wait_until(lambda: tasks.notes() == ["gate 1"], "the start")
    worker.send_signal(signal.SIGINT)
    if by_signal:
        wait_until(lambda: [each["status"] for each in client.workers.list()] == ["draining"], "the first signal's work")
        worker.send_signal(signal.SIGINT)
    assert worker.wait(20) == 1
    status = client.actions.status(run)
    assert (status["status"], status["failures"]) == ("pending", 0)
    tasks.open_gate()
    tasks.start()
    assert client.actions.result(run, block=20_000) == ("completed", b"2")


def test_a_worker_that_an_operator_drains_stays_idle(client: Client, tasks: Tasks) -> None:
    worker = tasks.start()
    wait_until(lambda: has_registered(client), "the worker")
    (found,) = client.workers.list()
    client.workers.drain(found["worker_id"])
    run = client.actions.invoke("step", '{"n": 1}')
    client.queues.enqueue("jobs", "more")
    wait_until(lambda: tasks.notes() == ["job more"], "a message: the drain is of runs")
    assert client.actions.status(run)["status"] == "pending" and worker.poll() is None
    worker.terminate()
    assert worker.wait(20) == 0


def test_commands_that_name_no_worker(tasks: Tasks) -> None:
    for target, sentence in (
        ("tasks", "does not name a worker"),
        ("nowhere:worker", "there is no module 'nowhere'"),
        ("tasks:nothing", "nothing of the module tasks is nothing"),
        ("tasks:HERE", "HERE of the module tasks is a str"),
    ):
        ran = subprocess.run(
            [sys.executable, "-m", "flo", "worker", "run", target],
            cwd=tasks.directory,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert ran.returncode == 1 and sentence in ran.stderr and "Traceback" not in ran.stderr, ran.stderr


def test_reload_starts_anew_after_a_change(client: Client, tasks: Tasks) -> None:
    """Also after one that cannot be imported."""
    worker = tasks.start("--reload")
    wait_until(lambda: has_registered(client), "the worker")
    path = tasks.directory / "tasks.py"
    text = path.read_text()
    path.write_text(text + "this is no Python\n")
    assert worker.stderr is not None
    lines = iter(worker.stderr.readline, "")
    assert any("cannot be imported" in line for line in lines)
    path.write_text(text.replace('"step"', '"another"'))
    wait_until(lambda: any("another" in each["actions"] for each in client.workers.list()), "the new action")
    run = client.actions.invoke("another", '{"n": 3}')
    assert client.actions.result(run, block=10_000) == ("completed", b"3")
    worker.terminate()
    assert "ended" in "".join(lines) and worker.wait(20) == 0
