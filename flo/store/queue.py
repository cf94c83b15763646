"""The queues of one namespace, as their records and the time make them.

    shards[seq % 251]      seq -> state: messages that are not fresh, except dead letters
    queues                 name -> Queue: lanes of ready messages, dead letters, configuration

A **fresh** message is ready and was never delivered: no record but its first is about it. It is only its seq in the lane of its priority,
eight bytes. A message that was delivered, delayed or given back has a **state**, one int:

    bits 0-1    its kind: READY, DELAYED, LEASED, or LAPSED: ready because its lease ran out, so its receipt is still valid
    bits 2-9    priority
    bits 10-41  attempts
    bits 42-73  the queue's number
    bits 74-    deadline, ms: of its lease or delay; 0 for none

Attempts only grow, so a seq and an attempt name one delivery for ever. A message that returned from the dead letters has a **base** in
`Queue.bases`: its attempts at that time, which the limit of its queue does not count.

A **lane** holds the ready messages of one priority, by seq. The fresh messages are in an array, to which only larger seqs are added. The
messages that came back are in a heap, and have a state. A message is taken from the front of the array; if it is not at the front, it is
noted in `taken` (the records of a start do not come in the order of delivery). A message that leaves the heap from behind its front (it was
acknowledged after its lease ran out) stays in the heap as `stale` and is skipped; if it comes back, it is not put in again. A purge gives
the queue a new number and new lanes. States with the old number belong to no queue, and are freed in slices. `tidy` drops empty lanes, and
queues of which nothing remains, now and then.
"""

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush, merge
from itertools import compress, repeat
from operator import itemgetter
from typing import Any, NamedTuple

from flo.store.lifetimes import Lifetimes
from flo.store.timers import Timers

READY, DELAYED, LEASED, LAPSED = 0, 1, 2, 3
DELIVERABLE = (READY, LAPSED)
KIND_MASK = 3
PRIORITY_SHIFT, PRIORITY_MASK = 2, 0xFF
ATTEMPTS_SHIFT, ATTEMPTS_MAX = 10, (1 << 32) - 1  # the largest number that the log and a receipt can hold: see `Queue.is_spent`
QUEUE_SHIFT, QUEUE_MASK = 42, (1 << 32) - 1
DEADLINE_SHIFT = 74
# A prime: seqs are consecutive, so those in one shard differ by multiples of this number. With a power of two their low bits would be the
# same, and a dict finds its slots by them: LPUSH then spent a fifth of its time in the search for a free slot.
SHARDS = 251
EMPTY_MIN = 64  # seqs taken from an array that is empty now, before its memory is given back
DOUBTFUL_MAX = 1000  # queues that may be empty, looked at when somebody asks how many exist: 0.3 us each
STALE_SLICE = 64  # stale seqs dropped in one go at either end of a heap, unless more must be dropped
OWNERLESS_MIN = 256  # windows of deleted queues: with no more, a look at all windows is not worth it
LOOKS_A_FREE = 8  # states that can be looked at in the time that freeing one takes
TRIM_MIN = 4096  # seqs taken from an array's front, before the others are moved to the front, which takes 1 ms a million

LEASE_MS = 30_000
ATTEMPTS_DEFAULT = 5
DEDUP_MS = 300_000
UNSET = 0xFFFFFFFF  # in a configuration: the default

# By tracemalloc and the growth of RSS over a million messages. The timers account their own memory.
FRESH_BYTES = 9  # a seq in an array, which grows ahead
MESSAGE_BYTES = 115  # a message with a state: its seq, its places in a shard and a heap
TIMED_BYTES = 8  # a deadline in its state
DEAD_BYTES = 190
BASE_BYTES = 120  # a seq, a base, and their place in a dict
QUEUE_BYTES = 900  # besides its name, which is stored twice
LANE_BYTES = 380
DEDUP_BYTES = 290
_NOTHING: Any = frozenset()  # stands for a set that most lanes never need: an empty set is half of a lane's memory


def pack(kind: int, priority: int, attempts: int, queue: int, deadline: int) -> int:
    """A state."""
    return kind | priority << PRIORITY_SHIFT | attempts << ATTEMPTS_SHIFT | queue << QUEUE_SHIFT | deadline << DEADLINE_SHIFT


