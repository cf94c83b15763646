"""The figures of a cluster: three etcd and three Flo on this machine, over the loopback interface (docs/cluster.md, "Figures").

    python3 loadtest/cluster.py [--only throughput,failover,catchup,memory,reads] [--minutes 10] [--rounds 5] [--quick] [--json FILE]

Each part has a cluster of its own, in a temporary directory. With --quick one cluster serves all parts, which are small: that shows that
the tool works, and its figures mean nothing. A median is followed by its bounds (compare.py's `middle_of`). All processes share the
processors and the disk of this machine, with this program.

    throughput  SET of 64 bytes by 50 connections at the leader, 1 and 16 deep, in a closed loop, beside a Redis with two replicas
                (`appendfsync always` on all three). Redis's clients send SET, 1 or 16 of them, and WAIT 1 0 in one write; a request counts
                when WAIT was answered. Slices alternate. A wait is from a batch's send to its last answer
    failover    8 clients write, each at any member, and try again at the next. *killed*: from kill -9 of the leader's process until a
                write that was sent after it is answered. *both*: etcd's leader is killed together with it. *left*: SIGTERM of the leader;
                the longest time without an answered write. *rolling*: all three are restarted, followers first; the same. In the end each
                member must show every acknowledged write
    catchup     a follower is stopped, and 1,000,000 keys are written: more than etcd keeps, so the follower copies another's log. An
                open loop (openloop.py) of 500 SETs a second at the leader shows the waits without it, and from its start until it serves
                the last key itself. Its sleeps add up to a millisecond to a wait. Members tell their lag every 2 s; it is looked at when
                the load has ended
    memory      20 connections, 4 deep, write 100 bytes to 100,000 keys as fast as they can. Each 10 s: the size of etcd's file, resident
                memory and Flo's directories, of the largest of three. Then the second half over the first: the rates' medians, the sizes'
                maxima. The log in etcd reaches its 64 MiB after about a minute, and is trimmed from then on
    reads       CPU us of a GET: a follower, while the leader writes its clock and nothing else, beside a server that is alone, in pairs
                of slices
"""

import argparse
import contextlib
import json
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from flo import Client  # noqa: E402
from loadtest import generator, openloop  # noqa: E402
from loadtest.clusterload import PATIENCE_SECONDS, Writers, disk_bytes, redis_with_replicas, rss_bytes, set_batches  # noqa: E402
from loadtest.compare import CLIENTS, STOLEN_MAX, cpu_seconds, disturbed, middle_of, stolen, sync_latency  # noqa: E402
from loadtest.openloop import quantile  # noqa: E402
from loadtest.workload import Clients  # noqa: E402
from tests.support.faultcluster import FaultCluster, Program  # noqa: E402
from tests.support.processes import FloProcess, wait_until  # noqa: E402

VALUE = b"x" * 64
DEPTHS = (1, 16)
KEYS = 1_000_000  # that SETs choose from
DIFFERENT = 3200  # batches of requests, encoded beforehand
WARM_SECONDS = 0.3
WRITERS = 8
OPEN_RATE = 500  # SETs a second
OPEN_SLEEP_SECONDS = 0.001
LOOK_SECONDS = 0.05
COPY_SECONDS = 600  # that a catch-up may take
MIB = 1 << 20
ETCD_FLAGS = (
    "--quota-backend-bytes", "4294967296", "--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1h",
    "--snapshot-count", "10000",
)  # fmt: skip

Figures = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int = 5
    slice_seconds: float = 2.0
    times: int = 10  # that a leader is killed, or told to leave
    keys: int = 1_000_000  # written while a follower is stopped
    keep_bytes: int = 0  # of the log, in etcd; 0: as much as ever
    calm_seconds: float = 10.0
    memory_seconds: float = 600.0
    memory_step_seconds: float = 10.0
    memory_keys: int = 100_000
    pairs: int = 200


QUICK = Sizes(
    rounds=1, slice_seconds=0.2, times=1, keys=16_000, keep_bytes=200_000, calm_seconds=0.5, memory_seconds=1.0, memory_step_seconds=0.25,
    memory_keys=1000, pairs=4,
)  # fmt: skip


def start_cluster(directory: Path, sizes: Sizes) -> FaultCluster:
    """A cluster to measure."""
    return FaultCluster(directory, forward=True, plain=True, keep_bytes=sizes.keep_bytes, etcd_flags=ETCD_FLAGS)


