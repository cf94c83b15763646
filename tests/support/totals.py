"""The totals that the stores keep, beside what a walk over everything finds."""

from collections import Counter

from flo.engine import Engine, Namespace
from flo.store import action as action_store
from flo.store import group as group_store
from flo.store import queue as queue_store
from flo.store import stream as stream_store
from flo.store import timeseries as series_store
from flo.store.queue import DELAYED, LAPSED, LEASED, READY, kind_of, queue_of


def walked(namespace: Namespace) -> dict[str, int]:
    """What `Namespace.counts` must give, counted one by one."""
    queues, streams, series = namespace.queues.store, namespace.streams.store, namespace.ts.store
    states = [state for shard in queues.shards for state in shard.values() if queue_of(state) in queues.numbers]
    fresh = sum(len(list(lane.seqs())) for queue in queues.queues.values() for lane in queue.lanes.values())
    dead = sum(len(queue.dead) for queue in queues.queues.values())
    kinds = [sum(kind_of(state) == kind for state in states) for kind in range(4)]
    groups = [group for stream in streams.streams.values() for group in stream.groups.values()]
    runs = Counter(action_store.SHOWN[each & action_store.KIND_MASK] for shard in namespace.actions.store.shards for each in shard.values())
    return {
        "keys": sum(len(shard) for shard in namespace.kv.store.shards),
        "keys_with_deadline": namespace.kv.store.deadlines.count,
        "queues": sum(namespace.queues.exists(name) for name in queues.queues),
        "messages": fresh + len(states) + dead,
        "ready_messages": fresh + kinds[READY] + kinds[LAPSED],
        "delayed_messages": kinds[DELAYED],
        "leased_messages": kinds[LEASED],
        "dead_messages": dead,
        "streams": len(namespace.streams.names()),
        "records": sum(len(chunk) for stream in streams.streams.values() for chunk in stream.chunks),
        "groups": sum(group.declared for group in groups),
        "pending_records": sum(len(group.pending) for group in groups),
        "dead_records": sum(len(group.dead) for group in groups),
        "measurements": sum(each.exists for each in series.measurements.values()),
        "series": sum(len(each.series) for each in series.measurements.values()),
        "points": sum(each.points for each in series.by_id.values()),
        "actions": len(namespace.actions.store.actions),
        "pending_runs": runs[0],
        "running_runs": runs[1],
        "finished_runs": sum(runs.values()) - runs[0] - runs[1],
        "workers": len(namespace.actions.store.workers),
        "schedules": len(namespace.actions.schedules.by_name),
    }


def queue_bytes(store: queue_store.QueueStore) -> int:
    """What `QueueStore.item_bytes` must give."""
    size = 0
    for queue in store.queues.values():
        fresh = sum(len(list(lane.seqs())) for lane in queue.lanes.values())
        size += queue_store.QUEUE_BYTES + 2 * len(queue.name) + queue_store.LANE_BYTES * len(queue.lanes)
        size += queue_store.FRESH_BYTES * fresh + queue_store.MESSAGE_BYTES * (sum(queue.counts) - fresh)
        size += queue_store.TIMED_BYTES * (queue.counts[DELAYED] + queue.counts[LEASED])
        size += queue_store.DEAD_BYTES * len(queue.dead) + queue_store.BASE_BYTES * len(queue.bases)
        size += sum(queue_store.DEDUP_BYTES + len(key) for key in queue.dedup)
    return size


def stream_bytes(store: stream_store.StreamStore) -> int:
    """What `StreamStore.item_bytes` must give."""
    size = 0
    for stream in store.streams.values():
        size += stream_store.STREAM_BYTES + 2 * len(stream.name) + stream_store.RECORD_BYTES * stream.count
        size += sum(group_store.GROUP_BYTES + len(group.name) + group.bytes for group in stream.groups.values())
    return size


def check_series(store: series_store.TimeSeriesStore) -> None:
    """Hold what `TimeSeriesStore` counts, and its indexes, against a walk."""
    series = [each for measurement in store.measurements.values() for each in measurement.series.values()]
    chunks = [chunk for each in series for chunk in each.chunks]
    assert store.by_id == {each.id: each for each in series}
    assert store.by_key == {each.key: each for each in series}
    assert store.open_points == sum(len(each.times) for each in series)
    assert (store.chunks, store.sealed_points) == (len(chunks), sum(chunk.summary.points for chunk in chunks))
    is_open = [each for each in series if each.since]
    assert all(len(each.times) == len(each.values) and bool(each.times) == bool(each.since) for each in series)
    assert store.open == {each.id: each for each in is_open}
    assert [each.since for each in store.open.values()] == sorted(each.since for each in is_open)
    assert all([chunk.number for chunk in each.chunks] == sorted({chunk.number for chunk in each.chunks}) for each in series)
    assert store.accounted == (
        sum(series_store.SERIES_BYTES + series_store.NAME_BYTES * len(each.key) for each in series)
        + series_store.OPEN_SERIES_BYTES * sum(1 for each in series if each.since)
        + series_store.OPEN_BYTES * sum(len(each.times) for each in series)
        + series_store.CHUNK_BYTES * len(chunks)
        + series_store.MEASUREMENT_BYTES * len(store.measurements)
    )
    assert store.aging == {name for name, measurement in store.measurements.items() if measurement.max_age}
    for measurement in store.measurements.values():
        assert measurement.exists, "nothing is left of a measurement that is gone"
        theirs = list(measurement.series.values())
        assert measurement.fields == Counter(each.field for each in theirs)
        by_tag: dict[str, dict[str, set[series_store.Series]]] = {}
        for each in theirs:
            for tag, value in each.tags:
                by_tag.setdefault(tag, {}).setdefault(value, set()).add(each)
        assert measurement.by_tag == by_tag


