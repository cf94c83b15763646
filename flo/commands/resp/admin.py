"""Commands about the server: INFO, CONFIG, MONITOR, SLOWLOG, CLUSTER and what monitoring agents ask."""

import os
import sys
from binascii import crc_hqx
from fnmatch import fnmatchcase
from time import time_ns

import flo
from flo.commands.host import Host, resident_bytes
from flo.commands.resp.arguments import integer, syntax_error
from flo.commands.resp.connection import DATABASES, REDIS_VERSION
from flo.commands.resp.keys import refuse_other_kind
from flo.commands.resp.session import RespSession, wrong_subcommand
from flo.commands.resp.table import Sub, command
from flo.commands.runner import Reply
from flo.config import SettingRow, assign, setting_rows
from flo.errors import BadRequest, ConfigError
from flo.limits import REQUEST_BYTES_MAX
from flo.proto import resp
from flo.proto.resp import EMPTY_ARRAY, OK, ZERO, array, bulk, bulk_array, mapping, verbatim
from flo.store.kv import KEY_OVERHEAD_BYTES
from flo.ual.log import ASYNC, SYNC

CLUSTER_SLOTS = 16_384
NODE_ID_DIGITS = 40  # what cluster clients expect; the directory's id has 32


# -- INFO ------------------------------------------------------------------------------------------


def _human(size: int) -> str:
    for unit in ("B", "K", "M", "G"):
        if size < 1024:
            return f"{size:.2f}{unit}" if unit != "B" else f"{size}B"
        size /= 1024  # type: ignore[assignment]  # a float from here on, for the two decimals
    return f"{size:.2f}T"


def _info_server(host: Host) -> dict[str, object]:
    return {
        "redis_version": REDIS_VERSION,
        "flo_version": flo.__version__,
        "redis_mode": "standalone",
        "os": "{0.sysname} {0.release} {0.machine}".format(os.uname()),
        "arch_bits": 64,
        "python_version": sys.version.split()[0],
        "process_id": os.getpid(),
        "run_id": host.run_id,
        "tcp_port": host.port,
        "server_time_usec": time_ns() // 1000,
        "uptime_in_seconds": int(host.uptime_seconds),
        "uptime_in_days": int(host.uptime_seconds) // 86400,
        "executable": sys.executable,
    }


def _info_clients(host: Host) -> dict[str, object]:
    return {
        "connected_clients": host.connections,
        "cluster_connections": 0,
        "maxclients": host.settings.max_connections,
        "blocked_clients": host.waiting,
        "tracking_clients": 0,
        "pubsub_clients": host.channels.subscribers,
    }


def _info_memory(host: Host) -> dict[str, object]:
    used, resident = host.engine.memory_used(), resident_bytes()
    return {
        "used_memory": used,
        "used_memory_human": _human(used),
        "used_memory_rss": resident,
        "used_memory_rss_human": _human(resident),
        "used_memory_dataset": used,
        "maxmemory": host.settings.max_memory,
        "maxmemory_human": _human(host.settings.max_memory),
        "maxmemory_policy": "noeviction",
        "mem_fragmentation_ratio": f"{resident / used:.2f}" if used else "0.00",
        "mem_allocator": "python",
    }


def _info_persistence(host: Host) -> dict[str, object]:
    log = host.engine.log
    return {
        "loading": int(host.loading),
        "async_loading": int(host.engine.background_load is not None),
        "flo_unread_values": host.engine.background_load.remaining if host.engine.background_load is not None else 0,
        "aof_enabled": int(log.durability in (SYNC, ASYNC)),
        "aof_rewrite_in_progress": int(host.compacting),
        "aof_last_write_status": "ok" if log.accepts_adds else "err",
        "rdb_changes_since_last_save": 0,
        "rdb_bgsave_in_progress": 0,
        "rdb_last_bgsave_status": "ok",
        "flo_durability": log.durability,
        "flo_log_last_index": log.written,
        "flo_log_durable_index": log.durable,
        "flo_log_segments": log.segments,
        "flo_log_size": log.size,
        "flo_log_size_compacted": log.compacted_bytes,
        "flo_log_size_tail": log.tail_size,
        "flo_log_batches": log.batches,
        "flo_log_bytes_written": log.bytes_written,
        "flo_log_syncs": log.syncs,
        "flo_log_damage_met": log.damage_met,
        "flo_log_accepts_adds": int(log.accepts_adds),
    }


