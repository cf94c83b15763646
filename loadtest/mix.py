"""Flo beside Redis by mixes of commands and sizes: the rates, and each server's own CPU.

    python3 loadtest/mix.py [--mixes cache,store] [--depths 1,16] [--pairs 5] [--seconds 2] [--python PATH] [--json FILE]
    python3 loadtest/mix.py --single [--rows SET,DEL] …   single commands over the same keys, Flo only: CPU beside that of SET

    cache       70 GET, 20 SET EX, 5 DEL, 5 EXISTS
    limiter     INCR, then EXPIRE of the same key
    session     50 GET, 25 SETEX, 15 EXPIRE, 5 TTL, 5 MGET of three keys
    store       50 GET, 50 SET
    queue       LPUSH and RPOP over six queues (Flo acknowledges as it delivers, as Redis does)
    events      XADD MAXLEN ~ 10000 of three fields, over four streams

For each mix it starts redis-server (appendfsync always) and Flo anew, fills both, and lets 50 clients (workload.py) load them in slices
that alternate. A row is the median of the pairs' ratios, Flo's rate over Redis's; behind it the lowest and highest. "CPU" is the median of
Flo's CPU a request over Redis's. Then, for each server, the median rate, in thousands a second, and its own CPU, user and system, in us a
request. Neither rewrites its log meanwhile. A pair in which more than 5 % of the CPU was stolen is dropped, where there is another.

The last two figures say what the row is worth. "generator" is how busy the generator was, at most: near 100 % it measured itself, and only
the CPU says something. "others" is the share of the machine's CPU that other processes took: over some 5 % the rates are theirs as well.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from loadtest.compare import REDIS_FLAGS, cpu_seconds, disturbed, stolen, sync_latency  # noqa: E402
from loadtest.singles import SINGLES, Server  # noqa: E402
from loadtest.workload import CLIENTS, KEYS, MIXES, Batches, Clients, Draw, Load, batches_of, pour  # noqa: E402
from tests.support.processes import FloProcess, RedisProcess  # noqa: E402

WARM_SECONDS = 0.3  # before anything is counted
# Rewriting a log would hit now this slice, now that one. RPOP is to do the same work on both servers.
REDIS_REWRITES = ("--auto-aof-rewrite-percentage", "0")
FLO_SETTINGS = {"FLO_LOG_COMPACT_GROWTH": "0", "FLO_RESP_AUTO_ACK": "true"}


def busy_seconds() -> float:
    """CPU time that all processes have used since boot."""
    user, nice, system = Path("/proc/stat").read_text().split(maxsplit=4)[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


@dataclass
class Figures:
    """What slices of one server gave, one after the other."""

    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    generator: list[float] = field(default_factory=list)  # the share of the time in which the generator was busy
    others: list[float] = field(default_factory=list)  # the share of the machine's CPU that went to other processes

    def add(self, load: Load, pid: int, seconds: float) -> None:
        """Measure one slice."""
        busy, cpu, own = busy_seconds(), cpu_seconds(pid), time.process_time()
        done, took = load.run(seconds)
        own, cpu, busy = time.process_time() - own, cpu_seconds(pid) - cpu, busy_seconds() - busy
        self.rates.append(done / took)
        self.cpu_us.append(cpu / done * 1e6)
        self.generator.append(own / took)
        self.others.append(max(busy - cpu - own, 0) / took / (os.cpu_count() or 1))

    def extend(self, more: "Figures") -> None:
        """Slices that came later."""
        self.rates += more.rates
        self.cpu_us += more.cpu_us
        self.generator += more.generator
        self.others += more.others


@dataclass
class Row:
    """A mix at a depth: each server's slices, pair by pair."""

    mix: str
    depth: int
    flo: Figures
    redis: Figures
    disturbed: bool  # no pair was quiet

    def show(self, name: str) -> str:
        """One line."""
        ratios = [a / b for a, b in zip(self.flo.rates, self.redis.rates, strict=True)]
        costs = [a / b for a, b in zip(self.flo.cpu_us, self.redis.cpu_us, strict=True)]
        servers = "   ".join(
            f"{server} {statistics.median(figures.rates) / 1000:.1f} k/s {statistics.median(figures.cpu_us):.2f} us"
            for server, figures in ((name, self.flo), ("redis", self.redis))
        )
        return (
            f"{self.mix:<8} depth {self.depth:<3} {statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"
            f"   CPU {statistics.median(costs):.2f}   {servers}"
            f"   generator {max(self.flo.generator + self.redis.generator):.0%}"
            f" others {statistics.median(self.flo.others + self.redis.others):.0%}{'   DISTURBED' * self.disturbed}"
        )


@dataclass
class SingleRow:
    """A command at a depth: its slices and those of SET, pair by pair."""

    command: str
    depth: int
    figures: Figures
    set_figures: Figures
    disturbed: bool  # no pair was quiet

    def show(self) -> str:
        """One line."""
        costs = [a / b for a, b in zip(self.figures.cpu_us, self.set_figures.cpu_us, strict=True)]
        return (
            f"{self.command:<18} depth {self.depth:<3} {statistics.median(self.figures.cpu_us):6.2f} us"
            f"   {statistics.median(costs):.2f} of SET [{min(costs):.2f}..{max(costs):.2f}]"
            f"   {statistics.median(self.figures.rates) / 1000:.1f} k/s"
            f"   generator {max(self.figures.generator):.0%}"
            f" others {statistics.median(self.figures.others + self.set_figures.others):.0%}{'   DISTURBED' * self.disturbed}"
        )


def version_of(python: str) -> str:
    """The name of a Flo on this Python."""
    return "flo-" + subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]


