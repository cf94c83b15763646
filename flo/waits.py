"""How long clients wait: a histogram of the time from when a connection could be read to when its reply was sent.

Up to FINE_END buckets are FINE_USEC wide, since counting there is a multiplication and an addition, and it is done each turn. Longer
waits are rare; their buckets are a quarter of a doubling wide, so a quantile is at most a quarter too high.
"""

from itertools import count as counting
from operator import mul

FINE_USEC = 16
FINE_PER_SECOND = 1_000_000 / FINE_USEC
FINE_BUCKETS = 4096
FINE_END = FINE_USEC * FINE_BUCKETS  # 65 ms
SUB_BITS = 2  # four buckets between a power of two and the next
BUCKETS = 40 << SUB_BITS  # up to 2**40 us: twelve days
UNDER_BITS_MIN, UNDER_BITS_MAX = 6, 25  # of `Waits.under`: 64 us to 34 s


class Waits:
    """Counts by length, in microseconds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: CONFIG RESETSTAT."""
        self.fine: list[int] = [0] * FINE_BUCKETS
        self.counts: list[int] = [0] * BUCKETS
        self._longest = 0.0  # seconds

    def add(self, seconds: float, count: int) -> None:
        """`count` waits of that length."""
        if seconds > self._longest:
            self._longest = seconds
        place = int(seconds * FINE_PER_SECOND)
        if place < FINE_BUCKETS:
            self.fine[place] += count
        else:
            self.counts[bucket_of(int(seconds * 1e6))] += count

    @property
    def longest(self) -> int:
        """The longest, in microseconds."""
        return int(self._longest * 1e6)

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.fine) + sum(self.counts)

    @property
    def seconds(self) -> float:
        """How long all of them took together, as if each had the length of the middle of its bucket."""
        fine: int = sum(map(mul, self.fine, counting(FINE_USEC // 2, FINE_USEC)))
        coarse: int = sum(map(mul, self.counts, _MIDDLES))
        return (fine + coarse) / 1e6

    def under(self) -> list[tuple[int, int]]:
        """(a length in microseconds, how many waits were shorter), for powers of two."""
        found, total, at = [], 0, 0
        for bits in range(UNDER_BITS_MIN, FINE_END.bit_length()):
            end = (1 << bits) // FINE_USEC
            total, at = total + sum(self.fine[at:end]), end
            found.append((1 << bits, total))
        at = bucket_of(FINE_END)
        for bits in range(FINE_END.bit_length(), UNDER_BITS_MAX + 1):
            end = bucket_of(1 << bits)
            total, at = total + sum(self.counts[at:end]), end
            found.append((1 << bits, total))
        return found

    def quantile(self, share: float) -> int:
        """A length, in microseconds, that `share` (0 to 1) of the waits did not exceed; 0 where there were none."""
        left = share * self.count
        if not left:
            return 0
        for place, count in enumerate(self.fine):
            left -= count
            if left <= 1e-9:
                return min((place + 1) * FINE_USEC, self.longest)
        for bucket, count in enumerate(self.counts):
            left -= count
            if left <= 1e-9:
                return min(end_of(bucket), self.longest)
        return self.longest


def bucket_of(micros: int) -> int:
    """The bucket of a length."""
    if micros < 1 << SUB_BITS:
        return micros
    octave = micros.bit_length() - 1
    return min((octave - SUB_BITS + 1 << SUB_BITS) + (micros >> octave - SUB_BITS & (1 << SUB_BITS) - 1), BUCKETS - 1)


def end_of(bucket: int) -> int:
    """The highest length in a bucket."""
    if bucket < 1 << SUB_BITS:
        return bucket
    octave = (bucket >> SUB_BITS) + SUB_BITS - 1
    return (1 << octave) + ((bucket & (1 << SUB_BITS) - 1) + 1 << octave - SUB_BITS) - 1


_MIDDLES = [(end_of(bucket - 1) + 1 + end_of(bucket)) // 2 if bucket else 0 for bucket in range(BUCKETS)]
