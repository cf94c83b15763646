"""Servers as processes, and a plain RESP client: what the tests of whole servers are built on.

Every wait polls a condition with a deadline. A server is always ended, by its process id, and its directory is the test's.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 30
STOP_SECONDS = 30
POLL_SECONDS = 0.005


def wait_until(condition: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """Poll until `condition()` is true; returns what it gave. Raises `TimeoutError` naming `what`."""
    deadline = time.monotonic() + seconds
    pause = select_pause()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come about in {seconds} s")
        pause()


def select_pause() -> Callable[[], None]:
    """A short pause between two looks at a condition."""
    import select

    return lambda: select.select([], [], [], POLL_SECONDS) and None


class FloProcess:
    """A Flo server of this checkout: a context manager."""

    def __init__(
        self,
        directory: Path,
        *flags: str,
        python: str = sys.executable,
        environment: dict[str, str] | None = None,
        wrapper: Sequence[str] = (),
        start: bool = True,
        program: Sequence[str] = ("-m", "flo"),
    ) -> None:
        """`program` is what the Python runs: this checkout, or an archive of it."""
        self.program = list(program)
        self.directory = directory
        self.flags = flags
        self.python = python
        self.environment = environment or {}
        self.wrapper = list(wrapper)
        self.port = 0
        self._imported = 0  # the process id of which that is known
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = Path(tempfile.mkstemp(prefix="flo-test-", suffix=".log")[1])
        if start:
            self.start()

    def start(self) -> "FloProcess":
        """Start it and wait until it serves."""
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *self.wrapper,
                    self.python,
                    *self.program,
                    "server",
                    "start",
                    "--port",
                    "0",
                    "--data-dir",
                    str(self.directory),
                    *self.flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | self.environment,
            )
        self.port = wait_until(self._listening_port, "the server's listening line")
        return self

    def _listening_port(self) -> int:
        text = self.output()
        match = re.search(r"listening on \S+:(\d+)", text)
        if match:
            return int(match[1])
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended with {self.process.returncode}: {text}")
        return 0

    def output(self) -> str:
        """What it has printed since its last start."""
        return self.log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """kill -9."""
        self.stop(signal.SIGKILL)

    def connect(self, timeout: float = 30) -> "RespClient":
        """A new plain client."""
        return RespClient(self.port, timeout)

    def _import_all(self) -> None:
        """Have it import its handlers, as it does by itself soon after its start: whoever compares its memory begins behind that."""
        from flo.operations import BY_NAME
        from flo.proto.binary import encode_request

        sockets = self.sockets()
        for first in (encode_request(BY_NAME["ping"], 1, 0, b"", b""), b"NOSUCHCOMMAND\r\n"):
            with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
                sock.sendall(first)
                sock.recv(100)
        wait_until(lambda: self.sockets() <= sockets, "the end of two connections")
        self._imported = self.pid

    def rss_bytes(self) -> int:
        """Resident memory."""
        if self._imported != self.pid:
            self._import_all()
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sockets(self) -> int:
        """Open sockets: its connections and what it listens on. Files come and go by themselves: the log's, and modules that are read."""
        count = 0
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):
                count += str(link.readlink()).startswith("socket:")
        return count

    def cpu_seconds(self) -> float:
        """CPU time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> "FloProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.alive():
            self.kill()
        if kind is not None:
            print(self.output()[-4000:])
        self.log_path.unlink(missing_ok=True)


class RedisProcess:
    """A redis-server with an append-only file, for comparison: a context manager."""

    def __init__(self, directory: Path, *flags: str, port: int = 0) -> None:
        """`port` is for one that is started again where it was."""
        self.port = port or free_port()
        self.process = subprocess.Popen(
            [
                "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "",
                "--appendonly", "yes", "--appendfsync", "always", *flags,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(self._serves, "redis-server")

    def _serves(self) -> bool:
        try:
            with RespClient(self.port, 5) as client:
                return client.command("PING") in (b"PONG", ReplyError("NOAUTH Authentication required."))
        except OSError:
            return False

    def connect(self) -> "RespClient":
        """A new plain client."""
        return RespClient(self.port, 30)

    def __enter__(self) -> "RedisProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(STOP_SECONDS)


def free_port() -> int:
    """A port that was free a moment ago, for servers that cannot take the kernel's choice."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def steady_port() -> int:
    """A free port that no outgoing connection takes: a client that tries again and again while nobody listens would otherwise
    connect to itself in the end."""
    chance = random.Random()
    while True:
        port = chance.randrange(12_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ReplyError(Exception):
    """An error reply, as a value: `RespClient` returns it rather than raise it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplyError) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args)


def encode(*args: bytes | str | int) -> bytes:
    """A request."""
    words = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class RespClient:
    """A blocking client with nothing hidden: bytes out, replies in. Errors come back as `ReplyError` values, maps as dicts,
    sets as frozensets, RESP2's simple strings as bytes."""

    def __init__(self, port: int, timeout: float, host: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        """Raw bytes."""
        self.sock.sendall(data)

    def command(self, *args: bytes | str | int) -> Any:
        """One request, its reply."""
        self.send(encode(*args))
        return self.reply()

    def pipeline(self, *requests: Sequence[bytes | str | int]) -> list[Any]:
        """Several requests in one write, their replies."""
        self.send(b"".join(encode(*request) for request in requests))
        return [self.reply() for _ in requests]

    def reply(self) -> Any:
        """Read one reply. Raises `ConnectionError` at the end of input."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError(f"the connection ended with {line!r}")
        mark, rest = line[:1], line[1:-2]
        if mark == b"+":
            return rest
        if mark == b"-":
            return ReplyError(rest.decode())
        if mark == b":":
            return int(rest)
        if mark in b"$=":
            if rest == b"-1":
                return None
            return self.file.read(int(rest) + 2)[:-2]
        if mark in b"*>":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        if mark == b"~":
            return frozenset(self.reply() for _ in range(int(rest)))
        if mark == b"%":
            return {self.reply(): self.reply() for _ in range(int(rest))}
        if mark == b"_":
            return None
        if mark == b"#":
            return rest == b"t"
        if mark == b",":
            return float(rest)
        raise AssertionError(f"not a reply: {line!r}")

    def at_end(self) -> bool:
        """Whether the server has closed the connection (waits for it or for data)."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Close the connection."""
        self.file.close()
        self.sock.close()

    def __enter__(self) -> "RespClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
