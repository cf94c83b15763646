"""A server that compacts: by itself when its log has grown, when it is asked to, beside its clients; and what is left when the server
or the process that compacts dies in the middle."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flo.compactor import Compactor
from flo.config import Settings
from flo.engine import Engine, EngineSettings
from flo.errors import DirectoryInUse
from flo.ual import manifest, rewriter
from flo.ual.check import check
from flo.ual.files import Files
from flo.ual.idle import idle_seconds
from flo.ual.log import Log
from tests.support.processes import ROOT, FloProcess, wait_until

# Passes over all only, but where a test says otherwise: one over the tail begins when the machine happens to be idle
SETTINGS = {"FLO_LOG_SEGMENT_BYTES": "4mb", "FLO_KV_HISTORY_DEPTH": "1", "FLO_LOG_COMPACT_QUIET": "0s"}
VALUE_BYTES = 256 << 10
KEYS = 10


def server(directory: Path) -> FloProcess:
    return FloProcess(directory, environment=SETTINGS)


def bases(directory: Path) -> set[str]:
    """The files of bases that are there."""
    return {path.name for path in directory.iterdir() if path.suffix in (".base", ".hist")}


def listed(directory: Path) -> set[str]:
    """Those that the manifest names."""
    entries = manifest.read(Files(), str(directory)).entries
    return {name for entry in entries if entry.is_base for name in entry.files}


def overwrite(flo: FloProcess, rounds: int) -> None:
    """Set every key so many times."""
    with flo.connect() as client:
        for number in range(rounds):
            value = b"%d" % (number % 10) * VALUE_BYTES
            assert client.pipeline(*((b"SET", b"key-%d" % i, value) for i in range(KEYS))) == [b"OK"] * KEYS


def info(flo: FloProcess, field: str) -> str:
    """A line of INFO persistence."""
    with flo.connect() as client:
        text = client.command("INFO", "persistence").decode()
    lines: dict[str, str] = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return lines[field]


def ask(directory: Path) -> subprocess.CompletedProcess[str]:
    """`flo compact`."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "flo", "compact", str(directory)], env=environment, cwd=directory, capture_output=True, text=True
    )


def kill_and_look(flo: FloProcess) -> None:
    """After a kill all is there, as the first of ten rounds has set it."""
    flo.kill()
    assert check(str(flo.directory)).damage == []
    flo.start()
    with flo.connect() as client:
        assert client.command("DBSIZE") == KEYS
        assert client.pipeline(*(("GET", f"key-{i}") for i in range(KEYS))) == [b"0" * VALUE_BYTES] * KEYS


@pytest.mark.slow
def test_a_log_that_grows_is_compacted(tmp_path: Path) -> None:
    """Past 64 MiB, by itself, while it is written to; and all is there after a kill."""
    with server(tmp_path) as flo:
        overwrite(flo, 40)  # 100 MiB of 2.5 that are live
        wait_until(lambda: "compacted the log" in flo.output(), "a compaction")
        overwrite(flo, 1)
        wait_until(lambda: bases(tmp_path) == listed(tmp_path) != set(), "the files that were replaced being gone")
        assert int(info(flo, "flo_log_size")) < 60 << 20
        kill_and_look(flo)


@pytest.mark.slow
def test_the_growth_that_begins_a_compaction_can_be_set(tmp_path: Path) -> None:
    """0: never by itself. What is set while it runs counts at once, by Flo's name or by Redis's."""
    with (
        FloProcess(tmp_path, environment=SETTINGS | {"FLO_LOG_COMPACT_GROWTH": "0", "FLO_LOG_COMPACT_MIN": "8mb"}) as flo,
        flo.connect() as client,
    ):
        overwrite(flo, 10)  # 25 MiB
        assert "compacted" not in flo.output() and bases(tmp_path) == set()
        assert client.command("CONFIG", "SET", "log.compact_min", "1gb", "log.compact_growth", "100") == b"OK"
        overwrite(flo, 5)
        assert "compacted" not in flo.output() and bases(tmp_path) == set()
        assert client.command("CONFIG", "GET", "auto-aof-rewrite-*") == [
            b"auto-aof-rewrite-percentage", b"100", b"auto-aof-rewrite-min-size", b"%d" % (1 << 30)
        ]  # fmt: skip
        assert client.command("CONFIG", "SET", "auto-aof-rewrite-min-size", "8mb") == b"OK"
        wait_until(lambda: "compacted the log" in flo.output(), "a compaction")
        assert b"a whole number" in client.command("CONFIG", "SET", "auto-aof-rewrite-percentage", "-1").args[0].encode()


