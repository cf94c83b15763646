"""The reactor: readiness, timers, and the phases of one turn, the tick.

    poll ─▶ timers ─▶ read and execute ─▶ upkeep ─▶ commit ─▶ reply
                       └◀─ poll again ─┘

A turn's replies leave once the log has committed all records that the turn wrote or could have read. A log that syncs in `commit` has
committed them when `commit` returns. A log that learns of it later makes the reactor hold the replies by log index; turns go on, and
nothing is polled for meanwhile.

Timers run before the commit, so their records are in this turn's batch. A turn is bounded: each ready connection gets one buffer of input,
and all connections together get TICK_SECONDS. Connections that are not served by then wait in a queue (`Late`). They are served first in
the next turn, which does not block in poll. Sending is bounded by FLUSH_SECONDS. The cost of a turn depends on the connections it serves,
not on the number that wait: with ten thousand clients ready, any work for each of them in each turn would soon fill the turn.

Some descriptors have a low priority: the listener, strangers (the connections whose protocol is not known yet, or that still owe the
secret), and those whose requests take long. They wait in a queue of their own, and get at most half of a turn, but always a place, if other
connections are ready. So neither a burst of strangers nor a hundred clients with long requests delay the others by more than one long
request or two.

The reactor knows nothing of protocols or stores. It uses epoll if the system has it, else `selectors`.
"""

import select
import selectors
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from time import monotonic
from typing import Any, Protocol

from flo.waits import Waits as Waits  # exported: the type of `Reactor.waits`

READ, WRITE, GONE = 1, 4, 24  # epoll's EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP; the other pollers are mapped onto them
TICK_SECONDS = 0.005  # of executing in one turn, without its commit: about 5,000 requests
FLUSH_SECONDS = 0.005  # of sending in one turn: 1 to 10 MiB
SMALL_OUTPUT_BYTES = 64 << 10  # an output up to this size is sent even if the turn's sending time is over: 20 us
LOOK = 7  # the clock is read after every 8th connection sent to; after every one if the last turn's sending was late
STALE_TIMERS_MIN = 256
LOOKS_AGAIN = 8  # at most so many more polls before a commit, for connections that became ready meanwhile: its sync takes no longer
EVENTS_MAX = 2048  # of one poll, at 0.1 us each, those of waiting connections included; if more are ready, the next poll gives others
LATE_STEP = 256  # waiting connections taken from their queue at a time: most of a turn
LONG_SECONDS = 1.2 * TICK_SECONDS  # a turn runs over by so much when it met a long request
LONG_TURNS_SECONDS = 1.0  # after such a turn, during which more long requests are expected
POLL_AT_ONCE_SECONDS = 30e-6  # a poll that returns so soon after the last sending has not blocked
POLL_SECONDS_MAX = 86_400.0  # epoll takes 24.8 days at most; a later timer needs more than one poll


class Handler(Protocol):
    """Called with the events of a descriptor."""

    def __call__(self, events: int, /) -> None: ...


class Runnable(Protocol):
    """An object with work left from an earlier turn."""

    @property
    def descriptor(self) -> int:
        """The descriptor to name if this fails."""

    def run_turn(self) -> None:
        """Do a turn's worth of the work."""


class Flushable(Protocol):
    """An object with replies that may leave once this turn is committed."""

    @property
    def descriptor(self) -> int:
        """The descriptor to name if this fails."""

    @property
    def owed_bytes(self) -> int:
        """How many bytes there are to send."""

    def flush(self) -> None:
        """Send the replies."""

    def hold(self, index: int) -> None:
        """Keep the replies until the log has committed `index`."""

    def release(self, committed: int) -> None:
        """Send the replies that were held for an index up to `committed`."""


