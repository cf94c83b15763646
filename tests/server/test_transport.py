"""A connection over a transport that keeps received bytes which the poller does not tell of, as TLS will."""

import contextlib
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from flo.commands.resp.session import RespSession
from flo.conn import Connection
from flo.transport import PlainTransport
from tests.server.test_together import Turns
from tests.support.processes import encode

RECORD_BYTES = 16 << 10  # of a TLS record
LEAST = 500  # bytes of a record, and sent at once


class RecordTransport:
    """Takes what the socket has by the record, however little room there is for it, and keeps the rest."""

    def __init__(self, sock: socket.socket, record: int) -> None:
        self.plain = PlainTransport(sock)
        self.descriptor, self.send = self.plain.descriptor, self.plain.send
        self.end_input = self.plain.end_input
        self.unacknowledged, self.end_output, self.close = self.plain.unacknowledged, self.plain.end_output, self.plain.close
        self.record = record
        self.kept = b""

    @property
    def readable(self) -> bool:
        return bool(self.kept)

    def receive(self, size: int) -> bytes:
        kept, self.kept = self.kept, b""
        return kept or self.plain.receive(size)

    def receive_into(self, room: memoryview) -> int:
        data = self.kept or self.plain.receive(self.record)
        count = min(len(room), len(data))
        room[:count] = data[:count]
        self.kept = data[count:]
        return count


def served(host: Turns, client: socket.socket, data: bytes, pieces: list[int], expected: int) -> bytes:
    """The answers to `data`, sent in pieces of these sizes; fewer than `expected` bytes where the connection stands still."""
    received, at, turns = b"", 0, 0
    while len(received) < expected and turns < 100 + 4 * len(data) // LEAST:
        with contextlib.suppress(BlockingIOError):
            if at < len(data):
                at += client.send(data[at : at + pieces[turns % len(pieces)]])
        host.turn(1)
        turns += 1
        with contextlib.suppress(BlockingIOError):
            received += client.recv(1 << 20)
    return received


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([3, 200, 20_000, 70_000, 200_000]), min_size=1, max_size=6),
    st.lists(st.integers(LEAST, 60_000), min_size=1, max_size=4),
    st.sampled_from([LEAST, 1000, RECORD_BYTES, 1 << 18]),
    st.booleans(),
)
def test_bytes_kept_by_the_transport_are_executed(sizes: list[int], pieces: list[int], record: int, together: bool) -> None:
    """All requests are answered, in order, though the poller is silent about what the transport keeps."""
    data = b"".join(encode("SET", f"k{number}", "v" * size) + encode("STRLEN", f"k{number}") for number, size in enumerate(sizes))
    host = Turns(together, 0, 0)
    try:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        connection = Connection(host, RecordTransport(ours, record), 0, "client", "server")
        host.by_descriptor[connection.descriptor] = connection
        host.all.append(connection)
        host.clients.append(theirs)
        connection.begin(RespSession(host, connection))
        expected = b"".join(b"+OK\r\n:%d\r\n" % size for size in sizes)
        assert served(host, theirs, data, pieces, len(expected)) == expected
    finally:
        for each in host.all:
            each.kill()
        for client in host.clients:
            client.close()
        host.close()
