"""HTTP requests and responses as bytes: the corpus, every split, round trips, an independent parser, hostile input, time and memory."""

import random
import re
import sys
import timeit
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.errors import FloError
from flo.limits import BODY_GROWTH_BYTES
from flo.proto import http
from flo.proto.http import (
    HEAD_BYTES_MAX,
    Headers,
    HttpError,
    Request,
    RequestReader,
    chunk,
    lines_of,
    response,
    response_head,
    split_path,
    split_query,
)
from tests.proto.http_corpus import HIDDEN, LARGE, READ, REFUSED, Read, Refused, chunked, get, head, post, request

pytestmark = pytest.mark.computes

MORE = "more is missing"
Seen = list[Request | int | str]
DATE = b"Mon, 30 Nov 2026 02:30:00 GMT"
COMMON = lines_of([(b"Date", DATE)])


def feed(data: bytes, cuts: Iterable[int] = (), in_place: bool = False, body_limit: Callable[[Request], int] = lambda head: LARGE) -> Seen:
    """What a reader sees in `data`, fed in pieces that end at `cuts`: requests, then the status of an error, or MORE.

    With `in_place`, bytes of a body go where the reader wants them, as far as it says."""
    reader = RequestReader(body_limit)
    seen: Seen = []
    rest, start = b"", 0
    try:
        for cut in [*sorted(cuts), len(data)]:
            piece, start = data[start:cut], cut
            while in_place and piece and not rest and (room := reader.body_room()) is not None:
                count = min(len(room), len(piece))
                room[:count] = piece[:count]
                room.release()
                piece = piece[count:]
                if found := reader.body_received(count):
                    seen.append(found)
            rest += piece
            found, at = reader.parse(rest, 0)
            while found is not None:
                seen.append(found)
                found, at = reader.parse(rest, at)
            rest = rest[at:]
    except HttpError as e:
        assert e.close and str(e)
        return [*seen, e.status]
    return [*seen, MORE] if rest or not reader.idle else seen


