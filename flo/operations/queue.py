# mypy: disable-error-code="empty-body"
"""The rows of the operations on queues (SPEC section 2.3): each declaration is a row (flo.operations.row)."""

from collections.abc import Iterable
from json import loads as _loads
from typing import Any, Final, NamedTuple

from flo.errors import BadRequest
from flo.given import Text, several, text, told
from flo.limits import DEQUEUE_MAX, LIST_ITEMS_MAX
from flo.operations.call import Call
from flo.operations.method import Operations
from flo.operations.row import call, operation
from flo.proto.row import Command, Http, Resp

MESSAGES = "count u32, (seq u64, priority u8, attempts u32, time i64, payload blob)*"
RECEIPTS = "count u32, (seq u64, attempt u32)*"
SEQS = "count u32, (seq u64)*"


class Message(NamedTuple):
    """A message of a queue. `time`, in Unix ms, is when it was enqueued; for a dead letter, when it died."""

    seq: int
    priority: int
    attempts: int
    time: int
    payload: bytes

    @property
    def receipt(self) -> tuple[int, int]:
        """The receipt of this delivery; it acknowledges no later one."""
        return self.seq, self.attempts

    def json(self) -> Any:
        """The payload as JSON. Raises `ValueError` if it is none."""
        return _loads(self.payload)


Receipt = Message | tuple[int, int] | str | bytes | int  # text is `seq-attempt`; a seq alone is the present lease, whoever holds it


def _receipt(receipt: Receipt) -> Any:
    if isinstance(receipt, Message):
        return receipt.receipt
    if isinstance(receipt, (str, bytes)):
        seq, dash, attempt = text(receipt, "receipt").partition("-")
        if not all(half.isascii() and half.isdigit() for half in ((seq, attempt) if dash else (seq,))):
            raise BadRequest(f"{receipt!r} is not a receipt; give a Message, (seq, attempt) or text such as '7-1'")
        return int(seq), int(attempt or 0)
    if isinstance(receipt, list) and receipt and not isinstance(receipt[0], int):
        raise TypeError(f"the receipt {told(receipt, 'receipt')}; give each one as an argument of its own: *messages")
    return (receipt, 0) if isinstance(receipt, int) else receipt


def _seq(message: Message | int) -> int:
    return message.seq if isinstance(message, Message) else message


def _give_back(taken: Call[Any], messages: list[Message]) -> Call[int] | None:
    return call(QueueOperations.nack)(taken.key, *messages) if messages else None


