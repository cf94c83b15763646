"""The queues of one namespace: at-least-once delivery with leases (SPEC section 3, "Queues").

A message's seq is the index of its first record; its payload is read from there. Each transition is a record: message, lease, back, dead,
gone. Time alone (a lease that runs out, a delay that ends) writes no record: the message is ready again, and only its next delivery, or its
death, is written.

Takers (requests that wait for a message) are served in the order in which they came, in the turn and batch that makes a message ready.
"""

import struct
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from heapq import heappop
from itertools import chain, dropwhile, islice
from typing import Any, ClassVar, NamedTuple

from flo.engine.bulk_rows import BulkMessages
from flo.engine.expiring import Expiring
from flo.engine.operation import operation
from flo.engine.part import Database, Lost
from flo.engine.queue_ends import check_push, is_right, refuse_pop
from flo.engine.waiting import Taker, Takers
from flo.errors import BadRequest, Damaged, LogDamaged, Overloaded
from flo.limits import (
    ATOMIC_ITEMS_MAX,
    DEAD_LETTERS_MAX,
    DEADLINE_MAX,
    LIST_BYTES_MAX,
    LIST_ITEMS_MAX,
    NAME_BYTES_MAX,
    VALUE_BYTES_MAX,
)
from flo.store.lifetimes import Lifetimes
from flo.store.queue import (
    ATTEMPTS_MAX,
    ATTEMPTS_SHIFT,
    DEDUP_MS,
    DELAYED,
    KIND_MASK,
    LAPSED,
    LEASED,
    PRIORITY_MASK,
    PRIORITY_SHIFT,
    QUEUE_MASK,
    QUEUE_SHIFT,
    SHARDS,
    UNSET,
    Dead,
    Lane,
    Queue,
    QueueStore,
    attempts_of,
    kind_of,
    priority_of,
    queue_of,
)
from flo.ual.record import (
    FAMILY_MASK,
    FAMILY_QUEUE,
    FAMILY_QUEUE_SIDE,
    GONE,
    HEADER,
    HEADER_BYTES,
    KNOWN_TYPES,
    MESSAGE_STATE,
    QUEUE_BACK,
    QUEUE_CONFIG,
    QUEUE_DEAD,
    QUEUE_DEDUP,
    QUEUE_DEDUP_GONE,
    QUEUE_EVICTED,
    QUEUE_GONE,
    QUEUE_LEASE,
    QUEUE_MESSAGE,
    QUEUE_MESSAGE_RIGHT,
    TIME_AT,
    U64,
    WATERMARK,
    Record,
    container,
    container_of,
)

DEDUP_BYTES_MAX = 32_000  # with a queue's name of NAME_BYTES_MAX, an entity still fits its 65,535 bytes
PRIORITY_MAX = 255
TRANSITION_BYTES = HEADER_BYTES + 60  # the record of a lease, return or death, without its queue's name
RIPEN_SLICE = 500  # due messages handled in one slice: 3 ms if all become dead letters
WINDOW_SLICE = 500  # deduplication windows closed in one slice: 3 us each; a step of the clock may end all windows
WALK_SLICE = 4096  # ready messages looked at in one slice
PEEK_SLICE = 256  # payloads read in one slice: 2.5 us each from a warm cache

_HEADER, _SEQ = HEADER.pack, U64.pack
_TRANSITION = struct.Struct("<BIQ")  # priority, attempts, deadline or not before
_BASED = struct.Struct("<BIQI")  # the same, for a message with a base, and the base
_DEAD = struct.Struct("<BI")  # priority, attempts
_CONFIG = struct.Struct("<II")  # lease, most attempts; `_MORE` follows if the queue is paused or has a deadline
_MORE = struct.Struct("<?Q")  # paused, deadline or 0. Format 4 has no deadline: only the byte follows
_DEDUP = struct.Struct("<QQ")  # seq, until
AT_ONCE = bytes(MESSAGE_STATE.size)  # the state, before its payload, of a message with priority 0 and no delay
CONFIG_MARK, DEDUP_MARK, EVICTED_MARK = b"c", b"d", b"e"


class Message(NamedTuple):
    """A message as it is delivered or shown. `time` is when it was put in (for a dead letter, when it died), ms."""

    seq: int
    priority: int
    attempts: int
    time: int
    payload: bytes

    @property
    def receipt(self) -> "Receipt":
        """The receipt of this delivery; it acknowledges no later one."""
        return self.seq, self.attempts


def _pack_transition(priority: int, attempts: int, deadline: int, base: int) -> bytes:
    """The state of a lease or a return; a `base` of 0 stands for none, and is left out."""
    return _BASED.pack(priority, attempts, deadline, base) if base else _TRANSITION.pack(priority, attempts, deadline)


def _unpack_transition(state: bytes) -> tuple[int, ...]:
    """Priority, attempts, deadline, and the base if the message has one."""
    return (_BASED if len(state) == _BASED.size else _TRANSITION).unpack(state)


Receipt = tuple[int, int]  # seq, attempt; attempt 0 stands for the present delivery, whichever it is


