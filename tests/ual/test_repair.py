"""`flo check --repair`: whatever was damaged, the log opens again, holds only what was written, and all that was taken out is aside."""

import errno
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from flo.engine import Engine, EngineSettings
from flo.errors import LogDamaged
from flo.ual import block, manifest
from flo.ual.base import file_name
from flo.ual.check import check
from flo.ual.repair import Repaired, repair
from tests.faults.test_log_faults import DIR, SEGMENT_BYTES, START, Clock
from tests.support.faultfiles import Plan, SimCrash, SimFiles, crash_points
from tests.support.points import Points, key_of, read, seal_all, write
from tests.support.processes import ROOT, FloProcess
from tests.support.work import OUTPUT, PROGRESS, do_step, held_work, input_of

pytestmark = [pytest.mark.computes, pytest.mark.slow]

NOW = START + 1


def open_at(files: SimFiles) -> Engine:
    return Engine(DIR, EngineSettings(segment_bytes=SEGMENT_BYTES), clock=Clock(), files=files)


def written(number: int) -> bytes:
    """The value of the `number`-th put."""
    return b"%d|" % number * 40


def filled() -> SimFiles:
    """A base with history, values, messages, stream records, points and runs, two sealed segments, an open one; all durable."""
    files = SimFiles()
    files.make_dir("/")
    with open_at(files) as engine:
        for i in range(60):
            engine.kv.put(b"key-%d" % (i % 30), written(i))
            engine.queues.enqueue(b"jobs", b"job-%d" % i)
            engine.streams.append(b"events", b"event-%d" % i)
        engine.queues.dequeue(b"jobs", 10)
        engine.kv.put(b"touched", b"v")
        engine.kv.touch(b"touched", START + 10**9)
        for step in ("register", "worker", *["invoke"] * 6, *["take"] * 4, "touch", "complete"):
            do_step(engine.actions, step)
        for start in range(0, 120, 40):
            with engine.batch():
                write(engine.ts, {key_of(): point_range(start, start + 40), key_of(host="a"): point_range(start, start + 40)})
            if not start:
                seal_all(engine, engine.ts)
        engine.compact()
        for i in range(60, 300):
            engine.kv.put(b"key-%d" % (i % 30), written(i))
            if i % 80 == 0:
                for step in ("touch", "fail", "take", "complete", "schedule"):
                    do_step(engine.actions, step)
                seal_all(engine, engine.ts)
                with engine.batch():
                    write(engine.ts, {key_of(): point_range(i, i + 80)})
    return files


def point_range(start: int, end: int) -> Points:
    return {time: time / 8 for time in range(start, end)}


def holds(engine: Engine) -> tuple[int, int, int, int, int]:
    """(keys, messages that can be taken, stream records that can be read, points, runs); everything found must have been written."""
    keys, _ = engine.kv.scan()
    for key in keys:
        found = engine.kv.get(key)
        assert found is not None
        if key != b"touched":
            number = int(found.value.split(b"|")[0])
            assert found.value == written(number) and key == b"key-%d" % (number % 30)
        for item in engine.kv.history(key):
            assert item.tombstone or key == b"touched" or item.value == written(int(item.value.split(b"|")[0]))
    engine.clock.now += 60_000  # type: ignore[attr-defined]
    messages = engine.queues.dequeue(b"jobs", 100)
    assert all(message.payload.startswith(b"job-") for message in messages)
    records = engine.streams.read(b"events", 0, (1 << 128) - 1, 1000)
    assert all(record.payload.startswith(b"event-") for record in records)
    points = [read(engine.ts, key) for key in engine.ts.store.by_key]
    assert all(value == time / 8 for found in points for time, value in found.items())
    runs = held_work(engine.actions)[0]
    for seq, run in runs.items():
        expected = input_of(seq), OUTPUT if run.state == "completed" else b""
        assert (run.input, run.output) == expected and run.progress in (b"", PROGRESS)
    return len(keys), len(messages), len(records), sum(map(len, points)), len(runs)


def mend(files: SimFiles) -> tuple[Repaired, tuple[int, int, int, int, int]]:
    """Repair, check, open, look; a second repair finds nothing to do."""
    originals = {name: files.content(f"{DIR}/{name}") for name in files.names(DIR) if "." in name or name == manifest.NAME}
    done = repair(files, DIR, NOW)
    if done.aside:
        for name in files.names(done.aside):
            assert files.content(f"{done.aside}/{name}") == originals[name], "what is aside is what was there"
    assert check(DIR, files).damage == []
    with open_at(files) as engine:
        engine.forget_lost()
        found = holds(engine)
        engine.kv.put(b"touched", b"later")
    assert check(DIR, files).damage == []
    with open_at(files) as engine:
        assert engine.kv.get(b"touched").value == b"later"  # type: ignore[union-attr]
    assert not files.open_files
    return done, found


