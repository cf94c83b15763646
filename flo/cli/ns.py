"""`flo ns`: namespaces."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import print_json, size_text
from flo.cli.remote import command
from flo.cli.rows import add_rows

if TYPE_CHECKING:
    from flo.client import Client


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser("ns", help=summary, description="Namespaces: isolated sets of keys.").add_subparsers(metavar="COMMAND")
    add_rows(group, "ns")
    command(group, "list", list_namespaces, "list the namespaces and their contents")


def list_namespaces(client: "Client", args: argparse.Namespace) -> int:
    """Print all namespaces."""
    names = client.namespaces.list()
    if args.format == "raw":
        print("\n".join(names))
        return 0
    infos = [client.namespaces.info(name) for name in names]
    if args.format == "json":
        print_json(infos)
        return 0
    width = max(len(name) for name in names)
    for info in infos:
        print(f"{info['name']:<{width}}  {info['keys']:>10} keys  {size_text(info['bytes']):>12}")
    return 0
