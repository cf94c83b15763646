r"""The names of a time series: measurement, tags and field, as InfluxDB's line protocol writes them. Bytes to names and back; no values.

    measurement[,tag=value]… field                                                   a series' key; in a line, the field's value follows

`\` escapes a comma and a space everywhere, and `=` in all but the measurement; before anything else it is itself. No name is empty, has
a control character, or ends in a `\`, which would escape the separator behind it. Tags are sorted by the bytes of their names, each has
one value, and none is empty: InfluxDB refuses two tags of one name, and a tag without a value. So a series has exactly one key. It is the
name of the series in the log, and the text that is shown.
"""

import re
from collections.abc import Iterable
from operator import lt
from typing import NamedTuple

from flo.errors import BadRequest
from flo.limits import ENTITY_BYTES_MAX

# Of a series' key. InfluxDB's bound is 65,535; the rest is for the name of a downsampled measurement, which is longer than its source's.
SERIES_BYTES_MAX = ENTITY_BYTES_MAX - 535
HEAD_BYTES_MAX = 2 * SERIES_BYTES_MAX  # of a measurement and its tags as they are sent: more than any key that they can make
SHOWN_BYTES = 40  # of a wrong value in a message

# What a name may have. The groups behind the backslash are what it escapes.
MEASUREMENT = re.compile(rb"(?:[^\x00-\x1f\x7f, \\]+|\\+[, ]?)*")
NAME = re.compile(rb"(?:[^\x00-\x1f\x7f,= \\]+|\\+[,= ]?)*")  # of a tag or a field, and a tag's value
_MEASUREMENT_ESCAPE = re.compile(rb"\\([, ])")
_NAME_ESCAPE = re.compile(rb"\\([,= ])")
_MEASUREMENT_SPECIAL = re.compile(rb"([, ])")
_NAME_SPECIAL = re.compile(rb"([,= ])")
# A head as most are: no escapes. A `+` that ends in another `+` never gives back what it took, so that no text takes long.
_PLAIN_HEAD = re.compile(rb"[^\x00-\x1f\x7f, \\#][^\x00-\x1f\x7f, \\]*+(?:,[^\x00-\x1f\x7f,= \\]++=[^\x00-\x1f\x7f,= \\]++)*+(?= |\Z)")
_UNWRITABLE = re.compile(rb"[\x00-\x1f\x7f]|\\\Z")

Tags = tuple[tuple[str, str], ...]


class Malformed(Exception):
    """Text that is no line protocol: `at` is the offset of the wrong byte."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


class Series(NamedTuple):
    """What a series is named by. Names are UTF-8 with surrogateescape; tags are in the order of the bytes of their names."""

    measurement: str
    tags: Tags
    field: str


def shown(text: bytes) -> str:
    """A wrong text as a message has it: quoted, on one line, its beginning alone if it is long."""
    cut = "".join(char if char.isprintable() else "\ufffd" for char in text[:SHOWN_BYTES].decode("utf-8", "replace"))
    return f"'{cut}'" if len(text) <= SHOWN_BYTES else f"'{cut}…' ({len(text)} bytes)"


def found(data: bytes, at: int, end: int) -> str:
    """What stands at `at`, for a message."""
    if at >= end:
        return "the end of the text"
    byte = data[at]
    if byte in b"\r\n":
        return "the end of the line"
    if byte == 32:
        return "a space"
    return f"'{chr(byte)}'" if 32 < byte < 127 else f"the byte 0x{byte:02x}"


def read_name(data: bytes, at: int, end: int, what: str) -> tuple[bytes, int]:
    """The name of a tag or a field, or a tag's value: its bytes without escapes, and where it ends. `what` is for the message if there is
    none."""
    match = NAME.match(data, at, min(end, at + HEAD_BYTES_MAX))
    assert match
    name = match[0]
    if not name:
        raise Malformed(at, f"expected {what}, found {found(data, at, end)}")
    if b"\\" in name:
        name = _NAME_ESCAPE.sub(rb"\1", name)
    _check_text(name, at, what)
    return name, match.end()


def _check_text(name: bytes, at: int, what: str) -> None:
    if not name.isascii():
        try:
            name.decode()
        except UnicodeDecodeError:
            raise Malformed(at, f"expected {what} in UTF-8, found the bytes {name[:SHOWN_BYTES]!r}") from None


def read_tags(data: bytes, at: int, end: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """The tags that begin at `at`, sorted, and where they end."""
    tags: list[tuple[bytes, bytes]] = []
    places: dict[bytes, int] = {}
    while True:
        start = at
        name, at = read_name(data, at, end, "a tag's name")
        if name in places:
            raise Malformed(start, f"the tag {shown(name)} is there twice; a series has one value of a tag")
        places[name] = start
        if data[at : min(at + 1, end)] != b"=":
            raise Malformed(at, f"expected '=' after the tag's name {shown(name)}, found {found(data, at, end)}")
        value, at = read_name(data, at + 1, end, f"a value of the tag {shown(name)}")
        tags.append((name, value))
        if data[at : min(at + 1, end)] != b",":
            tags.sort()
            return tags, at
        at += 1


def read_head(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """The measurement and the tags that begin at `at`: the beginning of their series' keys, and where the head ends."""
    start = at
    plain = _PLAIN_HEAD.match(data, at, end)
    if plain and plain[0].isascii() and len(plain[0]) <= SERIES_BYTES_MAX:
        name, *texts = plain[0].split(b",")
        names = [tag.partition(b"=")[0] for tag in texts]
        if all(map(lt, names, names[1:])):
            return plain[0], plain.end()  # it is already what its keys begin with
        if len(set(names)) == len(names):
            return b",".join([name, *(tag for _, tag in sorted(zip(names, texts, strict=True)))]), plain.end()
    match = MEASUREMENT.match(data, at, end)
    assert match
    if not match[0]:
        raise Malformed(at, f"expected a measurement's name, found {found(data, at, end)}")
    name, at = _MEASUREMENT_ESCAPE.sub(rb"\1", match[0]), match.end()
    _check_text(name, start, "a measurement's name")
    if name.startswith(b"#"):
        raise Malformed(start, "expected a measurement's name, found '#', which begins a comment")
    tags: list[tuple[bytes, bytes]] = []
    if data[at : min(at + 1, end)] == b",":
        tags, at = read_tags(data, at + 1, end)
    head = head_key(name, tags)
    if len(head) > SERIES_BYTES_MAX:
        raise Malformed(start, f"measurement and tags have {len(head)} bytes; a series' key has {SERIES_BYTES_MAX} at most")
    return head, at


