"""`flo.Client`: a blocking client of the binary protocol. It connects when needed, with one connection for each thread that has a request
under way: a thread that waits for a message delays no other.

    with flo.Client("flo://127.0.0.1:9000/orders") as client:
        version = client.kv.put("order:1", b"new")
        client.kv.cas("order:1", b"paid", version)

This module moves the bytes. A refusal is raised as its class in flo.errors. If the connection fails or the time is up, `Disconnected` or
`TimedOut` is raised and the connection is closed; the next call makes a new one.

A call is one `send` and one `recv`: the socket blocks, and the kernel knows its timeout (SO_RCVTIMEO). Only if that was not enough does the
connection poll, to send and receive at the same time.
"""

import select
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flo import forks
from flo.client.exchange import LARGE_RECEIVE_BYTES, RECEIVE_BYTES, Exchange
from flo.client.iterators import (
    ActionMethods,
    KeyMethods,
    QueueMethods,
    ScheduleMethods,
    StreamMethods,
    TimeSeriesMethods,
    WorkerMethods,
)
from flo.client.retry import LEADERS_MAX, RETRIED, Attempts, to_lead
from flo.client.settings import DEFAULT_URL, Settings, seconds
from flo.errors import Disconnected, FloError, Refusal, TimedOut
from flo.given import Text, ranged, told
from flo.operations.call import Call
from flo.operations.method import Blocking
from flo.operations.system import ClusterOperations, NamespaceOperations, ServerOperations
from flo.proto.binary import FramingLost, Response

if TYPE_CHECKING:
    from flo.client.tls import Tls

T = TypeVar("T")
SEND_BYTES = 1 << 20  # passed to the kernel at once, before reading answers
CONNECTIONS_MAX = 10_000
POLL_SECONDS_MAX = 3600.0  # one poll; the kernel takes 24 days at most
DONTWAIT = socket.MSG_DONTWAIT
REST_SECONDS = 1.0  # a connection that was used this recently is used again without a look whether the server has closed it
TIMEVAL = struct.Struct("ll")  # seconds, us: what SO_RCVTIMEO takes
CLOSED = "the client was closed by another thread while this one waited for an answer"


class KeyCalls(KeyMethods, Blocking):
    __doc__ = KeyMethods.__doc__


class QueueCalls(QueueMethods, Blocking):
    __doc__ = QueueMethods.__doc__


class StreamCalls(StreamMethods, Blocking):
    __doc__ = StreamMethods.__doc__


class TimeSeriesCalls(TimeSeriesMethods, Blocking):
    __doc__ = TimeSeriesMethods.__doc__


class ActionCalls(ActionMethods, Blocking):
    __doc__ = ActionMethods.__doc__


class WorkerCalls(WorkerMethods, Blocking):
    __doc__ = WorkerMethods.__doc__


class ScheduleCalls(ScheduleMethods, Blocking):
    __doc__ = ScheduleMethods.__doc__


class NamespaceCalls(NamespaceOperations, Blocking):
    __doc__ = NamespaceOperations.__doc__


class ClusterCalls(ClusterOperations, Blocking):
    __doc__ = ClusterOperations.__doc__


