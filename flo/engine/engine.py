"""The engine: one log, two times, and the namespaces, whose stores are made from the log's records.

The only way to change state is a record: `write` appends it and applies it. Recovery applies the same records through the same `apply`,
which uses no clock and no chance.

`now` is the wall clock, read once a turn. Every deadline is compared with it. It goes back when the wall clock is set back.
`stamp_time` never goes back, also not across a restart. Batches and stream ids are stamped with it; nothing else uses it.
When a request is shown that a key is gone, the key's tombstone is written at once: the key stays gone whatever the clock does.

There are two ways to run an engine. In a program, each operation commits before it returns, or a `with engine.batch():` commits many
together; threads wait for each other. In the server (`manual=True`) the loop calls `tick()` before and `commit()` after all operations of a
turn, in one thread.
"""

import gc
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from flo import forks
from flo.engine.action import Actions
from flo.engine.background_load import BackgroundLoad
from flo.engine.clock import steady_clock, wall_clock
from flo.engine.guard import Guards
from flo.engine.kv import RECORD_MARGIN_BYTES, KeyValue
from flo.engine.loading import Loading
from flo.engine.namespace import DEFAULT, DEFAULT_ID, Namespace, check_name, hash_name
from flo.engine.part import Lost, Part
from flo.engine.queue import Queues
from flo.engine.stream import Streams
from flo.engine.timeseries import TimeSeries
from flo.errors import BadRequest, Conflict, LogDamaged, LogFailed, NotLeader, OutOfMemory
from flo.given import text
from flo.ual.compaction import compact, remove_replaced
from flo.ual.files import Files
from flo.ual.keyindex import KeyIndex
from flo.ual.log import SEGMENT_BYTES, SYNC, Log
from flo.ual.record import (
    FAMILY_KV,
    HEADER_BYTES,
    NAMESPACE,
    NAMESPACE_ID_MAX,
    REGISTRY_ID,
    U32,
    U64,
    WATERMARK,
    Record,
    decode,
    encode,
)
from flo.ual.replicated import ReplicatedLog
from flo.ual.segment import OFFSET_BYTES

NOTIFY_SLICE = 1000  # watches of one part told in one turn: 2 us each
UPKEEP_SECONDS = 0.002  # of one round over the namespaces
FORGET_SLICE = 1000  # lost items dropped in one batch
FREE_STEP = 256
# Room for this many bytes of records is checked at once, so that few records need a check of their own. The footer takes OFFSET_BYTES
# more for each record, and a record has at least HEADER_BYTES.
AHEAD_BYTES = 1 << 20
AHEAD_WITH_OFFSETS = AHEAD_BYTES + AHEAD_BYTES * OFFSET_BYTES // HEADER_BYTES
FREE_ENTRIES = 4096  # entries of a dropped store freed in one slice: less than a ms

R = TypeVar("R")


class EngineSettings(NamedTuple):
    """The settings of an engine; docs/settings.md explains those of the same names. `history_age` is in ms, `max_memory` and
    `segment_bytes` are in bytes."""

    durability: str = SYNC
    history_depth: int = 64
    history_age: int = 24 * 3600 * 1000
    keep_age: int = 24 * 3600 * 1000
    keep_runs: int = 100_000
    max_memory: int = 0  # 0 for no bound
    segment_bytes: int = SEGMENT_BYTES


