"""`flo.Client`: a blocking client of the binary protocol. It connects when needed, with one connection for each thread that has a request
under way: a thread that waits for a message delays no other.

    with flo.Client("flo://127.0.0.1:9000/orders") as client:
        version = client.kv.put("order:1", b"new")
        client.kv.cas("order:1", b"paid", version)

flo.calls encodes requests and decodes answers; this module moves the bytes. A refusal is raised as its class in flo.errors. If the
connection fails or the time is up, `Disconnected` or `TimedOut` is raised and the connection is closed; the next call makes a new one. The
requests that were under way may or may not have been executed.
"""

import select
import socket
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from flo import calls, forks
from flo.calls import Call, Id, NotAnAnswer, StreamId, StreamRecord
from flo.errors import BadRequest, FloError, Refusal, Unauthorized
from flo.given import Text, data, text, told
from flo.limits import LIST_ITEMS_MAX, RESPONSE_BYTES_MAX
from flo.operations.action import ActionOperations
from flo.operations.kv import KeyOperations
from flo.operations.queue import QueueOperations
from flo.operations.schedule import ScheduleOperations
from flo.operations.stream import StreamOperations
from flo.operations.system import NamespaceOperations
from flo.operations.timeseries import TimeSeriesOperations
from flo.operations.worker import WorkerOperations
from flo.proto.binary import RESPONSE_BYTES, FrameReader, FramingLost, Response, namespace_hash, split_response

T = TypeVar("T")
DEFAULT_URL = "flo://127.0.0.1:9000/default"
EXPECTED = "flo://[:secret@]host[:port][/namespace] is expected"
NO_SECRET = "this server has a secret; give it as flo.Client(secret=…), or in the URL: flo://:SECRET@host"
DEFAULT_PORT = 9000
RECEIVE_BYTES = 256 << 10
SEND_BYTES = 1 << 20  # passed to the kernel at once, before reading answers
IDLE_MAX = 16  # connections kept for the next calls; more are left from a burst of threads, and are closed
TIMEOUT_MAX = 1e9  # seconds: thirty years
POLL_SECONDS_MAX = 3600.0  # one poll; the kernel takes 24 days at most


class Disconnected(FloError):
    """The connection could not be made, or was lost. Requests under way may or may not have been executed."""


class TimedOut(Disconnected):
    """The answer did not come in time."""


