"""Streams and consumer groups over both protocols, in the client, on the command line; and those who wait."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flo import errors
from flo.calls import Call, StreamId, StreamRecord, group_read, stream_append, stream_read
from flo.client import Client
from flo.engine import Engine
from flo.proto import fields
from flo.ual.record import STREAM_CONSUMER
from tests.support.processes import FloProcess, ReplyError, encode, wait_until


@pytest.fixture
def client(flo: FloProcess) -> Iterator[Client]:
    """Flo's own client."""
    with Client(f"flo://127.0.0.1:{flo.port}") as found:
        yield found


def test_redis_pys_own_api(flo: FloProcess) -> None:
    r: Any = redis.Redis(port=flo.port, decode_responses=True)
    first = r.xadd("s", {"a": "1", "b": "2"})
    second = r.xadd("s", {"c": "3"}, maxlen=10, approximate=True)
    assert r.xlen("s") == 2
    assert r.xrange("s") == [(first, {"a": "1", "b": "2"}), (second, {"c": "3"})]
    assert r.xrevrange("s", count=1) == [(second, {"c": "3"})]
    assert r.xread({"s": "0"}, count=1) == [["s", [(first, {"a": "1", "b": "2"})]]]
    assert r.xread({"s": "$"}, block=10) == []
    assert r.xgroup_create("s", "g", id="0") is True
    assert r.xgroup_createconsumer("s", "g", "c") == 1
    assert r.xreadgroup("g", "c", {"s": ">"}, count=1) == [["s", [(first, {"a": "1", "b": "2"})]]]
    assert r.xpending("s", "g") == {"pending": 1, "min": first, "max": first, "consumers": [{"name": "c", "pending": 1}]}
    (row,) = r.xpending_range("s", "g", "-", "+", 10)
    assert (row["message_id"], row["consumer"], row["times_delivered"]) == (first, "c", 1)
    assert r.xclaim("s", "g", "d", 0, [first]) == [(first, {"a": "1", "b": "2"})]
    assert r.xautoclaim("s", "g", "e", 0) == ["0-0", [(first, {"a": "1", "b": "2"})], []]
    assert r.xautoclaim("s", "g", "e", 0, justid=True) == [first]
    assert r.xinfo_stream("s")["length"] == 2
    assert r.xinfo_stream("s", full=True)["groups"][0]["name"] == "g"
    assert [group["name"] for group in r.xinfo_groups("s")] == ["g"]
    assert sorted(c["name"] for c in r.xinfo_consumers("s", "g")) == ["c", "d", "e"]
    assert r.xack("s", "g", first) == 1
    assert r.xgroup_setid("s", "g", "$") is True
    assert r.xgroup_delconsumer("s", "g", "e") == 0
    assert r.xdel("s", second) == 1
    assert r.xtrim("s", maxlen=0) == 1
    assert r.xgroup_destroy("s", "g") == 1
    r.close()


def test_both_protocols_read_each_others_records(flo: FloProcess, client: Client) -> None:
    with flo.connect() as resp:
        raw = client.streams.append("s", b"bytes\r\n")
        one = resp.command("XADD", "s", "*", "data", "text").decode()
        many = resp.command("XADD", "s", "*", "a", "1", "", "2").decode()
        assert resp.command("XRANGE", "s", "-", "+") == [
            [str(raw).encode(), [b"data", b"bytes\r\n"]],
            [one.encode(), [b"data", b"text"]],
            [many.encode(), [b"a", b"1", b"", b"2"]],
        ]
    records = client.streams.read("s")
    assert [(str(r.id), r.kind) for r in records] == [(str(raw), 0), (one, 0), (many, 1)]
    assert [r.payload for r in records[:2]] == [b"bytes\r\n", b"text"]
    assert [r.fields for r in records] == [[(b"data", b"bytes\r\n")], [(b"data", b"text")], [(b"a", b"1"), (b"", b"2")]]
    assert fields.unpack(records[2].payload) == [b"a", b"1", b"", b"2"]


