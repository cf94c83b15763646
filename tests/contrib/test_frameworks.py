"""The cases of each framework, run in the frameworks' own environment."""

from pathlib import Path

import pytest

from tests.support.frameworks import needs, run_cases

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apscheduler", "celery", "django", "dramatiq", "huey", "kombu", "taskiq"])
def test_framework(name: str, long_run: bool) -> None:
    needs(name)
    run_cases(HERE / f"cases_{name}.py", long_run=long_run)