def test_a_server_is_asked_to_compact(tmp_path: Path) -> None:
    """`flo compact DIR` of a directory that is in use asks; what was acknowledged and what waits in the turn is kept."""
    with server(tmp_path) as flo:
        overwrite(flo, 3)
        asked = ask(tmp_path)
        assert (asked.returncode, asked.stderr) == (0, "")
        assert "by the server" in asked.stdout
        assert "compacted the log" in flo.output()  # it has waited for the end
        assert int(info(flo, "flo_log_size")) < 1.1 * KEYS * VALUE_BYTES
        with flo.connect() as client:
            assert client.command("GET", "key-1") == b"2" * VALUE_BYTES
        assert flo.stop() == 0
    assert check(str(tmp_path)).damage == []


@pytest.mark.slow
def test_nobody_else_gets_in(tmp_path: Path) -> None:
    """Whatever is done to the names in the directory, a second server, a program, a repair and an offline compaction are kept out, and
    `flo compact` and `flo backup` never signal a process that LOCK names: in another container that is somebody else's."""
    with FloProcess(tmp_path / "data") as flo, flo.connect() as client:
        assert client.command("SET", "a", "1") == b"OK"
        bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        for trick in "none", "lock removed", "lock names another", "control removed":
            if trick == "lock removed":
                (flo.directory / "LOCK").unlink()
            elif trick == "lock names another":
                (flo.directory / "LOCK").write_text(f"process {bystander.pid}, SIGUSR1 compacts\n")
            elif trick == "control removed":
                (flo.directory / "CONTROL").unlink()
            with pytest.raises(DirectoryInUse):
                Engine(str(flo.directory))
            for words in (["server", "start", "--port", "0", "--data-dir"], ["check", "--repair"]):
                done = subprocess.run([sys.executable, "-m", "flo", *words, str(flo.directory)], cwd=ROOT, capture_output=True, text=True)
                assert "repair" in "".join(words) or (done.returncode == 1 and "in use" in done.stderr), trick
            expected = 1 if trick == "control removed" else 0
            assert ask(flo.directory).returncode == expected
            out = str(tmp_path / trick)
            done = subprocess.run(
                [sys.executable, "-m", "flo", "backup", str(flo.directory), out], cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == expected, done.stderr
        assert bystander.poll() is None
        assert bystander.stdin is not None
        bystander.stdin.close()
        assert bystander.wait() == 0
        assert client.command("GET", "a") == b"1"


@contextmanager
def held_up(flo: FloProcess) -> Iterator[int]:
    """A pass whose process stands still in the middle; gives its id. Ends it."""
    os.kill(flo.pid, signal.SIGUSR1)  # as `flo compact`, but for waiting
    children = Path(f"/proc/{flo.pid}/task/{flo.pid}/children")
    pid = int(wait_until(lambda: children.read_text().split(), "the process that compacts")[0])
    # not before it is another program: until then the server itself stands still, in vfork
    wait_until(lambda: b"flo.ual.rewriter" in Path(f"/proc/{pid}/cmdline").read_bytes(), "its own program")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
def test_the_process_that_compacts_is_killed(tmp_path: Path) -> None:
    """The server says so, keeps all, and another pass works."""
    with server(tmp_path) as flo:
        overwrite(flo, 10)
        with held_up(flo) as pid:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: "could not be compacted" in flo.output(), "a warning")
        assert bases(tmp_path) == listed(tmp_path)
        overwrite(flo, 1)
        assert ask(tmp_path).returncode == 0
        wait_until(lambda: "compacted the log" in flo.output(), "a compaction")
        with flo.connect() as client:
            assert client.command("GET", "key-9") == b"0" * VALUE_BYTES


