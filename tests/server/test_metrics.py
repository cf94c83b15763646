"""GET /metrics: read by prometheus_client's parser, by promtool and by a Prometheus; the sums, the details, and what they cost."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from inspect import getsource
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flo.client import Client
from flo.commands.guesses import FAILURES_MAX
from flo.commands.http import load_pages
from flo.commands.http.metrics import DETAILS_MAX, cluster_families, label_text, scrape
from flo.commands.http.session import HttpSession
from tests.support.fakes import FakeHost, FakePeer
from tests.support.processes import ROOT, FloProcess, free_port, wait_until

NAMES = [b"plain", b'q"uo\\te', b"new\nline", b"\xff\x00bytes", "ünder\r\t".encode(), b""]
SLICE_SECONDS_MAX = 0.020

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def get(port: int, path: str = "/metrics", headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    """(status, content type, body) of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, 30)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def parsed(text: str) -> tuple[Samples, dict[str, str]]:
    """The samples by (name, labels), and the types of the metrics, by an independent parser."""
    samples: Samples = {}
    types = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        types[family.name] = family.type
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in samples, f"{key} is there twice"
            samples[key] = sample.value
    return samples, types


def value(samples: Samples, name: str, **labels: str) -> float:
    """One sample."""
    return samples[name, tuple(sorted(labels.items()))]


def run(host: FakeHost, detail: bool) -> tuple[str, list[float]]:
    """The page of a host without a network, and how long each slice took."""
    job, slices = scrape(host, detail), []
    while True:
        began = time.process_time()
        try:
            next(job)
        except StopIteration as end:
            slices.append(time.process_time() - began)
            status, _, body = end.value
            assert status == 200
            return body.decode(), slices
        slices.append(time.process_time() - began)


@pytest.fixture
def filled(flo: FloProcess) -> Iterator[tuple[FloProcess, Client]]:
    """A server with something of everything, and a client of it."""
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        client.namespaces.create("other")
        client.kv.put("k", b"v")
        client.kv.put("soon gone", b"v", ttl=1000)
        for name in NAMES:
            client.queues.enqueue(name, b"1")
            client.queues.enqueue(name, b"2", delay=100_000)
            client.queues.enqueue(name, b"3")
            client.queues.dequeue(name)
        client.streams.append("s", b"1")
        client.streams.append("s", b"2")
        client.streams.group_create("s", "g", start=(0, 0))
        assert len(client.streams.group_read("s", "g", "c", limit=1)) == 1
        client.ts.write_batch("cpu,host=a busy=1,idle=2\ncpu,host=b busy=3")
        client.actions.register("send")
        runs = [client.actions.invoke("send") for _ in range(6)]
        client.workers.register("w", ["send"], concurrency=3)
        assert all(client.workers.take("w") for _ in range(3))
        client.workers.complete(runs[0], worker_id="w")
        yield flo, client


