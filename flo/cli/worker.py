"""`flo worker`: list and drain workers."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import name_text, print_json
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
    workers = list(client.workers.list())
    if args.format == "json":
        print_json(workers)
        return 0
    for each in workers:
        name = name_text(each["worker_id"])
        if args.format == "raw":
            print(name)
        else:
            actions = ", ".join(map(name_text, each["actions"]))
            print(f"{name:<24}{each['status']:<10}{len(each['runs']):>4} of {each['concurrency']} runs  {actions}")
    return 0
