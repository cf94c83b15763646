"""A worker at work: from its start until it is told to stop and what it holds is finished.

    waiter, one for each source   waits at the server for one delivery, while a handler may begin and the source is not flowing
    exchange                      sends all reports that are there, and asks for as many deliveries as may begin of each source that flows,
                                  in one write
    leases                        flo.worker.leases
    the pool's threads            flo.worker.execute

A source flows from the first delivery that its waiter brings until the exchange gets fewer than it asked for. So one thread at a time
takes deliveries of a source; after a lost connection that is its waiter, which gives back what was delivered and never seen.

A delivery is held from its arrival until its report was answered. Reports that could not be sent are sent again when the server is back. A
report that is refused because the lease is lost is counted and forgotten: somebody else has the work.
"""

import logging
import random
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, NamedTuple

from flo import calls
from flo.client import Client, Disconnected
from flo.errors import FloError, NotLeader, Overloaded, Refusal
from flo.worker.execute import DONE, FAILED, REFUSED, SNOOZED, Outcome, Pool
from flo.worker.leases import Leases
from flo.worker.sources import ActionSource, Delivery, Hold, Source

BLOCK_MS = 20_000  # one wait for work; a server that is gone without a word is noticed after it
DRAINED_SECONDS = 5.0  # between two looks of a worker that an operator has drained
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.1, 5.0  # after the first failure, and after many
GIVEN_BACK, LOST = "given back", "lost"  # besides the words of outcomes
LEVELS = {DONE: logging.INFO, FAILED: logging.WARNING, REFUSED: logging.ERROR}
log: logging.Logger = logging.getLogger("flo.worker")


class Pauses:
    """The pauses of one thread that tries again: doubled each time, each between a half and the whole of it, so that the workers of a
    server that is back do not come all at once."""

    def __init__(self) -> None:
        self._failures = 0

    def next(self) -> float:
        """Seconds."""
        self._failures += 1
        return min(PAUSE_SECONDS * (1 << min(self._failures - 1, 32)), PAUSE_SECONDS_MAX) * random.uniform(0.5, 1)

    def reset(self) -> None:
        """The server has answered."""
        self._failures = 0


class _Report(NamedTuple):
    delivery: Delivery
    call: calls.Call[Any]
    word: str


