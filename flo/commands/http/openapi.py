"""The OpenAPI 3.1 document of the HTTP door, made from the rows of the operations and the table of pages.

It says what `convert`, `answers` and `session` do: a change there is a change here. It is made once, when somebody first asks for it.
"""

import json
from functools import cache
from typing import Any
from zlib import crc32

import flo
from flo.commands.http.answers import PROBLEM
from flo.commands.http.convert import BLOCK_MS_MAX, HEADER_OPTIONS, JSON, bounds, example_of, may_wait, media_of
from flo.commands.http.routes import KEY, NAMESPACE, PAGES, PREFIX, PageRow
from flo.limits import NAMESPACE_NAME_BYTES_MAX
from flo.operations import OPERATIONS
from flo.proto.http import REASONS
from flo.proto.row import Http, Operation, Option
from flo.proto.shapes import NUMBERS, Shape, shape

Json = dict[str, Any]

ROOT = "/" + "/".join(word.decode() for word in PREFIX) + "/"
EVERYWHERE = (400, 401, 403, 421, 429, 500, 503)  # statuses that any operation may answer
STATUS_OF = {"NOT_FOUND": 404, "CONFLICT": 409, "UNAUTHORIZED": 401}  # by the words in a row's `refusals`
ID = r"^[0-9]{1,19}(-[0-9]{1,19})?$"  # in a request; 20 digits could be over 64 bits
RATE = r"^[0-9]{1,9}/[0-9]{1,9}$"
ANSWERED_ID = r"^[0-9]{1,20}-[0-9]{1,20}$"
BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
BASE64URL = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2,3})?$"
ETAG = r'^"[0-9]{1,19}"$'
IF_MATCH = r'^("[0-9]{1,19}"|\*)$'
EXAMPLES: Json = {
    "key": "greeting", "queue": "jobs", "stream": "events", "its name": "default", "group": "workers", "consumer": "worker-1",
    "cas_version": 7, "version": 7, "ttl": 60, "time": 1700000000000, "namespace": "default", "start": "1700000000000-0",
    "bool": True, "empty": True, "id": "1700000000000-0", "rest": "hello",
}  # fmt: skip  # by a name, or by a type of a layout; else 1 or "text"

ABOUT = """Flo's operations as REST. docs/http.md explains it with examples.

- A name in a path is percent-encoded, and may have any bytes: a slash is %2F. Clients rewrite the names `.` and `..`, and a path cannot
  have the empty name: write `-` in the place of the key, and give the key as `name64`, in base64url.
- In JSON, bytes are a string if they are UTF-8, otherwise an object `{"base64": "…"}`.
- Every GET may be a HEAD. Requests on one connection are answered in their order.
- A refusal is `application/problem+json`; `detail` is a sentence that says what was wrong and what to do."""


@cache
def document(has_secret: bool) -> tuple[bytes, bytes]:
    """(the document as JSON, its ETag), of a server with or without a secret. Clear its cache where a test has declared an operation."""
    text = json.dumps(_document(has_secret), ensure_ascii=False, separators=(",", ":")).encode()
    return text, b'"%08x"' % crc32(text)


def _document(has_secret: bool) -> Json:
    paths: dict[str, Json] = {}
    for (method, path), rows in routes_of_operations().items():
        paths.setdefault(ROOT + path, {})[method.lower()] = _operation(path, rows)
    for page in PAGES:
        if page.answers is None:
            continue  # for browsers: OpenAPI has no words for a WebSocket
        paths.setdefault("/" + page.path, {})[page.method.lower()] = _page(page)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Flo", "version": flo.__version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}] if has_secret else [],
        "paths": paths,
        "components": _components(),
    }


def routes_of_operations() -> dict[tuple[str, str], list[Operation]]:
    """The operations by (method, path below /api/v1/), in the order of their rows. Where several have one route, the first is the one that
    requires the fewest options."""
    found: dict[tuple[str, str], list[Operation]] = {}
    for row in OPERATIONS:
        for each in _told_apart(row):
            assert each.http is not None
            method, _, path = each.http.route.partition(" ")
            found.setdefault((method, path), []).append(each)
    for rows in found.values():
        rows.sort(key=lambda row: len(row.required))
    return found


