"""How long each stage of FloQL takes over a million points in memory, without a store.

    python3 loadtest/floql.py [--points 1000000] [--series 10] [--interval 1000] [--floats] [--irregular]

The points are gauges of three decimals in blocks of 1,000. A block's columns are made beforehand, so the times are the evaluation's own.
Each query runs three times. The best is shown, with its longest slice and the points of the answer. Times are of the processor, so that
other programs disturb them little.
"""

import argparse
import random
import sys
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flo.errors import BadRequest
from flo.floql.evaluate import Budget, Result, evaluate
from flo.floql.parser import parse
from flo.floql.plan import make_plan
from flo.floql.source import Columns, Series, TagMatcher

BLOCK_POINTS = 1_000
QUERIES = (
    "window(1m) | avg()",
    "window(1m) | max()",
    "window(1m) | first()",
    "window(1m) | stddev()",
    "window(1m) | median()",
    "window(1m) | percentile(99)",
    "window(1h) | avg()",
    "window(1h) | percentile(99)",
    "avg()",
    "max()",
    "stddev()",
    "median()",
    "percentile(99)",
    "percentile(1)",
    "rate(1m)",
    "delta() | max()",
    "where(value > 90) | count()",
    "math(value * 1.8 + 32) | avg(1m)",
    "round(1) | avg(1m)",
    "group_by(zone) | avg(1m)",
    "group_by(zone) | percentile(99)",
    "group_by(zone) | delta() | count()",
    "topk(3) | avg(1m)",
    "limit(1000)",
    "sort(-time) | limit(1000)",
)


@dataclass
class MadeBlock:
    """A block whose columns are in memory."""

    start: int
    end: int
    count: int
    sum: float
    minimum: float
    maximum: float
    first: float
    last: float
    made: Columns

    def columns(self) -> Columns:
        return self.made


def block(columns: Columns) -> MadeBlock:
    """The block of some columns, with its summary."""
    values = [value / columns.divisor for value in columns.values] if columns.divisor else list(columns.values)
    times = columns.times
    return MadeBlock(times[0], times[-1], len(times), sum(values), min(values), max(values), values[0], values[-1], columns)


class MadeSource:
    """Series `load{host=h0,zone=z0}` and so on; the field `value` is a gauge, `total` a counter."""

    def __init__(self, points: int, series: int, interval: int, decimals: bool, regular: bool) -> None:
        chance = random.Random(26)
        self._blocks: dict[str, list[list[MadeBlock]]] = {"value": [], "total": []}
        for field in [*["value"] * series, *["total"] * series]:
            blocks = []
            total = 0
            for first in range(0, points // series, BLOCK_POINTS):
                count = min(BLOCK_POINTS, points // series - first)
                times: Sequence[int] = range(first * interval, (first + count) * interval, interval)
                if not regular:
                    times = array("q", [at + chance.randrange(interval) for at in times])
                values = array("q", [chance.randrange(100_000) for _ in range(count)])
                if field == "total":
                    values = array("q", accumulate(values, initial=total))[1:]
                    total = values[-1]
                floats = array("d", [value / 1000 for value in values])
                blocks.append(block(Columns(times, values, 1000) if decimals else Columns(times, floats)))
            self._blocks[field].append(blocks)

    def measurements(self) -> Iterable[str]:
        return ["load"]

    def series(self, measurement: str, matchers: Sequence[TagMatcher], fields: Sequence[str] | None) -> Iterable[Series]:
        assert fields
        made = self._blocks[fields[0]]
        return [Series({"host": f"h{n}", "zone": f"z{n % 2}"}, fields[0], blocks) for n, blocks in enumerate(made)]

    def blocks(self, handle: list[MadeBlock], start: int, end: int) -> Iterable[MadeBlock]:
        return handle


def run(source: MadeSource, text: str, end: int) -> tuple[float, float, Result]:
    """Seconds of processor time of the whole evaluation and of its longest slice, and the answer."""
    field = "total" if text.startswith("rate") else "value"
    plan = make_plan(parse(f"load[0..{end}] | field({field}) | {text}"), end)
    job = evaluate(plan, source, Budget())
    began = before = time.thread_time()
    longest = 0.0
    while True:
        try:
            next(job)
        except StopIteration as stop:
            now = time.thread_time()
            assert isinstance(stop.value, Result)
            return now - began, max(longest, now - before), stop.value
        now = time.thread_time()
        longest, before = max(longest, now - before), now


def main() -> None:
    """Print a line for each query."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--series", type=int, default=10)
    parser.add_argument("--interval", type=int, default=1_000, help="ms between two points of a series")
    parser.add_argument("--floats", action="store_true", help="values are floats, no decimals")
    parser.add_argument("--irregular", action="store_true", help="times are arrays, no ranges")
    args = parser.parse_args()
    source = MadeSource(args.points, args.series, args.interval, not args.floats, not args.irregular)
    end = args.points // args.series * args.interval
    print(f"{'':40} {'ms':>8} {'longest slice':>14} {'scanned':>10} {'answer':>8}")
    for text in QUERIES:
        try:
            best, longest, result = min((run(source, text, end) for _ in range(3)), key=lambda outcome: outcome[0])
        except BadRequest as e:
            print(f"{text:40} refused: {str(e).splitlines()[0]}")
            continue
        answered = sum(len(series.points) for series in result.series)
        print(f"{text:40} {best * 1000:8.1f} {longest * 1000:14.2f} {result.scanned:10,} {answered:8,}")


if __name__ == "__main__":
    main()
