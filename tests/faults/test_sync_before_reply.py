"""Nobody is shown what a crash could take back: the server's own system calls, in order, as strace saw them.

`Checker` reads the trace. From the moment a write request is received until it is written to the log *and* synced, no byte may
leave to any client: not its own reply, and not another client's, which may have been computed after it. A batch is one
pwritev and one fdatasync. Two sabotaged servers, one that does not sync and one that replies before it commits, show that
the checker would notice.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flo.ual.next_segment import SLICE_BYTES
from tests.support.processes import ROOT, FloProcess, RespClient, encode, wait_until

pytestmark = [pytest.mark.computes, pytest.mark.slow]

CALLS = "fdatasync,fsync,pwritev,pwritev2,pwrite64,sendto,sendmsg,write,writev,recvfrom,recvmsg,read"
WRITES = (b"SET", b"INCR", b"DEL", b"MSET", b"EXPIRE", b"APPEND")
_LINE = re.compile(r"^(\d+) +(?:\d+\.\d+ )?(.*)$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_CALL = re.compile(r"^(\w+)\((\d+)<(.*?)>(?:, |\))(.*)$")
_SEGMENT = re.compile(r"/\d{20}\.seg$")


def strace_problem() -> str | None:
    """Why strace cannot be used here, None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed: apt-get install strace"
    ended = subprocess.run(["strace", "-f", "-yy", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return None if ended.returncode == 0 else f"strace is not permitted here (a container needs --cap-add=SYS_PTRACE): {ended.stderr}"


@pytest.fixture(scope="module", autouse=True)
def _needs_strace() -> None:
    problem = strace_problem()
    if problem:
        pytest.skip(problem)


@dataclass
class Call:
    """One finished system call on a descriptor."""

    name: str
    target: str  # what the descriptor is: a path, or TCP:[…]
    rest: str

    @property
    def is_client(self) -> bool:
        return self.target.startswith("TCP")

    @property
    def is_segment(self) -> bool:
        return _SEGMENT.search(self.target) is not None

    @property
    def result(self) -> int:
        match = re.search(r"= (-?\d+)", self.rest[self.rest.rfind(") ") :])
        return int(match[1]) if match else -1


def calls(trace: str) -> Iterator[Call]:
    """The calls of a trace in the order in which they ended; for a send, in which they began: a byte may leave at once."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        thread, text = match[1], match[2]
        resumed = _RESUMED.match(text)
        if resumed:
            text = begun.pop(thread) + resumed[2]
            if text.startswith(("sendto(", "sendmsg(")):
                continue  # given out when it began
        elif text.endswith("<unfinished ...>"):
            text = text.removesuffix("<unfinished ...>").rstrip()
            begun[thread] = text
            if not text.startswith(("sendto(", "sendmsg(")):
                continue
        call = _CALL.match(text)
        if call:
            yield Call(call[1], call[3], call[4])


@dataclass
class Checker:
    """What of the trace broke the promise."""

    violations: list[str] = field(default_factory=list)
    batches: int = 0
    syncs: int = 0
    sends: int = 0
    write_requests: int = 0  # receives that begin with a write
    _owed: bool = False  # a write request was received and no batch was written since
    _unsynced: bool = False  # a batch was written and not synced since

    def read(self, trace: str) -> "Checker":
        """Go through it."""
        for call in calls(trace):
            self._take(call)
        return self

    def _take(self, call: Call) -> None:
        if call.name in ("recvfrom", "recvmsg", "read") and call.is_client:
            if call.result > 0 and any(b"\\r\\n%b\\r\\n" % word in call.rest.encode()[:64] for word in WRITES):
                self.write_requests += 1
                self._owed = True
        elif call.name.startswith("pwrite") and call.is_segment:
            if self._unsynced:
                self.violations.append("a second batch was written before the first was synced")
            self.batches += 1
            self._owed = False
            self._unsynced = True
        elif call.name in ("fdatasync", "fsync") and call.is_segment:
            if not self._unsynced:
                self.violations.append("a sync of the log with nothing new in it")
            self.syncs += 1
            self._unsynced = False
        elif call.name in ("sendto", "sendmsg", "write", "writev") and call.is_client:
            self.sends += 1
            if self._unsynced:
                self.violations.append(f"a reply left between the log write and its sync: {call.rest[:60]}")
            elif self._owed:
                self.violations.append(f"a reply left before the batch of a received write was written: {call.rest[:60]}")


class Traced:
    """A server under strace."""

    def __init__(self, directory: Path, trace: Path, python: str, environment: dict[str, str]) -> None:
        self._trace = trace
        wrapper = ["strace", "-f", "-yy", "-s", "96", "-e", f"trace={CALLS}", "-o", str(trace)]
        self.flo = FloProcess(directory, python=python, environment=environment, wrapper=wrapper)
        match = re.search(r"\(process (\d+),", self.flo.output())
        assert match is not None
        self.pid = int(match[1])
        self.mark = 0
        self.wait_for_background_work()
        self.begin()

    def wait_for_background_work(self) -> None:
        """The spare segment is zeroed when the server is idle; until the last slice is written and synced the trace is not quiet."""
        slices = -(-(self.flo.directory / "spare.seg").stat().st_size // SLICE_BYTES)
        wait_until(lambda: len(re.findall(r"fdatasync\(\d+<[^>]*/spare\.seg>\) += 0", self.trace())) >= slices, "the end of zeroing", 60)

    def begin(self) -> None:
        """Leave what is in the trace so far out."""
        self.mark = self._trace.stat().st_size

    def trace(self) -> str:
        """The trace since `begin`."""
        with self._trace.open("rb") as file:
            file.seek(self.mark)
            return file.read().decode(errors="replace")

    def end(self) -> None:
        """Stop the server; strace ends with it."""
        if self.flo.alive():
            os.kill(self.pid, signal.SIGKILL)
        assert self.flo.process is not None
        self.flo.process.wait(30)


@contextmanager
def traced(tmp_path: Path, python: str = sys.executable, environment: dict[str, str] | None = None) -> Iterator[Traced]:
    """A server under strace, whose trace begins once it is idle."""
    server = Traced((tmp_path / "data").resolve(), tmp_path / "trace", python, environment or {})
    try:
        yield server
    finally:
        server.end()
        server.flo.log_path.unlink(missing_ok=True)


def launcher(tmp_path: Path, patch: str) -> str:
    """An executable that takes Python's place and runs `flo` with `patch` applied."""
    path = tmp_path / "python"
    lines = [
        f"#!{sys.executable}",
        "import sys",
        f"sys.path.insert(0, {str(ROOT)!r})",
        "import flo.cli",
        patch,
        "sys.exit(flo.cli.main(sys.argv[3:]))",
    ]
    path.write_text("\n".join(lines))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def work(port: int, number: int, rounds: int) -> None:
    """One client: writes and reads one at a time, then pipelines that begin with a write."""
    with RespClient(port, 60) as client:
        for at in range(rounds):
            assert client.command("SET", f"k{number}", f"v{at}") == b"OK"
            assert client.command("GET", f"k{number}") == b"v%d" % at
            assert client.command("INCR", f"n{number}") == at + 1
            client.command("GET", f"k{(number + 1) % 4}")
            assert client.command("EXPIRE", f"k{number}", 1000) == 1
        for at in range(rounds):
            requests = [encode("SET", f"p{number}:{i}", at) + encode("GET", f"p{number}:{i}") for i in range(30)]
            client.send(b"".join(requests) + encode("MSET", "m", at, "n", at) + encode("DEL", "m"))
            for _ in range(30):
                assert client.reply() == b"OK"
                assert client.reply() == b"%d" % at
            assert client.reply() == b"OK"
            client.reply()


def load(port: int, rounds: int) -> None:
    """Several clients at once."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(port, number, rounds)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a client hangs"
    assert failures == []


def test_no_reply_leaves_before_its_write_is_on_disk(tmp_path: Path) -> None:
    with traced(tmp_path) as server:
        load(server.flo.port, 40)
        checker = Checker().read(server.trace())
    assert checker.violations == []
    assert checker.batches == checker.syncs, "one sync a batch"
    assert checker.write_requests >= 4 * 40 * 4, "the trace shows the writes that were sent"
    assert 0 < checker.batches <= checker.write_requests
    assert checker.sends >= 4 * 40 * 6


def test_one_client_one_write_is_one_batch_one_sync_one_send(tmp_path: Path) -> None:
    """The exact sequence of system calls of a lone writer."""
    with traced(tmp_path) as server:
        with server.flo.connect() as client:
            client.command("PING")
            server.begin()
            for at in range(20):
                assert client.command("SET", "k", at) == b"OK"
        found = [call.name.removesuffix("2") for call in calls(server.trace()) if call.is_client or call.is_segment]
    assert found[: 20 * 4] == ["recvfrom", "pwritev", "fdatasync", "sendto"] * 20


def test_a_pipeline_is_few_batches(tmp_path: Path) -> None:
    """What arrives together is written and synced together: 500 writes in one packet are not 500 syncs."""
    with traced(tmp_path) as server:
        with server.flo.connect() as client:
            client.command("PING")
            server.begin()
            client.pipeline(*[("SET", f"k{at}", "v") for at in range(500)])
        checker = Checker().read(server.trace())
    assert checker.violations == []
    assert 1 <= checker.batches <= 5, "500 SETs are about 15 KiB: one read, or a few"


def test_reads_and_refusals_write_nothing(tmp_path: Path) -> None:
    with traced(tmp_path) as server:
        with server.flo.connect() as client:
            client.command("SET", "k", "v")
            server.begin()
            for _ in range(50):
                assert client.command("GET", "k") == b"v"
                client.command("GET", "missing")
                client.command("DEL", "missing")
                client.command("INCR", "k")
                client.command("SET", "k", "w", "NX")
                client.command("NONSENSE")
            client.pipeline(*[("GET", "k")] * 500)
        written = [call for call in calls(server.trace()) if call.name.startswith("pwrite") or "sync" in call.name]
    assert written == []


@pytest.mark.parametrize("what", ["Files.sync does nothing", "replies leave before the commit", "commit only every second turn"])
def test_the_checker_fails_a_server_that_breaks_the_promise(tmp_path: Path, what: str) -> None:
    patch = {
        "Files.sync does nothing": """
import os
import flo.ual.files
real = flo.ual.files.Files.sync
def sync(self, fd):
    if os.readlink(f"/proc/self/fd/{fd}").endswith("spare.seg"):
        real(self, fd)  # the test waits for the end of zeroing
flo.ual.files.Files.sync = sync
""",
        "replies leave before the commit": """
import flo.server
real = flo.server.Server.upkeep
def upkeep(self, idle):
    touched, self.reactor.touched = self.reactor.touched, {}
    for item in touched:
        item.flush()
    return real(self, idle)
flo.server.Server.upkeep = upkeep
""",
        "commit only every second turn": """
import flo.server
real = flo.server.Server.commit
turns = 0
def commit(self):
    global turns
    turns += 1
    if turns % 2:
        real(self)
    return 0  # what replies wait for: nothing
flo.server.Server.commit = commit
flo.server.Server.next_due = lambda self: 0.01
""",
    }[what]
    with traced(tmp_path, launcher(tmp_path, patch)) as server:
        load(server.flo.port, 5)
        checker = Checker().read(server.trace())
    assert checker.batches > 0
    assert len(checker.violations) >= 5, "the sabotage went unnoticed"


def test_async_replies_before_the_sync_and_is_noticed(tmp_path: Path) -> None:
    """`async` is allowed what `sync` is not, and the trace shows it: the same checker tells the two apart."""
    with traced(tmp_path, environment={"FLO_DURABILITY": "async"}) as server:
        load(server.flo.port, 5)
        checker = Checker().read(server.trace())
        assert any("between the log write and its sync" in line for line in checker.violations)
        wait_until(lambda: "fdatasync" in server.trace(), "the sync that follows within 100 ms", 10)
