"""taskiq on Flo: `FloBroker`, `FloResultBackend` and `FloScheduleSource`.

A task is a message of a queue. A worker takes it with a lease and acknowledges it when taskiq says so, after the result is stored unless
told otherwise. The labels `queue_name`, `priority` (0 to 255, lower first) and `delay` (seconds) are the message's.

flo.Client blocks, so threads make its calls. The calls of all coroutines go through one thread: those that come while it waits for the
server are sent together, in one write, when it is back. A wait for messages has a thread of its own.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from taskiq import AckableMessage, AsyncBroker, AsyncResultBackend, BrokerMessage, ScheduledTask, ScheduleSource, TaskiqResult
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.serializers import JSONSerializer

from flo import calls
from flo.calls import Call, Message
from flo.client import Client
from flo.client.settings import DEFAULT_URL
from flo.contrib.leases import AGAIN_SECONDS, AWAY, LEASE_MS, Leases, PerProcess, log
from flo.errors import NotFound

T = TypeVar("T")
BLOCK_MS = 1000  # of one wait for messages: a worker that is to stop waits no longer


class _Sender:
    """Makes the calls of many coroutines in one thread, all that wait in one write."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._thread = ThreadPoolExecutor(1, "flo-calls")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[Call[Any], asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def run(self, call: Call[T]) -> T:
        """The result of the call. Raises its refusal, `Disconnected` or `TimedOut`."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a program may run one loop after the other
            self._loop, self._waiting, self._task = loop, [], None
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((call, future))
        if self._task is None:
            self._task = loop.create_task(self._send())
        return await future

    async def run_here(self, function: Any, *args: Any, **options: Any) -> Any:
        """Run a function that makes calls of its own in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args, **options))

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                results = await self.run_here(self._client.run_many, [call for call, _ in batch])
            except Exception as e:  # whatever it is, each caller is to have it
                results = [e] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if future.cancelled():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        self._task = None

    def close(self) -> None:
        """End the thread and close the connections. The next call begins anew."""
        self._thread.shutdown()
        self._thread = ThreadPoolExecutor(1, "flo-calls")
        self._client.close()


class _Deliveries:
    """What a process that listens has: a thread that takes messages, and their leases."""

    def __init__(self, client: Client, lease: int, queue: str, max_attempts: int) -> None:
        self.leases = Leases(client, lease)
        self._client = client
        self._thread = ThreadPoolExecutor(1, "flo-deliveries")
        self._queue = queue
        self._max_attempts = max_attempts
        self._configured = False

    async def take(self, limit: int) -> list[Message]:
        """The next messages; none if none comes in `BLOCK_MS`, or if the server is away."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._take, limit)

    def _take(self, limit: int) -> list[Message]:
        try:
            if not self._configured:
                self._client.queues.configure(self._queue, max_attempts=self._max_attempts)
                self._configured = True
            return self.leases.take(self._queue, limit, BLOCK_MS)
        except AWAY as e:
            log.warning("no messages: %s", e)
            time.sleep(AGAIN_SECONDS)
            return []

    def close(self) -> None:
        """Give back what was not acknowledged, and close the connections. The next `take` begins anew."""
        self._thread.shutdown()
        self._thread = ThreadPoolExecutor(1, "flo-deliveries")
        self.leases.close()
        self._client.close()


class FloBroker(AsyncBroker):
    """A broker on Flo. Messages stay in the queue until they are acknowledged, so a killed worker or server loses none."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        queue_name: str = "taskiq",
        *,
        lease: int = LEASE_MS,
        max_attempts: int = 0,
        prefetch: int = 16,
        **options: Any,
    ) -> None:
        """`lease` is after how many ms the messages of a killed worker come back. `max_attempts` is after how many deliveries without an
        acknowledgement a message becomes a dead letter (0: never); a message that a stopped worker gives back counts one, although it was
        not started. `prefetch` is how many messages a worker takes in one request, 100 at most. Other options are those of
        `flo.Client`."""
        super().__init__()
        self.queue_name = queue_name
        self._prefetch = prefetch
        self._sender = PerProcess(lambda: _Sender(Client(url, **options)))
        self._deliveries = PerProcess(lambda: _Deliveries(Client(url, **options), lease, queue_name, max_attempts))

    async def kick(self, message: BrokerMessage) -> None:
        """Enqueue a task, with the labels `queue_name`, `priority` and `delay` (seconds)."""
        labels = message.labels
        await self._sender.get().run(
            calls.queue_enqueue(
                labels.get("queue_name") or self.queue_name,
                message.message,
                priority=int(labels["priority"]) if "priority" in labels else None,
                delay=round(float(labels["delay"]) * 1000) if "delay" in labels else None,
            )
        )

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """The tasks of the queue, as they come."""
        deliveries = self._deliveries.get()
        while True:
            for message in await deliveries.take(self._prefetch):
                yield AckableMessage(data=message.payload, ack=partial(self._ack, deliveries.leases, message))

    async def _ack(self, leases: Leases, message: Message) -> None:
        call = calls.queue_ack(self.queue_name, [message])
        try:
            await self._sender.get().run(call)
        except AWAY as e:
            leases.later(call, self.queue_name, [message], e)
        else:
            leases.forget(self.queue_name, [message])

    async def shutdown(self) -> None:
        """Give back what was not acknowledged, and close the connections."""
        await super().shutdown()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._deliveries.get().close)
        await loop.run_in_executor(None, self._sender.get().close)


