"""The consumer groups of one namespace's streams (SPEC section 3, "Streams").

A group is a cursor, and the records that were delivered and not acknowledged. There are two kinds of group, which differ only in their
defaults. A group made by Flo's own operations redelivers a record that is not acknowledged in time, and makes it a dead letter if it fails
too often. A group made by XGROUP does neither by itself, as in Redis.

Each delivery is a log record (*pending*), and each acknowledgement another. No log record is written when a delivery runs out: the record
goes to the next consumer that reads, and that delivery is written. A pending delivery does not keep its record in the stream: a trim
removes the record, and the delivery ends when it is next looked at.
"""

import struct
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import proxy

from flo.engine.operation import operation, run_job
from flo.engine.part import Part
from flo.engine.waiting import Taker, Takers
from flo.errors import BadRequest, Damaged, GroupExists, NoGroup, NotFound, Overloaded, Refusal
from flo.limits import ATOMIC_ITEMS_MAX, DEAD_LETTERS_MAX, DEADLINE_MAX, LIST_BYTES_MAX, LIST_ITEMS_MAX, NAME_BYTES_MAX
from flo.store.group import ACK_TIMEOUT_MS, DELIVERIES_DEFAULT, NOT_COUNTED, Consumer, Dead, Group, Pending
from flo.store.stream import ID_MAX, SEQ_BITS, SEQ_MASK, Stream
from flo.ual.record import (
    FAMILY_STREAM_GROUP,
    HEADER_BYTES,
    STREAM_CONSUMER,
    STREAM_CONSUMER_GONE,
    STREAM_DEAD,
    STREAM_GROUP,
    STREAM_GROUP_GONE,
    STREAM_PENDING,
    STREAM_PENDING_GONE,
    U64,
    Record,
    container,
    container_of,
)

if TYPE_CHECKING:
    from flo.engine.stream import Streams

MANY_SLICE = 500  # ids handled in one slice: 15 us each
U32_MAX, I64_MAX = (1 << 32) - 1, (1 << 63) - 1
GROUP_BYTES_MAX = CONSUMER_BYTES_MAX = 16_000  # with a stream's name of NAME_BYTES_MAX, an entity still fits its 65,535 bytes
GROUPS_MAX = 1000  # of a stream: deleting the stream writes a log record for each
CONSUMERS_MAX = 10_000  # of a group: a list of them is sorted
DELIVERY_BYTES = HEADER_BYTES + 80  # a log record about a delivery, without its names
RIPEN_SLICE = 500
DISMISS_SLICE = 500  # deliveries ended in one slice when a consumer is deleted
AT_ONCE = 1  # ms: the deadline of a delivery given back without a delay; it has passed by any clock, also after a restart

_ID = struct.Struct("<QQ")  # ms, seq
_GROUP = struct.Struct("<QQqBIIQ")  # cursor ms, seq; records read; made by (0 XGROUP, 1 Flo); ack timeout; most deliveries; evicted
_PENDING = struct.Struct("<QIQ")  # time, deliveries, deadline; the consumer follows
_DEAD = struct.Struct("<I")  # deliveries; the consumer follows
GROUP_MARK, CONSUMER_MARK, PENDING_MARK = b"g", b"c", b"p"


class Delivery(NamedTuple):
    """A record as a group delivers it. `payload` is None if the record was deleted from the stream after its first delivery."""

    ident: int
    kind: int
    deliveries: int
    payload: bytes | None


Key = tuple[bytes, bytes]  # stream, group


Delivered = list["Delivery"] | Refusal


