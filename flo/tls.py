"""TLS on the port (SPEC section 8): the server's certificate, and the transport of an encrypted connection.

OpenSSL never sees the socket: it reads and writes memory (`ssl.MemoryBIO`), and the reactor's connection moves the bytes. This module is
imported only where a certificate is configured, because `ssl` takes 20 ms.
"""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

from flo.config import Settings
from flo.errors import ConfigError
from flo.transport import Encoding, PlainTransport

T = TypeVar("T")

RECEIVE_BYTES = 64 << 10  # of ciphertext at once: a few records, decrypted in 0.1 ms
PROTOCOLS = ["http/1.1"]  # of ALPN: a browser would ask for HTTP/2 else. Clients of the other protocols name none


def server_context(settings: Settings) -> ssl.SSLContext:
    """The server's side, from the files that the settings name. Raises `ConfigError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(PROTOCOLS)
    certificate, key = settings.tls_cert_file, settings.tls_key_file or settings.tls_cert_file
    _check_readable("tls.cert_file", certificate)
    _check_readable("tls.key_file", key)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except (ssl.SSLError, OSError) as e:
        raise ConfigError(f"the certificate {certificate} with the key {key} cannot be used: {_reason(e)}.") from None
    authority = settings.tls_client_ca_file
    if authority:
        _check_readable("tls.client_ca_file", authority)
        try:
            context.load_verify_locations(authority)
        except (ssl.SSLError, OSError) as e:
            raise ConfigError(f"tls.client_ca_file {authority} cannot be used: {_reason(e)}.") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _refuse_password() -> str:
    """Of an encrypted key: OpenSSL would ask the terminal for it."""
    raise ConfigError("the key of the certificate is encrypted, and nobody is there to ask for its password; write it unencrypted.")


def _check_readable(name: str, path: str) -> None:
    """OpenSSL's own errors do not say which file it is."""
    try:
        with open(path, "rb"):
            pass
    except OSError as e:
        raise ConfigError(f"{name} {path} cannot be read: {e.strerror}.") from None


def _reason(e: OSError) -> str:
    if isinstance(e, ssl.SSLError) and e.reason == "KEY_VALUES_MISMATCH":
        return "the key is not the certificate's"
    if isinstance(e, ssl.SSLError):
        return f"it is no PEM file of that kind ({e.reason or e.args[-1]})"
    return str(e.strerror)


class TlsTransport(Encoding):
    """One encrypted connection (flo.transport.Transport)."""

    # fmt: off
    __slots__ = (
        "_incoming", "_is_open", "_is_over", "_opened", "_outgoing", "_sock", "_tls", "descriptor", "readable",
    )
    # fmt: on

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, received: bytes, opened: Callable[[], None]) -> None:
        """`received` are the first bytes from the client. `opened()` is called once the handshake has ended well."""
        super().__init__()
        self._sock = sock
        self.descriptor: int = sock.fileno()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(received)
        self._opened = opened
        self._is_open = self._is_over = False
        self.readable: bool = True  # whether a call without an event may find something

    # -- receiving ---------------------------------------------------------------------------------

    def receive(self, size: int, /) -> bytes:
        """See `Transport`."""
        self._feed(size)
        pieces: list[bytes] = []
        while piece := self._decrypted(lambda: self._tls.read(size), b""):
            pieces.append(piece)
        if piece is None and not pieces:
            raise BlockingIOError
        if piece is not None and pieces:  # the input ends behind these
            self.end_input()
        return b"".join(pieces)

    def receive_into(self, room: memoryview, /) -> int:
        """See `Transport`."""
        if self._is_over:
            return self._sock.recv_into(room)
        if not self.readable:
            self._feed(RECEIVE_BYTES)
        self.readable, count = True, 0
        while count < len(room):
            left = room[count:]
            more = self._decrypted(lambda: cast(int, self._tls.read(len(left), left)), 0)  # noqa: B023  called at once
            if more is None:
                self.readable = False
                if not count:
                    raise BlockingIOError
                break
            if not more:
                break
            count += more
        return count

    def _feed(self, size: int) -> None:
        data = self._sock.recv(size)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _decrypted(self, read: Callable[[], T], end: T) -> T | None:
        """What `read()` gives; `end` at the end of the input, None where no whole record has come. Raises `OSError`."""
        try:
            if not self._is_open:
                self._tls.do_handshake()
                self._is_open = True
                opened, self._opened = self._opened, _nothing  # it knows the connection: a cycle
                opened()
            return read()
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return end
        finally:
            self._flush_answers()

    # -- sending -----------------------------------------------------------------------------------

    def _encode(self, data: memoryview) -> None:
        self._tls.write(data)

    def _encoded(self) -> bytes:
        return self._outgoing.read()

    def _send_below(self, data: memoryview) -> int:
        return self._sock.send(data)

    # -- the rest ----------------------------------------------------------------------------------

    def unacknowledged(self) -> int:
        """See `Transport`."""
        return PlainTransport(self._sock).unacknowledged()

    def end_input(self) -> None:
        """See `Transport`."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)

    def end_output(self) -> None:
        """See `Transport`."""
        self._is_over = True  # what the peer still sends is read, and not looked at
        with suppress(ssl.SSLError):  # its own farewell has not come
            self._tls.unwrap()
        self._flush()
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """See `Transport`."""
        self._opened = _nothing
        self._sock.close()


def _nothing() -> None:
    """Nobody is to be told."""
