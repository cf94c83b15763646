"""Redis's own test suite, run against a server that listens already: where it comes from, and how one unit is run.

The suite is in Debian's source package of redis, fetched by apt into `.tools/`; nothing of it is in this repository. `redis_suite.tcl`
runs a unit; this module reads its report.
"""

import base64
import os
import re
import select
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import ROOT, RespClient

VERSION = "7.0."  # the version whose tests redis_suite_known.py names
APT_SECONDS = 300
UNIT_SECONDS = 600
SILENT_SECONDS = 15  # after so long without a line of the report, see whether a test waits for a reply that will not come
DRIVER = Path(__file__).with_suffix(".tcl")
FLAGS = ("--singledb", "--ignore-encoding", "--ignore-digest")  # no SELECT, OBJECT ENCODING or DEBUG DIGEST where tests can do without


class Missing(Exception):
    """The suite cannot be had here; the text says why."""


class Outcome(NamedTuple):
    """The report of a unit, by the names of its tests. The second test of a name is `name (2)`."""

    passed: set[str]
    failed: dict[str, str]  # with the reason, as the suite words it
    ignored: int  # tests that do not run against an external server


# -- the sources -----------------------------------------------------------------------------------


def suite_directory() -> Path:
    """The unpacked sources of Redis, from `.tools/` or from Debian. Raises `Missing`."""
    if shutil.which("tclsh") is None:
        raise Missing("tclsh is missing: apt-get install tcl")
    tools = ROOT / ".tools"
    for found in tools.glob(f"redis-{VERSION}*"):
        return found
    if shutil.which("apt-get") is None:
        raise Missing("Redis's suite comes from Debian's source package, and apt-get is missing")
    tools.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tools) as name:
        archive = _download(Path(name))
        with tarfile.open(archive) as tar:
            tar.extractall(name, filter="data")
        (unpacked,) = Path(name).glob(f"redis-{VERSION}*/")
        return unpacked.rename(tools / unpacked.name)


def _download(directory: Path) -> Path:
    """Have apt fetch the source package into a directory, from the mirrors that the machine has its packages from. Returns the archive.

    apt keeps its lists in the directory too, so that the machine's own stay as they are."""
    mirrors = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", "Origin: Debian")
    sources, lists, cache = directory / "sources.list", directory / "lists", directory / "cache"
    sources.write_text("".join(f"deb-src {line} main\n" for line in sorted(set(mirrors.splitlines()))))
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    settings = {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/nonexistent", "Dir::State::lists": lists, "Dir::Cache": cache}
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    _run(*apt, "update")
    _run(*apt, "source", "--download-only", "redis", directory=directory)
    found = list(directory.glob(f"redis_{VERSION}*.orig.tar.*"))
    if not found:
        raise Missing(f"Debian's redis is not {VERSION}x here, the version whose tests redis_suite_known.py names")
    return found[0]


def _run(*words: str, directory: Path = ROOT) -> str:
    try:
        done = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=APT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"Redis's source package could not be had: {words[0]} took over {APT_SECONDS} s") from None
    if done.returncode:
        raise Missing(f"Redis's source package could not be had: {done.stderr.strip()[-300:]}")
    return done.stdout


# -- a run -----------------------------------------------------------------------------------------


def run_unit(directory: Path, unit: str, port: int, restart: Callable[[], object]) -> Outcome:
    """Run one unit, such as `unit/type/stream`, against the server on a port. `restart` restarts it, on the same port.

    Raises `TimeoutError` if it does not end, `RuntimeError` if it ends without a whole report."""
    command = ["tclsh", str(DRIVER), unit, "--host", "127.0.0.1", "--port", str(port), *FLAGS]
    process = subprocess.Popen(command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdin is not None
    stdin = process.stdin.fileno()

    def restart_and_say_so() -> None:
        restart()
        os.write(stdin, b"\n")

    try:
        return _outcome(_lines(process, port), restart_and_say_so)
    finally:
        process.kill()
        process.communicate()


def _lines(process: subprocess.Popen[bytes], port: int) -> Iterator[str]:
    """The lines that the process prints, to its end. Raises `TimeoutError`."""
    assert process.stdout is not None
    deadline = time.monotonic() + UNIT_SECONDS
    rest = b""
    executed = 0
    while time.monotonic() < deadline:
        if not select.select([process.stdout], [], [], SILENT_SECONDS)[0]:
            executed = _end_a_vain_wait(port, executed)
            continue
        read = os.read(process.stdout.fileno(), 1 << 16)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        yield from (line.decode() for line in lines)
    raise TimeoutError(f"the unit did not end in {UNIT_SECONDS} s")


def _end_a_vain_wait(port: int, before: int) -> int:
    """Close all connections of a server that has executed nothing since it had executed `before` commands: the test that waits for a reply
    fails then, and the next one runs. Returns how many commands the server has executed."""
    with suppress(OSError), RespClient(port, 10) as client:
        match = re.search(rb"total_commands_processed:(\d+)", client.command("INFO", "stats"))
        assert match is not None
        executed = int(match[1])
        if executed in (before, before + 1):  # the one is the last look's INFO
            client.command("CLIENT", "KILL", "SKIPME", "yes")
        return executed
    return before


def _outcome(lines: Iterable[str], restart: Callable[[], object]) -> Outcome:
    """Put together the report of `redis_suite.tcl`: lines of a word, and a text in base64. Restart the server if the report asks for it.
    Raises `RuntimeError` if the report is not whole."""
    passed: set[str] = set()
    failed: dict[str, str] = {}
    ignored = 0
    seen: Counter[str] = Counter()
    name = ""  # of the test that runs
    for line in lines:
        word, _, encoded = line.partition(" ")
        if word not in ("testing", "ok", "err", "ignore", "restart", "done"):
            raise RuntimeError(f"the suite ended with: {line}")
        first, _, more = base64.b64decode(encoded).decode().strip().partition("\n")
        if word == "testing":
            seen[first] += 1
            name = first if seen[first] == 1 else f"{first} ({seen[first]})"
        elif word == "ignore":
            ignored += 1
        elif word == "restart":
            restart()
        elif word == "done":
            return Outcome(passed, failed, ignored)
        elif not name:
            raise RuntimeError(f"the suite failed between tests: {first} {more}")
        else:
            if word == "ok":
                passed.add(name)
            else:
                failed[name] = _reason(more)
            name = ""
    raise RuntimeError(f"the suite ended in the middle of {name or 'a unit'}")


def _reason(text: str) -> str:
    """The reason of a failure. For an error that is no failed assertion the suite cuts the message's start off, and Tcl's own account of
    the error follows, which begins with the whole message."""
    account, traced, _ = text.partition("\n    while executing")
    return account.rpartition("\n")[2] if traced else text
