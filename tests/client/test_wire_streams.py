"""The streams of docs/wire-protocol.md, seen by the client that was written from that page alone.

Where a test says "a guess", the page leaves it open, and the test holds what the server does.
"""

import base64
import contextlib
import itertools
import json
import random
import struct
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from tests.support import wire_client as wire
from tests.support.processes import ROOT, FloProcess, RespClient, wait_until
from tests.support.wire_client import Call, Client, Delivery, Id, Opt, Record, Status, StreamInfo, StreamOp, StreamOpt, WireError

pytestmark = [pytest.mark.slow, pytest.mark.computes]

PAGE = (ROOT / "docs" / "wire-protocol.md").read_text()
MIB = 1024 * 1024
ZERO = Id(0, 0)
NONE = StreamInfo(ZERO, ZERO, 0, 0, 0)
HOUR = 3_600_000
S, G, C = b"stream", b"group", b"consumer"

Refused = Callable[..., WireError]
numbers = itertools.count()


@pytest.fixture(autouse=True)
def healthy(shared_flo: FloProcess) -> Iterator[None]:
    """No test may end the server."""
    yield
    assert shared_flo.alive()


@pytest.fixture
def client(shared_flo: FloProcess) -> Iterator[Client]:
    """A connection, whose calls are in a new namespace."""
    name = f"test-{next(numbers)}"
    with Client(shared_flo.port, namespace=name) as client:
        client.run(wire.namespace_create(name))
        yield client


@pytest.fixture
def connect(shared_flo: FloProcess, client: Client) -> Iterator[Callable[[], Client]]:
    """Makes more connections to the same namespace."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(Client(shared_flo.port, namespace=client.namespace))


@pytest.fixture
def resp(shared_flo: FloProcess) -> Iterator[RespClient]:
    """A connection that speaks RESP: the page does not say how that names a namespace, so it is in `default`."""
    with shared_flo.connect(10) as resp:
        yield resp


@pytest.fixture
def default(shared_flo: FloProcess) -> Iterator[Client]:
    """A connection in `default`, for the streams that are written over RESP."""
    with Client(shared_flo.port) as client:
        yield client


@pytest.fixture
def stream() -> bytes:
    """A new name, for `default`."""
    return b"resp-%d" % next(numbers)


@pytest.fixture
def refused(client: Client) -> Refused:
    """Do a call that must be refused with a status, and leave the connection as it was."""

    def refused(status: Status, call: Call[Any], **arguments: Any) -> WireError:
        with pytest.raises(WireError) as caught:
            client.run(call, **arguments)
        error = caught.value
        assert (error.status, error.version) == (status, 0), error
        assert error.message.strip()
        assert client.run(wire.ping(b"still here")) == b"still here"
        return error

    return refused


def fill(client: Client, stream: bytes, payloads: list[bytes] | int) -> list[Id]:
    """Append many records; their ids."""
    if isinstance(payloads, int):
        payloads = [b"%d" % number for number in range(payloads)]
    return [wire.read_id(response.payload) for response in client.pipeline([wire.stream_append(stream, payload) for payload in payloads])]


def ids(records: list[Record] | list[Delivery]) -> list[Id]:
    """The ids alone."""
    return [record.id for record in records]


def counts(deliveries: list[Delivery]) -> list[tuple[Id, int]]:
    """The ids and how often each was delivered."""
    return [(delivery.id, delivery.deliveries) for delivery in deliveries]


def pending(client: Client, stream: bytes = S, group: bytes = G) -> dict[str, Any]:
    """What is pending, by id."""
    return {item["id"]: item for item in client.run(wire.stream_group_pending(stream, group))["pending"]}


def dead(client: Client, stream: bytes = S, group: bytes = G) -> list[str]:
    """The ids of the dead letters."""
    return [item["id"] for item in client.run(wire.stream_group_pending(stream, group))["dead"]]


def group_info(client: Client, stream: bytes = S, group: bytes = G) -> Any:
    """What is known of a group."""
    return client.run(wire.stream_group_info(stream, group))


def readers(client: Client, number: int) -> None:
    """Wait until so many requests wait: the tests of this module run one by one, on a server of their own."""
    wait_until(lambda: client.run(wire.cluster_status())["waiting"] == number, f"{number} waiting requests", 10)


def until(read: Callable[[], list[Delivery]]) -> list[Delivery]:
    """Read again and again, until something is delivered."""
    answer: list[Delivery] = wait_until(read, "a delivery", 10)
    return answer


def only(bound: str, number: int) -> dict[str, Any]:
    """One of the bounds, as an argument."""
    return {bound: number}


def now() -> int:
    """Unix milliseconds: the server is on this machine."""
    return time.time_ns() // 1_000_000


@cache
def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of the page."""
    lines = PAGE[PAGE.index(f"\n{heading}\n") :].split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@cache
def operations() -> dict[str, dict[str, str]]:
    """The rows of the table of operations on streams."""
    names = ["operation", "code", "key", "value", "options", "answer", "refused as"]
    return {cells[0].strip("`"): dict(zip(names, cells, strict=True)) for cells in table("### Streams")}


# `id`: the page names the form and gives no layout; 16 bytes, as ids are written everywhere else.
SIZES = {"u64": 8, "u32": 4, "u8": 1, "i64": 8, "empty": 0, "id": 16}


@cache
def forms() -> dict[str, tuple[int, int | None]]:
    """All options of the page: type, and length where it is fixed."""
    return {cells[1]: (int(cells[0], 16), SIZES.get(cells[2])) for cells in table("## Options")}


@cache
def taken_by(name: str) -> dict[str, bool]:
    """The options that an operation's row names, and whether it requires them."""
    words = [word.split(" ") for word in operations()[name]["options"].split(", ")]
    return {word[0]: word[1:] == ["(required)"] for word in words if word[0] != "—"}


def calls() -> dict[str, Call[Any]]:
    """One call of each operation on streams, with the options it requires."""
    one = [Id(1, 1)]
    return {
        "stream_append": wire.stream_append(S, b"v"),
        "stream_read": wire.stream_read(S),
        "stream_create": wire.stream_create(S),
        "stream_info": wire.stream_info(S),
        "stream_trim": wire.stream_trim(S, max_len=1),
        "stream_group_create": wire.stream_group_create(S, G),
        "stream_group_read": wire.stream_group_read(S, G, C),
        "stream_group_ack": wire.stream_group_ack(S, G, one),
        "stream_group_nack": wire.stream_group_nack(S, G, one),
        "stream_group_touch": wire.stream_group_touch(S, G, one),
        "stream_group_pending": wire.stream_group_pending(S, G),
        "stream_group_claim": wire.stream_group_claim(S, G, C),
        "stream_group_info": wire.stream_group_info(S, G),
        "stream_group_delete": wire.stream_group_delete(S, G),
        "stream_list": wire.stream_list(),
        "stream_delete": wire.stream_delete(S),
    }


# The page's tables


def test_the_tables_are_the_clients() -> None:
    assert {name.upper(): int(row["code"], 16) for name, row in operations().items()} == {op.name: op for op in StreamOp}
    assert sorted(StreamOp) == list(range(0x30, 0x40))
    known = {kind.name: int(kind) for kind in [*Opt, *StreamOpt]}
    taken = set().union(*(taken_by(name) for name in operations()))
    assert {name.upper(): forms()[name][0] for name in taken} == {name: kind for name, kind in known.items() if name.lower() in taken}
    assert {kind.name.lower() for kind in StreamOpt} <= taken
    assert set(calls()) == set(operations())


def test_the_table_of_options_says_who_takes_them() -> None:
    for cells in table("## Options"):
        assert {name for name in operations() if cells[1] in taken_by(name)} == set(cells[4].split(", ")) & set(operations()), cells[1]


@pytest.mark.parametrize("name", list(operations()))
def test_options_that_are_not_taken(client: Client, name: str) -> None:
    call = calls()[name]
    kinds = [forms()[option] for option in set(forms()) - set(taken_by(name))] + [(0, 0), (0x7F, 0), (0xFF, 0)]
    for kind, size in kinds:
        response = client.respond(Call(call.opcode, call.parse, call.key, call.value, call.options + wire.option(kind, bytes(size or 0))))
        assert response.status is Status.BAD_REQUEST, (name, kind)
        assert response.error().message
    assert client.run(wire.stream_list())["streams"] == []


@pytest.mark.parametrize("name", sorted(name for name in operations() if taken_by(name)))
def test_options_that_are_repeated_or_of_the_wrong_length(client: Client, name: str) -> None:
    call = calls()[name]
    required = {
        option: wire.stream_options(**{option: value})  # type: ignore[arg-type]
        for option, value in (("group", G), ("consumer", C))
        if taken_by(name).get(option)
    }
    for option in taken_by(name):
        kind, size = forms()[option]
        others = b"".join(data for other, data in required.items() if other != option)
        one = wire.option(kind, b"\1" * (1 if size is None else size))
        wrong = [one + one]
        if size is not None:
            lengths = {0, 1, 2, 4, 8, 12, 16, size - 1, size + 1, 300}
            wrong += [wire.option(kind, b"\1" * length) for length in lengths if length >= 0 and length != size]
        for data in wrong:
            response = client.respond(Call(call.opcode, call.parse, call.key, call.value, others + data))
            assert response.status is Status.BAD_REQUEST, (option, data)
    assert client.run(wire.stream_list())["streams"] == []


def test_options_that_are_required(client: Client) -> None:
    client.run(wire.stream_group_create(S, G))
    for name in operations():
        required = [option for option, needed in taken_by(name).items() if needed]
        call = calls()[name]
        for left_out in required:
            data = b"".join(wire.option(forms()[option][0], G) for option in required if option != left_out)
            response = client.respond(Call(call.opcode, call.parse, call.key, call.value, data))
            assert response.status is Status.BAD_REQUEST, (name, left_out)


def test_options_come_in_any_order(client: Client) -> None:
    first, second, *_ = fill(client, S, 3)
    parts = [wire.stream_options(start=first), wire.stream_options(end=second), wire.stream_options(limit=9), wire.stream_options(block=0)]
    for order in itertools.permutations(parts):
        assert ids(client.run(Call(StreamOp.STREAM_READ, wire.read_records, S, options=b"".join(order)))) == [first, second]


@pytest.mark.parametrize("name", sorted(name for name, row in operations().items() if row["key"] == "—"))
def test_a_key_that_is_not_taken(client: Client, name: str) -> None:
    call = calls()[name]
    assert client.respond(Call(call.opcode, call.parse, b"key", call.value, call.options)).status is Status.BAD_REQUEST


@pytest.mark.parametrize("name", sorted(name for name, row in operations().items() if row["value"] == "—"))
def test_a_value_that_is_not_taken(client: Client, name: str) -> None:
    call = calls()[name]
    assert client.respond(Call(call.opcode, call.parse, call.key, b"value", call.options)).status is Status.BAD_REQUEST


LISTS = (StreamOp.STREAM_GROUP_ACK, StreamOp.STREAM_GROUP_NACK, StreamOp.STREAM_GROUP_TOUCH)


