"""The log under faults: crashes at every call, failing calls, a full disk, flipped bits (DESIGN.md, "Tested", 3).

The disk is `tests.faultfiles.SimFiles`. Every test compares the state after recovery, versions and the next index included,
with a plain model: what was acknowledged must be there, what was in flight wholly or not at all, and nothing else.
"""

import errno
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flo.ual.log as log_module
import flo.ual.recovery as recovery_module
from flo.engine import Engine, EngineSettings
from flo.errors import DirectoryInUse, FloError, LogDamaged, LogFailed, Overloaded
from flo.store.kv import COUNTER, JSON, STRING, Found
from flo.ual import batch, manifest
from flo.ual.check import check
from flo.ual.files import Files
from flo.ual.log import ASYNC, EPHEMERAL, SYNC, Log
from flo.ual.manifest import ManifestEntry
from flo.ual.record import KV_STRING, Record, encode
from flo.ual.recovery import Recovered
from flo.ual.segment import HEADER_BYTES, Segment, file_name
from tests.faultfiles import AFTER, BEFORE, MODES, TORN, Plan, SimCrash, SimFiles

DIR = "/data"
SEGMENT_BYTES = 16 << 10
START = 1_700_000_000_000
STEP = 1_000  # ms of the clock for each operation

Op = tuple[Any, ...]  # name of the operation, its arguments
Snapshot = dict[str, dict[bytes, Found]]
Factory = Callable[[Plan | None], SimFiles]


# -- the model -------------------------------------------------------------------------------------


class Model:
    """What the database must hold: the keys of each namespace with their versions, and how many records there are."""

    def __init__(self) -> None:
        self.index = 0
        self.spaces: Snapshot = {"default": {}}

    def copy(self) -> "Model":
        twin = Model()
        twin.index = self.index
        twin.spaces = {name: dict(keys) for name, keys in self.spaces.items()}
        return twin

    def after(self, op: Op, now: int) -> "Model":
        """The model after one more operation."""
        twin = self.copy()
        getattr(twin, "do_" + op[0])(now, *op[1:])
        return twin

    def live(self, space: str, key: bytes, now: int) -> Found | None:
        found = self.spaces[space].get(key)
        return None if found is None or (found.deadline and found.deadline <= now) else found

    def _write(self, space: str, key: bytes, value: bytes, kind: int, deadline: int, now: int) -> None:
        if key in self.spaces[space] and self.live(space, key, now) is None:
            self.index += 1  # an expired key is buried first
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
        self.index += 1
        del self.spaces[space][key]

    def do_delete_many(self, now: int, space: str, keys: Sequence[bytes]) -> None:
        for key in keys:
            if self.live(space, key, now) is not None:
                self.do_delete(now, space, key)

    def do_get(self, now: int, space: str, key: bytes) -> None:
        pass

    def do_history(self, now: int, space: str, key: bytes) -> None:
        pass

    def do_sweep(self, now: int) -> None:
        for keys in self.spaces.values():
            for key in [key for key, found in keys.items() if found.deadline and found.deadline <= now]:
                self.index += 1
                del keys[key]

    def do_upkeep(self, now: int) -> None:
        pass

    def do_create(self, now: int, name: str) -> None:
        self.index += name not in self.spaces
        self.spaces.setdefault(name, {})

    def do_drop(self, now: int, name: str) -> None:
        assert not self.spaces[name]
        self.index += 2
        del self.spaces[name]

    def do_flush(self, now: int, names: Sequence[str]) -> None:
        for name in names:
            self.index += 1
            self.spaces[name] = {}


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
        return engine.upkeep(idle=True)
    kv = engine.namespace(args[0]).kv
    if name == "put":
        return kv.put(args[1], args[2], deadline=args[3] if len(args) > 3 else 0)
    if name == "json_set":
        return kv.json_set(args[1], b"$", args[2])
    return getattr(kv, name)(*args[1:])


def held(engine: Engine) -> tuple[int, Snapshot]:
    """What the engine holds, to be compared with `expected`."""
    return engine.log.next_index - 1, {
        name: {key: found for shard in space.kv.store.shards for key in shard if (found := space.kv.store.find(key))}
        for name, space in engine.namespaces.items()
    }


def expected(model: Model) -> tuple[int, Snapshot]:
    return model.index, model.spaces


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
        for op in ops:
            clock.now += STEP
            life.in_flight = life.acknowledged[-1].after(op, clock.now)
            perform(engine, op)
            life.acknowledged.append(life.in_flight)
            life.in_flight = None
        if close:
            engine.close()
    except SimCrash as e:
        life.error = e
    except (FloError, OSError) as e:
        life.error = e
        if engine is not None:
            engine.close()
    return life


def must_hold(engine: Engine, allowed: Sequence[Model], context: str) -> Model:
    """The one of the models that the engine's state equals."""
    state = held(engine)
    for model in allowed:
        if expected(model) == state:
            return model
    raise AssertionError(
        f"{context}: the state after recovery ends at index {state[0]}, allowed are {[model.index for model in allowed]}"
        if state[0] not in [model.index for model in allowed]
        else f"{context}: the state at index {state[0]} is not what was written"
    )


def reopen(files: Files, allowed: Sequence[Model], context: str, clock: Clock | None = None, durability: str = SYNC) -> tuple[Engine, Model]:
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
        ("put_many", "default", [(b"m%d" % i, b"v" * (i * 97), far if i % 3 == 0 else 0) for i in range(12)]),
        ("incr", "default", b"count", 5),
        ("put", "other", b"doomed", b"soon gone", START + 9 * STEP),
        ("touch", "default", b"a", far),
        ("json_set", "default", b"doc", b'{"a":[1,2,3]}'),
        ("put", "other", b"big", b"B" * 5000),
        ("delete", "default", b"m3"),
        ("incr", "default", b"count", -7),
        ("get", "other", b"doomed"),  # expired: a stamp
        ("history", "default", b"count"),
        ("put", "other", b"doomed", b"again"),  # buries it first
        ("put", "default", b"b", b"x" * 3000),
        ("touch", "default", b"a", 0),
        ("upkeep",),
        ("put_many", "other", [(b"n%d" % i, bytes([i]) * 800, 0) for i in range(10)]),  # a roll in the middle of the room
        ("delete_many", "other", [b"n1", b"n2", b"missing", b"n9"]),
        ("put", "default", b"short", b"-", START + 21 * STEP),
        ("put", "default", b"huge", b"H" * 20_000),  # more than a segment: the spare must grow
        ("json_set", "default", b"doc", b'{"a":"' + b"j" * 2500 + b'"}'),
        ("sweep",),
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


def crash_suite(factory: Factory = sim, ops: Sequence[Op] = tuple(OPS), stride: int = 1, seeds: int = 3) -> int:
    """Crash at every `stride`-th call and survive it in every mode. Returns the number of crashes. Raises AssertionError."""
    total = factory(None)
    life = live(total, ops)
    assert life.error is None, life.error
    crashes = 0
    for at in range(1, total.calls + 1, stride):
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
    assert [path for path in files.open_files] == []


def test_a_crash_at_every_call() -> None:
    """Open, every operation, rolls, seals, close: whatever call is the last, what was acknowledged survives it."""
    assert crash_suite() > 800