def _info_stats(host: Host) -> dict[str, object]:
    counters, waits = host.counters, host.waits
    return {
        "total_connections_received": counters.connections_received,
        "total_commands_processed": counters.commands,
        "total_net_input_bytes": counters.bytes_in,
        "total_net_output_bytes": counters.bytes_out,
        "rejected_connections": counters.connections_rejected,
        "expired_keys": host.engine.swept,
        "evicted_keys": 0,
        "keyspace_hits": counters.hits,
        "keyspace_misses": counters.misses,
        "client_output_buffer_limit_disconnections": counters.push_limit_disconnections,
        "pubsub_channels": len(host.channels.channels),
        "pubsub_patterns": len(host.channels.patterns),
        "total_error_replies": host.tallies.error_count,
        "acl_access_denied_auth": counters.auth_failures,
        "flo_unknown_protocol_connections": counters.unknown_protocol,
        "flo_clock_steps": counters.clock_steps,
        "flo_clock_ahead_ms": host.engine.clock_ahead,
        "flo_wait_p50_usec": waits.quantile(0.5),
        "flo_wait_p99_usec": waits.quantile(0.99),
        "flo_wait_p999_usec": waits.quantile(0.999),
        "flo_wait_max_usec": waits.longest,
    }


def _info_replication(host: Host) -> dict[str, object]:
    return {"role": "master", "connected_slaves": 0, "master_repl_offset": host.engine.log.written}


def _info_cpu(host: Host) -> dict[str, object]:
    times = os.times()
    return {
        "used_cpu_sys": f"{times.system:.6f}",
        "used_cpu_user": f"{times.user:.6f}",
        "used_cpu_sys_children": f"{times.children_system:.6f}",
        "used_cpu_user_children": f"{times.children_user:.6f}",
    }


def _info_cluster(host: Host) -> dict[str, object]:
    return {"cluster_enabled": 0}


def _info_keyspace(host: Host) -> dict[str, object]:
    lines: dict[str, object] = {}
    # Redis's agents look for db0; namespaces that resp.databases does not name are listed under their own names
    titles = {name: f"db{index}" for index, name in enumerate(host.settings.databases or DATABASES)}
    titles |= {name: f"ns_{name}" for name in host.engine.namespaces if name not in titles}
    for name, title in titles.items():
        namespace = host.engine.namespaces.get(name)
        counts = namespace.counts() if namespace is not None else {}
        if counts.get("keys"):
            lines[title] = f"keys={counts['keys']},expires={counts['keys_with_deadline']},avg_ttl=0"
    return lines


def _info_flo(host: Host) -> dict[str, object]:
    """A line for each namespace: the numbers of its keys, queues, messages, streams …, and what it has counted"""
    return {
        f"flo_namespace_{name}": ",".join(f"{noun}={count}" for noun, count in (namespace.counts() | namespace.happened()).items())
        for name, namespace in host.engine.namespaces.items()
    }


def _info_commandstats(host: Host) -> dict[str, object]:
    lines: dict[str, object] = {}
    for tally in host.tallies.used():
        title = f"cmdstat_{tally.name}" if tally.protocol == RespSession.protocol else f"flo_{tally.protocol}_{tally.name}"
        each = tally.seconds * 1e6 / tally.calls if tally.calls else 0.0
        lines[title] = (
            f"calls={tally.calls},usec={tally.seconds * 1e6:.0f},usec_per_call={each:.2f},"
            f"rejected_calls={tally.rejected},failed_calls={tally.failed}"
        )
    return lines


