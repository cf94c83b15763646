"""Layouts of the record types that come in rows: messages of a queue, records of a stream. A new one is an entry of LAYOUTS.

A base keeps neighbours of one container as a `Group`: columns that a start takes as a whole, beside the records themselves, which a start
does not read. Compaction and a start handle spans of such records together; `alike_places` says which bytes are equal in a span.
"""

from array import array
from collections.abc import Callable
from typing import NamedTuple

from flo.errors import LogDamaged
from flo.ual.columns import from_bytes
from flo.ual.record import (
    HEADER_BYTES,
    LIKE_BYTES,
    MESSAGE_STATE,
    QUEUE_MESSAGE,
    QUEUE_MESSAGE_RIGHT,
    RECORD_STATE,
    STREAM_ID,
    STREAM_RECORD,
    U16,
    U64,
)

Columns = tuple["array[int]", ...]


class Group(NamedTuple):
    """Neighbours of one container, ascending."""

    type: int
    namespace: int
    name: bytes  # of the container
    order: int  # a message's priority; 0 for a type that has no such thing
    columns: Columns  # the indexes, then what the layout adds
    last: int  # what the layout keeps of the last record alone


class Layout(NamedTuple):
    """One record type that comes in rows."""

    id_bytes: int  # of the entity, behind its container
    state_bytes: int  # of the state, before the payload
    same_state: bool  # all records of a span or group have the same state
    codes: str  # the columns behind the indexes, by their array codes
    order: Callable[[bytes, int], int | None]  # of a record, by the offset of its state; None where it is kept by itself
    columns: Callable[[list[bytes], int], tuple[Columns, int]]  # of whole records whose ids are at an offset; and `last`


def _message_order(data: bytes, at: int) -> int | None:
    priority, not_before = MESSAGE_STATE.unpack_from(data, at)
    return None if not_before else int(priority)


def _message_columns(_rows: list[bytes], _at: int) -> tuple[Columns, int]:
    return (), 0  # a message's seq is its index


def _record_order(_data: bytes, _at: int) -> int | None:
    return 0


def _record_columns(rows: list[bytes], at: int) -> tuple[Columns, int]:
    """ms, seq, bytes of the payload; the last record's number among all that were ever in the stream."""
    state = at + STREAM_ID.size
    halves = from_bytes("Q", b"".join([data[at:state] for data in rows]))
    sizes = array("I", [len(data) - state - RECORD_STATE.size for data in rows])
    return (halves[::2], halves[1::2], sizes), int(RECORD_STATE.unpack_from(rows[-1], state)[1])


_MESSAGE = Layout(U64.size, MESSAGE_STATE.size, True, "", _message_order, _message_columns)
LAYOUTS = {
    QUEUE_MESSAGE: _MESSAGE,
    QUEUE_MESSAGE_RIGHT: _MESSAGE,
    STREAM_RECORD: Layout(STREAM_ID.size, RECORD_STATE.size, False, "QQI", _record_order, _record_columns),
}


def alike_places(kind: int, entity_length: int, length: int) -> list[int]:
    """The places of the bytes that are equal in all records of a span. Raises `LogDamaged` if a record of that type cannot have such
    lengths."""
    layout = LAYOUTS.get(kind)
    if layout is None:
        return list(range(LIKE_BYTES))
    middle = HEADER_BYTES + entity_length
    if entity_length < U16.size + layout.id_bytes or middle + layout.state_bytes > length:
        raise LogDamaged(f"a record of type {kind:#x} and {length} bytes cannot have an entity of {entity_length}.")
    name = range(HEADER_BYTES, middle - layout.id_bytes)
    return [*range(LIKE_BYTES), *name, *(range(middle, middle + layout.state_bytes) if layout.same_state else ())]
