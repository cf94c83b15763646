"""Binary sessions without a socket: the flat path against its plain twin, waits, and 100,000 damaged requests."""

import random
import struct
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flo.commands.binary import load_handlers
from flo.commands.binary.session import BinarySession
from flo.commands.runner import Reply
from flo.operations import BY_NAME, OPERATIONS
from flo.proto import binary
from flo.proto.binary import FrameReader, Request, Response, encode_request, namespace_hash, split_response
from tests.commands.test_decode import assert_alike, contents, log_of
from tests.support.examples import examples
from tests.support.fakes import FakeHost, FakePeer

pytestmark = pytest.mark.computes

load_handlers()


def made(host: FakeHost, plain: bool = False) -> BinarySession:
    """A session on `host`; a `plain` one never takes the flat path."""
    session = BinarySession(host, FakePeer())
    session.ordinary = session.ordinary and not plain
    return session


def feed(session: BinarySession, data: bytes) -> bytes:
    """Feed bytes, and again what is not taken; returns the answers."""
    rest = getattr(session.peer, "rest", b"") + data
    answers = b""
    while True:
        taken = session.feed(rest, 1 << 40)
        rest = rest[taken:]
        while session.job is not None:
            session.resume()
        answers += b"".join(session.peer.out)
        session.peer.out.clear()
        if not (session.halted and taken) or not rest:
            break
    session.peer.__dict__["rest"] = rest
    session.answer_due(1 << 40)
    answers += b"".join(session.peer.out)
    session.peer.out.clear()
    return answers


def responses(data: bytes) -> list[Response]:
    """The responses in `data`, which must be whole."""
    reader, found, at = FrameReader(24), [], 0
    while at < len(data):
        frame, at = reader.parse(data, at)
        assert frame is not None
        found.append(split_response(frame))
    return found


def ask(session: BinarySession, name: str, key: bytes = b"", value: bytes = b"", namespace: int = 0, **options: object) -> Response:
    """One request's response."""
    (response,) = responses(feed(session, encode_request(BY_NAME[name], 1, namespace, key, value, options)))
    return response


KEYS = st.sampled_from([b"a", b"b", b"ab", b"", b"k" * 300, b"n"])
VALUES = st.sampled_from(
    [b"", b"1", b"12", b"x" * 9, b"y" * 10, b"z" * 99, b"v" * 100, b"w" * 2040, b"u" * 3000, b"9223372036854775807", b"\r\n"]
)
DEFAULTS = st.sampled_from([0, 0, 0, namespace_hash("default"), namespace_hash("other"), namespace_hash("nowhere")])


@st.composite
def one_request(draw: st.DrawFn) -> bytes:
    """Mostly what the flat path takes, and some of everything else."""
    name = draw(
        st.sampled_from(
            ["kv_get"] * 4
            + ["kv_put"] * 4
            + ["kv_incr"] * 4
            + ["kv_delete", "kv_touch", "kv_exists", "kv_history", "kv_scan", "kv_cas", "kv_json_set"]
        )
    )
    operation = BY_NAME[name]
    options: dict[str, object] = {}
    if name == "kv_touch":
        options["ttl"] = draw(st.integers(0, 2))
    elif name == "kv_put" and draw(st.integers(0, 3)) == 0:
        options["ttl"] = 1
    elif name == "kv_cas":
        options["cas_version"] = draw(st.integers(0, 3))
    elif name == "kv_incr" and draw(st.integers(0, 3)) == 0:
        options["delta"] = draw(st.sampled_from([-1, 5, 2**62]))
    value = draw(VALUES) if operation.value else b""
    times = draw(st.sampled_from([1, 1, 1, 3, 70, 300]))
    namespace = draw(DEFAULTS)
    if times > 1 and draw(st.booleans()):  # a run over several keys, some of which are not there, or are of another kind
        keys = draw(st.lists(st.sampled_from([b"a", b"b", b"n", b"c", b"d"]), min_size=times % 97, max_size=times % 97))
        return b"".join(encode_request(operation, at << 55 | at, namespace, key, value, options) for at, key in enumerate(keys))
    return encode_request(operation, draw(st.integers(0, 2**64 - 1)), namespace, draw(KEYS), value, options) * times


