"""A real file system that is full: writes that add are refused with a sentence, all else goes on, and room brings them back."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from flo.client import Client
from flo.commands.binary import load_handlers
from flo.commands.binary.session import BinarySession
from flo.commands.resp.session import RespSession
from flo.operations import BY_NAME
from flo.proto.binary import encode_request
from tests.support.fakes import FakeHost, FakePeer
from tests.support.processes import ROOT, FloProcess, ReplyError, RespClient, encode, wait_until

load_handlers()

SIZE = 160 << 20
VALUE = "v" * 20_000
# No passes over the tail: one begins when the machine happens to be idle, and makes room that a test counts on not being there
SETTINGS = {"FLO_KV_HISTORY_DEPTH": "1", "FLO_LOG_COMPACT_QUIET": "0s"}


class Disk:
    """A small file system of memory, in which a server can be run: mounted here, or in a namespace of the server's own."""

    def __init__(self, where: Path, size: int = SIZE) -> None:
        self.where = where
        where.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "flo-test", str(where)]
        self._mounted = subprocess.run(mount, capture_output=True).returncode == 0
        self.wrapper: list[str] = []
        if not self._mounted:
            self.wrapper = ["unshare", "-rm", "sh", "-c", " ".join(mount) + ' && exec "$0" "$@"']
            if subprocess.run([*self.wrapper, "true"], capture_output=True).returncode:
                pytest.skip("neither a mount nor a namespace is allowed here")

    def seen(self, flo: FloProcess) -> Path:
        """Where the test finds it while the server runs."""
        return self.where if self._mounted else Path(f"/proc/{flo.pid}/root{self.where}")

    def close(self) -> None:
        if self._mounted:
            # a server that was killed leaves a process that compacts, which ends once it sees that
            wait_until(lambda: subprocess.run(["umount", str(self.where)], capture_output=True).returncode == 0, "the file system's end")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    yield made
    made.close()


def fill(where: Path, leave: int) -> Path:
    """A file that takes all but `leave` bytes."""
    path = where / "filler"
    free = os.statvfs(where).f_bavail * os.statvfs(where).f_frsize
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - leave)
    return path


def write_until_refused(client: RespClient) -> tuple[dict[str, str], ReplyError]:
    """Overwrite some keys until that is refused; what was acknowledged, and the refusal."""
    held: dict[str, str] = {}
    for number in range(100_000):
        key, value = f"key-{number % 100}", f"{number}:{VALUE}"
        reply = client.command("SET", key, value)
        if isinstance(reply, ReplyError):
            return held, reply
        held[key] = value
    raise AssertionError("the disk is never full")


def test_a_full_disk(disk: Disk) -> None:
    """Refused, read, deleted, acknowledged; then there is room, and writes go on without a restart."""
    with (
        FloProcess(disk.where / "data", wrapper=disk.wrapper, environment=SETTINGS) as flo,
        flo.connect() as client,
        Client(f"flo://127.0.0.1:{flo.port}") as binary,
    ):
        for i in range(50):
            client.command("QENQUEUE", "jobs", f"job-{i}")
        client.command("XADD", "events", "*", "a", "1")
        binary.actions.register("job", retry_delay=0)
        binary.workers.register("w", ["job"], concurrency=9)
        runs = [binary.actions.invoke("job", "in") for _ in range(4)]
        assert [binary.workers.take("w") is not None for _ in range(2)] == [True, True]
        # so little that the next segment cannot be reserved, nor a compaction be done
        filler = fill(disk.seen(flo), 1 << 20)
        held, refusal = write_until_refused(client)
        assert str(refusal).startswith("BUSY") and "full" in str(refusal) and "Free some space" in str(refusal)
        for command in (
            ("SET", "new", "x"),
            ("INCR", "n"),
            ("LPUSH", "jobs", "x"),
            ("XADD", "events", "*", "a", "2"),
            ("ACTION", "INVOKE", "job", "in"),
        ):
            assert isinstance(client.command(*command), ReplyError), command
        for key, value in held.items():
            assert client.command("GET", key) == value.encode()
        assert client.command("DEL", "key-0") == 1
        held.pop("key-0")
        taken = client.command("QDEQUEUE", "jobs", "COUNT", "10")
        if not isinstance(taken, ReplyError):
            assert client.command("QACK", "jobs", *(f"{seq}-{attempts}" for seq, _, attempts in taken)) == 10
        binary.workers.complete(runs[0], "out", worker_id="w")
        assert binary.workers.fail(runs[1], "oh", worker_id="w", retry=True) == "pending"
        binary.actions.cancel(runs[2])
        again = [binary.workers.take("w") for _ in range(2)]
        assert [each.run_id for each in again if each] == [runs[1], runs[3]]
        assert [binary.actions.result(run).state for run in runs] == ["completed", "running", "cancelled", "running"]
        assert "aof_last_write_status:err" in client.command("INFO").decode()
        assert "full" in flo.output()
        filler.unlink()
        wait_until(lambda: client.command("SET", "new", "x") == b"OK", "writes that are accepted again")
        binary.actions.invoke("job", "in")
        assert binary.actions.result(runs[0]) == ("completed", b"out")
        for key, value in held.items():
            assert client.command("GET", key) == value.encode()
        assert client.command("GET", "key-0") is None


