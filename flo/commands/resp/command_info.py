"""COMMAND: what commands there are, which of their arguments are keys, and what they do to them, as cluster clients and tools ask.

All of it follows from the table (flo.commands.resp.table), in the shape that Redis 7 answers in. Left out are the flags and tips that
only tell how several Redis servers share a request.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from flo.commands.resp import load_table, table
from flo.commands.resp.arguments import syntax_error
from flo.commands.resp.session import RespSession
from flo.commands.resp.strings import COMPARISONS
from flo.commands.resp.table import Command, Keys, Sub, command
from flo.commands.runner import Reply
from flo.errors import BadRequest
from flo.proto.resp import array, bulk, bulk_array, integer, mapping, simple, unordered
from flo.store.pattern import read_pattern

OWN_FLAGS = ("resets", "no_monitor", "reads")  # the server's own: no client knows them
GROUP_CATEGORIES = {  # Redis's ACL categories, as far as the group decides
    "string": "string", "list": "list", "stream": "stream", "connection": "connection", "cluster": "connection",
    "transactions": "transaction", "generic": "keyspace",
    "pubsub": "pubsub", "scripting": "scripting",
}  # fmt: skip
OTHER_CATEGORIES = {  # … and where it does not
    "command": "connection", "wait": "connection", "cluster": "", "readonly": "connection", "readwrite": "connection",
    "dbsize": "keyspace", "flushdb": "keyspace", "flushall": "keyspace",
}  # fmt: skip
ADMIN = {"lastsave", "role"}  # besides all that have the flag `admin`
DANGEROUS = {"flushall", "flushdb", "info", "keys"}  # besides those


class Entry(NamedTuple):
    """A command, or a subcommand, as it is described."""

    name: str  # `xgroup|create`
    arity: int
    flags: list[str]
    keys: Keys
    access: str
    command: Command
    syntax: str
    summary: str

    @property
    def subs(self) -> list["Entry"]:
        """The subcommands of a command."""
        return [] if "|" in self.name else [_sub_entry(self.command, word, sub) for word, sub in self.command.subcommands.items()]


def _entry(entry: Command) -> Entry:
    flags = _shown_flags(entry.flags)
    summary = entry.differs if entry.refused else entry.summary
    return Entry(entry.name.lower(), entry.arity, flags, entry.keys, entry.access, entry, entry.syntax, summary)


def _shown_flags(flags: Iterable[str]) -> list[str]:
    return [flag for flag in flags if flag not in OWN_FLAGS]


def _sub_entry(entry: Command, word: bytes, sub: Sub) -> Entry:
    name = f"{entry.name}|{word.decode()}".lower()
    return Entry(name, sub.arity, _shown_flags(sub.flags.split()), sub.keys, sub.access, entry, sub.syntax, sub.summary)


def _find(words: list[bytes]) -> Entry | None:
    """The command of a request, or its subcommand."""
    found = table.find(words[0])
    if found is None or not found.subcommands or len(words) == 1:
        return None if found is None else _entry(found)
    sub = found.subcommands.get(words[1].upper())
    return None if sub is None else _sub_entry(found, words[1].upper(), sub)


def _named(session: RespSession, names: list[bytes]) -> list[Entry | None]:
    """Those of these names, `xgroup|create` among them; all that the session may use where none is given."""
    if not names:
        profile = session.redis_profile
        return [_entry(each) for each in table.COMMANDS.values() if not each.refused and (profile or not each.redis_only)]
    found: list[Entry | None] = []
    for name in names:
        words = name.split(b"|", 1)
        entry = _find(words)
        found.append(entry if entry is not None and entry.name.encode() == name.lower() else None)
    return found


# -- INFO and LIST ---------------------------------------------------------------------------------


def _categories(entry: Entry) -> list[str]:
    group = OTHER_CATEGORIES.get(entry.command.name.lower(), GROUP_CATEGORIES.get(entry.command.group, ""))
    found = [group] if group and not entry.subs else ["connection"] if entry.name == "command" else []
    flags, admin = entry.flags, "admin" in entry.flags or entry.name in ADMIN
    found += [word for word, flag in (("read", "readonly"), ("write", "write"), ("blocking", "blocking")) if flag in flags]
    found.append("fast" if "fast" in flags else "slow")
    if admin:
        found.append("admin")
    if admin or entry.name in DANGEROUS:
        found.append("dangerous")
    return found


class _Range(NamedTuple):
    """Keys that lie together: where they begin, the last one from there (negative: from the end), and every how many is one."""

    access: list[str]
    first: int
    last: int
    step: int


def _ranges(entry: Entry) -> list[_Range]:
    """The keys of an entry, by what is done to them."""
    first, last, step = entry.keys
    default = "RW update" if "write" in entry.flags else "RO access"
    parts = [part.split() for part in (entry.access or default).split(", ")]
    if not first:
        return []
    if len(parts) == 1:
        return [_Range(parts[0], first, last - first if last > 0 else last, step)]
    return [_Range(words, first + at, 0, step) for at, words in enumerate(parts)]


def _specifications(entry: Entry, v3: bool) -> bytes:
    def found(access: list[str], begin: bytes, how: dict[bytes, bytes], find: dict[bytes, int], kind: bytes = b"range") -> bytes:
        numbers = {name: integer(value) for name, value in find.items()}
        return mapping(
            {
                b"flags": unordered([simple(word) for word in access], v3),
                b"begin_search": mapping({b"type": bulk(begin), b"spec": mapping(how, v3)}, v3),
                b"find_keys": mapping({b"type": bulk(kind), b"spec": mapping(numbers, v3)}, v3),
            },
            v3,
        )

    start, counted = entry.command.streams_from, entry.command.keys_counted_at
    if counted:
        find = {b"keynumidx": 0, b"firstkey": 1, b"keystep": 1}
        return unordered([found(entry.access.split(), b"index", {b"index": integer(counted)}, find, b"keynum")], v3)
    if start:
        how = {b"keyword": bulk(b"STREAMS"), b"startfrom": integer(start)}
        return unordered([found(entry.access.split(), b"keyword", how, {b"lastkey": -1, b"keystep": 1, b"limit": 2})], v3)
    return unordered(
        [
            found(each.access, b"index", {b"index": integer(each.first)}, {b"lastkey": each.last, b"keystep": each.step, b"limit": 0})
            for each in _ranges(entry)
        ],
        v3,
    )


def _info(entry: Entry, v3: bool) -> bytes:
    return array(
        [
            bulk(entry.name.encode()),
            integer(entry.arity),
            unordered([simple(flag) for flag in entry.flags], v3),
            *map(integer, entry.keys),
            unordered([simple(f"@{category}") for category in _categories(entry)], v3),
            unordered([], v3),
            _specifications(entry, v3),
            array([_info(sub, v3) for sub in entry.subs]) if entry.subs else unordered([], v3),
        ]
    )


def _list(session: RespSession, words: list[bytes]) -> bytes:
    """COMMAND LIST, with FILTERBY or without it."""
    entries = [each for entry in _named(session, []) if entry is not None for each in (entry, *entry.subs)]
    if words:
        if len(words) != 3 or words[0].upper() != b"FILTERBY":
            raise syntax_error()
        by, value = words[1].upper(), words[2].lower()
        if by == b"PATTERN":
            pattern = read_pattern(value)
            entries = [entry for entry in entries if pattern.matches(entry.name.encode())]
        elif by == b"ACLCAT":
            entries = [entry for entry in entries if value.decode("utf-8", "replace") in _categories(entry)]
        elif by == b"MODULE":
            entries = []
        else:
            raise syntax_error()
    return bulk_array(entry.name.encode() for entry in entries)


# -- GETKEYS ---------------------------------------------------------------------------------------


def _keys_of(words: list[bytes]) -> Iterator[tuple[bytes, list[str]]]:
    """The keys of a request, and what is done to them. Raises `BadRequest`, worded as Redis words it."""
    entry = _find(words)
    if entry is None:
        raise BadRequest("Invalid command specified")
    start, counted = entry.command.streams_from, entry.command.keys_counted_at
    if not entry.keys[0] and not start and not counted:
        raise BadRequest("The command has no key arguments")
    count = len(words)
    if count != entry.arity if entry.arity > 0 else count < -entry.arity:
        raise BadRequest("Invalid number of arguments specified for command")
    if start:
        at = next((at for at in range(start, count) if words[at].upper() == b"STREAMS"), count) + 1
        streams = (count - at) // 2
        if streams < 1:
            raise BadRequest("Invalid arguments specified for command")
        yield from ((name, entry.access.split()) for name in words[at : at + streams])
    if counted:
        keys = int(words[counted]) if words[counted].isdigit() and len(words[counted]) < 10 else 0
        if keys < count - counted:  # else Redis shows none
            yield from ((name, entry.access.split()) for name in words[counted + 1 : counted + 1 + keys])
    for each in _ranges(entry):
        last = each.first + each.last if each.last >= 0 else count + each.last
        access = each.access
        if "variable_flags" in access:  # SET reads the old value only with these
            looks = not {b"GET", *COMPARISONS}.isdisjoint(map(bytes.upper, words[3:]))
            access = ["RW", "access", "update"] if looks else ["OW", "update"]
        yield from ((name, access) for name in words[each.first : last + 1 : each.step])


# -- DOCS ------------------------------------------------------------------------------------------


def _docs(entry: Entry, v3: bool) -> bytes:
    doc = {
        b"summary": bulk(entry.summary.encode()),
        b"since": bulk(entry.command.since.encode()),
        b"group": bulk(entry.command.group.encode()),
        b"complexity": bulk(b"O(1)" if "fast" in entry.flags else b"O(N)"),
    }
    subs = entry.subs
    if subs:
        doc[b"subcommands"] = mapping({sub.name.encode(): _docs(sub, v3) for sub in subs}, v3)
    elif entry.syntax:
        argument = {b"name": bulk(b"arguments"), b"type": bulk(b"string"), b"display_text": bulk(entry.syntax.encode())}
        doc[b"arguments"] = array([mapping(argument, v3)])
    return mapping(doc, v3)


@command(
    "COMMAND",
    -1,
    "",
    "Tell about all commands.",
    group="server",
    since="2.8.13",
    flags="loading stale",
    differs="commands that are refused are not listed; flags and tips for several servers are left out",
    subcommands={
        "COUNT": Sub(2, "", "Show how many commands there are.", "loading stale reads"),
        "LIST": Sub(-2, "[FILTERBY MODULE name | ACLCAT category | PATTERN pattern]", "Show the commands' names.", "loading stale reads"),
        "INFO": Sub(-2, "[name …]", "Show arities, flags and keys.", "loading stale reads"),
        "DOCS": Sub(-2, "[name …]", "Show summaries and arguments.", "loading stale reads"),
        "GETKEYS": Sub(-3, "command [argument …]", "Show which arguments of a command are keys.", "loading stale reads"),
        "GETKEYSANDFLAGS": Sub(-3, "command [argument …]", "Show the keys, and what is done to them.", "loading stale reads"),
    },
)
def command_(session: RespSession, args: list[bytes]) -> Reply:
    v3, sub, rest = session.v3, args[1].upper() if len(args) > 1 else b"INFO", args[2:]
    load_table()
    if sub == b"COUNT":
        return integer(len(_named(session, [])))
    if sub == b"LIST":
        return _list(session, rest)
    if sub == b"INFO":
        return array([session.nil if entry is None else _info(entry, v3) for entry in _named(session, rest)])
    if sub == b"DOCS":
        return mapping({entry.name.encode(): _docs(entry, v3) for entry in _named(session, rest) if entry}, v3)
    keys = list(_keys_of(rest))
    if sub == b"GETKEYS":
        return bulk_array(name for name, _ in keys)
    return array([array([bulk(name), unordered([simple(word) for word in access], v3)]) for name, access in keys])