class Address:
    """The parts of `flo://[:secret@]host[:port][/namespace]`."""

    def __init__(self, url: str) -> None:
        """Raises `BadRequest` for any other URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise BadRequest(f"{_without_secret(url)!r} is not the address of a server: its host or port is wrong; {EXPECTED}") from None
        path = parts.path.strip("/")
        if parts.scheme != "flo" or not parts.hostname or parts.query or parts.fragment or "/" in path:
            raise BadRequest(f"{_without_secret(url)!r} is not the address of a server; {EXPECTED}")
        self.host = parts.hostname
        self.port = DEFAULT_PORT if port is None else port
        self.namespace = unquote(path) or "default"
        self.secret = unquote(parts.password) if parts.password else None


def _without_secret(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url


class Client:
    """A client of a server, in one namespace. `client.kv`, `.queues`, `.streams`, `.timeseries`, `.actions`, `.workers`, `.schedules` and
    `.namespaces` have the operations. Several threads may use one client. A forked child must open its own: its parent's client raises
    `Forked`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        namespace: Text | None = None,
        secret: Text | None = None,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        compress: bool = False,
    ) -> None:
        """`namespace` and `secret` win over the URL's. `timeout`, in seconds, bounds each call (a call that waits gets it in addition to
        its wait). `compress` sends large values and accepts large answers zlib-compressed. Raises `BadRequest` for a wrong URL or timeout,
        `TypeError`."""
        address = Address(url)
        for given, what in ((connect_timeout, "connect_timeout"), (timeout, "timeout")):
            if not isinstance(given, (int, float)):
                raise TypeError(f"the {what} {told(given, what)}; give seconds as a number")
        if not 0 < timeout < TIMEOUT_MAX or not 0 < connect_timeout < TIMEOUT_MAX:
            raise BadRequest(f"the timeouts are {connect_timeout} and {timeout}; they are seconds, more than 0 and under {TIMEOUT_MAX}")
        self.host, self.port = address.host, address.port
        self.namespace = text(namespace, "namespace") if namespace is not None else address.namespace
        self.connect_timeout = connect_timeout
        self.timeout = timeout
        self.compress = compress
        self.secret = data(secret, "secret") if secret is not None else address.secret
        try:
            self._hash = 0 if self.namespace == "default" else namespace_hash(self.namespace)
        except UnicodeError:
            raise BadRequest(f"the namespace {self.namespace!r} is not valid text") from None
        self._process = forks.process()
        self._lock = threading.Lock()  # guards the next two; never held while sending or waiting
        self._idle: list[_Connection] = []  # the connection used last is at the end, and is used next
        self._busy: set[_Connection] = set()
        self.kv = KeyCalls(self)
        self.queues = QueueCalls(self)
        self.streams = StreamCalls(self)
        self.timeseries = TimeSeriesCalls(self)
        self.actions = ActionCalls(self)
        self.workers = WorkerCalls(self)
        self.schedules = ScheduleCalls(self)
        self.namespaces = NamespaceCalls(self)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Calls that other threads wait for end with `Disconnected`. The client may be used again."""
        if forks.process() != self._process:
            return  # a thread of the parent may have held the lock at the fork, and the sockets are the parent's
        with self._lock:
            idle, self._idle = self._idle, []
            busy, self._busy = self._busy, set()
        for connection in idle:
            connection.close()
        for connection in busy:
            connection.end()

    # -- running calls -----------------------------------------------------------------------------

    def run(self, call: Call[T]) -> T:
        """Send one request and wait for its result. Raises a `Refusal`, `Disconnected` or `TimedOut`."""
        with self._connection() as connection:
            (response,) = connection.exchange([call])
            return connection.finish(call, response)

    def run_many(self, many: Sequence[Call[Any]]) -> list[Any]:
        """Send all requests at once and wait for every answer: one round trip. The results are in the order of the calls; the result of
        a refused call is its `Refusal`, which is not raised. Raises `Disconnected` or `TimedOut`."""
        for call in many:
            if not isinstance(call, Call):
                raise TypeError(f"a call {told(call, 'call')}; give calls of flo.calls, such as kv_get('key')")
        results: list[Any] = []
        with self._connection() as connection:
            for call, response in zip(many, connection.exchange(many), strict=True):
                try:
                    results.append(connection.finish(call, response))
                except Refusal as e:
                    results.append(e)
        return results

    def ping(self, value: Text = b"") -> bytes:
        """The server's echo of `value`."""
        return self.run(calls.ping(value))

    def status(self) -> dict[str, Any]:
        """The server's status."""
        return self.run(calls.status())

    def stats(self, *, block: int | None = None) -> dict[str, Any]:
        """The server's counts: docs/wire-protocol.md, "JSON answers". With `block` (ms, 0 for ever), waits for the next ones: they are
        made once a second."""
        return self.run(calls.server_stats(block=block))

    def connect(self) -> None:
        """Connect now rather than with the first call, and send the secret. Raises `Disconnected`, `Unauthorized`."""
        with self._connection() as connection:
            connection.connect()

    @contextmanager
    def _connection(self) -> Iterator["_Connection"]:
        """A connection that no other thread uses meanwhile. Raises `Forked`."""
        if forks.process() != self._process:
            raise forks.refuse("client", self._process, "open your own flo.Client in this process.")
        with self._lock:
            connection = self._idle.pop() if self._idle else _Connection(self)
            self._busy.add(connection)
        try:
            yield connection
        except TimedOut:
            raise
        except Disconnected:
            self._drop_idle()  # they go to the same server, which may have been restarted
            raise
        finally:
            self._give_back(connection)

    def _give_back(self, connection: "_Connection") -> None:
        with self._lock:
            kept = connection in self._busy and connection.is_open and len(self._idle) < IDLE_MAX  # false if `close` came in between
            self._busy.discard(connection)
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class _Connection:
    """One connection of a client, made when first needed. One thread uses it at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sock: socket.socket | None = None
        self._ended = False  # set by another thread
        self._reader = FrameReader(RESPONSE_BYTES, RESPONSE_BYTES_MAX)
        self._rest = b""  # the beginning of a response that is not complete yet
        self._first = True  # nothing was received yet
        self._next_id = 1

    @property
    def is_open(self) -> bool:
        """Whether the connection can be used again."""
        return self._sock is not None

    def close(self) -> None:
        """Close the connection."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def end(self) -> None:
        """Shut the connection down: the thread that uses it finds it lost and closes it."""
        self._ended = True
        with suppress(AttributeError, OSError):  # the socket is closed, or being closed
            self._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def finish(self, call: Call[T], response: Response) -> T:
        """The result of the call. Raises a `Refusal`, `Disconnected`."""
        client = self._client
        try:
            return call.finish(response)
        except BadRequest as e:
            if client._hash and f"{client._hash:#018x}" in str(e):  # the server knows the hash alone
                raise BadRequest(f"there is no namespace {client.namespace!r}; create it first") from None
            raise
        except Unauthorized:
            if client.secret is None:
                raise Unauthorized(NO_SECRET) from None
            raise
        except (NotAnAnswer, UnicodeError, RecursionError) as e:
            self.close()
            where = f"{client.host} port {client.port}"
            raise Disconnected(f"{where} gave an answer that does not fit {call.operation.name}: {e}") from None

    def connect(self) -> None:
        """Connect if not connected, and send the secret. Raises `Disconnected`, `Unauthorized`."""
        if self._sock is not None:
            return
        client = self._client
        try:
            self._sock = socket.create_connection((client.host, client.port), client.connect_timeout)
        except (OSError, UnicodeError) as e:
            raise Disconnected(f"cannot connect to {client.host} port {client.port}: {e}") from None
        if self._sock.getsockname() == self._sock.getpeername():
            # if no server listens and the kernel chooses the same port for our end, TCP connects the socket to itself
            self.close()
            raise Disconnected(f"cannot connect to {client.host} port {client.port}: no server listens there")
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setblocking(False)
        if self._ended:
            self.close()
            raise Disconnected("the client was closed by another thread while this one connected")
        self._reader = FrameReader(RESPONSE_BYTES, RESPONSE_BYTES_MAX)
        self._rest, self._first = b"", True
        if client.secret is not None:
            call = calls.auth(client.secret)
            try:
                self.finish(call, self.exchange([call])[0])
            except BaseException:
                self.close()
                raise

    def exchange(self, many: Sequence[Call[Any]]) -> list[Response]:
        """Send and receive at the same time: a server stops reading from a client that does not read its answers."""
        if not many:
            return []
        self.connect()
        client = self._client
        places: dict[int, int] = {}
        requests: list[bytes] = []
        for place, call in enumerate(many):
            requests.append(call.encode(self._next_id, client._hash, client.compress))
            places[self._next_id] = place
            self._next_id = self._next_id + 1 & (1 << 64) - 1
        waits = [call.waits for call in many if call.waits is not None]
        seconds = None if 0 in waits else client.timeout + max(waits, default=0) / 1000
        try:
            return self._move(memoryview(b"".join(requests)), places, None if seconds is None else monotonic() + seconds)
        except (OSError, FramingLost) as e:
            self.close()
            raise Disconnected(f"the connection to {client.host} port {client.port} was lost: {e}") from None
        except BaseException:
            self.close()
            raise

    def _move(self, unsent: memoryview, places: dict[int, int], deadline: float | None) -> list[Response]:
        sock = self._sock
        assert sock is not None
        responses: list[Response | None] = [None] * len(places)
        missing = len(places)
        poller = select.poll()
        while missing:
            if unsent:
                try:
                    unsent = unsent[sock.send(unsent[:SEND_BYTES]) :]
                except BlockingIOError:
                    pass
                except OSError:
                    unsent = unsent[:0]  # the server has closed the connection; its last answers are still to be read
            poller.register(sock, select.POLLIN | (select.POLLOUT if unsent else 0))
            left = POLL_SECONDS_MAX if deadline is None else deadline - monotonic()
            if left <= 0:
                raise TimedOut(f"{self._client.host} port {self._client.port} did not answer within {self._client.timeout:g} s")
            if not poller.poll(min(left, POLL_SECONDS_MAX) * 1000):
                continue
            try:
                received = sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            if not received:
                if self._ended:
                    raise Disconnected("the client was closed by another thread while this one waited for an answer")
                raise Disconnected(f"{self._client.host} port {self._client.port} closed the connection")
            missing -= self._take(received, places, responses)
        return [response for response in responses if response is not None]

    def _take(self, data: bytes, places: dict[int, int], responses: list[Response | None]) -> int:
        """Put the complete responses in their places; returns how many there were."""
        if self._first and data[:1] == b"-":
            # a server that cannot serve this client says why before it knows the protocol
            word, _, sentence = data[1:].split(b"\r\n")[0].decode("utf-8", "replace").partition(" ")
            raise Disconnected(sentence if word.isupper() else f"{word} {sentence}")
        self._first = False
        data, at, count = self._rest + data, 0, 0
        while True:
            frame, at = self._reader.parse(data, at)
            if frame is None:
                self._rest = data[at:]
                return count
            response = split_response(frame, RESPONSE_BYTES_MAX)
            place = places.get(response.req_id)
            if place is None:
                # the server sends this before it closes the connection
                raise Disconnected(response.payload.decode("utf-8", "replace"))
            if responses[place] is not None:
                raise Disconnected(f"{self._client.host} port {self._client.port} answered the same request twice")
            count += 1
            responses[place] = response


