"""Schedules: each of their times makes one run, over restarts, missed times and a clock that is moved."""

import json
from pathlib import Path
from typing import Any

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine import schedule as engine_schedule
from flo.errors import BadRequest, NotFound, Overloaded

START = 1_700_000_040_000  # a whole minute
MINUTE, HOUR = 60_000, 3_600_000


class Life:
    """An engine with clocks that are moved by hand, and an action."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wall, self.steady = START, 1_000_000
        self.open()
        self.actions.register(b"report")

    def open(self) -> None:
        self.engine = Engine(str(self.path), EngineSettings(), clock=lambda: self.wall, steady=lambda: self.steady)
        self.actions = self.engine.namespaces["default"].actions
        self.schedules = self.actions.schedules

    def restart(self, after: int = 0) -> None:
        self.engine.close()
        self.wall += after
        self.steady += after
        self.open()

    def put(self, name: str = "s", **terms: Any) -> int:
        return self.schedules.put(name.encode(), json.dumps({"action": "report"} | terms).encode())

    def forward(self, ms: int, step: int = 0) -> None:
        """Let time pass, in steps, with the server there."""
        end = self.wall + ms
        while True:
            with self.engine.batch():
                self.engine.upkeep(idle=True)
            if self.engine.next_due() == 0:
                continue
            if self.wall >= end:
                return
            ahead = min(step or ms, end - self.wall)
            self.wall += ahead
            self.steady += ahead

    @property
    def runs(self) -> list[int]:
        """When the runs were made."""
        store = self.actions.store
        return sorted(self.actions.first(seq).created_at for shard in store.shards for seq in shard)


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


def test_each_time_makes_one_run(life: Life) -> None:
    assert life.put(cron="*/5 * * * *") == START - START % (5 * MINUTE) + 5 * MINUTE
    assert life.put("e", every_ms=90_000) == START + 90_000
    life.forward(HOUR, 1000)
    every = [START + 90_000 * at for at in range(1, 41)]
    cron = [time for time in range(START + 1, START + HOUR + 1) if time % (5 * MINUTE) == 0]
    assert life.runs == sorted(every + cron)
    shown = life.schedules.describe(b"e")
    assert (shown["last"], shown["next"], shown["runs"]) == (START + HOUR, START + HOUR + 90_000, 40)


def test_what_was_missed_makes_one_run_or_none(life: Life) -> None:
    life.put("once", every_ms=1000)
    life.put("skip", every_ms=1000, missed="skip")
    life.put("cron", cron="* * * * *", missed="once")
    life.restart(10 * MINUTE + 500)
    life.forward(0)
    assert len(life.runs) == 2
    life.forward(2000, 100)
    shown = {name: life.schedules.describe(name.encode()) for name in ("once", "skip", "cron")}
    assert {name: each["runs"] for name, each in shown.items()} == {"once": 3, "skip": 2, "cron": 1}
    assert shown["once"]["next"] == START + 10 * MINUTE + 3000, "an interval keeps its phase"


def test_a_short_stall_misses_nothing(life: Life) -> None:
    life.put(every_ms=1000)
    life.forward(30_000)  # in one step
    assert len(life.runs) == 30
    life.forward(10 * MINUTE)
    assert len(life.runs) == 30 + 1 + engine_schedule.MISSED_MS // 1000 + 1


def test_a_clock_that_is_put_back(life: Life) -> None:
    life.put(cron="0 * * * *")
    life.forward(5 * HOUR, MINUTE)
    before = life.runs
    assert len(before) == 5
    life.wall -= 2 * HOUR  # no time is made again
    life.forward(2 * HOUR, MINUTE)
    assert life.runs == before
    life.forward(HOUR, MINUTE)
    assert len(life.runs) == 6
    life.wall -= 24 * HOUR  # they begin anew
    life.forward(2 * HOUR, MINUTE)
    assert len(life.runs) == 8
    life.restart()
    life.forward(HOUR, MINUTE)
    assert len(life.runs) == 9


def test_a_time_whose_action_is_gone_is_counted(life: Life) -> None:
    life.put(every_ms=1000, input="x", labels={"zone": "eu"}, priority=3)
    life.actions.delete(b"report")
    life.forward(2000, 500)
    assert life.runs == [] and life.schedules.describe(b"s")["dropped"] == 2
    life.actions.register(b"report")
    life.forward(1000, 500)
    (run,) = [seq for shard in life.actions.store.shards for seq in shard]
    shown = life.actions.status(b"%d" % run)
    assert (shown["labels"], shown["priority"]) == ({"zone": "eu"}, 3) and life.actions.input(b"%d" % run) == b"x"


def test_a_time_for_which_there_is_no_room_makes_one_run_once_there_is(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise Overloaded("the disk is full")

    life.put(every_ms=10_000)
    with monkeypatch.context() as patch:
        for method in ("admit_adds", "admit_keeps"):
            patch.setattr(life.schedules, method, refuse)
        life.forward(12_000, 1000)
    life.forward(5_000, 1000)
    assert len(life.runs) == 1


@pytest.mark.slow
def test_deleting_and_replacing(life: Life) -> None:
    life.put(every_ms=1000)
    life.put(every_ms=10_000)
    life.restart()
    life.forward(10_000, 1000)
    assert len(life.runs) == 1 and life.schedules.names() == [b"s"]
    life.schedules.delete(b"s")
    with pytest.raises(NotFound, match="no schedule 's'"):
        life.schedules.delete(b"s")
    life.restart()
    life.forward(HOUR)
    assert (len(life.runs) == 1 and life.schedules.names() == [] and life.engine.next_due() is None) or life.actions.store.counts
    for _ in range(3 * engine_schedule.STALE_MAX):
        life.put(every_ms=HOUR)
    assert len(life.schedules._due) < 2 * engine_schedule.STALE_MAX


@pytest.mark.parametrize(
    ("terms", "wrong"),
    [
        ("[]", "no JSON object"),
        ("{", "no JSON object"),
        ('{"cron": "* * * * *"}', "the name of its action"),
        ('{"action": "report"}', "either cron or every_ms"),
        ('{"action": "report", "cron": "* * * * *", "every_ms": 100}', "either cron or every_ms"),
        ('{"action": "report", "every_ms": 99}', "every_ms is 99"),
        ('{"action": "report", "every_ms": true}', "every_ms is True"),
        ('{"action": "report", "cron": "61 * * * *"}', "61"),
        ('{"action": "report", "every_ms": 100, "missed": "all"}', "missed is 'all'"),
        ('{"action": "report", "every_ms": 100, "priority": 256}', "priority is 256"),
        ('{"action": "report", "every_ms": 100, "input": 5}', "neither a string"),
        ('{"action": "report", "every_ms": 100, "labels": {"a": []}}', "label 'a'"),
        ('{"action": "report", "every_ms": 100, "at": 5}', "no field 'at'"),
    ],
)
def test_terms_that_are_none(life: Life, terms: str, wrong: str) -> None:
    with pytest.raises(BadRequest, match=wrong):
        life.schedules.put(b"s", terms.encode())
    assert life.schedules.names() == []


def test_a_schedule_needs_its_action(life: Life) -> None:
    with pytest.raises(NotFound, match="no action 'other'"):
        life.put(action="other", every_ms=1000)
