"""The base of sessions that answer each request at once: a connection's calls (flo.conn) that need nothing done in them."""

from typing import Any


class BriefSession:
    """A session without jobs and waits, and without a line in CLIENT LIST."""

    ordinary = blocked = False
    peer: Any = None

    def __init__(self, authenticated: bool) -> None:
        """`authenticated`: the client does not have to give a secret."""
        self.authenticated = authenticated
        self.halted = self.yielded = self.busy = self.unfinished = self.length_known = False
        self.job = self.due = None
        self.executed = 0
        self.held = 0

    def resume(self) -> bool:
        """Do nothing: there is no job to go on with."""
        return True

    def answer_due(self, output_room: int) -> None:
        """Do nothing: no request waits."""

    def overload(self) -> bytes:
        """The reply before a connection with too much unread input is closed: none."""
        return b""

    def describe(self) -> str:
        """No line in CLIENT LIST."""
        return ""

    def end(self) -> None:
        """Do nothing: the session holds nothing to release."""

    def body_room(self) -> memoryview | None:
        """None: requests are small enough to come with `feed`."""
        return None

    def body_received(self, count: int, output_room: int) -> None:
        """Never called, because `body_room` gives None."""
