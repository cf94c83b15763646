"""`flo compact DIR`: rewrite a log without the records that are no longer needed."""

import argparse
import os
from collections.abc import Callable
from typing import Any

from flo.cli.output import fail, say, size_text


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
        return fail(f"{args.directory} has no {manifest.NAME}: it is not a Flo data directory.")
    try:
        settings, _ = load(args.config, os.environ, {})
        if args.to is not None:
            return _move(args.directory, args.to, settings.history_depth, settings.history_age)
        chosen = EngineSettings(history_depth=settings.history_depth, history_age=settings.history_age)
        with Engine(args.directory, chosen) as engine:
            before = engine.log.size
            engine.compact()
            say(f"{args.directory}: {_sizes(before, engine.log.size, engine.log.history_size)}")
    except DirectoryInUse as e:
        return _ask_the_holder(args.directory, e, ask)
    except (FloError, OSError) as e:
        return fail(e)
    return 0


def _ask_the_holder(directory: str, in_use: Exception, ask: "Callable[[str, str, float | None], str | None]") -> int:
    """Ask the server that serves the directory to compact it, and wait for the end."""
    from flo.errors import FloError

    try:
        answer = ask(directory, "compact", None)
    except FloError as e:
        return fail(e)
    if answer is None:  # a program that has the directory open, or an older server
        return fail(in_use)
    word, _, rest = answer.partition(" ")
    if word != "compacted":
        return fail(f"the server could not compact {directory}: {rest}")
    before, now, history = map(int, rest.split())
    say(f"{directory}: {_sizes(before, now, history)}, by the server that serves it")
    return 0


def _sizes(before: int, size: int, history: int) -> str:
    """The sizes before and after a compaction, and why the log is hardly smaller, if so."""
    kept = f", of which {size_text(history)} are history (kv.history_depth, kv.history_age)" if history else ""
    return f"{size_text(before)} before, {size_text(size)} now{kept}" + ("; there was little to remove" if size >= before else "")


def _move(directory: str, out: str, depth: int, age: int) -> int:
    """Rewrite the directory into another."""
    from flo.engine.clock import wall_clock
    from flo.ual.files import Files
    from flo.ual.moving import move

    moved = move(Files(), directory, out, now=wall_clock(), depth=depth, age=age)
    if moved.sentence:
        say(f"{directory}: {moved.sentence}")
    say(f"{directory}: {_sizes(moved.before, moved.after, moved.history)}. Start the server with --data-dir {out}.")
    return 0
