"""An HTTP connection's session: requests become the operations' own requests and run through the same handlers as the binary protocol's
(flo.commands.binary.table); their payloads become HTTP answers (flo.commands.http.convert). Pages answer what is no operation.

Requests run one after the other, and are answered in their order: behind one that waits, the others wait.
"""

from collections.abc import Generator
from functools import lru_cache, partial
from time import gmtime, time
from types import GeneratorType
from typing import Any
from weakref import proxy

from flo.commands.binary.table import SERVED, head
from flo.commands.host import Host, Peer, client_line
from flo.commands.http import routes
from flo.commands.http.answers import (
    CONDITIONS,
    PROBLEM,
    RETRY_AFTER,
    HttpRefusal,
    byte_range,
    conditions,
    etag,
    is_listed,
    problem,
    with_status,
)
from flo.commands.http.convert import HEADER_OPTIONS, SLICE_BYTES, TYPE_JSON, answer_in_slices, name64, request_of
from flo.commands.http.security import SAFE, Common, check_host, check_origin, cors, secret_in, secret_in_query
from flo.commands.runner import WAITING, Call, Decoded, Job, Later, Reply, Session
from flo.commands.secret import forbidden, judge
from flo.errors import BadRequest, NotLeader, Overloaded, Refusal
from flo.forward import Start
from flo.limits import REQUEST_BYTES_MAX, UNAUTHENTICATED_BYTES_MAX
from flo.proto import http
from flo.proto.binary import RESPONSE_BYTES, check_request
from flo.proto.http import HttpError, Request, RequestReader
from flo.proto.row import Operation

NAME64 = "name64"  # the parameter with a name that clients would rewrite in a path
DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
REWRITTEN = b"-"  # what stands in the path for it


class Made(list[bytes]):
    """A response that is made already, in pieces."""


class Exchange:
    """One request, and what is to answer it."""

    __slots__ = ("inner", "refusal", "request", "route", "seconds")

    def __init__(self, request: Request) -> None:
        self.request: Request = request
        self.route: routes.Route | None = None  # None: it was refused before
        self.inner: Any = None  # the operation's request, as the binary protocol has it; for a page, the variables of its path
        self.refusal: Refusal | None = None
        self.seconds: float = 0.0  # that the answer waits, where secrets are guessed


