"""The table of RESP commands: each one is data. Arity errors, COMMAND DOCS, MONITOR, docs/redis.md come from it.

A handler takes the session and the arguments (the name first) and gives the whole reply as bytes; or a job, a generator that
yields between slices of a long piece of work and returns the reply as a list of pieces; or a `Later`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from flo.commands.host import EVERYTHING
from flo.commands.host import READS as SERVES_READS
from flo.commands.resp import load_table
from flo.commands.runner import Reply

if TYPE_CHECKING:
    from flo.commands.resp.session import RespSession

Handler = Callable[["RespSession", list[bytes]], Reply]


Keys = tuple[int, int, int]  # which arguments are keys: (first, last, step) as COMMAND INFO has them; 0 for none


class Sub(NamedTuple):
    """One subcommand; its fields are those of `Command`. `arity` counts the command's name too."""

    arity: int
    syntax: str
    summary: str
    flags: str = ""
    keys: Keys = (0, 0, 0)
    access: str = ""


class Command(NamedTuple):
    """One command. `arity` counts the name, negative for "at least"."""

    name: str
    handler: Handler
    arity: int
    syntax: str
    summary: str
    group: str
    since: str
    flags: tuple[str, ...]
    keys: Keys
    access: str  # what it does to its keys, in Redis's words: "RO access"; "RW access delete, OW update" where its two keys differ
    keys_counted_at: int  # the argument that says how many keys are behind it; 0 for no such command
    streams_from: int  # STREAMS is looked for from this argument on: the first half of what is behind it are keys; 0 for no such command
    differs: str  # from Redis, and why; empty where it does not
    subcommands: dict[bytes, Sub]  # by upper-case name; what is none of them never comes to the handler, nor does a wrong arity
    refused: bool  # answers with a sentence that says what to use instead
    redis_only: str = ""  # the sentence that refuses it outside of the profile `redis`; empty where every profile has it

    def reads(self, args: list[bytes]) -> bool:
        """Whether a client with the read-only secret may send it: it only reads, or concerns nothing but the connection itself."""
        word = args[1].upper() if self.subcommands and len(args) > 1 else b""
        if word:
            return word == b"HELP" or word not in self.subcommands or not READS.isdisjoint(self.subcommands[word].flags.split())
        return self.refused or not READS.isdisjoint(self.flags) or bool(self.subcommands)  # without a subcommand it is refused anyway

    @property
    def resets(self) -> bool:
        """Whether it may change what the flat path keeps at hand: the session's state, or the stores themselves."""
        return "resets" in self.flags


COMMANDS: dict[bytes, Command] = {}  # by upper-case name
SPELLINGS: dict[bytes, Command] = {}  # by the spellings clients use, upper and lower case
# Of these, the ones that a session may execute without a look at anything but the number of arguments: (handler, fewest, most, name)
Plain = tuple[Handler, int, int, str]
PLAIN: dict[bytes, Plain] = {}
PLAIN_BY_SERVED: tuple[dict[bytes, Plain], ...] = ({}, {}, PLAIN)  # by `Host.serves`
REFUSED_SUBCOMMANDS: dict[tuple[bytes, bytes], str] = {}  # by command and word, upper-case: the sentence that refuses it
READS = frozenset(("readonly", "reads", "no_auth"))  # flags of what only reads, or concerns nothing but the connection itself
KEY_GROUPS = ("generic", "string", "json", "transactions")  # the groups of commands whose arguments are keys
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
    keys: Keys = (0, 0, 0),
    access: str = "",
    keys_counted_at: int = 0,
    streams_from: int = 0,
    differs: str = "",
    subcommands: dict[str, Sub] | None = None,
    refused: bool = False,
    redis_only: str = "",
) -> Callable[[Handler], Handler]:
    """Add a handler to the table. `flags` are Redis's (write, readonly, denyoom, fast, admin, no_auth, …), `resets`, and `reads`. The
    syntax of a command with subcommands is theirs; HELP comes by itself. A command with `redis_only` is refused with that sentence in the
    profile `flo`; the handlers of transactions do so themselves."""

    def add(handler: Handler) -> Handler:
        """Put the handler into the table."""
        subs = {word.encode(): each for word, each in (subcommands or {}).items()}
        shown = syntax or " | ".join(f"{word} {each.syntax}".strip() for word, each in (subcommands or {}).items())
        if subs:
            subs[b"HELP"] = Sub(2, "", "Print this help.", "loading stale")
        words = tuple(flags.split())
        entry = Command(
            name,
            handler,
            arity,
            shown,
            summary,
            group,
            since,
            words,
            keys,
            access,
            keys_counted_at,
            streams_from,
            differs,
            subs,
            refused,
            redis_only,
        )
        token = name.encode()
        assert token not in COMMANDS, f"{name} is in the table twice"
        COMMANDS[token] = SPELLINGS[token] = SPELLINGS[token.lower()] = entry
        if not entry.resets and not entry.subcommands and not redis_only and entry.group != "connection":
            plain = (handler, abs(arity), arity if arity > 0 else MANY, name.lower())
            for level in range(SERVES_READS if "readonly" in words else EVERYTHING, EVERYTHING + 1):
                PLAIN_BY_SERVED[level][token] = PLAIN_BY_SERVED[level][token.lower()] = plain
        return handler

    return add


def find(token: bytes) -> Command | None:
    """The command of that name, in any case."""
    found = SPELLINGS.get(token) or COMMANDS.get(token.upper())
    if found is None:
        load_table()  # a server that has just started may not have imported all
        found = COMMANDS.get(token.upper())
    return found
