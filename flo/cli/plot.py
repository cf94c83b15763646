"""Charts in the terminal: `flo ts query --plot`.

The canvas is a grid of cells. With braille each cell has 2 by 4 dots, else one. All points of a series that fall into one column of dots
become a stroke from the smallest to the largest, joined to the next column's; a gap of several usual distances stays a gap. A series is
told by its colour and by a letter, which also stands on its line, so no colour is needed to read a chart.
"""

import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from math import floor, log10
from typing import Any, NamedTuple

from flo.cli.output import utc_text
from flo.cli.points import label

LINES_MAX = 20  # series in one chart; nobody can tell more apart
COLOURS = (36, 33, 35, 32, 34, 31)  # of ANSI's: cyan, yellow, magenta, green, blue, red
ROWS_MOST, ROWS_LEAST = 20, 5
COLUMNS_LEAST = 30
GAP = 3.5  # usual distances between points, past which a line is not drawn through
HUGE = 1e300  # values are cut there: differences of larger ones are infinite
TINY = 1e-290  # values no further apart are drawn as equal: their distance divided by a step would not be a normal double
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille cell, by row and column
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
STEPS = (
    *(unit * count for unit in (1, 10, 100) for count in (1, 2, 5)),
    *(unit * count for unit in (SECOND, MINUTE) for count in (1, 2, 5, 10, 15, 30)),
    *(HOUR * count for count in (1, 2, 3, 6, 12)),
    *(DAY * count for count in (1, 2, 7, 14, 28, 91, 182)),
    *(DAY * 365 * count * 10**power for power in range(10) for count in (1, 2, 5)),  # the last one is longer than any two times are apart
)
TIME_FORMS = ((DAY * 28, 0, 10), (DAY, 5, 10), (MINUTE, 11, 16), (SECOND, 11, 19), (1, 11, 23))  # the part of a time shown from a step on


class Line(NamedTuple):
    """A series in a chart; points are in the order of time."""

    label: str
    points: list[tuple[int, float]]


class Look(NamedTuple):
    """How a chart is drawn: cells for all of it in width, for the canvas alone in height."""

    columns: int
    rows: int
    braille: bool
    colour: bool


# -- the terminal ----------------------------------------------------------------------------------


def print_chart(series: list[dict[str, Any]]) -> None:
    """Draw the series of an answer as this terminal can show it."""
    lines = [Line(label(one), sorted((time, float(value)) for time, value in one["points"])) for one in series[:LINES_MAX]]
    for text in chart(lines, _look(len(lines))):
        print(text)
    if len(series) > LINES_MAX:
        print(f"{len(series) - LINES_MAX} more series are not drawn; choose some by tags or topk({LINES_MAX})")


def _look(lines: int) -> Look:
    environment = os.environ
    terminal = sys.stdout.isatty()
    columns, rows = (os.get_terminal_size(sys.stdout.fileno())) if terminal else (0, 0)
    if not columns:
        columns = int(environment["COLUMNS"]) if environment.get("COLUMNS", "").isdecimal() else 80
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or ""
    plain = locale in ("C", "POSIX") or environment.get("TERM") in ("linux", "dumb")  # Linux's console has no braille
    return Look(
        max(columns, COLUMNS_LEAST),
        max(min(rows - lines - 4, ROWS_MOST), ROWS_LEAST) if rows else ROWS_MOST,
        not plain and sys.stdout.encoding.lower() == "utf-8",
        terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb",
    )


# -- axes ------------------------------------------------------------------------------------------


