"""What a type checker knows of decorated functions."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

pytestmark = [pytest.mark.computes, pytest.mark.slow]

MODULE = """
import flo.aio
from flo import Worker
from flo.worker import Context

worker = Worker()


@worker.action("send-email", max_attempts=5, rate=(10, 1000))
def send_email(to: str, subject: str = "") -> int:
    return 1


@worker.action("fetch")
async def fetch(ctx: Context, url: str) -> bytes:
    return b""


@worker.action("with-context")
def with_context(ctx: Context, n: int) -> list[str]:
    return []


@worker.queue("jobs")
def job(payload: dict[str, int]) -> None: ...


reveal_type(send_email.invoke(to="a@b"))
reveal_type(send_email.invoke("a@b").result())
reveal_type(send_email(to="a@b"))
reveal_type(send_email.options(priority=1).invoke(to="a@b"))
reveal_type(fetch.invoke(url="x").result(timeout=1))
reveal_type(with_context.invoke(3).result())
reveal_type(with_context.run("17"))
reveal_type(job)


async def use() -> None:
    reveal_type(await fetch(url="x"))
    async with flo.aio.Client() as client:
        reveal_type(await send_email.via(client).invoke(to="a@b"))
        reveal_type(await fetch.options(priority=1).via(client).run("17").result())


send_email.invoke(to=1)
send_email.invoke()
fetch.invoke(urls="x")
send_email.options(urgency=1)
"""
REVEALED = [
    "flo.worker.run.Run[int]",
    "int",
    "int",
    "flo.worker.run.Run[int]",
    "bytes",
    "list[str]",
    "flo.worker.run.Run[list[str]]",
    "def (payload: dict[str, int])",
    "bytes",
    "flo.worker.run.AsyncRun[int]",
    "bytes",
]


def test_mypy_knows_the_arguments_and_the_result(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE)
    command = [sys.executable, "-m", "mypy", str(tmp_path / "module.py")]  # in this checkout, whose cache is warm if `make lint` has run
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    revealed = re.findall(r'Revealed type is "(.*)"', ran.stdout.replace("builtins.", ""))  # older versions of mypy say it
    assert revealed == REVEALED, ran.stdout + ran.stderr
    errors = re.findall(r"module.py:\d+: error: (.*)", ran.stdout)
    assert len(errors) == 4 and re.search('"int"; expected "str"', errors[0]), errors
    assert all(
        re.search(word, error) for word, error in zip(("Missing positional argument", "urls", "urgency"), errors[1:], strict=True)
    ), errors
