"""A log that says later what it has committed, as a replicated one does. It stands in for `flo.engine.engine.Log`."""

from collections import deque
from typing import Any

from flo.ual.log import Log


class LateLog(Log):
    """Acknowledges a batch some turns after it was written, and may lose an answer: a later answer then covers its batch.

    Whoever turns calls `hear` once a turn. What a start finds is acknowledged.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.late = 2  # in how many turns the answer comes to a batch that is written now
        self.turns = 0
        self.unanswered: deque[tuple[int, int]] = deque()  # (the turn of the answer, the batch's last index)
        super().__init__(*args, **kwargs)
        self.acknowledged = self.written

    @property
    def committed(self) -> int:
        """The index up to which replies may be sent."""
        return self.acknowledged

    def commit(self, time: int) -> None:
        """Write the open batch. Its answer is still to come."""
        before = self.written
        super().commit(time)
        if self.written != before:
            self.unanswered.append((self.turns + self.late, self.written))

    def ask_again(self) -> None:
        """Ask for the answer to the last batch once more."""
        self.unanswered.append((self.turns + self.late, self.written))

    def hear(self, loses: bool) -> None:
        """A turn begins: the answers come that are due by now, or are lost."""
        self.turns += 1
        while self.unanswered and self.unanswered[0][0] <= self.turns:
            index = self.unanswered.popleft()[1]
            if not loses:
                self.acknowledged = index
