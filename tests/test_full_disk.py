"""A real file system that is full: writes that add are refused with a sentence, all else goes on, and room brings them back."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flo.commands import flat
from flo.commands.binary import flat as binary_flat
from flo.commands.binary import load_handlers
from flo.commands.binary.session import BinarySession
from flo.commands.session import RespSession
from flo.proto.binary import encode_request
from flo.proto.operations import BY_NAME
from tests.fakes import FakeHost, FakePeer
from tests.processes import FloProcess, ReplyError, RespClient, encode, wait_until

load_handlers()
binary_flat.prepare()

SIZE = 160 << 20
VALUE = "v" * 20_000
# No passes over the tail: one begins when the machine happens to be idle, and makes room that a test counts on not being there
SETTINGS = {"FLO_KV_HISTORY_DEPTH": "1", "FLO_LOG_COMPACT_QUIET": "0s"}


class Disk:
    """A small file system of memory, in which a server can be run: mounted here, or in a namespace of the server's own."""

    def __init__(self, where: Path) -> None:
        self.where = where
        where.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "flo-test", str(where)]
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
    with FloProcess(disk.where / "data", wrapper=disk.wrapper, environment=SETTINGS) as flo, flo.connect() as client:
        for i in range(50):
            client.command("QENQUEUE", "jobs", f"job-{i}")
        client.command("XADD", "events", "*", "a", "1")
        # so little that the next segment cannot be reserved, nor a compaction be done
        filler = fill(disk.seen(flo), 1 << 20)
        held, refusal = write_until_refused(client)
        assert str(refusal).startswith("BUSY") and "full" in str(refusal) and "Free some space" in str(refusal)
        for command in (("SET", "new", "x"), ("INCR", "n"), ("LPUSH", "jobs", "x"), ("XADD", "events", "*", "a", "2")):
            assert isinstance(client.command(*command), ReplyError), command
        for key, value in held.items():
            assert client.command("GET", key) == value.encode()
        assert client.command("DEL", "key-0") == 1
        held.pop("key-0")
        taken = client.command("QDEQUEUE", "jobs", "COUNT", "10")
        if not isinstance(taken, ReplyError):
            assert client.command("QACK", "jobs", *(f"{seq}-{attempts}" for seq, _, attempts in taken)) == 10
        assert "aof_last_write_status:err" in client.command("INFO").decode()
        assert "full" in flo.output()
        filler.unlink()
        wait_until(lambda: client.command("SET", "new", "x") == b"OK", "writes that are accepted again")
        for key, value in held.items():
            assert client.command("GET", key) == value.encode()
        assert client.command("GET", "key-0") is None


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
        lane: Any = flat.run_many if protocol == "resp" else binary_flat.run_many
        for at in range(0, len(made), 2):  # as many as a connection's turn receives
            work: list[Any] = made[at : at + 2]
            done = 0
            while done < len(work):
                done, offset = lane(work, done, 1 << 20)
                if done < len(work):  # the plain way, as the connection goes on
                    session, data = work[done]
                    assert session.go_on(data, offset) == len(data)
                    done += 1
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
                assert isinstance(client.command("SET", "new", "x" * 5_000_000), ReplyError)
        filler.unlink()
        with flo.connect() as client:
            wait_until(lambda: client.command("SET", "new", "x") == b"OK", "writes that are accepted again")
