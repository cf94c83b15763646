"""`flo backup DIR OUT`: copy a data directory, also while a server is using it."""

import argparse
import errno
import os
from typing import TYPE_CHECKING, Any

from flo.cli.output import fail, say, size_text, warn

if TYPE_CHECKING:
    from flo.ual.files import Files
    from flo.ual.lock import DirectoryLock


def add(commands: Any, summary: str) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "backup",
        help=summary,
        description="Copy a data directory to OUT, consistent as of one index, and check the copy. A server may go on writing meanwhile: "
        "the copy holds every write that it answered before. To restore, start a server with --data-dir on the copy.",
    )
    parser.add_argument("directory", metavar="DIR", help="the data directory")
    parser.add_argument("out", metavar="OUT", help="a directory that is empty or does not exist yet")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Copy, check the copy, and print the result. Exit 1 with one line if the copy failed or is not whole."""
    from flo.control import ask
    from flo.errors import FloError
    from flo.ual.backup import backup
    from flo.ual.check import check
    from flo.ual.files import Files

    files = Files()
    lock = None
    try:
        # a server answers "index N"
        said = ask(args.directory, "index") if os.path.isdir(args.directory) else None
        if said is None:
            lock = _hold(files, args.directory)
        copied = backup(files, args.directory, args.out, int(said.removeprefix("index ")) if said is not None else None)
    except (FloError, OSError) as e:
        return fail(e)
    finally:
        if lock is not None:
            lock.release()
    if copied.sentence:
        say(f"{args.directory}: {copied.sentence}")
    say(f"copied {copied.files} files, {size_text(copied.bytes)}, everything up to index {copied.last}")
    report = check(args.out)
    for sentence in report.damage:
        warn(f"DAMAGED: {sentence}")
    if report.damage:
        return fail(f"the copy in {args.out} is not whole; most likely {args.directory} is damaged too: try `flo check`.")
    say(f"the copy in {args.out} was read again and is whole")
    return 0


def _hold(files: "Files", directory: str) -> "DirectoryLock | None":
    """Keep other processes from writing to the directory; None if it is read-only or missing. Raises `DirectoryInUse` if a process holds it
    that cannot tell which index was acknowledged: a program with its own engine, or an earlier Flo."""
    from flo.ual.lock import DirectoryLock

    try:
        return DirectoryLock(files, directory)
    except OSError as e:
        if e.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
            raise
        return None  # read-only; or missing, which the copy reports next
