"""Each file of examples/, run as its first paragraph says, against a real server: what a person would see, also with a worker killed."""

import hashlib
import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

import flo
from tests.support.processes import ROOT, FloProcess, wait_until

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"


class Stage:
    """A server, and processes of the examples that use it."""

    def __init__(self, directory: Path, server: FloProcess) -> None:
        self.directory = directory
        self.server = server
        self.url = f"flo://127.0.0.1:{self.server.port}"
        self.client = flo.Client(self.url)
        self.environment = os.environ | {"FLO_URL": self.url, "FLO_PORT": str(self.server.port), "PYTHONPATH": str(ROOT)}
        self.started: list[subprocess.Popen[str]] = []

    def command(self, *words: str) -> list[str]:
        """`lock.py …` or `flo …` as a command of this checkout."""
        return [sys.executable, "-m", *words] if words[0] == "flo" else [sys.executable, *words]

    def run(self, *words: str, status: int = 0) -> str:
        """Run to the end; returns what it printed."""
        done = subprocess.run(self.command(*words), cwd=EXAMPLES, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start it; `Stage.end` ends it."""
        self.started.append(
            subprocess.Popen(
                self.command(*words),
                cwd=EXAMPLES,
                env=self.environment | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return self.started[-1]

    def end(self) -> None:
        for process in self.started:
            with process:
                process.kill()
        self.client.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with FloProcess(tmp_path / "data") as server:
        stage = Stage(tmp_path, server)
        try:
            yield stage
        finally:
            stage.end()


@pytest.fixture
def example(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports an example as a program would."""
    monkeypatch.setenv("FLO_URL", stage.url)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def imported(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)

    return imported


def drained(process: subprocess.Popen[str]) -> str:
    """SIGTERM; what it has printed. It must have finished its work."""
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    return output


def test_every_example_has_a_test_and_says_how_it_is_run() -> None:
    names = {path.stem for path in EXAMPLES.iterdir() if path.suffix == ".py"}
    assert {path.name for path in EXAMPLES.iterdir() if path.name != "__pycache__"} == {f"{name}.py" for name in names}
    assert names == {name.removeprefix("test_the_") for name in globals() if name.startswith("test_the_")}
    for name in names:
        text = (EXAMPLES / f"{name}.py").read_text()
        assert text.startswith('"""') and f"    python3 {name}.py" in text.partition('"""\n\n')[0] and text.count("\n") <= 80, name


def test_the_job_queue(stage: Stage) -> None:
    files = [stage.directory / f"{number}.txt" for number in range(20)]
    for number, file in enumerate(files):
        file.write_text("x" * number)
    added = stage.run("job_queue.py", "add", *map(str, files), str(files[0]), "/nowhere")
    assert len(re.findall(r"^job \d+: ", added, re.MULTILINE)) == 22
    assert stage.client.queues.stats("checksums")["ready"] == 21, "the first file is one job"
    worker = stage.start("flo", "worker", "run", "job_queue:worker")
    sums = [file.with_name(f"{file.name}.sha256") for file in files]
    wait_until(lambda: all(file.exists() for file in sums) and stage.client.queues.dead_letters("checksums"), "the sums")
    for file, written in zip(files, sums, strict=True):
        assert written.read_text() == f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
    assert f"  {files[7]}\n" in drained(worker)
    assert re.fullmatch(r"job \d+ failed 1 times: /nowhere\n", stage.run("job_queue.py", "dead"))
    assert {file.name for file in stage.directory.glob("*.txt*")} == {file.name for file in files + sums}, "nothing half done is left"


def test_the_rate_limiter(stage: Stage, example: Callable[[str], ModuleType]) -> None:
    limiter = example("rate_limiter")
    now = 1_000 * limiter.SECONDS
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: limiter.allowed(stage.client, "ada", now), range(40)))
    assert answers.count(True) == limiter.LIMIT
    assert limiter.allowed(stage.client, "bob", now)
    assert not limiter.allowed(stage.client, "ada", now + limiter.SECONDS - 0.01)
    assert limiter.allowed(stage.client, "ada", now + limiter.SECONDS)
    assert all(stage.client.kv.info(key)["deadline"] for key, _ in stage.client.kv.scan("limit:")), "each counter goes away"
    while True:  # once more if a minute ended in between
        before = time.time() // limiter.SECONDS
        said = [stage.run("rate_limiter.py", "eve") for _ in range(limiter.LIMIT)]
        refused = subprocess.run(
            stage.command("rate_limiter.py", "eve"), cwd=EXAMPLES, env=stage.environment, capture_output=True, text=True, timeout=60
        )
        if time.time() // limiter.SECONDS == before:
            break
    assert said == ["allowed\n"] * limiter.LIMIT
    assert refused.returncode == 1 and re.fullmatch(r"refused: again in \d+ s\n", refused.stderr)


