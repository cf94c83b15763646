"""Copies of what a leader has sent that are executed late (its connection was dropped, and they were sent again over another one)."""

import pytest

from flo.cluster import tail
from flo.cluster.etcd import Answer, KeyValue
from flo.cluster.tail import Keys, parts_of
from tests.support.simcluster import Node, SimEtcd, World


def test_late_copies_take_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PART_BYTES", 16)
    world, etcd, keys = World(1), SimEtcd(), Keys("sim")
    node = Node(world, etcd, "a")
    first = node.log.next_index
    values, _ = parts_of(first, 1, 1, [b"\x28\0\0\0" + b"o" * 36], 0)
    for at, value in enumerate(values[:2]):  # a leader has ended within this batch
        etcd.revision += 1
        etcd.keys[keys.part(first, at)] = KeyValue(keys.part(first, at), value, etcd.revision)
    execute, seen = etcd.txn, list[tuple[list[bytes], list[bytes], list[bytes]]]()

    def record(compares: list[bytes], success: list[bytes], failure: list[bytes]) -> Answer:
        seen.append((compares, success, failure))
        return execute(compares, success, failure)

    etcd.txn = record  # type: ignore[method-assign]
    while not (node.leads and node.log.committed >= node.log.next_index - 1 and node.replica and node.replica.fresh):
        world.run(0.1)
    _, index = node.turn(lambda engine: engine.kv.put(b"key", b"value"))
    while node.log.committed < index:
        world.run(0.1)
    batch = [key for key in etcd.keys if key.startswith(keys.batch(first))]
    for copy in seen:
        execute(*copy)
    left = [key for key in etcd.keys if key.startswith(keys.batch(first))]
    assert left == batch, "an acknowledged batch is deleted"
