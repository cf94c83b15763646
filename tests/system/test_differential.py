"""The same commands sent to a real redis-server and to Flo, and the replies compared byte for byte.

What legitimately differs is in tests/support/differences.py, each with its reason; a test sees that every entry still differs. Values
that the time or the connection decides are compared with a tolerance, or by their shape.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.differences import DIFFERENCES, Difference, known
from tests.support.processes import FloProcess, RedisProcess, ReplyError, RespClient, encode, wait_until

pytestmark = pytest.mark.computes

Words = Sequence[bytes | str | int]

SECONDS_TOLERANCE = 2  # a slow machine may take that long between two commands
MILLISECONDS_TOLERANCE = 3000
TOLERATED = {
    "ttl": SECONDS_TOLERANCE,
    "expiretime": SECONDS_TOLERANCE,
    "pttl": MILLISECONDS_TOLERANCE,
    "pexpiretime": MILLISECONDS_TOLERANCE,
}
# what only has to be of the same types: numbers of the moment, of the connection, of memory, text about the server
SHAPED = re.compile(
    r"time|client id|client info|client list.*|memory usage .*|randomkey|info.*|lolwut.*|memory doctor|latency (doctor|reset)"
)
# … and lists of whatever has happened to be slow
OF_ANY_LENGTH = re.compile(r"slowlog get.*|latency latest")
UNORDERED = re.compile(r"keys .*|scan .*|config get .*|command getkeys .*")
HELLO_FIELDS_OF_THE_SERVER = ("version", "id")


class Pair:
    """A connection to each server, in the same protocol."""

    def __init__(self, redis: RedisProcess, flo: FloProcess, protocol: int) -> None:
        self.redis, self.flo = redis.connect(), flo.connect()
        self.protocol = protocol
        self.begin()

    def begin(self) -> None:
        """Empty servers, and connections as new."""
        for client in (self.redis, self.flo):
            client.command("RESET")
            if self.protocol == 3:
                client.command("HELLO", "3")
            assert client.command("FLUSHALL") == b"OK"

    def ask(self, words: Words) -> tuple[bytes, bytes]:
        """Both replies to one command, as bytes."""
        return self.ask_all([words])[0]

    def ask_all(self, requests: Sequence[Words]) -> list[tuple[bytes, bytes]]:
        """The replies to a pipeline that is sent in one write."""
        data = b"".join(encode(*words) for words in requests)
        self.redis.send(data)
        self.flo.send(data)
        return [(raw_reply(self.redis), raw_reply(self.flo)) for _ in requests]

    def close(self) -> None:
        """Close both."""
        self.redis.close()
        self.flo.close()


def raw_reply(client: RespClient) -> bytes:
    """The bytes of one whole reply."""
    line = client.file.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError(f"the connection ended with {line!r}")
    mark, rest = line[:1], line[1:-2]
    if mark in b"$=" and rest != b"-1":
        return line + client.file.read(int(rest) + 2)
    count = int(rest) if mark in b"*~>%" else 0
    return line + b"".join([raw_reply(client) for _ in range(count * (2 if mark == b"%" else 1))])


def parsed(raw: bytes) -> Any:
    """A reply's value: tuples (mark, value), so that types stay distinct."""

    def take(at: int) -> tuple[Any, int]:
        end = raw.index(b"\r\n", at)
        mark, rest, at = raw[at : at + 1], raw[at + 1 : end], end + 2
        if mark in b"$=" and rest != b"-1":
            return (mark, raw[at : at + int(rest)]), at + int(rest) + 2
        if mark in b"*~>%" and rest != b"-1":
            items = []
            for _ in range(int(rest) * (2 if mark == b"%" else 1)):
                item, at = take(at)
                items.append(item)
            return (mark, items), at
        return (mark, rest), at

    value, end = take(0)
    assert end == len(raw)
    return value


def shape(value: Any) -> Any:
    """The types in a reply, and the number of its items."""
    mark, inside = value
    return (mark, [shape(item) for item in inside]) if isinstance(inside, list) else mark


def line_of(words: Words) -> str:
    """A request as a command line."""
    return " ".join(word.decode("latin-1") if isinstance(word, bytes) else str(word) for word in words)


def unordered(raw: bytes) -> Any:
    """A reply without the order of its items."""
    mark, items = parsed(raw)
    return (mark, sorted(map(repr, items))) if isinstance(items, list) else (mark, items)


def agree(words: Words, redis: bytes, flo: bytes) -> bool:
    """Whether the replies are the same, as far as they can be."""
    if redis == flo:
        return True
    line = line_of(words).lower()
    name = line.split(" ", 1)[0]
    if name in TOLERATED and redis[:1] == flo[:1] == b":":
        left, right = int(redis[1:]), int(flo[1:])
        return min(left, right) >= 0 and abs(left - right) <= TOLERATED[name]
    if SHAPED.fullmatch(line):
        return bool(shape(parsed(redis)) == shape(parsed(flo)))
    if OF_ANY_LENGTH.fullmatch(line):
        return redis[:1] == flo[:1]
    if name == "scan" and redis[:1] == flo[:1] == b"*":
        (_, (cursor, keys)), (_, (cursor2, keys2)) = parsed(redis), parsed(flo)
        return bool(cursor == cursor2 and sorted(keys[1]) == sorted(keys2[1]))
    if UNORDERED.fullmatch(line):
        return bool(unordered(redis) == unordered(flo))
    if name == "hello" and redis[:1] == flo[:1] and redis[:1] in b"*%":
        return bool(hello_facts(redis) == hello_facts(flo))
    return False


def hello_facts(raw: bytes) -> list[Any]:
    """The answer to HELLO without what is each server's own."""
    items = parsed(raw)[1]
    return [
        item if items[at & ~1][1].decode() not in HELLO_FIELDS_OF_THE_SERVER or at % 2 == 0 else item[0] for at, item in enumerate(items)
    ]


def check(words: Words, redis: bytes, flo: bytes, before: Sequence[Words] = ()) -> None:
    """Assert that the replies agree, or differ as differences.py says."""
    if agree(words, redis, flo) or known(line_of(words), redis, flo):
        return
    history = "".join(f"\n  {line_of(request)[:200]}" for request in before)
    pytest.fail(f"{line_of(words)[:300]!r}\n redis: {redis[:500]!r}\n flo:   {flo[:500]!r}\nafter{history or ' nothing'}", pytrace=False)


def words_of(line: str) -> list[bytes | str | int]:
    """The words of a line of a script; quotes as in a shell, and \\x00 and the like inside of them."""
    return [word.encode().decode("unicode_escape").encode("latin-1") for word in shlex.split(line)]


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def pair(request: pytest.FixtureRequest, redis_server: RedisProcess, shared_flo: FloProcess) -> Iterator[Pair]:
    """Both servers, in both protocols."""
    both = Pair(redis_server, shared_flo, request.param)
    yield both
    both.close()


# -- the hand-written list: a script a subject, on empty servers -----------------------------------

