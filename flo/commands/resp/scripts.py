"""EVAL, EVALSHA and SCRIPT, in the profile `redis`: the well-known scripts of locks, caches and counters, and no other.

Flo runs no Lua. A script that a library is known to send is recognised by its text without comments and white space, and what it means
is done here in a few calls of the engine: within one command, so nobody sees a part of it. KNOWN lists them, by the SHA-1 of that text.
A program that sends another script is told so, when it sends it or loads it.
"""

import re
from collections.abc import Callable
from functools import partial
from hashlib import sha1
from typing import NamedTuple

from flo.commands.resp.arguments import integer
from flo.commands.resp.delete_if import delete_if
from flo.commands.resp.keys import pexpire, ttl
from flo.commands.resp.session import RespSession, Worded
from flo.commands.resp.strings import incrby, live_text, set_
from flo.commands.resp.table import Sub, command
from flo.commands.runner import Job, Reply
from flo.errors import BadRequest
from flo.proto.resp import OK, ONE, ZERO, array, bulk
from flo.proto.resp import integer as integer_reply
from flo.store.pattern import read_pattern

NOT_HERE = (
    "Flo runs no scripts in the profile `flo`; use CAS, DELIFEQ, one JSON document, or a plain pipeline; or set resp.profile to `redis`"
)
UNKNOWN = (
    "Flo runs no Lua, only the scripts of locks and caches that docs/redis.md lists; use DELIFEQ, MULTI with WATCH, or one JSON document"
)
NO_SCRIPT = "NOSCRIPT No matching script. Please use EVAL."  # clients match on it: they send the text then
SCRIPT_BYTES_MAX = 16 << 10  # no known one has a tenth of it
DELETE_SLICE = 500  # keys deleted in one slice: 2 ms
LOADED_MAX = 1000  # texts that EVALSHA knows: one known script may be written in many ways

Words = list[bytes]
Run = Callable[[RespSession, Words, Words], Reply]  # what a script does with its KEYS and its ARGV

_TOKEN = re.compile(rb"(--\[\[.*?\]\]|--[^\n]*|\s+)|\"((?:\\.|[^\"\\])*)\"|'((?:\\.|[^'\\])*)'|(\w+|.)", re.DOTALL)
_ANY_PREFIX = re.compile(rb"(.*):\*", re.DOTALL)


def canonical(text: bytes) -> tuple[bytes, Words]:
    """A script's text without comments and white space, its strings in single quotes; and the names before `:*` in it, which are left out:
    fastapi-cache2 writes its namespace into the text."""
    tokens: Words = []
    names: Words = []
    for space, double, single, other in _TOKEN.findall(text):
        if space:
            continue
        string = double or single
        name = _ANY_PREFIX.fullmatch(string)
        if name is not None:
            names.append(name[1])
            string = b":*"
        tokens.append(other or b"'%b'" % string)
    return b" ".join(tokens), names


# -- what they do ----------------------------------------------------------------------------------


def _delete_if_held(session: RespSession, keys: Words, args: Words) -> Reply:
    return ONE if delete_if(session, keys[0], b"IFEQ", args[0]) else ZERO


def _extend(session: RespSession, keys: Words, args: Words) -> Reply:
    found = live_text(session, keys[0])
    if found is None or found.value != args[0] or not found.deadline:
        return ZERO
    left = found.deadline - session.host.engine.now if args[2] == b"0" else 0
    pexpire(session, [b"PEXPIRE", keys[0], b"%d" % (integer(args[1]) + left)])
    return ONE


def _reacquire(session: RespSession, keys: Words, args: Words) -> Reply:
    found = live_text(session, keys[0])
    if found is None or found.value != args[0]:
        return ZERO
    pexpire(session, [b"PEXPIRE", keys[0], args[1]])
    return ONE


def _set_if_equal(session: RespSession, keys: Words, args: Words) -> Reply:
    found = live_text(session, keys[0])
    if found is None or found.value != args[1]:
        return ZERO
    return set_(session, [b"SET", keys[0], args[0], *(args[2:4] if len(args) == 4 else ())])


def _take_or_keep(session: RespSession, keys: Words, args: Words) -> Reply:
    found = live_text(session, keys[0])
    if found is not None and found.value != args[0]:
        return Worded("ERR ERROR")
    return set_(session, [b"SET", keys[0], args[0], b"PX", args[1]])


