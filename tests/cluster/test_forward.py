"""A connection that a follower passes on: what its client is told when the leader is gone."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flo.endpoint import Address
from flo.forward import Forwarded, Start
from tests.support.miniloop import MiniLoop
from tests.support.processes import FloProcess, encode, steady_port

pytestmark = pytest.mark.slow

REFUSAL = b"-READONLY the leader cannot be reached\r\n"
START = Start(b"", lambda _: None, b"INCR n\r\n", REFUSAL)


class Client:
    """The client's connection, which keeps what it is sent."""

    output_bytes = input_bytes = 0

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def push(self, data: bytes) -> None:
        self.sent += data

    def wake(self) -> None:
        """Nothing of it is kept."""

    def close_after_replies(self) -> None:
        self.closed = True


def test_a_request_that_was_sent_is_not_refused() -> None:
    """The leader may have executed it."""
    loop, client = MiniLoop(), Client()
    with socket.create_server(("127.0.0.1", 0)) as leader:
        Forwarded(loop, client, Address(socket.AF_INET, leader.getsockname()), START)
        accepted, _ = leader.accept()
        with accepted:
            accepted.setblocking(False)
            received: list[bytes] = []

            def has_received() -> bool:
                try:
                    received.append(accepted.recv(100))
                except BlockingIOError:
                    return False
                return True

            loop.run_until(has_received)
            assert received == [b"INCR n\r\n"]
    loop.run_until(lambda: client.closed)
    assert client.sent == b""


def test_a_request_that_cannot_be_sent_is_refused() -> None:
    loop, client = MiniLoop(), Client()
    Forwarded(loop, client, Address(socket.AF_INET, ("127.0.0.1", steady_port())), START)
    loop.run_until(lambda: client.closed)
    assert client.sent == REFUSAL


# A server that always follows the one at LEADER.
PROGRAM = """
import os, socket, sys
import flo.server as server
from flo.commands.host import READS

really = socket.getaddrinfo

def look_up(host, *given, **more):
    print("looks up", host, file=sys.stderr, flush=True)
    return really("127.0.0.1", *given, **more)

socket.getaddrinfo = look_up

class Follower(server.Server):
    def begin(self, now):
        self.engine.follow()
        self.engine.leader = os.environ["LEADER"]
        super().begin(now)
        self.serves = READS

server.Server = Follower
sys.argv[0] = "flo"
from flo.cli import main
sys.exit(main())
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[FloProcess, FloProcess]]:
    """A leader, and who follows it."""
    with FloProcess(tmp_path / "leader") as leader:
        address = {"LEADER": f"flo-a.test:{leader.port}", "FLO_RESP_DATABASES": "default,orders"}
        with FloProcess(tmp_path / "follower", program=["-c", PROGRAM], environment=address) as follower:
            yield leader, follower


def all_of(sock: socket.socket) -> bytes:
    """What comes until the other side ends."""
    sock.settimeout(10)
    pieces = []
    while piece := sock.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def test_a_client_that_has_sent_all_gets_every_answer(pair: tuple[FloProcess, FloProcess]) -> None:
    """The leader's answers come in many pieces; the first ones end nothing."""
    leader, follower = pair
    with leader.connect() as client:
        client.command("SET", "large", "x" * 8_000_000)
    with socket.create_connection(("127.0.0.1", follower.port)) as client:
        client.sendall(encode("INCR", "n") + encode("GET", "large") * 3)
        client.shutdown(socket.SHUT_WR)
        assert len(all_of(client)) == len(b":1\r\n") + 3 * (8_000_000 + len(b"$8000000\r\n\r\n"))


def test_a_client_that_has_sent_much_and_all_is_told_the_end(pair: tuple[FloProcess, FloProcess]) -> None:
    """What it sent last is kept at the follower for a while."""
    _, follower = pair
    with socket.create_connection(("127.0.0.1", follower.port)) as client:

        def send() -> None:
            client.sendall(encode("INCR", "n") * 400_000)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        answers = all_of(client)
        sender.join()
    assert answers.count(b"\r\n") == 400_000 and answers.endswith(b":400000\r\n")


def test_a_namespace_that_the_leader_does_not_have_is_not_another(pair: tuple[FloProcess, FloProcess]) -> None:
    """It was deleted there, and the follower has not heard of that."""
    leader, follower = pair
    with follower.connect() as client:
        client.command("USE", "orders")
        assert "no namespace" in str(client.command("SET", "k", "v"))
    with leader.connect() as client:
        assert client.command("GET", "k") is None


def test_the_name_of_the_leader_is_not_looked_up_for_each_connection(pair: tuple[FloProcess, FloProcess]) -> None:
    """Nothing else is done meanwhile: for seconds, where names cannot be looked up."""
    _, follower = pair
    for number in range(1, 4):
        with follower.connect() as client:
            assert client.command("INCR", "n") == number
    assert follower.output().count("looks up flo-a.test") == 1


@pytest.mark.slow
def test_a_leader_that_stands_still_costs_the_follower_nothing(pair: tuple[FloProcess, FloProcess]) -> None:
    """The client goes on sending: its bytes are kept, and nothing is tried again and again."""
    leader, follower = pair
    with socket.create_connection(("127.0.0.1", follower.port)) as client, follower.connect() as other:
        client.sendall(encode("INCR", "n"))
        assert client.recv(100) == b":1\r\n"
        os.kill(leader.pid, signal.SIGSTOP)
        try:
            client.setblocking(False)
            sent, deadline = 0, time.monotonic() + 20
            while sent < 8_000_000 and time.monotonic() < deadline:
                with suppress(BlockingIOError):
                    sent += client.send(encode("INCR", "n") * 10_000)
                assert other.command("PING") == b"PONG"
            assert sent >= 8_000_000
            before = follower.cpu_seconds()
            time.sleep(1)
            assert follower.cpu_seconds() - before < 0.5
        finally:
            os.kill(leader.pid, signal.SIGCONT)
