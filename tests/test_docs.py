"""The documents say what the code does: tables are current, the README's session gives the README's answers."""

import re
import shutil
import subprocess

import pytest

from tests.generate_docs import DOCS, redis_page, settings_page, wire_page
from tests.processes import ROOT, FloProcess


def test_tables_are_current() -> None:
    assert (DOCS / "settings.md").read_text() == settings_page(), "run `make docs`"
    page = (DOCS / "redis.md").read_text()
    assert page == redis_page(page), "run `make docs`"
    page = (DOCS / "wire-protocol.md").read_text()
    assert page == wire_page(page), "run `make docs`"


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is missing: apt-get install redis-tools")
def test_the_readme_session_is_true(flo: FloProcess) -> None:
    text = (ROOT / "README.md").read_text()
    session = re.search(r"```\n\$ redis-cli -p 9000\n(.*?)```", text, re.DOTALL)
    assert session
    lines = session[1].strip().splitlines()
    at = 0
    while at < len(lines):
        prompt = re.fullmatch(r"127\.0\.0\.1:9000> (.*)", lines[at])
        assert prompt, lines[at]
        at += 1
        expected = []
        while at < len(lines) and not lines[at].startswith("127.0.0.1:9000>"):
            expected.append(lines[at])
            at += 1
        shown = subprocess.run(
            ["redis-cli", "--no-raw", "-p", str(flo.port)], input=prompt[1] + "\n", capture_output=True, text=True, check=True
        ).stdout.strip()
        assert shown.splitlines() == expected, prompt[1]
