"""The server as docs/wire-protocol.md describes it, seen by the client that was written from that page alone.

What the page left open when the client was written from it has been settled since, in the page or in the server; these tests hold both.
"""

import base64
import itertools
import json
import os
import random
import re
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support import wire_client as wire
from tests.support.processes import ROOT, FloProcess, wait_until
from tests.support.wire_client import Call, Client, Op, Opt, Status, WireError

pytestmark = [pytest.mark.slow, pytest.mark.computes]

PAGE = (ROOT / "docs" / "wire-protocol.md").read_text()
SECRET = b"correct horse battery staple"
MIB = 1024 * 1024

Refused = Callable[..., WireError]


class Watch(threading.Thread):
    """A connection on which some bytes are sent, and nothing more: what comes, and when it ends."""

    def __init__(self, port: int, data: bytes) -> None:
        super().__init__(daemon=True)
        self.sock = socket.create_connection(("127.0.0.1", port), 25)
        self.sock.sendall(data)
        self.began = time.monotonic()
        self.received = b""
        self.seconds = 0.0
        self.start()

    def run(self) -> None:
        """Wait for the end."""
        with self.sock:
            try:
                while data := self.sock.recv(65536):
                    self.received += data
            except ConnectionResetError:
                pass
            except TimeoutError:
                return
        self.seconds = time.monotonic() - self.began


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    """A server with a secret."""
    directory = tmp_path_factory.mktemp("guarded")
    path = directory / "secret"
    path.touch(0o600)
    path.write_bytes(SECRET)
    with FloProcess(directory / "data", "--secret-file", str(path)) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def watches(shared_flo: FloProcess, guarded: FloProcess) -> dict[str, Watch]:
    """The connections that are to be closed for slowness: begun before the other tests, looked at after them."""
    whole = wire.request(wire.ping(), 1)
    return {
        "header": Watch(shared_flo.port, whole[:20]),
        "second header": Watch(shared_flo.port, whole + whole[:1]),
        "secret": Watch(guarded.port, whole),
        "no bytes": Watch(guarded.port, b""),
    }


@pytest.fixture(scope="module")
def idle(shared_flo: FloProcess, watches: dict[str, Watch]) -> Iterator[Client]:
    """A connection with nothing under way, as old as the watched ones."""
    with Client(shared_flo.port) as client:
        client.run(wire.ping())
        yield client


@pytest.fixture(autouse=True)
def healthy(shared_flo: FloProcess, guarded: FloProcess, idle: Client) -> Iterator[None]:
    """No test may end a server."""
    yield
    assert shared_flo.alive()
    assert guarded.alive()


numbers = itertools.count()


@pytest.fixture
def client(shared_flo: FloProcess) -> Iterator[Client]:
    """A connection, whose calls are in a new namespace."""
    name = f"test-{next(numbers)}"
    with Client(shared_flo.port, namespace=name) as client:
        client.run(wire.namespace_create(name))
        yield client


@pytest.fixture
def other(shared_flo: FloProcess, client: Client) -> Iterator[Client]:
    """A second connection to the same namespace."""
    with Client(shared_flo.port, namespace=client.namespace) as second:
        yield second


@pytest.fixture
def refused(client: Client) -> Refused:
    """Do a call that must be refused with a status, and leave the connection as it was."""

    def refused(status: Status, call: Call[Any], version: int = 0, **arguments: Any) -> WireError:
        with pytest.raises(WireError) as caught:
            client.run(call, **arguments)
        error = caught.value
        assert (error.status, error.version) == (status, version), error
        assert error.message.strip()
        assert client.run(wire.ping(b"still here")) == b"still here"
        return error

    return refused


def raw(client: Client, header: tuple[Any, ...], payload: bytes = b"") -> wire.Response:
    """Send a header field by field, and a payload; the response."""
    client.send(wire.REQUEST.pack(*header) + payload)
    return client.response(header[3])


