"""Where a worker's work comes from: the actions that it has registered for, a queue, a group of a stream. A source makes the calls that
take a delivery, keep it, and say what became of it, and reads their answers; it sends nothing itself.

    outcome           action                  queue                      group
    returned          worker_complete         queue_ack                  stream_group_ack
    raised            worker_fail, retry      queue_nack with back-off   stream_group_nack with back-off
    NonRetryable      worker_fail             queue_nack, dead           stream_group_ack
    Snooze            worker_release, delay   queue_nack, delay          stream_group_nack, delay
    given back        worker_release          queue_nack                 stream_group_nack
"""

import inspect
import json
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any

from flo import calls
from flo.calls import Call, Message, StreamRecord
from flo.errors import Conflict, NotFound
from flo.operations.worker import Assignment, Touched
from flo.worker.action import Invocable
from flo.worker.arguments import Parameters
from flo.worker.context import Context, NonRetryable
from flo.worker.runner import Runner

ERROR_CHARACTERS_MAX = 16_384
BACK_OFF_MAX_MS = 3_600_000


class Hold(Enum):
    """What the server says of a delivery."""

    HELD = 0
    CANCELLED = 1
    LOST = 2


class Delivery:
    """Work that a worker holds by a lease of `lease_ms` (0: without an end)."""

    def __init__(self, source: "Source", item: Any, context: Context, function: Callable[..., Any], lease_ms: int) -> None:
        """`item` is what the server delivered."""
        self.source = source
        self.item = item
        self.context = context
        self.function = function
        self.is_async: bool = inspect.iscoroutinefunction(function)
        self.lease_ms = lease_ms
        self.hold = Hold.HELD
        self.is_over = False  # its handler has ended
        self.touch_at: float = 0.0  # when to extend the lease, by the monotonic clock
        self.touched_at: float = 0.0  # … and when that was done

    @property
    def key(self) -> tuple[int, str]:
        """It names the delivery among all of a worker."""
        return id(self.source), f"{self.context.run_id}/{self.context.attempt}"

    def __str__(self) -> str:
        return f"{self.context.name} {self.context.run_id}, attempt {self.context.attempt}"