class Phases(Protocol):
    """What the owner of the reactor does in each turn."""

    def begin(self, now: float) -> None:
        """The turn begins at monotonic time `now`."""

    def extend(self, deadline: float) -> None:
        """The turn's executing ends at monotonic time `deadline`, later than it was said."""

    def upkeep(self, idle: bool) -> bool:
        """Do a slice of background work; returns whether there is more."""

    def gathers(self) -> bool:
        """Whether this turn's commit takes the same time for any number of records, so that other ready connections should join it."""

    def commit(self) -> int:
        """Make the turn durable, or start to; returns the log index that its replies wait for."""

    def committed(self) -> int:
        """The log index up to which replies may leave."""

    def next_due(self) -> float | None:
        """Seconds until the owner has work that no event announces; None for never."""

    def serve_together(self, events: list[tuple[int, int]], at: int, /) -> int:
        """Serve `events` in one go, from offset `at` to the first that must be served alone; returns the offset of that event."""

    def flush_together(self, touched: list[tuple[Any, bool]], /) -> None:
        """Flush each; True beside it says that sending its replies is all there is to do."""

    def failed(self, e: Exception, fd: int) -> None:
        """A call for descriptor `fd` (-1 for a timer) raised `e`. Raise here to end the loop."""

    def end(self, started: float) -> None:
        """The turn, which began at `started`, is over."""


class Timer:
    """A call that will be made once, unless `cancel` comes first."""

    __slots__ = ("_stale", "callback", "cancelled")

    def __init__(self, callback: Callable[[], None], stale: list[int]) -> None:
        """`stale[0]` counts the cancelled timers that are still in the heap."""
        self.callback: Callable[[], None] = callback
        self.cancelled: bool = False
        self._stale = stale

    def cancel(self) -> None:
        """Do not make the call."""
        if not self.cancelled and self.callback is not _nothing:
            self._stale[0] += 1
        self.cancelled = True
        self.callback = _nothing  # the callback may refer to an object that refers to this timer, and nothing collects cycles


def _nothing() -> None:
    """The callback of a timer that is over."""


