"""A log of which a majority of machines has a batch before this one writes it (docs/cluster.md).

A commit gives the open batch to the *replicated log*, and returns. One batch is out at a time; turns go on meanwhile and fill the next one.
If those have filled much, the next batch has only the first of them: a follower takes a batch over in one go, and serves nobody meanwhile.
When the replicated log has acknowledged the batch, it is written to the local segments, by the same function that a follower uses for what
it has read; so the local log is always a beginning of the replicated one. It is synced in the background: what a crash of the machine takes
from the segments is read from the replicated log again.

`committed`, up to which replies may leave, is what was acknowledged. Everything behind it is in memory alone, and is never taken back: a
leader that is told that it leads no longer ends its process, and starts again from what was acknowledged.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flo.errors import Overloaded
from flo.ual.log import ASYNC, Log
from flo.ual.segment import OFFSET_BYTES

# A batch of more is of one turn
BATCH_BYTES = 1 << 20  # one part of etcd's
BATCH_RECORDS = 4096  # which a follower takes over in 16 ms


class Outgoing(NamedTuple):
    """A batch that is out. It may be empty: then it only stamps."""

    first: int  # the index of its first record
    time: int  # the engine's stamp, ms
    records: list[bytes]


class ReplicatedLog(Log):
    """The log of a member of a cluster. `send` is set by the replica that leads; a follower calls `adopt_batch` alone."""

    pending: list[bytes]
    pending_bytes: int
    next_index: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `Log`. The durability is that of the segments, which are synced in the background."""
        super().__init__(*args, **(kwargs | {"durability": ASYNC}))
        self.send: Callable[[Outgoing], None] | None = None
        self.out: Outgoing | None = None
        self._out_bytes = 0  # of its records, and their places in a footer
        self._turns: list[tuple[int, int]] = []  # for each turn that waits: how many records wait up to its end, and their bytes
        self.tail_is_full = False  # the replicated log has no room until members that are behind have caught up

    @property
    def may_be_replaced(self) -> bool:
        """See `Log`: what is written here is acknowledged, and comes behind what is compacted."""
        return True

    def commit(self, time: int) -> None:
        """Give the open batch to the replicated log, unless another is out: then it waits for the next commit."""
        if self.pending and (not self._turns or self._turns[-1][0] < len(self.pending)):
            self._turns.append((len(self.pending), self.pending_bytes))
        if self.out is not None:
            return
        assert self.send is not None, "a follower's engine writes nothing"
        records = self._take_turns()
        self.out = Outgoing(self.written + 1, time, records)
        self._out_bytes = sum(map(len, records)) + OFFSET_BYTES * len(records)
        self.send(self.out)

    def _take_turns(self) -> list[bytes]:
        """The records of the first turns that wait: as many as a batch may have, or those of the first."""
        fitting = [turn for turn in self._turns if turn[0] <= BATCH_RECORDS and turn[1] <= BATCH_BYTES] or self._turns[:1]
        count, size = fitting[-1] if fitting else (0, 0)
        records, self.pending = self.pending[:count], self.pending[count:]
        self.pending_bytes -= size
        self._turns = [(turn - count, bytes_ - size) for turn, bytes_ in self._turns[len(fitting) :]]
        return records

    def acknowledged(self) -> None:
        """A majority has the batch that is out: write it here too. Raises `LogFailed`."""
        out, self.out, self._out_bytes = self.out, None, 0
        assert out is not None, "nothing is out"
        self.adopt_batch(out.records, out.time)

    def adopt_batch(self, records: list[bytes], time: int) -> None:
        """Write acknowledged records, which come behind the last written one. Raises `LogFailed`."""
        if records:
            self._write(records, time)
        else:
            self.time = time  # a stamp need not be on disk: the next start reads a later one from the replicated log

    def read_bytes(self, index: int) -> bytes | None:
        """See `Log`: the batch that is out is not written yet, and can be read all the same."""
        if index > self.written and self.out is not None:
            at, records = index - self.written - 1, self.out.records
            if at < len(records):
                return records[at]
            at -= len(records)
            return self.pending[at] if at < len(self.pending) else None
        return super().read_bytes(index)

    # What is out needs its room as well, when it is written.

    def admit(self, size: int, adds: bool) -> None:
        """See `Log`."""
        if self.tail_is_full and adds:
            raise Overloaded(
                "the replicated log holds cluster.max_tail bytes, because too many members are behind: writes that add are refused until "
                "they have caught up, or are removed from the cluster"
            )
        super().admit(size + self._out_bytes, adds)

    def fits(self, size: int) -> bool:
        """See `Log`."""
        return not self.tail_is_full and super().fits(size + self._out_bytes)

    def holds(self, size: int) -> bool:
        """See `Log`."""
        return not self.tail_is_full and super().holds(size + self._out_bytes)

    def close(self) -> None:
        """See `Log`. What is not acknowledged is left to whoever leads next: it was either replicated, or it never was."""
        self.out, self.pending, self.pending_bytes, self._turns = None, [], 0, []
        self.next_index = self.written + 1
        super().close()
