"""The index of a base: where the value of a key is in the file. With it a start can leave values on disk until they are asked for.

It has a word of 64 bits for each value, ascending: the upper 24 bits are those of the key's hash, the lower 40 the offset of the key's
piece in the file (flo.ual.block). Keys with the same hash are told apart by a look at the keys themselves, a read from the disk for each.

The hash is a remainder: key, the namespace's number (u32) and a byte 1, taken as one little-endian number, modulo a *modulus*. That is a
random prime of 30 bits, drawn once for a directory, and every base notes it. Nobody outside knows it, so nobody can make keys that share
their hash: a hundred thousand of them would make a lookup take a second. There are 26 million such primes, and two keys of 64 KiB collide
for at most 18,000 of them. It is as quick as a CRC for short keys. Earlier versions wrote the CRC-32 of the key, begun with that of the
namespace's number; their modulus is CRC here.

Beside each word there is a *check* of 32 bits: the CRC-32 of the value's entry, begun with that of the key, which is begun with that of the
namespace's number. So a single value is verified before it is served, and damage to one does not affect its neighbours.
"""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
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
MODULUS_BITS = 30  # the remainder of a number by one of at most 30 bits is the quickest: it is a digit of Python's integers
CRC = 0  # the modulus of files whose hashes are CRCs


def draw_modulus() -> int:
    """A random prime of MODULUS_BITS bits, for a new directory."""
    lowest = 1 << MODULUS_BITS - 1
    drawn = lowest | int.from_bytes(os.urandom(4), "little") % lowest | 1
    while not _is_prime(drawn):
        drawn = lowest | (drawn + 2) % lowest
    return drawn


def _is_prime(odd: int) -> bool:
    """Whether an odd number below 3,215,031,751 is a prime (the test of Miller and Rabin, exact below this number for these bases)."""
    shift = (odd - 1 & 1 - odd).bit_length() - 1
    for base in (2, 3, 5, 7):
        power = pow(base, odd - 1 >> shift, odd)
        if power != 1 and all(pow(power, 1 << step, odd) != odd - 1 for step in range(shift)):
            return False
    return True


@lru_cache(1024)
def words_of(modulus: int, namespace: int) -> Callable[[bytes, int], int]:
    """The function that gives the word of a key in that namespace whose piece is at offset `place`: `word(key, place)`."""
    if modulus == CRC:
        seed = seed_of(namespace)
        return lambda key, place: crc32(key, seed) >> (32 - HASH_BITS) << PLACE_BITS | place
    tail = U32.pack(namespace) + b"\1"
    return lambda key, place: int.from_bytes(key + tail, "little") % modulus >> (MODULUS_BITS - HASH_BITS) << PLACE_BITS | place


def seed_of(namespace: int) -> int:
    """The CRC with which the checks of a namespace's values begin."""
    return crc32(U32.pack(namespace))


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

    words: "array[int]"
    modulus: int

    def __init__(self, file: "BaseFile") -> None:
        """`file` is open; `close` closes it. Raises `LogDamaged`."""
        self.words, self._checks, self.modulus = file.keys()
        self._file = file
        self.last: int = file.last

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
