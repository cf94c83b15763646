"""Downsampling: windows of a measurement, summed up into another measurement, as rules say (flo.store.downsampling).

A rule runs when a window has been over for as long as it is wide. A run computes the windows that have ended since the run before, series
by series, and writes their points. Its last record says how far the rule is: after a crash in a run, the next writes the same points again.

A point may come late, for a window that is written already. Memory knows these windows, series by series; a record says the earliest of
them, before the points' own record, so that a start does not forget them: it takes all windows from there on.
"""

from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Protocol, cast
from weakref import proxy

from flo.engine.part import Database
from flo.errors import BadRequest, OutOfMemory
from flo.floql.columns import Meter, floats, read
from flo.floql.plan import Aggregate, Function, Window
from flo.floql.source import Block, Columns
from flo.floql.stages import aggregate
from flo.series import head_key
from flo.store.downsampling import Progress, Rule
from flo.store.timeseries import TEXT, Measurement, Series, TimeSeriesStore

LATE_MS = 10_000  # late points are collected for so long, so that those of one window are written together
RETRY_MS = 60_000  # after a run that was refused: memory is full, or the series would be too many
LATE_WINDOWS_MAX = 100_000  # of a rule, remembered one by one: 10 MB; past it, all windows from the earliest are computed
WRITE_POINTS = 2000  # written in one slice: 2 ms
SERIES_SLICE = 100  # series without anything to compute that are looked at in a slice: 3 us each, and more if they have many open points
BEGINNING = -(1 << 62)  # before all points: where a new rule begins, so that it sums up what is there
NO_LIMIT = 1 << 62  # of points looked at: it is no client's request

Points = tuple[list[bytes], "array[int]", "array[float]"]  # keys of series, times, values


class Owner(Protocol):
    """The time series of a namespace, as their rules see them."""

    engine: Database
    store: TimeSeriesStore

    def blocks(self, handle: Any, start: int, end: int) -> Sequence[Block]:
        """The points of a series from `start` to `end`."""
        ...

    def write(self, keys: Sequence[bytes], times: "array[int]", values: "array[float]") -> int:
        """Add points. Raises `BadRequest`, `Overloaded`."""
        ...

    def advance(self, name: str, key: str, progress: Progress) -> None:
        """Write down how far a rule is."""
        ...


class _State:
    """A rule of a measurement, in this process."""

    def __init__(self, saved: Progress | None, now: int) -> None:
        self.done, self.earliest = saved or (BEGINNING, BEGINNING)  # the first late window; `done` if there is none
        self.until = self.done  # what `done` is when the run ends that is under way
        self.late: dict[int, set[int]] | None = {}  # the late windows by series; None: all from `earliest` on, of all series
        self.count = 0  # of the late windows
        self.due_late = 0  # when the late windows are due; 0 if there are none
        self.not_before = 0
        self.problem = ""  # why the last run was refused
        if self.earliest < self.done:
            self.forget_which(now)

    def due(self, rule: Rule) -> int:
        """When it runs next, by the wall clock."""
        regular = self.done + 2 * rule.width
        return max(min(regular, self.due_late) if self.due_late else regular, self.not_before)

    def note(self, series: int, windows: set[int], now: int) -> None:
        """These windows of a series get points after they were written."""
        self.earliest = min(self.earliest, *windows)
        self.due_late = self.due_late or now + LATE_MS
        if self.late is not None:
            known = self.late.setdefault(series, set())
            self.count -= len(known)
            known |= windows
            self.count += len(known)
            if self.count > LATE_WINDOWS_MAX:
                self.forget_which(self.due_late)

    def forget_which(self, due: int) -> None:
        """All windows from the earliest late one on are late."""
        self.late, self.count, self.due_late = None, 0, due


