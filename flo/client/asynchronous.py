"""`flo.aio.Client`: a client of the binary protocol for asyncio. One connection carries the requests of all tasks, waits included.

    async with flo.aio.Client("flo://127.0.0.1:9000/orders") as client:
        version = await client.kv.put("order:1", b"new")
        await client.kv.cas("order:1", b"paid", version)

A request leaves at once if no other is under way; else the requests that are made in one turn of the event loop leave in one write. A
cancelled call leaves the connection usable: its response is dropped when it comes. If a dropped response gave something (a message, a run,
a group's records), that is given back at once. A request that waits for such a thing stays with the server when its task is cancelled; the
next task that asks the same takes its place, so that a loop of cancelled waits leaves no more than one.
"""

import asyncio
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from flo import forks
from flo.client.exchange import LARGE_RECEIVE_BYTES, Exchange
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
from flo.client.settings import DEFAULT_URL, Settings
from flo.errors import Disconnected, FloError, Refusal, TimedOut
from flo.given import Text, told
from flo.operations.call import Call
from flo.operations.method import Asynchronous
from flo.operations.system import ClusterOperations, NamespaceOperations, ServerOperations
from flo.proto.binary import FramingLost, Response

T = TypeVar("T")
CLOSED = "the client was closed while this task waited for an answer"


class KeyCalls(KeyMethods, Asynchronous):
    __doc__ = KeyMethods.__doc__


class QueueCalls(QueueMethods, Asynchronous):
    __doc__ = QueueMethods.__doc__


class StreamCalls(StreamMethods, Asynchronous):
    __doc__ = StreamMethods.__doc__


class TimeSeriesCalls(TimeSeriesMethods, Asynchronous):
    __doc__ = TimeSeriesMethods.__doc__


class ActionCalls(ActionMethods, Asynchronous):
    __doc__ = ActionMethods.__doc__


class WorkerCalls(WorkerMethods, Asynchronous):
    __doc__ = WorkerMethods.__doc__


class ScheduleCalls(ScheduleMethods, Asynchronous):
    __doc__ = ScheduleMethods.__doc__


class NamespaceCalls(NamespaceOperations, Asynchronous):
    __doc__ = NamespaceOperations.__doc__


class ClusterCalls(ClusterOperations, Asynchronous):
    __doc__ = ClusterOperations.__doc__


