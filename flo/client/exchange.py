"""The client's side of one connection, without the connection: requests to bytes, received bytes to responses.

Each request gets an id and is remembered with the caller's token until its response comes; responses come in any order. After any exception
of `receive` the connection is of no more use: it must be closed, and what is still in `waiting` gets no answer.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from flo.errors import Disconnected
from flo.limits import RESPONSE_BYTES_MAX
from flo.operations.call import Call
from flo.proto.binary import MAGIC, RESPONSE, RESPONSE_BYTES, Frame, FrameReader, Response, split_response

Token = TypeVar("Token")
RECEIVE_BYTES, LARGE_RECEIVE_BYTES = 64 << 10, 256 << 10  # at once: of a response that may be small, and of what is known to be more
_split = RESPONSE.unpack_from


class Exchange(Generic[Token]):
    """The requests of one connection that have no response yet, and the responses as they come."""

    __slots__ = ("_begun", "_compress", "_hash", "_next", "_reader", "_rest", "_where", "waiting")

    def __init__(self, where: str, namespace_hash: int, compress: bool) -> None:
        """`where` names the server in errors."""
        self.waiting: dict[int, Token] = {}  # by the request's id
        self._where = where
        self._hash = namespace_hash
        self._compress = compress
        self._next = 1
        self._reader = FrameReader(RESPONSE_BYTES, RESPONSE_BYTES_MAX)
        self._rest = b""  # the beginning of a header
        self._begun = False  # something was received

    def request(self, call: Call[Any], token: Token) -> bytes:
        """The bytes of a request. Raises `BadRequest`, and forgets it then."""
        req_id = self._next
        data = call.encode(req_id, self._hash, self._compress)
        self._next = req_id + 1
        self.waiting[req_id] = token
        return data

    def requests(self, many: Sequence[Call[Any]], tokens: Sequence[Token]) -> bytes:
        """The bytes of several requests. Raises `BadRequest`, and forgets all of them then."""
        first, space, compress = self._next, self._hash, self._compress
        data = b"".join([call.encode(req_id, space, compress) for req_id, call in enumerate(many, first)])
        self._next = first + len(many)
        self.waiting.update(zip(range(first, self._next), tokens, strict=True))
        return data

    def receive(self, data: bytes) -> list[tuple[Token, Response]]:
        """The responses that are complete with these bytes. Raises `FramingLost`, `Disconnected`."""
        if not self._begun:
            self._begun = True
            if data[:1] == b"-":
                raise _said_before(data)
        reader, found, at = self._reader, [], 0
        if self._rest:
            data, self._rest = self._rest + data, b""
        if not reader.idle:
            frame, at = reader.parse(data, 0)
            if frame is None:
                return []
            found.append(self._taken(frame))
        size, waiting = len(data), self.waiting
        while size - at >= RESPONSE_BYTES:
            magic, status, flags, req_id, length = _split(data, at)
            end = at + RESPONSE_BYTES + length
            if end > size or magic != MAGIC or flags or status > 7:
                frame, at = reader.parse(data, at)
                if frame is None:
                    break
                found.append(self._taken(frame))
                continue
            if req_id not in waiting:
                raise self._unknown(Response(status, req_id, data[at + RESPONSE_BYTES : end]))
            found.append((waiting.pop(req_id), Response(status, req_id, data[at + RESPONSE_BYTES : end])))
            at = end
        self._rest = data[at:]
        return found

    def lost(self, cause: str) -> Disconnected:
        """The error for a connection that was lost."""
        return Disconnected(f"the connection to {self._where} was lost: {cause}")

    def _taken(self, frame: Frame) -> tuple[Token, Response]:
        response = split_response(frame, RESPONSE_BYTES_MAX)
        if response.req_id not in self.waiting:
            raise self._unknown(response)
        return self.waiting.pop(response.req_id), response

    def _unknown(self, response: Response) -> Disconnected:
        """The error for a response that answers no request that waits."""
        if 0 < response.req_id < self._next:
            return Disconnected(f"{self._where} answered the same request twice")
        if response.status:  # the server says why it closes the connection
            return Disconnected(response.payload.decode("utf-8", "replace"))
        return Disconnected(f"{self._where} answered the request {response.req_id}, which was not sent")


def _said_before(data: bytes) -> Disconnected:
    """The error of a server that says why it cannot serve this client before it knows the protocol."""
    word, _, sentence = data[1:].split(b"\r\n")[0].decode("utf-8", "replace").partition(" ")
    return Disconnected(sentence if word.isupper() else f"{word} {sentence}")
