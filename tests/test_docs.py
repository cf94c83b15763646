"""The documents say what the code does: tables are current, and names are those of the code. Their code blocks: test_code_blocks.py."""

import ast
import contextlib
import io
import re
import shlex
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from flo.cli import GROUPS, arrange
from flo.config import setting_rows
from flo.operations import BY_NAME, OPERATIONS, OPTIONS
from flo.proto.binary import encode_request, encode_response, namespace_hash
from tests.generate_docs import DOCS, http_page, python_page, redis_page, settings_page, wire_page
from tests.generate_man import MAN, commands
from tests.generate_man import page as man_page
from tests.support.code_blocks import blocks
from tests.support.processes import ROOT, FloProcess
from tests.support.programs import BEGIN, END, PROGRAMS

pytestmark = pytest.mark.computes


def test_tables_are_current() -> None:
    assert (DOCS / "settings.md").read_text() == settings_page(), "run `make docs`"
    page = (DOCS / "redis.md").read_text()
    assert page == redis_page(page), "run `make docs`"
    page = (DOCS / "wire-protocol.md").read_text()
    assert page == wire_page(page), "run `make docs`"
    page = (DOCS / "http.md").read_text()
    assert page == http_page(page), "run `make docs`"
    page = (DOCS / "python.md").read_text()
    assert page == python_page(page), "run `make docs`"


def test_the_table_of_programs_has_every_program_that_is_tested() -> None:
    """All but the versions, which are those of the last run that wrote it."""
    rows = (DOCS / "redis.md").read_text().partition(BEGIN)[2].partition(END)[0].splitlines()[2:]
    written = [(package, sentence) for _, package, _, sentence, _ in (re.split(r" *\| *", row) for row in rows)]
    assert written == [(each.package, each.sentence) for each in PROGRAMS], (
        "run pytest tests/system/test_redis_programs.py --programs-table"
    )