def _told_apart(row: Operation) -> list[Operation]:
    """A row for each route of an operation. Where the value stands in the path or in the query, it is an option here."""
    if row.http is None:
        return []
    found = [row]
    if row.http.one:
        name = row.http.one.rpartition("{")[2][:-1]
        item = Option(0, name, shape(row.value).columns[0][1], f"the {name}")
        found.append(_with(row, "one", "the one in the path", row.http.one, item))
    if row.http.every:
        found.append(_with(row, "all", "all of them", row.http.every, Option(0, "all", "empty", "true: a word that all are meant")))
    if row.http.bare:
        found.append(row._replace(name=f"{row.name}_all", key="", http=Http(row.http.bare)))
    if row.http.get:
        found.append(_with(row, "get", "by GET", row.http.get, Option(0, row.value_parameter, "bytes", row.value)))
    return found


def _with(row: Operation, suffix: str, told: str, route: str, option: Option) -> Operation:
    return row._replace(
        name=f"{row.name}_{suffix}", value="", layout=False, summary=f"{row.summary.rstrip('.')}: {told}.",
        options={**row.options, option.name: option}, required=(option.name,), http=Http(route),
    )  # fmt: skip


def statuses_of(row: Operation) -> list[int]:
    """The statuses that an operation may answer besides those of EVERYWHERE."""
    words = {status for word, status in STATUS_OF.items() if word in row.refusals}
    versioned = "version" in shape(row.answer).names
    words.add(200 if row.answer else 204)
    if may_wait(shape(row.answer).names):
        words.add(202)
    if conditions_of([row]) and (409 in words or _reads(row)):
        words.add(412)
    if versioned and _reads(row):
        words |= {304} if media_of(row) == JSON else {206, 304, 416}
    if row.layout:
        words.add(415)
    return sorted(words)


def conditions_of(rows: list[Operation]) -> list[str]:
    """The conditional headers that the operations of a route heed."""
    options = {name for row in rows for name in row.options}
    if _reads(rows[0]):
        return ["If-Match", "If-None-Match"] if any("version" in shape(row.answer).names for row in rows) else []
    return ["If-Match"] * bool(options & {"cas_version", "if_present"}) + ["If-None-Match"] * ("if_absent" in options)


def _reads(row: Operation) -> bool:
    return row.http is not None and row.http.route.startswith("GET ")


# -- operations ------------------------------------------------------------------------------------


def _operation(path: str, rows: list[Operation]) -> Json:
    """The Operation Object of a route."""
    row = rows[0]
    told = [each.summary if len(rows) == 1 else f"`{each.name}`: {each.summary}" for each in rows]
    for each in rows:
        if each.required and len(rows) > 1:
            told.append(f"It is `{each.name}` where {' and '.join(each.required)} is given.")
        told += [f"Give {one} or {other}, not both." for one, other in each.either]
        if each.refusals:
            told.append(f"Refused as {each.refusals}.")
    made: Json = {
        "operationId": row.name,
        "tags": [row.name.partition("_")[0]],
        "summary": row.summary.partition(". ")[0].partition("; ")[0].rstrip("."),
        "description": "\n\n".join(dict.fromkeys(told)),
        "parameters": _parameters(path, rows),
    }
    if row.value and f"{{{row.value_parameter}}}" not in path:
        made["requestBody"] = _body(row)
    statuses = sorted({status for each in rows for status in statuses_of(each)} | set(EVERYWHERE))
    made["responses"] = {str(status): _response(row, status) for status in statuses}
    made["responses"]["default"] = _reference("responses", "Problem")
    return made


