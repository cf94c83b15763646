"""The environment of the frameworks that flo/contrib/ serves: some of them need other versions than the tests do."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT

PYTHON = ROOT / ".tools" / "frameworks" / "bin" / "python"
HOW = "make tools"


def needs(*modules: str) -> None:
    """Skip the test if the environment lacks one of the modules."""
    found = PYTHON.exists() and subprocess.run([PYTHON, "-c", f"import {', '.join(modules)}"], capture_output=True).returncode == 0
    if not found:
        pytest.skip(f"{PYTHON.relative_to(ROOT)} has no {' or '.join(modules)}: {HOW}")


def run_cases(path: Path, *, long_run: bool) -> None:
    """Run a file of tests in the environment of the frameworks; its output is shown where one fails."""
    command = [str(PYTHON), "-m", "pytest", "-p", "no:cacheprovider", *(["--long", "--timeout", "3600"] if long_run else []), str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HUEY_SLOW_TESTS": "1"}  # Huey's own tests leave some out unless told
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
