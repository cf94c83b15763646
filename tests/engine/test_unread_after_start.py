"""A start that leaves values on disk (flo.engine.background_load) answers as its twin does, the start that reads all values at once."""

import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flo.engine import Engine, EngineSettings, background_load, loading
from flo.errors import Damaged, LogDamaged, Refusal
from flo.store.lazy import LazyShard
from flo.ual import base, compaction
from flo.ual.check import check
from flo.ual.compaction import Stopped
from flo.ual.files import Files
from flo.ual.repair import repair
from tests.support.examples import examples
from tests.support.old_bases import age
from tests.support.processes import FloProcess, wait_until
from tests.ual.test_compaction import SEGMENT_BYTES, START, Clock, memory_of
from tests.ual.test_golden import GOLDEN

pytestmark = pytest.mark.slow

KEYS = [b"%d" % number for number in range(5)]
HOUR = 3600 * 1000

Step = tuple[str, int, int, int]  # what, of which key, how, and in which namespace
STEP = st.tuples(
    st.sampled_from(
        ["put"] * 4
        + ["put with deadline", "touch", "persist", "delete", "delete", "incr", "json", "append"]
        + ["flush", "roll", "compact", "compact tail", "compact tail", "cut short", "reopen", "later"]
    ),
    st.integers(0, len(KEYS) - 1),
    st.integers(0, 6),
    st.integers(0, 1),
)
LOOKS = ["get", "history", "put", "put with deadline", "touch", "persist", "delete", "incr", "flush", "read", "later"]
LOOK = st.tuples(st.sampled_from(LOOKS), st.integers(0, len(KEYS) - 1), st.integers(0, 6), st.integers(0, 1))  # fmt: skip