def places(data: bytes) -> range:
    """Each place where `data` may be cut; of large data, some."""
    return range(1, len(data), 1 if len(data) < 2000 else len(data) // 30)


def all_ways(data: bytes) -> Iterator[Seen]:
    """What is seen in `data` when it comes whole, byte by byte, and cut once."""
    yield feed(data)
    yield feed(data, range(len(data)))
    yield feed(data, range(len(data)), in_place=True)
    for cut in places(data):
        yield feed(data, [cut])
        yield feed(data, [cut], in_place=True)


# -- the corpus ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.why)
def test_a_request_that_could_be_read_in_two_ways_is_refused_however_it_is_cut(case: Refused) -> None:
    for seen in all_ways(case.data):
        assert seen == [case.status], case.why


@pytest.mark.parametrize("case", READ, ids=lambda case: case.why)
def test_a_request_is_read_however_it_is_cut(case: Read) -> None:
    for seen in all_ways(case.data):
        assert seen == case.requests, case.why


@pytest.mark.parametrize("case", READ, ids=lambda case: case.why)
def test_an_unfinished_request_is_waited_for(case: Read) -> None:
    """No part of a request is taken for a request, or refused."""
    for cut in places(case.data):
        seen = feed(case.data[:cut])
        whole = [found for found in seen if found != MORE]
        assert whole == case.requests[: len(whole)]
        assert len(whole) < len(case.requests) or case.data[cut:].strip() == b"", seen


def test_requests_before_a_refused_one_are_read() -> None:
    good = head(b"GET / HTTP/1.1", b"Host: a")
    for case in REFUSED:
        assert feed(good * 3 + case.data) == [request()] * 3 + [case.status], case.why


def test_errors_are_sentences_without_secrets() -> None:
    secret = b"Authorization: Bearer s3cret"
    lines = [
        b"n" * 1000 + b": \0",
        b"X Y: s3cret",
        secret + b"\0",
        b" " + secret,
        secret + b"\r\n\ts3cret",
        b"s3cret",
        secret + b"\r\n" + secret,
    ]
    targets = [b"GET /?p=s3cret%zz#s3cret HTTP/1.1", b"GET s3cret HTTP/1.1", b"GET /?p=s3cret\xff HTTP/1.1"]
    cases = [case.data for case in REFUSED] + [get(line) for line in lines] + [head(line, b"Host: a") for line in targets]
    for data in cases:
        with pytest.raises(FloError) as refused:
            reader = RequestReader(lambda head: LARGE)
            found, at = reader.parse(data, 0)
            assert found is None, found
            reader.parse(data[at:], 0)
        message = str(refused.value)
        assert message and "s3cret" not in message and message.isprintable() and len(message) < 200, message


# -- round trips -----------------------------------------------------------------------------------

NAMES = st.sampled_from(["X-A", "accept", "IF-Match", "_b", "~"]).map(str.encode)
VALUES = st.binary(max_size=20).map(lambda text: re.sub(rb"[\0-\x08\x0a-\x1f\x7f]", b"", text).strip(b" \t"))
VISIBLE = st.lists(st.sampled_from([bytes([byte]) for byte in range(0x21, 0x7F) if byte not in b"#?"]), max_size=20).map(b"".join)


@st.composite
def written_requests(draw: st.DrawFn) -> tuple[bytes, Request]:
    """A request, and bytes that say it."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]))
    path, query = b"/" + draw(VISIBLE), draw(VISIBLE)
    body = draw(st.binary(max_size=100))
    headers: dict[bytes, bytes] = {b"host": b"a.b:9000"}
    lines = [b"%b %b HTTP/1.1" % (method.encode(), path + b"?" + query if query else path), b"Host:a.b:9000"]
    for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=6)):
        space = draw(st.sampled_from([b"", b" ", b"\t "]))
        lines.append(name + b":" + space + value + space)
        name = name.lower()
        headers[name] = headers[name] + b", " + value if name in headers else value
    keep_alive = draw(st.booleans())
    if not keep_alive:
        headers[b"connection"] = b"close"
        lines.append(b"CONNECTION: close")
    wire = body
    if draw(st.booleans()):
        headers[b"transfer-encoding"] = b"chunked"
        lines.append(b"Transfer-Encoding: chunked")
        cuts = sorted(draw(st.lists(st.integers(1, max(len(body) - 1, 1)), max_size=4, unique=True)))
        pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        wire = b"".join(
            b"%x%b\r\n%b\r\n" % (len(piece), draw(st.sampled_from([b"", b";a", b';b="c";d'])), piece) for piece in pieces if piece
        )
        wire += b"0\r\n" + draw(st.sampled_from([b"", b"Trailer: x\r\n"])) + b"\r\n"
    elif body or draw(st.booleans()):
        headers[b"content-length"] = b"%d" % len(body)
        lines.append(b"content-length: %d" % len(body))
    return head(*lines) + wire, Request(method, path, query, 1, Headers(headers.items()), body, keep_alive)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(written=st.lists(written_requests(), min_size=1, max_size=4), data=st.data())
def test_what_is_written_is_read(written: list[tuple[bytes, Request]], data: st.DataObject) -> None:
    stream = b"".join(wire for wire, _ in written)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    wanted = [said for _, said in written]
    assert feed(stream, cuts, in_place=data.draw(st.booleans())) == wanted


OfH11 = tuple[str, bytes, bytes, dict[bytes, bytes], bytes]


def first_of_h11(data: bytes) -> OfH11 | str:
    """Method, path, query, headers and body of the first request in `data`, as h11 reads it; or why it does not."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    try:
        reader.receive_data(data)
        said, body = reader.next_event(), b""
        if not isinstance(said, h11.Request):
            return MORE
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                return MORE
            body += event.data
    except h11.RemoteProtocolError as e:
        return str(e)
    headers: dict[bytes, bytes] = {}
    for name, value in said.headers:
        if name == b"transfer-encoding":
            value = b"chunked"  # h11 shows it in lower case
        headers[name] = headers[name] + b", " + value if name in headers else value
    path, _, query = said.target.partition(b"?")
    return said.method.decode(), path, query, headers, body


def as_h11(found: Request) -> OfH11:
    """A request as `first_of_h11` shows it."""
    headers = found.headers | ({b"transfer-encoding": b"chunked"} if b"transfer-encoding" in found.headers else {})
    return found.method, found.path, found.query, headers, found.body


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(written_requests())
def test_h11_reads_the_same(written: tuple[bytes, Request]) -> None:
    wire, said = written
    assert first_of_h11(wire) == as_h11(said)


# -- hostile input ---------------------------------------------------------------------------------

SEEDS = [[case.data for case in table if len(case.data) < 1000] for table in (READ, REFUSED)]
INSERTS = [b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"-1", b"\xff", b"chunked", b"Content-Length: 1\r\n", HIDDEN]


def mutations(count: int, seed: int) -> Iterator[tuple[bytes, random.Random]]:
    """Requests of the corpus, each changed in one to four places."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(chance.choice(SEEDS)))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) or 1)
            kind = chance.randrange(4)
            if kind == 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            elif kind == 1:
                del data[at : at + chance.randint(1, 5)]
            elif kind == 2:
                data[at:at] = chance.choice(INSERTS)
            else:
                data += chance.choice(chance.choice(SEEDS))
        yield bytes(data), chance


def test_mutated_requests_are_seen_alike_however_they_are_cut(long_run: bool) -> None:
    """20,000 mutations (ten times as many with --long): requests, more to come, or an HttpError, and nothing else."""
    outcomes: dict[str, int] = {}
    for data, chance in mutations(200_000 if long_run else 20_000, seed=11):
        seen = feed(data)
        cuts = [chance.randint(0, len(data)) for _ in range(chance.randint(1, 4))]
        assert feed(data, cuts, in_place=chance.random() < 0.5) == seen, (data, cuts)
        last = str(seen[-1]) if seen and not isinstance(seen[-1], Request) else "requests"
        outcomes[last] = outcomes.get(last, 0) + 1
    assert {"requests", MORE, "400", "413", "417", "501", "505"} <= outcomes.keys(), outcomes


def test_what_is_read_of_mutated_requests_is_what_h11_reads(long_run: bool) -> None:
    """What is refused here, h11 may read: it is more lenient with lines."""
    same = 0
    for data, _ in mutations(50_000 if long_run else 5_000, seed=12):
        seen = feed(data)
        if not seen or not isinstance(seen[0], Request) or b"://" in data or seen[0].version == 0:
            continue
        theirs = first_of_h11(data.removeprefix(b"\r\n"))
        if isinstance(theirs, str):  # it refuses white space before an extension, which RFC 9112 wants read, and looks into trailers
            assert theirs.startswith(("illegal chunk header", "bad Content-Length")), data
            continue
        assert theirs == as_h11(seen[0]), data
        same += 1
    assert same > 500


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, BODY_GROWTH_BYTES - 1, BODY_GROWTH_BYTES, 200_000])
@pytest.mark.parametrize("step", [1000, 70_000, 1 << 20])
@pytest.mark.parametrize("chunks", [False, True])
def test_large_bodies_are_received_in_place(size: int, step: int, chunks: bool) -> None:
    body = random.Random(size).randbytes(size)
    if chunks:
        wire = (
            head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked") + chunk(b"x") + chunk(body) + chunk(b"y") + http.LAST_CHUNK
        )
        wanted = request("POST", body=b"x" + body + b"y", transfer_encoding=b"chunked")
    else:
        wire = head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % size) + body
        wanted = request("POST", body=body, content_length=b"%d" % size)
    stream = wire + wire
    assert feed(stream, range(0, len(stream), step), in_place=True) == [wanted, wanted]
    assert feed(stream, range(0, len(stream), step)) == [wanted, wanted]


def test_a_declared_length_costs_no_memory() -> None:
    for wire in (post(b"Content-Length: %d" % LARGE, body=b"abc"), chunked(b"%x\r\nabc" % (LARGE - 3))):
        reader = RequestReader(lambda head: LARGE)
        reader.parse(wire.removesuffix(HIDDEN), 0)
        room = reader.body_room()
        assert room is not None and 0 < len(room) <= BODY_GROWTH_BYTES
        room.release()
        assert 3 <= reader.held < 2 * BODY_GROWTH_BYTES


def test_what_is_under_way_is_known() -> None:
    """For the connection's time limits, and for the memory of all connections."""
    reader = RequestReader(lambda head: LARGE)
    first = b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1000
    assert reader.parse(first, 0) == (None, 0)
    assert (reader.idle, reader.length_known, reader.held) == (False, False, 0), "the head stays with the connection"
    first += b"\r\nTransfer-Encoding: chunked\r\n\r\n5"
    assert reader.parse(first, 0) == (None, len(first) - 1)
    assert (reader.idle, reader.length_known) == (False, True) and reader.body_room() is None
    assert reader.held > 1000, "the header is kept"
    before = reader.held
    assert reader.parse(b"5\r\nhel", 0) == (None, 6)
    assert reader.held > before + 3
    found, _ = reader.parse(b"lo\r\n0\r\n\r\n", 0)
    assert found is not None and found.body == b"hello"
    assert (reader.idle, reader.length_known, reader.held, reader.body_room()) == (True, False, 0, None)
    assert reader.parse(b"\r\n", 0) == (None, 2)
    assert reader.idle, "an empty line is no request"


def test_the_memory_of_many_small_fields_is_counted() -> None:
    reader = RequestReader(lambda head: LARGE)
    reader.parse(head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1", *[b"%d:" % number for number in range(90)]), 0)
    assert reader.held > 90 * (2 * sys.getsizeof(b"99") + sys.getsizeof(dict.fromkeys(range(90))) // 90)


def test_the_limit_of_a_body_is_asked_for_once_and_may_depend_on_the_head() -> None:
    """The secret is in the header, so who may send a large body is known only then."""
    asked: list[Request] = []

    def body_limit(head: Request) -> int:
        asked.append(head)
        if b"x-refuse" in head.headers:
            raise HttpError(404, "there is no such path", close=True)
        return 5 if b"authorization" in head.headers else 4

    for framing, body in ((b"Content-Length: 5", b"hello"), (b"Transfer-Encoding: chunked", b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")):
        start = [b"POST / HTTP/1.1", b"Host: a", framing]
        for cuts in ((), range(200)):
            asked.clear()
            wire = head(b"GET / HTTP/1.1", b"Host: a") + head(*start, b"Authorization: x") + body
            first, second = feed(wire, cuts, body_limit=body_limit)
            assert first == request() and isinstance(second, Request) and second.body == b"hello"
            assert asked == [second._replace(body=b"")], "once, and not for a request without a body"
            assert feed(head(*start) + body, cuts, body_limit=body_limit) == [413]
            assert feed(head(*start, b"X-Refuse: x") + body, cuts, body_limit=body_limit) == [404]


def test_a_client_that_waits_for_it_is_told_to_continue() -> None:
    for framing, body in ((b"Content-Length: 5", b"hello"), (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")):
        start = head(b"POST / HTTP/1.1", b"Host: a", framing, b"expect: 100-Continue")
        reader = RequestReader(lambda head: LARGE)
        assert reader.parse(start[:-1], 0) == (None, 0) and not reader.continue_due
        assert reader.parse(start, 0) == (None, len(start)) and reader.continue_due
        reader.continue_due = False
        found, at = reader.parse(body[:4], 0)
        assert found is None and not reader.continue_due, "once"
        found, _ = reader.parse(body[at:], 0)
        assert found is not None and found.body == b"hello"
        found, _ = reader.parse(start + body, 0)
        assert found is not None and not reader.continue_due, "the body is there"
        old = start.replace(b"1.1", b"1.0")
        if framing.startswith(b"Content"):
            assert reader.parse(old, 0) == (None, len(old)) and not reader.continue_due, "HTTP/1.0 knows no interim response"


# -- time ------------------------------------------------------------------------------------------


def test_a_header_that_comes_byte_by_byte_is_searched_once() -> None:
    """32,000 looks at 32 KiB take 2 s and more; at a few bytes, 0.05 s."""
    lines = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (HEAD_BYTES_MAX - 100)
    reader = RequestReader(lambda head: LARGE)
    took = 0.0
    for size in range(len(lines)):
        data = lines[:size]
        began = perf_counter()
        assert reader.parse(data, 0) == (None, 0)
        took += perf_counter() - began
    assert took < 1, f"{took:.2f} s"


class Watched(bytes):
    """Bytes that count how many of them `find` looks at."""

    looked_at = 0

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        Watched.looked_at += max(min(len(self), len(self) if end is None else end) - start, 0)
        return super().find(sub, start, end)


@pytest.mark.parametrize("start", [b"", b"5;", b"5\r\nhello\r\n0;", b"0\r\nA: "])
def test_the_end_of_a_line_is_looked_for_once(start: bytes) -> None:
    reader = RequestReader(lambda head: LARGE)
    if start:
        reader.parse(head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked"), 0)
    rest, Watched.looked_at = b"", 0
    for byte in start + b"GET" * 10_000:
        rest += bytes([byte])
        _, at = reader.parse(Watched(rest), 0)
        rest = rest[at:]
    assert 30_000 <= Watched.looked_at < 30_000 * 5


@pytest.mark.parametrize(
    "piece", [b"X: a\r\n", b"X:\r\n", b"X: " + b" " * 5000 + b"\r\n", b":\r\n", b" \r\n", b"X\r\n", b"X", b" ", b"\t:", b"\r\n\0"]
)
@pytest.mark.parametrize("start", [b"", b"X: ", b"Transfer-Encoding: ", b"Connection: ,", b"Host: "])
def test_no_header_takes_long(piece: bytes, start: bytes) -> None:
    """Whatever it holds: the time grows with its length, and not with its square."""
    lines = get(start + (piece * HEAD_BYTES_MAX)[: HEAD_BYTES_MAX - 100].removesuffix(b"\r"))
    took = min(timeit.repeat(lambda: feed(lines), number=1, repeat=5))
    assert took < 0.05, f"{took * 1000:.0f} ms"


def test_a_long_pipeline() -> None:
    wire = head(b"GET /a HTTP/1.1", b"Host: a") + head(b"PUT /b HTTP/1.1", b"Host: a", b"Content-Length: 2") + b"xy"
    wanted = [request(path=b"/a"), request("PUT", b"/b", body=b"xy", content_length=b"2")]
    assert feed(wire * 1000) == wanted * 1000
    assert feed(wire * 1000, range(0, 1000 * len(wire), 37), in_place=True) == wanted * 1000


# -- paths and queries -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        (b"/", [b""]),
        (b"/a/b", [b"a", b"b"]),
        (b"/a/", [b"a", b""]),
        (b"//a", [b"", b"a"]),
        (b"/a%2Fb/%2f", [b"a/b", b"/"]),
        (b"/%252F", [b"%2F"]),
        (b"/a+b", [b"a+b"]),
        (b"/%00%fF%0a", [b"\0\xff\n"]),
        (b"/../%2e%2E/.", [b"..", b"..", b"."]),
        (b"/%5Cx41\\x41\\", [b"\\x41\\x41\\"]),
    ],
)
def test_a_path_is_split_and_then_decoded_once(path: bytes, segments: list[bytes]) -> None:
    assert split_path(path) == segments


@pytest.mark.parametrize("text", [b"%", b"%4", b"%4/1", b"a%zz", b"%%41", b"%+1", b"% 1", b"%0x", b"%\xb21", b"%u0041", b"%4\n"])
def test_a_bad_escape_is_refused(text: bytes) -> None:
    for split in (split_path, split_query):
        with pytest.raises(HttpError, match="two hexadecimal digits") as refused:
            split(b"/" + text)
        assert refused.value.status == 400 and not refused.value.close


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_segments_of_any_bytes(segments: list[bytes]) -> None:
    from urllib.parse import quote

    for safe in ("", "\\+&=;.~"):
        assert split_path("".join("/" + quote(segment, safe=safe) for segment in segments).encode()) == segments


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=8))
def test_parameters_of_any_bytes(pairs: list[tuple[bytes, bytes]]) -> None:
    from urllib.parse import urlencode

    wanted: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        wanted.setdefault(name, []).append(value)
    assert split_query(urlencode(pairs).encode()) == wanted


def test_queries() -> None:
    assert split_query(b"") == split_query(b"&&") == {}
    assert split_query(b"a=1&b&a=&c=d=e&a=2;3+4%2B") == {b"a": [b"1", b"", b"2;3 4+"], b"b": [b""], b"c": [b"d=e"]}
    assert len(split_query(b"a&" * 99 + b"a")[b"a"]) == 100
    with pytest.raises(HttpError, match="101 parameters") as refused:
        split_query(b"a&" * 100)
    assert refused.value.status == 400


# -- responses -------------------------------------------------------------------------------------


def first_of_client(wire: bytes, method: str = "GET") -> tuple[int, list[tuple[bytes, bytes]], bytes, bool]:
    """Status, headers, body, and whether the connection goes on, as h11's client reads a response to a request of this method."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    said, body = client.next_event(), b""
    assert isinstance(said, h11.Response)
    if client.their_http_version == b"1.1" and not any(name in (b"content-length", b"transfer-encoding") for name, _ in said.headers):
        client.receive_data(b"")
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        body += event.data
    assert client.trailing_data in ((b"", False), (b"", True))
    return said.status_code, list(said.headers), body, client.their_state is h11.DONE


@pytest.mark.parametrize("body", [b"", b"hello", b"\r\n\r\n" * 5000])
def test_a_response_is_whole(body: bytes) -> None:
    fields = [(b"ETag", b'"5"'), (b"X", b"")]
    wire = response(200, fields, body, common=COMMON)
    named = [(b"date", DATE), (b"etag", b'"5"'), (b"x", b""), (b"content-length", b"%d" % len(body))]
    assert first_of_client(wire) == (200, named, body, True)
    assert wire.startswith(b"HTTP/1.1 200 OK\r\n")
    only = response(200, fields, body, common=COMMON, head_only=True)
    assert first_of_client(only, "HEAD") == (200, named, b"", True)
    assert wire == only + body == response_head(200, fields, len(body), common=COMMON) + body


def test_the_client_is_told_whether_the_connection_goes_on() -> None:
    def connection(**options: object) -> list[bytes]:
        _, fields, body, goes_on = first_of_client(response(200, [], b"x", common=COMMON, **options))  # type: ignore[arg-type]
        assert body == b"x"
        said = [value for name, value in fields if name == b"connection"]
        assert goes_on == (said != [b"close"])
        return said

    assert connection() == []
    assert connection(keep_alive=False) == [b"close"]
    assert connection(version=0) == [b"keep-alive"]
    assert connection(version=0, keep_alive=False) == [b"close"]


def test_a_body_of_unknown_length() -> None:
    pieces = [b"hello", b"", b"x" * 70_000]
    wire = response_head(200, [], None, common=COMMON) + b"".join(map(chunk, pieces)) + http.LAST_CHUNK
    assert first_of_client(wire) == (200, [(b"date", DATE), (b"transfer-encoding", b"chunked")], b"".join(pieces), True)
    wire = response_head(200, [], None, common=COMMON, version=0) + b"".join(pieces)
    assert first_of_client(wire) == (200, [(b"date", DATE), (b"connection", b"close")], b"".join(pieces), False)


@pytest.mark.parametrize("status", [101, 204, 304])
def test_some_responses_have_no_body(status: int) -> None:
    wire = response(status, [], b"", common=COMMON)
    assert b"content-length" not in wire.lower() and b"transfer-encoding" not in wire.lower() and wire.endswith(b"\r\n\r\n")
    assert response_head(status, [], None, common=COMMON) == wire
    with pytest.raises(ValueError, match="no body"):
        response(status, [], b"x", common=COMMON)


@pytest.mark.parametrize("text", [b"a\r\nX: y", b"a\nX: y", b"a\r", b"\n", b"a\0b", b"\n\r"])
def test_a_field_cannot_split_a_response(text: bytes) -> None:
    for field in ((b"X", text), (text, b"x")):
        with pytest.raises(ValueError, match="a CR, an LF or a NUL"):
            response(200, [(b"A", b"b"), field], b"", common=COMMON)


def test_reasons_are_the_standard_ones() -> None:
    from http import HTTPStatus

    renamed = {413, 414, 416}  # by RFC 9110; Python 3.11 has the older phrases
    for status in http.REASONS.keys() - renamed:
        assert http.REASONS[status] == HTTPStatus(status).phrase
