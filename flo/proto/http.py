"""HTTP/1.1, the server's side (RFC 9112 and 9110): bytes to requests, responses to bytes. This module knows no routes.

    METHOD SP target SP HTTP/1.1 CRLF  (name: value CRLF)*  CRLF  body                                       the head, and the body

A body has as many bytes as Content-Length says, or comes in chunks:

    (hex-size [; extension] CRLF  bytes CRLF)*  0 CRLF  (trailer: value CRLF)*  CRLF

A proxy may stand in front of the server. Where the two could read the same bytes differently, a client could hide a request from the
proxy (request smuggling). So `RequestReader` takes only bytes that can be read in one way. It refuses all others, and the connection is
closed; where the RFC lets a server be lenient (a bare LF, white space around names), the reader is not.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from flo.errors import FloError
from flo.limits import BODY_GROWTH_BYTES

HEAD_BYTES_MAX = 32 << 10  # of a request line and its header (SPEC section 3); of the trailers and chunk extensions of a body
FIELDS_MAX = 100  # fields in a header: Apache's own bound, and http.client's
PARAMETERS_MAX = 100  # in a query
LENGTH_DIGITS_MAX = 18  # of a Content-Length: it fits 64 bits, and Python's int() refuses texts of thousands of digits
SIZE_LINE_BYTES_MAX = 18  # of a chunk's size without extensions: 16 digits, CR, LF
WHOLE_DIGITS_MAX = 7  # of the Content-Length of a body that comes with its head: less than is received at once
HEADERS_CACHED = 256  # headers that are kept, for requests that have the same one, …
CACHED_BYTES_MAX = 1024  # … if they are so short
FIELD_OVERHEAD_BYTES = 200  # of a field of a header: two bytes objects and their place in a dict, besides the text

METHODS = {word.encode(): word for word in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")}
# Of any other name, a second field adds to the list in the first (RFC 9110 section 5.3). Of these, each has one value, or decides what a
# client may do: of two, a proxy may heed the one and the server the other.
SINGLE = frozenset(
    b"host content-length content-type content-range authorization range if-range if-modified-since if-unmodified-since origin "
    b"sec-fetch-site sec-fetch-mode sec-websocket-key sec-websocket-version idempotency-key access-control-request-method".split()
)
# What says how to answer, besides Host and the body's length
TELLING = frozenset(
    b"authorization content-type expect idempotency-key if-match if-none-match if-range origin range sec-fetch-site transfer-encoding "
    b"connection upgrade access-control-request-method".split()
)

CRLF = b"\r\n"
HEAD_END = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CHUNKED = -1  # in the place of a body's length

# `++` and `*+` take what they can and give nothing back: every match takes time in proportion to the text.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"  # no control character but the tab
_FIELD = rb"(%b):[ \t]*+(%b)\r\n" % (_TOKEN, _TEXT)
_FIELDS = re.compile(rb"(?<=\n)" + _FIELD)
_TRAILER = re.compile(_FIELD)
_REQUEST_LINE = re.compile(rb"(%b) ([!-\"$-~]++) HTTP/1\.([01])\r\n" % _TOKEN)  # a target is printable ASCII without "#"
_BARE = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n")  # a CR without LF, or an LF without CR
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*+;%b)?\r\n" % _TEXT)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*+)(.*)")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)


class HttpError(FloError):
    """A request that is answered with an error. `close`: the connection must be closed behind the answer, for the bytes that follow cannot
    be split into requests, or it is not worth receiving them."""

    def __init__(self, status: int, message: str, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.close = close


class Headers(dict[bytes, bytes]):
    """The fields of a request by their names in lower case. Shared by all requests with the same header, so never changed."""

    __slots__ = ("plain",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(fields)
        self.plain: bool = TELLING.isdisjoint(self)  # nothing in it but Host and the body's length says how to answer


class Request(NamedTuple):
    """One request. `path` and `query` are as they came, escapes and all; `version` is the minor one, 0 or 1. The names in `headers` are in
    lower case. `keep_alive`: the client may send another request on this connection."""

    method: str
    path: bytes
    query: bytes
    version: int
    headers: Headers
    body: bytes
    keep_alive: bool


# -- requests --------------------------------------------------------------------------------------


class RequestReader:
    """Splits a stream of bytes, cut anywhere, into requests. All that it raises is `HttpError`, always to close the connection; after one
    it must not be fed again.

    `body_limit` is asked once for each request with a body, when its head is there: for the largest body it may have. It gets the request
    without the body, so that it can look at the Authorization. It may raise `HttpError`: nothing of the body is received then.

    `continue_due`: the client waits for CONTINUE before it sends the body. Look after a `parse` that returned None, and set it to False.
    """

    __slots__ = (
        *("_body", "_body_limit", "_chunked", "_dropped", "_filled", "_head", "_head_bytes", "_last_chunk", "_limit", "_missing"),
        *("_empty_line", "_searched", "continue_due"),
    )

    def __init__(self, body_limit: Callable[[Request], int]) -> None:
        self._body_limit = body_limit
        self.continue_due: bool = False
        self._empty_line = False  # was skipped before the request
        self._searched = 0  # bytes of an unfinished head or line that were searched already
        self._head: Request | None = None  # of the request whose body is under way
        self._head_bytes = 0  # of memory
        self._limit = 0  # of the body
        self._body = bytearray()  # the first `_filled` bytes are there
        self._filled = 0
        self._missing = 0  # bytes that are still to come, of the body or of the chunk under way, its CRLF included
        self._chunked = False
        self._last_chunk = False  # has come: trailers follow
        self._dropped = 0  # bytes of chunk extensions and trailers

    @property
    def idle(self) -> bool:
        """Whether no request is under way, not even a head whose first part was searched."""
        return not (self._head or self._searched)

    @property
    def length_known(self) -> bool:
        """Whether a body is under way: from here on the client may take its time, as long as it sends something."""
        return self._head is not None

    @property
    def held(self) -> int:
        """Bytes of memory held by the request under way."""
        return self._head_bytes + len(self._body)

    # -- a body, received in place -----------------------------------------------------------------

    def body_room(self) -> memoryview | None:
        """The place for the next bytes of a body; None if the next bytes are for `parse`. Release it before the next call."""
        if not self._missing:
            return None
        body = self._body
        if self._filled == len(body):
            body.extend(bytes(min(self._missing, max(len(body), BODY_GROWTH_BYTES))))
        return memoryview(body)[self._filled :]

    def body_received(self, count: int) -> Request | None:
        """Take the `count` bytes that were put into `body_room()`; returns the request if it is whole now."""
        self._filled += count
        self._missing -= count
        if self._missing:
            return None
        if not self._chunked:
            return self._finish()
        if self._body[-2:] != CRLF:
            raise _chunk_overrun()
        del self._body[-2:]
        self._filled -= 2
        return None

    def _finish(self) -> Request:
        head, body = self._head, bytes(self._body)
        assert head is not None
        self._head, self._head_bytes = None, 0
        self._body = bytearray()
        self.continue_due = False
        return head._replace(body=body)

    # -- everything else ---------------------------------------------------------------------------

    def parse(self, data: bytes, at: int) -> tuple[Request | None, int]:
        """(the next whole request in `data` from offset `at`, or None if it is not whole yet; the offset up to which `data` was taken).
        Bytes that were not taken must begin the next `data`."""
        if self._head is None:
            if data.startswith((b"\r", b"\n"), at):
                at = self._skip_empty_line(data, at)
            end = self._end_of_head(data, at)
            if end < 0:
                return None, at
            head = _parse_head(data[at:end])
            self._empty_line = False
            length = _body_length(head)
            if not length:
                return head, end
            self._limit = self._body_limit(head)
            if length > self._limit:
                raise self._too_large(length)
            if CHUNKED < length <= len(data) - end:
                return head._replace(body=data[end : end + length]), end + length
            self._begin_body(head, length, end - at)
            at = end
        request, at = self._fill(data, at)
        if request is None and not self._missing:
            request, at = self._parse_chunks(data, at)
        return request, at

    def whole(self, data: bytes, at: int) -> tuple[Request | None, int]:
        """The request in `data` from offset `at`, if all of it is there, framed as usual, and none is under way: then nothing is kept.
        Otherwise None: `parse` says what it is."""
        end = data.find(HEAD_END, at, at + HEAD_BYTES_MAX) + 4
        if end < 4 or data.startswith((b"\r", b"\n"), at):
            return None, at
        try:
            head = _parse_head(data[at:end])
        except HttpError:
            return None, at
        headers = head.headers
        if not headers.plain and (b"transfer-encoding" in headers or b"expect" in headers):
            return None, at
        length = headers.get(b"content-length")
        if length is None:
            return head, end
        size = int(length) if length.isdigit() and len(length) <= WHOLE_DIGITS_MAX else 0
        if not size or end + size > len(data):
            return None, at
        method, path, query, version, _, _, keep_alive = head
        return Request(method, path, query, version, headers, data[end : end + size], keep_alive), end + size

    def _skip_empty_line(self, data: bytes, at: int) -> int:
        """Where the request begins, if an empty line may be at `at`: one is allowed (RFC 9112 section 2.2)."""
        if not self._empty_line and data[at : at + 2] == CRLF:
            self._empty_line = True
            at += 2
        if data.startswith((b"\r", b"\n"), at) and data[at:] != b"\r":
            raise _bad("there are empty lines before the request line; at most one may be there, of CR and LF")
        return at

    def _begin_body(self, head: Request, length: int, head_bytes: int) -> None:
        self._head = head
        self._head_bytes = head_bytes + FIELD_OVERHEAD_BYTES * len(head.headers)
        self._chunked = length == CHUNKED
        self._missing = 0 if self._chunked else length
        self._filled = self._dropped = 0
        self._last_chunk = False
        self.continue_due = b"expect" in head.headers and head.version == 1

    def _end_of_head(self, data: bytes, at: int) -> int:
        """The offset behind the empty line that ends the head at `at`; -1 if that has not come yet."""
        start, bound = at + self._searched, at + HEAD_BYTES_MAX
        end = data.find(HEAD_END, start, bound)
        if end >= 0:
            self._searched = 0
            return end + 4
        if _BARE.search(data, start, bound):  # such an end may never come
            raise _bare()
        if len(data) >= bound:
            raise HttpError(431, f"the request line and the header are over {HEAD_BYTES_MAX} bytes", close=True)
        self._searched = max(len(data) - at - 3, 0)  # the last three bytes may be the start of the end
        return -1

    def _fill(self, data: bytes, at: int) -> tuple[Request | None, int]:
        """Take the missing bytes of the body, or of the chunk under way, as far as they are there."""
        request = None
        while self._missing and at < len(data):
            room = self.body_room()
            assert room is not None
            count = min(len(room), len(data) - at)
            room[:count] = data[at : at + count]
            room.release()
            at += count
            request = self.body_received(count)
        return request, at

    def _parse_chunks(self, data: bytes, at: int) -> tuple[Request | None, int]:
        """Take chunks and trailers, from the start of a line."""
        body = self._body
        while True:
            end = data.find(b"\n", at + self._searched) + 1
            length = (end or len(data)) - at
            dropped = length if self._last_chunk else length - SIZE_LINE_BYTES_MAX
            if dropped > 0 and self._dropped + dropped > HEAD_BYTES_MAX:
                raise HttpError(431, f"the body's chunk extensions and trailers are over {HEAD_BYTES_MAX} bytes", close=True)
            self._searched = 0 if end else length
            if not end:
                return None, at
            self._dropped += max(dropped, 0)
            line = data[at:end]
            at = end
            if self._last_chunk:
                if line == CRLF:
                    return self._finish(), at
                if not _TRAILER.fullmatch(line):
                    raise _bad_field(line, "trailers")
                continue
            digits = _CHUNK_SIZE.fullmatch(line)
            if digits is None:
                raise _bad(f"the line {_shown(line)} is not a chunk's size: 1 to 16 hexadecimal digits, then CR and LF")
            size = int(digits[1], 16)
            if self._filled + size > self._limit:
                raise self._too_large(self._filled + size)
            stop = at + size
            if not size:
                self._last_chunk = True
            elif data[stop : stop + 2] == CRLF:
                body += data[at:stop]
                self._filled += size
                at = stop + 2
            else:
                self._missing = size + 2
                _, at = self._fill(data, at)
                if self._missing:
                    return None, at

    def _too_large(self, size: int) -> HttpError:
        return HttpError(413, f"the body has {size} bytes or more; at most {self._limit} are allowed here", close=True)


def _parse_head(head: bytes) -> Request:
    """The request in a head, its empty line included; without its body."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _malformed(head)
    fields = head[line.end() - 1 :]
    headers = _headers(fields) if len(fields) <= CACHED_BYTES_MAX else _headers.__wrapped__(fields)
    if headers is None:
        raise _malformed(head)
    word, target, minor = line.groups()
    method = METHODS.get(word)
    if method is None:
        raise HttpError(501, f"the method {_shown(word)} is not known; the methods are {', '.join(METHODS.values())}", close=True)
    version = 1 if minor == b"1" else 0
    host = headers.get(b"host")
    if host is None:
        if version:
            raise _bad("the header has no Host; HTTP/1.1 requires one")
    elif not _HOST.fullmatch(host):
        raise _bad(f"the Host {_shown(host)} is not a name or an address with an optional port")
    if target[0] != 0x2F and not (target == b"*" and method == "OPTIONS"):
        target, headers = _origin_form(target, headers)
    path, _, query = target.partition(b"?")
    keep_alive = version == 1
    if b"connection" in headers:
        options = [option.strip() for option in headers[b"connection"].lower().split(b",")]
        keep_alive = b"close" not in options and (keep_alive or b"keep-alive" in options)
    return Request(method, path, query, version, headers, b"", keep_alive)


