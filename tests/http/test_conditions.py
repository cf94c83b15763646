"""ETags and their conditions, ranges, methods: what RFC 9110 says of an answer, over keys."""

from collections.abc import Iterator

import pytest

from tests.support.processes import FloProcess
from tests.support.rest import Answer, Rest, key_path

K = key_path(b"conditions")


@pytest.fixture
def rest(shared_flo: FloProcess) -> Iterator[Rest]:
    with Rest(shared_flo.port) as client:
        yield client


@pytest.fixture
def tag(rest: Rest) -> str:
    """The ETag of the key, which holds `0123456789`. It is not "1"."""
    rest.ask("PUT", key_path(b"before"), b"")
    answer = rest.ask("PUT", K, b"0123456789")
    assert answer.headers["etag"] == f'"{answer.json["version"]}"'
    return answer.headers["etag"]


def is_412(answer: Answer, tag: str | None) -> bool:
    return (answer.status, answer.headers.get("etag")) == (412, tag) and bool(answer.sentence)


# -- conditions ------------------------------------------------------------------------------------


def test_if_match_is_the_version_that_a_write_expects(rest: Rest, tag: str) -> None:
    assert is_412(rest.ask("PUT", K, b"never", if_match='"1"'), tag)
    assert is_412(rest.ask("DELETE", K, if_match='"1"'), tag)
    assert is_412(rest.ask("POST", f"{K}/persist", if_match='"1"'), tag)
    assert is_412(rest.ask("POST", f"{K}/touch?ttl=5", if_match='"1"'), tag)
    assert rest.ask("GET", K).body == b"0123456789"
    answer = rest.ask("PUT", K, b"new", if_match=tag)
    assert answer.status == 200 and answer.headers["etag"] != tag
    answer = rest.ask("POST", f"{K}/touch?ttl=50", if_match=answer.headers["etag"])
    assert answer.status == 200
    assert rest.ask("DELETE", K, if_match=answer.headers["etag"]).status == 200
    assert is_412(rest.ask("PUT", K, b"never", if_match=tag), None)
    assert is_412(rest.ask("PUT", K, b"never", if_match="*"), None)
    assert rest.ask("GET", K).status == 404


def test_if_none_match_star_lets_a_write_create_only(rest: Rest, tag: str) -> None:
    assert is_412(rest.ask("PUT", K, b"never", if_none_match="*"), tag)
    assert rest.ask("PUT", K, b"there", if_match="*").status == 200
    rest.ask("DELETE", K)
    assert rest.ask("PUT", K, b"first", if_none_match="*").status == 200
    assert rest.ask("GET", K).body == b"first"


def test_a_condition_of_a_parameter_is_a_conflict(rest: Rest, tag: str) -> None:
    for query in ("cas_version=1", "if_absent=true"):
        answer = rest.ask("PUT", f"{K}?{query}", b"never")
        assert (answer.status, "etag" in answer.headers) == (409, False) and answer.sentence
    assert rest.ask("PUT", f"{K}?cas_version={tag[1:-1]}", b"new").status == 200


def test_conditions_may_be_given_together(rest: Rest, tag: str) -> None:
    """As over the binary protocol, which compares them all."""
    assert rest.ask("PUT", f"{K}?cas_version=1&if_present=true", b"never").status == 409
    assert is_412(rest.ask("PUT", K, b"never", if_match=tag, if_none_match="*"), tag)
    assert rest.ask("PUT", f"{K}?if_present=true", b"new", if_match=tag).status == 200
    answer = rest.ask("PUT", f"{K}?if_present=true&if_absent=true", b"never")
    assert (answer.status, answer.sentence) == (400, "kv_put takes if_absent or if_present, not both")


def test_the_wrong_kind_of_value_is_a_conflict_whatever_the_condition(rest: Rest, tag: str) -> None:
    assert rest.ask("PUT", f"{K}/json", b"{", if_match=tag).status == 400
    answer = rest.ask("PUT", f"{K}/json?path=a", b"1", if_match=tag)
    assert (answer.status, answer.sentence) == (409, "Operation against a key holding the wrong kind of value")


