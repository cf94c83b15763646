"""TLS on the port: every protocol within it, with clients of the field; certificates replaced; handshakes that are none."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.commands.protocols import FirstBytes
from flo.config import Settings
from flo.conn import Connection
from flo.errors import ConfigError
from flo.operations import BY_NAME
from flo.proto.binary import RESPONSE_BYTES, encode_request
from flo.tls import server_context
from flo.transport import PlainTransport
from tests.server.test_together import Turns
from tests.support.certificates import Authority, Files, environment
from tests.support.examples import examples
from tests.support.processes import FloProcess, encode, wait_until

pytestmark = pytest.mark.slow

SECONDS = 20
HEADER_MS = 1500
SHORT = {"FLO_LIMITS_HEADER_TIMEOUT": f"{HEADER_MS}ms", "FLO_LIMITS_STALL_TIMEOUT": "1500ms"}
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PING = encode_request(BY_NAME["ping"], 7, 0, b"", b"echo", {})


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def files(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return authority.issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    with FloProcess(tmp_path_factory.mktemp("tls") / "data", environment=environment(files) | SHORT) as server:
        yield server
        assert server.alive(), server.output()


@pytest.fixture(scope="module")
def strict(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    """It serves nothing but TLS."""
    with FloProcess(tmp_path_factory.mktemp("strict") / "data", environment=environment(files, only="true") | SHORT) as server:
        yield server


def dial(server: FloProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), SECONDS)


def secured(server: FloProcess, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(dial(server), server_hostname="localhost")


def read_to_end(sock: socket.socket) -> bytes:
    received = b""
    while piece := sock.recv(1 << 16):
        received += piece
    return received


# -- clients of the field --------------------------------------------------------------------------


def test_redis_cli(server: FloProcess, files: Files) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is missing: apt-get install redis-tools")
    call = ["redis-cli", "-h", "127.0.0.1", "-p", str(server.port), "--tls", "--cacert", str(files.authority)]
    assert subprocess.run([*call, "SET", "from cli", "value"], capture_output=True, timeout=SECONDS, check=True).stdout == b"OK\n"
    assert subprocess.run([*call, "GET", "from cli"], capture_output=True, timeout=SECONDS, check=True).stdout == b"value\n"


def test_redis_py(server: FloProcess, files: Files) -> None:
    with redis.Redis("127.0.0.1", server.port, ssl=True, ssl_ca_certs=str(files.authority), socket_timeout=SECONDS) as client:
        assert client.set("from py", "value") is True and client.get("from py") == b"value"
        large = os.urandom(5 << 20)
        assert client.set("large", large) is True and client.get("large") == large
        pipeline = client.pipeline(transaction=False)
        for number in range(1000):
            pipeline.set(f"many:{number}", "v" * number)
        assert pipeline.execute() == [True] * 1000
        assert client.mget([f"many:{number}" for number in range(1000)]) == [b"v" * number for number in range(1000)]


def test_curl(server: FloProcess, files: Files) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is missing: apt-get install curl")
    url = f"https://127.0.0.1:{server.port}/api/v1/kv/default/keys/from-curl"
    call = ["curl", "-sS", "--fail-with-body", "--cacert", str(files.authority)]
    subprocess.run([*call, "-X", "PUT", "--data-binary", "value", url], capture_output=True, timeout=SECONDS, check=True)
    assert subprocess.run([*call, url], capture_output=True, timeout=SECONDS, check=True).stdout == b"value"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_protocol_within_it(server: FloProcess, authority: Authority, version: ssl.TLSVersion) -> None:
    context = authority.client()
    context.minimum_version = context.maximum_version = version
    with secured(server, context) as sock:
        sock.sendall(encode("PING") + encode("QUIT"))
        assert read_to_end(sock) == b"+PONG\r\n+OK\r\n"
    with secured(server, context) as sock:
        sock.sendall(b"PING\r\nQUIT\r\n")
        assert read_to_end(sock) == b"+PONG\r\n+OK\r\n"
    with secured(server, context) as sock:
        sock.sendall(GET)
        assert read_to_end(sock).startswith(b"HTTP/1.1 200 ")
    with secured(server, context) as sock:
        sock.sendall(PING)
        assert sock.recv(1000)[RESPONSE_BYTES:] == b"echo"
    with secured(server, context) as sock:
        sock.sendall(b"*x\r\n")
        assert read_to_end(sock).startswith(b"-ERR Protocol error"), "the last words come, and the end of TLS behind them"


def test_the_same_port_serves_plain_text_too(server: FloProcess) -> None:
    with server.connect() as client:
        assert client.command("PING") == b"PONG"


def test_there_is_no_tls_within_tls(server: FloProcess, authority: Authority) -> None:
    with secured(server, authority.client()) as sock:
        sock.sendall(b"\x16\x03\x01\x00\x10" + bytes(100))
        assert read_to_end(sock) == b""


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [GET, PING, encode("PING"), b"PING\r\n", b"\0\0", b"\r\n\r\n" + encode("PING")])
def test_no_plain_text_is_answered_where_tls_is_all(strict: FloProcess, data: bytes) -> None:
    with dial(strict) as sock:
        sock.sendall(data)
        assert sock.recv(1000) == b""


@pytest.mark.slow
def test_one_who_says_nothing_owes_the_handshake(strict: FloProcess, authority: Authority) -> None:
    with dial(strict) as silent, dial(strict) as halfway, secured(strict, authority.client()) as quiet:
        halfway.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert silent.recv(1) == b"" and halfway.recv(1) == b""
        quiet.sendall(encode("PING"))  # its handshake was whole: it may be silent for as long as it likes
        assert quiet.recv(100) == b"+PONG\r\n"


@pytest.mark.slow
def test_one_who_stops_in_the_handshake_is_closed_and_disturbs_nobody(server: FloProcess, authority: Authority) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    stopped = [dial(server) for _ in range(20)]
    try:
        for at, sock in enumerate(stopped):
            sock.sendall(hello if at % 2 else hello[: 5 + at * 10])
        with secured(server, authority.client()) as quiet, server.connect() as neighbour:
            for sock in stopped:
                read_to_end(sock)  # to the end: it is closed
                assert neighbour.command("PING") == b"PONG"
            quiet.sendall(encode("PING"))
            assert quiet.recv(100) == b"+PONG\r\n"
    finally:
        for sock in stopped:
            sock.close()


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions_are_refused(server: FloProcess, authority: Authority, version: str) -> None:
    context = authority.client()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with contextlib.suppress(DeprecationWarning), pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with pytest.raises(ssl.SSLError, match=r"(?i)version|unsupported"):
        secured(server, context)


def test_nobody_renegotiates(server: FloProcess, files: Files) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: apt-get install openssl")
    call = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_2", "-CAfile", str(files.authority)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdin is not None and client.stdout is not None
        while b"Verify return code" not in (line := client.stdout.readline()):
            assert line, "it ended before the handshake"
        client.stdin.write(b"R\n")
        client.stdin.flush()
        said = client.stdout.read()  # it ends by itself
    assert b"RENEGOTIATING" in said and b"no renegotiation" in said, said


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x03\xff\xff" + bytes(70_000), b"\x16\x03\x00" + b"\xff" * 300])
def test_what_only_begins_like_tls_is_closed(server: FloProcess, data: bytes) -> None:
    with dial(server) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(data)
        assert b"+" not in read_to_end(sock)
    with server.connect() as client:
        assert client.command("PING") == b"PONG"


# -- certificates ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_certificate_is_replaced_while_clients_run(tmp_path: Path) -> None:
    old, new = Authority(), Authority()
    files = old.issue(tmp_path)
    with FloProcess(tmp_path / "data", environment=environment(files)) as server:
        failures: list[BaseException] = []
        stop, connected = threading.Event(), threading.Barrier(51)

        def work(number: int) -> None:
            try:
                with secured(server, old.client()) as sock, sock.makefile("rb") as answers:
                    connected.wait(SECONDS)
                    while not stop.is_set():
                        sock.sendall(encode("INCR", f"counter:{number}"))
                        assert answers.readline().startswith(b":")
            except BaseException as e:
                failures.append(e)

        clients = [threading.Thread(target=work, args=(number,)) for number in range(50)]
        for client in clients:
            client.start()
        try:
            connected.wait(SECONDS)
            issued = new.issue(tmp_path, file="new")
            os.replace(issued.key, files.key)
            os.replace(issued.certificate, files.certificate)
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: "SIGHUP: read the certificate" in server.output(), "the line in the log")
            with secured(server, new.client()) as sock:
                sock.sendall(encode("PING"))
                assert sock.recv(100) == b"+PONG\r\n"
            with pytest.raises(ssl.SSLCertVerificationError):
                secured(server, old.client())
            files.certificate.write_text("no certificate")
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: "The certificate that was read before is used on." in server.output(), "the line in the log")
            with secured(server, new.client()):
                pass
        finally:
            stop.set()
            for client in clients:
                client.join(SECONDS)
        assert failures == [] and server.alive()


def test_clients_show_a_certificate_where_it_is_asked_for(authority: Authority, tmp_path: Path) -> None:
    files, theirs = authority.issue(tmp_path), authority.issue(tmp_path, "client", "client")
    (tmp_path / "other").mkdir()
    stranger = Authority().issue(tmp_path / "other", "stranger", "stranger")
    asked = environment(files, client_ca_file=str(files.authority))
    with FloProcess(tmp_path / "data", environment=asked) as server:
        with secured(server, authority.client(theirs)) as sock:
            sock.sendall(encode("PING"))
            assert sock.recv(100) == b"+PONG\r\n"
        for context in (authority.client(), authority.client(stranger)):
            with pytest.raises((ssl.SSLError, ConnectionError)), secured(server, context) as sock:  # TLS 1.3 tells behind the handshake
                sock.sendall(encode("PING"))
                assert sock.recv(100) == b"", "a client without a right certificate was served"
                raise ConnectionError


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda files: {"tls_cert_file": "/nowhere"}, "tls.cert_file /nowhere cannot be read: No such file"),
        (lambda files: {"tls_key_file": "/nowhere"}, "tls.key_file /nowhere cannot be read"),
        (lambda files: {"tls_key_file": str(files.certificate)}, "no PEM file of that kind"),
        (lambda files: {"tls_client_ca_file": str(files.key)}, "tls.client_ca_file .* cannot be used"),
    ],
)
def test_files_that_cannot_be_used(files: Files, change: Callable[[Files], dict[str, str]], sentence: str) -> None:
    given = {"tls_cert_file": str(files.certificate), "tls_key_file": str(files.key)} | change(files)
    with pytest.raises(ConfigError, match=sentence):
        server_context(Settings(**given))


def test_a_key_of_another_certificate_or_with_a_password(authority: Authority, files: Files, tmp_path: Path) -> None:
    other = authority.issue(tmp_path)
    with pytest.raises(ConfigError, match="the key is not the certificate's"):
        server_context(Settings(tls_cert_file=str(files.certificate), tls_key_file=str(other.key)))
    locked = tmp_path / "locked.key"
    call = ["openssl", "rsa" if b"RSA" in other.key.read_bytes() else "ec", "-aes256", "-passout", "pass:word", "-out", str(locked)]
    subprocess.run([*call, "-in", str(other.key)], check=True, capture_output=True, timeout=SECONDS)
    with pytest.raises(ConfigError, match="is encrypted"):
        server_context(Settings(tls_cert_file=str(other.certificate), tls_key_file=str(locked)))


def test_tls_only_without_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"tls\.cert_file is not: name the certificate's file"):
        FloProcess(tmp_path / "data", environment={"FLO_TLS_ONLY": "true"})


# -- bytes -----------------------------------------------------------------------------------------


class Client:
    """The client's side in memory, so that a test cuts its bytes where it likes."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.is_open = False
        self.received = b""
        self.to_send = b""

    def write(self, data: bytes, records: list[int]) -> None:
        """Encrypt, in records of these sizes."""
        at = turn = 0
        while at < len(data):
            at += self.tls.write(data[at : at + records[turn % len(records)]])
            turn += 1

    def step(self, size: int, reads: bool = True) -> None:
        """Send up to `size` bytes of what is encrypted; read what has come."""
        self.to_send += self.outgoing.read()
        with contextlib.suppress(BlockingIOError):
            if self.to_send:
                self.to_send = self.to_send[self.sock.send(self.to_send[:size]) :]
        if not reads:
            return
        with contextlib.suppress(BlockingIOError):
            self.incoming.write(self.sock.recv(1 << 16))
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.is_open:
                self.tls.do_handshake()
                self.is_open = True
            while True:
                self.received += self.tls.read(1 << 16)


