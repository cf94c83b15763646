"""Connections served together: what clients send, in whatever turns and pieces, gets the answers it would get were each served alone.

Two hosts are driven turn by turn over socket pairs, without a clock or a poller: in one, connections at rest are served together
(conn.serve_together, conn.flush_together), in the other each by itself (Connection.on_events, Connection.flush).
"""

import contextlib
import select
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flo import conn
from flo.commands.binary import load_handlers
from flo.commands.binary.session import BinarySession
from flo.commands.resp.session import RespSession
from flo.conn import Connection
from flo.engine import KeyValue
from flo.errors import Fatal
from flo.loop import GONE, READ, WRITE
from flo.operations import BY_NAME
from flo.proto.binary import INTERNAL_ERROR, OK, RESPONSE_BYTES, FrameReader, encode_request, namespace_hash
from flo.transport import PlainTransport
from tests.commands.test_decode import contents, queues_and_streams
from tests.support.examples import examples
from tests.support.fakes import FakeHost, FakeTimer
from tests.support.processes import encode

pytestmark = pytest.mark.computes

RESP_CLIENTS, CLIENTS = 4, 6  # the others speak the binary protocol
INPUT_LIMIT, OUTPUT_LIMIT = 1 << 20, 20_000


class FakeReactor:
    """What connections ask of a reactor."""

    def __init__(self) -> None:
        self.touched: dict[Connection, bool] = {}
        self.runnable: OrderedDict[Connection, None] = OrderedDict()
        self.deadline = float("inf")
        self.wanted: dict[int, int] = {}
        self.failures: list[Exception] = []

    def register(self, fd: int, events: int, handler: object) -> None:
        self.wanted[fd] = events

    def modify(self, fd: int, events: int) -> None:
        self.wanted[fd] = events

    def unregister(self, fd: int) -> None:
        del self.wanted[fd]

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        return FakeTimer(seconds, callback)

    def failed(self, e: Exception, fd: int) -> None:
        raise e


class Turns(FakeHost):
    """A host with connections, whose turns come when a test says so."""

    def __init__(self, together: bool, resp_clients: int = RESP_CLIENTS, clients: int = CLIENTS) -> None:
        super().__init__()
        load_handlers()
        self.together = together
        self.reactor: Any = FakeReactor()
        self.receive_view = memoryview(bytearray(conn.RECEIVE_BYTES))
        self.output_limit, self.input_limit = OUTPUT_LIMIT, INPUT_LIMIT
        self.header_seconds = self.stall_seconds = 1e9
        self.bytes_in = self.bytes_out = self.push_limit_disconnections = 0
        self.held = 0
        self.by_descriptor: dict[int, Connection] = {}
        self.timed: set[Connection] = set()
        self.clients: list[socket.socket] = []
        self.all: list[Connection] = []
        self.received = [b""] * clients
        self.simply = 0
        for number in range(clients):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            self.clients.append(theirs)
            connection = Connection(self, PlainTransport(ours), number, "client", "server")
            self.by_descriptor[connection.descriptor] = connection
            self.all.append(connection)
            made = RespSession if number < resp_clients else BinarySession
            connection.begin(made(self, connection))

    def hold_input(self, change: int) -> bool:
        self.held += change
        return True

    def time_out_later(self, connection: Connection) -> None:
        """No time passes."""

    def forget(self, connection: Connection) -> None:
        del self.by_descriptor[connection.descriptor]

    def sessions(self) -> list[Any]:
        return [connection.session for connection in self.by_descriptor.values()]

    def turn(self, looks: int) -> None:
        """What Reactor.run does in a turn, looking so often for who is ready."""
        reactor = self.reactor
        self.engine.tick()
        for _ in range(len(reactor.runnable)):
            reactor.runnable.popitem(last=False)[0].run_turn()
        for _ in range(looks):
            events = self._ready()
            at = 0
            while at < len(events):
                before = at
                if self.together:
                    at = conn.serve_together(self, self.by_descriptor, events, at)
                if at == before:
                    fd, mask = events[at]
                    at += 1
                    if fd in self.by_descriptor:
                        self.by_descriptor[fd].on_events(mask)
        self.engine.commit()
        touched, reactor.touched = list(reactor.touched.items()), {}
        self.simply += sum(simply for _, simply in touched)
        if self.together:
            conn.flush_together(self, touched)
        else:
            for connection, _ in touched:
                connection.flush()

    def _ready(self) -> list[tuple[int, int]]:
        poller = select.poll()
        for fd, wanted in self.reactor.wanted.items():
            poller.register(fd, (select.POLLIN if wanted & READ else 0) | (select.POLLOUT if wanted & WRITE else 0))
        ready = dict(poller.poll(0))
        return [
            (fd, (READ if ready[fd] & select.POLLIN else 0) | (WRITE if ready[fd] & select.POLLOUT else 0) | (ready[fd] & GONE))
            for fd in (connection.descriptor for connection in self.all)
            if fd in ready and fd in self.reactor.wanted
        ]

    def read(self) -> None:
        """Let every client take what it was sent."""
        for number, client in enumerate(self.clients):
            try:
                while data := client.recv(1 << 20):
                    self.received[number] += data
                self.received[number] += b"<end>" * (not self.received[number].endswith(b"<end>"))
            except BlockingIOError:
                pass
            except ConnectionResetError:
                self.received[number] += b"<reset>"

    def close(self) -> None:
        for connection in list(self.by_descriptor.values()):
            connection.kill()
        for client in self.clients:
            client.close()
        super().close()


