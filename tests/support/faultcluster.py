"""Three members of etcd and three of Flo as processes of one machine, and what may befall them.

Each process has a network namespace of its own where this user may make one, so that any two can be cut off from each other. Else all are
on the loopback interface, and nothing is cut.
"""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.processes import ROOT, STOP_SECONDS, RespClient, steady_port, wait_until

SECRET = "the secret of the tests"
COUNT = 3
PATIENCE_SECONDS = 60  # for all to be well again
END_SECONDS = 10  # for a member that was told to end
_numbers = itertools.count()


class Network:
    """An address for each process. `cuts`: whether two can be cut off from each other."""

    def __init__(self, count: int, namespaces: bool) -> None:
        number = (os.getpid() * 7 + next(_numbers)) % 250
        self._bridge = f"flo-test{number}"
        self.hosts = [f"198.18.{number}.{at + 1}" for at in range(count)]  # of the addresses for benchmarks of networks
        self.spaces = [f"{self._bridge}-{at + 1}" for at in range(count)]
        self.cuts = namespaces and os.geteuid() == 0 and shutil.which("ip") is not None
        if self.cuts:
            try:
                self._make(f"198.18.{number}.254/24")
            except subprocess.CalledProcessError:
                self.close()
                self.cuts = False
        if not self.cuts:
            self.hosts = ["127.0.0.1"] * count

    def _make(self, address: str) -> None:
        ip("link", "add", self._bridge, "type", "bridge")
        ip("address", "add", address, "dev", self._bridge)
        ip("link", "set", self._bridge, "up")
        for at, space in enumerate(self.spaces):
            here = f"{self._bridge}.{at}"
            ip("netns", "add", space)
            ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", here, "master", self._bridge, "up")
            ip("-n", space, "address", "add", f"{self.hosts[at]}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")

    def inside(self, at: int) -> list[str]:
        """The words before a command that is to run there."""
        return ["ip", "netns", "exec", self.spaces[at]] if self.cuts else []

    def cut(self, one: int, other: int) -> None:
        """Let nothing through between the two."""
        self.cut_way(one, other)
        self.cut_way(other, one)

    def cut_way(self, here: int, there: int) -> None:
        """Let nothing through from here to there; what comes from there arrives."""
        ip("-n", self.spaces[here], "route", "replace", "blackhole", f"{self.hosts[there]}/32")

    def heal(self) -> None:
        """Let everything through."""
        if self.cuts:
            for space, there in itertools.product(self.spaces, self.hosts):
                with suppress(subprocess.CalledProcessError):
                    ip("-n", space, "route", "delete", "blackhole", f"{there}/32")

    def close(self) -> None:
        """Remove it."""
        if self.cuts:
            for space in self.spaces:
                with suppress(subprocess.CalledProcessError):
                    ip("netns", "delete", space)
            with suppress(subprocess.CalledProcessError):
                ip("link", "delete", self._bridge)


