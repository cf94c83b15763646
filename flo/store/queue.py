"""The queues of one namespace: what their records say, and what follows from it by time alone.

    shards[seq % 251]      seq -> state: every message but dead letters
    queues                 name -> Queue: lanes of ready messages, dead letters, configuration

A **state** is one int, so that a million messages cost two objects each; one that nothing has happened to shares its
queue's int for its priority:

    bits 0-1    what it is: READY, DELAYED, LEASED, or LAPSED: ready since its lease ran out, so that its receipt still stands
    bits 2-9    priority
    bits 10-29  attempts
    bits 30-61  the queue's number
    bits 62-    deadline, ms: of its lease or delay; 0 for none

A **lane** holds the ready messages of one priority, by seq: new ones in a deque, to which only larger seqs are added, and
those that came back in a heap. A message that leaves without being popped (acknowledged after its lease ran out) stays there
and is passed over. Purging gives the queue another number: what bears the old one is nobody's, and is freed in slices.
"""

from array import array
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush, merge
from itertools import chain
from typing import NamedTuple

from flo.store.timers import Timers

READY, DELAYED, LEASED, LAPSED = 0, 1, 2, 3
DELIVERABLE = (READY, LAPSED)
TIMED = (DELAYED, LEASED)
KIND_MASK = 3
PRIORITY_SHIFT, PRIORITY_MASK = 2, 0xFF
ATTEMPTS_SHIFT, ATTEMPTS_MAX = 10, (1 << 20) - 1
QUEUE_SHIFT, QUEUE_MASK = 30, (1 << 32) - 1
DEADLINE_SHIFT = 62
# A prime: seqs follow each other, so the ones in a shard are multiples of this apart. Were that a power of two they would share their low
# bits, by which a dict finds its slots: LPUSH then spent a fifth of its time looking for a free one.
SHARDS = 251
EXTEND_MIN = 4 * SHARDS  # messages that are put into the shards shard by shard, where they follow each other

LEASE_MS = 30_000
ATTEMPTS_DEFAULT = 5
DEAD_MAX = 10_000
DEDUP_MS = 300_000
UNSET = 0xFFFFFFFF  # in a configuration: the default

# By sys.getsizeof and the growth of RSS over a million messages.
MESSAGE_BYTES = 78  # its seq, its places in a shard and a lane; the state of most is shared
TIMED_BYTES = 82  # a state of its own, and its place among the timers
DEAD_BYTES = 300
QUEUE_BYTES = 1500
DEDUP_BYTES = 290


def pack(kind: int, priority: int, attempts: int, queue: int, deadline: int) -> int:
    """A state."""
    return kind | priority << PRIORITY_SHIFT | attempts << ATTEMPTS_SHIFT | queue << QUEUE_SHIFT | deadline << DEADLINE_SHIFT


def kind_of(state: int) -> int:
    """READY, DELAYED, LEASED or LAPSED."""
    return state & KIND_MASK


def priority_of(state: int) -> int:
    """0 to 255; lower goes first."""
    return state >> PRIORITY_SHIFT & PRIORITY_MASK


def attempts_of(state: int) -> int:
    """How often it was delivered."""
    return state >> ATTEMPTS_SHIFT & ATTEMPTS_MAX


def queue_of(state: int) -> int:
    """Its queue's number."""
    return state >> QUEUE_SHIFT & QUEUE_MASK


def deadline_of(state: int) -> int:
    """When its lease or delay ends, ms; 0 for none."""
    return state >> DEADLINE_SHIFT


class Lane:
    """The ready messages of one priority, in order of seq."""

    __slots__ = ("back", "fresh")

    def __init__(self) -> None:
        self.fresh: deque[int] = deque()
        self.back: list[int] = []

    def push(self, seq: int) -> None:
        """A message is ready."""
        fresh = self.fresh
        if not fresh or seq > fresh[-1]:
            fresh.append(seq)
        else:
            heappush(self.back, seq)

    def first(self) -> int:
        """The lowest seq; 0 for none."""
        fresh, back = self.fresh, self.back
        if back and (not fresh or back[0] < fresh[0]):
            return back[0]
        return fresh[0] if fresh else 0

    def pop(self) -> None:
        """Take out what `first` gives."""
        fresh, back = self.fresh, self.back
        if back and (not fresh or back[0] < fresh[0]):
            heappop(back)
        else:
            fresh.popleft()


