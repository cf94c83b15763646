"""Results as InfluxDB's JSON: one document, or with `chunked=true` a document for each some rows."""

import json
from collections.abc import Iterator
from typing import Any

from flo.influxql.index import Job

ROWS_SLICE = 2_000  # rows made into JSON in one go: 3 ms
SERIES_SLICE = 200  # series, or chunks, in one go: 2 ms
CHUNK_ROWS = 10_000  # of a chunk, as InfluxDB has it
_COMPACT = (",", ":")


def json_job(results: list[dict[str, Any]]) -> Job[bytes]:
    """All results in one document. A job."""
    pieces = ['{"results":[']
    yield from _results(pieces, results)
    pieces.append("]}\n")
    return "".join(pieces).encode("utf-8", "surrogateescape")


def chunked_job(results: list[dict[str, Any]], rows: int) -> Job[bytes]:
    """A document in a line for each `rows` rows, and for each result without rows. A job."""
    pieces: list[str] = []
    chunks = 0
    for result in results:
        for chunk in _chunks(result, rows):
            pieces.append('{"results":[')
            yield from _results(pieces, [chunk])
            pieces.append("]}\n")
            chunks += 1
            if chunks % SERIES_SLICE == 0:
                yield
    return "".join(pieces).encode("utf-8", "surrogateescape")


def _chunks(result: dict[str, Any], rows: int) -> Iterator[dict[str, Any]]:
    """A result in parts of one series each; `partial` says that more follow."""
    all_series = result.get("series", ())
    if not all_series:
        yield result
    for number, series in enumerate(all_series):
        values = series.get("values")
        for at in range(0, max(1, len(values or ())), rows):
            is_last = at + rows >= len(values or ())
            part = series if values is None else {**series, "values": values[at : at + rows]}
            if not is_last:
                part["partial"] = True
            more = not is_last or number + 1 < len(all_series)
            yield {"statement_id": result["statement_id"], "series": [part], **({"partial": True} if more else {})}


def _results(pieces: list[str], results: list[dict[str, Any]]) -> Job[None]:
    """Add the JSON of results, with a pause after each few thousand rows."""
    fresh = 0
    for number, result in enumerate(results):
        all_series = result.get("series")
        pieces.append("," if number else "")
        if all_series is None:
            pieces.append(_dumped(result))
            continue
        pieces.append(f'{{"statement_id":{result["statement_id"]},"series":[')
        for place, series in enumerate(all_series):
            values = series.get("values")
            head = _dumped({name: value for name, value in series.items() if name not in ("values", "partial")})
            pieces.append(f"{',' if place else ''}{head[:-1]}")
            if values is not None:
                pieces.append(',"values":[')
                for at in range(0, len(values), ROWS_SLICE):
                    pieces.append(("," if at else "") + _dumped(values[at : at + ROWS_SLICE])[1:-1])
                    if len(values) > ROWS_SLICE:
                        yield
                pieces.append("]")
            pieces.append(',"partial":true}' if series.get("partial") else "}")
            fresh += ROWS_SLICE // SERIES_SLICE + len(values or ()) % ROWS_SLICE
            if fresh > ROWS_SLICE:
                fresh = 0
                yield
        pieces.append('],"partial":true}' if result.get("partial") else "]}")


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=_COMPACT)