@cache
def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of the page."""
    lines = PAGE[PAGE.index(f"\n{heading}\n") :].split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@cache
def operations() -> dict[str, dict[str, str]]:
    """The rows of the tables of operations."""
    names = ["operation", "code", "key", "value", "options", "answer", "refused as"]
    rows = [dict(zip(names, cells, strict=True)) for cells in table("### System") + table("### Keys")]
    return {row["operation"].strip("`"): row for row in rows}


@cache
def its_options() -> list[list[str]]:
    """The rows of the table of options that the operations of this client take: it leaves the queues to others."""
    return [cells for cells in table("## Options") if set(cells[4].split(", ")) & set(operations())]


# The page


def test_the_tables_are_the_clients() -> None:
    assert {name.upper(): int(row["code"], 16) for name, row in operations().items()} == {op.name: op for op in Op}
    assert {cells[1].upper(): int(cells[0], 16) for cells in its_options()} == {kind.name: kind for kind in Opt}
    statuses = re.findall(r"^\| (\d) \| ([A-Z_]+) \|", PAGE, re.MULTILINE)
    assert {name: int(number) for number, name in statuses} == {status.name: status for status in Status}


def test_the_example(flo: FloProcess) -> None:
    block = re.search(r"## Example\n.*?```hex\n(.*?)\n(.*?)\n```", PAGE, re.DOTALL)
    assert block
    sent, answered = (bytes.fromhex(line) for line in block.groups())
    assert wire.request(wire.kv_put(b"hello", b"world"), 7) == sent
    with socket.create_connection(("127.0.0.1", flo.port), 10) as sock, sock.makefile("rb") as file:
        sock.sendall(sent)
        assert file.read(len(answered)) == answered
        sock.shutdown(socket.SHUT_WR)
        assert file.read() == b""
    with Client(flo.port) as client:
        assert client.start(wire.kv_put(b"other", b"world"), req_id=7) == 7
        assert client.response(7) == (7, Status.OK, False, struct.pack("<Q", 2))


def test_the_example_with_ttl(client: Client) -> None:
    tail = bytes.fromhex(str(re.findall(r"payload ends in `(.*?)`", PAGE.replace("\n", " "))[0]))
    call = wire.kv_put(b"hello", b"world", ttl=60)
    data = wire.request(call, 7)
    assert data[16:20] == struct.pack("<I", 21)
    assert data[30:32] == bytes.fromhex("0B 00")
    assert data.endswith(b"helloworld" + tail)
    client.run(call)
    assert client.run(wire.namespace_info(client.namespace or ""))["keys_with_deadline"] == 1


def test_the_hashes() -> None:
    assert wire.namespace_hash("x") == 0xAF63F54C86021707
    assert wire.namespace_hash("default") == 0xEBADA5168620C5FE
    assert wire.namespace_hash(None) == 0


# System


def test_ping(client: Client) -> None:
    for value in (b"", b"\0", bytes(range(256)), os.urandom(100_000)):
        assert client.run(wire.ping(value)) == value
    assert client.run(wire.ping(b"any namespace"), namespace="no-such") == b"any namespace"


def test_ping_takes_a_value_up_to_16_mib(client: Client, refused: Refused) -> None:
    value = bytes(wire.MAX_VALUE)
    assert client.run(wire.ping(value)) == value
    refused(Status.BAD_REQUEST, wire.ping(value + b"x"))


def test_auth_where_there_is_no_secret(refused: Refused) -> None:

    refused(Status.BAD_REQUEST, wire.auth(b"secret"))


def test_cluster_status(client: Client, shared_flo: FloProcess) -> None:
    status = client.run(wire.cluster_status(), namespace="no-such")
    assert status["mode"] == "standalone"
    assert status["pid"] == shared_flo.pid
    assert status["address"] == f"127.0.0.1:{shared_flo.port}"
    assert Path(status["data_dir"]) == shared_flo.directory
    assert status["loading"] is False
    assert status["accepts_writes"] is True
    assert status["durability"] == "sync"
    assert status["connections"] >= 2
    numbers = [
        "uptime_seconds",
        "connections",
        "waiting",
        "requests",
        "refused",
        "namespaces",
        "keys",
        "bytes",
        "resident_bytes",
        "max_memory",
    ]
    assert all(isinstance(status[name], int) and status[name] >= 0 for name in numbers)
    assert all(isinstance(status[name], str) for name in ("version", "python"))
    assert {"last_index", "durable_index", "segments", "batches", "bytes_written", "syncs"} <= set(status["log"])
    client.run(wire.kv_put(b"one", b"more"))
    with pytest.raises(WireError):
        client.run(wire.kv_get(b"none"))
    after = client.run(wire.cluster_status())
    assert after["requests"] > status["requests"]
    assert after["keys"] >= 1
    assert after["log"]["last_index"] > status["log"]["last_index"]


def numbers_in(value: Any) -> list[Any]:
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        return [number for each in value.values() for number in numbers_in(each)]
    if isinstance(value, list):
        return [number for each in value for number in numbers_in(each)]
    return [] if isinstance(value, str) else [value]


def test_server_stats(client: Client) -> None:
    before = client.run(wire.server_stats(), namespace="no-such")
    assert all(number >= 0 for number in numbers_in(before))
    listed = PAGE[PAGE.index("`server_stats`: ") :].partition("`server_view`: ")[0]
    assert set(before) == set(re.findall(r"^- `(\w+)`", listed, re.MULTILINE)), "the page lists its fields"
    assert abs(before["time"] - time.time() * 1000) < 60_000
    for number in range(3):
        client.run(wire.kv_put(b"k", b"%d" % number))
    with pytest.raises(WireError):
        client.run(wire.kv_put(b"k", b"v", if_absent=True))
    after = client.run(wire.server_stats())

    def puts(stats: Any, field: str) -> int:
        found = [each[field] for each in stats["commands"] if (each["command"], each["protocol"]) == ("kv_put", "binary")]
        return sum(int(each) for each in found)

    assert puts(after, "calls") == puts(before, "calls") + 4
    assert puts(after, "failed") == puts(before, "failed") + 1
    assert after["requests"] >= before["requests"] + 5
    assert after["waits"]["count"] >= before["waits"]["count"] + 4
    assert [count for _, count in after["waits"]["under"]] == sorted(count for _, count in after["waits"]["under"])
    assert after["waits"]["under"][-1] == [2**25, after["waits"]["count"]]
    assert after["log"]["durable_index"] >= before["log"]["durable_index"] + 3
    assert after["clients"]["connected"] >= 2
    assert after["counts"]["keys"] >= 1


def test_those_who_wait_get_the_same_stats_once_a_second(client: Client, other: Client) -> None:
    began = time.monotonic()
    client.run(wire.server_stats(block=0))
    ids = [client.start(wire.server_stats(block=30_000)) for _ in range(2)]
    theirs = other.start(wire.server_stats(block=0))
    assert client.run(wire.ping(b"it holds up nothing")) == b"it holds up nothing"
    answers = [client.response(each).payload for each in ids] + [other.response(theirs).payload]
    assert answers[0] == answers[1] == answers[2]
    assert time.monotonic() - began > 0.9, "at most one a second"
    last = json.loads(answers[0])["time"]
    assert json.loads(client.respond(wire.server_stats(block=1)).payload)["time"] >= last, "the last one, where the time is up"


def test_the_largest_queues_and_streams(flo: FloProcess) -> None:
    with flo.connect() as plain, Client(flo.port) as client:
        plain.pipeline(*(("LPUSH", f"q{number:03}", *["x"] * (number % 50 + 1)) for number in range(120)))
        plain.command("XADD", b"s\xff", "*", "a", "1")
        assert client.run(wire.server_stats())["counts"]["queues"] == 120
        largest = client.run(wire.server_stats(block=0))["largest"]
        assert [each["messages"] for each in largest["queue"]] == [50, 50, 49, 49, 48, 48, 47, 47, 46, 46]
        assert largest["queue"][0] == {
            "namespace": "default", "name": "q049", "messages": 50, "ready_messages": 50, "delayed_messages": 0,
            "leased_messages": 0, "dead_messages": 0,
        }  # fmt: skip
        assert [(each["name"], each["records"]) for each in largest["stream"]] == [({"base64": "c/8="}, 1)]


def pages(client: Client, view: bytes, limit: int) -> list[Any]:
    """All rows of a view, page by page."""
    rows: list[Any] = []
    cursor = b""
    while True:
        answer = client.run(wire.server_view(view, limit=limit, cursor=cursor))
        assert set(answer) == {view.decode(), "cursor"}
        rows += answer[view.decode()]
        if not answer["cursor"]:
            return rows
        assert len(answer[view.decode()]) == limit
        cursor = base64.b64decode(answer["cursor"], validate=True)


def test_the_view_of_clients(client: Client, other: Client) -> None:
    other.run(wire.kv_put(b"k", b"v"))
    rows = pages(client, b"clients", 1)
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})
    host, port = other.sock.getsockname()
    found = next(row for row in rows if row["address"] == f"{host}:{port}")
    assert (found["protocol"], found["last_command"], found["name"]) == ("binary", "kv_put", "")


def test_the_views_of_slow_requests_and_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_bytes(SECRET)
    environment = {"FLO_RESP_SLOWLOG_SLOWER_THAN": "0"}
    with (
        FloProcess(tmp_path / "data", "--secret-file", str(path), environment=environment) as flo,
        Client(flo.port, secret=SECRET) as client,
    ):
        with flo.connect() as plain:
            plain.command("AUTH", "a wrong one")
            plain.command("AUTH", SECRET)
            plain.command("SET", b"k\xff", "v")
        slow = pages(client, b"slow", 2)
        assert [row["id"] for row in slow] == sorted((row["id"] for row in slow), reverse=True), "newest first"
        assert ["SET", {"base64": "a/8="}, "v"] in [row["words"] for row in slow]
        lines = pages(client, b"log", 1)
        assert [line["number"] for line in lines] == sorted((line["number"] for line in lines), reverse=True)
        assert any("secret" in line["message"] and line["level"] == "warning" for line in lines), lines
        settings = pages(client, b"settings", 7)
        assert {"name": "server.bind", "value": "127.0.0.1", "default": "127.0.0.1", "live": False}.items() <= next(
            row for row in settings if row["name"] == "server.bind"
        ).items()
        shown = json.dumps([slow, lines, settings, client.run(wire.server_stats())])
        assert SECRET.decode() not in shown and "a wrong one" not in shown and str(path) not in shown


def test_what_is_no_view(refused: Refused) -> None:
    refused(Status.BAD_REQUEST, wire.server_view(b"secrets"))
    refused(Status.BAD_REQUEST, wire.server_view(b"\xff"))
    for cursor in (b"log:1", b"clients:", b"clients:x", b"clients:" + b"9" * 30):
        refused(Status.BAD_REQUEST, wire.server_view(b"clients", cursor=cursor))


def test_cluster_status_counts_waiting_requests(client: Client) -> None:
    before = client.run(wire.cluster_status())["waiting"]
    client.start(wire.kv_get(b"never", wait=0))
    assert client.run(wire.cluster_status())["waiting"] == before + 1


def test_cluster_partition_table(client: Client, shared_flo: FloProcess) -> None:
    address = f"127.0.0.1:{shared_flo.port}"
    assert client.run(wire.cluster_partition_table())["partitions"] == [{"id": 0, "leader": address, "replicas": [address]}]


@pytest.mark.parametrize("call", [wire.cluster_join(b"host:1"), wire.cluster_leave(), wire.cluster_join(), wire.cluster_leave(b"x")])
def test_the_cluster_cannot_be_changed(refused: Refused, call: Call[Any]) -> None:
    refused(Status.BAD_REQUEST, call)


# Namespaces


def test_namespaces_are_isolated(client: Client) -> None:
    client.run(wire.namespace_create("isolated.a:1"))
    client.run(wire.namespace_create("isolated_B-2"))
    client.run(wire.kv_put(b"k", b"a"), namespace="isolated.a:1")
    with pytest.raises(WireError, match="NOT_FOUND"):
        client.run(wire.kv_get(b"k"), namespace="isolated_B-2")
    client.run(wire.kv_put(b"k", b"b"), namespace="isolated_B-2")
    assert client.run(wire.kv_get(b"k"), namespace="isolated.a:1").value == b"a"
    assert client.run(wire.kv_scan(), namespace="isolated_B-2").items == [(b"k", b"b")]


def test_namespace_list(client: Client) -> None:
    for name in ("list-b", "List-B", "list-a", "_list"):
        client.run(wire.namespace_create(name))
        client.run(wire.namespace_create(name))
    names = client.run(wire.namespace_list(), namespace="no-such")
    assert {b"default", b"list-a", b"list-b", b"List-B", b"_list"} <= set(names)
    assert names == sorted(set(names))


def test_namespace_info(client: Client) -> None:
    assert client.run(wire.namespace_info("default"))["hash"] == "0xebada5168620c5fe"
    client.run(wire.namespace_create("x"))
    client.run(wire.kv_put(b"k", b"v"), namespace="x")
    client.run(wire.kv_put(b"deadline", b"v", ttl=100), namespace="x")
    info = client.run(wire.namespace_info("x"))
    assert (info["name"], info["hash"], info["keys"], info["keys_with_deadline"]) == ("x", "0xaf63f54c86021707", 2, 1)
    assert info["bytes"] > 0


def test_default_by_its_own_hash(client: Client) -> None:
    client.run(wire.kv_put(b"default-test", b"v"), namespace="default")
    with Client(client.sock.getpeername()[1]) as plain:
        assert plain.run(wire.kv_get(b"default-test")).value == b"v"
    client.run(wire.kv_delete(b"default-test"), namespace="default")
    client.run(wire.namespace_create("default"))


@pytest.mark.parametrize("name", [b"a", b"A.z_0:9-", b"...", b"n" * 128])
def test_names_of_namespaces(client: Client, name: bytes) -> None:
    client.run(wire.namespace_create(name))
    client.run(wire.kv_put(b"k", b"v"), namespace=name.decode())
    client.run(wire.kv_delete(b"k"), namespace=name.decode())
    client.run(wire.namespace_delete(name))


@pytest.mark.parametrize("name", [b"", b".", b"..", b"n" * 129, b"a/b", b"a b", b"\0", "é".encode(), b"\xff", b"a\n", b"*", b"k" * 65535])
def test_what_names_no_namespace(refused: Refused, name: bytes) -> None:
    refused(Status.BAD_REQUEST, wire.namespace_create(name))


def test_a_name_with_anothers_hash_is_a_conflict(client: Client, refused: Refused) -> None:
    one, two = "8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ"
    assert wire.namespace_hash(one) == wire.namespace_hash(two)
    client.run(wire.namespace_create(one))
    refused(Status.CONFLICT, wire.namespace_create(two))
    client.run(wire.kv_put(b"k", b"v"), namespace=two)
    client.run(wire.kv_delete(b"k"), namespace=one)
    client.run(wire.namespace_delete(one))
    client.run(wire.namespace_create(two))
    client.run(wire.namespace_delete(two))


def test_a_namespace_must_be_empty_to_go(client: Client, refused: Refused) -> None:
    client.run(wire.namespace_create("to-go"))
    client.run(wire.kv_put(b"k", b"v"), namespace="to-go")
    refused(Status.CONFLICT, wire.namespace_delete("to-go"))
    refused(Status.CONFLICT, wire.namespace_delete("default"))
    client.run(wire.kv_delete(b"k"), namespace="to-go")
    client.run(wire.namespace_delete("to-go"))
    assert b"to-go" not in client.run(wire.namespace_list())
    refused(Status.BAD_REQUEST, wire.kv_get(b"k"), namespace="to-go")


def test_a_namespace_that_does_not_exist(client: Client, refused: Refused) -> None:
    for call in kv_calls().values():
        refused(Status.BAD_REQUEST, call, namespace="no-such")
    # NOT_FOUND ("the thing named is not there") would be as good.
    refused(Status.BAD_REQUEST, wire.namespace_info("no-such"))
    refused(Status.BAD_REQUEST, wire.namespace_delete("no-such"))
    assert b"no-such" not in client.run(wire.namespace_list())


# Authentication


def test_the_secret_is_owed(guarded: FloProcess) -> None:
    with Client(guarded.port) as client:
        assert client.run(wire.ping(b"x")) == b"x"
        calls = [call for call in every_call().values() if call.opcode not in (Op.PING, Op.AUTH)]
        assert {response.status for response in client.pipeline(calls)} == {Status.UNAUTHORIZED}
        assert client.respond(wire.kv_get(b"k"), namespace="no-such").status is Status.UNAUTHORIZED
        client.run(wire.auth(SECRET))
        client.run(wire.auth(SECRET))
        client.run(wire.kv_put(b"k", b"v"))
        assert client.run(wire.kv_get(b"k")).value == b"v"
    with Client(guarded.port, secret=SECRET) as client:
        assert client.run(wire.kv_get(b"k")).value == b"v"


def test_the_secret_can_be_sent_ahead(guarded: FloProcess) -> None:
    with Client(guarded.port) as client:
        responses = client.pipeline([wire.auth(SECRET), wire.kv_put(b"ahead", bytes(100_000)), wire.kv_get(b"ahead")])
        assert [response.status for response in responses] == [Status.OK] * 3


def test_a_wrong_secret_holds_up_what_is_behind_it(guarded: FloProcess) -> None:
    with Client(guarded.port) as client:
        began = time.monotonic()
        wrong = client.start(wire.auth(SECRET + b"x"))
        behind = client.start(wire.ping())
        assert client.response(wrong).status is Status.UNAUTHORIZED
        assert 0.9 < time.monotonic() - began < 5
        assert client.response(behind).status is Status.OK
        assert client.order == [wrong, behind]
        client.run(wire.auth(SECRET))


def test_a_payload_before_the_secret_is_bounded(guarded: FloProcess) -> None:
    with Client(guarded.port) as client:
        assert len(client.run(wire.ping(bytes(16_384)))) == 16_384
        response = client.respond(wire.ping(bytes(16_385)))
        assert response.status is Status.BAD_REQUEST
        assert client.at_end()
    with Client(guarded.port) as client:
        client.run(wire.auth(SECRET))
        assert len(client.run(wire.ping(bytes(16_385)))) == 16_385


def test_malformed_requests_before_the_secret(guarded: FloProcess) -> None:
    with Client(guarded.port) as client:
        assert client.respond(Call(Op.KV_GET, wire.read_found, b"k", options=b"\xff\0\0")).status is Status.UNAUTHORIZED


# Keys


def test_put_get_delete(client: Client, refused: Refused) -> None:
    refused(Status.NOT_FOUND, wire.kv_get(b"k"))
    assert not client.run(wire.kv_exists(b"k"))
    first = client.run(wire.kv_put(b"k", b"one"))
    assert client.run(wire.kv_get(b"k")) == (first, b"one")
    assert client.run(wire.kv_exists(b"k"))
    second = client.run(wire.kv_put(b"k", b""))
    assert client.run(wire.kv_get(b"k")) == (second, b"")
    third = client.run(wire.kv_put(b"another", b""))
    tombstone = client.run(wire.kv_delete(b"k"))
    assert first < second < third < tombstone
    refused(Status.NOT_FOUND, wire.kv_get(b"k"))
    refused(Status.NOT_FOUND, wire.kv_delete(b"k"))


@pytest.mark.parametrize("key", [b"", b"\0", b"\r\n", bytes(range(256)), b"k" * 65_535])
def test_a_key_is_any_bytes(client: Client, key: bytes) -> None:
    version = client.run(wire.kv_put(key, b"v"))
    assert client.run(wire.kv_get(key)) == (version, b"v")
    assert client.run(wire.kv_scan()).items == [(key, b"v")]
    assert client.run(wire.kv_mget([key])) == [(version, b"v")]
    assert client.run(wire.kv_exists(key))
    client.run(wire.kv_delete(key))


def test_a_value_is_at_most_16_mib(client: Client, refused: Refused) -> None:
    value = os.urandom(64) * (wire.MAX_VALUE // 64)
    version = client.run(wire.kv_put(b"k" * 65_535, value))
    assert client.run(wire.kv_get(b"k" * 65_535)) == (version, value)
    refused(Status.BAD_REQUEST, wire.kv_put(b"big", value + b"x"))
    refused(Status.BAD_REQUEST, wire.kv_cas(b"big", value + b"x", 0))
    assert not client.run(wire.kv_exists(b"big"))


def test_preconditions_of_put(client: Client, refused: Refused) -> None:
    refused(Status.CONFLICT, wire.kv_put(b"k", b"", if_present=True))
    refused(Status.CONFLICT, wire.kv_put(b"k", b"", cas_version=5))
    version = client.run(wire.kv_put(b"k", b"1", if_absent=True))
    refused(Status.CONFLICT, wire.kv_put(b"k", b"", if_absent=True), version)
    refused(Status.CONFLICT, wire.kv_put(b"k", b"", cas_version=0), version)
    refused(Status.CONFLICT, wire.kv_put(b"k", b"", cas_version=version + 1), version)
    refused(Status.BAD_REQUEST, wire.kv_put(b"k", b"", if_absent=True, if_present=True))
    assert client.run(wire.kv_get(b"k")) == (version, b"1")
    version = client.run(wire.kv_put(b"k", b"2", cas_version=version))
    version = client.run(wire.kv_put(b"k", b"3", if_present=True))
    assert client.run(wire.kv_get(b"k")) == (version, b"3")
    client.run(wire.kv_delete(b"k"))
    client.run(wire.kv_put(b"k", b"4", cas_version=0))


def test_cas(client: Client, refused: Refused) -> None:
    refused(Status.CONFLICT, wire.kv_cas(b"k", b"", 1))
    version = client.run(wire.kv_cas(b"k", b"1", 0))
    refused(Status.CONFLICT, wire.kv_cas(b"k", b"", 0), version)
    version = client.run(wire.kv_cas(b"k", b"2", version, ttl=100))
    assert client.run(wire.kv_get(b"k")) == (version, b"2")
    refused(Status.BAD_REQUEST, Call(Op.KV_CAS, wire.read_version, b"k", b"v"))


@pytest.mark.parametrize(
    "make", [wire.kv_delete, wire.kv_persist, lambda key, **options: wire.kv_touch(key, 5, **options), wire.kv_json_del]
)
def test_preconditions_of_the_others(client: Client, refused: Refused, make: Callable[..., Call[int]]) -> None:
    refused(Status.NOT_FOUND, make(b"k"))
    # a wrong version is told before a missing key.
    refused(Status.CONFLICT, make(b"k", cas_version=1))
    refused(Status.NOT_FOUND, make(b"k", cas_version=0))
    version = client.run(wire.kv_json_set(b"k", "{}"))
    refused(Status.CONFLICT, make(b"k", cas_version=0), version)
    refused(Status.CONFLICT, make(b"k", cas_version=version + 1), version)
    assert client.run(make(b"k", cas_version=version)) >= version


def test_incr(client: Client, refused: Refused) -> None:
    number = client.run(wire.kv_incr(b"n"))
    assert number.value == 1
    assert client.run(wire.kv_get(b"n")) == (number.version, b"1")
    assert client.run(wire.kv_incr(b"n", -43)).value == -42
    assert client.run(wire.kv_incr(b"n", 0)).value == -42
    assert client.run(wire.kv_incr(b"m", 2**63 - 1)).value == 2**63 - 1
    version = client.run(wire.kv_get(b"m")).version
    refused(Status.CONFLICT, wire.kv_incr(b"m"), version)
    assert client.run(wire.kv_get(b"m")) == (version, str(2**63 - 1).encode())
    assert client.run(wire.kv_incr(b"l", -(2**63))).value == -(2**63)
    refused(Status.CONFLICT, wire.kv_incr(b"l", -1), client.run(wire.kv_get(b"l")).version)


@pytest.mark.parametrize("text", [b"0", b"-1", b"41", b"9223372036854775806", b"-9223372036854775808"])
def test_a_string_that_is_a_number(client: Client, text: bytes) -> None:
    client.run(wire.kv_put(b"n", text))
    assert client.run(wire.kv_incr(b"n")).value == int(text) + 1
    assert client.run(wire.kv_get(b"n")).value == str(int(text) + 1).encode()


@pytest.mark.parametrize("text", [b"", b"x", b"+1", b"01", b"-0", b" 1", b"1 ", b"1.0", b"1_0", b"9223372036854775808", "１".encode()])
def test_a_string_that_is_no_number(client: Client, refused: Refused, text: bytes) -> None:
    refused(Status.CONFLICT, wire.kv_incr(b"n"), client.run(wire.kv_put(b"n", text)))
    assert client.run(wire.kv_get(b"n")).value == text


def test_kinds_of_values(client: Client, refused: Refused) -> None:
    number = client.run(wire.kv_incr(b"number", 5)).version
    string = client.run(wire.kv_put(b"string", b'{"a": 1}'))
    document = client.run(wire.kv_json_set(b"document", "5"))
    for key, version in ((b"number", number), (b"string", string)):
        refused(Status.CONFLICT, wire.kv_json_get(key), version)
        refused(Status.CONFLICT, wire.kv_json_set(key, "1"), version)
        refused(Status.CONFLICT, wire.kv_json_set(key, "1", "$.a"), version)
        refused(Status.CONFLICT, wire.kv_json_del(key), version)
    refused(Status.CONFLICT, wire.kv_incr(b"document"), document)
    assert client.run(wire.kv_mget([b"document", b"number"])) == [(document, b"5"), (number, b"5")]
    assert [value for _, value in client.run(wire.kv_scan()).items] == [b"5", b"5", b'{"a": 1}']
    client.run(wire.kv_put(b"document", b"a string now"))
    refused(Status.CONFLICT, wire.kv_json_get(b"document"), client.run(wire.kv_get(b"document")).version)


def test_history(client: Client) -> None:
    began = time.time() * 1000
    assert client.run(wire.kv_history(b"k")) == []
    versions = [client.run(wire.kv_put(b"k", b"1")), client.run(wire.kv_touch(b"k", 100)), client.run(wire.kv_delete(b"k"))]
    versions += [client.run(wire.kv_incr(b"k", 7)).version, client.run(wire.kv_put(b"k", b"2"))]
    history = client.run(wire.kv_history(b"k"))
    assert [past.version for past in history] == versions[::-1]
    assert [past.value for past in history] == [b"2", b"7", b"", b"1", b"1"]
    assert [past.tombstone for past in history] == [False, False, True, False, False]
    times = [past.time for past in history]
    assert times == sorted(times, reverse=True)
    assert began - 1000 < times[-1] <= times[0] < began + 30_000
    assert client.run(wire.kv_history(b"k", limit=2)) == history[:2]


def test_limits_of_history(client: Client, refused: Refused) -> None:
    client.pipeline([wire.kv_put(b"k", b"%d" % number) for number in range(20)])
    assert len(client.run(wire.kv_history(b"k"))) == 10
    assert [past.value for past in client.run(wire.kv_history(b"k", limit=1000))] == [b"%d" % number for number in range(19, -1, -1)]
    # a limit past the bound, and 0, are refused rather than taken for the nearest that is allowed.
    for limit in (0, 1001, 2**32 - 1):
        refused(Status.BAD_REQUEST, wire.kv_history(b"k", limit=limit))


def test_history_ends_near_16_mib(client: Client) -> None:
    for number in range(3):
        client.run(wire.kv_put(b"k", bytes([number]) * (9 * MIB)))
    assert [past.value[:1] for past in client.run(wire.kv_history(b"k", limit=1000))][:1] == [b"\2"]
    assert len(client.run(wire.kv_history(b"k", limit=1000))) <= 2


def test_mget(client: Client, refused: Refused) -> None:
    one, two = client.run(wire.kv_put(b"a", b"1")), client.run(wire.kv_put(b"b", b""))
    assert client.run(wire.kv_mget([b"b", b"none", b"a", b"b"])) == [(two, b""), None, (one, b"1"), (two, b"")]
    assert client.run(wire.kv_mget([])) == []
    assert client.run(wire.kv_mget([b"a"] * 256)) == [(one, b"1")] * 256
    refused(Status.BAD_REQUEST, wire.kv_mget([b"a"] * 257))
    long_keys = [bytes([number]) * 65_535 for number in range(256)]
    assert client.run(wire.kv_mget(long_keys)) == [None] * 256


def test_mget_answers_16_mib_of_values(client: Client, refused: Refused) -> None:
    client.run(wire.kv_put(b"a", bytes(8 * MIB)))
    client.run(wire.kv_put(b"b", b"x"))
    assert len(client.run(wire.kv_mget([b"a", b"a"]))) == 2
    refused(Status.BAD_REQUEST, wire.kv_mget([b"a", b"a", b"b"]))


# Batches


def test_batch_put(client: Client) -> None:
    assert client.run(wire.kv_batch_put([])) == []
    versions = client.run(wire.kv_batch_put([(b"a", b"1", 0), (b"b", b"2", 100), (b"", b"", 0), (b"a", b"3", 0)]))
    assert len(versions) == 4
    assert client.run(wire.kv_get(b"a")) == (versions[3], b"3")
    assert client.run(wire.kv_get(b"b")) == (versions[1], b"2")
    assert client.run(wire.kv_get(b"")) == (versions[2], b"")
    assert client.run(wire.namespace_info(client.namespace or ""))["keys_with_deadline"] == 1
    client.run(wire.kv_batch_put([(b"b", b"2", 0)]))
    assert client.run(wire.namespace_info(client.namespace or ""))["keys_with_deadline"] == 0


def test_batch_put_takes_10_000_keys(client: Client, refused: Refused) -> None:
    items = [(b"%05d" % number, b"v", 0) for number in range(10_001)]
    refused(Status.BAD_REQUEST, wire.kv_batch_put(items))
    assert client.run(wire.kv_scan()).items == []
    versions = client.run(wire.kv_batch_put(items[:10_000]))
    assert len(versions) == 10_000
    assert client.run(wire.kv_get(b"09999")) == (versions[9999], b"v")


def test_batch_put_is_all_or_nothing(client: Client, refused: Refused) -> None:
    refused(Status.BAD_REQUEST, wire.kv_batch_put([(b"a", b"1", 0), (b"b", bytes(wire.MAX_VALUE + 1), 0), (b"c", b"1", 0)]))
    whole = wire.kv_batch_put([(b"a", b"1", 0), (b"b", b"2", 0)])
    for value in [whole.value[:size] for size in range(len(whole.value))] + [whole.value + b"x"]:
        refused(Status.BAD_REQUEST, Call(Op.KV_BATCH_PUT, wire.read_versions, value=value))
    refused(Status.BAD_REQUEST, Call(Op.KV_BATCH_PUT, wire.read_versions, value=b"\xff" * 4 + whole.value[4:]))
    assert client.run(wire.kv_scan()).items == []


def test_a_list_of_keys_cut_at_every_byte(refused: Refused) -> None:
    whole = wire.kv_mget([b"a", b"bc"]).value
    for value in [whole[:size] for size in range(len(whole))] + [whole + b"\0", b"\xff\xff" + whole[2:]]:
        refused(Status.BAD_REQUEST, Call(Op.KV_MGET, wire.read_mget, value=value))


def test_a_payload_of_32_mib(client: Client) -> None:
    room = wire.MAX_PAYLOAD - 4 - 2 * (2 + 1 + 4 + 8) - wire.MAX_VALUE
    call = wire.kv_batch_put([(b"a", bytes(wire.MAX_VALUE), 0), (b"b", bytes(room), 0)])
    assert len(call.value) == wire.MAX_PAYLOAD
    assert len(client.run(call)) == 2
    assert len(client.run(wire.kv_get(b"b")).value) == room


# Scanning


def scan(client: Client, prefix: bytes, **options: Any) -> list[tuple[bytes, bytes]]:
    """Every page of a scan."""
    items: list[tuple[bytes, bytes]] = []
    page = client.run(wire.kv_scan(prefix, **options))
    while True:
        items += page.items
        if not page.has_more:
            return items
        page = client.run(wire.kv_scan(prefix, cursor=page.cursor, **options))


def test_scan(client: Client) -> None:
    keys = [b"a", b"a\0", b"aa", b"ab", b"b", b"\xff", b"\xff\xff", b""]
    client.run(wire.kv_batch_put([(key, b"v" + key, 0) for key in keys]))
    for prefix, limit in itertools.product([b"", b"a", b"a\0", b"\xff", b"none"], [None, 1, 2, 3, 1000]):
        found = scan(client, prefix, limit=limit)
        assert found == [(key, b"v" + key) for key in sorted(keys) if key.startswith(prefix)]
    assert scan(client, b"", keys_only=True) == [(key, b"") for key in sorted(keys)]
    assert client.run(wire.kv_scan(b"a", limit=3, keys_only=True)).items == [(b"a", b""), (b"a\0", b""), (b"aa", b"")]


def test_limits_of_scan(client: Client, refused: Refused) -> None:
    keys = [b"%04d" % number for number in range(1001)]
    client.run(wire.kv_batch_put([(key, b"", 0) for key in keys]))
    page = client.run(wire.kv_scan())
    assert (len(page.items), page.has_more) == (100, True)
    page = client.run(wire.kv_scan(limit=1000))
    assert (len(page.items), page.has_more) == (1000, True)
    assert client.run(wire.kv_scan(limit=1000, cursor=page.cursor)).items == [(b"1000", b"")]
    for limit in (0, 1001, 2**32 - 1):
        refused(Status.BAD_REQUEST, wire.kv_scan(limit=limit))
    assert [key for key, _ in scan(client, b"", limit=7)] == keys


def test_what_is_no_cursor(refused: Refused) -> None:
    refused(Status.BAD_REQUEST, wire.kv_scan(cursor=b"\0not a cursor"))
    refused(Status.BAD_REQUEST, wire.kv_scan(cursor=b"x" * 65_000))


def test_scan_ends_near_16_mib(client: Client) -> None:
    for key in (b"a", b"b", b"c"):
        client.run(wire.kv_put(key, key * (9 * MIB)))
    page = client.run(wire.kv_scan())
    assert page.has_more
    assert 1 <= len(page.items) <= 2
    assert [(key, len(value)) for key, value in scan(client, b"")] == [(b"a", 9 * MIB), (b"b", 9 * MIB), (b"c", 9 * MIB)]
    assert len(client.run(wire.kv_scan(keys_only=True)).items) == 3


def test_a_cursor_survives_a_restart(flo: FloProcess) -> None:
    with Client(flo.port) as client:
        client.run(wire.kv_batch_put([(b"%d" % number, b"v", 0) for number in range(10)]))
        page = client.run(wire.kv_scan(limit=3))
    with Client(flo.port) as client:
        assert client.run(wire.kv_scan(limit=1, cursor=page.cursor)).items == [(b"3", b"v")]
    flo.stop(signal.SIGTERM)
    flo.start()
    with Client(flo.port) as client:
        assert scan(client, b"", cursor=None)[3:] == client.run(wire.kv_scan(cursor=page.cursor)).items
        with pytest.raises(WireError):
            client.run(wire.kv_get(b"x", wait=1))


# Deadlines


@pytest.mark.slow
def test_expiry(client: Client, refused: Refused) -> None:
    name = client.namespace or ""
    first = client.run(wire.kv_put(b"put", b"v", ttl=1))
    client.run(wire.kv_cas(b"cas", b"v", 0, ttl=1))
    client.run(wire.kv_batch_put([(b"batch", b"v", 1)]))
    client.run(wire.kv_put(b"touch", b"v"))
    client.run(wire.kv_touch(b"touch", 1))
    client.run(wire.kv_incr(b"incr"))
    client.run(wire.kv_touch(b"incr", 1))
    client.run(wire.kv_incr(b"incr"))
    client.run(wire.kv_json_set(b"json", '{"a":1}'))
    client.run(wire.kv_touch(b"json", 1))
    client.run(wire.kv_json_set(b"json", "2", "$.a"))
    client.run(wire.kv_json_del(b"json", "$.a"))
    gone = [b"put", b"cas", b"batch", b"touch", b"incr", b"json"]
    for key in (b"kept put", b"kept cas", b"kept touch", b"kept persist", b"kept zero"):
        client.run(wire.kv_put(key, b"v", ttl=1))
    client.run(wire.kv_put(b"kept put", b"v"))
    client.run(wire.kv_cas(b"kept cas", b"v", client.run(wire.kv_get(b"kept cas")).version))
    client.run(wire.kv_touch(b"kept touch", 0))
    before = client.run(wire.kv_get(b"kept persist")).version
    persisted = client.run(wire.kv_persist(b"kept persist"))
    assert persisted > before
    assert client.run(wire.kv_persist(b"kept persist")) == persisted
    client.run(wire.kv_put(b"kept zero", b"v", ttl=0))
    client.run(wire.kv_put(b"forever", b"v", ttl=10**9))
    assert client.run(wire.namespace_info(name))["keys_with_deadline"] == len(gone) + 1
    assert sum(found is not None for found in client.run(wire.kv_mget(gone))) == len(gone)

    wait_until(lambda: not client.run(wire.kv_exists(gone[-1])), "the expiry", 5)
    assert client.run(wire.kv_mget(gone)) == [None] * len(gone)
    for key in gone:
        refused(Status.NOT_FOUND, wire.kv_get(key))
        refused(Status.NOT_FOUND, wire.kv_delete(key))
        refused(Status.NOT_FOUND, wire.kv_persist(key))
        refused(Status.NOT_FOUND, wire.kv_touch(key, 1))
        refused(Status.NOT_FOUND, wire.kv_json_get(key))
        refused(Status.CONFLICT, wire.kv_put(key, b"", if_present=True))
    kept = sorted([b"kept put", b"kept cas", b"kept touch", b"kept persist", b"kept zero", b"forever"])
    assert [key for key, _ in scan(client, b"", limit=2)] == kept
    past = wait_until(lambda: [past for past in [client.run(wire.kv_history(b"put"))] if past[0].tombstone], "the tombstone", 10)[0]
    assert [(item.tombstone, item.value) for item in past] == [(True, b""), (False, b"v")]
    assert past[0].version > past[1].version == first
    assert client.run(wire.kv_incr(b"incr")).value == 1
    client.run(wire.kv_put(b"put", b"again", if_absent=True))
    wait_until(lambda: client.run(wire.namespace_info(name))["keys_with_deadline"] == 1, "the sweep", 10)


@pytest.mark.slow
def test_an_expiry_shows_in_the_history_once_swept(client: Client) -> None:
    client.run(wire.kv_put(b"k", b"v", ttl=1))
    wait_until(lambda: not client.run(wire.kv_exists(b"k")), "the expiry", 5)
    wait_until(lambda: client.run(wire.kv_history(b"k", limit=1))[0].tombstone, "the sweep", 5)


def test_a_write_to_an_expired_key_comes_after_its_tombstone(client: Client) -> None:
    client.run(wire.kv_put(b"k", b"1", ttl=1))
    wait_until(lambda: not client.run(wire.kv_exists(b"k")), "the expiry", 5)
    client.run(wire.kv_put(b"k", b"2", cas_version=0))
    assert [(past.tombstone, past.value) for past in client.run(wire.kv_history(b"k"))] == [(False, b"2"), (True, b""), (False, b"1")]


def test_a_namespace_of_expired_keys_is_empty(client: Client) -> None:
    client.run(wire.namespace_create("expiring"))
    client.run(wire.kv_put(b"k", b"v", ttl=1), namespace="expiring")

    def deleted() -> bool:
        response = client.respond(wire.namespace_delete("expiring"))
        assert response.status in (Status.OK, Status.CONFLICT)
        return response.status is Status.OK

    wait_until(deleted, "the deletion", 5)


def test_touch_needs_a_ttl(client: Client, refused: Refused) -> None:
    version = client.run(wire.kv_put(b"k", b"v"))
    refused(Status.BAD_REQUEST, Call(Op.KV_TOUCH, wire.read_version, b"k"))
    assert client.run(wire.kv_persist(b"k")) == version
    assert client.run(wire.kv_touch(b"k", 100)) > version
    assert client.run(wire.kv_get(b"k")).value == b"v"


def test_the_longest_ttl(client: Client, refused: Refused) -> None:
    refused(Status.BAD_REQUEST, wire.kv_put(b"k", b"v", ttl=2**64 - 1))
    refused(Status.BAD_REQUEST, wire.kv_put(b"k", b"v", ttl=2**53 // 1000))
    client.run(wire.kv_put(b"k", b"v", ttl=2**53 // 1000 - 10**10))


# Waiting


def test_wait_for_a_key(client: Client, other: Client) -> None:
    waiting = client.start(wire.kv_get(b"k", wait=0))
    behind = client.start(wire.ping())
    assert client.response(behind).status is Status.OK
    version = other.run(wire.kv_put(b"k", b"v"))
    assert client.finish(wire.kv_get(b"k"), waiting) == (version, b"v")
    assert client.order == [1, behind, waiting]
    assert client.run(wire.kv_get(b"k", wait=0)) == (version, b"v")


def test_requests_behind_a_waiting_one_are_done_first(client: Client) -> None:
    prepared = [
        client.prepare(call)
        for call in (wire.kv_get(b"k", wait=0), wire.kv_get(b"k", block=0), wire.kv_exists(b"k"), wire.kv_put(b"k", b"v"), wire.ping())
    ]
    client.send(b"".join(data for _, data in prepared))
    wait, block, exists, put, ping = (req_id for req_id, _ in prepared)
    assert client.finish(wire.kv_exists(b"k"), exists) is False
    version = client.finish(wire.kv_put(b"k", b"v"), put)
    assert client.finish(wire.kv_get(b"k"), wait) == (version, b"v")
    assert client.finish(wire.kv_get(b"k"), block) == (version, b"v")
    client.response(ping)


def test_waits_that_pass(client: Client, refused: Refused) -> None:
    version = client.run(wire.kv_put(b"k", b"v"))
    for call in (wire.kv_get(b"none", wait=150), wire.kv_get(b"none", block=150)):
        began = time.monotonic()
        refused(Status.NOT_FOUND, call)
        assert 0.14 < time.monotonic() - began < 3
    for known in (None, version, version + 1000):
        began = time.monotonic()
        assert client.run(wire.kv_get(b"k", block=150, cas_version=known)) == (version, b"v")
        assert 0.14 < time.monotonic() - began < 3


def test_block_until_a_change(client: Client, other: Client) -> None:
    version = other.run(wire.kv_put(b"k", b"1"))
    assert client.run(wire.kv_get(b"k", block=0, cas_version=version - 1)) == (version, b"1")
    assert client.run(wire.kv_get(b"k", block=0, cas_version=0)) == (version, b"1")
    changes: list[Callable[[], Any]] = [
        lambda: other.run(wire.kv_put(b"k", b"2")),
        lambda: other.run(wire.kv_incr(b"k")),
        lambda: other.run(wire.kv_touch(b"k", 100)),
        lambda: other.run(wire.kv_persist(b"k")),
        lambda: other.run(wire.kv_batch_put([(b"k", b"{}", 0)])),
        lambda: other.run(wire.kv_cas(b"k", b"", other.run(wire.kv_get(b"k")).version)),
    ]
    for change in changes:
        blocked = client.start(wire.kv_get(b"k", block=0))
        known = client.start(wire.kv_get(b"k", block=0, cas_version=other.run(wire.kv_get(b"k")).version))
        client.run(wire.ping())
        change()
        now = other.run(wire.kv_get(b"k"))
        assert client.finish(wire.kv_get(b"k"), blocked) == now
        assert client.finish(wire.kv_get(b"k"), known) == now


def test_a_deletion_ends_a_block(client: Client, other: Client) -> None:
    version = other.run(wire.kv_put(b"k", b"v"))
    blocked = [client.start(wire.kv_get(b"k", block=0, cas_version=known)) for known in (None, version)]
    client.run(wire.ping())
    other.run(wire.kv_delete(b"k"))
    assert [client.response(req_id).status for req_id in blocked] == [Status.NOT_FOUND] * 2
    # Once it is gone, a block without a version waits for it to come back.
    again = client.start(wire.kv_get(b"k", block=0))
    client.run(wire.ping())
    version = other.run(wire.kv_put(b"k", b"again"))
    assert client.finish(wire.kv_get(b"k"), again) == (version, b"again")


def test_an_expiry_ends_a_block(client: Client) -> None:
    version = client.run(wire.kv_put(b"k", b"v", ttl=1))
    assert client.respond(wire.kv_get(b"k", block=0, cas_version=version)).status is Status.NOT_FOUND


def test_block_on_a_missing_key_with_a_version(client: Client) -> None:
    assert client.respond(wire.kv_get(b"k", block=0, cas_version=5)).status is Status.NOT_FOUND


@pytest.mark.slow
def test_a_block_learns_of_an_expiry_at_its_deadline(client: Client) -> None:
    version = client.run(wire.kv_put(b"k", b"v", ttl=1))
    blocked = client.start(wire.kv_get(b"k", block=0, cas_version=version))
    behind = client.start(wire.kv_get(b"other", wait=1300))
    assert client.response(behind).status is Status.NOT_FOUND
    assert blocked in client.responses, "the sweep alone would tell it up to a second late"
    assert client.response(blocked).status is Status.NOT_FOUND


def test_what_excludes_each_other_in_get(client: Client, refused: Refused) -> None:
    client.run(wire.kv_put(b"k", b"v"))
    refused(Status.BAD_REQUEST, wire.kv_get(b"k", wait=1, block=1))
    refused(Status.BAD_REQUEST, wire.kv_get(b"k", wait=1, cas_version=0))
    refused(Status.BAD_REQUEST, wire.kv_get(b"k", cas_version=0))


def test_many_waiters(client: Client, other: Client) -> None:
    keys = [b"%d" % number for number in range(500)]
    waiting = [client.start(wire.kv_get(key, wait=0)) for key in keys]
    client.run(wire.ping())
    random.Random(1).shuffle(keys)
    other.run(wire.kv_batch_put([(key, key, 0) for key in keys]))
    assert [client.finish(wire.kv_get(b""), req_id).value for req_id in waiting] == sorted(keys, key=int)


# JSON


def test_documents(client: Client, refused: Refused) -> None:
    refused(Status.NOT_FOUND, wire.kv_json_get(b"d"))
    refused(Status.NOT_FOUND, wire.kv_json_del(b"d"))
    refused(Status.NOT_FOUND, wire.kv_json_set(b"d", "1", "$.a"))
    version = client.run(wire.kv_json_set(b"d", '{"a": [1, 2]}', cas_version=0))
    refused(Status.CONFLICT, wire.kv_json_set(b"d", "1", cas_version=0), version)
    refused(Status.CONFLICT, wire.kv_json_set(b"d", "1", "$.a", cas_version=version + 1), version)
    found = client.run(wire.kv_json_get(b"d"))
    assert (found.version, json.loads(found.value)) == (version, {"a": [1, 2]})
    assert client.run(wire.kv_get(b"d")) == found
    version = client.run(wire.kv_json_set(b"d", "[]", "$.b", cas_version=version))
    assert json.loads(client.run(wire.kv_json_get(b"d")).value) == {"a": [1, 2], "b": []}
    refused(Status.CONFLICT, wire.kv_json_del(b"d", "$.a", cas_version=version + 1), version)
    version = client.run(wire.kv_json_del(b"d", "$.a", cas_version=version))
    assert client.run(wire.kv_json_get(b"d")) == (version, b'{"b":[]}')
    client.run(wire.kv_json_del(b"d", "$", cas_version=version))
    assert not client.run(wire.kv_exists(b"d"))
    client.run(wire.kv_json_set(b"d", "null", "$"))
    assert client.run(wire.kv_json_get(b"d", "$")).value == b"null"
    client.run(wire.kv_json_del(b"d"))
    assert not client.run(wire.kv_exists(b"d"))


DOCUMENT = '{"items":[{"name":"x","n":[1,2,3]},true,null,"é"],"a b":{"":0,"$":1,"c.d":[]}}'


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", json.loads(DOCUMENT)),
        ("$", json.loads(DOCUMENT)),
        ("$.items[0].name", "x"),
        ("$.items[0].n[-1]", 3),
        ("$.items[0].n[-3]", 1),
        ("$.items[1]", True),
        ("$.items[2]", None),
        ("$.items[-1]", "é"),
        ('$["items"][0]["n"]', [1, 2, 3]),
        ('$["a b"]', {"": 0, "$": 1, "c.d": []}),
        ('$["a b"][""]', 0),
        ('$["a b"]["$"]', 1),
        ('$["a b"]["c.d"]', []),
    ],
)
def test_paths(client: Client, path: str, value: Any) -> None:
    version = client.run(wire.kv_json_set(b"d", DOCUMENT))
    found = client.run(wire.kv_json_get(b"d", path))
    assert (found.version, json.loads(found.value)) == (version, value)


@pytest.mark.parametrize(
    "path",
    ["$.none", "$.items[4]", "$.items[-5]", "$.items.name", "$[0]", "$.items[2].x", "$.items[3][0]", '$["a b"].none', "$.none.name"],
)
def test_paths_to_nothing(client: Client, refused: Refused, path: str) -> None:
    version = client.run(wire.kv_json_set(b"d", DOCUMENT))
    refused(Status.NOT_FOUND, wire.kv_json_get(b"d", path))
    refused(Status.NOT_FOUND, wire.kv_json_del(b"d", path))
    assert client.run(wire.kv_get(b"d")) == (version, DOCUMENT.encode())


@pytest.mark.parametrize(
    "path", ["$.", "$..a", "$[", "$]", "$[]", "$[1", '$["a]', "$[a]", "$.a[*]", "$a", "$$", "$ ", "$.a.", "$[1.5]", b"\xff"]
)
def test_what_is_no_path(client: Client, refused: Refused, path: str | bytes) -> None:
    version = client.run(wire.kv_json_set(b"d", DOCUMENT))
    refused(Status.BAD_REQUEST, wire.kv_json_get(b"d", path))
    refused(Status.BAD_REQUEST, wire.kv_json_del(b"d", path))
    refused(Status.BAD_REQUEST, wire.kv_json_set(b"d", "1", path))
    assert client.run(wire.kv_get(b"d")).version == version


def test_what_is_no_path_on_a_missing_key(refused: Refused) -> None:
    refused(Status.BAD_REQUEST, wire.kv_json_set(b"d", "1", "$.."))
    refused(Status.BAD_REQUEST, wire.kv_json_get(b"d", "$.."))


def test_what_is_no_json_text_and_a_conflict(client: Client, refused: Refused) -> None:
    client.run(wire.kv_put(b"s", b"v"))
    refused(Status.BAD_REQUEST, wire.kv_json_set(b"s", "{"))


def test_an_index_of_many_digits(client: Client, refused: Refused) -> None:
    client.run(wire.kv_json_set(b"d", "[]"))
    refused(Status.NOT_FOUND, wire.kv_json_get(b"d", "$[9999999999]"))
    refused(Status.BAD_REQUEST, wire.kv_json_get(b"d", "$[99999999999]"))


def test_a_long_path(client: Client, refused: Refused) -> None:
    client.run(wire.kv_json_set(b"d", "{}"))
    refused(Status.NOT_FOUND, wire.kv_json_get(b"d", '$["' + "x" * (4096 - 5) + '"]'))
    refused(Status.BAD_REQUEST, wire.kv_json_get(b"d", '$["' + "x" * (4096 - 4) + '"]'))


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("$", "7", 7),
        ("$.n", '{"x":[]}', {"a": [1, 2], "o": {}, "n": {"x": []}}),
        ("$.o.n", "null", {"a": [1, 2], "o": {"n": None}}),
        ('$["o"]["a b"]', "1", {"a": [1, 2], "o": {"a b": 1}}),
        ("$.a[0]", "9", {"a": [9, 2], "o": {}}),
        ("$.a[-1]", "9", {"a": [1, 9], "o": {}}),
        ("$.a[2]", "9", {"a": [1, 2, 9], "o": {}}),
        ("$.o", "[]", {"a": [1, 2], "o": []}),
    ],
)
def test_set_at_a_path(client: Client, path: str, text: str, value: Any) -> None:
    client.run(wire.kv_json_set(b"d", '{"a":[1,2],"o":{}}'))
    version = client.run(wire.kv_json_set(b"d", text, path))
    found = client.run(wire.kv_json_get(b"d"))
    assert (found.version, json.loads(found.value)) == (version, value)


@pytest.mark.parametrize("path", ["$.none.x", "$.a[3]", "$.a[-3]", "$.a.x", "$[0]", "$.a[0].x"])
def test_set_below_nothing(client: Client, refused: Refused, path: str) -> None:
    version = client.run(wire.kv_json_set(b"d", '{"a":[1,2]}'))
    refused(Status.NOT_FOUND, wire.kv_json_set(b"d", "1", path))
    assert client.run(wire.kv_get(b"d")) == (version, b'{"a":[1,2]}')


def test_delete_at_a_path(client: Client) -> None:
    client.run(wire.kv_json_set(b"d", '{"a":[1,2,3],"o":{"x":1}}'))
    client.run(wire.kv_json_del(b"d", "$.a[1]"))
    client.run(wire.kv_json_del(b"d", "$.a[-1]"))
    client.run(wire.kv_json_del(b"d", "$.o.x"))
    assert json.loads(client.run(wire.kv_json_get(b"d")).value) == {"a": [1], "o": {}}


NO_JSON = [b"", b" ", b"{", b"NaN", b"-Infinity", b"1 2", b"'a'", b"[1,]", b'"\x01"', b'"\xff"', b"01", b"tru", b"\xef\xbb\xbf1"]


@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json_text(client: Client, refused: Refused, text: bytes) -> None:
    refused(Status.BAD_REQUEST, wire.kv_json_set(b"d", text))
    client.run(wire.kv_json_set(b"d", "{}"))
    refused(Status.BAD_REQUEST, wire.kv_json_set(b"d", text, "$.a"))
    assert client.run(wire.kv_json_get(b"d")).value == b"{}"


@pytest.mark.parametrize(
    "text", ['"\\u0000é\\/"', " [ ] ", "-0", "1E5", "[" * 100 + "]" * 100, "9" * 1000, '{"a":1,"a":2}', '"\\ud83d\\ude00"']
)
def test_json_texts(client: Client, text: str) -> None:
    client.run(wire.kv_json_set(b"d", text))
    assert json.loads(client.run(wire.kv_json_get(b"d")).value) == json.loads(text)
    client.run(wire.kv_json_set(b"d", "[]"))
    client.run(wire.kv_json_set(b"d", text, "$[0]"))
    assert json.loads(client.run(wire.kv_json_get(b"d", "$[0]")).value) == json.loads(text)


@pytest.mark.parametrize("text", ["1e400", "1" * 4001, "[" * 129 + "]" * 129, '"\\ud800"'], ids=["large", "digits", "deep", "surrogate"])
def test_json_texts_past_the_bounds(refused: Refused, text: str) -> None:
    refused(Status.BAD_REQUEST, wire.kv_json_set(b"d", text))


def test_a_document_is_at_most_1_mib(client: Client, refused: Refused) -> None:
    text = '"' + "x" * (MIB - 2) + '"'
    client.run(wire.kv_json_set(b"d", text))
    assert client.run(wire.kv_json_get(b"d")).value == text.encode()
    refused(Status.BAD_REQUEST, wire.kv_json_set(b"e", text[:-1] + 'x"'))
    version = client.run(wire.kv_json_set(b"d", '["' + "x" * (MIB - 10) + '"]'))
    # BAD_REQUEST, "over a limit".
    refused(Status.BAD_REQUEST, wire.kv_json_set(b"d", '"yyyyyyyyyy"', "$[1]"))
    assert client.run(wire.kv_get(b"d")).version == version


# Compression


def test_compressed_values(client: Client, refused: Refused) -> None:
    value = b"hello " * 1000
    client.run(wire.kv_put(b"k", value, ttl=100), compress=True)
    assert client.run(wire.kv_get(b"k")).value == value
    client.run(wire.kv_put(b"k", b""), compress=True)
    assert client.run(wire.kv_get(b"k")).value == b""
    assert client.run(wire.ping(value), compress=True, accept=True) == value
    versions = client.run(wire.kv_batch_put([(b"a", value, 0), (b"b", value, 0)]), compress=True)
    assert client.run(wire.kv_mget([b"a", b"b"]), compress=True, accept=True) == [(version, value) for version in versions]
    client.run(wire.kv_json_set(b"d", "[" + "1," * 1000 + "1]"), compress=True)
    assert len(json.loads(client.run(wire.kv_json_get(b"d"), accept=True).value)) == 1001
    client.run(wire.kv_cas(b"cas", value, 0), compress=True)
    assert client.run(wire.kv_get(b"cas")).value == value


@pytest.mark.slow
def test_inflation_is_bounded(client: Client, refused: Refused) -> None:
    client.run(wire.kv_put(b"k", bytes(wire.MAX_VALUE)), compress=True)
    assert client.run(wire.kv_get(b"k")).value == bytes(wire.MAX_VALUE)
    refused(Status.BAD_REQUEST, wire.kv_put(b"l", bytes(wire.MAX_VALUE + 1)), compress=True)
    refused(Status.BAD_REQUEST, wire.kv_put(b"l", bytes(128 * MIB)), compress=True)
    client.run(wire.kv_batch_put([(b"a", bytes(12 * MIB), 0), (b"b", bytes(12 * MIB), 0)]), compress=True)
    refused(Status.BAD_REQUEST, wire.kv_batch_put([(key, bytes(12 * MIB), 0) for key in (b"c", b"d", b"e")]), compress=True)
    assert [key for key, _ in client.run(wire.kv_scan(keys_only=True)).items] == [b"a", b"b", b"k"]


def test_what_is_no_zlib_stream(client: Client) -> None:
    stream = zlib.compress(b"hello" * 100)
    gzip = zlib.compressobj(wbits=31)
    broken = [b"", b"plain", stream + b"x", stream + stream, stream[2:-4], stream[:-1] + b"\0", gzip.compress(b"x") + gzip.flush()]
    for data in broken + [stream[:size] for size in range(len(stream))]:
        response = raw(client, (wire.MAGIC, Op.KV_PUT, 1, 1, len(data) + 1, wire.namespace_hash(client.namespace), 1, 0), b"k" + data)
        assert response.status is Status.BAD_REQUEST, data
    assert not client.run(wire.kv_exists(b"k"))


@pytest.mark.parametrize(("size", "compressed"), [(1024, False), (1025, True), (MIB, True), (MIB + 1, False)])
def test_which_answers_are_compressed(client: Client, size: int, compressed: bool) -> None:
    client.run(wire.kv_put(b"k", bytes(size - 8)))
    for call in (wire.kv_get(b"k"), wire.ping(bytes(size))):
        response = client.respond(call, accept=True)
        assert (response.compressed, len(response.payload)) == (compressed, size)
        assert not client.respond(call).compressed


def test_an_answer_that_does_not_shrink_is_not_compressed(client: Client) -> None:
    value = os.urandom(10_000)
    response = client.respond(wire.ping(value), accept=True)
    assert (response.compressed, response.payload) == (False, value)


# Requests that are not understood


def kv_calls() -> dict[str, Call[Any]]:
    """One call of each operation on keys."""
    return {
        "kv_get": wire.kv_get(b"k"),
        "kv_put": wire.kv_put(b"k", b"v"),
        "kv_delete": wire.kv_delete(b"k"),
        "kv_scan": wire.kv_scan(),
        "kv_batch_put": wire.kv_batch_put([(b"k", b"v", 0)]),
        "kv_history": wire.kv_history(b"k"),
        "kv_cas": wire.kv_cas(b"k", b"v", 0),
        "kv_info": wire.kv_info(b"k"),
        "kv_mget": wire.kv_mget([b"k"]),
        "kv_incr": wire.kv_incr(b"k"),
        "kv_json_get": wire.kv_json_get(b"k"),
        "kv_json_set": wire.kv_json_set(b"k", "1"),
        "kv_json_del": wire.kv_json_del(b"k"),
        "kv_touch": wire.kv_touch(b"k", 1),
        "kv_persist": wire.kv_persist(b"k"),
        "kv_exists": wire.kv_exists(b"k"),
    }


def every_call() -> dict[str, Call[Any]]:
    """One call of each operation."""
    return kv_calls() | {
        "ping": wire.ping(b"x"),
        "auth": wire.auth(b"x"),
        "server_stats": wire.server_stats(),
        "server_view": wire.server_view(b"clients"),
        "namespace_create": wire.namespace_create("every-call"),
        "namespace_list": wire.namespace_list(),
        "namespace_delete": wire.namespace_delete("every-call"),
        "namespace_info": wire.namespace_info("every-call"),
        "cluster_join": wire.cluster_join(),
        "cluster_leave": wire.cluster_leave(),
        "cluster_promote": wire.cluster_promote(b"x"),
        "cluster_remove": wire.cluster_remove(b"x"),
        "cluster_fetch": wire.cluster_fetch(b"", 0),
        "cluster_status": wire.cluster_status(),
        "cluster_partition_table": wire.cluster_partition_table(),
    }


SIZES = {"u64": 8, "u32": 4, "i64": 8, "empty": 0}


@cache
def forms() -> dict[str, tuple[int, int | None]]:
    """The options of the page: type, and length where it is fixed."""
    return {cells[1]: (int(cells[0], 16), SIZES.get(cells[2])) for cells in its_options()}


@cache
def taken_by(name: str) -> set[str]:
    """The options that the page's row of an operation names."""
    return {word.split(" ")[0] for word in operations()[name]["options"].split(", ")} & set(forms())


