"""Each operation over REST and over the binary protocol, side by side: the same calls, in two namespaces, give the same answers.

What differs between two calls is the number of a record and the time. Such a value is compared by its type.
"""

import json
import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from flo.commands.http.openapi import EVERYWHERE, statuses_of
from flo.operations import BY_NAME, OPERATIONS
from flo.operations.ids import from_wire, to_wire
from flo.operations.options import RUN_STATES
from flo.proto import fields
from flo.proto.binary import encode_request, namespace_hash
from flo.proto.row import Operation
from flo.proto.shapes import NUMBERS, shape
from tests.support.processes import FloProcess
from tests.support.rest import Answer, Rest, escaped
from tests.support.wire_client import Status

pytestmark = pytest.mark.computes

NO_ROUTE = {"ping", "auth"}  # SPEC section 5
STATUS = {404: Status.NOT_FOUND, 400: Status.BAD_REQUEST, 409: Status.CONFLICT, 412: Status.CONFLICT}


class Do(NamedTuple):
    """One call. In names, values and options, `@word` is what this side was last answered as `word`."""

    operation: str
    key: str = ""
    value: Any = b""
    options: dict[str, Any] = {}  # noqa: RUF012
    own_words: str = ""  # REST's refusal, where it is not the binary protocol's
    live: bool = False  # the answer tells of the moment: only the names of its fields are compared