@pytest.mark.parametrize("op", LISTS)
def test_lists_of_ids_that_are_malformed(client: Client, op: StreamOp) -> None:
    whole = wire.ids_bytes([Id(1, 2), Id(3, 4)])
    wrong = [whole[:size] for size in range(len(whole))] + [whole + b"x", struct.pack("<I", 2**32 - 1) + whole[4:]]
    for made in (False, True):
        for data in wrong:
            response = client.respond(Call(op, wire.read_u32, S, data, wire.stream_options(group=G)))
            assert response.status is Status.BAD_REQUEST, (made, data)
        client.run(wire.stream_group_read(S, G, C))


@pytest.mark.parametrize("op", LISTS)
def test_how_many_ids_a_request_may_name(client: Client, op: StreamOp) -> None:
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    many = [Id(number, 7) for number in range(9_999)] + [at]
    given = wire.stream_options(group=G)
    assert client.respond(Call(op, wire.read_u32, S, wire.ids_bytes([*many, Id(3, 3)]), given)).status is Status.BAD_REQUEST
    assert list(pending(client)) == [str(at)]
    assert client.run(Call(op, wire.read_u32, S, wire.ids_bytes([]), given)) == 0
    assert client.run(Call(op, wire.read_u32, S, wire.ids_bytes(many), given)) == 1


@pytest.mark.parametrize("name", [name for name, row in operations().items() if row["refused as"] == "NOT_FOUND if the group is missing"])
def test_where_there_is_no_such_group(client: Client, refused: Refused, name: str) -> None:
    refused(Status.NOT_FOUND, calls()[name])
    assert client.run(wire.stream_list())["streams"] == []
    client.run(wire.stream_append(S, b"x"))
    client.run(wire.stream_group_create(S, b"another"))
    refused(Status.NOT_FOUND, calls()[name])


def test_every_group_operation_is_refused_without_its_group() -> None:
    made_by = {"stream_group_create", "stream_group_read"}
    assert {name for name in operations() if "_group_" in name} - made_by == {
        name for name, row in operations().items() if row["refused as"] == "NOT_FOUND if the group is missing"
    }


@pytest.mark.parametrize("limit", [0, 1001, 2**32 - 1])
def test_limits_over_1000(client: Client, refused: Refused, limit: int) -> None:
    # that 0 is out of bounds, and that claim and list are bounded as the others are, are guesses.
    fill(client, S, 1)
    client.run(wire.stream_group_create(S, G))
    for call in (
        wire.stream_read(S, limit=limit),
        wire.stream_group_read(S, G, C, limit=limit),
        wire.stream_group_claim(S, G, C, limit=limit),
        wire.stream_list(limit=limit),
    ):
        refused(Status.BAD_REQUEST, call)
    assert pending(client) == {}


def test_names_that_are_too_long(client: Client, refused: Refused) -> None:
    stream, name = b"s" * 32_000, b"n" * 16_000
    makers = {"stream_append", "stream_create", "stream_group_create", "stream_group_read"}
    for call in (call for name_, call in calls().items() if name_ in makers):
        refused(Status.BAD_REQUEST, Call(call.opcode, call.parse, stream + b"s", call.value, call.options))
    at = client.run(wire.stream_append(stream, b"v"))
    client.run(wire.stream_group_create(stream, name))
    assert ids(client.run(wire.stream_group_read(stream, name, name))) == [at]
    assert client.run(wire.stream_group_claim(stream, name, name, min_idle=HOUR)) == []
    longer = name + b"n"
    new = client.run(wire.stream_append(stream, b"v"))
    for call in (
        wire.stream_group_create(stream, longer),
        wire.stream_group_read(stream, longer, C),
        wire.stream_group_read(stream, name, longer),
        wire.stream_group_claim(stream, name, longer),
    ):
        refused(Status.BAD_REQUEST, call)
    assert ids(client.run(wire.stream_group_read(stream, name, name))) == [new]
    assert client.run(wire.stream_group_ack(stream, name, [at, new])) == 2
    assert [item["name"] for item in client.run(wire.stream_list())["streams"]] == [stream.decode()]


@pytest.mark.parametrize(
    "name", sorted({*operations()} - {"stream_append", "stream_create", "stream_group_create", "stream_group_read", "stream_list"})
)
def test_a_streams_name_that_is_too_long(client: Client, refused: Refused, name: str) -> None:
    call = calls()[name]
    refused(Status.BAD_REQUEST, Call(call.opcode, call.parse, b"s" * 32_001, call.value, call.options))


@pytest.mark.parametrize(
    "call",
    [
        wire.stream_group_ack(S, b"n" * 16_001, []),
        wire.stream_group_info(S, b"n" * 16_001),
        wire.stream_group_delete(S, b"n" * 16_001),
        wire.stream_group_pending(S, b"n" * 16_001),
        wire.stream_group_nack(S, G, [], consumer=b"n" * 16_001),
        wire.stream_group_touch(S, G, [], consumer=b"n" * 16_001),
        wire.stream_group_claim(S, G, b"n" * 16_001),
        wire.stream_group_read(S, G, b"n" * 16_001),
    ],
)
def test_a_groups_or_consumers_name_that_is_too_long(client: Client, refused: Refused, call: Call[Any]) -> None:
    client.run(wire.stream_group_create(S, G))
    refused(Status.BAD_REQUEST, call)


def test_a_stream_without_a_name(client: Client) -> None:
    at = client.run(wire.stream_append(b"", b"v"))
    assert client.run(wire.stream_read(b"")) == [(at, 0, b"v")]
    assert ids(client.run(wire.stream_group_read(b"", b"", b""))) == [at]
    assert client.run(wire.stream_group_ack(b"", b"", [at])) == 1


def test_how_many_groups_a_stream_has(client: Client, refused: Refused) -> None:
    responses = client.pipeline([wire.stream_group_create(S, b"%d" % number) for number in range(1000)])
    assert {response.status for response in responses} == {Status.OK}
    refused(Status.BAD_REQUEST, wire.stream_group_create(S, G))
    refused(Status.BAD_REQUEST, wire.stream_group_read(S, G, C))
    assert client.run(wire.stream_info(S)).groups == 1000
    client.run(wire.stream_group_delete(S, b"0"))
    client.run(wire.stream_group_read(S, G, C))


@pytest.mark.long
def test_how_many_consumers_a_group_has(client: Client, refused: Refused) -> None:
    for start in range(0, 10_000, 1000):
        batch: list[Call[Any]] = []
        for number in range(start, start + 1000):
            batch += [wire.stream_append(S, b""), wire.stream_group_read(S, G, b"%d" % number)]
        assert {response.status for response in client.pipeline(batch)} == {Status.OK}
    assert group_info(client)["consumer_count"] == 10_000
    client.run(wire.stream_append(S, b""))
    refused(Status.BAD_REQUEST, wire.stream_group_read(S, G, C))
    assert [len(client.run(wire.stream_group_read(S, G, b"7"))), group_info(client)["consumer_count"]] == [1, 10_000]


@pytest.mark.long
def test_a_waiting_reader_past_the_most_consumers_harms_nobody(client: Client, connect: Callable[[], Client]) -> None:
    for start in range(0, 10_000, 1000):
        batch: list[Call[Any]] = []
        for number in range(start, start + 1000):
            batch += [wire.stream_append(S, b""), wire.stream_group_read(S, G, b"%d" % number)]
        assert {response.status for response in client.pipeline(batch)} == {Status.OK}
    one_more = connect()
    one_more.start(wire.stream_group_read(S, G, C, block=0))
    one_more.run(wire.ping())
    assert client.respond(wire.stream_append(S, b"")).status is Status.OK


# Records and ids


def test_append_and_read(client: Client) -> None:
    payloads = [b"", b"one", bytes(range(256)), b"x" * 100_000]
    appended = fill(client, S, payloads)
    assert client.run(wire.stream_read(S)) == [(at, 0, payload) for at, payload in zip(appended, payloads, strict=True)]


def test_ids_are_the_servers_time_and_only_grow(client: Client) -> None:
    before = now()
    single = client.run(wire.stream_append(S, b""))
    assert before <= single.ms <= now()
    appended = [single, *fill(client, S, 3000)]
    assert all(one < other for one, other in itertools.pairwise(appended))
    assert before <= appended[-1].ms <= now() + 1
    read = client.run(wire.stream_read(S, limit=1000))
    while page := client.run(wire.stream_read(S, start=read[-1].id.next(), limit=1000)):
        read += page
    assert ids(read) == appended


def test_an_id_behind_the_last_one(default: Client, resp: RespClient, stream: bytes) -> None:
    ahead = now() + HOUR
    for seq in (0, 5, 2**64 - 2):
        assert resp.command("XADD", stream, f"{ahead}-{seq}", "data", "x") == b"%d-%d" % (ahead, seq)
        assert default.run(wire.stream_append(stream, b"")) == (ahead, seq + 1)
    assert default.run(wire.stream_append(stream, b"")) == (ahead + 1, 0)
    assert default.run(wire.stream_info(stream)).last == (ahead + 1, 0)


def test_there_is_no_id_behind_the_last_of_all(default: Client, resp: RespClient, stream: bytes) -> None:
    # the page does not say how this is refused (the server: BAD_REQUEST); CONFLICT is "a number out of range".
    last = Id(2**64 - 1, 2**64 - 1)
    resp.command("XADD", stream, str(last), "data", "x")
    assert default.respond(wire.stream_append(stream, b"")).status in (Status.BAD_REQUEST, Status.CONFLICT)
    assert ids(default.run(wire.stream_read(stream, start=last, end=last))) == [last]
    assert default.run(wire.stream_read(stream, tail=True)) == []
    assert ids(default.run(wire.stream_group_read(stream, G, C))) == [last]


def test_ids_grow_past_what_was_removed(default: Client, resp: RespClient, stream: bytes) -> None:
    ahead = Id(now() + HOUR, 7)
    resp.command("XADD", stream, str(ahead), "data", "x")
    assert resp.command("XDEL", stream, str(ahead)) == 1
    assert default.run(wire.stream_info(stream)) == (ZERO, ahead, 0, 0, 0)
    assert default.run(wire.stream_append(stream, b"")) == ahead.next()
    assert default.run(wire.stream_trim(stream, max_len=0)) == 1
    assert default.run(wire.stream_append(stream, b"")) == ahead.next().next()


def test_a_missing_stream_reads_as_empty(client: Client) -> None:
    assert client.run(wire.stream_read(S)) == []
    assert client.run(wire.stream_read(S, tail=True)) == []
    assert client.run(wire.stream_read(S, start=Id(1, 1), end=Id(2, 2), block=1)) == []
    assert client.run(wire.stream_info(S)) == NONE
    assert client.run(wire.stream_trim(S, max_len=0)) == 0
    assert client.run(wire.stream_list()) == {"streams": [], "cursor": ""}


def test_the_largest_payload(client: Client, refused: Refused) -> None:
    payload = bytes(16 * MIB)
    at = client.run(wire.stream_append(S, payload))
    refused(Status.BAD_REQUEST, wire.stream_append(S, payload + b"x"))
    refused(Status.BAD_REQUEST, wire.stream_append(S, payload + b"x"), compress=True)
    assert client.run(wire.stream_read(S)) == [(at, 0, payload)]
    assert client.run(wire.stream_info(S)) == (at, at, 1, 16 * MIB, 0)
    client.run(wire.stream_delete(S))


