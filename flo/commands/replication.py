"""What clients are told about the cluster: who leads, who follows, and how far each member is."""

from typing import Any

from flo.commands.host import Host


def address_of_leader(host: Host, own: str) -> str:
    """The address at which clients write: the leader's, if one is known. `own` is this server's."""
    advertised = host.settings.advertise or own
    if host.cluster is None or host.cluster.leads:
        return advertised
    return host.engine.leader or advertised


def is_leader(host: Host) -> bool:
    """Whether this server serves writes."""
    return host.cluster is None or host.cluster.leads


def followers(host: Host) -> list[dict[str, Any]]:
    """The other members, as cluster_status has them."""
    if host.cluster is None:
        return []
    told = host.cluster.describe()
    return [member for member in told["members"] if member["node"] != told["node"]]


def replication_facts(host: Host) -> dict[str, object]:
    """INFO replication, in Redis's words and with Flo's own fields."""
    written = host.engine.log.written
    if host.cluster is None:
        return {"role": "master", "connected_slaves": 0, "master_repl_offset": written}
    told = host.cluster.describe()
    others = followers(host)
    facts: dict[str, object] = {"role": "master" if host.cluster.leads else "slave"}
    if host.cluster.leads:
        facts["connected_slaves"] = len(others)
        for number, member in enumerate(others):
            host_name, _, port = member["address"].rpartition(":")
            lag = member["behind_ms"] // 1000
            facts[f"slave{number}"] = f"ip={host_name},port={port},state=online,offset={member['applied']},lag={lag}"
    else:
        host_name, _, port = told["leader"].rpartition(":")
        facts |= {
            "master_host": host_name,
            "master_port": port or 0,
            "master_link_status": "up" if told["mode"] == "follower" else "down",
            "master_last_io_seconds_ago": told["silence_ms"] // 1000,
            "slave_repl_offset": written,
            "slave_read_only": 1,
            "connected_slaves": 0,
        }
    engine = told["engine"]
    return facts | {
        "master_repl_offset": written,
        "flo_cluster_node": told["node"],
        "flo_cluster_mode": told["mode"],
        "flo_cluster_term": told["term"],
        "flo_cluster_elections": told["elections"],
        "flo_cluster_silence_ms": told["silence_ms"],
        "flo_cluster_etcd": "up" if engine["ok"] else "down",
        "flo_cluster_tail_bytes": engine["tail_bytes"],
        "flo_cluster_ack_p50_ms": engine["ack_p50_ms"],
        "flo_cluster_ack_p99_ms": engine["ack_p99_ms"],
    }
