"""Stream commands sent to a real redis-server and to Flo, and the replies compared byte for byte.

Ids are given, so that they are the same on both. What differs on purpose is in tests/support/differences.py;
idle times are compared by shape.
"""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.system.test_differential import Pair, Words, check, line_of, pair, parsed, words_of

assert pair is not None  # a fixture: it is found by its name here

TIMES = {b"idle", b"inactive", b"seen-time", b"active-time"}
LEFT_OUT = {b"radix-tree-keys", b"radix-tree-nodes", b"inactive", b"active-time"}  # how Redis stores it; fields of a later Redis

SCRIPTS: dict[str, str] = {
    "adding": """
        XADD s 1-1 a 1
        XADD s 1-1 a 1
        XADD s 1-0 a 1
        XADD s 0-0 a 1
        XADD s 1-* a 2
        XADD s 1 a 2
        XADD s 2 a 2
        XADD s 3-* b 2 c 3
        XADD s 0-* b 2
        XADD s 99999999999999-* data x
        XADD s 99999999999999-18446744073709551615 k v
        XADD s 18446744073709551615-18446744073709551615 k v
        XADD s * k v
        XADD s 18446744073709551616-1 k v
        XADD s -1-1 k v
        XADD s x k v
        XADD s 1-x k v
        XADD s 1-1-1 k v
        XADD s 5-5 k
        XADD s 5-5
        XADD s
        XADD
        XADD s 5-5 a b c
        XLEN s
        XRANGE s - +
        XADD n NOMKSTREAM 1-1 a b
        EXISTS n
        XLEN n
        XADD n NOMKSTREAM MAXLEN 0 1-1 a b
        XADD n 1-1 '' ''
        XRANGE n - +
        XADD n NOMKSTREAM 1-2 a b
        XADD t 0-1 a b
        XADD t2 0-0 a b
        EXISTS t2
        TYPE t
        TYPE t2
    """,
    "setting the last id": """
        XSETID s 5-1
        XADD s 2-1 a 1
        XADD s 3-1 a 1
        XSETID s 1-0
        XSETID s 3-1
        XSETID s 9-1
        XINFO STREAM s
        XADD s 8-0 a 1
        XSETID s 9-1 ENTRIESADDED 10
        XSETID s 9-1 MAXDELETEDID 4-1 ENTRIESADDED 12
        XINFO STREAM s
        XSETID s 9-1 ENTRIESADDED 1 MAXDELETEDID 4-1
        XSETID s 9-1 ENTRIESADDED 12 MAXDELETEDID 19-1
        XSETID s 9-1 ENTRIESADDED -1 MAXDELETEDID 4-1
        XSETID s 9-1 ENTRIESADDED abc MAXDELETEDID 4-1
        XSETID s abc
        XSETID s 9-1 FOO
        XSETID s 9-1 FOO 1
        XSETID s +
        XSETID s
        XDEL s 3-1
        XSETID s 2-5
        XSETID none 1-1 ENTRIESADDED 1 MAXDELETEDID 0-0
    """,
    "a stream named twice": """
        XADD s 1-1 a 1
        XADD s 2-1 a 2
        XADD t 1-1 b 1
        XREAD STREAMS s s 0 0
        XREAD STREAMS s s 0 1-1
        XREAD STREAMS s t s 1-1 0 0
        XREAD COUNT 1 STREAMS s s 0 0
        XREAD STREAMS s s 0 $
        XREAD STREAMS s s $ 0
        XREAD BLOCK 0 STREAMS s s $ 0
        XREAD BLOCK 5 STREAMS s s $ $
        XGROUP CREATE s g 0
        XREADGROUP GROUP g c STREAMS s s > >
        XREADGROUP GROUP g c STREAMS s s 0 >
        XREADGROUP GROUP g c STREAMS s s 0 0
    """,
    "the ends as ids of a group": """
        XADD s 1-1 a 1
        XADD s 2-1 a 2
        XGROUP CREATE s g 0
        XGROUP SETID s g -
        XINFO GROUPS s
        XREADGROUP GROUP g c COUNT 1 STREAMS s >
        XGROUP SETID s g +
        XINFO GROUPS s
        XREADGROUP GROUP g c STREAMS s >
        XGROUP SETID s g $
        XGROUP SETID s g (1
        XGROUP SETID s g 0-*
        XGROUP CREATE s g2 -
        XGROUP CREATE s g3 +
    """,
    "trimming while adding": """
        XADD s 1-1 a 1
        XADD s 1-2 a 1
        XADD s MAXLEN 2 1-3 a 1
        XRANGE s - +
        XADD s MAXLEN = 1 1-4 a 1
        XRANGE s - +
        XADD s MAXLEN ~ 1 1-5 a 1
        XADD s MAXLEN ~ 1 LIMIT 10 1-6 a 1
        XLEN s
        XADD s MAXLEN 1 LIMIT 10 1-7 a 1
        XADD s MAXLEN = 1 LIMIT 10 1-7 a 1
        XADD s LIMIT 10 1-7 a 1
        XADD s MAXLEN ~ 1 LIMIT -1 1-7 a 1
        XADD s MAXLEN -1 1-7 a 1
        XADD s MAXLEN x 1-7 a 1
        XADD s MAXLEN
        XADD s MAXLEN 3
        XADD s MAXLEN 3 1-7
        XADD s MAXLEN 3 MINID 1 1-7 a 1
        XADD s MINID 1-5 1-7 a 1
        XRANGE s - +
        XADD s MINID x 1-8 a 1
        XADD s MAXLEN 0 1-8 a 1
        XRANGE s - +
        XLEN s
        EXISTS s
        XADD s 1-8 a 1
        XADD s 1-9 a 1
        XINFO STREAM s
    """,
    "trimming": """
        XTRIM missing MAXLEN 1
        XADD s 1-1 a 1
        XADD s 2-1 a 1
        XADD s 3-1 a 1
        XADD s 4-1 a 1
        XADD s 5-1 a 1
        XTRIM s MAXLEN 10
        XTRIM s MAXLEN 4
        XTRIM s MINID 3
        XTRIM s MINID 4-2
        XTRIM s MINID ~ 5
        XRANGE s - +
        XINFO STREAM s
        XTRIM s MAXLEN 0
        XINFO STREAM s
        XADD s 5-1 a 1
        XADD s 6-1 a 1
        XTRIM s
        XTRIM s MAXLEN
        XTRIM s MAXLEN x
        XTRIM s MAXLEN 1 x
        XTRIM s x 1
        XTRIM s MAXLEN 1 LIMIT 1
        XTRIM s LIMIT 1
    """,
    "ranges": """
        XRANGE missing - +
        XREVRANGE missing + -
        XRANGE missing - + COUNT 0
        XADD s 1-1 a 1
        XADD s 1-2 a 2
        XADD s 2-1 a 3
        XADD s 3-0 a 4
        XRANGE s - +
        XREVRANGE s + -
        XRANGE s + -
        XRANGE s 1 1
        XRANGE s 1-2 2
        XRANGE s (1-1 (3
        XRANGE s (1-2 +
        XRANGE s (18446744073709551615-18446744073709551615 +
        XRANGE s - (0-0
        XRANGE s ( +
        XRANGE s x +
        XRANGE s - x
        XRANGE s 1-x +
        XRANGE s - + COUNT 2
        XREVRANGE s + - COUNT 2
        XREVRANGE s 2 1-2
        XREVRANGE s (2-1 (1-1
        XRANGE s - + COUNT 0
        XRANGE s - + COUNT -1
        XRANGE s - + COUNT x
        XRANGE s - + COUNT
        XRANGE s - + x 1
        XRANGE s - + COUNT 1 COUNT 2
        XRANGE s -
        XREVRANGE s - +
    """,
    "deleting": """
        XDEL missing 1-1
        XADD s 1-1 a 1
        XADD s 2-1 a 2
        XADD s 3-1 a 3
        XDEL s 2-1 2-1 9-9
        XRANGE s - +
        XINFO STREAM s
        XDEL s 3-1
        XINFO STREAM s
        XADD s 3-1 a 1
        XADD s 3-2 a 1
        XDEL s 1-1
        XINFO STREAM s
        XDEL s 3-2
        XLEN s
        EXISTS s
        TYPE s
        XINFO STREAM s
        XDEL s x
        XDEL s
        XDEL s 3-2 x
    """,
    "reading": """
        XADD s 1-1 a 1
        XADD s 2-1 b 2 c 3
        XADD t 5-1 d 4
        XREAD STREAMS s 0
        XREAD STREAMS s 1-1
        XREAD STREAMS s 2-1
        XREAD STREAMS s $
        XREAD STREAMS missing 0
        XREAD STREAMS s t 0 0
        XREAD STREAMS s t missing 0 5-1 0
        XREAD COUNT 1 STREAMS s t 0 0
        XREAD COUNT 0 STREAMS s 0
        XREAD COUNT -5 STREAMS s 0
        XREAD COUNT x STREAMS s 0
        XREAD BLOCK 10 STREAMS s 0
        XREAD BLOCK 10 STREAMS s $
        XREAD BLOCK 10 STREAMS s t $ 99
        XREAD BLOCK 10 COUNT 1 STREAMS s t $ 0
        XREAD BLOCK -1 STREAMS s 0
        XREAD BLOCK x STREAMS s 0
        XREAD STREAMS s t 0
        XREAD STREAMS s
        XREAD STREAMS
        XREAD COUNT 1
        XREAD x STREAMS s 0
        XREAD STREAMS s x
        XREAD STREAMS s >
        XREAD NOACK STREAMS s 0
        XREAD GROUP g c STREAMS s 0
    """,
    "kinds": """
        XADD s 1-1 a 1
        EXISTS s
        TTL s
        PTTL s
        TYPE s
        SCAN 0 TYPE stream
        DEL s
        EXISTS s
        XLEN s
        XADD s 1-1 a 1
        UNLINK s
        XRANGE s - +
        XADD s 1-1 a 1
        FLUSHALL
        XRANGE s - +
        XADD s 1-1 a 1
    """,
    "groups": """
        XGROUP CREATE s g 0
        XGROUP CREATE s g $ MKSTREAM
        XGROUP CREATE s g 0
        XGROUP CREATE s h x
        XGROUP CREATE s h 0 MKSTREAM x
        XGROUP CREATE s h 0 ENTRIESREAD -2
        XGROUP CREATE s h 0 ENTRIESREAD x
        XGROUP CREATE s h 0 ENTRIESREAD 3
        XGROUP CREATE s
        XGROUP CREATE
        XGROUP
        XGROUP x s g
        EXISTS s
        XLEN s
        XINFO GROUPS s
        XADD s 1-1 a 1
        XADD s 2-1 a 1
        XADD s 3-1 a 1
        XINFO GROUPS s
        XGROUP SETID s g 2
        XGROUP SETID s g $
        XGROUP SETID s h 1-1 ENTRIESREAD 1
        XINFO GROUPS s
        XGROUP SETID s missing 0
        XGROUP SETID missing g 0
        XGROUP SETID s g x
        XGROUP SETID s g 0 MKSTREAM
        XGROUP CREATECONSUMER s g c
        XGROUP CREATECONSUMER s g c
        XGROUP CREATECONSUMER s missing c
        XGROUP CREATECONSUMER missing g c
        XGROUP DELCONSUMER s g c
        XGROUP DELCONSUMER s g c
        XGROUP DELCONSUMER s missing c
        XGROUP DESTROY s h
        XGROUP DESTROY s h
        XGROUP DESTROY missing h
        XINFO GROUPS s
        XINFO GROUPS missing
        XINFO CONSUMERS s g
        XINFO CONSUMERS s missing
        XINFO CONSUMERS missing g
        XINFO STREAM missing
        XINFO STREAM s FULL
        XINFO STREAM s FULL COUNT 1
        XINFO STREAM s FULL COUNT x
        XINFO STREAM s x
        XINFO x s
        XINFO
    """,
    "reading as a group": """
        XREADGROUP GROUP g c STREAMS s >
        XADD s 1-1 a 1
        XREADGROUP GROUP g c STREAMS s >
        XADD s 2-1 a 2
        XADD s 3-1 a 3
        XGROUP CREATE s g 0
        XREADGROUP GROUP g c COUNT 1 STREAMS s >
        XREADGROUP GROUP g d COUNT 1 STREAMS s >
        XREADGROUP GROUP g c STREAMS s 0
        XREADGROUP GROUP g d STREAMS s 0
        XREADGROUP GROUP g d STREAMS s 5
        XREADGROUP GROUP g e STREAMS s 0
        XREADGROUP GROUP g d STREAMS s >
        XREADGROUP GROUP g d STREAMS s >
        XPENDING s g - + 10
        XREADGROUP GROUP g d BLOCK 10 STREAMS s >
        XREADGROUP GROUP g d BLOCK 10 STREAMS s 0
        XADD s 4-1 a 4
        XREADGROUP GROUP g d NOACK STREAMS s >
        XPENDING s g
        XDEL s 1-1
        XREADGROUP GROUP g c STREAMS s 0
        XACK s g 1-1
        XACK s g 1-1 2-1 9-9
        XREADGROUP GROUP g d STREAMS s 0
        XINFO GROUPS s
        XADD t 1-1 x y
        XREADGROUP GROUP g d STREAMS s t > >
        XGROUP CREATE t g 0
        XREADGROUP GROUP g d STREAMS s t > >
        XREADGROUP GROUP g d STREAMS s t 0 0
        XREADGROUP GROUP g d STREAMS s $
        XREADGROUP GROUP g d STREAMS s x
        XREADGROUP GROUP g d STREAMS s
        XREADGROUP GROUP g STREAMS s >
        XREADGROUP x g d STREAMS s >
        XREADGROUP GROUP g d COUNT x STREAMS s >
        XREADGROUP GROUP missing d STREAMS s >
        XACK s g x
        XACK s g
        XACK missing g 1
        XACK s missing 1
    """,
    "pending": """
        XPENDING s g
        XADD s 1-1 a 1
        XPENDING s g
        XGROUP CREATE s g 0
        XPENDING s g
        XPENDING s g - + 10
        XADD s 2-1 a 2
        XADD s 3-1 a 3
        XREADGROUP GROUP g c COUNT 2 STREAMS s >
        XREADGROUP GROUP g b STREAMS s >
        XPENDING s g
        XPENDING s g - + 10
        XPENDING s g - + 1
        XPENDING s g (1-1 3 10
        XPENDING s g - + 10 b
        XPENDING s g - + 10 missing
        XPENDING s g IDLE 100000 - + 10
        XPENDING s g IDLE 0 - + 10 c
        XPENDING s g - + 0
        XPENDING s g - + -1
        XPENDING s g - + x
        XPENDING s g - +
        XPENDING s g x + 1
        XPENDING s g IDLE x - + 1
        XPENDING s
        XPENDING s missing
        XPENDING s g - + 10 b c
        XGROUP DELCONSUMER s g c
        XPENDING s g
        XINFO CONSUMERS s g
        XGROUP SETID s g 0
        XREADGROUP GROUP g d STREAMS s >
        XPENDING s g - + 10
    """,
    "claiming": """
        XCLAIM s g c 0 1-1
        XADD s 1-1 a 1
        XADD s 2-1 a 2
        XADD s 3-1 a 3
        XCLAIM s g c 0 1-1
        XGROUP CREATE s g 0
        XCLAIM s g c 0 1-1
        XCLAIM s g c 0 1-1 FORCE
        XPENDING s g - + 10
        XREADGROUP GROUP g b STREAMS s >
        XCLAIM s g c 100000 2-1
        XCLAIM s g c 0 2-1 3-1
        XPENDING s g - + 10
        XCLAIM s g c 0 2-1 JUSTID
        XPENDING s g - + 10
        XCLAIM s g d 0 2-1 RETRYCOUNT 7 IDLE 5000
        XPENDING s g IDLE 4000 - + 10
        XCLAIM s g d 0 2-1 TIME 1 JUSTID
        XPENDING s g IDLE 5000 - + 10 d
        XCLAIM s g d 0 9-9 FORCE
        XDEL s 3-1
        XCLAIM s g d 0 3-1
        XPENDING s g
        XCLAIM s g d 0 1-1 LASTID 9-9
        XINFO GROUPS s
        XCLAIM s g d x 1-1
        XCLAIM s g d 0 x
        XCLAIM s g d 0 1-1 x
        XCLAIM s g d 0 1-1 IDLE x
        XCLAIM s g d 0 1-1 IDLE
        XCLAIM s g d 0
        XCLAIM s missing d 0 1-1
    """,
    "claiming what is idle": """
        XAUTOCLAIM s g c 0 0
        XADD s 1-1 a 1
        XADD s 2-1 a 2
        XADD s 3-1 a 3
        XADD s 4-1 a 4
        XGROUP CREATE s g 0
        XAUTOCLAIM s g c 0 0
        XREADGROUP GROUP g b STREAMS s >
        XAUTOCLAIM s g c 100000 0
        XAUTOCLAIM s g c 0 0 COUNT 2
        XAUTOCLAIM s g c 0 3 COUNT 2 JUSTID
        XAUTOCLAIM s g c 0 (3-1
        XPENDING s g - + 10
        XDEL s 2-1 4-1
        XAUTOCLAIM s g d 0 -
        XPENDING s g - + 10
        XAUTOCLAIM s g d 0 0 COUNT 0
        XAUTOCLAIM s g d 0 0 COUNT x
        XAUTOCLAIM s g d 0 0 x
        XAUTOCLAIM s g d x 0
        XAUTOCLAIM s g d 0 x
        XAUTOCLAIM s missing d 0 0
    """,
    "what a group has not been given": """
        XADD s 1-1 a 1
        XADD s 2-1 a 2
        XADD s 3-1 a 3
        XGROUP CREATE s g 0
        XGROUP CREATE s h 2-1
        XGROUP CREATE s i 3-1
        XGROUP CREATE s j 9-1
        XGROUP CREATE s k $
        XINFO GROUPS s
        XREADGROUP GROUP g c COUNT 1 STREAMS s >
        XREADGROUP GROUP h c COUNT 1 STREAMS s >
        XINFO GROUPS s
        XDEL s 2-1
        XINFO GROUPS s
        XREADGROUP GROUP g c COUNT 1 STREAMS s >
        XINFO GROUPS s
        XADD s 4-1 a 4
        XINFO GROUPS s
        XREADGROUP GROUP g c COUNT 1 STREAMS s >
        XREADGROUP GROUP k c COUNT 1 STREAMS s >
        XINFO GROUPS s
        XTRIM s MAXLEN 0
        XINFO GROUPS s
        XADD s 5-1 a 4
        XINFO GROUPS s
    """,
}