def test_the_lock(stage: Stage, example: Callable[[str], ModuleType]) -> None:
    lock = example("lock")
    said = stage.run("lock.py", "report", "by hand")
    assert re.fullmatch(r"report: 'by hand', with the token \d+\n", said)
    assert stage.client.kv.get("lock:report") is None, "it was given back"

    inside: list[int] = []

    def enter(_: int) -> int:
        with lock.lock(stage.client, "report", 30) as token:
            inside.append(token)
            assert inside == [token]
            lock.write(stage.client, "report", "in turn", token)
            inside.remove(token)
            return int(token)

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(enter, range(40)))
    assert len(set(tokens)) == 40

    with lock.lock(stage.client, "report", 1) as first, lock.lock(stage.client, "report", 30) as second:  # the first one sleeps too long
        assert second > first
        lock.write(stage.client, "report", "second", second)
        with pytest.raises(flo.errors.Conflict, match="later holder"):
            lock.write(stage.client, "report", "first", first)
    found = stage.client.kv.get("report")
    assert found and found.json() == {"token": second, "text": "second"}
    with lock.lock(stage.client, "report", 1), lock.lock(stage.client, "other", 1):
        pass

    with lock.lock(stage.client, "late", 1):
        wait_until(lambda: stage.client.kv.get("lock:late") is None, "the lease's end")
        stage.client.kv.put("lock:late", "another holder")
    assert stage.client.kv.get("lock:late"), "its release does not take another's lock"


def test_the_event_pipeline(stage: Stage) -> None:
    orders = 150
    stage.run("event_pipeline.py", "order", str(orders))
    first = stage.start("flo", "worker", "run", "event_pipeline:worker")
    wait_until(lambda: any(True for _ in stage.client.kv.scan("invoice:")), "an invoice")
    first.kill()  # with records and letters in its hands
    second = stage.start("flo", "worker", "run", "event_pipeline:worker")
    wait_until(lambda: stage.client.streams.group_info("orders", "invoices")["pending"] == 0, "the end of the stream")
    wait_until(lambda: len(list(stage.client.kv.scan("invoice:"))) == orders, "all invoices")
    wait_until(lambda: not any(stage.client.queues.stats("letters")[state] for state in ("ready", "leased", "delayed")), "the letters")
    letters = first.communicate()[0] + drained(second)
    assert len(set(re.findall(r"Dear \w+, you owe \d+ for [\d-]+\.", letters))) == orders
    owed = {name: sum(range(place + 1, orders + 1, 3)) for place, name in enumerate(("Ada", "Bob", "Eve"))}
    assert stage.run("event_pipeline.py", "totals") == "".join(f"{name:<10}{amount:>8}\n" for name, amount in owed.items())


def test_the_metrics(stage: Stage) -> None:
    stage.run("metrics.py", "record", "3", "0.01")
    host, *bars = stage.run("metrics.py", "chart").splitlines()
    assert host == os.uname().nodename and bars
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d +\d+\.\d\d #*", bar) for bar in bars)
    command = re.search(r"flo ts query '([^']*)' --plot", (EXAMPLES / "metrics.py").read_text())
    assert command
    assert f"machine{{host={host}}} load  last " in stage.run("flo", "ts", "query", command[1], "--plot")


