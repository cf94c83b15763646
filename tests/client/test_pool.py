"""The connections of flo.Client: how many there are, who waits for one, and how they are made."""

import inspect
import pydoc
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flo import Client, calls
from flo.client import Address
from flo.errors import BadRequest, CannotConnect, Disconnected, TimedOut, Unauthorized
from tests.client.test_program import in_threads
from tests.support.certificates import Authority, Files, environment
from tests.support.processes import FloProcess, wait_until
from tests.support.scripted_server import Peer, ScriptedServer, opened

pytestmark = pytest.mark.computes

THREADS = 100
SECRET = "open sesame"


@pytest.mark.slow
def test_a_hundred_threads_share_sixteen_connections(flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}", pool_timeout=60) as client, flo.connect() as control:

        def work(number: int) -> None:
            for at in range(20):
                client.kv.put(f"{number}", json=at)
                entry = client.kv.get(f"{number}")
                assert entry is not None and entry.json() == at
                client.kv.incr("sum")

        in_threads(work, THREADS)
        assert client.kv.incr("sum", 0).value == THREADS * 20
        received = int(control.command("INFO", "stats").split(b"total_connections_received:")[1].split(b"\r\n")[0])
        assert received <= 16 + 2


def test_a_full_pool_waits_and_then_says_so(flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}", max_connections=1, pool_timeout=0.2) as client, flo.connect() as control:
        waiter = threading.Thread(target=client.queues.dequeue, args=("q",), kwargs={"block": 0})
        waiter.start()
        wait_until(lambda: b"blocked_clients:1" in control.command("INFO", "clients"), "one that waits")
        with pytest.raises(
            TimedOut, match=r"all 1 connections of this client were in use for 0\.2 s; use fewer threads, or raise max_conn"
        ):
            client.kv.get("a")
        client.pool_timeout = 30.0
        got: list[int] = []
        second = threading.Thread(target=lambda: got.append(client.kv.put("a", "1")))
        second.start()
        wait_until(lambda: client._waiting == 1, "one that waits for a connection")
        control.command("LPUSH", "q", "m")
        second.join(30)
        waiter.join(30)
        assert len(got) == 1


def test_a_connection_that_fails_makes_room_for_another() -> None:
    def closes(peer: Peer) -> None:
        peer.need()

    settings: dict[str, Any] = {"max_connections": 1, "retries": 0, "pool_timeout": 0.1}
    with ScriptedServer(closes, Peer.serve) as server, Client(server.url, **settings) as client:
        with pytest.raises(Disconnected, match="closed the connection"):
            client.kv.put("a", "1")
        assert client.kv.put("a", "1") == 7


def test_wrong_settings() -> None:
    given: dict[str, Any]
    for given in ({"max_connections": 0}, {"retries": -1}, {"pool_timeout": 0}, {"timeout": -1}, {"connect_timeout": 1e10}):
        with pytest.raises(BadRequest, match=r"(the \w+ is|give)"):
            Client(**given)
    wrong: dict[str, Any]
    for wrong in ({"max_connections": "5"}, {"retries": 1.5}, {"pool_timeout": None}):
        with pytest.raises(TypeError, match="give "):
            Client(**wrong)


# -- addresses and TLS -----------------------------------------------------------------------------