class HttpSession(Session):
    """One HTTP connection."""

    protocol = "http"
    __slots__ = ("__weakref__", "_host", "_right", "reader")

    authenticated: bool
    reads_only: bool
    executed: int

    def __init__(self, host: Host, peer: Peer) -> None:
        super().__init__(host, peer)
        # a session must not be in a cycle: nothing collects those
        self.reader: RequestReader = RequestReader(partial(HttpSession._body_limit, proxy(self)))
        self._host = b""  # that was right last
        self._right = b""  # the Authorization that was right last

    # -- decoding ----------------------------------------------------------------------------------

    def decode(self, data: bytes) -> Decoded:
        """See `Session`. One request at a time: the one behind it may be another once it has run (its namespace may be new)."""
        request, at = self.reader.whole(data, 0)
        return ([], _none) if request is None else ([self._call(request)], lambda count: at)

    def note_settings(self) -> None:
        """See `Session`. Each request brings its own secret, which may only read."""
        self.ordinary: bool = self.authenticated

    def parse(self, data: bytes, at: int) -> tuple[Call | None, int]:
        """See `Session`. Raises `HttpError`."""
        request, at = self.reader.parse(data, at)
        if request is None:
            if self.reader.continue_due:
                self.reader.continue_due = False
                self.peer.out.append(http.CONTINUE)
            return None, at
        return self._call(request), at

    def body_room(self) -> memoryview | None:
        """See `Session`."""
        return self.reader.body_room()

    def body_received_call(self, count: int) -> Call | None:
        """See `Session`. Raises `HttpError`."""
        request = self.reader.body_received(count)
        return None if request is None else self._call(request)

    def note_unfinished(self) -> None:
        """See `Session`."""
        self.unfinished: bool = not self.reader.idle
        self.length_known: bool = self.reader.length_known
        self.held: int = self.reader.held

    def lose_framing(self, e: Exception) -> bool:
        """See `Session`."""
        if not isinstance(e, HttpError):
            return False
        self.host.tallies.count_error("ERR")
        self.halted: bool = True
        self.peer.out.append(self._problem(HttpRefusal(e.status, str(e), close=True), None))
        self.peer.close_after_replies()
        return True

    def _body_limit(self, request: Request) -> int:
        """How long the body of a request may be: whoever owes the secret sends little."""
        given = request.headers.get(b"authorization", b"") or b"p=" in request.query
        allowed = self.authenticated or (given and self._may_be_right(request))
        return REQUEST_BYTES_MAX if allowed else UNAUTHENTICATED_BYTES_MAX

    def _may_be_right(self, request: Request) -> bool:
        """Whether a request brings a secret. Nothing is counted: the request is judged when it is whole."""
        from hmac import compare_digest  # not at every start: it loads OpenSSL

        given, host = secret_in(request) or secret_in_query(request), self.host
        right = [given is not None and each is not None and compare_digest(given, each) for each in (host.secret, host.read_secret)]
        return any(right)  # both are compared, so that the time does not tell which one it was

    # -- from a request to what answers it ---------------------------------------------------------

    def _call(self, request: Request) -> Call:
        exchange = Exchange(request)
        try:
            self._prepare(exchange)
        except (HttpError, Refusal) as e:
            kept = e if isinstance(e, NotLeader) else with_status(e, request)
            exchange.refusal = kept.with_traceback(None)  # it knows the exchange: a cycle
        return HttpSession.attend, exchange

    def _prepare(self, exchange: Exchange) -> None:
        """Find what answers a request, and make its arguments. Raises `HttpError`, `Refusal`."""
        request, host = exchange.request, self.host
        plain = request.headers.plain
        named = request.headers.get(b"host")
        if named != self._host and named is not None:  # HTTP/1.0 needs none: a check of a load balancer
            check_host(host, named)
            self._host = named
        if request.path == b"*":
            node, values = routes.tree(), dict[str, bytes]()
        else:
            node, values = routes.find(request.path)
        method = "GET" if request.method == "HEAD" else request.method
        found = node.routes.get(method)
        if not plain:
            check_origin(host, request, linked=found is not None and found[0].linked)
        if method == "OPTIONS":
            exchange.route = routes.Route(None, None, partial(_options, node), True)
            return
        if found is None:
            raise HttpRefusal(405, f"{request.method} is not for this path; {', '.join(node.methods)} are", fields=node.allow)
        first = found[0]
        if not first.open:
            if host.secret is not None:
                self._judge(exchange, first.influx)
            if host.loading:
                raise HttpRefusal(503, host.progress.sentence(), fields=RETRY_AFTER)
        if first.page is not None:
            exchange.route, exchange.inner = first, values
            return
        simple = node.simple.get(method)
        if plain and simple is not None and not request.query:
            exchange.route, row, key, body = simple, simple.row, values.get(routes.KEY, b""), request.body
            assert row is not None
            check_request(row, len(key), len(body), row.defaults)
            self._set(exchange, row, key, body, row.defaults, values)
        else:
            self._prepare_operation(exchange, found, values)

    def _prepare_operation(self, exchange: Exchange, found: list[routes.Route], values: dict[str, bytes]) -> None:
        """The operation's own request. Of the routes in `found`, the one with the most required options is first."""
        rows = [route.row for route in found if route.row is not None]
        request = exchange.request
        given: dict[str, bytes] = {}
        for name, texts in http.split_query(request.query).items():
            if len(texts) > 1:
                raise BadRequest(f"the parameter {name.decode('latin-1')!r} is given {len(texts)} times; give it once")
            given[name.decode("latin-1")] = texts[0]
        key = values.get(routes.KEY)
        if NAME64 in given:
            if key != REWRITTEN:
                raise BadRequest("name64 is for a path that has - in the place of the last name")
            key = name64(given.pop(NAME64))
        for twice in given.keys() & values.keys():
            raise BadRequest(f"{twice} stands in the path; it is no parameter too")
        given |= {variable: text for variable, text in values.items() if variable not in (routes.KEY, routes.NAMESPACE)}
        if request.method not in ("GET", "HEAD") and any(name in request.headers for name in CONDITIONS):
            given |= conditions(request, rows)
        row = next((row for row in rows if row.options.keys() >= given.keys() >= set(row.required)), rows[-1])
        exchange.route = found[rows.index(row)]
        for header, names in HEADER_OPTIONS.items():
            text = request.headers.get(header)
            if text is not None:
                given |= {option: text for option in names if option in row.options}
        if key is None:
            key = given.pop(row.key_parameter, b"")
        if row.layout and request.body and exchange.route.value is None and not is_json(request):
            raise HttpRefusal(415, f"{row.name} takes a body of the type application/json")
        body = given.pop(row.value_parameter) if row.value_parameter in values else request.body
        key, value, options = request_of(row, key, body, given, exchange.route.value)
        self._set(exchange, row, key, value, options, values)

    def _set(self, exchange: Exchange, row: Operation, key: bytes, value: bytes, options: dict[str, Any], values: dict[str, bytes]) -> None:
        """The operation's own request, as the binary protocol has it. Raises `Forbidden`, `NotFound`."""
        if self.reads_only and not row.reads:
            raise forbidden(row.name)
        if not row.plain:
            self.check_served(row.reads)
        namespace = values.get(routes.NAMESPACE, b"").decode("utf-8", "replace")
        space = 0 if row.plain else self.host.engine.namespace(namespace).hash
        exchange.inner = (row, 0, 0, space, key, value, options)

    def _judge(self, exchange: Exchange, influx: bool) -> None:
        """Refuse a request without the right secret. `influx`: see `Route`."""
        request, host = exchange.request, self.host
        from hmac import compare_digest

        given = request.headers.get(b"authorization", b"")
        if self._right and compare_digest(given, self._right):
            return
        secret = secret_in(request)
        if secret is None and influx:
            secret = secret_in_query(request)
        challenge = ((b"WWW-Authenticate", b'Basic realm="flo"' if influx else b'Bearer realm="flo"'),)
        if secret is None:
            raise HttpRefusal(401, "this server has a secret; send `Authorization: Bearer SECRET`", fields=challenge)
        refused, exchange.seconds, reads_only = judge(host, self.peer, secret)
        if isinstance(refused, Overloaded):
            raise HttpRefusal(429, str(refused), fields=RETRY_AFTER)
        if refused is not None:
            raise HttpRefusal(401, "the secret is wrong", fields=challenge)
        if given:
            self._right = given
        self.authenticated, self.reads_only = True, reads_only
        self.note_settings()
        host.known(self.peer)

    # -- executing ---------------------------------------------------------------------------------

    def execute(self, calls: list[Call]) -> int:
        """See `Session`. While the log is read there is no engine: only refusals and the open pages are answered."""
        if not self.host.loading:
            return super().execute(calls)
        for handler, exchange in calls:
            try:
                reply = handler(self, exchange)
            except Refusal as e:
                reply = e.with_traceback(None)
            if type(reply) is bytes:
                self.peer.out.append(reply)
            else:
                self.put_out(exchange, reply)
        self.executed += len(calls)
        return len(calls)

    def attend(self, exchange: Exchange) -> Reply:
        """Execute one request."""
        if exchange.refusal is not None:
            return Later(exchange.seconds, exchange.refusal) if exchange.seconds else exchange.refusal
        route = exchange.route
        assert route is not None
        if route.page is not None:
            found = route.page(self, exchange)
            if type(found) is bytes:
                return found
            return self._page_job(exchange, found) if isinstance(found, GeneratorType) else self._of_page(exchange, found)
        assert route.row is not None
        reply: Reply = SERVED[head(route.row.code)].answer(self, exchange.inner)
        if type(reply) is bytes:
            if len(reply) > SLICE_BYTES and is_listed_in_json(route.row) and not exchange.seconds:
                return self._response_job(exchange, route.row, reply[RESPONSE_BYTES:])
            made = self._of_payload(exchange, reply[RESPONSE_BYTES:])
            return Later(exchange.seconds, made) if exchange.seconds else made
        if reply is WAITING:
            for wait in self.waits:
                wait.request = exchange
                wait.change(partial(self._converted, exchange))
        return self._job(exchange, reply) if isinstance(reply, GeneratorType) else reply

    def _job(self, exchange: Exchange, job: Job) -> Job:
        """An operation's job, and then the job of making JSON of what it gives."""
        made = self._converted(exchange, (yield from job))
        return (yield from made) if isinstance(made, GeneratorType) else made

    def _converted(self, exchange: Exchange, reply: Any) -> Any:
        """What a job or a wait of an operation gives; if that is a large payload with lists, a job that makes the response."""
        route = exchange.route
        assert route is not None and route.row is not None
        if type(reply) is bytes and len(reply) > SLICE_BYTES and is_listed_in_json(route.row):
            return self._response_job(exchange, route.row, reply)
        return reply

    def _response_job(self, exchange: Exchange, row: Operation, payload: bytes) -> Job:
        pieces = yield from answer_in_slices(row, payload)
        head = self.respond(exchange, 200, TYPE_JSON, b"", sum(map(len, pieces)))
        return Made([head, *pieces] if exchange.request.method != "HEAD" else [head])

    def _page_job(self, exchange: Exchange, job: Generator[None, None, tuple[int, Any, bytes]]) -> Job:
        return self._of_page(exchange, (yield from job))

    def _of_page(self, exchange: Exchange, found: tuple[int, Any, bytes]) -> bytes | Later:
        status, fields, body = found
        made = self.respond(exchange, status, fields, body)
        return Later(exchange.seconds, made) if exchange.seconds else made

    def _of_payload(self, exchange: Exchange, payload: bytes) -> bytes:
        """The response for an OK answer's payload."""
        assert exchange.route is not None and exchange.route.answer is not None
        body, answered, version, status = exchange.route.answer(payload)
        request = exchange.request
        fields = [*answered]
        status = status or (200 if answered else 204)
        if version is None:
            return self.respond(exchange, status, fields, body)
        tag = etag(version)
        fields.append((b"ETag", tag))
        if request.method not in ("GET", "HEAD"):
            return self.respond(exchange, status, fields, body)
        ranges = answered != TYPE_JSON
        if ranges:
            fields.append((b"Accept-Ranges", b"bytes"))
        if not request.headers.plain:
            if_match = request.headers.get(b"if-match")
            if if_match is not None and not is_listed(if_match, tag, weak=False):
                raise HttpRefusal(412, f"the key's version is {version}, which is not in If-Match", fields=((b"ETag", tag),))
            if is_listed(request.headers.get(b"if-none-match"), tag):
                return self.respond(exchange, 304, [(b"ETag", tag)], b"")
            part = byte_range(request, len(body), tag) if ranges and request.method == "GET" else None  # RFC 9110 section 14.2
            if part is not None:
                start, end = part
                fields.append((b"Content-Range", b"bytes %d-%d/%d" % (start, end - 1, len(body))))
                status, body = 206, body[start:end]
        return self.respond(exchange, status, fields, body)

    def respond(self, exchange: Exchange, status: int, fields: Any, body: bytes, length: int | None = None) -> bytes:
        """A response's bytes; with a `length`, only its head, and a body of so many bytes follows. The connection closes behind it where
        the client, or the answer, says so."""
        request = exchange.request
        if not request.keep_alive:
            self.peer.close_after_replies()
            self.halted = True
        if not request.headers.plain:
            fields = (*fields, *cors(self.host, request))
        common = _common(int(time()), exchange.route.common if exchange.route is not None else SAFE)
        if length is not None:
            return http.response_head(status, fields, length, common=common, keep_alive=request.keep_alive, version=request.version)
        return http.response(
            status, fields, body, common=common, head_only=request.method == "HEAD",
            keep_alive=request.keep_alive, version=request.version,
        )  # fmt: skip

    def pieces(self, request: Exchange, reply: Any) -> list[bytes]:
        """See `Session`."""
        if type(reply) is Made:
            return reply
        if request.route is not None and request.route.page is not None:
            return [reply]
        try:
            return [self._of_payload(request, reply)]
        except HttpRefusal as e:  # a Range or If-Match that does not hold: nobody else catches what is raised where a wait or a job ends
            return [self.refused(e, request)]

    def forward_start(self, request: Exchange, refusal: bytes) -> Start | None:
        """See `Session`: each request brings its own secret and namespace."""
        method, path, query, version, headers, body, _ = request.request
        target = path + (b"?" + query if query else b"")
        fields = [(name, value) for name, value in headers.items() if name not in (b"transfer-encoding", b"content-length", b"expect")]
        if body or method not in ("GET", "HEAD", "DELETE"):
            fields.append((b"content-length", b"%d" % len(body)))
        head = b"%b %b HTTP/1.%d\r\n" % (method.encode(), target, version)
        return Start(b"", len, head + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n" + body, refusal)

    def refusal(self, e: Refusal, request: Exchange) -> bytes:
        """See `Session`."""
        return self._problem(with_status(e, request.request), request)

    def _problem(self, e: HttpRefusal, exchange: Exchange | None) -> bytes:
        body, fields = problem(e.status, str(e)), ((b"Content-Type", PROBLEM), *e.fields)
        if exchange is not None and not e.close:
            return self.respond(exchange, e.status, fields, body)
        self.peer.close_after_replies()
        return http.response(e.status, fields, body, common=_common(int(time()), SAFE), keep_alive=False)

    def rejects(self, e: Refusal, request: Exchange) -> bool:
        """See `Session`."""
        return request.refusal is not None

    # -- telling -----------------------------------------------------------------------------------

    def name_of(self, request: Exchange) -> str:
        """See `Session`."""
        route = request.route
        if route is None:
            return ""
        return route.row.name if route.row is not None else getattr(route.page, "__name__", "options")

    def words_of(self, request: Exchange) -> list[bytes] | None:
        """See `Session`: without the query, which may hold a secret."""
        return [request.request.method.encode(), request.request.path]

    def describe(self) -> str:
        """See `Session`."""
        return client_line(self.peer, flags="N", held=self.held, command=self.last_command, protocol="http")

    def overload(self) -> bytes:
        """See `Session`."""
        return self._problem(HttpRefusal(503, "the unread input of all connections is at its limit; try again later", True), None)


HttpSession.generic = frozenset((HttpSession.attend,))


def is_listed_in_json(row: Operation) -> bool:
    """Whether the operation's answer is JSON with a list in it."""
    return row.http is not None and bool(row.http.items)


def is_json(request: Request) -> bool:
    """Whether a request says that its body is JSON."""
    media = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return media == b"application/json" or (media[:12] == b"application/" and media[-5:] == b"+json")


@lru_cache(2)
def _common(now: int, more: Common) -> bytes:
    """The lines that all responses have at the time `now`, in Unix seconds (RFC 9110 section 5.6.7), and those of one kind of them."""
    year, month, day, hour, minute, second, weekday, *_ = gmtime(now)
    date = b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (DAYS[weekday], day, MONTHS[month - 1], year, hour, minute, second)
    return http.lines_of(((b"Date", date), *more.fields))


def _options(node: routes.Node, session: HttpSession, exchange: Exchange) -> Any:
    """What OPTIONS is answered."""
    return 204, node.allow, b""


def _none(count: int) -> int:
    """No request was decoded."""
    return 0
