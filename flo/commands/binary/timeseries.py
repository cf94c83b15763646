"""The hand-written handlers of the operations on time series (SPEC section 2.3): line protocol, jobs, answers in JSON."""

from array import array

from flo.commands.binary.names import json_payload, page
from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import Options, Result, handles
from flo.commands.operations import SECOND_MS
from flo.commands.runner import Job
from flo.commands.timeseries import PRECISIONS, json_job, text_of, write_job
from flo.engine import Namespace
from flo.engine.timeseries_query import query_job, read_job
from flo.errors import BadRequest
from flo.proto.lineprotocol import parse_point
from flo.proto.shapes import NUMBERS
from flo.series import parse_tags

HOUR_MS = 3_600_000
CURSOR_MARK = b"t"

_count = NUMBERS["u32"].pack


@handles("ts_write")
def write(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    points = parse_point(name, options.get("tags", b""), value)
    part = namespace.ts
    time = options.get("timestamp", part.engine.now)
    keys = [key for key, _ in points]
    return _count(part.write(keys, array("q", [time] * len(keys)), array("d", [number for _, number in points])))


@handles("ts_write_batch")
def write_batch(session: BinarySession, namespace: Namespace, _: bytes, value: bytes, options: Options) -> Result:
    precision = options.get("precision", 0)
    if precision >= len(PRECISIONS):
        raise BadRequest(f"the precision is {precision}; it is 0 for ns, 1 for us, 2 for ms, 3 for s")
    return _written(namespace, value, PRECISIONS[precision])


def _written(namespace: Namespace, lines: bytes, unit: str) -> Job:
    return _count((yield from write_job(namespace, lines, unit)))


@handles("ts_query")
def query(session: BinarySession, namespace: Namespace, _: bytes, value: bytes, options: Options) -> Result:
    return _queried(session, namespace, text_of(value, "query"))


def _queried(session: BinarySession, namespace: Namespace, text: str) -> Job:
    return (yield from json_job((yield from query_job(namespace.ts, text, session.host.settings.query_max_points))))


@handles("ts_read")
def read(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Result:
    part = namespace.ts
    end = options.get("to", 0) or part.engine.now
    start = options.get("from", end - HOUR_MS)
    if start > end:
        raise BadRequest(f"the points are asked for from {start} to {end}, which is before")
    tags = [(text_of(tag, "tag"), text_of(value, "tag")) for tag, value in parse_tags(options.get("tags", b""))]
    names = text_of(name, "measurement"), text_of(options.get("field", b""), "field")
    return _read(session, namespace, names, start, end, tags, options["limit"])


def _read(
    session: BinarySession, namespace: Namespace, names: tuple[str, str], start: int, end: int, tags: list[tuple[str, str]], limit: int
) -> Job:
    most = session.host.settings.query_max_points
    return (yield from json_job((yield from read_job(namespace.ts, names[0], start, end, names[1], tags, limit, most))))


@handles("ts_list")
def list_page(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Result:
    part = namespace.ts
    if name:
        found = part.describe(text_of(name, "measurement"))
        return json_payload({"measurements": [found] if found is not None else [], "cursor": ""})
    names, following = page("ts_list", options, [each.encode() for each in part.names()], CURSOR_MARK)
    return json_payload({"measurements": [part.describe(each.decode()) for each in names], "cursor": following})


@handles("ts_create_measurement")
def create(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Result:
    rules = text_of(options.get("downsample", b""), "downsample")
    namespace.ts.configure(text_of(name, "measurement"), options.get("max_age", 0) * SECOND_MS, rules)
    return b""


@handles("ts_delete")
def delete(session: BinarySession, namespace: Namespace, name: bytes, _: bytes, options: Options) -> Result:
    tags = {text_of(tag, "tag"): text_of(value, "tag") for tag, value in parse_tags(options.get("tags", b""))}
    return _deleted(namespace, text_of(name, "measurement"), tags)


def _deleted(namespace: Namespace, name: str, tags: dict[str, str]) -> Job:
    return _count((yield from namespace.ts.delete_job(name, tags)))
