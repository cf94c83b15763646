"""`flo top`: its numbers, its text without a terminal, its JSON, and the terminal that it leaves as it was."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flo.cli.top import ENTER, LEAVE, lines, view_of, wait_quantile
from flo.client import Client
from tests.support.processes import ROOT, FloProcess, wait_until

pytestmark = pytest.mark.slow

EVIL = "jobs\x1b[2J\x07\nnext"


def stats(time: int, **changes: Any) -> dict[str, Any]:
    """An answer of server_stats."""
    clients = {"connected": 1, "waiting": 0, "bytes_in": 0, "bytes_out": 0}
    log = {"bytes": 5, "syncs": 0, "bytes_written": 0, "durability": "sync", "accepts_adds": True, "damage_met": 0}
    return {
        "time": time, "version": "1", "uptime_seconds": 7.0, "requests": 0, "commands": [], "errors": {},
        "waits": {"count": 0, "under": [[64, 0], [128, 0]]}, "clients": clients, "log": log,
        "memory": {"used": 1, "max": 0, "full": False, "resident": 2},
        "compaction": {"running": False}, "unread": 0, "cpu_seconds": 1.0, "counts": {"keys": 1}, "largest": {},
    } | changes  # fmt: skip


def called(command: str, calls: int, seconds: float = 0.0, failed: int = 0, rejected: int = 0) -> dict[str, Any]:
    """A command in it."""
    return {"protocol": "resp", "command": command, "calls": calls, "seconds": seconds, "failed": failed, "rejected": rejected}


def test_rates_are_of_the_time_between_two_answers() -> None:
    before = stats(1000, requests=100, commands=[called("get", 50, 1.0, 1)], errors={"ERR": 1}, cpu_seconds=2.0)
    now = stats(
        3000, requests=300, commands=[called("get", 150, 1.001, 3), called("set", 10, rejected=4)], errors={"ERR": 3}, cpu_seconds=3.0
    )
    view = view_of(before, now)
    assert (view["requests_per_second"], view["errors_per_second"], view["processor"]) == (100.0, 1.0, 0.5)
    assert view["commands"] == [
        {"protocol": "resp", "command": "get", "per_second": 50.0, "refused_per_second": 1.0, "usec_each": 10.0},
        {"protocol": "resp", "command": "set", "per_second": 5.0, "refused_per_second": 2.0, "usec_each": 0.0},
    ]
    assert view_of(now, before | {"time": 5000})["requests_per_second"] == 0.0, "counts that began again are no negative rate"


def test_quantiles_of_the_waits_between_two_answers() -> None:
    before = stats(0, waits={"count": 10, "under": [[64, 10], [128, 10], [256, 10]]})
    now = stats(1, waits={"count": 111, "under": [[64, 10], [128, 60], [256, 110]]})
    assert wait_quantile(before, now, 0.25) == pytest.approx(64 + 64 * 25.25 / 50, abs=1)
    assert wait_quantile(before, now, 0.5) == pytest.approx(128 + 128 * 0.5 / 50, abs=1)
    assert wait_quantile(before, now, 1.0) == 256
    assert wait_quantile(now, now, 0.5) is None


def test_troubles_are_said() -> None:
    bad = stats(1000, unread=5, compaction={"running": True}, memory={"used": 9, "max": 9, "full": True, "resident": 9})
    bad["log"] |= {"accepts_adds": False, "damage_met": 1}
    text = "\n".join(lines(view_of(stats(0), bad), "here"))
    for word in ("DISK FULL", "MEMORY FULL", "DAMAGE MET: 1 read ", "compacting", "5 values"):
        assert word in text
    good = "\n".join(lines(view_of(stats(0), stats(1000)), "here"))
    assert "FULL" not in good and "DAMAGE" not in good and "compacting" not in good


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    """A server with a queue whose name is hostile."""
    with FloProcess(tmp_path_factory.mktemp("top") / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as client:
        client.queues.enqueue(EVIL, b"1")
        client.queues.enqueue(EVIL, b"2")
        client.queues.dequeue(EVIL)
        client.streams.append("events", b"1")
        yield flo


def command(server: FloProcess, *words: str) -> list[str]:
    """The words of a command line."""
    return [sys.executable, "-m", "flo", "top", "--port", str(server.port), *words]


@pytest.mark.slow
def test_without_a_terminal_each_view_is_printed(server: FloProcess) -> None:
    began = time.monotonic()
    done = subprocess.run(command(server, "--count", "2"), stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began > 1.5, "once a second"
    assert done.stdout.count("Flo ") == done.stdout.count("requests  ") == 2
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert re.search(r"^jobs\\x1b\[2J\\x07\\nnext +2 +1 +0 +1 +0$", done.stdout, re.MULTILINE)
    assert re.search(r"^events +1 +1 +0$", done.stdout, re.MULTILINE)
    assert re.search(r"^server_stats \(binary\) +[01]\.\d ", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_json_is_a_line_each_second(server: FloProcess) -> None:
    done = subprocess.run(command(server, "--count", "2", "--format", "json"), stdin=subprocess.DEVNULL, capture_output=True, cwd=ROOT)
    first, second = map(json.loads, done.stdout.splitlines())
    assert 500 < second["time"] - first["time"] < 20_000
    assert second["largest"]["queue"][0]["name"] == EVIL
    assert second["requests_per_second"] > 0


class Terminal:
    """`flo top` on a terminal of its own: a context manager."""

    def __init__(self, server: FloProcess, *words: str) -> None:
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""
        self.process = subprocess.Popen(
            command(server, *words), stdin=self.slave, stdout=self.slave, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it, and so would its child
        )  # fmt: skip

    def read(self) -> str:
        """All that it has shown."""
        while select.select([self.master], [], [], 0.01)[0]:
            self.shown += os.read(self.master, 65536)
        return self.shown.decode()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(30)
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.parametrize("end", ["q", "ctrl-c", "term", "count"])
def test_the_terminal_is_left_as_it_was(server: FloProcess, end: str) -> None:
    with Terminal(server, *(["--count", "1"] if end == "count" else [])) as terminal:
        wait_until(lambda: "requests " in terminal.read(), "a view")
        if end != "count":
            assert termios.tcgetattr(terminal.slave) != terminal.before
            assert ENTER in terminal.read() and LEAVE not in terminal.read()
        if end == "q":
            os.write(terminal.master, b"xq")  # no more: the terminal echoes what comes behind the end
        elif end != "count":
            terminal.process.send_signal(signal.SIGINT if end == "ctrl-c" else signal.SIGTERM)
        assert wait_until(lambda: [terminal.read()] and terminal.process.poll() is not None, "its end", 30)
        assert terminal.process.returncode == (143 if end == "term" else 0)
        shown = terminal.read()
        assert termios.tcgetattr(terminal.slave) == terminal.before
        assert shown.rstrip().endswith(LEAVE.rstrip())
        assert "\x1b[2J" not in shown and "\x07" not in shown, "the queue's name does nothing"
        assert "jobs\\x1b[2J" in shown
        assert "Traceback" not in shown


@pytest.mark.slow
def test_a_server_that_ends_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data") as flo, Terminal(flo) as terminal:
        wait_until(lambda: "requests " in terminal.read(), "a view")
        flo.stop()
        assert wait_until(lambda: terminal.process.poll() is not None, "its end", 20)
        assert termios.tcgetattr(terminal.slave) == terminal.before
        shown = terminal.read()
        assert LEAVE in shown
        assert terminal.process.returncode == 3
        assert "flo: " in shown.partition(LEAVE)[2], "why is said behind it"
