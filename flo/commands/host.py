"""What commands may use of the server (`Host`: flo.server.Server) and of their connection (`Peer`: flo.conn.Connection)."""

import os
import sys
from collections.abc import Callable, Iterable, Sized
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from flo.commands.guesses import Guesses
from flo.commands.progress import Progress
from flo.commands.tallies import Tallies
from flo.config import Settings
from flo.engine import Engine
from flo.operator_log import OperatorLog
from flo.waits import Waits

if TYPE_CHECKING:
    from ssl import SSLContext

    from flo.commands.channels import Channels
    from flo.commands.stats import Stats
    from flo.forward import Start
    from flo.websocket import WebSocketTransport

# What a member of a cluster serves (`Host.serves`): a leader everything, a follower reads, one that has not heard of a leader for
# cluster.stale_reads neither. What concerns only the connection, or the server itself, is always served
LITTLE, READS, EVERYTHING = 0, 1, 2
KEYS_AT_ONCE = 200  # a request of more is done in slices if keys may be on disk (10 us each) or expired (4 us each)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Peer(Protocol):
    """The connection a session answers on."""

    id: int
    session: Any
    out: list[bytes]  # replies of this tick, sent after its commit

    @property
    def address(self) -> str:
        """The client's address, `host:port`."""

    @property
    def local_address(self) -> str:
        """The address the client reached, `host:port`."""

    @property
    def age_seconds(self) -> float:
        """Seconds since the connection was accepted."""

    @property
    def idle_seconds(self) -> float:
        """Seconds since the client last sent something."""

    @property
    def descriptor(self) -> int:
        """The socket's file descriptor."""

    @property
    def input_bytes(self) -> int:
        """Bytes received and not executed yet."""

    @property
    def output_bytes(self) -> int:
        """Bytes of replies that are not sent yet."""

    def push(self, data: bytes) -> None:
        """Send data that is no reply, such as a line of MONITOR."""

    def encrypt(self, context: "SSLContext", received: bytes, opened: Callable[[], None]) -> None:
        """Speak TLS from here on; `received` are its first bytes. `opened()` is called once the handshake has ended well."""

    def frame(self, answer: int, limit: int) -> "WebSocketTransport":
        """Speak WebSocket behind the next `answer` bytes of output; `limit` bounds a message. Returns the transport."""

    def owe_secret(self) -> None:
        """Close the connection unless the client gives the secret in time."""

    def close_after_replies(self) -> None:
        """Read no more; close once everything is sent."""

    def kill(self) -> None:
        """Close now."""

    def wake(self) -> None:
        """Send the reply of a wait that has ended, and go on with the input."""

    def resume_after(self, seconds: float, resume: Callable[[], None]) -> None:
        """Call `resume` after `seconds`, unless the connection closes first."""


class Counters:
    """The counts in INFO's stats. Plain attributes: the hot path adds to them once a batch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set every count to 0, for CONFIG RESETSTAT."""
        self.connections_received = 0
        self.connections_rejected = 0
        self.commands = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.hits = 0
        self.misses = 0
        self.unknown_protocol = 0
        self.auth_failures = 0
        self.clock_steps = 0
        self.push_limit_disconnections = 0


class SlowEntry:
    """One command in SLOWLOG."""

    def __init__(self, identity: int, when: int, micros: int, args: list[bytes], peer: str, name: bytes) -> None:
        self.id = identity
        self.when = when
        self.micros = micros
        self.args = args
        self.peer = peer
        self.name = name


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Do not make the call."""


class ClientSession(Protocol):
    """A session as CLIENT LIST sees it."""

    def describe(self) -> str:
        """Its line in CLIENT LIST."""

    @property
    def peer(self) -> Peer:
        """Its connection."""

    @property
    def client_type(self) -> bytes:
        """Its type in CLIENT LIST and CLIENT KILL: `normal` or `pubsub`."""

    protocol: ClassVar[str]
    name: bytes  # that the client gave itself
    last_command: str
    held: int  # bytes of memory it keeps

    @property
    def waits(self) -> Sized:
        """Its requests that wait."""


class ClusterMember(Protocol):
    """This server as a member of a cluster: flo.cluster.member.Cluster."""

    @property
    def leads(self) -> bool:
        """Whether this server serves writes."""

    @property
    def acks(self) -> Waits:
        """How long the replicated log took to acknowledge this server's batches."""

    def leave(self) -> None:
        """Stop the server, and be no member any more."""

    def describe(self) -> dict[str, Any]:
        """The part of cluster_status that is about the cluster."""

    def promote(self, node: str) -> None:
        """Give the lead to that member. Raises `NotFound`."""

    def remove(self, node: str) -> None:
        """Forget a member. Raises `NotFound`, `BadRequest`."""


