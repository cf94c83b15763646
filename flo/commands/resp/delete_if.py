"""Compare and delete: Redis 8.4's DELEX and Valkey 9's DELIFEQ, with which a lock is released by its holder only."""

from flo.commands.resp.keys import del_
from flo.commands.resp.session import RespSession, wrong_arity
from flo.commands.resp.strings import COMPARISONS, holds, live_text
from flo.commands.resp.table import command
from flo.commands.runner import Reply
from flo.errors import BadRequest
from flo.proto.resp import ONE, ZERO


def delete_if(session: RespSession, key: bytes, comparison: bytes, value: bytes) -> bool:
    """Delete a key if what it holds is as one of COMPARISONS says; returns whether it was deleted. Raises `WrongKind`, `BadRequest`."""
    found = live_text(session, key)
    return holds(comparison, found, value) and found is not None and session.namespace.kv.discard(key)


@command(
    "DELEX",
    -2,
    "key [IFEQ value | IFNE value]",
    "Delete a key, with IFEQ only if it holds this value, with IFNE only if it holds another.",
    group="string",
    since="8.4.0",
    keys=(1, 1, 1),
    access="RW delete",
    flags="write fast",
    differs="IFDEQ and IFDNE, which compare digests, are refused",
)
def delex(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) == 2:
        return del_(session, args)
    if len(args) != 4:
        return wrong_arity("delex")
    comparison = args[2].upper()
    if comparison not in COMPARISONS:
        return BadRequest("Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE")
    return ONE if delete_if(session, args[1], comparison, args[3]) else ZERO


@command(
    "DELIFEQ",
    3,
    "key value",
    "Delete a key if it holds this value.",
    group="string",
    since="Valkey 9.0.0",
    keys=(1, 1, 1),
    access="RW access delete",
    flags="write fast",
)
def delifeq(session: RespSession, args: list[bytes]) -> Reply:
    return ONE if delete_if(session, args[1], b"IFEQ", args[2]) else ZERO