@pytest.fixture(autouse=True)
def always_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few values there are; and bases are small, so that there are many."""
    monkeypatch.setattr(loading, "LAZY_VALUES_MIN", 1)
    monkeypatch.setattr(background_load, "HASHES_FROM", 1)
    monkeypatch.setattr(compaction, "GROUP_KEPT_BYTES", 1000)


def open_at(directory: Path, clock: Clock, lazy: bool) -> Engine:
    settings = EngineSettings(segment_bytes=SEGMENT_BYTES, history_depth=8)
    return Engine(str(directory), settings, manual=True, clock=clock, lazy=lazy)


def stopping_after(calls: int) -> Callable[[], bool]:
    counter = count()
    return lambda: next(counter) >= calls


def act(engine: Engine, clock: Clock, step: Step) -> Any:
    """Do it, and give what it says."""
    what, number, how, place = step
    spaces = list(engine.namespaces.values())
    space = spaces[place % len(spaces)]
    kv, key, deadline = space.kv, KEYS[number], clock.now + (how - 1) * HOUR // 2
    engine.tick()
    try:
        match what:
            case "put":
                return kv.put(key, b"v" * how)
            case "put with deadline":
                return kv.put(key, b"d" * how, deadline=deadline)
            case "touch":
                return kv.touch(key, deadline)
            case "persist":
                return kv.persist(key)
            case "delete":
                return kv.delete(key)
            case "incr":
                return kv.incr(key, how)
            case "json":
                return kv.json_set(key, b"[%d]" % how)
            case "append":
                return kv.update(key, lambda old: (old or b"") + b"+")
            case "get":
                return kv.get(key), kv.mget(KEYS[:how]), kv.exists(key)
            case "history":
                return kv.history(key, how + 1)
            case "flush":
                return engine.flush([space])
            case "later":
                clock.now += how * HOUR // 4
            case "read":
                read(engine)
    except Refusal as e:
        return type(e)
    finally:
        engine.commit()
    return None


def read(engine: Engine) -> None:
    """A slice, if there is anything left, and nothing else: what has expired would be swept in no certain order."""
    if engine.background_load is not None and engine.background_load.step(idle=True):
        engine.background_load = None


def make(directory: Path, clock: Clock, steps: list[Step]) -> None:
    """A directory that those steps lead to."""
    engine = open_at(directory, clock, lazy=False)
    engine.create_namespace("other")
    for step in steps:
        what, _, how, _ = step
        if what == "roll":
            engine.commit()
            engine.log.roll()
        elif what in ("compact", "compact tail", "cut short"):
            with suppress(Stopped):
                engine.compact(stopping_after(how * 2) if what == "cut short" else lambda: False, tail=what == "compact tail")
        elif what == "reopen":
            engine.close()
            engine = open_at(directory, clock, lazy=False)
        else:
            act(engine, clock, step)
    engine.close()


@examples(250)
@given(steps=st.lists(STEP, max_size=60), looks=st.lists(LOOK, max_size=25))
@example(steps=[("put", 0, 1, 0), ("compact", 0, 0, 0), ("delete", 0, 0, 0)], looks=[("get", 0, 1, 0)])
@example(steps=[("put", 0, 1, 0), ("delete", 0, 0, 0), ("put", 0, 2, 0), ("compact", 0, 0, 0)], looks=[("get", 0, 1, 0)])
@example(steps=[("put with deadline", 0, 3, 0), ("compact", 0, 0, 0), ("put", 0, 1, 0), ("compact", 0, 0, 0)], looks=[("get", 0, 1, 0)])
@example(steps=[("put", 0, 1, 0), ("compact", 0, 0, 0), ("touch", 0, 4, 0), ("cut short", 0, 1, 0)], looks=[("get", 0, 1, 0)])
@example(steps=[("put", 0, 1, 0), ("compact", 0, 0, 0), ("put", 0, 2, 0), ("compact tail", 0, 0, 0)], looks=[("get", 0, 1, 0)])
@example(steps=[("put", 0, 1, 0), ("compact", 0, 0, 0), ("delete", 0, 0, 0), ("compact tail", 0, 0, 0)], looks=[("get", 0, 1, 0)])
@example(
    steps=[
        ("put", 0, 1, 0),
        ("compact", 0, 0, 0),
        ("delete", 0, 0, 0),
        ("compact tail", 0, 0, 0),
        ("put", 0, 2, 0),
        ("compact tail", 0, 0, 0),
    ],
    looks=[("get", 0, 1, 0)],
)
@example(steps=[("put", 0, 1, 0), ("compact", 0, 0, 0), ("flush", 0, 0, 0), ("compact tail", 0, 0, 0)], looks=[("get", 0, 1, 0)])
@example(
    steps=[("put", 0, 1, 0), ("put", 2, 1, 0), ("compact", 0, 0, 0), ("flush", 0, 0, 0), ("put", 1, 1, 0), ("compact tail", 0, 0, 0)],
    looks=[("get", 0, 1, 0)],
)
@example(steps=[("put", 0, 1, 0), ("compact", 0, 0, 0), ("flush", 0, 0, 0), ("put", 1, 1, 0)], looks=[("get", 0, 1, 0), ("get", 1, 1, 0)])
def test_nobody_can_tell(steps: list[Step], looks: list[Step]) -> None:
    """Any log, compacted or not, whole or not: every answer while values are being read, and the stores in the end, are its twin's."""
    with tempfile.TemporaryDirectory() as home:
        clock = Clock()
        one, other = Path(home) / "one", Path(home) / "other"
        make(one, clock, steps)
        shutil.copytree(one, other)
        clocks = [Clock(), Clock()]
        for each in clocks:
            each.now = clock.now
        eager, late = open_at(one, clocks[0], lazy=False), open_at(other, clocks[1], lazy=True)
        assert eager.background_load is None
        for look in looks:
            assert act(late, clocks[1], look) == act(eager, clocks[0], look), look
        while late.background_load is not None:
            read(late)
        for space in (*eager.namespaces.values(), *late.namespaces.values()):
            while space.kv.store.ordered.pending:
                space.kv.store.ordered.fold()
        assert memory_of(late) == memory_of(eager)
        for space in late.namespaces.values():
            assert all(type(shard) is dict for shard in space.kv.store.shards) and space.kv.store.lazy is None
            assert space.kv.scan(limit=100) == eager.namespace(space.name).kv.scan(limit=100)
        late.close()
        eager.close()


def filled(directory: Path, keys: int = 3000) -> None:
    with Engine(str(directory), EngineSettings(history_depth=1)) as engine:
        with engine.batch():
            for number in range(keys):
                engine.kv.put(b"key-%d" % number, b"%d" % number * 9)
        engine.compact()


def test_single_keys_are_there_at_once_and_the_rest_comes_by_itself(tmp_path: Path) -> None:
    filled(tmp_path)
    engine = Engine(str(tmp_path), manual=True, lazy=True)
    store = engine.kv.store
    assert engine.background_load is not None and engine.background_load.remaining == 3000
    assert len(store) == 0 and isinstance(store.shards[0], LazyShard)
    found = engine.kv.get(b"key-77")
    assert found is not None and found.value == b"77" * 9 and len(store) == 1
    assert engine.kv.get(b"key-3000") is None and len(store) == 1
    held = store.bytes
    engine.kv.get(b"key-77")
    assert store.bytes == held, "it is accounted once"
    steps = 0
    while engine.background_load is not None:
        engine.upkeep(idle=True)
        steps += 1
    assert 3000 / background_load.SLICE < steps < 3000 / background_load.SLICE + 5
    assert len(store) == 3000
    engine.close()