class MailServer(socketserver.ThreadingTCPServer):
    """An SMTP server that says "later" to the first e-mail, and "never" to bob; it keeps what it accepts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MailSession)
        self.asked = 0
        self.mails: list[str] = []


class MailSession(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            verb, answer = line[:4].upper(), b"250 OK"
            if verb == b"RCPT":
                self.server.asked += 1
                answer = b"550 no such user" if b"bob" in line else b"451 later" if self.server.asked == 1 else answer
            elif verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self.server.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
            elif verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(answer + b"\r\n")


def test_the_email_sender(stage: Stage) -> None:
    with MailServer() as mail:
        thread = threading.Thread(target=mail.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            stage.start("flo", "worker", "run", "email_sender:worker", SMTP_HOST="127.0.0.1", SMTP_PORT=str(mail.server_address[1]))
            words = ("email_sender.py", "welcome-42", "ada@example.com", "Welcome", "Hello Ada")
            said = stage.run(*words)
            assert re.fullmatch(r"run \d+\nsent to ada@example.com\n", said)
            assert stage.run(*words) == said, "asked again, it is the same e-mail"
            (sent,) = mail.mails
            run_id = said.split()[1]
            assert f"Message-ID: <{run_id}@shop.example.com>" in sent and sent.endswith("\r\nHello Ada\r\n")
            assert stage.client.actions.status(run_id)["attempt"] == 2, "the first was put off"
            never = stage.run("email_sender.py", "welcome-43", "bob@example.com", "Welcome", "Hello Bob", status=1)
            assert "bob@example.com was refused for good: 550 no such user" in never
            assert mail.asked == 3 and len(mail.mails) == 1
        finally:
            mail.shutdown()
            thread.join()


def test_the_cached_web(stage: Stage, example: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    process = stage.start("cached_web.py", "0")
    assert process.stdout
    address = process.stdout.readline().strip().removesuffix("/tea")

    def get(path: str) -> tuple[str, str]:
        with urllib.request.urlopen(f"{address}/{path}", timeout=30) as answer:
            return answer.headers["X-Cache"], answer.read().decode()

    first, again = get("tea"), get("tea")
    assert first[1].startswith("the price of tea") and again == ("hit", first[1]) and first[0] == "miss"
    with ThreadPoolExecutor(8) as pool:
        crowd = list(pool.map(lambda _: get("cake"), range(8)))
    assert sorted(cache for cache, _ in crowd) == ["hit"] * 7 + ["miss"] and len({page for _, page in crowd}) == 1
    web = example("cached_web")
    get_key, looks = web.client.kv.get, iter([None])
    monkeypatch.setattr(web.client.kv, "get", lambda key: next(looks, get_key(key)))  # the page is made behind the first look
    assert web.cached("page:/cake", lambda: b"once more") == (crowd[0][1].encode(), "hit")
    assert stage.client.kv.get("making:page:/cake") is None
    web.client.close()
    deadline = stage.client.kv.info("page:/tea")["deadline"]
    assert 0 < deadline - time.time() * 1000 <= 10_000
    stage.client.kv.put("making:page:/jam", "a process that has died", ttl=1, if_absent=True)
    assert get("jam")[0] == "miss", "its lease has run out"
    stage.server.kill()
    assert get("tea")[0] == "away"


def test_the_saga(stage: Stage) -> None:
    stage.start("flo", "worker", "run", "saga:steps")
    leader = stage.start("flo", "worker", "run", "saga:trips")

    def kept(trip: str) -> dict[str, bytes]:
        return {what: entry.value for what in ("flight", "hotel", "payment") if (entry := stage.client.kv.get(f"{what}:{trip}"))}

    assert stage.run("saga.py", "trip-1", "ada", "300") == "booked\n"
    assert kept("trip-1") == {"flight": b"ada", "hotel": b"ada", "payment": b"300"}
    assert re.fullmatch(
        r"not booked: the run \d+ has failed: NonRetryable: the bank refuses 3000 of bob\n", stage.run("saga.py", "trip-2", "bob", "3000")
    )
    assert kept("trip-2") == dict.fromkeys(("flight", "hotel", "payment"), b"undone")

    stage.client.actions.pause("pay", True)  # the leader waits in the middle, and dies there
    caller = stage.start("saga.py", "trip-3", "eve", "3000")
    wait_until(lambda: kept("trip-3") == {"flight": b"eve", "hotel": b"eve"}, "two steps")
    leader.kill()
    stage.client.actions.pause("pay", False)
    stage.start("flo", "worker", "run", "saga:trips")
    assert caller.communicate(timeout=60)[0].startswith("not booked: ")
    assert kept("trip-3") == dict.fromkeys(("flight", "hotel", "payment"), b"undone")
    assert len(list(stage.client.actions.runs("pay"))) == 3, "the second leader asked for the runs of the first"
