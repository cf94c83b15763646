"""loadtest/cluster.py measures what it says: each part in small, and what its writers find."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest.clusterload import Writers
from tests.support.processes import ROOT, FloProcess, wait_until

MISSING = [program for program in ("etcd", "etcdctl", "redis-server") if shutil.which(program) is None]


def figures(tmp_path: Path, parts: str) -> tuple[dict[str, Any], str]:
    """What the tool tells of some parts, and what it prints."""
    told = tmp_path / "told.json"
    command = [sys.executable, str(ROOT / "loadtest" / "cluster.py"), "--quick", "--only", parts, "--json", str(told)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.glob("flo-cluster-*")), "it left its directory"
    return json.loads(told.read_text()), done.stdout


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} is missing: apt-get install etcd-server etcd-client redis-server")
def test_the_figures_of_a_cluster_that_stays(tmp_path: Path) -> None:
    told, printed = figures(tmp_path, "throughput,catchup,memory,reads")
    for row in told["throughput"]:
        for name in ("flo", "redis"):
            for rate, p50, p99 in row["slices"][name]:
                assert rate > 0 and 0 < p50 <= p99
    late = told["catchup"]
    assert late["written"] == 16_000 and late["copied_bytes"] > 16_000 * 64, "the follower has copied what it missed"
    assert 0 < late["serves_seconds"] <= late["lag_0_seconds"]
    assert late["calm_p99_ms"] > 0 and late["meanwhile_p99_ms"] > 0
    samples = told["memory"]["samples"]
    assert [each["seconds"] for each in samples] == sorted({each["seconds"] for each in samples}) and len(samples) > 1
    assert all(each["writes"] > 0 and each["etcd_db"] > 4096 for each in samples)
    assert all(each[name] > 1 << 20 for each in samples for name in ("etcd_rss", "flo_rss", "flo_disk"))
    assert all(growth > 0 for growth in told["memory"]["growth"].values()) and len(told["memory"]["growth"]) == 5
    for row in told["reads"]:
        assert all(0 < pair[name] < 1000 for pair in row["pairs"] for name in ("follower", "alone"))
    for row in told["throughput"] + told["reads"]:
        median, low, high = row["ratio"]
        assert 0 < low <= median <= high
        assert f"depth {row['depth']:<3} f" in printed


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} is missing: apt-get install etcd-server etcd-client redis-server")
def test_the_figures_of_fail_overs(tmp_path: Path) -> None:
    told, printed = figures(tmp_path, "failover")
    failover = told["failover"]
    assert failover["killed"][0] > 1.2 and failover["both"][0] > 1.2, "nobody claims sooner, whatever happens"
    assert 0 < failover["left"][0] < failover["killed"][0]
    assert failover["rolling"] > 0
    assert failover["acknowledged"] > 100
    assert failover["lost"] == {"f0": [], "f1": [], "f2": []}
    assert "no member has lost any" in printed


def test_writers_know_gaps_and_losses(flo: FloProcess) -> None:
    cluster: Any = SimpleNamespace(flos=[SimpleNamespace(host="127.0.0.1", port=flo.port)], connect=lambda _, timeout: flo.connect(timeout))
    with Writers(cluster, 3) as writers:
        began = time.monotonic()
        wait_until(lambda: min(writers.acknowledged) > 20, "some writes of each")
        os.kill(flo.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            wait_until(lambda: time.monotonic() > stopped + 0.4, "a stall")
        finally:
            os.kill(flo.pid, signal.SIGCONT)
        again = writers.answered_after(time.monotonic())
    assert again > stopped + 0.4
    assert writers.longest_gap(began, again) >= 0.35 > writers.longest_gap(again - 0.01, again)
    assert writers.lost(cluster.flos[0]) == []
    with flo.connect() as client:
        client.command("DEL", "writer:1:7")
        client.command("SET", "writer:2:0", "another value")
    assert writers.lost(cluster.flos[0]) == ["writer:1:7", "writer:2:0"]
