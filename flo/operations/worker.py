# mypy: disable-error-code="empty-body"
"""The rows of the operations of workers (SPEC section 2.3): each declaration is a row (flo.operations.row)."""

from collections.abc import Iterable
from json import loads as _loads
from typing import Any, Final, NamedTuple

from flo.given import Text
from flo.limits import LIST_ITEMS_MAX
from flo.operations.call import Call
from flo.operations.method import Operations
from flo.operations.options import RUN_STATES
from flo.operations.row import call, operation
from flo.proto.row import Command, Http

WORKER_STATUS = ("active", "idle", "draining", "unhealthy")  # in the order of their numbers
NO_WORKER = "NOT_FOUND if the worker is missing"
LOST = "NOT_FOUND if the run is missing; CONFLICT if the worker does not hold this attempt of it"


class Assignment(NamedTuple):
    """A run that a worker holds for `lease_ms`, and longer if it touches it."""

    run_id: str
    action: bytes
    created_at: int
    attempt: int
    lease_ms: int
    traceparent: str
    input: bytes

    def json(self) -> Any:
        """The input as JSON. Raises `ValueError` if it is none."""
        return _loads(self.input)


class Touched(NamedTuple):
    """When the lease ends, Unix ms, and whether the run was cancelled: stop working on it then."""

    deadline: int
    cancelled: bool


def _assignment(run: bytes, action: bytes, created_at: int, attempt: int, lease: int, traceparent: bytes, given: bytes) -> Assignment:
    return Assignment(run.decode(), action, created_at, attempt, lease, traceparent.decode(), given)


def _give_back(taken: Call[Any], run: Assignment | None) -> Call[None] | None:
    return call(WorkerOperations.release)(run.run_id, worker_id=taken.key, attempt=run.attempt) if run is not None else None


