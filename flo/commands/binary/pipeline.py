"""Binary requests out of a buffer, executed one after the other: the ordinary way of every operation.

The twin of flo.commands.pipeline. What is not whole, compressed, or wrong in its framing is left to `FrameReader` and `BinarySession`.
"""

from time import monotonic
from typing import TYPE_CHECKING

from flo.commands.binary.table import ORDINARY
from flo.errors import LaneFailure, NotFound, Refusal
from flo.proto.binary import MAGIC, OK, REQUEST, REQUEST_BYTES, RESPONSE, Request, check_request, decode_options

if TYPE_CHECKING:
    from flo.commands.binary.session import BinarySession

OUTPUT_ROOM_BYTES = 1 << 20  # SPEC section 3: past 1 MiB of unsent output no more requests are executed
Work = list[tuple["BinarySession", bytes]]


def run_many(work: Work, position: int, room: int) -> tuple[int, int]:
    """As `flo.commands.pipeline.run_many`."""
    for at in range(position, len(work)):
        session, data = work[at]
        try:
            offset = run(session, data, 0, room)
        except Exception as e:
            raise LaneFailure(at) from e
        if offset != len(data) or session.halted:
            return at, offset
    return len(work), 0


def run(session: "BinarySession", data: bytes, at: int, room: int) -> int:
    """Execute the requests of `data` from offset `at` on, as far as they are whole and uncompressed. Returns the offset reached, which is
    at a request's first byte. `room` is how many bytes of answers may be added. `session.halted` says whether execution stops there."""
    host, size = session.host, len(data)
    log, deadline = host.engine.log, host.tick_deadline
    emit = session.peer.out.append
    unpack, pack, find, by_hash = REQUEST.unpack_from, RESPONSE.pack, ORDINARY.get, host.engine.by_hash
    done, operation = 0, None
    if not session.flat:
        return at  # another session's request has ended this one
    session.halted = session.yielded = False
    while size - at >= REQUEST_BYTES:
        magic, code, flags, req_id, length, space, key_length, options_length = unpack(data, at)
        start = at + REQUEST_BYTES
        end = start + length
        middle, key_end = end - options_length, start + key_length
        ordinary = find(code)
        if end > size or magic != MAGIC or flags or ordinary is None or middle < key_end:
            break
        operation, handler, key_most, value_most = ordinary
        at = end
        done += 1
        appended = log.next_index
        try:
            options = decode_options(operation, data[middle:end]) if options_length else operation.defaults
            if key_length > key_most or middle - key_end > value_most or operation.required:
                check_request(operation, key_length, middle - key_end, options)
            namespace = by_hash.get(space)
            if namespace is None:
                namespace = by_hash[0] if operation.plain else host.engine.namespace_by_hash(space)
            reply = handler(session, namespace, data[start:key_end], data[key_end:middle], options)
            if type(reply) is bytes:
                reply = pack(MAGIC, OK, 0, req_id, len(reply)) + reply
            elif type(reply) is NotFound:
                reply = session.refused(reply, req_id)
        except Refusal as e:
            reply = session.refused(e, req_id)
        except Exception as e:
            reply = session.failed(e, operation, req_id, appended)
        if type(reply) is bytes:
            emit(reply)
            room -= len(reply)
        else:
            request = Request(operation, flags, req_id, space, data[start:key_end], data[key_end:middle], options)
            session.accept(reply, request)
            if session.halted:
                break
        if room < 0 or monotonic() > deadline:
            session.yield_turn()
            break
    session.output_room = room
    session.executed += done
    host.counters.commands += done
    if operation is not None:
        session.last_operation = operation.name
    return at
