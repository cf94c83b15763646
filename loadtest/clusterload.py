"""What loadtest/cluster.py measures with: clients that try again at other members, a Redis with two replicas, sizes of processes."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path

from loadtest.generator import resp
from loadtest.workload import Batches
from tests.support.faultcluster import FaultCluster, Program
from tests.support.processes import RedisProcess, RespClient, wait_until

PATIENCE_SECONDS = 60
ANSWER_SECONDS = 1.0  # a writer that waits longer tries another member
AGAIN_SECONDS = 0.005  # after a refusal
READ_TOGETHER = 1000  # keys in one MGET


class Writers:
    """Threads that write numbered keys, one after the other: a key is tried at one member after the other until its write is answered. A
    context manager."""

    def __init__(self, cluster: FaultCluster, count: int) -> None:
        self.cluster = cluster
        self.acknowledged = [0] * count  # by writer: all of its keys below this number
        self._writes: list[tuple[float, float]] = []  # of each answered write: when it was sent, when answered
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        """Be a writer."""
        member, connection = number, None
        while not self._over.is_set():
            sent = time.monotonic()
            try:
                flo = self.cluster.flos[member % len(self.cluster.flos)]
                if connection is None:
                    connection = RespClient(flo.port, ANSWER_SECONDS, flo.host)
                key = self.key(number, self.acknowledged[number])
                if connection.command("SET", key, key) == b"OK":
                    self._writes.append((sent, time.monotonic()))
                    self.acknowledged[number] += 1
                    continue
            except (OSError, ValueError):
                pass
            if connection is not None:
                connection.close()
            connection = None
            member += 1
            self._over.wait(AGAIN_SECONDS)
        if connection is not None:
            connection.close()

    @staticmethod
    def key(writer: int, number: int) -> str:
        """A writer's key; its value is the same."""
        return f"writer:{writer}:{number}"

    def answered_after(self, moment: float) -> float:
        """When the first of the writes that were sent after `moment` was answered. Waits for it."""

        def look() -> float:
            latest = takewhile(lambda write: write[1] >= moment, reversed(self._writes))
            return min((answered for sent, answered in latest if sent >= moment), default=0.0)

        found: float = wait_until(look, "an answered write", PATIENCE_SECONDS)
        return found

    def longest_gap(self, since: float, until: float) -> float:
        """The longest time between these two in which no write was answered."""
        answered = sorted(answered for _, answered in self._writes if since < answered < until)
        return max(after - before for before, after in pairwise([since, *answered, until]))

    def lost(self, flo: Program) -> list[str]:
        """The acknowledged keys that this member does not show."""
        found = []
        with self.cluster.connect(flo, PATIENCE_SECONDS) as connection:
            for writer, count in enumerate(self.acknowledged):
                for first in range(0, count, READ_TOGETHER):
                    keys = [self.key(writer, number) for number in range(first, min(first + READ_TOGETHER, count))]
                    values = connection.command("MGET", *keys)
                    found += [key for key, value in zip(keys, values, strict=True) if value != key.encode()]
        return found


@contextlib.contextmanager
def redis_with_replicas(directory: Path, count: int = 2) -> Iterator[RedisProcess]:
    """A redis-server with replicas; all sync each write to their append-only files."""
    with contextlib.ExitStack() as stack:

        def start(name: str, *flags: str) -> RedisProcess:
            (directory / name).mkdir(parents=True)
            return stack.enter_context(RedisProcess(directory / name, "--repl-diskless-sync-delay", "0", *flags))

        leader = start("leader")
        for number in range(count):
            start(f"replica{number}", "--replicaof", f"127.0.0.1 {leader.port}")
        with leader.connect() as client:
            wait_until(lambda: client.command("INFO", "replication").count(b"state=online") == count, "redis-server's replicas")
        yield leader


def set_batches(keys: list[bytes], value: bytes, depth: int, *, wait_for_replica: bool = False) -> Batches:
    """SET of each of these keys, `depth` at a time; `wait_for_replica`: each time followed by WAIT 1 0."""
    end, lines = (resp(b"WAIT", b"1", b"0"), 1) if wait_for_replica else (b"", 0)
    parts = [keys[at : at + depth] for at in range(0, len(keys), depth)]
    return [(b"".join(resp(b"SET", key, value) for key in part) + end, len(part) + lines) for part in parts]


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def disk_bytes(directory: Path) -> int:
    """What the files of a directory take on disk. A file that is removed meanwhile counts nothing."""
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_blocks * 512
    return total
