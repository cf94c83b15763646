"""schemathesis (https://schemathesis.readthedocs.io) against a server: requests made from the OpenAPI document, right ones and wrong ones,
and every check of the answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, FloProcess

pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install schemathesis")

SECONDS = 280


@pytest.mark.slow
def test_schemathesis_finds_nothing(shared_flo: FloProcess, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    command = [
        str(program), "--config-file", str(ROOT / "tests" / "http" / "schemathesis.toml"), "run",
        f"http://127.0.0.1:{shared_flo.port}/api/v1/openapi.json", "--checks", "all", "--seed", "1", "--max-examples", "50",
        "--warnings", "off", "--request-timeout", "20",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout, done.stdout
