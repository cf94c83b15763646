# mypy: disable-error-code="empty-body"
"""The rows of the operations on keys (SPEC section 2.3): each declaration is a row (flo.operations.row)."""

from collections.abc import Iterable
from json import loads as _loads
from typing import Any, Final, NamedTuple

from flo.given import Text, several
from flo.limits import ATOMIC_ITEMS_MAX, LIST_BYTES_MAX, LIST_ITEMS_MAX
from flo.operations.method import Operations
from flo.operations.row import another, call, operation
from flo.proto.row import Command, Http

MGET_KEYS_MAX = 256
PATH_HELP = "the part, such as $.items[0].name. Default: $, the whole document"


class Entry(NamedTuple):
    """A key's version and value."""

    version: int
    value: bytes

    def json(self) -> Any:
        """The value as JSON. Raises `ValueError` if it is none."""
        return _loads(self.value)


class Page(NamedTuple):
    """One page of a scan. `cursor` begins the next page; it is empty at the end."""

    items: list[tuple[bytes, bytes]]
    cursor: bytes


class HistoryItem(NamedTuple):
    """One version of a key: `time` in Unix ms; a deletion is a `tombstone`."""

    version: int
    time: int
    tombstone: bool
    value: bytes

    def json(self) -> Any:
        """The value as JSON. Raises `ValueError` if it is none."""
        return _loads(self.value)


class Counter(NamedTuple):
    """A counter's value and its version."""

    value: int
    version: int


def _page(more: bool, cursor: bytes, rows: list[tuple[bytes, bytes]]) -> Page:
    return Page(rows, cursor if more else b"")


def _entries(rows: list[tuple[bool, int, bytes]]) -> list[Entry | None]:
    return [Entry(version, value) if found else None for found, version, value in rows]


def _with_ttl(item: Any) -> tuple[Any, ...]:
    row = tuple(several(item, "item"))
    return row if len(row) != 2 else (*row, 0)


