"""How a string, a list, a stream, and a hash, set or sorted set are copied: a generator each, which asks one of the two servers and is sent
the replies. So many keys are copied at once with few round trips (`run.together`), and each copy still reads as one piece.

A copy may be cut off behind any request, and started again later; it then ends with the same content, nothing twice:

- A string or a document is written again as a whole.
- A list becomes a queue that was empty and is paused meanwhile, so the number of its messages says how far the copy came.
- Records of a stream have their ids, so the stream's last id says it. Groups and deliveries are set again.

A *mark*, a key of Flo, says that the copy of a list or a stream has begun, and later that it is done. So a queue that has messages and no
mark was there before. A list's mark says `whole` before its queue is resumed: from then on workers may take messages.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from hashlib import sha256
from time import monotonic
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec

from flo.errors import Conflict, Refusal
from flo.importer.report import Report
from flo.importer.wire import Failure, Left, Oversized, Request, TooMuch, all_good, good
from flo.limits import DEADLINE_MAX, VALUE_BYTES_MAX

if TYPE_CHECKING:
    from flo.client import Client

PIECE_BYTES = 1 << 20  # read of a list or a stream at once, as far as its average tells
PIECE_ITEMS = 1000
DOCUMENT_BYTES_MAX = 1 << 20  # Flo's limit of a JSON document
NO_DOCUMENT = f"larger than {DOCUMENT_BYTES_MAX >> 20} MiB, the most a JSON document may have"
GONE = "a delivery is pending whose record was deleted"
TOO_LARGE = f"larger than {VALUE_BYTES_MAX >> 20} MiB, the most a value may have"
THERE_BEFORE = "Flo had one of this name before the import; delete it there, or import into another namespace"
EXACT_MAX = 1 << 53  # whole numbers up to this are written as such in JSON


class Ask(NamedTuple):
    """Requests to one of the servers."""

    flo: bool
    requests: list[Request]


Steps = Generator[Ask, list[Any], None]
P = ParamSpec("P")


class Key(NamedTuple):
    """A key of Redis: its name, and its size in memory (0: not known)."""

    name: bytes
    usage: int


class Place:
    """Where the copies go: shared by all of them."""

    def __init__(self, client: "Client", prefix: bytes, report: Report, lpop: bool) -> None:
        """`prefix` begins the names of the marks. `lpop`: workers take from lists by LPOP."""
        self.client = client
        self.prefix = prefix
        self.report = report
        self.lpop = lpop
        self.moved = 0  # things written so far: that it grows shows that trying again is worth it
        self.clock: float = 0.0  # Flo's time in ms, minus the steady clock's: deadlines are Flo's, whatever the other machines' clocks say

    def deadline(self, ttl: int) -> int | None:
        """Flo's time when a key that has this TTL of Redis (ms) just now runs out; None for never."""
        deadline = int(self.clock + monotonic() * 1000) + ttl
        return None if ttl < 0 or deadline > DEADLINE_MAX else deadline

    def mark_of(self, name: bytes) -> bytes:
        """The name of a list's or a stream's mark."""
        return self.prefix + sha256(name).hexdigest().encode()


