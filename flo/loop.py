"""The reactor: readiness, timers, and the phases of one turn, the tick.

    poll ─▶ timers ─▶ read and execute ─▶ upkeep ─▶ commit ─▶ reply
                       └◀─ poll again ─┘

A turn's replies leave once the log says that all the turn has written, or could have read, is committed. With a log that syncs in `commit`
that is at once. With one that is told later, they are held by the log's index, and turns go on; nothing is polled for meanwhile.

Timers come before the commit, so that what they write is in this turn's batch. A turn is bounded: each ready connection
gets one buffer of input, all together get TICK_SECONDS; who is left waits in a queue (`Late`), goes first next turn, and that turn
does not block in poll. So is its sending, by FLUSH_SECONDS. What a turn costs depends on whom it serves, not on how many wait: with
ten thousand clients ready, what is done for each of them in each turn would soon be all that a turn does.

Newcomers, which are the listener and those who have not said yet what they speak, get half of a turn at most where others want it, and
wait in a queue of their own: a crowd that connects at once is no reason for those who are there to wait.

The reactor knows nothing of protocols or stores. epoll where there is one, `selectors` elsewhere.
"""

import select
import selectors
from collections import OrderedDict, deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from time import monotonic
from typing import Any, Protocol

from flo.waits import Waits

READ, WRITE, GONE = 1, 4, 24  # epoll's EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP; the other pollers are mapped onto them
TICK_SECONDS = 0.005  # executing; a turn's commit comes on top. 5 ms is about 5,000 requests
FLUSH_SECONDS = 0.005  # sending: 1 to 10 MiB
SMALL_OUTPUT_BYTES = 64 << 10  # sent at once whatever else is owed: 20 us
LOOK = 7  # sending, the clock is looked at after each 8 connections; after each one, where the last turn was late
STALE_TIMERS_MIN = 256
LOOKS_AGAIN = 8  # at most: for who became ready while the others were served, before a commit that costs the same for them too
EVENTS_MAX = 2048  # of one poll, at 0.1 us each, those who are late among them; where more are ready, the next one tells of others
LATE_STEP = 256  # taken at a time from the queue of those who wait: most of a turn
POLL_AT_ONCE_SECONDS = 30e-6  # a poll that began and ended so soon behind the last sending has not waited
POLL_SECONDS_MAX = 86_400.0  # epoll takes 24.8 days at most; what is due later is waited for again


class Handler(Protocol):
    """Called with the events of a descriptor."""

    def __call__(self, events: int, /) -> None: ...


class Runnable(Protocol):
    """Something with work left from an earlier turn."""

    @property
    def descriptor(self) -> int:
        """Whose failure it is."""

    def run_turn(self) -> None:
        """Do a turn's worth of it."""


class Flushable(Protocol):
    """Something with replies that may leave once this turn is committed."""

    @property
    def descriptor(self) -> int:
        """Whose failure it is."""

    @property
    def owed_bytes(self) -> int:
        """How much there is to send."""

    def flush(self) -> None:
        """Send them."""

    def hold(self, index: int) -> None:
        """Keep them until the log has committed so much."""

    def release(self, committed: int) -> None:
        """Send those that were held for an index up to this."""


class Phases(Protocol):
    """What the owner of the reactor does in each turn."""

    def begin(self, now: float) -> None:
        """The turn begins at monotonic time `now`."""

    def upkeep(self, idle: bool) -> bool:
        """Do a slice of background work; returns whether there is more."""

    def gathers(self) -> bool:
        """Whether this turn's commit takes its time however much there is in it, so that others who are ready should be in it too."""

    def commit(self) -> int:
        """Have the turn made durable; returns the log index that its replies wait for."""

    def committed(self) -> int:
        """The log index up to which replies may leave."""

    def next_due(self) -> float | None:
        """Seconds until the owner has something to do by itself; None for never."""

    def serve_together(self, events: list[tuple[int, int]], at: int, /) -> int:
        """Serve those of `events` from offset `at` on that can be served in one go; returns the offset of who is to be served alone."""

    def flush_together(self, touched: list[tuple[Any, bool]], /) -> None:
        """Flush each; True beside it says that sending its replies is all there is to do."""

    def failed(self, e: Exception, fd: int) -> None:
        """What was called for descriptor `fd` (-1: a timer's) raised `e`. Raise here to end the loop."""

    def end(self, started: float) -> None:
        """The turn, which began at `started`, is over."""


class Timer:
    """A call to come. `cancel` it, or let it fire once."""

    __slots__ = ("_stale", "callback", "cancelled")

    def __init__(self, callback: Callable[[], None], stale: list[int]) -> None:
        """`stale[0]` counts the cancelled ones that are still in the heap."""
        self.callback = callback
        self.cancelled = False
        self._stale = stale

    def cancel(self) -> None:
        """Do not call."""
        if not self.cancelled and self.callback is not _nothing:
            self._stale[0] += 1
        self.cancelled = True
        self.callback = _nothing  # it may hold what holds this timer, and nothing collects cycles


