"""The workers of one namespace: who takes the runs of actions, and for how long (SPEC section 3, "Actions and workers").

A worker takes a run by `take`, which may wait. Runs go to the waiting workers in the order in which these came; each gets the run with the
lowest priority, and of these the oldest, that its actions and labels allow. A run is handed out if its action is not paused, has not
started as many runs as its rate allows, and its concurrency key has room.

    worker    container without a name, "w", worker's id; see `_WORKER`; labels, for each action its name (u16 length, bytes)

Whether a worker is there is not in the log: each request that names it tells, and a start takes it for there.
"""

import json
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import proxy

from flo.engine.operation import operation
from flo.engine.part import Part
from flo.engine.run import ENDED, FAILURE, RELEASE, STEP_BYTES, Step, canonical, pack_started, parse_labels
from flo.engine.waiting import Taker, Takers
from flo.errors import BadRequest, Conflict, Damaged, NotFound, Overloaded
from flo.limits import DEADLINE_MAX
from flo.store.action import CANCELLED, COMPLETED, FAILED, SHOWN, Action, Holding, Line, Worker, kind_of, last_of, time_of
from flo.ual.record import HEADER_BYTES, RUN_STARTED, U16, WORKER, WORKER_GONE, Record, container

if TYPE_CHECKING:
    from flo.engine.action import Actions

WORKER_BYTES_MAX = 1024  # of a worker's id
ACTIONS_MAX = 1000  # that a worker may take: each is looked at when it asks for a run
PROGRESS_BYTES_MAX = 4096
SILENT_MS = 90_000  # a worker that no request has named for so long is unhealthy
FORGET_MS = 86_400_000  # … and for so long is forgotten
PARK_SLICE = 500  # runs parked in one go: 3 us each
HEALTH_SLICE = 1000  # workers looked at in one slice: 1 us each
WORKERS_MAX = 100_000  # of a namespace: 250 MB
ACTIVE, IDLE, DRAINING, UNHEALTHY = range(4)
STATUS = ("active", "idle", "draining", "unhealthy")

_WORKER = struct.Struct("<I?qHI")  # concurrency, draining, registered at, actions, length of the labels
_NOBODY = container(b"") + b"w"


class Assignment(NamedTuple):
    """A run as a worker gets it. `lease` is in ms."""

    run: bytes
    action: bytes
    created_at: int
    attempt: int
    lease: int
    traceparent: bytes
    input: bytes


Deliver = Callable[[Assignment | None], None]


