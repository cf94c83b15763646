"""The models of keys, queues, streams and time series over a replicated log that acknowledges late, with crashes that lose what was not
acknowledged.

The engine is driven turn by turn, as a server drives it, and the reactor holds the replies back: several operations are in one batch, and
turns go on while the answer to the batch that is out is on its way or lost. After a crash, the majority has what was acknowledged, and
perhaps the batch that was out; the disk has less, for its segments are synced now and then. The start reads the rest from the replicated
log. The engine must show what the model had at that batch, and no client may have seen a reply, of a write or of a read, that was computed
after it.
"""

import pickle
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, ClassVar, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from flo.engine import Engine
from flo.engine import engine as engine_module
from flo.loop import Reactor
from flo.ual import log as log_module
from flo.ual import replicated
from flo.ual.replicated import Outgoing
from tests.engine.test_engine_model import EngineModel
from tests.engine.test_queue_model import QueueModel
from tests.engine.test_stream_model import StreamModel
from tests.engine.test_timeseries_model import SeriesModel
from tests.support.faultfiles import MODES, SimFiles
from tests.support.late import LateLog, StepSyncer
from tests.support.restarts import STEPS, RestartModel, one_of

pytestmark = [pytest.mark.computes, pytest.mark.slow]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits while a batch is out is more than one batch."""
    monkeypatch.setattr(replicated, "BATCH_RECORDS", 6)


class TurnEngine(Engine):
    """An engine of which only the end of a turn commits: what a model does as a batch of its own is a part of the turn."""

    @contextmanager
    def batch(self) -> Iterator[None]:
        yield


class Replies:
    """A turn's replies, as the reactor sees a connection."""

    descriptor = -1
    owed_bytes = 0

    def __init__(self, host: "Host", index: int) -> None:
        """`index` is the log's last at the end of the turn: the replies may show everything up to it."""
        self._host, self._index = host, index

    def flush(self) -> None:
        """The clients see them."""
        self._host.shown = max(self._host.shown, self._index)

    def hold(self, index: int) -> None:
        """There is one turn's replies: the reactor says when they may leave."""

    def release(self, committed: int) -> None:
        """The log has committed the turn."""
        self.flush()


class Host:
    """The phases of a turn around an engine. The requests of a turn are made before the reactor runs it."""

    def __init__(self, engine: Engine, log: LateLog) -> None:
        self.engine, self.log = engine, log
        self.loses = False  # the log's answers are lost
        self.shown = 0  # the index at which the last reply was computed that a client has seen
        self.reactor = Reactor(self)

    def end_turn(self) -> None:
        """Commit, show the replies of this turn and of earlier ones as far as the log's word goes, and begin the next turn."""
        self.reactor.touched[Replies(self, self.log.next_index - 1)] = False
        self.reactor.stopping = False
        self.reactor.run()
        self.engine.tick()

    def begin(self, now: float) -> None:
        before = self.log.committed
        self.log.hear(self.loses)
        assert before <= self.log.committed <= self.log.next_index - 1

    def extend(self, deadline: float) -> None:
        """No request asks."""

    def upkeep(self, idle: bool) -> bool:
        """A sweep is an operation of the models."""
        return self.engine.notify() | self.log.upkeep(idle=False)

    def gathers(self) -> bool:
        return False

    def commit(self) -> int:
        self.engine.commit()
        return self.log.next_index - 1

    def committed(self) -> int:
        return self.log.committed

    def next_due(self) -> float:
        return 0.0

    def serve_together(self, events: list[tuple[int, int]], at: int, /) -> int:
        raise AssertionError("there are no descriptors")

    def flush_together(self, touched: list[tuple[Replies, bool]], /) -> None:
        for replies, _ in touched:
            replies.flush()

    def failed(self, e: Exception, fd: int) -> None:
        raise e

    def end(self, started: float) -> None:
        self.reactor.stopping = True  # a run is one turn


