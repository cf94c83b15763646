"""Frameworks of workers on Flo, beside the same frameworks on Redis: jobs a second, and the time of one job from enqueue to result.

    make tools
    .tools/frameworks/bin/python loadtest/compare_frameworks.py [--frameworks celery,…] [--jobs 5000] [--trips 100] [--rounds 3]

Measured as loadtest/compare_jobs.py does: Flo with durability `sync`, Redis with `appendfsync always`, four worker processes. On Redis,
Dramatiq has its own broker and results, Huey its RedisHuey (which tells of results: `notify_result`), and taskiq has taskiq-redis: as
`taskiq-redis` its stream broker, which acknowledges tasks as Flo's does, as `taskiq-redis-list` its list broker, which loses the tasks of a
worker that is killed. So does RedisHuey. Celery has one worker with a pool of four processes; as `-late` it acknowledges a task when it
is done. Jobs do nothing, and their results are kept.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from flo import Client  # noqa: E402
from loadtest.compare_jobs import PRODUCERS, RUN_SECONDS, Processes, System, compare, end_with_parent, nothing  # noqa: E402
from tests.support.processes import FloProcess, wait_until  # noqa: E402

WORKERS = 4  # processes, each as the framework runs it by default
THREADS = 8  # of a worker of Dramatiq (its default) and of Huey
TRIP_SECONDS = 10
RESULTS_AT_ONCE = 256


class Framework(Processes):
    """A framework on Flo or on Redis."""

    program = __file__
    workers = WORKERS
    queue = ""  # of Flo
    send: Callable[[], Any]

    def start_server(self) -> None:
        """Start the server that the name says."""
        if not self.name.endswith("-flo"):
            super().start_server()
            return
        flo = self.stack.enter_context(FloProcess(self.directory, "--durability", "sync"))
        self.port, self.server = flo.port, flo.pid
        self.client = self.stack.enter_context(Client(f"flo://127.0.0.1:{flo.port}"))

    def run_many(self, count: int) -> float:
        """See `System`."""
        already = 0 if self.name.endswith("-flo") else self.results()
        began = time.perf_counter()
        self.send_many(count)
        if self.name.endswith("-flo"):
            wait_until(self.has_nothing_left, "the end of the jobs", RUN_SECONDS)
        else:
            wait_until(lambda: self.results() >= already + count, "the results of the jobs", RUN_SECONDS)
        return time.perf_counter() - began

    def send_many(self, count: int) -> None:
        """Enqueue jobs, by several threads."""
        with ThreadPoolExecutor(PRODUCERS) as pool:
            for _ in pool.map(lambda _: self.send(), range(count)):
                pass

    def has_nothing_left(self) -> bool:
        """Whether every job on Flo is acknowledged."""
        stats = self.client.queues.stats(self.queue)
        return not stats["ready"] + stats["leased"]

    def results(self) -> int:
        """How many results there are on Redis."""
        raise NotImplementedError

    def round_trips(self, count: int) -> list[float]:
        """See `System`."""
        trips = []
        for _ in range(count):
            began = time.perf_counter()
            self.trip()
            trips.append(time.perf_counter() - began)
        return trips

    def trip(self) -> None:
        """One job and its result."""
        raise NotImplementedError


def celery_task(on: str, port: int) -> tuple[Any, Any]:
    """(the application, the task of `nothing`)."""
    from celery import Celery

    import flo.contrib.celery  # noqa: F401  makes the URLs known

    url = f"{on.split('-')[1]}://127.0.0.1:{port}"
    app = Celery("compare", broker=url, backend=url)
    app.conf.update(task_acks_late=on.endswith("-late"), worker_redirect_stdouts=False)
    return app, app.task(name="nothing")(nothing)


class CeleryWorker(Framework):
    """Celery."""

    workers = 1  # with a pool of WORKERS

    def start_server(self) -> None:
        """Start the server that the name says."""
        if "-redis" in self.name:
            Processes.start_server(self)
        else:
            flo = self.stack.enter_context(FloProcess(self.directory, "--durability", "sync"))
            self.port, self.server = flo.port, flo.pid

    def start(self) -> None:
        """Start all processes, and connect."""
        super().start()
        self.app, self.task = celery_task(self.name, self.port)

    def run_many(self, count: int) -> float:
        """See `System`. The results are looked at in the order of the tasks, many in a request, until one is missing."""
        backend = self.app.backend
        began = time.perf_counter()
        with ThreadPoolExecutor(PRODUCERS) as pool:
            keys = list(pool.map(lambda _: backend.get_key_for_task(self.task.delay().id), range(count)))

        def finished() -> bool:
            while keys and all(backend.mget(keys[:RESULTS_AT_ONCE])):
                del keys[:RESULTS_AT_ONCE]
            return not keys

        wait_until(finished, "the results of the tasks", RUN_SECONDS)
        return time.perf_counter() - began

    def trip(self) -> None:
        """One job and its result."""
        assert self.task.delay().get(timeout=TRIP_SECONDS) == 1


def work_for_celery(on: str, port: int) -> None:
    """Be a worker. The processes of its pool end with it: Celery's do not, if it is killed."""
    from celery.signals import worker_process_init, worker_ready

    parent = os.getpid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)

    worker_process_init.connect(lambda **_: threading.Thread(target=watch, daemon=True).start(), weak=False)
    worker_ready.connect(lambda **_: print("ready", flush=True), weak=False)
    app, _ = celery_task(on, port)
    app.worker_main(["worker", "--concurrency", str(WORKERS), "--loglevel", "WARNING"])


