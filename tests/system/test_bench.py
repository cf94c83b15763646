"""What measures must itself be right: the open-loop generator, the charts, the table of what is asked."""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from flo import Client
from loadtest import charts, paired, runs, workload
from loadtest.bench import Row, rows_of
from loadtest.compare import Target
from loadtest.singles import Server
from loadtest.workload import CLIENTS, KEYS, MIXES, QUEUED, REQUESTS, Clients, Draw, batches_of
from tests.support.processes import ROOT, FloProcess, encode, wait_until

pytestmark = [pytest.mark.computes, pytest.mark.slow]

SVG = "{http://www.w3.org/2000/svg}"


def open_loop(port: int, *flags: str) -> dict[str, float]:
    result = subprocess.run(
        [sys.executable, str(ROOT / "loadtest" / "openloop.py"), str(port), *flags], capture_output=True, text=True, timeout=60, check=True
    )
    told: dict[str, float] = json.loads(result.stdout)
    return told


def test_the_open_loop_keeps_its_rate_and_orders_its_waits(shared_flo: FloProcess) -> None:
    told = open_loop(shared_flo.port, "--rate", "400", "--seconds", "0.7", "--clients", "8", "--keys", "50")
    assert 380 <= told["rate"] <= 420
    assert 0 < told["p50"] <= told["p99"] <= told["p999"] <= told["max"]
    assert told["ceiling"] > told["rate"]


def test_a_request_is_sent_when_it_is_due(shared_flo: FloProcess) -> None:
    told = open_loop(shared_flo.port, "--rate", "10", "--seconds", "1", "--clients", "2", "--keys", "50")
    assert told["p50"] < 90_000, "not when the next is due, 100 ms later"


def test_a_rate_it_cannot_keep_is_void(shared_flo: FloProcess) -> None:
    told = open_loop(shared_flo.port, "--rate", "5000000", "--seconds", "0.5", "--clients", "4")
    assert told["void"] is True
    assert told["rate"] < 5_000_000


