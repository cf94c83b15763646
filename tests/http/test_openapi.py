"""The OpenAPI document: valid, complete by the rows, and true: its examples fit its schemas, and are understood."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from flo.commands.http import load_pages
from flo.commands.http.convert import value_of
from flo.commands.http.openapi import ROOT, document
from flo.commands.http.routes import PAGES
from flo.operations import BY_NAME, OPERATIONS
from flo.proto.http import REASONS
from tests.support.processes import ROOT as DIRECTORY
from tests.support.processes import FloProcess
from tests.support.rest import Rest

PATH = "/api/v1/openapi.json"


@pytest.fixture(scope="module")
def shown() -> Any:
    load_pages()
    return json.loads(document(False)[0])


def operations(shown: Any) -> Iterator[tuple[str, str, Any]]:
    """(method, path, Operation Object) of each."""
    for path, methods in shown["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def resolved(shown: Any, value: Any) -> Any:
    """An object, or what it refers to."""
    if "$ref" not in value:
        return value
    for part in value["$ref"].removeprefix("#/").split("/"):
        shown = shown[part]
    return shown


def test_openapi_spec_validator_accepts_it(shown: Any) -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="pip install openapi-spec-validator")
    validator.validate(shown)
    assert shown["openapi"] == "3.1.0"


def test_every_operation_and_page_is_there(shown: Any) -> None:
    routes = {(method, path) for method, path, _ in operations(shown)}
    declared = {route for row in OPERATIONS if row.http is not None for route in row.http[:1] + row.http[2:] if route}
    assert routes == {(route.partition(" ")[0], ROOT + route.partition(" ")[2]) for route in declared} | {
        (page.method, "/" + page.path) for page in PAGES if page.answers is not None
    }
    ids = [operation["operationId"] for *_, operation in operations(shown)]
    assert len(set(ids)) == len(ids)
    assert {row.name for row in OPERATIONS} - set(ids) == {"ping", "auth", "kv_cas"}
    assert {"queue_dlq_delete_one", "queue_dlq_delete_all"} <= set(ids)
    put = shown["paths"][ROOT + "kv/{ns}/keys/{key}"]["put"]
    assert put["operationId"] == "kv_put" and "It is `kv_cas` where cas_version is given." in put["description"]
    tags = {tag for *_, operation in operations(shown) for tag in operation["tags"]}
    assert tags == {"server"} | {row.name.partition("_")[0] for row in OPERATIONS if row.http is not None}


def test_every_option_is_a_parameter(shown: Any) -> None:
    for method, path, operation in operations(shown):
        row = BY_NAME.get(operation["operationId"])
        if row is None:
            continue
        parameters = {each["name"]: each for each in (resolved(shown, each) for each in operation["parameters"]) if each["in"] != "header"}
        assert row.options.keys() <= parameters.keys(), path
        for name in row.required:
            assert parameters[name]["required"], (path, name)
        in_path = {name for name, each in parameters.items() if each["in"] == "path"}
        assert in_path == {part[1:-1] for part in path.split("/") if part[:1] == "{"}
        assert ("requestBody" in operation) == (bool(row.value) and row.value_parameter not in in_path), (method, path)


def test_the_bounds_are_those_of_the_rows(shown: Any) -> None:
    def parameters(path: str, method: str) -> dict[str, Any]:
        found = (resolved(shown, each) for each in shown["paths"][ROOT + path][method]["parameters"])
        return {each["name"]: each["schema"] for each in found}

    scan = parameters("kv/{ns}/keys", "get")
    assert scan["limit"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert scan["keys_only"] == {"type": "boolean"} and "prefix" in scan
    assert parameters("queues/{ns}/{key}/dequeue", "post")["block"] == {"type": "integer", "minimum": 1, "maximum": 60_000}
    assert parameters("queues/{ns}/{key}", "put")["lease"]["minimum"] == 1
    key = parameters("kv/{ns}/keys/{key}", "get")
    assert {"If-None-Match", "Range", "If-Range", "name64"} <= key.keys()
    assert {"If-Match", "If-None-Match"} <= parameters("kv/{ns}/keys/{key}", "put").keys()
    assert "Idempotency-Key" in parameters("queues/{ns}/{key}/messages", "post")
    body = shown["paths"][ROOT + "kv/{ns}/mget"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["keys"]["maxItems"] == 256


def test_the_examples_are_right(shown: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="it comes with openapi-spec-validator")
    count = 0
    for _, path, operation in operations(shown):
        contents = [operation.get("requestBody", {}), *(resolved(shown, each) for each in operation["responses"].values())]
        for holder in contents:
            for media in holder.get("content", {}).values():
                if "example" in media:
                    schema = {**media["schema"], "components": shown["components"]}
                    jsonschema.Draft202012Validator(schema).validate(media["example"])
                    count += 1
        content = operation.get("requestBody", {}).get("content", {})
        row = BY_NAME.get(operation["operationId"])
        if row is not None and row.layout:
            assert value_of(row, json.dumps(content["application/json"]["example"]).encode()), path
    assert count > 50


def test_every_status_has_a_title() -> None:
    load_pages()
    for _, _, operation in operations(json.loads(document(True)[0])):
        assert {int(status) for status in operation["responses"] if status != "default"} <= REASONS.keys()


def test_a_server_with_a_secret_says_so() -> None:
    load_pages()
    with_secret, without = (json.loads(document(has_secret)[0]) for has_secret in (True, False))
    assert (with_secret["security"], without["security"]) == ([{"bearer": []}], [])
    assert with_secret["paths"]["/health"]["get"]["security"] == [] and "security" not in with_secret["paths"][PATH]["get"]


def test_it_is_served_and_kept_by_the_client(shared_flo: FloProcess) -> None:
    with Rest(shared_flo.port) as rest:
        first = rest.ask("GET", PATH)
        assert first.status == 200 and first.headers["content-type"] == "application/json"
        assert first.json["paths"][PATH]["get"]["operationId"] == "openapi"
        tag = first.headers["etag"]
        again = rest.ask("GET", PATH, if_none_match=f'"other", W/{tag}')
        assert (again.status, again.headers["etag"], again.body) == (304, tag, b"")
        assert rest.ask("GET", PATH, if_none_match='"other"').body == first.body
        head = rest.ask("HEAD", PATH)
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(first.body)))


def test_it_is_made_only_when_it_is_asked_for() -> None:
    script = """
import sys
import flo.server
from flo.commands.http import load_pages
load_pages()
import flo.commands.http.session
assert "flo.commands.http.openapi" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=DIRECTORY, check=True)
