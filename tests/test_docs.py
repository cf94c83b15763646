"""The documents say what the code does: tables are current, the README's session gives the README's answers."""

import ast
import contextlib
import io
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flo
from flo.cli import GROUPS, arrange
from flo.config import setting_rows
from flo.operations import BY_NAME, OPERATIONS, OPTIONS
from flo.proto.binary import encode_request, encode_response, namespace_hash
from tests.generate_docs import DOCS, http_page, python_page, redis_page, settings_page, wire_page
from tests.generate_man import MAN, commands
from tests.generate_man import page as man_page
from tests.support.processes import ROOT, FloProcess, wait_until
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


@pytest.fixture
def nine_thousand(tmp_path: Path) -> Iterator[tuple[FloProcess, Path]]:
    """A server for the examples, and a directory with a `flo` that speaks to it."""
    with FloProcess(tmp_path / "data") as server:
        program = tmp_path / "flo"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m flo "$@"\n')
        program.chmod(0o755)
        yield server, program


@pytest.mark.slow
def test_the_examples_of_the_manual_are_true(nine_thousand: tuple[FloProcess, Path]) -> None:
    server, program = nine_thousand
    text = (MAN / "flo.1").read_text()
    sessions = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.MULTILINE | re.DOTALL)
    assert len(sessions) >= 3
    ran = run_session("".join(sessions), server, program)
    one_liners = re.findall(r"^\.Dl (flo .*)$", text, re.MULTILINE)
    assert one_liners
    for line in one_liners:
        command = line.replace("./data", str(server.directory))
        if "check" in line:
            server.stop()
        assert shell(command, server, program).returncode == 0, line
        ran += 1
    assert ran >= 10