class Host(Protocol):
    """The server, as sessions use it."""

    engine: Engine
    settings: Settings
    counters: Counters
    tallies: Tallies
    secret: bytes | None
    read_secret: bytes | None  # with which clients may only read
    guesses: Guesses  # of the secret
    tls: "SSLContext | None"  # with the certificate, if one is configured
    port: int
    run_id: str
    loading: bool  # the log is being read
    serves: int  # EVERYTHING, READS or LITTLE
    progress: Progress  # of reading the log
    monitors: set[Peer]
    channels: "Channels"
    scripts: dict[
        bytes, Callable[[Any, list[bytes], list[bytes]], Any]
    ]  # that EVALSHA may name, by their SHA-1 (flo.commands.resp.scripts)
    slow: list[SlowEntry]  # newest last
    slow_count: int
    stats: "Stats | None"  # made for the first who waits for server_stats
    operator_log: OperatorLog
    latency: list[tuple[int, int]]  # (Unix seconds, ms) of ticks over the threshold, oldest first
    waiting: int  # how many requests wait, of all connections
    inflating: bool  # a compressed value is being inflated. One at a time: it can take far more memory than the client sent
    waits: Waits  # the histogram of all clients' waits, from readable to sent
    tick_deadline: float  # monotonic seconds; past it a connection gives way to the others

    @property
    def cluster(self) -> ClusterMember | None:
        """This server as a member of a cluster; None if it is alone."""

    @property
    def uptime_seconds(self) -> float:
        """Since the server started."""

    @property
    def compacting(self) -> bool:
        """Whether the log is being compacted."""

    @property
    def compactions(self) -> int:
        """How many passes of compaction were completed since the start."""

    @property
    def connections(self) -> int:
        """How many clients are connected."""

    def sessions(self) -> Iterable[ClientSession]:
        """Every connected client."""

    def known(self, connection: Peer) -> None:
        """A connection has shown its protocol, and given the secret if there is one: it is no newcomer any more."""

    def set_slow(self, connection: Peer, slow: bool) -> None:
        """The connection's requests take long, or no longer do: others are served first."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in a turn that begins `seconds` from now or later."""

    def namespace_deleted(self) -> None:
        """Tell all sessions that a namespace is deleted: they may use it."""

    def shutdown(self) -> None:
        """Finish the tick, sync, stop."""

    def forward(self, peer: Peer, start: "Start") -> bool:
        """Let a connection go on at the leader of the cluster; returns whether that is begun."""

    def log(self, level: str, message: str, **details: object) -> None:
        """Write a line to the operator's log."""


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
    subscriptions: tuple[int, int] = (0, 0),
) -> str:
    """A connection's line in CLIENT LIST: Redis's fields, and Flo's field `namespace`."""
    return (
        f"id={peer.id} addr={peer.address} laddr={peer.local_address} fd={peer.descriptor} name={name} "
        f"age={int(peer.age_seconds)} idle={int(peer.idle_seconds)} flags={flags} db={database} "
        f"sub={subscriptions[0]} psub={subscriptions[1]} ssub=0 multi=-1 watch=0 "
        f"qbuf={peer.input_bytes} qbuf-free=0 argv-mem={held} multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={peer.output_bytes} "
        f"tot-mem={peer.input_bytes + peer.output_bytes + held} events=r cmd={command or 'NULL'} user=default "
        f"redir=-1 resp={protocol} lib-name={library[0]} lib-ver={library[1]} namespace={namespace}"
    )


def resident_bytes() -> int:
    """The process's resident memory, as the kernel counts it."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except OSError:  # not Linux: only the peak is known
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
