"""The schedules of one namespace: when actions are invoked by themselves (SPEC section 3, "Actions and workers").

    schedule  container without a name, "s", schedule's name; i64 last, i64 next, u64 runs made, u64 times dropped, u32 length of the terms,
              these (JSON, as they were put)

`last` is the latest of its times that was dealt with, or when it was put; `next` is the one behind it. A time is dealt with in one batch
with the run that it makes, so each makes one run. Times that the server missed, because it was away or stalled, make one run together, or
none, as the schedule says.
"""

import json
import struct
from base64 import b64decode
from functools import cache
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import proxy

from flo import cron
from flo.engine.operation import operation
from flo.engine.part import Part
from flo.engine.run import LABELS_BYTES_MAX, STEP_BYTES, canonical, labels_of
from flo.errors import BadRequest, NotFound, Refusal
from flo.limits import DEADLINE_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX
from flo.ual.record import HEADER_BYTES, SCHEDULE, SCHEDULE_GONE, Record, container

if TYPE_CHECKING:
    from flo.engine.action import Actions

EVERY_MIN = 100  # ms
PRIORITY_MAX = 255
SCHEDULES_MAX = 100_000  # of a namespace
MISSED_MS = 60_000  # a time so long ago was missed, also where the server was there but stalled
BACK_MS = 3 * 3_600_000  # a larger step of the clock back begins the schedules anew
STALE_MAX = 1000  # times of schedules that were replaced, in the heap of next times
SLICE = 20  # times dealt with in one slice: 50 us each
SCHEDULE_BYTES = 1500  # of memory, without its terms, which are kept twice

_STATE = struct.Struct("<qqQQI")
_NOBODY = container(b"") + b"s"
_FIELDS = {"action", "cron", "every_ms", "input", "labels", "priority", "missed"}


