"""`flo check DIR`: is the log whole?"""

import argparse
import sys
from typing import Any


def add(commands: Any, summary: str) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "check",
        help=summary,
        description="Verify every checksum, the order of indexes and the manifest of a data directory. Changes nothing; exits 1 "
        "where something is damaged.",
    )
    parser.add_argument("directory", metavar="DIR", help="the data directory")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was found."""
    from flo.ual.check import check

    report = check(args.directory)
    for line in report.lines:
        print(line)
    for sentence in report.damage:
        print(f"DAMAGED: {sentence}", file=sys.stderr)
    print("whole" if not report.damage else f"{len(report.damage)} faults", file=sys.stderr if report.damage else sys.stdout)
    return 1 if report.damage else 0
