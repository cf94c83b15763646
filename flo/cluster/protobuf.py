"""Protocol Buffers' wire format, as far as etcd's messages need it: varints, strings and nested messages by the numbers of their fields.

A message is bytes. `pack` makes one of (number, value) pairs; `unpack` gives the values of each number, int or bytes, in their order.
Source: protobuf.dev, "Encoding".
"""

from collections.abc import Iterable

from flo.errors import FloError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
VARINT_BYTES_MAX = 10

Fields = dict[int, list[int | bytes]]


class NotProtobuf(FloError):
    """The bytes are no message."""


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative one takes ten bytes
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def pack(fields: Iterable[tuple[int, int | bytes]]) -> bytes:
    """A message. A field that is 0, or empty, is left out: that is its default. `nested` keeps an empty one."""
    return b"".join(_field(number, value) for number, value in fields if value)


def nested(number: int, message: bytes) -> bytes:
    """A field that is a message, also if that is empty."""
    return _field(number, message)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | VARINT) + _varint(value)
    return _varint(number << 3 | LENGTH) + _varint(len(value)) + value


def unpack(message: bytes) -> Fields:
    """The values of a message, by the numbers of their fields. Raises `NotProtobuf`."""
    found: Fields = {}
    at, size = 0, len(message)
    while at < size:
        tag, at = _read_varint(message, at)
        kind = tag & 7
        value: int | bytes
        if kind == VARINT:
            value, at = _read_varint(message, at)
        elif kind in (LENGTH, FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
            if kind == LENGTH:
                length, at = _read_varint(message, at)
            value, at = message[at : at + length], at + length
            if at > size:
                raise NotProtobuf("a field is longer than its message")
        else:
            raise NotProtobuf(f"a field has wire type {kind}")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for byte in message[at : at + VARINT_BYTES_MAX]:
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
        shift += 7
    raise NotProtobuf("a number has no end")


def number(fields: Fields, field: int) -> int:
    """A field that is a number; its last value counts, 0 where there is none. Raises `NotProtobuf`."""
    value = fields.get(field, [0])[-1]
    if not isinstance(value, int):
        raise NotProtobuf(f"field {field} is no number")
    return value


def text(fields: Fields, field: int) -> bytes:
    """A field that is a string or a message; empty where there is none. Raises `NotProtobuf`."""
    value = fields.get(field, [b""])[-1]
    if not isinstance(value, bytes):
        raise NotProtobuf(f"field {field} is no string")
    return value


def messages(fields: Fields, field: int) -> list[Fields]:
    """All values of a repeated field of messages. Raises `NotProtobuf`."""
    found = []
    for value in fields.get(field, ()):
        if not isinstance(value, bytes):
            raise NotProtobuf(f"field {field} is no message")
        found.append(unpack(value))
    return found
