"""A start that takes long: clients are accepted, told how far it is, and served on the same connection once it is done."""

import json
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from flo.engine import Engine, EngineSettings
from flo.operations import BY_NAME
from flo.proto import binary
from flo.proto.binary import FrameReader, Response, encode_request, split_response
from tests.support.processes import FloProcess, encode, free_port, wait_until
from tests.support.rest import Rest

pytestmark = pytest.mark.slow

# A start holds where it is, and goes on serving, until the test's file is there.
HELD = """
import os, sys, time
from flo import server
from flo.ual import recovery
server.LOADING_SECONDS = server.SERVE_ASIDE_SECONDS = 0
recovery.PROGRESS_BYTES = 20_000
plain = server.Server._load_on
def hold(self, done, total):
    plain(self, done, total)
    while done > total // 3 and not os.path.exists({go!r}):
        plain(self, done, total)
        time.sleep(0.002)
server.Server._load_on = hold
from flo.cli import main
sys.exit(main())
"""
SECRET = b"correct horse"


class Held:
    """A server in the middle of its start."""

    def __init__(self, tmp_path: Path, *flags: str) -> None:
        with Engine(str(tmp_path / "data"), EngineSettings(segment_bytes=1 << 16)) as engine, engine.batch():
            for i in range(2000):
                engine.kv.put(b"key:%d" % i, b"v" * 100)
        self.go = tmp_path / "go"
        self.port = free_port()
        self.server = FloProcess(
            tmp_path / "data", "--port", str(self.port), *flags, program=("-c", HELD.format(go=str(self.go))), start=False
        )
        self._starter = threading.Thread(target=self._start)
        self._starter.start()

    def _start(self) -> None:
        with suppress(RuntimeError):  # a test ended it before it was ready
            self.server.start()

    def connect(self) -> socket.socket:
        """A connection, as soon as it listens."""

        def attempt() -> socket.socket | None:
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=20)
            except ConnectionRefusedError:
                return None

        found: socket.socket = wait_until(attempt, "a server that listens while it loads")
        return found

    def let_go(self) -> None:
        """Let it finish."""
        self.go.touch()
        self._starter.join()

    def close(self) -> None:
        """End it."""
        self.let_go()
        self.server.__exit__(None, None, None)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    made = Held(tmp_path)
    yield made
    made.close()


def read_until(sock: socket.socket, end: bytes) -> bytes:
    """Everything up to `end`."""
    data = b""
    while not data.endswith(end):
        more = sock.recv(1 << 16)
        assert more, data
        data += more
    return data


def test_resp_clients_are_told_and_then_served(held: Held) -> None:
    """Each request has its -LOADING; the one that was half there when the start ended, too; the next is served."""
    with held.connect() as sock:
        sock.sendall(encode("GET", "key:1") + encode("SET", "a", "b" * 100_000) + b"PING\r\n")
        told = b""
        while told.count(b"\r\n") < 3:
            told += read_until(sock, b"\r\n")
        assert told.count(b"-LOADING Flo is reading its log: ") == 3
        sock.sendall(encode("INFO"))
        text = read_until(sock, b"\r\n\r\n").decode()
        fields = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
        assert fields["loading"] == "1"
        assert 0 < int(fields["loading_loaded_bytes"]) < int(fields["loading_total_bytes"])
        assert 30 < float(fields["loading_loaded_perc"]) < 100
        sock.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nkey")
        with redis.Redis(port=held.port) as client, pytest.raises(redis.exceptions.BusyLoadingError):
            client.get("key:1")
        held.let_go()
        sock.sendall(b":1\r\n" + encode("GET", "key:1"))
        reply = read_until(sock, b"v\r\n")
        assert reply.startswith((b"-LOADING", b"$100")), reply
        assert reply.endswith(b"$100\r\n" + b"v" * 100 + b"\r\n")
        sock.sendall(b"PING\r\nKEYS key:7\r\n")  # a job, behind something else
        assert read_until(sock, b"$5\r\nkey:7\r\n").startswith(b"+PONG\r\n*1\r\n")
        sock.sendall(encode("INFO", "persistence"))
        assert b"loading:0" in read_until(sock, b"flo_log_accepts_adds:1\r\n\r\n")


