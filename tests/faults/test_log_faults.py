"""The log under faults: crashes at every call, failing calls, a full disk, flipped bits (DESIGN.md, "Tested", 3).

The disk is `tests.support.faultfiles.SimFiles`. Every test compares the state after recovery, versions and the next index included,
with a plain model: what was acknowledged must be there, what was in flight wholly or not at all, and nothing else.
"""

import errno
import itertools
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flo.ual.log as log_module
from flo.engine import Engine, EngineSettings
from flo.engine.operation import run_job
from flo.errors import Damaged, DirectoryInUse, FloError, LogDamaged, LogFailed, Overloaded
from flo.store.kv import COUNTER, JSON, STRING, Found
from flo.ual import batch, manifest
from flo.ual.check import check
from flo.ual.files import Files
from flo.ual.log import ASYNC, EPHEMERAL, SYNC, Log
from flo.ual.record import KV_STRING, Record, encode
from flo.ual.repair import repair
from flo.ual.segment import HEADER_BYTES, Segment, file_name
from tests.support.examples import examples
from tests.support.faultfiles import AFTER, BEFORE, MODES, TORN, Plan, SimCrash, SimFiles, crash_points
from tests.support.points import Points, read, seal_all, write
from tests.support.work import Work, do_step, held_work

pytestmark = [pytest.mark.computes, pytest.mark.slow]

DIR = "/data"
SEGMENT_BYTES = 16 << 10
START = 1_700_000_000_000
STEP = 1_000  # ms of the clock for each operation

Op = tuple[Any, ...]  # name of the operation, its arguments
# the last index, keys, series, actions with all that is theirs
Snapshot = tuple[int, dict[str, dict[bytes, Found]], dict[str, dict[bytes, Points]], dict[str, Any]]
Factory = Callable[[Plan | None], SimFiles]


# -- the model -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """A time series: its points, the times of its chunks, and of the points that are in none."""

    points: Points
    chunks: tuple[tuple[int, int], ...] = ()
    open: tuple[int, ...] = ()


