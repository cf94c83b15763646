"""What is accounted to what is stored agrees with the memory the process has grown by: max_memory is a bound on that."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

pytestmark = pytest.mark.slow

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
        count *= 4 if kind == "record" else 8  # 34 and 9 bytes each: less than a page now and then
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, str(size), str(count), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    resident, accounted = map(float, done.stdout.split())
    assert 0.75 <= accounted / resident <= 1.25, f"{kind} of {size}: {accounted:.0f} bytes accounted, {resident:.0f} resident"
