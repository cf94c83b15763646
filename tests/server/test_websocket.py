"""The binary protocol over `/ws`, with the `websockets` package as the client, and with bytes."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from flo.commands.http import websocket as ws_module
from flo.operations import BY_NAME
from flo.proto.binary import MAGIC, RESPONSE, RESPONSE_BYTES, encode_request
from tests.proto.test_websocket import frame
from tests.support.certificates import Authority, environment
from tests.support.processes import FloProcess
from tests.support.rest import Rest

SECONDS = 20
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13", "Sec_WebSocket_Key": KEY}


def dial(server: FloProcess) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}/ws", max_size=None, compression=None, open_timeout=SECONDS)


def asked(name: str, req_id: int, key: bytes = b"", value: bytes = b"", **options: object) -> bytes:
    return encode_request(BY_NAME[name], req_id, 0, key, value, options)


def answer(ws: ClientConnection) -> tuple[int, int, bytes]:
    """(status, id, payload) of the next message, which is one response."""
    data = ws.recv(SECONDS)
    assert isinstance(data, bytes)
    magic, status, _, req_id, length = RESPONSE.unpack(data[:RESPONSE_BYTES])
    assert magic == MAGIC and len(data) == RESPONSE_BYTES + length
    return status, req_id, data[RESPONSE_BYTES:]


@pytest.fixture
def ws(shared_flo: FloProcess) -> Iterator[ClientConnection]:
    with dial(shared_flo) as client:
        yield client


def test_requests_and_responses(ws: ClientConnection) -> None:
    ws.send(asked("ping", 1, value=b"echo"))
    assert answer(ws) == (0, 1, b"echo")
    ws.send(asked("kv_put", 2, b"ws:k", b"value") + asked("kv_get", 3, b"ws:k") + asked("kv_get", 4, b"ws:missing"))
    assert [answer(ws)[:2] for _ in range(3)] == [(0, 2), (0, 3), (1, 4)]
    ws.send(b"")
    ws.send(asked("ping", 5)[:20])  # a request may be cut anywhere: messages are only its parcels
    ws.send(asked("ping", 5)[20:])
    assert answer(ws)[:2] == (0, 5)
    assert ws.ping().wait(SECONDS)


def test_large_values_and_many_requests(ws: ClientConnection) -> None:
    value = os.urandom(5_000_000)
    ws.send(asked("kv_put", 1, b"ws:large", value))
    assert answer(ws)[:2] == (0, 1)
    ws.send(asked("kv_get", 2, b"ws:large"))
    assert answer(ws)[2][8:] == value
    ws.send([asked("ping", number, value=bytes(number)) for number in range(2000)])  # one message of 2,000 frames
    assert [answer(ws)[1:] for _ in range(2000)] == [(number, bytes(number)) for number in range(2000)]
    ws.send(asked("kv_delete", 3, b"ws:large"))
    assert answer(ws)[0] == 0


def test_a_client_that_reads_late_gets_all(ws: ClientConnection) -> None:
    ws.send(asked("kv_put", 1, b"ws:large", b"v" * 1_000_000))
    assert answer(ws)[0] == 0
    for number in range(40):
        ws.send(asked("kv_get", number, b"ws:large"))
    assert [len(answer(ws)[2]) for _ in range(40)] == [1_000_008] * 40


def test_a_request_that_waits_holds_up_none(ws: ClientConnection) -> None:
    ws.send(asked("kv_get", 1, b"ws:later", wait=10_000) + asked("ping", 2))
    assert answer(ws)[:2] == (0, 2)
    ws.send(asked("kv_put", 3, b"ws:later", b"now"))
    assert {answer(ws)[1], answer(ws)[1]} == {1, 3}
    ws.send(asked("kv_delete", 4, b"ws:later"))
    assert answer(ws)[0] == 0


@pytest.mark.parametrize(("data", "code"), [("text", 1003), (b"no request" * 10, 1000)])
def test_what_closes_it(shared_flo: FloProcess, data: str | bytes, code: int) -> None:
    with dial(shared_flo) as ws:
        ws.send(data)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                ws.recv(SECONDS)
        assert closed.value.rcvd is not None and closed.value.rcvd.code in (code, 1001)


TOO_LONG = frame(2, b"", length=b"\x7f" + (1 << 40).to_bytes(8))


@pytest.mark.parametrize(
    ("data", "code"), [(frame(2, b"x", mask=None), 1002), (frame(3, b""), 1002), (TOO_LONG, 1009), (frame(8, b"\x0b\xb8"), 3000)]
)
def test_frames_that_close_it_and_the_close_handshake(shared_flo: FloProcess, data: bytes, code: int) -> None:
    """What came before is answered."""
    with socket.create_connection(("127.0.0.1", shared_flo.port), SECONDS) as sock, sock.makefile("rb") as file:
        fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in UPGRADE.items())
        first = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        sock.sendall(f"{first}GET /ws HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n") or b"101 " not in head:
            head += file.read(1)
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        sock.sendall(frame(2, asked("ping", 1)) + data)
        said = file.read()  # to the end, which the server makes
    assert said[:2] == b"\x82\x18" and said[2 : 2 + RESPONSE_BYTES].startswith(MAGIC)
    assert said[26:27] == b"\x88" and int.from_bytes(said[28:30]) == code


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Upgrade": "h2c"}, 426), ({"Connection": "keep-alive"}, 426), ({"Sec_WebSocket_Version": "8"}, 426),
        ({"Sec_WebSocket_Key": "short"}, 400), ({"Origin": "https://evil.example.com"}, 403), ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Host": "evil.example.com"}, 421),
    ],
)  # fmt: skip
def test_what_is_no_upgrade(shared_flo: FloProcess, changed: dict[str, str], status: int) -> None:
    with Rest(shared_flo.port) as rest:
        refused = rest.ask("GET", "/ws", None, **{**UPGRADE, **changed})
        assert refused.status == status and refused.sentence


@pytest.mark.slow
def test_the_secret_is_owed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("right")
    secret.chmod(0o600)
    with FloProcess(tmp_path / "data", environment={"FLO_SECRET_FILE": str(secret), "FLO_LIMITS_HEADER_TIMEOUT": "1500ms"}) as server:
        with dial(server) as ws:
            ws.send(asked("kv_get", 1, b"k") + asked("ping", 2))
            assert [answer(ws)[:2] for _ in range(2)] == [(4, 1), (0, 2)]
            ws.send(asked("auth", 3, value=b"right") + asked("kv_put", 4, b"k", b"v"))
            assert [answer(ws)[:2] for _ in range(2)] == [(0, 3), (0, 4)]
            ws.send(asked("kv_put", 5, b"k", bytes(1_000_000)))
            assert answer(ws)[:2] == (0, 5)
        with dial(server) as ws, pytest.raises(ConnectionClosed):
            ws.recv(SECONDS)  # it is closed: the secret is owed
        with dial(server) as ws:
            ws.send(asked("kv_put", 1, b"k", bytes(200_000)))
            with pytest.raises(ConnectionClosed) as closed:
                ws.recv(SECONDS)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


def test_within_tls(tmp_path: Path) -> None:
    authority = Authority()
    files = authority.issue(tmp_path)
    with FloProcess(tmp_path / "data", environment=environment(files, only="true")) as server:
        sock = socket.create_connection(("127.0.0.1", server.port), SECONDS)
        with connect(f"wss://localhost:{server.port}/ws", ssl=authority.client(), sock=sock, max_size=None) as ws:
            value = os.urandom(3_000_000)
            ws.send(asked("kv_put", 1, b"k", value) + asked("kv_get", 2, b"k"))
            assert answer(ws)[:2] == (0, 1) and answer(ws)[2][8:] == value


class Silent:
    """A host, a peer and a transport in one, with timers and a clock of the test's."""

    secret = counters = None
    heard_at = 0.0

    def __init__(self) -> None:
        self.pings = self.killed = 0
        self.call: Callable[[], None] = lambda: None

    def ping(self) -> None:
        self.pings += 1

    def kill(self) -> None:
        self.killed += 1

    def cancel(self) -> None:
        """Of a timer."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> "Silent":
        self.call = call
        return self


def test_a_silent_client_is_pinged_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = Silent()
    session = ws_module.WebSocketSession(fake, fake, fake)
    moments = ((30.0, 5.0, 0, 0), (35.0, 5.0, 1, 0), (45.0, 36.0, 1, 0), (66.0, 36.0, 2, 0), (76.0, 36.0, 2, 1))
    for now, heard, pings, killed in moments:
        monkeypatch.setattr(ws_module, "monotonic", lambda now=now: now)
        fake.heard_at = heard
        fake.call()
        assert (fake.pings, fake.killed) == (pings, killed), now
    session.end()


def test_it_is_listed_and_counted(ws: ClientConnection, shared_flo: FloProcess) -> None:
    ws.send(asked("ping", 1))
    assert answer(ws)[0] == 0
    with Rest(shared_flo.port) as rest:
        clients = rest.ask("GET", "/api/v1/views/clients?limit=1000").json["clients"]
        assert any(client["protocol"] == "websocket" for client in clients)
        assert 'protocol="websocket"' in rest.ask("GET", "/metrics").body.decode()
