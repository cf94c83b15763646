"""How idle the machine is, as far as the system tells: work that can wait, waits for an idle core."""

import os

CORE_SHARE = 0.8  # of a core: with so much idle time, a core is free; a client in pipelines and its server leave as much on two cores
_IDLE_COLUMN = 4  # of the first line of /proc/stat, in ticks of 10 ms; time spent waiting for a disk is in another column
# A container's share of all cores: the first file has "max" or a quota and its period, the second a quota or -1
_QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_NO_QUOTA = ("max", "-1")


def idle_seconds() -> float:
    """The idle time of all cores together since the machine started. 0 if the system does not tell, or if this process may not use all
    cores: then an idle core is not free to use, and other work takes from the server's share."""
    if any(_has_quota(path) for path in _QUOTAS):
        return 0.0
    try:
        with open("/proc/stat", "rb") as file:
            return int(file.readline().split()[_IDLE_COLUMN]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def _has_quota(path: str) -> bool:
    try:
        with open(path) as file:
            return not file.read().startswith(_NO_QUOTA)
    except OSError:
        return False
