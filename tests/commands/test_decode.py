"""Requests decoded many at once and parsed one by one: the same replies, the same memory and the same log."""

from itertools import chain

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flo.commands.resp.session import RespSession
from flo.commands.runner import Reply
from flo.errors import Fatal
from flo.store.kv import KvStore
from flo.store.queue import QueueStore
from flo.store.stream import ID_MAX, Stream
from flo.ual.record import Record
from tests.support.examples import examples
from tests.support.fakes import FakeHost, feed, session
from tests.support.processes import encode

pytestmark = pytest.mark.computes

KEYS = st.sampled_from([b"a", b"b", b"key:000000000001", b"", b"k\r\n", b"c" * 2049])
VALUES = st.one_of(
    st.sampled_from([b"", b"x", b"5", b"9223372036854775807", b"-1", b"\r\n", b"$3\r\nabc", b"*2"]),
    st.sampled_from([b"v" * 2048, b"v" * 2049, b"w" * 40_000, b"\r\n*3" * 2000]),
    st.binary(max_size=30),
)
QUEUES = st.sampled_from([b"q", b"q", b"", b"q\r\n"])
SEQS = st.builds(
    lambda seq, attempt: b"%d" % seq + (b"-%d" % attempt if attempt else b""),
    st.integers(1, 30),
    st.sampled_from([0, 1, 1, 2, (1 << 20) + 1]),
)
REQUESTS = st.one_of(
    st.tuples(st.sampled_from([b"SET", b"set", b"Set"]), KEYS, VALUES),
    st.tuples(st.sampled_from([b"GET", b"get", b"INCR", b"incr", b"iNcR"]), KEYS),
    st.tuples(st.just(b"SET"), KEYS, VALUES, st.sampled_from([b"EX", b"PX"]), st.sampled_from([b"1", b"100000", b"0"])),
    st.tuples(st.sampled_from([b"DEL", b"TTL", b"PERSIST", b"EXISTS", b"TYPE", b"STRLEN"]), KEYS),
    st.tuples(st.just(b"MGET"), KEYS, KEYS),
    st.tuples(st.just(b"APPEND"), KEYS, VALUES),
    st.tuples(st.just(b"JSON.SET"), KEYS, st.just(b"$"), st.sampled_from([b"1", b'{"a":1}', b"{"])),
    st.tuples(st.sampled_from([b"LPUSH", b"lpush", b"QENQUEUE"]), QUEUES, VALUES),
    st.tuples(st.sampled_from([b"RPOP", b"rpop", b"QDEQUEUE", b"LLEN", b"QSTATS", b"DEL"]), QUEUES),
    st.tuples(st.just(b"QACK"), QUEUES, st.one_of(SEQS, SEQS, st.sampled_from([b"x", b"01", b"1-", b"1-01", b"9" * 19, b"-1"]))),
    st.tuples(st.just(b"QNACK"), QUEUES, SEQS),
    st.tuples(st.just(b"QNACK"), QUEUES, st.just(b"DLQ"), SEQS),
    st.tuples(st.just(b"QDLQ"), st.just(b"REQUEUE"), QUEUES, st.integers(1, 30).map(lambda seq: b"%d" % seq)),
    st.tuples(st.just(b"XADD"), QUEUES, st.just(b"*"), st.sampled_from([b"data", b"f", b""]), VALUES),
    st.tuples(st.just(b"XADD"), QUEUES, st.sampled_from([b"*", b"2-1", b"99999999999999-1"]), st.just(b"f"), VALUES),
    st.tuples(st.sampled_from([b"XLEN", b"XINFO"]), QUEUES),
    st.tuples(st.just(b"XTRIM"), QUEUES, st.just(b"MAXLEN"), st.just(b"1")),
    st.sampled_from(
        [(b"PING",), (b"QLAST",), (b"CLIENT", b"AUTOACK", b"ON"), (b"CLIENT", b"AUTOACK", b"OFF"),
         (b"FLUSHALL",), (b"HELLO", b"3"), (b"HELLO", b"2"), (b"NOSUCH", b"x"), (b"GET",), (b"KEYS", b"*"), (b"MULTI",),
         (b"EXEC",), (b"CLIENT", b"REPLY", b"OFF"), (b"CLIENT", b"REPLY", b"ON"), (b"CLIENT", b"REPLY", b"SKIP"), (b"RESET",)]
    ),
)  # fmt: skip


