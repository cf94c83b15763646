"""HTTP/2 against PyPI's h2 as the server, against frames made by hand, and against any bytes."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.cluster import http2
from flo.cluster.http2 import Connection, ConnectionLost, Data, Event, Headers, Reset

pytestmark = pytest.mark.computes

OK = [(b":status", b"200"), (b"content-type", b"application/grpc")]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame made by hand."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Server:
    """PyPI's h2, and the client that talks to it."""

    def __init__(self, **settings: int) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        codes = h2.settings.SettingCodes
        names = {"window": codes.INITIAL_WINDOW_SIZE, "table": codes.HEADER_TABLE_SIZE, "frame": codes.MAX_FRAME_SIZE}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values={names[name]: each for name, each in settings.items()})
        self.h2.max_inbound_frame_size = self.h2.local_settings.max_frame_size
        self.h2.initiate_connection()
        self.client = Connection(b"localhost:1")
        self.seen: list[Any] = []  # events of the server
        self.events: list[Event] = []  # of the client

    def talk(self) -> None:
        """Move bytes both ways until neither says anything."""
        while True:
            out = self.client.take()
            if out:
                self.seen += self.h2.receive_data(out)
            back = self.h2.data_to_send()
            self.events += self.client.receive(back)
            if not out and not back:
                return

    def received(self, stream: int) -> bytes:
        """The bytes that the server has of a stream."""
        return b"".join(event.data for event in self.seen if isinstance(event, h2.events.DataReceived) and event.stream_id == stream)

    def data(self, stream: int) -> bytes:
        """The bytes that the client has of a stream."""
        return b"".join(event.data for event in self.events if isinstance(event, Data) and event.stream == stream)


def test_a_request_and_its_answer() -> None:
    server = Server()
    stream = server.client.request(b"/package.Service/Method", [(b"te", b"trailers")])
    server.client.send(stream, b"question", ends=True)
    server.talk()
    request = next(event for event in server.seen if isinstance(event, h2.events.RequestReceived))
    assert request.stream_id == stream
    assert list(request.headers) == [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/package.Service/Method"), (b":authority", b"localhost:1"),
        (b"te", b"trailers"),
    ]  # fmt: skip
    assert server.received(stream) == b"question"
    assert any(isinstance(event, h2.events.StreamEnded) for event in server.seen)
    server.h2.send_headers(stream, OK)
    server.h2.send_data(stream, b"answer", pad_length=9)
    server.h2.send_headers(stream, [(b"grpc-status", b"0")], end_stream=True)
    server.talk()
    assert server.events == [
        Headers(stream, dict(OK), False),
        Data(stream, b"answer", False),
        Headers(stream, {b"grpc-status": b"0"}, True),
    ]


def test_an_end_without_bytes_is_sent() -> None:
    server = Server()
    stream = server.client.request(b"/", [])
    server.client.send(stream, b"", ends=True)
    server.talk()
    assert any(isinstance(event, h2.events.StreamEnded) for event in server.seen)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=4), window=st.integers(1, 5000), step=st.integers(100, 5000))
def test_no_more_is_sent_than_the_windows_take(sizes: list[int], window: int, step: int) -> None:
    """h2 raises FlowControlError on a byte more than it has allowed."""
    server = Server(window=window)
    server.talk()
    streams = [server.client.request(b"/", []) for _ in sizes]
    for stream, size in zip(streams, sizes, strict=True):
        server.client.send(stream, bytes([stream & 255]) * size, ends=True)
    server.talk()
    for stream, size in zip(streams, sizes, strict=True):
        assert len(server.received(stream)) == min(size, window)
        while len(server.received(stream)) < size:
            server.h2.increment_flow_control_window(step, stream)
            server.talk()
        assert server.received(stream) == bytes([stream & 255]) * size
    assert sum(isinstance(event, h2.events.StreamEnded) for event in server.seen) == len(sizes)


