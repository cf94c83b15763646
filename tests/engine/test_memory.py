"""What is accounted to what is stored agrees with the memory the process has grown by: max_memory is a bound on that."""

import gc
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from flo.engine import Engine, EngineSettings
from tests.support.memory_shapes import KINDS, LATER_MS, Clock, Kinds, Runs, Series, random_shapes
from tests.support.processes import ROOT

pytestmark = [pytest.mark.computes, pytest.mark.slow]

# Grown and accounted bytes an item, printed by a process of its own, so that nothing else has left room behind.
SCRIPT = """
import gc, random, sys
from flo.engine import Engine, EngineSettings
kind, size, count, directory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
engine = Engine(directory, EngineSettings(durability="ephemeral", history_depth=1))
kv, queues, streams = engine.kv, engine.queues, engine.streams
gc.disable()
add = {
    "value": lambda i: kv.put(b"key:%010d" % (i * 7919 % count), random.randbytes(size)),
    "deadline": lambda i: kv.put(b"key:%010d" % (i * 7919 % count), random.randbytes(size), deadline=1_900_000_000_000 + i * 50),
    "counter": lambda i: kv.incr(b"key:%010d" % (i * 7919 % count)),
    "message": lambda i: queues.enqueue(b"q", random.randbytes(size)),
    "delayed": lambda i: queues.enqueue(b"q", random.randbytes(size), delay=100_000 + i),
    "leased": lambda i: queues.enqueue(b"q", random.randbytes(size)),
    "deduplicated": lambda i: queues.enqueue(b"q", b"x", dedup=b"key:%010d" % i),
    "record": lambda i: streams.append(b"s", random.randbytes(size)),
    "pending": lambda i: streams.append(b"s", random.randbytes(size)),
}[kind]
before, accounted = resident(), engine.memory_used()
if kind == "pending":
    streams.groups.create(b"s", b"g", make_stream=True)
for start in range(0, count, 1000):
    with engine.batch():
        for i in range(start, start + 1000):
            add(i)
    if kind == "leased":
        queues.dequeue(b"q", 1000)
    if kind == "pending":
        streams.groups.read(b"s", b"g", b"c", 1000)
    while engine.upkeep(True):
        pass
print((resident() - before) / count, (engine.memory_used() - accounted) / count)
engine.log.abandon()
"""


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("value", 8), ("value", 64), ("value", 1000), ("deadline", 64), ("counter", 0), ("message", 64), ("delayed", 64), ("leased", 64),
        ("deduplicated", 0), ("record", 64), ("pending", 64),
    ],
)  # fmt: skip
def test_accounted_and_resident_memory_agree(kind: str, size: int, tmp_path: Path, long_run: bool) -> None:
    """Within a quarter."""
    count = 1_000_000 if long_run else 100_000
    if size == 1000:
        count //= 4
    if kind in ("record", "message"):
        count *= 4 if kind == "record" else 20  # 34 and 9 bytes each: what the engine itself takes on the way must not count
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, str(size), str(count), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    resident, accounted = map(float, done.stdout.split())
    assert 0.75 <= accounted / resident <= 1.25, f"{kind} of {size}: {accounted:.0f} bytes accounted, {resident:.0f} resident"


SHAPE_BYTES = 32 << 20
SEEDS = [21, 47]  # quick ones, of every kind
RUNS_BYTES = 8 << 20  # a run takes many steps: less than of the others
SEEDS_OF_RUNS = [25]  # held, with histories and their errors
SEEDS_OF_SERIES = [1, 7, 8]  # quick ones: open points, chunks, late points
SEEDS_LONG = sorted({*range(100)} - {*SEEDS})


class Measure:
    """How much memory there is of what came since."""

    def __init__(self, engine: Engine, told: str, least: int) -> None:
        self.engine, self.told, self.least = engine, told, least
        gc.collect()
        tracemalloc.start()
        self._traced, self._accounted = tracemalloc.get_traced_memory()[0], engine.memory_used()

    def settle(self) -> int:
        """Have all done that can wait; returns the traced bytes."""
        self.engine.tick()
        while self.engine.upkeep(True):
            self.engine.commit()
        self.engine.commit()
        return tracemalloc.get_traced_memory()[0] - self._traced

    def check(self, when: str) -> None:
        """Accounted and traced bytes agree within a quarter, or within a quarter of the smallest shape."""
        traced, accounted = self.settle(), self.engine.memory_used() - self._accounted
        assert abs(accounted - traced) <= max(traced, self.least) / 4, (
            f"{when}, {accounted >> 10:,} KiB accounted and {traced >> 10:,} traced: {self.told}"
        )


def memory_of_shape(seed: int, directory: Path, kinds: Kinds = KINDS, least: int = SHAPE_BYTES) -> None:
    """Grow a random shape to `least` bytes and more, remove it, and compare all the while."""
    rng, clock = random.Random(seed), Clock()
    settings = EngineSettings(durability="ephemeral", history_depth=rng.choice([1, 64]), segment_bytes=4 << 20)
    engine = Engine(str(directory), settings, clock=clock)
    shapes = random_shapes(engine, clock, rng, kinds)
    measure = Measure(engine, f"seed {seed}, history {settings.history_depth}, {shapes}", least)
    try:
        size, slices = 0, 0
        while size < least * 5 // 4:
            with engine.batch():
                rng.choice(shapes).grow()
            slices += 1
            if slices % 16 == 0:
                before, size = size, measure.settle()
                if before < least <= size:
                    measure.check("grown to the least")
                if slices > 600 and size < least:
                    break  # what keeps almost nothing, such as messages that are taken: that is looked at, too
        measure.check("grown")
        for part in (0.5, 0.02, 0):
            for shape in shapes:
                shape.remove(part)
            measure.check(f"all removed but {part:.0%}")
        clock.now += LATER_MS
        measure.check("a day later")
    finally:
        tracemalloc.stop()
        engine.log.abandon()


@pytest.mark.parametrize("seed", SEEDS)
def test_accounted_and_traced_memory_agree_for_random_shapes(seed: int, tmp_path: Path) -> None:
    """While it grows, and while it is removed."""
    memory_of_shape(seed, tmp_path)


@pytest.mark.parametrize("seed", SEEDS_OF_SERIES)
def test_accounted_and_traced_memory_agree_for_time_series(seed: int, tmp_path: Path) -> None:
    memory_of_shape(seed, tmp_path, [Series])


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS_OF_RUNS)
def test_accounted_and_traced_memory_agree_for_runs(seed: int, tmp_path: Path) -> None:
    memory_of_shape(seed, tmp_path, [Runs], RUNS_BYTES)


@pytest.mark.long
@pytest.mark.parametrize("seed", sorted({*range(40)} - {*SEEDS_OF_SERIES}))
def test_accounted_and_traced_memory_agree_for_more_time_series(seed: int, tmp_path: Path) -> None:
    memory_of_shape(seed, tmp_path, [Series])


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS_LONG)
def test_accounted_and_traced_memory_agree_for_more_random_shapes(seed: int, tmp_path: Path) -> None:
    memory_of_shape(seed, tmp_path)
