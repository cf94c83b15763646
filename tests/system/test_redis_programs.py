"""Programs and libraries written for Redis, unmodified from PyPI and npm, do their main job in the profile `redis`.

With `--programs-table` the table of docs/redis.md is written anew from what was run here (tests/support/programs.py).
"""

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.processes import ROOT, FloProcess
from tests.support.programs import BEGIN, END, PROGRAMS, Program, table

pytestmark = [pytest.mark.slow, pytest.mark.waits, pytest.mark.timeout(600)]  # the first to run installs the packages

PROGRAM_SECONDS = 120
ran: dict[str, str] = {}  # versions, by package


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    """A server for programs written for Redis."""
    with FloProcess(tmp_path_factory.mktemp("programs") / "data", "--resp-profile", "redis") as flo:
        yield flo


@pytest.mark.parametrize("program", PROGRAMS, ids=[each.package for each in PROGRAMS])
def test_it_does_its_main_job(server: FloProcess, program: Program) -> None:
    command = program.command(server.port)
    with server.connect() as client:
        client.command("FLUSHALL")
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert server.alive() and "error" not in server.output()
    ran[program.package] = program.version()


def test_the_table_tells_of_them(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--programs-table"):
        pytest.skip("writes docs/redis.md: --programs-table")
    assert ran.keys() == {each.package for each in PROGRAMS}, "some program did not run"
    path = ROOT / "docs" / "redis.md"
    head, _, rest = path.read_text().partition(BEGIN)
    path.write_text(head + BEGIN + table(ran) + END + rest.partition(END)[2])
