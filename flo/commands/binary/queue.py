"""The queue operations over the binary protocol (SPEC section 2.3)."""

from flo.commands.binary.names import NAMESPACE_DELETED, json_payload, json_text, page
from flo.commands.binary.session import BinarySession, Waiter
from flo.commands.binary.table import WAITING, Reply, handles
from flo.engine import Queues
from flo.engine.queue import MANY_MAX, Message
from flo.errors import BadRequest, NotFound
from flo.proto.binary import Request
from flo.proto.operations import MESSAGES, SEQS
from flo.proto.shapes import number, shape

_count = number("u32").pack


def _queues(session: BinarySession, request: Request) -> Queues:
    return session.host.engine.namespace_by_hash(request.namespace_hash).queues


def _messages(messages: list[Message]) -> bytes:
    return shape(MESSAGES).encode(messages)


def _limit(request: Request) -> int:
    return int(request.options.get("limit", request.operation.limits[0]))


def _lease(request: Request) -> int | None:
    lease: int | None = request.options.get("lease")
    if lease == 0:
        raise BadRequest("the option lease is 0 ms; it is 1 at least")
    return lease


@handles("queue_enqueue")
def enqueue(session: BinarySession, request: Request) -> Reply:
    options = request.options
    seq = _queues(session, request).enqueue(
        request.key,
        request.value,
        priority=options.get("priority", 0),
        delay=options.get("delay", 0),
        dedup=options.get("dedup_key"),
    )
    return shape(request.operation.answer).encode(seq)


@handles("queue_dequeue")
def dequeue(session: BinarySession, request: Request) -> Reply:
    queues, limit, lease = _queues(session, request), _limit(request), _lease(request)
    if "block" not in request.options:
        return _messages(queues.dequeue(request.key, limit, lease=lease))
    found: list[Message] = []
    waiter: Waiter | None = None

    def deliver(_name: bytes, messages: list[Message]) -> None:
        found.extend(messages)
        if waiter is not None:
            waiter.ready()

    taker = queues.take([request.key], limit, deliver, lease=lease)
    if taker is None:
        return _messages(found)
    namespace = session.host.engine.namespace_by_hash(request.namespace_hash)

    def answer() -> bytes:
        if namespace.deleted:
            raise NotFound(NAMESPACE_DELETED)
        return _messages(found)

    try:
        waiter = Waiter(session, request, request.options["block"], answer)
    except BaseException:
        taker.cancel()
        raise
    waiter.ends_with(taker.cancel)
    return WAITING


def _receipts(request: Request) -> list[tuple[int, int]]:
    receipts: list[tuple[int, int]] = shape(request.operation.value).decode(request.value, MANY_MAX)[0]
    return receipts


@handles("queue_ack")
def ack(session: BinarySession, request: Request) -> Reply:
    return _count(_queues(session, request).ack(request.key, _receipts(request)))


@handles("queue_nack")
def nack(session: BinarySession, request: Request) -> Reply:
    options = request.options
    return _count(_queues(session, request).nack(request.key, _receipts(request), delay=options.get("delay", 0), dead="to_dlq" in options))


@handles("queue_touch")
def touch(session: BinarySession, request: Request) -> Reply:
    return _count(_queues(session, request).touch(request.key, _receipts(request), _lease(request)))


@handles("queue_peek")
def peek(session: BinarySession, request: Request) -> Reply:
    return _messages(_queues(session, request).peek(request.key, _limit(request)))


@handles("queue_dlq_list")
def dlq_list(session: BinarySession, request: Request) -> Reply:
    return _messages(_queues(session, request).dead_letters(request.key, _limit(request)))


@handles("queue_dlq_requeue")
def dlq_requeue(session: BinarySession, request: Request) -> Reply:
    return _count(_queues(session, request).requeue(request.key, shape(SEQS).decode(request.value, MANY_MAX)[0]))


@handles("queue_dlq_delete")
def dlq_delete(session: BinarySession, request: Request) -> Reply:
    seqs = shape(SEQS).decode(request.value, MANY_MAX)[0] if request.value else None
    return _count(_queues(session, request).delete_dead(request.key, seqs))


@handles("queue_stats")
def stats(session: BinarySession, request: Request) -> Reply:
    return json_payload(_queues(session, request).stats(request.key))


@handles("queue_purge")
def purge(session: BinarySession, request: Request) -> Reply:
    return _count(_queues(session, request).purge(request.key))


@handles("queue_configure")
def configure(session: BinarySession, request: Request) -> Reply:
    _queues(session, request).configure(request.key, lease=_lease(request), max_attempts=request.options.get("max_attempts"))
    return b""


@handles("queue_list")
def queue_list(session: BinarySession, request: Request) -> Reply:
    queues = _queues(session, request)
    names, following = page(request, queues.names(), CURSOR_MARK)
    return json_payload({"queues": [{"name": json_text(name), **queues.stats(name)} for name in names], "cursor": following})


CURSOR_MARK = b"q"