def leader_of(cluster: FaultCluster) -> Program:
    """The member that leads, as soon as one does."""
    leader: Program = wait_until(cluster.leader, "a leader", PATIENCE_SECONDS)
    return leader


def follower_of(cluster: FaultCluster) -> Program:
    """The first member that follows."""
    leader = leader_of(cluster)
    return next(flo for flo in cluster.flos if flo is not leader)


def show(values: tuple[float, float, float], places: int = 0) -> str:
    """A median and its bounds."""
    return "{:,.{p}f} [{:,.{p}f}..{:,.{p}f}]".format(*values, p=places)


# -- throughput ------------------------------------------------------------------------------------


def throughput(cluster: FaultCluster, sizes: Sizes) -> list[Figures]:
    """SETs at the leader, beside Redis."""
    median, worst = sync_latency(str(cluster.directory))
    print(f"throughput: SET of {len(VALUE)} bytes, {CLIENTS} connections, slices of {sizes.slice_seconds:g} s; ", end="")
    print(f"fdatasync of 4 KiB {median:.0f} us median, {worst:.0f} us p99")
    with redis_with_replicas(cluster.directory / "redis") as redis:
        return [compare_sets({"flo": leader_of(cluster).port, "redis": redis.port}, depth, sizes) for depth in DEPTHS]


def compare_sets(ports: dict[str, int], depth: int, sizes: Sizes) -> Figures:
    """Alternating slices of both at one depth."""
    chance = random.Random(1)
    keys = [generator.key_of(chance.randrange(KEYS)) for _ in range(DIFFERENT * depth)]
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ports}  # of each slice: requests/s, p50, p99
    noisy = 0
    with contextlib.ExitStack() as stack:
        loads = {}
        for name, port in ports.items():
            loads[name] = Clients(port, set_batches(keys, VALUE, depth, wait_for_replica=name == "redis"), depth, waits=array("d"))
            stack.callback(loads[name].close)
            loads[name].run(WARM_SECONDS)
        for number in range(sizes.rounds):
            before = stolen()
            for name in (*ports,) if number % 2 else (*reversed(ports),):
                rows[name].append(measure_slice(loads[name], sizes.slice_seconds))
            noisy += disturbed(before)
    ratio = middle_of([flo[0] / redis[0] for flo, redis in zip(rows["flo"], rows["redis"], strict=True)])
    cells = []
    for name, figures in rows.items():
        rate, p50, p99 = (middle_of([each[at] for each in figures]) for at in range(3))
        cells.append(f"{name} {show(rate)} /s, p50 {p50[0] * 1000:.1f} ms, p99 {p99[0] * 1000:.1f} ms")
    print(f"SET depth {depth:<3} flo over redis {show(ratio, 2)}   {'   '.join(cells)}   {sizes.rounds} rounds", end="")
    print(f", in {noisy} more than {STOLEN_MAX:.0%} of the CPU was stolen" if noisy else "", flush=True)
    return {"depth": depth, "ratio": ratio, "disturbed": noisy, "slices": rows}


def measure_slice(load: Clients, seconds: float) -> tuple[float, float, float]:
    """(requests a second, median and 99th percentile of the waits in seconds)."""
    waits = load.waits = array("d")
    done, took = load.run(seconds)
    ordered = sorted(waits)
    return done / took, quantile(ordered, 0.5), quantile(ordered, 0.99)


# -- failover --------------------------------------------------------------------------------------


def failover(cluster: FaultCluster, sizes: Sizes) -> Figures:
    """How long nothing is written when leaders end."""
    told: Figures = {}
    with Writers(cluster, WRITERS) as writers:
        for name, once in (("killed", kill_leader), ("both", kill_both), ("left", leave)):
            seconds = []
            for _ in range(sizes.times):
                seconds.append(once(cluster, writers))
                cluster.heal()
                recover(cluster)
            told[name] = seconds
            median, worst = statistics.median(seconds), max(seconds)
            print(f"failover: {name:<8} median {median:.2f} s, worst {worst:.2f} s of {len(seconds)}", flush=True)
        told["rolling"] = restart_all(cluster, writers)
        print(f"failover: rolling  longest time without an answered write {told['rolling']:.2f} s")
    cluster.settle("the end of the writers")
    told["acknowledged"] = sum(writers.acknowledged)
    told["lost"] = {flo.name: writers.lost(flo) for flo in cluster.flos}
    lost = ", ".join(f"{name} has lost {len(keys)}" for name, keys in told["lost"].items() if keys)
    print(f"failover: {told['acknowledged']:,} acknowledged writes; {lost or 'no member has lost any'}", flush=True)
    return told


