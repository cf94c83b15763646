"""A run's life at the worker that was written from docs/wire-protocol.md alone (tests/support/plain_worker.py)."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flo import Client
from tests.support.processes import FloProcess, steady_port, wait_until

pytestmark = pytest.mark.slow

LEASE_MS = 900
Start = Callable[..., "Plain"]


class Plain:
    """The worker as a process, and what it has told so far."""

    def __init__(self, port: int, directory: Path, worker: str, *flags: str) -> None:
        self.told = directory / worker
        with self.told.open("wb") as out:
            command = [sys.executable, "-I", "tests/support/plain_worker.py", str(port), worker, "work", *flags]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out)
        self.wait_for("registered")

    def events(self, event: str, **wanted: Any) -> list[dict[str, Any]]:
        """What it told of this kind, with these fields."""
        lines = self.told.read_bytes().rpartition(b"\n")[0].splitlines()
        return [each for each in map(json.loads, lines) if each.items() >= {"event": event, **wanted}.items()]

    def wait_for(self, event: str, **wanted: Any) -> dict[str, Any]:
        """The first such event."""
        found: list[dict[str, Any]] = wait_until(lambda: self.events(event, **wanted), f"{event} {wanted}")
        return found[0]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts workers, and kills those that are left."""
    started: list[Plain] = []

    def begin(port: int, worker: str, *flags: str) -> Plain:
        started.append(Plain(port, tmp_path, worker, *flags))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.fixture
def client(flo: FloProcess) -> Iterator[Client]:
    """A client of a server that has the action `work`."""
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        client.actions.register("work", timeout=LEASE_MS, retry_delay=10)
        yield client


def invoke(client: Client, **order: Any) -> str:
    return client.actions.invoke("work", json.dumps(order))


def ended(client: Client, run: str) -> tuple[str, list[tuple[int, str, str]]]:
    """Wait for the end of a run; gives its state, and its attempts."""
    state = client.actions.result(run, block=20_000).state
    return state, [(each["number"], each["worker"], each["how"]) for each in client.actions.status(run)["attempts"]]


def test_each_step_of_a_runs_life(flo: FloProcess, client: Client, start: Start) -> None:
    worker = start(flo.port, "plain", "--concurrency", "2")
    (listed,) = client.workers.list_page("plain")["workers"]
    assert (listed["actions"], listed["labels"], listed["concurrency"]) == (["work"], {"kind": "plain"}, 2)

    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    echoed = client.actions.invoke("work", b'{"do": "echo", "x": "\xc3\xa9"}', traceparent=trace)
    assert client.actions.result(echoed, block=20_000) == ("completed", b'{"do": "echo", "x": "\xc3\xa9"}')
    assert worker.wait_for("started", run=echoed) == {
        "event": "started",
        "run": echoed,
        "attempt": 1,
        "action": "work",
        "traceparent": trace,
    }

    assert ended(client, invoke(client, do="flaky", attempts=3, delay=20)) == (
        "completed",
        [(1, "plain", "failed"), (2, "plain", "failed"), (3, "plain", "completed")],
    )
    failed = invoke(client, do="fail")
    assert ended(client, failed) == ("failed", [(1, "plain", "failed")])
    assert client.actions.result(failed).output == b"it cannot be done"
    released = invoke(client, do="release")
    assert ended(client, released) == ("completed", [(1, "plain", "released"), (2, "plain", "completed")])
    assert client.actions.status(released)["failures"] == 0

    slow = invoke(client, do="slow", seconds=2 * LEASE_MS / 1000)  # longer than a lease: only touches keep it
    cancelled = invoke(client, do="slow", seconds=600)
    worker.wait_for("touched", run=cancelled)
    assert client.actions.status(cancelled)["progress"].endswith(" %")
    client.actions.cancel(cancelled)
    worker.wait_for("cancelled", run=cancelled)
    assert ended(client, slow) == ("completed", [(1, "plain", "completed")])
    assert len(worker.events("touched", run=slow)) >= 4
    assert ended(client, cancelled) == ("cancelled", [(1, "plain", "cancelled")])
    assert worker.events("refused") == []


@pytest.mark.parametrize("who", ["worker", "operator"])
def test_a_drained_worker_finishes_its_runs_and_deregisters(flo: FloProcess, client: Client, start: Start, who: str) -> None:
    worker = start(flo.port, "plain", "--concurrency", "2")
    held = invoke(client, do="slow", seconds=0.5)
    worker.wait_for("started", run=held)
    if who == "worker":
        worker.process.terminate()
        worker.wait_for("draining")
    else:
        client.workers.drain("plain")
    left = invoke(client, do="echo")
    assert worker.process.wait(20) == 0
    assert ended(client, held) == ("completed", [(1, "plain", "completed")])
    assert worker.wait_for("deregistered")["status"] == 0
    assert client.workers.list_page()["workers"] == []
    assert client.actions.status(left)["status"] == "pending"


def test_a_run_of_a_killed_worker_comes_to_the_next(flo: FloProcess, client: Client, start: Start) -> None:
    first = start(flo.port, "first")
    run = invoke(client, do="slow", seconds=1)
    first.wait_for("touched", run=run)
    first.process.kill()
    start(flo.port, "second")
    assert ended(client, run) == ("completed", [(1, "first", "timed_out"), (2, "second", "completed")])


def test_a_worker_outlives_its_server(tmp_path: Path, start: Start) -> None:
    """A server that is killed in the middle of a run comes back: the worker finishes the same attempt, and takes the next run."""
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    secret.chmod(0o600)
    port = steady_port()
    address = f"flo://:open%20sesame@127.0.0.1:{port}/eu"
    with FloProcess(tmp_path / "data", "--port", str(port), "--secret-file", str(secret)) as flo:
        with Client(address) as client:
            client.namespaces.create("eu")
            client.actions.register("work", timeout=60_000)
            worker = start(port, "plain", "--namespace", "eu", "--secret", "open sesame")
            run = invoke(client, do="slow", seconds=1)
            worker.wait_for("started", run=run)
        flo.kill()
        flo.start()
        with Client(address) as client:
            assert ended(client, run) == ("completed", [(1, "plain", "completed")])
            assert ended(client, invoke(client, do="echo")) == ("completed", [(1, "plain", "completed")])
