"""`flo queue`: enqueue, take and show messages. Most commands follow from their rows; these are the others."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import fail, json_bytes, name_text, print_list
from flo.cli.remote import U64, argument, command
from flo.cli.rows import add_rows, ask, print_count, print_facts, print_messages, unless_missing

if TYPE_CHECKING:
    from flo.calls import Message
    from flo.client import Client


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "queue", help=summary, description="Queues: messages with leases, priorities, delays and dead letters."
    ).add_subparsers(metavar="COMMAND")
    add_rows(group, "queue", {"dequeue": dequeue, "configure": configure})
    command(group, "list", list_queues, "list the queues and their contents")
    dead = command(group, "dlq", dead_letters, "show dead letters, put them back, or delete them")
    dead.add_argument("queue", metavar="QUEUE")
    what = dead.add_mutually_exclusive_group()
    what.add_argument("--requeue", nargs="+", type=U64, metavar="SEQ", help="put these back")
    what.add_argument("--delete", nargs="*", type=U64, metavar="SEQ", help="delete these, or all if none is named")


def dequeue(client: "Client", args: argparse.Namespace) -> int:
    """Lease and print."""
    found: list[Message] = ask(client, args, "queue_dequeue")
    if not found and args.format == "text":
        return fail(f"no message of {args.queue} is ready")
    print_messages(args, found)
    return 0 if found else 1


def configure(client: "Client", args: argparse.Namespace) -> int:
    """Configure."""
    if args.lease is args.max_attempts is None:
        return fail("say what to set: give --lease or --max-attempts", 2)
    ask(client, args, "queue_configure")
    print_facts(args, {"queue": json_bytes(argument(args.queue))}, None, "OK")
    return 0


def list_queues(client: "Client", args: argparse.Namespace) -> int:
    """Print all queues."""
    return print_list(args.format, list(client.queues.list()), "name", _queue_line)


def _queue_line(queue: dict[str, Any]) -> str:
    counts = f"{queue['ready']:>10} ready {queue['delayed']:>8} delayed {queue['leased']:>8} leased {queue['dead']:>6} dead"
    return f"{name_text(queue['name']):<24}{counts}"


def dead_letters(client: "Client", args: argparse.Namespace) -> int:
    """Show, put back, or delete."""
    queue = argument(args.queue)
    if args.requeue is not None:
        count = client.queues.requeue(queue, args.requeue)
        print_count(args, count, "put back {} messages")
        return unless_missing(args.requeue, count, "seqs")
    if args.delete is not None:
        count = client.queues.delete_dead(queue, args.delete or None)
        print_count(args, count, "deleted {} messages")
        return unless_missing(args.delete, count, "seqs") if args.delete else 0
    print_messages(args, client.queues.dead_letters(queue))
    return 0