class Engine:
    """A Flo database in `directory`. It is a context manager.

    Names and values are str (as UTF-8) or bytes; anything else is a `TypeError`. Several threads may use an engine: one operation or batch
    runs at a time. A process forked from the one that opened the engine may not use it: its calls raise `Forked`.
    """

    # `log.pending_bytes` up to which no operation needs to call `admit`
    adds_until: int  # for records that add
    frees_until: int  # for records that free

    def __init__(
        self,
        directory: str,
        settings: EngineSettings | None = None,
        *,
        manual: bool = False,
        clock: Callable[[], int] = wall_clock,
        steady: Callable[[], int] = steady_clock,
        files: Files | None = None,
        on_notice: Callable[[str], None] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        lazy: bool = False,
        replicated: bool = False,
    ) -> None:
        """Open or create the database. Raises `DirectoryInUse`, `LogDamaged`, `LogFailed` or `OSError`.

        `replicated`: a majority of machines has each batch first (flo.ual.replicated); its owner sets what the log sends batches by. With
        `lazy`, values may still be on disk when this returns (flo.engine.background_load): call `upkeep`, which reads them.
        `on_notice` gets a sentence about each unusual step of the start; `on_progress` gets how many bytes of the log are read, and of how
        many. `clock` gives Unix ms and may go forward or back; `steady` gives ms and only goes forward.
        """
        self._prepare(settings or EngineSettings(), manual, clock, steady)
        self._replicated = replicated
        self._may_be_lazy = lazy and manual  # a program need not call `upkeep`, so nothing would read its values
        self.log: Log = self._open_log(directory, files, on_notice, on_progress)
        self.guards: Guards = Guards(self.log)
        self.stamp_time: int = self.log.time
        self.tick()

    @classmethod
    def without_log(cls, settings: EngineSettings | None = None) -> "Engine":
        """An engine that only applies records, so that its stores can be inspected; it can do nothing else. `flo check` uses it."""
        engine = cls.__new__(cls)
        engine._prepare(settings or EngineSettings(), True, wall_clock, steady_clock)
        return engine

    def _prepare(self, settings: EngineSettings, manual: bool, clock: Callable[[], int], steady: Callable[[], int]) -> None:
        """Set every attribute but the log, to those of an empty database."""
        self.settings: EngineSettings = settings
        self.manual = manual
        self.now: int = 0
        self.stamp_time = 0
        self.turn: int = 0  # how often the clock was read: facts about `now` hold until this changes
        self.memory_full: bool = False
        self.adds_until = self.frees_until = 0
        self.swept = 0  # how many expired keys were buried
        self.following: bool = False  # a member of a cluster leads that is not this one; its batches come by `adopt`
        self.leader = ""  # its address, as far as is known
        self.homeless: int = 0  # how many records were read whose namespace does not exist
        self.clock = clock
        self.steady = steady
        self._process = forks.process()
        self._lock = threading.RLock()  # held for an operation or a batch; the server never takes it
        self._depth = 0  # of nested batches and operations, in the thread that has the lock
        self._broken = False
        self._closed = False
        self._upkept = 0  # the place in the busy namespaces where the next upkeep begins
        self._garbage: list[list[Any]] = []
        self.changed: set[Part] = set()  # parts whose `notify` must be called
        self.background_load: BackgroundLoad | None = None  # reads the values that are still on disk
        self._may_be_lazy = self._replicated = False
        self._next_namespace_id = DEFAULT_ID + 1
        self.busy: set[int] = set()  # the ids of namespaces that may have due items or background work
        self.namespaces: dict[str, Namespace] = {}
        self.by_hash: dict[int, Namespace] = {}  # by the hash in the header of a binary request
        self._by_id: dict[int, Namespace] = {}
        self._bind(DEFAULT, DEFAULT_ID)
        self.by_hash[0] = self._by_id[DEFAULT_ID]

    def _open_log(
        self,
        directory: str,
        files: Files | None,
        on_notice: Callable[[str], None] | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> Log:
        collects = gc.isenabled()
        gc.disable()  # a start makes no garbage: collecting would add half of its time
        try:
            log = (ReplicatedLog if self._replicated else Log)(
                directory,
                self.apply,
                loader=Loading(self.apply, self._find_loaded, self._begin_background_load if self._may_be_lazy else None),
                durability=self.settings.durability,
                segment_bytes=self.settings.segment_bytes,
                files=files,
                on_notice=on_notice,
                on_progress=on_progress,
            )
            for namespace in self.namespaces.values():
                for part in namespace.parts:
                    part.finish_load()
                self.busy.add(namespace.id)
            self._may_be_lazy = False
            if self.background_load is not None:
                self.background_load.on_damage = log.met_damage
        except BaseException:
            if self.background_load is not None:
                self.background_load.close()
            raise
        finally:
            if collects:
                gc.enable()
        return log

    def _begin_background_load(self, indexes: list[KeyIndex]) -> BackgroundLoad:
        """Have the values of the log's bases read in the background."""
        self.background_load = BackgroundLoad(indexes, self._by_id)
        for namespace in self.namespaces.values():
            self.background_load.attach(namespace)
        return self.background_load

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- time and commit ---------------------------------------------------------------------------

    def tick(self) -> None:
        """Begin a turn: read the wall clock, once for all its operations."""
        self.turn += 1
        if not self.following:
            self.now = self.clock()
            if self.now > self.stamp_time:
                self.stamp_time = self.now
        if self.settings.max_memory:
            self.memory_full = self.memory_used() > self.settings.max_memory
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Set how much may be appended without a call of `admit` for each record."""
        log = self.log
        if self.following:
            self.frees_until = self.adds_until = -1  # each operation that writes asks `admit`, which refuses it
            return
        self.frees_until = log.pending_bytes + AHEAD_BYTES if log.holds(AHEAD_WITH_OFFSETS) else 0
        self.adds_until = 0 if self.memory_full else self.frees_until

    @property
    def clock_ahead(self) -> int:
        """By how many ms `stamp_time` is ahead of the wall clock, which happens after that was set back; 0 if it is not ahead."""
        return self.stamp_time - self.now

    def commit(self) -> None:
        """Make all changes since the last commit as durable as the settings say. Raises `LogFailed`."""
        if self.log.pending:
            self._check_process()
            if self.guards.by_name:
                self.guards.look()
            self.log.commit(self.stamp_time)
            self._look_ahead()

    def follow(self) -> None:
        """Write nothing by operations from here on: a member of the cluster leads. The wall clock is the leader's (`set_clock`)."""
        self.following = True
        self._look_ahead()

    def lead(self) -> None:
        """Write by operations from here on. Nobody has heard the clients of this member meanwhile: that is not their silence."""
        self.following = False
        self.tick()
        for namespace in self.namespaces.values():
            for part in namespace.parts:
                part.finish_load()
            self.busy.add(namespace.id)

    def set_clock(self, wall: int) -> None:
        """Of a follower: the leader's wall clock, ms."""
        self.now = wall
        self.turn += 1

    def adopt(self, records: list[bytes], time: int) -> None:
        """Take over a batch of the replicated log, which comes behind everything here: write it, and apply it. Raises `LogFailed`."""
        log, index = self.log, self.log.next_index
        assert isinstance(log, ReplicatedLog) and log.out is None and not log.pending, "who leads has its own batches in memory"
        log.next_index += len(records)
        log.adopt_batch(records, time)
        if self.guards.by_name:
            self.guards.note(records)
        for record in records:
            self.apply(index, decode(record))
            index += 1
        self.stamp_time = max(self.stamp_time, time)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Commit the operations inside together at the end of the block. Other threads wait until then. If the block raises, the operations
        before are kept and committed: there is no rollback."""
        self._begin()
        try:
            yield
        except BaseException:
            if not self._is_forked:  # else a forked child leaves its parent's batch
                self._end()
            raise
        self._end()

    def run(self, operation: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Call `operation` as a turn of its own, or within the open batch of this thread."""
        self._begin()
        try:
            return operation(*args, **kwargs)
        finally:
            self._end()

    @property
    def _is_forked(self) -> bool:
        return forks.process() != self._process

    def _check_process(self) -> None:
        """Raise `Forked` in a forked child of the process that opened the engine: two processes would write one log."""
        if self._is_forked:
            remedy = "open your own engine of another directory, or run a server and open a flo.Client in each process."
            raise forks.refuse("engine", self._process, remedy)

    def _begin(self) -> None:
        self._check_process()  # before the lock: the thread that held it may not exist in this process
        self._lock.acquire()
        try:
            if self._broken:
                raise LogFailed("this engine failed after it had changed its memory: close it and open the directory again.")
            if self._closed:
                raise LogFailed("this engine is closed: open the directory again.")
            if not self._depth:
                self.tick()
        except BaseException:
            self._lock.release()
            raise
        self._depth += 1

    def _end(self) -> None:
        self._check_process()
        try:
            if self._depth == 1:
                self._broken = True
                self.commit()
                self.log.upkeep(idle=False)
                self._broken = False
                while self.notify():
                    pass
                self._broken = True
                self.commit()  # the records of `notify`: it buries expired keys
                self._broken = False
        finally:
            self._depth -= 1
            self._lock.release()

    def upkeep(self, idle: bool) -> bool:
        """Do a slice (about a ms) of background work: freeing, folding new keys into order, sweeping expired keys, preparing the next
        segment. Unless `idle`, only overdue work. Returns whether the next call has more to do."""
        self._check_process()
        more = self.notify()
        more = self.log.upkeep(idle) or more
        if self.background_load is not None and self.background_load.failure is None:
            more = True
            if not self.log.accepts_adds:
                self.background_load.awaited = True  # the disk has no room: compacted files stay until their values are read
            self.load_slice(idle)
        if self._garbage:
            self._free_slice()
            more = True
        return self._upkeep_parts(idle) or more

    def _upkeep_parts(self, idle: bool) -> bool:
        """Do a slice of the due and background work of the busy namespaces. If it takes long, the next call goes on with the namespaces
        that are left."""
        more, started = False, monotonic()
        for count, namespace in enumerate(self._busy_namespaces()):
            active = [part for part in namespace.parts if not part.quiet]
            for part in active:
                did = part.upkeep(idle)
                more = part.sweep() or did or more
            if not active and not namespace.untidy:
                self.busy.discard(namespace.id)
            elif idle and namespace.untidy:
                namespace.tidy()
                more = True
            if monotonic() - started > UPKEEP_SECONDS:
                self._upkept += count + 1
                return True
        return more

    def _busy_namespaces(self) -> list[Namespace]:
        """The busy namespaces; those that the last upkeep did not reach come first."""
        found = [self._by_id[identity] for identity in self.busy]
        if self._upkept and found:
            start = self._upkept % len(found)
            found = found[start:] + found[:start]
        return found

    def await_values(self) -> bool:
        """Have the values that are still on disk loaded without pauses; returns whether there are any. Raises `Damaged`."""
        load = self.background_load
        if load is None:
            return False
        if load.failure is not None:
            raise load.failure
        load.awaited = True
        return True

    def load_slice(self, idle: bool) -> None:
        """Load a slice of the values that a start has left on disk."""
        if self.background_load is not None and self.background_load.step(idle):
            self.background_load = None

    def notify(self) -> bool:
        """Tell a slice of the watches whose keys or streams have changed; returns whether there are more."""
        more = False
        for part in tuple(self.changed):
            if part.notify(NOTIFY_SLICE):
                more = True
            else:
                self.changed.discard(part)
        return more

    def sweep(self) -> bool:
        """Do a slice of the due work of every part; returns whether there is more."""
        swept = [part.sweep() for namespace in self._busy_namespaces() for part in namespace.parts]  # a list, so that every part is swept
        return True in swept

    def is_early(self, steady: int) -> bool:
        """Whether the steady clock is still before this time; 0 is always past."""
        return bool(steady) and self.steady() < steady

    def next_due(self) -> int | None:
        """In how many ms there is something to sweep, by the clocks as they are now; 0 for at once, None for never."""
        if self.following:
            return None  # the leader sweeps
        found: list[tuple[int, int]] = []  # (due by the wall clock, not before by the steady clock)
        for identity in self.busy:
            for part in self._by_id[identity].parts:
                due = part.next_due()
                if due is not None:
                    found.append((due, part.sweep_after))
        if not found:  # this runs once a turn, and reading the clocks costs as much as the rest
            return None
        now, steady = self.clock(), self.steady()
        return min(max(due - now, after - steady, 0) for due, after in found)

    def close(self) -> None:
        """Commit, sync and release the directory. Does nothing in a forked child: the log belongs to the parent. Raises `LogFailed`."""
        if self._is_forked:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self.background_load is not None:
                self.background_load.close()
            if self._broken:
                self.log.abandon()
                return
            self.commit()
            self.log.close()

    # -- compaction --------------------------------------------------------------------------------

    def compact(self, should_stop: Callable[[], bool] = lambda: False, tail: bool = False) -> None:
        """Rewrite the log, or only its `tail` (the segments since the last compaction), with the records that the liveness rule keeps. This
        blocks until it is done; a server uses a second process instead. Raises `Overloaded` or `OSError` if the disk has no room,
        `LogDamaged`, `Stopped`; the files rewritten so far stay."""
        self._check_process()
        with self._lock:
            self._compact(should_stop, tail)

    def _compact(self, should_stop: Callable[[], bool], tail: bool) -> None:
        self.commit()
        log, settings = self.log, self.settings
        try:
            room = log.make_room(seal=True)
            last = log.next_index - 1
            for replacement in compact(
                log.files,
                log.directory,
                log.sources(tail),
                now=self.now,
                depth=settings.history_depth if room is None or room.history else 1,
                age=settings.history_age,
                should_stop=should_stop,
                room=room.bytes if room is not None else 0,
            ):
                log.adopt(replacement)
                remove_replaced(log.files, log.directory, replacement.sources)
            if not tail:
                log.note_compacted(last)
        except LogFailed:
            self._broken = True
            raise
        finally:
            if not self._broken:
                log.end_compaction()
                self._look_ahead()

    # -- the one way to change state ---------------------------------------------------------------

    def admit(self, size: int, adds: bool, grows: bool = True) -> None:
        """Check that records of `size` bytes may be appended: `adds` says whether they add to the log, `grows` whether to memory too.
        Raises `Overloaded`, `OutOfMemory` or `NotLeader`."""
        if self.following:
            raise NotLeader(self.leader)
        if adds and grows and self.memory_full:
            raise OutOfMemory(
                f"the {self.settings.max_memory} bytes of max_memory are used: writes that add are refused; "
                "delete something, let keys expire, or raise max_memory"
            )
        self.log.admit(size, adds)
        self._look_ahead()

    def write(self, record: Record) -> int:
        """Append a record and apply it; returns its index. `admit` must have been called for its size. Raises `BadRequest` if its namespace
        was deleted: a job may outlive its namespace."""
        if record.type >= FAMILY_KV and record.namespace not in self._by_id:
            raise BadRequest("the namespace was deleted")
        index = self.log.append(encode(record))
        self.apply(index, record)
        return index

    def apply(self, index: int, record: Record) -> None:
        """Change memory as record `index` says, live or replayed. Uses the record and nothing else."""
        if record.type >= FAMILY_KV:
            namespace = self._find_loaded(record.namespace)
            if namespace is None:
                # a replay of a log whose compaction was interrupted: the namespace was deleted, and the record of its creation is removed
                self.homeless += 1
                return
            self.busy.add(namespace.id)
            part = namespace.by_type.get(record.type)
            if part is None:
                raise unknown_type(index, record)
            part.apply(index, record)
        elif record.type == NAMESPACE:
            self._apply_namespace(record)
        elif record.type == WATERMARK:
            self._apply_watermark(index, record)
        else:
            raise unknown_type(index, record)

    def _find_loaded(self, number: int) -> Namespace | None:
        """The namespace of a replayed record; None if it was deleted later. Its number is never used again."""
        namespace = self._by_id.get(number)
        if namespace is None:
            self._next_namespace_id = max(self._next_namespace_id, number + 1)
        return namespace

    def _apply_namespace(self, record: Record) -> None:
        name, identity = record.entity.decode(), int(U32.unpack(record.state)[0])
        self._next_namespace_id = max(self._next_namespace_id, identity + 1)
        namespace = self.namespaces.pop(name, None)
        # None for a new name, or in a replay of a log whose compaction was interrupted. A creation that finds a namespace replaces it: the
        # record of the old one's deletion was compacted away.
        if namespace is not None:
            self.busy.discard(namespace.id)
            del self.by_hash[namespace.hash], self._by_id[namespace.id]
            namespace.deleted = True
            self._drop_parts(namespace, 0)
            for part in namespace.parts:
                part.end()
        if not record.gone:
            self._bind(name, identity)

    def _apply_watermark(self, index: int, record: Record) -> None:
        self._next_namespace_id = max(self._next_namespace_id, record.namespace + 1)
        namespace = self._by_id.get(record.namespace)
        if namespace is None:
            return  # the namespace was deleted later; its watermark outlives it
        self.busy.add(namespace.id)
        below = U64.unpack(record.state)[0]
        if record.entity:
            namespace.by_scope[record.entity[0]].apply_watermark(record.entity, below)
            return
        assert below == index, "a watermark of a whole namespace drops all that came before it"
        self._drop_parts(namespace, below)

    def _bind(self, name: str, identity: int) -> None:
        namespace = Namespace(self, name, identity)
        self.namespaces[name] = namespace
        self.by_hash[namespace.hash] = namespace
        self._by_id[identity] = namespace
        if self.background_load is not None and self._may_be_lazy:
            self.background_load.attach(namespace)

    # -- namespaces --------------------------------------------------------------------------------

    @property
    def queues(self) -> Queues:
        """The queues of the namespace `default`."""
        return self._by_id[DEFAULT_ID].queues

    @property
    def streams(self) -> Streams:
        """The streams of the namespace `default`."""
        return self._by_id[DEFAULT_ID].streams

    @property
    def ts(self) -> TimeSeries:
        """The time series of the namespace `default`."""
        return self._by_id[DEFAULT_ID].ts

    @property
    def actions(self) -> Actions:
        """The actions of the namespace `default`."""
        return self._by_id[DEFAULT_ID].actions

    @property
    def kv(self) -> KeyValue:
        """The keys of the namespace `default`."""
        return self._by_id[DEFAULT_ID].kv

    def namespace(self, name: str) -> Namespace:
        """The namespace with this name. Raises `BadRequest` if there is none: a misspelt name must not create a namespace."""
        found = self.namespaces.get(name)
        if found is None:
            found = self.namespaces.get(text(name, "namespace"))  # a program may have given bytes
        if found is None:
            raise BadRequest(f"there is no namespace {name!r}; create it first")
        return found

    def namespace_by_id(self, identity: int) -> Namespace:
        """The namespace with this id in the log, which must exist."""
        return self._by_id[identity]

    def namespace_by_hash(self, value: int) -> Namespace:
        """The namespace whose name has this FNV-1a hash; 0 is `default`. Raises `BadRequest`."""
        found = self.by_hash.get(value)
        if found is None:
            raise BadRequest(f"no namespace is bound to the hash {value:#018x}; create it by name first")
        return found

    def create_namespace(self, name: str) -> Namespace:
        """Create the namespace, or return the existing one. Raises `BadRequest`, or `Conflict` if the name's hash is taken."""
        return self.run(self._create_namespace, text(name, "namespace")) if not self.manual else self._create_namespace(name)

    def _create_namespace(self, name: str) -> Namespace:
        check_name(name)
        if name not in self.namespaces:
            taken = self.by_hash.get(hash_name(name))
            if taken is not None or hash_name(name) == 0:
                other = taken.name if taken else DEFAULT
                raise Conflict(f"the name {name!r} has the same hash as {other!r}; choose another name")
            if self._next_namespace_id > NAMESPACE_ID_MAX:
                raise Conflict("this directory has used up its 4,294,967,294 namespaces; start a new directory")
            record = Record(NAMESPACE, REGISTRY_ID, self.now, name.encode(), U32.pack(self._next_namespace_id))
            self.admit(RECORD_MARGIN_BYTES + len(name), adds=True)
            self.write(record)
        return self.namespaces[name]

    def delete_namespace(self, name: str) -> None:
        """Remove an empty namespace. Raises `BadRequest`, or `Conflict` if the namespace is not empty."""
        self.run(self._delete_namespace, text(name, "namespace")) if not self.manual else self._delete_namespace(name)

    def _delete_namespace(self, name: str) -> None:
        namespace = self.namespace(name)
        if namespace.id == DEFAULT_ID:
            raise Conflict("the namespace 'default' cannot be deleted")
        if not namespace.empty:
            raise Conflict(f"the namespace {name!r} is not empty; delete its contents first")
        self.admit(2 * (RECORD_MARGIN_BYTES + len(name)), adds=False)
        self.drop(namespace)  # its history
        self.write(Record(NAMESPACE, REGISTRY_ID, self.now, name.encode(), U32.pack(namespace.id), gone=True))

    def flush(self, namespaces: list[Namespace]) -> None:
        """Drop everything in each of the namespaces: one record each."""
        self.run(self._flush, namespaces) if not self.manual else self._flush(namespaces)

    def _flush(self, namespaces: list[Namespace]) -> None:
        self.admit(len(namespaces) * RECORD_MARGIN_BYTES, adds=False)
        for namespace in namespaces:
            self.drop(namespace)

    def drop(self, namespace: Namespace) -> None:
        """Write the watermark that drops everything in `namespace`."""
        self.write(Record(WATERMARK, namespace.id, self.now, b"", U64.pack(self.log.next_index)))

    def lost(self, is_kept: Callable[[int], bool]) -> list[tuple[Namespace, Lost]]:
        """The items that need a record which is missing from the log, by `is_kept(index)`."""
        return [(namespace, lost) for namespace in self.namespaces.values() for part in namespace.parts for lost in part.lost(is_kept)]

    def forget_lost(self) -> int:
        """Drop the items that need a record which is missing from the log, such as messages without a payload; returns how many."""
        lost = self.lost(lambda index: self.log.read_bytes(index) is not None)
        for start in range(0, len(lost), FORGET_SLICE):
            with self.batch():
                for _, each in lost[start : start + FORGET_SLICE]:
                    each.forget()
        return len(lost)

    def counts(self) -> dict[str, int]:
        """The numbers of items in all namespaces together, by plural nouns such as `keys`."""
        found: dict[str, int] = {}
        for namespace in self.namespaces.values():
            for noun, count in namespace.counts().items():
                found[noun] = found.get(noun, 0) + count
        return found

    # -- memory ------------------------------------------------------------------------------------

    def memory_used(self) -> int:
        """Bytes of memory accounted to all namespaces."""
        return sum(namespace.memory_bytes for namespace in self.namespaces.values())

    def set_max_memory(self, value: int) -> None:
        """Change the bound of memory while running: bytes, 0 for none."""
        self.settings = self.settings._replace(max_memory=value)
        self.memory_full = bool(value) and self.memory_used() > value
        self._look_ahead()

    def _drop_parts(self, namespace: Namespace, below: int) -> None:
        """Empty the parts of everything that came before index `below`. The containers are freed in slices: clearing a dict of a million
        entries takes a fifth of a second."""
        self._garbage += [part.drop(below) for part in namespace.parts]

    def _free_slice(self) -> None:
        containers, room = self._garbage[-1], FREE_ENTRIES
        while containers and room > 0:
            piece = containers[-1]
            count = min(len(piece), FREE_STEP)
            if isinstance(piece, dict):
                for _ in range(count):
                    value = piece.popitem()[1]
                    if isinstance(value, list):
                        containers[:0] = value  # the sets of one second of `Deadlines`
                    elif isinstance(value, set):
                        containers.insert(0, value)
            elif isinstance(piece, list):
                del piece[len(piece) - count :]
            elif isinstance(piece, deque):
                for _ in range(count):
                    piece.pop()
            else:
                count = len(containers.pop())  # a set of at most SET_ITEMS
            if not piece and containers and containers[-1] is piece:
                containers.pop()
            room -= max(count, 1)
        if not containers:
            self._garbage.pop()


def unknown_type(index: int, record: Record) -> LogDamaged:
    """The error for a record that a later version of Flo wrote."""
    return LogDamaged(f"index {index} has type {record.type:#04x}, which this Flo does not know; use the later version that wrote it.")
