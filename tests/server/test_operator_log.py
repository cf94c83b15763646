"""The operator's log makes nobody wait and never floods: pipes, terminals and sockets that nobody reads, and the server beside them."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from flo import operator_log
from flo.operator_log import (
    BACKLOG_BYTES_MAX,
    FINISH_SECONDS,
    KIND_LINES_MAX,
    KIND_SECONDS,
    KINDS_MAX,
    RECENT_CHARACTERS,
    RECENT_LINES,
    OperatorLog,
)
from tests.support.processes import ROOT, RespClient

pytestmark = pytest.mark.slow

Ends = Callable[[ExitStack], tuple[int, int]]  # to read from; to write to


class Clock:
    """A steady clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pipe(stack: ExitStack) -> tuple[int, int]:
    return closing(stack, *os.pipe())


def terminal(stack: ExitStack) -> tuple[int, int]:
    return closing(stack, *pty.openpty())


def stream(stack: ExitStack) -> tuple[int, int]:
    """What a journal gives."""
    one, other = socket.socketpair()
    return closing(stack, one.detach(), other.detach())


def closing(stack: ExitStack, reader: int, writer: int) -> tuple[int, int]:
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    return reader, writer


def read_all(reader: int, wanted: bytes, seconds: float = 20) -> bytes:
    """Read until `wanted` has come."""
    data = b""
    end = time.monotonic() + seconds
    while wanted not in data:
        assert select.select([reader], [], [], max(end - time.monotonic(), 0))[0], data[-300:]
        data += os.read(reader, 1 << 16)
    return data


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail, and do not hang, if the body waits for good."""

    def late(*_: object) -> None:
        pytest.fail(f"still waiting after {seconds} s")  # no OSError: the log would take it for the descriptor's

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("ends", [pipe, terminal, stream], ids=lambda ends: ends.__name__)
@pytest.mark.parametrize("reopened", [True, False])
def test_nothing_waits_for_a_reader(ends: Ends, reopened: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines are there or counted, whole and in order, once somebody reads."""
    if not reopened:
        monkeypatch.setattr(operator_log, "_own", lambda descriptor: descriptor)
    with ExitStack() as stack, at_most(20):
        reader, writer = ends(stack)
        flags = fcntl.fcntl(writer, fcntl.F_GETFL)
        log = OperatorLog(descriptor=writer)
        count = 20_000
        for number in range(count):
            log.text(f"line {number} {'x' * (number % 97)}\n")
        assert log.waiting and log._backlog_bytes <= BACKLOG_BYTES_MAX
        assert fcntl.fcntl(writer, fcntl.F_GETFL) == flags, "others who share it are not to be changed"
        thread = threading.Thread(target=lambda: read.append(read_all(reader, b"standard error")))
        read: list[bytes] = []
        thread.start()
        while thread.is_alive():
            log.catch_up()
            select.select([], [], [], 0.001)
        lines = read[0].decode().replace("\r\n", "\n").splitlines()
        written = [line for line in lines if line.startswith("line ")]
        dropped = re.search(r"warning (\d+) lines of this log were dropped", lines[-1])
        assert dropped is not None and int(dropped[1]) == count - len(written) > 0
        assert written == [f"line {number} {'x' * (number % 97)}" for number in range(len(written))]
        assert not log.waiting


def test_a_closed_reader_is_no_matter() -> None:
    with ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, writer)
        os.close(reader)
        log = OperatorLog(descriptor=writer)
        for number in range(10):
            log.text(f"line {number}\n")
        assert not log.waiting
        log.finish()


def test_a_file_gets_all_of_it(tmp_path: Path) -> None:
    """Behind what others have written to it."""
    with open(tmp_path / "log", "wb") as file:
        file.write(b"before\n")
        file.flush()
        log = OperatorLog(descriptor=file.fileno())
        log.write("error", "a defect", traceback="x" * 200_000)
        file.write(b"behind\n")
    text = (tmp_path / "log").read_text()
    assert text.startswith("before\n") and text.endswith("x\nbehind\n") and len(text) > 200_000


def test_the_end_waits_for_a_bounded_time() -> None:
    with ExitStack() as stack, at_most(20):
        reader, writer = pipe(stack)
        log = OperatorLog(descriptor=writer)
        while not log.waiting:
            log.text("x" * 100 + "\n")
        began = time.monotonic()
        log.finish()
        assert FINISH_SECONDS * 0.9 < time.monotonic() - began < FINISH_SECONDS + 1
        log.text("the last words\n")
        thread = threading.Thread(target=lambda: read_all(reader, b"the last words"))
        thread.start()
        log.finish()
        thread.join()
        assert not log.waiting


def lines_of(path: Path) -> list[str]:
    return [line.split(" ", 1)[1].strip() for line in path.read_text().splitlines()]


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[tuple[OperatorLog, Clock, Path]]:
    clock, path = Clock(), tmp_path / "log"
    with open(path, "wb") as file:
        yield OperatorLog(descriptor=file.fileno(), clock=clock), clock, path


def test_each_kind_has_a_rate(limited: tuple[OperatorLog, Clock, Path]) -> None:
    log, clock, path = limited
    for number in range(68):
        log.write("warning", f"the disk is full at {number} bytes", free=number)
        clock.now += 0.25
    log.write("info", "another kind")
    said = lines_of(path)
    assert said[:KIND_LINES_MAX] == [f"warning the disk is full at {number} bytes  free={number}" for number in range(KIND_LINES_MAX)]
    assert said[KIND_LINES_MAX:] == ["info    another kind"]
    assert log.waiting
    log.catch_up()
    assert len(lines_of(path)) == KIND_LINES_MAX + 1, "the 30 s are not over"
    clock.now += KIND_SECONDS
    log.catch_up()
    assert lines_of(path)[-1] == "warning 58 more lines of this kind in 30 s, the last: the disk is full at 67 bytes"
    assert not log.waiting
    log.write("warning", "the disk is full at 99 bytes")
    assert lines_of(path)[-1] == "warning the disk is full at 99 bytes"


