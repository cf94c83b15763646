"""Time series in tests: keys and columns to write, and all that a series shows."""

from array import array
from collections.abc import Mapping

from flo.engine import Engine
from flo.engine.timeseries import TimeSeries
from flo.series import Series, write_key

FOREVER = (-(1 << 60), 1 << 60)
Points = dict[int, float]


def key_of(measurement: str = "cpu", field: str = "value", **tags: str) -> bytes:
    """The key of a series."""
    return write_key(Series(measurement, tuple(sorted(tags.items())), field))


def write(part: TimeSeries, points: Mapping[bytes, Points]) -> int:
    """Add these points, by the keys of their series."""
    return part.write({key: (array("q", found), array("d", found.values())) for key, found in points.items()})


def read(part: TimeSeries, key: bytes) -> Points:
    """All points of a series; none if it is missing."""
    points: Points = {}
    series = part.store.by_key.get(key)
    for block in part.blocks(series, *FOREVER) if series is not None else ():
        times, values, divisor = block.columns()
        points.update(zip(times, [value / divisor if divisor else value for value in values], strict=True))
    return points


def seal_all(engine: Engine, part: TimeSeries) -> None:
    """As if too many points were open."""
    with engine.batch():
        for series in list(part.store.open.values()):
            part._seal(series)
        part._lower()
