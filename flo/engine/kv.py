"""The key-value operations of one namespace (SPEC section 3, "Key-value").

Each operation reads its key's live state, checks its preconditions, and writes one record for each key. A refused operation has changed
nothing. A key whose deadline has passed is gone for every operation at once. The operation that finds it expired buries it: the key then
stays gone even if the clock goes back, and its history shows the deletion.

Records (docs/log-format.md): the state of an expiring value begins with its u64 deadline; a touch leans on the record that holds the value.
"""

import os
import struct
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from flo.engine.bulk_kv import BulkValues
from flo.engine.operation import operation, run_job
from flo.engine.part import Database, Part
from flo.engine.waiting import Watch, Watches
from flo.errors import BadRequest, Conflict, Damaged, NotFound, OutOfRange, Overloaded, WrongKind
from flo.limits import ATOMIC_ITEMS_MAX, KEY_BYTES_MAX, LIST_BYTES_MAX, VALUE_BYTES_MAX
from flo.store import jsonpath
from flo.store.deadlines import SECOND_MS
from flo.store.kv import (
    COUNTER,
    I64_MAX,
    I64_MIN,
    JSON,
    KIND_MASK,
    NOTE_BYTES,
    NOTED,
    SHARD_MASK,
    SHARDS,
    STRING,
    VERSION_BYTES,
    Found,
    KvStore,
    entry_deadline,
    entry_holder,
    entry_value,
    entry_value_bytes,
    entry_version,
    found_in,
)
from flo.store.lazy import DAMAGED
from flo.store.ordered import PLACES, WAITING_MIN, Position
from flo.store.pattern import read_pattern
from flo.ual.record import (
    FAMILY_KV,
    FAMILY_MASK,
    GONE,
    HEADER_BYTES,
    KNOWN_TYPES,
    KV_DEADLINE,
    KV_GONE,
    KV_STRING,
    KV_TOUCH,
    U64,
    Record,
)

PREPARE_SLICE = 500  # keys looked at in one slice, and buried if they have expired: 2 ms
SCAN_SLICE = 2000  # keys looked at in one slice: 2 ms
RECORD_MARGIN_BYTES = HEADER_BYTES + 20  # a record without its key and value: header, deadline, lean, its offset in the footer
HISTORY_SLICE = 64  # versions read from the log in one slice: 10 us each from a warm cache
HISTORY_SLICE_BYTES = 1 << 20
SWEEP_KEYS = 200  # expired keys buried in one slice: 3 us each
RANDOM_TRIES = 100
CURSORS_MAX = 10_000  # numbers of cursors kept besides two for each leaf
CURSOR_BYTES_MAX = 16 << 20
CURSOR_BYTES = 280  # of one besides its key, which stays in memory with it where that was deleted
CURSOR_MAX = 1 << 53

LEAN_BYTES = DEADLINE_BYTES = 8
# A record's header without its last field, the predecessor (flo.ual.record). The predecessor is copied from the end of the key's old entry.
_START = struct.Struct("<IBBHIQ").pack
_DEADLINE = U64.unpack_from  # reads an entry's deadline, at NOTE_BYTES from its end
NO_PREDECESSOR, NO_FLAGS = bytes(8), b"\0"


class Ended:
    """The type of ENDED, the state of every key after its namespace was deleted."""


ENDED = Ended()


class Version(NamedTuple):
    """One version of a key in its history. The version of a touch has the unchanged value."""

    version: int
    time: int
    tombstone: bool
    value: bytes


class Cursors:
    """Numbers for positions of walks (flo.store.ordered), that any client can hold (below 2^53), good on any connection.

    A number stands for a key that a leaf ended below, and a place in that leaf. All walks share one number for one such key, so there are
    about as many as leaves. A number is known however long its walk pauses, and whatever is scanned meanwhile. It is forgotten only once
    CURSORS_MAX leaves more than there are were made and removed since. A walk with a forgotten one starts over.
    """

    def __init__(self) -> None:
        self._bounds: OrderedDict[int, bytes] = OrderedDict()  # the one given out longest ago first
        self._numbers: dict[bytes, int] = {}
        self._bytes = 0
        self._next = int.from_bytes(os.urandom(4), "little") | 1  # a cursor from before a restart should not name another position

    def number(self, position: Position, leaves: int) -> int:
        """The cursor of a position, where there are that many leaves."""
        bound, place = position
        number = self._numbers.get(bound)
        if number is None:
            number, self._next = self._next, self._next + 1 if self._next + 1 < CURSOR_MAX // PLACES else 1
            self._numbers[bound], self._bounds[number] = number, bound
            self._bytes += len(bound)
            while len(self._bounds) > CURSORS_MAX + 2 * leaves or self._bytes > CURSOR_BYTES_MAX:
                self._forget(self._bounds.popitem(last=False)[1])
        else:
            self._bounds.move_to_end(number)
        return number * PLACES + place

    def _forget(self, bound: bytes) -> None:
        del self._numbers[bound]
        self._bytes -= len(bound)

    @property
    def accounted(self) -> int:
        """Bytes of memory accounted to them."""
        return self._bytes + CURSOR_BYTES * len(self._bounds)

    def position(self, cursor: int) -> Position:
        """Where a cursor stands; the start of a walk where it is not known."""
        number, place = divmod(cursor, PLACES)
        bound = self._bounds.get(number)
        return (b"", 0) if bound is None else (bound, place)


