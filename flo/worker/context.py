"""What a handler sees of the delivery that it works on, and the two exceptions by which it says what is to become of it."""

from collections.abc import Callable
from contextvars import ContextVar

from flo.errors import FloError

PROGRESS_BYTES_MAX = 4096  # the server's bound
SNOOZE_SECONDS_MAX = 1e9


class NonRetryable(FloError):
    """Raise it in a handler, or a class below it, if another attempt would fail as well: the run fails at once. A queue's message becomes
    a dead letter; a stream's record is acknowledged."""


class Snooze(FloError):
    """Raise it in a handler to get the same work again after `seconds`. It is no failure."""

    def __init__(self, seconds: float) -> None:
        """Raises `ValueError` for a negative time, and for one of over thirty years."""
        if not 0 <= seconds <= SNOOZE_SECONDS_MAX:
            raise ValueError(f"a snooze of {seconds} s; give 0 to {SNOOZE_SECONDS_MAX:g}")
        super().__init__(f"again in {seconds:g} s")
        self.seconds = seconds


class Context:
    """The delivery that a handler works on. `run_id` is the id of a run, or of a stream's record, or the receipt of a queue's message;
    `attempt` counts its deliveries from 1; `name` is the action, the queue or the stream; `traceparent` is the invoker's, empty without
    one."""

    def __init__(self, name: str, run_id: str = "", attempt: int = 1, traceparent: str = "") -> None:
        self.name = name
        self.run_id = run_id
        self.attempt = attempt
        self.traceparent = traceparent
        self.cancelled = False
        """Whether to stop: the run was cancelled, its lease is lost, or the worker ends. It is learned when the lease is extended."""
        self.on_progress: Callable[[], None] | None = None
        self._progress: bytes | None = None

    def progress(self, text: str) -> None:
        """Say how far the run is, in up to 4,096 bytes of UTF-8; the rest is cut off. It is sent from another thread, soon; of several
        texts in half a second only the last. Queues and streams have no place for it."""
        self._progress = text.encode()[:PROGRESS_BYTES_MAX].decode("utf-8", "ignore").encode()
        if self.on_progress is not None:
            self.on_progress()

    def take_progress(self) -> bytes | None:
        """The text that is not sent yet, once."""
        text, self._progress = self._progress, None
        return text


present: ContextVar[Context] = ContextVar("flo.worker.context")


def context() -> Context:
    """The context of the handler that calls this, also from a function that the handler called. Raises `LookupError` elsewhere."""
    try:
        return present.get()
    except LookupError:
        raise LookupError("flo.worker.context() is for handlers, and none runs here") from None