class Dead(NamedTuple):
    """A dead letter."""

    priority: int
    attempts: int
    time: int  # when it died, ms


class Queue:
    """One queue. Its counts are of messages as they are now, time included as far as `QueueStore.ripen` has come."""

    __slots__ = ("attempts_max", "counts", "dead", "dedup", "evicted", "head", "lanes", "lease", "name", "number", "order", "plain")

    def __init__(self, name: bytes, number: int) -> None:
        self.name = name
        self.head = len(name).to_bytes(2, "little") + name  # what its entities begin with in the log
        self.lease = UNSET
        self.attempts_max = UNSET
        self.dead: OrderedDict[int, Dead] = OrderedDict()  # oldest first
        self.evicted = 0
        self.dedup: dict[bytes, tuple[int, int]] = {}  # key -> (seq, until)
        self.start(number)

    def start(self, number: int) -> "list[Lane]":
        """Have no messages, under a new number; returns the old lanes."""
        old = list(getattr(self, "lanes", {}).values())
        self.number = number
        self.counts = [0, 0, 0, 0]  # by kind
        self.lanes: dict[int, Lane] = {}
        self.order: list[int] = []  # priorities that have a lane, lowest first
        self.plain: dict[int, int] = {}  # priority -> the state that new messages share
        return old

    @property
    def lease_ms(self) -> int:
        """How long a lease is."""
        return LEASE_MS if self.lease == UNSET else self.lease

    @property
    def attempts_limit(self) -> int:
        """After how many deliveries a message that fails is dead; 0 for never."""
        return ATTEMPTS_DEFAULT if self.attempts_max == UNSET else self.attempts_max

    @property
    def ready(self) -> int:
        """How many may be delivered."""
        return self.counts[READY] + self.counts[LAPSED]

    @property
    def empty(self) -> bool:
        """Whether nothing live is in it, its configuration apart."""
        return not any(self.counts) and not self.dead

    def lane(self, priority: int) -> Lane:
        """The lane of a priority."""
        found = self.lanes.get(priority)
        if found is None:
            found = self.lanes[priority] = Lane()
            self.order.append(priority)
            self.order.sort()
        return found


def _ascending(heap: list[int]) -> Iterator[int]:
    """The items of a heap in order, without sorting more of it than is asked for."""
    frontier = [(heap[0], 0)] if heap else []
    while frontier:
        item, at = heappop(frontier)
        yield item
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(heap):
                heappush(frontier, (heap[child], child))


