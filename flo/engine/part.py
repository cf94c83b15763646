"""The base class of every primitive: keys, queues, streams and groups are each a `Part` of a namespace.

The engine, the namespace and the reports about them loop over the parts and name none. A new primitive needs a subclass of `Part`, its
records in flo.ual.record, and a line in flo.engine.namespace.PARTS.

`Database` is the engine as its parts see it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from flo.engine.bulk import Bulk
from flo.engine.guard import Guards
from flo.errors import BadRequest, Overloaded
from flo.store.tables import squeeze
from flo.ual.log import Log
from flo.ual.record import Record

SWEEP_RETRY_MS = 1000  # of the steady clock, until a part is swept again after the disk had no room for its records


class Kept(Protocol):
    """How much is kept of what is over."""

    @property
    def history_depth(self) -> int:
        """Versions of a key, the present one included."""

    @property
    def history_age(self) -> int:
        """For how many ms a replaced version is kept."""

    @property
    def keep_age(self) -> int:
        """For how many ms a run is kept that has ended."""

    @property
    def keep_runs(self) -> int:
        """How many runs that have ended are kept of a namespace."""


class Database(Protocol):
    """The engine, as its parts use it."""

    log: Log
    now: int  # the wall clock, ms
    stamp_time: int  # ms; never goes back
    turn: int  # how often the clock was read
    manual: bool  # True in the server, which runs the turns itself
    memory_full: bool
    adds_until: int  # `log.pending_bytes` up to which a record that adds need not ask `admit`
    frees_until: int  # the same for a record that frees
    following: bool  # another member of the cluster leads: nothing is written by operations
    swept: int  # how many expired keys were buried
    busy: set[int]  # ids of the namespaces that may have due items or background work
    changed: "set[Part]"  # parts whose `notify` must be called
    steady: Callable[[], int]  # the steady clock, ms
    guards: Guards  # who wants to know of changes of a name

    @property
    def settings(self) -> Kept:
        """The operator's settings for what is kept."""

    @property
    def clock_ahead(self) -> int:
        """By how many ms the stamps are ahead of the wall clock."""

    def admit(self, size: int, adds: bool, grows: bool = True) -> None:
        """Check that records of `size` bytes may be appended. Raises `Overloaded` or `OutOfMemory`."""

    def write(self, record: Record) -> int:
        """Append a record and apply it; returns its index."""

    def is_early(self, steady: int) -> bool:
        """Whether the steady clock is still before this time."""

    def await_values(self) -> bool:
        """Have the values that are still on disk loaded without pauses; returns whether there are any. Raises `Damaged`."""

    def load_slice(self, idle: bool) -> None:
        """Load a slice of the values that a start left on disk."""

    def run(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `operation` as a turn of its own, or within the batch that is open."""


class Lost(NamedTuple):
    """An item that needs a record which is missing from the log."""

    sentence: str  # describes the item
    forget: Callable[[], None]  # writes the record that drops the item


class Part:
    """One primitive in one namespace. A primitive overrides only the methods that it needs."""

    name: ClassVar[str]  # the attribute of a namespace
    types: ClassVar[frozenset[int]]  # of its records
    bulk: ClassVar[type[Bulk] | None] = None  # what takes most of its records at a start, many at a time
    scopes: ClassVar[frozenset[int]] = frozenset()  # the families whose watermarks (not those of a whole namespace) this part applies
    nouns: ClassVar[dict[str, str]] = {}  # of `counts`, each with the sentence that explains it
    events: ClassVar[dict[str, str]] = {}  # of `happened`, each with the sentence that explains it
    container: ClassVar[str] = ""  # what its containers are called, such as `queue`; empty if it has none
    measures: ClassVar[dict[str, str]] = {}  # of `measure`, each with the sentence that explains it

    def __init__(self, engine: Database, namespace: int) -> None:
        """`namespace` is the id of its namespace."""
        self.engine = engine
        self.namespace = namespace
        self.ended: bool = False  # the namespace was deleted
        # how often each of its `events` has come since the start, or CONFIG RESETSTAT
        self.happened: dict[str, int] = dict.fromkeys(self.events, 0)
        self.sweep_after: int = 0  # no sweep before this time of the steady clock, ms; 0 if the disk had room

    @property
    def inner(self) -> "Sequence[Part]":
        """The parts that this part has made itself."""
        return ()

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """Apply a record of one of its types to the store, live or replayed. Uses the record and nothing else."""
        raise NotImplementedError

    def apply_watermark(self, scope: bytes, below: int) -> None:
        """Remove the members of `scope` (a family of `scopes`, and a container) whose index is under `below`."""
        raise NotImplementedError

    def drop(self, below: int) -> list[Any]:
        """Remove everything (all indexes are under `below`) and notify the waiting requests. Returns the containers that held it (dicts,
        lists, sets, deques), which the engine frees in slices."""
        return []

    def end(self) -> None:
        """The namespace is deleted: tell the waiting requests that nothing more comes."""
        self.ended = True

    def check_namespace(self) -> None:
        """Raise `BadRequest` if the namespace is deleted: a job, or a part that a program has kept, may outlive it."""
        if self.ended:
            raise BadRequest("the namespace was deleted")

    # -- room --------------------------------------------------------------------------------------

    def admit_adds(self, size: int) -> None:
        """Check that there is room for records of `size` bytes that add. Raises `Overloaded`, `OutOfMemory`."""
        if self.engine.log.pending_bytes + size > self.engine.adds_until:
            self.engine.admit(size, adds=True)

    def admit_keeps(self, size: int) -> None:
        """The same of records that add to the log and not to memory. Raises `Overloaded`."""
        if self.engine.log.pending_bytes + size > self.engine.adds_until:
            self.engine.admit(size, adds=True, grows=False)

    def admit_frees(self, size: int) -> None:
        """Check that there is room for records of `size` bytes that free. Raises `Overloaded`."""
        if self.engine.log.pending_bytes + size > self.engine.frees_until:
            self.engine.admit(size, adds=False)

    # -- time and background -----------------------------------------------------------------------

    def next_due(self) -> int | None:
        """When `sweep` next has something to do, ms by the wall clock; None for never."""
        return None

    def sweep_slice(self) -> bool:
        """Do a slice of the work that is due; returns whether there is more. Raises `Overloaded` if the disk has no room for it."""
        return False

    def sweep(self) -> bool:
        """`sweep_slice`, unless the disk had no room in the last SWEEP_RETRY_MS."""
        engine = self.engine
        if engine.following or engine.is_early(self.sweep_after):
            return False
        self.sweep_after = 0
        try:
            return self.sweep_slice()
        except Overloaded:
            self.sweep_later()
            return False

    def sweep_later(self) -> None:
        """The disk has no room: do not sweep before SWEEP_RETRY_MS have passed."""
        self.sweep_after = self.engine.steady() + SWEEP_RETRY_MS

    def upkeep(self, idle: bool) -> bool:
        """Do a slice (about a ms) of background work, only overdue work unless `idle`; returns whether it did any."""
        return False

    def notify(self, most: int) -> bool:
        """Tell about `most` watches that their keys or streams have changed; returns whether there are more."""
        return False

    @property
    def quiet(self) -> bool:
        """Whether nothing becomes due and there is no background work until the next record."""
        return True

    # -- contents ----------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether it is known that nothing live is in it."""
        return True

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory accounted to it."""
        return 0

    def counts(self) -> dict[str, int]:
        """The numbers of its items, by its `nouns`, for reports about a database. It is called often, so it may not walk the items."""
        return {}

    def containers(self) -> list[Any]:
        """Its containers, to be given to `measure`."""
        return []

    def measure(self, container: Any) -> tuple[bytes, tuple[int, ...]]:
        """A container's name, and its `measures`; the first is the number of its items. An empty tuple if clients do not see it."""
        raise NotImplementedError

    def holders(self) -> list[Any]:
        """The containers that may hold unused memory, each to be given to `tidy`."""
        return []

    def tidy(self, holder: Any) -> int:
        """Release a container's unused memory; returns how many containers were looked at."""
        squeeze(holder)
        return 1

    @property
    def urges_tidying(self) -> bool:
        """Whether so much was dropped that a look for unused memory should not wait."""
        return False

    def finish_load(self) -> None:
        """Finish a start: all its records were applied or loaded."""

    def lost(self, is_kept: Callable[[int], bool]) -> "Iterable[Lost]":
        """The items that need a record which is missing from the log, by `is_kept(index)`."""
        return ()
