"""JSON in requests and answers: each kind of mistake is refused with a sentence that says where it is, and bytes stay what they are."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.processes import FloProcess
from tests.support.rest import Rest, key_path

ACK = "/api/v1/queues/default/q/ack"
KEYS = "/api/v1/kv/default/keys"
MGET = "/api/v1/kv/default/mget"
PAUSE = "/api/v1/queues/default/q/pause"
GROUP_ACK = "/api/v1/streams/default/s/groups/g/ack"


@pytest.fixture
def rest(shared_flo: FloProcess) -> Iterator[Rest]:
    with Rest(shared_flo.port) as client:
        yield client


RECEIPTS = 'queue_ack takes an object such as {"receipts": [{"seq": 1, "attempt": 1}]}'
BASE64 = 'it is a string, or {"base64": "…"} for other bytes'


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        (ACK, "{", f"the body is no JSON; {RECEIPTS}"),
        (ACK, "", f"the body is no JSON; {RECEIPTS}"),
        (ACK, "\ufeff{}x", f"the body is no JSON; {RECEIPTS}"),
        pytest.param(ACK, "[" * 100_000, f"the body is no JSON; {RECEIPTS}", id="deep"),
        (ACK, "[]", f"the body is no JSON object; {RECEIPTS.replace('an object', 'one')}"),
        (ACK, "null", f"the body is no JSON object; {RECEIPTS.replace('an object', 'one')}"),
        (ACK, "{}", f"receipts is missing; {RECEIPTS}"),
        (ACK, '{"receipts": null}', f"receipts is no list; {RECEIPTS}"),
        (ACK, '{"receipts": {"seq": 1}}', f"receipts is no list; {RECEIPTS}"),
        (ACK, '{"receipts": [], "more": 1}', "the body has 'more', which queue_ack does not take; it takes receipts"),
        (ACK, '{"receipts": [1]}', "receipts[0] is no object with seq, attempt"),
        (ACK, '{"receipts": [{"seq": 1}, {"sek": 1}]}', "receipts[1] has 'sek'; it takes seq, attempt"),
        (ACK, '{"receipts": [{"seq": "1"}]}', "receipts[0].seq is no whole number"),
        (ACK, '{"receipts": [{"seq": null}]}', "receipts[0].seq is no whole number"),
        (ACK, '{"receipts": [{"seq": true}]}', "receipts[0].seq is no whole number"),
        (ACK, '{"receipts": [{"seq": 1.5}]}', "receipts[0].seq is no whole number"),
        (ACK, '{"receipts": [{"seq": NaN}]}', "receipts[0].seq is no whole number"),
        (ACK, '{"receipts": [{"seq": 9007199254740994.0}]}', "receipts[0].seq is no whole number"),
        (ACK, '{"receipts": [{"seq": -1}]}', "receipts[0].seq is -1; it is 0 to 18446744073709551615"),
        (
            ACK,
            '{"receipts": [{"seq": 18446744073709551616}]}',
            "receipts[0].seq is 18446744073709551616; it is 0 to 18446744073709551615",
        ),
        (ACK, '{"receipts": [{"attempt": 4294967296}]}', "receipts[0].attempt is 4294967296; it is 0 to 4294967295"),
        pytest.param(
            ACK, json.dumps({"receipts": [{}] * 10_001}), "receipts has 10001 items; at most 10000 are allowed in one request", id="items"
        ),
        pytest.param(
            KEYS, "[" + "{}," * (1 << 20), "the body has 1048577 opening braces and brackets; at most 1048576 are allowed", id="wide"
        ),
        (PAUSE, "{}", "paused is missing; it is true or false"),
        (PAUSE, '{"paused": 1}', "paused is no boolean; it is true or false"),
        (PAUSE, '{"paused": null}', "paused is no boolean; it is true or false"),
        (KEYS, '{"items": [{"value": "v"}]}', f"items[0].key is missing; {BASE64}"),
        (KEYS, '{"items": [{"key": "k", "value": 5}]}', f"items[0].value is no text; {BASE64}"),
        (KEYS, '{"items": [{"key": "k", "value": null}]}', f"items[0].value is no text; {BASE64}"),
        (KEYS, '{"items": [{"key": "k", "value": {"base64": 1}}]}', f"items[0].value is no text; {BASE64}"),
        (KEYS, '{"items": [{"key": "k", "value": {"base64": "", "x": 1}}]}', f"items[0].value is no text; {BASE64}"),
        (KEYS, '{"items": [{"key": "k", "value": {"base64": "a-_="}}]}', "items[0].value is no base64"),
        (KEYS, '{"items": [{"key": "k", "value": {"base64": "YQ"}}]}', "items[0].value is no base64"),
        (KEYS, '{"items": [{"key": "\\ud800", "value": ""}]}', "items[0].key has a lone surrogate, which UTF-8 cannot hold"),
        (KEYS, '{"items": [{"key": "k", "value": "", "ttl": null}]}', "items[0].ttl is no whole number"),
        (MGET, '{"keys": ["a", 7]}', f"keys[1] is no text; {BASE64}"),
        pytest.param(MGET, json.dumps({"keys": ["k" * 65_536]}), "keys[0] has 65536 bytes; at most 65535 are allowed", id="key"),
        (GROUP_ACK, '{"ids": [5]}', 'ids[0] is no text; the id of a record is text such as "1700000000000-0"'),
        (GROUP_ACK, '{"ids": ["x-1"]}', "ids[0]: 'x-1' is not an id of a stream; give it as ms-seq, such as 1700000000000-0"),
        (
            GROUP_ACK,
            '{"ids": ["18446744073709551616-0"]}',
            "ids[0]: the id is 18446744073709551616; give a number from 0 to 18446744073709551615",
        ),
    ],
)
def test_a_mistake_in_a_body_is_named(rest: Rest, path: str, body: str, sentence: str) -> None:
    answer = rest.ask("POST", path, body.encode(), content_type="application/json")
    assert (answer.status, answer.sentence) == (400, sentence)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("?limit=x", "limit is 'x'; it is a whole number"),
        ("?limit=", "limit is ''; it is a whole number"),
        ("?limit=%2B5", "limit is '+5'; it is a whole number"),
        ("?limit=-1", "limit is '-1'; it is a whole number"),
        ("?limit=0", "the option limit is 0; kv_scan takes 1 to 1000"),
        ("?limit=5&limit=5", "the parameter 'limit' is given 2 times; give it once"),
        ("?keys_only=yes", "keys_only is 'yes'; it is true or false"),
        ("?cursor=%C3%BC", "cursor is no base64url"),
        ("?cursor=a*", "cursor is no base64url"),
        ("?cursor=YQ", "the option cursor is no cursor of kv_scan; send the cursor of the answer before, unchanged"),
        ("?limits=5", "kv_scan does not take the parameter 'limits'; it takes limit, cursor, keys_only, pattern, clip"),
        ("?%FF=5", "kv_scan does not take the parameter 'ÿ'; it takes limit, cursor, keys_only, pattern, clip"),
        ("?prefix=%zz", "the escape '%zz' is not % and two hexadecimal digits; write the character % as %25"),
        ("/k?block=0", "block is 0; over HTTP it is 1 to 60000 ms"),
        ("/k?wait=60001", "wait is 60001; over HTTP it is 1 to 60000 ms"),
        ("/k?wait=1&block=1", "kv_get takes wait or block, not both"),
        ("/k?name64=YQ", "name64 is for a path that has - in the place of the last name"),
        ("/-?name64=Y!Q", "name64 is no base64url"),
        ("/-?name64=YQ%0A", "name64 is no base64url"),
    ],
)
def test_a_mistake_in_a_query_is_named(rest: Rest, path: str, sentence: str) -> None:
    answer = rest.ask("GET", KEYS + path)
    assert (answer.status, answer.sentence) == (400, sentence)


def test_a_whole_number_may_be_written_as_a_float(rest: Rest) -> None:
    answer = rest.ask("POST", ACK, b'{"receipts": [{"seq": 5.0, "attempt": 1e0}]}', content_type="application/json")
    assert (answer.status, answer.json) == (200, {"acked": 0})


@pytest.mark.parametrize("media", ["application/json", "application/json; charset=utf-8", "application/vnd.x+json", "APPLICATION/JSON"])
def test_a_json_body_says_that_it_is_json(rest: Rest, media: str) -> None:
    assert rest.ask("POST", PAUSE, b'{"paused": false}', content_type=media).status == 204
    for other in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=json"):
        answer = rest.ask("POST", PAUSE, b'{"paused": true}', content_type=other)
        assert (answer.status, answer.sentence) == (415, "queue_pause takes a body of the type application/json")
    assert rest.ask("POST", PAUSE, b'{"paused": true}').status == 415
    assert rest.ask("GET", "/api/v1/queues/default/q").json["paused"] == 0


@pytest.mark.parametrize("value", [b"plain", "häß \u0000 \u2028".encode(), b"\xff\xfe\x00", b"", b"\xed\xa0\x80", b'{"base64": "YQ=="}'])
def test_bytes_stay_what_they_are(rest: Rest, value: bytes) -> None:
    """As a raw body and in JSON, in both directions."""
    assert rest.ask("PUT", key_path(b"bytes"), value).status == 200
    raw = rest.ask("GET", key_path(b"bytes"))
    assert raw.body == value and raw.headers["content-type"] == "application/octet-stream"
    shown = rest.send_json("POST", MGET, {"keys": ["bytes"]}).json["items"][0]["value"]
    try:
        assert shown == value.decode()
    except UnicodeDecodeError:
        assert set(shown) == {"base64"}
    assert rest.send_json("POST", KEYS, {"items": [{"key": "copy", "value": shown}]}).status == 200
    assert rest.ask("GET", key_path(b"copy")).body == value


def test_a_page_leads_to_the_next(rest: Rest) -> None:
    """For names of which the cursors have every character of base64, as they stand in the answer."""
    names = [bytes([first, 0xFB, second]) for first in (0x3E, 0x3F, 0xFB, 0xFF) for second in (0xEF, 0xFF)]
    for name in names:
        assert rest.ask("PUT", key_path(b"page:" + name), b"v").status == 200
        assert rest.ask("POST", f"/api/v1/queues/default/{'%'.join(['', *(f'{byte:02x}' for byte in name)])}/messages", b"m").status == 200
    for path, items, wanted in ((f"{KEYS}?prefix=page:&limit=1", "items", len(names)), ("/api/v1/queues/default?limit=1", "queues", None)):
        seen: list[Any] = []
        cursor = ""
        while True:
            answer = rest.ask("GET", f"{path}&cursor={cursor}").json
            seen += [json.dumps(item.get("key", item.get("name"))) for item in answer[items]]
            cursor = answer["cursor"]
            if not cursor:
                break
        assert len(set(seen)) == len(seen) and len(seen) >= len(names)
        assert wanted is None or len(seen) == wanted


def test_records_with_fields_are_shown_as_fields(rest: Rest, shared_flo: FloProcess) -> None:
    with shared_flo.connect() as client:
        client.command("XADD", "fields", "1-1", "a", "1", b"\xff", "")
    assert rest.ask("POST", "/api/v1/streams/default/fields/records", b"bytes").status == 200
    fields, plain = rest.ask("GET", "/api/v1/streams/default/fields/records").json["records"]
    assert fields == {"id": "1-1", "fields": [["a", "1"], [{"base64": "/w=="}, ""]]}
    assert plain["payload"] == "bytes" and "fields" not in plain


@pytest.mark.parametrize("size", [10, 300_000, 600_000, 2_000_001])
@pytest.mark.parametrize("unit", [b"x", b'"\n', b"\xff\x00", "é😀".encode()], ids=["plain", "escapes", "bytes", "unicode"])
def test_a_large_list_is_made_in_slices_and_is_the_same(rest: Rest, shared_flo: FloProcess, unit: bytes, size: int) -> None:
    value = unit * (size // len(unit))
    with shared_flo.connect() as client:
        for key in ("large:1", "large:2"):
            client.command("SET", key, value)
        client.command("XADD", "large", "*", "field", value)
        client.command("QENQUEUE", "large", value)
    shown = bytes_shown(value)
    items = rest.ask("GET", "/api/v1/kv/default/keys?prefix=large:").json["items"]
    assert items == [{"key": "large:1", "value": shown}, {"key": "large:2", "value": shown}]
    found, missing = rest.send_json("POST", "/api/v1/kv/default/mget", {"keys": ["large:1", "no"]}).json["items"]
    assert found["value"] == shown and not missing["found"]
    (record,) = rest.ask("GET", "/api/v1/streams/default/large/records").json["records"]
    assert record["fields"] == [["field", shown]]
    (message,) = rest.ask("POST", "/api/v1/queues/default/large/dequeue?block=1000").json["messages"]
    assert message["payload"] == shown
    assert rest.ask("DELETE", "/api/v1/streams/default/large").status == 204
    assert rest.ask("DELETE", "/api/v1/queues/default/large").status == 204


def bytes_shown(value: bytes) -> str | dict[str, str]:
    """Bytes as they are in JSON."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}
