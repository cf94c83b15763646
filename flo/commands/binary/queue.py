"""The hand-written handlers of the queue operations (SPEC section 2.3): operations that wait or answer page by page."""

from flo.commands.binary.names import NAMESPACE_DELETED, json_payload, json_text, page
from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import Options, Result, handles, packs
from flo.commands.runner import Job, Wait
from flo.engine import Namespace, Queues
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
    return _listed(queues, names, following)


CURSOR_MARK = b"q"
STATS_SLICE = 100  # queues whose oldest messages are read in one go: 2.5 ms if each is read from the disk's cache


def _listed(queues: Queues, names: list[bytes], following: str) -> Job:
    shown: list[dict[str, object]] = []
    for at in range(0, len(names), STATS_SLICE):
        if at:
            yield
        shown += ({"name": json_text(each), **queues.stats(each)} for each in names[at : at + STATS_SLICE])
    return json_payload({"queues": shown, "cursor": following})
