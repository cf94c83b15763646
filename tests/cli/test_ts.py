"""`flo ts`: points in and out, files of line protocol and how far they came, charts, and settings."""

import argparse
import contextlib
import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import ascii_letters
from typing import Any

import pytest

from flo.cli.load import BATCH_BYTES, BATCH_FIELDS, progress_line
from flo.cli.remote import time_argument
from flo.client import Client
from tests.cli.test_terminals import EVIL
from tests.support.processes import ROOT, FloProcess, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.computes]

START = 1_700_000_000_000
NS = 1_000_000
BARE = [character for character in EVIL if not character.isprintable() and character != "\n"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    with FloProcess(tmp_path_factory.mktemp("ts") / "data") as flo:
        yield flo


@pytest.fixture
def client(server: FloProcess) -> Iterator[Client]:
    with Client(f"flo://127.0.0.1:{server.port}") as client:
        yield client


def environment(**more: str) -> dict[str, str]:
    """An environment in which nothing but `more` decides about charts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLO_", "LC_", "LANG", "NO_COLOR", "TERM"))}
    return kept | {"COLUMNS": "80", "LC_ALL": "C.UTF-8", "TERM": "xterm"} | more


def words(server: FloProcess, *given: str) -> list[str]:
    """The words of a command line."""
    return [sys.executable, "-m", "flo", "ts", *given, "--port", str(server.port)]


def run(server: FloProcess, *given: str, stdin: bytes = b"", status: int = 0, **more: str) -> tuple[str, str]:
    """What a command prints, on standard output and on standard error."""
    done = subprocess.run(words(server, *given), input=stdin, capture_output=True, cwd=ROOT, timeout=60, env=environment(**more))
    assert done.returncode == status, (given, done.stdout, done.stderr)
    return done.stdout.decode(), done.stderr.decode()


def on_terminal(server: FloProcess, *given: str, columns: int = 80, only_errors: bool = False, **more: str) -> str:
    """What a command shows on a terminal of so many columns; if `only_errors`, its standard output is elsewhere."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    stdout = subprocess.DEVNULL if only_errors else slave
    process = subprocess.Popen(words(server, *given), stdin=slave, stdout=stdout, stderr=slave, cwd=ROOT, env=environment(**more))
    os.close(slave)
    shown = b""
    try:
        with contextlib.suppress(OSError):  # so says a terminal that nobody has open any more
            while data := os.read(master, 65536):
                shown += data
        process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return shown.decode().replace("\r\n", "\n")


# -- points ----------------------------------------------------------------------------------------


def test_points_are_written_and_read(server: FloProcess) -> None:
    assert run(server, "write", "temp", "21.5", "--tags", "room=hall", "--at", str(START))[0] == "wrote 1 point\n"
    assert (
        run(server, "write", "temp", "value=-3,humidity=40", "--at", "2023-11-14T23:13:21+01:00", "--tags", "room=yard")[0]
        == "wrote 2 points\n"
    )
    since = ("--from", str(START), "--to", str(START + 5000))
    assert run(server, "read", "temp", *since) == (
        "temp{room=hall} value\n"
        "  2023-11-14T22:13:20.000Z  21.5\n"
        "\n"
        "temp{room=yard} humidity\n"
        "  2023-11-14T22:13:21.000Z  40\n"
        "\n"
        "temp{room=yard} value\n"
        "  2023-11-14T22:13:21.000Z  -3\n",
        "",
    )
    answer = json.loads(run(server, "read", "temp", *since, "--format", "json", "--tags", "room=yard", "--field", "humidity")[0])
    assert answer["series"] == [{"name": "temp", "tags": {"room": "yard"}, "field": "humidity", "points": [[START + 1000, 40.0]]}]
    assert run(server, "read", "temp") == ("", "(there are no such points)\n"), "the last hour has none"
    assert json.loads(run(server, "write", "now", "1", "--format", "json")[0]) == {"measurement": "now", "points": 1}
    assert len(run(server, "read", "now", "--from", "15m")[0].splitlines()) == 2


def test_reading_says_that_there_may_be_more(server: FloProcess, client: Client) -> None:
    client.ts.write_batch("".join(f"long v=1 {START + at}\n" for at in range(1200)), precision=2)
    since = ("--from", str(START), "--to", str(START + 5000), "--csv")
    out, err = run(server, "read", "long", *since)
    assert len(out.splitlines()) == 1001
    assert err == "(there may be more: these are the first 1000 of each series; --limit takes up to 100000)\n"
    out, err = run(server, "read", "long", *since, "--limit", "1201")
    assert (len(out.splitlines()), err) == (1201, "")


def test_decimal_points_are_below_each_other(server: FloProcess, client: Client) -> None:
    client.ts.write_batch("".join(f"aligned v={v} {START + at}\n" for at, v in enumerate(("1", "-20.25", "1e300", "0.5"))), precision=2)
    rows = run(server, "query", f"aligned[{START}..{START + 9}]")[0].splitlines()[1:]
    assert [row[28:] for row in rows] == ["     1", "   -20.25", "1e+300", "     0.5"]


def test_csv_is_of_rfc_4180(server: FloProcess, client: Client) -> None:
    client.ts.write("odd name", "1.5", tags=r'a=x"y\,z,time=t', timestamp=START)
    client.ts.write("odd name", "f=2", tags="b=ü", timestamp=START)
    text = run(server, "read", "odd name", "--from", str(START), "--csv", PYTHONIOENCODING="ascii")[0]
    assert text.count("\r\n") == text.count("\n") == 3
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["time", "name", "a", "b", "tag.time", "field", "value"],
        ["2023-11-14T22:13:20.000Z", "odd name", 'x"y,z', "", "t", "value", "1.5"],
        ["2023-11-14T22:13:20.000Z", "odd name", "", "ü", "", "f", "2"],
    ]


