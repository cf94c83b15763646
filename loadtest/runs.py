"""Slices of work on actions for bench.py: runs that many clients invoke, and runs that one client invokes and one worker executes."""

import time
from concurrent.futures import ThreadPoolExecutor

from flo import Client, calls
from flo.errors import Refusal
from flo.operations.worker import Assignment
from loadtest.compare import Target, cpu_seconds, load

INVOKED, EXECUTED, WORKER = "invoked", "executed", "bench"  # the first action has no worker: its runs stay pending
TOGETHER = 100  # runs invoked in one write
HELD = 8  # runs that the worker holds at once: it reports them together


def register(target: Target) -> None:
    """Register the actions and the worker."""
    with _client(target) as client:
        client.actions.register(INVOKED)
        client.actions.register(EXECUTED)
        client.workers.register(WORKER, [EXECUTED], concurrency=HELD)


def invoke_runs(target: Target, depth: int, runs: int) -> tuple[float, float]:
    """ACTION INVOKE by redis-benchmark: (runs a second, the server's CPU us a run)."""
    return load(target, ("ACTION", "INVOKE", INVOKED, "xxx"), depth, runs)


def execute_runs(target: Target, runs: int) -> tuple[float, float]:
    """Invoke runs and have them executed, up to the last one's end: (runs a second, the server's CPU us a run)."""
    with _client(target) as client, ThreadPoolExecutor(1) as pool:
        before, began = cpu_seconds(target.pid), time.perf_counter()
        worker = pool.submit(_work, target, runs)
        for at in range(0, runs, TOGETHER):
            _refuse_none(client.run_many([calls.action_invoke(EXECUTED, b"xxx")] * min(TOGETHER, runs - at)))
        worker.result()
        took = time.perf_counter() - began
        return runs / took, (cpu_seconds(target.pid) - before) / runs * 1e6


def _client(target: Target) -> Client:
    return Client(f"flo://127.0.0.1:{target.port}")


def _work(target: Target, count: int) -> None:
    """Be the worker until so many runs are completed."""
    with _client(target) as client:
        held: list[Assignment] = []
        while count or held:
            reports = [calls.worker_complete(run.run_id, b"", worker_id=WORKER, attempt=run.attempt) for run in held]
            answers = client.run_many([*reports, *[calls.worker_take(WORKER)] * min(HELD, count)])
            _refuse_none(answers[: len(reports)])
            held = [answer for answer in answers[len(reports) :] if isinstance(answer, Assignment)]
            if not held and count and (found := client.workers.take(WORKER, block=1000)) is not None:
                held = [found]
            count -= len(held)


def _refuse_none(answers: list[object]) -> None:
    """Raise the first refusal: the load would measure nothing."""
    for answer in answers:
        if isinstance(answer, Refusal):
            raise answer
