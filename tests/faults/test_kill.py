"""kill -9, SIGTERM and second servers: what was acknowledged is there afterwards, whoever was writing.

Eight writers keep pipelines in flight. Each knows the list of operations it sent and how many were acknowledged. After a
restart, the state of its keys must be that after the first k of them, for one k between those two: nothing acknowledged
is lost, nothing is reordered, no MSET is half there. Beside them one writes points of series, one invokes an action, and a worker
completes the runs.
"""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from flo import Client, calls
from flo.client import Disconnected
from flo.errors import Refusal
from flo.operations.worker import Assignment
from tests.support.processes import ROOT, FloProcess, ReplyError, RespClient, encode, free_port, wait_until

pytestmark = pytest.mark.slow

WRITERS = 8
ROUNDS, ROUNDS_LONG = 8, 100
KEYS = 200  # of one writer; the rest of its keys are unique to an operation
PIPELINE_MAX = 24
ACKNOWLEDGED_MAX = 3000  # of all writers, until the kill
LONG_TTL_SECONDS = 1_000_000

State = dict[bytes, tuple[bytes, bool]]  # key: its value, whether it has a deadline
Request = list[bytes | str | int]


class Writer:
    """One client: a random list of operations on keys of its own, and what was acknowledged of it."""

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.counter = b"c%d:counter" % number
        self.before: State = {}  # what the server held when the round began
        self.sent: list[Request] = []
        self.acknowledged = 0
        self.unique = 0
        self.failure: str | None = None

    def begin(self, state: State) -> None:
        """A new round, on what the server holds."""
        self.before = state
        self.sent = []
        self.acknowledged = 0

    def key(self) -> bytes:
        """One of the keys that are written again and again."""
        return b"c%d:k%d" % (self.number, self.random.randrange(KEYS))

    def operation(self) -> Request:
        """A random one."""
        self.unique += 1
        value = b"v%d" % self.unique + b"x" * self.random.choice((0, 10, 100, 3000))
        kind = self.random.randrange(10)
        if kind < 3:
            return ["SET", b"c%d:u%d" % (self.number, self.unique), value]
        if kind < 6:
            return ["INCR", self.counter]
        if kind < 7:
            return ["SET", self.key(), value]
        if kind < 8:
            return ["DEL", self.key(), self.key()]
        if kind < 9:
            return ["MSET", *(item for _ in range(4) for item in (self.key(), value))]
        return ["SET", self.key(), value, "EX", LONG_TTL_SECONDS]

    def run(self, port: int) -> None:
        """Write until the server is gone."""
        try:
            with RespClient(port, 30) as client:
                while True:
                    batch = [self.operation() for _ in range(self.random.randint(1, PIPELINE_MAX))]
                    self.sent += batch
                    client.send(b"".join(encode(*request) for request in batch))
                    for request in batch:
                        reply = client.reply()
                        if isinstance(reply, ReplyError):
                            self.failure = f"{request[:2]!r} was refused: {reply}"
                            return
                        self.acknowledged += 1
        except OSError:
            pass  # the server was ended; that is the point

    def touched(self) -> list[bytes]:
        """Every key the round may have changed."""
        return sorted({key for request in self.sent for key in keys_of(request)} | {self.counter})

    def check(self, client: RespClient) -> State:
        """Compare the server with the operations; returns what the writer's keys hold."""
        keys = self.touched()
        found = read_state(client, keys)
        touched = set(keys)
        state = {key: value for key, value in self.before.items() if key in touched}
        for request in self.sent[: self.acknowledged]:
            apply(state, request)
        matches = state == found
        for request in self.sent[self.acknowledged :]:
            if matches:
                break
            apply(state, request)
            matches = state == found
        if not matches:
            self.explain(found)
        return {key: value for key, value in self.before.items() if key not in touched} | found

    def explain(self, found: State) -> None:
        """Fail with what differs from the acknowledged state."""
        touched = set(self.touched())
        state = {key: value for key, value in self.before.items() if key in touched}
        for request in self.sent[: self.acknowledged]:
            apply(state, request)
        wrong = {key: (state.get(key), found.get(key)) for key in {*state, *found} if state.get(key) != found.get(key)}
        short = {key: tuple(item and (item[0][:20], item[1]) for item in pair) for key, pair in sorted(wrong.items())[:10]}
        unsure = self.sent[self.acknowledged :]
        pytest.fail(
            f"writer {self.number}: no prefix of the {len(unsure)} operations in flight explains the state; against the state "
            f"after the {self.acknowledged} acknowledged ones (expected, found): {short}; in flight: {[request[:2] for request in unsure]}"
        )


