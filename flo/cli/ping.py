"""`flo ping`: does a server answer, and how fast?"""

import argparse
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flo.cli.output import print_json, say
from flo.cli.remote import command

if TYPE_CHECKING:
    from flo.client import Client


def add(commands: Any, summary: str) -> None:
    """Add the command to the parser."""
    command(commands, "ping", ping, summary)


def ping(client: "Client", args: argparse.Namespace) -> int:
    """Ping once and print how long the answer took."""
    began = perf_counter()
    client.ping()
    took = (perf_counter() - began) * 1000
    if args.format == "json":
        print_json({"host": args.host, "port": args.port, "ms": round(took, 3)})
    else:
        say("PONG" if args.format == "raw" else f"PONG from {args.host}:{args.port} in {took:.2f} ms")
    return 0