CALLS = (
    Do("namespace_create", "@ns"),
    Do("namespace_create", "@ns"),
    Do("namespace_create", "a/b"),
    Do("namespace_list"),
    Do("namespace_info", "@ns"),
    Do("namespace_create", "@ns-2"),
    Do("namespace_delete", "@ns-2"),
    Do("namespace_delete", "default"),
    Do("cluster_join", "", b"x"),
    Do("cluster_leave"),
    Do("cluster_promote", "a"),
    Do("cluster_remove", "a"),
    Do("cluster_status", live=True),
    Do("cluster_partition_table"),
    Do("cluster_fetch", "00000000000000000001.seg", 0),
    Do("cluster_fetch", "none.seg", 0),
    Do("server_stats", live=True),
    Do("server_stats", "", b"", {"block": 5000}, live=True),
    *(Do("server_view", "", view, live=True) for view in (b"clients", b"slow", b"log")),
    Do("server_view", "", b"settings", {"limit": 1, "cursor": "c2V0dGluZ3M6MQ"}),
    Do("server_view", "", b"none"),
    # keys
    Do("kv_get", "k"),
    Do("kv_info", "k"),
    Do("kv_put", "k", b"\x00\xff value"),
    Do("kv_get", "k"),
    Do("kv_get", "k", b"", {"clip": 3}),
    Do("kv_get", "k", b"", {"clip": 0}),
    Do("kv_get", "missing", b"", {"clip": 3}),
    Do("kv_get", "k", b"", {"block": 5, "cas_version": 0}),
    Do("kv_get", "k", b"", {"block": 5, "cas_version": 0, "clip": 4}),
    Do("kv_get", "later", b"", {"wait": 5}),
    Do("kv_put", "k", b"", {"if_absent": True}),
    Do("kv_put", "k", b"new", {"if_present": True, "ttl": 1000}),
    Do("kv_put", "k", b"newer", {"keep_ttl": True}),
    Do("kv_put", "k", b"never", {"if_absent": True, "if_present": True}),
    Do("kv_put", "k", b"never", {"ttl": 1 << 62}),
    Do("kv_info", "k"),
    Do("kv_cas", "k", b"newest", {"cas_version": "@version"}),
    Do("kv_cas", "k", b"never", {"cas_version": 1 << 60}),
    Do("kv_cas", "cas", b"1", {"cas_version": 0, "ttl": 1000}),
    Do("kv_cas", "cas", b"2", {"cas_version": "@version", "keep_ttl": True}),
    Do("kv_put", "cas", b"3", {"cas_version": "@version"}),
    Do("kv_history", "k", b"", {"limit": 3}),
    Do("kv_history", "k", b"", {"limit": 1001}),
    Do("kv_history", "k", b"", {"limit": 2, "clip": 2}),
    Do("kv_exists", "k"),
    Do("kv_exists", "missing"),
    Do("kv_touch", "k", b"", {"ttl": 50}),
    Do("kv_touch", "k", b"", {"ttl": 50, "cas_version": "@version"}),
    Do("kv_touch", "missing", b"", {"ttl": 50}),
    Do("kv_persist", "k", b"", {"cas_version": 1 << 60}),
    Do("kv_persist", "k"),
    Do("kv_persist", "missing"),
    Do("kv_incr", "n"),
    Do("kv_incr", "n", b"", {"delta": -43}),
    Do("kv_incr", "k"),
    Do("kv_incr", "n", b"", {"delta": -(1 << 63)}),
    Do("kv_json_set", "doc", b'{"items": [1, 2], "a": null}'),
    Do("kv_json_set", "doc", b'"three"', {"path": "$.items[2]"}),
    Do("kv_json_set", "doc", b"{"),
    Do("kv_json_set", "doc", b"1", {"path": "$.b.c"}),
    Do("kv_json_set", "doc", b"1", {"path": "$.c", "cas_version": "@version"}),
    Do("kv_json_del", "doc", b"", {"path": "$.c", "cas_version": 1 << 60}),
    Do("kv_json_get", "doc"),
    Do("kv_json_get", "doc", b"", {"path": "$.items"}),
    Do("kv_json_get", "doc", b"", {"path": "$.nothing"}),
    Do("kv_json_get", "k"),
    Do("kv_json_del", "doc", b"", {"path": "$.a"}),
    Do("kv_json_del", "doc", b"", {"path": "$.a"}),
    Do("kv_batch_put", "", [("b1", b"1", 0), ("b2", b"\xff", 9), ("b/3", b"", 0)]),
    Do("kv_mget", "", ["b1", "missing", "b2", "doc"]),
    Do("kv_mget", "", ["b1"] * 257, {}, "keys has 257 items; at most 256 are allowed in one request"),
    Do("kv_scan", ""),
    Do("kv_scan", "b", b"", {"limit": 2}),
    Do("kv_scan", "b", b"", {"pattern": "*[12]", "clip": 1}),
    Do("kv_scan", "", b"", {"pattern": "b?"}),
    Do("kv_scan", "b", b"", {"pattern": "a*"}),
    Do("kv_scan", "b", b"", {"pattern": "*\u00e9[", "limit": 3}),
    Do("kv_scan", "b", b"", {"limit": 2, "cursor": "@cursor", "keys_only": True}),
    Do("kv_delete", "k", b"", {"cas_version": 1 << 60}),
    Do("kv_delete", "k"),
    Do("kv_delete", "k"),
    # queues
    Do("queue_enqueue", "q", b"first"),
    Do("queue_enqueue", "q", b"\xff", {"priority": 3, "dedup_key": "d"}),
    Do("queue_enqueue", "q", b"again", {"priority": 3, "dedup_key": "d"}),
    Do("queue_enqueue", "q", b"late", {"delay": 100_000}),
    Do("queue_peek", "q"),
    Do("queue_peek", "q", b"", {"limit": 1}),
    Do("queue_peek", "q", b"", {"clip": 1}),
    Do("queue_stats", "q"),
    Do("queue_configure", "q", b"", {"lease": 60_000, "max_attempts": 2}),
    Do("queue_configure", "q", b"", {"lease": 0}),
    Do("queue_pause", "q", True),
    Do("queue_dequeue", "q"),
    Do("queue_pause", "q", False),
    Do("queue_dequeue", "q"),
    Do("queue_touch", "q", [("@seq", 1)], {"lease": 5000}),
    Do("queue_nack", "q", [("@seq", 1)], {"delay": 0}),
    Do("queue_dequeue", "q", b"", {"limit": 10, "lease": 90_000}),
    Do("queue_dequeue", "q", b"", {"block": 5}),
    Do("queue_ack", "q", [("@seq", 2)]),
    Do("queue_ack", "q", [("@seq", 2), (1 << 40, 0)]),
    Do("queue_enqueue", "dead", b"one"),
    Do("queue_dequeue", "dead"),
    Do("queue_nack", "dead", [("@seq", 0)], {"to_dlq": True}),
    Do("queue_dlq_list", "dead"),
    Do("queue_dlq_list", "dead", b"", {"limit": 1}),
    Do("queue_dlq_list", "dead", b"", {"clip": 1}),
    Do("queue_dlq_list", "dead", b"", {"limit": 1, "cursor": "MQ"}),
    Do("queue_dlq_requeue", "dead", ["@seq"]),
    Do("queue_dequeue", "dead"),
    Do("queue_nack", "dead", [("@seq", 0)], {"to_dlq": True}),
    Do("queue_dlq_delete", "dead", ["@seq"]),
    Do("queue_dlq_delete", "dead", ["@seq"]),
    Do("queue_list"),
    Do("queue_list", "", b"", {"limit": 1}),
    Do("queue_list", "", b"", {"limit": 1, "cursor": "@cursor"}),
    Do("queue_purge", "q"),
    Do("queue_delete", "q"),
    Do("queue_stats", "q"),
    # streams
    Do("stream_create", "s", b"", {"max_len": 100, "max_age": 1000, "max_bytes": 10_000}),
    Do("stream_create", "s"),
    Do("stream_append", "s", b"first"),
    Do("stream_append", "s", b"\xff\x00"),
    Do("stream_read", "s", b"", {"limit": 1}),
    Do("stream_read", "s", b"", {"clip": 2}),
    Do("stream_read", "s", b"", {"start": "@id"}),
    Do("stream_read", "s", b"", {"start": "0", "end": "1-5"}),
    Do("stream_read", "s", b"", {"tail": True, "block": 5}),
    Do("stream_read", "s", b"", {"tail": True, "start": "0-0"}),
    Do("stream_info", "s"),
    Do("stream_list", "", b"", {"limit": 1}),
    Do("stream_append", "s-2", b"x"),
    Do("stream_list", "", b"", {"limit": 1}),
    Do("stream_list", "", b"", {"limit": 1, "cursor": "@cursor"}),
    Do("stream_group_create", "s-2", b"", {"group": "g", "start": "@id"}),
    Do("stream_group_create", "s-2", b"", {"group": "h", "tail": True}),
    Do("stream_group_create", "s-2", b"", {"group": "i", "tail": True, "start": "1-1"}),
    Do("stream_trim", "s-2", b"", {"start": "5-0", "max_age": 1000, "max_bytes": 1000}),
    Do("stream_read", "s"),
    Do("stream_group_create", "s", b"", {"group": "g", "ack_timeout": 60_000, "max_deliver": 3}),
    Do("stream_group_create", "s", b"", {"group": "g"}),
    Do("stream_group_read", "s", b"", {"group": "g", "consumer": "c", "limit": 1}),
    Do("stream_group_touch", "s", ["@id"], {"group": "g", "lease": 5000}),
    Do("stream_group_touch", "s", ["@id"], {"group": "g", "consumer": "other"}),
    Do("stream_group_nack", "s", ["@id"], {"group": "g", "consumer": "c", "delay": 0}),
    Do("stream_group_read", "s", b"", {"group": "g", "consumer": "c", "clip": 3}),
    Do("stream_group_pending", "s", b"", {"group": "g"}),
    Do("stream_group_claim", "s", b"", {"group": "g", "consumer": "d", "min_idle": 0, "limit": 1}),
    Do("stream_group_ack", "s", ["@id"], {"group": "g"}),
    Do("stream_group_ack", "s", ["@id"], {"group": "g"}),
    Do("stream_group_ack", "s", ["@id"], {"group": "missing"}),
    Do("stream_group_info", "s", b"", {"group": "g"}),
    Do("stream_group_info", "s", b"", {"group": "missing"}),
    Do("stream_group_read", "s", b"", {"group": "g", "consumer": "c", "no_ack": True, "block": 5}),
    Do("stream_trim", "s", b"", {"max_len": 1, "dry_run": True}),
    Do("stream_trim", "s", b"", {"max_len": 1}),
    Do("stream_trim", "s"),
    Do("stream_group_delete", "s", b"", {"group": "g"}),
    Do("stream_group_delete", "s", b"", {"group": "g"}),
    Do("stream_delete", "s"),
    Do("stream_info", "s"),
    # time series
    Do("ts_write", "cpu", b"1.5", {"timestamp": 1000, "tags": "host=a"}),
    Do("ts_write", "cpu", b"busy=1.5,idle=2", {"timestamp": 2000}),
    Do("ts_write", "cpu", b"x"),
    Do("ts_write_batch", "", b"mem,host=a free=1i 3\nmem,host=b free=2 4", {"precision": 3}),
    Do("ts_write_batch", "", b"mem free=1\nmem"),
    Do("ts_list", "cpu"),
    Do("ts_list", "nothing"),
    Do("ts_list", "", b"", {"limit": 1}),
    Do("ts_list", "", b"", {"limit": 1, "cursor": "@cursor"}),
    Do("ts_read", "cpu", b"", {"from": 0, "to": 5000, "limit": 1, "field": "value", "tags": "host=a"}),
    Do("ts_read", "mem", b"", {"from": 0, "to": 5000}),
    Do("ts_query", "", b"mem[0..5000] | window(1s) | avg()"),
    Do("ts_query", "", b"mem["),
    Do("ts_create_measurement", "kept", b"", {"max_age": 600, "downsample": "1m:avg:30d"}),
    Do("ts_list", "kept"),
    Do("ts_delete", "mem", b"", {"tags": "host=a"}),
    Do("ts_delete", "mem"),
    Do("ts_delete", "mem"),
    # actions, runs, workers
    Do(
        "action_register",
        "job",
        b"",
        {"timeout": 60_000, "retry_delay": 5, "max_attempts": 5, "concurrency": 2, "rate": "100/1000", "labels": '{"r": "eu"}'},
    ),
    Do("action_register", "job", b"", {"labels": '{"r": "eu"}', "rate": "100/1000", "description": "the job"}),
    Do("action_register", "job", b"", {"rate": "0/1"}),
    Do("action_register", "job", b"", {"labels": '{"r": null}'}),
    Do("action_register", "job", b"", {"labels": '{"r": 1e999}'}),
    Do("action_register", "other"),
    Do("action_list", "job"),
    Do("action_list", "missing"),
    Do("action_list", "", b"", {"limit": 1}),
    Do("action_list", "", b"", {"limit": 1, "cursor": "@cursor"}),
    Do("action_list", "", b"", {"cursor": "AAAA"}),
    Do("action_invoke", "missing", b"x"),
    Do("action_invoke", "job", b"first\xff", {"idempotency_key": "i", "unique_key": "u", "concurrency_key": "c", "priority": 3}),
    Do("action_invoke", "job", b"second", {"idempotency_key": "i"}),
    Do("action_invoke", "job", b"second", {"unique_key": "u"}),
    Do("action_invoke", "job", b"second", {"labels": '{"n": 1}', "traceparent": "00-a-b-01", "delay": 0}),
    Do("action_invoke", "job", b"second", {"labels": '{"r": "us"}'}),
    Do("action_invoke", "other", b"late", {"delay": 100_000}),
    Do("action_status", "@run_id"),
    Do("action_cancel", "@run_id"),
    Do("action_cancel", "@run_id"),
    Do("action_cancel", "0"),
    Do("action_input", "@run_id"),
    Do("action_runs", "job", b"", {"limit": 1}),
    Do("action_runs", "job", b"", {"limit": 1, "cursor": "@cursor"}),
    Do("action_runs", "", b"", {"state": "cancelled"}),
    Do("action_runs", "", b"", {"cursor": "AAAA"}),
    Do("action_runs", "missing"),
    Do("action_runs", "job", b"", {"state": "pending", "labels": '{"n": 1}'}),
    Do("action_result", "@run_id"),
    Do("action_result", "@run_id", b"", {"block": 5}),
    Do("action_result", "0"),
    Do("worker_heartbeat", "w"),
    Do("worker_await", "w"),
    Do("worker_register", "w", ["job", "other"], {"labels": '{"r": "eu", "n": 1}', "concurrency": 3}),
    Do("worker_register", "w", []),
    Do("worker_register", "v", ["other"]),
    Do("worker_list", "w"),
    Do("worker_list", "missing"),
    Do("worker_list", "", b"", {"limit": 1}),
    Do("schedule_put", "nightly", b'{"action": "job", "cron": "0 3 * * *", "input": {"base64": "/w=="}, "labels": {"r": "eu"}}'),
    Do("schedule_put", "beat", b'{"action": "job", "every_ms": 3600000, "missed": "skip"}', live=True),
    Do("schedule_put", "none", b'{"action": "none", "every_ms": 3600000}'),
    Do("schedule_put", "wrong", b'{"action": "job", "every_ms": 1}'),
    Do("schedule_list", "nightly"),
    Do("schedule_list", "missing"),
    Do("schedule_list", "", b"", {"limit": 1}),
    Do("schedule_list", "", b"", {"limit": 1, "cursor": "@cursor"}),
    Do("schedule_delete", "beat"),
    Do("schedule_delete", "beat"),
    Do("schedule_delete", "nightly"),
    Do("worker_list", "", b"", {"limit": 1, "cursor": "@cursor"}),
    Do("worker_heartbeat", "w", b"", {"load": 7}),
    Do("worker_await", "w"),
    Do("action_input", "@run_id"),
    Do("action_input", "@run_id", b"", {"clip": 3}),
    Do("action_input", "0"),
    Do("worker_touch", "@run_id", b"", {"worker_id": "w", "lease": 5000, "progress": "half", "attempt": 1}),
    Do("worker_touch", "@run_id", b"", {"worker_id": "v"}),
    Do("action_status", "@run_id"),
    Do("action_status", "0"),
    Do("worker_list", "w"),
    Do("worker_release", "@run_id", b"", {"worker_id": "w", "attempt": 2}),
    Do("worker_release", "@run_id", b"", {"worker_id": "w", "delay": 0, "attempt": 1}),
    Do("worker_await", "w", b"", {"block": 5000}),
    Do("worker_fail", "@run_id", b"no\xff", {"worker_id": "w", "delay": 0, "attempt": 2}),
    Do("worker_fail", "@run_id", b"no\xff", {"worker_id": "w", "delay": 0, "attempt": 2, "retry": True}),
    Do("worker_await", "w"),
    Do("worker_fail", "@run_id", b"for good", {"worker_id": "w"}),
    Do("action_result", "@run_id"),
    Do("action_status", "@run_id"),
    Do("action_retry", "@run_id"),
    Do("action_retry", "@run_id"),
    Do("action_retry", "0"),
    Do("worker_await", "w"),
    Do("worker_complete", "@run_id", b"\x00\xff", {"worker_id": "w", "attempt": 3}),
    Do("worker_complete", "@run_id", b"\x00\xff", {"worker_id": "w", "attempt": 4}),
    Do("worker_complete", "@run_id", b"\x00\xff", {"worker_id": "w", "attempt": 4}),
    Do("action_result", "@run_id"),
    Do("action_cancel", "@run_id"),
    Do("worker_await", "w"),
    Do("action_result", "@run_id"),
    Do("action_cancel", "@run_id"),
    Do("worker_touch", "@run_id", b"", {"worker_id": "w"}),
    Do("action_retry_many", "job", b"", {"state": "completed"}),
    Do("action_retry_many", "missing", b"", {"state": "failed"}),
    Do("action_retry_many", "job", b"", {"state": "cancelled", "labels": '{"n": 2}'}),
    Do("action_retry_many", "job", b"", {"state": "cancelled", "limit": 1}),
    Do("action_retry_many", "job", b"", {"state": "cancelled", "limit": 1, "cursor": "@cursor"}),
    Do("action_pause", "job", True),
    Do("action_pause", "missing", True),
    Do("worker_await", "w"),
    Do("action_pause", "job", False),
    Do("action_delete", "job"),
    Do("action_cancel", "@run_id"),
    Do("action_delete", "job"),
    Do("action_delete", "job"),
    Do("action_delete", "other"),
    Do("worker_drain", "w"),
    Do("worker_drain", "missing"),
    Do("worker_await", "w", b"", {"block": 5000}),
    Do("worker_deregister", "w"),
    Do("worker_deregister", "w"),
    Do("worker_deregister", "v"),
)

