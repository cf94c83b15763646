"""A process that is short of file descriptors: requests are refused and passes given up; it never ends for that, and loses nothing."""

import os
import resource
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from contrib.build_pyz import build
from flo.engine import Engine
from flo.errors import Overloaded
from flo.server import DESCRIPTORS_LASTING, DESCRIPTORS_MIN
from flo.ual.backup import DESCRIPTORS_BESIDES
from tests.faults.test_log_faults import Clock, open_engine, sim
from tests.support.faultfiles import SimFiles
from tests.support.processes import ROOT, FloProcess, ReplyError, RespClient, encode, wait_until

KEYS = 12
OPERATIONS = 400


class Short:
    """An engine whose process has hardly a descriptor left, beside what its clients know."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.files: SimFiles = sim()
        self.clock = Clock()
        self.engine: Engine = open_engine(self.files, self.clock)
        self.values: dict[bytes, bytes] = {}
        self.messages: dict[int, bytes] = {}  # by their index in the log
        self.refused = self.given_up = 0

    def squeeze(self) -> None:
        """Others take all descriptors, or leave one or two, or give all back."""
        self.files.descriptors_max = None
        if self.rng.random() < 0.8:
            self.files.descriptors_max = len(self.files.open_files) + self.rng.choice((0, 0, 0, 1, 2))

    def write(self) -> None:
        key, value = b"key-%d" % self.rng.randrange(KEYS), b"%d" % self.rng.randrange(10) * self.rng.randrange(3000)
        try:
            if key in self.values and self.rng.random() < 0.3:
                self.engine.kv.delete(key)
                del self.values[key]
            else:
                self.engine.kv.put(key, value)
                self.values[key] = value
        except Overloaded as e:
            assert "no file descriptor is left" in str(e)
            self.refused += 1

    def enqueue(self) -> None:
        payload = b"%d" % self.rng.randrange(10) * 500
        try:
            self.engine.queues.enqueue(b"queue", payload)
        except Overloaded:
            self.refused += 1
        else:
            self.messages[self.engine.log.next_index - 1] = payload

    def read(self) -> None:
        if self.messages:
            index = self.rng.choice(list(self.messages))
            try:
                found = self.engine.log.read_bytes(index)
            except Overloaded:
                self.refused += 1
            else:
                assert found is not None and found.endswith(self.messages[index])

    def compact(self) -> None:
        try:
            self.engine.compact(tail=self.rng.random() < 0.5)
        except (Overloaded, OSError):
            self.given_up += 1

    def holds(self) -> None:
        assert {key: found.value for key in self.values if (found := self.engine.kv.get(key))} == self.values
        assert len(self.engine.kv.store) == len(self.values)
        for index, payload in self.messages.items():
            record = self.engine.log.read_bytes(index)
            assert record is not None and record.endswith(payload)


@pytest.mark.computes
@pytest.mark.parametrize("seed", range(6))
def test_a_log_without_descriptors_refuses_and_goes_on(seed: int) -> None:
    short = Short(seed)
    for _ in range(OPERATIONS):
        short.squeeze()
        short.rng.choices((short.write, short.enqueue, short.read, short.compact), (6, 3, 3, 1))[0]()
        short.engine.log._reserve_at = 0.0  # it is tried again at once
    assert short.refused and short.given_up
    short.files.descriptors_max = None
    short.engine.kv.put(b"key-0", b"with descriptors again")
    short.values[b"key-0"] = b"with descriptors again"
    short.engine.compact()
    short.holds()
    assert short.engine.log.damage_met == 0
    short.files.descriptors_max = len(short.files.open_files)
    short.engine.close()
    short.files.descriptors_max = None
    assert short.files.open_files == []
    short.engine = open_engine(short.files, short.clock)
    short.holds()


# -- the limit at the start ------------------------------------------------------------------------


def limited(count: int, *command: str) -> list[str]:
    """The command, in a process that may open so many files."""
    return ["sh", "-c", f'ulimit -n {count}; exec "$@"', "sh", *command]


def flo(count: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(limited(count, sys.executable, "-m", "flo", *words), cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("count", [16, 24, DESCRIPTORS_MIN - 1])
def test_a_server_with_too_few_does_not_start(tmp_path: Path, count: int) -> None:
    done = flo(count, "server", "start", "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1 and done.stderr == (
        f"flo: only {count} file descriptors may be open, and a server needs {DESCRIPTORS_MIN}: raise the limit with ulimit -n, or with "
        "LimitNOFILE= of the service.\n"
    )
    assert not (tmp_path / "data").exists()


def test_the_servers_own_are_counted(tmp_path: Path) -> None:
    """The constants say how many there are."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    build(tmp_path / "flo.pyz")
    reader, writer = os.pipe()
    command = [sys.executable, str(tmp_path / "flo.pyz"), "server", "start", "--port", "0", "--data-dir", str(tmp_path / "data")]
    process = subprocess.Popen(command, stderr=writer, env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")})
    try:
        os.close(writer)
        manager.settimeout(30)
        while not manager.recv(1000).startswith(b"READY=1"):
            pass
        wait_until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) == DESCRIPTORS_LASTING, "the number of descriptors", 10)
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        manager.close()


