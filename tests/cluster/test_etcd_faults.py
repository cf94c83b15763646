"""The client of etcd against a server that does what etcd seldom does."""

import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from flo.cluster import etcd as client
from flo.cluster.etcd import Answer, Etcd, put_op
from flo.cluster.protobuf import nested, pack
from flo.endpoint import Endpoint
from flo.loop import READ
from tests.support.miniloop import MiniLoop

pytestmark = pytest.mark.slow

WINDOW = 32 << 20
YES = nested(1, pack([(3, 7)])) + pack([(2, 1)])  # the answer of a transaction that succeeded, at revision 7


class Impostor:
    """A server on the client's loop. Each of its connections answers a transaction with what `answer` gives: bytes, or None for nothing."""

    def __init__(self, loop: MiniLoop, answer: Callable[["Conversation", int], bytes | None]) -> None:
        self.loop = loop
        self.answer = answer
        self.conversations: list[Conversation] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        self.reads = True
        self.endpoint = Endpoint("127.0.0.1", self.listener.getsockname()[1], False)
        loop.register(self.listener.fileno(), READ, self._accept)

    def _accept(self, _: int) -> None:
        self.conversations.append(Conversation(self, self.listener.accept()[0]))

    def close(self) -> None:
        for each in self.conversations:
            each.close()
        self.loop.unregister(self.listener.fileno())
        self.listener.close()


class Conversation:
    """One connection."""

    def __init__(self, server: Impostor, sock: socket.socket) -> None:
        self.server, self.sock = server, sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        codes = h2.settings.SettingCodes
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values={codes.INITIAL_WINDOW_SIZE: WINDOW})
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(WINDOW)
        self.paths: dict[int, bytes] = {}
        self.is_open = True
        server.loop.register(sock.fileno(), READ, self._read)
        self.flush()

    def _read(self, _: int) -> None:
        if not self.server.reads:
            return
        data = self.sock.recv(1 << 20)
        if not data:
            self.close()
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.paths[event.stream_id] = dict(event.headers)[b":path"]
            elif isinstance(event, h2.events.StreamEnded) and self.paths[event.stream_id].endswith(b"Txn"):
                answer = self.server.answer(self, event.stream_id)
                if answer is not None:
                    self.send(event.stream_id, answer)
        self.flush()

    def send(self, stream: int, message: bytes) -> None:
        """Answer a call."""
        self.h2.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/grpc")])
        self.h2.send_data(stream, struct.pack(">BI", 0, len(message)) + message)
        self.h2.send_headers(stream, [(b"grpc-status", b"0")], end_stream=True)

    def flush(self) -> None:
        if self.is_open:
            self.sock.sendall(self.h2.data_to_send())

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.server.loop.unregister(self.sock.fileno())
            self.sock.close()


class Stage:
    """A client and its servers."""

    def __init__(self) -> None:
        self.loop = MiniLoop()
        self.servers: list[Impostor] = []
        self.notes: list[str] = []
        self.etcd: Etcd | None = None

    def serve(self, answer: Callable[[Conversation, int], bytes | None]) -> Impostor:
        self.servers.append(Impostor(self.loop, answer))
        return self.servers[-1]

    def txn(self, value: bytes = b"v", **more: Any) -> list[Any]:
        """Call; returns the list that gets the answer."""
        answers: list[Any] = []
        if self.etcd is None:
            self.etcd = Etcd(self.loop, [server.endpoint for server in self.servers], on_note=self.notes.append, **more)
        self.etcd.txn([], [put_op(b"k", value)], answers.append)
        return answers


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    if made.etcd is not None:
        made.etcd.close()
    for server in made.servers:
        server.close()
    assert made.loop.is_idle


def test_an_answer_that_does_not_read_is_none(stage: Stage) -> None:
    """The call is still owed one, and made again."""
    stage.serve(lambda conversation, _: b"\x0b" if len(stage.servers[0].conversations) == 1 else YES)
    answers = stage.txn()
    stage.loop.run_until(lambda: answers, 5)
    assert answers == [Answer(True, 7, [], [])]
    assert "does not speak as etcd does" in stage.notes[0]


def test_an_answer_before_a_broken_frame_counts(stage: Stage) -> None:
    def answer(conversation: Conversation, stream: int) -> None:
        conversation.send(stream, YES)
        conversation.sock.sendall(conversation.h2.data_to_send() + b"\xff" * 9)

    stage.serve(answer)
    answers = stage.txn()
    stage.loop.run_until(lambda: answers and stage.notes, 5)
    assert answers == [Answer(True, 7, [], [])]


def test_a_server_that_goes_away_is_left_before_the_next_call(stage: Stage) -> None:
    """It answers what it has begun, and no new calls, for as long as its old ones take; a watch takes for ever."""

    def answer(conversation: Conversation, stream: int) -> bytes | None:
        if len(conversation.paths) > 3:
            return None
        conversation.sock.sendall(conversation.h2.data_to_send() + struct.pack(">BHBBIII", 0, 8, 7, 0, 0, (1 << 31) - 1, 0))
        return YES

    stage.serve(answer)
    for _ in range(2):
        answers = stage.txn()
        stage.loop.run_until(lambda: answers, client.DOUBT_SECONDS)  # noqa: B023
    assert len(stage.servers[0].conversations) == 2
    assert "takes no more calls" in stage.notes[0]


def test_what_the_kernel_does_not_take_waits(stage: Stage) -> None:
    server = stage.serve(lambda *_: YES)
    first = stage.txn()
    stage.loop.run_until(lambda: first)
    assert stage.etcd is not None
    server.reads = False
    server.loop.modify(server.conversations[0].sock.fileno(), 0)
    answers = [stage.txn(bytes([number]) * (1 << 20)) for number in range(12)]
    assert stage.etcd.unsent_bytes > 1 << 20
    server.reads = True
    server.loop.modify(server.conversations[0].sock.fileno(), READ)
    stage.loop.run_until(lambda: all(answers))
    assert stage.etcd.unsent_bytes == 0 and stage.notes == []
    assert len(server.conversations) == 1


def test_two_servers_of_which_one_never_tells_a_token(stage: Stage) -> None:
    """The client asks the other one; it asked the same one again for ever, when a lost connection was counted twice."""
    stage.serve(lambda *_: None)
    refuses = stage.serve(lambda *_: None)
    stage.txn(user="u", password="p")
    stage.loop.run_until(lambda: refuses.conversations and stage.servers[0].conversations, 3 * client.ANSWER_SECONDS)
    assert "has not answered to the user 'u'" in stage.notes[0]


def test_a_lost_connection_is_said_once(stage: Stage) -> None:
    """Though it is tried again and again."""
    server = stage.serve(lambda conversation, _: conversation.close())
    answers = stage.txn()
    stage.loop.run_until(lambda: len(server.conversations) == 4)
    assert len(stage.notes) == 1 and answers == []
    assert "closed the connection" in stage.notes[0]


def test_a_ping_is_answered_by_a_server_that_is_only_slow(stage: Stage) -> None:
    """It keeps its connection, and has longer to answer than one that says nothing."""
    waiting: list[tuple[Conversation, int]] = []
    server = stage.serve(lambda *call: waiting.append(call))
    answers = stage.txn()

    def late() -> None:
        waiting[0][0].send(waiting[0][1], YES)
        waiting[0][0].flush()

    stage.loop.call_later(3 * client.DOUBT_SECONDS, late)
    stage.loop.run_until(lambda: answers)
    assert len(server.conversations) == 1 and stage.notes == []