def measure(mix: str, depth: int, loads: dict[str, tuple[Load, int]], pairs: int, seconds: float) -> Row:
    """Slices in turn; the server that goes first alternates."""
    for load, _ in loads.values():
        load.run(WARM_SECONDS)
    found = {noisy: {name: Figures() for name in loads} for noisy in (False, True)}
    for number in range(pairs):
        before = stolen()
        pair = {name: Figures() for name in loads}
        for name in list(loads)[:: 1 if number % 2 else -1]:
            pair[name].add(*loads[name], seconds)
        for name, into in found[disturbed(before)].items():
            into.extend(pair[name])
    noisy = not found[False]["flo"].rates
    return Row(mix, depth, found[noisy]["flo"], found[noisy]["redis"], noisy)


def compare_mixes(mixes: list[str], depths: list[int], python: str, pairs: int, seconds: float) -> list[Row]:
    """Every mix at every depth; prints each row as it is there."""
    rows: list[Row] = []
    name = version_of(python)
    for mix in mixes:
        draw = Draw(mix)
        filling = MIXES[mix].fill(draw)
        requests = MIXES[mix].requests(draw)
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-mix-", ignore_cleanup_errors=True)))
            (directory / "redis").mkdir()
            redis = stack.enter_context(RedisProcess(directory / "redis", *REDIS_FLAGS["sync"], *REDIS_REWRITES))
            flo = stack.enter_context(FloProcess(directory / "flo", python=python, environment=FLO_SETTINGS))
            servers = {"flo": (flo.port, flo.pid), "redis": (redis.port, redis.process.pid)}
            for port, _ in servers.values():
                pour(port, filling)
            for depth in depths:
                batches: Batches = batches_of(requests, depth)
                with contextlib.ExitStack() as clients:
                    loads: dict[str, tuple[Load, int]] = {}
                    for server, (port, pid) in servers.items():
                        load = Clients(port, batches, depth)
                        clients.callback(load.close)
                        loads[server] = load, pid
                    rows.append(measure(mix, depth, loads, pairs, seconds))
                print(rows[-1].show(name), flush=True)
    return rows


def measure_single(name: str, depth: int, loads: dict[str, Load], pid: int, pairs: int, seconds: float) -> SingleRow:
    """Slices of a command and of SET in turn; what one has used up is put back before the next."""
    found = {noisy: {command: Figures() for command in loads} for noisy in (False, True)}
    for number in range(-1, pairs):
        before = stolen()
        pair = {command: Figures() for command in loads}
        for command in list(loads)[:: 1 if number % 2 else -1]:
            pair[command].add(loads[command], pid, seconds if number >= 0 else WARM_SECONDS)
            loads[command].restore()
        if number >= 0:
            into = found[disturbed(before)]
            for command, figures in pair.items():
                into[command].extend(figures)
    noisy = not found[False]["SET"].rates
    return SingleRow(name, depth, found[noisy][name], found[noisy]["SET"], noisy)


def compare_singles(names: list[str], depths: list[int], python: str, pairs: int, seconds: float) -> list[SingleRow]:
    """Single commands beside SET, on one Flo; prints each row as it is there."""
    rows: list[SingleRow] = []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-mix-", ignore_cleanup_errors=True)))
        flo = stack.enter_context(FloProcess(directory / "flo", python=python, environment=FLO_SETTINGS))
        server = Server(flo.port)
        for depth in depths:
            for name in names:
                with contextlib.ExitStack() as clients:
                    loads = {}
                    for command in dict.fromkeys(("SET", name)):
                        loads[command] = server.load(command, depth)
                        clients.callback(loads[command].close)
                    rows.append(measure_single(name, depth, loads, flo.pid, pairs, seconds))
                print(rows[-1].show(), flush=True)
    return rows


def main() -> int:
    """Run the mixes."""
    parser = argparse.ArgumentParser(description="Flo beside Redis by mixes of commands and sizes.")
    parser.add_argument("--single", action="store_true", help="single commands beside SET, Flo only")
    parser.add_argument("--rows", default=",".join(SINGLES), help=f"with --single: of {', '.join(SINGLES)} (default: all)")
    parser.add_argument("--mixes", default=",".join(MIXES), help=f"of {', '.join(MIXES)} (default: all)")
    parser.add_argument("--depths", default="1,16", help="requests that a client sends at once")
    parser.add_argument("--pairs", type=int, default=5, help="slices of each server")
    parser.add_argument("--seconds", type=float, help="length of a slice (default: 2; with --single 0.5)")
    parser.add_argument("--python", default=sys.executable, help="the Python that Flo runs on (default: this one)")
    parser.add_argument("--json", help="write every figure to this file")
    args = parser.parse_args()
    depths = [int(depth) for depth in args.depths.split(",")]
    known = list(SINGLES if args.single else MIXES)
    wanted = (args.rows if args.single else args.mixes).split(",")
    for name in wanted:
        if name not in known:
            parser.error(f"there is no {name!r}; take some of {', '.join(known)}")
    seconds = args.seconds or (0.5 if args.single else 2)
    median, worst = sync_latency(tempfile.gettempdir())
    print(
        f"{version_of(args.python)}; {CLIENTS} clients, {KEYS:,} keys; {args.pairs} pairs of {seconds:g} s; "
        f"fdatasync of 4 KiB {median:.0f} us median, {worst:.0f} us p99",
        flush=True,
    )
    rows: list[Row] | list[SingleRow] = (compare_singles if args.single else compare_mixes)(
        wanted, depths, args.python, args.pairs, seconds
    )
    if args.json:
        told = {"python": args.python, "sync_us": [median, worst], "rows": [asdict(row) for row in rows]}
        Path(args.json).write_text(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
