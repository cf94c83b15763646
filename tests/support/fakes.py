"""A RESP session with no socket: a peer that keeps what is sent, a host with an engine in a temporary directory."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from ssl import SSLContext
from typing import Any

from flo.commands.channels import Channels
from flo.commands.guesses import Guesses
from flo.commands.host import EVERYTHING, Counters, Peer
from flo.commands.progress import Progress
from flo.commands.resp import load_table
from flo.commands.resp.session import RespSession
from flo.commands.tallies import Tallies
from flo.config import Settings
from flo.engine import Engine, EngineSettings
from flo.operator_log import OperatorLog
from flo.waits import Waits

NOW = 1_700_000_000_000


class FakePeer:
    """Keeps replies; a held reply is released by `fire`."""

    def __init__(self) -> None:
        self.id = 1
        self.session: Any = None
        self.out: list[bytes] = []
        self.closed = False
        self.later: list[Callable[[], None]] = []
        self.address = self.local_address = "127.0.0.1:1"
        self.age_seconds = self.idle_seconds = 0.0
        self.descriptor = 3
        self.input_bytes = self.output_bytes = 0

    def push(self, data: bytes) -> None:
        self.out.append(data)

    def wake(self) -> None:
        """There is no connection to go on with."""

    def encrypt(self, context: Any, received: bytes, opened: Callable[[], None]) -> None:
        raise AssertionError("no fake host has a certificate")

    def frame(self, answer: int, limit: int) -> Any:
        raise AssertionError("a fake peer has no transport")

    def owe_secret(self) -> None:
        """No time passes here."""

    def close_after_replies(self) -> None:
        self.closed = True

    def kill(self) -> None:
        self.closed = True

    def resume_after(self, seconds: float, resume: Callable[[], None]) -> None:
        self.later.append(resume)


class FakeTimer:
    """A call that comes when a test says so."""

    def __init__(self, seconds: float, callback: Callable[[], None]) -> None:
        self.seconds = seconds
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeHost:
    """A host whose turn never ends by time."""

    def __init__(self, directory: str | None = None) -> None:
        load_table()
        self.directory = directory or tempfile.mkdtemp(prefix="flo-fake-")
        self.time = NOW
        self.serves = EVERYTHING
        self.cluster = None
        self.engine = Engine(self.directory, EngineSettings(segment_bytes=1 << 22), manual=True, clock=lambda: self.time)
        self.settings = Settings(slowlog_slower_than=-1)
        self.counters = Counters()
        self.tallies = Tallies()
        self.secret: bytes | None = None
        self.read_secret: bytes | None = None
        self.tls: SSLContext | None = None
        self.guesses = Guesses()
        self.port, self.run_id, self.loading = 1, "0" * 40, False
        self.progress = Progress()
        self.waiting = 0
        self.inflating = False
        self.timers: list[FakeTimer] = []
        self.monitors: set[Peer] = set()
        self.channels = Channels()
        self.scripts: dict[bytes, Callable[[Any, list[bytes], list[bytes]], Any]] = {}
        self.slow: list[Any] = []
        self.slow_count = 0
        self.stats: Any = None
        self.operator_log = OperatorLog()
        self.latency: list[tuple[int, int]] = []
        self.tick_deadline = float("inf")
        self.uptime_seconds = 0.0
        self.connections = 1
        self.compacting = False
        self.compactions = 0
        self.waits = Waits()
        self.logged: list[str] = []

    def sessions(self) -> list[Any]:
        return []

    def known(self, connection: Peer) -> None:
        """There are no newcomers."""

    def set_slow(self, connection: Peer, slow: bool) -> None:
        """Nobody is served first."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> "FakeTimer":
        self.timers.append(FakeTimer(seconds, callback))
        return self.timers[-1]

    def namespace_deleted(self) -> None:
        """There are no other sessions."""

    def forward(self, peer: Any, start: Any) -> bool:
        raise AssertionError("a fake host is alone")

    def shutdown(self) -> None:
        """Nothing to stop."""

    def log(self, level: str, message: str, **details: object) -> None:
        self.logged.append(f"{level} {message} {details}")

    def tick(self) -> None:
        """A new turn."""
        self.engine.commit()
        self.engine.tick()

    def close(self) -> None:
        """Close the engine and remove the directory."""
        import shutil

        self.engine.close()
        shutil.rmtree(Path(self.directory))


class PlainSession(RespSession):
    """Each request goes through the parser by itself."""

    def note_settings(self) -> None:
        self.ordinary = False


def session(host: FakeHost, plain: bool = False) -> RespSession:
    """A session on `host`; for a `plain` one, each request goes through the parser by itself."""
    made = (PlainSession if plain else RespSession)(host, FakePeer())
    made.note_settings()
    return made


def feed(made: RespSession, data: bytes) -> bytes:
    """Feed bytes and run what they start to its end; returns the replies. What is not taken is fed again with a later call, as
    a connection would."""
    rest = getattr(made.peer, "rest", b"") + data
    replies = b""
    while True:
        taken = made.feed(rest, 1 << 40)
        rest = rest[taken:]
        while made.job is not None:
            made.resume()
        replies += b"".join(made.peer.out)
        made.peer.out.clear()
        if made.busy:
            break
        if not made.yielded and not (made.halted and taken):
            break
        if not rest:
            break
    made.peer.__dict__["rest"] = rest
    return replies