class QueueStore:
    """`message`, `lease`, `back`, `die`, `remove`, `purge`, `configure` and so on are what records do, replayed or live."""

    def __init__(self) -> None:
        shards: list[dict[int, int]] = [{} for _ in range(SHARDS)]
        self.shards = shards
        self.queues: dict[bytes, Queue] = {}
        self.numbers: dict[int, Queue] = {}
        # not through self: a store that is dropped with its namespace must be in no cycle, since nothing collects those
        self.timers = Timers(lambda seq: shards[seq % SHARDS].get(seq, 0) >> DEADLINE_SHIFT)
        self.garbage: list[deque[int] | list[int]] = []  # seqs of purged messages, to be forgotten in slices
        self.windows: deque[tuple[int, bytes, bytes]] = deque()  # (until, queue, dedup key), in the order they end
        self.bytes = 0
        self._next_number = 1

    # -- looking -----------------------------------------------------------------------------------

    def find(self, name: bytes) -> Queue | None:
        """The queue of that name."""
        return self.queues.get(name)

    def state(self, seq: int) -> int | None:
        """A message's state, None where there is none, or a dead letter."""
        return self.shards[seq % SHARDS].get(seq)

    def first(self, queue: Queue) -> int:
        """The seq that is delivered next; 0 where none is ready."""
        shards, number = self.shards, queue.number
        for priority in queue.order:
            lane = queue.lanes[priority]
            fresh = lane.fresh
            if fresh and not lane.back:  # nothing came back: the common case in short
                seq = fresh[0]
                if shards[seq % SHARDS].get(seq, -1) == queue.plain.get(priority):
                    return seq
            while seq := lane.first():
                state = shards[seq % SHARDS].get(seq)
                if state is not None and state & KIND_MASK in DELIVERABLE and queue_of(state) == number:
                    return seq
                lane.pop()
        return 0

    def is_ready(self, seq: int, queue: Queue) -> bool:
        """Whether the message is in the queue and may be delivered."""
        state = self.shards[seq % SHARDS].get(seq)
        return state is not None and state & KIND_MASK in DELIVERABLE and queue_of(state) == queue.number

    def ready(self, queue: Queue) -> Iterator[int]:
        """The seqs that are ready, in the order of their delivery, as far as they are asked for. Nothing may change meanwhile."""
        for priority in queue.order:
            lane = queue.lanes[priority]
            last = 0
            for seq in merge(lane.fresh, _ascending(lane.back)) if lane.back else lane.fresh:
                if seq != last and self.is_ready(seq, queue):
                    yield seq
                last = seq

    @staticmethod
    def snapshot(queue: Queue) -> Iterator[int]:
        """The seqs that were in the lanes at this moment, in order, stale and doubled ones included."""
        lanes = [(list(lane.fresh), list(lane.back)) for lane in map(queue.lanes.__getitem__, queue.order)]
        return chain.from_iterable(merge(fresh, _ascending(back)) if back else fresh for fresh, back in lanes)

    # -- what records do ---------------------------------------------------------------------------

    def open(self, name: bytes) -> Queue:
        """The queue of that name, made where there is none."""
        found = self.queues.get(name)
        if found is None:
            found = self.queues[name] = Queue(name, self._next_number)
            self.numbers[self._next_number] = found
            self._next_number += 1
            self.bytes += QUEUE_BYTES + len(name)
        return found

    def message(self, seq: int, name: bytes, priority: int, not_before: int) -> None:
        """Record `seq` put a message into the queue, ready at once or at a time."""
        queue = self.open(name)
        if not_before:
            self._set(seq, queue, DELAYED, priority, 0, not_before)
            return
        self.push(seq, queue, priority)

    def push(self, seq: int, queue: Queue, priority: int = 0) -> None:
        """`message`, ready at once, into a queue that is there."""
        state, counts, fresh = self.lane_of_new(queue, priority)
        self.shards[seq % SHARDS][seq] = state
        counts[READY] += 1
        if not fresh or seq > fresh[-1]:
            fresh.append(seq)
        else:
            queue.lanes[priority].push(seq)
        self.bytes += MESSAGE_BYTES

    @staticmethod
    def lane_of_new(queue: Queue, priority: int = 0) -> tuple[int, list[int], deque[int]]:
        """Where messages of a priority go that are ready at once: (the state they share, counts, the deque their seqs go to, each
        larger than the last). Until the queue is next purged."""
        state = queue.plain.get(priority)
        if state is None:
            state = queue.plain[priority] = pack(READY, priority, 0, queue.number, 0)
        lane = queue.lanes.get(priority)
        if lane is None:
            lane = queue.lane(priority)
        return state, queue.counts, lane.fresh

    def extend(self, name: bytes, priority: int, seqs: "array[int]") -> None:
        """`message` for many, ready at once, in order of seq."""
        queue = self.open(name)
        state, counts, fresh = self.lane_of_new(queue, priority)
        shards = self.shards
        many = seqs.tolist()  # a shard and a lane share the ints
        if len(many) > EXTEND_MIN and many[-1] - many[0] == len(many) - 1:
            for at in range(SHARDS):  # they follow each other: each shard gets its own at once
                shards[many[at] % SHARDS].update(dict.fromkeys(many[at::SHARDS], state))
        else:
            for seq in many:
                shards[seq % SHARDS][seq] = state
        counts[READY] += len(many)
        if not fresh or many[0] > fresh[-1]:
            fresh.extend(many)
        else:
            lane = queue.lane(priority)
            for seq in many:
                lane.push(seq)
        self.bytes += MESSAGE_BYTES * len(seqs)

    def lease(self, seq: int, name: bytes, priority: int, attempts: int, deadline: int) -> None:
        """A message was delivered, or its lease extended."""
        queue = self.queues.get(name)
        shard = self.shards[seq % SHARDS]
        state = shard.get(seq, 0)
        if queue is not None and state >> QUEUE_SHIFT == queue.number and deadline:  # no deadline so far: the common case in short
            queue.counts[state & KIND_MASK] -= 1
            queue.counts[LEASED] += 1
            attempts = min(attempts, ATTEMPTS_MAX)
            # `pack`, in full
            shard[seq] = LEASED | priority << 2 | attempts << 10 | queue.number << QUEUE_SHIFT | deadline << DEADLINE_SHIFT
            self.timers.add(deadline, seq)
            self.bytes += TIMED_BYTES
            return
        self._forget(seq)
        self._set(seq, self.open(name), LEASED, priority, attempts, deadline)

    def lease_all(self, seqs: Sequence[int], queue: Queue, priority: int, deadline: int) -> None:
        """`lease` of messages that nothing has happened to, the first in their lane, to the same deadline."""
        leased = pack(LEASED, priority, 1, queue.number, deadline)
        shards, leave = self.shards, queue.lanes[priority].fresh.popleft
        for seq in seqs:
            leave()
            shards[seq % 251][seq] = leased
        count = len(seqs)
        queue.counts[READY] -= count
        queue.counts[LEASED] += count
        self.timers.add_all(deadline, seqs)
        self.bytes += TIMED_BYTES * count

    def take_all(self, seqs: Sequence[int], queue: Queue, priority: int) -> None:
        """`remove` of messages that nothing has happened to, the first in their lane."""
        shards, leave = self.shards, queue.lanes[priority].fresh.popleft
        for seq in seqs:
            leave()
            del shards[seq % 251][seq]
        queue.counts[READY] -= len(seqs)
        self.bytes -= MESSAGE_BYTES * len(seqs)

    def remove_all(self, seqs: Sequence[int], states: Sequence[int], queue: Queue) -> None:
        """`remove` of leased messages, whose states these are."""
        shards = self.shards
        for seq in seqs:
            del shards[seq % 251][seq]
        self.timers.remove_all([state >> DEADLINE_SHIFT for state in states], seqs)
        queue.counts[LEASED] -= len(seqs)
        self.bytes -= (MESSAGE_BYTES + TIMED_BYTES) * len(seqs)

    def back(self, seq: int, name: bytes, priority: int, attempts: int, not_before: int) -> None:
        """A message was given back, or came back from the dead letters."""
        queue = self.open(name)
        self._forget(seq)
        if queue.dead.pop(seq, None) is not None:
            self.bytes -= DEAD_BYTES
        if not_before:
            self._set(seq, queue, DELAYED, priority, attempts, not_before)
        else:
            self._set(seq, queue, READY, priority, attempts, 0)
            queue.lane(priority).push(seq)

    def die(self, seq: int, name: bytes, priority: int, attempts: int, time: int) -> None:
        """A message became a dead letter."""
        self._forget(seq)
        self.open(name).dead[seq] = Dead(priority, attempts, time)
        self.bytes += DEAD_BYTES

    def remove(self, seq: int, name: bytes) -> None:
        """A message was acknowledged, or a dead letter deleted."""
        self._forget(seq)
        queue = self.queues.get(name)
        if queue is not None and queue.dead.pop(seq, None) is not None:
            self.bytes -= DEAD_BYTES

    def purge(self, name: bytes) -> None:
        """Everything in the queue so far is gone, dead letters too."""
        queue = self.queues.get(name)
        if queue is None:
            return
        self.bytes -= MESSAGE_BYTES * sum(queue.counts) + TIMED_BYTES * (queue.counts[DELAYED] + queue.counts[LEASED])
        self.bytes -= DEAD_BYTES * len(queue.dead)
        queue.dead = OrderedDict()
        del self.numbers[queue.number]
        for lane in queue.start(self._next_number):
            self.garbage += (lane.fresh, lane.back)
        self.numbers[self._next_number] = queue
        self._next_number += 1

    def drop(self, name: bytes) -> None:
        """What there was of the queue besides messages is gone: configuration, counts, deduplication."""
        queue = self.queues.get(name)
        if queue is None:
            return
        queue.lease = queue.attempts_max = UNSET
        queue.evicted = 0
        self.bytes -= sum(DEDUP_BYTES + len(key) for key in queue.dedup)
        queue.dedup = {}
        if queue.empty:
            del self.queues[name], self.numbers[queue.number]
            self.bytes -= QUEUE_BYTES + len(name)

    def configure(self, name: bytes, lease: int, attempts_max: int) -> None:
        """The queue's configuration; UNSET for the default."""
        queue = self.open(name)
        queue.lease, queue.attempts_max = lease, attempts_max

    def deduplicate(self, name: bytes, key: bytes, seq: int, until: int) -> None:
        """An enqueue with this key gives `seq` until that time."""
        queue = self.open(name)
        if queue.dedup.pop(key, None) is None:
            self.bytes += DEDUP_BYTES + len(key)
        queue.dedup[key] = (seq, until)
        self.windows.append((until, name, key))

    def forget_dedup(self, name: bytes, key: bytes) -> None:
        """The window of this key is over."""
        queue = self.queues.get(name)
        if queue is not None and queue.dedup.pop(key, None) is not None:
            self.bytes -= DEDUP_BYTES + len(key)

    def evict(self, name: bytes, count: int) -> None:
        """So many dead letters have fallen off."""
        self.open(name).evicted = count

    def _set(self, seq: int, queue: Queue, kind: int, priority: int, attempts: int, deadline: int) -> None:
        self.shards[seq % SHARDS][seq] = pack(kind, priority, min(attempts, ATTEMPTS_MAX), queue.number, deadline)
        queue.counts[kind] += 1
        self.bytes += MESSAGE_BYTES
        if kind in TIMED:
            self.bytes += TIMED_BYTES
        if deadline:
            self.timers.add(deadline, seq)

    def _forget(self, seq: int) -> None:
        state = self.shards[seq % SHARDS].pop(seq, None)
        if state is None:
            return
        deadline = state >> DEADLINE_SHIFT
        if deadline:
            self.timers.remove(deadline, seq)
        queue = self.numbers.get(queue_of(state))
        if queue is not None:  # else it was purged, and was not counted since
            queue.counts[state & KIND_MASK] -= 1
            self.bytes -= MESSAGE_BYTES + (TIMED_BYTES if state & KIND_MASK in TIMED else 0)

    # -- what time does ----------------------------------------------------------------------------

    def ripen(self, seq: int) -> None:
        """A message's lease or delay has ended: it is ready. Nothing but time did this, so there is no record of it."""
        shard = self.shards[seq % SHARDS]
        state = shard[seq]
        queue = self.numbers.get(queue_of(state))
        if queue is None:
            del shard[seq]  # purged
            return
        kind = LAPSED if state & KIND_MASK == LEASED else READY
        queue.counts[state & KIND_MASK] -= 1
        self.bytes -= TIMED_BYTES
        queue.counts[kind] += 1
        priority = priority_of(state)
        shard[seq] = pack(kind, priority, attempts_of(state), queue.number, 0)
        queue.lane(priority).push(seq)

    def free(self, most: int) -> bool:
        """Forget up to `most` purged messages; returns whether there are more."""
        while self.garbage and most > 0:
            piece = self.garbage[-1]
            while piece and most > 0:
                seq = piece.pop()
                state = self.shards[seq % SHARDS].get(seq)
                if state is not None and queue_of(state) not in self.numbers and not state >> DEADLINE_SHIFT:
                    del self.shards[seq % SHARDS][seq]
                most -= 1
            if not piece:
                self.garbage.pop()
        return bool(self.garbage)

    def pieces(self) -> list[object]:
        """What holds the messages, for freeing a store that was dropped piece by piece."""
        lanes = [piece for queue in self.queues.values() for lane in queue.lanes.values() for piece in (lane.fresh, lane.back)]
        return [*self.garbage, *lanes, *(queue.dead for queue in self.queues.values()), *self.timers.pieces(), *self.shards]