def value_ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many values, and at least 2, at equal distances of 1, 2 or 5 times a power of ten; the first and the last hold all others
    between them."""
    if high - low <= max(abs(high), abs(low)) * 1e-12 or high - low < TINY:
        spare = abs(high) * 0.1 if abs(high) > TINY else 1.0
        low, high = low - spare, high + spare
    step = 10.0 ** floor(log10((high - low) / max(most - 1, 1)))
    for factor in (1, 2, 5, 10, 20, 50):
        first, last = floor(low / (step * factor)), -floor(-high / (step * factor))
        if last - first < most or factor == 50:
            return [at * step * factor for at in range(first, last + 1)]
    raise AssertionError("unreachable")


def value_texts(ticks: list[float]) -> list[str]:
    """The ticks as text, with as many digits as tell them apart."""
    step = ticks[1] - ticks[0]
    digits = floor(log10(step) + 1e-9)
    largest = max(map(abs, ticks))
    if largest < 1e9 and digits > -7:
        return [f"{tick:,.{max(-digits, 0)}f}" for tick in ticks]
    return [f"{tick:.{max(floor(log10(largest)) - digits, 0)}e}" for tick in ticks]


def time_step(start: int, end: int, columns: int) -> tuple[int, int, int]:
    """The distance of the ticks between two times, in ms, and the part of RFC 3339 that they show."""
    for step in STEPS:
        first, last = next((first, last) for least, first, last in TIME_FORMS if step >= least)
        if (end - start) / step * (last - first + 2) <= columns:
            break
    return step, first, last


# -- the chart -------------------------------------------------------------------------------------


def chart(lines: list[Line], look: Look) -> list[str]:
    """The lines of text of a chart: canvas and axes, the range, and a legend. Each line has a point at least."""
    start, end = min(line.points[0][0] for line in lines), max(line.points[-1][0] for line in lines)
    lines = [Line(line.label, [(time, max(min(value, HUGE), -HUGE)) for time, value in line.points]) for line in lines]
    ticks = value_ticks(
        min(value for line in lines for _, value in line.points),
        max(value for line in lines for _, value in line.points),
        max(look.rows // 4 + 1, 2),
    )
    texts = value_texts(ticks)
    gutter = max(map(len, texts))
    canvas = _Canvas(max(look.columns - gutter - 2, 10), look.rows, look.braille)
    for number, line in enumerate(lines):
        canvas.draw(number, line.points, (start, end), (ticks[0], ticks[-1]))
    marks = [chr(ord("a") + number) if len(lines) > 1 else "" for number in range(len(lines))]
    canvas.mark(marks)
    at_row = {round((look.rows - 1) * (1 - at / (len(ticks) - 1))): text for at, text in enumerate(texts)}
    across, down, tick, corner = "─│┤└" if look.braille else "-||+"
    shown = [
        f"{at_row.get(row, ''):>{gutter}} {tick if row in at_row else down}{canvas.text(row, look.colour)}".rstrip()
        for row in range(look.rows)
    ]
    axis, labels = _time_axis(start, end, canvas.columns, across, "┬" if look.braille else "+")
    shown += [f"{'':{gutter}} {corner}{axis}", f"{'':{gutter}}  {labels}".rstrip()]
    shown.append(f"{utc_text(start)} to {utc_text(end)}"[: look.columns])
    for number, (line, mark) in enumerate(zip(lines, marks, strict=True)):
        name = f"{mark or '*'}  {line.label}  last {line.points[-1][1]:.6g}"[: look.columns]
        shown.append(_coloured(name, number) if look.colour else name)
    return shown


def _coloured(text: str, number: int) -> str:
    return f"\x1b[{COLOURS[number % len(COLOURS)]}m{text}\x1b[0m"


def _time_axis(start: int, end: int, columns: int, across: str, tick: str) -> tuple[str, str]:
    """The axis, and the times below it."""
    step, first, last = time_step(start, end, columns)
    axis, labels = [across] * columns, [" "] * columns
    free = 0
    for time in range(-(-start // step) * step, end + 1, step):
        at = _place(time, start, end, columns)
        text = utc_text(time)[first:last]
        begin = max(min(at - len(text) // 2, columns - len(text)), 0)
        axis[at] = tick
        if begin >= free:
            labels[begin : begin + len(text)] = text
            free = begin + len(text) + 1
    return "".join(axis), "".join(labels[:columns])


def _place(at: float, low: float, high: float, places: int) -> int:
    return min(int((at - low) / (high - low) * places), places - 1) if high > low else 0


class _Canvas:
    """The cells of a chart. `y` grows downwards."""

    def __init__(self, columns: int, rows: int, braille: bool) -> None:
        self.columns = columns
        self.rows = rows
        self._wide, self._high = (2, 4) if braille else (1, 1)
        self._dots: dict[tuple[int, int], int] = {}  # of a cell
        self._owner: dict[tuple[int, int], int] = {}  # the line that was drawn last there
        self._marks: dict[tuple[int, int], str] = {}
        self._names: list[str] = []  # the marks, by the number of the line
        self._braille = braille
        self._cells: dict[int, list[tuple[int, int]]] = {}  # of a line, by the columns of its points

    def draw(self, number: int, points: list[tuple[int, float]], times: tuple[int, int], values: tuple[float, float]) -> None:
        """Draw a line."""
        distances = sorted(after[0] - before[0] for before, after in pairwise(points))
        usual = distances[len(distances) // 2] if distances else 0
        last_time, before = points[0][0], None
        cells = self._cells[number] = []
        for time, stroke in self._strokes(points, times, values):
            if before is not None and time[0] - last_time <= GAP * usual:
                self._line(number, before, (stroke[0], stroke[1]))
            self._line(number, (stroke[0], stroke[2]), (stroke[0], stroke[3]))
            before = stroke[0], stroke[4]
            last_time = time[1]
            cells.append((before[0] // self._wide, before[1] // self._high))

    def _strokes(
        self, points: list[tuple[int, float]], times: tuple[int, int], values: tuple[float, float]
    ) -> Iterator[tuple[tuple[int, int], tuple[int, int, int, int, int]]]:
        """For each column of dots with points: their first and last time; x, the first y, the smallest, the largest, the last."""
        across, down = self.columns * self._wide, self.rows * self._high
        found: tuple[int, int, int, int, int] | None = None
        first = last = 0
        for time, value in points:
            x, y = _place(time, *times, across), down - 1 - _place(value, *values, down)
            if found is not None and found[0] == x:
                found = x, found[1], min(found[2], y), max(found[3], y), y
            else:
                if found is not None:
                    yield (first, last), found
                found, first = (x, y, y, y, y), time
            last = time
        if found is not None:
            yield (first, last), found

    def _line(self, number: int, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Dots from one to the other."""
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1])) or 1
        for step in range(steps + 1):
            x = start[0] + round((end[0] - start[0]) * step / steps)
            y = start[1] + round((end[1] - start[1]) * step / steps)
            cell = x // self._wide, y // self._high
            self._dots[cell] = self._dots.get(cell, 0) | DOTS[y % self._high][x % self._wide]
            self._owner[cell] = number

    def mark(self, marks: list[str]) -> None:
        """Put the marks of the lines on them: at the end, in the middle and at the beginning, or near it if another has that cell."""
        self._names = marks
        for number, mark in enumerate(marks):
            cells = self._cells[number]
            for place in (len(cells) - 1, len(cells) // 2, 0) if mark else ():
                cell = next((cell for cell in (*cells[place::-1], *cells[place:]) if cell not in self._marks), None)
                if cell is not None:
                    self._marks[cell] = mark
                    self._owner[cell] = number

    def text(self, row: int, colour: bool) -> str:
        """A row of cells."""
        pieces: list[str] = []
        for column in range(self.columns):
            cell = column, row
            if cell not in self._owner:
                pieces.append(" ")
                continue
            owner = self._owner[cell]
            text = self._marks.get(cell) or (chr(BRAILLE | self._dots[cell]) if self._braille else self._names[owner] or "*")
            pieces.append(_coloured(text, owner) if colour else text)
        return "".join(pieces)
