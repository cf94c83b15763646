"""`flo kv`: reading and writing keys. Most commands follow from their rows; these are the others."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from flo.cli.output import fail, json_bytes, json_text, line, print_bytes, print_json, print_text, shown, time_text, warn
from flo.cli.remote import U32, U64, argument, command
from flo.cli.rows import add_rows, ask
from flo.limits import LIST_ITEMS_MAX

if TYPE_CHECKING:
    from flo.client import Client

LIST_LIMIT = 100
MGET_KEYS = 256  # the protocol's own bound


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser("kv", help=summary, description="Keys: strings, counters and JSON documents.").add_subparsers(
        metavar="COMMAND", required=True
    )

    add_rows(group, "kv", {"get": get_key, "history": show_history, "exists": key_exists, "jget": json_get})
    delete = command(group, "delete", delete_keys, "delete keys")
    delete.add_argument("keys", metavar="KEY", nargs="+")
    delete.add_argument("--cas", type=U64, metavar="VERSION", help="only at this version")
    listing = command(group, "list", list_keys, "list the keys with a prefix, in order")
    listing.add_argument("prefix", metavar="PREFIX", nargs="?", default="")
    listing.add_argument("--limit", type=U32, default=LIST_LIMIT, help="how many; 0 for all. Default: %(default)s")
    listing.add_argument("--values", action="store_true", help="show the values too")
    mget = command(group, "mget", get_keys, "print the values of several keys")
    mget.add_argument("keys", metavar="KEY", nargs="+")


def _missing(key: str) -> int:
    return fail(f"there is no key {line(argument(key))!r}")


def get_key(client: "Client", args: argparse.Namespace) -> int:
    """Print a value."""
    entry = ask(client, args, "kv_get")
    if entry is None:
        return _missing(args.key)
    if args.format == "json":
        print_json({"key": json_bytes(argument(args.key)), "version": entry.version, "value": json_bytes(entry.value)})
    elif args.format == "raw":
        print_bytes(entry.value)
    else:
        print_text(entry.value)
    return 0


def delete_keys(client: "Client", args: argparse.Namespace) -> int:
    """Delete keys; exit 1 if one did not exist."""
    versions = [(key, client.kv.delete(argument(key), cas=args.cas)) for key in args.keys]
    missing = [key for key, version in versions if version is None]
    if args.format == "json":
        print_json([{"key": json_bytes(argument(key)), "version": version} for key, version in versions])
    else:
        count = len(versions) - len(missing)
        print(count if args.format == "raw" else f"deleted {count} {'key' if count == 1 else 'keys'}")
    for key in missing:
        _missing(key)
    return 1 if missing else 0


def list_keys(client: "Client", args: argparse.Namespace) -> int:
    """Print keys as they come; says on standard error if there are more than the limit."""
    left, cursor, first = args.limit or sys.maxsize, b"", True
    if args.format == "json":
        print("[", end="")
    while True:
        page = client.kv.scan_page(argument(args.prefix), limit=min(left, LIST_ITEMS_MAX), cursor=cursor, keys_only=not args.values)
        for key, value in page.items:
            if args.format == "json":
                item = {"key": json_bytes(key)} | ({"value": json_bytes(value)} if args.values else {})
                print_bytes(b"\n " if first else b",\n ", json_text(item))
            elif args.format == "raw":
                print_bytes(key + (b"\t" + value if args.values else b""), b"\n")
            else:
                print(f"{line(key)}\t{line(value)}" if args.values else line(key))
            first = False
        left -= len(page.items)
        cursor = page.cursor
        if not cursor or left <= 0:
            break
    if args.format == "json":
        print("]" if first else "\n]")
    elif cursor and args.format == "text":
        warn(f"(there are more: --limit 0 lists all; these are the first {args.limit})")
    return 0


def show_history(client: "Client", args: argparse.Namespace) -> int:
    """Print versions."""
    items = ask(client, args, "kv_history")
    if args.format == "json":
        print_json(
            [
                {"version": i.version, "time": i.time, "deleted": i.tombstone, "value": None if i.tombstone else json_bytes(i.value)}
                for i in items
            ]
        )
        return 0
    if not items:
        return fail(f"the key {line(argument(args.key))!r} has no history")
    for item in items:
        if args.format == "raw":
            print_bytes(b"%d\t%d\t%b" % (item.version, item.time, item.value), b"\n")
        else:
            print(f"{item.version:>8}  {time_text(item.time)}  {'(deleted)' if item.tombstone else line(item.value)}")
    return 0


def key_exists(client: "Client", args: argparse.Namespace) -> int:
    """Say whether a key exists; exit 0 or 1."""
    there = ask(client, args, "kv_exists")
    if args.format == "json":
        print_json({"key": json_bytes(argument(args.key)), "exists": there})
    else:
        print(int(there) if args.format == "raw" else "yes" if there else "no")
    return 0 if there else 1


def get_keys(client: "Client", args: argparse.Namespace) -> int:
    """Print several values; exit 1 if one is missing."""
    keys = [argument(key) for key in args.keys]
    entries = []
    for at in range(0, len(keys), MGET_KEYS):
        entries += client.kv.mget(keys[at : at + MGET_KEYS])
    if args.format == "json":
        print_json(
            [
                {"key": json_bytes(key)} | ({"version": entry.version, "value": json_bytes(entry.value)} if entry else {"value": None})
                for key, entry in zip(keys, entries, strict=True)
            ]
        )
    else:
        for key, entry in zip(keys, entries, strict=True):
            if args.format == "raw":
                print_bytes(entry.value if entry else b"", b"\n")
            else:
                print(f"{line(key)}\t{line(entry.value) if entry else '(missing)'}")
    return 0 if all(entries) else 1


def json_get(client: "Client", args: argparse.Namespace) -> int:
    """Print JSON."""
    entry = ask(client, args, "kv_json_get")
    if args.format == "json":
        print_json({"key": json_bytes(argument(args.key)), "version": entry.version, "value": json.loads(entry.value)})
    elif args.format == "raw":
        print_bytes(entry.value)
    else:
        print(shown(entry.value))
    return 0
