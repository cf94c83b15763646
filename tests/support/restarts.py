"""The rules that every model of the engine has: the wall clock moves, the engine ends and starts again, and the liveness rule is held to.

A model mixes in `RestartModel` and adds its operations. It says in the hooks what time, a moved clock and a restart mean for it.
"""

import shutil
import tempfile
from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flo.engine import Engine, EngineSettings
from flo.ual.liveness import survivors
from tests.support.faultfiles import SimFiles

START = 1_700_000_000_000
HOUR = 3_600_000
STEPS = [90_000, 2 * HOUR, 12 * 365 * 24 * HOUR]  # of a wall clock, either way
EARLIEST = 24 * HOUR  # a record has no time before 1970, and a deadline of 0 is none


def one_of(values: Callable[["RestartModel"], list[Any]]) -> st.SearchStrategy[Any]:
    """One of the values that a model names; the rules are made before there is a model."""
    return st.runner().flatmap(lambda model: st.sampled_from(values(model)))


LOOKS_AWAY = one_of(lambda model: model.BLIND)


class RestartModel(RuleBasedStateMachine):
    """An engine on a directory of its own and a wall clock that the rules move."""

    PASSES: ClassVar[list[int]]  # ms that pass
    SLIPS: ClassVar[list[int]] = [-5000]  # ms by which a clock is put back a little, besides STEPS
    BLIND: ClassVar[list[bool]] = [False]  # whether nobody looks after a rule that moves the clock
    SETTINGS: ClassVar[EngineSettings] = EngineSettings(segment_bytes=1 << 16)
    HISTORY: ClassVar[tuple[int, int]] = (1, 0)  # the depth and the age in ms of the history that the liveness rule keeps

    directory: str
    engine: Engine
    wall: int  # what the wall clock says
    true: int  # what it should say
    blind: bool  # nobody looks after the next rule

    def begin(self) -> None:
        """Open an engine on a new directory. A model calls this from its `initialize` rule."""
        self.wall = self.true = START
        self.blind = False
        self.directory = tempfile.mkdtemp(prefix="flo-model-")
        self.engine = self.open_engine()

    def open_engine(self) -> Engine:
        """Start the engine on what is in the directory."""
        return Engine(self.directory, self.SETTINGS, clock=lambda: self.wall)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
            shutil.rmtree(self.directory)

    # -- what a model says ---------------------------------------------------------------------------

    def snapshot(self, engine: Engine) -> Any:
        """Everything that must be the same after a rebuild."""
        raise NotImplementedError

    def agree(self) -> None:
        """Assert that the engine shows what the model has."""
        raise NotImplementedError

    def clock_was_stepped(self) -> None:
        """The wall clock was moved, and time did not pass."""

    def look(self, ms: int, data: st.DataObject) -> None:
        """Look at the engine, or do not, while its clock is `ms` ahead of what it said before."""
        raise NotImplementedError

    def last_snapshot(self) -> Any:
        """The snapshot from which a restart begins. What the model loses in a crash is committed here."""
        return self.snapshot(self.engine)

    def forget(self, wall: int) -> bool:
        """Drop what only memory knew, and return whether the rebuilt engine may differ from the one that ended at `wall`."""
        return False

    # -- the clock -----------------------------------------------------------------------------------

    @rule(ms=one_of(lambda model: model.PASSES), blind=LOOKS_AWAY)
    def time_passes(self, ms: int, blind: bool) -> None:
        self.wall += ms
        self.true += ms
        self.blind = blind

    @rule(ms=one_of(lambda model: [*model.SLIPS, *STEPS, *(-step for step in STEPS)]), blind=LOOKS_AWAY)
    def step_clock(self, ms: int, blind: bool) -> None:
        self._set_wall(self.wall + ms)
        self.blind = blind

    @rule(blind=LOOKS_AWAY)
    def put_clock_right(self, blind: bool) -> None:
        self.wall = self.true
        self.blind = blind

    @rule(ms=st.sampled_from(STEPS), data=st.data())
    def clock_is_ahead_for_a_moment(self, ms: int, data: st.DataObject) -> None:
        """What ran out meanwhile has run out if somebody looked; what did not has its time again."""
        self.wall += ms
        self.engine.tick()
        self.look(ms, data)
        self.wall -= ms

    def _set_wall(self, wall: int) -> None:
        self.wall = max(wall, EARLIEST)
        self.clock_was_stepped()

    # -- restarts and liveness ------------------------------------------------------------------------

    @rule(
        crash=st.booleans(),
        compact=st.sampled_from(["", "all", "tail"]),
        step=one_of(lambda model: [0, 0, *model.SLIPS, *STEPS]),
        right=st.booleans(),
    )
    def restart(self, crash: bool, compact: str, step: int, right: bool) -> None:
        """Close, or vanish; the clock may be stepped or put right meanwhile."""
        before = self.last_snapshot()
        stamp = self.engine.log.time
        if compact:
            self.engine.compact(tail=compact == "tail")
            assert self.snapshot(self.engine) == before
        if crash:
            self.engine.log.abandon()
        else:
            self.engine.close()
        differs = self.start_again(step, right)
        assert self.engine.log.time >= stamp
        after = self.snapshot(self.engine)
        assert after == before or differs, (before, after)
        self.check_liveness()

    def start_again(self, step: int, right: bool) -> bool:
        """Start the engine after the clock was stepped by `step`, and put right before if it was to be `right`. Returns whether the rebuilt
        engine may differ from the one that ended."""
        wall = self.wall
        self._set_wall((self.true if right else wall) + step)
        differs = self.forget(wall)
        self.engine = self.open_engine()
        assert self.engine.now == self.wall
        assert self.engine.stamp_time == max(self.engine.log.time, self.wall)
        return differs

    def check_liveness(self) -> None:
        """Assert that a replay of only what is live gives the same state, and of what is history too."""
        log = {index: self.engine.log.read(index) for index in range(1, self.engine.log.next_index)}
        records = {index: record for index, record in log.items() if record is not None}  # some were compacted away
        live, history = survivors(records, self.engine.now, *self.HISTORY)
        expected = self.snapshot(self.engine)
        for kept in (live, live | history) if history else (live,):
            with Engine(self.directory, self.SETTINGS, clock=lambda: self.wall, manual=True, files=SimFiles()) as replayed:
                replayed.now = self.engine.now
                for index in sorted(kept):
                    replayed.apply(index, records[index])
                assert self.snapshot(replayed) == expected

    # -- what must always hold -----------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, "engine"))
    def same(self) -> None:
        if self.blind:
            self.blind = False
            return
        self.agree()
