"""What waits while a batch is out is cut into batches by turns."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from flo.engine import Engine, EngineSettings
from flo.engine import engine as engine_module
from flo.ual import log as log_module
from flo.ual import replicated
from tests.support.faultfiles import SimFiles
from tests.support.late import LateLog, StepSyncer


@pytest.fixture
def engine() -> Iterator[Engine]:
    with patch.object(engine_module, "ReplicatedLog", LateLog), patch.object(log_module, "_Syncer", StepSyncer):
        made = Engine("/data", EngineSettings(), manual=True, replicated=True, files=SimFiles())
    yield made
    made.close()


def turn(engine: Engine, count: int, size: int = 1) -> None:
    """One turn with so many records."""
    engine.tick()
    for _ in range(count):
        engine.queues.enqueue(b"q", b"x" * size)
    engine.commit()


def lengths(engine: Engine) -> list[int]:
    """Have everything acknowledged; how many records each batch had."""
    log = engine.log
    assert isinstance(log, LateLog)
    log.late = 1
    log.ask_again()
    while log.out is not None:
        log.hear(loses=False)
        engine.commit()
    assert [out.first for out in log.replicated[1:]] == [out.first + len(out.records) for out in log.replicated[:-1]]
    assert log.next_index == log.committed + 1 == log.written + 1
    return [len(out.records) for out in log.replicated]


def test_batches_are_of_whole_turns_and_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicated, "BATCH_RECORDS", 10)
    for count in (3, 4, 4, 0, 2, 25, 1, 1, 10):
        turn(engine, count)
    assert lengths(engine) == [3, 10, 25, 2, 10]


def test_batches_are_bounded_by_bytes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicated, "BATCH_BYTES", 10_000)
    for size in (1, 4000, 4000, 4000, 50_000, 10):
        turn(engine, 1, size)
    assert lengths(engine) == [1, 2, 1, 1, 1]


def test_what_waits_is_read_by_its_index(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicated, "BATCH_RECORDS", 10)
    for count in (3, 8, 8, 8):
        turn(engine, count)
    log = engine.log
    before = [log.read_bytes(index) for index in range(1, log.next_index)]
    assert None not in before
    lengths(engine)
    assert [log.read_bytes(index) for index in range(1, log.next_index)] == before
