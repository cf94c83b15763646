"""Time series for every protocol: line protocol into points, and answers into JSON, in slices."""

import json
from collections.abc import Generator
from typing import Any

from flo.engine import Namespace
from flo.errors import BadRequest
from flo.proto.lineprotocol import Names, Points, decode

NAMES = Names()  # the names that clients send, remembered over all connections
POINTS_SLICE = 5000  # points made into JSON in one go: 4 ms
SERIES_SLICE = 500  # series of few points: 4 ms
PRECISIONS = ("ns", "us", "ms", "s")  # of the option


def write_job(namespace: Namespace, lines: bytes, unit: str) -> Generator[None, None, int]:
    """Add the points of a text in line protocol, all or none; returns how many. Raises `BadRequest`. A job."""
    part = namespace.ts
    points: Points = yield from decode(lines, NAMES, part.engine.now, unit)
    part.check_count(len(points.keys))
    yield from part.declare_job(points.keys)
    part.check_namespace()
    return part.write(points.keys, points.times, points.values)


def json_job(answer: dict[str, Any]) -> Generator[None, None, bytes]:
    """The answer of a query as JSON. A job."""
    pieces = ['{"series":[']
    for number, series in enumerate(answer["series"]):
        points = series["points"]
        head = json.dumps({name: value for name, value in series.items() if name != "points"}, ensure_ascii=False, separators=(",", ":"))
        pieces.append(f'{"," if number else ""}{head[:-1]},"points":[')
        for at in range(0, len(points), POINTS_SLICE):
            text = json.dumps(points[at : at + POINTS_SLICE], separators=(",", ":"))
            pieces.append(("," if at else "") + text[1:-1])
            if len(points) > POINTS_SLICE:
                yield
        pieces.append("]}")
        if number % SERIES_SLICE == SERIES_SLICE - 1:
            yield
    rest = json.dumps({name: value for name, value in answer.items() if name != "series"}, separators=(",", ":"))
    pieces.append(f"],{rest[1:]}")
    return "".join(pieces).encode()


def text_of(data: bytes, what: str) -> str:
    """Text in UTF-8. Raises `BadRequest`."""
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise BadRequest(f"the {what} is no UTF-8 from byte {e.start} on") from None