@contextlib.contextmanager
def exchanging(authority: Authority, files: Files, together: bool, buffer: int = 0) -> Iterator[tuple[Turns, Client]]:
    """A server whose turns the test does, and one client that has not shaken hands yet. `buffer` bounds what the kernel takes."""
    host: Any = Turns(together, 0, 0)
    host.tls = server_context(Settings(tls_cert_file=str(files.certificate), tls_key_file=str(files.key)))
    host.known = lambda peer: None
    ours, theirs = socket.socketpair()
    try:
        for sock in (ours, theirs):
            sock.setblocking(False)
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        connection = Connection(host, PlainTransport(ours), 0, "client", "server")
        host.by_descriptor[connection.descriptor] = connection
        host.all.append(connection)
        connection.begin(FirstBytes(host, connection))
        yield host, Client(authority.client(), theirs)
    finally:
        for each in host.all:
            each.kill()
        theirs.close()
        host.close()


@examples(60)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 3, 200, 16_384, 20_000, 70_000, 200_000]), min_size=1, max_size=6),
    records=st.lists(st.sampled_from([1, 2, 100, 5000, 16_383, 16_384]), min_size=1, max_size=4),
    pieces=st.lists(st.one_of(st.integers(1, 60), st.integers(500, 70_000)), min_size=1, max_size=5),
    together=st.booleans(),
)
def test_records_of_any_size_cut_anywhere(
    authority: Authority, files: Files, sizes: list[int], records: list[int], pieces: list[int], together: bool
) -> None:
    """All requests are answered, in order."""
    data = b"".join(encode("SET", f"k{number}", "v" * size) + encode("STRLEN", f"k{number}") for number, size in enumerate(sizes))
    if max(records) < 100:
        records = [*records, 16_384]  # else a record a byte: 30 bytes each
    if max(pieces) < 500:
        pieces = [*pieces, 50_000]
    with exchanging(authority, files, together) as (host, client):
        expected = b"".join(b"+OK\r\n:%d\r\n" % size for size in sizes)
        turn = 0
        while not client.is_open and turn < 10_000:
            client.step(pieces[turn % len(pieces)])
            host.turn(1)
            turn += 1
        client.write(data, records)
        while len(client.received) < len(expected) and turn < 200_000:
            client.step(pieces[turn % len(pieces)])
            host.turn(1)
            turn += 1
        assert client.received == expected


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 5000, 16_384, 100_000, 400_000]), min_size=1, max_size=5),
    pauses=st.lists(st.booleans(), min_size=1, max_size=5),
    together=st.booleans(),
)
def test_what_the_kernel_does_not_take_comes_later(
    authority: Authority, files: Files, sizes: list[int], pauses: list[bool], together: bool
) -> None:
    """A client that reads now and then gets every byte once, in order."""
    with exchanging(authority, files, together, buffer=4096) as (host, client):
        turn = 0
        while not client.is_open and turn < 1000:
            client.step(1 << 20)
            host.turn(1)
            turn += 1
        expected = b""
        for number, size in enumerate(sizes):
            value = bytes([number + 1]) * size
            host.engine.kv.put(b"k%d" % number, value)
            expected += b"$%d\r\n%s\r\n" % (size, value)
        client.write(b"".join(encode("GET", f"k{number}") for number in range(len(sizes))), [16_384])
        while len(client.received) < len(expected) and turn < 100_000:
            client.step(1 << 20, reads=pauses[turn % len(pauses)] or turn % 7 == 0)
            host.turn(1)
            turn += 1
        assert client.received == expected
