"""Connections over HTTP: many requests on one, how they end, bodies that come in pieces or are large, and requests that wait."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import FloProcess, wait_until
from tests.support.rest import Raw, Rest, curl, key_path, request

K = key_path(b"connections")
MIB = 1 << 20
VALUE_BYTES_MAX = 16 * MIB


@pytest.fixture
def raw(shared_flo: FloProcess) -> Iterator[Raw]:
    with Raw(shared_flo.port) as connection:
        yield connection


@pytest.fixture
def rest(shared_flo: FloProcess) -> Iterator[Rest]:
    with Rest(shared_flo.port) as client:
        yield client


# -- one after the other ---------------------------------------------------------------------------


def test_a_hundred_requests_in_one_write_are_answered_in_order(raw: Raw) -> None:
    requests = []
    for at in range(50):
        requests += [request("PUT", key_path(b"p%d" % at), b"value %d" % at), request("GET", key_path(b"p%d" % (at // 2)))]
    raw.send(b"".join(requests))
    for at in range(50):
        assert raw.answer().json.keys() == {"version"}
        assert raw.answer().body == b"value %d" % (at // 2)
    raw.send(b"".join(request(*each) for each in (("HEAD", key_path(b"p1")), ("GET", "/nothing"), ("DELETE", K), ("GET", "/health"))))
    assert raw.answer("HEAD").headers["content-length"] == "7"
    assert [raw.answer().status for _ in range(3)] == [404, 404, 200]


def test_a_connection_is_kept_until_the_client_ends_it(raw: Raw, shared_flo: FloProcess) -> None:
    for _ in range(3):
        raw.send(request("GET", "/health"))
        answer = raw.answer()
        assert (answer.status, "connection" in answer.headers) == (200, False)
    raw.send(request("PUT", K, b"last", "Connection: close") + request("PUT", K, b"never"))
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert raw.at_end()
    with Rest(shared_flo.port) as rest:
        assert rest.ask("GET", K).body == b"last"


@pytest.mark.parametrize(("field", "kept"), [("", False), ("Connection: keep-alive\r\n", True), ("Connection: close\r\n", False)])
def test_http_1_0(raw: Raw, field: str, kept: bool) -> None:
    """HAProxy's check is one: without a Host."""
    raw.send(f"GET /health HTTP/1.0\r\n{field}\r\n".encode())
    answer = raw.answer()
    assert (answer.status, answer.json["status"], answer.headers["connection"]) == (200, "pass", "keep-alive" if kept else "close")
    if kept:
        raw.send(b"GET /ready HTTP/1.0\r\n\r\n")
        assert raw.answer().body == b"ready\n"
    assert raw.at_end()


def test_http_1_1_needs_a_host_that_is_the_servers(raw: Raw, rest: Rest) -> None:
    assert rest.ask("GET", "/health", host="evil.example").status == 421
    assert rest.ask("GET", "/health", host="127.0.0.1:1").status == 200
    raw.send(b"GET /health HTTP/1.1\r\n\r\n")
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close") and "no Host" in answer.sentence
    assert raw.at_end()


def test_half_a_connection_is_answered_and_closed(raw: Raw) -> None:
    raw.send(request("GET", "/health") + request("GET", "/ready"))
    raw.sock.shutdown(socket.SHUT_WR)
    assert raw.answer().json["message"] == "ready for queries and writes"
    assert raw.answer().body == b"ready\n"
    assert raw.at_end()


# -- bodies ----------------------------------------------------------------------------------------


def test_a_body_may_come_in_chunks(raw: Raw, rest: Rest) -> None:
    head = request("PUT", K, b"", "Transfer-Encoding: chunked")
    for chunks, value in (
        (b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"0\r\n\r\n", b""),
        (b"A\r\n0123456789\r\n0\r\nX-Trailer: ignored\r\n\r\n", b"0123456789"),
    ):
        raw.send(head + chunks)
        assert raw.answer().status == 200
        assert rest.ask("GET", K).body == value
    for byte in head + b"3\r\nabc\r\n0\r\n\r\n":
        raw.send(bytes([byte]))
    assert raw.answer().status == 200 and rest.ask("GET", K).body == b"abc"
    raw.send(head + b"5\r\nhello world\r\n0\r\n\r\n")
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close") and raw.at_end()
    assert rest.ask("GET", K).body == b"abc"


def test_a_json_body_may_come_in_chunks(raw: Raw) -> None:
    head = request("POST", "/api/v1/queues/default/q/ack", b"", "Transfer-Encoding: chunked", "Content-Type: application/json")
    raw.send(head + b'10\r\n{"receipts": []}\r\n0\r\n\r\n')
    assert raw.answer().json == {"acked": 0}


def test_the_server_says_when_it_takes_the_body(raw: Raw, rest: Rest) -> None:
    raw.send(request("PUT", K, b"", "Content-Length: 5", "Expect: 100-continue"))
    assert raw.answer().status == 100
    raw.send(b"later")
    assert raw.answer().status == 200 and rest.ask("GET", K).body == b"later"
    raw.send(request("PUT", K, b"at once", "Expect: 100-continue"))
    assert raw.answer().status == 200
    raw.send(request("PUT", K, b"", f"Content-Length: {64 * MIB}", "Expect: 100-continue"))
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close") and raw.at_end()


def test_curl_waits_for_that_before_five_mebibytes(shared_flo: FloProcess, tmp_path: Path) -> None:
    value = os.urandom(5 * MIB)
    (tmp_path / "value").write_bytes(value)
    for flags in ((), ("-H", "Transfer-Encoding: chunked")):
        told = curl(shared_flo.port, K, "-T", str(tmp_path / "value"), "-D", "-", *flags)
        assert told.startswith(b"HTTP/1.1 100 Continue\r\n") and b"HTTP/1.1 200 OK\r\n" in told
        assert curl(shared_flo.port, K) == value
        assert curl(shared_flo.port, K, "-r", "1000000-1000009") == value[1_000_000:1_000_010]


