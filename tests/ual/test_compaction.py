"""Compaction: it keeps what the liveness rule keeps, under the same indexes, and nothing else; `tests/faults` crashes it."""

import os
import shutil
import subprocess
import sys
import tempfile
from array import array
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flo.engine import Engine, EngineSettings, bulk
from flo.engine import engine as engine_module
from flo.engine.clock import wall_clock
from flo.engine.operation import run_job
from flo.engine.stream import Bounds
from flo.errors import LogDamaged
from flo.store.kv import KvStore
from flo.store.queue import QUEUE_MASK, QUEUE_SHIFT
from flo.ual import block, columns, compaction, manifest, uniform_spans
from flo.ual.base import BaseFile, BaseWriter
from flo.ual.check import check
from flo.ual.compaction import Stopped
from flo.ual.files import Files
from flo.ual.liveness import CURRENT, DEAD, HISTORY, LIVE, Judge, entity_of, scopes_of, survivors
from flo.ual.record import (
    FAMILY_QUEUE,
    KV_COUNTER,
    KV_DEADLINE,
    KV_GONE,
    KV_STRING,
    KV_TOUCH,
    MESSAGE_STATE,
    QUEUE_GONE,
    QUEUE_LEASE,
    QUEUE_MESSAGE,
    QUEUE_MESSAGE_RIGHT,
    RECORD_STATE,
    STREAM_ID,
    STREAM_RECORD,
    U64,
    WATERMARK,
    Record,
    container,
    encode,
)
from flo.ual.recovery import PlainLoader, recover
from tests.support.examples import examples
from tests.support.faultfiles import SimFiles
from tests.support.points import key_of, read, seal_all, write
from tests.support.processes import ROOT, wait_until
from tests.support.work import do_step, held_work

MODULUS = 715_827_881  # a prime of 30 bits

pytestmark = pytest.mark.computes

SEGMENT_BYTES = 64 << 10
START = 1_700_000_000_000


class Clock:
    """Moved by the test."""

    now = START

    def __call__(self) -> int:
        return self.now


SINCE_THE_START = ("enqueued", "delivered", "acknowledged")


def open_engine(directory: Path, depth: int = 64, clock: Clock | None = None) -> Engine:
    return Engine(str(directory), EngineSettings(segment_bytes=SEGMENT_BYTES, history_depth=depth), clock=clock or Clock())


def size_of(directory: Path) -> int:
    """Bytes of the log's files, those that are reserved and not written left out."""
    return sum(path.stat().st_size for path in directory.iterdir() if path.suffix in (".base", ".hist"))


# -- liveness --------------------------------------------------------------------------------------


@st.composite
def logs(draw: st.DrawFn) -> dict[int, Record]:
    """Any log at all: leans and predecessors that lead anywhere before, watermarks of every scope, gaps."""
    log: dict[int, Record] = {}
    index = time = 0
    for _ in range(draw(st.integers(0, 25))):
        index += draw(st.integers(1, 2))
        time += draw(st.integers(0, 3))
        kind = draw(st.sampled_from([KV_STRING, KV_TOUCH, KV_GONE, QUEUE_MESSAGE, QUEUE_MESSAGE_RIGHT, QUEUE_LEASE, QUEUE_GONE, WATERMARK]))
        namespace = draw(st.integers(0, 1))
        before = sorted(log)
        points = st.sampled_from(before) if before else st.just(0)
        prev = draw(st.one_of(st.just(0), points))
        leans = tuple(draw(st.lists(points, max_size=2))) if before else ()
        name = draw(st.sampled_from([b"a", b"b"]))
        if kind == WATERMARK:
            scope = draw(st.sampled_from([b"", bytes((FAMILY_QUEUE,)), bytes((FAMILY_QUEUE,)) + container(b"a")]))
            log[index] = Record(kind, namespace, time, scope, U64.pack(draw(st.integers(0, index))))
        else:
            entity = container(name) + b"x" if kind & 0xF0 == FAMILY_QUEUE else name
            log[index] = Record(kind, namespace, time, entity, b"", prev, leans, kind in (KV_GONE, QUEUE_GONE))
    return log


