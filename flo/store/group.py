"""A consumer group of a stream: its cursor, and the records that were delivered and not acknowledged.

    pending     id -> Pending: its consumer, since when, the number of deliveries, until when
    order       the same ids, ascending; each consumer has the ids that are pending with it
    lapsed      ids whose deadline has passed: the next reader gets them
    dead        id -> Dead: set aside after too many deliveries, oldest first

Ids are ints, as in store/stream.py.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from flo.store.tables import squeeze

ACK_TIMEOUT_MS = 30_000
DELIVERIES_DEFAULT = 10
Bytes = bytes  # for the signatures of classes that have an attribute `bytes`: that is the word's meaning there to type checkers
NOT_COUNTED = -1  # of `Group.read`: the number of records before the cursor is not known
IDS_CHUNK = 512
SQUEEZE_EACH = 1024  # a power of two: the table of pending records is checked each time their number is a multiple of it

# By sys.getsizeof and the growth of RSS over a million pending records.
PENDING_BYTES = 235
TIMED_BYTES = 60  # of a pending record with a deadline: its number in the timers, which account the rest
DEAD_BYTES = 235
GROUP_BYTES = 830  # besides its name
CONSUMER_BYTES = 300  # besides its name


class Pending(NamedTuple):
    """A record that was delivered. Times are ms; a `deadline` of 0 is none."""

    consumer: bytes
    time: int
    deliveries: int
    deadline: int

    def idle(self, now: int) -> int:
        """The ms since its delivery; 0 if the clock was ahead at that time."""
        return max(now - self.time, 0)


class Dead(NamedTuple):
    """A record that was set aside. `consumer` is its last consumer, `time` (ms) when it was set aside."""

    consumer: bytes
    deliveries: int
    time: int


class SortedIds:
    """A set of ids in order: lists of up to 1,024."""

    __slots__ = ("_chunks", "count")

    def __init__(self) -> None:
        self._chunks: list[list[int]] = []
        self.count: int = 0

    def __len__(self) -> int:
        return self.count

    def add(self, ident: int) -> None:
        """Add an id, unless it is there."""
        chunks = self._chunks
        if not chunks or ident > chunks[-1][-1]:
            self.count += 1
            if chunks and len(chunks[-1]) < IDS_CHUNK:
                chunks[-1].append(ident)
            else:
                chunks.append([ident])
            return
        at = max(bisect_right(chunks, ident, key=_first) - 1, 0)
        chunk = chunks[at]
        place = bisect_left(chunk, ident)
        if place < len(chunk) and chunk[place] == ident:
            return
        self.count += 1
        chunk.insert(place, ident)
        if len(chunk) > 2 * IDS_CHUNK:
            chunks.insert(at + 1, chunk[IDS_CHUNK:])
            del chunk[IDS_CHUNK:]

    def discard(self, ident: int) -> None:
        """Take an id out, if it is there."""
        at = bisect_right(self._chunks, ident, key=_first) - 1
        if at < 0:
            return
        chunk = self._chunks[at]
        place = bisect_left(chunk, ident)
        if place < len(chunk) and chunk[place] == ident:
            del chunk[place]
            self.count -= 1
            if not chunk:
                del self._chunks[at]

    def first(self) -> int | None:
        """The lowest id."""
        return self._chunks[0][0] if self._chunks else None

    def last(self) -> int | None:
        """The highest id."""
        return self._chunks[-1][-1] if self._chunks else None

    def start(self, ident: int) -> Iterator[int]:
        """The ids from `ident` on, ascending. The set may not change meanwhile."""
        at = max(bisect_right(self._chunks, ident, key=_first) - 1, 0)
        for number in range(at, len(self._chunks)):
            chunk = self._chunks[number]
            place = bisect_left(chunk, ident) if number == at else 0
            for there in range(place, len(chunk)):
                yield chunk[there]


def _first(chunk: list[int]) -> int:
    return chunk[0]


class Consumer:
    """One consumer of a group. The log does not have the time when it was last seen: after a restart `seen` is the time of its creation."""

    __slots__ = ("active", "name", "order", "seen")

    def __init__(self, name: bytes, time: int) -> None:
        self.name: bytes = name
        self.order: SortedIds = SortedIds()  # of the ids pending with it
        self.seen: int = time  # when it last sent a request, ms
        self.active: int = -1  # when it last got a record, ms; -1 for never


class Group:
    """One consumer group."""

    # fmt: off
    __slots__ = (
        "ack_timeout", "bytes", "consumers", "dead", "declared", "evicted", "gone", "lapsed", "last", "max_deliver", "name", "number",
        "order", "own", "pending", "read", "stream",
    )
    # fmt: on

    def __init__(self, stream: Bytes, name: Bytes, number: int) -> None:
        self.stream: bytes = stream  # its name
        self.name: bytes = name
        self.number: int = number
        self.declared: bool = False  # the group's own record has been applied
        self.gone: bool = False  # to be freed in slices
        self.own: bool = False  # made by Flo's own operations: the group redelivers by itself
        self.last: int = 0  # the cursor: the highest id delivered
        self.read: int = 0  # the number of records of the stream before the cursor, or NOT_COUNTED
        self.ack_timeout: int = 0  # ms; 0 for never
        self.max_deliver: int = 0  # 0 for no bound
        self.evicted: int = 0  # dead letters that fell off
        self.pending: dict[int, Pending] = {}
        self.order: SortedIds = SortedIds()
        self.lapsed: SortedIds = SortedIds()
        self.dead: OrderedDict[int, Dead] = OrderedDict()
        self.consumers: dict[bytes, Consumer] = {}
        self.bytes: int = 0

    def declare(self, last: int, read: int, own: bool, ack_timeout: int, max_deliver: int, evicted: int) -> None:
        """Apply the group's own record."""
        self.declared = True
        self.last, self.read, self.own = last, read, own
        self.ack_timeout, self.max_deliver, self.evicted = ack_timeout, max_deliver, evicted

    def take_after(self, other: "Group") -> None:
        """Take over the declaration of `other`."""
        self.declare(other.last, other.read, other.own, other.ack_timeout, other.max_deliver, other.evicted)

    # Each of these returns the change in bytes.

    def pend(self, ident: int, pending: Pending) -> int:
        """A record is pending; it was neither pending nor dead in this group before."""
        grown = 0
        consumer = self.consumers.get(pending.consumer)
        if consumer is None:
            grown = self.consume(pending.consumer, pending.time)
            consumer = self.consumers[pending.consumer]
        if pending.consumer is not consumer.name:  # else a name of 60 KB would be in memory once for each of its records
            pending = Pending(consumer.name, pending.time, pending.deliveries, pending.deadline)
        self.pending[ident] = pending
        self.order.add(ident)
        consumer.order.add(ident)
        return grown + self._grow(PENDING_BYTES + (TIMED_BYTES if pending.deadline else 0))

    def forget(self, ident: int) -> int:
        """Drop a record from the pending ones and the dead letters."""
        if self.dead and self.dead.pop(ident, None) is not None:
            return self._grow(-DEAD_BYTES)
        pending = self.pending.pop(ident, None)
        if pending is None:
            return 0
        if not len(self.pending) & (SQUEEZE_EACH - 1):
            squeeze(self.pending)
        self.order.discard(ident)
        self.lapsed.discard(ident)
        consumer = self.consumers.get(pending.consumer)
        if consumer is not None:
            consumer.order.discard(ident)
        return self._grow(-PENDING_BYTES - (TIMED_BYTES if pending.deadline else 0))

    def die(self, ident: int, dead: Dead) -> int:
        """A record is a dead letter; it was neither pending nor dead in this group before."""
        consumer = self.consumers.get(dead.consumer)
        if consumer is not None and dead.consumer is not consumer.name:
            dead = dead._replace(consumer=consumer.name)
        self.dead[ident] = dead
        return self._grow(DEAD_BYTES)

    def consume(self, name: Bytes, time: int) -> int:
        """A new consumer of this name exists. If there is an older one, it was dismissed in between."""
        there = self.consumers.get(name)
        if there is not None:
            there.seen, there.active = time, -1
            return 0
        self.consumers[name] = Consumer(name, time)
        return self._grow(CONSUMER_BYTES + len(name))

    def dismiss(self, name: Bytes) -> int:
        """No consumer of this name exists any more."""
        if self.consumers.pop(name, None) is None:
            return 0
        return self._grow(-CONSUMER_BYTES - len(name))

    def _grow(self, change: int) -> int:
        self.bytes += change
        return change

    def lapse(self, ident: int) -> None:
        """A pending record's deadline has passed: the next reader gets it."""
        self.lapsed.add(ident)
