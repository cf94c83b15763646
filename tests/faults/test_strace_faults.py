"""The real server and commands, with system calls that fail (EIO, ENOSPC) or at which the process is killed, by strace.

Each scenario is run once to count its calls, then again with a fault at some of them: the first, the last, and others between. Afterwards
a start without faults must show everything that was acknowledged, and whatever failed must work. A process that fails says so in a
sentence and exits; it leaves no traceback.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flo.engine import Engine
from flo.errors import Overloaded
from flo.ual import manifest
from flo.ual.check import check
from tests.faults.test_full_disk import Disk
from tests.faults.test_sync_before_reply import strace_problem
from tests.support.damages import Author, Clock, Contents, Story, differing, state_of
from tests.support.processes import ROOT, FloProcess, ReplyError

CALLS = ("fsync", "fdatasync", "rename", "unlink", "pwrite64", "pwritev", "pwritev2", "ftruncate", "fallocate", "openat")
FAULTS = ("error=EIO", "error=ENOSPC", "signal=SIGKILL")
PLACES = 5  # of each call that are tried with each fault
SEGMENT_BYTES = 4 << 20  # the smallest that a server takes
VALUE = "v" * (300 << 10)
VALUES = 30  # of that size: two rolls
ENVIRONMENT = {"FLO_LOG_SEGMENT_BYTES": str(SEGMENT_BYTES), "FLO_LOG_COMPACT_QUIET": "0s", "PYTHONDONTWRITEBYTECODE": "1"}
EXITS = {0, 1, 74, -signal.SIGKILL, 128 + signal.SIGKILL}
_CALL = re.compile(rf"^\d+ +({'|'.join(CALLS)})\(", re.MULTILINE)

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", autouse=True)
def _needs_strace() -> None:
    problem = strace_problem()
    if problem:
        pytest.skip(problem)


class Tracer:
    """How a process is run: its calls are counted, or one is tampered with. An openat counts only where it is of one of `paths`: the
    interpreter opens hundreds of files before any of Flo's."""

    def __init__(self, where: Path, paths: list[Path]) -> None:
        self._trace = where / "trace"
        self._only = [word for path in paths for word in ("-P", str(path))]

    def tamper(self, fault: str) -> list[str]:
        """The command in front that has strace inject `fault`."""
        only = self._only if fault.startswith("openat") else []
        return ["strace", "-f", "-qq", "-o", str(self._trace), *only, "-e", f"trace={','.join(CALLS)}", "-e", f"inject={fault}"]

    def count(self, run: Callable[[list[str]], object]) -> Counter[str]:
        """How often each call is made: `run` is called twice, with the command in front."""
        front = ["strace", "-f", "-qq", "-o", str(self._trace), "-e", f"trace={','.join(CALLS)}"]
        run(front)
        counted = Counter(_CALL.findall(self._trace.read_text(errors="replace")))
        run([*front, *self._only])
        counted["openat"] = Counter(_CALL.findall(self._trace.read_text(errors="replace")))["openat"]
        return counted


def faults(counted: Counter[str], seed: str) -> Iterator[str]:
    """What to inject, one after the other: the first, the last and others between of each call, in each way."""
    rng = Random(seed)
    for call in CALLS:
        total = counted[call]
        if not total:
            continue
        places = {1, total}
        while len(places) < min(PLACES, total):
            places.add(rng.randint(1, total))
        for place in sorted(places):
            for fault in FAULTS:
                yield f"{call}:{fault}:when={place}"


def known_paths(directory: Path, names: Iterable[str] = ()) -> list[Path]:
    """A directory, and what may be opened in it."""
    return [directory, *(directory / name for name in sorted({*NAMES, *names}))]


NAMES = ["MANIFEST", "MANIFEST.new", "LOCK", "CREATING", "spare.seg", f"{1:020d}.seg"]


# -- the server ------------------------------------------------------------------------------------


def value(number: int) -> str:
    return f"{number}|{VALUE}"