@pytest.mark.slow
@examples(400)
@given(log=logs(), now=st.integers(0, 60), depth=st.integers(1, 4), age=st.integers(0, 30))
def test_the_judge_says_what_survivors_says(log: dict[int, Record], now: int, depth: int, age: int) -> None:
    """From the newest to the oldest, for any log."""
    judge = Judge(now, depth, age)
    verdicts = {}
    for index in sorted(log, reverse=True):
        data = b"pad" + encode(log[index])
        verdicts[index] = judge.judge(index, data, 3)
    live, history = survivors(log, now, depth, age)
    assert {index: min(verdict, LIVE) for index, verdict in verdicts.items()} == {
        index: LIVE if index in live else HISTORY if index in history else DEAD for index in log
    }
    leaned_on = {lean for index in live | history for lean in log[index].leans}
    latest = {entity_of(record): index for index, record in sorted(log.items())}.values()
    marks = {index for index, record in log.items() if record.type == WATERMARK}
    current = {index for index in latest if index in live and index not in leaned_on and not log[index].gone} - marks
    assert {index for index, verdict in verdicts.items() if verdict == CURRENT} == current


@pytest.mark.slow
@examples(400)
@given(log=logs(), now=st.integers(0, 60), depth=st.integers(1, 4), age=st.integers(0, 30), share=st.integers(0, 25))
def test_a_judge_of_the_tail_says_the_same_and_keeps_deletions(log: dict[int, Record], now: int, depth: int, age: int, share: int) -> None:
    """What decides about a record is behind it, wherever a pass begins; a deletion may be of what is before that."""
    tail = sorted(log)[share:]
    judge = Judge(now, depth, age, tail=True)
    verdicts = {index: min(judge.judge(index, encode(log[index]), 0), LIVE) for index in reversed(tail)}
    live, history = survivors(log, now, depth, age)
    latest = {entity_of(record): index for index, record in sorted(log.items())}.values()
    marks = [(record.namespace, record.entity, U64.unpack(record.state)[0]) for record in log.values() if record.type == WATERMARK]
    deletions = {
        index
        for index in latest
        if log[index].gone
        and not any(log[index].namespace == space and scope in scopes_of(log[index]) and index < below for space, scope, below in marks)
    }
    pending = list(deletions)
    while pending:  # and what they lean on
        for lean in log[pending.pop()].leans:
            if lean in log and lean not in deletions:
                deletions.add(lean)
                pending.append(lean)
    assert verdicts == {index: LIVE if index in live | deletions else HISTORY if index in history else DEAD for index in tail}