def test_the_binary_client(client: Client) -> None:
    streams = client.streams
    assert streams.read("s") == [] and streams.info("s") == (StreamId(0, 0), StreamId(0, 0), 0, 0, 0)
    ids = [streams.append("s", b"%d" % number) for number in range(5)]
    assert ids == sorted(set(ids))
    assert [r.payload for r in streams.read("s", ids[1], ids[3])] == [b"1", b"2", b"3"]
    assert streams.read("s", str(ids[4])) == [StreamRecord(ids[4], 0, b"4")]
    assert streams.read("s", tail=True) == []
    assert [r.payload for r in streams.scan("s", limit_of(ids))] == [b"2", b"3", b"4"]
    info = streams.info("s")
    assert (info.first, info.last, info.records, info.size, info.groups) == (ids[0], ids[4], 5, 5, 0)
    assert streams.trim("s", max_len=4, dry_run=True) == 1 == streams.trim("s", max_len=4)
    assert streams.trim("s", start=ids[2], max_bytes=10) == 1
    with pytest.raises(errors.BadRequest, match="needs at least one of"):
        streams.trim("s")
    with pytest.raises(errors.Conflict, match="exists already"):
        streams.create("s")
    streams.create("bounded", max_len=2)
    for number in range(5):
        streams.append("bounded", b"%d" % number)
    assert [r.payload for r in streams.read("bounded")] == [b"3", b"4"]
    assert [s["name"] for s in streams.list()] == ["bounded", "s"]

    taken = streams.group_read("s", "g", "c", limit=2)
    assert [(r.payload, r.deliveries) for r in taken] == [(b"2", 1), (b"3", 1)]
    assert streams.nack("s", "g", taken[0]) == 1
    assert [(r.payload, r.deliveries) for r in streams.group_read("s", "g", "d", limit=1)] == [(b"2", 2)]
    assert streams.ack("s", "g", taken[1], "1-1") == 1
    assert [r.payload for r in streams.claim("s", "g", "e")] == [b"2"]
    assert streams.touch("s", "g", ids[2], lease=1000, consumer="nobody") == 0
    assert streams.touch("s", "g", ids[2], lease=1000) == 1
    pending = streams.pending("s", "g")
    assert [(p["id"], p["consumer"], p["deliveries"]) for p in pending["pending"]] == [(str(ids[2]), "e", 3)]
    group = streams.group_info("s", "g")
    assert (group["pending"], group["lag"], group["made_by"], group["ack_timeout_ms"]) == (1, 1, "flo", 30_000)
    with pytest.raises(errors.Conflict):
        streams.group_create("s", "g")
    streams.group_create("s", "late", tail=True)
    assert streams.group_read("s", "late", "c") == []
    for gone in (lambda: streams.ack("s", "none", "1-1"), lambda: streams.group_info("none", "g"), lambda: streams.group_delete("s", "x")):
        with pytest.raises(errors.NotFound, match="consumer group"):
            gone()
    streams.group_delete("s", "g")
    streams.delete("s")
    assert streams.info("s").records == 0


def limit_of(ids: list[StreamId]) -> StreamId:
    """The third: where a scan begins."""
    return ids[2]


def test_what_is_not_acknowledged_in_time_goes_to_another_and_dies_in_the_end(client: Client) -> None:
    client.streams.append("s", b"x")
    client.streams.group_create("s", "g", ack_timeout=50, max_deliver=2)
    assert [r.deliveries for r in client.streams.group_read("s", "g", "a")] == [1]
    assert [r.deliveries for r in client.streams.group_read("s", "g", "b", block=10_000)] == [2]
    wait_until(lambda: client.streams.pending("s", "g")["dead_count"] == 1, "its death")
    (letter,) = client.streams.pending("s", "g")["dead"]
    assert (letter["consumer"], letter["deliveries"]) == ("b", 2)
    assert client.streams.nack("s", "g", letter["id"]) == 1
    assert [r.deliveries for r in client.streams.group_read("s", "g", "c")] == [1]


