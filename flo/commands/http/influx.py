"""InfluxDB's doors for writing (SPEC section 6.1): `/write` of its version 1, `/api/v2/write` of its version 2, and `/ping`.

Good lines are kept, bad ones are answered with 400 and their errors. Strings, and integers past 2^53, are dropped without complaint. The
namespace is the database, or the bucket's name up to a slash.
"""

import json
import zlib
from collections.abc import Generator
from typing import Any

import flo
from flo.commands.http.answers import HttpRefusal
from flo.commands.http.convert import JSON
from flo.commands.http.routes import page
from flo.commands.http.session import Exchange, HttpSession
from flo.commands.secret import forbidden
from flo.commands.timeseries import NAMES
from flo.engine import Namespace
from flo.limits import REQUEST_BYTES_MAX
from flo.proto.http import split_query
from flo.proto.lineprotocol import UNITS, Points, decode

Job = Generator[None, None, tuple[int, Any, bytes]]
VERSION = ((b"X-Influxdb-Version", f"flo-{flo.__version__}".encode()), (b"X-Influxdb-Build", b"flo"))
TYPE = (*VERSION, (b"Content-Type", JSON.encode()))
GZIP_WINDOW = 31
INFLATE_SLICE = 256 << 10  # bytes of a body inflated in one go: 2 ms
WRITE_SLICE = 20_000  # points written in one go: 8 ms
IGNORED = {b"rp", b"consistency", b"org", b"orgID", b"u", b"p"}  # parameters that change nothing here; the secret is judged before


@page("POST", "write", answers={204: "", 400: JSON, 404: JSON}, influx=True)
def write(session: HttpSession, exchange: Exchange) -> Any:
    """InfluxDB 1's door for writing: line protocol; `db` is the namespace, `precision` that of the timestamps (ns)."""
    return _write(session, exchange, b"db")


@page("POST", "api/v2/write", answers={204: "", 400: JSON, 404: JSON}, influx=True)
def write_v2(session: HttpSession, exchange: Exchange) -> Any:
    """InfluxDB 2's door for writing: line protocol; `bucket` is the namespace, `precision` that of the timestamps (ns)."""
    return _write(session, exchange, b"bucket")


@page("GET", "ping", open=True, answers={204: ""})
def influx_ping(session: HttpSession, exchange: Exchange) -> Any:
    """InfluxDB's ping: 204, and which server this is."""
    return 204, VERSION, b""


def _write(session: HttpSession, exchange: Exchange, database: bytes) -> Any:
    if session.reads_only:
        raise forbidden("write")
    given = {name: values[-1] for name, values in split_query(exchange.request.query).items()}
    name = (given.pop(database, b"") or b"default").partition(b"/")[0].decode("utf-8", "replace")
    unit = (given.pop(b"precision", b"") or b"ns").decode("latin-1")
    unknown = given.keys() - IGNORED
    if unknown:
        raise HttpRefusal(400, f"this page does not take the parameter {min(unknown).decode('utf-8', 'replace')[:40]!r}")
    if unit not in UNITS:
        return error(400, f"invalid precision {unit[:20]!r} (use n, ns, u, us, ms, s, m or h)")
    namespace = session.host.engine.namespaces.get(name)
    if namespace is None:
        return error(404, f'database not found: "{name[:100]}"; create the namespace first')
    return _write_job(namespace, exchange, unit)


def _write_job(namespace: Namespace, exchange: Exchange, unit: str) -> Job:
    body: bytes = exchange.request.body
    coding = exchange.request.headers.get(b"content-encoding", b"identity").strip().lower()
    if coding == b"gzip":
        body = yield from _inflated(body)
    elif coding != b"identity":
        raise HttpRefusal(415, f"the Content-Encoding is {coding[:20].decode('latin-1')!r}; gzip and identity are taken")
    part = namespace.ts
    points: Points = yield from decode(body, NAMES, part.engine.now, unit, strict=False)
    yield from part.declare_job(points.keys)
    for at in range(0, len(points.keys), WRITE_SLICE):
        if at:
            yield
        part.check_namespace()
        end = at + WRITE_SLICE
        part.write(points.keys[at:end], points.times[at:end], points.values[at:end])
    if points.bad_lines:
        return error(400, f"partial write: {'; '.join(points.errors)} dropped={points.bad_lines}")
    return 204, VERSION, b""


def _inflated(data: bytes) -> Generator[None, None, bytes]:
    """The body without its compression. Raises `HttpRefusal`."""
    inflater = zlib.decompressobj(GZIP_WINDOW)
    pieces: list[bytes] = []
    size = 0
    while not inflater.eof:
        try:
            piece = inflater.decompress(data, INFLATE_SLICE)
        except zlib.error:
            raise HttpRefusal(400, "the body is no gzip, as its Content-Encoding says") from None
        data = inflater.unconsumed_tail
        size += len(piece)
        if size > REQUEST_BYTES_MAX:
            raise HttpRefusal(413, f"the body has over {REQUEST_BYTES_MAX} bytes when it is inflated; send it in several")
        if not piece and not data and not inflater.eof:
            raise HttpRefusal(400, "the body ends inside its gzip stream")
        pieces.append(piece)
        yield
    return b"".join(pieces)


def error(status: int, sentence: str) -> tuple[int, Any, bytes]:
    """A refusal in InfluxDB's form."""
    return (
        status,
        (*TYPE, (b"X-Influxdb-Error", sentence.replace("\n", " ")[:500].encode("latin-1", "replace"))),
        json.dumps({"error": sentence}, separators=(",", ":")).encode() + b"\n",
    )
