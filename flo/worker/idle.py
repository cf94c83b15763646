"""Executing what is due, in the thread that asks, until nothing is: for tests."""

import asyncio
from collections.abc import Sequence
from functools import partial

from flo.errors import Refusal
from flo.worker.execute import FAILED, REFUSED, execute, execute_async
from flo.worker.runner import Runner
from flo.worker.sources import Delivery, Hold, Source


def run_until_idle(runner: Runner, sources: Sequence[Source]) -> int:
    """Execute deliveries, one at a time, until no source has one that is due; returns how many. A delayed one is not due. If a handler
    raises, that is reported as always, and the exception leaves here: the next call goes on. Raises refusals too."""
    for source in sources:
        source.prepare(runner, 1)
    count = 0
    try:
        with asyncio.Runner() as loop:
            while delivery := _next(runner, sources):
                delivery.context.on_progress = partial(_touch, runner, delivery)
                outcome = loop.run(execute_async(delivery)) if delivery.is_async else execute(delivery)
                (answer,) = runner.run_many([outcome.report])
                if isinstance(answer, Refusal) and delivery.source.hold_after(answer) is Hold.HELD:
                    raise answer
                count += 1
                if outcome.error is not None and outcome.word in (FAILED, REFUSED):
                    raise outcome.error
    finally:
        for source in sources:
            source.leave(runner)
    return count


def _next(runner: Runner, sources: Sequence[Source]) -> Delivery | None:
    """The next delivery that is due."""
    for source in sources:
        (call,) = source.asks(1)
        for delivery in source.deliveries(runner.run(call)):
            return delivery
    return None


def _touch(runner: Runner, delivery: Delivery) -> None:
    """Send a handler's progress, and learn whether to stop."""
    (answer,) = runner.run_many([delivery.source.touch(delivery, delivery.context.take_progress())])
    delivery.context.cancelled = delivery.source.hold_after(answer) is not Hold.HELD