def _parameters(path: str, rows: list[Operation]) -> list[Json]:
    row = rows[0]
    options = {name: option for each in rows for name, option in each.options.items()}
    in_path = [segment[1:-1] for segment in path.split("/") if segment[:1] == "{"]
    made: list[Json] = []
    for name in in_path:
        if name == NAMESPACE:
            made.append(_reference("parameters", NAMESPACE))
        elif name == KEY:
            is_namespace = path.startswith("namespaces/")
            kind = _reference("schemas", "NamespaceName") if is_namespace else {"type": "string", "minLength": 1}
            about = row.key if row.key.startswith("its ") else f"the {row.key}"
            made.append({"name": KEY, "in": "path", "required": True, "description": about, "schema": kind, "example": _sample(row.key)})
        elif name in options:
            made.append(_option(options[name], row, "path"))
        else:
            made.append(_value_in_path(name, row))
    if KEY in in_path:
        made.append(_reference("parameters", "name64"))
    elif row.key:
        made.append({"name": row.key_parameter, "in": "query", "description": row.key, "schema": {"type": "string"}})
    required = set.intersection(*(set(each.required) for each in rows))
    for name, option in options.items():
        if name not in in_path:
            made.append(_option(option, next(each for each in rows if name in each.options), "query", name in required))
    made += [_condition(header, rows) for header in conditions_of(rows)]
    if any(206 in statuses_of(each) for each in rows):
        made += [_reference("parameters", "Range"), _reference("parameters", "IfRange")]
    for header_name, names in HEADER_OPTIONS.items():
        for name in names:
            if name in options:
                title = header_name.decode().title()
                made.append({"name": title, "in": "header", "description": f"the same as {name}", "schema": {"type": "string"}})
    return made


def _value_in_path(name: str, row: Operation) -> Json:
    """The Parameter Object of a value that stands in the path. A value described as `one of a, b` is one of these words."""
    words = row.value.partition("one of ")[2].split(", ")
    kind: Json = {"type": "string"} | ({"enum": words} if words != [""] else {})
    return {"name": name, "in": "path", "required": True, "description": row.value, "schema": kind, "example": words[0] or "text"}


def _condition(header: str, rows: list[Operation]) -> Json:
    """The Parameter Object of a conditional header."""
    if header == "If-None-Match":
        return _reference("parameters", "IfNoneMatchOfRead" if _reads(rows[0]) else "IfNoneMatch")
    if _reads(rows[0]):
        return _reference("parameters", "IfMatchOfRead")
    return _reference("parameters", "IfMatch" if any("if_present" in row.options for row in rows) else "IfMatchOneVersion")


def _option(option: Option, row: Operation, place: str, required: bool = False) -> Json:
    """The Parameter Object of an option."""
    kind = _number(option.form)
    if option.name == "limit" and row.limits[1]:
        kind |= {"minimum": 1, "maximum": row.limits[1], "default": row.limits[0]}
    elif option.waits:
        kind |= {"minimum": 1, "maximum": BLOCK_MS_MAX}
    elif option.words:
        kind = {"type": "string", "enum": list(option.words)}
    elif option.form in NUMBERS:
        kind["minimum"] = max(kind["minimum"], option.least)
    elif option.name == "cursor":
        kind = {"type": "string"}
    about = option.summary.replace("; 0 for ever", "") if option.waits else option.summary
    made: Json = {"name": option.name, "in": place, "description": about, "schema": kind}
    if place == "path" and kind["type"] == "string":
        kind["minLength"] = 1
    if required and option.form == "empty":
        kind["enum"] = [True]
    if required or place == "path":
        made |= {"required": True, "example": _sample(option.name, option.form)}
    return made


def _number(form: str) -> Json:
    """The schema of a type of a layout, or of a form of an option."""
    if form in ("bool", "empty"):
        return {"type": "boolean"}
    if form == "id":
        return {"type": "string", "pattern": ID}
    if form == "rate":
        return {"type": "string", "pattern": RATE}
    if form not in NUMBERS:
        return {"type": "string"}
    least, most = bounds(form)
    return {"type": "integer", "minimum": least, "maximum": most} | ({"format": "int64"} if form == "i64" else {})


def _sample(name: str, kind: str = "") -> Any:
    """A value for an example."""
    return EXAMPLES.get(name, EXAMPLES.get(kind, 1 if kind in NUMBERS else "text"))


# -- bodies ----------------------------------------------------------------------------------------


def _body(row: Operation) -> Json:
    """The Request Body Object of an operation with a value."""
    media = JSON if row.layout else media_of(row)
    if not row.layout:
        content: Json = {"schema": {}, "example": {"items": 3}} if media == JSON else {"schema": _BINARY, "example": "hello"}
        return {"description": row.value, "required": media == JSON, "content": {media: content}}
    layout = shape(row.value)
    if layout.is_list:
        group = layout.items[0][2]
        assert group is not None
        rows: Json = {"type": "array", "items": _item(group, given=True), "maxItems": row.items_max}
        kind = _object({row.value_parameter: rows}, [row.value_parameter])
    else:
        kind = _item(layout, given=True, alone=True)
    kind["additionalProperties"] = False
    return {"required": True, "content": {JSON: {"schema": kind, "example": example_of(row)}}}


