"""A connection: its state machine, its buffers, its back-pressure. It moves bytes; what they mean is its session's affair.

States, and what moves a connection from one to the next (`_CAUSES` is this table as code; a move outside it is a defect):

    IDLE        nothing of a request has come
    HEADER      a request has begun, the length of what follows is not known yet     at most header_timeout
    BODY        the length is known, bytes are missing                               stall_timeout since the last byte
    PROCESSING  input is parsed and executed; a job or a held reply waits here
    WRITING     replies wait for the turn's commit
    CLOSING     nothing more is read; what is owed is sent                           stall_timeout since the last byte sent
    CLOSED      the socket is gone

Output drains beside this machine: what the kernel does not take stays in `_unsent`, and the connection goes on reading. Past
`output_bytes` of it, requests are no longer executed; their bytes are kept, up to `connection_input_bytes`; past that they
are not read. Clients that send all before they read anything need this, and clients that never read are bounded by it.

Small input is received into one buffer shared by all connections. A large argument is received where it will stay.
"""

import fcntl
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from termios import TIOCOUTQ
from time import monotonic
from typing import Protocol

from flo.loop import GONE, READ, WRITE, Reactor, Timer

IDLE, HEADER, BODY, PROCESSING, WRITING, CLOSING, CLOSED = range(7)
STATE_NAMES = ("IDLE", "HEADER", "BODY", "PROCESSING", "WRITING", "CLOSING", "CLOSED")
INPUT, NEED_HEADER, NEED_BODY, ANSWERED, QUIET, SENT, END, GONE_AWAY = range(8)

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
    CLOSING: {
        INPUT: (CLOSING, "ignored"),
        ANSWERED: (CLOSING, "the last reply"),
        SENT: (CLOSING, "more is owed"),
        NEED_HEADER: (CLOSING, "ignored"),
        NEED_BODY: (CLOSING, "ignored"),
        QUIET: (CLOSING, "ignored"),
        END: (CLOSING, "already"),
    },
    CLOSED: {GONE_AWAY: (CLOSED, "already"), END: (CLOSED, "already"), SENT: (CLOSED, "too late")},
}
for _state in (IDLE, HEADER, BODY, PROCESSING, WRITING):
    _CAUSES[_state][END] = (CLOSING, "a protocol error, a limit, a timeout, QUIT, or the end of input")
for _state in (IDLE, HEADER, BODY, PROCESSING, WRITING, CLOSING):
    _CAUSES[_state][GONE_AWAY] = (CLOSED, "the peer is gone, or all that was owed is sent")

ILLEGAL = -1
NEXT = tuple(tuple(_CAUSES[state][event][0] if event in _CAUSES[state] else ILLEGAL for event in range(8)) for state in range(7))

RECEIVE_BYTES = 64 << 10  # one turn's input of one connection: 2,300 SETs, about 2 ms
SEND_BYTES = 256 << 10  # sent to one connection in a turn: up to 2 ms, for the kernel copies it to the reader
ANEW = -1  # in the place of a count of executed requests: what is unfinished began in what was just received
TOGETHER = 64  # connections served in one loop
UNTOUCHED, TOUCHED, SIMPLY = range(3)  # `_touched`: whether replies are to be flushed this turn, and there is nothing else to it
JOIN_BYTES = 64 << 10  # smaller replies are sent together
RESUME_BYTES = 128 << 10  # of kept input executed in a turn: more than any inline command, so that it always gets on
LINGER_SECONDS = 2.0  # what a peer gets to read our last words and close
PUSH_BACKLOG_BYTES_MAX = 32 << 20  # of what MONITOR shows to a client that does not read it


