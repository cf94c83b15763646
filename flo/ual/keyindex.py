"""The index of a base: where in it the value of a key is. By it a start can leave the values where they are until somebody asks.

A word of 64 bits for each value, ascending: the upper 24 are of the key's hash, the lower 40 the offset of the key's piece in the file
(flo.ual.block). The hash is the CRC-32 of the key, begun with that of the namespace's number: quick, and the same in every process,
which Python's own is not. Keys with the same hash are told apart by looking at them.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from zlib import crc32

from flo.ual.record import U32

if TYPE_CHECKING:
    from flo.ual.base import BaseFile

HASH_BITS = 24  # a base has half a million keys: one in thirty shares its hash with another
PLACE_BITS = 64 - HASH_BITS
PLACE_MASK = (1 << PLACE_BITS) - 1
WORD_BYTES = 8
BUCKETS = 256


def seed_of(namespace: int) -> int:
    """What the hashes of a namespace's keys begin with."""
    return crc32(U32.pack(namespace))


def word_of(seed: int, key: bytes, place: int) -> int:
    """The word of a key that is at offset `place`."""
    return crc32(key, seed) >> (32 - HASH_BITS) << PLACE_BITS | place


class KeyIndexWriter:
    """Collects the words of one file. They are sorted in small parts: the process that makes a base naps between them."""

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(BUCKETS)]

    def add(self, words: Iterable[int]) -> None:
        """Those of a block."""
        buckets = self._buckets
        for word in words:
            buckets[word >> 56].append(word)

    def words(self) -> "array[int]":
        """All of them, ascending."""
        found = array("Q")
        for bucket in self._buckets:
            found.extend(sorted(bucket))
        return found


class KeyIndex:
    """The values of one file of a base, by key, while a start has left them there. Its descriptor is its own, so the file may be
    compacted away meanwhile."""

    def __init__(self, file: "BaseFile") -> None:
        """Of a file that is open, which it closes in the end. Raises `LogDamaged`."""
        self.words = file.keys()
        self._file = file
        self.last = file.last

    def find(self, namespace: int, key: bytes, low: int, at: int) -> bytes | None:
        """The entry of a key of a namespace whose word without a place is `low`, where `words[at]` is the first that is not below it; None
        where it is not in the file. Raises `LogDamaged`, `OSError`."""
        words = self.words
        while at < len(words) and words[at] ^ low <= PLACE_MASK:
            entry = self._file.entry_at(words[at] & PLACE_MASK, namespace, key)
            if entry is not None:
                return entry
            at += 1
        return None

    def namespaces(self) -> set[int]:
        """The numbers of those that have values. Raises `LogDamaged`, `OSError`."""
        return self._file.value_namespaces()

    def blocks(self) -> Iterator[tuple[int, list[bytes]]]:
        """(namespace, key, entry, key, entry, and so on) of every block. Raises `LogDamaged`, `OSError`."""
        for block in self._file.blocks():
            if block.head.values:
                yield block.head.namespace, block.pieces()

    def close(self) -> None:
        """Give the descriptor and the memory back."""
        self.words = array("Q")
        self._file.close()