class Late:
    """The descriptors that were ready and not served in time, in order, each once."""

    def __init__(self, handlers: dict[int, Handler]) -> None:
        """`handlers` are the reactor's: a descriptor whose handler has changed is skipped, since another connection may have its number."""
        self._handlers = handlers
        self.queue: deque[tuple[int, int]] = deque()
        self._waiting: dict[int, tuple[Handler | None, float]] = {}  # descriptor -> (its handler when it was added, since when it is ready)

    def add(self, events: list[tuple[int, int]], since: float) -> None:
        """Put `events` behind the waiting ones. None of them may be waiting already."""
        for fd, _ in events:
            self._waiting[fd] = self._handlers.get(fd), since
        self.queue += events

    def others(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """`events` without the waiting ones."""
        waiting = self._waiting
        return [event for event in events if event[0] not in waiting]

    def take(self) -> tuple[list[tuple[int, int]], float]:
        """The next events, LATE_STEP at most, and since when the first is ready. `took` must follow."""
        events = []
        for _ in range(min(len(self.queue), LATE_STEP)):
            event = self.queue.popleft()
            if self._handlers.get(event[0]) is self._waiting[event[0]][0]:
                events.append(event)
            else:
                del self._waiting[event[0]]
        return events, self._waiting[events[0][0]][1] if events else 0.0

    def took(self, events: list[tuple[int, int]], served: int) -> None:
        """Note that the first `served` of the events that `take` gave are served; put the others back in front."""
        for fd, _ in events[:served]:
            del self._waiting[fd]
        self.queue.extendleft(reversed(events[served:]))


class Runnables(dict[Runnable, None]):
    """The objects with work left, in two queues by their descriptors' priority; each object once."""

    def __init__(self, low: set[int]) -> None:
        """`low`: the descriptors of low priority, kept by the reactor."""
        super().__init__()
        self._low = low
        self.first: deque[Runnable] = deque()
        self.last: deque[Runnable] = deque()

    def __setitem__(self, item: Runnable, value: None) -> None:
        if item not in self:
            super().__setitem__(item, None)
            (self.last if item.descriptor in self._low else self.first).append(item)


class Reactor:
    """One per process."""

    def __init__(self, phases: Phases) -> None:
        # to be flushed after this turn's commit; True where sending the replies is all there is to do
        self.touched: dict[Flushable, bool] = {}
        self.deadline: float = 0.0  # of this turn's executing, monotonic
        self.stopping = False
        self.waits: Waits = Waits()  # from readable (at the earliest) to sent; for a blocked request, from the event that answered it
        self._phases = phases
        self._poller = select.epoll() if hasattr(select, "epoll") else SelectorPoller()
        self._handlers: dict[int, Handler] = {}
        self._low: set[int] = set()
        self.runnable: Runnables = Runnables(self._low)  # to be run in the next turn
        self._unregistered: set[int] = set()  # since the last poll: its events for them must not reach a new owner of the number
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_count = 0
        self._stale = [0]
        self._look = LOOK
        self._long_until = 0.0  # monotonic; until then, connections that have just become ready go before the backlog
        # for each earlier turn with held replies: the log index they wait for, the connections, since when those were ready
        self._held: deque[tuple[int, list[Flushable], float]] = deque()

    # -- descriptors -------------------------------------------------------------------------------

    def register(self, fd: int, events: int, handler: Handler) -> None:
        """Call `handler(events)` when `fd` is ready for any of `events` (READ, WRITE), or is GONE."""
        self._poller.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        """Change the events that `fd` waits for."""
        self._poller.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Wait for no event of `fd` any more."""
        self._poller.unregister(fd)
        del self._handlers[fd]
        self._unregistered.add(fd)
        self._low.discard(fd)

    def low_priority(self, fd: int, low: bool) -> None:
        """Serve `fd` after the other descriptors from now on, or (not `low`) among them."""
        if low:
            self._low.add(fd)
        else:
            self._low.discard(fd)

    # -- timers ------------------------------------------------------------------------------------

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in a turn that begins `seconds` from now or later."""
        timer = Timer(callback, self._stale)
        self._timer_count += 1  # orders timers of the same time, so that `Timer`s are never compared
        heappush(self._timers, (monotonic() + seconds, self._timer_count, timer))
        if self._stale[0] > STALE_TIMERS_MIN and self._stale[0] * 2 > len(self._timers):
            self._timers[:] = [item for item in self._timers if not item[2].cancelled]
            heapify(self._timers)
            self._stale[0] = 0
        return timer

    def _run_timers(self, now: float) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now and monotonic() <= self.deadline:  # the next turn, which does not block, runs the rest
            timer = heappop(timers)[2]
            self._stale[0] -= timer.cancelled
            callback, timer.callback = timer.callback, _nothing
            try:
                callback()
            except Exception as e:
                self._phases.failed(e, -1)

    def _timeout(self) -> float | None:
        """How long poll may block, in seconds; None for no bound."""
        timers = self._timers
        while timers and timers[0][2].cancelled:
            heappop(timers)
            self._stale[0] -= 1
        due = self._phases.next_due()
        if timers:
            own = timers[0][0] - monotonic()
            due = own if due is None else min(own, due)
        return None if due is None else min(max(due, 0.0), POLL_SECONDS_MAX)

    # -- the tick ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Run turns until `stopping`. The turn in which it is set is completed: requests already read are committed and answered."""
        phases, handlers, poll = self._phases, self._handlers, self._poller.poll
        late, late_low = Late(handlers), Late(handlers)
        waiting, waiting_low = late.queue, late_low.queue
        low, unregistered = self._low, self._unregistered
        started = ended = 0.0  # when this turn began; when the last sending ended
        more = True  # background work
        passed_over = False  # the low priority had no place in the last turn
        while not self.stopping:
            busy = bool(waiting or waiting_low or self.runnable or more or self.touched)
            events = poll(0 if busy else self._timeout(), EVENTS_MAX)
            unregistered.clear()
            idle = not (events or waiting or waiting_low or self.runnable)
            last_started, started = started, monotonic()
            # a connection that is ready at once may have been ready since the last turn's poll
            since = last_started if started - ended < POLL_AT_ONCE_SECONDS else started
            self.deadline = deadline = started + TICK_SECONDS
            phases.begin(started)
            if self._timers:
                self._run_timers(started)
            if self.runnable:
                self._run_some(deadline)
                if started < self._long_until and monotonic() > started + TICK_SECONDS / 2:
                    self.deadline = deadline = monotonic() + TICK_SECONDS / 2  # one long request leaves the others half a turn
                    phases.extend(deadline)
            overdue: list[tuple[float, int]] = []  # (since when ready, how many of the touched connections)
            if waiting:
                events = late.others(events)
            # the usual case of one, the listener, needs no separate queue
            if waiting_low or (len(low) > 1 and not low.isdisjoint([fd for fd, _ in events])):
                events = late_low.others(events)
                new = [event for event in events if event[0] in low]
                self._serve_late(late, [event for event in events if event[0] not in low], since, started + TICK_SECONDS / 2, overdue)
                if self.touched and started < self._long_until and not passed_over:
                    late_low.add(new, since)  # what was served need not wait for the end of a long request
                    passed_over = True
                else:
                    self._serve_late(late_low, new, since, deadline, overdue, fresh_first=False)
                    passed_over = False
                if waiting and monotonic() <= deadline:
                    self._serve_late(late, [], since, deadline, overdue)
            else:
                self._serve_late(late, events, since, deadline, overdue)
                polls_left = LOOKS_AGAIN
                while events and polls_left and not (waiting or waiting_low) and phases.gathers() and monotonic() <= deadline:
                    polls_left -= 1
                    events = poll(0, EVENTS_MAX)
                    unregistered.clear()
                    if len(low) > 1:
                        late_low.add([event for event in events if event[0] in low], since)
                        events = [event for event in events if event[0] not in low]
                    self._serve_late(late, events, since, deadline, overdue)
            if monotonic() > started + LONG_SECONDS:
                self._long_until = monotonic() + LONG_TURNS_SECONDS
            more = phases.upkeep(idle)
            index = phases.commit()
            committed = phases.committed()
            while self._held and self._held[0][0] <= committed:
                self._release(committed)
            if self.touched and committed < index:
                self._hold(index, since)
            elif self.touched:
                served = self._flush()
                ended = monotonic()
                for ready, count in overdue:
                    count = min(count, served)
                    if count:
                        served -= count
                        self.waits.add(ended - ready, count)
                if served:
                    self.waits.add(ended - since, served)
            phases.end(started)
        while self.touched:
            self._flush()

    def _hold(self, index: int, since: float) -> None:
        """Keep the turn's replies until the log has committed `index`."""
        touched, self.touched = list(self.touched), {}
        for item in touched:
            try:
                item.hold(index)
            except Exception as e:
                self.failed(e, item.descriptor)
        self._held.append((index, touched, since))

    def _release(self, committed: int) -> None:
        """Send the held replies of the oldest turn."""
        _, items, since = self._held.popleft()
        for item in items:
            try:
                item.release(committed)
            except Exception as e:
                self.failed(e, item.descriptor)
        self.waits.add(monotonic() - since, len(items))

    def _serve_late(
        self,
        late: Late,
        events: list[tuple[int, int]],
        since: float,
        until: float,
        overdue: list[tuple[float, int]],
        fresh_first: bool = True,
    ) -> None:
        """Serve the backlog `late`, then `events`, until `until`; the rest joins the backlog. `since` is when `events` got ready.

        While long requests are met (and `fresh_first`), half of the time is for `events` first: a client with a short request then waits
        for one long request, and not for all in the backlog."""
        began = False
        if fresh_first and late.queue and events and monotonic() < self._long_until:
            now = monotonic()
            count = self._serve(events, now + max(until - now, 0.0) / 2)
            late.add([event for event in events[count:] if event[0] not in self._unregistered], since)
            events = []
        while late.queue and not (began and monotonic() > until):
            began = True
            before = len(self.touched)
            some, ready = late.take()
            late.took(some, self._serve(some, until))
            if len(self.touched) > before:
                overdue.append((ready, len(self.touched) - before))
        count = 0 if late.queue else self._serve(events, until)
        if count < len(events):
            late.add([event for event in events[count:] if event[0] not in self._unregistered], since)

    def _serve(self, events: list[tuple[int, int]], deadline: float) -> int:
        """Serve `events` until the deadline; returns how many were served."""
        handlers, together, unregistered = self._handlers, self._phases.serve_together, self._unregistered
        at, count = 0, len(events)
        while at < count:
            before = at
            at = together(events, at)
            if at == before:
                fd, mask = events[at]
                at += 1
                handler = handlers.get(fd)
                if handler is not None and fd not in unregistered:
                    try:
                        handler(mask)
                    except Exception as e:  # a defect in serving one client must not end the others
                        self.failed(e, fd)
            if at < count and monotonic() > deadline:
                break
        return at

    def failed(self, e: Exception, fd: int) -> None:
        """A call for descriptor `fd` raised `e`. Raises if the loop must end."""
        self._phases.failed(e, fd)

    def serve_aside(self) -> None:
        """Serve and answer the ready connections, without the phases of a turn and without blocking: used during a long start."""
        started = monotonic()
        self.deadline = started + TICK_SECONDS
        self._run_timers(started)
        self._run_some(self.deadline)
        events = self._poller.poll(0, EVENTS_MAX)
        self._unregistered.clear()
        for fd, mask in events:
            handler = self._handlers.get(fd)
            if handler is not None and fd not in self._unregistered:
                try:
                    handler(mask)
                except Exception as e:
                    self._phases.failed(e, fd)
        self._flush()

    def _flush(self) -> int:
        """Flush the touched connections; returns how many. After FLUSH_SECONDS, large outputs are left for the next turn, so that small
        ones need not wait."""
        touched, self.touched = list(self.touched.items()), {}
        flush = self._phases.flush_together
        if len(touched) <= self._look:  # the usual case: few connections, and the last turn was not late
            flush(touched)
            return len(touched)
        deadline, step = monotonic() + FLUSH_SECONDS, self._look + 1
        kept: list[tuple[Flushable, bool]] = []
        late = False
        for at in range(0, len(touched), step):
            step_items = touched[at : at + step]
            if late:
                kept += [item for item in step_items if item[0].owed_bytes > SMALL_OUTPUT_BYTES]
                step_items = [item for item in step_items if item[0].owed_bytes <= SMALL_OUTPUT_BYTES]
            flush(step_items)
            late = late or monotonic() > deadline
        self._look = 0 if late else LOOK
        if kept:
            self.touched = dict(kept) | self.touched
        return len(touched) - len(kept)

    def _run_some(self, deadline: float) -> None:
        """Run each runnable once, for at most half of the turn's time: the other half is for connections that have just become ready.
        Those of low priority come last, and one of them runs in any case: their work may be as long as a turn, and others must not wait for
        each."""
        half = deadline - TICK_SECONDS / 2
        runnable = self.runnable
        for queue in (runnable.first, runnable.last):
            for _ in range(len(queue)):
                item = queue.popleft()
                del runnable[item]
                try:
                    item.run_turn()
                except Exception as e:
                    self._phases.failed(e, item.descriptor)
                if monotonic() > half:
                    break

    def close(self) -> None:
        """Close the poller's descriptor."""
        self._poller.close()


class SelectorPoller:
    """epoll's interface over `selectors`, for systems without epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    @staticmethod
    def _wanted(events: int) -> int:
        return (selectors.EVENT_READ if events & READ else 0) | (selectors.EVENT_WRITE if events & WRITE else 0)

    def register(self, fd: int, events: int) -> None:
        """As `select.epoll.register`."""
        if events:
            self._selector.register(fd, self._wanted(events))

    def modify(self, fd: int, events: int) -> None:
        """As `select.epoll.modify`. `selectors` accepts no empty set of events, so it does not have the descriptor while `events` is 0."""
        known = fd in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(fd)
        elif known:
            self._selector.modify(fd, self._wanted(events))
        else:
            self._selector.register(fd, self._wanted(events))

    def unregister(self, fd: int) -> None:
        """As `select.epoll.unregister`."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def poll(self, timeout: float | None, maxevents: int) -> list[tuple[int, int]]:
        """As `select.epoll.poll`."""
        return [
            (key.fd, (READ if ready & selectors.EVENT_READ else 0) | (WRITE if ready & selectors.EVENT_WRITE else 0))
            for key, ready in self._selector.select(timeout)[:maxevents]
        ]

    def close(self) -> None:
        """As `select.epoll.close`."""
        self._selector.close()