def comparable(words: Words, raw: bytes) -> Any:
    """A reply without times, and without what tells how Redis stores it."""
    line = line_of(words).lower()
    value = parsed(raw)
    if line.startswith("xinfo ") and isinstance(value[1], list):
        return _without(value)
    if re.fullmatch(r"xpending \S+ \S+ .+", line) and isinstance(value[1], list):
        return (value[0], [(mark, [*row[:2], row[3]]) for mark, row in value[1]])
    return value


def _without(value: Any) -> Any:
    """Maps without the fields that differ; what is in a PEL without its times."""
    mark, items = value
    if not isinstance(items, list):
        return value
    names = [item[1] for item in items[::2]]
    if (
        len(items) >= 2
        and len(items) % 2 == 0
        and all(isinstance(name, bytes) for name in names)
        and b"name" in names + [b"name"] * (b"length" in names)
    ):
        kept: list[Any] = []
        for name, item in zip(names, items[1::2], strict=True):
            if name in LEFT_OUT:
                continue
            if name in TIMES:
                kept.append((name, item[0]))
            elif name == b"pending" and isinstance(item[1], list):
                kept.append((name, [[cell for cell in row[1] if not (cell[0] == b":" and int(cell[1]) > 10**6)] for row in item[1]]))
            else:
                kept.append((name, _without(item)))
        return ("map", kept)
    return (mark, [_without(item) for item in items])


