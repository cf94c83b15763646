"""The server: listens, accepts, finds out each connection's protocol, and gives the reactor's turns their phases.

It is the host of the commands (flo.commands.host.Host) and the owner of the connections (flo.conn.Owner).
"""

import errno
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic, time

from flo.commands.binary import HANDLERS
from flo.commands.host import Counters, Peer, SlowEntry
from flo.commands.progress import Progress
from flo.commands.protocols import FirstBytes
from flo.commands.resp import TABLE
from flo.commands.runner import Session
from flo.compactor import Compactor
from flo.config import Settings, read_secret
from flo.conn import RECEIVE_BYTES, Connection, flush_together, serve_together
from flo.control import Answer, Control
from flo.engine import Engine, EngineSettings
from flo.engine.background_load import LAZY_FILES_MAX
from flo.engine.clock import STEP_MS, Steps, steady_clock, wall_clock
from flo.errors import ConfigError, Fatal, LogFailed, Refusal, trace_of
from flo.loop import READ, Reactor, Timer
from flo.operator_log import LEVELS, OperatorLog
from flo.transport import PlainTransport
from flo.ual.log import CLAIM_SECONDS, SEALED_OPEN_MAX, SYNC

EXIT_LOG_FAILED = 74  # EX_IOERR: the log failed; start again, and recovery gives exactly what was durable
BACKLOG = (
    4096  # Linux allows no more by default; who finds it full tries again a second later: all clients of a server that was restarted do
)
ACCEPTS_PER_TURN = 64
LAZY_RECEIVE_BYTES = 4 << 10  # input of one connection in a go while keys may be on disk: a look there takes 10 us
# For the log's files, for those that a start has left values in, and for the rest of the log, the listener and the poller
DESCRIPTORS_BESIDES = 2 * SEALED_OPEN_MAX + LAZY_FILES_MAX + 64
TIME_CHECK_SECONDS = 1.0
DUE_CHECK_SECONDS = 1.0  # at most, while anything falls due by the wall clock: it may be stepped forward during a poll
CLOCKS_LOOK_SECONDS = 0.05  # how often the wall clock is held against the steady one: a look costs 0.5 us of a turn
LOADED_SECONDS = 1.0  # after a start by which all handlers are imported, busy or not: somebody may replace flo.pyz
LOADING_SECONDS = 1.0  # a start that takes longer listens meanwhile
SERVE_ASIDE_SECONDS = 0.05  # how often it then looks at its clients
LATENCY_EVENTS_MAX = 160  # Redis keeps as many
ACCEPT_PAUSE_SECONDS = 0.1  # before accepting is tried again when not even the reserve descriptor helped
LOOPBACK_ONLY = (
    b"-DENIED this Flo has no secret, so it serves clients on its own machine only. Set server.secret_file, or server.insecure "
    b"= true if the network is trusted.\r\n"
)
FULL = b"-ERR max number of clients reached\r\n"


