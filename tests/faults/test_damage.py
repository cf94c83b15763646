"""Damaged directories of every state: what a start, `flo check`, `flo backup` and `flo check --repair` make of them
(tests/support/damages.py has the damages and the judge), and a fault at every call of what changes a directory as a whole."""

import errno
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flo.cli import main
from flo.engine import Engine, EngineSettings
from flo.errors import FloError, LogDamaged
from flo.ual import manifest
from flo.ual import repair as repair_module
from flo.ual.backup import backup
from flo.ual.check import check
from flo.ual.lock import DirectoryLock
from flo.ual.repair import Repaired, repair
from flo.ual.segment import HEADER_BYTES, Segment, file_name
from tests.support.damages import (
    DIR,
    OUT,
    START,
    Author,
    Broken,
    Clock,
    Contents,
    Damaged,
    Judge,
    Story,
    batches_in,
    contents_of,
    damage,
    differing,
    disk_of,
    golden,
    state_of,
    stories,
)
from tests.support.faultfiles import MODES, Plan, SimCrash, SimFiles, crash_points

pytestmark = [pytest.mark.computes, pytest.mark.slow]

FOREIGN_SEED = 1_000  # of the directories whose files come into another one


@pytest.fixture(autouse=True)
def same_ids(monkeypatch: pytest.MonkeyPatch) -> Random:
    """Ids of files and names of bases are the same each time, so that a damage can be made again."""
    rng = Random(0)
    monkeypatch.setattr(os, "urandom", rng.randbytes)
    return rng


def campaign(seed: int, count: int, ids: Random) -> Judge:
    """So many damages, each judged. Fails with the first that breaks a promise."""
    ids.seed(seed)
    known, others = stories(seed), stories(seed + FOREIGN_SEED)
    judge = Judge()
    for story in known:
        judge.examine(story, Damaged(dict(story.contents), set(), "none", False), Random(seed))
    assert judge.summary["opened whole"] + judge.summary["begun anew"] == len(known), judge.summary
    judge.summary.clear()
    for number in range(count):
        rng = Random(f"{seed}/{number}")
        ids.seed(number)
        story = rng.choice(known)
        damaged = damage(rng, story, others)
        try:
            judge.examine(story, damaged, rng)
        except Broken as e:
            raise Broken(f"damage {number} of seed {seed}, of {story.name!r}: {damaged.what}: {e}") from e
    print(f"seed {seed}, {count} damages:", ", ".join(f"{what} {times}" for what, times in sorted(judge.summary.items())))
    return judge


def test_damages(same_ids: Random) -> None:
    """Forty damages of directories of every state."""
    summary = campaign(1, 40, same_ids).summary
    assert summary["refused"] >= 10 and summary["opened whole"] >= 3 and sum(n for what, n in summary.items() if "repaired" in what) >= 15


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_damages(seed: int, same_ids: Random) -> None:
    """Five hundred, of several seeds."""
    summary = campaign(seed, 500, same_ids).summary
    opened, repaired = (
        ("opened whole", "opened, cut with the sentence"),
        ("repaired, cut", "repaired, with holes", "repaired, nothing lost"),
    )
    assert all(summary[what] >= 5 for what in ("refused", *opened, *repaired)), summary