def recover(cluster: FaultCluster) -> None:
    """Wait until all members of etcd and of Flo are well, and have everything."""
    wait_until(cluster.etcd_is_well, "one leader of etcd", PATIENCE_SECONDS)
    cluster.settle(f"{time.monotonic()}")


def kill_leader(cluster: FaultCluster, writers: Writers) -> float:
    """kill -9 of the leader: the seconds until another has answered a write."""
    return kill(writers, leader_of(cluster))


def kill_both(cluster: FaultCluster, writers: Writers) -> float:
    """The same, and of etcd's leader."""
    return kill(writers, leader_of(cluster), cluster.leader_of_etcd())


def kill(writers: Writers, *programs: Program) -> float:
    """kill -9 of them all at once: the seconds until a write that was sent after it is answered."""
    for program in programs:
        program.signal(signal.SIGKILL)
    killed = time.monotonic()
    for program in programs:
        program.kill()
    return writers.answered_after(killed) - killed


def leave(cluster: FaultCluster, writers: Writers) -> float:
    """SIGTERM of the leader: the longest time without an answered write until it has ended."""
    leader = leader_of(cluster)
    began = time.monotonic()
    leader.end()
    leader.wait()
    return writers.longest_gap(began, writers.answered_after(time.monotonic()))


def restart_all(cluster: FaultCluster, writers: Writers) -> float:
    """Restart one member after the other, the leader last: the longest time without an answered write."""
    leader = leader_of(cluster)
    began = time.monotonic()
    for flo in (*(flo for flo in cluster.flos if flo is not leader), leader):
        flo.end()
        flo.start()
        recover(cluster)
    return writers.longest_gap(began, writers.answered_after(time.monotonic()))


# -- catchup ---------------------------------------------------------------------------------------


def catchup(cluster: FaultCluster, sizes: Sizes) -> Figures:
    """A follower that was away, and what its return costs those who write."""
    leader, follower = leader_of(cluster), follower_of(cluster)
    follower.end()
    follower.wait()
    batch = max(DEPTHS)
    writers = Clients(leader.port, set_batches([b"missed:%d" % number for number in range(sizes.keys)], VALUE, batch), batch, once=True)
    written, took = writers.run(COPY_SECONDS)
    writers.close()
    print(f"catchup: {written:,} SETs, 50 connections, {batch} deep, in {took:.1f} s", flush=True)
    cluster.ask(leader, "SET", "last", "key", timeout=PATIENCE_SECONDS)
    source = next(flo for flo in cluster.flos if flo not in (leader, follower))
    with Client(f"flo://{source.host}:{source.port}") as client:
        copied = sum(json.loads(client.cluster.fetch("", 0))["files"].values())
    chance = random.Random(1)
    requests = [generator.resp(b"SET", generator.key_of(chance.randrange(KEYS)), VALUE) for _ in range(openloop.PREPARED)]
    load = openloop.Load(leader.port, requests, 1, OPEN_RATE, CLIENTS, OPEN_SLEEP_SECONDS)
    with contextlib.closing(load), ThreadPoolExecutor(1) as pool:
        load.run(load.began + openloop.SETTLE_SECONDS)
        load.waits = array("d")
        load.run(time.perf_counter() + sizes.calm_seconds)
        calm, load.waits = sorted(load.waits), array("d")
        before = len(follower.output())
        began = time.perf_counter()
        follower.start()
        served = pool.submit(serves_last, cluster, follower, began + COPY_SECONDS)
        while not served.done():
            load.run(time.perf_counter() + LOOK_SECONDS)
            if load.overrun:
                raise RuntimeError(f"the leader has stopped reading: {OPEN_RATE} SETs a second are too many for it")
        meanwhile, serves_seconds, said = sorted(load.waits), served.result() - began, follower.output()[before:]
        load.run(time.perf_counter() + openloop.DRAIN_SECONDS, sending=False)
    wait_until(lambda: lag_of(cluster, leader, follower) == 0, f"the end of {follower.name}'s lag", PATIENCE_SECONDS)
    told = {
        "written": written,
        "copied_bytes": copied if "cluster: copied the log" in said else 0,
        "serves_seconds": serves_seconds,
        "lag_0_seconds": time.perf_counter() - began,
        "calm_p99_ms": quantile(calm, 0.99) * 1000,
        "meanwhile_p99_ms": quantile(meanwhile, 0.99) * 1000,
    }
    told["ratio"] = told["meanwhile_p99_ms"] / told["calm_p99_ms"]
    print_catchup(told, len(calm), len(meanwhile))
    return told