def kind_of(state: int) -> int:
    """READY, DELAYED, LEASED or LAPSED."""
    return state & KIND_MASK


def priority_of(state: int) -> int:
    """0 to 255; lower is delivered first."""
    return state >> PRIORITY_SHIFT & PRIORITY_MASK


def attempts_of(state: int) -> int:
    """How often the message was delivered."""
    return state >> ATTEMPTS_SHIFT & ATTEMPTS_MAX


def queue_of(state: int) -> int:
    """The number of its queue."""
    return state >> QUEUE_SHIFT & QUEUE_MASK


def deadline_of(state: int) -> int:
    """When its lease or delay ends, ms; 0 for none."""
    return state >> DEADLINE_SHIFT


class Lane:
    """The ready messages of one priority, in order of seq."""

    __slots__ = ("at", "back", "fresh", "plain", "stale", "taken")

    def __init__(self, plain: int) -> None:
        """`plain` is the state that every fresh message here would have."""
        self.plain: int = plain
        self.fresh: array[int] = array("Q")  # seqs of the fresh messages, from offset `at` on …
        self.at: int = 0
        self.taken: set[int] = _NOTHING  # … without these
        self.back: list[int] = []  # a heap of the messages that came back, each once …
        self.stale: set[int] = _NOTHING  # … and those of them that are not ready any more

    @property
    def fresh_count(self) -> int:
        """How many fresh messages the lane has."""
        return len(self.fresh) - self.at - len(self.taken)

    @property
    def empty(self) -> bool:
        """Whether the lane has no messages."""
        return not self.back and not self.fresh_count

    def first(self) -> int:
        """The lowest fresh seq; 0 if there is none."""
        return self.fresh[self.at] if self.at < len(self.fresh) else 0

    def holds(self, seq: int) -> bool:
        """Whether the message is a fresh one of this lane."""
        fresh = self.fresh
        at = bisect_left(fresh, seq, self.at)
        return at < len(fresh) and fresh[at] == seq and seq not in self.taken

    def take(self, seq: int) -> bool:
        """Take out a fresh message; False if it is not a fresh message of this lane."""
        fresh, at = self.fresh, self.at
        if at < len(fresh) and fresh[at] == seq:
            self.take_first(1)
            return True
        if not self.holds(seq):
            return False
        if not self.taken:
            self.taken = set()
        self.taken.add(seq)
        return True

    def take_first(self, count: int) -> None:
        """Take out the first `count` fresh messages, none of which may be behind a taken one."""
        fresh, taken = self.fresh, self.taken
        at = self.at + count
        if taken:
            while taken and at < len(fresh) and fresh[at] in taken:
                taken.remove(fresh[at])
                at += 1
            if not taken:
                self.taken = _NOTHING
        if 2 * at > len(fresh) and (at >= TRIM_MIN or (at == len(fresh) and at >= EMPTY_MIN)):
            del fresh[:at]
            at = 0
        self.at = at

    def come_back(self, seq: int) -> None:
        """Put in a message with a state, which is ready again."""
        if seq in self.stale:
            self.stale.remove(seq)
            if not self.stale:
                self.stale = _NOTHING
        else:
            heappush(self.back, seq)

    def withdraw(self, seq: int) -> None:
        """Take out a message that came back: it is not ready any more."""
        back = self.back
        if back and back[0] == seq:
            heappop(back)
        else:
            if not self.stale:
                self.stale = set()
            self.stale.add(seq)
        stale = self.stale
        if len(stale) == len(back):  # none of them is ready
            back.clear()
            self.stale = _NOTHING
            return
        self._drop_stale(STALE_SLICE)
        dropped = 0
        while back[-1] in stale and dropped < STALE_SLICE:  # the last item of a heap can be removed alone
            stale.remove(back.pop())
            dropped += 1
        if not stale:
            self.stale = _NOTHING

    def first_returned(self) -> int:
        """The lowest ready seq of the messages that came back; 0 if there is none."""
        self._drop_stale(len(self.stale))
        return self.back[0] if self.back else 0

    def _drop_stale(self, most: int) -> None:
        """Drop up to `most` stale seqs from the heap's front."""
        back, stale = self.back, self.stale
        while most and stale and back[0] in stale:
            stale.remove(heappop(back))
            most -= 1
            if not stale:
                self.stale = _NOTHING

    def seqs(self) -> Iterator[int]:
        """The fresh messages. The lane may not change meanwhile."""
        fresh, taken = self.fresh, self.taken
        found = (fresh[at] for at in range(self.at, len(fresh)))
        return (seq for seq in found if seq not in taken) if taken else found


