"""`flo stream`: append, read and follow records; consumer groups."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import json_bytes, line, print_bytes, print_json, size_text
from flo.cli.remote import U32, U64, argument, command, fail, value_argument, whole

if TYPE_CHECKING:
    from flo.calls import StreamRecord
    from flo.client import Client

LIMIT = whole(1, 1000)


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "stream", help=summary, description="Streams: records under ids that only grow, read by id or by consumer groups."
    ).add_subparsers(metavar="COMMAND", required=True)
    put = _stream(command(group, "append", append, "append a record and print its id"))
    put.add_argument("payload", metavar="PAYLOAD", help="the record; - reads it from standard input")
    read = _stream(command(group, "read", read_records, "print records, oldest first"))
    read.add_argument("--start", type=_id, metavar="ID", help="from this id on. Default: the first")
    read.add_argument("--end", type=_id, metavar="ID", help="up to this id. Default: the last")
    read.add_argument("--tail", action="store_true", help="only new records; with --block or --follow")
    read.add_argument("--limit", type=LIMIT, help="how many. Default: 100; all with --follow")
    read.add_argument("--block", type=U32, metavar="MS", help="wait so many ms for the first record; 0 for ever")
    read.add_argument("--follow", action="store_true", help="go on with new records, until interrupted")
    create = _stream(command(group, "create", create_stream, "create an empty stream, with bounds if given"))
    trim = _stream(command(group, "trim", trim_stream, "remove the oldest records"))
    for parser, verb in ((create, "keep"), (trim, "leave")):
        parser.add_argument("--max-len", type=U64, metavar="N", help=f"{verb} at most so many records")
        parser.add_argument("--max-age", type=U64, metavar="SECONDS", help=f"{verb} records up to this age")
        parser.add_argument("--max-bytes", type=U64, metavar="N", help=f"{verb} at most so many bytes of payloads")
    trim.add_argument("--start", type=_id, metavar="ID", help="leave records with this id or a higher one")
    trim.add_argument("--dry-run", action="store_true", help="remove nothing; print how many records would go")
    _stream(command(group, "info", show_info, "show a stream's ids, size and groups"))
    command(group, "ls", list_streams, "list the streams and their contents")
    _stream(command(group, "delete", delete, "delete a stream with its groups"))
    _add_groups(group.add_parser("group", help="consumer groups: see flo stream group --help", description="Consumer groups of a stream."))


def _add_groups(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    create = _group(command(commands, "create", group_create, "create a group, and its stream if it is missing"))
    create.add_argument("--start", type=_id, metavar="ID", help="begin with this id. Default: the first record")
    create.add_argument("--tail", action="store_true", help="begin with new records")
    create.add_argument("--ack-timeout", type=U32, metavar="MS", help="redeliver after so many ms; 0 for never. Default: 30000")
    create.add_argument(
        "--max-deliver", type=U32, metavar="N", help="make a record a dead letter after so many deliveries; 0: never. Default: 10"
    )
    read = _group(command(commands, "read", group_read, "deliver records to a consumer; exit 1 if there is none"))
    read.add_argument("consumer", metavar="CONSUMER")
    read.add_argument("--limit", type=LIMIT, help="how many. Default: 100")
    read.add_argument("--block", type=U32, metavar="MS", help="wait so many ms for the first record; 0 for ever")
    read.add_argument("--no-ack", action="store_true", help="acknowledge the records as they are delivered")
    ack = _group(command(commands, "ack", group_ack, "acknowledge deliveries; deletes dead letters"))
    nack = _group(command(commands, "nack", group_nack, "give deliveries back to the next reader"))
    nack.add_argument("--delay", type=U64, metavar="MS", help="deliver again after so many ms at the earliest")
    touch = _group(command(commands, "touch", group_touch, "extend the time to acknowledge"))
    touch.add_argument("--lease", type=whole(1, (1 << 32) - 1), metavar="MS", help="so many ms from now. Default: the group's own timeout")
    for one in (ack, nack, touch):
        one.add_argument("ids", metavar="ID", nargs="+", type=_id)
    claim = _group(command(commands, "claim", group_claim, "deliver to a consumer the records that are pending with others"))
    claim.add_argument("consumer", metavar="CONSUMER")
    claim.add_argument("--min-idle", type=U64, metavar="MS", help="only records delivered at least so long ago. Default: 0")
    claim.add_argument("--limit", type=LIMIT, help="how many. Default: 100")
    _group(command(commands, "pending", group_pending, "show the unacknowledged deliveries and the dead letters"))
    _group(command(commands, "info", group_info, "show a group and its consumers"))
    _group(command(commands, "delete", group_delete, "delete a group, its consumers and its deliveries"))


def _stream(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("stream", metavar="STREAM")
    return parser


def _group(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    _stream(parser).add_argument("group", metavar="GROUP")
    return parser


def _id(text: str) -> tuple[int, int]:
    ms, dash, seq = text.partition("-")
    if not (ms.isascii() and ms.isdigit()) or (dash and not (seq.isascii() and seq.isdigit())) or max(int(ms), int(seq or 0)) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not an id: MS-SEQ is expected")
    return int(ms), int(seq or 0)


# -- printing --------------------------------------------------------------------------------------


def _json(record: "StreamRecord", grouped: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": str(record.id)}
    if grouped:
        shown["deliveries"] = record.deliveries
    if record.kind == 0:
        return shown | {"payload": json_bytes(record.payload)}
    return shown | {"fields": [[json_bytes(name), json_bytes(value)] for name, value in record.fields]}


def _text(record: "StreamRecord") -> str:
    if record.kind == 0:
        return line(record.payload)
    return " ".join(f"{line(name)}={line(value)}" for name, value in record.fields)


def _show(args: argparse.Namespace, records: "list[StreamRecord]", grouped: bool = False) -> int:
    if args.format == "json":
        print_json([_json(record, grouped) for record in records])
    for record in records:
        if args.format != "json":
            _print(args, record, grouped)
    return 0 if records else 1


def _print(args: argparse.Namespace, record: "StreamRecord", grouped: bool = False) -> None:
    if args.format == "json":
        print_json(_json(record, grouped))
    elif args.format == "raw":
        print_bytes(record.payload if record.kind == 0 else _text(record).encode("utf-8", "replace"), b"\n")
    else:
        deliveries = f"\t{record.deliveries}" if grouped else ""
        print(f"{record.id}{deliveries}\t{_text(record)}", flush=True)


def _done(args: argparse.Namespace, text: str, **facts: Any) -> int:
    """Print that a command is done which has no other result."""
    if args.format == "json":
        print_json({"stream": args.stream, **facts})
    elif args.format == "text":
        print(text)
    return 0


def _count(args: argparse.Namespace, count: int, text: str) -> int:
    if args.format == "raw":
        print(count)
        return 0
    return _done(args, f"{text} {count} {'record' if count == 1 else 'records'}", count=count)


# -- records ---------------------------------------------------------------------------------------


def append(client: "Client", args: argparse.Namespace) -> int:
    """Append and print the id."""
    ident = client.streams.append(argument(args.stream), value_argument(args.payload))
    if args.format == "json":
        print_json({"stream": args.stream, "id": str(ident)})
    else:
        print(ident)
    return 0


def read_records(client: "Client", args: argparse.Namespace) -> int:
    """Print records; with --follow for ever."""
    stream = argument(args.stream)
    if args.tail and args.start:
        return fail("give --tail or --start, not both", 2)
    if not args.follow:
        _show(args, client.streams.read(stream, args.start, args.end, tail=args.tail, limit=args.limit, block=args.block))
        return 0
    if args.end or args.block is not None:
        return fail("--follow never ends: leave out --end and --block", 2)
    left = args.limit
    for record in client.streams.follow(stream, None if args.tail else args.start or (0, 0)):
        _print(args, record)
        if left is not None:
            left -= 1
            if not left:
                break
    return 0


def create_stream(client: "Client", args: argparse.Namespace) -> int:
    """Create a stream."""
    client.streams.create(argument(args.stream), max_len=args.max_len, max_age=args.max_age, max_bytes=args.max_bytes)
    return _done(args, "OK")


def trim_stream(client: "Client", args: argparse.Namespace) -> int:
    """Trim, or count the records that would go."""
    if args.start is args.max_len is args.max_age is args.max_bytes is None:
        return fail("say which records stay: give --max-len, --max-age, --max-bytes or --start", 2)
    removed = client.streams.trim(
        argument(args.stream),
        start=args.start,
        max_len=args.max_len,
        max_age=args.max_age,
        max_bytes=args.max_bytes,
        dry_run=args.dry_run,
    )
    return _count(args, removed, "would remove" if args.dry_run else "removed")


def show_info(client: "Client", args: argparse.Namespace) -> int:
    """Print a stream's ids, size and groups; a missing stream is empty."""
    info = client.streams.info(argument(args.stream))
    found = {"first_id": str(info.first), "last_id": str(info.last), "records": info.records, "bytes": info.size, "groups": info.groups}
    if args.format == "json":
        print_json({"stream": args.stream, **found})
        return 0
    for name, value in found.items():
        print(f"{name}\t{value}" if args.format == "raw" else f"{name:<10}{value}")
    return 0