class KeyValue(Part):
    """The keys of one namespace. Keys and values are bytes (a program may give str, as UTF-8); deadlines and times are Unix ms; versions
    are log indexes."""

    name = "kv"
    types: ClassVar[frozenset[int]] = frozenset(kind for kind in KNOWN_TYPES if kind & FAMILY_MASK == FAMILY_KV)
    bulk: ClassVar[type[BulkValues]] = BulkValues
    nouns: ClassVar[dict[str, str]] = {
        "keys": "Keys, expired keys that were not swept yet included.",
        "keys_with_deadline": "Keys with a deadline, expired keys that were not swept yet included.",
    }

    def __init__(self, engine: Database, namespace: int) -> None:
        super().__init__(engine, namespace)
        settings = engine.settings
        self.store: KvStore = KvStore(settings.history_age if settings.history_depth > 1 else 0)
        self.watches: Watches = Watches()
        self.cursors: Cursors = Cursors()

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """Apply a record of this family to the store, live or replayed."""
        kind, key, state = record.type, record.entity, record.state
        if kind == KV_GONE:
            self.store.bury(index, key, record.time)
        elif kind & KV_TOUCH == KV_TOUCH:
            self.store.touch(index, key, U64.unpack(state)[0] if state else 0, record.leans[0])
        elif kind & KV_DEADLINE:
            self.store.put(index, key, state[8:], kind & 3, U64.unpack_from(state)[0])
        else:
            self.store.put(index, key, state, kind & 3, 0)
        if self.watches.by_name:
            self._tell(key)

    def _tell(self, key: bytes) -> None:
        """The key has changed: have its watches told."""
        if self.watches.change(key):
            self.engine.changed.add(self)

    def notify(self, most: int) -> bool:
        """See `Part`. A watch gets the key's present state, or ENDED if the namespace is deleted."""
        return self.watches.notify(most, lambda key: ENDED if self.ended else self._live(key))

    def drop(self, below: int) -> list[Any]:
        """See `Part`."""
        store = self.store
        held = [*store.deadlines.pieces(), store.buried, *store.ordered.leaves(), store.ordered.fresh, *store.clear(below)]
        self.watches.change_all()
        self.engine.changed.add(self)
        return held

    def end(self) -> None:
        """See `Part`."""
        super().end()
        self.watches.change_all()
        self.engine.changed.add(self)

    # Every record of a key is packed in the next three methods, and nowhere else.

    def _write(self, key: bytes, value: bytes, kind: int, deadline: int, grows: bool = True) -> int:
        """Give the key a value, and a deadline (ms, 0 for none); returns the version. `grows` is whether memory does. Raises `Overloaded`,
        `OutOfMemory`."""
        engine, store, key_size = self.engine, self.store, len(key)
        log, now = engine.log, engine.now
        size = HEADER_BYTES + key_size + len(value)
        if log.pending_bytes + size > engine.adds_until:
            # the record, and the tombstone of what has expired
            engine.admit(2 * (RECORD_MARGIN_BYTES + key_size) + len(value), adds=True, grows=grows)
        if self.ended:
            self.check_namespace()
        shard = store.shards[hash(key) & SHARD_MASK]
        old = shard.get(key)
        if old is None:
            prev = NO_PREDECESSOR if not store.buried else U64.pack(store.predecessor(key))
        else:
            prev = old[-VERSION_BYTES:-1] + NO_FLAGS
            if old[-1] & NOTED:
                if 0 < _DEADLINE(old, len(old) - NOTE_BYTES)[0] <= now:
                    prev, old = U64.pack(self._bury(key)), None  # so its history shows the deletion
                elif old[-1] == DAMAGED:
                    old = None  # this entry is not in the store's memory
        if deadline:
            header = _START(size + DEADLINE_BYTES, KV_STRING | KV_DEADLINE | kind, 0, key_size, self.namespace, now)
            record = b"".join((header, prev, key, U64.pack(deadline), value))
        else:
            record = b"".join((_START(size, KV_STRING | kind, 0, key_size, self.namespace, now), prev, key, value))
        index = log.append(record)
        store.replace(shard, old, index, key, value, kind, deadline)
        engine.busy.add(self.namespace)
        if self.watches.by_name:
            self._tell(key)
        return index

    def _touch(self, key: bytes, entry: bytes, deadline: int) -> int:
        """Set another deadline (ms; 0 for none) for the key with this entry; returns the version."""
        engine, log = self.engine, self.engine.log
        size = HEADER_BYTES + LEAN_BYTES + len(key) + DEADLINE_BYTES
        if log.pending_bytes + size > engine.adds_until:
            engine.admit(RECORD_MARGIN_BYTES + len(key), adds=True, grows=False)
        if self.ended:
            self.check_namespace()
        version, holder, store = entry[-VERSION_BYTES:-1] + NO_FLAGS, entry_holder(entry), self.store
        if deadline:
            header = _START(size, KV_TOUCH | KV_DEADLINE, 1, len(key), self.namespace, engine.now)
            record = b"".join((header, version, U64.pack(holder), key, U64.pack(deadline)))
        else:
            header = _START(size - DEADLINE_BYTES, KV_TOUCH, 1, len(key), self.namespace, engine.now)
            record = b"".join((header, version, U64.pack(holder), key))
        index = log.append(record)
        store.note(store.shards[hash(key) & SHARD_MASK], entry, index, key, deadline, holder)
        engine.busy.add(self.namespace)
        if self.watches.by_name:
            self._tell(key)
        return index

    def _bury(self, key: bytes) -> int:
        """Delete a key; returns the version of its tombstone. The caller must have admitted the record."""
        engine, log = self.engine, self.engine.log
        self.check_namespace()
        now, prev = engine.now, U64.pack(self.store.predecessor(key))
        header = _START(HEADER_BYTES + len(key), KV_GONE, GONE, len(key), self.namespace, now)
        index = log.append(b"".join((header, prev, key)))
        self.store.bury(index, key, now)
        engine.busy.add(self.namespace)
        if self.watches.by_name:
            self._tell(key)
        return index

    def entry(self, key: bytes) -> bytes | None:
        """The key's entry (flo.store.kv), None if the key is missing or expired. An expired key is buried, since a request is about to be
        shown that it is gone. Raises `Damaged` if the value is on disk and cannot be read."""
        entry = self.store.shards[hash(key) & SHARD_MASK].get(key)
        if entry is not None and entry[-1] & NOTED:
            if 0 < _DEADLINE(entry, len(entry) - NOTE_BYTES)[0] <= self.engine.now:
                self._end(key)
                return None
            if entry[-1] == DAMAGED:
                return self.store.look(key)
        return entry

    def is_over(self, key: bytes) -> bool:
        """Whether the key's deadline has passed, and the key is not buried yet."""
        return 0 < self.store.deadline(key) <= self.engine.now

    def bury_expired(self, keys: Iterable[bytes]) -> None:
        """Bury those of the keys that have expired."""
        for key in keys:
            if self.is_over(key):
                self._end(key)

    def _live(self, key: bytes) -> Found | None:
        """The key's state, None if the key is missing or expired. Buries and raises as `entry` does."""
        entry = self.entry(key)
        return None if entry is None else found_in(entry)

    def _is_deletable(self, key: bytes) -> bool:
        """Whether the key exists. A key whose value cannot be read counts as existing, so that it can be deleted."""
        try:
            return self.entry(key) is not None
        except Damaged:
            return True

    def _end(self, key: bytes) -> None:
        """Bury an expired key. If the disk has no room for the tombstone, memory remembers that the key is gone, and a sweep buries it once
        there is room: a read is never refused."""
        if self.engine.following:
            return  # the leader buries it
        try:
            self.admit_frees(RECORD_MARGIN_BYTES + len(key))
        except Overloaded:
            self.store.expire(key)
            self.engine.guards.changed(self.namespace, key)
        else:
            self._bury(key)
            self.engine.swept += 1

    @staticmethod
    def _check_version(entry: bytes | None, cas: int | None) -> None:
        """Raise `Conflict` unless the key's version is `cas` (0: the key must not exist; None: any)."""
        version = entry_version(entry) if entry is not None else 0
        if cas is not None and cas != version:
            stands = f"has version {version}" if entry is not None else "does not exist"
            raise Conflict(f"the key {stands}, and the request expected {f'version {cas}' if cas else 'no key'}", version)

    # -- reading -----------------------------------------------------------------------------------

    @operation
    def get(self, key: bytes) -> Found | None:
        """The key's state, or None."""
        return self._live(key)

    def get_after_commit(self, key: bytes) -> Found | None:
        """`get` for an answer that is made only when it is sent, after the turn's commit, when no record may be written. An expired key is
        marked as gone in memory, and the next turn's sweep buries it."""
        if self.is_over(key):
            if not self.engine.following:
                self.store.expire(key)
                self.engine.guards.changed(self.namespace, key)
            return None
        return self.store.find(key)

    @operation
    def info(self, key: bytes) -> dict[str, object]:
        """What is known about the key besides its value: `version`, `kind` (string, counter or json), `bytes` (of the value) and `deadline`
        (Unix ms, 0 for none). Raises `NotFound`."""
        entry = self.entry(key)
        if entry is None:
            raise NotFound("the key does not exist")
        found = found_in(entry)
        return {"version": found.version, "kind": KINDS[found.kind], "bytes": len(found.value), "deadline": found.deadline}

    @operation
    def mget(self, keys: Sequence[bytes]) -> list[Found | None]:
        """The states of `keys`, in their order."""
        check_count(keys)
        return [self._live(key) for key in keys]

    @operation
    def exists(self, key: bytes) -> bool:
        """Whether the key exists."""
        return self.entry(key) is not None

    @operation
    def watch(self, key: bytes, notify: Callable[[], None], known: int | None = None) -> Watch | None:
        """Call `notify` once the key exists (if `known` is None), or once its version exceeds `known` or it is deleted. None if that is the
        case already."""
        found = self._live(key)
        if found is not None and (known is None or found.version > known):
            return None
        if found is None and known:
            return None

        def is_met(_: bytes, state: Found | Ended | None) -> bool:
            if state is None or isinstance(state, Ended):
                return known is not None or state is ENDED
            return state.version > (known or 0)

        return self.watches.add((key,), is_met, notify)

    @operation
    def history(self, key: bytes, limit: int = 10) -> list[Version]:
        """Up to `limit` of the versions that are kept, newest first, deletions included. `[]` for none."""
        return run_job(self.history_job(key, limit, LIST_BYTES_MAX))

    def history_job(self, key: bytes, limit: int, most_bytes: int) -> Generator[None, None, list[Version]]:
        """`history`, in slices: each version is read from disk. Stops before `most_bytes` of values, but gives at least one version."""
        settings, log = self.engine.settings, self.engine.log
        at, replaced = self.store.predecessor(key), self.engine.now
        versions: list[Version] = []
        size = unseen = 0
        while at and len(versions) < min(limit, settings.history_depth):
            record = log.read(at)
            if record is None or record.entity != key or replaced + settings.history_age <= self.engine.now:
                break
            holder = log.read(record.leans[0]) if record.leans else record
            value = b"" if record.gone or holder is None else holder.state
            if holder is not None and holder.type & KV_DEADLINE and not record.gone:
                value = value[8:]
            size += len(value)
            if versions and size > most_bytes:
                break
            versions.append(Version(at, record.time, record.gone, value))
            replaced, at = min(record.time, self.engine.now), record.prev  # as flo.ual.liveness counts
            unseen += len(value)
            if len(versions) % HISTORY_SLICE == 0 or unseen > HISTORY_SLICE_BYTES:
                unseen = 0
                yield
        return versions

    @operation
    def random_key(self) -> bytes | None:
        """A random live key, or None if there is none. All keys are about equally likely. Reads all values from disk first."""
        self.read_all()
        from random import randrange  # here, since it adds 5 ms to a start

        if not len(self.store):
            return None
        tries = RANDOM_TRIES
        while tries:
            shard = self.store.shards[randrange(SHARDS)]
            if not shard:
                tries -= len(self.store) > SHARDS  # a small store has many empty shards: they do not count
                continue
            tries -= 1
            # a dict starts with its oldest key: skip a random, bounded number of keys
            skip = randrange(min(len(shard), 64))
            for key in shard:
                if skip == 0:
                    if self._live(key) is not None:
                        return key
                    if not len(self.store):  # that was the last key
                        return None
                    break
                skip -= 1
        return None

    # -- scanning ----------------------------------------------------------------------------------

    def read_all(self) -> None:
        """Read all values that are still on disk, without a pause. In a server other requests would wait: it uses `all_read`."""
        while self.store.lazy is not None and self.engine.await_values():
            self.engine.load_slice(idle=True)

    def all_read(self) -> Generator[None, None, None]:
        """Yield until the values that a start left on disk are read: two seconds for a million. Requests over all keys wait for this.
        Raises `Damaged` if some values cannot be read."""
        while self.store.lazy is not None and self.engine.await_values():
            yield

    @property
    def needs_preparing(self) -> bool:
        """Whether `prepare` may have anything to do."""
        return self.store.lazy is not None or self.store.deadlines.count > 0

    def prepare(self, keys: Sequence[bytes]) -> Generator[None, None, None]:
        """Yield until a request for `keys` takes little time: all values are read from disk, and the expired keys are buried."""
        yield from self.all_read()
        if not self.store.deadlines.count:
            return
        for at in range(0, len(keys), PREPARE_SLICE):
            self.bury_expired(keys[at : at + PREPARE_SLICE])
            yield

    def _all_in_order(self) -> Generator[None, None, None]:
        """Yields until a scan finds every key that is there now."""
        yield from self.all_read()
        wanted = self.store.ordered.added
        while self.store.ordered.folded < wanted:
            ordered = self.store.ordered
            ordered.fold()
            if ordered.folded < wanted:
                yield
                if self.store.ordered is not ordered:
                    break  # flushed meanwhile

    def scan_job(self, prefix: bytes, after: bytes | None, limit: int) -> Generator[None, None, tuple[list[bytes], bool]]:
        """The next keys with `prefix`, ascending, after `after` (None: from the first): (keys, whether there may be more). Looks at `limit`
        keys, so it may return fewer. Yields until all values are read after a start, while it folds new keys into order, and between
        slices."""
        yield from self._all_in_order()
        found, more = self.store.ordered.page(prefix, after, min(limit, SCAN_SLICE))
        while more and found and len(found) < limit:
            yield
            keys, more = self.store.ordered.page(prefix, found[-1], min(limit - len(found), SCAN_SLICE))
            found += keys
            if not keys:
                break
        return found, more

    def walk_job(self, prefix: bytes, cursor: int, limit: int) -> Generator[None, None, tuple[list[bytes], int]]:
        """(about `limit` keys with `prefix`, the cursor to go on with; 0 at the end), from a cursor that this gave (0: from the start).
        Every key that is there all the time is found, in no order; some may have died. Yields as `scan_job`."""
        yield from self._all_in_order()
        at: Position | None = self.cursors.position(cursor)
        found: list[bytes] = []
        while at is not None and limit > 0:
            if found:
                yield
            keys, at = self.store.ordered.walk(prefix, at, min(limit, SCAN_SLICE))
            found += keys
            limit -= SCAN_SLICE
        return found, 0 if at is None else self.cursors.number(at, self.store.ordered.leaf_count)

    def live_keys(self, keys: Iterable[bytes]) -> list[bytes]:
        """The live ones of `keys`. The loop repeats `entry`'s code, since KEYS, SCAN and EXISTS ask for thousands of keys at once."""
        shards, mask, noted = self.store.shards, SHARD_MASK, NOTED
        return [
            key
            for key in keys
            if (entry := shards[hash(key) & mask].get(key)) is not None and (entry[-1] < noted or self._live(key) is not None)
        ]

    @operation
    def scan(
        self, prefix: bytes = b"", after: bytes | None = None, limit: int = 100, pattern: bytes | None = None
    ) -> tuple[list[bytes], bool]:
        """(up to `limit` live keys with `prefix` after the key `after`, ascending; whether there may be more). Pass the last key as `after`
        to go on. With a `pattern` (flo.store.pattern), only the keys that match it. Raises `BadRequest`."""
        self.read_all()
        wanted = read_pattern(b"*" if pattern is None else pattern)
        start = wanted.within(prefix)
        found: list[bytes] = []
        while start is not None:
            keys, more = run_job(self.scan_job(start, after, limit - len(found)))
            found += self.live_keys(filter(wanted.matches, keys))
            if not more or len(found) >= limit:
                return found, more
            after = keys[-1]
        return [], False

    # -- writing -----------------------------------------------------------------------------------

    @operation
    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        deadline: int = 0,
        cas: int | None = None,
        if_absent: bool = False,
        if_present: bool = False,
        keep_deadline: bool = False,
    ) -> int:
        """Set the key to a string, whatever its kind was; returns the version. Sets its deadline to `deadline` (ms, 0 for none), or keeps
        the old one with `keep_deadline`.

        `cas` is the version expected, 0 for a missing key. Raises `Conflict` if a condition does not hold.
        """
        if len(key) > KEY_BYTES_MAX or len(value) > VALUE_BYTES_MAX:
            check_sizes(key, value)
        if cas is not None or if_absent or if_present or keep_deadline:  # else no `entry`: it raises for a damaged value
            entry = self.entry(key)
            if cas is not None:
                self._check_version(entry, cas)
            if if_absent and entry is not None:
                raise Conflict("the key exists already", entry_version(entry))
            if if_present and entry is None:
                raise Conflict("the key does not exist")
            if keep_deadline and entry is not None:
                deadline = entry_deadline(entry)
        return self._write(key, value, STRING, deadline)

    @operation
    def put_many(self, items: Sequence[tuple[bytes, bytes, int]]) -> list[int]:
        """Set every (key, value, deadline), all or none; returns the versions."""
        check_count(items)
        size = 0
        for key, value, _ in items:
            check_sizes(key, value)
            size += 2 * (RECORD_MARGIN_BYTES + len(key)) + len(value)
        self.engine.admit(size, adds=True)
        write = self._write
        return [write(key, value, STRING, deadline) for key, value, deadline in items]

    @operation
    def delete(self, key: bytes, cas: int | None = None) -> int:
        """Delete the key; returns the version of its tombstone. Raises `NotFound`, `Conflict`."""
        if cas is not None:
            self._check_version(self.entry(key), cas)
        if not self._is_deletable(key):
            raise NotFound("the key does not exist")
        self.admit_frees(RECORD_MARGIN_BYTES + len(key))
        return self._bury(key)

    def discard(self, key: bytes) -> bool:
        """Delete the key if it exists; returns whether it did."""
        if not self._is_deletable(key):
            return False
        self.admit_frees(RECORD_MARGIN_BYTES + len(key))
        self._bury(key)
        return True

    @operation
    def delete_many(self, keys: Sequence[bytes]) -> int:
        """Delete the keys that exist; returns how many did."""
        check_count(keys)
        self.admit_frees(sum(map(len, keys)) + RECORD_MARGIN_BYTES * len(keys))
        return sum(map(self.discard, keys))

    @operation
    def touch(self, key: bytes, deadline: int, cas: int | None = None) -> int:
        """Set the key's deadline (ms; 0 clears it) without rewriting its value; returns the new version. A deadline that is not in the
        future deletes the key. Raises `NotFound`, `Conflict`."""
        entry = self.entry(key)
        self._check_version(entry, cas)
        version = self.expire_at(key, deadline, entry)
        if not version:
            raise NotFound("the key does not exist")
        return version

    def expire_at(self, key: bytes, deadline: int, entry: bytes | None) -> int:
        """`touch`, for a caller that knows the key's entry; returns 0 if the key does not exist (`entry` is None)."""
        if entry is None:
            return 0
        if deadline and deadline <= self.engine.now:
            self.admit_frees(RECORD_MARGIN_BYTES + len(key))
            return self._bury(key)
        return self._touch(key, entry, deadline)

    @operation
    def persist(self, key: bytes, cas: int | None = None) -> int:
        """Clear the key's deadline; returns the new version, or the old one if the key had no deadline. Raises `NotFound`, `Conflict`."""
        entry = self.entry(key)
        self._check_version(entry, cas)
        if entry is None:
            raise NotFound("the key does not exist")
        return self._touch(key, entry, 0) if entry_deadline(entry) else entry_version(entry)

    @operation
    def incr(self, key: bytes, delta: int = 1) -> tuple[int, int]:
        """Add to a counter; a missing key counts as 0. Returns (value, version). Keeps the deadline. Raises `WrongKind` if the value is not
        an integer, `OutOfRange` if the result exceeds 64 bits."""
        entry, value, deadline = self.entry(key), 0, 0
        if entry is None:
            check_sizes(key, b"")
        else:
            kind = entry[-1] & KIND_MASK
            if entry[-1] & NOTED:
                deadline = _DEADLINE(entry, len(entry) - NOTE_BYTES)[0]
            if kind == COUNTER:
                value = int(entry_value(entry))
            else:
                current = canonical_i64(entry_value(entry)) if kind != JSON else None
                if current is None:
                    raise WrongKind("the value is not an integer or out of range", entry_version(entry))
                value = current
        value += delta
        if not I64_MIN <= value <= I64_MAX:
            raise OutOfRange("increment or decrement would overflow", entry_version(entry) if entry is not None else 0)
        return value, self._write(key, b"%d" % value, COUNTER, deadline)

    @operation
    def update(self, key: bytes, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Set the key to `change(old value, or None)`, and keep its deadline; returns the result. If the result is None, the key does not
        change. Raises `WrongKind` for a JSON document, and every exception of `change`."""
        found = self._live(key)
        if found is not None and found.kind == JSON:
            raise WrongKind(WRONG_KIND_TEXT, found.version)
        new = change(found.value if found else None)
        if new is not None:
            check_sizes(key, new)
            self._write(key, new, STRING, found.deadline if found else 0)
        return new

    @operation
    def copy(self, source: bytes, target: bytes, *, replace: bool, move: bool) -> bool:
        """Copy the value, kind and deadline of `source` to `target`; with `move`, delete `source`. False if `target` exists and `replace`
        is false. Raises `NotFound`."""
        found = self._live(source)
        if found is None:
            raise NotFound("no such key")
        if source == target:
            return replace
        if not replace and self._live(target) is not None:
            return False
        check_sizes(target, found.value)
        if move:
            self.admit_keeps(2 * (RECORD_MARGIN_BYTES + len(target)) + len(found.value) + len(source))
        self._write(target, found.value, found.kind, found.deadline, grows=not move)
        if move:
            self._bury(source)
        return True

    # -- JSON --------------------------------------------------------------------------------------

    def _document(self, key: bytes) -> bytes | None:
        """`entry`. Raises `WrongKind` if the value is not a JSON document."""
        entry = self.entry(key)
        if entry is not None and entry[-1] & KIND_MASK != JSON:
            raise WrongKind(WRONG_KIND_TEXT, entry_version(entry))
        return entry

    @operation
    def json_get(self, key: bytes, path: bytes = b"$") -> tuple[bytes, int]:
        """(text at `path`, version). Raises `NotFound` for the key or the path, `WrongKind`, `BadRequest`."""
        jsonpath.parse_path(path)  # first: a malformed path is a `BadRequest` whatever the key holds
        entry = self._document(key)
        if entry is None:
            raise NotFound("the key does not exist")
        return jsonpath.get(entry_value(entry), path), entry_version(entry)

    @operation
    def json_type(self, key: bytes, path: bytes = b"$") -> str:
        """The JSON type at `path`. Raises as `json_get` does."""
        entry = self._document(key)
        if entry is None:
            raise NotFound("the key does not exist")
        return jsonpath.kind_of(entry_value(entry), path)

    @operation
    def json_set(
        self,
        key: bytes,
        value: bytes,
        path: bytes = b"$",
        *,
        cas: int | None = None,
        if_absent: bool = False,
        if_present: bool = False,
    ) -> int:
        """Set the value at `path` of the document, or the whole document, to a JSON text; returns the version. Keeps the deadline.
        `if_absent` and `if_present` are about the value at `path`. Raises `NotFound` if the parent is missing, `Conflict`, `WrongKind`,
        `BadRequest`."""
        try:
            entry = self._document(key)
            self._check_version(entry, cas)
        except (Conflict, WrongKind):
            jsonpath.parse_path(path)  # a malformed path or value is a `BadRequest` whatever the key holds
            jsonpath.parse(value)
            raise
        if if_absent or if_present:
            exists = entry is not None and self._json_has(entry_value(entry), path)
            if exists == if_absent:
                version = entry_version(entry) if entry is not None else 0
                raise Conflict("the path exists already" if exists else "the path does not exist", version)
        new = jsonpath.set_at(entry_value(entry) if entry is not None else None, path, value)
        check_sizes(key, new)
        return self._write(key, new, JSON, entry_deadline(entry) if entry is not None else 0)

    @staticmethod
    def _json_has(text: bytes, path: bytes) -> bool:
        try:
            jsonpath.get(text, path)
        except NotFound:
            return False
        return True

    @operation
    def json_delete(self, key: bytes, path: bytes = b"$", cas: int | None = None) -> int:
        """Delete the value at `path`, or the whole document; returns the version. Raises `NotFound`, `Conflict`, `WrongKind`."""
        jsonpath.parse_path(path)
        entry = self._document(key)
        self._check_version(entry, cas)
        if entry is None:
            raise NotFound("the key does not exist")
        left = jsonpath.delete_at(entry_value(entry), path)
        if left is None:
            self.admit_frees(RECORD_MARGIN_BYTES + len(key))
            return self._bury(key)
        check_sizes(key, left)
        return self._write(key, left, JSON, entry_deadline(entry), grows=False)

    # -- expiry ------------------------------------------------------------------------------------

    @operation
    def sweep_key(self, key: bytes) -> None:
        """Bury the key if its deadline has passed: used after a key was set with a deadline in the past."""
        if self.is_over(key):
            self._end(key)

    def sweep_at_once(self, limit: int) -> int:
        """Bury up to `limit` expired keys, to the millisecond; `sweep` waits until the deadline's whole second has passed. Returns how
        many keys."""
        now = self.engine.now
        keys = [key for key in self.store.deadlines.due(now + SECOND_MS, limit) if self.store.deadline(key) <= now]
        self._sweep(keys)
        return len(keys)

    def value_bytes(self, keys: Iterable[bytes]) -> int:
        """The total length of the values of `keys`, expired ones included, without copying any."""
        entries = (self.store.shards[hash(key) & SHARD_MASK].get(key) for key in keys)
        return sum(entry_value_bytes(entry) for entry in entries if entry is not None)

    # -- see `Part` --------------------------------------------------------------------------------

    def next_due(self) -> int | None:
        """See `Part`."""
        return self.store.deadlines.next_due()

    def sweep_slice(self) -> bool:
        """See `Part`: bury up to SWEEP_KEYS expired keys."""
        keys = self.store.deadlines.due(self.engine.now, SWEEP_KEYS)
        self._sweep(keys)
        return len(keys) == SWEEP_KEYS

    def upkeep(self, idle: bool) -> bool:
        """See `Part`: fold new keys into order, and drop dead ones."""
        ordered = self.store.ordered
        waiting = ordered.waiting
        if (idle and ordered.pending) or ordered.overdue or (waiting > WAITING_MIN and waiting > 2 * len(self.store)):
            ordered.fold()
            return True
        return False

    @property
    def quiet(self) -> bool:
        """See `Part`."""
        store = self.store
        return store.lazy is None and not store.ordered.pending and not store.deadlines.count

    @property
    def empty(self) -> bool:
        """See `Part`. False while values are still on disk: that is not known then."""
        return self.store.lazy is None and len(self.store) == 0

    @property
    def memory_bytes(self) -> int:
        """See `Part`."""
        return self.store.accounted + self.cursors.accounted

    def counts(self) -> dict[str, int]:
        """See `Part`."""
        return {"keys": len(self.store), "keys_with_deadline": self.store.deadlines.count}

    def holders(self) -> list[Any]:
        """See `Part`."""
        return self.store.tables() if self.store.lazy is None else []

    def finish_load(self) -> None:
        """See `Part`."""
        self.store.finish_load()

    def _sweep(self, keys: list[bytes]) -> None:
        if keys:
            self.admit_frees(sum(map(len, keys)) + RECORD_MARGIN_BYTES * len(keys))
            for key in keys:
                self._bury(key)
            self.engine.swept += len(keys)


KINDS = ("string", "counter", "json")  # by their numbers in the log
WRONG_KIND_TEXT = "Operation against a key holding the wrong kind of value"


def check_sizes(key: bytes, value: bytes) -> None:
    """Raise `BadRequest` for a key or a value over its limit."""
    if len(key) > KEY_BYTES_MAX:
        raise BadRequest(f"the key is {len(key)} bytes; at most {KEY_BYTES_MAX} are allowed")
    if len(value) > VALUE_BYTES_MAX:
        raise BadRequest(f"the value is {len(value)} bytes; at most {VALUE_BYTES_MAX} are allowed")


def check_count(items: Sequence[Any]) -> None:
    """Raise `BadRequest` for more keys than one atomic request may have."""
    if len(items) > ATOMIC_ITEMS_MAX:
        raise BadRequest(f"the request names {len(items)} keys; at most {ATOMIC_ITEMS_MAX} are allowed in one")


def canonical_i64(text: bytes) -> int | None:
    """The i64 whose shortest decimal text this is; None for any other text, such as one with a plus sign, leading zeros or spaces."""
    if not 1 <= len(text) <= 20:
        return None
    try:
        value = int(text)
    except ValueError:
        return None
    return value if b"%d" % value == text and I64_MIN <= value <= I64_MAX else None
