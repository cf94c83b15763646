"""Actions in tests: steps of the lives of some runs, what a part makes of them, and what must be there afterwards."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from flo.engine.action import Actions
from flo.store.action import NAMES, SHOWN, attempt_of, kind_of

ACTION, WORKER, SCHEDULE = b"job", b"w", b"nightly"
LEASE_MS = 10**9
EVERY_MS = 20_000  # of the schedule
OUTPUT, PROGRESS = b"out" * 20, b"half"
PENDING, RUNNING, COMPLETED, CANCELLED = NAMES[0], NAMES[1], NAMES[2], NAMES[4]


@dataclass(frozen=True)
class Run:
    """A run, as it should be."""

    input: bytes
    state: str = PENDING
    attempt: int = 0
    output: bytes = b""
    progress: bytes = b""
    ended: int = 0  # attempts


@dataclass
class Work:
    """The runs of one action, its worker and its schedule, and how many records they took."""

    records: int = 0
    runs: dict[int, Run] = field(default_factory=dict)
    registered: bool = False
    paused: bool = False
    worker: str = ""
    schedule: tuple[int, int, int] | None = None  # the last time dealt with, the next one, how many runs it has made

    def copy(self) -> "Work":
        return replace(self, runs=dict(self.runs))

    def shown(self) -> Any:
        """To be compared with `held_work`."""
        return dict(self.runs), self.registered, self.paused, self.worker, self.schedule

    def step(self, name: str, now: int, index: int) -> None:
        """Do one of the steps at this time; `index` is that of its first record. Raises `AssertionError` if what it needs is missing."""
        self.records = 1
        assert self.registered or name in ("register", "worker", "drain", "deregister", "unschedule")
        assert self.worker or name not in ("drain", "deregister")
        assert self.schedule is not None or name != "unschedule"
        assert name != "take" or (self.worker == "idle" and not self.paused)
        if name in ("register", "pause", "resume", "unregister"):
            assert name != "unregister" or not any(run.state in (PENDING, RUNNING) for run in self.runs.values())
            self.registered, self.paused = name != "unregister", name == "pause"
        elif name in ("worker", "drain", "deregister"):
            self.worker = {"worker": "idle", "drain": "draining", "deregister": ""}[name]
        elif name == "schedule":
            self.schedule = now, now + EVERY_MS, 0
        elif name == "unschedule":
            self.schedule = None
        elif name == "invoke":
            self.records = 2  # with its idempotency key
            self.runs[index] = Run(input_of(index))
        elif name == "take":
            seq, run = self.first(PENDING)
            self.runs[seq] = replace(run, state=RUNNING, attempt=run.attempt + 1)
        elif name == "cancel":
            seq, run = self.first(PENDING)
            self.runs[seq] = replace(run, state=CANCELLED)
        else:
            seq, run = self.first(RUNNING)
            if name == "touch":
                self.runs[seq] = replace(run, progress=PROGRESS)
            else:
                state, output = (COMPLETED, OUTPUT) if name == "complete" else (PENDING, b"")
                self.runs[seq] = replace(run, state=state, output=output, progress=b"", ended=run.ended + 1)

    def sweep(self, now: int, index: int) -> None:
        """Do what is due: at most one of the schedule's times, and the runs of an action that is gone."""
        self.records = 0
        if not self.registered:
            self.records = len(self.runs)
            self.runs = {}
        if self.schedule is not None and self.schedule[1] <= now:
            last, made = self.schedule[1], self.schedule[2]
            assert self.registered and now < last + EVERY_MS
            self.schedule = last, last + EVERY_MS, made + 1
            self.runs[index + 1] = Run(b"by itself")
            self.records += 2

    def first(self, state: str) -> tuple[int, Run]:
        """The oldest run in this state."""
        found = [(seq, run) for seq, run in sorted(self.runs.items()) if run.state == state]
        assert found
        return found[0]


def input_of(seq: int) -> bytes:
    """What a run was invoked with."""
    return b"in %d " % seq * 40


def do_step(part: Actions, name: str) -> None:
    """The same step on a part."""
    workers = part.workers
    if name == "register":
        part.register(ACTION, timeout=LEASE_MS, max_attempts=0, retry_delay=0)
    elif name in ("pause", "resume"):
        part.pause(ACTION, name == "pause")
    elif name == "unregister":
        part.delete(ACTION)
    elif name == "worker":
        workers.register(WORKER, [ACTION], concurrency=100)
    elif name in ("drain", "deregister"):
        (workers.drain if name == "drain" else workers.deregister)(WORKER)
    elif name == "schedule":
        part.schedules.put(SCHEDULE, json.dumps({"action": ACTION.decode(), "every_ms": EVERY_MS, "input": "by itself"}).encode())
    elif name == "unschedule":
        part.schedules.delete(SCHEDULE)
    elif name == "invoke":
        seq = part.engine.log.next_index
        assert part.invoke(ACTION, input_of(seq), idempotency_key=b"%d" % seq) == b"%d" % seq
    elif name == "take":
        assert workers.take(WORKER) is not None
    elif name == "cancel":
        part.cancel(_first(part, PENDING))
    else:
        run = _first(part, RUNNING)
        if name == "touch":
            workers.touch(run, worker_id=WORKER, progress=PROGRESS)
        elif name == "complete":
            workers.complete(run, OUTPUT, worker_id=WORKER)
        else:
            assert workers.fail(run, b"oh", worker_id=WORKER, retry=True) == 0


def _first(part: Actions, state: str) -> bytes:
    shown = NAMES.index(state)
    return b"%d" % min(seq for shard in part.store.shards for seq, each in shard.items() if SHOWN[kind_of(each)] == shown)


def held_work(part: Actions) -> Any:
    """What a part holds of all this, its log's records included."""
    runs = {}
    for seq, state in ((seq, state) for shard in part.store.shards for seq, state in shard.items()):
        step = part.latest(state)
        shown = NAMES[SHOWN[kind_of(state)]]
        ended = attempt_of(state) - (shown == RUNNING)
        runs[seq] = Run(part.first(seq).input, shown, attempt_of(state), step.output, step.progress, ended)
    action = part.store.actions.get(ACTION)
    worker = part.store.workers.get(WORKER)
    schedule = part.schedules.by_name.get(SCHEDULE)
    return (
        runs,
        action is not None and action.registered,
        action is not None and action.paused,
        "" if worker is None else "draining" if worker.draining else "idle",
        None if schedule is None else (schedule.last, schedule.next, schedule.made),
    )
