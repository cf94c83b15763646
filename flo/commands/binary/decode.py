"""Binary requests out of a buffer: whole and uncompressed ones, many at once. What is left is for `FrameReader`."""

import struct

from flo.commands.binary.table import SERVED
from flo.commands.runner import Call, Decoded, Handler
from flo.errors import Refusal
from flo.proto.binary import REQUEST_BYTES, check_request, decode_options

# The header of a request, with its magic, code and flags as one integer: one look in SERVED checks all three
_HEADER = struct.Struct("<QQIQHH")


def decode(data: bytes, refuse: Handler) -> Decoded:
    """The requests of `data` that are whole and uncompressed, up to the first that is not. `refuse` answers a request that is not what its
    operation's row says. A request is a plain tuple of what a `Request` has, which is made in half the time."""
    size, at = len(data), 0
    unpack, find = _HEADER.unpack_from, SERVED.get
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
                answer, options = refuse, {REFUSAL: e.with_traceback(None)}  # it knows this frame: a cycle
        calls.append((answer, (operation, 0, req_id, space, data[start:key_end], data[key_end:middle], options)))
        ends.append(end)
        at = end
    return calls, lambda count: ends[count - 1]


REFUSAL = "refusal"  # in the place of the options of a request that is refused as it is decoded
