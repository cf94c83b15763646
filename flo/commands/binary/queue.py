"""The queue operations over the binary protocol (SPEC section 2.3) that do not follow from their rows: waits, pages."""

from flo.commands.binary.names import NAMESPACE_DELETED, json_payload, json_text, page
from flo.commands.binary.rows import namespace_of
from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import handles
from flo.commands.runner import WAITING, Reply, Wait
from flo.engine.queue import Message
from flo.errors import NotFound
from flo.operations.queue import MESSAGES
from flo.proto.binary import Request
from flo.proto.shapes import shape

_messages = shape(MESSAGES).pack


@handles("queue_dequeue")
def dequeue(session: BinarySession, request: Request) -> Reply:
    namespace, options = namespace_of(session, request), request.options
    queues, lease = namespace.queues, options.get("lease")
    limit = options.get("limit", request.operation.limits[0])
    if "block" not in options:
        return _messages(queues.dequeue(request.key, limit, lease=lease))
    found: list[Message] = []
    waiter: Wait | None = None

    def deliver(_name: bytes, messages: list[Message]) -> None:
        found.extend(messages)
        if waiter is not None:
            waiter.ready()

    taker = queues.take([request.key], limit, deliver, lease=lease)
    if taker is None:
        return _messages(found)

    def answer() -> bytes:
        if namespace.deleted:
            raise NotFound(NAMESPACE_DELETED)
        return _messages(found)

    try:
        waiter = Wait(session, request, options["block"], answer, holds=False)
    except BaseException:
        taker.cancel()
        raise
    waiter.ends_with(taker.cancel)
    return WAITING


@handles("queue_list")
def queue_list(session: BinarySession, request: Request) -> Reply:
    queues = namespace_of(session, request).queues
    names, following = page(request, queues.names(), CURSOR_MARK)
    return json_payload({"queues": [{"name": json_text(name), **queues.stats(name)} for name in names], "cursor": following})


CURSOR_MARK = b"q"
