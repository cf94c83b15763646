"""An engine that follows: what comes from the leader ends the waits of those who read here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flo.engine import Engine

NOW = 1_700_000_000_000


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[Engine]:
    with Engine(str(tmp_path / "leader"), manual=True, clock=lambda: NOW) as engine:
        yield engine


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Engine]:
    with Engine(str(tmp_path / "follower"), manual=True, clock=lambda: NOW, replicated=True) as engine:
        engine.follow()
        yield engine


def pass_on(leader: Engine, follower: Engine) -> None:
    """A turn of the leader, and of the follower that hears of it."""
    records = list(leader.log.pending)
    leader.commit()
    follower.adopt(records, NOW)
    follower.upkeep(False)


def test_who_waits_for_a_record_of_a_stream_is_told(leader: Engine, follower: Engine) -> None:
    told: list[int] = []
    follower.streams.watch({b"s": 0}, lambda: told.append(1))
    leader.streams.append(b"s", b"payload")
    pass_on(leader, follower)
    assert told


def test_who_waits_for_the_end_of_a_run_is_told(leader: Engine, follower: Engine) -> None:
    leader.actions.register(b"a")
    run = leader.actions.invoke(b"a", b"input")
    pass_on(leader, follower)
    told: list[int] = []
    follower.actions.watch(run, lambda: told.append(1))
    leader.actions.cancel(run)
    pass_on(leader, follower)
    assert told


def test_who_waits_for_a_key_is_told(leader: Engine, follower: Engine) -> None:
    told: list[int] = []
    follower.kv.watch(b"k", lambda: told.append(1))
    leader.kv.put(b"k", b"v")
    pass_on(leader, follower)
    assert told