class Groups(Part):
    """The groups of one namespace's streams. Names are bytes (a program may give str, as UTF-8), ids ints, times ms."""

    name = "groups"
    types: ClassVar[frozenset[int]] = frozenset(
        (STREAM_GROUP, STREAM_GROUP_GONE, STREAM_CONSUMER, STREAM_CONSUMER_GONE, STREAM_PENDING, STREAM_PENDING_GONE, STREAM_DEAD)
    )
    scopes: ClassVar[frozenset[int]] = frozenset((FAMILY_STREAM_GROUP,))
    nouns: ClassVar[dict[str, str]] = {
        "groups": "Consumer groups.",
        "pending_records": "Deliveries to consumer groups that are not acknowledged.",
        "dead_records": "Dead letters of consumer groups.",
    }
    streams: "Streams"

    def __init__(self, streams: "Streams") -> None:
        super().__init__(streams.engine, streams.namespace)
        self.streams = proxy(streams)  # a deleted namespace must not be in a cycle, since nothing collects cycles
        self.takers: Takers[Key] = Takers(lambda key: key[0])
        self.unserved: set[bytes] = set()  # streams whose takers wait for room on the disk

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """Apply a log record about a group to the store, live or replayed."""
        kind, state, store, head = record.type, record.state, self.streams.store, container_of(record.entity)
        name, rest = head[2:], record.entity[len(head) :]
        if kind == STREAM_GROUP:
            ms, seq, read, own, ack_timeout, max_deliver, evicted = _GROUP.unpack(state)
            group = store.open_group(name, rest[1:])
            group.declare(ms << SEQ_BITS | seq, read, bool(own), ack_timeout, max_deliver, evicted)
            return
        if kind == STREAM_GROUP_GONE:
            store.drop_group(name, rest[1:])
            return
        head = container_of(name)
        stream, group_name = head[2:], name[len(head) :]
        if kind == STREAM_CONSUMER:
            store.consume(stream, group_name, rest[1:], record.time)
        elif kind == STREAM_CONSUMER_GONE:
            store.dismiss(stream, group_name, rest[1:])
        else:
            ms, seq = _ID.unpack_from(rest, 1)
            ident = ms << SEQ_BITS | seq
            if kind == STREAM_PENDING:
                store.pend(stream, group_name, ident, Pending(state[_PENDING.size :], *_PENDING.unpack_from(state)))
            elif kind == STREAM_DEAD:
                deliveries = _DEAD.unpack_from(state)[0]
                store.die(stream, group_name, ident, Dead(state[_DEAD.size :], deliveries, record.time))
            else:
                store.end(stream, group_name, ident)

    def apply_watermark(self, scope: bytes, below: int) -> None:
        """Remove a group's consumers and deliveries."""
        name = scope[3:]
        head = container_of(name)
        self.streams.store.clear_group(head[2:], name[len(head) :])

    def _write(self, kind: int, name: bytes, group: bytes, rest: bytes, state: bytes, gone: bool = False) -> None:
        """Write a log record in the group's container."""
        entity = container(container(name) + group) + rest
        self.engine.write(Record(kind, self.namespace, self.engine.now, entity, state, gone=gone))

    def _write_pending(self, name: bytes, group: bytes, ident: int, pending: Pending) -> None:
        state = _PENDING.pack(pending.time, pending.deliveries, pending.deadline) + pending.consumer
        self._write(STREAM_PENDING, name, group, PENDING_MARK + _ID.pack(ident >> SEQ_BITS, ident & SEQ_MASK), state)

    def _write_end(self, name: bytes, group: bytes, ident: int) -> None:
        rest = PENDING_MARK + _ID.pack(ident >> SEQ_BITS, ident & SEQ_MASK)
        self._write(STREAM_PENDING_GONE, name, group, rest, b"", gone=True)

    def _write_group(
        self, name: bytes, group: bytes, last: int, read: int, own: bool, ack_timeout: int, max_deliver: int, evicted: int = 0
    ) -> None:
        state = _GROUP.pack(last >> SEQ_BITS, last & SEQ_MASK, read, own, ack_timeout, max_deliver, evicted)
        self.engine.write(Record(STREAM_GROUP, self.namespace, self.engine.now, container(name) + GROUP_MARK + group, state))

    def _write_cursor(self, name: bytes, group: Group, last: int, read: int, evicted: int | None = None) -> None:
        """Write the group with its cursor moved to `last`."""
        evicted = group.evicted if evicted is None else evicted
        self._write_group(name, group.name, last, read, group.own, group.ack_timeout, group.max_deliver, evicted)

    # -- finding -----------------------------------------------------------------------------------

    def find(self, name: bytes, group: bytes) -> tuple[Stream, Group] | None:
        """(stream, group), or None if either does not exist."""
        stream = self.streams.find(name)
        found = stream.group(group) if stream is not None else None
        return (stream, found) if stream is not None and found is not None else None

    def need(self, name: bytes, group: bytes, suffix: str = "") -> tuple[Stream, Group]:
        """`find`, but raises `NoGroup`, with Redis's wording and `suffix`."""
        found = self.find(name, group)
        if found is None:
            raise NoGroup(f"No such key '{_text(name)}' or consumer group '{_text(group)}'{suffix}")
        return found

    def _need_stream(self, name: bytes) -> Stream:
        stream = self.streams.find(name)
        if stream is None:
            raise NotFound(
                "The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create "
                "an empty stream automatically."
            )
        return stream

    def _need_group(self, name: bytes, group: bytes) -> tuple[Stream, Group]:
        stream = self._need_stream(name)
        found = stream.group(group)
        if found is None:
            raise NoGroup(f"No such consumer group '{_text(group)}' for key name '{_text(name)}'")
        return stream, found

    # -- groups and consumers ----------------------------------------------------------------------

    @operation
    def create(
        self,
        name: bytes,
        group: bytes,
        start: int | None = 0,
        *,
        make_stream: bool = False,
        own: bool = False,
        read: int = NOT_COUNTED,
        ack_timeout: int = ACK_TIMEOUT_MS,
        max_deliver: int = DELIVERIES_DEFAULT,
    ) -> None:
        """Make a group that delivers the records with ids above `start` (None: only records from now on). An `own` group redelivers after
        `ack_timeout` ms (0: never), and makes dead letters after `max_deliver` deliveries (0: never). Raises `GroupExists`, and `NotFound`
        if there is no stream and `make_stream` is false."""
        check_names(group)
        check_stream_name(name)
        stream = self.streams.find(name)
        if stream is None and not make_stream:
            self._need_stream(name)
        if stream is not None and stream.group(group) is not None:
            raise GroupExists("Consumer Group name already exists")
        if stream is not None and len(stream.groups) >= GROUPS_MAX:
            raise BadRequest(f"the stream has {len(stream.groups)} groups; at most {GROUPS_MAX} are allowed")
        self.admit_adds(2 * (DELIVERY_BYTES + len(name)) + len(group))
        if stream is None:
            self.streams.declare(name)
        last = start if start is not None else stream.last if stream is not None else 0
        if not own:
            ack_timeout = max_deliver = 0
        self._write_group(name, group, last, read, own, ack_timeout, max_deliver)

    @operation
    def set_cursor(self, name: bytes, group: bytes, last: int | None, read: int = NOT_COUNTED) -> None:
        """Move the group's cursor: deliver the records with ids above `last` (None: only records from now on). Raises `NotFound`,
        `NoGroup`."""
        stream, found = self._need_group(name, group)
        self.admit_frees(DELIVERY_BYTES + len(name) + len(group))
        self._write_cursor(name, found, stream.last if last is None else last, read)
        self.serve(name)

    @operation
    def destroy(self, name: bytes, group: bytes) -> bool:
        """Delete a group with its consumers and deliveries; returns whether it existed. Raises `NotFound` if there is no stream."""
        stream = self._need_stream(name)
        if stream.group(group) is None:
            return False
        self.admit_frees(2 * (DELIVERY_BYTES + len(name) + len(group)))
        self.streams.mark(FAMILY_STREAM_GROUP, container(name) + group)
        self.engine.write(Record(STREAM_GROUP_GONE, self.namespace, self.engine.now, container(name) + GROUP_MARK + group, b"", gone=True))
        self.takers.end((name, group), _no_such_group)
        return True

    @operation
    def create_consumer(self, name: bytes, group: bytes, consumer: bytes) -> bool:
        """Make a consumer; returns whether it is new. Raises `NotFound`, `NoGroup`."""
        check_names(group, consumer)
        _, found = self._need_group(name, group)
        if consumer in found.consumers:
            return False
        self.admit_adds(self._size(name, found, consumer))
        self._open_consumer(name, found, consumer)
        return True

    @staticmethod
    def _size(name: bytes, group: Group, consumer: bytes = b"") -> int:
        """The most bytes of a log record about a delivery."""
        return DELIVERY_BYTES + len(name) + len(group.name) + len(consumer)

    def _open_consumer(self, name: bytes, group: Group, consumer: bytes) -> Consumer:
        """The consumer; it is made if it does not exist, with a log record that the caller has admitted. Raises `BadRequest` for more than
        CONSUMERS_MAX."""
        found = group.consumers.get(consumer)
        if found is None:
            if len(group.consumers) >= CONSUMERS_MAX:
                raise BadRequest(f"the group has {len(group.consumers)} consumers; at most {CONSUMERS_MAX} are allowed: delete some")
            self._write(STREAM_CONSUMER, name, group.name, CONSUMER_MARK + consumer, U64.pack(self.engine.now))
            found = group.consumers[consumer]
        found.seen = self.engine.now
        return found

    @operation
    def delete_consumer(self, name: bytes, group: bytes, consumer: bytes) -> int:
        """Delete a consumer and its deliveries; returns how many deliveries ended. Raises `NotFound`, `NoGroup`."""
        return run_job(self.delete_consumer_job(name, group, consumer))

    def delete_consumer_job(self, name: bytes, group: bytes, consumer: bytes) -> Generator[None, None, int]:
        """`delete_consumer`, in slices."""
        _, found = self._need_group(name, group)
        count = 0
        while consumer in found.consumers:
            dismissed = found.consumers[consumer]
            ids = list(islice(dismissed.order.start(0), DISMISS_SLICE))
            self.admit_frees((len(ids) + 1) * self._size(name, found, consumer))
            for ident in ids:
                self._write_end(name, group, ident)
            count += len(ids)
            if not dismissed.order:
                self._write(STREAM_CONSUMER_GONE, name, group, CONSUMER_MARK + consumer, b"", gone=True)
                break
            yield
            again = self.find(name, group)
            if again is None or again[1] is not found:
                break  # the group was deleted meanwhile
        return count

    # -- reading -----------------------------------------------------------------------------------

    def available(self, stream: Stream, group: Group) -> bool:
        """Whether a read would deliver something."""
        return bool(group.lapsed) or bool(stream.chunks and stream.chunks[-1].last() > group.last)

    @operation
    def read(self, name: bytes, group: bytes, consumer: bytes, limit: int, *, no_ack: bool = False, create: bool = False) -> list[Delivery]:
        """Deliver up to `limit` records: first those whose delivery ran out, then new ones. With `no_ack` they are acknowledged at once.
        With `create`, a missing stream or group is made. Stops near 16 MiB. Raises `NoGroup`."""
        check_names(group, consumer)
        if create and self.find(name, group) is None:
            self.create(name, group, 0, make_stream=True, own=True)
        stream, found = self.need(name, group)
        self._settle()
        reader = found.consumers.get(consumer)
        if reader is not None:
            reader.seen = self.engine.now  # a read of an empty group neither makes a consumer nor writes a record
        answer: list[Delivery] = []
        while not answer and self.available(stream, found):
            answer = self._take(name, stream, found, consumer, limit, no_ack)
        return answer

    def _take(self, name: bytes, stream: Stream, group: Group, consumer: bytes, count: int, acknowledge: bool) -> list[Delivery]:
        """Deliver up to `count` records. The list is empty if none are available, or if all records looked at were trimmed away; their
        deliveries have ended then."""
        now = self.engine.now
        count = min(max(count, 1), LIST_ITEMS_MAX)
        fresh = stream.ascending(group.last + 1, ID_MAX, count) if stream.last > group.last else []
        lapsed = list(islice(group.lapsed.start(0), count)) if group.lapsed else []
        if not fresh and not lapsed:
            return []
        self.admit_frees((len(fresh) + len(lapsed) + 2) * self._size(name, group, consumer))
        reader = self._open_consumer(name, group, consumer)
        deadline = now + group.ack_timeout if group.ack_timeout else 0
        found: list[Delivery] = []
        size = 0
        for ident in lapsed:
            index = stream.find(ident)
            if not index:
                self._write_end(name, group.name, ident)  # the record was trimmed away
                continue
            try:
                record = self.streams.load(ident, index)
            except Damaged:
                if found:
                    return self._delivered(reader, found)
                self._make_dead(name, group, ident)  # else every read would find it first
                raise
            size += len(record.payload)
            if found and size > LIST_BYTES_MAX:
                break
            deliveries = min(group.pending[ident].deliveries + 1, U32_MAX)
            if acknowledge:
                self._write_end(name, group.name, ident)
            else:
                self._write_pending(name, group.name, ident, Pending(consumer, now, deliveries, deadline))
            found.append(Delivery(ident, record.kind, deliveries, record.payload))
        last, read = group.last, group.read
        for ident, index in fresh[: count - len(found)]:
            try:
                record = self.streams.load(ident, index)
            except Damaged:
                if found:
                    break  # deliver the records before it; the next read raises
                self._write_dead_letter(name, group, ident, 0, consumer)
                read = min(read + 1, I64_MAX) if read != NOT_COUNTED and not tombstones(stream, ident) else distance(stream, ident)
                self._write_cursor(name, group, ident, read)
                raise
            size += len(record.payload)
            if found and size > LIST_BYTES_MAX:
                break
            if not acknowledge:
                self._write_pending(name, group.name, ident, Pending(consumer, now, 1, deadline))
            found.append(Delivery(ident, record.kind, 1, record.payload))
            read = min(read + 1, I64_MAX) if read != NOT_COUNTED and not tombstones(stream, ident) else distance(stream, ident)
            last = ident
        if last != group.last:
            self._write_cursor(name, group, last, read)
        return self._delivered(reader, found)

    def _delivered(self, consumer: Consumer, found: list[Delivery]) -> list[Delivery]:
        if found:
            consumer.active = self.engine.now
        return found

    @operation
    def history(self, name: bytes, group: bytes, consumer: bytes, after: int, count: int) -> list[Delivery]:
        """Deliver again up to `count` of the consumer's pending records with ids above `after`. Raises `NoGroup`."""
        check_names(group, consumer)
        stream, found = self.need(name, group)
        reader = found.consumers.get(consumer)
        ids = list(islice(reader.order.start(after + 1), min(count, LIST_ITEMS_MAX))) if reader is not None else []
        self.admit_frees((len(ids) + 1) * self._size(name, found, consumer))
        self._open_consumer(name, found, consumer)
        now = self.engine.now
        answer: list[Delivery] = []
        size = 0
        for ident in ids:
            index = stream.find(ident)
            pending = found.pending[ident]
            if not index:
                answer.append(Delivery(ident, 0, pending.deliveries, None))
                continue
            try:
                record = self.streams.load(ident, index)
            except Damaged:
                if answer:
                    break
                raise
            size += len(record.payload)
            if answer and size > LIST_BYTES_MAX:
                break
            deadline = now + found.ack_timeout if found.ack_timeout else 0
            deliveries = min(pending.deliveries + 1, U32_MAX)
            self._write_pending(name, group, ident, Pending(consumer, now, deliveries, deadline))
            answer.append(Delivery(ident, record.kind, deliveries, record.payload))
        return answer

    @operation
    def wait(
        self,
        keys: Sequence[Key],
        consumer: bytes,
        count: int,
        deliver: Callable[[bytes, Delivered], None],
        *,
        acknowledge: bool = False,
    ) -> Taker[Key]:
        """Call `deliver` once one of the groups has records; takers are served in the order in which they came. None of the groups may
        have available records now."""
        for _, group in keys:
            check_names(group, consumer)
        return self.takers.add(keys, count, acknowledge, deliver, consumer=consumer)

    def serve(self, name: bytes) -> None:
        """Serve the takers of this stream's groups, if records are available, one taker after the other."""
        for _, group_name in self.takers.keys_of(name):
            found = self.find(name, group_name)
            while found is not None and self.available(*found):
                taker = self.takers.first((name, group_name))
                if taker is None:
                    break
                try:
                    delivered: Delivered = self._take(name, *found, taker.consumer, taker.count, taker.acknowledge)
                except Overloaded:
                    # the disk has no room for the deliveries: the takers wait until it has
                    self.unserved.add(name)
                    self.sweep_later()
                    return
                except Refusal as e:
                    delivered = e
                if delivered:  # else the available records were trimmed away, and their deliveries have ended
                    taker.cancel()
                    taker.deliver(name, delivered)

    def end_stream(self, name: bytes) -> None:
        """Tell the takers of a deleted stream's groups."""
        for key in self.takers.keys_of(name):
            self.takers.end(key, _no_such_group)

    def end(self) -> None:
        """See `Part`."""
        super().end()
        self.takers.end_all(_no_such_group)

    def drop(self, below: int) -> list[Any]:
        """See `Part`. The groups' data is dropped with their streams."""
        self.takers.end_all(_no_such_group)
        return []

    def waiting(self, name: bytes, group: bytes) -> int:
        """How many takers wait for a group."""
        return self.takers.count((name, group))

    # -- deliveries --------------------------------------------------------------------------------

    @operation
    def ack(self, name: bytes, group: bytes, ids: Sequence[int], *, need: bool = False) -> int:
        """Acknowledge deliveries and delete dead letters; returns how many. Raises `NoGroup`, or with `need` false returns 0, if there is
        no group."""
        check_ids(ids)
        found = self.need(name, group) if need else self.find(name, group)
        if found is None:
            return 0
        known = [ident for ident in dict.fromkeys(ids) if ident in found[1].pending or ident in found[1].dead]
        self.admit_frees(len(known) * (DELIVERY_BYTES + len(name) + len(group)))
        for ident in known:
            self._write_end(name, group, ident)
        return len(known)

    @operation
    def nack(self, name: bytes, group: bytes, ids: Sequence[int], *, delay: int = 0, consumer: bytes | None = None) -> int:
        """Give deliveries back: the next consumer that reads gets them, at once or after `delay` ms. Deliveries that have reached the
        group's `max_deliver` become dead letters. A dead letter is given back with its deliveries counted from 0. With `consumer`, only
        that consumer's deliveries. Returns how many. Raises `NoGroup`."""
        check_ids(ids)
        _, found = self.need(name, group)
        now = self.engine.now
        deadline = _deadline(now, delay, "delay") if delay else AT_ONCE
        pending_ids = self._pending_ids(found, ids, consumer)
        letters = [ident for ident in dict.fromkeys(ids) if ident in found.dead and consumer is None]
        consumers = [found.pending[ident].consumer for ident in pending_ids] + [found.dead[ident].consumer for ident in letters]
        self.admit_frees(3 * sum(self._size(name, found, consumer) for consumer in consumers))
        for ident in letters:
            # the letter's consumer may have been deleted
            self._open_consumer(name, found, found.dead[ident].consumer)
            self._write_pending(name, group, ident, Pending(found.dead[ident].consumer, now, 0, deadline))
        for ident in pending_ids:
            pending = found.pending[ident]
            if found.max_deliver and pending.deliveries >= found.max_deliver:
                self._make_dead(name, found, ident)
            else:
                self._write_pending(name, group, ident, pending._replace(deadline=deadline))
        self._settle()
        self.serve(name)
        return len(pending_ids) + len(letters)

    @operation
    def touch(self, name: bytes, group: bytes, ids: Sequence[int], *, lease: int | None = None, consumer: bytes | None = None) -> int:
        """Let deliveries run out `lease` ms from now (None: the group's `ack_timeout`); returns how many. Raises `NoGroup`."""
        check_ids(ids)
        _, found = self.need(name, group)
        after = found.ack_timeout if lease is None else lease
        deadline = _deadline(self.engine.now, after, "lease") if after else 0
        pending_ids = self._pending_ids(found, ids, consumer)
        consumers = sum(len(found.pending[ident].consumer) for ident in pending_ids)
        self.admit_frees(len(pending_ids) * (DELIVERY_BYTES + len(name) + len(group)) + consumers)
        for ident in pending_ids:
            self._write_pending(name, group, ident, found.pending[ident]._replace(time=self.engine.now, deadline=deadline))
        return len(pending_ids)

    @staticmethod
    def _pending_ids(group: Group, ids: Iterable[int], consumer: bytes | None) -> list[int]:
        """The pending ones of `ids`; with `consumer`, only that consumer's."""
        return [i for i in dict.fromkeys(ids) if i in group.pending and consumer in (None, group.pending[i].consumer)]

    @operation
    def claim(
        self,
        name: bytes,
        group: bytes,
        consumer: bytes,
        ids: Sequence[int],
        *,
        min_idle: int = 0,
        time: int | None = None,
        deliveries: int | None = None,
        force: bool = False,
        count: bool = True,
        last: int = 0,
    ) -> tuple[list[Delivery], list[int]]:
        """Give this consumer the deliveries of `ids` that are idle for at least `min_idle` ms. `time` is set as their time of delivery
        (None: now), `deliveries` as their count (None: one more with `count`, else unchanged). `force` makes deliveries of ids that are not
        pending. The cursor moves to `last` if it is behind. Returns the claimed deliveries, and the ids whose records are no longer in the
        stream: their deliveries end. Raises `NoGroup`."""
        check_ids(ids)
        check_names(group, consumer)
        stream, found = self.need(name, group)
        now = self.engine.now
        ids = [i for i in ids if i in found.pending or (force and i not in found.dead and stream.find(i))]
        self.admit_frees((len(ids) + 2) * self._size(name, found, consumer))
        if ids and consumer not in found.consumers and len(found.consumers) >= CONSUMERS_MAX:
            self._open_consumer(name, found, consumer)  # raises, before anything is written
        if last > found.last:
            self._write_cursor(name, found, last, found.read)
        claimed: list[Delivery] = []
        gone: list[int] = []
        size = 0
        for ident in ids:
            pending = found.pending.get(ident)
            index = stream.find(ident)
            if not index:
                if pending is not None:
                    self._write_end(name, group, ident)
                    gone.append(ident)
                continue
            if pending is None:
                pending = Pending(consumer, 0, 1, 0)  # as Redis counts
            elif pending.idle(now) < min_idle:
                continue
            try:
                record = self.streams.load(ident, index)
            except Damaged:
                if claimed or gone:
                    break
                raise
            size += len(record.payload)
            if claimed and size > LIST_BYTES_MAX:
                break
            if not claimed:
                self._open_consumer(name, found, consumer)
            times = deliveries if deliveries is not None else min(pending.deliveries + count, U32_MAX)
            since = now if time is None else min(time, now)
            deadline = now + found.ack_timeout if found.ack_timeout else 0
            self._write_pending(name, group, ident, Pending(consumer, since, times, deadline))
            claimed.append(Delivery(ident, record.kind, times, record.payload))
        if claimed:
            found.consumers[consumer].active = now
        return claimed, gone

    @operation
    def claim_idle(
        self, name: bytes, group: bytes, consumer: bytes, min_idle: int, start: int, limit: int, *, count: bool = True
    ) -> tuple[int, list[Delivery], list[int]]:
        """Claim up to `limit` idle deliveries from id `start` on; looks at ten times as many at most. Returns the id to go on from (0: none
        is left), the claimed deliveries, and the ids whose records are no longer in the stream. Raises `NoGroup`."""
        _, found = self.need(name, group)
        ids: list[int] = []
        following = 0
        for looked, ident in enumerate(found.order.start(start)):
            if len(ids) >= limit or looked >= 10 * limit:
                following = ident
                break
            if found.pending[ident].idle(self.engine.now) >= min_idle:
                ids.append(ident)
        claimed, gone = self.claim(name, group, consumer, ids, min_idle=min_idle, count=count)
        if len(claimed) + len(gone) < len(ids):
            following = ids[len(claimed) + len(gone)]  # the answer was full
        return following, claimed, gone

    @operation
    def pending(
        self,
        name: bytes,
        group: bytes,
        start: int = 0,
        end: int = ID_MAX,
        limit: int = LIST_ITEMS_MAX,
        consumer: bytes | None = None,
        idle: int = 0,
    ) -> list[tuple[int, Pending]]:
        """Up to `limit` deliveries from id `start` to `end`, of one consumer or all, that are idle for at least `idle` ms. Raises
        `NoGroup`."""
        return run_job(self.pending_job(name, group, start, end, limit, consumer, idle))

    def pending_job(
        self, name: bytes, group: bytes, start: int, end: int, limit: int, consumer: bytes | None, idle: int
    ) -> Generator[None, None, list[tuple[int, Pending]]]:
        """`pending`, in slices."""
        _, found = self.need(name, group)
        answer: list[tuple[int, Pending]] = []
        if consumer is not None and consumer not in found.consumers:
            return answer
        while len(answer) < limit:
            order = found.order if consumer is None else found.consumers[consumer].order
            ids = list(islice(order.start(start), LIST_ITEMS_MAX))
            for ident in ids:
                pending = found.pending[ident]
                if ident > end or len(answer) >= limit:
                    return answer
                if pending.idle(self.engine.now) >= idle:
                    answer.append((ident, pending))
            if len(ids) < LIST_ITEMS_MAX:
                break
            start = ids[-1] + 1
            yield
            again = self.find(name, group)
            if again is None or again[1] is not found or (consumer is not None and consumer not in found.consumers):
                break  # the group or the consumer was deleted meanwhile
        return answer

    # -- time --------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Do the work that is due, before a read. A server does one slice here, and the rest in the next turns."""
        store, now = self.streams.store, self.engine.now
        while not store.timers.quiet(now) and self.sweep() and not self.engine.manual:
            pass

    def next_due(self) -> int | None:
        """See `Part`. 0 if takers wait for room on the disk: `sweep_after` delays the sweep."""
        return 0 if self.unserved else self.streams.store.timers.next_due()

    def counts(self) -> dict[str, int]:
        """See `Part`. Costs the same however many groups there are."""
        store = self.streams.store
        return {"groups": store.group_count, "pending_records": store.pending, "dead_records": store.dead}

    @property
    def quiet(self) -> bool:
        """See `Part`."""
        return not self.unserved and self.streams.store.timers.next_due() is None

    def sweep_slice(self) -> bool:
        """See `Part`: a delivery that has run out becomes available to the next read, or a dead letter."""
        engine, store = self.engine, self.streams.store
        more = store.timers.move(engine.now)
        due = store.timers.due(engine.now, RIPEN_SLICE)
        names: dict[bytes, None] = dict.fromkeys(self.unserved)
        self.unserved.clear()
        for at, (deadline, item) in enumerate(due):
            group = store.numbers[item >> 2 * SEQ_BITS]
            ident = item & ID_MAX
            if group.gone:
                continue
            name = group.stream
            if group.max_deliver and group.pending[ident].deliveries >= group.max_deliver:
                try:
                    self.admit_frees(3 * (DELIVERY_BYTES + len(name) + len(group.name) + CONSUMER_BYTES_MAX))
                except Overloaded:
                    for later, other in due[at:]:
                        store.timers.add(later, other)
                    self.unserved.update(names)
                    raise
                self._make_dead(name, group, ident)
            else:
                group.lapse(ident)
                names[name] = None
            assert deadline <= engine.now
        for name in names:
            self.serve(name)
        return more or len(due) == RIPEN_SLICE

    def _make_dead(self, name: bytes, group: Group, ident: int) -> None:
        """Make a delivery a dead letter; if there are too many, the oldest one is deleted."""
        pending = group.pending[ident]
        self._write_dead_letter(name, group, ident, pending.deliveries, pending.consumer)

    def _write_dead_letter(self, name: bytes, group: Group, ident: int, deliveries: int, consumer: bytes) -> None:
        """Make a record a dead letter of the group. `deliveries` is their number, `consumer` the last one that got it."""
        rest = PENDING_MARK + _ID.pack(ident >> SEQ_BITS, ident & SEQ_MASK)
        self._write(STREAM_DEAD, name, group.name, rest, _DEAD.pack(deliveries) + consumer)
        if len(group.dead) > DEAD_LETTERS_MAX:
            self._write_end(name, group.name, next(iter(group.dead)))
            self._write_cursor(name, group, group.last, group.read, group.evicted + 1)


