"""Compaction under faults: a crash at every call of rewriting, adopting and removing, failing calls, a full disk, and every rule of it
taken out once. The disk, the model and what a crash must leave are those of tests/faults/test_log_faults.py."""

import errno
from random import Random

import pytest

import flo.ual.log as log_module
from flo.engine import Engine
from flo.errors import FloError, LogFailed, Overloaded
from flo.store.kv import KvStore
from flo.ual import compaction, manifest
from flo.ual.base import BaseFile
from flo.ual.compaction import Replacement, remove_replaced
from flo.ual.log import Log
from tests.faults.test_log_faults import (
    DIR,
    SEGMENT_BYTES,
    START,
    STEP,
    Clock,
    Model,
    Op,
    check_whole,
    crash_suite,
    expected,
    held,
    live,
    open_engine,
    perform,
    recovery_suite,
    reopen,
    sim,
    survive,
    without,
)
from tests.support.faultfiles import BEFORE, MODES, TORN, Plan, SimCrash, SimFiles, crash_points

pytestmark = [pytest.mark.computes, pytest.mark.slow]

FAR = START + 100_000 * STEP
OPS: list[Op] = [
    ("put", "default", b"a", b"1"),
    ("create", "other"),
    ("put_many", "default", [(b"m%d" % i, b"v" * (i * 60), FAR if i % 3 == 0 else 0) for i in range(8)]),
    ("touch", "default", b"a", FAR),
    ("work", "default", "register", "worker", "invoke", "schedule", "invoke", "invoke", "invoke", "take", "touch"),
    ("create", "brief"),
    ("put", "brief", b"k", b"v"),
    ("put", "other", b"big", b"B" * 9000),
    ("delete", "default", b"m3"),
    ("put", "default", b"m1", b"again" * 1500),  # a roll
    ("touch", "default", b"m5", FAR),  # its value is in the segment before
    ("put", "default", b"m5", b"new"),
    ("incr", "default", b"count", -7),
    ("points", "default", [b"cpu v", b"mem v"], range(0, 900, 9)),
    ("seal", "default"),
    ("points", "default", [b"cpu v"], range(600, 1200, 7)),
    ("put", "brief", b"k", b"v2"),
    ("delete", "brief", b"k"),
    ("drop", "brief"),
    ("work", "default", "take", "fail", "take", "cancel", "pause"),
    ("compact",),
    ("put", "default", b"a", b"2"),
    ("work", "default", "complete", "invoke", "resume", "take", "complete", "drain"),  # of runs that are in the base
    ("delete", "default", b"m1"),
    ("forget", "default", b"mem"),
    ("seal", "default"),  # with the points that are in the base
    ("compact", "tail"),
    ("sweep",),  # the schedule makes a run
    ("work", "default", "complete", "cancel", "cancel", "unschedule", "deregister", "unregister"),
    ("flush", ["other"]),
    ("delete", "default", b"m5"),
    ("sweep",),  # the runs go
    ("compact",),  # of bases and a segment
    ("put", "other", b"behind", b"it"),
]
CALLS = ("create", "open", "pread", "pwrite", "sync", "sync_dir", "truncate", "rename", "remove", "size", "close")
READING = ("open", "pread", "size", "close")  # a full disk fails none of these: --long has them fail with that as well


