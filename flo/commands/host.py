"""What commands may ask of the server around them and of their connection. server.py and conn.py are these."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from flo.commands.progress import Progress
from flo.config import Settings
from flo.engine import Engine
from flo.waits import Waits

KEYS_AT_ONCE = 200  # of a request without a look whether they are on disk (10 us each) or have expired (4 us)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Peer(Protocol):
    """The connection a session answers on."""

    id: int
    session: Any
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

    def wake(self) -> None:
        """What the session waited for has come: send its reply, go on with the input."""

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
        self.clock_steps = 0


class SlowEntry:
    """One command that took long."""

    def __init__(self, identity: int, when: int, micros: int, args: list[bytes], peer: str, name: bytes) -> None:
        self.id = identity
        self.when = when
        self.micros = micros
        self.args = args
        self.peer = peer
        self.name = name


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """Do not make it."""


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
    loading: bool  # the log is being read
    progress: Progress  # how far that has come
    monitors: set[Peer]
    slow: list[SlowEntry]  # newest last
    slow_count: int
    latency: list[tuple[int, int]]  # (Unix seconds, ms) of ticks over the threshold, oldest first
    waiting: int  # requests of all connections that wait
    inflating: bool  # one large value at a time: what they inflate to was not sent
    waits: Waits  # of all clients, from readable to sent
    tick_deadline: float  # monotonic seconds; past it a connection gives way to the others

    @property
    def uptime_seconds(self) -> float:
        """Since the server started."""

    @property
    def compacting(self) -> bool:
        """Whether the log is being compacted."""

    @property
    def connections(self) -> int:
        """How many clients are connected."""

    def sessions(self) -> Iterable[ClientSession]:
        """Every connected client."""

    def known(self, connection: Peer) -> None:
        """A connection has shown its protocol: it is no newcomer any more."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in a turn that begins so many seconds from now."""

    def namespace_deleted(self) -> None:
        """A namespace is gone: sessions that use it must find that out."""

    def shutdown(self) -> None:
        """Finish the tick, sync, stop."""

    def log(self, level: str, message: str, **details: object) -> None:
        """Tell the operator."""


def client_line(
    peer: Peer,
    *,
    flags: str,
    held: int,
    command: str,
    protocol: str,
    name: str = "",
    library: tuple[str, str] = ("", ""),
    namespace: str = "",
    database: int = 0,
) -> str:
    """A connection's line in CLIENT LIST, in Redis's fields and one of Flo's."""
    return (
        f"id={peer.id} addr={peer.address} laddr={peer.local_address} fd={peer.descriptor} name={name} "
        f"age={int(peer.age_seconds)} idle={int(peer.idle_seconds)} flags={flags} db={database} sub=0 psub=0 ssub=0 multi=-1 watch=0 "
        f"qbuf={peer.input_bytes} qbuf-free=0 argv-mem={held} multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={peer.output_bytes} "
        f"tot-mem={peer.input_bytes + peer.output_bytes + held} events=r cmd={command or 'NULL'} user=default "
        f"redir=-1 resp={protocol} lib-name={library[0]} lib-ver={library[1]} namespace={namespace}"
    )


def resident_bytes() -> int:
    """The process's resident memory, by the kernel's account."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except OSError:  # not Linux: the peak is the nearest there is
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