def _info_errorstats(host: Host) -> dict[str, object]:
    return {f"errorstat_{code}": f"count={count}" for code, count in sorted(host.tallies.errors.items())}


INFO_SECTIONS = {
    "server": _info_server,
    "clients": _info_clients,
    "memory": _info_memory,
    "persistence": _info_persistence,
    "stats": _info_stats,
    "replication": _info_replication,
    "cpu": _info_cpu,
    "commandstats": _info_commandstats,
    "errorstats": _info_errorstats,
    "cluster": _info_cluster,
    "keyspace": _info_keyspace,
    "flo": _info_flo,
}
ON_DEMAND = ("commandstats",)  # long, and given only where it is asked for


@command(
    "INFO",
    -1,
    "[section …]",
    "The server's state, for people and monitoring agents.",
    group="server",
    flags="reads",
    differs="fields of what Flo does not have are left out; its own begin with flo_",
)
def info(session: RespSession, args: list[bytes]) -> Reply:
    wanted = {arg.lower().decode("latin-1") for arg in args[1:]}
    everything = bool(wanted & {"all", "everything"})
    usual = not wanted or "default" in wanted
    parts = []
    for name, section in INFO_SECTIONS.items():
        if everything or name in wanted or (usual and name not in ON_DEMAND):
            lines = [f"# {name.capitalize()}", *(f"{key}:{value}" for key, value in section(session.host).items())]
            parts.append("\r\n".join(lines) + "\r\n")
    return verbatim("\r\n".join(parts), session.v3)


# -- CONFIG ----------------------------------------------------------------------------------------


def _config_values(host: Host) -> dict[str, str]:
    """Every name CONFIG GET knows: Flo's own, Redis's for the same thing, and what clients expect to find."""
    values: dict[str, str] = {}
    for row in setting_rows():
        if "secret" in row.attribute:
            continue  # where the secret lies is nobody's business
        value = getattr(host.settings, row.attribute)
        if row.attribute == "port":
            value = host.port
        if isinstance(value, tuple):
            value = ",".join(value)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        values[row.full_name] = text
        if row.redis:
            values[row.redis] = {"info": "notice"}.get(text, text) if row.redis == "loglevel" else text
    durability = host.settings.durability
    values |= {
        "save": "",
        "appendonly": "yes" if durability in (SYNC, ASYNC) else "no",
        "appendfsync": {"sync": "always", "async": "everysec"}.get(durability, "no"),
        "maxmemory-policy": "noeviction",
        "databases": str(len(host.settings.databases or DATABASES)),
        "timeout": "0",
        "tcp-keepalive": "0",
        "cluster-enabled": "no",
        "proto-max-bulk-len": str(REQUEST_BYTES_MAX),
        "notify-keyspace-events": "",
    }
    return values


def _config_set(session: RespSession, pairs: list[bytes]) -> Reply:
    host = session.host
    rows = {name: row for row in setting_rows() for name in (row.full_name, row.redis) if name}
    known = _config_values(host)
    changes: list[tuple[SettingRow, str]] = []
    for at in range(0, len(pairs), 2):
        name = pairs[at].decode("utf-8", "replace").lower()
        if name not in rows:
            if name in known:
                return BadRequest(f"CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config")
            return BadRequest(f"Unknown option or number of arguments for CONFIG SET - '{name[:64]}'")
        if not rows[name].live:
            return BadRequest(f"CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config")
        value = pairs[at + 1].decode("utf-8", "replace")
        if name == "loglevel":
            value = {"notice": "info", "verbose": "info"}.get(value, value)
        if any(rows[name] is row for row, _ in changes):
            shown = pairs[at].decode("utf-8", "replace")
            return BadRequest(f"CONFIG SET failed (possibly related to argument '{shown}') - duplicate parameter")
        changes.append((rows[name], value))
    before = {row.attribute: getattr(host.settings, row.attribute) for row, _ in changes}
    try:
        for row, value in changes:
            assign(host.settings, row, value, "CONFIG SET")
    except ConfigError as e:
        for attribute, old in before.items():
            setattr(host.settings, attribute, old)
        return BadRequest(f"CONFIG SET failed - {e}")
    host.engine.set_max_memory(host.settings.max_memory)
    host.log("info", f"CONFIG SET changed {', '.join(row.full_name for row, _ in changes)}", peer=session.peer.address)
    return OK


