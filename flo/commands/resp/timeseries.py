"""Commands on time series: TS.WRITE takes line protocol, TS.QUERY answers FloQL."""

from flo.commands.resp.session import RespSession
from flo.commands.resp.table import command
from flo.commands.runner import Job, Reply
from flo.commands.timeseries import json_job, text_of, write_job
from flo.engine.timeseries_query import query_job
from flo.proto import resp
from flo.proto.resp import bulk


@command(
    "TS.WRITE",
    2,
    "lines",
    "Add the points of a text in InfluxDB's line protocol, all or none; answers how many.",
    group="flo",
    since="flo 0.1",
    flags="write denyoom",
)
def ts_write(session: RespSession, args: list[bytes]) -> Reply:
    return _written(session, args[1])


def _written(session: RespSession, lines: bytes) -> Job:
    return resp.integer((yield from write_job(session.namespace, lines, "ns")))


@command("TS.QUERY", 2, "floql", "Answer a FloQL query, in JSON.", group="flo", since="flo 0.1", flags="readonly")
def ts_query(session: RespSession, args: list[bytes]) -> Reply:
    return _queried(session, text_of(args[1], "query"))


def _queried(session: RespSession, text: str) -> Job:
    answer = yield from query_job(session.namespace.ts, text, session.host.settings.query_max_points)
    return bulk((yield from json_job(answer)))
