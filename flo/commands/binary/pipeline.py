"""Binary requests out of a buffer: whole and uncompressed ones, many at once. What is left is for `FrameReader`."""

from typing import Any

from flo.commands.binary.table import ORDINARY
from flo.commands.runner import Call, Decoded, Handler
from flo.errors import Refusal
from flo.proto.binary import MAGIC, REQUEST, REQUEST_BYTES, Request, check_request, decode_options


def decode(data: bytes, refuse: Handler) -> Decoded:
    """The requests of `data` that are whole and uncompressed, up to the first that is not. `refuse` answers a request that is not what its
    operation's row says: as (the refusal, the request without its parts)."""
    size, at = len(data), 0
    unpack, find, make = REQUEST.unpack_from, ORDINARY.get, tuple.__new__
    calls: list[Call] = []
    ends: list[int] = []
    while size - at >= REQUEST_BYTES:
        magic, code, flags, req_id, length, space, key_length, options_length = unpack(data, at)
        start = at + REQUEST_BYTES
        end = start + length
        middle, key_end = end - options_length, start + key_length
        ordinary = find(code)
        if end > size or magic != MAGIC or flags or ordinary is None or middle < key_end:
            break
        operation, handler, key_most, value_most = ordinary
        try:
            options = decode_options(operation, data[middle:end]) if options_length else operation.defaults
            if key_length > key_most or middle - key_end > value_most or operation.required:
                check_request(operation, key_length, middle - key_end, options)
        except Refusal as e:
            handler, options = refuse, {REFUSAL: e}
        request: Any = make(Request, (operation, flags, req_id, space, data[start:key_end], data[key_end:middle], options))
        calls.append((handler, request))
        ends.append(end)
        at = end
    return calls, lambda count: ends[count - 1]


REFUSAL = "refusal"  # in the place of the options of a request that is refused as it is decoded