def test_the_window_of_all_streams_is_kept() -> None:
    server = Server(window=1 << 20)
    server.talk()
    first, second = (server.client.request(b"/", []) for _ in range(2))
    server.client.send(first, b"a" * 60_000, ends=True)
    server.client.send(second, b"b" * 60_000, ends=True)
    server.talk()
    assert len(server.received(first)) + len(server.received(second)) == http2.WINDOW_START
    server.h2.increment_flow_control_window(1 << 20)
    server.talk()
    assert (len(server.received(first)), len(server.received(second))) == (60_000, 60_000)


def test_settings_in_the_middle_change_the_windows_of_open_streams() -> None:
    """RFC 9113 section 6.9.2: also to below zero, and then so much more must be opened before a byte is sent."""

    def window_is(size: int) -> None:
        list(client.receive(frame(http2.SETTINGS, 0, 0, struct.pack(">HI", http2.INITIAL_WINDOW_SIZE, size))))

    def opens(size: int) -> None:
        list(client.receive(frame(http2.WINDOW_UPDATE, 0, stream, struct.pack(">I", size))))

    client = Connection(b"a")
    window_is(1000)
    stream = client.request(b"/", [])
    client.send(stream, b"x" * 3000, ends=True)
    client.take()
    window_is(400)
    opens(500)
    assert b"x" not in client.take(), "600 below zero, and 500 more"
    opens(200)
    assert client.take().count(b"x") == 100
    window_is(65_535)
    assert client.take().count(b"x") == 1900


def test_a_server_without_a_table_of_headers_reads_the_requests() -> None:
    server = Server(table=0)
    server.talk()
    for _ in range(2):
        server.client.request(b"/", [(b"token", b"secret")])
        server.talk()
    assert sum(isinstance(event, h2.events.RequestReceived) for event in server.seen) == 2


def test_a_server_that_takes_larger_frames_gets_them() -> None:
    server = Server(window=1 << 20, frame=40_000)
    server.h2.increment_flow_control_window(1 << 20)
    server.talk()
    stream = server.client.request(b"/", [])
    server.client.send(stream, b"y" * 100_000, ends=True)
    server.talk()
    sizes = [len(event.data) for event in server.seen if isinstance(event, h2.events.DataReceived)]
    assert sizes == [40_000, 40_000, 20_000]


def test_a_large_answer_finds_the_windows_open() -> None:
    """More than the window of a stream at the start, and of the connection, in all."""
    server = Server()
    stream = server.client.request(b"/", [])
    server.client.send(stream, b"q", ends=True)
    server.talk()
    server.h2.send_headers(stream, OK)
    for _ in range(40):
        for _ in range(128):
            server.h2.send_data(stream, b"z" * 16_384)
        server.talk()
    server.h2.end_stream(stream)
    server.talk()
    assert len(server.data(stream)) == 40 * 128 * 16_384 > http2.WINDOW
    other = server.client.request(b"/", [])
    server.talk()
    assert server.h2.local_flow_control_window(other) > http2.WINDOW // 2


def test_headers_in_many_parts_are_one_block() -> None:
    server = Server()
    stream = server.client.request(b"/", [])
    server.client.send(stream, b"q", ends=True)
    server.talk()
    headers = [*OK, *((b"x-%d" % count, b"v" * 2000) for count in range(30))]
    server.h2.send_headers(stream, headers, end_stream=True)
    back = server.h2.data_to_send()
    assert back[3] == http2.HEADERS and not back[4] & http2.END_HEADERS, "there is a CONTINUATION"
    assert list(server.client.receive(back)) == [Headers(stream, dict(headers), True)]


def test_padded_headers_with_a_priority_are_read() -> None:
    connection = Connection(b"a")
    stream = connection.request(b"/", [])
    block = b"\x88" + b"\x0f\x10\x01t"  # :status 200, content-type t
    payload = bytes([3]) + b"\0\0\0\0\x10" + block + b"\0\0\0"
    flags = http2.PADDED | http2.HAS_PRIORITY | http2.END_HEADERS
    assert list(connection.receive(frame(http2.HEADERS, flags, stream, payload))) == [
        Headers(stream, {b":status": b"200", b"content-type": b"t"}, False)
    ]