def many_files(directory: Path, count: int) -> None:
    """A log of so many sealed segments, each with a message."""
    with Engine(str(directory)) as engine:
        for number in range(count):
            engine.queues.enqueue(b"queue", b"message %d" % number)
            engine.log.roll()


@pytest.mark.slow
def test_a_server_with_just_enough_serves_a_log_of_many_files(tmp_path: Path) -> None:
    """More files than it may open, more clients than it has room for, a compaction and a backup."""
    many_files(tmp_path / "data", 2 * DESCRIPTORS_MIN)
    with FloProcess(tmp_path / "data", wrapper=limited(DESCRIPTORS_MIN)) as server, server.connect() as client:
        clients = [RespClient(server.port, 10) for _ in range(DESCRIPTORS_MIN)]
        for number in range(2 * DESCRIPTORS_MIN):
            assert client.command("RPOP", "queue") == b"message %d" % number
        assert [each.reply() for each in clients[-3:]] == [ReplyError("ERR max number of clients reached")] * 3
        copied = flo(DESCRIPTORS_MIN, "backup", str(tmp_path / "data"), str(tmp_path / "copy"))
        needed = 2 * DESCRIPTORS_MIN + 1 + DESCRIPTORS_BESIDES
        assert copied.returncode == 1 and copied.stderr == (
            f"flo: only {DESCRIPTORS_MIN} file descriptors may be open, and a backup of {tmp_path}/data needs {needed}: raise the limit "
            "with ulimit -n, or compact the log first.\n"
        )
        done = flo(DESCRIPTORS_MIN, "compact", str(tmp_path / "data"))
        assert done.returncode == 0, done.stderr
        copied = flo(DESCRIPTORS_MIN, "backup", str(tmp_path / "data"), str(tmp_path / "copy"))
        assert copied.returncode == 0, copied.stderr
        for each in clients:
            each.close()
        assert server.stop() == 0 and "Traceback" not in server.output()


@pytest.mark.slow
def test_a_backup_raises_its_own_limit(tmp_path: Path) -> None:
    many_files(tmp_path / "data", 40)
    words = [sys.executable, "-m", "flo", "backup", str(tmp_path / "data"), str(tmp_path / "copy")]
    command = ["sh", "-c", 'ulimit -S -n 32; exec "$@"', "sh", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# -- when they run out -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="another process's limit cannot be set")
def test_a_server_whose_descriptors_are_all_taken_goes_on(tmp_path: Path) -> None:
    """Whatever takes them: it says why it refuses, does not spin, and accepts writes when there are some again."""
    with FloProcess(tmp_path / "data") as server, server.connect() as client:
        for number in range(12):
            client.command("LPUSH", "queue", b"%d" % (number % 10) * 1_000_000)
        server.rss_bytes()  # it has imported its handlers: they are files too
        before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        strangers = [RespClient(server.port, 10) for _ in range(5)]
        refused = None
        for number in range(40):
            answer = client.command("SET", f"key-{number % 3}", b"v" * 1_000_000)
            if answer != b"OK":
                refused = str(answer)
                break
        assert refused is not None and refused.startswith("BUSY no file descriptor is left for the log in"), refused
        for number in range(12):
            assert client.command("RPOP", "queue") == b"%d" % (number % 10) * 1_000_000
        asking = subprocess.Popen([sys.executable, "-m", "flo", "compact", str(tmp_path / "data")], cwd=ROOT, stdout=subprocess.DEVNULL)
        used = server.cpu_seconds()
        with suppress(subprocess.TimeoutExpired):
            asking.wait(1)
        assert server.cpu_seconds() - used < 0.5, "it must not spin"
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
        wait_until(lambda: client.command("SET", "key-0", b"v" * 1_000_000) == b"OK", "room for writes")
        asking.wait(30)
        for stranger in strangers:
            with suppress(ConnectionError):
                stranger.send(encode("PING"))
                assert stranger.reply() in (b"PONG", ReplyError("ERR max number of clients reached"))
            stranger.close()
        assert flo(1024, "compact", str(tmp_path / "data")).returncode == 0
        assert server.stop() == 0 and "Traceback" not in server.output(), server.output()