def test_what_is_known_about_a_key(client: Client) -> None:
    version = client.run(wire.kv_put(b"k", b"value", ttl=1000))
    info = client.run(wire.kv_info(b"k"))
    assert info.pop("deadline") > 0
    assert info == {"version": version, "kind": "string", "bytes": 5}
    deadline = client.run(wire.kv_info(b"k"))["deadline"]
    client.run(wire.kv_put(b"k", b"other", keep_ttl=True))
    assert client.run(wire.kv_info(b"k"))["deadline"] == deadline
    client.run(wire.kv_put(b"k", b"other"))
    assert client.run(wire.kv_info(b"k"))["deadline"] == 0
    client.run(wire.kv_delete(b"k"))
    assert client.respond(wire.kv_info(b"k")).status is Status.NOT_FOUND
    assert client.respond(wire.kv_put(b"k", b"v", ttl=5, keep_ttl=True)).status is Status.BAD_REQUEST


def test_every_operation_has_a_call() -> None:
    assert set(every_call()) == set(operations())
    assert set().union(*(taken_by(name) for name in operations())) == set(forms())
    for cells in its_options():
        assert {name for name in operations() if cells[1] in taken_by(name)} == set(cells[4].split(", ")) & set(operations())


@pytest.mark.slow
@pytest.mark.parametrize("name", list(operations()))
def test_options_that_are_not_taken(client: Client, name: str) -> None:
    call = every_call()[name]
    for kind, size in [forms()[option] for option in set(forms()) - taken_by(name)] + [(kind, 0) for kind in (0, 0x03, 0x16, 0x7F, 0xFF)]:
        options = call.options + wire.option(kind, bytes(size or 0))
        response = client.respond(Call(call.opcode, call.parse, call.key, call.value, options))
        assert response.status is Status.BAD_REQUEST, (name, kind)
        assert response.error().message
    assert client.run(wire.kv_scan()).items == []