EACH = st.sampled_from([1, 1, 2, 4])
LATE = st.integers(1, 9)


class Cut(NamedTuple):
    """A moment to which a crash may take the log back: the end of a turn at which all was acknowledged or out."""

    last: int  # the log's last index
    model: bytes  # what the model had, pickled


class LateModel(RestartModel):
    """To be put behind a model: the same rules in turns, and a crash in place of the restart."""

    HOST: ClassVar[type[Host]] = Host
    MODEL: ClassVar[list[str]]  # what of the model a crash takes back, by attribute

    files: SimFiles
    replicated: list[Outgoing]  # what the majority has, of the time before the last start
    host: Host | None = None  # None while the engine is down
    log: LateLog
    cuts: deque[Cut]  # those that a crash may choose from
    each, late, loses = 1, 1, False  # see `pace`
    made = 0  # operations in this turn
    _wall = 0

    @property
    def wall(self) -> int:
        """What the wall clock says."""
        return self._wall

    @wall.setter
    def wall(self, value: int) -> None:
        """It is read once a turn: what comes before is another turn."""
        if self.host is not None:
            self.end_turn()
        self._wall = value
        if self.host is not None:
            self.engine.tick()

    def begin(self) -> None:
        self.files = SimFiles()
        self.replicated = []
        super().begin()

    def open_engine(self) -> Engine:
        with patch.object(engine_module, "ReplicatedLog", LateLog), patch.object(log_module, "_Syncer", StepSyncer):
            engine = TurnEngine(self.directory, self.SETTINGS, manual=True, clock=lambda: self.wall, files=self.files, replicated=True)
            assert isinstance(engine.log, LateLog)
            for missing in self.replicated:
                if missing.first == engine.log.next_index:  # else the segments have it
                    engine.adopt(missing.records, missing.time)
        self.log = engine.log
        self.host = self.HOST(engine, self.log)
        self._tell_host()
        self.cuts = deque()
        return engine

    def teardown(self) -> None:
        self._end_host()
        super().teardown()

    def _end_host(self) -> int:
        """The process is no more. Returns the index up to which its clients were shown something."""
        host, self.host = self.host, None
        if host is None:
            return 0
        host.reactor.close()
        return host.shown

    def end_turn(self) -> None:
        """End the turn; a crash may take the directory back to here, until more than this is acknowledged."""
        assert self.host is not None
        self.host.end_turn()
        self.made = 0
        if self.log.pending:
            return  # the turn waits for another batch
        index = self.log.next_index - 1
        if self.cuts and self.cuts[-1].last == index:
            self.cuts.pop()  # only memory has changed, and may have been shown
        self.cuts.append(Cut(index, pickle.dumps({name: getattr(self, name) for name in self.MODEL})))
        while self.cuts[0].last < self.log.committed:
            self.cuts.popleft()

    @initialize(each=EACH, late=LATE, loses=st.booleans())
    def first_pace(self, each: int, late: int, loses: bool) -> None:
        """Before or after the engine is opened."""
        self.pace(each, late, loses)

    @rule(each=EACH, late=LATE, loses=st.booleans())
    def pace(self, each: int, late: int, loses: bool) -> None:
        """From here on a turn has `each` operations, and answers come after `late` turns, or are lost."""
        self.each, self.late, self.loses = each, late, loses
        self._tell_host()

    def _tell_host(self) -> None:
        if self.host is not None:
            self.log.late, self.host.loses = self.late, self.loses

    @invariant()
    def turns_pass(self) -> None:
        self.made += 1
        if self.made >= self.each and self.host is not None:
            self.end_turn()

    @rule(tail=st.booleans())
    def compact(self, tail: bool) -> None:
        """What is compacted is acknowledged."""
        assert self.host is not None
        before = self.last_snapshot()
        self.end_turn()
        self.host.loses = False
        self.log.ask_again()
        while self.log.out is not None or self.log.pending:
            self.end_turn()
        self.host.loses = self.loses
        assert self.host.shown == self.log.committed == self.log.written, "all answers came, and all replies left"
        self.engine.compact(tail=tail)
        assert self.snapshot(self.engine) == before
        self.end_turn()

    @precondition(lambda self: bool(self.cuts) and self.log.committed + 1 < self.log.next_index)
    @rule(
        kept=st.integers(0, 99),
        mode=st.sampled_from(MODES),
        seed=st.integers(0, 9),
        step=one_of(lambda model: [0, 0, *model.SLIPS, *STEPS]),
        right=st.booleans(),
    )
    def restart(self, kept: int, mode: str, seed: int, step: int, right: bool) -> None:
        """The machine stops within a turn, with something that is not acknowledged. The majority has the batches up to the acknowledged
        one, and perhaps the one that was out; the segments have some of them."""
        cut = self.cuts[kept % len(self.cuts)]
        shown = self._end_host()
        assert shown <= cut.last, f"a client was shown index {shown}, and a crash took the log back to {cut.last}"
        self.engine.log.abandon()
        self.files = self.files.crash(Random(seed), mode)
        self.replicated = [batch for batch in (*self.replicated, *self.log.replicated) if batch.first + len(batch.records) - 1 <= cut.last]
        for name, value in pickle.loads(cut.model).items():
            setattr(self, name, value)
        self.start_again(step, right)
        assert self.log.committed == self.log.written == cut.last
        self.snapshot(self.engine)  # what ran out while it was down is written now: a replay must find it in the log
        self.end_turn()  # so that another crash may come back to here
        self.check_liveness()


