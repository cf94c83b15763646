"""Which function answers which operation of the binary protocol.

A handler takes the session, the namespace, and the request's key, value and options, checked against the row in flo.operations; the
option `limit` is always there for an operation that takes it. It gives the payload of an OK answer, or a job that does, or a `Wait`, which
answers later, or `Held`; else it raises a refusal, or returns one that comes often. Most handlers are made from their row (rows.py);
`handles` adds one that is written by hand.
"""

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from flo.commands.runner import WAITING, Job, Later, Reply, Wait
from flo.engine import Namespace
from flo.errors import Refusal
from flo.operations import BY_NAME
from flo.proto.binary import MAGIC, OK, RESPONSE, Request, encode_refusal, value_limit
from flo.proto.row import Operation
from flo.proto.shapes import Pack, shape

if TYPE_CHECKING:
    from flo.commands.binary.session import BinarySession


class Held(NamedTuple):
    """A refusal that is held back for some seconds, by a timer."""

    seconds: float
    refusal: Refusal


Result = bytes | Job | Wait | Held | Refusal
Options = dict[str, Any]  # by name
Handler = Callable[["BinarySession", Namespace, bytes, bytes, Options], Result]
KEY_BYTES_MAX = 0xFFFF

Answerer = Callable[[Any, Any], Reply]  # gives the whole reply to a request without flags, as the runner calls it


class Served(NamedTuple):
    """An operation that is answered. `key_most` and `value_most` are how many bytes its key and value may have without another look at its
    row: -1 where each request needs one."""

    operation: Operation
    answer: Answerer
    key_most: int
    value_most: int
    defaults: Options


SERVED: dict[int, Served] = {}  # by the first eight bytes of a request without flags, as an integer
HEAD = struct.Struct("<4sHH")  # magic, code, flags


def head(code: int) -> int:
    """The key of SERVED for a code."""
    return int.from_bytes(HEAD.pack(MAGIC, code, 0), "little")


def serve(row: Operation, answer: Answerer) -> None:
    """Have `answer` give the whole reply of an operation."""
    key_most = -1 if row.required else KEY_BYTES_MAX if row.key else 0
    for code in row.codes:
        assert head(code) not in SERVED, f"{row.name} is handled twice"
        SERVED[head(code)] = Served(row, answer, key_most, value_limit(row) if row.value else 0, row.defaults)


def add_handler(row: Operation, handler: Handler) -> None:
    """Have `handler` answer the operation."""
    pack, plain = RESPONSE.pack, row.plain

    def answer(session: "BinarySession", request: Request) -> Reply:
        """The reply to a request without flags."""
        _, _, req_id, space, key, value, options = request
        engine = session.host.engine
        namespace = engine.by_hash.get(space)
        if namespace is None:
            namespace = engine.by_hash[0] if plain else engine.namespace_by_hash(space)
        result = handler(session, namespace, key, value, options)
        if type(result) is bytes:
            return pack(MAGIC, OK, 0, req_id, len(result)) + result
        return reply_of(result, request)

    serve(row, answer)


def reply_of(result: Result, request: Request) -> Reply:
    """What the runner is given for what a handler gave."""
    _, _, req_id, *_ = request
    if isinstance(result, bytes):
        return RESPONSE.pack(MAGIC, OK, 0, req_id, len(result)) + result
    if isinstance(result, Wait):
        result.request = request
        return WAITING
    return Later(result.seconds, encode_refusal(result.refusal, req_id)) if isinstance(result, Held) else result


def handles(name: str) -> Callable[[Handler], Handler]:
    """Add a handler for the operation of that name."""

    def add(handler: Handler) -> Handler:
        add_handler(BY_NAME[name], handler)
        return handler

    return add


def packs(name: str) -> Pack:
    """What makes the payload of an operation's answer."""
    return shape(BY_NAME[name].answer).pack
