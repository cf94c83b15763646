"""How idle the machine is, as far as the system says: what can wait, waits for a core that nobody needs."""

import os

CORE_SHARE = 0.9  # of a core: where as much is idle, nobody needs one
_IDLE_COLUMN = 4  # of the first line of /proc/stat, in ticks of 10 ms; what waits for a disk is in another


def idle_seconds() -> float:
    """How long all cores together have been idle since the machine started; 0 where the system does not say."""
    try:
        with open("/proc/stat", "rb") as file:
            return int(file.readline().split()[_IDLE_COLUMN]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