@pytest.mark.parametrize(
    ("method", "path", "fields", "says"),
    [
        ("PUT", K, {"if_match": "1"}, "If-Match is not * or the ETag"),
        ("PUT", K, {"if_match": 'W/"1"'}, "If-Match is not * or the ETag"),
        ("PUT", K, {"if_match": '"1", "2"'}, "If-Match is not * or the ETag"),
        ("PUT", K, {"if_match": '"x"'}, "If-Match is not * or the ETag"),
        ("PUT", K, {"if_none_match": '"1"'}, "If-None-Match of a request that writes is not *"),
        ("DELETE", K, {"if_match": "*"}, "kv_delete takes no If-Match of this form"),
        ("DELETE", K, {"if_none_match": "*"}, "kv_delete takes no If-None-Match of this form"),
        ("POST", f"{K}/incr", {"if_match": '"1"'}, "kv_incr takes no If-Match of this form"),
        ("POST", "/api/v1/queues/default/q/messages", {"if_match": '"1"'}, "queue_enqueue takes no If-Match of this form"),
        ("PUT", K, {"if_match": '"99999999999999999999"'}, "cas_version"),
    ],
)
def test_a_condition_that_is_not_taken_is_refused(rest: Rest, method: str, path: str, fields: dict[str, str], says: str) -> None:
    """Never ignored: the client relies on it."""
    answer = rest.ask(method, path, b"", **fields)
    assert answer.status == 400 and says in answer.sentence


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_reader_that_has_the_version_gets_304(rest: Rest, tag: str, method: str) -> None:
    for listed in (tag, f'"x", {tag}', f"W/{tag}", "*", f'"1",{tag} '):
        answer = rest.ask(method, K, if_none_match=listed)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
        assert "content-length" not in answer.headers
    for other in ('"1"', "", tag[1:-1]):
        answer = rest.ask(method, K, if_none_match=other)
        assert (answer.status, answer.body) == (200, b"0123456789" if method == "GET" else b"")
    assert rest.ask(method, key_path(b"missing"), if_none_match="*").status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_reader_may_insist_on_a_version(rest: Rest, tag: str, method: str) -> None:
    assert rest.ask(method, K, if_match=tag).status == 200
    assert rest.ask(method, K, if_match="*").status == 200
    assert rest.ask(method, K, if_match=f'"1", {tag}').status == 200
    for other in ('"1"', f"W/{tag}"):
        answer = rest.ask(method, K, if_match=other)
        assert (answer.status, answer.headers["etag"]) == (412, tag)
    assert rest.ask(method, key_path(b"missing"), if_match="*").status == 404


def test_a_range_and_a_condition_hold_for_what_was_waited_for(rest: Rest, tag: str) -> None:
    """The answer of a wait is made when it ends; a refusal then must not be the server's end."""
    waits = f"{K}?block=20"
    assert rest.ask("GET", waits, range="bytes=2-4").body == b"234"
    assert rest.ask("GET", waits, range="bytes=10-").status == 416
    assert rest.ask("GET", waits, if_match='"1"').status == 412
    assert rest.ask("GET", waits, if_none_match=tag).status == 304
    assert rest.ask("GET", K).status == 200


def test_a_document_has_an_etag_and_no_parts(rest: Rest) -> None:
    document = key_path(b"document", "/json")
    tag = rest.ask("PUT", document, b'{"a": [1, 2]}').headers["etag"]
    answer = rest.ask("GET", f"{document}?path=$.a", range="bytes=0-1")
    assert (answer.status, answer.body, answer.headers["etag"], answer.headers["content-type"]) == (200, b"[1,2]", tag, "application/json")
    assert rest.ask("GET", f"{document}?path=$.a", if_none_match=tag).status == 304
    assert is_412(rest.ask("PUT", f"{document}?path=$.a", b"3", if_match='"1"'), tag)
    assert rest.ask("PUT", f"{document}?path=$.a", b"3", if_match=tag).status == 200


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "part", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-999999999999999999", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-30", b"0123456789", "bytes 0-9/10"),
        ("BYTES= 2 - 4", b"234", "bytes 2-4/10"),
    ],
)
def test_a_part_of_a_value(rest: Rest, tag: str, asked: str, part: bytes, content_range: str) -> None:
    answer = rest.ask("GET", K, range=asked)
    assert (answer.status, answer.body, answer.headers["content-range"], answer.headers["etag"]) == (206, part, content_range, tag)
    head = rest.ask("HEAD", K, range=asked)
    assert (head.status, head.headers["content-length"], "content-range" in head.headers) == (200, "10", False)  # RFC 9110 section 14.2


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=999999999999999999-"])
def test_no_byte_of_the_value_is_in_the_range(rest: Rest, tag: str, asked: str) -> None:
    answer = rest.ask("GET", K, range=asked)
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */10") and "10 bytes" in answer.sentence


