"""How long clients wait: a histogram of the time from when a connection could be read to when its reply was sent.

Up to FINE_END buckets are FINE_USEC wide, since counting there is a multiplication and an addition, and it is done each turn. Longer
waits are rare; their buckets are a quarter of a doubling wide, so a quantile is at most a quarter too high.
"""

FINE_USEC = 16
FINE_PER_SECOND = 1_000_000 / FINE_USEC
FINE_BUCKETS = 4096
FINE_END = FINE_USEC * FINE_BUCKETS  # 65 ms
SUB_BITS = 2  # four buckets between a power of two and the next
BUCKETS = 40 << SUB_BITS  # up to 2**40 us: twelve days


class Waits:
    """Counts by length, in microseconds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: CONFIG RESETSTAT."""
        self.fine = [0] * FINE_BUCKETS
        self.counts = [0] * BUCKETS
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