def test_the_parts_of_a_url() -> None:
    address = Address("flos://:s%40cret@[::1]:9443/jobs?ca=%2Ftmp%2Fca.pem&cert=c.pem&key=k.pem&verify=off")
    assert (address.places, address.namespace, address.secret) == ([("::1", 9443)], "jobs", "s@cret")
    members = Address("flo://:s,%40@a,b:9001,[::1]:9002/jobs")
    assert (members.places, members.secret) == ([("a", 9000), ("b", 9001), ("::1", 9002)], "s,@")
    assert address.tls == ("/tmp/ca.pem", "c.pem", "k.pem", False)
    assert Address("flo://host").tls is None and Address("flos://host").tls == ("", "", "", True)
    for wrong, says in (
        ("flo://host?ca=x", "is not the address of a server"),
        ("flos://host?caa=x", "'caa' is not known behind"),
        ("flos://host?verify=no", "verify is 'no'; it is on or off"),
        ("redis://host", "is not the address of a server"),
        ("flo://:hidden@host:port", "its host or port is wrong"),
        ("flo://:hidden@host/a/b", "flo://…@host/a/b"),
    ):
        with pytest.raises(BadRequest) as caught:
            Address(wrong)
        assert says in str(caught.value) and "hidden" not in str(caught.value)
    with pytest.raises(BadRequest, match=r"/nowhere\.pem"):
        Client("flos://host?ca=/nowhere.pem")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def files(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return authority.issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_flo(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    """A server with TLS and a secret."""
    directory = tmp_path_factory.mktemp("tls")
    secret = directory / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    with FloProcess(directory / "data", "--secret-file", str(secret), environment=environment(files)) as server:
        yield server


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_tls(kind: str, tls_flo: FloProcess, files: Files) -> None:
    base = f"flos://:open%20sesame@localhost:{tls_flo.port}"
    with opened(kind, f"{base}?ca={files.authority}") as client:
        value = bytes(range(256)) * 20_000  # more than one record, and than one receive
        client.kv.put("a", value)
        assert client.kv.get("a").value == value
        many = client.run_many([calls.kv_put(f"k{at}", value[: 1 << 16]) for at in range(100)])
        assert all(isinstance(version, int) for version in many)
    with (
        opened(kind, base, retries=0) as client,
        pytest.raises(CannotConnect, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
    ):
        client.ping()
    with opened(kind, f"{base}?verify=off") as client:
        assert client.ping(b"x") == b"x"
    with opened(kind, f"flos://localhost:{tls_flo.port}?verify=off", secret="wrong") as client, pytest.raises(Unauthorized):
        client.kv.get("a")
    with socket.create_server(("127.0.0.1", 0)) as listener:  # it never answers the handshake
        url = f"flos://127.0.0.1:{listener.getsockname()[1]}?verify=off"
        with opened(kind, url, connect_timeout=0.2, retries=0) as client, pytest.raises(CannotConnect):
            client.ping()


# -- methods ---------------------------------------------------------------------------------------


def test_values_as_json(flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        thing = {"name": "Zürich", "n": [1, 2.5, None, True]}
        client.kv.put("a", json=thing)
        entry = client.kv.get("a")
        assert entry is not None and entry.json() == thing and entry.value == '{"name":"Zürich","n":[1,2.5,null,true]}'.encode()
        client.kv.put("none", json=None)
        assert client.kv.get("none").json() is None  # type: ignore[union-attr]
        client.kv.json_set("d", json=thing)
        assert client.kv.json_get("d", "$.name").json() == "Zürich"
        assert client.kv.history("a")[0].json() == thing
        client.queues.enqueue("q", json=thing, priority=3)
        assert client.queues.dequeue("q")[0].json() == thing
        client.streams.append("s", json=thing)
        assert client.streams.read("s")[0].json() == thing
        client.actions.register("act")
        run = client.actions.invoke("act", json=thing)
        client.workers.register("w", ["act"])
        assignment = client.workers.take("w")
        assert assignment is not None and assignment.json() == thing
        client.workers.complete(run, json=[thing], worker_id="w")
        assert client.actions.result(run).json() == [thing]
        client.kv.put("text", "no json")
        with pytest.raises(ValueError, match="Expecting value"):
            client.kv.get("text").json()  # type: ignore[union-attr]
        for wrong, kind, says in (
            ({"json": float("nan")}, BadRequest, "json is nan, which JSON cannot say"),
            ({"json": object()}, TypeError, "json is <object.*give what JSON has"),
            ({"value": "x", "json": 1}, TypeError, "the value is 'x', a str, and json is given as well; give one of them"),
            ({}, TypeError, "the value is None"),
        ):
            with pytest.raises(kind, match=says):
                client.kv.put("a", **wrong)


def test_help_shows_a_methods_parameters_and_what_it_does() -> None:
    client: Any = Client("flo://127.0.0.1:1")
    assert str(inspect.signature(client.queues.ack)).startswith("(queue: str | bytes")
    assert "*receipts" in str(inspect.signature(client.queues.ack))
    shown = pydoc.plain(pydoc.render_doc(type(client.kv)))
    for part in ("put(self, key", "Set the key to `value`", "scan(self, prefix", "Every (key, value) with a prefix"):
        assert part in shown
    assert client.kv.put.__name__ == "put" and client.kv.put.__module__ == "flo.operations.kv"
    with pytest.raises(TypeError, match="unexpected keyword argument 'tll'"):
        client.kv.put("a", "b", tll=5)


def test_consuming_a_queue(flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        for number in range(5):
            client.queues.enqueue("q", str(number))
        seen = []
        for message in client.queues.consume("q", lease=60_000):
            seen.append(message.payload)
            client.queues.ack("q", message)
            if len(seen) == 5:
                break
        assert seen == [b"0", b"1", b"2", b"3", b"4"] and client.queues.dequeue("q") == []


def test_importing_the_package_imports_no_asyncio(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = "import sys, flo.client; sys.exit(bool({'asyncio', 'ssl', 'random', 'inspect'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
