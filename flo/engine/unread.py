"""A start that does not wait for the values: those in bases stay on disk until somebody asks for one, and the rest is read bit by bit.

Of a base a start reads everything, and checks it, but makes no objects of its values: a million take a second, four fifths of all a
start does. `Rest` has their indexes (flo.ual.keyindex) and finds single ones; the stores ask it for a key that they do not have
(flo.store.unread). From then on it reads in slices, between requests, what is left, the newest file first, until the stores hold all.

Records of a base that are no plain values (deadlines, touches, deletions) are applied at the start, and their key may have a newer value
in a newer base. That is looked for (`is_newer`): elsewhere what is applied later wins, and here the values come last.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic

from flo.engine.namespace import Namespace
from flo.errors import Damaged, LogDamaged
from flo.store.kv import SHARDS, entry_version
from flo.ual.keyindex import HASH_BITS, PLACE_BITS, KeyIndex, seed_of, word_of

LEAVE_MIN = 100_000  # values: fewer are read at once, in a tenth of a second
LEFT_FILES_MAX = 64  # of 64 MB; each is looked through for a key that is in none. Where there are more, all is read at once
SLICE = 256  # values read in one go: half a ms
PLAIN_SLICE = 8192  # entries put into plain shards in one go: half a ms
HASHES_FROM = 1000  # records looked for, from which on it is worth putting down which hashes there are at all: 60 ns a value
SHOWN_KEY_BYTES = 128  # of a key that does not read, in the sentence that says so
OVERDUE_SECONDS = 0.005  # how often a slice is done where the server is never idle: a tenth of its time


class Rest:
    """The values of one log that are still on disk."""

    def __init__(self, sources: list[KeyIndex], namespaces: dict[int, Namespace]) -> None:
        """`sources`, the oldest first; `namespaces` by number, which changes under it."""
        self._sources = sources[::-1]
        self._namespaces = namespaces
        self._holders: set[int] = set().union(*(source.namespaces() for source in sources))
        self._work = self._read()
        self.met: Callable[[str, str, Exception], Damaged] | None = None  # what, in which file, why; None while the start goes on
        self.failure: Damaged | None = None  # some of it does not read: it stays on disk, and what is of all keys is refused
        self._next = 0.0  # monotonic
        self._looked = 0  # how often `is_newer` was asked
        self._hashes: bytearray | None = None  # by the hash of a key: whether there is a value of such a one
        self.last = sources[-1].last
        self.awaited = False  # somebody waits for the end: read on in every turn
        self.left = sum(len(source.words) for source in sources)  # values not looked at yet

    def attach(self, namespace: Namespace) -> None:
        """A namespace that has just been made: its store asks here, if anything of it is on disk."""
        if namespace.id in self._holders:
            namespace.kv.store.leave(partial(self._find, namespace.id, seed_of(namespace.id)), self.last)

    def _find(self, namespace: int, seed: int, key: bytes, above: int = 0) -> bytes | None:
        """The newest entry of the key, where it is in a file that has anything newer than `above`."""
        low = word_of(seed, key, 0)
        for source in self._sources:
            if source.last <= above:
                break
            at = bisect_left(source.words, low)
            try:
                entry = source.find(namespace, key, low, at)
            except (LogDamaged, OSError) as e:
                if self.met is None:
                    raise
                raise self.met(f"the value of the key {key[:SHOWN_KEY_BYTES]!r}", source.path, e) from e
            if entry is not None:
                return entry
        return None

    def is_newer(self, namespace: int, key: bytes, index: int) -> bool:
        """Whether there is a value of the key that is newer than record `index`."""
        if index > self.last or namespace not in self._holders:
            return False
        seed = seed_of(namespace)
        self._looked += 1
        if self._looked == HASHES_FROM:
            self._hashes = bytearray(1 << HASH_BITS)
            for source in self._sources:
                for word in source.words:
                    self._hashes[word >> PLACE_BITS] = 1
        if self._hashes is not None and not self._hashes[word_of(seed, key, 0) >> PLACE_BITS]:
            return False  # a look through every file costs 1 us each
        entry = self._find(namespace, seed, key, index)
        return entry is not None and entry_version(entry) > index

    def _read(self) -> Iterator[None]:
        """All that is to be done, in slices."""
        self._hashes = None  # the start is over
        for source in tuple(self._sources):
            damages: list[Exception] = []
            for number, pieces in source.blocks(damages.append):
                for at in range(0, len(pieces), 2 * SLICE):
                    namespace = self._namespaces.get(number)  # None where it was deleted since
                    if namespace is not None:
                        namespace.kv.store.read(pieces[at : at + 2 * SLICE])
                    self.left -= min(SLICE, len(pieces) // 2 - at // 2)
                    yield
            if damages:
                assert self.met is not None
                self.failure = self.met("some values", source.path, damages[0])
                continue  # single keys are looked for in it, for ever
            self._sources.remove(source)  # only now, that the stores hold all of it
            source.close()
        if self.failure is not None:
            return
        moved = 0
        for number in self._holders:
            namespace = self._namespaces.get(number)
            if namespace is None or namespace.kv.store.unread is None:
                continue
            for shard in range(SHARDS):
                if namespace.kv.store.unread is not None:  # else it was flushed meanwhile
                    moved += namespace.kv.store.end_reading(shard)
                if moved > PLAIN_SLICE:
                    moved = 0
                    yield

    def step(self, idle: bool) -> bool:
        """Do another slice; unless `idle` or awaited, only now and then. Returns whether all is done, and nothing was damaged."""
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
