"""From a method and a path to what answers them: an operation, by the route in its row, or a page.

The routes are a tree of the segments of their paths. A segment is a word, or a variable: the namespace, the key, or an option.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from flo.commands.http.convert import Answer, answer_of, every_item, one_item, value_parameter
from flo.commands.http.security import SAFE, Common
from flo.operations import OPERATIONS
from flo.proto.http import HttpError, split_path, unescape
from flo.proto.row import Operation

if TYPE_CHECKING:
    from flo.commands.http.session import Exchange, HttpSession

PREFIX = (b"api", b"v1")  # of the operations' paths
NAMESPACE = "ns"
KEY = "key"
SIMPLE = {"{ns}", "{key}"}  # the variables of a path that stand for no option
PLACES_CACHED = 1024  # places that are kept, by the path without its last segment, …
CACHED_BYTES_MAX = 256  # … if that is so short
PLAIN_TEXT = {200: "text/plain"}  # what most pages answer

Page = Callable[["HttpSession", "Exchange"], Any]  # gives what a handler of the runner gives


Value = Callable[[dict[str, bytes]], bytes]


class Route(NamedTuple):
    """What one method of a path does."""

    row: Operation | None  # an operation,
    answer: Callable[[bytes], Answer] | None  # whose OK payload becomes this,
    page: Page | None  # or a page,
    open: bool = False  # which needs no secret
    value: Value | None = None  # takes the operation's value from the parameters, if it is not the body
    linked: bool = False  # people have links to the page: it is served when they come from another site
    common: Common = SAFE  # fields of every answer
    influx: bool = False  # a door of InfluxDB: the secret may stand in the query, and Basic is asked for


class Node:
    """A place in the tree."""

    def __init__(self) -> None:
        self.words: dict[bytes, Node] = {}
        self.variable: Node | None = None
        self.name = ""  # of the variable that leads here; empty for a word
        self.routes: dict[str, list[Route]] = {}  # by method; of several, the first whose required options are given
        self.simple: dict[str, Route] = {}  # of these, the ones for requests of no option, whose body is the value

    def grow(self, segments: Iterator[str]) -> "Node":
        """The place of a path, made where it is not there yet."""
        node = self
        for segment in segments:
            if segment[:1] != "{":
                node = node.words.setdefault(segment.encode(), Node())
                continue
            if node.variable is None:
                node.variable = Node()
                node.variable.name = segment[1:-1]
            assert node.variable.name == segment[1:-1], f"{segment} has the place of {node.variable.name}"
            node = node.variable
        return node

    @property
    def methods(self) -> list[str]:
        """What the path may be asked with."""
        found = sorted({*self.routes, "OPTIONS"})
        return ["HEAD", *found] if "GET" in found else found

    @property
    def allow(self) -> tuple[tuple[bytes, bytes], ...]:
        """The field that says so."""
        return ((b"Allow", ", ".join(self.methods).encode()),)


class PageRow(NamedTuple):
    """A page. Its function's docstring describes it in the OpenAPI document."""

    method: str
    path: str
    function: Page
    open: bool  # it needs no secret
    answers: Mapping[int, str] | None  # the media types by the status; empty where there is no body. None: OpenAPI leaves the page out
    linked: bool = False
    common: Common = SAFE
    influx: bool = False


PAGES: list[PageRow] = []


def page(
    method: str,
    path: str,
    open: bool = False,
    answers: Mapping[int, str] | None = PLAIN_TEXT,
    linked: bool = False,
    common: Common = SAFE,
    influx: bool = False,
) -> Callable[[Page], Page]:
    """Add a page. The arguments are fields of `PageRow`."""

    def add(function: Page) -> Page:
        PAGES.append(PageRow(method, path, function, open, answers, linked, common, influx))
        PAGES.sort(key=lambda row: row.path)  # in one order, whatever is imported first
        return function

    return add


@cache
def tree() -> Node:
    """The tree of all routes. Clear its cache where a test has declared an operation."""
    root = Node()
    for row in OPERATIONS:
        for method, path, value in _routes_of(row):
            node = root.grow(iter((*(word.decode() for word in PREFIX), *path.split("/"))))
            routes = node.routes.setdefault(method, [])
            routes.append(Route(row, answer_of(row), None, value=value))
            routes.sort(key=lambda route: -len(route.row.required) if route.row else 0)
            if not (row.layout or row.required or value) and {segment for segment in path.split("/") if segment[:1] == "{"} <= SIMPLE:
                node.simple[method] = routes[-1]
    for each in PAGES:
        root.grow(iter(each.path.split("/"))).routes.setdefault(each.method, []).append(
            Route(None, None, each.function, each.open, linked=each.linked, common=each.common, influx=each.influx)
        )
    _place.cache_clear()
    return root


def _routes_of(row: Operation) -> Iterator[tuple[str, str, Value | None]]:
    """The routes of an operation, as (method, path, its `Route.value`)."""
    if row.http is None:
        return
    http = row.http
    routes: tuple[tuple[str, Value | None], ...] = (
        (http.route, None), (http.one, partial(one_item, row)), (http.every, partial(every_item, row)), (http.bare, None),
        (http.get, partial(value_parameter, row)),
    )  # fmt: skip
    for route, value in routes:
        if route:
            method, _, path = route.partition(" ")
            yield method, path, value


def find(path: bytes) -> tuple[Node, dict[str, bytes]]:
    """The place of a path, and the values of its variables. Raises `HttpError`."""
    parent, _, last = path.rpartition(b"/")
    node, values = (_place if len(parent) <= CACHED_BYTES_MAX else _place.__wrapped__)(parent)
    segment = unescape(last)
    following = node.words.get(segment)
    if following is None:
        following = node.variable
        if following is None or not segment:
            raise _nothing()
        values = {**values, following.name: segment}
    if not following.routes:
        raise _nothing()
    return following, values


@lru_cache(PLACES_CACHED)
def _place(parent: bytes) -> tuple[Node, dict[str, bytes]]:
    """The place of a path without its last segment, and the values of its variables, which are never changed. Raises `HttpError`."""
    node, values = tree(), {}
    for segment in split_path(parent) if parent else ():
        following = node.words.get(segment)
        if following is None:
            following = node.variable
            if following is None or not segment:
                raise _nothing()
            values[following.name] = segment
        node = following
    return node, values


def _nothing() -> HttpError:
    return HttpError(404, "there is nothing at this path; /api/v1/openapi.json lists what there is")