class Queues(Expiring):
    """The queues of one namespace. Names and payloads are bytes (a program may give str, as UTF-8); times are Unix ms, leases and
    delays ms."""

    name = "queues"
    types: ClassVar[frozenset[int]] = frozenset(kind for kind in KNOWN_TYPES if kind & FAMILY_MASK in (FAMILY_QUEUE, FAMILY_QUEUE_SIDE))
    bulk: ClassVar[type[BulkMessages]] = BulkMessages
    scopes: ClassVar[frozenset[int]] = frozenset((FAMILY_QUEUE, FAMILY_QUEUE_SIDE))
    nouns: ClassVar[dict[str, str]] = {
        "queues": "Queues that have messages or are configured.",
        "messages": "Messages, dead letters included.",
        "ready_messages": "Messages that can be delivered.",
        "delayed_messages": "Messages whose delay has not ended.",
        "leased_messages": "Messages that were delivered and are not acknowledged.",
        "dead_messages": "Dead letters of queues.",
    }
    container = "queue"
    measures: ClassVar[dict[str, str]] = {
        "messages": "Messages of the queue, dead letters included.",
        "ready_messages": "Messages of the queue that can be delivered.",
        "delayed_messages": "Messages of the queue whose delay has not ended.",
        "leased_messages": "Messages of the queue that were delivered and are not acknowledged.",
        "dead_messages": "Dead letters of the queue.",
    }

    def __init__(self, engine: Database, namespace: int) -> None:
        super().__init__(engine, namespace)
        self.store: QueueStore = QueueStore()
        self.takers: Takers[bytes] = Takers()
        self._quiet_turn = -1  # the engine's turn in which nothing was due; messages added in that turn are due later

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """Apply a record of the two families to the store, live or replayed."""
        kind, entity, state, store = record.type, record.entity, record.state, self.store
        head = container_of(entity)
        name = head[2:]
        if record.family == FAMILY_QUEUE:
            seq = int(U64.unpack_from(entity, len(head))[0])
            if kind in (QUEUE_MESSAGE, QUEUE_MESSAGE_RIGHT):
                if kind == QUEUE_MESSAGE_RIGHT:
                    store.open(name).right = None
                store.message(seq, name, *MESSAGE_STATE.unpack_from(state))
            elif kind == QUEUE_LEASE:
                store.lease(seq, name, *_unpack_transition(state))
            elif kind == QUEUE_BACK:
                store.back(seq, name, *_unpack_transition(state))
            elif kind == QUEUE_DEAD:
                priority, attempts = _DEAD.unpack(state)
                store.die(seq, name, priority, attempts, record.time)
            else:
                store.remove(seq, name)
        elif kind == QUEUE_CONFIG:
            lease, attempts_max = _CONFIG.unpack_from(state)
            paused, deadline = _MORE.unpack(state[_CONFIG.size :].ljust(_MORE.size, b"\0"))
            store.configure(name, lease, attempts_max, paused, deadline)
        elif kind == QUEUE_DEDUP:
            store.deduplicate(name, entity[len(head) + 1 :], *_DEDUP.unpack(state))
        elif kind == QUEUE_DEDUP_GONE:
            store.forget_dedup(name, entity[len(head) + 1 :])
        elif kind == QUEUE_EVICTED:
            store.evict(name, U64.unpack(state)[0])

    def apply_watermark(self, scope: bytes, below: int) -> None:
        """Remove a queue's messages, or everything but its messages."""
        name = scope[3:]
        if scope[0] == FAMILY_QUEUE:
            self.store.purge(name)
        else:
            self.store.drop(name)

    # Every record of a message is packed here: engine.write costs three times as much.

    def _append(self, kind: int, queue: Queue, seq: int, state: bytes) -> None:
        """Append a record that leans on a message, or (if `state` is empty) deletes it. The caller must then change the store."""
        engine, head, number = self.engine, queue.head, _SEQ(seq)
        if self.ended:
            self.check_namespace()
        entity_length = len(head) + 8
        length = HEADER_BYTES + entity_length
        if state:
            header = _HEADER(length + 8 + len(state), kind, 1, entity_length, self.namespace, engine.now, 0)
            engine.log.append(b"".join((header, number, head, number, state)))
        else:
            engine.log.append(b"".join((_HEADER(length, kind, GONE, entity_length, self.namespace, engine.now, 0), head, number)))
        engine.busy.add(self.namespace)

    def _lease(self, queue: Queue, seq: int, priority: int, attempts: int, deadline: int) -> None:
        base = queue.bases.get(seq, 0) if queue.bases else 0
        self._append(QUEUE_LEASE, queue, seq, _pack_transition(priority, attempts, deadline, base))
        self.store.lease(seq, queue.name, priority, attempts, deadline, base)
        if deadline <= self.engine.now:
            self._quiet_turn = -1

    def _back(self, queue: Queue, seq: int, priority: int, attempts: int, not_before: int, base: int) -> None:
        self._append(QUEUE_BACK, queue, seq, _pack_transition(priority, attempts, not_before, base))
        self.store.back(seq, queue.name, priority, attempts, not_before, base)

    def _gone(self, queue: Queue, seq: int) -> None:
        self._append(QUEUE_GONE, queue, seq, b"")
        self.store.remove(seq, queue.name)

    def forget(self, queue: Queue, seq: int) -> None:
        """Delete a message whose payload was lost."""
        self._admit_transitions(1, queue.name)
        self._gone(queue, seq)

    def _admit_transitions(self, count: int, name: bytes) -> None:
        """Check that there is room for `count` transitions of messages; they do not add."""
        self.admit_frees(count * (TRANSITION_BYTES + len(name)))

    def _message(self, queue: Queue, payload: bytes, priority: int, not_before: int) -> int:
        engine, head = self.engine, queue.head
        if self.ended:
            self.check_namespace()
        seq = engine.log.next_index
        length = HEADER_BYTES + len(head) + 8 + MESSAGE_STATE.size + len(payload)
        kind = QUEUE_MESSAGE_RIGHT if queue.right else QUEUE_MESSAGE
        header = _HEADER(length, kind, 0, len(head) + 8, self.namespace, engine.now, 0)
        state = MESSAGE_STATE.pack(priority, not_before) if priority or not_before else AT_ONCE
        engine.log.append(b"".join((header, head, _SEQ(seq), state, payload)))
        queue.enqueued += 1
        if not_before:
            engine.busy.add(self.namespace)
            self.store.message(seq, queue.name, priority, not_before)
        else:
            self.store.push(seq, queue, priority)
        return seq

    def _write_side(self, kind: int, name: bytes, mark: bytes, state: bytes, gone: bool = False) -> None:
        """Write a record about a queue itself, or about a deduplication key."""
        self.engine.write(Record(kind, self.namespace, self.engine.now, container(name) + mark, state, gone=gone))

    @property
    def lifetimes(self) -> Lifetimes:
        """See `Expiring`."""
        return self.store.lifetimes

    def find(self, name: bytes) -> Queue | None:
        """The queue of that name; None if there is none, or its time is over."""
        if self.store.lifetimes.by_name and self.drop_if_over(name):
            return None
        return self.store.find(name)

    # -- putting in --------------------------------------------------------------------------------

    def _renew(self, name: bytes) -> None:
        """Before messages are put in: drop the queue if its time is over. A queue without messages forgets its deadline, as Redis does with
        a list that has run empty: else the new messages would be dropped at a time that was meant for others."""
        self.drop_if_over(name)
        queue = self.store.find(name)
        if queue is not None and name in self.store.lifetimes.by_name and not any(queue.counts):
            self.admit_adds(TRANSITION_BYTES + len(name))
            self._write_config(name, queue, deadline=0)

    @operation
    def enqueue(self, name: bytes, payload: bytes, *, priority: int = 0, delay: int = 0, dedup: bytes | None = None) -> int:
        """Put a message in; returns its seq. Within 300 s of the first message with the key `dedup`, no message is added and the seq of the
        first is returned, even if that was acknowledged."""
        check_name(name)
        _check_payload(payload)
        if not 0 <= priority <= PRIORITY_MAX:
            raise BadRequest(f"the priority is {priority}; it is 0 to {PRIORITY_MAX}, and lower goes first")
        now = self.engine.now
        not_before = _deadline(now, delay, "delay") if delay else 0
        if self.store.lifetimes.by_name:
            self._renew(name)
        size = 2 * TRANSITION_BYTES + len(name) + len(payload)  # the message, and its lease if a taker waits
        if dedup is not None:
            if len(dedup) > DEDUP_BYTES_MAX:
                raise BadRequest(f"the deduplication key is {len(dedup)} bytes; at most {DEDUP_BYTES_MAX} are allowed")
            queue = self.find(name)
            known = queue.dedup.get(dedup) if queue is not None else None
            if known is not None and known[1] > now:
                return known[0]
            # if the key's window is over, the record of the new window replaces it
            size += TRANSITION_BYTES + len(name) + len(dedup)
        queue = self.store.queues.get(name)
        if queue is not None and queue.right is not False:
            check_push(queue, False, self.is_right(queue))
        self.admit_adds(size)
        seq = self._message(self.store.open(name), payload, priority, not_before)
        if dedup is not None:
            self._write_side(QUEUE_DEDUP, name, DEDUP_MARK + dedup, _DEDUP.pack(seq, now + DEDUP_MS))
        if self.takers.by_key:
            self._serve(name)
        return seq

    @operation
    def enqueue_many(self, name: bytes, payloads: Sequence[bytes], right: bool = False) -> int:
        """Put messages in, all or none; the first is delivered first. Returns how many messages are ready then. `right`: at the right end
        (flo.engine.queue_ends)."""
        if len(payloads) > ATOMIC_ITEMS_MAX:
            raise BadRequest(f"the request has {len(payloads)} messages; at most {ATOMIC_ITEMS_MAX} are allowed in one")
        if self.store.lifetimes.by_name:
            self._renew(name)
        queue = self.store.queues.get(name)
        if queue is None:
            check_name(name)
        size = 0
        for payload in payloads:
            _check_payload(payload)
            size += len(payload)
        if queue is not None and queue.right is not right:
            check_push(queue, right, self.is_right(queue))
        self.admit_adds(size + len(payloads) * (TRANSITION_BYTES + len(name)))
        if queue is None:
            queue = self.store.open(name)
            queue.right = right
        for payload in payloads:
            self._message(queue, payload, 0, 0)
        ready = queue.ready  # as Redis counts: before the takers are served
        if self.takers.by_key:
            self._serve(name)
        return ready

    # -- taking out --------------------------------------------------------------------------------

    @operation
    def dequeue(
        self, name: bytes, limit: int = 1, *, lease: int | None = None, acknowledge: bool = False, right: bool | None = None
    ) -> list[Message]:
        """Lease up to `limit` messages for `lease` ms (None: the queue's own lease); each delivery counts as an attempt. With `acknowledge`
        the messages are removed at once: each is delivered at most once. Stops near 16 MiB, but gives at least one message. A message
        whose payload is damaged on disk becomes a dead letter and raises `Damaged`; the next call goes on behind it. `right`: from the
        right end, or from the left one; None: from whichever has the next message."""
        if lease is not None:
            _deadline(self.engine.now, lease, "lease")
        self._settle()
        if name not in self.store.queues:
            check_name(name)
        if right is not None and (refused := self._refuses(name, right)) is not None:
            raise refused
        return self._take(name, limit, lease, acknowledge)

    def is_right(self, queue: Queue) -> bool:
        """Whether the queue is filled from the right end."""
        return is_right(queue, self.store, self._type_of)

    def _type_of(self, seq: int) -> int:
        try:
            return self._read(seq).type
        except Damaged:
            return QUEUE_MESSAGE

    def _refuses(self, name: bytes, right: bool) -> BadRequest | None:
        """The refusal of taking from this end of the queue; None if it may be taken from."""
        queue = self.store.queues.get(name)
        if queue is None or self.is_right(queue) != right:
            return None
        return refuse_pop(queue, right)

    def _settle(self) -> None:
        """Do the work that is due, before a read. A server does one slice here, and the rest in the next turns."""
        if self._quiet_turn == self.engine.turn:
            return
        while self._has_due():
            if not self.sweep() or self.engine.manual:
                return
        self._quiet_turn = self.engine.turn

    def _has_due(self) -> bool:
        """Whether a message or a deduplication window of these queues is due."""
        store, now = self.store, self.engine.now
        return not store.timers.quiet(now) or bool(store.windows and store.windows[0][0] <= now)

    def _take(self, name: bytes, count: int, lease: int | None, acknowledge: bool) -> list[Message]:
        store = self.store
        if store.lifetimes.by_name:
            self.drop_if_over(name)
        queue = store.queues.get(name)
        found: list[Message] = []
        if queue is None or queue.paused:
            return found
        self._admit_transitions(count, name)
        log, deadline = self.engine.log, self.engine.now + (queue.lease_ms if lease is None else lease)
        skip = HEADER_BYTES + len(queue.head) + 8 + MESSAGE_STATE.size
        size = 0
        while len(found) < count:
            seq, state = store.first(queue)
            if not seq:
                break
            try:
                data = log.read_bytes(seq)
            except Damaged:
                if found:
                    break  # deliver the messages before it; the next call raises
                self._make_dead(queue, seq, state)  # else the messages behind it could not be delivered
                raise
            if data is None:
                raise LogDamaged(f"message {seq} is in its queue but not in the log")
            payload = data[skip:]
            size += len(payload)
            if found and size > LIST_BYTES_MAX:
                break
            priority, attempts = state >> PRIORITY_SHIFT & PRIORITY_MASK, (state >> ATTEMPTS_SHIFT & ATTEMPTS_MAX) + 1
            if acknowledge:
                self._gone(queue, seq)
            else:
                self._lease(queue, seq, priority, attempts, deadline)
            found.append(Message(seq, priority, attempts, U64.unpack_from(data, TIME_AT)[0], payload))
        queue.delivered += len(found)
        if acknowledge:
            queue.acknowledged += len(found)
        return found

    def _read(self, seq: int) -> Record:
        record = self.engine.log.read(seq)
        if record is None:
            raise LogDamaged(f"message {seq} is in its queue but not in the log")
        return record

    @operation
    def take(
        self,
        names: Sequence[bytes],
        count: int,
        deliver: Callable[[bytes, Any], None],
        *,
        lease: int | None = None,
        acknowledge: bool = False,
        right: bool | None = None,
    ) -> Taker[bytes] | None:
        """Lease messages of the first queue of `names` that has any, `deliver` them now, and return None. If no queue has any, return a
        taker that gets them as soon as one has; takers are served in the order in which they came. `right` as in `dequeue`; a taker
        that waits at the wrong end is delivered the refusal."""
        self._settle()
        for name in names:
            check_name(name)
            if right is not None and (refused := self._refuses(name, right)) is not None:
                raise refused
            found = self._take(name, count, lease, acknowledge)
            if found:
                deliver(name, found)
                return None
        return self.takers.add(names, count, acknowledge, deliver, lease, right=right)

    def end(self) -> None:
        """See `Part`."""
        super().end()
        self.takers.end_all(lambda _: (b"", []))

    def _serve(self, name: bytes) -> None:
        """Give ready messages to the queue's takers, one taker after the other."""
        queue = self.find(name)
        try:
            while queue is not None and not queue.paused and (taker := self.takers.first(name)) is not None and self.store.first(queue)[0]:
                if taker.right is not None and (refused := self._refuses(name, taker.right)) is not None:
                    taker.cancel()
                    taker.deliver(name, refused)
                    continue
                try:
                    found = self._take(name, taker.count, taker.lease, taker.acknowledge)
                except Damaged:
                    continue  # the message is a dead letter now; the taker gets the next one
                taker.cancel()
                taker.deliver(name, found)
        except Overloaded:
            return  # the disk has no room for the leases: the takers wait until it has

    # -- receipts ----------------------------------------------------------------------------------

    def _held(self, name: bytes, receipts: Iterable[Receipt]) -> list[tuple[int, int]]:
        """(seq, state) of the valid receipts: the message is leased, and its attempt is that of the receipt. A receipt whose lease has run
        out is valid until the message is delivered again."""
        queue = self.find(name)
        found: dict[int, int] = {}
        if queue is not None:
            for seq, attempt in receipts:
                state = self.store.state(seq)
                if (
                    state is not None
                    and kind_of(state) in (LEASED, LAPSED)
                    and queue_of(state) == queue.number
                    and attempt in (0, attempts_of(state))
                ):
                    found[seq] = state
        return list(found.items())

    @operation
    def ack(self, name: bytes, receipts: Sequence[Receipt]) -> int:
        """Acknowledge messages: remove them. Returns how many of the receipts were valid."""
        check_receipts(receipts)
        queue = self.find(name)
        if queue is None:
            return 0
        self._admit_transitions(len(receipts), name)
        shards, number, count = self.store.shards, queue.number, 0
        for seq, attempt in receipts:
            state = shards[seq % SHARDS].get(seq)
            if state is None or state & KIND_MASK < LEASED or state >> QUEUE_SHIFT & QUEUE_MASK != number:
                continue
            if attempt in (0, state >> ATTEMPTS_SHIFT & ATTEMPTS_MAX):
                self._gone(queue, seq)
                count += 1
        queue.acknowledged += count
        return count

    @operation
    def nack(self, name: bytes, receipts: Sequence[Receipt], *, delay: int = 0, dead: bool = False) -> int:
        """Give messages back to their place in the queue, at once or after `delay` ms. With `dead`, or if its attempts are used up, a
        message becomes a dead letter. Returns how many of the receipts were valid."""
        check_receipts(receipts)
        not_before = _deadline(self.engine.now, delay, "delay") if delay else 0
        held = self._held(name, receipts)
        self.admit_frees(2 * len(held) * (TRANSITION_BYTES + len(name)))
        queue = self.find(name)
        for seq, state in held:
            assert queue is not None
            if dead or queue.is_spent(seq, state, queue.attempts_limit):
                self._make_dead(queue, seq, state)
            else:
                self._back(queue, seq, priority_of(state), attempts_of(state), not_before, queue.bases.get(seq, 0))
        self._serve(name)
        return len(held)

    @operation
    def touch(self, name: bytes, receipts: Sequence[Receipt], lease: int | None = None) -> int:
        """Let leases end `lease` ms from now (None: the queue's own lease); returns how many of the receipts were valid."""
        check_receipts(receipts)
        held = self._held(name, receipts)
        queue = self.find(name)
        self.admit_frees(len(held) * (TRANSITION_BYTES + len(name)))
        for seq, state in held:
            assert queue is not None
            deadline = _deadline(self.engine.now, queue.lease_ms if lease is None else lease, "lease")
            self._lease(queue, seq, priority_of(state), attempts_of(state), deadline)
        return len(held)

    # -- dead letters ------------------------------------------------------------------------------

    def _make_dead(self, queue: Queue, seq: int, state: int) -> None:
        """Make a message a dead letter; if there are too many, the oldest one is deleted."""
        priority, attempts = priority_of(state), attempts_of(state)
        self._append(QUEUE_DEAD, queue, seq, _DEAD.pack(priority, attempts))
        self.store.die(seq, queue.name, priority, attempts, self.engine.now)
        if len(queue.dead) > DEAD_LETTERS_MAX:
            self._gone(queue, next(iter(queue.dead)))
            self._write_side(QUEUE_EVICTED, queue.name, EVICTED_MARK, U64.pack(queue.evicted + 1))

    @operation
    def dead_letters(self, name: bytes, limit: int = LIST_ITEMS_MAX, *, cursor: bytes = b"") -> list[Message]:
        """Up to `limit` dead letters, oldest first; stops near 16 MiB. They begin behind the one whose seq is the `cursor`, or with the
        first, if that one is no dead letter any more."""
        check_name(name)
        after = _seq_of(cursor) if cursor else 0
        self._settle()
        queue = self.find(name)
        letters: Iterable[tuple[int, Dead]] = queue.dead.items() if queue is not None else ()
        if queue is not None and after in queue.dead:
            letters = islice(dropwhile(lambda item: item[0] != after, letters), 1, None)
        found: list[Message] = []
        size = 0
        damage: Damaged | None = None
        for seq, dead in islice(letters, limit):
            try:
                payload = self._read(seq).state[MESSAGE_STATE.size :]
            except Damaged as e:
                damage = e  # show the other messages
                continue
            size += len(payload)
            if found and size > LIST_BYTES_MAX:
                break
            found.append(Message(seq, dead.priority, dead.attempts, dead.time, payload))
        if damage is not None and not found:
            raise damage
        return found

    @operation
    def requeue(self, name: bytes, seqs: Sequence[int]) -> int:
        """Put dead letters back into their queue; returns how many. Their attempts so far no longer count against the queue's limit. The
        number goes on growing, so that the receipt of an earlier delivery is never valid for a later one."""
        check_receipts(seqs)
        queue = self.find(name)
        dead_seqs = [seq for seq in dict.fromkeys(seqs) if queue is not None and seq in queue.dead]
        for seq in dead_seqs:
            assert queue is not None
            if queue.dead[seq].attempts == ATTEMPTS_MAX:
                raise BadRequest(
                    f"message {seq} was delivered {ATTEMPTS_MAX} times, the most that a receipt can hold; "
                    "delete it, and put its payload in again as a new message"
                )
        self.admit_frees(len(dead_seqs) * (TRANSITION_BYTES + len(name)))
        for seq in dead_seqs:
            assert queue is not None
            dead = queue.dead[seq]
            self._back(queue, seq, dead.priority, dead.attempts, 0, dead.attempts)
        self._serve(name)
        return len(dead_seqs)

    @operation
    def delete_dead(self, name: bytes, seqs: Sequence[int] | None = None) -> int:
        """Delete dead letters (None: all); returns how many."""
        queue = self.find(name)
        if queue is None:
            return 0
        if seqs is None:
            seqs = list(queue.dead)
        check_receipts(seqs)
        dead_seqs = [seq for seq in dict.fromkeys(seqs) if seq in queue.dead]
        self.admit_frees(len(dead_seqs) * (TRANSITION_BYTES + len(name)))
        for seq in dead_seqs:
            self._gone(queue, seq)
        return len(dead_seqs)

    # -- the queue itself --------------------------------------------------------------------------

    @operation
    def configure(self, name: bytes, *, lease: int | None = None, max_attempts: int | None = None) -> None:
        """Set the queue's own lease (ms) or its limit of attempts (0 for none); None leaves a value unchanged. A message whose lease has
        run out and whose attempts are used up under the new limit becomes a dead letter at once: a restart would make it one."""
        check_name(name)
        self._settle()
        if lease is not None and not 1 <= lease < UNSET:
            raise BadRequest(f"the lease is {lease} ms; it is 1 to {UNSET - 1}")
        if max_attempts is not None and not 0 <= max_attempts < UNSET:
            raise BadRequest(f"max_attempts is {max_attempts}; it is 0 (no limit) to {UNSET - 1}")
        queue = self.find(name)
        spent = self._spent(queue, max_attempts) if queue is not None and max_attempts else []
        self.admit_adds(2 * (len(spent) + 1) * (TRANSITION_BYTES + len(name)))
        self._write_config(name, queue, lease=lease, attempts_max=max_attempts)
        for seq, message in spent:
            assert queue is not None
            self._make_dead(queue, seq, message)

    def _write_config(
        self,
        name: bytes,
        queue: Queue | None,
        *,
        lease: int | None = None,
        attempts_max: int | None = None,
        paused: bool | None = None,
        deadline: int | None = None,
    ) -> None:
        """Write a queue's configuration; None leaves a value as it is. The caller must have admitted the record."""
        if lease is None:
            lease = queue.lease if queue is not None else UNSET
        if attempts_max is None:
            attempts_max = queue.attempts_max if queue is not None else UNSET
        if paused is None:
            paused = queue is not None and queue.paused
        if deadline is None:
            deadline = self.store.lifetimes.by_name.get(name, 0)
        more = _MORE.pack(paused, deadline) if paused or deadline else b""
        self._write_side(QUEUE_CONFIG, name, CONFIG_MARK, _CONFIG.pack(lease, attempts_max) + more)

    def write_lifetime(self, name: bytes, deadline: int) -> None:
        """See `Expiring`."""
        self._write_config(name, self.store.find(name), deadline=deadline)

    @operation
    def pause(self, name: bytes, paused: bool) -> None:
        """Stop the queue's deliveries, or resume them. A paused queue accepts new messages, and its leased messages are acknowledged or
        given back as usual; takers are served when it resumes. It stays paused across a restart."""
        check_name(name)
        queue = self.find(name)
        if paused != (queue is not None and queue.paused):
            self.admit_adds(TRANSITION_BYTES + len(name))
            self._write_config(name, queue, paused=paused)
            self._serve(name)

    def _spent(self, queue: Queue, limit: int) -> list[tuple[int, int]]:
        """(seq, state) of the messages whose lease has run out and whose attempts are used up under this limit."""
        found: dict[int, int] = {}
        for lane in queue.lanes.values():
            for seq in lane.back:
                state = self.store.state(seq)
                if state is None or kind_of(state) != LAPSED or queue_of(state) != queue.number:
                    continue
                if queue.is_spent(seq, state, limit):
                    found[seq] = state
        return sorted(found.items())

    @operation
    def peek(self, name: bytes, limit: int = 1) -> list[Message]:
        """Up to `limit` ready messages in the order of delivery, without delivering them; stops near 16 MiB."""
        check_name(name)
        self._settle()
        queue = self.find(name)
        return self._show(islice(self.store.ready(queue), limit)) if queue is not None else []

    def _show(self, messages: Iterable[tuple[int, int]]) -> list[Message]:
        found: list[Message] = []
        size = 0
        damage: Damaged | None = None
        for seq, state in messages:
            try:
                record = self._read(seq)
            except Damaged as e:
                damage = e  # show the other messages
                continue
            size += len(record.state)
            if found and size > LIST_BYTES_MAX:
                break
            found.append(Message(seq, priority_of(state), attempts_of(state), record.time, record.state[MESSAGE_STATE.size :]))
        if damage is not None and not found:
            raise damage
        return found

    @operation
    def ready_count(self, name: bytes) -> int:
        """How many messages of the queue are ready."""
        self._settle()
        queue = self.find(name)
        return queue.ready if queue is not None else 0

    @operation
    def stats(self, name: bytes) -> dict[str, object]:
        """The fields of `queue_stats`."""
        self._settle()
        queue = self.find(name)
        if queue is None:
            queue = Queue(name, 0)
        return {
            "ready": queue.ready,
            "delayed": queue.counts[DELAYED],
            "leased": queue.counts[LEASED],
            "dead": len(queue.dead),
            "dead_evicted": queue.evicted,
            "waiting": self.takers.count(name),
            "lease_ms": queue.lease_ms,
            "max_attempts": queue.attempts_limit,
            "paused": int(queue.paused),
            "oldest_at": self._oldest_at(queue),
            "enqueued": queue.enqueued,
            "delivered": queue.delivered,
            "acknowledged": queue.acknowledged,
        }

    def _oldest_at(self, queue: Queue) -> int:
        """When the oldest ready message was put in, ms; 0 if none is ready, or if it is damaged."""
        seq = self.store.oldest(queue)
        try:
            return self._read(seq).time if seq else 0
        except Damaged:
            return 0

    @operation
    def names(self) -> list[bytes]:
        """The name of every queue that has messages or is configured, in order."""
        return sorted(name for name, queue in self.store.queues.items() if queue.exists and not self.is_over(name))

    @operation
    def exists(self, name: bytes) -> bool:
        """Whether the queue has messages (dead letters included) or is configured."""
        queue = self.find(name)
        return queue is not None and queue.exists

    @property
    def empty(self) -> bool:
        """Whether nothing live is in any queue."""
        return not self.names() if self.store.lifetimes.by_name else not self.store.queue_count

    @operation
    def purge(self, name: bytes) -> int:
        """Remove every message but the dead letters; returns how many."""
        check_name(name)
        queue = self.find(name)
        if queue is None or not any(queue.counts):
            return 0
        count = sum(queue.counts)
        dead = list(queue.dead.items())
        self.admit_frees((1 + len(dead)) * (TRANSITION_BYTES + len(name)))
        self._mark(FAMILY_QUEUE, name)
        for seq, letter in dead:
            # the watermark removes dead letters too: write them again behind it, with the time when they died
            entity = container(name) + U64.pack(seq)
            state = _DEAD.pack(letter.priority, letter.attempts)
            self.engine.write(Record(QUEUE_DEAD, self.namespace, letter.time, entity, state, 0, (seq,)))
        return count

    @operation
    def delete(self, name: bytes) -> bool:
        """Remove the queue with its messages and its configuration; returns whether it existed."""
        check_name(name)
        if not self.exists(name):
            return False
        self.remove(name)
        return True

    def remove(self, name: bytes) -> None:
        """See `Expiring`."""
        self.admit_frees(2 * (TRANSITION_BYTES + len(name)))
        self._mark(FAMILY_QUEUE, name)
        self._mark(FAMILY_QUEUE_SIDE, name)

    def _mark(self, family: int, name: bytes) -> None:
        """Write the watermark that drops all the queue's records of a family."""
        scope = bytes((family,)) + container(name)
        self.engine.write(Record(WATERMARK, self.namespace, self.engine.now, scope, U64.pack(self.engine.log.next_index)))

    # -- time --------------------------------------------------------------------------------------

    def next_due(self) -> int | None:
        """See `Part`."""
        store = self.store
        times = (store.timers.next_due(), store.windows[0][0] if store.windows else None, store.lifetimes.next_due())
        return min((due for due in times if due is not None), default=None)

    def sweep_slice(self) -> bool:
        """See `Part`: handle leases, delays and deduplication windows that have ended; free purged messages."""
        store, now = self.store, self.engine.now
        more = store.timers.move(now)
        due = store.timers.due(now, RIPEN_SLICE)
        more |= len(due) == RIPEN_SLICE
        names = set()
        for at, (_, seq) in enumerate(due):
            state = store.state(seq)
            assert state is not None
            queue = store.numbers.get(queue_of(state))
            if queue is not None and kind_of(state) == LEASED and queue.is_spent(seq, state, queue.attempts_limit):
                try:
                    self._admit_transitions(2, queue.name)
                except Overloaded:
                    for deadline, other in due[at:]:
                        store.timers.add(deadline, other)
                    raise
                self._make_dead(queue, seq, state)
            else:
                store.ripen(seq)
                if queue is not None:
                    names.add(queue.name)
        more |= store.free(RIPEN_SLICE)
        more |= self._close_windows(WINDOW_SLICE)
        more |= self.drop_some()
        for name in names:
            self._serve(name)
        return more

    @property
    def quiet(self) -> bool:
        """See `Part`."""
        store = self.store
        return not store.freeing and not store.windows and not store.lifetimes.by_name and store.timers.next_due() is None

    @property
    def memory_bytes(self) -> int:
        """See `Part`."""
        return self.store.accounted

    def counts(self) -> dict[str, int]:
        """See `Part`. Costs the same however many queues there are."""
        store = self.store
        ready, delayed, leased, dead = store.ready_count, store.held[DELAYED], store.held[LEASED], store.dead
        return {
            "queues": store.queue_count,
            "messages": ready + delayed + leased + dead,
            "ready_messages": ready,
            "delayed_messages": delayed,
            "leased_messages": leased,
            "dead_messages": dead,
        }

    def containers(self) -> list[Any]:
        """See `Part`."""
        return list(self.store.queues.values())

    def measure(self, container: Queue) -> tuple[bytes, tuple[int, ...]]:
        """See `Part`."""
        ready, delayed, leased, dead = container.ready, container.counts[DELAYED], container.counts[LEASED], len(container.dead)
        return container.name, (ready + delayed + leased + dead, ready, delayed, leased, dead) if container.exists else ()

    def holders(self) -> list[Any]:
        """See `Part`: tables, and queues with lanes that may be empty."""
        self.store.purged = False
        return [*self.store.tables(), *self.store.queues.values()]

    def tidy(self, holder: Any) -> int:
        """See `Part`."""
        if not isinstance(holder, Queue):
            return super().tidy(holder)
        self.store.tidy(holder)
        return 1 + len(holder.lanes)

    @property
    def urges_tidying(self) -> bool:
        """See `Part`: after a purge."""
        return self.store.purged and not self.store.freeing

    def drop(self, below: int) -> list[Any]:
        """See `Part`."""
        held, self.store = self.store.pieces(), QueueStore()
        return held

    def lost(self, is_kept: Callable[[int], bool]) -> Iterator[Lost]:
        """See `Part`: messages without a payload."""
        store = self.store
        for shard in store.shards:
            for seq, state in shard.items():
                queue = store.numbers.get(queue_of(state))
                if queue is not None and not is_kept(seq):
                    yield self._lost_message(queue, seq)
        for queue in store.queues.values():
            for seq in chain(chain.from_iterable(lane.seqs() for lane in queue.lanes.values()), queue.dead):
                if not is_kept(seq):
                    yield self._lost_message(queue, seq)

    def _lost_message(self, queue: Queue, seq: int) -> Lost:
        return Lost(f"message {seq} of queue {queue.name!r}", lambda: self.forget(queue, seq))

    def _close_windows(self, most: int) -> bool:
        """Close up to `most` deduplication windows that have ended; returns whether there are more. Raises `Overloaded`."""
        windows, now = self.store.windows, self.engine.now
        while windows and windows[0][0] <= now and most > 0:
            until, name, key = windows[0]
            queue = self.find(name)
            if queue is not None and queue.dedup.get(key, (0, 0))[1] == until:
                self.admit_frees(TRANSITION_BYTES + len(name) + len(key))
                self._write_side(QUEUE_DEDUP_GONE, name, DEDUP_MARK + key, b"", gone=True)
            heappop(windows)
            most -= 1
        return bool(windows) and windows[0][0] <= now


