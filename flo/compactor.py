"""Starts the process that compacts the server's log, and adopts the files it makes. The process itself is flo.ual.rewriter.

A full pass begins when the log has grown (by `log.compact_growth` percent since the last one, and over `log.compact_min`; checked after
each roll), when the disk is full, or on request. At the default, twice the size, each written byte is rewritten about twice, and at most
half of the log is dead for long.

Between full passes there are passes over the log's tail alone (flo.ual.compaction), so that a start finds nearly all of the log compacted.
Tail compaction is optional: a pass begins when a core of the machine is idle, or when no segment was filled for a while
(`log.compact_quiet`), and gives way to a full pass. If the server and its clients kept both cores of a machine busy, a tail pass would cost
a third of the requests.

One pass runs at a time. It is given up if it fails or the server stops; the files that it had not handed over are removed.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol

from flo.errors import LogDamaged, Overloaded
from flo.ual.compaction import Replacement
from flo.ual.idle import CORE_SHARE, idle_seconds
from flo.ual.log import EPHEMERAL, Log
from flo.ual.manifest import ManifestEntry

FULL_RETRY_SECONDS = 60.0  # until a pass that found no room is tried again
REAP_SECONDS = 0.1  # how often to check whether a finished process has ended
NEVER_LOOKED = (0, 0, 0, 0, False)
LOOK_SECONDS = 0.5  # how often to check whether the machine is idle, while a tail waits
TAIL_BYTES_MIN = 16 << 20  # of sealed segments: a start reads this much in 0.2 s, and a process costs 0.1 s
LINE_BYTES_MAX = 1 << 20  # of one line from the process: the names of the files of one group


class Watcher(Protocol):
    """The part of the reactor that tells when the process has written a line."""

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call `handler` when `fd` can be read, after a turn's commit: adopting may use up the disk space that the commit was promised."""

    def unwatch(self, fd: int) -> None:
        """Stop calling the handler."""


class Rules(Protocol):
    """The settings for kept history and the begin of passes (flo.config); they may change at any time."""

    history_depth: int
    history_age: int
    compact_growth: int  # percent; 0: only on request or on a full disk
    compact_min: int  # bytes
    compact_quiet: int  # ms; 0 for no passes over the tail