class Session(Protocol):
    """What a protocol does with a connection's bytes."""

    ordinary: bool  # nothing about it asks for more than to be fed
    halted: bool  # execution has stopped
    yielded: bool  # … for others wait
    executed: int  # grows with each request that is executed
    authenticated: bool
    busy: bool  # something under way must end before more is executed
    held: int  # bytes of memory an unfinished request holds
    unfinished: bool  # the start of a request is kept in the session
    length_known: bool  # … and the length of what is missing is known

    @property
    def job(self) -> object:
        """Something to be resumed in slices, or None."""

    @property
    def due(self) -> object:
        """Something that waited and can be answered now; or what is false."""

    def answer_due(self, output_room: int, /) -> None:
        """Put out the answers of what waited, as far as there is room."""

    @property
    def blocked(self) -> bool:
        """Whether a request waits that ends with the input."""

    def feed(self, data: bytes, output_room: int, /) -> int:
        """Execute what is whole in `data`; returns how much was taken."""

    def body_room(self) -> memoryview | None:
        """Where to receive the bytes of a large argument."""

    def body_received(self, count: int, output_room: int, /) -> None:
        """They were."""

    def resume(self) -> bool:
        """One more slice of the job; whether it has ended."""

    def overload(self) -> bytes:
        """The last answer where the unread input of all connections is at its limit."""

    def describe(self) -> str:
        """Its line in CLIENT LIST."""

    def end(self) -> None:
        """The connection is gone."""


class Owner(Protocol):
    """The server, as its connections see it."""

    reactor: Reactor
    receive_view: memoryview  # RECEIVE_BYTES, shared; less while requests take longer than they will
    output_limit: int
    input_limit: int
    header_seconds: float
    stall_seconds: float
    bytes_in: int
    bytes_out: int

    def hold_input(self, change: int) -> bool:
        """`change` bytes of input are held more; False where all connections together may not hold them."""

    def time_out_later(self, connection: "Connection") -> None:
        """Ask `connection.check_time` every second until it answers False."""

    def forget(self, connection: "Connection") -> None:
        """It is closed."""