@pytest.mark.slow
@examples(180)
@example(turns=[([encode_request(BY_NAME["kv_incr"], 1, 0, b"a")] * 70, 0, [])])
@given(
    st.lists(st.tuples(st.lists(one_request(), max_size=10), st.integers(0, 3000), st.lists(st.integers(1, 300), max_size=4)), max_size=4)
)
def test_the_flat_path_is_its_plain_twin(turns: list[tuple[list[bytes], int, list[int]]]) -> None:
    flat_host, plain_host = FakeHost(), FakeHost()
    try:
        for host in (flat_host, plain_host):
            host.engine.create_namespace("other")
        one, other = made(flat_host), made(plain_host, plain=True)
        for requests, ms, cuts in turns:
            data = b"".join(requests)
            at = 0
            for cut in [*cuts, len(data)]:
                assert feed(one, data[at : at + cut]) == feed(other, data[at : at + cut])
                at += cut
            for name in ("default", "other"):
                assert contents(flat_host.engine.namespace(name).kv.store) == contents(plain_host.engine.namespace(name).kv.store)
            for host in (flat_host, plain_host):
                host.time += ms
                host.tick()
        assert log_of(flat_host) == log_of(plain_host)
        assert flat_host.counters.hits == plain_host.counters.hits
        assert flat_host.counters.misses == plain_host.counters.misses
        assert flat_host.counters.commands == plain_host.counters.commands
    finally:
        flat_host.close()
        plain_host.close()


def test_the_flat_path_is_taken() -> None:
    """Were it never taken, the twin test could not fail."""
    host = FakeHost()
    try:
        data = b"".join(
            encode_request(BY_NAME[name], 1, 0, b"key", b"1" if name == "kv_put" else b"") for name in ("kv_put", "kv_get", "kv_get")
        )
        session = made(host)
        assert len(session.decode(data)[0]) == 3
        lone = encode_request(BY_NAME["kv_get"], 1, 0, b"key")
        assert len(session.decode(lone)[0]) == 1
    finally:
        host.close()


