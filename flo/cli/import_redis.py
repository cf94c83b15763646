"""`flo import`: copies a running Redis into a namespace."""

import argparse
from time import monotonic
from typing import TYPE_CHECKING, Any

from flo.cli.output import counted, print_json, say, size_text, warn
from flo.cli.progress import Progress, bar_line
from flo.cli.remote import command
from flo.errors import BadRequest

if TYPE_CHECKING:
    from flo.client import Client
    from flo.importer.report import Report
    from flo.importer.run import Progress as Reached
    from flo.importer.wire import Source

PLAIN_SECONDS = 10.0  # between two lines about the progress where there is no terminal


def add(commands: Any, summary: str) -> None:
    """Add the command to the parser."""
    parser = command(commands, "import", import_redis, summary)
    parser.description = (
        "Copy the strings (with their times to live), lists (as queues) and streams (with their groups and what is pending) of a running "
        "Redis into a namespace. A run that was cut off goes on when the same command is given again. docs/import.md tells more."
    )
    parser.add_argument(
        "source",
        metavar="redis://[USER:PASSWORD@]HOST[:PORT][/DB]",
        type=_source,
        help="the Redis; rediss:// for TLS. REDISCLI_AUTH in the environment may have the password",
    )
    parser.add_argument("--match", metavar="PATTERN", default="", help="only keys that match, such as 'user:*'")
    parser.add_argument("--hashes", choices=("json",), help="copy hashes, sets and sorted sets too, as JSON documents")
    parser.add_argument(
        "--lpop", action="store_true", help="the workers take from these lists by LPOP, not RPOP; Flo's resp.profile must be redis"
    )
    parser.add_argument("--dry-run", action="store_true", help="copy nothing; say what would be copied and what would be left")


def _source(text: str) -> "Source":
    from flo.importer.wire import Source

    try:
        return Source(text)
    except BadRequest as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def import_redis(client: "Client", args: argparse.Namespace) -> int:
    """Copy, and print the report."""
    from flo.importer.run import Import, Options

    progress, began = Progress(PLAIN_SECONDS), monotonic()

    def tell(sentence: str) -> None:
        progress.clear()
        warn(f"flo: {sentence}")

    def show(reached: "Reached") -> None:
        progress.show(lambda columns: _progress_line(reached, monotonic() - began, columns))

    options = Options(args.match, args.hashes is not None, args.lpop, args.dry_run)
    try:
        work = Import(client, args.source, options, show, tell)
        report = work.run()
    except KeyboardInterrupt:
        tell("interrupted; run the same command again to go on")
        raise
    finally:
        progress.clear()
    if args.format == "json":
        print_json(report.as_json())
    else:
        _print(report, args)
    if not args.dry_run:
        work.forget()
    return 0


def _progress_line(reached: "Reached", seconds: float, columns: int) -> str:
    share = reached.looked / max(reached.keys, 1)
    text = f"{share:4.0%} of {reached.keys:,} keys, {reached.moved:,} written, {reached.moved / max(seconds, 0.001):,.0f} /s"
    return bar_line(share, text, columns)


def _print(report: "Report", args: argparse.Namespace) -> None:
    """The report, for a person."""
    done = report.done
    say(f"{'would copy' if args.dry_run else 'copied'} from {args.source.name} into {args.namespace}:")
    say(f"  {counted(done['strings'], 'strings')}, {size_text(done['bytes'])}")
    say(f"  {counted(done['lists'], 'lists')}, {counted(done['messages'], 'messages')}")
    streams = f"  {counted(done['streams'], 'streams')}, {counted(done['records'], 'records')}"
    say(streams if args.dry_run else f"{streams}, {counted(done['groups'], 'groups')}, {done['pending']} pending")
    if args.hashes:
        say(f"  {counted(done['documents'], 'documents')}")
    if report.left:
        say("left:")
    for reason, entry in sorted(report.left.items()):
        say(f"  {entry['count']}  {reason} (such as {', '.join(map(repr, entry['examples']))})")
