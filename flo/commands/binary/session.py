"""A binary connection's session: requests run in the order they came, and answers are sent as they are ready (flo.commands.runner).

A waiting request delays no other. A long request becomes a job, and the requests behind it wait.
"""

from types import GeneratorType
from typing import Any

from flo.commands.binary import decode
from flo.commands.binary.table import DECODED, SERVED, head
from flo.commands.host import EVERYTHING, Host, Peer, client_line
from flo.commands.runner import Call, Decoded, Job, Reply, Session
from flo.commands.secret import forbidden
from flo.errors import Refusal, Unauthorized
from flo.forward import Start
from flo.limits import REQUEST_BYTES_MAX, UNAUTHENTICATED_BYTES_MAX
from flo.operations import BY_CODE, BY_NAME
from flo.proto import binary
from flo.proto.binary import (
    ACCEPTS_COMPRESSED,
    COMPRESSED,
    REQUEST_BYTES,
    RESPONSE,
    RESPONSE_BYTES,
    Frame,
    FrameReader,
    FramingLost,
    Request,
    encode_refusal,
    encode_request,
    encode_response,
)

BEFORE_AUTHENTICATION = tuple(BY_NAME[name].code.to_bytes(2, "little") for name in ("ping", "auth"))
INPUT_FULL = "the unread input of all connections is at its limit; try again later"
SECRET = BY_NAME["auth"]
FRAME = "frame"  # the key of the frame in the options of a request that was refused as it came


class BinarySession(Session):
    """One binary connection."""

    protocol = "binary"
    in_order = False
    __slots__ = ("reader",)

    authenticated: bool
    reads_only: bool
    unfinished: bool
    length_known: bool

    def __init__(self, host: Host, peer: Peer) -> None:
        super().__init__(host, peer)
        self.reader: FrameReader = FrameReader(REQUEST_BYTES, REQUEST_BYTES_MAX if self.authenticated else UNAUTHENTICATED_BYTES_MAX)

    # -- decoding ----------------------------------------------------------------------------------

    def decode(self, data: bytes) -> Decoded:
        """See `Session`."""
        return decode.decode(data, _refuse, DECODED[self.host.serves])

    def parse(self, data: bytes, at: int) -> tuple[Call | None, int]:
        """See `Session`. Raises `FramingLost`."""
        frame, at = self.reader.parse(data, at)
        return None if frame is None else self._call(frame), at

    def body_room(self) -> memoryview | None:
        """See `Session`."""
        return self.reader.body_room()

    def body_received_call(self, count: int) -> Call | None:
        """See `Session`."""
        frame = self.reader.body_received(count)
        return None if frame is None else self._call(frame)

    def _call(self, frame: Frame) -> Call:
        """The call that executes the request in a frame."""
        try:
            if not self.authenticated and frame.header[4:6] not in BEFORE_AUTHENTICATION:
                raise Unauthorized("this server has a secret: give it with auth (0x03) first")
            request = binary.split_request(frame, BY_CODE)
            if self.reads_only and not request.operation.reads:
                raise forbidden(request.operation.name)
            if self.host.serves != EVERYTHING and not request.operation.plain:
                self.check_served(request.operation.reads)
            return BinarySession.attend, request
        except Refusal as e:
            req_id = int.from_bytes(frame.header[8:16], "little")
            return _refuse, Request(BY_NAME["ping"], 0, req_id, 0, b"", b"", {decode.REFUSAL: e.with_traceback(None), FRAME: frame})

    def note_unfinished(self) -> None:
        """See `Session`."""
        self.unfinished = self.length_known = not self.reader.idle
        self.held: int = self.reader.held

    def lose_framing(self, e: Exception) -> bool:
        """See `Session`."""
        if not isinstance(e, FramingLost):
            return False
        self.host.tallies.count_error("ERR")
        self.halted = True
        self.peer.out.append(encode_response(e.status, e.req_id, str(e).encode()))
        self.peer.close_after_replies()
        return True

    def set_authenticated(self, reads_only: bool) -> None:
        """Allow all operations, or those that only read: the client has given a secret."""
        self.authenticated, self.reads_only = True, reads_only
        self.note_settings()
        self.reader.limit = REQUEST_BYTES_MAX
        self.host.known(self.peer)

    # -- executing ---------------------------------------------------------------------------------

    def attend(self, request: Request) -> Reply:
        """Execute a request with any flags."""
        if request.flags & COMPRESSED:
            return self._inflated(request)
        reply: Reply = SERVED[head(request.operation.code)].answer(self, request)
        if type(reply) is bytes and request.flags:
            return self.encode(request, reply[RESPONSE_BYTES:])
        return reply

    def _inflated(self, request: Request) -> Job:
        operation = request.operation
        limit = binary.value_limit(operation) if self.authenticated else UNAUTHENTICATED_BYTES_MAX
        host = self.host
        while host.inflating:  # one at a time: together, values can inflate to far more memory than clients sent
            yield
        host.inflating = True
        try:
            value = yield from binary.inflate(request.value, limit)
        finally:
            host.inflating = False
        reply: Reply = SERVED[head(operation.code)].answer(self, request._replace(value=value))
        if isinstance(reply, bytes):
            return reply[RESPONSE_BYTES:]
        return (yield from reply) if isinstance(reply, GeneratorType) else reply

    def forward_start(self, request: Request, refusal: bytes) -> Start | None:
        """See `Session`."""
        frame: Frame | None = request[-1].get(FRAME)
        if frame is None:
            return None
        secret = self.host.secret
        greeting = encode_request(SECRET, 0, 0, b"", secret) if secret is not None else b""

        def answers(data: bytes) -> int | None:
            if len(data) < RESPONSE_BYTES:
                return None
            whole = RESPONSE_BYTES + int(RESPONSE.unpack_from(data)[4])
            return whole if len(data) >= whole else None

        return Start(greeting, answers, frame.header + bytes(frame.payload), refusal)

    def refusal(self, e: Refusal, request: Request) -> bytes:
        """See `Session`."""
        _, _, req_id, *_ = request
        return encode_refusal(e, req_id)

    def pieces(self, request: Request, reply: bytes) -> list[bytes]:
        """See `Session`."""
        return [self.encode(request, reply)]

    def encode(self, request: Request, payload: bytes) -> bytes:
        """The OK answer to a request."""
        _, flags, req_id, *_ = request
        return encode_response(binary.OK, req_id, payload, compress=bool(flags & ACCEPTS_COMPRESSED))

    # -- telling -----------------------------------------------------------------------------------

    def name_of(self, request: Request) -> str:
        """See `Session`."""
        return request[0].name

    def rejects(self, e: Refusal, request: Request) -> bool:
        """See `Session`."""
        *_, options = request
        return decode.REFUSAL in options

    def words_of(self, request: Request) -> list[bytes] | None:
        """See `Session`: the operation, its key and its value, without empty words at the end."""
        operation, _, _, _, key, value, options = request
        if operation is SECRET or decode.REFUSAL in options:
            return None
        words = [operation.name.encode(), key, value]
        while not words[-1]:
            words.pop()
        return words

    def describe(self) -> str:
        """See `Session`."""
        return client_line(self.peer, flags="N", held=self.held, command=self.last_command, protocol="flo")

    def overload(self) -> bytes:
        """See `Session`."""
        return encode_response(binary.OVERLOADED, 0, INPUT_FULL.encode())


def _refuse(session: Any, request: Request) -> Reply:
    """Answer a request that was refused while it was decoded."""
    *_, options = request
    refusal: Refusal = options[decode.REFUSAL]
    return refusal


BinarySession.generic = frozenset((BinarySession.attend, _refuse))
