"""Flo's time series beside InfluxDB 1.x and VictoriaMetrics, on this machine, in one run.

    python3 loadtest/compare_ts.py [--parts ingest,series,queries] [--rounds 5] [--points 1000000] [--python PATH] [--json FILE]
    python3 loadtest/compare_ts.py --ten-million …      restart, memory and queries with ten times the points as well

    ingest    a million points a round over HTTP (/write) in bodies of 5,000 lines; 1,000 series of one field, from one connection and
              from four, each with series of its own; and 1,000 series in 200 lines of five fields
    series    Flo alone: the same with 100,000 series, beside 1,000 in a second server
    queries   a million points of ten series, a second apart, sealed: windows of a minute, and what they take on disk and in memory;
              then the last hour of one series of 10,000

The lines are Telegraf's, in ns: `cpu,cpu=cpu-total,host=web-00042,region=eu-west usage_user=12.345 …`. Values are gauges of three decimals
that move by at most 1.0 from point to point, in 0 to 100; the points of a series follow each other at a regular interval. Bodies are made
before the clock starts. Rounds go on where the last one ended, so all but the first find the series there and have sealing, flushing and
merging to do; each server has time to end that before the next is measured.

Flo runs with durability `sync`, InfluxDB with a WAL that is synced at each write (its default, wal-fsync-delay 0s). VictoriaMetrics syncs
no write and stands beside them as a ceiling. Before the queries InfluxDB's cache is flushed and each shard merged to one generation of
files, VictoriaMetrics is flushed and merged, and Flo's log is compacted. The time of a query is the client's, from the request to the
last byte of the answer. Answers must agree in the number of values and their sum, but for VictoriaMetrics's percentiles: it interpolates.

A row's ratio is the median of the rounds' ratios, Flo's value over InfluxDB's in the same round, followed by the lowest and the highest. A
round with more than 5 % of the CPU stolen is dropped, where there is another. "others" is the share of the machine's CPU that other
processes took: over some 5 % the figures are theirs as well. "client" is how busy the client was, at most.
"""

import argparse
import contextlib
import gc
import http.client
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from flo.engine import Engine  # noqa: E402
from loadtest.compare import cpu_seconds, disturbed, stolen, sync_latency  # noqa: E402
from loadtest.mix import busy_seconds, version_of  # noqa: E402
from loadtest.ts_servers import Flo, Influx, Question, Server, Victoria  # noqa: E402

CORES = 2
LINES = 5_000  # of a body
START_MS = 604_800_000 * 2811  # the begin of a week: InfluxDB's shards are weeks
MINUTE, HOUR = 60_000, 3_600_000
LAST_POINTS = 180  # of each series where one is asked for its last hour: three hours, a minute apart
LAST_ASKED = 50  # times in one slice
PROGRAMS = ("influxd", "victoria-metrics")


@dataclass
class Figure:
    """What was measured of one server in one slice."""

    value: float = 0.0
    cpu: float = 0.0  # the server's: us for each point written, ms for each answer, s for a restart
    client: float = 0.0  # the share of the time in which the client was busy
    others: float = 0.0  # the share of the machine's CPU that other processes took