def test_a_group_of_xgroup_redelivers_nothing_by_itself(flo: FloProcess, client: Client) -> None:
    with flo.connect() as resp:
        resp.command("XADD", "s", "1-1", "a", "1")
        resp.command("XGROUP", "CREATE", "s", "g", "0")
        assert len(resp.command("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")) == 1
        (pending,) = client.streams.pending("s", "g")["pending"]
        assert pending["deadline"] == 0
        assert client.streams.nack("s", "g", "1-1") == 1
        assert resp.command("XREADGROUP", "GROUP", "g", "d", "STREAMS", "s", ">") == [[b"s", [[b"1-1", [b"a", b"1"]]]]]


def test_readers_of_a_stream_are_all_woken_and_those_of_a_group_in_turn(flo: FloProcess, client: Client) -> None:
    watchers = [flo.connect() for _ in range(3)]
    readers = [flo.connect() for _ in range(3)]
    client.streams.group_create("s", "g")
    for at, one in enumerate(watchers):
        one.send(encode("XREAD", "BLOCK", "0", "STREAMS", "other", "s", "$", "$"))
        wait_until(lambda at=at: client.status()["waiting"] == at + 1, "a watcher to wait")  # type: ignore[misc]
    for at, one in enumerate(readers):
        one.send(encode("XREADGROUP", "GROUP", "g", f"c{at}", "COUNT", "1", "BLOCK", "0", "STREAMS", "s", ">"))
        wait_until(lambda at=at: client.status()["waiting"] == at + 4, "a reader to wait")  # type: ignore[misc]
    ids = [str(client.streams.append("s", b"%d" % number)).encode() for number in range(2)]
    for one in watchers:
        assert one.reply() == [[b"s", [[ids[0], [b"data", b"0"]]]]]
    for at in range(2):
        assert readers[at].reply() == [[b"s", [[ids[at], [b"data", b"%d" % at]]]]]
    assert client.status()["waiting"] == 1
    client.streams.group_delete("s", "g")
    gone = readers[2].reply()
    assert isinstance(gone, ReplyError) and str(gone).startswith("NOGROUP ")
    readers[2].send(encode("XREAD", "BLOCK", "0", "STREAMS", "s", "$"))
    wait_until(lambda: client.status()["waiting"] == 1, "it to wait")
    readers[2].close()
    wait_until(lambda: client.status()["waiting"] == 0, "its wait to end with its connection")
    for one in (*watchers, *readers):
        one.close()