class Client(Settings, Blocking):
    """A client of a server, in one namespace. `client.kv`, `.queues`, `.streams`, `.ts`, `.actions`, `.workers`, `.schedules`,
    `.namespaces` and `.cluster` have the operations. Several threads may use one client. A forked child must open its own: its parent's
    client raises `Forked`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        namespace: Text | None = None,
        secret: Text | None = None,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        pool_timeout: float = 5.0,
        max_connections: int = 16,
        retries: int | None = None,
        compress: bool = False,
    ) -> None:
        """`namespace` and `secret` win over the URL's. `timeout`, in seconds, bounds each call (a call that waits gets it in addition to
        its wait). A call that finds `max_connections` in use waits up to `pool_timeout` for one. A call is sent again up to `retries` times
        where that is safe: 3, or 10 if the URL names the members of a cluster. `compress` sends large values and accepts large answers
        zlib-compressed. Raises `BadRequest` for a wrong URL or timeout, `TypeError`."""
        super().__init__(url, namespace, secret, connect_timeout, timeout, retries, compress)
        self.pool_timeout: float = seconds(pool_timeout, "pool_timeout")
        self.max_connections: int = ranged(max_connections, "max_connections", 1, CONNECTIONS_MAX)
        self._idle: list[_Connection] = []  # the connection used last is at the end, and is used next. Its pop and append are atomic
        self._changed = threading.Condition()  # its lock guards the next two; never held while sending or receiving
        self._every: set[_Connection] = set()
        self._waiting = 0  # threads that wait for a connection
        self.kv: Final = KeyCalls(self)
        self.queues: Final = QueueCalls(self)
        self.streams: Final = StreamCalls(self)
        self.ts: Final = TimeSeriesCalls(self)
        self.actions: Final = ActionCalls(self)
        self.workers: Final = WorkerCalls(self)
        self.schedules: Final = ScheduleCalls(self)
        self.namespaces: Final = NamespaceCalls(self)
        self.cluster: Final = ClusterCalls(self)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Calls that other threads wait for end with `Disconnected`. The client may be used again."""
        if forks.process() != self._process:
            return  # a thread of the parent may have held the lock at the fork, and the sockets are the parent's
        with self._changed:
            every, self._every = self._every, set()
            self._changed.notify_all()
        self._drop_idle()
        for connection in every:
            connection.end()

    # -- running calls -----------------------------------------------------------------------------

    def run(self, call: Call[T]) -> T:
        """Send one request and wait for its result. Raises a `Refusal`, `Disconnected` or `TimedOut`."""
        try:
            return self._attempt(call)
        except RETRIED as e:
            error: FloError = e
        attempts = Attempts(self, (call,))
        while True:
            sleep(attempts.pause(error))
            try:
                result = self._attempt(call)
            except RETRIED as e:
                error = e
            except Refusal as e:
                attempts.settle(call, e)
                raise
            else:
                attempts.settle(call, result)
                return result

    _run = run

    def run_many(self, many: Sequence[Call[Any]]) -> list[Any]:
        """Send all requests at once and wait for every answer: one round trip. The results are in the order of the calls; the result of
        a refused call is its `Refusal`, which is not raised. Raises `Disconnected` or `TimedOut`."""
        for call in many:
            if not isinstance(call, Call):
                raise TypeError(f"a call {told(call, 'call')}; give calls of flo.calls, such as kv_get('key')")
        results = self._run_all(many)
        for _ in range(LEADERS_MAX):
            places = to_lead(self, results)
            if not places:
                break
            again = self._run_all([many[place] for place in places])
            for place, result in zip(places, again, strict=True):
                results[place] = result
        return results

    def _run_all(self, many: Sequence[Call[Any]]) -> list[Any]:
        if not many:
            return []
        attempts: Attempts | None = None
        while True:
            try:
                return self._attempt_many(many)
            except Disconnected as e:
                attempts = attempts or Attempts(self, many)
                sleep(attempts.pause(e))

    def connect(self) -> None:
        """Connect now rather than with the first call, and send the secret. Raises `Disconnected`, `Unauthorized`."""
        connection = self._take()
        try:
            connection.connect()
        finally:
            self._give_back(connection)

    ping: Final = ServerOperations.ping
    status: Final = ClusterOperations.status
    stats: Final = ServerOperations.stats
    view: Final = ServerOperations.view

    def _attempt(self, call: Call[T]) -> T:
        connection = self._take()
        try:
            result = self.result(call, connection.ask(call))
        except Refusal:
            self._give_back(connection)
            raise
        except BaseException as e:
            self._failed(connection, e)
            raise
        self._give_back(connection)
        return result

    def _attempt_many(self, many: Sequence[Call[Any]]) -> list[Any]:
        connection = self._take()
        try:
            results = [self._outcome(call, response) for call, response in zip(many, connection.ask_many(many), strict=True)]
        except Refusal:
            self._give_back(connection)
            raise
        except BaseException as e:
            self._failed(connection, e)
            raise
        self._give_back(connection)
        return results

    # -- the pool ----------------------------------------------------------------------------------

    def _take(self) -> "_Connection":
        """A connection that no other thread uses meanwhile. Raises `Forked`, `TimedOut`."""
        if forks.process() != self._process:
            raise forks.refuse("client", self._process, "open your own flo.Client in this process.")
        now = monotonic()
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._wait_for_one()
            if now - connection.used < REST_SECONDS or connection.is_usable():
                connection.used = now
                return connection
            self._remove(connection)

    def _wait_for_one(self) -> "_Connection":
        """A new connection, or, if there are as many as there may be, the next that is given back."""
        with self._changed:
            self._waiting += 1
            try:
                until = monotonic() + self.pool_timeout
                while len(self._every) >= self.max_connections:
                    try:
                        return self._idle.pop()
                    except IndexError:
                        pass
                    if not self._changed.wait(max(until - monotonic(), 0)) and monotonic() >= until:
                        raise TimedOut(
                            f"all {self.max_connections} connections of this client were in use for {self.pool_timeout:g} s; "
                            "use fewer threads, or raise max_connections"
                        )
                connection = _Connection(self)
                self._every.add(connection)
                return connection
            finally:
                self._waiting -= 1

    def _give_back(self, connection: "_Connection") -> None:
        if not connection.is_open or connection.ended:
            self._remove(connection)
            return
        self._idle.append(connection)
        if self._waiting:
            with self._changed:
                self._changed.notify()

    def _failed(self, connection: "_Connection", error: BaseException) -> None:
        self._remove(connection)
        if isinstance(error, Disconnected) and not isinstance(error, TimedOut):
            self._drop_idle()  # they go to the same server, which may have been restarted

    def _remove(self, connection: "_Connection") -> None:
        connection.close()
        with self._changed:
            self._every.discard(connection)
            self._changed.notify()

    def _drop_idle(self) -> None:
        while self._idle:
            try:
                self._remove(self._idle.pop())
            except IndexError:
                return

    def turn_to(self, place: tuple[str, int] | None) -> None:
        """Go to this place, from the next call on."""
        super().turn_to(place)
        self._drop_idle()


