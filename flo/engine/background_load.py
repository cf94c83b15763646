"""The background load: a start leaves the values of bases on disk, and they are read when asked for, or bit by bit while the server runs.

A start reads and checks all of a base, but makes no objects of its values: a million take a second, four fifths of a whole start.
`BackgroundLoad` has the indexes of the bases (flo.ual.keyindex) and finds single values; a store asks it for a key that it does not have
(flo.store.lazy). Between requests it reads the values that remain, in slices, the newest file first, until the stores hold them all.

Records of a base that are not plain values (deadlines, touches, deletions) are applied at the start, and a newer base may have a newer
value of the same key. `is_newer` looks for one: elsewhere the record that is applied later wins, but here the values come last.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic

from flo.engine.namespace import Namespace
from flo.errors import Damaged, LogDamaged
from flo.store.kv import SHARDS, entry_version
from flo.ual.keyindex import HASH_BITS, PLACE_BITS, KeyIndex, words_of

LAZY_VALUES_MIN = 100_000  # fewer values are read at once, in a tenth of a second
LAZY_FILES_MAX = 64  # of 64 MB: a key that does not exist is looked up in each of them. With more files all values are read at once
SLICE = 256  # values read in one go: half a ms
PLAIN_SLICE = 8192  # entries put into plain shards in one go: half a ms
HASHES_FROM = 1000  # lookups by `is_newer` from which on tables of all hashes pay off: they take 60 ns a value
HASH_TABLES_MAX = 4  # of 16 MiB, one a modulus: a directory has one, and one more for files of earlier versions
SHOWN_KEY_BYTES = 128  # of the key, in the message that its value cannot be read
OVERDUE_SECONDS = 0.005  # between two slices while the server is never idle: a tenth of its time


class BackgroundLoad:
    """The values of one log that are still on disk."""

    def __init__(self, sources: list[KeyIndex], namespaces: dict[int, Namespace]) -> None:
        """`sources` are the indexes, the oldest first; `namespaces` is the engine's own table by number, which changes."""
        self._sources = sources[::-1]
        self._namespaces = namespaces
        self._holders: set[int] = set().union(*(source.namespaces() for source in sources))
        self._work = self._read()
        self.on_damage: Callable[[str, str, Exception], Damaged] | None = None  # (subject, file, cause); None during the start
        self.failure: Damaged | None = None  # some values cannot be read: they stay on disk, and operations on all keys are refused
        self._next = 0.0  # monotonic
        self._looked = 0  # how often `is_newer` was asked
        self._hashes: dict[int, bytearray] = {}  # by modulus, by hash: whether any key has it
        self.last: int = sources[-1].last
        self.awaited = False  # a request waits for the end: do a slice in every turn
        self.remaining: int = sum(len(source.words) for source in sources)  # values not read yet

    def attach(self, namespace: Namespace) -> None:
        """Connect the store of a new namespace to this, if values of that namespace are on disk."""
        if namespace.id in self._holders:
            namespace.kv.store.begin_lazy(partial(self._find, namespace.id), self.last)

    def _find(self, namespace: int, key: bytes, above: int = 0) -> bytes | None:
        """The newest entry of the key in the files that have an index above `above`; None if there is none."""
        modulus, low = -1, 0
        for source in self._sources:
            if source.last <= above:
                break
            if source.modulus != modulus:
                modulus = source.modulus
                low = words_of(modulus, namespace)(key, 0)
            at = bisect_left(source.words, low)
            try:
                entry = source.find(namespace, key, low, at)
            except (LogDamaged, OSError) as e:
                if self.on_damage is None:
                    raise
                raise self.on_damage(f"the value of the key {key[:SHOWN_KEY_BYTES]!r}", source.path, e) from e
            if entry is not None:
                return entry
        return None

    def is_newer(self, namespace: int, key: bytes, index: int) -> bool:
        """Whether a value of the key on disk is newer than record `index`."""
        if index > self.last or namespace not in self._holders:
            return False
        self._looked += 1
        if self._looked == HASHES_FROM:
            self._note_hashes()
        tables = self._hashes
        if tables and not any(table[words_of(modulus, namespace)(key, 0) >> PLACE_BITS] for modulus, table in tables.items()):
            return False  # a lookup costs 1 us a file
        entry = self._find(namespace, key, index)
        return entry is not None and entry_version(entry) > index

    def _note_hashes(self) -> None:
        """Make the tables of all hashes."""
        moduli = {source.modulus for source in self._sources}
        if len(moduli) > HASH_TABLES_MAX:
            return
        self._hashes = {modulus: bytearray(1 << HASH_BITS) for modulus in moduli}
        for source in self._sources:
            table = self._hashes[source.modulus]
            for word in source.words:
                table[word >> PLACE_BITS] = 1

    def _read(self) -> Iterator[None]:
        """The whole work, one slice at a time."""
        self._hashes = {}  # the start is over
        for source in tuple(self._sources):
            damages: list[Exception] = []
            for number, pieces in source.blocks(damages.append):
                for at in range(0, len(pieces), 2 * SLICE):
                    namespace = self._namespaces.get(number)  # None where it was deleted since
                    if namespace is not None:
                        namespace.kv.store.load_lazy(pieces[at : at + 2 * SLICE])
                    self.remaining -= min(SLICE, len(pieces) // 2 - at // 2)
                    yield
            if damages:
                assert self.on_damage is not None
                self.failure = self.on_damage("some values", source.path, damages[0])
                continue  # single keys are looked up in it for ever
            self._sources.remove(source)  # not before the stores hold all of its values
            source.close()
        if self.failure is not None:
            return
        moved = 0
        for number in self._holders:
            namespace = self._namespaces.get(number)
            if namespace is None or namespace.kv.store.lazy is None:
                continue
            for shard in range(SHARDS):
                if namespace.kv.store.lazy is not None:  # else it was flushed meanwhile
                    moved += namespace.kv.store.end_lazy(shard)
                if moved > PLAIN_SLICE:
                    moved = 0
                    yield

    def step(self, idle: bool) -> bool:
        """Do another slice; only every OVERDUE_SECONDS unless `idle` or awaited. Returns whether all is done and nothing was damaged."""
        if not (idle or self.awaited) and monotonic() < self._next:
            return False
        done = next(self._work, self) is self and self.failure is None
        self._next = monotonic() + OVERDUE_SECONDS
        return done

    def close(self) -> None:
        """Give the files back."""
        for source in self._sources:
            source.close()
        self._sources = []