def serve(directory: Path, wrapper: list[str], writes: int) -> tuple[int, int]:
    """Start, write, stop: (how many writes were acknowledged, the exit status)."""
    flo = FloProcess(directory, environment=ENVIRONMENT, wrapper=wrapper, start=False)
    acknowledged = 0
    try:
        with suppress(RuntimeError):  # it did not come to serve
            flo.start()
            match = re.search(r"\(process (\d+),", flo.output())
            assert match is not None
            with suppress(ConnectionError, BrokenPipeError), flo.connect() as client:
                for number in range(writes):
                    reply = client.command("SET", f"key-{number}", value(number))
                    if isinstance(reply, ReplyError):
                        break  # refused: the disk is full, it says
                    acknowledged += 1
            with suppress(ProcessLookupError):
                os.kill(int(match[1]), signal.SIGTERM)
        assert flo.process is not None
        status = flo.process.wait(60)
        assert "Traceback" not in flo.output(), flo.output()
        return acknowledged, status
    finally:
        if flo.alive():
            flo.kill()
        flo.log_path.unlink(missing_ok=True)


def must_serve(directory: Path, acknowledged: int, context: str) -> None:
    """A start without faults shows what was acknowledged, takes a write and stops in order."""
    with FloProcess(directory, environment=ENVIRONMENT) as flo:
        with flo.connect() as client:
            for number in range(acknowledged):
                assert client.command("GET", f"key-{number}") == value(number).encode(), f"{context}: key-{number} of {acknowledged}"
            assert client.command("SET", "after", "it") == b"OK", context
        assert flo.stop() == 0, context
    assert check(str(directory)).damage == [], context


def test_a_first_start(tmp_path: Path) -> None:
    """Of a directory that is not there yet."""
    directory = tmp_path / "data"
    tracer = Tracer(tmp_path, [tmp_path, *known_paths(directory)])

    def start(wrapper: list[str]) -> tuple[int, int]:
        shutil.rmtree(directory, ignore_errors=True)
        return serve(directory, wrapper, 1)

    counted = tracer.count(start)
    assert counted["rename"] and counted["openat"] and counted["fallocate"]
    tried = 0
    for fault in faults(counted, "first"):
        acknowledged, status = start(tracer.tamper(fault))
        assert status in EXITS, f"{fault}: exit status {status}"
        must_serve(directory, acknowledged, fault)
        tried += 1
    assert tried > 40


def test_serving_with_rolls_and_a_stop(tmp_path: Path) -> None:
    """Two rolls while clients write, and the end that a stop notes: the last places are those of the stop."""
    directory, source = tmp_path / "data", tmp_path / "source"
    tracer = Tracer(tmp_path, known_paths(directory))
    serve(source, [], 0)

    def work(wrapper: list[str]) -> tuple[int, int]:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(source, directory)
        return serve(directory, wrapper, VALUES)

    counted = tracer.count(work)
    assert counted["rename"] >= 4 and counted["fdatasync"] > VALUES
    tried = lost_all = 0
    for fault in faults(counted, "serving"):
        acknowledged, status = work(tracer.tamper(fault))
        assert status in EXITS, f"{fault}: exit status {status}"
        must_serve(directory, acknowledged, fault)
        tried += 1
        lost_all += acknowledged == 0
    assert tried > 40 and lost_all < tried, "some of them served"


# -- the commands ----------------------------------------------------------------------------------


def command(wrapper: list[str], *words: str) -> tuple[int, str]:
    """(exit status, what was printed) of a command."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-m", "flo", *words], cwd=ROOT, capture_output=True, text=True, env=os.environ | ENVIRONMENT, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def put(directory: Path, contents: Contents) -> None:
    """Have these files in a new directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, data in contents.items():
        (directory / name).write_bytes(data)


def state_in(directory: Path) -> tuple[int, Any]:
    """(the last index, the state) that a start finds."""
    with Engine(str(directory), clock=Clock()) as engine:
        return engine.log.next_index - 1, state_of(engine)


@pytest.fixture(scope="module")
def story() -> Story:
    """A base with history, segments behind it, closed in order."""
    return Author("strace", 0).open().write(80).compact().write(80).end(True)


def each_fault(tmp_path: Path, contents: Contents, words: list[str], after: Callable[[str, int, str], None]) -> int:
    """Run a command on a directory with a fault at one call, again and again; `after(fault, exit status, output)`. Returns how often it
    was cut short."""
    directory, copy = Path(words[-1]) if words[0] == "compact" else tmp_path / "data", tmp_path / "copy"
    tracer = Tracer(tmp_path, [*known_paths(directory, contents), *known_paths(copy, contents)])

    def run(wrapper: list[str]) -> tuple[int, str]:
        put(directory, contents)
        shutil.rmtree(copy, ignore_errors=True)
        return command(wrapper, *words)

    counted = tracer.count(run)
    assert counted["fdatasync"] and counted["rename"] and counted["openat"]
    failed = 0
    for fault in faults(counted, words[0]):
        status, text = run(tracer.tamper(fault))
        assert status in EXITS, f"{fault}: exit status {status}: {text}"
        failed += status != 0
        after(fault, status, text)
    return failed