def test_nothing_to_repair() -> None:
    """A log that is whole is left as it is."""
    files = filled()
    calls = dict(files.counts)
    done = repair(files, DIR, NOW)
    assert done == Repaired([], [], "")
    assert {name: files.counts.get(name) for name in ("pwrite", "create", "rename")} == {
        name: calls.get(name) for name in ("pwrite", "create", "rename")
    }


def test_any_damage_can_be_repaired(long_run: bool) -> None:
    """A bit anywhere in any file, a file cut short anywhere, a file missing."""
    source = filled()
    whole = mend(source.crash(Random(0), "keep"))[1]
    assert whole == (31, 60, 60, 440, 6)
    rng = Random(4)
    worst = list(whole)
    repaired = 0
    for entry in manifest.read(source, DIR).entries:
        for name in entry.files:
            size = len(source.content(f"{DIR}/{name}"))
            places = sorted({0, 9, 40, 64, 70, size - 1, size - 30, *rng.sample(range(size), 400 if long_run else 3)})
            for at in [place for place in places if 0 <= place < size]:
                for damage in ("flip", "cut"):
                    files = source.crash(rng, "keep")
                    path = f"{DIR}/{name}"
                    if damage == "flip":
                        files.flip(path, at, rng.randrange(8))
                    else:
                        fd = files.open(path, writable=True)
                        files.truncate(fd, at)
                        files.close(fd)
                    damaged = bool(check(DIR, files).damage)
                    done, found = mend(files)
                    assert bool(done.lines) == damaged, f"{damage} at {at} of {name}"
                    repaired += damaged
                    if name.endswith(".base") and damage == "flip" and at >= 64 and done.holes:
                        worst = [min(pair) for pair in zip(worst, found, strict=True)]
            files = source.crash(rng, "keep")
            files.remove(f"{DIR}/{name}")
            assert mend(files)[0].lines
    assert repaired > 100
    assert worst[0] >= 30, "what follows a base is kept, however the base is damaged"


def test_a_segment_is_cut_to_a_state_that_was() -> None:
    """Behind the damage nothing is left, before it everything is."""
    source = filled()
    segments = [entry for entry in manifest.read(source, DIR).entries if not entry.is_base]
    assert len(segments) >= 3
    with open_at(source.crash(Random(0), "keep")) as engine:
        records = {index: engine.log.read(index) for index in range(segments[0].first, engine.log.next_index)}
    for entry in segments[:-1]:
        files = source.crash(Random(1), "keep")
        files.flip(f"{DIR}/{entry.file}", 4096 + 3000)
        repair(files, DIR, NOW)
        with open_at(files) as engine:
            last = engine.log.next_index - 1
            assert entry.first < last < entry.first + 40
            for index in range(segments[0].first, last + 1):
                assert engine.log.read(index) == records[index]
            for i in range(30):
                latest = max((index for index in records if index <= last and records[index].entity == b"key-%d" % i), default=0)  # type: ignore[union-attr]
                if latest:
                    assert engine.kv.get(b"key-%d" % i).version == latest  # type: ignore[union-attr]


def test_lost_payloads_are_acknowledged() -> None:
    """A message whose payload is gone does not stand in its queue for ever; leased ones neither."""
    source = filled()
    base = manifest.read(source, DIR).entries[0].file
    data = source.content(f"{DIR}/{base}")
    for text in (b"job-5", b"job-40"):  # leased, so that a record leans on it; ready
        files = source.crash(Random(2), "keep")
        files.flip(f"{DIR}/{base}", data.index(text) + 2)
        done, (_, messages, *_) = mend(files)
        assert done.holes and messages < 60
    assert b"job-40" in data