@command(
    "CONFIG",
    -2,
    "",
    "Reads settings; changes those that can change while running.",
    group="server",
    since="2.0.0",
    subcommands={
        "GET": Sub(-3, "pattern [pattern …]", "Show settings.", "admin noscript loading stale reads"),
        "SET": Sub(-4, "name value [name value …]", "Change settings, all or none.", "admin noscript loading stale"),
        "RESETSTAT": Sub(2, "", "Set the counts of INFO to zero.", "admin noscript loading stale"),
    },
    differs="Flo's settings by section.name, and by Redis's names where there is one; no REWRITE",
)
def config(session: RespSession, args: list[bytes]) -> Reply:
    sub = args[1].upper()
    if sub == b"GET":
        patterns = [arg.decode("utf-8", "replace").lower() for arg in args[2:]]
        values = _config_values(session.host)
        found = {k: v for k, v in values.items() if any(fnmatchcase(k, p) for p in patterns)}
        return mapping({k.encode(): bulk(v.encode()) for k, v in found.items()}, session.v3)
    if sub == b"SET":
        if len(args) % 2:
            raise syntax_error()
        return _config_set(session, args[2:])
    session.host.counters.reset()
    session.host.tallies.reset()
    session.host.waits.clear()
    session.host.engine.swept = 0
    for namespace in session.host.engine.namespaces.values():
        namespace.forget_happened()
    return OK


# -- watching --------------------------------------------------------------------------------------


@command(
    "MONITOR",
    1,
    "",
    "Shows every command that is executed, by any client; arguments over 1 KiB are cut.",
    group="server",
    flags="admin no_monitor resets",
)
def monitor(session: RespSession, args: list[bytes]) -> Reply:
    session.monitoring = True
    session.host.monitors.add(session.peer)
    return OK


@command(
    "SLOWLOG",
    -2,
    "",
    "Commands that took long.",
    group="server",
    since="2.2.12",
    subcommands={
        "GET": Sub(-2, "[count]", "Show the newest, ten where no count is given; -1 shows all.", "admin loading stale reads"),
        "LEN": Sub(2, "", "Show how many there are.", "admin loading stale reads"),
        "RESET": Sub(2, "", "Forget them.", "admin loading stale"),
    },
)
def slowlog(session: RespSession, args: list[bytes]) -> Reply:
    host, sub = session.host, args[1].upper()
    if sub == b"LEN":
        return resp.integer(len(host.slow))
    if sub == b"RESET":
        host.slow.clear()
        return OK
    if len(args) > 3:
        raise wrong_subcommand(args)
    count = integer(args[2], -1, message="count should be greater than or equal to -1") if len(args) == 3 else 10
    newest = host.slow[::-1]
    return array(
        [
            array(
                [
                    resp.integer(entry.id),
                    resp.integer(entry.when),
                    resp.integer(entry.micros),
                    bulk_array(entry.args),
                    bulk(entry.peer.encode()),
                    bulk(entry.name),
                ]
            )
            for entry in (newest if count < 0 else newest[:count])
        ]
    )


