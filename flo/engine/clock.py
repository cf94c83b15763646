"""The two clocks of an engine: the wall clock, which gives the time for people and deadlines, and the steady clock, which is never set.

The wall clock is sometimes wrong, and is then corrected in one step, forward or back, by hours or years: after a virtual machine was
resumed, when NTP corrects the hardware clock, or by an operator. The steady clock only tells how much time has passed.
"""

import time

STEP_MS = 1000  # a wall clock that moved more than this against the steady clock was stepped; NTP slews differences under 128 ms
DRIFT_DIVISOR = 1000  # the clocks may drift apart by a 1,000th of the time between two looks: NTP corrects by a 2,000th at most
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)  # goes on while the machine sleeps, as the wall clock does: a suspend is not a step


def wall_clock() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000


def steady_clock() -> int:
    """Ms since an arbitrary moment; never goes back and is never set."""
    return (time.monotonic_ns() if _BOOT_CLOCK is None else time.clock_gettime_ns(_BOOT_CLOCK)) // 1_000_000


class Steps:
    """Finds the steps of a wall clock. Each look compares with the last one, so that a slow drift never adds up to a step."""

    __slots__ = ("_steady", "_wall")

    def __init__(self, wall: int, steady: int) -> None:
        """The first readings of the two clocks, ms."""
        self._wall = wall
        self._steady = steady

    def look(self, wall: int, steady: int) -> int:
        """By how many ms the wall clock was stepped since the last look, negative for back; 0 if it was not stepped."""
        passed = steady - self._steady
        step = wall - self._wall - passed
        self._wall, self._steady = wall, steady
        return step if abs(step) > STEP_MS + passed // DRIFT_DIVISOR else 0