def test_payloads_are_compressed_on_the_way_only(client: Client) -> None:
    payload = b"a long story " * 1000
    at = client.run(wire.stream_append(S, payload), compress=True)
    assert client.run(wire.stream_info(S)).bytes == len(payload)
    call = wire.stream_read(S)
    response = client.respond(call, accept=True)
    assert response.compressed
    assert call.parse(response.payload) == client.run(call) == [(at, 0, payload)]


def test_kinds(default: Client, resp: RespClient, stream: bytes) -> None:
    lists = [
        [(b"a", b"1")],
        [(b"a", b"1"), (b"a", b"2"), (b"", b"")],
        [(b"data", b"x"), (b"data", b"y")],
        [(b"Data", b"x")],
        [(b"\0\r\n\xff", bytes(range(256))), (b"n" * 1000, b"v" * 100_000)],
        [(b"%d" % number, b"%d" % number) for number in range(500)],
    ]
    for number, fields in enumerate(lists):
        resp.command("XADD", stream, f"1-{number}", *itertools.chain(*fields))
    resp.command("XADD", stream, "2-0", "data", b"\0bytes")
    resp.command("XADD", stream, "2-1", "data", b"")
    own = default.run(wire.stream_append(stream, b"own"))
    read = default.run(wire.stream_read(stream))
    assert ids(read) == [*(Id(1, number) for number in range(len(lists))), Id(2, 0), Id(2, 1), own]
    assert [record.kind for record in read] == [1] * len(lists) + [0, 0, 0]
    assert [wire.read_fields(record.payload) for record in read[: len(lists)]] == lists
    assert [record.payload for record in read[len(lists) :]] == [b"\0bytes", b"", b"own"]
    delivered = default.run(wire.stream_group_read(stream, G, C))
    assert [(one.id, one.kind, one.payload) for one in delivered] == read
    assert [(one.id, one.kind, one.payload) for one in default.run(wire.stream_group_claim(stream, G, b"other"))] == read
    assert resp.command("XRANGE", stream, str(own), str(own)) == [[str(own).encode(), [b"data", b"own"]]]


def test_a_payload_that_looks_like_fields_is_bytes(client: Client) -> None:
    payload = struct.pack("<H", 1) + wire.name(b"a") + wire.blob(b"1")
    at = client.run(wire.stream_append(S, payload))
    assert client.run(wire.stream_read(S)) == [(at, 0, payload)]


# Reading


def test_start_and_end_are_included(client: Client) -> None:
    appended = fill(client, S, 10)
    for low, high in itertools.combinations_with_replacement(range(10), 2):
        assert ids(client.run(wire.stream_read(S, start=appended[low], end=appended[high]))) == appended[low : high + 1]
    assert ids(client.run(wire.stream_read(S, start=appended[4]))) == appended[4:]
    assert ids(client.run(wire.stream_read(S, end=appended[4]))) == appended[:5]
    assert ids(client.run(wire.stream_read(S, start=appended[4].next(), end=Id(2**64 - 1, 2**64 - 1)))) == appended[5:]
    assert ids(client.run(wire.stream_read(S, start=ZERO, limit=3))) == appended[:3]
    assert client.run(wire.stream_read(S, start=appended[-1].next())) == []
    assert client.run(wire.stream_read(S, start=appended[5], end=appended[4])) == []  # a guess: not BAD_REQUEST


def test_ids_compare_by_ms_then_seq(default: Client, resp: RespClient, stream: bytes) -> None:
    given = [Id(1, 5), Id(1, 2**63), Id(2, 0), Id(256, 1), Id(2**40, 0)]
    for at in given:
        resp.command("XADD", stream, str(at), "data", "x")
    assert ids(default.run(wire.stream_read(stream))) == given
    assert ids(default.run(wire.stream_read(stream, start=Id(1, 6), end=Id(256, 0)))) == given[1:3]
    assert ids(default.run(wire.stream_read(stream, start=Id(2, 1)))) == given[3:]


def test_limits(client: Client) -> None:
    appended = fill(client, S, 1005)
    assert ids(client.run(wire.stream_read(S))) == appended[:100]
    assert ids(client.run(wire.stream_read(S, limit=1000))) == appended[:1000]
    assert ids(client.run(wire.stream_read(S, limit=1))) == appended[:1]
    assert ids(client.run(wire.stream_group_read(S, G, C))) == appended[:100]
    assert ids(client.run(wire.stream_group_read(S, G, C, limit=1000))) == appended[100:]
    assert ids(client.run(wire.stream_group_read(S, b"two", C, limit=1000))) == appended[:1000]


def test_answers_stop_near_16_mib(client: Client) -> None:
    appended = fill(client, S, [bytes([number]) * (5 * MIB) for number in range(5)])
    first = client.run(wire.stream_read(S))
    assert 1 <= len(first) <= 4
    read = list(first)
    while page := client.run(wire.stream_read(S, start=read[-1].id.next())):
        read += page
    assert [(record.id, len(record.payload)) for record in read] == [(at, 5 * MIB) for at in appended]
    delivered = client.run(wire.stream_group_read(S, G, C))
    assert 1 <= len(delivered) <= 4
    assert group_info(client)["pending"] == len(delivered)
    while page_of_deliveries := client.run(wire.stream_group_read(S, G, C)):
        delivered += page_of_deliveries
    assert counts(delivered) == [(at, 1) for at in appended]
    claimed = client.run(wire.stream_group_claim(S, G, b"other"))
    assert ids(claimed) == appended[: len(claimed)] != []
    client.run(wire.stream_delete(S))


def test_start_excludes_tail(client: Client, refused: Refused) -> None:
    at = client.run(wire.stream_append(S, b""))
    refused(Status.BAD_REQUEST, wire.stream_read(S, start=at, tail=True))
    refused(Status.BAD_REQUEST, wire.stream_read(S, start=at, tail=True, block=1))
    refused(Status.BAD_REQUEST, wire.stream_group_create(S, G, start=at, tail=True))
    assert client.run(wire.stream_info(S)).groups == 0


def test_tail(client: Client, connect: Callable[[], Client]) -> None:
    fill(client, S, 3)
    assert client.run(wire.stream_read(S, tail=True)) == []
    assert client.run(wire.stream_read(S, tail=True, block=20)) == []
    waiting = client.start(wire.stream_read(S, tail=True, block=0))
    appended = connect().run(wire.stream_append(S, b"new"))
    assert client.finish(wire.stream_read(S), waiting) == [(appended, 0, b"new")]


def test_tail_is_behind_what_was_removed(default: Client, resp: RespClient, stream: bytes) -> None:
    ahead = now() + HOUR
    resp.command("XADD", stream, f"{ahead}-5", "data", "x")
    resp.command("XDEL", stream, f"{ahead}-5")
    waiting = default.start(wire.stream_read(stream, tail=True, block=0))
    readers(default, 1)
    assert resp.command("XADD", stream, f"{ahead}-*", "a", "b") == b"%d-6" % ahead
    assert ids(default.finish(wire.stream_read(stream), waiting)) == [Id(ahead, 6)]


# Waiting


def test_block_with_something_there_answers_at_once(client: Client) -> None:
    appended = fill(client, S, 3)
    assert ids(client.run(wire.stream_read(S, block=0))) == appended
    assert ids(client.run(wire.stream_group_read(S, G, C, block=0))) == appended


@pytest.mark.parametrize("made", [False, True])
def test_block_times_out_with_count_0(client: Client, made: bool) -> None:
    if made:
        fill(client, S, 1)
        client.run(wire.stream_group_create(S, G, tail=True))
    requests: list[Call[Any]] = [wire.stream_read(S, tail=True, block=150), wire.stream_group_read(S, G, C, block=150)]
    for call in requests:
        began = time.monotonic()
        assert client.run(call) == []
        assert 0.14 < time.monotonic() - began < 5
    readers(client, 0)


def test_everyone_who_waits_is_woken(client: Client, connect: Callable[[], Client]) -> None:
    watchers = [connect() for _ in range(20)]
    call = wire.stream_read(S, block=0)
    waiting = [(watcher, watcher.start(wire.stream_read(S, block=0, tail=bool(number % 2)))) for number, watcher in enumerate(watchers)]
    waiting += [(client, client.start(call)), (client, client.start(wire.stream_read(S, block=60_000)))]
    readers(client, 22)
    assert client.run(wire.ping(b"not held up")) == b"not held up"
    appended = client.run(wire.stream_append(S, b"wake"))
    for watcher, req_id in waiting:
        assert watcher.finish(call, req_id) == [(appended, 0, b"wake")]
    readers(client, 0)


def test_who_waits_for_an_id_is_woken_by_it_alone(default: Client, resp: RespClient, stream: bytes) -> None:
    call = wire.stream_read(stream, start=Id(10, 5), block=0)
    waiting = default.start(call)
    readers(default, 1)
    for at in (Id(1, 0), Id(10, 4)):
        resp.command("XADD", stream, str(at), "data", "early")
        assert default.run(wire.stream_info(stream)).last == at
        assert default.run(wire.cluster_status())["waiting"] == 1
        assert waiting not in default.responses
    resp.command("XADD", stream, "10-5", "data", "now")
    assert default.finish(call, waiting) == [(Id(10, 5), 0, b"now")]


def test_waiting_for_what_can_not_come_times_out(client: Client) -> None:
    fill(client, S, 2)
    assert client.run(wire.stream_read(S, start=Id(5, 0), end=Id(6, 0), block=30)) == []
    assert client.run(wire.stream_read(S, start=Id(6, 0), end=Id(5, 0), block=30)) == []


def test_following_a_stream(client: Client, connect: Callable[[], Client]) -> None:
    writer = connect()
    total, read, at = 500, [], ZERO
    prepared = [writer.prepare(wire.stream_append(S, b"%d" % number)) for number in range(total)]
    for part in [prepared[first : first + 50] for first in range(0, total, 50)]:
        call = wire.stream_read(S, start=at, block=5000, limit=7)
        waiting = client.start(call)
        writer.send(b"".join(data for _, data in part))
        page = client.finish(call, waiting)
        while page:
            read += [record.payload for record in page]
            at = page[-1].id.next()
            page = client.run(wire.stream_read(S, start=at, limit=7))
        for req_id, _ in part:
            assert writer.response(req_id).status is Status.OK
    while page := client.run(wire.stream_read(S, start=at, limit=1000)):
        read += [record.payload for record in page]
        at = page[-1].id.next()
    assert read == [b"%d" % number for number in range(total)]


def test_group_readers_are_served_in_order_one_record_to_one(client: Client, connect: Callable[[], Client]) -> None:
    waiting = []
    call = wire.stream_group_read(S, G, C, limit=1, block=0)
    for number in range(6):
        reader = connect()
        waiting.append((reader, reader.start(wire.stream_group_read(S, G, b"%d" % number, limit=1, block=0))))
        readers(client, number + 1)
    assert group_info(client)["waiting"] == 6
    first = client.run(wire.stream_append(S, b"first"))
    assert waiting[0][0].finish(call, waiting[0][1]) == [(first, 0, 1, b"first")]
    assert group_info(client)["waiting"] == 5
    rest = fill(client, S, 4)
    for (reader, req_id), at in zip(waiting[1:5], rest, strict=True):
        assert counts(reader.finish(call, req_id)) == [(at, 1)]
    assert group_info(client)["waiting"] == 1
    assert {item["consumer"]: item["id"] for item in pending(client).values()} == {
        str(number): str(at) for number, at in enumerate([first, *rest])
    }