def test_a_stall_is_charged_to_all_who_were_due(flo: FloProcess) -> None:
    """A closed loop would have seen a few slow requests: here all that were due while the server stood still have waited."""
    generator = subprocess.Popen(
        [sys.executable, str(ROOT / "loadtest" / "openloop.py"), str(flo.port), "--rate", "300", "--seconds", "1.5", "--clients", "4"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with flo.connect() as client:
        wait_until(lambda: int(client.command("DBSIZE")) > 150, "the load to be under way")  # past what it does not count
        os.kill(flo.pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            wait_until(lambda: time.monotonic() - began > 0.6, "a stall")
        finally:
            os.kill(flo.pid, signal.SIGCONT)
    output, _ = generator.communicate(timeout=60)
    told = json.loads(output)
    assert told["p50"] < 200_000 < told["p99"], "a tenth and more were due in 0.6 s of 1.5"
    assert told["max"] > 400_000


def test_runs_are_invoked_and_executed(flo: FloProcess) -> None:
    target = Target("flo", flo.port, flo.pid)
    runs.register(target)
    for count in (1, 250):
        rate, cpu = runs.execute_runs(target, count)
        assert rate > 0 and cpu > 0
    if shutil.which("redis-benchmark") is not None:
        runs.invoke_runs(target, 4, 300)
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        counts = {each["name"]: each["runs"] for each in client.actions.list_page()["actions"]}
    assert counts[runs.EXECUTED]["completed"] == sum(counts[runs.EXECUTED].values()) == 251
    assert shutil.which("redis-benchmark") is None or counts[runs.INVOKED]["pending"] >= 300


def test_what_is_asked_is_what_the_issue_says() -> None:
    asked = {row.label: row.asked for row in rows_of(1.0, False)}
    assert asked["SET"] == asked["INCR"] == asked["LPUSH"] == asked["XADD"] == asked["lease, ack"] == 1.0
    assert asked["SET, 16 deep"] == asked["XADD, 16 deep"] == asked["lease, ack, 16 deep"] == 0.9
    assert asked["GET"] == asked["MGET of 10"] == 0.95 and asked["GET, 16 deep"] == 0.75
    assert {asked[f"{command} {size}"] for command in ("SET", "GET") for size in ("64 KiB", "1 MiB")} == {0.8}


def test_a_row_is_the_median_of_its_rounds() -> None:
    row = Row("SET", 16, 0.9, lambda *_: (0.0, 0.0), rates={"flo": [80.0, 100.0, 300.0], "redis": [100.0, 100.0, 100.0]})
    assert row.label == "SET, 16 deep"
    assert row.ratio("flo", "redis") == (1.0, 0.8, 3.0)
    assert row.ratio("flo", "floor") is None


@pytest.mark.parametrize(
    "draw",
    [
        lambda: charts.bars("A <title> & more", [("SET", 1.1, 0.9, 1.3, 1.0), ("GET", 0.5, 0.4, 0.6, 0.95)], "note"),
        lambda: charts.pairs("Bytes", {"a key": {"Flo": 230.0, "Redis": 176.0}, "a record": {"Flo": 33.0, "Redis": 79.0}}, "note"),
        lambda: charts.curves("Cost", "us", "depth", {"flo": [(1, 10.0), (16, 2.5)], "redis": [(1, 9.0), (16, 1.5)]}),
    ],
)
def test_charts_are_svg_and_inside_their_frame(draw: Callable[[], str]) -> None:
    tree = ET.fromstring(draw())
    width, height = float(tree.attrib["width"]), float(tree.attrib["height"])
    assert tree.tag == f"{SVG}svg" and tree.attrib["aria-label"]
    for shape in tree.iter():
        for name, value in shape.attrib.items():
            if name in ("x", "x1", "x2", "cx"):
                assert 0 <= float(value) <= width, (shape.tag, name, value)
            elif name in ("y", "y1", "y2", "cy"):
                assert 0 <= float(value) <= height, (shape.tag, name, value)


def test_bars_are_as_long_as_their_values() -> None:
    tree = ET.fromstring(charts.bars("t", [("a", 0.5, 0.5, 0.5, 0.0), ("b", 1.0, 1.0, 1.0, 0.0)]))
    lengths = [float(rect.attrib["width"]) for rect in tree.iter(f"{SVG}rect")][1:]
    assert lengths[1] == pytest.approx(2 * lengths[0], abs=0.2)


def mix(*flags: str) -> list[str]:
    """The lines that a short run of mix.py prints behind its first."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "loadtest" / "mix.py"), "--pairs", "1", "--seconds", "0.1", *flags],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.splitlines()[1:]


@pytest.mark.long
def test_a_mix_gives_a_row_a_depth(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    lines = mix("--mixes", "queue,store", "--depths", "1,16", "--json", str(told))
    shape = r"(\w+) +depth (\d+) +[\d.]+ \[[\d.]+\.\.[\d.]+\] +CPU [\d.]+ +flo-\S+ [\d.]+ k/s [\d.]+ us +redis [\d.]+ k/s [\d.]+ us .*"
    found = [match.groups() for line in lines if (match := re.fullmatch(shape, line))]
    assert found == [("queue", "1"), ("queue", "16"), ("store", "1"), ("store", "16")], lines
    for row in json.loads(told.read_text())["rows"]:
        for server in ("flo", "redis"):
            assert row[server]["rates"][0] > 0 and row[server]["cpu_us"][0] > 0


@pytest.mark.parametrize("name", [name if name in ("cache", "events") else pytest.param(name, marks=pytest.mark.long) for name in MIXES])
def test_the_requests_of_a_mix_are_served(name: str, shared_flo: FloProcess) -> None:
    draw = Draw(name)
    for requests in (MIXES[name].fill(draw), MIXES[name].requests(draw)):
        clients = Clients(shared_flo.port, batches_of(requests[:1600], 16), 16, 5, once=True)
        assert clients.run(60)[0] == 1600
        clients.close()


def test_a_mix_has_its_kinds_by_weight() -> None:
    requests = MIXES["cache"].requests(Draw("cache"))
    words = Counter(data.split(b"\r\n")[2] for data, _ in requests)
    assert words == {word: REQUESTS * share // 100 for word, share in ((b"GET", 70), (b"SET", 20), (b"DEL", 5), (b"EXISTS", 5))}
    sizes = [len(data.split(b"\r\n")[6]) for data, _ in requests if b"\r\nSET\r\n" in data]
    assert min(sizes) == 3 and 390 <= max(sizes) <= 400 and 30 <= statistics.median(sizes) <= 40
    keys = Counter(data.split(b"\r\n")[4] for data, _ in requests)
    most = keys.most_common(KEYS)
    assert 0.07 < most[0][1] / REQUESTS < 0.085, "the first of 200,000 by Zipf's law with 0.99"
    assert len(most) > 40_000, "and a long tail"


@pytest.mark.parametrize("at_once", [1, 7, 1024])
def test_clients_count_answers_of_all_shapes(at_once: int, shared_flo: FloProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strings, nil, numbers, arrays: each is one answer, wherever it is cut by what is received at once."""
    monkeypatch.setattr(workload, "RECEIVE_BYTES", at_once)
    with shared_flo.connect() as client:
        client.pipeline(("SET", "mixed:a", "abc"), ("SET", "mixed:large", "x" * 3000), ("SET", "mixed:empty", ""))
        client.pipeline(*[("XADD", "mixed:stream", "*", "field", "value")] * 2)
        asked = [
            (encode("GET", "mixed:a"), 1), (encode("GET", "mixed:large"), 1), (encode("GET", "mixed:none"), 1),
            (encode("GET", "mixed:empty"), 1), (encode("EXISTS", "mixed:a"), 1), (encode("SET", "mixed:a", "abc"), 1),
            (encode("MGET", "mixed:a", "mixed:none", "mixed:empty"), 4),
            (encode("XREAD", "COUNT", 2, "STREAMS", "mixed:stream", 0), 4 + 2 * 5),
        ]  # fmt: skip
        for depth in (1, 8):
            clients = Clients(shared_flo.port, batches_of(asked * 8, depth), depth, 4, once=True)
            assert clients.run(60)[0] == 64
            clients.close()
        with pytest.raises(SystemExit, match="an error among the answers"):
            Clients(shared_flo.port, batches_of([(encode("INCR", "mixed:a"), 1)], 1), 1, 1, once=True).run(60)


@pytest.mark.long
def test_single_commands_give_a_row_each() -> None:
    names = ["XREAD COUNT 10", "QDEQUEUE+QACK"]
    lines = mix("--single", "--rows", ",".join(names), "--depths", "16")
    found = [re.fullmatch(r"(.+?) +depth 16 +[\d.]+ us +[\d.]+ of SET \[.*\] .*", line) for line in lines]
    assert [match[1] for match in found if match] == names, lines


@pytest.mark.long
def test_what_a_run_uses_up_is_put_back(flo: FloProcess) -> None:
    server = Server(flo.port)
    with flo.connect() as client:
        for name, count, whole in (("DEL", "DBSIZE", KEYS), ("RPOP", "LLEN work", QUEUED), ("QDEQUEUE+QACK", "LLEN work", QUEUED)):
            load = server.load(name, 16)
            before = client.command(*count.split())
            done, _ = load.run(0.05)
            used = before - client.command(*count.split())
            if name == "QDEQUEUE+QACK":  # of a batch's two requests a client may have sent only the first when the time was over
                assert 0 < done / 2 <= used <= (done + CLIENTS * 16) / 2
            else:
                assert 0 < done == used
            load.restore()
            assert client.command(*count.split()) == before >= whole
            load.close()


@pytest.mark.parametrize(
    "flags",
    [
        {"command": "set"},
        pytest.param({"command": "get"}, marks=pytest.mark.long),
        {"command": "RPOP"},
        {"command": "DEL", "mix": "events"},
    ],
)
def test_what_is_compared_with_another_commit_can_run_again(flags: dict[str, str], flo: FloProcess) -> None:
    args = argparse.Namespace(**{"mix": None, "depth": 16, "protocol": "resp"} | flags)
    with contextlib.ExitStack() as stack:
        run, restore = paired.connect(args, flo.port, stack)
        for _ in range(2):
            restore()
            done, took = run(0.05)
            assert done > 0 and took > 0.01


@pytest.mark.long
@pytest.mark.skipif(
    shutil.which("influxd") is None or shutil.which("victoria-metrics") is None, reason="influxd or victoria-metrics is missing"
)
def test_time_series_are_compared(tmp_path: Path) -> None:
    """Every row is there, with figures of all its servers; that the answers agree, the run itself sees to."""
    told = tmp_path / "told.json"
    sizes = ["--points", "5000", "--series", "50", "--many", "100", "--rounds", "1", "--ten-million"]
    run = subprocess.run(
        [sys.executable, str(ROOT / "loadtest" / "compare_ts.py"), *sizes, "--json", str(told)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rows = {row["title"]: row for row in json.loads(told.read_text())["rows"]}
    assert list(rows) == [
        "ingest, 50 series, 1 connection", "ingest, 50 series, 4 connections", "ingest, 50 series, 5 fields a line",
        "100 new series", "ingest, 100 series",
        "on disk, compacted", "Flo's heap", "window(1m) | avg() (90 values)", "window(1m) | percentile(99) (90 values)",
        "window(1h) | avg() (10 values)", "last hour of 1 of 50 series (60 values)",
        "50,000: on disk, compacted", "50,000: restart", "50,000: memory after a restart", "  window(1h) | avg(), all (150 values)",
        "  window(1h) | percentile(99), all (150 values)", "  window(1m) | avg(), 1 h (3,000 values)",
        "  window(1m) | percentile(99), 1 h (3,000 values)", "  last hour of 1 of 50 series (360 values)",
    ]  # fmt: skip
    for title, row in rows.items():
        assert all(figure["value"] > 0 for figures in row["figures"].values() for figure in figures), title
        assert not row["over"] or len(row["ratios"]) == 1, title