SCRIPTS: dict[str, str] = {
    "patterns": """
        MSET a 1 b 1 c 1 - 1 ']' 1 '^' 1 '*' 1 '\\\\' 1 ab 1 abc 1 aXc 1 'a*' 1 'a\\\\' 1 'a]' 1
        MSET user:1:name 1 user:1:mail 1 user:22:name 1 user: 1
        KEYS 'a?'
        SCAN 0 MATCH 'a?' COUNT 1000
        KEYS 'a?c'
        SCAN 0 MATCH 'a?c' COUNT 1000
        KEYS '[ab]'
        SCAN 0 MATCH '[ab]' COUNT 1000
        KEYS '[^ab]'
        SCAN 0 MATCH '[^ab]' COUNT 1000
        KEYS '[a-c]'
        SCAN 0 MATCH '[a-c]' COUNT 1000
        KEYS '[c-a]'
        SCAN 0 MATCH '[c-a]' COUNT 1000
        KEYS '[a-]'
        SCAN 0 MATCH '[a-]' COUNT 1000
        KEYS '[a-'
        SCAN 0 MATCH '[a-' COUNT 1000
        KEYS '[b-a'
        SCAN 0 MATCH '[b-a' COUNT 1000
        KEYS '['
        SCAN 0 MATCH '[' COUNT 1000
        KEYS '[^'
        SCAN 0 MATCH '[^' COUNT 1000
        KEYS '[]'
        SCAN 0 MATCH '[]' COUNT 1000
        KEYS '[]a]'
        SCAN 0 MATCH '[]a]' COUNT 1000
        KEYS '[^]'
        SCAN 0 MATCH '[^]' COUNT 1000
        KEYS '[\\\\]a]'
        SCAN 0 MATCH '[\\\\]a]' COUNT 1000
        KEYS '[a\\\\-c]'
        SCAN 0 MATCH '[a\\\\-c]' COUNT 1000
        KEYS 'a\\\\'
        SCAN 0 MATCH 'a\\\\' COUNT 1000
        KEYS '\\\\a'
        SCAN 0 MATCH '\\\\a' COUNT 1000
        KEYS '\\\\*'
        SCAN 0 MATCH '\\\\*' COUNT 1000
        KEYS 'a\\\\*'
        SCAN 0 MATCH 'a\\\\*' COUNT 1000
        KEYS '*a*'
        SCAN 0 MATCH '*a*' COUNT 1000
        KEYS '*?'
        SCAN 0 MATCH '*?' COUNT 1000
        KEYS '?*'
        SCAN 0 MATCH '?*' COUNT 1000
        KEYS '**'
        SCAN 0 MATCH '**' COUNT 1000
        KEYS '*a*b*'
        SCAN 0 MATCH '*a*b*' COUNT 1000
        KEYS '*[ab]'
        SCAN 0 MATCH '*[ab]' COUNT 1000
        KEYS '*[^a]?'
        SCAN 0 MATCH '*[^a]?' COUNT 1000
        KEYS 'user:*'
        SCAN 0 MATCH 'user:*' COUNT 1000
        KEYS 'user:?*'
        SCAN 0 MATCH 'user:?*' COUNT 1000
        KEYS 'user:[0-9]*:name'
        SCAN 0 MATCH 'user:[0-9]*:name' COUNT 1000
        KEYS 'us*:1:n*e'
        SCAN 0 MATCH 'us*:1:n*e' COUNT 1000
        KEYS '*:*:*'
        SCAN 0 MATCH '*:*:*' COUNT 1000
        KEYS 'A*'
        SCAN 0 MATCH 'A*' COUNT 1000
        KEYS ''
        SCAN 0 MATCH '' COUNT 1000
        SCAN 0 MATCH
        SCAN 0 MATCH a? COUNT 0
    """,
    "get and set": """
        GET missing
        SET a 1
        GET a
        get a
        GeT a
        SET a ''
        GET a
        SET '' empty
        GET ''
        SET bin '\\x00\\xff\\r\\n$3\\r\\n'
        GET bin
        STRLEN bin
        GET
        GET a b
        SET
        SET a
        SET a b c
        SET a b c d
    """,
    "set conditions": """
        SET a 1 XX
        GET a
        SET a 1 NX
        SET a 2 NX
        GET a
        SET a 3 XX
        GET a
        SET a 4 nx
        SET a 4 xx
        SET a 4 NX XX
        SET a 4 XX NX
        SET a 5 XX XX
        SET b 5 NX NX
        SET a 6 GET
        SET new 6 GET
        SET new 7 NX GET
        SET absent 7 XX GET
        GET absent
        SET fresh 7 NX GET
        GET fresh
        SET a 8 GET GET
        SET a 9 GET XX
        SET a 10 XX GET EX 100
        TTL a
    """,
    "set with times": """
        SET a 1 EX 100
        TTL a
        SET a 1 PX 100000
        PTTL a
        SET a 1 EXAT 4102444800
        EXPIRETIME a
        SET a 1 PXAT 4102444800123
        PEXPIRETIME a
        EXPIRETIME a
        SET a 2 KEEPTTL
        PEXPIRETIME a
        SET a 3
        TTL a
        SET a 4 KEEPTTL
        TTL a
        SET never 4 KEEPTTL
        TTL never
        SET a 1 EX 0
        SET a 1 EX -1
        SET a 1 PX 0
        SET a 1 PX -5
        SET a 1 EXAT 0
        SET a 1 PXAT -1
        SET a 1 EX abc
        SET a 1 EX 1.5
        SET a 1 EX ' 1'
        SET a 1 EX +1
        SET a 1 EX 01
        SET a 1 EX ''
        SET a 1 EX 9223372036854775807
        SET a 1 EX 9223372036854775808
        SET a 1 PX 9223372036854775807
        SET a 1 EXAT 9223372036854775807
        SET a 1 EX
        SET a 1 PX
        SET a 1 EX 10 PX 10
        SET a 1 EX 10 EX 10
        SET a 1 EX 10 KEEPTTL
        SET a 1 KEEPTTL EX 10
        SET a 1 KEEPTTL KEEPTTL
        SET a 1 EXAT 4102444800 KEEPTTL
        SET a 1 EX abc FOO
        SET a 1 EX 0 NX XX
        SET a 1 PERSIST
        SET a 1 ex 100 nx
        SET a 1 eX 100 xX
        GET a
        SET past 1 EXAT 1
        GET past
        EXISTS past
        SET past 1
        SET past 2 PXAT 1000
        GET past
        SET past 2 PXAT 1000 GET
        EXISTS past
    """,
    "setnx, setex, psetex": """
        SETNX a 1
        SETNX a 2
        GET a
        SETNX a
        SETNX a 1 2
        SETEX a 100 v
        TTL a
        SETEX a 0 v
        SETEX a -1 v
        SETEX a abc v
        SETEX a 9223372036854775807 v
        SETEX a 10
        SETEX a 10 v w
        PSETEX a 100000 v
        PTTL a
        PSETEX a 0 v
        PSETEX a -1 v
        PSETEX a abc v
        PSETEX a 9223372036854775807 v
        PSETEX a 10
        setex a 0 v
        SetEx a 0 v
        GET a
    """,
    "getset, getdel, getex": """
        GETSET a 1
        GETSET a 2
        GET a
        EXPIRE a 100
        GETSET a 3
        TTL a
        GETSET a
        GETSET a b c
        GETDEL missing
        GETDEL a
        GETDEL a
        GETDEL
        GETDEL a b
        SET a v
        GETEX missing
        GETEX a
        TTL a
        GETEX a EX 100
        TTL a
        GETEX a PX 200000
        PTTL a
        GETEX a EXAT 4102444800
        EXPIRETIME a
        GETEX a PXAT 4102444800123
        PEXPIRETIME a
        GETEX a
        PEXPIRETIME a
        GETEX a PERSIST
        TTL a
        GETEX a PERSIST
        GETEX a ex 100
        GETEX a persist
        GETEX a EX 0
        GETEX a EX -1
        GETEX a PX abc
        GETEX a EX 9223372036854775807
        GETEX a EX
        GETEX a FOO
        GETEX a FOO 1
        GETEX a EX 10 PERSIST
        GETEX a PERSIST EX 10
        GETEX a EX 10 PX 10
        GETEX a KEEPTTL
        GETEX a NX
        GETEX missing EX 0
        GETEX missing EX abc
        GETEX missing FOO
        GETEX
        GETEX a EXAT 1
        GET a
        SET a v
        GETEX a PXAT 1000
        EXISTS a
    """,
    "mget and mset": """
        MGET a b
        MSET a 1 b 2
        MGET a missing b a
        MSET a 1 a 2
        GET a
        MSET a
        MSET a 1 b
        MSET
        MGET
        EXPIRE a 100
        MSET a 3
        TTL a
        MSET '' x
        MGET ''
    """,
    "strlen and append": """
        STRLEN missing
        APPEND a hello
        APPEND a ' world'
        GET a
        STRLEN a
        APPEND a ''
        APPEND empty ''
        EXISTS empty
        STRLEN empty
        GET empty
        EXPIRE a 100
        APPEND a x
        TTL a
        INCR n
        APPEND n 0
        GET n
        INCR n
        APPEND n x
        GET n
        STRLEN n
        APPEND a
        APPEND a b c
        STRLEN
        STRLEN a b
    """,
    "getrange": """
        SET a 'This is a string'
        GETRANGE a 0 3
        GETRANGE a -3 -1
        GETRANGE a 0 -1
        GETRANGE a 10 100
        GETRANGE a 5 3
        GETRANGE a -1 -3
        GETRANGE a -100 -90
        GETRANGE a -100 3
        GETRANGE a -100 100
        GETRANGE a 0 -100
        GETRANGE a 100 200
        GETRANGE a 16 16
        GETRANGE a 15 15
        GETRANGE a 3 -14
        GETRANGE a -1 0
        GETRANGE a 0 0
        GETRANGE a -16 -16
        GETRANGE a -17 -17
        GETRANGE missing 0 -1
        GETRANGE missing -5 -1
        SET e ''
        GETRANGE e 0 0
        GETRANGE e 0 -1
        GETRANGE e -1 -1
        GETRANGE a x 1
        GETRANGE a 0 x
        GETRANGE a 0 9223372036854775807
        GETRANGE a -9223372036854775808 9223372036854775807
        GETRANGE a 9223372036854775808 1
        GETRANGE missing x 1
        GETRANGE a 0
        GETRANGE a 0 1 2
        INCR n
        GETRANGE n 0 -1
    """,
    "setrange": """
        SET a 'Hello World'
        SETRANGE a 6 Redis
        GET a
        SETRANGE a 0 J
        GET a
        SETRANGE a 20 x
        GET a
        SETRANGE a 5 ''
        SETRANGE missing 5 ''
        EXISTS missing
        SETRANGE missing 3 abc
        GET missing
        SETRANGE a -1 x
        SETRANGE a -1 ''
        SETRANGE a abc x
        SETRANGE a 1.0 x
        SETRANGE a 9223372036854775808 x
        SETRANGE a 4611686018427387904 x
        SETRANGE a 4611686018427387904 ''
        SETRANGE a 9223372036854775807 x
        SETRANGE missing2 9223372036854775807 ''
        EXPIRE a 100
        SETRANGE a 0 K
        TTL a
        SET n 100
        INCR n
        SETRANGE n 0 2
        INCR n
        SETRANGE a 0
        SETRANGE a 0 x y
        SETRANGE a -1
    """,
    "counters": """
        INCR n
        INCR n
        DECR n
        INCRBY n 10
        DECRBY n 3
        INCRBY n -5
        DECRBY n -5
        INCRBY n 0
        GET n
        TYPE n
        SET s 41
        INCR s
        SET s -1
        INCR s
        DECR fresh
        INCRBY fresh2 7
        DECRBY fresh3 7
        SET z 0
        DECR z
        EXPIRE n 100
        INCR n
        TTL n
        INCRBY n abc
        INCRBY n 1.5
        INCRBY n ''
        INCRBY n ' 1'
        INCRBY n +1
        INCRBY n 01
        INCRBY n -0
        INCRBY n 9223372036854775808
        INCRBY n -9223372036854775809
        DECRBY n abc
        DECRBY n -9223372036854775808
        DECRBY n 9223372036854775808
        INCR
        INCR a b
        DECR
        DECR a b
        INCRBY n
        INCRBY n 1 2
        DECRBY n
        DECRBY n 1 2
        INCRBY missing abc
        EXISTS missing
    """,
    "bad numbers": """
        SET n 1
        INCRBYFLOAT n inf
        INCRBYFLOAT n -inf
        INCRBYFLOAT n nan
        INCRBYFLOAT n infinity
        INCRBYFLOAT n 1e5000
        INCRBYFLOAT n 1e400
        INCRBYFLOAT n 0x10
        SET n 1
        INCRBYFLOAT n 1_0
        INCRBYFLOAT n 1e
        INCRBYFLOAT n .5
        SET t inf
        INCRBYFLOAT t 1
        BRPOP q abc
        BRPOP q ''
        BRPOP q ' 1'
        BRPOP q -1
        BRPOP q nan
        BRPOP q inf
        BRPOP q -inf
        BRPOP q 1e100
        BRPOP q 9223372036854776
        BRPOP q 1_0
        CLIENT LIST ID abc
        CLIENT LIST ID 0
        CLIENT LIST ID -1
        CLIENT LIST ID 1 abc
        CLIENT LIST TYPE foo
        CLIENT LIST TYPE normal x
        CLIENT LIST FOO
        CLIENT KILL ID abc
        CLIENT KILL ID -1
        WAIT abc 0
        WAIT 0 abc
        WAIT 0 -1
        WAIT -1 0
        LOLWUT VERSION abc
    """,
    "config set of one parameter twice": """
        CONFIG SET maxmemory 0 maxmemory 0
        CONFIG SET maxmemory 0 MAXMEMORY 0
        CONFIG SET slowlog-max-len 128 slowlog-max-len 129
        CONFIG GET slowlog-max-len
        CONFIG SET maxmemory 0 x
    """,
    "old names, and all or none": """
        SUBSTR n 0 1
        SET n hello
        SUBSTR n 0 1
        SUBSTR n -3 -1
        SUBSTR n a 1
        SUBSTR n
        MSETNX a 1 b 2
        MSETNX a 1 c 2
        EXISTS c
        MSETNX a
        MSETNX a 1 b
        MSETNX c 1 c 2
        MGET a b c
        LASTSAVE x
        ROLE x
        WAIT 0 0
    """,
    "counters at the edges": """
        SET n 9223372036854775806
        INCR n
        INCR n
        GET n
        INCRBY n 9223372036854775807
        INCRBY n -9223372036854775808
        SET n -9223372036854775808
        DECR n
        GET n
        INCRBY n -1
        DECRBY n 1
        INCRBY n 9223372036854775807
        DECRBY zero 9223372036854775807
        DECR zero
        DECR zero
        SET s abc
        INCR s
        GET s
        DECR s
        INCRBY s 5
        DECRBY s 5
        SET s ''
        INCR s
        SET s ' 1'
        INCR s
        SET s '1 '
        INCR s
        SET s 01
        INCR s
        SET s +1
        INCR s
        SET s -0
        INCR s
        SET s 1.0
        INCR s
        SET s 9223372036854775808
        INCR s
        SET s -9223372036854775809
        DECR s
        SET s 99999999999999999999999999
        INCR s
        GET s
        INCRBY s abc
    """,
    "incrbyfloat": """
        INCRBYFLOAT f 10.5
        INCRBYFLOAT f 0.1
        INCRBYFLOAT f -5
        INCRBYFLOAT f 5.0e3
        INCRBYFLOAT f 0
        INCRBYFLOAT f -5005.6
        SET f 3.0e3
        INCRBYFLOAT f 200
        GET f
        SET i 10
        INCRBYFLOAT i 1
        INCR i
        INCR c
        INCRBYFLOAT c 0.5
        TYPE c
        INCRBYFLOAT f abc
        INCRBYFLOAT f ''
        INCRBYFLOAT f ' 1'
        INCRBYFLOAT f '1 '
        INCRBYFLOAT f nan
        INCRBYFLOAT f 1e5
        INCRBYFLOAT f +1
        INCRBYFLOAT f .5
        INCRBYFLOAT f 5.
        INCRBYFLOAT f 1_0
        INCRBYFLOAT f -0
        SET s abc
        INCRBYFLOAT s 1
        SET s ''
        INCRBYFLOAT s 1
        SET s ' 1'
        INCRBYFLOAT s 1
        SET s '1 '
        INCRBYFLOAT s 1
        EXPIRE f 100
        INCRBYFLOAT f 1
        TTL f
        INCRBYFLOAT f
        INCRBYFLOAT f 1 2
        INCRBYFLOAT small 0.00000000000000001
        INCRBYFLOAT z -0.5
        INCRBYFLOAT z 0.5
    """,
    "del, unlink, exists, touch": """
        DEL a
        MSET a 1 b 2 c 3
        EXISTS a
        EXISTS a b missing a
        TOUCH a b missing
        TOUCH a a
        DEL a missing b
        DEL c c
        DBSIZE
        MSET a 1 b 2
        UNLINK a missing
        UNLINK b b
        DEL
        UNLINK
        EXISTS
        TOUCH
        TYPE a
        SET a 1
        TYPE a
        INCR a
        TYPE a
        TYPE
        TYPE a b
    """,
    "rename": """
        RENAME missing a
        RENAME missing missing
        SET a 1
        RENAME a b
        GET a
        GET b
        RENAME b b
        GET b
        SET c 2 EX 100
        RENAME c b
        GET b
        TTL b
        SET d 1
        RENAME d b
        TTL b
        RENAMENX missing a
        RENAMENX missing missing
        RENAMENX b b
        RENAMENX b e
        SET f 1
        RENAMENX f e
        GET f
        RENAME a
        RENAME a b c
        RENAMENX a
        RENAMENX a b c
        INCR n
        RENAME n m
        INCR m
        DBSIZE
    """,
    "copy": """
        COPY missing a
        COPY missing missing
        SET a 1 EX 100
        COPY a b
        GET b
        TTL b
        COPY a b
        SET a 2
        COPY a b REPLACE
        GET b
        TTL b
        COPY a b replace
        COPY a a
        COPY a a REPLACE
        COPY a c DB 0
        COPY a c DB 0 REPLACE
        COPY a c DB abc
        COPY a c DB -1
        COPY a c DB
        COPY a c FOO
        COPY missing c FOO
        COPY a c REPLACE REPLACE
        COPY a
        COPY
        DBSIZE
    """,
    "expire": """
        EXPIRE missing 10
        SET a 1
        EXPIRE a 100
        TTL a
        PTTL a
        EXPIRETIME a
        PEXPIRETIME a
        EXPIRE a abc
        EXPIRE a 1.5
        EXPIRE a ''
        EXPIRE missing abc
        EXPIRE a 9223372036854775807
        EXPIRE a -9223372036854775808
        EXPIRE a 9223372036854775808
        EXPIRE missing 9223372036854775807
        TTL a
        EXPIRE a 200 NX
        TTL a
        EXPIRE a 300 XX
        TTL a
        EXPIRE a 100 GT
        TTL a
        EXPIRE a 500 LT
        TTL a
        EXPIRE a 600 GT
        TTL a
        EXPIRE a 90 LT
        TTL a
        EXPIRE a 50 XX LT
        EXPIRE a 700 XX GT
        TTL a
        EXPIRE a 10 nx
        EXPIRE a 10 NX XX
        EXPIRE a 10 NX GT
        EXPIRE a 10 NX LT
        EXPIRE a 10 GT LT
        EXPIRE a 10 NX XX GT LT
        EXPIRE a 10 FOO
        EXPIRE a 10 Foo
        EXPIRE a abc FOO
        EXPIRE a 10 NX FOO
        EXPIRE a 10 FOO BAR
        EXPIRE a 10 XX XX
        EXPIRE missing 10 NX
        SET b 1
        EXPIRE b 100 XX
        TTL b
        EXPIRE b 100 GT
        TTL b
        EXPIRE b 100 LT
        TTL b
        SET c 1
        EXPIRE c 100 NX
        EXPIRE c 200 NX
        TTL c
        EXPIRE a
        EXPIRE
        EXPIRE a 0
        EXISTS a
        EXPIRE b -1
        EXISTS b
        SET d 1 EX 100
        EXPIRE d -5 GT
        EXISTS d
        EXPIRE d -5 NX
        EXISTS d
        EXPIRE d -5 LT
        EXISTS d
        SET e 1
        EXPIRE e -5 GT
        EXISTS e
        EXPIRE e -5 XX
        EXISTS e
        EXPIRE e -5 NX
        EXISTS e
    """,
    "pexpire": """
        PEXPIRE missing 10
        SET a 1
        PEXPIRE a 100000
        PTTL a
        TTL a
        PEXPIRE a abc
        PEXPIRE a 9223372036854775807
        PEXPIRE a 9223372036854775808
        PEXPIRE a 100000 FOO
        PEXPIRE a 100000 NX XX
        PEXPIRE a 500000 GT
        PEXPIRE a 50000 LT
        TTL a
        PEXPIRE a
        PEXPIRE a 0
        EXISTS a
        SET a 1
        PEXPIRE a -1
        EXISTS a
        SET a 1
        PEXPIRE a -9223372036854775808
        EXISTS a
        SET a 1
        EXPIRE a -10000000000000
        EXISTS a
        SET a 1
        EXPIREAT a -10000000000000
        EXISTS a
        SET a 1 EX 100
        PEXPIREAT a -9223372036854775808 GT
        PEXPIREAT a -9223372036854775808 LT
        EXISTS a
    """,
    "expireat and pexpireat": """
        EXPIREAT missing 4102444800
        SET a 1
        EXPIREAT a 4102444800
        EXPIRETIME a
        PEXPIRETIME a
        PEXPIREAT a 4102444800123
        PEXPIRETIME a
        EXPIRETIME a
        PEXPIREAT a 4102444800500
        EXPIRETIME a
        EXPIREAT a abc
        PEXPIREAT a abc
        EXPIREAT a 9223372036854775807
        EXPIREAT a -9223372036854775808
        PEXPIREAT a 9223372036854775808
        EXPIREAT a 4102444801 NX
        EXPIREAT a 4102444801 XX
        EXPIREAT a 4102444801 GT
        EXPIREAT a 4102444801 LT
        EXPIREAT a 4102444800 GT
        EXPIREAT a 4102444800 LT
        PEXPIREAT a 4102444800001 GT
        PEXPIREAT a 4102444800001 GT
        PEXPIREAT a 4102444800000 LT
        EXPIRETIME a
        EXPIREAT a 4102444800 GT LT
        EXPIREAT a 4102444800 BAD
        PEXPIREAT a 4102444800 NX GT
        EXPIREAT a
        PEXPIREAT a
        EXPIREAT a 1
        EXISTS a
        SET a 1
        PEXPIREAT a 1000
        EXISTS a
        SET a 1
        EXPIREAT a 0
        EXISTS a
        SET a 1
        EXPIREAT a -100
        EXISTS a
    """,
    "persist and what is left": """
        PERSIST missing
        SET a 1
        PERSIST a
        EXPIRE a 100
        PERSIST a
        TTL a
        PERSIST a
        TTL missing
        PTTL missing
        EXPIRETIME missing
        PEXPIRETIME missing
        TTL a
        PTTL a
        EXPIRETIME a
        PEXPIRETIME a
        PERSIST
        PERSIST a b
        TTL
        TTL a b
        PTTL
        PTTL a b
        EXPIRETIME
        EXPIRETIME a b
        PEXPIRETIME
        PEXPIRETIME a b
    """,
    "keys and scan": """
        KEYS *
        SCAN 0
        DBSIZE
        RANDOMKEY
        MSET user:1 a user:2 b user:10 c other d 'a*b' e 'us\\\\er' f
        DBSIZE
        RANDOMKEY
        KEYS *
        KEYS user:*
        KEYS **
        KEYS other
        KEYS nothing
        KEYS nothing*
        KEYS ''
        KEYS 'a\\\\*b'
        KEYS 'a\\\\**'
        KEYS 'o\\\\ther'
        SCAN 0 COUNT 1000
        SCAN 0 MATCH user:* COUNT 1000
        SCAN 0 count 1000 match user:1
        SCAN 0 MATCH nothing COUNT 1000
        SCAN 0 COUNT 1000 TYPE string
        SCAN 0 COUNT 1000 TYPE STRING
        SCAN 0 COUNT 1000 TYPE hash
        SCAN 0 COUNT 1000 TYPE nonsense
        SCAN 0 MATCH user:* COUNT 1000 TYPE string
        SCAN abc
        SCAN ''
        SCAN -1
        SCAN 1.5
        SCAN 0 COUNT 0
        SCAN 0 COUNT -1
        SCAN 0 COUNT abc
        SCAN 0 COUNT
        SCAN 0 MATCH
        SCAN 0 FOO
        SCAN 0 FOO 1
        SCAN
        KEYS
        KEYS a b
        DBSIZE a
        RANDOMKEY a
    """,
    "connection": """
        PING
        PING hello
        PING a b
        PING ''
        ECHO hello
        ECHO
        ECHO a b
        SELECT 0
        SELECT abc
        SELECT 1.5
        SELECT -1
        SELECT 16
        SELECT
        SELECT 0 1
        AUTH
        AUTH x
        AUTH default x
        AUTH bob x
        AUTH a b c
        TIME
        TIME x
        RESET
        RESET x
        PING
        HELLO 2
        HELLO 3
        PING
        GET missing
        HELLO
        HELLO 2
        GET missing
        HELLO
        HELLO 4
        HELLO 1
        HELLO abc
        HELLO 3 FOO
        HELLO 3 SETNAME
        HELLO 3 AUTH
        HELLO 3 AUTH default
        HELLO 2 SETNAME me
        CLIENT GETNAME
        HELLO 2 SETNAME 'a b'
        HELLO 2 AUTH default x
        HELLO 2 AUTH default x SETNAME you
        CLIENT GETNAME
        HELLO SETNAME x
        QUITE
        FOO
        FOO bar 'baz qux'
        foo bar
        '' bar
    """,
    "client": """
        CLIENT ID
        CLIENT GETNAME
        CLIENT SETNAME me
        CLIENT GETNAME
        client getname
        CLIENT SETNAME 'with space'
        CLIENT SETNAME 'with\\nbreak'
        CLIENT GETNAME
        CLIENT SETNAME ''
        CLIENT GETNAME
        CLIENT INFO
        CLIENT LIST
        CLIENT LIST TYPE normal
        CLIENT LIST TYPE replica
        CLIENT LIST TYPE pubsub
        CLIENT LIST TYPE nonsense
        CLIENT LIST ID abc
        CLIENT LIST ID 0
        CLIENT LIST ID 999999999
        CLIENT LIST ID
        CLIENT LIST FOO
        CLIENT LIST FOO BAR
        CLIENT NO-EVICT ON
        CLIENT NO-EVICT OFF
        CLIENT NO-EVICT maybe
        CLIENT NO-EVICT
        CLIENT TRACKING OFF
        CLIENT TRACKING
        CLIENT TRACKING nonsense
        CLIENT KILL
        CLIENT KILL 1.2.3.4:5
        CLIENT KILL ID 999999999
        CLIENT KILL ID abc
        CLIENT KILL ID 0
        CLIENT KILL ADDR 1.2.3.4:5
        CLIENT KILL LADDR 1.2.3.4:5
        CLIENT KILL USER default SKIPME yes ID 999999999
        CLIENT KILL USER nobody
        CLIENT KILL TYPE pubsub
        CLIENT KILL TYPE nonsense
        CLIENT KILL ID 999999999 SKIPME maybe
        CLIENT KILL FOO BAR
        CLIENT KILL ID 1 FOO
        CLIENT REPLY ON
        CLIENT REPLY maybe
        CLIENT REPLY
        CLIENT
        CLIENT NONSENSE
        CLIENT NONSENSE a b
        CLIENT GETNAME x
        CLIENT SETNAME
        CLIENT SETNAME a b
        CLIENT ID x
        CLIENT INFO x
    """,
    "server": """
        CONFIG GET maxmemory-policy
        CONFIG GET appendonly
        CONFIG GET appendfsync
        CONFIG GET save
        CONFIG GET databases
        CONFIG GET nonsense
        CONFIG GET maxmemory
        CONFIG GET MAXMEMORY
        CONFIG GET maxmemory appendonly
        CONFIG GET appendonl?
        CONFIG GET notify-keyspace-events
        CONFIG GET timeout
        CONFIG GET
        CONFIG
        CONFIG NONSENSE
        CONFIG SET
        CONFIG SET a
        CONFIG SET nonsense 1
        CONFIG SET maxmemory 0
        CONFIG SET maxmemory 100mb
        CONFIG GET maxmemory
        CONFIG SET maxmemory abc
        CONFIG GET maxmemory
        CONFIG SET maxmemory 0
        CONFIG SET databases 3
        CONFIG RESETSTAT
        CONFIG RESETSTAT x
        INFO
        INFO server
        INFO server memory
        INFO nonsense
        INFO all
        COMMAND COUNT x
        COMMAND NONSENSE
        COMMAND GETKEYS GET a
        COMMAND GETKEYS MSET a 1 b 2
        COMMAND GETKEYS DEL a b c
        COMMAND GETKEYS RENAME a b
        COMMAND GETKEYS PING
        COMMAND GETKEYS GET
        COMMAND GETKEYS NONSENSE a
        COMMAND GETKEYS
        COMMAND INFO nonsense
        COMMAND DOCS nonsense
        MEMORY USAGE missing
        MEMORY NONSENSE
        MEMORY
        SET a 1
        MEMORY USAGE a
        MEMORY USAGE a SAMPLES 5
        MEMORY USAGE a SAMPLES -1
        MEMORY USAGE a SAMPLES abc
        MEMORY USAGE a FOO 5
        MEMORY USAGE a SAMPLES
        MEMORY USAGE
        MEMORY DOCTOR
        SLOWLOG RESET
        SLOWLOG GET
        SLOWLOG GET 5
        SLOWLOG GET -1
        SLOWLOG GET -2
        SLOWLOG GET abc
        SLOWLOG NONSENSE
        SLOWLOG
        SLOWLOG LEN x
        LATENCY LATEST
        LATENCY HISTORY nonsense
        LATENCY RESET
        LATENCY RESET nonsense
        LATENCY NONSENSE
        LATENCY
        LATENCY HISTORY
        LATENCY DOCTOR
        MODULE LIST
        MODULE NONSENSE
        MODULE
        ACL WHOAMI
        ACL NONSENSE
        ACL
        ACL WHOAMI x
        WAIT 0 0
        WAIT abc 0
        WAIT 0 abc
        WAIT 0 -1
        WAIT 0
        WAIT
        LOLWUT
        UNWATCH
        UNWATCH x
        DISCARD
        EXEC
        DISCARD x
        MULTI x
        WATCH
    """,
    "flushing": """
        SET a 1
        FLUSHDB
        DBSIZE
        SET a 1
        FLUSHDB ASYNC
        DBSIZE
        SET a 1
        FLUSHDB sync
        GET a
        SET a 1 EX 100
        FLUSHALL
        TTL a
        SET a 1
        FLUSHALL ASYNC
        EXISTS a
        FLUSHALL SYNC
        FLUSHALL FOO
        FLUSHDB FOO
        FLUSHDB ASYNC SYNC
        FLUSHALL SYNC SYNC
        SET a 2
        GET a
        INCR a
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_gets_the_same_replies_from_both(pair: Pair, name: str) -> None:
    pair.begin()
    done: list[Words] = []
    failures = []
    for line in SCRIPTS[name].strip().splitlines():
        words = words_of(line.strip())
        redis, flo = pair.ask(words)
        try:
            check(words, redis, flo, done[-4:])
        except pytest.fail.Exception as e:
            failures.append(str(e))
        done.append(words)
    if failures:
        pytest.fail(f"{len(failures)} replies differ:\n" + "\n\n".join(failures), pytrace=False)


# -- what is known to differ ------------------------------------------------------------------------


@pytest.mark.parametrize("item", DIFFERENCES, ids=[item.example[-1] for item in DIFFERENCES])
def test_a_known_difference_is_still_there(pair: Pair, item: Difference) -> None:
    pair.begin()
    *before, last = map(words_of, item.example)
    for words in before:
        pair.ask(words)
    redis, flo = pair.ask(words_of(item.example[-1]))
    assert redis != flo, "no longer a difference: take it out of the table"
    assert item.covers(line_of(last), redis, flo), (redis, flo)


def test_every_difference_has_a_reason_of_its_own_line() -> None:
    assert all(item.reason and "\n" not in item.reason for item in DIFFERENCES)


# -- bytes that are no plain requests ---------------------------------------------------------------

SENTINEL = encode("ECHO", "the sentinel")
SENTINEL_REPLY = b"$12\r\nthe sentinel\r\n"

# Each is sent to both; what they answer until the end of input, or until the sentinel behind it is answered, must be the same.
RAW: dict[str, bytes] = {
    "inline": b"PING\r\n",
    "inline without CR": b"PING\n",
    "inline with spaces": b"  SET   a   1  \r\n\tGET\ta\r\n",
    "empty lines first": b"\r\n\r\nPING\r\n",
    "empty lines between": b"PING\r\n\r\n\r\nPING\r\n",
    "inline quotes": b"SET a 'b c'\r\nGET a\r\n",
    "inline escapes": b'SET a "x\\x00\\xff\\n\\r\\t\\b\\a\\\\\\"y\\q"\r\nGET a\r\n',
    "inline single quote escaped": b"SET a 'it\\'s \\n'\r\nGET a\r\n",
    "inline empty argument": b"SET a ''\r\nGET a\r\n",
    "inline quotes inside a word": b"SET a b'c'\r\nGET a\r\n",
    "inline unbalanced": b"SET a 'b\r\n",
    "inline unbalanced double": b'SET a "b\r\n',
    "inline text behind a quote": b"SET a 'b'c\r\n",
    "inline wrong arity": b"GET\r\n",
    "inline unknown": b"NONSENSE a b\r\n",
    "inline then array": b"SET a 1\r\n" + encode("GET", "a"),
    "array then inline": encode("SET", "a", "1") + b"GET a\r\n",
    "empty array": b"*0\r\n",
    "nil array": b"*-1\r\n",
    "negative array": b"*-5\r\n",
    "array count no number": b"*abc\r\n",
    "array count empty": b"*\r\n",
    "array count with plus": b"*+1\r\n$4\r\nPING\r\n",
    "array count with zeros": b"*01\r\n$4\r\nPING\r\n",
    "array count with a space": b"* 1\r\n$4\r\nPING\r\n",
    "array count too big": b"*2147483648\r\n",
    "array count over i64": b"*99999999999999999999\r\n",
    "no bulk string": b"*1\r\n+PING\r\n",
    "integer for a bulk string": b"*2\r\n$3\r\nGET\r\n:1\r\n",
    "bulk length no number": b"*1\r\n$abc\r\n",
    "bulk length empty": b"*1\r\n$\r\n",
    "bulk length negative": b"*1\r\n$-1\r\n",
    "bulk length with zeros": b"*1\r\n$04\r\nPING\r\n",
    "bulk length too big": b"*1\r\n$536870913\r\n",
    "bulk length over i64": b"*1\r\n$99999999999999999999\r\n",
    "empty command name": b"*1\r\n$0\r\n\r\n",
    "a good request, then a bad one": encode("SET", "a", "1") + b"*1\r\n$x\r\n" + encode("SET", "a", "2"),
    "nested array": b"*1\r\n*1\r\n$4\r\nPING\r\n",
    "quit": encode("PING") + encode("QUIT") + encode("SET", "a", "late"),
    "inline quit": b"QUIT\r\nPING\r\n",
    "reply off and on": encode("CLIENT", "REPLY", "OFF")
    + encode("PING")
    + encode("GET")
    + encode("CLIENT", "REPLY", "ON")
    + encode("PING"),
    "reply skip": encode("CLIENT", "REPLY", "SKIP") + encode("PING", "unheard") + encode("PING", "heard"),
    "reply skip twice": encode("CLIENT", "REPLY", "SKIP") + encode("CLIENT", "REPLY", "SKIP") + encode("PING", "1") + encode("PING", "2"),
    "reply skip an empty line": encode("CLIENT", "REPLY", "SKIP") + b"\r\nPING heard\r\n",
    "reply skip an empty array": encode("CLIENT", "REPLY", "SKIP") * 2 + b"*0\r\n" + encode("PING", "heard"),
    "reply skip an error": encode("CLIENT", "REPLY", "SKIP") + encode("NONSENSE") + encode("PING"),
    "reply skip a long command": encode("CLIENT", "REPLY", "SKIP") + encode("KEYS", "*") + encode("PING"),
    "reply off, a long command": encode("CLIENT", "REPLY", "OFF") + encode("KEYS", "*") + encode("CLIENT", "REPLY", "ON"),
    "reply off, skip, on": encode("CLIENT", "REPLY", "OFF")
    + encode("CLIENT", "REPLY", "SKIP")
    + encode("PING")
    + encode("CLIENT", "REPLY", "ON"),
    "reply off, reset": encode("CLIENT", "REPLY", "OFF") + encode("RESET") + encode("PING"),
    "kill me by id": encode("CLIENT", "KILL", "USER", "default", "TYPE", "pubsub", "SKIPME", "no") + encode("PING"),
    "hello in a pipeline": encode("GET", "a") + encode("HELLO", "3", "FOO") + encode("GET", "a"),
}


def answer(client: RespClient, data: bytes) -> bytes:
    """All that comes back for these bytes, up to the reply to a sentinel sent behind them or the end of input."""
    client.send(data)
    got = b""
    try:
        client.send(SENTINEL)
        while not got.endswith(SENTINEL_REPLY):
            piece = client.sock.recv(65536)
            if not piece:
                return got + b"<closed>"
            got += piece
    except (BrokenPipeError, ConnectionResetError):  # closed with something of ours unread
        return got + b"<closed>"
    return got


@pytest.mark.parametrize("name", RAW)
def test_raw_bytes_get_the_same_answer_from_both(redis_server: RedisProcess, shared_flo: FloProcess, name: str) -> None:
    answers = []
    for server in (redis_server, shared_flo):
        with server.connect() as client:
            assert client.command("FLUSHALL") == b"OK"
        with server.connect() as client:
            answers.append(answer(client, RAW[name]))
        with server.connect() as client:
            answers[-1] += b" a=%r" % client.command("GET", "a")
    assert answers[0] == answers[1]


AT_ONCE = 100
REPLY_MODES = [("CLIENT", "REPLY", mode) for mode in ("ON", "OFF", "SKIP")]
# plain ones, ones that wait, ones that run in slices, and errors
REPLY_COMMANDS: list[tuple[str, ...]] = [
    ("PING", "heard"),
    ("NONSENSE",),
    ("GET",),
    ("BRPOP", "nothing", "0.003"),
    ("XREAD", "BLOCK", "3", "STREAMS", "nothing", "$"),
    ("KEYS", "nothing*"),
    ("MSET", *(f"{part}{number}" for number in range(300) for part in "kv")),
    ("FLUSHALL",),
]


@pytest.mark.slow
@pytest.mark.parametrize("in_one_write", [True, False])
def test_client_reply_in_every_order(redis_server: RedisProcess, shared_flo: FloProcess, in_one_write: bool) -> None:
    orders = [list(order) for order in product(REPLY_MODES, REPLY_COMMANDS, REPLY_MODES, REPLY_COMMANDS)]
    orders += [list(order) for order in product(REPLY_MODES, REPLY_MODES, REPLY_COMMANDS)]
    end = [("PING", "behind"), ("CLIENT", "REPLY", "ON"), ("PING", "the end")]
    answers: list[list[bytes]] = []
    for server in (redis_server, shared_flo):
        answers.append([])
        for first in range(0, len(orders), AT_ONCE):  # Redis ends a wait up to 100 ms late
            with ExitStack() as stack:
                clients = []
                for order in orders[first : first + AT_ONCE]:
                    clients.append(stack.enter_context(server.connect()))
                    parts = [encode(*words) for words in (*order, *end)]
                    for part in [b"".join(parts)] if in_one_write else parts:
                        clients[-1].send(part)
                for client in clients:
                    replies = [raw_reply(client)]
                    while replies[-1] != b"$7\r\nthe end\r\n":
                        replies.append(raw_reply(client))
                    answers[-1].append(b"".join(replies))
    wrong = [(order, redis, flo) for order, redis, flo in zip(orders, *answers, strict=True) if redis != flo]
    assert not wrong, wrong[:3]


def somebody_waits(client: RespClient) -> bool:
    """Whether a client waits in a command."""
    return b"blocked_clients:1\r\n" in client.command("INFO", "clients")


@pytest.mark.parametrize("mode", ["ON", "OFF", "SKIP"])
@pytest.mark.parametrize("waiting", [("BRPOP", "queue", "0"), ("XREAD", "BLOCK", "0", "STREAMS", "stream", "0")])
def test_client_reply_and_a_command_that_somebody_else_ends(
    redis_server: RedisProcess, shared_flo: FloProcess, mode: str, waiting: tuple[str, ...]
) -> None:
    answers = []
    for server in (redis_server, shared_flo):
        with server.connect() as client, server.connect() as other:
            other.command("FLUSHALL")
            client.send(encode("CLIENT", "REPLY", mode) + encode(*waiting) + encode("PING", "behind"))
            wait_until(partial(somebody_waits, other), "a waiting command")
            other.command("LPUSH", "queue", "a")
            other.command("XADD", "stream", "1-1", "f", "v")
            answers.append(answer(client, encode("CLIENT", "REPLY", "ON")))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("first", [b"$4\r\nPING\r\n", b"+PING\r\n", b"-PING\r\n", b":1\r\n"])
def test_another_type_in_the_place_of_a_request_is_a_protocol_error_where_redis_reads_an_inline_command(
    shared_flo: FloProcess, first: bytes
) -> None:
    with shared_flo.connect() as client:
        assert re.fullmatch(rb"-ERR Protocol error: expected '\*', got '.'\r\n<closed>", answer(client, first))


# -- patterns ----------------------------------------------------------------------------------------

PATTERN_PARTS = ["*", "?", "[", "]", "^", "-", "\\", "a", "b", "c", "ab", "[a-b]", "[^a]", "\xe9"]
PATTERN_KEYS = st.lists(st.sampled_from(["a", "b", "c", "]", "-", "\\", "*", "^", "\xe9"]), min_size=1, max_size=6).map("".join)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(PATTERN_KEYS, max_size=20), patterns=st.lists(st.lists(st.sampled_from(PATTERN_PARTS), max_size=9), max_size=10))
def test_a_pattern_finds_the_same_keys_in_both(pair: Pair, names: set[str], patterns: list[list[str]]) -> None:
    written: list[Words] = [["SET", name.encode("latin-1"), "v"] for name in names]
    pair.ask_all([["FLUSHALL"], *written])
    requests: list[Words] = []
    for parts in patterns:
        pattern = "".join(parts).encode("latin-1")
        requests += [["KEYS", pattern], ["SCAN", "0", "MATCH", pattern, "COUNT", "1000"]]
    for words, (redis, flo) in zip(requests, pair.ask_all(requests), strict=True):
        check(words, redis, flo, written)


# -- COMMAND INFO ------------------------------------------------------------------------------------


# differences of COMMAND INFO that are meant: flags and categories of Redis's that Flo does not tell, and notes on key specifications
UNTOLD_FLAGS = {
    b"loading",
    b"stale",
    b"noscript",
    b"allow_busy",
    b"no_multi",
}  # whether scripts, replicas, and servers that start may run it


def facts(raw: Any) -> dict[str, Any]:
    """A row of COMMAND INFO, by what it tells; sets as sets."""
    name, arity, flags, first, last, step, categories, _, keys, subs = raw[1]
    specifications = []
    for _, spec in keys[1]:
        told = {spec[at][1]: spec[at + 1] for at in range(0, len(spec), 2) if spec[at][1] != b"notes"}
        told[b"flags"] = sorted(told[b"flags"][1])
        specifications.append(told)
    return {
        "name": name,
        "arity": arity,
        "flags": {flag for _, flag in flags[1]} - UNTOLD_FLAGS,
        "keys": (first, last, step),
        "categories": {category for _, category in categories[1]},
        "specifications": specifications,
        "marks": (flags[0], categories[0], keys[0], subs[0]),
        "subs": {sub[1][0][1]: facts(sub) for sub in subs[1]},
    }


def test_command_info_tells_of_each_command_what_redis_tells(pair: Pair) -> None:
    names = [name for _, name in parsed(pair.ask(["COMMAND", "LIST"])[1])[1]]
    seen = 0
    wrong: list[Any] = []
    rows = pair.ask(["COMMAND", "INFO", *names])
    for theirs, ours in zip(*[parsed(row)[1] for row in rows], strict=True):
        if not isinstance(theirs[1], list):
            continue  # Flo's own, or a later Redis's
        redis, flo = facts(theirs), facts(ours)
        redis["subs"] = {name: sub for name, sub in redis["subs"].items() if name in flo["subs"]}
        flo["subs"] = {name: sub for name, sub in flo["subs"].items() if name in redis["subs"]}
        for sub in flo["subs"]:
            if sub.startswith(b"command|getkeys"):  # since 7.2 they take a command without arguments
                redis["subs"][sub]["arity"] = flo["subs"][sub]["arity"]
        if redis["name"][1].startswith(b"command|getkeys"):
            redis["arity"] = flo["arity"]
        if redis["name"][1] == b"exec":
            redis["flags"] -= {b"skip_slowlog"}  # SLOWLOG shows a slow transaction whole
        seen += 1
        wrong += [(redis["name"][1], what, redis[what], flo[what]) for what in redis if redis[what] != flo[what]]
    assert seen > 130 and not wrong, "\n".join(map(str, wrong))


def test_command_docs_tells_the_same_group_and_age(pair: Pair) -> None:
    names = [name for _, name in parsed(pair.ask(["COMMAND", "LIST"])[1])[1] if b"|" not in name]
    docs = []
    for raw in pair.ask(["COMMAND", "DOCS", *names]):
        items = parsed(raw)[1]
        docs.append({items[at][1]: dict(zip(items[at + 1][1][::2], items[at + 1][1][1::2], strict=True)) for at in range(0, len(items), 2)}
                    )  # fmt: skip
    theirs, ours = docs
    assert len(theirs) > 80
    wrong = [
        (name, word, told[(b"$", word)], ours[name][(b"$", word)])
        for name, told in theirs.items()
        for word in (b"group", b"since")
        if told[(b"$", word)] != ours[name][(b"$", word)]
    ]
    assert not wrong, wrong


# a request of every command and subcommand with keys, and some that are wrong
GETKEYS = """
    GET k|GET|GET a b|SET k v|SET k v GET EX 10|MSET a 1 b 2|MSET a|MSET a 1 b|MGET a b c|DEL a b|UNLINK a|EXISTS a b|TOUCH a b
    RENAME a b|RENAMENX a b|COPY a b REPLACE|GETEX a EX 10|APPEND a b|SETRANGE a 1 b|GETRANGE a 0 1|INCRBYFLOAT a 1|TTL a|TYPE a|EXPIRE a 1
    LPUSH q a b|RPOP q 2|BRPOP q r s 0|LLEN q|LRANGE q 0 1|XADD s * a b|XADD s MAXLEN 1 * a b|XLEN s|XRANGE s - +|XDEL s 0|XTRIM s MAXLEN 0
    XREAD STREAMS a b 0 0|XREAD COUNT 3 STREAMS a b 0 0|XREAD BLOCK 0 COUNT 3 streams a 0|XREAD COUNT 3 a b 0|XREAD STREAMS a b 0
    XREADGROUP GROUP g c STREAMS a b > >|XREADGROUP GROUP STREAMS c STREAMS a >|XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a 0
    XREADGROUP GROUP g c a b > >|XACK s g 0|XPENDING s g|XCLAIM s g c 0 0|XAUTOCLAIM s g c 0 0
    XGROUP CREATE s g 0|XGROUP SETID s g 0|XGROUP DESTROY s g|XGROUP CREATECONSUMER s g c|XGROUP DELCONSUMER s g c|XGROUP HELP x|XGROUP k x
    XINFO STREAM s|XINFO STREAM s FULL|XINFO GROUPS s|XINFO CONSUMERS s g|XINFO GROUPS s t|MEMORY USAGE k|MEMORY USAGE k SAMPLES 2
    MEMORY NONSENSE k|MEMORY DOCTOR x|PING x|KEYS *|SCAN 0|NONSENSE a|CONFIG GET a|COMMAND GETKEYS GET a|FLUSHALL SYNC|INFO server|SELECT 0
"""


@pytest.mark.parametrize("sub", ["GETKEYS", "GETKEYSANDFLAGS"])
def test_command_getkeys_finds_the_same_keys(pair: Pair, sub: str) -> None:
    requests = [line.strip() for line in GETKEYS.strip().replace("\n", "|").split("|")]
    for request in requests:
        words = words_of(f"COMMAND {sub} {request}")
        redis, flo = pair.ask(words)
        check(words, redis, flo)


@pytest.mark.parametrize(
    "line",
    [
        "FILTERBY PATTERN get*", "FILTERBY PATTERN xgroup*", "FILTERBY PATTERN X[GI]*", "FILTERBY MODULE json", "FILTERBY ACLCAT nonsense",
        "FILTERBY ACLCAT string", "FILTERBY aclcat STREAM", "FILTERBY ACLCAT write", "FILTERBY ACLCAT read", "FILTERBY ACLCAT fast",
        "FILTERBY ACLCAT slow", "FILTERBY ACLCAT dangerous", "FILTERBY ACLCAT admin", "FILTERBY ACLCAT blocking",
        "FILTERBY ACLCAT connection", "FILTERBY ACLCAT keyspace", "FILTERBY ACLCAT list", "FILTERBY NONSENSE x", "FILTERBY", "x",
    ],
)  # fmt: skip
def test_command_list_is_what_redis_lists_of_the_commands_both_have(pair: Pair, line: str) -> None:
    everything = [{name for _, name in parsed(raw)[1]} for raw in pair.ask(["COMMAND", "LIST"])]
    both = everything[0] & everything[1]
    redis, flo = (parsed(raw) for raw in pair.ask(["COMMAND", "LIST", *words_of(line)]))
    if redis[0] == b"-":
        assert redis == flo
    else:
        assert {name for _, name in redis[1]} & both == {name for _, name in flo[1]} & both


# What Redis 7.4 lists and 7.0 does not, which distributions still have: by 7.2's and 7.4's release notes
NEWER_NAMES = (
    b"client|no-touch client|setinfo cluster|myshardid waitaof hexpire hpexpire hexpireat hpexpireat httl hpttl hpersist hexpiretime "
    b"hpexpiretime"
)


def test_no_name_of_redis_is_unknown(redis_server: RedisProcess, shared_flo: FloProcess) -> None:
    """Every command and subcommand is served, or refused by a sentence that says more; each command with subcommands has HELP."""
    with redis_server.connect() as client:
        names = sorted({*client.command("COMMAND", "LIST"), *NEWER_NAMES.split()})
    assert len(names) > 370
    refused = 0
    for name in names:
        words = name.upper().split(b"|")
        if words[0] in (b"MONITOR", b"SHUTDOWN", b"QUIT", b"MULTI", b"RESET"):
            continue
        with shared_flo.connect() as client:
            reply = client.command(*words)
            text = str(reply) if isinstance(reply, ReplyError) else ""
            assert "unknown command" not in text, text
            if "unknown subcommand" in text:
                assert words[0] == b"CLIENT", text  # as SPEC has it: libraries try them, and go on by that error
            if " is not supported: " in text:
                assert text.startswith(f"ERR {b' '.join(words[:1]).decode()}") and text[-1] not in ".…", text
                assert 15 < len(text.partition(": ")[2]) < 150, text
                refused += 1
            if len(words) > 1:
                first = client.command(words[0], "help")[0]
                assert first.startswith(words[0] + b" <subcommand> ") or b" is not supported: " in first
    assert refused > 150


@pytest.mark.parametrize("line", ["CLIENT LIST", "CLIENT INFO", "client list TYPE normal"])
def test_client_list_shows_subcommands_as_redis_does(pair: Pair, line: str) -> None:
    shown = [re.findall(rb"cmd=(\S+)", reply) for reply in pair.ask(words_of(line))]
    assert shown[0][-1] == shown[1][-1] and shown[0][-1] in (b"client|list", b"client|info")


# -- generated sequences -----------------------------------------------------------------------------

KEY_NAMES = ["a", "b", "c"]
TEXTS = ["", "0", "1", "-1", "abc", "3.5", "9223372036854775807", "-9223372036854775808", "01", " 1", "hello world", "x" * 30, "\r\n$1"]
DELTAS = ["1", "-1", "10", "0", "9223372036854775807", "-9223372036854775808", "abc", "1.5"]
OFFSETS = ["0", "1", "-1", "3", "-3", "100", "-100"]
# relative times and absolute ones never come near each other, so that GT and LT have one answer on both servers
RELATIVE_SECONDS = ["1000", "5000", "100000"]
RELATIVE_MILLISECONDS = ["1000000", "5000000", "100000000"]
ABSOLUTE_SECONDS = ["4102444800", "4202444800", "4302444800"]
PAST = ["0", "-1", "-100"]

keys_ = st.sampled_from(KEY_NAMES)
texts = st.sampled_from(TEXTS)
seconds = st.sampled_from(RELATIVE_SECONDS)
milliseconds = st.sampled_from(RELATIVE_MILLISECONDS)
moments = st.sampled_from(ABSOLUTE_SECONDS)


def request_of(*parts: Any) -> st.SearchStrategy[list[str]]:
    """A strategy for a request: words, strategies for a word, strategies for a list of words."""
    fixed = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*fixed).map(lambda items: [word for item in items for word in (item if isinstance(item, list) else [item])])


def words_list(*choices: list[str]) -> st.SearchStrategy[list[str]]:
    """One of these lists of words."""
    return st.sampled_from(choices)


in_time = st.one_of(
    request_of("EX", seconds),
    request_of("PX", milliseconds),
    request_of("EXAT", moments),
    request_of("PXAT", moments.map(lambda s: s + "000")),
)
condition = words_list([], ["NX"], ["XX"], ["GET"], ["NX", "GET"], ["XX", "GET"], ["KEEPTTL"], ["GET", "KEEPTTL"], ["NX", "XX"])
comparison = words_list([], ["NX"], ["XX"], ["GT"], ["LT"], ["XX", "GT"], ["XX", "LT"], ["NX", "GT"])

requests = st.one_of(
    request_of("SET", keys_, texts),
    request_of("SET", keys_, texts, condition),
    request_of("SET", keys_, texts, condition, in_time),
    request_of("SET", keys_, texts, in_time, condition),
    request_of(
        st.sampled_from(["GET", "TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "TYPE", "STRLEN", "PERSIST", "GETDEL", "INCR", "DECR"]), keys_
    ),
    request_of(st.sampled_from(["GET", "get", "INCR", "incr"]), keys_),
    request_of(st.sampled_from(["INCRBY", "DECRBY"]), keys_, st.sampled_from(DELTAS)),
    # a key of its own, with numbers that a long double holds exactly: the others are a known difference
    request_of("SET", "f", st.sampled_from(["0", "3.5", "-1", "abc"])),
    request_of("INCRBYFLOAT", "f", st.sampled_from(["0.5", "-0.25", "1", "1e2", "abc"])),
    request_of(st.sampled_from(["APPEND", "GETSET", "SETNX"]), keys_, texts),
    request_of("SETEX", keys_, seconds, texts),
    request_of("PSETEX", keys_, milliseconds, texts),
    request_of("GETEX", keys_, st.one_of(in_time, words_list([], ["PERSIST"], ["FOO"]))),
    request_of("GETRANGE", keys_, st.sampled_from(OFFSETS), st.sampled_from(OFFSETS)),
    request_of("SETRANGE", keys_, st.sampled_from(["0", "1", "5", "-1", "x"]), texts),
    request_of("MSET", keys_, texts, keys_, texts),
    request_of("MGET", keys_, keys_, keys_),
    request_of(st.sampled_from(["DEL", "UNLINK", "EXISTS", "TOUCH"]), keys_, st.lists(keys_, max_size=3)),
    request_of(st.sampled_from(["RENAME", "RENAMENX"]), keys_, keys_),
    request_of("COPY", keys_, keys_, words_list([], ["REPLACE"])),
    request_of("EXPIRE", keys_, st.one_of(seconds, st.sampled_from(PAST)), words_list([], ["NX"], ["XX"])),
    request_of("PEXPIRE", keys_, milliseconds, words_list([], ["NX"], ["XX"])),
    request_of("EXPIREAT", keys_, st.one_of(moments, st.sampled_from([*PAST, "1"])), comparison),
    request_of("PEXPIREAT", keys_, moments.map(lambda s: s + "500"), comparison),
    request_of("KEYS", st.sampled_from(["*", "a*", "a", "?"])),
    request_of("SCAN", "0", "COUNT", "1000"),
    st.just(["DBSIZE"]),
    st.just(["GET"]),
    st.just(["NONSENSE", "a"]),
)


def at_the_end(names: Sequence[str]) -> list[list[str]]:
    """Requests that read the whole state."""
    return [[read, name] for name in names for read in ("GET", "PEXPIRETIME", "TYPE")] + [["KEYS", "*"], ["DBSIZE"]]


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(requests, min_size=1, max_size=40), single=st.booleans())
def test_generated_sequences_get_the_same_replies_from_both(pair: Pair, sequence: list[list[str]], single: bool) -> None:
    pair.begin()
    everything: list[Words] = [*sequence, *at_the_end([*KEY_NAMES, "f"])]
    answers = [pair.ask(words) for words in everything] if single else pair.ask_all(everything)
    for at, (words, (redis, flo)) in enumerate(zip(everything, answers, strict=True)):
        check(words, redis, flo, everything[:at])


# -- a document, which redis-server does not know ----------------------------------------------------

WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


@pytest.mark.parametrize(
    "line",
    [
        "GET doc", "STRLEN doc", "APPEND doc x", "GETRANGE doc 0 1", "SETRANGE doc 0 x", "GETSET doc x", "GETDEL doc", "GETEX doc",
        "INCR doc", "DECRBY doc 2", "INCRBYFLOAT doc 1", "SET doc x GET",
    ],
)  # fmt: skip
def test_a_string_operation_on_a_document_is_the_wrong_type_and_changes_nothing(shared_flo: FloProcess, line: str) -> None:
    with shared_flo.connect() as client:
        client.command("FLUSHALL")
        assert client.command("JSON.SET", "doc", "$", '{"a":1}') == b"OK"
        reply = client.command(*line.split())
        assert isinstance(reply, ReplyError)
        assert str(reply).startswith("WRONGTYPE "), reply
        assert client.command("JSON.GET", "doc") == b'{"a":1}'


@pytest.mark.parametrize("line", ["JSON.GET s", "JSON.SET s $.a 1", "JSON.DEL s $.a", "JSON.TYPE s", "JSON.GET n", "JSON.SET n $.a 1"])
def test_a_document_operation_on_a_string_is_the_wrong_type_and_changes_nothing(shared_flo: FloProcess, line: str) -> None:
    with shared_flo.connect() as client:
        client.command("FLUSHALL")
        client.command("SET", "s", "text")
        client.command("INCR", "n")
        assert client.command(*line.split()) == ReplyError(WRONGTYPE)
        assert client.command("MGET", "s", "n") == [b"text", b"1"]


@pytest.mark.parametrize("line", ["JSON.NUMINCRBY doc $.a 1", "JSON.ARRAPPEND doc $ 1", "JSON.MERGE doc $ {}", "JSON.FORGET doc"])
def test_a_command_of_redis_json_is_refused_with_a_replacement(shared_flo: FloProcess, line: str) -> None:
    with shared_flo.connect() as client:
        assert f"{line.split()[0]} is not supported: get the part with JSON.GET" in str(client.command(*line.split()))


@pytest.mark.parametrize("seconds", [3_000_000, 4_000_000_000])
def test_a_deadline_months_or_a_century_away_does_not_end_the_server(flo: FloProcess, seconds: int) -> None:
    with flo.connect() as client:
        assert client.command("SET", "far", "v", "EX", seconds) == b"OK"
        for number in range(200):  # so that it comes to rest between two
            assert client.command("INCR", "n") == number + 1
    assert flo.stop() == 0
    flo.start()
    with flo.connect() as client:
        for _ in range(200):
            assert client.command("TTL", "far") >= seconds - 60
