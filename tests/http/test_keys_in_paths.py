"""A key of any bytes has a path, and comes out of it as it is: over http.client and over `curl --path-as-is`, which rewrite nothing."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import FloProcess, RespClient
from tests.support.rest import Raw, Rest, curl, escaped, key_path, request

KEYS = "/api/v1/kv/default/keys"
PLAIN = b"!$&'()*,-.0123456789:;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~+\"<>[]\\^`{|}"  # what needs no escape here
SPECIAL = [b"/", b"%", b"%2F", b"a/b", b"..", ".", "-", "a b", "+", "ü", "?", "#", "..%2f", "keys", "{key}"]


@pytest.fixture
def rest(shared_flo: FloProcess) -> Iterator[Rest]:
    with Rest(shared_flo.port) as client:
        yield client


@pytest.fixture
def resp(shared_flo: FloProcess) -> Iterator[RespClient]:
    with shared_flo.connect() as client:
        yield client


def test_every_byte_may_be_in_a_key(rest: Rest, resp: RespClient) -> None:
    for byte in range(256):
        for key in (bytes([byte]), b"a%cb" % byte):
            path = f"{KEYS}/{''.join(f'%{each:02X}' for each in key)}"
            assert rest.ask("PUT", path, b"%d" % byte).status == 200
            assert resp.command("GET", key) == b"%d" % byte
            assert rest.ask("GET", path.lower()).body == b"%d" % byte
            assert rest.ask("DELETE", key_path(key)).status == 200
            assert resp.command("EXISTS", key) == 0


def test_a_byte_that_a_target_may_have_needs_no_escape(shared_flo: FloProcess, resp: RespClient) -> None:
    assert set(range(0x21, 0x7F)) - set(PLAIN) == set(b"#%/?")
    with Raw(shared_flo.port) as raw:
        for byte in PLAIN:
            raw.send(request("PUT", f"{KEYS}/p{chr(byte)}", b"%d" % byte))
            assert raw.answer().status == 200
            assert resp.command("GET", b"p%c" % byte) == b"%d" % byte


@pytest.mark.parametrize("name", SPECIAL)
def test_a_special_name_is_itself(rest: Rest, resp: RespClient, shared_flo: FloProcess, name: bytes | str, tmp_path: Path) -> None:
    key = name.encode() if isinstance(name, str) else name
    everywhere = "".join(f"%{byte:02x}" for byte in key)
    assert rest.ask("PUT", key_path(key), b"by http.client").status == 200
    assert resp.command("GET", key) == b"by http.client"
    value = tmp_path / "value"
    value.write_bytes(b"by curl")
    assert b"version" in curl(shared_flo.port, f"{KEYS}/{everywhere}", "-T", str(value))
    assert resp.command("GET", key) == b"by curl"
    name64 = urlsafe_b64encode(key).decode().rstrip("=")
    for path in (key_path(key), f"{KEYS}/{everywhere}", f"{KEYS}/-?name64={name64}"):
        assert rest.ask("GET", path).body == b"by curl", path
        assert curl(shared_flo.port, path) == b"by curl", path
    assert rest.ask("DELETE", f"{KEYS}/-?name64={name64}").status == 200
    assert resp.command("EXISTS", key) == 0


def test_the_empty_name_is_only_in_name64(rest: Rest, resp: RespClient) -> None:
    assert rest.ask("PUT", f"{KEYS}/-?name64=", b"empty").status == 200
    assert resp.command("GET", "") == b"empty"
    assert rest.ask("GET", f"{KEYS}/-?name64=").body == b"empty"
    assert rest.ask("GET", f"{KEYS}/-/exists?name64=").json == {"exists": True}
    assert rest.ask("DELETE", f"{KEYS}/-?name64=").status == 200


def test_dots_are_not_steps(rest: Rest, resp: RespClient, shared_flo: FloProcess) -> None:
    """Otherwise `..` would lead out of the keys: to the namespace."""
    for path in (f"{KEYS}/..", f"{KEYS}/%2e%2e", f"{KEYS}/.%2E"):
        assert rest.ask("PUT", path, path.encode()).status == 200
        assert resp.command("GET", "..") == path.encode()
        assert curl(shared_flo.port, path) == path.encode()
    assert rest.ask("GET", f"{KEYS}/../../../namespaces").status == 404


def test_a_path_is_decoded_once(rest: Rest, resp: RespClient) -> None:
    assert rest.ask("PUT", f"{KEYS}/%252F", b"twice").status == 200
    assert resp.command("GET", "%2F") == b"twice"
    assert resp.command("EXISTS", "/") == 0


@pytest.mark.parametrize(
    "path",
    [
        f"{KEYS}/",
        f"{KEYS}/k/",
        f"{KEYS}//k",
        "//api/v1/kv/default/keys",
        "/api/v1",
        "/api/v1/",
        "/nothing",
        f"{KEYS}/k/json/",
        "/health/",
    ],
)
def test_nothing_is_at_a_path_with_an_empty_segment(rest: Rest, path: str) -> None:
    answer = rest.ask("GET", path)
    assert (answer.status, answer.sentence) == (404, "there is nothing at this path; /api/v1/openapi.json lists what there is")


@pytest.mark.parametrize("path", ["/k%", "/k%2", "/k%zz", "/k%-1", "/k%+1"])
def test_an_escape_that_is_none_is_refused(rest: Rest, path: str) -> None:
    answer = rest.ask("GET", KEYS + path)
    assert answer.status == 400 and "is not % and two hexadecimal digits" in answer.sentence


def test_a_long_key_has_a_path_up_to_the_headers_limit(rest: Rest, shared_flo: FloProcess) -> None:
    key = b"k" * 32_000
    assert rest.ask("PUT", key_path(key), b"long").status == 200
    assert rest.ask("GET", key_path(key)).body == b"long"
    with Raw(shared_flo.port) as raw:
        raw.send(request("GET", key_path(b"k" * 33_000)))
        answer = raw.answer()
        assert (answer.status, answer.headers["connection"]) == (431, "close") and "over 32768 bytes" in answer.sentence
        assert raw.at_end()


def test_other_names_are_escaped_too(rest: Rest) -> None:
    stream, group, consumer = b"a/\x00", b"../\xff", b"c&d"
    path = f"/api/v1/streams/default/{escaped(stream)}"
    assert rest.ask("PUT", f"{path}/groups/{escaped(group)}").status == 204
    assert rest.ask("POST", f"{path}/records", b"r").status == 200
    read = rest.ask("POST", f"{path}/groups/{escaped(group)}/read?consumer={escaped(consumer)}").json["records"]
    assert [record["payload"] for record in read] == ["r"]
    pending = rest.ask("GET", f"{path}/groups/{escaped(group)}/pending").json["pending"]
    assert [one["consumer"] for one in pending] == ["c&d"]


def test_a_namespace_is_named_in_the_path(rest: Rest) -> None:
    answer = rest.ask("GET", "/api/v1/kv/nowhere/keys/k")
    assert (answer.status, "nowhere" in answer.sentence) == (400, True)
    assert rest.ask("PUT", "/api/v1/namespaces/else.where").status == 204
    assert rest.ask("PUT", "/api/v1/kv/else.where/keys/k", b"v").status == 200
    assert rest.ask("GET", "/api/v1/kv/else%2ewhere/keys/k").body == b"v"
    assert rest.ask("GET", "/api/v1/kv/default/keys/k").status == 404
