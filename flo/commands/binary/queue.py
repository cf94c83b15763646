"""The hand-written handlers of the queue operations (SPEC section 2.3): operations that wait or answer page by page."""

from flo.commands.binary.names import NAMESPACE_DELETED, json_payload, json_text, page
from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import Options, Result, handles, packs
from flo.commands.runner import Wait
from flo.engine import Namespace
from flo.engine.queue import Message
from flo.errors import NotFound

_messages = packs("queue_dequeue")


@handles("queue_dequeue")
def dequeue(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Result:
    queues, limit, lease = namespace.queues, options["limit"], options.get("lease")
    if "block" not in options:
        return _messages(queues.dequeue(name, limit, lease=lease))
    found: list[Message] = []
    waiter: Wait | None = None

    def deliver(_name: bytes, messages: list[Message]) -> None:
        found.extend(messages)
        if waiter is not None:
            waiter.ready()

    taker = queues.take([name], limit, deliver, lease=lease)
    if taker is None:
        return _messages(found)

    def answer() -> bytes:
        if namespace.deleted:
            raise NotFound(NAMESPACE_DELETED)
        return _messages(found)

    try:
        waiter = Wait(session, None, options["block"], answer)
    except BaseException:
        taker.cancel()
        raise
    waiter.ends_with(taker.cancel)
    return waiter


@handles("queue_list")
def queue_list(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Result:
    queues = namespace.queues
    names, following = page("queue_list", options, queues.names(), CURSOR_MARK)
    return json_payload({"queues": [{"name": json_text(each), **queues.stats(each)} for each in names], "cursor": following})


CURSOR_MARK = b"q"