@lru_cache(HEADERS_CACHED)
def _headers(lines: bytes) -> Headers | None:
    """The fields in the lines of a header, with the LF before them and the empty line behind; None if they are not well formed. Clients
    send the same header again and again."""
    fields = _FIELDS.findall(lines, 1)
    if len(fields) != lines.count(b"\n") - 2:
        return None
    if len(fields) > FIELDS_MAX:
        raise HttpError(431, f"the header has {len(fields)} fields; at most {FIELDS_MAX} are allowed", close=True)
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        name, value = name.lower(), value.rstrip()
        if name in headers:
            if name in SINGLE:
                raise _bad(f"the header has {name.decode()} twice; send one")
            value = headers[name] + b", " + value
        headers[name] = value
    return Headers(headers.items())


def _origin_form(target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """(path and query, header) of an absolute target such as http://host/path (RFC 9112 section 3.2.2). Its host becomes the Host."""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise _bad("the request's target must begin with / or http:// (an asterisk is for OPTIONS, a bare host for CONNECT)")
    authority, rest = found.groups()
    if not _HOST.fullmatch(authority):
        raise _bad(f"the target's host {_shown(authority)} is not a name or an address with an optional port")
    host = headers.get(b"host", authority)
    if host.lower() != authority.lower():
        raise _bad(f"the target's host {_shown(authority)} is not the header's Host {_shown(host)}; they must agree")
    return rest if rest[:1] == b"/" else b"/" + rest, Headers({**headers, b"host": host}.items())


def _body_length(head: Request) -> int:
    """The length of the body behind a head (RFC 9112 section 6.3), or CHUNKED. Refuses what the client expects, if that is unknown."""
    _, _, _, version, headers, _, _ = head
    if version and headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise HttpError(417, f"the Expect {_shown(headers[b'expect'])} is not known; only 100-continue is", close=True)
    coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise _bad("the header has both Transfer-Encoding and Content-Length; send one of them")
        if not version:
            raise _bad("the header has Transfer-Encoding, which HTTP/1.0 does not have; send Content-Length")
        *others, last = (word.strip(b" \t") for word in coding.lower().split(b","))
        if last != b"chunked" or b"chunked" in others or b"" in others:
            raise _bad(f"the Transfer-Encoding {_shown(coding)} does not end with a single chunked; send chunked")
        if others:
            raise HttpError(501, f"the Transfer-Encoding {_shown(coding)} is not known; send chunked", close=True)
        return CHUNKED
    if length is None:
        return 0
    if not length.isdigit():
        raise _bad(f"the Content-Length {_shown(length)} is not a decimal number")
    if len(length) > LENGTH_DIGITS_MAX:
        raise HttpError(413, f"the Content-Length {_shown(length)} has over {LENGTH_DIGITS_MAX} digits", close=True)
    return int(length)


# -- refusals --------------------------------------------------------------------------------------
# No sentence shows a field's value, but for the few above that cannot hold a secret.


def _shown(text: bytes) -> str:
    return repr(text if len(text) <= 40 else text[:40] + b"...")[1:]


def _bad(message: str) -> HttpError:
    return HttpError(400, message, close=True)


def _bare() -> HttpError:
    return _bad("the header has a CR without LF, or an LF without CR; each line must end with CR and LF")


def _chunk_overrun() -> HttpError:
    return _bad("CR and LF do not follow the bytes of a chunk; its size must be the number of its bytes")


def _malformed(head: bytes) -> HttpError:
    """Why a head is not well formed. The order of the reasons is such that a head gets the same answer however it was cut."""
    if _BARE.search(head):
        return _bare()
    line, *fields = head[:-4].split(CRLF)
    if not _REQUEST_LINE.fullmatch(line + CRLF):
        words = line.split(b" ")
        if len(words) != 3:
            return _bad(f"the request line has {len(words)} words; it must have three, with single spaces: METHOD TARGET HTTP/1.1")
        method, target, version = words
        if not re.fullmatch(_TOKEN, method):
            return _bad(f"the method {_shown(method)} is not a word of letters")
        if not re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version):
            return _bad(f"the request line ends with {_shown(version)}; it must end with HTTP/1.1")
        if version not in (b"HTTP/1.0", b"HTTP/1.1"):
            return HttpError(505, f"the version {version.decode()} is not served; use HTTP/1.1", close=True)
        stray = re.search(rb"[^!-\"$-~]", target)
        found = f"the byte {_shown(stray[0])} at {stray.start()}" if stray else "no bytes"
        return _bad(f"the request's target has {found}; write all but printable ASCII, and #, as escapes such as %23")
    bad = next(field for field in fields if not _TRAILER.fullmatch(field + CRLF))
    return _bad_field(bad, "header")


