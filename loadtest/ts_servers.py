"""Three servers of time series, each on its own ports and directory: Flo, InfluxDB 1.x and VictoriaMetrics, asked the same in their words.

All take the same bodies of line protocol over HTTP. A `Question` is put into each server's language here, and its answer is brought down to
what can be compared: how many values there are, and their sum.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from loadtest.compare import cpu_seconds
from tests.support.processes import ROOT, STOP_SECONDS, FloProcess, free_port, wait_until

ANSWER_SECONDS = 300
IDLE_SECONDS = 0.1  # a server that used less than a fiftieth of a core for so long has nothing left to do
IDLE_SHARE = 0.02
SETTLE_SECONDS = 60
BLOCK_BYTES = 512  # of stat's st_blocks
DATABASE = "default"  # Flo's first namespace has this name
INFLUX_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  query-log-enabled = false
{compacting}
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""
# Flush the cache and merge all files of a shard once it is left alone for a second, instead of ten minutes and four hours
INFLUX_COMPACTING = '  cache-snapshot-write-cold-duration = "1s"\n  compact-full-write-cold-duration = "1s"'


class Question(NamedTuple):
    """What is asked: from `first` to `end` (ms, `end` excluded), in windows of `window` ms, or the points themselves if it is 0."""

    measurement: str
    field: str
    first: int
    end: int
    window: int = 0
    percentile: int = 0  # of a window; 0 for the mean
    host: str = ""  # one series; empty for all


Request = tuple[str, str, bytes]  # method, path, body
Values = tuple[int, float]  # how many, and their sum


class Server:
    """A running server. `pid` is its process; `connect` and what needs it may follow `start` at once."""

    name = ""
    port = 0

    @property
    def pid(self) -> int:
        raise NotImplementedError

    def start(self) -> None:
        """Start the process again, on the same data; returns once it listens or before."""
        raise NotImplementedError

    def stop(self) -> None:
        """Have it end in its own way."""
        raise NotImplementedError

    def ready_page(self) -> str:
        """The page that is answered with 200 or 204 once all is read."""
        raise NotImplementedError

    def flush(self) -> None:
        """Let queries see all that was written."""

    def compact(self) -> None:
        """Bring what it has into its last form on disk."""
        raise NotImplementedError

    def disk_bytes(self) -> int:
        """Of its points, behind `compact`."""
        raise NotImplementedError

    def request(self, question: Question) -> Request:
        """The question in its language."""
        raise NotImplementedError

    def values(self, answer: Any) -> Iterable[float]:
        """The values of its answer, which was JSON."""
        raise NotImplementedError

    def connect(self) -> http.client.HTTPConnection:
        """A new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)

    def write(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        """Write points. Ends the run if they are refused."""
        connection.request("POST", f"/write?db={DATABASE}", body)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 204:
            raise SystemExit(f"{self.name} answered a write with {answer.status}: {said[:300].decode(errors='replace')}")

    def ask(self, connection: http.client.HTTPConnection, request: Request) -> bytes:
        """An answer's body. Ends the run if there is none."""
        method, path, body = request
        connection.request(method, path, body or None)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{self.name} answered {path[:200]} with {answer.status}: {said[:300].decode(errors='replace')}")
        return said

    def sum_of(self, answer: bytes) -> Values:
        """What is compared of an answer."""
        values = [float(value) for value in self.values(json.loads(answer))]
        return len(values), sum(values)

    def wait_ready(self) -> None:
        """Wait until it serves."""

        def is_ready() -> bool:
            connection = self.connect()
            try:
                connection.request("GET", self.ready_page())
                return connection.getresponse().status in (200, 204)
            except OSError:
                return False
            finally:
                connection.close()

        wait_until(is_ready, f"{self.name}'s readiness", ANSWER_SECONDS)

    def settle(self) -> None:
        """Wait until it, and the processes it started, have nothing left to do."""
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end:
            before = family_cpu(self.pid)
            time.sleep(IDLE_SECONDS)
            if family_cpu(self.pid) - before < IDLE_SHARE * IDLE_SECONDS:
                return

    def rss_bytes(self) -> int:
        """Resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def restart(self) -> float:
        """Stop it and start it; returns the seconds from the begin of the process until it is ready."""
        self.stop()
        began = time.monotonic()
        self.start()
        self.wait_ready()
        return time.monotonic() - began

    def __enter__(self) -> "Server":
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Flo(Server):
    """Flo of this checkout, with durability sync."""

    name = "flo"

    def __init__(self, directory: Path, python: str = sys.executable) -> None:
        self.directory = directory
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{directory}-compiled"}  # as an installed Flo has it
        self.process = FloProcess(directory, "--durability", "sync", python=python, environment=compiled, start=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> None:
        self.process.start()
        self.port = self.process.port

    def stop(self) -> None:
        self.process.stop()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.process.log_path.unlink(missing_ok=True)

    def ready_page(self) -> str:
        return "/ready"

    def compact(self) -> None:
        """What `flo compact` does."""
        self.settle()
        command = [sys.executable, "-m", "flo", "compact", str(self.directory)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=ANSWER_SECONDS)

    def disk_bytes(self) -> int:
        """The log's size, without the space that is reserved for more."""
        with self.process.connect() as client:
            text: str = client.command("INFO").decode()
        return next(int(line.partition(":")[2]) for line in text.split("\r\n") if line.startswith("flo_log_size:"))

    def request(self, question: Question) -> Request:
        tags = f"{{host={question.host}}}" if question.host else ""
        text = f"{question.measurement}{tags}[{question.first}..{question.end - 1}] | field({question.field})"
        if question.window:
            stage = f"percentile({question.percentile})" if question.percentile else "avg()"
            text += f" | window({question.window // 1000}s) | {stage}"
        return "POST", f"/api/v1/timeseries/{DATABASE}/query", text.encode()

    def values(self, answer: Any) -> Iterable[float]:
        return (value for series in answer["series"] for _, value in series["points"])


class Process(Server):
    """A server that is a plain program with its ports given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command(self) -> list[str]:
        """The program and its arguments; chooses a port."""
        raise NotImplementedError

    def start(self) -> None:
        with Path(f"{self.directory}.log").open("wb") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_SECONDS)


class Influx(Process):
    """InfluxDB 1.x, which syncs its WAL at each write by default (wal-fsync-delay 0s)."""

    name = "influxdb"

    def __init__(self, directory: Path, compacting: bool) -> None:
        """With `compacting` it flushes and merges what is left alone for a second."""
        super().__init__(directory)
        self.compacting = INFLUX_COMPACTING if compacting else ""

    def command(self) -> list[str]:
        self.port = free_port()
        config = self.directory / "influxdb.conf"
        config.write_text(
            INFLUX_CONFIG.format(rpc=free_port(), port=self.port, directory=self.directory, compacting=self.compacting), encoding="utf-8"
        )
        return ["influxd", "-config", str(config)]

    def __enter__(self) -> Server:
        super().__enter__()
        connection = self.connect()
        self.ask(connection, ("POST", "/query?" + urlencode({"q": f'CREATE DATABASE "{DATABASE}"'}), b""))
        connection.close()
        return self

    def ready_page(self) -> str:
        return "/ping"

    def compact(self) -> None:
        """Waits until its WAL is empty and each shard has one generation of files."""
        assert self.compacting

        def is_compact() -> bool:
            wal = size_of(self.directory / "wal")
            generations = [{file.name.partition("-")[0] for file in shard.glob("*.tsm*")} for shard in self.directory.glob("data/*/*/*")]
            return wal == 0 and all(len(each) <= 1 for each in generations)

        wait_until(is_compact, "InfluxDB's compaction", ANSWER_SECONDS)
        self.settle()

    def disk_bytes(self) -> int:
        return size_of(self.directory / "data")

    def request(self, question: Question) -> Request:
        value = question.field
        if question.window:
            value = f"percentile({value}, {question.percentile})" if question.percentile else f"mean({value})"
        host = f"host = '{question.host}' AND " if question.host else ""
        text = f"SELECT {value} FROM {question.measurement} WHERE {host}time >= {question.first}ms AND time < {question.end}ms"
        if question.window:
            text += f" GROUP BY time({question.window // 1000}s), *"
        return "GET", "/query?" + urlencode({"db": DATABASE, "epoch": "ms", "q": text}), b""

    def values(self, answer: Any) -> Iterable[float]:
        return (row[1] for series in answer["results"][0].get("series", ()) for row in series["values"] if row[1] is not None)


class Victoria(Process):
    """VictoriaMetrics, which syncs no write: it keeps the last second in memory. Its answers are not cached."""

    name = "victoria"

    def command(self) -> list[str]:
        self.port = free_port()
        return [
            "victoria-metrics", f"-storageDataPath={self.directory}", f"-httpListenAddr=127.0.0.1:{self.port}", "-retentionPeriod=100y",
            "-search.disableCache", "-loggerLevel=WARN", "-search.maxUniqueTimeseries=1000000",
        ]  # fmt: skip

    def ready_page(self) -> str:
        return "/health"

    def _do(self, what: str) -> None:
        connection = self.connect()
        self.ask(connection, ("GET", f"/internal/{what}", b""))
        connection.close()

    def flush(self) -> None:
        self._do("force_flush")

    def compact(self) -> None:
        self.flush()
        self._do("force_merge")
        self.settle()

    def disk_bytes(self) -> int:
        return size_of(self.directory)

    def request(self, question: Question) -> Request:
        host = f'{{host="{question.host}"}}' if question.host else ""
        selected = f"{question.measurement}_{question.field}{host}"
        last = (question.end - 1) / 1000  # a window reaches from behind its begin to its end, both included
        if not question.window:
            seconds = (question.end - question.first) // 1000
            return "GET", "/api/v1/query?" + urlencode({"query": f"{selected}[{seconds}s]", "time": last}), b""
        step = question.window // 1000
        text = f"avg_over_time({selected}[{step}s])"
        if question.percentile:
            text = f"quantile_over_time({question.percentile / 100}, {selected}[{step}s])"
        start = (question.first + question.window - 1) / 1000
        return "GET", "/api/v1/query_range?" + urlencode({"query": text, "start": start, "end": last, "step": step, "nocache": 1}), b""

    def values(self, answer: Any) -> Iterable[float]:
        return (float(value) for series in answer["data"]["result"] for _, value in series["values"])


def size_of(directory: Path) -> int:
    """Bytes that the files in a directory take, without holes. Files may go in the meantime."""
    total = 0
    for file in directory.rglob("*"):
        try:
            found = file.stat()
            total += min(found.st_size, found.st_blocks * BLOCK_BYTES) if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def family_cpu(pid: int) -> float:
    """CPU seconds of a process and of those it started that still run."""
    total = cpu_seconds(pid)
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            total += sum(cpu_seconds(int(child)) for child in task.read_text().split())
        except OSError:
            continue
    return total