def head_key(measurement: bytes, tags: Iterable[tuple[bytes, bytes]]) -> bytes:
    """What the keys of a measurement's series with these sorted tags begin with: all but the space and the field."""
    parts = [_MEASUREMENT_SPECIAL.sub(rb"\\\1", measurement)]
    for name, value in tags:
        parts.append(_NAME_SPECIAL.sub(rb"\\\1", name) + b"=" + _NAME_SPECIAL.sub(rb"\\\1", value))
    return b",".join(parts)


def field_key(head: bytes, field: bytes) -> bytes:
    """The key of the series of a field, from its head."""
    return head + b" " + _NAME_SPECIAL.sub(rb"\\\1", field)


def series_key(measurement: bytes, tags: Iterable[tuple[bytes, bytes]], field: bytes) -> bytes:
    """The key of a series. Raises `BadRequest` for names that line protocol cannot write, two tags of one name, or too long a key."""
    ordered = sorted(tags)
    for what, name in (("measurement's name", measurement), ("field's name", field)):
        _check_name(what, name)
    if measurement.startswith(b"#"):
        raise BadRequest(f"a measurement's name cannot begin with '#', as {shown(measurement)} does: it begins a comment; choose another")
    for at, (name, value) in enumerate(ordered):
        _check_name("tag's name", name)
        _check_name(f"value of the tag {shown(name)}", value)
        if at and ordered[at - 1][0] == name:
            raise BadRequest(f"the tag {shown(name)} is there twice; give it one value")
    key = field_key(head_key(measurement, ordered), field)
    if len(key) > SERIES_BYTES_MAX:
        raise BadRequest(f"the names of the series have {len(key)} bytes together; shorten them to {SERIES_BYTES_MAX}")
    return key


def _check_name(what: str, name: bytes) -> None:
    if not name:
        raise BadRequest(f"a {what} is empty; give it a text, or leave it out")
    if wrong := _UNWRITABLE.search(name):
        has = "ends in a backslash" if wrong[0] == b"\\" else f"has the control character 0x{wrong[0][0]:02x}"
        raise BadRequest(f"the {what} {shown(name)} {has}; line protocol cannot write it, choose another")
    try:
        name.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"the {what} is not UTF-8: {name[:SHOWN_BYTES]!r}") from None


def parse_tags(text: bytes) -> list[tuple[bytes, bytes]]:
    """The tags of the option `tags`, `k=v,k2=v2`, sorted; none if it is empty. Raises `BadRequest`."""
    if not text:
        return []
    try:
        tags, at = read_tags(text, 0, len(text))
        if at < len(text):
            raise Malformed(at, f"expected ',' or the end of the tags, found {found(text, at, len(text))}")
    except Malformed as error:
        raise BadRequest(f"tags, column {error.at + 1}: {error}; write them as k=v,k2=v2") from None
    return tags


def parse_key(key: bytes) -> Series:
    """The names in a series' key."""
    if b"\\" not in key:  # most have no escapes
        head, _, field = key.decode("utf-8", "surrogateescape").rpartition(" ")
        measurement, *texts = head.split(",")
        return Series(measurement, tuple([(name, value) for name, _, value in [text.partition("=") for text in texts]]), field)
    match = MEASUREMENT.match(key)
    assert match
    at = match.end()
    tags: list[tuple[bytes, bytes]] = []
    if key[at : at + 1] == b",":
        tags, at = read_tags(key, at + 1, len(key))
    plain_field, _ = read_name(key, at + 1, len(key), "a field's name")
    names = tuple((_text(name), _text(value)) for name, value in tags)
    return Series(_text(_MEASUREMENT_ESCAPE.sub(rb"\1", match[0])), names, _text(plain_field))


def write_key(series: Series) -> bytes:
    """The key of a series from its names, as `series_key`."""
    tags = [(_bytes(name), _bytes(value)) for name, value in series.tags]
    return series_key(_bytes(series.measurement), tags, _bytes(series.field))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
