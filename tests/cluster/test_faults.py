"""Rounds of faults, by a seed, in a cluster of three members of etcd and three of Flo, under clients that write down what they see."""

import heapq
import shutil
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from flo.ual.log import Log
from flo.ual.record import Record
from tests.support.faultcluster import SECRET, FaultCluster, Program
from tests.support.histories import LEASE_MS, Clients, History, drain, points_of
from tests.support.linearizable import TooHard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed: apt-get install etcd-server"),
]

CLIENTS = 8
FAULT_SECONDS = 5.0
COPIES_MAX = 5  # the leader's clock may be written while they are made: then one log is a record behind
CLOCK_MS = 3_600_000  # the largest step of a wall clock, forward or back
SEED = 29


class Round:
    """Faults for some seconds, then everything is well again, and then what must hold."""

    def __init__(self, cluster: FaultCluster, seed: int) -> None:
        self.cluster, self.seed = cluster, seed
        self.rng = Random(seed)
        self.history = History(f"round{seed}")
        self.done: list[str] = []  # what has befallen whom
        self._todo: list[tuple[float, int, Callable[[], None]]] = []

    # -- faults ------------------------------------------------------------------------------------

    def run(self, faults: Callable[["Round"], None]) -> str:
        """The round; returns a line about it. Raises `AssertionError` with the seed."""
        began = time.monotonic()
        self.clients = clients = Clients(self.cluster.addresses, SECRET, self.history, self.seed, CLIENTS)
        try:
            try:
                faults(self)
                self.run_until(FAULT_SECONDS)
            finally:
                ended = time.monotonic()
                self.cluster.heal()
                clients.stop()
            leader = self.cluster.settle(f"{self.seed}")
            self._check(leader)
        except (AssertionError, TimeoutError, TooHard) as e:
            raise AssertionError(f"seed {self.seed}, {', '.join(self.done)}: {e}") from e
        answers = self.history.answers
        times = [began, *sorted(self.history.answered_at), ended]
        gap = max((b - a for a, b in pairwise(times)))
        return (
            f"seed {self.seed}: {time.monotonic() - began:.1f} s, {answers['answered']} answers, {answers['lost']} lost, "
            f"{answers['refused']} refused, no write for {gap:.1f} s; {', '.join(self.done)}"
        )

    def run_until(self, seconds: float) -> None:
        """Do what is to be done, for so long."""
        start, nothing = time.monotonic(), Event()
        while self._todo and self._todo[0][0] <= seconds:
            at, _, action = heapq.heappop(self._todo)
            nothing.wait(max(start + at - time.monotonic(), 0))
            action()
        nothing.wait(max(start + seconds - time.monotonic(), 0))

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this then."""
        heapq.heappush(self._todo, (seconds, len(self._todo) + len(self.done), action))

    def plan(self) -> None:
        """Two to four faults at random."""
        rng = self.rng
        kinds = [
            "kill flo",
            "kill flo",
            "kill etcd",
            "kill both leaders",
            "pause flo",
            "pause flo",
            "pause etcd",
            "end flo",
            "pause and end flo",
        ]
        kinds += ["clock of flo", "disk of flo", "disk of etcd", "disk of etcd"]
        if self.cluster.network.cuts:
            kinds += [
                "cut flo",
                "cut flo",
                "cut flo's sending",
                "cut flo's hearing",
                "cut and end flo",
                "cut etcd",
                "cut etcd from its peers",
            ]
        for _ in range(rng.randint(2, 4)):
            kind, start, length = rng.choice(kinds), rng.uniform(0.2, FAULT_SECONDS - 1.5), rng.uniform(0.2, 4)
            self.fault(kind, start, length, leader=rng.random() < 0.6, avoided=rng.random() < 0.5, at=rng.randrange(3))

    def fault(self, kind: str, start: float, length: float, *, leader: bool, avoided: bool, at: int = 0) -> None:
        """Let something befall the leader, or the member number `at`. If it is `avoided`, it gets nothing but reads then."""
        self.at(start, lambda: self._begin(kind, start, length, leader, avoided, at))

    def _begin(self, kind: str, start: float, length: float, prefers_leader: bool, avoided: bool, at: int) -> None:
        cluster, of_etcd = self.cluster, " etcd" in kind
        leader = None if of_etcd else cluster.leader()
        target = (leader if prefers_leader or kind == "kill both leaders" else None) or (cluster.etcds if of_etcd else cluster.flos)[at]
        avoided = avoided and kind.startswith(("pause", "cut")) and not of_etcd
        if avoided:
            self.clients.avoid.add((target.host, target.port))
            self.at(start + length + 0.3, self.clients.avoid.clear)
            Event().wait(0.1)  # writes that are under way are answered
        self.done.append(
            f"{kind} {target.name}{' (leads)' if target is leader else ''}{' (avoided)' if avoided else ''} at {start:.1f} for {length:.1f}"
        )
        if kind.endswith("and end flo"):
            self._end_later(target, start + length - (0.2 if kind.startswith("cut") else 0))
        self.at(start + length, self._befall(kind, target))

    def _befall(self, kind: str, target: Program) -> Callable[[], None]:
        """Do it; returns what undoes it."""
        cluster = self.cluster
        if kind.startswith("kill"):
            targets = [target, cluster.leader_of_etcd()] if kind == "kill both leaders" else [target]
            for each in targets:
                each.resume()
                each.kill()

            def undo() -> None:
                for each in targets:
                    each.start()

            return undo
        if kind.startswith("pause"):
            target.pause()
            return target.resume
        if kind.startswith("disk"):
            target.slow_disk(self.rng.uniform(0.02, 0.3))
            return target.resume_disk
        if kind == "clock of flo":
            self.history.clock_jumps = True
            before = cluster.ahead_ms
            cluster.set_clock(target, before + self.rng.randrange(-CLOCK_MS, CLOCK_MS))
            return lambda: cluster.set_clock(target, before)
        if kind == "end flo":
            target.resume()
            target.end()
            return target.start
        if kind.endswith("flo") or kind.startswith("cut flo"):
            cluster.cut_from_etcd(target, {"cut flo's sending": "there", "cut flo's hearing": "back"}.get(kind, "both"))
        else:
            cluster.isolate(target, clients_too=kind == "cut etcd")
        return cluster.network.heal

    def _end_later(self, flo: Program, at: float) -> None:
        self.at(at, flo.end)
        self.at(at + 1.0, flo.start)

    # -- what must hold ----------------------------------------------------------------------------

    def _check(self, leader: Program) -> None:
        cluster, history = self.cluster, self.history
        with cluster.connect(leader, 30) as connection:
            for queue in history.queues:
                drain(connection, history, queue, LEASE_MS / 1000 + 10)
            for stream in history.streams:
                entries = [(entry, fields[1]) for entry, fields in connection.command("XRANGE", stream, "-", "+")]
                history.check_stream(stream, entries)
        for series in history.series:
            history.check_series(series, points_of(leader.host, leader.port, SECRET, series))
        history.check()
        cluster.settle(f"{self.seed} drained")
        states = [self._state(flo) for flo in cluster.flos]
        assert states[0] == states[1] == states[2], f"the members show different things: {differing(states)}"
        check_logs(cluster)

    def _state(self, flo: Program) -> dict[str, Any]:
        history = self.history
        with self.cluster.connect(flo, 30) as connection:
            return (
                {key: connection.command("GETV", key) for key in (*history.registers, *history.counters, *history.versioned)}
                | {queue: connection.command("LRANGE", queue, 0, -1) for queue in history.queues}
                | {stream: connection.command("XRANGE", stream, "-", "+") for stream in history.streams}
            )


def differing(states: list[dict[str, Any]]) -> str:
    """The first key that is not the same everywhere."""
    return next(f"{key}: {[state[key] for state in states]}"[:1000] for key in states[0] if any(s[key] != states[0][key] for s in states))


def check_logs(cluster: FaultCluster) -> None:
    """Assert that the members' logs have the same records. Compaction may have dropped a record of one and not yet of another."""
    for _ in range(COPIES_MAX):
        logs = [records_of(copy) for copy in cluster.copies(cluster.directory / "copies")]
        ends = [max(log) for log in logs]
        if len(set(ends)) == 1:
            break
    else:
        raise AssertionError(f"the logs end with {ends}, however often they are looked at")
    for one, other in ((0, 1), (1, 2), (0, 2)):
        both = logs[one].keys() & logs[other].keys()
        differs = next((index for index in sorted(both) if logs[one][index] != logs[other][index]), None)
        assert differs is None, f"index {differs} is {logs[one][differs or 0]} and {logs[other][differs or 0]}"


