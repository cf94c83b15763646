"""A RESP connection's session: its settings, its parser, and the execution of one request after another.

It is fed bytes and puts replies on its peer's `out`; the peer sends them after the tick's commit. Execution stops where the
input ends, where a job or a held reply must finish first (`halted`), or where it has had its turn (`yielded`).
"""

from collections.abc import Callable
from time import monotonic, time
from types import GeneratorType

from flo.commands import pipeline, table
from flo.commands.host import LAZY_ARGUMENTS_MAX, Host, Peer, SlowEntry, client_line
from flo.commands.table import Blocked, Job, Later
from flo.engine import Namespace
from flo.errors import BadRequest, Fatal, LogFailed, Overloaded, Refusal, trace_of
from flo.proto import resp
from flo.proto.resp import ProtocolError, RequestParser

SLOW_ARGUMENTS_MAX = 32  # SLOWLOG keeps this many arguments, cut to this many bytes
SLOW_ARGUMENT_BYTES_MAX = 128
MONITOR_ARGUMENT_BYTES_MAX = 1024  # quoting costs 0.2 us a byte, and everyone waits for it
NEED_NO_NAMESPACE = ("USE", "NAMESPACE", "INFO", "CONFIG", "FLUSHALL", "SHUTDOWN")
KEY_GROUPS = ("generic", "string", "json")  # the groups of commands whose arguments are keys
UNKNOWN_ARGUMENTS_SHOWN = 128  # bytes of arguments that the error for an unknown command repeats

MULTI_REFUSAL = (
    "Flo has no MULTI: nothing of this transaction was or will be run. Use CAS, one JSON document, or a plain pipeline "
    "(redis-py: pipeline(transaction=False))"
)


class Block:
    """A RESP request that waits; the requests behind it wait too. It is answered once, or cancelled."""

    __slots__ = ("_cancel", "_session", "_timer")

    def __init__(self, session: "RespSession", seconds: float, cancel: Callable[[], None], timed_out: Callable[[], bytes]) -> None:
        host = session.host
        if host.waiting >= host.settings.waiters:
            cancel()
            raise Overloaded(f"{host.waiting} requests wait already, which is limits.waiters; retry later")
        self._session = session
        self._cancel = cancel
        host.waiting += 1
        self._timer = host.call_later(seconds, lambda: self.answer(timed_out())) if seconds else None

    def answer(self, reply: bytes) -> None:
        """What was waited for came, or the time is up."""
        session = self._session
        self.end()
        session.busy = False
        if session.replies:
            session.peer.out.append(reply)
        session.peer.wake()

    def end(self) -> None:
        """Wait no more, unanswered."""
        cancel, self._cancel = self._cancel, _nothing  # what is waited for knows this: a cycle, and nothing collects those
        self._session.blocked = None
        self._session.host.waiting -= 1
        if self._timer is not None:
            self._timer.cancel()
        cancel()


def _nothing() -> None:
    """What an ended wait has to cancel."""


