"""WebSocket frames as bytes: every cut, what is refused, round trips."""

import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.proto.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameReader,
    Piece,
    WebSocketError,
    accept_key,
    close_frame,
    close_of,
    frame_head,
)

pytestmark = pytest.mark.computes
LIMIT = 200_000


def frame(
    opcode: int, payload: bytes, *, last: bool = True, mask: bytes | None = b"\x01\x80\xff\x10", first: int = 0, length: bytes = b""
) -> bytes:
    """A client's frame, made by the letter of the RFC. `first` adds bits to the first byte; `length` replaces the bytes of the length."""
    size = len(payload)
    told = length or (
        bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size) if size < 1 << 16 else b"\x7f" + struct.pack(">Q", size)
    )
    second = bytes([told[0] | (0x80 if mask is not None else 0)]) + told[1:]
    masked = payload if mask is None else bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([opcode | (0x80 if last else 0) | first]) + second + (mask or b"") + masked


def read(data: bytes, cuts: list[int] | None = None) -> list[tuple[int, bytes] | int]:
    """The messages and control frames in `data`, cut at these places; a code at the end where it was refused."""
    reader, seen, message = FrameReader(LIMIT), list[Any](), b""
    places = [0, *sorted(cuts or []), len(data)]
    for start, end in pairwise(places):
        part, at = data[start:end], 0
        try:
            while True:
                piece, at = reader.read(part, at)
                if piece is None:
                    break
                assert isinstance(piece, Piece)
                if piece.opcode >= CLOSE:
                    seen.append((piece.opcode, piece.data))
                    continue
                message += piece.data
                if piece.last:
                    seen.append((piece.opcode, message))
                    message = b""
        except WebSocketError as e:
            assert str(e) and str(e).isprintable()
            return [*seen, e.code]
    return seen


