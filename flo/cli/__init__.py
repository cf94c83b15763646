"""The command line. Exit 0 done, 1 refused or not found, 2 usage, 3 cannot connect.

Each group of commands is a module, imported only when one of its commands is run: `flo --help` pays for none of them.
"""

import argparse
import os
import re
import sys
from importlib import import_module
from io import TextIOWrapper
from itertools import islice
from typing import Any, NoReturn

import flo

GROUPS = {
    "server": "run a server, or show its state",
    "ping": "check that a server answers",
    "top": "watch what a server does, second by second",
    "kv": "read and write keys",
    "queue": "put messages into queues, take and acknowledge them",
    "stream": "append records, read and follow them, in groups or alone",
    "ts": "write, read and query time series",
    "action": "register and invoke actions, look at their runs",
    "worker": "list and drain workers, and run one of a Python program",
    "schedule": "put, list and delete schedules, which invoke actions at their times",
    "ns": "create, list and delete namespaces",
    "cluster": "show who leads and how far each member is; give the lead away, forget a member, make its log anew",
    "import": "copy the keys, lists and streams of a running Redis",
    "compact": "rewrite a log without the records that are no longer needed",
    "backup": "copy a data directory, also while a server is using it",
    "completion": "print the script that completes commands in a shell",
    "check": "read a data directory and say whether it is whole",
}
MODULES = {"import": "import_redis"}  # where the name of the group is a word of Python
SECRET_IN_URL = re.compile(r"://\S*@")
EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, EXIT_CANNOT_CONNECT, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


class _Help(argparse.HelpFormatter):
    """Help as wide as the terminal. The base class would import shutil for that, which takes 8 ms even at starts that print no help."""

    def __init__(self, prog: str, **given: Any) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "0")) or os.get_terminal_size(1).columns
        except (OSError, ValueError):
            columns = 80
        super().__init__(prog, **({"width": columns - 2} | given))


class _Parser(argparse.ArgumentParser):
    """A parser that formats its help with `_Help`, as do the parsers of its commands."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**({"formatter_class": _Help} | given))

        self.commands: argparse._SubParsersAction[_Parser] | None = None

    def add_subparsers(self, **given: Any) -> Any:
        """Add the commands below this one, which `arrange` walks. Without one of them, the help lists them."""
        self.commands = super().add_subparsers(**given)
        self.set_defaults(run=self._list_commands)
        return self.commands

    def _list_commands(self, _args: argparse.Namespace) -> int:
        self.print_help(sys.stderr)
        return EXIT_USAGE

    def parse_known_args(self, words: Any = None, found: Any = None) -> Any:  # type: ignore[override]  # one for both overloads
        """Parse. The flags of a command may stand between its arguments."""
        return super().parse_known_args(words if self.commands is not None else self._flags_first(words), found)

    def _flags_first(self, words: list[str]) -> list[str]:
        """The words with the flags before the arguments: argparse takes an optional argument behind a flag for left out, and then does not
        know what it is. Words that take more than a look are left as they are."""
        flags: list[str] = []
        others: list[str] = []
        rest = iter(words)
        for word in rest:
            name, equals, _ = word.partition("=")
            action = self._option_string_actions.get(name)
            if word == "--":
                others += ["--", *rest]
            elif action is not None and action.nargs in (None, 0):
                flags += [word] if equals or action.nargs == 0 else [word, *islice(rest, 1)]
            elif word.startswith("-") and word != "-":
                return words
            else:
                others.append(word)
        return flags + others

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the words, which may hold anything, also a URL with a password."""
        from flo.operator_log import escaped

        super().error(escaped(SECRET_IN_URL.sub("://…@", message)))


def build_parser(wanted: set[str] | None = None) -> _Parser:
    """The command line, with the commands of the `wanted` groups (None: all groups)."""
    parser = _Parser(
        prog="flo",
        description="A durable Redis-compatible store over one append-only log. `flo server start` runs it.",
        epilog="`flo COMMAND --help` shows more. Exit status: 0 done, 1 refused or not found, 2 wrong usage, 3 cannot connect.",
    )
    parser.add_argument("--version", action="version", version=f"flo {flo.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, summary in GROUPS.items():
        if wanted is None or name in wanted:
            import_module(f"flo.cli.{MODULES.get(name, name)}").add(commands, summary)
        else:
            commands.add_parser(name, help=summary)
    return parser


SERVER_FLAGS = ("-n", "--host", "--port", "--namespace", "--secret-file", "--timeout", "--format")  # each with an argument


def _flag_words(words: list[str], at: int) -> int:
    """How many words the flags of a server take that stand at `at`."""
    count = 0
    while at + count < len(words):
        name, equals, _ = words[at + count].partition("=")
        if name not in SERVER_FLAGS:
            break
        count += 1 if equals else 2
    return count


def arrange(words: list[str]) -> tuple[_Parser, list[str], _Parser]:
    """The parser for the words of a command line, the words with the flags of a server behind the command, where argparse takes them
    (`flo --port 9001 kv get a` is `flo kv get --port 9001 a`), and the parser of that command, whose usage is the one to show."""
    flags: list[str] = []
    words = list(words)

    def take(at: int) -> None:
        count = _flag_words(words, at)
        flags.extend(words[at : at + count])
        del words[at : at + count]

    take(0)
    parser = node = build_parser({next((word for word in words if not word.startswith("-")), "")})
    at = 0
    while at < len(words) and node.commands is not None and words[at] in node.commands.choices:
        node = node.commands.choices[words[at]]
        at += 1
        take(at)
    return parser, [*words[:at], *flags, *words[at:]], node


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character shows its code
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - standard output was closed before the start
    parser, words, command = arrange(argv)
    args, surplus = parser.parse_known_args(words)
    if surplus:
        command.error(f"unrecognized arguments: {' '.join(surplus)}")
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # otherwise the interpreter complains when it flushes at exit
        return EXIT_REFUSED
    except OSError as e:
        from flo.cli.output import fail

        fail(e)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_REFUSED
    return status
