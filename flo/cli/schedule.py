"""`flo schedule`: put, list and delete schedules."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import json_bytes, name_text, print_list, utc_text
from flo.cli.remote import argument, command
from flo.cli.rows import add_rows, ask, print_facts

if TYPE_CHECKING:
    from flo.client import Client


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "schedule", help=summary, description="Schedules: times, of cron or at intervals, at which actions are invoked."
    ).add_subparsers(metavar="COMMAND")
    add_rows(group, "schedule", {"put": put})
    command(group, "list", list_schedules, "list the schedules and their next times")


def put(client: "Client", args: argparse.Namespace) -> int:
    """Put a schedule, and print its first time: for programs in ms."""
    first: int = ask(client, args, "schedule_put")
    print_facts(args, {"schedule": json_bytes(argument(args.schedule)), "next": first}, first, f"OK, first at {utc_text(first)}")
    return 0


def list_schedules(client: "Client", args: argparse.Namespace) -> int:
    """Print all schedules."""
    return print_list(args.format, list(client.schedules.list()), "name", _schedule_line)


def _schedule_line(schedule: dict[str, Any]) -> str:
    terms = f"every {schedule['every_ms']} ms" if "every_ms" in schedule else schedule["cron"]
    runs = f"{name_text(schedule['action'])}, {schedule['runs']} runs"
    if schedule["dropped"]:
        runs += f", {schedule['dropped']} dropped"
    return f"{name_text(schedule['name']):<24}{terms:<20}next {utc_text(schedule['next'])}  {runs}"