class FloResultBackend(AsyncResultBackend[Any]):
    """Results and progress as keys of Flo."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        keep_results: bool = True,
        expire_time: int = 0,
        prefix: str = "taskiq",
        serializer: TaskiqSerializer | None = None,
        **options: Any,
    ) -> None:
        """Without `keep_results`, reading a result deletes it. `expire_time` is how many seconds a result is kept (0: for ever). Keys are
        `PREFIX:result:ID` and `PREFIX:progress:ID`. Other options are those of `flo.Client`."""
        self._sender = PerProcess(lambda: _Sender(Client(url, **options)))
        self._keep = keep_results
        self._ttl = expire_time or None
        self._prefix = prefix
        self._serializer = serializer or JSONSerializer()

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        """Store a result."""
        await self._put(f"{self._prefix}:result:{task_id}", result)

    async def is_result_ready(self, task_id: str) -> bool:
        """Whether the task has ended."""
        return await self._sender.get().run(calls.kv_exists(f"{self._prefix}:result:{task_id}"))

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        """The result of a task. Raises `NotFound`."""
        key, sender = f"{self._prefix}:result:{task_id}", self._sender.get()
        entry = await sender.run(calls.kv_get(key))
        if entry is None:
            raise NotFound(f"there is no result of the task {task_id!r}: it has not ended, or its result expired or was read")
        if not self._keep:
            await sender.run(calls.kv_delete(key))
        result = TaskiqResult[Any].model_validate(self._serializer.loadb(entry.value))
        if not with_logs:
            result.log = None
        return result

    async def set_progress(self, task_id: str, progress: TaskProgress[Any]) -> None:
        """Store a task's progress."""
        await self._put(f"{self._prefix}:progress:{task_id}", progress)

    async def get_progress(self, task_id: str) -> TaskProgress[Any] | None:
        """A task's progress, if it has told any."""
        entry = await self._sender.get().run(calls.kv_get(f"{self._prefix}:progress:{task_id}"))
        return None if entry is None else TaskProgress[Any].model_validate(self._serializer.loadb(entry.value))

    async def _put(self, key: str, value: TaskiqResult[Any] | TaskProgress[Any]) -> None:
        await self._sender.get().run(calls.kv_put(key, self._serializer.dumpb(value.model_dump(mode="json")), ttl=self._ttl))

    async def shutdown(self) -> None:
        """Close the connections."""
        await asyncio.get_running_loop().run_in_executor(None, self._sender.get().close)


class FloScheduleSource(ScheduleSource):
    """Schedules as keys of Flo, `PREFIX:ID`. One for a time is deleted when its task was sent."""

    def __init__(self, url: str = DEFAULT_URL, *, prefix: str = "taskiq:schedule", **options: Any) -> None:
        """Other options are those of `flo.Client`."""
        self._client = PerProcess(lambda: Client(url, **options))
        self._prefix = f"{prefix}:"

    async def get_schedules(self) -> list[ScheduledTask]:
        """All schedules."""
        found = await asyncio.to_thread(lambda: list(self._client.get().kv.scan(self._prefix)))
        return [ScheduledTask.model_validate_json(value) for _, value in found]

    async def add_schedule(self, schedule: ScheduledTask) -> None:
        """Add a schedule, or replace the one with its id."""
        await asyncio.to_thread(self._client.get().kv.put, self._prefix + schedule.schedule_id, schedule.model_dump_json())

    async def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule."""
        await asyncio.to_thread(self._client.get().kv.delete, self._prefix + schedule_id)

    async def post_send(self, task: ScheduledTask) -> None:
        """A time comes once."""
        if task.time is not None:
            await self.delete_schedule(task.schedule_id)

    async def shutdown(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._client.get().close)
