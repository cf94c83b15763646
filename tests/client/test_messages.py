"""What `flo.Client` says when a request is refused, and the forms in which it takes a message."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import flo
from flo import Client, calls, errors
from tests.support.processes import FloProcess


@pytest.fixture
def client(shared_flo: FloProcess) -> Iterator[Client]:
    with Client(f"flo://127.0.0.1:{shared_flo.port}") as made:
        yield made


def test_a_conflict_of_kind_is_no_conflict_of_versions(client: Client) -> None:
    """Else a loop that reads the version again and repeats the request never ends."""
    version = client.kv.put("kind:text", "many")
    for refused in (
        lambda: client.kv.incr("kind:text"),
        lambda: client.kv.json_get("kind:text"),
        lambda: client.kv.json_set("kind:text", "1", "$.a"),
        lambda: client.kv.json_set("kind:text", "1", cas=version),
        lambda: client.kv.json_delete("kind:text", cas=version),
    ):
        with pytest.raises(errors.WrongKind) as caught:
            refused()
        assert caught.value.version == version and not isinstance(caught.value, errors.Conflict)
    client.kv.put("kind:number", "9223372036854775807")
    with pytest.raises(errors.WrongKind, match="overflow"):
        client.kv.incr("kind:number")
    with pytest.raises(errors.Conflict):
        client.kv.json_set("kind:text", "1", cas=version - 1)
    version = client.kv.json_set("kind:document", "{}")
    with pytest.raises(errors.Conflict):
        client.kv.json_set("kind:document", "1", cas=version + 1)
    with pytest.raises(errors.Conflict):
        client.kv.cas("kind:text", "b", 0)
    (result,) = client.run_many([calls.kv_incr("kind:text")])
    assert isinstance(result, errors.WrongKind)


def test_a_clip_does_not_cut_the_cursor(client: Client) -> None:
    client.kv.batch_put([(f"clipped:{number}", "long value") for number in range(5)])
    found, cursor = [], b""
    for _ in range(3):
        page = client.kv.scan_page("clipped:", limit=2, cursor=cursor, clip=4)
        found += page.items
        cursor = page.cursor
    assert found == [(f"clipped:{number}".encode(), b"long") for number in range(5)]
    assert cursor == b""


def test_an_engine_tells_the_two_apart_as_well(tmp_path: Path) -> None:
    with flo.Engine(str(tmp_path / "data")) as db:
        db.kv.put("a", "many")  # type: ignore[arg-type]
        with pytest.raises(errors.WrongKind):
            db.kv.incr("a")  # type: ignore[arg-type]
        db.kv.put("a", "9223372036854775807")  # type: ignore[arg-type]
        with pytest.raises(errors.OutOfRange):
            db.kv.incr("a")  # type: ignore[arg-type]
    assert not issubclass(errors.WrongKind, errors.Conflict)


def test_one_thing_in_the_place_of_several_is_told_how_to_give_it(client: Client, tmp_path: Path) -> None:
    client.kv.put("several:a", "1")
    with pytest.raises(TypeError, match=r"a call is Entry\(.*give calls of flo\.calls, such as kv_get\('key'\)"):
        client.run_many([client.kv.get("several:a")])  # type: ignore[list-item]
    client.queues.enqueue("several", "m")
    (message,) = client.queues.dequeue("several")
    with pytest.raises(TypeError, match=r"the receipt is \[Message\(.*give each one as an argument of its own: \*messages"):
        client.queues.ack("several", [message])  # type: ignore[arg-type]
    client.streams.append("several", "a")
    with pytest.raises(TypeError, match=r"the id is \[StreamRecord\(.*give each one as an argument of its own: \*records"):
        client.streams.ack("several", "group", client.streams.read("several"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"seqs is one Message; give a list, such as \[message\]"):
        client.queues.requeue("several", message)  # type: ignore[arg-type]
    with flo.Engine(str(tmp_path / "data")) as db:
        db.queues.enqueue(b"q", b"m")
        (delivered,) = db.queues.dequeue(b"q")
        with pytest.raises(TypeError, match=r"receipts is one Message; give a list, such as \[message\]"):
            db.queues.ack(b"q", delivered)  # type: ignore[arg-type]
        assert db.queues.ack(b"q", [delivered]) == 1  # type: ignore[list-item]


def test_a_missing_namespace_is_named(shared_flo: FloProcess) -> None:
    with Client(f"flo://127.0.0.1:{shared_flo.port}/no-such") as client:
        with pytest.raises(errors.BadRequest) as caught:
            client.kv.get("a")
        assert str(caught.value) == "there is no namespace 'no-such'; create it first"
        (result,) = client.run_many([calls.kv_incr("a")])
        assert str(result) == str(caught.value)


@pytest.mark.slow
def test_a_missing_secret_says_how_a_program_gives_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame")
    secret.chmod(0o600)
    with FloProcess(tmp_path / "data", "--secret-file", str(secret)) as server, Client(f"flo://127.0.0.1:{server.port}") as client:
        with pytest.raises(errors.Unauthorized) as caught:
            client.kv.get("a")
        assert "flo.Client(secret=…)" in str(caught.value) and "0x03" not in str(caught.value)


def test_every_form_of_a_receipt_acknowledges(client: Client) -> None:
    for number in range(6):
        client.queues.enqueue("receipts", str(number))
    one, two, three, four, five, six = client.queues.dequeue("receipts", 6)
    assert client.queues.ack("receipts", one, two.receipt, f"{three.seq}-1", str(four.seq), f"{five.seq}-1".encode(), six.seq) == 6
    for wrong in ("one", "1-", "-1", "1-x", "1-1-1", ""):
        with pytest.raises(errors.BadRequest, match="is not a receipt"):
            client.queues.ack("receipts", wrong)
    assert client.queues.ack("receipts", "99-1") == 0


def test_dead_letters_go_back_as_messages_or_by_seq(client: Client) -> None:
    for number in range(4):
        client.queues.enqueue("dead", str(number))
    client.queues.nack("dead", *client.queues.dequeue("dead", 4), dead=True)
    first, second, third, fourth = client.queues.dead_letters("dead")
    assert client.queues.requeue("dead", [first, second.seq]) == 2
    assert client.queues.delete_dead("dead", [third, fourth.seq]) == 2


def test_an_engine_takes_a_message_for_its_receipt_and_its_seq(tmp_path: Path) -> None:
    with flo.Engine(str(tmp_path / "data")) as db:
        db.queues.enqueue("q", "a")  # type: ignore[arg-type]
        messages = db.queues.dequeue("q")  # type: ignore[arg-type]
        assert db.queues.ack("q", messages) == 1  # type: ignore[arg-type]
        db.queues.enqueue("q", "b")  # type: ignore[arg-type]
        db.queues.nack("q", db.queues.dequeue("q"), dead=True)  # type: ignore[arg-type]
        assert db.queues.requeue("q", db.queues.dead_letters("q")) == 1  # type: ignore[arg-type]