@pytest.mark.parametrize("name", sorted(name for name in operations() if taken_by(name)))
def test_options_that_are_repeated_or_of_the_wrong_length(client: Client, name: str) -> None:
    call = every_call()[name]
    for option in taken_by(name):
        kind, size = forms()[option]
        one = wire.option(kind, bytes(size) if size is not None else b"")
        wrong = [one + one]
        if size is not None:
            wrong += [
                wire.option(kind, bytes(length)) for length in {0, 1, 2, 4, 8, size - 1, size + 1, 300} if length >= 0 and length != size
            ]
        for data in wrong:
            response = client.respond(Call(call.opcode, call.parse, call.key, call.value, data))
            assert response.status is Status.BAD_REQUEST, (option, data)
    assert client.run(wire.kv_scan()).items == []


def test_options_come_in_any_order(client: Client) -> None:
    client.run(wire.kv_put(b"k", b"v"))
    parts = [wire.options(limit=1), wire.options(keys_only=True), wire.options(cursor=b"")]
    for order in itertools.permutations(parts[:2]):
        assert client.run(Call(Op.KV_SCAN, wire.read_page, options=b"".join(order))).items == [(b"k", b"")]
    for order in itertools.permutations([wire.options(ttl=100), wire.options(cas_version=0), wire.options(if_absent=True)]):
        client.run(wire.kv_delete(b"k"))
        client.run(Call(Op.KV_PUT, wire.read_version, b"k", b"v", b"".join(order)))