# Compared by their types: numbers of records, times, and what depends on them
VARIES = {
    *(
        "version",
        "seq",
        "id",
        "first",
        "last",
        "first_id",
        "last_id",
        "cursor",
        "hash",
        "time",
        "deadline",
        "idle_ms",
        "delivered_at",
        "next",
        "elapsed_ms",
    ),
    "oldest_at",
    "died_at",
    *("run_id", "created_at", "started_at", "finished_at", "ended_at", "lease_until", "not_before", "registered_at", "seen_at"),
}


class Side:
    """One way to call operations, in a namespace of its own."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.known: dict[str, Any] = {"ns": namespace}

    def filled(self, given: Any) -> Any:
        """A value with what this side knows in the places of `@word`."""
        if isinstance(given, str) and given[:1] == "@":
            word, dash, rest = given[1:].partition("-")
            return f"{self.known[word]}-{rest}" if dash else self.known[word]
        if isinstance(given, list):
            return [tuple(map(self.filled, item)) if isinstance(item, tuple) else self.filled(item) for item in given]
        return given

    def learn(self, answer: Any) -> None:
        """Note the version, the seq, the id and the cursor of an answer, or of the first item of its list."""
        if isinstance(answer, dict):
            for name, value in answer.items():
                if isinstance(value, list) and value:
                    self.learn(value[0])
                elif name in ("version", "seq", "id", "cursor", "run_id"):
                    self.known[name] = value


class OverRest(Side):
    """Over HTTP."""

    def __init__(self, namespace: str, port: int) -> None:
        super().__init__(namespace)
        self.rest = Rest(port)

    def call(self, do: Do) -> tuple[Answer, Any]:
        """(the response, the answer as JSON or (body, headers), or the refusal)."""
        row = BY_NAME[do.operation]
        assert row.http is not None
        options = {name: self.filled(value) for name, value in do.options.items()}
        key = self.filled(do.key)
        route = row.http.bare if row.http.bare and not key else row.http.route
        method, _, path = route.partition(" ")
        in_path = f"{{{row.value_parameter}}}" in path
        value = {row.value_parameter: do.value.decode()} if in_path else {}
        for word, text in {"ns": self.namespace, "key": key, **options, **value}.items():
            if f"{{{word}}}" in path:
                path = path.replace(f"{{{word}}}", escaped(text.encode()))
                options.pop(word, None)
        if key and "{key}" not in route:
            options[row.key_parameter] = key
        texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()}
        query = f"?{urlencode(texts)}" if texts else ""
        body = json.dumps(self.body(row, self.filled(do.value))).encode() if row.layout else None if in_path else do.value or None
        media = {"content_type": "application/json"} if row.layout else {}
        response = self.rest.ask(method, f"/api/v1/{path}{query}", body, **media)
        if response.status >= 400:
            return response, (STATUS[response.status], response.sentence)
        layout = shape(row.answer)
        if not layout.names:
            assert response.status == 204 and response.body == b"" and "content-length" not in response.headers
            return response, None
        if layout.kinds[-1] == "rest":
            fields = {name: response.headers.get(f"flo-{name.replace('_', '-')}", "") for name in layout.names[:-1]}
            if "version" in fields:
                fields["version"] = response.headers["etag"].strip('"')
            assert (response.status == 202) == (fields.get("state") in ("pending", "running"))
            answer: Any = fields | {layout.names[-1]: response.body.decode("latin-1")}
        else:
            assert response.headers["content-type"] == "application/json"
            answer = response.json
            if "version" in answer and layout.kinds != ["json"]:
                assert response.headers["etag"] == f'"{answer["version"]}"'
        self.learn(answer)
        return response, answer

    def body(self, row: Operation, value: Any) -> Any:
        """The JSON of a value with a layout."""
        layout = shape(row.value)
        if not layout.is_list:
            return {layout.names[0]: value}
        names = [name for name, _ in layout.columns]
        items = [dict(zip(names, map(in_json, item), strict=True)) if isinstance(item, tuple) else in_json(item) for item in value]
        return {row.value_parameter: items}


class OverBinary(Side):
    """Over the binary protocol."""

    def __init__(self, namespace: str, port: int) -> None:
        super().__init__(namespace)
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.sock.makefile("rb")

    def call(self, do: Do) -> Any:
        """The answer as REST should have it, or the refusal."""
        row = BY_NAME[do.operation]
        options = {name: in_option(row, name, self.filled(value)) for name, value in do.options.items()}
        value = self.filled(do.value)
        if row.layout:
            layout = shape(row.value)
            items = (
                [tuple(map(in_layout, item)) if isinstance(item, tuple) else in_layout(item) for item in value] if layout.is_list else value
            )
            value = layout.encode(items)
        space = 0 if row.plain else namespace_hash(self.namespace)
        self.sock.sendall(encode_request(row, 1, space, self.filled(do.key).encode(), value, options))
        head = self.file.read(24)
        payload = self.file.read(int.from_bytes(head[16:20], "little"))
        status = Status(int.from_bytes(head[4:6], "little"))
        if status is not Status.OK:
            return status, (payload[8:] if status is Status.CONFLICT else payload).decode()
        answer = as_rest(row, payload)
        self.learn(answer)
        return answer


def in_json(value: Any) -> Any:
    """A value in a request's JSON."""
    if not isinstance(value, bytes):
        return value
    return value.decode() if value.isascii() else {"base64": b64encode(value).decode()}