def _release(session: RespSession, keys: Words, args: Words) -> Reply:
    if live_text(session, keys[0]) is None:
        return OK
    return _delete_if_held(session, keys, args) if _is_held(session, keys, args) else Worded("ERR ERROR")


def _time_left(session: RespSession, keys: Words, args: Words) -> Reply:
    return ttl(session, [b"TTL", keys[0]]) if _is_held(session, keys, args) else Worded("ERR ERROR")


def _is_held(session: RespSession, keys: Words, args: Words) -> bool:
    found = live_text(session, keys[0])
    return found is not None and found.value == args[0]


def _count_within(session: RespSession, keys: Words, args: Words) -> Reply:
    value, _ = session.namespace.kv.incr(keys[0], integer(args[0]))
    if value == 1:
        pexpire(session, [b"PEXPIRE", keys[0], args[1]])
    return integer_reply(value)


def _count(session: RespSession, keys: Words, args: Words) -> Reply:
    return incrby(session, [b"INCRBY", keys[0], args[0]])


def _count_if_there(session: RespSession, keys: Words, args: Words) -> Reply:
    return _count(session, keys, args) if session.namespace.kv.exists(keys[0]) else session.nil


def _delete_below(session: RespSession, keys: Words, args: Words, prefix: bytes) -> Reply:
    """Delete what KEYS finds, with a colon behind the prefix."""
    if session.executing:
        return BadRequest("this script deletes in slices, and a transaction has none; send it outside of MULTI")
    return _delete_found(session, prefix + b":*")


def _delete_found(session: RespSession, pattern: bytes) -> Job:
    kv, wanted = session.namespace.kv, read_pattern(pattern)
    after: bytes | None = None
    while True:
        found, more = yield from kv.scan_job(wanted.prefix, after, DELETE_SLICE)
        if found:
            after = found[-1]
        kv.delete_many(kv.live_keys(found if wanted.whole_prefix else (yield from wanted.matching(found))))
        if not more:
            return [session.nil]
        yield


class Script(NamedTuple):
    """A script that is known: who sends it, how many KEYS and ARGV it needs, and what it does."""

    source: str
    summary: str
    keys: int
    args: int
    run: Callable[..., Reply]  # a `Run`; with `names`, followed by them
    names: int = 0  # before `:*` in its text


KNOWN: dict[str, Script] = {
    "ace5a811f77a0cf3adfeb914974b0ad5d10b8f83": Script("redis-py, Lock.release", "delete a key that has the token", 1, 1, _delete_if_held),
    "7c7d1dc5bb65e67ad6abbabe71cb186d3520ffea": Script("redis-py, Lock.extend", "more time for a key that has the token", 1, 3, _extend),
    "a3f1addc2abfcd56545810c576740af3453db5fb": Script("redis-py, Lock.reacquire", "its time anew", 1, 2, _reacquire),
    "12adb7ee74b71bcc6beb6d45e6a223915cb58851": Script(
        "aiocache, redlock-py, Beaker, and the documentation of SET", "delete a key that has the token", 1, 1, _delete_if_held
    ),
    "209ef6f7e8a1a79938df1ba1f7c795d94120ca66": Script("cashews, unlock", "delete a key that has the token", 1, 1, _delete_if_held),
    "f55baf4f9132de9e05c7eb5f7dd86ed08dfd73e1": Script(
        "cashews, incr with expire", "count, and expire from the first", 1, 2, _count_within
    ),
    "3baef74be4c282075a90042c340ac711d24ef3a9": Script("aiocache, optimistic lock", "set a key that has the value", 1, 2, _set_if_equal),
    "ea5c7eff9726722ba95ca34706dec4f7064f320a": Script("aioredlock, lock and extend", "take a key, or keep it", 1, 2, _take_or_keep),
    "2856eb77ebcc057c89b104e68d6bf19d22fae36e": Script("aioredlock, unlock", "delete a key that has the token", 1, 1, _release),
    "de9bd8be7e1f475c5a711b1d149cb269da44902e": Script("aioredlock, time left", "TTL of a key that has the token", 1, 1, _time_left),
    "951eb97f3af2d07bcc2a92387390fc9fea0e398c": Script("django-redis, incr", "add to a counter that exists", 1, 1, _count_if_there),
    "450e51d14261d8fa9248bf2415bc0937c8511e6b": Script("django-redis, incr without a look", "add to a counter", 1, 1, _count),
    "b32784303d04c1ee807ca297a993fcab6869a7dc": Script(
        "fastapi-cache2, clear a namespace", "delete the keys under a prefix; in slices", 0, 0, _delete_below, names=1
    ),
}


