"""The operator's log: one line for each event on standard error, as text or as JSON.

It does not use Python's `logging`: that costs 15 ms at start-up, and the server has one thread and one destination.
"""

import sys
import time
from typing import TextIO

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def escaped(text: str, kept: str = "") -> str:
    """Text that is safe on a terminal: all but printable characters and those in `kept` are escaped. Names come from other people: an
    escape sequence in one could move the cursor or answer for the user, and a mark for right-to-left text could hide a part of it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


class OperatorLog:
    """Writes events at or above a level."""

    def __init__(self, level: str = "info", form: str = "text", stream: TextIO | None = None) -> None:
        self.threshold = LEVELS[level]
        self._json = form == "json"
        self._stream = stream or sys.stderr

    def write(self, level: str, message: str, **details: object) -> None:
        """Print one event. A closed destination is not an error."""
        if LEVELS[level] < self.threshold:
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        if self._json:
            import json

            line = json.dumps({"time": stamp, "level": level, "message": message, **details}, default=str)
        else:
            trace = details.pop("traceback", "")
            shown = "".join(f"  {key}={value}" for key, value in details.items())
            line = escaped(f"{stamp} {level:<7} {message}{shown}") + (f"\n{trace}".rstrip() if trace else "")
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass
