"""Users of both protocols with mixed reads and writes; every answer is checked. It tests behaviour under load; compare.py is the benchmark.

    make locust
    locust -f loadtest/locustfile.py --headless -u 50 -r 50 -t 20s [--host flo://127.0.0.1:9000]

Without --host it starts its own server, and stops it at the end. Each user owns its keys and remembers their values: an answer that differs
is a failure, and after a failure locust exits 1.
"""

import itertools
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from locust import User, constant, events, task
from locust.env import Environment

import flo
from flo.client import Address
from tests.support.processes import FloProcess

KEYS_PER_USER = 100
VALUE_BYTES = (1, 64, 1000, 20_000)
numbers = itertools.count()
started: list[tuple[FloProcess, str]] = []


@events.init.add_listener  # type: ignore[untyped-decorator]
def start_server(environment: Environment, **_: Any) -> None:
    """Start a server if --host names none."""
    if not environment.host:
        directory = tempfile.mkdtemp(prefix="flo-locust-")
        server = FloProcess(Path(directory) / "data")
        started.append((server, directory))
        environment.host = f"flo://127.0.0.1:{server.port}"


@events.quit.add_listener  # type: ignore[untyped-decorator]
def stop_server(**_: Any) -> None:
    """Stop our server, and remove its data."""
    while started:
        server, directory = started.pop()
        server.__exit__(None, None, None)
        shutil.rmtree(directory, ignore_errors=True)


class WrongAnswer(Exception):
    """The answer differs from the written value."""


class Checked(User):
    """A user that knows the right answer to each request. Subclasses send the requests."""

    abstract = True
    wait_time = constant(0)
    protocol = ""

    def on_start(self) -> None:
        """Connect, and choose this user's keys."""
        assert self.host is not None
        self.address = Address(self.host)
        self.prefix = f"locust:{self.protocol}:{next(numbers)}:"
        self.random = random.Random(self.prefix)
        self.written: dict[str, bytes] = {}
        self.count = 0
        self.connect()
        for key in self.scan():
            self.delete(key)  # left by an earlier run

    def ask(self, name: str, expected: Any, request: Callable[[], Any]) -> None:
        """Make a request, check the answer, and tell locust."""
        began = time.perf_counter()
        failure: Exception | None = None
        answer = None
        try:
            answer = request()
            if answer != expected:
                failure = WrongAnswer(f"{name} answered {str(answer)[:60]}, expected {str(expected)[:60]}")
        except (flo.errors.FloError, redis.RedisError, OSError) as e:
            failure = e
        self.environment.events.request.fire(
            request_type=self.protocol,
            name=name,
            response_time=(time.perf_counter() - began) * 1000,
            response_length=len(answer) if isinstance(answer, bytes) else 0,
            exception=failure,
            context={},
        )

    def some_key(self) -> str:
        """One of this user's keys."""
        return f"{self.prefix}{self.random.randrange(KEYS_PER_USER)}"

    @task(10)
    def check_get(self) -> None:
        """Read."""
        key = self.some_key()
        self.ask("get", self.written.get(key), lambda: self.get(key))

    @task(6)
    def check_put(self) -> None:
        """Write, and read it back."""
        key, value = self.some_key(), self.random.randbytes(self.random.choice(VALUE_BYTES))
        self.written[key] = value
        self.ask("put", True, lambda: self.put(key, value))
        self.ask("get", value, lambda: self.get(key))

    @task(3)
    def check_incr(self) -> None:
        """Count."""
        self.count += 1
        self.ask("incr", self.count, lambda: self.incr(f"{self.prefix}count"))

    @task(2)
    def check_delete(self) -> None:
        """Delete."""
        key = self.some_key()
        there = self.written.pop(key, None) is not None
        self.ask("delete", there, lambda: self.delete(key))

    @task(1)
    def check_scan(self) -> None:
        """List, in order."""
        expected = sorted([*self.written, *([f"{self.prefix}count"] if self.count else [])])
        self.ask("scan", expected, self.scan)

    def connect(self) -> None:
        """Connect."""
        raise NotImplementedError

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        raise NotImplementedError

    def put(self, key: str, value: bytes) -> bool:
        """Set a key; returns whether it was set."""
        raise NotImplementedError

    def incr(self, key: str) -> int:
        """Add 1 to a counter; returns its value."""
        raise NotImplementedError

    def delete(self, key: str) -> bool:
        """Delete a key; returns whether it existed."""
        raise NotImplementedError

    def scan(self) -> list[str]:
        """This user's keys, in order."""
        raise NotImplementedError


class BinaryUser(Checked):
    """Speaks the binary protocol through flo.Client."""

    protocol = "binary"

    def connect(self) -> None:
        self.client = flo.Client(self.host or "")

    def get(self, key: str) -> bytes | None:
        entry = self.client.kv.get(key)
        return entry.value if entry else None

    def put(self, key: str, value: bytes) -> bool:
        return self.client.kv.put(key, value) > 0

    def incr(self, key: str) -> int:
        return self.client.kv.incr(key).value

    def delete(self, key: str) -> bool:
        return self.client.kv.delete(key) is not None

    def scan(self) -> list[str]:
        return [key.decode() for key, _ in self.client.kv.scan(self.prefix, keys_only=True)]


class RespUser(Checked):
    """Speaks RESP through redis-py."""

    protocol = "resp"

    def connect(self) -> None:
        host, port = self.address.places[0]
        self.client = redis.Redis(host, port, password=self.address.secret)

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self.client.get(key)  # type: ignore[assignment]
        return found

    def put(self, key: str, value: bytes) -> bool:
        return bool(self.client.set(key, value))

    def incr(self, key: str) -> int:
        return int(self.client.incr(key))

    def delete(self, key: str) -> bool:
        return self.client.delete(key) == 1

    def scan(self) -> list[str]:
        return sorted(key.decode() for key in self.client.scan_iter(f"{self.prefix}*"))  # SCAN has no order
