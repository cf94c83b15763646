"""The pages that are no operation: `/health`, `/ready` and the OpenAPI document."""

import json
from typing import Any

import flo
from flo.commands.host import LITTLE
from flo.commands.http.answers import RETRY_AFTER, is_listed
from flo.commands.http.convert import JSON
from flo.commands.http.routes import page
from flo.commands.http.session import Exchange, HttpSession
from flo.commands.replication import is_leader
from flo.proto.http import split_query

TEXT = ((b"Content-Type", b"text/plain; charset=utf-8"),)


@page("GET", "health", open=True, answers={200: JSON})
def health(session: HttpSession, exchange: Exchange) -> Any:
    """200: the process answers. The body is InfluxDB's, for its clients."""
    message = "the log is being read; /ready tells when requests are served" if session.host.loading else "ready for queries and writes"
    body = {"name": "flo", "message": message, "status": "pass", "checks": [], "version": flo.__version__}
    return 200, ((b"Content-Type", JSON.encode()),), json.dumps(body).encode() + b"\n"


@page("GET", "ready", open=True, answers={200: "text/plain", 503: "text/plain"})
def ready(session: HttpSession, exchange: Exchange) -> Any:
    """200 when requests are served, 503 while the log is read; with `?leader`, 200 from a cluster's leader alone. Why is said to who may
    know."""
    host = session.host
    if host.loading:
        told = host.progress.sentence() if host.secret is None else "loading"
        return 503, TEXT + RETRY_AFTER, told.encode() + b"\n"
    if b"leader" in split_query(exchange.request.query) and not is_leader(host):
        return 503, TEXT + RETRY_AFTER, b"this member of the cluster does not lead\n"
    if host.serves == LITTLE:
        return 503, TEXT + RETRY_AFTER, b"this member of the cluster has not heard of a leader\n"
    return 200, TEXT, b"ready\n"


@page("GET", "api/v1/openapi.json", answers={200: JSON, 304: ""})
def openapi(session: HttpSession, exchange: Exchange) -> Any:
    """The OpenAPI document of this server."""
    from flo.commands.http.openapi import document  # not before somebody asks: most servers never need it

    text, tag = document(session.host.secret is not None)
    if is_listed(exchange.request.headers.get(b"if-none-match"), tag):
        return 304, ((b"ETag", tag),), b""
    return 200, ((b"Content-Type", JSON.encode()), (b"ETag", tag)), text
