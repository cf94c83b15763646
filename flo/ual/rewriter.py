"""The process that compacts beside a server: `python -m flo.ual.rewriter DIR NOW DEPTH AGE TAIL ROOM`, started by flo.compactor.

It runs at idle priority and with naps, reads sealed files and writes bases; it does not change the open segment or the manifest, which are
the server's. It writes lines of JSON to standard output:

    {"sources": [entry, …], "entry": entry}   a base is written: adopt it. After an answer (a line on standard input) it removes the sources
    {"done": last index that was read}        (not answered)
    {"error": "a sentence"}                   (not answered)

It ends when its standard input ends: the server has gone, or wants it to stop.
"""

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress

from flo.errors import FloError
from flo.ual import manifest
from flo.ual.compaction import Stopped, compact, remove_replaced, sources_of, tail_of
from flo.ual.files import Files
from flo.ual.idle import CORE_SHARE, idle_seconds

STANDARD_OUTPUT = 1
NICENESS = 19
# It works and naps in turn, since idle priority is not enough: on two busy cores, a server that its disk wakes waits for the next timer
# tick while this process has its core, 4 ms each time, at the median (p99 20 to 40 ms; with naps 0.5 and 2 to 6).
WORK_SECONDS = 0.0003
NAP_SECONDS = 0.0005
TAIL_NAP_SECONDS = 0.005  # over the tail, which can wait
LOOK_SECONDS = 0.05  # between checks whether the machine is busy: if a core has been idle, nothing waits for this one
IDLE_SHARE = 0.2  # of one core, besides its own use


def main(directory: str, now: int, depth: int, age: int, tail: int, room: int) -> int:
    """Compact the log that the manifest in `directory` lists, or only its tail if `tail` is 1; within `room` bytes, unless that is 0.
    Returns the exit status."""
    with suppress(OSError):  # a sandbox may not allow it
        os.nice(NICENESS)
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    signal.signal(signal.SIGALRM, _Pace(bool(tail)).nap)
    signal.setitimer(signal.ITIMER_REAL, WORK_SECONDS)
    try:
        return _compact(directory, now, depth, age, bool(tail), room)
    except Stopped:
        return 1
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # first: a nap that is under way sets the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)


def _compact(directory: str, now: int, depth: int, age: int, tail: bool, room: int) -> int:
    def told_to_stop() -> bool:
        return bool(select.select([sys.stdin], [], [], 0)[0])  # the server sends nothing unasked, so the input has ended

    files = Files()
    try:
        entries = manifest.read(files, directory).entries
        sources = tail_of(files, directory, entries) if tail else sources_of(entries)
        for replacement in compact(files, directory, sources, now=now, depth=depth, age=age, should_stop=told_to_stop, room=room):
            _say({"sources": replacement.sources, "entry": replacement.entry})
            signal.setitimer(signal.ITIMER_REAL, 0)
            answer = sys.stdin.readline()
            signal.setitimer(signal.ITIMER_REAL, WORK_SECONDS)
            if not answer:
                return 1
            remove_replaced(files, directory, replacement.sources)
        _say({"done": sources[-1].last if sources else 0})
    except Stopped:
        raise
    except (FloError, OSError) as e:
        _say({"error": str(e)})
        return 1
    except Exception as e:
        _say({"error": f"a defect: {e!r}"})
        raise
    return 0


class _Pace:
    """Naps while the machine is busy; in a pass over the tail, whenever no core is free for it."""

    def __init__(self, tail: bool) -> None:
        self._tail = tail
        self._nap_seconds = TAIL_NAP_SECONDS if tail else NAP_SECONDS
        self._busy = True
        self._looked = time.monotonic()
        self._idle = self._idle_now()

    def _idle_now(self) -> float:
        return idle_seconds() + (time.process_time() if self._tail else 0.0)

    def nap(self, *_: object) -> None:
        """Called each time after WORK_SECONDS of work."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            idle = self._idle_now()
            self._busy = idle - self._idle < (CORE_SHARE if self._tail else IDLE_SHARE) * (now - self._looked)
            self._looked, self._idle = now, idle
        if self._busy:
            time.sleep(self._nap_seconds)
        signal.setitimer(signal.ITIMER_REAL, WORK_SECONDS)  # from now: a timer that ran out during the nap would leave no time to work


def _say(message: dict[str, object]) -> None:
    """Write a message. Raises `Stopped` if the server has gone."""
    line = json.dumps(message).encode() + b"\n"
    try:
        while line:
            line = line[os.write(STANDARD_OUTPUT, line) :]  # not `print`: what is left in a buffer would be written again at the end
    except BrokenPipeError:
        raise Stopped from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
