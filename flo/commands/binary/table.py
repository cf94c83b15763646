"""The table of the binary protocol: the function that answers each operation.

A handler takes the session, the namespace, and the request's key, value and options. They are checked against the row in flo.operations;
the option `limit` is always there if the operation takes it. A handler returns the payload of an OK answer, a job that returns the payload,
a `Wait` that answers later, or a `Held`. It raises a refusal; a frequent refusal it may return instead. Most handlers are made from their
row (rows.py); `handles` adds a hand-written one.
"""

import struct
from collections.abc import Callable
from types import GeneratorType
from typing import TYPE_CHECKING, Any, NamedTuple

from flo.commands.host import EVERYTHING, LITTLE, READS
from flo.commands.runner import WAITING, Job, Later, Reply, Wait
from flo.engine import Namespace
from flo.errors import Refusal
from flo.limits import KEY_BYTES_MAX
from flo.operations import BY_NAME
from flo.proto.binary import MAGIC, OK, RESPONSE, Request, encode_response, value_limit
from flo.proto.row import Operation
from flo.proto.shapes import Pack, shape

if TYPE_CHECKING:
    from flo.commands.binary.session import BinarySession


class Held(NamedTuple):
    """An answer that a timer sends after some seconds: a payload, or a refusal."""

    seconds: float
    answer: bytes | Refusal


Result = bytes | Job | Wait | Held | Refusal
Options = dict[str, Any]  # by name
Handler = Callable[["BinarySession", Namespace, bytes, bytes, Options], Result]

Answerer = Callable[[Any, Any], Reply]  # called by the runner: the whole reply to a request without flags


class Served(NamedTuple):
    """An operation and its answerer. A key of up to `key_most` bytes and a value of up to `value_most` bytes need no check against the row;
    with -1 every request needs the check."""

    operation: Operation
    answer: Answerer
    key_most: int
    value_most: int
    defaults: Options


SERVED: dict[int, Served] = {}  # by the first eight bytes of a request without flags, as an integer
# … what may be decoded without a look at the session, by `Host.serves`
DECODED: tuple[dict[int, Served], ...] = ({}, {}, SERVED)
CLIP = "clip"  # the option
HEAD = struct.Struct("<4sHH")  # magic, code, flags


def head(code: int) -> int:
    """The key of SERVED for a code."""
    return int.from_bytes(HEAD.pack(MAGIC, code, 0), "little")


def serve(row: Operation, answer: Answerer) -> None:
    """Let `answer` give the whole reply of an operation."""
    key_most = -1 if row.required else KEY_BYTES_MAX if row.key else 0
    for code in row.codes:
        assert head(code) not in SERVED, f"{row.name} is handled twice"
        served = Served(row, answer, key_most, value_limit(row) if row.value else 0, row.defaults)
        for level in range(LITTLE if row.plain else READS if row.reads else EVERYTHING, EVERYTHING + 1):
            DECODED[level][head(code)] = served


def add_handler(row: Operation, handler: Handler) -> None:
    """Let `handler` answer the operation."""
    if CLIP in row.options:
        handler = _clipping(row, handler)
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


def _clipping(row: Operation, handler: Handler) -> Handler:
    """The handler, with the values in its answers cut where the option says so."""

    def clipping(session: "BinarySession", namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
        if CLIP not in options:
            return handler(session, namespace, name, value, options)
        most = options[CLIP]
        rest = {option: given for option, given in options.items() if option != CLIP}
        return clipped(row, handler(session, namespace, name, value, rest), most)

    return clipping


def clipped(row: Operation, result: Result, most: int) -> Result:
    """A handler's result with the values in its answer cut to `most` bytes."""
    if isinstance(result, bytes):
        return shape(row.answer).clip(result, most)
    if isinstance(result, GeneratorType):
        return _clipped_later(row, result, most)
    if isinstance(result, Wait):
        result.change(lambda made: clipped(row, made, most))
    return result


def _clipped_later(row: Operation, job: Job, most: int) -> Job:
    return clipped(row, (yield from job), most)


def reply_of(result: Result, request: Request) -> Reply:
    """The runner's reply for a handler's result."""
    _, _, req_id, *_ = request
    if isinstance(result, bytes):
        return RESPONSE.pack(MAGIC, OK, 0, req_id, len(result)) + result
    if isinstance(result, Wait):
        result.request = request
        return WAITING
    if isinstance(result, Held):
        seconds, answer = result
        return Later(seconds, answer if isinstance(answer, Refusal) else encode_response(OK, req_id, answer))
    return result


def handles(name: str) -> Callable[[Handler], Handler]:
    """Add a hand-written handler for the operation `name`."""

    def add(handler: Handler) -> Handler:
        add_handler(BY_NAME[name], handler)
        return handler

    return add


def packs(name: str) -> Pack:
    """The function that packs the payload of an operation's answer."""
    return shape(BY_NAME[name].answer).pack
