"""A WebSocket server that answers each message with itself, built on flo/proto/websocket.py and nothing else of Flo.

A conformance suite needs it: Flo's own /ws takes no text, and no message that is not of the binary protocol.
"""

import re
import socket
import socketserver
import threading
from types import TracebackType

from flo.proto.websocket import CLOSE, PING, PONG, FrameReader, WebSocketError, accept_key, close_frame, close_of, frame_head

MESSAGE_BYTES_MAX = 32 << 20
RECEIVE_BYTES = 64 << 10
SECONDS = 60


class _Connection(socketserver.BaseRequestHandler):
    """One client, in its thread."""

    request: socket.socket

    def handle(self) -> None:
        """Serve it to its end."""
        sock = self.request
        sock.settimeout(SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = self._upgrade()
        reader = FrameReader(MESSAGE_BYTES_MAX)
        message = list[bytes]()
        try:
            while data:
                at = 0
                while True:
                    piece, at = reader.read(data, at)
                    if piece is None:
                        break
                    if piece.opcode == CLOSE:
                        self._end(close_frame(close_of(piece.data)[0]))
                        return
                    if piece.opcode == PING:
                        sock.sendall(frame_head(PONG, len(piece.data)) + piece.data)
                    elif piece.opcode != PONG:
                        message.append(piece.data)
                        if piece.last:
                            whole = b"".join(message)
                            message.clear()
                            sock.sendall(frame_head(piece.opcode, len(whole)) + whole)
                data = sock.recv(RECEIVE_BYTES)
        except WebSocketError as e:
            self._end(close_frame(e.code, str(e)))

    def _upgrade(self) -> bytes:
        """Answer the handshake (RFC 6455 section 4.2.2); returns what came behind it. It fails, as the connection does, without a key."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(RECEIVE_BYTES) or b"\r\n\r\n"
        key = re.search(rb"(?i)\r\nSec-WebSocket-Key: *(\S+)\r\n", head)
        if key is None:
            return b""
        fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept_key(key[1])
        self.request.sendall(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\n")
        return head.partition(b"\r\n\r\n")[2] or self.request.recv(RECEIVE_BYTES)

    def _end(self, farewell: bytes) -> None:
        """Send the close frame. What the client still sends is read, for a reset could overtake the frame (RFC 6455 section 7.1.1)."""
        self.request.sendall(farewell)
        self.request.shutdown(socket.SHUT_WR)
        while self.request.recv(RECEIVE_BYTES):
            pass


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    block_on_close = True
    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that resets its connection is no fault of the server's."""


class EchoServer:
    """The server on a port of the kernel's choice: a context manager."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> "EchoServer":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
