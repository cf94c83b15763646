"""Actions, runs, workers and schedules against a plain model, with restarts, crashes, compaction and moved clocks.

The engine chooses which worker gets which run; the model checks each choice: the worker may have the run, no better one stands before it,
and nobody has waited longer for it. After each step nothing is left that a waiting worker may have.

The times of a schedule are numbers with a step here. Each is dealt with once: it has a run, or one with all that were missed, or none.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from flo.engine import Engine, EngineSettings
from flo.engine.action import IDEMPOTENT_MS, Actions
from flo.engine.operation import run_job
from flo.engine.schedule import BACK_MS, MISSED_MS, Schedules
from flo.engine.waiting import Taker, Watch
from flo.engine.worker import FORGET_MS, SILENT_MS, Assignment, Workers
from flo.errors import BadRequest, Conflict, NotFound
from flo.store.action import PARKED, READY, kind_of, priority_of, time_of
from tests.support.restarts import HOUR, RestartModel
from tests.support.totals import check_totals

pytestmark = pytest.mark.computes

NAMES = st.sampled_from([b"a", b"b"])
IDS = st.sampled_from([b"w", b"x", b"y"])
LABELS = st.sampled_from([b"", b"", b"", b'{"gpu":true}', b'{"region":"eu"}'])
ENDED = ["completed", "failed", "cancelled", "timed_out"]
SHOWN = ["pending", "running", *ENDED]
SCHEDULES = st.sampled_from([b"s", b"t"])
MINUTE = 60_000
CRONS = {MINUTE: "* * * * *", 5 * MINUTE: "*/5 * * * *", HOUR: "0 * * * *", 24 * HOUR: "0 0 * * *"}
BACK_OFF_MAX = 3_600_000


@dataclass
class Run:
    """A run, as it should be."""

    action: bytes
    created_at: int
    input: bytes
    priority: int
    labels: dict[str, Any]
    key: bytes
    unique: bytes
    not_before: int
    recorded: int = 0  # the delay that is over, which no record says
    state: str = "pending"
    attempt: int = 0
    failures: int = 0
    started_at: int = 0
    worker: bytes = b""
    lease_until: int = 0
    progress: bytes = b""
    finished_at: int = 0
    counted_until: int = 0  # when a rate first keeps it no longer
    output: bytes = b""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    traceparent: bytes = b""

    @property
    def live(self) -> bool:
        return self.state in ("pending", "running")

    @property
    def ready(self) -> bool:
        return self.state == "pending" and not self.not_before


@dataclass
class Registered:
    """An action, as it should be."""

    settings: dict[str, Any]
    created_at: int
    version: int = 1
    paused: bool = False
    idempotent: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    starts: list[tuple[int, int]] = field(default_factory=list)  # that its rate surely counts: (time, run)
    latest: int = 0  # of all its starts
    over: int = 0  # the last of its starts that was seen to be over
    loose: bool = False  # its rate may count more starts than these

    def has_reached_rate(self, now: int) -> bool:
        rate = self.settings["rate"]
        return rate is not None and sum(start > now - rate[1] for start, _ in self.starts) >= rate[0]


@dataclass
class Hand:
    """A worker, as it should be."""

    actions: list[bytes]
    labels: dict[str, Any]
    concurrency: int
    seen: int
    draining: bool = False


@dataclass
class Planned:
    """A schedule, as it should be."""

    action: bytes
    is_cron: bool
    step: int  # of its times
    phase: int  # they leave this when divided by the step
    skips: bool
    labels: dict[str, Any]
    priority: int
    last: int
    runs: int = 0
    dropped: int = 0

    def after(self, time: int) -> int:
        """Its first time behind this one."""
        return time + self.step - (time - self.phase) % self.step

    def due(self, border: int, now: int) -> list[tuple[int, bool]]:
        """The times that are to be dealt with now, those that were missed as one; and whether that is for want of a server."""
        found, time = [], self.after(self.last)
        if time < border and time <= now:
            found.append((time, True))
            self.last = border - 1 if self.is_cron else self.after(border - 1) - self.step
            time = self.after(self.last)
        while time <= now:
            found.append((time, False))
            self.last, time = time, self.after(time)
        return found


@dataclass
class Waiting:
    """A request of a worker that waits."""

    worker: bytes
    taker: Taker[bytes] | None = None


def satisfies(has: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(json.dumps(has.get(name)) == json.dumps(value) for name, value in wanted.items())


def snapshot(engine: Engine) -> Any:
    """Everything that must be the same after a rebuild, once time has done what it has to."""
    store = engine.namespaces["default"].actions.store
    runs = {}
    for seq, state in ((seq, state) for shard in store.shards for seq, state in shard.items()):
        kind, line = kind_of(state), store.line_of(state)
        action = line.action
        runs[seq] = (
            READY if kind == PARKED else kind,
            priority_of(state),
            time_of(state),
            action.name,
            line.text,
            action.key_of[seq].name if seq in action.key_of else None,
            action.unique_of.get(seq),
        )
    running = {
        seq: (each.worker, each.attempt, each.failures, each.started_at, each.progress, each.history) for seq, each in store.running.items()
    }
    actions = {
        name: (each.version, each.settings, each.paused, each.created_at, each.since, each.idempotent, each.unique)
        for name, each in store.actions.items()
    }
    workers = {
        name: (each.actions, dict(each.labels), each.concurrency, each.draining, each.registered_at) for name, each in store.workers.items()
    }
    schedules = {
        name: (each.last, each.next, each.made, each.dropped, each.text)
        for name, each in engine.namespaces["default"].actions.schedules.by_name.items()
    }
    return runs, running, actions, workers, schedules


class ActionModel(RestartModel):
    """Every operation, on the engine and on the model."""

    PASSES: ClassVar = [1, 1, 400, 400, 1000, 1000, 1000, 5000, 5000, 31_000, 31_000, 91_000, HOUR + 1, 26 * HOUR]
    BLIND: ClassVar = [False, False, True]
    SETTINGS: ClassVar = EngineSettings(segment_bytes=1 << 14, keep_age=HOUR, keep_runs=7)

    @initialize()
    def open(self) -> None:
        self.runs: dict[int, Run] = {}
        self.gone: set[int] = set()  # runs that were forgotten
        self.known: dict[bytes, Registered] = {}
        self.had_starts: set[bytes] = set()  # names of actions that have had starts
        self.hands: dict[bytes, Hand] = {}
        self.plans: dict[bytes, Planned] = {}
        self.opened_at: int | None = None  # when somebody first looked since the start
        self.waiting: list[Waiting] = []
        self.delivered: list[tuple[Waiting, Assignment | None]] = []
        self.watched: list[tuple[int, list[int], Watch]] = []
        self.receipts: list[tuple[int, bytes, int]] = []  # (run, worker, attempt)
        self.ends: Counter[tuple[int, int]] = Counter()
        self.begin()
        given = {"timeout": 30_000, "retry_delay": 1000, "max_attempts": 2, "concurrency": 1, "rate": None}
        self.register(b"a", b"", **given)
        self.register(b"b", b'{"gpu":true}', **given | {"retry_delay": 0, "rate": (2, 5000)})
        self.register_worker(b"w", [b"a", b"b"], b'{"gpu":true,"region":"eu"}', 4)

    def open_engine(self) -> Engine:
        return Engine(self.directory, self.SETTINGS, clock=lambda: self.wall, steady=lambda: self.true)

    @property
    def actions(self) -> Actions:
        return self.engine.namespaces["default"].actions

    @property
    def workers(self) -> Workers:
        return self.actions.workers

    @property
    def schedules(self) -> Schedules:
        return self.actions.schedules

    # -- the model: time ---------------------------------------------------------------------------

    def _now(self) -> int:
        """The time now, and what it has done."""
        self._sweep(self.engine)
        self._put_back()
        events = 0
        for _, run in self._due():
            events += 1
            if run.state == "running":
                self._lapse(run)
            else:
                run.recorded, run.not_before = run.not_before, 0
        for action in self.known.values():
            action.idempotent = {key: known for key, known in action.idempotent.items() if known[1] > self.wall}
        events += self._run_schedules()
        self._settle(strict=not events)
        self._forget_finished()
        for identity, hand in list(self.hands.items()):
            if not self._waits(identity) and self.true - hand.seen >= FORGET_MS:
                del self.hands[identity]
        return self.wall

    def _sweep(self, engine: Engine) -> None:
        def sweep() -> None:
            for _ in range(1000):
                if not engine.sweep():
                    return
            raise AssertionError("the sweep never ends")

        if engine.manual:
            sweep()
        else:
            with engine.batch():
                sweep()

    def _run_schedules(self) -> int:
        """Do what the schedules have done; returns how many runs they have made."""
        if self.opened_at is None:
            self.opened_at = self.wall
        for plan in self.plans.values():
            if plan.last > self.wall + BACK_MS:
                plan.last = self.wall
                plan.phase = 0 if plan.is_cron else self.wall % plan.step
        border = min(max(self.opened_at, self.wall - MISSED_MS), self.wall)
        due = sorted((time, name, missed) for name, plan in self.plans.items() for time, missed in plan.due(border, self.wall))
        store = self.actions.store
        made = iter(sorted(seq for shard in store.shards for seq in shard if seq not in self.runs and seq not in self.gone))
        count = 0
        for _, name, missed in due:
            plan = self.plans[name]
            if missed and plan.skips:
                continue
            action = self.known.get(plan.action)
            has = json.loads(action.settings["labels"] or b"{}") if action is not None else {}
            if action is None or not satisfies(has | plan.labels, has):
                plan.dropped += 1
                continue
            seq = next(made, None)
            assert seq is not None, f"a time of {name!r} has no run"
            self.runs[seq] = Run(plan.action, self.wall, b"by " + name, plan.priority, has | plan.labels, b"", b"", 0)
            plan.runs += 1
            count += 1
        assert next(made, None) is None, "a run is there that nobody has invoked"
        return count

    def _due(self) -> list[tuple[int, Run]]:
        found = [(run.lease_until if run.state == "running" else run.not_before, seq) for seq, run in self.runs.items() if run.live]
        return [(seq, self.runs[seq]) for due, seq in sorted(found) if due and due <= self.wall]

    def _put_back(self) -> None:
        """Starts that lie ahead, since the clock was put back, count from now at the earliest. Those that were seen to be over may count
        no more."""
        for action in self.known.values():
            rate = action.settings["rate"]
            over = [each for each in action.starts if rate is not None and each[0] <= self.wall - rate[1]]
            action.over = max([action.over, *(at for at, _ in over)])
            if action.latest > self.wall or (rate is not None and action.over > self.wall - rate[1]):
                action.loose = True
            action.starts = [(min(at, self.wall), seq) for at, seq in action.starts if (at, seq) not in over]

    def _forget_finished(self) -> None:
        finished = sorted((run.finished_at, seq) for seq, run in self.runs.items() if not run.live)
        left = len(finished)
        for finished_at, seq in finished:
            run = self.runs[seq]
            if run.counted_until > self.wall:
                continue
            if finished_at > self.wall - self.SETTINGS.keep_age and left <= self.SETTINGS.keep_runs:
                break
            rate = self.known[run.action].settings["rate"]
            latest = max(run.started_at, *(each["started_at"] for each in run.attempts), 0)
            run.counted_until = max(finished_at, latest if latest <= self.wall else 0) + rate[1] if rate else 0
            if run.counted_until <= self.wall:
                del self.runs[seq]
                self.gone.add(seq)
                left -= 1
                if latest > self.wall:  # the clock was put back since: its start may count no more
                    action = self.known[run.action]
                    action.starts, action.loose = [each for each in action.starts if each[1] != seq], True

    # -- the model: runs ---------------------------------------------------------------------------

    def _end_attempt(self, run: Run, how: str, error: bytes = b"") -> None:
        row = {"number": run.attempt, "worker": run.worker, "started_at": run.started_at, "ended_at": self.wall, "how": how}
        run.attempts = [*run.attempts, row | {"error": error[:1000]}][-20:]
        run.lease_until, run.progress = 0, b""

    def _finish(self, run: Run, state: str, output: bytes = b"") -> None:
        run.state, run.output, run.finished_at = state, output, self.wall
        run.not_before = run.recorded = run.counted_until = 0

    def _give_back(self, run: Run, delay: int) -> None:
        run.state, run.worker, run.recorded = "pending", b"", 0
        run.not_before = self.wall + delay if delay else 0

    def _fail(self, run: Run, how: str, error: bytes, delay: int | None) -> None:
        self._end_attempt(run, how, error)
        run.failures += 1
        given = self.known[run.action].settings
        if given["max_attempts"] and run.failures >= given["max_attempts"]:
            self._finish(run, how, error)
        else:
            back_off = min(given["retry_delay"] * 2 ** (run.failures - 1), BACK_OFF_MAX)
            self._give_back(run, back_off if delay is None else delay)

    def _lapse(self, run: Run) -> None:
        self._fail(run, "timed_out", b"the lease ran out", None)

    def _revive(self, run: Run) -> bool:
        if run.unique and self._unique(run.action, run.unique) is not None:
            return False
        self._give_back(run, 0)
        run.failures, run.output, run.finished_at = 0, b"", 0
        return True

    def _unique(self, action: bytes, key: bytes) -> int | None:
        found = [seq for seq, run in self.runs.items() if run.live and (run.action, run.unique) == (action, key)]
        assert len(found) <= 1
        return found[0] if found else None

    # -- the model: who may take what --------------------------------------------------------------

    def _held(self, identity: bytes) -> list[int]:
        return sorted(seq for seq, run in self.runs.items() if run.state == "running" and run.worker == identity)

    def _waits(self, identity: bytes) -> int:
        return sum(each.worker == identity for each in self.waiting)

    def _may_take(self, identity: bytes, run: Run) -> bool:
        hand, action = self.hands.get(identity), self.known[run.action]
        if hand is None or hand.draining or len(self._held(identity)) >= hand.concurrency:
            return False
        if not run.ready or action.paused or action.has_reached_rate(self.wall):
            return False
        key = [each for each in self.runs.values() if each.state == "running" and (each.action, each.key) == (run.action, run.key)]
        if run.key and len(key) >= action.settings["concurrency"]:
            return False
        return run.action in hand.actions and satisfies(hand.labels, run.labels)

    def _sure(self, identity: bytes) -> list[tuple[int, int]]:
        """What the worker must get sooner than what stands behind it: of a concurrency key and the same labels, only the next in order."""
        found, keys = [], set()
        for priority, seq in sorted((run.priority, seq) for seq, run in self.runs.items() if run.ready):
            run = self.runs[seq]
            place = run.action, run.key, json.dumps(run.labels, sort_keys=True)
            first = not run.key or place not in keys
            keys.add(place)
            if first and not (self.known[run.action].loose and self.known[run.action].settings["rate"]) and self._may_take(identity, run):
                found.append((priority, seq))
        return found

    def _settle(self, strict: bool = True) -> None:
        """Check what was delivered. With `strict`, one thing after the other has become takeable."""
        delivered, self.delivered = self.delivered, []
        for waiting, found in delivered:
            assert waiting in self.waiting
            assert found is not None
            run = self.runs[int(found.run)]
            if strict:
                before = self.waiting[: self.waiting.index(waiting)]
                assert not any(self._may_take(each.worker, run) for each in before), "somebody has waited longer for it"
            self._assign(waiting.worker, found, strict)
            self.waiting.remove(waiting)
            self.hands[waiting.worker].seen = self.true

    def _assign(self, identity: bytes, found: Assignment, strict: bool) -> None:
        seq = int(found.run)
        run = self.runs[seq]
        action = self.known[run.action]
        assert self._may_take(identity, run), (identity, run, self.hands.get(identity), action)
        if strict:
            best = min(self._sure(identity), default=(run.priority, seq))
            assert (run.priority, seq) <= best, f"{best} stands before {seq}: {self.runs} {self.actions.store.actions}"
        timeout = action.settings["timeout"]
        assert found == Assignment(found.run, run.action, run.created_at, run.attempt + 1, timeout, run.traceparent, run.input)
        run.state, run.worker, run.started_at, run.lease_until = "running", identity, self.wall, self.wall + timeout
        run.attempt += 1
        run.recorded = 0
        action.starts.append((self.wall, seq))
        action.latest = max(action.latest, self.wall)
        self.had_starts.add(run.action)
        self.receipts = [*self.receipts, (seq, identity, run.attempt)][-12:]

    # -- actions -----------------------------------------------------------------------------------

    @rule(
        name=NAMES,
        timeout=st.sampled_from([1, 1500, 30_000, 30_000, 100_000]),
        retry_delay=st.sampled_from([0, 0, 300, 1000, HOUR]),
        max_attempts=st.sampled_from([0, 1, 2, 3]),
        concurrency=st.sampled_from([1, 1, 2]),
        rate=st.sampled_from([None, None, None, (1, 1000), (2, 5000), (2, 2 * HOUR)]),
        labels=st.sampled_from([b"", b"", b"", b'{"gpu":true}']),
    )
    def register(self, name: bytes, labels: bytes, **given: Any) -> None:
        now = self._now()
        action = self.known.get(name)
        given["labels"] = labels
        version = self.actions.register(name, **given)
        if action is None:
            action = self.known[name] = Registered(given, now, loose=name in self.had_starts)
        elif action.settings != given:
            action.version += 1
            if action.settings["rate"] != given["rate"]:
                action.loose, action.starts = name in self.had_starts, []
            action.settings = given
        assert version == action.version
        self._settle()

    def pause(self, name: bytes, paused: bool) -> None:
        self._now()
        if name not in self.known:
            with pytest.raises(NotFound):
                self.actions.pause(name, paused)
            return
        self.actions.pause(name, paused)
        self.known[name].paused = paused
        self._settle()

    def delete(self, name: bytes, ends: bool) -> None:
        """With `ends`, its runs are cancelled before."""
        self._now()
        for seq, run in self.runs.items():
            if ends and run.action == name and run.live:
                self._cancel(seq, run)
        theirs = {seq for seq, run in self.runs.items() if run.action == name}
        if name not in self.known:
            with pytest.raises(NotFound):
                self.actions.delete(name)
        elif any(self.runs[seq].live for seq in theirs):
            with pytest.raises(Conflict):
                self.actions.delete(name)
        else:
            self.actions.delete(name)
            del self.known[name]
            self.gone |= theirs
            self.runs = {seq: run for seq, run in self.runs.items() if seq not in theirs}

    @rule(
        name=NAMES,
        priority=st.sampled_from([0, 0, 0, 1, 255]),
        delay=st.sampled_from([0, 0, 0, 1, 700, 40_000]),
        idempotency=st.sampled_from([b"", b"", b"i"]),
        unique=st.sampled_from([b"", b"", b"u"]),
        key=st.sampled_from([b"", b"k", b"k", b"l"]),
        labels=st.sampled_from([b"", b"", b"", b'{"region":"eu"}', b'{"gpu":1}']),
    )
    def invoke(self, name: bytes, priority: int, delay: int, idempotency: bytes, unique: bytes, key: bytes, labels: bytes) -> None:
        now = self._now()
        action = self.known.get(name)

        def call() -> int:
            return int(
                self.actions.invoke(
                    name, b"in%d" % now, priority=priority, delay=delay, idempotency_key=idempotency, unique_key=unique,
                    concurrency_key=key, labels=labels, traceparent=b"00-%d" % now,
                )
            )  # fmt: skip

        if action is None:
            with pytest.raises(NotFound):
                call()
            return
        if idempotency in action.idempotent:
            assert call() == action.idempotent[idempotency][0]
            return
        known = self._unique(name, unique) if unique else None
        if known is None:
            has, more = json.loads(action.settings["labels"] or b"{}"), json.loads(labels or b"{}")
            if not satisfies(has | more, has):
                with pytest.raises(BadRequest):
                    call()
                return
            seq = call()
            assert seq not in self.runs and seq not in self.gone
            not_before, traceparent = now + delay if delay else 0, b"00-%d" % now
            self.runs[seq] = Run(name, now, b"in%d" % now, priority, has | more, key, unique, not_before, traceparent=traceparent)
        else:
            seq = call()
            assert seq == known
        if idempotency:
            action.idempotent[idempotency] = seq, now + IDEMPOTENT_MS
        self._settle()

    @rule(name=NAMES, count=st.integers(1, 4), key=st.sampled_from([b"", b"k"]), delay=st.sampled_from([0, 0, 700]), reports=st.booleans())
    def invoke_some(self, name: bytes, count: int, key: bytes, delay: int, reports: bool) -> None:
        for _ in range(count):
            self.invoke(name, 0, delay, b"", b"", key, b"")
        self.work(reports)

    @precondition(lambda self: bool(getattr(self, "runs", None)))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._now()
        seq, run = self._draw(data)
        if run is None:
            with pytest.raises(NotFound):
                self.actions.cancel(b"%d" % seq)
        elif not run.live and run.state != "cancelled":
            with pytest.raises(Conflict):
                self.actions.cancel(b"%d" % seq)
        else:
            self._cancel(seq, run)

    def _cancel(self, seq: int, run: Run) -> None:
        self.actions.cancel(b"%d" % seq)
        if run.state == "running":
            self._end_attempt(run, "cancelled")
        if run.live:
            self._finish(run, "cancelled")
            self._settle()

    @precondition(lambda self: bool(getattr(self, "runs", None)))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        self._now()
        seq, run = self._draw(data)
        if run is None:
            with pytest.raises(NotFound):
                self.actions.retry(b"%d" % seq)
        elif run.live or (run.unique and self._unique(run.action, run.unique) is not None):
            with pytest.raises(Conflict):
                self.actions.retry(b"%d" % seq)
        else:
            self.actions.retry(b"%d" % seq)
            assert self._revive(run)
            self._settle()

    @rule(name=NAMES, state=st.sampled_from(ENDED[1:]), labels=LABELS, limit=st.integers(1, 3))
    def retry_many(self, name: bytes, state: str, labels: bytes, limit: int) -> None:
        self._now()
        if name not in self.known:
            return
        wanted = json.loads(labels or b"{}")
        chosen = [seq for seq, run in self.runs.items() if (run.action, run.state) == (name, state) and satisfies(run.labels, wanted)]
        expected = sum(self._revive(self.runs[seq]) for seq in sorted(chosen, reverse=True) if self.runs[seq].finished_at <= self.wall)
        cursor, count = (0, 0), 0
        for _ in range(len(chosen) + 1):
            with self.engine.batch():
                cursor, more = run_job(self.actions.retry_many_job(name, SHOWN.index(state), labels, limit, cursor))
            count += more
            if cursor == (0, 0):
                break
        assert (cursor, count) == ((0, 0), expected)
        self._settle(strict=False)

    def _draw(self, data: st.DataObject) -> tuple[int, Run | None]:
        """A run, or rarely one that is gone."""
        seq = data.draw(st.sampled_from([*self.runs, *self.runs, *sorted(self.gone)[-2:]] or [1]))
        return seq, self.runs.get(seq)

    @precondition(lambda self: bool(getattr(self, "runs", None)))
    @rule(data=st.data())
    def watch(self, data: st.DataObject) -> None:
        """Wait for a run's result."""
        self._now()
        seq, run = self._draw(data)
        if run is not None and run.live:
            fired: list[int] = []
            with self.engine.batch():
                watch = self.actions.watch(b"%d" % seq, lambda: fired.append(1))
            self.watched.append((seq, fired, watch))

    # -- workers -----------------------------------------------------------------------------------

    @rule(
        identity=IDS,
        actions=st.sampled_from([[b"a", b"b"], [b"a", b"b"], [b"b"], [b"b", b"a", b"none"]]),
        labels=st.sampled_from([b'{"gpu":true,"region":"eu"}', b'{"gpu":true,"region":"eu"}', b"", b'{"gpu":1,"region":"eu"}']),
        concurrency=st.sampled_from([1, 1, 2, 4]),
    )
    def register_worker(self, identity: bytes, actions: list[bytes], labels: bytes, concurrency: int) -> None:
        self._now()
        self.workers.register(identity, actions, labels=labels, concurrency=concurrency)
        self.hands[identity] = Hand(actions, json.loads(labels or b"{}"), concurrency, self.true)
        self._settle()

    def heartbeat(self, identity: bytes) -> None:
        self._now()
        hand = self.hands.get(identity)
        if hand is None:
            with pytest.raises(BadRequest):
                self.workers.heartbeat(identity, load=3)
            return
        hand.seen = self.true
        assert self.workers.heartbeat(identity, load=3) == (2 if hand.draining else 0 if self._held(identity) else 1)

    def dismiss(self, identity: bytes, drains: bool) -> None:
        """Drain or deregister a worker."""
        self._now()
        call = self.workers.drain if drains else self.workers.deregister
        if identity not in self.hands:
            with pytest.raises(NotFound):
                call(identity)
            return
        call(identity)
        assert [found for waiting, found in self.delivered] == [None] * self._waits(identity)
        self.delivered.clear()
        self.waiting = [each for each in self.waiting if each.worker != identity]
        if drains:
            self.hands[identity].draining = True
        else:
            del self.hands[identity]

    @rule(identity=IDS)
    def take(self, identity: bytes) -> None:
        self._now()
        hand = self.hands.get(identity)
        if hand is None:
            with pytest.raises(BadRequest):
                self.workers.take(identity)
            return
        hand.seen = self.true
        found = self.workers.take(identity)
        if found is None:
            assert not self._sure(identity), f"{self._sure(identity)} is left: {self.runs} {self.known}"
        else:
            self._assign(identity, found, strict=True)

    @rule(reports=st.booleans())
    def work(self, reports: bool) -> None:
        """All workers take what they may have, and report perhaps."""
        self._now()
        if b"w" not in self.hands or self.hands[b"w"].draining:
            self.register_worker(b"w", [b"a", b"b"], b'{"gpu":true,"region":"eu"}', 4)
        for identity in self.hands:
            for _ in range(3):
                self.take(identity)
        for seq, worker, attempt in self.receipts[-2:] if reports else []:
            self._report(seq, worker, attempt, "complete", False, 0, None, False)

    @rule(identity=IDS, count=st.integers(1, 2))
    def wait(self, identity: bytes, count: int) -> None:
        self._now()
        hand = self.hands.get(identity)
        if hand is None:
            return
        hand.seen = self.true
        for _ in range(count):
            waiting = Waiting(identity)
            with self.engine.batch():
                waiting.taker = self.workers.wait(identity, lambda found, waiting=waiting: self.delivered.append((waiting, found)))  # type: ignore[misc]
            if waiting.taker is not None:
                self.waiting.append(waiting)
                assert not self.delivered
                continue
            ((_, found),) = self.delivered
            self.delivered.clear()
            if found is None:
                assert hand.draining
            else:
                self._assign(identity, found, strict=True)

    @precondition(lambda self: bool(getattr(self, "waiting", None)))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self._now()
        if not self.waiting:
            return
        waiting = data.draw(st.sampled_from(self.waiting))
        assert waiting.taker is not None
        with self.engine.batch():
            self.workers.leave(waiting.taker)
        self.waiting.remove(waiting)
        self.hands[waiting.worker].seen = self.true

    @rule(what=st.sampled_from(["pause", "delete", "heartbeat", "dismiss"]), name=NAMES, identity=IDS, flag=st.booleans())
    def manage(self, what: str, name: bytes, identity: bytes, flag: bool) -> None:
        """What is done rarely."""
        if what == "pause":
            self.pause(name, flag)
        elif what == "delete":
            self.delete(name, flag)
        elif what == "heartbeat":
            self.heartbeat(identity)
        else:
            self.dismiss(identity, flag)

    # -- schedules ---------------------------------------------------------------------------------

    @rule(
        name=SCHEDULES,
        action=NAMES,
        cron=st.sampled_from([*CRONS, None, None, None]),
        every=st.sampled_from([20_000, 45_001, HOUR]),
        skips=st.booleans(),
        labels=st.sampled_from([{}, {}, {"gpu": 1}]),
        priority=st.sampled_from([0, 0, 2]),
    )
    def put_schedule(
        self, name: bytes, action: bytes, cron: int | None, every: int, skips: bool, labels: dict[str, Any], priority: int
    ) -> None:
        now = self._now()
        times = {"every_ms": every} if cron is None else {"cron": CRONS[cron]}
        given = {"action": action.decode(), "input": "by " + name.decode(), "labels": labels, "priority": priority} | times
        terms = json.dumps(given | {"missed": "skip" if skips else "once"}).encode()
        if action not in self.known:
            with pytest.raises(NotFound):
                self.schedules.put(name, terms)
            return
        plan = Planned(action, cron is not None, cron or every, 0 if cron else now % every, skips, labels, priority, now)
        assert self.schedules.put(name, terms) == plan.after(now)
        self.plans[name] = plan

    @rule(name=SCHEDULES)
    def delete_schedule(self, name: bytes) -> None:
        self._now()
        if self.plans.pop(name, None) is None:
            with pytest.raises(NotFound):
                self.schedules.delete(name)
        else:
            self.schedules.delete(name)

    # -- reports -----------------------------------------------------------------------------------

    @precondition(lambda self: bool(getattr(self, "receipts", None)))
    @rule(data=st.data(), what=st.sampled_from(["complete", "fail", "fail", "release"]), delay=st.sampled_from([0, 600]))
    def report_all(self, data: st.DataObject, what: str, delay: int) -> None:
        """The workers are done with some of what they have."""
        for seq, worker, attempt in self.receipts:
            if data.draw(st.booleans()):
                self._report(seq, worker, attempt, what, True, delay, None, False)

    @precondition(lambda self: bool(getattr(self, "receipts", None)))
    @rule(
        data=st.data(),
        what=st.sampled_from(["complete", "complete", "fail", "fail", "release", "touch"]),
        retry=st.booleans(),
        delay=st.sampled_from([0, 0, 600]),
        lease=st.sampled_from([None, None, 0, 1, 60_000]),
        late=st.booleans(),
    )
    def report(self, data: st.DataObject, what: str, retry: bool, delay: int, lease: int | None, late: bool) -> None:
        """By a receipt, old or new, of this worker or another; `late`: nothing was swept before."""
        seq, worker, attempt = data.draw(st.sampled_from(self.receipts[::-1]))
        worker = data.draw(st.sampled_from([worker, worker, worker, b"x"]))
        attempt = data.draw(st.sampled_from([attempt, attempt, 0, attempt + 1]))
        self._report(seq, worker, attempt, what, retry, delay, lease, late)

    def _report(self, seq: int, worker: bytes, attempt: int, what: str, retry: bool, delay: int, lease: int | None, late: bool) -> None:
        if not late:
            self._now()
        self._put_back()
        run, call = self.runs.get(seq), {"worker_id": worker, "attempt": attempt}
        if worker in self.hands and (run is not None or what != "touch"):
            self.hands[worker].seen = self.true
        if run is None:
            with pytest.raises(NotFound):
                self._call(what, seq, retry, delay, lease, call)
            return
        if what == "touch" and run.state == "cancelled" and run.worker == worker and run.worker and attempt in (0, run.attempt):
            assert self.workers.touch(b"%d" % seq, **call) == (0, True)  # type: ignore[arg-type]
            self.hands.get(worker, Hand([], {}, 1, 0)).seen = self.seen_or(worker)
            return
        lapsed = run.state == "running" and run.lease_until <= self.wall
        stands = run.state == "running" and run.worker == worker and attempt in (0, run.attempt) and not lapsed
        if not stands:
            before = None if lapsed else self.actions.status(b"%d" % seq)
            with pytest.raises(Conflict):
                self._call(what, seq, retry, delay, lease, call)
            if lapsed:
                self._lapse(run)
                self._settle(strict=False)
            else:
                assert self.actions.status(b"%d" % seq) == before
            return
        found = self._call(what, seq, retry, delay, lease, call)
        if what == "touch":
            run.lease_until = self.wall + (self.known[run.action].settings["timeout"] if lease is None else lease)
            run.progress = b"half" if delay else run.progress
            assert found == (run.lease_until, False)
            return
        if what == "complete":
            self._end_attempt(run, "completed")
            self._finish(run, "completed", b"out%d" % run.attempt)
            self.ends[(seq, run.attempt)] += 1
            assert self.ends[(seq, run.attempt)] == 1, "its result counts twice"
        elif what == "release":
            self._end_attempt(run, "released")
            self._give_back(run, delay)
        elif retry:
            self._fail(run, "failed", b"oh", delay or None)
            assert found == SHOWN.index(run.state)
        else:
            self._end_attempt(run, "failed", b"oh")
            run.failures += 1
            self._finish(run, "failed", b"oh")
            assert found == SHOWN.index("failed")
        self._settle(strict=not late)

    def seen_or(self, identity: bytes) -> int:
        worker = self.actions.store.workers.get(identity)
        return worker.seen if worker is not None else 0

    def _call(self, what: str, seq: int, retry: bool, delay: int, lease: int | None, call: Any) -> Any:
        run = b"%d" % seq
        if what == "complete":
            return self.workers.complete(run, b"out%d" % self.runs[seq].attempt if seq in self.runs else b"", **call)
        if what == "fail":
            return self.workers.fail(run, b"oh", retry=retry, delay=delay or None if retry else None, **call)
        if what == "release":
            return self.workers.release(run, delay=delay, **call)
        return self.workers.touch(run, lease=lease, progress=b"half" if delay else None, **call)

    # -- time and restarts -------------------------------------------------------------------------

    def snapshot(self, engine: Engine) -> Any:
        if engine is not self.engine:
            actions = engine.namespaces["default"].actions
            actions.finish_load()
            actions.workers.finish_load()  # else a machine that is up for a day forgets its workers
        self._sweep(engine)
        return snapshot(engine)

    def look(self, ms: int, data: st.DataObject) -> None:
        if data.draw(st.booleans()):
            self._now()

    def last_snapshot(self) -> Any:
        self._now()
        return super().last_snapshot()

    def forget(self, wall: int) -> bool:
        """Delays that were over may not be over any more, and nobody waits."""
        again = False
        for run in self.runs.values():
            if run.recorded > self.wall:
                run.not_before, run.recorded, again = run.recorded, 0, True
            run.counted_until = 0
        for hand in self.hands.values():
            hand.seen = self.true
        for action in self.known.values():
            if action.settings["rate"] is None:
                action.starts = []
        self.waiting.clear()
        self.delivered.clear()
        self.watched.clear()
        self.opened_at = None
        return again or self.wall > wall or any(plan.last > self.wall + BACK_MS for plan in self.plans.values())

    # -- what must always hold ---------------------------------------------------------------------

    def agree(self) -> None:
        self._now()
        check_totals(self.engine)
        for _ in range(2):  # a timer that was set by the sweep may be near
            self._sweep(self.engine)
        due = self.engine.next_due()
        assert due is None or due > 0, "the loop would never rest"
        for waiting in self.waiting:
            assert not self._sure(waiting.worker), "a run is left that a waiting worker may have"
        for seq, run in self.runs.items():
            self._agree_on(seq, run)
        for seq in sorted(self.gone)[-5:]:
            with pytest.raises(NotFound):
                self.actions.result(b"%d" % seq)
        assert self.actions.names() == sorted(self.known)
        for name, action in self.known.items():
            self._agree_on_action(name, action)
        assert self.workers.names() == sorted(self.hands)
        for identity, hand in self.hands.items():
            shown = self.workers.describe(identity)
            silent = not self._waits(identity) and self.true - hand.seen >= SILENT_MS
            held = self._held(identity)
            assert shown["runs"] == [str(seq) for seq in held]
            assert shown["waiting"] == self._waits(identity)
            assert shown["status"] == ("unhealthy" if silent else "draining" if hand.draining else "active" if held else "idle")
        assert self.schedules.names() == sorted(self.plans)
        for name, plan in self.plans.items():
            shown = self.schedules.describe(name)
            assert (shown["next"], shown["runs"], shown["dropped"]) == (plan.after(plan.last), plan.runs, plan.dropped)
        for seq, fired, _ in self.watched:
            assert len(fired) <= 1
            assert fired or self.runs[seq].live
        self.watched = [each for each in self.watched if not each[1]]

    def _agree_on(self, seq: int, run: Run) -> None:
        finished, last = not run.live, run.attempts[-1] if run.attempts else {"error": b""}
        error = b"" if run.state == "completed" else run.output if finished else last["error"]
        assert self.actions.status(b"%d" % seq) == {
            "run_id": str(seq),
            "action": run.action,
            "status": run.state,
            "attempt": run.attempt,
            "failures": run.failures,
            "max_attempts": self.known[run.action].settings["max_attempts"],
            "created_at": run.created_at,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "not_before": run.not_before,
            "lease_until": run.lease_until,
            "worker": run.worker,
            "error": error,
            "labels": run.labels,
            "priority": run.priority,
            "progress": run.progress,
            "traceparent": run.traceparent,
            "attempts": run.attempts,
        }
        assert self.actions.result(b"%d" % seq) == (SHOWN.index(run.state), run.output)
        assert self.actions.input(b"%d" % seq) == run.input

    def _agree_on_action(self, name: bytes, action: Registered) -> None:
        theirs = {seq: run for seq, run in self.runs.items() if run.action == name}
        shown = self.actions.describe(name)
        assert (shown["version"], shown["paused"], shown["created_at"]) == (action.version, action.paused, action.created_at)
        assert shown["runs"] == {state: sum(run.state == state for run in theirs.values()) for state in SHOWN}
        for state, labels in ((None, {}), (0, {}), (4, {}), (None, {"region": "eu"})):
            expected = [
                str(seq) for seq, run in theirs.items() if state in (None, SHOWN.index(run.state)) and satisfies(run.labels, labels)
            ]
            with self.engine.batch():
                rows, _ = run_job(self.actions.runs_job(name, state, json.dumps(labels).encode(), 1000, 1 << 63))
            assert [row["run_id"] for row in rows] == sorted(expected, key=int, reverse=True)


TestActionModel = pytest.mark.slow(ActionModel.TestCase)
TestActionModel.settings = settings(max_examples=20, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.long
class TestActionModelLong(ActionModel.TestCase):  # type: ignore[misc, valid-type]
    """The same, for longer."""

    settings = settings(max_examples=1500, stateful_step_count=80, deadline=None, suppress_health_check=list(HealthCheck))
