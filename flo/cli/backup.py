"""`flo backup DIR OUT`: copy a data directory, also while a server is using it."""

import argparse
import errno
import os
import sys
from typing import TYPE_CHECKING, Any

from flo.cli.output import size_text

if TYPE_CHECKING:
    from flo.ual.files import Files
    from flo.ual.lock import DirectoryLock


def add(commands: Any, summary: str) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "backup",
        help=summary,
        description="Copy a data directory to OUT, consistent as of one index, and check the copy. A server may go on writing meanwhile: "
        "everything it had answered before is in the copy. To restore, start a server with --data-dir on the copy.",
    )
    parser.add_argument("directory", metavar="DIR", help="the data directory")
    parser.add_argument("out", metavar="OUT", help="a directory that is empty or not there yet")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Say what was copied. Exit 1 with one line where it could not be done, or the copy is not whole."""
    from flo.control import ask
    from flo.errors import FloError
    from flo.ual.backup import backup
    from flo.ual.check import check
    from flo.ual.files import Files

    files = Files()
    lock = None
    try:
        # "index N": beside a server
        said = ask(args.directory, "index") if os.path.isdir(args.directory) else None
        if said is None:
            lock = _hold(files, args.directory)
        copied = backup(files, args.directory, args.out, int(said.removeprefix("index ")) if said is not None else None)
    except (FloError, OSError) as e:
        print(f"flo: {e}", file=sys.stderr)
        return 1
    finally:
        if lock is not None:
            lock.release()
    if copied.sentence:
        print(f"{args.directory}: {copied.sentence}")
    print(f"copied {copied.files} files, {size_text(copied.bytes)}, everything up to index {copied.last}")
    report = check(args.out)
    for sentence in report.damage:
        print(f"DAMAGED: {sentence}", file=sys.stderr)
    if report.damage:
        print(f"flo: the copy in {args.out} is not whole, and nor is {args.directory}, most likely: try `flo check`.", file=sys.stderr)
        return 1
    print(f"the copy in {args.out} was read again and is whole")
    return 0


def _hold(files: "Files", directory: str) -> "DirectoryLock | None":
    """Keep others from writing to the directory meanwhile; None where nobody can. Raises `DirectoryInUse` where somebody does who cannot be
    asked what was acknowledged: a program with an engine of its own, or an earlier Flo."""
    from flo.ual.lock import DirectoryLock

    try:
        return DirectoryLock(files, directory)
    except OSError as e:
        if e.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
            raise
        return None  # read-only; or not there, which is said next
