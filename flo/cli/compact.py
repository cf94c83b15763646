"""`flo compact DIR`: rewrite a log without the records that are no longer needed."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from flo.cli.output import size_text


def add(commands: Any, summary: str) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compact",
        help=summary,
        description="Rewrite the log in a data directory without overwritten, deleted and trimmed data. Versions, history within its "
        "depth and age, and all live data stay as they are. If a server is using the directory, the server does it.",
    )
    parser.add_argument("directory", metavar="DIR", help="the data directory")
    parser.add_argument(
        "--to",
        metavar="OTHER",
        help="write the compacted log to this directory, on a disk that has room; OTHER must be empty or not exist yet. DIR stays as it "
        "is, and no server may be using it",
    )
    parser.add_argument("--config", metavar="FILE", help="settings file, for kv.history_depth and kv.history_age (default: ./flo.toml)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compact and print the sizes. Exit 1 with one line if the compaction failed."""
    from flo.config import load
    from flo.control import ask
    from flo.engine import Engine, EngineSettings
    from flo.errors import DirectoryInUse, FloError
    from flo.ual import manifest

    if not os.path.exists(os.path.join(args.directory, manifest.NAME)):
        print(f"flo: {args.directory} has no {manifest.NAME}: it is not a Flo data directory.", file=sys.stderr)
        return 1
    try:
        settings, _ = load(args.config, os.environ, {})
        if args.to is not None:
            return _move(args.directory, args.to, settings.history_depth, settings.history_age)
        chosen = EngineSettings(history_depth=settings.history_depth, history_age=settings.history_age)
        with Engine(args.directory, chosen) as engine:
            before = engine.log.size
            engine.compact()
            print(f"{args.directory}: {size_text(before)} before, {size_text(engine.log.size)} now")
    except DirectoryInUse as e:
        return _ask_the_holder(args.directory, e, ask)
    except (FloError, OSError) as e:
        print(f"flo: {e}", file=sys.stderr)
        return 1
    return 0


def _ask_the_holder(directory: str, in_use: Exception, ask: "Callable[[str, str, float | None], str | None]") -> int:
    """Ask the server that serves the directory to compact it, and wait for the end."""
    from flo.errors import FloError

    try:
        answer = ask(directory, "compact", None)
    except FloError as e:
        print(f"flo: {e}", file=sys.stderr)
        return 1
    if answer is None:  # a program that has the directory open, or an older server
        print(f"flo: {in_use}", file=sys.stderr)
        return 1
    word, _, rest = answer.partition(" ")
    if word != "compacted":
        print(f"flo: the server could not compact {directory}: {rest}", file=sys.stderr)
        return 1
    before, now = map(int, rest.split())
    print(f"{directory}: {size_text(before)} before, {size_text(now)} now, by the server that serves it")
    return 0


def _move(directory: str, out: str, depth: int, age: int) -> int:
    """Rewrite the directory into another."""
    from flo.engine.clock import wall_clock
    from flo.ual.files import Files
    from flo.ual.moving import move

    moved = move(Files(), directory, out, now=wall_clock(), depth=depth, age=age)
    if moved.sentence:
        print(f"{directory}: {moved.sentence}")
    print(f"{directory}: {size_text(moved.before)}; {out}: {size_text(moved.after)}. Start the server with --data-dir {out}.")
    return 0