def blind(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a rule out."""
    if rule == "files that the manifest does not list":
        for module in ("recovery", "backup", "check", "rebuild", "log"):
            monkeypatch.setattr(f"flo.ual.{module}.removable", lambda *_: [])
    elif rule == "the end in the manifest":
        read = manifest.read
        monkeypatch.setattr(manifest, "read", lambda files, directory: read(files, directory)._replace(stopped=None))
    elif rule == "what batches claim":
        find_beyond = Segment.find_beyond
        monkeypatch.setattr(Segment, "find_beyond", lambda self, start: (0, find_beyond(self, start)[1]))
    elif rule == "the sentence":
        for module in ("recovery", "backup", "check"):
            look: Callable[..., Any] = import_module(f"flo.ual.{module}").look_at_end
            monkeypatch.setattr(f"flo.ual.{module}.look_at_end", lambda *args, look=look: look(*args)._replace(sentence=""))
    elif rule == "copies of what is taken out":
        monkeypatch.setattr(repair_module, "_put_aside", lambda files, directory, names, now: directory)


@pytest.mark.parametrize(
    ("rule", "seed"),  # it ends with the first that breaks a promise; these find theirs soon
    [
        ("files that the manifest does not list", 5),
        ("the end in the manifest", 1),
        ("what batches claim", 7),
        ("the sentence", 5),
        ("copies of what is taken out", 3),
    ],
)
def test_the_judge_sees_a_rule_taken_out(rule: str, seed: int, same_ids: Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule is there for a reason that the damages find."""
    blind(rule, monkeypatch)
    with pytest.raises(Broken):
        campaign(seed, 1600, same_ids)


# -- the commands, on a real file system -----------------------------------------------------------


def run(*words: str) -> tuple[int, str]:
    """(exit status, all that was printed) of a command."""
    text = io.StringIO()
    with redirect_stdout(text), redirect_stderr(text):
        status = main(list(words))
    return status, text.getvalue()


def written_to(where: Path, contents: Contents) -> Contents:
    """Have these files in a new directory."""
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    for name, data in contents.items():
        (where / name).write_bytes(data)
    return contents


def found_in(where: Path) -> Contents:
    return {path.name: path.read_bytes() for path in where.iterdir() if path.is_file()}


def opens(where: Path) -> int | None:
    """The last index with which a start opens; None where it refuses."""
    try:
        with Engine(str(where), clock=Clock()) as engine:
            return engine.log.next_index - 1
    except LogDamaged:
        return None


def test_the_commands_on_damaged_directories(tmp_path: Path, same_ids: Random, long_run: bool) -> None:
    """`flo check` exits 0 only where a start opens, `flo backup` only where its copy has all that a start has, `flo check --repair` where
    it could make a directory that opens; and each changes nothing but what it says."""
    known, others = stories(9), stories(9 + FOREIGN_SEED)
    data, copy = tmp_path / "data", tmp_path / "copy"
    copied = repaired = 0
    for number in range(150 if long_run else 12):
        rng = Random(f"commands {number}")
        same_ids.seed(number)
        story = rng.choice(known)
        damaged = damage(rng, story, others) if number % 6 else Damaged(dict(story.contents), set(), "none", False)
        context = f"damage {number} of {story.name!r}: {damaged.what}"
        before = written_to(data, damaged.contents)
        status, text = run("check", str(data))
        assert found_in(data) == before, f"{context}: a check changed something"
        backed, backup_text = run("backup", str(data), str(copy))
        assert {**found_in(data), "LOCK": b""} == {**before, "LOCK": b""}, f"{context}: a backup changed something"
        opened = opens(data)
        assert (status == 0) <= (opened is not None), f"{context}: {text}"
        mendable = status == 1 and "no other file of a log" not in text
        assert (f"run `flo check --repair {data}`" in text) == mendable, f"{context}: {text}"
        if backed == 0:
            copied += 1
            assert opens(copy) == opened, f"{context}: {backup_text}"
        shutil.rmtree(copy, ignore_errors=True)
        written_to(data, damaged.contents)
        mended, repair_text = run("check", "--repair", str(data))
        if any(re.fullmatch(r"\d{20}\S*\.(seg|base)", name) for name in damaged.contents):
            assert mended == 0, f"{context}: {repair_text}"
            assert run("check", str(data))[0] == 0 and opens(data) is not None, context
            repaired += "repaired:" in repair_text
    assert copied > 0 and repaired > 3


# -- what the damages found ------------------------------------------------------------------------


@pytest.fixture
def segments() -> Story:
    """A log of several segments, closed in order."""
    return Author("segments", 0).open().write(120).end(True)


@pytest.fixture
def compacted() -> Story:
    """Three bases with history, segments behind them, closed in order."""
    author = Author("bases", 0).open().write(60).compact()
    for _ in range(2):
        author.write(60).compact(tail=True)
    return author.write(60).end(True)


def bases_of(story: Story, end: str = ".base") -> list[str]:
    return sorted(name for name in story.contents if name.endswith(end))


def mended(contents: Contents, story: Story, last: int) -> Repaired:
    """Repair; the log then opens with the state at index `last`."""
    files = disk_of(contents)
    done = repair(files, DIR, START)
    assert check(DIR, files).damage == []
    with Engine(DIR, clock=Clock(), files=files) as engine:
        assert engine.log.next_index - 1 == last
        if not done.holes:
            assert differing(state_of(engine), story.state(last)) == ""
    return done


def test_a_creation_that_was_cut_short_has_written_nothing(segments: Story) -> None:
    """CREATING beside a first segment in which something was ever written does not make a directory new, whatever of it reads."""
    name = file_name(1)
    for at in (3, HEADER_BYTES + 50):  # of the header, of the first batch
        contents = {name: segments.contents[name], "CREATING": b""}
        contents[name] = contents[name][:at] + b"\xff" + contents[name][at + 1 :]
        files = disk_of(contents)
        with pytest.raises(LogDamaged, match="no MANIFEST"):
            Engine(DIR, clock=Clock(), files=files)
        assert contents_of(files)[name] == contents[name]


def test_a_backup_refuses_what_a_start_refuses(segments: Story) -> None:
    """Files that the manifest does not list may hold what was acknowledged: no copy is made that leaves them out."""
    contents = dict(segments.contents)
    contents[file_name(segments.written + 9)] = contents[max(name for name in contents if name.startswith("0"))]
    files = disk_of(contents)
    with pytest.raises(LogDamaged, match="does not list"):
        backup(files, DIR, OUT)
    assert not contents_of(files, OUT)
    assert backup(files, DIR, OUT, segments.written).last == segments.written, "a server that is there has read them"


@pytest.mark.parametrize("form", ["format-1", "format-2", "format-3"])
@pytest.mark.parametrize("size", [9_000, 40_000])
def test_an_open_segment_of_an_earlier_format_gets_its_length(form: str, size: int) -> None:
    """Earlier backups ended with the batches, and nobody looked at what was behind. A start, and a repair of something else, write a
    manifest of this format, by which the file is as long as its header says."""
    story = golden(form)
    name = max(name for name in story.contents if name.endswith(".seg"))
    end = max(each.at + len(each.data) for each in story.batches if each.file == name)
    contents = story.contents | {name: story.contents[name][: max(end, min(size, 16_384))].ljust(size, b"x" if size > 16_384 else b"\0")}
    files = disk_of(contents)
    for _ in range(2):
        with Engine(DIR, clock=Clock(), files=files) as engine:
            assert engine.log.next_index - 1 == story.written
    histories = [each for each in contents if each.endswith(".hist")]
    if histories:
        done = mended(contents | {histories[0]: b""}, story, story.written)
        assert done.lines


def test_a_cut_puts_aside_what_is_not_of_the_log_any_more(segments: Story) -> None:
    """A base that a compaction left, within the log as it was and past the end that a repair gives it."""
    author = Author("cut", 0).open().write(60)
    assert author.engine is not None
    before = dict(contents_of(author.files))
    author.compact()
    author.end(False)
    base = next(name for name in contents_of(author.files) if name.endswith(".base"))
    story = author.story
    story.contents = before | {base: contents_of(author.files)[base]}
    first = list(batches_in(before))[3]
    contents = dict(story.contents)
    contents[first.file] = contents[first.file][: first.at + 60] + b"\xff" + contents[first.file][first.at + 61 :]
    done = mended(contents, story, list(batches_in(before))[2].last)
    assert any("cut behind" in line for line in done.lines)


def test_a_file_of_another_range_is_no_part_of_a_base(compacted: Story) -> None:
    """Whatever reads in it: the rest of a base's file is looked through only where its header is of the same range, or does not read."""
    live, past = bases_of(compacted), bases_of(compacted, ".hist")
    for names in (live, past):
        for target in names:
            for source in names:
                if target != source:
                    contents = compacted.contents | {target: compacted.contents[source]}
                    judged = Judge()
                    judged.examine(compacted, Damaged(contents, {target}, "", False), Random(0))
                    assert judged.summary["refused"] == 1


def test_what_is_behind_a_missing_base_is_kept(compacted: Story) -> None:
    """Also where another file is there that the manifest does not list, as a repair that was cut short leaves: the manifest still says what
    the missing one was."""
    for name in bases_of(compacted):
        contents = {other: data for other, data in compacted.contents.items() if other != name}
        first = int(name[:20])
        leftover = f"{name[:42]}ffffffff.base" if first > 1 else f"{1:020d}-{2:020d}-ffffffff.base"
        contents[leftover] = b""
        done = mended(contents, compacted, compacted.written)
        assert [(hole.first, hole.last) for hole in done.holes] == [(first, int(name[21:41]))], done


def test_a_repair_keeps_that_a_log_was_closed_in_order(compacted: Story) -> None:
    """Of a damaged base nothing is known about the end of the log but what was known before."""
    files = disk_of(compacted.contents | {bases_of(compacted)[0]: b""})
    repair(files, DIR, START)
    told: list[str] = []
    Engine(DIR, clock=Clock(), files=files, on_notice=told.append).close()
    assert told == []


# -- a fault at every call -------------------------------------------------------------------------

ERRORS = (errno.EIO, errno.ENOSPC)


def started(files: SimFiles) -> None:
    Engine(DIR, EngineSettings(segment_bytes=16 << 10), clock=Clock(), files=files).log.abandon()


def stopped(files: SimFiles) -> None:
    Engine(DIR, EngineSettings(segment_bytes=16 << 10), clock=Clock(), files=files).close()


def repaired(files: SimFiles) -> None:
    lock = DirectoryLock(files, DIR)
    try:
        repair(files, DIR, START)
    finally:
        lock.release()


def copied(files: SimFiles) -> None:
    backup(files, DIR, OUT)


def without(contents: Contents, *names: str) -> Contents:
    return {name: data for name, data in contents.items() if name not in names}


def cases() -> Iterator[tuple[str, Contents, Callable[[SimFiles], None], Story]]:
    """What changes a directory as a whole: its name, what is there before, the call, and what is known."""
    segments = Author("faults", 0).open().write(50).end(True)
    killed = Author("faults", 0).open().write(50).end(False)
    compacted = Author("faults", 0).open().write(40).compact().write(30).end(True)
    base, history = bases_of(compacted)[0], bases_of(compacted, ".hist")[0]
    early = next(moment for moment in segments.earlier if moment.contents[manifest.NAME] != segments.contents[manifest.NAME])
    yield "creation", {}, started, Story("nothing", {})
    yield "creation and close", {}, stopped, Story("nothing", {})
    yield "start after a stop", segments.contents, started, segments
    yield "start after a kill", killed.contents, started, killed
    yield "start and close", killed.contents, stopped, killed
    yield "copy", compacted.contents, copied, compacted
    yield "manifest lost", without(segments.contents, manifest.NAME), repaired, segments
    yield "manifest lost, bases", without(compacted.contents, manifest.NAME), repaired, compacted
    yield "manifest of earlier", segments.contents | {manifest.NAME: early.contents[manifest.NAME]}, repaired, segments
    yield "history lost", without(compacted.contents, history), repaired, compacted
    yield "a stranger beside", compacted.contents | {file_name(compacted.written + 7): segments.contents[file_name(1)]}, repaired, compacted
    yield "base and manifest cut", compacted.contents | {base: compacted.contents[base][:-9], manifest.NAME: b"{"}, repaired, compacted


CASES = {case[0]: case for case in cases()}


def settled(files: SimFiles, act: Callable[[SimFiles], None], story: Story, context: str) -> None:
    """What was cut short or failed can be made again, and everything acknowledged is there."""
    if act is repaired:
        repaired(files)
    damage_left = check(DIR, files).damage
    begun = any(name.endswith(".seg") and name.startswith("0") for name in contents_of(files)) or story.written
    with Engine(DIR, clock=Clock(), files=files) as engine:
        assert engine.log.next_index - 1 == story.written, context
        assert differing(state_of(engine), story.state(story.written)) == "", context
    assert not damage_left or not begun or story.written == 0, f"{context}: {damage_left}"
    if act is copied:
        if manifest.NAME in contents_of(files, OUT):
            assert check(OUT, files).damage == [], context
        for path in [path for path in files.entries if path.startswith(f"{OUT}/")]:
            del files.entries[path]
        copied(files)
        assert check(OUT, files).damage == [], context
    assert not [path for path in files.open_files if path.endswith((".seg", ".base", ".hist", "MANIFEST"))], context


def test_of_two_damaged_bases_that_of_which_more_reads(compacted: Story) -> None:
    """Where the manifest is lost too: a repair or a compaction that was cut short leaves a newer one that was never finished."""
    name = bases_of(compacted)[0]
    for token in ("00000000", "ffffffff"):  # before it and behind it by name
        contents = without(compacted.contents, manifest.NAME) | {name: compacted.contents[name][:-5], f"{name[:42]}{token}.base": b""}
        assert not mended(contents, compacted, compacted.written).holes


@pytest.mark.parametrize("name", CASES)
def test_a_crash_at_every_call(name: str, long_run: bool) -> None:
    """Before, in the middle of and after each, with what the disk may keep."""
    _, contents, act, story = CASES[name]
    probe = disk_of(contents)
    act(probe)
    tried = 0
    for call in crash_points(probe.trace):
        for number, mode in enumerate(MODES):
            for how in ("before", "torn", "after") if long_run else (("before", "torn", "after")[(call + number) % 3],):
                image = disk_of(contents, Plan(crash_at=call, how=how, seed=call))
                with suppress(SimCrash):
                    act(image)
                if image.dead:
                    rng = Random(call)
                    settled(image.crash(rng, mode), act, story, f"{name}: {how} {image.trace[-1]}, call {call}, {mode}")
                    tried += 1
    assert tried >= 9


@pytest.mark.parametrize("name", CASES)
def test_every_call_fails_once(name: str, long_run: bool) -> None:
    """With EIO and with ENOSPC (in turn, in the short run): it is said, nothing is left open, and the next time it works."""
    _, contents, act, story = CASES[name]
    probe = disk_of(contents)
    act(probe)
    failed = 0
    for call, count in probe.counts.items():
        for number in range(1, count + 1):
            for error in ERRORS if long_run else (ERRORS[number % 2],):
                context = f"{name}: {errno.errorcode[error]} at {call} {number}"
                image = disk_of(contents, Plan(fail={(call, number): error}))
                try:
                    act(image)
                except (OSError, FloError):
                    failed += 1
                    if call != "close":  # what cannot be closed stays open, here; Linux closes it all the same
                        assert not image.open_files, context
                    image = image.crash(Random(0), "keep")  # the process ends
                else:
                    assert not image.open_files or call == "close", context
                    image = image.crash(Random(0), "keep")
                settled(image, act, story, context)
    assert failed > 20


def test_a_lock_that_fails_is_not_held() -> None:
    """Of the two locks, neither is left where the other could not be taken."""
    for call in ("lock_directory", "lock"):
        files = disk_of({}, Plan(fail={(call, 1): errno.EIO}))
        with pytest.raises(OSError):
            DirectoryLock(files, DIR)
        assert not files.open_files
        DirectoryLock(files, DIR).release()
        assert not files.open_files