class Source(ABC):
    """One place where work comes from."""

    name: str

    @abstractmethod
    def prepare(self, runner: Runner, concurrency: int) -> None:
        """Register. What is there already stays, but for what the decorator sets. Raises refusals."""

    def recover(self, runner: Runner, concurrency: int, held: Callable[[str], bool]) -> list[Call[Any]]:
        """Register again after a connection was lost. Returns the reports that give back the runs that the server delivered and this worker
        never saw; `held` says of a run's id whether it did. Raises refusals."""
        self.prepare(runner, concurrency)
        return []

    @abstractmethod
    def asks(self, count: int) -> list[Call[Any]]:
        """The requests for up to `count` deliveries that are there now."""

    @abstractmethod
    def awaits(self, block_ms: int) -> Call[Any]:
        """The request that waits for one delivery."""

    @abstractmethod
    def deliveries(self, answer: Any) -> list[Delivery]:
        """The deliveries in an answer to one of the two."""

    @abstractmethod
    def arguments(self, delivery: Delivery) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the handler is called with, without its context. Raises `NonRetryable`."""

    @abstractmethod
    def done(self, delivery: Delivery, result: Any) -> Call[Any]:
        """The handler returned. Raises `NonRetryable` for a result that cannot be carried."""

    @abstractmethod
    def failed(self, delivery: Delivery, error: BaseException) -> Call[Any]:
        """The handler raised; another attempt may help."""

    @abstractmethod
    def refused(self, delivery: Delivery, error: BaseException) -> Call[Any]:
        """The handler raised; no other attempt would help."""

    @abstractmethod
    def given_back(self, delivery: Delivery, delay_ms: int = 0) -> Call[Any]:
        """Nothing was decided: deliver it again, after `delay_ms`."""

    @abstractmethod
    def touch(self, delivery: Delivery, progress: bytes | None) -> Call[Any]:
        """Extend the lease to as long as it was at first: its action may have another timeout by now."""

    @abstractmethod
    def hold_after(self, answer: Any) -> Hold:
        """What the answer to a report or a touch says."""

    def leave(self, runner: Runner) -> None:  # noqa: B027 - a source that has nothing to leave
        """The worker ends. Raises refusals."""


class ActionSource(Source):
    """The actions that a worker takes."""

    def __init__(self, worker_id: str, actions: Mapping[str, Invocable[..., Any]], labels: Mapping[str, Any]) -> None:
        self.name = worker_id
        self.actions = actions
        self._labels = json.dumps(dict(labels)) if labels else ""
        self._is_registered = False

    def prepare(self, runner: Runner, concurrency: int) -> None:
        """See `Source`."""
        self.register(runner)
        runner.run(calls.worker_register(self.name, list(self.actions), labels=self._labels, concurrency=concurrency))

    def register(self, runner: Runner) -> None:
        """Register the actions. Of one that is registered already, what the decorator names is set anew if it differs, and only when the
        worker starts: two versions of a worker side by side do not set it in turns."""
        for action in self.actions.values():
            self._register(runner, action)
        self._is_registered = True

    def _register(self, runner: Runner, action: Invocable[..., Any]) -> None:
        try:
            (found,) = runner.run(calls.action_list(action.name))["actions"]
        except NotFound:
            runner.run(calls.action_register(action.name, **action.settings))
            return
        rate = found["rate"]
        present: dict[str, Any] = {
            "timeout": found["timeout_ms"],
            "retry_delay": found["retry_delay_ms"],
            "max_attempts": found["max_attempts"],
            "concurrency": found["concurrency"],
            "rate": (rate["starts"], rate["ms"]) if rate else None,
            "labels": json.dumps(found["labels"], sort_keys=True) if found["labels"] else "",
            "description": found["description"],
        }
        wanted = {**present, **action.settings}
        if wanted != present and not self._is_registered:
            runner.run(calls.action_register(action.name, **wanted))

    def recover(self, runner: Runner, concurrency: int, held: Callable[[str], bool]) -> list[Call[Any]]:
        """See `Source`. A worker that the server knows is not registered again, which would end its draining."""
        try:
            (found,) = runner.run(calls.worker_list(self.name))["workers"]
        except NotFound:
            self.prepare(runner, concurrency)
            return []
        return [calls.worker_release(run, worker_id=self.name) for run in found["runs"] if not held(run)]

    def asks(self, count: int) -> list[Call[Any]]:
        """See `Source`."""
        return [calls.worker_take(self.name)] * count

    def awaits(self, block_ms: int) -> Call[Any]:
        """See `Source`."""
        return calls.worker_take(self.name, block=block_ms)

    def deliveries(self, answer: Assignment | None) -> list[Delivery]:
        """See `Source`."""
        if answer is None:
            return []
        action = self.actions[answer.action.decode()]
        context = Context(action.name, answer.run_id, answer.attempt, answer.traceparent)
        return [Delivery(self, (action, answer), context, action.function, answer.lease_ms)]

    def arguments(self, delivery: Delivery) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Source`."""
        action, assignment = delivery.item
        return self._context(delivery, action.parameters), action.parameters.unpack(assignment.input)

    @staticmethod
    def _context(delivery: Delivery, parameters: Parameters) -> tuple[Context, ...]:
        return (delivery.context,) if parameters.takes_context else ()

    def _report(self, delivery: Delivery) -> dict[str, Any]:
        return {"worker_id": self.name, "attempt": delivery.context.attempt}

    def done(self, delivery: Delivery, result: Any) -> Call[Any]:
        """See `Source`."""
        output = delivery.item[0].parameters.pack_result(result)
        return calls.worker_complete(delivery.context.run_id, output, **self._report(delivery))

    def failed(self, delivery: Delivery, error: BaseException) -> Call[Any]:
        """See `Source`."""
        return calls.worker_fail(delivery.context.run_id, told(error), retry=True, **self._report(delivery))

    def refused(self, delivery: Delivery, error: BaseException) -> Call[Any]:
        """See `Source`."""
        return calls.worker_fail(delivery.context.run_id, told(error), **self._report(delivery))

    def given_back(self, delivery: Delivery, delay_ms: int = 0) -> Call[Any]:
        """See `Source`."""
        return calls.worker_release(delivery.context.run_id, delay=delay_ms, **self._report(delivery))

    def touch(self, delivery: Delivery, progress: bytes | None) -> Call[Any]:
        """See `Source`."""
        return calls.worker_touch(delivery.context.run_id, lease=delivery.lease_ms, progress=progress, **self._report(delivery))

    def hold_after(self, answer: Any) -> Hold:
        """See `Source`."""
        if isinstance(answer, (Conflict, NotFound)):
            return Hold.LOST
        return Hold.CANCELLED if isinstance(answer, Touched) and answer.cancelled else Hold.HELD

    def leave(self, runner: Runner) -> None:
        """See `Source`."""
        runner.run(calls.worker_deregister(self.name))