class RespSession:
    """One RESP connection."""

    lane = staticmethod(pipeline.run_many)

    def __init__(self, host: Host, peer: Peer) -> None:
        self.host = host
        self.peer = peer
        self.counters = host.counters
        self.namespace: Namespace = host.engine.namespace("default")
        self.authenticated = host.secret is None
        self.parser = RequestParser(self.authenticated)
        self.v3 = False
        self.nil = resp.NIL2
        self.name = b""
        self.library: dict[bytes, bytes] = {}
        self.last_command = ""
        self.refusing = False  # between a refused MULTI and its EXEC, DISCARD or RESET
        self.replies = True  # CLIENT REPLY OFF
        self.skip_next = False  # CLIENT REPLY SKIP
        self.monitoring = False
        self.blocked: Block | None = None
        self.due: None = None
        self.last_receipts: list[tuple[int, int]] = []  # of the messages this connection took last
        self.auto_ack = host.settings.auto_ack
        self.flat = self.authenticated  # whether the flat path may be taken
        self.halted = False  # execution stops here for this turn
        self.yielded = False  # … because others wait; there is more to execute
        self.job: Job | None = None
        self._job_skipped = False  # CLIENT REPLY SKIP was for the job
        self.busy = False  # a job, or a held reply's timer, must end before the next request may start
        self.output_room = pipeline.OUTPUT_ROOM_BYTES
        self.executed = 0
        self.unfinished = False  # whether the parser keeps the start of a request
        self.length_known = False  # … and the length of what is missing
        self.held = 0  # bytes of memory it keeps

    # -- fed by the connection ---------------------------------------------------------------------

    def yield_turn(self) -> None:
        """Stop executing: others wait."""
        self.halted = self.yielded = True

    def feed(self, data: bytes, output_room: int) -> int:
        """Execute the requests in `data`, as far as they are whole and may run; returns how much of it was taken.

        `output_room` is how many bytes of replies may be added before execution should stop.
        """
        self.halted = self.yielded = False
        self.output_room = output_room
        at = 0
        if self.flat and not self.unfinished and not self.host.monitors:
            at = pipeline.run(self, data, output_room)
        return self.go_on(data, at)

    def go_on(self, data: bytes, at: int) -> int:
        """The rest of `feed`, where the flat path has taken `data` up to `at`."""
        if at:
            self.parser.searched = 0  # what it had searched of an unfinished line is done
        if at == len(data) or self.halted:
            return at
        return self._feed_carefully(data, at)

    def _feed_carefully(self, data: bytes, at: int) -> int:
        """Through the parser, request by request. The ordinary way is tried again behind the first of them, and where that was in vain,
        behind twice as many: it looks at all that is left."""
        parser, size = self.parser, len(data)
        tries = left = 1
        try:
            while not self.halted:
                args, at = parser.parse(data, at)
                if args is None:
                    break
                self._run(args)
                left -= 1
                if not left and at < size and self.flat and not self.halted and not self.host.monitors:
                    taken = pipeline.run(self, data[at:], self.output_room)
                    tries = left = 1 if taken else 2 * tries
                    at += taken
                    parser.searched = 0
        except ProtocolError as e:
            self._protocol_error(e)
            at = size
        self._note_unfinished()
        return at

    def _note_unfinished(self) -> None:
        parser = self.parser
        self.unfinished = not parser.idle
        self.length_known = parser.length_known
        self.held = parser.held

    def body_room(self) -> memoryview | None:
        """Where to receive the bytes of a large argument, if one is under way."""
        return self.parser.body_room()

    def body_received(self, count: int, output_room: int) -> None:
        """`count` bytes were received there; executes the request if they made it whole."""
        self.halted = self.yielded = False
        self.output_room = output_room
        try:
            args = self.parser.body_received(count)
        except ProtocolError as e:
            self._protocol_error(e)
            return
        if args is not None:
            self._run(args)
        self._note_unfinished()

    def resume(self) -> bool:
        """Do one more slice of the job; returns whether it has ended, its reply then being out."""
        job = self.job
        assert job is not None
        appended = self.host.engine.log.next_index
        try:
            next(job)
            return False
        except StopIteration as end:
            pieces: list[bytes] = end.value
        except Refusal as e:
            pieces = [refusal(e)]
        except LogFailed:
            raise
        except Exception as e:
            if self.host.engine.log.next_index != appended:
                raise Fatal(f"a job of {self.last_command} failed after it had appended to the log") from e
            self.host.log("error", "a job failed; its request was answered with an error", traceback=trace_of(e))
            pieces = [resp.error("ERR internal error")]
        self.job = None
        self.busy = False
        if self.replies and not self._job_skipped:
            self.peer.out.extend(pieces)
        return True

    def end(self) -> None:
        """The connection is gone."""
        self.flat = False
        if self.job is not None:
            self.job.close()
            self.job = None
        if self.blocked is not None:
            self.blocked.end()
        self.host.monitors.discard(self.peer)

    # -- executing ---------------------------------------------------------------------------------

    def _run(self, args: list[bytes]) -> None:
        self.host.counters.commands += 1
        self.executed += 1
        self.execute(args)
        if self.peer.out:
            self.output_room -= len(self.peer.out[-1])
        if not self.halted and (self.output_room < 0 or monotonic() > self.host.tick_deadline):
            self.yield_turn()

    def execute(self, args: list[bytes]) -> None:
        """Run one request and put its reply out."""
        host = self.host
        appended = host.engine.log.next_index
        started = monotonic()
        skipped = self.skip_next
        if skipped:
            self.skip_next = False
            self.settle()
        try:
            reply = self._dispatch(args)
        except Refusal as e:
            reply = self.refused(e)
        except Exception as e:
            reply = self.failed(e, args, appended)
        seconds = monotonic() - started
        if 0 <= host.settings.slowlog_slower_than <= seconds * 1e6:
            self.note_slow(seconds, args)
        self.accept(reply, args, skipped)

    def refused(self, e: Refusal) -> bytes:
        """The reply of a request that was refused."""
        self.host.counters.errors += 1
        return refusal(e)

    def failed(self, e: Exception, args: list[bytes], appended: int) -> bytes:
        """The reply of a request that met a defect, when the log's next index was `appended` before it. Raises where memory and log may no
        longer agree."""
        if isinstance(e, LogFailed):
            raise e
        host = self.host
        if host.engine.log.next_index != appended:
            raise Fatal(f"{args[0][:32]!r} failed after it had appended to the log") from e
        host.counters.errors += 1
        host.log("error", "a command failed; its request was answered with an error", traceback=trace_of(e))
        return resp.error("ERR internal error")

    def accept(self, reply: table.Reply, args: list[bytes], skipped: bool = False) -> None:
        """Put the reply of a request out, or arrange for it to come. `skipped`: CLIENT REPLY SKIP was for this request."""
        if isinstance(reply, Later):
            held = b"" if skipped else reply.reply
            self.busy = self.halted = True
            self.peer.resume_after(reply.seconds, lambda: self._release(held))
        elif isinstance(reply, GeneratorType):
            self.job = reply
            self._job_skipped = skipped
            self.busy = self.halted = True
        elif isinstance(reply, Blocked):
            assert self.blocked is not None
        elif self.replies and not skipped:
            self.peer.out.append(reply)  # type: ignore[arg-type]  # bytes, or a view of them

    def block(self, seconds: float, cancel: Callable[[], None], timed_out: Callable[[], bytes]) -> Block:
        """Hold the connection until `answer` is called on what this returns, or for so many seconds (0: for ever), when the
        reply is `timed_out()`. `cancel` takes back what was asked for. Raises `Overloaded`."""
        self.blocked = Block(self, seconds, cancel, timed_out)
        self.busy = self.halted = True
        return self.blocked

    def _release(self, held: bytes) -> None:
        self.busy = False
        self.peer.out.append(held)

    def _dispatch(self, args: list[bytes]) -> table.Reply:
        command = table.find(args[0])
        if command is None:
            return self._unknown(args)
        if not self.authenticated and "no_auth" not in command.flags:
            return resp.error("NOAUTH Authentication required.")
        self.last_command = command.name.lower()
        if self.refusing and command.name not in ("EXEC", "DISCARD", "RESET", "QUIT"):
            self.host.counters.errors += 1
            return resp.error(f"ERR {MULTI_REFUSAL}")
        count = len(args)
        if count != command.arity if command.arity > 0 else count < -command.arity:
            self.host.counters.errors += 1
            return wrong_arity(command.name)
        if command.subcommands:
            wanted = command.subcommands.get(args[1].upper() if count > 1 else b"", 0)
            if wanted and (count != wanted if wanted > 0 else count < -wanted):
                self.host.counters.errors += 1
                return wrong_arity(f"{command.name}|{args[1].decode()}")
        if self.namespace.deleted and command.group != "connection" and command.name not in NEED_NO_NAMESPACE:
            self._find_namespace_again()
        if self.host.monitors and "no_monitor" not in command.flags:
            self._tell_monitors(args)
        if count > LAZY_ARGUMENTS_MAX and command.group in KEY_GROUPS and self.namespace.kv.store.lazy is not None:
            return self._once_read(command, args)
        return command.handler(self, args)

    def _once_read(self, command: table.Command, args: list[bytes]) -> table.Job:
        """A command of many keys, some of which may be on disk since the start: each would cost a look there, and others would wait."""
        yield from self.namespace.kv.all_read()
        reply = command.handler(self, args)
        if isinstance(reply, GeneratorType):
            pieces: list[bytes] = yield from reply
            return pieces
        assert isinstance(reply, bytes)
        return [reply]

    def _unknown(self, args: list[bytes]) -> bytes:
        if not self.authenticated:
            return resp.error("NOAUTH Authentication required.")
        self.host.counters.errors += 1
        name = args[0]
        if name.upper() in (b"POST", b"HOST:"):
            # a browser was made to send an HTTP request here: nothing more of it is read
            self.host.log("warning", "closed a connection that sends HTTP in the place of commands", peer=self.peer.address)
            self.peer.kill()
            self.halted = True
            return b""
        if self.refusing:
            return resp.error(f"ERR {MULTI_REFUSAL}")
        shown = ""
        for arg in args[1:]:
            if len(shown) >= UNKNOWN_ARGUMENTS_SHOWN:
                break
            shown += f"'{_text(arg[: UNKNOWN_ARGUMENTS_SHOWN - len(shown)])}' "
        return resp.error(f"ERR unknown command '{_text(name[:128])}', with args beginning with: {shown}")

    def _find_namespace_again(self) -> None:
        """The namespace was deleted while this connection used it. One of the same name may have been made since."""
        found = self.host.engine.namespaces.get(self.namespace.name)
        if found is None:
            raise BadRequest(f"the namespace {self.namespace.name!r} was deleted; choose another with USE")
        self.namespace = found
        self.settle()

    def _protocol_error(self, e: ProtocolError) -> None:
        self.host.counters.errors += 1
        self.peer.out.append(resp.error(f"ERR Protocol error: {e}"))
        self.halted = True
        self.peer.close_after_replies()

    # -- what commands change ----------------------------------------------------------------------

    def set_protocol(self, v3: bool) -> None:
        """HELLO 2 or 3."""
        self.v3 = v3
        self.nil = resp.NIL3 if v3 else resp.NIL2

    def set_authenticated(self, value: bool) -> None:
        """The secret was given, or is owed again."""
        self.authenticated = self.parser.authenticated = value
        self.settle()

    def settle(self) -> None:
        """Work out again whether the flat path may be taken."""
        self.flat = self.authenticated and self.replies and not self.skip_next and not self.refusing and not self.namespace.deleted

    # -- telling -----------------------------------------------------------------------------------

    def _tell_monitors(self, args: list[bytes]) -> None:
        now = time()
        words = " ".join(quoted(arg) for arg in args)
        line = f"+{now:.6f} [{self.database} {self.peer.address}] {words}\r\n".encode()
        for peer in tuple(self.host.monitors):
            peer.push(line)

    def note_slow(self, seconds: float, args: list[bytes]) -> None:
        """Keep a request that took so long for SLOWLOG."""
        host, micros = self.host, int(seconds * 1e6)
        kept = [
            arg
            if len(arg) <= SLOW_ARGUMENT_BYTES_MAX
            else arg[:SLOW_ARGUMENT_BYTES_MAX] + b"... (%d more bytes)" % (len(arg) - SLOW_ARGUMENT_BYTES_MAX)
            for arg in args[:SLOW_ARGUMENTS_MAX]
        ]
        if self.last_command in ("auth", "hello"):
            kept = [args[0], b"(redacted)"]
        host.slow.append(SlowEntry(host.slow_count, int(time()), micros, kept, self.peer.address, self.name))
        host.slow_count += 1
        while len(host.slow) > host.settings.slowlog_max_len:
            host.slow.pop(0)

    @property
    def database(self) -> int:
        """Which of Redis's databases the namespace is, by resp.databases; 0 where it is none."""
        names, name = self.host.settings.databases, self.namespace.name
        return names.index(name) if name in names else 0

    def describe(self) -> str:
        """The line of CLIENT LIST and CLIENT INFO."""
        return client_line(
            self.peer,
            flags="O" if self.monitoring else "N",
            held=self.held,
            command=self.last_command,
            protocol="3" if self.v3 else "2",
            name=_text(self.name),
            library=(_text(self.library.get(b"LIB-NAME", b"")), _text(self.library.get(b"LIB-VER", b""))),
            namespace=self.namespace.name,
            database=self.database,
        )

    def answer_due(self, output_room: int) -> None:
        """What waits here is answered by what it waits for."""

    def overload(self) -> bytes:
        """The last reply of a connection whose unread input went past what all may hold."""
        return resp.error("BUSY the unread input of all connections is at its limit; try again later")


def refusal(e: Refusal) -> bytes:
    """A refusal as RESP's error."""
    return resp.error(f"{e.code} {e}")


def wrong_arity(name: str) -> bytes:
    """Redis's own wording: clients match on it."""
    return resp.error(f"ERR wrong number of arguments for '{name.lower()}' command")


def quoted(arg: bytes) -> str:
    """An argument as MONITOR shows it: printable, in double quotes, cut where it is long."""
    if len(arg) > MONITOR_ARGUMENT_BYTES_MAX:
        arg = arg[:MONITOR_ARGUMENT_BYTES_MAX] + b"... (%d more bytes)" % (len(arg) - MONITOR_ARGUMENT_BYTES_MAX)
    shown = "".join(
        {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x07: "\\a", 0x08: "\\b"}.get(byte)
        or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}")
        for byte in arg
    )
    return f'"{shown}"'


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
