"""The short way of what is asked for often and has no lane in flat.py: some keys read at once, one message leased, acknowledged, one
record of bytes added.

The flat path calls these with a request's arguments, between its own lanes and the handlers. One gives the whole reply, or None where
something is in the way (somebody waits, a time has come, an option): then it has done nothing, and the command's handler, its twin,
is asked. tests/commands/test_flat.py holds the two equal.
"""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from flo.engine.stream import FIELDS, RAW, id_text
from flo.store.kv import PLAIN_MAX, SHARD_MASK

if TYPE_CHECKING:
    from flo.commands.session import RespSession

UNREAD_ARGUMENTS_MAX = 200  # of a command whose keys may be on disk (flo.store.unread): a look there takes 10 us
MGET_BYTES_MAX = 64 << 10  # more is answered in pieces, not put together first
Quick = Callable[["RespSession", list[bytes]], bytes | None]
QUICK: dict[bytes, Quick] = {}  # by the spellings clients use, upper and lower case

_ONE_FIELD = struct.Struct("<HH")  # flo.proto.fields: how many there are, the first one's name
_VALUE = struct.Struct("<I")


def quick(name: bytes) -> Callable[[Quick], Quick]:
    """Add one to the table."""

    def add(function: Quick) -> Quick:
        QUICK[name] = QUICK[name.lower()] = function
        return function

    return add


@quick(b"MGET")
def mget(session: "RespSession", args: list[bytes]) -> bytes | None:
    """Some keys, none of them a document or with a deadline."""
    store, nil = session.namespace.kv.store, session.nil
    if store.unread is not None and len(args) > UNREAD_ARGUMENTS_MAX:
        return None
    shards = store.shards
    parts = [b"*%d\r\n" % (len(args) - 1)]
    misses = size = 0
    for key in args[1:]:
        entry = shards[hash(key) & SHARD_MASK].get(key)
        if entry is None:
            misses += 1
            parts.append(nil)
        elif entry[-1] < PLAIN_MAX:
            size += len(entry)
            parts.append(entry[:-8])
        else:
            return None
    if size > MGET_BYTES_MAX:
        return None
    counters = session.host.counters
    counters.hits += len(parts) - 1 - misses
    counters.misses += misses
    return b"".join(parts)


@quick(b"QDEQUEUE")
def qdequeue(session: "RespSession", args: list[bytes]) -> bytes | None:
    found = session.namespace.queues.pop(args[1], False) if len(args) == 2 else None
    if found is None:
        return None
    seq, attempts, payload = found
    session.last_receipts = [(seq, attempts)]
    return b"*1\r\n*3\r\n:%d\r\n$%d\r\n%b\r\n:%d\r\n" % (seq, len(payload), payload, attempts)


@quick(b"QACK")
def qack(session: "RespSession", args: list[bytes]) -> bytes | None:
    if len(args) != 3:
        return None
    seq, dash, attempt = args[2].partition(b"-")
    # whole numbers of a usual size, written as usual: the handler knows the others
    if (
        not seq.isdigit()
        or seq[:1] == b"0"
        or len(seq) > 18
        or (dash and (not attempt.isdigit() or attempt[:1] == b"0" or len(attempt) > 9))
    ):
        return None
    count = session.namespace.queues.ack_one(args[1], int(seq), int(attempt) if dash else 0)
    return b":%d\r\n" % count if count >= 0 else None


@quick(b"XADD")
def xadd(session: "RespSession", args: list[bytes]) -> bytes | None:
    if len(args) != 5 or args[2] != b"*":
        return None
    field, value = args[3], args[4]
    if field == b"data":
        ident = session.namespace.streams.add(args[1], value, RAW)
    else:
        payload = b"".join((_ONE_FIELD.pack(1, len(field)), field, _VALUE.pack(len(value)), value))
        ident = session.namespace.streams.add(args[1], payload, FIELDS)
    if not ident:
        return None
    name = id_text(ident)
    return b"$%d\r\n%b\r\n" % (len(name), name)
