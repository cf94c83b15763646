"""What commands may ask of the server around them and of their connection. server.py and conn.py are these."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from flo.config import Settings
from flo.engine import Engine


class Peer(Protocol):
    """The connection a session answers on."""

    id: int
    out: list[bytes]  # replies of this tick; they leave after its commit

    @property
    def address(self) -> str:
        """The client's address, `host:port`."""

    @property
    def local_address(self) -> str:
        """The address the client reached, `host:port`."""

    @property
    def age_seconds(self) -> float:
        """Since it was accepted."""

    @property
    def idle_seconds(self) -> float:
        """Since it last sent something."""

    @property
    def descriptor(self) -> int:
        """The socket's file descriptor."""

    @property
    def input_bytes(self) -> int:
        """Received and not executed yet."""

    @property
    def output_bytes(self) -> int:
        """Answered and not sent yet."""

    def push(self, data: bytes) -> None:
        """Send something that is not a reply to a request under way."""

    def owe_secret(self) -> None:
        """The secret is owed from now on: close unless it is given in time."""

    def close_after_replies(self) -> None:
        """Read no more; close once everything is sent."""

    def kill(self) -> None:
        """Close now."""

    def resume_after(self, seconds: float, resume: Callable[[], None]) -> None:
        """Call `resume` after that time, unless the connection closes first."""


class Counters:
    """What INFO's stats are made of. Plain attributes: the hot path adds to them once a batch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        self.connections_received = 0
        self.connections_rejected = 0
        self.commands = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.hits = 0
        self.misses = 0
        self.errors = 0
        self.unknown_protocol = 0
        self.auth_failures = 0


class SlowEntry:
    """One command that took long."""

    def __init__(self, identity: int, when: int, micros: int, args: list[bytes], peer: str, name: bytes) -> None:
        self.id = identity
        self.when = when
        self.micros = micros
        self.args = args
        self.peer = peer
        self.name = name


class ClientSession(Protocol):
    """A session as CLIENT LIST sees it."""

    def describe(self) -> str:
        """Its line in CLIENT LIST."""

    @property
    def peer(self) -> Peer:
        """Its connection."""


class Host(Protocol):
    """The server around a session."""

    engine: Engine
    settings: Settings
    counters: Counters
    secret: bytes | None
    port: int
    run_id: str
    loading: bool
    monitors: set[Peer]
    slow: list[SlowEntry]  # newest last
    slow_count: int
    latency: list[tuple[int, int]]  # (Unix seconds, ms) of ticks over the threshold, oldest first
    flat_context: tuple[Any, ...]  # of commands/flat.py; NO_CONTEXT at the start of a turn
    tick_deadline: float  # monotonic seconds; past it a connection gives way to the others

    @property
    def uptime_seconds(self) -> float:
        """Since the server started."""

    @property
    def connections(self) -> int:
        """How many clients are connected."""

    def sessions(self) -> Iterable[ClientSession]:
        """Every connected client."""

    def shutdown(self) -> None:
        """Finish the tick, sync, stop."""

    def log(self, level: str, message: str, **details: object) -> None:
        """Tell the operator."""
