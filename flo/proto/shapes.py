"""Layouts of values and payloads, written as text once: the codec, the documents and the client read the same text.

A layout is a list of `name type`, in the order of the bytes:

    version u64, value rest                     eight bytes, then all that is left
    count u32, (key name, value blob, ttl u64)* a number, then so many of the group

Types: `u8` `u16` `u32` `u64` `i64` (little-endian); `bool`: u8, 0 or 1; `id`: a stream's, u64 ms, u64 seq, as one int (ms << 64 | seq);
`name`: u16 length, bytes; `blob`: u32 length, bytes; `rest`: all that is left; `json`: all that is left, a JSON text. A group repeats as
often as the number before it says. This number is no value of its own: it is the length of the list. A group of one item is a list of
values; a group of several items is a list of tuples.

`encode` and `decode` check everything, item by item. `pack` is for values that are known to fit, such as the engine's. `pack` converts
neighbouring integers with one Struct, and so does `unpack`, which gives None for data with a fault, or in an uncommon form. `decode` tries
`unpack` first: item by item it takes ten times as long.
"""

import json
import re
import struct
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from typing import Any

from flo.errors import BadRequest

_CODES = {"bool": "?", "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q", "id": "QQ", "name": "H", "blob": "I"}
NUMBERS = {kind: struct.Struct(f"<{_CODES[kind]}") for kind in ("bool", "u8", "u16", "u32", "u64", "i64")}
_LENGTHS = {"name": NUMBERS["u16"], "blob": NUMBERS["u32"]}
_ID = struct.Struct("<QQ")
_SEQ_BITS, _SEQ_MASK = 64, (1 << 64) - 1
_ITEM = re.compile(r"\s*(?:(\w+) (bool|u8|u16|u32|u64|i64|id|name|blob|rest|json)|\((.*)\)\*)\s*(?:,|$)")

Pack = Callable[..., bytes]
Unpack = Callable[[bytes, int], tuple[Any, ...] | None]  # (data, the most items); None if the data has a fault, which `_decode` then names


