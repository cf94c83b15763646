"""How long clients wait: a histogram of the time from when a connection could be read to when its reply was sent.

Buckets are a quarter of a doubling wide, so a quantile is at most a fifth too high. Counting is one list item added to.
"""

SUB_BITS = 2  # four buckets between a power of two and the next
BUCKETS = 40 << SUB_BITS  # up to 2**40 us: twelve days


class Waits:
    """Counts by length, in microseconds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: CONFIG RESETSTAT."""
        self.counts = [0] * BUCKETS
        self.longest = 0

    def add(self, seconds: float, count: int) -> None:
        """`count` waits of that length."""
        micros = int(seconds * 1e6)
        if micros > self.longest:
            self.longest = micros
        self.counts[bucket_of(micros)] += count

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def quantile(self, share: float) -> int:
        """A length, in microseconds, that `share` (0 to 1) of the waits did not exceed; 0 where there were none."""
        left = share * self.count
        if not left:
            return 0
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
