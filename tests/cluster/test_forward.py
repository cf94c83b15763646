"""A connection that a follower passes on: what its client is told when the leader is gone."""

import socket

from flo.forward import Forwarded, Start
from tests.support.miniloop import MiniLoop
from tests.support.processes import steady_port

REFUSAL = b"-READONLY the leader cannot be reached\r\n"
START = Start(b"", lambda _: 0, b"INCR n\r\n", REFUSAL)


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
        Forwarded(loop, client, leader.getsockname(), START)
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
    Forwarded(loop, client, ("127.0.0.1", steady_port()), START)
    loop.run_until(lambda: client.closed)
    assert client.sent == REFUSAL
