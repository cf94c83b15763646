"""`flo.Client`: a blocking client of the binary protocol. It makes a connection when one is needed: one for each thread that has a request
under way, so that a thread that waits for a message holds up no other.

    with flo.Client("flo://127.0.0.1:9000/orders") as client:
        version = client.kv.put("order:1", b"new")
        client.kv.cas("order:1", b"paid", version)

What to send and what to make of answers is in flo.calls; this module moves the bytes. A refusal is raised as its class in
flo.errors; where the connection fails or the time is up, `Disconnected` or `TimedOut` is raised, the connection is closed (what was under
way may or may not have been done), and the next call makes a new one. Use a client from one thread.
"""

import builtins  # a method is called list
import select
import socket
import threading
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from flo import calls, forks
from flo.calls import (
    Call,
    Counter,
    Entry,
    HistoryItem,
    Id,
    Message,
    NotAnAnswer,
    Page,
    Receipt,
    StreamId,
    StreamInfo,
    StreamRecord,
)
from flo.errors import BadRequest, FloError, Refusal
from flo.given import Text, data, text, told
from flo.proto.binary import RESPONSE_BYTES, FrameReader, FramingLost, Response, namespace_hash, split_response

T = TypeVar("T")
DEFAULT_URL = "flo://127.0.0.1:9000/default"
DEFAULT_PORT = 9000
RECEIVE_BYTES = 256 << 10
SEND_BYTES = 1 << 20  # offered to the kernel at once, before looking for answers
RESPONSE_BYTES_MAX = 64 << 20  # lists stop near 16 MiB, after one item of up to 16 MiB
SCAN_PAGE = 1000
IDLE_MAX = 16  # connections kept for the next call: more were of a burst of threads
TIMEOUT_MAX = 1e9  # seconds: thirty years
POLL_SECONDS_MAX = 3600.0  # one poll; the kernel takes 24 days at most


class Disconnected(FloError):
    """The connection could not be made, or was lost. What was under way may or may not have been done."""


class TimedOut(Disconnected):
    """The answer did not come in time."""