KEYS = st.sampled_from([b"a", b"b", b"c"])
RESP = st.one_of(
    st.tuples(st.just(b"SET"), KEYS, st.sampled_from([b"1", b"text", b"v" * 3000])),
    st.tuples(st.sampled_from([b"GET", b"INCR"]), KEYS),
    st.tuples(st.just(b"MGET"), KEYS, KEYS),
    st.tuples(st.just(b"LPUSH"), st.just(b"q"), KEYS),
    st.tuples(st.sampled_from([b"RPOP", b"LLEN"]), st.just(b"q")),
    st.tuples(st.just(b"BRPOP"), st.just(b"q"), st.just(b"0")),
    st.tuples(st.just(b"SET"), KEYS, st.just(b"timed"), st.just(b"EX"), st.just(b"1000")),
    st.tuples(st.just(b"AUTH"), st.just(b"wrong")),
    st.sampled_from(
        [(b"PING",), (b"FLUSHALL",), (b"CLIENT", b"REPLY", b"SKIP"), (b"NOSUCH",), (b"QUIT",), (b"KEYS", b"*"), (b"HELLO", b"3")]
    ),
).map(lambda words: encode(*words))  # fmt: skip
GETS = KEYS.map(lambda key: encode("GET", key))  # runs, over keys of which some have a deadline
BINARY = st.one_of(
    st.builds(lambda key, value: encode_request(BY_NAME["kv_put"], 7, 0, key, value), KEYS, st.sampled_from([b"1", b"x" * 50])),
    st.builds(lambda key: encode_request(BY_NAME["kv_get"], 8, 0, key, b""), KEYS),
    st.builds(lambda key: encode_request(BY_NAME["kv_incr"], 9, 0, key, b""), KEYS),
    st.just(encode_request(BY_NAME["ping"], 10, 0, b"", b"")),
    st.just(encode_request(BY_NAME["queue_dequeue"], 11, 0, b"q", b"", {"block": 0})),
    st.just(encode_request(BY_NAME["queue_enqueue"], 12, 0, b"q", b"message")),
    st.just(encode_request(BY_NAME["kv_get"], 13, 0, b"d", b"", {"block": 0})),
    st.just(encode_request(BY_NAME["kv_put"], 14, 0, b"d", b"1")),
)
SENDS = st.one_of(
    st.tuples(st.integers(0, RESP_CLIENTS - 1), st.lists(RESP, min_size=1, max_size=6).map(b"".join), st.integers(0, 60)),
    st.tuples(st.integers(0, RESP_CLIENTS - 1), st.lists(GETS, min_size=4, max_size=9).map(b"".join), st.integers(0, 30)),
    st.tuples(st.integers(RESP_CLIENTS, CLIENTS - 1), st.lists(BINARY, min_size=1, max_size=4).map(b"".join), st.integers(0, 60)),
)
STEPS = st.one_of(
    SENDS,
    SENDS,
    SENDS,
    st.tuples(st.just("turn"), st.integers(1, 3)),
    st.tuples(st.just("end"), st.integers(0, CLIENTS - 1)),
    st.just(("read",)),
)


