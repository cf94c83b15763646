"""The dashboard's page of time series, driven in Chromium and checked at the server."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flo import Client
from tests.support.processes import FloProcess

pytestmark = pytest.mark.slow  # a Chromium takes a second or two to start

MS = 2  # the option `precision`


def hour() -> str:
    """Lines of four hosts in two zones, a minute apart for an hour."""
    now = time.time_ns() // 1_000_000
    return "\n".join(
        f"cpu,host=web-{host},zone={'us' if host % 2 else 'eu'} usage={20 + host + at % 7},idle={60 - host} {now - 1000 - at * 60_000}"
        for at in range(60)
        for host in range(4)
    )


def fill(client: Client) -> None:
    """Three measurements: of one point, of an hour, and of 1,200 series."""
    client.ts.write("room, north", "celsius=21.5", tags="a\\=b=Zürich\\ 🌡")
    client.ts.write_batch(hour(), precision=MS)
    client.ts.write_batch("\n".join(f"wide,user=u{at} ms={at}" for at in range(1200)))


def test_a_person_writes_a_point_and_many_lines(play: Callable[..., Any], flo: FloProcess) -> None:
    assert play("timeseries", flo, "write", hour()) == [
        "flo ts write --tags 'a\\=b=Zürich\\ 🌡' 'room, north' celsius=21.5,humidity=40i",
        "flo ts write --file points.txt --precision ms",
    ]
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        (series,) = client.ts.query('"room, north"[1h] | field(humidity)')["series"]
        assert (series["tags"], series["points"][0][1]) == ({"a=b": "Zürich 🌡"}, 40)
        counted = client.ts.query("cpu[2h] | group_by() | count()")["series"]
        assert [each["points"][0][1] for each in counted] == [240, 240]


def test_a_person_asks_a_query(play: Callable[..., Any], flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        fill(client)
        play("timeseries", flo, "query")


def test_a_person_handles_measurements(play: Callable[..., Any], flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        fill(client)
        assert play("timeseries", flo, "measurements") == [
            "flo ts retention --downsample 1m:avg:30d,1h:max:0 cpu none",
            "flo ts retention cpu 30d",
            "flo ts delete --tags zone=us cpu",
            "flo ts delete cpu",
        ]
        names = [each["name"] for each in client.ts.list()]
        assert "cpu" not in names and {"room, north", "wide"} <= set(names)


def test_a_reader_sees_no_button_that_changes_something(play: Callable[..., Any], tmp_path: Path) -> None:
    flags = []
    for flag in ("secret", "read-secret"):
        path = tmp_path / flag
        path.write_text(f"the {flag}")
        path.chmod(0o600)
        flags += [f"--{flag}-file", str(path)]
    with FloProcess(tmp_path / "data", *flags) as server:
        with Client(f"flo://127.0.0.1:{server.port}", secret="the secret") as client:
            client.ts.write("cpu", "usage=12.5", tags="host=web-1")
        buttons = play("timeseries", server, "reader", "the read-secret")
        assert set(buttons) == {"Copy as CSV", "Copy as JSON", "Download CSV", "Another tag", "Another field", "Copy"}
