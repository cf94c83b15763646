"""The actions, runs and workers of one namespace, as their records and the time make them.

    states[seq % SHARDS]   seq -> state of a run, one int
    actions                name -> Action: its settings, and its lines
    running                seq -> Holding: who executes it

A run is known by the index of its first record, its seq. Its **state** is one int:

    bits 0-2    its kind: READY, DELAYED, PARKED, RUNNING, or how it ended
    bits 3-10   priority
    bits 11-42  the number of its line
    bits 43-94  the index of its latest record
    bits 95-126 how often it was started
    bits 127-   a time, ms: of DELAYED, not before; of RUNNING, the end of the lease; of a finished run, when it ended

A **line** is the runs of one action with the same labels, as a worker must have them: which workers may take a run depends on its line
alone. A line has its runs by what clients see of them, in order of seq, and its ready runs by priority.

A run with a concurrency key that has as many runs running as its action allows is **parked** when its turn comes: it waits with its key,
and holds up no other run. When a run of the key ends, the key's next run of each line is ready again: there may be no worker for one line.
No record says so: whoever replays the log parks them anew. All else is in records.

The runs of an action that was deleted are **doomed**: clients see them no more, and they are removed in slices. An action that is
registered again under the name is another one: runs with a lower seq than its `since` are none of its own.
"""

from array import array
from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush, merge
from itertools import islice, takewhile
from typing import Any, NamedTuple

from flo.store.seqs import SEQ_BYTES, Seqs
from flo.store.timers import Timers

READY, DELAYED, PARKED, RUNNING, COMPLETED, FAILED, CANCELLED, TIMED_OUT = range(8)
KIND_MASK = 7
PRIORITY_SHIFT, PRIORITY_MASK = 3, 0xFF
LINE_SHIFT, LINE_MASK = 11, (1 << 32) - 1
LAST_SHIFT, LAST_MASK = 43, (1 << 52) - 1
ATTEMPT_SHIFT, ATTEMPT_MASK = 95, (1 << 32) - 1
TIME_SHIFT = 127
SHARDS = 251  # a prime: seqs in one shard then differ in their low bits, by which a dict finds its slots

# What clients see (SPEC section 2.3, action_result), by kind
SHOWN = (0, 0, 0, 1, 2, 3, 4, 5)
NAMES = ("pending", "running", "completed", "failed", "cancelled", "timed_out")

TIMEOUT_MS = 30_000
ATTEMPTS_DEFAULT = 3
RETRY_DELAY_MS = 1000
MAY_TAKE_MAX = 1000  # lines of which a worker remembers whether it takes them: lines come and go
STARTS_MAX = 100_000  # that a rate counts
UNPARKED_LINES = 500  # of which a concurrency key makes a run ready at once: 3 us each

# By tracemalloc, over a million runs
RUN_BYTES = 130  # its seq, its state, its place in a shard, and in its line
READY_BYTES = SEQ_BYTES  # its place among the ready ones
FINISHED_BYTES = 130  # its place among those that have ended
KEYED_BYTES = 110  # its place with its concurrency key, or with its unique key
IDEMPOTENT_BYTES = 310  # an idempotency key, until its window is over
HOLDING_BYTES = 250
LINE_BYTES = 1500
ACTION_BYTES = 1400
START_BYTES = 9  # of an action
WORKER_BYTES = 2500
WORKERS_ACTION_BYTES = 250

Label = str | int | float | bool
Labels = Mapping[str, Label]


class Settings(NamedTuple):
    """What an action is registered with. Times are in ms; `attempts` 0 is no bound, `starts` 0 no rate."""

    timeout: int = TIMEOUT_MS
    retry_delay: int = RETRY_DELAY_MS
    attempts: int = ATTEMPTS_DEFAULT
    concurrency: int = 1
    starts: int = 0
    window: int = 0
    labels: bytes = b"{}"  # JSON
    description: bytes = b""


class Key:
    """A concurrency key of an action."""

    __slots__ = ("name", "parked", "running", "runs")

    def __init__(self, name: bytes) -> None:
        self.name: bytes = name
        self.runs: int = 0  # that are not finished
        self.running: int = 0
        self.parked: dict[int, list[int]] = {}  # by the number of the line: a heap of priority << 64 | seq; some may be parked no more