class Connection:
    """One client. Its session is set by the server, and may be replaced when the protocol is known."""

    # fmt: off
    __slots__ = (
        "_awaiting", "_eof", "_events", "_executed", "_fd", "_held", "_input", "_kernel_queue", "_last_input", "_lingering", "_overflowed",
        "_owed_since", "_owner", "_paused", "_pushed", "_queued", "_recv", "_recv_into", "_send", "_sent_at", "_since", "_sock",
        "_started", "_timed", "_timers", "_touched", "_unsent", "_unsent_bytes", "address", "id", "local_address",
        "must_authenticate", "out", "session", "state",
    )
    # fmt: on

    def __init__(self, owner: Owner, sock: socket.socket, identity: int, address: str, local_address: str) -> None:
        self.id = identity
        self.address = address
        self.local_address = local_address
        self.state = IDLE
        self.out: list[bytes] = []
        self.session: Session
        self.must_authenticate = False  # while the secret is owed the connection has header_timeout in all
        self._owner = owner
        self._sock = sock
        self._fd = sock.fileno()
        self._recv = sock.recv
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._input = bytearray()  # received and not executed
        self._held = 0
        self._awaiting: deque[tuple[int, list[bytes]]] = deque()  # replies that wait for the log, by its index; it is not read meanwhile
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._events = READ
        self._paused = False  # too much output is unsent: nothing is executed
        self._eof = False
        self._kernel_queue = 0  # bytes the peer had not taken of what the kernel did, when last looked
        self._pushed = 0  # bytes in `out` that answer no request under way
        self._overflowed = False  # more than it may leave unread
        self._lingering = False  # CLOSING, everything is sent, the peer has not closed yet
        self._touched = UNTOUCHED
        self._queued = False  # on the run list
        self._timed = False  # check_time is called
        self._executed = 0  # what session.executed was when the unfinished request began
        self._timers: list[Timer] = []
        self._started = self._since = self._sent_at = self._owed_since = self._last_input = monotonic()
        owner.reactor.register(self._fd, READ, self.on_events)

    def _move(self, event: int) -> None:
        state = NEXT[self.state][event]
        assert state != ILLEGAL, f"connection {self.id}: event {event} in state {STATE_NAMES[self.state]}"
        self.state = state

    def begin(self, session: Session, must_authenticate: bool) -> None:
        """Serve with `session`, which may only be a first one that finds out the protocol."""
        self.session = session
        self.must_authenticate = must_authenticate
        if must_authenticate:
            self._time()

    def owe_secret(self) -> None:
        """The secret is owed from now on."""
        self.must_authenticate = True
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
        return self._fd

    @property
    def input_bytes(self) -> int:
        """Received and not executed."""
        return len(self._input)

    @property
    def output_bytes(self) -> int:
        """Answered and not taken by the kernel."""
        return self._unsent_bytes

    @property
    def owed_bytes(self) -> int:
        """Answered and not sent, this turn's replies included."""
        return self._unsent_bytes + sum(map(len, self.out))

    def push(self, data: bytes) -> None:
        """Send something that answers no request under way."""
        if self.state == CLOSED:
            return
        if self._unsent_bytes + self._pushed > PUSH_BACKLOG_BYTES_MAX:
            self._overflowed = True  # it does not read what it asked to be shown; flush ends it, when nobody is in the middle of it
        else:
            self.out.append(data)
            self._pushed += len(data)
        self._touch()

    def wake(self) -> None:
        """What the session waited for has come: send its reply, go on with the input."""
        if self.state != CLOSED:
            self._settle()
            self._touch()
            self._queue()

    def resume_after(self, seconds: float, resume: Callable[[], None]) -> None:
        """Call `resume` after that time, and go on with the input; not if the connection closes first."""

        def fire() -> None:
            self._timers.remove(timer)
            resume()
            self._settle()
            self._queue()

        timer = self._owner.reactor.call_later(seconds, fire)
        self._timers.append(timer)

    # -- input -------------------------------------------------------------------------------------

    def on_events(self, events: int) -> None:
        """The socket is ready."""
        if self._touched == SIMPLY:
            self._touched = TOUCHED  # ready again in the same turn: there is more to be done with it than to send these replies
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
        if self._lingering:
            self._receive_nothing()
            return
        if self.state == BODY and not self._input and not self._paused:  # else these bytes come behind the kept ones
            room = session.body_room()
            if room is not None:
                self._receive_body(room)
                return
        view = owner.receive_view
        try:
            count = self._recv_into(view)
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
        if self._input or self._paused or self._queued or session.busy:
            self._input += view[:count]
            self._execute_kept()
            return
        data = bytes(view[:count])
        if not session.unfinished:
            self._executed = ANEW
        self._move(INPUT)
        self._executed_to(data, session.feed(data, self._output_room()))

    def _executed_to(self, data: bytes, taken: int) -> None:
        """So much of `data` was executed: keep the rest."""
        if taken < len(data) and self.state == PROCESSING:
            self._input += data[taken:] if taken else data
        self._settle()

    def _receive_nothing(self) -> None:
        try:
            if self._recv_into(self._owner.receive_view):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.kill()

    def _receive_body(self, room: memoryview) -> None:
        owner = self._owner
        try:
            count = self._recv_into(room)
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
        self._settle()

    def _end_of_input(self) -> None:
        self._eof = True
        self._wait_for(self._events & ~READ)
        if self.session.blocked or not (
            self._touched or self._queued or self._unsent or self._awaiting or self.session.busy or self._paused
        ):
            self.kill()

    def run_turn(self) -> None:
        """From the run list: a slice of the job, or the kept input."""
        self._queued = False
        if self.state == CLOSED:
            return
        session = self.session
        if session.job is not None:
            if not session.resume():
                self._queue()
                return
            self._settle()
        self._execute_kept()
        if self.state != CLOSED and session.due:
            self._touch()
        if self._eof and self.state != CLOSED and not self._touched:
            self._close_if_done()

    def _execute_kept(self) -> None:
        if self._input and not self._paused and not self.session.busy and self.state != CLOSING:
            whole = len(self._input) <= RESUME_BYTES
            data = bytes(self._input) if whole else bytes(memoryview(self._input)[:RESUME_BYTES])
            self._move(INPUT)
            taken = self.session.feed(data, self._output_room())
            del self._input[:taken]
            if not whole and not self.session.yielded:
                self._queue()
        self._settle()

    def keep(self, data: bytes) -> None:
        """Input that was received in this turn and has to wait for the next."""
        if self.state not in (CLOSING, CLOSED):  # what woke it meanwhile may have taken it to rest
            self._executed = ANEW
            self._input += data
            self._queue()
            self._account()

    def _output_room(self) -> int:
        return self._owner.output_limit - self._unsent_bytes

    def _settle(self) -> None:
        """After executing: note what is owed and held, and take the state that follows."""
        if self.state == CLOSED:
            return
        session = self.session
        if self.out:
            self._touch()
            if self.state == PROCESSING:
                self._move(ANSWERED)
        elif self.state == PROCESSING and not session.busy:
            self._rest()
        if session.yielded or session.job is not None:
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
                self.refuse_input()
                return
            full = len(self._input) >= self._owner.input_limit
            if full and self._events & READ:
                self._wait_for(self._events & ~READ)
            elif not full:
                self._read_on()

    def _read_on(self) -> None:
        """Wait for input again, unless something is in the way."""
        if not self._events & READ and not self._eof and not self._awaiting and self.state not in (CLOSING, CLOSED):
            self._wait_for(self._events | READ)

    def _rest(self) -> None:
        """Executed and answered: what the kept input is the beginning of."""
        if self._input or self.session.unfinished:
            session = self.session
            if session.length_known:
                self._move(NEED_BODY)
                self._since = self._last_input
            else:
                self._move(NEED_HEADER)
                if session.executed != self._executed or not self._timed:
                    self._since = self._last_input  # a header's time runs from its first byte, however many follow
            self._executed = session.executed
            self._time()
        elif self.state == WRITING:
            self._move(SENT)
        else:
            self._move(QUIET)

    def _queue(self) -> None:
        if not self._queued:
            self._queued = True
            self._owner.reactor.runnable.append(self)

    def refuse_input(self) -> None:
        """All connections together hold too much unread input: this one went past it."""
        self._input.clear()
        self.out.append(self.session.overload())
        self.close_after_replies()

    # -- output ------------------------------------------------------------------------------------

    def _touch(self) -> None:
        if self._touched == UNTOUCHED:
            self._owner.reactor.touched.append(self)
        self._touched = TOUCHED

    def flush(self) -> None:
        """The turn is committed: send its replies."""
        self._touched = UNTOUCHED
        if self.state == CLOSED:
            return
        out = self.out
        if self._overflowed:
            self.kill()
            return
        self._pushed = 0
        if self.session.due:
            self._answer_due()
        self._send_pieces(out)

    def hold(self, index: int) -> None:
        """The turn is not committed yet: its replies wait until the log has committed `index`."""
        self._touched = UNTOUCHED
        if self.state == CLOSED:
            return
        if self._overflowed:
            self.kill()
            return
        self._pushed = 0
        if self.session.due:
            self._answer_due()
        self._awaiting.append((index, self.out))
        self.out = []
        self._wait_for(self._events & ~READ)

    def release(self, committed: int) -> None:
        """The log has committed so much: send the replies that waited for it."""
        awaiting, pieces = self._awaiting, []
        while awaiting and awaiting[0][0] <= committed:
            pieces += awaiting.popleft()[1]
        if self.state == CLOSED or not pieces:
            return
        self._send_pieces(pieces)
        if len(self._input) < self._owner.input_limit:
            self._read_on()

    def _send_pieces(self, out: list[bytes]) -> None:
        """Send replies, as far as the kernel takes them; the list is empty then."""
        if len(out) == 1:
            data = out[0]
        elif (size := sum(map(len, out))) <= SEND_BYTES:
            data = b"".join(out)
        else:
            data = b""
            self._owe(out, size)
        out.clear()
        sent = 0
        if not self._unsent:
            try:
                sent = self._send(data if len(data) <= SEND_BYTES else memoryview(data)[:SEND_BYTES])
            except BlockingIOError:
                pass
            except OSError:
                self.kill()
                return
            self._owner.bytes_out += sent
            if sent == len(data) and self.state == WRITING and not (self._input or self._eof or self._awaiting or self.session.unfinished):
                self.state = IDLE  # the common case of what follows
                return
        self._sent(data, sent)

    def _sent(self, data: bytes, sent: int) -> None:
        """The kernel took so much of the replies: keep the rest, and take the state that follows."""
        if sent != len(data):
            if not self._unsent:
                self._begin_to_owe()
            self._unsent.append(memoryview(data)[sent:])
            self._unsent_bytes += len(data) - sent
        self._paused = self._unsent_bytes > self._owner.output_limit
        if self.state == WRITING and not self._awaiting:
            self._rest()
        elif self.state == CLOSING:
            self._move(SENT)
        if self._eof or self.state == CLOSING:
            self._close_if_done()

    def _owe(self, pieces: list[bytes], size: int) -> None:
        """Keep replies of `size` bytes, too large to be joined, to be sent as the kernel takes them."""
        if not self._unsent:
            self._begin_to_owe()
        small: list[bytes] = []
        gathered = 0
        for piece in pieces:
            if len(piece) < JOIN_BYTES:
                small.append(piece)
                gathered += len(piece)
                if gathered < JOIN_BYTES:
                    continue
            if small:
                self._unsent.append(memoryview(b"".join(small)))
                small, gathered = [], 0
            if len(piece) >= JOIN_BYTES:
                self._unsent.append(memoryview(piece))
        if small:
            self._unsent.append(memoryview(b"".join(small)))
        self._unsent_bytes += size

    def _begin_to_owe(self) -> None:
        self._sent_at = monotonic()
        self._kernel_queue = 1 << 62  # not looked yet
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
        unsent, left = self._unsent, SEND_BYTES
        try:
            while unsent and left > 0:
                count = self._send(unsent[0][:left])
                left -= count
                self._owner.bytes_out += count
                self._unsent_bytes -= count
                self._sent_at = self._owner.reactor.deadline
                if count < len(unsent[0]):
                    unsent[0] = unsent[0][count:]
                    break
                unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.kill()
            return
        if not unsent:
            self._wait_for(self._events & ~WRITE)
        if self._paused and self._unsent_bytes <= self._owner.output_limit:
            self._paused = False
            self._queue()
        if self.session.due:
            self._touch()
        self._close_if_done()

    def _wait_for(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._owner.reactor.modify(self._fd, events)

    # -- ending ------------------------------------------------------------------------------------

    def close_after_replies(self) -> None:
        """Execute and read nothing more; close once everything owed is sent."""
        if self.state in (CLOSED, CLOSING):
            return
        self._move(END)
        self._wait_for(self._events & ~READ)
        self._input.clear()
        self._since = monotonic()
        self._time()
        self._touch()

    def _close_if_done(self) -> None:
        if self._unsent or self.out or self._awaiting:
            return
        if self._eof and (self.state == CLOSING or (not self._queued and not self.session.busy)):
            self.kill()
        elif self.state == CLOSING and not self._lingering:
            self._linger()

    def _linger(self) -> None:
        """All that was owed is sent. Closing a socket with bytes unread makes the kernel reset the connection, and the peer may
        lose our last words; so say that nothing more comes, and read into the void until the peer closes too."""
        self._lingering = True
        self._since = monotonic()
        try:
            self._sock.shutdown(socket.SHUT_WR)
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
        self._unsent_bytes = 0
        self._owner.reactor.unregister(self._fd)
        self.session.end()
        self.session = NO_SESSION  # a session knows its connection: a cycle, and nothing collects those
        self._sock.close()
        self._owner.forget(self)

    def _time(self) -> None:
        """Have `_since` checked from here on."""
        if not self._timed:
            self._timed = True
            self._owner.time_out_later(self)

    def excuse(self, seconds: float, now: float) -> None:
        """The server was not there for so long: that time is not the client's."""
        self._since = min(self._since + seconds, now)
        self._sent_at = min(self._sent_at + seconds, now)
        self._owed_since = min(self._owed_since + seconds, now)

    def check_time(self, now: float) -> bool:
        """Close if the state's time is up; returns whether to ask again."""
        owner = self._owner
        if self.state == CLOSED:
            return False
        if self.must_authenticate and not self.session.authenticated:
            if now - self._owed_since > owner.header_seconds:
                self.kill()
                return False
            return True
        if self._unsent:
            # the kernel says that it takes more only when a good part of its own megabytes has gone: so ask what the peer took
            queued = queued_in_kernel(self._sock)
            if queued < self._kernel_queue:
                self._sent_at = now
            self._kernel_queue = queued
            if now - self._sent_at > owner.stall_seconds:
                self.kill()
                return False
        if self._paused or self._queued:
            self._since = now  # its input waits for us: that time is not the client's
        elif self.state in (HEADER, BODY, CLOSING):
            limit = LINGER_SECONDS if self._lingering else owner.header_seconds if self.state == HEADER else owner.stall_seconds
            if now - self._since > limit:
                self.kill()
                return False
        elif not self._unsent:
            self._timed = False
            return False
        return True


def serve_together(owner: Owner, connections: dict[int, Connection], events: Sequence[tuple[int, int]], at: int) -> int:
    """Serve those that are ready in `events`, from offset `at`, while they are at rest; returns the offset of who is to be served alone.
    `connections` are by descriptor.

    This is `Connection.on_events` for the common case, requests that are whole from a client that is owed nothing, for many of them in
    one loop: that costs half as much. What is not the common case is left to the same methods as there; tests/server/test_together.py holds
    the two equal.
    """
    reactor = owner.reactor
    deadline, room, touched = reactor.deadline, owner.output_limit, reactor.touched
    receive_bytes = len(owner.receive_view)
    for fd, mask in events[at : at + TOGETHER] if at or len(events) > TOGETHER else events:
        connection = connections.get(fd)
        if (
            connection is None
            or mask != READ
            or connection.state != IDLE
            or connection._touched
            or connection._queued
            or connection._events != READ  # with WRITE, something is unsent
        ):
            break
        session = connection.session
        if not session.ordinary or session.busy:
            break
        at += 1
        try:
            data = connection._recv(receive_bytes)
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
        connection.state = PROCESSING
        connection._executed = ANEW
        try:
            taken = session.feed(data, room)
            if taken != len(data) or session.halted or session.unfinished or not connection.out or connection._touched:
                connection._executed_to(data, taken)
            elif connection.state == PROCESSING:
                connection.state = WRITING
                connection._touched = SIMPLY
                touched.append(connection)
        except Exception as e:  # one client's defect is not the others'
            reactor.failed(e, fd)
        if monotonic() > deadline:
            break
    return at


def flush_together(owner: Owner, connections: Sequence[Connection]) -> None:
    """`Connection.flush` of each, the common case, where these replies are all there is to it, in one loop."""
    bytes_out = 0
    for connection in connections:
        try:
            if connection._touched != SIMPLY or connection.state != WRITING:
                connection.flush()
                continue
            out = connection.out
            data = out[0] if len(out) == 1 else b"".join(out)
            if len(data) > SEND_BYTES:
                connection.flush()
                continue
            out.clear()
            connection._touched = UNTOUCHED
            try:
                sent = connection._send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                connection.kill()
                continue
            bytes_out += sent
            if sent == len(data):
                connection.state = IDLE
            else:
                connection._sent(data, sent)
        except Exception as e:
            owner.reactor.failed(e, connection.descriptor)
    owner.bytes_out += bytes_out


def queued_in_kernel(sock: socket.socket) -> int:
    """Bytes the kernel has of ours that the peer has not acknowledged; 0 where the system does not say."""
    try:
        return int.from_bytes(fcntl.ioctl(sock, TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


class NoSession:
    """The session of a closed connection."""

    ordinary = blocked = False

    def __init__(self) -> None:
        self.halted = self.yielded = self.busy = self.unfinished = self.length_known = False
        self.authenticated = True
        self.executed = self.held = 0
        self.job = self.due = None

    def feed(self, data: bytes, output_room: int, /) -> int:
        """Nothing is executed."""
        return len(data)

    def body_room(self) -> memoryview | None:
        """Nothing is received."""
        return None

    def body_received(self, count: int, output_room: int, /) -> None:
        """Nothing is received."""

    def resume(self) -> bool:
        """Nothing is under way."""
        return True

    def answer_due(self, output_room: int, /) -> None:
        """Nothing waits."""

    def overload(self) -> bytes:
        """Nothing is answered."""
        return b""

    def describe(self) -> str:
        """Not listed."""
        return ""

    def end(self) -> None:
        """It has ended."""


NO_SESSION = NoSession()
