"""Slices of work on time series for bench.py: line protocol as an agent sends it, and a query as a dashboard asks it, by one client."""

import http.client
import json
import time
from itertools import count

from loadtest.compare import Target, cpu_seconds
from loadtest.lineprotocol import LINES, SERIES, START_S, one_field

FILLED, FILLED_SERIES = 1_000_000, 10
QUERY = f"filled[{(START_S - FILLED // FILLED_SERIES) * 1000}..{START_S * 1000}] | window(1m) | avg()"
_batches = count()  # each has times of its own


def write_points(target: Target, points: int) -> tuple[float, float]:
    """Add points of SERIES series, LINES in a request: (points a second, the server's CPU us a point)."""
    bodies = []
    for _ in range(max(points // LINES, 1)):
        second = next(_batches) * LINES // SERIES
        bodies.append("\n".join(one_field(at % SERIES, second + at // SERIES) for at in range(LINES)).encode())
    return _measured(target, [("POST", "/write", body) for body in bodies], LINES)


def fill_series(target: Target) -> None:
    """FILLED points of a few series, a second apart, up to START_S."""
    each = FILLED // FILLED_SERIES
    bodies = [
        "\n".join(
            f"filled,host=h{host} v={at * 7919 % 100_000 / 1000} {START_S - each + at}" for at in range(first, first + LINES)
        ).encode()
        for first in range(0, each, LINES)
        for host in range(FILLED_SERIES)
    ]
    _measured(target, [("POST", "/write?precision=s", body) for body in bodies], LINES)


def average_points(target: Target, points: int) -> tuple[float, float]:
    """Ask for the averages of the minutes of all filled series: (points a second, the server's CPU us a point)."""
    return _measured(target, [("POST", "/api/v1/timeseries/default/query", QUERY.encode())] * max(points // FILLED, 1), FILLED)


def _measured(target: Target, requests: list[tuple[str, str, bytes]], items: int) -> tuple[float, float]:
    """Make the requests, each of so many items."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    before, began = cpu_seconds(target.pid), time.perf_counter()
    for method, path, body in requests:
        connection.request(method, path, body)
        answer = connection.getresponse()
        told = answer.read()
        if answer.status not in (200, 204) or (answer.status == 200 and not json.loads(told)["series"]):
            raise RuntimeError(f"{path} was answered with {answer.status}: {told[:200]!r}")
    took, count_of = time.perf_counter() - began, len(requests) * items
    connection.close()
    return count_of / took, (cpu_seconds(target.pid) - before) / count_of * 1e6