def compare(words: Words, redis: bytes, flo: bytes, before: Sequence[Words]) -> None:
    """Assert that the replies agree, apart from times."""
    if redis[:1] != b"-" and flo[:1] != b"-" and comparable(words, redis) == comparable(words, flo):
        return
    check(words, redis, flo, before)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_gets_the_same_replies_from_both(pair: Pair, name: str) -> None:
    pair.begin()
    done: list[Words] = []
    failures = []
    for line in SCRIPTS[name].strip().splitlines():
        words = words_of(line.strip())
        try:
            compare(words, *pair.ask(words), done[-6:])
        except pytest.fail.Exception as e:
            failures.append(str(e))
        done.append(words)
    if failures:
        pytest.fail(f"{len(failures)} replies differ:\n" + "\n\n".join(failures), pytrace=False)


# -- generated sequences ---------------------------------------------------------------------------

STREAMS, GROUPS, CONSUMERS = ["s", "t"], ["g", "h"], ["a", "b"]
some_id = st.builds(lambda ms, seq: f"{ms}-{seq}", st.integers(0, 6), st.integers(0, 2))
stream, group, consumer = st.sampled_from(STREAMS), st.sampled_from(GROUPS), st.sampled_from(CONSUMERS)
count = st.integers(1, 4).map(str)


