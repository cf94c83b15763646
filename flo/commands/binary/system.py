"""The handlers of the system, namespace and cluster operations (SPEC section 2.3)."""

import os
import struct
import sys
from base64 import b64encode
from collections.abc import Generator

import flo
from flo.commands import views
from flo.commands.binary.names import json_payload
from flo.commands.binary.session import BinarySession
from flo.commands.binary.table import Held, Options, Result, handles, packs
from flo.commands.host import ClusterMember, Host, resident_bytes
from flo.commands.replication import address_of_leader
from flo.commands.resp import namespaces
from flo.commands.secret import judge
from flo.commands.stats import Stats
from flo.engine import Namespace
from flo.errors import BadRequest, NotLeader
from flo.operations.system import VIEWS

_OFFSET = struct.Struct("<Q")
FETCH_BYTES = 1 << 20  # of a file at once: 1 ms from a warm cache
ALONE = "this is a standalone server: it is in no cluster (docs/cluster.md says how a server becomes a member)"


@handles("ping")
def ping(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    return value


@handles("auth")
def auth(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    if session.host.secret is None:
        raise BadRequest("this server has no secret, so there is nothing to authenticate with")
    refusal, seconds, reads_only = judge(session.host, session.peer, value)
    if refusal is None:
        session.set_authenticated(reads_only)
    return Held(seconds, b"" if refusal is None else refusal) if seconds else b""


@handles("server_stats")
def server_stats(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    host = session.host
    if host.stats is None:
        host.stats = Stats(host)
    return host.stats.next_one(session, options["block"]) if "block" in options else host.stats.answer(session)


@handles("server_view")
def server_view(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    view = value.decode("utf-8", "replace")
    if view not in VIEWS:
        raise BadRequest(f"there is no view {view[:40]!r}; there are {', '.join(VIEWS)}")
    return json_payload(views.page(session.host, view, options["limit"], options.get("cursor", b"")))


@handles("namespace_create")
def namespace_create(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    namespaces.create(session, namespaces.name_of(name))
    return b""


@handles("namespace_list")
def namespace_list(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    return packs("namespace_list")(namespaces.names(session.host))


@handles("namespace_delete")
def namespace_delete(
    session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options
) -> Generator[None, None, bytes]:
    yield from namespaces.delete(session, namespaces.name_of(name))
    return b""


@handles("namespace_info")
def namespace_info(
    session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options
) -> Generator[None, None, bytes]:
    named = session.host.engine.namespace(namespaces.name_of(name))
    yield from named.kv.all_read()
    return json_payload(describe_namespace(named))


def describe_namespace(namespace: Namespace) -> dict[str, object]:
    """The answer of namespace_info. `keys` includes expired keys that are not swept yet."""
    return {"name": namespace.name, "hash": f"{namespace.hash:#018x}", **namespace.counts(), "bytes": namespace.memory_bytes}


def _member(host: Host) -> ClusterMember:
    """This server as a member of a cluster. Raises `BadRequest`."""
    if host.cluster is None:
        raise BadRequest(ALONE)
    return host.cluster


def _leader(host: Host) -> ClusterMember:
    """The same, of the member that leads. Raises `BadRequest`, `NotLeader`."""
    member = _member(host)
    if not member.leads:
        raise NotLeader(host.engine.leader)
    return member


@handles("cluster_join")
def cluster_join(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    _member(session.host)  # to have been started is enough
    return b""


@handles("cluster_leave")
def cluster_leave(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    _member(session.host).leave()
    return b""


@handles("cluster_promote")
def cluster_promote(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    _leader(session.host).promote(name.decode("utf-8", "replace"))
    return b""


@handles("cluster_remove")
def cluster_remove(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    _leader(session.host).remove(name.decode("utf-8", "replace"))
    return b""


@handles("cluster_status")
def cluster_status(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    return json_payload(describe_server(session.host, session.peer.local_address))


def describe_server(host: Host, address: str) -> dict[str, object]:
    """The answer of cluster_status; `flo server status` prints it."""
    engine, log, counters = host.engine, host.engine.log, host.counters
    counts = engine.counts()
    member = {"mode": "standalone"} if host.cluster is None else host.cluster.describe()
    return {
        **member,
        "version": flo.__version__,
        "python": sys.version.split()[0],
        "pid": os.getpid(),
        "address": host.settings.advertise or address,
        "data_dir": os.path.abspath(host.settings.data_dir),
        "uptime_seconds": int(host.uptime_seconds),
        "loading": host.loading,
        "durability": log.durability,
        "accepts_writes": bool(log.accepts_adds and not engine.memory_full),
        "connections": host.connections,
        "waiting": host.waiting,
        "requests": counters.commands,
        "refused": host.tallies.error_count,
        "namespaces": len(engine.namespaces),
        "keys": counts["keys"],
        "counts": counts,
        "unread": engine.background_load.remaining if engine.background_load is not None else 0,
        "bytes": engine.memory_used(),
        "resident_bytes": resident_bytes(),
        "max_memory": host.settings.max_memory,
        "log": {
            "last_index": log.written,
            "durable_index": log.durable,
            "segments": log.segments,
            "batches": log.batches,
            "bytes_written": log.bytes_written,
            "syncs": log.syncs,
        },
    }


@handles("cluster_partition_table")
def cluster_partition_table(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    host = session.host
    leader = address_of_leader(host, session.peer.local_address)
    table: dict[str, object] = {"id": 0, "leader": leader, "replicas": [leader]}
    if host.cluster is not None:
        told = host.cluster.describe()
        table |= {"epoch": told["term"], "replicas": [member["address"] for member in told["members"]]}
    return json_payload({"partitions": [table]})


@handles("cluster_fetch")
def cluster_fetch(session: BinarySession, namespace: Namespace, name: bytes, value: bytes, options: Options) -> Result:
    log = session.host.engine.log
    if not name:
        text, sizes = log.listing()
        return json_payload({"files": sizes, "manifest": b64encode(text).decode()})
    if len(value) != _OFFSET.size or value[-1] >= 0x80:
        raise BadRequest(f"the value is {bytes(value[:16])!r}; it is the offset in the file: 8 bytes, little endian, below 2^63")
    return log.piece_of(name.decode("utf-8", "replace"), int(_OFFSET.unpack(value)[0]), FETCH_BYTES)
