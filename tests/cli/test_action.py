"""`flo action` and `flo worker`, as a person or a script uses them."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from flo.client import Client
from tests.cli.test_cli import Result, flo
from tests.support.processes import ROOT, FloProcess, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.computes]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with FloProcess(tmp_path_factory.mktemp("cli") / "data") as process, Client(f"flo://127.0.0.1:{process.port}") as made:
        yield made


@pytest.fixture
def run(client: Client) -> Callable[..., Result]:
    """Run a command against the server."""
    return lambda *args, **kwargs: flo(*args, "--port", str(client.port), **kwargs)


@pytest.mark.slow
def test_the_life_of_a_run(client: Client, run: Callable[..., Result]) -> None:
    missing = run("action", "invoke", "send", "x")
    assert missing.returncode == 1 and b"there is no action 'send'" in missing.stderr
    registered = run("action", "register", "send", "--lease", "5000", "--rate", "100/1000", "--labels", '{"eu": true}')
    assert registered.stdout == b"OK, version 1\n"
    assert client.actions.list_page("send")["actions"][0]["timeout_ms"] == 5000
    assert run("action", "register", "send", "--rate", "100").returncode == 2
    number = run("action", "invoke", "send", "-", "--priority", "3", stdin=b"dear\xff").stdout.decode().strip()
    assert run("action", "input", number, "--format", "raw").stdout == b"dear\xff"
    pending = run("action", "result", number)
    assert pending.returncode == 1 and f"the run {number} is pending" in pending.stderr.decode()
    assert run("action", "runs", "send", "--state", "pending", "--format", "raw").stdout.decode() == f"{number}\n"
    client.workers.register("w", ["send"], labels='{"eu": true}')
    assert b"w " in run("worker", "list").stdout and b"idle" in run("worker", "list").stdout
    assert client.workers.take("w") is not None
    client.workers.fail(number, "no\nroute", worker_id="w")
    failed = run("action", "result", number)
    assert failed.returncode == 1 and b"is failed: no" in failed.stderr and failed.stderr.count(b"\n") == 1
    status = run("action", "status", number).stdout.decode()
    assert "status          failed\n" in status and "attempt 1       failed after" in status
    assert json.loads(run("action", "status", number, "--format", "json").stdout)["attempts"][0]["worker"] == "w"
    assert run("action", "retry", number).stdout == b"OK\n"
    assert run("action", "retry", number).returncode == 1, "it is pending"
    assert run("action", "cancel", number).stdout == b"OK\n"
    for wrong in ((), (number, "--action", "send"), ("--action", "send"), ("--state", "failed")):
        assert run("action", "retry", *wrong).returncode == 2, wrong
    assert run("action", "retry", "--action", "send", "--state", "cancelled").stdout == b"retried 1 run\n"
    assert b"1 pending" in run("action", "list").stdout
    assert run("action", "pause", "send", "on").stdout == b"OK\n" and client.workers.take("w") is None
    assert run("action", "pause", "send", "off").stdout == b"OK\n"
    assert run("action", "delete", "send").returncode == 1, "a run is pending"
    assert run("action", "cancel", number).returncode == 0
    assert run("action", "delete", "send").stdout == b"OK\n"
    assert run("worker", "drain", "w").stdout == b"OK\n" and b"draining" in run("worker", "list").stdout
    assert run("worker", "drain", "missing").returncode == 1


def test_invoke_waits_for_the_output(client: Client) -> None:
    client.actions.register("wait")
    client.workers.register("v", ["wait"])
    command = [sys.executable, "-m", "flo", "action", "invoke", "wait", "--wait", "--port", str(client.port)]
    for end in ("complete", "fail"):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
            found = client.workers.take("v", block=30_000)
            assert found is not None and found.input == b""
            wait_until(lambda: client.status()["waiting"], "the command waits")
            getattr(client.workers, end)(found.run_id, "what came of it", worker_id="v")
            out, error = process.communicate(timeout=30)
        if end == "complete":
            assert (process.returncode, out) == (0, b"what came of it\n")
        else:
            assert (process.returncode, out) == (1, b"") and b"is failed: what came of it" in error


def test_an_input_may_stand_behind_flags(client: Client, run: Callable[..., Result]) -> None:
    client.actions.register("flags")
    for words in (
        ("flags", "--delay", "60000", "x"),
        ("--delay", "60000", "flags", "--", "-x"),
        ("flags", "--delay=60000", "--", "--delay"),
    ):
        done = flo("action", "--port", str(client.port), "invoke", *words)
        assert done.returncode == 0, done.stderr
        assert client.actions.input(done.stdout.decode().strip()) == words[-1].encode()


def test_a_schedule_tells_its_times_to_people_and_to_programs(client: Client, run: Callable[..., Result]) -> None:
    client.actions.register("gone")
    terms = '{"action": "gone", "cron": "0 0 1 1 *"}'
    assert re.fullmatch(rb"OK, first at 20\d\d-01-01T00:00:00.000Z\n", run("schedule", "put", "yearly", terms).stdout)
    first = client.schedules.put("yearly", terms)
    assert run("schedule", "put", "yearly", "-", "--format", "raw", stdin=terms.encode()).stdout == b"%d\n" % first
    assert json.loads(run("schedule", "put", "yearly", terms, "--format", "json").stdout) == {"schedule": "yearly", "next": first}
    client.schedules.put("lost", '{"action": "gone", "every_ms": 100}')
    client.actions.delete("gone")
    wait_until(lambda: client.schedules.list_page("lost")["schedules"][0]["dropped"], "a time that is dropped")
    assert re.search(rb"^lost .* gone, 0 runs, \d+ dropped$", run("schedule", "list").stdout, re.MULTILINE)
    for name in ("lost", "yearly"):
        assert run("schedule", "delete", name).stdout == b"OK\n"
    assert run("schedule", "delete", "lost").returncode == 1
