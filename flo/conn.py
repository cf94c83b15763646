"""A connection: its state machine, its buffers, its back-pressure. It moves bytes; its session (flo.session) knows what they mean.

States (`_CAUSES` below is this table as code; a move outside it is a defect):

    IDLE        nothing of a request has come
    HEADER      a request has begun, the length of what follows is not known yet     at most header_timeout
    BODY        the length is known, bytes are missing                               stall_timeout since the last byte
    PROCESSING  input is parsed and executed; a job, a wait or a held reply is here
    WRITING     replies wait for the turn's commit
    ENDING      the client sends nothing more; what it sent is executed and answered
    CLOSING     nothing more is read or executed; what is owed is sent               stall_timeout since the last byte sent
    LINGERING   everything is sent; the peer may close first                         LINGER_SECONDS
    CLOSED      the socket is gone

Up to WRITING, input is read. What else a connection has is data (input, unsent output, replies that wait for the log) or its place in
a list of the reactor's or the server's: `touched`, `runnable`, `timed`.

Output drains beside this machine: what the kernel does not take stays in `_unsent`, and the connection goes on reading. Past
`output_limit` of it, requests are no longer executed; their bytes are kept, up to `input_limit`; past that they are not read. Clients
that send everything before they read anything need this, and clients that never read are bounded by it.

Small input is received into one buffer shared by all connections. A large argument is received where it will stay.
"""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from flo.loop import GONE, READ, WRITE, Reactor, Timer
from flo.session import Session, SilentSession
from flo.transport import PlainTransport, Transport
from flo.unsent import SEND_BYTES, Unsent

if TYPE_CHECKING:
    from ssl import SSLContext

    from flo.websocket import WebSocketTransport

IDLE, HEADER, BODY, PROCESSING, WRITING, ENDING, CLOSING, LINGERING, CLOSED = range(9)
STATE_NAMES = ("IDLE", "HEADER", "BODY", "PROCESSING", "WRITING", "ENDING", "CLOSING", "LINGERING", "CLOSED")
INPUT, NEED_HEADER, NEED_BODY, ANSWERED, QUIET, SENT, INPUT_ENDED, END, ALL_SENT, GONE_AWAY = range(10)

_CAUSES: dict[int, dict[int, tuple[int, str]]] = {
    IDLE: {INPUT: (PROCESSING, "bytes came")},
    HEADER: {INPUT: (PROCESSING, "more bytes came")},
    BODY: {INPUT: (PROCESSING, "more bytes came")},
    PROCESSING: {
        INPUT: (PROCESSING, "a job ended and there is more input"),
        ANSWERED: (WRITING, "requests were executed; their replies wait for the commit"),
        NEED_HEADER: (HEADER, "input ends inside a header"),
        NEED_BODY: (BODY, "input ends inside a body"),
        QUIET: (IDLE, "input was used up and asked for no reply"),
    },
    WRITING: {
        INPUT: (PROCESSING, "more input in the same turn"),
        SENT: (IDLE, "the replies were handed to the kernel, or to what drains beside this machine"),
        NEED_HEADER: (HEADER, "sent, and the next request has begun"),
        NEED_BODY: (BODY, "sent, and the next request's body is under way"),
    },
    ENDING: {INPUT: (ENDING, "input that was kept is executed")},
    CLOSING: {ALL_SENT: (LINGERING, "everything owed is sent")},
    LINGERING: {},
    CLOSED: {},
}
for _state in range(ENDING):
    _CAUSES[_state][INPUT_ENDED] = (ENDING, "the client has closed its side")
for _state in range(CLOSING):
    _CAUSES[_state][END] = (CLOSING, "a protocol error, a limit, QUIT, or an order to close")
for _state in range(CLOSED):
    _CAUSES[_state][GONE_AWAY] = (CLOSED, "the peer is gone, its time is up, or everything owed is sent")

ILLEGAL = -1
NEXT = tuple(tuple(_CAUSES[state][event][0] if event in _CAUSES[state] else ILLEGAL for event in range(10)) for state in range(9))
# The moves of the common case, taken without a call
FED = NEXT[IDLE][INPUT]
REPLIED = NEXT[FED][ANSWERED]
RESTED = NEXT[REPLIED][SENT]