def test_each_group_has_its_own_readers(client: Client, connect: Callable[[], Client]) -> None:
    groups = [b"a", b"b", b"c"]
    waiting = [(one := connect(), one.start(wire.stream_group_read(S, group, C, block=0))) for group in groups]
    readers(client, 3)
    at = client.run(wire.stream_append(S, b""))
    for reader, req_id in waiting:
        assert counts(reader.finish(wire.stream_group_read(S, G, C), req_id)) == [(at, 1)]


def test_a_reader_that_went_away_is_given_nothing(client: Client, connect: Callable[[], Client]) -> None:
    gone, stays = connect(), connect()
    gone.start(wire.stream_group_read(S, G, b"gone", block=0))
    readers(client, 1)
    call = wire.stream_group_read(S, G, b"stays", block=0)
    waiting = stays.start(call)
    readers(client, 2)
    gone.close()
    readers(client, 1)
    at = client.run(wire.stream_append(S, b""))
    assert counts(stays.finish(call, waiting)) == [(at, 1)]


def test_a_waiting_reader_whose_consumer_can_not_be_made_harms_nobody(client: Client, connect: Callable[[], Client]) -> None:
    bad, good = connect(), connect()
    client.run(wire.stream_group_create(S, G))
    bad.start(wire.stream_group_read(S, G, b"n" * 16_001, block=0))  # to be refused: at once, where the server is right
    wait_until(lambda: bad.run(wire.ping(b"x")), "the request has been looked at")
    waiting = good.start(wire.stream_group_read(S, G, C, block=5000))
    wait_until(lambda: group_info(client)["waiting"] >= 1, "a reader", 5)
    response = client.respond(wire.stream_append(S, b"x"))
    records = client.run(wire.stream_info(S)).records
    assert (response.status, records) == (Status.OK, 1)
    assert counts(good.finish(wire.stream_group_read(S, G, C), waiting)) == [(wire.read_id(response.payload), 1)]


def test_a_waiting_reader_takes_what_runs_out_or_is_given_back(client: Client, connect: Callable[[], Client]) -> None:
    reader = connect()
    client.run(wire.stream_group_create(S, G, ack_timeout=150))
    at = client.run(wire.stream_append(S, b""))
    client.run(wire.stream_group_read(S, G, b"slow"))
    call = wire.stream_group_read(S, G, C, block=0)
    assert counts(reader.run(call)) == [(at, 2)]
    assert client.run(wire.stream_group_touch(S, G, [at], lease=HOUR)) == 1
    for number, delay in ((3, None), (4, 100)):
        waiting = reader.start(call)
        readers(client, 1)
        began = time.monotonic()
        assert client.run(wire.stream_group_nack(S, G, [at], delay=delay)) == 1
        assert counts(reader.finish(call, waiting)) == [(at, number)]
        assert time.monotonic() - began >= (delay or 0) / 1000 - 0.01
        client.run(wire.stream_group_touch(S, G, [at], lease=HOUR))


@pytest.mark.parametrize("end", ["stream_group_delete", "stream_delete"])
def test_a_wait_ends_with_the_group(client: Client, connect: Callable[[], Client], end: str) -> None:
    at = client.run(wire.stream_append(S, b""))
    client.run(wire.stream_group_create(S, G, tail=True))
    client.run(wire.stream_group_create(S, b"other", tail=True))
    waiting = [(one := connect(), one.start(wire.stream_group_read(S, G, b"%d" % number, block=0))) for number in range(3)]
    apart = connect()
    apart_id = apart.start(wire.stream_group_read(S, b"other", C, block=0))
    readers(client, 4)
    client.run(calls()[end])
    for reader, req_id in waiting:
        response = reader.response(req_id)
        assert response.status is Status.NOT_FOUND
        assert response.payload
        assert reader.run(wire.ping(b"x")) == b"x"
    if end == "stream_delete":
        assert apart.response(apart_id).status is Status.NOT_FOUND
        assert client.run(wire.stream_list())["streams"] == []
    else:
        new = client.run(wire.stream_append(S, b""))
        assert counts(apart.finish(wire.stream_group_read(S, G, C), apart_id)) == [(new, 1)]
        assert ids(client.run(wire.stream_read(S))) == [at, new]
        assert client.run(wire.stream_info(S)).groups == 1


def test_stream_read_waits_on_where_the_stream_is_deleted(client: Client, connect: Callable[[], Client]) -> None:
    # a guess: a missing stream reads as empty, so there is nothing to answer yet.
    reader = connect()
    client.run(wire.stream_create(S))
    call = wire.stream_read(S, block=0)
    waiting = reader.start(call)
    readers(client, 1)
    client.run(wire.stream_delete(S))
    at = client.run(wire.stream_append(S, b"again"))
    assert reader.finish(call, waiting) == [(at, 0, b"again")]


def test_waits_end_with_the_namespace(client: Client, connect: Callable[[], Client]) -> None:
    reader = connect()
    waiting = reader.start(wire.stream_read(S, block=0))
    readers(client, 1)
    client.run(wire.namespace_delete(client.namespace or ""))
    assert reader.response(waiting).status is Status.NOT_FOUND


def test_a_namespace_with_a_stream_is_not_empty(client: Client, refused: Refused) -> None:
    name = client.namespace or ""
    fill(client, S, 3)
    info = client.run(wire.namespace_info(name))
    assert (info["streams"], info["records"], info["keys"], info["queues"]) == (1, 3, 0, 0)
    refused(Status.CONFLICT, wire.namespace_delete(name))
    client.run(wire.stream_delete(S))
    client.run(wire.namespace_delete(name))


def test_streams_of_namespaces_are_apart(client: Client, refused: Refused) -> None:
    client.run(wire.stream_append(S, b"here"))
    other = f"{client.namespace}-other"
    client.run(wire.namespace_create(other))
    assert client.run(wire.stream_read(S), namespace=other) == []
    client.run(wire.stream_delete(S), namespace=other)
    assert len(client.run(wire.stream_read(S))) == 1
    for call in calls().values():
        refused(Status.BAD_REQUEST, call, namespace="no-such")


def test_what_waits_when_the_sending_side_is_shut_is_not_answered(client: Client, connect: Callable[[], Client]) -> None:
    reader = connect()
    reader.start(wire.stream_read(S, block=0))
    reader.start(wire.stream_group_read(S, G, C, block=0))
    done = reader.start(wire.stream_append(b"another", b""))
    reader.shutdown()
    assert reader.response(done).status is Status.OK
    assert reader.at_end()
    assert not reader.responses
    client.run(wire.stream_append(S, b""))
    assert len(client.run(wire.stream_group_read(S, G, C))) == 1


# stream_create


def test_stream_create(client: Client, refused: Refused) -> None:
    client.run(wire.stream_create(S))
    assert client.run(wire.stream_info(S)) == NONE
    assert client.run(wire.stream_read(S)) == []
    refused(Status.CONFLICT, wire.stream_create(S))
    refused(Status.CONFLICT, wire.stream_create(S, max_len=1))
    fill(client, S, 200)
    assert client.run(wire.stream_info(S)).records == 200
    client.run(wire.stream_append(b"appended", b""))
    client.run(wire.stream_group_create(b"group made", G))
    client.run(wire.stream_group_read(b"group read", G, C))
    for name in (b"appended", b"group made", b"group read"):
        refused(Status.CONFLICT, wire.stream_create(name))
    client.run(wire.stream_delete(b"appended"))
    client.run(wire.stream_create(b"appended", max_len=1))


def test_max_len_is_kept_to(client: Client) -> None:
    client.run(wire.stream_create(S, max_len=5, max_age=0, max_bytes=0))
    appended = fill(client, S, 12)
    assert ids(client.run(wire.stream_read(S))) == appended[-5:]
    assert client.run(wire.stream_info(S)) == (appended[-5], appended[-1], 5, 7, 0)


def test_max_bytes_is_kept_to(client: Client) -> None:
    client.run(wire.stream_create(S, max_len=0, max_bytes=100))
    appended = fill(client, S, [b"x" * 30] * 10)
    assert ids(client.run(wire.stream_read(S))) == appended[-3:]
    assert client.run(wire.stream_info(S)).bytes == 90
    exact = client.run(wire.stream_append(S, bytes(100)))
    assert ids(client.run(wire.stream_read(S))) == [exact]
    over = client.run(wire.stream_append(S, bytes(101)))
    assert client.run(wire.stream_info(S)) == (ZERO, over, 0, 0, 0)


@pytest.mark.slow
def test_max_age_is_kept_to(client: Client) -> None:
    client.run(wire.stream_create(S, max_age=1))
    old = client.run(wire.stream_append(S, b"old"))
    assert len(client.run(wire.stream_read(S))) == 1
    wait_until(lambda: not client.run(wire.stream_read(S)), "the end of what is too old", 10)
    assert now() - old.ms >= 1000
    assert client.run(wire.stream_info(S)) == (ZERO, old, 0, 0, 0)


def test_bounds_hold_for_what_is_added_over_resp(default: Client, resp: RespClient, stream: bytes) -> None:
    default.run(wire.stream_create(stream, max_len=3, max_bytes=20))
    added = [resp.command("XADD", stream, "*", "a", "1") for _ in range(6)]  # 10 bytes each, in the page's layout
    read = default.run(wire.stream_read(stream))
    assert [str(record.id).encode() for record in read] == added[-2:]
    assert default.run(wire.stream_info(stream)).bytes == sum(len(record.payload) for record in read) == 20


def test_what_bounds_removed_is_delivered_no_more(client: Client) -> None:
    client.run(wire.stream_create(S, max_len=2))
    first = fill(client, S, 2)
    client.run(wire.stream_group_read(S, G, C))
    client.run(wire.stream_group_nack(S, G, first))
    later = fill(client, S, 1)
    assert counts(client.run(wire.stream_group_read(S, G, b"other"))) == [(first[1], 2), (later[0], 1)]


def test_all_bounds_at_once(client: Client) -> None:
    client.run(wire.stream_create(S, max_len=4, max_age=3600, max_bytes=20))
    appended = fill(client, S, [b"x"] * 10)
    assert ids(client.run(wire.stream_read(S))) == appended[-4:]
    appended += fill(client, S, [b"x" * 9] * 3)
    assert ids(client.run(wire.stream_read(S))) == appended[-2:]
    [item] = client.run(wire.stream_list())["streams"]
    assert (item["max_len"], item["max_age_ms"], item["max_bytes"]) == (4, 3_600_000, 20)


@pytest.mark.parametrize("bound", ["max_len", "max_age", "max_bytes"])
def test_bounds_without_bounds(client: Client, bound: str) -> None:
    for number in (2**63, 2**64 - 1):
        response = client.respond(wire.stream_create(b"%d" % number, **only(bound, number)))
        assert response.status in (Status.OK, Status.BAD_REQUEST)
        client.run(wire.stream_append(b"%d" % number, b"x"))
        assert client.run(wire.stream_trim(b"%d" % number, **only(bound, number))) == 0
        assert client.run(wire.stream_info(b"%d" % number)).records == 1


