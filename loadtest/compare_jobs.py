"""Job systems compared: jobs a second over eight worker processes, and the time of one job from enqueue to result while workers are idle.

    python3 -m venv .tools/jobs
    .tools/jobs/bin/pip install '.[jobs]'
    .tools/jobs/bin/python loadtest/compare_jobs.py [--systems flo,dramatiq,arq] [--jobs 20000] [--trips 200] [--rounds 3] [--json FILE]

The systems have an environment of their own because arq takes an older redis-py than the tests do. Each run has a server of its own: Flo
with durability `sync`, Redis with `appendfsync always`. An enqueued job and a result are then on disk. The systems run one after the other,
round by round; rounds in which more than 5 % of the CPU was stolen are dropped.

    jobs a second   from the first enqueue to the end of the last of --jobs jobs that do nothing, while the workers run. Results are kept.
    round trip      enqueue, then wait for the result by the system's own means; one job at a time, each right after the other. Dramatiq's
                    workers look less often the longer they found nothing: jobs that come seldom wait longer than this shows
    server CPU      microseconds that the server used for a job, by the kernel's clock

Dramatiq and arq run as they are installed (8 threads or 10 jobs at a time in a process, by default), and as `NAME-eager`: they look for
jobs, and arq's client for results, every 10 ms. By default Dramatiq's idle workers look every second or less, and arq's every half second.

As `flo`, Flo's workers are the loop that a user of `flo.Client` writes, one thread in a process. `Client.run_many` sends what was done and
the requests for more in one write. A worker holds up to 8 runs, as Dramatiq's does, and reports them together; as `flo-one` it holds one
run; as `flo-worker` it is a flo.Worker with 8 threads. Threads invoke one run in a request, as with the others; as `flo-many`,
`Client.run_many` invokes 100 in one write. Idle workers wait in `worker_await`, and the client in `action_result`; nobody polls for runs.

Faktory is not run here. Its FAQ tells of "over 5000 jobs/sec steadily", with one Go worker of 20 threads on a laptop
(https://github.com/contribsys/faktory/wiki/FAQ); it does not say how often its Redis synced.

A system is a class as `System` describes, and has an entry in SYSTEMS.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from flo import Client, Worker, calls  # noqa: E402
from flo.operations.worker import Assignment  # noqa: E402
from loadtest.compare import STOLEN_MAX, cpu_seconds, disturbed, stolen, sync_latency  # noqa: E402
from tests.support.processes import FloProcess, RedisProcess, wait_until  # noqa: E402

WORKERS = 8  # processes
PRODUCERS = 8  # threads or tasks that enqueue at once: one alone would wait for each sync
HELD = 8  # runs that a worker of Flo holds at once: as many as Dramatiq's has threads
WARM_JOBS = 200  # before anything is measured: connections, scripts and imports are then there
EAGER_SECONDS = 0.01
RUN_SECONDS = 600  # a run that takes longer is stuck
FAKTORY = "Faktory, by its FAQ: over 5,000 jobs/s (one Go worker, 20 threads, a laptop)"


class System(Protocol):
    """A job system with its server and its WORKERS processes, all below `directory`, on loopback."""

    server: int  # its process id

    def __init__(self, directory: Path) -> None:
        """Keep the directory; start nothing."""

    def start(self) -> None:
        """Start the server and the workers; return when all workers wait for jobs."""

    def run_many(self, count: int) -> float:
        """Enqueue `count` jobs that do nothing, wait for the end of the last: the seconds from the first enqueue on."""

    def round_trips(self, count: int) -> list[float]:
        """For each of `count` jobs, one after the other: the seconds from before its enqueue until its result is there."""

    def stop(self) -> None:
        """End every process that was started, also after a `start` that failed halfway."""


class Processes:
    """What the systems share: a server, and a file as the program of the workers."""

    name = ""
    program = __file__  # run with --worker NAME PORT [SETTING]
    workers = WORKERS

    def __init__(self, directory: Path, setting: float | None = None) -> None:
        """`setting` is given to the workers."""
        self.directory = directory
        self.setting = setting
        self.stack = contextlib.ExitStack()
        self.port = self.server = 0

    def start_server(self) -> None:
        """Start a redis-server."""
        redis = self.stack.enter_context(RedisProcess(self.directory))
        self.port, self.server = redis.port, redis.process.pid

    def start(self) -> None:
        """Start all processes."""
        self.directory.mkdir()
        self.start_server()
        command = [sys.executable, self.program, "--worker", self.name, str(self.port)]
        if self.setting is not None:
            command.append(str(self.setting))
        workers = []
        for _ in range(self.workers):
            workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            self.stack.callback(end_worker, workers[-1])
        for worker in workers:
            assert worker.stdout is not None
            wait_until(worker.stdout.readline, f"the start of a worker of {self.name}")

    def stop(self) -> None:
        """End all processes."""
        self.stack.close()


def end_worker(worker: subprocess.Popen[bytes]) -> None:
    """End a worker; none has a job under way that anybody waits for."""
    worker.kill()
    worker.communicate()


def end_with_parent() -> None:
    """End this process when its standard input ends: no worker outlives a comparison that was killed."""

    def watch() -> None:
        os.read(0, 1)  # not sys.stdin.read(): it holds a lock, which a pool's forked child would wait for as it closes its copy
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def nothing() -> int:
    """The job. The result is no None, which Dramatiq warns about."""
    return 1


class Flo(Processes):
    """Flo. `setting`: how many runs a worker holds; `together`: how many runs are invoked in one write."""

    name = "flo"

    def __init__(self, directory: Path, setting: float | None = None, together: int = 1) -> None:
        """Keep the arguments."""
        super().__init__(directory, setting)
        self.together = together

    def start_server(self) -> None:
        """Start a server, with the action."""
        flo = self.stack.enter_context(FloProcess(self.directory, "--durability", "sync"))
        self.port, self.server = flo.port, flo.pid
        self.client = self.stack.enter_context(Client(f"flo://127.0.0.1:{self.port}"))
        self.client.actions.register("nothing")

    def run_many(self, count: int) -> float:
        """See `System`."""
        shares = [min(self.together, count - at) for at in range(0, count, self.together)]
        began = time.perf_counter()
        with ThreadPoolExecutor(PRODUCERS) as pool:
            for _ in pool.map(lambda share: self.client.run_many([calls.action_invoke("nothing")] * share), shares):
                pass
        wait_until(self.has_nothing_left, "the end of the runs", RUN_SECONDS)
        return time.perf_counter() - began

    def has_nothing_left(self) -> bool:
        """Whether every run has ended."""
        (action,) = self.client.actions.list_page("nothing")["actions"]
        return not action["runs"]["pending"] and not action["runs"]["running"]

    def round_trips(self, count: int) -> list[float]:
        """See `System`. The client waits in `action_result`."""
        trips = []
        for _ in range(count):
            began = time.perf_counter()
            run = self.client.actions.invoke("nothing")
            assert self.client.actions.result(run, block=10_000) == ("completed", b"1")
            trips.append(time.perf_counter() - began)
        return trips


def work_for_flo(port: int, held: float | None) -> None:
    """Be a worker process. It reports all that it did, and asks for twice as much, up to what it may hold, in one write; it waits when it
    holds nothing."""
    most, worker = int(held or HELD), f"worker-{os.getpid()}"
    client = Client(f"flo://127.0.0.1:{port}")
    client.workers.register(worker, ["nothing"], concurrency=most)
    print("ready", flush=True)
    wait = calls.worker_take(worker, block=0)
    take = calls.worker_take(worker) if most > 1 else wait
    done: list[Any] = []
    while True:
        answers = client.run_many([*done, *[take] * min(2 * len(done), most)] or [wait])
        runs = [answer for answer in answers if isinstance(answer, Assignment)]
        done = [calls.worker_complete(run.run_id, str(nothing()), worker_id=worker, attempt=run.attempt) for run in runs]


class FloWorker(Flo):
    """Flo, with the workers of flo.Worker."""

    name = "flo-worker"


def work_for_flo_worker(port: int, _: float | None) -> None:
    """Be a worker process."""
    worker = Worker(f"flo://127.0.0.1:{port}")
    worker.action("nothing")(nothing)
    print("ready", flush=True)
    worker.run(concurrency=HELD)


def dramatiq_broker(port: int) -> tuple[Any, Any]:
    """(the broker, the actor of `nothing`)."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    broker = RedisBroker(host="127.0.0.1", port=port)
    broker.add_middleware(Results(backend=RedisBackend(host="127.0.0.1", port=port)))
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(nothing, store_results=True)