def test_a_blocked_binary_request_holds_up_nothing(client: Client, flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as other:
        waits: list[Call[Any]] = [
            stream_read("s", tail=True, block=5000),
            group_read("s", "g", "c", limit=1, block=5000),
            stream_append("s", b"now"),
        ]
        found, delivered, ident = other.run_many(waits)
        assert [r.id for r in found] == [r.id for r in delivered] == [ident]
    assert client.streams.read("s", tail=True, block=1) == []


def test_a_pipeline_behind_a_blocked_read_keeps_its_order(flo: FloProcess, client: Client) -> None:
    with flo.connect() as resp:
        resp.send(encode("XREAD", "BLOCK", "0", "STREAMS", "s", "$"))
        resp.send(encode("XLEN", "s"))
        wait_until(lambda: client.status()["waiting"] == 1, "it to wait")
        ident = client.streams.append("s", b"x")
        assert resp.reply() == [[b"s", [[str(ident).encode(), [b"data", b"x"]]]]]
        assert resp.reply() == 1


def test_streams_and_groups_survive_a_kill(flo: FloProcess, client: Client) -> None:
    ids = [client.streams.append("s", b"%d" % number) for number in range(4)]
    client.streams.group_create("s", "g", ack_timeout=100_000)
    client.streams.group_read("s", "g", "c", limit=3)
    client.streams.ack("s", "g", ids[0])
    client.streams.trim("s", max_len=3)
    before = client.streams.pending("s", "g"), client.streams.group_info("s", "g"), client.streams.info("s")
    flo.kill()
    flo.start()
    with Client(f"flo://127.0.0.1:{flo.port}") as again:
        after = again.streams.pending("s", "g"), again.streams.group_info("s", "g"), again.streams.info("s")
        for facts in (before, after):
            for row in (*facts[0]["pending"], *facts[1]["consumers"]):
                row.pop("idle_ms")
        assert before == after
        assert again.streams.append("s", b"4") > ids[-1]
        assert [r.payload for r in again.streams.group_read("s", "g", "c")] == [b"3", b"4"]


@pytest.mark.slow
def test_records_that_are_too_old_go(client: Client, tmp_path: Path) -> None:
    client.streams.create("s", max_age=1)
    client.streams.append("s", b"x")
    wait_until(lambda: client.streams.info("s").records == 0, "it to be too old", seconds=5)
    now = [10**12]
    with Engine(str(tmp_path / "engine"), clock=lambda: now[0]) as engine:
        engine.streams.create(b"s", max_age=1000)
        engine.streams.append(b"s", b"old")
        now[0] += 900
        engine.streams.append(b"s", b"new")
        now[0] += 900
        engine.streams.append(b"s", b"newer")
        assert [r.payload for r in engine.streams.read(b"s")] == [b"new", b"newer"]


@pytest.mark.slow
def test_the_command_line(flo: FloProcess) -> None:
    def run(*words: str, status: int = 0, stdin: bytes = b"") -> str:
        command = [sys.executable, "-m", "flo", "stream", *words, "--port", str(flo.port)]
        found = subprocess.run(command, input=stdin, capture_output=True, timeout=30)
        assert found.returncode == status, found
        return (found.stdout or found.stderr).decode()

    first = run("append", "s", "hello").strip()
    second = run("append", "s", "-", "--format", "raw", stdin=b"two\nlines").strip()
    assert run("read", "s") == f"{first}\thello\n{second}\ttwo\\nlines\n"
    assert run("read", "s", "--start", second, "--format", "raw") == "two\nlines\n"
    assert json.loads(run("read", "s", "--limit", "1", "--format", "json")) == [{"id": first, "payload": "hello"}]
    assert run("read", "s", "--follow", "--limit", "2") == f"{first}\thello\n{second}\ttwo\\nlines\n"
    assert "records   2" in run("info", "s")
    assert run("group", "create", "s", "g") == "OK\n"
    assert run("group", "read", "s", "g", "c", "--limit", "1") == f"{first}\t1\thello\n"
    assert run("group", "ack", "s", "g", first) == "acknowledged 1 record\n"
    assert run("group", "nack", "s", "g", "1-1", status=1) == "gave back 0 records\n"
    assert run("group", "read", "s", "g", "c", "--format", "json").startswith('[{"id": "')
    assert f"{second}\tc\tdelivered once" in run("group", "pending", "s", "g")
    assert "pending         1" in run("group", "info", "s", "g")
    assert run("group", "claim", "s", "g", "d").startswith(f"{second}\t2\t")
    assert "nothing to deliver" in run("group", "read", "s", "g", "c", status=1)
    assert "No such key 's' or consumer group 'x'" in run("group", "info", "s", "x", status=1)
    assert run("group", "delete", "s", "g") == "OK\n"
    assert run("trim", "s", "--max-len", "1", "--dry-run") == "would remove 1 record\n"
    assert run("trim", "s", "--max-len", "1") == "removed 1 record\n"
    assert run("ls").split()[:2] == ["s", "1"]
    assert run("create", "kept", "--max-len", "5") == "OK\n"
    assert "exists already" in run("create", "kept", status=1)
    assert "say which records stay" in run("trim", "s", status=2)
    assert run("delete", "s") == "OK\n"
    assert "is not an id" in run("read", "s", "--start", "x", status=2)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (("XADD", "s" * 32_001, "*", "a", "b"), "at most 32000"),
        (("XGROUP", "CREATE", "s", "g" * 16_001, "0", "MKSTREAM"), "at most 16000"),
        (("XDEL", "s", *["1-1"] * 10_001), "at most 10000"),
        (("XACK", "s", "g", *["1-1"] * 10_001), "at most 10000"),
        (("XADD", "s", "*", "f" * 65_536, "v"), "names of 65535 bytes"),
    ],
)
def test_what_is_refused_says_why(shared_flo: FloProcess, request_: tuple[str, ...], says: str) -> None:
    with shared_flo.connect() as client:
        reply = client.command(*request_)
        assert isinstance(reply, ReplyError) and says in str(reply), reply


