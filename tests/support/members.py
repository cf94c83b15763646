"""A cluster of real servers over a real etcd: what the tests of whole clusters are built on."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flo.client import Client
from flo.errors import FloError
from tests.support.etcd import EtcdCluster
from tests.support.processes import FloProcess, steady_port, wait_until

SECRET = "a secret"


class FloMember(FloProcess):
    """A server that is a member of a cluster. It keeps its port."""

    def __init__(self, directory: Path, node: str, etcd: EtcdCluster, secret_file: Path, settings: dict[str, str]) -> None:
        self.node = node
        self.own_port = steady_port()
        self.address = f"127.0.0.1:{self.own_port}"
        super().__init__(
            directory,
            "--port", str(self.own_port), "--advertise", self.address, "--secret-file", str(secret_file),
            environment={"FLO_CLUSTER_ETCD": ",".join(member.url for member in etcd.members), "FLO_CLUSTER_NODE": node, **settings},
            start=False,
        )  # fmt: skip

    def client(self, **given: Any) -> Client:
        """A client of this member; it follows to the leader."""
        return Client(f"flo://{self.address}", secret=SECRET, **given)

    def redis(self, **given: Any) -> Any:
        """A client of redis-py, which does not try again unless it is told to."""
        settings: dict[str, Any] = {"socket_timeout": 10, "retry": Retry(NoBackoff(), 0)} | given
        return redis.Redis(port=self.own_port, password=SECRET, **settings)

    def status(self) -> dict[str, Any]:
        """Its cluster_status; empty where it does not answer."""
        with suppress(FloError), self.client(retries=0, timeout=5) as client:
            return dict(client.cluster.status())
        return {}

    def pause(self) -> None:
        """It does nothing until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        os.kill(self.pid, signal.SIGCONT)


class FloCluster:
    """Members over one etcd: a context manager."""

    def __init__(self, directory: Path, etcd: EtcdCluster, **settings: str) -> None:
        """`settings` are those of the section cluster."""
        self.secret_file = directory / "secret"
        self.secret_file.write_text(SECRET)
        self.secret_file.chmod(0o600)
        environment = {f"FLO_CLUSTER_{name.upper()}": value for name, value in settings.items()}
        self.members = {node: FloMember(directory / f"data-{node}", node, etcd, self.secret_file, environment) for node in "abc"}

    def start(self) -> "FloCluster":
        """Start all, and wait for a leader that all know."""
        for member in self.members.values():
            member.start()
        self.settled()
        return self

    def settled(self) -> FloMember:
        """The leader, once all that run follow it."""

        def look() -> FloMember | None:
            told = {node: member.status() for node, member in self.members.items() if member.alive()}
            leads = [node for node, status in told.items() if status.get("mode") == "leader"]
            if len(leads) != 1 or not all(status.get("leader_node") == leads[0] for status in told.values()):
                return None
            follow = all(status["mode"] == "follower" for node, status in told.items() if node != leads[0])
            return self.members[leads[0]] if follow and set(told) <= {each["node"] for each in told[leads[0]]["members"]} else None

        found: FloMember = wait_until(look, "a leader that all follow")
        return found

    def follower(self) -> FloMember:
        """Any member that follows."""
        leader = self.settled()
        return next(member for member in self.members.values() if member is not leader and member.alive())

    def __enter__(self) -> "FloCluster":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for member in self.members.values():
            if member.process is not None and member.alive():
                member.resume()
            member.__exit__(kind, error, trace)
