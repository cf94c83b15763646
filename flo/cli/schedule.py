"""`flo schedule`: put, list and delete schedules."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import name_text, print_json, utc_text
from flo.cli.remote import command
from flo.cli.rows import add_rows

if TYPE_CHECKING:
    from flo.client import Client


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "schedule", help=summary, description="Schedules: times, of cron or at intervals, at which actions are invoked."
    ).add_subparsers(metavar="COMMAND")
    add_rows(group, "schedule")
    command(group, "list", list_schedules, "list the schedules and their next times")


def list_schedules(client: "Client", args: argparse.Namespace) -> int:
    """Print all schedules."""
    schedules = list(client.schedules.list())
    if args.format == "json":
        print_json(schedules)
        return 0
    for each in schedules:
        name = name_text(each["name"])
        if args.format == "raw":
            print(name)
        else:
            terms = f"every {each['every_ms']} ms" if "every_ms" in each else each["cron"]
            print(f"{name:<24}{terms:<20}next {utc_text(each['next'])}  {name_text(each['action'])}, {each['runs']} runs")
    return 0