def pairs(reply: list[Any]) -> dict[bytes, Any]:
    """A map in RESP2."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def piece_items(usage: int, length: int) -> int:
    """How many items of a list or a stream are read at first."""
    return min(max(PIECE_BYTES // max(usage // max(length, 1), 1), 1), PIECE_ITEMS) if usage else 1


def next_items(items: int, size: int) -> int:
    """How many items are read next, if `items` had `size` bytes."""
    return min(max(PIECE_BYTES * items // max(size, 1), 1), items * 2, PIECE_ITEMS)


# -- strings ---------------------------------------------------------------------------------------


def copy_string(place: Place, key: Key) -> Steps:
    """Copy a string, with its deadline."""
    if key.usage > VALUE_BYTES_MAX:  # reading it would make Redis copy all of it
        (size,) = yield Ask(False, [(b"STRLEN", key.name)])
        if good(size) > VALUE_BYTES_MAX:
            raise Left(TOO_LARGE)
    value, ttl = yield Ask(False, [(b"GET", key.name), (b"PTTL", key.name)])
    if good(value) is None or good(ttl) == -2:
        return
    if isinstance(value, Oversized):
        raise Left(TOO_LARGE)
    deadline = place.deadline(ttl)
    replies = yield Ask(True, [(b"SET", key.name, value) if deadline is None else (b"SET", key.name, value, b"PXAT", deadline)])
    all_good(replies)
    place.report.add(strings=1, bytes=len(value))
    place.moved += 1


# -- marks -----------------------------------------------------------------------------------------


class Mark:
    """How far the copy of a list or a stream came: `begun`, `whole` (all of it is there) or `done`; what it had and what of it was left."""

    def __init__(self, place: Place, key: Key, kind: str, saved: bytes | None) -> None:
        """`saved` is the mark's value in Flo; None for a copy that begins."""
        self._place = place
        self._name = key.name
        self._key = place.mark_of(key.name)
        self.begun: bool = saved is not None
        self.facts: dict[str, Any] = json.loads(saved) if saved is not None else {
            "kind": kind, "name": key.name.decode("latin-1"), "state": "begun", "paused": False, "behind": "0-0", "left": {}, "counts": {},
        }  # fmt: skip

    def leave(self, reason: str, count: int = 1) -> None:
        """Count what is left of the list or stream."""
        self.facts["left"][reason] = self.facts["left"].get(reason, 0) + count

    @property
    def left(self) -> int:
        """How many parts were left."""
        return sum(self.facts["left"].values())

    def save(self, **facts: Any) -> Request:
        """The request that writes the mark with these facts."""
        self.facts |= facts
        return (b"SET", self._key, json.dumps(self.facts))

    def count(self) -> None:
        """Add the whole list or stream to the report."""
        self._place.report.add(**self.facts["counts"])
        for reason, count in self.facts["left"].items():
            for _ in range(count):
                self._place.report.leave(self._name, "message" if self.facts["kind"] == "list" else "record", reason)


def undo(place: Place, kind: str, name: bytes) -> Request:
    """Delete an unfinished copy from Flo; returns the request that deletes its mark."""
    with suppress(Refusal):  # it was never there
        (place.client.queues if kind == "list" else place.client.streams).delete(name)
    return (b"DEL", place.mark_of(name))


def _guarded(steps: Callable[Concatenate[Place, Key, Mark, P], Steps]) -> Callable[Concatenate[Place, Key, Mark, P], Steps]:
    """Steps that, if they end with `Left`, leave nothing half copied."""

    def run(place: Place, key: Key, mark: Mark, /, *more: P.args, **named: P.kwargs) -> Steps:
        try:
            yield from steps(place, key, mark, *more, **named)
        except Left:
            yield Ask(True, [undo(place, mark.facts["kind"], key.name)])
            raise

    return run


# -- lists -----------------------------------------------------------------------------------------


def copy_list(place: Place, key: Key) -> Steps:
    """Copy a list as a queue: the message that RPOP took from Redis is the one that RPOP takes from Flo; or LPOP, if `place.lpop`."""
    saved, stats = yield Ask(True, [(b"GET", place.mark_of(key.name)), (b"QSTATS", key.name)])
    mark = Mark(place, key, "list", good(saved))
    counts = pairs(good(stats))
    there = sum(counts[name] for name in (b"ready", b"delayed", b"leased"))
    if not mark.begun:
        if there + counts[b"dead"]:
            raise Left(THERE_BEFORE)
        mark.facts |= {"paused": bool(counts[b"paused"]), "lpop": place.lpop}
    if mark.facts["state"] == "begun":
        yield from _fill_queue(place, key, mark, there)
    if mark.facts["state"] == "whole":
        if not mark.facts["paused"]:
            all_good((yield Ask(True, [(b"QPAUSE", key.name, b"OFF")])))
        all_good((yield Ask(True, [mark.save(state="done")])))
    if mark.facts["state"] == "done":
        mark.count()


