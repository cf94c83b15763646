"""The progress of a long command: a line on standard error. On a terminal it is drawn over itself; elsewhere it is written now and then."""

import os
import sys
from collections.abc import Callable
from time import monotonic

from flo.cli.output import warn

SHOW_SECONDS = 0.1  # between two changes of the line on a terminal
BAR_LEAST = 8  # characters
COLUMNS = 80  # of a line that is no terminal's


class Progress:
    """The line. Without a terminal it is written every `plain_seconds`, or never (None)."""

    def __init__(self, plain_seconds: float | None = None) -> None:
        self._on = sys.stderr is not None and sys.stderr.isatty()
        self._every = SHOW_SECONDS if self._on else plain_seconds
        self._shown = monotonic()

    def show(self, line_of: Callable[[int], str]) -> None:
        """Draw the line anew, if the last drawing is old enough. `line_of` gives it in so many columns."""
        now = monotonic()
        if self._every is None or now < self._shown + self._every:
            return
        self._shown = now
        if self._on:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or COLUMNS
            sys.stderr.write(f"\r{line_of(columns - 1)}\x1b[K")
            sys.stderr.flush()
        else:
            warn(line_of(COLUMNS))

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def bar_line(share: float, text: str, columns: int) -> str:
    """A text in so many columns, behind a bar for the share (0 to 1) if there is room for one."""
    room = columns - len(text) - 3
    if room >= BAR_LEAST:
        full = int(share * room)
        text = f"[{'#' * full}{'-' * (room - full)}] {text}"
    return text[:columns]
