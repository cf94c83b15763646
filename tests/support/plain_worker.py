"""A worker in sockets and struct alone, written from docs/wire-protocol.md and nothing else: it imports nothing of flo.

    python plain_worker.py PORT WORKER [--namespace N] [--concurrency 1] [--secret S] [ACTION ...]

It prints what it does, a JSON object a line. An input says what a run is to do: `{"do": "echo" | "slow" | "fail" | "flaky" | "release"}`.
"""

import argparse
import json
import os
import signal
import socket
import struct
import threading
import time
from concurrent.futures import Future
from typing import Any

OK, NOT_FOUND, BAD_REQUEST, CONFLICT, OVERLOADED = 0, 1, 2, 3, 5
AUTH, REGISTER, AWAIT, COMPLETE, FAIL, HEARTBEAT, TOUCH, DRAIN, DEREGISTER, RELEASE = (
    0x03,
    0x60,
    0x61,
    0x62,
    0x63,
    0x64,
    0x65,
    0x67,
    0x68,
    0x69,
)
O_DELAY, O_BLOCK, O_WORKER, O_RETRY, O_LABELS, O_CONCURRENCY, O_ATTEMPT, O_PROGRESS = 0x04, 0x06, 0x40, 0x41, 0x44, 0x46, 0x49, 0x4E
MAGIC = b"FLO\x01"


def options(*pairs: tuple[int, bytes]) -> bytes:
    """Each with its type, its length, its value."""
    return b"".join(struct.pack("<BH", kind, len(value)) + value for kind, value in pairs)


def namespace_hash(name: str) -> int:
    """FNV-1a, 64 bits."""
    if name == "default":
        return 0
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


class Connection:
    """Requests go out under a lock; one thread reads the answers, and hands each to whoever waits for its id."""

    def __init__(self, port: int, namespace: str, secret: str | None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.settimeout(None)
        self.namespace, self.lock, self.next_id = namespace_hash(namespace), threading.Lock(), 0
        self.waiting: dict[int, Future[tuple[int, bytes]]] = {}
        self.broken: ConnectionError | None = None
        threading.Thread(target=self.read, daemon=True).start()
        if secret:
            status, text = self.call(AUTH, b"", secret.encode(), b"", 30)
            if status != OK:
                raise SystemExit(text.decode())

    def call(self, opcode: int, key: bytes, value: bytes = b"", opts: bytes = b"", timeout: float = 10) -> tuple[int, bytes]:
        """Send a request and wait for its answer: status and payload."""
        answer: Future[tuple[int, bytes]] = Future()
        with self.lock:
            if self.broken:
                raise self.broken
            self.next_id += 1
            self.waiting[self.next_id] = answer
            header = struct.pack(
                "<4sHHQIQHH", MAGIC, opcode, 0, self.next_id, len(key) + len(value) + len(opts), self.namespace, len(key), len(opts)
            )
            self.socket.sendall(header + key + value + opts)
        return answer.result(timeout)

    def exactly(self, size: int) -> bytes:
        """The next bytes."""
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("the server has closed the connection")
            data += piece
        return data

    def read(self) -> None:
        """Read answers until the connection ends."""
        try:
            while True:
                start = self.exactly(1)
                if start == b"-":  # One line of text: the server cannot serve us at all.
                    raise ConnectionError(self.socket.makefile("rb").readline().decode().strip())
                magic, status, _, req_id, size = struct.unpack("<4sHHQI4x", start + self.exactly(23))
                if magic != MAGIC:
                    raise ConnectionError("not Flo's protocol")
                payload = self.exactly(size)
                with self.lock:
                    answer = self.waiting.pop(req_id, None)
                if answer is not None:
                    answer.set_result((status, payload))
        except OSError as error:
            with self.lock:
                self.broken = ConnectionError(str(error))
                waiting, self.waiting = self.waiting, {}
            for answer in waiting.values():
                answer.set_exception(self.broken)


class Run:
    """What `worker_await` has answered."""

    def __init__(self, payload: bytes) -> None:
        def name(at: int) -> tuple[bytes, int]:
            (size,) = struct.unpack_from("<H", payload, at)
            return payload[at + 2 : at + 2 + size], at + 2 + size

        self.id, at = name(0)
        self.action, at = name(at)
        self.created_at, self.attempt, self.lease_ms = struct.unpack_from("<qIQ", payload, at)
        self.traceparent, at = name(at + 20)
        self.input = payload[at:]
        self.progress, self.over, self.stop, self.why = b"", threading.Event(), threading.Event(), ""


class Worker:
    """As many slots as it may hold runs, each with a thread."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.id = arguments, arguments.worker.encode()
        self.connection: Connection | None = None
        self.connecting, self.ending = threading.Lock(), False

    def log(self, event: str, **more: Any) -> None:
        """Tell what it does."""
        os.write(1, (json.dumps({"event": event, **more}, default=bytes.decode) + "\n").encode())

    def call(self, opcode: int, key: bytes, value: bytes = b"", opts: bytes = b"", timeout: float = 10) -> tuple[int, bytes]:
        """Asks until there is an answer: over a new connection where one breaks, later where the server is overloaded."""
        until = time.monotonic() + 60
        while True:
            try:
                with self.connecting:
                    if self.connection is None or self.connection.broken:
                        a = self.arguments
                        self.connection = Connection(a.port, a.namespace, a.secret)
                    connection = self.connection
                status, answer = connection.call(opcode, key, value, opts, timeout)
                if status != OVERLOADED:
                    return status, answer
            except OSError:  # A TimeoutError too.
                if time.monotonic() > until:
                    raise
            time.sleep(0.2)

    def register(self) -> None:
        """Say what it takes, how many at once, and its labels."""
        names = b"".join(struct.pack("<H", len(name)) + name for name in map(str.encode, self.arguments.actions))
        opts = options((O_CONCURRENCY, struct.pack("<I", self.arguments.concurrency)), (O_LABELS, b'{"kind": "plain"}'))
        status, text = self.call(REGISTER, self.id, struct.pack("<H", len(self.arguments.actions)) + names, opts)
        if status != OK:
            raise SystemExit(text.decode())
        self.log("registered")

    def slot(self) -> None:
        """Takes one run after another, until the worker is draining."""
        while True:
            status, payload = self.call(AWAIT, self.id, b"", options((O_BLOCK, struct.pack("<I", 20_000))), 30)
            if status == OK:
                self.execute(Run(payload))
            elif status == BAD_REQUEST and not self.ending:
                self.register()
            elif status == BAD_REQUEST or self.call(HEARTBEAT, self.id) == (OK, b"\x02"):
                return

    def held(self, run: Run, *more: tuple[int, bytes]) -> bytes:
        """The options of a touch or a report."""
        return options((O_WORKER, self.id), (O_ATTEMPT, struct.pack("<I", run.attempt)), *more)

    def touch(self, run: Run) -> None:
        """Keep the lease until the run is over, or stop it where it is not the worker's any more."""
        while not run.over.wait(run.lease_ms / 3000):
            status, payload = self.call(TOUCH, run.id, b"", self.held(run, (O_PROGRESS, run.progress)))
            cancelled = status == OK and struct.unpack("<q?", payload)[1]
            if cancelled or status in (CONFLICT, NOT_FOUND):
                run.why = "cancelled" if cancelled else "lost"
                run.stop.set()
                return
            self.log("touched", run=run.id, progress=run.progress)

    def execute(self, run: Run) -> None:
        """Do a run, and report."""
        self.log("started", run=run.id, attempt=run.attempt, action=run.action, traceparent=run.traceparent)
        toucher = threading.Thread(target=self.touch, args=(run,), daemon=True)
        toucher.start()
        try:
            opcode, value, more = work(run)
        except Exception as error:  # whatever the work may raise: another attempt may help
            opcode, value, more = FAIL, str(error).encode(), ((O_RETRY, b""),)
        run.over.set()
        toucher.join()
        if run.stop.is_set():
            self.log(run.why, run=run.id)
            return
        status, payload = self.call(opcode, run.id, value, self.held(run, *more))
        what = {COMPLETE: "completed", FAIL: "failed", RELEASE: "released"}[opcode]
        self.log(
            what if status == OK else "refused", run=run.id, status=status, state=payload[0] if opcode == FAIL and status == OK else None
        )

    def main(self) -> None:
        """Be a worker until it is drained, by SIGTERM or by somebody else."""
        self.register()
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=self.drain).start())
        slots = [threading.Thread(target=self.slot) for _ in range(self.arguments.concurrency)]
        for thread in slots:
            thread.start()
        for thread in slots:
            thread.join()
        status, _ = self.call(DEREGISTER, self.id)
        self.log("deregistered", status=status)

    def drain(self) -> None:
        """Take no more runs."""
        self.ending = True
        status, _ = self.call(DRAIN, self.id)
        self.log("draining", status=status)


def work(run: Run) -> tuple[int, bytes, tuple[tuple[int, bytes], ...]]:
    """Does what the input says; returns what to report: an operation, its value, its options beside the usual ones."""
    order = json.loads(run.input or b'{"do": "echo"}')
    if order["do"] == "slow":
        for done in range(100):
            run.progress = b"%d %%" % done
            if run.stop.wait(order["seconds"] / 100):
                break
    if order["do"] == "fail":
        return FAIL, b"it cannot be done", ()
    if order["do"] == "flaky" and run.attempt < order["attempts"]:
        return FAIL, b"not yet: attempt %d" % run.attempt, ((O_RETRY, b""), (O_DELAY, struct.pack("<Q", order.get("delay", 100))))
    if order["do"] == "release" and run.attempt == 1:
        return RELEASE, b"", ((O_DELAY, struct.pack("<Q", 100)),)
    return COMPLETE, run.input, ()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("worker")
    parser.add_argument("actions", nargs="+")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--secret")
    Worker(parser.parse_args()).main()
