"""The time of a start, compared with redis-server's with the same data after BGREWRITEAOF: `compare.py --restart`.

Rows: keys, messages of one queue (a list), records of one stream. Each is measured in three states of Flo's directory: compacted; with the
largest tail that does not begin another compaction (it overwrites keys, or adds messages or records), where the server ends with the last
write; and with the same tail after the server has had time to compact it too (`log.compact_quiet`). A start is measured from the begin of
the process to the answers of a hundred requests for stored data, in alternating rounds. Flo may then still have unread values on disk; the
time until it has read them all is printed as well.
"""

import contextlib
import itertools
import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flo.ual.log import SMALL_SEGMENT_BYTES
from tests.support.processes import ROOT, FloProcess, ReplyError, RespClient, encode, free_port, wait_until

VALUE_BYTES = 64
BATCH = 1000
TAIL_SHARE = 0.95  # of the growth that the rule allows
POLL_SECONDS = 0.002
READY_SECONDS = 120

Request = Callable[[int, bytes], bytes]
Prepare = Callable[[FloProcess, RespClient, Request, int], None]
KINDS: dict[str, Request] = {
    "keys": lambda number, value: encode("SET", b"key:%d" % number, value),
    "messages": lambda _, value: encode("LPUSH", "queue", value),
    "records": lambda _, value: encode("XADD", "stream", "*", "data", value),
}
PROBES = 100
PROBE: dict[str, Callable[[int], bytes]] = {
    "keys": lambda number: encode("GET", b"key:%d" % number),
    "messages": lambda _: encode("LLEN", "queue"),
    "records": lambda _: encode("XRANGE", "stream", "-", "+", "COUNT", "1"),
}


def fill(client: RespClient, request: Request, numbers: Iterator[int], rng: random.Random, stop: Callable[[], bool]) -> None:
    """Send requests for `numbers` in batches, until they end or `stop()` is true after a batch."""
    while True:
        batch = [request(number, rng.randbytes(VALUE_BYTES)) for number in itertools.islice(numbers, BATCH)]
        if not batch:
            return
        client.send(b"".join(batch))
        for _ in batch:
            client.reply()
        if stop():
            return


def info(client: RespClient) -> dict[str, str]:
    """INFO's fields."""
    return dict(line.split(":", 1) for line in client.command("INFO").decode().split("\r\n") if ":" in line)


