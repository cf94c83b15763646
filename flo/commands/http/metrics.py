"""GET /metrics: what the server tells of itself, as Prometheus reads it (text format 0.0.4).

https://prometheus.io/docs/instrumenting/exposition_formats/

A plain scrape has sums for each namespace. `?detail=1` adds each queue, stream and so on by its name: the DETAILS_MAX largest of each kind.
What the parts of a namespace count follows from their `nouns`, `events` and `measures`: `queues` is `flo_queues`, `invoked_runs` is
`flo_invoked_runs_total`, the `ready_messages` of a `queue` are `flo_queue_ready_messages`.

`flo_wait_seconds` is one histogram for all protocols. The loop adds a turn's waits at once, by the number of connections that it has
answered; to tell their protocols it would have to look at each of them, in each turn.
"""

from collections.abc import Generator, Iterable
from itertools import islice
from typing import Any

from flo.commands.host import Host
from flo.commands.http.answers import HttpRefusal
from flo.commands.http.routes import page
from flo.commands.http.session import Exchange, HttpSession
from flo.commands.stats import Pause, largest, parts, server_counts
from flo.engine import Part
from flo.proto.http import split_query

DETAILS_MAX = 1000  # containers of each kind
LABEL_CHARACTERS_MAX = 200  # of a name, which may be 32 KB and stands in each line
LINES_SLICE = 200  # lines made before the time is looked at: 0.5 ms
MEDIA = ((b"Content-Type", b"text/plain; version=0.0.4; charset=utf-8"),)
GAUGE, COUNTER, HISTOGRAM = "gauge", "counter", "histogram"

# (name, type, help, where it is in the answer of server_stats)
PLAIN = (
    ("flo_uptime_seconds", GAUGE, "Seconds since the server started.", "uptime_seconds"),
    ("flo_connections", GAUGE, "Clients that are connected.", "clients connected"),
    ("flo_connections_accepted_total", COUNTER, "Connections that clients have made, the rejected ones included.", "clients accepted"),
    (
        "flo_connections_rejected_total",
        COUNTER,
        "Connections that were rejected: too many, or not allowed.",
        "clients rejected",
    ),
    ("flo_connections_unknown_protocol_total", COUNTER, "Connections whose protocol is unknown.", "clients unknown_protocol"),
    ("flo_wrong_secrets_total", COUNTER, "Wrong secrets that clients have given.", "clients wrong_secrets"),
    (
        "flo_connections_not_reading_total",
        COUNTER,
        "Connections that were closed because they did not read what channels or MONITOR sent them.",
        "clients not_reading",
    ),
    ("flo_waiting_requests", GAUGE, "Requests that wait for something.", "clients waiting"),
    ("flo_received_bytes_total", COUNTER, "Bytes received from clients.", "clients bytes_in"),
    ("flo_sent_bytes_total", COUNTER, "Bytes sent to clients.", "clients bytes_out"),
    ("flo_memory_used_bytes", GAUGE, "Memory accounted to all namespaces.", "memory used"),
    ("flo_memory_max_bytes", GAUGE, "The setting max_memory; 0 for no bound.", "memory max"),
    ("flo_memory_full", GAUGE, "1 while requests that add are refused because memory is at its bound.", "memory full"),
    ("process_resident_memory_bytes", GAUGE, "Resident memory of the process.", "memory resident"),
    ("process_cpu_seconds_total", COUNTER, "CPU time of the process.", "cpu_seconds"),
    ("flo_log_last_index", GAUGE, "The index of the last record in the log.", "log last_index"),
    ("flo_log_durable_index", GAUGE, "The index of the last record that is on disk.", "log durable_index"),
    ("flo_log_size_bytes", GAUGE, "Size of the log.", "log bytes"),
    ("flo_log_tail_bytes", GAUGE, "Size of the part of the log that is not compacted.", "log tail_bytes"),
    ("flo_log_segments", GAUGE, "Files of the log.", "log segments"),
    ("flo_log_syncs_total", COUNTER, "Syncs of the log to disk.", "log syncs"),
    ("flo_log_batches_total", COUNTER, "Batches written to the log.", "log batches"),
    ("flo_log_written_bytes_total", COUNTER, "Bytes written to the log.", "log bytes_written"),
    ("flo_log_accepts_adds", GAUGE, "0 while requests that add are refused because the disk is full.", "log accepts_adds"),
    ("flo_log_damage_met_total", COUNTER, "Reads that failed because the log is damaged.", "log damage_met"),
    ("flo_compaction_running", GAUGE, "1 while the log is compacted.", "compaction running"),
    ("flo_compactions_total", COUNTER, "Passes of compaction that were completed.", "compaction passes"),
    ("flo_reads_hit_total", COUNTER, "Reads of keys that were there.", "reads hits"),
    ("flo_reads_missed_total", COUNTER, "Reads of keys that were not there.", "reads misses"),
    ("flo_expired_keys_total", COUNTER, "Keys that were removed because their deadline has passed.", "expired_keys"),
    ("flo_clock_steps_total", COUNTER, "Steps of the machine's wall clock.", "clock_steps"),
    ("flo_unread_values", GAUGE, "Values that a start has left on disk and that are not read yet.", "unread"),
    ("flo_namespaces", GAUGE, "Namespaces.", "namespaces"),
)

