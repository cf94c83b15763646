"""`flo worker`: list and drain workers."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import name_text, print_list
from flo.cli.remote import command
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


def list_workers(client: "Client", args: argparse.Namespace) -> int:
    """Print all workers."""
    return print_list(args.format, list(client.workers.list()), "worker_id", _worker_line)


def _worker_line(worker: dict[str, Any]) -> str:
    held = f"{len(worker['runs']):>4} of {worker['concurrency']} runs"
    return f"{name_text(worker['worker_id']):<24}{worker['status']:<10}{held}  {', '.join(map(name_text, worker['actions']))}"
