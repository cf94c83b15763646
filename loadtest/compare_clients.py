"""Flo's Python clients beside redis-py, each with its own server, in paired, alternating slices: put, get and pipelines.

    python3 loadtest/compare_clients.py [--rounds 20] [--seconds 0.2] [--depth 100] [--only flo,aio] [--python PATH]

Starts Flo (`sync`) and redis-server with `appendfsync always`. One thread, or one task, makes one call after another: the figure is what a
program gets, client, kernel and server together. The CPU time is the client's alone, which tells more where the disk or others decide.
`flo` is flo.Client beside redis.Redis, `aio` is flo.aio.Client beside redis.asyncio. Prints the medians, and the median of the rounds'
ratios, Flo over Redis, with its bounds (compare.py's `middle_of`). redis-py is at its best with hiredis: `pip install redis hiredis`.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import redis  # noqa: E402
import redis.asyncio  # noqa: E402

import flo  # noqa: E402
import flo.aio  # noqa: E402
from flo import calls  # noqa: E402
from loadtest.compare import disturbed as is_disturbed  # noqa: E402
from loadtest.compare import middle_of, stolen  # noqa: E402
from tests.support.processes import FloProcess, RedisProcess  # noqa: E402

KEYS = 1000
VALUE = b"x" * 64
SETTLE_SECONDS = 0.3

Slice = Callable[[float], tuple[float, float]]  # seconds -> (calls a second, the CPU us of this process a call)
Names = list[str]


def blocking_slice(one: Callable[[str], Any], names: Names, calls_of_one: int) -> Slice:
    """One call after another."""

    def run(seconds: float) -> tuple[float, float]:
        """A slice."""
        count, spent, began = 0, time.process_time(), time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            for name in names:
                one(name)
            count += len(names) * calls_of_one
        return count / (now - began), (time.process_time() - spent) / count * 1e6

    return run


def async_slice(loop: asyncio.AbstractEventLoop, one: Callable[[str], Awaitable[Any]], names: Names, calls_of_one: int) -> Slice:
    """One call after another, of one task."""

    async def run(seconds: float) -> tuple[float, float]:
        """A slice."""
        count, spent, began = 0, time.process_time(), time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            for name in names:
                await one(name)
            count += len(names) * calls_of_one
        return count / (now - began), (time.process_time() - spent) / count * 1e6

    return lambda seconds: loop.run_until_complete(run(seconds))


def kinds(depth: int) -> dict[str, tuple[Callable[[Any], Callable[[str], Any]], Callable[[Any], Callable[[str], Any]]]]:
    """What is measured, by name: (what Flo's client does with a key, what Redis's does)."""

    def redis_pipeline(client: Any, command: str, *values: bytes) -> Callable[[str], Any]:
        def one(name: str) -> Any:
            pipeline = client.pipeline(transaction=False)
            for _ in range(depth):
                getattr(pipeline, command)(name, *values)
            return pipeline.execute()

        return one

    return {
        "put": (lambda c: lambda name: c.kv.put(name, VALUE), lambda c: lambda name: c.set(name, VALUE)),
        "get": (lambda c: lambda name: c.kv.get(name), lambda c: lambda name: c.get(name)),
        f"put x {depth}": (
            lambda c: lambda name: c.run_many([calls.kv_put(name, VALUE) for _ in range(depth)]),
            lambda c: redis_pipeline(c, "set", VALUE),
        ),
        f"get x {depth}": (
            lambda c: lambda name: c.run_many([calls.kv_get(name) for _ in range(depth)]),
            lambda c: redis_pipeline(c, "get"),
        ),
    }


def measure(slices: dict[str, Slice], rounds: int, seconds: float) -> tuple[dict[str, list[tuple[float, float]]], int]:
    """(what each client's slices gave, round by round; how many rounds were disturbed). Undisturbed rounds count, if there are any."""
    for run in slices.values():
        run(SETTLE_SECONDS)
    rates: dict[bool, dict[str, list[tuple[float, float]]]] = {noisy: {name: [] for name in slices} for noisy in (False, True)}
    for number in range(rounds):
        before = stolen()
        measured = {name: slices[name](seconds) for name in (list(slices) if number % 2 else list(slices)[::-1])}
        noisy = is_disturbed(before)
        for name, rate in measured.items():
            rates[noisy][name].append(rate)
    noisy = not rates[False]["flo"]
    return rates[noisy], len(rates[True]["flo"])


def main() -> int:
    """Run the pairs."""
    parser = argparse.ArgumentParser(description="Flo's Python clients beside redis-py.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a slice")
    parser.add_argument("--depth", type=int, default=100, help="calls of a pipeline")
    parser.add_argument("--only", default="flo,aio")
    parser.add_argument("--python", default=sys.executable, help="the Python that the server runs on")
    args = parser.parse_args()
    hiredis = "with" if importlib.util.find_spec("hiredis") else "WITHOUT"
    print(f"redis-py {redis.__version__} {hiredis} hiredis; Python {sys.version.split()[0]}; calls/s of one thread or task")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-clients-", ignore_cleanup_errors=True)))
        (directory / "redis").mkdir()
        other = stack.enter_context(RedisProcess(directory / "redis", "--appendonly", "yes", "--appendfsync", "always", "--save", ""))
        # a compaction would disturb one slice and not the next; compaction.py measures its cost
        environment = {"FLO_LOG_COMPACT_GROWTH": "0"}
        server = stack.enter_context(FloProcess(directory / "flo", python=args.python, environment=environment))
        loop = stack.enter_context(contextlib.closing(asyncio.new_event_loop()))
        url = f"flo://127.0.0.1:{server.port}"
        names = [f"key:{number}" for number in range(KEYS)]
        pairs: dict[str, tuple[Any, Any]] = {
            "flo": (stack.enter_context(flo.Client(url)), stack.enter_context(redis.Redis(port=other.port))),
            "aio": (flo.aio.Client(url), redis.asyncio.Redis(port=other.port)),
        }
        for kind in args.only.split(","):
            ours, theirs = pairs[kind]
            for what, (flo_one, redis_one) in kinds(args.depth).items():
                size = args.depth if " x " in what else 1
                few = names[: 100 if size == 1 else 2]
                make = blocking_slice if kind == "flo" else lambda one, names, count: async_slice(loop, one, names, count)
                slices = {"flo": make(flo_one(ours), few, size), "redis": make(redis_one(theirs), few, size)}
                rates, noisy = measure(slices, args.rounds, args.seconds)
                for at, figure in enumerate(("calls", "CPU")):
                    pairs_of = [(a[at], b[at]) for a, b in zip(rates["flo"], rates["redis"], strict=True)]
                    middle, low, high = middle_of([a / b for a, b in pairs_of])
                    ours_is, theirs_is = (statistics.median(each) for each in zip(*pairs_of, strict=True))
                    shown = f"{ours_is:9.1f} {theirs_is:9.1f} {'calls/s' if not at else 'us'}"
                    label = f"{kind:4} {what:10}" if not at else ""
                    print(f"{label:15} {figure:5} {middle:6.2f} [{low:.2f}..{high:.2f}] {shown}", end="\n" if at else "  ")
                if noisy:
                    print(f"{'':15} {len(rates['flo'])} rounds; {noisy} were disturbed", flush=True)
        loop.run_until_complete(pairs["aio"][0].close())
        loop.run_until_complete(pairs["aio"][1].aclose())
    return 0


if __name__ == "__main__":
    sys.exit(main())
