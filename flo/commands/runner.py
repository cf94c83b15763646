"""What executes the requests of a connection, whatever protocol they came by.

A protocol's session is a `Session`: it decodes bytes into calls (what executes a request, and the request), and says how a refusal looks
in its protocol. Everything else about a request is here, once: the guard against a defect behind an append, slices of long requests, held
replies, waits, the room for output and the time of a turn, counts, SLOWLOG and MONITOR.

A handler is called with the session and the request. It gives the whole reply as bytes; or a job, a generator that yields between slices
and returns the reply; or a `Later`; or WAITING, where a `Wait` of the session will answer. It raises a `Refusal` for anything else, or
returns one that comes often.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from time import monotonic, time
from types import GeneratorType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from flo.commands.host import EVERYTHING, READS, Counters, Host, Peer, SlowEntry
from flo.commands.tallies import Tally
from flo.errors import Fatal, InternalError, LogFailed, NotFound, NotLeader, Overloaded, Refusal, trace_of
from flo.limits import OUTPUT_BYTES_MAX

if TYPE_CHECKING:
    from flo.forward import Start

SLOW_SECONDS = 0.004  # of executing in one go: most of a turn, which one long request or a long pipeline takes
MONITOR_ARGUMENT_BYTES_MAX = 1024  # quoting costs up to 0.03 us a byte, and everyone waits for it
MONITOR_LINE_BYTES_MAX = 16 << 10  # of a request of many arguments
SLOW_ARGUMENTS_MAX = 32  # SLOWLOG keeps this many arguments, cut to this many bytes
SLOW_ARGUMENT_BYTES_MAX = 128
DUE_SLICE = 500  # waits answered in one turn of a connection: 3 us each
VAIN_MAX = 6  # decodings in vain that are counted: after so many, the next is tried behind 64 requests


class Later(NamedTuple):
    """A reply that is held back for some seconds, by a timer."""

    seconds: float
    reply: bytes | Refusal


class Waiting:
    """The type of WAITING: a `Wait` of the session will answer."""


WAITING: Final = Waiting()
Job = Generator[None, None, Any]
Reply = bytes | Job | Later | Waiting | Refusal
Handler = Callable[[Any, Any], Reply]
Call = tuple[Handler, Any]  # what executes a request, and the request
Decoded = tuple[list[Call], Callable[[int], int]]  # requests, and the offset behind the first so many of them


class Wait:
    """A request that waits for something. It is answered once, or ended with its connection.

    Where the requests behind it wait too (`Session.in_order`), it is answered when what it waited for comes. Else that is only noted, and
    the answer is made when its connection sends, as far as that has room: a thousand waits for one large value would otherwise be as many
    copies.
    """

    __slots__ = ("_answer", "_cancels", "_change", "_holds", "_over", "_session", "request")

    def __init__(self, session: "Session", request: Any, milliseconds: float, answer: Callable[[], Any]) -> None:
        """Wait for `milliseconds`, 0 for as long as it takes. When the wait is over, `answer()` gives what a handler would, or raises.
        Raises `Overloaded`."""
        host = session.host
        if host.waiting >= host.settings.waiters:
            raise Overloaded(f"{host.waiting} requests wait already, which is limits.waiters; retry later")
        if len(session.waits) >= host.settings.connection_waiters:
            raise Overloaded(
                f"{len(session.waits)} requests of this connection wait already, which is limits.connection_waiters; open another"
            )
        self._session = session
        self.request: Any = request
        self._answer = answer
        self._change: Callable[[Any], Any] | None = None
        self._holds = session.in_order
        self._cancels: list[Callable[[], None]] = []
        self._over = False
        host.waiting += 1
        session.waits[self] = None
        if self._holds:
            session.busy = session.halted = True
        if milliseconds:
            self.ends_with(host.call_later(milliseconds / 1000, self.ready).cancel)

    def ends_with(self, cancel: Callable[[], None]) -> None:
        """`cancel` takes back something that was asked for, when the wait ends. Harmless where that has come."""
        self._cancels.append(cancel)

    def change(self, change: Callable[[Any], Any]) -> None:
        """Have `change` make the answer out of what the wait gives, behind the changes that were asked for before. Where the requests
        behind wait too, it may give a job."""
        before = self._change
        self._change = change if before is None else lambda made: change(before(made))

    @property
    def over(self) -> bool:
        """Whether the wait has ended."""
        return self._over

    @property
    def holds(self) -> bool:
        """Whether the requests behind it wait too."""
        return self._holds

    def answer(self, reply: Any) -> None:
        """What was waited for has come, and this is the reply."""
        self._answer = lambda: reply
        self.ready()

    def ready(self) -> None:
        """What was waited for has come, or the time is up."""
        if self._over:
            return
        self.end()
        session = self._session
        if self._holds:
            session.busy = False
            session.accept(self.reply(), self.request)
        else:
            session.due.append(self)
        session.peer.wake()

    def reply(self) -> Any:
        """What a handler would give."""
        answer, self._answer = self._answer, _nothing  # it knows the session: a cycle, and nothing collects those
        try:
            made = answer()
        except Refusal as e:
            return e
        return made if self._change is None else self._change(made)

    def end(self) -> None:
        """Wait no more."""
        if self._over:
            return
        self._over = True
        self._session.waits.pop(self, None)
        self._session.host.waiting -= 1
        cancels, self._cancels = self._cancels, []  # what is waited for knows this wait
        for cancel in cancels:
            cancel()


def _nothing() -> None:
    """Of a wait that has been answered."""


class Session(ABC):
    """One connection's requests. A protocol's session adds `decode`, `parse`, and the looks of replies."""

    protocol: ClassVar[str]  # for counts
    in_order: ClassVar[bool] = True  # replies come in the order of the requests: behind one that waits, the others wait too
    generic: ClassVar[frozenset[Handler]]  # handlers that execute more than one command

    # Slots in it and in its kinds: over 30 attributes in a dictionary take 1.5 KB more
    # fmt: off
    __slots__ = (
        "_job_request", "_job_seconds", "authenticated", "busy", "counters", "due", "executed", "halted", "held", "host", "job",
        "last_command", "length_known", "name", "ordinary", "output_room", "peer", "reads_only", "slow", "unfinished", "waits", "yielded",
    )
    # fmt: on

    def __init__(self, host: Host, peer: Peer) -> None:
        self.host: Host = host
        self.peer: Peer = peer
        self.counters: Counters = host.counters
        self.authenticated: bool = host.secret is None
        self.reads_only: bool = False  # it gave the read-only secret last
        self.ordinary: bool = self.authenticated  # whether `decode` may be used: nothing about the session asks for a look at each request
        self.last_command: str = ""
        self.name: bytes = b""  # that the client gave itself
        self.halted: bool = False  # execution stops here for this turn
        self.yielded: bool = False  # … because others wait; there is more to execute
        self.busy: bool = False  # a job, a held reply's timer, or a wait must end before the next request may start
        self.job: Job | None = None
        self._job_request: Any = None
        self._job_seconds = 0.0  # of its slices so far
        self.waits: dict[Wait, None] = {}
        self.due: list[Wait] = []  # to be answered. A list, for each connection has one: an empty deque takes 760 bytes
        self.output_room: int = OUTPUT_BYTES_MAX
        self.executed: int = 0
        self.slow: bool = False  # its last requests took long
        self.unfinished: bool = False  # whether the start of a request is kept
        self.length_known: bool = False  # … and the length of what is missing
        self.held: int = 0  # bytes of memory it keeps

    # -- what a protocol adds ----------------------------------------------------------------------

    @abstractmethod
    def decode(self, data: bytes) -> Decoded:
        """The requests at the start of `data` that are whole and framed as usual."""

    @abstractmethod
    def parse(self, data: bytes, at: int) -> tuple[Call | None, int]:
        """The next request in `data`, however it is framed; None where it is not whole, and its start is kept or not taken. And how far
        `data` was taken."""

    @abstractmethod
    def body_received_call(self, count: int) -> Call | None:
        """`count` bytes were put into `body_room()`: the request, if that made it whole."""

    @abstractmethod
    def body_room(self) -> memoryview | None:
        """Where to receive the bytes of a large part of a request, if one is under way. Release it before going on."""

    @abstractmethod
    def note_unfinished(self) -> None:
        """Say what is kept of a request that is not whole."""

    @abstractmethod
    def lose_framing(self, e: Exception) -> bool:
        """`parse` raised `e`: answer, and close, if that is what it raises where the input cannot be followed; whether it is."""

    @abstractmethod
    def refusal(self, e: Refusal, request: Any) -> bytes:
        """How a refusal looks."""

    @abstractmethod
    def pieces(self, request: Any, reply: Any) -> list[bytes]:
        """What a job, or a wait, gave, as it is sent."""

    @abstractmethod
    def name_of(self, request: Any) -> str:
        """The command or operation, for people; empty where there is no such command."""

    def rejects(self, e: Refusal, request: Any) -> bool:
        """Whether the refusal kept the request from its command: it is malformed, or the client may not send it."""
        return False

    @abstractmethod
    def words_of(self, request: Any) -> list[bytes] | None:
        """Its words, for SLOWLOG and MONITOR; None where nobody is to see them."""

    @abstractmethod
    def overload(self) -> bytes:
        """The last reply of a connection whose unread input went past what all may hold."""

    @abstractmethod
    def describe(self) -> str:
        """The line of CLIENT LIST."""

    def check_served(self, reads: bool) -> None:
        """Check that this member of a cluster serves a request, which only `reads`. Raises `NotLeader`."""
        serves = self.host.serves
        if serves != EVERYTHING and not (reads and serves == READS):
            raise NotLeader(self.host.engine.leader)

    def note_settings(self) -> None:
        """Something about the session, or a namespace, has changed: work out again whether it is `ordinary`."""
        self.ordinary = self.authenticated and not self.reads_only

    # -- fed by the connection ---------------------------------------------------------------------

    def yield_turn(self) -> None:
        """Stop executing: others wait."""
        self.halted = self.yielded = True

    def feed(self, data: bytes, output_room: int) -> int:
        """Execute the requests in `data`, as far as they are whole and may run; returns how much of it was taken.

        `output_room` is how many bytes of replies may be added before execution should stop."""
        self.halted = self.yielded = False
        self.output_room = output_room
        at, size = 0, len(data)
        vain = skip = 0  # decodings in vain; requests until the next: each looks at all that is left
        careful, began = self.unfinished, 0.0
        if careful:
            began = monotonic()
        while at < size and not self.halted:
            if self.ordinary and not self.unfinished:
                if skip:
                    skip -= 1
                else:
                    calls, end_of = self.decode(data[at:] if at else data)
                    if calls:
                        at += end_of(self.execute(calls))
                        vain = 0
                        continue
                    vain += 1
                    skip = 1 << min(vain, VAIN_MAX)
            if not careful:
                careful, began = True, monotonic()
            try:
                call, at = self.parse(data, at)
            except Exception as e:
                if not self.lose_framing(e):
                    raise
                at = size
                break
            if call is None:
                break
            self.unfinished = False
            self.execute([call])
        if careful:
            self.note_unfinished()
            if monotonic() - began > SLOW_SECONDS:  # with the parsing, which is most of a request with many arguments
                self._note_speed(True)
        return at

    def body_received(self, count: int, output_room: int) -> None:
        """`count` bytes were received where `body_room` said; executes the request if they made it whole."""
        began = monotonic()
        self.halted = self.yielded = False
        self.output_room = output_room
        try:
            call = self.body_received_call(count)
        except Exception as e:
            if not self.lose_framing(e):
                raise
            return
        if call is not None:
            self.execute([call])
            if monotonic() - began > SLOW_SECONDS:
                self._note_speed(True)
        self.note_unfinished()

    def answer_due(self, output_room: int) -> None:
        """Answer what waited, as far as there is room and time for it."""
        due = self.due
        for count in range(min(len(due), DUE_SLICE)):
            if output_room < 0 or (count and monotonic() > self.host.tick_deadline):
                return
            wait = due.pop(0)
            output_room -= self.put_out(wait.request, wait.reply())

    def end(self) -> None:
        """The connection is gone: its job and its waits end with it."""
        self.ordinary = False
        job, self.job = self.job, None
        if job is not None and not getattr(job, "gi_running", False):
            job.close()
        for wait in tuple(self.waits):
            wait.end()
        self.due.clear()

    @property
    def blocked(self) -> bool:
        """Whether a request waits, and those behind it with it."""
        return any(wait.holds for wait in self.waits)

    # -- executing ---------------------------------------------------------------------------------

    def execute(self, calls: list[Call]) -> int:
        """Execute requests in order, until execution has to stop (`halted`, or not `ordinary` any more); returns how many were executed."""
        host, room = self.host, self.output_room
        log, deadline, monitors = host.engine.log, host.tick_deadline, host.monitors
        slower = host.settings.slowlog_slower_than  # us; below 0 for never
        slow = slower * 1e-6 if slower >= 0 else float("inf")
        tallies = host.tallies.by_handler
        emit = self.peer.out.append
        done = 0
        start = before = monotonic()
        counted: Handler | None = None  # what executes the requests from number `since` on, which began at `began`
        tally: Tally | None = None  # of these
        since, began = 0, before
        for handler, request in calls:
            if handler is not counted:
                if tally is not None:
                    tally.calls += done - since
                    tally.seconds += before - began
                counted, since, began = handler, done, before
                tally = tallies.get(handler)
                if tally is None:
                    tally = self.tally_of(request)
                    if handler in self.generic:
                        counted = None
                    else:
                        tallies[handler] = tally
            done += 1
            if monitors:
                self.tell_monitors(request)
            appended = log.next_index
            try:
                reply = handler(self, request)
            except Refusal as e:
                reply = self.refused(e, request)
            except Exception as e:
                reply = self.failed(e, request, appended)
            if type(reply) is bytes:
                if reply:  # else nobody wants it
                    emit(reply)
                    room -= len(reply)
            else:
                room -= self.accept(reply, request)
            now = monotonic()
            if now - before >= slow and self.job is None:  # else it goes on
                self._note_slow(now - before, request)
            before = now
            if self.halted:
                break
            if room < 0 or now > deadline:
                self.yield_turn()
                break
            if not self.ordinary:
                break
        if tally is not None:
            tally.calls += done - since
            tally.seconds += before - began
        if self.slow or before - start > SLOW_SECONDS:
            self._note_speed(before - start > SLOW_SECONDS)
        self.output_room = room
        self.executed += done
        host.counters.commands += done
        self.last_command = self.name_of(request) or self.last_command
        return done

    def _note_speed(self, slow: bool) -> None:
        """Others are served before a connection whose requests take longer than a turn, as long as they do."""
        if slow != self.slow:
            self.slow = slow
            if self.authenticated:  # else it is a newcomer, or has a timer
                self.host.set_slow(self.peer, slow)

    def refused(self, e: Refusal, request: Any) -> bytes:
        """The reply of a request that was refused; none if the leader of the cluster will give it."""
        if type(e) is NotLeader and self._forwards(e, request):
            return b""
        if type(e) is not NotFound:  # a miss is an answer
            self.count_error(e.code, request, self.rejects(e, request))
        return self.refusal(e, request)

    def forward_start(self, request: Any, refusal: bytes) -> "Start | None":
        """How the connection would begin at the leader of the cluster, with this request; None if it cannot go on there."""
        return None

    def _forwards(self, e: NotLeader, request: Any) -> bool:
        """Let the connection go on at the leader, if that is known; returns whether it does."""
        if not str(e) or self.waits or not self.host.settings.cluster_forward:
            return False
        start = self.forward_start(request, self.refusal(e, request))
        if start is None or not self.host.forward(self.peer, start):
            return False
        self.halted = True  # what follows is not this session's any more
        self.end()
        return True

    def end_of_input(self) -> bool:
        """See `flo.session`: the requests that came are answered, and nothing else goes on."""
        return False

    def count_error(self, code: str, request: Any, rejected: bool = False) -> None:
        """Count an error that is answered to a request, which was `rejected` before it reached its command."""
        self.host.tallies.count_error(code)
        tally = self.tally_of(request)
        tally.failed += not rejected
        tally.rejected += rejected
        tally.calls -= rejected

    def tally_of(self, request: Any) -> Tally:
        """The counts of the request's command."""
        return self.host.tallies.of(self.protocol, self.name_of(request))

    def failed(self, e: Exception, request: Any, appended: int) -> bytes:
        """The reply of a request that met a defect, when the log's next index was `appended` before it. Raises where memory and log may no
        longer agree."""
        if isinstance(e, (LogFailed, Fatal)):
            raise e
        host = self.host
        if host.engine.log.next_index != appended:
            raise Fatal(f"{self.name_of(request)} failed after it had appended to the log") from e
        self.count_error(InternalError.code, request)
        host.log("error", f"{self.name_of(request)} failed; it was answered with an error", traceback=trace_of(e))
        return self.refusal(InternalError("internal error: the server's log has the details"), request)

    def accept(self, reply: Any, request: Any) -> int:
        """Put out the reply of a request that is not plain bytes, or arrange for it to come; returns how many bytes were put out."""
        if isinstance(reply, GeneratorType):
            self.job, self._job_request = reply, request
            self.busy = self.halted = True
            before, began = len(self.peer.out), monotonic()
            if self._slice():  # most need no second one
                self.halted = self.busy
                return sum(map(len, self.peer.out[before:]))
            self._job_seconds = monotonic() - began
            return 0
        if isinstance(reply, Waiting):
            return 0
        return self.put_out(request, reply)

    def put_out(self, request: Any, reply: Any) -> int:
        """Put a reply out that is all there; returns its bytes."""
        if isinstance(reply, Later):
            held = self.refused(reply.reply, request) if isinstance(reply.reply, Refusal) else reply.reply
            self.busy = self.halted = True
            self.peer.resume_after(reply.seconds, lambda: self._release(request, held))
            return 0
        pieces = [self.refused(reply, request)] if isinstance(reply, Refusal) else self.pieces(request, reply)
        self.peer.out.extend(pieces)
        return sum(map(len, pieces))

    def _release(self, request: Any, held: bytes) -> None:
        self.busy = False
        self.peer.out.append(held)

    def resume(self) -> bool:
        """Do one more slice of the job; returns whether it has ended, its reply then being out."""
        request, before = self._job_request, monotonic()
        ended = self._slice()
        took = monotonic() - before
        self._job_seconds += took
        self.tally_of(request).seconds += took
        if ended and 0 <= self.host.settings.slowlog_slower_than <= self._job_seconds * 1e6:
            self._note_slow(self._job_seconds, request)
        return ended

    def _slice(self) -> bool:
        job, request = self.job, self._job_request
        assert job is not None
        appended = self.host.engine.log.next_index
        try:
            next(job)
            return False
        except StopIteration as end:
            reply = end.value
        except Refusal as e:
            reply = e.with_traceback(None)  # which has this frame, which has the reply: a cycle, and nothing collects those
        except Exception as e:
            self._end_job()
            self.peer.out.append(self.failed(e, request, appended))
            return True
        self._end_job()
        if not isinstance(reply, Waiting):
            self.put_out(request, reply)
        return True

    def _end_job(self) -> None:
        self.job = self._job_request = None
        self.busy = False

    # -- telling -----------------------------------------------------------------------------------

    @property
    def client_type(self) -> bytes:
        """The type in CLIENT LIST."""
        return b"normal"

    @property
    def database(self) -> int:
        """Which of Redis's databases the connection uses, by resp.databases."""
        return 0

    def tell_monitors(self, request: Any) -> None:
        """Show a request to those who asked for all."""
        words = self.words_of(request)
        if words is None:
            return
        line = f"+{time():.6f} [{self.database} {self.peer.address}] {line_of(words)}\r\n".encode()
        for peer in tuple(self.host.monitors):
            peer.push(line)

    def _note_slow(self, seconds: float, request: Any) -> None:
        """Keep a request that took `seconds`, for SLOWLOG."""
        host = self.host
        words = self.words_of(request) or [self.name_of(request).encode() or b"(unknown)", b"(redacted)"]
        kept = [
            word
            if len(word) <= SLOW_ARGUMENT_BYTES_MAX
            else word[:SLOW_ARGUMENT_BYTES_MAX] + b"... (%d more bytes)" % (len(word) - SLOW_ARGUMENT_BYTES_MAX)
            for word in words[:SLOW_ARGUMENTS_MAX]
        ]
        host.slow.append(SlowEntry(host.slow_count, int(time()), int(seconds * 1e6), kept, self.peer.address, self.name))
        host.slow_count += 1
        while len(host.slow) > host.settings.slowlog_max_len:
            host.slow.pop(0)


def line_of(words: list[bytes]) -> str:
    """A request as MONITOR shows it: its words quoted, cut where it is long."""
    shown: list[str] = []
    room = MONITOR_LINE_BYTES_MAX
    for at, word in enumerate(words):
        if room < 0:
            shown.append(f"... ({len(words) - at} more arguments)")
            break
        shown.append(quoted(word))
        room -= len(shown[-1])
    return " ".join(shown)


def quoted(word: bytes) -> str:
    """A word as MONITOR shows it: printable, in double quotes, cut where it is long."""
    if len(word) > MONITOR_ARGUMENT_BYTES_MAX:
        word = word[:MONITOR_ARGUMENT_BYTES_MAX] + b"... (%d more bytes)" % (len(word) - MONITOR_ARGUMENT_BYTES_MAX)
    return f'"{word.decode("latin-1").translate(_SHOWN)}"'


_SHOWN = {byte: f"\\x{byte:02x}" for byte in (*range(0x20), *range(0x7F, 0x100))}
_SHOWN |= {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x07: "\\a", 0x08: "\\b"}