def test_the_largest_value_goes_up_and_down(rest: Rest, shared_flo: FloProcess) -> None:
    value = os.urandom(VALUE_BYTES_MAX)
    assert rest.ask("PUT", K, value).status == 200
    assert rest.ask("GET", K).body == value
    assert rest.ask("GET", K, range="bytes=-7").body == value[-7:]
    answer = rest.ask("PUT", K, value + b"x")
    assert answer.status == 400 and f"kv_put takes {VALUE_BYTES_MAX} at most" in answer.sentence
    assert rest.ask("GET", K, range="bytes=-7").body == value[-7:]
    wide = json.dumps({"items": [{"key": "wide", "value": "ü" * (VALUE_BYTES_MAX // 2 - 100)}]}, ensure_ascii=False).encode()
    assert rest.ask("POST", "/api/v1/kv/default/keys", wide, content_type="application/json").status == 200
    assert rest.ask("GET", key_path(b"wide")).headers["content-length"] == str(VALUE_BYTES_MAX - 200)
    for key in (K, key_path(b"wide")):
        assert rest.ask("DELETE", key).status == 200


# -- waiting ---------------------------------------------------------------------------------------


def waiting(rest: Rest) -> int:
    return int(rest.ask("GET", "/api/v1/cluster").json["waiting"])


def test_a_request_that_waits_holds_up_nobody_else(raw: Raw, rest: Rest) -> None:
    raw.send(request("POST", "/api/v1/queues/default/wait/dequeue?block=60000") + request("GET", "/health"))
    wait_until(lambda: waiting(rest) == 1, "a request that waits")
    assert rest.ask("PUT", K, b"a neighbour is served").status == 200
    assert rest.ask("POST", "/api/v1/queues/default/wait/messages", b"work").status == 200
    (message,) = raw.answer().json["messages"]
    assert (message["payload"], message["attempts"]) == ("work", 1)
    assert raw.answer().json["status"] == "pass"  # what stood behind it
    assert waiting(rest) == 0


@pytest.mark.parametrize(
    ("method", "path", "wakes"),
    [
        ("GET", key_path(b"waited", "?wait=60000"), ("PUT", key_path(b"waited"))),
        ("GET", "/api/v1/streams/default/waited/records?tail=true&block=60000", ("POST", "/api/v1/streams/default/waited/records")),
        ("POST", "/api/v1/streams/default/s/groups/g/read?consumer=c&block=60000", ("POST", "/api/v1/streams/default/s/records")),
    ],
)
def test_what_is_waited_for_is_answered_when_it_comes(raw: Raw, rest: Rest, method: str, path: str, wakes: tuple[str, str]) -> None:
    raw.send(request(method, path))
    wait_until(lambda: waiting(rest) == 1, "a request that waits")
    assert rest.ask(*wakes, b"came").status == 200
    answer = raw.answer()
    assert answer.status == 200 and b"came" in answer.body


def test_a_wait_ends_with_its_time_and_with_its_connection(rest: Rest, shared_flo: FloProcess) -> None:
    assert rest.ask("POST", "/api/v1/queues/default/ends/dequeue?block=1").json == {"messages": []}
    assert rest.ask("GET", key_path(b"never", "?wait=1")).status == 404
    with Raw(shared_flo.port) as raw:
        raw.send(request("POST", "/api/v1/queues/default/ends/dequeue?block=60000"))
        wait_until(lambda: waiting(rest) == 1, "a request that waits")
    wait_until(lambda: waiting(rest) == 0, "the end of the wait")
    assert rest.ask("POST", "/api/v1/queues/default/ends/messages", b"for the next").status == 200
    assert rest.ask("POST", "/api/v1/queues/default/ends/dequeue").json["messages"][0]["attempts"] == 1


@pytest.mark.parametrize("path", ["/api/v1/queues/default/last/dequeue?block=5", "/api/v1/queues/default/last/purge"])
def test_nothing_runs_behind_the_last_request(raw: Raw, rest: Rest, path: str) -> None:
    """Also where the last one waits."""
    rest.ask("DELETE", K)
    raw.send(request("POST", path, b"", "Connection: close") + request("PUT", K, b"never"))
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert raw.at_end()
    assert rest.ask("GET", K).status == 404


def test_answers_wait_for_a_client_that_reads_slowly(raw: Raw, rest: Rest, shared_flo: FloProcess) -> None:
    """The server executes no more requests than the output that it may hold."""
    value = os.urandom(MIB)
    assert rest.ask("PUT", K, value).status == 200
    before = shared_flo.rss_bytes()
    raw.send(request("GET", K) * 40)
    wait_until(lambda: rest.ask("GET", "/health").status == 200, "a neighbour's answer")
    assert shared_flo.rss_bytes() - before < 20 * MIB
    for _ in range(40):
        assert raw.answer().body == value


def test_a_limit_that_is_reached_says_when_to_come_back(tmp_path: Path) -> None:
    path = "/api/v1/queues/default/q/dequeue?block=60000"
    with FloProcess(tmp_path / "data", environment={"FLO_LIMITS_WAITERS": "1"}) as flo, Raw(flo.port) as raw, Rest(flo.port) as rest:
        raw.send(request("POST", path))
        wait_until(lambda: waiting(rest) == 1, "a request that waits")
        answer = rest.ask("POST", path)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1") and "limits.waiters" in answer.sentence
        assert rest.ask("GET", "/health").status == 200