class Compactor:
    """Starts the passes of one server, one pass at a time."""

    def __init__(self, log: Log, rules: Rules, watcher: Watcher, tell: Callable[[str, str], None]) -> None:
        """`tell(level, sentence)` reaches the operator."""
        self._log = log
        self._rules = rules
        self._watcher = watcher
        self._tell = tell
        self._seen = NEVER_LOOKED  # segments, rules, and whether the disk had room, at the last check of the log's size
        self._tail_at = 0.0  # monotonic; the latest begin of the next tail pass, 0 if none is due
        self._look_at = 0.0  # monotonic; the next check whether the machine is idle
        self._idle = (0.0, 0.0)  # the time of the last such check, and the machine's idle seconds at that time
        self._tail = False  # the present pass is over the tail
        self._again = False  # check again after the pass: segments written meanwhile may deserve another; a failed pass waits for a roll
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: list[subprocess.Popen[bytes]] = []  # processes that have finished and are not reaped yet
        self._untidy = False  # a process was killed; its files are removed when it has ended
        self._said = b""
        self._done = False
        self._error = ""
        self._started = 0.0
        self._size_before = 0
        self._full_again = 0.0  # monotonic; a full disk starts no pass before this time
        self._full_at = 0  # the log's next index at the last such pass: until more is written, another would free nothing
        self._last = 0  # the last index of the pass
        self._asked: list[Callable[[str], None]] = []  # callbacks for the result of the pass
        self.passes: int = 0  # how many were completed

    @property
    def busy(self) -> bool:
        """Whether a pass is under way, or its process has not ended yet."""
        return self._process is not None or bool(self._ending)

    def consider(self, now: int) -> bool:
        """Start a pass if the log has grown. Returns True if the disk is full, and the caller should start a full pass with `seal`.
        It is cheap: it checks the log only if the segments, the settings or the disk's room have changed."""
        if self._ending:
            self._reap()
        rules = self._rules
        seen = (self._log.segments, rules.compact_growth, rules.compact_min, rules.compact_quiet, self._log.accepts_adds)
        if seen != self._seen:
            self._seen = seen
            self._tail_at = 0.0
            if self._has_grown():
                self.give_way()
                self.start(now)
            elif self._has_tail():
                self._look_at = monotonic()
                self._tail_at = self._look_at + rules.compact_quiet / 1000
        elif self._tail_at and self._look_at <= monotonic() and not self.busy and self._may_take_tail():
            self._tail_at = 0.0
            self.start(now, tail=True)
        if not self._log.accepts_adds and not self.busy and monotonic() >= self._full_again and self._log.next_index != self._full_at:
            # the disk is full: the dead records in the log may be the only space to gain
            self._full_again, self._full_at = monotonic() + FULL_RETRY_SECONDS, self._log.next_index
            return True
        return False

    def _has_grown(self) -> bool:
        log, growth = self._log, self._rules.compact_growth
        return growth > 0 and log.segments > 1 and log.size > max(self._rules.compact_min, log.compacted_bytes * (100 + growth) // 100)

    def _has_tail(self) -> bool:
        """Whether the tail is large enough for a pass."""
        log, rules = self._log, self._rules
        if not rules.compact_quiet or not rules.compact_growth or not log.accepts_adds or log.durability == EPHEMERAL:
            return False
        return log.tail_size - log.open_size >= TAIL_BYTES_MIN

    def _may_take_tail(self) -> bool:
        """Whether to begin a tail pass now: the machine was idle since the last check, or the latest time has come."""
        now, idle = monotonic(), idle_seconds()
        before, was_idle = self._idle
        self._idle = now, idle
        self._look_at = min(now + LOOK_SECONDS, self._tail_at)
        if now >= self._tail_at:
            return True
        took = now - before
        return LOOK_SECONDS / 2 <= took <= 2 * LOOK_SECONDS and idle - was_idle >= CORE_SHARE * took

    def give_way(self) -> None:
        """End a tail pass; a full pass begins when its process has ended."""
        if self._tail and self._process is not None:
            self.stop()
            self._again = True

    def next_due(self) -> float | None:
        """Seconds until `consider` must be called even if nothing else wakes the server; None for no need."""
        if self._ending:
            return REAP_SECONDS
        if self._process is not None:
            return None
        if self._seen == NEVER_LOOKED:
            return 0.0
        return max(self._look_at - monotonic(), 0.0) if self._tail_at else None

    def start(self, now: int, tail: bool = False, asked: Sequence[Callable[[str], None]] = (), seal: bool = False) -> None:
        """Start a pass over the sealed segments, over their `tail`, or (`seal`) over everything written, which must then be committed.
        `now` is the engine's time in ms. The callbacks in `asked` get the result, in the form of flo.control."""
        if self._process is not None or self._ending or (tail and self._log.room_is_scarce):
            return
        self._asked += asked
        try:
            room = self._log.make_room(seal)
        except Overloaded as e:
            self._failed(str(e))
            return
        if not self._log.sources(tail):
            self._log.end_compaction()
            self._answer(f"compacted {self._log.size} {self._log.size} {self._log.history_size}")
            return
        # a directory, or the archive Flo runs from, which may be an open file (contrib/pyz_main.py)
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        opened = root.removeprefix("/proc/self/fd/")
        depth = self._rules.history_depth if room is None or room.history else 1
        numbers = now, depth, self._rules.history_age, int(tail), room.bytes if room is not None else 0
        arguments = [sys.executable, "-P", "-m", "flo.ual.rewriter", self._log.directory, *map(str, numbers)]
        try:
            # in its own session: Ctrl-C reaches only the server, which then ends the pass
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": root},
                start_new_session=True,
                pass_fds=(int(opened),) if opened.isdigit() else (),
            )
        except OSError as e:
            self._log.end_compaction()
            self._failed(f"no process could be started: {e}")
            return
        assert self._process.stdout is not None
        self._said, self._done, self._error, self._tail = b"", False, "", tail
        self._started, self._size_before = monotonic(), self._log.size
        self._watcher.watch(self._process.stdout.fileno(), self._heard)

    def _heard(self, _events: int) -> None:
        process = self._process
        if process is None:
            return  # the pass was given up after its output became readable
        assert process.stdout is not None
        data = os.read(process.stdout.fileno(), 1 << 16)
        self._said += data
        while b"\n" in self._said:
            line, _, self._said = self._said.partition(b"\n")
            try:
                self._act(json.loads(line))
            except (ValueError, TypeError, LookupError, AssertionError):
                self.stop(f"the process wrote {line[:100]!r}, which is not a message")
            if self._process is None:
                return
        if not data:
            self._end()
        elif len(self._said) > LINE_BYTES_MAX:
            self.stop(f"the process wrote more than {LINE_BYTES_MAX} bytes without a line's end")

    def _act(self, message: dict[str, object]) -> None:
        process = self._process
        assert process is not None and process.stdin is not None and isinstance(message, dict)
        if "entry" in message:
            sources, entry = message["sources"], message["entry"]
            assert isinstance(sources, list) and isinstance(entry, list)
            try:
                self._log.adopt(Replacement([ManifestEntry(*source) for source in sources], ManifestEntry(*entry)))
                process.stdin.write(b"adopted\n")
                process.stdin.flush()
            except (OSError, LogDamaged) as e:
                self.stop(str(e))
        elif "done" in message:
            self._done, self._last = True, int(str(message["done"]))
        else:
            self._error = str(message.get("error"))

    def _end(self) -> None:
        """The process has closed its output: it has ended, or is about to."""
        done, error = self._done, self._error
        self._close()
        self._tidy()
        took = monotonic() - self._started
        if not done:
            self._failed(error or "the process ended before it was done")
            return
        self._again = True
        self.passes += 1
        part, before, size = ("'s tail" if self._tail else ""), self._size_before, self._log.size
        if not self._tail:
            try:
                self._log.note_compacted(self._last)
            except OSError as e:
                self._tell("warning", f"the compaction could not be noted: {e}")
        history = self._log.history_size
        sizes = f"the log was {before} bytes before, and is {size} now, {history} of them history"
        self._tell("info", f"compacted the log{part} in {took:.1f} s: {sizes}")
        self._answer(f"compacted {before} {size} {history}")

    def _failed(self, why: str) -> None:
        self._tell("warning", f"the log could not be compacted, and stays as it is: {why}")
        self._answer(f"failed {why}")

    def _answer(self, text: str) -> None:
        asked, self._asked = self._asked, []
        for answer in asked:
            answer(text)

    def stop(self, why: str = "") -> None:
        """Give up the pass, if there is one. Adopted files stay."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._close()
        self._untidy = True
        if why:
            self._failed(why)
        else:
            self._answer("failed the pass was given up")

    def close(self) -> None:
        """Give up a pass, and return when its processes have ended."""
        self.stop()
        for process in self._ending:
            process.wait()
        self._reap()

    def _reap(self) -> None:
        # the server does not wait for this: at idle priority even a process's last ms may take long
        self._ending = [process for process in self._ending if process.poll() is None]
        if self._ending:
            return
        if self._again:
            self._again = False
            self._seen = NEVER_LOOKED
        if self._untidy:
            self._untidy = False
            self._tidy()

    def _tidy(self) -> None:
        try:
            self._log.tidy()
        except OSError as e:  # the next recovery tries again
            self._tell("warning", f"the files that a compaction left could not be removed: {e}")

    def _close(self) -> None:
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None and process.stdout is not None
        self._watcher.unwatch(process.stdout.fileno())
        process.stdout.close()
        with suppress(OSError):  # it had ended before it read our last line
            process.stdin.close()
        self._ending.append(process)
        self._log.end_compaction()
