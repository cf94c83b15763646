"""How idle the machine is, as far as the system says: what can wait, waits for a core that nobody needs."""

import os

CORE_SHARE = 0.8  # of a core: where as much is idle, one can be had; what a client in pipelines leaves beside its server on two cores
_IDLE_COLUMN = 4  # of the first line of /proc/stat, in ticks of 10 ms; what waits for a disk is in another
# What a container may use of all cores: of the first, "max" or a quota and its period; of the second, a quota, -1 for none
_QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_NO_QUOTA = ("max", "-1")


def idle_seconds() -> float:
    """How long all cores together have been idle since the machine started; 0 where the system does not say, or where this process may
    not use them all: an idle core is then nobody's, and what is done besides is taken from the server's share."""
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
