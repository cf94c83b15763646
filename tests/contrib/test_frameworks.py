"""The cases of each framework, and the examples of docs/frameworks.md, run in the frameworks' own environment."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.code_blocks import prints
from tests.support.frameworks import PYTHON, needs, run_cases
from tests.support.processes import ROOT, FloProcess

HERE = Path(__file__).parent
EXAMPLE_SECONDS = 60


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apscheduler", "celery", "django", "dramatiq", "huey", "kombu", "taskiq"])
def test_framework(name: str, long_run: bool) -> None:
    needs(name)
    run_cases(HERE / f"cases_{name}.py", long_run=long_run)


def sections() -> dict[str, str]:
    """The sections of docs/frameworks.md by their headings."""
    _, *parts = re.split(r"^## ", (ROOT / "docs" / "frameworks.md").read_text(), flags=re.MULTILINE)
    return {heading: text for heading, _, text in (part.partition("\n") for part in parts)}


@pytest.mark.slow
@pytest.mark.parametrize("heading", sections())
def test_the_examples(heading: str, flo: FloProcess, tmp_path: Path) -> None:
    """A section's `app.py` is written, its command runs beside, and its other blocks print what they say."""
    needs(heading.lower())
    text = sections()[heading].replace(":9000", f":{flo.port}")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": f"{PYTHON.parent}:{os.environ['PATH']}"}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        if block.startswith("# app.py\n"):
            (tmp_path / "app.py").write_text(block)
    log = (tmp_path / "log").open("wb")
    workers = [
        subprocess.Popen(command.split(), cwd=tmp_path, env=environment, stdout=log, stderr=log)
        for command in re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    ]
    try:
        for block in blocks:
            if not block.startswith("# app.py\n"):
                run = subprocess.run(
                    [PYTHON, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=EXAMPLE_SECONDS
                )
                assert run.stdout.splitlines() == prints(block), run.stderr + (tmp_path / "log").read_text()
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(EXAMPLE_SECONDS)
        log.close()