def list_streams(client: "Client", args: argparse.Namespace) -> int:
    """Print all streams."""
    streams = list(client.streams.list())
    if args.format == "json":
        print_json(streams)
        return 0
    for stream in streams:
        name = stream["name"] if isinstance(stream["name"], str) else stream["name"]["base64"]
        if args.format == "raw":
            print(name)
        else:
            groups = len(stream["groups"])
            print(f"{name:<24}{stream['count']:>10} records {size_text(stream['bytes']):>12} {groups:>4} groups  last {stream['last_id']}")
    return 0


def delete(client: "Client", args: argparse.Namespace) -> int:
    """Delete a stream."""
    client.streams.delete(argument(args.stream))
    return _done(args, "OK")


# -- groups ----------------------------------------------------------------------------------------


def _names(args: argparse.Namespace) -> tuple[bytes, bytes]:
    return argument(args.stream), argument(args.group)


def group_create(client: "Client", args: argparse.Namespace) -> int:
    """Create a group."""
    if args.tail and args.start:
        return fail("give --tail or --start, not both", 2)
    client.streams.group_create(*_names(args), start=args.start, tail=args.tail, ack_timeout=args.ack_timeout, max_deliver=args.max_deliver)
    return _done(args, "OK", group=args.group)


def group_read(client: "Client", args: argparse.Namespace) -> int:
    """Deliver and print."""
    consumer = argument(args.consumer)
    found = client.streams.group_read(*_names(args), consumer, limit=args.limit, block=args.block, no_ack=args.no_ack)
    if not found and args.format == "text":
        return fail(f"{args.group} has nothing to deliver")
    return _show(args, found, grouped=True)