@pytest.mark.parametrize("asked", ["bytes=4-2", "bytes=0-1,5-6", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=0-1;x", "bytes=+1-2", ""])
def test_a_range_that_is_not_understood_is_ignored(rest: Rest, tag: str, asked: str) -> None:
    answer = rest.ask("GET", K, range=asked)
    assert (answer.status, answer.body, "content-range" in answer.headers) == (200, b"0123456789", False)
    assert answer.headers["accept-ranges"] == "bytes"


def test_if_range_lets_a_range_count_for_one_version_only(rest: Rest, tag: str) -> None:
    assert rest.ask("GET", K, range="bytes=0-1", if_range=tag).status == 206
    for other in ('"1"', f"W/{tag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert rest.ask("GET", K, range="bytes=0-1", if_range=other).status == 200
    assert rest.ask("GET", K, range="bytes=10-", if_range='"1"').status == 200
    assert rest.ask("GET", K, range="bytes=0-1", if_none_match=tag).status == 304


def test_a_range_of_nothing_and_of_a_write(rest: Rest) -> None:
    rest.ask("PUT", key_path(b"empty"), b"")
    assert rest.ask("GET", key_path(b"empty"), range="bytes=0-").status == 416
    assert rest.ask("PUT", K, b"whole", range="bytes=0-1").status == 200
    assert rest.ask("GET", K).body == b"whole"


# -- methods ---------------------------------------------------------------------------------------


def test_head_is_get_without_its_body(rest: Rest, tag: str) -> None:
    for path in (K, f"{K}/info", "/api/v1/kv/default/keys", "/api/v1/queues/default", "/health", "/ready", key_path(b"missing")):
        get, head = rest.ask("GET", path), rest.ask("HEAD", path)
        assert (head.status, head.body) == (get.status, b"")
        assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (K, "HEAD, DELETE, GET, OPTIONS, PUT"),
        (f"{K}/incr", "OPTIONS, POST"),
        ("/api/v1/queues/default/q/messages", "HEAD, GET, OPTIONS, POST"),
        ("/health", "HEAD, GET, OPTIONS"),
        ("*", "OPTIONS"),
    ],
)
def test_options_says_what_a_path_allows(rest: Rest, path: str, allowed: str) -> None:
    answer = rest.ask("OPTIONS", path)
    assert (answer.status, answer.headers["allow"], answer.body) == (204, allowed, b"")
    if path != "*":
        for method in {"GET", "PUT", "POST", "DELETE", "PATCH", "TRACE"} - set(allowed.split(", ")):
            refused = rest.ask(method, path, b"")
            assert (refused.status, refused.headers["allow"]) == (405, allowed)
            assert refused.sentence == f"{method} is not for this path; {allowed} are"


def test_a_method_that_is_not_known(rest: Rest) -> None:
    answer = rest.ask("BREW", K)
    assert (answer.status, answer.headers["connection"]) == (501, "close") and "'BREW'" in answer.sentence


def test_an_idempotency_key_adds_a_message_once(rest: Rest) -> None:
    path = "/api/v1/queues/default/once"
    seqs = [rest.ask("POST", f"{path}/messages", b"m%d" % at, idempotency_key=key).json["seq"] for at, key in enumerate(("a", "a", "b"))]
    assert seqs[0] == seqs[1] < seqs[2]
    assert rest.ask("POST", f"{path}/messages?dedup_key=a", b"again").json["seq"] == seqs[0]
    assert [message["payload"] for message in rest.ask("GET", f"{path}/messages").json["messages"]] == ["m0", "m2"]
