"""The socket as a connection sees it: bytes in, bytes out, whatever lies between them and the network.

`PlainTransport` is TCP without encryption. TLS (flo.tls) has the same methods and may keep decrypted bytes that nobody has read yet: the
poller does not know about these, so `readable` tells the connection, which asks for a turn by itself.
"""

import fcntl
import socket
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

ENCODED_AT_ONCE = 128 << 10  # bytes of one `send`; the kernel takes about so much
# What may wait to be sent while the peer sends and does not read: a handshake's answers are 8 KiB at most. Only a peer that makes the layer
# answer again and again comes past it (refused renegotiations, pings)
OWED_BYTES_MAX = 64 << 10


class Transport(Protocol):
    """One connection's socket. Every method may raise `OSError` where the peer is gone, and none of them blocks."""

    @property
    def descriptor(self) -> int:
        """What the poller waits for."""

    @property
    def readable(self) -> bool:
        """Whether received bytes lie here unread, of which no event will tell."""

    def receive(self, size: int, /) -> bytes:
        """Received bytes, about `size` at most; none are left here. Nothing at the end of the input. Raises `BlockingIOError` where no
        bytes have come."""

    def receive_into(self, room: memoryview, /) -> int:
        """Receive bytes into `room`; returns their number, 0 at the end of the input. Raises `BlockingIOError` where none have come."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send the first bytes of `data`; returns their number. Raises `BlockingIOError` where the kernel takes none now."""

    def unacknowledged(self) -> int:
        """Bytes sent that the peer has not taken from the network yet; 0 where the system does not say."""

    def end_input(self) -> None:
        """Take no more input: an event says that it has ended."""

    def end_output(self) -> None:
        """Tell the peer that nothing more will be sent."""

    def close(self) -> None:
        """Close the socket."""


class Encoding(ABC):
    """The sending half of a transport that makes other bytes of the connection's, and keeps what the layer below does not take.

    `send` then counts all but the last byte as sent, so that the connection has something unsent, waits until the kernel takes more, and
    calls again: that last byte is encoded already, and counts once everything has gone.
    """

    __slots__ = ("_kept", "_last_kept")

    def __init__(self) -> None:
        self._kept = memoryview(b"")  # encoded, and not taken
        self._last_kept = 0  # 1 if the first byte of the next `send` is in there

    @abstractmethod
    def _encode(self, data: memoryview) -> None:
        """Encode the connection's bytes; `_encoded` then gives them."""

    @abstractmethod
    def _encoded(self) -> bytes:
        """What was encoded since the last call."""

    @abstractmethod
    def _send_below(self, data: memoryview) -> int:
        """Send encoded bytes; returns how many were taken. Raises `BlockingIOError`, `OSError`."""

    def send(self, data: bytes | memoryview, /) -> int:
        """See `Transport`."""
        if not self._flush():
            raise BlockingIOError
        ahead, self._last_kept = self._last_kept, 0
        rest = memoryview(data)[ahead : ahead + ENCODED_AT_ONCE]
        if rest:
            self._encode(rest)
        sent = ahead + len(rest)
        if not self._flush():
            self._last_kept = 1
            sent -= 1
        return sent

    def _flush(self) -> bool:
        """Send what is encoded; returns whether all was taken."""
        while self._kept or self._take():
            try:
                sent = self._send_below(self._kept)
            except BlockingIOError:
                return False
            self._kept = self._kept[sent:]
        return True

    def _take(self) -> bool:
        self._kept = memoryview(self._encoded())
        return bool(self._kept)

    def _flush_answers(self) -> None:
        """Send what the layer itself has answered while it received. Raises `ConnectionAbortedError` where the peer reads none of it."""
        if not self._flush():
            more = self._encoded()
            if more:
                self._kept = memoryview(bytes(self._kept) + more)
            if len(self._kept) > OWED_BYTES_MAX + ENCODED_AT_ONCE:
                raise ConnectionAbortedError("the peer makes the transport answer it, and does not read the answers")


class PlainTransport:
    """TCP, unencrypted. The three hot methods are the socket's own."""

    __slots__ = ("descriptor", "receive", "receive_into", "send", "sock")

    readable = False

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket = sock
        self.descriptor: int = sock.fileno()
        self.receive: Callable[[int], bytes] = sock.recv
        self.receive_into: Callable[[memoryview], int] = sock.recv_into
        self.send: Callable[[bytes | memoryview], int] = sock.send

    def unacknowledged(self) -> int:
        """See `Transport`."""
        try:
            return int.from_bytes(fcntl.ioctl(self.sock, TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:
            return 0

    def end_input(self) -> None:
        """See `Transport`."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RD)

    def end_output(self) -> None:
        """See `Transport`."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See `Transport`."""
        self.sock.close()
