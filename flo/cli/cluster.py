"""`flo cluster`: who leads, how far each member is, and what an operator decides."""

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from flo.cli.output import fail, print_json, say, size_text
from flo.cli.remote import command
from flo.cli.rows import add_rows

if TYPE_CHECKING:
    from flo.client import Client

MODES = {
    "leader": "this member leads: it serves everything",
    "follower": "this member follows: it serves reads",
    "candidate": "this member has not heard of a leader, and is about to claim the lead",
    "starting": "this member reads the replicated log",
    "behind": "this member copies another member's log",
    "deposed": "another member leads; this one starts again",
}
TOLD_SECONDS = 10.0  # a member tells how far it is every 2 s; one that is silent for so long is away


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "cluster", help=summary, description="Several machines: one member leads, the others follow (docs/cluster.md)."
    ).add_subparsers(metavar="COMMAND")
    command(group, "status", show_status, "show who leads, and how far each member is")
    add_rows(group, "cluster")
    command(group, "leave", leave, "stop the member that is asked, for good: the cluster forgets it")
    begin = group.add_parser(
        "begin",
        help="have a cluster begin with the data of a directory",
        description="Have a cluster begin with the data of a directory: of a server that was alone, or of a member whose etcd has lost its "
        "data. Its next start begins the replicated log of [cluster] name, if that is empty; the other members then copy it. The server "
        "must be stopped.",
    )
    begin.add_argument("directory", metavar="DIR", help="the data directory")
    begin.set_defaults(run=run_begin)
    reseed = group.add_parser(
        "reseed",
        help="set a member's log aside, so that its next start copies another member's",
        description="Set the log in a data directory aside, so that the next start of this member takes its log from the cluster. The old "
        "files stay in a directory below it until you remove them. The member must be stopped.",
    )
    reseed.add_argument("directory", metavar="DIR", help="the data directory")
    reseed.set_defaults(run=run_reseed)


def show_status(client: "Client", args: argparse.Namespace) -> int:
    """Print the cluster's status, as the member that is asked sees it. Exit 1 if no leader is known."""
    status = client.cluster.status()
    if "members" not in status:
        return fail(f"{client.where} is a standalone server: it is in no cluster; see docs/cluster.md")
    if args.format == "json":
        print_json(status)
    else:
        engine = status["engine"]
        leader = f"{status['leader_node']} at {status['leader']}" if status["leader"] else "none is known"
        etcd = (
            f"{engine['member'] or 'no member'} answers" if engine["ok"] else f"NOT CONNECTED: {engine['trouble'] or 'it does not answer'}"
        )
        rows = {
            "asked": f"{status['node']}, {status['mode']}: {MODES[status['mode']]}",
            "leader": leader,
            "term": status["term"],
            "heard": f"{status['silence_ms'] / 1000:.1f} s ago",
            "index": status["index"],
            "etcd": f"{etcd}; at most {size_text(engine['tail_bytes'])} of the log in it",
            "acknowledged": f"half of the batches within {engine['ack_p50_ms']:.1f} ms, 99 % within {engine['ack_p99_ms']:.1f} ms"
            if engine["ack_p99_ms"]
            else "nothing yet by this member",
        }
        for name, text in rows.items():
            say(f"{name}\t{text}" if args.format == "raw" else f"{name:<14}{text}")
        _print_members(status, args.format == "raw")
    return 0 if status["leader"] else 1


def _print_members(status: dict[str, Any], raw: bool) -> None:
    table = [("member", "role", "applied", "synced", "lag", "told", "address")]
    for member in status["members"]:
        away = member["behind_ms"] > TOLD_SECONDS * 1000
        role = "away" if away else "leader" if member["node"] == status["leader_node"] else "follower"
        told = f"{member['behind_ms'] / 1000:.1f} s ago"
        table.append((member["node"], role, str(member["applied"]), str(member["synced"]), str(member["lag"]), told, member["address"]))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if not raw:
        say("")
    for row in table[raw:]:
        cells = [
            cell if raw else cell.rjust(width) if 2 <= at <= 5 else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say(("\t" if raw else "  ").join(cells).rstrip())


def leave(client: "Client", args: argparse.Namespace) -> int:
    """Stop the member that is asked, for good."""
    client.cluster.leave()
    if args.format == "json":
        print_json({})
    elif args.format == "text":
        say(f"the member at {client.where} leaves the cluster, and stops")
    return 0


def run_begin(args: argparse.Namespace) -> int:
    """Leave the note that a member reads at its start. Exit 1 with one line if the directory has no log, or a server is using it."""
    from flo.cluster.member import BEGIN
    from flo.errors import FloError
    from flo.ual.directory import holds_log
    from flo.ual.files import Files
    from flo.ual.lock import DirectoryLock

    directory, files = args.directory, Files()
    try:
        if not os.path.isdir(directory) or not holds_log(files.names(directory)):
            return fail(f"{directory} holds no log: a cluster of empty directories needs no command to begin.")
        lock = DirectoryLock(files, directory)
        with open(os.path.join(directory, BEGIN), "w") as file:
            os.fsync(file.fileno())
        files.sync_dir(directory)
        lock.release()
    except (FloError, OSError) as e:
        return fail(e)
    say(f"the next start of a member with {directory} begins the cluster, if its replicated log is empty")
    say("Start this member first, and the others with empty directories.")
    return 0


def run_reseed(args: argparse.Namespace) -> int:
    """Set a log aside. Exit 1 with one line if the directory has none, or a server is using it."""
    from flo.cluster.fetch import COPY
    from flo.errors import FloError
    from flo.ual import manifest
    from flo.ual.directory import holds_log
    from flo.ual.files import Files
    from flo.ual.lock import DirectoryLock

    directory, files = args.directory, Files()
    if not os.path.isdir(directory):
        return fail(f"{directory} is no directory: name the data directory of a member.")
    try:
        lock = DirectoryLock(files, directory)
        try:
            there = files.names(directory)
            names = holds_log(there) + [name for name in there if name == COPY]  # an unfinished copy must not come back either
            if not names:
                return fail(f"{directory} holds no log: the next start of this member takes one from the cluster anyway.")
            aside = os.path.join(directory, time.strftime("before-reseed-%Y%m%d-%H%M%S"))
            files.make_dir(aside)
            for name in sorted(names, key=lambda each: each != manifest.NAME):  # the manifest first: without it, nothing counts
                files.rename(os.path.join(directory, name), os.path.join(aside, name))
            files.sync_dir(aside)
            files.sync_dir(directory)
        finally:
            lock.release()
    except (FloError, OSError) as e:
        return fail(e)
    say(f"the log of {directory} is set aside in {aside}")
    say("Start the member: it takes its log from the cluster. Then remove that directory.")
    return 0