def test_a_reset_ends_the_stream() -> None:
    server = Server()
    streams = [server.client.request(b"/", []) for _ in range(2)]
    server.talk()
    server.h2.reset_stream(streams[0], 7)
    server.h2.reset_stream(streams[1], 2)
    server.talk()
    assert server.events == [Reset(streams[0], 7), Reset(streams[1], 2)]
    server.client.send(streams[0], b"late", ends=True)
    server.talk()
    assert server.received(streams[0]) == b""


def test_a_cancelled_stream_says_nothing_more() -> None:
    server = Server()
    stream, other = (server.client.request(b"/", []) for _ in range(2))
    server.talk()
    server.h2.send_headers(stream, OK)
    server.h2.send_data(stream, b"on its way")
    server.client.cancel(stream)
    server.client.cancel(stream)
    server.talk()
    assert [event.stream_id for event in server.seen if isinstance(event, h2.events.StreamReset)] == [stream]
    assert server.events == []
    server.h2.send_headers(other, OK, end_stream=True)
    server.talk()
    assert server.events == [Headers(other, dict(OK), True)], "the table of headers is as the server's"


def test_a_server_that_goes_away_ends_what_it_has_not_begun() -> None:
    server = Server()
    streams = [server.client.request(b"/", []) for _ in range(3)]
    server.talk()
    assert server.client.usable
    goaway = frame(http2.GOAWAY, 0, 0, struct.pack(">II", streams[1], 0) + b"going")
    assert list(server.client.receive(goaway)) == [Reset(streams[2], 0)]
    assert not server.client.usable
    server.h2.send_headers(streams[0], OK, end_stream=True)
    server.talk()
    assert server.events == [Headers(streams[0], dict(OK), True)]


def test_pings_are_answered_and_sent() -> None:
    server = Server()
    server.talk()
    server.h2.ping(b"12345678")
    server.client.ping()
    server.talk()
    assert any(isinstance(event, h2.events.PingAckReceived) and event.ping_data == b"12345678" for event in server.seen)
    assert any(isinstance(event, h2.events.PingReceived) for event in server.seen)
    assert server.events == []


def test_a_connection_ends_before_its_numbers_do() -> None:
    connection = Connection(b"a")
    assert connection.usable
    connection._next_stream = http2.STREAM_LAST + 2
    assert not connection.usable


SETTINGS_BAD = {
    "a window over 2^31": (http2.INITIAL_WINDOW_SIZE, 1 << 31),
    "frames below 16384": (http2.MAX_FRAME_SIZE, 0),
    "frames over 2^24": (http2.MAX_FRAME_SIZE, 1 << 24),
}
BAD = {
    "a long frame": (16385).to_bytes(3, "big") + bytes(6),
    "padding longer than the frame": frame(http2.DATA, http2.PADDED, 1, b"\x05abc"),
    "padding of nothing": frame(http2.DATA, http2.PADDED, 1),
    "short priority": frame(http2.HEADERS, http2.HAS_PRIORITY | http2.END_HEADERS, 1, b"abc"),
    "continuation of nothing": frame(http2.CONTINUATION, 0, 1, b"abc"),
    "a frame within headers": frame(http2.HEADERS, 0, 1, b"\x88") + frame(http2.PING, 0, 0, bytes(8)),
    "headers of another stream": frame(http2.HEADERS, 0, 1, b"\x88") + frame(http2.CONTINUATION, http2.END_HEADERS, 3, b""),
    "bad headers": frame(http2.HEADERS, http2.END_HEADERS, 1, b"\x80"),
    "short settings": frame(http2.SETTINGS, 0, 0, b"abc"),
    "a short window": frame(http2.WINDOW_UPDATE, 0, 0, b"abc"),
    "a window that overflows": frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "a stream's window that overflows": frame(http2.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff") * 2,
    "a short ping": frame(http2.PING, 0, 0, b"abc"),
    "a short reset": frame(http2.RST_STREAM, 0, 1, b"abc"),
    "a short goaway": frame(http2.GOAWAY, 0, 0, b"abcd"),
    "a push": frame(http2.PUSH_PROMISE, http2.END_HEADERS, 1, b"\0\0\0\2\x88"),
    "endless headers": frame(http2.HEADERS, 0, 1, bytes(16384)) + frame(http2.CONTINUATION, 0, 1, bytes(16384)) * 16,
    **{name: frame(http2.SETTINGS, 0, 0, struct.pack(">HI", *setting)) for name, setting in SETTINGS_BAD.items()},
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_frames_that_break_the_protocol_end_the_connection(data: bytes) -> None:
    connection = Connection(b"a")
    connection.request(b"/", [])
    with pytest.raises(ConnectionLost):
        list(connection.receive(data))


def test_frames_of_unknown_types_and_settings_are_passed_over() -> None:
    connection = Connection(b"a")
    assert list(connection.receive(frame(0xEE, 255, 7, b"what") + frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 99, 1)))) == []