def test_a_crash_at_every_call(long_run: bool) -> None:
    """A repair that was cut short can be made again, and what was aside by then is whole."""
    for number, at in ((0, 900), (1, 6000)):  # of the base, of a sealed segment
        source = filled()
        source.flip(f"{DIR}/{manifest.read(source, DIR).entries[number].file}", at)
        probe = source.crash(Random(0), "keep")
        found = mend(probe)[1]
        probe = source.crash(Random(0), "keep")
        repair(probe, DIR, NOW)
        tried = 0
        for call in crash_points(probe.trace):
            for mode in ("lose", "keep", "reorder")[:: 1 if long_run else 2]:
                image = source.crash(Random(call), "keep", Plan(crash_at=call, seed=call))
                with pytest.raises(SimCrash):
                    repair(image, DIR, NOW)
                left = image.crash(Random(call), mode)
                repair(left, DIR, NOW + 1)
                assert check(DIR, left).damage == [], f"call {call}, {mode}"
                with open_at(left) as engine:
                    engine.forget_lost()
                    assert holds(engine)[0] == found[0], f"call {call}, {mode}"
                tried += 1
        assert tried > 30


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_failing_call(error: int) -> None:
    """The repair fails, and the next one does what this one could not."""
    source = filled()
    source.flip(f"{DIR}/{manifest.read(source, DIR).entries[0].file}", 900)
    probe = source.crash(Random(0), "keep")
    repair(probe, DIR, NOW)
    for name, count in probe.counts.items():
        for n in range(1, count + 1):
            image = source.crash(Random(0), "keep", Plan(fail={(name, n): error}))
            try:
                repair(image, DIR, NOW)
            except OSError as e:
                assert e.errno == error
            image.plan = Plan()
            repair(image, DIR, NOW + 1)
            assert check(DIR, image).damage == [], f"{name} {n}"


def test_a_manifest_is_made_again() -> None:
    """Whatever became of it, the files themselves say what belongs together; what a compaction left is not taken for the log."""
    source = filled()
    right = manifest.read(source, DIR).entries
    leftover = f"{DIR}/{file_name(1, right[0].last, 'ffffffff', False)}"
    for damage in "flipped", "missing", "leftover":
        files = source.crash(Random(0), "keep")
        if damage == "flipped":
            files.flip(f"{DIR}/{manifest.NAME}", 30)
        else:
            del files.entries[f"{DIR}/{manifest.NAME}"]
        if damage == "leftover":  # a base that was never finished
            files.close(files.create(leftover))
        with pytest.raises(LogDamaged, match="check --repair"):
            open_at(files)
        done = repair(files, DIR, NOW)
        assert done.lines and not done.holes
        assert manifest.read(files, DIR).entries == right
        assert not check(DIR, files).damage
        open_at(files).close()


def test_no_file_of_a_log() -> None:
    """There is nothing to repair."""
    files = filled()
    files.entries = {path: inode for path, inode in files.entries.items() if path.endswith("LOCK")}
    with pytest.raises(LogDamaged, match="no file of a log"):
        repair(files, DIR, NOW)


def test_the_command(tmp_path: Path) -> None:
    """`flo check` tells of the damage and exits 1; with --repair it says what it did; a server's directory is left alone."""

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "flo", "check", *flags, str(directory)], cwd=ROOT, capture_output=True, text=True)

    directory = tmp_path / "data"
    with FloProcess(directory) as flo:
        with flo.connect() as client:
            for i in range(200):
                client.command("SET", f"key-{i}", "v" * 50)
                client.command("LPUSH", "jobs", f"job-{i}")
        looked = run()
        assert looked.returncode == 0 and "default: 200 keys, 1 queue, 200 messages, 200 ready messages\n" in looked.stdout
        path = next(directory.glob("0*.seg"))
        data = bytearray(path.read_bytes())
        data[9000] ^= 1
        path.write_bytes(data)
        held = run("--repair")
        assert held.returncode == 1 and "in use" in held.stderr
        flo.kill()
    path.write_bytes(data)
    looked = run()
    assert looked.returncode == 1 and "DAMAGED" in looked.stderr and "1 fault\n" in looked.stderr
    done = run("--repair")
    assert done.returncode == 0, done.stderr
    assert "cut behind index" in done.stdout and f"{directory}/damaged-" in done.stdout and done.stdout.strip().endswith("whole")
    with FloProcess(directory) as flo, flo.connect() as client:
        assert 10 < client.command("DBSIZE") < 200
        assert client.command("SET", "after", "it") == b"OK"


# -- found by a review -----------------------------------------------------------------------------


def base_of(files: SimFiles, suffix: str = ".base") -> str:
    return next(f"{DIR}/{name}" for name in files.names(DIR) if name.endswith(suffix))


def test_what_was_deleted_does_not_come_back() -> None:
    """History whose end was lost is not what is: not after the next compaction either."""
    files = SimFiles()
    files.make_dir("/")
    with open_at(files) as engine:
        engine.kv.put(b"secret", b"old")
        engine.kv.delete(b"secret")
        engine.kv.put(b"changed", b"old")
        engine.kv.put(b"changed", b"new")
        engine.compact()
    files.flip(base_of(files), 150)
    assert repair(files, DIR, NOW).holes
    for _ in range(2):
        with open_at(files) as engine:
            assert engine.kv.get(b"secret") is None and engine.kv.get(b"changed") is None
            engine.compact()