def test_plain_shards_again_a_slice_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a flush in the middle of it leave one behind."""
    monkeypatch.setattr(background_load, "PLAIN_SLICE", 100)
    filled(tmp_path)
    for flush in (False, True):
        engine = Engine(str(tmp_path), manual=True, lazy=True)
        store = engine.kv.store
        while type(store.shards[0]) is LazyShard:
            engine.upkeep(idle=True)
        assert engine.background_load is not None and type(store.shards[-1]) is LazyShard
        if flush:
            engine.flush([engine.namespace("default")])
            engine.kv.put(b"a", b"1")
        while engine.background_load is not None:
            engine.upkeep(idle=True)
        assert {type(shard) for shard in store.shards} == {dict} and len(store) == (1 if flush else 3000)
        engine.close()


@pytest.mark.parametrize("part", ("key", "entry"))
@pytest.mark.parametrize("old_format", (False, True))
def test_what_cannot_be_read_is_not_taken_for_read(tmp_path: Path, part: str, old_format: bool) -> None:
    """Damage that came after the start: what is damaged is refused, by file and key, and never taken for a key that is not there; all other
    keys are served, those beside it too where the file has a check of each value; what is of all keys is refused; the server stays up."""
    filled(tmp_path)
    if old_format:
        age(next(tmp_path.glob("*.base")), base.MAGIC_3)
    told: list[str] = []
    engine = Engine(str(tmp_path), manual=True, lazy=True, on_notice=told.append)
    path = next(tmp_path.glob("*.base"))
    data = bytearray(path.read_bytes())
    at = data.index(b"s\x07\x00\x00\x00key-100") + (8 if part == "key" else 30)
    data[at] ^= 1
    path.write_bytes(data)
    for _ in range(2):  # while the rest is read, and when it was
        with pytest.raises(Damaged, match=r"key-100.*does not read"):
            engine.kv.get(b"key-100")
        if not old_format:
            found = engine.kv.get(b"key-101")
            assert found is not None and found.value.startswith(b"101")
        assert engine.kv.get(b"no such key") is None
        while engine.background_load is not None and engine.background_load.failure is None:
            engine.upkeep(idle=True)
    assert engine.background_load is not None
    assert not all(engine.upkeep(idle=True) for _ in range(1000)), "it would never come to rest"
    with pytest.raises(Damaged):
        engine.kv.read_all()
    found = engine.kv.get(b"key-2999")
    assert found is not None and found.value.startswith(b"2999")
    engine.kv.put(b"key-100", b"anew")  # and is well again
    found = engine.kv.get(b"key-100")
    assert found is not None and found.value == b"anew"
    assert engine.kv.delete_many([b"key-101", b"key-100"]) == 2 and engine.kv.get(b"key-100") is None
    assert engine.log.damage_met >= 3
    assert sum("key-100" in sentence for sentence in told) == 1, told
    engine.commit()
    engine.log.abandon()


def test_many_bases_take_few_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bases without values none, and too many with values are read at once."""
    with Engine(str(tmp_path), EngineSettings(history_depth=1)) as engine:
        for part in range(12):
            with engine.batch():
                for number in range(10):
                    engine.queues.enqueue(b"q", b"m" * 100)
                    if part % 4 == 0:
                        engine.kv.put(b"key-%d-%d" % (part, number), b"v" * 100)
            engine.log.roll()
        engine.compact()
    bases = len(list(tmp_path.glob("*.base")))
    assert bases >= 12

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with Engine(str(tmp_path)) as engine:
        without = descriptors() - before
    with Engine(str(tmp_path), manual=True, lazy=True) as engine:
        assert engine.background_load is not None
        left = descriptors() - before - without
    assert left == 3
    monkeypatch.setattr(loading, "LAZY_FILES_MAX", left - 1)
    with Engine(str(tmp_path), manual=True, lazy=True) as engine:
        assert engine.background_load is None and len(engine.kv.store) == 30
    assert descriptors() == before


def test_a_program_need_not_know(tmp_path: Path) -> None:
    """Without a server's turns nothing is left; and what is of all keys reads them first."""
    filled(tmp_path)
    with Engine(str(tmp_path), lazy=True) as engine:
        assert engine.background_load is None and len(engine.kv.scan(limit=5000)[0]) == 3000
    for name, arguments in (("scan", {"limit": 5000}), ("random_key", {})):
        engine = Engine(str(tmp_path), manual=True, lazy=True)
        assert getattr(engine.kv, name)(**arguments) and len(engine.kv.store) == 3000
        engine.close()


