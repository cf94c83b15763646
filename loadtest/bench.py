"""Every figure of docs/performance.md in one run: `compare.py --bench` and `make bench`.

    python3 loadtest/compare.py --bench [--quick] [--python PATH …] [--rounds 5] [--seconds 0.8] [--json FILE] [--charts DIRECTORY]

Starts redis-server (appendfsync always), Flo on each Python, the floor, and beanstalkd if it is installed; loads them in alternating
slices; and prints for each row the median of the rounds' ratios, their spread, and whether the goal is reached. Rounds in which more than
5 % of the CPU was stolen are dropped. --quick does two rounds of the main rows, in a minute.

    rates       redis-benchmark, 50 clients, a million keys; cycles.py for leases; generator.py for the binary protocol; series.py for
                line protocol and a query over windows, runs.py for actions, which nobody here is compared with
    waits       openloop.py at 10, 50 and 90 % of the rate that Redis reached with SET
    memory      resident bytes a key of 64 bytes, a message, a record, an idle connection
    curves      CPU a request against connections, size of a value, depth of the pipeline (not with --quick)
    mixes       commands and sizes as clients mix them, by mix.py (not with --quick)
"""

import argparse
import contextlib
import json
import platform
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loadtest import charts
from loadtest.compare import (
    CLIENTS,
    KEYS,
    REDIS_FLAGS,
    ROOT,
    STOLEN_MAX,
    Target,
    compare_pairs,
    disturbed,
    floor,
    load,
    middle_of,
    stolen,
    sync_latency,
)
from loadtest.curves import CURVES, curve, pour
from loadtest.mix import compare_mixes
from loadtest.runs import execute_runs, invoke_runs, register
from loadtest.series import average_points, fill_series, write_points
from loadtest.work import beanstalkd, cycle, empty
from loadtest.workload import MIXES
from tests.support.processes import FloProcess, RedisProcess, RespClient, encode

LARGE_KEYS = 500  # keys with large values
MEMORY_COUNT = 1_000_000
IDLE_CONNECTIONS = 5_000
MEMORY_BATCH = 5_000  # requests sent at once
CURVE_SECONDS = 0.3  # for each point
PROTOCOL_PAIRS, PROTOCOL_SECONDS = 70, 0.1  # the protocols differ by less than two slices of one protocol do
MIX_DEPTHS, MIX_PAIRS, MIX_SECONDS = [1, 16], 3, 0.4  # all mixes take about a minute; mix.py by itself measures longer
SHARES = (0.1, 0.5, 0.9)  # of Redis's peak
ASKED_SHARE, ASKED_ROUNDS = 0.5, 11  # this share has a goal; stalls of the disk make the p99 of a second vary from 1 to 15 ms
TRIES_BESIDES = 3  # additional rounds in place of disturbed ones …
TRIES_SECONDS = 250  # … until the rows have taken this long: a run must end within ten minutes on a bad day too
DESCRIPTORS = 12_000  # for ten thousand connections
# The cost of rewriting a log is measured separately (compaction.py): here it would affect one slice and not the next.
REDIS_REWRITES = ("--auto-aof-rewrite-percentage", "0", "--maxclients", "11000")
FLO_REWRITES = {"FLO_LOG_COMPACT_GROWTH": "0", "FLO_MAX_CONNECTIONS": "11000"}

Slice = Callable[[Target, int], tuple[float, float]]  # (server, requests) -> (requests a second, the server's CPU us a request)


