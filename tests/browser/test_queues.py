"""The dashboard's page of queues, driven in Chromium and checked at the server."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from flo import Client
from tests.support.processes import FloProcess

pytestmark = pytest.mark.slow  # a Chromium takes a second or two to start

ARABIC = "بريد 📮"
BYTES = b"\xff\xfe"
LINES = "two\r\nlines"


def make_dead(client: Client, queue: str | bytes, payloads: Iterable[str | bytes]) -> list[int]:
    """Enqueue messages and let them die; returns their seqs."""
    seqs = [client.queues.enqueue(queue, payload) for payload in payloads]
    while taken := client.queues.dequeue(queue, 100):
        client.queues.nack(queue, *taken, dead=True)
    return seqs


def test_a_person_handles_queues(play: Callable[..., Any], flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        for payload in (LINES, '{"id": 12345678901234567890}', "plain"):
            client.queues.enqueue("mail", payload)
        client.queues.enqueue(ARABIC, "مرحبا")
        client.queues.enqueue("reports", "monthly")
        make_dead(client, BYTES, [b"\x00\xff"])
        client.queues.pause("reports", True)
        dead = make_dead(client, "billing", (f"invoice {at}" for at in range(2003)))

        assert play("queues", flo) == [
            f"flo queue enqueue --priority 7 mail $'{LINES.encode('unicode_escape').decode()}'".replace("\\r\\n", "\\x0d\\x0a"),
            "flo queue enqueue --delay 1 mail 'by hand'",
            f"flo queue dlq billing --requeue {dead[1]} {dead[2]}",
            f"flo queue dlq billing --delete {dead[102]}",
            'while seqs=$(flo queue dlq billing | cut -d- -f1) && [ "$seqs" ]; do flo queue dlq billing --requeue $seqs; done',
        ]
        billing = client.queues.stats("billing")
        assert (billing["ready"], billing["dead"]) == (2002, 0)
        found = client.queues.peek("mail")
        assert [(each.priority, each.payload) for each in found][-2:] == [(0, b"by hand"), (7, LINES.encode())]
        assert client.queues.stats("mail")["paused"] == 0
        assert "reports" not in [each["name"] for each in client.queues.list()]


def test_a_reader_sees_no_button_that_changes_something(play: Callable[..., Any], tmp_path: Path) -> None:
    flags = []
    for flag in ("secret", "read-secret"):
        path = tmp_path / flag
        path.write_text(f"the {flag}")
        path.chmod(0o600)
        flags += [f"--{flag}-file", str(path)]
    with FloProcess(tmp_path / "data", *flags) as server:
        with Client(f"flo://127.0.0.1:{server.port}", secret="the secret") as client:
            make_dead(client, "mail", ["died"])
        assert play("queues", server, "reader", "the read-secret") == {"buttons": ["Look again"], "boxes": 0}