def serves_last(cluster: FaultCluster, follower: Program, deadline: float) -> float:
    """When that member first served the last key. Raises `TimeoutError`."""
    while not cluster.shows(follower, "last", "key"):
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{follower.name} has not caught up in {COPY_SECONDS} s: {follower.output()[-1000:]}")
        time.sleep(LOOK_SECONDS)
    return time.perf_counter()


def lag_of(cluster: FaultCluster, leader: Program, member: Program) -> int | None:
    """How many records that member is behind, as cluster_status has it; None if it is not known."""
    with Client(f"flo://{leader.host}:{leader.port}") as client:
        lags: dict[str, int] = {each["node"]: each["lag"] for each in client.cluster.status()["members"]}
    return lags.get(member.name)


def print_catchup(told: Figures, calm: int, meanwhile: int) -> None:
    """Print the figures of `catchup`, and of how many SETs they are."""
    copied = f"{told['copied_bytes'] / MIB:.0f} MiB copied" if told["copied_bytes"] else "nothing copied: etcd had all of it"
    print(f"catchup: serves the last key after {told['serves_seconds']:.1f} s, lag 0 seen after {told['lag_0_seconds']:.1f} s; {copied}")
    print(f"catchup: p99 of {OPEN_RATE} SETs a second: {told['calm_p99_ms']:.1f} ms without it (of {calm}), ", end="")
    print(f"{told['meanwhile_p99_ms']:.1f} ms meanwhile (of {meanwhile}): {told['ratio']:.2f} times", flush=True)


# -- memory ----------------------------------------------------------------------------------------

COLUMNS = ("etcd_db", "etcd_rss", "flo_rss", "flo_disk")


def memory(cluster: FaultCluster, sizes: Sizes) -> Figures:
    """What grows under writes without end to a bounded set of keys."""
    keys = [generator.key_of(number) for number in range(sizes.memory_keys)]
    random.Random(1).shuffle(keys)
    load = Clients(leader_of(cluster).port, set_batches(keys, b"x" * 100, 4), 4, 20)
    print(f"memory: MiB of the largest of three, under writes to {sizes.memory_keys:,} keys of 100 bytes, 20 connections, 4 deep")
    print("".join(f"{title:>12}" for title in ("s", "writes/s", "etcd's file", "etcd's RSS", "Flo's RSS", "Flo's disk")))
    samples = []
    began = time.monotonic()
    with contextlib.closing(load):
        while time.monotonic() < began + sizes.memory_seconds:
            done, took = load.run(sizes.memory_step_seconds)
            samples.append({"seconds": time.monotonic() - began, "writes": done / took, **weigh(cluster)})
            sample = samples[-1]
            cells = "".join(f"{sample[name] / MIB:12.0f}" for name in COLUMNS)
            print(f"{sample['seconds']:12.0f}{sample['writes']:12,.0f}{cells}", flush=True)
    growth = growth_of(samples)
    print(f"{'2nd / 1st':>12}" + "".join(f"{growth[name]:12.2f}" for name in ("writes", *COLUMNS)), flush=True)
    return {"samples": samples, "growth": growth}


def growth_of(samples: list[dict[str, float]]) -> dict[str, float]:
    """The second half over the first: of the rates the medians, of the sizes the maxima."""
    first, second = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    growth = {name: max(each[name] for each in second) / max(each[name] for each in first) for name in COLUMNS}
    growth["writes"] = statistics.median(each["writes"] for each in second) / statistics.median(each["writes"] for each in first)
    return growth


def weigh(cluster: FaultCluster) -> dict[str, int]:
    """COLUMNS, in bytes."""
    told = wait_until(cluster.etcd_status, "etcd's status", PATIENCE_SECONDS)
    return {
        "etcd_db": max(each["Status"]["dbSize"] for each in told),
        "etcd_rss": max(rss_bytes(etcd.pid) for etcd in cluster.etcds),
        "flo_rss": max(rss_bytes(flo.pid) for flo in cluster.flos),
        "flo_disk": max(disk_bytes(cluster.directory / flo.name) for flo in cluster.flos),
    }