@_guarded
def _fill_queue(place: Place, key: Key, mark: Mark, there: int) -> Steps:
    """Read the list from the end that is taken from, and add what is read to the `there` messages that the queue has. A write is sent when
    the one before is acknowledged: if one were refused and the next not, the number of messages would not say how far the copy came."""
    all_good((yield Ask(True, [mark.save()])))
    all_good((yield Ask(True, [(b"QPAUSE", key.name, b"ON")])))
    (length,) = yield Ask(False, [(b"LLEN", key.name)])
    items = piece_items(key.usage, good(length))
    lpop = mark.facts["lpop"]
    while True:
        at = there + mark.left  # counted from the end that is taken from
        span = (at, at + items - 1) if lpop else (-(at + items), -(at + 1))
        (found,) = yield Ask(False, [(b"LRANGE", key.name, *span)])
        if isinstance(found, TooMuch) and items > 1:
            items //= 2
            continue
        if not good(found):
            break
        size = 0
        for group in _groups(found if lpop else found[::-1]):
            if isinstance(group, Oversized):
                mark.leave(TOO_LARGE)
                all_good((yield Ask(True, [mark.save()])))
                continue
            all_good((yield Ask(True, [(b"RPUSH" if lpop else b"LPUSH", key.name, *group)])))
            there += len(group)
            size += sum(map(len, group))
            place.moved += len(group)
        items = next_items(len(found), size)
    (ttl,) = yield Ask(False, [(b"PTTL", key.name)])
    if good(ttl) == -2:  # workers took all of it, or its time is over
        yield Ask(True, [undo(place, "list", key.name)])
        return
    yield from _set_deadline(place, key, b"list", ttl)
    all_good((yield Ask(True, [mark.save(state="whole", counts={"lists": 1, "messages": there})])))


def _groups(values: list[Any]) -> Iterator[Any]:
    """Values in groups that one request takes; each that is too large alone."""
    group: list[bytes] = []
    size = 0
    for value in values:
        large = isinstance(value, Oversized)
        if group and (large or size + len(value) > VALUE_BYTES_MAX):
            yield group
            group, size = [], 0
        if large:
            yield value
        else:
            group.append(value)
            size += len(value)
    if group:
        yield group


def _set_deadline(place: Place, key: Key, kind: bytes, ttl: int) -> Steps:
    """Set the deadline of a queue or a stream. Flo's EXPIRE is about the string of a name if there is one."""
    deadline = place.deadline(ttl)
    if deadline is None:
        return
    (found,) = yield Ask(True, [(b"TYPE", key.name)])
    if good(found) == kind:
        all_good((yield Ask(True, [(b"PEXPIREAT", key.name, deadline)])))
    else:
        place.report.leave(key.name, "time to live", "Flo has a value of another kind with this name, which would get it")


# -- streams ---------------------------------------------------------------------------------------


def after(ident: bytes) -> bytes:
    """The id behind a stream's id."""
    ms, seq = map(int, ident.split(b"-"))
    return b"%d-%d" % ((ms, seq + 1) if seq < (1 << 64) - 1 else (ms + 1, 0))


def number(ident: bytes) -> tuple[int, ...]:
    """A stream's id, to compare."""
    return tuple(map(int, ident.split(b"-")))


def copy_stream(place: Place, key: Key) -> Steps:
    """Copy a stream: records with their ids, groups, consumers, and what they have not acknowledged."""
    saved, info = yield Ask(True, [(b"GET", place.mark_of(key.name)), (b"XINFO", b"STREAM", key.name)])
    mark = Mark(place, key, "stream", good(saved))
    facts = {} if isinstance(info, Failure) else pairs(info)  # a failure: there is no such stream
    last: bytes = facts.get(b"last-generated-id", b"0-0")
    if not mark.begun and (last != b"0-0" or facts.get(b"groups")):
        raise Left(THERE_BEFORE)
    if mark.facts["state"] != "done":
        mark.facts["behind"] = max(last, mark.facts["behind"].encode(), key=number).decode()
        yield from _fill_stream(place, key, mark)
    if mark.facts["state"] == "done":
        mark.count()


