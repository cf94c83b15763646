"""HTTP/2 (RFC 9113) as a client of gRPC needs it: streams of one connection to one server. No socket, no clock.

`Connection.request` opens a stream, `send` adds to it; `take` gives the bytes to be sent, `receive` takes what came and gives events.
There is no push (refused in the settings) and no priority. What the peer may send is bounded by its own frames' lengths, for it is etcd and
the client needs all of what it asked for.

Layout of a frame (section 4.1), big-endian: u24 length, u8 type, u8 flags, u32 stream (31 bits), payload.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from flo.cluster import hpack
from flo.cluster.hpack import Header
from flo.errors import FloError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5

FRAME_BYTES = 9
FRAME_PAYLOAD_MAX = 16384  # what every peer must take, and what this one takes: section 4.2
WINDOW_START = 65535  # section 6.9.2
WINDOW = 64 << 20  # that this client opens, for each stream and for all: etcd answers with batches
BLOCK_BYTES_MAX = 256 << 10  # of one block of headers
PRIORITY_BYTES = 5  # section 6.2
PING_BYTES = 8  # section 6.7
CANCEL = 8  # section 7
STREAM_ID_MAX = (1 << 31) - 1
STREAM_LAST = STREAM_ID_MAX - (1 << 20)  # before the numbers are used up, the owner connects anew: after 40 days of 300 calls a second
WINDOW_MAX = (1 << 31) - 1  # section 6.9.1
FRAME_MAX = (1 << 24) - 1  # section 6.5.2
FRAME_SENT_MAX = 1 << 20

_FRAME = struct.Struct(">BHBBI")  # u8 and u16 of the length, type, flags, stream
_SETTING = struct.Struct(">HI")
_U32 = struct.Struct(">I")


class ConnectionLost(FloError):
    """The connection cannot be used any more: the peer broke the protocol, or said so."""


class Headers(NamedTuple):
    """Headers, or trailers, of a stream."""

    stream: int
    headers: dict[bytes, bytes]
    ends: bool


class Data(NamedTuple):
    """Bytes of a stream."""

    stream: int
    data: bytes
    ends: bool


class Reset(NamedTuple):
    """The peer has ended a stream before its end; `code` of section 7."""

    stream: int
    code: int


Event = Headers | Data | Reset


class _Stream:
    """An open stream's sending side."""

    __slots__ = ("ends", "unsent", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.unsent = bytearray()
        self.ends = False  # behind `unsent`


class Connection:
    """One connection."""

    def __init__(self, authority: bytes, scheme: bytes = b"http") -> None:
        """`authority` is the server's host and port."""
        self._authority, self._scheme = authority, scheme
        self._decoder = hpack.Decoder()
        self._out: list[bytes] = [
            PREFACE,
            _frame(SETTINGS, 0, 0, _SETTING.pack(ENABLE_PUSH, 0) + _SETTING.pack(INITIAL_WINDOW_SIZE, WINDOW)),
            _frame(WINDOW_UPDATE, 0, 0, _U32.pack(WINDOW - WINDOW_START)),
        ]
        self._in = bytearray()
        self._next_stream = 1
        self._streams: dict[int, _Stream] = {}
        self._window = WINDOW_START  # that the peer opens for all streams
        self._window_start = WINDOW_START  # … for a new one
        self._frame_max = FRAME_PAYLOAD_MAX
        self._block: tuple[int, int, bytearray] | None = None  # headers under way: stream, flags, bytes
        self._closing = False  # the peer takes no new streams

    # -- sending -----------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether the peer takes new streams."""
        return not self._closing and self._next_stream <= STREAM_LAST

    def request(self, path: bytes, headers: list[Header]) -> int:
        """Open a stream; returns its number."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._streams[stream] = _Stream(self._window_start)
        first = [(b":method", b"POST"), (b":scheme", self._scheme), (b":path", path), (b":authority", self._authority)]
        block = hpack.encode(first + headers)
        assert len(block) <= FRAME_PAYLOAD_MAX, "a client's headers are short"
        self._out.append(_frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def send(self, stream: int, data: bytes, ends: bool) -> None:
        """Send bytes of a stream, the last ones if `ends`. What the peer's windows have no room for waits."""
        found = self._streams.get(stream)
        if found is None:
            return  # the peer has ended it; an event tells
        found.unsent += data
        found.ends = ends
        if ends and not found.unsent:
            self._out.append(_frame(DATA, END_STREAM, stream, b""))
        self._send_some(stream, found)

    def _send_some(self, stream: int, found: _Stream) -> None:
        while found.unsent:
            room = min(len(found.unsent), self._frame_max, found.window, self._window)
            if room <= 0:
                return
            piece = bytes(found.unsent[:room])
            del found.unsent[:room]
            found.window -= room
            self._window -= room
            self._out.append(_frame(DATA, END_STREAM if found.ends and not found.unsent else 0, stream, piece))

    def cancel(self, stream: int) -> None:
        """End a stream: nothing more of it is wanted."""
        if self._streams.pop(stream, None) is not None:
            self._out.append(_frame(RST_STREAM, 0, stream, _U32.pack(CANCEL)))

    def ping(self) -> None:
        """Ask the peer whether it is there; any bytes from it are an answer."""
        self._out.append(_frame(PING, 0, 0, b"flo ping"))

    def take(self) -> bytes:
        """The bytes to be sent."""
        out, self._out = b"".join(self._out), []
        return out

    # -- receiving ---------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Iterator[Event]:
        """What the received bytes say; all of it must be read. Raises `ConnectionLost` behind what came before the failure; the streams are
        all over then."""
        self._in += data
        at = 0
        try:
            while len(self._in) - at >= FRAME_BYTES:
                high, low, kind, flags, stream = _FRAME.unpack_from(self._in, at)
                length = high << 16 | low
                if length > FRAME_PAYLOAD_MAX:
                    raise ConnectionLost(f"the server sent a frame of {length} bytes, and {FRAME_PAYLOAD_MAX} are allowed")
                if len(self._in) - at < FRAME_BYTES + length:
                    break
                payload = bytes(self._in[at + FRAME_BYTES : at + FRAME_BYTES + length])
                at += FRAME_BYTES + length
                events: list[Event] = []
                try:
                    self._receive_frame(kind, flags, stream & STREAM_ID_MAX, payload, events)
                except (struct.error, IndexError, hpack.HpackError) as e:
                    raise ConnectionLost(f"the server sent a frame of type {kind} that is wrong: {e}") from None
                yield from events
        finally:
            del self._in[:at]  # also if the reader of an event fails

    def _receive_frame(self, kind: int, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if self._block is not None and (kind != CONTINUATION or stream != self._block[0]):
            raise ConnectionLost("the server sent a frame between the parts of a block of headers")
        if kind == DATA:
            self._receive_data(flags, stream, payload, events)
        elif kind == HEADERS:
            body = _unpadded(flags, payload)
            if flags & HAS_PRIORITY and len(body) < PRIORITY_BYTES:
                raise ConnectionLost("the server sent headers that are shorter than their priority")
            self._block = (stream, flags, bytearray(body[PRIORITY_BYTES:] if flags & HAS_PRIORITY else body))
            self._end_block(flags, events)
        elif kind == CONTINUATION:
            if self._block is None:
                raise ConnectionLost("the server went on with headers that it had not begun")
            self._block[2].extend(payload)
            self._end_block(flags, events)
        elif kind == SETTINGS:
            if not flags & ACK:
                self._receive_settings(payload)
        elif kind == WINDOW_UPDATE:
            self._receive_window(stream, _U32.unpack(payload)[0] & STREAM_ID_MAX)
        elif kind == PING:
            if len(payload) != PING_BYTES:
                raise ConnectionLost(f"the server sent a ping of {len(payload)} bytes")
            if not flags & ACK:
                self._out.append(_frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            code = _U32.unpack(payload)[0]
            if self._streams.pop(stream, None) is not None:
                events.append(Reset(stream, code))
        elif kind == GOAWAY:
            self._closing = True
            last, code = _U32.unpack_from(payload)[0] & STREAM_ID_MAX, _U32.unpack_from(payload, 4)[0]
            for each in [each for each in self._streams if each > last]:
                del self._streams[each]
                events.append(Reset(each, code))
        elif kind == PUSH_PROMISE:
            raise ConnectionLost("the server pushed a stream, which the client had refused")

    def _receive_data(self, flags: int, stream: int, payload: bytes, events: list[Event]) -> None:
        if payload:
            # both windows stay as they were: what came is taken at once, and what may come is bounded by what was asked for
            update = _U32.pack(len(payload))
            self._out.append(_frame(WINDOW_UPDATE, 0, 0, update))
            if stream in self._streams and not flags & END_STREAM:
                self._out.append(_frame(WINDOW_UPDATE, 0, stream, update))
        if stream in self._streams:
            events.append(Data(stream, _unpadded(flags, payload), bool(flags & END_STREAM)))
            if flags & END_STREAM:
                del self._streams[stream]

    def _end_block(self, flags: int, events: list[Event]) -> None:
        assert self._block is not None
        stream, first_flags, block = self._block
        if len(block) > BLOCK_BYTES_MAX:
            raise ConnectionLost(f"the server sent headers of over {BLOCK_BYTES_MAX} bytes")
        if not flags & END_HEADERS:
            return
        self._block = None
        headers = self._decoder.decode(bytes(block))  # in any case: it may change the table
        if stream in self._streams:
            ends = bool(first_flags & END_STREAM)
            events.append(Headers(stream, dict(headers), ends))
            if ends:
                del self._streams[stream]

    def _receive_settings(self, payload: bytes) -> None:
        for name, value in _SETTING.iter_unpack(payload):
            if name == INITIAL_WINDOW_SIZE:
                if value > WINDOW_MAX:
                    raise ConnectionLost(f"the server's settings have a window of {value} bytes")
                change, self._window_start = value - self._window_start, value
                for each in self._streams.values():
                    each.window += change
            elif name == MAX_FRAME_SIZE:
                if not FRAME_PAYLOAD_MAX <= value <= FRAME_MAX:
                    raise ConnectionLost(f"the server's settings have frames of {value} bytes")
                self._frame_max = min(value, FRAME_SENT_MAX)
        self._out.append(_frame(SETTINGS, ACK, 0, b""))
        self._send_all()

    def _receive_window(self, stream: int, more: int) -> None:
        found = self._streams.get(stream)
        if not stream:
            self._window += more
            self._send_all()
        elif found is not None:
            found.window += more
            self._send_some(stream, found)
        if self._window > WINDOW_MAX or (found is not None and found.window > WINDOW_MAX):
            raise ConnectionLost("the server opened a window beyond its end")

    def _send_all(self) -> None:
        for stream, found in self._streams.items():
            self._send_some(stream, found)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionLost("the server sent a frame that is padding alone, and longer than itself")
    return payload[1 : len(payload) - padding]
