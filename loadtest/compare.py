"""Flo compared with Redis and with the floor: ratios of paired, alternating slices, on this machine, in one run.

    python3 loadtest/compare.py [--python PATH …] [--rounds 5] [--seconds 1.5] [--commands set,get,incr] [--depths 1,16]
                                [--durability sync,async,ephemeral] [--no-redis] [--json FILE]
    python3 loadtest/compare.py --binary …        Flo's binary protocol compared with its own RESP
    python3 loadtest/compare.py --queues …        queues and streams, compared with Redis's lists and streams, and beanstalkd: work.py
    python3 loadtest/compare.py --restart …       the time of a start with a million keys, messages or records: restart.py
    python3 loadtest/compare.py --bench [--quick] all the figures of docs/performance.md: bench.py

Starts redis-server (appendfsync always for `sync`, everysec for `async`, no AOF for `ephemeral`), Flo on each Python given,
and floor.py on the first, each on its own port and directory; loads each with redis-benchmark (50 clients, one million keys)
in slices that alternate, so that a noisy moment affects all. A row's ratio is the median of the rounds' ratios, Flo's rate over
the other's rate in the same round, followed by the lowest and the highest. CPU is the CPU time of the server's process, user and
system, in us a request.

With --binary, generator.py, which encodes its requests beforehand, loads both protocols of one Flo in slices of --seconds (0.1), in
--rounds (200) pairs. The median ratios of the rates and of the server's CPU are followed by their bounds by chance. Each row shows the
generator's own ceiling.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    sys.modules["loadtest.compare"] = sys.modules["__main__"]

from loadtest.generator import SETTLE_SECONDS as GENERATOR_SETTLE_SECONDS  # noqa: E402
from loadtest.generator import Load, prepare  # noqa: E402
from tests.support.processes import FloProcess, RedisProcess, RespClient, free_port, wait_until  # noqa: E402

CLIENTS = 50
KEYS = 1_000_000
REDIS_FLAGS = {
    "sync": ("--appendfsync", "always"),
    "async": ("--appendfsync", "everysec"),
    "ephemeral": ("--appendonly", "no"),
}
SETTLE_SECONDS = 15
REWRITING = b"aof_rewrite_in_progress:1"
STOLEN_MAX = 0.05  # a round with more stolen CPU than this is worthless


@dataclass
class Target:
    """A server under load."""

    name: str
    port: int
    pid: int


@dataclass
class Row:
    """One command at one depth: each target's rates and CPU costs, round by round."""

    command: str
    depth: int
    rates: dict[str, list[float]] = field(default_factory=dict)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used, user and system: to the nanosecond if the kernel provides that, else to the tick."""
    with contextlib.suppress(OSError):
        return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stolen() -> tuple[int, int]:
    """(ticks stolen by the hypervisor, all ticks) since boot."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return ticks[7], sum(ticks[:8])


def disturbed(since: tuple[int, int]) -> bool:
    """Whether more than `STOLEN_MAX` of the CPU was stolen since `stolen()` returned `since`: the measurement is then worthless."""
    ticks, total = stolen()
    return (ticks - since[0]) / max(total - since[1], 1) > STOLEN_MAX


def settle(targets: Iterable[Target]) -> None:
    """Wait until no server rewrites its log. After a million new keys a rewrite takes seconds, and one of the two cores. Wait at most
    SETTLE_SECONDS: after gigabytes of large values a rewrite takes minutes."""
    end = time.monotonic() + SETTLE_SECONDS
    for target in targets:
        if target.name == "redis" or target.name.startswith("flo-"):
            with RespClient(target.port, 60) as client:
                while REWRITING in client.command("INFO", "persistence") and time.monotonic() < end:
                    time.sleep(0.02)


def sync_latency(directory: str) -> tuple[float, float]:
    """(median, 99th percentile) in us of a 4 KiB write and fdatasync on written zeros, where the servers write."""
    fd, path = tempfile.mkstemp(dir=directory)
    try:
        os.pwrite(fd, bytes(4 << 20), 0)
        os.fsync(fd)
        times = []
        for at in range(500):
            os.pwrite(fd, b"x" * 4096, at * 4096)
            began = time.perf_counter()
            os.fdatasync(fd)
            times.append((time.perf_counter() - began) * 1e6)
        times.sort()
        return times[250], times[495]
    finally:
        os.close(fd)
        os.unlink(path)