class Shape:
    """A layout, ready to encode and decode. Make one with `shape(text)`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.items: list[tuple[str, str, Shape | None]] = []  # (name, type, group): a group's type is its count's
        at = 0
        while at < len(text):
            match = _ITEM.match(text, at)
            assert match, f"not a layout: {text[at:]!r}"
            name, kind, group = match.groups()
            if group is not None:
                name, kind, _ = self.items.pop()
                self.items.append((name, kind, Shape(group)))
            else:
                self.items.append((name, kind, None))
            at = match.end()
        at_once = _at_once(self.items)
        self.pack: Pack = self.encode if at_once is None else at_once[0]
        self.unpack: Unpack = (None if at_once is None else at_once[1]) or _never

    @property
    def names(self) -> list[str]:
        """The names of the values, in order; a list has the name of its count."""
        return [name for name, _, _ in self.items]

    @property
    def kinds(self) -> list[str]:
        """The types of the values, in order; a list has the type of its count."""
        return [kind for _, kind, _ in self.items]

    @property
    def is_list(self) -> bool:
        """Whether the layout is one list."""
        return len(self.items) == 1 and self.items[0][2] is not None

    @property
    def columns(self) -> list[tuple[str, str]]:
        """(name, type) of each value in an item. The layout must be one list."""
        ((_, _, group),) = self.items
        assert group is not None
        return [(name, kind) for name, kind, _ in group.items]

    def clip(self, data: bytes, most: int) -> bytes:
        """What `data` encodes, with each blob of a list, and a last item that is all that is left, cut to `most` bytes. A blob in no list
        is a cursor."""
        values = list(self.decode(data))
        for at, (_, kind, group) in enumerate(self.items):
            if kind == "rest":
                values[at] = values[at][:most]
            elif group is not None:
                blobs = [place for place, (_, each, _) in enumerate(group.items) if each == "blob"]
                values[at] = [
                    item[:most] if type(item) is bytes else tuple(v[:most] if place in blobs else v for place, v in enumerate(item))
                    for item in values[at]
                ]
        return self.pack(*values)

    def encode(self, *values: Any) -> bytes:
        """The bytes of `values`. Raises `BadRequest` for a value that does not fit its type."""
        assert len(values) == len(self.items), f"{self.text!r} has {len(self.items)} values, not {len(values)}"
        parts: list[bytes] = []
        for (name, kind, group), value in zip(self.items, values, strict=True):
            try:
                if group is not None:
                    parts.append(NUMBERS[kind].pack(len(value)))
                    single = len(group.items) == 1
                    parts += [group.encode(item) if single else group.encode(*item) for item in value]
                elif kind in NUMBERS:
                    parts.append(NUMBERS[kind].pack(value))
                elif kind == "id":
                    parts.append(pack_id(value))
                elif kind in _LENGTHS:
                    parts += (_LENGTHS[kind].pack(len(value)), value)
                else:
                    parts.append(value if kind == "rest" else _json_text(value))
            except struct.error:
                shown = f"{len(value)} bytes or items" if isinstance(value, (bytes, list, tuple)) else repr(value)
                raise BadRequest(f"{name} does not fit {kind}: {shown}") from None
        return b"".join(parts)

    def decode(self, data: bytes, most: int = 1 << 32) -> tuple[Any, ...]:
        """The values in `data`. Raises `BadRequest` if it is too short or too long, is no JSON, or has a list of more than `most` items."""
        values = self.unpack(data, most)
        if values is not None:
            return values
        values, at = self.decode_from(data, 0, most)
        if at != len(data):
            raise BadRequest(f"{len(data) - at} bytes are left over behind the layout `{self.text}`")
        return values

    def decode_from(self, data: bytes, at: int, most: int = 1 << 32) -> tuple[tuple[Any, ...], int]:
        """(the values that begin at an offset, the offset behind them). Raises `BadRequest`."""
        values: list[Any] = []
        for name, kind, group in self.items:
            if kind in ("rest", "json"):
                values.append(data[at:] if kind == "rest" else _json(name, data[at:]))
                at = len(data)
                continue
            unpack = _LENGTHS.get(kind) or NUMBERS.get(kind) or _ID
            if at + unpack.size > len(data):
                raise BadRequest(f"the layout `{self.text}` ends inside {name}: {len(data) - at} bytes are left, {unpack.size} are needed")
            number = unpack_id(data, at) if kind == "id" else unpack.unpack_from(data, at)[0]
            at += unpack.size
            if group is not None:
                if number > most:
                    raise BadRequest(f"{name} is {number}; at most {most} are allowed in one request")
                single = len(group.items) == 1
                items = []
                for _ in range(number):  # each item takes at least a byte, so the loop ends with the data, however large the number
                    item, at = group.decode_from(data, at, most)
                    items.append(item[0] if single else item)
                values.append(items)
            elif kind in _LENGTHS:
                if at + number > len(data):
                    raise BadRequest(f"{name} declares {number} bytes, but {len(data) - at} are left")
                values.append(data[at : at + number])
                at += number
            else:
                values.append(number)
        return tuple(values), at


def pack_id(ident: int) -> bytes:
    """The bytes of a stream's id. Raises `struct.error`."""
    return _ID.pack(ident >> _SEQ_BITS, ident & _SEQ_MASK)


def unpack_id(data: bytes, at: int = 0) -> int:
    """The id at an offset."""
    ms, seq = _ID.unpack_from(data, at)
    return int(ms << _SEQ_BITS | seq)


# -- at once ---------------------------------------------------------------------------------------


def _at_once(items: list[tuple[str, str, Shape | None]]) -> tuple[Pack, Unpack | None] | None:
    """(pack, unpack) for a layout of a common form; None for any other layout."""
    kinds = [kind for _, kind, _ in items]
    group = items[0][2] if len(items) == 1 else None
    if group is not None:
        columns = group.kinds
        if columns[-1] in ("name", "blob") and _are_integers(columns[:-1]):
            return _rows(NUMBERS[kinds[0]], columns)
        return _number_rows(NUMBERS[kinds[0]], columns) if _are_integers(columns) else None
    if any(inner is not None for _, _, inner in items):
        return None
    if kinds == ["json"]:
        return _json_text, None
    if kinds == ["rest"]:
        return _same, None
    if kinds == ["id"]:
        return pack_id, None
    if all(kind in NUMBERS for kind in kinds):
        return _integers(kinds)
    return _integers_and_rest(kinds[:-1]) if kinds[-1] == "rest" and all(kind in NUMBERS for kind in kinds[:-1]) else None


