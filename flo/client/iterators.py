"""What a client's methods do with several requests, for both kinds of clients: generators of calls (flo.operations.method)."""

from base64 import b64decode
from collections.abc import Callable
from functools import partial
from typing import Any

from flo.calls import (
    Call,
    Id,
    Message,
    Retried,
    StreamId,
    StreamRecord,
    action_list,
    action_retry_many,
    action_runs,
    kv_scan,
    queue_dequeue,
    queue_list,
    schedule_list,
    stream_info,
    stream_list,
    stream_read,
    ts_list,
    worker_list,
)
from flo.given import Text
from flo.limits import LIST_ITEMS_MAX
from flo.operations.action import ActionOperations
from flo.operations.kv import KeyOperations
from flo.operations.method import Drive, Steps, driven, paged
from flo.operations.queue import QueueOperations
from flo.operations.schedule import ScheduleOperations
from flo.operations.stream import StreamOperations
from flo.operations.timeseries import TimeSeriesOperations
from flo.operations.worker import WorkerOperations

# An iterator that waits asks again so often: a server that is gone without a word is found, and what a cancelled task has asked for ends.
BLOCK_MS = 20_000


class KeyMethods(KeyOperations):
    """The operations on keys. Keys and values are bytes, or text in UTF-8."""

    @paged
    def scan(self, prefix: Text = b"", *, keys_only: bool = False) -> Steps[tuple[bytes, bytes]]:
        """Every (key, value) with a prefix, ascending, page by page. Keys written meanwhile may or may not appear."""
        page = yield (), kv_scan(prefix, limit=LIST_ITEMS_MAX, keys_only=keys_only)
        while page.cursor:
            page = yield page.items, kv_scan(prefix, limit=LIST_ITEMS_MAX, cursor=page.cursor, keys_only=keys_only)
        return page.items  # type: ignore[no-any-return]


class QueueMethods(QueueOperations):
    """The operations on queues. A receipt is a `Message`, (seq, attempt), or the text `seq-attempt`; a seq alone stands for the present
    lease, whoever holds it."""

    @paged
    def consume(self, queue: Text, *, lease: int | None = None) -> Steps[Message]:
        """Each message as it comes, one at a time, for ever: `ack` it when the work is done, or `nack` it. `lease` is in ms."""
        messages: list[Message] = []
        while True:
            messages = yield messages, queue_dequeue(queue, lease=lease, block=BLOCK_MS)

    @paged
    def list(self) -> Steps[dict[str, Any]]:
        """Every queue with its stats."""
        return _pages("queues", queue_list)


class StreamMethods(StreamOperations):
    """The operations on streams and their groups. An id is a `StreamId`, (ms, seq), or the text `ms-seq`."""

    @paged
    def scan(self, stream: Text, start: Id | None = None, end: Id | None = None) -> Steps[StreamRecord]:
        """Every record from `start` to `end`, page by page."""
        page = yield (), stream_read(stream, start, end, limit=LIST_ITEMS_MAX)
        while page:
            page = yield page, stream_read(stream, after(page[-1].id), end, limit=LIST_ITEMS_MAX)
        return ()

    @paged
    def follow(self, stream: Text, start: Id | None = None) -> Steps[StreamRecord]:
        """Every record from `start` (None: new ones only) on, then each new record as it comes; never ends."""
        if start is None:
            start = after((yield (), stream_info(stream)).last)
        page: list[StreamRecord] = []
        while True:
            page = yield page, stream_read(stream, start, limit=LIST_ITEMS_MAX, block=BLOCK_MS)
            start = after(page[-1].id) if page else start

    @paged
    def list(self) -> Steps[dict[str, Any]]:
        """Every stream with its figures."""
        return _pages("streams", stream_list)


class TimeSeriesMethods(TimeSeriesOperations):
    """The operations on time series. A point is a measurement, tags, a field, a time in ms, and a number."""

    @paged
    def list(self) -> Steps[dict[str, Any]]:
        """Every measurement."""
        return _pages("measurements", ts_list)


class ActionMethods(ActionOperations):
    """The operations on actions and their runs. A run is named by its id, which `invoke` returns."""

    @paged
    def list(self) -> Steps[dict[str, Any]]:
        """Every action."""
        return _pages("actions", action_list)

    @paged
    def runs(self, action: Text = b"", *, state: str | None = None, labels: Text = b"") -> Steps[dict[str, Any]]:
        """Every run of an action, or of all, in this `state`, which has all the `labels` (a JSON object), the newest first."""
        return _pages("runs", partial(action_runs, action, state=state, labels=labels))

    @driven
    def retry_many(self, action: Text, state: str, *, labels: Text = b"") -> Drive[int]:
        """Retry every run of an action in this `state` (`failed`, `cancelled` or `timed_out`) which has all the `labels` (a JSON object);
        returns how many became pending."""
        count, cursor = 0, b""
        page: Retried
        while True:
            page = yield action_retry_many(action, state, labels=labels, limit=LIST_ITEMS_MAX, cursor=cursor)
            count, cursor = count + page.retried, page.cursor
            if not cursor:
                return count


class WorkerMethods(WorkerOperations):
    """The operations of workers: take runs, and report on them. A report is refused as `Conflict` if the worker does not hold the run any
    more; it changes nothing then."""

    @paged
    def list(self) -> Steps[dict[str, Any]]:
        """Every worker."""
        return _pages("workers", worker_list)


class ScheduleMethods(ScheduleOperations):
    """The operations on schedules, which invoke actions at their times."""

    @paged
    def list(self) -> Steps[dict[str, Any]]:
        """All schedules, by their names."""
        return _pages("schedules", schedule_list)


def _pages(name: str, ask: Callable[..., Call[dict[str, Any]]]) -> Steps[dict[str, Any]]:
    """The items of every page that `ask` asks for, under `name`."""
    page = yield (), ask(limit=LIST_ITEMS_MAX)
    while cursor := b64decode(page["cursor"]):
        page = yield page[name], ask(limit=LIST_ITEMS_MAX, cursor=cursor)
    return page[name]  # type: ignore[no-any-return]


def after(ident: StreamId) -> StreamId:
    """The next possible id."""
    return StreamId(ident.ms, ident.seq + 1) if ident.seq < (1 << 64) - 1 else StreamId(ident.ms + 1, 0)
