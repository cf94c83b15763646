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


pytestmark = [pytest.mark.computes, pytest.mark.slow]


def run(port: int, directory: Path, *flags: str) -> str:
    """What schemathesis says of the server. Fails if it finds anything."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(ROOT / "tests" / "http" / "schemathesis.toml"), "run",
        f"http://127.0.0.1:{port}/api/v1/openapi.json", "--seed", "1", "--warnings", "off", "--request-timeout", "20", *flags,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout, done.stdout
    return done.stdout


def test_schemathesis_finds_nothing(shared_flo: FloProcess, tmp_path: Path, long_run: bool) -> None:
    run(shared_flo.port, tmp_path, "--checks", "all", "--max-examples", "50" if long_run else "4")


def test_schemathesis_finds_no_way_around_the_secret(tmp_path: Path) -> None:
    """It tries wrong ones, each of which is answered after a second: of a few operations, and their examples only."""
    secret = tmp_path / "secret"
    secret.write_text("correct horse")
    secret.chmod(0o600)
    few = [word for name in ("kv_put", "kv_get", "queue_ack") for word in ("--include-operation-id", name)]
    with FloProcess(tmp_path / "data", "--secret-file", str(secret)) as server:
        run(
            server.port, tmp_path, "--checks", "ignored_auth,not_a_server_error", "--phases", "examples",
            "--header", "Authorization: Bearer correct horse", *few,
        )  # fmt: skip
