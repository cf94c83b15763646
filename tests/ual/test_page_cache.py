"""What the log keeps the system from keeping in memory: batches of large values, once they are on disk, and nothing that is read again."""

import os
from pathlib import Path

import pytest

from flo.engine import Engine, EngineSettings
from flo.ual.files import Files
from flo.ual.log import DROP_BYTES_MIN, DROP_RECORD_BYTES_MIN
from tests.support.faultfiles import SimFiles

LARGE = b"v" * DROP_BYTES_MIN


class Recording(SimFiles):
    """Remembers what was dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: list[tuple[int, int]] = []

    def drop(self, fd: int, start: int, end: int) -> None:
        super().drop(fd, start, end)
        self.dropped.append((start, end))


def test_a_batch_of_large_values_is_dropped_once_it_is_synced() -> None:
    files = Recording()
    engine = Engine("/data", files=files)
    kv = engine.namespace("default").kv
    before = engine.log._open.tail
    kv.put(b"key", LARGE)
    assert files.dropped == [(before, engine.log._open.tail)]
    at = next(at for at, call in enumerate(files.trace) if call.startswith("drop"))
    name = files.trace[at].split()[1]
    assert files.trace[at - 2 : at] == [f"pwrite {name}", f"sync {name}"]
    kv.put_many([(b"key:%d" % number, LARGE[:DROP_RECORD_BYTES_MIN], 0) for number in range(DROP_BYTES_MIN // DROP_RECORD_BYTES_MIN)])
    assert files.dropped[1:] == [(files.dropped[0][1], engine.log._open.tail)]
    engine.close()


@pytest.mark.parametrize("durability", ["async", "ephemeral"])
def test_what_is_not_on_disk_is_not_dropped(durability: str) -> None:
    files = Recording()
    engine = Engine("/data", EngineSettings(durability=durability), files=files)
    engine.namespace("default").kv.put(b"key", LARGE)
    assert not files.dropped
    engine.close()


def test_what_is_small_or_is_read_back_from_the_log_is_not_dropped() -> None:
    files = Recording()
    engine = Engine("/data", files=files)
    space = engine.namespace("default")
    space.kv.put(b"key", LARGE[: DROP_BYTES_MIN // 2])
    space.kv.put_many([(b"key:%d" % number, LARGE[:1000], 0) for number in range(DROP_BYTES_MIN // 1000 + 1)])
    space.queues.enqueue(b"queue", LARGE)
    space.streams.append(b"stream", LARGE)
    assert not files.dropped
    engine.close()


def test_what_was_dropped_is_read_from_the_disk(tmp_path: Path) -> None:
    engine = Engine(str(tmp_path / "data"))
    values = [os.urandom(DROP_BYTES_MIN) for _ in range(3)]
    for value in values:
        engine.namespace("default").kv.put(b"key", value)
    history = engine.namespace("default").kv.history(b"key")
    assert [version.value for version in history] == values[::-1]
    engine.close()
    engine = Engine(str(tmp_path / "data"))
    found = engine.namespace("default").kv.get(b"key")
    assert found is not None
    assert found.value == values[-1]
    engine.close()


def test_advice_that_is_refused_harms_nothing(tmp_path: Path) -> None:
    read, write = os.pipe()  # no file: the system knows no such advice for it
    try:
        Files().drop(read, 0, 4096)
    finally:
        os.close(read)
        os.close(write)