# -- what a review found: each of these ended the server, or lied ------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose clock the test moves: `engine.wall[0]`."""
    wall = [1_700_000_000_000]
    with Engine(str(tmp_path / "engine"), clock=lambda: wall[0]) as found:
        found.wall = wall  # type: ignore[attr-defined]
        yield found


def test_deadlines_at_the_end_of_an_hour(engine: Engine) -> None:
    hour = 3_600_000
    engine.wall[0] = 472_223 * hour - 700  # type: ignore[attr-defined]
    engine.streams.append(b"s", b"x")
    engine.streams.groups.create(b"s", b"g", 0, own=True, ack_timeout=200)
    engine.streams.groups.read(b"s", b"g", b"c", 1)
    engine.queues.enqueue(b"q", b"x")
    engine.queues.dequeue(b"q", lease=200)
    engine.kv.put(b"k", b"v", deadline=472_223 * hour - 500)
    for step in (300, 500, 2000, 3000):
        engine.wall[0] += step  # type: ignore[attr-defined]
        engine.tick()
        with engine.batch():
            while engine.upkeep(True):
                pass
    assert [one.deliveries for one in engine.streams.groups.read(b"s", b"g", b"d", 1)] == [2]
    assert [message.attempts for message in engine.queues.dequeue(b"q")] == [2]
    assert not engine.kv.exists(b"k")