@pytest.mark.slow
def test_the_examples_of_time_series_are_true(nine_thousand: tuple[FloProcess, Path]) -> None:
    server, program = nine_thousand
    text = (DOCS / "timeseries.md").read_text().partition("## Command line")[2]
    session = re.search(r"```\n(\$ flo ts .*?)```", text, re.DOTALL)
    assert session
    assert run_session(session[1], server, program) == 7


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
def test_the_time_series_of_the_readme_are_true(nine_thousand: tuple[FloProcess, Path]) -> None:
    server, program = nine_thousand
    lines = re.findall(r"^ {4}((?:curl .*/write|python3 -m flo ts) .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) == 2
    done = [shell(line.replace(":9000", f":{server.port}").replace("python3 -m flo", "flo"), server, program) for line in lines]
    assert [one.returncode for one in done] == [0, 0] and "load{host=web-1} value  last 0.7" in done[1].stdout


def shell(command: str, server: FloProcess, program: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of an example."""
    environment = os.environ | {"FLO_PORT": str(server.port), "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=program.parent, timeout=30
    )


def run_session(text: str, server: FloProcess, program: Path) -> int:
    """Run the lines that begin with `$ ` and compare what they print with the lines behind; returns how many there were."""
    count = 0
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        assert shell(command, server, program).stdout.rstrip("\n") == expected.rstrip("\n"), command
        count += 1
    return count


def test_the_hex_on_the_protocols_page_is_true() -> None:
    text = (DOCS / "wire-protocol.md").read_text()
    request, response = (bytes.fromhex(line) for line in re.search(r"```\n(46 4C.*?)\n```", text, re.DOTALL)[1].split("\n"))  # type: ignore[index]
    assert request == encode_request(BY_NAME["kv_put"], 7, 0, b"hello", b"world")
    assert response == encode_response(0, 7, (1).to_bytes(8, "little"))
    longer = encode_request(BY_NAME["kv_put"], 7, 0, b"hello", b"world", {"ttl": 60})
    tail = re.search(r"`(01 08 00 3C[ 0]*)`", text)
    assert tail and longer.endswith(bytes.fromhex(tail[1]))
    assert f"`{namespace_hash('default'):#018x}`" in text and f"`{namespace_hash('x'):#018x}`" in text


def prints(block: str) -> list[str]:
    """The lines that an example prints, as its comments say."""
    return [line.split("  # ")[1] for line in block.splitlines() if line.lstrip().startswith("print(") and "  # " in line]


def run_workers(script: str, server: FloProcess, directory: Path) -> None:
    """Run a worker until it has printed what it is to print and waits for more; then start it once more, as a second one."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    workers: list[subprocess.Popen[bytes]] = []
    try:
        with flo.Client(f"flo://127.0.0.1:{server.port}") as client:
            for number in (1, 2):
                output = directory / f"worker-{number}"
                with output.open("wb") as file:
                    workers.append(
                        subprocess.Popen(
                            [sys.executable, "-c", script], stdout=file, stderr=subprocess.STDOUT, cwd=directory, env=environment
                        )
                    )
                wait_until(
                    lambda: client.status()["waiting"] == number or any(worker.poll() is not None for worker in workers),  # noqa: B023
                    "a worker that waits for work",
                )
                assert workers[-1].poll() is None, output.read_text()
                assert output.read_text().splitlines() == (prints(script) if number == 1 else [])
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def run_until_told(script: str, directory: Path) -> None:
    """Run a `flo.Worker` until it has printed what it is to print; then SIGTERM ends it."""
    output = directory / "worker"
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=file, cwd=directory, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: output.read_text().splitlines() == prints(script) or process.poll() is not None, "the worker's output")
        process.terminate()
        assert process.wait(30) == 0 and output.read_text().splitlines() == prints(script)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(set(DOCS.glob("*.md")) - {DOCS / "frameworks.md"})], ids=lambda path: path.name
)
def test_python_examples_run(page: Path, nine_thousand: tuple[FloProcess, Path]) -> None:
    """Every block of Python in the documents, against a server where it names one. tests/contrib/ runs those of frameworks.md."""
    server, program = nine_thousand
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        script = block.replace(":9000", f":{server.port}").replace("port=9000", f"port={server.port}")
        if "while True:" in block and "break" not in block:
            run_workers(script, server, program.parent)
            continue
        if "worker.run(" in block:
            run_until_told(script, program.parent)
            continue
        result = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=program.parent,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        expected = prints(block)
        raises = re.search(r"# raises (\S+)", block)
        if raises:
            assert raises[1] in result.stderr, result.stderr
        else:
            assert result.returncode == 0, result.stderr
            assert result.stdout.splitlines() == expected


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
def test_the_examples_of_http_are_true(nine_thousand: tuple[FloProcess, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    server, program = nine_thousand
    (program.parent / ".curlrc").write_text("silent\nshow-error\n")
    monkeypatch.setenv("CURL_HOME", str(program.parent))
    sessions = re.findall(r"```\n(\$ curl .*?)```", (DOCS / "http.md").read_text(), re.DOTALL)
    assert run_session("".join(sessions).replace(":9000", f":{server.port}"), server, program) > 12


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("redis-cli")), reason="curl or redis-cli is missing")
def test_the_examples_of_actions_are_true(nine_thousand: tuple[FloProcess, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the page in one go: the ids of runs count on."""
    server, program = nine_thousand
    (program.parent / ".curlrc").write_text("silent\nshow-error\n")
    monkeypatch.setenv("CURL_HOME", str(program.parent))
    sessions = re.findall(r"```\n(\$ .*?)```", (DOCS / "actions.md").read_text(), re.DOTALL)
    text = "".join(sessions).replace(":9000", f":{server.port}").replace("-p 9000", f"-p {server.port}")
    assert run_session(text, server, program) > 40


def test_the_hex_of_a_workers_exchange_is_true() -> None:
    blocks = re.findall(r"```\n(46 4C.*?)\n```", (DOCS / "actions.md").read_text(), re.DOTALL)
    wait, answer, report = (bytes.fromhex("".join(re.split(" {4,}[^ ]*[a-z]", line)[0] for line in block.splitlines())) for block in blocks)
    assert wait == encode_request(BY_NAME["worker_await"], 2, 0, b"w1", b"", {"block": 20_000})
    payload = struct.pack("<H3sH10sqIQH", 3, b"313", 10, b"send-email", 1_796_052_562_243, 1, 30_000, 0) + b"hi"
    assert answer == encode_response(0, 2, payload)
    assert report == encode_request(BY_NAME["worker_complete"], 4, 0, b"313", b"sent", {"worker_id": b"w1", "attempt": 1})


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is missing: apt-get install redis-tools")
def test_the_readme_session_is_true(nine_thousand: tuple[FloProcess, Path]) -> None:
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
            ["redis-cli", "--no-raw", "-p", str(nine_thousand[0].port)], input=prompt[1] + "\n", capture_output=True, text=True, check=True
        ).stdout.strip()
        assert shown.splitlines() == expected, prompt[1]


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


def test_every_line_of_the_log_is_explained() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
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
        lines += re.findall(r"^(?: {4}|\$ )(?:python3 -m |\./)?(flo(?:\.pyz)? .*)$", text, re.MULTILINE)
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