def time_start(arguments: list[str], port: int, log: Path, probes: list[bytes]) -> tuple[float, float]:
    """Start a server, wait until it has answered `probes`, then until it has read everything; end it. Returns the seconds until both."""
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            while True:
                try:
                    with contextlib.closing(RespClient(port, 30)) as client:
                        if client.command("PING") == b"PONG":
                            client.send(b"".join(probes))
                            answers = [client.reply() for _ in probes]
                            answered = time.monotonic() - began
                            if not all(answers) or any(isinstance(answer, ReplyError) for answer in answers):
                                raise RuntimeError(f"{arguments[0]} answered {answers[:3]} for what is stored")
                            while "async_loading:0" not in _persistence(client):
                                time.sleep(POLL_SECONDS)
                            return answered, time.monotonic() - began
                except OSError:
                    pass
                if time.monotonic() > began + READY_SECONDS or process.poll() is not None:
                    raise RuntimeError(f"{arguments[0]} did not start: {log.read_text()[-1000:]}")
                time.sleep(POLL_SECONDS)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def run(count: int, rounds: int, python: str) -> None:
    """Print the rows of each kind."""
    home = Path(tempfile.mkdtemp(prefix="flo-restart-"))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(home / "compiled")  # as in an installed Flo; flo.pyz does the same (loadtest/startup.py)
    print(f"{count} of {VALUE_BYTES} bytes; seconds until {PROBES} requests are answered, median of {rounds} (lowest..highest)")
    try:
        for kind, request in KINDS.items():
            redis = _redis(home / kind, request, count)
            for state, prepare in STATES.items():
                flo = _flo(home / kind, request, count, prepare, python)
                theirs, ours, whole = [], [], []
                for _ in range(rounds):
                    probes = [PROBE[kind](random.randrange(count)) for _ in range(PROBES)]
                    theirs.append(time_start(*redis, probes)[0])
                    answered, all_read = time_start(*flo, probes)
                    ours.append(answered)
                    whole.append(all_read)
                ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
                row = kind + state
                print(
                    f"{row:<34} Redis {statistics.median(theirs):.2f} ({min(theirs):.2f}..{max(theirs):.2f})  "
                    f"Flo {statistics.median(ours):.2f} ({min(ours):.2f}..{max(ours):.2f})  ratio {ratio:.2f}  "
                    f"all read after {statistics.median(whole):.2f}",
                    flush=True,
                )
            shutil.rmtree(home / kind)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _redis(home: Path, request: Request, count: int) -> tuple[list[str], int, Path]:
    directory = home / "redis"
    directory.mkdir(parents=True)
    port = free_port()
    arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "", "--appendonly", "yes"]
    arguments += ["--auto-aof-rewrite-percentage", "0"]
    process = subprocess.Popen([*arguments, "--appendfsync", "no"], stdout=subprocess.DEVNULL)

    def connect() -> RespClient | None:
        try:
            return RespClient(port, 60)
        except OSError:
            return None

    client: RespClient = wait_until(connect, "redis-server")
    fill(client, request, iter(range(count)), random.Random(1), lambda: False)
    wait_until(lambda: client.command("BGREWRITEAOF") is not None and "aof_rewrite_in_progress:0" in _persistence(client), "a rewrite", 120)
    wait_until(lambda: "aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0" in _persistence(client), "its end", 120)
    process.send_signal(signal.SIGTERM)
    process.wait()
    return arguments, port, home / "redis.log"


def _persistence(client: RespClient) -> str:
    return str(client.command("INFO", "persistence").decode())


def _flo(home: Path, request: Request, count: int, prepare: Prepare, python: str) -> tuple[list[str], int, Path]:
    directory = home / "flo"
    settings = {"FLO_KV_HISTORY_DEPTH": "1", "FLO_DURABILITY": "async"}
    with FloProcess(directory, environment=settings, python=python) as flo, flo.connect() as client:
        prepare(flo, client, request, count)
        flo.stop()
    port = free_port()
    arguments = [python, "-m", "flo", "server", "start", "--port", str(port), "--data-dir", str(directory)]
    os.environ["FLO_KV_HISTORY_DEPTH"] = "1"
    return arguments, port, home / "flo.log"


def _all_compacted(flo: FloProcess, client: RespClient, request: Request, count: int) -> None:
    fill(client, request, iter(range(count)), random.Random(2), lambda: False)
    wait_until(lambda: info(client)["aof_rewrite_in_progress"] == "0", "compaction's end", 120)
    assert flo.process is not None
    passes = flo.output().count("compacted the log in")
    flo.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: flo.output().count("compacted the log in") > passes, "a compaction", 120)
    wait_until(lambda: info(client)["aof_rewrite_in_progress"] == "0", "compaction's end", 120)


def _with_a_tail(_flo: FloProcess, client: RespClient, request: Request, count: int) -> None:
    bound = TAIL_SHARE * 2 * int(info(client)["flo_log_size_compacted"])
    rng = random.Random(3)
    fill(client, request, iter(lambda: rng.randrange(count), -1), rng, lambda: int(info(client)["flo_log_size"]) > bound)


def _left_alone(_flo: FloProcess, client: RespClient, _request: Request, _count: int) -> None:
    def is_done() -> bool:
        found = info(client)
        return found["aof_rewrite_in_progress"] == "0" and int(found["flo_log_size_tail"]) < 2 * SMALL_SEGMENT_BYTES

    wait_until(is_done, "the tail's compaction", 120)


STATES: dict[str, Prepare] = {"": _all_compacted, " and tail, ended at once": _with_a_tail, " and tail": _left_alone}