def test_a_busy_server_reads_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in every turn, but however busy it is."""
    filled(tmp_path)
    now = [0.0]
    monkeypatch.setattr(background_load, "monotonic", lambda: now[0])
    engine = Engine(str(tmp_path), manual=True, lazy=True)
    assert engine.background_load is not None
    engine.upkeep(idle=False)
    left = engine.background_load.remaining
    assert left < 3000
    engine.upkeep(idle=False)
    assert engine.background_load.remaining == left
    now[0] += background_load.OVERDUE_SECONDS
    engine.upkeep(idle=False)
    assert engine.background_load.remaining < left
    engine.close()


def test_what_is_read_may_be_compacted_away_meanwhile(tmp_path: Path) -> None:
    filled(tmp_path)
    engine = Engine(str(tmp_path), EngineSettings(history_depth=1), manual=True, lazy=True)
    for number in range(0, 3000, 2):
        engine.kv.put(b"key-%d" % number, b"new")
    engine.commit()
    engine.compact()
    assert engine.background_load is not None
    for number in (0, 1, 2998, 2999):
        found = engine.kv.get(b"key-%d" % number)
        assert found is not None and found.value == (b"%d" % number * 9 if number % 2 else b"new")
    while engine.background_load is not None:
        engine.upkeep(idle=True)
    assert sum(entry.value != b"new" for entry in engine.kv.mget([b"key-%d" % number for number in range(3000)]) if entry) == 1500
    engine.close()


def test_a_damaged_index_is_found_and_made_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    path = next(tmp_path.glob("*.base"))
    data = bytearray(path.read_bytes())
    data[-60] ^= 4
    path.write_bytes(data)
    assert "index" in check(str(tmp_path)).damage[0]
    for lazy in (False, True):
        with pytest.raises(LogDamaged, match="its index does not hold"):
            Engine(str(tmp_path), lazy=lazy)
    repair(Files(), str(tmp_path), START)
    assert not check(str(tmp_path)).damage
    with Engine(str(tmp_path), lazy=True, manual=True) as engine:
        found = engine.kv.get(b"key-5")
        assert found is not None and found.value == b"5" * 9


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    filled(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    engine = Engine(str(tmp_path), manual=True, lazy=True)
    engine.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_server_that_is_killed_while_it_reads(tmp_path: Path) -> None:
    """Real clients, real size: every key at once by any command, what is of all keys when all is read, and nothing lost by a kill in the
    middle of it, three times."""
    total, rng = background_load.LAZY_VALUES_MIN + 20_000, Random(3)
    values = {b"key:%d" % number: b"%d" % number * 5 for number in range(total)}
    with FloProcess(tmp_path, environment={"FLO_KV_HISTORY_DEPTH": "1", "FLO_DURABILITY": "async"}) as flo, flo.connect() as client:
        items = list(values.items())
        for at in range(0, total, 2000):
            client.pipeline(*[(b"SET", key, value) for key, value in items[at : at + 2000]])
        assert flo.process is not None
        flo.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "compacted the log in" in flo.output(), "the compaction", 60)
    for turn in range(3):
        with FloProcess(tmp_path, environment={"FLO_KV_HISTORY_DEPTH": "1"}) as flo, flo.connect() as client:
            assert " values to be read while it serves" in flo.output()
            keys = rng.sample(list(values), 300)  # by pipeline: single ones
            assert client.pipeline(*[(b"GET", key) for key in keys]) == [values[key] for key in keys]
            some = rng.sample(list(values), 10)
            assert client.command(b"MGET", *some) == [values[key] for key in some]
            key, gone, counter = some[0], some[1], b"counter"
            values[key] = b"new %d" % turn
            del values[gone]
            values[counter] = b"%d" % (turn + 1)
            assert client.command(b"MGET", *keys) == [values[key] for key in keys]  # so many wait until all is read
            assert b"async_loading:0" in client.command("INFO", "persistence")
            requests = (b"SET", key, values[key]), (b"DEL", gone), (b"EXISTS", gone, key), (b"GET", gone), (b"INCR", counter)
            assert client.pipeline(*requests) == [b"OK", 1, 1, None, turn + 1]
            if turn < 2:
                flo.kill()
            else:
                assert client.command("DBSIZE") == len(values)
                assert sorted(client.command("KEYS", "*")) == sorted(values)
                assert b"async_loading:0" in client.command("INFO", "persistence")


def test_only_what_has_an_index_is_left(tmp_path: Path) -> None:
    """Bases of the format before have none: their values are read at once."""
    for form, left in (("format-2", False), ("format-3", True)):
        directory = str(shutil.copytree(GOLDEN / form, tmp_path / form))
        with Engine(directory, manual=True, clock=lambda: START, lazy=True) as engine:
            assert (engine.background_load is not None) == left
            assert engine.log.recovered_records > 60
            found = engine.namespace("jobs").kv.get(b"\x00\xff")
            assert found is not None and found.value == b"\r\n"
            assert engine.kv.get(b"gone") is None and [item.tombstone for item in engine.kv.history(b"gone")] == [True, False]
