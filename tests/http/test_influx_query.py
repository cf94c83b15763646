"""`/query` itself: parameters, forms, secrets, what is refused, and what hostile requests cannot do to others."""

import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from flo.client import Client
from tests.support.processes import FloProcess
from tests.support.rest import Answer, Rest

pytestmark = pytest.mark.slow

SECRET, READS = "open sesame", "only looking"
START = 1_700_000_000_000


@pytest.fixture(scope="module")
def flo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    directory = tmp_path_factory.mktemp("query")
    for name, text in (("secret", SECRET), ("reads", READS)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)
    environment = {"FLO_SECRET_FILE": str(directory / "secret"), "FLO_READ_SECRET_FILE": str(directory / "reads")}
    with FloProcess(directory / "data", environment=environment) as flo:
        with Client(f"flo://:{SECRET}@127.0.0.1:{flo.port}".replace(" ", "%20")) as client:
            for at in range(0, 40_000, 20_000):
                numbers = range(at, at + 20_000)
                lines = [f"cpu,host=h{number % 50} usage={number % 97},idle={number % 13} {START + number}" for number in numbers]
                client.ts.write_batch("\n".join(lines), precision=2)
        yield flo


@pytest.fixture
def rest(flo: FloProcess) -> Iterator[Rest]:
    with Rest(flo.port) as rest:
        yield rest


def ask(rest: Rest, text: str, secret: str = SECRET, method: str = "GET", **parameters: str) -> Answer:
    return rest.ask(method, f"/query?{urlencode({'q': text, **parameters})}", authorization=f"Token {secret}")


def result(rest: Rest, text: str, **parameters: str) -> Any:
    answer = ask(rest, text, **parameters)
    assert answer.status == 200, answer
    (found,) = answer.json["results"]
    return found


def test_the_namespace_default_is_the_database_if_none_is_named(rest: Rest) -> None:
    expected = {"statement_id": 0, "series": [{"name": "cpu", "columns": ["time", "count"], "values": [["1970-01-01T00:00:00Z", 40_000]]}]}
    assert result(rest, "SELECT count(usage) FROM cpu") == expected
    assert result(rest, "SELECT count(usage) FROM cpu", db="default", rp="autogen", pretty="true") == expected
    assert result(rest, "SELECT count(usage) FROM default..cpu", db="nowhere") == expected
    answer = ask(rest, "SHOW DATABASES")
    assert answer.headers["content-type"] == "application/json" and answer.headers["x-influxdb-version"].startswith("flo-")


def test_forms(rest: Rest) -> None:
    def post(path: str, body: bytes, media: str = "application/x-www-form-urlencoded") -> Answer:
        return rest.ask("POST", path, body, authorization=f"Bearer {SECRET}", content_type=media)

    expected = ask(rest, "SELECT max(idle) FROM cpu", epoch="s").json
    assert post("/query", b"q=SELECT+max%28idle%29+FROM+cpu&epoch=s").json == expected
    assert post("/query?epoch=s", b"q=SELECT max(idle) FROM cpu", "application/x-www-form-urlencoded; charset=utf-8").json == expected
    assert post("/query?epoch=s&q=SELECT+max(idle)+FROM+cpu", b"").json == expected
    assert post("/query", b"q=SELECT max(idle) FROM cpu", "text/plain").json == {"error": 'missing required parameter "q"'}


def test_secrets(rest: Rest) -> None:
    assert rest.ask("GET", "/query?q=SHOW+DATABASES").status == 401
    assert rest.ask("GET", "/query?q=SHOW+DATABASES&u=any&p=open+sesame").status == 200
    assert ask(rest, "SHOW DATABASES", READS).status == 200
    assert ask(rest, "CREATE DATABASE a", READS, "POST").status == 403
    assert ask(rest, "SHOW DATABASES; CREATE DATABASE a", READS).status == 403
    assert ["a"] not in result(rest, "SHOW DATABASES")["series"][0]["values"]


def test_databases_are_made_by_post_only(rest: Rest) -> None:
    answer = ask(rest, "CREATE DATABASE made")
    assert answer.status == 400 and answer.json == {"error": "CREATE DATABASE changes the server: send it by POST"}
    assert ask(rest, "SHOW MEASUREMENTS", db="made").json["results"][0]["error"] == "database not found: made"
    for _ in range(2):
        assert ask(rest, 'CREATE DATABASE "made"', method="POST").json == {"results": [{"statement_id": 0}]}
    assert ask(rest, "SHOW MEASUREMENTS", db="made").json == {"results": [{"statement_id": 0}]}
    refused = ask(rest, 'CREATE DATABASE "a/b"', method="POST").json["results"][0]
    assert "name" in refused["error"]