class Workers(Part):
    """The workers of one namespace. Ids and outputs are bytes (a program may give str, as UTF-8)."""

    name = "workers"
    types: ClassVar[frozenset[int]] = frozenset((WORKER, WORKER_GONE))
    nouns: ClassVar[dict[str, str]] = {"workers": "Registered workers."}

    def __init__(self, actions: "Actions") -> None:
        super().__init__(actions.engine, actions.namespace)
        self.actions: Actions = proxy(actions)  # a deleted namespace must not be in a cycle, since nothing collects cycles
        self.takers: Takers[bytes] = Takers()  # by action
        self._open: dict[bytes, list[Taker[bytes]]] = {}  # the same, by worker
        self._throttled: dict[bytes, int] = {}  # actions that have reached their rate, and until when
        self._unsearched = False  # a search for a run stopped in the middle: many runs were parked
        self._health_after = 0  # by the steady clock: when all workers are looked at again

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """See `Part`."""
        identity, state = record.entity[len(_NOBODY) :], record.state
        if record.type == WORKER_GONE:
            self.actions.store.deregister(identity)
            return
        concurrency, draining, registered_at, count, size = _WORKER.unpack_from(state)
        at = _WORKER.size + size
        names = []
        for _ in range(count):
            length = U16.unpack_from(state, at)[0]
            names.append(state[at + 2 : at + 2 + length])
            at += 2 + length
        labels = json.loads(state[_WORKER.size : _WORKER.size + size])
        self.actions.store.register(Worker(identity, tuple(names), labels, concurrency, draining, registered_at))

    def _write(self, worker: Worker, gone: bool = False) -> None:
        state = b""
        if not gone:
            labels = canonical(dict(worker.labels))
            packed = _WORKER.pack(worker.concurrency, worker.draining, worker.registered_at, len(worker.actions), len(labels))
            state = b"".join((packed, labels, *(U16.pack(len(name)) + name for name in worker.actions)))
        self.admit_keeps(HEADER_BYTES + len(_NOBODY) + len(worker.id) + len(state))
        kind = WORKER_GONE if gone else WORKER
        self.engine.write(Record(kind, self.namespace, self.engine.now, _NOBODY + worker.id, state, gone=gone))
        self.engine.busy.add(self.namespace)

    # -- workers -----------------------------------------------------------------------------------

    @operation
    def register(self, identity: bytes, actions: Sequence[bytes], *, labels: bytes = b"", concurrency: int = 1) -> None:
        """Register a worker for these actions, which need not be registered yet; or set all of one anew: it is draining no more, and keeps
        its runs."""
        if not identity or len(identity) > WORKER_BYTES_MAX:
            raise BadRequest(f"the worker's id is {len(identity)} bytes; it is 1 to {WORKER_BYTES_MAX}")
        if not actions or len(actions) > ACTIONS_MAX:
            raise BadRequest(f"the worker names {len(actions)} actions; give 1 to {ACTIONS_MAX}")
        if concurrency == 0:
            raise BadRequest("the concurrency is 0; it is 1 or more. A worker that shall get nothing is drained")
        store = self.actions.store
        if identity not in store.workers and len(store.workers) >= WORKERS_MAX:
            raise Overloaded(f"there are {WORKERS_MAX} workers; deregister those that are gone")
        names = tuple(dict.fromkeys(actions))
        worker = Worker(identity, names, parse_labels(labels), concurrency, False, self.engine.now)
        before = store.workers.get(identity)
        same = before is not None and (before.actions, before.concurrency, before.draining) == (names, concurrency, False)
        if before is None or not same or canonical(dict(before.labels)) != canonical(dict(worker.labels)):  # true is not 1
            self._write(worker)
        self._seen(identity)
        for taker in self._open.get(identity, ()):
            taker.move(names)
        self.freed(identity)

    def _seen(self, identity: bytes) -> Worker:
        """The worker of that name, which is there. Raises `BadRequest`."""
        worker = self.actions.store.workers.get(identity)
        if worker is None:
            raise BadRequest(f"there is no worker {identity[:100].decode('utf-8', 'replace')!r}; register it first")
        worker.seen = self.engine.steady()
        return worker

    def _is_silent(self, worker: Worker) -> bool:
        return worker.id not in self._open and self.engine.steady() - worker.seen >= SILENT_MS

    def status_of(self, worker: Worker) -> int:
        """ACTIVE (it has runs), IDLE, DRAINING or UNHEALTHY."""
        if self._is_silent(worker):
            return UNHEALTHY
        if worker.draining:
            return DRAINING
        return ACTIVE if self.actions.store.held.get(worker.id) else IDLE

    @operation
    def heartbeat(self, identity: bytes, *, load: int | None = None) -> int:
        """Say that the worker is there, and its load; returns its status."""
        worker = self._seen(identity)
        if load is not None:
            worker.load = load
        return self.status_of(worker)

    @operation
    def drain(self, identity: bytes) -> None:
        """Give the worker no more runs; it finishes those it has. Raises `NotFound`."""
        worker = self._known(identity)
        if not worker.draining:
            self._write(Worker(identity, worker.actions, worker.labels, worker.concurrency, True, worker.registered_at))
            self._dismiss(identity)

    @operation
    def deregister(self, identity: bytes) -> None:
        """Forget a worker. Its runs come back when their leases end. Raises `NotFound`."""
        self._write(self._known(identity), gone=True)
        self._dismiss(identity)

    def _known(self, identity: bytes) -> Worker:
        worker = self.actions.store.workers.get(identity)
        if worker is None:
            raise NotFound(f"there is no worker {identity[:100].decode('utf-8', 'replace')!r}")
        return worker

    def _dismiss(self, identity: bytes) -> None:
        """Answer the waiting requests of a worker: it gets nothing."""
        for taker in self._open.pop(identity, []):
            taker.cancel()
            taker.deliver(None)

    def names(self) -> list[bytes]:
        """The workers, in order."""
        return sorted(self.actions.store.workers)

    def count(self, name: bytes) -> int:
        """How many workers take runs of an action and are there."""
        workers = self.actions.store.workers_of.get(name, {}).values()
        return sum(self.status_of(worker) in (ACTIVE, IDLE) for worker in workers)

    def describe(self, identity: bytes) -> dict[str, Any]:
        """A worker for people. Raises `NotFound`."""
        worker = self._known(identity)
        silent = 0 if identity in self._open else self.engine.steady() - worker.seen
        return {
            "worker_id": identity,
            "status": STATUS[self.status_of(worker)],
            "actions": list(worker.actions),
            "labels": dict(worker.labels),
            "concurrency": worker.concurrency,
            "load": worker.load,
            "runs": [str(seq) for seq in sorted(self.actions.store.held.get(identity, ()))],
            "waiting": len(self._open.get(identity, ())),
            "registered_at": worker.registered_at,
            "seen_at": self.engine.now - silent,
            "completed": worker.done,
            "failed": worker.failed,
        }

    # -- taking runs -------------------------------------------------------------------------------

    @operation
    def take(self, identity: bytes) -> Assignment | None:
        """Give the worker a run, if there is one for it."""
        worker = self._seen(identity)
        self.actions.settle()
        return self._give(worker)

    def wait(self, identity: bytes, deliver: Deliver) -> Taker[bytes] | None:
        """Give the worker a run now, and return None; or return a taker that gets one as soon as there is one for it, or None once it can
        get none."""
        worker = self._seen(identity)
        self.actions.settle()
        found = self._give(worker)
        if found is not None or worker.draining:
            deliver(found)
            return None
        taker = self.takers.add(worker.actions, 1, False, deliver, consumer=identity)
        self._open.setdefault(identity, []).append(taker)
        return taker

    def leave(self, taker: Taker[bytes]) -> None:
        """A taker waits no longer."""
        taker.cancel()
        worker = self.actions.store.workers.get(taker.consumer)
        if worker is not None:
            worker.seen = self.engine.steady()  # it was there while it waited
        waiting = self._open.get(taker.consumer, [])
        if taker in waiting:
            waiting.remove(taker)
            if not waiting:
                del self._open[taker.consumer]
            worker = self.actions.store.workers.get(taker.consumer)
            if worker is not None:
                worker.seen = self.engine.steady()  # until now its waiting request has told that it is there

    def _has_room(self, worker: Worker) -> bool:
        held = self.actions.store.held.get(worker.id)
        return not worker.draining and (held is None or len(held) < worker.concurrency)

    def _give(self, worker: Worker) -> Assignment | None:
        """The best run for a worker, which it holds then; None if there is none."""
        if not self._has_room(worker):
            return None
        actions = self.actions.store.actions
        budget = PARK_SLICE
        while True:
            best: tuple[int, int] | None = None
            line: Line | None = None
            for name in worker.actions:
                action = actions.get(name)
                if action is None or not self._may_start(action):
                    continue
                for each in action.ready:
                    if worker.takes(each) and (best is None or each.first() < best):
                        best, line = each.first(), each
            if best is None or line is None:
                return None
            if self._parks(line, best[1]):
                budget -= 1
                if not budget:
                    self._stop_search(line)
                    return None
                continue
            found = self._start(line, best[1], worker)
            if found is not None:
                return found

    def _may_start(self, action: Action) -> bool:
        """Whether runs of the action are handed out now."""
        if action.paused or not action.registered:
            return False
        settings, now = action.settings, self.engine.now
        if not settings.starts:
            return True
        starts = action.starts
        if starts and starts[-1] > now:  # the clock was put back: what lies ahead counts from now
            ahead = bisect_right(starts, now)
            starts[ahead:] = array("q", [now]) * (len(starts) - ahead)
        if len(starts) < settings.starts or starts[-settings.starts] <= now - settings.window:
            return True
        self._throttled[action.name] = starts[-settings.starts] + settings.window
        return False

    def _parks(self, line: Line, seq: int) -> bool:
        """Park the run if its concurrency key has no room."""
        key = line.action.key_of.get(seq)
        if key is None or key.running < line.action.settings.concurrency:
            return False
        self.actions.store.park(seq, key)
        return True

    def _stop_search(self, line: Line) -> None:
        self.actions.store.more_ready[line] = None
        self._unsearched = True
        self.engine.busy.add(self.namespace)

    def _start(self, line: Line, seq: int, worker: Worker) -> Assignment | None:
        """Let a worker hold a ready run. If what the run was invoked with is damaged, it ends the run and returns None. Raises
        `Overloaded` if the disk has no room."""
        actions, action = self.actions, line.action
        state = actions.store.state(seq)
        assert state is not None
        try:
            first = actions.first(seq)
            step = Step() if last_of(state) == seq else actions.latest(state)
        except Damaged:
            actions.finish_unreadable(seq, state)
            return None
        now, lease = self.engine.now, action.settings.timeout
        self.admit_frees(STEP_BYTES + len(action.name) + len(step.history))
        started = Step(step.attempt + 1, step.failures, now, worker.id, b"", step.history)
        keys = actions.store.keys_of(seq, state)
        actions.write_step(RUN_STARTED, action.name, seq, pack_started(started, min(now + lease, DEADLINE_MAX), *keys))
        action.started += 1
        return Assignment(b"%d" % seq, action.name, first.created_at, started.attempt, lease, first.traceparent, first.input)

    def serve(self) -> None:
        """Hand out the runs that have become ready. If the disk has no room for that, they wait until it has: whoever made them ready is
        not refused."""
        ready = self.actions.store.more_ready
        self._unsearched = False
        if not self.takers:
            ready.clear()
            return
        budget = PARK_SLICE
        while ready:
            order = [(*line.first(), line.number, line) for line in ready if line.order]
            if len(order) < len(ready):
                for line in [line for line in ready if not line.order]:
                    del ready[line]
            heapify(order)
            while order:  # a line may have changed meanwhile
                *first, _, line = order[0]
                if line not in ready:
                    heappop(order)
                elif not line.order:
                    del ready[line]
                elif line.first() != tuple(first):
                    heapreplace(order, (*line.first(), line.number, line))
                elif (taker := self._taker_of(line)) is None:
                    del ready[line]
                elif not self._parks(line, first[1]):
                    if not self._hand_out(line, first[1], taker):
                        return
                elif not (budget := budget - 1):
                    self._stop_search(line)
                    return

    def _taker_of(self, line: Line) -> Taker[bytes] | None:
        """The first that waits for runs of the line and may have one now."""
        waiting = self.takers.by_key.get(line.action.name)
        if not waiting or not self._may_start(line.action):
            return None
        return next((each for each in waiting if self._can_take(each, line)), None)

    def _hand_out(self, line: Line, seq: int, taker: Taker[bytes]) -> bool:
        """Give a run to one that waits. Returns False if the disk has no room: then the search goes on later."""
        try:
            found = self._start(line, seq, self.actions.store.workers[taker.consumer])
        except Overloaded:
            self._stop_search(line)
            self.sweep_later()
            return False
        if found is not None:  # else the run was damaged, and has ended
            self.leave(taker)
            taker.deliver(found)
        return True

    def _can_take(self, taker: Taker[bytes], line: Line) -> bool:
        worker = self.actions.store.workers.get(taker.consumer)
        return worker is not None and worker.takes(line) and self._has_room(worker)

    def look_again(self, action: Action) -> None:
        """The action's runs may be handed out again."""
        self.actions.store.more_ready.update(action.ready)
        self.serve()

    def freed(self, identity: bytes) -> None:
        """A worker holds one run less, or may take more: its own waiting requests, and runs of a concurrency key, may go on."""
        store = self.actions.store
        worker = store.workers.get(identity)
        if worker is not None and identity in self._open and self._has_room(worker):
            actions = [store.actions[name] for name in worker.actions if name in store.actions]
            store.more_ready.update(dict.fromkeys(line for action in actions for line in action.ready if worker.takes(line)))
        self.serve()

    # -- reports -----------------------------------------------------------------------------------

    def _held(self, run: bytes, identity: bytes, attempt: int) -> tuple[int, int, Holding]:
        """(seq, state, holding) of a run that this worker holds; an attempt of 0 is the present one. Raises `NotFound`, `Conflict`."""
        actions = self.actions
        if identity in actions.store.workers:
            self._seen(identity)
        seq, state = actions.find(run)
        holding = actions.store.running.get(seq)
        if holding is not None and time_of(state) <= self.engine.now:
            actions.lapse(seq, state)
            holding = None
        if holding is None or holding.worker != identity or attempt not in (0, holding.attempt):
            raise Conflict("the worker does not hold this attempt of the run any more: the report changes nothing")
        return seq, state, holding

    @operation
    def complete(self, run: bytes, output: bytes, *, worker_id: bytes, attempt: int = 0) -> None:
        """The worker has executed the run. Raises `Conflict` if it does not hold it any more."""
        seq, state, _ = self._held(run, worker_id, attempt)
        self.actions.finish(seq, state, COMPLETED, ENDED, output)
        self.actions.store.line_of(state).action.done += 1
        worker = self.actions.store.workers.get(worker_id)
        if worker is not None:
            worker.done += 1
        self.freed(worker_id)

    @operation
    def fail(self, run: bytes, error: bytes, *, worker_id: bytes, retry: bool = False, delay: int | None = None, attempt: int = 0) -> int:
        """The run has failed. With `retry`, it is pending again, after `delay` ms (None: its back-off), unless its failures are spent.
        Returns what clients see of it. Raises `Conflict` if the worker does not hold it any more."""
        if delay is not None and not retry:
            raise BadRequest("the delay is of another attempt, for which the option retry is needed")
        seq, state, _ = self._held(run, worker_id, attempt)
        if retry:
            shown = self.actions.fail(seq, state, FAILURE, error, delay)
        else:
            self.actions.finish(seq, state, FAILED, FAILURE, error)
            shown = SHOWN[FAILED]
        self.actions.store.line_of(state).action.failed += 1
        worker = self.actions.store.workers.get(worker_id)
        if worker is not None:
            worker.failed += 1
        self.freed(worker_id)
        return shown

    @operation
    def release(self, run: bytes, *, worker_id: bytes, delay: int = 0, attempt: int = 0) -> None:
        """Give the run back, after `delay` ms, with no failure counted. Raises `Conflict` if the worker does not hold it any more."""
        seq, state, _ = self._held(run, worker_id, attempt)
        self.actions.give_back(seq, state, RELEASE, b"", self.engine.now + delay if delay else 0)
        self.freed(worker_id)

    @operation
    def touch(
        self, run: bytes, *, worker_id: bytes, lease: int | None = None, progress: bytes | None = None, attempt: int = 0
    ) -> tuple[int, bool]:
        """Extend the lease to `lease` ms from now (None: the action's timeout), and say how far the run is. Returns when the lease ends,
        and whether the run was cancelled, which its last holder alone learns. Raises `Conflict` if the worker does not hold it any more.
        """
        if progress is not None and len(progress) > PROGRESS_BYTES_MAX:
            raise BadRequest(f"the progress is {len(progress)} bytes; at most {PROGRESS_BYTES_MAX} are allowed")
        seq, state = self.actions.find(run)
        if kind_of(state) == CANCELLED:
            step = self.actions.latest(state)
            if step.worker == worker_id and attempt in (0, step.attempt):
                return 0, True
        seq, state, holding = self._held(run, worker_id, attempt)
        action = self.actions.store.line_of(state).action
        deadline = min(self.engine.now + (action.settings.timeout if lease is None else lease), DEADLINE_MAX)
        shown = holding.progress if progress is None else progress
        step = Step(holding.attempt, holding.failures, holding.started_at, worker_id, shown, holding.history)
        self.admit_keeps(STEP_BYTES + len(action.name) + len(shown) + len(step.history))
        keys = self.actions.store.keys_of(seq, state)
        self.actions.write_step(RUN_STARTED, action.name, seq, pack_started(step, deadline, *keys))
        return deadline, False

    # -- time and background -----------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """See `Part`."""
        return self.next_due() is None

    def next_due(self) -> int | None:
        """See `Part`."""
        if self._unsearched:
            return 0
        times = [min(until, self._throttled_until_max(name)) for name, until in self._throttled.items()]
        if self.actions.store.workers:
            times.append(self.engine.now + max(self._health_after - self.engine.steady(), 0))
        return min(times, default=None)

    def _throttled_until_max(self, name: bytes) -> int:
        """When an action may start runs again at the latest: a clock may have been put back since."""
        action = self.actions.store.actions.get(name)
        return self.engine.now + action.settings.window if action is not None else 0

    def sweep_slice(self) -> bool:
        """See `Part`: hand out what was throttled; forget workers."""
        store, now = self.actions.store, self.engine.now
        for name in [name for name, until in self._throttled.items() if until <= now or until > self._throttled_until_max(name)]:
            del self._throttled[name]
            action = store.actions.get(name)
            if action is not None:
                self.look_again(action)
        if self._unsearched:
            self.serve()
        if store.workers and not self.engine.is_early(self._health_after):
            self._health_after = self.engine.steady() + SILENT_MS
            silent = [worker for worker in store.workers.values() if self._is_silent(worker)]
            for worker in silent[:HEALTH_SLICE]:
                if self.engine.steady() - worker.seen >= FORGET_MS:
                    self._write(worker, gone=True)
        return self._unsearched

    # -- contents ----------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """See `Part`."""
        return {"workers": len(self.actions.store.workers)}

    def clear(self) -> None:
        """Everything was dropped: nobody gets anything."""
        for identity in tuple(self._open):
            self._dismiss(identity)
        self._throttled.clear()
        self._unsearched = False

    def end(self) -> None:
        """See `Part`."""
        super().end()
        self.clear()

    def finish_load(self) -> None:
        """See `Part`."""
        for worker in self.actions.store.workers.values():
            worker.seen = self.engine.steady()
