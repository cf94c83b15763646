"""A consumer group of a stream: its cursor, and the records that were delivered and not acknowledged.

    pending     id -> Pending: who has it, since when, how often it was delivered, until when
    order       the same ids, ascending; each consumer has those that are with it
    lapsed      ids whose deadline has passed: they go to whoever reads next
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
DEAD_MAX = 10_000
NOT_COUNTED = -1  # of `Group.read`: how many records came before its cursor is not known
IDS_CHUNK = 512
SQUEEZE_EACH = 1024  # a power of two: a look at the table of pending records whenever so many of them have gone

# By sys.getsizeof and the growth of RSS over a million pending records.
PENDING_BYTES = 235
TIMED_BYTES = 60  # of a pending record with a deadline: its number among the timers, which account the rest
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
        """For how many ms it has been with its consumer; 0 where the clock was ahead when it was delivered."""
        return max(now - self.time, 0)


class Dead(NamedTuple):
    """A record that was set aside. `consumer` had it last; `time` is when it died."""

    consumer: bytes
    deliveries: int
    time: int


class SortedIds:
    """A set of ids in order: lists of up to 1,024."""

    __slots__ = ("_chunks", "count")

    def __init__(self) -> None:
        self._chunks: list[list[int]] = []
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def add(self, ident: int) -> None:
        """Put an id in, if it is not there."""
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
        """The lowest."""
        return self._chunks[0][0] if self._chunks else None

    def last(self) -> int | None:
        """The highest."""
        return self._chunks[-1][-1] if self._chunks else None

    def start(self, ident: int) -> Iterator[int]:
        """Those from `ident` on, ascending. Nothing may change meanwhile."""
        at = max(bisect_right(self._chunks, ident, key=_first) - 1, 0)
        for number in range(at, len(self._chunks)):
            chunk = self._chunks[number]
            place = bisect_left(chunk, ident) if number == at else 0
            for there in range(place, len(chunk)):
                yield chunk[there]


def _first(chunk: list[int]) -> int:
    return chunk[0]


class Consumer:
    """One consumer of a group. When it was last seen is not in the log: after a restart it is when it was made."""

    __slots__ = ("active", "name", "order", "seen")

    def __init__(self, name: bytes, time: int) -> None:
        self.name = name
        self.order = SortedIds()  # ids that are pending with it
        self.seen = time  # when it last asked for anything, ms
        self.active = -1  # when it last got something, ms; -1 for never


class Group:
    """One consumer group."""

    # fmt: off
    __slots__ = (
        "ack_timeout", "bytes", "consumers", "dead", "declared", "evicted", "gone", "lapsed", "last", "max_deliver", "name", "number",
        "order", "own", "pending", "read", "stream",
    )
    # fmt: on

    def __init__(self, stream: bytes, name: bytes, number: int) -> None:
        self.stream = stream  # its name
        self.name = name
        self.number = number
        self.declared = False  # its own record has come
        self.gone = False  # waits to be freed
        self.own = False  # made by Flo's own operations: it redelivers by itself
        self.last = 0  # the cursor: the highest id delivered
        self.read = 0  # how many records of the stream came before it, or NOT_COUNTED
        self.ack_timeout = 0  # ms; 0 for never
        self.max_deliver = 0  # 0 for no bound
        self.evicted = 0  # dead letters that fell off
        self.pending: dict[int, Pending] = {}
        self.order = SortedIds()
        self.lapsed = SortedIds()
        self.dead: OrderedDict[int, Dead] = OrderedDict()
        self.consumers: dict[bytes, Consumer] = {}
        self.bytes = 0

    def declare(self, last: int, read: int, own: bool, ack_timeout: int, max_deliver: int, evicted: int) -> None:
        """The group's own record."""
        self.declared = True
        self.last, self.read, self.own = last, read, own
        self.ack_timeout, self.max_deliver, self.evicted = ack_timeout, max_deliver, evicted

    def take_after(self, other: "Group") -> None:
        """Be declared as `other` is."""
        self.declare(other.last, other.read, other.own, other.ack_timeout, other.max_deliver, other.evicted)

    # Each of these returns the change in bytes.

    def pend(self, ident: int, pending: Pending) -> int:
        """A record that the group knew nothing of is pending."""
        grown = 0
        consumer = self.consumers.get(pending.consumer)
        if consumer is None:
            grown = self.consume(pending.consumer, pending.time)
            consumer = self.consumers[pending.consumer]
        if pending.consumer is not consumer.name:  # else a name of 60 KB would be in memory as often as it has records
            pending = Pending(consumer.name, pending.time, pending.deliveries, pending.deadline)
        self.pending[ident] = pending
        self.order.add(ident)
        consumer.order.add(ident)
        return grown + self._grow(PENDING_BYTES + (TIMED_BYTES if pending.deadline else 0))

    def forget(self, ident: int) -> int:
        """Know nothing of a record."""
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
        """A record that the group knew nothing of is a dead letter."""
        consumer = self.consumers.get(dead.consumer)
        if consumer is not None and dead.consumer is not consumer.name:
            dead = dead._replace(consumer=consumer.name)
        self.dead[ident] = dead
        return self._grow(DEAD_BYTES)

    def consume(self, name: bytes, time: int) -> int:
        """There is a consumer, which is new: one of that name that is there has been dismissed since."""
        there = self.consumers.get(name)
        if there is not None:
            there.seen, there.active = time, -1
            return 0
        self.consumers[name] = Consumer(name, time)
        return self._grow(CONSUMER_BYTES + len(name))

    def dismiss(self, name: bytes) -> int:
        """There is none of that name."""
        if self.consumers.pop(name, None) is None:
            return 0
        return self._grow(-CONSUMER_BYTES - len(name))

    def _grow(self, change: int) -> int:
        self.bytes += change
        return change

    def lapse(self, ident: int) -> None:
        """A pending record's deadline has passed: it goes to whoever reads next."""
        self.lapsed.add(ident)
