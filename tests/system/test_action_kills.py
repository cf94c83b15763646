"""Runs of actions while workers and the server are killed: each run ends, once, and each second start has a cause."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flo import Client, calls
from flo.client import Disconnected
from flo.errors import Refusal
from flo.operations.worker import Assignment
from tests.support.processes import FloProcess, steady_port, wait_until

T = TypeVar("T")
WORKERS = 8
HELD = 8  # runs that a worker holds at once
LEASE_MS = 5_000
SLACK_MS = LEASE_MS // 2  # how late a busy machine may be: a server reads the requests of a dead worker, a worker comes back
TOGETHER = 100  # runs invoked in one write
BAD_EVERY = 50  # each such run fails for good
BACK_OFF_SECONDS_MAX = 0.5


def persist(ask: Callable[[], T]) -> T:
    """Ask until there is an answer, with back-off: a server that was killed comes back."""
    pause = 0.01
    while True:
        try:
            return ask()
        except Disconnected:
            if os.getppid() == 1:
                raise SystemExit("the test is gone") from None
            time.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, BACK_OFF_SECONDS_MAX)


def work(port: int, worker: str, path: str) -> None:
    """Be a worker until it is drained. It tells of each delivery before it reports, and of each report that was accepted."""
    told = os.open(path, os.O_WRONLY | os.O_APPEND)
    client = Client(f"flo://127.0.0.1:{port}")
    persist(partial(client.workers.register, worker, ["work"], concurrency=HELD))
    takes = [calls.worker_take(worker)] * HELD
    runs: list[Assignment] = []
    while True:
        reports = [report(run, worker) for run in runs]
        answers: list[Any] = persist(partial(client.run_many, [*reports, *takes]))
        accepted = [run for run, answer in zip(runs, answers, strict=False) if not isinstance(answer, Refusal)]
        runs = [answer for answer in answers[len(reports) :] if isinstance(answer, Assignment)]
        tell(told, "accepted", worker, accepted)
        if not runs:
            run = persist(partial(client.workers.take, worker, block=0))
            if run is None:
                return
            runs = [run]
        tell(told, "delivered", worker, runs)


def tell(told: int, what: str, worker: str, runs: list[Assignment]) -> None:
    os.write(told, "".join(f"{json.dumps([what, run.run_id, run.attempt, worker])}\n" for run in runs).encode())


def report(run: Assignment, worker: str) -> Any:
    """The result names the delivery that it is of."""
    result = f"{worker} {run.attempt}"
    if int(run.input) % BAD_EVERY:
        return calls.worker_complete(run.run_id, result, worker_id=worker, attempt=run.attempt)
    return calls.worker_fail(run.run_id, result, worker_id=worker, attempt=run.attempt)


class Told:
    """What the workers have told so far."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.path = path
        self.file = path.open()
        self.rest = ""  # a line that is being written
        self.deliveries: list[tuple[str, int, str]] = []  # run, attempt, worker
        self.accepted: list[tuple[str, int, str]] = []

    def read(self) -> int:
        """Read on; returns how many reports were accepted."""
        *lines, self.rest = (self.rest + self.file.read()).split("\n")
        for line in lines:
            what, *delivery = json.loads(line)
            (self.accepted if what == "accepted" else self.deliveries).append(tuple(delivery))
        return len(self.accepted)

    def reaches(self, count: int) -> bool:
        return self.read() >= count


def invoke_all(port: int, count: int, ids: list[str]) -> None:
    """Invoke, again where the answer was lost: the idempotency keys make one run of each."""
    with Client(f"flo://127.0.0.1:{port}") as client:
        for at in range(0, count, TOGETHER):
            numbers = range(at, min(at + TOGETHER, count))
            many = [calls.action_invoke("work", str(number), idempotency_key=str(number)) for number in numbers]
            ids += persist(partial(client.run_many, many))


def has_ended(client: Client, count: int) -> bool:
    """Whether so many runs have ended, and no other is left."""
    (action,) = client.actions.list_page("work")["actions"]
    runs = Counter(action["runs"])
    return not runs["pending"] and not runs["running"] and runs.total() == count


