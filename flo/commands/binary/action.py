"""The hand-written handlers of the operations on actions and of workers (SPEC section 2.3): operations that wait or answer page by page."""

from typing import Any

from flo.commands.actions import LIST_MARK, described_job, json_job, retry_job, runs_job
from flo.commands.binary.names import NAMESPACE_DELETED, page
from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import Options, Result, handles, packs
from flo.commands.runner import Job, Wait
from flo.engine import Namespace
from flo.engine.worker import Assignment
from flo.errors import NotFound
from flo.operations.options import RUN_STATES

COMPLETED = RUN_STATES.index("completed")  # this state and the ones behind it are final
WORKERS_MARK, SCHEDULES_MARK = b"w", b"h"  # of cursors

_result, _assignment, _retried = packs("action_result"), packs("worker_await"), packs("action_retry_many")


# -- runs ------------------------------------------------------------------------------------------


@handles("action_result")
def result(session: BinarySession, namespace: Namespace, run: bytes, _: bytes, options: Options) -> Result:
    actions = namespace.actions
    state, output = actions.result(run)
    if state >= COMPLETED or "block" not in options:
        return _result(state, output)

    def answer() -> bytes:
        if namespace.deleted:
            raise NotFound(NAMESPACE_DELETED)
        return _result(*actions.result(run))

    waiter = Wait(session, None, options["block"], answer)
    waiter.ends_with(actions.watch(run, waiter.ready).cancel)
    return waiter


@handles("action_runs")
def runs(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Job:
    labels, cursor = options.get("labels", b""), options.get("cursor", b"")
    found = yield from runs_job(namespace, name, options.get("state"), labels, options["limit"], cursor)
    return (yield from json_job("runs", found["runs"], found["cursor"]))


@handles("action_retry_many")
def retry_many(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Job:
    labels, cursor = options.get("labels", b""), options.get("cursor", b"")
    return _retried(*(yield from retry_job(namespace, name, options["state"], labels, options["limit"], cursor)))


# -- lists -----------------------------------------------------------------------------------------


@handles("action_list")
def action_list(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Job:
    return _listed("actions", "action_list", namespace.actions, name, options, LIST_MARK)


@handles("worker_list")
def worker_list(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Job:
    return _listed("workers", "worker_list", namespace.actions.workers, name, options, WORKERS_MARK)


@handles("schedule_list")
def schedule_list(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Job:
    return _listed("schedules", "schedule_list", namespace.actions.schedules, name, options, SCHEDULES_MARK)


def _listed(nouns: str, operation: str, part: Any, name: bytes, options: Options, mark: bytes) -> Job:
    """A page of all, or the one of this name. Raises `NotFound`."""
    names, following = ([name], "") if name else page(operation, options, part.names(), mark)
    return (yield from json_job(nouns, (yield from described_job(part, names)), following))


# -- workers ---------------------------------------------------------------------------------------


@handles("worker_await")
def worker_await(session: BinarySession, namespace: Namespace, identity: bytes, _: bytes, options: Options) -> Result:
    workers = namespace.actions.workers
    if "block" not in options:
        return _assigned(identity, workers.take(identity))
    found: list[Assignment | None] = []
    waiter: Wait | None = None

    def deliver(assignment: Assignment | None) -> None:
        found.append(assignment)
        if waiter is not None:
            waiter.ready()

    taker = workers.wait(identity, deliver)
    if taker is None:
        return _assigned(identity, found[0])

    def answer() -> bytes:
        if namespace.deleted:
            raise NotFound(NAMESPACE_DELETED)
        return _assigned(identity, found[0] if found else None)

    try:
        waiter = Wait(session, None, options["block"], answer)
    except BaseException:
        workers.leave(taker)
        raise
    waiter.ends_with(lambda: workers.leave(taker))
    return waiter


def _assigned(identity: bytes, assignment: Assignment | None) -> bytes:
    """The payload of a run. Raises `NotFound` if there is none."""
    if assignment is None:
        raise NotFound(f"there is no run for the worker {identity[:100].decode('utf-8', 'replace')!r} now, or it is draining")
    return _assignment(*assignment)