RUN_KEYS = st.sampled_from([b"key:%02d" % number for number in range(6)])
RUN_VALUES = st.sampled_from([b"123", b"abc", b"\r\n*", b"$3\r"])
RECEIPTS = st.one_of(
    st.integers(1, 9).map(lambda seq: b"%d-1" % seq),
    st.integers(1, 9).map(lambda seq: b"%d-2" % seq),
    st.integers(10, 40).map(lambda seq: b"%d" % seq),
)
# pipelines of one command, with arguments of one size, mostly
RUNS = st.one_of(
    st.lists(st.tuples(st.just(b"GET"), RUN_KEYS), min_size=4, max_size=9),
    st.lists(st.tuples(st.just(b"SET"), RUN_KEYS, RUN_VALUES), min_size=4, max_size=9),
    st.integers(2, 4).flatmap(lambda width: st.lists(st.tuples(st.just(b"MGET"), *[RUN_KEYS] * width), min_size=4, max_size=20)),
    st.lists(st.tuples(st.just(b"incr"), RUN_KEYS), min_size=4, max_size=9),
    st.lists(st.tuples(st.just(b"LPUSH"), st.just(b"q"), RUN_VALUES), min_size=4, max_size=9),
    st.lists(st.tuples(st.just(b"XADD"), st.just(b"q"), st.just(b"*"), st.just(b"f"), RUN_VALUES), min_size=4, max_size=9),
    st.lists(st.just((b"RPOP", b"q")), min_size=4, max_size=9),
    st.lists(st.just((b"QDEQUEUE", b"q")), min_size=4, max_size=9),
    st.lists(st.tuples(st.just(b"QACK"), st.just(b"q"), RECEIPTS), min_size=4, max_size=9),
)
PIPELINES = st.lists(st.one_of(REQUESTS.map(lambda request: [request]), RUNS), max_size=12).map(lambda parts: list(chain(*parts)))


def contents(store: KvStore) -> tuple[object, ...]:
    """All of a store that later answers depend on."""
    ordered = sorted(key for shard in store.shards for key in shard)
    return (
        [dict(shard) for shard in store.shards],
        dict(store.buried),
        ordered,
        store.bytes,
        store.deadlines.count,
    )


def queues_and_streams(host: FakeHost) -> tuple[object, ...]:
    """The same of the other stores."""
    queues, streams = host.engine.queues.store, host.engine.streams.store
    return (
        [dict(shard) for shard in queues.shards],
        {name: (queue.counts, list(queues.ready(queue)), list(queue.dead), dict(queue.bases)) for name, queue in queues.queues.items()},
        queues.item_bytes,
        {name: (stream.last, stream.added, stream.ascending(0, ID_MAX, 1000)) for name, stream in streams.streams.items()},
        streams.item_bytes,
    )


def log_of(host: FakeHost) -> list[Record | None]:
    return [host.engine.log.read(index) for index in range(1, host.engine.log.next_index)]


def assert_alike(one: FakeHost, other: FakeHost) -> None:
    """Both hold the same, and once the turn is over have logged the same."""
    assert contents(one.engine.kv.store) == contents(other.engine.kv.store)
    assert queues_and_streams(one) == queues_and_streams(other)
    for host in (one, other):
        host.tick()
    assert log_of(one) == log_of(other)