class Payloads(Source):
    """A source whose items have a payload: a queue, or the group of a stream."""

    def __init__(self, name: str, function: Callable[..., Any], item: type, retry_delay: int) -> None:
        """`item` is the type of what the server delivers. Raises `TypeError` for a handler that does not take one argument."""
        self.name = name
        self.function = function
        self.retry_delay = retry_delay
        self.parameters: Parameters = Parameters(function)
        if len(self.parameters.annotations) != 1:
            raise TypeError(
                f"{self.parameters.name}{self.parameters.signature} is to take one argument: the payload, or the {item.__name__}"
            )
        self._form = self.parameters.annotations[0]
        self._is_whole = self._form in (item, item.__name__)
        self._is_raw = self._form in (None, bytes, "bytes")

    def arguments(self, delivery: Delivery) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See `Source`."""
        given = delivery.item
        if not self._is_whole:
            given = given.payload
            if not self._is_raw:
                try:
                    given = json.loads(given)
                except ValueError as e:
                    raise NonRetryable(f"the payload is not JSON: {e}; annotate the parameter as bytes to get it as it is") from None
        return ((delivery.context, given) if self.parameters.takes_context else (given,)), {}

    def back_off(self, delivery: Delivery) -> int:
        """Ms before the next attempt."""
        return min(self.retry_delay << min(delivery.context.attempt - 1, 32), BACK_OFF_MAX_MS)

    def failed(self, delivery: Delivery, error: BaseException) -> Call[Any]:
        """See `Source`."""
        return self.given_back(delivery, self.back_off(delivery))

    def hold_after(self, answer: Any) -> Hold:
        """See `Source`. The answer is how many receipts were valid."""
        return Hold.LOST if answer == 0 or isinstance(answer, NotFound) else Hold.HELD


class QueueSource(Payloads):
    """The messages of a queue."""

    def __init__(self, queue: str, function: Callable[..., Any], lease: int, max_attempts: int | None, retry_delay: int) -> None:
        super().__init__(queue, function, Message, retry_delay)
        self._lease = lease
        self._max_attempts = max_attempts

    def prepare(self, runner: Runner, concurrency: int) -> None:
        """See `Source`."""
        if self._max_attempts is not None and runner.run(calls.queue_stats(self.name))["max_attempts"] != self._max_attempts:
            runner.run(calls.queue_configure(self.name, max_attempts=self._max_attempts))

    def asks(self, count: int) -> list[Call[Any]]:
        """See `Source`."""
        return [calls.queue_dequeue(self.name, count, lease=self._lease)]

    def awaits(self, block_ms: int) -> Call[Any]:
        """See `Source`."""
        return calls.queue_dequeue(self.name, 1, lease=self._lease, block=block_ms)

    def deliveries(self, answer: Iterable[Message]) -> list[Delivery]:
        """See `Source`."""
        return [
            Delivery(self, message, Context(self.name, f"{message.seq}-{message.attempts}", message.attempts), self.function, self._lease)
            for message in answer
        ]

    def done(self, delivery: Delivery, result: Any) -> Call[Any]:
        """See `Source`."""
        return calls.queue_ack(self.name, [delivery.item])

    def refused(self, delivery: Delivery, error: BaseException) -> Call[Any]:
        """See `Source`."""
        return calls.queue_nack(self.name, [delivery.item], dead=True)

    def given_back(self, delivery: Delivery, delay_ms: int = 0) -> Call[Any]:
        """See `Source`."""
        return calls.queue_nack(self.name, [delivery.item], delay=delay_ms or None)

    def touch(self, delivery: Delivery, progress: bytes | None) -> Call[Any]:
        """See `Source`."""
        return calls.queue_touch(self.name, [delivery.item], self._lease)


class StreamSource(Payloads):
    """The records of a stream, as a group delivers them."""

    def __init__(
        self,
        stream: str,
        group: str,
        consumer: str,
        function: Callable[..., Any],
        tail: bool,
        settings: Mapping[str, Any],
        retry_delay: int,
    ) -> None:
        """`settings` are the arguments of `group_create` that the decorator was given."""
        super().__init__(stream, function, StreamRecord, retry_delay)
        self.group = group
        self._consumer = consumer
        self._tail = tail
        self._settings = settings
        self._lease = 0

    def prepare(self, runner: Runner, concurrency: int) -> None:
        """See `Source`. A group that exists stays as it is."""
        with suppress(Conflict):
            runner.run(calls.group_create(self.name, self.group, tail=self._tail, **self._settings))
        self._lease = runner.run(calls.group_info(self.name, self.group))["ack_timeout_ms"]

    def asks(self, count: int) -> list[Call[Any]]:
        """See `Source`."""
        return [calls.group_read(self.name, self.group, self._consumer, limit=count)]

    def awaits(self, block_ms: int) -> Call[Any]:
        """See `Source`."""
        return calls.group_read(self.name, self.group, self._consumer, limit=1, block=block_ms)

    def deliveries(self, answer: Iterable[StreamRecord]) -> list[Delivery]:
        """See `Source`."""
        return [
            Delivery(self, record, Context(self.name, str(record.id), record.deliveries), self.function, self._lease) for record in answer
        ]

    def done(self, delivery: Delivery, result: Any) -> Call[Any]:
        """See `Source`."""
        return calls.group_ack(self.name, self.group, [delivery.item])

    def refused(self, delivery: Delivery, error: BaseException) -> Call[Any]:
        """See `Source`. The stream keeps the record."""
        return calls.group_ack(self.name, self.group, [delivery.item])

    def given_back(self, delivery: Delivery, delay_ms: int = 0) -> Call[Any]:
        """See `Source`."""
        return calls.group_nack(self.name, self.group, [delivery.item], delay=delay_ms or None, consumer=self._consumer)

    def touch(self, delivery: Delivery, progress: bytes | None) -> Call[Any]:
        """See `Source`."""
        return calls.group_touch(self.name, self.group, [delivery.item], lease=self._lease or None, consumer=self._consumer)


def told(error: BaseException) -> str:
    """A sentence about the error, and its traceback."""
    try:
        said = str(error)
    except Exception:  # of the program's own class
        said = "its text cannot be shown"
    sentence = f"{type(error).__name__}: {said}" if said else type(error).__name__
    trace = "".join(traceback.format_exception(error))
    return f"{sentence}\n\n{trace}"[:ERROR_CHARACTERS_MAX].encode("utf-8", "replace").decode()
