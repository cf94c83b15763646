"""`flo check DIR`: is the log whole? With `--repair`, make a damaged log usable again."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from flo.cli.output import fail, say, warn

if TYPE_CHECKING:
    from flo.engine import Engine

LOOKS = 3  # a server at work can make one look report damage that is not there, but hardly three looks in a row


def add(commands: Any, summary: str) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "check",
        help=summary,
        description="Verify every checksum, the order of indexes and the manifest of a data directory, and rebuild the state from it. "
        "Changes nothing without --repair. Exits 1 if anything is damaged.",
    )
    parser.add_argument("directory", metavar="DIR", help="the data directory")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="copy damaged files to DIR/damaged-..., then cut the log at the last good batch before the damage; of a damaged compacted "
        "file, leave out only the unreadable parts. No server may be using DIR",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check the directory, repair it if asked to, and print the results."""
    if not os.path.isdir(args.directory):
        return fail(f"{args.directory} does not exist, or is not a directory.")
    damage = _look(args.directory)
    if not args.repair or not damage:
        return 1 if damage else 0
    return _repair(args.directory)


def _look(directory: str) -> list[str]:
    """Check, rebuild, and print; returns a sentence for each damage."""
    # while a server runs, a batch may be half written when it is read, or a file be replaced: real damage is still there at the next look
    for _ in range(LOOKS):
        lines, damage = _look_once(directory)
        if not damage:
            break
    for line in lines:
        say(line)
    for sentence in damage:
        warn(f"DAMAGED: {sentence}")
    print("whole" if not damage else f"{len(damage)} faults", file=sys.stderr if damage else sys.stdout)
    return damage


def _look_once(directory: str) -> tuple[list[str], list[str]]:
    """(lines about the contents, sentences about damage)"""
    from array import array
    from bisect import bisect_left

    from flo.engine import Engine
    from flo.ual.check import check
    from flo.ual.record import Record

    engine = Engine.without_log()
    indexes = array("Q")  # of the records that a start would apply, ascending

    def apply(index: int, record: Record) -> None:
        indexes.append(index)
        engine.apply(index, record)

    def is_kept(index: int) -> bool:
        at = bisect_left(indexes, index)
        return at < len(indexes) and indexes[at] == index

    try:
        report = check(directory, apply=apply)
    except Exception as e:
        # every record is intact; if the stores cannot take them, this program has a defect, which is reported as well
        return [], [f"behind index {indexes[-1] if indexes else 0} the stores cannot be rebuilt: {e!r}"]
    if report.damage:
        return report.lines, report.damage
    return [*report.lines, *_contents(engine)], [
        f"{lost.sentence} in namespace {namespace.name!r} has no record in the log." for namespace, lost in engine.lost(is_kept)
    ]


def _contents(engine: "Engine") -> list[str]:
    """A line about each namespace."""
    lines = []
    for name, namespace in sorted(engine.namespaces.items()):
        there = [f"{count} {noun.replace('_', ' ')}" for noun, count in namespace.counts().items() if count]
        lines.append(f"{name}: {', '.join(there) or 'empty'}")
    if engine.homeless:
        lines.append(f"{engine.homeless} records belong to a namespace that was deleted or whose own record was lost")
    return lines


def _repair(directory: str) -> int:
    """Repair, check again, and print the results."""
    from flo.engine import Engine, EngineSettings
    from flo.engine.clock import wall_clock
    from flo.errors import FloError
    from flo.ual.files import Files
    from flo.ual.lock import DirectoryLock
    from flo.ual.repair import repair

    files = Files()
    try:
        lock = DirectoryLock(files, directory)
        try:
            done = repair(files, directory, wall_clock())
        finally:
            lock.release()
        for line in done.lines:
            say(f"repaired: {line}")
        if done.aside:
            say(f"the damaged files were copied to {done.aside}")
        with Engine(directory, EngineSettings()) as engine:  # payloads lost by this repair, or by an earlier one that was interrupted
            lost = engine.forget_lost()
        if lost:
            say(f"{lost} messages whose payload was lost are acknowledged")
    except (FloError, OSError) as e:
        return fail(e)
    print("checking again")
    return 1 if _look(directory) else 0
