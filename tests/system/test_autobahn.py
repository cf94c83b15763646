"""Autobahn's test suite, the conformance suite of WebSocket (RFC 6455), as a client that fuzzes.

It runs on Python 2.7 only. The first run has 2.7's own pip put it into `.tools/`, in half a minute.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, FloProcess
from tests.support.websocket_echo import EchoServer

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

PACKAGE = "autobahntestsuite==25.10.1"
DIRECTORY = ROOT / ".tools" / PACKAGE
RUN_SECONDS = 300
RUN = f"import site; site.addsitedir({str(DIRECTORY)!r}); from autobahntestsuite.wstest import run; run()"
# Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, large messages, and odd sizes. The others, 12 and 13, compress.
CASES = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*")
GOOD, GOOD_CLOSE = ("OK", "NON-STRICT", "INFORMATIONAL"), ("OK", "INFORMATIONAL")


@pytest.fixture(scope="module")
def python() -> str:
    """A Python 2.7, for which Autobahn is in `DIRECTORY`."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which("python2.7"), *sorted(map(str, pyenv.glob("versions/2.7*/bin/python2.7")))]
    found = next((name for name in candidates if name and not _run([name, "-m", "pip", "--version"]).returncode), None)
    if found is None:
        pytest.skip("Autobahn's suite needs Python 2.7 with pip: pyenv install 2.7")
    if not DIRECTORY.is_dir():
        DIRECTORY.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DIRECTORY.parent) as name:
            target = Path(name) / "packages"
            done = _run([found, "-m", "pip", "install", "--quiet", "--target", str(target), PACKAGE])
            if done.returncode:
                pytest.skip(f"pip cannot install {PACKAGE}: {done.stdout.strip()[-300:]}")
            target.rename(DIRECTORY)
    return found


def _run(command: Sequence[str], directory: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=RUN_SECONDS, check=False
    )


def report(python: str, directory: Path, url: str, cases: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Autobahn's outcome of each case."""
    settings = {
        "outdir": str(directory / "reports"), "servers": [{"agent": "server", "url": url}], "cases": cases, "exclude-cases": [],
        "exclude-agent-cases": {},
    }  # fmt: skip
    spec = directory / "spec.json"
    spec.write_text(json.dumps(settings))
    done = _run([python, "-c", RUN, "--mode", "fuzzingclient", "--spec", str(spec)], directory)
    assert done.returncode == 0, done.stdout[-3000:]
    outcome: dict[str, dict[str, Any]] = json.loads((directory / "reports" / "index.json").read_text())["server"]
    return outcome


def is_good(case: dict[str, Any]) -> bool:
    return case["behavior"] in GOOD and case["behaviorClose"] in GOOD_CLOSE


def test_the_frames_of_an_echo_server(python: str, tmp_path: Path) -> None:
    with EchoServer() as server:
        outcome = report(python, tmp_path, f"ws://127.0.0.1:{server.port}", CASES)
    assert len(outcome) == 301
    assert [case for case in outcome.items() if not is_good(case[1])] == []


def test_the_frames_of_flo(python: str, tmp_path: Path) -> None:
    """Flo takes no text, with which many cases begin: it closes those with 1003."""
    with FloProcess(tmp_path / "data") as server:
        outcome = report(python, tmp_path, f"ws://127.0.0.1:{server.port}/ws", ("2.*", "3.*", "4.*", "5.*", "7.*"))
        assert server.alive()
    bad = [case for case in outcome.items() if not is_good(case[1])]
    assert [case for case in bad if case[1]["remoteCloseCode"] != 1003] == []
    assert (len(outcome), len(bad)) == (85, 21)
