"""Queues and streams, compared with Redis, beanstalkd and the floor: `compare.py --queues`.

    LPUSH, XADD     redis-benchmark, on all three servers
    RPOP            from a filled queue. Flo and the floor lease; Redis does equal work for a message, LMOVE and LREM (its rate is that
                    of both commands one after the other). Once more with AUTOACK, where Flo forgets the messages it gives: against
                    LMOVE and LREM, and against Redis's RPOP
    lease, ack      cycles.py: QDEQUEUE and QACK against LMOVE and LREM; each client waits for each answer
    put, lease, ack cycles.py, also against beanstalkd that syncs each write (-f 0)

beanstalkd has its own port and directory. All servers are stopped at the end.
"""

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from loadtest.compare import CLIENTS, REDIS_FLAGS, ROOT, Target, cpu_seconds, disturbed, floor, load, settle, stolen, sync_latency
from tests.support.processes import FloProcess, RedisProcess, RespClient, free_port, wait_until

VALUE = "xxx"
LEASE_MS = 10**9  # so long that no message comes back during a run
FILL_DEPTH = 64
CYCLES_MAX = 60_000  # messages a second, and four times as many in pipelines: more than cycles.py can reach


@contextlib.contextmanager
def beanstalkd(directory: Path) -> Iterator[Target]:
    """A beanstalkd that syncs each write."""
    directory.mkdir()
    port = free_port()
    process = subprocess.Popen(["beanstalkd", "-l", "127.0.0.1", "-p", str(port), "-b", str(directory), "-f", "0"])
    try:
        wait_until(lambda: _listens(port), "beanstalkd")
        yield Target("beanstalkd", port, process.pid)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    import socket

    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def run_cycles(target: Target, steps: str, depth: int, seconds: float) -> tuple[float, float]:
    """One slice: (messages a second, the server's CPU us a message)."""
    dialect = {"redis": "redis", "beanstalkd": "beanstalk"}.get(target.name, "flo")
    before = cpu_seconds(target.pid)
    result = subprocess.run(
        [
            sys.executable, str(ROOT / "loadtest" / "cycles.py"), str(target.port), "--dialect", dialect, "--steps", steps,
            "--depth", str(depth), "--seconds", str(seconds), "--clients", str(CLIENTS),
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    told = json.loads(result.stdout)
    return told["rate"], (cpu_seconds(target.pid) - before) / max(told["done"], 1) * 1e6


def empty(target: Target) -> None:
    """Delete the data that the previous row left."""
    if target.name not in ("floor", "beanstalkd"):
        with RespClient(target.port, 60) as client:
            for name in ("work", "doing", "stream"):
                client.command("DEL", name)
            if target.name.startswith("flo"):
                client.command("QCONFIG", "work", "LEASE", LEASE_MS)


def fill(target: Target, count: int, command: str = "LPUSH") -> None:
    """Put messages into the queue."""
    load(target, (command, "work", VALUE), FILL_DEPTH, count)


def push(target: Target, depth: int, requests: int) -> tuple[float, float]:
    """LPUSH."""
    return load(target, ("LPUSH", "work", VALUE), depth, requests)


def add(target: Target, depth: int, requests: int) -> tuple[float, float]:
    """XADD."""
    return load(target, ("XADD", "stream", "*", "field", VALUE), depth, requests)


def pop(target: Target, depth: int, requests: int) -> tuple[float, float]:
    """RPOP from a filled queue; for Redis LMOVE, then LREM."""
    fill(target, requests + CLIENTS * depth)
    if target.name != "redis":
        return load(target, ("RPOP", "work"), depth, requests)
    move, move_cpu = load(target, ("LMOVE", "work", "doing", "RIGHT", "LEFT"), depth, requests)
    remove, remove_cpu = load(target, ("LREM", "doing", "1", VALUE), depth, requests)
    return 1 / (1 / move + 1 / remove), move_cpu + remove_cpu


def plain_pop(target: Target, depth: int, requests: int) -> tuple[float, float]:
    """RPOP, also for Redis: at most once."""
    fill(target, requests + CLIENTS * depth)
    return load(target, ("RPOP", "work"), depth, requests)


Slice = Callable[[Target, int, int], tuple[float, float]]


def cycle(steps: str, seconds: float) -> Slice:
    """A slice of cycles, which ends after `seconds`, not after `requests`."""

    def run(target: Target, depth: int, requests: int) -> tuple[float, float]:
        if "put" not in steps:
            # the payload of cycles.py, so that LREM finds it; more messages than any server can give meanwhile
            count = int((seconds + 0.5) * CYCLES_MAX * min(depth, 4))
            load(target, ("LPUSH", "work", "x" * 64), FILL_DEPTH, count)
        return run_cycles(target, steps, depth, seconds)

    return run


def compare_work(pythons: list[str], args: argparse.Namespace) -> dict[str, object]:
    """Start all servers, measure them in alternating slices, and print."""
    rows: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-compare-", ignore_cleanup_errors=True)))
        (directory / "redis").mkdir()
        redis = stack.enter_context(RedisProcess(directory / "redis", *REDIS_FLAGS["sync"]))
        others = [Target("redis", redis.port, redis.process.pid)]
        flos: list[Target] = []
        acking: list[Target] = []
        for python in pythons:
            name = f"flo-{subprocess.run([python, '-V'], capture_output=True, text=True, check=True).stdout.split()[1]}"
            for targets, auto_ack in ((flos, "false"), (acking, "true")):
                server = FloProcess(directory / f"{name}-{auto_ack}", python=python, environment={"FLO_RESP_AUTO_ACK": auto_ack})
                stack.enter_context(server)
                targets.append(Target(name, server.port, server.pid))
        barest = stack.enter_context(floor(pythons[0], directory, True))
        depths = [int(depth) for depth in args.depths.split(",")]
        plan: list[tuple[str, int, Slice, list[Target]]] = []
        all_of_them = [*flos, *others, barest]
        plan += [("LPUSH", depth, push, all_of_them) for depth in depths]
        plan += [("XADD", depth, add, all_of_them) for depth in depths]
        plan += [("RPOP, leased", depth, pop, all_of_them) for depth in depths]
        plan += [("RPOP, AUTOACK / LMOVE+LREM", depth, pop, [*acking, *others]) for depth in depths]
        plan += [("RPOP, AUTOACK / RPOP", depth, plain_pop, [*acking, *others]) for depth in depths]
        plan += [("lease, ack", depth, cycle("lease,ack", args.seconds), all_of_them) for depth in depths]
        full = [*flos, *others, barest]
        if shutil.which("beanstalkd"):
            full.append(stack.enter_context(beanstalkd(directory / "beanstalkd")))
        plan.append(("put, lease, ack", 1, cycle("put,lease,ack", args.seconds), full))
        median, worst = sync_latency(str(directory))
        print(f"queues and streams, sync: fdatasync of 4 KiB {median:.0f} us median, {worst:.0f} us p99; {CLIENTS} clients", flush=True)
        for title, depth, run, targets in plan:
            wanted = args.commands.split(",")
            if args.commands != "set,get,incr" and not any(word in title.lower() for word in wanted):
                continue
            rates = measure(run, depth, targets, args)
            report(title, depth, targets, rates)
            rows.append({"row": title, "depth": depth, "rates": rates})
    return {"work": rows}


def measure(run: Slice, depth: int, targets: list[Target], args: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """The (rate, CPU us) of each target in each undisturbed round."""
    requests = {}
    for target in targets:
        empty(target)
        rate, _ = run(target, depth, 20_000 * min(depth, 4))
        requests[target.name] = max(int(rate * (args.seconds + 0.3)), 20_000)
    found: dict[str, list[tuple[float, float]]] = {target.name: [] for target in targets}
    settle(targets)
    for _ in range(args.rounds):
        before = stolen()
        measured = {}
        for target in targets:
            empty(target)
            measured[target.name] = run(target, depth, requests[target.name])
        if not disturbed(before):
            for name, figures in measured.items():
                found[name].append(figures)
    return found


def report(title: str, depth: int, targets: list[Target], found: dict[str, list[tuple[float, float]]]) -> None:
    """Print one line for each Flo."""
    middle = {
        t.name: (statistics.median(rate for rate, _ in found[t.name]), statistics.median(cpu for _, cpu in found[t.name]))
        for t in targets
        if found[t.name]
    }
    shown = "  ".join(f"{name} {rate / 1000:.1f} ({cpu:.1f})" for name, (rate, cpu) in middle.items())
    for target in targets:
        if not target.name.startswith("flo-") or not found[target.name]:
            continue
        cells = ""
        for other in targets:
            if not other.name.startswith("flo-"):
                ratios = [a[0] / b[0] for a, b in zip(found[target.name], found[other.name], strict=True)]
                cells += f"  over {other.name} {statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"
        print(f"{title:<27} depth {depth:<3} {target.name:<11}{cells}     {shown}", flush=True)
