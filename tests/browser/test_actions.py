"""The dashboard's page of actions, driven in Chromium and checked at the server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flo import Client
from tests.support.processes import FloProcess

pytestmark = pytest.mark.slow  # a Chromium takes a second or two to start

FAILED = 520  # more than are retried by one request


def fail_runs(client: Client, count: int) -> str:
    """Invoke `send-email` and let its runs fail at the worker `w1`, but the newest, which completes; returns the id of a failed one."""
    client.actions.register("send-email", max_attempts=2, retry_delay=1)
    client.workers.register("w1", ["send-email"], labels='{"region": "eu"}', concurrency=2)
    for number in range(count + 1):
        client.actions.invoke("send-email", '{"to": "ada"}')
        run = client.workers.take("w1")
        assert run is not None
        if number < count:
            client.workers.fail(run.run_id, "no route", worker_id="w1")
            failed = run.run_id
        else:
            client.workers.complete(run.run_id, "sent", worker_id="w1")
    client.actions.register("nightly")
    client.actions.pause("nightly", True)
    client.actions.invoke("nightly", "all")
    return failed


def test_a_person_handles_actions(play: Callable[..., Any], flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        fail_runs(client, FAILED)
        client.actions.register("بريد 📮")
        client.actions.register(b"\xff\xfe")
        client.actions.invoke(b"\xff\xfe", b"\x00\xff")

        assert play("actions", flo) == [
            "flo action input --format raw RUN | flo action invoke $'\\xff\\xfe' -",
            """flo action invoke --priority 3 --labels '{"region": "eu"}' send-email '{"to": "bob"}'""",
            "flo action pause nightly off",
            "flo action register --lease 2500 --max-attempts 3 --retry-delay 1000 --concurrency 1 --rate 10/1000 -- -made",
            "flo action delete -- -made",
            "flo action retry RUN",
            "flo action cancel RUN",
            "flo action retry --action send-email --state failed",
            "flo worker drain w1",
            f"curl -X DELETE http://127.0.0.1:{flo.port}/api/v1/workers/default/w1",
            """flo schedule put report '{"action":"send-email","cron":"0 3 * * *","input":"all"}'""",
            """flo schedule put report '{"action":"send-email","every_ms":90000,"input":"all","missed":"skip"}'""",
            "flo schedule delete report",
        ]
        (schedule,) = client.schedules.list()
        assert (schedule["name"], schedule["cron"], schedule["input"], schedule["missed"]) == ("report", "0 3 * * *", "all", "once")
        assert [client.actions.input(each["run_id"]) for each in client.actions.runs_page(b"\xff\xfe")["runs"]] == [b"\x00\xff"] * 2
        (email,) = client.actions.list_page("send-email")["actions"]
        assert email["runs"] == {"pending": FAILED, "running": 0, "completed": 1, "failed": 0, "cancelled": 1, "timed_out": 0}
        assert client.actions.list_page("nightly")["actions"][0]["paused"] is True
        (bob,) = client.actions.runs_page(state="cancelled")["runs"]
        assert (bob["priority"], bob["labels"], client.actions.input(bob["run_id"])) == (3, {"region": "eu"}, b'{"to": "bob"}')
        assert [each["name"] for each in client.actions.list()][:2] == ["nightly", "send-email"]


def test_a_reader_sees_no_button_that_changes_something(play: Callable[..., Any], tmp_path: Path) -> None:
    flags = []
    for flag in ("secret", "read-secret"):
        path = tmp_path / flag
        path.write_text(f"the {flag}")
        path.chmod(0o600)
        flags += [f"--{flag}-file", str(path)]
    with FloProcess(tmp_path / "data", *flags) as server:
        with Client(f"flo://127.0.0.1:{server.port}", secret="the secret") as client:
            failed = fail_runs(client, 1)
            client.schedules.put("beat", '{"action": "nightly", "every_ms": 1000}')
        buttons = play("actions", server, "reader", "the read-secret", failed)
    assert set(buttons) <= {"Show", "Copy", "Text", "JSON", "Hex", "Download"}