class QueueOperations(Operations):
    """The operations on queues. A receipt is a `Message`, (seq, attempt), or the text `seq-attempt`; a seq alone stands for the present
    lease, whoever holds it."""

    @operation(
        "queue_enqueue",
        0x20,
        "queues.enqueue",
        answer="seq u64",
        summary="Adds a message.",
        command=Command(
            "queue enqueue",
            "add a message to a queue",
            "seq",
            "OK, seq {}",
            {
                "payload": "the message; - reads it from standard input",
                "priority": "0 to 255; lower priorities go first. Default: 0",
                "delay": "ms until the message may be delivered",
                "dedup": "add nothing if this key was used in the last 300 s",
            },
        ),
        http=Http("POST queues/{ns}/{key}/messages"),
    )
    def enqueue(
        self,
        queue: Text,
        payload: Text | None = None,
        *,
        json: Any = ...,
        priority: int | None = None,
        delay: int | None = None,
        dedup: Text | None = None,
    ) -> int:
        """Add a message, `payload` or the JSON text of `json`; returns its seq. `delay` is in ms; lower priorities go first."""

    @operation(
        "queue_dequeue",
        0x21,
        answer=MESSAGES,
        summary="Leases messages: lowest priority first, and lowest seq first within a priority. If none is ready, the count is 0.",
        limits=(1, DEQUEUE_MAX),
        waits=True,
        undo=_give_back,
        command=Command(
            "queue dequeue",
            "lease messages and print them; exit 1 if none is ready",
            "messages",
            help={
                "limit": "how many. Default: 1",
                "lease": "the length of the lease. Default: the queue's own",
                "block": "ms to wait for a message; 0 for ever",
            },
        ),
        http=Http("POST queues/{ns}/{key}/dequeue", "messages"),
    )
    def dequeue(self, queue: Text, limit: int | None = None, *, lease: int | None = None, block: int | None = None) -> list[Message]:
        """Lease up to `limit` messages (1), for `lease` ms. `block` is how many ms to wait for the first, 0 for ever."""

    @operation(
        "queue_ack",
        0x22,
        "queues.ack",
        layout=RECEIPTS,
        answer="acked u32",
        repeats="once",
        summary="Removes messages that the client has finished.",
        item=_receipt,
        command=Command("queue ack", "acknowledge messages, which removes them", "count", "removed {} messages"),
        http=Http("POST queues/{ns}/{key}/ack"),
    )
    def ack(self, queue: Text, *receipts: Receipt) -> int:
        """Acknowledge and remove messages; returns how many of the receipts were valid."""

    @operation(
        "queue_nack",
        0x23,
        "queues.nack",
        layout=RECEIPTS,
        answer="given_back u32",
        repeats="once",
        summary="Gives messages back to their place. They become dead letters with to_dlq, or if their attempts are spent.",
        item=_receipt,
        command=Command(
            "queue nack",
            "give messages back to their place, or to the dead letters",
            "count",
            "gave back {} messages",
            {"delay": "ms until the messages may be delivered again", "dead": "to the dead letters"},
        ),
        resp=Resp(
            "QNACK",
            "Give messages back to their place, at once or after a delay, or to the dead letters.",
            "write fast",
            {"dead": "DLQ", "delay": "DELAY"},
        ),
        http=Http("POST queues/{ns}/{key}/nack"),
    )
    def nack(self, queue: Text, *receipts: Receipt, delay: int | None = None, dead: bool = False) -> int:
        """Give messages back, after `delay` ms, or to the dead letters; returns how many of the receipts were valid."""

    @operation(
        "queue_peek",
        0x24,
        "queues.peek",
        answer=MESSAGES,
        summary="Shows the messages that are ready, in the order of their delivery.",
        limits=(100, LIST_ITEMS_MAX),
        command=Command(
            "queue peek",
            "show the messages that are ready, in the order of their delivery",
            "messages",
            help={"limit": "how many. Default: 100"},
        ),
        reads=True,
        http=Http("GET queues/{ns}/{key}/messages", "messages"),
    )
    def peek(self, queue: Text, limit: int | None = None, *, clip: int | None = None) -> list[Message]:
        """The ready messages, in the order of their delivery. `clip` is the most bytes of each."""

    @operation(
        "queue_touch",
        0x25,
        "queues.touch",
        layout=RECEIPTS,
        answer="touched u32",
        repeats="once",
        summary="Extends leases.",
        item=_receipt,
        command=Command(
            "queue touch",
            "extend leases",
            "count",
            "extended {} messages",
            {"lease": "the length of the lease from now, in ms. Default: the queue's own lease"},
        ),
        resp=Resp("QTOUCH", "Extend leases to this many ms from now.", "write fast", first="lease"),
        http=Http("POST queues/{ns}/{key}/touch"),
    )
    def touch(self, queue: Text, *receipts: Receipt, lease: int | None = None) -> int:
        """Extend leases: they end `lease` ms from now. Returns how many of the receipts were valid."""

    @operation(
        "queue_dlq_list",
        0x26,
        "queues.dead_letters",
        answer=MESSAGES,
        summary="Shows dead letters, oldest first; time is when they died. The cursor is the seq last seen, in decimal.",
        limits=(100, LIST_ITEMS_MAX),
        reads=True,
        http=Http("GET queues/{ns}/{key}/dlq", "messages"),
    )
    def dead_letters(self, queue: Text, limit: int | None = None, *, cursor: Text = b"", clip: int | None = None) -> list[Message]:
        """Dead letters, oldest first. The `cursor` is the seq last seen, in decimal; `clip` is the most bytes of each."""

    @operation(
        "queue_dlq_requeue",
        0x27,
        "queues.requeue",
        layout=SEQS,
        answer="requeued u32",
        summary="Puts dead letters back into the queue; their failed deliveries no longer count.",
        item=_seq,
        http=Http("POST queues/{ns}/{key}/dlq/requeue"),
    )
    def requeue(self, queue: Text, seqs: Iterable[Message | int]) -> int:
        """Put dead letters back, each given by its `Message` or its seq; returns how many were found."""

    @operation(
        "queue_dlq_delete",
        0x28,
        "queues.delete_dead",
        layout=SEQS,
        value_note="empty means all",
        answer="deleted u32",
        summary="Deletes dead letters.",
        item=_seq,
        http=Http(
            "POST queues/{ns}/{key}/dlq/delete",
            one="DELETE queues/{ns}/{key}/dlq/{seq}",
            every="DELETE queues/{ns}/{key}/dlq",
        ),
    )
    def delete_dead(self, queue: Text, seqs: Iterable[Message | int] | None = None) -> int:
        """Delete dead letters, each given by its `Message` or its seq (None: all); returns how many."""

    @operation(
        "queue_stats",
        0x29,
        "queues.stats",
        answer="stats json",
        summary="Shows a queue's counts and configuration.",
        command=Command("queue stats", "show a queue's counts and configuration", "table"),
        resp=Resp("QSTATS", "Counts and configuration of a queue.", "readonly fast"),
        reads=True,
        http=Http("GET queues/{ns}/{key}"),
    )
    def stats(self, queue: Text) -> dict[str, Any]:
        """Counts and configuration."""

    @operation(
        "queue_purge",
        0x2A,
        "queues.purge",
        answer="removed u32",
        summary="Removes every message; dead letters stay.",
        command=Command("queue purge", "remove every message of a queue; dead letters stay", "count", "removed {} messages"),
        http=Http("POST queues/{ns}/{key}/purge"),
    )
    def purge(self, queue: Text) -> int:
        """Remove every message; returns how many there were."""

    @operation(
        "queue_list",
        0x2B,
        answer="queues json",
        summary="Lists the queues by name, with their stats.",
        limits=(100, LIST_ITEMS_MAX),
        reads=True,
        http=Http("GET queues/{ns}"),
    )
    def list_page(self, limit: int | None = None, cursor: Text = b"") -> dict[str, Any]:
        """The queues with their stats, a page at a time: docs/wire-protocol.md, "Queues"."""

    @operation(
        "queue_configure",
        0x2C,
        "queues.configure",
        repeats="same",
        summary="Sets a queue's own lease, or its maximum of attempts.",
        command=Command(
            "queue configure",
            "set a queue's own lease, or after how many deliveries a message that fails is dead",
            "done",
            help={
                "lease": "the length of a lease",
                "max_attempts": "deliveries after which a message that fails becomes a dead letter; 0: never",
            },
        ),
        resp=Resp(
            "QCONFIG",
            "Set a queue's own lease, or after how many deliveries a message that fails becomes a dead letter; 0 for never.",
            "write",
            {"lease": "LEASE", "max_attempts": "MAXATTEMPTS"},
        ),
        http=Http("PUT queues/{ns}/{key}"),
    )
    def configure(self, queue: Text, *, lease: int | None = None, max_attempts: int | None = None) -> None:
        """Set a queue's own lease (ms) or maximum of attempts (0 for no bound)."""

    @operation(
        "queue_pause",
        0x2D,
        "queues.pause",
        repeats="same",
        layout="paused bool",
        summary="Stops or resumes a queue's deliveries. A paused queue still takes messages, and stays paused over a restart.",
        command=Command("queue pause", "stop a queue's deliveries (on), or resume them (off)", "done"),
        resp=Resp("QPAUSE", "Stop or resume a queue's deliveries.", "write"),
        http=Http("POST queues/{ns}/{key}/pause"),
    )
    def pause(self, queue: Text, paused: bool) -> None:
        """Stop or resume the queue's deliveries. A paused queue still takes messages, and stays paused over a restart."""

    @operation(
        "queue_delete",
        0x2E,
        "queues.delete",
        summary="Deletes a queue with its messages, dead letters and configuration; a missing queue is no error.",
        command=Command("queue delete", "delete a queue with everything in it", "done", "OK"),
        http=Http("DELETE queues/{ns}/{key}"),
    )
    def delete(self, queue: Text) -> None:
        """Delete a queue with everything in it."""


