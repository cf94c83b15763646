"""The index of a base: where the value of a key is in the file. With it a start can leave values on disk until they are asked for.

It has a word of 64 bits for each value, ascending: the upper 24 bits are those of the key's hash, the lower 40 the offset of the key's
piece in the file (flo.ual.block). The hash is the CRC-32 of the key, begun with that of the namespace's number: quick, and the same in
every process, unlike Python's own. Keys with the same hash are told apart by a look at the keys themselves.

Beside each word there is a *check* of 32 bits: the CRC-32 of the value's entry, begun with the hash above (all 32 bits). So a single value
is verified before it is served, and damage to one does not affect its neighbours.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from zlib import crc32

from flo.ual.record import U32

if TYPE_CHECKING:
    from flo.ual.base import BaseFile

HASH_BITS = 24  # a base has half a million keys: one in thirty shares its hash with another
PLACE_BITS = 64 - HASH_BITS
PLACE_MASK = (1 << PLACE_BITS) - 1
WORD_BYTES = 8
CHECK_BYTES = 4
BUCKETS = 256


def seed_of(namespace: int) -> int:
    """The CRC with which the hashes of a namespace's keys begin."""
    return crc32(U32.pack(namespace))


def word_of(seed: int, key: bytes, place: int) -> int:
    """The word of a key whose piece is at offset `place`."""
    return crc32(key, seed) >> (32 - HASH_BITS) << PLACE_BITS | place


def check_of(seed: int, key: bytes, entry: bytes) -> int:
    """The check of a value."""
    return crc32(entry, crc32(key, seed))


class KeyIndexWriter:
    """Collects the words of one file. They are sorted in small parts: the process that makes a base naps between them."""

    def __init__(self) -> None:
        self._buckets = [(array("Q"), array("I")) for _ in range(BUCKETS)]

    def add(self, words: Iterable[tuple[int, int]]) -> None:
        """Add the words of a block, each with its check."""
        buckets = self._buckets
        for word, check in words:
            bucket, checks = buckets[word >> 56]
            bucket.append(word)
            checks.append(check)

    def columns(self) -> "tuple[array[int], array[int]]":
        """All words, ascending, and their checks."""
        words, checks = array("Q"), array("I")
        for bucket in self._buckets:
            pairs = sorted(zip(*bucket, strict=True))
            words.extend([word for word, _ in pairs])
            checks.extend([check for _, check in pairs])
        return words, checks


class KeyIndex:
    """The values of one file of a base by key, while they are on disk only. It has its own descriptor, so compaction may remove the file
    meanwhile."""

    def __init__(self, file: "BaseFile") -> None:
        """`file` is open; `close` closes it. Raises `LogDamaged`."""
        self.words, self._checks = file.keys()
        self._file = file
        self.last = file.last

    def find(self, namespace: int, key: bytes, low: int, at: int) -> bytes | None:
        """The entry of a key; None if it is not in the file. `low` is the key's word without a place; `words[at]` is the first word that is
        not below it. Raises `LogDamaged`, `OSError`."""
        words = self.words
        while at < len(words) and words[at] ^ low <= PLACE_MASK:
            entry = self._file.entry_at(words[at] & PLACE_MASK, self._checks[at] if self._checks else None, namespace, key)
            if entry is not None:
                return entry
            at += 1
        return None

    def namespaces(self) -> set[int]:
        """The numbers of the namespaces that have values. Raises `LogDamaged`, `OSError`."""
        return self._file.value_namespaces()

    def blocks(self, passed_over: Callable[[Exception], None]) -> Iterator[tuple[int, list[bytes]]]:
        """(namespace, its values as key, entry, key, entry, and so on) of every intact block; `passed_over` is called for the others."""
        for block in self._file.blocks(passed_over):
            if block.head.values:
                yield block.head.namespace, block.pieces()

    @property
    def path(self) -> str:
        """The path of the file."""
        return self._file.path

    def close(self) -> None:
        """Give the descriptor and the memory back."""
        self.words, self._checks = array("Q"), array("I")
        self._file.close()
