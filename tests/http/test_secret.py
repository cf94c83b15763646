"""A server with a secret: no route but the open pages answers without it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import FloProcess
from tests.support.rest import Rest, curl

SECRET = "correct horse"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    directory: Path = tmp_path_factory.mktemp("secured")
    secret = directory / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with FloProcess(directory / "data", "--secret-file", str(secret)) as server:
        yield server


def test_every_route_needs_the_secret_that_says_so(secured: FloProcess) -> None:
    """The routes are those of the OpenAPI document, which also says which need none."""
    with Rest(secured.port) as rest:
        shown: Any = rest.ask("GET", "/api/v1/openapi.json", authorization=f"Bearer {SECRET}").json
        assert shown["security"] == [{"bearer": []}]
        closed = 0
        for path, methods in shown["paths"].items():
            for method, operation in methods.items():
                answer = rest.ask(method.upper(), path.replace("{", "").replace("}", ""))
                if operation.get("security") == []:
                    assert answer.status in (200, 204), path
                    continue
                closed += 1
                scheme = "Basic" if path in ("/write", "/api/v2/write", "/query") else "Bearer"
                assert (answer.status, answer.headers["www-authenticate"]) == (401, f'{scheme} realm="flo"'), path
                assert "Authorization: Bearer SECRET" in answer.sentence and "401" in operation["responses"]
        assert closed > 50
        assert rest.ask("GET", "/api/v1/kv/default/keys", authorization=f"Bearer {SECRET}").json["items"] == []


def test_curl_brings_the_secret(secured: FloProcess) -> None:
    for flags in (("-H", f"Authorization: Bearer {SECRET}"), ("--oauth2-bearer", SECRET), ("-u", f"anybody:{SECRET}")):
        assert json.loads(curl(secured.port, "/api/v1/namespaces", *flags)) == {"namespaces": ["default"]}
    wrong = json.loads(curl(secured.port, "/api/v1/namespaces", "--oauth2-bearer", "wrong"))
    assert (wrong["status"], wrong["detail"]) == (401, "the secret is wrong")