def _item(group: Shape, given: bool, alone: bool = False) -> Json:
    """The schema of an item of a list. `given`: in a request, where a number that is left out is 0."""
    columns = {name: _cell(name, kind, given) for name, kind in zip(group.names, group.kinds, strict=True)}
    if len(columns) == 1 and not alone:
        return next(iter(columns.values()))
    if given:
        optional = [name for name, kind in zip(group.names, group.kinds, strict=True) if kind in NUMBERS and kind != "bool"]
        return _object(columns, [name for name in columns if name not in optional]) | {"additionalProperties": False}
    if "kind" not in columns:
        return _object(columns, list(columns))
    del columns["kind"]  # records of a stream: bytes, or a list of fields
    columns["fields"] = {"type": "array", "items": {"type": "array", "items": _BYTES, "minItems": 2, "maxItems": 2}}
    either = [{"required": ["payload"]}, {"required": ["fields"]}]
    return _object(columns, [name for name in columns if name not in ("payload", "fields")]) | {"oneOf": either}


def _cell(name: str, kind: str, given: bool) -> Json:
    if name == "cursor":
        return {"type": "string"}
    if kind == "id" and not given:
        return {"type": "string", "pattern": ANSWERED_ID}
    return dict(_BYTES) if kind in ("name", "blob") else _number(kind)


def _object(properties: Json, required: list[str]) -> Json:
    made: Json = {"type": "object", "properties": properties}
    return made | {"required": required} if required else made


def _response(row: Operation, status: int) -> Json:
    """The Response Object of a status."""
    if status >= 400:
        return _reference("responses", _title(status))
    if status == 304:
        return _reference("responses", "NotModified")
    if status == 204:
        return {"description": "Done."}
    layout = shape(row.answer)
    headers: Json = {}
    if "version" in layout.names:
        headers["ETag"] = _reference("headers", "ETag")
    if layout.kinds == ["json"]:
        about = 'docs/wire-protocol.md, "JSON answers", "Queues" and "Streams", has the fields.'
        content: Json = {JSON: {"schema": {"type": "object"}}}
    elif layout.kinds[-1] == "rest":
        media = media_of(row)
        about = f"The {layout.names[-1]}, or a part of it." if status == 206 else f"The {layout.names[-1]}."
        content = {media: {"schema": {}, "example": {"items": 3}} if media == JSON else {"schema": _BINARY, "example": "hello"}}
        for name, kind in zip(layout.names[:-1], layout.kinds[:-1], strict=True):
            if name != "version":
                headers[f"Flo-{name.replace('_', '-').title()}"] = {"schema": _number(kind)}
        if status == 206:
            headers["Content-Range"] = {"schema": {"type": "string"}, "example": "bytes 0-4/11"}
    else:
        about = "Done." if len(layout.items) == 1 and not layout.is_list else "The answer."
        content = {JSON: {"schema": _answer(row, layout), "example": _answer_example(row, layout)}}
    made: Json = {"description": about, "content": content}
    return made | {"headers": headers} if headers else made


def _answer(row: Operation, layout: Shape) -> Json:
    """The schema of a JSON answer with a layout."""
    assert row.http is not None
    properties: Json = {}
    for name, kind, group in layout.items:
        if group is None:
            properties[name] = _cell(name, kind, given=False)
        else:
            properties[row.http.items] = {"type": "array", "items": _item(group, given=False)}
    return _object(properties, list(properties))


def _answer_example(row: Operation, layout: Shape) -> Json:
    assert row.http is not None
    made: Json = {}
    for name, kind, group in layout.items:
        if group is None:
            made[name] = _sample(name, kind)
            continue
        item: Any = {each: _sample(each, kind) for each, kind in zip(group.names, group.kinds, strict=True) if each != "kind"}
        made[row.http.items] = [item if len(group.names) > 1 else item[group.names[0]]]
    return made


# -- pages and components --------------------------------------------------------------------------