class Address:
    """`flo://[:secret@]host[:port][/namespace]`, taken apart."""

    def __init__(self, url: str) -> None:
        """Raises `BadRequest` for what is no such URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise BadRequest(f"{_without_secret(url)!r} is no address of a server: its host or port makes no sense") from None
        path = parts.path.strip("/")
        if parts.scheme != "flo" or not parts.hostname or parts.query or parts.fragment or "/" in path:
            raise BadRequest(f"{_without_secret(url)!r} is no address of a server; flo://[:secret@]host[:port][/namespace] is expected")
        self.host = parts.hostname
        self.port = DEFAULT_PORT if port is None else port
        self.namespace = unquote(path) or "default"
        self.secret = unquote(parts.password) if parts.password else None


def _without_secret(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url


class Client:
    """A client of a server, in one namespace. `client.kv`, `.queues`, `.streams` and `.namespaces` have the operations. Several threads may
    use it. A process that was forked from the one that made it must not: it gets `Forked`."""

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
        """`namespace` and `secret` win over the URL's. `timeout`, in seconds, bounds each call (a waiting one gets it on top of what
        it waits for). `compress` sends large values and takes large answers zlib-compressed. Raises `BadRequest` for a wrong URL,
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
            raise BadRequest(f"the namespace {self.namespace!r} is no text") from None
        self._process = forks.process()
        self._lock = threading.Lock()  # of the two that follow; never held while something is sent or waited for
        self._idle: list[_Connection] = []  # the one used last is at the end, and used next
        self._busy: set[_Connection] = set()
        self.kv = KeyCalls(self)
        self.queues = QueueCalls(self)
        self.streams = StreamCalls(self)
        self.namespaces = NamespaceCalls(self)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. What other threads wait for ends as `Disconnected`. The client may be used again."""
        if forks.process() != self._process:
            return  # a thread that is not in this process may have held the lock, and the sockets are the parent's
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
        """Send all requests at once and wait for every answer: one round trip. The results are in the order of the calls; a
        refused one's is its `Refusal`, not raised. Raises `Disconnected` or `TimedOut`."""
        results: list[Any] = []
        with self._connection() as connection:
            for call, response in zip(many, connection.exchange(many), strict=True):
                try:
                    results.append(connection.finish(call, response))
                except Refusal as e:
                    results.append(e)
        return results

    def ping(self, value: Text = b"") -> bytes:
        """Echo: the server is there."""
        return self.run(calls.ping(value))

    def status(self) -> dict[str, Any]:
        """About the server."""
        return self.run(calls.status())

    def connect(self) -> None:
        """Connect now, rather than with the first call; gives the secret. Raises `Disconnected`, `Unauthorized`."""
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
            self._drop_idle()  # those were to the same server: it may have been started anew
            raise
        finally:
            self._give_back(connection)

    def _give_back(self, connection: "_Connection") -> None:
        with self._lock:
            kept = connection in self._busy and connection.is_open and len(self._idle) < IDLE_MAX  # not where `close` came in between
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
        self._ended = False  # by another thread
        self._reader = FrameReader(RESPONSE_BYTES, RESPONSE_BYTES_MAX)
        self._rest = b""  # received, less than a header
        self._first = True  # nothing was received yet
        self._next_id = 1

    @property
    def is_open(self) -> bool:
        """Whether it may be used once more."""
        return self._sock is not None

    def close(self) -> None:
        """Close it."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def end(self) -> None:
        """Have the thread that uses this find it lost, and close it."""
        self._ended = True
        with suppress(AttributeError, OSError):  # it is closed, or being closed
            self._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def finish(self, call: Call[T], response: Response) -> T:
        """The call's result. Raises a `Refusal`, `Disconnected`."""
        try:
            return call.finish(response)
        except (NotAnAnswer, UnicodeError, RecursionError) as e:
            self.close()
            raise Disconnected(f"{self._client.host} port {self._client.port} answered what {call.operation.name} does not: {e}") from None

    def connect(self) -> None:
        """Connect, where it is not; give the secret. Raises `Disconnected`, `Unauthorized`."""
        if self._sock is not None:
            return
        client = self._client
        try:
            self._sock = socket.create_connection((client.host, client.port), client.connect_timeout)
        except (OSError, UnicodeError) as e:
            raise Disconnected(f"cannot connect to {client.host} port {client.port}: {e}") from None
        if self._sock.getsockname() == self._sock.getpeername():
            # where nobody listens on a port that the kernel may also choose for us, TCP connects us to ourselves in the end
            self.close()
            raise Disconnected(f"cannot connect to {client.host} port {client.port}: nobody listens there")
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
        """Send and receive at the same time: a server does not read for ever from one who does not read."""
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
                    unsent = unsent[:0]  # the server has closed: what it said last is still to be read
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
        """Sort the whole responses in what was received; returns how many there were."""
        if self._first and data[:1] == b"-":
            # a server that cannot serve us says why before it knows our protocol
            raise Disconnected(data[1:].split(b"\r\n")[0].decode("utf-8", "replace"))
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
                # the server's last word on a connection that it gives up
                raise Disconnected(response.payload.decode("utf-8", "replace"))
            if responses[place] is not None:
                raise Disconnected(f"{self._client.host} port {self._client.port} answered the same request twice")
            count += 1
            responses[place] = response


