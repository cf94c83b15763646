"""The binary protocol on a real server: order, bounds, waits and secrets under clients that misbehave."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from flo import Client, calls
from flo.client import Disconnected, TimedOut
from flo.errors import Conflict, Overloaded, Unauthorized
from flo.operations import BY_NAME
from flo.proto import binary
from flo.proto.binary import FrameReader, Response, encode_request, namespace_hash, split_response
from tests.support.processes import FloProcess, encode, wait_until

MIB = 1 << 20


@pytest.fixture
def client(flo: FloProcess) -> Iterator[Client]:
    with Client(f"flo://127.0.0.1:{flo.port}") as made:
        yield made


def request(name: str, req_id: int, key: bytes = b"", value: bytes = b"", **options: int) -> bytes:
    return encode_request(BY_NAME[name], req_id, 0, key, value, options)


def read_responses(sock: socket.socket, count: int) -> list[Response]:
    """So many responses."""
    reader, rest = FrameReader(24, 64 * MIB), b""
    found: list[Response] = []
    while len(found) < count:
        data = sock.recv(1 << 20)
        assert data, f"closed after {len(found)} of {count} responses"
        rest += data
        at = 0
        while True:
            frame, at = reader.parse(rest, at)
            if frame is None:
                break
            found.append(split_response(frame))
        rest = rest[at:]
    return found


def test_kept_input_is_executed_in_order(flo: FloProcess, client: Client) -> None:
    """Answers fill the output, so that requests are kept; among them values larger than one turn's input."""
    client.kv.put("big", b"b" * 2 * MIB)
    values = {f"k{number}": b"%d|" % number * 60_000 for number in range(30)}
    many = [call for key, value in values.items() for call in (calls.kv_get("big"), calls.kv_put(key, value))]
    results = client.run_many(many)
    assert not [result for result in results if isinstance(result, Exception)]
    assert {key: client.kv.get(key).value for key in values} == values  # type: ignore[union-attr]
    with flo.connect() as resp:
        resp.send(b"".join(encode("GET", "big") + encode("SET", f"r{key}", value) for key, value in values.items()))
        for _ in values:
            assert len(resp.reply()) == 2 * MIB
            assert resp.reply() == b"OK"
        assert all(resp.command("GET", f"r{key}") == value for key, value in values.items())


def test_waits_for_a_large_value_take_no_memory_of_their_own(flo: FloProcess, client: Client) -> None:
    """200 waits, 16 MiB each if answered at once to a client that reads nothing. The answers come as they are read."""
    with socket.create_connection(("127.0.0.1", flo.port), 60) as sock:
        sock.sendall(b"".join(request("kv_get", number, b"big", wait=0) for number in range(200)))
        wait_until(lambda: client.status()["waiting"] == 200, "them to wait")
        before = flo.rss_bytes()
        client.kv.put("big", b"b" * 16 * MIB)
        assert client.status()["waiting"] == 0
        assert flo.rss_bytes() < before + 150 * MIB
        sock.shutdown(socket.SHUT_RD)
    wait_until(lambda: client.status()["connections"] == 1, "the end of the connection")
    assert client.status()["waiting"] == 0
    with socket.create_connection(("127.0.0.1", flo.port), 60) as sock:
        sock.sendall(b"".join(request("kv_get", number, b"next", wait=0) for number in range(20)))
        wait_until(lambda: client.status()["waiting"] == 20, "them to wait")
        client.kv.put("next", b"n" * MIB)
        answers = read_responses(sock, 20)
        assert sorted(a.req_id for a in answers) == list(range(20))
        assert {len(a.payload) for a in answers} == {MIB + 8}


def test_a_namespace_that_goes_while_large_answers_are_owed(flo: FloProcess, client: Client) -> None:
    """Waits of one connection end by the deletion it asks for itself."""
    client.namespaces.create("x")
    hashed = namespace_hash("x")
    with socket.create_connection(("127.0.0.1", flo.port), 60) as sock:
        waits = b"".join(request("kv_get", number, b"big", wait=0) for number in range(4))
        waits += encode_request(BY_NAME["kv_get"], 4, hashed, b"w", b"", {"wait": 0})
        sock.sendall(waits)
        wait_until(lambda: client.status()["waiting"] == 5, "them to wait")
        client.kv.put("big", b"b" * 16 * MIB)
        sock.sendall(request("namespace_delete", 5, b"x"))
        answers = {a.req_id: a for a in read_responses(sock, 6)}
        assert answers[5].status == binary.OK and answers[4].status == binary.NOT_FOUND
        assert all(len(answers[number].payload) == 16 * MIB + 8 for number in range(4))
    assert flo.alive() and client.namespaces.list() == ["default"]


