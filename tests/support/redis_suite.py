"""Redis's own test suite, run against a server that listens already: where it comes from, and how one unit is run.

The suite is in Debian's source package of redis, fetched by apt into `.tools/`; nothing of it is in this repository. `redis_suite.tcl`
runs a unit; this module reads what it reports.
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
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import ROOT, RespClient

VERSION = "7.0."  # whose suite the list of known failures is about
APT_SECONDS = 300
SILENT_SECONDS = 15  # after so long without a word, the server is asked whether it has anything to do
UNIT_SECONDS = 600
OUTSIDE = "outside the tests: "
DRIVER = Path(__file__).with_suffix(".tcl")
FLAGS = ("--singledb", "--ignore-encoding", "--ignore-digest")


class Missing(Exception):
    """The suite cannot be had here; the text says why."""


class Outcome(NamedTuple):
    """What a unit reported, by the names of its tests; a name's second test is `name (2)`."""

    passed: set[str]
    failed: dict[str, str]  # with the reason, as the suite words it
    ignored: int


def suite_directory() -> Path:
    """The unpacked source of Redis, from `.tools/` or from Debian. Raises `Missing`."""
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
    """Have apt fetch the source package with its own configuration: the machine's mirrors, as sources. Returns the archive."""
    for part in ("lists/partial", "cache/archives/partial"):
        (directory / part).mkdir(parents=True)
    mirrors = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", "Origin: Debian")
    sources = directory / "sources.list"
    sources.write_text("".join(f"deb-src {line} main\n" for line in sorted(set(mirrors.splitlines()))))
    options = [
        f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=/nonexistent",
        f"Dir::State::lists={directory}/lists", f"Dir::Cache={directory}/cache",
    ]  # fmt: skip
    apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    _run(*apt, "update")
    _run(*apt, "source", "--download-only", "redis", directory=directory)
    found = list(directory.glob(f"redis_{VERSION}*.orig.tar.*"))
    if not found:
        raise Missing(f"the mirror's redis is not {VERSION}x, whose suite this is about")
    return found[0]


def _run(*words: str, directory: Path = ROOT) -> str:
    try:
        done = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=APT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"{' '.join(words[:2])} took over {APT_SECONDS} s") from None
    if done.returncode:
        raise Missing(f"Redis's source package could not be had: {done.stderr.strip()[-300:]}")
    return done.stdout


def run_unit(directory: Path, unit: str, port: int) -> Outcome:
    """Run one unit, such as `unit/type/stream`, against the server on a port.

    Raises `TimeoutError` if it does not end, `RuntimeError` if it dies."""
    command = ["tclsh", str(DRIVER), unit, "--host", "127.0.0.1", "--port", str(port), *FLAGS]
    process = subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        return _outcome(_lines(process, port))
    finally:
        process.kill()
        process.wait()


def _lines(process: subprocess.Popen[bytes], port: int) -> Iterator[str]:
    """What the process prints, to its end. A test that waits for a reply that will not come has its connections closed: it fails, and
    the next one runs."""
    assert process.stdout is not None
    deadline = time.monotonic() + UNIT_SECONDS
    rest = b""
    executed = 0
    while True:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the unit did not end in {UNIT_SECONDS} s")
        if not select.select([process.stdout], [], [], SILENT_SECONDS)[0]:
            executed = _close_if_idle(port, executed)
            continue
        read = os.read(process.stdout.fileno(), 1 << 16)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        yield from (line.decode() for line in lines)


def _close_if_idle(port: int, before: int) -> int:
    """End every other connection of a server that has executed nothing since it had executed `before`. Returns what it has executed."""
    with suppress(OSError), RespClient(port, 10) as client:
        match = re.search(rb"total_commands_processed:(\d+)", client.command("INFO", "stats"))
        assert match is not None
        executed = int(match[1])
        if executed <= before + 1:  # but for this INFO itself
            client.command("CLIENT", "KILL", "SKIPME", "yes")
        return executed
    return before


def _outcome(lines: Iterable[str]) -> Outcome:
    """Put together what `redis_suite.tcl` reports: a word, and a text in base64."""
    passed: set[str] = set()
    failed: dict[str, str] = {}
    seen: Counter[str] = Counter()
    name, ignored = "", 0
    for line in lines:
        status, _, encoded = line.partition(" ")
        if not re.fullmatch(r"testing|ok|err|exception|ignore|done", status):
            raise RuntimeError(f"the suite ended with: {line}")
        first, _, more = base64.b64decode(encoded).decode().strip().partition("\n")
        if status == "testing":
            seen[first] += 1
            name = first if seen[first] == 1 else f"{first} ({seen[first]})"
        elif status == "ok":
            passed.add(name)
        elif status == "err":
            failed[name] = _reason(more)
        elif status == "exception":
            failed[OUTSIDE + more.strip().partition("\n")[0]] = first
        elif status == "ignore":
            ignored += 1
        else:
            return Outcome(passed, failed, ignored)
    raise RuntimeError(f"the suite ended in the middle of {name}")


def _reason(text: str) -> str:
    """A failure without Tcl's account of where it was: the last line before that."""
    said, traced, _ = text.partition("\n    while executing")
    return said.rpartition("\n")[2] if traced else said