def test_a_server_stops_in_the_middle_of_a_pass(tmp_path: Path) -> None:
    """At once, and leaves neither a process nor files."""
    with server(tmp_path) as flo:
        overwrite(flo, 10)
        with held_up(flo) as pid:
            assert flo.stop() == 0
            assert gone(pid)
        assert bases(tmp_path) == listed(tmp_path)
        assert check(str(tmp_path)).damage == []


@pytest.mark.slow
def test_a_server_is_killed_in_the_middle_of_a_pass(tmp_path: Path) -> None:
    """The process that compacts ends by itself, and touches nothing of the next server's."""
    with server(tmp_path) as flo:
        overwrite(flo, 10)
        with held_up(flo) as pid:
            flo.kill()
            flo.start()
            overwrite(flo, 1)
            os.kill(pid, signal.SIGCONT)
            wait_until(lambda: gone(pid), "the end of the process that compacted for a dead server")
        assert ask(tmp_path).returncode == 0
        wait_until(lambda: "compacted the log" in flo.output(), "a compaction")
        with flo.connect() as client:
            assert client.pipeline(*(("GET", f"key-{i}") for i in range(KEYS))) == [b"0" * VALUE_BYTES] * KEYS
    assert check(str(tmp_path)).damage == []


@pytest.mark.parametrize("fails", [False, True], ids=["it has made a base", "it has failed"])
def test_a_process_whose_server_has_gone_says_nothing(tmp_path: Path, fails: bool) -> None:
    """It finds that when it wants to say something: its standard error is the server's, which may be a terminal."""
    with Engine(str(tmp_path), EngineSettings(durability="async")) as engine:
        engine.kv.put(b"key", b"value")
        engine.log.roll()
    if fails:
        next(tmp_path.glob("*01.seg")).unlink()
    before = manifest.read(Files(), str(tmp_path))
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "flo.ual.rewriter", str(tmp_path), "0", "1", "0", "0", "0"],
        stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    os.close(writer)
    os.close(reader)
    assert process.stderr is not None
    assert process.stderr.read() == b"" and process.wait(10) == 1
    process.communicate()
    assert manifest.read(Files(), str(tmp_path)) == before
    if not fails:
        with Engine(str(tmp_path)) as engine:  # what it had made and nobody adopted is removed
            found = engine.kv.get(b"key")
            assert found is not None and found.value == b"value" and not bases(tmp_path)


@pytest.mark.parametrize("said", ["not json", "[1]", "7", '{"entry": 1}', '{"entry": ["a", 1, 2, ""], "sources": [["b", 1, 0, ""]]}'])
def test_a_process_that_says_nonsense_ends_its_pass_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """Whatever it says, the log stays as it is and the next pass may begin."""
    handlers: dict[int, Callable[[int], None]] = {}

    class Watched:
        def watch(self, fd: int, handler: Callable[[int], None]) -> None:
            handlers[fd] = handler

        def unwatch(self, fd: int) -> None:
            del handlers[fd]

    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho '{said}'\nread answer\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    told: list[tuple[str, str]] = []
    with Engine(str(tmp_path / "data"), EngineSettings(segment_bytes=1 << 16)) as engine:
        engine.kv.put(b"key", b"value")
        engine.log.roll()
        compactor = Compactor(
            engine.log, Settings(history_depth=1, history_age=0), Watched(), lambda level, text: told.append((level, text))
        )
        compactor.start(engine.now)
        next(iter(handlers.values()))(1)
        compactor.close()
        assert not compactor.busy and not handlers
        assert told and told[0][0] == "warning" and "could not be compacted" in told[0][1]
        found = engine.kv.get(b"key")
        assert found is not None and found.value == b"value"
    assert check(str(tmp_path / "data")).damage == []