class Server:
    """One server, one directory, one port."""

    def __init__(
        self,
        settings: Settings,
        operator_log: OperatorLog,
        clock: Callable[[], int] = wall_clock,
        on_progress: Callable[[int, int, int], None] = lambda *_: None,
        listener: socket.socket | None = None,
        steady: Callable[[], int] = steady_clock,
    ) -> None:
        """Bind the port, lock and recover the directory. Raises `FloError` or `OSError`; nothing is left behind then.

        Where recovery takes longer than LOADING_SECONDS, clients are accepted meanwhile and told, and `on_progress(bytes of the log
        read, bytes in all, seconds left)` is called. `listener` is a socket that somebody else has bound. `clock` and `steady` are the
        engine's."""
        TABLE.step()
        self.settings = settings
        self.operator_log = operator_log
        self.secret = read_secret(settings.secret_file)
        self.counters = Counters()
        self.monitors: set[Peer] = set()
        self.slow: list[SlowEntry] = []
        self.slow_count = 0
        self.latency: list[tuple[int, int]] = []
        self.run_id = os.urandom(20).hex()
        self.loading = False
        self.progress = Progress()
        self._on_progress = on_progress
        self._served_at = self.progress.began + LOADING_SECONDS  # monotonic; when clients are first, or were last, served while loading
        self.waiting = 0
        self.inflating = False
        self.tick_deadline = 0.0
        self._unloaded = True  # handlers
        self.receive_view = memoryview(bytearray(RECEIVE_BYTES))
        self.output_limit = settings.output_bytes
        self.input_limit = settings.connection_input_bytes
        self.header_seconds = settings.header_timeout / 1000
        self.stall_seconds = settings.stall_timeout / 1000
        self.bytes_in = self.bytes_out = 0
        self._input_held = 0
        self._connections: dict[int, Connection] = {}  # by their ids
        self._by_descriptor: dict[int, Connection] = {}
        self.timed: set[Connection] = set()
        self._time_check: Timer | None = None
        self._times_checked = 0.0  # when they were looked at last
        self._next_id = 1
        self._started = monotonic()
        self._shutting_down = False
        self._listening = False
        self.descriptor_limit = raise_descriptor_limit(settings.max_connections + DESCRIPTORS_BESIDES)
        # clients must not take the descriptors that the log needs to roll: past this, they are told that there is no room
        room = max(self.descriptor_limit - DESCRIPTORS_BESIDES, self.descriptor_limit // 2)
        self.connection_limit = min(settings.max_connections, room)
        self.on_stopping: Callable[[], None] = lambda: None  # called once, when the end begins
        self._listener = listener or _bind(settings)
        self.port: int = self._listener.getsockname()[1]
        self.reactor = Reactor(self)
        self.waits = self.reactor.waits
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            engine_settings = EngineSettings(
                settings.durability, settings.history_depth, settings.history_age, settings.max_memory, settings.segment_bytes
            )
            self.engine = Engine(
                settings.data_dir,
                engine_settings,
                manual=True,
                on_notice=self._notice,
                on_progress=self._load_on,
                clock=clock,
                steady=steady,
                lazy=True,
            )
            self._create_databases()
        except BaseException:
            for connection in list(self._connections.values()):
                connection.kill()
            self.reactor.close()
            self._listener.close()
            os.close(self._reserve)
            raise
        self.loading = False
        self._steps = Steps(self.engine.now, steady())
        ahead = self.engine.clock_ahead
        if ahead > STEP_MS:
            self.log("warning", f"the wall clock is {ahead / 1000:.3f} s behind the last write's time: it was ahead then, or is wrong now")
        if self.engine.background_load is not None:
            self.receive_view = self.receive_view[:LAZY_RECEIVE_BYTES]
        self.compactor = Compactor(self.engine.log, settings, self, self.log)
        self._clocks_at = 0.0  # monotonic; when the clocks are looked at next
        self._wall_ahead = 0.0  # ms, of the monotonic clock
        self._compaction_asked: list[Answer] = []
        self._compaction_wanted = False
        self._control: Control | None = None
        self._after_commit: dict[Callable[[int], None], None] = {}
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)

    def _create_databases(self) -> None:
        """Have the namespaces that resp.databases names. Raises `ConfigError`; the engine is closed then."""
        try:
            for name in self.settings.databases:
                if name not in self.engine.namespaces:
                    self.engine.create_namespace(name)
            self.engine.commit()
        except Refusal as e:
            self.engine.close()
            raise ConfigError(f"resp.databases names {name!r}, and that namespace cannot be created: {e}.") from None

    def _notice(self, text: str) -> None:
        self.log("warning", text)

    def _load_on(self, done: int, total: int) -> None:
        """So much of the log is read. Where it takes long, tell those who ask."""
        progress = self.progress
        progress.done, progress.total = done, total
        now = monotonic()
        if now < self._served_at + (SERVE_ASIDE_SECONDS if self.loading else 0):
            return
        self._served_at = now
        if not self.loading:
            self.loading = True
            self._listen()
        self.reactor.serve_aside()
        self._on_progress(done, total, progress.seconds_left)

    def _listen(self) -> None:
        try:
            self._listener.listen(BACKLOG)
        except OSError as e:  # somebody else has begun to listen there while this one recovered
            raise _cannot_listen(self.settings, e) from None
        self.reactor.register(self._listener.fileno(), READ, self._accept)
        self.reactor.newcomer(self._listener.fileno(), True)
        self._listening = True

    # -- running -----------------------------------------------------------------------------------

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM, SIGINT or SHUTDOWN; then sync and close. `ready` is called once connections are accepted.

        Raises `ConfigError` where the port has been taken meanwhile.
        Does not return where the log fails: the process ends at once with status 74, waiting replies unsent.
        """
        import gc

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, self._on_compact)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        self.reactor.register(self._wake_read.fileno(), READ, self._woken)
        self._open_control()
        if not self._listening:
            try:
                self._listen()
            except ConfigError:
                self._close()
                raise
        # What was recovered is never garbage, and serving makes no cycles (tests/server/test_hostile.py holds that):
        # a collection would only stall everyone.
        gc.collect()
        gc.freeze()
        gc.disable()
        ready()
        self._warn_of_what_is_open()
        try:
            self.reactor.run()
        except (LogFailed, Fatal) as e:
            self.die(e)
        self._close()
        self.log("info", "stopped; everything is on disk" if self.settings.durability != "ephemeral" else "stopped")

    def _warn_of_what_is_open(self) -> None:
        """Say what others can reach, or cannot though they seem to."""
        if self.secret is None and self.settings.insecure:
            self.log("warning", "there is no secret, and insecure is set: whoever reaches the port can read and change everything")
        elif self.secret is None and not _is_loopback(self._listener.getsockname()[0]):
            self.log("warning", "there is no secret, so clients from other machines are refused: set secret_file, or bind 127.0.0.1")
        directory = self.settings.data_dir
        with suppress(OSError):
            if os.stat(directory).st_mode & stat.S_IWOTH:
                self.log("warning", f"other users can write to the data directory {directory}: run chmod 700 {directory}")

    def die(self, e: BaseException) -> None:
        """Memory is no longer what disk says: end at once, waiting replies unsent."""
        detail = trace_of(e) if isinstance(e, Fatal) else ""
        self.log("error", f"{e} The server ends now; start it again to have exactly what was on disk.", traceback=detail)
        os._exit(EXIT_LOG_FAILED)

    def _woken(self, _events: int) -> None:
        self._wake_read.recv(64)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.log("info", f"{signal.Signals(number).name}: finishing")
        self.shutdown()

    def _on_compact(self, _number: int, _frame: object) -> None:
        self._compaction_wanted = True

    def _open_control(self) -> None:
        """Listen to `flo backup` and `flo compact`."""
        try:
            self._control = Control(
                self.settings.data_dir,
                lambda fd, handler: self.reactor.register(fd, READ, handler),
                self.reactor.unregister,
                {"index": lambda answer: answer(f"index {self.engine.log.committed}"), "compact": self._asked_to_compact},
            )
        except OSError as e:
            self.log("warning", f"the socket CONTROL could not be made: {e}. `flo backup` and `flo compact` cannot ask this server.")

    def _asked_to_compact(self, answer: Answer) -> None:
        self._compaction_asked.append(answer)
        self._compaction_wanted = True

    def shutdown(self) -> None:
        """Finish the turn, sync, stop."""
        if not self.reactor.stopping:
            self.on_stopping()
        self.reactor.stopping = True

    def _close(self) -> None:
        for connection in list(self._connections.values()):
            connection.kill()
        try:
            self.compactor.close()
            if self._control is not None:
                self._control.close()
            self.engine.close()
        except LogFailed as e:
            self.die(e)
        signal.set_wakeup_fd(-1)
        self.reactor.close()
        self._listener.close()
        self._wake_read.close()
        self._wake_write.close()
        os.close(self._reserve)

    # -- the phases of a turn (flo.loop.Phases) ----------------------------------------------------

    def begin(self, now: float) -> None:
        """Read the clocks once for the turn."""
        self.tick_deadline = self.reactor.deadline
        engine = self.engine
        engine.tick()
        ahead = engine.now - now * 1000
        jumped = abs(ahead - self._wall_ahead) > STEP_MS  # a step, or the machine was suspended, which a look tells apart
        self._wall_ahead = ahead
        if now < self._clocks_at and not jumped:
            return
        self._clocks_at = now + CLOCKS_LOOK_SECONDS
        step = self._steps.look(engine.now, engine.steady())
        if step:
            self.counters.clock_steps += 1
            self.log("warning", f"the wall clock was stepped {'forward' if step > 0 else 'back'} by {abs(step) / 1000:.3f} s")

    def upkeep(self, idle: bool) -> bool:
        """A slice of what can wait. A defect in it belongs to no connection that could be closed: the process ends."""
        try:
            if self.compactor.consider(self.engine.now):
                self._compaction_wanted = True
            if self._compaction_wanted:
                self.compactor.give_way()
                if not self.compactor.busy:
                    self._compaction_wanted = False
                    self._compact()
            background = self.engine.background_load
            more = self.engine.upkeep(idle)
            if background is not None and self.engine.background_load is None:
                self.receive_view = memoryview(bytearray(RECEIVE_BYTES))
                self.log("info", f"read the rest of the values, {monotonic() - self._started:.1f} s after the start")
            if self._unloaded and (idle or monotonic() - self._started > LOADED_SECONDS):
                with suppress(OSError):  # not even a descriptor is left: in a later turn
                    self._unloaded = TABLE.step() or HANDLERS.step()
                    more = more or self._unloaded
            return more
        except (LogFailed, Fatal):
            raise
        except Exception as e:
            raise Fatal(f"a defect, in what is done in the background: {e!r}") from e

    def _compact(self) -> None:
        """Compact all there is: somebody wishes it, or the disk is full."""
        self.engine.commit()
        asked, self._compaction_asked = self._compaction_asked, []
        self.compactor.start(self.engine.now, asked=asked, seal=True)

    def serve_together(self, events: list[tuple[int, int]], at: int, /) -> int:
        """Those at rest."""
        return at if self.loading else serve_together(self, self._by_descriptor, events, at)

    def flush_together(self, touched: list[tuple[Connection, bool]], /) -> None:
        """Send what they are owed."""
        flush_together(self, touched)

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call `handler` when `fd` can be read, after the turn's commit (flo.compactor.Watcher)."""
        self.reactor.register(fd, READ, lambda _: self._after_commit.update({handler: None}))  # once, however often a turn looks

    def unwatch(self, fd: int) -> None:
        """Call it no more."""
        self.reactor.unregister(fd)

    def gathers(self) -> bool:
        """A sync takes 40 to 200 us for one request and for fifty: SETs of fifty clients are an eighth faster for waiting until
        nobody is ready any more."""
        log = self.engine.log
        return bool(log.pending) and log.durability == SYNC

    def commit(self) -> int:
        """One write, one sync, however much there is in the turn."""
        self.engine.commit()
        return self.engine.log.next_index - 1

    def committed(self) -> int:
        """The log's word."""
        return self.engine.log.committed

    def next_due(self) -> float | None:
        """Seconds until something expires, DUE_CHECK_SECONDS at most."""
        seconds = self.compactor.next_due()
        due = self.engine.next_due()
        if due is not None:
            soon = min(max(due, 1) / 1000, DUE_CHECK_SECONDS)
            seconds = soon if seconds is None else min(seconds, soon)
        if self.engine.log.owes_claim:  # `upkeep` looks whether it is time
            seconds = CLAIM_SECONDS if seconds is None else min(seconds, CLAIM_SECONDS)
        return seconds

    def end(self, started: float) -> None:
        """Hear what the compactor says, count, and keep what took long."""
        if self._after_commit and not self.engine.log.pending:
            handlers, self._after_commit = self._after_commit, {}
            for handler in handlers:
                try:
                    handler(READ)
                except (LogFailed, Fatal):
                    raise
                except Exception as e:
                    raise Fatal(f"a defect, in what adopts compacted files: {e!r}") from e
        counters = self.counters
        counters.bytes_in += self.bytes_in
        counters.bytes_out += self.bytes_out
        self.bytes_in = self.bytes_out = 0
        took = int((monotonic() - started) * 1000)
        if took >= self.settings.latency_threshold > 0:
            self.latency.append((int(time()), took))
            del self.latency[:-LATENCY_EVENTS_MAX]

    def failed(self, e: Exception, fd: int) -> None:
        """A defect outside of any request's own handling. Where nothing of this turn was appended, the connection it came from
        is closed and the server stays up; otherwise memory and log may no longer agree, and the process ends."""
        if isinstance(e, (LogFailed, Fatal)):
            raise e
        if not self.loading and self.engine.log.pending:
            raise Fatal(f"a defect, with records appended and not committed: {e!r}") from e
        self.log("error", "a defect; its connection was closed", traceback=trace_of(e))
        connection = self._by_descriptor.get(fd)
        if connection is not None:
            connection.kill()

    # -- connections -------------------------------------------------------------------------------

    def _accept(self, _events: int) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno in (errno.EMFILE, errno.ENFILE):
                    self._accept_without_descriptors()
                elif e.errno not in (errno.ECONNABORTED, errno.EINTR, errno.EPROTO):
                    self.log("error", f"a connection could not be accepted: {e}")
                return
            self._welcome(sock, address)

    def _accept_without_descriptors(self) -> None:
        """Give up the reserve descriptor to tell the client why, rather than leave it waiting and the listener ready for ever."""
        os.close(self._reserve)
        try:
            sock, _ = self._listener.accept()
            self.counters.connections_rejected += 1
            _tell_and_close(sock, FULL)
        except OSError:
            # somebody else took the descriptor: look again a little later
            self.reactor.modify(self._listener.fileno(), 0)
            self.reactor.call_later(ACCEPT_PAUSE_SECONDS, lambda: self.reactor.modify(self._listener.fileno(), READ))
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._reserve = os.dup(2)
        self.log("warning", "a connection was refused: the process has no file descriptors left")

    def _welcome(self, sock: socket.socket, address: tuple[str, int]) -> None:
        counters = self.counters
        counters.connections_received += 1
        if len(self._connections) >= self.connection_limit:
            counters.connections_rejected += 1
            _tell_and_close(sock, FULL)
            return
        if self.secret is None and not self.settings.insecure and not _is_loopback(address[0]):
            counters.connections_rejected += 1
            self.log("warning", "refused a client from another machine: there is no secret", peer=address[0])
            _tell_and_close(sock, LOOPBACK_ONLY)
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, PlainTransport(sock), self._next_id, _address_text(address), _address_text(sock.getsockname()))
        self._next_id += 1
        self._connections[connection.id] = connection
        self._by_descriptor[connection.descriptor] = connection
        connection.begin(FirstBytes(self, connection))
        self.reactor.newcomer(connection.descriptor, True)

    def hold_input(self, change: int) -> bool:
        """Count unread input; False where all connections together hold too much."""
        self._input_held += change
        return self._input_held <= self.settings.input_bytes

    def time_out_later(self, connection: Connection) -> None:
        """Check the connection's time every second, until it says that it need not be."""
        self.timed.add(connection)
        self._check_times_later()

    def _check_times_later(self) -> None:
        if self._time_check is None:
            self._times_checked = monotonic()
            self._time_check = self.reactor.call_later(TIME_CHECK_SECONDS, self._check_times)

    def _check_times(self) -> None:
        self._time_check = None
        now = monotonic()
        since = now - self._times_checked
        if since > 2 * TIME_CHECK_SECONDS:  # a slow sync, a machine that stood still: what clients sent meanwhile was not looked at yet
            for connection in self.timed:
                connection.excuse(since, now)
        for connection in tuple(self.timed):  # one that is closed may wake others, and these be timed
            if not connection.check_time(now):
                self.timed.discard(connection)
        if self.timed:
            self._check_times_later()

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        del self._connections[connection.id]
        del self._by_descriptor[connection.descriptor]

    # -- what commands ask (flo.commands.host.Host) ------------------------------------------------

    @property
    def uptime_seconds(self) -> float:
        """Since the server started."""
        return monotonic() - self._started

    @property
    def compacting(self) -> bool:
        """Whether the log is being compacted."""
        return self.compactor.busy

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def known(self, connection: Peer) -> None:
        """A connection has shown its protocol."""
        self.reactor.newcomer(connection.descriptor, False)

    def sessions(self) -> Iterable[Session]:
        """Every connected client that sends requests."""
        return (c.session for c in list(self._connections.values()) if isinstance(c.session, Session))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in a turn that begins so many seconds from now."""
        return self.reactor.call_later(seconds, callback)

    def namespace_deleted(self) -> None:
        """A namespace is gone: sessions that use it must find that out."""
        for session in self.sessions():
            session.note_settings()

    def log(self, level: str, message: str, **details: object) -> None:
        """Tell the operator."""
        self.operator_log.threshold = LEVELS[self.settings.log_level]
        self.operator_log.write(level, message, **details)


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((settings.bind, settings.port))
    except (OSError, OverflowError) as e:
        listener.close()
        raise _cannot_listen(settings, e) from None
    return listener


def _cannot_listen(settings: Settings, e: Exception) -> ConfigError:
    if isinstance(e, OSError) and e.errno == errno.EADDRINUSE:
        return ConfigError(f"port {settings.port} on {settings.bind} is in use by another process; stop it, or choose another --port.")
    return ConfigError(f"cannot listen on {settings.bind} port {settings.port}: {e}.")


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the process's own descriptor limit to `wanted`, as far as it may; returns what it got."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return wanted if soft == unlimited else soft
    target = wanted if hard == unlimited else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    except (OSError, ValueError):
        return soft
    return target


def _tell_and_close(sock: socket.socket, text: bytes) -> None:
    try:
        sock.setblocking(False)
        sock.send(text)
    except OSError:
        pass
    sock.close()


def _is_loopback(host: str) -> bool:
    return host in ("::1", "") or host.startswith(("127.", "::ffff:127."))


def _address_text(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
