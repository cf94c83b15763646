# mypy: disable-error-code="empty-body"
"""An operation is a row and a method of the engine: everything else follows from these."""

import inspect
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from flo import cli
from flo.cli import remote
from flo.client import QueueCalls
from flo.commands.binary import rows, table
from flo.commands.binary.session import BinarySession
from flo.commands.http import load_pages, routes
from flo.commands.http.openapi import document
from flo.commands.http.session import HttpSession
from flo.commands.resp.rows import add_command
from flo.commands.resp.session import RespSession
from flo.commands.resp.table import COMMANDS, PLAIN, SPELLINGS
from flo.engine import Queues
from flo.errors import BadRequest
from flo.given import Text
from flo.operations import row
from flo.operations.call import Call, T
from flo.operations.row import call, operation
from flo.proto.binary import Response
from flo.proto.row import Command, Http, Resp
from tests.commands.test_binary_session import responses
from tests.generate_docs import operation_tables, route_tables
from tests.generate_man import operations as manual
from tests.support.fakes import FakeHost, FakePeer

pytestmark = pytest.mark.computes

CODE, SECOND_CODE = 0x7E, 0x17E


class Local:
    """Runs calls on a session, as a client does over a socket."""

    timeout, secret = 1.0, b"given"

    def __init__(self, session: BinarySession) -> None:
        self.session = session

    def connect(self) -> None:
        """There is nothing to connect to."""

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to close."""

    def respond(self, call: Call[T]) -> Response:
        data = call.encode(7, 0)
        assert self.session.feed(data, 1 << 20) == len(data)
        (response,) = responses(b"".join(self.session.peer.out))
        self.session.peer.out.clear()
        return response

    def run(self, call: Call[T]) -> T:
        return call.finish(self.respond(call))


class Held(NamedTuple):
    """The answer of the new operation."""

    sum: int
    name: bytes


def hold(self: Queues, name: bytes, held: bool, *, delay: int = 5, dead: bool = False, limit: int = 0) -> tuple[int, bytes]:
    """The engine's method of the new operation."""
    if name == b"refused":
        raise BadRequest("not this one")
    return delay + 1000 * dead + 10_000 * limit, name if held else b""


@pytest.fixture
def more(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Local]]:
    load_pages()
    monkeypatch.setattr(Queues, "hold", hold, raising=False)

    class More(QueueCalls):
        @operation(
            "queue_hold",
            CODE,
            "queues.hold",
            layout="held bool",
            answer="sum u64, name rest",
            limits=(3, 7),
            also=SECOND_CODE,
            refusals="CONFLICT never",
            resp=Resp("QHOLD", "Hold a queue, or do not.", "write", {"delay": "AFTER", "dead": "DEAD"}),
            http=Http("POST queues/{ns}/{key}/hold"),
            command=Command("queue hold", "hold a queue, or do not", "fields", help={"delay": "after so many ms", "dead": "for ever"}),
        )
        def hold(self, queue: Text, held: bool, *, delay: int | None = None, dead: bool = False, limit: int | None = None) -> Held:
            """Hold a queue, or do not. Only in this test."""

    declared = row.BY_NAME["queue_hold"]
    table.add_handler(declared, rows.handler_of(declared))
    assert declared.resp is not None
    add_command(declared, declared.resp)
    made_from_rows = (routes.tree, document)
    for made in made_from_rows:
        made.cache_clear()
    host = FakeHost()
    try:
        yield More, Local(BinarySession(host, FakePeer()))
    finally:
        host.close()
        row.forget("queue_hold")
        for made in made_from_rows:
            made.cache_clear()
        for spelling in (b"QHOLD", b"qhold"):
            for commands in (COMMANDS, SPELLINGS, PLAIN):
                commands.pop(spelling, None)
        del table.SERVED[table.head(CODE)], table.SERVED[table.head(SECOND_CODE)]


def test_a_row_and_a_method_are_an_operation(more: tuple[Any, Local]) -> None:
    kind, local = more
    queues = kind(local)
    assert queues.hold("q", True) == (30_005, b"q")
    assert queues.hold(b"q", False, delay=2, dead=True, limit=7) == (71_002, b"")
    made: Any = call(kind.hold)
    assert local.run(made("q", True, delay=1)) == (30_001, b"q")
    assert local.respond(made("q", True)).payload == (30_005).to_bytes(8, "little") + b"q"
    with pytest.raises(BadRequest, match="not this one"):
        queues.hold("refused", True)
    with pytest.raises(BadRequest, match="the option limit is 8; queue_hold takes 1 to 7"):
        queues.hold("q", True, limit=8)
    for wrong in (("q", 1), ("q", True, 5), (5, True)):
        with pytest.raises(TypeError):
            made(*wrong)
    assert str(inspect.signature(made)).startswith("(queue:") and "Only in this test" in str(made.__doc__)


