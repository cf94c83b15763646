"""WebSocket frames, the server's side (RFC 6455): bytes to frames, frames to bytes. This module knows no sockets and no protocol within.

    byte 0   FIN (0x80), three reserved bits, opcode       0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong
    byte 1   MASK (0x80), length 0 to 125; 126: u16 follows, 127: u64, both big-endian, in as few bytes as it goes
    u32      the mask, always from a client, never from a server
    bytes    the payload; byte i is XORed with byte i % 4 of the mask

A message is a frame of text or binary without FIN and continuations up to one with FIN, or one frame with FIN. Control frames (8 and above)
have at most 125 bytes, always FIN, and may stand between the frames of a message.

`FrameReader` gives the payload as it comes, so that a large message is never held here.
"""

import codecs
import struct
from base64 import b64encode
from typing import NamedTuple

from flo.errors import FloError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RESERVED, MASKED = 0x80, 0x70, 0x80
CONTROL_BYTES_MAX = 125
SHORT_MAX, U16_MAX = 125, 0xFFFF
NORMAL, GOING_AWAY, PROTOCOL_ERROR, UNSUPPORTED, NO_STATUS, BAD_DATA, TOO_LARGE = 1000, 1001, 1002, 1003, 1005, 1007, 1009
# The codes that a peer may send in a close frame (RFC 6455 section 7.4, and the registry of IANA)
CODES = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
HEAD_BYTES_MAX = 14
_U16, _U64, _CODE = struct.Struct(">H"), struct.Struct(">Q"), struct.Struct(">H")


class WebSocketError(FloError):
    """The bytes that follow cannot be taken. `code` is the close frame's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Piece(NamedTuple):
    """A part of a message, or a control frame, which is whole."""

    opcode: int  # of the message: TEXT or BINARY, not CONTINUATION
    data: bytes  # without its mask
    last: bool  # it is the end of the message


def accept_key(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept for a client's Sec-WebSocket-Key."""
    from hashlib import sha1  # not at every start: it loads OpenSSL

    return b64encode(sha1(key + GUID, usedforsecurity=False).digest())


def frame_head(opcode: int, length: int, last: bool = True) -> bytes:
    """The head of a frame of a server, whose payload of `length` bytes follows."""
    first = opcode | (FIN if last else 0)
    if length <= SHORT_MAX:
        return bytes((first, length))
    if length <= U16_MAX:
        return bytes((first, 126)) + _U16.pack(length)
    return bytes((first, 127)) + _U64.pack(length)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame. The reason is cut to what a control frame holds."""
    payload = b"" if code == NO_STATUS else _CODE.pack(code) + reason.encode()[: CONTROL_BYTES_MAX - _CODE.size]
    payload = payload[: _CODE.size] + payload[_CODE.size :].decode("utf-8", "ignore").encode()  # no half of a character at the cut
    return frame_head(CLOSE, len(payload)) + payload


def close_of(payload: bytes) -> tuple[int, str]:
    """(code, reason) of a close frame's payload; NO_STATUS for an empty one. Raises `WebSocketError`."""
    if not payload:
        return NO_STATUS, ""
    if len(payload) < _CODE.size:
        raise WebSocketError(PROTOCOL_ERROR, "a close frame has one byte; it has none, or a code of two bytes and a reason")
    (code,) = _CODE.unpack_from(payload)
    if code not in CODES:
        raise WebSocketError(PROTOCOL_ERROR, f"the close frame's code {code} is none that may be sent")
    try:
        return code, payload[_CODE.size :].decode()
    except UnicodeDecodeError:
        raise WebSocketError(BAD_DATA, "the close frame's reason is not UTF-8") from None