def _page(page: PageRow) -> Json:
    """The Operation Object of a page."""
    told = " ".join((page.function.__doc__ or "").split())
    made: Json = {
        "operationId": page.function.__name__,
        "tags": ["server"],
        "summary": told.partition(". ")[0].rstrip("."),
        "description": told,
        "responses": {},
    }
    answers = page.answers or {}
    for status, media in answers.items():
        content = {"content": {media: {"schema": {"type": "object"} if media == JSON else {"type": "string"}}}} if media else {}
        made["responses"][str(status)] = {"description": REASONS[status], **content}
    if page.open:
        made["security"] = []
    made["responses"] |= {str(status): _reference("responses", _title(status)) for status in EVERYWHERE if status not in answers}
    made["responses"]["default"] = _reference("responses", "Problem")
    return made


_BYTES: Json = {"$ref": "#/components/schemas/Bytes"}
_BINARY: Json = {"type": "string", "format": "binary"}


def _reference(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _title(status: int) -> str:
    return REASONS[status].replace(" ", "")


def _header(name: str, about: str, **bounds: Any) -> Json:
    return {"name": name, "in": "header", "description": about, "schema": {"type": "string"} | bounds}


def _components() -> Json:
    problem = {PROBLEM.decode(): {"schema": _reference("schemas", "Problem")}}
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 0}}}
    responses: Json = {
        _title(status): {"description": about, "content": problem}
        | ({"headers": retry} if status in (429, 503) else {})
        for status, about in _REFUSALS.items()
    }  # fmt: skip
    responses["Unauthorized"]["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    responses["Problem"] = {"description": "Any other refusal.", "content": problem}
    responses["NotModified"] = {"description": "The client has it already.", "headers": {"ETag": _reference("headers", "ETag")}}
    base64 = _object({"base64": {"type": "string", "pattern": BASE64}}, ["base64"]) | {"additionalProperties": False}
    name_pattern = f"^[A-Za-z0-9._:-]{{1,{NAMESPACE_NAME_BYTES_MAX}}}$"
    return {
        "schemas": {
            "Bytes": {
                "description": "Bytes: a string if they are UTF-8, else an object with their base64.",
                "oneOf": [{"type": "string"}, base64],
            },
            "NamespaceName": {"type": "string", "pattern": name_pattern},
            "Problem": _object(
                {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"description": "what was wrong, and what to do", "type": "string"},
                    "error": {"description": "the same sentence as detail", "type": "string"},
                },
                ["type", "title", "status", "detail", "error"],
            ),
        },
        "parameters": {
            NAMESPACE: {
                "name": NAMESPACE, "in": "path", "required": True, "description": "the namespace",
                "schema": _reference("schemas", "NamespaceName"), "example": "default",
            },
            "name64": {
                "name": "name64", "in": "query", "schema": {"type": "string", "pattern": BASE64URL},
                "description": "the key in base64url, if the path has - in its place: for names that clients rewrite",
            },
            "IfMatch": _header("If-Match", "an ETag: only if this is the present version; or *: only if there is one", pattern=IF_MATCH),
            "IfMatchOneVersion": _header("If-Match", "an ETag: only if this is the present version", pattern=ETAG),
            "IfNoneMatch": _header("If-None-Match", "*: only if there is none", enum=["*"]),
            "IfMatchOfRead": _header("If-Match", "ETags; 412 if the present one is not among them"),
            "IfNoneMatchOfRead": _header("If-None-Match", "ETags; 304 if the present one is among them"),
            "Range": _header("Range", "a part of the value, such as bytes=0-99"),
            "IfRange": _header("If-Range", "an ETag: Range counts only if it is the present one"),
        },
        "headers": {"ETag": {"description": "the key's version", "schema": {"type": "string", "pattern": ETAG}}},
        "responses": responses,
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "The server's secret."},
        },
    }  # fmt: skip


_REFUSALS = {
    400: "The request is not understood, or names a namespace that does not exist.",
    401: "The secret is missing or wrong.",
    403: "A page of another site may not use this server.",
    404: "It does not exist.",
    409: "The operation's condition does not hold, or the key holds another kind of value.",
    412: "If-Match or If-None-Match does not hold. The ETag is the present one.",
    415: "The body must be application/json.",
    416: "The value has none of the bytes in Range.",
    421: "The Host is not this server's.",
    429: "Too many wrong secrets came from this address.",
    500: "A defect of the server, or damage on its disk. Its log has the details.",
    503: "A limit is reached, or the server is still reading its log. Retry later.",
}
