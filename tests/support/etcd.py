"""Private members of etcd (Debian's package `etcd-server`): directories and ports of their own, ended by their process ids."""

import json
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from flo.endpoint import Endpoint
from tests.support.certificates import Files
from tests.support.processes import STOP_SECONDS, steady_port, wait_until

MISSING = "etcd or etcdctl is missing: apt-get install etcd-server etcd-client"


def is_installed() -> bool:
    """Whether this machine has etcd."""
    return shutil.which("etcd") is not None and shutil.which("etcdctl") is not None


class EtcdMember:
    """One member. It listens for clients, for its peers, and, without TLS, for who asks whether it is well."""

    def __init__(self, directory: Path, name: str, tls: Files | None, flags: Sequence[str]) -> None:
        self.name = name
        self.port, self._peer_port, self._health_port = steady_port(), steady_port(), steady_port()
        scheme = "https" if tls is not None else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.peer_url = f"http://127.0.0.1:{self._peer_port}"
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [
            "etcd", "--name", name, "--data-dir", str(directory / name),
            "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
            "--listen-metrics-urls", f"http://127.0.0.1:{self._health_port}",
            *flags,
        ]  # fmt: skip
        if tls is not None:
            self._command += ["--cert-file", str(tls.certificate), "--key-file", str(tls.key), "--client-cert-auth"]
            self._command += ["--trusted-ca-file", str(tls.authority)]

    def start(self, initial_cluster: str) -> None:
        """Start it; `is_well` says when it serves."""
        with self._log.open("ab") as log:
            command = [*self._command, "--initial-cluster", initial_cluster]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def is_well(self) -> bool:
        """Whether it serves, and knows a leader."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"etcd ended with {self._process.returncode}: {self.output()[-2000:]}")
        with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{self._health_port}/health", timeout=5) as answer:
            return bool(json.loads(answer.read())["health"] == "true")
        return False

    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(STOP_SECONDS)

    def pause(self) -> None:
        """It does nothing until `resume`; the kernel still takes its connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class EtcdCluster:
    """Members that make one etcd: a context manager."""

    def __init__(self, directory: Path, count: int = 1, *flags: str, tls: Files | None = None) -> None:
        """`tls` are the servers' files; clients then need a certificate of the same authority, and `etcdctl` shows this one."""
        self._tls = tls
        directory.mkdir(parents=True, exist_ok=True)
        self.members = [EtcdMember(directory, f"m{number}", tls, flags) for number in range(count)]
        self._initial = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where clients connect to."""
        return [Endpoint.parse(member.url) for member in self.members]

    def start(self, *members: EtcdMember) -> None:
        """Start these members, or all, and wait until each serves."""
        for member in members or self.members:
            member.start(self._initial)
        for member in members or self.members:
            wait_until(member.is_well, f"etcd's member {member.name}")

    def stop(self) -> None:
        """End all members."""
        for member in self.members:
            member.stop()

    def member_at(self, where: str) -> EtcdMember:
        """The member that a client means by `Etcd.member`."""
        return next(member for member in self.members if where.endswith(f":{member.port}"))

    def leader(self) -> EtcdMember:
        """The member that leads."""
        statuses: list[Any] = json.loads(self.ctl("endpoint", "status", "-w", "json"))
        leads = next(each["Endpoint"] for each in statuses if each["Status"]["leader"] == each["Status"]["header"]["member_id"])
        return next(member for member in self.members if member.url == leads)

    def ctl(self, *words: str, user: str = "") -> str:
        """What etcdctl prints."""
        command = ["etcdctl", "--endpoints", ",".join(member.url for member in self.members)]
        if user:
            command += ["--user", user]
        if self._tls is not None:
            command += ["--cacert", str(self._tls.authority), "--cert", str(self._tls.certificate), "--key", str(self._tls.key)]
        done = subprocess.run(
            [*command, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, f"etcdctl {words}: {done.stderr}"
        return done.stdout

    def __enter__(self) -> "EtcdCluster":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if kind is not None:
            for member in self.members:
                print(member.name, member.output()[-2000:])
