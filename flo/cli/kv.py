"""`flo kv`: reading and writing keys."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from flo.cli.output import json_bytes, line, print_bytes, print_json, print_text, shown, time_text
from flo.cli.remote import I64, U32, U64, argument, command, fail, value_argument, whole

if TYPE_CHECKING:
    from flo.client import Client

LIST_LIMIT = 100
MGET_KEYS = 256  # the protocol's own bound


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser("kv", help=summary, description="Keys: strings, counters and JSON documents.").add_subparsers(
        metavar="COMMAND", required=True
    )

    get = command(group, "get", get_key, "print the value of a key")
    _key(get)
    put = command(group, "set", set_key, "set a key")
    _key(put)
    put.add_argument("value", metavar="VALUE", help="the value; - reads it from standard input")
    put.add_argument("--ttl", type=U64, metavar="SECONDS", help="let the key expire after so many seconds")
    put.add_argument("--cas", type=U64, metavar="VERSION", help="only if the key is at this version; 0: if it does not exist")
    only = put.add_mutually_exclusive_group()
    only.add_argument("--if-absent", action="store_true", help="only if the key does not exist")
    only.add_argument("--if-present", action="store_true", help="only if the key exists")
    delete = command(group, "delete", delete_keys, "delete keys")
    delete.add_argument("keys", metavar="KEY", nargs="+")
    delete.add_argument("--cas", type=U64, metavar="VERSION", help="only at this version")
    listing = command(group, "list", list_keys, "list the keys with a prefix, in order")
    listing.add_argument("prefix", metavar="PREFIX", nargs="?", default="")
    listing.add_argument("--limit", type=U32, default=LIST_LIMIT, help="how many; 0 for all. Default: %(default)s")
    listing.add_argument("--values", action="store_true", help="show the values too")
    history = command(group, "history", show_history, "show the versions of a key, newest first")
    _key(history)
    history.add_argument("--limit", type=whole(1, 1000), default=10, help="how many. Default: %(default)s")
    incr = command(group, "incr", increment, "add to a counter")
    _key(incr)
    incr.add_argument("delta", metavar="DELTA", nargs="?", type=I64, default=1, help="the number to add. Default: 1")
    touch = command(group, "touch", touch_key, "give a key a time to live")
    _key(touch)
    touch.add_argument("ttl", metavar="SECONDS", type=U64, help="the time to live; 0 for ever")
    persist = command(group, "persist", persist_key, "remove a key's time to live")
    _key(persist)
    exists = command(group, "exists", key_exists, "say whether a key exists: exit 0 or 1")
    _key(exists)
    mget = command(group, "mget", get_keys, "print the values of several keys")
    mget.add_argument("keys", metavar="KEY", nargs="+")
    for name, action, text in (
        ("jget", json_get, "print a JSON document, or part of one"),
        ("jset", json_set, "set a JSON document, or part of one"),
        ("jdel", json_delete, "delete a JSON document, or part of one"),
    ):
        parser = command(group, name, action, text)
        _key(parser)
        if name == "jset":
            parser.add_argument("value", metavar="JSON", help="a JSON text; - reads it from standard input")
        parser.add_argument("--path", default="$", help="the part, such as $.items[0].name. Default: $, the whole document")


def _key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", metavar="KEY")


def _version(args: argparse.Namespace, version: int, text: str = "OK") -> int:
    """Print the version that a write answered."""
    if args.format == "json":
        print_json({"key": json_bytes(argument(args.key)), "version": version})
    else:
        print(version if args.format == "raw" else f"{text}, version {version}")
    return 0


def _missing(key: str) -> int:
    return fail(f"there is no key {line(argument(key))!r}")


def get_key(client: "Client", args: argparse.Namespace) -> int:
    """Print a value."""
    entry = client.kv.get(argument(args.key))
    if entry is None:
        return _missing(args.key)
    if args.format == "json":
        print_json({"key": json_bytes(argument(args.key)), "version": entry.version, "value": json_bytes(entry.value)})
    elif args.format == "raw":
        print_bytes(entry.value)
    else:
        print_text(entry.value)
    return 0


def set_key(client: "Client", args: argparse.Namespace) -> int:
    """Set a key."""
    value = value_argument(args.value)
    key = argument(args.key)
    version = client.kv.put(key, value, ttl=args.ttl, cas=args.cas, if_absent=args.if_absent, if_present=args.if_present)
    return _version(args, version)


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
        page = client.kv.scan_page(argument(args.prefix), limit=min(left, 1000), cursor=cursor, keys_only=not args.values)
        for key, value in page.items:
            if args.format == "json":
                item = {"key": json_bytes(key)} | ({"value": json_bytes(value)} if args.values else {})
                print_bytes(b"\n " if first else b",\n ", json.dumps(item, ensure_ascii=False).encode())
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
        print(f"(there are more: --limit 0 lists all; these are the first {args.limit})", file=sys.stderr)
    return 0


def show_history(client: "Client", args: argparse.Namespace) -> int:
    """Print versions."""
    items = client.kv.history(argument(args.key), args.limit)
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


def increment(client: "Client", args: argparse.Namespace) -> int:
    """Add to a counter."""
    counter = client.kv.incr(argument(args.key), args.delta)
    if args.format == "json":
        print_json({"key": json_bytes(argument(args.key)), "value": counter.value, "version": counter.version})
    else:
        print(counter.value)
    return 0


def touch_key(client: "Client", args: argparse.Namespace) -> int:
    """Set a time to live."""
    return _version(args, client.kv.touch(argument(args.key), args.ttl))


def persist_key(client: "Client", args: argparse.Namespace) -> int:
    """Remove a time to live."""
    return _version(args, client.kv.persist(argument(args.key)))


def key_exists(client: "Client", args: argparse.Namespace) -> int:
    """Say whether a key exists; exit 0 or 1."""
    there = client.kv.exists(argument(args.key))
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
    entry = client.kv.json_get(argument(args.key), argument(args.path))
    if args.format == "json":
        print_json({"key": json_bytes(argument(args.key)), "version": entry.version, "value": json.loads(entry.value)})
    elif args.format == "raw":
        print_bytes(entry.value)
    else:
        print(shown(entry.value))
    return 0


def json_set(client: "Client", args: argparse.Namespace) -> int:
    """Set JSON."""
    return _version(args, client.kv.json_set(argument(args.key), value_argument(args.value), argument(args.path)))


def json_delete(client: "Client", args: argparse.Namespace) -> int:
    """Delete JSON."""
    return _version(args, client.kv.json_delete(argument(args.key), argument(args.path)), "deleted")
