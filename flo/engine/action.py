"""The actions of one namespace and their runs (SPEC section 3, "Actions and workers"); flo.engine.worker hands the runs out.

A run's id is the index of its first record, in decimal. Each step of a run is a record that holds all that is known of it but what it was
invoked with (flo.engine.run). The others:

    action    action's container, "a"; see `_ACTION`, then labels, description
    key       action's container, "i", idempotency key; u64 run, u64 until
"""

import json
import struct
from collections.abc import Callable, Generator, Sequence
from heapq import heappop, heappush
from typing import Any, ClassVar

from flo.engine.operation import in_program, operation
from flo.engine.part import Database, Part
from flo.engine.run import (
    ATTEMPTS_KEPT,
    CANCEL,
    ENDED,
    ERROR_KEPT,
    FAILURE,
    HOW,
    LAPSE,
    STEP_BYTES,
    Attempt,
    First,
    Step,
    add_attempt,
    attempts_in,
    canonical,
    first_of,
    pack_back,
    pack_finished,
    pack_invoked,
    parse_labels,
    runs_labels,
    starts_of,
    step_of,
    unpack_back,
    unpack_finished,
    unpack_invoked,
    unpack_started,
)
from flo.engine.schedule import Schedules
from flo.engine.waiting import Watch, Watches
from flo.engine.worker import Workers
from flo.errors import BadRequest, Conflict, LogDamaged, NotFound
from flo.limits import DEADLINE_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX
from flo.store.action import (
    ATTEMPTS_DEFAULT,
    CANCELLED,
    COMPLETED,
    DELAYED,
    FAILED,
    NAMES,
    RETRY_DELAY_MS,
    RUNNING,
    SHOWN,
    STARTS_MAX,
    TIMED_OUT,
    TIMEOUT_MS,
    Action,
    ActionStore,
    Holding,
    Settings,
    attempt_of,
    kind_of,
    last_of,
    priority_of,
    time_of,
)
from flo.ual.record import (
    ACTION,
    ACTION_GONE,
    ACTION_KEY,
    ACTION_KEY_GONE,
    FAMILY_RUN,
    RUN_BACK,
    RUN_FINISHED,
    RUN_GONE,
    RUN_INVOKED,
    RUN_STARTED,
    U64,
    Record,
    container,
    container_of,
)

KEY_BYTES_MAX = 256  # of a concurrency key and a unique key: SPEC section 2.2
IDEMPOTENCY_BYTES_MAX = 32_000  # with an action's name of NAME_BYTES_MAX, an entity still fits its 65,535 bytes
IDEMPOTENT_MS = 86_400_000
DESCRIPTION_BYTES_MAX = 4096
TRACEPARENT_BYTES_MAX = 1024  # W3C's have 55; later versions may be longer
BACK_OFF_MAX_MS = 3_600_000
PRIORITY_MAX = 255
DUE_SLICE = 100  # runs whose lease or delay has ended, in one slice: 30 us each
KEPT_SLICE = 200  # finished runs forgotten in one slice: 10 us each
ROWS_SLICE = 100  # runs read from the log in one slice: 20 us each
READ_SLICE_BYTES = 1 << 20  # … or so many bytes

# version, timeout, retry delay, attempts, concurrency, starts, window, paused, created, since, length of the labels
_ACTION = struct.Struct("<IQIIIII?qQI")
_KEY = struct.Struct("<QQ")
ACTION_MARK, KEY_MARK = b"a", b"i"