class Downsampling:
    """The rules of one namespace's measurements at work."""

    def __init__(self, part: Owner) -> None:
        self._part: Owner = proxy(part)  # a deleted namespace must not be in a cycle, since nothing collects cycles
        self._states: dict[tuple[str, str], _State] = {}  # by measurement and key of the rule
        self._run: Generator[None, None, None] | None = None
        self._running: tuple[str, str] = ("", "")  # whose run it is
        self._due: int | None = None  # when the next run begins; None: to be found out

    def forget(self, name: str | None = None) -> None:
        """The rules of this measurement, or all, have changed or are gone."""
        self._due = None
        for key in [key for key in self._states if name in (None, key[0])]:
            del self._states[key]
        if name in (None, self._running[0]):
            self._run = None

    def next_due(self) -> int | None:
        """When `slice` has something to do, ms by the wall clock; None for never."""
        if self._run is not None:
            return 0
        if not self._part.store.ruled:
            return None
        if self._due is None:
            self._due = min(self._state(name, rule).due(rule) for name, rule in self._rules())
        return self._due

    def problem(self, name: str) -> str:
        """Why a rule of this measurement does not run; empty if all do."""
        return next((state.problem for (of, _), state in self._states.items() if of == name and state.problem), "")

    def _rules(self) -> Iterator[tuple[str, Rule]]:
        for name, rules in self._part.store.ruled.items():
            for rule in rules:
                yield name, rule

    def _state(self, name: str, rule: Rule) -> _State:
        found = self._states.get((name, rule.key))
        if found is None:
            saved = self._part.store.measurements[name].progress.get(rule.key)
            found = self._states[name, rule.key] = _State(saved, self._part.engine.now)
        return found

    def note(self, points: Iterable[tuple[Series, int]]) -> None:
        """These points, each its series and its time, are about to be written: remember the windows that were written without them."""
        ruled, found = self._part.store.ruled, dict[tuple[str, Rule], dict[Series, set[int]]]()
        for series, time in points:
            name = series.measurement.name
            for rule in ruled.get(name, ()):
                if time < self._state(name, rule).until:
                    found.setdefault((name, rule), {}).setdefault(series, set()).add(time - time % rule.width)
        for (name, rule), late in found.items():
            state, self._due = self._state(name, rule), None
            for series, windows in late.items():
                state.note(series.id, windows, self._part.engine.now)
            saved = self._part.store.measurements[name].progress.get(rule.key)
            if saved is not None and state.earliest < saved.late:
                self._part.advance(name, rule.key, Progress(saved.done, state.earliest))

    # -- runs --------------------------------------------------------------------------------------

    def slice(self) -> bool:
        """Do a slice of a run that is due; returns whether there is more. Raises `Overloaded`."""
        now = self._part.engine.now
        if self._run is None:
            due = self.next_due()
            if due is None or due > now:
                return False
            name, rule = min(self._rules(), key=lambda each: self._state(*each).due(each[1]))
            self._running = name, rule.key
            self._run = self._compute(self._part.store.measurements[name], rule, self._state(name, rule))
        run, state = self._run, self._states[self._running]
        self._run = None
        try:
            next(run)
            self._run = run
        except StopIteration:
            self._due = None
        except (BadRequest, OutOfMemory) as refusal:
            self._due = None
            state.problem = f"{self._running[1]}: {refusal}"
            state.not_before = now + RETRY_MS
        return True

    def _compute(self, measurement: Measurement, rule: Rule, state: _State) -> Generator[None, None, None]:
        """Compute and write the windows that are over, and the late ones."""
        now, before = self._part.engine.now, state.earliest
        until = max(state.done, now - rule.width - (now - rule.width) % rule.width)
        since, late = (state.done, state.late) if state.late is not None else (min(state.done, before), {})
        state.until, state.late, state.count, state.due_late, state.earliest = until, {}, 0, 0, until
        wrote = 0
        try:
            for points in self._windows(measurement, rule, since, until, late):
                if points is not None:
                    wrote += self._part.write(*points)
                yield
        except BaseException:  # a refusal, or no room: the next run computes them all again
            state.until, state.earliest = state.done, min(before, state.earliest)
            if before < state.done:
                state.forget_which(now)
            raise
        state.done, state.problem, state.not_before = until, "", 0
        saved = measurement.progress.get(rule.key)
        if wrote or (saved is not None and saved.late < saved.done):
            self._part.advance(measurement.name, rule.key, Progress(until, state.earliest))

    def _windows(self, measurement: Measurement, rule: Rule, since: int, until: int, late: dict[int, set[int]]) -> Iterator[Points | None]:
        """The points of the windows from `since` to before `until`, and of the late ones; None now and then, when some work was done."""
        part = self._part
        source = measurement.name.encode(*TEXT)
        cut, head = len(head_key(source, ())), head_key(source + b":" + rule.key.encode(), ())
        window = Window(rule.width)
        step = Aggregate(cast(Function, rule.function), 0.0, window)
        meter = Meter(NO_LIMIT)
        points: Points = ([], array("q"), array("d"))
        for number, series in enumerate(tuple(measurement.series.values())):
            if number % SERIES_SLICE == SERIES_SLICE - 1:
                yield None
            if part.store.by_id.get(series.id) is not series:
                continue
            oldest = BEGINNING
            if measurement.max_age:  # the first window of which nothing is gone
                oldest = window.start(part.engine.now - measurement.max_age) + rule.width
            key = head + series.key[cut:]
            for start, end in _ranges(late.get(series.id, ()), since, until, rule.width):
                for columns in aggregate([read(part, series, max(start, oldest), end - 1, meter)], step, start, meter):
                    if isinstance(columns, Columns):
                        for times, values in _pieces(floats(columns)):
                            points[0].extend(repeat(key, len(times)))
                            points[1].extend(times)
                            points[2].extend(values)
                            if len(points[0]) >= WRITE_POINTS:
                                yield points
                                points = ([], array("q"), array("d"))
                    if meter.due():
                        yield None
        yield points


def _pieces(columns: Columns) -> Iterator[tuple[Sequence[int], Sequence[float]]]:
    for at in range(0, len(columns.times), WRITE_POINTS):
        yield columns.times[at : at + WRITE_POINTS], columns.values[at : at + WRITE_POINTS]


def _ranges(late: Iterable[int], since: int, until: int, width: int) -> list[tuple[int, int]]:
    """The windows to compute as ranges, each from a time to before another; the late ones are all before `since`."""
    found: list[tuple[int, int]] = []
    for window in sorted(late):
        start = found.pop()[0] if found and found[-1][1] == window else window
        found.append((start, window + width))
    if since < until:
        found.append((since, until))
    return found
