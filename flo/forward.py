"""A connection of a follower that goes on at the leader: from its first write on, its bytes are passed on as they are, both ways.

The first request is made anew from what was parsed. Before it goes the *greeting*: what the leader must know of the session, such as the
secret, the namespace and the protocol. The client does not get its answers. The request is sent once they have come without a refusal, for
without its namespace it would write to another one. What follows is not looked at any more, so order and read-your-writes are the leader's
own. When the leader ends, so does the client; a client that sends nothing more still gets its answers.
"""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from flo.endpoint import Address
from flo.loop import GONE, READ, WRITE, Timer
from flo.session import SilentSession
from flo.unsent import Unsent

RECEIVE_BYTES = 64 << 10
BACKLOG_BYTES_MAX = 1 << 20  # unsent in one direction: then nothing more is taken from the other side
LOOK_SECONDS = 0.01  # how often a full client is looked at
CONNECT_SECONDS = 2.0


class Start(NamedTuple):
    """How a forwarded connection begins at the leader."""

    greeting: bytes  # sent first
    # of the answers to it at the start of these bytes: their length, and the refusal among them for the client, empty if there is none;
    # None if they are not whole
    answers: Callable[[bytes], tuple[int, bytes] | None]
    request: bytes  # the first request
    refusal: bytes  # for the client, if the leader cannot be reached and was not sent the request


class Client(Protocol):
    """The client's connection (flo.conn.Connection)."""

    @property
    def output_bytes(self) -> int:
        """Bytes that it has not taken yet."""

    @property
    def input_bytes(self) -> int:
        """Bytes of it that are kept."""

    def push(self, data: bytes) -> None:
        """Send it bytes."""

    def wake(self) -> None:
        """Go on with its input."""

    def close_after_replies(self) -> None:
        """Close it once everything is sent."""


class Loop(Protocol):
    """What is needed of the reactor."""

    def register(self, fd: int, events: int, handler: Callable[[int], None], /) -> None:
        """Call `handler` when the descriptor is ready."""

    def modify(self, fd: int, events: int, /) -> None:
        """Wait for other events of it."""

    def unregister(self, fd: int, /) -> None:
        """Wait for it no longer."""

    def call_later(self, seconds: float, callback: Callable[[], None], /) -> Timer:
        """Call back after that time."""


class Forwarded(SilentSession):
    """The session of such a connection."""

    lasts: bool

    def __init__(self, loop: Loop, client: Client, address: Address, start: Start) -> None:
        """Begin to connect to the leader. Raises `OSError`."""
        super().__init__()
        self.yielded = True  # what the client has sent behind the first request is still to be passed on
        self._loop, self._client = loop, client
        self._answers = start.answers if start.greeting else None  # None once the leader has granted the greeting
        self._greeted = b""  # what came of the answers to the greeting
        self._request, self._refusal = start.request, start.refusal
        self._unsent = Unsent()
        self._unsent.add(start.greeting or start.request)
        self._taken_bytes = self._unsent.bytes  # all that was to be sent
        self._refuses = False  # the client has bytes that were not taken, and is to be told when they are
        self._ends = False  # the client sends nothing more
        self._open = True
        self._timer: Timer | None = loop.call_later(CONNECT_SECONDS, self._late)
        self._sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            failure = self._sock.connect_ex(address.address)
            if failure not in (0, errno.EINPROGRESS):
                raise OSError(failure, "the leader cannot be reached")
        except OSError:
            self._timer.cancel()
            self._sock.close()
            raise
        self._fd = self._sock.fileno()
        self._events = READ | WRITE
        loop.register(self._fd, self._events, self._ready)

    # -- from the client ---------------------------------------------------------------------------

    def feed(self, data: bytes, output_room: int, /) -> int:
        """See `Session`: pass the bytes on, unless too many wait, or the greeting is not answered."""
        if not self._open:
            return len(data)
        self._refuses = self._answers is not None or self._unsent.bytes > BACKLOG_BYTES_MAX
        if self._refuses:
            return 0
        self._unsent.add(data, 0)
        self._taken_bytes += len(data)
        self._send(taking=len(data) if self._ends else 0)
        return len(data)

    def end_of_input(self) -> bool:
        """See `Session`: the leader is told, and its answers are still passed on."""
        self._ends = self.lasts = True
        self._send()
        return self._open

    def _send(self, taking: int = 0) -> None:
        """Send what there is; `taking` bytes of it the client counts as input still."""
        try:
            if self._unsent.bytes:
                self._unsent.send(self._sock.send)
        except OSError as e:
            if e.errno not in (errno.ENOTCONN, errno.EAGAIN):
                self._lose()
                return
        if self._ends and self._answers is None and not self._unsent.bytes and self._client.input_bytes == taking:
            with suppress(OSError):  # the leader is gone, as an event tells
                self._sock.shutdown(socket.SHUT_WR)
            self._ends = False
        self._wait_for((self._events & READ) | (WRITE if self._unsent.bytes else 0))
        if self._refuses and self._answers is None and self._unsent.bytes <= BACKLOG_BYTES_MAX:
            self._refuses = False
            self._client.wake()

    # -- from the leader ---------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & WRITE:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._send()
        if self._open and events & (READ | GONE):
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        if self._answers is not None:
            self._greeted += data
            found = self._answers(self._greeted)
            if found is None:
                return
            length, refusal = found
            if refusal:
                self._refusal = refusal
                self._lose()
                return
            data, self._greeted, self._answers = self._greeted[length:], b"", None
            self._unsent.add(self._request)
            self._taken_bytes += len(self._request)
            self._send()
            if not self._open:
                return
        if data:
            self._client.push(data)
        if self._client.output_bytes > BACKLOG_BYTES_MAX:
            self._wait_for(self._events & ~READ)
            self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Receive again once the client has taken what there is."""
        if not self._open:
            return
        if self._client.output_bytes > BACKLOG_BYTES_MAX:
            self._loop.call_later(LOOK_SECONDS, self._look)
        else:
            self._wait_for(self._events | READ)

    def _late(self) -> None:
        self._timer = None
        self._lose()

    def _lose(self) -> None:
        """The leader is gone, and the client with it: it connects again. The request is refused only if it was not sent: else the leader
        may have executed it."""
        if not self._open:
            return
        was_sent = self._answers is None and self._unsent.bytes != self._taken_bytes
        self.end()
        if not was_sent:
            self._client.push(self._refusal)
        self._client.close_after_replies()

    def _wait_for(self, events: int) -> None:
        if self._open and events != self._events:
            self._events = events
            self._loop.modify(self._fd, events)

    def end(self) -> None:
        """See `Session`."""
        if not self._open:
            return
        self._open = self.lasts = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._unsent.clear()
        self._loop.unregister(self._fd)
        self._sock.close()
