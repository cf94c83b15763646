"""Who should not: requests that two servers could read differently, pages of other sites, names that are not the server's."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proto.http_corpus import REFUSED, Refused
from tests.support.processes import FloProcess, encode
from tests.support.rest import Rest

pytestmark = [pytest.mark.slow, pytest.mark.computes]
K = "/api/v1/kv/default/keys/k"
SECONDS = 5
LISTED = "https://app.example.com"


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    """A server with names of its own, and a site whose pages may use it."""
    environment = {"FLO_HTTP_HOSTS": "flo.example.com", "FLO_HTTP_ORIGINS": LISTED, "FLO_ADVERTISE": "db.example.com:9000"}
    with FloProcess(tmp_path_factory.mktemp("named") / "data", environment=environment) as server:
        yield server


def answer_to(server: FloProcess, data: bytes, ends: bool = False) -> bytes:
    """All that the server says, to the end that it makes. `ends`: the client sends no more."""
    with socket.create_connection(("127.0.0.1", server.port), SECONDS) as sock:
        sock.sendall(data)
        if ends:
            sock.shutdown(socket.SHUT_WR)
        received = b""
        while piece := sock.recv(1 << 16):
            received += piece
        return received


# Where the body's limit is asked for, the corpus has a small one; and the first line decides that it is HTTP at all, so a good request
# stands before each
FIRST = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("case", [case for case in REFUSED if "over the limit" not in case.why], ids=lambda case: case.why)
def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_closed(shared_flo: FloProcess, case: Refused) -> None:
    """Behind each stands a second request, hidden from one of the two readings: nobody answers it."""
    answer = answer_to(shared_flo, FIRST + case.data)
    assert re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", answer) == [b"200", b"%d" % case.status], answer
    assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.example.com", "127.0.0.1.evil.example.com", "flo.example.com.evil"])
def test_a_name_that_is_not_the_servers_is_misdirected(named: FloProcess, host: str) -> None:
    """A page of evil.example.com, whose name leads to this machine a moment later, is of the same origin for the browser."""
    with Rest(named.port) as rest:
        refused = rest.ask("PUT", K, b"changed", Host=host)
        assert refused.status == 421 and "http.hosts" in refused.sentence
        assert rest.ask("GET", K).status == 404


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:9000", "10.1.2.3:80", "flo.example.com", "DB.example.com:9000"]
)
def test_the_names_of_the_server(named: FloProcess, host: str) -> None:
    with Rest(named.port) as rest:
        assert rest.ask("GET", "/health", Host=host).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": f"{LISTED}.evil"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_a_page_of_another_site_is_refused_before_anything_runs(named: FloProcess, method: str, fields: dict[str, str]) -> None:
    path = "/api/v1/queues/default/q/messages" if method == "POST" else K
    with Rest(named.port) as rest:
        refused = rest.ask(method, path, b"changed" if method in ("PUT", "POST") else None, **fields)
        assert refused.status == 403 and "http.origins" in refused.sentence
        assert not any(name.startswith("access-control") for name in refused.headers)
        assert rest.ask("GET", K).status == 404
        assert rest.ask("GET", "/api/v1/queues/default").json["queues"] == []


def test_its_own_pages_and_those_of_a_listed_site_are_served(named: FloProcess) -> None:
    with Rest(named.port) as rest:
        own = rest.ask("GET", "/api/v1/namespaces", Origin=f"http://127.0.0.1:{named.port}", Sec_Fetch_Site="same-origin")
        assert own.status == 200 and "access-control-allow-origin" not in own.headers
        asked = rest.ask("OPTIONS", K, Origin=LISTED, Access_Control_Request_Method="PUT")
        assert asked.status == 204 and asked.headers["access-control-allow-origin"] == LISTED and asked.headers["vary"] == "Origin"
        assert "PUT" in asked.headers["access-control-allow-methods"] and "Authorization" in asked.headers["access-control-allow-headers"]
        found = rest.ask("GET", "/api/v1/kv/default/keys/missing", Origin=LISTED, Sec_Fetch_Site="cross-site")
        assert found.status == 404 and found.headers["access-control-allow-origin"] == LISTED
        assert not any(name.startswith("access-control") for name in rest.ask("OPTIONS", K).headers)


def test_a_form_whose_body_holds_commands_runs_none(named: FloProcess) -> None:
    """A browser sends text/plain to any server without asking."""
    body = b"\r\n" + encode("SET", "k", "changed") + b"SET k changed\r\n"
    for head in (b"POST / HTTP/1.1", b"POST / HTTP/1.0", b"POST /"):
        data = head + b"\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body + b"QUIT\r\n"
        assert b"+OK" not in answer_to(named, data, ends=True)
    with named.connect() as client:
        assert client.command("GET", "k") is None


def test_every_answer_says_what_a_browser_may_make_of_it(named: FloProcess) -> None:
    with Rest(named.port) as rest:
        for answer in (rest.ask("GET", "/health"), rest.ask("GET", "/nothing"), rest.ask("PUT", "/api/v1/kv/default/keys/h", b"<b>x</b>")):
            assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        shown = rest.ask("GET", "/api/v1/kv/default/keys/h")
        assert shown.body == b"<b>x</b>" and shown.headers["content-type"] == "application/octet-stream"


def test_no_secret_comes_back(tmp_path: Path) -> None:
    """Not in an answer, not in the log, nor in what operators look at."""
    secret, wrong = "the-secret-itself", "a-wrong-secret"
    file = tmp_path / "secret"
    file.write_text(secret)
    file.chmod(0o600)
    with FloProcess(tmp_path / "data", environment={"FLO_SECRET_FILE": str(file), "FLO_LOG_LEVEL": "debug"}) as server:
        with Rest(server.port) as rest, server.connect() as client:

            def ask(path: str, given: str = secret) -> bytes:
                return rest.ask("GET", path, authorization=f"Bearer {given}").body

            seen = [ask(f"/api/v1/namespaces?p={secret}&q={wrong}", wrong)]
            assert client.command("AUTH", secret) == b"OK"
            assert client.command("CONFIG", "SET", "slowlog-log-slower-than", "0") == b"OK"
            ask(f"/api/v1/namespaces?p={secret}")
            client.command("AUTH", wrong)
            asked = ("SLOWLOG GET", "CONFIG GET *", "CLIENT LIST", "INFO everything")
            seen += [str(client.command(*words.split())).encode() for words in asked]
            seen += [ask(path) for path in ("/api/v1/views/log", "/api/v1/views/slow", "/api/v1/views/settings", "/metrics")]
        for text in (*seen, server.output().encode()):
            assert secret.encode() not in text and wrong.encode() not in text, text