def keys_of(request: Request) -> list[bytes]:
    """The keys a request writes."""
    if request[0] == "MSET":
        return [key for key in request[1::2] if isinstance(key, bytes)]
    if request[0] == "DEL":
        return [key for key in request[1:] if isinstance(key, bytes)]
    assert isinstance(request[1], bytes)
    return [request[1]]


def apply(state: State, request: Request) -> None:
    """What the request does, by the model."""
    if request[0] == "INCR":
        key = keys_of(request)[0]
        old = int(state[key][0]) if key in state else 0
        state[key] = (b"%d" % (old + 1), False)
    elif request[0] == "DEL":
        for key in keys_of(request):
            state.pop(key, None)
    else:
        for key, value in zip(keys_of(request), request[2::2], strict=False):
            assert isinstance(value, bytes)
            state[key] = (value, "EX" in request)


def read_state(client: RespClient, keys: list[bytes]) -> State:
    """What the server holds under `keys`."""
    state: State = {}
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        replies = client.pipeline(*[request for key in part for request in (("GET", key), ("TTL", key))])
        for key, value, ttl in zip(part, replies[::2], replies[1::2], strict=True):
            if value is not None:
                assert ttl == -1 or LONG_TTL_SECONDS - 600 < ttl <= LONG_TTL_SECONDS, (key, ttl)
                state[key] = (value, ttl > 0)
    return state


class SeriesWriter:
    """One client that writes texts in line protocol: each has points of all its series, at a time of their own."""

    def __init__(self, number: int) -> None:
        self.measurement = f"m{number}"
        self.sent = self.acknowledged = 0  # in this round
        self.before = 0  # texts
        self.failure: str | None = None

    def begin(self) -> None:
        """A new round, on what the server holds."""
        self.sent = self.acknowledged = 0

    def run(self, port: int) -> None:
        """Write until the server is gone."""
        try:
            with RespClient(port, 30) as client:
                while True:
                    numbers = range(self.before + self.sent, self.before + self.sent + 5)
                    self.sent += len(numbers)
                    client.send(b"".join(encode("TS.WRITE", self.text(number)) for number in numbers))
                    for _ in numbers:
                        reply = client.reply()
                        if isinstance(reply, ReplyError):
                            self.failure = f"a text was refused: {reply}"
                            return
                        self.acknowledged += 1
        except OSError:
            pass

    def text(self, number: int) -> str:
        return "\n".join(f"{self.measurement},host={host} v={number + host} {number}000000" for host in range(3))

    def check(self, client: RespClient) -> None:
        """The points are those of the first texts, of no less than were acknowledged."""
        answer = json.loads(client.command("TS.QUERY", f"{self.measurement}[0..{self.before + self.sent}]"))
        found = {each["tags"]["host"]: each["points"] for each in answer["series"]}
        count = len(found.get("0", ()))
        assert found == {str(host): [[at, at + host] for at in range(count)] for host in range(3) if count}, "a text is half there"
        assert self.before + self.acknowledged <= count <= self.before + self.sent
        self.before = count


class Invoker:
    """One client that invokes an action."""

    def __init__(self, number: int) -> None:
        self.action = f"a{number}"
        self.ids: list[str] = []  # of the runs that are known
        self.sent = self.acknowledged = 0  # in this round
        self.failure: str | None = None

    def begin(self, port: int) -> None:
        """A new round."""
        self.sent = self.acknowledged = 0
        with Client(f"flo://127.0.0.1:{port}") as client:
            client.actions.register(self.action, timeout=10**9)
            client.workers.register(self.action, [self.action], concurrency=10**6)

    def _calls(self, numbers: range) -> list[Any]:
        return [calls.action_invoke(self.action, str(number), idempotency_key=str(number)) for number in numbers]

    def run(self, port: int) -> None:
        """Invoke until the server is gone."""
        try:
            with Client(f"flo://127.0.0.1:{port}") as client:
                while True:
                    numbers = range(len(self.ids), len(self.ids) + 10)
                    self.sent += len(numbers)
                    answers = client.run_many(self._calls(numbers))
                    if refused := [answer for answer in answers if isinstance(answer, Refusal)]:
                        self.failure = f"an invocation was refused: {refused[0]}"
                        return
                    self.ids += answers
                    self.acknowledged += len(numbers)
        except Disconnected:
            pass

    def check(self, port: int) -> None:
        """Each acknowledged run is there once, and of the others the first ones."""
        known = len(self.ids) - self.acknowledged
        with Client(f"flo://127.0.0.1:{port}") as client:
            (shown,) = client.actions.list_page(self.action)["actions"]
            count = sum(shown["runs"].values())
            assert known + self.acknowledged <= count <= known + self.sent
            more = client.run_many(self._calls(range(known, known + self.sent)))  # the idempotency keys of those that are there give them
            assert more[: self.acknowledged] == self.ids[known:]
            assert more == sorted(more, key=int), "a later run is there, and an earlier one is not"
            self.ids[known:] = more
            for number in range(0, len(self.ids), 97):
                assert client.actions.input(self.ids[number]) == b"%d" % number