def test_a_scrape_is_read_by_another_parser(filled: tuple[FloProcess, Client]) -> None:
    flo, client = filled
    status, kind, text = get(flo.port)
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples, types = parsed(text)
    names = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert len({name for name, _ in names}) == len(names), "each metric has its type once"
    assert [name for name, _ in names] == re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE)
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in names)
    here = {"namespace": "default"}
    expected = {
        "keys": 2, "keys_with_deadline": 1, "queues": 6, "messages": 18, "ready_messages": 6, "delayed_messages": 6,
        "leased_messages": 6, "dead_messages": 0, "streams": 1, "records": 2, "groups": 1, "pending_records": 1, "dead_records": 0,
        "measurements": 1, "series": 3, "points": 3, "actions": 1, "pending_runs": 3, "running_runs": 2, "finished_runs": 1,
        "workers": 1, "schedules": 0,
    }  # fmt: skip
    assert {noun: value(samples, f"flo_{noun}", **here) for noun in expected} == expected
    assert client.stats()["counts"] == expected
    assert all(value(samples, f"flo_{noun}", namespace="other") == 0 for noun in expected)
    assert value(samples, "flo_commands_total", command="queue_enqueue", protocol="binary", status="ok") == 18
    assert value(samples, "flo_command_seconds_total", command="queue_enqueue", protocol="binary") > 0
    assert types["flo_wait_seconds"] == "histogram"
    buckets = [each for (name, _), each in samples.items() if name == "flo_wait_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == value(samples, "flo_wait_seconds_count") > 30
    assert 0 < value(samples, "flo_wait_seconds_sum") < 60
    assert not [name for name, _ in samples if name.startswith(("flo_queue_", "flo_stream_"))], "details were not asked for"


def test_what_actions_have_done_is_counted(flo: FloProcess) -> None:
    """Each counter in /metrics and in INFO, until CONFIG RESETSTAT."""
    with Client(f"flo://127.0.0.1:{flo.port}") as client, flo.connect() as redis:
        client.actions.register("work", retry_delay=0)
        client.actions.register("quick", timeout=1, max_attempts=1)
        client.workers.register("w", ["work", "quick"])

        def take(action: str) -> str:
            client.actions.invoke(action)
            run = client.workers.take("w")
            assert run is not None
            return run.run_id

        client.workers.complete(take("work"), worker_id="w")
        failing = take("work")
        client.workers.fail(failing, worker_id="w", retry=True)
        assert client.workers.take("w")
        client.workers.release(failing, worker_id="w")
        assert client.workers.take("w")
        client.workers.fail(failing, worker_id="w")
        client.actions.cancel(client.actions.invoke("work"))
        assert client.actions.result(take("quick"), block=20_000).state == "timed_out"
        client.actions.retry(failing)
        client.actions.register("ping")
        client.actions.register("gone")
        client.schedules.put("beat", '{"action": "ping", "every_ms": 100}')
        client.schedules.put("lost", '{"action": "gone", "every_ms": 100}')
        client.actions.delete("gone")
        wait_until(lambda: all(each["runs"] + each["dropped"] for each in client.schedules.list()), "a time of each schedule")
        for name in ("beat", "lost"):
            client.schedules.delete(name)
        (ping,) = client.actions.list_page("ping")["actions"]
        scheduled = ping["runs"]["pending"]

        expected = {
            "invoked_runs": 4 + scheduled, "completed_runs": 1, "failed_runs": 1, "timed_out_runs": 1, "cancelled_runs": 1,
            "retried_runs": 2, "expired_leases": 1, "scheduled_runs": scheduled,
        }  # fmt: skip
        samples, _ = parsed(get(flo.port)[2])
        assert {event: value(samples, f"flo_{event}_total", namespace="default") for event in expected} == expected
        expected["dropped_times"] = int(value(samples, "flo_dropped_times_total", namespace="default"))
        assert expected["dropped_times"] >= 1

        def info() -> dict[str, int]:
            (line,) = re.findall(r"^flo_namespace_default:(.*)\r$", redis.command("INFO", "flo").decode(), re.MULTILINE)
            return {name: int(number) for name, number in (each.split("=") for each in line.split(","))}

        assert expected.items() <= info().items()
        assert redis.command("CONFIG", "RESETSTAT") == b"OK"
        assert dict.fromkeys(expected, 0).items() <= info().items()


def test_details_have_escaped_names(filled: tuple[FloProcess, Client]) -> None:
    flo, client = filled
    client.queues.enqueue("plain", b"more")
    samples, _ = parsed(get(flo.port, "/metrics?detail=1")[2])
    found = {dict(labels)["queue"]: number for (name, labels), number in samples.items() if name == "flo_queue_messages"}
    assert found == {"plain": 4, 'q"uo\\te': 3, "new\nline": 3, "\\xff\\x00bytes": 3, "ünder\\r\\t": 3, "": 3}
    assert value(samples, "flo_queue_leased_messages", namespace="default", queue="plain") == 1
    assert value(samples, "flo_stream_records", namespace="default", stream="s") == 2
    assert value(samples, "flo_stream_record_bytes", namespace="default", stream="s") == 2
    assert value(samples, "flo_stream_groups", namespace="default", stream="s") == 1


def test_a_name_that_looks_like_another_is_no_second_sample() -> None:
    host = FakeHost()
    load_pages()
    try:
        assert label_text(b"\xff") == label_text(b"\\xff")
        host.engine.queues.enqueue(b"\xff", b"")
        host.engine.queues.enqueue(b"\\xff", b"")
        for end in b"123":
            host.engine.queues.enqueue(b"long" * 1000 + bytes((end,)), b"")
        samples, _ = parsed(run(host, True)[0])
        names = sorted(dict(labels)["queue"] for name, labels in samples if name == "flo_queue_messages")
        assert names == ["\\xff", "long" * 49 + "lon…"]
    finally:
        host.close()


def test_counters_only_grow(filled: tuple[FloProcess, Client]) -> None:
    flo, client = filled
    before, types = parsed(get(flo.port)[2])
    for number in range(50):
        client.kv.put("k", b"%d" % number)
        client.kv.get("none")
    after, _ = parsed(get(flo.port)[2])
    counters = {name + "_total" for name, kind in types.items() if kind == "counter"}
    counters |= {"flo_wait_seconds_bucket", "flo_wait_seconds_sum", "flo_wait_seconds_count"}
    for key, was in before.items():
        if key[0] in counters:
            assert after[key] >= was, key
    grown = after["flo_wait_seconds_count", ()] - before["flo_wait_seconds_count", ()]
    assert grown >= 101
    assert after["flo_log_batches_total", ()] > before["flo_log_batches_total", ()]
    labels = {"command": "kv_put", "protocol": "binary", "status": "ok"}
    assert value(after, "flo_commands_total", **labels) == value(before, "flo_commands_total", **labels) + 50


def test_refused_and_failed_requests_are_counted_apart(flo: FloProcess) -> None:
    with flo.connect() as client:
        client.command("SET", "text", "no number")
        client.command("INCR", "text")
        client.command("GET")
    samples, _ = parsed(get(flo.port)[2])
    counts = {
        dict(labels)["command"]: {
            status: value(samples, name, **(dict(labels) | {"status": status})) for status in ("ok", "failed", "rejected")
        }
        for name, labels in samples
        if name == "flo_commands_total" and dict(labels)["protocol"] == "resp"
    }
    assert counts["set"] == {"ok": 1, "failed": 0, "rejected": 0}
    assert counts["incr"] == {"ok": 0, "failed": 1, "rejected": 0}
    assert counts["get"] == {"ok": 0, "failed": 0, "rejected": 1}
    assert sum(number for (name, _), number in samples.items() if name == "flo_errors_total") == 2


def test_compactions_are_counted(flo: FloProcess) -> None:
    with flo.connect() as client:
        client.command("SET", "k", "v")
        client.command("SET", "k", "w")
    assert parsed(get(flo.port)[2])[0]["flo_compactions_total", ()] == 0
    os.kill(flo.pid, signal.SIGUSR1)
    wait_until(lambda: parsed(get(flo.port)[2])[0]["flo_compactions_total", ()] == 1, "a compaction")


def test_pages_are_counted_by_their_names(flo: FloProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", flo.port, 30)
    for method, path in (("OPTIONS", "/metrics"), ("GET", "/health"), ("GET", "/nowhere"), ("GET", "/metrics")):
        connection.request(method, path)
        connection.getresponse().read()
    connection.close()
    samples, _ = parsed(get(flo.port)[2])
    shown = {dict(labels)["command"] for name, labels in samples if name == "flo_commands_total"}
    assert shown == {"options", "health", "metrics"}, "and what is no page has no name"


@pytest.mark.parametrize("query", ["detail=2", "detail=1&detail=1", "details=1", "x"])
def test_what_is_no_parameter_is_refused(flo: FloProcess, query: str) -> None:
    status, kind, text = get(flo.port, f"/metrics?{query}")
    assert (status, kind) == (400, "application/problem+json")
    assert "detail=1" in json.loads(text)["detail"]


def test_the_secret_is_owed(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text("open sesame")
    with FloProcess(tmp_path / "data", "--secret-file", str(path)) as flo:
        assert get(flo.port)[0] == 401
        status, _, text = get(flo.port, headers={"Authorization": "Bearer open sesame"})
        assert status == 200
        assert "open sesame" not in text


@pytest.mark.parametrize("path", [b"/metrics", b"/health"])
def test_past_the_budget_of_wrong_secrets_a_page_waits_as_a_refusal_does(path: bytes) -> None:
    host, peer = FakeHost(), FakePeer()
    load_pages()
    try:
        host.secret = b"right"
        for _ in range(FAILURES_MAX + 1):
            host.guesses.failed(peer.address)
        session = HttpSession(host, peer)
        session.feed(b"GET %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer right\r\n\r\n" % path, 1 << 20)
        while session.job is not None:
            session.resume()
        if path == b"/metrics":
            assert peer.out == []
            (release,) = peer.later
            release()
        assert b"".join(peer.out).startswith(b"HTTP/1.1 200 OK\r\n"), "no secret is looked at for the other page"
    finally:
        host.close()


def queues_of(count: int) -> FakeHost:
    """A host with so many queues, of which the last ones have the most messages."""
    host = FakeHost()
    load_pages()
    for number in range(count):
        host.engine.queues.enqueue_many(b"queue-%05d" % number, [b""] * (1 + number * 5 // count))
        if not number % 1000:
            host.tick()
    host.tick()
    return host


@pytest.mark.slow
def test_ten_thousand_queues_cost_a_scrape_no_more_than_fifty() -> None:
    few, many = queues_of(50), queues_of(10_000)
    try:
        ratios = []
        for _ in range(5):
            costs = []
            for host in (few, many):
                began = time.process_time()
                for _ in range(10):
                    text, _ = run(host, False)
                costs.append(time.process_time() - began)
            ratios.append(costs[1] / costs[0])
        assert value(parsed(text)[0], "flo_queues", namespace="default") == 10_000
        assert min(ratios) < 1.25, ratios
        text, slices = run(many, True)
        assert min(max(run(many, True)[1]) for _ in range(3)) < SLICE_SECONDS_MAX, "others wait for a slice"
        assert len(slices) > 3
        samples, _ = parsed(text)
        shown = [number for (name, _), number in samples.items() if name == "flo_queue_messages"]
        assert len(shown) == DETAILS_MAX
        assert set(shown) == {5}, "the largest are shown"
    finally:
        few.close()
        many.close()


# -- Prometheus itself -----------------------------------------------------------------------------


def tool(name: str) -> str:
    """A program of Debian's package."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return found


def test_promtool_finds_nothing_wrong_with_the_metrics(filled: tuple[FloProcess, Client]) -> None:
    flo, _ = filled
    for path in ("/metrics", "/metrics?detail=1"):
        done = subprocess.run([tool("promtool"), "check", "metrics"], input=get(flo.port, path)[2], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_a_prometheus_scrapes_a_server(filled: tuple[FloProcess, Client], tmp_path: Path) -> None:
    flo, _ = filled
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n- job_name: flo\n"
        f"  params: {{detail: ['1']}}\n  static_configs: [{{targets: ['127.0.0.1:{flo.port}']}}]\n"
    )
    port = free_port()  # it takes no port of the kernel's choice that it would tell
    command = [
        tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def asked(query: str) -> list[dict[str, Any]]:
            try:
                status, _, text = get(port, f"/api/v1/query?query={query}")
            except OSError:
                return []
            found: list[dict[str, Any]] = json.loads(text)["data"]["result"] if status == 200 else []
            return found

        wait_until(lambda: [each["value"][1] for each in asked("up")] == ["1"], "a scrape", 60)
        assert [each["value"][1] for each in asked("flo_messages{namespace='default'}".replace("'", "%22"))] == ["18"]
        names = {each["metric"].get("queue", "") for each in asked("flo_queue_messages")}  # to Prometheus, an empty label is none
        assert names == {label_text(name) for name in NAMES}
    finally:
        process.terminate()
        process.wait(30)


# -- contrib ---------------------------------------------------------------------------------------

CONTRIB = ROOT / "contrib"


def dashboard() -> list[dict[str, Any]]:
    """The dashboard's panels."""
    panels: list[dict[str, Any]] = json.loads((CONTRIB / "grafana-dashboard.json").read_text())["panels"]
    return panels


def test_rules_and_dashboard_name_only_metrics_that_exist(filled: tuple[FloProcess, Client]) -> None:
    flo, _ = filled
    names = set(re.findall(r"^# TYPE (\S+)", get(flo.port, "/metrics?detail=1")[2], re.MULTILINE))
    names |= {f"{name}_{part}" for name in ("flo_wait_seconds", "flo_cluster_ack_seconds") for part in ("bucket", "sum", "count")}
    names |= set(re.findall(r'yield "(flo_cluster_\w+)"', getsource(cluster_families)))  # tests/cluster sees them
    for path in ("flo.rules.yml", "grafana-dashboard.json"):
        used = set(re.findall(r"\bflo_\w+", (CONTRIB / path).read_text()))
        assert len(used) > 8
        assert used <= names, path


def test_the_panels_do_not_overlap() -> None:
    panels = dashboard()
    assert len({panel["id"] for panel in panels}) == len(panels) > 15
    places = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def test_promtool_accepts_the_rules_the_settings_and_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    queries = [target["expr"] for panel in dashboard() for target in panel["targets"]]
    rules = [
        {"record": "x", "expr": query.replace("$__rate_interval", "1m").replace("$instance", ".*")} for query in queries
    ]  # JSON is YAML too
    made = tmp_path / "dashboard.yml"
    made.write_text(
        json.dumps({"groups": [{"name": "dashboard", "rules": [rule | {"labels": {"n": str(n)}} for n, rule in enumerate(rules)]}]})
    )
    for what, path in (("rules", CONTRIB / "flo.rules.yml"), ("rules", made), ("config", CONTRIB / "prometheus.yml")):
        done = subprocess.run([tool("promtool"), "check", what, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


HEALTHY = {
    'up{job="flo"}': "1x60", "flo_log_accepts_adds": "1x60", "flo_memory_full": "0x60", "flo_memory_used_bytes": "10x60",
    "flo_memory_max_bytes": "100x60", "flo_log_damage_met_total": "0x60", "flo_uptime_seconds": "0+60x60",
    'flo_wait_seconds_bucket{le="0.064"}': "0+1000x60", 'flo_wait_seconds_bucket{le="0.128"}': "0+1001x60",
    'flo_wait_seconds_bucket{le="+Inf"}': "0+1001x60", "flo_connections_rejected_total": "0x60", "flo_wrong_secrets_total": "0+1x60",
    'flo_ready_messages{namespace="a"}': "2000x60", 'flo_leased_messages{namespace="a"}': "1x60",
    'flo_dead_messages{namespace="a"}': "3x60", 'flo_dead_records{namespace="a"}': "0x60",
    "flo_cluster_leads": "1x60", "flo_cluster_etcd_connected": "1x60", "flo_cluster_tail_bytes": "1000x60",
    'flo_cluster_member_silence_seconds{member="b"}': "1x60", 'flo_cluster_member_lag_records{member="b"}': "10x60",
    "flo_cluster_elections_total": "1x60",
}  # fmt: skip  # a sample each minute: 1x60 is one for an hour, 0+60x60 grows by 60 each
SICK = {
    "FloDown": {'up{job="flo"}': "0x60"},
    "FloDiskFull": {"flo_log_accepts_adds": "0x60"},
    "FloMemoryFull": {"flo_memory_full": "1x60"},
    "FloMemoryNearlyFull": {"flo_memory_used_bytes": "95x60"},
    "FloDamage": {"flo_log_damage_met_total": "0x50 1x10"},
    "FloRestarts": {"flo_uptime_seconds": "9999x45 1 60 1 60 1 60 60 60 60 60 60 60 60 60 60"},
    "FloSlow": {'flo_wait_seconds_bucket{le="0.064"}': "0+900x60"},
    "FloRejectsClients": {"flo_connections_rejected_total": "0+1x60"},
    "FloWrongSecrets": {"flo_wrong_secrets_total": "0+100x60"},
    "FloQueuesNotConsumed": {'flo_leased_messages{namespace="a"}': "0x60"},
    "FloDeadLetters": {'flo_dead_messages{namespace="a"}': "3x50 4x10"},
    "FloNoLeader": {"flo_cluster_leads": "0x60"},
    "FloLostEtcd": {"flo_cluster_etcd_connected": "0x60"},
    "FloMemberAway": {'flo_cluster_member_silence_seconds{member="b"}': "0+60x60"},
    "FloMemberBehind": {'flo_cluster_member_lag_records{member="b"}': "200000x60"},
    "FloTailGrows": {"flo_cluster_tail_bytes": "600000000x60"},
    "FloManyFailOvers": {"flo_cluster_elections_total": "0+1x60"},
}


@pytest.mark.slow
def test_each_alert_fires_for_its_trouble_and_none_for_a_healthy_server(tmp_path: Path) -> None:
    rules = tmp_path / "flo.rules.yml"
    rules.write_text((CONTRIB / "flo.rules.yml").read_text())
    alerts = set(re.findall(r"alert: (\w+)", rules.read_text()))
    assert alerts == set(SICK)
    for name, trouble in ({"": dict[str, str]()} | SICK).items():
        series = [{"series": each, "values": values} for each, values in (HEALTHY | trouble).items()]
        fired = [{"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": "58m", "exp_samples": [
            {"labels": f'{{alertname="{name}"}}', "value": 1}] if name else []}]  # fmt: skip
        made = tmp_path / f"test{name}.yml"
        tests = [{"interval": "1m", "input_series": series, "promql_expr_test": fired}]
        made.write_text(json.dumps({"rule_files": [rules.name], "tests": tests}))
        done = subprocess.run([tool("promtool"), "test", "rules", str(made)], capture_output=True, text=True)
        assert done.returncode == 0, (name, done.stdout + done.stderr)