@_guarded
def _fill_stream(place: Place, key: Key, mark: Mark) -> Steps:
    (info,) = yield Ask(False, [(b"XINFO", b"STREAM", key.name)])
    facts = pairs(good(info))
    all_good((yield Ask(True, [mark.save()])))
    yield from _add_records(place, key, mark, piece_items(key.usage, facts[b"length"]))
    if not facts[b"length"]:
        with suppress(Conflict):  # it was made by an earlier run
            place.client.streams.create(key.name)
    set_id: Request = (b"XSETID", key.name, facts[b"last-generated-id"])
    if b"entries-added" in facts:  # from Redis 7 on
        set_id = (*set_id, b"ENTRIESADDED", facts[b"entries-added"], b"MAXDELETEDID", facts[b"max-deleted-entry-id"])
    all_good((yield Ask(True, [set_id])))
    (found,) = yield Ask(False, [(b"XINFO", b"GROUPS", key.name)])
    counts = dict.fromkeys(("groups", "pending"), 0)
    mark.facts["left"].pop(GONE, None)  # groups are copied anew, whatever an earlier run did
    for group in map(pairs, good(found)):
        counts["groups"] += 1
        yield from _copy_group(place, key, group, mark, counts)
    (ttl,) = yield Ask(False, [(b"PTTL", key.name)])
    if good(ttl) == -2:
        yield Ask(True, [undo(place, "stream", key.name)])
        return
    yield from _set_deadline(place, key, b"stream", ttl)
    (length,) = yield Ask(True, [(b"XLEN", key.name)])
    counts |= {"streams": 1, "records": good(length)}
    all_good((yield Ask(True, [mark.save(state="done", counts=counts)])))


def _add_records(place: Place, key: Key, mark: Mark, items: int) -> Steps:
    """Append the records behind the last that was copied."""
    behind: bytes = mark.facts["behind"].encode()
    while True:
        (found,) = yield Ask(False, [(b"XRANGE", key.name, after(behind), b"+", b"COUNT", items)])
        if isinstance(found, TooMuch) and items > 1:
            items //= 2
            continue
        if not good(found):
            return
        size = 0
        writes: list[Request] = []
        for ident, fields in found:
            large = any(isinstance(field, Oversized) for field in fields)
            bytes_of = VALUE_BYTES_MAX + 1 if large else sum(map(len, fields))
            if bytes_of > VALUE_BYTES_MAX:
                mark.leave(TOO_LARGE)
                writes.append(mark.save(behind=ident.decode()))
            else:
                writes.append((b"XADD", key.name, ident, *fields))
                size += bytes_of
        replies = yield Ask(True, writes)
        yield from _no_gap(place, key, replies)
        place.moved += len(replies)
        behind = found[-1][0]
        items = next_items(len(found), size)


def _no_gap(place: Place, key: Key, replies: list[Any]) -> Steps:
    """See that all appends were taken. If one was refused and a later one was not, the stream is deleted, to be copied anew: its last id
    would hide the gap."""
    failed = next((at for at, reply in enumerate(replies) if isinstance(reply, Failure)), None)
    if failed is None:
        return
    if not all(isinstance(reply, Failure) for reply in replies[failed:]):
        yield Ask(True, [undo(place, "stream", key.name)])
    good(replies[failed])