@pytest.mark.slow
@examples(250)
@example(turns=[([(b"GET", b"a"), (b"FLUSHALL",), (b"SET", b"a", b""), (b"KEYS", b"*")], 0, [24])])  # the flush in two pieces
@given(turns=st.lists(st.tuples(PIPELINES, st.integers(0, 3000), st.lists(st.integers(1, 200), max_size=4)), max_size=5))
def test_many_at_once_is_one_by_one(turns: list[tuple[list[tuple[bytes, ...]], int, list[int]]]) -> None:
    host, plain_host = FakeHost(), FakeHost()
    try:
        one, other = session(host), session(plain_host, plain=True)
        for requests, ms, cuts in turns:
            data = b"".join(encode(*request) for request in requests)
            at = 0
            mine = theirs = b""
            for cut in [*cuts, len(data)]:
                mine += feed(one, data[at : at + cut])
                theirs += feed(other, data[at : at + cut])
                at += cut
            assert mine == theirs
            assert contents(host.engine.kv.store) == contents(plain_host.engine.kv.store)
            assert queues_and_streams(host) == queues_and_streams(plain_host)
            for each in (host, plain_host):
                each.time += ms
                each.tick()
        assert log_of(host) == log_of(plain_host)
        assert host.counters.hits == plain_host.counters.hits
        assert host.counters.misses == plain_host.counters.misses
        scanned = [each.engine.kv.scan_job(b"", None, 100) for each in (host, plain_host)]
        from flo.engine.operation import run_job

        assert run_job(scanned[0]) == run_job(scanned[1])
    finally:
        host.close()
        plain_host.close()