def group_ack(client: "Client", args: argparse.Namespace) -> int:
    """Acknowledge."""
    return _count(args, client.streams.ack(*_names(args), *args.ids), "acknowledged")


def group_nack(client: "Client", args: argparse.Namespace) -> int:
    """Give back."""
    return _count(args, client.streams.nack(*_names(args), *args.ids, delay=args.delay), "gave back")


def group_touch(client: "Client", args: argparse.Namespace) -> int:
    """Extend."""
    return _count(args, client.streams.touch(*_names(args), *args.ids, lease=args.lease), "extended")


def group_claim(client: "Client", args: argparse.Namespace) -> int:
    """Claim and print; exit 0 also if there is nothing to claim."""
    found = client.streams.claim(*_names(args), argument(args.consumer), min_idle=args.min_idle, limit=args.limit)
    _show(args, found, grouped=True)
    return 0


def group_pending(client: "Client", args: argparse.Namespace) -> int:
    """Print deliveries and dead letters."""
    found = client.streams.pending(*_names(args))
    if args.format == "json":
        print_json(found)
        return 0
    for one in found["pending"]:
        times = "once" if one["deliveries"] == 1 else f"{one['deliveries']} times"
        print(f"{one['id']}\t{_name(one['consumer'])}\tdelivered {times}, {one['idle_ms']} ms ago")
    for one in found["dead"]:
        print(f"{one['id']}\t{_name(one['consumer'])}\tdead after {one['deliveries']} deliveries")
    return 0


def _name(shown: Any) -> str:
    return shown if isinstance(shown, str) else str(shown["base64"])


def group_info(client: "Client", args: argparse.Namespace) -> int:
    """Print a group."""
    found = client.streams.group_info(*_names(args))
    if args.format == "json":
        print_json(found)
        return 0
    consumers = found.pop("consumers")
    rows = [(name, "unknown" if value is None else value) for name, value in found.items()]
    rows += [("consumer", f"{_name(one['name'])}: {one['pending']} pending, idle for {one['idle_ms']} ms") for one in consumers]
    for name, value in rows:
        print(f"{name}\t{value}" if args.format == "raw" else f"{name:<16}{value}")
    return 0


def group_delete(client: "Client", args: argparse.Namespace) -> int:
    """Delete a group."""
    client.streams.group_delete(*_names(args))
    return _done(args, "OK", group=args.group)