def in_layout(value: Any) -> Any:
    """A value in a layout."""
    if not isinstance(value, str):
        return value
    return to_wire(value) if value[:1].isdigit() and "-" in value else value.encode()


def in_option(row: Operation, name: str, value: Any) -> Any:
    """The value of an option."""
    form = row.options[name].form
    if name == "cursor":
        return value if isinstance(value, bytes) else unpadded(value)
    if form == "id":
        return to_wire(value)
    if form == "rate":
        return tuple(map(int, value.split("/")))
    if name == "state":
        return RUN_STATES.index(value)
    return value.encode() if isinstance(value, str) else value


def unpadded(text: str) -> bytes:
    """The bytes of a cursor."""
    from base64 import urlsafe_b64decode

    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def as_rest(row: Operation, payload: bytes) -> Any:
    """An OK payload as SPEC section 5 has it over REST."""
    layout = shape(row.answer)
    if not layout.names:
        return None
    values = layout.decode(payload)
    if layout.kinds == ["json"]:
        return values[0]
    if layout.kinds[-1] == "rest":
        shown = {name: in_header(name, value) for name, value in zip(layout.names, values[:-1], strict=False)}
        return shown | {layout.names[-1]: values[-1].decode("latin-1")}
    assert row.http is not None
    answer: dict[str, Any] = {}
    for (name, kind, group), value in zip(layout.items, values, strict=True):
        if group is None:
            answer[name] = cell(name, kind, value)
        elif len(group.names) == 1:
            answer[row.http.items] = [cell(group.names[0], group.kinds[0], item) for item in value]
        else:
            answer[row.http.items] = [record(dict(zip(group.names, item, strict=True)), group.kinds) for item in value]
    return answer