@command(
    "LATENCY",
    -2,
    "",
    "Turns of the loop that took long.",
    group="server",
    since="2.8.13",
    differs="one event, `tick`",
    subcommands={
        "LATEST": Sub(2, "", "Show the last of each event.", "admin noscript loading stale reads"),
        "HISTORY": Sub(3, "tick", "Show when the event was, and how long it took.", "admin noscript loading stale reads"),
        "RESET": Sub(-2, "[tick]", "Forget them.", "admin noscript loading stale"),
        "DOCTOR": Sub(2, "", "Say in a sentence how it looks.", "admin noscript loading stale reads"),
    },
)
def latency(session: RespSession, args: list[bytes]) -> Reply:
    host, sub = session.host, args[1].upper()
    if sub == b"LATEST":
        if not host.latency:
            return EMPTY_ARRAY
        when, last = host.latency[-1]
        worst = max(ms for _, ms in host.latency)
        return array([array([bulk(b"tick"), resp.integer(when), resp.integer(last), resp.integer(worst)])])
    if sub == b"HISTORY":
        items = host.latency if args[2].lower() == b"tick" else []
        return array([array([resp.integer(when), resp.integer(ms)]) for when, ms in items])
    if sub == b"RESET":
        had = bool(host.latency)
        host.latency.clear()
        return resp.integer(int(had))
    if not host.latency:
        text = f"No turn of the loop took {host.settings.latency_threshold} ms or longer."
    else:
        worst = max(ms for _, ms in host.latency)
        text = (
            f"{len(host.latency)} turns of the loop took {host.settings.latency_threshold} ms or longer, the longest {worst} ms. "
            "SLOWLOG GET shows long commands; a slow disk shows as long turns without them."
        )
    return verbatim(text + "\n", session.v3)


@command(
    "MEMORY",
    -2,
    "",
    "Memory that a key takes.",
    group="server",
    since="4.0.0",
    subcommands={
        "USAGE": Sub(-3, "key [SAMPLES count]", "Show the bytes that a key takes.", "readonly", keys=(2, 2, 1), access="RO"),
        "DOCTOR": Sub(2, "", "Say in a sentence how it looks.", "reads"),
    },
)
def memory(session: RespSession, args: list[bytes]) -> Reply:
    if args[1].upper() == b"USAGE":
        if len(args) > 3:
            if len(args) != 5 or args[3].upper() != b"SAMPLES":
                raise syntax_error()
            if integer(args[4]) < 0:
                raise syntax_error()
        found = session.namespace.kv.get(args[2])
        if found is None:
            refuse_other_kind(session, args[2], "MEMORY USAGE", "INFO memory tells how much all of them take")
            return session.nil
        return resp.integer(KEY_OVERHEAD_BYTES + len(args[2]) + len(found.value))
    return verbatim("Flo evicts nothing and keeps no caches to tune; see max_memory and INFO memory.\n", session.v3)


