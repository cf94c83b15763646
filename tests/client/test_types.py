"""Flo's types, as other people's type checkers see them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

pytestmark = [pytest.mark.computes, pytest.mark.slow]

# The classes of these modules have bases from frameworks that are not in this environment. So pyright does not know the bases, nor the
# parameters and answers of the frameworks' types. It must know the types of all attributes.
FRAMEWORKS = re.compile(r"flo\.contrib\.(apscheduler|celery|django|django_sessions|dramatiq|huey|kombu|taskiq)\.")
UNKNOWN_THERE = re.compile(r"error: (Type of|Return type is) .*unknown$")
PROGRAM = """
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import flo.aio
from flo import calls
from flo.calls import Call, Entry, Message

def blocking(client: flo.Client) -> None:
    assert_type(client.kv.put("a", "b", ttl=5), int)
    assert_type(client.kv.get("a"), Entry | None)
    assert_type(client.kv.scan("a"), Iterator[tuple[bytes, bytes]])
    assert_type(client.queues.consume("q"), Iterator[Message])
    assert_type(client.actions.retry_many("a", "failed"), int)
    assert_type(client.ping(), bytes)
    assert_type(client.run(calls.kv_put("a", json=[1])), int)
    assert_type(calls.kv_get("a"), Call[Entry | None])
    client.kv.put("a", "b", tll=5)  # wrong
    client.kv.incr("a", "b")  # wrong
    client.queues.ack("q", 1.5)  # wrong

async def asynchronous(client: flo.aio.Client) -> None:
    assert_type(await client.kv.put("a", "b", ttl=5), int)
    assert_type(await client.kv.get("a"), Entry | None)
    assert_type(client.kv.scan("a"), AsyncIterator[tuple[bytes, bytes]])
    assert_type(await client.actions.retry_many("a", "failed"), int)
    assert_type(await client.run(calls.kv_put("a", json=[1])), int)
    await client.kv.put("a", "b", tll=5)  # wrong
    client.kv.get("a").value  # wrong
"""
WRONG = [number for number, line in enumerate(PROGRAM.splitlines(), 1) if "# wrong" in line]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_a_program_is_checked_by_mypy(program: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(program.parent / "cache"), str(program)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=program.parent, env=os.environ | {"MYPYPATH": str(ROOT)})
    assert [int(line) for line in re.findall(r"program\.py:(\d+): error", result.stdout)] == WRONG, result.stdout


@pytest.fixture(scope="module")
def pyright(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """pyright, and the environment in which Flo is installed for it."""
    found = shutil.which("pyright", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None or subprocess.run([found, "--version"], capture_output=True).returncode:
        pytest.skip("pyright is missing, or the Node that it downloads: pip install pyright")
    home = tmp_path_factory.mktemp("pyright")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    (packages,) = (home / "venv" / "lib").glob("python*/site-packages")
    shutil.copytree(ROOT / "flo", packages / "flo", ignore=shutil.ignore_patterns("__pycache__", "web"))
    return found, os.environ | {"VIRTUAL_ENV": str(home / "venv"), "PATH": f"{home / 'venv' / 'bin'}:{os.environ['PATH']}"}


def test_a_program_is_checked_by_pyright(program: Path, pyright: tuple[str, dict[str, str]]) -> None:
    result = subprocess.run([pyright[0], str(program)], capture_output=True, text=True, cwd=program.parent, env=pyright[1])
    assert sorted({int(line) for line in re.findall(r"program\.py:(\d+):\d+ - error", result.stdout)}) == WRONG, result.stdout


def test_every_public_name_has_a_known_type(pyright: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    command = [pyright[0], "--verifytypes", "flo", "--ignoreexternal"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=pyright[1]).stdout
    assert re.search(r"With known type: \d{3,}", shown), shown[-2000:]
    assert not [block for block in re.split(r"\n(?=flo\.)", shown)[1:] if not _lacks_a_framework(block)]


def _lacks_a_framework(block: str) -> bool:
    """Whether all errors of a symbol come from a framework that is not here."""
    return bool(FRAMEWORKS.match(block)) and all(UNKNOWN_THERE.search(line) for line in block.splitlines() if " error: " in line)
