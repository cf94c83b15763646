"""The server: listens, accepts, detects each connection's protocol, and does the phases of the reactor's turns.

It is the host of the commands (flo.commands.host.Host) and the owner of the connections (flo.conn.Owner).
"""

import errno
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from flo.commands.binary import HANDLERS
from flo.commands.channels import Channels
from flo.commands.guesses import Guesses
from flo.commands.host import EVERYTHING, LITTLE, READS, Counters, Peer, SlowEntry
from flo.commands.progress import Progress
from flo.commands.protocols import FirstBytes
from flo.commands.resp import TABLE
from flo.commands.runner import Session
from flo.commands.tallies import Tallies
from flo.compactor import Compactor
from flo.config import Settings, read_secrets
from flo.conn import RECEIVE_BYTES, Connection, flush_together, serve_together
from flo.control import CALLERS_MAX, Answer, Control
from flo.engine import Engine, EngineSettings
from flo.engine.background_load import LAZY_FILES_MAX
from flo.engine.clock import STEP_MS, Steps, steady_clock, wall_clock
from flo.errors import ConfigError, Fatal, LogFailed, Refusal, trace_of
from flo.loop import READ, Reactor, Timer
from flo.operator_log import LEVELS, OperatorLog
from flo.transport import PlainTransport
from flo.ual import descriptors
from flo.ual.files import Files
from flo.ual.log import CLAIM_SECONDS, SEALED_OPEN_MAX, SYNC

if TYPE_CHECKING:
    from ssl import SSLContext

    from flo.cluster.member import Cluster
    from flo.commands.stats import Stats
    from flo.endpoint import AddressBook
    from flo.forward import Start
    from flo.loop import Waits

EXIT_LOG_FAILED = 74  # EX_IOERR: the log failed. The next start recovers exactly the durable data
# Linux allows no more by default. When a server restarts, all its clients connect at once; one that finds the backlog full waits a second
BACKLOG = 4096
ACCEPTS_PER_TURN = 64
LAZY_RECEIVE_BYTES = 4 << 10  # received from a connection at once while keys may be on disk, where a look takes 10 us
# 3 standard streams, the operator's log, the service manager, flo.pyz, the listener, the poller, the reserve, 2 to be woken, CONTROL, 2
# locks, the open segment, the next one, 1 for a roll
DESCRIPTORS_LASTING = 17
DESCRIPTORS_PASSING = 7  # needed for a moment: the pipes of a new process, a base to be adopted, a module, or a client to be refused
DESCRIPTORS_OWN = DESCRIPTORS_LASTING + CALLERS_MAX + DESCRIPTORS_PASSING
DESCRIPTORS_MIN = 2 * DESCRIPTORS_OWN  # at this limit the log's files may take 24 (flo.ual.descriptors), and 8 are left for clients
TIME_CHECK_SECONDS = 1.0
LOG_CHECK_SECONDS = 0.5  # until lines that wait to be logged are tried again
DUE_CHECK_SECONDS = 1.0  # the longest poll while anything is due by the wall clock, which may be stepped forward during a poll
CLOCKS_LOOK_SECONDS = 0.05  # how often the wall clock is compared with the steady one: that takes 0.5 us of a turn
UPKEEP_SECONDS = 0.001  # between two upkeeps, if nothing was written
LOADED_SECONDS = 1.0  # after a start: from then on a busy server imports its handlers too, because an installed package may be replaced
LOADING_SECONDS = 1.0  # a start that takes longer accepts clients meanwhile
SERVE_ASIDE_SECONDS = 0.05  # how often such a start serves its clients
LATENCY_EVENTS_MAX = 160  # Redis keeps as many
ACCEPT_PAUSE_SECONDS = 0.1  # until accepting is tried again if even the reserve descriptor did not help
LOOPBACK_ONLY = (
    b"-DENIED this Flo has no secret, so it serves clients on its own machine only. Set server.secret_file, or server.insecure "
    b"= true if the network is trusted.\r\n"
)
FULL = b"-ERR max number of clients reached\r\n"