RECEIVE_BYTES = 64 << 10  # one turn's input of one connection: 2,300 SETs, about 2 ms
ANEW = -1  # in the place of a count of executed requests: the unfinished request began in what was just received
TOGETHER = 64  # connections served in one loop
RESUME_BYTES = 128 << 10  # of kept input executed in a turn: more than any inline command, so that it always gets on
LINGER_SECONDS = 2.0  # what a peer gets to read our last words and close
PUSH_BACKLOG_BYTES_MAX = 32 << 20  # of messages of channels, or of what MONITOR shows, to a client that does not read them


class Owner(Protocol):
    """The server, as its connections see it."""

    reactor: Reactor
    receive_view: memoryview  # shared; RECEIVE_BYTES, less while keys may still be on disk
    output_limit: int
    input_limit: int
    header_seconds: float
    stall_seconds: float
    bytes_in: int
    bytes_out: int
    push_limit_disconnections: int
    timed: set["Connection"]  # those whose `check_time` is called every second, until it answers False

    def hold_input(self, change: int) -> bool:
        """`change` bytes of input are held more; False where all connections together may not hold them."""

    def time_out_later(self, connection: "Connection") -> None:
        """Add it to `timed`."""

    def forget(self, connection: "Connection") -> None:
        """It is closed."""


