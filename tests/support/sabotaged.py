"""`python sabotaged.py ...` is `flo ...` as the tests of faults start it: with a wall clock that can be set, with less of the log kept in
etcd, or without one of the rules.

TEST_SABOTAGE    claim: appends do not say "if the claim still stands"; fresh: a leader always takes itself for fresh; wait: replies do not
                 wait for the acknowledgement
TEST_KEEP_BYTES  how much of the log is always left in etcd
TEST_CLOCK       a file: how many ms its wall clock is ahead, an i64
"""

import mmap
import os
import struct
import sys
import time
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from flo import server
from flo.cli import main
from flo.cluster import replica
from flo.cluster.etcd import Etcd
from flo.cluster.member import Cluster


def take_out(rule: str) -> None:
    """Take that rule out."""
    if rule == "claim":
        execute = Etcd.txn

        def careless(self: Etcd, compares: list[bytes], success: list[bytes], *rest: Any) -> Any:
            appends = len(success) == 1 and b"/log/" in success[0]
            return execute(self, [] if appends else compares, success, *rest)

        Etcd.txn = careless  # type: ignore[assignment]
    elif rule == "fresh":
        replica.Replica.fresh = property(lambda self: self.role is replica.Role.LEADER)  # type: ignore[assignment]
    elif rule == "wait":
        Cluster.committed = lambda self: self._owner.engine.log.next_index - 1  # type: ignore[method-assign]


def set_clock(path: str) -> None:
    """Let a server's wall clock be what the file says."""
    with open(path, "r+b") as file:
        ahead = mmap.mmap(file.fileno(), 8)

    def clock() -> int:
        offset: int = struct.unpack("<q", ahead[:])[0]
        return time.time_ns() // 1_000_000 + offset

    server.Server = partial(server.Server, clock=clock)  # type: ignore[assignment, misc]


if __name__ == "__main__":
    if "TEST_KEEP_BYTES" in os.environ:
        replica.Replica.__init__ = partialmethod(replica.Replica.__init__, keep_bytes=int(os.environ["TEST_KEEP_BYTES"]))  # type: ignore[assignment]
    take_out(os.environ["TEST_SABOTAGE"])
    if "TEST_CLOCK" in os.environ:
        set_clock(os.environ["TEST_CLOCK"])
    sys.exit(main())
