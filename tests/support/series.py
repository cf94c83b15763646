"""Points of time series by the key of their series, as tests have them."""

from array import array
from collections.abc import Mapping

from flo.engine.timeseries import TimeSeries
from flo.proto.lineprotocol import Points

Column = tuple["array[int]", "array[float]"]  # times in ms, values


def write(part: TimeSeries, points: Mapping[bytes, Column]) -> int:
    """Add points."""
    keys = [key for key, (times, _) in points.items() for _ in times]
    all_times, all_values = array("q"), array("d")
    for times, values in points.values():
        all_times += times
        all_values += values
    return part.write(keys, all_times, all_values)


def by_series(points: Points) -> dict[bytes, Column]:
    """The points of a text in line protocol."""
    found: dict[bytes, Column] = {}
    for key, time, value in zip(points.keys, points.times, points.values, strict=True):
        times, values = found.setdefault(key, (array("q"), array("d")))
        times.append(time)
        values.append(value)
    return found
