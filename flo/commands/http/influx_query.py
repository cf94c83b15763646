"""InfluxDB 1's door for queries (SPEC section 6.1): `/query`, by GET or with a form by POST. A database is a namespace."""

from typing import Any

from flo.commands.host import Host
from flo.commands.http.convert import JSON
from flo.commands.http.influx import TYPE, Job, error
from flo.commands.http.routes import page
from flo.commands.http.session import Exchange, HttpSession
from flo.commands.secret import forbidden
from flo.engine.timeseries_query import NamespaceSource
from flo.errors import BadRequest, Conflict
from flo.influxql.answer import CHUNK_ROWS, chunked_job, json_job
from flo.influxql.execute import execute
from flo.influxql.parser import parse
from flo.influxql.statement import CreateDatabase, Statement
from flo.proto.http import split_query

FORM = b"application/x-www-form-urlencoded"
DEFAULT = "default"


@page("GET", "query", answers={200: JSON, 400: JSON}, influx=True)
def query(session: HttpSession, exchange: Exchange) -> Any:
    """InfluxDB 1's door for queries: `q` is InfluxQL, `db` the namespace, `epoch` the unit of times, `chunked` gives several documents."""
    return _query(session, exchange, {})


@page("POST", "query", answers={200: JSON, 400: JSON}, influx=True)
def query_form(session: HttpSession, exchange: Exchange) -> Any:
    """The same with the parameters in a form, or in the URL; CREATE DATABASE makes a namespace."""
    media = exchange.request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return _query(session, exchange, split_query(exchange.request.body) if media == FORM else {})


def _query(session: HttpSession, exchange: Exchange, form: dict[bytes, list[bytes]]) -> Any:
    request = exchange.request
    given = {
        name.decode("latin-1"): values[0].decode("utf-8", "surrogateescape")
        for name, values in {**split_query(request.query), **form}.items()
    }
    text = given.get("q", "").strip()
    if not text:
        return error(400, 'missing required parameter "q"')
    try:
        statements = parse(text)
    except BadRequest as e:
        return error(400, str(e))
    if any(isinstance(statement, CreateDatabase) for statement in statements):
        if session.reads_only:
            raise forbidden("CREATE DATABASE")
        if request.method != "POST":
            return error(400, "CREATE DATABASE changes the server: send it by POST")
    return _query_job(session.host, statements, given)


def _query_job(host: Host, statements: tuple[Statement, ...], given: dict[str, str]) -> Job:
    database, epoch = given.get("db") or DEFAULT, given.get("epoch", "")
    results = yield from execute(statements, _Namespaces(host), database, epoch, host.engine.now, host.settings.query_max_points)
    if given.get("chunked") == "true":
        size = given.get("chunk_size", "")
        rows = int(size) if size.isdecimal() and len(size) < 10 else 0
        body = yield from chunked_job(results, rows or CHUNK_ROWS)
    else:
        body = yield from json_job(results)
    return 200, TYPE, body


class _Namespaces:
    """The namespaces as databases (a `Databases` of flo.influxql.index)."""

    def __init__(self, host: Host) -> None:
        self._engine = host.engine

    def names(self) -> list[str]:
        """See `Databases`."""
        return sorted(self._engine.namespaces)

    def index(self, name: str) -> NamespaceSource | None:
        """See `Databases`."""
        namespace = self._engine.namespaces.get(name)
        return None if namespace is None else NamespaceSource(namespace.ts)

    def create(self, name: str) -> None:
        """See `Databases`."""
        try:
            self._engine.create_namespace(name)
        except Conflict as e:
            raise BadRequest(str(e)) from None