# -- reads -----------------------------------------------------------------------------------------


def reads(cluster: FaultCluster, sizes: Sizes) -> list[Figures]:
    """GETs at a follower, beside a server that is alone."""
    print(f"reads: CPU us of a GET of {len(VALUE)} bytes, {CLIENTS} connections", flush=True)
    with FloProcess(cluster.directory / "alone") as alone:
        follower = follower_of(cluster)
        servers = {"follower": (follower.port, follower.pid), "alone": (alone.port, alone.pid)}
        for port in (leader_of(cluster).port, alone.port):
            fill(port)
        cluster.settle("filled")
        return [compare_gets(servers, depth, sizes.pairs) for depth in DEPTHS]


def fill(port: int) -> None:
    """Write each key that a GET of any depth will ask for: the deepest has those of the others too."""
    depth = max(DEPTHS)
    with contextlib.closing(generator.prepare(port, "resp", "put", depth, CLIENTS, KEYS, VALUE)) as load:
        while load.done < (len(load.batches) + CLIENTS) * depth:  # so many may be under way
            load.run(0.1)


def compare_gets(servers: dict[str, tuple[int, int]], depth: int, pairs: int) -> Figures:
    """Pairs of slices, of which none is counted in which much CPU was stolen, unless there is no other."""
    costs: dict[bool, list[dict[str, float]]] = {noisy: [] for noisy in (False, True)}
    with contextlib.ExitStack() as stack:
        loads = {}
        for name, (port, _) in servers.items():
            loads[name] = generator.prepare(port, "resp", "get", depth, CLIENTS, KEYS, VALUE)
            stack.callback(loads[name].close)
            loads[name].run(WARM_SECONDS)
        for number in range(pairs):
            before, pair = stolen(), {}
            for name in (*servers,) if number % 2 else (*reversed(servers),):
                spent = cpu_seconds(servers[name][1])
                done, _ = loads[name].run(0.1)
                pair[name] = (cpu_seconds(servers[name][1]) - spent) / done * 1e6
            costs[disturbed(before)].append(pair)
    counted = costs[False] or costs[True]
    ratio = middle_of([pair["follower"] / pair["alone"] for pair in counted])
    shown = ", ".join(f"{name} {statistics.median(pair[name] for pair in counted):.2f} us" for name in servers)
    print(f"GET depth {depth:<3} follower over alone {show(ratio, 3)}   {shown}   {len(counted)} pairs", end="")
    print("" if costs[False] else " DISTURBED", flush=True)
    return {"depth": depth, "ratio": ratio, "disturbed": not costs[False], "pairs": counted}


# -- the program -----------------------------------------------------------------------------------

PARTS: dict[str, Callable[[FaultCluster, Sizes], Any]] = {
    "throughput": throughput,
    "failover": failover,
    "catchup": catchup,
    "memory": memory,
    "reads": reads,
}


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description="The figures of a cluster of three on this machine.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=10, help="of writes, for memory")
    parser.add_argument("--rounds", type=int, default=5, help="slices of each server, for throughput")
    parser.add_argument("--quick", action="store_true", help="small, to try this program")
    parser.add_argument("--json", help="write every figure to this file")
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; take some of {', '.join(PARTS)}")
    missing = [program for program in ("etcd", "etcdctl", "redis-server") if shutil.which(program) is None]
    if missing:
        print(f"{missing[0]} is missing: apt-get install etcd-server etcd-client redis-server", file=sys.stderr)
        return 1
    sizes = QUICK if args.quick else replace(Sizes(), memory_seconds=args.minutes * 60, rounds=args.rounds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is ended and removed
    told = {}
    for together in [parts] if args.quick else [[part] for part in parts]:
        with tempfile.TemporaryDirectory(prefix="flo-cluster-") as directory, start_cluster(Path(directory) / "cluster", sizes) as cluster:
            for part in together:
                told[part] = PARTS[part](cluster, sizes)
    if args.json:
        Path(args.json).write_text(json.dumps(told, indent=1))
    lost = told.get("failover", {}).get("lost", {})
    return 1 if any(lost.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