def _bad_field(line: bytes, where: str) -> HttpError:
    if line[:1] in (b" ", b"\t"):
        return _bad(f"a line of the {where} begins with white space; write each field on one line")
    name, colon, _ = line.partition(b":")
    if not colon:
        return _bad(f"a line of the {where} has no colon")
    if not re.fullmatch(_TOKEN, name):
        return _bad(f"the field name {_shown(name)} in the {where} has characters that a name may not have; no space may precede the colon")
    return _bad(f"the value of {_shown(name)} in the {where} has a control character; remove it")


# -- paths and queries -----------------------------------------------------------------------------


def split_path(path: bytes) -> list[bytes]:
    """The segments of a request's path, each decoded once after the split; so a segment may have a slash, or any other byte. A plus is a
    plus. Raises `HttpError`."""
    segments = path[1:].split(b"/")
    return [unescape(segment) for segment in segments] if b"%" in path else segments


def split_query(query: bytes) -> dict[bytes, list[bytes]]:
    """The parameters of a query, or of a form: the values of each name, in order. A plus is a space; an empty parameter is left out.
    Raises `HttpError`."""
    if query.count(b"&") >= PARAMETERS_MAX:
        raise HttpError(400, f"the query has {query.count(b'&') + 1} parameters; at most {PARAMETERS_MAX} are allowed")
    found: dict[bytes, list[bytes]] = {}
    for parameter in query.replace(b"+", b" ").split(b"&"):
        if parameter:
            name, _, value = parameter.partition(b"=")
            found.setdefault(unescape(name), []).append(unescape(value))
    return found