def _no_such_group(key: Key) -> tuple[bytes, Refusal]:
    return key[0], NoGroup("the consumer group this client was blocked on no longer exists")


def tombstones(stream: Stream, after: int) -> bool:
    """Whether a record from id `after` to the stream's last was deleted by its id. Only the highest deleted id is known."""
    return bool(stream.count and stream.max_deleted) and after <= stream.max_deleted <= stream.last


def distance(stream: Stream, ident: int) -> int:
    """How many records the stream ever had up to an id, or NOT_COUNTED if that is not known. As Redis 7 does."""
    if not stream.added:
        return 0
    if not stream.count and ident <= stream.last:
        return stream.added
    if ident == stream.last:
        return stream.added
    if ident > stream.last:
        return NOT_COUNTED
    if stream.max_deleted < stream.first:  # no record from `first` on was deleted by its id
        if ident < stream.first:
            return stream.added - stream.count
        if ident == stream.first:
            return stream.added - stream.count + 1
    return NOT_COUNTED


def lag(stream: Stream, group: Group) -> int | None:
    """How many records the group has not delivered yet; None if that is not known."""
    if not stream.added:
        return 0
    if group.read != NOT_COUNTED and not tombstones(stream, group.last):
        return stream.added - group.read
    read = distance(stream, group.last)
    return None if read == NOT_COUNTED else stream.added - read