def test_what_an_older_file_says_holds_again_and_that_is_said() -> None:
    """Of what came since the last compaction, in a file of its own, the newest state was lost: there is an earlier one. A file with nothing
    before it has none, and nothing is said."""
    files = SimFiles()
    files.make_dir("/")
    with open_at(files) as engine:
        engine.kv.put(b"deleted", b"old")
        engine.kv.put(b"changed", b"old")
        engine.kv.put(b"kept", b"old")
        engine.compact()
        engine.kv.delete(b"deleted")
        engine.kv.put(b"changed", b"new")
        engine.compact(tail=True)
    older, newer = (f"{DIR}/{name}" for name in files.names(DIR) if name.endswith(".base"))
    files.flip(newer, 150)
    repaired = repair(files, DIR, NOW)
    assert repaired.holes and any("holds again" in line and "an older value" in line for line in repaired.lines)
    with open_at(files) as engine:
        assert [found and found.value for found in engine.kv.mget([b"deleted", b"changed", b"kept"])] == [b"old"] * 3
    files.flip(older, 150)
    assert not any("holds again" in line for line in repair(files, DIR, NOW + 1).lines)


def test_a_stream_whose_deletion_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was deleted and made anew with lower ids: older records are not put before those, where no search would find either."""
    monkeypatch.setattr(block, "RECORDS_MAX", 4)  # the deletion is in one block, most records are in others

    def made() -> SimFiles:
        files = SimFiles()
        files.make_dir("/")
        with open_at(files) as engine:
            for number in range(10):
                engine.streams.append(b"s", b"old", ms=100 + number, seq=0)
            engine.compact()
            engine.streams.delete(b"s")
            for number in range(10):
                engine.streams.append(b"s", b"new", ms=5 + number, seq=0)
            engine.compact(tail=True)
        return files

    seen = set()
    offset = 0
    while True:
        files = made()
        newer = max(path for path in files.entries if path.endswith(".base"))
        if offset >= len(files.content(newer)):
            break
        files.flip(newer, offset)
        offset += 5
        repair(files, DIR, NOW)
        with open_at(files) as engine:
            records = engine.streams.read(b"s")
            stream = engine.streams.store.streams[b"s"]
            ids = [chunk.id_at(place) for chunk in stream.chunks for place in range(len(chunk))]
            assert ids == sorted(set(ids)) == [record.ident for record in records] and stream.count == len(ids), offset
            seen.add(tuple(record.payload for record in records))
    assert {(b"new",) * 10, (b"new",) * 8} <= seen


def test_a_lost_namespace_is_nobody_elses() -> None:
    """Its number is not given to another, so that what is left of it does not appear there."""
    files = SimFiles()
    files.make_dir("/")
    with open_at(files) as engine:
        alice = engine.create_namespace("alice")
        for i in range(3000):
            alice.kv.put(b"key-%d" % i, b"v")
        engine.compact()
    content = files.content(base_of(files))
    files.flip(base_of(files), content.index(b"alice") + 1)
    assert repair(files, DIR, NOW).holes
    with open_at(files) as engine:
        mallory = engine.create_namespace("mallory")
        mallory.kv.put(b"own", b"v")
        engine.compact()
    with open_at(files) as engine:
        assert engine.namespace("mallory").kv.scan(limit=10)[0] == [b"own"]


def test_a_sector_of_zeros_among_payloads() -> None:
    """Zeros have the checksum of nothing, and are no record."""
    files = filled()
    path = base_of(files)
    at = files.content(path).index(b"event-30")
    files.patch(path, at - 600, bytes(1024))
    assert check(DIR, files).damage
    done, (_, messages, records, *_) = mend(files)
    assert done.holes and messages + records < 120


def test_one_bit_of_the_header_loses_nothing() -> None:
    """The id that the checksums begin with is at the end as well."""
    for at in (3, 10, 20, 30, 45):
        files = filled()
        files.flip(base_of(files), at)
        assert check(DIR, files).damage
        assert mend(files)[1] == (31, 60, 60, 440, 6), f"byte {at}"


def test_a_repair_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    """Messages whose payload is gone are found by looking, not by what the first repair remembers."""
    from flo.ual.files import Files

    directory = tmp_path / "data"
    with Engine(str(directory)) as engine:
        for i in range(2000):
            engine.queues.enqueue(b"jobs", b"job-%d" % i)
        engine.queues.dequeue(b"jobs", 100)
        engine.compact()
    path = next(directory.glob("*.base"))
    data = bytearray(path.read_bytes())
    data[data.index(b"job-5") + 1] ^= 1
    path.write_bytes(data)
    assert repair(Files(), str(directory), NOW).holes  # and then the process was killed
    done = subprocess.run([sys.executable, "-m", "flo", "check", "--repair", str(directory)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "messages whose payload was lost are acknowledged" in done.stdout
    assert check(str(directory)).damage == []