def in_header(name: str, value: Any) -> str:
    """A value in a field of the header."""
    return RUN_STATES[value] if name == "state" else value.decode() if isinstance(value, bytes) else str(value)


def record(item: dict[str, Any], kinds: list[str]) -> dict[str, Any]:
    """One item of a list."""
    made = {name: cell(name, kind, item[name]) for name, kind in zip(item, kinds, strict=True)}
    if made.pop("kind", 0):
        flat = fields.unpack_clipped(item["payload"])
        del made["payload"]
        made["fields"] = [[text_of(name), text_of(value)] for name, value in zip(flat[::2], flat[1::2], strict=True)]
    return made


def cell(name: str, kind: str, value: Any) -> Any:
    """One value."""
    if name == "cursor":
        from base64 import urlsafe_b64encode

        return urlsafe_b64encode(value).decode().rstrip("=")
    if kind == "id":
        return str(from_wire(value))
    return value if kind in NUMBERS else text_of(value)


def text_of(value: bytes) -> Any:
    """Bytes in JSON."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def outline(value: Any, name: str = "") -> Any:
    """An answer, with types in the places of the values that vary."""
    if isinstance(value, dict):
        return {each: type(inner).__name__ if each in VARIES else outline(inner, each) for each, inner in value.items()}
    if isinstance(value, list):
        numbers = name == "versions" or (name == "runs" and all(isinstance(item, str) for item in value))
        return [type(item).__name__ if numbers else outline(item) for item in value]
    return plain(value) if isinstance(value, str) else value


def plain(sentence: str) -> str:
    """A refusal without the numbers of records and the namespace's name."""
    return re.sub("over-(rest|binary)", "NAMESPACE", re.sub(r"version \d+", "version N", sentence))


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OverRest, OverBinary]]:
    with FloProcess(tmp_path_factory.mktemp("every") / "data") as server:
        rest, binary = OverRest("over-rest", server.port), OverBinary("over-binary", server.port)
        yield rest, binary
        rest.rest.connection.close()
        binary.file.close()
        binary.sock.close()