def _nothing() -> None:
    """What a timer that is over would call."""


class Late:
    """Those that were ready and not served for want of time, in order, each once."""

    def __init__(self, handlers: dict[int, Handler]) -> None:
        """`handlers` are the reactor's: what was closed since is passed over, for another connection may have its number."""
        self._handlers = handlers
        self.queue: deque[tuple[int, int]] = deque()
        self._waiting: dict[int, tuple[Handler | None, float]] = {}  # by descriptor: its handler then, since when it is ready

    def add(self, events: list[tuple[int, int]], since: float) -> None:
        """They wait from now on; none of them does already."""
        for fd, _ in events:
            self._waiting[fd] = self._handlers.get(fd), since
        self.queue += events

    def others(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of `events` that do not wait."""
        waiting = self._waiting
        return [event for event in events if event[0] not in waiting]

    def take(self) -> tuple[list[tuple[int, int]], float]:
        """The next ones, LATE_STEP at most, and since when the first of them is ready. `took` must follow."""
        events = []
        for _ in range(min(len(self.queue), LATE_STEP)):
            event = self.queue.popleft()
            if self._handlers.get(event[0]) is self._waiting[event[0]][0]:
                events.append(event)
            else:
                del self._waiting[event[0]]
        return events, self._waiting[events[0][0]][1] if events else 0.0

    def took(self, events: list[tuple[int, int]], served: int) -> None:
        """The first `served` of the events that `take` gave are served; the others go on waiting, in front."""
        for fd, _ in events[:served]:
            del self._waiting[fd]
        self.queue.extendleft(reversed(events[served:]))


class Reactor:
    """One per process."""

    def __init__(self, phases: Phases) -> None:
        # to be flushed after this turn's commit; True where sending the replies is all there is to do
        self.touched: dict[Flushable, bool] = {}
        self.runnable: OrderedDict[Runnable, None] = OrderedDict()  # to be run in the next turn
        self.deadline = 0.0  # of this turn's executing, monotonic
        self.stopping = False
        self.waits = Waits()  # from readable (at the earliest) to sent; one that blocked, from when what it waited for came
        self._phases = phases
        self._poller = select.epoll() if hasattr(select, "epoll") else SelectorPoller()
        self._handlers: dict[int, Handler] = {}
        self._newcomers: set[int] = set()
        self._unregistered: set[int] = set()  # since the last poll, whose events of these may not reach who has their number now
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_count = 0
        self._stale = [0]
        self._look = LOOK
        # replies of earlier turns: what they wait for, whose they are, since when those were ready
        self._held: deque[tuple[int, list[Flushable], float]] = deque()

    # -- descriptors -------------------------------------------------------------------------------

    def register(self, fd: int, events: int, handler: Handler) -> None:
        """Call `handler(events)` when `fd` is ready for any of `events` (READ, WRITE); GONE is always told."""
        self._poller.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        """Change what is waited for."""
        self._poller.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Wait for nothing of `fd` any more."""
        self._poller.unregister(fd)
        del self._handlers[fd]
        self._unregistered.add(fd)
        self._newcomers.discard(fd)

    def newcomer(self, fd: int, new: bool) -> None:
        """Whether `fd` is one from now on, whose turn comes after that of the others."""
        if new:
            self._newcomers.add(fd)
        else:
            self._newcomers.discard(fd)

    # -- timers ------------------------------------------------------------------------------------

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` in a turn that begins `seconds` from now or later."""
        timer = Timer(callback, self._stale)
        self._timer_count += 1  # keeps timers of the same time in order, and out of comparison
        heappush(self._timers, (monotonic() + seconds, self._timer_count, timer))
        if self._stale[0] > STALE_TIMERS_MIN and self._stale[0] * 2 > len(self._timers):
            self._timers[:] = [item for item in self._timers if not item[2].cancelled]
            heapify(self._timers)
            self._stale[0] = 0
        return timer

    def _run_timers(self, now: float) -> None:
        timers = self._timers
        while timers and timers[0][0] <= now and monotonic() <= self.deadline:  # the rest in the next turn, which does not block
            timer = heappop(timers)[2]
            self._stale[0] -= timer.cancelled
            callback, timer.callback = timer.callback, _nothing
            try:
                callback()
            except Exception as e:
                self._phases.failed(e, -1)

    def _timeout(self) -> float | None:
        """How long poll may block, in seconds; None for as long as it takes."""
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
        """Turn until `stopping`, and then once more, so that what was read is committed and answered."""
        phases, handlers, poll = self._phases, self._handlers, self._poller.poll
        late, late_newcomers = Late(handlers), Late(handlers)
        waiting, waiting_newcomers = late.queue, late_newcomers.queue
        newcomers, unregistered = self._newcomers, self._unregistered
        started = ended = 0.0  # when this turn began; when it had sent
        more = True  # background work
        while not self.stopping:
            busy = bool(waiting or waiting_newcomers or self.runnable or more or self.touched)
            events = poll(0 if busy else self._timeout(), EVENTS_MAX)
            unregistered.clear()
            idle = not (events or waiting or waiting_newcomers or self.runnable)
            before, started = started, monotonic()
            # who is ready at once may have been so since the last turn looked
            since = before if started - ended < POLL_AT_ONCE_SECONDS else started
            self.deadline = deadline = started + TICK_SECONDS
            phases.begin(started)
            if self._timers:
                self._run_timers(started)
            if self.runnable:
                self._run_some(deadline)
            overdue: list[tuple[float, int]] = []  # since when, and how many of those who are touched
            if waiting:
                events = late.others(events)
            # the listener alone, as mostly, is nobody to be kept apart
            if waiting_newcomers or (len(newcomers) > 1 and not newcomers.isdisjoint([fd for fd, _ in events])):
                events = late_newcomers.others(events)
                new = [event for event in events if event[0] in newcomers]
                self._serve_late(late, [event for event in events if event[0] not in newcomers], since, started + TICK_SECONDS / 2, overdue)
                self._serve_late(late_newcomers, new, since, deadline, overdue)
                if waiting and monotonic() <= deadline:
                    self._serve_late(late, [], since, deadline, overdue)
            else:
                self._serve_late(late, events, since, deadline, overdue)
                looks = LOOKS_AGAIN
                while events and looks and not waiting and phases.gathers() and monotonic() <= deadline:
                    looks -= 1
                    events = poll(0, EVENTS_MAX)
                    unregistered.clear()
                    self._serve_late(late, events, since, deadline, overdue)
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
        """The turn's replies wait until the log has committed `index`."""
        touched, self.touched = list(self.touched), {}
        for item in touched:
            try:
                item.hold(index)
            except Exception as e:
                self.failed(e, item.descriptor)
        self._held.append((index, touched, since))

    def _release(self, committed: int) -> None:
        """Send the replies of the first turn that is held."""
        _, items, since = self._held.popleft()
        for item in items:
            try:
                item.release(committed)
            except Exception as e:
                self.failed(e, item.descriptor)
        self.waits.add(monotonic() - since, len(items))

    def _serve_late(self, late: Late, events: list[tuple[int, int]], since: float, until: float, overdue: list[tuple[float, int]]) -> None:
        """Serve who is late, and then `events`, which are ready `since` this turn, until the time is over; who is left is late."""
        began = False
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
        """Serve what is ready until the deadline; returns how many."""
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
                    except Exception as e:  # one client's defect is not the others'
                        self.failed(e, fd)
            if at < count and monotonic() > deadline:
                break
        return at

    def failed(self, e: Exception, fd: int) -> None:
        """What was called for a descriptor raised `e`. Raises where the loop is to end."""
        self._phases.failed(e, fd)

    def serve_aside(self) -> None:
        """Serve who is ready and answer them, without the phases of a turn and without waiting: for a start that takes long."""
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
        """Send what is owed; returns to how many. Past FLUSH_SECONDS, those with much to send wait for the next turn: what is small
        does not stand behind it."""
        touched, self.touched = list(self.touched.items()), {}
        flush = self._phases.flush_together
        if len(touched) <= self._look:  # the common case in short: few, and the last turn was not late
            flush(touched)
            return len(touched)
        deadline, step = monotonic() + FLUSH_SECONDS, self._look + 1
        kept: list[tuple[Flushable, bool]] = []
        late = False
        for at in range(0, len(touched), step):
            some = touched[at : at + step]
            if late:
                kept += [item for item in some if item[0].owed_bytes > SMALL_OUTPUT_BYTES]
                some = [item for item in some if item[0].owed_bytes <= SMALL_OUTPUT_BYTES]
            flush(some)
            late = late or monotonic() > deadline
        self._look = 0 if late else LOOK
        if kept:
            self.touched = dict(kept) | self.touched
        return len(touched) - len(kept)

    def _run_some(self, deadline: float) -> None:
        """Give each runnable one turn, as far as half of the time goes: the rest is for those who have just become ready."""
        half = deadline - TICK_SECONDS / 2
        for _ in range(len(self.runnable)):
            item, _ = self.runnable.popitem(last=False)
            try:
                item.run_turn()
            except Exception as e:
                self._phases.failed(e, item.descriptor)
            if monotonic() > half:
                return

    def close(self) -> None:
        """Give the poller's descriptor back."""
        self._poller.close()


class SelectorPoller:
    """epoll's interface over `selectors`, for systems that have none."""

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
        """As `select.epoll.modify`. `selectors` cannot wait for nothing, so such a descriptor is left out meanwhile."""
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