# stream_trim


def test_trim_needs_a_bound(client: Client, refused: Refused) -> None:
    fill(client, S, 3)
    refused(Status.BAD_REQUEST, wire.stream_trim(S))
    refused(Status.BAD_REQUEST, wire.stream_trim(S, dry_run=True))
    assert client.run(wire.stream_info(S)).records == 3


@pytest.mark.parametrize("bound", ["max_len", "max_age", "max_bytes"])
def test_trim_to_0_leaves_nothing(client: Client, bound: str) -> None:
    appended = fill(client, S, 5)
    wait_until(lambda: now() > appended[-1].ms, "a later millisecond", 5)
    assert client.run(wire.stream_trim(S, **only(bound, 0), dry_run=True)) == 5
    assert client.run(wire.stream_trim(S, **only(bound, 0))) == 5
    assert client.run(wire.stream_info(S)) == (ZERO, appended[-1], 0, 0, 0)
    assert client.run(wire.stream_trim(S, **only(bound, 0))) == 0


@pytest.mark.parametrize("bound", ["max_len", "max_age", "max_bytes"])
def test_trim_to_0_leaves_nothing_at_once(client: Client, bound: str) -> None:
    for _ in range(20):
        append, trim, info = client.pipeline([wire.stream_append(S, b"x"), wire.stream_trim(S, **only(bound, 0)), wire.stream_info(S)])
        assert append.status is Status.OK
        assert wire.read_u64(trim.payload) == 1
        assert wire.read_stream_info(info.payload).records == 0


def test_trim_to_0_bytes_leaves_nothing_without_bytes(client: Client) -> None:
    fill(client, S, [b"", b""])
    assert client.run(wire.stream_trim(S, max_bytes=0)) == 2


def test_trim_by_start(client: Client) -> None:
    appended = fill(client, S, 10)
    assert client.run(wire.stream_trim(S, start=appended[0])) == 0
    assert client.run(wire.stream_trim(S, start=appended[4], dry_run=True)) == 4
    assert client.run(wire.stream_info(S)).records == 10
    assert client.run(wire.stream_trim(S, start=appended[4])) == 4
    assert ids(client.run(wire.stream_read(S))) == appended[4:]
    assert client.run(wire.stream_trim(S, start=Id(1, 1))) == 0
    assert client.run(wire.stream_trim(S, start=appended[-1].next())) == 6
    assert client.run(wire.stream_info(S)).last == appended[-1]


def test_trim_by_age(default: Client, resp: RespClient, stream: bytes) -> None:
    # that a record is as old as its id says is a guess.
    here = now()
    for seconds in (7200, 3700, 3500, 100):
        resp.command("XADD", stream, f"{here - seconds * 1000}-0", "data", "x")
    last = default.run(wire.stream_append(stream, b"x"))
    assert default.run(wire.stream_trim(stream, max_age=10_000)) == 0
    assert default.run(wire.stream_trim(stream, max_age=3600, dry_run=True)) == 2
    assert default.run(wire.stream_trim(stream, max_age=3600)) == 2
    assert default.run(wire.stream_trim(stream, max_age=3600)) == 0
    assert default.run(wire.stream_trim(stream, max_age=50)) == 2
    assert ids(default.run(wire.stream_read(stream))) == [last]


def test_trims_combined(client: Client) -> None:
    chance = random.Random(20260)
    for round_ in range(60):
        name = b"%d" % round_
        payloads = [bytes(chance.randrange(40)) for _ in range(chance.randrange(1, 25))]
        appended = fill(client, name, payloads)
        bounds: dict[str, Any] = {}
        removed = 0
        if chance.random() < 0.5:
            keep = bounds["max_len"] = chance.randrange(30)
            removed = max(removed, len(payloads) - keep)
        if chance.random() < 0.5:
            keep = bounds["max_bytes"] = chance.randrange(1, 500)
            removed = max(removed, next(cut for cut in range(len(payloads) + 1) if sum(map(len, payloads[cut:])) <= keep))
        if chance.random() < 0.5 or not bounds:
            cut = chance.randrange(len(payloads))
            bounds["start"] = appended[cut]
            removed = max(removed, cut)
        if chance.random() < 0.3:
            bounds["max_age"] = 3600
        assert client.run(wire.stream_trim(name, **bounds, dry_run=True)) == removed, bounds
        assert client.run(wire.stream_info(name)).records == len(payloads)
        assert client.run(wire.stream_trim(name, **bounds)) == removed, bounds
        assert ids(client.run(wire.stream_read(name))) == appended[removed:]
        info = client.run(wire.stream_info(name))
        left = appended[removed:]
        assert info == (left[0] if left else ZERO, appended[-1], len(left), sum(map(len, payloads[removed:])), 0)


def test_stream_info(client: Client) -> None:
    appended = fill(client, S, [b"one", b"three", b""])
    client.run(wire.stream_group_create(S, b"a"))
    client.run(wire.stream_group_create(S, b"b"))
    assert client.run(wire.stream_info(S)) == (appended[0], appended[-1], 3, 8, 2)
    client.run(wire.stream_group_delete(S, b"a"))
    assert client.run(wire.stream_info(S)).groups == 1


def test_stream_delete(client: Client, refused: Refused) -> None:
    client.run(wire.stream_delete(S))
    fill(client, S, 3)
    client.run(wire.stream_group_read(S, G, C))
    client.run(wire.stream_delete(S))
    client.run(wire.stream_delete(S))
    assert client.run(wire.stream_info(S)) == NONE
    assert client.run(wire.stream_read(S)) == []
    refused(Status.NOT_FOUND, wire.stream_group_info(S, G))
    at = client.run(wire.stream_append(S, b"new"))
    assert counts(client.run(wire.stream_group_read(S, G, C))) == [(at, 1)]


# Groups: making them, and the cursor


def test_group_read_makes_what_is_missing(client: Client) -> None:
    assert client.run(wire.stream_group_read(S, G, C)) == []
    assert client.run(wire.stream_info(S)) == (ZERO, ZERO, 0, 0, 1)
    info = group_info(client)
    assert (info["name"], info["made_by"], info["ack_timeout_ms"], info["max_deliver"]) == ("group", "flo", 30_000, 10)
    assert (info["lag"], info["pending"], info["last_id"]) == (0, 0, "0-0")


def test_group_read_makes_no_consumer_with_nothing_to_deliver(client: Client) -> None:
    assert client.run(wire.stream_group_read(S, G, C)) == []
    info = group_info(client)
    assert [info["consumer_count"], [one["name"] for one in info["consumers"]]] == [0, []]


def test_a_made_group_begins_with_the_first_record(client: Client) -> None:
    appended = fill(client, S, 5)
    assert ids(client.run(wire.stream_group_read(S, G, C, limit=3))) == appended[:3]
    assert ids(client.run(wire.stream_group_read(S, G, b"other"))) == appended[3:]
    assert client.run(wire.stream_group_read(S, G, C)) == []
    assert [one["name"] for one in group_info(client)["consumers"]] == ["consumer", "other"]


def test_group_create(client: Client, refused: Refused) -> None:
    client.run(wire.stream_group_create(S, G))
    assert client.run(wire.stream_info(S)) == (ZERO, ZERO, 0, 0, 1)
    refused(Status.CONFLICT, wire.stream_group_create(S, G))
    refused(Status.CONFLICT, wire.stream_group_create(S, G, tail=True, ack_timeout=5))
    client.run(wire.stream_group_read(b"made by reading", G, C))
    refused(Status.CONFLICT, wire.stream_group_create(b"made by reading", G))
    info = group_info(client)
    assert (info["ack_timeout_ms"], info["max_deliver"], info["consumer_count"], info["consumers"]) == (30_000, 10, 0, [])
    client.run(wire.stream_group_create(S, b"other", ack_timeout=1234, max_deliver=7))
    info = group_info(client, S, b"other")
    assert (info["name"], info["ack_timeout_ms"], info["max_deliver"]) == ("other", 1234, 7)
    client.run(wire.stream_group_delete(S, G))
    client.run(wire.stream_group_create(S, G, ack_timeout=0, max_deliver=0))
    info = group_info(client)
    assert (info["ack_timeout_ms"], info["max_deliver"]) == (0, 0)


def test_where_a_group_begins(client: Client) -> None:
    appended = fill(client, S, 6)
    client.run(wire.stream_group_create(S, b"first"))
    client.run(wire.stream_group_create(S, b"zero", start=ZERO))
    client.run(wire.stream_group_create(S, b"third", start=appended[2]))
    client.run(wire.stream_group_create(S, b"behind", start=appended[-1].next()))
    client.run(wire.stream_group_create(S, b"tail", tail=True))
    ahead = Id(now() + HOUR, 0)
    client.run(wire.stream_group_create(S, b"ahead", start=ahead))
    new = client.run(wire.stream_append(S, b""))
    expected = {b"first": [*appended, new], b"zero": [*appended, new], b"third": [*appended[2:], new], b"behind": [new], b"tail": [new]}
    for name, records in expected.items():
        assert ids(client.run(wire.stream_group_read(S, name, C))) == records, name
    assert client.run(wire.stream_group_read(S, b"ahead", C)) == []


def test_groups_are_apart(client: Client) -> None:
    appended = fill(client, S, 3)
    for name in (b"a", b"b"):
        assert counts(client.run(wire.stream_group_read(S, name, C))) == [(at, 1) for at in appended]
    assert client.run(wire.stream_group_ack(S, b"a", appended)) == 3
    assert (pending(client, S, b"a"), len(pending(client, S, b"b"))) == ({}, 3)
    client.run(wire.stream_group_delete(S, b"a"))
    assert len(pending(client, S, b"b")) == 3
    assert counts(client.run(wire.stream_group_read(S, b"a", C))) == [(at, 1) for at in appended]


def test_no_ack(client: Client, connect: Callable[[], Client]) -> None:
    appended = fill(client, S, 3)
    assert counts(client.run(wire.stream_group_read(S, G, C, no_ack=True, limit=2))) == [(at, 1) for at in appended[:2]]
    assert pending(client) == {}
    assert client.run(wire.stream_group_ack(S, G, appended)) == 0
    assert counts(client.run(wire.stream_group_read(S, G, C))) == [(appended[2], 1)]
    reader = connect()
    call = wire.stream_group_read(S, G, C, no_ack=True, block=0)
    waiting = reader.start(call)
    readers(client, 1)
    new = client.run(wire.stream_append(S, b""))
    assert counts(reader.finish(call, waiting)) == [(new, 1)]
    assert list(pending(client)) == [str(appended[2])]


def test_no_ack_of_what_was_given_back(client: Client) -> None:
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    client.run(wire.stream_group_nack(S, G, [at]))
    assert counts(client.run(wire.stream_group_read(S, G, C, no_ack=True))) == [(at, 2)]
    assert pending(client) == {}
    assert client.run(wire.stream_group_read(S, G, C)) == []