def conversation() -> tuple[bytes, int]:
    """All that a server sends in a conversation of two streams, and how many streams the client opens."""
    server = Server()
    one, two = (server.client.request(b"/", []) for _ in range(2))
    for stream in (one, two):
        server.client.send(stream, b"q", ends=True)
    server.h2.receive_data(server.client.take())
    server.h2.send_headers(one, OK)
    server.h2.send_headers(two, [*OK, (b"long", b"v" * 20_000)])
    server.h2.send_data(one, b"some", pad_length=3)
    server.h2.send_data(two, b"d" * 300)
    server.h2.ping(b"87654321")
    server.h2.send_headers(one, [(b"grpc-status", b"0"), (b"grpc-message", b"fine")], end_stream=True)
    server.h2.reset_stream(two, 2)
    return server.h2.data_to_send(), 2


BYTES, STREAMS = conversation()


def client() -> Connection:
    made = Connection(b"a")
    for _ in range(STREAMS):
        made.request(b"/", [])
    return made


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    at = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        yield data[at:cut]
        at = cut


def until_lost(connection: Connection, data: Iterable[bytes]) -> tuple[list[Event], bool]:
    """The events, and whether the connection was lost behind them."""
    events: list[Event] = []
    try:
        for piece in data:
            events.extend(connection.receive(piece))  # keeps those before the failure
    except ConnectionLost:
        return events, True
    return events, False


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.integers(0, 1 << 20), max_size=12), st.data())
def test_wherever_the_bytes_are_cut_the_events_are_the_same(cuts: list[int], data: st.DataObject) -> None:
    """Also if one is damaged."""
    given_bytes = bytearray(BYTES)
    if data.draw(st.booleans()):
        given_bytes[data.draw(st.integers(0, len(BYTES) - 1))] ^= data.draw(st.integers(1, 255))
    whole = client()
    parts = client()
    assert until_lost(parts, pieces(bytes(given_bytes), cuts)) == until_lost(whole, [bytes(given_bytes)])
    assert parts.take() == whole.take()


def test_byte_by_byte_the_events_are_the_same() -> None:
    one = client()
    assert [event for at in range(len(BYTES)) for event in one.receive(BYTES[at : at + 1])] == list(client().receive(BYTES))


FRAMES = st.builds(frame, st.integers(0, 10), st.sampled_from([0, 1, 4, 5, 8, 0x0C, 0x20, 0x2D]), st.integers(0, 5), st.binary(max_size=40))


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=20).map(b"".join) | st.binary(max_size=200))
def test_any_bytes_are_read_or_end_the_connection(data: bytes) -> None:
    connection = client()
    first = len(connection.take())
    with suppress(ConnectionLost):
        list(connection.receive(data))
    assert first and len(connection.take()) <= 4 * len(data) + 26, "what is sent back is bounded by what came"