class Dramatiq(Processes):
    """Dramatiq. Its broker has no way to enqueue several jobs in one request, so threads enqueue. `setting`: seconds between two looks
    for jobs; None: its own."""

    name = "dramatiq"

    def start(self) -> None:
        """Start all processes, and connect."""
        super().start()
        self.broker, self.actor = dramatiq_broker(self.port)

    def run_many(self, count: int) -> float:
        """See `System`."""
        began = time.perf_counter()
        with ThreadPoolExecutor(PRODUCERS) as pool:
            for _ in pool.map(lambda _: self.actor.send(), range(count)):
                pass
        self.broker.join(self.actor.queue_name, interval=5, timeout=RUN_SECONDS * 1000)
        return time.perf_counter() - began

    def round_trips(self, count: int) -> list[float]:
        """See `System`. The client waits in BRPOPLPUSH."""
        trips = []
        for _ in range(count):
            began = time.perf_counter()
            self.actor.send().get_result(block=True, timeout=10_000)
            trips.append(time.perf_counter() - began)
        return trips


def work_for_dramatiq(port: int, poll_seconds: float | None) -> None:
    """Be a worker process."""
    import dramatiq

    broker, _ = dramatiq_broker(port)
    settings = {} if poll_seconds is None else {"worker_timeout": int(poll_seconds * 1000)}
    worker = dramatiq.Worker(broker, **settings)
    worker.start()
    print("ready", flush=True)
    threading.Event().wait()


