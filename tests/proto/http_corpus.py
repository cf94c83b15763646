"""HTTP requests as data: those that must be refused, each with the status and the reason, and those that must be read, each with what it
says. Most of the first kind are ways to hide a request from a proxy (request smuggling): where such a request could begin, HIDDEN stands.
"""

from collections.abc import Mapping
from typing import NamedTuple

from flo.proto.http import Headers, Request

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"  # no reader may ever see this request
LARGE = 1 << 20  # the largest body in the tests


class Refused(NamedTuple):
    """Bytes of which no request may be read: they are answered with `status`, and the connection is closed."""

    status: int
    why: str
    data: bytes


class Read(NamedTuple):
    """Bytes that are these requests, and nothing else."""

    why: str
    data: bytes
    requests: list[Request]


def head(*lines: bytes) -> bytes:
    """A request of these lines, without a body."""
    return b"\r\n".join(lines) + b"\r\n\r\n"


def get(*fields: bytes, host: bytes = b"Host: a") -> bytes:
    """A GET with these fields, and a hidden request behind it."""
    return head(b"GET / HTTP/1.1", host, *fields) + HIDDEN


def post(*fields: bytes, body: bytes = b"hello") -> bytes:
    """A POST with these fields, and a hidden request behind its body."""
    return head(b"POST / HTTP/1.1", b"Host: a", *fields) + body + HIDDEN


def chunked(body: bytes, *fields: bytes) -> bytes:
    """A POST in chunks, and a hidden request behind it."""
    return post(b"Transfer-Encoding: chunked", *fields, body=body)


def request(
    method: str = "GET",
    path: bytes = b"/",
    query: bytes = b"",
    version: int = 1,
    body: bytes = b"",
    keep_alive: bool = True,
    headers: Mapping[bytes, bytes] = {},
    **named: bytes,
) -> Request:
    """A request with these headers, `named` ones too: content_length stands for content-length. Host is `a`, unless it is given; empty for
    none."""
    fields = {name.replace("_", "-").encode(): value for name, value in {"host": b"a", **named}.items() if name != "host" or value}
    return Request(method, path, query, version, Headers({**fields, **headers}.items()), body, keep_alive)


LENGTHS = [
    Refused(400, "two lengths that differ", post(b"Content-Length: 5", b"Content-Length: 0")),
    Refused(400, "two equal lengths", post(b"Content-Length: 5", b"Content-Length: 5")),
    Refused(400, "two lengths, named in different case", post(b"Content-Length: 5", b"content-length: 6")),
    Refused(400, "a list of equal lengths", post(b"Content-Length: 5, 5")),
    Refused(400, "a list of lengths that differ", post(b"Content-Length: 5,0")),
    Refused(400, "a plus, which Python's int takes", post(b"Content-Length: +5")),
    Refused(400, "a minus", post(b"Content-Length: -5")),
    Refused(400, "minus zero", post(b"Content-Length: -0")),
    Refused(400, "an underscore, which Python's int takes", post(b"Content-Length: 1_0")),
    Refused(400, "a space inside", post(b"Content-Length: 1 0")),
    Refused(400, "a tab inside", post(b"Content-Length: 1\t0")),
    Refused(400, "hexadecimal", post(b"Content-Length: 0x5")),
    Refused(400, "hexadecimal without a mark", post(b"Content-Length: a")),
    Refused(400, "a fraction", post(b"Content-Length: 5.0")),
    Refused(400, "an exponent", post(b"Content-Length: 5e0")),
    Refused(400, "a parameter", post(b"Content-Length: 5;a=b")),
    Refused(400, "quotes", post(b'Content-Length: "5"')),
    Refused(400, "empty", post(b"Content-Length:")),
    Refused(400, "only white space", post(b"Content-Length:  \t ")),
    Refused(400, "Arabic digits, which str.isdigit takes", post("Content-Length: ٥".encode())),
    Refused(400, "a superscript, which str.isdigit takes", post("Content-Length: ²".encode())),
    Refused(400, "a superscript in Latin-1", post(b"Content-Length: \xb2")),
    Refused(400, "a space of Latin-1 behind it, which str.strip takes", post(b"Content-Length: 5\xa0")),
    Refused(400, "a word", post(b"Content-Length: five")),
    Refused(400, "a comma behind it", post(b"Content-Length: 5,")),
    Refused(400, "a space before the colon", post(b"Content-Length : 5")),
    Refused(400, "a tab before the name", post(b"\tContent-Length: 5")),
    Refused(413, "over 64 bits, where a reader may wrap around", post(b"Content-Length: 18446744073709551621")),
    Refused(413, "digits past what Python's int converts", post(b"Content-Length: " + b"9" * 5000)),
    Refused(413, "a byte over the limit", post(b"Content-Length: %d" % (LARGE + 1))),
]

