"""InfluxDB's doors for writing: what is kept, what is said, how the secret comes."""

import gzip
from collections.abc import Iterator
from typing import Any

import pytest

from flo.client import Client
from tests.support.processes import FloProcess
from tests.support.rest import Rest

SECRET = "open sesame"
QUERY = "cpu[0..10000000000000] | sort(time)"


@pytest.fixture(scope="module")
def flo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    directory = tmp_path_factory.mktemp("influx")
    for name, text in (("secret", SECRET), ("reads", "only looking")):
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)
    environment = {"FLO_SECRET_FILE": str(directory / "secret"), "FLO_READ_SECRET_FILE": str(directory / "reads")}
    with FloProcess(directory / "data", environment=environment) as flo:
        yield flo


@pytest.fixture
def client(flo: FloProcess) -> Iterator[Client]:
    with Client(f"flo://:{SECRET}@127.0.0.1:{flo.port}".replace(" ", "%20")) as client:
        yield client
        client.ts.delete("cpu")


@pytest.fixture
def rest(flo: FloProcess) -> Iterator[Rest]:
    with Rest(flo.port) as rest:
        yield rest


def points(client: Client) -> dict[str, Any]:
    return {series["field"]: series["points"] for series in client.ts.query(QUERY)["series"]}


def test_good_lines_are_kept_and_bad_ones_said(rest: Rest, client: Client) -> None:
    body = b'cpu busy=1.5,name="x",big=9007199254740993i 1000\ncpu\ncpu busy=2 2000\ncpu busy=nonsense 3\ncpu name="only" 4\n'
    answer = rest.ask("POST", "/write?db=default&precision=ms", body, authorization=f"Token {SECRET}")
    assert answer.status == 400
    error = answer.json["error"]
    assert error.startswith("partial write: line 2") and "line 4" in error and error.endswith("dropped=2")
    assert answer.headers["x-influxdb-error"].startswith("partial write")
    assert points(client) == {"busy": [[1000, 1.5], [2000, 2.0]]}