def _are_integers(columns: list[str]) -> bool:
    return bool(columns) and all(kind in NUMBERS or (kind == "id" and not at) for at, kind in enumerate(columns))


def _struct(kinds: list[str]) -> struct.Struct:
    return struct.Struct("<" + "".join(_CODES[kind] for kind in kinds))


def _never(data: bytes, most: int) -> None:
    return None


def _same(value: bytes) -> bytes:
    return value


def _integers(kinds: list[str]) -> tuple[Pack, Unpack]:
    row = _struct(kinds)
    size, unpack = row.size, row.unpack
    return row.pack, lambda data, _most: unpack(data) if len(data) == size else None


def _integers_and_rest(kinds: list[str]) -> tuple[Pack, Unpack]:
    head = _struct(kinds)
    size, pack, unpack = head.size, head.pack, head.unpack_from
    if len(kinds) == 1:
        packed: Pack = lambda first, rest: pack(first) + rest  # noqa: E731  (a def here would be four lines for one)
    else:
        packed = lambda *values: pack(*values[:-1]) + values[-1]  # noqa: E731
    return packed, lambda data, _most: (*unpack(data), data[size:]) if len(data) >= size else None


def _number_rows(count: struct.Struct, columns: list[str]) -> tuple[Pack, Unpack]:
    """(pack, unpack) for a list of rows of integers."""
    row = _struct(columns)
    with_id, alone = columns[0] == "id", len(columns) == 1

    def pack(rows: list[Any]) -> bytes:
        if alone:
            rows = [(item,) for item in rows]
        if with_id:
            rows = [(item[0] >> _SEQ_BITS, item[0] & _SEQ_MASK, *item[1:]) for item in rows]
        return b"".join((count.pack(len(rows)), *[row.pack(*item) for item in rows]))

    def unpack(data: bytes, most: int) -> tuple[Any, ...] | None:
        if len(data) < count.size:
            return None
        number = count.unpack_from(data)[0]
        if number > most or len(data) != count.size + number * row.size:
            return None
        rows: list[Any] = list(row.iter_unpack(data[count.size :]))
        if with_id:
            rows = [(item[0] << _SEQ_BITS | item[1], *item[2:]) for item in rows]
        return ([item[0] for item in rows] if alone else rows,)

    return pack, unpack


def _rows(count: struct.Struct, columns: list[str]) -> tuple[Pack, Unpack]:
    """(pack, unpack) for a list of rows of integers that each end with a name or a blob."""
    head = _struct(columns)
    size, with_id = head.size, columns[0] == "id"

    def pack(rows: list[tuple[Any, ...]]) -> bytes:
        parts = [count.pack(len(rows))]
        for row in rows:
            tail = row[-1]
            if with_id:
                parts += (head.pack(row[0] >> _SEQ_BITS, row[0] & _SEQ_MASK, *row[1:-1], len(tail)), tail)
            else:
                parts += (head.pack(*row[:-1], len(tail)), tail)
        return b"".join(parts)

    def unpack(data: bytes, most: int) -> tuple[Any, ...] | None:
        end, at = len(data), count.size
        if end < at or count.unpack_from(data)[0] > most:
            return None
        rows: list[tuple[Any, ...]] = []
        for _ in range(count.unpack_from(data)[0]):
            if at + size > end:
                return None
            *numbers, length = head.unpack_from(data, at)
            at += size + length
            if with_id:
                numbers[:2] = (numbers[0] << _SEQ_BITS | numbers[1],)
            rows.append((*numbers, data[at - length : at]))
        return (rows,) if at == end else None

    return pack, unpack


def _json(name: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise BadRequest(f"{name} is not a JSON text") from None


def _json_text(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=bytes_in_json).encode()


def bytes_in_json(data: bytes) -> object:
    """Bytes in JSON: a string if they are UTF-8, else {"base64": …}."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}


@cache
def shape(text: str) -> Shape:
    """The layout that `text` describes. Made at its first use: most programs use few layouts."""
    return Shape(text)
