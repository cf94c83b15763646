"""One thread extends all leases of a worker, each at a third of its time, sends what handlers say of their progress, and learns which
deliveries were cancelled or lost."""

import logging
import random
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from flo.client import Client, Disconnected
from flo.errors import Refusal
from flo.worker.sources import Delivery, Hold

TOUCH_SECONDS_MAX = 30.0  # a touch is a heartbeat too; after 90 s without one the server takes a worker for lost
PROGRESS_SECONDS = 0.5  # between two touches of one delivery: each is a record in the log
AGAIN_SECONDS = 1.0  # after a touch that did not reach the server
log: logging.Logger = logging.getLogger("flo.worker")


class Leases:
    """The leases of the deliveries that `held` gives, whose thread runs until `end`."""

    def __init__(self, client: Client, lock: threading.Lock, held: Callable[[], Iterable[Delivery]]) -> None:
        """`lock` guards the deliveries."""
        self._client = client
        self._held = held
        self._changed = threading.Condition(lock)
        self._ended = False
        self._wakes_at = 0.0  # when the thread looks again by itself

    def add(self, delivery: Delivery) -> None:
        """A delivery has come; the caller has the lock."""
        delivery.touch_at = monotonic() + _third(delivery)
        delivery.context.on_progress = lambda: self._hurry(delivery)
        if delivery.touch_at < self._wakes_at:
            self._changed.notify()

    def end(self) -> None:
        """End the thread; the caller has the lock."""
        self._ended = True
        self._changed.notify()

    def _hurry(self, delivery: Delivery) -> None:
        with self._changed:
            delivery.touch_at = min(delivery.touch_at, max(monotonic(), delivery.touched_at + PROGRESS_SECONDS))
            self._changed.notify()

    def run(self) -> None:
        """Extend leases until the end."""
        while True:
            with self._changed:
                due = self._wait()
                if self._ended:
                    return
            answers: list[Any]
            try:
                answers = self._client.run_many([each.source.touch(each, each.context.take_progress()) for each in due])
            except Disconnected as e:
                answers = [e] * len(due)
            with self._changed:
                for delivery, answer in zip(due, answers, strict=True):
                    self._touched(delivery, answer)

    def _wait(self) -> list[Delivery]:
        """The deliveries to touch, once there are some or the end has come."""
        while not self._ended:
            now = monotonic()
            held = [each for each in self._held() if each.hold is Hold.HELD and not each.is_over]
            due = [each for each in held if each.touch_at <= now]
            if due:
                return due
            self._wakes_at = min((each.touch_at for each in held), default=now + TOUCH_SECONDS_MAX)
            self._changed.wait(self._wakes_at - now)
        return []

    def _touched(self, delivery: Delivery, answer: Any) -> None:
        if delivery.is_over:
            return  # the answer to its report decides
        now = monotonic()
        delivery.touched_at = now
        hold = delivery.source.hold_after(answer)
        if hold is not Hold.HELD:
            delivery.hold = hold
            delivery.context.cancelled = True
            log.warning("%s: %s", delivery, "it was cancelled" if hold is Hold.CANCELLED else "its lease is lost")
        elif isinstance(answer, (Refusal, Disconnected)):
            delivery.touch_at = now + random.uniform(AGAIN_SECONDS / 2, AGAIN_SECONDS)
        else:
            delivery.touch_at = now + _third(delivery)


def _third(delivery: Delivery) -> float:
    return min(delivery.lease_ms / 3000 or TOUCH_SECONDS_MAX, TOUCH_SECONDS_MAX)
