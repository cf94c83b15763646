"""The binary protocol's hot path: kv_get, kv_put and kv_incr without options, parsed and executed in one flat loop.

The twin of commands/flat.py, for the same reason and under the same rule: what does not fit (another operation, options,
flags, a key with a deadline, a missing piece) is left to the plain way, which gives the same answer: FrameReader,
BinarySession and flo.engine.kv. tests/test_binary_flat.py holds the two equal, in answers, memory and log.
"""

import struct
from time import monotonic
from typing import TYPE_CHECKING

from flo.commands.flat import (
    COUNTER_FLAG,
    CRLF,
    NO_CONTEXT,
    NO_PREDECESSOR,
    OUTPUT_ROOM_BYTES,
    TOKENS,
    UNCOUNTED_BYTES,
    _pack_record,
    _pack_version,
    context,
)
from flo.errors import BadRequest
from flo.proto.binary import MAGIC, NOT_FOUND, OK, REQUEST_BYTES, encode_response
from flo.store.kv import COUNTER, FRAME_END_BYTES, I64_MAX, KEY_OVERHEAD_BYTES, PLAIN_MAX, SHARD_MASK
from flo.ual.record import KV_COUNTER, KV_STRING

if TYPE_CHECKING:
    from flo.commands.binary.session import BinarySession

__all__ = ["NO_CONTEXT", "OUTPUT_ROOM_BYTES", "run"]

FLAT_PAYLOAD_BYTES_MAX = 2048  # larger ones go the plain way: their bytes cost more than the steps
CLOCK_EVERY = 64  # requests between looks at the clock: under 100 us

# A request's header in five pieces: magic, code and flags; id; payload length; namespace; key length with options length.
_HEADER = struct.Struct("<8s8sI8sI")
# A response with one or two words of payload: magic, status and flags; id; payload length; zeros; the words.
_VERSION_RESPONSE = struct.Struct("<8s8sIxxxxQ")
_VALUE_RESPONSE = struct.Struct("<8s8sIxxxx7sx")  # its version given as an entry's last 8 bytes less the flags
_COUNTER_RESPONSE = struct.Struct("<8s8sIxxxxqQ")
assert _HEADER.size == REQUEST_BYTES

GET, PUT, INCR = (MAGIC + struct.pack("<HH", code, 0) for code in (0x10, 0x11, 0x10B))
ANSWERED = MAGIC + struct.pack("<HH", OK, 0)
_MISSING = encode_response(NOT_FOUND, 0, b"the key does not exist")
MISSING_HEAD, MISSING_TAIL = _MISSING[:8], _MISSING[16:]


def value_offset(entry_bytes: int) -> int:
    """Where the value begins in an entry (`$<length>\\r\\n<value>\\r\\n<version>`) of so many bytes."""
    digits = 1
    while len(b"%d" % (entry_bytes - 3 - digits - FRAME_END_BYTES)) > digits:
        digits += 1
    return 3 + digits


ENTRY_BYTES_MIN = 4 + FRAME_END_BYTES
VALUE_AT = tuple(value_offset(max(size, ENTRY_BYTES_MIN)) for size in range(FLAT_PAYLOAD_BYTES_MAX))


