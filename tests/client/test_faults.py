"""What both clients do when the server, the network or the program misbehaves."""

import socket
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from flo import calls
from flo.errors import BadRequest, CannotConnect, Conflict, Disconnected, NotLeader, Overloaded, TimedOut
from flo.proto.binary import BAD_REQUEST, COMPRESSED, CONFLICT, MAGIC, NOT_FOUND, NOT_LEADER, OVERLOADED, RESPONSE, encode_response
from tests.support.processes import FloProcess, wait_until
from tests.support.scripted_server import Asked, Peer, ScriptedServer, opened

pytestmark = pytest.mark.computes

VERSION = (7).to_bytes(8, "little")


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which client."""
    return str(request.param)


def closed(peer: Peer) -> None:
    """Take a request and close the connection."""
    peer.need()


def answered(payload: bytes = VERSION, status: int = 0) -> Callable[[Peer], None]:
    """Answer each request with this."""

    def script(peer: Peer) -> None:
        while (asked := peer.take()) is not None:
            peer.answer(asked, payload, status)

    return script


def raw(make: Callable[[Asked], bytes]) -> Callable[[Peer], None]:
    """Answer the first request with these bytes, and then close the connection."""

    def script(peer: Peer) -> None:
        peer.sock.sendall(make(peer.need()))

    return script


# -- answers that are none -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda asked: b"", "closed the connection"),
        (lambda asked: encode_response(0, asked.req_id, VERSION)[:10], "closed the connection"),
        (lambda asked: encode_response(0, asked.req_id, VERSION)[:-3], "closed the connection"),
        (lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n", "a message begins with 46 4C 4F 01"),
        (lambda asked: b"FLO\x02" + bytes(20), "version 2 of the binary protocol"),
        (lambda asked: RESPONSE.pack(MAGIC, 0, 0, asked.req_id, 65 << 20), "a payload of"),
        (lambda asked: RESPONSE.pack(MAGIC, 9, 0, asked.req_id, 0), "has status 9"),
        (lambda asked: RESPONSE.pack(MAGIC, 0, 6, asked.req_id, 0), "flags 0x0006"),
        (lambda asked: RESPONSE.pack(MAGIC, 0, COMPRESSED, asked.req_id, 4) + b"none", "cannot be inflated"),
        (lambda asked: RESPONSE.pack(MAGIC, 0, COMPRESSED, asked.req_id, 70_006) + zlib.compress(bytes(72 << 20), 1)[:70_006], "inflate"),
        (lambda asked: encode_response(0, asked.req_id, b"short"), "does not fit kv_put"),
        (lambda asked: encode_response(0, asked.req_id + 9, VERSION), "was not sent"),
        (lambda asked: encode_response(BAD_REQUEST, 0, b"the server's own words"), "the server's own words"),
        (lambda asked: b"-ERR max number of clients reached\r\n", "max number of clients reached"),
        (lambda asked: b"-DENIED this Flo is private\r\n", "this Flo is private"),
    ],
)
def test_what_is_no_answer_ends_the_connection_and_the_next_call_makes_one(kind: str, made: Callable[[Asked], bytes], says: str) -> None:
    with ScriptedServer(raw(made), answered()) as server, opened(kind, server.url) as client:
        with pytest.raises(Disconnected, match=says):
            client.kv.put("a", "1")
        assert client.kv.put("a", "1") == 7
        assert server.connections == 2


def test_a_second_answer_to_one_request_ends_the_connection(kind: str) -> None:
    def twice(peer: Peer) -> None:
        first = peer.need()
        peer.answer(first, VERSION)
        peer.need()
        peer.answer(first, VERSION)

    with ScriptedServer(twice, answered()) as server, opened(kind, server.url) as client:
        assert client.kv.put("a", "1") == 7
        with pytest.raises(Disconnected, match="answered the same request twice"):
            client.kv.put("a", "1")


def test_answers_in_any_order_and_in_any_pieces(kind: str) -> None:
    values = [b"%d" % number * 1000 * number for number in range(40)]

    def reversed_in_pieces(peer: Peer) -> None:
        asked = [peer.need() for _ in values]
        data = b"".join(encode_response(0, each.req_id, VERSION + values[int(each.key)]) for each in reversed(asked))
        for size in range(1, 60):  # every way to cut a header
            peer.sock.sendall(data[:size])
            data = data[size:]
        peer.sock.sendall(data)
        peer.take()

    with ScriptedServer(reversed_in_pieces) as server, opened(kind, server.url) as client:
        entries = client.run_many([calls.kv_get(str(number)) for number in range(len(values))])
        assert [entry.value for entry in entries] == values


def test_a_compressed_answer_is_inflated(kind: str) -> None:
    packed = zlib.compress(VERSION + b"v" * 5000)
    script = raw(lambda asked: RESPONSE.pack(MAGIC, 0, COMPRESSED, asked.req_id, len(packed)) + packed)
    with ScriptedServer(script) as server, opened(kind, server.url, compress=True) as client:
        assert client.kv.get("a").value == b"v" * 5000


def test_a_slow_server_is_late_and_a_trickle_too(kind: str) -> None:
    done = threading.Event()

    def silent(peer: Peer) -> None:
        peer.need()
        done.wait(30)

    def trickle(peer: Peer) -> None:
        data = encode_response(0, peer.need().req_id, VERSION)
        for at in range(len(data) - 1):
            peer.sock.sendall(data[at : at + 1])
            done.wait(0.05)
        done.wait(30)

    with ScriptedServer(silent, trickle, answered()) as server, opened(kind, server.url, timeout=0.3) as client:
        for _ in range(2):
            with pytest.raises(TimedOut, match=r"did not answer within 0\.3 s"):
                client.kv.get("a")
            if kind == "asyncio":
                client.close()  # there the connection is kept if anything came
        assert client.kv.put("a", "1") == 7
        done.set()


def test_a_wait_has_its_own_time_and_the_timeout(kind: str) -> None:
    def late(peer: Peer) -> None:
        asked = peer.need()
        threading.Event().wait(0.4)
        peer.answer(asked, bytes(4))
        peer.serve()

    with ScriptedServer(late) as server, opened(kind, server.url, timeout=0.2) as client:
        assert client.queues.dequeue("q", block=500) == []
        assert client.kv.put("a", "1") == 7  # the shorter time holds again


def test_a_server_that_reads_nothing_is_late(kind: str) -> None:
    done = threading.Event()

    def idle(_: Peer) -> None:
        done.wait(30)

    with ScriptedServer(idle) as server, opened(kind, server.url, timeout=0.3) as client:
        with pytest.raises(TimedOut):
            client.run_many([calls.kv_put("a", bytes(8 << 20)) for _ in range(3)])
        done.set()


def test_a_request_over_a_limit_leaves_the_connection_usable(kind: str) -> None:
    with ScriptedServer(answered()) as server, opened(kind, server.url) as client:
        assert client.kv.put("a", "1") == 7
        with pytest.raises(BadRequest, match="the key is 65536 bytes"):
            client.kv.put("k" * 65536, "1")
        with pytest.raises(BadRequest, match="the key is 65536 bytes"):
            client.run_many([calls.kv_put("a", "1"), calls.kv_get("k" * 65536)])
        assert client.kv.put("a", "1") == 7
        assert server.connections == 1


# -- the connection, and when a request is sent again ----------------------------------------------


def test_nobody_listens(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with opened(kind, f"flo://127.0.0.1:{port}", retries=1) as client, pytest.raises(CannotConnect, match="cannot connect to"):
        client.ping()


def test_of_several_addresses_one_that_answers_is_taken(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    dead = f"127.0.0.1:{port}"
    with ScriptedServer(answered()) as second, ScriptedServer(answered()) as third:
        url = f"flo://{dead},127.0.0.1:{second.port},127.0.0.1:{third.port}"
        with opened(kind, url, retries=0) as client:  # the others are tried without a retry
            assert client.kv.put("a", "1") == 7
            assert client.kv.put("a", "1") == 7
            assert (second.connections, third.connections) == (1, 0)
            second.close()
            with pytest.raises(Disconnected):
                client.kv.put("a", "1")
            assert client.kv.put("a", "1") == 7
            assert third.connections == 1
    with opened(kind, f"flo://{dead},{dead}", retries=1) as client, pytest.raises(CannotConnect, match="cannot connect to"):
        client.ping()


def test_a_member_that_knows_no_leader_is_left_for_the_next(kind: str) -> None:
    with (
        ScriptedServer(answered(b"", NOT_LEADER)) as lost,
        ScriptedServer(answered()) as leader,
        opened(kind, f"flo://127.0.0.1:{lost.port},127.0.0.1:{leader.port}", retries=1) as client,
    ):
        assert client.kv.put("a", "1") == 7
        assert lost.connections == 1


SAFE = [
    calls.kv_get("a"),
    calls.kv_mget(["a"]),
    calls.queue_peek("q"),
    calls.queue_enqueue("q", "m", dedup="d"),
    calls.action_invoke("a", idempotency_key="k"),
    calls.ts_write("m", "1", timestamp=5),
    calls.queue_configure("q", lease=5),
    calls.queue_pause("q", True),
    calls.namespace_create("n"),
    calls.action_register("a"),
    calls.action_cancel("r"),
    calls.worker_register("w", ["a"]),
    calls.worker_heartbeat("w"),
]
ONCE = [
    calls.kv_cas("a", "1", 5),
    calls.kv_delete("a", cas=5),
    calls.queue_ack("q", [(7, 1)]),
    calls.queue_nack("q", ["7-1", "8-2"]),
    calls.group_ack("s", "g", ["1-1"]),
    calls.worker_complete("r", worker_id="w", attempt=1),
    calls.worker_fail("r", worker_id="w", attempt=1),
]
UNSAFE = [
    calls.kv_put("a", "1"),
    calls.kv_cas("a", "1", 0),
    calls.kv_put("a", "1", if_absent=True),
    calls.kv_delete("a"),
    calls.kv_incr("a"),
    calls.queue_enqueue("q", "m"),
    calls.queue_dequeue("q"),
    calls.queue_ack("q", [7]),
    calls.queue_nack("q", ["7-1", 8]),
    calls.queue_delete("q"),
    calls.queue_purge("q"),
    calls.stream_append("s", "r"),
    calls.group_nack("s", "g", ["1-1"]),
    calls.action_invoke("a"),
    calls.action_invoke("a", unique_key="k"),
    calls.worker_take("w"),
    calls.worker_complete("r", worker_id="w"),
    calls.worker_fail("r", worker_id="w", attempt=0),
    calls.ts_write("m", "1"),
]


@pytest.mark.parametrize("call", SAFE + ONCE + UNSAFE, ids=lambda call: call.operation.name)
def test_a_lost_connection_is_retried_only_where_repeating_is_safe(kind: str, call: calls.Call[Any]) -> None:
    seen: list[Asked] = []

    def refused(peer: Peer) -> None:
        while (asked := peer.take()) is not None:
            seen.append(asked)
            peer.answer(asked, b"answered", BAD_REQUEST)

    with ScriptedServer(closed, refused) as server, opened(kind, server.url) as client:
        with pytest.raises(Disconnected if call in UNSAFE else BadRequest):
            client.run(call)
        assert [asked.name for asked in seen] == ([] if call in UNSAFE else [call.operation.name])


@pytest.mark.parametrize(
    ("call", "status", "payload"),
    [
        (calls.kv_cas("a", "1", 5), CONFLICT, VERSION + b"other version"),
        (calls.kv_delete("a", cas=5), NOT_FOUND, b"gone"),
        (calls.queue_ack("q", [(7, 1), (8, 1)]), 0, struct.pack("<I", 1)),
        (calls.worker_complete("r", worker_id="w", attempt=1), CONFLICT, bytes(8) + b"not held"),
    ],
    ids=lambda each: each.operation.name if isinstance(each, calls.Call) else "",
)
def test_a_second_executions_refusal_is_not_told_as_the_first_ones(kind: str, call: calls.Call[Any], status: int, payload: bytes) -> None:
    """The first execution may have done it: only that the connection was lost is known."""
    with ScriptedServer(closed, answered(payload, status)) as server, opened(kind, server.url) as client:
        with pytest.raises(Disconnected, match="closed the connection"):
            client.run(call)
        with pytest.raises(Conflict) if status == CONFLICT else nullcontext():  # executed once, the answer is told
            assert client.run(call) in (None, 1)


def test_a_pipeline_is_repeated_only_as_a_whole(kind: str) -> None:
    with ScriptedServer(closed, closed, answered()) as server, opened(kind, server.url) as client:
        with pytest.raises(Disconnected):
            client.run_many([calls.kv_get("a"), calls.kv_put("a", "1")])
        assert [entry.version for entry in client.run_many([calls.kv_get("a"), calls.kv_get("b")])] == [7, 7]
        assert server.connections == 3


def test_retries_end(kind: str) -> None:
    with ScriptedServer(closed) as server, opened(kind, server.url, retries=2) as client:
        with pytest.raises(Disconnected):
            client.kv.get("a")
        assert server.connections == 3
    with ScriptedServer(closed) as server, opened(kind, server.url, retries=0) as client:
        with pytest.raises(Disconnected):
            client.kv.get("a")
        assert server.connections == 1


def test_overloaded_is_tried_again(kind: str) -> None:
    def busy_twice(peer: Peer) -> None:
        for _ in range(2):
            peer.answer(peer.need(), b"too much", OVERLOADED)
        peer.serve()

    with ScriptedServer(busy_twice) as server, opened(kind, server.url) as client:
        assert client.kv.put("a", "1") == 7
    with ScriptedServer(answered(b"too much", OVERLOADED)) as server, opened(kind, server.url, retries=1) as client:
        with pytest.raises(Overloaded, match="too much"):
            client.kv.put("a", "1")
        (result,) = client.run_many([calls.kv_put("a", "1")])
        assert isinstance(result, Overloaded)


def test_the_leader_is_followed(kind: str) -> None:
    with ScriptedServer(answered()) as leader:
        address = f"127.0.0.1:{leader.port}".encode()
        with ScriptedServer(answered(address, NOT_LEADER)) as follower, opened(kind, follower.url) as client:
            assert client.kv.put("a", "1") == 7
            assert client.kv.put("a", "1") == 7
            assert (follower.connections, leader.connections) == (1, 1)
            leader.close()
            follower._scripts = (answered(),)  # it leads now
            with pytest.raises(Disconnected):
                client.kv.put("a", "1")
            assert client.kv.put("a", "1") == 7


def test_what_a_follower_refuses_of_a_pipeline_goes_to_the_leader(kind: str) -> None:
    taken: list[bytes] = []

    def leads(peer: Peer) -> None:
        while (asked := peer.take()) is not None:
            taken.append(asked.key)
            peer.answer(asked, VERSION)

    def follows(peer: Peer) -> None:
        while (asked := peer.take()) is not None:
            reads = asked.name == "kv_get"
            peer.answer(asked, VERSION + b"read" if reads else b"127.0.0.1:%d" % leader.port, 0 if reads else NOT_LEADER)

    with ScriptedServer(leads) as leader, ScriptedServer(follows) as follower, opened(kind, follower.url) as client:
        many = [calls.kv_get("a"), calls.kv_put("b", "1"), calls.kv_get("c"), calls.kv_put("d", "1")]
        assert client.run_many(many) == [(7, b"read"), 7, (7, b"read"), 7]
        assert taken == [b"b", b"d"]


def test_two_that_send_to_each_other_are_not_followed_for_ever(kind: str) -> None:
    with ScriptedServer(lambda peer: answered(b"127.0.0.1:%d" % server.port, NOT_LEADER)(peer)) as server:
        with opened(kind, server.url, retries=1) as client, pytest.raises(NotLeader):
            client.kv.put("a", "1")
        assert server.connections < 10
    with ScriptedServer(answered(b"", NOT_LEADER)) as server, opened(kind, server.url, retries=1) as client, pytest.raises(NotLeader):
        client.kv.put("a", "1")


def test_a_connection_at_rest_that_was_closed_is_not_used(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put on it would be lost, and is not safe to repeat."""
    monkeypatch.setattr("flo.client.blocking.REST_SECONDS", 0.0)
    gone = threading.Event()

    def one(peer: Peer) -> None:
        peer.answer(peer.need(), VERSION)
        peer.sock.shutdown(socket.SHUT_RDWR)
        gone.set()

    with ScriptedServer(one, answered()) as server, opened(kind, server.url) as client:
        assert client.kv.put("a", "1") == 7
        assert gone.wait(30)
        if kind == "asyncio":
            wait_until(lambda: client.turn() or not client._connection.is_open, "the loop to see the end")
        assert client.kv.put("a", "1") == 7


def test_a_server_that_is_killed_in_a_pipeline_and_comes_back(kind: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    with FloProcess(tmp_path / "data", "--port", str(port)) as server, opened(kind, f"flo://127.0.0.1:{port}") as client:
        client.kv.put("a", "1")
        killer = threading.Thread(target=server.kill)
        waits = [calls.kv_wait("never"), calls.kv_put("b", "2")]
        threading.Timer(0.2, killer.start).start()
        with pytest.raises(Disconnected):
            client.run_many(waits)
        killer.join(30)
        with pytest.raises(Disconnected):
            client.kv.get("a")
        server.start()
        assert client.kv.get("a").value == b"1"
