"""A list of fields as bytes: the payload of a stream record that XADD made, in both protocols and in the log.

u16 count, then for each field: u16 length, name, u32 length, value
"""

import struct
from collections.abc import Sequence

_COUNT = struct.Struct("<H")
_NAME = struct.Struct("<H")
_VALUE = struct.Struct("<I")
FIELDS_MAX = NAME_BYTES_MAX = 65_535


def pack(fields: Sequence[bytes]) -> bytes:
    """The bytes of names and values in turn. Raises `struct.error` for more than FIELDS_MAX pairs or a name over NAME_BYTES_MAX."""
    parts = [_COUNT.pack(len(fields) // 2)]
    for at in range(0, len(fields), 2):
        name, value = fields[at], fields[at + 1]
        parts += (_NAME.pack(len(name)), name, _VALUE.pack(len(value)), value)
    return b"".join(parts)


def unpack(data: bytes) -> list[bytes]:
    """Names and values in turn. Raises `struct.error` or `ValueError` for bytes that `pack` does not make."""
    fields: list[bytes] = []
    at = _COUNT.size
    for _ in range(_COUNT.unpack_from(data)[0]):
        for length in (_NAME, _VALUE):
            end = at + length.size + length.unpack_from(data, at)[0]
            if end > len(data):
                raise ValueError(f"a field of {end - at} bytes does not fit the {len(data)} bytes of the list")
            fields.append(data[at + length.size : end])
            at = end
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes are left over behind the fields")
    return fields


def unpack_clipped(data: bytes) -> list[bytes]:
    """Names and values in turn, as far as they are in `data`, the beginning of a list; the last value may be cut."""
    fields: list[bytes] = []
    at = _COUNT.size
    while True:
        for length in (_NAME, _VALUE):
            start = at + length.size
            if start > len(data):
                return fields[: len(fields) & ~1]
            at = start + length.unpack_from(data, at)[0]
            fields.append(data[start:at])