class LateKeys(EngineModel, LateModel):
    MODEL: ClassVar = ["model", "versions"]


class LateQueues(QueueModel, LateModel):
    MODEL: ClassVar = ["items", "dedup", "limits", "paused", "given", "deadlines"]

    def _now(self) -> int:
        """In a server a look lets time do a slice of its work, and the turns do the rest: here all of it."""
        while self.engine.sweep():
            pass
        return super()._now()


class LateStreams(StreamModel, LateModel):
    MODEL: ClassVar = ["streams"]


class LateSeries(SeriesModel, LateModel):
    MODEL: ClassVar = ["points", "old", "ages"]


def bounds(examples: int, steps: int) -> settings:
    return settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck))


TestLateKeys, TestLateQueues = LateKeys.TestCase, LateQueues.TestCase
TestLateStreams, TestLateSeries = LateStreams.TestCase, LateSeries.TestCase
TestLateKeys.settings = TestLateQueues.settings = TestLateStreams.settings = TestLateSeries.settings = bounds(30, 40)


@pytest.mark.long
@pytest.mark.parametrize("model", [LateKeys, LateQueues, LateStreams, LateSeries])
def test_the_same_for_longer(model: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(model, settings=bounds(1500, 60))


class ShowsWhatIsWritten(Host):
    """Does not wait for the log's word."""

    def committed(self) -> int:
        return self.log.next_index - 1


class HoldsWritesOnly(Host):
    """A turn that wrote nothing does not wait, though it may have read what is not acknowledged."""

    def commit(self) -> int:
        wrote = bool(self.log.pending)
        index = super().commit()
        return index if wrote else 0


@pytest.mark.parametrize("host", [ShowsWhatIsWritten, HoldsWritesOnly])
@pytest.mark.parametrize("model", [LateKeys, LateQueues, LateStreams, LateSeries])
def test_the_models_find_a_host_that_shows_too_early(model: type[LateModel], host: type[Host]) -> None:
    sabotaged: Any = type("Sabotaged", (model,), {"HOST": host})
    found = settings(bounds(200, 40), phases=[Phase.generate], database=None, derandomize=True)
    with pytest.raises(AssertionError, match="a client was shown index"):
        run_state_machine_as_test(sabotaged, settings=found)