class Dead(NamedTuple):
    """A dead letter."""

    priority: int
    attempts: int
    time: int  # when it died, ms


class Queue:
    """One queue. Its counts are of the present kinds; a lease or delay that has ended counts once `QueueStore.ripen` was called."""

    __slots__ = (
        "acknowledged",
        "attempts_max",
        "bases",
        "counts",
        "dead",
        "dedup",
        "delivered",
        "enqueued",
        "evicted",
        "head",
        "lanes",
        "lease",
        "name",
        "number",
        "order",
        "paused",
        "right",
        "shown",
    )

    enqueued: int  # messages since this process has it; no records count, only operations
    delivered: int
    acknowledged: int

    def __init__(self, name: bytes, number: int) -> None:
        self.name: bytes = name
        self.head: bytes = len(name).to_bytes(2, "little") + name  # the first bytes of its entities in the log
        self.lease: int = UNSET
        self.attempts_max: int = UNSET
        self.paused: bool = False  # it hands nothing out
        self.dead: OrderedDict[int, Dead] = OrderedDict()  # oldest first
        self.evicted: int = 0
        self.dedup: dict[bytes, tuple[int, int]] = {}  # key -> (seq, until)
        self.right: bool | None = False  # filled from the right end; None: not known since the start (flo.engine.queue_ends)
        self.shown: bool = False  # the store counts it among those that exist
        self.enqueued = self.delivered = self.acknowledged = 0
        self.start(number)

    def start(self, number: int) -> "list[Lane]":
        """Drop all messages and take a new number; returns the old lanes."""
        old = list(getattr(self, "lanes", {}).values())
        self.number: int = number
        self.counts: list[int] = [0, 0, 0, 0]  # by kind
        self.lanes: dict[int, Lane] = {}
        self.order: list[int] = []  # priorities that have a lane, lowest first
        self.bases: dict[int, int] = {}  # seq -> attempts at its last return from the dead letters
        return old

    @property
    def lease_ms(self) -> int:
        """The length of a lease."""
        return LEASE_MS if self.lease == UNSET else self.lease

    @property
    def attempts_limit(self) -> int:
        """The number of deliveries after which a message that fails becomes a dead letter; 0 for never."""
        return ATTEMPTS_DEFAULT if self.attempts_max == UNSET else self.attempts_max

    def is_spent(self, seq: int, state: int, limit: int) -> bool:
        """Whether the message has used up its deliveries under this limit (0 for no limit). Without a limit it has when a receipt cannot
        count further: two deliveries with one receipt would be worse than a dead letter."""
        attempts = attempts_of(state)
        return attempts == ATTEMPTS_MAX or 0 < limit <= attempts - self.bases.get(seq, 0)

    @property
    def fresh_count(self) -> int:
        """How many fresh messages the queue has."""
        return sum(lane.fresh_count for lane in self.lanes.values())

    @property
    def ready(self) -> int:
        """How many messages may be delivered."""
        return self.counts[READY] + self.counts[LAPSED]

    @property
    def empty(self) -> bool:
        """Whether it has neither messages nor dead letters."""
        return not any(self.counts) and not self.dead

    @property
    def configured(self) -> bool:
        """Whether a client has configured it."""
        return self.lease != UNSET or self.attempts_max != UNSET or self.paused

    @property
    def exists(self) -> bool:
        """Whether clients see it: it has messages (dead letters included) or is configured."""
        return self.configured or not self.empty

    @property
    def forgettable(self) -> bool:
        """Whether dropping it would change nothing that can be seen."""
        return not self.exists and not self.evicted and not self.dedup


