"""Huey on Flo: `FloHuey`, and the `FloStorage` below it.

A task is a message of the queue of the Huey's name. A worker takes it with a lease and removes it when the task has been executed, whatever
came of it; Huey itself takes a task off its queue before it executes it, and so loses it with its worker. Tasks for later are keys whose
names begin with their time. `FloHuey` puts a task that is due into the queue before it deletes its key, under a deduplication key, so a
scheduler that is killed in between neither loses nor doubles it. Results, locks and counters are keys.
"""

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from huey import signals
from huey.api import Huey
from huey.constants import EmptyData
from huey.storage import BaseStorage

from flo import calls
from flo.calls import Message
from flo.client import Client
from flo.client.settings import DEFAULT_URL
from flo.contrib.leases import LEASE_MS, POOL, Leases, PerProcess
from flo.errors import Conflict
from flo.limits import LIST_ITEMS_MAX

PRIORITY_MIDDLE = (
    128  # Flo's priority of a task without one. Huey's grow with the urgency and may be negative; Flo's are the other way round
)
PRIORITY_MAX = 255
READ_MS = 1000  # how long a worker waits for a task before it looks whether it is to stop
DUE_MAX = 100  # tasks for later that are looked at together
MGET_MAX = 256  # keys of one request


class FloStorage(BaseStorage):
    """The storage interface of Huey. By itself, `dequeue` removes what it returns, as Huey's other storages do; `FloHuey` uses `lease`,
    `done` and `give_back` instead."""

    blocking = True
    priority = True

    def __init__(
        self,
        name: str = "huey",
        url: str = DEFAULT_URL,
        *,
        lease: int = LEASE_MS,
        max_attempts: int = 5,
        expire_time: int = 0,
        **options: Any,
    ) -> None:
        """`lease` is after how many ms the task of a killed worker comes back. `max_attempts` is after how many killed workers it becomes
        a dead letter (0: never). `expire_time` is how many seconds a result is kept (0: until it is read). Other options are those of
        `flo.Client`."""
        super().__init__(name)
        self._client = PerProcess(lambda: Client(url, **POOL | options))
        self._leases = PerProcess(lambda: Leases(self._client.get(), lease))
        self._configured = PerProcess[set[str]](set)
        self._max_attempts = max_attempts
        self._expire_time = expire_time
        self._later = f"huey.schedule.{name}:"
        self._results = f"huey.results.{name}:"
        self._counters = f"huey.counters.{name}:"

    def close(self) -> None:
        """Close the connections, after the acknowledgements that are still due. The storage may be used again."""
        self._leases.get().close()
        self._client.get().close()

    # -- the queue ---------------------------------------------------------------------------------

    def enqueue(self, data: bytes, priority: float | None = None, dedup: bytes | None = None) -> None:
        """Add a task. Priorities from -127 to 128 are told apart; a higher one goes first."""
        level = min(max(PRIORITY_MIDDLE - round(priority or 0), 0), PRIORITY_MAX)
        self._client.get().queues.enqueue(self.name, data, priority=level, dedup=dedup)

    def lease(self) -> Message | None:
        """Take a task, which is this worker's until `done` or `give_back`; None if there is none for a second."""
        configured = self._configured.get()
        if self.name not in configured:
            self._client.get().queues.configure(self.name, max_attempts=self._max_attempts)
            configured.add(self.name)
        messages = self._leases.get().take(self.name, 1, READ_MS)
        return messages[0] if messages else None

    def done(self, message: Message) -> None:
        """Remove a task that was taken."""
        self._leases.get().ack(self.name, message)

    def give_back(self, message: Message, *, dead: bool = False) -> None:
        """Give a task that was taken back to the queue, or to its dead letters."""
        self._leases.get().give_back(self.name, [message], dead=dead)

    def dequeue(self) -> bytes | None:
        """Take a task and remove it."""
        message = self.lease()
        if message is None:
            return None
        self.done(message)
        return message.payload

    def queue_size(self) -> int:
        """How many tasks no worker has."""
        return int(self._client.get().queues.stats(self.name)["ready"])

    def enqueued_items(self, limit: int | None = None) -> list[bytes]:
        """The next tasks, a thousand at most."""
        return [message.payload for message in self._client.get().queues.peek(self.name, min(limit or LIST_ITEMS_MAX, LIST_ITEMS_MAX))]

    def flush_queue(self) -> None:
        """Remove every task; dead letters stay."""
        self._client.get().queues.purge(self.name)

    # -- tasks for later: keys, `PREFIX + 20 digits of microseconds : UUID` ------------------------

    def add_to_schedule(self, data: bytes, ts: datetime) -> None:
        """Keep a task until `ts`."""
        self._client.get().kv.put(f"{self._later}{_microseconds(ts):020d}:{uuid.uuid4().hex}", data)

    def due(self, ts: datetime) -> Iterator[tuple[bytes, bytes]]:
        """The key and the data of each task whose time has come at `ts`, the earliest first."""
        kv = self._client.get().kv
        end = f"{self._later}{_microseconds(ts) + 1:020d}".encode()
        cursor = b""
        while True:
            page = kv.scan_page(self._later, limit=DUE_MAX, cursor=cursor, keys_only=True)
            keys = [key for key, _ in page.items if key < end]
            for key, entry in zip(keys, kv.mget(keys) if keys else [], strict=True):
                if entry is not None:  # another scheduler was faster
                    yield key, entry.value
            cursor = page.cursor
            if len(keys) < len(page.items) or not cursor:
                return

    def unschedule(self, key: bytes) -> None:
        """Remove a task that `due` gave."""
        self._client.get().kv.delete(key)

    def read_schedule(self, ts: datetime) -> list[bytes]:
        """Take the tasks whose time has come, and remove them."""
        found = list(self.due(ts))
        self._delete([key for key, _ in found])
        return [data for _, data in found]

    def schedule_size(self) -> int:
        """How many tasks are for later."""
        return self._count(self._later)

    def scheduled_items(self, limit: int | None = None) -> list[bytes]:
        """The tasks for later, the earliest first."""
        return [value for _, value in islice(self._client.get().kv.scan(self._later), limit)]

    def flush_schedule(self) -> None:
        """Remove the tasks for later."""
        self._clear(self._later)

    # -- results, locks, counters ------------------------------------------------------------------

    def put_data(self, key: str | bytes, value: bytes, is_result: bool = False) -> None:
        """Set a key; a result expires if the storage has an `expire_time`."""
        self._client.get().kv.put(self._name(key), value, ttl=(is_result and self._expire_time) or None)

    def peek_data(self, key: str | bytes) -> Any:
        """The key's value, or `EmptyData`."""
        entry = self._client.get().kv.get(self._name(key))
        return EmptyData if entry is None else entry.value

    def peek_many(self, keys: list[str | bytes]) -> dict[str | bytes, bytes]:
        """The values of the keys that exist."""
        found: dict[str | bytes, bytes] = {}
        for at in range(0, len(keys), MGET_MAX):
            some = keys[at : at + MGET_MAX]
            entries = self._client.get().kv.mget([self._name(key) for key in some])
            found.update((key, entry.value) for key, entry in zip(some, entries, strict=True) if entry is not None)
        return found

    def pop_data(self, key: str | bytes) -> Any:
        """Take the key's value, or `EmptyData`: one of several that ask gets it."""
        kv = self._client.get().kv
        while True:
            entry = kv.get(self._name(key))
            if entry is None:
                return EmptyData
            try:
                if kv.delete(self._name(key), cas=entry.version) is not None:
                    return entry.value
            except Conflict:
                continue  # it was set anew

    def wait_result(self, key: str | bytes, timeout: float | None = None, backoff: float = 1.15, max_delay: float = 1.0) -> bool:
        """Wait until the key is set; Flo tells, nobody polls. Returns whether it is."""
        if timeout is not None and timeout * 1000 < 1:
            return self.has_data_for_key(key)
        return self._client.get().kv.wait(self._name(key), 0 if timeout is None else int(timeout * 1000)) is not None

    def delete_data(self, key: str | bytes) -> bool:
        """Delete a key; returns whether it existed."""
        return self._client.get().kv.delete(self._name(key)) is not None

    def has_data_for_key(self, key: str | bytes) -> bool:
        """Whether the key exists."""
        return self._client.get().kv.exists(self._name(key))

    def put_if_empty(self, key: str | bytes, value: bytes, ttl: int | None = None) -> bool:
        """Set the key if it does not exist, for `ttl` seconds; returns whether it did not."""
        try:
            self._client.get().kv.put(self._name(key), value, ttl=ttl, if_absent=True)
        except Conflict:
            return False
        return True

    def incr(self, key: str, amount: int = 1) -> int:
        """Add to a counter; returns its value."""
        return self._client.get().kv.incr(self._counters + key, amount).value

    def delete_counter(self, key: str) -> None:
        """Delete a counter."""
        self._client.get().kv.delete(self._counters + key)

    def result_store_size(self) -> int:
        """How many results, locks and the like there are."""
        return self._count(self._results)

    def result_items(self) -> dict[str, bytes]:
        """All of them."""
        return {key[len(self._results.encode()) :].decode(): value for key, value in self._client.get().kv.scan(self._results)}

    def flush_results(self) -> None:
        """Delete all of them."""
        self._clear(self._results)

    def flush_counters(self) -> None:
        """Delete the counters."""
        self._clear(self._counters)

    def _name(self, key: str | bytes) -> bytes:
        return self._results.encode() + (key if isinstance(key, bytes) else key.encode())

    def _count(self, prefix: str) -> int:
        return sum(1 for _ in self._client.get().kv.scan(prefix, keys_only=True))

    def _clear(self, prefix: str) -> None:
        self._delete([key for key, _ in self._client.get().kv.scan(prefix, keys_only=True)])

    def _delete(self, keys: list[bytes]) -> None:
        for at in range(0, len(keys), LIST_ITEMS_MAX):
            self._client.get().run_many([calls.kv_delete(key) for key in keys[at : at + LIST_ITEMS_MAX]])