@pytest.mark.slow
def test_waits_of_one_connection_are_bounded_and_end_quickly(flo: FloProcess, client: Client) -> None:
    with socket.create_connection(("127.0.0.1", flo.port), 60) as sock:
        sock.sendall(b"".join(request("kv_get", number, b"k", wait=600_000) for number in range(5001)))
        (refused,) = read_responses(sock, 1)
        assert refused.status == binary.OVERLOADED and b"limits.connection_waiters" in refused.payload
        wait_until(lambda: client.status()["waiting"] == 5000, "them to wait")
    wait_until(lambda: client.status()["waiting"] == 0, "their end")


def test_lists_are_counted_before_they_are_read(client: Client) -> None:
    """A compressed request of a few KB that says it has millions of items, or inflates past the limit."""
    many = struct.pack("<I", 2_000_000) + bytes(2_000_000 * 14)
    raw = Client(f"flo://127.0.0.1:{client.port}", compress=True)
    with raw:
        call = calls.kv_batch_put([])
        call._value = many
        with pytest.raises(Exception, match="at most 10000 are allowed"):
            raw.run(call)
        names = calls.kv_mget([])
        names._value = struct.pack("<H", 65_535) + bytes(65_535 * 2)
        with pytest.raises(Exception, match="at most 256 are allowed"):
            raw.run(names)


def test_namespaces_are_bounded(tmp_path: Path) -> None:
    with (
        FloProcess(tmp_path / "data", environment={"FLO_LIMITS_NAMESPACES": "3"}) as flo,
        Client(f"flo://127.0.0.1:{flo.port}") as client,
    ):
        client.namespaces.create("a")
        client.namespaces.create("b")
        client.namespaces.create("b")
        with pytest.raises(Overloaded, match=r"limits\.namespaces"):
            client.namespaces.create("c")
        client.namespaces.delete("a")
        client.namespaces.create("c")


def test_a_namespace_is_deleted_as_soon_as_its_last_key_expires(flo: FloProcess, client: Client) -> None:
    client.namespaces.create("brief")
    with Client(f"flo://127.0.0.1:{flo.port}/brief") as inside:
        inside.kv.put("k", "v", ttl=1)
        with pytest.raises(Conflict):
            client.namespaces.delete("brief")
        assert inside.kv.changed("k", 5000) is None
        client.namespaces.delete("brief")


def test_resp_connections_of_a_deleted_namespace_are_told(flo: FloProcess, client: Client) -> None:
    client.namespaces.create("ns")
    with flo.connect() as resp:
        assert resp.command("USE", "ns") == b"OK"
        assert resp.command("SET", "k", "v") == b"OK"
        resp.command("DEL", "k")
        client.namespaces.delete("ns")
        for command in (("SET", "k", "v"), ("GET", "k"), ("LPUSH", "q", "m"), ("DBSIZE",)):
            assert "the namespace 'ns' was deleted" in str(resp.command(*command)), command
        assert resp.command("PING") == b"PONG"
        client.namespaces.create("ns")
        assert resp.command("SET", "k", "new") == b"OK"
        assert resp.command("USE", "default") == b"OK" and resp.command("GET", "k") is None
    flo.stop()
    flo.start()
    with Client(f"flo://127.0.0.1:{flo.port}/ns") as inside:
        entry = inside.kv.get("k")
        assert entry and entry.value == b"new"


def test_the_secret(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    secret.chmod(0o600)
    with FloProcess(tmp_path / "data", "--secret-file", str(secret)) as flo:
        url = f"127.0.0.1:{flo.port}"
        with Client(f"flo://:open%20sesame@{url}") as client:
            assert client.kv.put("a", "1") == 1
        with Client(f"flo://{url}") as client:
            assert client.ping("hi") == b"hi"
            with pytest.raises(Unauthorized, match="this server has a secret"):
                client.kv.get("a")
        with Client(f"flo://:wrong@{url}") as client, pytest.raises(Unauthorized, match="wrong"):
            client.kv.get("a")
        assert "sesame" not in flo.output() and "wrong" in flo.output()


def test_the_client_comes_back_after_the_server(tmp_path: Path) -> None:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    with FloProcess(tmp_path / "data", "--port", str(port)) as own, Client(f"flo://127.0.0.1:{port}") as client:
        client.kv.put("a", "1")
        own.kill()
        with pytest.raises(Disconnected):
            client.kv.get("a")
        own.start()
        entry = client.kv.get("a")
        assert entry and entry.value == b"1"


def test_a_server_that_never_answers_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(f"flo://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)
        with pytest.raises(TimedOut):
            client.ping()
        client.close()
