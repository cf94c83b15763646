"""Executing deliveries: one to its outcome, and a pool for many, functions in threads and coroutines in one event loop."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

from flo.calls import Call
from flo.worker.context import NonRetryable, Snooze, present
from flo.worker.sources import Delivery

DONE, FAILED, REFUSED, SNOOZED = "done", "failed", "refused", "snoozed"


class Outcome(NamedTuple):
    """What became of a delivery, the report of it, and the exception that decided it."""

    word: str
    report: Call[Any]
    error: BaseException | None = None


def execute(delivery: Delivery) -> Outcome:
    """Call a function."""
    token = present.set(delivery.context)
    try:
        args, kwargs = delivery.source.arguments(delivery)
        return _returned(delivery, delivery.function(*args, **kwargs))
    except BaseException as e:
        return _raised(delivery, e)
    finally:
        present.reset(token)


async def execute_async(delivery: Delivery) -> Outcome:
    """Await a coroutine function."""
    token = present.set(delivery.context)
    try:
        args, kwargs = delivery.source.arguments(delivery)
        return _returned(delivery, await delivery.function(*args, **kwargs))
    except BaseException as e:
        return _raised(delivery, e)
    finally:
        present.reset(token)


def _returned(delivery: Delivery, result: Any) -> Outcome:
    return Outcome(DONE, delivery.source.done(delivery, result))


def _raised(delivery: Delivery, error: BaseException) -> Outcome:
    """The outcome of any exception: SystemExit in a handler ends no worker."""
    source = delivery.source
    if isinstance(error, Snooze):
        return Outcome(SNOOZED, source.given_back(delivery, round(error.seconds * 1000)), error)
    if isinstance(error, NonRetryable):
        return Outcome(REFUSED, source.refused(delivery, error), error)
    return Outcome(FAILED, source.failed(delivery, error), error)


class Pool:
    """Executes the deliveries that it is given, all at once; whoever gives them keeps to a bound. Its threads end with the process: a
    handler that never returns does not keep a worker from ending."""

    def __init__(self, ended: Callable[[Delivery, Outcome], None]) -> None:
        """`ended` is called in the thread that executed."""
        self._ended = ended
        self._tasks: SimpleQueue[Delivery | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._free = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, delivery: Delivery) -> None:
        """Execute a delivery."""
        if delivery.is_async:
            self._event_loop().call_soon_threadsafe(self._begin_task, delivery)
            return
        with self._lock:
            if self._free:
                self._free -= 1
            else:
                self._threads += 1
                threading.Thread(target=self._work, name=f"flo-handler-{self._threads}", daemon=True).start()
        self._tasks.put(delivery)

    def close(self) -> None:
        """End the threads that are free, and cancel the coroutines."""
        with self._lock:
            for _ in range(self._threads):
                self._tasks.put(None)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end_loop, self._loop)

    def _work(self) -> None:
        while (delivery := self._tasks.get()) is not None:
            outcome = execute(delivery)
            with self._lock:
                self._free += 1
            self._ended(delivery, outcome)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._run_loop, args=(self._loop,), name="flo-coroutines", daemon=True).start()
        return self._loop

    @staticmethod
    def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
        loop.run_forever()
        loop.close()

    def _begin_task(self, delivery: Delivery) -> None:
        task = asyncio.ensure_future(self._work_async(delivery))
        self._under_way.add(task)  # the loop itself keeps no reference
        task.add_done_callback(self._under_way.discard)

    async def _work_async(self, delivery: Delivery) -> None:
        self._ended(delivery, await execute_async(delivery))

    def _end_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        for task in self._under_way:
            task.cancel()
        asyncio.gather(*self._under_way, return_exceptions=True).add_done_callback(lambda _: loop.stop())
