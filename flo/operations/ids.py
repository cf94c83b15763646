"""The ids of a stream's records, in the forms that programs use."""

from typing import NamedTuple

from flo.errors import BadRequest
from flo.given import RANGES, ranged, text, told

_SEQ_BITS, _SEQ_MASK = 64, (1 << 64) - 1


class StreamId(NamedTuple):
    """A record's place in its stream; `str()` gives `ms-seq`."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"


Id = StreamId | tuple[int, int] | str  # text is `ms-seq`, or `ms` for `ms-0`


def stream_id(ident: Id) -> StreamId:
    """An id from any of its forms. Raises `TypeError`, `BadRequest`."""
    if not isinstance(ident, (str, bytes)):
        if isinstance(ident, list) and ident and not isinstance(ident[0], int):
            raise TypeError(f"the id {told(ident, 'id')}; give each one as an argument of its own: *records")
        if not isinstance(ident, (tuple, list)) or len(ident) != 2:
            raise TypeError(f"the id {told(ident, 'id')}; give a StreamId, (ms, seq) or text such as '1700000000000-0'")
        return StreamId(*(ranged(half, "id", *RANGES["u64"]) for half in ident))
    ident = text(ident, "id")
    ms, dash, seq = ident.partition("-")
    if not (ms.isascii() and ms.isdigit() and ((seq.isascii() and seq.isdigit()) or not dash)):
        raise BadRequest(f"{ident!r} is not an id of a stream; give it as ms-seq, such as 1700000000000-0")
    return stream_id((int(ms), int(seq or 0)))


def to_wire(ident: Id) -> int:
    """The int that stands for an id in layouts (flo.proto.shapes)."""
    ms, seq = stream_id(ident)
    return ms << _SEQ_BITS | seq


def from_wire(ident: int) -> StreamId:
    """The id of an int from a layout."""
    return StreamId(ident >> _SEQ_BITS, ident & _SEQ_MASK)
