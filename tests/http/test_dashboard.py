"""The dashboard's files over HTTP: what a browser is told of them, and what they may not do."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flo.commands.http.dashboard import MADE
from flo.floql.query import STAGES
from flo.operations import OPERATIONS
from tests.support.processes import ROOT, FloProcess
from tests.support.rest import Rest

WEB = ROOT / "flo" / "web"
IMPORTED = r"""(?:from|import\()\s*"\./([\w.]+)\""""
SECRET = "open sesame"


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    directory = tmp_path_factory.mktemp("dashboard")
    secret = directory / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with FloProcess(directory / "data", environment={"FLO_SECRET_FILE": str(secret)}) as flo:
        yield Rest(flo.port)


def test_the_ways_to_it(rest: Rest) -> None:
    for path in ("/", "/dashboard"):
        answer = rest.ask("GET", path)
        assert (answer.status, answer.headers["location"]) == (302, "/dashboard/")


def test_each_file_is_served_without_the_secret(rest: Rest) -> None:
    for path in [each for each in WEB.iterdir() if each.suffix != ".md"]:
        answer = rest.ask("GET", f"/dashboard/{'' if path.name == 'index.html' else path.name}")
        assert answer.status == 200 and answer.body == path.read_bytes()
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy and "default-src 'none'" in policy and "script-src 'self'" in policy
        assert answer.headers["cache-control"] == "no-cache"
        assert rest.ask("GET", "/dashboard/" + path.name, sec_fetch_site="cross-site").status == 200, "links to it work"
        assert rest.ask("GET", "/dashboard/" + path.name, origin="http://evil.example").status == 403


def test_a_copy_that_is_still_right_is_not_sent_again(rest: Rest) -> None:
    plain = rest.ask("GET", "/dashboard/flo.js")
    packed = rest.ask("GET", "/dashboard/flo.js", accept_encoding="br, gzip")
    assert gzip.decompress(packed.body) == plain.body and packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "Accept-Encoding" and packed.headers["etag"] != plain.headers["etag"]
    again = rest.ask("GET", "/dashboard/flo.js", if_none_match=plain.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert rest.ask("GET", "/dashboard/flo.js", if_none_match=packed.headers["etag"]).status == 200


def test_nothing_else_is_there(rest: Rest) -> None:
    for path in (
        "nothing.js",
        "README.md",
        "..%2f..%2fclient.py",
        "%2e%2e/client.py",
        "flo.js/",
        "style.css%00",
        "x/flo.js",
        "a" * 300 + ".js",
    ):
        assert rest.ask("GET", "/dashboard/" + path).status == 404, path
    assert rest.ask("POST", "/dashboard/flo.js", b"x").status == 405


def test_the_table_of_operations_is_a_module(rest: Rest) -> None:
    body = rest.ask("GET", "/dashboard/operations.js").body.decode()
    found = re.fullmatch(r"export default (\{.*\});\n", body)
    assert found is not None
    table = json.loads(found[1])
    assert table.keys() == {row.name for row in OPERATIONS}
    assert table["kv_put"]["options"]["ttl"] == [1, "u64"] and table["queue_ack"]["layout"] is True


def test_the_stages_of_floql_are_a_module(rest: Rest) -> None:
    body = rest.ask("GET", "/dashboard/stages.js").body.decode()
    found = re.fullmatch(r"export default (\{.*\});\n", body)
    assert found is not None
    table = json.loads(found[1])
    assert list(table) == list(STAGES)
    assert table["percentile"]["arguments"] == [["PERCENT", "a number from 0 to 100"], ["WINDOW", "a window such as 5m, or nothing"]]
    assert all(stage["summary"].endswith(".") for stage in table.values())


def needed(name: str, pattern: str, found: dict[str, int]) -> dict[str, int]:
    """The sizes of a module and of all that it imports, as they go over the network."""
    data = MADE[name]().packed if name in MADE else gzip.compress((WEB / name).read_bytes())
    found[name] = len(data)
    for each in re.findall(pattern, "" if name in MADE else (WEB / name).read_text()):
        if each not in found:
            needed(each, IMPORTED, found)
    return found


@pytest.mark.parametrize("page", sorted(path.name for path in WEB.glob("page_*.js")))
def test_a_page_is_small(page: str) -> None:
    frame = {name: len(gzip.compress((WEB / name).read_bytes())) for name in ("index.html", "style.css", "icon.svg")}
    found = needed(page, IMPORTED, needed("app.js", r"""from\s*"\./([\w.]+)\"""", frame))  # the frame imports each page when it is opened
    assert "operations.js" in found
    assert sum(found.values()) < 150_000, found


def test_nothing_is_asked_of_another_server() -> None:
    for path in WEB.glob("*.[hjc]*"):
        for address in re.findall(r"""(?:https?:)?//[\w.-]+\.\w+[^\s"'`)]*""", path.read_text()):
            assert address.startswith(("http://www.w3.org/", "//localhost")), f"{address} in {path.name}"


def test_every_module_that_is_imported_is_there(rest: Rest) -> None:
    for path in WEB.glob("*.js"):
        for name in re.findall(IMPORTED, path.read_text()):
            assert name in ("operations.js", "stages.js", "imports.js") or (WEB / name).exists(), f"{path.name} imports {name}"


def test_in_one_file(tmp_path: Path) -> None:
    from zipfile import ZipFile

    from contrib.build_pyz import build

    build(tmp_path / "flo.pyz")
    names = ZipFile(tmp_path / "flo.pyz").namelist()
    assert {f"flo/web/{path.name}" for path in WEB.iterdir() if path.suffix != ".md"} <= set(names)
