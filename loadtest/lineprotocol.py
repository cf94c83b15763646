"""How fast line protocol is read: points a second of the columns' way, of the way line by line, and of a plain loop as a reference.

    python3 loadtest/lineprotocol.py [--points 1000000] [--rounds 3]

Batches of 5,000 lines over 1,000 series, as an agent sends them. The plain loop knows neither escapes nor errors, and makes its points a
dictionary of lists; it is what a reader line by line costs at least. Seconds are CPU time, and the best of the rounds counts: other load
only makes a round slower.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flo.proto import lineprotocol

LINES = 5_000  # of a batch
SERIES = 1_000
START_S = 1_700_000_000
NOW_MS = START_S * 1000

Line = Callable[[int, int], str]  # the text of a line of a series in a second


def one_field(of: int, second: int) -> str:
    return f"cpu,host=h{of:04},region=eu usage={(of * 7919 + second) % 100_000 / 1000:.3f} {(START_S + second) * 10**9}"


def five_fields(of: int, second: int) -> str:
    user, system = (of * 31 + second) % 1000 / 10, (of * 17 + second) % 1000 / 10
    fields = f"user={user},system={system},idle={100 - user:.1f},iowait=0.25,steal=0"
    return f"cpu,host=h{of:04},region=eu {fields} {(START_S + second) * 10**9}"


def integers(of: int, second: int) -> str:
    return f"net,host=h{of:04},interface=eth0 bytes={of * 1_000_003 + second * 1500}i {(START_S + second) * 10**9}"


def mixed(of: int, second: int) -> str:
    return f"mem,host=h{of:04} used={of * 4096 + second}i,used_percent={of % 1000 / 10} {(START_S + second) * 10**9}"


def escaped(of: int, second: int) -> str:
    return f"win\\ disk,host=h{of:04},instance=C:\\ \\=\\ {of} Free\\ Megabytes={of + second}.5 {(START_S + second) * 10**9}"


def milliseconds(of: int, second: int) -> str:
    return f"cpu,host=h{of:04},region=eu usage={(of * 7919 + second) % 100_000 / 1000:.3f} {(START_S + second) * 1000}"


def one_in_fifty_a_string(of: int, second: int) -> str:
    if of % 50:
        return one_field(of, second)
    return f'system,host=h{of:04} uptime={second}i,uptime_format="1 day, {of}" {(START_S + second) * 10**9}'


SHAPES: dict[str, tuple[Line, str, int]] = {  # the line, the unit of its timestamps, its numbers
    "1 field": (one_field, "ns", 1),
    "5 fields": (five_fields, "ns", 5),
    "1 integer": (integers, "ns", 1),
    "integer and float": (mixed, "ns", 2),
    "escaped names": (escaped, "ns", 1),
    "ms timestamps": (milliseconds, "ms", 1),
    "2 % with strings": (one_in_fifty_a_string, "ns", 1),
}


def batches(line: Line, count: int) -> Iterator[bytes]:
    """Batches of LINES lines, with `count` lines together."""
    for first in range(0, count, LINES):
        lines = [line(at % SERIES, at // SERIES) for at in range(first, min(first + LINES, count))]
        yield "\n".join(lines).encode() + b"\n"


def plain(data: bytes, unit: int) -> int:
    """The reference: what is simplest, line by line."""
    points: dict[tuple[bytes, bytes], list[tuple[int, float]]] = {}
    count = 0
    for line in data.splitlines():
        head, fields, stamp = line.rsplit(b" ", 2)
        when = int(stamp) * unit // 10**6
        for field in fields.split(b","):
            name, value = field.split(b"=")
            points.setdefault((head, name), []).append((when, float(value.removesuffix(b"i"))))
            count += 1
    return count


def rate(read: Callable[[bytes], int], bodies: list[bytes], rounds: int) -> float:
    """Points a second over all bodies, the best of the rounds; one body is read before, as an agent's series are not new."""
    read(bodies[0])
    best = 0.0
    for _ in range(rounds):
        start = time.thread_time()
        count = sum(map(read, bodies))
        best = max(best, count / (time.thread_time() - start))
    return best


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    gc.disable()  # as in the server
    print(f"Python {sys.version.split()[0]}; points a second")
    print(f"{'shape':<20}{'by columns':>12}{'by lines':>12}{'plain loop':>12}{'largest slice':>16}")
    for shape, (line, unit, numbers) in SHAPES.items():
        bodies = list(batches(line, args.points // numbers))
        names = lineprotocol.Names()
        slice_max = 0.0

        def read(data: bytes, names: lineprotocol.Names = names, unit: str = unit) -> int:
            nonlocal slice_max
            job = lineprotocol.decode(data, names, NOW_MS, unit, strict=False)
            while True:
                start = time.thread_time()
                try:
                    next(job)
                except StopIteration as end:
                    points: lineprotocol.Points = end.value
                    return len(points.keys)
                finally:
                    slice_max = max(slice_max, time.thread_time() - start)

        columns = rate(read, bodies, args.rounds)
        slice_columns = slice_max
        with patch.object(lineprotocol._Reader, "by_columns", lambda self, stop: False):
            lines = rate(read, bodies, 1)
        try:
            reference = f"{rate(lambda data, unit=unit: plain(data, lineprotocol.UNITS[unit]), bodies, 1):,.0f}"  # type: ignore[misc]
        except ValueError:  # strings, and escaped names
            reference = "-"
        print(f"{shape:<20}{columns:>12,.0f}{lines:>12,.0f}{reference:>12}{slice_columns * 1000:>13.1f} ms")


if __name__ == "__main__":
    main()