Sample = tuple[str, dict[str, str], float]  # what follows the family's name in its own, labels, value


def label_text(name: bytes) -> str:
    """A name as a label's value. Bytes that are no UTF-8, and control characters, which Prometheus may not take, are escaped. A long name
    is cut."""
    text = name.decode("utf-8", "backslashreplace")
    if len(text) > LABEL_CHARACTERS_MAX:
        text = text[: LABEL_CHARACTERS_MAX - 1] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode() if character < "\x80" else character


def line(name: str, labels: dict[str, str], value: float) -> str:
    """One sample."""
    shown = ""
    if labels:
        quoted = (value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in labels.values())
        shown = "{" + ",".join(f'{label}="{value}"' for label, value in zip(labels, quoted, strict=True)) + "}"
    return f"{name}{shown} {value!r}\n" if isinstance(value, float) else f"{name}{shown} {int(value)}\n"


def family(name: str, kind: str, help: str, samples: Iterable[Sample]) -> Generator[None, None, list[str]]:
    """All lines of a metric. A job: there may be a thousand."""
    found = [f"# HELP {name} {help}\n# TYPE {name} {kind}\n"]
    samples, pause = iter(samples), Pause()
    while some := [line(name + suffix, labels, value) for suffix, labels, value in islice(samples, LINES_SLICE)]:
        found += some
        if pause.due():
            yield
    return found


@page("GET", "metrics")
def metrics(session: HttpSession, exchange: Exchange) -> Any:
    """The server's metrics in Prometheus' text format; with `detail=1`, the largest queues and streams by name too."""
    given = split_query(exchange.request.query)
    detail = given.pop(b"detail", [b"0"])
    if given or detail not in ([b"0"], [b"1"]):
        raise HttpRefusal(400, "this page takes one parameter: detail=1, for each queue and stream")
    return scrape(session.host, detail == [b"1"])


def scrape(host: Host, detail: bool) -> Generator[None, None, Any]:
    """Make the page. A job."""
    stats = server_counts(host)
    text: list[str] = []
    for name, kind, help, path in PLAIN:
        value: Any = stats
        for word in path.split():
            value = value[word]
        text += yield from family(name, kind, help, [("", {}, value)])
    for each in (*server_families(stats), *cluster_families(host)):
        text += yield from family(*each)
    for each in (yield from namespace_families(host)):
        text += yield from family(*each)
    if detail:
        for part in parts(host):
            if part.container:
                for each in (yield from detail_families(host, part)):
                    text += yield from family(*each)
    return 200, MEDIA, "".join(text).encode()


def server_families(stats: dict[str, Any]) -> Generator[tuple[str, str, str, list[Sample]], None, None]:
    """The metrics of the server that have labels."""
    build = {"version": stats["version"], "durability": stats["log"]["durability"]}
    yield "flo_build_info", GAUGE, "Always 1; the labels tell about the server.", [("", build, 1)]
    commands = [({"command": each["command"], "protocol": each["protocol"]}, each) for each in stats["commands"]]
    yield (
        "flo_commands_total",
        COUNTER,
        "Requests, by command: `ok`; `failed`, refused by the command; `rejected` before they reached it.",
        [
            ("", labels | {"status": status}, count)
            for labels, each in commands
            for status, count in (
                ("ok", each["calls"] - each["failed"]),
                ("failed", each["failed"]),
                ("rejected", each["rejected"]),
            )
        ],
    )
    seconds = [("", labels, float(each["seconds"])) for labels, each in commands]
    yield "flo_command_seconds_total", COUNTER, "Time spent executing requests, waits left out.", seconds
    errors = [("", {"code": code}, count) for code, count in stats["errors"].items()]
    yield "flo_errors_total", COUNTER, "Errors that were answered, by code.", errors
    waits = stats["waits"]
    samples = histogram(waits["under"], waits["count"], waits["seconds"])
    yield "flo_wait_seconds", HISTOGRAM, "How long clients waited, from a request's arrival to its reply.", samples


