"""The well-known scripts beside a redis-server that runs them as Lua: their texts are those in the released packages."""

import json
import random
import subprocess
from collections.abc import Iterator
from hashlib import sha1

import pytest

from flo.commands.resp.scripts import KNOWN, canonical
from tests.support.processes import FloProcess, RedisProcess, ReplyError, encode
from tests.support.programs import SCRIPTS, python
from tests.system.test_differential import Pair, facts, parsed, raw_reply

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first to run installs the packages

Texts = dict[str, tuple[str, int]]


@pytest.fixture(scope="module")
def texts() -> Texts:
    """The scripts, each with the number of its ARGV."""
    done = subprocess.run([python(), "-W", "ignore", SCRIPTS / "script_texts.py"], capture_output=True, text=True, check=True)
    found: Texts = {name: (text, count) for name, (text, count) in json.loads(done.stdout).items()}
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    """A server for programs written for Redis."""
    with FloProcess(tmp_path_factory.mktemp("scripts") / "data", "--resp-profile", "redis") as flo:
        yield flo


def test_every_known_script_is_the_text_of_a_library(server: FloProcess, texts: Texts) -> None:
    with server.connect() as client:
        loaded = {name: client.command("SCRIPT", "LOAD", text) for name, (text, _) in texts.items()}
    assert not [each for each in loaded.values() if isinstance(each, ReplyError)]
    assert {sha1(canonical(text.encode())[0]).hexdigest() for text, _ in texts.values()} == KNOWN.keys()
    assert all(loaded[name] == sha1(text.encode()).hexdigest().encode() for name, (text, _) in texts.items())


# Redis adds the script's SHA-1 to an error inside; of a value that is no integer, tests/support/differences.py tells
def same(redis: bytes, flo: bytes) -> bool:
    """Whether two replies are the same, as far as they can be."""
    if redis[:1] == flo[:1] == b"-":
        return redis.split(b" script:")[0].rstrip() == flo.rstrip() or (b"not an integer" in redis and b"not an integer" in flo)
    return redis == flo


@pytest.mark.parametrize("seed", range(4))
def test_they_do_what_redis_does(redis_server: RedisProcess, server: FloProcess, texts: Texts, seed: int) -> None:
    """Any of them on keys in any state, by EVAL and by EVALSHA; what the keys hold afterwards, and their times."""
    chance, pair = random.Random(seed), Pair(redis_server, server, 2 + seed % 2)
    names, values, times = ["k", "space:a", "space:b"], ["token", "other", "1", "41", ""], ["100000", "50000", "0", "-1", "x"]
    said: list[list[str]] = []
    for _ in range(400):
        key = chance.choice(names)
        choice = chance.random()
        if choice < 0.25:
            said.append(["SET", key, chance.choice(values), *chance.choice([[], ["PX", "100000"], ["EX", "500"]])])
        elif choice < 0.3:
            said.append(["DEL", key])
        else:
            text, count = chance.choice(list(texts.values()))
            args = [chance.choice(values), chance.choice(values if "ARGV[2] then" in text else times)][:count]
            args += {3: [chance.choice("01")], 4: [chance.choice(["PX", "EX"]), "1000"]}.get(count, [])
            known = chance.random() < 0.5
            if known:
                said.append(["SCRIPT", "LOAD", text])
            said.append(
                ["EVALSHA" if known else "EVAL", sha1(text.encode()).hexdigest() if known else text, "1" if count else "0"]
                + ([key] if count else [])
                + args
            )
        for name in names:
            said += [["GET", name], ["TTL", name]]
    for words, (redis, flo) in zip(said, pair.ask_all(said), strict=True):
        if words[0] == "TTL":
            left, right = int(redis[1:]), int(flo[1:])
            assert (min(left, right) >= 0 and abs(left - right) <= 2) or left == right, words
        else:
            assert same(redis, flo), (words, redis, flo)
    pair.close()


def test_command_tells_of_them_what_redis_tells(redis_server: RedisProcess, server: FloProcess) -> None:
    asked: list[tuple[str, ...]] = [("COMMAND", "INFO", "eval", "evalsha", "script")]
    for words in ("0", "1 k", "2 k l m", "2 k", "-1 k", "x k", "0 k", "99999999999999999999 k"):
        asked += [("COMMAND", sub, "EVAL", "text", *words.split()) for sub in ("GETKEYS", "GETKEYSANDFLAGS")]
    asked += [("COMMAND", "GETKEYS", "EVAL", "text"), ("COMMAND", "GETKEYS", "EVALSHA", "sha", "1", "k")]
    answers = []
    for connect in (redis_server.connect, server.connect):
        with connect() as client:
            client.send(b"".join(encode(*words) for words in asked))
            answers.append([raw_reply(client) for _ in asked])
    rows = [[facts(row) for row in parsed(each.pop(0))[1]] for each in answers]
    assert answers[0] == answers[1]
    for theirs, ours in zip(*rows, strict=True):
        wanted, found = theirs.pop("subs"), ours.pop("subs")
        assert ours == theirs
        assert all(found[name] == wanted[name] for name in found)


def test_a_namespace_is_cleared_in_slices(server: FloProcess, texts: Texts) -> None:
    with server.connect() as client, server.connect() as other:
        client.command("FLUSHALL")
        client.pipeline(*[("MSET", *[word for key in range(1000) for word in (f"space:{batch}:{key}", "v")]) for batch in range(20)])
        client.command("SET", "spaced", "stays")
        client.send(b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(text := texts["fastapi-cache2 clear"][0].encode()), text))
        assert other.command("PING") == b"PONG"
        assert raw_reply(client) == b"$-1\r\n"
        assert client.command("KEYS", "*") == [b"spaced"]