@pytest.mark.parametrize("name", ["kv_put", "kv_get", "kv_incr"])
def test_a_long_run_is_one_in_every_byte(name: str) -> None:
    """What must be the same in all requests of a long run is compared a byte of all of them at once. One bit that differs in one of them,
    at each byte of the header and at the first, a middle and the last request, is answered as the plain way does; and so is a run in
    which nothing differs, over more versions than one byte counts."""
    count = 128
    operation = BY_NAME[name]
    value = b"7" if operation.value else b""
    one = len(encode_request(operation, 0, 0, b"key", value))
    run = b"".join(encode_request(operation, at << 56 | at << 7, 0, b"key", value) for at in range(count))
    flat_host, plain_host = FakeHost(), FakeHost()
    try:
        cases = [(0, 0)] * 5 + [
            (at * one + byte, 1 << byte % 8) for at in (0, count // 2, count - 1) for byte in range(binary.REQUEST_BYTES)
        ]
        for at, bit in cases:
            data = bytearray(run)
            data[at] ^= bit
            answered = []
            for host, plain in ((flat_host, False), (plain_host, True)):
                session = made(host, plain)
                answered.append(feed(session, encode_request(BY_NAME["kv_put"], 1, 0, b"key", b"5") + bytes(data)))
                session.end()
                host.tick()
            assert answered[0] == answered[1], (at, bit)
        assert log_of(flat_host) == log_of(plain_host)
        assert flat_host.engine.log.next_index > 1000 or name == "kv_get"
    finally:
        flat_host.close()
        plain_host.close()


@pytest.mark.parametrize(
    ("name", "value"), [("kv_put", b"7"), ("kv_put", b"v" * 16), ("kv_put", b"v" * 17), ("kv_incr", b""), ("kv_get", b"")]
)
def test_a_long_run_over_keys_of_every_kind(name: str, value: bytes) -> None:
    """Missing ones, texts of several lengths, counters, and far in the run one that was deleted and one with a deadline, which a run cannot
    have: each as the plain way has it, and so is what a scan finds afterwards."""
    count = 370
    keys = [b"k%03d" % number for number in range(count)]
    requests: list[bytes] = []
    for number, key in enumerate(keys):
        if number % 7 == 3:
            requests.append(encode_request(BY_NAME["kv_incr"], number, 0, key))
        elif name != "kv_incr" and number % 2:
            requests.append(encode_request(BY_NAME["kv_put"], number, 0, key, b"x" * (number % 19 + 1)))
    # runs grow, 8, 16, 32 and so on, and begin anew behind what ends one: these are in the middle of long ones, and the last is long too
    deleted = encode_request(BY_NAME["kv_put"], 1, 0, keys[135], b"5") + encode_request(BY_NAME["kv_delete"], 2, 0, keys[135])
    with_deadline = encode_request(BY_NAME["kv_put"], 3, 0, keys[201], b"5", {"ttl": 100})
    run = b"".join(encode_request(BY_NAME[name], number, 0, key, value) for number, key in enumerate(keys))
    flat_host, plain_host = FakeHost(), FakeHost()
    try:
        one, other = made(flat_host), made(plain_host, plain=True)
        # a scan before and after: what a run adds is found by it
        for data in (b"".join(requests), deleted, with_deadline, encode_request(BY_NAME["kv_scan"], 1, 0, b"", b"", {"limit": 1000}), run):
            assert feed(one, data) == feed(other, data)
        assert_alike(flat_host, plain_host)
        assert ask(one, "kv_scan", limit=1000) == ask(other, "kv_scan", limit=1000)
    finally:
        flat_host.close()
        plain_host.close()


@pytest.mark.parametrize("size", [2000, 2048, 2049, 10_000, 65_000, 65_536])
def test_large_requests_in_the_flat_path(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values too large for runs, alone and in pipelines, are as the plain way has them; values up to 64 KiB do not take that."""
    flat_host, plain_host = FakeHost(), FakeHost()
    plainly: list[int] = []
    attend = BinarySession.attend

    def counting(self: BinarySession, request: Request) -> Reply:
        if self.host is flat_host:
            plainly.append(len(request.value))
        return attend(self, request)

    monkeypatch.setattr(BinarySession, "attend", counting)
    put, get, incr = (BY_NAME[name] for name in ("kv_put", "kv_get", "kv_incr"))
    value, key = b"\r\n7" * (size // 3), b"k" * min(size, 65_535)
    try:
        one, other = made(flat_host), made(plain_host, plain=True)
        for data in (
            encode_request(put, 1, 0, b"a", value),
            encode_request(put, 2, 0, b"a", value[1:]),
            b"".join(encode_request(put, 3 + at, 0, b"a%d" % at, value) for at in range(5)),
            encode_request(put, 8, 0, b"a", value[1:]) + encode_request(put, 9, 0, b"b", b"v") + encode_request(put, 10, 0, b"a", value),
        ):
            assert feed(one, data) == feed(other, data)
        assert not plainly or size == 65_536, "with its key it is larger than what is received at once"
        for data in (
            encode_request(get, 11, 0, b"a") * 3,
            encode_request(incr, 12, 0, key),
            encode_request(incr, 13, 0, key) * 3,
            encode_request(get, 14, 0, key),
            encode_request(put, 15, 0, key, b"v"),
            encode_request(put, 16, 0, b"a", value, {"ttl": 1000}),
            encode_request(put, 17, 0, b"a", value),
        ):
            assert feed(one, data) == feed(other, data)
        assert_alike(flat_host, plain_host)
    finally:
        flat_host.close()
        plain_host.close()


def test_large_values_are_not_gathered_to_be_refused() -> None:
    """What is read beyond the room for answers is not copied: 256 requests for a mebibyte are not 256 mebibytes."""
    host = FakeHost()
    try:
        session = made(host)
        feed(session, encode_request(BY_NAME["kv_put"], 1, 0, b"large", bytes(1 << 20)))
        host.tick()
        data = b"".join(encode_request(BY_NAME["kv_get"], at, 0, b"large") for at in range(256))
        tracemalloc.start()
        try:
            taken = session.feed(data, 1 << 20)
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()
        assert 0 < taken < len(data) and session.yielded
    finally:
        host.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_damaged_requests_never_break_the_session(seed: int) -> None:
    """100,000 in all: each is answered, refused, or ends the connection; the log never fails and nothing raises."""
    chance = random.Random(seed)
    host = FakeHost()
    try:
        session = made(host)
        ended = 0
        for number in range(25_000):
            operation = chance.choice(OPERATIONS)
            options = dict.fromkeys(operation.required, 1)
            value = b"" if not operation.value else chance.choice([b"{}", b"1", bytes(8), b"\x01\x00\x00\x00" + bytes(12), b"v" * 50])
            data = bytearray(encode_request(operation, number, 0, b"k" * chance.randrange(3) if operation.key else b"", value, options))
            for _ in range(chance.randrange(1, 4)):
                kind, at = chance.randrange(4), chance.randrange(len(data))
                if kind == 0:
                    data[at] = chance.randrange(256)
                elif kind == 1:
                    data[at] ^= 1 << chance.randrange(8)
                elif kind == 2:
                    del data[at:]
                    if not data:
                        break
                else:
                    data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 5)))
            answered = feed(session, bytes(data))
            assert not any(response.status == binary.INTERNAL_ERROR for response in responses(answered)), bytes(data).hex()
            if getattr(session.peer, "closed", False) or session.unfinished or getattr(session.peer, "rest", b""):
                ended += 1
                session.end()
                session = made(host)
            if number % 100 == 0:
                host.tick()
        assert ended > 1000
        assert not host.waiting or session.waits
        assert not [line for line in host.logged if line.startswith("error")]
        assert ask(made(host), "ping", value=b"still here").payload == b"still here"
    finally:
        host.close()


# -- waiting ---------------------------------------------------------------------------------------


@pytest.fixture
def host() -> "FakeHost":
    found = FakeHost()
    found.engine.create_namespace("other")
    return found


def send(
    session: BinarySession, req_id: int, name: str, key: bytes = b"", value: bytes = b"", namespace: int = 0, **options: object
) -> list[Response]:
    """Responses that come at once."""
    return responses(feed(session, encode_request(BY_NAME[name], req_id, namespace, key, value, options)))


def out(session: BinarySession) -> list[Response]:
    """Responses that came since, as at the end of a turn."""
    while session.host.engine.notify():
        pass
    session.answer_due(1 << 40)
    data = b"".join(session.peer.out)
    session.peer.out.clear()
    return responses(data)


def version(response: Response) -> int:
    return int(struct.unpack_from("<Q", response.payload)[0])


def test_wait_answers_when_the_key_exists(host: FakeHost) -> None:
    waiting, writing = made(host), made(host)
    assert send(waiting, 1, "kv_get", b"k", wait=0) == []
    assert send(waiting, 2, "ping", value=b"on") == [Response(0, 2, b"on")], "a waiter holds up nothing"
    assert host.waiting == 1
    (put,) = send(writing, 3, "kv_put", b"k", b"v")
    assert out(waiting) == [Response(0, 1, struct.pack("<Q", version(put)) + b"v")]
    assert host.waiting == 0 and not waiting.waits
    (at_once,) = send(waiting, 4, "kv_get", b"k", wait=0)
    assert at_once.payload[8:] == b"v" and host.waiting == 0
    host.close()


def test_the_flat_path_wakes_those_who_wait(host: FakeHost) -> None:
    """In one turn: the flat path has its context at hand, then somebody begins to wait, then the flat path writes."""
    waiting, writing = made(host), made(host)
    send(writing, 1, "kv_put", b"k", b"1")
    assert send(waiting, 2, "kv_get", b"k", block=0) == []
    send(writing, 3, "kv_put", b"k", b"2")
    assert [r.payload[8:] for r in out(waiting)] == [b"2"]
    host.close()


def test_block_answers_a_newer_version_or_the_deletion(host: FakeHost) -> None:
    waiting, writing = made(host), made(host)
    (put,) = send(writing, 1, "kv_put", b"k", b"1")
    assert send(waiting, 2, "kv_get", b"k", block=0, cas_version=version(put)) == []
    assert send(waiting, 3, "kv_get", b"k", block=0) == []
    (behind,) = send(waiting, 4, "kv_get", b"k", block=0, cas_version=0)
    assert behind.payload[8:] == b"1", "its version is over 0 already"
    send(writing, 5, "kv_delete", b"k")
    assert sorted((r.req_id, r.status) for r in out(waiting)) == [(2, 1), (3, 1)]
    (gone,) = send(waiting, 6, "kv_get", b"k", block=0, cas_version=version(put))
    assert gone.status == binary.NOT_FOUND
    assert send(waiting, 7, "kv_get", b"k", block=0) == [], "there is no key: what comes is newer"
    send(writing, 8, "kv_put", b"k", b"2")
    assert [r.payload[8:] for r in out(waiting)] == [b"2"]
    host.close()


def test_a_wait_times_out_with_what_is_there(host: FakeHost) -> None:
    waiting, writing = made(host), made(host)
    send(waiting, 1, "kv_get", b"none", wait=50)
    (put,) = send(writing, 2, "kv_put", b"k", b"v")
    send(waiting, 3, "kv_get", b"k", block=70)
    assert [timer.seconds for timer in host.timers] == [0.05, 0.07]
    for timer in host.timers:
        timer.callback()
    assert sorted((r.req_id, r.status) for r in out(waiting)) == [(1, 1), (3, 0)]
    assert host.waiting == 0
    send(writing, 4, "kv_put", b"none", b"late")
    assert out(waiting) == []
    assert version(put)
    host.close()


def test_a_wait_for_a_deadline_goes_by_the_wall_clock(host: FakeHost) -> None:
    """Its timer goes by the steady one: where the wall clock went back meanwhile, the key is there when it fires."""
    waiting, writing, start = made(host), made(host), host.time
    send(writing, 1, "kv_put", b"k", b"v", ttl=10)
    assert send(waiting, 2, "kv_get", b"k", block=0) == []
    assert [timer.seconds for timer in host.timers] == [10.001]
    host.time -= 3_600_000
    host.tick()
    host.timers[0].callback()
    assert out(waiting) == []
    assert [timer.seconds for timer in host.timers] == [10.001, 3610.001], "it waits for the deadline again"
    host.time = start + 10_000
    host.tick()
    host.timers[1].callback()
    assert [(r.req_id, r.status) for r in out(waiting)] == [(2, binary.NOT_FOUND)]
    assert len(host.timers) == 2
    host.close()


def test_an_answer_behind_the_commit_writes_nothing(host: FakeHost) -> None:
    """A wait that ends as the key expires is answered when its connection sends: the key is gone for good, and the next turn buries it."""
    waiting, writing = made(host), made(host)
    send(writing, 1, "kv_put", b"k", b"v", ttl=1)
    assert send(waiting, 2, "kv_get", b"k", block=1000) == []
    host.time += 1000
    host.tick()
    host.timers[0].callback()
    host.engine.commit()
    assert [(r.req_id, r.status) for r in out(waiting)] == [(2, binary.NOT_FOUND)]
    assert not host.engine.log.pending
    host.time -= 3_600_000
    host.tick()
    assert ask(writing, "kv_exists", b"k").payload == b"\0"
    host.engine.sweep()
    assert host.engine.kv.history(b"k")[0].tombstone and host.engine.log.pending
    host.close()


def test_waits_end_with_their_connection_and_their_namespace(host: FakeHost) -> None:
    waiting, writing = made(host), made(host)
    send(waiting, 1, "kv_get", b"k", wait=1000)
    waiting.end()
    assert host.waiting == 0 and host.timers[0].cancelled
    send(writing, 2, "kv_put", b"k", b"v")
    assert waiting.peer.out == []
    other = made(host)
    assert send(other, 3, "kv_get", b"k", namespace=namespace_hash("other"), wait=0) == []
    assert send(writing, 4, "namespace_delete", b"other") == [Response(0, 4, b"")]
    assert [r.status for r in out(other)] == [binary.NOT_FOUND]
    host.close()


def test_waiters_are_bounded(host: FakeHost) -> None:
    host.settings.waiters = 3
    session = made(host)
    for number in range(3):
        assert send(session, number, "kv_get", b"k", wait=0) == []
    (refused,) = send(session, 9, "kv_get", b"k", wait=0)
    assert refused.status == binary.OVERLOADED and b"limits.waiters" in refused.payload
    host.close()


@pytest.mark.parametrize(
    "options", [{"wait": 1, "block": 1}, {"cas_version": 1}, {"wait": 1, "cas_version": 1}], ids=["both", "alone", "with wait"]
)
def test_waits_that_make_no_sense_are_refused(host: FakeHost, options: dict[str, int]) -> None:
    (response,) = responses(feed(made(host), encode_request(BY_NAME["kv_get"], 1, 0, b"k", b"", options)))
    assert response.status == binary.BAD_REQUEST
    assert host.waiting == 0
    host.close()


def test_a_deleted_namespace_is_not_written_to_by_sessions_that_used_it(host: FakeHost) -> None:
    session, other = made(host), namespace_hash("other")
    assert send(session, 1, "kv_put", b"k", b"v", namespace=other)[0].status == 0
    assert send(session, 2, "kv_delete", b"k", namespace=other)[0].status == 0
    assert send(session, 3, "namespace_delete", b"other")[0].status == 0
    for name in ("kv_put", "kv_get", "kv_incr"):
        (response,) = send(session, 4, name, b"k", b"v" if name == "kv_put" else b"", namespace=other)
        assert response.status == binary.BAD_REQUEST
    host.close()


def test_a_request_under_way_is_not_taken_for_the_lone_one(host: FakeHost) -> None:
    """Behind a request of the plain path comes the start of a kv_get that is as long as both together."""
    session = made(host)
    send(session, 1, "kv_put", b"k" * 48, b"v")
    exists = encode_request(BY_NAME["kv_exists"], 2, 0, b"k" * 8)
    get = encode_request(BY_NAME["kv_get"], 3, 0, b"k" * 48)
    cut = len(get) - len(exists)
    assert [r.req_id for r in responses(feed(session, exists + get[:cut]))] == [2]
    assert [(r.req_id, r.payload[8:]) for r in responses(feed(session, get[cut:]))] == [(3, b"v")]
    host.close()
