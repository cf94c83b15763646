"""Clusters of three real servers over three members of etcd, as their clients and operators see them."""

import http.client
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from flo.client import Client
from flo.errors import BadRequest, FloError, NotFound
from flo.proto.binary import NOT_LEADER
from tests.support import wire_client as wire
from tests.support.etcd import MISSING, EtcdCluster, is_installed
from tests.support.members import SECRET, FloCluster, FloMember
from tests.support.processes import ROOT, FloProcess, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not is_installed(), reason=MISSING)]

BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), 3) as members:
        yield members


@pytest.fixture
def cluster(tmp_path: Path, etcd: EtcdCluster, request: pytest.FixtureRequest) -> Iterator[FloCluster]:
    """Three members, of a cluster with a name of its own."""
    with FloCluster(tmp_path, etcd, name=re.sub(r"\W", "-", request.node.name)) as members:
        yield members.start()


def ask(member: FloMember, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """One request over HTTP: status, header, body."""
    connection = http.client.HTTPConnection("127.0.0.1", member.own_port, timeout=30)
    try:
        connection.request(method, path, body, BEARER)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def flo(cluster: FloCluster, port: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `flo cluster …`, against that port unless it is 0."""
    flags = ["--port", str(port), "--secret-file", str(cluster.secret_file)] if port else []
    command = [sys.executable, "-m", "flo", "cluster", *words, *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


class Writer(threading.Thread):
    """Writes a key after the other, each again until it is answered, at one member after the other; notes when."""

    def __init__(self, puts: list[Callable[[str], object]]) -> None:
        super().__init__(daemon=True)
        self._puts = puts
        self._ends = False
        self.answered: list[float] = []
        self.start()
        self.has_written(20)

    def run(self) -> None:
        at = 0
        while not self._ends:
            try:
                self._puts[at % len(self._puts)](f"written-{len(self.answered)}")
                self.answered.append(time.monotonic())
            except (FloError, redis.RedisError):
                at += 1
                time.sleep(0.01)  # as a client does that tries again: no busy loop beside the servers

    def has_written(self, more: int) -> None:
        """Wait for so many more answers."""
        enough = len(self.answered) + more
        wait_until(lambda: len(self.answered) >= enough, f"{more} more writes")

    def end(self) -> float:
        """Stop it; returns the longest time without an answer."""
        self._ends = True
        self.join(60)
        return max(after - before for before, after in zip(self.answered, self.answered[1:], strict=False))

    def check(self, client: Client) -> None:
        """Everything that was answered is there."""
        for at in range(0, len(self.answered), 100):
            keys = [f"written-{number}" for number in range(at, min(at + 100, len(self.answered)))]
            assert [entry and entry.value for entry in client.kv.mget(keys)] == [key.encode() for key in keys]


def puts_by_flo_client(cluster: FloCluster) -> list[Callable[[str], object]]:
    """One client, which knows the addresses of all members."""
    addresses = ",".join(member.address for member in cluster.members.values())
    client = Client(f"flo://{addresses}", secret=SECRET, timeout=5)
    return [lambda key: client.kv.put(key, key)]


def test_a_follower_names_the_leader_over_each_protocol(tmp_path: Path, etcd: EtcdCluster) -> None:
    with FloCluster(tmp_path, etcd, name="names", forward="false") as cluster:
        leader = cluster.start().settled()
        follower = cluster.follower()
        response = wire.Client(follower.own_port, secret=SECRET.encode()).respond(wire.kv_put(b"k", b"v"))
        assert (response.status, bytes(response.payload)) == (NOT_LEADER, leader.address.encode())
        with follower.redis() as client:
            with pytest.raises(redis.ReadOnlyError, match=f"the leader is at {leader.address}"):
                client.set("k", "v")
            assert client.execute_command("ROLE")[0] == b"slave"
            facts = client.info("replication")
            assert (facts["role"], facts["master_port"], facts["flo_cluster_node"]) == ("slave", leader.own_port, follower.node)
            [[first, last, [_, port, *_]]] = client.execute_command("CLUSTER SLOTS")
            assert (first, last, port) == (0, 16383, leader.own_port)
        status, headers, body = ask(follower, "PUT", "/api/v1/kv/default/keys/k", b"v")
        assert (status, headers["Flo-Leader"]) == (503, leader.address)
        assert json.loads(body)["detail"] == f"this member of the cluster follows; the leader is at {leader.address}"
        assert [ask(member, "GET", "/ready?leader")[0] for member in (leader, follower)] == [200, 503]
        assert ask(follower, "GET", "/ready")[0] == 200
        with follower.client(retries=0) as flo_client:  # it goes to the leader by itself
            flo_client.kv.put("k", "v")


def test_metrics_of_a_member(cluster: FloCluster) -> None:
    leader = cluster.settled()
    with leader.client() as client:
        client.kv.put("k", "v")
    page = ask(leader, "GET", "/metrics")[2].decode()
    values = dict(re.findall(r"^(flo_cluster_\S+) (\S+)$", page, re.MULTILINE))
    assert values[f'flo_cluster_role{{node="{leader.node}",role="leader"}}'] == "1"
    assert (values["flo_cluster_leads"], values["flo_cluster_etcd_connected"]) == ("1", "1")
    assert float(values["flo_cluster_ack_seconds_sum"]) > 0 and int(values["flo_cluster_tail_bytes"]) > 0
    assert {f'flo_cluster_member_lag_records{{member="{node}"}}' for node in cluster.members} <= set(values)
    follower = ask(cluster.follower(), "GET", "/metrics")[2].decode()
    assert "\nflo_cluster_leads 0\n" in follower and re.search(r"^flo_cluster_elections_total [1-9]", follower, re.MULTILINE)


def test_a_standalone_server_is_in_no_cluster(tmp_path: Path) -> None:
    with FloProcess(tmp_path / "data") as server, Client(f"flo://127.0.0.1:{server.port}") as client:
        cluster = client.cluster
        calls: list[Callable[[], None]] = [cluster.join, cluster.leave, lambda: cluster.promote("a"), lambda: cluster.remove("a")]
        for call in calls:
            with pytest.raises(BadRequest, match="standalone"):
                call()
        page = subprocess.run(
            [sys.executable, "-m", "flo", "cluster", "status", "--port", str(server.port)], capture_output=True, text=True, cwd=ROOT
        )
        assert (page.returncode, "standalone" in page.stderr) == (1, True)


def test_flo_client_rides_through_a_kill_and_a_hand_over(cluster: FloCluster) -> None:
    writer = Writer(puts_by_flo_client(cluster))
    first = cluster.settled()
    first.kill()
    second = cluster.settled()
    writer.has_written(20)
    first.start()
    cluster.settled()
    with second.client() as client:
        client.cluster.promote(first.node)
    wait_until(lambda: cluster.settled() is first, "the lead at the promoted member")
    writer.has_written(20)
    assert writer.end() < 10.0  # about 2.5 s on a machine that does nothing else
    with first.client() as client:
        writer.check(client)


def test_redis_py_rides_through_a_kill_and_a_hand_over(cluster: FloCluster) -> None:
    """It is given the address of one member, and passed on to the leader."""
    first = cluster.settled()
    follower = cluster.follower()
    retried: list[type[Exception]] = [redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError]
    client = follower.redis(retry=Retry(ConstantBackoff(0.1), 100), retry_on_error=retried)
    writer = Writer([lambda key: client.set(key, key)])
    first.kill()
    second = cluster.settled()
    writer.has_written(20)
    first.start()
    cluster.settled()
    assert flo(cluster, second.own_port, "promote", first.node).returncode == 0
    wait_until(lambda: cluster.settled() is first, "the lead at the promoted member")
    writer.has_written(20)
    assert writer.end() < 10.0  # about 2.5 s on a machine that does nothing else
    with first.client() as flo_client:
        writer.check(flo_client)


def test_a_rolling_restart_loses_nothing(cluster: FloCluster) -> None:
    """The followers first, then the leader, which hands its lead over."""
    writer = Writer(puts_by_flo_client(cluster))
    leader = cluster.settled()
    for member in sorted(cluster.members.values(), key=lambda each: each is leader):
        assert member.stop() == 0
        writer.has_written(5)
        member.start()
        cluster.settled()
        writer.has_written(5)
    gap = writer.end()
    assert gap < 5.0, f"{gap:.2f} s without an answer"
    with cluster.settled().client() as client:
        writer.check(client)


def test_a_follower_that_was_away_copies_and_serves(cluster: FloCluster) -> None:
    leader, away = cluster.settled(), cluster.follower()
    away.kill()
    with leader.client() as client:
        for number in range(110):  # more than the 64 MiB that are kept in etcd
            client.kv.put(f"large-{number}", bytes([number]) * 1_000_000)
        wait_until(lambda: leader.status()["engine"]["tail_bytes"] < 80e6, "a trimmed tail")
        client.kv.put("last", "v")
    away.start()
    wait_until(lambda: "cluster: copied" in away.output(), "a copy", 60)
    cluster.settled()
    with away.redis() as follower:
        wait_until(lambda: follower.get("last") == b"v", "the last write")
        assert follower.get("large-0") == bytes(1_000_000) and follower.get("large-109") == b"\x6d" * 1_000_000


def test_a_leader_that_stood_still_shows_nothing_old(cluster: FloCluster) -> None:
    paused = cluster.settled()
    with paused.client() as client:
        client.kv.put("k", "old")
    with paused.redis() as reader:
        assert reader.get("k") == b"old"
        paused.pause()
        others = [member for member in cluster.members.values() if member is not paused]
        leader = wait_until(lambda: next((each for each in others if each.status().get("mode") == "leader"), None), "another leader")
        with leader.client() as client:
            client.kv.put("k", "new")
        paused.resume()
        for _ in range(100):
            with suppress(redis.RedisError):
                assert reader.get("k") == b"new"
    assert cluster.settled() is leader
    with paused.redis() as reader:
        assert reader.get("k") == b"new"


def test_an_operator_moves_the_lead_and_members(cluster: FloCluster) -> None:
    leader, follower = cluster.settled(), cluster.follower()
    third = next(member for member in cluster.members.values() if member not in (leader, follower))
    shown = flo(cluster, follower.own_port, "status")
    assert shown.returncode == 0 and f"{leader.node} at {leader.address}" in shown.stdout
    assert re.search(rf"^{leader.node} +leader ", shown.stdout, re.MULTILINE)
    told = json.loads(flo(cluster, leader.own_port, "status", "--format", "json").stdout)
    assert (told["mode"], [each["node"] for each in told["members"]]) == ("leader", ["a", "b", "c"])
    assert len(flo(cluster, leader.own_port, "status", "--format", "raw").stdout.splitlines()) == 10
    # the lead
    promoted = flo(cluster, follower.own_port, "promote", follower.node)
    assert (promoted.returncode, promoted.stdout) == (0, f"the lead goes to {follower.node}\n")
    wait_until(lambda: cluster.settled() is follower, "the lead at the promoted member")
    unknown = flo(cluster, follower.own_port, "promote", "z")
    assert (unknown.returncode, unknown.stderr) == (1, "flo: the cluster has no member 'z'; it has a, b, c\n")
    with follower.client() as client:
        with pytest.raises(BadRequest, match="is this member"):
            client.cluster.remove(follower.node)
        with pytest.raises(NotFound):
            client.cluster.remove("z")
    # a member that is gone
    third.kill()
    assert flo(cluster, follower.own_port, "remove", third.node).stdout == f"{third.node} is forgotten\n"
    wait_until(lambda: {each["node"] for each in leader.status()["members"]} == {leader.node, follower.node}, "two members")
    # its log is made anew
    refused = flo(cluster, 0, "reseed", str(leader.directory))
    assert (refused.returncode, "in use" in refused.stderr) == (1, True)
    made = flo(cluster, 0, "reseed", str(third.directory))
    assert made.returncode == 0 and re.search(rf"set aside in {third.directory}/before-reseed-\d+-\d+\n", made.stdout)
    assert not list(third.directory.glob("*.seg")) and list(third.directory.glob("before-reseed-*/MANIFEST"))
    again = flo(cluster, 0, "reseed", str(third.directory))
    assert (again.returncode, "holds no log" in again.stderr) == (1, True)
    with follower.client() as client:
        client.kv.put("k", "v")
    third.start()
    cluster.settled()
    with third.redis() as reader:
        wait_until(lambda: reader.get("k") == b"v", "the write at the member that was made anew")
    # the leader leaves
    assert flo(cluster, follower.own_port, "leave").returncode == 0
    assert wait_until(lambda: follower.process and follower.process.poll() is not None, "the end of the member that leaves")
    assert cluster.settled() in (leader, third)
    assert [each["node"] for each in cluster.settled().status()["members"]] == sorted((leader.node, third.node))
    shutil.rmtree(follower.directory)


def test_a_leader_without_etcd_still_tells_of_itself(tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd", 3) as etcd, FloCluster(tmp_path, etcd) as cluster:
        leader, other = cluster.start().settled(), cluster.follower()
        for member in etcd.members[:2]:
            member.stop()
        wait_until(lambda: other.status().get("mode") == "candidate", "a follower that misses the leader")

        def answers() -> bool:
            connection = http.client.HTTPConnection("127.0.0.1", leader.own_port, timeout=1)
            try:
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
            except OSError:  # it holds its replies back as long as it may lead; then it starts again
                return False
            finally:
                connection.close()

        wait_until(answers, "what it tells of itself", 20)
        assert leader.status()["mode"] == "starting"
        wait_until(lambda: not leader.status()["engine"]["ok"], "that etcd does not answer")
        etcd.start(*etcd.members[:2])
        cluster.settled()


def test_a_server_that_was_alone_becomes_a_cluster(tmp_path: Path, etcd: EtcdCluster) -> None:
    with FloCluster(tmp_path, etcd, name="begun") as cluster:
        first, second = cluster.members["a"], cluster.members["b"]
        with FloProcess(first.directory) as alone, alone.connect() as client:
            client.command("SET", "k", "v")
            client.command("LPUSH", "jobs", "one", "two")
            refused = flo(cluster, 0, "begin", str(first.directory))
            assert (refused.returncode, "in use" in refused.stderr) == (1, True)
            alone.stop()
        assert flo(cluster, 0, "begin", str(first.directory)).returncode == 0
        first.start()
        assert cluster.settled() is first
        assert not (first.directory / "BEGIN-CLUSTER").exists()
        second.start()
        cluster.settled()
        with second.redis() as reader:
            wait_until(lambda: reader.get("k") == b"v", "the copy")
        first.kill()
        wait_until(lambda: cluster.settled() is second, "the lead at the member that has copied")
        with second.redis() as client:
            assert client.llen("jobs") == 2
            assert client.set("k", "w")
        empty = flo(cluster, 0, "begin", str(tmp_path))
        assert (empty.returncode, "holds no log" in empty.stderr) == (1, True)


def test_a_member_that_is_ahead_of_the_replicated_log_ends_and_says_why(tmp_path: Path, etcd: EtcdCluster) -> None:
    with FloCluster(tmp_path, etcd, name="ahead") as cluster:
        member = cluster.members["a"]
        with FloProcess(member.directory) as alone, alone.connect() as client:
            client.command("SET", "k", "v")
            alone.stop()
        with suppress(RuntimeError):
            member.start()
        wait_until(lambda: "ends with index 1" in member.output(), "the refusal")
        wait_until(lambda: not member.alive(), "its end", 5)
