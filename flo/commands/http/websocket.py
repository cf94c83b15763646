"""`/ws`: from an HTTP request to a WebSocket that carries the binary protocol (SPEC section 7, RFC 6455 section 4)."""

from base64 import b64decode
from binascii import Error as Base64Error
from time import monotonic
from typing import TYPE_CHECKING, Any

from flo.commands.binary.session import BinarySession
from flo.commands.host import Host, Peer, Timer
from flo.commands.http.answers import HttpRefusal
from flo.commands.http.routes import page
from flo.commands.http.session import Exchange, HttpSession
from flo.errors import BadRequest
from flo.limits import REQUEST_BYTES_MAX, UNAUTHENTICATED_BYTES_MAX
from flo.proto.binary import REQUEST_BYTES
from flo.proto.http import Request
from flo.proto.websocket import accept_key

if TYPE_CHECKING:
    from flo.websocket import WebSocketTransport

VERSION = b"13"
KEY_BYTES = 16
MESSAGE_BYTES_MAX = 2 * REQUEST_BYTES_MAX  # of several requests in one message; one alone may have REQUEST_BYTES_MAX
SILENT_SECONDS = 30.0  # until the server asks for a sign of life
ANSWER_SECONDS = 10.0  # until a client that gives none is closed


class WebSocketSession(BinarySession):
    """The binary protocol on a WebSocket."""

    protocol = "websocket"
    __slots__ = ("_timer", "_transport")

    def __init__(self, host: Host, peer: Peer, transport: "WebSocketTransport") -> None:
        super().__init__(host, peer)
        self._transport = transport
        self._timer: Timer | None = None
        self._ask_later(SILENT_SECONDS)

    def set_authenticated(self, reads_only: bool) -> None:
        """See `BinarySession`."""
        super().set_authenticated(reads_only)
        self._transport.set_limit(MESSAGE_BYTES_MAX)

    def end(self) -> None:
        """See `Session`."""
        super().end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask_later(self, seconds: float) -> None:
        self._timer = self.host.call_later(seconds, self._look)

    def _look(self) -> None:
        """Ping one that has been silent; close it if it was asked before."""
        silent = monotonic() - self._transport.heard_at
        if silent >= SILENT_SECONDS + ANSWER_SECONDS:
            self.peer.kill()
        elif silent >= SILENT_SECONDS:
            try:
                self._transport.ping()
            except OSError:
                self.peer.kill()
                return
            self._ask_later(ANSWER_SECONDS)
        else:
            self._ask_later(SILENT_SECONDS - silent)


@page("GET", "ws", open=True, answers=None)
def ws(session: HttpSession, exchange: Exchange) -> Any:
    """A WebSocket (RFC 6455) whose binary messages are requests and responses of the binary protocol. With a secret, `auth` comes first."""
    key = _checked(exchange.request)
    fields = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", accept_key(key)))
    response = session.respond(exchange, 101, fields, b"")
    host, peer = session.host, session.peer
    authenticated = host.secret is None
    limit = MESSAGE_BYTES_MAX if authenticated else UNAUTHENTICATED_BYTES_MAX + REQUEST_BYTES
    peer.session = WebSocketSession(host, peer, peer.frame(len(response), limit))
    if not authenticated:
        peer.owe_secret()
    session.halted = True
    return response


def _checked(request: Request) -> bytes:
    """The Sec-WebSocket-Key of an upgrade. Raises `HttpRefusal`, `BadRequest`."""
    headers = request.headers
    wanted = {word.strip().lower() for word in headers.get(b"upgrade", b"").split(b",")}
    options = {word.strip().lower() for word in headers.get(b"connection", b"").split(b",")}
    if b"websocket" not in wanted or b"upgrade" not in options or not request.version:
        needs = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
        raise HttpRefusal(426, "this path is for WebSockets: send Upgrade: websocket and Connection: Upgrade", fields=needs)
    if headers.get(b"sec-websocket-version") != VERSION:
        versions = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Version", VERSION))
        raise HttpRefusal(426, "the Sec-WebSocket-Version is not 13, the only one that is served", fields=versions)
    key = headers.get(b"sec-websocket-key", b"")
    try:
        right = len(b64decode(key, validate=True)) == KEY_BYTES
    except (Base64Error, ValueError):
        right = False
    if not right:
        raise BadRequest("the Sec-WebSocket-Key is no base64 of 16 bytes")
    return key