def check_name(name: bytes) -> None:
    """Raise `BadRequest` for a queue's name over the limit."""
    if len(name) > NAME_BYTES_MAX:
        raise BadRequest(f"the queue's name is {len(name)} bytes; at most {NAME_BYTES_MAX} are allowed")


def _check_payload(payload: bytes) -> None:
    if len(payload) > VALUE_BYTES_MAX:
        raise BadRequest(f"the message is {len(payload)} bytes; at most {VALUE_BYTES_MAX} are allowed")


def _seq_of(cursor: bytes) -> int:
    """The seq that a cursor is: decimal digits, or a u64 as the protocol has its numbers (no seq is so large that it reads as digits)."""
    if cursor.isdigit():
        return int(cursor[:20])  # no seq has more digits
    if len(cursor) != U64.size:
        raise BadRequest("the option cursor is not the seq of a dead letter, in decimal; send the seq that you saw last")
    return int(U64.unpack(cursor)[0])


def check_receipts(items: Sequence[Any]) -> None:
    """Raise `BadRequest` for more messages than one request may name."""
    if len(items) > ATOMIC_ITEMS_MAX:
        raise BadRequest(f"the request names {len(items)} messages; at most {ATOMIC_ITEMS_MAX} are allowed in one")


def _deadline(now: int, after: int, what: str) -> int:
    if after < 0 or now + after > DEADLINE_MAX:
        raise BadRequest(f"the {what} is {after} ms; it must end by 2^53 ms of Unix time, the last time that Flo can store")
    return now + after