@pytest.mark.slow
def test_what_came_since_is_compacted_when_nobody_needs_the_machine(tmp_path: Path) -> None:
    """Long before the log has grown to twice its size; a start then reads it as what is compacted, and all is there after a kill."""
    with FloProcess(tmp_path, environment=SETTINGS | {"FLO_LOG_COMPACT_MIN": "1gb", "FLO_LOG_COMPACT_QUIET": "1s"}) as flo:
        overwrite(flo, 12)  # 30 MiB
        wait_until(lambda: "compacted the log's tail" in flo.output(), "a pass over the tail")
        wait_until(lambda: bases(tmp_path) == listed(tmp_path) != set(), "the files that were replaced being gone")
        assert int(info(flo, "flo_log_size_tail")) < 24 << 20 and info(flo, "flo_log_size_compacted") == "0"
        overwrite(flo, 1)
        kill_and_look(flo)


class Unwatched:
    """A watcher that nothing is heard by."""

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """As in Watcher."""

    def unwatch(self, fd: int) -> None:
        """As in Watcher."""


class Idle:
    """A clock, and a machine that is idle or not; what a compactor starts is noted instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.idle = 0.0
        self.started: list[str] = []
        monkeypatch.setattr("flo.compactor.monotonic", lambda: self.now)
        monkeypatch.setattr("flo.compactor.idle_seconds", lambda: self.idle)
        monkeypatch.setattr("flo.compactor.TAIL_BYTES_MIN", 8192)
        monkeypatch.setattr(Compactor, "start", lambda _, now, tail=False: self.started.append("tail" if tail else "all"))

    def turns(self, compactor: Compactor, seconds: float, share: float) -> list[str]:
        """So long passes, with a turn whenever one is due and `share` of a core idle; returns what was started."""
        end = self.now + seconds
        while (due := compactor.next_due()) is not None and self.now + due <= end:
            assert due >= 0
            self.now += due
            self.idle += share * due
            compactor.consider(0)
        self.now, self.idle = end, self.idle + share * (end - self.now)
        started, self.started = self.started, []
        return started


def roll(engine: Engine) -> None:
    """Fill a segment of 10,000 bytes."""
    engine.kv.put(b"key", b"v" * 9000)
    engine.log.roll()


def test_when_a_pass_over_the_tail_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as a core is idle; else once no segment was filled for a while; and once, for what there is."""
    idle = Idle(monkeypatch)
    with Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16)) as engine:
        rules = Settings()
        compactor = Compactor(engine.log, rules, Unwatched(), lambda *_: None)
        assert idle.turns(compactor, 100, share=2) == [], "there is no tail"
        roll(engine)
        compactor.consider(0)
        assert idle.turns(compactor, 1.2, share=1) == ["tail"]
        assert idle.turns(compactor, 100, share=1) == [] and compactor.next_due() is None
        roll(engine)
        compactor.consider(0)
        for _ in range(3):  # a segment each 9 s, and no core to spare
            assert idle.turns(compactor, 9, share=0.8) == []
            roll(engine)
            compactor.consider(0)
        assert idle.turns(compactor, 9, share=0.8) == []
        assert idle.turns(compactor, 2, share=0.8) == ["tail"]
        # nobody is to be told of what does not concern them
        rules.compact_quiet = 0
        roll(engine)
        compactor.consider(0)
        assert idle.turns(compactor, 100, share=2) == [] and compactor.next_due() is None
        rules.compact_quiet, rules.compact_growth = 10_000, 0
        compactor.consider(0)
        assert idle.turns(compactor, 100, share=2) == []
        rules.compact_growth = 100
        compactor.consider(0)
        assert idle.turns(compactor, 100, share=2) == ["tail"]
        monkeypatch.setattr(Log, "accepts_adds", property(lambda _: room[0]))
        room = [False]
        compactor._full_again = idle.now + 1000
        roll(engine)
        compactor.consider(0)
        assert idle.turns(compactor, 100, share=2) == [], "the disk is full"
        room[0] = True
        compactor.consider(0)
        assert idle.turns(compactor, 100, share=2) == ["tail"], "and has room again"
        rules.compact_min = 10_000  # the log has grown: all of it
        compactor.consider(0)
        assert idle.turns(compactor, 100, share=2) == ["all"] or idle.started == ["all"]