def test_a_group_that_redis_made(default: Client, resp: RespClient, stream: bytes) -> None:
    at = default.run(wire.stream_append(stream, b"x"))
    assert resp.command("XGROUP", "CREATE", stream, "g", "0") == b"OK"
    info = group_info(default, stream, b"g")
    assert (info["made_by"], info["ack_timeout_ms"], info["max_deliver"]) == ("xgroup", 0, 0)
    with pytest.raises(WireError, match="CONFLICT"):
        default.run(wire.stream_group_create(stream, b"g"))
    assert counts(default.run(wire.stream_group_read(stream, b"g", C))) == [(at, 1)]
    assert pending(default, stream, b"g")[str(at)]["deadline"] == 0
    for number in range(2, 25):
        assert default.run(wire.stream_group_nack(stream, b"g", [at])) == 1
        assert counts(default.run(wire.stream_group_read(stream, b"g", C))) == [(at, number)]
    assert default.run(wire.stream_group_touch(stream, b"g", [at], lease=1)) == 1
    assert counts(until(lambda: default.run(wire.stream_group_read(stream, b"g", C)))) == [(at, 25)]
    assert default.run(wire.stream_group_touch(stream, b"g", [at])) == 1
    assert pending(default, stream, b"g")[str(at)]["deadline"] == 0
    assert resp.command("XACK", stream, "g", str(at)) == 1
    assert pending(default, stream, b"g") == {}


def test_a_group_of_flo_over_resp(default: Client, resp: RespClient, stream: bytes) -> None:
    at = default.run(wire.stream_append(stream, b"x"))
    default.run(wire.stream_group_create(stream, G))
    reply = resp.command("XREADGROUP", "GROUP", G, "over resp", "STREAMS", stream, ">")
    assert reply == [[stream, [[str(at).encode(), [b"data", b"x"]]]]]
    item = pending(default, stream)[str(at)]
    assert (item["consumer"], item["deliveries"]) == ("over resp", 1)
    assert default.run(wire.stream_group_ack(stream, G, [at])) == 1


# Groups: acknowledging


def test_ack(client: Client) -> None:
    appended = fill(client, S, 5)
    client.run(wire.stream_group_read(S, G, C, limit=4))
    assert client.run(wire.stream_group_ack(S, G, [appended[0], appended[2], appended[4], Id(1, 1)])) == 2
    assert list(pending(client)) == [str(appended[1]), str(appended[3])]
    assert client.run(wire.stream_group_ack(S, G, [appended[0]])) == 0
    assert client.run(wire.stream_group_ack(S, G, [appended[1], appended[1]])) == 1
    assert client.run(wire.stream_info(S)).records == 5
    assert counts(client.run(wire.stream_group_read(S, G, C))) == [(appended[4], 1)]


def test_ack_of_what_was_given_back(client: Client) -> None:
    appended = fill(client, S, 2)
    client.run(wire.stream_group_read(S, G, C))
    assert client.run(wire.stream_group_nack(S, G, appended)) == 2
    assert client.run(wire.stream_group_ack(S, G, appended[:1])) == 1
    assert counts(client.run(wire.stream_group_read(S, G, C))) == [(appended[1], 2)]


def test_what_is_not_acknowledged_in_time_goes_to_whoever_reads_next(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, ack_timeout=800))
    appended = fill(client, S, 3)
    began = time.monotonic()
    assert counts(client.run(wire.stream_group_read(S, G, b"slow", limit=2))) == [(at, 1) for at in appended[:2]]
    assert client.run(wire.stream_group_ack(S, G, appended[:1])) == 1
    [again] = until(lambda: client.run(wire.stream_group_read(S, G, b"quick", limit=1)) if time.monotonic() - began > 0.85 else [])
    assert (again.id, again.deliveries) == (appended[1], 2)
    item = pending(client)[str(appended[1])]
    assert (item["consumer"], item["deliveries"]) == ("quick", 2)
    assert counts(client.run(wire.stream_group_read(S, G, b"quick"))) == [(appended[2], 1)]


def test_ack_timeout_counts_from_the_delivery(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, ack_timeout=150))
    [at] = fill(client, S, 1)
    delivered = time.monotonic()
    assert counts(client.run(wire.stream_group_read(S, G, C))) == [(at, 1)]
    for number in (2, 3):
        assert counts(until(lambda: client.run(wire.stream_group_read(S, G, C)))) == [(at, number)]
        assert time.monotonic() - delivered >= 0.145
        item = pending(client)[str(at)]
        assert item["deadline"] - item["delivered_at"] == 150
        delivered = time.monotonic() - (now() - item["delivered_at"]) / 1000


def test_ack_timeout_0_is_never(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, ack_timeout=0))
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    assert pending(client)[str(at)]["deadline"] == 0
    assert client.run(wire.stream_group_read(S, G, b"other", block=100)) == []


def test_what_ran_out_comes_before_what_is_new(client: Client) -> None:
    appended = fill(client, S, 6)
    client.run(wire.stream_group_read(S, G, C, limit=3))
    client.run(wire.stream_group_nack(S, G, [appended[0], appended[2]]))
    assert counts(client.run(wire.stream_group_read(S, G, b"other", limit=4))) == [
        (appended[0], 2), (appended[2], 2), (appended[3], 1), (appended[4], 1),
    ]  # fmt: skip
    assert counts(client.run(wire.stream_group_read(S, G, b"other"))) == [(appended[5], 1)]


# Groups: giving back


def test_nack(client: Client) -> None:
    appended = fill(client, S, 3)
    client.run(wire.stream_group_read(S, G, C))
    assert client.run(wire.stream_group_nack(S, G, [appended[1], Id(1, 1)])) == 1
    item = pending(client)[str(appended[1])]
    assert 0 < item["deadline"] <= now()
    assert counts(client.run(wire.stream_group_read(S, G, b"other"))) == [(appended[1], 2)]
    assert pending(client)[str(appended[1])]["consumer"] == "other"
    assert client.run(wire.stream_group_ack(S, G, appended)) == 3
    assert client.run(wire.stream_group_nack(S, G, appended)) == 0


def test_nack_with_delay(client: Client) -> None:
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    before = now()
    assert client.run(wire.stream_group_nack(S, G, [at], delay=250)) == 1
    assert before + 250 <= pending(client)[str(at)]["deadline"] <= now() + 250
    assert client.run(wire.stream_group_read(S, G, C)) == []
    assert counts(until(lambda: client.run(wire.stream_group_read(S, G, C)))) == [(at, 2)]
    assert now() >= before + 250
    assert client.run(wire.stream_group_nack(S, G, [at], delay=0)) == 1
    assert counts(client.run(wire.stream_group_read(S, G, C))) == [(at, 3)]


def test_nack_and_touch_of_a_consumer(client: Client) -> None:
    appended = fill(client, S, 4)
    client.run(wire.stream_group_read(S, G, b"a", limit=2))
    client.run(wire.stream_group_read(S, G, b"b", limit=2))
    before = pending(client)
    assert client.run(wire.stream_group_touch(S, G, appended, consumer=b"a", lease=HOUR)) == 2
    after = pending(client)
    assert [after[str(at)]["deadline"] > before[str(at)]["deadline"] for at in appended] == [True, True, False, False]
    assert client.run(wire.stream_group_nack(S, G, appended, consumer=b"b")) == 2
    assert client.run(wire.stream_group_nack(S, G, appended, consumer=b"nobody")) == 0
    assert client.run(wire.stream_group_touch(S, G, appended, consumer=b"nobody")) == 0
    assert counts(client.run(wire.stream_group_read(S, G, b"c"))) == [(at, 2) for at in appended[2:]]
    assert client.run(wire.stream_group_nack(S, G, appended, consumer=b"b")) == 0
    assert client.run(wire.stream_group_nack(S, G, appended, consumer=b"c")) == 2


def test_touch(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, ack_timeout=60_000))
    appended = fill(client, S, 3)
    client.run(wire.stream_group_read(S, G, C, limit=2))
    for lease, most in ((HOUR, HOUR), (None, 60_000)):
        before = now()
        assert client.run(wire.stream_group_touch(S, G, [*appended, Id(1, 1)], lease=lease)) == 2
        for item in pending(client).values():
            assert before + most <= item["deadline"] <= now() + most
            assert item["deliveries"] == 1
    assert client.run(wire.stream_group_touch(S, G, appended[:1], lease=1)) == 1
    wait_until(lambda: pending(client)[str(appended[0])]["deadline"] < now(), "the end of a lease", 5)
    assert counts(client.run(wire.stream_group_read(S, G, C))) == [(appended[0], 2), (appended[2], 1)]


def test_touch_lets_a_delivery_run_out_sooner(client: Client) -> None:
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    assert client.run(wire.stream_group_touch(S, G, [at], lease=50)) == 1
    assert counts(until(lambda: client.run(wire.stream_group_read(S, G, b"other")))) == [(at, 2)]
    item = pending(client)[str(at)]
    assert item["deadline"] - item["delivered_at"] == 30_000


def test_touch_keeps_a_delivery(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, ack_timeout=300))
    kept, lost = fill(client, S, 2)
    client.run(wire.stream_group_read(S, G, C))
    assert client.run(wire.stream_group_touch(S, G, [kept], lease=HOUR)) == 1
    assert counts(until(lambda: client.run(wire.stream_group_read(S, G, b"other")))) == [(lost, 2)]
    assert pending(client)[str(kept)]["consumer"] == "consumer"


# Groups: dead letters


def test_what_is_given_back_too_often_is_dead(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, max_deliver=3))
    appended = fill(client, S, 2)
    for number in range(1, 4):
        assert counts(client.run(wire.stream_group_read(S, G, C))) == [(at, number) for at in (appended if number == 1 else appended[:1])]
        assert client.run(wire.stream_group_nack(S, G, appended[:1])) == 1
    assert client.run(wire.stream_group_read(S, G, C)) == []
    info = group_info(client)
    assert (info["dead"], info["pending"], info["dead_evicted"]) == (1, 1, 0)
    answer = client.run(wire.stream_group_pending(S, G))
    [letter] = answer["dead"]
    assert (letter["id"], letter["consumer"], letter["deliveries"]) == (str(appended[0]), "consumer", 3)
    assert now() - 10_000 < letter["died_at"] <= now()
    assert (answer["dead_count"], answer["pending_count"]) == (1, 1)
    assert ids(client.run(wire.stream_read(S))) == appended


def test_a_record_is_dead_after_10_deliveries(client: Client) -> None:
    [at] = fill(client, S, 1)
    for number in range(1, 11):
        assert counts(client.run(wire.stream_group_read(S, G, C))) == [(at, number)]
        assert dead(client) == []
        assert client.run(wire.stream_group_nack(S, G, [at])) == 1
    assert dead(client) == [str(at)]


def test_max_deliver_0_is_no_bound(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, max_deliver=0))
    [at] = fill(client, S, 1)
    for number in range(1, 40):
        assert counts(client.run(wire.stream_group_read(S, G, C))) == [(at, number)]
        client.run(wire.stream_group_nack(S, G, [at]))
    assert dead(client) == []


def test_what_runs_out_too_often_is_dead(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, ack_timeout=50, max_deliver=2))
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    assert counts(until(lambda: client.run(wire.stream_group_read(S, G, b"other")))) == [(at, 2)]
    # nobody reads, and it dies all the same.
    wait_until(lambda: group_info(client)["dead"] == 1, "a dead letter", 10)
    assert (dead(client), pending(client)) == ([str(at)], {})
    assert client.run(wire.stream_group_read(S, G, C)) == []


