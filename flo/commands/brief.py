"""What a connection wants of its session and a session that answers at once, and not for long, has nothing to say to."""

from typing import Any


class BriefSession:
    """Nothing takes long, waits, or is listed."""

    ordinary = blocked = False
    peer: Any = None

    def __init__(self, authenticated: bool) -> None:
        """`authenticated`: no secret is owed."""
        self.authenticated = authenticated
        self.halted = self.yielded = self.busy = self.unfinished = self.length_known = False
        self.job = self.due = None
        self.executed = 0
        self.held = 0

    def resume(self) -> bool:
        """There is no job."""
        return True

    def answer_due(self, output_room: int) -> None:
        """Nothing waits."""

    def overload(self) -> bytes:
        """Nobody to be told."""
        return b""

    def describe(self) -> str:
        """Not in CLIENT LIST."""
        return ""

    def end(self) -> None:
        """Nothing to give back."""
