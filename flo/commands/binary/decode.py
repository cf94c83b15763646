"""Decodes the whole, uncompressed binary requests in a buffer, many at once. `FrameReader` reads all other requests."""

import struct

from flo.commands.binary.table import Served
from flo.commands.runner import Call, Decoded, Handler
from flo.errors import Refusal
from flo.proto.binary import REQUEST_BYTES, check_request, decode_options

# The header of a request, with its magic, code and flags as one integer: one look in the table checks all three
_HEADER = struct.Struct("<QQIQHH")


def decode(data: bytes, refuse: Handler, table: dict[int, Served]) -> Decoded:
    """The whole, uncompressed requests in `data` whose operations are in `table`, up to the first other request. `refuse` answers a request
    that its operation's row does not allow. A request is a plain tuple of the fields of `Request`: making it takes half the time."""
    size, at = len(data), 0
    unpack, find = _HEADER.unpack_from, table.get
    calls: list[Call] = []
    ends: list[int] = []
    while size - at >= REQUEST_BYTES:
        head, req_id, length, space, key_length, options_length = unpack(data, at)
        start = at + REQUEST_BYTES
        end = start + length
        middle, key_end = end - options_length, start + key_length
        served = find(head)
        if served is None or end > size or middle < key_end:
            break
        operation, answer, key_most, value_most, options = served
        if options_length or key_length > key_most or middle - key_end > value_most:
            try:
                if options_length:
                    options = decode_options(operation, data[middle:end])
                check_request(operation, key_length, middle - key_end, options)
            except Refusal as e:
                answer, options = refuse, {REFUSAL: e.with_traceback(None)}  # without the traceback, which refers to this frame: a cycle
        calls.append((answer, (operation, 0, req_id, space, data[start:key_end], data[key_end:middle], options)))
        ends.append(end)
        at = end
    return calls, lambda count: ends[count - 1]


REFUSAL = "refusal"  # the key of the refusal in the options of a request that is refused while it is decoded