def records_of(directory: Path) -> dict[int, Record]:
    """The records of a log, by index."""
    found: dict[int, Record] = {}
    Log(str(directory), found.__setitem__).abandon()
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("forward", "keep_bytes"), [(True, 0), (False, 100_000)])
def test_what_was_acknowledged_survives_faults(tmp_path: Path, forward: bool, keep_bytes: int, long_run: bool) -> None:
    with FaultCluster(tmp_path / "cluster", forward=forward, keep_bytes=keep_bytes) as cluster:
        for number in range(100 if long_run else 4):
            line = Round(cluster, SEED + 1000 * forward + number).run(Round.plan)
            if long_run:
                print(line, flush=True)


def cut_off(each: Round) -> None:
    """The leader is cut off from etcd, and well again while its clients still wait."""
    each.fault("cut flo", 0.5, 3.7, leader=True, avoided=False)


def cut_off_and_only_read(each: Round) -> None:
    """The leader is cut off from etcd, and from those who write."""
    each.fault("cut flo", 0.3, 4.5, leader=True, avoided=True)


def killed(each: Round) -> None:
    """The leader ends without a word, again and again."""
    for start in (0.3, 3.5):
        each.fault("kill flo", start, 0.5, leader=True, avoided=False)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("rule", "faults"),
    [("claim", cut_off), ("fresh", cut_off_and_only_read), ("wait", killed)],
)
def test_each_rule_is_missed_when_it_is_taken_out(tmp_path: Path, rule: str, faults: Callable[[Round], None]) -> None:
    for seed in range(10):
        with FaultCluster(tmp_path / f"{seed}", forward=False, sabotage=rule) as cluster:
            if rule != "wait" and not cluster.network.cuts:
                pytest.skip("this user may not make network namespaces")
            try:
                Round(cluster, seed).run(faults)
            except AssertionError as e:
                print(e)
                return
    raise AssertionError("no seed has shown it")
