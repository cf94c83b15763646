"""Layouts of values and payloads, written as text once: the codec, the documents and the client read the same text.

A layout is a list of `name type`, in the order of the bytes:

    version u64, value rest                     eight bytes, then all that is left
    count u32, (key name, value blob, ttl u64)* a number, then so many of the group

Types: `u8` `u16` `u32` `u64` `i64` (little-endian); `name`: u16 length, bytes; `blob`: u32 length, bytes; `rest`: all that is
left; `json`: all that is left, a JSON text. A group repeats as often as the number before it says, which is not a value of
its own: it is the length of the list. A group of one item is a list of values, of several a list of tuples.
"""

import json
import re
import struct
from functools import cache
from typing import Any

from flo.errors import BadRequest

_INTEGERS = {kind: struct.Struct(f"<{code}") for kind, code in (("u8", "B"), ("u16", "H"), ("u32", "I"), ("u64", "Q"), ("i64", "q"))}
_LENGTHS = {"name": _INTEGERS["u16"], "blob": _INTEGERS["u32"]}
_ITEM = re.compile(r"\s*(?:(\w+) (u8|u16|u32|u64|i64|name|blob|rest|json)|\((.*)\)\*)\s*(?:,|$)")


class Shape:
    """A layout, ready to encode and decode. Make one with `shape(text)`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._items: list[tuple[str, str, Shape | None]] = []  # (name, type, group): a group's type is its count's
        at = 0
        while at < len(text):
            match = _ITEM.match(text, at)
            assert match, f"not a layout: {text[at:]!r}"
            name, kind, group = match.groups()
            if group is not None:
                name, kind, _ = self._items.pop()
                self._items.append((name, kind, Shape(group)))
            else:
                self._items.append((name, kind, None))
            at = match.end()

    @property
    def names(self) -> list[str]:
        """What the values are called, in order; a list goes by its count's name."""
        return [name for name, _, _ in self._items]

    @property
    def columns(self) -> list[tuple[str, str]]:
        """(name, type) of what one item has, where the layout is one list."""
        ((_, _, group),) = self._items
        assert group is not None
        return [(name, kind) for name, kind, _ in group._items]

    def encode(self, *values: Any) -> bytes:
        """The bytes of `values`. Raises `BadRequest` for what does not fit its type."""
        assert len(values) == len(self._items), f"{self.text!r} has {len(self._items)} values, not {len(values)}"
        parts: list[bytes] = []
        for (name, kind, group), value in zip(self._items, values, strict=True):
            try:
                if group is not None:
                    parts.append(_INTEGERS[kind].pack(len(value)))
                    single = len(group._items) == 1
                    parts += [group.encode(item) if single else group.encode(*item) for item in value]
                elif kind in _INTEGERS:
                    parts.append(_INTEGERS[kind].pack(value))
                elif kind in _LENGTHS:
                    parts += (_LENGTHS[kind].pack(len(value)), value)
                else:
                    parts.append(value if kind == "rest" else json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
            except struct.error:
                shown = f"{len(value)} bytes or items" if isinstance(value, (bytes, list, tuple)) else repr(value)
                raise BadRequest(f"{name} does not fit {kind}: {shown}") from None
        return b"".join(parts)

    def decode(self, data: bytes, most: int = 1 << 32) -> tuple[Any, ...]:
        """The values in `data`. Raises `BadRequest` where it is too short, too long, no JSON, or a list of more than `most`."""
        values, at = self._decode(data, 0, most)
        if at != len(data):
            raise BadRequest(f"{len(data) - at} bytes are left over behind the layout `{self.text}`")
        return values

    def _decode(self, data: bytes, at: int, most: int) -> tuple[tuple[Any, ...], int]:
        values: list[Any] = []
        for name, kind, group in self._items:
            if kind in ("rest", "json"):
                values.append(data[at:] if kind == "rest" else _json(name, data[at:]))
                at = len(data)
                continue
            unpack = _LENGTHS.get(kind) or _INTEGERS[kind]
            if at + unpack.size > len(data):
                raise BadRequest(f"the layout `{self.text}` ends inside {name}: {len(data) - at} bytes are left, {unpack.size} are needed")
            number = unpack.unpack_from(data, at)[0]
            at += unpack.size
            if group is not None:
                if number > most:
                    raise BadRequest(f"{name} is {number}; at most {most} are allowed in one request")
                single = len(group._items) == 1
                items = []
                for _ in range(number):  # each takes a byte at least, so this ends with the data whatever the number says
                    item, at = group._decode(data, at, most)
                    items.append(item[0] if single else item)
                values.append(items)
            elif kind in _LENGTHS:
                if at + number > len(data):
                    raise BadRequest(f"{name} says it is {number} bytes, and {len(data) - at} are left")
                values.append(data[at : at + number])
                at += number
            else:
                values.append(number)
        return tuple(values), at


def _json(name: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise BadRequest(f"{name} is not a JSON text") from None


@cache
def shape(text: str) -> Shape:
    """The layout that `text` describes. Made when first asked for: most programs use few of them."""
    return Shape(text)


def number(kind: str) -> struct.Struct:
    """The packer of an integer type."""
    return _INTEGERS[kind]