class _Connection:
    """One connection of a client, made when first needed. One thread uses it at a time."""

    __slots__ = ("_client", "_exchange", "_seconds", "_sock", "_tls", "ended", "used")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sock: socket.socket | None = None
        self._tls: Tls | None = None
        self._exchange: Exchange[int] = Exchange("", 0, False)
        self._seconds: float | None = None  # the socket's timeout
        self.ended = False  # set by another thread
        self.used = monotonic()  # the beginning of the last call

    @property
    def is_open(self) -> bool:
        """Whether there is a connection to the server."""
        return self._sock is not None

    def is_usable(self) -> bool:
        """Whether the server has not closed the connection, and said nothing that was not asked."""
        if self.ended or self._sock is None:
            return not self.ended
        try:
            self._sock.recv(1, socket.MSG_PEEK | DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Close the connection."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def end(self) -> None:
        """Shut the connection down: the thread that uses it finds it lost and closes it."""
        self.ended = True
        sock = self._sock
        if sock is not None:
            with suppress(OSError):  # it is closed, or being closed
                sock.shutdown(socket.SHUT_RDWR)

    # -- requests ----------------------------------------------------------------------------------

    def ask(self, call: Call[Any]) -> Response:
        """The response to one request. Raises `Disconnected`, `TimedOut`, `BadRequest`."""
        if self._sock is None:
            self.connect()
        data = self._exchange.request(call, 0)
        seconds = self._client.timeout if call.waits is None else self._client.time_for((call,))
        return self._move(data, 1, seconds)[0][1]

    def ask_many(self, many: Sequence[Call[Any]]) -> list[Response]:
        """The responses to many requests, in their order. Raises as `ask` does."""
        if self._sock is None:
            self.connect()
        data = self._exchange.requests(many, range(len(many)))
        found = self._move(data, len(many), self._client.time_for(many))
        found.sort(key=_token)
        return [response for _, response in found]

    def connect(self) -> None:
        """Connect if not connected, and send the secret. Raises `CannotConnect`, `Unauthorized`."""
        if self._sock is not None:
            return
        client = self._client
        host, port = client.place
        try:
            sock = socket.create_connection((host, port), client.connect_timeout)
        except (OSError, UnicodeError) as e:
            raise client.cannot_connect((host, port), f": {e}") from None
        if sock.getsockname() == sock.getpeername():
            # if no server listens and the kernel chooses the same port for our end, TCP connects the socket to itself
            sock.close()
            raise client.cannot_connect((host, port), ": no server listens there")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock, self._tls, self._seconds = sock, None, None
        self._exchange = Exchange(client.where, client.hash, client.compress)
        try:
            if client._tls is not None:
                self._shake_hands(sock, (host, port))
            sock.settimeout(None)
            if self.ended:
                raise Disconnected("the client was closed by another thread while this one connected")
            if client.opening is not None:
                client.result(client.opening, self.ask(client.opening))
        except BaseException:
            self.close()
            raise

    def _shake_hands(self, sock: socket.socket, place: tuple[str, int]) -> None:
        """Begin TLS. Raises `CannotConnect`."""
        from flo.client.tls import HANDSHAKE_BYTES, Tls

        client = self._client
        assert client._tls is not None
        try:
            tls = Tls(client._tls, place[0])
            sock.sendall(tls.hello())
            done = False
            while not done:
                received = sock.recv(HANDSHAKE_BYTES)
                if not received:
                    raise ConnectionError("it closed the connection during the TLS handshake")
                done = tls.shake(received)
                sock.sendall(tls.pending())
        except OSError as e:  # ssl.SSLError is one
            raise client.cannot_connect(place, f" with TLS: {e}") from None
        self._tls = tls

    # -- moving bytes ------------------------------------------------------------------------------

    def _move(self, data: bytes, count: int, seconds: float | None) -> list[tuple[int, Response]]:
        """Send the bytes, and receive so many responses. The connection is closed by any exception."""
        sock = self._sock
        assert sock is not None
        try:
            if seconds != self._seconds:
                self._set_timeout(sock, seconds)
            if self._tls is not None:
                data = self._tls.seal(data)
            try:
                sent = sock.send(data, DONTWAIT)
            except OSError:
                sent = self._send(sock, data)
            found: list[tuple[int, Response]] = []
            if sent == len(data):
                found = self._received(sock.recv(RECEIVE_BYTES))
                if len(found) == count:
                    return found
            return self._move_by_turns(sock, memoryview(data)[sent:], found, count, seconds)
        except BlockingIOError:  # the kernel's way to say that the socket's time is up
            self.close()
            raise TimedOut(self._client.late()) from None
        except (OSError, FramingLost) as e:
            self.close()
            raise self._exchange.lost(str(e)) from None
        except BaseException:
            self.close()
            raise

    def _move_by_turns(
        self, sock: socket.socket, unsent: memoryview, found: list[tuple[int, Response]], count: int, seconds: float | None
    ) -> list[tuple[int, Response]]:
        """Send and receive at the same time: a server stops reading from a client that does not read its answers."""
        deadline = None if seconds is None else monotonic() + seconds
        poller = select.poll()
        while len(found) < count:
            if unsent:
                unsent = unsent[self._send(sock, unsent[:SEND_BYTES]) :]
            poller.register(sock, select.POLLIN | (select.POLLOUT if unsent else 0))
            left = POLL_SECONDS_MAX if deadline is None else deadline - monotonic()
            if left <= 0:
                raise TimedOut(self._client.late())
            if not poller.poll(min(left, POLL_SECONDS_MAX) * 1000):
                continue
            try:
                received = sock.recv(LARGE_RECEIVE_BYTES, DONTWAIT)
            except BlockingIOError:
                continue
            found += self._received(received)
        return found

    @staticmethod
    def _send(sock: socket.socket, data: bytes | memoryview) -> int:
        """How many bytes the kernel took: all, if the server has closed the connection, whose last answers are still to be read."""
        try:
            return sock.send(data, DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def _received(self, data: bytes) -> list[tuple[int, Response]]:
        """The responses that are complete with these bytes. Raises `Disconnected`, `FramingLost`, `OSError`."""
        if not data:
            raise Disconnected(CLOSED if self.ended else f"{self._client.where} closed the connection")
        if self._tls is not None:
            data = self._tls.open(data)
            if not data:
                return []
        return self._exchange.receive(data)

    def _set_timeout(self, sock: socket.socket, seconds: float | None) -> None:
        whole, part = divmod(seconds or 0.0, 1)
        value = TIMEVAL.pack(int(whole), max(int(part * 1e6), seconds is not None))  # 0 is for ever
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._seconds = seconds


def _token(found: tuple[int, Response]) -> int:
    return found[0]
