"""What measures must itself be right: the open-loop generator, the charts, the table of what is asked."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from loadtest import charts
from loadtest.bench import Row, rows_of
from tests.support.processes import ROOT, FloProcess, wait_until

pytestmark = pytest.mark.slow

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