def test_options_cut_at_every_byte(client: Client) -> None:
    whole = wire.options(ttl=5, cas_version=0)
    edges = {0, 11, 22}
    for size in range(len(whole) + 1):
        response = client.respond(Call(Op.KV_PUT, wire.read_version, b"k%d" % size, b"v", whole[:size]))
        assert response.status is (Status.OK if size in edges else Status.BAD_REQUEST), size
    for tail in (b"\0", b"\1", b"\1\x08", b"\1\x08\0", b"\1\xff\xff"):
        assert client.respond(Call(Op.KV_PUT, wire.read_version, b"k", b"v", whole + tail)).status is Status.BAD_REQUEST


@pytest.mark.parametrize("name", sorted(name for name, row in operations().items() if row["key"] == "—"))
def test_a_key_that_is_not_taken(client: Client, name: str) -> None:
    # the page says what happens to an option that is not taken, not to a key or a value.
    call = every_call()[name]
    assert client.respond(Call(call.opcode, call.parse, b"key", call.value)).status is Status.BAD_REQUEST


@pytest.mark.parametrize("name", sorted(name for name, row in operations().items() if row["value"] == "—"))
def test_a_value_that_is_not_taken(client: Client, name: str) -> None:
    call = every_call()[name]
    assert client.respond(Call(call.opcode, call.parse, call.key, b"value", call.options)).status is Status.BAD_REQUEST


