"""PyPI's clients of InfluxDB, unmodified: `influxdb` (version 1) writes and asks, `influxdb-client` (version 2) writes."""

from collections.abc import Iterator
from typing import Any

import pytest
from influxdb import InfluxDBClient
from influxdb.exceptions import InfluxDBClientError
from influxdb_client.client.influxdb_client import InfluxDBClient as Client2
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from tests.support.processes import FloProcess

SECRET = "open sesame"
START = 1_700_000_000
POINTS = [
    {"measurement": "cpu", "tags": {"host": host}, "time": (START + 10 * number) * 10**9, "fields": {"usage": number + offset, "up": True}}
    for host, offset in (("a", 0.5), ("b", 100.25))
    for number in range(60)
]


@pytest.fixture(scope="module")
def flo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    directory = tmp_path_factory.mktemp("clients")
    for name, text in (("secret", SECRET), ("reads", "only looking")):
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)
    environment = {"FLO_SECRET_FILE": str(directory / "secret"), "FLO_READ_SECRET_FILE": str(directory / "reads")}
    with FloProcess(directory / "data", environment=environment) as flo:
        yield flo


@pytest.fixture
def client(flo: FloProcess) -> Iterator[InfluxDBClient]:
    client = InfluxDBClient("127.0.0.1", flo.port, "any", SECRET, "metrics")
    client.create_database("metrics")
    yield client
    client.close()


def test_version_1_writes_and_lists(client: InfluxDBClient) -> None:
    assert client.ping().startswith("flo-")
    client.create_database("metrics")  # a second time is no error
    assert {"name": "metrics"} in client.get_list_database() and {"name": "default"} in client.get_list_database()
    assert client.write_points(POINTS, batch_size=50)
    assert client.write_points([{"measurement": "mem", "tags": {"host": "a"}, "fields": {"free": 3}}], time_precision="s")
    assert client.write(["disk,host=c used=1.5 1700000000"], params={"db": "metrics", "precision": "s"}, protocol="line")
    assert client.get_list_measurements() == [{"name": "cpu"}, {"name": "disk"}, {"name": "mem"}]
    assert client.get_list_series() == ["cpu,host=a", "cpu,host=b", "disk,host=c", "mem,host=a"]
    assert client.get_list_series(measurement="cpu", tags={"host": "b"}) == ["cpu,host=b"]
    assert client.get_list_retention_policies()[0]["name"] == "autogen"
    assert list(client.get_list_users()) == []


def test_version_1_asks(client: InfluxDBClient) -> None:
    client.write_points(POINTS)
    last = client.query("SELECT last(usage) AS usage FROM cpu GROUP BY host")
    assert {tags["host"]: [point["usage"] for point in points] for (_, tags), points in last.items()} == {"a": [59.5], "b": [159.25]}
    means = client.query(
        f"SELECT mean(usage) FROM cpu WHERE host = 'a' AND time >= {START}s AND time < {START + 120}s GROUP BY time(1m)", epoch="s"
    )
    assert list(means.get_points("cpu")) == [
        {"time": START - 20, "mean": 2}, {"time": START + 40, "mean": 7}, {"time": START + 100, "mean": 11},
    ]  # fmt: skip
    chunks = [list(chunk.get_points()) for chunk in client.query("SELECT usage FROM cpu", chunked=True, chunk_size=50)]
    assert [len(chunk) for chunk in chunks] == [50, 50, 20]
    two = client.query("SELECT count(usage) FROM cpu; SHOW FIELD KEYS FROM cpu")
    assert [list(each.get_points()) for each in two] == [
        [{"time": "1970-01-01T00:00:00Z", "count": 120}],
        [{"fieldKey": "up", "fieldType": "float"}, {"fieldKey": "usage", "fieldType": "float"}],
    ]
    assert len(list(client.query("SELECT usage FROM cpu WHERE up = true").get_points())) == 120
    assert not list(client.query("SELECT usage FROM cpu WHERE up = false").get_points())
    posted = client.query("SHOW MEASUREMENTS", method="POST")
    assert {"name": "cpu"} in posted.get_points()


def test_version_1_gets_refusals(client: InfluxDBClient, flo: FloProcess) -> None:
    with pytest.raises(InfluxDBClientError, match=r"undefined function foo\(\)"):
        client.query("SELECT foo(usage) FROM cpu")
    with pytest.raises(InfluxDBClientError, match="error parsing query: found SELEC, expected SELECT, SHOW, CREATE"):
        client.query("SELEC")
    with pytest.raises(InfluxDBClientError, match="database not found: nowhere"):
        client.query("SELECT usage FROM cpu", database="nowhere")
    with pytest.raises(InfluxDBClientError, match="CREATE DATABASE changes the server"):
        client.query("CREATE DATABASE another")
    for secret, refused in (("wrong", "the secret is wrong"), ("only looking", "does not only read")):
        other = InfluxDBClient("127.0.0.1", flo.port, "any", secret, "metrics")
        with pytest.raises(InfluxDBClientError, match=refused):
            other.create_database("another")
        other.close()


def test_a_secret_that_only_reads_may_ask(client: InfluxDBClient, flo: FloProcess) -> None:
    client.write_points(POINTS)
    reader = InfluxDBClient("127.0.0.1", flo.port, "any", "only looking", "metrics")
    assert next(reader.query("SELECT count(usage) FROM cpu").get_points())["count"] == 120
    assert {"name": "metrics"} in reader.get_list_database()
    reader.close()


def test_version_2_writes(client: InfluxDBClient, flo: FloProcess) -> None:
    url = f"http://127.0.0.1:{flo.port}"
    with Client2(url, SECRET, org="any") as second, second.write_api(write_options=SYNCHRONOUS) as writer:
        assert second.ping() and second.version().startswith("flo-")
        with pytest.warns(DeprecationWarning):
            health = second.health()
        assert (health.status, health.message) == ("pass", "ready for queries and writes")
        point: Any = Point("power")  # type: ignore[no-untyped-call]  # the package has no types there
        point.tag("meter", "m 1").field("watts", 7.5).field("on", True).time(START * 10**9)
        writer.write("metrics", record=[point, "power,meter=m2 watts=8 1700000001000000000"])
        writer.write("metrics/autogen", record={"measurement": "power", "tags": {}, "fields": {"watts": 1}, "time": START * 10**9})
        rows = list(client.query("SELECT * FROM power", epoch="s").get_points())
        assert sorted(rows, key=str) == [
            {"time": START, "meter": "m 1", "on": 1, "watts": 7.5}, {"time": START, "meter": None, "on": None, "watts": 1},
            {"time": START + 1, "meter": "m2", "on": None, "watts": 8},
        ]  # fmt: skip
        with pytest.raises(ApiException, match="database not found"):
            writer.write("nowhere", record="power watts=1")


def test_version_2_writes_in_the_background_with_gzip(client: InfluxDBClient, flo: FloProcess) -> None:
    with Client2(f"http://127.0.0.1:{flo.port}", SECRET, org="any", enable_gzip=True) as second:
        with second.write_api() as writer:
            writer.write("metrics", record=[f"many,n={number % 7} v={number} {START + number}000000000" for number in range(5000)])
        assert next(client.query("SELECT count(v), sum(v) FROM many").get_points())["sum"] == 4999 * 2500