@pytest.mark.parametrize("size", [2020, 2048, 2049, 10_000, 60_000])
def test_large_values_by_themselves(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request whose value is taken by its length, whatever is in it; and what only looks like one."""
    host, plain_host = FakeHost(), FakeHost()
    plainly: list[bytes] = []
    attend = RespSession.attend

    def counting(self: RespSession, args: list[bytes]) -> Reply:
        if self.host is host:
            plainly.append(args[0])
        return attend(self, args)

    monkeypatch.setattr(RespSession, "attend", counting)
    inside = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nab\r\n"
    values = [b"v" * size, b"\r\n" * (size // 2), (b"\r\n$3\r\nabc" * size)[:size], inside.ljust(size)]
    requests: list[tuple[str | bytes, ...]] = [
        (name, key, value) for name, key in (("SET", "k"), ("LPUSH", "q"), ("QENQUEUE", "q")) for value in values
    ]
    requests += [("APPEND", "k", values[0]), ("SET", "k", values[1], "EX", "9")]
    requests += [("XADD", "s", "*", "f", values[0])] * 2
    whole = [encode(*request) for request in requests]
    plain_set = encode("SET", "k", values[0])
    odd = [plain_set.replace(b"$%d" % size, b"$%d" % (size + by), 1) for by in (-3, -1, 1, 2)]
    odd += [encode("SET", f"a\r\n${size + 11}", values[0]), encode("SET", values[0], "v"), plain_set[:-1]]
    try:
        sessions = session(host), session(plain_host, plain=True)
        for each in sessions:
            feed(each, encode("LPUSH", "q", "v"))
        plainly.clear()
        for data in whole:
            assert feed(sessions[0], data) == feed(sessions[1], data), data[:100]
        assert plainly.count(b"SET") == 1, "the one with an option"
        assert b"LPUSH" not in plainly and b"QENQUEUE" not in plainly
        for data in odd:
            hosts = [session(host), session(plain_host, plain=True)]
            assert feed(hosts[0], data) == feed(hosts[1], data), data[:100]
        assert_alike(host, plain_host)
    finally:
        host.close()
        plain_host.close()


def test_a_line_searched_in_part_is_forgotten_once_it_is_decoded() -> None:
    """The start of a request may be looked at by the parser, and the whole be taken by the decoder."""
    requests = [("SET", "k", "\r\n$3\r\nabc"), ("MSET", *"a1b2c3d4e5f6"), ("GET", "k"), ("SET", "k", "v", "EX", "100")]
    data = b"".join(encode(*request) for request in requests) + encode("GET", "\r\n") + b"GET a\r\n" + encode("GET", "b")
    host = FakeHost()
    try:
        expected = feed(session(host, plain=True), data)
        for at in range(len(data)):
            for to in range(at, min(at + 30, len(data))):
                one = session(host)
                answers = [feed(one, piece) for piece in (data[:at], data[at:to], data[to:])]
                assert b"".join(answers) == expected, (data[:at], data[at:to])
    finally:
        host.close()


def test_what_is_reserved_for_a_pipeline_is_what_it_takes() -> None:
    """The log is told of no less than is appended, and of not much more, however commands alternate in one buffer."""
    for requests in (
        [encode("SET", f"k{at:04}", "v", "EX", "100") for at in range(600)],
        [encode("SET", f"k{at:04}", "v") + encode("PEXPIRE", f"k{at:04}", "5000") for at in range(600)],
        [encode("INCR", "n") + encode("RPOP", "q") + encode("EXISTS", "n") for _ in range(600)],
        [encode("SET", "large", b"v" * 20_000)] * 3,
    ):
        host = FakeHost()
        try:
            feed(session(host), b"".join(requests))
            log = host.engine.log
            appended = sum(map(len, log.pending))
            assert appended <= log.pending_bytes <= 5 * appended + 64, requests[0]
        finally:
            host.close()


def test_messages_are_taken_for_good_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With AUTOACK, as one by one: answers, memory and log; where messages end, where one came back, where one has a priority."""
    host, plain_host = FakeHost(), FakeHost()
    try:
        one, other = session(host), session(plain_host, plain=True)

        def both(data: bytes) -> bytes:
            mine = feed(one, data)
            assert mine == feed(other, data)
            for each in (host, plain_host):
                each.tick()
            assert queues_and_streams(host) == queues_and_streams(plain_host)
            return mine

        both(b"".join(encode("LPUSH", "q", f"m{number}") for number in range(12)))
        both(encode("QDEQUEUE", "q") + encode("CLIENT", "AUTOACK", "ON"))
        with monkeypatch.context() as patch:
            patch.setattr(type(one), "attend", None)
            assert feed(one, encode("RPOP", "q") * 5).count(b"$2") == 5
        assert feed(other, encode("RPOP", "q") * 5).count(b"$2") == 5
        both(encode("QNACK", "q", "1-1") + encode("QENQUEUE", "q", "urgent", "PRIORITY", "1"))
        assert both(encode("RPOP", "q") * 9).endswith(b"urgent\r\n$-1\r\n")
        assert log_of(host) == log_of(plain_host)
    finally:
        host.close()
        plain_host.close()


def test_messages_that_came_back_from_the_dead_letters_in_runs() -> None:
    """They are taken and acknowledged as one by one; an old receipt does not count."""
    host, plain_host = FakeHost(), FakeHost()
    try:
        one, other = session(host), session(plain_host, plain=True)

        def both(*requests: bytes) -> bytes:
            mine = feed(one, b"".join(requests))
            assert mine == feed(other, b"".join(requests))
            assert queues_and_streams(host) == queues_and_streams(plain_host)
            return mine

        both(*[encode("LPUSH", "q", f"m{number}") for number in range(8)])
        both(*[encode("QDEQUEUE", "q")] * 8)
        both(*[encode("QNACK", "q", "DLQ", f"{seq}-1") for seq in range(1, 9)], encode("QDLQ", "REQUEUE", "q", *range(1, 9)))
        assert both(*[encode("QDEQUEUE", "q")] * 4, *[encode("RPOP", "q")] * 4).count(b":2\r\n") == 5  # of four the attempt, of one the seq
        assert both(*[encode("QACK", "q", f"{seq}-1") for seq in range(1, 9)]) == b":0\r\n" * 8
        assert both(*[encode("QACK", "q", f"{seq}-2") for seq in range(1, 9)]) == b":1\r\n" * 8
        assert not host.engine.queues.store.queues[b"q"].bases
        assert_alike(host, plain_host)
    finally:
        host.close()
        plain_host.close()


def test_receipts_that_are_not_right_are_refused_in_a_run_as_well() -> None:
    """Attempts so large that they would reach into the bits of the queue's number, or several in one run; another queue's; doubled."""
    host, plain_host = FakeHost(), FakeHost()
    try:
        one, other = session(host), session(plain_host, plain=True)

        def both(*requests: bytes) -> bytes:
            mine = feed(one, b"".join(requests))
            assert mine == feed(other, b"".join(requests))
            for each in (host, plain_host):
                each.tick()
            assert queues_and_streams(host) == queues_and_streams(plain_host)
            return mine

        for name in "abc":
            both(*(encode("QENQUEUE", name, f"{name}{number}") for number in range(6)))
        for name in "abc":
            both(*[encode("QDEQUEUE", name)] * 6)
        both(*(encode("QNACK", "b", f"{seq}-1") for seq in (8, 10)), *[encode("QDEQUEUE", "b")] * 2)
        leased = 1 << 20
        for name, first in (("a", 1), ("b", 7), ("c", 13)):
            for attempt in (leased, leased + 1, 2 * leased + 1, 999_999_999):
                for base in (1, 7, 13):
                    assert both(*(encode("QACK", name, f"{seq}-{attempt}") for seq in range(base, base + 6))) == b":0\r\n" * 6
            assert both(*(encode("QACK", name, f"{seq}-1") for seq in range(first + 6, first + 12))) == b":0\r\n" * 6
        assert (
            both(*(encode("QACK", "b", f"{seq}-{attempt}") for seq, attempt in zip(range(7, 11), (1, 2, 1, 1), strict=True))).count(b":1")
            == 3
        )
        assert both(*[encode("QACK", "a", "1-1")] * 4) == b":1\r\n:0\r\n:0\r\n:0\r\n"
        assert both(*(encode("QACK", "c", f"{seq}-1") for seq in range(13, 19))) == b":1\r\n" * 6
        assert log_of(host) == log_of(plain_host)
    finally:
        host.close()
        plain_host.close()


def test_values_are_read_many_at_once() -> None:
    """MGET in runs: all of one size, of several, some missing, a large one, one of another kind; more than goes at once."""
    host, plain_host = FakeHost(), FakeHost()
    try:
        one, other = session(host), session(plain_host, plain=True)
        keys = [f"key:{number:02}" for number in range(40)]
        data = b"".join(encode("SET", key, "abc" if key < "key:20" else "x" * int(key[4:])) for key in keys)
        data += encode("SET", "key:30", "y" * 500) + encode("JSON.SET", "key:31", "$", "1") + encode("SET", "key:32", "z" * 3000)
        assert feed(one, data) == feed(other, data)
        for first, last in ((0, 20), (10, 30), (25, 32), (31, 40), (35, 45)):
            for times in (1, 3, 30):
                rows = [[f"key:{number:02}" for number in range(first, last)][at % 3 : at % 3 + 5] for at in range(times * 4)]
                data = b"".join(encode("MGET", *row) for row in rows)
                assert feed(one, data) == feed(other, data)
        assert vars(host.counters) == vars(plain_host.counters)
    finally:
        host.close()
        plain_host.close()


def test_usual_requests_are_decoded_many_at_once() -> None:
    """Were it never taken, the twin test could not fail."""
    host = FakeHost()
    try:
        data = encode("SET", "k", "1") + encode("GET", "k") + encode("INCR", "n") + encode("INCR", "n")
        calls, end_of = session(host).decode(data)
        assert len(calls) == 4 and end_of(4) == len(data)
    finally:
        host.close()


def test_values_with_a_line_end_or_of_any_length_stay_whole() -> None:
    host = FakeHost()
    try:
        made = session(host)
        for size in (*range(40), 399, 400, 401, 2047, 2048, 2049, 32_767, 32_768, 70_000):
            value = (b"a\r\n$1\r\n" * (size // 7 + 1))[:size]
            assert feed(made, encode("SET", "k", value) + encode("GET", "k")) == b"+OK\r\n$%d\r\n%b\r\n" % (size, value)
    finally:
        host.close()


def test_a_defect_after_an_append_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not look like a request that does not fit the flat way, which would be tried again."""
    host = FakeHost()

    def broken(*_: object) -> None:
        raise KeyError("a defect")

    try:
        made = session(host)
        feed(made, encode("LPUSH", "q", "x") + encode("XADD", "s", "*", "f", "v"))
        host.tick()
        for owner, method, request in (
            (Stream, "append", encode("XADD", "s", "*", "f", "v")),
            (QueueStore, "lease", encode("RPOP", "q")),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(owner, method, broken)
                with pytest.raises(Fatal, match="after it had appended"):
                    feed(made, request)
            host.engine.log.pending.clear()
            host.engine.log.next_index = host.engine.log.written + 1
    finally:
        host.close()