# What the rows of the operations do not have: page after page.


class KeyCalls(KeyOperations):
    """The operations on keys. Keys and values are bytes, or text in UTF-8."""

    def scan(self, prefix: Text = b"", *, keys_only: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) with a prefix, ascending, page by page. Keys written meanwhile may or may not appear."""
        cursor = b""
        while True:
            page = self.scan_page(prefix, limit=LIST_ITEMS_MAX, cursor=cursor, keys_only=keys_only)
            yield from page.items
            cursor = page.cursor
            if not cursor:
                return


class QueueCalls(QueueOperations):
    """The operations on queues. A receipt is a `Message`, (seq, attempt), or the text `seq-attempt`; a seq alone stands for the present
    lease, whoever holds it."""

    def list(self) -> Iterator[dict[str, Any]]:
        """Every queue with its stats."""
        return _pages("queues", self.list_page)


class StreamCalls(StreamOperations):
    """The operations on streams and their groups. An id is a `StreamId`, (ms, seq), or the text `ms-seq`."""

    def scan(self, stream: Text, start: Id | None = None, end: Id | None = None) -> Iterator[StreamRecord]:
        """Every record from `start` to `end`, page by page."""
        while True:
            page = self.read(stream, start, end, limit=LIST_ITEMS_MAX)
            yield from page
            if not page:
                return
            start = after(page[-1].id)

    def follow(self, stream: Text, start: Id | None = None) -> Iterator[StreamRecord]:
        """Every record from `start` (None: new ones only) on, then each new record as it comes; never ends."""
        if start is None:
            start = after(self.info(stream).last)
        while True:
            page = self.read(stream, start, limit=LIST_ITEMS_MAX, block=0)
            yield from page
            if page:
                start = after(page[-1].id)

    def list(self) -> Iterator[dict[str, Any]]:
        """Every stream with its figures."""
        return _pages("streams", self.list_page)


class TimeSeriesCalls(TimeSeriesOperations):
    """The operations on time series. A point is a measurement, tags, a field, a time in ms, and a number."""

    def list(self) -> Iterator[dict[str, Any]]:
        """Every measurement."""
        return _pages("measurements", self.list_page)


class ActionCalls(ActionOperations):
    """The operations on actions and their runs. A run is named by its id, which `invoke` returns."""

    def list(self) -> Iterator[dict[str, Any]]:
        """Every action."""
        return _pages("actions", self.list_page)

    def runs(self, action: Text = b"", *, state: str | None = None, labels: Text = b"") -> Iterator[dict[str, Any]]:
        """Every run of an action, or of all, in this `state`, which has all the `labels` (a JSON object), the newest first."""
        return _pages("runs", partial(self.runs_page, action, state=state, labels=labels))

    def retry_many(self, action: Text, state: str, *, labels: Text = b"") -> int:
        """Retry every run of an action in this `state` (`failed`, `cancelled` or `timed_out`) which has all the `labels` (a JSON object);
        returns how many became pending."""
        count, cursor = 0, b""
        while True:
            page = self.retry_page(action, state, labels=labels, limit=LIST_ITEMS_MAX, cursor=cursor)
            count, cursor = count + page.retried, page.cursor
            if not cursor:
                return count


class WorkerCalls(WorkerOperations):
    """The operations of workers: take runs, and report on them. A report is refused as `Conflict` if the worker does not hold the run any
    more; it changes nothing then."""

    def list(self) -> Iterator[dict[str, Any]]:
        """Every worker."""
        return _pages("workers", self.list_page)


class ScheduleCalls(ScheduleOperations):
    """The operations on schedules, which invoke actions at their times."""

    def list(self) -> Iterator[dict[str, Any]]:
        """All schedules, by their names."""
        return _pages("schedules", self.list_page)


def _pages(name: str, ask: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The items of every page that `ask` gives, under `name`."""
    cursor = b""
    while True:
        page = ask(limit=LIST_ITEMS_MAX, cursor=cursor)
        yield from page[name]
        cursor = b64decode(page["cursor"])
        if not cursor:
            return


NamespaceCalls = NamespaceOperations


def after(ident: StreamId) -> StreamId:
    """The next possible id."""
    return StreamId(ident.ms, ident.seq + 1) if ident.seq < (1 << 64) - 1 else StreamId(ident.ms + 1, 0)
