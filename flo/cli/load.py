"""`flo ts write --file`: sends line protocol in batches of whole lines, and says how far it came, so that a person can go on from there.

The server takes a batch as a whole or not at all. So when it refuses a line, the lines in front of that line are sent again without it, and
all that is told is true of the file: each line before the bad one is written, none behind it is.
"""

import argparse
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO

from flo.cli.output import counted, duration_text, fail, line, size_text, warn
from flo.cli.progress import Progress, bar_line
from flo.cli.remote import argument
from flo.cli.rows import print_facts
from flo.proto.lineprotocol import LINE_BYTES_MAX

if TYPE_CHECKING:
    from flo.client import Client

BATCH_BYTES = 256 << 10  # of some 5,000 lines: larger ones are not faster, and the server takes the next request of others sooner
BATCH_FIELDS = 20_000  # of the 50,000 points that a request may have; counted by `=`, so tags count as well
BAD_LINE = re.compile(r"line (\d+), (column .*); nothing was written", re.DOTALL)


def load(client: "Client", args: argparse.Namespace, precision: int) -> int:
    """Write all lines of a file, or of standard input."""
    lines = points = 0
    with ExitStack() as stack:
        if args.file == "-":
            if sys.stdin is None:
                return fail("--file - reads standard input, but standard input is closed")
            file: BinaryIO = sys.stdin.buffer
        else:
            file = stack.enter_context(open(args.file, "rb"))
        progress = Progress()
        size, taken, began = _size(file), 0, monotonic()
        stack.callback(progress.clear)
        try:
            for batch in _batches(file):
                points += _send(client, batch, precision)
                lines += batch.count(b"\n") + (not batch.endswith(b"\n"))
                taken += len(batch)
                progress.show(partial(progress_line, taken, size, points, monotonic() - began))
        except _BadLine as e:
            progress.clear()
            lines, points = lines + e.before, points + e.points
            status = fail(f"line {lines + 1}, {e}")
            warn(_told(args, lines, points, "written", f"mend line {lines + 1}, then go on with it"))
            return status
        except BaseException:
            progress.clear()
            warn(_told(args, lines, points, "acknowledged", "go on behind them"))
            raise
    print_facts(args, {"points": points, "lines": lines}, points, f"wrote {{}} points, from {counted(lines, 'lines')}.")
    return 0


class _BadLine(Exception):
    """The server refused the line behind the `before` first lines of a batch, which had so many points."""

    def __init__(self, message: str, before: int, points: int) -> None:
        super().__init__(message)
        self.before = before
        self.points = points


def _send(client: "Client", batch: bytes, precision: int) -> int:
    """Write a batch; returns how many points it had. If a line of it is bad, write those before and raise `_BadLine`."""
    from flo.errors import BadRequest

    try:
        return client.ts.write_batch(batch, precision=precision)
    except BadRequest as e:
        bad = BAD_LINE.fullmatch(str(e))
        if bad is None:
            raise
    before = int(bad[1]) - 1
    good = batch[: len(batch) - len(batch.split(b"\n", before)[-1])]
    points = client.ts.write_batch(good, precision=precision) if good else 0
    raise _BadLine(bad[2], before, points)


def _told(args: argparse.Namespace, lines: int, points: int, state: str, remedy: str) -> str:
    """How far the file is written, and how to write the rest."""
    rest = "" if args.file == "-" else f": tail -n +{lines + 1} {quote(line(argument(args.file)))} | flo ts write --file -"
    if args.precision and rest:
        rest += f" --precision {args.precision}"
    return f"{state}: {counted(lines, 'lines')} with {counted(points, 'points')}; {remedy}{rest}"


def _size(file: BinaryIO) -> int:
    """How many bytes are still to be read; 0 if that is not known."""
    found = os.fstat(file.fileno())
    return max(found.st_size - file.tell(), 0) if stat.S_ISREG(found.st_mode) else 0


def _batches(file: BinaryIO) -> Iterator[bytes]:
    """The file in pieces of whole lines. A pipe's lines are given as they come."""
    pieces: list[bytes] = []  # of a line without its end
    while data := file.read1(BATCH_BYTES):  # type: ignore[attr-defined]
        end = data.rfind(b"\n") + 1
        if end:
            yield from _cut(b"".join([*pieces, data[:end]]))
            pieces = []
        if end < len(data):
            pieces.append(data[end:])
        if sum(map(len, pieces)) > LINE_BYTES_MAX:
            break  # the server says what is wrong with the line
    if pieces:
        yield b"".join(pieces)


def _cut(lines: bytes) -> Iterator[bytes]:
    """Whole lines in pieces that a request surely takes, if no line alone is too large."""
    if lines.count(b"=") > BATCH_FIELDS:
        middle = lines.find(b"\n", len(lines) // 2) + 1
        if middle == len(lines):
            middle = lines.rfind(b"\n", 0, len(lines) // 2) + 1
        if middle:
            yield from _cut(lines[:middle])
            yield from _cut(lines[middle:])
            return
    yield lines


def progress_line(done: int, size: int, points: int, seconds: float, columns: int) -> str:
    """The progress in so many columns; `done` and `size` (0: not known) are in bytes."""
    made = f"{points:,} points, {points / max(seconds, 0.001):,.0f} /s"
    if not size:
        return f"{size_text(done)}, {made}"[:columns]
    share = min(done / size, 1)
    left = duration_text(round(seconds / share * (1 - share)))
    return bar_line(share, f"{share:4.0%} of {size_text(size)}, {made}, {left} left", columns)
