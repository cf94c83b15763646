"""What an OpenAPI document cannot say about a request that is right: which parameters exclude each other, or need each other.

schemathesis loads this (tests/http/schemathesis.toml). Requests that it makes wrong on purpose stay as they are, but for long waits.
"""

from contextlib import suppress
from typing import Any

import schemathesis

from flo.commands.http.openapi import ROOT, routes_of_operations

ROWS = {(method, ROOT + path): rows for (method, path), rows in routes_of_operations().items()}
WAIT_MS_MAX = 20
TIME_MAX = 1 << 31  # of a duration: the server refuses what ends after the last time that it can store
TIMES = ("ttl", "delay", "lease", "max_age", "max_attempts", "min_idle")


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: Any) -> None:
    """Without `default`, a status that is not listed is a failure."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            del operation["responses"]["default"]


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Change a request before it is sent."""
    query = case.query
    for name in ("block", "wait"):
        lower(query, name, WAIT_MS_MAX)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for name in TIMES:
        lower(query, name, TIME_MAX)
    rows = ROWS.get((case.method.upper(), case.path), [])
    names = {row.name for row in rows}
    if "kv_batch_put" in names:
        for item in case.body["items"]:
            lower(item, "ttl", TIME_MAX)
    query.pop("cursor", None)  # only one of an answer is right
    if (case.path_parameters or {}).get("key") != "-":
        query.pop("name64", None)
    if "path" in query:
        query["path"] = "$"
    if case.headers.get("If-Match", "").isdigit():  # the quotes are lost in the phase "coverage"
        case.headers["If-Match"] = f'"{case.headers["If-Match"]}"'
    for row in rows:
        for one, other in row.either:
            if one in query and other in query:
                del query[other]
    if "kv_get" in names and "block" not in query:
        query.pop("cas_version", None)
    if "kv_put" in names:
        if case.headers.get("If-Match") == "*":
            query.pop("if_absent", None)
            case.headers.pop("If-None-Match", None)
        elif "If-None-Match" in case.headers:
            query.pop("if_present", None)
    if "stream_trim" in names:
        query.setdefault("max_len", 5)


def lower(query: Any, name: str, most: int) -> None:
    """Let a number be `most` at most."""
    with suppress(KeyError, TypeError, ValueError):
        if int(query[name]) > most:
            query[name] = most