def test_raw_is_line_protocol_that_can_be_written(server: FloProcess, client: Client) -> None:
    client.ts.write(r"a b", "f=0.1,g=12", tags=r"k=v\,w,l=\=", timestamp=START)
    lines = run(server, "read", "a b", "--from", str(START), "--format", "raw")[0]
    assert lines == f"a\\ b,k=v\\,w,l=\\= f=0.1 {START * NS}\na\\ b,k=v\\,w,l=\\= g=12 {START * NS}\n"
    before = client.ts.read("a b", since=START)["series"]
    client.ts.delete("a b")
    assert run(server, "write", "--file", "-", stdin=lines.encode())[0] == "wrote 2 points, from 2 lines.\n"
    assert client.ts.read("a b", since=START)["series"] == before


def test_a_refused_query_shows_where(server: FloProcess) -> None:
    text = "load[5m] | fil(0)"
    refused = run(server, "query", text, status=1)[1].splitlines()
    assert refused[0].startswith("flo: Line 1, column 12: Found `fil`; expected a stage")
    assert refused[1:] == [text, " " * text.index("fil") + "^"]
    assert on_terminal(server, "query", text).splitlines()[1:] == refused[1:]
    assert run(server, "query", "-", stdin=text.encode(), status=1)[1].splitlines() == refused, "from standard input"


@pytest.mark.slow
def test_wrong_usage_exits_2(server: FloProcess) -> None:
    for given, why in (
        (("write",), "give MEASUREMENT and FIELDS, or --file"),
        (("write", "m"), "give MEASUREMENT and FIELDS, or --file"),
        (("write", "m", "1", "--file", "-"), "leave out MEASUREMENT"),
        (("write", "--file", "-", "--tags", "a=b"), "leave out MEASUREMENT"),
        (("write", "m", "1", "--precision", "s"), "--precision is of"),
        (("write", "m", "1", "--at", "yesterday"), "'yesterday' is not a time"),
        (("read", "m", "--csv", "--format", "json"), "give --csv or --format json, not both"),
        (("query", "m", "--plot", "--format", "raw"), "give --plot or --format raw, not both"),
        (("query", "m", "--plot", "--csv"), "not allowed with"),
        (("retention", "m", "1500ms"), "'1500ms' is not an age"),
        (("retention", "m", "0d"), "'0d' is not an age"),
        (("retention", "m", "30"), "'30' is not an age"),
    ):
        assert why in run(server, *given, status=2)[1], given


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("-5", -5),
        ("1700000000000", START),
        ("2023-11-14T22:13:20Z", START),
        ("2023-11-14T22:13:20", START),
        ("2023-11-14 23:13:20.0015+01:00", START + 1),
        ("2023-11-14", START - START % 86_400_000),
        ("1969-12-31T23:59:59.9995Z", -1),
    ],
)
def test_times_of_arguments(text: str, ms: int) -> None:
    assert time_argument(text) == ms