def test_codes_that_are_no_operation(client: Client) -> None:
    known = {*Op, *wire.StreamOp, *range(0x100, 0x106), *range(0x20, 0x2E), *range(0x50, 0x6A)}  # it leaves queues and actions to others
    unknown = sorted((set(range(0x200)) | {0x1000, 0x7FFF, 0xFFFF}) - known)
    responses = client.pipeline([Call(code, wire.read_rest, b"k", b"v") for code in unknown])
    assert {response.status for response in responses} == {Status.BAD_REQUEST}


def test_the_other_codes(client: Client) -> None:
    def under(code: int, call: Call[Any]) -> Any:
        return client.run(Call(code, call.parse, call.key, call.value, call.options))

    version = under(0x100, wire.kv_put(b"k", b"v", if_absent=True))
    assert under(0x101, wire.kv_get(b"k", block=0, cas_version=0)) == (version, b"v")
    assert under(0x102, wire.kv_mget([b"k"])) == [(version, b"v")]
    assert under(0x104, wire.kv_scan(b"k", limit=1, keys_only=True)).items == [(b"k", b"")]
    assert under(0x103, wire.kv_delete(b"k", cas_version=version)) > version
    assert [past.tombstone for past in under(0x105, wire.kv_history(b"k", limit=9))] == [True, False]


