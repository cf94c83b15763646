"""`flo backup`: a copy made while a server writes and compacts holds everything answered before; no fault leaves half of one."""

import errno
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import pytest

from flo.client import Client
from flo.engine import Engine, EngineSettings
from flo.errors import LogDamaged
from flo.ual import manifest
from flo.ual.backup import BackupFailed, backup
from flo.ual.check import check
from flo.ual.files import Files
from flo.ual.segment import Segment
from tests.faults.test_log_faults import DIR, SEGMENT_BYTES, START, Clock
from tests.support.faultfiles import Plan, SimCrash, SimFiles
from tests.support.points import key_of, read, seal_all, write
from tests.support.processes import ROOT, FloProcess, wait_until
from tests.support.work import do_step, held_work

pytestmark = [pytest.mark.slow, pytest.mark.computes]

OUT = "/copy"
CALLS = ("create", "open", "pread", "pwrite", "sync", "sync_dir", "truncate", "rename", "size", "close", "make_dir", "names", "exists")


def filled() -> SimFiles:
    """A disk with a base, sealed segments and an open one; everything durable."""
    files = SimFiles()
    files.make_dir("/")
    with open_at(files, DIR) as engine:
        for i in range(60):
            engine.kv.put(b"key-%d" % (i % 20), b"%d" % i * 30)
        with engine.batch():
            write(engine.ts, {key_of(): {time: time / 8 for time in range(300)}})
        seal_all(engine, engine.ts)
        for step in ("register", "worker", "schedule", "invoke", "invoke", "invoke", "take", "touch", "take", "complete"):
            do_step(engine.actions, step)
        engine.compact()
        for i in range(120):
            engine.queues.enqueue(b"jobs", b"job %d" % i * 20)
        with engine.batch():
            write(engine.ts, {key_of(): dict.fromkeys(range(200, 400), -1.0)})
        for step in ("fail", "invoke", "take", "cancel", "drain"):
            do_step(engine.actions, step)
    return files


def open_at(files: SimFiles, directory: str) -> Engine:
    return Engine(directory, EngineSettings(segment_bytes=SEGMENT_BYTES), clock=Clock(), files=files)


def shown(files: SimFiles, directory: str) -> object:
    """What clients would see."""
    with open_at(files, directory) as engine:
        keys, _ = engine.kv.scan()
        values = [engine.kv.get(key) for key in keys], [engine.kv.history(key) for key in keys]
        return *values, engine.queues.peek(b"jobs", 1000), read(engine.ts, key_of()), held_work(engine.actions)


def test_a_copy_is_what_was_there() -> None:
    """Values, history, messages, points, runs; also after a power cut right behind it."""
    files = filled()
    before = shown(files, DIR)
    with open_at(files, DIR) as engine:
        copied = backup(files, DIR, OUT)
        assert copied.last == engine.log.next_index - 1
    assert not files.open_files
    assert shown(files, OUT) == before
    for mode in ("lose", "keep", "reorder"):
        image = files.crash(Random(1), mode)
        assert check(OUT, image).damage == []
        assert shown(image, OUT) == before


@pytest.mark.slow
def test_a_crash_at_every_call() -> None:
    """There is no copy, or a whole one; the source is what it was."""
    files = filled()
    before = shown(files, DIR)
    probe = files.crash(Random(0), "keep")
    backup(probe, DIR, OUT)
    partial = 0
    for at in range(1, probe.calls + 1):
        for mode in ("lose", "keep", "reorder"):
            image = files.crash(Random(at), "keep", Plan(crash_at=at, seed=at))
            with pytest.raises(SimCrash):
                backup(image, DIR, OUT)
            left = image.crash(Random(at), mode)
            if left.exists(f"{OUT}/{manifest.NAME}"):
                assert check(OUT, left).damage == [], f"call {at}, {mode}"
                assert shown(left, OUT) == before
            else:
                partial += 1
            assert shown(left, DIR) == before
    assert partial > 100