def peek_job(queues: Queues, name: bytes, first: int, last: int) -> Generator[None, None, list[Message]]:
    """The ready messages from position `first` to `last` in the order of delivery, in slices. Changes meanwhile may be seen or not."""
    store = queues.store
    queue = store.find(name)
    found: list[Message] = []
    places: list[tuple[int, Lane | None]] = []
    at = size = 0
    if queue is None:
        return found
    for looked, (seq, lane) in enumerate(store.snapshot(queue), 1):
        if looked % WALK_SLICE == 0:
            yield
            if queues.store is not store:  # the namespace was flushed meanwhile
                return found
        if store.still_ready(seq, queue, lane) is not None:
            if at >= first:
                places.append((seq, lane))
            at += 1
            if at > last:
                break
    for read, (seq, lane) in enumerate(places):
        if read and read % PEEK_SLICE == 0:
            yield
            if queues.store is not store:
                break
        state = store.still_ready(seq, queue, lane)
        if state is None:
            continue
        try:
            record = queues._read(seq)
        except Damaged:
            if not found and read == len(places) - 1:
                raise
            continue  # show the other messages
        size += len(record.state)
        if found and size > LIST_BYTES_MAX:
            break
        found.append(Message(seq, priority_of(state), attempts_of(state), record.time, record.state[MESSAGE_STATE.size :]))
    return found
