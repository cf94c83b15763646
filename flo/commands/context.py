"""What the flat paths of both protocols need of a namespace, looked up once a turn instead of once a buffer."""

from typing import Any

from flo.engine import Engine, Namespace

# What the flat paths append in one go, at most: 192 KiB of input are executed at once, and the shortest request, of 21 bytes, becomes a
# record of 57 and its place in the footer.
GO_BYTES = 1 << 20

# (the KV engine, its store, the store's shards, buried keys, what remembers a new key, the log, what appends a record, now in ms,
# the namespace's number, whether what adds may be done so, queues' store, streams' store, who waits for queues, streams and groups,
# the stamps' time, which stream ids are of, the namespace's name on the wire). A plain tuple unpacks fastest; who needs less leaves out
# the end.
Context = tuple[Any, ...]
NO_CONTEXT: Context = (None,)


def context(namespace: Namespace) -> Context:
    """It is good until the next commit, and until a command that `resets`."""
    kv = namespace.kv
    kv.engine.busy.add(namespace)  # its records do not come through Engine.apply
    store, engine = kv.store, kv.engine
    log = engine.log
    return (
        kv,
        store,
        store.shards,
        store.buried,
        store.ordered.fresh.append,
        log,
        log.pending.append,
        engine.now,
        kv.namespace,
        log.holds(GO_BYTES) and not engine.memory_full and not kv.watches,
        namespace.queues.store,
        namespace.streams.store,
        (namespace.queues.takers, namespace.streams.watches, namespace.streams.groups.takers),
        engine.stamp_time,
        namespace.wire,
    )


def has_room(engine: Engine) -> bool:
    """Whether the flat paths may append for one more go without asking for each record; else there is to be another context, which leaves
    what adds to the plain way, where the log is asked. Large values fill a turn's batch past what is reserved on the disk."""
    return engine.log.pending_bytes < GO_BYTES or engine.log.holds(GO_BYTES)