@pytest.mark.parametrize("bit", range(2, 16))
def test_unknown_flags(client: Client, bit: int) -> None:
    response = raw(client, (wire.MAGIC, Op.PING, 1 << bit, 9, 1, 0, 0, 0), b"x")
    assert response.status is Status.BAD_REQUEST
    assert raw(client, (wire.MAGIC, Op.PING, 3 | 1 << bit, 9, 1, 0, 0, 0), b"x").status is Status.BAD_REQUEST
    assert client.run(wire.ping(b"y")) == b"y"


@pytest.mark.parametrize(
    ("key", "options", "size"), [(4, 0, 3), (0, 4, 3), (2, 2, 3), (65_535, 65_535, 0), (1, 0, 0), (65_535, 65_535, 131_069)]
)
def test_lengths_that_do_not_fit(client: Client, key: int, options: int, size: int) -> None:
    response = raw(client, (wire.MAGIC, Op.KV_PUT, 0, 9, size, wire.namespace_hash(client.namespace), key, options), bytes(size))
    assert response.status is Status.BAD_REQUEST
    assert client.run(wire.ping(b"y")) == b"y"


# When the connection ends


def header(magic: bytes, size: int = 0) -> bytes:
    """A header with an id that is easily seen."""
    return wire.REQUEST.pack(magic, Op.PING, 0, 0x1122334455667788, size, 0, 0, 0)