queue_enqueue: Final = call(QueueOperations.enqueue)
queue_delete: Final = call(QueueOperations.delete)
queue_dequeue: Final = call(QueueOperations.dequeue)
queue_peek: Final = call(QueueOperations.peek)
queue_dead_letters: Final = call(QueueOperations.dead_letters)
queue_requeue: Final = call(QueueOperations.requeue)
queue_delete_dead: Final = call(QueueOperations.delete_dead)
queue_stats: Final = call(QueueOperations.stats)
queue_purge: Final = call(QueueOperations.purge)
queue_list: Final = call(QueueOperations.list_page)
queue_configure: Final = call(QueueOperations.configure)
queue_pause: Final = call(QueueOperations.pause)


def queue_ack(queue: Text, receipts: Iterable[Receipt]) -> Call[int]:
    """Acknowledge and remove messages; the result is how many of the receipts were valid."""
    return call(QueueOperations.ack)(queue, *several(receipts, "receipts"))


def queue_nack(queue: Text, receipts: Iterable[Receipt], *, delay: int | None = None, dead: bool = False) -> Call[int]:
    """Give messages back, or to the dead letters; the result is how many of the receipts were valid."""
    return call(QueueOperations.nack)(queue, *several(receipts, "receipts"), delay=delay, dead=dead)


def queue_touch(queue: Text, receipts: Iterable[Receipt], lease: int | None = None) -> Call[int]:
    """Extend leases; the result is how many of the receipts were valid."""
    return call(QueueOperations.touch)(queue, *several(receipts, "receipts"), lease=lease)
