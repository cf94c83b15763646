"""A run of an action, as its invoker has it."""

from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Any, Generic, TypeVar

from flo import calls
from flo.errors import FloError
from flo.operations.method import AsyncRunner, Drive, drive, drive_later
from flo.worker.runner import Runner

R = TypeVar("R")
BLOCK_MS = 20_000  # one wait; a server that is gone is noticed after it
PENDING = ("pending", "running")


class RunEnded(FloError):
    """A run that ended without a result."""


class RunFailed(RunEnded):
    """The run has failed. `error` is what its worker reported: a sentence, and a traceback if it was a handler of flo.Worker."""

    def __init__(self, run_id: str, error: str) -> None:
        super().__init__(f"the run {run_id} has failed: {error.partition(chr(10))[0]}")
        self.error = error


class RunCancelled(RunEnded):
    """The run was cancelled."""


class RunTimedOut(RunEnded):
    """The run's last lease ran out."""


class Run(Generic[R]):
    """A run. `id` names it everywhere; another process makes the same object by `Action.run(id)`."""

    def __init__(self, runner: Runner, run_id: str, decode: Callable[[bytes], Any]) -> None:
        self.id = run_id
        self._runner = runner
        self._decode = decode

    def status(self) -> dict[str, Any]:
        """All that is known of it but its input and output: docs/wire-protocol.md, "Actions and workers". Raises `NotFound`."""
        return self._runner.run(calls.action_status(self.id))

    def cancel(self) -> None:
        """Cancel it. Raises `NotFound`, and `Conflict` if it has ended otherwise."""
        self._runner.run(calls.action_cancel(self.id))

    def result(self, timeout: float | None = None) -> R:
        """Wait up to `timeout` seconds (None: for ever) for its end, and return what the handler returned. Raises `RunFailed`,
        `RunCancelled`, `RunTimedOut`, `NotFound`, and `TimeoutError` if it has not ended in time."""
        result: R = self._decode(drive(self._runner.run, _output(self.id, timeout)))
        return result

    def __repr__(self) -> str:
        return f"Run({self.id})"


class AsyncRun(Generic[R]):
    """A run, as an invoker with a `flo.aio.Client` has it: `Run`, whose methods are coroutines."""

    def __init__(self, runner: AsyncRunner, run_id: str, decode: Callable[[bytes], Any]) -> None:
        self.id = run_id
        self._runner = runner
        self._decode = decode

    async def status(self) -> dict[str, Any]:
        """As `Run.status`."""
        return await self._runner.run(calls.action_status(self.id))

    async def cancel(self) -> None:
        """As `Run.cancel`."""
        await self._runner.run(calls.action_cancel(self.id))

    async def result(self, timeout: float | None = None) -> R:
        """As `Run.result`. If the task that waits is cancelled, the run goes on."""
        result: R = self._decode(await drive_later(self._runner.run, _output(self.id, timeout)))
        return result

    def __repr__(self) -> str:
        return f"AsyncRun({self.id})"


def _output(run_id: str, timeout: float | None) -> Drive[bytes]:
    """The output of the run, when it has completed; see `Run.result`."""
    deadline = None if timeout is None else monotonic() + timeout
    while True:
        left = BLOCK_MS if deadline is None else min(BLOCK_MS, ceil((deadline - monotonic()) * 1000))
        state, output = yield calls.action_result(run_id, block=left if left > 0 else None)
        if state not in PENDING:
            break
        if deadline is not None and monotonic() >= deadline:
            raise TimeoutError(f"the run {run_id} is {state} after {timeout:g} s")
    if state == "completed":
        return output  # type: ignore[no-any-return]
    if state == "cancelled":
        raise RunCancelled(f"the run {run_id} was cancelled")
    if state == "timed_out":
        raise RunTimedOut(f"the run {run_id} has timed out: the lease of its last attempt ran out")
    raise RunFailed(run_id, output.decode("utf-8", "replace"))
