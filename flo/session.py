"""What a connection asks of its session: what a protocol does with the connection's bytes."""

from typing import Protocol


class Session(Protocol):
    """One connection's protocol. flo.commands.runner.Session executes requests; a few others only say something."""

    ordinary: bool  # `feed` alone is enough: nothing else about the session needs a look
    halted: bool  # execution has stopped
    yielded: bool  # … because others wait
    executed: int  # grows with each request that is executed
    authenticated: bool
    busy: bool  # something under way must end before more is executed
    held: int  # bytes of memory that an unfinished request holds
    unfinished: bool  # the session keeps the start of a request
    length_known: bool  # … and knows the length of what is missing

    @property
    def job(self) -> object:
        """A piece of work to be resumed in slices, or None."""

    @property
    def due(self) -> object:
        """Waits that can be answered now; false where there are none."""

    def answer_due(self, output_room: int, /) -> None:
        """Answer the waits that are due, as far as there is room."""

    @property
    def blocked(self) -> bool:
        """Whether a request waits that ends with the input."""

    def feed(self, data: bytes, output_room: int, /) -> int:
        """Execute the whole requests in `data`; returns how many bytes were taken. Stop once there are `output_room` bytes of replies."""

    def body_room(self) -> memoryview | None:
        """Where to receive the bytes of a large argument."""

    def body_received(self, count: int, output_room: int, /) -> None:
        """`count` bytes were received there."""

    def resume(self) -> bool:
        """Do one more slice of the job; returns whether it has ended."""

    def end_of_input(self) -> bool:
        """The client sends nothing more; returns whether the session goes on all the same, and closes the connection itself."""

    def overload(self) -> bytes:
        """The last reply, where the unread input of all connections is at its limit."""

    def describe(self) -> str:
        """Its line in CLIENT LIST; empty where it is not listed."""

    def end(self) -> None:
        """The connection is gone."""


class SilentSession:
    """A session without requests that take long, wait, or are listed. By itself it is the session of a closed connection."""

    ordinary: bool = False
    blocked: bool = False
    halted: bool
    yielded: bool
    executed: int
    busy: bool
    held: int
    unfinished: bool
    length_known: bool
    job: object
    due: object

    def __init__(self, authenticated: bool = True) -> None:
        """`authenticated`: no secret is owed."""
        self.authenticated = authenticated
        self.halted = self.yielded = self.busy = self.unfinished = self.length_known = False
        self.executed = self.held = 0
        self.job = self.due = None

    def feed(self, data: bytes, output_room: int, /) -> int:
        """Take everything, and answer nothing."""
        return len(data)

    def body_room(self) -> memoryview | None:
        """No argument is large."""
        return None

    def body_received(self, count: int, output_room: int, /) -> None:
        """Never called."""

    def resume(self) -> bool:
        """There is no job."""
        return True

    def answer_due(self, output_room: int, /) -> None:
        """Nothing waits."""

    def end_of_input(self) -> bool:
        """Nothing goes on."""
        return False

    def overload(self) -> bytes:
        """No reply."""
        return b""

    def describe(self) -> str:
        """Not listed."""
        return ""

    def end(self) -> None:
        """Nothing to give back."""
