"""`flo ns`: namespaces."""

import argparse
from typing import TYPE_CHECKING, Any

from flo.cli.output import print_json, size_text
from flo.cli.remote import command

if TYPE_CHECKING:
    from flo.client import Client


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser("ns", help=summary, description="Namespaces: isolated sets of keys.").add_subparsers(
        metavar="COMMAND", required=True
    )
    create = command(group, "create", create_namespace, "create a namespace; no error if it exists")
    create.add_argument("name", metavar="NAME", help="1 to 128 letters, digits, '.', '_', ':' and '-'")
    command(group, "list", list_namespaces, "list the namespaces and their contents")
    delete = command(group, "delete", delete_namespace, "delete an empty namespace")
    delete.add_argument("name", metavar="NAME")


def create_namespace(client: "Client", args: argparse.Namespace) -> int:
    """Create a namespace."""
    client.namespaces.create(args.name)
    _done(args, "exists; use it with -n")
    return 0


def delete_namespace(client: "Client", args: argparse.Namespace) -> int:
    """Delete a namespace."""
    client.namespaces.delete(args.name)
    _done(args, "is deleted")
    return 0


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


def _done(args: argparse.Namespace, text: str) -> None:
    if args.format == "json":
        print_json({"name": args.name})
    elif args.format == "text":
        print(f"namespace {args.name} {text}")
