"""`flo worker`: list and drain workers, and run one."""

import argparse
import threading
import time
from typing import TYPE_CHECKING, Any

from flo.cli.output import fail, name_text, print_list
from flo.cli.remote import command, whole
from flo.cli.rows import add_rows

if TYPE_CHECKING:
    from flo.client import Client


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "worker", help=summary, description="Workers: programs that take the runs of actions, and report on them."
    ).add_subparsers(metavar="COMMAND")
    add_rows(group, "worker")
    command(group, "list", list_workers, "list the workers and the runs they hold")
    run = group.add_parser(
        "run",
        help="run a worker of a Python program",
        description="Run a worker of a Python program: a flo.Worker, which names its server itself. SIGTERM and Ctrl-C let it finish what "
        "it has begun; the second one gives that back.",
    )
    run.add_argument("worker", metavar="MODULE:WORKER", help="such as tasks:worker for the variable worker of tasks.py")
    run.add_argument("--concurrency", type=whole(1, 10_000), default=8, metavar="COUNT", help="handlers at once. Default: 8")
    run.add_argument(
        "--grace", type=whole(0, 86_400), default=30, metavar="SECONDS", help="how long what has begun may take to finish. Default: 30"
    )
    run.add_argument("--reload", action="store_true", help="start anew when a file of its modules changes, for development")
    run.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="Default: info, a line for each run"
    )
    run.set_defaults(run=run_worker)


def list_workers(client: "Client", args: argparse.Namespace) -> int:
    """Print all workers."""
    return print_list(args.format, list(client.workers.list()), "worker_id", _worker_line)


def _worker_line(worker: dict[str, Any]) -> str:
    held = f"{len(worker['runs']):>4} of {worker['concurrency']} runs"
    return f"{name_text(worker['worker_id']):<24}{worker['status']:<10}{held}  {', '.join(map(name_text, worker['actions']))}"


def run_worker(args: argparse.Namespace) -> int:
    """Work until told to stop. Exit 1 if the worker cannot start, or if not everything was finished."""
    import logging

    from flo.errors import FloError
    from flo.worker.reload import load

    logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s")
    try:
        if args.reload:
            return _run_reloading(args)
        return 0 if load(args.worker).run(args.concurrency, args.grace) else 1
    except FloError as e:
        return fail(e)


def _run_reloading(args: argparse.Namespace) -> int:
    """Run, and start anew after a change. A module that cannot be imported is shown and waited for."""
    import logging

    from flo.errors import FloError
    from flo.worker.reload import files_of, load, restart, wait_for_change

    log = logging.getLogger("flo.worker")
    ended, changes, began = threading.Event(), list[str](), time.time_ns()
    try:
        worker = load(args.worker)
    except FloError:
        raise
    except Exception as e:
        log.error("%s cannot be imported; this goes on when a file has changed", args.worker, exc_info=e)
        files = files_of(e, args.worker)
        changes.append(wait_for_change(lambda: files, began, ended) or "")
        finished = True
    else:

        def watch() -> None:
            """Stop the worker when a file has changed."""
            path = wait_for_change(files_of, began, ended)
            if path is not None:
                changes.append(path)
                worker.stop()

        threading.Thread(target=watch, name="flo-reload", daemon=True).start()
        finished = worker.run(args.concurrency, args.grace)
        ended.set()
    if changes:
        log.info("%s has changed: starting anew", changes[0])
        restart()
    return 0 if finished else 1