def test_the_last_lines_are_kept(limited: tuple[OperatorLog, Clock, Path]) -> None:
    log, clock, _ = limited
    log.write("debug", "not written")
    for number in range(RECENT_LINES + 5):
        log.write("info", f"kind {'x' * (number % 3)}", number=number)
        clock.now += KIND_SECONDS
    log.write("error", "long " + "y" * 10_000, traceback="z" * 10_000)
    assert len(log.recent) == RECENT_LINES
    last = log.recent[-1]
    assert (last.level, last.message) == ("error", "long " + "y" * (RECENT_CHARACTERS - 5))
    assert last.details == {"traceback": "z" * RECENT_CHARACTERS}
    assert log.recent[-2].details == {"number": str(RECENT_LINES + 4)}
    assert [line.number for line in log.recent] == list(range(last.number - RECENT_LINES + 1, last.number + 1))
    assert abs(last.time / 1000 - time.time()) < 60


def test_suppressed_lines_are_counted_at_the_end_and_in_a_new_window(limited: tuple[OperatorLog, Clock, Path]) -> None:
    log, clock, path = limited
    for _ in range(2):
        for _ in range(KIND_LINES_MAX + 3):
            log.write("warning", "again")
        clock.now += KIND_SECONDS
    assert [line for line in lines_of(path) if "more" in line] == ["warning 3 more lines of this kind in 30 s, the last: again"]
    log.finish()
    assert [line for line in lines_of(path) if "more" in line] == ["warning 3 more lines of this kind in 30 s, the last: again"] * 2


def test_the_number_of_kinds_is_bounded(limited: tuple[OperatorLog, Clock, Path]) -> None:
    log, _, path = limited
    for _ in range(KIND_LINES_MAX + 1):
        log.write("warning", "the first")
    for number in range(KINDS_MAX):
        log.write("warning", "kind " + "x" * number)
    assert len(log._kinds) == KINDS_MAX
    assert "warning 1 more lines of this kind in 30 s, the last: the first" in lines_of(path), "it is counted when it is forgotten"


def test_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that starts without one has a file of its own under that number, sooner or later."""
    monkeypatch.setattr(sys, "stderr", None)
    log = OperatorLog()
    log.write("error", "nobody reads this")
    assert not log.waiting
    log.finish()


@contextmanager
def with_unread_stderr(tmp_path: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """A server with a secret, whose standard error is a full pipe; its port; the pipe's end to read from."""
    secret = tmp_path / "secret"
    secret.write_text("open-sesame\n")
    secret.chmod(0o600)
    with ExitStack() as stack:
        reader, writer = pipe(stack)
        command = [sys.executable, "-m", "flo", "server", "start", "--port", "0", "--data-dir", str(tmp_path / "data"), *flags]
        process = subprocess.Popen(command, stderr=writer, cwd=ROOT, env=os.environ | {"FLO_SECRET_FILE": str(secret)})
        stack.callback(process.wait)
        stack.callback(process.kill)
        told = read_all(reader, b"Ctrl-C", 30)
        port = re.search(rb"listening on \S+:(\d+)", told)
        assert port is not None
        own = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(own, b"." * 4096)
        os.close(own)
        yield process, int(port[1]), reader


def test_strangers_cannot_stop_a_server_whose_standard_error_nobody_reads(tmp_path: Path) -> None:
    with with_unread_stderr(tmp_path) as (process, port, reader), RespClient(port, 10) as client:
        assert client.command("AUTH", "open-sesame") == b"OK"
        for number in range(2000):
            with socket.create_connection(("127.0.0.1", port), 10, source_address=("127.0.0.2", 0)) as sock:
                sock.sendall(b"AUTH x\r\n")
                if number % 100 == 0:
                    assert client.command("SET", "k", number) == b"OK"
        os.set_blocking(reader, False)
        process.send_signal(signal.SIGTERM)
        said = b""
        while process.poll() is None or select.select([reader], [], [], 0)[0]:
            if select.select([reader], [], [], 0.05)[0]:
                said += os.read(reader, 1 << 16)
                if not said.strip(b"."):
                    continue
            if process.poll() is not None and not select.select([reader], [], [], 0)[0]:
                break
        assert process.returncode == 0
        text = said.decode().lstrip(".")
        assert text.count("a client gave a wrong secret  peer=") <= 2 * KIND_LINES_MAX
        assert "more lines of this kind" in text and "stopped; everything is on disk" in text


def test_a_server_ends_though_nobody_reads(tmp_path: Path) -> None:
    with with_unread_stderr(tmp_path) as (process, port, _):
        with RespClient(port, 10) as client:
            assert client.command("AUTH", "open-sesame") == b"OK"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_json_counts_too(tmp_path: Path) -> None:
    clock = Clock()
    with open(tmp_path / "log", "wb") as file:
        log = OperatorLog(form="json", descriptor=file.fileno(), clock=clock)
        for number in range(KIND_LINES_MAX + 5):
            log.write("warning", "a client gave a wrong secret", peer=number)
        log.finish()
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert events[-1]["message"] == "5 more lines of this kind in 30 s, the last: a client gave a wrong secret"
    assert [event.get("peer") for event in events] == [*range(KIND_LINES_MAX), None]