def dramatiq_actor(on: str, port: int) -> tuple[Any, Any]:
    """(the broker, the actor of `nothing`)."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    from flo.contrib.dramatiq import FloBackend, FloBroker

    broker: Any
    if on == "dramatiq-flo":
        broker, backend = FloBroker(f"flo://127.0.0.1:{port}"), FloBackend(f"flo://127.0.0.1:{port}")
    else:
        broker, backend = RedisBroker(host="127.0.0.1", port=port), RedisBackend(host="127.0.0.1", port=port)
    broker.add_middleware(Results(backend=backend))
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(nothing, store_results=True)


class Dramatiq(Framework):
    """Dramatiq."""

    queue = "default"

    def start(self) -> None:
        """Start all processes, and connect."""
        super().start()
        self.broker, actor = dramatiq_actor(self.name, self.port)
        self.send = actor.send

    def run_many(self, count: int) -> float:
        """See `System`. Dramatiq knows how many messages its queue on Redis has."""
        if self.name.endswith("-flo"):
            return super().run_many(count)
        began = time.perf_counter()
        self.send_many(count)
        self.broker.join(self.queue, interval=5, timeout=RUN_SECONDS * 1000)
        return time.perf_counter() - began

    def trip(self) -> None:
        """One job and its result."""
        assert self.send().get_result(block=True, timeout=TRIP_SECONDS * 1000) == 1


def work_for_dramatiq(on: str, port: int) -> None:
    """Be a worker process."""
    import dramatiq

    broker, _ = dramatiq_actor(on, port)
    dramatiq.Worker(broker, worker_threads=THREADS).start()
    print("ready", flush=True)
    threading.Event().wait()


def huey_task(on: str, port: int) -> tuple[Any, Any]:
    """(the Huey, the task of `nothing`)."""
    from huey import RedisHuey

    from flo.contrib.huey import FloHuey

    huey: Any
    if on == "huey-flo":
        huey = FloHuey(url=f"flo://127.0.0.1:{port}")
    else:
        huey = RedisHuey(host="127.0.0.1", port=port, notify_result=True)
    return huey, huey.task()(nothing)


class Huey(Framework):
    """Huey."""

    queue = "huey"

    def start(self) -> None:
        """Start all processes, and connect."""
        super().start()
        self.huey, self.send = huey_task(self.name, self.port)

    def results(self) -> int:
        """How many results there are on Redis."""
        return int(self.huey.result_count())

    def trip(self) -> None:
        """One job and its result."""
        assert self.send().get(blocking=True, timeout=TRIP_SECONDS) == 1


def work_for_huey(on: str, port: int) -> None:
    """Be a consumer process."""
    huey, _ = huey_task(on, port)
    huey.on_startup()(lambda: print("ready", flush=True))
    huey.create_consumer(workers=THREADS, periodic=False).run()


def taskiq_task(on: str, port: int) -> tuple[Any, Any]:
    """(the broker, the task)."""
    from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

    from flo.contrib.taskiq import FloBroker, FloResultBackend

    broker: Any
    backend: Any
    if on == "taskiq-flo":
        broker, backend = FloBroker(f"flo://127.0.0.1:{port}"), FloResultBackend(f"flo://127.0.0.1:{port}")
    else:
        made = ListQueueBroker if on == "taskiq-redis-list" else RedisStreamBroker
        broker, backend = made(f"redis://127.0.0.1:{port}"), RedisAsyncResultBackend(f"redis://127.0.0.1:{port}")

    async def nothing_async() -> int:
        return nothing()

    return broker, broker.with_result_backend(backend).task(task_name="nothing")(nothing_async)


class Taskiq(Framework):
    """taskiq."""

    queue = "taskiq"

    def start(self) -> None:
        """Start all processes, and connect."""
        super().start()
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.broker, self.task = taskiq_task(self.name, self.port)
        self.runner.run(self.broker.startup())
        self.stack.callback(lambda: self.runner.run(self.broker.shutdown()))
        if not self.name.endswith("-flo"):
            import redis

            self.redis = self.stack.enter_context(redis.Redis(port=self.port))

    def send_many(self, count: int) -> None:
        """Enqueue jobs, by several tasks."""

        async def produce(jobs: int) -> None:
            for _ in range(jobs):
                await self.task.kiq()

        async def all_of_them() -> None:
            shares = [count // PRODUCERS + (number < count % PRODUCERS) for number in range(PRODUCERS)]
            await asyncio.gather(*map(produce, shares))

        self.runner.run(all_of_them())

    def results(self) -> int:
        """How many keys there are on Redis: one for each result."""
        return int(self.redis.dbsize())

    def trip(self) -> None:
        """One job and its result. taskiq asks for it again and again."""

        async def job() -> None:
            task = await self.task.kiq()
            assert (await task.wait_result(check_interval=0.002, timeout=TRIP_SECONDS)).return_value == 1

        self.runner.run(job())


def work_for_taskiq(on: str, port: int) -> None:
    """Be a worker process."""
    from taskiq.api import run_receiver_task

    broker, _ = taskiq_task(on, port)
    broker.is_worker_process = True

    async def work() -> None:
        await broker.startup()
        print("ready", flush=True)
        await run_receiver_task(broker, max_async_tasks=100, run_startup=False)

    asyncio.run(work())


KINDS: dict[str, tuple[type[Framework], Callable[[str, int], None], tuple[str, ...]]] = {
    "celery": (CeleryWorker, work_for_celery, ("celery-flo", "celery-redis", "celery-flo-late", "celery-redis-late")),
    "dramatiq": (Dramatiq, work_for_dramatiq, ("dramatiq-flo", "dramatiq-redis")),
    "huey": (Huey, work_for_huey, ("huey-flo", "huey-redis")),
    "taskiq": (Taskiq, work_for_taskiq, ("taskiq-flo", "taskiq-redis", "taskiq-redis-list")),
}


def systems_of(framework: str) -> dict[str, Callable[[Path], System]]:
    """The systems of a framework, by name."""
    kind, _, names = KINDS[framework]
    return {name: type(name, (kind,), {"name": name}) for name in names}


def main() -> int:
    """Run the comparison, or be one of its workers."""
    if sys.argv[1:2] == ["--worker"]:
        name, port = sys.argv[2:]
        end_with_parent()
        KINDS[name.partition("-")[0]][1](name, int(port))
        return 0
    parser = argparse.ArgumentParser(description="Compare frameworks of workers on Flo and on Redis; each enqueued job is on disk.")
    parser.add_argument("--frameworks", default=",".join(KINDS), help=f"which, of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--jobs", type=int, default=5000, help="jobs of a run (default: 5000)")
    parser.add_argument("--trips", type=int, default=100, help="round trips of a run (default: 100)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each system (default: 3)")
    parser.add_argument("--json", help="write every figure to this file")
    args = parser.parse_args()
    names = args.frameworks.split(",")
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        parser.error(f"no framework is called {', '.join(unknown)}; give some of {', '.join(KINDS)}")
    missing = [name for name in (*names, "redis", "taskiq_redis") if find_spec(name) is None]
    if missing or shutil.which("redis-server") is None:
        print(f"missing: {', '.join(missing) or 'redis-server'}. The head of {os.path.basename(__file__)} says how", file=sys.stderr)
        return 1
    figures = {name: compare(systems_of(name), args) for name in names}
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
