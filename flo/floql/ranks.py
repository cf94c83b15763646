"""The value of a rank among many: percentiles and medians without sorting everything.

Sorting a million points takes half a second in one call. Here a small sample of the values gives a bound close below or above the rank; the
values on the far side of it are only counted, and what is left is small enough to sort. One pass usually leaves a few hundredths.
"""

from array import array
from collections.abc import Generator
from math import sqrt

from flo.floql.columns import Meter

SORTED_MAX = 4_000  # values that are sorted at once: half a ms
_SAMPLE = 2_000  # values: a bound is then within 3 % of the rank
_PASS_POINTS = 20_000  # between two pauses
_ROUNDS_MAX = 20  # then all is sorted: data made to mislead the sample costs one long call instead of thousands of rounds
_PASS_NS = 40  # a point


def select(values: "array[float]", rank: int, meter: Meter) -> Generator[None, None, float]:
    """The value that has the rank, from 1, in ascending order."""
    for _ in range(_ROUNDS_MAX):
        count = len(values)
        if count <= SORTED_MAX:
            break
        sample = sorted(values[:: count // _SAMPLE])
        share = (rank - 0.5) / count
        place = share * len(sample)
        margin = 3 * sqrt(len(sample) * share * (1 - share)) + 2
        high = share > 0.5  # then the values above the bound are the few
        bound = sample[int(max(0, place - margin) if high else min(len(sample) - 1, place + margin))]
        beyond = yield from _beyond(values, bound, high, meter)
        if (rank > count - len(beyond)) if high else (rank <= len(beyond)):
            rank -= count - len(beyond) if high else 0
            values = beyond
            continue
        others = yield from _beyond(values, bound, not high, meter)
        if (rank <= len(others)) if high else (rank > count - len(others)):
            rank -= 0 if high else count - len(others)
            values = others
            continue
        return bound
    meter.spend(len(values) * 100)
    return sorted(values)[rank - 1]


def _beyond(values: "array[float]", bound: float, above: bool, meter: Meter) -> "Generator[None, None, array[float]]":
    """The values above the bound, or those below it."""
    found: array[float] = array(values.typecode)
    for first in range(0, len(values), _PASS_POINTS):
        part = values[first : first + _PASS_POINTS]
        found.extend([v for v in part if v > bound] if above else [v for v in part if v < bound])
        meter.spend(len(part) * _PASS_NS)
        yield
    return found