@st.composite
def runs_of(draw: st.DrawFn) -> list[Record]:
    """A log without gaps: neighbours that are alike but for names and ids, with other records between them that lead to them."""
    log: list[Record] = []
    for _ in range(draw(st.integers(0, 8))):
        kind = draw(
            st.sampled_from([KV_STRING, KV_STRING, QUEUE_MESSAGE, QUEUE_MESSAGE_RIGHT, STREAM_RECORD, KV_GONE, QUEUE_LEASE, WATERMARK])
        )
        namespace, name = draw(st.integers(0, 1)), draw(st.sampled_from([b"a", b"b"]))
        steps = (
            draw(st.sampled_from([1, 2, 4])) if kind in (WATERMARK, QUEUE_LEASE, KV_GONE) else draw(st.sampled_from([1, 2, 3, 4, 9, 30]))
        )
        first_key, prevs, delay = draw(st.integers(0, 20)), draw(st.sampled_from([0, 0, 0, 1, 7])), draw(st.sampled_from([0, 0, 5]))
        for number in range(steps):
            index = len(log) + 1
            if kind == WATERMARK:
                scope = draw(st.sampled_from([b"", bytes((FAMILY_QUEUE,)), bytes((FAMILY_QUEUE,)) + container(b"a")]))
                log.append(Record(kind, namespace, index, scope, U64.pack(draw(st.integers(0, index)))))
            elif kind in (QUEUE_MESSAGE, QUEUE_MESSAGE_RIGHT):
                log.append(
                    Record(kind, namespace, index, container(name) + U64.pack(index), MESSAGE_STATE.pack(first_key % 3, delay) + b"p")
                )
            elif kind == STREAM_RECORD:
                ident = STREAM_ID.pack(index // 3, index % 3)
                log.append(Record(kind, namespace, index, container(name) + ident, RECORD_STATE.pack(0, index) + b"p"))
            elif kind == QUEUE_LEASE:
                at = draw(st.integers(1, index))
                log.append(Record(kind, namespace, index, container(name) + U64.pack(at), b"", 0, (at,)))
            else:
                key = b"%03d" % ((first_key + number) % draw(st.sampled_from([20, 100])))
                log.append(Record(kind, namespace, index, key, b"", prevs and max(index - prevs, 0), (), kind == KV_GONE))
    return log


@examples(400)
@given(log=runs_of(), now=st.integers(0, 60), depth=st.integers(1, 3), age=st.integers(0, 30), tail=st.booleans())
def test_runs_are_judged_and_laid_out_as_their_records_are(log: list[Record], now: int, depth: int, age: int, tail: bool) -> None:
    """`split`, `Judge.judge_span` and `Builder.add_span` against their plain twins, whatever is before, behind and between."""
    rows = [encode(record) for record in log]
    judge = Judge(now, depth, age, tail)
    plain = [judge.judge(index, rows[index - 1], 0) for index in range(len(rows), 0, -1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uniform_spans, "STRIDES_MIN", 3)
        patch.setattr(uniform_spans, "LOOK_RECORDS", 1)
        patch.setattr(uniform_spans, "CUT_RECORDS", 4)
        patch.setattr(uniform_spans, "SPAN_MAX", 20)
        patch.setattr(block, "RECORDS_MAX", 7)
        patch.setattr(block, "GROUPED_BYTES", 300)
        pieces = uniform_spans.split(1, len(rows), b"".join(rows))
        flat = [row for piece in pieces for row in (piece.rows() if isinstance(piece, uniform_spans.UniformSpan) else piece)]
        assert [(index, data[at : at + len(rows[index - 1])]) for index, data, at, _ in flat] == list(enumerate(rows, 1))
        judge = Judge(now, depth, age, tail)
        found: list[int] = []
        for piece in reversed(pieces):
            alike = judge.judge_span(piece) if isinstance(piece, uniform_spans.UniformSpan) else None
            if isinstance(piece, uniform_spans.UniformSpan) and alike is not None:
                found += alike
                counted = compaction.Verdicts()
                counted.add_span(alike, piece.length)
                assert counted.counts == [alike.count(verdict) for verdict in range(4)]
                assert counted.bytes == [alike.count(verdict) * piece.length for verdict in range(4)]
                continue
            for index, data, at, past in reversed(piece.rows() if isinstance(piece, uniform_spans.UniformSpan) else piece):
                found.append(judge.judge(index, data, at, past))
        assert found == plain
        written = []
        for together in (True, False):
            files = SimFiles()
            files.make_dir("/d")
            patch.setattr(os, "urandom", bytes)
            writer = BaseWriter(files, "/d/base", 1, len(rows), 7, MODULUS)
            for piece in pieces:
                if isinstance(piece, uniform_spans.UniformSpan) and together:
                    writer.add_span(piece)
                    continue
                for index, data, at, _ in piece.rows() if isinstance(piece, uniform_spans.UniformSpan) else piece:
                    writer.add(index, data[at : at + len(rows[index - 1])], current=True)
            writer.finish()
            fd = files.open("/d/base")
            written.append(files.pread(fd, files.size(fd), 0))
        assert written[0] == written[1]


# -- what is kept ----------------------------------------------------------------------------------


BEGIN = ["register", "worker"]
STEPS = ["schedule", *["invoke"] * 4, "take", "touch", "take", "complete", "fail", "cancel", "take", "fail"]
SERIES = [key_of("gone"), *(key_of(host=f"h{number}") for number in range(3))]


def fill(engine: Engine, rounds: int = 20) -> None:
    """Keys overwritten and deleted, queues and streams worked through, points of series, late ones too, some of them sealed; runs in all
    states, and a schedule that is put again and again."""
    rng = Random(1)
    for number in range(rounds):
        with engine.batch():
            for i in range(100):
                engine.kv.put(b"key-%d" % i, rng.randbytes(100))
            engine.kv.delete(b"key-%d" % number)
            for i in range(50):
                engine.queues.enqueue(b"jobs", b"payload-%d-%d" % (number, i), priority=i % 3)
            taken = engine.queues.dequeue(b"jobs", 40)
            engine.queues.ack(b"jobs", [(message.seq, message.attempts) for message in taken[:35]])
            for i in range(50):
                engine.streams.append(b"events", b"event-%d-%d" % (number, i))
            times = range(number * 400, number * 400 + 600, 20)
            write(engine.ts, {series: {time: rng.randrange(1000) / 8 for time in times} for series in SERIES[number % 2 :]})
            run_job(engine.ts.delete_job("gone", {}))
            for step in (*([] if engine.actions.names() else BEGIN), *STEPS):
                do_step(engine.actions, step)
        if number % 3 == 1:
            seal_all(engine, engine.ts)


def shown(engine: Engine) -> dict[str, object]:
    """What clients see."""
    keys = [b"key-%d" % i for i in range(100)]
    return {
        "values": engine.kv.mget(keys),
        "history": [engine.kv.history(key, 64) for key in keys],
        "ready": engine.queues.peek(b"jobs", 10_000),
        "stats": {name: value for name, value in engine.queues.stats(b"jobs").items() if name not in SINCE_THE_START},
        "events": engine.streams.read(b"events", 0, (1 << 128) - 1, 1000),
        "series": {series: read(engine.ts, series) for series in SERIES},
        "open": (engine.ts.store.open_points, [series.since for series in engine.ts.store.open.values()]),
        "work": held_work(engine.actions),
    }


@pytest.mark.slow
@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("depth", [1, 3, 64])
def test_the_same_before_and_after(tmp_path: Path, depth: int, tail: bool) -> None:
    """Versions, history, order, leases, ids: all as before, at once, after a restart, and after another pass over the bases, or over what
    came since."""
    with open_engine(tmp_path, depth) as engine:
        fill(engine)
        before = shown(engine)
        engine.compact(tail=tail)
        assert shown(engine) == before
        assert engine.log.next_index > 4000
    for _ in range(3):
        assert check(str(tmp_path)).damage == []
        with open_engine(tmp_path, depth) as engine:
            assert shown(engine) == before
            fill(engine, rounds=3)
            before = shown(engine)
            engine.compact(tail=tail)
            assert shown(engine) == before
    with open_engine(tmp_path, depth) as engine:
        engine.compact()
        assert shown(engine) == before


def test_a_pass_over_the_tail_takes_only_that(tmp_path: Path) -> None:
    """What is compacted already is not looked at; what came since becomes a base of its own, with the deletions of what is before it,
    which go with the next pass over all."""

    def bases() -> list[str]:
        return sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".base")

    def records() -> int:
        reader = PlainReader()
        recover(Files(), str(tmp_path), PlainLoader(reader))
        return reader.deletions

    with open_engine(tmp_path, 1) as engine:
        for key in range(100):
            engine.kv.put(b"%d" % key, b"v" * 100)
        engine.compact()
        first = bases()
        compacted = engine.log.compacted_bytes
        for key in range(50):
            engine.kv.delete(b"%d" % key)
        engine.kv.put(b"50", b"new")
        engine.compact(tail=True)
        assert bases()[: len(first)] == first and len(bases()) == len(first) + 1
        assert engine.log.compacted_bytes == compacted, "growth counts from the last pass over all"
        size = engine.log.size
        engine.compact(tail=True)
        assert bases()[: len(first)] == first and engine.log.size == size, "there is nothing new"
    assert records() == 50
    with open_engine(tmp_path, 1) as engine:
        assert [key for key in range(100) if engine.kv.get(b"%d" % key) is not None] == [*range(50, 100)]
        engine.compact()
        assert engine.log.size < size / 1.5
    assert records() == 0
    with open_engine(tmp_path, 1) as engine:
        assert [key for key in range(100) if engine.kv.get(b"%d" % key) is not None] == [*range(50, 100)]
        found = engine.kv.get(b"50")
        assert found is not None and found.value == b"new"


@pytest.mark.parametrize("second", ["lease", "die"])
def test_a_dead_letter_that_lived_again_in_the_tail(tmp_path: Path, second: str) -> None:
    """The older base says that it is dead, the newer one what it is now; that it came back in between is gone."""
    clock = Clock()
    with open_engine(tmp_path, 1, clock) as engine:
        queues = engine.queues
        for payload in (b"x", b"y"):
            queues.enqueue(b"q", payload)
        taken = queues.dequeue(b"q", 2)
        queues.nack(b"q", [(message.seq, 1) for message in taken], dead=True)
        engine.compact()
        queues.requeue(b"q", [taken[0].seq])
        again = queues.dequeue(b"q", 1)
        if second == "die":
            queues.nack(b"q", [(again[0].seq, again[0].attempts)], dead=True)
        before = memory_of(engine)
        engine.compact(tail=True)
    with open_engine(tmp_path, 1, clock) as engine:
        assert memory_of(engine) == before
        dead = [letter.seq for letter in engine.queues.dead_letters(b"q")]
        assert dead == ([taken[1].seq] if second == "lease" else [taken[1].seq, taken[0].seq])
        if second == "lease":
            engine.queues.ack(b"q", [(again[0].seq, again[0].attempts)])
            clock.now += 3_600_000
            assert engine.queues.dequeue(b"q", 1) == []


def test_what_was_made_anew_in_the_tail(tmp_path: Path) -> None:
    """A consumer, a namespace: nothing of the one before is left."""
    clock = Clock()
    with open_engine(tmp_path, 1, clock) as engine:
        engine.streams.append(b"s", b"1")
        engine.streams.groups.create(b"s", b"g", 0)
        engine.streams.groups.create_consumer(b"s", b"g", b"c")
        engine.create_namespace("n")
        engine.namespace("n").kv.put(b"k", b"v")
        engine.compact()
        clock.now += 1_000_000
        engine.streams.groups.delete_consumer(b"s", b"g", b"c")
        engine.streams.groups.create_consumer(b"s", b"g", b"c")
        engine.flush([engine.namespace("n")])
        engine.delete_namespace("n")
        engine.create_namespace("n")
        engine.compact(tail=True)
    with open_engine(tmp_path, 1, clock) as engine:
        assert engine.streams.groups.need(b"s", b"g")[1].consumers[b"c"].seen == clock.now
        assert engine.namespace("n").kv.get(b"k") is None
        assert [space.name for space in engine._by_id.values()] == ["default", "n"]


def test_passes_over_the_tail_leave_few_bases(tmp_path: Path) -> None:
    """However often the same is written again: a crowd of small bases is taken with the segments behind it."""
    with open_engine(tmp_path, 1) as engine:
        for number in range(60):
            engine.kv.put(b"key-%d" % (number % 7), b"%d" % number)
            engine.compact(tail=True)
            assert engine.log.segments <= compaction.CROWD_MIN + 2, number
        values = [found.value for found in engine.kv.mget([b"key-%d" % number for number in range(7)]) if found is not None]
        assert sorted(values) == [b"%d" % number for number in range(53, 60)]
    assert check(str(tmp_path)).damage == []


class PlainReader:
    """Counts deletions."""

    def __init__(self) -> None:
        self.deletions = 0

    def __call__(self, _index: int, record: Record) -> None:
        self.deletions += record.gone


def test_dead_records_are_gone_and_their_bytes_too(tmp_path: Path) -> None:
    """20 rounds of overwriting leave one version each; a pass with nothing dead rewrites nothing."""
    with open_engine(tmp_path, depth=1) as engine:
        for _ in range(20):
            with engine.batch():
                for i in range(500):
                    engine.kv.put(b"key-%04d" % i, b"v" * 64)
        engine.compact()
        live = 500 * (28 + 8 + 64)
        assert live < size_of(tmp_path) < 1.5 * live
        assert engine.log.read(1) is None
        names = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.base")}
        engine.compact()
        assert names == {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.base")}
    with open_engine(tmp_path, depth=1) as engine:
        assert engine.log.recovered_records == 500


@pytest.mark.slow
def test_many_passes_do_not_make_many_files(tmp_path: Path) -> None:
    """Small bases are merged, though nothing in them is dead."""
    with open_engine(tmp_path, depth=1) as engine:
        for number in range(60):
            engine.kv.put(b"key-%d" % number, b"v" * 100)
            engine.compact()
            assert len(list(tmp_path.glob("*.base"))) <= 9
        expected = {b"key-%d" % number: number for number in range(60)}
        assert {key: engine.kv.get(key) is not None for key in expected} == dict.fromkeys(expected, True)
    with open_engine(tmp_path, depth=1) as engine:
        assert len(engine.kv.scan(limit=100)[0]) == 60


def test_recovery_reads_only_what_is_live(tmp_path: Path) -> None:
    """History is apart: it is found when asked for, not before; a deleted key's too."""
    clock = Clock()
    with open_engine(tmp_path, clock=clock) as engine:
        for i in range(30):
            engine.kv.put(b"key", b"%d" % i)
            engine.kv.put(b"gone", b"%d" % i)
        engine.kv.delete(b"gone")
        before = engine.kv.history(b"key", 64), engine.kv.history(b"gone", 64)
        assert [len(history) for history in before] == [30, 31]
        engine.compact()
    with open_engine(tmp_path, clock=clock) as engine:
        assert engine.log.recovered_records == 2
        assert (engine.kv.history(b"key", 64), engine.kv.history(b"gone", 64)) == before
        clock.now += 25 * 3600 * 1000
        engine.kv.put(b"key", b"new")
        engine.compact()
        assert len(engine.kv.history(b"key", 64)) == 1 + 1  # the one just replaced is young
        assert engine.kv.history(b"gone", 64) == []
    assert check(str(tmp_path)).damage == []


def test_stamps_do_not_go_back_over_a_compaction(tmp_path: Path) -> None:
    """The batches that had stamped it are gone; the base remembers."""
    clock = Clock()
    with open_engine(tmp_path, clock=clock) as engine:
        engine.kv.put(b"short", b"v", deadline=START + 1000)
        clock.now += 2000
        assert engine.kv.get(b"short") is None
        engine.compact()
    clock.now = START
    with open_engine(tmp_path, clock=clock) as engine:
        assert (engine.now, engine.stamp_time) == (START, START + 2000)
        assert engine.kv.get(b"short") is None


@pytest.mark.slow
def test_a_pass_that_is_stopped_leaves_all_as_it_was(tmp_path: Path) -> None:
    """At any point."""
    with open_engine(tmp_path) as engine:
        fill(engine)
        before = shown(engine)
        for calls in range(1, 8):
            left = iter([False] * calls)
            with pytest.raises(Stopped):
                engine.compact(lambda left=left: next(left, True))  # type: ignore[misc]
            assert shown(engine) == before
            listed = {name for entry in manifest.read(Files(), str(tmp_path)).entries for name in entry.files}
            assert {path.name for path in tmp_path.iterdir() if path.suffix in (".base", ".hist")} <= listed
        engine.compact()
        assert shown(engine) == before
    assert check(str(tmp_path)).damage == []


def test_nothing_is_left_to_be_synced_in_what_is_compacted_away(tmp_path: Path) -> None:
    """In `async` a helper syncs the open segment a little later: never one sealed since, whose descriptor may be another file's."""
    engine = Engine(str(tmp_path), EngineSettings(durability="async"), manual=True, clock=Clock())
    engine.kv.put(b"a", b"1")
    engine.commit()
    wait_until(lambda: engine.log._syncer is not None and engine.log._syncer.synced == engine.log.written, "the sync")
    engine.log.commit(engine.stamp_time)  # a batch without records
    engine.compact()
    assert engine.log._syncer is not None and engine.log._syncer._target[0] in (-1, engine.log._open.fd)
    engine.close()


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_flipped_bit_of_a_base_is_found(tmp_path: Path) -> None:
    """By `flo check`, and by recovery where it reads: the header's padding alone means nothing."""
    source = tmp_path / "source"
    with open_engine(source) as engine:
        for i in range(40):
            engine.kv.put(b"key-%d" % (i % 10), b"v" * 50)
        engine.compact()
    rng = Random(2)
    for suffix in (".base", ".hist"):
        name = next(source.glob("*" + suffix)).name
        size = (source / name).stat().st_size
        for at in [0, 8, 30, 44, 51, 64, 70, 92, *rng.sample(range(96, size), 60), size - 1, size - 20]:
            damaged = tmp_path / "damaged"
            shutil.copytree(source, damaged)
            with (damaged / name).open("r+b") as file:
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes((byte ^ 1 << rng.randrange(8),)))
            assert check(str(damaged)).damage, f"{suffix}, byte {at}"
            if suffix == ".base":
                with pytest.raises(LogDamaged):
                    open_engine(damaged)
            shutil.rmtree(damaged)


def test_without_the_blocks_checksum_a_flip_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    monkeypatch.setattr(block, "is_intact", lambda *_: True)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_every_flipped_bit_of_a_base_is_found(tmp_path)


def test_missing_and_cut_bases_are_found(tmp_path: Path) -> None:
    with open_engine(tmp_path) as engine:
        fill(engine, 3)
        engine.compact()
    path = next(tmp_path.glob("*.base"))
    whole = path.read_bytes()
    for size in (0, 10, 63, 64, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert check(str(tmp_path)).damage
        with pytest.raises(LogDamaged):
            open_engine(tmp_path)
    path.unlink()
    with pytest.raises(LogDamaged, match="missing"):
        open_engine(tmp_path)
    path.write_bytes(whole)
    open_engine(tmp_path).close()


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_flo_compact(tmp_path: Path) -> None:
    """`flo compact DIR`, and what it says where it cannot."""
    clock, directory = Clock(), tmp_path / "data"
    clock.now = wall_clock()  # the command looks at the real one, and history has an age
    with open_engine(directory, clock=clock) as engine:
        fill(engine)
        before = shown(engine)

    def run() -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-m", "flo", "compact", str(directory)], env=environment, cwd=tmp_path, capture_output=True, text=True
        )

    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "before" in done.stdout and "now" in done.stdout
    with open_engine(directory, clock=clock) as engine:
        assert shown(engine) == before
        held = run()
    assert held.returncode == 1 and "in use" in held.stderr and "Traceback" not in held.stderr


def memory_of(engine: Engine) -> list[object]:
    """Everything the stores hold, in a form that can be compared."""
    found: list[object] = []
    for name, space in sorted(engine.namespaces.items()):
        store, queues, streams = space.kv.store, space.queues.store, space.streams.store
        found.append(
            (
                name,
                {key: shard[key] for shard in store.shards for key in shard},
                dict(store.buried),
                sorted(set(filter(store.__contains__, store.ordered.fresh))),
                (store.bytes, queues.item_bytes, streams.item_bytes),
                {seq: (state & ~(QUEUE_MASK << QUEUE_SHIFT)) for shard in queues.shards for seq, state in shard.items()},
                {
                    queue.name: (
                        queue.counts,
                        [seq for seq, _ in queues.ready(queue)],
                        dict(queue.dead),
                        queue.evicted,
                        queue.lease,
                        queue.dedup,
                    )
                    for queue in queues.queues.values()
                },
                {
                    stream.name: (
                        [(chunk.ms, chunk.seqs, chunk.indexes, chunk.sizes, chunk.bytes) for chunk in stream.chunks],
                        (stream.count, stream.bytes, stream.last, stream.added, stream.max_deleted, stream.age_due),
                        {group.name: dict(group.pending) for group in stream.groups.values()},
                    )
                    for stream in streams.streams.values()
                },
                {key: read(space.ts, key) for key in space.ts.store.by_key},
                (held_work(space.actions), space.actions.memory_bytes),
            )
        )
    return found


def test_many_records_taken_at_once_make_the_same_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short ways of recovery against their plain twin: entries, notes, lanes, chunks, accounted bytes; before a compaction, behind
    one, behind another with a tail, and with one that was cut short."""
    with open_engine(tmp_path) as engine:
        fill(engine, 12)
        other = engine.create_namespace("other")
        other.kv.put(b"a", b"")
        other.kv.incr(b"count")
        other.kv.json_set(b"doc", b"[1]")
        other.kv.put(b"deadline", b"v", deadline=START + 99_000)
        other.kv.touch(b"a", START + 99_000)
        other.kv.put(b"a", b"\r\n")
        for i in range(40):
            other.queues.enqueue(b"q%d" % (i % 3), b"p", delay=1000 if i % 7 == 0 else 0, priority=i % 2)
            other.streams.append(b"s%d" % (i % 12), b"payload")
        other.queues.dequeue(b"q1", 3)
        other.streams.trim(b"s1", Bounds(max_len=1))
        other.queues.purge(b"q2")
        other.queues.enqueue(b"q2", b"again")

    def compare() -> None:
        with open_engine(tmp_path) as engine:
            short = memory_of(engine)
        with monkeypatch.context() as patch:
            patch.setattr(engine_module, "Loading", lambda apply, *_: PlainLoader(apply))
            patch.setattr(KvStore, "finish_load", lambda _self: None)
            with open_engine(tmp_path) as engine:
                assert memory_of(engine) == short

    compare()
    with open_engine(tmp_path) as engine:
        engine.compact()
    compare()
    with open_engine(tmp_path) as engine:
        fill(engine, 3)
        engine.kv.delete(b"key-50")
        engine.kv.put(b"key-51", b"v", deadline=START + 99_000)
    compare()
    with open_engine(tmp_path) as engine:
        engine.compact()
        engine.kv.put(b"key-50", b"back")
    compare()
    monkeypatch.setattr(block, "MARSHAL_READS_PIECES", False)
    compare()
    monkeypatch.setattr(bulk, "ALONE_MIN", 8)  # groups that are gathered and groups that are not, in turn
    compare()
    with open_engine(tmp_path) as engine:
        fill(engine, 2)
        engine.compact(tail=True)
    compare()


RUN = st.tuples(
    st.sampled_from(
        ["put", "put", "count", "enqueue", "enqueue", "late", "add", "add", "turns", "json", "deadline", "delete", "lease", "trim", "purge"]
    ),
    st.sampled_from([1, 2, 7, 8, 9, 30, 63, 64, 150, 650]),
    st.booleans(),  # of one size, or of several
    st.sampled_from([b"a", b"b"]),
    st.sampled_from(["default", "other"]),
)


@pytest.mark.slow
@examples(60)
@example([[("late", 150, True, b"a", "default"), ("turns", 650, True, b"a", "other"), ("add", 650, True, b"b", "other")]])
@given(st.lists(st.lists(RUN, max_size=6), max_size=4))
def test_runs_of_records_make_the_same_state(batches: list[list[tuple[str, int, bool, bytes, str]]]) -> None:
    """Batches of many records of one layout, and where such a span ends."""
    with tempfile.TemporaryDirectory() as home:
        directory = Path(home)
        with open_engine(directory) as engine:
            engine.create_namespace("other")
            for several in batches:
                with engine.batch():
                    for kind, times, even, name, owner in several:
                        space = engine.namespace(owner)
                        for at in range(times):
                            payload = b"x" * (5 if even else at % 5)
                            if kind == "put":
                                space.kv.put(b"%b%03d" % (name, at % 100), payload)
                            elif kind == "count":
                                space.kv.incr(b"n%b%d" % (name, at if even else at % 3))
                            elif kind in ("enqueue", "late"):
                                delay = 5 if kind == "late" and (at > 66 or times < 64) else 0  # a long span ends at the first
                                space.queues.enqueue(name, payload, priority=at % 2 if not even else 0, delay=delay)
                            elif kind == "add":
                                space.streams.append(name, payload)
                            elif kind == "turns":  # alike in all but one byte of the name, and where that changes
                                space.queues.enqueue(b"ab"[at // 70 % 2 :][:1] if even else b"ab"[at % 2 :][:1], payload)
                        if kind == "json":
                            space.kv.json_set(b"j%b" % name, b"[1]")
                        elif kind == "deadline":
                            space.kv.put(b"%b%03d" % (name, times), b"", deadline=START + 99_000)
                        elif kind == "delete" and space.kv.exists(b"%b%03d" % (name, times)):
                            space.kv.delete(b"%b%03d" % (name, times))
                        elif kind == "lease":
                            space.queues.dequeue(name, times)
                        elif kind == "trim" and space.streams.store.streams.get(name) is not None:
                            space.streams.trim(name, Bounds(max_len=times))
                        elif kind == "purge" and space.queues.store.find(name) is not None:
                            space.queues.purge(name)
        with open_engine(directory) as engine:
            short = memory_of(engine)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_module, "Loading", lambda apply, *_: PlainLoader(apply))
            patch.setattr(KvStore, "finish_load", lambda _self: None)
            with open_engine(directory) as engine:
                assert memory_of(engine) == short
        with pytest.MonkeyPatch.context() as patch:  # and a compaction that takes spans makes the same files as one that does not
            patch.setattr(os, "urandom", bytes)
            made = []
            for records in (3, 64, 1 << 30):
                patch.setattr(uniform_spans, "STRIDES_MIN", records)
                copy = directory / f"spans-of-{records}"
                shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("spans-of-*"))
                with open_engine(copy) as engine:
                    engine.compact()
                made.append({path.name: path.read_bytes() for path in copy.iterdir() if path.suffix in (".base", ".hist")})
            assert made[0] == made[1] == made[2]


@examples(200)
@given(st.sampled_from("IQ"), st.integers(0, 1 << 31), st.integers(0, 1 << 18), st.integers(0, 40))
@example("I", (1 << 31) - 1, 1 << 18, columns.COUNT_MAX)
@example("Q", (1 << 63) - 1, 1, 2 * columns.COUNT_MAX + 1)
def test_a_progression_is_a_range(code: str, start: int, step: int, count: int) -> None:
    """However long, behind whatever is there."""
    column = array(code, [7])
    columns.extend(column, start, step, count)
    assert column.tolist() == [7, *(start + step * number for number in range(count))]


def test_blocks_give_back_what_they_were_given() -> None:
    """Records of every kind, each found by its index, in order, however the block lays them out."""
    rng = Random(5)
    rows: list[tuple[int, bytes, bool]] = []
    for index in sorted(rng.sample(range(1, 10_000), 3000)):
        name = rng.choice([b"a", b"", b"long" * 9])
        payload = rng.randbytes(rng.choice([0, 1, 300]))
        entity, state = name, payload
        kind = rng.choice([KV_STRING, KV_COUNTER, KV_STRING | KV_DEADLINE, KV_GONE, QUEUE_MESSAGE, STREAM_RECORD, QUEUE_LEASE, WATERMARK])
        if kind == QUEUE_MESSAGE:
            entity = container(name) + U64.pack(index)
            state = MESSAGE_STATE.pack(rng.randrange(2), rng.choice([0, 0, 5])) + payload
        elif kind == STREAM_RECORD:
            entity, state = container(name) + STREAM_ID.pack(index, 0), RECORD_STATE.pack(0, index) + payload
        leans = (index - 1,) if kind == QUEUE_LEASE else ()
        record = Record(kind, rng.randrange(2), index * 3, entity, state, rng.choice([0, index - 1]), leans, kind == KV_GONE)
        rows.append((index, encode(record), rng.random() < 0.9))
    files = SimFiles()
    files.make_dir("/d")
    writer = BaseWriter(files, "/d/base", 1, 10_000, 7, MODULUS)
    for index, data, current in rows:
        writer.add(index, data, current)
    writer.finish()
    opened = BaseFile(files, "/d/base", 1, 10_000)
    assert [row for number in range(len(opened)) for row in opened.rows(number)] == [(index, data) for index, data, _ in rows]
    kept = {index: data for index, data, _ in rows}
    order = [*kept, *rng.sample(range(10_000), 500)]
    for index in order:
        assert opened.read(index) == kept.get(index)
    values = sum(each.head.values for each in opened.blocks())
    grouped = sum(len(group.columns[0]) for each in opened.blocks() for group in each.groups())
    assert values > 50 and grouped > 100, "the short forms are used at all"
    for each in opened.blocks():
        assert block.read_pieces(each.data[each.head.values_at : each.head.others_at]) == each.pieces()