def test_binary_clients_are_told_and_then_served(held: Held) -> None:
    """OVERLOADED with the request's id, for a pipeline and for a payload that is received in place."""
    with held.connect() as sock:
        reader = FrameReader(24, 1 << 20)
        rest = b""

        def response() -> Response:
            nonlocal rest
            while True:
                frame, at = reader.parse(rest, 0)
                rest = rest[at:]
                if frame is not None:
                    return split_response(frame)
                more = sock.recv(1 << 16)
                assert more
                rest += more

        get = BY_NAME["kv_get"]
        sock.sendall(encode_request(get, 7, 0, b"key:1") + encode_request(BY_NAME["kv_put"], 8, 0, b"k", b"x" * 300_000))
        for req_id in (7, 8):
            told = response()
            assert (told.status, told.req_id) == (binary.OVERLOADED, req_id)
            assert b"reading its log" in told.payload
        held.let_go()
        sock.sendall(encode_request(get, 9, 0, b"key:1"))
        served = response()
        assert (served.status, served.req_id) == (binary.OK, 9) and served.payload.endswith(b"v" * 100)


def test_http_is_told(held: Held) -> None:
    held.connect().close()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{held.port}/ready", timeout=20)
    assert caught.value.code == 503 and b"reading its log" in caught.value.read()
    with Rest(held.port) as rest:
        assert rest.ask("GET", "/health").status == 200
        for path in ("/api/v1/kv/default/keys/key:1", "/api/v1/openapi.json"):
            answer = rest.ask("GET", path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1") and "reading its log" in answer.sentence
        assert rest.ask("GET", "/nothing").status == 404
        held.go.touch()
        wait_until(lambda: rest.ask("GET", "/ready").status == 200, "a server that is ready")
        assert rest.ask("GET", "/api/v1/kv/default/keys/key:1").body == b"v" * 100  # on the same connection


def test_nonsense_ends_its_own_connection_only(held: Held) -> None:
    """A protocol error, another version, random bytes; then a client that quits, and one that goes on."""
    for nonsense, expected in (
        (b"*1\r\n$x\r\n", b"-ERR Protocol error"),
        (b"FLO\x02" + bytes(28), b"FLO\x01\x02\x00"),
        (b"\x00\x01\x02", b""),
        (b"*3\r\n$99999999999\r\n", b"-ERR Protocol error"),
    ):
        with held.connect() as sock:
            sock.sendall(nonsense)
            said = b""
            while data := sock.recv(1 << 16):
                said += data
            assert said.startswith(expected) and bool(said) == bool(expected)
    with held.connect() as sock:
        sock.sendall(b"QUIT\r\nPING\r\n")
        assert read_until(sock, b"\r\n") == b"+OK\r\n" and sock.recv(10) == b""
    with held.connect() as sock:
        sock.sendall(b"PING\r\n")
        assert read_until(sock, b"\r\n").startswith(b"-LOADING")


def test_with_a_secret_nothing_is_told_but_that(tmp_path: Path) -> None:
    """And it is still owed afterwards."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    held = Held(tmp_path, "--secret-file", str(secret))
    try:
        with held.connect() as sock:
            sock.sendall(b"INFO\r\n")
            assert read_until(sock, b"\r\n").startswith(b"-LOADING")
            held.let_go()
            sock.sendall(encode("GET", "key:1"))
            assert read_until(sock, b"\r\n").startswith(b"-NOAUTH")
            sock.sendall(encode("AUTH", SECRET) + encode("GET", "key:1"))
            assert read_until(sock, b"v\r\n").startswith(b"+OK\r\n$100")
    finally:
        held.close()


def test_the_operator_is_told(tmp_path: Path) -> None:
    """A line in the log, and on a terminal one that is written over."""
    held = Held(tmp_path, "--log-format", "json")
    try:
        line = wait_until(lambda: next((x for x in held.server.output().splitlines() if "loading" in x), ""), "the line")
        entry = json.loads(line)
        assert entry["bytes"] < entry["total"] and "% of" in entry["message"]
        held.server.kill()  # nobody waits for the line that it listens, which is JSON too
    finally:
        held.close()


def test_a_stop_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    """SIGTERM while it loads ends it; the next start has everything."""
    held = Held(tmp_path)
    with held.connect() as sock:
        sock.sendall(b"PING\r\n")
        read_until(sock, b"\r\n")
        process = held.server.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert sock.recv(10) == b""
    held.close()
    with FloProcess(tmp_path / "data") as flo, flo.connect() as client:
        assert client.command("DBSIZE") == 2000
