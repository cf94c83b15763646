"""The bulk load of messages and of stream records."""

import struct
from array import array
from collections.abc import Sequence
from typing import Any, ClassVar

from flo.engine.bulk import Rows, column_bytes
from flo.store.stream import SEQ_BITS
from flo.ual.columns import extend, from_bytes
from flo.ual.layouts import Group
from flo.ual.record import MESSAGE_STATE, QUEUE_MESSAGE, QUEUE_MESSAGE_RIGHT, RECORD_STATE, STREAM_ID, STREAM_RECORD, U16, U64

AT_ONCE = bytes(MESSAGE_STATE.size)  # the state of a message of priority 0 and without a delay
RIGHT = 256  # the order of messages that were put in at the right end; those of the others are their priorities

_ID_AND_STATE = struct.Struct("<QQBQ")  # of a stream's record: ms, seq, kind, number among all
assert _ID_AND_STATE.size == STREAM_ID.size + RECORD_STATE.size


class BulkMessages(Rows):
    """New messages of queues: those of priority 0, ready at once, out of batches; all that are ready, out of bases."""

    type = QUEUE_MESSAGE
    types: ClassVar[frozenset[int]] = frozenset((QUEUE_MESSAGE, QUEUE_MESSAGE_RIGHT))

    def order_of(self, kind: int) -> int:
        """See `Rows`."""
        return RIGHT if kind == QUEUE_MESSAGE_RIGHT else 0

    def take(self, index: int, namespace: int, kind: int, body: bytes, start: int, middle: int, end: int) -> bool:
        """See `Bulk`."""
        name, order = body[start + U16.size : middle - U64.size], self.order_of(kind)
        if not body.startswith(AT_ONCE, middle) or (self.whose != (namespace, name, order) and not self.enter(namespace, name, order)):
            return False
        self.columns[0].append(index)
        return True

    def may_run(self, first: int, body: bytes, at: int, middle: int) -> bool:
        """See `Rows`."""
        return body.startswith(U64.pack(first) + AT_ONCE, at + middle - U64.size)

    def gather_run(self, first: int, count: int, body: bytes, at: int, length: int, middle: int) -> None:
        """See `Rows`: a message's index is all there is to it."""

    def take_run(self, first: int, namespace: int, kind: int, state_bytes: int, columns: list[tuple[bytes, ...]]) -> int:
        """See `Bulk`."""
        containers, seqs, states = columns
        count = len(containers)
        if containers.count(containers[0]) != count or states.count(AT_ONCE) != count or seqs[0] != U64.pack(first):
            return 0
        if not self.enter(namespace, containers[0][U16.size :], self.order_of(kind)):
            return 0
        extend(self.columns[0], first, 1, count)
        return count

    def group(self, group: Group) -> None:
        """See `Bulk`."""
        super().group(group._replace(order=RIGHT) if group.type == QUEUE_MESSAGE_RIGHT else group)

    def store_rows(self, part: Any, name: bytes, order: int, columns: Sequence["array[int]"], last: int) -> None:
        """See `Rows`."""
        (seqs,) = columns
        if order == RIGHT:
            part.store.open(name).right = None
            order = 0
        if len(seqs) > 1:
            part.store.extend(name, order, seqs)
        else:
            part.store.message(seqs[0], name, order, 0)


class BulkRecords(Rows):
    """Records of streams."""

    type = STREAM_RECORD
    types: ClassVar[frozenset[int]] = frozenset((STREAM_RECORD,))

    def take(self, index: int, namespace: int, kind: int, body: bytes, start: int, middle: int, end: int) -> bool:
        """See `Bulk`."""
        name = body[start + U16.size : middle - STREAM_ID.size]
        if self.whose != (namespace, name, 0) and not self.enter(namespace, name):
            return False
        indexes, ms, seqs, sizes = self.columns
        time, seq, _, self.last = _ID_AND_STATE.unpack_from(body, middle - STREAM_ID.size)
        indexes.append(index)
        ms.append(time)
        seqs.append(seq)
        sizes.append(end - middle - RECORD_STATE.size)
        return True

    def gather_run(self, first: int, count: int, body: bytes, at: int, length: int, middle: int) -> None:
        """See `Rows`."""
        halves = from_bytes("Q", column_bytes(body, at + middle - STREAM_ID.size, STREAM_ID.size, count, length))
        last = RECORD_STATE.unpack_from(body, at + (count - 1) * length + middle)[1]
        self._gather_columns(halves, length - middle - RECORD_STATE.size, last)

    def take_run(self, first: int, namespace: int, kind: int, state_bytes: int, columns: list[tuple[bytes, ...]]) -> int:
        """See `Bulk`."""
        containers, ids, states = columns
        count = len(containers)
        if containers.count(containers[0]) != count or not self.enter(namespace, containers[0][U16.size :]):
            return 0
        extend(self.columns[0], first, 1, count)
        self._gather_columns(from_bytes("Q", b"".join(ids)), state_bytes - RECORD_STATE.size, RECORD_STATE.unpack(states[-1])[1])
        return count

    def _gather_columns(self, halves: "array[int]", size: int, last: int) -> None:
        """Add ids, as ms and seq in turn, of records with payloads of one size."""
        _, ms, seqs, sizes = self.columns
        ms += halves[::2]
        seqs += halves[1::2]
        sizes += array("I", (size,)) * (len(halves) // 2)
        self.last: int = last

    def store_rows(self, part: Any, name: bytes, order: int, columns: Sequence["array[int]"], last: int) -> None:
        """See `Rows`."""
        indexes, ms, seqs, sizes = columns
        if len(ms) > 1:
            part.store.extend(name, indexes, ms, seqs, sizes, last)
        else:
            part.store.append(indexes[0], name, ms[0] << SEQ_BITS | seqs[0], last, sizes[0])