def words(*parts: Any) -> st.SearchStrategy[list[str]]:
    """A request of fixed words and generated ones."""
    return st.tuples(*(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts)).map(
        lambda found: [word for part in found for word in (part if isinstance(part, list) else [part])]
    )


def optional(*parts: Any) -> st.SearchStrategy[list[str]]:
    return st.one_of(st.just([]), words(*parts))


ids = st.lists(some_id, min_size=1, max_size=3)
requests = st.one_of(
    words("XADD", stream, optional("NOMKSTREAM"), optional("MAXLEN", count), some_id, "f", "v"),
    words("XADD", stream, some_id, "data", "x"),
    words("XTRIM", stream, "MAXLEN", count),
    words("XTRIM", stream, "MINID", some_id),
    words("XDEL", stream, ids),
    words("XRANGE", stream, some_id, some_id, optional("COUNT", count)),
    words("XREVRANGE", stream, "+", some_id, optional("COUNT", count)),
    words("XREAD", optional("COUNT", count), "STREAMS", stream, some_id),
    words("XINFO", "STREAM", stream),
    words("XINFO", "GROUPS", stream),
    words("XINFO", "CONSUMERS", stream, group),
    words("XINFO", "STREAM", stream, "FULL"),
    words("XGROUP", "CREATE", stream, group, st.one_of(some_id, st.just("$"), st.just("0")), optional("MKSTREAM")),
    words("XGROUP", "SETID", stream, group, st.one_of(some_id, st.just("$")), optional("ENTRIESREAD", count)),
    words("XGROUP", st.sampled_from(["DESTROY"]), stream, group),
    words("XGROUP", st.sampled_from(["CREATECONSUMER", "DELCONSUMER"]), stream, group, consumer),
    words("XREADGROUP", "GROUP", group, consumer, optional("COUNT", count), optional("NOACK"), "STREAMS", stream, ">"),
    words("XREADGROUP", "GROUP", group, consumer, optional("COUNT", count), "STREAMS", stream, some_id),
    words("XACK", stream, group, ids),
    words("XPENDING", stream, group),
    words("XPENDING", stream, group, "-", "+", "10", optional(consumer)),
    words("XCLAIM", stream, group, consumer, "0", ids, optional("FORCE"), optional("JUSTID"), optional("RETRYCOUNT", count)),
    words("XAUTOCLAIM", stream, group, consumer, "0", some_id, optional("COUNT", count), optional("JUSTID")),
    words("DEL", stream),
)
AT_THE_END = [
    line.split()
    for name in STREAMS
    for line in (
        f"XRANGE {name} - +",
        f"XINFO STREAM {name}",
        f"XINFO GROUPS {name}",
        f"XPENDING {name} g - + 99",
        f"XPENDING {name} h - + 99",
    )
]


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(requests, min_size=1, max_size=60))
def test_generated_sequences_get_the_same_replies_from_both(pair: Pair, sequence: list[list[str]]) -> None:
    pair.begin()
    everything: list[Words] = [["XADD", "s", "1-1", "f", "v"], ["XGROUP", "CREATE", "s", "g", "0"], *sequence, *AT_THE_END]
    answers = pair.ask_all(everything)
    for at, (request, (redis, flo)) in enumerate(zip(everything, answers, strict=True)):
        compare(request, redis, flo, everything[:at])