CODINGS = [
    Refused(400, "a length and chunks", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    Refused(400, "chunks and a length", post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n")),
    Refused(400, "a length of zero and chunks", post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    Refused(400, "an unknown coding and a length", post(b"Transfer-Encoding: x", b"Content-Length: 5")),
    Refused(400, "chunked twice, in two fields", chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked")),
    Refused(400, "chunked twice, in one field", post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    Refused(400, "chunked is not the last", post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n")),
    Refused(400, "chunked is not the last, in two fields", chunked(b"0\r\n\r\n", b"Transfer-Encoding: identity")),
    Refused(400, "no chunked at all", post(b"Transfer-Encoding: gzip")),
    Refused(400, "identity, of an early edition", post(b"Transfer-Encoding: identity")),
    Refused(400, "empty", post(b"Transfer-Encoding:")),
    Refused(400, "an empty word behind", post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n")),
    Refused(400, "an empty word before", post(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n")),
    Refused(400, "a prefix", post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    Refused(400, "a suffix", post(b"Transfer-Encoding: chunkedx", body=b"0\r\n\r\n")),
    Refused(400, "a second word without a comma", post(b"Transfer-Encoding: chunked identity", body=b"0\r\n\r\n")),
    Refused(400, "quotes", post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    Refused(400, "a parameter", post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n")),
    Refused(400, "a vertical tab before it", post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    Refused(400, "a form feed behind it", post(b"Transfer-Encoding: chunked\x0c", body=b"0\r\n\r\n")),
    Refused(400, "spaces of Latin-1 around it, which str.strip takes", post(b"Transfer-Encoding: \xa0chunked\x85", body=b"0\r\n\r\n")),
    Refused(400, "a NUL behind it", post(b"Transfer-Encoding: chunked\0", body=b"0\r\n\r\n")),
    Refused(400, "a space before the colon", post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n")),
    Refused(400, "folded", post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n")),
    Refused(400, "the K of Kelvin, which lower-case text takes for k", post("Transfer-Encoding: chun\u212aed".encode())),
    Refused(501, "a coding that is not known, before chunked", post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    Refused(501, "such a coding in two fields", post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    Refused(501, "identity before chunked", post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n")),
    Refused(400, "chunks in HTTP/1.0", head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + HIDDEN),
    Refused(
        400,
        "chunks in HTTP/1.0 that asks for more requests",
        head(b"POST / HTTP/1.0", b"Connection: keep-alive", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + HIDDEN,
    ),
]

CHUNKS = [
    Refused(400, "a size of 0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a plus", chunked(b"+5\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a minus", chunked(b"-5\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "minus zero", chunked(b"-0\r\n\r\n")),
    Refused(400, "an underscore, which Python's int takes", chunked(b"0_5\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "an empty size", chunked(b"\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "an empty size, then nothing", chunked(b"\r\n\r\n")),
    Refused(400, "no size before an extension", chunked(b";a=b\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a space before the size", chunked(b" 5\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a space behind the size", chunked(b"5 \r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a tab behind the size", chunked(b"5\t\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a letter that is no digit", chunked(b"5g\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a letter that is no digit, before the size", chunked(b"g5\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a second number", chunked(b"5 5\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a decimal point", chunked(b"5.0\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "17 digits", chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a digit of Latin-1", chunked(b"\xb2\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a NUL behind the size", chunked(b"5\0\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a bare LF behind the size", chunked(b"5\nhello\r\n0\r\n\r\n")),
    Refused(400, "a bare LF behind the size, and nothing more", chunked(b"")[: -len(HIDDEN)] + b"5\n"),
    Refused(400, "a bare CR behind the size", chunked(b"5\rhello\r\n0\r\n\r\n")),
    Refused(400, "two CRs behind the size", chunked(b"5\r\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a bare LF behind the last size", chunked(b"0\n\r\n")),
    Refused(400, "a bare LF in an extension", chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a bare CR in an extension", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a NUL in an extension", chunked(b"5;a\0b\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "a bare LF behind the bytes", chunked(b"5\r\nhello\n0\r\n\r\n")),
    Refused(400, "a bare CR behind the bytes", chunked(b"5\r\nhello\r0\r\n\r\n")),
    Refused(400, "two other bytes behind the bytes", chunked(b"5\r\nhelloXX0\r\n\r\n")),
    Refused(400, "more bytes than the size says", chunked(b"5\r\nhello!\r\n0\r\n\r\n")),
    Refused(400, "fewer bytes than the size says", chunked(b"6\r\nhello\r\n0\r\n\r\n")),
    Refused(400, "an empty line between chunks", chunked(b"5\r\nhello\r\n\r\n0\r\n\r\n")),
    Refused(413, "over 32 bits, where a reader may wrap around", chunked(b"100000005\r\nhello\r\n0\r\n\r\n")),
    Refused(413, "64 bits", chunked(b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n")),
    Refused(413, "a byte over the limit", chunked(b"%x\r\n" % (LARGE + 1))),
    Refused(413, "chunks over the limit together", chunked(b"5\r\nhello\r\n%x\r\n" % (LARGE - 4))),
    Refused(431, "extensions over the limit together", chunked((b"1;" + b"a" * 9000 + b"\r\nx\r\n") * 4)),
    Refused(
        431, "extensions over the limit, between plain chunks", chunked((b"1\r\nx\r\n" * 100 + b"1;" + b"a" * 9000 + b"\r\nx\r\n") * 4)
    ),
    Refused(431, "an extension that does not end", chunked(b"1;" + b"a" * 40_000)[: -len(HIDDEN)]),
    Refused(400, "a trailer that is no field", chunked(b"0\r\nnothing\r\n\r\n")),
    Refused(400, "a trailer with a space before its colon", chunked(b"0\r\na : b\r\n\r\n")),
    Refused(400, "a folded trailer", chunked(b"0\r\na: b\r\n c\r\n\r\n")),
    Refused(400, "a trailer with a bare CR", chunked(b"0\r\na: b\rc: d\r\n\r\n")),
    Refused(400, "a trailer with a bare LF", chunked(b"0\r\na: b\nc: d\r\n\r\n")),
    Refused(400, "a trailer with a NUL", chunked(b"0\r\na: \0\r\n\r\n")),
    Refused(400, "trailers that a bare LF ends", chunked(b"0\r\na: b\r\n\n")),
    Refused(431, "trailers over the limit together", chunked(b"0\r\n" + b"a: b\r\n" * 6000)),
    Refused(431, "a trailer that does not end", chunked(b"0\r\na: " + b"b" * 40_000)[: -len(HIDDEN)]),
]

LINES = [
    Refused(400, "a bare LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n" + HIDDEN),
    Refused(400, "bare LFs only", b"GET / HTTP/1.1\nHost: a\n\n" + HIDDEN.replace(b"\r", b"")),
    Refused(400, "a bare LF behind the request line, and nothing more", b"GET / HTTP/1.1\n"),
    Refused(400, "a bare LF behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n" + HIDDEN),
    Refused(400, "a bare LF for the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n" + HIDDEN),
    Refused(400, "LF and CR in turn", b"GET / HTTP/1.1\r\nHost: a\n\r\n\r" + HIDDEN),
    Refused(400, "a bare CR behind the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n" + HIDDEN),
    Refused(400, "a bare CR in a value", get(b"X: a\rTransfer-Encoding: chunked")),
    Refused(400, "a bare CR at the end of a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n" + HIDDEN),
    Refused(400, "a bare CR in a name", get(b"X\rY: a")),
    Refused(400, "a bare CR in the version", b"GET / HTTP/\r1.1\r\nHost: a\r\n\r\n" + HIDDEN),
    Refused(400, "a bare LF in the request line", b"GET /\nHTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN),
    Refused(400, "a bare LF, in a version that is not served", b"GET / HTTP/3.0\r\nHost: a\nX: y\r\n\r\n" + HIDDEN),
    Refused(400, "a bare CR, in a version that is not served", b"GET / HTTP/3.0\r\nHost: a\rX: y\r\n\r\n" + HIDDEN),
    Refused(400, "a bare CR, and nothing more", b"GET / HTTP/1.1\r\nHost: a\rX"),
    Refused(400, "a folded field", get(b"X: a\r\n b")),
    Refused(400, "a field folded by a tab", get(b"X: a\r\n\tb")),
    Refused(400, "a folded field that hides a length", get(b"X: a\r\n Content-Length: %d" % len(HIDDEN))),
    Refused(400, "white space before the first field", head(b"GET / HTTP/1.1", b" Host: a") + HIDDEN),
    Refused(400, "a line of white space", get(b" ")),
    Refused(400, "a NUL in a value", get(b"X: a\0b")),
    Refused(400, "a control character in a value", get(b"X: a\x08b")),
    Refused(400, "an escape character in a value", get(b"X: a\x1bb")),
    Refused(400, "DEL in a value", get(b"X: a\x7fb")),
    Refused(400, "a space before the colon", get(b"X : a")),
    Refused(400, "a tab before the colon", get(b"X\t: a")),
    Refused(400, "a space in a name", get(b"X Y: a")),
    Refused(400, "an empty name", get(b": a")),
    Refused(400, "a line without a colon", get(b"X")),
    Refused(400, "a NUL in a name", get(b"X\0: a")),
    Refused(400, "a byte over 127 in a name", get(b"\xefX: a")),
    Refused(400, "a non-breaking space behind a name", get(b"X\xa0: a")),
    Refused(400, "a bracket in a name", get(b"X[]: a")),
    Refused(400, "a slash in a name", get(b"X/Y: a")),
    Refused(400, "quotes in a name", get(b'"X": a')),
    Refused(400, "two empty lines before the request", b"\r\n\r\n" + get()),
    Refused(400, "a bare LF before the request", b"\n" + get()),
    Refused(400, "a bare CR before the request", b"\r" + get()),
    Refused(400, "an empty line of LF and CR", b"\n\r" + get()),
    Refused(400, "a space before the request", b" " + get()),
    Refused(431, "one line over the limit", get(b"X: " + b"a" * 40_000)),
    Refused(431, "a target over the limit", head(b"GET /" + b"a" * 40_000 + b" HTTP/1.1", b"Host: a") + HIDDEN),
    Refused(431, "a header over the limit that does not end", b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 6000),
    Refused(431, "a header of just the limit that does not end", b"GET / HTTP/1.1\r\nX: " + b"a" * ((32 << 10) - 19)),
    Refused(431, "a bare LF behind the limit", b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 6000 + b"\n"),
    Refused(400, "a bare LF before the limit", b"GET / HTTP/1.1\r\n\n" + b"X: a\r\n" * 6000),
    Refused(431, "too many fields", get(*[b"X: a"] * 100)),
]

REQUEST_LINES = [
    Refused(505, "HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Refused(505, "HTTP/2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    Refused(505, "HTTP/0.9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    Refused(505, "HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    Refused(400, "no version", b"GET /\r\n\r\n"),
    Refused(400, "a version of three digits", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    Refused(400, "a version that begins as one that is served", b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n"),
    Refused(400, "a version without a point", b"GET / HTTP/11\r\nHost: a\r\n\r\n"),
    Refused(400, "a version with a comma", b"GET / HTTP/1,1\r\nHost: a\r\n\r\n"),
    Refused(400, "a version in lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a digit of Unicode in the version", "GET / HTTP/1.１\r\nHost: a\r\n\r\n".encode()),
    Refused(400, "another protocol", b"GET / ICY/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "two spaces before the target", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "two spaces behind the target", b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a space behind the version", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    Refused(400, "a tab before the target", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a vertical tab before the version", b"GET /\x0bHTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a version in the target", b"GET /hidden HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a NUL in the target", b"GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "DEL in the target", b"GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a byte over 127 in the target", "GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode()),
    Refused(400, "a fragment", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "an empty target", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a target without a slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a target that is a query", b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "an asterisk for GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "an asterisk with a query", b"OPTIONS *?a HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "an asterisk with a path", b"OPTIONS */a HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a host and a port for GET", b"GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    Refused(400, "an empty method", b" / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "a method that begins as a known one", b'GET=":(,)" / HTTP/1.1\r\nHost: a\r\n\r\n'),
    Refused(400, "a NUL in a method", b"GET\0 / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(501, "CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + HIDDEN),
    Refused(501, "a method that is not known", b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN),
    Refused(501, "a method in lower case", b"get / HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN),
    Refused(400, "a scheme that is not HTTP", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "an absolute target without a host", b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "an absolute target with one slash", b"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "an absolute target of another host", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "an absolute target of another port", b"GET http://a:1/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused(400, "an absolute target with a user", b"GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n"),
    Refused(400, "an absolute target with a user, without Host", b"GET http://a@b/ HTTP/1.0\r\n\r\n"),
    Refused(400, "an absolute target without Host", b"GET http://a/ HTTP/1.1\r\n\r\n"),
    Refused(400, "an absolute target with a backslash behind its host", b"GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
]

HOSTS = [
    Refused(400, "no Host", b"GET / HTTP/1.1\r\n\r\n"),
    Refused(400, "no Host, but other fields", b"GET / HTTP/1.1\r\nX-Host: a\r\n\r\n"),
    Refused(400, "two Hosts", get(b"Host: b")),
    Refused(400, "two equal Hosts", get(b"Host: a")),
    Refused(400, "two Hosts, named in different case", get(b"hOST: b")),
    Refused(400, "two Hosts in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    Refused(400, "an empty Host", get(host=b"Host:")),
    Refused(400, "a list of Hosts", get(host=b"Host: a, b")),
    Refused(400, "a space in the Host", get(host=b"Host: a b")),
    Refused(400, "a path in the Host", get(host=b"Host: a/b")),
    Refused(400, "a user in the Host", get(host=b"Host: a@b")),
    Refused(400, "a scheme in the Host", get(host=b"Host: http://a")),
    Refused(400, "a query in the Host", get(host=b"Host: a?b")),
    Refused(400, "a port that is a name", get(host=b"Host: a:http")),
    Refused(400, "two ports", get(host=b"Host: a:1:2")),
    Refused(400, "a port of six digits", get(host=b"Host: a:123456")),
    Refused(400, "a port without a name", get(host=b"Host: :80")),
    Refused(400, "an address of IPv6 without brackets", get(host=b"Host: ::1")),
    Refused(400, "a bracket that does not close", get(host=b"Host: [::1")),
    Refused(400, "a name in brackets", get(host=b"Host: [localhost]")),
    Refused(400, "text behind the bracket", get(host=b"Host: [::1]a")),
    Refused(400, "a backslash in the Host", get(host=b"Host: a\\b")),
    Refused(400, "a byte over 127 in the Host", get(host="Host: é".encode())),
]

FIELDS = [
    Refused(400, "Authorization twice", get(b"Authorization: Bearer a", b"Authorization: Bearer b")),
    Refused(400, "Content-Type twice", post(b"Content-Type: text/plain", b"Content-Type: application/json", b"Content-Length: 5")),
    Refused(400, "Origin twice", get(b"Origin: http://a", b"Origin: http://b")),
    Refused(400, "Sec-Fetch-Site twice", get(b"Sec-Fetch-Site: none", b"Sec-Fetch-Site: cross-site")),
    Refused(400, "Range twice", get(b"Range: bytes=0-1", b"Range: bytes=0-2")),
    Refused(400, "Idempotency-Key twice", get(b"Idempotency-Key: a", b"Idempotency-Key: b")),
    Refused(417, "an expectation that is not known", post(b"Expect: 200-ok", b"Content-Length: 5")),
    Refused(417, "two expectations", post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 5")),
    Refused(417, "an expectation that is not known, of a request without a body", get(b"Expect: something")),
]

REFUSED = [*LENGTHS, *CODINGS, *CHUNKS, *LINES, *REQUEST_LINES, *HOSTS, *FIELDS]

READ = [
    Read("the shortest request", head(b"GET / HTTP/1.1", b"Host: a"), [request()]),
    Read(
        "two requests in a row",
        head(b"GET /1 HTTP/1.1", b"Host: a") + head(b"HEAD /2 HTTP/1.1", b"Host: a"),
        [request(path=b"/1"), request("HEAD", b"/2")],
    ),
    Read("an empty line before a request", b"\r\n" + head(b"GET / HTTP/1.1", b"Host: a"), [request()]),
    Read(
        "an empty line behind a body, as old clients send it",
        head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1") + b"x\r\n" + head(b"GET / HTTP/1.1", b"Host: a") + b"\r\n",
        [request("POST", body=b"x", content_length=b"1"), request()],
    ),
    Read(
        "a path and a query, as they came",
        head(b"GET //a%2Fb/../%zz?c=d&e?f%00 HTTP/1.1", b"Host: a"),
        [request(path=b"//a%2Fb/../%zz", query=b"c=d&e?f%00")],
    ),
    Read("an empty query", head(b"GET /? HTTP/1.1", b"Host: a"), [request()]),
    Read(
        "characters that a URI must escape and clients do not",
        head(b'GET /?q={a="b"}[1h]|x^`\\<> HTTP/1.1', b"Host: a"),
        [request(query=b'q={a="b"}[1h]|x^`\\<>')],
    ),
    Read(
        "white space around values, and none",
        head(b"GET / HTTP/1.1", b"Host:a", b"X: \t b  c \t ", b"Y:", b"Z: "),
        [request(x=b"b  c", y=b"", z=b"")],
    ),
    Read("names in any case", head(b"GET / HTTP/1.1", b"hOsT: a", b"X-ABC: D"), [request(x_abc=b"D")]),
    Read(
        "all characters of a name",
        head(b"GET / HTTP/1.1", b"Host: a", b"!#$%&'*+.^_`|~9: x"),
        [request(headers={b"!#$%&'*+.^_`|~9": b"x"})],
    ),
    Read(
        "bytes over 127 in a value",
        head(b"GET / HTTP/1.1", b"Host: a", b"X: \xe9\xa0\xff", b"Y: \xa0"),
        [request(x=b"\xe9\xa0\xff", y=b"\xa0")],
    ),
    Read(
        "a list in several fields",
        head(b"GET / HTTP/1.1", b"Accept: x", b"Host: a", b'If-None-Match: "1"', b"accept: y, z", b"ACCEPT: ", b'If-None-Match: "2"'),
        [request(accept=b"x, y, z, ", if_none_match=b'"1", "2"')],
    ),
    Read("as many fields as there may be", head(b"GET / HTTP/1.1", b"Host: a", *[b"X: a"] * 99), [request(x=b", ".join([b"a"] * 99))]),
    Read(
        "a head of the largest size",
        head(b"GET / HTTP/1.1", b"Host: a", b"X: " + b"a" * ((32 << 10) - 32)),
        [request(x=b"a" * ((32 << 10) - 32))],
    ),
    Read("Host with a port", head(b"GET / HTTP/1.1", b"Host: 127.0.0.1:9000"), [request(host=b"127.0.0.1:9000")]),
    Read("Host with an empty port", head(b"GET / HTTP/1.1", b"Host: a-b.c_d:"), [request(host=b"a-b.c_d:")]),
    Read("Host of IPv6", head(b"GET / HTTP/1.1", b"Host: [::FfFf:1.2.3.4]:9000"), [request(host=b"[::FfFf:1.2.3.4]:9000")]),
    Read(
        "an absolute target",
        head(b"GET http://A:90/b?c HTTP/1.1", b"Host: a:90"),
        [request(path=b"/b", query=b"c", host=b"a:90")],
    ),
    Read("an absolute target without a path", head(b"GET HTTPS://a HTTP/1.1", b"Host: a"), [request()]),
    Read("an absolute target without a path, but a query", head(b"GET http://a?b HTTP/1.1", b"Host: a"), [request(query=b"b")]),
    Read(
        "an absolute target instead of Host, in HTTP/1.0",
        head(b"GET http://b/ HTTP/1.0"),
        [request(version=0, keep_alive=False, host=b"b")],
    ),
    Read("OPTIONS of the server", head(b"OPTIONS * HTTP/1.1", b"Host: a"), [request("OPTIONS", b"*")]),
    Read("HTTP/1.0 without Host", head(b"GET / HTTP/1.0"), [request(version=0, keep_alive=False, host=b"")]),
    Read(
        "HTTP/1.0 that asks for more requests",
        head(b"GET / HTTP/1.0", b"Connection: Keep-Alive") * 2,
        [request(version=0, host=b"", connection=b"Keep-Alive")] * 2,
    ),
    Read(
        "HTTP/1.0 that asks for something else",
        head(b"GET / HTTP/1.0", b"Connection: x"),
        [request(version=0, host=b"", keep_alive=False, connection=b"x")],
    ),
    Read(
        "HTTP/1.0 that cannot decide",
        head(b"GET / HTTP/1.0", b"Connection: keep-alive, close"),
        [request(version=0, host=b"", keep_alive=False, connection=b"keep-alive, close")],
    ),
    Read(
        "the last request of a connection",
        head(b"GET / HTTP/1.1", b"Host: a", b"Connection: x ,\tClose"),
        [request(keep_alive=False, connection=b"x ,\tClose")],
    ),
    Read(
        "an option that only ends as close",
        head(b"GET / HTTP/1.1", b"Host: a", b"Connection: unclose"),
        [request(connection=b"unclose")],
    ),
    Read(
        "a body",
        head(b"PUT /k HTTP/1.1", b"Host: a", b"Content-Length: 5") + b"\r\n\0\xff ",
        [request("PUT", b"/k", body=b"\r\n\0\xff ", content_length=b"5")],
    ),
    Read(
        "a body that looks like a request",
        head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(HIDDEN)) + HIDDEN,
        [request("POST", body=HIDDEN, content_length=b"%d" % len(HIDDEN))],
    ),
    Read(
        "a body of GET, which must not be taken for a request",
        head(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(HIDDEN)) + HIDDEN,
        [request(body=HIDDEN, content_length=b"%d" % len(HIDDEN))],
    ),
    Read(
        "a body in HTTP/1.0",
        head(b"POST / HTTP/1.0", b"Content-Length: 1") + b"x",
        [request("POST", version=0, host=b"", keep_alive=False, body=b"x", content_length=b"1")],
    ),
    Read(
        "lengths of zero, with zeros before them",
        head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 0") + head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 001") + b"x",
        [request("POST", content_length=b"0"), request("POST", body=b"x", content_length=b"001")],
    ),
    Read("a POST that says nothing of a body", head(b"POST / HTTP/1.1", b"Host: a"), [request("POST")]),
    Read(
        "RESP commands in a body run none of them",
        head(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 14") + b"*1\r\n$4\r\nPING\r\n",
        [request("POST", body=b"*1\r\n$4\r\nPING\r\n", content_length=b"14")],
    ),
    Read(
        "chunks",
        head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: Chunked")
        + b"5\r\nhello\r\n00C\r\n, \r\n world\r\n\r\n0\r\n\r\n"
        + head(b"GET / HTTP/1.1", b"Host: a"),
        [request("POST", body=b"hello, \r\n world\r\n", transfer_encoding=b"Chunked"), request()],
    ),
    Read(
        "many small chunks",
        head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 12_000 + b"0\r\n\r\n",
        [request("POST", body=b"x" * 12_000, transfer_encoding=b"chunked")],
    ),
    Read(
        "no chunk but the last, with zeros",
        head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: \t chunked ") + b"000\r\n\r\n",
        [request("POST", transfer_encoding=b"chunked")],
    ),
    Read(
        "chunk extensions, and white space before them",
        head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
        + b'1;a\r\nx\r\n1 \t; a = "b;\xe9" ;c\r\ny\r\n0;0\r\n\r\n'
        + head(b"GET / HTTP/1.1", b"Host: a"),
        [request("POST", body=b"xy", transfer_encoding=b"chunked"), request()],
    ),
    Read(
        "extensions and trailers of two bodies, over the limit for one",
        (
            head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
            + b"1;"
            + b"a" * 15_000
            + b"\r\nx\r\n0\r\nb: "
            + b"b" * 15_000
            + b"\r\n\r\n"
        )
        * 2,
        [request("POST", body=b"x", transfer_encoding=b"chunked")] * 2,
    ),
    Read(
        "trailers, which are dropped, whatever they are called",
        head(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
        + b"1\r\nx\r\n0\r\nContent-Length: 9\r\nHost: b\r\nHost: c\r\nEmpty:\r\n\r\n"
        + head(b"GET / HTTP/1.1", b"Host: a"),
        [request("POST", body=b"x", transfer_encoding=b"chunked"), request()],
    ),
    Read(
        "an expectation without a body to wait for",
        head(b"GET / HTTP/1.1", b"Host: a", b"Expect: 100-Continue"),
        [request(expect=b"100-Continue")],
    ),
    Read(
        "expectations are not HTTP/1.0's",
        head(b"POST / HTTP/1.0", b"Expect: x", b"Content-Length: 1") + b"x",
        [request("POST", version=0, host=b"", keep_alive=False, body=b"x", expect=b"x", content_length=b"1")],
    ),
    Read(
        "names that look like framing and are not",
        head(b"POST / HTTP/1.1", b"Host: a", b"Content_Length: 9", b"X-Transfer-Encoding: chunked", b"Content-Length: 1") + b"x",
        [request("POST", body=b"x", x_transfer_encoding=b"chunked", content_length=b"1", headers={b"content_length": b"9"})],
    ),
]
