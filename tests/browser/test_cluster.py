"""The dashboard of a member of a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd import MISSING, EtcdCluster, is_installed
from tests.support.members import SECRET, FloCluster
from tests.support.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not is_installed(), reason=MISSING)]

AWAY_MS = 10_000  # after which the page calls a member away


def test_the_cluster_on_the_page_of_the_server(play: Callable[..., Any], tmp_path: Path) -> None:
    with EtcdCluster(tmp_path / "etcd") as etcd, FloCluster(tmp_path, etcd) as cluster:
        leader = cluster.start().settled()
        follower = cluster.follower()
        gone = next(member for member in cluster.members.values() if member not in (leader, follower))
        with leader.client() as client:
            client.kv.put("k", "v")
        gone.kill()
        wait_until(lambda: max(each["behind_ms"] for each in leader.status()["members"]) > AWAY_MS, "a member that is away")
        play("cluster", leader, SECRET, leader.node, follower.node, gone.node)
        assert cluster.settled() is follower