class FrameReader:
    """Splits a client's bytes, cut anywhere, into pieces of messages and control frames. After a `WebSocketError` it must not be fed
    again. `limit` bounds a message."""

    __slots__ = ("_control", "_decoder", "_head", "_last", "_left", "_mask", "_message", "_opcode", "_phase", "_size", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self._head = b""  # of the frame under way, as far as it has come
        self._left = 0  # bytes of the payload that are to come
        self._mask = b""
        self._phase = 0  # the place in the mask of the next byte
        self._opcode = CONTINUATION  # of the frame under way
        self._last = False
        self._message = CONTINUATION  # the opcode of the message under way; CONTINUATION for none
        self._size = 0  # of that message so far
        self._control = b""  # the payload of a control frame under way
        self._decoder: codecs.IncrementalDecoder | None = None  # of a text under way, which is refused at its first wrong byte

    @property
    def idle(self) -> bool:
        """Whether no message is under way."""
        return self._message == CONTINUATION and not self._head and not self._mask

    def read(self, data: bytes, at: int) -> tuple[Piece | None, int]:
        """(the next piece in `data` from offset `at`, or None where all was taken and there is none; the offset behind it). Raises
        `WebSocketError`."""
        while True:
            if not self._mask:
                at = self._read_head(data, at)
                if not self._mask:
                    return None, at
            end = min(at + self._left, len(data))
            if end == at and self._left:
                return None, at
            chunk = self._unmasked(data[at:end])
            self._left -= end - at
            at = end
            whole = not self._left
            if whole:
                self._mask = b""
            if self._opcode >= CLOSE:
                self._control += chunk
                if not whole:
                    return None, at
                payload, self._control = self._control, b""
                return Piece(self._opcode, payload, True), at
            last = whole and self._last
            opcode = self._message
            self._check_text(opcode, chunk, last)
            if last:
                self._message, self._size = CONTINUATION, 0
            if chunk or last:
                return Piece(opcode, chunk, last), at

    def _read_head(self, data: bytes, at: int) -> int:
        """Take the bytes of a frame's head; sets `_mask` once it is whole."""
        start = at - len(self._head)
        head = self._head + data[at : at + HEAD_BYTES_MAX - len(self._head)]
        self._head = head
        if len(head) < 2:
            return len(data)
        first, second = head[0], head[1]
        opcode, length = first & 0x0F, second & 0x7F
        self._check(first, second, opcode, length)
        size = 2
        if length > SHORT_MAX:
            number = _U16 if length == 126 else _U64
            if len(head) < size + number.size:
                return len(data)
            (length,) = number.unpack_from(head, size)
            size += number.size
            if length <= (SHORT_MAX if number is _U16 else U16_MAX):
                raise WebSocketError(PROTOCOL_ERROR, f"the length {length} of a frame is written with more bytes than it needs")
            if length >> 63:
                raise WebSocketError(PROTOCOL_ERROR, "the length of a frame has its highest bit set")
        if opcode < CLOSE and self._size + length > self.limit:
            raise WebSocketError(TOO_LARGE, f"the message has {self._size + length} bytes or more; at most {self.limit} are allowed")
        if len(head) < size + 4:
            return len(data)
        self._head, self._mask, self._phase = b"", head[size : size + 4], 0
        self._left, self._opcode, self._last = length, opcode, bool(first & FIN)
        if opcode < CLOSE:
            self._size += length
            if opcode != CONTINUATION:
                self._message = opcode
                self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        return start + size + 4

    def _check(self, first: int, second: int, opcode: int, length: int) -> None:
        """The first two bytes of a frame, as soon as they are there."""
        if first & RESERVED:
            raise WebSocketError(PROTOCOL_ERROR, "a frame has a reserved bit set; no extension was agreed upon")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise WebSocketError(PROTOCOL_ERROR, f"a frame has the opcode {opcode}, which means nothing")
        if not second & MASKED:
            raise WebSocketError(PROTOCOL_ERROR, "a frame has no mask; a client masks every frame")
        if opcode >= CLOSE:
            if length > CONTROL_BYTES_MAX:
                raise WebSocketError(PROTOCOL_ERROR, f"a control frame is longer than {CONTROL_BYTES_MAX} bytes")
            if not first & FIN:
                raise WebSocketError(PROTOCOL_ERROR, "a control frame is a fragment")
        elif opcode == CONTINUATION and self._message == CONTINUATION:
            raise WebSocketError(PROTOCOL_ERROR, "a continuation continues nothing")
        elif opcode != CONTINUATION and self._message != CONTINUATION:
            raise WebSocketError(PROTOCOL_ERROR, "a message begins within another")

    def _check_text(self, opcode: int, chunk: bytes, last: bool) -> None:
        if opcode != TEXT:
            return
        assert self._decoder is not None
        try:
            self._decoder.decode(chunk, last)
        except UnicodeDecodeError:
            raise WebSocketError(BAD_DATA, "a text message is not UTF-8") from None

    def _unmasked(self, chunk: bytes) -> bytes:
        size = len(chunk)
        if not size:
            return chunk
        mask = self._mask[self._phase :] + self._mask[: self._phase]
        self._phase = (self._phase + size) & 3
        words = (size + 3) >> 2
        key = int.from_bytes(mask * words) >> 8 * (4 * words - size)
        return (int.from_bytes(chunk) ^ key).to_bytes(size)
