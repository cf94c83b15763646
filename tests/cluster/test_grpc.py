"""gRPC calls against a server that is PyPI's h2, and against what a server must not send."""

import struct
from contextlib import suppress
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.cluster import grpc
from flo.cluster.grpc import Channel, Status
from flo.cluster.http2 import ConnectionLost

pytestmark = pytest.mark.computes

OK = [(b":status", b"200"), (b"content-type", b"application/grpc")]


def message(data: bytes, compressed: int = 0) -> bytes:
    """A message as it is on the wire."""
    return struct.pack(">BI", compressed, len(data)) + data


class Caller:
    """A channel, its server, and what its calls were told."""

    def __init__(self) -> None:
        self.channel = Channel(b"localhost:1")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()
        self.told: list[Any] = []
        self.seen: list[Any] = []

    def call(self, data: bytes = b"q", **more: Any) -> int:
        return self.channel.call(b"/p.S/M", data, self.told.append, self.told.append, **more)

    def to_server(self) -> None:
        self.seen += self.h2.receive_data(self.channel.take())

    def to_client(self) -> bytes:
        data: bytes = self.h2.data_to_send()
        self.channel.receive(data)
        return data

    def answer(self, number: int, *messages: bytes, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.h2.send_headers(number, OK)
        for each in messages:
            self.h2.send_data(number, each)
        if trailers is not None:
            self.h2.send_headers(number, trailers, end_stream=True)


def test_a_call_of_one_message_each_way() -> None:
    caller = Caller()
    number = caller.call(b"question", token=b"secret")
    caller.to_server()
    request = next(event for event in caller.seen if isinstance(event, h2.events.RequestReceived))
    headers = dict(request.headers)
    assert headers[b":path"] == b"/p.S/M" and headers[b"te"] == b"trailers" and headers[b"content-type"] == b"application/grpc"
    assert headers[b"token"] == b"secret"
    assert [event.data for event in caller.seen if isinstance(event, h2.events.DataReceived)] == [message(b"question")]
    assert any(isinstance(event, h2.events.StreamEnded) for event in caller.seen)
    caller.answer(number, message(b"answer"), trailers=[(b"grpc-status", b"0")])
    caller.to_client()
    assert caller.told == [b"answer", Status(grpc.OK, "")]


def test_calls_that_go_on_get_many_messages_until_they_are_cancelled() -> None:
    caller = Caller()
    number = caller.call(goes_on=True)
    caller.to_server()
    assert not any(isinstance(event, h2.events.StreamEnded) for event in caller.seen)
    caller.answer(number, message(b"1") + message(b"") + message(b"3")[:3], message(b"3")[3:])
    caller.to_client()
    assert caller.told == [b"1", b"", b"3"]
    caller.h2.send_data(number, message(b"late"))
    caller.channel.cancel(number)
    caller.to_client()
    assert caller.told == [b"1", b"", b"3"]
    caller.to_server()
    assert any(isinstance(event, h2.events.StreamReset) for event in caller.seen)


def test_a_reader_that_cancels_within_a_message_gets_no_more() -> None:
    caller = Caller()
    told: list[bytes] = []

    def read(data: bytes) -> None:
        told.append(data)
        caller.channel.cancel(number)

    number = caller.channel.call(b"/p.S/M", b"q", read, caller.told.append, goes_on=True)
    caller.to_server()
    caller.answer(number, message(b"1") + message(b"2"), trailers=[(b"grpc-status", b"0")])
    caller.to_client()
    assert told == [b"1"] and caller.told == []


@pytest.mark.parametrize(
    ("trailers", "status"),
    [
        ([(b"grpc-status", b"3"), (b"grpc-message", b"too%20large: 100%25 %E2%82%AC")], Status(3, "too large: 100% €")),
        ([(b"grpc-status", b"3"), (b"grpc-message", b"%ff%zz%")], Status(3, "\ufffd%zz%")),
        ([(b"grpc-status", b"what")], Status(grpc.UNKNOWN, "")),
        ([(b"grpc-status", b"9" * 5000)], Status(grpc.UNKNOWN, "")),
        ([(b"other", b"x")], Status(grpc.UNKNOWN, "the server ended the call without a status")),
    ],
)
def test_a_refusal_says_why(trailers: list[tuple[bytes, bytes]], status: Status) -> None:
    caller = Caller()
    number = caller.call()
    caller.to_server()
    caller.answer(number, trailers=trailers)
    caller.to_client()
    assert caller.told == [status]


def test_a_refusal_without_an_answer_is_in_the_first_headers() -> None:
    caller = Caller()
    number = caller.call()
    caller.to_server()
    caller.h2.send_headers(number, [*OK, (b"grpc-status", b"16"), (b"grpc-message", b"who?")], end_stream=True)
    caller.to_client()
    assert caller.told == [Status(grpc.UNAUTHENTICATED, "who?")]


def test_a_proxy_s_answer_is_no_answer() -> None:
    caller = Caller()
    number = caller.call()
    caller.to_server()
    caller.h2.send_headers(number, [(b":status", b"502")])
    caller.h2.send_data(number, b"", end_stream=True)
    caller.to_client()
    assert caller.told == [Status(grpc.UNAVAILABLE, "the server answered with HTTP status 502")]


def test_a_reset_call_has_not_been_answered() -> None:
    caller = Caller()
    numbers = [caller.call(), caller.call()]
    caller.to_server()
    caller.h2.reset_stream(numbers[0], 7)
    caller.h2.reset_stream(numbers[1], 2)
    caller.to_client()
    assert caller.told == [Status(grpc.UNAVAILABLE, f"the server ended the call with error {code}") for code in (7, 2)]


def test_a_lost_connection_ends_each_call_once() -> None:
    caller = Caller()
    caller.call()
    caller.call(goes_on=True)
    caller.channel.lose("gone")
    caller.channel.lose("gone")
    assert caller.told == [Status(grpc.UNAVAILABLE, "gone")] * 2


@pytest.mark.parametrize("data", [message(b"x", compressed=1), struct.pack(">BI", 0, grpc.MESSAGE_BYTES_MAX + 1)])
def test_messages_that_were_not_asked_for_end_the_connection(data: bytes) -> None:
    caller = Caller()
    number = caller.call()
    caller.to_server()
    caller.answer(number, data)
    with pytest.raises(ConnectionLost):
        caller.to_client()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(0, 1 << 16), max_size=8))
def test_wherever_the_bytes_are_cut_the_messages_are_the_same(messages: list[bytes], cuts: list[int]) -> None:
    caller = Caller()
    number = caller.call()
    caller.to_server()
    caller.answer(number, b"".join(map(message, messages)), trailers=[(b"grpc-status", b"0")])
    data = caller.h2.data_to_send()
    at = 0
    for cut in [*sorted(cut % len(data) for cut in cuts), len(data)]:
        caller.channel.receive(data[at:cut])
        at = cut
    assert caller.told == [*messages, Status(grpc.OK, "")]


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_of_a_stream_are_read_or_end_the_connection(data: bytes) -> None:
    caller = Caller()
    number = caller.call()
    caller.to_server()
    caller.answer(number, data)
    with suppress(ConnectionLost):
        caller.to_client()
    assert sum(map(len, caller.told)) <= len(data)