def test_a_backup(tmp_path: Path, story: Story) -> None:
    """Exit 0: the copy has everything. Any other: what is there is no data directory, or a whole copy. The source is as it was."""
    directory, copy = tmp_path / "data", tmp_path / "copy"
    last = story.written

    def after(fault: str, status: int, text: str) -> None:
        for name, data in story.contents.items():
            if name != "LOCK":
                assert (directory / name).read_bytes() == data, f"{fault}: {name} of the source"
        if (copy / manifest.NAME).exists():
            found, state = state_in(copy)
            assert found == last and differing(state, story.state(last)) == "", fault
        else:
            assert status != 0, f"{fault}: {text}"
            if "SIGKILL" not in fault:
                assert not copy.exists() or not list(copy.iterdir()), f"{fault}: {sorted(copy.iterdir())}: {text}"

    words = ["backup", str(directory), str(copy)]
    assert each_fault(tmp_path, story.contents, words, after) > 20


def test_a_compaction(tmp_path: Path, story: Story) -> None:
    """The state is what it was, and the next compaction works."""
    directory = tmp_path / "data"

    def after(fault: str, _status: int, _text: str) -> None:
        found, state = state_in(directory)
        assert found == story.written and differing(state, story.state(found)) == "", fault
        assert command([], "compact", str(directory))[0] == 0, fault
        assert check(str(directory)).damage == [], fault

    assert each_fault(tmp_path, story.contents, ["compact", str(directory)], after) > 20


def test_a_compaction_of_a_full_disk(tmp_path: Path) -> None:
    """The way out of a disk that is full of Flo's own files: cut short anywhere, nothing is lost, and the next one makes room."""
    disk = Disk(tmp_path / "disk", 24 << 20)
    if disk.wrapper:
        pytest.skip("a mount is needed")
    try:
        directory = disk.where / "data"
        with Engine(str(directory), clock=Clock()) as engine:
            keys = [b"%d" % number for number in range(20_000)]
            with suppress(Overloaded):
                for at in range(0, len(keys), 100):
                    engine.kv.put_many([(key, key * 200, 0) for key in keys[at : at + 100]])
            kept = [key for key in keys if engine.kv.exists(key)]
            assert 2000 < len(kept) < len(keys)
            for at in range(0, len(kept), 200):
                engine.kv.delete_many(kept[at : at + 200 : 2])
            wanted = engine.log.next_index - 1, state_of(engine)
        contents = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}

        def after(fault: str, _status: int, _text: str) -> None:
            found = state_in(directory)
            assert found[0] == wanted[0] and differing(found[1], wanted[1]) == "", fault
            status, text = command([], "compact", str(directory))
            assert status == 0, f"{fault}: {text}"
            with Engine(str(directory), clock=Clock()) as engine:
                assert engine.log.accepts_adds, fault
                assert differing(state_of(engine), wanted[1]) == "", fault
            assert check(str(directory)).damage == [], fault

        assert each_fault(tmp_path, contents, ["compact", str(directory)], after) > 20
    finally:
        disk.close()


@pytest.mark.parametrize("what", ["a base", "a segment", "the manifest"])
def test_a_repair(tmp_path: Path, story: Story, what: str) -> None:
    """Whatever it was cut short at, the next one makes of the directory what one alone would have made."""
    directory = tmp_path / "data"
    names = sorted(story.contents)
    base = next(name for name in names if name.endswith(".base"))
    segments = [name for name in names if re.fullmatch(r"\d{20}\.seg", name)]
    assert len(segments) >= 2
    contents = dict(story.contents)
    if what == "the manifest":
        del contents[manifest.NAME]
    else:
        name = base if what == "a base" else segments[0]
        at = len(contents[name]) // 2
        contents[name] = contents[name][:at] + bytes(64) + contents[name][at + 64 :]
    put(directory, contents)
    assert command([], "check", "--repair", str(directory))[0] == 0
    wanted = state_in(directory)

    def after(fault: str, _status: int, _text: str) -> None:
        status, text = command([], "check", "--repair", str(directory))
        assert status == 0, f"{fault}: {text}"
        found = state_in(directory)
        assert found[0] == wanted[0] and differing(found[1], wanted[1]) == "", f"{fault}: {text}"

    assert each_fault(tmp_path, contents, ["check", "--repair", str(directory)], after) > 10