def test_times_before_now() -> None:
    for text, ago in (("now", 0), ("500ms", 500), ("15m", 900_000), ("2w", 1_209_600_000)):
        assert 0 <= time.time() * 1000 - ago - time_argument(text) < 5000
    for text in ("", "5 minutes", "-15m", "tomorrow", "2024-13-01", "1.5", "99999999999999999999", "\u0665\u0665:00"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a"):
            time_argument(text)


# -- files -----------------------------------------------------------------------------------------


def lines_of(count: int) -> list[bytes]:
    return [b"file,host=h%d v=%d %d" % (at % 7, at, START + at) for at in range(count)]


def written(client: Client, name: str = "file") -> int:
    series = client.ts.query(f"{name}[0..{START * 2}] | count()")["series"]
    return int(sum(one["points"][0][1] for one in series))


@pytest.fixture
def empty(client: Client) -> None:
    client.ts.delete("file")


@pytest.mark.usefixtures("empty")
def test_a_file_of_many_batches(server: FloProcess, client: Client, tmp_path: Path) -> None:
    data = b"# a comment\n\n" + b"\n".join(lines_of(30_000))
    assert len(data) > 3 * BATCH_BYTES and not data.endswith(b"\n")
    (tmp_path / "points").write_bytes(data)
    out, err = run(server, "write", "--file", str(tmp_path / "points"), "--precision", "ms")
    assert (out, err) == ("wrote 30000 points, from 30002 lines.\n", "")
    assert written(client) == 30_000
    with (tmp_path / "points").open("rb") as file:  # standard input that is a file
        done = subprocess.run(
            words(server, "write", "--file", "-", "--precision", "ms", "--format", "json"), stdin=file, capture_output=True, cwd=ROOT
        )
    assert json.loads(done.stdout) == {"points": 30_000, "lines": 30_002}


@pytest.mark.usefixtures("empty")
def test_a_bad_line_is_told_by_its_number_in_the_file(server: FloProcess, client: Client, tmp_path: Path) -> None:
    lines = lines_of(30_000)
    bad = 23_456
    lines[bad - 1] = b'file v="text"'
    path = tmp_path / "it's"
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert len(b"\n".join(lines[:bad])) > 2 * BATCH_BYTES
    out, err = run(server, "write", "--file", str(path), "--precision", "ms", status=1)
    problem, told = err.splitlines()
    assert problem.startswith(f"flo: line {bad}, column 8: expected a number, found a string")
    assert told.startswith(f"written: {bad - 1} lines with {bad - 1} points; mend line {bad}, then go on with it: tail -n +{bad} ")
    assert out == "" and written(client) == bad - 1, "each line before it, and none behind it"
    path.write_bytes(path.read_bytes().replace(b'v="text"', b"v=1 1"))
    command = told.partition("go on with it: ")[2].replace("flo ts", f"{sys.executable} -m flo --port {server.port} ts")
    done = subprocess.run(["sh", "-c", command], capture_output=True, cwd=ROOT, timeout=60)
    assert done.stdout == b"wrote 6545 points, from 6545 lines.\n", done.stderr
    assert written(client) == 30_000


def test_the_first_line_may_be_the_bad_one(server: FloProcess) -> None:
    problem, told = run(server, "write", "--file", "-", stdin=b"nonsense\nfile v=1\n", status=1)[1].splitlines()
    assert problem.startswith("flo: line 1, column ")
    assert told == "written: 0 lines with 0 points; mend line 1, then go on with it"


@pytest.mark.usefixtures("empty")
def test_lines_of_many_fields_stay_below_the_limit_of_points(server: FloProcess, client: Client, tmp_path: Path) -> None:
    names = ["".join(pair) for pair in product(ascii_letters, repeat=2)][
        :1900
    ]  # with names this short a batch of bytes has the most points
    line = b"file " + ",".join(f"{name}=1" for name in names).encode() + b" %d\n"
    data = b"".join(line % at for at in range(60))
    assert data[:BATCH_BYTES].count(b"=") > 50_000 > BATCH_FIELDS
    (tmp_path / "points").write_bytes(data)
    assert run(server, "write", "--file", str(tmp_path / "points"), "--precision", "ms")[0] == "wrote 114000 points, from 60 lines.\n"
    assert written(client) == 114_000
    client.ts.delete("file")


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(server: FloProcess) -> None:
    process = subprocess.Popen(words(server, "write", "--file", "-"), stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None and process.stderr is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"file v=1\n" + b"x" * (8 * BATCH_BYTES))
        assert process.wait(30) == 1, "though the line goes on"
        problem, told = process.stderr.read().decode().splitlines()
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stderr.close()
    assert problem.startswith("flo: line 2, column 262145: the line is longer than 262144 bytes")
    assert told.startswith("written: 1 line with 1 point; mend line 2")


@contextlib.contextmanager
def half_written(server: FloProcess, client: Client) -> Iterator[subprocess.Popen[bytes]]:
    """A `flo ts write` that was given 20 lines by a pipe and half of the next. The server has all 20, and has acknowledged 10 at least."""
    process = subprocess.Popen(
        words(server, "write", "--file", "-", "--precision", "ms"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
        # a background job ignores it, and so would its child
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdin is not None and process.stderr is not None
    lines = lines_of(20)
    try:
        for part, more in ((lines[:10], b"\n"), (lines[10:], b"\nfile,ho")):
            before = written(client)
            process.stdin.write(b"\n".join(part) + more)
            process.stdin.flush()
            wait_until(lambda: written(client) == before + 10, "the lines that are whole")  # noqa: B023
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stderr.close()


def test_a_pipe_is_written_as_it_comes_and_a_lost_server_is_told(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as client, half_written(flo, client) as process:
        flo.kill()
        _, said = process.communicate(b"st=x v=1 1\n", timeout=30)
        assert process.returncode == 3
        told, problem = said.decode().splitlines()
        assert re.fullmatch("acknowledged: [12]0 lines with [12]0 points; go on behind them", told)
        assert problem.startswith("flo: ")


@pytest.mark.usefixtures("empty")
def test_ctrl_c_tells_how_far_it_came(server: FloProcess, client: Client) -> None:
    with half_written(server, client) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert re.fullmatch(b"acknowledged: [12]0 lines with [12]0 points; go on behind them\n", process.stderr.read())
        assert process.wait(30) == 130


def test_a_terminal_shows_the_progress(server: FloProcess, tmp_path: Path) -> None:
    path = tmp_path / "points"
    path.write_bytes(b"\n".join(lines_of(150_000)))
    shown = on_terminal(server, "write", "--file", str(path), "--precision", "ms", only_errors=True, columns=100)
    drawn = re.findall(r"\r([^\r\x1b]+)\x1b\[K", shown)
    assert drawn and all(len(line) <= 99 for line in drawn)
    assert re.fullmatch(r"\[#*-*\] +\d+% of \d\.\d MiB, [\d,]+ points, [\d,]+ /s, \d+ s left", drawn[0]), drawn
    assert shown.endswith("\r\x1b[K"), "at the end it is gone"
    assert run(server, "write", "--file", str(path), "--precision", "ms")[1] == "", "elsewhere there is none"


def test_the_progress_fits() -> None:
    for columns in range(1, 200):
        for size in (0, 10 << 20):
            assert len(progress_line(1 << 20, size, 12_345, 2.0, columns)) <= columns
    assert (
        progress_line(1 << 20, 4 << 20, 10_000, 2.0, 80)
        == "[######---------------------]  25% of 4.0 MiB, 10,000 points, 5,000 /s, 6 s left"
    )
    assert progress_line(1 << 20, 0, 10_000, 2.0, 80) == "1.0 MiB, 10,000 points, 5,000 /s"


# -- measurements ----------------------------------------------------------------------------------


def test_measurements_are_listed_and_described(server: FloProcess, client: Client) -> None:
    for host in range(3):
        client.ts.write("listed", "usage=1,idle=2", tags=f"host={host},zone=eu")
    assert run(server, "ls", "listed")[0].splitlines() == [
        "name        listed",
        "series      6",
        "fields      idle, usage",
        "tags        host (3), zone (1)",
        "kept        for ever",
    ]
    assert "listed                           6 series  fields idle, usage  tags host (3), zone (1)  kept for ever" in run(server, "ls")[0]
    assert "listed" in run(server, "list", "--format", "raw")[0].splitlines()
    found: list[dict[str, Any]] = json.loads(run(server, "ls", "--format", "json")[0])
    assert [one["series"] for one in found if one["name"] == "listed"] == [6]
    assert json.loads(run(server, "ls", "listed", "--format", "json")[0])["max_age_ms"] == 0
    assert run(server, "ls", "nothing", status=1)[1] == "flo: there is no measurement 'nothing'\n"
    assert run(server, "delete", "listed", "--tags", "host=1")[0] == "2 series deleted\n"
    assert json.loads(run(server, "delete", "listed", "--format", "json")[0]) == {"measurement": "listed", "series": 4}


def test_retention_is_set_and_shown(server: FloProcess) -> None:
    assert run(server, "retention", "aging", status=1)[1] == "flo: there is no measurement 'aging'\n"
    assert run(server, "retention", "", status=1)[1] == "flo: there is no measurement ''\n"
    assert run(server, "retention", "aging", "36h")[0] == "kept        1 d 12 h\n"
    assert run(server, "retention", "aging")[0] == "kept        1 d 12 h\n"
    assert json.loads(run(server, "retention", "aging", "--format", "json")[0]) == {
        "measurement": "aging",
        "max_age_ms": 129_600_000,
        "downsample": "",
    }
    assert run(server, "ls", "aging")[0].splitlines()[-1] == "kept        1 d 12 h"
    assert run(server, "retention", "aging", "--downsample", "1m:avg:0")[0] == "kept        1 d 12 h\ndownsample  1m:avg:0\n"
    assert run(server, "retention", "aging", "none")[0] == "kept        for ever\ndownsample  1m:avg:0\n"
    assert "'1m:mode:0' has the function 'mode'" in run(server, "retention", "aging", "--downsample", "1m:mode:0", status=1)[1]
    assert run(server, "retention", "aging", "--downsample", "none")[0] == "kept        for ever\n"


# -- charts ----------------------------------------------------------------------------------------


@pytest.fixture
def charted(client: Client) -> str:
    """A query of two series."""
    for at in range(40):
        client.ts.write("charted", f"{at}", tags="host=up", timestamp=START + at * 60_000)
        client.ts.write("charted", f"{40 - at}", tags="host=down", timestamp=START + at * 60_000)
    return f"charted[{START}..{START + 3_600_000}]"


def test_a_chart_is_of_braille_and_colours_where_the_terminal_has_them(server: FloProcess, charted: str) -> None:
    shown = on_terminal(server, "query", charted, "--plot", columns=70)
    bare = re.sub(r"\x1b\[\d+m", "", shown)
    assert "\x1b[36m" in shown and "\x1b[33m" in shown
    assert re.search("[\u2801-\u28ff]", bare)
    assert max(map(len, bare.splitlines())) <= 70 and max(map(len, bare.splitlines())) > 60
    assert len(bare.splitlines()) <= 24
    assert bare.splitlines()[-2:] == ["a  charted{host=down} value  last 1", "b  charted{host=up} value  last 39"]
    plain = on_terminal(server, "query", charted, "--plot", columns=70, NO_COLOR="1")
    assert plain == bare


@pytest.mark.slow
def test_a_chart_elsewhere_is_without_colour(server: FloProcess, charted: str) -> None:
    braille, ascii_only = run(server, "query", charted, "--plot")[0], run(server, "query", charted, "--plot", LC_ALL="C")[0]
    assert "\x1b" not in braille and re.search("[\u2801-\u28ff]", braille)
    assert ascii_only.isascii() and "aaa" in ascii_only and "bbb" in ascii_only
    assert run(server, "query", charted, "--plot", TERM="linux")[0] == ascii_only
    assert run(server, "query", charted, "--plot", PYTHONIOENCODING="ascii")[0] == ascii_only
    for text in (braille, ascii_only):
        assert max(map(len, text.splitlines())) <= 80
        assert "22:30" in text and "2023-11-14T22:13:20.000Z to 2023-11-14T22:52:20.000Z" in text
    assert run(server, "query", "nothing", "--plot") == ("", "(there are no such points)\n")


@pytest.mark.slow
def test_names_move_no_cursor(server: FloProcess, client: Client) -> None:
    name = "".join(character for character in EVIL if character not in BARE or ord(character) > 0x7F).replace("\n", "")
    client.ts.write(name, f"{name}=1".replace(" ", ""), tags=f"{name}={name}", timestamp=START)
    quoted = '"' + EVIL.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + '"'
    query = f'"{name}"[{START}..{START}] | alias({quoted})'
    for given in (("query", query), ("query", query, "--csv"), ("query", query, "--plot"), ("ls",), ("ls", name), ("query", EVIL)):
        shown = on_terminal(server, *given, NO_COLOR="1")
        assert "\\u202e" in shown or given[-1] == EVIL, shown
        assert not [character for character in BARE if character in shown], (given, shown)
    for other in (("query", query, "--format", "json"), ("retention", name)):
        assert not [character for character in BARE if character in run(server, *other)[0]], other
