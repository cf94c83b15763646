"""The client's side of a connection without the connection: received bytes, cut anywhere."""

import zlib

import pytest

from flo import calls
from flo.client.exchange import Exchange
from flo.errors import Disconnected
from flo.proto.binary import COMPRESSED, MAGIC, RESPONSE, FramingLost, Response, encode_response

PAYLOADS = [b"", b"x", b"y" * 200, b"z" * 70_000]


def exchange(count: int) -> Exchange[str]:
    """One with so many requests under way, whose ids are 1, 2, …"""
    made: Exchange[str] = Exchange("the server", 0, False)
    for number in range(1, count + 1):
        made.request(calls.ping(), f"token {number}")
    return made


def stream() -> tuple[bytes, list[tuple[str, Response]]]:
    """(responses as they come, what they are): out of order, one of them compressed."""
    packed = zlib.compress(PAYLOADS[2])
    data = [
        encode_response(0, 3, PAYLOADS[0]),
        encode_response(2, 1, PAYLOADS[1]),
        RESPONSE.pack(MAGIC, 0, COMPRESSED, 4, len(packed)) + packed,
        encode_response(0, 2, PAYLOADS[3]),
        encode_response(0, 5, PAYLOADS[1]),
    ]
    found = [(0, 3, PAYLOADS[0]), (2, 1, PAYLOADS[1]), (0, 4, PAYLOADS[2]), (0, 2, PAYLOADS[3]), (0, 5, PAYLOADS[1])]
    return b"".join(data), [(f"token {req_id}", Response(status, req_id, payload)) for status, req_id, payload in found]


def test_a_stream_cut_at_any_two_bytes_gives_the_same() -> None:
    data, expected = stream()
    interesting = [*range(300), *range(70_150, len(data))]
    for first in interesting:
        for second in (first + 1, first + 23, first + 24, first + 25, len(data)):
            made = exchange(5)
            parts = (data[:first], data[first:second], data[second:])
            assert [each for part in parts if part for each in made.receive(part)] == expected
            assert not made.waiting


def test_a_stream_byte_by_byte_gives_the_same() -> None:
    data, expected = stream()
    made = exchange(5)
    assert [each for at in range(len(data)) for each in made.receive(data[at : at + 1])] == expected


def test_requests_are_numbered_and_a_bad_one_is_forgotten() -> None:
    made = exchange(2)
    with pytest.raises(Exception, match="the key is 65536 bytes"):
        made.requests([calls.kv_get("a"), calls.kv_get("k" * 65536)], ["a", "b"])
    with pytest.raises(Exception, match="the key is 65536 bytes"):
        made.request(calls.kv_get("k" * 65536), "c")
    assert list(made.waiting) == [1, 2]
    assert made.requests([calls.kv_get("a"), calls.kv_get("b")], ["a", "b"])[8:16] == (3).to_bytes(8, "little")
    assert made.waiting == {1: "token 1", 2: "token 2", 3: "a", 4: "b"}


def test_what_no_server_sends() -> None:
    good = encode_response(0, 1)
    for data, kind, says in (
        (good + good, Disconnected, "answered the same request twice"),
        (encode_response(0, 9), Disconnected, "answered the request 9, which was not sent"),
        (encode_response(2, 0, b"framing is lost"), Disconnected, "framing is lost"),
        (b"HTTP/1.1 400 Bad Request", FramingLost, "not with 48 54 54 50"),
        (good + bytes(24), FramingLost, "not with 00 00 00 00"),
        (b"-ERR too many\r\n", Disconnected, "too many"),
        (b"-no word\r\n", Disconnected, "no word"),
    ):
        with pytest.raises(kind, match=says):
            exchange(2).receive(data)
    later = exchange(2)
    later.receive(good)
    with pytest.raises(FramingLost):  # a minus means something only at the beginning
        later.receive(b"-ERR too many, and more than a header\r\n")