class Slice:
    """Measures what happens between `with` and its end."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seconds = self.cpu = self.client = self.others = 0.0

    def __enter__(self) -> "Slice":
        self._before = busy_seconds(), cpu_seconds(self.server.pid), time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        busy, cpu, own, began = self._before
        self.seconds = time.perf_counter() - began
        own, self.cpu = time.process_time() - own, cpu_seconds(self.server.pid) - cpu
        self.client = own / self.seconds
        self.others = max(busy_seconds() - busy - self.cpu - own, 0) / self.seconds / CORES

    def of_points(self, points: int) -> Figure:
        """The figure of a slice in which so many points were written: thousands a second."""
        return Figure(points / self.seconds / 1000, self.cpu / points * 1e6, self.client, self.others)

    def of_answers(self, times: int) -> Figure:
        """The figure of a slice in which a question was answered so many times: ms for each."""
        return Figure(self.seconds / times * 1000, self.cpu / times * 1000, self.client, self.others)


Found = dict[str, list[Figure]]


@dataclass
class Row:
    """One thing that was measured: every server's figures, round by round."""

    title: str
    unit: str
    figures: Found
    target: str = ""  # "<=" or ">=" and a number, of the ratio; of Flo's value if there is no ratio
    over: str = ""  # the server that Flo is compared with; empty for none
    disturbed: bool = False  # no round was quiet

    def middle(self, name: str) -> float:
        """The median of a server's values."""
        return statistics.median(each.value for each in self.figures[name])

    @property
    def ratios(self) -> list[float]:
        """Flo's value over the other's, round by round."""
        return [a.value / b.value for a, b in zip(self.figures["flo"], self.figures[self.over], strict=True)] if self.over else []

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if not self.target:
            return None
        value = statistics.median(self.ratios) if self.over else self.middle("flo")
        bound = float(self.target[2:])
        return value <= bound if self.target.startswith("<=") else value >= bound

    def show(self) -> str:
        """One line."""
        ratio = ""
        if self.over:
            ratio = f"{statistics.median(self.ratios):.2f} [{min(self.ratios):.2f}..{max(self.ratios):.2f}]"
        judged = "" if self.met is None else f"{self.target} {'met' if self.met else 'MISSED'}"
        servers = []
        for name, figures in self.figures.items():
            value, cpu = self.middle(name), statistics.median(each.cpu for each in figures)
            servers.append(f"{name} {value:,.{0 if value >= 100 else 2}f}" + (f" ({cpu:,.{0 if cpu >= 100 else 2}f})" if cpu else ""))
        every = [each for figures in self.figures.values() for each in figures]
        client, others = max(each.client for each in every), statistics.median(each.others for each in every)
        noise = f"   client {client:.0%} others {others:.0%}{'   DISTURBED' * self.disturbed}" if client else ""
        return f"{self.title:<46} {ratio:<20} {judged:<15} {self.unit:<11} {'   '.join(servers)}{noise}"


class Report:
    """The rows, each printed as it is there."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Print a row and keep it."""
        self.rows.append(row)
        print(row.show(), flush=True)


