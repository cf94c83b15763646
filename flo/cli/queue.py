"""`flo queue`: enqueue, take and show messages."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import json_bytes, line, print_bytes, print_json, time_text
from flo.cli.remote import U32, U64, argument, command, fail, value_argument, whole

if TYPE_CHECKING:
    from flo.calls import Message
    from flo.client import Client


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "queue", help=summary, description="Queues: messages with leases, priorities, delays and dead letters."
    ).add_subparsers(metavar="COMMAND", required=True)
    put = _queue(command(group, "enqueue", enqueue, "put a message into a queue"))
    put.add_argument("payload", metavar="PAYLOAD", help="the message; - reads it from standard input")
    put.add_argument("--priority", type=whole(0, 255), help="0 to 255; lower priorities go first. Default: 0")
    put.add_argument("--delay", type=U64, metavar="MS", help="deliver the message after so many ms at the earliest")
    put.add_argument("--dedup", metavar="KEY", help="add nothing if this key was used in the last 300 s")
    take = _queue(command(group, "dequeue", dequeue, "lease messages and print them; exit 1 if none is ready"))
    take.add_argument("--limit", type=whole(1, 100), help="how many. Default: 1")
    take.add_argument("--lease", type=whole(1, (1 << 32) - 1), metavar="MS", help="the length of the lease. Default: the queue's own")
    take.add_argument("--block", type=U32, metavar="MS", help="wait so many ms for a message; 0 for ever")
    ack = _queue(command(group, "ack", acknowledge, "acknowledge messages, which removes them"))
    nack = _queue(command(group, "nack", give_back, "give messages back to their place, or to the dead letters"))
    nack.add_argument("--delay", type=U64, metavar="MS", help="deliver again after so many ms at the earliest")
    nack.add_argument("--dead", action="store_true", help="to the dead letters")
    touch = _queue(command(group, "touch", touch_messages, "extend leases"))
    touch.add_argument("--lease", type=whole(1, (1 << 32) - 1), metavar="MS", help="so many ms from now. Default: the queue's own lease")
    for parser in (ack, nack, touch):
        parser.add_argument("receipts", metavar="SEQ[-ATTEMPT]", nargs="+", type=_receipt)
    peek = _queue(command(group, "peek", show_ready, "show the messages that are ready, in the order of their delivery"))
    peek.add_argument("--limit", type=whole(1, 1000), help="how many. Default: 100")
    command(group, "ls", list_queues, "list the queues and their contents")
    _queue(command(group, "stats", show_stats, "show a queue's counts and configuration"))
    _queue(command(group, "purge", purge, "remove every message of a queue; dead letters stay"))
    dead = _queue(command(group, "dlq", dead_letters, "show dead letters, put them back, or delete them"))
    what = dead.add_mutually_exclusive_group()
    what.add_argument("--requeue", nargs="+", type=U64, metavar="SEQ", help="put these back")
    what.add_argument("--delete", nargs="*", type=U64, metavar="SEQ", help="delete these, or all if none is named")


def _queue(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("queue", metavar="QUEUE")
    return parser


def _receipt(text: str) -> tuple[int, int]:
    seq, dash, attempt = text.partition("-")
    if not seq.isdigit() or (dash and not attempt.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a receipt: SEQ or SEQ-ATTEMPT is expected")
    return int(seq), int(attempt or 0)


def _count(args: argparse.Namespace, count: int, text: str) -> int:
    if args.format == "json":
        print_json({"queue": args.queue, "count": count})
    else:
        print(count if args.format == "raw" else f"{text} {count} {'message' if count == 1 else 'messages'}")
    return 0


def _show(args: argparse.Namespace, messages: "list[Message]") -> int:
    if args.format == "json":
        print_json(
            [
                {"seq": m.seq, "priority": m.priority, "attempts": m.attempts, "time": m.time, "payload": json_bytes(m.payload)}
                for m in messages
            ]
        )
    for m in messages:
        if args.format == "raw":
            print_bytes(m.payload, b"\n")
        elif args.format == "text":
            print(f"{m.seq}-{m.attempts}\t{time_text(m.time)}\t{line(m.payload)}")
    return 0 if messages else 1


def enqueue(client: "Client", args: argparse.Namespace) -> int:
    """Put a message in and print its seq."""
    dedup = None if args.dedup is None else argument(args.dedup)
    payload = value_argument(args.payload)
    seq = client.queues.enqueue(argument(args.queue), payload, priority=args.priority, delay=args.delay, dedup=dedup)
    if args.format == "json":
        print_json({"queue": args.queue, "seq": seq})
    else:
        print(seq if args.format == "raw" else f"OK, seq {seq}")
    return 0


def dequeue(client: "Client", args: argparse.Namespace) -> int:
    """Lease and print."""
    found = client.queues.dequeue(argument(args.queue), args.limit, lease=args.lease, block=args.block)
    if not found and args.format == "text":
        return fail(f"no message of {args.queue} is ready")
    return _show(args, found)


def acknowledge(client: "Client", args: argparse.Namespace) -> int:
    """Acknowledge."""
    return _count(args, client.queues.ack(argument(args.queue), *args.receipts), "removed")


def give_back(client: "Client", args: argparse.Namespace) -> int:
    """Give back."""
    return _count(args, client.queues.nack(argument(args.queue), *args.receipts, delay=args.delay, dead=args.dead), "gave back")


def touch_messages(client: "Client", args: argparse.Namespace) -> int:
    """Extend leases."""
    return _count(args, client.queues.touch(argument(args.queue), *args.receipts, lease=args.lease), "extended")


def show_ready(client: "Client", args: argparse.Namespace) -> int:
    """Print the ready messages; exit 0 also if there is none."""
    _show(args, client.queues.peek(argument(args.queue), args.limit))
    return 0


def list_queues(client: "Client", args: argparse.Namespace) -> int:
    """Print all queues."""
    queues = list(client.queues.list())
    if args.format == "json":
        print_json(queues)
        return 0
    for queue in queues:
        name = queue["name"] if isinstance(queue["name"], str) else queue["name"]["base64"]
        if args.format == "raw":
            print(name)
        else:
            print(f"{name:<24}{queue['ready']:>10} ready {queue['delayed']:>8} delayed {queue['leased']:>8} leased {queue['dead']:>6} dead")
    return 0


def show_stats(client: "Client", args: argparse.Namespace) -> int:
    """Print one queue's figures."""
    stats = client.queues.stats(argument(args.queue))
    if args.format == "json":
        print_json(stats)
        return 0
    for name, value in stats.items():
        print(f"{name}\t{value}" if args.format == "raw" else f"{name:<14}{value}")
    return 0


def purge(client: "Client", args: argparse.Namespace) -> int:
    """Remove messages."""
    return _count(args, client.queues.purge(argument(args.queue)), "removed")


def dead_letters(client: "Client", args: argparse.Namespace) -> int:
    """Show, put back, or delete."""
    queue = argument(args.queue)
    if args.requeue is not None:
        return _count(args, client.queues.requeue(queue, args.requeue), "put back")
    if args.delete is not None:
        return _count(args, client.queues.delete_dead(queue, args.delete or None), "deleted")
    _show(args, client.queues.dead_letters(queue))
    return 0