class Service:
    """A worker at work."""

    def __init__(self, open_client: Callable[[], Client], sources: Sequence[Source], concurrency: int, grace: float) -> None:
        """`grace` is in seconds."""
        self._client = open_client()
        self._waits = {source: open_client() for source in sources}  # closed to end the waits, while the other one sends the last reports
        self._sources = sources
        self._concurrency = concurrency
        self._grace = grace
        self.counts: dict[str, int] = dict.fromkeys((DONE, FAILED, REFUSED, SNOOZED, GIVEN_BACK, LOST), 0)
        self._words: SimpleQueue[str | BaseException] = SimpleQueue()  # to the main thread: its `put` may be called in a signal handler
        self._lock = threading.Lock()  # guards all below
        self._to_exchange = threading.Condition(self._lock)
        self._to_wait = threading.Condition(self._lock)
        self._held: dict[tuple[int, str], Delivery] = {}
        self._ready: deque[Delivery] = deque()  # held, and waiting for their turn
        self._running = 0
        self._reports: deque[_Report] = deque()
        self._appetite = dict.fromkeys(sources, 0)  # how many deliveries the exchange asks for; 0: the source does not flow
        self._order = deque(sources)  # who is asked first; it rotates, so that no source takes all that there is room for
        self._unsure = set[Source]()  # sources that may have deliveries which never came
        self._is_away = False
        self._stopping = threading.Event()  # nothing more is taken
        self._ended = threading.Event()
        self._leases = Leases(self._client, self._lock, self._held.values)
        self._pool = Pool(self._executed)

    # -- the main thread ---------------------------------------------------------------------------

    def stop(self) -> None:
        """Finish what is held, within the grace; the second call gives back what is not finished. May be called in a signal handler."""
        self._words.put("stop")

    def run(self) -> bool:
        """Work until told to stop, by `stop`, SIGTERM or SIGINT; returns whether everything was finished. Raises what the server refuses
        at the start."""
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, lambda *_: self.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for client in (self._client, *self._waits.values()):
                client.close()

    def _run(self) -> bool:
        if not self._prepare():
            return True
        log.info("started: %s, up to %d at once", ", ".join(source.name for source in self._sources), self._concurrency)
        waiters = [self._start(partial(self._await, source), f"flo-wait-{source.name}") for source in self._sources]
        others = [self._start(self._exchange, "flo-exchange"), self._start(self._leases.run, "flo-leases")]
        word = self._words.get()
        self._drain(waiters)
        finished = word == "stop" and self._finish()
        if not finished:
            self._give_rest_back()
        self._ended.set()
        with self._lock:
            self._leases.end()
            self._to_exchange.notify_all()
        self._pool.close()
        with suppress(FloError):
            for source in self._sources:
                source.leave(self._client)
        self._client.close()  # a request of the other threads that is under way ends
        for thread in others:
            thread.join()
        log.info("ended: %s", ", ".join(f"{count} {word}" for word, count in self.counts.items()))
        if isinstance(word, BaseException):
            raise word
        return finished

    def _prepare(self) -> bool:
        """Register, as soon as a server is there. Returns False if told to stop before."""
        pauses = Pauses()
        while True:
            try:
                for source in self._sources:
                    source.prepare(self._client, self._concurrency)
                self._came_back()
                return True
            except (Disconnected, NotLeader, Overloaded) as e:
                self._went_away(e)
            with suppress(Empty):
                self._words.get(timeout=pauses.next())
                return False

    def _start(self, work: Callable[[], None], name: str) -> threading.Thread:
        def guarded() -> None:
            """Tell the main thread of a defect, which then ends the worker."""
            try:
                work()
            except BaseException as e:
                self._words.put(e)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _drain(self, waiters: list[threading.Thread]) -> None:
        """Take nothing more, and give back what has not begun."""
        with self._lock:
            log.info("stopping: %d at work have %g s to finish", self._running, self._grace)
            self._stopping.set()
            for delivery in self._ready:
                self._reports.append(_Report(delivery, delivery.source.given_back(delivery), GIVEN_BACK))
            self._ready.clear()
            self._to_wait.notify_all()
            self._to_exchange.notify_all()

        def end_waits() -> None:
            """The server answers the waits of a worker that is draining; those of queues and streams end with their connections."""
            for source in self._sources:
                if isinstance(source, ActionSource):
                    with suppress(FloError):
                        self._client.run(calls.worker_drain(source.name))
            while any(waiter.is_alive() for waiter in waiters) and not self._ended.is_set():
                for client in self._waits.values():
                    client.close()
                for waiter in waiters:
                    waiter.join(0.05)
            self._words.put("drained")

        self._start(end_waits, "flo-drain")

    def _finish(self) -> bool:
        """Wait until nothing is held any more; returns whether that was in time."""
        deadline, drained = monotonic() + self._grace, False
        while True:
            with self._lock:
                if drained and not self._held:
                    return True
            try:
                word = self._words.get(timeout=max(deadline - monotonic(), 0))
            except Empty:
                with self._lock:
                    return not self._held
            if word == "stop" or isinstance(word, BaseException):
                return False
            drained = drained or word == "drained"

    def _give_rest_back(self) -> None:
        """What is still at work, so that another worker has it at once: its handlers are told to stop, and their results do not count."""
        with self._lock:
            reports = [report.call for report in self._reports]  # of the finished, which the server has not taken yet
            rest = [each for each in self._held.values() if all(each is not report.delivery for report in self._reports)]
            for delivery in rest:
                delivery.hold = Hold.LOST
                delivery.context.cancelled = True
                log.warning("%s: not finished, given back", delivery)
        with suppress(FloError):
            self._client.run_many([*reports, *(delivery.source.given_back(delivery) for delivery in rest)])

    # -- taking ------------------------------------------------------------------------------------

    def _room(self) -> int:
        return self._concurrency - self._running - len(self._ready)

    def _await(self, source: Source) -> None:
        """The thread that waits for a source's next delivery."""
        pauses = Pauses()
        while True:
            with self._lock:
                self._to_wait.wait_for(lambda: self._stopping.is_set() or (not self._appetite[source] and self._room() > 0))
                if self._stopping.is_set():
                    return
            began = monotonic()
            try:
                if source in self._unsure:
                    self._recover(source)
                answer = self._waits[source].run(source.awaits(BLOCK_MS))
            except FloError as e:
                if self._stopping.is_set():
                    continue
                self._unsure.add(source)
                self._went_away(e)
                self._stopping.wait(pauses.next())
                continue
            self._came_back()
            pauses.reset()
            deliveries = source.deliveries(answer)
            self._accept(source, deliveries, 1)
            if not deliveries and monotonic() - began < BLOCK_MS / 2000:
                self._stopping.wait(DRAINED_SECONDS)

    def _recover(self, source: Source) -> None:
        def is_held(run_id: str) -> bool:
            with self._lock:
                return any(each.source is source and each.context.run_id == run_id for each in self._held.values())

        strays = source.recover(self._client, self._concurrency, is_held)
        self._client.run_many(strays)
        self._unsure.discard(source)
        if strays:
            log.info("%s: gave back %d runs that were lost on their way", source.name, len(strays))

    def _accept(self, source: Source, deliveries: list[Delivery], asked: int) -> None:
        """Begin deliveries, and choose who takes the source's next ones."""
        with self._lock:
            for delivery in deliveries:
                self._held[delivery.key] = delivery
                self._leases.add(delivery)
                if self._stopping.is_set():
                    self._reports.append(_Report(delivery, source.given_back(delivery), GIVEN_BACK))
                else:
                    self._ready.append(delivery)
            self._appetite[source] = min(max(2 * self._appetite[source], 1), self._concurrency) if len(deliveries) >= asked else 0
            self._go_on()

    def _go_on(self) -> None:
        """Execute what is ready, as far as the concurrency allows, and wake who has something to do. The caller has the lock."""
        while self._ready and self._running < self._concurrency:
            self._running += 1
            self._pool.begin(self._ready.popleft())
        self._to_exchange.notify()
        if self._room() > 0 and not all(self._appetite.values()):
            self._to_wait.notify_all()

    # -- reporting ---------------------------------------------------------------------------------

    def _executed(self, delivery: Delivery, outcome: Outcome) -> None:
        """A handler has ended; called in its thread."""
        self._tell(delivery, outcome)
        with self._lock:
            self._running -= 1
            delivery.is_over = True
            if delivery.hold is Hold.HELD:
                self._reports.append(_Report(delivery, outcome.report, outcome.word))
            else:
                self._forget(delivery)
            self._go_on()

    @staticmethod
    def _tell(delivery: Delivery, outcome: Outcome) -> None:
        trace = outcome.error if outcome.word in (FAILED, REFUSED) else None
        log.log(LEVELS.get(outcome.word, logging.INFO), "%s: %s", delivery, outcome.word, exc_info=trace)

    def _forget(self, delivery: Delivery, word: str = LOST) -> None:
        """The delivery is held no more. The caller has the lock."""
        self._held.pop(delivery.key, None)
        self.counts[word] += 1
        if self._stopping.is_set() and not self._held:
            self._words.put("empty")

    def _exchange(self) -> None:
        """The thread that sends reports, and takes deliveries of the sources that flow."""
        pauses = Pauses()
        while True:
            with self._lock:
                self._to_exchange.wait_for(lambda: self._ended.is_set() or self._reports or self._asks())
                if self._ended.is_set():
                    return
                reports, asks = list(self._reports), self._asks()
                self._reports.clear()
                self._order.rotate()
            many = [report.call for report in reports]
            for source, count in asks.items():
                many += source.asks(count)
            try:
                answers = self._client.run_many(many)
            except Disconnected as e:
                self._unsent(reports, asks)
                self._went_away(e)
                self._ended.wait(pauses.next())
                continue
            self._came_back()
            again = self._reported(reports, answers)
            at = len(reports)
            for source, count in asks.items():
                found = answers[at : at + len(source.asks(count))]
                at += len(found)
                self._take_answers(source, found, count)
            if again:
                self._unsent(again, {})
                self._ended.wait(pauses.next())
            else:
                pauses.reset()

    def _asks(self) -> dict[Source, int]:
        """For how many deliveries the exchange asks each source now. The caller has the lock."""
        found: dict[Source, int] = {}
        room = 0 if self._stopping.is_set() else self._room()
        for source in self._order:
            if self._appetite[source] and room > 0:
                found[source] = min(self._appetite[source], room)
                room -= found[source]
        return found

    def _unsent(self, reports: list[_Report], asks: dict[Source, int]) -> None:
        """Keep reports for later; leave the sources that were asked to their waiters."""
        with self._lock:
            self._reports.extendleft(reversed(reports))
            self._unsure.update(asks)
            self._appetite.update(dict.fromkeys(asks, 0))
            self._to_wait.notify_all()

    def _reported(self, reports: list[_Report], answers: list[Any]) -> list[_Report]:
        """Read the answers to reports; returns those to be sent again."""
        again = []
        with self._lock:
            for report, answer in zip(reports, answers, strict=False):
                if isinstance(answer, (Overloaded, NotLeader)):
                    again.append(report)
                    continue
                is_lost = report.delivery.source.hold_after(answer) is not Hold.HELD
                if is_lost:
                    log.warning("%s: the report (%s) came too late: its lease is lost", report.delivery, report.word)
                elif isinstance(answer, Refusal):
                    log.error("%s: the report (%s) was refused: %s", report.delivery, report.word, answer)
                self._forget(report.delivery, LOST if is_lost else report.word)
        return again

    def _take_answers(self, source: Source, answers: list[Any], asked: int) -> None:
        refusals = [answer for answer in answers if isinstance(answer, Refusal)]
        deliveries = [each for answer in answers if not isinstance(answer, Refusal) for each in source.deliveries(answer)]
        if refusals:
            self._unsure.add(source)
        self._accept(source, deliveries, asked)

    # -- the server away ---------------------------------------------------------------------------

    def _went_away(self, e: FloError) -> None:
        with self._lock:
            if not self._is_away:
                log.warning("the server does not serve this worker, which tries again and again: %s", e)
            self._is_away = True

    def _came_back(self) -> None:
        with self._lock:
            if self._is_away:
                log.info("the server is back")
            self._is_away = False
