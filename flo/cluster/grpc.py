"""gRPC over one HTTP/2 connection: calls of one message each way, and calls that go on (etcd's watches). No socket, no clock.

A message on the wire is a byte (1: compressed, not accepted here), its length (u32, big-endian), and the message. A call ends with the
trailers `grpc-status` and `grpc-message`. Source: grpc.io, "gRPC over HTTP2".
"""

import struct
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from flo.cluster import http2
from flo.cluster.hpack import Header

OK, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 2, 3, 4, 5
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, OUT_OF_RANGE, UNAVAILABLE, UNAUTHENTICATED = 8, 9, 11, 14, 16
CODE_DIGITS_MAX = 4
MESSAGE_BYTES_MAX = 128 << 20  # of an answer: what etcd gives for a range is bounded by the caller's limit
_PREFIX = struct.Struct(">BI")
_HEADERS: list[Header] = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"flo")]


class Status(NamedTuple):
    """How a call has ended."""

    code: int
    message: str


class _Call:
    __slots__ = ("on_end", "on_message", "received", "status")

    def __init__(self, on_message: Callable[[bytes], None], on_end: Callable[[Status], None]) -> None:
        self.on_message = on_message
        self.on_end = on_end
        self.received = bytearray()
        self.status: Status | None = None


class Channel:
    """The calls of one connection. The owner moves the bytes: `take` after each call and each `receive`."""

    def __init__(self, authority: bytes, scheme: bytes = b"http") -> None:
        self.connection: http2.Connection = http2.Connection(authority, scheme)
        self._calls: dict[int, _Call] = {}

    @property
    def usable(self) -> bool:
        """Whether the server takes new calls over this connection."""
        return self.connection.usable

    def call(
        self,
        method: bytes,
        message: bytes,
        on_message: Callable[[bytes], None],
        on_end: Callable[[Status], None],
        *,
        token: bytes = b"",
        goes_on: bool = False,
    ) -> int:
        """Call `/package.Service/Method`; returns the call's number. `on_message` gets each answer; `on_end` is called once, behind the
        last. `goes_on`: more may be sent, and the call ends when the server ends it, or by `cancel`."""
        headers = _HEADERS + ([(b"token", token)] if token else [])
        number = self.connection.request(method, headers)
        self._calls[number] = _Call(on_message, on_end)
        self.connection.send(number, _PREFIX.pack(0, len(message)) + message, ends=not goes_on)
        return number

    def cancel(self, number: int) -> None:
        """End a call; nothing is called for it any more."""
        if self._calls.pop(number, None) is not None:
            self.connection.cancel(number)

    def ping(self) -> None:
        """Ask the server whether it is there; any bytes are an answer."""
        self.connection.ping()

    def take(self) -> bytes:
        """The bytes to be sent."""
        return self.connection.take()

    def receive(self, data: bytes) -> None:
        """Bytes came. Raises `http2.ConnectionLost`; `lose` must follow."""
        for event in self.connection.receive(data):
            call = self._calls.get(event.stream)
            if call is None:
                continue
            if isinstance(event, http2.Data):
                call.received += event.data
                self._deliver(event.stream, call)
            elif isinstance(event, http2.Headers):
                call.status = _status_of(event.headers) or call.status
            else:
                self._end(event.stream, Status(UNAVAILABLE, f"the server ended the call with error {event.code}"))
                continue
            if event.ends:
                self._end(event.stream, call.status or Status(UNKNOWN, "the server ended the call without a status"))

    def lose(self, sentence: str) -> None:
        """The connection is lost, and every call with it: nobody knows what became of them."""
        while self._calls:
            self._end(next(iter(self._calls)), Status(UNAVAILABLE, sentence))

    def _end(self, number: int, status: Status) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            call.on_end(status)

    def _deliver(self, number: int, call: _Call) -> None:
        received = call.received
        while number in self._calls and len(received) >= _PREFIX.size:  # a message may make its reader cancel the call
            compressed, length = _PREFIX.unpack_from(received)
            if compressed or length > MESSAGE_BYTES_MAX:
                raise http2.ConnectionLost(f"the server sent a message of {length} bytes, or compressed, which was not asked for")
            if len(received) < _PREFIX.size + length:
                return
            message = bytes(received[_PREFIX.size : _PREFIX.size + length])
            del received[: _PREFIX.size + length]
            call.on_message(message)


def _status_of(headers: dict[bytes, bytes]) -> Status | None:
    """The status in headers or trailers; None where there is none yet."""
    code = headers.get(b"grpc-status")
    if code is not None:
        text = unquote(headers.get(b"grpc-message", b"").decode("ascii", "replace"))
        return Status(int(code) if code.isdigit() and len(code) <= CODE_DIGITS_MAX else UNKNOWN, text)
    http = headers.get(b":status", b"200")
    return None if http == b"200" else Status(UNAVAILABLE, f"the server answered with HTTP status {http.decode('ascii', 'replace')}")