def test_rest_agrees_with_the_binary_protocol(sides: tuple[OverRest, OverBinary]) -> None:
    rest, binary = sides
    refused = 0
    for at, do in enumerate(CALLS):
        response, over_rest = rest.call(do)
        over_binary = binary.call(do)
        if isinstance(over_binary, tuple):
            refused += 1
            status, sentence = over_binary
            assert over_rest[0] is status, (at, do, response)
            assert plain(over_rest[1]) == (do.own_words or plain(sentence)), (at, do)
        elif do.live:
            assert over_rest.keys() == over_binary.keys(), (at, do)
        else:
            assert outline(over_rest) == outline(over_binary), (at, do)
        assert response.status in (*statuses_of(BY_NAME[do.operation]), *EVERYWHERE), (at, do, response)
    assert refused > 25


def test_the_table_of_calls_is_complete() -> None:
    """Each operation of the rows is called with success, and with each of its options; one added later fails here."""
    called = {do.operation for do in CALLS}
    assert called == {row.name for row in OPERATIONS} - NO_ROUTE
    assert {row.name for row in OPERATIONS if row.http is None} == NO_ROUTE
    given = {(do.operation, name) for do in CALLS for name in do.options}
    wanted = {(row.name, name) for row in OPERATIONS if row.http is not None for name in row.options}
    assert wanted - given == set()
