"""Programs for Node, which print what they saw as one line of JSON. A test that lacks Node or a package is SKIPPED."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT

PACKAGES = ROOT / "tests" / "node" / "node_modules"
SECONDS = 60


def need(*packages: str) -> str:
    """The path of Node. Skips the test without it, or without one of the packages."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: apt-get install nodejs npm")
    for name in packages:
        if not (PACKAGES / name).is_dir():
            pytest.skip(f"{name} is not installed: cd tests/node && npm install --no-package-lock")
    return node


def run_node(script: Path, *words: object, packages: Sequence[str] = (), environment: dict[str, str] | None = None) -> Any:
    """What the script printed. It must exit with 0 and print no error."""
    command = [need(*packages), str(script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, env=os.environ | (environment or {}))
    assert done.returncode == 0 and not done.stderr, f"{script.name} exited with {done.returncode}: {done.stderr}{done.stdout}"
    return json.loads(done.stdout)