@pytest.fixture(autouse=True)
def a_group_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass can be cut short between any two files."""
    monkeypatch.setattr(compaction, "GROUP_READ_BYTES", 1)


def test_a_crash_at_every_call(long_run: bool) -> None:
    """Whatever call is the last, what was acknowledged survives it."""
    assert crash_suite(ops=OPS, stride=1 if long_run else 4, seeds=20 if long_run else 1, first=1 if long_run else begun()) > 200


def test_a_crash_at_every_call_of_recovery_after_one(long_run: bool) -> None:
    """What a compaction that was cut short has left is tidied away by a recovery that may be cut short too."""
    assert recovery_suite(OPS, 1 if long_run else 131) > 50


def prepared() -> tuple[SimFiles, Engine, Model]:
    """An engine with a base and a segment to compact."""
    files = sim()
    clock, model = Clock(), Model()
    engine = open_engine(files, clock)
    for op in OPS[:-2]:
        clock.now += STEP
        model = model.after(op, clock.now)
        perform(engine, op)
    return files, engine, model


def begun() -> int:
    """The call at which the first pass has begun to write."""
    total = sim()
    live(total, OPS)
    return next(at for at, call in enumerate(total.trace) if call.startswith("create") and ".base" in call)


def tidy(files: SimFiles) -> bool:
    """Whether there are no bases but those of the manifest."""
    listed = {name for entry in manifest.read(files, DIR).entries for name in entry.files}
    return {name for name in files.names(DIR) if name.endswith((".base", ".hist"))} <= listed


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_failing_call(error: int, long_run: bool) -> None:
    """EIO at every call, ENOSPC at every one that may need room (every sixth and every third in the short run): the pass is given up and
    the engine goes on as if there had been none, or, where what is on disk cannot be known, it ends; nothing is lost either way."""
    files, engine, _ = prepared()
    before = dict(files.counts)
    engine.compact()
    counts = dict(files.counts)
    given_up = ended = 0
    for name in CALLS if long_run or error == errno.EIO else [call for call in CALLS if call not in READING]:
        for n in range(before.get(name, 0) + 1, counts.get(name, 0) + 1, 1 if long_run else 6 if error == errno.EIO else 3):
            context = f"{errno.errorcode[error]} at {name} {n}"
            files, engine, model = prepared()
            files.plan = Plan(fail={(name, n): error})
            try:
                engine.compact()
            except LogFailed:
                ended += 1
            except (OSError, FloError, Overloaded):
                given_up += 1
                assert tidy(files) or name in ("close", "remove"), context
            else:
                # no room for the next spare: the pass goes on, writes that add are refused meanwhile
                assert name in ("close", "remove") or not engine.log.accepts_adds, f"{context}: nobody noticed"
            files.plan = Plan()
            rng = Random(n)
            allowed = [model]
            survive(files.crash(rng, "lose"), allowed, context + ", power cut", rng)
            survive(files.crash(rng, "keep"), allowed, context + ", process ended", rng)
            if not engine._broken:
                assert held(engine) == expected(model), context
    assert given_up > 20 and (ended > 0 or error == errno.ENOSPC)


def test_every_size_of_a_full_disk(long_run: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little room there is, a pass either fits or leaves all as it was; the engine goes on."""
    monkeypatch.setattr(log_module, "MARGIN_BYTES", 1 << 10)
    refused = left = done = 0
    for room in range(0, 40_000, 200 if long_run else 600):
        files, engine, model = prepared()
        # as if nothing had been kept for this, nor were to be had from sealing what is open
        files.capacity = files.used - len(files.content(f"{DIR}/ROOM")) - SEGMENT_BYTES + room
        size = engine.log.size
        try:
            engine.compact()
            done += engine.log.size < size
            left += engine.log.size >= size
        except Overloaded:
            refused += 1
        context = f"{room} bytes free"
        assert held(engine) == expected(model), context
        assert tidy(files), context
        files.capacity = None
        engine.compact()
        assert held(engine) == expected(model), context
        engine.close()
        check_whole(files, context)
    assert refused and left and done, (refused, left, done)


def filled() -> tuple[SimFiles, Engine, Model]:
    """An engine whose own files have filled the disk, half of which was deleted."""
    files, engine, model = prepared()
    clock = engine.clock
    assert isinstance(clock, Clock)
    files.capacity = files.used + 2 * SEGMENT_BYTES
    keys = []

    def do(op: Op) -> None:
        nonlocal model
        clock.now += STEP
        after = model.after(op, clock.now)
        perform(engine, op)
        model = after

    with pytest.raises(Overloaded):
        for number in range(200):
            do(("put", "default", b"fill%d" % number, b"f" * 400))
            keys.append(b"fill%d" % number)
    assert len(keys) > 20 and not engine.log.accepts_adds
    for key in keys[::2]:
        do(("delete", "default", key))
    return files, engine, model