class KeyOperations(Operations):
    """The operations on keys. Keys and values are bytes, or text in UTF-8."""

    @operation(
        "kv_get",
        0x10,
        answer="version u64, value rest",
        summary="Reads a key. A counter is its decimal text, a document its JSON text.",
        options=("wait", "block", "cas_version"),
        either=(("wait", "block"),),
        waits=True,
        also=0x101,
        refusals="NOT_FOUND",
        command=Command("kv get", "print the value of a key", "value"),
        reads=True,
        http=Http("GET kv/{ns}/keys/{key}"),
    )
    def get(self, key: Text, *, clip: int | None = None) -> Entry | None:
        """The key's (version, value); None if the key is missing. `clip` is the most bytes of the value."""

    @another("kv_get", timeout_ms="wait")
    def wait(self, key: Text, timeout_ms: int = 0) -> Entry | None:
        """Wait until the key exists, then `get` it; None if the time runs out. 0 waits for ever."""

    @another("kv_get", timeout_ms="block", known="cas_version")
    def changed(self, key: Text, timeout_ms: int = 0, known: int | None = None) -> Entry | None:
        """Wait until the key's version is above `known` (None: its present version) or the time runs out, then `get` it; None for a
        deleted key."""

    @operation(
        "kv_put",
        0x11,
        "kv.put",
        answer="version u64",
        summary="Sets a key, whatever its type was. Clears its deadline unless a ttl is given.",
        either=(("if_absent", "if_present"), ("ttl", "keep_ttl")),
        also=0x100,
        refusals="CONFLICT",
        command=Command(
            "kv set",
            "set a key",
            "version",
            "OK, version {}",
            {
                "value": "the value; - reads it from standard input",
                "ttl": "seconds until the key expires; 0 for never",
                "cas": "only if the key is at this version; 0: if it does not exist",
                "if_absent": "only if the key does not exist",
                "if_present": "only if the key exists",
                "keep_ttl": "keep the key's time to live",
            },
        ),
        http=Http("PUT kv/{ns}/keys/{key}"),
    )
    def put(
        self,
        key: Text,
        value: Text | None = None,
        *,
        json: Any = ...,
        ttl: int | None = None,
        cas: int | None = None,
        if_absent: bool = False,
        if_present: bool = False,
        keep_ttl: bool = False,
    ) -> int:
        """Set the key to `value`, or to the JSON text of `json`; returns its version. `ttl` is in seconds, 0 for never; `keep_ttl` keeps
        the key's deadline; `cas` is the expected version, 0 for a missing key. Raises `Conflict` if a condition does not hold."""

    @operation(
        "kv_delete",
        0x12,
        "kv.delete",
        answer="version u64",
        summary="Deletes a key; answers the version of its tombstone.",
        also=0x103,
        refusals="NOT_FOUND, CONFLICT",
        http=Http("DELETE kv/{ns}/keys/{key}"),
    )
    def delete(self, key: Text, *, cas: int | None = None) -> int | None:
        """Delete the key; returns the version of its tombstone, None if the key was missing."""

    @operation(
        "kv_scan",
        0x13,
        key="prefix, may be empty",
        answer="has_more bool, cursor blob, count u32, (key name, value blob)*",
        summary="Lists the keys with a prefix, ascending.",
        limits=(100, LIST_ITEMS_MAX),
        also=0x104,
        decode=_page,
        reads=True,
        http=Http("GET kv/{ns}/keys", "items"),
    )
    def scan_page(
        self,
        prefix: Text = b"",
        *,
        limit: int | None = None,
        cursor: Text = b"",
        keys_only: bool = False,
        pattern: Text = b"",
        clip: int | None = None,
    ) -> Page:
        """One page of the keys with a prefix, ascending. With a `pattern`, as Redis's KEYS has them, only those of `limit` keys that match
        it. `clip` is the most bytes of each value."""

    @operation(
        "kv_batch_put",
        0x14,
        key="",
        layout="count u32, (key name, value blob, ttl u64)*",
        answer="count u32, (version u64)*",
        summary=f"Sets up to {ATOMIC_ITEMS_MAX:,} keys, all or nothing. A ttl of 0: no deadline.",
        item=_with_ttl,
        http=Http("POST kv/{ns}/keys", "versions"),
    )
    def batch_put(self, items: Iterable[tuple[Text, Text] | tuple[Text, Text, int]]) -> list[int]:
        """Set every (key, value) or (key, value, ttl in seconds), all or none; returns their versions."""

    @operation(
        "kv_history",
        0x15,
        answer="count u32, (version u64, time i64, tombstone bool, value blob)*",
        summary="Lists the versions of a key that are kept, newest first, deletions included.",
        limits=(10, LIST_ITEMS_MAX),
        also=0x105,
        command=Command("kv history", "show the versions of a key, newest first", "versions", help={"limit": "how many. Default: 10"}),
        reads=True,
        http=Http("GET kv/{ns}/keys/{key}/history", "items"),
    )
    def history(self, key: Text, limit: int | None = None, *, clip: int | None = None) -> list[HistoryItem]:
        """The key's versions, newest first. `clip` is the most bytes of each value."""

    @operation(
        "kv_cas",
        0x16,
        "kv.put",
        answer="version u64",
        summary="Sets a key if it has the given version.",
        either=(("ttl", "keep_ttl"),),
        refusals="CONFLICT",
        version="cas_version",
        http=Http("PUT kv/{ns}/keys/{key}"),
    )
    def cas(self, key: Text, value: Text, version: int, *, ttl: int | None = None, keep_ttl: bool = False) -> int:
        """Set the key if it has this version (0: if it does not exist); returns the new version. Raises `Conflict`."""

    @operation(
        "kv_info",
        0x17,
        "kv.info",
        answer="info json",
        summary="Shows a key's version, kind, size and deadline.",
        refusals="NOT_FOUND",
        command=Command("kv info", "show a key's version, kind, size and deadline", "table"),
        reads=True,
        http=Http("GET kv/{ns}/keys/{key}/info"),
    )
    def info(self, key: Text) -> dict[str, Any]:
        """The key's `version`, `kind` (string, counter or json), `bytes` and `deadline` (Unix ms, 0 for none). Raises `NotFound`."""

    @operation(
        "kv_mget",
        0x102,
        key="",
        layout="count u16, (key name)*",
        items_max=MGET_KEYS_MAX,
        answer="count u16, (found bool, version u64, value blob)*",
        summary=f"Reads up to {MGET_KEYS_MAX} keys, in their order. More than {LIST_BYTES_MAX >> 20} MiB of values are refused.",
        decode=_entries,
        reads=True,
        http=Http("POST kv/{ns}/mget", "items"),
    )
    def mget(self, keys: Iterable[Text]) -> list[Entry | None]:
        """Up to 256 keys at once, in their order."""

    @operation(
        "kv_incr",
        0x10B,
        "kv.incr",
        answer="value i64, version u64",
        summary="Adds to a counter; a missing counter counts as 0. Keeps the deadline.",
        refusals="CONFLICT if the value is not a number, or past 64 bits",
        needs_kind=True,
        command=Command("kv incr", "add to a counter", "fields", help={"delta": "the number to add. Default: 1"}, last="delta"),
        http=Http("POST kv/{ns}/keys/{key}/incr"),
    )
    def incr(self, key: Text, delta: int = 1) -> Counter:
        """Add to a counter; returns (value, version). Raises `WrongKind` if the value is not a number, or would pass 64 bits."""

    @operation(
        "kv_json_get",
        0x10C,
        answer="version u64, value rest",
        summary="Reads a document, or the part at a path.",
        refusals="NOT_FOUND for the key or the path; CONFLICT if the value is not a document",
        needs_kind=True,
        command=Command("kv jget", "print a JSON document, or part of one", "value", help={"path": PATH_HELP}, last="path"),
        reads=True,
        http=Http("GET kv/{ns}/keys/{key}/json"),
    )
    def json_get(self, key: Text, path: Text = b"$") -> Entry:
        """(version, JSON text at the path). Raises `NotFound`, and `WrongKind` if the key holds no document."""

    @operation(
        "kv_json_set",
        0x10D,
        "kv.json_set",
        value="a JSON text",
        answer="version u64",
        summary="Sets a document, or the part at a path.",
        refusals="NOT_FOUND if the path's parent is missing; CONFLICT",
        needs_kind=True,
        command=Command(
            "kv jset",
            "set a JSON document, or part of one",
            "version",
            "OK, version {}",
            {"value": "a JSON text; - reads it from standard input", "path": PATH_HELP},
            "path",
        ),
        http=Http("PUT kv/{ns}/keys/{key}/json"),
    )
    def json_set(self, key: Text, value: Text | None = None, path: Text = b"$", *, json: Any = ..., cas: int | None = None) -> int:
        """Set the JSON text `value`, or that of `json`, at the path; returns the document's version. Raises `NotFound` if the path's parent
        is missing, `WrongKind` if the key holds no document, `Conflict` if it has another version than `cas`."""

    @operation(
        "kv_json_del",
        0x10E,
        "kv.json_delete",
        answer="version u64",
        summary="Deletes a document, or the part at a path.",
        refusals="NOT_FOUND; CONFLICT",
        needs_kind=True,
        command=Command("kv jdel", "delete a JSON document, or part of one", "version", "deleted, version {}", {"path": PATH_HELP}, "path"),
        http=Http("DELETE kv/{ns}/keys/{key}/json"),
    )
    def json_delete(self, key: Text, path: Text = b"$", *, cas: int | None = None) -> int:
        """Delete the JSON at the path; returns the version. Raises `NotFound`, `WrongKind`, `Conflict`."""

    @operation(
        "kv_touch",
        0x113,
        "kv.touch",
        answer="version u64",
        summary="Sets a key's deadline; a ttl of 0 removes it.",
        refusals="NOT_FOUND, CONFLICT",
        command=Command("kv touch", "give a key a time to live", "version", "OK, version {}", {"ttl": "the time to live; 0 for ever"}),
        http=Http("POST kv/{ns}/keys/{key}/touch"),
    )
    def touch(self, key: Text, ttl: int, *, cas: int | None = None) -> int:
        """Let the key expire after `ttl` seconds, 0 for never; returns its version. Raises `NotFound`."""

    @operation(
        "kv_persist",
        0x114,
        "kv.persist",
        answer="version u64",
        summary="Removes a key's deadline.",
        refusals="NOT_FOUND, CONFLICT",
        command=Command("kv persist", "remove a key's time to live", "version", "OK, version {}"),
        http=Http("POST kv/{ns}/keys/{key}/persist"),
    )
    def persist(self, key: Text, *, cas: int | None = None) -> int:
        """Remove the key's deadline; returns its version. Raises `NotFound`."""

    @operation(
        "kv_exists",
        0x115,
        "kv.exists",
        answer="exists bool",
        summary="1 if the key exists, else 0.",
        command=Command("kv exists", "say whether a key exists: exit 0 or 1", "exists"),
        reads=True,
        http=Http("GET kv/{ns}/keys/{key}/exists"),
    )
    def exists(self, key: Text) -> bool:
        """Whether the key exists."""


kv_get: Final = call(KeyOperations.get)
kv_wait: Final = call(KeyOperations.wait)
kv_changed: Final = call(KeyOperations.changed)
kv_put: Final = call(KeyOperations.put)
kv_delete: Final = call(KeyOperations.delete)
kv_scan: Final = call(KeyOperations.scan_page)
kv_batch_put: Final = call(KeyOperations.batch_put)
kv_history: Final = call(KeyOperations.history)
kv_cas: Final = call(KeyOperations.cas)
kv_info: Final = call(KeyOperations.info)
kv_mget: Final = call(KeyOperations.mget)
kv_incr: Final = call(KeyOperations.incr)
json_get: Final = call(KeyOperations.json_get)
json_set: Final = call(KeyOperations.json_set)
json_delete: Final = call(KeyOperations.json_delete)
kv_touch: Final = call(KeyOperations.touch)
kv_persist: Final = call(KeyOperations.persist)
kv_exists: Final = call(KeyOperations.exists)