@dataclass
class Row:
    """One kind of work."""

    title: str
    depth: int
    asked: float  # the goal, as a ratio over Redis; 0 for none
    run: Slice = field(repr=False)
    prepare: Callable[[Target], None] | None = None
    against: tuple[str, ...] = ("redis", "floor")
    rates: dict[str, list[float]] = field(default_factory=dict)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    disturbed: bool = False  # no round was quiet, so the figures mean little

    @property
    def label(self) -> str:
        """Its name with its depth."""
        return f"{self.title}, {self.depth} deep" if self.depth > 1 else self.title

    def ratio(self, name: str, other: str) -> tuple[float, float, float] | None:
        """(median, lowest, highest) of the rounds' ratios."""
        if not self.rates.get(name) or not self.rates.get(other):
            return None
        ratios = [a / b for a, b in zip(self.rates[name], self.rates[other], strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def words(*command: str, depth: int) -> Slice:
    """A command by redis-benchmark."""
    return lambda target, requests: load(target, command, depth, requests)


def named(command: str, depth: int) -> Slice:
    """One of redis-benchmark's own tests."""
    return lambda target, requests: load(target, command, depth, requests)


def sized(command: str, size: int) -> Slice:
    """SET or GET of large values."""
    return lambda target, requests: load(target, command, 1, requests, keys=LARGE_KEYS, size=size)


def fill_keys(target: Target) -> None:
    """Write three quarters of the million keys, for reading commands."""
    load(target, "set", 64, KEYS + KEYS // 3)


def fill_large(size: int) -> Callable[[Target], None]:
    """A function that writes every large key."""

    def fill(target: Target) -> None:
        load(target, "set", 1, LARGE_KEYS * 4, keys=LARGE_KEYS, size=size)

    return fill


def cycles(steps: str, depth: int, seconds: float) -> Slice:
    """Leases by cycles.py."""
    run_one = cycle(steps, seconds)
    return lambda target, requests: run_one(target, depth, requests)


def invocations(depth: int) -> Slice:
    """Runs of an action without a worker."""
    return lambda target, requests: invoke_runs(target, depth, requests)


def rows_of(seconds: float, quick: bool) -> list[Row]:
    """The measured rows and their goals (issue 6)."""
    rows = []
    for depth, asked in ((1, 1.0), (16, 0.9)):
        rows += [
            Row("SET", depth, asked, named("set", depth)),
            Row("INCR", depth, asked, named("incr", depth)),
            Row("LPUSH", depth, asked, words("LPUSH", "work", "xxx", depth=depth)),
            Row("XADD", depth, asked, words("XADD", "stream", "*", "field", "xxx", depth=depth)),
        ]
        rows.append(Row("lease, ack", depth, asked, cycles("lease,ack", depth, seconds), empty))
    rows += [
        Row("GET", 1, 0.95, named("get", 1), fill_keys),
        Row("GET", 16, 0.75, named("get", 16), fill_keys),
        Row("MGET of 10", 1, 0.95, words("MGET", *["key:__rand_int__"] * 10, depth=1), fill_keys),
    ]
    if quick:
        return [row for row in rows if row.title in ("SET", "GET", "LPUSH", "XADD")]
    for size, shown in ((64 << 10, "64 KiB"), (1 << 20, "1 MiB")):
        rows.append(Row(f"SET {shown}", 1, 0.8, sized("set", size)))
        rows.append(Row(f"GET {shown}", 1, 0.8, sized("get", size), fill_large(size)))
    rows.append(Row("points written", 1, 0, write_points, against=()))  # of 1,000 series, 5,000 in each request
    rows.append(Row("points averaged", 1, 0, average_points, fill_series, against=()))  # a million of 10 series, by the minute
    rows += [Row("ACTION INVOKE", depth, 0, invocations(depth), register, against=()) for depth in (1, 16)]
    rows.append(Row("runs executed", 1, 0, execute_runs, register, against=()))  # by one worker, which holds 8 at once
    rows.append(Row("put, lease, ack", 1, 0, cycles("put,lease,ack", 1, seconds), empty, ("redis", "floor", "beanstalkd")))
    return rows


def measure(row: Row, targets: list[Target], rounds: int, seconds: float, tries: int) -> int:
    """Measure a row; returns how many rounds were disturbed. Up to `tries` rounds replace disturbed ones. If all are disturbed, all are
    kept, and the row says so."""
    requests = {}
    for target in targets:
        if row.prepare is not None:
            row.prepare(target)
    for target in targets:
        rate, _ = row.run(target, min(2000 * row.depth, 20_000) if "iB" not in row.title else 200)
        requests[target.name] = max(int(rate * seconds), 100)
    quiet: list[dict[str, tuple[float, float]]] = []
    noisy: list[dict[str, tuple[float, float]]] = []
    while len(quiet) < rounds and len(quiet) + len(noisy) < rounds + tries:
        before = stolen()
        measured = {}
        for target in targets:
            if row.prepare is empty:
                empty(target)
            measured[target.name] = row.run(target, requests[target.name])
        (noisy if disturbed(before) else quiet).append(measured)
    row.disturbed = not quiet
    for measured in quiet or noisy:
        for name, (rate, cpu) in measured.items():
            row.rates.setdefault(name, []).append(rate)
            row.cpu_us.setdefault(name, []).append(cpu)
    return len(noisy)


def show(row: Row, flos: list[str]) -> None:
    """Print one line for each Flo."""
    costs = "  ".join(
        f"{name} {statistics.median(rates) / 1000:.1f} ({statistics.median(row.cpu_us[name]):.1f})" for name, rates in row.rates.items()
    )
    for name in flos:
        cells = ""
        for other in row.against:
            found = row.ratio(name, other)
            asked = {"redis": row.asked, "floor": 0.75 if row.asked else 0.0, "beanstalkd": 3.0}[other]
            if found is not None:
                mark = "" if not asked else " ok" if found[0] >= asked else " UNDER"
                cells += f"  over {other} {found[0]:.2f} [{found[1]:.2f}..{found[2]:.2f}]{mark}"
        print(f"{row.label:<20} {name:<11}{cells}     {costs}{'  DISTURBED' * row.disturbed}", flush=True)


def waits(targets: list[Target], peak: float, rounds: int, seconds: float) -> list[dict[str, object]]:
    """The waits of each server's clients for SET, at shares of Redis's peak rate; medians of the rounds."""
    found: list[dict[str, object]] = []
    for share in SHARES:
        per: dict[str, list[dict[str, float]]] = {target.name: [] for target in targets}
        for _ in range(ASKED_ROUNDS if share == ASKED_SHARE and rounds > 2 else rounds):
            for target in targets:
                command = [
                    sys.executable, str(ROOT / "loadtest" / "openloop.py"), str(target.port), "--rate", str(peak * share),
                    "--seconds", str(seconds),
                ]  # fmt: skip
                per[target.name].append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout))
        for name, rounds_of in per.items():
            middle: dict[str, object] = {
                key: statistics.median(item[key] for item in rounds_of) for key in ("p50", "p99", "p999", "max", "ceiling")
            }
            middle |= {
                "server": name,
                "share": share,
                "rate": peak * share,
                "void": sum(item["void"] for item in rounds_of) > len(rounds_of) // 2,
            }
            found.append(middle)
            print(
                f"SET at {share:.0%} of Redis's peak, {peak * share / 1000:.0f} k/s  {name:<11}"
                + "  ".join(f"{key} {middle[key]:.0f} us" for key in ("p50", "p99", "p999", "max"))
                + f"  (the generator's ceiling {middle['ceiling']:,.0f})"
                + ("  VOID: the generator was near it" if middle["void"] else ""),
                flush=True,
            )
    return found


def resident(pid: int) -> int:
    """A process's resident bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    raise ValueError(f"process {pid} has no VmRSS")


def memory(python: str, directory: Path) -> dict[str, dict[str, float]]:
    """Resident bytes of a key of 64 bytes, a message, a record and an idle connection, each in a fresh server."""
    rng = random.Random(1)
    value = rng.randbytes(64)
    kinds: dict[str, Callable[[int], bytes]] = {
        "key": lambda number: encode("SET", b"key:%012d" % number, value),
        "message": lambda number: encode("LPUSH", "queue", value),
        "record": lambda number: encode("XADD", "stream", "*", "data", value),
    }
    found: dict[str, dict[str, float]] = {}
    for server in ("redis", "flo"):
        for kind in (*kinds, "connection"):
            with contextlib.ExitStack() as stack:
                place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True)))
                process: RedisProcess | FloProcess
                if server == "redis":
                    process = stack.enter_context(RedisProcess(place, *REDIS_FLAGS["ephemeral"]))
                    pid, port = process.process.pid, process.port
                else:
                    process = stack.enter_context(FloProcess(place / "flo", "--durability", "async", python=python))
                    pid, port = process.pid, process.port
                with RespClient(port, 120) as client:
                    client.command("PING")
                    before = resident(pid)
                    if kind == "connection":
                        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(IDLE_CONNECTIONS)]
                        for sock in idle:
                            sock.sendall(encode("PING"))
                            sock.recv(100)
                        count = IDLE_CONNECTIONS
                    else:
                        count, make = MEMORY_COUNT, kinds[kind]
                        lines = MEMORY_BATCH * (2 if kind == "record" else 1)
                        pour(port, ((b"".join(map(make, range(at, at + MEMORY_BATCH))), lines) for at in range(0, count, MEMORY_BATCH)))
                    found.setdefault(server, {})[kind] = (resident(pid) - before) / count
        print(f"memory, {server}: " + ", ".join(f"{size:.0f} bytes a {kind}" for kind, size in found[server].items()), flush=True)
    return found


def run(args: argparse.Namespace) -> int:
    """Measure everything. Returns 0: a row that misses its goal is a line, not a failure."""
    began = time.monotonic()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), hard))
    pythons = args.python or [sys.executable]
    rounds, seconds = (2, 0.8) if args.quick else (args.rounds, args.seconds)
    result: dict[str, object] = {"python": pythons, "machine": platform.machine(), "rounds": rounds, "seconds": seconds}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-bench-", ignore_cleanup_errors=True)))
        (directory / "redis").mkdir()
        redis = stack.enter_context(RedisProcess(directory / "redis", *REDIS_FLAGS["sync"], *REDIS_REWRITES))
        servers = {"redis": Target("redis", redis.port, redis.process.pid)}
        flos = []
        for number, python in enumerate(pythons):
            version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
            name = f"flo-{version}"
            server = stack.enter_context(FloProcess(directory / f"flo{number}", python=python, environment=FLO_REWRITES))
            servers[name] = Target(name, server.port, server.pid)
            flos.append(name)
        servers["floor"] = stack.enter_context(floor(pythons[0], directory, True))
        if not args.quick and shutil.which("beanstalkd"):
            servers["beanstalkd"] = stack.enter_context(beanstalkd(directory / "beanstalkd"))
        median, worst = sync_latency(str(directory))
        result["sync_us"] = (median, worst)
        print(f"sync; fdatasync of 4 KiB {median:.0f} us median, {worst:.0f} us p99; {CLIENTS} clients, {rounds} rounds of {seconds} s")
        print("k/s and, in brackets, the server's CPU us a request\n")
        rows = rows_of(seconds, args.quick)
        dropped = 0
        for row in rows:
            targets = [servers[name] for name in (*flos, *row.against) if name in servers]
            tries = TRIES_BESIDES if time.monotonic() - began < TRIES_SECONDS else 0
            dropped += measure(row, targets, rounds, seconds, tries)
            show(row, flos)
        result["dropped"] = dropped
        result["rows"] = [{key: value for key, value in asdict(row).items() if key not in ("run", "prepare")} for row in rows]
        print(f"rounds dropped for more than {STOLEN_MAX:.0%} stolen CPU: {dropped}; {time.monotonic() - began:.0f} s so far\n", flush=True)
        peak = statistics.median(rows[0].rates["redis"])
        beside = [servers[flos[0]], servers["redis"]]
        if not args.quick:
            protocols: dict[str, dict[str, list[float]]] = {}
            for command in ("set", "get", "incr"):
                for depth in (1, 16):
                    measured, noisy = compare_pairs(beside[0], command, depth, PROTOCOL_PAIRS, PROTOCOL_SECONDS)
                    rates = {protocol: [rate for rate, *_ in figures] for protocol, figures in measured.items()}
                    ratios = [b / r for b, r in zip(rates["binary"], rates["resp"], strict=True)]
                    protocols[f"{command.upper()}, {depth} deep"] = rates
                    middle, low, high = middle_of(ratios)
                    mark = ("ok" if middle >= 1 else "UNDER") + (" DISTURBED" if noisy else "")
                    print(
                        f"binary over RESP: {command.upper():5} depth {depth:<3} {middle:.3f} [{low:.3f}..{high:.3f}] {mark}",
                        flush=True,
                    )
            result["binary"] = protocols
        result["waits"] = waits(beside, peak, min(rounds, 3), 1.0)
        if not args.quick:
            print(f"\n{time.monotonic() - began:.0f} s so far", flush=True)
            result["curves"] = {across: curve(beside, across, CURVE_SECONDS) for across in CURVES}
    if not args.quick:
        print(f"\n{time.monotonic() - began:.0f} s so far\n\nmixes, {flos[0]} over redis", flush=True)
        mixes = compare_mixes(list(MIXES), MIX_DEPTHS, pythons[0], MIX_PAIRS, MIX_SECONDS)
        result["mixes"] = [asdict(row) for row in mixes]
        print(f"\n{time.monotonic() - began:.0f} s so far", flush=True)
        with tempfile.TemporaryDirectory(prefix="flo-bench-") as place:
            result["memory"] = memory(pythons[0], Path(place))
    print(f"\n{time.monotonic() - began:.0f} s")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1))
    if args.charts:
        draw(Path(args.charts), rows, flos[0], result)
    return 0


def draw(directory: Path, rows: list[Row], name: str, result: dict[str, object]) -> None:
    """Write the charts as SVG."""
    directory.mkdir(parents=True, exist_ok=True)
    for other, title in (("redis", "Flo over Redis at the same durability"), ("floor", "Flo over the floor, a minimal loop")):
        bars = []
        for row in rows:
            found = row.ratio(name, other)
            if found is not None:
                bars.append((row.label, *found, row.asked if other == "redis" else 0.75))
        note = f"{name}, 50 clients, every write synced before its reply; median of the rounds, lowest to highest; tick: the goal"
        (directory / f"{other}.svg").write_text(charts.bars(title, bars, note))
    found_waits = result.get("waits")
    assert isinstance(found_waits, list)
    lines: dict[str, list[tuple[float, float]]] = {}
    for item in found_waits:
        for key in ("p50", "p99", "p999"):
            lines.setdefault(f"{item['server'].split('-')[0]} {key}", []).append((item["share"] * 100, item[key]))
    (directory / "waits.svg").write_text(charts.curves("How long SET takes", "us", "% of Redis's highest rate", lines))
    found_memory = result.get("memory")
    if isinstance(found_memory, dict):
        kinds = {f"a{'n idle' * (kind == 'connection')} {kind}": kind for kind in found_memory["flo"]}
        groups = {label: {"Flo": found_memory["flo"][kind], "Redis": found_memory["redis"][kind]} for label, kind in kinds.items()}
        note = "a million keys, messages and stream records of 64 bytes; five thousand connections"
        (directory / "memory.svg").write_text(charts.pairs("Resident bytes", groups, note))
    found_curves = result.get("curves")
    if isinstance(found_curves, dict):
        for across, commands in found_curves.items():
            both = {
                f"{server.split('-')[0]} {command.upper()}": points for command, per in commands.items() for server, points in per.items()
            }
            (directory / f"{across}.svg").write_text(charts.curves("The server's CPU for a request", "us", across, both))
