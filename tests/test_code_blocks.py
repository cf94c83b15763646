"""Each code block of the documents does what the page says: CONTRIBUTING.md, "Code blocks"."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flo.errors import ConfigError
from tests.support.code_blocks import OTHERS, PARSERS, RUNNERS, Block, Sandbox, blocks, missing_tool
from tests.support.processes import ROOT, FloProcess

pytestmark = pytest.mark.computes

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks(page)]
# Their blocks need more than one server, and are run by tests/contrib/test_frameworks.py and tests/importer/test_contents.py.
ELSEWHERE = {"frameworks.md", "import.md"}
MAN = (ROOT / "man" / "flo.1").read_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FloProcess]:
    with FloProcess(tmp_path / "server") as server:
        yield server


@pytest.fixture
def sandbox(tmp_path: Path, server: FloProcess) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path, server)
    try:
        yield sandbox
    finally:
        sandbox.end()


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.page.name not in ELSEWHERE}), ids=lambda path: path.name)
def test_the_blocks_of_a_page_do_what_it_says(page: Path, sandbox: Sandbox) -> None:
    if missing_tool(page):
        pytest.skip(f"{missing_tool(page)} is missing: apt-get install curl redis-tools")
    for block in blocks(page):
        if block.kind not in OTHERS:
            sandbox.run(block)


def test_each_block_is_of_a_known_kind() -> None:
    for block in BLOCKS:
        if block.reason:
            assert block.kind in PARSERS, f"{block.name}: a block that is not run is one of {', '.join(PARSERS)}"
        else:
            assert block.kind in RUNNERS or block.kind in OTHERS, f"{block.name}: say why it is not run: <!-- not run: REASON -->"


def test_the_kinds_are_in_the_table() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Code blocks")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", text)) >= (RUNNERS.keys() | PARSERS.keys() | OTHERS) - {"session"}


WRONG = [
    ("sh", "flo kv get"),
    ("sh", "redis-cli -p 9000 NOSUCH"),
    ("sh", "curl localhost:9000/nosuch"),
    ("session", "$ redis-cli -p 9000 PING\nPING"),
    ("session", "$ redis-cli -p 9000\n127.0.0.1:9000> PING\nOK"),
    ("python", "print(1)  # 2"),
    ("python", "1 / 0"),
    ("python", "1 / 1  # raises ZeroDivisionError"),
    ("js", "console.log(1); // 2"),
    ("toml", "[server]\nprot = 9000"),
]


@pytest.mark.slow
def test_a_block_that_is_not_true_is_noticed(sandbox: Sandbox) -> None:
    noticed = []
    for kind, text in WRONG:
        try:
            sandbox.run(Block(Path("page"), 1, kind, f"{text}\n", "", ""))
        except (AssertionError, ConfigError):
            noticed.append((kind, text))
    assert noticed == WRONG


@pytest.mark.slow
def test_the_examples_of_the_manual_are_true(sandbox: Sandbox, server: FloProcess) -> None:
    sessions = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", MAN, re.MULTILINE | re.DOTALL)
    assert len(sessions) >= 3
    ran = sandbox.run_session("".join(sessions), "flo.1")
    one_liners = re.findall(r"^\.Dl (flo .*)$", MAN, re.MULTILINE)
    assert one_liners
    for line in one_liners:
        command = line.replace("./data", sandbox.data)
        if "check" in line:
            server.stop()
        assert sandbox.shell(command).returncode == 0, line
        ran += 1
    assert ran >= 10
