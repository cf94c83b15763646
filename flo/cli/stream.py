"""`flo stream`: append, read and follow records; consumer groups. Most commands follow from their rows; these are the others."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import fail, json_bytes, name_text, print_json, print_list, say, size_text
from flo.cli.remote import U32, argument, command, whole
from flo.cli.rows import add_rows, ask, print_count, print_record, print_records, stream_id_argument
from flo.limits import LIST_ITEMS_MAX

if TYPE_CHECKING:
    from flo.calls import StreamRecord
    from flo.client import Client

LIMIT = whole(1, LIST_ITEMS_MAX)


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "stream", help=summary, description="Streams: records under ids that only grow, read by id or by consumer groups."
    ).add_subparsers(metavar="COMMAND")
    add_rows(group, "stream", {"info": show_info, "trim": trim_stream})
    read = command(group, "read", read_records, "print records, oldest first")
    read.add_argument("stream", metavar="STREAM")
    read.add_argument("--start", type=stream_id_argument, metavar="ID", help="from this id on. Default: the first")
    read.add_argument("--end", type=stream_id_argument, metavar="ID", help="up to this id. Default: the last")
    read.add_argument("--tail", action="store_true", help="only new records; with --block or --follow")
    read.add_argument("--limit", type=LIMIT, help="how many. Default: 100; all with --follow")
    read.add_argument("--block", type=U32, metavar="MS", help="ms to wait for the first record; 0 for ever")
    read.add_argument("--follow", action="store_true", help="go on with new records, until interrupted")
    command(group, "list", list_streams, "list the streams and their contents")
    groups = group.add_parser("group", help="consumer groups: see flo stream group --help", description="Consumer groups of a stream.")
    add_rows(
        groups.add_subparsers(metavar="COMMAND"),
        "stream group",
        {"read": group_read, "pending": group_pending, "info": group_info},
    )


# -- records ---------------------------------------------------------------------------------------


def read_records(client: "Client", args: argparse.Namespace) -> int:
    """Print records; with --follow for ever."""
    stream = argument(args.stream)
    if args.tail and args.start:
        return fail("give --tail or --start, not both", 2)
    if not args.follow:
        print_records(args, client.streams.read(stream, args.start, args.end, tail=args.tail, limit=args.limit, block=args.block))
        return 0
    if args.end or args.block is not None:
        return fail("--follow never ends: leave out --end and --block", 2)
    left = args.limit
    for record in client.streams.follow(stream, None if args.tail else args.start or (0, 0)):
        print_record(args, record)
        if left is not None:
            left -= 1
            if not left:
                break
    return 0


def trim_stream(client: "Client", args: argparse.Namespace) -> int:
    """Trim, or count the records that would go."""
    if args.start is args.max_len is args.max_age is args.max_bytes is None:
        return fail("say which records stay: give --max-len, --max-age, --max-bytes or --start", 2)
    removed = ask(client, args, "stream_trim")
    print_count(args, removed, "would remove {} records" if args.dry_run else "removed {} records")
    return 0


def show_info(client: "Client", args: argparse.Namespace) -> int:
    """Print a stream's ids, size and groups; a missing stream is empty."""
    info = ask(client, args, "stream_info")
    found = {"first_id": str(info.first), "last_id": str(info.last), "records": info.records, "bytes": info.size, "groups": info.groups}
    if args.format == "json":
        print_json({"stream": json_bytes(argument(args.stream)), **found})
        return 0
    for name, value in found.items():
        say(f"{name}\t{value}" if args.format == "raw" else f"{name:<10}{value}")
    return 0


def list_streams(client: "Client", args: argparse.Namespace) -> int:
    """Print all streams."""
    return print_list(args.format, list(client.streams.list()), "name", _stream_line)


def _stream_line(stream: dict[str, Any]) -> str:
    counts = f"{stream['count']:>10} records {size_text(stream['bytes']):>12} {len(stream['groups']):>4} groups"
    return f"{name_text(stream['name']):<24}{counts}  last {stream['last_id']}"


# -- groups ----------------------------------------------------------------------------------------


def group_read(client: "Client", args: argparse.Namespace) -> int:
    """Deliver and print."""
    found: list[StreamRecord] = ask(client, args, "stream_group_read")
    if not found and args.format == "text":
        return fail(f"{args.group} has nothing to deliver")
    print_records(args, found, grouped=True)
    return 0 if found else 1


def group_pending(client: "Client", args: argparse.Namespace) -> int:
    """Print deliveries and dead letters."""
    found = ask(client, args, "stream_group_pending")
    if args.format == "json":
        print_json(found)
        return 0
    for one in found["pending"]:
        times = "once" if one["deliveries"] == 1 else f"{one['deliveries']} times"
        print(f"{one['id']}\t{name_text(one['consumer'])}\tdelivered {times}, {one['idle_ms']} ms ago")
    for one in found["dead"]:
        print(f"{one['id']}\t{name_text(one['consumer'])}\tdead after {one['deliveries']} deliveries")
    return 0


def group_info(client: "Client", args: argparse.Namespace) -> int:
    """Print a group."""
    found = ask(client, args, "stream_group_info")
    if args.format == "json":
        print_json(found)
        return 0
    consumers = found.pop("consumers")
    rows = [(name, "unknown" if value is None else value) for name, value in found.items()]
    rows += [("consumer", f"{name_text(one['name'])}: {one['pending']} pending, idle for {one['idle_ms']} ms") for one in consumers]
    for name, value in rows:
        say(f"{name}\t{value}" if args.format == "raw" else f"{name:<16}{value}")
    return 0
