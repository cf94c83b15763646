"""A RESP2 client for two servers, the Redis that is read and the Flo that is written: pipelines, and replies of bounded memory.

An error reply is a value, `Failure`, since a pipeline has replies for many. `good` raises what one means: `Left` if it is about this key
alone, `Lost` if the same work may be tried again, on a new connection, and `Stopped` if the import has to end.
"""

import os
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from flo.errors import BadRequest, FloError
from flo.limits import REQUEST_BYTES_MAX, VALUE_BYTES_MAX

REPLY_BYTES_MAX = REQUEST_BYTES_MAX  # kept of one reply. The rest is read and dropped, and the reply is `TOO_MUCH`
RECEIVE_BYTES = 256 << 10
PIPELINE_MAX = 256  # requests sent before their replies are read: what a server must hold for this client stays small
RETRY_WORDS = ("LOADING", "BUSY", "OOM", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")  # first words of errors that pass by themselves
STOP_WORDS = ("NOAUTH", "WRONGPASS", "READONLY", "DENIED")
DEFAULT_PORT = 6379
EXPECTED = "redis://[[user]:password@]host[:port][/database] is expected, or rediss:// for TLS"


class Lost(FloError):
    """The connection failed, or the server cannot serve now. Trying again may help."""


class Stopped(FloError):
    """The server refuses this client. Trying again does not help."""


class Left(FloError):
    """This key, or this part of it, cannot be copied."""


class Failure(NamedTuple):
    """An error reply of the server with this name."""

    text: str
    server: str


class Oversized(NamedTuple):
    """A string that is larger than Flo takes; its bytes were dropped."""

    size: int


class TooMuch:
    """A reply that is larger than REPLY_BYTES_MAX in all; it was dropped. Asking for less at once may help."""


TOO_MUCH = TooMuch()
Request = Sequence[bytes | str | int]
Reply = Any  # bytes, int, None, Failure, Oversized, TooMuch, or a list of them


class Source:
    """The address of a Redis: the parts of its URL. The password may be in the environment instead, as REDISCLI_AUTH."""

    def __init__(self, url: str) -> None:
        """Raises `BadRequest` for a URL that is none, without showing it: it may hold a password."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise BadRequest(f"the address of the Redis is wrong; {EXPECTED}") from None
        path = parts.path.strip("/")
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query or parts.fragment:
            raise BadRequest(f"the address of the Redis is wrong; {EXPECTED}")
        if path and not (path.isascii() and path.isdigit()):
            raise BadRequest("the database in the address of the Redis is not a number, such as the 0 in redis://localhost:6379/0")
        self.tls: bool = parts.scheme == "rediss"
        self.host: str = parts.hostname
        self.port: int = DEFAULT_PORT if port is None else port
        self.database: int = int(path or 0)
        self.user: str = unquote(parts.username or "")
        self.password: str = unquote(parts.password or "") or os.environ.get("REDISCLI_AUTH", "")

    @property
    def name(self) -> str:
        """The address without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.database}"


def good(reply: Any) -> Any:
    """A reply that is an answer. Raises `Lost`, `Stopped` or `Left` for any other."""
    if isinstance(reply, TooMuch):
        raise Left(f"over {REPLY_BYTES_MAX >> 20} MiB in one piece")
    if not isinstance(reply, Failure):
        return reply
    word = reply.text.partition(" ")[0]
    if word in RETRY_WORDS:
        raise Lost(f"{reply.server} cannot serve now: {reply.text}")
    if word in STOP_WORDS:
        raise Stopped(f"{reply.server} refuses this client: {reply.text}")
    raise Left(reply.text)


def all_good(replies: list[Any]) -> list[Any]:
    """Replies that are all answers. Raises as `good` does."""
    return [good(reply) for reply in replies]