@pytest.mark.parametrize(("said", "limited"), [("max 100000\n", False), ("150000 100000\n", True), ("-1\n", False), ("50000\n", True)])
def test_where_cores_are_shared_out_none_is_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, limited: bool) -> None:
    """In a container with a quota, what is done besides is taken from the server's share, however idle the machine is."""
    (tmp_path / "quota").write_text(said)
    monkeypatch.setattr("flo.ual.idle._QUOTAS", (str(tmp_path / "none"), str(tmp_path / "quota")))
    assert (idle_seconds() == 0.0) == limited


def test_a_process_that_spoke_before_it_was_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said is heard at the end of the turn in which a pass over all was found to be due: it is nothing then."""
    heard: list[Callable[[int], None]] = []

    class Watched(Unwatched):
        def watch(self, fd: int, handler: Callable[[int], None]) -> None:
            heard.append(handler)

    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho '{}'\nread answer\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    told: list[str] = []
    with Engine(str(tmp_path / "data"), EngineSettings(segment_bytes=1 << 16)) as engine:
        roll(engine)
        compactor = Compactor(engine.log, Settings(), Watched(), lambda _, text: told.append(text))
        compactor.start(engine.now, tail=True)
        compactor.give_way()
        heard[0](1)
        compactor.close()
    assert not compactor.busy and told == []


def test_after_a_pass_it_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was done or gave way to a larger one, and though nobody sends a request: what came meanwhile is not forgotten."""
    script, noted = tmp_path / "python", tmp_path / "noted"
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr("flo.compactor.TAIL_BYTES_MIN", 8192)
    heard: list[Callable[[int], None]] = []

    class Watched(Unwatched):
        def watch(self, fd: int, handler: Callable[[int], None]) -> None:
            heard.append(handler)

    def process(said: str) -> None:
        script.write_text(f"#!/bin/sh\necho pass $8 >> {noted}\n{said}")  # the eighth argument: whether it is over the tail
        script.chmod(0o700)

    def passes() -> list[str]:
        return noted.read_text().split() if noted.exists() else []

    def turn() -> bool:
        if compactor.next_due() is not None:  # else a server would sleep for ever
            compactor.consider(0)
        return False

    def ended() -> bool:
        heard[-1](1)
        return compactor._process is None

    with Engine(str(tmp_path / "data"), EngineSettings(segment_bytes=1 << 16)) as engine:
        rules = Settings(compact_quiet=1)
        compactor = Compactor(engine.log, rules, Watched(), lambda *_: None)
        roll(engine)
        process("read answer\n")
        wait_until(lambda: turn() or passes() == ["pass", "1"], "a pass over the tail")
        rules.compact_min = 10_000  # the log has grown
        compactor.consider(0)
        wait_until(lambda: turn() or passes()[2:] == ["pass", "0"], "a pass over all instead")
        compactor.close()
        # one that is done
        noted.unlink()
        rules.compact_min = 1 << 30
        compactor.consider(0)
        process("echo '{\"done\": 1}'\n")
        wait_until(lambda: turn() or passes() == ["pass", "1"], "a pass over the tail")
        wait_until(ended, "its end")
        wait_until(lambda: turn() or passes()[2:4] == ["pass", "1"], "another, since the tail is still there")
        compactor.close()