class Executor:
    """The worker that completes the runs of an invoker."""

    def __init__(self, invoker: Invoker) -> None:
        self.invoker = invoker
        self.completed: dict[str, bytes] = {}  # run -> its output
        self.reported: dict[str, bytes] = {}  # whose answers are missing
        self.acknowledged = 0  # in this round
        self.failure: str | None = None

    def begin(self) -> None:
        """A new round."""
        self.acknowledged = 0

    def run(self, port: int) -> None:
        """Take runs and complete them until the server is gone."""
        worker = self.invoker.action
        try:
            with Client(f"flo://127.0.0.1:{port}") as client:
                runs: list[Assignment] = []
                while True:
                    self.reported = {run.run_id: b"done %d" % run.attempt for run in runs}
                    reports: list[Any] = [calls.worker_complete(run, output, worker_id=worker) for run, output in self.reported.items()]
                    answers = client.run_many([*reports, *[calls.worker_take(worker)] * 8])
                    if refused := [answer for answer in answers[: len(reports)] if isinstance(answer, Refusal)]:
                        self.failure = f"a report was refused: {refused[0]}"
                        return
                    self.completed |= self.reported
                    self.acknowledged += len(reports)
                    runs = [answer for answer in answers[len(reports) :] if isinstance(answer, Assignment)]
                    if not runs:
                        found = client.workers.take(worker, block=50)
                        runs = [found] if found is not None else []
        except Disconnected:
            pass

    def check(self, port: int, ids: list[str]) -> None:
        """What was acknowledged of these runs is completed with its output, and nothing is that was not reported."""
        with Client(f"flo://127.0.0.1:{port}") as client:
            for run, (state, output) in zip(ids, client.run_many([calls.action_result(run) for run in ids]), strict=True):
                if run in self.completed or state == "completed":
                    expected = (self.completed | self.reported)[run]
                    assert (state, output) == ("completed", expected), run
                    self.completed[run] = expected
                else:
                    assert state in ("pending", "running"), (run, state)


def load_until(server: FloProcess, writers: Sequence[Any], acknowledged: int, end: Callable[[], None]) -> None:
    """Let the writers write until so much is acknowledged, then `end` the server."""
    threads = [threading.Thread(target=writer.run, args=(server.port,), daemon=True) for writer in writers]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(writer.acknowledged for writer in writers) >= acknowledged or not any(t.is_alive() for t in threads), "the load")
    end()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a writer did not see that its server is gone"
    assert [writer.failure for writer in writers if writer.failure] == []
    assert sum(writer.acknowledged for writer in writers) >= acknowledged