class Line:
    """The runs of one action with the same labels."""

    __slots__ = ("action", "labels", "number", "order", "ready", "shown", "text")

    def __init__(self, number: int, action: "Action", text: bytes, labels: Labels) -> None:
        self.number: int = number
        self.action: Action = action
        self.text: bytes = text
        self.labels: Labels = labels
        self.shown: dict[int, Seqs] = {}  # its runs, by what clients see
        self.ready: dict[int, Seqs] = {}  # its ready runs by priority
        self.order: list[int] = []  # the priorities with ready runs, lowest first

    def first(self) -> tuple[int, int]:
        """(priority, seq) of the next run; (0, 0) if none is ready."""
        return (self.order[0], self.ready[self.order[0]].first()) if self.order else (0, 0)

    @property
    def waiting(self) -> int:
        """How many runs are ready."""
        return sum(map(len, self.ready.values()))


class Action:
    """An action: its settings and its runs."""

    __slots__ = (
        "created_at",
        "done",
        "failed",
        "idempotent",
        "key_of",
        "keys",
        "lines",
        "name",
        "paused",
        "ready",
        "registered",
        "settings",
        "since",
        "started",
        "starts",
        "unique",
        "unique_of",
        "version",
    )

    started: int  # runs since this process has it; no records count
    done: int  # … those of them that ended well
    failed: int

    def __init__(self, name: bytes) -> None:
        self.name: bytes = name
        self.registered: bool = False
        self.since: int = 0  # the index of the record that registered it first
        self.version: int = 0
        self.settings: Settings = Settings()
        self.paused: bool = False
        self.created_at: int = 0
        self.lines: dict[bytes, Line] = {}  # by the labels' text
        self.ready: dict[Line, None] = {}  # those of its lines with ready runs
        self.keys: dict[bytes, Key] = {}
        self.key_of: dict[int, Key] = {}  # of the runs that are not finished
        self.unique: dict[bytes, int] = {}  # key -> the run that is not finished and has it
        self.unique_of: dict[int, bytes] = {}
        self.idempotent: dict[bytes, tuple[int, int]] = {}  # key -> (run, until)
        self.starts: array[int] = array("q")  # when its last runs started, in order of time
        self.started = self.done = self.failed = 0

    def count(self, shown: int) -> int:
        """How many of its runs clients see in this state."""
        return sum(len(line.shown[shown]) for line in self.lines.values() if shown in line.shown)

    @property
    def live(self) -> int:
        """How many of its runs are not finished."""
        return self.count(SHOWN[READY]) + self.count(SHOWN[RUNNING])


class Holding:
    """A run that a worker executes."""

    __slots__ = ("attempt", "failures", "history", "progress", "started_at", "worker")

    def __init__(self, worker: bytes, attempt: int, failures: int, started_at: int, progress: bytes, history: bytes) -> None:
        self.worker: bytes = worker
        self.attempt: int = attempt
        self.failures: int = failures
        self.started_at: int = started_at
        self.progress: bytes = progress
        self.history: bytes = history  # of the attempts before, packed

    @property
    def bytes(self) -> int:
        """Bytes of memory accounted to it."""
        return HOLDING_BYTES + len(self.worker) + len(self.progress) + len(self.history)


class Worker:
    """A registered worker."""

    __slots__ = ("actions", "concurrency", "done", "draining", "failed", "id", "labels", "load", "may_take", "registered_at", "seen")

    done: int  # runs since this process has it, that ended well
    failed: int

    def __init__(
        self, identity: bytes, actions: tuple[bytes, ...], labels: Labels, concurrency: int, draining: bool, registered_at: int
    ) -> None:
        self.id: bytes = identity
        self.actions: tuple[bytes, ...] = actions
        self.labels: Labels = labels
        self.concurrency: int = concurrency
        self.draining: bool = draining
        self.registered_at: int = registered_at
        self.seen: int = 0  # by the steady clock; not in any record
        self.load: int = 0
        self.done = self.failed = 0
        self.may_take: dict[int, bool] = {}  # by the number of a line: whether its labels do

    @property
    def bytes(self) -> int:
        """Bytes of memory accounted to it."""
        return WORKER_BYTES + 2 * len(self.id) + sum(WORKERS_ACTION_BYTES + len(name) for name in self.actions)

    def takes(self, line: Line) -> bool:
        """Whether its labels satisfy those of the line."""
        known = self.may_take.get(line.number)
        if known is None:
            if len(self.may_take) >= MAY_TAKE_MAX:
                self.may_take.clear()
            known = self.may_take[line.number] = has_labels(self.labels, line.labels)
        return known


