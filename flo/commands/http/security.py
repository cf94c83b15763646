"""Who may ask over HTTP (SPEC section 8): the Host, the Origin, and the secret of each request.

A browser sends requests to this server for any page that it shows. Two things tell them apart: a Host that is not the server's own
(DNS rebinding), and an Origin, or a Sec-Fetch-Site, of another site. Such requests are refused before anything of them runs.
"""

import socket
from base64 import b64decode
from binascii import Error as Base64Error
from contextlib import suppress

from flo.commands.host import Host
from flo.proto.http import HttpError, Request, split_query

SAME_SITE = (b"same-origin", b"none")  # of Sec-Fetch-Site: the server's own page, or the user
LOCAL = "localhost"
# What a page of a listed origin may send
PREFLIGHT = (
    (b"Access-Control-Allow-Methods", b"GET, HEAD, POST, PUT, DELETE"),
    (b"Access-Control-Allow-Headers", b"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Range"),
    (b"Access-Control-Max-Age", b"600"),
)


class Common:
    """Fields of every answer of one kind."""

    def __init__(self, *fields: tuple[bytes, bytes]) -> None:
        self.fields = fields


# In every answer but the dashboard's: a browser is to take it for nothing but what its Content-Type says, run nothing in it, show it in no
# frame, tell nobody where it came from, and keep no copy
SAFE = Common(
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cache-Control", b"no-store"),
)


def check_host(host: Host, given: bytes) -> None:
    """Refuse a Host that is not this server's. Raises `HttpError`."""
    name = _name(given.decode("latin-1").lower())
    if name == LOCAL or name in _own_names(host) or _is_address(name):
        return
    raise HttpError(421, f"the Host {given.decode('latin-1')[:100]!r} is not this server's; list it in the setting http.hosts")


def check_origin(host: Host, request: Request, linked: bool) -> None:
    """Refuse requests that a browser sends for a page of another site. `linked`: people have links to this page. Raises
    `HttpError`."""
    headers = request.headers
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
    if origin is None and site is None:
        return
    if origin is not None:
        text = origin.decode("latin-1").lower()
        if text in host.settings.http_origins:
            return
        _, scheme, authority = text.partition("://")
        if not scheme or authority != headers.get(b"host", b"").decode("latin-1").lower():
            raise HttpError(403, f"the page of {text[:100]!r} may not use this server; list it in the setting http.origins")
    if site is not None and site not in SAME_SITE and not (linked and origin is None):
        raise HttpError(403, "a page of another site may not use this server; list its origin in the setting http.origins")


def cors(host: Host, request: Request) -> tuple[tuple[bytes, bytes], ...]:
    """The fields by which a browser lets a page of a listed origin see an answer (https://fetch.spec.whatwg.org, "CORS protocol"); none for
    any other."""
    origin = request.headers.get(b"origin")
    if origin is None or origin.decode("latin-1").lower() not in host.settings.http_origins:
        return ()
    fields = ((b"Access-Control-Allow-Origin", origin), (b"Vary", b"Origin"))
    if request.method == "OPTIONS":
        return (*fields, *PREFLIGHT)
    return (*fields, (b"Access-Control-Expose-Headers", b"*"))


def secret_in(request: Request) -> bytes | None:
    """The secret that a request brings: of Bearer, of Token (as InfluxDB's clients have it), or the password of Basic; None if it brings
    none. Raises `HttpError`."""
    given = request.headers.get(b"authorization")
    if given is None:
        return None
    scheme, _, rest = given.partition(b" ")
    rest = rest.strip(b" ")
    if scheme.lower() in (b"bearer", b"token"):
        return rest
    if scheme.lower() == b"basic":
        try:
            return b64decode(rest, validate=True).partition(b":")[2]
        except (Base64Error, ValueError):
            raise HttpError(400, "the Authorization is no base64 behind Basic") from None
    raise HttpError(401, "the Authorization is neither Bearer nor Basic; send `Authorization: Bearer SECRET`")


def secret_in_query(request: Request) -> bytes | None:
    """The secret as InfluxDB 1's clients may send it: the parameter `p`. Raises `HttpError`."""
    given = split_query(request.query).get(b"p")
    return given[-1] if given else None


def _own_names(host: Host) -> tuple[str, ...]:
    # a follower passes requests on as they are, so a leader hears the names of all members
    members = host.cluster.describe()["members"] if host.cluster is not None else ()
    addresses = (host.settings.advertise, *(member["address"] for member in members))
    return (*host.settings.http_hosts, *(_name(address.lower()) for address in addresses))


def _name(authority: str) -> str:
    """An authority without its port."""
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0]


def _is_address(name: str) -> bool:
    family, text = (socket.AF_INET6, name[1:-1]) if name[:1] == "[" else (socket.AF_INET, name)
    with suppress(OSError):
        socket.inet_pton(family, text)
        return True
    return False