def test_kill_at_a_random_moment_loses_nothing_acknowledged(flo: FloProcess, long_run: bool) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    writers = [Writer(number, seed) for number in range(WRITERS)]
    states: list[State] = [{} for _ in writers]
    series, invoker = SeriesWriter(0), Invoker(0)
    executor = Executor(invoker)
    for _ in range(ROUNDS_LONG if long_run else ROUNDS):
        for writer, state in zip(writers, states, strict=True):
            writer.begin(state)
        series.begin()
        invoker.begin(flo.port)
        executor.begin()
        load_until(flo, [*writers, series, invoker, executor], chance.randint(1, ACKNOWLEDGED_MAX), flo.kill)
        flo.start()
        with flo.connect() as client:
            states = [writer.check(client) for writer in writers]
            series.check(client)
        invoker.check(flo.port)
        executor.check(flo.port, [*invoker.ids[-1000:], *executor.reported])
    executor.check(flo.port, invoker.ids)
    print(f"{series.before} texts, {len(invoker.ids)} runs, {len(executor.completed)} completed")
    assert series.before and executor.completed
    with flo.connect() as client:  # and what was written in earlier rounds is still there
        for state in states:
            assert read_state(client, sorted(state)) == state
        assert client.command("DBSIZE") == sum(map(len, states))
    assert flo.stop() == 0
    check = subprocess.run(
        [sys.executable, "-m", "flo", "check", str(flo.directory)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_under_load_exits_0_and_keeps_everything(flo: FloProcess, number: signal.Signals) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    writers = [Writer(which, seed) for which in range(WRITERS)]
    states: list[State] = [{} for _ in writers]
    for acknowledged in (1, 2000):
        for writer, state in zip(writers, states, strict=True):
            writer.begin(state)
        statuses: list[int] = []
        load_until(flo, writers, acknowledged, lambda: statuses.append(flo.stop(number)))  # noqa: B023 - called in this very round
        assert statuses == [0], flo.output()
        flo.start()
        with flo.connect() as client:
            states = [writer.check(client) for writer in writers]


def test_the_check_notices_one_lost_write(flo: FloProcess) -> None:
    writer = Writer(0, 2)
    writer.begin({})
    load_until(flo, [writer], 200, flo.kill)
    flo.start()
    lost = next(key for request in writer.sent for key in keys_of(request) if b":u" in key)
    with flo.connect() as client:
        writer.check(client)
        assert client.command("DEL", lost) == 1
        with pytest.raises(pytest.fail.Exception, match="no prefix"):
            writer.check(client)


def test_kills_during_recovery_lose_nothing(flo: FloProcess) -> None:
    """A server that is killed while it recovers leaves the directory as good as it was."""
    writers = [Writer(number, 1) for number in range(WRITERS)]
    for writer in writers:
        writer.begin({})
    load_until(flo, writers, 2000, flo.kill)
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-m", "flo", "server", "start", "--port", "0", "--data-dir", str(flo.directory)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
        ) as process:  # fmt: skip
            lock = flo.directory / "LOCK"
            mark = f"process {process.pid}\n"
            wait_until(lambda: lock.read_text() == mark, "the lock")  # noqa: B023
            process.kill()
    flo.start()
    with flo.connect() as client:
        for writer in writers:
            writer.check(client)


# -- second servers --------------------------------------------------------------------------------


def start_and_wait(directory: Path, port: int, python: str = sys.executable) -> Any:
    """Run a server that is expected to end by itself."""
    return subprocess.run(
        [python, "-m", "flo", "server", "start", "--port", str(port), "--data-dir", str(directory)],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def assert_one_line_and_1(ended: Any, *expected: str) -> None:
    """Exit status 1, one line on standard error that names what is `expected`, nothing else."""
    assert ended.returncode == 1, ended
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1 and ended.stderr.endswith("\n"), ended.stderr
    for part in expected:
        assert part in ended.stderr


def test_a_second_server_on_the_directory_says_who_holds_it(flo: FloProcess) -> None:
    assert_one_line_and_1(start_and_wait(flo.directory, 0), f"process {flo.pid}", str(flo.directory))
    with flo.connect() as client:
        assert client.command("SET", "still", "here") == b"OK"


def test_a_second_server_on_the_port_says_so(flo: FloProcess, tmp_path: Path) -> None:
    assert_one_line_and_1(start_and_wait(tmp_path / "other", flo.port), str(flo.port))
    with flo.connect() as client:
        assert client.command("PING") == b"PONG"


def test_a_port_taken_while_it_recovered_is_one_line_too(tmp_path: Path) -> None:
    """Two servers start at once on one port; SO_REUSEADDR lets both bind, and the slower one's listen() fails."""
    launcher = tmp_path / "python"
    launcher.write_text(
        f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
import socket, flo.cli, flo.server
real = flo.server.Engine
port = int(sys.argv[sys.argv.index("--port") + 1])
def engine(*args, **kwargs):
    global other
    other = socket.socket()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    other.bind(("127.0.0.1", port))
    other.listen()
    return real(*args, **kwargs)
flo.server.Engine = engine
sys.exit(flo.cli.main(sys.argv[3:]))
"""
    )
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    port = free_port()
    assert_one_line_and_1(start_and_wait(tmp_path / "data", port, str(launcher)), str(port))


def test_a_lock_left_by_a_killed_server_is_no_lock(flo: FloProcess) -> None:
    with flo.connect() as client:
        client.command("SET", "k", "v")
    flo.kill()
    assert (flo.directory / "LOCK").exists()
    flo.start()
    with flo.connect() as client:
        assert client.command("GET", "k") == b"v"
    assert flo.pid != os.getpid()