def test_it_is_a_resp_command(more: tuple[Any, Local]) -> None:
    host = more[1].session.host
    session = RespSession(host, FakePeer())

    def reply(*args: bytes) -> bytes:
        session.feed(b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args), 1 << 20)
        out = b"".join(session.peer.out)
        session.peer.out.clear()
        return out

    assert reply(b"QHOLD", b"q", b"ON") == b"*2\r\n:5\r\n$1\r\nq\r\n"
    assert reply(b"qhold", b"q", b"dead", b"AFTER", b"2", b"off") == b"*2\r\n:1002\r\n$0\r\n\r\n"
    assert COMMANDS[b"QHOLD"].syntax == "queue [AFTER ms] [DEAD] ON|OFF" and COMMANDS[b"QHOLD"].arity == -3
    for wrong, says in (
        ((b"q", b"perhaps"), b"syntax error"),
        ((b"q", b"AFTER", b"2", b"AFTER", b"3", b"ON"), b"syntax error"),
        ((b"q", b"AFTER", b"x", b"ON"), b"not an integer"),
        ((b"q", b"AFTER", b"-1", b"ON"), b"the delay is -1; it is 0 to"),
        ((b"q", b"DEAD"), b"wrong number of arguments for 'qhold'"),
        ((b"refused", b"ON"), b"not this one"),
    ):
        assert says in reply(b"QHOLD", *wrong), wrong


def test_the_command_line_has_it(more: tuple[Any, Local], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(remote, "client_of", lambda args: more[1])
    assert cli.main(["queue", "hold", "q", "on", "--delay", "2", "--dead"]) == 0
    assert capsys.readouterr().out == "31002\n"
    assert cli.main(["queue", "hold", "refused", "off"]) == 1
    assert capsys.readouterr().err == "flo: not this one\n"
    with pytest.raises(SystemExit):
        cli.main(["queue", "hold", "q", "perhaps"])
    assert "'perhaps' is not on or off" in capsys.readouterr().err


def test_rest_has_it(more: tuple[Any, Local]) -> None:
    session = HttpSession(more[1].session.host, FakePeer())

    def answer(path: str, body: bytes, media: bytes = b"application/json") -> tuple[int, dict[bytes, bytes], bytes]:
        head = b"POST /api/v1/queues/default/%b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
        session.feed(head % (path.encode(), media, len(body)) + body, 1 << 20)
        head, _, rest = b"".join(session.peer.out).partition(b"\r\n\r\n")
        session.peer.out.clear()
        line, *fields = head.split(b"\r\n")
        return int(line.split(b" ")[1]), dict(field.split(b": ", 1) for field in fields), rest

    status, fields, body = answer("q/hold", b'{"held": true}')
    assert (status, fields[b"Flo-Sum"], fields[b"Content-Type"], body) == (200, b"30005", b"application/octet-stream", b"q")
    status, fields, body = answer("q/hold?delay=2&to_dlq=true&limit=7", b'{"held": false}')
    assert (status, fields[b"Flo-Sum"], body) == (200, b"71002", b"")
    for path, sent, media, says in (
        ("q/hold", b"{}", b"application/json", "held is missing; it is true or false"),
        ("q/hold", b'{"held": true}', b"text/plain", "queue_hold takes a body of the type application/json"),
        ("q/hold?limit=8", b'{"held": true}', b"application/json", "the option limit is 8; queue_hold takes 1 to 7"),
        ("q/hold?dead=true", b'{"held": true}', b"application/json", "'dead'; it takes delay, to_dlq, limit"),
        ("refused/hold", b'{"held": true}', b"application/json", "not this one"),
    ):
        status, fields, body = answer(path, sent, media)
        assert status in (400, 415) and says in json.loads(body)["detail"], (path, body)


def test_openapi_has_it(more: tuple[Any, Local]) -> None:
    shown = json.loads(document(False)[0])["paths"]["/api/v1/queues/{ns}/{key}/hold"]["post"]
    assert (shown["operationId"], shown["tags"], shown["summary"]) == ("queue_hold", ["queue"], "Hold a queue, or do not")
    parameters = {each["name"]: each["schema"] for each in shown["parameters"] if "name" in each}
    assert parameters["limit"] == {"type": "integer", "minimum": 1, "maximum": 7, "default": 3}
    assert parameters.keys() == {"key", "delay", "to_dlq", "limit"}
    body = shown["requestBody"]["content"]["application/json"]
    assert (body["schema"]["properties"], body["schema"]["required"], body["example"]) == (
        {"held": {"type": "boolean"}}, ["held"], {"held": True},
    )  # fmt: skip
    assert shown["responses"]["200"]["headers"]["Flo-Sum"]["schema"]["maximum"] == (1 << 64) - 1
    assert {"200", "400", "409", "415"} <= shown["responses"].keys() and "404" not in shown["responses"]


def test_the_documents_have_it(more: tuple[Any, Local]) -> None:
    text = operation_tables()
    assert "| `queue_hold` | 0x7e | queue | `held bool` | delay, to_dlq, limit | `sum u64, name rest` | CONFLICT never |" in text
    assert "- `queue_hold`: Hold a queue, or do not." in text
    line = "| `POST /api/v1/queues/{ns}/{key}/hold` | `queue_hold`: Hold a queue, or do not. | `delay`, `to_dlq`, `limit` | "
    assert line + '`{"held": true}` | the name, `Flo-Sum` | 409, 415 |' in route_tables()
    assert ".It Cm queue_hold 0x7e , 0x17e\nHold a queue, or do not." in manual()
