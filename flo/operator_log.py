"""The operator's log: one line for each event on standard error, as text or as JSON.

It never makes the server wait, and never floods: strangers cause events too.

- A line that standard error does not take now (a pipe that nobody reads, a stopped terminal) waits in a bounded backlog. While the backlog
  is full, lines are dropped; a line counts them once there is room.
- Of each kind of event, KIND_LINES_MAX lines are written in KIND_SECONDS; one line then counts the rest. A kind is a message without its
  numbers.

Standard error is shared with other processes (a shell, the compaction), and O_NONBLOCK belongs to all who share it. So a pipe or a terminal
is opened again, for a descriptor with a flag of its own. Where that is not possible (a terminal of another user), and for a socket, each
write is of PIPE_BUF bytes at most, to a terminal of one, behind a poll that says that there is room.

It does not use Python's `logging`: that costs 15 ms at start-up, and the server has one thread and one destination.
"""

import os
import re
import select
import stat
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
BACKLOG_BYTES_MAX = 64 << 10  # of lines that wait; as much as a pipe holds
KIND_LINES_MAX = 10  # of one kind in KIND_SECONDS: the progress of a long start, every 5 s, is not cut
KIND_SECONDS = 30.0
KINDS_MAX = 100  # of kinds whose lines are counted: past it, the kind that began longest ago is forgotten
RECENT_LINES = 500  # kept in memory, each part of one cut to so many characters
RECENT_CHARACTERS = 1000
FINISH_SECONDS = 1.0  # that the end of the process waits for standard error


class Line(NamedTuple):
    """One line, kept for server_view."""

    number: int  # among all lines
    time: int  # ms
    level: str
    message: str
    details: dict[str, str]


class _Kind:
    """The lines of one kind in its present KIND_SECONDS."""

    __slots__ = ("began", "level", "lines", "message", "suppressed")

    def __init__(self, began: float) -> None:
        self.began = began
        self.lines = 0
        self.suppressed = 0
        self.level = self.message = ""  # of the last suppressed line


def escaped(text: str, kept: str = "") -> str:
    """Text that is safe on a terminal: all but printable characters and those in `kept` are escaped. Names come from other people: an
    escape sequence in one could move the cursor or answer for the user, and a mark for right-to-left text could hide a part of it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


class OperatorLog:
    """Writes events at or above a level."""

    def __init__(
        self, level: str = "info", form: str = "text", descriptor: int | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        """Writes to `descriptor`, or to standard error if there is one. `clock` is a steady one, in seconds."""
        self.threshold: int = LEVELS[level]
        self._json = form == "json"
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}  # the one that began longest ago first
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._dropped = 0  # lines
        self._count = 0  # of lines
        self.recent: deque[Line] = deque(maxlen=RECENT_LINES)  # written last
        if descriptor is None and sys.stderr is not None:  # if it was closed at the start, a file of the server has its number
            descriptor = sys.stderr.fileno()
        self._descriptor = None if descriptor is None else _own(descriptor)
        self._poll = select.poll()
        self._piece_bytes = select.PIPE_BUF  # a pipe that is ready takes as many
        if self._descriptor is not None:
            self._poll.register(self._descriptor, select.POLLOUT)
            if self._descriptor == descriptor and os.isatty(self._descriptor):
                self._piece_bytes = 1  # a terminal that is ready may take no more, and the write would wait for room for the rest

    def write(self, level: str, message: str, **details: object) -> None:
        """Write one event, unless there were too many of its kind. A closed destination is not an error."""
        if LEVELS[level] < self.threshold:
            return
        name, now = re.sub(r"\d+", "", message), self._clock()
        kind = self._kinds.get(name)
        if kind is None or now - kind.began >= KIND_SECONDS:
            self._forget(name)
            kind = self._kinds[name] = _Kind(now)
            if len(self._kinds) > KINDS_MAX:
                self._forget(next(iter(self._kinds)))
        kind.lines += 1
        if kind.lines > KIND_LINES_MAX:
            kind.suppressed += 1
            kind.level, kind.message = level, message
            return
        self._write(level, message, details)

    def _write(self, level: str, message: str, details: dict[str, object]) -> None:
        now = time.time()
        self._count += 1
        shown_details = {name: str(value)[:RECENT_CHARACTERS] for name, value in details.items()}
        self.recent.append(Line(self._count, int(now * 1000), level, message[:RECENT_CHARACTERS], shown_details))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        if self._json:
            import json

            line = json.dumps({"time": stamp, "level": level, "message": message, **details}, default=str)
        else:
            trace = details.pop("traceback", "")
            shown = "".join(f"  {key}={value}" for key, value in details.items())
            line = escaped(f"{stamp} {level:<7} {message}{shown}") + (f"\n{trace}".rstrip() if trace else "")
        self.text(line + "\n")

    def text(self, text: str) -> None:
        """Write text as it is."""
        self._send()
        data = text.encode("utf-8", "backslashreplace")
        if self._backlog and (self._dropped or self._backlog_bytes + len(data) > BACKLOG_BYTES_MAX):  # all in one place are dropped
            self._dropped += 1
            return
        self._backlog.append(data)
        self._backlog_bytes += len(data)
        self._send()

    def _forget(self, name: str) -> None:
        """Say how many lines of a kind were suppressed, and count them no longer."""
        kind = self._kinds.pop(name, None)
        if kind is not None and kind.suppressed:
            self._write(kind.level, f"{kind.suppressed} more lines of this kind in {KIND_SECONDS:.0f} s, the last: {kind.message}", {})

    def _send(self) -> None:
        """Send the backlog, as far as it goes without waiting."""
        while self._backlog and self._send_piece():
            if not self._backlog and self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._write("warning", f"{dropped} lines of this log were dropped: nothing read standard error", {})

    def _send_piece(self) -> bool:
        """Send one piece of the first line; returns whether that went."""
        data = self._backlog[0]
        try:
            if self._descriptor is None:
                raise OSError("there is no standard error")
            if not self._poll.poll(0):
                return False
            sent = os.write(self._descriptor, data[: self._piece_bytes])
        except BlockingIOError:
            return False
        except OSError:  # nobody will ever read it
            self._backlog.clear()
            self._backlog_bytes = self._dropped = 0
            return False
        self._backlog_bytes -= sent
        if sent == len(data):
            self._backlog.popleft()
        else:
            self._backlog[0] = data[sent:]
        return True

    @property
    def waiting(self) -> bool:
        """Whether something is still to be written: `catch_up` must be called."""
        return bool(self._backlog) or any(kind.suppressed for kind in self._kinds.values())

    def catch_up(self) -> None:
        """Send the backlog, and count the suppressed lines of the kinds whose time is over."""
        self._send()
        now = self._clock()
        for name in [name for name, kind in self._kinds.items() if now - kind.began >= KIND_SECONDS]:
            self._forget(name)

    def finish(self) -> None:
        """Write everything that is left, in FINISH_SECONDS at most: the process is about to end."""
        for name in list(self._kinds):
            self._forget(name)
        end = monotonic() + FINISH_SECONDS
        self._send()
        while self._backlog and monotonic() < end:
            self._poll.poll(int((end - monotonic()) * 1000) + 1)
            self._send()


def _own(descriptor: int) -> int:
    """A descriptor for the same pipe or terminal whose writes never wait; `descriptor` itself where there can be none."""
    with suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return descriptor
