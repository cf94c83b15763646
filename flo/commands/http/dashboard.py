"""The dashboard's files: `/dashboard/` and what lies below it. They hold no data, so they need no secret. Three are made here: the table of
operations, the stages of FloQL, and which modules need which.

The others are read from flo/web, in a directory or in the zipapp, when somebody first asks for them, and kept.
"""

import json
import pkgutil
import re
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from flo.commands.http.answers import HttpRefusal, is_listed
from flo.commands.http.routes import page
from flo.commands.http.security import SAFE, Common
from flo.commands.http.session import Exchange, HttpSession
from flo.floql.query import STAGES, SUMMARIES
from flo.operations import OPERATIONS

TYPES = {"html": b"text/html", "css": b"text/css", "js": b"text/javascript", "svg": b"image/svg+xml"}
FILE = "file"
_NAME = re.compile(rf"[a-z][a-z0-9_]*\.({'|'.join(TYPES)})")
_IMPORT = re.compile(r"""(?:\bfrom |\bimport\()"\./([\w.]+)\"""")
MAIN = "app.js"
GZIP_WINDOW = 31  # zlib's number for gzip's format with its largest window

# A browser may take from this server what a page needs, and nothing from anywhere else. It asks each time whether its copy is still right.
PAGE = Common(
    *(field for field in SAFE.fields if field[0] not in (b"Content-Security-Policy", b"Cache-Control")),
    (
        b"Content-Security-Policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"Cache-Control", b"no-cache"),
    (b"Vary", b"Accept-Encoding"),
)


class File(NamedTuple):
    """A file as it is served."""

    media: bytes
    data: bytes
    tag: bytes  # its ETag
    packed: bytes  # in gzip's format
    packed_tag: bytes


def _made(media: bytes, data: bytes) -> File:
    packer = zlib.compressobj(9, zlib.DEFLATED, GZIP_WINDOW)
    mark = b"%08x-%d" % (zlib.crc32(data), len(data))
    return File(media + b"; charset=utf-8", data, b'"%b"' % mark, packer.compress(data) + packer.flush(), b'"%b-gzip"' % mark)


@cache
def _file(name: str) -> File:
    """A file of flo/web. Raises `HttpRefusal` if there is none; so nothing is kept of names that clients invent."""
    found = _NAME.fullmatch(name)
    try:
        data = pkgutil.get_data("flo", f"web/{name}") if found is not None else None
    except OSError:
        data = None
    if data is None or found is None:
        raise HttpRefusal(404, f"the dashboard has no file {name[:100]!r}; it begins at /dashboard/")
    return _made(TYPES[found[1]], data)


@cache
def _operations() -> File:
    """The table of operations as a JavaScript module, for flo.js."""
    table = {
        row.name: {
            "code": row.code,
            "key": row.key,
            "value": row.value,
            "layout": row.layout,
            "answer": row.answer,
            "options": {option.name: [option.code, option.form] for option in row.options.values()},
            "required": row.required,
            "plain": row.plain,
            "reads": row.reads,
            "summary": row.summary,
        }
        for row in OPERATIONS
    }
    return _made(TYPES["js"], b"export default " + json.dumps(table, separators=(",", ":")).encode() + b";\n")


@cache
def _stages() -> File:
    """The stages of FloQL as a JavaScript module, by name: the arguments, each its kind and its words, and a sentence."""
    table = {name: {"arguments": [[kind.name, kind.value] for kind in kinds], "summary": SUMMARIES[name]} for name, kinds in STAGES.items()}
    return _made(TYPES["js"], b"export default " + json.dumps(table, separators=(",", ":")).encode() + b";\n")


@cache
def _imports() -> File:
    """By the name of a module, all that it needs, as a JavaScript module: a page asks for them at once, not one after the other."""
    direct: dict[str, list[str]] = {}

    def look(name: str) -> None:
        if name not in direct and name not in MADE:
            direct[name] = _IMPORT.findall(_file(name).data.decode())
            for each in direct[name]:
                look(each)

    def needed(name: str, found: dict[str, None]) -> list[str]:
        for each in direct.get(name, ()):
            if each not in found:
                found[each] = None
                needed(each, found)
        return list(found)

    look(MAIN)
    return _made(
        TYPES["js"], b"export default " + json.dumps({name: needed(name, {}) for name in direct if name != MAIN}).encode() + b";\n"
    )


MADE: dict[str, Callable[[], File]] = {"operations.js": _operations, "stages.js": _stages, "imports.js": _imports}


def _answer(exchange: Exchange, file: File) -> Any:
    headers = exchange.request.headers
    packs = any(each.strip().lower() == b"gzip" for each in headers.get(b"accept-encoding", b"").split(b","))
    tag = file.packed_tag if packs else file.tag
    if is_listed(headers.get(b"if-none-match"), tag):
        return 304, ((b"ETag", tag),), b""
    fields = ((b"Content-Type", file.media), (b"ETag", tag))
    if packs:
        return 200, (*fields, (b"Content-Encoding", b"gzip")), file.packed
    return 200, fields, file.data


def _moved(path: bytes) -> Any:
    return 302, ((b"Location", path),), b""


@page("GET", "", open=True, answers=None, linked=True)
def root(session: HttpSession, exchange: Exchange) -> Any:
    """The way to the dashboard."""
    return _moved(b"/dashboard/")


@page("GET", "dashboard", open=True, answers=None, linked=True)
def dashboard_without_slash(session: HttpSession, exchange: Exchange) -> Any:
    """The way to the dashboard."""
    return _moved(b"/dashboard/")


@page("GET", "dashboard/", open=True, answers=None, linked=True, common=PAGE)
def dashboard(session: HttpSession, exchange: Exchange) -> Any:
    """The dashboard."""
    return _answer(exchange, _file("index.html"))


@page("GET", f"dashboard/{{{FILE}}}", open=True, answers=None, linked=True, common=PAGE)
def dashboard_file(session: HttpSession, exchange: Exchange) -> Any:
    """One of its files; or the table of operations, for flo.js."""
    name = exchange.inner[FILE].decode("latin-1")
    return _answer(exchange, MADE[name]() if name in MADE else _file(name))