def test_a_fault_at_every_call_of_the_way_out(monkeypatch: pytest.MonkeyPatch, long_run: bool) -> None:
    """A disk full of the log's own files: the pass that makes room may be cut short, or fail, at any call, and loses nothing. The next one
    makes room."""
    monkeypatch.setattr(log_module, "MARGIN_BYTES", 1 << 10)
    monkeypatch.setattr(log_module, "SPARE_BYTES_MIN", 8 << 10)
    files, engine, model = filled()
    begins = files.calls
    engine.compact()
    trace = list(files.trace)
    assert engine.log.accepts_adds and held(engine) == expected(model)
    engine.log.abandon()
    for call in crash_points(trace, begins + 1, 1 if long_run else 5):
        for how in (BEFORE, TORN) if trace[call - 1].startswith("pwrite") else (BEFORE,):
            files, engine, model = filled()
            files.plan = Plan(crash_at=call, how=how, seed=call)
            with pytest.raises(SimCrash):
                engine.compact()
            for mode in MODES:
                context = f"crash {how} call {call} ({files.trace[-1]}), {mode}"
                image = files.crash(Random(call), mode)
                engine, _ = reopen(image, [model], context)
                engine.compact()
                assert engine.log.accepts_adds, f"{context}: the next pass makes no room"
                assert held(engine) == expected(model), context
                engine.close()
                check_whole(image, context)


# -- the suite sees every rule ---------------------------------------------------------------------


def test_taking_out_nothing_passes() -> None:
    """The control of those below."""
    crash_suite(without("none"), ops=OPS, stride=12, seeds=1)


@pytest.mark.parametrize(
    ("method", "caller"),
    [
        ("sync", "finish"),  # of a base before it is adopted
        ("sync_dir", "_rewrite"),  # of its name before the manifest names it
        ("sync_dir", "write"),  # of the manifest's name before what it replaces is removed
    ],
)
def test_the_suite_sees_a_missing_sync(method: str, caller: str) -> None:
    """Each sync is there for a reason that the crashes find."""
    total, made = sim(), begun()
    live(total, OPS)
    adopted = next(at for at, call in enumerate(total.trace) if at > made and call.startswith("rename"))
    with pytest.raises(AssertionError):
        crash_suite(without(method, caller), ops=OPS, seeds=12, first=adopted)


def test_the_suite_sees_files_removed_before_their_base_is_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a base was made from goes when the manifest that names the base is durable, and not before."""
    adopt = Log.adopt

    def hasty(self: Log, replacement: Replacement) -> None:
        remove_replaced(self.files, self.directory, replacement.sources)
        adopt(self, replacement)

    monkeypatch.setattr(Log, "adopt", hasty)
    with pytest.raises(AssertionError):
        crash_suite(ops=OPS, first=begun())


def test_the_suite_sees_a_replay_that_knows_no_interrupted_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the groups that were rewritten are dead records of keys and namespaces that are gone with them."""
    touch = KvStore.touch

    def strict(self: KvStore, index: int, key: bytes, deadline: int, holder: int) -> None:
        assert key in self, f"index {index} touches {key!r}, which is not there"
        touch(self, index, key, deadline, holder)

    monkeypatch.setattr(KvStore, "touch", strict)
    with pytest.raises(AssertionError):
        crash_suite(ops=OPS, first=begun())


def test_the_suite_sees_files_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that fails removes what it wrote."""
    remove = SimFiles.remove

    def keep(self: SimFiles, path: str) -> None:
        if not path.endswith(".base"):
            remove(self, path)

    monkeypatch.setattr(SimFiles, "remove", keep)
    with pytest.raises(AssertionError):
        test_every_size_of_a_full_disk(False, monkeypatch)


def test_a_life_without_faults() -> None:
    """The operations do compact, and the model agrees."""
    files = sim()
    life = live(files, OPS)
    assert life.error is None
    entries = manifest.read(files, DIR).entries
    assert entries[0].is_base and not entries[-1].is_base
    assert files.open_files == []
    opened = BaseFile(files, f"{DIR}/{entries[0].file}", entries[0].first, entries[0].last)
    assert 0 < opened.records < entries[0].last
    opened.close()