def play(host: Turns, steps: list[Any]) -> None:
    """Send, turn, read, until nothing comes any more. What is cut off of a send comes after the next turn."""
    late: list[tuple[int, bytes]] = []
    for step in [*steps, ("turn", 1), ("read",), ("turn", 2)]:
        if step[0] == "turn":
            host.turn(step[1])
            for number, data in late:
                send(host.clients[number], data)
            late = []
        elif step[0] == "read":
            host.read()
        elif step[0] == "end":
            late = [(number, data) for number, data in late if number != step[1]]
            with contextlib.suppress(OSError):
                host.clients[step[1]].shutdown(socket.SHUT_WR)
        else:
            number, data, cut = step
            if any(number == other for other, _ in late):
                late.append((number, data))
            else:
                send(host.clients[number], data[: len(data) - cut])
                late += [(number, data[len(data) - cut :])] if 0 < cut < len(data) else []
    for _ in range(40):
        host.turn(1)
        host.read()


def send(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # it was closed, or has said that nothing more comes
        client.send(data)


ENQUEUE = encode_request(BY_NAME["queue_enqueue"], 2, 0, b"q", b"message")
ANSWERED = encode_request(BY_NAME["queue_dequeue"], 1, 0, b"q", b"", {"block": 0}) + ENQUEUE


@pytest.mark.slow
@examples(150)
@given(steps=st.lists(STEPS, max_size=25))
@example(
    steps=[
        (CLIENTS - 1, encode_request(BY_NAME["queue_dequeue"], 1, 0, b"q", b"", {"block": 0}), 0),
        ("turn", 1),
        (0, encode("SET", "a", "1"), 0),
        (CLIENTS - 2, encode_request(BY_NAME["queue_enqueue"], 2, 0, b"q", b"message"), 0),
        (CLIENTS - 1, encode_request(BY_NAME["ping"], 3, 0, b"", b""), 0),
    ]
)
@example(steps=[(CLIENTS - 1, ANSWERED + b"FLO\x01 ", 1)])  # a wait is answered by the request behind it, and the next is not whole
@example(steps=[(CLIENTS - 1, ANSWERED + ENQUEUE, 1)])
def test_served_together_as_served_alone(steps: list[Any]) -> None:
    one, other = Turns(True), Turns(False)
    try:
        play(one, steps)
        play(other, steps)
        assert in_any_order(one.received) == in_any_order(other.received)
        assert contents(one.engine.kv.store) == contents(other.engine.kv.store)
        assert queues_and_streams(one) == queues_and_streams(other)
        assert (one.bytes_in, one.bytes_out, one.held) == (other.bytes_in, other.bytes_out, other.held)
        assert vars(one.counters) == vars(other.counters)
        assert [connection.state for connection in one.all] == [connection.state for connection in other.all]
    finally:
        one.close()
        other.close()


def in_any_order(received: list[bytes]) -> list[Any]:
    """What each client received; of those that speak binary the answers by themselves, for one that was waited for may come before or
    behind those of later requests."""
    found: list[Any] = received[:RESP_CLIENTS]
    for data in received[RESP_CLIENTS:]:
        answers = []
        while data:
            size = RESPONSE_BYTES + int.from_bytes(data[16:20], "little")
            answers.append(data[:size])
            data = data[size:]
        found.append(sorted(answers))
    return found


def turn_and_read(host: Turns, *sends: tuple[int, bytes]) -> list[bytes]:
    """What the clients received since the last time."""
    host.received = [b""] * len(host.clients)
    for number, data in sends:
        host.clients[number].send(data)
    host.turn(1)
    host.turn(1)
    host.read()
    return host.received


def test_a_client_that_is_answered_and_waits_is_not_at_rest() -> None:
    """What it sends meanwhile is answered behind what it waits for."""
    host = Turns(True)
    try:
        assert turn_and_read(host, (0, encode("SET", "a", "1") + encode("BRPOP", "q", "0")))[0] == b"+OK\r\n"
        assert turn_and_read(host, (0, encode("GET", "a")))[0] == b""
        assert turn_and_read(host, (1, encode("LPUSH", "q", "m")))[0] == b"*2\r\n$1\r\nq\r\n$1\r\nm\r\n$1\r\n1\r\n"
    finally:
        host.close()


def test_a_request_of_a_client_that_another_wakes_in_the_same_go() -> None:
    """It was received already, and is not lost."""
    host = Turns(True)
    try:
        waiting, other = RESP_CLIENTS + 1, RESP_CLIENTS
        turn_and_read(host, (waiting, encode_request(BY_NAME["queue_dequeue"], 1, 0, b"q", b"", {"block": 0})))
        got = turn_and_read(
            host,
            (other, encode_request(BY_NAME["queue_enqueue"], 2, 0, b"q", b"message")),
            (waiting, encode_request(BY_NAME["ping"], 3, 0, b"", b"")),
        )[waiting]
        assert b"message" in got and (3).to_bytes(8, "little") in got
    finally:
        host.close()


def test_a_run_that_ends_early_on_a_connection_that_has_waited() -> None:
    """All of it is answered at once."""
    host = Turns(True)
    try:
        turn_and_read(host, (1, encode("SET", "k1", "1") + encode("SET", "k2", "2") + encode("SET", "k3", "3", "EX", "1000")))
        turn_and_read(host, (0, encode("BRPOP", "q", "0")))
        turn_and_read(host, (1, encode("LPUSH", "q", "m")))
        pipeline = b"".join(encode("GET", key) for key in ("k1", "k2", "k3", "k1", "k2", "k1"))
        assert turn_and_read(host, (0, pipeline))[0] == b"".join(b"$1\r\n%d\r\n" % n for n in (1, 2, 3, 1, 2, 1))
    finally:
        host.close()


def test_large_messages_taken_in_a_pipeline_leave_in_portions() -> None:
    """Neither side by side in the log nor apart from each other do they go past what a connection may be owed."""
    host = Turns(True)
    try:
        for queue in ("q", "r") * 20:
            host.engine.queues.enqueue(queue.encode(), b"x" * 30_000)
        host.engine.commit()
        host.clients[0].send(encode("RPOP", "q") * 20)
        host.turn(1)
        assert host.all[0].output_bytes <= OUTPUT_LIMIT + 2 * 30_020
        assert host.engine.queues.store.queues[b"q"].counts[2] <= 3
        for _ in range(60):
            host.read()
            host.turn(1)
        host.read()
        assert host.received[0].count(b"$30000\r\n") == 20
    finally:
        host.close()


def closing_defects(host: Turns) -> list[int]:
    """Have a defect close its connection, as a server does; gives the descriptors of those it was so for."""
    failed: list[int] = []

    def fail(e: Exception, fd: int) -> None:
        assert not isinstance(e, Fatal)
        failed.append(fd)
        host.by_descriptor[fd].kill()

    host.reactor.failed = fail
    return failed


class Faulty(RespSession):
    """A session with a defect."""

    def feed(self, data: bytes, output_room: int) -> int:
        raise ZeroDivisionError


def test_a_defect_while_it_is_fed_is_its_connection_s() -> None:
    host = Turns(True)
    failed = closing_defects(host)
    try:
        host.all[0].session = Faulty(host, host.all[0])
        got = turn_and_read(host, (0, encode("PING")), (1, encode("GET", "a")))
        assert failed == [host.all[0].descriptor]
        assert got[:2] == [b"<end>", b"$-1\r\n"]
    finally:
        host.close()


def test_the_lane_is_taken() -> None:
    """Were it never taken, the test above could not fail."""
    host = Turns(True)
    try:
        for number in range(RESP_CLIENTS):
            host.clients[number].send(encode("SET", f"k{number}", "v"))
        host.clients[RESP_CLIENTS].send(encode_request(BY_NAME["kv_put"], 1, 0, b"k", b"v"))
        host.turn(1)
        assert host.simply == RESP_CLIENTS + 1
        host.read()
        assert host.received[:RESP_CLIENTS] == [b"+OK\r\n"] * RESP_CLIENTS
    finally:
        host.close()


def test_many_clients_of_several_kinds_at_once() -> None:
    """Like is put beside like, over all that are ready, and every client gets its own answers, in its own order."""
    clients = 40
    host = Turns(True, clients, clients)
    try:
        for number in range(clients):
            feed = encode("SET", f"key{number:02}", f"value{number:02}") + encode("LPUSH", "q", f"message{number:02}")
            host.clients[number].send(feed if number % 3 else encode("SET", f"key{number:02}", f"value{number:02}"))
        host.turn(1)
        host.read()
        assert all(answer.startswith(b"+OK\r\n") for answer in host.received)
        queued = sum(number % 3 > 0 for number in range(clients))
        assert sorted(int(answer[6:-2]) for answer in host.received if len(answer) > 5) == list(range(1, queued + 1))
        host.received = [b""] * clients
        taken: dict[int, bytes] = {}
        for number in range(clients):
            host.clients[number].send(
                encode("QDEQUEUE", "q") if number % 2 and queued else encode("GET", f"key{number:02}") * (1 + number % 4)
            )
        host.turn(1)
        host.read()
        for number, answer in enumerate(host.received):
            if number % 2:
                taken[number] = answer
                assert answer == b"*0\r\n" or b"$9\r\nmessage" in answer, answer
            else:
                assert answer == b"$7\r\nvalue%02d\r\n" % number * (1 + number % 4)
        seqs = [answer.split(b"\r\n")[2][1:] for answer in taken.values() if answer != b"*0\r\n"]
        assert len(set(seqs)) == len(seqs) == min(queued, clients // 2)
        host.received = [b""] * clients
        for number, seq in enumerate(seqs):
            host.clients[number].send(encode("QACK", "q", seq + b"-1"))
        for number in range(len(seqs), clients):
            host.clients[number].send(encode("INCR", "n"))
        host.turn(1)
        host.read()
        assert host.received[: len(seqs)] == [b":1\r\n"] * len(seqs)
        assert sorted(int(answer[1:]) for answer in host.received[len(seqs) :]) == list(range(1, clients - len(seqs) + 1))
        assert host.engine.queues.store.queues[b"q"].counts[2:] == [0, 0]
    finally:
        host.close()


@pytest.mark.parametrize("clients", [12, 128])
def test_binary_clients_together(clients: int) -> None:
    """One request each, laid out alike: few of them in a loop, many as one run; each gets its own answer, by its own id."""
    host = Turns(True, 0, clients)
    try:
        for name, value in (("kv_put", True), ("kv_get", False), ("kv_incr", False)):
            host.received = [b""] * clients
            for number in range(clients):
                key = b"n%03d" % number if name == "kv_incr" else b"k%03d" % number
                host.clients[number].send(encode_request(BY_NAME[name], 100 + number, 0, key, b"v%03d" % number if value else b""))
            host.turn(1)
            host.read()
            for number, answer in enumerate(host.received):
                assert answer[8:16] == (100 + number).to_bytes(8, "little"), name
                if name == "kv_get":
                    assert answer.endswith(b"v%03d" % number)
        assert host.counters.commands == 3 * clients
        # one in the middle that the run cannot have: its key has a deadline
        host.engine.kv.touch(b"k005", host.engine.now + 100_000)
        host.received = [b""] * clients
        for number in range(clients):
            host.clients[number].send(encode_request(BY_NAME["kv_get"], 200 + number, 0, b"k%03d" % number, b""))
        host.turn(1)
        host.read()
        assert all(answer.endswith(b"v%03d" % number) for number, answer in enumerate(host.received))
    finally:
        host.close()


@pytest.mark.parametrize("odd", [0, 3])
@pytest.mark.parametrize("clients", [5, 16])
@pytest.mark.parametrize(
    ("name", "value", "another", "its_namespace", "its_key", "its_value"),
    [
        ("kv_get", b"", "kv_exists", b"", b"key", b""),
        ("kv_incr", b"", "kv_delete", b"", b"key", b""),
        ("kv_put", b"12", "kv_json_set", b"", b"key", b"21"),
        ("kv_get", b"", "kv_get", b"other", b"key", b""),
        ("kv_incr", b"", "kv_incr", b"other", b"key", b""),
        ("kv_put", b"12", "kv_put", b"other", b"key", b"21"),
        ("kv_put", b"12", "kv_put", b"", b"key1", b"2"),
        ("kv_put", b"12", "kv_get", b"", b"key12", b""),
    ],
)
def test_one_of_a_crowd_asks_for_something_else(
    name: str, value: bytes, another: str, its_namespace: bytes, its_key: bytes, its_value: bytes, clients: int, odd: int
) -> None:
    """In as many bytes as the others: another operation, namespace, length of the key. It and those behind it are served as if alone."""
    one, other = Turns(True, 0, clients), Turns(False, 0, clients)
    try:
        for host in (one, other):
            host.engine.create_namespace("other")
            host.engine.kv.incr(b"key", 1)
            for number in range(clients):
                namespace = namespace_hash(its_namespace.decode()) if its_namespace and number == odd else 0
                asked = (another, its_key, its_value) if number == odd else (name, b"key", value)
                host.clients[number].send(encode_request(BY_NAME[asked[0]], 100 + number, namespace, *asked[1:]))
            host.turn(1)
            host.turn(1)
            host.read()
        assert one.received == other.received
        for space in ("default", "other"):
            assert contents(one.engine.namespace(space).kv.store) == contents(other.engine.namespace(space).kv.store)
    finally:
        one.close()
        other.close()


def test_the_end_of_input_in_the_same_turn() -> None:
    """A client that sends a request and closes its half, seen by the second look of one turn: it is answered, and closed."""
    host = Turns(True)
    try:
        host.clients[0].send(encode("SET", "k", "v"))
        ready = host._ready
        looks = iter((None, lambda: host.clients[0].shutdown(socket.SHUT_WR)))

        def look() -> list[tuple[int, int]]:
            act = next(looks)
            if act is not None:
                act()
            return ready()

        host._ready = look  # type: ignore[method-assign]
        host.turn(2)
        host.read()
        assert host.received[0] == b"+OK\r\n<end>"
    finally:
        host.close()


def test_a_client_that_another_kills_in_the_same_go() -> None:
    """What was received of it already is not executed; those behind it are served."""
    host = Turns(True)
    try:
        host.clients[0].send(encode("CLIENT", "KILL", "ID", "1"))
        host.clients[1].send(encode("SET", "k", "never"))
        host.clients[2].send(encode("EXISTS", "k"))
        host.clients[3].send(encode("GET", "k"))
        host.turn(1)
        host.read()
        assert host.received[1] in (b"<end>", b"<reset>")
        assert [host.received[number] for number in (0, 2, 3)] == [b":1\r\n", b":0\r\n", b"$-1\r\n"]
    finally:
        host.close()


CROWD = 7
CROWDS = st.lists(
    st.tuples(
        st.sampled_from(["kv_get", "kv_put", "kv_incr", "kv_exists", "kv_delete", "queue_dequeue", "queue_enqueue", "ping"]),
        st.lists(st.sampled_from([b"a", b"b", b"c", b"n", b"m"]), min_size=CROWD, max_size=CROWD),
        st.sampled_from([1, 1, 2, 30]),
        st.integers(0, CROWD),  # who sends something of another size, or whose request comes in two pieces
        st.booleans(),
    ),
    max_size=8,
)


@pytest.mark.slow
@examples(80)
@given(crowds=CROWDS)
def test_a_crowd_of_binary_clients_as_each_alone(crowds: list[tuple[str, list[bytes], int, int, bool]]) -> None:
    """All send the same operation at one time, whether it comes in runs or not; answers, memory and counts are the same."""
    one, other = Turns(True, 0, CROWD), Turns(False, 0, CROWD)
    try:
        for name, keys, times, odd, cut in crowds:
            operation = BY_NAME[name]
            for number, key in enumerate(keys):
                value = (b"12" if number != odd else b"123") if operation.value else b""
                data = b"".join(encode_request(operation, at, 0, b"" if name == "ping" else key, value) for at in range(times))
                pieces = [data[:20], data[20:]] if cut and number == odd else [data]
                for host in (one, other):
                    host.clients[number].send(pieces[0])
                    if number == odd and cut:
                        host.turn(1)
                        host.clients[number].send(pieces[1])
            for host in (one, other):
                host.turn(1)
                host.turn(1)
                host.read()
            assert one.received == other.received
        assert contents(one.engine.kv.store) == contents(other.engine.kv.store)
        assert queues_and_streams(one) == queues_and_streams(other)
        assert vars(one.counters) == vars(other.counters)
        assert [connection.state for connection in one.all] == [connection.state for connection in other.all]
    finally:
        one.close()
        other.close()


def test_a_defect_among_binary_requests_is_one_request_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those before it in the loop are not executed again, and those behind it are served."""
    host = Turns(True, 0, 5)
    failed = closing_defects(host)
    try:
        for number, client in enumerate(host.clients):
            client.send(encode_request(BY_NAME["kv_incr"], 1, 0, b"n%d" % number))
        host.turn(1)
        host.read()
        before = len(host.received[0])
        calls, write = iter(range(100)), KeyValue._write

        def fourth(self: KeyValue, *args: Any) -> int:
            if next(calls) == 3:
                raise MemoryError
            return write(self, *args)

        monkeypatch.setattr(KeyValue, "_write", fourth)
        for number, client in enumerate(host.clients):
            client.send(encode_request(BY_NAME["kv_incr"], 2, 0, b"n%d" % number))
        host.turn(1)
        host.turn(1)
        host.read()
        assert not failed, "it is answered, as a defect of its request"
        assert [received[before + 4] for received in host.received] == [OK, OK, OK, INTERNAL_ERROR, OK]
        found = [host.engine.kv.get(b"n%d" % number) for number in range(5)]
        assert [entry and entry.value for entry in found] == [b"2", b"2", b"2", b"1", b"2"]
        assert host.counters.commands == 10
    finally:
        monkeypatch.undo()
        host.close()


def test_binary_clients_with_long_pipelines_of_one_size() -> None:
    """More requests each than a run has: what they append is answered."""
    for name, value in (("kv_put", b"v"), ("kv_incr", b""), ("kv_get", b"")):
        host = Turns(True, 0, 3)
        try:
            count = 556
            data = b"".join(encode_request(BY_NAME[name], at, 0, b"k%03d" % at, value) for at in range(count))
            for client in host.clients:
                client.send(data)
            for _ in range(4):
                host.turn(1)
                host.read()
            for received in host.received:
                frames, reader, at = [], FrameReader(RESPONSE_BYTES, 1 << 20), 0
                while at < len(received):
                    frame, at = reader.parse(received, at)
                    assert frame is not None
                    frames.append(int.from_bytes(frame.header[8:16], "little"))
                assert frames == list(range(count))
        finally:
            host.close()