@pytest.mark.slow
def test_workers_and_the_server_are_killed_and_each_run_ends_once(tmp_path: Path, long_run: bool) -> None:
    """4 of 8 workers are killed, and the server twice, at random moments, while runs are invoked and executed."""
    count, seed = (10_000 if long_run else 2_000), random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    context = multiprocessing.get_context("spawn")
    told = Told(tmp_path / "told")
    killed: dict[str, int] = {}  # workers, and when, Unix ms
    outages: list[tuple[int, int]] = []  # when the server was killed, and was back
    with FloProcess(tmp_path / "data", start=False) as flo, contextlib.ExitStack() as stack:
        port = steady_port()
        flo.flags = ("--port", str(port), "--durability", "sync")
        flo.start()
        client = stack.enter_context(Client(f"flo://127.0.0.1:{port}"))
        client.actions.register("work", timeout=LEASE_MS, max_attempts=0, retry_delay=10)
        names = [f"w{number}" for number in range(WORKERS)]
        workers = {name: context.Process(target=work, args=(port, name, str(told.path)), daemon=True) for name in names}
        for worker in workers.values():
            worker.start()
            stack.callback(worker.kill)  # if this fails they would go on asking for a server that is gone
        wait_until(lambda: sum(each["waiting"] for each in client.workers.list()) == WORKERS, "the workers", 60)
        ids: list[str] = []
        invoker = threading.Thread(target=invoke_all, args=(port, count, ids), daemon=True)
        invoker.start()
        steps: list[str | None] = [*chance.sample(names, 4), None, None]  # None is the server
        chance.shuffle(steps)
        for step, moment in zip(steps, sorted(chance.sample(range(count // 20, count * 9 // 10), len(steps))), strict=True):
            wait_until(partial(told.reaches, moment), f"{moment} reports", 120)
            if step is not None:
                pid = workers[step].pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                killed[step] = now()
                continue
            flo.kill()
            killed_at = now()
            flo.start()
            outages.append((killed_at, now()))
            client.close()  # its connection is gone
        invoker.join(60)
        assert not invoker.is_alive() and len(set(ids)) == count, "each invocation made a run of its own"
        wait_until(lambda: has_ended(client, count), "the end of every run", 120)
        for name in workers.keys() - killed.keys():
            client.workers.drain(name)
        for name in workers.keys() - killed.keys():
            workers[name].join(30)
            assert workers[name].exitcode == 0, name
        told.read()
        assert len(set(told.deliveries)) == len(told.deliveries), "a delivery came twice"
        assert max(Counter(run for run, *_ in told.accepted).values()) == 1, "a second result was accepted"
        check_runs(client, ids, told, killed, outages)


def now() -> int:
    return time.time_ns() // 1_000_000


def check_runs(client: Client, ids: list[str], told: Told, killed: dict[str, int], outages: list[tuple[int, int]]) -> None:
    """Each run has ended as its input says, with the result of its last attempt; each attempt before was a lease that was cut off."""
    deliveries, accepted = set(told.deliveries), {run: (attempt, worker) for run, attempt, worker in told.accepted}
    cut_by_worker: Counter[str] = Counter()
    cut_by_server: Counter[tuple[str, int]] = Counter()
    for at in range(0, len(ids), TOGETHER):
        part = ids[at : at + TOGETHER]
        statuses = client.run_many([calls.action_status(run) for run in part])
        results = client.run_many([calls.action_result(run) for run in part])
        for number, run, status, (state, output) in zip(range(at, at + TOGETHER), part, statuses, results, strict=False):
            *earlier, last = status["attempts"]
            assert [each["number"] for each in status["attempts"]] == list(range(1, len(earlier) + 2)), "attempts are exact"
            assert state == status["status"] == last["how"] == ("completed" if number % BAD_EVERY else "failed")
            assert output.decode() == f"{last['worker']} {last['number']}", "the result is of the last attempt"
            assert (run, last["number"], last["worker"]) in deliveries
            assert accepted.get(run, (last["number"], last["worker"])) == (last["number"], last["worker"]), "the accepted result counts"
            for attempt in earlier:
                assert attempt["how"] == "timed_out", attempt
                worker, began, ended = attempt["worker"], attempt["started_at"], attempt["ended_at"]
                delivered = (run, attempt["number"], worker) in deliveries
                dead_at = killed.get(worker, ended)
                outage = next(((at, back) for at, back in outages if began <= at <= dead_at), None)
                # a server that is killed cuts off answers to workers; reports of what was delivered before come when it is back in time
                if outage is not None and (not delivered or outage[1] - began > SLACK_MS):
                    cut_by_server[worker, outage[0]] += 1
                else:
                    explained = worker in killed and began - SLACK_MS <= dead_at <= ended
                    assert explained, f"no kill explains the end of the lease of {attempt} of the run {run}"
                    cut_by_worker[worker] += 1
    assert all(number <= HELD for number in [*cut_by_worker.values(), *cut_by_server.values()]), (cut_by_worker, cut_by_server)
    print(f"second starts: {cut_by_worker.total()} by workers, {cut_by_server.total()} by the server")
