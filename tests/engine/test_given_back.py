"""Memory that holds nothing any more is given back in the background, and what cannot be is bounded and accounted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine.namespace import TIDY_RECORDS
from flo.store.kv import BURIED_BYTES, BURIED_BYTES_MAX
from flo.store.stream import CHUNK_RECORDS
from flo.store.tables import squeeze

pytestmark = pytest.mark.computes

NOW = 1_800_000_000_000
FAR_MS = 1000 * 3600 * 1000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(str(tmp_path), EngineSettings(durability="ephemeral", segment_bytes=1 << 20), clock=lambda: NOW) as made:
        yield made


def rest(engine: Engine) -> None:
    """Have all done that can wait."""
    while engine.upkeep(True):
        pass
    engine.commit()


def test_queues_that_are_empty_go_and_what_is_known_of_the_others_stays(engine: Engine) -> None:
    queues = engine.queues
    with engine.batch():
        queues.configure(b"configured", max_attempts=7)
        queues.enqueue(b"dead", b"x")
        queues.nack(b"dead", [(message.seq, 1) for message in queues.dequeue(b"dead")], dead=True)
        queues.enqueue(b"deduplicated", b"x", dedup=b"k")
        queues.dequeue(b"deduplicated", acknowledge=True)
        queues.enqueue(b"held", b"x", priority=9)
        held = queues.dequeue(b"held")
        for number in range(TIDY_RECORDS):
            queues.enqueue(b"%d" % number, b"x", priority=number % 3)
            queues.dequeue(b"%d" % number, acknowledge=True)
    rest(engine)
    assert sorted(queues.store.queues) == [b"configured", b"dead", b"deduplicated", b"held"]
    assert not [queue.lanes for queue in queues.store.queues.values() if queue.lanes]
    assert queues.stats(b"configured")["max_attempts"] == 7
    assert queues.stats(b"dead")["dead"] == 1
    assert queues.nack(b"held", [(held[0].seq, 1)]) == 1
    assert [message.seq for message in queues.dequeue(b"held")] == [held[0].seq]
    assert queues.ack(b"held", [(held[0].seq, 2)]) == 1
    assert queues.enqueue(b"1", b"again") == queues.peek(b"1")[0].seq


def test_a_lane_that_emptied_does_not_stand_before_the_others(engine: Engine) -> None:
    queues = engine.queues
    with engine.batch():
        queues.enqueue(b"q", b"x", priority=1)
        queues.dequeue(b"q", acknowledge=True)
        for _ in range(TIDY_RECORDS):
            queues.enqueue(b"q", b"x", priority=5)
    rest(engine)
    assert queues.store.queues[b"q"].order == [5]
    assert len(queues.dequeue(b"q", 10)) == 10


@pytest.mark.parametrize("way", ["purge", "delete"])
def test_messages_with_a_time_that_are_purged_do_not_wait_for_it(engine: Engine, way: str) -> None:
    """Of one queue; those of the other stay. Nothing else is written after it, so nothing else makes the engine look."""
    queues = engine.queues
    with engine.batch():
        for name in (b"q", b"other"):
            for _ in range(3000):
                queues.enqueue(name, b"x", delay=FAR_MS)
                queues.enqueue(name, b"x")
    for _ in range(30):
        queues.dequeue(b"q", 100, lease=FAR_MS)
    rest(engine)
    queues.delete(b"q") if way == "delete" else queues.purge(b"q")
    rest(engine)
    assert sum(map(len, queues.store.shards)) == 3000, "the other queue's delayed ones"
    assert queues.stats(b"other")["delayed"] == queues.stats(b"other")["ready"] == 3000
    queues.delete(b"other")
    rest(engine)
    assert queues.store.accounted == 0
    assert queues.store.timers.next_due() is None


def test_windows_of_deleted_queues_are_forgotten(engine: Engine) -> None:
    queues = engine.queues
    with engine.batch():
        for number in range(1000):
            queues.enqueue(b"%d" % number, b"x", dedup=b"k")
    for number in range(900):
        queues.delete(b"%d" % number)
    assert len(queues.store.windows) < 500
    assert queues.enqueue(b"950", b"x", dedup=b"k") == queues.peek(b"950")[0].seq, "the others' are there"
    assert queues.enqueue(b"1", b"x", dedup=b"k") == queues.peek(b"1")[0].seq


@pytest.mark.slow
def test_names_of_deleted_keys_are_bounded(engine: Engine) -> None:
    kv, size = engine.kv, 60_000
    for number in range(500):
        with engine.batch():
            key = b"%d" % number + b"k" * size
            kv.put(key, b"x")
            kv.delete(key)
        rest(engine)
    assert BURIED_BYTES_MAX // 2 < engine.memory_used() < BURIED_BYTES_MAX + (4 << 20)
    assert kv.store.bytes == sum(BURIED_BYTES + len(key) for key in kv.store.buried)
    assert kv.history(b"0" + b"k" * size) == [], "the oldest is forgotten"
    assert [version.tombstone for version in kv.history(b"499" + b"k" * size)] == [True, False]
    with engine.batch():
        for number in range(500):
            kv.put(b"%d" % number + b"k" * size, b"x")
            kv.put(b"%d" % number, b"x")
    assert not kv.store.buried


def test_dead_keys_of_many_bytes_do_not_wait_for_idle_time(engine: Engine) -> None:
    kv = engine.kv
    with engine.batch():
        kv.put(b"live", b"x")
        for number in range(400):
            kv.put(b"%d" % number + b"k" * 60_000, b"x")
            kv.delete(b"%d" % number + b"k" * 60_000)
    assert kv.store.ordered.overdue
    while engine.upkeep(False) and kv.store.ordered.overdue:
        pass
    assert kv.store.ordered.dead_bytes < 1 << 20
    assert kv.scan() == ([b"live"], False)


@pytest.mark.slow
def test_tables_get_small_again(engine: Engine) -> None:
    kv = engine.kv
    for start in range(0, 60_000, 10_000):  # a batch that fits a segment: room for a larger one is taken record by record
        with engine.batch():
            for number in range(start, start + 10_000):
                kv.put(b"%d" % number, b"x")
    large = sum(table.__sizeof__() for table in kv.store.shards)
    for start in range(0, 60_000, 10_000):
        kv.delete_many([b"%d" % number for number in range(start, start + 10_000)])
    rest(engine)
    assert sum(table.__sizeof__() for table in kv.store.shards) < large / 4


def test_squeezing_changes_nothing_else() -> None:
    table = dict.fromkeys(range(10_000))
    for number in range(9_990):
        del table[number]
    before = table.__sizeof__()
    squeeze(table)
    assert list(table) == [*range(9_990, 10_000)]
    assert table.__sizeof__() < before / 50


def test_a_stream_with_holes_has_few_chunks(engine: Engine) -> None:
    streams, count = engine.streams, 19 * CHUNK_RECORDS
    with engine.batch():
        ids = [streams.append(b"s", b"x") for _ in range(count)]
    kept = ids[::50]
    streams.delete_records(b"s", [ident for place, ident in enumerate(ids) if place % 50 and ident])
    stream = streams.store.streams[b"s"]
    assert len(stream.chunks) <= 2
    assert sum(array.buffer_info()[1] * array.itemsize for chunk in stream.chunks for array in (chunk.ms, chunk.sizes)) < 40 * len(kept)
    assert [record.ident for record in streams.read(b"s", limit=count)] == kept
    assert sum(chunk.bytes for chunk in stream.chunks) == stream.bytes == len(kept)


def test_a_consumer_has_its_name_once(engine: Engine) -> None:
    streams = engine.streams
    streams.groups.create(b"s", b"g", make_stream=True)
    for _ in range(10):
        streams.append(b"s", b"x")
        streams.groups.read(b"s", b"g", bytes(bytearray(b"c" * 1000)), 1)
    group = streams.store.streams[b"s"].groups[b"g"]
    assert len({id(pending.consumer) for pending in group.pending.values()}) == 1


def test_a_namespace_and_its_cursors_are_accounted(engine: Engine) -> None:
    before = engine.memory_used()
    space = engine.create_namespace("space")
    empty = engine.memory_used() - before
    assert empty > 50_000, "the dicts of its stores"
    for number in range(100):
        space.kv.cursors.number((b"%d" % number + b"k" * 1000, 0), 0)
    assert engine.memory_used() - before - empty > 100_000
    engine.delete_namespace("space")
    assert engine.memory_used() == before
