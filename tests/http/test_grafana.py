"""What Grafana's InfluxDB data source sends, in its InfluxQL mode, and what its parser reads of the answers.

The requests are written down from Grafana's sources (grafana/grafana: pkg/tsdb/influxdb and public/app/plugins/datasource/influxdb). Panels
ask by GET, or by POST with only `q` in a form, with `db` and `epoch=ms` in the URL; the editor's lists and variables ask with SHOW; the
health check is SHOW MEASUREMENTS. Its parser wants for each result `series` of `name`, `tags` (texts), `columns` and `values`: the first
column `time` as a number of ms, or the rows as a table; numbers, texts or null in the others; and `error` as a text, in a result or above
all.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from flo.client import Client
from tests.support.processes import FloProcess
from tests.support.rest import Rest

FROM, TO = 1_596_240_000_000, 1_596_240_300_000
RANGE = f"time >= {FROM}ms and time <= {TO}ms"
SECRET = "dashboards"


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    directory = tmp_path_factory.mktemp("grafana")
    (directory / "reads").write_text(SECRET)
    (directory / "secret").write_text("all")
    for name in ("reads", "secret"):
        (directory / name).chmod(0o600)
    environment = {"FLO_SECRET_FILE": str(directory / "secret"), "FLO_READ_SECRET_FILE": str(directory / "reads")}
    with FloProcess(directory / "data", environment=environment) as flo:
        with Client(f"flo://:all@127.0.0.1:{flo.port}") as client:
            client.namespaces.create("site")
            lines = [
                f"cpu,hostname=server{number},datacenter=d{number % 2},path=C:\\test value={step + number},load={step / 10} "
                f"{FROM + 5000 * step}"
                for number in (1, 2, 3)
                for step in range(60)
            ]
            lines += [f"logins.count,hostname=server1 value={step} {FROM + 60_000 * step}" for step in range(5)]
            with_namespace = Client(f"flo://:all@127.0.0.1:{flo.port}/site")
            with_namespace.ts.write_batch("\n".join(lines), precision=2)
            with_namespace.close()
        with Rest(flo.port) as rest:
            yield rest


def ask(rest: Rest, text: str, mode: str = "GET") -> list[Any]:
    """The results of a panel's request."""
    given = {"db": "site", "epoch": "ms", **({"q": text} if mode == "GET" else {})}
    body = urlencode({"q": text}).encode() if mode == "POST" else None
    headers = {"authorization": "Basic YW55OmRhc2hib2FyZHM="} | ({"content_type": "application/x-www-form-urlencoded"} if body else {})
    answer = rest.ask(mode, f"/query?{urlencode(given)}", body, **headers)
    assert answer.status == 200 and answer.headers["content-type"] == "application/json", answer
    results: list[Any] = answer.json["results"]
    for result in results:
        assert isinstance(result.get("error", ""), str)
        for series in result.get("series", ()):
            assert isinstance(series.get("name", ""), str) and all(isinstance(each, str) for each in series.get("tags", {}).values())
            assert all(len(row) == len(series["columns"]) for row in series.get("values", ()))
            if series["columns"][0] == "time":
                assert all(isinstance(row[0], int) for row in series["values"])
    return results


def one(rest: Rest, text: str) -> list[Any]:
    """The series of a request with one statement, the same by GET and by POST."""
    results = ask(rest, text)
    assert len(results) == 1 and "error" not in results[0], results
    assert ask(rest, text, "POST") == results
    series: list[Any] = results[0].get("series", [])
    return series


# -- panels ----------------------------------------------------------------------------------------

