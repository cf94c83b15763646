"""A log whose batches are acknowledged late: the replicated log in memory, with its delays and lost answers. It stands in for
`ReplicatedLog` of flo.engine.engine."""

from typing import Any

from flo.ual.files import Files
from flo.ual.replicated import Outgoing, ReplicatedLog


class StepSyncer:
    """The helper thread that syncs the segments, without the thread: it syncs at every `every`-th note, 0 for never."""

    every = 3

    def __init__(self, files: Files) -> None:
        self._files = files
        self._notes = 0
        self.synced = 0

    def note(self, fd: int, index: int) -> int:
        """Records up to `index` were written to `fd`."""
        self._notes += 1
        if self.every and self._notes % self.every == 0:
            self._files.sync(fd)
            self.synced = index
        return self.synced

    def finish(self) -> None:
        """The caller syncs from here."""

    def stop(self) -> None:
        """No thread is there to be ended."""


class LateLog(ReplicatedLog):
    """Answers some turns after a batch was sent, or not at all: then the batch is sent again, and that is the same batch once more.

    Whoever turns calls `hear` once a turn. What a start finds is acknowledged.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.late = 2  # in how many turns the answer comes to a batch that is sent now
        self.turns = 0
        self.answer_at: int | None = None  # the turn
        self.replicated: list[Outgoing] = []  # what the majority has, the batch that is out included
        super().__init__(*args, **kwargs)
        self.send = self._send

    def _send(self, out: Outgoing) -> None:
        assert not self.replicated or out.first == self.replicated[-1].first + len(self.replicated[-1].records), "no gap, nothing twice"
        self.replicated.append(out)
        self.ask_again()

    def ask_again(self) -> None:
        """Send the batch that is out once more."""
        if self.out is not None:
            self.answer_at = self.turns + self.late

    def hear(self, loses: bool) -> None:
        """A turn begins: the answer comes that is due by now, or is lost."""
        self.turns += 1
        if self.answer_at is not None and self.answer_at <= self.turns:
            self.answer_at = None
            if loses:
                return
            self.acknowledged()