class Wire:
    """A connection to one server, made by `open`."""

    def __init__(self, name: str, host: str, port: int, timeout: float, tls: bool = False) -> None:
        """`name` is the server's in messages; `timeout` in seconds is for connecting and for each wait."""
        self.name = name
        self._address = host, port
        self._timeout = timeout
        self._tls = tls
        self._sock: socket.socket | None = None
        self._file: BinaryIO | None = None
        self._room = 0  # bytes that the reply under way may still keep

    def open(self) -> None:
        """Connect anew. Raises `Lost`, or `Stopped` for a certificate that is not trusted."""
        self.close()
        host, port = self._address
        try:
            sock = socket.create_connection(self._address, self._timeout)
        except (OSError, UnicodeError) as e:
            raise Lost(f"cannot connect to {self.name} at {host} port {port}: {e}") from None
        self._sock = sock
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                self._sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        except ssl.SSLError as e:
            self.close()
            remedy = "SSL_CERT_FILE may name the file of the authority that signed its certificate"
            raise Stopped(f"{self.name} at {host} port {port} does not prove who it is over TLS: {e}; {remedy}") from None
        except OSError as e:
            self.close()
            raise Lost(f"cannot connect to {self.name} at {host} port {port}: {e}") from None
        self._file = cast(BinaryIO, self._sock.makefile("rb", RECEIVE_BYTES))

    def close(self) -> None:
        """Close the connection."""
        for held in (self._file, self._sock):
            if held is not None:
                with suppress(OSError):
                    held.close()
        self._file = self._sock = None

    def ask(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests, and return their replies. Raises `Lost`."""
        replies: list[Reply] = []
        try:
            for at in range(0, len(requests), PIPELINE_MAX):
                some = requests[at : at + PIPELINE_MAX]
                if self._sock is None:
                    raise ConnectionError("the connection is closed")
                self._sock.sendall(b"".join(map(encode, some)))
                for _ in some:
                    self._room = REPLY_BYTES_MAX
                    reply = self._read()
                    replies.append(TOO_MUCH if self._room < 0 else reply)
        except (OSError, ValueError) as e:
            self.close()
            raise Lost(f"the connection to {self.name} was lost: {e}") from None
        return replies

    def need(self, command: str, *args: bytes | str | int) -> Any:
        """The reply to one request that a server must take. Raises `Stopped` if it is refused, `Lost`."""
        (reply,) = self.ask([(command, *args)])
        try:
            return good(reply)
        except Left as e:
            raise Stopped(f"{self.name} refuses {command}: {e}") from None

    def _read(self) -> Reply:
        """One reply. Raises `OSError`, and `ValueError` for bytes that are none."""
        assert self._file is not None
        line = self._file.readline(64 << 10)
        if not line.endswith(b"\r\n"):
            raise ConnectionError("it was closed by the other side")
        mark, rest = line[:1], line[1:-2]
        if mark == b"$":
            return self._read_bulk(int(rest))
        if mark == b":":
            return int(rest)
        if mark == b"+":
            return rest
        if mark == b"-":
            return Failure(rest.decode("utf-8", "replace"), self.name)
        if mark != b"*":
            raise ValueError("the answer is not RESP")
        return None if rest == b"-1" else [self._read() for _ in range(int(rest))]

    def _read_bulk(self, size: int) -> bytes | Oversized | None:
        assert self._file is not None
        if size < 0:
            return None
        if size > VALUE_BYTES_MAX:
            self._drop(size + 2)
            return Oversized(size)
        self._room -= size
        if self._room < 0:
            self._drop(size + 2)
            return b""
        data = self._file.read(size + 2)
        if len(data) < size + 2:
            raise ConnectionError("it was closed by the other side")
        return data[:-2]

    def _drop(self, size: int) -> None:
        assert self._file is not None
        while size:
            dropped = len(self._file.read(min(size, RECEIVE_BYTES)))
            if not dropped:
                raise ConnectionError("it was closed by the other side")
            size -= dropped


def encode(request: Request) -> bytes:
    """A request's bytes."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in request]
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
