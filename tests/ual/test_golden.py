"""Directories written by each released format, which later code must open: tests/golden/format-N.

format-1 was written with segments of 16 KiB and a clock that began at 1,700,000,000,000: every record type is in it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flo.engine import Engine, EngineSettings
from flo.errors import LogDamaged
from flo.proto import fields
from flo.store.group import Dead, Pending
from flo.store.queue import attempts_of
from flo.store.stream import SEQ_BITS
from flo.ual import manifest
from flo.ual.check import check
from flo.ual.files import Files
from flo.ual.record import KNOWN_TYPES, KV_COUNTER, KV_DEADLINE, KV_JSON, KV_TOUCH
from flo.ual.segment import Segment
from tests.support.processes import ROOT

pytestmark = pytest.mark.computes

GOLDEN = ROOT / "tests" / "golden"
START = 1_700_000_000_000


@pytest.fixture
def directory(tmp_path: Path) -> str:
    """A copy of format-1."""
    return str(shutil.copytree(GOLDEN / "format-1", tmp_path / "data"))


@pytest.mark.parametrize("form", ["format-1", "format-2", "format-3", "format-4", "format-5"])
def test_the_formats_open(form: str, tmp_path: Path) -> None:
    """format-2 is format-1, compacted, and so is format-3, whose bases have an index, format-4, where each value has a check, and
    format-5, whose index has a modulus."""
    directory = str(shutil.copytree(GOLDEN / form, tmp_path / "data"))
    assert check(directory).damage == []
    with Engine(directory, EngineSettings(segment_bytes=1 << 14), clock=lambda: START) as engine:
        kv = engine.kv
        string, counter, expiring = kv.get(b"string"), kv.get(b"counter"), kv.get(b"expiring")
        assert string and (string.value, string.version, string.deadline) == (b"second value", 8, START + 20_000_000_000_000)
        assert counter and (counter.value, kv.incr(b"counter")[0]) == (b"42", 43)
        assert expiring and expiring.deadline == START + 10_000_000_000_000
        assert kv.json_get(b"document") == (b'{"items":3,"status":"shipped"}', 6)
        assert kv.get(b"gone") is None
        assert [item.tombstone for item in kv.history(b"gone")] == [True, False]
        assert [item.value for item in kv.history(b"string")] == [b"second value", b"second value", b"value"]
        assert len(kv.scan(b"fill:")[0]) == 60
        assert sorted(engine.namespaces) == ["default", "flushed", "jobs"]
        found = engine.namespace("jobs").kv.get(b"\x00\xff")
        assert found and found.value == b"\r\n"
        assert engine.namespace("flushed").empty
        assert (engine.now, engine.stamp_time) == (START, START + 60_000), "stamps do not go back behind the log"


def test_what_is_new_in_format_4_opens(tmp_path: Path) -> None:
    """A noted end, files by their ids, a turn of several batches, a message that came back from the dead letters."""
    directory = str(shutil.copytree(GOLDEN / "format-4", tmp_path / "data"))
    found = manifest.read(Files(), directory)
    assert found.format == 4 and found.stopped is not None and all(entry.id for entry in found.entries)
    segment = Segment.load(Files(), f"{directory}/{found.entries[-1].file}", found.entries[-1].first, writable=False)
    assert [header.more for header, _, _ in segment.batches()].count(True) > 3
    segment.close()
    with Engine(directory, EngineSettings(segment_bytes=1 << 14), clock=lambda: START) as engine:
        queues = engine.queues
        assert [m.payload for m in queues.peek(b"many", 100)] == [b"%d:" % number + b"x" * 100 for number in range(40)]
        (seq,) = (seq for shard in queues.store.shards for seq, state in shard.items() if attempts_of(state) == 2)
        assert queues.ack(b"again", [(seq, 1)]) == 0, "a receipt of before it died"
        assert queues.nack(b"again", [(seq, 2)]) == 1
        assert [m.attempts for m in queues.dead_letters(b"again")] == [2]
        assert engine.streams.read(b"events")[-1].payload == b"payload"


def test_what_is_new_in_format_5_opens(tmp_path: Path) -> None:
    """Deadlines of queues and streams, in a base and in a segment."""
    directory = str(shutil.copytree(GOLDEN / "format-5", tmp_path / "data"))
    assert manifest.read(Files(), directory).format == 5
    with Engine(directory, EngineSettings(segment_bytes=1 << 14), clock=lambda: START) as engine:
        queues, streams = engine.queues, engine.streams
        assert (queues.deadline(b"lasting"), queues.deadline(b"paused")) == (START + 2 * 10**13, START + 10**13)
        assert (queues.stats(b"lasting")["paused"], queues.stats(b"paused")["paused"]) == (0, 1)
        assert streams.deadline(b"lasting") == START + 2 * 10**13
        assert [record.payload for record in streams.read(b"lasting")] == [b"record"]


def test_queues_of_format_1_open(tmp_path: Path) -> None:
    """Written as format-1 was, when queues came: leases of 11 days, delays of 316 years."""
    directory = str(shutil.copytree(GOLDEN / "format-1-queues", tmp_path / "queues"))
    assert check(directory).damage == []
    with Engine(directory, EngineSettings(segment_bytes=1 << 14), clock=lambda: START) as engine:
        queues = engine.queues
        stats = queues.stats(b"jobs")
        assert (stats["ready"], stats["delayed"], stats["leased"], stats["dead"]) == (6, 2, 1, 1)
        assert (stats["lease_ms"], stats["max_attempts"]) == (10**9, 2)
        assert [(m.seq, m.attempts) for m in queues.peek(b"jobs", 20)] == [(3, 1), (13, 0), (2, 0), (4, 0), (6, 0), (8, 0)]
        assert [(m.seq, m.time, m.payload) for m in queues.dead_letters(b"jobs")] == [(5, START + 300_001, b"payload 4")]
        assert queues.ack(b"jobs", [(10, 1)]) == 1, "its lease stands"
        assert queues.enqueue(b"jobs", b"x", dedup=b"key2") == 13
        assert (queues.stats(b"full")["dead"], queues.stats(b"full")["dead_evicted"]) == (1, 1)
        assert not queues.exists(b"gone")


def test_streams_of_format_1_open(tmp_path: Path) -> None:
    """Written as format-1 was, when streams came: ack timeouts of 11 days."""
    directory = str(shutil.copytree(GOLDEN / "format-1-streams", tmp_path / "streams"))
    assert check(directory).damage == []
    with Engine(directory, EngineSettings(segment_bytes=1 << 14), clock=lambda: START) as engine:
        streams = engine.streams
        assert streams.names() == [b"bounded", b"empty", b"events"]
        times = [START + 30, START + 40, START + 60, START + 70, START + 80]
        ids = [ms << SEQ_BITS for ms in times]
        records = streams.read(b"events")
        assert [record.ident for record in records] == [*ids, ids[-1] + 1]
        assert records[0].payload == b"payload 2"
        assert fields.unpack(records[-1].payload) == [b"a", b"1"]
        stream, group = streams.groups.need(b"events", b"workers")
        assert (stream.added, stream.max_deleted) == (9, START + 50 << SEQ_BITS)
        assert group.pending == {ids[2]: Pending(b"ada", START + 80, 1, START + 80 + 10**9)}
        assert dict(group.dead) == {ids[1]: Dead(b"bob", 2, START + 80)}
        assert list(group.consumers) == [b"ada", b"bob", b"idle"]
        assert sorted(stream.groups) == [b"redis", b"workers"]
        assert [record.payload for record in streams.read(b"bounded")] == [b"2", b"3"]
        assert (streams.length(b"empty"), streams.store.streams[b"empty"].last) == (0, 7 << SEQ_BITS | 7)
        assert streams.append(b"empty", b"y", ms=7) == 7 << SEQ_BITS | 8


def test_series_open(tmp_path: Path) -> None:
    """Written with chunks of 8 points."""
    directory = str(shutil.copytree(GOLDEN / "format-5-series", tmp_path / "series"))
    assert check(directory).damage == []
    with Engine(directory, EngineSettings(segment_bytes=1 << 14), clock=lambda: START) as engine:
        part = engine.ts
        assert part.names() == ["cpu"] and sorted(part.store.by_key) == [b"cpu,host=a usage", b"cpu,host=b usage"]
        assert part.store.measurements["cpu"].max_age == 0x7FFFFFFF
        first, second = (part.store.by_key[key] for key in sorted(part.store.by_key))
        points: dict[int, float] = {}
        for block in part.blocks(first, 0, 1 << 62):
            times, values, divisor = block.columns()
            points.update(zip(times, [value / divisor if divisor else value for value in values], strict=True))
        expected = {START + at * 1000: 20 + at / 8 for at in range(20)} | {START + 30_000: 1.0, START + 1000: -0.0}
        assert points == expected and str(points[START + 1000]) == "-0.0" and len(first.chunks) == 3
        assert list(second.times) == [START, START + 7] and list(second.values) == [1e300, 0.1]


def test_rules_of_downsampling_open(tmp_path: Path) -> None:
    """Twenty minutes after START a point came late, and one of two rules was dropped."""
    directory = str(shutil.copytree(GOLDEN / "format-5-rules", tmp_path / "rules"))
    assert check(directory).damage == []
    with Engine(directory, EngineSettings(segment_bytes=1 << 14), clock=lambda: START) as engine:
        store = engine.ts.store
        assert store.names() == ["cpu", "cpu:1m:avg", "cpu:5m:max"] and list(store.ruled) == ["cpu"]
        minute = START - START % 60_000
        assert store.measurements["cpu"].progress == {"1m:avg": (minute + 19 * 60_000, minute + 60_000)}
        sums = store.by_key[b"cpu:1m:avg usage"]
        assert list(sums.times)[:2] == [minute, minute + 60_000] and store.measurements["cpu:1m:avg"].max_age == 30 * 86_400_000


def test_actions_open(tmp_path: Path) -> None:
    """Written over nearly a day: a run that completed, one that failed twice and was retried, a delayed one, one that is running, a deleted
    action, workers, schedules, idempotency keys of which one is over."""
    directory = str(shutil.copytree(GOLDEN / "format-5-actions", tmp_path / "actions"))
    assert check(directory).damage == []
    with Engine(directory, EngineSettings(segment_bytes=1 << 14), clock=lambda: START) as engine:
        actions = engine.namespaces["default"].actions
        assert actions.names() == [b"mail"] and actions.workers.names() == [b"w1", b"w2"] and actions.schedules.names() == [b"nightly"]
        assert [actions.status(b"%d" % run)["status"] for run in (8, 13, 18, 19)] == ["completed", "pending", "pending", "running"]
        assert actions.result(b"8") == (2, b"out") and actions.input(b"8") == b"\x00in"
        attempts = actions.status(b"13")["attempts"]
        assert [(each["number"], each["how"], each["error"]) for each in attempts] == [
            (1, "failed", b"first error"),
            (2, "failed", b"last error"),
        ]
        action = actions.store.actions[b"mail"]
        assert action.paused and action.settings.starts == 50 and list(action.unique) == [b"u2"] and list(action.idempotent) == [b"i2"]
        assert actions.store.held == {b"w1": {19}} and actions.workers.describe(b"w1")["labels"] == {"zone": "eu", "cpu": 4}
        assert actions.workers.describe(b"w2")["status"] == "draining"
        assert actions.schedules.describe(b"nightly")["next"] == START + 17_200_000


def test_ends_of_queues_open(tmp_path: Path) -> None:
    """`right` and `new` were filled from the right end, `left` from the left; `turned` from the right, then, once it was empty, from the
    left."""
    directory = str(shutil.copytree(GOLDEN / "format-5-ends", tmp_path / "ends"))
    assert check(directory).damage == []
    with Engine(directory, EngineSettings(segment_bytes=1 << 14), clock=lambda: START) as engine:
        queues = engine.queues
        filled = {name: queues.is_right(queues.store.queues[name]) for name in (b"right", b"left", b"turned", b"new")}
        assert filled == {b"right": True, b"left": False, b"turned": False, b"new": True}
        assert [message.payload for message in queues.peek(b"right", 9)] == [b"one", b"two", b"three"]
        assert [message.payload for message in queues.dequeue(b"new", 9, right=False)] == [b"a", b"b"]


def test_every_record_type_is_in_them(directory: str, tmp_path: Path) -> None:
    types: set[int] = set()
    more = ("format-1-queues", "format-1-streams", "format-5-series", "format-5-rules", "format-5-actions", "format-5-ends")
    for path in (directory, *(str(shutil.copytree(GOLDEN / name, tmp_path / name)) for name in more)):
        engine = Engine(path, clock=lambda: START)
        types |= {record.type for index in range(1, engine.log.next_index) if (record := engine.log.read(index))}
        engine.log.abandon()
    # an expiring counter or document, and a touch that clears, differ from these by the same bit
    assert types >= KNOWN_TYPES - {KV_COUNTER | KV_DEADLINE, KV_JSON | KV_DEADLINE, KV_TOUCH}


def test_a_later_format_is_refused_with_what_to_do(directory: str) -> None:
    from zlib import crc32

    path = Path(directory) / "MANIFEST"
    line = path.read_bytes().splitlines()[0].replace(b'"format": 1', b'"format": 6')
    path.write_bytes(line + b"\ncrc32 %08x\n" % crc32(line))
    with pytest.raises(LogDamaged, match="says format 6, and this Flo knows formats 1, 2, 3, 4, 5"):
        Engine(directory)


def test_check_says_what_is_there_and_what_is_wrong(directory: str) -> None:
    command = [sys.executable, "-m", "flo", "check", directory]
    whole = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert whole.returncode == 0
    lines = whole.stdout.splitlines()
    assert lines[3] == "3 segments, 78 records" and lines[4].startswith("default: 64 keys, 2 keys with deadline")
    assert lines[-1] == "whole"
    segment = sorted(Path(directory).glob("0*.seg"))[0]
    data = bytearray(segment.read_bytes())
    data[5000] ^= 1
    segment.write_bytes(data)
    damaged = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert damaged.returncode == 1
    assert f"DAMAGED: {segment} is damaged at byte" in damaged.stderr
    missing = subprocess.run([*command[:-1], directory + "/none"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert missing.returncode == 1
    assert "does not exist" in missing.stderr
    empty = Path(directory).parent / "empty"
    empty.mkdir()
    nothing = subprocess.run([*command[:-1], str(empty)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert nothing.returncode == 1
    assert "has no MANIFEST" in nothing.stderr