def ends_with_bad_request(client: Client, done: int) -> None:
    """After the answers there are, one BAD_REQUEST and the end."""
    responses = [client.any_response() for _ in range(done + 1)]
    assert [response.status for response in responses] == [Status.OK] * done + [Status.BAD_REQUEST]
    assert responses[-1].req_id == 0x1122334455667788
    assert responses[-1].payload
    assert client.at_end()


@pytest.mark.parametrize("done", [0, 1, 5])
@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version(client: Client, done: int, version: int) -> None:
    with Client(client.sock.getpeername()[1]) as fresh:
        fresh.send(b"".join(wire.request(wire.ping(), number) for number in range(done)) + header(b"FLO" + bytes([version])) + bytes(100))
        ends_with_bad_request(fresh, done)


@pytest.mark.parametrize("magic", [b"FLX\1", b"XLO\1", b"\0\0\0\0", b"flo\1", b"\1OLF", b"*1\r\n", b"GET ", b"PING"])
def test_a_wrong_magic(client: Client, magic: bytes) -> None:
    with Client(client.sock.getpeername()[1]) as fresh:
        fresh.run(wire.ping())
        fresh.send(wire.request(wire.ping(), 7) + header(magic) + wire.request(wire.ping(), 8))
        ends_with_bad_request(fresh, 1)


@pytest.mark.parametrize("magic", [b"FLO\2", b"FLO\0", b"FLO\xff"])
def test_another_version_at_once(client: Client, magic: bytes) -> None:
    with Client(client.sock.getpeername()[1]) as fresh:
        fresh.send(header(magic))
        ends_with_bad_request(fresh, 0)


@pytest.mark.parametrize("size", [4, 8, 16, 20, 31])
def test_a_wrong_magic_in_two_parts(client: Client, size: int) -> None:
    with Client(client.sock.getpeername()[1]) as fresh:
        fresh.send(wire.request(wire.ping(), 1) + header(b"FLX\1")[:size])
        assert fresh.response(1).status is Status.OK
        fresh.send(header(b"FLX\1")[size:])
        ends_with_bad_request(fresh, 0)


@pytest.mark.parametrize("size", [wire.MAX_PAYLOAD + 1, 2**32 - 1])
def test_a_payload_over_the_limit(client: Client, size: int) -> None:
    with Client(client.sock.getpeername()[1]) as fresh:
        fresh.send(wire.request(wire.ping(), 1) + header(wire.MAGIC, size))
        ends_with_bad_request(fresh, 1)


def test_a_payload_over_the_limit_that_comes(client: Client) -> None:
    with Client(client.sock.getpeername()[1]) as fresh:
        fresh.send(header(wire.MAGIC, 40 * MIB) + bytes(40 * MIB))
        ends_with_bad_request(fresh, 0)


def test_a_request_in_two_parts(client: Client) -> None:
    for size in range(1, len(wire.request(wire.kv_put(b"hello", b"world", ttl=60), 1))):
        ping, first = client.prepare(wire.ping())
        call = wire.kv_put(b"%05d" % size, b"world", ttl=60)
        put, data = client.prepare(call)
        client.send(first + data[:size])
        assert client.response(ping).status is Status.OK
        client.send(data[size:])
        assert client.finish(call, put)
    assert len(scan(client, b"")) == 52


def test_a_request_byte_by_byte(client: Client) -> None:
    call = wire.kv_batch_put([(b"a", b"1", 0), (b"b", b"2", 0)])
    req_id, data = client.prepare(call)
    for number in range(len(data)):
        client.send(data[number : number + 1])
    assert len(client.finish(call, req_id)) == 2


def test_a_request_cut_at_every_byte(client: Client) -> None:
    data = wire.request(wire.kv_put(b"cut", b"world", ttl=60), 1, wire.namespace_hash(client.namespace))
    for size in range(len(data)):
        with Client(client.sock.getpeername()[1]) as fresh:
            fresh.send(data[:size])
            fresh.shutdown()
            assert fresh.at_end(), size
        assert not client.run(wire.kv_exists(b"cut"))


def test_half_close(client: Client) -> None:
    with Client(client.sock.getpeername()[1], namespace=client.namespace) as fresh:
        prepared = [fresh.prepare(call) for call in (wire.kv_get(b"none", wait=0), wire.kv_put(b"k", b"v"), wire.kv_get(b"none", block=0))]
        prepared += [fresh.prepare(wire.ping(bytes(100_000))) for _ in range(20)]
        fresh.send(b"".join(data for _, data in prepared) + wire.request(wire.kv_put(b"incomplete", b"v"), 999)[:-1])
        fresh.shutdown()
        assert fresh.response(prepared[1][0]).status is Status.OK
        assert all(fresh.response(req_id).status is Status.OK for req_id, _ in prepared[3:])
        assert fresh.at_end()
        assert not fresh.responses
    assert client.run(wire.kv_exists(b"k"))
    assert not client.run(wire.kv_exists(b"incomplete"))


def test_half_close_with_nothing_sent(client: Client) -> None:
    with Client(client.sock.getpeername()[1]) as fresh:
        fresh.shutdown()
        assert fresh.at_end()


def test_the_slow_are_closed(watches: dict[str, Watch], idle: Client) -> None:
    for name, watch in watches.items():
        watch.join(20)
        assert not watch.is_alive(), name
        assert 9 < watch.seconds < 15, name
    pong = wire.RESPONSE.pack(wire.MAGIC, 0, 0, 1, 0, bytes(4))
    assert watches["second header"].received.startswith(pong)
    assert watches["secret"].received.startswith(pong)
    assert idle.run(wire.ping(b"in no hurry")) == b"in no hurry"


@pytest.mark.long
def test_a_payload_that_stalls(shared_flo: FloProcess) -> None:
    with Client(shared_flo.port, timeout=90) as client:
        began = time.monotonic()
        client.send(header(wire.MAGIC, 100) + b"x")
        assert client.at_end() or client.any_response()
        assert 55 < time.monotonic() - began < 80


# Pipelining


def test_many_requests_in_one_write(client: Client) -> None:
    responses = client.pipeline([wire.kv_incr(b"n") for _ in range(5000)])
    assert [wire.read_number(response.payload).value for response in responses] == list(range(1, 5001))


def test_a_pipeline_is_executed_in_order_past_refusals(client: Client) -> None:
    calls: list[Call[Any]] = [
        wire.kv_put(b"k", b"1"),
        wire.kv_get(b"none"),
        Call(0x999, wire.read_rest),
        wire.kv_put(b"k", b"2", if_absent=True),
        wire.kv_delete(b"k"),
        wire.kv_put(b"k", b"3", if_absent=True),
        wire.kv_get(b"k"),
    ]
    statuses = [response.status for response in client.pipeline(calls)]
    assert statuses == [Status.OK, Status.NOT_FOUND, Status.BAD_REQUEST, Status.CONFLICT, Status.OK, Status.OK, Status.OK]
    assert client.run(wire.kv_get(b"k")).value == b"3"


@pytest.mark.slow
def test_a_pipeline_larger_than_any_buffer(client: Client) -> None:
    values = [bytes([number % 256]) * 1000 for number in range(30_000)]
    responses = client.pipeline([wire.ping(value) for value in values])
    assert all(response.payload == value for response, value in zip(responses, values, strict=True))


def test_ids_are_the_clients_to_choose(client: Client) -> None:
    ids = [2**64 - 1, 0, 2**63, 12345]
    for req_id in ids:
        client.start(wire.ping(str(req_id).encode()), req_id=req_id)
    assert {req_id: int(client.response(req_id).payload) for req_id in reversed(ids)} == {req_id: req_id for req_id in ids}


# What a server that stands alone and is well does not send


def canned(data: bytes) -> tuple[int, threading.Thread]:
    """A server that answers its first client with the bytes given; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        with listener, listener.accept()[0] as sock:
            sock.settimeout(10)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return int(listener.getsockname()[1]), thread


def answer(data: bytes) -> Any:
    """What the client makes of an answer to a ping of id 1."""
    port, thread = canned(data)
    try:
        with Client(port) as client:
            return client.run(wire.ping())
    finally:
        thread.join(10)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_status(status: Status) -> None:
    sentence = "what was wrong – and what to do".encode()
    payload = struct.pack("<Q", 77) + sentence if status is Status.CONFLICT else sentence
    with pytest.raises(WireError) as caught:
        answer(wire.RESPONSE.pack(wire.MAGIC, status, 0, 1, len(payload), bytes(4)) + payload)
    assert (caught.value.status, caught.value.message.encode()) == (status, sentence)
    assert caught.value.version == (77 if status is Status.CONFLICT else 0)


def test_a_server_that_cannot_serve() -> None:
    with pytest.raises(wire.ServerRefused, match=r"^ERR too many connections: wait$"):
        answer(b"-ERR too many connections: wait\r\n")


@pytest.mark.parametrize(
    "data",
    [
        wire.RESPONSE.pack(b"FLO\2", 0, 0, 1, 0, bytes(4)),
        wire.RESPONSE.pack(wire.MAGIC, 0, 2, 1, 0, bytes(4)),
        wire.RESPONSE.pack(wire.MAGIC, 0, 0, 1, 0, b"\0\0\0\1"),
        wire.RESPONSE.pack(wire.MAGIC, 0, 1, 1, 5, bytes(4)) + b"plain",
        wire.RESPONSE.pack(wire.MAGIC, 3, 0, 1, 2, bytes(4)) + b"no",
    ],
)
def test_what_no_server_may_send(data: bytes) -> None:
    with pytest.raises((wire.ProtocolError, zlib.error)):
        answer(data)


def test_an_end_within_a_response() -> None:
    with pytest.raises(wire.ConnectionEnded):
        answer(wire.RESPONSE.pack(wire.MAGIC, 0, 0, 1, 10, bytes(4)) + b"part")
