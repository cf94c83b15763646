"""A loop for what lives in the reactor, without a server: descriptors and timers, until a condition holds."""

import select
from collections.abc import Callable
from heapq import heappop, heappush
from time import monotonic

from flo.loop import Timer


class MiniLoop:
    """What flo.cluster.etcd needs of the reactor."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = 0

    def register(self, fd: int, events: int, handler: Callable[[int], None], /) -> None:
        """As the reactor's."""
        self._poll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int, /) -> None:
        """As the reactor's."""
        self._poll.modify(fd, events)

    def unregister(self, fd: int, /) -> None:
        """As the reactor's."""
        self._poll.unregister(fd)
        del self._handlers[fd]

    def call_later(self, seconds: float, callback: Callable[[], None], /) -> Timer:
        """As the reactor's."""
        self._count += 1
        timer = Timer(callback, [0])
        heappush(self._timers, (monotonic() + seconds, self._count, timer))
        return timer

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waited for: no descriptor, no timer."""
        return not self._handlers and all(timer.cancelled for _, _, timer in self._timers)

    def run_until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Turn until the condition holds. Raises `AssertionError` if that takes too long."""
        deadline = monotonic() + seconds
        while not condition():
            assert monotonic() < deadline, "the loop ran for too long"
            wait = min([deadline, *[at for at, _, _ in self._timers[:1]]]) - monotonic()
            for fd, events in self._poll.poll(max(wait, 0) * 1000 + 1):
                if fd in self._handlers:
                    self._handlers[fd](events)
            while self._timers and self._timers[0][0] <= monotonic():
                heappop(self._timers)[2].callback()
