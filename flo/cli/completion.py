"""`flo completion`: completion of `flo`'s command line for bash, zsh and fish.

Each script is a table of the commands, made from the parsers, and a function that leads the words of a line through it
(completion_scripts.py). Only names in a server are asked for at the time of completing: the script calls `flo completion names`.
"""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from flo.cli import build_parser
from flo.cli.remote import client_of, remote_flags
from flo.limits import LIST_ITEMS_MAX

ANSWER_SECONDS = 0.2  # a person who has pressed a key is waiting


def add(commands: Any, summary: str) -> None:
    """Add the commands to the parser."""
    group = commands.add_parser(
        "completion", help=summary, description="Print the script that completes the words of flo's command line in a shell."
    ).add_subparsers(metavar="SHELL")
    for shell, how in (
        ("bash", "In ~/.bashrc: source <(flo completion bash)"),
        ("zsh", "In ~/.zshrc, behind compinit: source <(flo completion zsh)"),
        ("fish", "flo completion fish > ~/.config/fish/completions/flo.fish"),
    ):
        parser = group.add_parser(shell, help=f"print the script for {shell}", description=f"Print the script for {shell}. {how}.")
        parser.set_defaults(run=print_script, shell=shell)
    names = group.add_parser(
        "names",
        help="print names in a server, for the scripts",
        description="Print the names of queues, streams or actions that can be typed, a line each; nothing if the server does not answer "
        "within 200 ms. The scripts call this.",
    )
    names.add_argument("kind", choices=("queues", "streams", "actions"), metavar="KIND", help="queues, streams or actions")
    names.add_argument("words", nargs="*", metavar="WORD", help="behind --: the command line so far, for the flags of its server")
    names.set_defaults(run=print_names)


def print_script(args: argparse.Namespace) -> int:
    """Print a shell's script."""
    from flo.cli.completion_scripts import SCRIPTS, table

    print(SCRIPTS[args.shell](list(table(build_parser()))), end="")
    return 0


# -- names in a server -----------------------------------------------------------------------------


class _Lenient(argparse.ArgumentParser):
    """A parser of a line that is not complete yet: what is wrong with it is no matter."""

    def error(self, message: str) -> NoReturn:
        """Raise rather than exit."""
        raise ValueError(message)


def print_names(args: argparse.Namespace) -> int:
    """Print names; nothing, and exit 1, if there is no answer."""
    from flo.errors import FloError

    try:
        given, _ = _Lenient(parents=[remote_flags()], add_help=False).parse_known_args(args.words)
        given.timeout = ANSWER_SECONDS
        with client_of(given) as client:
            client.connect_timeout = ANSWER_SECONDS
            pages: dict[str, Callable[..., dict[str, Any]]] = {
                "queues": client.queues.list_page,
                "streams": client.streams.list_page,
                "actions": client.actions.list_page,
            }
            page = pages[args.kind](limit=LIST_ITEMS_MAX)
    except (ValueError, OSError, FloError):
        return 1
    for each in page[args.kind]:
        name = each["name"]
        if isinstance(name, str) and name.isprintable():
            print(name)
    return 0