class Terms(NamedTuple):
    """What a schedule was put with."""

    action: bytes
    cron: str
    every: int
    input: bytes
    labels: bytes
    priority: int
    skips: bool

    def after(self, time: int, last: int) -> int:
        """Its first time behind `time`; those of an interval are counted from `last`."""
        if self.every:
            return last + self.every * max((time - last) // self.every + 1, 1)
        return parsed(self.cron).next(time)


class Schedule:
    """A schedule."""

    __slots__ = ("dropped", "last", "made", "name", "next", "terms", "text")

    def __init__(self, name: bytes, last: int, following: int, made: int, dropped: int, text: bytes) -> None:
        self.name: bytes = name
        self.text: bytes = text
        self.terms: Terms = read_terms(text)
        self.last: int = last
        self.next: int = following
        self.made: int = made  # runs
        self.dropped: int = dropped  # times whose action was gone


@cache
def parsed(text: str) -> cron.Cron:
    """A cron expression, which many schedules may share."""
    return cron.parse(text)


def read_terms(text: bytes) -> Terms:
    """The terms in a JSON text. Raises `BadRequest`."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise BadRequest('the schedule is no JSON object; give one such as {"action": "report", "cron": "0 6 * * *"}')
    if unknown := given.keys() - _FIELDS:
        raise BadRequest(f"a schedule has no field {min(unknown)[:40]!r}; it may have {', '.join(sorted(_FIELDS))}")
    if ("cron" in given) == ("every_ms" in given):
        raise BadRequest("a schedule has either cron or every_ms")
    expression, every = given.get("cron", ""), given.get("every_ms", 0)
    if "every_ms" in given:
        if type(every) is not int or not EVERY_MIN <= every <= DEADLINE_MAX:
            raise BadRequest(f"every_ms is {every!r}; it is a whole number from {EVERY_MIN}")
    elif not isinstance(expression, str):
        raise BadRequest('cron is a text such as "0 6 * * *"')
    else:
        parsed(expression)
    priority = given.get("priority", 0)
    if type(priority) is not int or not 0 <= priority <= PRIORITY_MAX:
        raise BadRequest(f"the priority is {priority!r}; it is 0 to {PRIORITY_MAX}")
    missed = given.get("missed", "once")
    if missed not in ("once", "skip"):
        raise BadRequest(f"missed is {missed!r}; it is once or skip")
    action = given.get("action")
    if not isinstance(action, str) or not action:
        raise BadRequest("a schedule needs the name of its action")
    labels = canonical(labels_of(given.get("labels", {})))
    name, given_input = action.encode("utf-8", "surrogatepass"), _bytes_of(given.get("input", ""))
    return Terms(name, expression, every, given_input, labels, priority, missed == "skip")


def _bytes_of(given: Any) -> bytes:
    """An input: a string, or {"base64": …}."""
    if isinstance(given, str):
        return given.encode("utf-8", "surrogatepass")
    if isinstance(given, dict) and list(given) == ["base64"] and isinstance(given["base64"], str):
        try:
            return b64decode(given["base64"], validate=True)
        except ValueError:
            pass
    raise BadRequest('the input is neither a string nor {"base64": "…"}')


class Schedules(Part):
    """The schedules of one namespace. Names are bytes (a program may give str, as UTF-8)."""

    name = "schedules"
    types: ClassVar[frozenset[int]] = frozenset((SCHEDULE, SCHEDULE_GONE))
    nouns: ClassVar[dict[str, str]] = {"schedules": "Schedules."}
    events: ClassVar[dict[str, str]] = {
        "scheduled_runs": "Runs that schedules have invoked.",
        "dropped_times": "Times of schedules that made no run because the action was gone or refused it.",
    }

    def __init__(self, actions: "Actions") -> None:
        super().__init__(actions.engine, actions.namespace)
        self.actions: Actions = proxy(actions)  # a deleted namespace must not be in a cycle, since nothing collects cycles
        self.by_name: dict[bytes, Schedule] = {}
        self._due: list[tuple[int, bytes]] = []  # a heap of next times; some are of schedules that have another by now
        self._opened_at = 0  # what was due before was missed …
        self._loaded = False  # … which begins with the first look after a start
        self._latest = 0  # of their last times
        self._memory = 0

    # -- records -----------------------------------------------------------------------------------

    def apply(self, index: int, record: Record) -> None:
        """See `Part`."""
        name = record.entity[len(_NOBODY) :]
        before = self.by_name.pop(name, None)
        if before is not None:  # one that is replaced keeps its place in the heap until its time
            self._memory -= SCHEDULE_BYTES + 2 * (len(name) + len(before.text))
        if record.type == SCHEDULE:
            last, following, made, dropped, size = _STATE.unpack_from(record.state)
            text = record.state[_STATE.size : _STATE.size + size]
            self.by_name[name] = Schedule(name, last, following, made, dropped, text)
            self._memory += SCHEDULE_BYTES + 2 * (len(name) + len(text))
            self._latest = max(self._latest, last)
            heappush(self._due, (following, name))
            if len(self._due) > 2 * len(self.by_name) + STALE_MAX:
                self._due = sorted((each.next, each.name) for each in self.by_name.values())

    def _write(self, name: bytes, last: int, following: int, made: int, dropped: int, text: bytes) -> None:
        state = _STATE.pack(last, following, made, dropped, len(text)) + text
        self.engine.write(Record(SCHEDULE, self.namespace, self.engine.now, _NOBODY + name, state))
        self.engine.busy.add(self.namespace)

    # -- operations --------------------------------------------------------------------------------

    @operation
    def put(self, name: bytes, terms: bytes) -> int:
        """Put a schedule, or replace it; returns its first time. Raises `NotFound` if the action is missing."""
        if not name or len(name) > NAME_BYTES_MAX:
            raise BadRequest(f"the schedule's name is {len(name)} bytes; it is 1 to {NAME_BYTES_MAX}")
        if len(terms) > VALUE_BYTES_MAX:
            raise BadRequest(f"the schedule is {len(terms)} bytes; at most {VALUE_BYTES_MAX} are allowed")
        if name not in self.by_name and len(self.by_name) >= SCHEDULES_MAX:
            raise BadRequest(f"there are {SCHEDULES_MAX} schedules, which is the most; delete some")
        read = read_terms(terms)
        self.actions.registered(read.action)
        now = self.engine.now
        following = read.after(now, now)
        self.admit_adds(HEADER_BYTES + len(name) + len(terms) + _STATE.size)
        self._write(name, now, following, 0, 0, terms)
        return following

    @operation
    def delete(self, name: bytes) -> None:
        """Delete a schedule. Raises `NotFound`."""
        self._known(name)
        self.admit_frees(HEADER_BYTES + len(name))
        self.engine.write(Record(SCHEDULE_GONE, self.namespace, self.engine.now, _NOBODY + name, b"", gone=True))

    def _known(self, name: bytes) -> Schedule:
        found = self.by_name.get(name)
        if found is None:
            raise NotFound(f"there is no schedule {name[:100].decode('utf-8', 'replace')!r}")
        return found

    def names(self) -> list[bytes]:
        """The schedules, in order."""
        return sorted(self.by_name)

    def describe(self, name: bytes) -> dict[str, Any]:
        """A schedule for people. Raises `NotFound`."""
        schedule = self._known(name)
        terms = schedule.terms
        return {
            "name": name,
            "action": terms.action,
            **({"every_ms": terms.every} if terms.every else {"cron": terms.cron}),
            "input": terms.input,
            "labels": json.loads(terms.labels),
            "priority": terms.priority,
            "missed": "skip" if terms.skips else "once",
            "last": schedule.last,
            "next": schedule.next,
            "runs": schedule.made,
            "dropped": schedule.dropped,
        }

    # -- time --------------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """See `Part`."""
        return not self._due

    def next_due(self) -> int | None:
        """See `Part`."""
        due = self._due
        while due and (due[0][1] not in self.by_name or self.by_name[due[0][1]].next != due[0][0]):
            heappop(due)
        if not due:
            return None
        return 0 if self._latest > self.engine.now + BACK_MS else due[0][0]

    def sweep_slice(self) -> bool:
        """See `Part`: deal with some times that are due."""
        now = self.engine.now
        if self._loaded:
            self._opened_at, self._loaded = now, False
        if self._latest > now + BACK_MS:
            return self._begin_anew(now)
        for _ in range(SLICE):
            due = self.next_due()
            if due is None or due > now:
                return False
            self._deal_with(self.by_name[self._due[0][1]], now)
        return True

    def _begin_anew(self, now: int) -> bool:
        """The clock was put back far: begin the schedules anew whose last times lie ahead, some in a slice."""
        ahead = [each for each in self.by_name.values() if each.last > now + BACK_MS]
        for each in ahead[:SLICE]:
            self.admit_keeps(HEADER_BYTES + len(each.name) + len(each.text) + _STATE.size)
            self._write(each.name, now, each.terms.after(now, now), each.made, each.dropped, each.text)
        if len(ahead) <= SLICE:
            self._latest = max((each.last for each in self.by_name.values()), default=0)
        return True

    def _deal_with(self, schedule: Schedule, now: int) -> None:
        """A time of a schedule is due: make its run. If it was missed, deal with all that were missed together."""
        terms, last = schedule.terms, schedule.next
        border = min(max(self._opened_at, now - MISSED_MS), now)
        missed = last < border
        if missed:
            last = last + terms.every * ((border - 1 - last) // terms.every) if terms.every else border - 1
        following, size = terms.after(last, last), HEADER_BYTES + len(schedule.name) + len(schedule.text) + _STATE.size
        if missed and terms.skips:
            self.admit_keeps(size)
            self._write(schedule.name, last, following, schedule.made, schedule.dropped, schedule.text)
            return
        # Room for both records or for neither, and the schedule's first: the run may go to a worker at once, which takes room too
        self.admit_adds(2 * size + 2 * STEP_BYTES + 2 * len(terms.action) + LABELS_BYTES_MAX + len(terms.labels) + len(terms.input))
        self._write(schedule.name, last, following, schedule.made + 1, schedule.dropped, schedule.text)
        try:
            self.actions.invoke(terms.action, terms.input, priority=terms.priority, labels=terms.labels)
            self.happened["scheduled_runs"] += 1
        except Refusal:  # its action is gone, or does not allow its labels
            self.happened["dropped_times"] += 1
            self._write(schedule.name, last, following, schedule.made, schedule.dropped + 1, schedule.text)

    # -- contents ----------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """See `Part`."""
        return not self.by_name

    @property
    def memory_bytes(self) -> int:
        """See `Part`."""
        return self._memory

    def counts(self) -> dict[str, int]:
        """See `Part`."""
        return {"schedules": len(self.by_name)}

    def drop(self, below: int) -> list[Any]:
        """See `Part`."""
        before, self.by_name = self.by_name, {}
        self._due, self._memory, self._latest = [], 0, 0
        return [before]

    def finish_load(self) -> None:
        """See `Part`."""
        self._loaded = True
