"""The two clocks an engine asks: the wall clock, which people and deadlines go by, and a steady one, which nobody sets.

The wall clock is wrong at times and is put right in one step, either way, by hours or years: a virtual machine that was resumed, a hardware
clock before NTP has answered, an operator. The steady clock only says how much time has passed.
"""

import time

STEP_MS = 1000  # a wall clock that moved so much against the steady one was stepped; NTP slews what is less than 128 ms
DRIFT_DIVISOR = 1000  # two clocks may run apart by this part of the time between two looks: NTP corrects by a 2,000th at most
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)  # goes on while the machine sleeps, as the wall clock does: a suspend is no step


def wall_clock() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000


def steady_clock() -> int:
    """Ms since some moment; it never goes back and is never set."""
    return (time.monotonic_ns() if _BOOT_CLOCK is None else time.clock_gettime_ns(_BOOT_CLOCK)) // 1_000_000


class Steps:
    """Finds the steps of a wall clock. Each look compares with the one before, so that a slow drift never adds up to a step."""

    __slots__ = ("_steady", "_wall")

    def __init__(self, wall: int, steady: int) -> None:
        """What the two clocks say at first, ms."""
        self._wall = wall
        self._steady = steady

    def look(self, wall: int, steady: int) -> int:
        """By how many ms the wall clock was stepped since the last look, negative for back; 0 where it was not."""
        passed = steady - self._steady
        step = wall - self._wall - passed
        self._wall, self._steady = wall, steady
        return step if abs(step) > STEP_MS + passed // DRIFT_DIVISOR else 0