@command("TIME", 1, "", "The server's time: seconds and microseconds.", group="server", since="2.6.0", flags="fast reads")
def time_(session: RespSession, args: list[bytes]) -> Reply:
    micros = time_ns() // 1000
    return bulk_array([b"%d" % (micros // 1_000_000), b"%d" % (micros % 1_000_000)])


@command(
    "MODULE",
    -2,
    "",
    "Redis modules: none.",
    group="server",
    since="4.0.0",
    subcommands={"LIST": Sub(2, "", "Show the modules: none.", "admin noscript reads")},
)
def module(session: RespSession, args: list[bytes]) -> Reply:
    return EMPTY_ARRAY


@command(
    "ACL",
    -2,
    "",
    "The user: `default`.",
    group="server",
    since="6.0.0",
    subcommands={"WHOAMI": Sub(2, "", "Show the user's name: `default`.", "noscript loading stale reads")},
)
def acl(session: RespSession, args: list[bytes]) -> Reply:
    return bulk(b"default")


# -- cluster ---------------------------------------------------------------------------------------


def key_slot(key: bytes) -> int:
    """The hash slot of a key (Redis cluster specification: CRC-16/XMODEM of the hash tag, or of the key)."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % CLUSTER_SLOTS


def _own_address(session: RespSession) -> tuple[str, int]:
    text = session.host.settings.advertise or session.peer.local_address
    name, _, port = text.rpartition(":")
    return name.strip("[]"), int(port)


@command(
    "CLUSTER",
    -2,
    "",
    "One node that has every slot.",
    group="cluster",
    since="3.0.0",
    subcommands={
        "INFO": Sub(2, "", "Tell about the cluster: one node.", "stale reads"),
        "MYID": Sub(2, "", "Show the node's id.", "stale reads"),
        "SLOTS": Sub(2, "", "Show which node has which slots.", "stale reads"),
        "SHARDS": Sub(2, "", "Show which nodes have which slots, and how they are.", "stale reads"),
        "NODES": Sub(2, "", "Show the nodes, a line each.", "stale reads"),
        "KEYSLOT": Sub(3, "key", "Show the slot of a key.", "stale reads"),
    },
)
def cluster(session: RespSession, args: list[bytes]) -> Reply:
    sub, v3 = args[1].upper(), session.v3
    node = session.host.engine.log.identity.ljust(NODE_ID_DIGITS, "0").encode()
    name, port = _own_address(session)
    if sub == b"MYID":
        return bulk(node)
    if sub == b"INFO":
        facts = {
            "cluster_enabled": 0,
            "cluster_state": "ok",
            "cluster_slots_assigned": CLUSTER_SLOTS,
            "cluster_slots_ok": CLUSTER_SLOTS,
            "cluster_slots_pfail": 0,
            "cluster_slots_fail": 0,
            "cluster_known_nodes": 1,
            "cluster_size": 1,
            "cluster_current_epoch": 1,
            "cluster_my_epoch": 1,
        }
        return verbatim("".join(f"{key}:{value}\r\n" for key, value in facts.items()), v3)
    if sub == b"SLOTS":
        return array(
            [
                array(
                    [
                        ZERO,
                        resp.integer(CLUSTER_SLOTS - 1),
                        array([bulk(name.encode()), resp.integer(port), bulk(node), EMPTY_ARRAY]),
                    ]
                )
            ]
        )
    if sub == b"SHARDS":
        me = {
            b"id": bulk(node),
            b"port": resp.integer(port),
            b"ip": bulk(name.encode()),
            b"endpoint": bulk(name.encode()),
            b"role": bulk(b"master"),
            b"replication-offset": resp.integer(session.host.engine.log.written),
            b"health": bulk(b"online"),
        }
        slots = array([ZERO, resp.integer(CLUSTER_SLOTS - 1)])
        return array([mapping({b"slots": slots, b"nodes": array([mapping(me, v3)])}, v3)])
    if sub == b"NODES":
        line = f"{node.decode()} {name}:{port}@{port + 10000} myself,master - 0 0 1 connected 0-{CLUSTER_SLOTS - 1}\n"
        return verbatim(line, v3)
    return resp.integer(key_slot(args[2]))


@command("READONLY", 1, "", "Answers OK: there are no replicas to read from.", group="cluster", since="3.0.0", flags="fast reads")
def readonly(session: RespSession, args: list[bytes]) -> Reply:
    return OK


@command("READWRITE", 1, "", "Answers OK.", group="cluster", since="3.0.0", flags="fast reads")
def readwrite(session: RespSession, args: list[bytes]) -> Reply:
    return OK


@command("ASKING", 1, "", "Answers OK.", group="cluster", since="3.0.0", flags="fast reads")
def asking(session: RespSession, args: list[bytes]) -> Reply:
    return OK


@command(
    "WAIT",
    3,
    "numreplicas timeout",
    "How many replicas have the writes: none, there are no replicas.",
    group="generic",
    since="3.0.0",
    flags="reads",
    differs="answers at once; in `sync` every answered write is on disk already",
)
def wait(session: RespSession, args: list[bytes]) -> Reply:
    integer(args[1])
    if integer(args[2], message="timeout is not an integer or out of range") < 0:
        raise BadRequest("timeout is negative")
    return ZERO


@command(
    "WAITAOF",
    4,
    "numlocal numreplicas timeout",
    "Whether the writes are on disk here, and on how many replicas: there are none.",
    group="generic",
    since="7.2.0",
    flags="blocking reads",
    differs="answers at once; in `sync` every answered write is on disk already",
)
def waitaof(session: RespSession, args: list[bytes]) -> Reply:
    local = integer(args[1], 0, 1, "value is out of range, must between 0 and 1")
    integer(args[2], 0)
    if integer(args[3], message="timeout is not an integer or out of range") < 0:
        raise BadRequest("timeout is negative")
    durability = session.host.engine.log.durability
    if local and durability not in (SYNC, ASYNC):
        raise BadRequest("WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
    return array([resp.integer(int(durability == SYNC)), ZERO])


@command("ROLE", 1, "", "The server's role: `master`, with no replicas.", group="server", since="2.8.12", flags="fast reads")
def role(session: RespSession, args: list[bytes]) -> Reply:
    return array([bulk(b"master"), resp.integer(session.host.engine.log.written), EMPTY_ARRAY])


@command(
    "LASTSAVE",
    1,
    "",
    "When everything was last on disk, in Unix seconds: now.",
    group="server",
    flags="fast reads",
    differs="Flo is always durable",
)
def lastsave(session: RespSession, args: list[bytes]) -> Reply:
    return resp.integer(session.host.engine.now // 1000)


# -- the whole of it -------------------------------------------------------------------------------


def _flush_option(args: list[bytes]) -> None:
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"ASYNC", b"SYNC")):
        raise syntax_error()


@command(
    "FLUSHDB",
    -1,
    "[ASYNC | SYNC]",
    "Deletes everything in this namespace, of every kind.",
    group="server",
    flags="write resets",
    differs="always at once, by one record; memory is freed little by little",
)
def flushdb(session: RespSession, args: list[bytes]) -> Reply:
    _flush_option(args)
    session.host.engine.flush([session.namespace])
    session.host.log("info", f"FLUSHDB emptied the namespace {session.namespace.name}", peer=session.peer.address)
    return OK


@command(
    "FLUSHALL",
    -1,
    "[ASYNC | SYNC]",
    "Deletes everything in every namespace.",
    group="server",
    flags="write resets",
    differs="always at once; memory is freed little by little",
)
def flushall(session: RespSession, args: list[bytes]) -> Reply:
    _flush_option(args)
    engine = session.host.engine
    engine.flush(list(engine.namespaces.values()))
    session.host.log("info", "FLUSHALL emptied every namespace", peer=session.peer.address)
    return OK


@command(
    "SHUTDOWN",
    -1,
    "[NOSAVE | SAVE] [NOW] [FORCE]",
    "Finishes the turn, syncs, and stops the server.",
    group="server",
    flags="admin resets",
    differs="always keeps everything, whatever the options",
)
def shutdown(session: RespSession, args: list[bytes]) -> Reply:
    if any(arg.upper() not in (b"NOSAVE", b"SAVE", b"NOW", b"FORCE") for arg in args[1:]):
        raise syntax_error()
    session.host.log("info", "SHUTDOWN was sent", peer=session.peer.address)
    session.halted = True
    session.host.shutdown()
    return b""


@command("LOLWUT", -1, "[VERSION version]", "A picture, and the version.", group="server", since="5.0.0", flags="readonly fast")
def lolwut(session: RespSession, args: list[bytes]) -> Reply:
    if len(args) > 2 and args[1].upper() == b"VERSION":
        integer(args[2])
    rows = ["~" * (8 + (at * 7) % 24) for at in range(5)]
    return verbatim("\n".join(rows) + f"\nFlo ver. {flo.__version__}\n", session.v3)
