"""The transport of a WebSocket connection: it lies over TCP or TLS, and carries the binary protocol (SPEC section 7).

The connection and its session see the bytes of the binary protocol, as if there were no WebSocket. What comes is taken out of its frames.
What goes is a stream of responses; each becomes one message. Where a response is sent in parts, so is its message: a frame for each.
Pings, pongs and close frames are dealt with here.
"""

from contextlib import suppress
from time import monotonic

from flo.proto.binary import RESPONSE, RESPONSE_BYTES
from flo.proto.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    GOING_AWAY,
    NO_STATUS,
    NORMAL,
    PING,
    PONG,
    TEXT,
    UNSUPPORTED,
    FrameReader,
    WebSocketError,
    close_frame,
    close_of,
    frame_head,
)
from flo.transport import Encoding, Transport

RECEIVED = memoryview(bytearray(64 << 10))  # shared by all: what was received is taken out of it at once


class WebSocketTransport(Encoding):
    """One WebSocket over another transport (flo.transport.Transport)."""

    # fmt: off
    __slots__ = (
        "_begun", "_below", "_closed", "_ended", "_farewell", "_frames", "_head", "_left", "_payload", "_plain", "_reader", "descriptor",
        "heard_at",
    )
    # fmt: on

    def __init__(self, below: Transport, plain: int, limit: int) -> None:
        """The next `plain` bytes that are sent are no frames yet: the answer to the upgrade. `limit` bounds a message."""
        super().__init__()
        self._below = below
        self.descriptor: int = below.descriptor
        self._plain = plain
        self._reader = FrameReader(limit)
        self._payload = b""  # received and taken out of its frames, and not asked for yet
        self._ended = False  # the peer sends no more messages
        self._farewell = close_frame(GOING_AWAY)  # the close frame
        self._closed = False  # it was sent: nothing may follow it
        self._frames: list[bytes] = []  # to be sent
        self._head = b""  # of the response under way, as far as it was sent
        self._left = 0  # bytes of its payload
        self._begun = False  # some of its message was sent
        self.heard_at: float = monotonic()  # when the last frame came

    @property
    def readable(self) -> bool:
        """See `Transport`."""
        return bool(self._payload) or self._below.readable

    def set_limit(self, limit: int) -> None:
        """From here on a message may be so long."""
        self._reader.limit = limit

    def ping(self) -> None:
        """Ask for a sign of life."""
        if not self._closed and not self._plain:
            self._frames.append(frame_head(PING, 0))
            self._flush()

    # -- receiving ---------------------------------------------------------------------------------

    def receive(self, size: int, /) -> bytes:
        """See `Transport`."""
        if not self._payload:
            self._receive()
        payload, self._payload = self._payload, b""
        return payload

    def receive_into(self, room: memoryview, /) -> int:
        """See `Transport`."""
        if not self._payload:
            self._receive()
        count = min(len(room), len(self._payload))
        room[:count] = self._payload[:count]
        self._payload = self._payload[count:]
        return count

    def _receive(self) -> None:
        """Fill `_payload`; it stays empty at the end of the input. Raises `BlockingIOError` where no message has come."""
        if self._ended:
            return
        count = self._below.receive_into(RECEIVED)
        if not count:
            self._ended = True
            return
        self.heard_at = monotonic()
        data, at, pieces = bytes(RECEIVED[:count]), 0, list[bytes]()
        try:
            while not self._ended:
                piece, at = self._reader.read(data, at)
                if piece is None:
                    break
                if piece.opcode == BINARY:
                    pieces.append(piece.data)
                elif piece.opcode == TEXT:
                    raise WebSocketError(UNSUPPORTED, "text messages are not taken; send the binary protocol in binary messages")
                elif piece.opcode == PING:
                    self._frames.append(frame_head(PONG, len(piece.data)) + piece.data)
                elif piece.opcode == CLOSE:
                    code, _ = close_of(piece.data)
                    self._close(NORMAL if code == NO_STATUS else code)
        except WebSocketError as e:
            self._close(e.code, str(e))
        self._payload = b"".join(pieces)
        self._flush_answers()
        if not self._payload and not self._ended:
            raise BlockingIOError

    def _close(self, code: int, reason: str = "") -> None:
        """Take no more messages. The requests before are answered; then the close frame goes."""
        if not self._ended:
            self._ended = True
            self._farewell = close_frame(code, reason)
            self._below.end_input()

    # -- sending -----------------------------------------------------------------------------------

    def _encode(self, data: memoryview) -> None:
        if self._plain:
            count = min(self._plain, len(data))
            self._plain -= count
            self._frames.append(bytes(data[:count]))
            data = data[count:]
        if self._closed:
            return
        at = 0
        while at < len(data):
            start = at
            if len(self._head) < RESPONSE_BYTES:
                at = min(start + RESPONSE_BYTES - len(self._head), len(data))
                self._head += data[start:at]
                if len(self._head) == RESPONSE_BYTES:
                    self._left = RESPONSE.unpack(self._head)[-1]
            if len(self._head) == RESPONSE_BYTES:
                more = min(self._left, len(data) - at)
                at += more
                self._left -= more
            last = len(self._head) == RESPONSE_BYTES and not self._left
            self._frames.append(frame_head(CONTINUATION if self._begun else BINARY, at - start, last))
            self._frames.append(bytes(data[start:at]))
            self._begun = not last
            if last:
                self._head = b""

    def _encoded(self) -> bytes:
        frames, self._frames = self._frames, []
        return b"".join(frames)

    def _send_below(self, data: memoryview) -> int:
        return self._below.send(data)

    # -- the rest ----------------------------------------------------------------------------------

    def unacknowledged(self) -> int:
        """See `Transport`."""
        return self._below.unacknowledged()

    def end_input(self) -> None:
        """See `Transport`."""
        self._below.end_input()

    def end_output(self) -> None:
        """See `Transport`."""
        self._say_farewell()
        self._below.end_output()

    def close(self) -> None:
        """See `Transport`."""
        with suppress(OSError):  # the peer is gone, or was never there
            self._say_farewell()
        self._below.close()

    def _say_farewell(self) -> None:
        if not self._closed and not self._plain:
            self._closed = True
            self._frames.append(self._farewell)
            self._flush()
