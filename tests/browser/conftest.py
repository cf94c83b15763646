"""One Chromium for all scenarios of a run. Without it, or a package that drives it, they are SKIPPED."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import need, run_node
from tests.support.processes import STOP_SECONDS, FloProcess

DIRECTORY = Path(__file__).parent


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    """The endpoint of a running Chromium."""
    node = need("playwright-core", "axe-core")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium fonts-noto-color-emoji")
    with subprocess.Popen(
        [node, str(DIRECTORY / "harness.mjs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"FLO_CHROMIUM_PROGRAM": program},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        endpoint = process.stdout.readline().strip()
        assert endpoint, "Chromium does not start; what it says is above"
        yield endpoint
        process.stdin.close()
        assert process.wait(STOP_SECONDS) == 0


@pytest.fixture
def play(chromium: str, tmp_path: Path) -> Callable[..., Any]:
    """`play(name, server, *words)` runs tests/browser/NAME.mjs against a server, and gives what it returned. The environment's
    FLO_SCREENSHOTS names a folder that keeps the screenshots; else they are in the test's own."""
    folder = Path(os.environ.get("FLO_SCREENSHOTS", tmp_path / "screenshots")).absolute()

    def run(name: str, server: FloProcess, *words: object) -> Any:
        base = f"http://127.0.0.1:{server.port}"
        return run_node(DIRECTORY / f"{name}.mjs", base, folder, *words, environment={"FLO_CHROMIUM": chromium})

    return run
