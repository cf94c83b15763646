"""The table of RESP commands: each one is data. Arity errors, COMMAND DOCS, MONITOR, docs/redis.md come from it.

A handler takes the session and the arguments (the name first) and gives the whole reply as bytes; or a job, a generator that
yields between slices of a long piece of work and returns the reply as a list of pieces; or a `Later`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from flo.commands.resp import load_table
from flo.commands.runner import Reply

if TYPE_CHECKING:
    from flo.commands.resp.session import RespSession

Handler = Callable[["RespSession", list[bytes]], Reply]


class Command(NamedTuple):
    """One command. `arity` counts the name, negative for "at least"; `keys` is (first, last, step) as COMMAND INFO has it."""

    name: str
    handler: Handler
    arity: int
    syntax: str
    summary: str
    group: str
    since: str
    flags: tuple[str, ...]
    keys: tuple[int, int, int]
    differs: str  # from Redis, and why; empty where it does not
    subcommands: dict[bytes, int]  # arity of each, by upper-case name; wrong ones are refused before the handler
    refused: bool  # answers with a sentence that says what to use instead

    @property
    def resets(self) -> bool:
        """Whether it may change what the flat path keeps at hand: the session's state, or the stores themselves."""
        return "resets" in self.flags


COMMANDS: dict[bytes, Command] = {}  # by upper-case name
SPELLINGS: dict[bytes, Command] = {}  # by the spellings clients use, upper and lower case
# Of these, the ones that a session may execute without a look at anything but the number of arguments: (handler, fewest, most, name)
PLAIN: dict[bytes, tuple[Handler, int, int, str]] = {}
MANY = 1 << 30  # arguments: no bound


def command(
    name: str,
    arity: int,
    syntax: str,
    summary: str,
    *,
    group: str,
    since: str = "1.0.0",
    flags: str = "",
    keys: tuple[int, int, int] = (0, 0, 0),
    differs: str = "",
    subcommands: dict[bytes, int] | None = None,
    refused: bool = False,
) -> Callable[[Handler], Handler]:
    """Add a handler to the table. `flags` are Redis's (write, readonly, denyoom, fast, admin, no_auth, …) and `resets`."""

    def add(handler: Handler) -> Handler:
        entry = Command(
            name, handler, arity, syntax, summary, group, since, tuple(flags.split()), keys, differs, subcommands or {}, refused
        )
        token = name.encode()
        assert token not in COMMANDS, f"{name} is in the table twice"
        COMMANDS[token] = SPELLINGS[token] = SPELLINGS[token.lower()] = entry
        if not entry.resets and not entry.subcommands and entry.group != "connection":
            PLAIN[token] = PLAIN[token.lower()] = (handler, abs(arity), arity if arity > 0 else MANY, name.lower())
        return handler

    return add


def find(token: bytes) -> Command | None:
    """The command of that name, in any case."""
    found = SPELLINGS.get(token) or COMMANDS.get(token.upper())
    if found is None:
        load_table()  # a server that has just started may not have imported all
        found = COMMANDS.get(token.upper())
    return found
