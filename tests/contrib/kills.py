"""Tasks while workers and the server are killed: each is done at least once, and none is left."""

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from flo import Client
from flo.client import Disconnected
from tests.support.processes import ROOT, FloProcess, steady_port, wait_until

WORKERS = 2
TASKS = 300
TASKS_LONG = 10_000
KILLS_EACH = 75  # a kill each time that about so many more tasks are done
SECONDS_MAX = 120
SECONDS_MAX_LONG = 900


class Work:
    """A server, workers of a framework, and the file in which their tasks append their numbers."""

    def __init__(self, framework: str, directory: Path, stack: ExitStack) -> None:
        self.framework = framework
        self.done = directory / "done"
        self.done.touch()
        self.port = steady_port()
        self.url = f"flo://127.0.0.1:{self.port}"
        self.server = stack.enter_context(FloProcess(directory / "data", "--port", str(self.port)))
        self.workers: list[subprocess.Popen[bytes]] = []
        self.order: list[str] = []  # of the next kills
        self.log = (directory / "workers.log").open("wb")
        stack.callback(self.log.close)
        stack.callback(self.end_workers)

    def start_worker(self) -> None:
        """Start one more worker."""
        self.workers.append(
            subprocess.Popen(
                [sys.executable, "-c", "from tests.contrib.worker import main; main()", self.framework, self.url],
                stdin=subprocess.PIPE,
                stdout=self.log,
                stderr=self.log,
                cwd=ROOT,
                env=os.environ | {"dramatiq_restart_delay": "100", "PYTHONPATH": str(ROOT)},
            )
        )

    def kill_one(self, chance: random.Random) -> str:
        """Kill a worker or the server, and start it again."""
        if not self.order:
            self.order = chance.sample(["server", "worker"], 2)
        if self.order.pop() == "server":
            self.server.kill()
            self.server.start()
            return "server"
        worker = self.workers.pop(0)
        worker.kill()
        worker.communicate()
        self.start_worker()
        return "worker"

    def end_workers(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.kill()
            worker.communicate()

    def numbers(self) -> list[int]:
        """What is done."""
        return [int(line) for line in self.done.read_bytes().splitlines()]

    def left(self, queue: str) -> dict[str, int]:
        """How many messages are in the queue, by their state."""
        with Client(self.url) as client:
            stats = client.queues.stats(queue)
        return {state: stats[state] for state in ("ready", "delayed", "leased", "dead")}


def own_namespace(server: FloProcess, request: pytest.FixtureRequest) -> str:
    """The URL of a new namespace, named after the test."""
    name = re.sub("[^a-z_]", "", request.node.name)
    with Client(f"flo://127.0.0.1:{server.port}") as client:
        client.namespaces.create(name)
    return f"flo://127.0.0.1:{server.port}/{name}"


def persist(send: Callable[[], object]) -> None:
    """Send until it is done: the server may be away. A task whose answer was lost may be there twice."""

    def attempt() -> bool:
        try:
            send()
        except Exception as e:  # each framework has errors of its own for a lost connection
            if not isinstance(e, Disconnected) and not isinstance(e.__cause__ or e.__context__, Disconnected):
                raise
            return False
        return True

    wait_until(attempt, "a task that is sent")


def run_through_kills(framework: str, queue: str, send: Callable[[Work, int], object], directory: Path, *, long_run: bool) -> None:
    """Send tasks, kill as they are done, and check the end. `send(work, number)` enqueues a task."""
    tasks, seconds = (TASKS_LONG, SECONDS_MAX_LONG) if long_run else (TASKS, SECONDS_MAX)
    chance, killed = random.Random(7), []
    with ExitStack() as stack:
        work = Work(framework, directory, stack)
        for _ in range(WORKERS):
            work.start_worker()
        next_kill = KILLS_EACH
        for number in range(tasks):
            persist(lambda: send(work, number))  # noqa: B023
            if work.done.stat().st_size and len(work.numbers()) >= next_kill:
                killed.append(work.kill_one(chance))
                next_kill = len(work.numbers()) + chance.randrange(KILLS_EACH // 2, KILLS_EACH * 2)

        def finished() -> bool:
            nonlocal next_kill
            numbers = work.numbers()
            if len(numbers) >= next_kill and len(set(numbers)) < tasks:
                killed.append(work.kill_one(chance))
                next_kill = len(numbers) + chance.randrange(KILLS_EACH // 2, KILLS_EACH * 2)
            return len(set(numbers)) == tasks and not any(work.left(queue).values())

        try:
            wait_until(finished, f"the end of all tasks ({work.framework})", seconds)
        finally:
            log = (directory / "workers.log").read_text(errors="replace")
            print(f"{len(work.numbers())} done, {len(set(work.numbers()))} of {tasks} tasks; left: {work.left(queue)}; killed: {killed}")
            print(log[-6000:])
        assert set(work.numbers()) == set(range(tasks))
        assert {"server", "worker"} == set(killed)
