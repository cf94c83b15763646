"""A sorted set of record indexes: eight bytes each, in blocks of bounded size.

Indexes mostly come in ascending order, and then each is appended to the last block. Adding or removing one elsewhere moves a part of one
block, and the first block of all shrinks from its front.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

BLOCK = 1024  # indexes in a block; one with twice as many is split
FRONT = 256  # indexes taken from the front of the first block before the others are moved
SEQ_BYTES = 9  # an index in an array, which grows ahead
EMPTY_BYTES = 200  # the set itself


class Seqs:
    """A sorted set of positive integers of 64 bits."""

    __slots__ = ("_at", "_blocks", "_lasts", "count")

    def __init__(self) -> None:
        self._blocks: list[array[int]] = []  # none is empty
        self._lasts: list[int] = []  # the last index of each block
        self._at = 0  # how many indexes at the front of the first block are taken out
        self.count: int = 0

    def __len__(self) -> int:
        return self.count

    def __contains__(self, seq: int) -> bool:
        number = bisect_left(self._lasts, seq)
        if number == len(self._lasts):
            return False
        block = self._blocks[number]
        return block[bisect_left(block, seq, 0 if number else self._at)] == seq

    def first(self) -> int:
        """The lowest; 0 if there is none."""
        return self._blocks[0][self._at] if self.count else 0

    def add(self, seq: int) -> bool:
        """Put one in; False if it is there already."""
        blocks, lasts = self._blocks, self._lasts
        if not lasts:
            blocks.append(array("Q", (seq,)))
            lasts.append(seq)
        elif seq > lasts[-1]:
            if len(blocks[-1]) < BLOCK:
                blocks[-1].append(seq)
                lasts[-1] = seq
            else:
                blocks.append(array("Q", (seq,)))
                lasts.append(seq)
        else:
            number = bisect_left(lasts, seq)
            block = blocks[number]
            at = bisect_left(block, seq, 0 if number else self._at)
            if block[at] == seq:
                return False
            if not number and at == self._at and at:
                self._at -= 1
                block[self._at] = seq
            else:
                block.insert(at, seq)
                if len(block) >= 2 * BLOCK:
                    self._split(number)
        self.count += 1
        return True

    def _split(self, number: int) -> None:
        block = self._blocks[number]
        if not number and self._at:
            del block[: self._at]
            self._at = 0
        middle = len(block) // 2
        self._blocks[number : number + 1] = [block[:middle], block[middle:]]
        self._lasts.insert(number, block[middle - 1])

    def remove(self, seq: int) -> bool:
        """Take one out; False if it is not there."""
        number = bisect_left(self._lasts, seq)
        if number == len(self._lasts):
            return False
        block = self._blocks[number]
        front = 0 if number else self._at
        at = bisect_left(block, seq, front)
        if block[at] != seq:
            return False
        self.count -= 1
        if len(block) - front == 1:
            del self._blocks[number], self._lasts[number]
            if not number:
                self._at = 0
        elif at == front and not number:
            self._at += 1
            if self._at >= FRONT:
                del block[: self._at]
                self._at = 0
        else:
            del block[at]
            self._lasts[number] = block[-1]
        return True

    def before(self, seq: int) -> Iterator[int]:
        """Those lower than `seq`, the highest first. The set may not change meanwhile."""
        number = bisect_left(self._lasts, seq)
        if number < len(self._lasts):
            block = self._blocks[number]
            yield from self._down(number, bisect_left(block, seq, 0 if number else self._at))
        for each in range(number - 1, -1, -1):
            yield from self._down(each, len(self._blocks[each]))

    def _down(self, number: int, end: int) -> Iterator[int]:
        block = self._blocks[number]
        for at in range(end - 1, -1 if number else self._at - 1, -1):
            yield block[at]

    def after(self, seq: int) -> Iterator[int]:
        """Those higher than `seq`, the lowest first. The set may not change meanwhile."""
        number = bisect_right(self._lasts, seq)
        for each in range(number, len(self._blocks)):
            block, front = self._blocks[each], 0 if each else self._at
            for at in range(bisect_right(block, seq, front) if each == number else front, len(block)):
                yield block[at]