class Server:
    """One server, one directory, one port."""

    _addresses: "AddressBook | None" = None  # of leaders, once a connection was passed on

    secret: bytes | None
    read_secret: bytes | None
    descriptor_limit: int  # how many file descriptors the process may open
    connection_limit: int  # … and how many of them clients may take

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

        If recovery takes longer than LOADING_SECONDS, clients are accepted meanwhile and told so, and `on_progress(bytes of the log
        read, bytes in all, seconds left)` is called. `listener`, if given, is a bound socket to listen on. `clock` and `steady` are for
        the engine."""
        TABLE.step()
        self.settings = settings
        self.operator_log = operator_log
        self.secret, self.read_secret = read_secrets(settings)
        self.tls = _tls_context(settings)
        self.guesses: Guesses = Guesses()
        self.counters: Counters = Counters()
        self.tallies: Tallies = Tallies()
        self.monitors: set[Peer] = set()
        self.channels: Channels = Channels()
        self.scripts: dict[bytes, Callable[[Any, list[bytes], list[bytes]], Any]] = {}
        self.slow: list[SlowEntry] = []
        self.slow_count = 0
        self.stats: Stats | None = None
        self.latency: list[tuple[int, int]] = []
        self.run_id: str = os.urandom(20).hex()
        self.loading: bool = False
        self.cluster: Cluster | None = None  # and while the log is read
        self.serves: int = EVERYTHING
        self.progress: Progress = Progress()
        self._on_progress = on_progress
        # monotonic; the last time that clients were served while loading, or the first time to do so
        self._served_at = self.progress.began + LOADING_SECONDS
        self.waiting = 0
        self.inflating = False
        self.tick_deadline: float = 0.0
        self._handlers_missing = True  # some are not imported yet
        self.receive_view: memoryview = memoryview(bytearray(RECEIVE_BYTES))
        self.output_limit: int = settings.output_bytes
        self.input_limit: int = settings.connection_input_bytes
        self.header_seconds: float = settings.header_timeout / 1000
        self.stall_seconds: float = settings.stall_timeout / 1000
        self.bytes_in: int = 0
        self.bytes_out: int = 0
        self.push_limit_disconnections: int = 0
        self._input_held = 0
        self._connections: dict[int, Connection] = {}  # by their ids
        self._by_descriptor: dict[int, Connection] = {}
        self.timed: set[Connection] = set()
        self._time_check: Timer | None = None
        self._log_timer: Timer | None = None
        self._times_checked = 0.0  # monotonic; the last time that these were checked
        self._next_id = 1
        self._started = monotonic()
        self.environment: Mapping[str, str] = os.environ  # with which the process starts again
        self._stopped_by = ""  # a signal's name
        self._leaving = False  # a leader gives the lead to another before it stops
        self._listening = False
        self.descriptor_limit, self.connection_limit = _share_descriptors(settings.max_connections)
        self.on_stopping: Callable[[], None] = lambda: None  # called once, when the server begins to stop
        self._listener = listener or _bind(settings)
        self.port: int = self._listener.getsockname()[1]
        self.reactor: Reactor = Reactor(self)
        self.waits: Waits = self.reactor.waits
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.engine: Engine = self._open_engine(clock, steady)
            self.cluster = self._join()
            if self.cluster is None:
                self._create_databases()
        except BaseException:
            for connection in list(self._connections.values()):
                connection.kill()
            self.reactor.close()
            self._listener.close()
            self._close_reserve()
            raise
        self.loading = False
        self._steps = Steps(self.engine.now, steady())
        ahead = self.engine.clock_ahead
        if ahead > STEP_MS:
            self.log("warning", f"the wall clock is {ahead / 1000:.3f} s behind the last write's time: it was ahead then, or is wrong now")
        if self.engine.background_load is not None:
            self.receive_view = self.receive_view[:LAZY_RECEIVE_BYTES]
        self.compactor: Compactor = Compactor(self.engine.log, settings, self, self.log)
        self._clocks_at = 0.0  # monotonic; the next comparison of the clocks
        self._wall_ahead = 0.0  # ms that the wall clock is ahead of the monotonic clock
        self._compaction_asked: list[Answer] = []
        self._compaction_wanted = self._reload_wanted = False
        self._began = self._upkept = 0.0  # monotonic: when this turn began, and when the one with the last upkeep did
        self._upkept_index, self._more_upkeep = 0, True  # then: the log's next index, and whether there was more to do
        self._control: Control | None = None
        self._after_commit: dict[Callable[[int], None], None] = {}
        self._wake_read, self._wake_write = socket.socketpair()
        for end in (self._wake_read, self._wake_write):
            end.setblocking(False)

    def _open_engine(self, clock: Callable[[], int], steady: Callable[[], int]) -> Engine:
        settings = self.settings
        if settings.cluster_etcd:
            from flo.cluster.fetch import put_in_place

            if put_in_place(Files(), settings.data_dir):
                self.log("info", f"put the copy of another member's log in the place of {settings.data_dir}")
        return Engine(
            settings.data_dir,
            _engine_settings(settings),
            manual=True,
            on_notice=self._notice,
            on_progress=self._load_on,
            clock=clock,
            steady=steady,
            lazy=True,
            replicated=bool(settings.cluster_etcd),
        )

    def _join(self) -> "Cluster | None":
        """Become a member of the cluster that the settings name; None where they name none. Raises `ConfigError`."""
        if not self.settings.cluster_etcd:
            return None
        from flo.cluster.member import Cluster, check

        check(self.settings)
        self.serves = LITTLE
        return Cluster(self, self.reactor)

    def _create_databases(self) -> None:
        """Create the missing namespaces of resp.databases. If one cannot be created, close the engine and raise `ConfigError`."""
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
        """Note that `done` of `total` bytes of the log are read. If the start takes long, serve the clients, who are told so."""
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
        except OSError as e:  # another process began to listen on the port during recovery
            raise _cannot_listen(self.settings, e) from None
        self.reactor.register(self._listener.fileno(), READ, self._accept)
        self.reactor.low_priority(self._listener.fileno(), True)
        self._listening = True

    # -- running -----------------------------------------------------------------------------------

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM, SIGINT or SHUTDOWN; then sync and close. `ready` is called once connections are accepted.

        Raises `ConfigError` if another process has taken the port meanwhile.
        Does not return if the log fails: the process ends at once with status 74, without sending the waiting replies.
        """
        import gc

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, self._on_compact)
        if self.tls is not None or not os.isatty(0):  # else a server ends with its terminal, as other programs do
            signal.signal(signal.SIGHUP, self._on_reload)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        self.reactor.register(self._wake_read.fileno(), READ, self._woken)
        self._open_control()
        if not self._listening:
            try:
                self._listen()
            except ConfigError:
                self._close()
                raise
        # Recovered objects are never garbage, and serving makes no cycles (tests/server/test_hostile.py checks it):
        # a collection would only delay all clients.
        gc.collect()
        gc.freeze()
        gc.disable()
        ready()
        self._warn_of_what_is_open()
        try:
            self.reactor.run()
        except (LogFailed, Fatal) as e:
            self.die(e)
        if self._stopped_by:
            self.log("info", f"{self._stopped_by}: finishing")
        self._close()
        self.log("info", "stopped; everything is on disk" if self.settings.durability != "ephemeral" else "stopped")
        self.operator_log.finish()

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
        """End the process at once, without sending the waiting replies: memory and disk no longer agree."""
        detail = trace_of(e) if isinstance(e, Fatal) else ""
        self.log(
            "error", f"{str(e).rstrip('.')}. The server ends now; start it again to recover exactly the data on disk.", traceback=detail
        )
        self.operator_log.finish()
        os._exit(EXIT_LOG_FAILED)

    def start_again(self) -> None:
        """Replace the process by a new one of the same command, without sending the waiting replies: this member of a cluster is deposed,
        and what it has in memory is ahead of the log."""
        self.log("warning", "starting again as a follower")
        self.operator_log.finish()
        if self.environment.get("LISTEN_PID") == str(os.getpid()):
            os.set_inheritable(self._listener.fileno(), True)  # the service manager's: it listens for this process
        try:
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], self.environment)
        except OSError as e:
            self.die(LogFailed(f"the process cannot be started again: {sys.executable}: {e}"))

    def _woken(self, _events: int) -> None:
        self._wake_read.recv(64)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stopped_by = signal.Signals(number).name  # logged later: this may be called while a line is written
        self.shutdown()

    def _on_compact(self, _number: int, _frame: object) -> None:
        self._compaction_wanted = True

    def _on_reload(self, _number: int, _frame: object) -> None:
        self._reload_wanted = True

    def _reload(self) -> None:
        """Read the certificate again. Connections that are there go on with the old one."""
        self._reload_wanted = False
        if self.tls is None:
            self.log("info", "SIGHUP: there is no certificate to be read again")
            return
        try:
            self.tls = _tls_context(self.settings)
        except ConfigError as e:
            self.log("error", f"SIGHUP: {e} The certificate that was read before is used on.")
        else:
            self.log("info", f"SIGHUP: read the certificate {self.settings.tls_cert_file} again")

    def _open_control(self) -> None:
        """Listen for `flo backup` and `flo compact`."""
        try:
            self._control = Control(
                self.settings.data_dir,
                lambda fd, handler: self.reactor.register(fd, READ, handler),
                self.reactor.unregister,
                self._pause,
                {"index": lambda answer: answer(f"index {self.engine.log.committed}"), "compact": self._asked_to_compact},
            )
        except OSError as e:
            self.log("warning", f"the socket CONTROL could not be made: {e}. `flo backup` and `flo compact` cannot ask this server.")

    def _asked_to_compact(self, answer: Answer) -> None:
        self._compaction_asked.append(answer)
        self._compaction_wanted = True

    def shutdown(self) -> None:
        """Finish the turn, sync, stop."""
        if self.reactor.stopping or self._leaving:
            return
        self.on_stopping()
        if self.cluster is None:
            self.reactor.stopping = True
        else:
            self._leaving = True
            self.cluster.stop(self._stop_now)

    def _stop_now(self) -> None:
        self.reactor.stopping = True

    def _close(self) -> None:
        for connection in list(self._connections.values()):
            connection.kill()
        if self.cluster is not None:
            self.cluster.close()
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
        self._close_reserve()

    # -- the phases of a turn (flo.loop.Phases) ----------------------------------------------------

    def begin(self, now: float) -> None:
        """Read the clocks once for the turn."""
        self.tick_deadline = self.reactor.deadline
        self._began = now
        engine = self.engine
        engine.tick()
        if self.cluster is not None:
            self._note_role()
        ahead = engine.now - now * 1000
        if engine.following:
            return  # the wall clock is the leader's
        jumped = abs(ahead - self._wall_ahead) > STEP_MS  # the clock was stepped, or the machine suspended: `Steps.look` tells which
        self._wall_ahead = ahead
        if now < self._clocks_at and not jumped:
            return
        self._clocks_at = now + CLOCKS_LOOK_SECONDS
        step = self._steps.look(engine.now, engine.steady())
        if step:
            self.counters.clock_steps += 1
            self.log("warning", f"the wall clock was stepped {'forward' if step > 0 else 'back'} by {abs(step) / 1000:.3f} s")

    def _note_role(self) -> None:
        """Serve what this member's role allows."""
        assert self.cluster is not None
        self.engine.leader = self.cluster.leader
        serves = EVERYTHING if self.cluster.leads and not self._leaving else READS if self.cluster.reads_are_fresh else LITTLE
        if serves != self.serves:
            self.serves = serves
            if serves == EVERYTHING:
                self._create_databases()

    def extend(self, deadline: float) -> None:
        """See `Phases`."""
        self.tick_deadline = deadline

    def upkeep(self, idle: bool) -> bool:
        """Do a slice of background work; returns whether there is more. A defect in it ends the process: it belongs to no connection that
        could be closed. What is due is due by the ms, so turns within one that write nothing leave it out: of a lone read's turn it is a
        tenth."""
        wanted = idle or self._more_upkeep or self._compaction_wanted or self._reload_wanted or self.channels.waiting
        index = self.engine.log.next_index
        if not wanted and index == self._upkept_index and self._began < self._upkept + UPKEEP_SECONDS:
            return False
        self._upkept, self._upkept_index = self._began, index
        self._more_upkeep = self._upkeep(idle)
        return self._more_upkeep

    def _upkeep(self, idle: bool) -> bool:
        try:
            if self.compactor.consider(self.engine.now):
                self._compaction_wanted = True
            if self._reload_wanted:
                self._reload()
            if self._compaction_wanted:
                self.compactor.give_way()
                if not self.compactor.busy:
                    self._compaction_wanted = False
                    self._compact()
            background = self.engine.background_load
            more = self.engine.upkeep(idle)
            if self.channels.waiting:
                more = self.channels.deliver() or more
            if background is not None and self.engine.background_load is None:
                self.receive_view = memoryview(bytearray(RECEIVE_BYTES))
                self.log("info", f"read the rest of the values, {monotonic() - self._started:.1f} s after the start")
            if self._handlers_missing and (idle or monotonic() - self._started > LOADED_SECONDS):
                with suppress(OSError):  # no descriptor is left to read a module: a later turn tries again
                    self._handlers_missing = TABLE.step() or HANDLERS.step()
                    more = more or self._handlers_missing
            return more
        except (LogFailed, Fatal):
            raise
        except Exception as e:
            raise Fatal(f"a defect in the background work: {e!r}") from e

    def _compact(self) -> None:
        """Compact the whole log, on request or because the disk is full."""
        self.engine.commit()
        asked, self._compaction_asked = self._compaction_asked, []
        self.compactor.start(self.engine.now, asked=asked, seal=True)

    def serve_together(self, events: list[tuple[int, int]], at: int, /) -> int:
        """Serve the connections at rest that are ready; see flo.conn. While the log is being read, each connection is served alone."""
        return at if self.loading else serve_together(self, self._by_descriptor, events, at)

    def flush_together(self, touched: list[tuple[Connection, bool]], /) -> None:
        """Send the replies of the connections that the turn has touched."""
        flush_together(self, touched)

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call `handler` when `fd` can be read, after the turn's commit (flo.compactor.Watcher)."""
        self.reactor.register(fd, READ, lambda _: self._after_commit.update({handler: None}))  # once a turn, even if it polls often

    def unwatch(self, fd: int) -> None:
        """Stop calling the handler."""
        self.reactor.unregister(fd)

    def gathers(self) -> bool:
        """Whether the turn should poll again before it commits. A sync takes 40 to 200 us, for one request or for fifty: SETs of fifty
        clients are an eighth faster if the turn polls until no client is ready."""
        log = self.engine.log
        return bool(log.pending) and log.durability == SYNC

    def commit(self) -> int:
        """Commit all of the turn with one write and one sync; returns the last index."""
        self.engine.commit()
        return self.engine.log.next_index - 1

    def committed(self) -> int:
        """The last index that the log has committed."""
        return self.engine.log.committed if self.cluster is None else self.cluster.committed()

    def next_due(self) -> float | None:
        """Seconds until the server must act by itself; None for never. A wall-clock deadline is checked every DUE_CHECK_SECONDS."""
        seconds = self.compactor.next_due()
        due = self.engine.next_due()
        if due is not None:
            soon = min(max(due, 1) / 1000, DUE_CHECK_SECONDS)
            seconds = soon if seconds is None else min(seconds, soon)
        if self.engine.log.owes_claim:  # `upkeep` checks whether it is time
            seconds = CLAIM_SECONDS if seconds is None else min(seconds, CLAIM_SECONDS)
        return seconds

    def end(self, started: float) -> None:
        """Handle the compacting process's messages, add to the counts, and note a slow turn for LATENCY."""
        if self._after_commit and self.engine.log.may_be_replaced:
            handlers, self._after_commit = self._after_commit, {}
            for handler in handlers:
                try:
                    handler(READ)
                except (LogFailed, Fatal):
                    raise
                except Exception as e:
                    raise Fatal(f"a defect in the adoption of compacted files: {e!r}") from e
        counters = self.counters
        counters.bytes_in += self.bytes_in
        counters.bytes_out += self.bytes_out
        counters.push_limit_disconnections += self.push_limit_disconnections
        self.bytes_in = self.bytes_out = self.push_limit_disconnections = 0
        took = int((monotonic() - started) * 1000)
        if took >= self.settings.latency_threshold > 0:
            self.latency.append((int(time()), took))
            del self.latency[:-LATENCY_EVENTS_MAX]

    def failed(self, e: Exception, fd: int) -> None:
        """Handle a defect outside of a request. If this turn has appended nothing, close the connection that caused the defect. Otherwise
        the process ends, because memory and log may no longer agree."""
        if isinstance(e, (LogFailed, Fatal)):
            raise e
        if not self.loading and self.engine.log.pending:
            raise Fatal(f"a defect while records were appended and not committed: {e!r}") from e
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
        """Use the reserve descriptor to tell the client why. Without this the client would wait, and the listener be ready, for ever."""
        self._close_reserve()
        try:
            sock, _ = self._listener.accept()
            self.counters.connections_rejected += 1
            _tell_and_close(sock, FULL)
        except OSError:
            self._pause(self._listener.fileno())  # another process took the descriptor
        with suppress(OSError):  # the next time without one, the client waits
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.log("warning", "a connection was refused: the process has no file descriptors left")

    def _pause(self, fd: int) -> None:
        """Try to accept from a listener again a little later: it stays ready, and the server would do nothing else."""
        self.reactor.modify(fd, 0)
        self.reactor.call_later(ACCEPT_PAUSE_SECONDS, lambda: self.reactor.modify(fd, READ))

    def _close_reserve(self) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1

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
        connection = Connection(self, PlainTransport(sock), self._next_id, address_text(address), address_text(sock.getsockname()))
        self._next_id += 1
        self._connections[connection.id] = connection
        self._by_descriptor[connection.descriptor] = connection
        connection.begin(FirstBytes(self, connection))
        self.reactor.low_priority(connection.descriptor, True)

    def hold_input(self, change: int) -> bool:
        """Add `change` to the unread input of all connections; False if it exceeds limits.input_bytes."""
        self._input_held += change
        return self._input_held <= self.settings.input_bytes

    def time_out_later(self, connection: Connection) -> None:
        """Check the connection's time limits every second, until `Connection.check_time` returns False."""
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
        if since > 2 * TIME_CHECK_SECONDS:  # a slow sync, or a suspended machine: the clients' input of this time is not read yet
            for connection in self.timed:
                connection.excuse(since, now)
        for connection in tuple(self.timed):  # one that is closed may wake others, and these be timed
            if not connection.check_time(now):
                self.timed.discard(connection)
        if self.timed:
            self._check_times_later()

    def forget(self, connection: Connection) -> None:
        """Remove a closed connection."""
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
    def compactions(self) -> int:
        """How many passes of compaction were completed since the start."""
        return self.compactor.passes

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def known(self, connection: Peer) -> None:
        """The connection has shown its protocol, and given the secret if there is one: it is no newcomer any more."""
        self.reactor.low_priority(connection.descriptor, False)

    def set_slow(self, connection: Peer, slow: bool) -> None:
        """The connection's requests take long, or no longer do: others are served first."""
        self.reactor.low_priority(connection.descriptor, slow)

    def sessions(self) -> Iterable[Session]:
        """Every connected client that sends requests."""
        return (c.session for c in list(self._connections.values()) if isinstance(c.session, Session))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in a turn that begins `seconds` from now or later."""
        return self.reactor.call_later(seconds, callback)

    def namespace_deleted(self) -> None:
        """Tell all sessions that a namespace is deleted: they may use it."""
        for session in self.sessions():
            session.note_settings()

    def forward(self, peer: Peer, start: "Start") -> bool:
        """Let a connection go on at the leader of the cluster; returns whether that is begun."""
        from flo.endpoint import AddressBook, Endpoint  # not at every start: few servers have a leader
        from flo.forward import Forwarded

        self._addresses = self._addresses or AddressBook()
        host, _, port = self.engine.leader.rpartition(":")
        try:
            leader = self._addresses.find(Endpoint(host.strip("[]"), int(port), False))
            peer.session = Forwarded(self.reactor, peer, leader, start)
        except (OSError, ValueError):
            return False
        return True

    def log(self, level: str, message: str, **details: object) -> None:
        """Write a line to the operator's log."""
        self.operator_log.threshold = LEVELS[self.settings.log_level]
        self.operator_log.write(level, message, **details)
        self._log_later()

    def _log_later(self) -> None:
        """Call `OperatorLog.catch_up` as long as there is something to write."""
        if self._log_timer is None and self.operator_log.waiting:
            self._log_timer = self.reactor.call_later(LOG_CHECK_SECONDS, self._catch_up)

    def _catch_up(self) -> None:
        self._log_timer = None
        self.operator_log.catch_up()
        self._log_later()