def has_labels(has: Labels, wanted: Labels) -> bool:
    """Whether all wanted labels are there, equal as JSON has it: true is not 1."""
    return all(
        name in has and has[name] == value and isinstance(has[name], bool) == isinstance(value, bool) for name, value in wanted.items()
    )


def kind_of(state: int) -> int:
    """READY and so on."""
    return state & KIND_MASK


def priority_of(state: int) -> int:
    """0 to 255; lower starts first."""
    return state >> PRIORITY_SHIFT & PRIORITY_MASK


def last_of(state: int) -> int:
    """The index of the run's latest record."""
    return state >> LAST_SHIFT & LAST_MASK


def attempt_of(state: int) -> int:
    """How often the run was started."""
    return state >> ATTEMPT_SHIFT & ATTEMPT_MASK


def time_of(state: int) -> int:
    """Not before, the end of the lease, or when the run ended, ms; 0 for none."""
    return state >> TIME_SHIFT


class ActionStore:
    """`invoke`, `start`, `back`, `finish` and so on apply records, replayed or live. Each is right whatever state the run is in: compaction
    may have dropped the records in between."""

    def __init__(self) -> None:
        shards: list[dict[int, int]] = [{} for _ in range(SHARDS)]
        self.shards = shards
        self.actions: dict[bytes, Action] = {}
        self.lines: dict[int, Line] = {}
        self.running: dict[int, Holding] = {}
        self.held: dict[bytes, set[int]] = {}  # worker -> the runs that it holds
        self.workers: dict[bytes, Worker] = {}
        self.workers_of: dict[bytes, dict[bytes, Worker]] = {}  # action, registered or not -> its workers
        # not through self: a store dropped with its namespace must not be in a cycle
        self.timers: Timers = Timers(lambda seq: _deadline(shards[seq % SHARDS].get(seq, 0)))
        self.finished: list[tuple[int, int]] = []  # (when it ended, run): a heap; some are finished no more, or again
        self.counted: list[tuple[int, int, int]] = []  # (until when, when it ended, run): a heap of the finished runs that a rate keeps
        self.ahead: dict[int, int] = {}  # finished run -> its last start, where that lies behind its end: the clock was put back
        self.counts: list[int] = [0] * 8  # runs by kind
        self.windows: list[tuple[int, bytes, bytes]] = []  # (until, action, idempotency key): a heap
        self.more_ready: dict[Line, None] = {}  # lines that got ready runs since the last look
        self.doomed_lines: list[Line] = []
        self.doomed: list[int] = []  # doomed runs of other lines
        self._next_line = 1
        self._keyed = 0
        self._other_bytes = 0

    @property
    def accounted(self) -> int:
        """Bytes of memory accounted to all of it."""
        return (
            RUN_BYTES * sum(self.counts)
            + READY_BYTES * self.counts[READY]
            + FINISHED_BYTES * sum(self.counts[COMPLETED:])
            + KEYED_BYTES * self._keyed
            + LINE_BYTES * len(self.lines)
            + self._other_bytes
            + self.timers.bytes
        )

    @property
    def live(self) -> int:
        """How many runs are not finished."""
        return sum(self.counts[:COMPLETED])

    # -- looking -----------------------------------------------------------------------------------

    def state(self, seq: int) -> int | None:
        """The state of a run; None if there is none."""
        return self.shards[seq % SHARDS].get(seq)

    def line_of(self, state: int) -> Line:
        """The line of a run."""
        return self.lines[state >> LINE_SHIFT & LINE_MASK]

    def line(self, action: Action, text: bytes, labels: Labels) -> Line:
        """The line of an action with these labels; makes it if there is none."""
        found = action.lines.get(text)
        if found is None:
            found = Line(self._next_line, action, text, labels)
            self._next_line += 1
            action.lines[text] = self.lines[found.number] = found
        return found

    def action(self, name: bytes) -> Action:
        """The action of that name; makes it if there is none."""
        found = self.actions.get(name)
        if found is None:
            found = self.actions[name] = Action(name)
            self._other_bytes += ACTION_BYTES + len(name)
        return found

    # -- moving runs -------------------------------------------------------------------------------

    def _enter(self, seq: int, kind: int, priority: int, line: Line, last: int, attempt: int, time: int) -> None:
        """Put a run where its kind belongs."""
        numbers = priority << PRIORITY_SHIFT | line.number << LINE_SHIFT | last << LAST_SHIFT | attempt << ATTEMPT_SHIFT
        self.shards[seq % SHARDS][seq] = kind | numbers | time << TIME_SHIFT
        self.counts[kind] += 1
        shown = SHOWN[kind]
        group = line.shown.get(shown)
        if group is None:
            group = line.shown[shown] = Seqs()
        group.add(seq)
        if kind == READY:
            self._make_ready(seq, priority, line)
        elif kind in (DELAYED, RUNNING):
            self.timers.add(time, seq)

    def _make_ready(self, seq: int, priority: int, line: Line) -> None:
        lane = line.ready.get(priority)
        if lane is None:
            lane = line.ready[priority] = Seqs()
            line.order = sorted(line.ready)
            line.action.ready[line] = None
        lane.add(seq)
        self.more_ready[line] = None

    def _not_ready(self, seq: int, priority: int, line: Line) -> None:
        lane = line.ready[priority]
        lane.remove(seq)
        if not lane:
            del line.ready[priority]
            line.order.remove(priority)
            if not line.order:
                del line.action.ready[line]

    def _leave(self, seq: int, state: int) -> Line:
        """Take a run out of where its kind has put it."""
        kind, priority, line = kind_of(state), priority_of(state), self.line_of(state)
        self.counts[kind] -= 1
        line.shown[SHOWN[kind]].remove(seq)
        if kind == READY:
            self._not_ready(seq, priority, line)
        elif kind in (DELAYED, RUNNING):
            self.timers.remove(time_of(state), seq)
        elif kind >= COMPLETED:
            self.ahead.pop(seq, None)
        if kind == RUNNING:
            holding = self.running.pop(seq)
            self._other_bytes -= holding.bytes
            held = self.held[holding.worker]
            held.discard(seq)
            if not held:
                del self.held[holding.worker]
            key = line.action.key_of.get(seq)
            if key is not None:
                key.running -= 1
                self._unpark(line.action, key)
        return line

    def _unpark(self, action: Action, key: Key) -> None:
        """Make the key's next parked run of each line ready, if the key has room for one more. The lines take turns if they are many."""
        if key.running >= action.settings.concurrency:
            return
        for number, parked in list(islice(key.parked.items(), UNPARKED_LINES)):
            del key.parked[number]
            while parked:
                seq = heappop(parked) & ((1 << 64) - 1)
                state = self.state(seq)
                if state is not None and kind_of(state) == PARKED and action.key_of.get(seq) is key:
                    self._rekind(seq, state, READY)
                    self._make_ready(seq, priority_of(state), self.line_of(state))
                    break
            if parked:
                key.parked[number] = parked

    def _rekind(self, seq: int, state: int, kind: int) -> None:
        self.shards[seq % SHARDS][seq] = (state & ~KIND_MASK & ((1 << TIME_SHIFT) - 1)) | kind
        self.counts[kind_of(state)] -= 1
        self.counts[kind] += 1

    # -- what time does ----------------------------------------------------------------------------

    def park(self, seq: int, key: Key) -> None:
        """A ready run waits for its concurrency key."""
        state = self.shards[seq % SHARDS][seq]
        line = self.line_of(state)
        self._not_ready(seq, priority_of(state), line)
        self._rekind(seq, state, PARKED)
        heappush(key.parked.setdefault(line.number, []), priority_of(state) << 64 | seq)

    def keys_of(self, seq: int, state: int) -> tuple[bytes, bytes]:
        """The concurrency key and the unique key of a run that is not finished."""
        action = self.line_of(state).action
        key = action.key_of.get(seq)
        return b"" if key is None else key.name, action.unique_of.get(seq, b"")

    def unpark_all(self, action: Action) -> None:
        """An action's concurrency has grown: keys have room for more."""
        for key in list(action.keys.values()):
            for _ in range(action.settings.concurrency - key.running):
                self._unpark(action, key)

    def ripen(self, seq: int, state: int) -> None:
        """The delay of a run is over."""
        self._rekind(seq, state, READY)
        self._make_ready(seq, priority_of(state), self.line_of(state))

    # -- what records do ---------------------------------------------------------------------------

    def invoke(
        self, index: int, name: bytes, priority: int, not_before: int, line: tuple[bytes, Labels], key: bytes, unique: bytes
    ) -> None:
        """Record `index` is a new run, and the run's seq."""
        action = self.action(name)
        self._take_keys(action, index, key, unique)
        self._enter(index, DELAYED if not_before else READY, priority, self.line(action, *line), index, 0, not_before)

    def start(self, index: int, seq: int, deadline: int, holding: Holding, keys: tuple[bytes, bytes], starts: Sequence[int]) -> None:
        """Record `index`: a worker executes the run, or has touched it. `keys` are its concurrency key and its unique key; `starts` is when
        its last attempts started."""
        state = self.state(seq)
        if state is None:
            return
        before = self.running.get(seq)
        if before is not None and before.attempt == holding.attempt:
            self.timers.remove(time_of(state), seq)
            self._other_bytes += holding.bytes - before.bytes
            self.running[seq] = holding
            kept = state & ((1 << TIME_SHIFT) - 1 ^ LAST_MASK << LAST_SHIFT)
            self.shards[seq % SHARDS][seq] = kept | index << LAST_SHIFT | deadline << TIME_SHIFT
            self.timers.add(deadline, seq)
            return
        line = self._move(seq, state, holding.attempt, starts, keys)
        self.running[seq] = holding
        self._other_bytes += holding.bytes
        self.held.setdefault(holding.worker, set()).add(seq)
        key = line.action.key_of.get(seq)
        if key is not None:
            key.running += 1
        self._enter(seq, RUNNING, priority_of(state), line, index, holding.attempt, deadline)

    def back(self, index: int, seq: int, attempt: int, not_before: int, keys: tuple[bytes, bytes], starts: Sequence[int]) -> None:
        """Record `index`: the run is pending again. `keys` and `starts` as for `start`."""
        state = self.state(seq)
        if state is None:
            return
        line = self._move(seq, state, attempt, starts, keys)
        self._enter(seq, DELAYED if not_before else READY, priority_of(state), line, index, attempt, not_before)

    def _move(self, seq: int, state: int, attempt: int, starts: Sequence[int], keys: tuple[bytes, bytes] = (b"", b"")) -> Line:
        """Take a run out of where it was, with what the records say that compaction may have dropped: its keys, if it was finished, and the
        starts of its attempts up to `attempt`."""
        action = self.line_of(state).action
        more = attempt - attempt_of(state)
        if more > 0:
            before = len(action.starts)
            for started_at in starts[-more:]:
                insort(action.starts, started_at)
            if len(action.starts) > 2 * STARTS_MAX:
                del action.starts[:-STARTS_MAX]
            self._other_bytes += START_BYTES * (len(action.starts) - before)
        if kind_of(state) >= COMPLETED:
            self._take_keys(action, seq, *keys)
        return self._leave(seq, state)

    def _take_keys(self, action: Action, seq: int, key: bytes, unique: bytes) -> None:
        if key:
            found = action.keys.get(key)
            if found is None:
                found = action.keys[key] = Key(key)
                self._other_bytes += KEYED_BYTES + len(key)
            found.runs += 1
            action.key_of[seq] = found
            self._keyed += 1
        if unique:
            action.unique[unique] = seq
            action.unique_of[seq] = unique
            self._keyed += 1
            self._other_bytes += len(unique)

    def finish(self, index: int, seq: int, kind: int, attempt: int, finished_at: int, starts: Sequence[int]) -> None:
        """Record `index`: the run has ended. `starts` as for `start`."""
        state = self.state(seq)
        if state is None:
            return
        line = self._move(seq, state, attempt, starts)
        key = line.action.key_of.get(seq)
        if key is not None and kind_of(state) == READY:
            self._unpark(line.action, key)  # it was this run's turn
        self._give_keys(line.action, seq)
        self._enter(seq, kind, priority_of(state), line, index, attempt, finished_at)
        heappush(self.finished, (finished_at, seq))
        if starts and max(starts) > finished_at:
            self.ahead[seq] = max(starts)

    def _give_keys(self, action: Action, seq: int) -> None:
        key = action.key_of.pop(seq, None)
        if key is not None:
            self._keyed -= 1
            key.runs -= 1
            if not key.runs:
                del action.keys[key.name]
                self._other_bytes -= KEYED_BYTES + len(key.name)
        unique = action.unique_of.pop(seq, None)
        if unique is not None:
            self._keyed -= 1
            self._other_bytes -= len(unique)
            if action.unique.get(unique) == seq:
                del action.unique[unique]

    def remove(self, seq: int) -> None:
        """The run is forgotten."""
        state = self.state(seq)
        if state is None:
            return
        line = self._leave(seq, state)
        self._give_keys(line.action, seq)
        del self.shards[seq % SHARDS][seq]
        if self.doomed and self.doomed[-1] == seq:
            self.doomed.pop()
        if not any(line.shown.values()):
            del self.lines[line.number], line.action.lines[line.text]
            self.more_ready.pop(line, None)

    def configure(self, name: bytes, version: int, settings: Settings, paused: bool, created_at: int, since: int) -> None:
        """An action is registered, or paused."""
        action = self.action(name)
        grown = action.registered and settings.concurrency > action.settings.concurrency
        action.registered, action.since = True, since
        action.version, action.settings, action.paused, action.created_at = version, settings, paused, created_at
        if grown:
            self.unpark_all(action)

    def unregister(self, name: bytes) -> None:
        """An action is deleted. Its runs are finished."""
        action = self.actions.pop(name, None)
        if action is not None:
            action.registered = False
            self._other_bytes -= ACTION_BYTES + len(name)
            self._forget_starts(action)
            action.idempotent.clear()
            self.doomed_lines += action.lines.values()

    def doom_strangers(self) -> None:
        """After a start: doom the runs that are of no action, or of one of the same name that was deleted."""
        for action in list(self.actions.values()):
            if not action.registered:
                self.unregister(action.name)
                continue
            for line in action.lines.values():
                for group in line.shown.values():
                    if group.first() < action.since:
                        self.doomed += list(group.before(action.since))
            for key in [key for key, known in action.idempotent.items() if known[0] < action.since]:
                del action.idempotent[key]
            if not action.settings.starts:
                self._forget_starts(action)

    def _forget_starts(self, action: Action) -> None:
        self._other_bytes -= START_BYTES * len(action.starts)
        action.starts = array("q")

    def next_doomed(self) -> int:
        """A doomed run; 0 if there is none."""
        if self.doomed:
            return self.doomed[-1]
        while self.doomed_lines:
            for group in self.doomed_lines[-1].shown.values():
                if group:
                    return group.first()
            self.doomed_lines.pop()
        return 0

    def remember(self, name: bytes, key: bytes, seq: int, until: int) -> None:
        """An idempotency key stands for a run until then."""
        action = self.action(name)
        action.idempotent[key] = seq, until
        heappush(self.windows, (until, action.name, key))
        self._other_bytes += IDEMPOTENT_BYTES + len(key)

    def end_window(self) -> None:
        """The time of the first window has come."""
        self._other_bytes -= IDEMPOTENT_BYTES + len(heappop(self.windows)[2])

    def forget_key(self, name: bytes, key: bytes) -> None:
        """An idempotency key stands for nothing any more."""
        action = self.actions.get(name)
        if action is not None:
            action.idempotent.pop(key, None)

    def register(self, worker: Worker) -> None:
        """A worker is registered, or drained."""
        before = self.workers.get(worker.id)
        if before is not None:
            worker.seen, worker.load, worker.done, worker.failed = before.seen, before.load, before.done, before.failed
            self.deregister(worker.id)
        self._other_bytes += worker.bytes
        self.workers[worker.id] = worker
        for name in worker.actions:
            self.workers_of.setdefault(name, {})[worker.id] = worker

    def deregister(self, identity: bytes) -> None:
        """A worker is gone."""
        worker = self.workers.pop(identity, None)
        if worker is None:
            return
        self._other_bytes -= worker.bytes
        for name in worker.actions:
            theirs = self.workers_of[name]
            del theirs[identity]
            if not theirs:
                del self.workers_of[name]

    def pieces(self) -> list[Any]:
        """The containers of the runs, so that they can be freed piece by piece."""
        return [*self.shards, self.running, self.actions, self.lines, self.finished, *self.timers.pieces()]

    def runs(self, shown: int | None, actions: Iterator[Action], wanted: Labels, before: int) -> Iterator[int]:
        """The runs in this state (None: in any), of these actions, that have the wanted labels, with lower seqs than `before`, the highest
        first. Nothing may change meanwhile."""
        groups = [
            takewhile(action.since.__le__, group.before(before))  # after a start, runs of a deleted action with the name may be there
            for action in actions
            for line in action.lines.values()
            if has_labels(line.labels, wanted)
            for state, group in line.shown.items()
            if shown in (None, state)
        ]
        return merge(*groups, reverse=True)


def _deadline(state: int) -> int:
    return time_of(state) if kind_of(state) in (DELAYED, RUNNING) else 0
