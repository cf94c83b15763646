"""The clients that programs use: requests, httpx and Node's fetch do one round each. One that is not installed is SKIPPED."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.node import run_node
from tests.support.processes import ROOT, FloProcess

pytestmark = pytest.mark.slow

WRK_SECONDS = 60


@pytest.mark.parametrize("name", ["requests", "httpx"])
def test_a_round_of_a_python_client(shared_flo: FloProcess, name: str) -> None:
    """Both have the same words for all of this, but for the argument with a raw body."""
    library = pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")
    base = f"http://127.0.0.1:{shared_flo.port}/api/v1"
    raw = "data" if name == "requests" else "content"
    with (library.Session if name == "requests" else library.Client)() as client:
        key = f"{base}/kv/default/keys/{name}%2F%C3%BC%00"
        put = client.put(key, **{raw: b"value"}, params={"ttl": 100})
        assert (put.status_code, put.headers["ETag"]) == (200, f'"{put.json()["version"]}"')
        tag = put.headers["ETag"]
        assert client.get(key).content == b"value"
        assert client.get(key, headers={"If-None-Match": tag}).status_code == 304
        part = client.get(key, headers={"Range": "bytes=1-2"})
        assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"al", "bytes 1-2/5")
        assert client.put(key, **{raw: b"never"}, headers={"If-Match": '"999999"'}).status_code == 412
        head = client.head(key)
        assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "5", b"")
        streamed = client.put(key, **{raw: iter([b"in ", b"chunks"])})
        assert streamed.status_code == 200 and client.get(key).content == b"in chunks"
        scan = client.get(f"{base}/kv/default/keys", params={"prefix": f"{name}/", "limit": 5, "keys_only": True}).json()
        assert scan == {"has_more": False, "cursor": "", "items": [{"key": f"{name}/ü\0", "value": ""}]}
        assert client.put(f"{base}/kv/default/keys/-", params={"name64": "Lg"}, **{raw: b"dot"}).status_code == 200
        items = client.post(f"{base}/kv/default/mget", json={"keys": [".", {"base64": "Lg=="}]}).json()["items"]
        assert [item["value"] for item in items] == ["dot", "dot"]
        enqueue = {raw: b"work", "headers": {"Idempotency-Key": "one"}}
        assert len({client.post(f"{base}/queues/default/{name}/messages", **enqueue).json()["seq"] for _ in range(2)}) == 1
        (message,) = client.post(f"{base}/queues/default/{name}/dequeue", params={"block": 1000}).json()["messages"]
        receipts = [{"seq": message["seq"], "attempt": message["attempts"]}]
        assert client.post(f"{base}/queues/default/{name}/ack", json={"receipts": receipts}).json() == {"acked": 1}
        refused = client.post(f"{base}/queues/default/{name}/ack", json={"receipts": 1})
        assert (refused.status_code, refused.headers["Content-Type"]) == (400, "application/problem+json")
        assert refused.json()["detail"].startswith("receipts is no list")
        assert client.options(key).headers["Allow"] == "HEAD, DELETE, GET, OPTIONS, PUT"
        assert client.delete(key).status_code == 200 and client.get(key).status_code == 404


def test_a_round_of_fetch(shared_flo: FloProcess) -> None:
    node = shutil.which("node")
    if node is not None and subprocess.run([node, "-e", "fetch"], capture_output=True).returncode:
        pytest.skip("this node has no fetch: version 18 or later is needed")
    seen = run_node(ROOT / "tests" / "node" / "rest.mjs", shared_flo.port)
    tag = seen["put"]["etag"]
    assert tag == f'"{seen["put"]["body"]["version"]}"'
    assert seen["get"] == {"status": 200, "etag": tag, "body": "value"}
    assert seen["same"] == {"status": 304, "etag": tag, "body": ""}
    assert seen["part"] == {"status": 206, "etag": tag, "body": "al"}
    assert seen["late"]["status"] == 412 and seen["late"]["etag"] == tag and seen["late"]["body"]["title"] == "Precondition Failed"
    assert seen["head"] == {"status": 200, "etag": tag, "body": ""}
    assert [item["value"] for item in seen["mget"]["body"]["items"]] == ["value", "up"]
    (message,) = seen["dequeue"]["body"]["messages"]
    assert message["payload"] == {"base64": "/w=="} and message["seq"] == seen["enqueue"]["body"]["seq"]
    assert seen["ack"]["body"] == {"acked": 1}
    assert (seen["refused"]["status"], seen["refused"]["body"]["status"]) == (400, 400)
    assert seen["many"] is True and seen["del"]["status"] == 200 and seen["gone"]["status"] == 404


def test_wrk(shared_flo: FloProcess, tmp_path: Path) -> None:
    """Ten connections that send one request after the other: every answer is right for it."""
    wrk = shutil.which("wrk")
    if wrk is None:
        pytest.skip("wrk is not installed: apt-get install wrk")
    script = tmp_path / "put.lua"
    script.write_text('request = function() return wrk.format("PUT", nil, nil, "value") end')
    url = f"http://127.0.0.1:{shared_flo.port}/api/v1/kv/default/keys/wrk"
    for flags in (["-s", str(script)], []):
        done = subprocess.run([wrk, "-t1", "-c10", "-d1s", *flags, url], capture_output=True, text=True, timeout=WRK_SECONDS, check=True)
        assert "Requests/sec" in done.stdout and "Non-2xx" not in done.stdout and "Socket errors" not in done.stdout, done.stdout
