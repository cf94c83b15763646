"""Dead letters over REST. All of them go only by `?all=true`: a request whose body got lost on the way must not delete them."""

from collections.abc import Iterator

import pytest

from tests.support.processes import FloProcess
from tests.support.rest import Rest

QUEUE = "/api/v1/queues/default/letters"
DLQ = f"{QUEUE}/dlq"


@pytest.fixture
def rest(shared_flo: FloProcess) -> Iterator[Rest]:
    with Rest(shared_flo.port) as client:
        yield client
        client.ask("DELETE", QUEUE)


@pytest.fixture
def dead(rest: Rest) -> list[int]:
    """The seqs of three dead letters."""
    for _ in range(3):
        rest.ask("POST", f"{QUEUE}/messages", b"m")
        (message,) = rest.ask("POST", f"{QUEUE}/dequeue").json["messages"]
        receipts = [{"seq": message["seq"], "attempt": message["attempts"]}]
        assert rest.send_json("POST", f"{QUEUE}/nack?to_dlq=true", {"receipts": receipts}).json == {"given_back": 1}
    return left(rest)


def left(rest: Rest) -> list[int]:
    return [message["seq"] for message in rest.ask("GET", DLQ).json["messages"]]


def test_one_dead_letter_is_a_path(rest: Rest, dead: list[int]) -> None:
    assert rest.ask("DELETE", f"{DLQ}/{dead[1]}").json == {"deleted": 1}
    assert left(rest) == [dead[0], dead[2]]
    assert rest.ask("DELETE", f"{DLQ}/{dead[1]}").json == {"deleted": 0}


def test_some_are_named_in_a_body(rest: Rest, dead: list[int]) -> None:
    assert rest.send_json("POST", f"{DLQ}/delete", {"seqs": []}).json == {"deleted": 0}
    assert rest.send_json("POST", f"{DLQ}/delete", {"seqs": dead[:2]}).json == {"deleted": 2}
    assert left(rest) == dead[2:]


def test_all_need_a_word(rest: Rest, dead: list[int]) -> None:
    assert rest.ask("POST", f"{DLQ}/delete").status == 400
    assert rest.ask("POST", f"{DLQ}/delete", b"", content_type="application/json").status == 400
    for query in ("", "?all=false", "?all=", "?all=yes", "?every=true"):
        answer = rest.ask("DELETE", DLQ + query)
        assert (answer.status, answer.sentence) == (400, "queue_dlq_delete of all needs the parameter all=true"), query
    assert left(rest) == dead
    assert rest.ask("DELETE", f"{DLQ}?all=true").json == {"deleted": 3}
    assert left(rest) == []


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (f"{DLQ}/x", b"", "seq is 'x'; it is a whole number"),
        (f"{DLQ}/-1", b"", "seq is '-1'; it is a whole number"),
        (f"{DLQ}/99999999999999999999", b"", "seq does not fit u64: 99999999999999999999"),
        (f"{DLQ}/1?all=true", b"", "queue_dlq_delete does not take the parameter 'all'; it takes none"),
        (f"{DLQ}/1", b"1", "this request has a body of 1 bytes; it takes none"),
        (f"{DLQ}?all=true", b'{"seqs": [1]}', "this request has a body of 13 bytes; it takes none"),
    ],
)
def test_a_mistake_deletes_nothing(rest: Rest, dead: list[int], path: str, body: bytes, says: str) -> None:
    answer = rest.ask("DELETE", path, body or None)
    assert (answer.status, answer.sentence) == (400, says)
    assert left(rest) == dead