class Client(Settings, Asynchronous):
    """A client of a server for asyncio, in one namespace. `client.kv`, `.queues`, `.streams`, `.ts`, `.actions`, `.workers`, `.schedules`,
    `.namespaces` and `.cluster` have the operations, as coroutines. All tasks of one event loop may use one client; after `close` another
    loop may. A forked child must open its own: its parent's client raises `Forked`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        namespace: Text | None = None,
        secret: Text | None = None,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        retries: int | None = None,
        compress: bool = False,
    ) -> None:
        """`namespace` and `secret` win over the URL's. `timeout`, in seconds, bounds each call (a call that waits gets it in addition to
        its wait). A call is sent again up to `retries` times where that is safe: 3, or 10 if the URL names the members of a cluster.
        `compress` sends large values and accepts large answers zlib-compressed. Raises `BadRequest` for a wrong URL or timeout,
        `TypeError`."""
        super().__init__(url, namespace, secret, connect_timeout, timeout, retries, compress)
        self._loop: asyncio.AbstractEventLoop | None = None  # of the connection
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self.kv: Final = KeyCalls(self)
        self.queues: Final = QueueCalls(self)
        self.streams: Final = StreamCalls(self)
        self.ts: Final = TimeSeriesCalls(self)
        self.actions: Final = ActionCalls(self)
        self.workers: Final = WorkerCalls(self)
        self.schedules: Final = ScheduleCalls(self)
        self.namespaces: Final = NamespaceCalls(self)
        self.cluster: Final = ClusterCalls(self)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Calls that other tasks wait for end with `Disconnected`. The client may be used again."""
        if forks.process() != self._process:
            return  # the connection is the parent's
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self._connection, self._connecting, self._loop = self._connection, None, None, None
        if connection is not None:
            await connection.close()

    async def run(self, call: Call[T]) -> T:
        """Send one request and wait for its result. Raises a `Refusal`, `Disconnected` or `TimedOut`."""
        try:
            return await self._attempt(call)
        except RETRIED as e:
            error: FloError = e
        attempts = Attempts(self, (call,))
        while True:
            await asyncio.sleep(attempts.pause(error))
            try:
                result = await self._attempt(call)
            except RETRIED as e:
                error = e
            except Refusal as e:
                attempts.settle(call, e)
                raise
            else:
                attempts.settle(call, result)
                return result

    _run = run

    async def run_many(self, many: Sequence[Call[Any]]) -> list[Any]:
        """Send all requests at once and wait for every answer: one round trip. The results are in the order of the calls; the result of
        a refused call is its `Refusal`, which is not raised. Raises `Disconnected` or `TimedOut`."""
        for call in many:
            if not isinstance(call, Call):
                raise TypeError(f"a call {told(call, 'call')}; give calls of flo.calls, such as kv_get('key')")
        results = await self._run_all(many)
        for _ in range(LEADERS_MAX):
            places = to_lead(self, results)
            if not places:
                break
            again = await self._run_all([many[place] for place in places])
            for place, result in zip(places, again, strict=True):
                results[place] = result
        return results

    async def _run_all(self, many: Sequence[Call[Any]]) -> list[Any]:
        if not many:
            return []
        attempts: Attempts | None = None
        while True:
            try:
                return await self._attempt_many(many)
            except Disconnected as e:
                attempts = attempts or Attempts(self, many)
                await asyncio.sleep(attempts.pause(e))

    async def connect(self) -> None:
        """Connect now rather than with the first call, and send the secret. Raises `Disconnected`, `Unauthorized`."""
        if self._ready() is None:
            await self._connected()

    ping: Final = ServerOperations.ping
    status: Final = ClusterOperations.status
    stats: Final = ServerOperations.stats
    view: Final = ServerOperations.view

    async def _attempt(self, call: Call[T]) -> T:
        connection = self._ready() or await self._connected()
        (response,) = await connection.ask((call,))
        try:
            return self.result(call, response)
        except Disconnected as e:
            connection.lose(e)
            raise

    async def _attempt_many(self, many: Sequence[Call[Any]]) -> list[Any]:
        connection = self._ready() or await self._connected()
        responses = await connection.ask(many)
        try:
            return [self._outcome(call, response) for call, response in zip(many, responses, strict=True)]
        except Disconnected as e:
            connection.lose(e)
            raise

    def turn_to(self, place: tuple[str, int] | None) -> None:
        """Go to this place, from the next call on."""
        super().turn_to(place)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.retire()

    def _ready(self) -> "_Connection | None":
        """The connection, if there is one. Raises `Forked`."""
        if forks.process() != self._process:
            raise forks.refuse("client", self._process, "open your own flo.aio.Client in this process.")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                raise RuntimeError(
                    "this flo.aio.Client is used in another event loop than the one in which it connected; "
                    "open one client in each loop, or await close() before the loop ends"
                )
            self._loop = loop
        connection = self._connection
        return connection if connection is not None and connection.is_open else None

    async def _connected(self) -> "_Connection":
        """A new connection. Raises `CannotConnect`, `Unauthorized`."""
        assert self._loop is not None
        if self._connecting is None:  # one task connects for all that want to: cancelling one of them must not end it
            self._connecting = self._loop.create_task(self._connect(self._loop))
            self._connecting.add_done_callback(self._has_connected)
        return await asyncio.shield(self._connecting)

    def _has_connected(self, task: "asyncio.Task[_Connection]") -> None:
        if task is not self._connecting:  # the client was closed meanwhile
            if not task.cancelled() and task.exception() is None:
                task.result().lose(Disconnected(CLOSED))
            return
        self._connecting = None
        if not task.cancelled() and task.exception() is None:  # asked for even if nobody waits any more, so that asyncio does not complain
            self._connection = task.result()

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> "_Connection":
        host, port = self.place
        name = host if self._tls is not None else None
        try:
            async with asyncio.timeout(self.connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, loop), host, port, ssl=self._tls, server_hostname=name
                )
        except TimeoutError:
            raise self.cannot_connect((host, port), f": no answer within {self.connect_timeout:g} s") from None
        except (OSError, UnicodeError) as e:
            raise self.cannot_connect((host, port), f": {e}") from None
        if connection.is_own_end:
            connection.lose(Disconnected(CLOSED))
            raise self.cannot_connect((host, port), ": no server listens there")
        if self.opening is not None:
            try:
                (response,) = await connection.ask((self.opening,))
                self.result(self.opening, response)
            except BaseException:
                connection.lose(Disconnected(CLOSED))
                raise
        return connection