def load(
    target: Target,
    command: str | tuple[str, ...],
    depth: int,
    requests: int,
    *,
    clients: int = CLIENTS,
    keys: int = KEYS,
    size: int = 3,
) -> tuple[float, float]:
    """One slice: (requests a second, the server's CPU us a request). `command` is one of redis-benchmark's tests, or the words of a
    command; `size` is the size of a value."""
    before = cpu_seconds(target.pid)
    began = time.perf_counter()
    result = subprocess.run(
        [
            "redis-benchmark", "-h", "127.0.0.1", "-p", str(target.port), "-c", str(clients), "-r", str(keys), "-P", str(depth),
            "-d", str(size), "-n", str(requests), "--csv", *(("-t", command) if isinstance(command, str) else command),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    took = time.perf_counter() - began
    lines = [line for line in result.stdout.splitlines() if line.startswith('"') and not line.startswith('"test"')]
    rate = float(lines[-1].split(",")[1].strip('"')) if lines else requests / took
    return rate, (cpu_seconds(target.pid) - before) / requests * 1e6


@contextlib.contextmanager
def floor(python: str, directory: Path, sync: bool) -> Iterator[Target]:
    """A running floor.py."""
    port = free_port()
    command = [python, str(ROOT / "loadtest" / "floor.py"), str(port), str(directory / "floor.log"), *([] if sync else ["--nosync"])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        wait_until(process.stdout.readline, "the floor")
        yield Target("floor", port, process.pid)
    finally:
        process.kill()
        process.wait()


def compare(durability: str, pythons: list[str], args: argparse.Namespace) -> dict[str, object]:
    """Start everything, alternate, report one durability."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-compare-", ignore_cleanup_errors=True)))
        (directory / "redis").mkdir()
        targets = []
        if not args.no_redis:
            redis = stack.enter_context(RedisProcess(directory / "redis", *REDIS_FLAGS[durability]))
            targets.append(Target("redis", redis.port, redis.process.pid))
        for python in pythons:
            name = f"flo-{subprocess.run([python, '-V'], capture_output=True, text=True, check=True).stdout.split()[1]}"
            flo = stack.enter_context(FloProcess(directory / name, "--durability", durability, python=python))
            targets.append(Target(name, flo.port, flo.pid))
        targets.append(stack.enter_context(floor(pythons[0], directory, durability == "sync")))
        median, worst = sync_latency(str(directory))
        print(f"\n{durability}: fdatasync of 4 KiB {median:.0f} us median, {worst:.0f} us p99; {CLIENTS} clients, {KEYS:,} keys")
        rows = [Row(command, depth) for command in args.commands.split(",") for depth in map(int, args.depths.split(","))]
        dropped = 0
        for row in rows:
            requests = {}
            for target in targets:  # also fills the keys that GET finds
                if row.command == "get":
                    load(target, "set", 16, KEYS // 4)
                rate, _ = load(target, row.command, row.depth, 20_000 * row.depth)
                requests[target.name] = max(int(rate * args.seconds), 20_000)
            settle(targets)
            for _ in range(args.rounds):
                before = stolen()
                measured = {t.name: load(t, row.command, row.depth, requests[t.name]) for t in targets}
                if disturbed(before):
                    dropped += 1
                    continue
                for name, (rate, cpu) in measured.items():
                    row.rates.setdefault(name, []).append(rate)
                    row.cpu_us.setdefault(name, []).append(cpu)
            print_row(row, [t.name for t in targets], header=row is rows[0])
        print(f"rounds dropped for more than {STOLEN_MAX:.0%} stolen CPU: {dropped}")
        return {"durability": durability, "sync_us": [median, worst], "dropped": dropped, "rows": [vars(row) for row in rows]}


def generate(target: Target, protocol: str, command: str, depth: int, seconds: float) -> tuple[float, float, float]:
    """One slice by generator.py: (requests a second, the server's CPU us a request, the generator's ceiling)."""
    command = "put" if command == "set" else command
    before = cpu_seconds(target.pid)
    result = subprocess.run(
        [
            sys.executable, str(ROOT / "loadtest" / "generator.py"), str(target.port), "--protocol", protocol, "--command", command,
            "--depth", str(depth), "--seconds", str(seconds), "--clients", str(CLIENTS), "--keys", str(KEYS),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told = json.loads(result.stdout)
    return told["rate"], (cpu_seconds(target.pid) - before) / told["sent"] * 1e6, told["ceiling"]


Figures = list[tuple[float, float, float]]  # one for each slice, as `generate` returns it


def compare_pairs(target: Target, command: str, depth: int, pairs: int, seconds: float) -> tuple[dict[str, Figures], bool]:
    """Measure `pairs` pairs of slices, one for each protocol; the first protocol alternates. The clients of both stay connected, so that
    slices can be short: then both slices of a pair run under the same conditions. Returns (the figures of the quiet pairs, False), or, if
    no pair was quiet, (those of all pairs, True)."""
    command = "put" if command == "set" else command
    measured: dict[bool, dict[str, Figures]] = {noisy: {"resp": [], "binary": []} for noisy in (False, True)}
    with contextlib.ExitStack() as stack:
        loads: dict[str, Load] = {}
        for protocol in ("resp", "binary"):
            loads[protocol] = prepare(target.port, protocol, command, depth, CLIENTS, KEYS, b"xxx")
            stack.callback(loads[protocol].close)
            loads[protocol].run(GENERATOR_SETTLE_SECONDS)
        for number in range(pairs):
            before = stolen()
            pair = {}
            for protocol in ("resp", "binary") if number % 2 else ("binary", "resp"):
                cpu, own = cpu_seconds(target.pid), time.process_time()
                done, took = loads[protocol].run(seconds)
                busy = (time.process_time() - own) / took
                pair[protocol] = (done / took, (cpu_seconds(target.pid) - cpu) / done * 1e6, done / took / busy)
            noisy = disturbed(before)
            for protocol, figures in pair.items():
                measured[noisy][protocol].append(figures)
    noisy = not measured[False]["resp"]
    return measured[noisy], noisy


def middle_of(ratios: list[float]) -> tuple[float, float, float]:
    """(median, low, high): the bounds hold the true median in 19 of 20 cases. They are found by rank, so they hold for any distribution."""
    ordered, count = sorted(ratios), len(ratios)
    low = max(int(count / 2 - 0.98 * count**0.5), 0)
    return statistics.median(ordered), ordered[low], ordered[count - 1 - low]


def compare_protocols(pythons: list[str], args: argparse.Namespace) -> dict[str, object]:
    """The binary protocol compared with RESP, on one server with `sync`."""
    rows: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-compare-", ignore_cleanup_errors=True)))
        print(f"binary over RESP, sync; {CLIENTS} clients, {KEYS:,} keys; k/s, the server's CPU us a request, the generator's ceiling")
        for python in pythons:
            name = f"flo-{subprocess.run([python, '-V'], capture_output=True, text=True, check=True).stdout.split()[1]}"
            # the cost of rewriting the log is measured separately (compaction.py): here it would affect one slice and not the next
            flo = stack.enter_context(FloProcess(directory / name, python=python, environment={"FLO_LOG_COMPACT_GROWTH": "0"}))
            target = Target(name, flo.port, flo.pid)
            for command in args.commands.split(","):
                for depth in map(int, args.depths.split(",")):
                    for protocol in ("resp", "binary"):
                        generate(target, protocol, "set" if command == "get" else command, depth, 0.3)  # fills, warms up
                    measured, noisy = compare_pairs(target, command, depth, args.rounds, args.seconds)
                    ratios = [b[0] / r[0] for b, r in zip(measured["binary"], measured["resp"], strict=True)]
                    median, low, high = middle_of(ratios)
                    costs = [b[1] / r[1] for b, r in zip(measured["binary"], measured["resp"], strict=True)]
                    cpu, cpu_low, cpu_high = middle_of(costs)
                    middle = {p: [statistics.median(f[at] for f in figures) for at in range(3)] for p, figures in measured.items()}
                    shown = "  ".join(f"{p} {m[0] / 1000:.0f} ({m[1]:.2f}, {m[2] / 1000:.0f})" for p, m in middle.items())
                    print(
                        f"{command.upper():5} depth {depth:<3} {name:<12} {median:7.3f} [{low:.3f}..{high:.3f}]  "
                        f"CPU {cpu:.3f} [{cpu_low:.3f}..{cpu_high:.3f}] of {len(ratios)}{' DISTURBED' if noisy else ''}     {shown}",
                        flush=True,
                    )
                    rows.append(
                        {"command": command, "depth": depth, "python": name, "ratios": ratios, "measured": measured, "disturbed": noisy}
                    )
    return {"protocols": rows}


def ratio(row: Row, name: str, other: str) -> tuple[float, float, float]:
    """(median, lowest, highest) of the rounds' ratios."""
    ratios = [a / b for a, b in zip(row.rates[name], row.rates[other], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def print_row(row: Row, names: list[str], header: bool) -> None:
    """Print one line for each Flo: its ratios, and the rate and cost of every target."""
    if header:
        print(
            f"{'':22}{'':14}"
            + "".join(f"{f'over {other}':>24}" for other in ("redis", "floor") if other in names)
            + "     k/s and CPU us a request"
        )
    if not row.rates:
        print(f"{row.command.upper():5} depth {row.depth:<3} every round was dropped")
        return
    rates = "  ".join(
        f"{name} {statistics.median(row.rates[name]) / 1000:.0f} ({statistics.median(row.cpu_us[name]):.1f})" for name in names
    )
    for name in names:
        if name.startswith("flo-"):
            cells = ""
            for other in ("redis", "floor"):
                if other in names:
                    middle, low, high = ratio(row, name, other)
                    cells += f"{middle:10.2f} [{low:.2f}..{high:.2f}]".rjust(24)
            print(f"{row.command.upper():5} depth {row.depth:<3} {name:<20}{cells}     {rates}", flush=True)


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="Compare Flo with Redis and the floor, in paired alternating slices.")
    parser.add_argument("--python", action="append", help="a Python to run Flo on; may be given several times (default: this one)")
    parser.add_argument("--rounds", type=int, help="the number of slices of each server (default: 5; with --binary 200)")
    parser.add_argument("--seconds", type=float, help="length of a slice (default: 1.5; with --binary 0.1)")
    parser.add_argument("--commands", type=str.lower, default="set,get,incr")
    parser.add_argument("--depths", default="1,16")
    parser.add_argument("--durability", default="sync")
    parser.add_argument("--no-redis", action="store_true", help="compare with the floor only")
    parser.add_argument("--binary", action="store_true", help="compare Flo's binary protocol with its own RESP")
    parser.add_argument("--queues", action="store_true", help="compare queues and streams")
    parser.add_argument("--restart", action="store_true", help="measure starts with --count keys, messages or records")
    parser.add_argument("--count", type=int, default=1_000_000, help="with --restart: the number of keys, messages or records")
    parser.add_argument("--bench", action="store_true", help="measure every figure of docs/performance.md")
    parser.add_argument("--quick", action="store_true", help="with --bench: only the main rows, two rounds, a minute")
    parser.add_argument("--charts", help="with --bench: draw the charts into this directory")
    parser.add_argument("--json", help="write every figure to this file")
    args = parser.parse_args()
    rounds, seconds = (200, 0.1) if args.binary else (5, 1.5)
    args.rounds = args.rounds or rounds
    args.seconds = args.seconds or seconds
    if args.binary:
        protocols = compare_protocols(args.python or [sys.executable], args)
        if args.json:
            Path(args.json).write_text(json.dumps(protocols, indent=1))
        return 0
    if args.bench:
        from loadtest import bench

        return bench.run(args)
    if args.restart:
        from loadtest import restart

        for python in args.python or [sys.executable]:
            restart.run(args.count, args.rounds, python)
        return 0
    if args.queues:
        from loadtest.work import compare_work  # imported here because it imports this module

        work = compare_work(args.python or [sys.executable], args)
        if args.json:
            Path(args.json).write_text(json.dumps(work, indent=1))
        return 0
    if shutil.which("redis-benchmark") is None or (not args.no_redis and shutil.which("redis-server") is None):
        print("redis-benchmark and redis-server are needed: apt-get install redis-tools redis-server", file=sys.stderr)
        return 1
    results = [compare(durability, args.python or [sys.executable], args) for durability in args.durability.split(",")]
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