class Arq(Processes):
    """arq. `setting`: seconds between two looks for jobs and results; None: its own."""

    name = "arq"

    def start(self) -> None:
        """Start all processes, and connect."""
        from arq import create_pool
        from arq.connections import RedisSettings

        super().start()
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.pool: Any = self.runner.run(create_pool(RedisSettings(host="127.0.0.1", port=self.port)))
        self.stack.callback(lambda: self.runner.run(self.pool.aclose()))
        self.poll = {} if self.setting is None else {"poll_delay": self.setting}

    def run_many(self, count: int) -> float:
        """See `System`. A job leaves the queue's sorted set when its result is stored."""
        from arq.constants import default_queue_name

        async def produce(jobs: int) -> None:
            for _ in range(jobs):
                await self.pool.enqueue_job("nothing")

        async def run() -> None:
            async with asyncio.timeout(RUN_SECONDS):
                shares = [count // PRODUCERS + (number < count % PRODUCERS) for number in range(PRODUCERS)]
                await asyncio.gather(*map(produce, shares))
                while await self.pool.zcard(default_queue_name):
                    await asyncio.sleep(0.005)

        began = time.perf_counter()
        self.runner.run(run())
        return time.perf_counter() - began

    def round_trips(self, count: int) -> list[float]:
        """See `System`. The client looks for the result again and again: arq has no other way."""

        async def trip() -> float:
            began = time.perf_counter()
            job = await self.pool.enqueue_job("nothing")
            await job.result(timeout=10, **self.poll)
            return time.perf_counter() - began

        return [self.runner.run(trip()) for _ in range(count)]


def work_for_arq(port: int, poll_seconds: float | None) -> None:
    """Be a worker process."""
    from arq.connections import RedisSettings
    from arq.worker import Worker, func

    async def job(_: dict[Any, Any]) -> int:
        return nothing()

    async def ready(_: dict[Any, Any]) -> None:
        print("ready", flush=True)

    settings: dict[str, Any] = {} if poll_seconds is None else {"poll_delay": poll_seconds}
    asyncio.set_event_loop(asyncio.new_event_loop())  # arq takes the present one, and no longer gets one made
    server = RedisSettings(host="127.0.0.1", port=port)
    Worker([func(job, name="nothing")], redis_settings=server, on_startup=ready, **settings).run()


SYSTEMS: dict[str, Callable[[Path], System]] = {
    "flo": Flo,
    "flo-worker": FloWorker,
    "flo-one": partial(Flo, setting=1),
    "flo-many": partial(Flo, together=100),
    "dramatiq": Dramatiq,
    "dramatiq-eager": partial(Dramatiq, setting=EAGER_SECONDS),
    "arq": Arq,
    "arq-eager": partial(Arq, setting=EAGER_SECONDS),
}
WORK = {"flo": work_for_flo, "flo-worker": work_for_flo_worker, "dramatiq": work_for_dramatiq, "arq": work_for_arq}


def measure(make: Callable[[Path], System], directory: Path, jobs: int, trips: int) -> tuple[float, float, list[float]]:
    """(jobs a second, the server's CPU us of a job, the seconds of each round trip) of one run of a system."""
    system = make(directory)
    try:
        system.start()
        system.run_many(WARM_JOBS)
        before = cpu_seconds(system.server)
        seconds = system.run_many(jobs)
        used = (cpu_seconds(system.server) - before) / jobs * 1e6
        system.round_trips(1)
        return jobs / seconds, used, system.round_trips(trips)
    finally:
        system.stop()
        shutil.rmtree(directory, ignore_errors=True)


def compare(systems: dict[str, Callable[[Path], System]], args: argparse.Namespace) -> dict[str, object]:
    """Run the systems one after the other, round by round, and print."""
    names = list(systems)
    rates: dict[str, list[float]] = {name: [] for name in names}
    used: dict[str, list[float]] = {name: [] for name in names}
    waits: dict[str, list[float]] = {name: [] for name in names}
    dropped = 0
    with tempfile.TemporaryDirectory(prefix="flo-compare-", ignore_cleanup_errors=True) as directory:
        median, worst = sync_latency(directory)
        print(f"fdatasync of 4 KiB {median:.0f} us median, {worst:.0f} us p99; {args.jobs:,} jobs, {args.trips} trips")
        for _ in range(args.rounds):
            before = stolen()
            measured = {name: measure(systems[name], Path(directory) / name, args.jobs, args.trips) for name in names}
            if disturbed(before):
                dropped += 1
                continue
            for name, (rate, server, trips) in measured.items():
                rates[name].append(rate)
                used[name].append(server)
                waits[name] += trips
    for name in names:
        if rates[name]:
            trips = sorted(seconds * 1000 for seconds in waits[name])
            p50, p99 = statistics.median(trips), trips[len(trips) * 99 // 100]
            spread = f"[{min(rates[name]):,.0f}..{max(rates[name]):,.0f}]"
            print(
                f"{name:<16}{statistics.median(rates[name]):>8,.0f} jobs/s {spread:<20} round trip {p50:8.2f} ms p50 {p99:8.2f} ms p99 "
                f"server CPU {statistics.median(used[name]):6.0f} us"
            )
    print(f"rounds dropped for more than {STOLEN_MAX:.0%} stolen CPU: {dropped}")
    return {
        "sync_us": [median, worst],
        "jobs": args.jobs,
        "rates": rates,
        "server_us": used,
        "round_trip_seconds": waits,
        "dropped": dropped,
    }


def main() -> int:
    """Run the comparison, or be one of its workers."""
    if sys.argv[1:2] == ["--worker"]:
        name, port, *poll = sys.argv[2:]
        end_with_parent()
        WORK[name](int(port), float(poll[0]) if poll else None)
        return 0
    parser = argparse.ArgumentParser(description="Compare job systems; each enqueued job and result is on disk.")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"which, of {', '.join(SYSTEMS)} (default: all)")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs of a run (default: 20000)")
    parser.add_argument("--trips", type=int, default=200, help="round trips of a run (default: 200)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each system (default: 3)")
    parser.add_argument("--json", help="write every figure to this file")
    args = parser.parse_args()
    names = args.systems.split(",")
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        parser.error(f"no system is called {', '.join(unknown)}; give some of {', '.join(SYSTEMS)}")
    missing = [name for name in ("dramatiq", "arq") if find_spec(name) is None]
    if missing:
        print(f"missing: {', '.join(missing)}. The head of loadtest/compare_jobs.py says how to install them", file=sys.stderr)
        return 1
    if shutil.which("redis-server") is None:
        print("redis-server is needed: apt-get install redis-server", file=sys.stderr)
        return 1
    figures = compare({name: SYSTEMS[name] for name in names}, args)
    print(FAKTORY)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