class Actions(Part):
    """The actions of one namespace and their runs. Names, inputs and outputs are bytes (a program may give str, as UTF-8); times are Unix
    ms, timeouts and delays ms."""

    name = "actions"
    types: ClassVar[frozenset[int]] = frozenset(
        (RUN_INVOKED, RUN_STARTED, RUN_BACK, RUN_FINISHED, RUN_GONE, ACTION, ACTION_GONE, ACTION_KEY, ACTION_KEY_GONE)
    )
    nouns: ClassVar[dict[str, str]] = {
        "actions": "Registered actions.",
        "pending_runs": "Runs of actions that no worker executes.",
        "running_runs": "Runs of actions that a worker executes.",
        "finished_runs": "Runs of actions that have ended.",
    }
    events: ClassVar[dict[str, str]] = {
        "invoked_runs": "Runs that were invoked, those of schedules included.",
        "completed_runs": "Runs that have ended as completed.",
        "failed_runs": "Runs that have ended as failed.",
        "timed_out_runs": "Runs that have ended as timed out.",
        "cancelled_runs": "Runs that were cancelled.",
        "retried_runs": "Runs that became pending again: after a failure, the end of a lease, or by action_retry.",
        "expired_leases": "Leases of runs that ended without a report.",
    }
    container = "action"
    measures: ClassVar[dict[str, str]] = {
        "runs": "Runs of the action that have not ended.",
        "running_runs": "Runs of the action that a worker executes.",
    }

    def __init__(self, engine: Database, namespace: int) -> None:
        super().__init__(engine, namespace)
        self.store: ActionStore = ActionStore()
        self.watches: Watches = Watches()
        self._read_bytes = 0  # of the log, since a job's last pause
        self.workers: Workers = (Workers if engine.manual else in_program(Workers))(self)
        self.schedules: Schedules = (Schedules if engine.manual else in_program(Schedules))(self)

    @property
    def inner(self) -> Sequence[Part]:
        """See `Part`."""
        return (self.workers, self.schedules)

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """See `Part`."""
        kind, state, store = record.type, record.state, self.store
        head = container_of(record.entity)
        name, rest = head[2:], record.entity[len(head) :]
        if record.family == FAMILY_RUN:
            seq = int(U64.unpack(rest)[0])
            if kind == RUN_INVOKED:
                priority, not_before, labels, key, unique = unpack_invoked(state)
                store.invoke(index, name, priority, not_before, (labels, json.loads(labels)), key, unique)
            elif kind == RUN_STARTED:
                step, deadline, *keys = unpack_started(state)
                holding = Holding(step.worker, step.attempt, step.failures, step.started_at, step.progress, step.history)
                store.start(index, seq, deadline, holding, (keys[0], keys[1]), starts_of(step, runs=True))
            elif kind == RUN_BACK:
                step, not_before, key, unique = unpack_back(state)
                store.back(index, seq, step.attempt, not_before, (key, unique), starts_of(step, runs=False))
            elif kind == RUN_FINISHED:
                how, step, finished_at = unpack_finished(state)
                store.finish(index, seq, how, step.attempt, finished_at, starts_of(step, runs=False))
            else:
                store.remove(seq)
        elif kind == ACTION:
            version, timeout, retry_delay, attempts, concurrency, starts, window, paused, created_at, since, size = _ACTION.unpack_from(
                state
            )
            labels, description = state[_ACTION.size : _ACTION.size + size], state[_ACTION.size + size :]
            settings = Settings(timeout, retry_delay, attempts, concurrency, starts, window, labels, description)
            store.configure(name, version, settings, paused, created_at, since)
        elif kind == ACTION_GONE:
            store.unregister(name)
        elif kind == ACTION_KEY:
            store.remember(name, rest[1:], *_KEY.unpack(state))
        else:
            store.forget_key(name, rest[1:])

    def write_step(self, kind: int, name: bytes, seq: int, state: bytes) -> None:
        """Write a step of a run; an empty state: it is forgotten."""
        leans, gone = ((seq,), False) if state else ((), True)
        self.engine.write(Record(kind, self.namespace, self.engine.now, container(name) + U64.pack(seq), state, leans=leans, gone=gone))
        self.engine.busy.add(self.namespace)

    def _write_side(self, kind: int, name: bytes, mark: bytes, state: bytes, gone: bool = False) -> None:
        self.engine.write(Record(kind, self.namespace, self.engine.now, container(name) + mark, state, gone=gone))
        self.engine.busy.add(self.namespace)

    # -- reading runs ------------------------------------------------------------------------------

    def find(self, run: bytes) -> tuple[int, int]:
        """(seq, state) of the run with this id. Raises `NotFound`."""
        seq = int(run) if run.isdigit() and len(run) <= 20 and run[:1] != b"0" else 0
        state = self.store.state(seq)
        if state is None or not self.store.line_of(state).action.registered or seq < self.store.line_of(state).action.since:
            raise NotFound(f"there is no run {run[:64].decode('ascii', 'replace')!r}; it may be long over: see actions.keep_age")
        return seq, state

    def first(self, seq: int) -> First:
        """What the run was invoked with. Raises `Damaged`."""
        return first_of(self._read(seq))

    def latest(self, state: int) -> Step:
        """What the latest record of the run with this state says. Raises `Damaged`."""
        return step_of(self._read(last_of(state)))

    def _read(self, index: int) -> Record:
        record = self.engine.log.read(index)
        if record is None:
            raise LogDamaged(f"record {index} of a run is missing from the log")
        self._read_bytes += len(record.state)
        return record

    def _pauses(self, number: int) -> bool:
        """Whether a job that reads runs makes a pause before the one with this number: a run's records may be large."""
        if number % ROWS_SLICE != ROWS_SLICE - 1 and self._read_bytes < READ_SLICE_BYTES:
            return False
        self._read_bytes = 0
        return True

    # -- registering -------------------------------------------------------------------------------

    def registered(self, name: bytes) -> Action:
        """The action of that name. Raises `NotFound`."""
        action = self.store.actions.get(name)
        if action is None or not action.registered:
            raise NotFound(f"there is no action {name[:100].decode('utf-8', 'replace')!r}; register it first")
        return action

    @operation
    def register(
        self,
        name: bytes,
        *,
        timeout: int | None = None,
        retry_delay: int | None = None,
        max_attempts: int | None = None,
        concurrency: int | None = None,
        rate: tuple[int, int] | None = None,
        labels: bytes = b"",
        description: bytes = b"",
    ) -> int:
        """Register an action, or set all of one anew; returns its version, which grows where something differs. A pause stays."""
        if not name or len(name) > NAME_BYTES_MAX:
            raise BadRequest(f"the action's name is {len(name)} bytes; it is 1 to {NAME_BYTES_MAX}")
        if timeout == 0 or (timeout or 0) > DEADLINE_MAX:
            raise BadRequest(f"the timeout is {timeout} ms; it is 1 or more")
        if concurrency == 0:
            raise BadRequest("the concurrency is 0; it is 1 or more. `action pause` hands out nothing")
        starts, window = rate or (0, 0)
        if rate is not None and (not starts or not window or starts > STARTS_MAX):
            raise BadRequest(f"the rate is {starts} starts in {window} ms; give 1 to {STARTS_MAX} starts, in 1 ms or more")
        text = canonical(parse_labels(labels))
        if len(description) > DESCRIPTION_BYTES_MAX:
            raise BadRequest(f"the description is {len(description)} bytes; at most {DESCRIPTION_BYTES_MAX} are allowed")
        settings = Settings(
            TIMEOUT_MS if timeout is None else timeout,
            RETRY_DELAY_MS if retry_delay is None else retry_delay,
            ATTEMPTS_DEFAULT if max_attempts is None else max_attempts,
            1 if concurrency is None else concurrency,
            starts,
            window,
            text,
            description,
        )
        action = self.store.actions.get(name)
        known = action is not None and action.registered
        if action is not None and known and action.settings == settings:
            return action.version
        self.admit_adds(STEP_BYTES + len(name) + len(text) + len(description))
        version, paused, created_at, since = 1, False, self.engine.now, self.engine.log.next_index
        if action is not None and known:
            version, paused, created_at, since = action.version + 1, action.paused, action.created_at, action.since
        self._configure(name, version, settings, paused, created_at, since)
        self.workers.look_again(self.store.actions[name])
        return version

    def _configure(self, name: bytes, version: int, settings: Settings, paused: bool, created_at: int, since: int) -> None:
        *numbers, labels, description = settings
        state = _ACTION.pack(version, *numbers, paused, created_at, since, len(labels)) + labels + description
        self._write_side(ACTION, name, ACTION_MARK, state)

    @operation
    def pause(self, name: bytes, paused: bool) -> None:
        """Hand out no runs of the action, or hand them out again."""
        action = self.registered(name)
        if action.paused != paused:
            self.admit_keeps(STEP_BYTES + len(name))
            self._configure(name, action.version, action.settings, paused, action.created_at, action.since)
            if not paused:
                self.workers.look_again(action)

    @operation
    def delete(self, name: bytes) -> None:
        """Delete an action with its finished runs. Raises `Conflict` if it has others."""
        action = self.registered(name)
        if action.live:
            raise Conflict(f"runs of the action have not ended: {action.live}; cancel them, or let them end, first")
        self.admit_frees(STEP_BYTES + len(name))
        self._write_side(ACTION_GONE, name, ACTION_MARK, b"", gone=True)

    # -- invoking ----------------------------------------------------------------------------------

    @operation
    def invoke(
        self,
        name: bytes,
        input: bytes,
        *,
        priority: int = 0,
        delay: int = 0,
        idempotency_key: bytes = b"",
        unique_key: bytes = b"",
        concurrency_key: bytes = b"",
        labels: bytes = b"",
        traceparent: bytes = b"",
    ) -> bytes:
        """Invoke an action; returns the run's id."""
        action = self.registered(name)
        now = self.engine.now
        if idempotency_key:
            if len(idempotency_key) > IDEMPOTENCY_BYTES_MAX:
                raise BadRequest(f"the idempotency key is {len(idempotency_key)} bytes; at most {IDEMPOTENCY_BYTES_MAX} are allowed")
            known = action.idempotent.get(idempotency_key)
            if known is not None and known[1] > now:
                return b"%d" % known[0]
        if unique_key:
            seq = action.unique.get(unique_key)
            if seq is not None:
                if idempotency_key:
                    self.admit_adds(STEP_BYTES + len(name) + len(idempotency_key))
                    self._remember(name, idempotency_key, seq)
                return b"%d" % seq
        self._check_invoke(input, priority, delay, unique_key, concurrency_key, traceparent)
        text = action.settings.labels
        if labels:
            text = runs_labels(text, labels)
        not_before = now + delay if delay else 0
        self.admit_adds(2 * STEP_BYTES + 2 * len(name) + len(text) + len(input) + len(idempotency_key))
        seq = self.engine.log.next_index
        state = pack_invoked(priority, not_before, text, concurrency_key, unique_key, traceparent, input)
        entity = container(name) + U64.pack(seq)
        self.engine.write(Record(RUN_INVOKED, self.namespace, now, entity, state))
        self.happened["invoked_runs"] += 1
        if not_before:
            self.engine.busy.add(self.namespace)
        if idempotency_key:
            self._remember(name, idempotency_key, seq)
        self.workers.serve()
        return b"%d" % seq

    def _remember(self, name: bytes, idempotency_key: bytes, seq: int) -> None:
        self._write_side(ACTION_KEY, name, KEY_MARK + idempotency_key, _KEY.pack(seq, self.engine.now + IDEMPOTENT_MS))

    @staticmethod
    def _check_invoke(given: bytes, priority: int, delay: int, unique_key: bytes, concurrency_key: bytes, traceparent: bytes) -> None:
        if len(given) > VALUE_BYTES_MAX:
            raise BadRequest(f"the input is {len(given)} bytes; at most {VALUE_BYTES_MAX} are allowed")
        if not 0 <= priority <= PRIORITY_MAX:
            raise BadRequest(f"the priority is {priority}; it is 0 to {PRIORITY_MAX}, and lower goes first")
        if delay > DEADLINE_MAX:
            raise BadRequest(f"the delay is {delay} ms; at most {DEADLINE_MAX} are allowed")
        for what, key in (("unique", unique_key), ("concurrency", concurrency_key)):
            if len(key) > KEY_BYTES_MAX:
                raise BadRequest(f"the {what} key is {len(key)} bytes; at most {KEY_BYTES_MAX} are allowed")
        if len(traceparent) > TRACEPARENT_BYTES_MAX or not traceparent.isascii():
            raise BadRequest(f"the traceparent is {len(traceparent)} bytes; at most {TRACEPARENT_BYTES_MAX} of ASCII are allowed")

    # -- ending runs -------------------------------------------------------------------------------

    def finish(self, seq: int, state: int, kind: int, how: int, output: bytes) -> None:
        """End a run that is not finished: it is COMPLETED and so on, and this is its output or error."""
        action, now = self.store.line_of(state).action, self.engine.now
        name, holding = action.name, self.store.running.get(seq)
        if holding is not None:
            failures = holding.failures + (how in (FAILURE, LAPSE))
            attempt = Attempt(holding.attempt, holding.started_at, now, how, holding.worker, b"" if how == ENDED else output)
            history = add_attempt(holding.history, attempt, self._uncounted_until(action))
            step = Step(holding.attempt, failures, holding.started_at, holding.worker, history=history, output=output)
        else:
            step = self.latest(state)._replace(output=output)
        self.admit_frees(STEP_BYTES + len(name) + len(step.history) + len(output))
        self.write_step(RUN_FINISHED, name, seq, pack_finished(kind, step, now))
        self._tell(seq, kind)

    def _tell(self, seq: int, kind: int) -> None:
        """Count the run's end, and tell those that wait for it."""
        self.happened[f"{NAMES[SHOWN[kind]]}_runs"] += 1
        if self.watches and self.watches.change(b"%d" % seq):
            self.engine.changed.add(self)

    def give_back(self, seq: int, state: int, how: int, error: bytes, not_before: int) -> None:
        """A run that is running is pending again; `not_before` 0 is at once."""
        action, now, holding = self.store.line_of(state).action, self.engine.now, self.store.running[seq]
        failures = holding.failures + (how in (FAILURE, LAPSE))
        attempt = Attempt(holding.attempt, holding.started_at, now, how, holding.worker, error)
        history = add_attempt(holding.history, attempt, self._uncounted_until(action))
        self.admit_frees(STEP_BYTES + len(action.name) + len(history))
        step = Step(holding.attempt, failures, holding.started_at, history=history)
        self.write_step(RUN_BACK, action.name, seq, pack_back(step, not_before, *self.store.keys_of(seq, state)))

    def _uncounted_until(self, action: Action) -> int:
        """Starts up to this time are not counted by the action's rate."""
        return self.engine.now - action.settings.window

    def fail(self, seq: int, state: int, how: int, error: bytes, delay: int | None) -> int:
        """A running run has failed; it is pending again after `delay` ms (None: its back-off), or ends if its failures are spent. Returns
        what clients see of it."""
        settings, holding = self.store.line_of(state).action.settings, self.store.running[seq]
        failures = holding.failures + 1
        if settings.attempts and failures >= settings.attempts:
            kind = FAILED if how == FAILURE else TIMED_OUT
            self.finish(seq, state, kind, how, error)
            return SHOWN[kind]
        wait = min(settings.retry_delay << min(failures - 1, 32), BACK_OFF_MAX_MS) if delay is None else delay
        self.give_back(seq, state, how, error, self.engine.now + wait if wait else 0)
        self.happened["retried_runs"] += 1
        return 0

    @operation
    def cancel(self, run: bytes) -> None:
        """Cancel a run. A cancelled run is cancelled again without complaint; raises `Conflict` for another that has ended."""
        seq, state = self.find(run)
        kind = kind_of(state)
        if kind == CANCELLED:
            return
        if kind >= COMPLETED:
            raise Conflict(f"the run has ended: it is {NAMES[SHOWN[kind]]}")
        holding = self.store.running.get(seq)
        self.finish(seq, state, CANCELLED, CANCEL, b"")
        self.workers.freed(holding.worker if holding is not None else b"")

    @operation
    def retry(self, run: bytes) -> None:
        """Make a finished run pending: its next attempt, with no failures. Raises `Conflict` if it has not ended, or if another run has its
        unique key."""
        seq, state = self.find(run)
        if kind_of(state) < COMPLETED:
            raise Conflict(f"the run is {NAMES[SHOWN[kind_of(state)]]}; only one that has ended can be retried")
        if not self._revive(seq, state):
            raise Conflict("another run with the same unique key has not ended")
        self.workers.serve()

    def _revive(self, seq: int, state: int) -> bool:
        """Make a finished run pending, unless another one has its unique key."""
        action, first, step = self.store.line_of(state).action, self.first(seq), self.latest(state)
        if first.unique in action.unique:
            return False
        self.admit_adds(STEP_BYTES + len(action.name) + len(step.history) + len(first.key) + len(first.unique))
        self.write_step(RUN_BACK, action.name, seq, pack_back(step._replace(failures=0), 0, first.key, first.unique))
        self.happened["retried_runs"] += 1
        return True

    # -- looking -----------------------------------------------------------------------------------

    def result(self, run: bytes) -> tuple[int, bytes]:
        """What clients see of a run, and its output or error."""
        _, state = self.find(run)
        kind = kind_of(state)
        return SHOWN[kind], self.latest(state).output if kind >= COMPLETED else b""

    def watch(self, run: bytes, fire: Callable[[], int | None]) -> Watch:
        """Call back when the run has ended, or is there no more."""
        return self.watches.add([run], lambda _, ended: bool(ended), fire)

    def notify(self, most: int) -> bool:
        """See `Part`."""
        return self.watches.notify(most, self._has_ended)

    def _has_ended(self, run: bytes) -> bool:
        state = self.store.state(int(run))
        return state is None or kind_of(state) >= COMPLETED

    def input(self, run: bytes) -> bytes:
        """What the run was invoked with."""
        return self.first(self.find(run)[0]).input

    def status(self, run: bytes) -> dict[str, Any]:
        """All that is known of a run."""
        seq, state = self.find(run)
        return self._shown(seq, state, whole=True)

    def _shown(self, seq: int, state: int, whole: bool) -> dict[str, Any]:
        kind, line = kind_of(state), self.store.line_of(state)
        first, step = self.first(seq), self.latest(state)
        ended = kind >= COMPLETED
        attempts = attempts_in(step.history)
        shown: dict[str, Any] = {
            "run_id": str(seq),
            "action": line.action.name,
            "status": NAMES[SHOWN[kind]],
            "attempt": step.attempt,
            "failures": step.failures,
            "max_attempts": line.action.settings.attempts,
            "created_at": first.created_at,
            "started_at": step.started_at or (attempts[-1].started_at if attempts else 0),
            "finished_at": time_of(state) if ended else 0,
            "not_before": time_of(state) if kind == DELAYED else 0,
            "lease_until": time_of(state) if kind == RUNNING else 0,
            "worker": step.worker,
            "error": step.output[:ERROR_KEPT] if ended and kind != COMPLETED else (attempts[-1].error if attempts and not ended else b""),
            "labels": dict(line.labels),
            "priority": priority_of(state),
            "progress": step.progress,
            "traceparent": first.traceparent,
        }
        if whole:
            shown["attempts"] = [
                {
                    "number": each.number,
                    "worker": each.worker,
                    "started_at": each.started_at,
                    "ended_at": each.ended_at,
                    "how": HOW[each.how],
                    "error": each.error,
                }
                for each in attempts[-ATTEMPTS_KEPT:]
            ]
        return shown

    def runs_job(
        self, name: bytes, shown: int | None, wanted: bytes, limit: int, before: int
    ) -> Generator[None, None, tuple[list[dict[str, Any]], int]]:
        """The runs of an action (empty: of all) in this state (None: in any) with these labels, whose seqs are lower than `before`, the
        newest first; and the seq to go on before, 0 at the end. A job."""
        actions = [self.registered(name)] if name else [each for each in self.store.actions.values() if each.registered]
        found: list[int] = []
        for seq in self.store.runs(shown, iter(actions), parse_labels(wanted), before):
            found.append(seq)
            if len(found) > limit:
                break
        rows: list[dict[str, Any]] = []
        for number, seq in enumerate(found[:limit]):
            if self._pauses(number):
                yield
                self.check_namespace()
            state = self.store.state(seq)
            if state is not None:
                rows.append(self._shown(seq, state, whole=False))
        return rows, found[limit - 1] if len(found) > limit else 0

    def names(self) -> list[bytes]:
        """The registered actions, in order."""
        return sorted(name for name, action in self.store.actions.items() if action.registered)

    def describe(self, name: bytes) -> dict[str, Any]:
        """An action for people."""
        action = self.registered(name)
        settings = action.settings
        return {
            "name": name,
            "version": action.version,
            "paused": action.paused,
            "created_at": action.created_at,
            "timeout_ms": settings.timeout,
            "max_attempts": settings.attempts,
            "retry_delay_ms": settings.retry_delay,
            "concurrency": settings.concurrency,
            "rate": {"starts": settings.starts, "ms": settings.window} if settings.starts else None,
            "labels": json.loads(settings.labels),
            "description": settings.description,
            "runs": {state: action.count(number) for number, state in enumerate(NAMES)},
            "delayed": self._delayed(action),
            "started": action.started,
            "done": action.done,
            "failed": action.failed,
            "workers": self.workers.count(name),
        }

    @staticmethod
    def _delayed(action: Action) -> int:
        """How many of its pending runs are not ready: delayed, or waiting for their concurrency key."""
        return action.count(0) - sum(line.waiting for line in action.lines.values())

    def retry_many_job(
        self, name: bytes, shown: int, wanted: bytes, limit: int, cursor: tuple[int, int]
    ) -> Generator[None, None, tuple[tuple[int, int], int]]:
        """Retry the finished runs of an action in this state with these labels, up to `limit` looked at. `cursor` is (before which seq,
        finished before which time), zeros to begin. Returns the next cursor, zeros at the end, and how many became pending. A job."""
        if not SHOWN[FAILED] <= shown <= SHOWN[TIMED_OUT]:
            raise BadRequest(f"the state is {shown}; give 3 for failed, 4 for cancelled or 5 for timed out")
        before, until = cursor[0] or (1 << 63), cursor[1] or self.engine.now
        action = self.registered(name)
        found: list[int] = []
        for seq in self.store.runs(shown, iter([action]), parse_labels(wanted), before):
            found.append(seq)
            if len(found) == limit:
                break
        count = 0
        for number, seq in enumerate(found):
            if self._pauses(number):
                yield
                self.check_namespace()
            state = self.store.state(seq)
            if state is not None and SHOWN[kind_of(state)] == shown and time_of(state) <= until:
                count += self._revive(seq, state)
                self.workers.serve()
        return ((found[-1], until) if len(found) == limit else (0, 0)), count

    # -- time and background -----------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """See `Part`."""
        return self.next_due() is None

    def next_due(self) -> int | None:
        """See `Part`."""
        store = self.store
        if store.doomed or store.doomed_lines or (store.finished and self._too_many()):
            return 0
        times = [] if store.timers.next_due() is None else [store.timers.next_due() or 0]
        if store.windows:
            times.append(store.windows[0][0])
        if store.finished:
            times.append(store.finished[0][0] + self.engine.settings.keep_age)
        if store.counted:
            times.append(store.counted[0][0])
        return min(times, default=None)

    def _too_many(self) -> bool:
        return sum(self.store.counts[COMPLETED:]) > self.engine.settings.keep_runs

    def settle(self) -> None:
        """Do the work that is due, before a read. A server does one slice here, and the rest in the next turns."""
        while not self.store.timers.quiet(self.engine.now):
            if not self.sweep() or self.engine.manual:
                return

    def sweep_slice(self) -> bool:
        """See `Part`: a slice of what is due."""
        more = self._sweep_timers()
        more = self._sweep_windows() or more
        more = self._sweep_finished() or more
        self.workers.serve()
        return more

    def _sweep_timers(self) -> bool:
        """The leases and delays that have ended."""
        store, now = self.store, self.engine.now
        more = store.timers.move(now)
        due = store.timers.due(now, DUE_SLICE)
        for number, (deadline, seq) in enumerate(due):
            state = store.state(seq)
            if state is None or time_of(state) != deadline:
                continue
            if kind_of(state) == DELAYED:
                store.ripen(seq, state)
                continue
            try:
                self.lapse(seq, state)
            except BaseException:
                for entry in due[number:]:  # no room on the disk: they are due still
                    store.timers.add(*entry)
                raise
        return more or len(due) == DUE_SLICE

    def lapse(self, seq: int, state: int) -> None:
        """The lease of a run has ended: that is a failure."""
        worker = self.store.running[seq].worker
        self.fail(seq, state, LAPSE, b"the lease ran out", None)
        self.happened["expired_leases"] += 1
        self.workers.freed(worker)

    def _sweep_windows(self) -> bool:
        windows, now = self.store.windows, self.engine.now
        for _ in range(KEPT_SLICE):
            if not windows or windows[0][0] > now:
                return False
            until, name, key = windows[0]
            action = self.store.actions.get(name)
            known = action.idempotent.get(key) if action is not None else None
            if known is None or known[1] == until:
                self.admit_frees(STEP_BYTES + len(name) + len(key))
                self._write_side(ACTION_KEY_GONE, name, KEY_MARK + key, b"", gone=True)
            self.store.end_window()
        return True

    def _sweep_finished(self) -> bool:
        """Forget the doomed runs, and those that ended too long ago, or are too many. Those that their action's rate still counts are kept:
        a start would not know them."""
        store, now = self.store, self.engine.now
        for _ in range(KEPT_SLICE):
            seq = store.next_doomed()
            if seq:
                self._forget(seq)
                continue
            if store.counted and store.counted[0][0] <= now:
                heappush(store.finished, heappop(store.counted)[1:])
                continue
            if not store.finished or (store.finished[0][0] > now - self.engine.settings.keep_age and not self._too_many()):
                return False
            ended, seq = store.finished[0]
            state = store.state(seq)
            until = 0
            if state is not None and kind_of(state) >= COMPLETED and time_of(state) == ended:
                settings = store.line_of(state).action.settings
                ahead = store.ahead.get(seq, 0)
                until = max(ended, ahead if ahead <= now else 0) + settings.window if settings.starts else 0
                if until <= now:
                    self._forget(seq)
            heappop(store.finished)
            if until > now:
                heappush(store.counted, (until, ended, seq))
        return True

    def finish_unreadable(self, seq: int, state: int) -> None:
        """End a run whose records are damaged: else nothing behind it would start."""
        name = self.store.line_of(state).action.name
        error = b"what the run was invoked with is damaged on the disk"
        self.admit_frees(STEP_BYTES + len(name) + len(error))
        self.write_step(RUN_FINISHED, name, seq, pack_finished(FAILED, Step(attempt_of(state), output=error), self.engine.now))
        self._tell(seq, FAILED)

    def _forget(self, seq: int) -> None:
        state = self.store.state(seq)
        if state is not None:
            name = self.store.line_of(state).action.name
            self.admit_frees(STEP_BYTES + len(name))
            self.write_step(RUN_GONE, name, seq, b"")

    # -- contents ----------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """See `Part`."""
        return not self.store.live and not self.names()

    @property
    def memory_bytes(self) -> int:
        """See `Part`."""
        return self.store.accounted

    def counts(self) -> dict[str, int]:
        """See `Part`."""
        counts = self.store.counts
        return {
            "actions": len(self.store.actions),
            "pending_runs": sum(counts[:RUNNING]),
            "running_runs": counts[RUNNING],
            "finished_runs": sum(counts[COMPLETED:]),
        }

    def containers(self) -> list[Any]:
        """See `Part`."""
        return list(self.store.actions.values())

    def measure(self, container: Action) -> tuple[bytes, tuple[int, ...]]:
        """See `Part`."""
        return container.name, (container.live, container.count(SHOWN[RUNNING])) if container.registered else ()

    def drop(self, below: int) -> list[Any]:
        """See `Part`."""
        store, self.store = self.store, ActionStore()
        self.watches.change_all()
        self.engine.changed.add(self)
        self.workers.clear()
        return store.pieces()

    def end(self) -> None:
        """See `Part`."""
        super().end()
        self.watches.end_all()

    def finish_load(self) -> None:
        """See `Part`."""
        self.store.doom_strangers()
        self.store.more_ready.clear()