class KeyCalls:
    """The operations on keys. Keys and values are bytes, or text in UTF-8."""

    def __init__(self, client: Client) -> None:
        self._run = client.run

    def get(self, key: Text) -> Entry | None:
        """The key's (version, value), None where it is missing."""
        return self._run(calls.kv_get(key))

    def wait(self, key: Text, timeout_ms: int = 0) -> Entry | None:
        """`get`, once the key exists; None if it does not within that time. 0 waits for ever."""
        return self._run(calls.kv_wait(key, timeout_ms))

    def changed(self, key: Text, timeout_ms: int = 0, known: int | None = None) -> Entry | None:
        """`get`, once the key's version is over `known` (None: what it is now), or after that time; None for a deletion."""
        return self._run(calls.kv_changed(key, timeout_ms, known))

    def put(
        self,
        key: Text,
        value: Text,
        *,
        ttl: int | None = None,
        cas: int | None = None,
        if_absent: bool = False,
        if_present: bool = False,
    ) -> int:
        """Set the key; returns its version. `ttl` in seconds. Raises `Conflict` where a condition does not hold."""
        return self._run(calls.kv_put(key, value, ttl=ttl, cas=cas, if_absent=if_absent, if_present=if_present))

    def cas(self, key: Text, value: Text, version: int, *, ttl: int | None = None) -> int:
        """Set the key if it has that version (0: it must not exist); returns the new one. Raises `Conflict`."""
        return self._run(calls.kv_cas(key, value, version, ttl=ttl))

    def delete(self, key: Text, *, cas: int | None = None) -> int | None:
        """Delete the key; the version of its tombstone, None where it was missing."""
        return self._run(calls.kv_delete(key, cas=cas))

    def exists(self, key: Text) -> bool:
        """Whether the key is there."""
        return self._run(calls.kv_exists(key))

    def incr(self, key: Text, delta: int = 1) -> Counter:
        """Add to a counter; (value, version). Raises `Conflict` for what is no number, and past 64 bits."""
        return self._run(calls.kv_incr(key, delta))

    def touch(self, key: Text, ttl: int, *, cas: int | None = None) -> int:
        """Give the key so many seconds, 0 for ever; its version. Raises `NotFound`."""
        return self._run(calls.kv_touch(key, ttl, cas=cas))

    def persist(self, key: Text, *, cas: int | None = None) -> int:
        """Take the key's deadline away; its version. Raises `NotFound`."""
        return self._run(calls.kv_persist(key, cas=cas))

    def scan_page(self, prefix: Text = b"", *, limit: int | None = None, cursor: Text = b"", keys_only: bool = False) -> Page:
        """One page of the keys with a prefix, ascending."""
        return self._run(calls.kv_scan(prefix, limit=limit, cursor=cursor, keys_only=keys_only))

    def scan(self, prefix: Text = b"", *, keys_only: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Every (key, value) with a prefix, ascending, page by page. What is written meanwhile may or may not be seen."""
        cursor = b""
        while True:
            page = self.scan_page(prefix, limit=SCAN_PAGE, cursor=cursor, keys_only=keys_only)
            yield from page.items
            cursor = page.cursor
            if not cursor:
                return

    def mget(self, keys: Iterable[Text]) -> list[Entry | None]:
        """Up to 256 keys at once, in their order."""
        return self._run(calls.kv_mget(keys))

    def batch_put(self, items: Iterable[tuple[Text, Text] | tuple[Text, Text, int]]) -> list[int]:
        """Set every (key, value) or (key, value, ttl), all or nothing; their versions."""
        return self._run(calls.kv_batch_put(items))

    def history(self, key: Text, limit: int | None = None) -> list[HistoryItem]:
        """The key's versions, newest first."""
        return self._run(calls.kv_history(key, limit))

    def json_get(self, key: Text, path: Text = b"$") -> Entry:
        """(version, JSON text at the path). Raises `NotFound`, `Conflict`."""
        return self._run(calls.json_get(key, path))

    def json_set(self, key: Text, value: Text, path: Text = b"$", *, cas: int | None = None) -> int:
        """Set the JSON text at the path; the document's version."""
        return self._run(calls.json_set(key, value, path, cas=cas))

    def json_delete(self, key: Text, path: Text = b"$", *, cas: int | None = None) -> int:
        """Delete what is at the path; the version."""
        return self._run(calls.json_delete(key, path, cas=cas))


class QueueCalls:
    """The operations on queues. A receipt is a `Message`, (seq, attempt), or a seq for whoever holds it now."""

    def __init__(self, client: Client) -> None:
        self._run = client.run

    def enqueue(
        self, queue: Text, payload: Text, *, priority: int | None = None, delay: int | None = None, dedup: Text | None = None
    ) -> int:
        """Put a message in; its seq. `delay` is in ms; lower priorities go first."""
        return self._run(calls.queue_enqueue(queue, payload, priority=priority, delay=delay, dedup=dedup))

    def dequeue(self, queue: Text, limit: int | None = None, *, lease: int | None = None, block: int | None = None) -> list[Message]:
        """Lease up to `limit` messages (1). `block` waits so many ms for the first, 0 for ever."""
        return self._run(calls.queue_dequeue(queue, limit, lease=lease, block=block))

    def ack(self, queue: Text, *receipts: Receipt) -> int:
        """Remove messages that are done; how many of the receipts stood."""
        return self._run(calls.queue_ack(queue, receipts))

    def nack(self, queue: Text, *receipts: Receipt, delay: int | None = None, dead: bool = False) -> int:
        """Give messages back, after `delay` ms, or to the dead letters; how many of the receipts stood."""
        return self._run(calls.queue_nack(queue, receipts, delay=delay, dead=dead))

    def touch(self, queue: Text, *receipts: Receipt, lease: int | None = None) -> int:
        """Let leases end `lease` ms from now; how many of the receipts stood."""
        return self._run(calls.queue_touch(queue, receipts, lease))

    def peek(self, queue: Text, limit: int | None = None) -> list[Message]:
        """The messages that are ready, in the order of their delivery."""
        return self._run(calls.queue_peek(queue, limit))

    def dead_letters(self, queue: Text, limit: int | None = None) -> list[Message]:
        """Dead letters, oldest first."""
        return self._run(calls.queue_dead_letters(queue, limit))

    def requeue(self, queue: Text, seqs: Iterable[int]) -> int:
        """Put dead letters back; how many there were."""
        return self._run(calls.queue_requeue(queue, seqs))

    def delete_dead(self, queue: Text, seqs: Iterable[int] | None = None) -> int:
        """Delete dead letters, all for None; how many."""
        return self._run(calls.queue_delete_dead(queue, seqs))

    def stats(self, queue: Text) -> dict[str, Any]:
        """Counts and configuration."""
        return self._run(calls.queue_stats(queue))

    def purge(self, queue: Text) -> int:
        """Remove every message; how many there were."""
        return self._run(calls.queue_purge(queue))

    def configure(self, queue: Text, *, lease: int | None = None, max_attempts: int | None = None) -> None:
        """Set a queue's own lease (ms) or most attempts (0 for no bound)."""
        self._run(calls.queue_configure(queue, lease=lease, max_attempts=max_attempts))

    def list(self) -> Iterator[dict[str, Any]]:
        """Every queue with its stats."""
        cursor = b""
        while True:
            page = self._run(calls.queue_list(SCAN_PAGE, cursor))
            yield from page["queues"]
            cursor = b64decode(page["cursor"])
            if not cursor:
                return


class StreamCalls:
    """The operations on streams and their groups. An id is a `StreamId`, (ms, seq), or the text `ms-seq`."""

    def __init__(self, client: Client) -> None:
        self._run = client.run

    def append(self, stream: Text, payload: Text) -> StreamId:
        """Append a record; its id."""
        return self._run(calls.stream_append(stream, payload))

    def read(
        self,
        stream: Text,
        start: Id | None = None,
        end: Id | None = None,
        *,
        tail: bool = False,
        limit: int | None = None,
        block: int | None = None,
    ) -> list[StreamRecord]:
        """Up to `limit` records (100) by id, both ends included. `tail` is what comes from now on; `block` waits so many ms for the
        first, 0 for ever."""
        return self._run(calls.stream_read(stream, start, end, tail=tail, limit=limit, block=block))

    def scan(self, stream: Text, start: Id | None = None, end: Id | None = None) -> Iterator[StreamRecord]:
        """Every record from `start` to `end`, page by page."""
        while True:
            page = self.read(stream, start, end, limit=SCAN_PAGE)
            yield from page
            if not page:
                return
            start = after(page[-1].id)

    def follow(self, stream: Text, start: Id | None = None) -> Iterator[StreamRecord]:
        """Every record from `start` (None: from now) on, and those that come, for ever."""
        if start is None:
            start = after(self.info(stream).last)
        while True:
            page = self.read(stream, start, limit=SCAN_PAGE, block=0)
            yield from page
            if page:
                start = after(page[-1].id)

    def create(self, stream: Text, *, max_len: int | None = None, max_age: int | None = None, max_bytes: int | None = None) -> None:
        """Make an empty stream that keeps so many records, seconds, bytes. Raises `Conflict` where it exists."""
        self._run(calls.stream_create(stream, max_len=max_len, max_age=max_age, max_bytes=max_bytes))

    def info(self, stream: Text) -> StreamInfo:
        """What the stream has; zeros where there is none."""
        return self._run(calls.stream_info(stream))

    def trim(
        self,
        stream: Text,
        *,
        start: Id | None = None,
        max_len: int | None = None,
        max_age: int | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> int:
        """Remove the oldest records: before `start`, past so many records, seconds, bytes; how many."""
        call = calls.stream_trim(stream, start=start, max_len=max_len, max_age=max_age, max_bytes=max_bytes, dry_run=dry_run)
        return self._run(call)

    def delete(self, stream: Text) -> None:
        """Delete a stream with its groups."""
        self._run(calls.stream_delete(stream))

    def list(self) -> Iterator[dict[str, Any]]:
        """Every stream with what is in it."""
        cursor = b""
        while True:
            page = self._run(calls.stream_list(SCAN_PAGE, cursor))
            yield from page["streams"]
            cursor = b64decode(page["cursor"])
            if not cursor:
                return

    def group_create(
        self,
        stream: Text,
        group: Text,
        *,
        start: Id | None = None,
        tail: bool = False,
        ack_timeout: int | None = None,
        max_deliver: int | None = None,
    ) -> None:
        """Make a group, and the stream. It begins with the first record, at `start`, or with `tail` with what comes from now on.
        `ack_timeout` (ms; 30,000; 0 for never) is when what is not acknowledged goes to another; `max_deliver` (10; 0 for never) how
        often. Raises `Conflict` where it exists."""
        self._run(calls.group_create(stream, group, start=start, tail=tail, ack_timeout=ack_timeout, max_deliver=max_deliver))

    def group_read(
        self, stream: Text, group: Text, consumer: Text, *, limit: int | None = None, block: int | None = None, no_ack: bool = False
    ) -> "builtins.list[StreamRecord]":
        """Deliver up to `limit` records (100) to a consumer. `block` waits so many ms for the first, 0 for ever; with `no_ack` they
        are done as they are delivered."""
        return self._run(calls.group_read(stream, group, consumer, limit=limit, block=block, no_ack=no_ack))

    def ack(self, stream: Text, group: Text, *ids: Id | StreamRecord) -> int:
        """Deliveries are done; how many there were."""
        return self._run(calls.group_ack(stream, group, ids))

    def nack(self, stream: Text, group: Text, *ids: Id | StreamRecord, delay: int | None = None, consumer: Text | None = None) -> int:
        """Give deliveries back, after `delay` ms; how many there were."""
        return self._run(calls.group_nack(stream, group, ids, delay=delay, consumer=consumer))

    def touch(self, stream: Text, group: Text, *ids: Id | StreamRecord, lease: int | None = None, consumer: Text | None = None) -> int:
        """Let deliveries run out `lease` ms from now, or the group's own time; how many there were."""
        return self._run(calls.group_touch(stream, group, ids, lease=lease, consumer=consumer))

    def claim(
        self, stream: Text, group: Text, consumer: Text, *, min_idle: int | None = None, limit: int | None = None
    ) -> "builtins.list[StreamRecord]":
        """Deliver to this consumer what is pending with others for `min_idle` ms at least."""
        return self._run(calls.group_claim(stream, group, consumer, min_idle=min_idle, limit=limit))

    def pending(self, stream: Text, group: Text) -> dict[str, Any]:
        """What is delivered and not acknowledged, and the dead letters."""
        return self._run(calls.group_pending(stream, group))

    def group_info(self, stream: Text, group: Text) -> dict[str, Any]:
        """About a group and its consumers."""
        return self._run(calls.group_info(stream, group))

    def group_delete(self, stream: Text, group: Text) -> None:
        """Delete a group."""
        self._run(calls.group_delete(stream, group))


def after(ident: StreamId) -> StreamId:
    """The next id there can be."""
    return StreamId(ident.ms, ident.seq + 1) if ident.seq < (1 << 64) - 1 else StreamId(ident.ms + 1, 0)


class NamespaceCalls:
    """The operations on namespaces."""

    def __init__(self, client: Client) -> None:
        self._run = client.run

    def create(self, name: Text) -> None:
        """Create a namespace; no error where there is one."""
        self._run(calls.namespace_create(name))

    def list(self) -> list[str]:
        """Every namespace's name."""
        return self._run(calls.namespace_list())

    def delete(self, name: Text) -> None:
        """Delete an empty namespace. Raises `Conflict` while anything is in it."""
        self._run(calls.namespace_delete(name))

    def info(self, name: Text) -> dict[str, Any]:
        """What is in a namespace."""
        return self._run(calls.namespace_info(name))
