"""Which protocol a connection speaks, from its first bytes (SPEC section 1). The decision holds for the connection."""

from enum import Enum, auto

from flo.limits import INLINE_BYTES_MAX

_RESP_MARKS = b"*$+-:"
_MAGIC = b"FLO"
_TLS = b"\x16\x03"
_CONTROLS = bytes(byte for byte in range(0x20) if byte != 0x09)  # never in a line of text


class Kind(Enum):
    """A row of SPEC section 1's table."""

    BINARY = auto()
    BINARY_OTHER_VERSION = auto()
    RESP = auto()
    INLINE = auto()
    HTTP = auto()
    TLS = auto()
    UNKNOWN = auto()


def skip_blank(data: bytes) -> int:
    """How many leading CR and LF bytes there are: they are skipped before detection."""
    return len(data) - len(data.lstrip(b"\r\n"))


def detect(data: bytes) -> Kind | None:
    """The protocol of a connection that begins with `data` (leading CR and LF removed); None if more bytes are needed."""
    if not data:
        return None
    first = data[0]
    if first in _RESP_MARKS:
        return Kind.RESP
    if first == _TLS[0]:
        if len(data) < 2:
            return None
        return Kind.TLS if data[1] == _TLS[1] else Kind.UNKNOWN
    if not 0x20 <= first < 0x7F:
        return Kind.UNKNOWN
    if data[:3] == _MAGIC[: len(data)]:
        # an inline command may begin with FLO too, such as FLOOD: then the fourth byte is printable
        if len(data) < 4:
            return None if b"\n" not in data else _line(data)
        if data[3] == 1:
            return Kind.BINARY
        if not 0x20 <= data[3] < 0x7F and data[3] not in b"\r\n\t":
            return Kind.BINARY_OTHER_VERSION
    return _line(data)


def _line(data: bytes) -> Kind | None:
    """Inline command or HTTP: the end of the first line tells."""
    end = data.find(b"\n")
    line = (data if end < 0 else data[:end]).rstrip(b"\r")  # CR and LF may come in two pieces
    if _has_controls(line[:16]) or len(line) > INLINE_BYTES_MAX:
        return Kind.UNKNOWN
    if end < 0:
        return None
    if len(line) > 9 and line[-9:-3] == b" HTTP/" and line[-3:-2].isdigit() and line[-2:-1] == b"." and line[-1:].isdigit():
        return Kind.HTTP
    return Kind.UNKNOWN if _has_controls(line) else Kind.INLINE


def _has_controls(line: bytes) -> bool:
    return len(line.translate(None, _CONTROLS)) != len(line)