GOOD: list[tuple[str, bytes, list[Any]]] = [
    ("an empty message", frame(BINARY, b""), [(BINARY, b"")]),
    ("a short one", frame(BINARY, b"hello"), [(BINARY, b"hello")]),
    ("125 bytes", frame(BINARY, b"x" * 125), [(BINARY, b"x" * 125)]),
    ("126 bytes", frame(BINARY, b"x" * 126), [(BINARY, b"x" * 126)]),
    ("65,535 bytes", frame(BINARY, b"x" * 65_535), [(BINARY, b"x" * 65_535)]),
    ("65,536 bytes", frame(BINARY, b"x" * 65_536), [(BINARY, b"x" * 65_536)]),
    ("a mask of zeros", frame(BINARY, b"hello", mask=bytes(4)), [(BINARY, b"hello")]),
    ("text", frame(TEXT, "κόσμε".encode()), [(TEXT, "κόσμε".encode())]),
    (
        "fragments, cut within a character, with a ping between them",
        frame(TEXT, b"\xce", last=False) + frame(PING, b"!") + frame(CONTINUATION, b"", last=False) + frame(CONTINUATION, b"\xba"),
        [(PING, b"!"), (TEXT, b"\xce\xba")],
    ),
    (
        "control frames",
        frame(PING, b"") + frame(PONG, b"x" * 125) + frame(CLOSE, b"\x03\xe8bye"),
        [(PING, b""), (PONG, b"x" * 125), (CLOSE, b"\x03\xe8bye")],
    ),
]  # fmt: skip
REFUSED: list[tuple[str, bytes, int]] = [
    *((f"reserved bit {bit:#x}", frame(BINARY, b"", first=bit), 1002) for bit in (0x10, 0x20, 0x40)),
    *((f"opcode {opcode}", frame(opcode, b""), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    ("no mask", frame(BINARY, b"x", mask=None), 1002),
    ("a long ping", frame(PING, b"x" * 126), 1002),
    ("a fragment of a ping", frame(PING, b"", last=False), 1002),
    ("a continuation of nothing", frame(CONTINUATION, b""), 1002),
    ("a message within another", frame(BINARY, b"", last=False) + frame(TEXT, b""), 1002),
    ("a length in too many bytes", frame(BINARY, b"x", length=b"\x7e\x00\x01"), 1002),
    ("a length in far too many bytes", frame(BINARY, b"x", length=b"\x7f" + struct.pack(">Q", 1)), 1002),
    ("a length of 64 bits", frame(BINARY, b"x", length=b"\x7f" + struct.pack(">Q", 1 << 63)), 1002),
    ("over the limit", frame(BINARY, b"x", length=b"\x7f" + struct.pack(">Q", LIMIT + 1)), 1009),
    ("over the limit together", frame(BINARY, b"x" * LIMIT, last=False) + frame(CONTINUATION, b"x"), 1009),
    ("text that is not UTF-8", frame(TEXT, b"\xff"), 1007),
    ("text that ends within a character", frame(TEXT, b"\xce"), 1007),
    ("text whose wrong byte comes in a fragment", frame(TEXT, b"\xce", last=False) + frame(CONTINUATION, b"A", last=False), 1007),
]


def places(data: bytes) -> list[list[int]]:
    step = max(1, len(data) // 40)
    return [[], list(range(len(data))) if len(data) < 1000 else [], *([cut] for cut in range(0, len(data), step))]


@pytest.mark.parametrize(("why", "data", "messages"), GOOD, ids=[why for why, *_ in GOOD])
def test_frames_are_read_however_they_are_cut(why: str, data: bytes, messages: list[Any]) -> None:
    for cuts in places(data):
        assert read(data, cuts) == messages, why


@pytest.mark.parametrize(("why", "data", "code"), REFUSED, ids=[why for why, *_ in REFUSED])
def test_what_is_refused(why: str, data: bytes, code: int) -> None:
    for cuts in places(data):
        assert read(data + frame(BINARY, b"never"), cuts)[-1] == code, why


@settings(max_examples=200, deadline=None)
@given(
    messages=st.lists(
        st.tuples(st.sampled_from([BINARY, PING, PONG]), st.binary(max_size=120), st.binary(min_size=4, max_size=4)), max_size=6
    ),
    data=st.data(),
)
def test_what_is_written_is_read(messages: list[tuple[int, bytes, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame(opcode, payload, mask=mask) for opcode, payload, mask in messages)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    assert read(stream, cuts) == [(opcode, payload) for opcode, payload, _ in messages]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3))
def test_any_bytes_are_read_or_refused(data: bytes, cuts: list[int]) -> None:
    assert read(data, [min(cut, len(data)) for cut in cuts])[:-1] == read(data)[:-1]


def test_heads_of_a_server() -> None:
    assert frame_head(BINARY, 5) == b"\x82\x05" and frame_head(CONTINUATION, 5, last=False) == b"\x00\x05"
    assert frame_head(BINARY, 126) == b"\x82\x7e\x00\x7e" and frame_head(BINARY, 65_536) == b"\x82\x7f" + struct.pack(">Q", 65_536)


def test_the_key_of_the_rfc() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


WRONG_CODES = (0, 999, 1004, 1005, 1006, 1016, 2999, 5000)


def test_close_frames() -> None:
    assert close_of(b"") == (1005, "") and close_of(b"\x03\xe8") == (1000, "") and close_of(b"\x0b\xb8" + "é".encode()) == (3000, "é")
    for payload, code in ((b"\x03", 1002), (b"\x03\xe8\xff", 1007), *((struct.pack(">H", wrong), 1002) for wrong in WRONG_CODES)):
        with pytest.raises(WebSocketError) as caught:
            close_of(payload)
        assert caught.value.code == code
    assert close_frame(1000, "bye") == b"\x88\x05\x03\xe8bye" and close_frame(1005) == b"\x88\x00"
    cut = close_frame(1002, "é" * 100)
    assert len(cut) <= 127 and cut[4:].decode() == "é" * 61
