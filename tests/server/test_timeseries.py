"""Time series at a server: every door, kill -9, slices, refusals that harm nothing."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from flo.client import Client
from flo.errors import BadRequest
from tests.support.processes import FloProcess

START = 1_700_000_000_000


def lines(hosts: int, times: int) -> bytes:
    return b"\n".join(
        b"cpu,host=h%03d,region=%b usage=%.3f,idle=%di %d"
        % (host, b"eu" if host % 2 else b"us", host + time / 8, time, START + time * 1000)
        for time in range(times)
        for host in range(hosts)
    )


def points(answer: Any) -> dict[tuple[str, str], list[list[float]]]:
    return {(series["tags"]["host"], series["field"]): series["points"] for series in answer["series"]}


def test_every_door_and_kill_9(tmp_path: Path) -> None:
    expected = {
        (f"h{host:03}", field): [[START + time * 1000, host + time / 8 if field == "usage" else float(time)] for time in range(50)]
        for host in range(20)
        for field in ("usage", "idle")
    }
    text = f"cpu[{START}..{START + 60_000}]"
    with FloProcess(tmp_path / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as client:
        assert client.timeseries.write_batch(lines(20, 50), precision=2) == 2000
        with flo.connect() as resp:
            assert resp.command("TS.WRITE", "mem free=1") == 1
            assert points(json.loads(resp.command("TS.QUERY", text))) == expected
            refused = str(resp.command("TS.QUERY", "cpu["))
            assert "Line 1, column 5" in refused and "\n" not in refused
        assert points(client.timeseries.query(text)) == expected
        flo.kill()
    with FloProcess(tmp_path / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as client:
        assert points(client.timeseries.query(text)) == expected
        means = client.timeseries.query(text + " | field(usage) | window(10s) | avg()")
        assert points(means)["h003", "usage"] == [[START + at * 10_000, 3 + (at * 10 + 4.5) / 8] for at in range(5)]
        assert client.timeseries.delete("cpu", tags="region=eu") == 20
        assert len(client.timeseries.query(text)["series"]) == 20
        assert [each["name"] for each in client.timeseries.list()] == ["cpu", "mem"]


def test_a_bad_line_writes_nothing(shared_flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{shared_flo.port}") as client:
        good = [b"bad,host=a v=1 %d" % time for time in range(20_000)]
        good[15_000] = b'bad,host=a v="text" 1'
        with pytest.raises(BadRequest, match="line 15001"):
            client.timeseries.write_batch(b"\n".join(good))
        with pytest.raises(BadRequest, match="at most 50,000"):
            client.timeseries.write_batch(b"\n".join(b"bad v=1 %d" % time for time in range(50_001)))
        assert client.timeseries.list_page("bad")["measurements"] == []


def test_many_points(tmp_path: Path) -> None:
    chance = random.Random(1)
    with FloProcess(tmp_path / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as client, flo.connect() as resp:
        for batch in range(5):
            data = b"\n".join(b"gauge v=%.3f %d" % (chance.random(), START + (batch * 40_000 + at) * 1000) for at in range(40_000))
            assert client.timeseries.write_batch(data, precision=2) == 40_000
        resp.command("CONFIG", "RESETSTAT")
        text = f"gauge[{START}..{START + 10**9}]"
        answer = client.timeseries.query(text + " | window(1h) | avg()")
        assert len(answer["series"][0]["points"]) == 56 and answer["scanned"] <= 200_000
        assert client.timeseries.query(text + " | count()")["series"][0]["points"] == [[START, 200_000.0]]
        with pytest.raises(BadRequest, match="more than 100,000 points"):
            client.timeseries.query(text)
        with pytest.raises(BadRequest, match="Windows of 1 ms"):
            client.timeseries.query(text + " | window(1ms) | avg()")