class _Asked:
    """Requests that a task waits for."""

    __slots__ = ("at", "calls", "deadline", "future", "left", "responses")

    def __init__(self, calls: Sequence[Call[Any]], future: "asyncio.Future[list[Response]] | None", at: float, deadline: float) -> None:
        self.calls = calls
        self.future = future  # None: nobody waits any more
        self.responses: list[Any] = [None] * len(calls)
        self.left = len(calls)
        self.at = at  # when they were sent
        self.deadline = deadline


FOR_EVER = float("inf")


class _Connection(asyncio.BufferedProtocol):
    """One connection to a server."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop
        self._exchange: Exchange[tuple[_Asked, int]] = Exchange(client.where, client.hash, client.compress)
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(LARGE_RECEIVE_BYTES))  # asyncio's TLS puts the parts of a read into slices of it
        self._unsent: list[bytes] = []  # of this turn of the loop
        self._writable = asyncio.Event()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._error: FloError | None = None  # why it is of no use any more
        self._retired = False  # gets no more requests
        self._received_at = loop.time()
        self._asked: dict[_Asked, None] = {}  # those with a deadline, in the order in which they were sent
        self._timer: asyncio.TimerHandle | None = None
        self._left_waiting: dict[tuple[int, bytes, bytes, bytes], _Asked] = {}  # waits of cancelled tasks, by what they ask

    # -- asyncio's part ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writable.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio puts what it receives."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Asyncio has received so many bytes."""
        self._received_at = self._loop.time()
        try:
            found = self._exchange.receive(bytes(self._buffer[:nbytes]))
        except FramingLost as e:
            self.lose(self._exchange.lost(str(e)))
            return
        except Disconnected as e:
            self.lose(e)
            return
        for (asked, place), response in found:
            asked.responses[place] = response
            asked.left -= 1
            if not asked.left:
                self._answered(asked)
        if self._retired:
            self.retire()

    def eof_received(self) -> None:
        """The server has closed the connection."""
        self.lose(Disconnected(f"{self._client.where} closed the connection"))

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self.lose(self._exchange.lost(str(error)) if error is not None else Disconnected(CLOSED))
        if not self._ended.done():
            self._ended.set_result(None)

    def pause_writing(self) -> None:
        """The server takes less than is sent: tasks wait with their requests."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The server has taken most of what was sent."""
        self._writable.set()

    # -- requests ----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._error is None

    @property
    def is_own_end(self) -> bool:
        """Whether TCP has connected the socket to itself, as it may if no server listens and the kernel chooses the same port."""
        assert self._transport is not None
        return bool(self._transport.get_extra_info("sockname") == self._transport.get_extra_info("peername"))

    async def close(self) -> None:
        """Close the connection, and wait until asyncio has done so."""
        if self._loop.is_closed():  # it has closed the socket, or never will
            return
        self.lose(Disconnected(CLOSED))
        await asyncio.shield(self._ended)

    async def ask(self, calls: Sequence[Call[Any]]) -> list[Response]:
        """The responses to requests, in their order. Raises `Disconnected`, `TimedOut`, `BadRequest`."""
        while not self._writable.is_set():
            await self._writable.wait()
        if self._error is not None:
            raise self._error
        future: asyncio.Future[list[Response]] = self._loop.create_future()
        asked = (self._taken_over(calls[0], future) if self._left_waiting and len(calls) == 1 else None) or self._send(calls, future)
        try:
            return await future
        except asyncio.CancelledError:
            self._cancelled(asked, future)
            raise

    def _send(self, calls: Sequence[Call[Any]], future: "asyncio.Future[list[Response]] | None") -> _Asked:
        now, seconds = self._loop.time(), self._client.time_for(calls)
        asked = _Asked(calls, future, now, FOR_EVER if seconds is None else now + seconds)
        is_alone = not self._exchange.waiting
        data = self._exchange.requests(calls, [(asked, place) for place in range(len(calls))])
        if is_alone and not self._unsent and self._transport is not None:
            self._transport.write(data)  # a turn of the loop earlier
        else:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(data)
        if seconds is not None:
            self._asked[asked] = None
            if self._timer is None or asked.deadline < self._timer.when():
                self._set_timer(asked.deadline)
        return asked

    def _flush(self) -> None:
        data, self._unsent = self._unsent, []
        if self._transport is not None and self._error is None:
            self._transport.write(data[0] if len(data) == 1 else b"".join(data))

    def _answered(self, asked: _Asked) -> None:
        self._asked.pop(asked, None)
        future = asked.future
        if future is None or future.done():
            self._drop(asked)
        else:
            future.set_result(asked.responses)

    # -- calls that nobody waits for any more ------------------------------------------------------

    def _cancelled(self, asked: _Asked, future: "asyncio.Future[list[Response]]") -> None:
        if future.done() and not future.cancelled():  # the responses came just before
            if future.exception() is None:
                self._drop(asked)
            return
        asked.future = None
        (call, *others) = asked.calls
        if not others and call.waits is not None and call.gives:
            self._left_waiting[call.identity] = asked

    def _taken_over(self, call: Call[Any], future: "asyncio.Future[list[Response]]") -> _Asked | None:
        """The wait of a cancelled task that asked the same."""
        asked = self._left_waiting.pop(call.identity, None)
        if asked is not None:
            asked.future = future
        return asked

    def _drop(self, asked: _Asked) -> None:
        """Give back what the responses gave."""
        self._forget_wait(asked)
        for call, response in zip(asked.calls, asked.responses, strict=True):
            try:
                undo = call.undo(response)
            except (FloError, UnicodeError, RecursionError):  # not an answer to this call: nothing is known to give back
                continue
            if undo is not None and self._error is None:
                self._send((undo,), None)

    def _forget_wait(self, asked: _Asked) -> None:
        if self._left_waiting.get(asked.calls[0].identity) is asked:
            del self._left_waiting[asked.calls[0].identity]

    # -- the end -----------------------------------------------------------------------------------

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._look_for_late)

    def _look_for_late(self) -> None:
        """End the calls whose time is up. If nothing at all was received since one of them was sent, the connection is lost."""
        self._timer = None
        now = self._loop.time()
        late = [asked for asked in self._asked if asked.deadline <= now]
        for asked in late:
            del self._asked[asked]
            if asked.future is not None and not asked.future.done():
                asked.future.set_exception(TimedOut(self._client.late()))
            asked.future = None
            self._forget_wait(asked)
        if any(self._received_at < asked.at for asked in late):
            self.lose(Disconnected(f"{self._client.where} did not answer, and nothing else came from there"))
        elif self._asked:
            self._set_timer(min(asked.deadline for asked in self._asked))

    def retire(self) -> None:
        """Close the connection once the requests under way are answered."""
        self._retired = True
        if not self._exchange.waiting:
            self.lose(Disconnected(CLOSED))

    def lose(self, error: FloError) -> None:
        """Close the connection; the calls under way end with this error."""
        if self._error is not None:
            return
        self._error = error
        self._writable.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        for asked in {asked for asked, _ in self._exchange.waiting.values()}:
            if asked.future is not None and not asked.future.done():
                asked.future.set_exception(type(error)(*error.args))  # each task gets its own, whose traceback is the task's