def test_ack_of_a_dead_letter_deletes_it(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, max_deliver=1))
    appended = fill(client, S, 3)
    client.run(wire.stream_group_read(S, G, C))
    assert client.run(wire.stream_group_nack(S, G, appended)) == 3
    assert dead(client) == [str(at) for at in appended]
    assert client.run(wire.stream_group_ack(S, G, appended[:2])) == 2
    assert dead(client) == [str(appended[2])]
    assert client.run(wire.stream_group_ack(S, G, appended[:2])) == 0
    assert (group_info(client)["dead"], group_info(client)["dead_evicted"]) == (1, 0)
    assert client.run(wire.stream_group_read(S, G, C)) == []


def test_nack_of_a_dead_letter_delivers_it_anew(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, max_deliver=2))
    [at] = fill(client, S, 1)
    for _ in range(2):
        for number in (1, 2):
            assert counts(client.run(wire.stream_group_read(S, G, C))) == [(at, number)]
            assert client.run(wire.stream_group_nack(S, G, [at])) == 1
        assert dead(client) == [str(at)]
        assert client.run(wire.stream_group_nack(S, G, [at])) == 1
        assert dead(client) == []


def test_nack_of_a_dead_letter_wakes_a_reader(client: Client, connect: Callable[[], Client]) -> None:
    client.run(wire.stream_group_create(S, G, max_deliver=1))
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    client.run(wire.stream_group_nack(S, G, [at]))
    reader = connect()
    call = wire.stream_group_read(S, G, C, block=0)
    waiting = reader.start(call)
    readers(client, 1)
    before = time.monotonic()
    assert client.run(wire.stream_group_nack(S, G, [at], delay=100)) == 1
    assert counts(reader.finish(call, waiting)) == [(at, 1)]
    assert time.monotonic() - before >= 0.09


def test_a_dead_letter_can_not_be_touched_or_claimed(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, max_deliver=1))
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    client.run(wire.stream_group_nack(S, G, [at]))
    assert client.run(wire.stream_group_touch(S, G, [at], lease=HOUR)) == 0
    assert client.run(wire.stream_group_claim(S, G, b"other")) == []
    assert dead(client) == [str(at)]


@pytest.mark.slow
def test_10000_dead_letters_are_kept(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, max_deliver=1))
    appended = fill(client, S, [b""] * 10_050)
    for start in range(0, 10_050, 1000):
        part = appended[start : start + 1000]
        assert ids(client.run(wire.stream_group_read(S, G, C, limit=1000))) == part
        assert client.run(wire.stream_group_nack(S, G, part)) == len(part)
    info = group_info(client)
    assert (info["dead"], info["dead_evicted"], info["pending"]) == (10_000, 50, 0)
    answer = client.run(wire.stream_group_pending(S, G))
    assert (answer["dead_count"], answer["dead_evicted"], answer["pending_count"]) == (10_000, 50, 0)
    assert [letter["id"] for letter in answer["dead"]] == [str(at) for at in appended[50:1050]]
    assert client.run(wire.stream_group_nack(S, G, appended[:51])) == 1
    assert counts(client.run(wire.stream_group_read(S, G, C))) == [(appended[50], 1)]
    assert client.run(wire.stream_group_ack(S, G, appended[50:10_050])) == 10_000


# Groups: claiming


def test_claim(client: Client) -> None:
    appended = fill(client, S, 4)
    client.run(wire.stream_group_read(S, G, b"a", limit=2))
    client.run(wire.stream_group_read(S, G, b"b", limit=1))
    assert client.run(wire.stream_group_claim(S, G, b"c", min_idle=HOUR)) == []
    assert counts(client.run(wire.stream_group_claim(S, G, b"c", limit=1))) == [(appended[0], 2)]
    assert counts(client.run(wire.stream_group_claim(S, G, b"d", min_idle=0))) == [(appended[0], 3), (appended[1], 2), (appended[2], 2)]
    assert {item["consumer"] for item in pending(client).values()} == {"d"}
    assert [one["name"] for one in group_info(client)["consumers"] if one["pending"]] == ["d"]
    assert counts(client.run(wire.stream_group_read(S, G, b"a"))) == [(appended[3], 1)]


def test_claim_answers_100(client: Client) -> None:
    # a guess: the page gives the limit of claim nowhere.
    appended = fill(client, S, 150)
    client.run(wire.stream_group_read(S, G, b"a", limit=1000))
    assert ids(client.run(wire.stream_group_claim(S, G, C))) == appended[:100]
    assert ids(client.run(wire.stream_group_claim(S, G, C, limit=1000))) == appended


def test_claim_with_min_idle(client: Client) -> None:
    first = client.run(wire.stream_append(S, b""))
    client.run(wire.stream_group_read(S, G, b"a"))
    delivered = pending(client)[str(first)]["delivered_at"]
    claimed = until(lambda: client.run(wire.stream_group_claim(S, G, C, min_idle=150)))
    assert counts(claimed) == [(first, 2)]
    assert now() >= delivered + 150
    second = client.run(wire.stream_append(S, b""))
    client.run(wire.stream_group_read(S, G, b"a"))
    assert client.run(wire.stream_group_claim(S, G, C, min_idle=10_000)) == []
    assert list(pending(client)) == [str(first), str(second)]


def test_claim_begins_the_time_anew(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, ack_timeout=60_000))
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, b"a"))
    client.run(wire.stream_group_touch(S, G, [at], lease=HOUR))
    before = now()
    client.run(wire.stream_group_claim(S, G, C))
    item = pending(client)[str(at)]
    assert before <= item["delivered_at"] <= now()
    assert item["deadline"] == item["delivered_at"] + 60_000


def test_claim_is_of_what_is_pending_with_whoever_has_it(client: Client) -> None:
    appended = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    assert counts(client.run(wire.stream_group_claim(S, G, C))) == [(appended[0], 2)]


# Groups and removed records


def test_what_was_trimmed_away_is_delivered_no_more(client: Client) -> None:
    appended = fill(client, S, 6)
    client.run(wire.stream_group_read(S, G, C, limit=3))
    client.run(wire.stream_group_nack(S, G, appended[:2]))
    assert client.run(wire.stream_trim(S, start=appended[4])) == 4
    assert client.run(wire.stream_group_claim(S, G, b"other")) == []
    assert counts(client.run(wire.stream_group_read(S, G, b"other"))) == [(at, 1) for at in appended[4:]]


def test_a_dead_letter_that_was_trimmed_away_is_delivered_no_more(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, max_deliver=1))
    [at] = fill(client, S, 1)
    client.run(wire.stream_group_read(S, G, C))
    client.run(wire.stream_group_nack(S, G, [at]))
    client.run(wire.stream_trim(S, max_len=0))
    client.run(wire.stream_group_nack(S, G, [at]))
    assert client.run(wire.stream_group_read(S, G, C)) == []


def test_a_reader_that_waits_is_not_woken_by_what_was_trimmed(client: Client) -> None:
    client.run(wire.stream_group_create(S, G, ack_timeout=100))
    fill(client, S, 3)
    client.run(wire.stream_group_read(S, G, C))
    client.run(wire.stream_trim(S, max_len=0))
    began = time.monotonic()
    assert client.run(wire.stream_group_read(S, G, b"other", block=300)) == []
    assert time.monotonic() - began > 0.28
    new = client.run(wire.stream_append(S, b""))
    assert counts(client.run(wire.stream_group_read(S, G, b"other"))) == [(new, 1)]


# JSON answers


def test_group_info(client: Client) -> None:
    appended = fill(client, S, 10)
    client.run(wire.stream_group_read(S, G, b"b", limit=4))
    client.run(wire.stream_group_read(S, G, b"a", limit=1))
    client.run(wire.stream_group_ack(S, G, appended[:2]))
    info = group_info(client)
    consumers = info.pop("consumers")
    assert info == info | {
        "name": "group", "made_by": "flo", "last_id": str(appended[4]), "lag": 5, "pending": 3, "dead": 0,
        "dead_evicted": 0, "waiting": 0, "ack_timeout_ms": 30_000, "max_deliver": 10, "consumer_count": 2,
    }  # fmt: skip
    assert [(one["name"], one["pending"]) for one in consumers] == [("a", 1), ("b", 2)]
    assert all(0 <= one["idle_ms"] < 10_000 for one in consumers)


def test_lag_does_not_count_what_was_deleted(default: Client, resp: RespClient, stream: bytes) -> None:
    appended = fill(default, stream, 10)
    default.run(wire.stream_group_read(stream, G, C, limit=3))
    assert resp.command("XDEL", stream, str(appended[6])) == 1
    assert group_info(default, stream)["lag"] == 6
    assert ids(default.run(wire.stream_group_read(stream, G, C))) == appended[3:6] + appended[7:]
    assert group_info(default, stream)["lag"] == 0


@pytest.mark.parametrize(("begins", "expected"), [("first", 5), ("third", 3), ("tail", 1)])
def test_lag_where_a_group_begins(client: Client, begins: str, expected: int) -> None:
    appended = fill(client, S, 4)
    client.run(wire.stream_group_create(S, G, start=appended[2] if begins == "third" else None, tail=begins == "tail"))
    fill(client, S, 1)
    assert group_info(client)["lag"] == expected


def test_lag_of_a_group_that_has_not_read(client: Client) -> None:
    fill(client, S, 4)
    client.run(wire.stream_group_create(S, G))
    assert group_info(client)["lag"] == 4
    client.run(wire.stream_group_create(S, b"tail", tail=True))
    assert group_info(client, S, b"tail")["lag"] == 0


@pytest.mark.parametrize("left", [0, 1])
def test_lag_where_what_was_not_read_was_trimmed(client: Client, left: int) -> None:
    fill(client, S, 5)
    client.run(wire.stream_group_read(S, G, C, limit=2))
    client.run(wire.stream_trim(S, max_len=left))
    assert group_info(client)["lag"] in (left, None)


def test_group_info_names_the_first_1000_consumers(client: Client) -> None:
    names = [b"%04d" % number for number in range(1005)]
    batch: list[Call[Any]] = []
    for name in reversed(names):
        batch += [wire.stream_append(S, b""), wire.stream_group_read(S, G, name)]
    client.pipeline(batch)
    info = group_info(client)
    assert (info["consumer_count"], info["pending"]) == (1005, 1005)
    assert [one["name"] for one in info["consumers"]] == [name.decode() for name in names[:1000]]
    answer = client.run(wire.stream_group_pending(S, G))
    assert answer["pending_count"] == 1005
    assert [item["id"] for item in answer["pending"]] == [str(at) for at in ids(client.run(wire.stream_read(S, limit=1000)))]


def test_group_pending(client: Client) -> None:
    appended = fill(client, S, 3)
    before = now()
    client.run(wire.stream_group_read(S, G, b"b", limit=2))
    client.run(wire.stream_group_read(S, G, b"a"))
    answer = client.run(wire.stream_group_pending(S, G))
    items = answer.pop("pending")
    assert answer == answer | {"group": "group", "pending_count": 3, "dead_count": 0, "dead_evicted": 0, "dead": []}
    assert [(item["id"], item["consumer"], item["deliveries"]) for item in items] == [
        (str(at), name, 1) for at, name in zip(appended, ["b", "b", "a"], strict=True)
    ]
    for item in items:
        assert before <= item["delivered_at"] <= now()
        assert item["deadline"] == item["delivered_at"] + 30_000
        assert 0 <= item["idle_ms"] < 10_000


