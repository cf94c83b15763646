"""What every primitive has in common: keys, queues, streams, groups are each a `Part` of a namespace.

The engine, the namespace and what tells about them walk the parts and name none. A new primitive is a class here below, its records in
flo.ual.record, and a line in flo.engine.namespace.PARTS.

`Database` is the engine as its parts see it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from flo.errors import BadRequest, Overloaded
from flo.store.tables import squeeze
from flo.ual.log import Log
from flo.ual.record import Record

SWEEP_RETRY_MS = 1000  # how soon a part is swept again after the disk had no room for it, by the steady clock


class History(Protocol):
    """How much of it is kept."""

    @property
    def history_depth(self) -> int:
        """Versions of a key, the present one included."""

    @property
    def history_age(self) -> int:
        """ms that a version is kept after something replaced it."""


class Database(Protocol):
    """The engine around the parts."""

    log: Log
    now: int  # the wall clock, ms
    stamp_time: int  # ms; never goes back
    turn: int  # how often the clock was read
    manual: bool  # a server runs it, turn by turn
    memory_full: bool
    adds_until: int  # `log.pending_bytes` up to which a record that adds need not ask `admit`
    frees_until: int  # … and one that frees
    swept: int  # things found expired and buried
    busy: set[int]  # ids of namespaces that time or background work may have something to do in
    changed: "set[Part]"  # those with somebody to tell
    steady: Callable[[], int]  # the steady clock, ms

    @property
    def settings(self) -> History:
        """What an operator has chosen."""

    @property
    def clock_ahead(self) -> int:
        """By how many ms the stamps are ahead of the wall clock."""

    def admit(self, size: int, adds: bool, grows: bool = True) -> None:
        """Check that records of `size` bytes may be appended. Raises `Overloaded` or `OutOfMemory`."""

    def write(self, record: Record) -> int:
        """Append a record and apply it; returns its index."""

    def is_early(self, steady: int) -> bool:
        """Whether the steady clock has not come to that time yet."""

    def await_values(self) -> bool:
        """Have values that a start left on disk be read without a pause; whether there are any left. Raises `Damaged`."""

    def load_slice(self, idle: bool) -> None:
        """Load a slice of them."""

    def run(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `operation` as a turn of its own, or within the batch that is open."""


class Lost(NamedTuple):
    """Something whose record the log does not have, as far as its part can say."""

    sentence: str  # what it is
    forget: Callable[[], None]  # drop it, by a record


class Due(NamedTuple):
    """When a part has next something to sweep."""

    time: int  # ms, by the wall clock
    not_before: int  # ms, by the steady clock; 0 where the disk had room


class Part:
    """One primitive in one namespace. What a primitive does not have, it leaves as it is here."""

    name: ClassVar[str]  # the attribute of a namespace
    types: ClassVar[frozenset[int]]  # of its records
    scopes: ClassVar[frozenset[int]] = frozenset()  # families whose watermarks, besides those of the whole namespace, are its own

    def __init__(self, engine: Database, namespace: int) -> None:
        """`namespace` is the id of the one that it is of."""
        self.engine = engine
        self.namespace = namespace
        self.ended = False  # the namespace was deleted
        self.sweep_after = 0  # by the steady clock; 0 where the disk had room

    @property
    def inner(self) -> "Sequence[Part]":
        """Parts that it has made itself."""
        return ()

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """What a record of one of its types does to the store, live or replayed. Uses the record and nothing else."""
        raise NotImplementedError

    def apply_watermark(self, scope: bytes, below: int) -> None:
        """The members of `scope` (a family of `scopes`, and a container) whose index is under `below` are gone."""
        raise NotImplementedError

    def drop(self, below: int) -> list[Any]:
        """Everything of index under `below`, which is all there is, is gone: tell who waits. Returns what held it (dicts, lists, sets,
        deques), which the engine frees in slices."""
        return []

    def end(self) -> None:
        """The namespace is deleted: tell who waits that nothing comes."""
        self.ended = True

    def check_namespace(self) -> None:
        """Raise `BadRequest` where the namespace is deleted: a job, or what a program has kept, may outlive it."""
        if self.ended:
            raise BadRequest("the namespace was deleted")

    # -- room --------------------------------------------------------------------------------------

    def admit_adds(self, size: int) -> None:
        """Check that records of so many bytes, which add, have room. Raises `Overloaded`, `OutOfMemory`."""
        if self.engine.log.pending_bytes + size > self.engine.adds_until:
            self.engine.admit(size, adds=True)

    def admit_keeps(self, size: int) -> None:
        """The same of records that add to the log and not to memory. Raises `Overloaded`."""
        if self.engine.log.pending_bytes + size > self.engine.adds_until:
            self.engine.admit(size, adds=True, grows=False)

    def admit_frees(self, size: int) -> None:
        """The same of records that free. Raises `Overloaded`."""
        if self.engine.log.pending_bytes + size > self.engine.frees_until:
            self.engine.admit(size, adds=False)

    # -- time and background -----------------------------------------------------------------------

    def next_due(self) -> int | None:
        """When `sweep` has next something to do, ms by the wall clock; None for never."""
        return None

    def sweep_slice(self) -> bool:
        """Do a slice of what time brings; returns whether there is more. Raises `Overloaded` where the disk has no room for it."""
        return False

    def sweep(self) -> bool:
        """`sweep_slice`, unless the disk had no room for it a moment ago."""
        engine = self.engine
        if engine.is_early(self.sweep_after):
            return False
        self.sweep_after = 0
        try:
            return self.sweep_slice()
        except Overloaded:
            self.sweep_later()
            return False

    def sweep_later(self) -> None:
        """There is no room on the disk: sweep again in a while."""
        self.sweep_after = self.engine.steady() + SWEEP_RETRY_MS

    def upkeep(self, idle: bool) -> bool:
        """Do a slice (about a ms) of background work, unless `idle` only what is overdue; returns whether it did any."""
        return False

    def notify(self, most: int) -> bool:
        """Have up to about `most` of those look whose things have changed; returns whether there are more."""
        return False

    @property
    def quiet(self) -> bool:
        """Whether neither time nor background work has anything to do until the next record."""
        return True

    # -- what it holds -----------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether nothing live is in it, as far as that is known."""
        return True

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory accounted to it."""
        return 0

    def counts(self) -> dict[str, int]:
        """How much there is of what it holds, by plural nouns, for those who tell about a database."""
        return {}

    def holders(self) -> list[Any]:
        """What may hold memory that it does not use, each to be given to `tidy`."""
        return []

    def tidy(self, holder: Any) -> int:
        """Have a holder give back what it does not use; returns how many things were looked at."""
        squeeze(holder)
        return 1

    @property
    def urges_tidying(self) -> bool:
        """Whether so much was dropped that a look for unused memory should not wait."""
        return False

    def finish_load(self) -> None:
        """Every record of a start was applied or loaded."""

    def lost(self, is_kept: Callable[[int], bool]) -> "Iterable[Lost]":
        """What leans on a record that the log does not have, by `is_kept(index)`."""
        return ()