class Connection:
    """One client. Its session is set by the server, and may be replaced when the protocol is known."""

    # fmt: off
    __slots__ = (
        "_awaiting", "_events", "_executed", "_held", "_input", "_last_input", "_owed_since", "_owner", "_pushed", "_receive_bytes",
        "_send", "_sent_at", "_since", "_started", "_timers", "_transport", "_unacknowledged", "_unsent", "address", "id", "local_address",
        "out", "session", "state",
    )
    # fmt: on

    def __init__(self, owner: Owner, transport: Transport, identity: int, address: str, local_address: str) -> None:
        self.id: int = identity
        self.address: str = address
        self.local_address: str = local_address
        self.state: int = IDLE
        self.out: list[bytes] = []  # this turn's replies
        self.session: Session
        self._owner = owner
        self._transport = transport
        self._receive_bytes = transport.receive
        self._send = transport.send
        self._input = bytearray()  # received and not executed
        self._held = 0  # bytes of input that the owner has counted
        self._awaiting: list[tuple[int, list[bytes]]] = []  # replies that wait for the log, by its index; nothing is read meanwhile
        self._unsent = Unsent()
        self._unacknowledged = 0  # bytes the peer had not taken from the network, when last looked
        self._pushed = 0  # bytes in `out` that answer no request
        self._events = READ  # what the poller waits for
        self._executed = 0  # what session.executed was when the unfinished request began
        self._timers: list[Timer] = []
        # monotonic seconds; `_since` is when the state's time began, `_owed_since` when the secret was asked for
        self._started = self._since = self._sent_at = self._owed_since = self._last_input = monotonic()
        owner.reactor.register(transport.descriptor, READ, self.on_events)

    def _move(self, event: int) -> None:
        state = NEXT[self.state][event]
        assert state != ILLEGAL, f"connection {self.id}: event {event} in state {STATE_NAMES[self.state]}"
        self.state = state

    def begin(self, session: Session) -> None:
        """Serve with `session`, which may only be a first one that finds out the protocol."""
        self.session = session
        if not session.authenticated:
            self._time()

    def encrypt(self, context: "SSLContext", received: bytes, opened: Callable[[], None]) -> None:
        """Speak TLS from here on; `received` are its first bytes. `opened()` is called once the handshake has ended well."""
        from flo.tls import TlsTransport  # not at every start: `ssl` takes 20 ms

        plain = self._transport
        assert isinstance(plain, PlainTransport), "there is no TLS within another transport"
        self._transport = TlsTransport(plain.sock, context, received, opened)
        self._receive_bytes, self._send = self._transport.receive, self._transport.send
        self.owe_secret()  # and until then the client owes the handshake

    def frame(self, answer: int, limit: int) -> "WebSocketTransport":
        """Speak WebSocket behind the next `answer` bytes of output; `limit` bounds a message. Returns the transport."""
        owed = self.owed_bytes + sum(len(reply) for _, replies in self._awaiting for reply in replies)
        from flo.websocket import WebSocketTransport  # not at every start: few servers have a browser

        transport = self._transport = WebSocketTransport(self._transport, owed + answer, limit)
        self._receive_bytes, self._send = transport.receive, transport.send
        return transport

    def owe_secret(self) -> None:
        """The secret is owed from now on, and must come within header_timeout."""
        self._owed_since = monotonic()
        self._time()

    # -- what commands ask -------------------------------------------------------------------------

    @property
    def age_seconds(self) -> float:
        """Since it was accepted."""
        return monotonic() - self._started

    @property
    def idle_seconds(self) -> float:
        """Since it last sent something, to the second."""
        return monotonic() - self._last_input

    @property
    def descriptor(self) -> int:
        """The socket's file descriptor."""
        return self._transport.descriptor

    @property
    def input_bytes(self) -> int:
        """Received and not executed."""
        return len(self._input)

    @property
    def output_bytes(self) -> int:
        """Answered and not taken by the kernel."""
        return self._unsent.bytes

    @property
    def owed_bytes(self) -> int:
        """Answered and not sent, this turn's replies included."""
        return self._unsent.bytes + sum(map(len, self.out))

    def push(self, data: bytes) -> None:
        """Send something that answers no request. A client that does not read what it asked to be sent is dropped, and counted."""
        if self.state >= CLOSING:
            return
        if self._unsent.bytes + self._pushed > PUSH_BACKLOG_BYTES_MAX:
            self._owner.push_limit_disconnections += 1
            self.out.clear()
            self._unsent.clear()
            self.close_after_replies()
            self._owner.reactor.call_later(0, self.kill)  # not now, this may be in the midst of its own `feed`; nothing more is said to it
            return
        self.out.append(data)
        self._pushed += len(data)
        self._touch()

    def wake(self) -> None:
        """What the session waited for has come: send its reply, go on with the input."""
        if self.state != CLOSED:
            if not self.session.due:  # else the reply is made when it is sent, and this may be in the midst of the session's own `feed`
                self._executed_some()
            self._touch()
            self._queue()

    def resume_after(self, seconds: float, resume: Callable[[], None]) -> None:
        """Call `resume` after that time, and go on with the input; not if the connection closes first."""

        def fire() -> None:
            self._timers.remove(timer)
            resume()
            self._executed_some()
            self._queue()

        timer = self._owner.reactor.call_later(seconds, fire)
        self._timers.append(timer)

    # -- input -------------------------------------------------------------------------------------

    def on_events(self, events: int) -> None:
        """The socket is ready."""
        touched = self._owner.reactor.touched
        if touched and self in touched:
            touched[self] = False  # ready again in the same turn: there is more to do than to send these replies
        if events == READ and self._events & READ:
            self._receive()
            return
        if events & WRITE:
            self._drain()
        if events & READ:
            if self._events & READ and self.state != CLOSED:
                self._receive()
        elif events & GONE and self.state != CLOSED:
            self.kill()

    def _receive(self) -> None:
        owner, session = self._owner, self.session
        if self.state == LINGERING:
            self._receive_nothing()
            return
        if self.state == BODY and not self._input and not self._paused:  # else these bytes come behind the kept ones
            room = session.body_room()
            if room is not None:
                self._receive_body(room)
                return
        view = owner.receive_view
        try:
            count = self._transport.receive_into(view)
        except BlockingIOError:
            return
        except OSError:
            self.kill()
            return
        if not count:
            self._end_of_input()
            return
        owner.bytes_in += count
        self._last_input = owner.reactor.deadline
        if self._input or self._paused or session.busy or self in owner.reactor.runnable:
            self._input += view[:count]
            self._execute_kept()
            return
        data = bytes(view[:count])
        if not session.unfinished:
            self._executed = ANEW
        self._move(INPUT)
        self._fed(data, session.feed(data, self._output_room()))

    def _fed(self, data: bytes, taken: int) -> None:
        """So much of `data` was executed: keep the rest."""
        if taken < len(data) and self.state == PROCESSING:
            self._input += data[taken:] if taken else data
        self._executed_some()

    def _receive_nothing(self) -> None:
        try:
            if self._transport.receive_into(self._owner.receive_view):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.kill()

    def _receive_body(self, room: memoryview) -> None:
        owner = self._owner
        try:
            count = self._transport.receive_into(room)
        except BlockingIOError:
            return
        except OSError:
            self.kill()
            return
        finally:
            room.release()
        if not count:
            self._end_of_input()
            return
        owner.bytes_in += count
        self._last_input = self._since = owner.reactor.deadline
        self._move(INPUT)
        self.session.body_received(count, self._output_room())
        self._executed_some()

    def _end_of_input(self) -> None:
        self._move(INPUT_ENDED)
        self._wait_for(self._events & ~READ)
        if self.session.end_of_input():
            return
        reactor = self._owner.reactor
        owes = self._unsent.bytes or self._awaiting or self.session.busy or self in reactor.touched or self in reactor.runnable
        if self.session.blocked or not owes:
            self.kill()

    def run_turn(self) -> None:
        """From the run list: a slice of the job, the kept input, or what the transport has received."""
        if self.state == CLOSED:
            return
        session = self.session
        if session.job is not None:
            if not session.resume():
                self._queue()
                return
            self._executed_some()
        self._execute_kept()
        if self._transport.readable and self._events & READ and self.state <= WRITING:
            self._receive()
        if self.state != CLOSED and session.due:
            self._touch()
        if self.state == ENDING and self not in self._owner.reactor.touched:
            self._close_if_done()

    def _execute_kept(self) -> None:
        if self._input and not self._paused and not self.session.busy and self.state < CLOSING:
            whole = len(self._input) <= RESUME_BYTES
            data = bytes(self._input) if whole else bytes(memoryview(self._input)[:RESUME_BYTES])
            self._move(INPUT)
            taken = self.session.feed(data, self._output_room())
            del self._input[:taken]
            if not whole and not self.session.yielded:
                self._queue()
        self._executed_some()

    @property
    def _paused(self) -> bool:
        """Whether so much output is unsent that nothing more is executed."""
        return self._unsent.bytes > self._owner.output_limit

    def _output_room(self) -> int:
        return self._owner.output_limit - self._unsent.bytes

    def _executed_some(self) -> None:
        """After executing: note what is owed and held, and move on."""
        if self.state == CLOSED:
            return
        session = self.session
        if self.out:
            self._touch()
            if self.state == PROCESSING:
                self._move(ANSWERED)
        elif self.state == PROCESSING and not session.busy:
            self._rest()
        if session.yielded or session.job is not None or self._transport.readable:
            session.yielded = False
            self._queue()
        if self._input or session.held or self._held:
            self._account()

    def _account(self) -> None:
        """Count the unread input, and read on or not by it."""
        held = len(self._input) + self.session.held
        if held != self._held:
            change, self._held = held - self._held, held
            if not self._owner.hold_input(change) and change > 0:
                self._refuse_input()
                return
            full = len(self._input) >= self._owner.input_limit
            if full and self._events & READ:
                self._wait_for(self._events & ~READ)
            elif not full:
                self._read_on()

    def _read_on(self) -> None:
        """Wait for input again, unless something is in the way."""
        if not self._events & READ and not self._awaiting and self.state <= WRITING:
            self._wait_for(self._events | READ)

    def _rest(self) -> None:
        """Everything whole is executed and answered: wait for the rest of a request, or for the next."""
        if self._input or self.session.unfinished:
            session = self.session
            if session.length_known:
                self._move(NEED_BODY)
                self._since = self._last_input
            else:
                self._move(NEED_HEADER)
                if session.executed != self._executed or self not in self._owner.timed:
                    self._since = self._last_input  # a header's time runs from its first byte, however many follow
            self._executed = session.executed
            self._time()
        elif self.state == WRITING:
            self._move(SENT)
        else:
            self._move(QUIET)

    def _queue(self) -> None:
        self._owner.reactor.runnable[self] = None

    def _refuse_input(self) -> None:
        """All connections together hold too much unread input: this one went past it."""
        self._input.clear()
        self.out.append(self.session.overload())
        self.close_after_replies()

    # -- output ------------------------------------------------------------------------------------

    def _touch(self) -> None:
        self._owner.reactor.touched[self] = False

    def flush(self) -> None:
        """The turn is committed: send its replies."""
        if self.state == CLOSED:
            return
        self._pushed = 0
        if self.session.due:
            self._answer_due()
        self._send_replies(self.out)

    def hold(self, index: int) -> None:
        """The turn is not committed yet: its replies wait until the log has committed `index`."""
        if self.state == CLOSED:
            return
        self._pushed = 0
        if self.session.due:
            self._answer_due()
        self._awaiting.append((index, self.out))
        self.out = []
        self._wait_for(self._events & ~READ)

    def release(self, committed: int) -> None:
        """The log has committed so much: send the replies that waited for it."""
        awaiting, replies = self._awaiting, []
        while awaiting and awaiting[0][0] <= committed:
            replies += awaiting.pop(0)[1]
        if self.state == CLOSED or not replies:
            return
        self._send_replies(replies)
        if len(self._input) < self._owner.input_limit:
            self._read_on()

    def _send_replies(self, replies: list[bytes]) -> None:
        """Send replies, as far as the kernel takes them; the list is empty then."""
        if len(replies) == 1:
            data = replies[0]
        elif sum(map(len, replies)) <= SEND_BYTES:
            data = b"".join(replies)
        else:
            data = b""
            if not self._unsent.bytes:
                self._begin_to_owe()
            self._unsent.add_all(replies)
        replies.clear()
        sent = 0
        if data and not self._unsent.bytes:
            try:
                sent = self._send(data if len(data) <= SEND_BYTES else memoryview(data)[:SEND_BYTES])
            except BlockingIOError:
                pass
            except OSError:
                self.kill()
                return
            self._owner.bytes_out += sent
        self._sent(data, sent)

    def _sent(self, data: bytes, sent: int) -> None:
        """The kernel took so much of the replies: keep the rest, and move on."""
        if sent != len(data):
            if not self._unsent.bytes:
                self._begin_to_owe()
            self._unsent.add(data, sent)
        if self.state == WRITING and not self._awaiting:
            self._rest()
        elif self.state in (ENDING, CLOSING):
            self._close_if_done()

    def _begin_to_owe(self) -> None:
        self._sent_at = monotonic()
        self._unacknowledged = 1 << 62  # not looked yet
        self._time()
        self._wait_for(self._events | WRITE)

    def _answer_due(self) -> None:
        """Answer those that waited, as far as there is room for it."""
        room = self._output_room()
        if room > 0:
            self.session.answer_due(room)
            if self.session.due:
                self._queue()  # the rest has its turn

    def _drain(self) -> None:
        """The kernel takes output again."""
        unsent, paused = self._unsent, self._paused
        try:
            count = unsent.send(self._send)
        except OSError:
            self.kill()
            return
        if count:
            self._owner.bytes_out += count
            self._sent_at = self._owner.reactor.deadline
        if not unsent.bytes:
            self._wait_for(self._events & ~WRITE)
        if paused and not self._paused:
            self._queue()
        if self.session.due:
            self._touch()
        if self.state in (ENDING, CLOSING):
            self._close_if_done()

    def _wait_for(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._owner.reactor.modify(self._transport.descriptor, events)

    # -- ending ------------------------------------------------------------------------------------

    def close_after_replies(self) -> None:
        """Execute and read nothing more; close once everything owed is sent."""
        if self.state >= CLOSING:
            return
        self._move(END)
        self._wait_for(self._events & ~READ)
        self._input.clear()
        self._since = monotonic()
        self._time()
        self._touch()

    def _close_if_done(self) -> None:
        if self._unsent.bytes or self.out or self._awaiting:
            return
        if self.state == ENDING:
            if not self.session.busy and self not in self._owner.reactor.runnable:
                self.kill()
        else:
            self._linger()

    def _linger(self) -> None:
        """All that was owed is sent. Closing a socket with bytes unread makes the kernel reset the connection, and the peer may
        lose our last words; so say that nothing more comes, and read into the void until the peer closes too."""
        self._move(ALL_SENT)
        self._since = monotonic()
        try:
            self._transport.end_output()
        except OSError:
            self.kill()
            return
        self._wait_for(READ)

    def kill(self) -> None:
        """Close now; what is owed is lost."""
        if self.state == CLOSED:
            return
        self._move(GONE_AWAY)
        for timer in self._timers:
            timer.cancel()
        self._owner.hold_input(-self._held)
        self._held = 0
        self._input = bytearray()
        self._unsent.clear()
        self._awaiting.clear()
        self._owner.reactor.unregister(self._transport.descriptor)
        self.session.end()
        self.session = NO_SESSION  # a session knows its connection: a cycle, and nothing collects those
        self._transport.close()
        self._owner.forget(self)

    def _time(self) -> None:
        """Have `check_time` called from here on."""
        if self not in self._owner.timed:
            self._owner.time_out_later(self)

    def excuse(self, seconds: float, now: float) -> None:
        """The server did not run for this time: it does not count as the client's."""
        self._since = min(self._since + seconds, now)
        self._sent_at = min(self._sent_at + seconds, now)
        self._owed_since = min(self._owed_since + seconds, now)

    def check_time(self, now: float) -> bool:
        """Close if the state's time is up; returns whether to ask again."""
        owner = self._owner
        if self.state == CLOSED:
            return False
        if not self.session.authenticated:
            if now - self._owed_since > owner.header_seconds:
                self.kill()
                return False
            return True
        if self._unsent.bytes:
            # the kernel says that it takes more only when a good part of its own megabytes has gone: so ask what the peer took
            unacknowledged = self._transport.unacknowledged()
            if unacknowledged < self._unacknowledged:
                self._sent_at = now
            self._unacknowledged = unacknowledged
            if now - self._sent_at > owner.stall_seconds:
                self.kill()
                return False
        limit = {HEADER: owner.header_seconds, BODY: owner.stall_seconds, CLOSING: owner.stall_seconds, LINGERING: LINGER_SECONDS}.get(
            self.state
        )
        if self._paused or self in owner.reactor.runnable:
            self._since = now  # its input waits for us: that time is not the client's
        elif limit is not None:
            if now - self._since > limit:
                self.kill()
                return False
        else:
            return bool(self._unsent.bytes)
        return True


def serve_together(owner: Owner, connections: dict[int, Connection], events: Sequence[tuple[int, int]], at: int) -> int:
    """Serve the connections at rest that are ready in `events`, from offset `at`; returns the offset of the first that is to be served
    alone. `connections` are by descriptor.

    This is `Connection.on_events` for the common case, whole requests from a client that is owed nothing, for many connections in one
    loop: that costs half as much. Everything else is left to the methods above; tests/server/test_together.py holds the two equal.
    """
    reactor = owner.reactor
    deadline, room, touched, runnable = reactor.deadline, owner.output_limit, reactor.touched, reactor.runnable
    receive_bytes = len(owner.receive_view)
    for fd, mask in events[at : at + TOGETHER] if at or len(events) > TOGETHER else events:
        connection = connections.get(fd)
        if (
            connection is None
            or mask != READ
            or connection.state != IDLE
            or connection._events != READ  # with WRITE, something is unsent
            or connection in touched
            or connection in runnable
        ):
            break
        session = connection.session
        if not session.ordinary or session.busy:
            break
        at += 1
        try:
            data = connection._receive_bytes(receive_bytes)
        except BlockingIOError:
            continue
        except OSError:
            connection.kill()
            continue
        if not data:
            connection._end_of_input()
            continue
        owner.bytes_in += len(data)
        connection._last_input = deadline
        connection.state = FED
        connection._executed = ANEW
        try:
            taken = session.feed(data, room)
            if taken != len(data) or session.halted or session.unfinished or not connection.out or connection in touched:
                connection._fed(data, taken)
            elif connection.state == FED:
                connection.state = REPLIED
                touched[connection] = True
        except Exception as e:  # one client's defect is not the others'
            reactor.failed(e, fd)
        if monotonic() > deadline:
            break
    return at


def flush_together(owner: Owner, connections: Sequence[tuple[Connection, bool]]) -> None:
    """`Connection.flush` of each, with the common case in one loop: `True` beside a connection says that sending its replies is all there
    is to do."""
    bytes_out = 0
    for connection, simply in connections:
        try:
            if not simply or connection.state != REPLIED:
                connection.flush()
                continue
            out = connection.out
            data = out[0] if len(out) == 1 else b"".join(out)
            if len(data) > SEND_BYTES:
                connection.flush()
                continue
            out.clear()
            try:
                sent = connection._send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                connection.kill()
                continue
            bytes_out += sent
            if sent == len(data):
                connection.state = RESTED
            else:
                connection._sent(data, sent)
        except Exception as e:
            owner.reactor.failed(e, connection.descriptor)
    owner.bytes_out += bytes_out


NO_SESSION = SilentSession()