PAGES = sorted(MAN.glob("*.[1-9]"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_manual_pages_are_current(path: Path) -> None:
    text = path.read_text()
    assert text == man_page(text), "run `make docs`"


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is missing: apt-get install mandoc")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_manual_pages_are_clean_and_fit_80_columns(path: Path) -> None:
    lint = subprocess.run(["mandoc", "-Tlint", str(path)], capture_output=True, text=True)
    complaints = [line for line in lint.stdout.splitlines() if "referenced manual not found" not in line]  # they are not installed
    assert not complaints
    shown = subprocess.run(["mandoc", "-Tascii", "-Owidth=78", str(path)], capture_output=True, text=True, check=True).stdout
    wide = [line for line in (re.sub(".\b", "", line).expandtabs() for line in shown.splitlines()) if len(line) > 80]
    assert not wide


def test_every_command_setting_operation_and_option_is_in_the_manual() -> None:
    """And the other way round: the pages name no others."""
    flo_1, flo_toml_5, protocol_7 = (path.read_text() for path in (MAN / "flo.1", MAN / "flo.toml.5", MAN / "flo-protocol.7"))
    named = set(re.findall(r"^\.It Cm ([a-z]+(?: [a-z]+)*)(?: Oo| Ar|$)", flo_1, re.MULTILINE))
    assert named == {name for name, _ in commands()}
    rows = setting_rows()
    assert set(re.findall(r"^\.It Cm (\w+)$", flo_toml_5, re.MULTILINE)) == {row.name for row in rows}
    assert set(re.findall(r"^\.Ev (\w+) \.$", flo_toml_5, re.MULTILINE)) == {row.environment for row in rows}
    items = set(re.findall(r"^\.It Cm (\w+) 0x", protocol_7, re.MULTILINE))
    assert items == {o.name for o in OPERATIONS} | {o.name for o in OPTIONS}
    wire = (DOCS / "wire-protocol.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \| 0x", wire, re.MULTILINE)) == {o.name for o in OPERATIONS}
    assert set(re.findall(r"`((?:kv|namespace|cluster)_\w+)`", wire)) <= {o.name for o in OPERATIONS}


def test_the_hex_on_the_protocols_page_is_true() -> None:
    text = (DOCS / "wire-protocol.md").read_text()
    request, response = (bytes.fromhex(line) for line in re.search(r"```hex\n(46 4C.*?)\n```", text, re.DOTALL)[1].split("\n"))  # type: ignore[index]
    assert request == encode_request(BY_NAME["kv_put"], 7, 0, b"hello", b"world")
    assert response == encode_response(0, 7, (1).to_bytes(8, "little"))
    longer = encode_request(BY_NAME["kv_put"], 7, 0, b"hello", b"world", {"ttl": 60})
    tail = re.search(r"`(01 08 00 3C[ 0]*)`", text)
    assert tail and longer.endswith(bytes.fromhex(tail[1]))
    assert f"`{namespace_hash('default'):#018x}`" in text and f"`{namespace_hash('x'):#018x}`" in text


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_hex_of_a_workers_exchange_is_true() -> None:
    blocks = re.findall(r"```hex\n(46 4C.*?)\n```", (DOCS / "actions.md").read_text(), re.DOTALL)
    wait, answer, report = (bytes.fromhex("".join(re.split(" {4,}[^ ]*[a-z]", line)[0] for line in block.splitlines())) for block in blocks)
    assert wait == encode_request(BY_NAME["worker_await"], 2, 0, b"w1", b"", {"block": 20_000})
    payload = struct.pack("<H3sH10sqIQH", 3, b"313", 10, b"send-email", 1_796_052_562_243, 1, 30_000, 0) + b"hi"
    assert answer == encode_response(0, 2, payload)
    assert report == encode_request(BY_NAME["worker_complete"], 4, 0, b"313", b"sent", {"worker_id": b"w1", "attempt": 1})


# -- docs/operations.md ----------------------------------------------------------------------------


def said_to_operators() -> set[str]:
    """What each line of the operator's log begins with, as far as the source says it: up to the first thing that is filled in."""
    found = set()
    for path in (ROOT / "flo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            at = {"log": 1, "_tell": 1, "write": 1, "_notice": 0, "notice": 0}.get(node.func.attr, -1)
            if at < 0 or len(node.args) <= at:
                continue
            text = node.args[at]
            if isinstance(text, ast.JoinedStr):
                text = text.values[0]
            if isinstance(text, ast.Constant) and isinstance(text.value, str) and len(text.value) > 6:
                found.add(text.value)
    return found


@pytest.mark.slow
def test_every_line_of_the_log_is_explained() -> None:
    page = re.sub(r"^```.*?^```$", "", (ROOT / "docs" / "operations.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    known = re.findall(r"`([^`]+)`", page)
    lines = said_to_operators()
    assert len(lines) > 15
    for line in lines:
        assert any(line.startswith(word.split("…")[0].strip()) for word in known if len(word.split("…")[0]) > 4), line


def test_every_field_of_our_own_is_explained(shared_flo: FloProcess) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    with shared_flo.connect() as client:
        fields = re.findall(r"^(flo_\w+):", client.command("INFO").decode(), re.MULTILINE)
    assert len(fields) > 12
    for field in fields:
        assert f"`{field.replace('_default', '_NAME')}`" in page, field


# -- the commands in the documents -----------------------------------------------------------------


def test_every_flo_command_in_the_documents_is_one() -> None:
    """With its flags and arguments, wherever a page names it in code: `flo queue pause QUEUE on`."""
    count, named = 0, {name for name, _ in commands()} | set(GROUPS) | {"stream group"}
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]:
        text = page.read_text()
        lines = re.findall(r"`(flo [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL).replace("\n", " "))
        code = "".join(block.text for block in blocks(page) if block.kind in ("sh", "session"))
        lines += re.findall(r"^(?:\$ )?(?:python3 -m |\./)?(flo(?:\.pyz)? .*)$", code, re.MULTILINE)
        for line in lines:
            words = shlex.split(line, comments=True)[1:]
            if "…" in line or words[-1] == "COMMAND" or " ".join(words) in named:  # or the command is only named
                continue
            parser, words, _ = arrange(words)
            shown = io.StringIO()
            try:
                with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(io.StringIO()):
                    parser.parse_args(words)
            except SystemExit as e:
                assert e.code == 0, (page.name, line, shown.getvalue())
            count += 1
    assert count > 15


def test_a_lock_of_redis_py_cannot_be_released(shared_flo: FloProcess) -> None:
    """As docs/redis.md says; its own recipe is an example there."""
    import redis

    with redis.Redis(port=shared_flo.port) as client:
        lock = client.lock("docs:lock", timeout=5)
        assert lock.acquire(blocking=False)
        with pytest.raises(redis.ResponseError, match="runs no scripts"):
            lock.release()


def test_a_name_may_hold_three_things(shared_flo: FloProcess) -> None:
    """As docs/redis.md says."""
    with shared_flo.connect() as client:
        client.command("FLUSHDB")
        for command in (("SET", "three", "1"), ("LPUSH", "three", "m"), ("XADD", "three", "*", "f", "v"), ("LPUSH", "three:q", "m")):
            client.command(*command)
        assert (client.command("EXISTS", "three"), client.command("DBSIZE")) == (1, 1)
        assert client.command("KEYS", "three*") == client.command("SCAN", "0", "MATCH", "three*")[1] == [b"three"]
        assert client.command("RANDOMKEY") == b"three"
        assert client.command("SCAN", "0", "TYPE", "list")[1] == [b"three", b"three:q"]
        assert client.command("SCAN", "0", "TYPE", "stream")[1] == [b"three"]
        assert [client.command("EXPIRE", "three:q", "9"), client.command("TTL", "three:q")] == [1, 9]
        for kind in (b"string", b"list", b"stream"):
            assert client.command("TYPE", "three") == kind
            assert client.command("DEL", "three") == 1
        assert client.command("DEL", "three") == 0
        client.command("FLUSHDB")
        assert client.command("EXISTS", "three:q") == 0
