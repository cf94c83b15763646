"""The command line: `flo server start`, `flo check`. Exit 0 done, 1 refused or not found, 2 usage, 3 cannot connect."""

import argparse
import sys

import flo


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; each module adds its commands."""
    from flo.cli import check, server

    parser = argparse.ArgumentParser(
        prog="flo", description="A durable Redis-compatible store over one append-only log. `flo server start` runs it."
    )
    parser.add_argument("--version", action="version", version=f"flo {flo.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    server.add(commands)
    check.add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return status