def _tls_context(settings: Settings) -> "SSLContext | None":
    """What TLS is served with; None where no certificate is configured. Raises `ConfigError`."""
    if settings.tls_cert_file:
        from flo.tls import server_context  # not at every start: `ssl` takes 20 ms

        return server_context(settings)
    if settings.tls_only or settings.tls_key_file or settings.tls_client_ca_file:
        raise ConfigError("tls.only, tls.key_file or tls.client_ca_file is set and tls.cert_file is not: name the certificate's file.")
    return None


def _share_descriptors(connections_max: int) -> tuple[int, int]:
    """(how many file descriptors the process may open, how many of them clients may take). Clients past the second number are refused, so
    that the log keeps its own. Raises `ConfigError` if there are too few."""
    limit = descriptors.raise_limit(connections_max + DESCRIPTORS_OWN + 2 * SEALED_OPEN_MAX + LAZY_FILES_MAX)
    if limit < DESCRIPTORS_MIN:
        raise ConfigError(
            f"only {limit} file descriptors may be open, and a server needs {DESCRIPTORS_MIN}: raise the limit with ulimit -n, or with "
            "LimitNOFILE= of the service."
        )
    log_files = 2 * descriptors.share(SEALED_OPEN_MAX) + descriptors.share(LAZY_FILES_MAX)
    return limit, min(connections_max, limit - DESCRIPTORS_OWN - log_files)


def _engine_settings(settings: Settings) -> EngineSettings:
    return EngineSettings(
        settings.durability,
        settings.history_depth,
        settings.history_age,
        settings.actions_keep_age,
        settings.actions_keep_runs,
        settings.max_memory,
        settings.segment_bytes,
    )


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


def _tell_and_close(sock: socket.socket, text: bytes) -> None:
    try:
        sock.setblocking(False)
        sock.send(text)
    except OSError:
        pass
    sock.close()


def _is_loopback(host: str) -> bool:
    return host in ("::1", "") or host.startswith(("127.", "::ffff:127."))


def address_text(address: tuple[str, int]) -> str:
    """An address as it is written: 127.0.0.1:9000, [::1]:9000."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
