"""A worker process of a framework: `main` with the arguments FRAMEWORK and URL. Its task `note` appends a number to a file."""

import asyncio
import os
import sys
import threading
import time
from typing import Any

LEASE_MS = 1000  # so that the tasks of a killed worker come back soon
THREADS = 4
TASK_SECONDS = 0.005
Program = tuple[Any, Any]  # what runs the tasks, and the task: its `send` enqueues


def note(path: str, number: int) -> None:
    """Append a number to the file, in one write."""
    time.sleep(TASK_SECONDS)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, b"%d\n" % number)
    finally:
        os.close(file)


def celery_program(url: str) -> Program:
    """The application and the task."""
    from celery import Celery

    import flo.contrib.celery  # noqa: F401  makes the URLs known

    app = Celery("work", broker=url, backend=url)
    app.conf.update(
        broker_connection_max_retries=None,
        broker_transport_options={"visibility_timeout": LEASE_MS / 1000},
        result_backend_always_retry=True,
        task_acks_late=True,
        task_default_queue="work",
        worker_cancel_long_running_tasks_on_connection_loss=False,
    )
    return app, app.task(name="note")(note)


def dramatiq_program(url: str) -> Program:
    """The broker and the actor."""
    import dramatiq

    from flo.contrib.dramatiq import FloBroker

    broker = FloBroker(url, lease=LEASE_MS)
    dramatiq.set_broker(broker)
    return broker, dramatiq.actor(note, max_backoff=1000)


def huey_program(url: str) -> Program:
    """The Huey and the task."""
    from flo.contrib.huey import FloHuey

    huey = FloHuey("work", url=url, lease=LEASE_MS, max_attempts=0)
    return huey, huey.task(name="note")(note)


def taskiq_program(url: str) -> Program:
    """The broker and the task."""
    from flo.contrib.taskiq import FloBroker, FloResultBackend

    broker = FloBroker(url, "work", lease=LEASE_MS).with_result_backend(FloResultBackend(url))
    return broker, broker.task(task_name="note")(note)


def work_for_celery(url: str) -> None:
    """Be a worker."""
    app, _ = celery_program(url)
    app.worker_main(["worker", "-P", "threads", "-c", str(THREADS), "-l", "WARNING", "-n", f"{os.getpid()}@tests"])


def work_for_dramatiq(url: str) -> None:
    """Be a worker."""
    import dramatiq

    broker, _ = dramatiq_program(url)
    dramatiq.Worker(broker, worker_threads=THREADS).start()
    threading.Event().wait()


def work_for_huey(url: str) -> None:
    """Be a consumer."""
    huey, _ = huey_program(url)
    huey.create_consumer(workers=THREADS).run()


def work_for_taskiq(url: str) -> None:
    """Be a worker."""
    from taskiq.api import run_receiver_task

    broker, _ = taskiq_program(url)
    broker.is_worker_process = True
    asyncio.run(run_receiver_task(broker, sync_workers=THREADS, max_async_tasks=THREADS, run_startup=True))


def end_with_parent() -> None:
    """End this process when its standard input ends."""

    def watch() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Be the worker that the arguments name."""
    end_with_parent()
    {"celery": work_for_celery, "dramatiq": work_for_dramatiq, "huey": work_for_huey, "taskiq": work_for_taskiq}[sys.argv[1]](sys.argv[2])