@pytest.mark.parametrize("rule", ["sync", "manifest first"])
def test_the_suite_sees_a_rule_taken_out(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sync of what was copied, or with the manifest before it, half a copy passes for one."""
    if rule == "sync":
        plain = SimFiles.sync

        def sync(self: SimFiles, fd: int) -> None:
            if sys._getframe(1).f_code is not Files.copy.__code__:
                plain(self, fd)

        monkeypatch.setattr(SimFiles, "sync", sync)
    else:
        copy = Files.copy

        def early(self: Files, fd: int, path: str, size: int) -> None:
            found = manifest.read(self, DIR)
            manifest.write(self, OUT, found.id, found.entries)
            copy(self, fd, path, size)

        monkeypatch.setattr(Files, "copy", early)
    with pytest.raises((AssertionError, LogDamaged, FileNotFoundError)):
        test_a_crash_at_every_call()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_failing_call(error: int) -> None:
    """Nothing is left of the copy, and it can be made again."""
    files = filled()
    probe = files.crash(Random(0), "keep")
    before = dict(probe.counts)
    backup(probe, DIR, OUT)
    tried = 0
    for name in CALLS:
        for n in range(before.get(name, 0) + 1, probe.counts.get(name, 0) + 1):
            image = files.crash(Random(0), "keep")
            image.plan = Plan(fail={(name, image.counts.get(name, 0) + n - before.get(name, 0)): error})
            try:
                backup(image, DIR, OUT)
            except (OSError, BackupFailed) as e:
                assert (isinstance(e, OSError) and e.errno == error) or (error == errno.ENOSPC and "is full" in str(e))
                image.plan = Plan()
                assert not image.exists(OUT) or not image.names(OUT) or name == "close", f"{name} {n}"
            tried += 1
    assert tried > 50


def test_a_compaction_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest changes, and files go, between its being read and their being opened: it begins anew."""
    files = filled()
    before = shown(files, DIR)
    with open_at(files, DIR) as engine:
        plain, due = files.open, [True]

        def open_late(path: str, writable: bool = False) -> int:
            if due and path.endswith(".seg"):
                due.clear()
                engine.compact()
            return plain(path, writable)

        monkeypatch.setattr(files, "open", open_late)
        backup(files, DIR, OUT)
        assert not due
    assert check(OUT, files).damage == []
    assert shown(files, OUT) == before


def test_what_is_refused(tmp_path: Path) -> None:
    """A place that holds something, a directory that is none, a log that lacks a file."""
    files = Files()
    with pytest.raises(BackupFailed, match="not a Flo data directory"):
        backup(files, str(tmp_path), str(tmp_path / "out"))
    with Engine(str(tmp_path / "data")) as engine:
        engine.kv.put(b"a", b"b")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(BackupFailed, match="not empty"):
        backup(files, str(tmp_path / "data"), str(tmp_path / "full"))
    next((tmp_path / "data").glob("0*.seg")).unlink()
    with pytest.raises(BackupFailed, match="is missing"):
        backup(files, str(tmp_path / "data"), str(tmp_path / "out"))
    assert START


def test_a_place_inside(tmp_path: Path) -> None:
    """A copy in the directory itself, under whatever name, is refused, and nothing is made there."""
    with Engine(str(tmp_path / "data")) as engine:
        engine.kv.put(b"a", b"b")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    before = sorted(path.name for path in (tmp_path / "data").iterdir())
    for out in tmp_path / "data" / "copy", tmp_path / "link" / "deep" / "copy", tmp_path / "data" / ".." / "data" / "copy":
        with pytest.raises(BackupFailed, match="which is to be copied"):
            backup(Files(), str(tmp_path / "data"), str(out))
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == before


def test_what_was_acknowledged_is_in_the_copy_or_there_is_none() -> None:
    """Damage anywhere in what a server said is on disk, or in a log that nobody holds, is refused, and nothing of the copy is left. The
    same damage behind that is none of the copy's."""
    source = filled()
    name = manifest.read(source, DIR).entries[-1].file
    segment = Segment.load(source, f"{DIR}/{name}", manifest.read(source, DIR).entries[-1].first, writable=False)
    spans = [(header, at) for header, at, _ in segment.batches() if header.records]
    assert len(spans) >= 3
    for header, at in spans:
        image = source.crash(Random(0), "keep")
        image.flip(f"{DIR}/{name}", at + 5)
        for acknowledged in (None, spans[-1][0].last):
            with pytest.raises((BackupFailed, LogDamaged), match=name):
                backup(image, DIR, OUT, acknowledged)
            assert not image.exists(OUT) or not image.names(OUT)
        copied = backup(image, DIR, OUT, header.first - 1)  # what was acknowledged before
        assert copied.last == header.first - 1
        assert not check(OUT, image).damage


def test_a_torn_tail_is_refused_where_nobody_can_be_asked() -> None:
    """After a crash the last batch may have been acknowledged: no copy is made that leaves it out without a word."""
    clock = Clock()
    files = SimFiles()
    engine = Engine(DIR, EngineSettings(segment_bytes=SEGMENT_BYTES), files=files, clock=clock)
    for number in range(10):
        engine.kv.put(b"key %d" % number, b"v" * 100)
    tail = engine.log._open.tail
    name = manifest.read(files, DIR).entries[-1].file
    crashed = files.crash(Random(0), "keep")
    assert "not closed in order" in backup(crashed, DIR, OUT).sentence
    crashed = files.crash(Random(0), "keep")
    crashed.flip(f"{DIR}/{name}", tail - 1)
    with pytest.raises(BackupFailed, match="nothing on disk tells"):
        backup(crashed, DIR, OUT)
    engine.log.abandon()


def test_a_copy_that_was_cut_short_is_no_directory() -> None:
    """Whatever part of a copy is there: neither the copying, nor a copy of the copy, can be taken for a database."""
    source = filled()
    backup(source, DIR, OUT)
    for path in [path for path in source.entries if path.startswith(f"{OUT}/") and path.endswith((".seg", ".base"))]:
        image = source.crash(Random(0), "keep")
        image.entries[path].resize(len(image.entries[path].data) // 2)
        assert check(OUT, image).damage, path
        with pytest.raises(LogDamaged):
            Engine(OUT, files=image)


@pytest.mark.slow
def test_beside_a_server(tmp_path: Path) -> None:
    """Writers and a worker go on, the log rolls and compacts; each copy has everything that was acknowledged when it began, and opens."""
    with FloProcess(tmp_path / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as worker:
        worker.actions.register("job")
        worker.workers.register("w", ["job"])
        acknowledged = [0, 0, 0]
        runs = {0: ""}
        stop = threading.Event()

        def write(number: int) -> None:
            with flo.connect() as client:
                while not stop.is_set():
                    count = acknowledged[number] + 1
                    client.pipeline(*(("SET", f"{number}:{i}", f"{count}:" + "x" * 200) for i in range(50)))
                    client.command("LPUSH", f"q{number}", str(count))
                    acknowledged[number] = count

        def work() -> None:
            while not stop.is_set():
                count = acknowledged[2] + 1
                runs[count] = worker.actions.invoke("job", str(count))
                found = worker.workers.take("w")
                assert found is not None and found.run_id == runs[count]
                worker.workers.complete(found.run_id, str(count), worker_id="w")
                acknowledged[2] = count

        threads = [threading.Thread(target=write, args=(number,)) for number in range(2)] + [threading.Thread(target=work)]
        for thread in threads:
            thread.start()
        try:
            for copy in range(4):
                wait_until(lambda copy=copy: min(acknowledged) > 20 * (copy + 1), "writes")  # type: ignore[misc]
                subprocess.run([sys.executable, "-m", "flo", "compact", str(tmp_path / "data")], cwd=ROOT, check=True, capture_output=True)
                before = list(acknowledged)
                out = tmp_path / f"copy{copy}"
                done = subprocess.run(
                    [sys.executable, "-m", "flo", "backup", str(tmp_path / "data"), str(out)], cwd=ROOT, capture_output=True, text=True
                )
                assert done.returncode == 0, done.stderr
                assert "is whole" in done.stdout
                with Engine(str(out)) as engine:
                    for number in range(2):
                        found = engine.kv.get(b"%d:49" % number)
                        assert found is not None and int(found.value.split(b":")[0]) >= before[number]
                        assert int(str(engine.queues.stats(b"q%d" % number)["ready"])) >= before[number]
                    for count in range(1, before[2] + 1):
                        assert engine.actions.result(runs[count].encode()) == (2, b"%d" % count)
                shutil.rmtree(out)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