def _ascending(heap: list[int]) -> Iterator[int]:
    """The items of a heap in order; sorts only as far as the caller reads."""
    frontier = [(heap[0], 0)] if heap else []
    while frontier:
        item, at = heappop(frontier)
        yield item
        for child in (2 * at + 1, 2 * at + 2):
            if child < len(heap):
                heappush(frontier, (heap[child], child))


class QueueStore:
    """`message`, `lease`, `back`, `die`, `remove`, `purge`, `configure` and so on apply records, replayed or live. Each is right whatever
    state the message is in: compaction may have dropped the records in between (flo.ual.compaction)."""

    def __init__(self) -> None:
        shards: list[dict[int, int]] = [{} for _ in range(SHARDS)]
        self.shards = shards
        self.queues: dict[bytes, Queue] = {}
        self.numbers: dict[int, Queue] = {}
        # not through self: a store dropped with its namespace must not be in a cycle, since nothing collects cycles
        self.timers: Timers = Timers(lambda seq: shards[seq % SHARDS].get(seq, 0) >> DEADLINE_SHIFT)
        self.garbage: list[list[int] | dict[int, int]] = []  # seqs of purged messages, whose states are freed in slices
        self.purged: bool = False  # since the last look for unused memory
        self._walk_at, self._walk_left = 0, 0  # the shard searched next for states of purged messages, and how many remain
        # (until, queue, dedup key): a heap, since windows opened before the clock was put back may end last
        self.windows: list[tuple[int, bytes, bytes]] = []
        self._ownerless = 0  # at most so many of the windows have no queue any more
        # Totals over the queues, kept so that a report need not walk them. The messages' bytes follow from them.
        self._shown = 0  # queues that exist for clients
        # Queues counted there that may be empty by now. They are looked at when somebody asks: a look after each message would slow down
        # the queues that are empty between any two messages.
        self._doubtful: set[Queue] = set()
        self.fresh: int = 0  # messages without a state
        self.held: list[int] = [0, 0, 0, 0]  # messages with a state, by kind
        self.dead: int = 0  # dead letters
        self.lifetimes: Lifetimes = Lifetimes()
        self._other_bytes = 0  # of all but messages and dead letters
        self._next_number = 1

    @property
    def queue_count(self) -> int:
        """How many queues exist for clients."""
        while self._doubtful:
            self._note_shown(self._doubtful.pop())
        return self._shown

    @property
    def ready_count(self) -> int:
        """How many messages of all queues may be delivered."""
        return self.fresh + self.held[READY] + self.held[LAPSED]

    @property
    def item_bytes(self) -> int:
        """Bytes of memory accounted to queues and messages, without their timers."""
        held = self.held
        timed = TIMED_BYTES * (held[DELAYED] + held[LEASED])
        return self._other_bytes + FRESH_BYTES * self.fresh + MESSAGE_BYTES * sum(held) + timed + DEAD_BYTES * self.dead

    @property
    def accounted(self) -> int:
        """Bytes of memory accounted to all of it."""
        return self.item_bytes + self.timers.bytes + self.lifetimes.bytes

    # -- looking -----------------------------------------------------------------------------------

    def find(self, name: bytes) -> Queue | None:
        """The queue of that name."""
        return self.queues.get(name)

    def state(self, seq: int) -> int | None:
        """The state of a message; None if it has none: it is fresh, a dead letter, or not there."""
        return self.shards[seq % SHARDS].get(seq)

    def first(self, queue: Queue) -> tuple[int, int]:
        """(seq, state) of the message that is delivered next; (0, 0) if none is ready."""
        for priority in queue.order:
            lane = queue.lanes[priority]
            fresh = lane.first()
            if lane.back:
                seq = lane.first_returned()
                if seq and not 0 < fresh < seq:
                    return seq, self.shards[seq % SHARDS][seq]
            if fresh:
                return fresh, lane.plain
        return 0, 0

    def oldest(self, queue: Queue) -> int:
        """The lowest ready seq; 0 if none is ready."""
        firsts = [seq for lane in queue.lanes.values() for seq in (lane.first(), lane.first_returned()) if seq]
        return min(firsts, default=0)

    def ready(self, queue: Queue) -> Iterator[tuple[int, int]]:
        """(seq, state) of the ready messages in the order of delivery, as far as the caller reads. The queue may not change meanwhile."""
        shards = self.shards
        for lane in map(queue.lanes.__getitem__, queue.order):
            fresh_seqs = lane.seqs()
            fresh = next(fresh_seqs, 0)
            for seq in _ascending(lane.back):
                if seq in lane.stale:
                    continue
                while fresh and fresh < seq:
                    yield fresh, lane.plain
                    fresh = next(fresh_seqs, 0)
                yield seq, shards[seq % SHARDS][seq]
            while fresh:
                yield fresh, lane.plain
                fresh = next(fresh_seqs, 0)

    @staticmethod
    def snapshot(queue: Queue) -> Iterator[tuple[int, Lane | None]]:
        """The seqs in the lanes, in order, as they are when the first is asked for; each fresh one with its lane. `still_ready` tells
        later whether a message of them is still ready."""
        lanes = [(lane, lane.fresh[lane.at :], list(lane.back)) for lane in map(queue.lanes.__getitem__, queue.order)]
        for lane, fresh, back in lanes:
            if not back:
                yield from zip(fresh, repeat(lane))
                continue
            last = 0
            with_lane: Iterator[tuple[int, Lane | None]] = zip(fresh, repeat(lane))
            for place in merge(with_lane, zip(_ascending(back), repeat(None)), key=itemgetter(0)):
                if place[0] != last:  # it was taken from the fresh ones and came back
                    yield place
                last = place[0]

    def still_ready(self, seq: int, queue: Queue, lane: Lane | None) -> int | None:
        """The state of a message that `snapshot` gave, with the lane it gave; None if it is not ready any more."""
        state = self.shards[seq % SHARDS].get(seq)
        if state is not None:
            return state if state & KIND_MASK in DELIVERABLE and queue_of(state) == queue.number else None
        if lane is None or not 0 < lane.first() <= seq or seq in lane.taken or queue.lanes.get(priority_of(lane.plain)) is not lane:
            return None
        return lane.plain

    # -- what records do ---------------------------------------------------------------------------

    def open(self, name: bytes) -> Queue:
        """The queue of that name; makes it if there is none."""
        found = self.queues.get(name)
        if found is None:
            found = self.queues[name] = Queue(name, self._next_number)
            self.numbers[self._next_number] = found
            self._next_number += 1
            self._other_bytes += QUEUE_BYTES + 2 * len(name)
        return found

    def _lane(self, queue: Queue, priority: int) -> Lane:
        """The lane of a priority; makes it if there is none."""
        found = queue.lanes.get(priority)
        if found is None:
            found = queue.lanes[priority] = Lane(pack(READY, priority, 0, queue.number, 0))
            queue.order.append(priority)
            queue.order.sort()
            self._other_bytes += LANE_BYTES
        return found

    def message(self, seq: int, name: bytes, priority: int, not_before: int) -> None:
        """Record `seq` put a message into the queue, ready at once or at a time."""
        queue = self.open(name)
        if not_before:
            self._set(seq, queue, DELAYED, priority, 0, not_before)
            return
        self.push(seq, queue, priority)

    def push(self, seq: int, queue: Queue, priority: int = 0) -> None:
        """`message`, ready at once, into an existing queue."""
        counts, fresh = self.lane_of_new(queue, priority)
        if fresh and seq <= fresh[-1]:
            self._come_back(seq, queue, READY, priority, 0)
            return
        fresh.append(seq)
        counts[READY] += 1
        self.fresh += 1
        if not queue.shown:
            queue.shown = True
            self._shown += 1

    def lane_of_new(self, queue: Queue, priority: int = 0) -> "tuple[list[int], array[int]]":
        """(counts, the array of fresh seqs) for new messages of a priority, ready at once; each seq appended must be larger than the
        last. Valid until the queue is next purged or tidied."""
        lane = queue.lanes.get(priority)
        if lane is None:
            lane = self._lane(queue, priority)
        return queue.counts, lane.fresh

    def extend(self, name: bytes, priority: int, seqs: "array[int]") -> None:
        """`message` for many, ready at once, in order of seq."""
        queue = self.open(name)
        counts, fresh = self.lane_of_new(queue, priority)
        if fresh and seqs[0] <= fresh[-1]:
            for seq in seqs:
                self.push(seq, queue, priority)
            return
        fresh.extend(seqs)
        counts[READY] += len(seqs)
        self.fresh += len(seqs)
        self._note_shown(queue)

    def lease(self, seq: int, name: bytes, priority: int, attempts: int, deadline: int, base: int = 0) -> None:
        """A message was delivered, or its lease extended."""
        queue = self.open(name)
        lane = queue.lanes.get(priority)
        if lane is not None and deadline and lane.first() == seq:  # fresh, and the first: a short way for the common case
            lane.take_first(1)
            queue.counts[READY] -= 1
            queue.counts[LEASED] += 1
            # `pack`, in full
            state = LEASED | priority << 2 | attempts << 10 | queue.number << QUEUE_SHIFT
            self.shards[seq % SHARDS][seq] = state | deadline << DEADLINE_SHIFT
            self.timers.add(deadline, seq)
            self.fresh -= 1
            self.held[LEASED] += 1
        else:
            self._take_out(seq, queue, priority)
            self._undie(seq, queue)
            self._set(seq, queue, LEASED, priority, attempts, deadline)
        if base:
            self._set_base(seq, queue, base)

    def back(self, seq: int, name: bytes, priority: int, attempts: int, not_before: int, base: int = 0) -> None:
        """A message was given back, or came back from the dead letters."""
        queue = self.open(name)
        self._take_out(seq, queue, priority)
        self._undie(seq, queue)
        if not_before:
            self._set(seq, queue, DELAYED, priority, attempts, not_before)
        else:
            self._come_back(seq, queue, READY, priority, attempts)
        if base:
            self._set_base(seq, queue, base)

    def die(self, seq: int, name: bytes, priority: int, attempts: int, time: int) -> None:
        """A message became a dead letter."""
        queue = self.open(name)
        self._take_out(seq, queue, priority)
        self._undie(seq, queue)
        queue.dead[seq] = Dead(priority, attempts, time)
        self.dead += 1
        self._note_shown(queue)

    def _undie(self, seq: int, queue: Queue) -> bool:
        """Drop the message from the dead letters; returns whether it was one."""
        if queue.dead.pop(seq, None) is None:
            return False
        self.dead -= 1
        if not queue.dead:
            self._doubt(queue)
        return True

    def remove(self, seq: int, name: bytes) -> None:
        """A message was acknowledged, or a dead letter deleted."""
        queue = self.queues.get(name)
        if queue is not None and queue.dead and self._undie(seq, queue):
            return
        if self._forget(seq) or queue is None:
            return
        for lane in queue.lanes.values():
            if lane.take(seq):
                self._lose_fresh(queue)
                return

    def purge(self, name: bytes) -> None:
        """Everything in the queue so far is gone, dead letters too."""
        queue = self.queues.get(name)
        if queue is None:
            return
        fresh, held = queue.fresh_count, self.held
        self.fresh -= fresh
        held[READY] += fresh
        for kind, count in enumerate(queue.counts):
            held[kind] -= count
        self.dead -= len(queue.dead)
        queue.dead = OrderedDict()
        self.purged = True
        del self.numbers[queue.number]
        self._other_bytes -= BASE_BYTES * len(queue.bases) + LANE_BYTES * len(queue.lanes)
        if queue.counts[DELAYED] or queue.counts[LEASED]:
            self._walk_left = SHARDS
        self.garbage.append(queue.bases)
        self.garbage += [lane.back for lane in queue.start(self._next_number)]
        self.numbers[self._next_number] = queue
        self._next_number += 1
        self._note_shown(queue)

    def drop(self, name: bytes) -> None:
        """The queue's configuration, counts and deduplication are gone: everything besides messages."""
        queue = self.queues.get(name)
        if queue is None:
            return
        queue.lease = queue.attempts_max = UNSET
        queue.paused = False
        self.lifetimes.set(name, 0)
        queue.evicted = 0
        self._other_bytes -= sum(DEDUP_BYTES + len(key) for key in queue.dedup)
        self._ownerless += len(queue.dedup)
        queue.dedup = {}
        if self._ownerless > OWNERLESS_MIN and 4 * self._ownerless > len(self.windows):
            self._drop_ownerless()
        if queue.empty:
            self._forget_queue(queue)
        else:
            self._note_shown(queue)

    def _drop_ownerless(self) -> None:
        """Drop the windows of deleted queues: each would keep its key and its queue's name in memory until it ends."""
        queues, unknown = self.queues, (0, 0)
        owned = [(queues[name].dedup if name in queues else {}).get(key, unknown)[1] == until for until, name, key in self.windows]
        self.windows = list(compress(self.windows, owned))
        heapify(self.windows)
        self._ownerless = 0

    def _forget_queue(self, queue: Queue) -> None:
        """Drop a queue of which nothing remains."""
        self._note_shown(queue)
        self._doubtful.discard(queue)
        del self.queues[queue.name], self.numbers[queue.number]
        self._other_bytes -= QUEUE_BYTES + 2 * len(queue.name) + LANE_BYTES * len(queue.lanes)

    def configure(self, name: bytes, lease: int, attempts_max: int, paused: bool, deadline: int) -> None:
        """The queue has this configuration; UNSET for the default. All of it is dropped at `deadline`; 0 for never."""
        queue = self.open(name)
        queue.lease, queue.attempts_max, queue.paused = lease, attempts_max, paused
        self._note_shown(queue)
        self.lifetimes.set(queue.name, deadline)

    def deduplicate(self, name: bytes, key: bytes, seq: int, until: int) -> None:
        """Until that time, an enqueue with this key answers `seq`."""
        queue = self.open(name)
        if queue.dedup.pop(key, None) is None:
            self._other_bytes += DEDUP_BYTES + len(key)
        queue.dedup[key] = (seq, until)
        heappush(self.windows, (until, queue.name, key))  # not `name`: that would be a copy in every window

    def forget_dedup(self, name: bytes, key: bytes) -> None:
        """The window of this key is over."""
        queue = self.queues.get(name)
        if queue is not None and queue.dedup.pop(key, None) is not None:
            self._other_bytes -= DEDUP_BYTES + len(key)
            if not queue.dedup:
                queue.dedup = {}

    def evict(self, name: bytes, count: int) -> None:
        """`count` dead letters have fallen off so far."""
        self.open(name).evicted = count

    def _set(self, seq: int, queue: Queue, kind: int, priority: int, attempts: int, deadline: int) -> None:
        self.shards[seq % SHARDS][seq] = pack(kind, priority, attempts, queue.number, deadline)
        queue.counts[kind] += 1
        self.held[kind] += 1
        if not queue.shown:
            queue.shown = True
            self._shown += 1
        if deadline:
            self.timers.add(deadline, seq)

    def _set_base(self, seq: int, queue: Queue, base: int) -> None:
        """The message has this base; `_forget` has dropped the one before."""
        queue.bases[seq] = base
        self._other_bytes += BASE_BYTES

    def _drop_base(self, seq: int, queue: Queue) -> None:
        if queue.bases.pop(seq, 0):
            self._other_bytes -= BASE_BYTES

    def _come_back(self, seq: int, queue: Queue, kind: int, priority: int, attempts: int) -> None:
        """A message is ready again, or a new one comes after later ones."""
        self._set(seq, queue, kind, priority, attempts, 0)
        self._lane(queue, priority).come_back(seq)

    def _take_out(self, seq: int, queue: Queue, priority: int) -> None:
        """Take a message out of its lane or drop its state; the caller gives it another."""
        lane = queue.lanes.get(priority)
        if not self._forget(seq) and lane is not None and lane.take(seq):
            self._lose_fresh(queue)

    def _lose_fresh(self, queue: Queue) -> None:
        """Count a fresh message no longer; it was taken out of its lane."""
        queue.counts[READY] -= 1
        self.fresh -= 1
        if not queue.counts[READY]:
            self._doubt(queue)

    def _note_shown(self, queue: Queue) -> None:
        """Count the queue in `_shown` if it exists for clients."""
        exists = queue.exists
        self._shown += exists - queue.shown
        queue.shown = exists

    def _doubt(self, queue: Queue) -> None:
        """The queue may be empty now."""
        doubtful = self._doubtful
        doubtful.add(queue)
        if len(doubtful) > DOUBTFUL_MAX:
            self._note_shown(doubtful.pop())

    def _forget(self, seq: int) -> bool:
        """Drop a message's state; returns whether it had one."""
        state = self.shards[seq % SHARDS].pop(seq, None)
        if state is None:
            return False
        deadline = state >> DEADLINE_SHIFT
        if deadline:
            self.timers.remove(deadline, seq)
        queue = self.numbers.get(queue_of(state))
        if queue is not None:  # else it was purged, and is not counted any more
            kind = state & KIND_MASK
            queue.counts[kind] -= 1
            self.held[kind] -= 1
            if not queue.counts[kind]:
                self._doubt(queue)
            if queue.bases:
                self._drop_base(seq, queue)
            if kind in DELIVERABLE:
                queue.lanes[priority_of(state)].withdraw(seq)
        return True

    # -- what time does ----------------------------------------------------------------------------

    def ripen(self, seq: int) -> None:
        """A message is ready because its lease or delay has ended. Time alone does this, so there is no record of it."""
        shard = self.shards[seq % SHARDS]
        state = shard[seq]
        queue = self.numbers.get(queue_of(state))
        if queue is None:
            del shard[seq]  # purged
            return
        kind = LAPSED if state & KIND_MASK == LEASED else READY
        queue.counts[state & KIND_MASK] -= 1
        self.held[state & KIND_MASK] -= 1
        self._come_back(seq, queue, kind, priority_of(state), attempts_of(state))

    def free(self, most: int) -> bool:
        """Free about `most` purged messages; returns whether there are more."""
        while self.garbage and most > 0:
            piece = self.garbage[-1]
            while piece and most > 0:
                seq = piece.popitem()[0] if isinstance(piece, dict) else piece.pop()
                state = self.shards[seq % SHARDS].get(seq)
                if state is not None and queue_of(state) not in self.numbers and not state >> DEADLINE_SHIFT:
                    del self.shards[seq % SHARDS][seq]
                most -= 1
            if not piece:
                self.garbage.pop()
        while self._walk_left and most > 0:
            shard = self.shards[self._walk_at]
            most -= 1 + len(shard) // LOOKS_A_FREE
            for seq in [seq for seq, state in shard.items() if queue_of(state) not in self.numbers]:
                self._forget(seq)
                most -= 1
            self._walk_at, self._walk_left = (self._walk_at + 1) % SHARDS, self._walk_left - 1
        return self.freeing

    @property
    def freeing(self) -> bool:
        """Whether `free` has something to do."""
        return bool(self.garbage) or self._walk_left > 0

    def tidy(self, queue: Queue) -> None:
        """Drop the empty lanes of a queue, and the queue if nothing of it remains. Clients see no difference."""
        if self.queues.get(queue.name) is not queue:
            return
        if queue.forgettable:
            self._forget_queue(queue)
            return
        for priority in [priority for priority, lane in queue.lanes.items() if lane.empty]:
            del queue.lanes[priority]
            queue.order.remove(priority)
            self._other_bytes -= LANE_BYTES

    def tables(self) -> list[dict[Any, Any]]:
        """The dicts that hold messages and queues."""
        return [*self.shards, self.queues, self.numbers]

    def pieces(self) -> list[object]:
        """The containers of the messages, so that a dropped store can be freed piece by piece."""
        lanes = [lane.back for queue in self.queues.values() for lane in queue.lanes.values()]
        letters = [piece for queue in self.queues.values() for piece in (queue.dead, queue.bases)]
        return [*self.garbage, *lanes, *letters, *self.timers.pieces(), *self.lifetimes.pieces(), *self.shards]