def ip(*words: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Program:
    """One process, which may be ended and started again."""

    def __init__(self, name: str, host: str, port: int, command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
        self.name, self.host, self.port = name, host, port
        self._command, self._log, self._environment = command, log, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._slowed: subprocess.Popen[bytes] | None = None
        self.paused = self.ends = False

    def start(self) -> None:
        """Start it, unless it runs; if it was told to end, wait for that first."""
        if self.ends:
            self.wait()
        if not self.alive:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=self._environment
                )

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None and self.alive:
            self._process.send_signal(number)

    def pause(self) -> None:
        """It does nothing until `resume`."""
        self.paused = True
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self.signal(signal.SIGCONT)
        self.paused = False

    def slow_disk(self, seconds: float) -> None:
        """Each sync takes so much longer, until `resume_disk`."""
        self.resume_disk()
        if self._process is not None and self.alive:
            syncs, delay = "fsync,fdatasync", int(seconds * 1e6)
            self._slowed = subprocess.Popen(
                ["strace", "-f", "-qqq", "-o", os.devnull, "-e", f"trace={syncs}", "-e", f"inject={syncs}:delay_enter={delay}",
                 "-p", str(self._process.pid)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip

    def resume_disk(self) -> None:
        """Its disk is as fast as it was."""
        if self._slowed is not None:
            self._slowed.terminate()
            self._slowed.wait(STOP_SECONDS)
            self._slowed = None

    def end(self) -> None:
        """Tell it to end; `wait` and `start` wait for that."""
        self.ends = True
        self.signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended, as it was told to."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
            self.kill()
        self.ends = False

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        self.resume_disk()
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(STOP_SECONDS)

    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")


class FaultCluster:
    """The cluster: a context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        forward: bool,
        keep_bytes: int = 0,
        sabotage: str = "",
        plain: bool = False,
        etcd_flags: Sequence[str] = (),
    ) -> None:
        """With `keep_bytes`, so little of the log is kept in etcd. `sabotage`: see tests/support/sabotaged.py. `plain`, for measuring: all
        are on the loopback interface, without a secret, and have the ordinary clock and segments of the ordinary size."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.secret = "" if plain else SECRET
        secret = directory / "secret"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        self.network = Network(2 * COUNT, namespaces=not plain)
        hosts = self.network.hosts
        clients, peers = [steady_port() for _ in range(COUNT)], [steady_port() for _ in range(COUNT)]
        initial = ",".join(f"e{at}=http://{hosts[at]}:{peers[at]}" for at in range(COUNT))
        self.etcds = []
        for at in range(COUNT):
            serves, speaks = f"http://{hosts[at]}:{clients[at]}", f"http://{hosts[at]}:{peers[at]}"
            command = [
                *self.network.inside(at), "etcd", "--name", f"e{at}", "--data-dir", str(directory / f"e{at}"),
                "--listen-client-urls", serves, "--advertise-client-urls", serves,
                "--listen-peer-urls", speaks, "--initial-advertise-peer-urls", speaks,
                "--initial-cluster", initial, "--initial-cluster-token", f"{directory.name}{os.getpid()}", *etcd_flags,
            ]  # fmt: skip
            self.etcds.append(Program(f"e{at}", hosts[at], clients[at], command, directory / f"e{at}.log", dict(os.environ)))
        environment = os.environ | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "FLO_CLUSTER_ETCD": ",".join(f"http://{etcd.host}:{etcd.port}" for etcd in self.etcds),
            "FLO_CLUSTER_FORWARD": str(forward).lower(),
            "TEST_SABOTAGE": sabotage,
        }
        if not plain:
            environment["FLO_LOG_SEGMENT_BYTES"] = "4mb"
        if keep_bytes:
            environment["TEST_KEEP_BYTES"] = str(keep_bytes)
        self.ahead_ms = 0  # how far the wall clocks of Flo's members are ahead when all is well: the log's clock never goes back
        self.flos = []
        for at in range(COUNT):
            host, port, name = hosts[COUNT + at], steady_port(), f"f{at}"
            command = [
                *self.network.inside(COUNT + at), sys.executable, str(ROOT / "tests" / "support" / "sabotaged.py"), "server", "start",
                "--port", str(port), "--bind", host, "--advertise", f"{host}:{port}",
                "--data-dir", str(directory / name), *(["--insecure"] if plain else ["--secret-file", str(secret)]),
            ]  # fmt: skip
            own = environment | {"FLO_CLUSTER_NODE": name} | ({} if plain else {"TEST_CLOCK": str(self._clock(name))})
            self.flos.append(Program(name, host, port, command, directory / f"{name}.log", own))

    def _clock(self, name: str) -> Path:
        return self.directory / f"{name}.clock"

    def set_clock(self, flo: Program, ms: int) -> None:
        """That member's wall clock is so far ahead of this machine's, or behind it."""
        self.ahead_ms = max(self.ahead_ms, ms)
        with self._clock(flo.name).open("r+b" if self._clock(flo.name).exists() else "wb") as file:
            file.write(ms.to_bytes(8, "little", signed=True))

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where clients connect to."""
        return [(flo.host, flo.port) for flo in self.flos]

    def connect(self, flo: Program, timeout: float = 5) -> RespClient:
        """A client of one member. Raises `OSError`."""
        connection = RespClient(flo.port, timeout, flo.host)
        if self.secret and connection.command("AUTH", self.secret) != b"OK":
            raise ConnectionError(f"{flo.name} does not take the secret")
        return connection

    def ask(self, flo: Program, *words: bytes | str | int, timeout: float = 5) -> Any:
        """One answer of one member; None if it gives none."""
        with suppress(OSError, ValueError), self.connect(flo, timeout) as connection:
            return connection.command(*words)
        return None

    def leader(self) -> Program | None:
        """The member that says that it leads."""
        for flo in self.flos:
            if flo.alive and not flo.paused:
                role = self.ask(flo, "ROLE", timeout=0.5)
                if isinstance(role, list) and role[0] == b"master":
                    return flo
        return None

    def serves(self, flo: Program) -> bool:
        """Whether that member serves reads itself. One that cannot may pass them on to the leader, so that its answers show nothing."""
        with suppress(OSError, HTTPException), closing(HTTPConnection(flo.host, flo.port, timeout=1)) as connection:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        return False

    def etcd_status(self) -> list[dict[str, Any]]:
        """What each member of etcd that answers says of itself: `etcdctl endpoint status`."""
        endpoints = ",".join(f"http://{etcd.host}:{etcd.port}" for etcd in self.etcds)
        command = ["etcdctl", "--endpoints", endpoints, "endpoint", "status", "-w", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=os.environ | {"ETCDCTL_API": "3"})
        told: list[dict[str, Any]] = json.loads(done.stdout or "[]")
        return told

    def etcd_is_well(self) -> bool:
        """Whether all members of etcd answer, and know one leader."""
        leaders = [each["Status"]["leader"] for each in self.etcd_status()]
        return len(leaders) == COUNT and len({*leaders}) == 1 and leaders[0] != 0

    def offset(self, flo: Program) -> int:
        """The last index in that member's log; 0 if it does not say. A member that is behind may pass reads on, so they do not tell."""
        told = self.ask(flo, "INFO", "replication")
        found = re.search(rb"master_repl_offset:(\d+)", told) if isinstance(told, bytes) else None
        return int(found[1]) if found else 0

    def leader_of_etcd(self) -> Program:
        """The member of etcd that leads; any, if none says so."""
        for etcd in self.etcds:
            command = ["etcdctl", "--endpoints", f"http://{etcd.host}:{etcd.port}", "--command-timeout", "500ms", "endpoint", "status"]
            environment = os.environ | {"ETCDCTL_API": "3"}
            told = subprocess.run([*command, "-w", "json"], capture_output=True, env=environment, check=False)
            with suppress(ValueError, LookupError):
                status = json.loads(told.stdout)[0]["Status"]
                if status["leader"] == status["header"]["member_id"]:
                    return etcd
        return self.etcds[0]

    def cut_from_etcd(self, flo: Program, way: str = "both") -> None:
        """Let nothing through between that member of Flo and etcd, or only nothing "there", or nothing "back"."""
        here = COUNT + self.flos.index(flo)
        for at in range(COUNT):
            if way != "back":
                self.network.cut_way(here, at)
            if way != "there":
                self.network.cut_way(at, here)

    def isolate(self, etcd: Program, clients_too: bool) -> None:
        """Let nothing through between that member of etcd and its peers, and Flo as well."""
        here = self.etcds.index(etcd)
        for at in range(2 * COUNT if clients_too else COUNT):
            if at != here:
                self.network.cut(here, at)

    def heal(self) -> None:
        """Nothing is cut off, all go on, what has ended is started, and the wall clocks agree."""
        self.network.heal()
        for flo in self.flos:
            self.set_clock(flo, self.ahead_ms)
        for program in (*self.etcds, *self.flos):
            program.resume_disk()
            program.resume()
            program.start()

    def settle(self, marker: str) -> Program:
        """Wait until a write is answered, and all members show it; returns the one that leads."""

        def written() -> Program | None:
            for flo in self.flos:
                if not flo.alive:
                    tail = flo.output()[-1500:]
                    raise AssertionError(f"{flo.name} has ended by itself:\n{tail}")
            leader = self.leader()
            return leader if leader is not None and self.ask(leader, "SET", "marker", marker) == b"OK" else None

        leader: Program = wait_until(written, "a leader", PATIENCE_SECONDS)
        reached = self.offset(leader)
        for flo in self.flos:
            what = f"{flo.name}'s agreement: {flo.output()[-1500:]}"
            wait_until(lambda flo=flo: self.offset(flo) >= reached, what, PATIENCE_SECONDS)  # type: ignore[misc]
            wait_until(lambda flo=flo: self.shows(flo, "marker", marker), what, PATIENCE_SECONDS)  # type: ignore[misc]
        return leader

    def shows(self, flo: Program, key: str, value: str) -> bool:
        """Whether that member itself has this value of the key."""
        return self.serves(flo) and self.ask(flo, "GET", key) == value.encode()

    def copies(self, into: Path) -> list[Path]:
        """The directories of the three members of Flo as they are at one moment, as a crash would leave them."""
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        for flo in self.flos:
            flo.pause()
        try:
            for flo in self.flos:
                subprocess.run(["cp", "-r", "--sparse=always", str(self.directory / flo.name), str(into / flo.name)], check=True)
        finally:
            for flo in self.flos:
                flo.resume()
        return [into / flo.name for flo in self.flos]

    def __enter__(self) -> "FaultCluster":
        try:
            self.heal()
            self.settle("begin")
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """End everything, and remove the directory: etcd reserves 128 MiB for each member."""
        for program in (*self.flos, *self.etcds):
            program.resume()
            program.kill()
        self.network.close()
        shutil.rmtree(self.directory)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            for flo in self.flos:
                print(f"---- {flo.name}\n{flo.output()[-3000:]}")
        self.close()