def histogram(under: list[tuple[int, int]], count: int, seconds: float) -> list[Sample]:
    """The samples of a histogram: `under` as `Waits.under` has it."""
    buckets: list[Sample] = [("_bucket", {"le": repr(usec / 1e6)}, below) for usec, below in under]
    return [*buckets, ("_bucket", {"le": "+Inf"}, count), ("_sum", {}, seconds), ("_count", {}, count)]


def cluster_families(host: Host) -> Generator[tuple[str, str, str, list[Sample]], None, None]:
    """The metrics of a member of a cluster."""
    if host.cluster is None:
        return
    told, acks = host.cluster.describe(), host.cluster.acks
    role = {"node": told["node"], "role": told["mode"]}
    yield "flo_cluster_role", GAUGE, "Always 1; the labels tell this member's name and role.", [("", role, 1)]
    yield "flo_cluster_leads", GAUGE, "1 while this member leads.", [("", {}, host.cluster.leads)]
    yield "flo_cluster_term", GAUGE, "The last claim of the lead that this member knows; a later one is larger.", [("", {}, told["term"])]
    yield "flo_cluster_elections_total", COUNTER, "Claims of the lead that this member has seen.", [("", {}, told["elections"])]
    silence = told["silence_ms"] / 1000
    yield "flo_cluster_silence_seconds", GAUGE, "Since this member has heard from the leader; 0 on the leader.", [("", {}, silence)]
    yield "flo_cluster_etcd_connected", GAUGE, "1 while this member is connected to etcd.", [("", {}, told["engine"]["ok"])]
    tail = told["engine"]["tail_bytes"]
    yield "flo_cluster_tail_bytes", GAUGE, "Size of the part of the log that is in etcd, as far as this member knows.", [("", {}, tail)]
    members = [({"member": member["node"]}, member) for member in told["members"]]
    lags = [("", labels, member["lag"]) for labels, member in members]
    yield "flo_cluster_member_lag_records", GAUGE, "Records that a member was behind this one when it last told.", lags
    silences = [("", labels, member["behind_ms"] / 1000) for labels, member in members]
    yield "flo_cluster_member_silence_seconds", GAUGE, "Since a member has last told how far it is, which it does every 2 s.", silences
    samples = histogram(acks.under(), acks.count, acks.seconds)
    yield "flo_cluster_ack_seconds", HISTOGRAM, "How long etcd took to acknowledge this member's batches, as a leader.", samples


Families = list[tuple[str, str, str, list[Sample]]]


def namespace_families(host: Host) -> Generator[None, None, Families]:
    """The sums of each namespace. A job."""
    samples: dict[str, list[Sample]] = {name: [] for part in parts(host) for name in (*part.nouns, *part.events)}
    memory: list[Sample] = []
    pause = Pause()
    for namespace in list(host.engine.namespaces.values()):
        labels = {"namespace": namespace.name}
        for name, count in (*namespace.counts().items(), *namespace.happened().items()):
            samples[name].append(("", labels, count))
        memory.append(("", labels, namespace.memory_bytes))
        if pause.due():
            yield
    found: Families = [(f"flo_{noun}", GAUGE, help, samples[noun]) for part in parts(host) for noun, help in part.nouns.items()]
    found += [(f"flo_{event}_total", COUNTER, help, samples[event]) for part in parts(host) for event, help in part.events.items()]
    return [*found, ("flo_namespace_memory_bytes", GAUGE, "Memory accounted to the namespace.", memory)]


def detail_families(host: Host, part: Part) -> Generator[None, None, Families]:
    """The largest containers of a part's kind. A job."""
    found = yield from largest(host, part, DETAILS_MAX)
    labelled = {(large.namespace, label_text(large.name)): large.measures for large in found}  # two names may look the same
    labels = [{"namespace": namespace, part.container: name} for namespace, name in labelled]
    return [
        (
            f"flo_{part.container}_{measure}",
            GAUGE,
            help,
            [("", each, values[at]) for each, values in zip(labels, labelled.values(), strict=True)],
        )
        for at, (measure, help) in enumerate(part.measures.items())
    ]
