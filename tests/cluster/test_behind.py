"""A member whose log ends before the replicated one begins, and that finds nobody to copy at first."""

from typing import Any, cast

import pytest

from flo.cluster import member
from flo.cluster.etcd import KeyValue
from flo.cluster.member import Cluster
from flo.cluster.tail import Clock, Keys, Member
from flo.config import Settings
from tests.support.simcluster import Node, SimEtcd, World

KEYS = Keys("flo")


class Owner:
    """The server: it notes what is logged."""

    secret = None

    def __init__(self, settings: Settings, engine: Any) -> None:
        self.settings, self.engine = settings, engine
        self.logged: list[str] = []

    def log(self, level: str, message: str, **details: object) -> None:
        self.logged.append(message)

    def shutdown(self) -> None:
        """It is not stopped."""

    def start_again(self) -> None:
        """Nothing is copied."""


def test_a_member_that_comes_later_is_copied_too(monkeypatch: pytest.MonkeyPatch) -> None:
    world, etcd = World(1), SimEtcd()
    node = Node(world, etcd, "c")

    def tell(key: bytes, value: bytes) -> None:
        etcd.revision += 1
        etcd.keys[key] = KeyValue(key, value, etcd.revision)

    tell(KEYS.clock, Clock(1, 1, 100, 0).encode())
    tell(KEYS.member("a"), Member("127.0.0.1:1", 100, 100, 0).encode())
    asked: list[str] = []
    monkeypatch.setattr(member, "Etcd", lambda *_, **__: node)
    monkeypatch.setattr(Cluster, "steady", lambda _: world.now)
    monkeypatch.setattr(Cluster, "_fetch_from", lambda _, addresses, done: asked.extend(addresses))
    settings = Settings(cluster_etcd=("http://127.0.0.1:1",), cluster_node="c", advertise="127.0.0.1:3", insecure=True)
    Cluster(cast(Any, Owner(settings, node.engine)), cast(Any, node))
    world.run(5)
    assert set(asked) == {"127.0.0.1:1"}
    tell(KEYS.member("b"), Member("127.0.0.1:2", 101, 101, 0).encode())
    world.run(20)
    assert "127.0.0.1:2" in asked
