"""A binary connection's session: requests in the order they came, answers as they are ready.

It is fed bytes and puts answers on its peer's `out`; the peer sends them after the tick's commit. A request that has to wait
becomes a `Waiter` and holds up nothing; one that is long becomes a job, and the requests behind it wait.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic
from types import GeneratorType
from typing import cast

from flo.commands.binary import pipeline
from flo.commands.binary.table import HANDLERS, Answer, Held, Reply, Slices
from flo.commands.host import Host, Peer, client_line
from flo.errors import Fatal, InternalError, LogFailed, NotFound, Overloaded, Refusal, Unauthorized, trace_of
from flo.operations import BY_CODE, BY_NAME
from flo.proto import binary
from flo.proto.binary import (
    ACCEPTS_COMPRESSED,
    COMPRESSED,
    PAYLOAD_BYTES_MAX,
    REQUEST_BYTES,
    UNAUTHENTICATED_BYTES_MAX,
    Frame,
    FrameReader,
    FramingLost,
    Request,
    encode_refusal,
    encode_response,
)
from flo.proto.row import Operation

BEFORE_AUTHENTICATION = tuple(BY_NAME[name].code.to_bytes(2, "little") for name in ("ping", "auth"))
DUE_SLICE = 500  # waits answered in one turn of a connection: 3 us each
INPUT_FULL = "the unread input of all connections is at its limit; try again later"


class Waiter:
    """A request that waits for something. It is answered once, or ended.

    What ends the wait only notes it (`ready`); the answer is made when its connection sends, as far as that has room: a thousand
    waits for one large value would otherwise be a thousand copies of it.
    """

    __slots__ = ("_answer", "_cancels", "_over", "_session", "request")

    request: Request  # the session sets it, when the handler has given it this waiter

    def __init__(self, session: "BinarySession", milliseconds: int, answer: Callable[[], bytes]) -> None:
        """Wait for `milliseconds`, 0 for as long as it takes. `answer()` gives the payload, or raises the refusal, when the wait is
        over. Raises `Overloaded`."""
        host = session.host
        if host.waiting >= host.settings.waiters:
            raise Overloaded(f"{host.waiting} requests wait already, which is limits.waiters; retry later")
        if len(session.waiters) >= host.settings.connection_waiters:
            raise Overloaded(
                f"{len(session.waiters)} requests of this connection wait already, which is limits.connection_waiters; open another"
            )
        self._session = session
        self._answer = answer
        self._cancels: list[Callable[[], None]] = []
        self._over = False
        host.waiting += 1
        session.waiters[self] = None
        if milliseconds:
            self.ends_with(host.call_later(milliseconds / 1000, self.ready).cancel)

    def ends_with(self, cancel: Callable[[], None]) -> None:
        """`cancel` takes back something that was asked for, when the wait ends. Harmless where that has come."""
        self._cancels.append(cancel)

    @property
    def over(self) -> bool:
        """Whether the wait has ended."""
        return self._over

    def ready(self) -> None:
        """What was waited for has come, or the time is up."""
        if not self._over:
            self.end()
            self._session.due.append(self)
            self._session.peer.wake()

    def reply(self) -> bytes | Refusal:
        """The answer."""
        answer, self._answer = self._answer, _no_answer  # it knows the session: a cycle
        try:
            return answer()
        except Refusal as e:
            return e

    def end(self) -> None:
        """Wait no more."""
        if self._over:
            return
        self._over = True
        self._session.waiters.pop(self, None)
        self._session.host.waiting -= 1
        cancels, self._cancels = self._cancels, []  # what is waited for knows this waiter: a cycle, and nothing collects those
        for cancel in cancels:
            cancel()


def _no_answer() -> bytes:
    """Of a waiter that has been answered."""
    raise InternalError("answered already")


class BinarySession:
    """One binary connection."""

    lane = staticmethod(pipeline.run_many)

    def __init__(self, host: Host, peer: Peer) -> None:
        self.host = host
        self.peer = peer
        self.authenticated = host.secret is None
        self.reader = FrameReader(REQUEST_BYTES, PAYLOAD_BYTES_MAX if self.authenticated else UNAUTHENTICATED_BYTES_MAX)
        self.flat = self.authenticated  # whether the flat path may be taken
        self.waiters: dict[Waiter, None] = {}
        self.due: deque[Waiter] = deque()  # to be answered
        self.last_operation = ""
        self.halted = False  # execution stops here for this turn
        self.yielded = False  # … because others wait; there is more to execute
        self.job: Slices | None = None
        self._job_request: Request | None = None
        self.blocked = None  # a wait holds up nothing here
        self.busy = False  # a job, or a held answer's timer, must end before the next request may start
        self.output_room = pipeline.OUTPUT_ROOM_BYTES
        self.executed = 0
        self.unfinished = False  # whether the reader keeps the start of a request
        self.length_known = False
        self.held = 0

    # -- fed by the connection ---------------------------------------------------------------------

    def yield_turn(self) -> None:
        """Stop executing: others wait."""
        self.halted = self.yielded = True

    def feed(self, data: bytes, output_room: int) -> int:
        """Execute the requests in `data`, as far as they are whole and may run; returns how much of it was taken."""
        self.halted = self.yielded = False
        if self.flat and not self.unfinished:
            return self.go_on(data, pipeline.run(self, data, 0, output_room))
        self.output_room = output_room
        return self.go_on(data, 0)

    def go_on(self, data: bytes, at: int) -> int:
        """The rest of `feed`, where the flat path has taken `data` up to `at`."""
        if at == len(data) or self.halted:
            return at
        return self._feed_carefully(data, at)

    def _feed_carefully(self, data: bytes, at: int) -> int:
        """The plain way, through the reader; the flat path is tried again behind each request."""
        size, reader = len(data), self.reader
        try:
            while not self.halted:
                frame, at = reader.parse(data, at)
                if frame is None:
                    break
                self.unfinished = False
                self._execute(frame)
                if not self.halted and self.flat:
                    at = pipeline.run(self, data, at, self.output_room)
                if at == size:
                    break
        except FramingLost as e:
            self._framing_lost(e)
            at = size
        self._note_unfinished()
        return at

    def _note_unfinished(self) -> None:
        self.unfinished = self.length_known = not self.reader.idle
        self.held = self.reader.held

    def _framing_lost(self, e: FramingLost) -> None:
        self.host.counters.errors += 1
        self.halted = True
        self.peer.out.append(encode_response(e.status, e.req_id, str(e).encode()))
        self.peer.close_after_replies()

    def body_room(self) -> memoryview | None:
        """Where to receive the bytes of a payload, if one is under way."""
        return self.reader.body_room()

    def body_received(self, count: int, output_room: int) -> None:
        """`count` bytes were received there; executes the request if they made it whole."""
        self.halted = self.yielded = False
        self.output_room = output_room
        frame = self.reader.body_received(count)
        if frame is not None:
            self._execute(frame)
        self._note_unfinished()

    def set_authenticated(self) -> None:
        """The secret was given."""
        self.authenticated = self.flat = True
        self.reader.limit = PAYLOAD_BYTES_MAX

    def overload(self) -> bytes:
        """The last answer of a connection whose unread input went past what all may hold."""
        return encode_response(binary.OVERLOADED, 0, INPUT_FULL.encode())

    def answer_due(self, output_room: int) -> None:
        """Answer what waited, as far as there is room and time for it."""
        due, out = self.due, self.peer.out
        for count in range(min(len(due), DUE_SLICE)):
            if output_room < 0 or (count and monotonic() > self.host.tick_deadline):
                return
            waiter = due.popleft()
            response = self.encode(waiter.request, waiter.reply())
            output_room -= len(response)
            out.append(response)

    def describe(self) -> str:
        """The line of CLIENT LIST."""
        return client_line(self.peer, flags="N", held=self.held, command=self.last_operation, protocol="flo")

    def end(self) -> None:
        """The connection is gone: its waits end with it."""
        self.flat = False
        job, self.job = self.job, None
        if job is not None and not getattr(job, "gi_running", False):
            job.close()
        for waiter in tuple(self.waiters):
            waiter.end()
        self.due.clear()

    # -- executing ---------------------------------------------------------------------------------

    def _execute(self, frame: Frame) -> None:
        """Run one request, from its bytes to its answer, its job or its waiter."""
        host, out = self.host, self.peer.out
        host.counters.commands += 1
        self.executed += 1
        try:
            if not self.authenticated and frame.header[4:6] not in BEFORE_AUTHENTICATION:
                raise Unauthorized("this server has a secret: give it with auth (0x03) first")
            request = binary.split_request(frame, BY_CODE)
        except Refusal as e:
            host.counters.errors += 1
            out.append(encode_refusal(e, int.from_bytes(frame.header[8:16], "little")))
        else:
            self._attempt(request, lambda: self._start(request))
        if out:
            self.output_room -= len(out[-1])
        if not self.halted and (self.output_room < 0 or monotonic() > host.tick_deadline):
            self.yield_turn()

    def _start(self, request: Request) -> Reply:
        self.last_operation = request.operation.name
        if request.flags & COMPRESSED:
            return self._inflated(request)
        return self._handle(request)

    def _handle(self, request: Request) -> Reply:
        operation, _, _, space, key, value, options = request
        engine = self.host.engine
        namespace = engine.by_hash[0] if operation.plain else engine.namespace_by_hash(space)
        return HANDLERS[operation.code](self, namespace, key, value, options)

    def _inflated(self, request: Request) -> Slices:
        operation = request.operation
        limit = binary.value_limit(operation) if self.authenticated else UNAUTHENTICATED_BYTES_MAX
        host = self.host
        while host.inflating:  # one at a time: together they would take what nobody sent
            yield
        host.inflating = True
        try:
            value = yield from binary.inflate(request.value, limit)
        finally:
            host.inflating = False
        reply = self._handle(request._replace(value=value))
        return (yield from reply) if isinstance(reply, GeneratorType) else cast(Answer, reply)

    def resume(self) -> bool:
        """Do one more slice of the job; returns whether it has ended, its answer then being out."""
        assert self.job is not None and self._job_request is not None
        return self._attempt(self._job_request, self._slice)

    def _slice(self) -> Reply:
        assert self.job is not None
        try:
            next(self.job)
        except StopIteration as end:
            return cast(Answer, end.value)
        return self.job

    def accept(self, reply: Reply, request: Request) -> None:
        """Begin the job of a request, or arrange for its answer to come."""
        self._attempt(request, lambda: reply)

    def refused(self, e: Refusal, req_id: int) -> bytes:
        """The answer to a request that was refused."""
        self.host.counters.errors += type(e) is not NotFound  # a miss is an answer
        return encode_refusal(e, req_id)

    def failed(self, e: Exception, operation: Operation, req_id: int, appended: int) -> bytes:
        """The answer to a request that met a defect, when the log's next index was `appended` before it. Raises where memory and log may no
        longer agree."""
        if isinstance(e, LogFailed):
            raise e
        host = self.host
        if host.engine.log.next_index != appended:
            raise Fatal(f"{operation.name} failed after it had appended to the log") from e
        host.counters.errors += 1
        host.log("error", "an operation failed; its request was answered with an error", traceback=trace_of(e))
        return encode_refusal(InternalError("internal error: the server's log has the details"), req_id)

    def _attempt(self, request: Request, step: Callable[[], Reply]) -> bool:
        """Take one step of a request; returns whether that was its last. What it raises becomes the answer, unless it had
        appended to the log: then memory and disk no longer agree, and the process must end."""
        appended = self.host.engine.log.next_index
        answer: Answer
        try:
            reply = step()
            if isinstance(reply, GeneratorType) and self.job is None:
                self.job, self._job_request = reply, request
                reply = self._slice()  # most need no second
            if isinstance(reply, GeneratorType):
                self.busy = self.halted = True
                return False
            answer = self.encode(request, reply) if isinstance(reply, bytes) else cast(Answer, reply)
            if isinstance(answer, NotFound):
                answer = self.refused(answer, request.req_id)
        except Refusal as e:
            answer = self.refused(e, request.req_id)
        except Exception as e:
            answer = self.failed(e, request.operation, request.req_id, appended)
        self.job = self._job_request = None
        self.busy = False
        if isinstance(answer, bytes):
            self.peer.out.append(answer)
        elif isinstance(answer, Waiter):
            answer.request = request
        elif isinstance(answer, Held):
            held = encode_refusal(answer.refusal, request.req_id)
            self.busy = self.halted = True
            self.peer.resume_after(answer.seconds, lambda: self._release(held))
        return True

    def _release(self, held: bytes) -> None:
        self.busy = False
        self.peer.out.append(held)

    def encode(self, request: Request, reply: bytes | Refusal) -> bytes:
        """The response to a request."""
        if isinstance(reply, Refusal):
            return encode_refusal(reply, request.req_id)
        return encode_response(binary.OK, request.req_id, reply, compress=bool(request.flags & ACCEPTS_COMPRESSED))