def _copy_group(place: Place, key: Key, group: dict[bytes, Any], mark: Mark, counts: dict[str, int]) -> Steps:
    """Make a group, or set it again; then its consumers and what is pending with them."""
    name = group[b"name"]
    words: Request = (key.name, name, group[b"last-delivered-id"])
    if group.get(b"entries-read") is not None:
        words = (*words, b"ENTRIESREAD", group[b"entries-read"])
    (made,) = yield Ask(True, [(b"XGROUP", b"CREATE", *words)])
    if isinstance(made, Failure) and made.text.startswith("BUSYGROUP"):
        (made,) = yield Ask(True, [(b"XGROUP", b"SETID", *words)])
    good(made)
    (consumers,) = yield Ask(False, [(b"XINFO", b"CONSUMERS", key.name, name)])
    all_good((yield Ask(True, [(b"XGROUP", b"CREATECONSUMER", key.name, name, pairs(one)[b"name"]) for one in good(consumers)])))
    start = b"-"
    while True:
        (rows,) = yield Ask(False, [(b"XPENDING", key.name, name, start, b"+", PIECE_ITEMS)])
        if not good(rows):
            return
        claims: list[Request] = [
            (b"XCLAIM", key.name, name, consumer, 0, ident, b"IDLE", idle, b"RETRYCOUNT", deliveries, b"FORCE", b"JUSTID")
            for ident, consumer, idle, deliveries in rows
        ]
        replies: list[list[bytes]] = all_good((yield Ask(True, claims)))
        claimed = sum(map(len, replies))
        if claimed < len(rows):
            mark.leave(GONE, len(rows) - claimed)
        counts["pending"] += claimed
        place.moved += claimed
        start = after(rows[-1][0])


# -- documents -------------------------------------------------------------------------------------


def copy_hash(place: Place, key: Key) -> Steps:
    """Copy a hash as {"field": "value", …}."""
    items = yield from _scan(key, b"HSCAN")
    found = dict(zip(items[::2], items[1::2], strict=True))
    yield from _set_document(place, key, {_member_name(name): _json(value) for name, value in found.items()})


def copy_set(place: Place, key: Key) -> Steps:
    """Copy a set as ["member", …], in the order of the members' bytes."""
    items = yield from _scan(key, b"SSCAN")
    yield from _set_document(place, key, [_json(member) for member in sorted(set(items))])


def copy_sorted_set(place: Place, key: Key) -> Steps:
    """Copy a sorted set as {"member": score, …}, in the order of the scores; an infinite score is the string "inf" or "-inf"."""
    items = yield from _scan(key, b"ZSCAN")
    scores = {member: float(score) for member, score in zip(items[::2], items[1::2], strict=True)}
    found = sorted(scores.items(), key=lambda item: (item[1], item[0]))
    yield from _set_document(place, key, {_member_name(member): _score(score) for member, score in found})


def _scan(key: Key, command: bytes) -> Generator[Ask, list[Any], list[bytes]]:
    """The members of a hash, a set or a sorted set, a piece at a time. One may come twice."""
    items: list[bytes] = []
    cursor, size = b"0", 0
    while True:
        (reply,) = yield Ask(False, [(command, key.name, cursor, b"COUNT", PIECE_ITEMS)])
        cursor, found = good(reply)
        if any(isinstance(item, Oversized) for item in found):
            raise Left(NO_DOCUMENT)
        size += sum(map(len, found))
        if size > DOCUMENT_BYTES_MAX * 2:  # half of it may have come twice
            raise Left(NO_DOCUMENT)
        items += found
        if cursor == b"0":
            return items


def _json(value: bytes) -> Any:
    """Bytes in JSON: a string if they are UTF-8, else {"base64": …}."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def _member_name(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise Left("a name in it is not UTF-8, as the names in JSON are") from None


def _score(score: float) -> int | float | str:
    if score in (float("inf"), float("-inf")):
        return str(score)
    return int(score) if score.is_integer() and abs(score) <= EXACT_MAX else score


def _set_document(place: Place, key: Key, value: Any) -> Steps:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > DOCUMENT_BYTES_MAX:
        raise Left(NO_DOCUMENT)
    (ttl,) = yield Ask(False, [(b"PTTL", key.name)])
    if good(ttl) == -2:
        return
    all_good((yield Ask(True, [(b"JSON.SET", key.name, b"$", text)])))
    deadline = place.deadline(ttl)
    expire: Request = (b"PERSIST", key.name) if deadline is None else (b"PEXPIREAT", key.name, deadline)
    all_good((yield Ask(True, [expire])))
    place.report.add(documents=1)
    place.moved += 1