PANELS = {
    'SELECT mean("value") FROM "policy"."cpu" WHERE {range} GROUP BY time(10s) fill(null)': (1, 31),
    'SELECT mean("value") FROM "cpu" WHERE {range} GROUP BY time(5s) tz(\'UTC\')': (1, 61),
    'SELECT mean("value") FROM "cpu" WHERE {range} GROUP BY time(5s) ORDER BY time ASC limit 1 slimit 1 tz(\'UTC\')': (1, 1),
    'SELECT mean("value") FROM "cpu" WHERE {range} GROUP BY time(1m), "datacenter" ORDER BY time DESC fill(null)': None,
    'SELECT mean("value") FROM "cpu" WHERE ("hostname" = \'server1\' OR "hostname" = \'server2\') AND {range} '
    'GROUP BY time(5s), "datacenter" fill(null)': (2, 61),
    'SELECT mean("value") FROM "cpu" WHERE ("hostname"::tag =~ /^(server1|server2)$/) AND {range} '
    'GROUP BY time(1m), "hostname"::tag fill(none)':
        (2, 5),
    'SELECT mean("value") / 100 FROM "cpu" WHERE {range}': (1, 1),
    'SELECT mean("value") / 5000 AS "share", max("load") * 8 AS "bits" FROM "cpu" WHERE {range} GROUP BY time(200ms) fill(none)': (1, 60),
    'SELECT last("value") FROM /cpu|logins/ WHERE {range} GROUP BY time(1m), * fill(previous)': (4, 6),
    'SELECT non_negative_derivative(mean("value"), 1s) FROM "cpu" WHERE {range} GROUP BY time(30s), "hostname" fill(null)': (3, 9),
    'SELECT difference(last("value")) FROM "cpu" WHERE {range} GROUP BY time(1m) fill(linear)': (1, 4),
    'SELECT percentile("value", 95), count(distinct("value")), spread("value"), stddev("value") FROM "cpu" WHERE {range} '
    'GROUP BY time(1m) fill(0)':
        (1, 6),
    'SELECT "value" FROM "cpu" WHERE ("value" > 10 AND "value" < 20.5 AND "load"::field != -1) AND {range}': (1, 30),
    'SELECT "value", "hostname" FROM "cpu" WHERE {range} LIMIT 1000': (1, 180),
    'SELECT * FROM "cpu" WHERE {range} ORDER BY time DESC LIMIT 3': (1, 3),
    'SELECT "value" AS "世界" FROM "cpu" WHERE "path" = \'C:\\\\test\' AND {range}': (1, 180),
    'SELECT "value" FROM "cpu" WHERE "hostname" = \'sob\' AND "datacenter" = \'d1\' AND {range}': (0, 0),
    'SELECT sum("value") FROM "cpu" WHERE time >= now() - 6h GROUP BY time(1m) fill(null)': (0, 0),
    'SELECT mean("value") FROM "cpu" WHERE time >= 1596240000000ms and time <= 1596240300000ms AND "up" = true GROUP BY time(10s)': (0, 0),
}  # fmt: skip


@pytest.mark.parametrize("text", PANELS)
def test_panels(rest: Rest, text: str) -> None:
    expected = PANELS[text]
    text = text.replace("{range}", RANGE)
    if expected is None:  # the builder never writes this order of clauses, nor does InfluxDB take it
        answer = rest.ask("GET", f"/query?{urlencode({'db': 'site', 'q': text})}", authorization="Bearer dashboards")
        assert answer.status == 400 and answer.json["error"].startswith("error parsing query: found fill")
        return
    series = one(rest, text)
    assert (len(series), len(series[0]["values"]) if series else 0) == expected
    assert all(each["columns"][0] == "time" for each in series)
    assert all(cell is None or isinstance(cell, (int, float, str)) for each in series for row in each["values"] for cell in row)


def test_a_panel_of_several_queries(rest: Rest) -> None:
    results = ask(rest, f'SELECT max("value") FROM "cpu" WHERE {RANGE};SELECT foo("value") FROM "cpu";SHOW MEASUREMENTS')
    assert results[0]["series"] == [{"name": "cpu", "columns": ["time", "max"], "values": [[FROM + 295_000, 62]]}]
    assert results[1:] == [{"statement_id": 1, "error": "undefined function foo()"}, {"statement_id": 2, "error": "not executed"}]