class WorkerOperations(Operations):
    """The operations of workers: take runs, and report on them. A report is refused as `Conflict` if the worker does not hold the run any
    more; it changes nothing then."""

    @operation(
        "worker_register",
        0x60,
        "actions.workers.register",
        repeats="same",
        layout="count u16, (action name)*",
        summary="Registers a worker for actions, or sets all of one anew: it is draining no more, and keeps its runs.",
        http=Http("PUT workers/{ns}/{key}"),
    )
    def register(self, worker: Text, actions: Iterable[Text], *, labels: Text = b"", concurrency: int | None = None) -> None:
        """Register a worker for these actions, which need not be registered yet. It gets runs whose labels it has (`labels` are a JSON
        object), and holds up to `concurrency` at once (1)."""

    @operation(
        "worker_await",
        0x61,
        answer="run_id name, action name, created_at i64, attempt u32, lease_ms u64, traceparent name, input rest",
        summary="Gives the worker a run, which it holds then. With `block`, waits for one.",
        refusals="NOT_FOUND if there is none for it, or it is draining",
        waits=True,
        decode=_assignment,
        undo=_give_back,
        http=Http("POST workers/{ns}/{key}/await"),
    )
    def take(self, worker: Text, *, block: int | None = None) -> Assignment | None:
        """Take a run, which the worker holds then; None if there is none for it, or if it is draining. `block` is how many ms to wait for
        one, 0 for ever."""

    @operation(
        "worker_complete",
        0x62,
        "actions.workers.complete",
        repeats="once",
        summary="Reports that the worker has executed a run.",
        refusals=LOST,
        http=Http("POST runs/{ns}/{key}/complete"),
    )
    def complete(self, run_id: Text, output: Text = b"", *, json: Any = ..., worker_id: Text, attempt: int | None = None) -> None:
        """Report that the worker has executed the run, with its `output`, or the JSON text of `json`. Raises `NotFound`, `Conflict`."""

    @operation(
        "worker_fail",
        0x63,
        "actions.workers.fail",
        repeats="once",
        answer="state u8",
        summary="Reports that a run has failed. With `retry` it is tried again, after `delay` or its back-off, unless its failures are "
        "spent. Answers its state.",
        refusals=LOST,
        decode=RUN_STATES.__getitem__,
        http=Http("POST runs/{ns}/{key}/fail"),
    )
    def fail(
        self, run_id: Text, error: Text = b"", *, worker_id: Text, retry: bool = False, delay: int | None = None, attempt: int | None = None
    ) -> str:
        """Report that the run has failed. With `retry` it is pending again, after `delay` ms (None: its back-off), unless its failures are
        spent. Returns its state. Raises `NotFound`, `Conflict`."""

    @operation(
        "worker_release",
        0x69,
        "actions.workers.release",
        repeats="once",
        summary="Gives a run back, at once or after `delay`; no failure is counted.",
        refusals=LOST,
        http=Http("POST runs/{ns}/{key}/release"),
    )
    def release(self, run_id: Text, *, worker_id: Text, delay: int | None = None, attempt: int | None = None) -> None:
        """Give the run back, after `delay` ms, with no failure counted. Raises `NotFound`, `Conflict`."""

    @operation(
        "worker_heartbeat",
        0x64,
        "actions.workers.heartbeat",
        repeats="same",
        answer="status u8",
        summary=f"Says that a worker is there. Answers its status: {', '.join(f'{at} {word}' for at, word in enumerate(WORKER_STATUS))}.",
        decode=WORKER_STATUS.__getitem__,
        http=Http("POST workers/{ns}/{key}/heartbeat"),
    )
    def heartbeat(self, worker: Text, *, load: int | None = None) -> str:
        """Say that the worker is there, and its load; returns its status: `active`, `idle`, `draining` or `unhealthy`."""

    @operation(
        "worker_touch",
        0x65,
        "actions.workers.touch",
        repeats="once",
        answer="deadline i64, cancelled bool",
        summary="Extends the worker's lease of a run, and says how far it is. Answers when the lease ends, and whether the run was "
        "cancelled, which its last holder alone learns.",
        refusals=LOST,
        http=Http("POST runs/{ns}/{key}/touch"),
    )
    def touch(
        self, run_id: Text, *, worker_id: Text, lease: int | None = None, progress: Text | None = None, attempt: int | None = None
    ) -> Touched:
        """Extend the lease to `lease` ms from now (None: the action's timeout), and say how far the run is. Raises `NotFound`,
        `Conflict`."""

    @operation(
        "worker_list",
        0x66,
        key="worker, or empty for all",
        answer="workers json",
        summary="Lists the workers by their ids, or describes one.",
        limits=(100, LIST_ITEMS_MAX),
        refusals=NO_WORKER,
        reads=True,
        http=Http("GET workers/{ns}/{key}", bare="GET workers/{ns}"),
    )
    def list_page(self, worker: Text = b"", *, limit: int | None = None, cursor: Text = b"") -> dict[str, Any]:
        """The workers, a page at a time, or the one named: docs/wire-protocol.md, "Actions and workers"."""

    @operation(
        "worker_drain",
        0x67,
        "actions.workers.drain",
        repeats="same",
        summary="Gives a worker no more runs; it finishes those it holds.",
        refusals=NO_WORKER,
        command=Command("worker drain", "give a worker no more runs; it finishes those it holds", "done"),
        http=Http("POST workers/{ns}/{key}/drain"),
    )
    def drain(self, worker: Text) -> None:
        """Give the worker no more runs; it finishes those it holds. Raises `NotFound`."""

    @operation(
        "worker_deregister",
        0x68,
        "actions.workers.deregister",
        summary="Forgets a worker. Its runs come back when their leases end.",
        refusals=NO_WORKER,
        http=Http("DELETE workers/{ns}/{key}"),
    )
    def deregister(self, worker: Text) -> None:
        """Forget a worker. Its runs come back when their leases end. Raises `NotFound`."""


worker_register: Final = call(WorkerOperations.register)
worker_take: Final = call(WorkerOperations.take)
worker_complete: Final = call(WorkerOperations.complete)
worker_fail: Final = call(WorkerOperations.fail)
worker_release: Final = call(WorkerOperations.release)
worker_heartbeat: Final = call(WorkerOperations.heartbeat)
worker_touch: Final = call(WorkerOperations.touch)
worker_list: Final = call(WorkerOperations.list_page)
worker_drain: Final = call(WorkerOperations.drain)
worker_deregister: Final = call(WorkerOperations.deregister)
