"""Celery on Flo beside Celery on Redis: tasks a second, and the time of one task from `delay` to its result while the worker is idle.

    make tools
    .tools/frameworks/bin/python loadtest/compare_celery.py [--systems celery-flo,celery-redis] [--jobs 2000] [--trips 200] [--rounds 3]

Broker and result backend are one server: Flo with durability `sync`, or Redis with `appendfsync always`. There is one worker, with the
default pool of WORKERS processes; everything else is as Celery installs it. `-late` has `task_acks_late` on. What is measured is what
loadtest/compare_jobs.py measures, and rounds are dropped as there.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from loadtest.compare_jobs import PRODUCERS, RUN_SECONDS, WORKERS, Processes, System, arguments, compare, end_with_parent, nothing
from tests.support.processes import FloProcess, wait_until

LOOKED_AT = 256  # results in one request


def application(scheme: str, port: int, late: bool) -> tuple[Any, Any]:
    """(the application, its task)."""
    from celery import Celery

    import flo.contrib.celery  # noqa: F401  makes the URLs known

    url = f"{scheme}://127.0.0.1:{port}"
    app = Celery("compare", broker=url, backend=url)
    app.conf.update(task_acks_late=late, broker_connection_retry_on_startup=True)
    return app, app.task(name="nothing")(nothing)


class CelerySystem(Processes):
    """Celery on a server. `setting` is 1 for late acknowledgements."""

    program = __file__
    workers = 1

    def __init__(self, directory: Path, setting: float | None = None, scheme: str = "flo") -> None:
        """Keep the arguments."""
        super().__init__(directory, setting)
        self.name = scheme

    def start_server(self) -> None:
        """Start the server."""
        if self.name == "redis":
            super().start_server()
        else:
            flo = self.stack.enter_context(FloProcess(self.directory, "--durability", "sync"))
            self.port, self.server = flo.port, flo.pid

    def start(self) -> None:
        """Start all processes, and connect."""
        super().start()
        self.app, self.task = application(self.name, self.port, bool(self.setting))

    def run_many(self, count: int) -> float:
        """See `System`."""
        backend = self.app.backend
        began = time.perf_counter()
        with ThreadPoolExecutor(PRODUCERS) as pool:
            keys = list(pool.map(lambda _: backend.get_key_for_task(self.task.delay().id), range(count)))

        def finished() -> bool:
            """Looks at the results in the order of the tasks, until one is missing."""
            while keys:
                some = keys[:LOOKED_AT]
                if not all(backend.mget(some)):
                    return False
                del keys[:LOOKED_AT]
            return True

        wait_until(finished, "the results", RUN_SECONDS)
        return time.perf_counter() - began

    def round_trips(self, count: int) -> list[float]:
        """See `System`. The client waits in SUBSCRIBE, or in `kv_get`."""
        trips = []
        for _ in range(count):
            began = time.perf_counter()
            assert self.task.delay().get(timeout=10) == 1
            trips.append(time.perf_counter() - began)
        return trips


def work(scheme: str, port: int, late: bool) -> None:
    """Be the worker."""
    from celery.signals import worker_ready

    app, _ = application(scheme, port, late)
    worker_ready.connect(lambda **_: print("ready", flush=True), weak=False)
    app.worker_main(["worker", "--concurrency", str(WORKERS), "--loglevel", "WARNING"])


SYSTEMS: dict[str, Callable[[Path], System]] = {
    "celery-flo": CelerySystem,
    "celery-flo-late": partial(CelerySystem, setting=1),
    "celery-redis": partial(CelerySystem, scheme="redis"),
    "celery-redis-late": partial(CelerySystem, setting=1, scheme="redis"),
}


def main() -> int:
    """Run the comparison, or be its worker."""
    if sys.argv[1:2] == ["--worker"]:
        scheme, port, *late = sys.argv[2:]
        end_with_parent()
        work(scheme, int(port), bool(late))
        return 0
    names, args = arguments(SYSTEMS, jobs=2000)
    missing = [name for name in ("celery", "redis") if find_spec(name) is None]
    if missing or shutil.which("redis-server") is None:
        print(f"missing: {', '.join(missing) or 'redis-server'}; `make tools` installs it", file=sys.stderr)
        return 1
    figures = compare(SYSTEMS, names, args)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