def check_actions(store: action_store.ActionStore) -> None:
    """Hold what `ActionStore` counts, and its indexes, against a walk."""
    runs = {seq: state for shard in store.shards for seq, state in shard.items()}
    kinds = Counter(map(action_store.kind_of, runs.values()))
    assert store.counts == [kinds[kind] for kind in range(8)]
    lines = list(store.lines.values())
    for line in lines:
        assert {seq: shown for shown, group in line.shown.items() for seq in group.after(0)} == {
            seq: action_store.SHOWN[action_store.kind_of(state)] for seq, state in runs.items() if store.line_of(state) is line
        }
        lanes = {priority: list(lane.after(0)) for priority, lane in line.ready.items()}
        ready = sorted(
            (action_store.priority_of(state), seq)
            for seq, state in runs.items()
            if store.line_of(state) is line and action_store.kind_of(state) == action_store.READY
        )
        assert [(priority, seq) for priority in line.order for seq in lanes[priority]] == ready
        assert sorted(lanes) == line.order
        assert (line in line.action.ready) == bool(line.order)
        assert line.action.lines[line.text] is line
    actions = {line.action for line in lines} | set(store.actions.values())
    assert sum(len(action.lines) for action in actions) == len(lines)
    running = {seq for seq, state in runs.items() if action_store.kind_of(state) == action_store.RUNNING}
    assert store.running.keys() == running == {seq for held in store.held.values() for seq in held}
    assert all(store.running[seq].worker == worker for worker, held in store.held.items() for seq in held)
    assert all(held for held in store.held.values())
    size = 0
    for action in actions:
        live = {seq for seq in (*action.key_of, *action.unique_of) if action_store.kind_of(runs[seq]) < action_store.COMPLETED}
        assert live == {*action.key_of, *action.unique_of}
        assert action.unique == {key: seq for seq, key in action.unique_of.items()}
        assert Counter(action.key_of.values()) == {key: key.runs for key in action.keys.values()}
        for name, key in action.keys.items():
            assert key.name == name
            assert key.running == sum(action.key_of[seq] is key for seq in running if seq in action.key_of)
            size += action_store.KEYED_BYTES + len(name)
        size += sum(map(len, action.unique_of.values()))
        assert list(action.starts) == sorted(action.starts)
    for name in store.actions:
        size += action_store.ACTION_BYTES + len(name)
    size += sum(worker.bytes for worker in store.workers.values())
    assert {(name, each.id) for name, theirs in store.workers_of.items() for each in theirs.values()} == {
        (name, each.id) for each in store.workers.values() for name in each.actions
    }
    size += action_store.RUN_BYTES * len(runs) + action_store.READY_BYTES * kinds[action_store.READY]
    size += action_store.KEYED_BYTES * sum(len(action.key_of) + len(action.unique_of) for action in actions)
    size += sum(each.bytes for each in store.running.values()) + action_store.START_BYTES * sum(len(each.starts) for each in actions)
    size += action_store.FINISHED_BYTES * sum(kinds[kind] for kind in range(action_store.COMPLETED, 8))
    size += sum(action_store.IDEMPOTENT_BYTES + len(key) for _, _, key in store.windows)
    size += action_store.LINE_BYTES * len(lines) + store.timers.bytes
    assert store.accounted == size


def check_totals(engine: Engine) -> None:
    """Hold the totals of every namespace against a walk."""
    for namespace in engine.namespaces.values():
        found = namespace.counts()
        assert found == walked(namespace)
        assert found.keys() == {noun for part in namespace.parts for noun in part.nouns}
        assert namespace.queues.store.item_bytes == queue_bytes(namespace.queues.store)
        assert namespace.streams.store.item_bytes == stream_bytes(namespace.streams.store)
        check_series(namespace.ts.store)
        check_actions(namespace.actions.store)
        for part in namespace.parts:
            for container in part.containers():
                _, values = part.measure(container)
                assert not values or len(values) == len(part.measures)