@pytest.mark.parametrize(
    ("path", "unit"),
    [("/write?precision=s", 10**9), ("/write?db=default&rp=autogen", 1), ("/api/v2/write?bucket=default/autogen&org=x&precision=us", 1000)],
)
def test_both_doors_and_precisions(rest: Rest, client: Client, path: str, unit: int) -> None:
    answer = rest.ask("POST", path, b"cpu busy=1 %d" % (5 * 10**9 // unit), authorization=f"Bearer {SECRET}")
    assert (answer.status, answer.body) == (204, b"") and answer.headers["x-influxdb-version"].startswith("flo-")
    assert points(client) == {"busy": [[5000, 1.0]]}


def test_many_points_in_gzip(rest: Rest, client: Client) -> None:
    body = gzip.compress(b"\n".join(b"cpu busy=%d %d" % (number, number) for number in range(120_000)))
    answer = rest.ask("POST", "/write?precision=ms", body, authorization=f"Bearer {SECRET}", content_encoding="gzip")
    assert answer.status == 204, answer
    assert client.ts.query("cpu[0..200000] | count()")["series"][0]["points"] == [[0, 120_000.0]]


@pytest.mark.parametrize(
    ("path", "fields", "body", "status", "said"),
    [
        ("/write?db=nowhere", {}, b"cpu busy=1", 404, 'database not found: "nowhere"'),
        ("/write?precision=years", {}, b"cpu busy=1", 400, "invalid precision 'years'"),
        ("/write?colour=red", {}, b"cpu busy=1", 400, "does not take the parameter 'colour'"),
        ("/write", {"content_encoding": "gzip"}, b"cpu busy=1", 400, "no gzip"),
        ("/write", {"content_encoding": "gzip"}, gzip.compress(b"cpu busy=1")[:-9], 400, "ends inside its gzip"),
        ("/write", {"content_encoding": "gzip"}, gzip.compress(b"\n" * (40 << 20)), 413, "when it is inflated"),
        ("/write", {"content_encoding": "br"}, b"x", 415, "gzip and identity"),
    ],
)  # fmt: skip
def test_refusals(rest: Rest, client: Client, path: str, fields: dict[str, str], body: bytes, status: int, said: str) -> None:
    answer = rest.ask("POST", path, body, authorization=f"Bearer {SECRET}", **fields)
    assert answer.status == status and said in answer.json["error"]
    assert points(client) == {}


def test_the_secret(rest: Rest, client: Client) -> None:
    refused = rest.ask("POST", "/write", b"cpu busy=1 1")
    assert refused.status == 401 and refused.headers["www-authenticate"] == 'Basic realm="flo"'
    assert rest.ask("POST", "/write?u=any&p=open+sesame", b"cpu busy=1 1").status == 204
    assert rest.ask("POST", "/write", b"cpu busy=1 1").status == 401, "each request brings its own"
    assert rest.ask("POST", "/write", b"cpu busy=1 1", authorization="Basic eDpvcGVuIHNlc2FtZQ==").status == 204
    assert rest.ask("POST", "/write", b"cpu busy=1 1", authorization="Bearer only looking").status == 403
    assert rest.ask("GET", "/api/v1/stats?p=open+sesame").status == 401, "not elsewhere"
    assert rest.ask("GET", "/ping").status == 204
    rest.connection.close()  # a new one: nobody is known there
    large = b"\n".join(b"cpu busy=%d %d" % (number, number) for number in range(5000))
    assert rest.ask("POST", "/write?p=open%20sesame", large).status == 204


# -- Telegraf --------------------------------------------------------------------------------------

# As its outputs send them (plugins/outputs/influxdb/http.go and influxdb_v2/http.go): the path, the secret, and whether the body's length
# is unknown. Both compress, and sort the parameters.
TELEGRAF = {
    "influxdb": ("/write?consistency=any&db=default", "Basic eDpvcGVuIHNlc2FtZQ==", True),
    "influxdb with a policy": ("/write?db=default&rp=autogen", "Basic eDpvcGVuIHNlc2FtZQ==", True),
    "influxdb_v2": ("/api/v2/write?bucket=default&org=any", f"Token {SECRET}", False),
}
# Of its inputs cpu, disk and system, in one batch: whole numbers, and a line with a string alone.
TELEGRAF_LINES = (
    b"cpu,cpu=cpu-total,host=a usage_idle=97.5,usage_user=2.5 1700000000000000000\n"
    b"disk,device=sda1,fstype=ext4,host=a,mode=rw,path=/ total=52710309888i,free=12345u 1700000000000000000\n"
    b'system,host=a uptime=86400i 1700000000000000000\nsystem,host=a uptime_format="1 day,  0:00" 1700000000000000000\n'
)


@pytest.mark.parametrize("output", TELEGRAF)
def test_telegraf_writes(rest: Rest, client: Client, output: str) -> None:
    path, secret, chunked = TELEGRAF[output]
    body = gzip.compress(TELEGRAF_LINES)
    fields = {
        "User-Agent": "Telegraf/1.36.0 Go/1.25.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Encoding": "gzip",
        "Authorization": secret,
        "Accept-Encoding": "gzip",
    }
    rest.connection.request("POST", path, iter([body[:50], body[50:]]) if chunked else body, fields, encode_chunked=chunked)
    response = rest.connection.getresponse()
    assert (response.status, response.read()) == (204, b"")
    found = client.ts.query("~/./[1700000000000..1700000000000]")["series"]
    assert {(one["name"], one["field"]): one["points"][0][1] for one in found} == {
        ("cpu", "usage_idle"): 97.5,
        ("cpu", "usage_user"): 2.5,
        ("disk", "total"): 52710309888.0,
        ("disk", "free"): 12345.0,
        ("system", "uptime"): 86400.0,
    }
    for name in ("disk", "system"):
        client.ts.delete(name)


def test_telegraf_understands_that_the_database_is_missing(rest: Rest, client: Client) -> None:
    """It creates the database if a JSON object's `error` has these words."""
    answer = rest.ask("POST", "/write?db=telegraf", b"cpu busy=1", authorization=f"Bearer {SECRET}")
    assert answer.status == 404 and "database not found" in answer.json["error"]
    client.namespaces.create("telegraf")
    assert rest.ask("POST", "/write?db=telegraf", b"cpu busy=1", authorization=f"Bearer {SECRET}").status == 204
