"""Time series at a server: every door, kill -9, slices, refusals that harm nothing."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flo.client import Client
from flo.errors import BadRequest
from tests.support.processes import FloProcess, RespClient
from tests.support.rest import Rest

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
        assert client.ts.write_batch(lines(20, 50), precision=2) == 2000
        with flo.connect() as resp:
            assert resp.command("TS.WRITE", "mem free=1") == 1
            assert points(json.loads(resp.command("TS.QUERY", text))) == expected
            refused = str(resp.command("TS.QUERY", "cpu["))
            assert "Line 1, column 5" in refused and "\n" not in refused
        assert points(client.ts.query(text)) == expected
        flo.kill()
    with FloProcess(tmp_path / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as client:
        assert points(client.ts.query(text)) == expected
        means = client.ts.query(text + " | field(usage) | window(10s) | avg()")
        assert points(means)["h003", "usage"] == [[START + at * 10_000, 3 + (at * 10 + 4.5) / 8] for at in range(5)]
        assert client.ts.delete("cpu", tags="region=eu") == 20
        assert len(client.ts.query(text)["series"]) == 20
        assert [each["name"] for each in client.ts.list()] == ["cpu", "mem"]


def test_a_bad_line_writes_nothing(shared_flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{shared_flo.port}") as client:
        good = [b"bad,host=a v=1 %d" % time for time in range(20_000)]
        good[15_000] = b'bad,host=a v="text" 1'
        with pytest.raises(BadRequest, match="line 15001"):
            client.ts.write_batch(b"\n".join(good))
        with pytest.raises(BadRequest, match="at most 50,000"):
            client.ts.write_batch(b"\n".join(b"bad v=1 %d" % time for time in range(50_001)))
        assert client.ts.list_page("bad")["measurements"] == []


def test_many_points(tmp_path: Path) -> None:
    chance = random.Random(1)
    with FloProcess(tmp_path / "data") as flo, Client(f"flo://127.0.0.1:{flo.port}") as client, flo.connect() as resp:
        for batch in range(5):
            data = b"\n".join(b"gauge v=%.3f %d" % (chance.random(), START + (batch * 40_000 + at) * 1000) for at in range(40_000))
            assert client.ts.write_batch(data, precision=2) == 40_000
        resp.command("CONFIG", "RESETSTAT")
        text = f"gauge[{START}..{START + 10**9}]"
        answer = client.ts.query(text + " | window(1h) | avg()")
        assert len(answer["series"][0]["points"]) == 56 and answer["scanned"] <= 200_000
        assert client.ts.query(text + " | count()")["series"][0]["points"] == [[START, 200_000.0]]
        with pytest.raises(BadRequest, match="more than 100,000 points"):
            client.ts.query(text)
        with pytest.raises(BadRequest, match="Windows of 1 ms"):
            client.ts.query(text + " | window(1ms) | avg()")


REFUSED_QUERIES = {
    "": "expected",
    "cpu[": "Line 1, column 5",
    "cpu[1h": "expected",
    "cpu | what()": "what",
    "cpu | avg(": "expected",
    "cpu[1h] | window(5m)": "window",
    'cpu{host=~"("}': "column",
    'cpu{host=~"' + "a{1000}" * 50 + '"}': "regular expression",
    "cpu[3650d] | window(1ms) | avg()": "Windows of 1 ms",
    f"cpu[{START}..{START - 1}]": "expected",
    "cpu | math(" + "(" * 5000 + "1" + ")" * 5000 + ")": "column",
    "x" * 100_000: "character",
}
REFUSED_LINES = {
    b"cpu": "line 1",
    b"cpu v=": "line 1",
    b"cpu v=1 x": "line 1",
    b"cpu v=1 99999999999999999999": "line 1",
    b"cpu,host v=1": "line 1",
    b"cpu,host=a,host=b v=1": "twice",
    b"cpu,host= v=1": "line 1",
    b"cpu v=nan": "line 1",
    b"cpu v=1\n\x00": "line 2",
    b"cpu \xff=1": "UTF-8",
    b"m" * 70_000 + b" v=1": "65000",
    b"m" * 40_000 + b" v=1": "32000",
    b"cpu,t=" + b"v" * 70_000 + b" v=1": "bytes",
}


@pytest.fixture
def doors(shared_flo: FloProcess) -> Iterator[tuple[Client, RespClient, Rest]]:
    """Every way to a server, which is whole afterwards."""
    with Client(f"flo://127.0.0.1:{shared_flo.port}") as client, shared_flo.connect() as resp, Rest(shared_flo.port) as rest:
        yield client, resp, rest
        client.ts.delete("cpu")  # good lines, which InfluxDB's doors keep
        assert resp.command("PING") == b"PONG" and not list(client.ts.list())
    assert "Traceback" not in shared_flo.output()


def one_sentence(said: str) -> str:
    """What a person is told: not much more than a line or a caret, however long the request was."""
    assert 10 < len(said) < 2000, said
    return said


@pytest.mark.parametrize("text", REFUSED_QUERIES, ids=range(len(REFUSED_QUERIES)))
def test_malformed_queries_are_refused_at_every_door(doors: tuple[Client, RespClient, Rest], text: str) -> None:
    client, resp, rest = doors
    with pytest.raises(BadRequest) as refused:
        client.ts.query(text)
    sentences = [str(refused.value), str(resp.command("TS.QUERY", text))]
    answer = rest.ask("POST", "/api/v1/timeseries/default/query", text.encode())
    assert answer.status == 400
    sentences.append(answer.json["error"])
    for said in map(one_sentence, sentences):
        assert REFUSED_QUERIES[text].lower() in said.lower(), said


@pytest.mark.parametrize("lines", REFUSED_LINES, ids=range(len(REFUSED_LINES)))
def test_malformed_lines_are_refused_at_every_door(doors: tuple[Client, RespClient, Rest], lines: bytes) -> None:
    client, resp, rest = doors
    with pytest.raises(BadRequest) as refused:
        client.ts.write_batch(lines)
    sentences = [str(refused.value), str(resp.command("TS.WRITE", lines))]
    for path in ("/api/v1/timeseries/default/write", "/write?db=default", "/api/v2/write?bucket=default&org=o"):
        assert not list(client.ts.list()) or "/v2/" in path
        answer = rest.ask("POST", path, lines)
        assert answer.status == 400, path
        sentences.append(answer.body.decode())
    for said in map(one_sentence, sentences):
        assert REFUSED_LINES[lines] in said, said


def test_too_many_series_are_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A tag with a value of its own for each request; with a bound that a test can reach."""
    program = "import sys; from flo.engine import timeseries; timeseries.SERIES_MAX = 1000; from flo.cli import main; sys.exit(main())"
    with FloProcess(tmp_path / "data", program=("-c", program)) as flo, Client(f"flo://127.0.0.1:{flo.port}") as client:
        series, refused = client.ts, 0
        for batch in range(20):
            try:
                series.write_batch(b"\n".join(b"cpu,request=%d v=1" % number for number in range(batch * 70, batch * 70 + 70)))
            except BadRequest as e:
                refused += 1
                assert "70 new series would be more than 1,000" in str(e) and "ts_list" in str(e)
        assert refused == 6
        (found,) = series.list_page("cpu")["measurements"]
        assert found["series"] == 980 and found["tags"] == [{"name": "request", "values": 980}], "it tells which tag"
        assert series.write("cpu", "v=2", tags="request=1") == 1, "series that are there take points"
        assert series.delete("cpu") == 980
        assert series.write_batch(b"cpu,request=new v=1") == 1
