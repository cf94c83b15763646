"""The session of a connection that comes while the log is being read. It refuses every request, in the client's protocol, and tells how
much of the log is read.

There is no engine yet, so this module may not use one. Once the log is read, the connection's next request gets the protocol's ordinary
session. Redis's clients know `-LOADING` and the fields of INFO (ioredis waits until they say that loading is over).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from flo.commands.host import Peer
from flo.commands.progress import Progress
from flo.limits import REQUEST_BYTES_MAX, UNAUTHENTICATED_BYTES_MAX
from flo.proto import binary, resp
from flo.proto.binary import REQUEST_BYTES, FrameReader, FramingLost, encode_response
from flo.proto.resp import ProtocolError, RequestParser
from flo.session import SilentSession


class _LoadingSession(SilentSession, ABC):
    """The part that both protocols share."""

    executed: int

    def __init__(self, peer: Peer, progress: Progress, authenticated: bool, proceed: Callable[[], Any]) -> None:
        """`proceed` gives the connection its ordinary session and returns it; None while the log is still being read."""
        super().__init__(authenticated)
        self.peer = peer
        self.progress = progress
        self._proceed = proceed
        self.closing: bool = False

    def _close(self) -> None:
        self.closing = True
        self.peer.close_after_replies()

    def feed(self, data: bytes, output_room: int) -> int:
        """Answer the whole requests in `data`; returns how many bytes were taken."""
        at = 0
        while at < len(data) and output_room >= 0 and not self.closing:
            if not self.unfinished:
                session = self._proceed()
                if session is not None:
                    taken: int = session.feed(data[at:] if at else data, output_room)
                    return at + taken
            answer, at = self._answer(data, at)
            if answer is None:
                break
            self.executed += 1
            output_room -= len(answer)
            self.peer.out.append(answer)
            self._note_unfinished()
        self.yielded: bool = output_room < 0
        self._note_unfinished()
        return len(data) if self.closing else at

    @abstractmethod
    def _answer(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """(the answer to the request that begins or goes on at `at`, the offset up to which `data` was taken). The answer is None if the
        request is not whole yet."""

    @abstractmethod
    def _note_unfinished(self) -> None:
        """Set `unfinished`, `length_known` and `held` by the request that is not whole yet."""


class RespLoading(_LoadingSession):
    """RESP: `-LOADING`, except for INFO and QUIT."""

    def __init__(self, peer: Peer, progress: Progress, authenticated: bool, proceed: Callable[[], Any]) -> None:
        super().__init__(peer, progress, authenticated, proceed)
        self._parser = RequestParser(authenticated)

    def _answer(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        try:
            args, at = self._parser.parse(data, at)
        except ProtocolError as e:
            return self._protocol_error(e), len(data)
        return (None if args is None else self._reply(args)), at

    def _protocol_error(self, e: ProtocolError) -> bytes:
        self._close()
        return resp.error(f"ERR Protocol error: {e}")

    def _reply(self, args: list[bytes]) -> bytes:
        name = args[0].upper()
        if name == b"QUIT":
            self._close()
            return resp.OK
        if name == b"INFO" and self.authenticated:
            return resp.bulk(self.progress.info())
        return resp.error(f"LOADING {self.progress.sentence()}")

    def _note_unfinished(self) -> None:
        parser = self._parser
        self.unfinished: bool = not parser.idle
        self.length_known: bool = parser.length_known
        self.held: int = parser.held

    def body_room(self) -> memoryview | None:
        """Where to receive the bytes of a large argument."""
        return self._parser.body_room()

    def body_received(self, count: int, output_room: int) -> None:
        """Answer the request if the `count` bytes received in `body_room()` complete it."""
        try:
            args = self._parser.body_received(count)
            if args is not None:
                self.peer.out.append(self._reply(args))
        except ProtocolError as e:
            self.peer.out.append(self._protocol_error(e))
        self._note_unfinished()


class BinaryLoading(_LoadingSession):
    """The binary protocol: OVERLOADED, which clients retry."""

    def __init__(self, peer: Peer, progress: Progress, authenticated: bool, proceed: Callable[[], Any]) -> None:
        super().__init__(peer, progress, authenticated, proceed)
        self._reader = FrameReader(REQUEST_BYTES, REQUEST_BYTES_MAX if authenticated else UNAUTHENTICATED_BYTES_MAX)

    def _answer(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        try:
            frame, at = self._reader.parse(data, at)
        except FramingLost as e:
            self._close()
            return encode_response(e.status, e.req_id, str(e).encode()), len(data)
        return (None if frame is None else self._reply(frame.header)), at

    def _reply(self, header: bytes) -> bytes:
        return encode_response(binary.OVERLOADED, int.from_bytes(header[8:16], "little"), self.progress.sentence().encode())

    def _note_unfinished(self) -> None:
        self.unfinished: bool = not self._reader.idle
        self.length_known: bool = self.unfinished
        self.held: int = self._reader.held

    def body_room(self) -> memoryview | None:
        """Where to receive the bytes of a payload."""
        return self._reader.body_room()

    def body_received(self, count: int, output_room: int) -> None:
        """Answer the request if the `count` bytes received in `body_room()` complete it."""
        frame = self._reader.body_received(count)
        if frame is not None:
            self.peer.out.append(self._reply(frame.header))
        self._note_unfinished()