def unescape(text: bytes) -> bytes:
    """A segment of a path, or a part of a query, without its escapes. Raises `HttpError`."""
    if b"%" not in text:
        return text
    bad = _BAD_ESCAPE.search(text)
    if bad:
        raise HttpError(400, f"the escape {_shown(bad[0])} is not % and two hexadecimal digits; write the character % as %25")
    # Python's own escapes, \x41, are decoded without a step of Python for each: a head has room for 10,000
    return text.replace(b"\\", b"\\x5c").replace(b"%", b"\\x").decode("unicode_escape").encode("latin-1")


# -- responses -------------------------------------------------------------------------------------

REASONS = {
    101: "Switching Protocols",
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    302: "Found",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    421: "Misdirected Request",
    426: "Upgrade Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}
NO_BODY = frozenset((101, 204, 304))  # a response with such a status has no body, and no Content-Length

Fields = Iterable[tuple[bytes, bytes]]


def response_head(status: int, fields: Fields, length: int | None, *, common: bytes, keep_alive: bool = True, version: int = 1) -> bytes:
    """The head of a response to a client of HTTP/1.`version`, whose body of `length` bytes follows. None: the body's length is not known.
    It follows in chunks; to HTTP/1.0 as it is, and its end is the connection's. `common` are lines that all responses have, the Date among
    them (`lines_of`). Raises ValueError for a field that would be more than one line."""
    end = b""
    if status not in NO_BODY:
        if length is not None:
            end = b"Content-Length: %d\r\n" % length
        elif version:
            end = b"Transfer-Encoding: chunked\r\n"
        else:
            keep_alive = False
    if not keep_alive:
        end += b"Connection: close\r\n"
    elif not version:
        end += b"Connection: keep-alive\r\n"
    return b"%b%b%b%b\r\n" % (_STATUS_LINES[status], common, lines_of(fields), end)


def lines_of(fields: Fields) -> bytes:
    """Fields as they stand in a head. Raises ValueError for one that would be more than one line."""
    lines = [b"%b: %b\r\n" % field for field in fields]
    text = b"".join(lines)
    if not text.count(b"\r") == text.count(b"\n") == len(lines) or b"\0" in text:
        raise ValueError(f"a field of this response has a CR, an LF or a NUL: {_shown(text)}")
    return text


def response(
    status: int, fields: Fields, body: bytes, *, common: bytes, head_only: bool = False, keep_alive: bool = True, version: int = 1
) -> bytes:
    """A whole response. `head_only`: it answers HEAD, so the body is left out. The rest as in `response_head`."""
    if body and status in NO_BODY:
        raise ValueError(f"a response of status {status} has no body; {len(body)} bytes were given")
    head = response_head(status, fields, len(body), common=common, keep_alive=keep_alive, version=version)
    return head if head_only else head + body


def chunk(data: bytes) -> bytes:
    """A piece of a body of unknown length. No bytes are no chunk: LAST_CHUNK ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