def test_what_is_ephemeral_has_no_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no start that would have to read it."""
    idle = Idle(monkeypatch)
    with Engine(str(tmp_path), EngineSettings(segment_bytes=1 << 16, durability="ephemeral")) as engine:
        compactor = Compactor(engine.log, Settings(), Unwatched(), lambda *_: None)
        roll(engine)
        compactor.consider(0)
        assert idle.turns(compactor, 100, share=2) == []


@pytest.mark.slow
def test_a_pass_over_the_tail_gives_way(tmp_path: Path) -> None:
    """To one over all that somebody asks for: it ends at once, and the other begins."""
    with FloProcess(tmp_path, environment=SETTINGS | {"FLO_LOG_COMPACT_MIN": "1gb", "FLO_LOG_COMPACT_QUIET": "1s"}) as flo:
        overwrite(flo, 12)
        children = Path(f"/proc/{flo.pid}/task/{flo.pid}/children")
        pid = int(wait_until(lambda: children.read_text().split(), "the process that compacts the tail")[0])
        wait_until(lambda: b"flo.ual.rewriter" in Path(f"/proc/{pid}/cmdline").read_bytes(), "its own program")
        os.kill(pid, signal.SIGSTOP)
        assert ask(tmp_path).returncode == 0
        wait_until(lambda: "compacted the log in" in flo.output(), "the pass over all")
        assert gone(pid) and "log's tail" not in flo.output() and "could not" not in flo.output()
        assert bases(tmp_path) == listed(tmp_path) and int(info(flo, "flo_log_size_compacted")) > 0
    assert check(str(tmp_path)).damage == []


def test_naps_leave_time_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer runs from the end of a nap: one that ran on meanwhile would leave nothing but naps."""
    did: list[tuple[str, float]] = []
    monkeypatch.setattr("flo.ual.rewriter.time.sleep", lambda seconds: did.append(("nap", seconds)))
    monkeypatch.setattr("flo.ual.rewriter.signal.setitimer", lambda _, *seconds: did.append(("work", *seconds)))
    idle = [10.0]
    monkeypatch.setattr("flo.ual.rewriter.idle_seconds", lambda: idle[0])
    clock = [100.0]
    monkeypatch.setattr("flo.ual.rewriter.time.monotonic", lambda: clock[0])
    pace = rewriter._Pace(tail=False)
    pace.nap()
    assert did == [("nap", rewriter.NAP_SECONDS), ("work", rewriter.WORK_SECONDS)]
    clock[0], idle[0] = 101.0, 10.9  # nine tenths of a core were idle
    pace.nap()
    assert did[2:] == [("work", rewriter.WORK_SECONDS)]
    clock[0], idle[0] = 102.0, 10.95
    pace.nap()
    assert did[3:] == [("nap", rewriter.NAP_SECONDS), ("work", rewriter.WORK_SECONDS)]


def test_over_the_tail_what_it_takes_itself_counts_as_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """It naps long where there is no core but for it, and not where there is."""
    naps: list[float] = []
    monkeypatch.setattr("flo.ual.rewriter.time.sleep", naps.append)
    monkeypatch.setattr("flo.ual.rewriter.signal.setitimer", lambda *_: None)
    idle, took, clock = [10.0], [0.0], [100.0]
    monkeypatch.setattr("flo.ual.rewriter.idle_seconds", lambda: idle[0])
    monkeypatch.setattr("flo.ual.rewriter.time.process_time", lambda: took[0])
    monkeypatch.setattr("flo.ual.rewriter.time.monotonic", lambda: clock[0])
    pace = rewriter._Pace(tail=True)
    clock[0], idle[0], took[0] = 101.0, 10.05, 0.9
    pace.nap()
    assert naps == []
    clock[0], idle[0], took[0] = 102.0, 10.4, 1.3
    pace.nap()
    assert naps == [rewriter.TAIL_NAP_SECONDS]