def unread(stream: Stream, group: Group) -> int:
    """How many records of the stream have ids above the group's cursor."""
    return stream.count - stream.before(*stream.place(group.last + 1))


def check_ids(ids: Sequence[int]) -> None:
    """Raise `BadRequest` for more records than one request may name."""
    if len(ids) > ATOMIC_ITEMS_MAX:
        raise BadRequest(f"the request names {len(ids)} records; at most {ATOMIC_ITEMS_MAX} are allowed in one")


def check_names(group: bytes, consumer: bytes = b"") -> None:
    """Raise `BadRequest` for names over the limit."""
    if len(group) > GROUP_BYTES_MAX:
        raise BadRequest(f"the group's name is {len(group)} bytes; at most {GROUP_BYTES_MAX} are allowed")
    if len(consumer) > CONSUMER_BYTES_MAX:
        raise BadRequest(f"the consumer's name is {len(consumer)} bytes; at most {CONSUMER_BYTES_MAX} are allowed")


def check_stream_name(name: bytes) -> None:
    """Raise `BadRequest` for a stream's name over the limit."""
    if len(name) > NAME_BYTES_MAX:
        raise BadRequest(f"the stream's name is {len(name)} bytes; at most {NAME_BYTES_MAX} are allowed")


def _deadline(now: int, after: int, what: str) -> int:
    if now + after > DEADLINE_MAX:
        raise BadRequest(f"the {what} is {after} ms; it must end by 2^53 ms of Unix time, the last time that Flo can store")
    return now + after


def _text(name: bytes) -> str:
    return name[:128].decode("utf-8", "replace")