def test_an_error_above_all(rest: Rest) -> None:
    answer = rest.ask("GET", f"/query?{urlencode({'db': 'site', 'q': 'SELECT FROM', 'epoch': 'ms'})}", authorization=f"Token {SECRET}")
    assert answer.status == 400 and answer.json == {
        "error": "error parsing query: found FROM, expected identifier, string, number, bool at line 1, char 8"
    }


# -- health check, editor, variables ---------------------------------------------------------------


def values(rest: Rest, text: str) -> list[Any]:
    series = one(rest, text)
    return series[0]["values"] if series else []


def test_the_health_check_counts_measurements(rest: Rest) -> None:
    assert one(rest, "SHOW measurements") == [{"name": "measurements", "columns": ["name"], "values": [["cpu"], ["logins.count"]]}]
    assert ["site"] in values(rest, "SHOW DATABASES")
    assert one(rest, "SHOW TAG KEYS FROM nothing") == []


EDITOR = {
    "SHOW MEASUREMENTS LIMIT 100": [["cpu"], ["logins.count"]],
    "SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)LOG/ LIMIT 100": [["logins.count"]],
    "SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)abc\\/edf\\// LIMIT 100": [],
    "SHOW MEASUREMENTS WITH MEASUREMENT =~ /(?i)cpu/ WHERE \"datacenter\" = 'd1' LIMIT 100": [["cpu"]],
    "SHOW MEASUREMENTS WHERE \"datacenter\" = 'd1' LIMIT 100": [["cpu"]],
    'SHOW FIELD KEYS FROM "cpu"': [["load", "float"], ["value", "float"]],
    "SHOW FIELD KEYS FROM /cp.*/": [["load", "float"], ["value", "float"]],
    'SHOW TAG KEYS FROM "cpu"': [["datacenter"], ["hostname"], ["path"]],
    "SHOW TAG KEYS FROM /^cpu$/": [["datacenter"], ["hostname"], ["path"]],
    "SHOW TAG KEYS WHERE \"datacenter\" = 'd0'": [["datacenter"], ["hostname"], ["path"]],
    'SHOW TAG VALUES WITH KEY = "datacenter"': [["datacenter", "d0"], ["datacenter", "d1"]],
    'SHOW TAG VALUES FROM "cpu" WITH KEY = "hostname" WHERE "datacenter" = \'d1\'': [["hostname", "server1"], ["hostname", "server3"]],
    'SHOW TAG VALUES FROM "one_week"."cpu" WITH KEY = "hostname" WHERE "datacenter" =~ /d0.*/': [["hostname", "server2"]],
    "SHOW TAG VALUES FROM \"cpu\" WITH KEY = \"path\" WHERE \"path\" = 'C:\\\\test'": [["path", "C:\\test"]],
    "SHOW TAG VALUES FROM \"cpu\" WITH KEY = \"hostname\" WHERE \"path\" = 'lab\\'el'": [],
    f'SHOW TAG VALUES FROM "cpu" WITH KEY = "datacenter" WHERE {RANGE}': [["datacenter", "d0"], ["datacenter", "d1"]],
    "SHOW TAG VALUES WITH KEY IN (\"datacenter\", \"nothing\") WHERE hostname =~ /^(server1)$/": [["datacenter", "d1"]],
    'SHOW RETENTION POLICIES on "site"': [["autogen", "0s", "168h0m0s", 1, True]],
    "SHOW SERIES FROM \"cpu\" WHERE \"hostname\" = 'server1'": [["cpu,datacenter=d1,hostname=server1,path=C:\\test"]],
}  # fmt: skip


@pytest.mark.parametrize("text", EDITOR)
def test_what_the_editor_and_variables_ask(rest: Rest, text: str) -> None:
    assert values(rest, text) == EDITOR[text]
