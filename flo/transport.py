"""The socket as a connection sees it: bytes in, bytes out, whatever lies between them and the network.

`PlainTransport` is TCP without encryption. TLS (flo.tls) has the same methods and may keep decrypted bytes that nobody has read yet: the
poller does not know about these, so `readable` tells the connection, which asks for a turn by itself.
"""

import fcntl
import socket
import sys
from collections.abc import Callable
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ssl import SSLContext


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

    def encrypted(self, context: "SSLContext", received: bytes, opened: Callable[[], None], /) -> "Transport":
        """TLS over the same socket, whose first bytes are `received`. `opened()` is called once the handshake has ended well."""

    def unacknowledged(self) -> int:
        """Bytes sent that the peer has not taken from the network yet; 0 where the system does not say."""

    def end_output(self) -> None:
        """Tell the peer that nothing more will be sent."""

    def close(self) -> None:
        """Close the socket."""


class PlainTransport:
    """TCP, unencrypted. The three hot methods are the socket's own."""

    __slots__ = ("_sock", "descriptor", "receive", "receive_into", "send")

    readable = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.descriptor = sock.fileno()
        self.receive = sock.recv
        self.receive_into = sock.recv_into
        self.send = sock.send

    def encrypted(self, context: "SSLContext", received: bytes, opened: Callable[[], None]) -> Transport:
        """See `Transport`."""
        from flo.tls import TlsTransport  # not at every start: `ssl` takes 20 ms

        return TlsTransport(self._sock, context, received, opened)

    def unacknowledged(self) -> int:
        """See `Transport`."""
        try:
            return int.from_bytes(fcntl.ioctl(self._sock, TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:
            return 0

    def end_output(self) -> None:
        """See `Transport`."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See `Transport`."""
        self._sock.close()