@pytest.mark.slow
def test_what_is_dead_in_the_log_makes_room(disk: Disk) -> None:
    """A full disk begins a compaction: with room for one base, writes go on by themselves."""
    with FloProcess(disk.where / "data", wrapper=disk.wrapper, environment=SETTINGS) as flo, flo.connect() as client:
        for number in range(1500):  # 30 MB, of which 2 are live: less than what is compacted for its growth
            assert client.command("SET", f"key-{number % 100}", f"{number}:{VALUE}") == b"OK"
        fill(disk.seen(flo), 6 << 20)
        held, _ = write_until_refused(client)
        wait_until(lambda: client.command("SET", "new", "x") == b"OK", "room that compaction made")
        assert "compacted the log" in flo.output()
        for key, value in held.items():
            assert client.command("GET", key) == value.encode()


@pytest.mark.parametrize("protocol", ["resp", "binary"])
def test_a_turn_s_large_values_are_not_more_than_is_reserved(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd's values of 60,000 bytes in one turn, on a disk that becomes full under them: those that there is room for are accepted, the
    others refused, and the batch is written. It was not asked, and so the process ended."""
    host = FakeHost()
    try:
        log = host.engine.log

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(log.files, "reserve", full)
        value = b"v" * 60_000
        made: list[Any] = []
        for number in range(120):
            key = b"k%03d" % number
            if protocol == "resp":
                made.append((RespSession(host, FakePeer()), encode("SET", key, value)))
            else:
                made.append((BinarySession(host, FakePeer()), encode_request(BY_NAME["kv_put"], number, 0, key, value)))
        for session, data in made:
            assert session.feed(data, 1 << 20) == len(data)
        answers = [b"".join(session.peer.out) for session, _ in made]
        accepted = [answer for answer in answers if answer.startswith((b"+OK", b"FLO\x01\x00\x00"))]
        assert 20 < len(accepted) < 110, len(accepted)
        assert all(b"room" in answer or b"full" in answer for answer in answers if answer not in accepted)
        host.engine.commit()
        assert len(host.engine.kv.store) == len(accepted)
    finally:
        host.close()


@pytest.mark.slow
def test_a_kill_on_a_full_disk(disk: Disk) -> None:
    """kill -9, a start on the same full disk, and everything acknowledged is there; a stop and a start, too."""
    with FloProcess(disk.where / "data", wrapper=disk.wrapper, environment=SETTINGS) as flo:
        if disk.wrapper:
            pytest.skip("a namespace's file system goes with its server")
        with flo.connect() as client:
            filler = fill(disk.seen(flo), 1 << 20)
            held, _ = write_until_refused(client)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            flo.stop(number)
            flo.start()
            with flo.connect() as client:
                for key, value in held.items():
                    assert client.command("GET", key) == value.encode()
                if client.command("SET", "new", "x" * 5_000_000) == b"OK":  # a compaction has made room meanwhile
                    held["new"] = "x" * 5_000_000
        filler.unlink()
        with flo.connect() as client:
            wait_until(lambda: client.command("SET", "new", "x") == b"OK", "writes that are accepted again")


SERIES = 20
ACTIONS = 20


class Fill:
    """One way to fill a disk with what Flo has, to delete half of it, and to look at what is left."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.count = 0
        self.ids: list[str] = []  # of records and runs

    def begin(self, client: RespClient) -> None:
        """Register the actions."""
        if self.kind == "runs":
            with self._binary(client) as binary:
                for number in range(ACTIONS):
                    binary.actions.register(f"job-{number}")

    @staticmethod
    def _binary(client: RespClient) -> Client:
        return Client(f"flo://127.0.0.1:{client.sock.getpeername()[1]}")

    def add(self, client: RespClient) -> bool:
        """Put a hundred in; False once one was refused."""
        rows = [f"{number}:" + "x" * (number * 37 % 900) for number in range(self.count, self.count + 100)]
        many: list[tuple[str, ...]]
        if self.kind == "keys":  # with what they were before: its history
            many = [("SET", f"key-{number}", row) for number, row in enumerate(rows, self.count) for row in (row[::-1], row)]
        elif self.kind == "messages":
            many = [("QENQUEUE", "queue", row) for row in rows]
        elif self.kind == "points":
            many = [("TS.WRITE", self.lines(number)) for number in range(self.count, self.count + 20)]
        elif self.kind == "runs":
            many = [("ACTION", "INVOKE", f"job-{number % ACTIONS}", row) for number, row in enumerate(rows, self.count)]
        else:
            many = [("XADD", f"stream-{number % 3}", "*", "row", row) for number, row in enumerate(rows, self.count)]
        answers = client.pipeline(*many)
        refused = next((at for at, answer in enumerate(answers) if isinstance(answer, ReplyError)), len(answers))
        if refused < len(answers):
            assert str(answers[refused]).startswith("BUSY"), answers[refused]
        self.ids += [str(answer, "ascii") if isinstance(answer, bytes) else str(answer) for answer in answers[:refused]]
        self.count += refused // 2 if self.kind == "keys" else refused
        return refused == len(answers)

    @staticmethod
    def lines(number: int) -> str:
        """500 points of one of the series."""
        return "\n".join(f"m,host=h{number % SERIES} v={time / 8} {time}000000" for time in range(number * 500, number * 500 + 500))

    def delete_half(self, client: RespClient, make_room: Callable[[], None]) -> None:
        """Every other one; `make_room` is called where not even that fits."""
        if self.kind == "points":
            with self._binary(client) as binary:
                for number in range(0, SERIES, 2):
                    assert binary.ts.delete("m", tags=f"host=h{number}") == 1
            return
        if self.kind == "runs":  # a cancelled run is kept for a while, unless its action goes
            with self._binary(client) as binary:
                for number in range(0, ACTIONS, 2):
                    for run in self.ids[number::ACTIONS]:
                        binary.actions.cancel(run)
                    binary.actions.delete(f"job-{number}")
            return
        for start in range(0, self.count, 200):
            numbers = range(start, min(start + 200, self.count), 2)
            for attempt in range(3):
                if self.kind == "keys":
                    answer = client.command("DEL", *(f"key-{number}" for number in numbers))
                elif self.kind == "messages":
                    answer = client.command("QDEQUEUE", "queue", "COUNT", str(len(numbers)))
                    if not isinstance(answer, ReplyError):
                        answer = client.command("QACK", "queue", *(str(seq) for seq, _, _ in answer))
                else:
                    answers = [client.command("XDEL", f"stream-{n % 3}", self.ids[n]) for n in numbers]
                    answer = next((each for each in answers if isinstance(each, ReplyError)), len(answers))
                if not isinstance(answer, ReplyError):
                    break
                assert attempt < 2, answer
                make_room()

    def check(self, client: RespClient) -> None:
        """What was not deleted is there."""
        if self.kind == "keys":
            for start in range(1, self.count, 200):
                numbers = range(start, min(start + 200, self.count), 2)
                found = client.command("MGET", *(f"key-{number}" for number in numbers))
                assert [value.split(b":")[0] for value in found] == [b"%d" % number for number in numbers]
        elif self.kind == "points":
            for number in range(1, SERIES, 2):
                answer = json.loads(client.command("TS.QUERY", f'm{{host="h{number}"}}[0..{self.count * 500}] | count()'))
                assert answer["series"][0]["points"] == [[0, len(range(number, self.count, SERIES)) * 500]]
        elif self.kind == "runs":
            with self._binary(client) as binary:
                for action in binary.actions.list_page(limit=ACTIONS)["actions"]:
                    assert action["runs"]["pending"] == len(self.ids[int(action["name"].removeprefix("job-")) :: ACTIONS])
                for number in range(1, len(self.ids), 98):
                    assert binary.actions.input(self.ids[number]).startswith(b"%d:" % number)
        elif self.kind == "messages":
            flat_stats = client.command("QSTATS", "queue")
            stats = dict(zip(flat_stats[::2], flat_stats[1::2], strict=True))
            assert stats[b"ready"] + stats[b"leased"] >= self.count // 2 - 200, stats
        else:
            left = sum(client.command("XLEN", f"stream-{number}") for number in range(3))
            assert left == self.count // 2, left


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", (24, pytest.param(64, marks=pytest.mark.long), pytest.param(200, marks=pytest.mark.long)))
@pytest.mark.parametrize("kind", ("keys", "messages", "records", "points", "runs"))
def test_the_way_out_of_a_disk_full_of_flo(tmp_path: Path, megabytes: int, kind: str) -> None:
    """Filled until it refuses, with the settings as they are: half is deleted, `flo compact`, and writes are accepted, without a restart.
    docs/operations.md, "A disk that is full"."""
    disk = Disk(tmp_path / "disk", megabytes << 20)
    if disk.wrapper:
        pytest.skip("`flo compact` must see the file system: a mount is needed")
    try:
        with FloProcess(disk.where / "data") as flo, flo.connect() as client:

            def compact() -> None:
                done = subprocess.run(
                    [sys.executable, "-m", "flo", "compact", str(flo.directory)], cwd=ROOT, capture_output=True, text=True, timeout=60
                )
                assert done.returncode == 0, done.stderr

            filled = Fill(kind)
            filled.begin(client)
            while filled.add(client):
                pass
            size = int(info_of(client, "flo_log_size"))
            assert size > (megabytes << 20) // 5, "refused long before the disk is full"
            filled.delete_half(client, compact)
            compact()
            began = monotonic()
            wait_until(lambda: not isinstance(client.command("SET", "new", "x"), ReplyError), "writes that are accepted")
            assert monotonic() - began < 10
            filled.check(client)
            flo.kill()
            flo.start()
            with flo.connect() as again:
                filled.check(again)
                filled.begin(again)
                while filled.add(again):  # and again, up to the next time
                    pass
            assert flo.stop() == 0
        out = tmp_path / "elsewhere"
        for words in (["compact", str(flo.directory), "--to", str(out)], ["check", str(out)], ["check", str(flo.directory)]):
            done = subprocess.run([sys.executable, "-m", "flo", *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
        with FloProcess(out) as moved, moved.connect() as client:
            assert filled.count > (500 if kind == "points" else 1000)
            if kind == "keys":
                assert client.command("GET", f"key-{filled.count - 1}").startswith(b"%d:" % (filled.count - 1))
    finally:
        disk.close()


def info_of(client: RespClient, field: str) -> str:
    """A field of INFO."""
    return next(str(line.split(":", 1)[1]) for line in client.command("INFO").decode().splitlines() if line.startswith(field + ":"))