@pytest.mark.slow
def test_a_flush_ends_what_is_done_in_slices(flo: FloProcess) -> None:
    with flo.connect() as one, flo.connect() as other:
        one.command("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
        for _ in range(20):
            one.send(encode("XADD", "s", "*", "f", "v") * 1000)
            assert all(isinstance(one.reply(), bytes) for _ in range(1000))
        for _ in range(20):
            one.command("XREADGROUP", "GROUP", "g", "c", "COUNT", "1000", "STREAMS", "s", ">")
        for job in (("XGROUP", "DELCONSUMER", "s", "g", "c"), ("XPENDING", "s", "g", "-", "+", "10000")):
            one.send(encode(*job))
            other.send(encode("FLUSHALL"))
            assert other.reply() == b"OK"
            assert isinstance(one.reply(), (int, list, ReplyError))
        assert one.command("PING") == b"PONG"
    assert flo.stop() == 0
    flo.start()


def test_counters_stay_at_their_most(flo: FloProcess) -> None:
    with flo.connect() as client:
        client.command("XADD", "s", "1-1", "f", "v")
        client.command("XGROUP", "CREATE", "s", "g", "0", "ENTRIESREAD", str((1 << 63) - 1))
        assert len(client.command("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")) == 1
        client.command("XCLAIM", "s", "g", "c", "0", "1-1", "RETRYCOUNT", str((1 << 32) - 1))
        for _ in range(2):
            assert len(client.command("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "0")) == 1
        assert client.command("XPENDING", "s", "g", "-", "+", "1")[0][3] == (1 << 32) - 1
        top = "18446744073709551615-18446744073709551615"
        client.command("XADD", "s", top, "f", "v")
        assert client.command("XREAD", "STREAMS", "s", top) is None
        assert isinstance(client.command("XADD", "s", "*", "f", "v"), ReplyError)


def test_spent_and_oldest_dead_letter_given_back_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flo.engine.group.DEAD_LETTERS_MAX", 2)
    streams, groups = engine.streams, engine.streams.groups
    ids = [streams.append(b"s", b"x") for _ in range(3)]
    groups.create(b"s", b"g", 0, own=True, max_deliver=1)
    groups.read(b"s", b"g", b"c", 3)
    assert groups.nack(b"s", b"g", [ids[0] or 0, ids[1] or 0]) == 2
    assert groups.nack(b"s", b"g", [ids[2] or 0, ids[0] or 0]) == 2
    assert [one.deliveries for one in groups.read(b"s", b"g", b"d", 3)] == [1]


def test_a_consumer_that_is_needed_again_has_a_record(engine: Engine) -> None:
    streams, groups = engine.streams, engine.streams.groups
    ident = streams.append(b"s", b"x") or 0
    groups.create(b"s", b"g", 0, own=True, max_deliver=1)
    groups.read(b"s", b"g", b"c", 1)
    groups.nack(b"s", b"g", [ident])
    with engine.batch():
        list(groups.delete_consumer(b"s", b"g", b"c"))
    groups.nack(b"s", b"g", [ident])
    groups.ack(b"s", b"g", [ident])
    found = groups.need(b"s", b"g")[1]
    kinds = [record.type for index in range(1, engine.log.next_index) if (record := engine.log.read(index))]
    assert list(found.consumers) == [b"c"] and kinds.count(STREAM_CONSUMER) == 2


def test_records_trimmed_away_do_not_hide_those_behind_them(engine: Engine) -> None:
    streams, groups = engine.streams, engine.streams.groups
    ids = [streams.append(b"s", b"%d" % number) or 0 for number in range(3)]
    groups.create(b"s", b"g", 0, own=True, ack_timeout=1000)
    groups.read(b"s", b"g", b"c", 3)
    engine.wall[0] += 5000  # type: ignore[attr-defined]
    streams.delete_records(b"s", ids[:2])
    assert [one.payload for one in groups.read(b"s", b"g", b"d", 1)] == [b"2"]


def test_a_refused_request_has_changed_nothing(engine: Engine) -> None:
    streams, groups = engine.streams, engine.streams.groups
    streams.append(b"s", b"x")
    groups.create(b"s", b"g", 0)
    before = engine.log.next_index
    long = b"n" * 16_001
    for refused in (
        lambda: groups.read(b"s", b"new", long, 1, create=True),
        lambda: groups.read(b"s", b"g", long, 1),
        lambda: groups.history(b"s", b"g", long, 0, 1),
        lambda: groups.claim(b"s", b"g", long, [1], force=True, last=99),
        lambda: groups.wait([(b"s", b"g")], long, 1, lambda *_: None),
        lambda: groups.create_consumer(b"s", b"g", long),
        lambda: groups.create(b"t" * 32_001, b"g", 0, make_stream=True),
    ):
        with pytest.raises(errors.BadRequest, match="name is"):
            refused()
    assert engine.log.next_index == before


def test_claims_go_past_those_that_are_busy(client: Client) -> None:
    for number in range(30):
        client.streams.append("s", b"%d" % number)
    client.streams.group_read("s", "g", "a", limit=30)
    wait_until(lambda: client.streams.pending("s", "g")["pending"][0]["idle_ms"] > 300, "them to be idle")
    busy = client.streams.claim("s", "g", "b", limit=20)
    assert len(busy) == 20
    assert [r.payload for r in client.streams.claim("s", "g", "c", min_idle=300, limit=1)] == [b"20"]
