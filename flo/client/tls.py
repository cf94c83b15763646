"""TLS between a connection's bytes and its socket: bytes in, bytes out."""

import ssl

HANDSHAKE_BYTES = 16 << 10


class Tls:
    """One connection's TLS. `hello` gives the first bytes to send, `shake` takes what comes until it says that the handshake is done."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def hello(self) -> bytes:
        """The first bytes to send."""
        self.shake(b"")
        return self._outgoing.read()

    def shake(self, data: bytes) -> bool:
        """Take received bytes of the handshake; whether it is done. `pending` has bytes to send either way. Raises `ssl.SSLError`."""
        self._incoming.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def pending(self) -> bytes:
        """Bytes that are to be sent: of the handshake, or an answer to what was received."""
        return self._outgoing.read()

    def seal(self, data: bytes) -> bytes:
        """What to send for `data`."""
        self._object.write(data)
        return self._outgoing.read()

    def open(self, data: bytes) -> bytes:
        """What was received with `data`; nothing while a record is not complete. Raises `ssl.SSLError`."""
        self._incoming.write(data)
        parts = []
        try:
            while part := self._object.read(1 << 20):
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        return b"".join(parts)