def test_stream_list(client: Client) -> None:
    client.run(wire.stream_create(b"b", max_len=7, max_age=9, max_bytes=1000))
    appended = fill(client, b"a", [b"one", b"three"])
    client.run(wire.stream_group_create(b"a", b"y"))
    client.run(wire.stream_group_create(b"a", b"x"))
    fill(client, b"B", 1)
    client.run(wire.stream_trim(b"B", max_len=0))
    client.run(wire.kv_put(b"key", b"v"))
    answer = client.run(wire.stream_list())
    assert answer["cursor"] == ""
    assert [item["name"] for item in answer["streams"]] == ["B", "a", "b"]
    empty, one, made = answer["streams"]
    assert (empty["count"], empty["bytes"], empty["first_id"]) == (0, 0, "0-0")
    assert empty["last_id"] != "0-0"
    assert sorted(one.pop("groups")) == ["x", "y"]
    assert one == one | {
        "name": "a", "count": 2, "bytes": 8, "first_id": str(appended[0]), "last_id": str(appended[1]), "max_len": 0, "max_age_ms": 0,
        "max_bytes": 0,
    }  # fmt: skip
    assert made == made | {
        "name": "b", "count": 0, "bytes": 0, "first_id": "0-0", "last_id": "0-0", "groups": [], "max_len": 7, "max_age_ms": 9000,
        "max_bytes": 1000,
    }  # fmt: skip


def test_stream_list_goes_on_from_its_cursor(client: Client, refused: Refused) -> None:
    names = sorted(b"%d" % number for number in range(25))
    client.pipeline([wire.stream_create(name) for name in names])
    for limit in (1, 7, 25, 1000):
        found: list[str] = []
        cursor: bytes | None = None
        while cursor != b"":
            answer = client.run(wire.stream_list(limit=limit, cursor=cursor))
            assert len(answer["streams"]) <= limit
            found += [item["name"] for item in answer["streams"]]
            cursor = base64.b64decode(answer["cursor"], validate=True)
        assert [name.encode() for name in found] == names
    assert client.run(wire.stream_list(cursor=b"")) == client.run(wire.stream_list())


def test_names_that_are_not_utf8_keep_the_json_well_formed(client: Client) -> None:
    # the page does not say how such a name is shown; the answers must be JSON in UTF-8 all the same.
    name = b"\xff\xfe\0"
    client.run(wire.stream_append(name, b""))
    assert len(client.run(wire.stream_group_read(name, name, name))) == 1
    for call in (wire.stream_list(), wire.stream_group_info(name, name), wire.stream_group_pending(name, name)):
        assert json.dumps(client.run(call))


# Many steps


@pytest.mark.parametrize("seed", range(3))
def test_a_group_against_a_model(client: Client, seed: int) -> None:
    chance = random.Random(seed)
    most = chance.choice([0, 2, 4])
    client.run(wire.stream_group_create(S, G, ack_timeout=0, max_deliver=most))
    appended: list[Id] = []
    cursor = 0
    held: dict[Id, tuple[bytes, int]] = {}
    back: dict[Id, int] = {}
    letters: list[Id] = []

    def deliver(answer: list[Delivery], name: bytes, limit: int) -> None:
        nonlocal cursor
        again = min(limit, len(back))
        assert len(answer) == min(limit, len(back) + len(appended) - cursor)
        for delivery in answer[:again]:
            assert delivery.deliveries == back.pop(delivery.id) + 1
            held[delivery.id] = (name, delivery.deliveries)
        fresh = answer[again:]
        assert counts(fresh) == [(at, 1) for at in appended[cursor : cursor + len(fresh)]]
        held.update((delivery.id, (name, 1)) for delivery in fresh)
        cursor += len(fresh)

    for _ in range(250):
        step = chance.randrange(6)
        name = chance.choice([b"a", b"b", b"c"])
        chosen = [at for at in appended if chance.random() < 3 / len(appended)] + [Id(1, 1)]
        if step == 0:
            appended += fill(client, S, chance.randrange(4))
        elif step == 1:
            limit = chance.randrange(1, 6)
            deliver(client.run(wire.stream_group_read(S, G, name, limit=limit)), name, limit)
        elif step == 2:
            gone = [at for at in chosen if at in held or at in back or at in letters]
            assert client.run(wire.stream_group_ack(S, G, chosen)) == len(gone)
            for at in gone:
                held.pop(at, None)
                back.pop(at, None)
            letters = [at for at in letters if at not in gone]
        elif step == 3:
            # what was given back before is pending still, and given back again; it dies where it has been delivered too often.
            given = client.run(wire.stream_group_nack(S, G, [at for at in chosen if at not in back]))
            assert given == len([at for at in chosen if at in held or at in letters])
            for at in chosen:
                if at in letters:
                    letters.remove(at)
                    back[at] = 0
                elif at in held:
                    deliveries = held.pop(at)[1]
                    if most and deliveries >= most:
                        letters.append(at)
                    else:
                        back[at] = deliveries
        elif step == 4 and not back and not (most and any(deliveries >= most for _, deliveries in held.values())):
            limit = chance.randrange(1, 4)
            others = sorted(at for at, (owner, _) in held.items() if owner != name)
            if len(others) == len(held):
                claimed = client.run(wire.stream_group_claim(S, G, name, limit=limit))
                assert counts(claimed) == [(at, held[at][1] + 1) for at in others[:limit]]
                held.update((delivery.id, (name, delivery.deliveries)) for delivery in claimed)
        elif step == 5:
            info = group_info(client)
            assert (info["pending"], info["dead"]) == (len(held) + len(back), len(letters))
            assert info["lag"] == len(appended) - cursor
            shown = pending(client)
            assert {at: (item["consumer"].encode(), item["deliveries"]) for at, item in shown.items() if item["deadline"] == 0} == {
                str(at): state for at, state in held.items()
            }
            assert sorted(dead(client)) == sorted(map(str, letters))


# After the server was killed


def test_everything_is_there_after_a_kill(flo: FloProcess) -> None:
    with Client(flo.port) as client, flo.connect() as resp:
        client.run(wire.stream_create(b"bounded", max_len=3, max_age=5000, max_bytes=1000))
        bounded = fill(client, b"bounded", 5)
        ahead = now() + HOUR
        resp.command("XADD", "fields", f"{ahead}-3", "a", "1", "b", "2")
        resp.command("XADD", "fields", f"{ahead}-9", "data", "x")
        resp.command("XDEL", "fields", f"{ahead}-9")
        resp.command("XGROUP", "CREATE", "fields", "made by redis", "$")
        client.run(wire.stream_group_create(S, G, ack_timeout=HOUR, max_deliver=2))
        client.run(wire.stream_group_create(S, b"tail", tail=True, ack_timeout=1, max_deliver=0))
        appended = fill(client, S, 20)
        client.run(wire.stream_group_read(S, G, b"a", limit=6))
        client.run(wire.stream_group_ack(S, G, appended[:2]))
        client.run(wire.stream_group_nack(S, G, appended[2:4]))
        assert counts(client.run(wire.stream_group_read(S, G, b"b", limit=3))) == [(appended[2], 2), (appended[3], 2), (appended[6], 1)]
        client.run(wire.stream_group_nack(S, G, appended[3:4]))
        client.run(wire.stream_group_nack(S, G, appended[4:5], delay=HOUR))
        client.run(wire.stream_group_touch(S, G, appended[5:6], lease=2 * HOUR))
        client.run(wire.stream_group_nack(S, G, appended[6:7]))
        client.run(wire.stream_group_read(S, b"no ack", C, limit=5, no_ack=True))
        client.run(wire.stream_group_read(S, b"deleted", C))
        client.run(wire.stream_group_delete(S, b"deleted"))
        client.run(wire.stream_group_read(S, b"tail", C, limit=1))
        client.run(wire.stream_trim(S, start=appended[1]))
        fill(client, b"gone", 3)
        client.run(wire.stream_delete(b"gone"))
        fill(client, b"emptied", 3)
        client.run(wire.stream_trim(b"emptied", max_len=0))

        def seen(client: Client) -> list[Any]:
            """What must be the same before and after."""
            groups: list[Any] = []
            for item in client.run(wire.stream_list())["streams"]:
                for name in sorted(item["groups"]):
                    info = group_info(client, item["name"].encode(), name.encode())
                    for one in info["consumers"]:
                        del one["idle_ms"]
                    answer = client.run(wire.stream_group_pending(item["name"].encode(), name.encode()))
                    for one in answer["pending"]:
                        del one["idle_ms"]
                    groups += [info, answer]
            streams = [S, b"bounded", b"fields", b"emptied", b"gone"]
            records = [client.run(wire.stream_read(stream)) for stream in streams]
            return [client.run(wire.stream_list()), groups, records, [client.run(wire.stream_info(stream)) for stream in streams]]

        before = seen(client)
    for _ in range(2):
        flo.kill()
        flo.start()
        with Client(flo.port) as client:
            assert seen(client) == before
    with Client(flo.port) as client:
        assert ids(client.run(wire.stream_read(b"bounded"))) == bounded[-3:]
        fill(client, b"bounded", 1)
        assert client.run(wire.stream_info(b"bounded")).records == 3
        assert client.run(wire.stream_append(b"fields", b"")) == (ahead, 10)
        assert counts(client.run(wire.stream_group_read(S, G, b"c", limit=2))) == [(appended[6], 2), (appended[7], 1)]
        assert dead(client) == [str(appended[3])]
        assert client.run(wire.stream_group_nack(S, G, appended[3:4])) == 1
        assert counts(client.run(wire.stream_group_read(S, G, b"c", limit=1))) == [(appended[3], 1)]
        assert counts(until(lambda: client.run(wire.stream_group_read(S, b"tail", C, limit=1)))) == [(appended[1], 1)]
        assert ids(client.run(wire.stream_group_read(S, b"no ack", C))) == appended[5:]
        assert client.run(wire.stream_append(b"emptied", b"")) > before[3][3].last


@pytest.mark.slow
def test_time_runs_on_while_the_server_is_down(flo: FloProcess) -> None:
    with Client(flo.port) as client:
        client.run(wire.stream_group_create(S, G, ack_timeout=1, max_deliver=2))
        client.run(wire.stream_create(b"aged", max_age=1))
        client.run(wire.stream_append(b"aged", b""))
        once, twice = fill(client, S, 2)
        assert counts(client.run(wire.stream_group_read(S, G, C, limit=1))) == [(once, 1)]
    flo.kill()
    flo.start()
    with Client(flo.port) as client:
        assert counts(until(lambda: client.run(wire.stream_group_read(S, G, b"b", limit=1)))) == [(once, 2)]
        wait_until(lambda: dead(client) == [str(once)], "a dead letter", 10)
        assert counts(client.run(wire.stream_group_read(S, G, b"b", limit=1))) == [(twice, 1)]
        wait_until(lambda: not client.run(wire.stream_read(b"aged")), "the end of what is too old", 10)
