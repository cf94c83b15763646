"""Damage that is met while serving: a refusal that names the file and the index, told once, and everything else is served."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from flo.engine import Engine, EngineSettings
from flo.errors import Damaged
from flo.ual import batch, manifest
from flo.ual.files import Files
from flo.ual.log import RECENT_BYTES
from flo.ual.segment import Segment
from tests.support.processes import FloProcess, ReplyError

MESSAGES = 50


def payload(number: int) -> bytes:
    """Of a message or record; none is in another."""
    return b"<%d>" % number + bytes(Random(number).randbytes(200))


def flip(directory: Path, needle: bytes) -> str:
    """Flip a bit in the one place where `needle` is; the file's name."""
    for path in sorted(directory.glob("*.*")):
        data = bytearray(path.read_bytes()) if path.suffix in (".seg", ".base", ".hist") else bytearray()
        at = data.find(needle)
        if at >= 0:
            data[at + len(needle) // 2] ^= 4
            path.write_bytes(data)
            return path.name
    raise AssertionError("it is in no file")


@pytest.fixture(params=("open segment", "sealed segment", "base"))
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Fifty messages, records and versions, each in a batch of its own, in one kind of file."""
    with Engine(str(tmp_path), EngineSettings(history_age=1 << 40)) as made:
        made.streams.create(b"s")
        made.streams.groups.create(b"s", b"g")
        for number in range(MESSAGES):
            made.queues.enqueue(b"q", payload(number))
            made.streams.append(b"s", payload(number + 1000))
            made.kv.put(b"k", payload(number + 2000))
        if request.param != "open segment":
            made.log.roll()
        if request.param == "base":
            made.compact()
        made.log.forget_recent()  # what was just written is read from memory
        yield made
        made.log.abandon()
        made._closed = True


def test_a_queue_goes_on_behind_it(engine: Engine, tmp_path: Path) -> None:
    """The damaged message is said, and set aside among the dead letters; the other 49 are delivered, each once."""
    name = flip(tmp_path, payload(7))
    assert len(engine.queues.peek(b"q", MESSAGES)) == MESSAGES - 1
    got: list[bytes] = []
    refused = 0
    while True:
        try:
            found = engine.queues.dequeue(b"q", 3)
        except Damaged as e:
            assert name in str(e) and "index" in str(e)
            refused += 1
            continue
        if not found:
            break
        got += [message.payload for message in found]
    assert refused == 1
    assert got == [payload(number) for number in range(MESSAGES) if number != 7]
    stats = engine.queues.stats(b"q")
    assert stats["dead"] == 1 and stats["ready"] == 0
    with pytest.raises(Damaged):
        engine.queues.dead_letters(b"q")
    assert engine.queues.delete_dead(b"q") == 1


def test_a_taker_gets_the_next_one(engine: Engine, tmp_path: Path) -> None:
    """Who waits is not told of what it cannot have; who puts a message in is not told of another's damage."""
    flip(tmp_path, payload(0))
    delivered: list[bytes] = []
    assert len(engine.queues.dequeue(b"empty", 1)) == 0
    with pytest.raises(Damaged):
        engine.queues.take([b"q"], 1, lambda _, found: None)
    engine.queues.take([b"q"], 1, lambda _, found: delivered.extend(message.payload for message in found))
    assert delivered == [payload(1)]


def test_streams_and_groups(engine: Engine, tmp_path: Path) -> None:
    """What is before the damage is answered; whoever asks for it is refused; a group passes it by."""
    flip(tmp_path, payload(1007))
    before = engine.streams.read(b"s")
    assert [record.payload for record in before] == [payload(1000 + number) for number in range(7)]
    damaged = before[-1].ident + 1
    with pytest.raises(Damaged):
        engine.streams.read(b"s", damaged)
    behind = engine.streams.read(b"s", reverse=True)
    assert [record.payload for record in behind] == [payload(1000 + number) for number in range(MESSAGES - 1, 7, -1)]
    got: list[bytes | None] = []
    refused = 0
    while len(got) < MESSAGES - 1:
        try:
            got += [delivery.payload for delivery in engine.streams.groups.read(b"s", b"g", b"c", 10)]
        except Damaged:
            refused += 1
    assert refused == 1
    assert got == [payload(1000 + number) for number in range(MESSAGES) if number != 7]
    assert engine.streams.groups.read(b"s", b"g", b"c", 10) == []


def test_history(engine: Engine, tmp_path: Path) -> None:
    """No altered version is shown; those that are newer are."""
    flip(tmp_path, payload(2000 + MESSAGES - 5))
    if not any(tmp_path.glob("*.hist")):  # there, what is checked together is 128 KiB
        assert [each.value for each in engine.kv.history(b"k", 4)] == [payload(2000 + MESSAGES - n) for n in range(1, 5)]
    with pytest.raises(Damaged):
        engine.kv.history(b"k", 5)
    found = engine.kv.get(b"k")
    assert found is not None and found.value == payload(2000 + MESSAGES - 1)


def test_no_flip_is_served(tmp_path: Path) -> None:
    """Any bit of a file that is read by index: what is read is what was written, or is refused."""
    rng = Random(5)
    with Engine(str(tmp_path / "d"), EngineSettings(history_age=1 << 40)) as made:
        for number in range(300):
            with made.batch():
                for part in range(rng.choice((1, 1, 30))):
                    made.queues.enqueue(b"q", payload(number * 100 + part))
                made.kv.put(b"k%d" % (number % 5), payload(number))
        made.queues.enqueue_many(b"q", [payload(n) * 5 for n in range(300)])  # 300 KB in one turn: a group of batches
        made.log.roll()
        expected = {index: made.log.read_bytes(index) for index in range(1, made.log.next_index)}
        segment = made.log._segments[0]
        assert isinstance(segment, Segment)
        assert any(header.more for header, _, _ in segment.batches())
        path = Path(segment.path)
        whole = path.read_bytes()
        refused = 0
        for _ in range(400):
            at = rng.randrange(44, len(whole))
            data = bytearray(whole)
            data[at] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            segment.close()
            for index in rng.sample(sorted(expected), 30):
                try:
                    assert made.log.read_bytes(index) == expected[index], f"byte {at}, index {index}"
                except Damaged:
                    refused += 1
        assert refused > 50
        path.write_bytes(whole)
        segment.close()


def test_a_group_of_batches_is_there_as_a_whole(tmp_path: Path) -> None:
    """A turn that wrote several batches, of which the last is torn, is not there at all."""
    directory = tmp_path / "d"
    engine = Engine(str(directory))
    engine.kv.put(b"before", b"1")
    engine.kv.put_many([(b"%d" % number, b"v" * 10_000, 0) for number in range(40)])
    engine.log.abandon()
    name = manifest.read(Files(), str(directory)).entries[-1].file
    segment = Segment.load(Files(), str(directory / name), 1, writable=False)
    places = [(header, at) for header, at, _ in segment.batches()]
    segment.close()
    assert [header.more for header, _ in places[-7:]] == [True] * 6 + [False]
    assert all(header.length <= batch.BATCH_BYTES for header, _ in places)
    data = bytearray((directory / name).read_bytes())
    data[places[-1][1] + 5] ^= 1
    (directory / name).write_bytes(data)
    told: list[str] = []
    with Engine(str(directory), on_notice=told.append) as again:
        assert again.kv.get(b"before") is not None
        assert not any(again.kv.exists(b"%d" % number) for number in range(40))
    assert "nothing on disk tells" in told[0]


@pytest.mark.parametrize("compacted", (False, True))
def test_a_server(tmp_path: Path, compacted: bool) -> None:
    """Over RESP, the fast ways too: no connection is closed, the server stays, each other message is popped; after a restart as well."""
    with FloProcess(tmp_path / "data", environment={"FLO_KV_HISTORY_DEPTH": "1"}) as flo:
        with flo.connect() as client:
            client.pipeline(*(("LPUSH", "q", f"<{number}>" + "x" * 300) for number in range(MESSAGES)))
            client.pipeline(*(("XADD", "s", "*", "f", f"[{number}]" + "x" * 300) for number in range(MESSAGES)))
            client.command("SET", "large", b"v" * RECENT_BYTES)  # what was just written is read from memory
        if compacted:
            flo.stop()
            with Engine(str(flo.directory)) as engine:
                engine.compact()
            flo.start()
        flip(flo.directory, b"<7>" + b"x" * 300)

        def popped(pop: Callable[[], list[object]]) -> list[object]:
            found: list[object] = []
            refusals = 0
            while len(found) < MESSAGES - (1 if compacted else 0) and refusals < 3 * MESSAGES:
                for answer in pop():
                    if isinstance(answer, ReplyError):
                        assert str(answer).startswith("DAMAGED"), answer
                        refusals += 1
                    elif answer is None:
                        return found
                    else:
                        found.append(answer)
            assert refusals >= 1
            return found

        with flo.connect() as client:
            found = popped(lambda: client.pipeline(*[("RPOP", "q")] * 16))
            if compacted:  # each message has a checksum of its own there
                assert len(found) == MESSAGES - 1
            numbers = {int(str(each, "ascii").split(">")[0][1:]) for each in found if isinstance(each, bytes)}
            assert 7 not in numbers and len(numbers) == len(found)
            assert client.command("PING") == b"PONG"
            assert b"flo_log_damage_met:0" not in client.command("INFO")
        assert "damage on disk: index" in flo.output()
        if compacted:  # a start has no need of it; in a segment it refuses, and says where
            flo.kill()
            flo.start()
            with flo.connect() as client:
                assert client.command("PING") == b"PONG"
