"""The dashboard's frame, and what holds for all of its pages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from flo import Client
from tests.support.processes import FloProcess, RespClient, wait_until

pytestmark = pytest.mark.slow  # a Chromium takes a second or two to start

SECRET, READ_SECRET = "open sesame", "only look"


def fill(client: RespClient) -> None:
    """Something of each kind, so that no page is empty."""
    client.command("NAMESPACE", "CREATE", "jobs")
    client.command("SET", b"bytes\xff", b"\x00\xff" * 100)
    client.command("SET", "مفتاح", "<b>🦩</b>")
    client.command("JSON.SET", "document", "$", '{"a": [1, {"b": null}]}')
    client.command("LPUSH", "mail", "one", "two", "three")
    client.command("QCONFIG", "mail", "MAXATTEMPTS", "1")
    client.command("RPOP", "mail")
    client.command("QNACK", "mail", "DLQ", "1")
    client.command("XADD", "events", "*", "kind", "login")
    client.command("XGROUP", "CREATE", "events", "mailer", "0")
    client.command("XREADGROUP", "GROUP", "mailer", "one", "STREAMS", "events", ">")
    client.command("TS.WRITE", "cpu,host=web-1 usage=12.5")


def fill_actions(server: FloProcess, secret: str | None = None) -> None:
    """An action with a run that has completed, one that has failed, and one that is running."""
    with Client(f"flo://127.0.0.1:{server.port}", secret=secret) as client:
        client.actions.register("send-email", labels='{"region": "eu"}')
        client.workers.register("w1", ["send-email"], labels='{"region": "eu"}')
        for report in (client.workers.complete, client.workers.fail, None):
            client.actions.invoke("send-email", '{"to": "ada"}')
            run = client.workers.take("w1")
            assert run is not None
            if report is not None:
                report(run.run_id, "reported", worker_id="w1")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    with FloProcess(tmp_path_factory.mktemp("filled") / "data") as server, server.connect() as client:
        fill(client)
        fill_actions(server)
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    directory = tmp_path_factory.mktemp("guarded")
    environment = {}
    for variable, secret in (("FLO_SECRET_FILE", SECRET), ("FLO_READ_SECRET_FILE", READ_SECRET)):
        file = directory / variable
        file.write_text(secret)
        file.chmod(0o600)
        environment[variable] = str(file)
    with FloProcess(directory / "data", environment=environment) as server, server.connect() as client:
        client.command("AUTH", SECRET)
        fill(client)
        fill_actions(server, SECRET)
        yield server


def test_the_overview_says_that_all_is_well_and_its_numbers_move(play: Callable[..., Any], flo: FloProcess) -> None:
    play("frame", flo, "overview")


def test_the_address_the_namespace_and_the_theme(play: Callable[..., Any], filled: FloProcess) -> None:
    play("frame", filled, "address")


def test_the_keyboard_reaches_all_pages(play: Callable[..., Any], filled: FloProcess) -> None:
    play("frame", filled, "keyboard")


def test_a_secret_is_asked_for_and_remembered(play: Callable[..., Any], guarded: FloProcess) -> None:
    play("frame", guarded, "secret", SECRET)


def test_who_may_only_read_sees_no_button_that_changes(play: Callable[..., Any], guarded: FloProcess) -> None:
    play("frame", guarded, "readonly", SECRET, READ_SECRET)


def test_a_server_that_is_started_again(play: Callable[..., Any], flo: FloProcess, tmp_path: Path) -> None:
    sign = tmp_path / "sign"

    def start_again() -> None:
        wait_until(sign.exists, "the sign of the page")
        assert flo.process is not None
        flo.process.wait()
        flo.flags = (*flo.flags, "--port", str(flo.port))
        flo.start()

    helper = Thread(target=start_again)
    helper.start()
    try:
        play("frame", flo, "restart", flo.pid, sign)
    finally:
        sign.touch()
        helper.join()


def test_a_hidden_page_asks_for_nothing(play: Callable[..., Any], filled: FloProcess) -> None:
    play("frame", filled, "hidden")


@pytest.mark.parametrize("mode", ["desktop", pytest.param("phone", marks=pytest.mark.long)])
def test_every_page_is_accessible(play: Callable[..., Any], filled: FloProcess, mode: str) -> None:
    """On a desktop in the light and in the dark, and on a phone."""
    addresses = play("frame", filled, "looks", mode)
    assert {address.partition("?")[0] for address in addresses} == {
        "#/",
        "#/keys",
        "#/queues",
        "#/actions",
        "#/streams",
        "#/timeseries",
        "#/server",
    }
