"""Ten seconds of everything at once (loadtest/soak.py): kills, stops, compactions, clock steps; a model knows what must be there."""

import re
import subprocess
import sys

import pytest

from tests.support.processes import ROOT

pytestmark = pytest.mark.slow


def test_soak(long_run: bool) -> None:
    """Nothing acknowledged is lost, nothing comes back, nothing is invented. With --long, 200 kills."""
    bound = ["--kills", "200", "--seconds", "900"] if long_run else ["--seconds", "10"]
    done = subprocess.run([sys.executable, "loadtest/soak.py", *bound], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    kills = re.search(r"'killed': (\d+)", done.stdout)
    assert kills and int(kills[1]) >= (200 if long_run else 3), done.stdout