class Gauges:
    """Series that an agent reports at a regular interval: a line for each of `count` hosts, with a walk of its own in each field."""

    def __init__(self, measurement: str, fields: Sequence[str], count: int, interval: int) -> None:
        regions = ("eu-west", "eu-north", "us-east", "us-west")
        self.heads = [f"{measurement},cpu=cpu-total,host=web-{number:05},region={regions[number % 4]} ".encode() for number in range(count)]
        names = [f"{name}=".encode() for name in fields]
        self.line = b"%b" + b",".join(name + b"%d.%03d" for name in names) + b" %d\n"
        self.fields = len(fields)
        self.interval = interval  # ms
        self.now = START_MS
        self.chance = random.Random(26)
        self.state = [[self.chance.randrange(100_000) for _ in fields] for _ in range(count)]

    def bodies(self, points: int, agents: int) -> list[list[bytes]]:
        """The next `points` points in bodies of LINES lines, for each agent, which has its part of the hosts."""
        share = -(-len(self.heads) // agents)
        ticks = max(points // self.fields // len(self.heads), 1)
        made = [self._bodies(first, min(first + share, len(self.heads)), ticks) for first in range(0, len(self.heads), share)]
        self.now += ticks * self.interval
        return made

    def _bodies(self, first: int, end: int, ticks: int) -> list[bytes]:
        found, lines, line = [], [], self.line
        steps = iter(self.chance.choices(range(-1000, 1001), k=(end - first) * ticks * self.fields))
        for at in range(ticks):
            stamp = (self.now + at * self.interval) * 10**6
            for host in range(first, end):
                state = self.state[host]
                numbers: list[int] = []
                for number, value in enumerate(state):
                    value = min(max(value + next(steps), 0), 100_000)
                    state[number] = value
                    numbers += divmod(value, 1000)
                lines.append(line % (self.heads[host], *numbers, stamp))
                if len(lines) == LINES:
                    found.append(b"".join(lines))
                    lines = []
        if lines:
            found.append(b"".join(lines))
        return found


def send(server: Server, shares: list[list[bytes]]) -> Slice:
    """Write all bodies, each share from a connection of its own. Their threads hold the interpreter's lock for a fiftieth of the time."""
    barrier = threading.Barrier(len(shares) + 1)
    failed: list[BaseException] = []

    def run(bodies: list[bytes], connection: http.client.HTTPConnection) -> None:
        try:
            barrier.wait()
            for body in bodies:
                server.write(connection, body)
        except (OSError, SystemExit, http.client.HTTPException) as e:
            failed.append(e)

    with contextlib.ExitStack() as stack:
        threads = []
        for bodies in shares:
            connection = server.connect()
            stack.callback(connection.close)
            connection.connect()
            threads.append(threading.Thread(target=run, args=(bodies, connection)))
            threads[-1].start()
        with Slice(server) as measured:
            barrier.wait()
            for thread in threads:
                thread.join()
    if failed:
        raise SystemExit(f"{server.name}: {failed[0]}")
    return measured


def alternate(
    servers: Sequence[Server], rounds: int, measure: Callable[[Server], Figure], prepare: Callable[[], object]
) -> tuple[Found, bool]:
    """Measure all in turn, round by round; the one that goes first alternates. Returns (the figures of the quiet rounds, False), or those
    of all and True."""
    found: dict[bool, Found] = {noisy: {server.name: [] for server in servers} for noisy in (False, True)}
    for number in range(rounds):
        prepare()
        before = stolen()
        measured = {server.name: measure(server) for server in servers[:: -1 if number % 2 else 1]}
        for name, figures in found[disturbed(before)].items():
            figures.append(measured[name])
    noisy = not found[False][servers[0].name]
    return found[noisy], noisy


def start_all(stack: contextlib.ExitStack, args: argparse.Namespace, compacting: bool = False) -> list[Server]:
    """The three servers, on directories of their own. `compacting` is InfluxDB's."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-ts-", ignore_cleanup_errors=True)))
    servers: list[Server] = [
        Flo(directory / "flo", args.python),
        Influx(directory / "influxdb", compacting),
        Victoria(directory / "victoria"),
    ]
    for server in servers:
        stack.enter_context(server)
    return servers


def ingest_rounds(servers: Sequence[Server], gauges: dict[str, Gauges], agents: int, args: argparse.Namespace) -> tuple[Found, bool]:
    """Points a second of rounds that alternate. `gauges` is by the server's name; servers with the same share their bodies."""
    bodies: dict[int, list[list[bytes]]] = {}

    def prepare() -> None:
        bodies.clear()
        for each in {id(each): each for each in gauges.values()}.values():
            bodies[id(each)] = each.bodies(args.points, agents)

    def measure(server: Server) -> Figure:
        mine = gauges[server.name]
        shares = bodies[id(mine)]
        points = sum(body.count(b"\n") for share in shares for body in share) * mine.fields
        measured = send(server, shares)
        server.settle()
        return measured.of_points(points)

    return alternate(servers, args.rounds, measure, prepare)


def ingest(args: argparse.Namespace, report: Report) -> None:
    """The rows of `ingest`."""
    five = ("usage_user", "usage_system", "usage_idle", "usage_iowait", "usage_steal")
    kinds = (
        (1, f"{args.series:,} series, 1 connection", "cpu", five[:1], args.series),
        (4, f"{args.series:,} series, 4 connections", "cpu", five[:1], args.series),
        (1, f"{args.series:,} series, 5 fields a line", "cpu_all", five, args.series // 5),
    )
    with contextlib.ExitStack() as stack:
        servers = start_all(stack, args)
        made: dict[str, Gauges] = {}
        for agents, title, measurement, fields, count in kinds:
            gauges = made.get(measurement)
            if gauges is None:
                gauges = made[measurement] = Gauges(measurement, fields, count, 10_000)
                warm = gauges.bodies(args.points // 10, 1)  # series that are there, code that has run
                for server in servers:
                    send(server, warm)
                    server.settle()
            figures, noisy = ingest_rounds(servers, dict.fromkeys((server.name for server in servers), gauges), agents, args)
            report.add(Row(f"ingest, {title}", "k points/s", figures, ">=0.8", "influxdb", noisy))
        for measurement, gauges in made.items():
            check_counts(servers, measurement, five[0], gauges)


def up_to(time_ms: int, window: int) -> int:
    """The end of the window that holds the ms before this time."""
    return -(-time_ms // window) * window


def check_counts(servers: Sequence[Server], measurement: str, name: str, gauges: Gauges) -> None:
    """All have the same points of a field in the last hour that was written."""
    for server in servers:
        server.flush()
    end = up_to(gauges.now, MINUTE)
    question = Question(measurement, name, max(end - HOUR, START_MS), end, MINUTE)
    agree(servers, question, answers_of(servers, question))


def series(args: argparse.Namespace, report: Report) -> None:
    """The row of `series`."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flo-ts-", ignore_cleanup_errors=True)))
        many, few = Flo(directory / "many", args.python), Flo(directory / "few", args.python)
        few.name = f"{args.series:,} series"
        gauges = {}
        for server, count in ((many, args.many), (few, args.series)):
            stack.enter_context(server)
            gauges[server.name] = Gauges("cpu", ("usage_user",), count, 10_000)
            warm = gauges[server.name].bodies(count, 1)
            began = send(server, warm)
            server.settle()
            if server is many:
                report.add(Row(f"{count:,} new series", "k series/s", {"flo": [began.of_points(count)]}))
        figures, noisy = ingest_rounds([many, few], gauges, 1, args)
        report.add(Row(f"ingest, {args.many:,} series", "k points/s", figures, ">=0.7", few.name, noisy))


def answers_of(servers: Sequence[Server], question: Question) -> dict[str, bytes]:
    """Every server's answer."""
    answers = {}
    for server in servers:
        with contextlib.closing(server.connect()) as connection:
            answers[server.name] = server.ask(connection, server.request(question))
    return answers


def agree(servers: Sequence[Server], question: Question, answers: dict[str, bytes]) -> int:
    """How many values each answer has. Ends the run if the answers differ."""
    found = {server.name: server.sum_of(answers[server.name]) for server in servers}
    count, total = found["influxdb"]
    for name, (other_count, other) in found.items():
        exact = not (question.percentile and name == "victoria")
        if not count or other_count != count or (exact and abs(other - total) > 1e-9 * abs(total)):
            raise SystemExit(f"the answers to {question} differ: {found}")
    return count


def ask_all(
    servers: Sequence[Server], title: str, question: Question, target: str, times: int, args: argparse.Namespace, report: Report
) -> None:
    """The row of a question: ms for one answer, of `times` in a slice. Its first answers are compared, and not measured."""
    count = agree(servers, question, answers_of(servers, question))

    def measure(server: Server) -> Figure:
        request = server.request(question)
        with contextlib.closing(server.connect()) as connection:
            connection.connect()
            with Slice(server) as measured:
                for _ in range(times):
                    server.ask(connection, request)
        return measured.of_answers(times)

    figures, noisy = alternate(servers, args.rounds, measure, lambda: None)
    report.add(Row(f"{title} ({count:,} values)", "ms", figures, target, "influxdb", noisy))


def fill(servers: Sequence[Server], gauges: Gauges, points: int, step: int) -> None:
    """Write so many points, `step` at a time, without a clock."""
    for _ in range(0, points, step):
        bodies = gauges.bodies(min(step, points), 1)
        for server in servers:
            send(server, bodies)


def compact_all(servers: Sequence[Server]) -> None:
    """Bring all into their last form on disk."""
    for server in servers:
        server.settle()
        server.compact()


def heap_bytes(directory: Path) -> int:
    """Bytes that an engine takes on the heap for what is in a directory of Flo's, by tracemalloc, beside an engine of an empty one. No
    server may be using it. The engine has loaded all."""
    sizes = []
    with tempfile.TemporaryDirectory(prefix="flo-ts-") as empty:
        for place in (Path(empty) / "data", Path(empty) / "data", directory):  # what the first imports is not counted
            tracemalloc.start()
            with Engine(str(place)):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
    return sizes[2] - sizes[1]


def one(value: float) -> list[Figure]:
    """The figures of what was measured once."""
    return [Figure(value)]


def queries(args: argparse.Namespace, report: Report) -> None:
    """The rows of `queries`."""
    hosts = max(args.points // 100, 10)
    with contextlib.ExitStack() as stack:
        servers = start_all(stack, args, compacting=True)
        gauges = Gauges("cpu", ("usage_user",), 10, 1000)
        fill(servers, gauges, args.points, args.points)
        compact_all(servers)
        report.add(
            Row(
                "on disk, compacted", "bytes/point", {each.name: one(each.disk_bytes() / args.points) for each in servers}, "<=6", "",
            )
        )  # fmt: skip
        flo = servers[0]
        assert isinstance(flo, Flo)
        flo.stop()
        report.add(Row("Flo's heap", "bytes/point", {"flo": one(heap_bytes(flo.directory) / args.points)}, "<=4"))
        flo.start()
        flo.wait_ready()
        flo.settle()
        whole = Question("cpu", "usage_user", START_MS, up_to(gauges.now, HOUR), MINUTE)
        ask_all(servers, "window(1m) | avg()", whole, "<=0.5", 1, args, report)
        ask_all(servers, "window(1m) | percentile(99)", whole._replace(percentile=99), "<=0.3", 1, args, report)
        ask_all(servers, "window(1h) | avg()", whole._replace(window=HOUR), "", 1, args, report)
        minutely = Gauges("mem", ("used_percent",), hosts, MINUTE)
        fill(servers, minutely, hosts * LAST_POINTS, min(args.points, hosts * LAST_POINTS))
        compact_all(servers)
        last = Question("mem", "used_percent", minutely.now - HOUR, minutely.now, 0, 0, f"web-{hosts // 2:05}")
        ask_all(servers, f"last hour of 1 of {hosts:,} series", last, "<=1.0", LAST_ASKED, args, report)


def ten_million(args: argparse.Namespace, report: Report) -> None:
    """The rows with ten times the points."""
    points = 10 * args.points
    with contextlib.ExitStack() as stack:
        servers = start_all(stack, args, compacting=True)
        gauges = Gauges("cpu", ("usage_user",), args.series, 10_000)
        fill(servers, gauges, points, args.points)
        compact_all(servers)
        report.add(Row(f"{points:,}: on disk, compacted", "bytes/point", {each.name: one(each.disk_bytes() / points) for each in servers}))

        def measure(server: Server) -> Figure:
            seconds = server.restart()
            return Figure(seconds, cpu_seconds(server.pid))

        figures, noisy = alternate(servers, args.rounds, measure, lambda: None)
        report.add(Row(f"{points:,}: restart", "s", figures, "<=1.5", "", noisy))
        for server in servers:
            server.settle()
        report.add(Row(f"{points:,}: memory after a restart", "MB", {each.name: one(each.rss_bytes() / 1e6) for each in servers}))
        whole = Question("cpu", "usage_user", START_MS, up_to(gauges.now, HOUR), HOUR)
        first_hour = whole._replace(end=START_MS + HOUR, window=MINUTE)  # Flo gives at most 100,000 values in an answer
        ask_all(servers, "  window(1h) | avg(), all", whole, "<=0.5", 1, args, report)
        ask_all(servers, "  window(1h) | percentile(99), all", whole._replace(percentile=99), "<=0.3", 1, args, report)
        ask_all(servers, "  window(1m) | avg(), 1 h", first_hour, "<=0.5", 1, args, report)
        ask_all(servers, "  window(1m) | percentile(99), 1 h", first_hour._replace(percentile=99), "<=0.3", 1, args, report)
        last = Question("cpu", "usage_user", gauges.now - HOUR, gauges.now, 0, 0, f"web-{args.series // 2:05}")
        ask_all(servers, f"  last hour of 1 of {args.series:,} series", last, "<=1.0", LAST_ASKED, args, report)


PARTS: dict[str, Callable[[argparse.Namespace, Report], None]] = {"ingest": ingest, "series": series, "queries": queries}


def main() -> int:
    """Run the parts."""
    parser = argparse.ArgumentParser(description="Flo's time series beside InfluxDB 1.x and VictoriaMetrics.")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--ten-million", action="store_true", help="also restart, memory and queries with ten times the points")
    parser.add_argument("--rounds", type=int, default=5, help="slices of each server")
    parser.add_argument("--points", type=int, default=1_000_000, help="points of a round, and of the queries")
    parser.add_argument("--series", type=int, default=1_000, help="series that take them")
    parser.add_argument("--many", type=int, default=100_000, help="series of the part `series`")
    parser.add_argument("--python", default=sys.executable, help="the Python that Flo runs on (default: this one)")
    parser.add_argument("--json", help="write every figure to this file")
    args = parser.parse_args()
    wanted = [name for name in args.parts.split(",") if name]
    for name in wanted:
        if name not in PARTS:
            parser.error(f"there is no part {name!r}; take some of {', '.join(PARTS)}")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        print(f"{' and '.join(missing)} are needed: apt-get install influxdb victoria-metrics", file=sys.stderr)
        return 1
    version = subprocess.run(["influxd", "version"], capture_output=True, text=True, check=True).stdout.split(" (")[0]
    median, worst = sync_latency(tempfile.gettempdir())
    print(
        f"{version_of(args.python)}, durability sync; {version}, wal-fsync-delay 0s (it syncs each write); "
        "victoria-metrics, which syncs none\n"
        f"{args.rounds} rounds of {args.points:,} points; fdatasync of 4 KiB {median:.0f} us median, {worst:.0f} us p99\n"
        f"{'':<46} {'over the other':<20} {'target':<15} {'':<11} medians (CPU: us a point, ms an answer, s a restart)",
        flush=True,
    )
    report = Report()
    for name in wanted:
        PARTS[name](args, report)
    if args.ten_million:
        ten_million(args, report)
    if args.json:
        told: dict[str, Any] = {"python": args.python, "influxdb": version, "sync_us": [median, worst], "points": args.points}
        told["rows"] = [asdict(row) | {"ratios": row.ratios, "met": row.met} for row in report.rows]
        Path(args.json).write_text(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