class Model:
    """What the database must hold: the keys of each namespace with their versions, its series, its runs, and how many records there are."""

    def __init__(self) -> None:
        self.index = 0
        self.spaces: dict[str, dict[bytes, Found]] = {"default": {}}
        self.series: dict[str, dict[bytes, Rows]] = {"default": {}}
        self.work: dict[str, Work] = {"default": Work()}

    def copy(self) -> "Model":
        twin = Model()
        twin.index = self.index
        twin.spaces = {name: dict(keys) for name, keys in self.spaces.items()}
        twin.series = {name: dict(series) for name, series in self.series.items()}
        twin.work = {name: work.copy() for name, work in self.work.items()}
        return twin

    def after(self, op: Op, now: int) -> "Model":
        """The model after one more operation."""
        twin = self.copy()
        getattr(twin, "do_" + op[0])(now, *op[1:])
        return twin

    def live(self, space: str, key: bytes, now: int) -> Found | None:
        """What a look at the key shows; an expired one is buried by it."""
        found = self.spaces[space].get(key)
        if found is not None and 0 < found.deadline <= now:
            self.index += 1
            del self.spaces[space][key]
            return None
        return found

    def _write(self, space: str, key: bytes, value: bytes, kind: int, deadline: int, now: int) -> None:
        self.live(space, key, now)
        self.index += 1
        self.spaces[space][key] = Found(value, self.index, kind, deadline, self.index)

    def do_put(self, now: int, space: str, key: bytes, value: bytes, deadline: int = 0) -> None:
        self._write(space, key, value, STRING, deadline, now)

    def do_put_many(self, now: int, space: str, items: Sequence[tuple[bytes, bytes, int]]) -> None:
        for key, value, deadline in items:
            self._write(space, key, value, STRING, deadline, now)

    def do_incr(self, now: int, space: str, key: bytes, delta: int) -> None:
        found = self.live(space, key, now)
        value = (int(found.value) if found else 0) + delta
        self._write(space, key, b"%d" % value, COUNTER, found.deadline if found else 0, now)

    def do_json_set(self, now: int, space: str, key: bytes, text: bytes) -> None:
        found = self.live(space, key, now)
        self._write(space, key, text, JSON, found.deadline if found else 0, now)

    def do_touch(self, now: int, space: str, key: bytes, deadline: int) -> None:
        found = self.live(space, key, now)
        assert found is not None
        self.index += 1
        self.spaces[space][key] = found._replace(version=self.index, deadline=deadline)

    def do_delete(self, now: int, space: str, key: bytes) -> None:
        assert self.live(space, key, now) is not None
        self.index += 1
        del self.spaces[space][key]

    def do_delete_many(self, now: int, space: str, keys: Sequence[bytes]) -> None:
        for key in keys:
            if self.live(space, key, now) is not None:
                self.do_delete(now, space, key)

    def do_get(self, now: int, space: str, key: bytes) -> None:
        self.live(space, key, now)

    def do_history(self, now: int, space: str, key: bytes) -> None:
        assert space in self.spaces

    def do_compact(self, now: int, _part: str = "") -> None:
        """Nothing that anybody can see."""

    def do_sweep(self, now: int, only: str = "") -> None:
        """A key is swept when the whole second of its deadline has passed. `only` one part: the other had no room."""
        for keys in self.spaces.values() if only != "work" else ():
            for key in [key for key, found in keys.items() if found.deadline and (found.deadline // 1000 + 1) * 1000 <= now]:
                self.index += 1
                del keys[key]
        for work in self.work.values() if only != "keys" else ():
            work.sweep(now, self.index + 1)
            self.index += work.records

    do_upkeep = do_sweep

    def do_create(self, now: int, name: str) -> None:
        self.index += name not in self.spaces
        self.spaces.setdefault(name, {})
        self.series.setdefault(name, {})
        self.work.setdefault(name, Work())

    def do_drop(self, now: int, name: str) -> None:
        assert not self.spaces[name] and not self.series[name] and not self.work[name].runs
        self.index += 2
        del self.spaces[name], self.series[name], self.work[name]

    def do_flush(self, now: int, names: Sequence[str]) -> None:
        for name in names:
            assert name in self.spaces
            self.index += 1
            self.spaces[name], self.series[name], self.work[name] = {}, {}, Work()

    def do_points(self, now: int, space: str, names: Sequence[bytes], times: Sequence[int]) -> None:
        for name in names:
            rows = self.series[space].get(name)
            self.index += rows is None
            rows = rows or Rows({})
            self.series[space][name] = Rows(rows.points | points_at(now, times), rows.chunks, (*rows.open, *times))
        self.index += 1

    def do_seal(self, now: int, space: str) -> None:
        for name, rows in self.series[space].items():
            if rows.open:
                start, end = min(rows.open), max(rows.open)
                late = [chunk for chunk in rows.chunks if chunk[1] >= start and chunk[0] <= end]
                assert late == [*rows.chunks[len(rows.chunks) - len(late) :]]
                kept = rows.chunks[: len(rows.chunks) - len(late)]
                times = [time for chunk in [*late, (start, end)] for time in chunk]
                self.series[space][name] = Rows(rows.points, (*kept, (min(times), max(times))))
                self.index += max(len(late), 1)
        self.index += 1

    def do_work(self, now: int, space: str, *steps: str) -> None:
        for step in steps:
            self.work[space].step(step, now, self.index + 1)
            self.index += self.work[space].records

    def do_forget(self, now: int, space: str, measurement: bytes) -> None:
        forgotten = [name for name in self.series[space] if name.startswith(measurement)]
        for name in forgotten:
            self.index += 1 + len(self.series[space].pop(name).chunks)
        self.index += bool(forgotten)  # the watermark: nobody's points are open


def points_at(now: int, times: Sequence[int]) -> Points:
    """What an operation at `now` writes: no other writes such values."""
    return {time: (now - START + at) / 8 for at, time in enumerate(times)}


def perform(engine: Engine, op: Op) -> Any:
    """The same operation on the engine."""
    name, args = op[0], op[1:]
    if name == "create":
        return engine.create_namespace(args[0])
    if name == "drop":
        return engine.delete_namespace(args[0])
    if name == "flush":
        return engine.flush([engine.namespace(space) for space in args[0]])
    if name == "sweep":
        return engine.run(engine.sweep)
    if name == "upkeep":
        return engine.run(engine.upkeep, idle=True)
    if name == "compact":
        return engine.compact(tail="tail" in args)
    if name in ("points", "seal", "forget"):
        with engine.batch():
            return perform_series(engine, name, *args)
    if name == "work":
        with engine.batch():
            for step in args[1:]:
                do_step(engine.namespace(args[0]).actions, step)
        return None
    kv = engine.namespace(args[0]).kv
    if name == "put":
        return kv.put(args[1], args[2], deadline=args[3] if len(args) > 3 else 0)
    if name == "json_set":
        return kv.json_set(args[1], args[2])
    return getattr(kv, name)(*args[1:])


def perform_series(engine: Engine, name: str, space: str, *args: Any) -> Any:
    """The same operation on the engine's series."""
    part = engine.namespace(space).ts
    if name == "points":
        return write(part, dict.fromkeys(args[0], points_at(engine.now, args[1])))
    if name == "forget":
        return run_job(part.delete_job(args[0].decode(), {}))
    return seal_all(engine, part)


def held(engine: Engine) -> Snapshot:
    """What the engine holds, to be compared with `expected`."""
    return (
        engine.log.next_index - 1,
        {
            name: {key: found for shard in space.kv.store.shards for key in shard if (found := space.kv.store.find(key))}
            for name, space in engine.namespaces.items()
        },
        {name: {key: read(space.ts, key) for key in space.ts.store.by_key} for name, space in engine.namespaces.items()},
        {name: held_work(space.actions) for name, space in engine.namespaces.items()},
    )


def expected(model: Model) -> Snapshot:
    series = {name: {key: rows.points for key, rows in found.items()} for name, found in model.series.items()}
    return model.index, model.spaces, series, {name: work.shown() for name, work in model.work.items()}


# -- lives -----------------------------------------------------------------------------------------


class Clock:
    """A wall clock that only the test moves."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def open_engine(files: Files, clock: Clock | None = None, durability: str = SYNC, segment_bytes: int = SEGMENT_BYTES) -> Engine:
    return Engine(DIR, EngineSettings(durability=durability, segment_bytes=segment_bytes), clock=clock or Clock(), files=files)


@dataclass
class Life:
    """One process: what its clients know when it ended."""

    acknowledged: list[Model]  # after each operation, the one it started with first
    in_flight: Model | None = None
    error: BaseException | None = None
    opened: bool = False
    durable: int = 0  # the highest index that the log knew to be synced

    @property
    def allowed(self) -> list[Model]:
        """The states that recovery may find in `sync`: the last acknowledged, or that and what was in flight."""
        return [self.acknowledged[-1]] + ([self.in_flight] if self.in_flight else [])


def live(files: SimFiles, ops: Sequence[Op], start: Model | None = None, at: int = 0, durability: str = SYNC, close: bool = True) -> Life:
    """Open, do the operations, close. Ends early at a crash or a failure. `at` is how many operations came before, ever."""
    life = Life([start or Model()])
    clock = Clock(START + at * STEP)
    engine: Engine | None = None
    try:
        engine = open_engine(files, clock, durability)
        life.opened = True
        for op in ops:
            clock.now += STEP
            life.in_flight = life.acknowledged[-1].after(op, clock.now)
            perform(engine, op)
            life.acknowledged.append(life.in_flight)
            life.in_flight = None
        life.durable = engine.log.durable
        if close:
            closing, engine = engine, None  # one that failed while closing is closed
            closing.close()
    except SimCrash as e:
        life.error = e
    except (FloError, OSError) as e:
        life.error = e
        if engine is not None:
            engine.close()
    if engine is not None:
        life.durable = engine.log.durable
    return life


def must_hold(engine: Engine, allowed: Sequence[Model], context: str) -> Model:
    """The one of the models that the engine's state equals."""
    state = held(engine)
    for model in allowed:
        if expected(model) == state:
            must_read(engine, context)
            return model
    raise AssertionError(
        f"{context}: the state after recovery ends at index {state[0]}, allowed are {[model.index for model in allowed]}"
        if state[0] not in [model.index for model in allowed]
        else f"{context}: the state at index {state[0]} is not what was written"
    )


def must_read(engine: Engine, context: str) -> None:
    """What the stores say lies at an index does lie there: offsets and footers are right."""
    for space in engine.namespaces.values():
        for key, found in ((key, found) for shard in space.kv.store.shards for key in shard if (found := space.kv.store.find(key))):
            last, holder = engine.log.read(found.version), engine.log.read(found.holder)
            assert last is not None and last.entity == key and holder is not None, f"{context}: index {found.version} is not {key!r}"
            assert holder.entity == key and holder.state.endswith(found.value), f"{context}: index {found.holder} is not {key!r}"


def reopen(
    files: Files, allowed: Sequence[Model], context: str, clock: Clock | None = None, durability: str = SYNC
) -> tuple[Engine, Model]:
    """Open after a crash; what is found must be one of `allowed`."""
    try:
        engine = open_engine(files, clock, durability)
    except (FloError, OSError, ValueError, KeyError, AssertionError) as e:
        raise AssertionError(f"{context}: the directory does not open: {e!r}") from e
    return engine, must_hold(engine, allowed, context)


AFTERLIFE: list[Op] = [
    ("put", "default", b"after", b"life" * 10),
    ("put", "default", b"after-large", b"L" * (SEGMENT_BYTES - 6000)),  # most of a segment: a roll, sooner or later
    ("put", "default", b"after-large-2", b"M" * (SEGMENT_BYTES - 6000)),
    ("incr", "default", b"after-count", 3),
]
LATER = 10_000  # operations that an afterlife's clock is ahead


def check_whole(files: Files, context: str) -> None:
    damage = check(DIR, files).damage
    assert damage == [], f"{context}: flo check says {damage}"


def survive(image: SimFiles, allowed: Sequence[Model], context: str, rng: Random, durability: str = SYNC) -> None:
    """All that must hold of a disk after a crash: it opens with an allowed state; what was shown then stays, whatever happens
    next; and so does what is written and acknowledged from there on."""
    clock = Clock(START + LATER * STEP)
    engine, model = reopen(image, allowed, context, clock, durability)
    shown = [model]
    again = image.crash(rng, rng.choice(("lose", "reorder")))
    second, _ = reopen(again, shown, context + ", a power cut right after recovery", clock)
    second.close()
    check_whole(again, context)
    if durability == SYNC:
        for op in AFTERLIFE:
            clock.now += STEP
            perform(engine, op)
            shown = [shown[0].after(op, clock.now)]
            if rng.random() < 0.25:  # not at the end only: a roll syncs what was not
                break
        last = image.crash(rng, "lose")
        third, _ = reopen(last, shown, context + ", later writes, a power cut", clock)
        third.close()
        check_whole(last, context)


# -- the workload ----------------------------------------------------------------------------------


def workload() -> list[Op]:
    """Every kind of operation, with several rolls: values are large for segments of 16 KiB."""
    far = START + 10 * LATER * STEP
    ops: list[Op] = [
        ("put", "default", b"a", b"1"),
        ("create", "other"),
        ("work", "default", "register", "worker", "invoke", "schedule", "invoke", "invoke"),
        ("put_many", "default", [(b"m%d" % i, b"v" * (i * 97), far if i % 3 == 0 else 0) for i in range(12)]),
        ("work", "default", "take", "touch", "take", "fail"),
        ("incr", "default", b"count", 5),
        ("put", "other", b"doomed", b"soon gone", START + 9 * STEP),
        ("touch", "default", b"a", far),
        ("json_set", "default", b"doc", b'{"a":[1,2,3]}'),
        ("put", "other", b"big", b"B" * 5000),
        ("delete", "default", b"m3"),
        ("incr", "default", b"count", -7),
        ("get", "other", b"doomed"),  # expired: that buries it
        ("history", "default", b"count"),
        ("work", "default", "take", "complete", "cancel"),
        ("work", "other", "register", "worker", "invoke", "take", "schedule"),
        ("put", "other", b"doomed", b"again"),
        ("put", "default", b"b", b"x" * 3000),
        ("touch", "default", b"a", 0),
        ("upkeep",),
        ("put_many", "other", [(b"n%d" % i, bytes([i]) * 800, 0) for i in range(10)]),  # a roll in the middle of the room
        ("points", "default", [b"cpu,host=a v", b"mem v"], range(0, 900, 9)),
        ("seal", "default"),
        ("points", "default", [b"cpu,host=a v", b"cpu,host=b v"], range(600, 1500, 7)),  # of the chunk's time, too
        ("delete_many", "other", [b"n1", b"n2", b"missing", b"n9"]),
        ("put", "default", b"short", b"-", START + 21 * STEP),
        ("put", "default", b"huge", b"H" * 20_000),  # more than a segment: the spare must grow
        ("json_set", "default", b"doc", b'{"a":"' + b"j" * 2500 + b'"}'),
        ("sweep",),  # a time of the schedule, too
        ("work", "default", "cancel", "unschedule", "complete", "unregister", "drain"),
        ("sweep",),
        ("seal", "default"),
        ("forget", "default", b"mem"),
        ("history", "default", b"doc"),
        ("flush", ["other"]),
        ("drop", "other"),
        ("create", "third"),
        ("put", "third", b"a", b"3" * 4000),
        ("incr", "third", b"count", 1 << 40),
        ("put", "default", b"a", b"4" * 4000),
        ("flush", ["default", "third"]),
        ("put", "default", b"last", b"z" * 511),
        ("put", "third", b"last", b"z" * 512),
        ("delete", "third", b"last"),
    ]
    return ops


OPS = workload()


def sim(plan: Plan | None = None) -> SimFiles:
    """An empty disk with the parent of the data directory."""
    return SimFiles(plan)


def whole_life(factory: Factory = sim, durability: str = SYNC, close: bool = True) -> tuple[SimFiles, Life]:
    """The workload without any fault."""
    files = factory(None)
    life = live(files, OPS, durability=durability, close=close)
    assert life.error is None, life.error
    return files, life


# -- (i) crashes -----------------------------------------------------------------------------------


def crash_suite(factory: Factory = sim, ops: Sequence[Op] = tuple(OPS), stride: int = 1, seeds: int = 3, first: int = 1) -> int:
    """Crash at every `stride`-th of the crash points from the `first` call and survive it in every mode. Returns how many crashes there
    were. Raises AssertionError."""
    total = factory(None)
    life = live(total, ops)
    assert life.error is None, life.error
    crashes = 0
    for at in crash_points(total.trace, first, stride):
        for how in (BEFORE, TORN) if total.trace[at - 1].startswith("pwrite") else (BEFORE,):
            files = factory(Plan(crash_at=at, how=how, seed=at))
            life = live(files, ops)
            assert isinstance(life.error, SimCrash)
            for mode in MODES:
                for seed in range(seeds if mode == "reorder" else 1):
                    rng = Random(at * 1000 + seed)
                    context = f"crash {how} call {at} ({total.trace[at - 1]}), {mode}, seed {seed}"
                    survive(files.crash(rng, mode), life.allowed, context, rng)
                    crashes += 1
    return crashes


def test_the_model_agrees_and_the_workload_rolls() -> None:
    """Without a fault: the state equals the model, after a restart as well, and the workload is worth crashing."""
    files, life = whole_life()
    names = [name for name in files.names(DIR) if name.endswith(".seg") and name != "spare.seg"]
    assert len(names) >= 5
    for call in ("create", "rename", "truncate", "sync_dir", "remove", "reserve"):
        assert files.counts[call] or call == "remove"
    engine, _ = reopen(files, life.allowed, "no fault")
    engine.close()
    check_whole(files, "no fault")
    assert files.open_files == []


def test_a_crash_at_every_call(long_run: bool) -> None:
    """Open, every operation, rolls, seals, close: whatever call is the last, what was acknowledged survives it."""
    assert crash_suite(stride=1 if long_run else 3, seeds=20 if long_run else 1) > 300


HUGE: Op = ("put", "default", b"huge", b"H" * 40_000)


def test_a_first_write_larger_than_the_segment(long_run: bool) -> None:
    """A roll from a segment without records: the next one begins at the same index, so it has the same name."""
    ops = [HUGE, ("put", "default", b"a", b"1"), ("put", "default", b"larger", b"H" * 70_000), ("delete", "default", b"huge")]
    assert crash_suite(ops=ops, stride=1 if long_run else 2, seeds=20 if long_run else 2) > 50
    durable = sim()
    with open_engine(durable) as engine:
        perform(engine, HUGE)
    model = Model().after(HUGE, START)
    engine, _ = reopen(durable, [model], "a first write larger than the segment")
    entries = manifest.read(durable, DIR).entries
    assert len({entry.first for entry in entries}) == len(entries)
    engine.close()


@pytest.mark.parametrize("durability", [SYNC, ASYNC])
def test_a_first_large_write_keeps_the_stamps(monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    """The segment that such a roll leaves may hold stamps: the time they put on disk stays there, at whatever call it ends."""
    monkeypatch.setattr(log_module, "_Syncer", StepSyncer)
    late = START + 1000 * STEP
    after = Model().after(HUGE, START)
    base = sim()
    engine = open_engine(base, durability=durability)
    engine.log.commit(late)
    engine.close()
    probe = base.crash(Random(0), "keep")
    assert live(probe, [HUGE], durability=durability).error is None
    for at in crash_points(probe.trace):
        files = base.crash(Random(0), "keep", Plan(crash_at=at))
        live(files, [HUGE], durability=durability)
        for mode in MODES:
            engine, _ = reopen(files.crash(Random(at), mode), [Model(), after], f"crash at call {at} ({probe.trace[at - 1]}), {mode}")
            assert engine.stamp_time >= late, f"crash at call {at} ({probe.trace[at - 1]}), {mode}: the clock went back"


def recovery_suite(ops: Sequence[Op], stride: int) -> int:
    """Crash at every `stride`-th of the crash points, and again while recovery repairs what the first left. Returns how many crashes there
    were."""
    total = sim()
    live(total, ops)
    tried = 0
    for at in crash_points(total.trace, stride=stride):
        files = sim(Plan(crash_at=at, how=TORN, seed=at))
        life = live(files, ops)
        for mode in ("keep", "reorder"):
            rng = Random(at)
            image = files.crash(rng, mode)
            probe = image.crash(rng, "keep")
            open_engine(probe)
            for call in crash_points(probe.trace):
                name = probe.trace[call - 1]
                second = image.crash(rng, "keep", Plan(crash_at=call, how=rng.choice((BEFORE, TORN)), seed=call))
                with pytest.raises(SimCrash):
                    open_engine(second)
                context = f"crash at call {at} ({total.trace[at - 1]}), {mode}, then at call {call} of recovery ({name})"
                for again in ("keep", "reorder"):
                    survive(second.crash(rng, again), life.allowed, f"{context}, {again}", rng)
                    tried += 1
    return tried


def test_a_crash_at_every_call_of_recovery(long_run: bool) -> None:
    """Crashes while recovery works."""
    assert recovery_suite(OPS, 1 if long_run else 131) > 20


# -- (ii) async ------------------------------------------------------------------------------------


class StepSyncer:
    """The helper thread of `async`, without the thread: it syncs at every `every`-th note, 0 for never."""

    every = 0

    def __init__(self, files: Files) -> None:
        self._files = files
        self._notes = 0
        self._synced = 0

    def note(self, fd: int, index: int) -> int:
        self._notes += 1
        if self.every and self._notes % self.every == 0:
            self._files.sync(fd)
            self._synced = index
        return self._synced

    def finish(self) -> None:
        pass

    def stop(self) -> None:
        pass


def async_suite(factory: Factory = sim, stride: int = 1, seeds: int = 3) -> None:
    """In `async`, a crash leaves a prefix of what was acknowledged, not shorter than what was known durable; kill -9 takes nothing."""
    total, _ = whole_life(factory, ASYNC)
    for at in crash_points(total.trace, stride=stride):
        files = factory(Plan(crash_at=at, how=TORN, seed=at))
        life = live(files, OPS, durability=ASYNC)
        everything = life.acknowledged + ([life.in_flight] if life.in_flight else [])
        prefixes = [model for model in everything if model.index >= life.durable]
        for mode in MODES:
            for seed in range(seeds if mode == "reorder" else 1):
                rng = Random(at * 1000 + seed)
                context = f"async, crash at call {at} ({total.trace[at - 1]}), {mode}, seed {seed}"
                survive(files.crash(rng, mode), life.allowed if mode == "keep" else prefixes, context, rng, ASYNC)


@pytest.mark.parametrize("every", [0, 5, pytest.param(1, marks=pytest.mark.long)])
def test_async_loses_only_the_end(monkeypatch: pytest.MonkeyPatch, every: int, long_run: bool) -> None:
    """Never synced, synced at once, synced now and then."""
    monkeypatch.setattr(StepSyncer, "every", every)
    monkeypatch.setattr(log_module, "_Syncer", StepSyncer)
    async_suite(stride=1 if long_run else 7, seeds=3 if long_run else 1)


def test_async_with_its_thread() -> None:
    """The real helper thread syncs within its time, and a power cut then takes nothing."""
    files = sim()
    engine = open_engine(files, durability=ASYNC)
    model = Model().after(("put", "default", b"a", b"1"), START)
    engine.kv.put(b"a", b"1")
    deadline = time.monotonic() + 10
    while files.entries[f"{DIR}/{file_name(1)}"].dirty:
        assert time.monotonic() < deadline, "nobody synced"
        time.sleep(0.005)
    again, _ = reopen(files.crash(Random(0), "lose"), [model], "async")
    again.close()
    engine.close()


# -- ephemeral -------------------------------------------------------------------------------------


def test_ephemeral_is_empty_after_any_crash() -> None:
    """Whatever call is the last, in the first run or the second, the directory starts again, empty."""
    first = sim()
    live(first, OPS, durability=EPHEMERAL, close=False)
    killed = first.crash(Random(0), "keep")
    for image, name in ((sim(), "new"), (killed, "killed"), (killed.crash(Random(0), "lose"), "lost")):
        probe = image.crash(Random(0), "keep")
        live(probe, OPS[:3], durability=EPHEMERAL)
        for at in crash_points(probe.trace):
            files = image.crash(Random(0), "keep", Plan(crash_at=at))
            assert isinstance(live(files, OPS[:3], durability=EPHEMERAL).error, SimCrash)
            for mode in MODES:
                for seed in range(8 if mode == "reorder" else 1):
                    context = f"ephemeral, {name}, crash at call {at} ({probe.trace[at - 1]}), {mode}, seed {seed}"
                    left = files.crash(Random(seed), mode)
                    engine, _ = reopen(left, [Model()], context, durability=EPHEMERAL)
                    engine.close()


# -- (iii) failing calls ---------------------------------------------------------------------------

FAILING = ("create", "open", "pread", "pwrite", "sync", "sync_dir", "reserve", "truncate", "rename", "remove", "names", "size")


def test_a_failing_call_ends_the_engine_and_loses_nothing(long_run: bool) -> None:
    """EIO at every call (every third in the short run): `LogFailed` (or the open is refused), the engine does nothing more, and what was
    acknowledged is there when the directory is opened again, in the same process or after a power cut."""
    total, _ = whole_life()
    for name in FAILING:
        for n in range(1, total.counts[name] + 1, 1 if long_run else 3):
            context = f"EIO at {name} {n}"
            files = sim(Plan(fail={(name, n): errno.EIO}))
            life = live(files, OPS)
            assert life.error is not None, f"{context}: nobody noticed"
            if life.opened:
                wanted = (LogFailed, LogDamaged, Damaged) if name == "pread" else LogFailed
                assert isinstance(life.error, wanted), f"{context}: {life.error!r}"
            rng = Random(n)
            dead = files.crash(rng, "keep")
            survive(files.crash(rng, "lose"), life.allowed, context + ", power cut", rng)
            survive(dead, life.allowed, context + ", process ended", rng)


def test_a_broken_engine_refuses_everything() -> None:
    """After a failed sync the engine neither writes nor reads; closing it writes nothing."""
    files = sim()
    engine = open_engine(files)
    engine.kv.put(b"a", b"1")
    files.plan.fail = {("sync", files.counts["sync"] + 1): errno.EIO}
    with pytest.raises(LogFailed):
        engine.kv.put(b"a", b"2")
    before = files.calls
    for operation in (lambda: engine.kv.get(b"a"), lambda: engine.kv.put(b"b", b""), lambda: engine.create_namespace("n")):
        with pytest.raises(LogFailed):
            operation()
    assert files.calls == before
    engine.close()
    assert not [call for call in files.trace[before:] if not call.startswith("close")]
    assert files.open_files == []


def broken_images() -> Iterator[tuple[str, SimFiles, Life]]:
    """Directories that recovery has work with: a torn tail, a missing footer, an unlisted segment."""
    total, _ = whole_life()
    for at, name in enumerate(total.trace, 1):
        if name.startswith(("truncate", "rename")) or (name.startswith("sync ") and at % 7 == 0):
            files = sim(Plan(crash_at=at))
            life = live(files, OPS)
            yield f"crash at call {at} ({name})", files.crash(Random(at), "keep"), life


def test_a_failing_call_of_recovery(long_run: bool) -> None:
    """EIO at every call of recovery: the open is refused, and the next one recovers everything."""
    for context, image, life in itertools.islice(broken_images(), 0, None, 1 if long_run else 12):
        probe = image.crash(Random(0), "keep")
        open_engine(probe)
        for name in FAILING:
            for n in range(1, probe.counts[name] + 1):
                files = image.crash(Random(0), "keep", Plan(fail={(name, n): errno.EIO}))
                with pytest.raises((FloError, OSError)):
                    open_engine(files)
                rng = Random(n)
                survive(files.crash(rng, rng.choice(MODES)), life.allowed, f"{context}, EIO at {name} {n} of recovery", rng)


def test_a_refused_open_leaves_nothing_open() -> None:
    """When an open fails, its descriptors are closed and its lock is free: the same process may try again."""
    for context, image, life in [("new directory", sim(), Life([Model()])), *itertools.islice(broken_images(), 6)]:
        probe = image.crash(Random(0), "keep")
        open_engine(probe)
        for name in FAILING:
            for n in range(1, probe.counts[name] + 1):
                files = image.crash(Random(0), "keep", Plan(fail={(name, n): errno.EIO}))
                with pytest.raises((FloError, OSError)):
                    open_engine(files)
                assert files.open_files == [], f"{context}, EIO at {name} {n} of the open"
                reopen(files, life.allowed, f"{context}, EIO at {name} {n} of the open, tried again")[0].close()


def test_a_failed_sync_may_have_forgotten_its_pages() -> None:
    """Linux drops the dirty mark of pages whose write-back failed: the cache shows bytes that the disk does not have, and a
    next sync says all is well. A restart after a failed sync must not show and build on such bytes."""
    total, _ = whole_life()
    for n in range(1, total.counts["sync"] + 1):
        files = sim(Plan(fail={("sync", n): errno.EIO}, failed_sync_forgets=True))
        life = live(files, OPS)
        assert life.error is not None
        rng = Random(n)
        survive(files.crash(rng, "keep"), life.allowed, f"sync {n} failed and forgot its pages", rng)


# -- (iv) the full disk ----------------------------------------------------------------------------


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is asked again at every operation."""
    monkeypatch.setattr(log_module, "RESERVE_RETRY_SECONDS", 0.0)


def doable(model: Model, op: Op, now: int) -> Model | None:
    """The model after `op`; None where an earlier refusal took away what it needs."""
    try:
        return model.after(op, now)
    except (KeyError, AssertionError):
        return None


def singly(op: Op) -> list[Op]:
    """What of an operation may be refused by itself."""
    return [("work", op[1], step) for step in op[2:]] if op[0] == "work" else [op]


def fill(files: SimFiles, ops: Sequence[Op], context: str) -> tuple[Engine, Model, int]:
    """Do what is not refused; every refusal is `Overloaded` and changes nothing. (engine, model, how many refusals)."""
    clock, model, refused = Clock(), Model(), 0
    engine = open_engine(files, clock)
    for many in ops:
        clock.now += STEP
        for op in singly(many):
            after = doable(model, op, clock.now)
            if after is None:
                continue
            try:
                perform(engine, op)
                possible = [after]
                if op[0] in ("sweep", "upkeep"):  # each part waits where there is no room
                    possible += [model.after(("sweep", "keys"), clock.now), model.after(("sweep", "work"), clock.now), model]
                model = next((each for each in possible if expected(each) == held(engine)), after)
            except Overloaded:
                refused += 1
            except OSError as e:
                assert op[0] == "compact" and e.errno == errno.ENOSPC, f"{context}: {op[0]} failed: {e}"
                refused += 1
            except LogFailed as e:
                raise AssertionError(f"{context}: {op[0]} was accepted and then failed: {e}") from e
            assert held(engine) == expected(model), f"{context}: {op[0]}"
    return engine, model, refused


def test_a_full_disk_refuses_adds_only(no_wait: None) -> None:
    """Reads and deletions go on, adds are refused, and with room again they are accepted by the same process."""
    files = sim()
    engine = open_engine(files)
    for i in range(6):
        engine.kv.put(b"k%d" % i, b"v" * 2000)
    files.capacity = files.used + 1000  # the spare is there; the one after it will not be
    accepted = 6
    with pytest.raises(Overloaded):
        while True:
            engine.kv.put(b"k%d" % accepted, b"v" * 2000)
            accepted += 1
    assert accepted > 6, "the reserved segment was usable"
    index = engine.log.next_index
    for add in (lambda: engine.kv.put(b"a", b""), lambda: engine.kv.incr(b"a"), lambda: engine.kv.touch(b"k1", START * 2)):
        with pytest.raises(Overloaded):
            add()
    with pytest.raises(Overloaded):
        engine.create_namespace("more")
    assert engine.log.next_index == index
    found = engine.kv.get(b"k0")
    assert found is not None and found.value == b"v" * 2000
    engine.kv.delete(b"k0")
    assert engine.kv.delete_many([b"k1", b"k2"]) == 2
    survivor = open_engine(files.crash(Random(0), "lose"))
    assert survivor.kv.get(b"k0") is None and survivor.kv.get(b"k3") == engine.kv.get(b"k3")
    files.capacity = None
    engine.kv.put(b"a", b"now")
    engine.kv.put(b"b", b"B" * 20_000)
    state = held(engine)
    engine.close()
    again = open_engine(files)
    assert held(again) == state
    again.close()


def test_every_size_of_a_full_disk(no_wait: None, long_run: bool) -> None:
    """From the smallest disk that a directory can be made on, by small steps: no write that was accepted fails for want of room,
    nothing acknowledged is lost over a restart, and with room the same process goes on."""
    least = SEGMENT_BYTES + 1000
    refusals = 0
    for capacity in range(least, least + 6 * SEGMENT_BYTES, 61 if long_run else 1597):
        context = f"a disk of {capacity} bytes"
        files = SimFiles(capacity=capacity)
        engine, model, refused = fill(files, OPS, context)
        refusals += refused
        rng = Random(capacity)
        for mode in ("lose", "reorder"):  # the full disk itself must be recoverable from
            reopen(files.crash(rng, mode), [model], f"{context}, {mode}, restarted while full")
        files.capacity = None
        model = model.after(("put", "default", b"room", b"again"), engine.now)
        engine.kv.put(b"room", b"again")
        survive(files.crash(rng, "lose"), [model], context, rng)
        engine.close()
        check_whole(files, context)
    assert refusals > 100


def test_a_disk_too_small_for_a_directory() -> None:
    """A first start on a full disk is refused; with room it works."""
    for capacity in (0, 1, 5000, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 100):
        files = SimFiles(capacity=capacity)
        with pytest.raises((FloError, OSError)):
            open_engine(files)
        files.capacity = None
        engine, _ = reopen(files, [Model()], f"a disk of {capacity} bytes, grown")
        engine.close()


def test_a_manifest_needs_room_too(no_wait: None) -> None:
    """The spare is reserved and the rest of the disk is taken by somebody else: the roll, which writes a manifest, is part of
    what an accepted write was promised."""
    for free in (0, 1, 100, 200, 400):
        files = sim()
        engine = open_engine(files)
        files.capacity = files.used + free
        try:
            for i in itertools.count():
                engine.kv.put(b"k%d" % i, b"v" * 2000)
        except Overloaded:
            pass
        except LogFailed as e:
            raise AssertionError(f"{free} bytes free: a put was accepted and then failed: {e}") from e
        engine.close()


def test_flush_of_many_namespaces_on_a_full_disk(no_wait: None) -> None:
    """What `admit` is asked for is what `commit` needs: a flush either fits or is refused."""
    spaces = [f"n{i}" for i in range(60)]
    for pad in range(0, 600, 20):
        files = sim()
        engine = open_engine(files)
        for space in spaces:
            engine.create_namespace(space)
        engine.kv.put(b"pad", b"p" * (engine.log._open.room - 60 * 36 - 48 - 32 - 48 - 8 - 600 + pad))
        engine.close()
        files.capacity = SEGMENT_BYTES + 100  # no room for a spare
        engine = open_engine(files)
        model_index = engine.log.next_index
        try:
            engine.flush([engine.namespace(space) for space in spaces])
            assert engine.log.next_index == model_index + len(spaces)
        except Overloaded:
            assert engine.log.next_index == model_index
        except LogFailed as e:
            raise AssertionError(f"pad {pad}: a flush was accepted and then failed: {e}") from e
        engine.close()


# -- (v) flipped bits ------------------------------------------------------------------------------


def batches_of(files: SimFiles, name: str) -> list[tuple[int, int, int]]:
    """(offset, end, records) of every batch of a segment."""
    first = int(name.removesuffix(".seg"))
    segment = Segment.load(files, f"{DIR}/{name}", first, writable=False)
    found = [(at - batch.HEADER_BYTES, at + header.length, header.records) for header, at, _ in segment.batches()]
    segment.close()
    return found


def contents(files: SimFiles) -> dict[str, bytes]:
    return {path: bytes(inode.data) for path, inode in files.entries.items()}


def flipped(image: SimFiles, name: str, offset: int, right: Sequence[Model]) -> bool:
    """Flip a bit, open: True if it opened with one of the `right` states, False if it was refused as it must be."""
    context = f"{name}, byte {offset} flipped"
    files = image.crash(Random(0), "keep")
    files.flip(f"{DIR}/{name}", offset, bit=offset * 5 % 8)
    before = contents(files)
    damage = check(DIR, files).damage
    try:
        engine = open_engine(files)
    except LogDamaged as e:
        assert name in str(e), f"{context}: the message does not name the file: {e}"
        assert contents(files) == before, f"{context}: refused, and yet something was changed"
        assert damage, f"{context}: refused, and flo check sees nothing"
        return False
    assert not damage, f"{context}: opened, and flo check says {damage}"
    must_hold(engine, right, context)
    engine.close()
    check_whole(files, context)
    reopen(files, right, context + ", opened again")[0].close()
    return True


def segment_names(files: SimFiles) -> list[str]:
    return [entry.file for entry in manifest.read(files, DIR).entries]


def some(start: int, end: int, step: int) -> list[int]:
    """Offsets from start to end, both edges thick."""
    return sorted({*range(start, end, step), *range(start, min(start + 4, end)), *range(max(start, end - 4), end)})


def test_flips_in_sealed_segments(long_run: bool) -> None:
    """A sealed segment whose header or batches are damaged is refused; a damaged footer is made again."""
    image, life = whole_life()
    sealed = segment_names(image)[:-1]
    assert len(sealed) >= 4
    for name in sealed:
        size = len(image.content(f"{DIR}/{name}"))
        spans = batches_of(image, name)
        end = max(end for _, end, _ in spans)
        for offset in range(44):
            assert not flipped(image, name, offset, life.allowed), f"{name}: byte {offset} of the header"
        for offset in (44, 45, 2000, HEADER_BYTES - 1):
            assert flipped(image, name, offset, life.allowed), f"{name}: byte {offset}, which nobody reads"
        for start, stop, records in spans:
            for offset in some(start, stop, 7 if long_run else 631):
                opened = flipped(image, name, offset, life.allowed)
                assert not opened or (records == 0 and stop == end), f"{name}: byte {offset} of a sealed batch"
        for offset in some(end, size, 1 if long_run else 17):
            assert flipped(image, name, offset, life.allowed), f"{name}: byte {offset} of the footer"


def test_flips_in_the_open_segment(long_run: bool) -> None:
    """After a clean stop every batch is declared durable by the last, empty one: a flip in any other is refused."""
    image, life = whole_life()
    name = segment_names(image)[-1]
    spans = batches_of(image, name)
    assert len(spans) >= 3 and spans[-1][2] == 0
    for offset in range(44):
        assert not flipped(image, name, offset, life.allowed)
    for start, stop, _ in spans[:-1]:
        for offset in some(start, stop, 1 if long_run else 37):
            assert not flipped(image, name, offset, life.allowed), f"byte {offset} of a batch that a later one declares durable"
    for offset in some(spans[-1][0], spans[-1][1] + 100, 1):
        assert flipped(image, name, offset, life.allowed), f"byte {offset}, in or behind the last batch"
    for offset in some(spans[-1][1], SEGMENT_BYTES, 499):
        assert flipped(image, name, offset, life.allowed), f"byte {offset} of the zeros"


def test_flips_after_a_crash(long_run: bool) -> None:
    """Without the closing batch, the last batch alone cannot be told from a torn tail; every other can."""
    files, life = whole_life(close=False)
    image = files.crash(Random(0), "lose")
    name = segment_names(image)[-1]
    spans = batches_of(image, name)
    for start, stop, _ in spans[:-1]:
        for offset in some(start, stop, 1 if long_run else 37):
            assert not flipped(image, name, offset, life.allowed), f"byte {offset} of a batch that a later one declares durable"
    for offset in some(spans[-1][0], spans[-1][1], 1):
        assert flipped(image, name, offset, [life.acknowledged[-2]]), f"byte {offset} of the last batch"


@pytest.mark.parametrize("durability", (SYNC, ASYNC))
def test_flips_after_a_quiet_second(monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    """A second after the last write, an empty batch says that it is on disk, once: its damage is known from a torn tail."""
    files = sim()
    engine = Engine(DIR, EngineSettings(durability, segment_bytes=SEGMENT_BYTES), manual=True, files=files)
    engine.tick()
    engine.kv.put(b"a", b"b" * 100)
    engine.commit()
    assert engine.log.owes_claim
    if durability == ASYNC:
        engine.log._sync_now()
    before = engine.log.batches
    monkeypatch.setattr(log_module, "CLAIM_SECONDS", 0.0)
    for _ in range(3):
        engine.upkeep(idle=True)
    assert engine.log.batches == before + 1 and not engine.log.owes_claim
    image = files.crash(Random(0), "keep")
    engine.log.abandon()
    name = segment_names(image)[-1]
    (start, end, records), stamp = batches_of(image, name)
    assert records == 1 and stamp[2] == 0
    for offset in range(start, end):
        damaged = image.crash(Random(0), "keep")
        damaged.flip(f"{DIR}/{name}", offset)
        assert check(DIR, damaged).damage
        with pytest.raises(LogDamaged, match=name):
            open_engine(damaged)


def test_flips_in_the_manifest() -> None:
    """Every byte counts, except the newline at its end, if it stays white space."""
    image, life = whole_life()
    size = len(image.content(f"{DIR}/{manifest.NAME}"))
    for offset in range(size):
        assert not flipped(image, manifest.NAME, offset, life.allowed) or offset == size - 1


def test_missing_files() -> None:
    """A segment or the manifest that is gone is said by name; nothing is started from what is left."""
    image, _ = whole_life()
    for name in [*segment_names(image), manifest.NAME]:
        files = image.crash(Random(0), "keep")
        del files.entries[f"{DIR}/{name}"]
        with pytest.raises(LogDamaged, match=name):
            open_engine(files)
        assert check(DIR, files).damage


def test_cut_files(long_run: bool) -> None:
    """A file that someone cut short is refused, or holds all that was in it."""
    image, life = whole_life()
    for name in [*segment_names(image), manifest.NAME]:
        size = len(image.content(f"{DIR}/{name}"))
        for length in some(0, size, 97 if long_run else 997):
            files = image.crash(Random(0), "keep")
            files.entries[f"{DIR}/{name}"].resize(length)
            try:
                engine = open_engine(files)
            except LogDamaged as e:
                assert name in str(e)
                continue
            must_hold(engine, life.allowed, f"{name} cut to {length}")
            engine.close()


def test_zeroed_tails() -> None:
    """After a clean stop, an open segment whose end was zeroed or put back to an older state is refused; after a crash that cannot be
    known, and is said."""
    files, _ = whole_life(close=False)
    crashed = files.crash(Random(0), "lose")
    image, _life = whole_life()
    name = segment_names(image)[-1]
    spans = batches_of(image, name)
    for start, _, _ in spans[:-1]:
        zeroed = image.crash(Random(0), "keep")
        zeroed.patch(f"{DIR}/{name}", start, bytes(SEGMENT_BYTES - start))
        assert check(DIR, zeroed).damage, f"zeroed from byte {start} on"
        with pytest.raises(LogDamaged, match=name):
            open_engine(zeroed)
    name = segment_names(crashed)[-1]
    crashed.patch(f"{DIR}/{name}", batches_of(crashed, name)[-1][0], bytes(1000))
    told: list[str] = []
    Engine(DIR, files=crashed, on_notice=told.append).close()
    assert any("not closed in order" in sentence for sentence in told), told


def test_a_manifest_that_is_older_than_the_files() -> None:
    """As one from a backup is: refused with nothing changed, and `check --repair` makes the right one again."""
    files = sim()
    workload_files = files
    older: list[bytes] = []
    engine = open_engine(workload_files)
    for number in range(400):
        engine.kv.put(b"key %d" % number, b"v" * 100)
        if len(engine.log._segments) > len(older):
            older.append(workload_files.content(f"{DIR}/{manifest.NAME}"))
    engine.close()
    assert len(older) >= 4
    for text in older[:-1]:
        for missing in (False, True):
            image = workload_files.crash(Random(0), "keep")
            if missing:
                del image.entries[f"{DIR}/{manifest.NAME}"]
            else:
                inode = image.entries[f"{DIR}/{manifest.NAME}"]
                inode.resize(len(text))
                image.patch(f"{DIR}/{manifest.NAME}", 0, text)
            before = contents(image)
            assert check(DIR, image).damage
            with pytest.raises(LogDamaged, match="check --repair"):
                open_engine(image)
            assert contents(image) == before or contents(image).keys() - before.keys() <= {f"{DIR}/LOCK"}
            done = repair(image, DIR, 1)
            assert done.lines and not done.holes
            check_whole(image, "repaired")
            with open_engine(image) as engine:
                assert all(engine.kv.get(b"key %d" % number) for number in range(400))


def test_half_a_directory_is_not_new() -> None:
    """Whatever part of a directory is there without its manifest, a start refuses and changes nothing."""
    image, _ = whole_life()
    engine = open_engine(image)
    engine.compact()
    engine.close()
    names = [path for path in image.entries if not path.endswith(("MANIFEST", "LOCK"))]
    assert {os.path.splitext(name)[1] for name in names} >= {".base", ".seg"} and f"{DIR}/ROOM" in names
    for name in names:
        part = image.crash(Random(0), "keep")
        part.entries = {name: part.entries[name]}
        with pytest.raises(LogDamaged, match="no MANIFEST"):
            open_engine(part)
        assert name in part.entries
        assert check(DIR, part).damage
    nothing = image.crash(Random(0), "keep")
    nothing.entries = {}
    open_engine(nothing).close()


# -- (vi) and (vii) what looks like a batch and is none --------------------------------------------

PUT_A: Op = ("put", "default", b"a", b"A" * 700)
PUT_B: Op = ("put", "default", b"b", b"B" * 700)
PUT_C: Op = ("put", "default", b"c", b"C" * 700)
PUT_D: Op = ("put", "default", b"d", b"D" * 700)


def old_batch_suite(monkeypatch: pytest.MonkeyPatch, then: Op) -> None:
    """a, b and c are written, none synced, and of b the header's sector is lost. `then` takes the place of b; c must not follow."""
    monkeypatch.setattr(StepSyncer, "every", 0)
    monkeypatch.setattr(log_module, "_Syncer", StepSyncer)
    files = sim()
    clock = Clock()
    with open_engine(files, clock) as engine:
        perform(engine, PUT_A)
    engine = open_engine(files, clock, ASYNC)
    at = engine.log._open.tail
    perform(engine, PUT_B)
    perform(engine, PUT_C)
    files.patch(f"{DIR}/{file_name(1)}", at, bytes(batch.HEADER_BYTES))
    left = files.crash(Random(0), "keep")
    model = Model().after(PUT_A, START)
    engine, _ = reopen(left, [model], "b lost, c left", clock, ASYNC)
    perform(engine, then)
    model = model.after(then, START)
    left = left.crash(Random(0), "keep")
    engine, _ = reopen(left, [model], "b written again, c from before", clock)
    engine.close()


@pytest.mark.parametrize("then", [PUT_B, PUT_D])
def test_an_old_batch_behind_a_cut_stays_dead(monkeypatch: pytest.MonkeyPatch, then: Op) -> None:
    """Even where what takes the lost batch's place is the same byte for byte, so that the chain would fit."""
    old_batch_suite(monkeypatch, then)


def copied_values(image: SimFiles) -> list[bytes]:
    """Values made of the log's own bytes, and of batches that somebody invented."""
    content = image.content(f"{DIR}/{segment_names(image)[-1]}")
    spans = batches_of(image, segment_names(image)[-1])
    log = content[HEADER_BYTES : spans[-1][1]]
    record = encode(Record(KV_STRING, 0, START, b"forged", b"forged"))
    forged = b""
    for seed, first, durable in itertools.product((0, 1, 0xFFFFFFFF), (1, 3, 1 << 40), (1, 1 << 40)):
        head, _ = batch.pack_header([record], len(record), first, 1, START, durable, seed, seed)
        forged += head + record
    return [log, content[spans[-1][0] : spans[-1][1]], log[-600:] + log, forged, bytes(472) + forged]


def test_a_value_is_never_taken_for_a_batch(long_run: bool) -> None:
    """Values that hold copies of the log's batches, torn at every sector: they neither come to life nor refuse the start."""
    base = sim()
    start = Model()
    with open_engine(base) as engine:
        for op in (PUT_A, PUT_B, ("put", "default", b"e", b"small")):
            perform(engine, op)
            start = start.after(op, START)
    for i, value in enumerate(copied_values(base)):
        ops: list[Op] = [("put", "default", b"copy", value), ("put", "default", b"copy2", value)]
        probe = base.crash(Random(0), "keep")
        assert live(probe, ops, start).error is None
        for at in crash_points(probe.trace):
            for seed in range((6 if long_run else 2) if probe.trace[at - 1].startswith("pwrite") else 1):
                rng = Random(seed)
                files = base.crash(rng, "keep", Plan(crash_at=at, how=TORN, seed=seed))
                life = live(files, ops, start)
                for mode in MODES:
                    survive(files.crash(rng, mode), life.allowed, f"value {i}, crash at {at}, seed {seed}, {mode}", rng)
        whole = probe.crash(Random(0), "lose")
        name = segment_names(whole)[-1]
        for begin, _, records in batches_of(whole, name):
            if records:
                assert not flipped(whole, name, begin + 20, [start])


# -- (viii) the suite sees every rule --------------------------------------------------------------


def without(method: str, caller: str = "", deep: bool = False) -> Factory:
    """A file system on which `method` does nothing, if called from the function `caller`, or with `deep` from what that calls;
    no name: from any."""

    class Without(SimFiles):
        """A rule is taken out."""

        def sync(self, fd: int) -> None:
            if self._is_out("sync"):
                self._enter("sync", self._path(fd))
                self._leave()
            else:
                super().sync(fd)

        def sync_dir(self, path: str) -> None:
            if self._is_out("sync_dir"):
                self._enter("sync_dir", path)
                self._leave()
            else:
                super().sync_dir(path)

        def _is_out(self, name: str) -> bool:
            frame = sys._getframe(2)
            callers = [frame.f_code.co_name]
            while deep and (above := frame.f_back) is not None:
                frame = above
                callers.append(frame.f_code.co_name)
            return name == method and (not caller or caller in callers)

    return lambda plan: Without(plan)


def first_roll() -> int:
    """The call that begins the first roll: a rule of rolls takes nothing from the calls before."""
    total, _ = whole_life()
    return next(at for at, call in enumerate(total.trace, 1) if call.startswith("rename") and call.endswith(".seg"))


def test_taking_out_nothing_passes() -> None:
    """The control of those below."""
    crash_suite(without("none"), stride=12, seeds=1)


@pytest.mark.parametrize(
    ("method", "caller"),
    [
        ("sync", "_write_batch"),  # of each batch
        ("sync", "begin"),  # of a new segment's header before the manifest names it
        ("sync", "write"),  # of the new manifest before it is renamed
        ("sync", "_mend_tail"),  # of what recovery keeps, before it is shown
        ("sync_dir", "_roll"),  # of a new segment's name before the manifest names it
        ("sync_dir", "write"),  # of the manifest's name
    ],
)
def test_the_suite_sees_a_missing_sync(method: str, caller: str) -> None:
    """Each sync is there for a reason that the crashes find."""
    with pytest.raises(AssertionError):
        crash_suite(without(method, caller), seeds=12, first=first_roll() if caller == "_roll" else 1)


def test_the_suite_sees_recovery_that_syncs_no_names() -> None:
    """A process may end between the rename of a manifest and the sync of its directory: nothing may be built on it before."""
    with pytest.raises(AssertionError):
        crash_suite(without("sync_dir", "recover", deep=True))


def test_the_suite_sees_missing_directory_syncs() -> None:
    """All of them out."""
    with pytest.raises(AssertionError):
        crash_suite(without("sync_dir"))


def test_the_suite_sees_a_roll_without_a_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """In `async`, a new segment may not be begun while the old one is only in the cache."""
    monkeypatch.setattr(log_module, "_Syncer", StepSyncer)
    async_suite(without("none"), stride=12, seeds=1)
    with pytest.raises(AssertionError):
        async_suite(without("sync", "_sync_now"))


def test_the_suite_sees_a_footer_that_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A footer that a crash left half written must be made again."""

    def believe(self: Segment) -> bool:
        size = self.files.size(self.fd)
        self._use_footer(self.files.pread(self.fd, size - self.tail, self.tail))
        return True

    first = first_roll()
    monkeypatch.setattr(Segment, "footer_is_intact", believe)
    with pytest.raises((AssertionError, LogDamaged, Damaged, IndexError, ValueError)):
        crash_suite(first=first)


def test_the_suite_sees_a_torn_tail_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery that zeroes no torn tail lets an old batch follow its twin."""
    leave_the_tail(monkeypatch)
    with pytest.raises(AssertionError, match="c from before"):
        old_batch_suite(monkeypatch, PUT_B)


def leave_the_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the zeroing of a torn tail out."""
    find_beyond = Segment.find_beyond
    monkeypatch.setattr(Segment, "find_beyond", lambda self, start: (find_beyond(self, start)[0], start))


def test_the_suite_sees_a_missing_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain alone keeps an old batch dead where another one took its predecessor's place; without it, it comes back."""
    leave_the_tail(monkeypatch)
    old_batch_suite(monkeypatch, PUT_D)

    def unchained(self: Segment) -> Iterator[tuple[batch.BatchHeader, int, bytes]]:
        at, first = HEADER_BYTES, self.first
        while header := batch.read_header(self.files.pread(self.fd, batch.HEADER_BYTES, at), self.seed):
            body = self.files.pread(self.fd, header.length, at + batch.HEADER_BYTES)
            if header.first != first or not batch.body_is_intact(header, body):
                return
            yield header, at + batch.HEADER_BYTES, body
            at += batch.HEADER_BYTES + header.length
            first = header.last + 1

    monkeypatch.setattr(Segment, "batches", unchained)
    with pytest.raises(AssertionError, match="c from before"):
        old_batch_suite(monkeypatch, PUT_D)


def test_the_suite_sees_a_missing_body_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torn batch whose header arrived is found by its second CRC."""
    monkeypatch.setattr(batch, "body_is_intact", lambda header, body: len(body) == header.length)
    with pytest.raises((AssertionError, LogDamaged, struct.error)):
        crash_suite()


def test_the_suite_sees_a_missing_durable_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the durable index in batches, damage of what was acknowledged would pass for a torn tail."""
    find_beyond = Segment.find_beyond
    monkeypatch.setattr(Segment, "find_beyond", lambda self, start: (0, find_beyond(self, start)[1]))
    with pytest.raises(AssertionError):
        test_flips_after_a_crash(False)


def test_the_suite_sees_an_end_that_is_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the end in the manifest, an open segment that was zeroed after a clean stop would pass for a shorter one."""
    monkeypatch.setattr(Log, "_note_end", lambda self: None)
    with pytest.raises(AssertionError):
        test_zeroed_tails()


# -- the file layer itself -------------------------------------------------------------------------


def test_one_process_at_a_time() -> None:
    """The lock holds between two logs on one disk, and goes with the process."""
    files = sim()
    engine = open_engine(files)
    with pytest.raises(DirectoryInUse):
        open_engine(files)
    open_engine(files.crash(Random(0), "keep")).close()
    engine.close()
    open_engine(files).close()


def test_make_dir_syncs_every_parent_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory lasts when each of the names on the way to it does."""
    synced: list[str] = []
    monkeypatch.setattr(Files, "sync_dir", lambda self, path: synced.append(path))
    Files().make_dir(str(tmp_path / "a" / "b" / "c"))
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(synced)


# -- random plans ----------------------------------------------------------------------------------

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
SPACES = st.sampled_from(["default", "other"])
VALUES = st.one_of(st.binary(max_size=40), st.integers(0, 9000).map(lambda n: b"v" * n))
DEADLINES = st.one_of(st.just(0), st.integers(1, 60).map(lambda n: START + n * STEP))
RANDOM_OPS = st.one_of(
    st.tuples(st.just("put"), SPACES, KEYS, VALUES, DEADLINES),
    st.tuples(st.just("put"), SPACES, KEYS, VALUES),
    st.tuples(st.just("put_many"), SPACES, st.lists(st.tuples(KEYS, VALUES, DEADLINES), max_size=4, unique_by=lambda item: item[0])),
    st.tuples(st.just("json_set"), SPACES, st.just(b"doc"), st.integers(0, 99).map(lambda n: b"[%d]" % n)),
    st.tuples(st.just("delete_many"), SPACES, st.lists(KEYS, max_size=4, unique=True)),
    st.tuples(st.just("flush"), st.lists(SPACES, max_size=2, unique=True)),
    st.tuples(st.just("get"), SPACES, KEYS),
    st.tuples(st.just("history"), SPACES, KEYS),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("upkeep")),
    st.tuples(st.just("compact"), st.sampled_from(["", "tail"])),
)
LIVES = st.lists(
    st.tuples(
        st.lists(RANDOM_OPS, max_size=12),
        st.integers(1, 150),  # the call to crash at
        st.sampled_from([BEFORE, TORN, AFTER]),
        st.sampled_from(MODES),
        st.integers(0, 1 << 16),
    ),
    min_size=1,
    max_size=5,
)


def random_lives(lives: Sequence[tuple[Sequence[Op], int, str, str, int]], durability: str) -> None:
    """One process after the other on one disk, each crashing somewhere; the state goes on from what recovery showed."""
    disk = sim()
    model = Model()
    at = 0
    for number, (ops, crash_at, how, mode, seed) in enumerate(lives):
        rng = Random(seed)
        disk.plan = Plan(crash_at=disk.calls + crash_at, how=how, seed=seed)
        todo = list(ops) if "other" in model.spaces else [("create", "other"), *ops]
        life = live(disk, todo, model, at, durability)
        at += len(todo) + 1
        assert life.error is None or isinstance(life.error, SimCrash), life.error
        disk = disk.crash(rng, mode)
        probe = disk.crash(rng, "keep")
        allowed = life.allowed
        if durability == ASYNC and mode != "keep":
            allowed = [other for other in life.acknowledged + allowed if other.index >= life.durable]
        _, model = reopen(probe, allowed, f"life {number}, {mode}", Clock(START + at * STEP), durability)
        check_whole(probe, f"life {number}")
        disk = probe.crash(rng, "keep")  # the next life begins where this recovery was killed


@settings(examples(300), suppress_health_check=list(HealthCheck))
@given(lives=LIVES)
def test_random_lives(lives: list[tuple[list[Op], int, str, str, int]]) -> None:
    """Random operations, random crashes, one after the other."""
    random_lives(lives, SYNC)


@settings(examples(100), suppress_health_check=list(HealthCheck))
@given(lives=LIVES, every=st.integers(0, 4))
def test_random_async_lives(lives: list[tuple[list[Op], int, str, str, int]], every: int) -> None:
    """The same in `async`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepSyncer, "every", every)
        patch.setattr(log_module, "_Syncer", StepSyncer)
        random_lives(lives, ASYNC)


@pytest.mark.long
@settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
@given(lives=LIVES)
def test_many_random_lives(lives: list[tuple[list[Op], int, str, str, int]]) -> None:
    """The same, longer."""
    random_lives(lives, SYNC)
