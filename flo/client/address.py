"""The address of a server as a URL: `flo://[:secret@]host[:port][/namespace]`, or `flos://` with TLS. The members of a cluster are named
with commas between them: `flo://a,b:9001,c/orders`."""

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from flo.errors import BadRequest

if TYPE_CHECKING:
    import ssl

DEFAULT_URL = "flo://127.0.0.1:9000/default"
DEFAULT_PORT = 9000
EXPECTED = "flo://[:secret@]host[:port][/namespace] is expected, or flos://… for TLS, and commas between the members of a cluster"
TLS_WORDS = ("ca", "cert", "key", "verify")


class Tls(NamedTuple):
    """What `flos://…?ca=FILE&cert=FILE&key=FILE&verify=off` says: who may vouch for the server (the system's authorities if empty), the
    client's own certificate, and whether the server's is checked."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True

    def context(self) -> "ssl.SSLContext":
        """Raises `BadRequest` if a file cannot be read."""
        import ssl  # takes 20 ms, and few need it

        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except (OSError, ValueError) as e:
            files = ", ".join(file for file in (self.ca, self.cert, self.key) if file)
            raise BadRequest(f"TLS cannot be set up from {files}: {e}; name PEM files in the URL") from None
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Address:
    """The parts of a URL."""

    def __init__(self, url: str) -> None:
        """Raises `BadRequest` for any other URL."""
        try:
            parts = urlsplit(url)
            places = [place_of(text) for text in parts.netloc.rpartition("@")[2].split(",")]
        except ValueError:
            raise BadRequest(f"{_without_secret(url)!r} is not the address of a server: its host or port is wrong; {EXPECTED}") from None
        path = parts.path.strip("/")
        secure = parts.scheme == "flos"
        if parts.scheme not in ("flo", "flos") or (parts.query and not secure) or parts.fragment or "/" in path:
            raise BadRequest(f"{_without_secret(url)!r} is not the address of a server; {EXPECTED}")
        self.places: list[tuple[str, int]] = places  # (host, port) of each server
        self.namespace: str = unquote(path) or "default"
        self.secret: str | None = unquote(parts.password) if parts.password else None
        self.tls: Tls | None = _tls(parts.query) if secure else None


def _tls(query: str) -> Tls:
    words = dict(parse_qsl(query, keep_blank_values=True))
    for word in words:
        if word not in TLS_WORDS:
            raise BadRequest(f"{word!r} is not known behind the ? of a URL; give {', '.join(TLS_WORDS)}")
    verify = words.pop("verify", "on")
    if verify not in ("on", "off"):
        raise BadRequest(f"verify is {verify!r}; it is on or off")
    return Tls(**words, verify=verify == "on")


def _without_secret(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url


def place_of(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`, as a server names another one. Raises `ValueError`."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.netloc != text:
        raise ValueError(text)
    return parts.hostname, DEFAULT_PORT if parts.port is None else parts.port