def run(session: "BinarySession", data: bytes, start: int) -> int:
    """Execute requests of `data` from offset `start` as far as the flat way goes; returns the offset reached, which is at a
    request's first byte. `session.halted` says whether execution has to stop there."""
    at, total = start, len(data)
    last = total - REQUEST_BYTES
    if at > last:
        return at
    host = session.host
    unpack = _HEADER.unpack_from
    *_, namespace_wire, lengths = unpack(data, at)
    if host.flat_context[-1] != namespace_wire:
        try:
            host.flat_context = context(host.engine.namespace_by_hash(int.from_bytes(namespace_wire, "little")))
        except BadRequest:
            return at  # the plain way says so
        if host.flat_context[-1] != namespace_wire:  # `default` by its name's hash
            host.flat_context = (*host.flat_context[:-1], namespace_wire)
    _, store, shards, buried, grow, log, push, now, namespace, adds, wire = host.flat_context
    index = log.next_index
    out = session.peer.out
    emit = out.append
    tokens, value_at, pack_version_response, pack_value_response = TOKENS, VALUE_AT, _VERSION_RESPONSE.pack, _VALUE_RESPONSE.pack
    room = session.output_room
    answered = len(out)
    grown = misses = gets = 0
    while at <= last:
        head, req_id, size, namespace_wire, lengths = unpack(data, at)
        begin = at + 32
        end = begin + size
        if end > total or size > 2048 or namespace_wire != wire:
            break
        if head == GET:
            if lengths != size:
                break
            key = data[begin:end]
            entry = shards[hash(key) & 255].get(key)
            if entry is None:
                misses += 1
                emit(MISSING_HEAD + req_id + MISSING_TAIL)
            elif entry[-1] < PLAIN_MAX:
                length = len(entry)
                value_start = value_at[length] if length < 2048 else entry.index(10) + 1
                length -= value_start + 2  # the version, and the value without CR LF and version
                emit(pack_value_response(ANSWERED, req_id, length, entry[-8:-1]) + entry[value_start:-10])
                if length > UNCOUNTED_BYTES:
                    room -= length
            else:
                break
            gets += 1
        elif head == PUT:
            # lengths over 65,535 would mean options; a key longer than the payload, nonsense
            if lengths > size or not adds:
                break
            middle = begin + lengths
            key = data[begin:middle]
            text = data[middle:end]
            shard = shards[hash(key) & 255]
            entry = shard.get(key)
            if entry is None:
                if buried and key in buried:
                    break
                push(_pack_record(28 + size, KV_STRING, 0, lengths, namespace, now, NO_PREDECESSOR) + key + text)
                shard[key] = entry = CRLF.join((tokens[size - lengths], text, _pack_version(index)))
                grow(key)
                grown += KEY_OVERHEAD_BYTES + lengths + len(entry)
            elif entry[-1] < PLAIN_MAX:
                push(_pack_record(28 + size, KV_STRING, 0, lengths, namespace, now, entry[-8:-1]) + key + text)
                changed = CRLF.join((tokens[size - lengths], text, _pack_version(index)))
                shard[key] = changed
                grown += len(changed) - len(entry)
            else:
                break
            emit(pack_version_response(ANSWERED, req_id, 8, index))
            index += 1
        elif head == INCR:
            if lengths != size or not adds:
                break
            key = data[begin:end]
            shard = shards[hash(key) & 255]
            entry = shard.get(key)
            if entry is None:
                if buried and key in buried:
                    break
                value = 1
                push(_pack_record(29 + size, KV_COUNTER, 0, size, namespace, now, NO_PREDECESSOR) + key + b"1")
                shard[key] = entry = b"$1\r\n1\r\n" + _pack_version(index | COUNTER_FLAG)
                grow(key)
                grown += KEY_OVERHEAD_BYTES + size + len(entry)
            elif entry[-1] == COUNTER:
                value = int(entry[value_at[len(entry)] : -10]) + 1
                if value > I64_MAX:
                    break
                digits = b"%d" % value
                push(_pack_record(28 + size + len(digits), KV_COUNTER, 0, size, namespace, now, entry[-8:-1]) + key + digits)
                changed = CRLF.join((tokens[len(digits)], digits, _pack_version(index | COUNTER_FLAG)))
                shard[key] = changed
                grown += len(changed) - len(entry)
            else:
                break
            emit(_COUNTER_RESPONSE.pack(ANSWERED, req_id, 16, value, index))
            index += 1
        else:
            break
        at = end
        if room < 0 or (len(out) & 63 == 0 and monotonic() > host.tick_deadline):
            session.yield_turn()
            break
    session.output_room = room
    if index != log.next_index:
        log.next_index = index
        log.pending_bytes += 3 * (at - start)  # an upper bound of what these requests appended
        store.bytes += grown
    counters = host.counters
    counters.commands += len(out) - answered
    session.executed += len(out) - answered
    if gets:
        counters.hits += gets - misses
        counters.misses += misses
    return at


assert SHARD_MASK == 255 and FLAT_PAYLOAD_BYTES_MAX == 2048 and REQUEST_BYTES == 32  # written out above: a global name costs a lookup
assert CLOCK_EVERY == 64
