"""The protocols of the port: from a connection's first bytes to its session.

A protocol is an entry of PROTOCOLS, the bytes it begins with (flo.proto.detect), and a session. A session that executes requests is a
`flo.commands.runner.Session`; a session that only sends a fixed answer is a `SilentSession`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flo.commands.host import Host, Peer
from flo.commands.progress import Progress
from flo.commands.resp.session import RespSession
from flo.limits import UNAUTHENTICATED_BYTES_MAX
from flo.proto.detect import Kind, detect, skip_blank
from flo.session import SilentSession

ID_END = 16  # the offset at which the id of a binary request ends

Proceed = Callable[[], Any]  # gives a connection its ordinary session and returns it; None while the log is being read


class Protocol(NamedTuple):
    """One protocol. `loading`, if given, makes the session of a connection that comes while the log is being read."""

    session: Callable[[Host, Peer], Any]
    loading: Callable[[Peer, Progress, bool, Proceed], Any] | None = None


def _resp_loading(peer: Peer, progress: Progress, authenticated: bool, proceed: Proceed) -> Any:
    from flo.commands.loading import RespLoading  # not at every start: most end before a client connects

    return RespLoading(peer, progress, authenticated, proceed)


def _binary(host: Host, peer: Peer) -> Any:
    from flo.commands.binary import load_handlers

    load_handlers()
    from flo.commands.binary.session import BinarySession

    return BinarySession(host, peer)


def _binary_loading(peer: Peer, progress: Progress, authenticated: bool, proceed: Proceed) -> Any:
    from flo.commands.loading import BinaryLoading

    return BinaryLoading(peer, progress, authenticated, proceed)


class OtherVersion(SilentSession):
    """A client of a later version of the binary protocol: the answer, under the request's id, names the version that is served."""

    def __init__(self, host: Host, peer: Peer) -> None:
        super().__init__(host.secret is None)
        self.peer = peer

    def feed(self, data: bytes, output_room: int) -> int:
        """Answer once the request's id has come."""
        from flo.proto.binary import REQUEST_BYTES, FrameReader, FramingLost, encode_response

        if len(data) < ID_END:
            return 0
        try:
            FrameReader(REQUEST_BYTES).parse(data.ljust(REQUEST_BYTES, b"\0"), 0)
        except FramingLost as e:
            self.peer.out.append(encode_response(e.status, e.req_id, str(e).encode()))
        self.peer.close_after_replies()
        return len(data)


def _http(host: Host, peer: Peer) -> Any:
    from flo.commands.http import load_pages

    load_pages()
    from flo.commands.http.session import HttpSession

    return HttpSession(host, peer)


RESP = Protocol(RespSession, _resp_loading)
BINARY = Protocol(_binary, _binary_loading)
PROTOCOLS: dict[Kind, Protocol] = {
    Kind.RESP: RESP,
    Kind.INLINE: RESP,
    Kind.BINARY: BINARY,
    Kind.BINARY_OTHER_VERSION: Protocol(OtherVersion),
    Kind.HTTP: Protocol(_http),
}


class FirstBytes(SilentSession):
    """The session of a connection whose protocol is not known yet. It hands over to the protocol's session, perhaps within TLS."""

    def __init__(self, host: Host, peer: Peer, encrypted: bool = False) -> None:
        """`encrypted`: the bytes come out of TLS already."""
        super().__init__(host.secret is None and (encrypted or not host.settings.tls_only))
        self._host = host
        self.peer: Peer = peer
        self._encrypted = encrypted

    def feed(self, data: bytes, output_room: int) -> int:
        """Detect the protocol from the first bytes. Until it is known, only blank lines are taken."""
        host, peer, blank = self._host, self.peer, skip_blank(data)
        kind = detect(data[blank:])
        if kind is None:
            if not self.authenticated and len(data) > UNAUTHENTICATED_BYTES_MAX:
                peer.kill()
            return blank
        if kind is Kind.TLS and host.tls is not None and not self._encrypted:
            self.authenticated = False  # the handshake is owed: it has the time that a secret has
            peer.encrypt(host.tls, data[blank:], self._opened)
            return len(data)
        protocol = PROTOCOLS.get(kind)
        if protocol is None or (host.settings.tls_only and not self._encrypted):
            host.counters.unknown_protocol += 1
            host.log("debug", f"closed a connection that begins with {kind.name}", peer=peer.address, first=data[:16].hex())
            peer.kill()
            return len(data)
        if self.authenticated:  # else the connection stays a newcomer until it has given the secret
            host.known(peer)
        if host.loading and protocol.loading is not None:
            peer.session = protocol.loading(peer, host.progress, self.authenticated, self._proceed)
        else:
            peer.session = protocol.session(host, peer)
        taken: int = peer.session.feed(data[blank:], output_room)
        return blank + taken

    def _proceed(self) -> "FirstBytes | None":
        if self._host.loading:
            return None
        anew = self.peer.session = FirstBytes(self._host, self.peer, self._encrypted)
        return anew

    def _opened(self) -> None:
        """The handshake has ended well: what is within TLS is told apart by its first bytes too."""
        self._encrypted = True
        self.authenticated: bool = self._host.secret is None
        if not self.authenticated:
            self.peer.owe_secret()
