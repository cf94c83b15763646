"""The walk through a Redis: SCAN, a page at a time, the keys of a page copied together. It goes on where it was cut off.

The place, and the report up to there, are a key of Flo, so they are as durable as what was copied. A lost connection and a killed process
are the same: the walk is taken up from that key, the last page is copied again, and each copy finds how far it had come (kinds.py).

A cursor of SCAN means nothing to a Redis that was started again, since its tables are ordered by a number drawn at its start. So the run id
stands beside the cursor, and where it differs the walk begins anew; lists and streams that are done are then only counted.

An importer that was killed may have left requests in its connection that Flo has not executed yet. The next one must not read how far a
copy came before they are executed or gone. So it first closes every connection that has its own name; Flo drops their requests.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from hashlib import sha256
from time import monotonic, sleep
from typing import Any, NamedTuple

from flo.client import Client, Disconnected
from flo.importer import kinds
from flo.importer.kinds import PIECE_BYTES, Ask, Key, Place, Steps
from flo.importer.report import Report
from flo.importer.wire import Failure, Left, Lost, Oversized, Source, Stopped, Wire, good
from flo.limits import KEY_BYTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX

PAGE_KEYS = 500  # Redis serves nobody else while it makes a page: some 100 us
TOGETHER_BYTES = 16 << 20  # of values that are copied at the same time
EMPTY_PAGES_MAX = 50  # without a key that matches, before the place is saved all the same
RETRY_SECONDS = 60.0  # without anything copied, before the import gives up
RETRY_DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0)  # the last one again and again
CLEAN_KEYS = 1000
TAKEN = "another flo import from this Redis into this namespace has taken over; let that one end"
NO_LPOP = (
    "--lpop needs RPUSH, which Flo has in the profile redis only: start it with FLO_RESP_PROFILE=redis, or CONFIG SET resp.profile redis"
)
NO_HASHES = "Flo has no {}; --hashes json copies them as JSON documents"
COPIES: dict[bytes, Callable[[Place, Key], Steps]] = {b"string": kinds.copy_string, b"list": kinds.copy_list, b"stream": kinds.copy_stream}
DOCUMENTS: dict[bytes, Callable[[Place, Key], Steps]] = {
    b"hash": kinds.copy_hash,
    b"set": kinds.copy_set,
    b"zset": kinds.copy_sorted_set,
}
NOUNS = {b"hash": "hashes", b"set": "sets", b"zset": "sorted sets"}
LENGTHS = {b"list": ("LLEN", "lists", "messages"), b"stream": ("XLEN", "streams", "records")}


class Options(NamedTuple):
    """What to copy: keys that match the pattern (empty: all), hashes and the like as documents or not at all, lists for workers that take
    by LPOP rather than RPOP; or nothing: count only."""

    match: str
    documents: bool
    lpop: bool
    dry_run: bool


class Progress(NamedTuple):
    """How far the walk is: keys of Redis that it has passed, how many there were at its start, things written."""

    looked: int
    keys: int
    moved: int


class _Task:
    """A copy under way, and what it asks for."""

    def __init__(self, key: Key, kind: str, steps: Steps) -> None:
        self.key = key
        self.kind = kind
        self.steps = steps
        self.weight = min(key.usage or PIECE_BYTES, VALUE_BYTES_MAX)  # bytes that it may hold at a time
        self.ask: Ask | None = None


class Import:
    """One import: `run` does it."""

    def __init__(
        self,
        client: Client,
        source: Source,
        options: Options,
        show: Callable[[Progress], None] = lambda _: None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`show` is called often with the progress, `tell` with a sentence about a lost connection."""
        self._source = source
        self._options = options
        self._show = show
        self._tell = tell
        self._client = client
        self._redis = Wire("Redis", source.host, source.port, client.timeout, source.tls)
        self._flo = Wire("Flo", client.host, client.port, client.timeout)
        self._name = b"flo-import:%b:" % sha256(source.name.encode()).hexdigest()[:16].encode()
        self._place = Place(client, self._name, Report(), options.lpop)
        self._owner = secrets.token_hex(8)
        self._version = 0  # of the state; 0 before this run has made the state its own
        self._state: dict[str, Any] = {}
        self._run_id = ""
        self._keys = 0

    def run(self) -> Report:
        """Copy everything, over lost connections too; returns the report. Raises `Disconnected` if a server is not there, or not any more,
        and `Stopped`."""
        walk = self._count if self._options.dry_run else self._copy
        moved, since, tries, begun = -1, monotonic(), 0, False
        while True:
            try:
                self._connect()
                begun = True
                return walk()
            except (Lost, Disconnected) as e:
                if self._place.moved != moved:
                    moved, since, tries = self._place.moved, monotonic(), 0
                    if begun:
                        self._tell(f"{e}; trying again")
                if not begun or monotonic() - since > RETRY_SECONDS:
                    raise Disconnected(f"{e}" + ("; run the same command again to go on" if begun else "")) from None
                sleep(RETRY_DELAYS[min(tries, len(RETRY_DELAYS) - 1)])
                tries += 1
            finally:
                for connection in (self._redis, self._flo, self._client):  # the client's too may be to a server that is gone
                    connection.close()

    def forget(self) -> None:
        """Delete the state, once the report is told: until then, another run tells it again."""
        self._client.kv.delete(self._name + b"state")

    # -- connections -------------------------------------------------------------------------------

    def _connect(self) -> None:
        redis, source = self._redis, self._source
        redis.open()
        if source.password:
            redis.need("AUTH", *([source.user] if source.user else []), source.password)
        if source.database:
            redis.need("SELECT", source.database)
        # neither is needed: a name for `CLIENT LIST`, and (from Redis 7.2 on) reading that does not make a key look used
        redis.ask([("CLIENT", "SETNAME", "flo-import"), ("CLIENT", "NO-TOUCH", "ON")])
        lines = redis.need("INFO", "server").decode("utf-8", "replace").splitlines()
        self._run_id = next((line.partition(":")[2] for line in lines if line.startswith("run_id:")), "")
        self._keys = redis.need("DBSIZE")
        flo, client = self._flo, self._client
        flo.open()
        if client.secret is not None:
            flo.need("AUTH", client.secret)
        flo.need("USE", client.namespace)
        if self._options.lpop and flo.need("CONFIG", "GET", "resp.profile")[-1] != b"redis":
            raise Stopped(NO_LPOP)
        if not self._options.dry_run:
            self._close_others()

    def _close_others(self) -> None:
        """Close the connections that an earlier importer has left, with what they still hold."""
        name = self._name.rstrip(b":")
        self._flo.need("CLIENT", "SETNAME", name)
        own = self._flo.need("CLIENT", "ID")
        for line in self._flo.need("CLIENT", "LIST").splitlines():
            facts = dict(word.partition(b"=")[::2] for word in line.split(b" "))
            if facts.get(b"name") == name and int(facts[b"id"]) != own:
                self._flo.need("CLIENT", "KILL", "ID", int(facts[b"id"]))

    def _set_clock(self) -> None:
        asked = monotonic()
        seconds, micros = map(int, self._flo.need("TIME"))
        self._place.clock = seconds * 1000 + micros / 1000 - (asked + monotonic()) / 2 * 1000

    # -- the state ---------------------------------------------------------------------------------

    def _load(self) -> None:
        """Read the state, and make it this run's own."""
        found = self._flo.need("GETV", self._name + b"state")
        if self._version and (found is None or json.loads(found[1])["owner"] != self._owner):
            raise Stopped(TAKEN)
        self._version, state = (0, {}) if found is None else (found[0], json.loads(found[1]))
        walk = [self._options.match, self._options.documents]
        same = state.get("walk") == walk and (state.get("cleaning") or (self._run_id and state.get("run_id") == self._run_id))
        self._state = state if same else {"cursor": "0", "looked": 0, "report": Report().as_json(), "cleaning": False}
        self._state |= {"walk": walk, "run_id": self._run_id, "owner": self._owner}
        self._place.report = Report(self._state["report"])
        self._save()

    def _save(self) -> None:
        self._state["report"] = self._place.report.as_json()
        self._version = self._replace_state(json.dumps(self._state))
        self._set_clock()

    def _replace_state(self, text: str) -> int:
        (version,) = self._flo.ask([("CAS", self._name + b"state", self._version, text)])
        if not isinstance(version, int):
            if version.text.startswith("CONFLICT"):
                raise Stopped(TAKEN)
            good(version)
        return int(version)

    # -- the walk ----------------------------------------------------------------------------------

    def _copy(self) -> Report:
        self._load()
        empty = 0
        while not self._state["cleaning"]:
            cursor, keys = self._page(self._state["cursor"])
            self._together(self._tasks(keys))
            self._state |= {"cursor": cursor, "looked": self._state["looked"] + PAGE_KEYS, "cleaning": cursor == "0"}
            empty = 0 if keys else empty + 1
            if not empty or empty >= EMPTY_PAGES_MAX or cursor == "0":
                self._save()
                empty = 0
        self._clean()
        return self._place.report

    def _page(self, cursor: str) -> tuple[str, list[tuple[Key, bytes]]]:
        """The next cursor, and keys with their types."""
        self._show(Progress(min(self._state["looked"], self._keys), self._keys, self._place.moved))
        match = ["MATCH", self._options.match] if self._options.match else []
        following, found = self._redis.need("SCAN", cursor, *match, "COUNT", PAGE_KEYS)
        names: list[bytes] = []
        for name in dict.fromkeys(found):
            if isinstance(name, Oversized) or len(name) > KEY_BYTES_MAX:
                self._place.report.leave(
                    b"(its name is too long)", "key", f"a name of over {KEY_BYTES_MAX:,} bytes, the most a key may have"
                )
            else:
                names.append(name)
        replies = self._redis.ask([request for name in names for request in (("TYPE", name), ("MEMORY", "USAGE", name))])
        keys: list[tuple[Key, bytes]] = []
        for name, kind, usage in zip(names, replies[::2], replies[1::2], strict=True):
            if isinstance(kind, Failure):
                self._place.report.leave(name, "key", kind.text)
            elif kind != b"none":  # else it was deleted meanwhile
                keys.append((Key(name, usage if isinstance(usage, int) else 0), kind))
        return following.decode(), keys

    def _reason(self, key: Key, kind: bytes) -> str:
        """Why a key is not copied; empty if it is."""
        if kind in NOUNS:
            return "" if self._options.documents else NO_HASHES.format(NOUNS[kind])
        if kind not in COPIES:
            return "Flo has nothing of this type"
        if kind != b"string" and len(key.name) > NAME_BYTES_MAX:
            return f"a name of over {NAME_BYTES_MAX:,} bytes, the most a queue or a stream may have"
        return ""

    def _tasks(self, keys: list[tuple[Key, bytes]]) -> Iterator[_Task]:
        """A copy for each key that is copied."""
        for key, kind in keys:
            word, reason = _word(kind), self._reason(key, kind)
            if reason:
                self._place.report.leave(key.name, word, reason)
            else:
                yield _Task(key, word, (COPIES | DOCUMENTS)[kind](self._place, key))

    def _together(self, tasks: Iterator[_Task]) -> None:
        """Copy several keys at the same time, as many as may be held."""
        active: list[_Task] = []
        following = next(tasks, None)
        while following is not None or active:
            held = sum(task.weight for task in active)
            while following is not None and (not active or held + following.weight <= TOGETHER_BYTES):
                self._advance(following, None)
                active.append(following)
                held += following.weight
                following = next(tasks, None)
            for wire, flo in ((self._redis, False), (self._flo, True)):
                asking = [(task, task.ask.requests) for task in active if task.ask is not None and task.ask.flo is flo]
                replies = iter(wire.ask([request for _, requests in asking for request in requests]))
                for task, requests in asking:
                    self._advance(task, [next(replies) for _ in requests])
            active = [task for task in active if task.ask is not None]
            self._show(Progress(min(self._state["looked"], self._keys), self._keys, self._place.moved))

    def _advance(self, task: _Task, replies: list[Any] | None) -> None:
        """Give a copy the replies it asked for, and keep what it asks for next: None at its end."""
        task.ask = None
        try:
            task.ask = next(task.steps) if replies is None else task.steps.send(replies)
        except StopIteration:
            pass
        except Left as e:
            self._place.report.leave(task.key.name, task.kind, str(e))

    # -- the end -----------------------------------------------------------------------------------

    def _clean(self) -> None:
        """Delete the marks. A list or stream whose copy was begun by a run before this one, and that Redis does not have any
        more, is deleted with its mark."""
        cursor = b"0"
        state = self._name + b"state"
        while True:
            cursor, names = self._flo.need("SCAN", cursor, "MATCH", self._name + b"*", "COUNT", CLEAN_KEYS)
            gone: list[bytes] = []
            marks = [name for name in names if name != state]
            for name, text in zip(marks, self._flo.need("MGET", *marks) if marks else [], strict=True):
                if text is None or self._is_over(json.loads(text)):
                    gone.append(name)
            if gone:
                self._flo.need("DEL", *gone)
            if cursor == b"0":
                break

    def _is_over(self, mark: dict[str, Any]) -> bool:
        """Whether a mark is not needed any more."""
        if mark["state"] == "done":
            return True
        name = mark["name"].encode("latin-1")
        if self._redis.need("EXISTS", name):
            self._place.report.leave(name, mark["kind"], "half copied by an earlier import with another --match; run that one to its end")
            return False
        kinds.undo(self._place, mark["kind"], name)
        return True

    # -- counting only -----------------------------------------------------------------------------

    def _count(self) -> Report:
        """What an import would copy, and what it would leave as far as types and sizes tell."""
        self._place.report = report = Report()
        self._state = {"looked": 0}
        cursor = "0"
        while True:
            cursor, keys = self._page(cursor)
            self._count_keys(report, keys)
            self._state["looked"] += PAGE_KEYS
            if cursor == "0":
                return report

    def _count_keys(self, report: Report, keys: list[tuple[Key, bytes]]) -> None:
        commands = {b"string": "STRLEN"} | {kind: command for kind, (command, _, _) in LENGTHS.items()}
        asked = [(key, kind) for key, kind in keys if kind in commands]
        lengths = dict(
            zip([key.name for key, _ in asked], self._redis.ask([(commands[kind], key.name) for key, kind in asked]), strict=True)
        )
        for key, kind in keys:
            reason, length = self._reason(key, kind), lengths.get(key.name, 0)
            if reason or not isinstance(length, int):
                report.leave(key.name, _word(kind), reason or length.text)
            elif kind == b"string" and length > VALUE_BYTES_MAX:
                report.leave(key.name, "string", kinds.TOO_LARGE)
            elif kind == b"string":
                report.add(strings=1, bytes=length)
            elif kind in LENGTHS:
                report.add(**{LENGTHS[kind][1]: 1, LENGTHS[kind][2]: length})
            else:
                report.add(documents=1)


def _word(kind: bytes) -> str:
    """The name of a type, for a person."""
    return "sorted set" if kind == b"zset" else kind.decode("utf-8", "replace")
