"""Time series in tests: keys and columns to write, and all that a series shows."""

from array import array
from collections.abc import Mapping

from flo.engine import Engine
from flo.engine.timeseries import TimeSeries
from flo.proto.lineprotocol import Points as LinePoints
from flo.series import Series, write_key

FOREVER = (-(1 << 60), 1 << 60)
Points = dict[int, float]
Column = tuple["array[int]", "array[float]"]  # times in ms, values


def key_of(measurement: str = "cpu", field: str = "value", **tags: str) -> bytes:
    """The key of a series."""
    return write_key(Series(measurement, tuple(sorted(tags.items())), field))


def write(part: TimeSeries, points: Mapping[bytes, Points]) -> int:
    """Add these points, by the keys of their series."""
    return write_columns(part, {key: (array("q", found), array("d", found.values())) for key, found in points.items()})


def write_columns(part: TimeSeries, points: Mapping[bytes, Column]) -> int:
    """Add points, by the keys of their series as columns."""
    keys = [key for key, (times, _) in points.items() for _ in times]
    all_times, all_values = array("q"), array("d")
    for times, values in points.values():
        all_times += times
        all_values += values
    return part.write(keys, all_times, all_values)


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


def by_series(points: LinePoints) -> dict[bytes, Column]:
    """The points of a text in line protocol."""
    found: dict[bytes, Column] = {}
    for key, time, value in zip(points.keys, points.times, points.values, strict=True):
        times, values = found.setdefault(key, (array("q"), array("d")))
        times.append(time)
        values.append(value)
    return found