# -- the commands ----------------------------------------------------------------------------------


def _loaded(session: RespSession, text: bytes) -> tuple[bytes, Run] | None:
    """(the SHA-1 that EVALSHA names it by, what it does), from here on; None where the script is not known."""
    if len(text) > SCRIPT_BYTES_MAX:
        return None
    loaded = session.host.scripts
    digest = sha1(text, usedforsecurity=False).hexdigest().encode()
    if digest not in loaded:
        body, names = canonical(text)
        known = KNOWN.get(sha1(body, usedforsecurity=False).hexdigest())
        if known is None or len(names) != known.names or any(b"\\" in name for name in names):
            return None
        if len(loaded) >= LOADED_MAX:
            del loaded[next(iter(loaded))]  # who used it sends it again
        loaded[digest] = partial(_run, known, names)
    return digest, loaded[digest]


def _run(known: Script, names: Words, session: RespSession, keys: Words, args: Words) -> Reply:
    if len(keys) < known.keys or len(args) < known.args:
        return BadRequest(f"this script ({known.source}) takes {known.keys} keys and {known.args} arguments, and got fewer")
    return known.run(session, keys, args, *names)


def _perform(session: RespSession, run: Run, args: Words) -> Reply:
    count = integer(args[2])
    if count < 0:
        return BadRequest("Number of keys can't be negative")
    if count > len(args) - 3:
        return BadRequest("Number of keys can't be greater than number of args")
    return run(session, args[3 : 3 + count], args[3 + count :])


@command(
    "EVAL",
    -3,
    "script numkeys [key …] [argument …]",
    "Does what a well-known script does.",
    group="scripting",
    since="2.6.0",
    flags="skip_monitor no_mandatory_keys movablekeys",
    access="RW access update",
    keys_counted_at=2,
    redis_only=NOT_HERE,
    differs="only the scripts in the list below; every other is refused",
)
def eval_(session: RespSession, args: list[bytes]) -> Reply:
    found = _loaded(session, args[1])
    return BadRequest(f"this script is not known: {UNKNOWN}") if found is None else _perform(session, found[1], args)


@command(
    "EVALSHA",
    -3,
    "sha1 numkeys [key …] [argument …]",
    "Does what a script does that was loaded, or sent by EVAL.",
    group="scripting",
    since="2.6.0",
    flags="skip_monitor no_mandatory_keys movablekeys",
    access="RW access update",
    keys_counted_at=2,
    redis_only=NOT_HERE,
    differs="a start forgets what was loaded",
)
def evalsha(session: RespSession, args: list[bytes]) -> Reply:
    run = session.host.scripts.get(args[1].lower())
    return Worded(NO_SCRIPT) if run is None else _perform(session, run, args)


@command(
    "SCRIPT",
    -2,
    "",
    "Loads well-known scripts for EVALSHA.",
    group="scripting",
    since="2.6.0",
    subcommands={
        "LOAD": Sub(3, "script", "Load a script; answers its SHA-1.", "noscript"),
        "EXISTS": Sub(-3, "sha1 [sha1 …]", "Show which scripts are loaded.", "noscript reads"),
        "FLUSH": Sub(-2, "[ASYNC | SYNC]", "Forget what was loaded.", "noscript"),
    },
    redis_only=NOT_HERE,
)
def script(session: RespSession, args: list[bytes]) -> Reply:
    sub, loaded = args[1].upper(), session.host.scripts
    if sub == b"EXISTS":
        return array([ONE if each.lower() in loaded else ZERO for each in args[2:]])
    if sub == b"FLUSH":
        if len(args) > 3 or (len(args) == 3 and args[2].upper() not in (b"ASYNC", b"SYNC")):
            return BadRequest("SCRIPT FLUSH only support SYNC|ASYNC option")
        loaded.clear()
        return OK
    found = _loaded(session, args[2])
    return BadRequest(f"this script is not known: {UNKNOWN}") if found is None else bulk(found[0])