HOSTILE = {
    "SELECT": "found EOF",
    "DROP DATABASE a": "found DROP, expected SELECT, SHOW, CREATE",
    "SELECT mean(usage) FROM cpu WHERE " + "(" * 5000: "too many parentheses",
    "SELECT " + "-" * 5000 + "usage FROM cpu": "too many parentheses",
    "SELECT usage FROM cpu WHERE " + " OR ".join(["host = 'a'"] * 300): "too many operators",
    "SELECT " + ", ".join(["usage"] * 1001) + " FROM cpu": "too many items",
    ";".join(["SHOW DATABASES"] * 101): "too many statements",
    "SELECT usage FROM /" + "(a{100}){100}{100}" + "/": "regular expression",
    "SELECT usage FROM cpu WHERE host =~ /(/": "regular expression",
    "SELECT usage FROM cpu WHERE host =~ /a": "without its closing /",
    "SELECT usage FROM cpu WHERE host = 'a": "without its closing '",
    "SELECT usage FROM cpu WHERE time > 99999999999999999999w": "too large",
    "SELECT " + "x" * (300 << 10): "characters",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:30])
def test_malformed_queries_are_refused_in_influxdbs_form(rest: Rest, text: str) -> None:
    answer = rest.ask(
        "POST", "/query", urlencode({"q": text}).encode(), authorization=f"Token {SECRET}", content_type="application/x-www-form-urlencoded"
    )
    assert answer.status == 400 and list(answer.json) == ["error"], answer.status
    assert answer.json["error"].startswith("error parsing query: ") and HOSTILE[text] in answer.json["error"]
    assert answer.headers["x-influxdb-error"]


def test_a_hundred_statements_share_the_limits(rest: Rest) -> None:
    results = ask(rest, ";".join(["SELECT usage FROM cpu"] * 100)).json["results"]
    assert ["series" in each for each in results[:3]] == [True, True, False], "40,000 values each, of 100,000"
    assert "more than 100,000" in results[2]["error"] and results[99] == {"statement_id": 99, "error": "not executed"}


def test_windows_of_a_millisecond_over_ten_years(rest: Rest) -> None:
    text = f"SELECT mean(usage) FROM cpu WHERE time > {START}ms - 3650d AND time < {START}ms GROUP BY time(1ms)"
    assert "cut this range into 315,359,999,999" in result(rest, text)["error"]


def test_others_are_served_while_a_long_query_runs(flo: FloProcess) -> None:
    """The long one is alone on its connection; pings on another are answered meanwhile, in the middle of its work."""
    text = ";".join(["SELECT count(distinct(usage)) FROM cpu WHERE usage + idle > 3 AND idle != 2 GROUP BY host"] * 30)
    done = threading.Event()
    answers: list[Answer] = []

    def run() -> None:
        with Rest(flo.port) as rest:
            answers.append(ask(rest, text))
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    pings = 0
    with Rest(flo.port) as rest:
        while not done.is_set():
            assert rest.ask("GET", "/ping").status == 204
            pings += 1
    thread.join()
    assert all(len(each["series"]) == 50 for each in answers[0].json["results"])
    assert pings > 20, "its slices are a few ms each"


def test_what_flo_does_not_have_is_refused_by_its_name(rest: Rest) -> None:
    for name in ("mode", "integral", "moving_average", "cumulative_sum", "elapsed", "top", "abs"):
        assert result(rest, f"SELECT {name}(usage) FROM cpu")["error"] == f"the function {name}() is not supported by Flo"
    assert result(rest, "SELECT distinct(usage) FROM cpu")["error"] == "the function distinct() is not supported by Flo"
    assert "mixing a selector" in result(rest, "SELECT last(usage), host FROM cpu")["error"]
    answer = ask(rest, "SELECT usage FROM cpu tz('Europe/Paris')")
    assert answer.status == 400 and "expected 'UTC'" in answer.json["error"]
    answer = ask(rest, "SELECT mean(usage) FROM (SELECT usage FROM cpu)")
    assert answer.status == 400 and "expected identifier" in answer.json["error"]