def _microseconds(ts: datetime) -> int:
    """A number that grows with the time. Huey's times are naive, all in UTC or all in local time."""
    return max(0, (ts - datetime(1970, 1, 1)) // timedelta(microseconds=1))


class FloHuey(Huey):
    """A Huey whose tasks survive their workers: `FloHuey("name", url="flo://127.0.0.1:9000")`. Its arguments are those of Huey and of
    `FloStorage`."""

    storage_class = FloStorage

    def dequeue(self) -> Any:
        """Take a task with a lease. Data that is no task becomes a dead letter, and raises what the serializer raises."""
        storage = self.storage
        if not isinstance(storage, FloStorage):  # immediate mode has its own storage
            return super().dequeue()
        message = storage.lease()
        if message is None:
            return None
        try:
            task = self.deserialize_task(message.payload)
        except Exception:
            storage.give_back(message, dead=True)
            raise
        task.flo_message = message
        return task

    def execute(self, task: Any, timestamp: datetime | None = None) -> Any:
        """Execute a task, then remove it from the queue. If not even its failure could be stored, it goes back to the queue."""
        try:
            result = super().execute(task, timestamp)
        except BaseException:
            self._give_back(task)
            raise
        message = task.__dict__.pop("flo_message", None)
        if message is not None:
            self.storage.done(message)
        return result

    def read_schedule(self, timestamp: datetime | None = None) -> list[Any]:
        """Put the tasks that are due into the queue. The list is empty: nothing is left to the scheduler that calls this."""
        storage = self.storage
        if not isinstance(storage, FloStorage):
            return list(super().read_schedule(timestamp))
        for key, data in storage.due(timestamp or self._get_timestamp()):
            for task in self._deserialize_all([data]):
                if task.expires:
                    task.resolve_expires(self.utc)
                self._emit(signals.SIGNAL_ENQUEUED, task)
                storage.enqueue(self.serialize_task(task), task.priority, dedup=key)
            storage.unschedule(key)
        return []

    def _emit(self, signal: str, task: Any, *args: Any, **kwargs: Any) -> None:
        if signal == signals.SIGNAL_INTERRUPTED:  # the worker ends before the task does
            self._give_back(task)
        super()._emit(signal, task, *args, **kwargs)

    def _give_back(self, task: Any) -> None:
        message = task.__dict__.pop("flo_message", None)
        if message is not None:
            self.storage.give_back(message)
