"""The binary protocol's bytes, both directions: server and client use this module (SPEC section 2, docs/wire-protocol.md).

Request, 32 bytes and a payload; all little-endian:

    0  magic "FLO\\x01" | 4  u16 opcode | 6  u16 flags | 8  u64 req_id | 16 u32 payload length
    20 u64 namespace hash | 28 u16 key length | 30 u16 options length | payload: key, value, options

Response, 24 bytes and a payload:

    0  magic | 4  u16 status | 6  u16 flags | 8  u64 req_id | 16 u32 payload length | 20 4 zero bytes | payload

Option: u8 type, u16 length, value. A payload's buffer grows as bytes arrive, never on the declared length alone.
"""

import struct
import zlib
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from flo.errors import (
    BadRequest,
    Conflict,
    FloError,
    InternalError,
    NotFound,
    NotLeader,
    Overloaded,
    Refusal,
    Unauthorized,
    WrongKind,
)
from flo.limits import BODY_GROWTH_BYTES, KEY_BYTES_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, UNAUTHENTICATED_BYTES_MAX, VALUE_BYTES_MAX
from flo.proto.row import Operation, Option
from flo.proto.shapes import NUMBERS, pack_id, shape, unpack_id

MAGIC = b"FLO\x01"
REQUEST = struct.Struct("<4sHHQIQHH")
RESPONSE = struct.Struct("<4sHHQI4x")
REQUEST_BYTES = REQUEST.size
RESPONSE_BYTES = RESPONSE.size
assert (REQUEST_BYTES, RESPONSE_BYTES) == (32, 24)
OPTION = struct.Struct("<BH")
OPTION_BYTES = OPTION.size
ID_BYTES = 16
RATE = struct.Struct("<II")  # starts, ms
VERSION = struct.Struct("<Q")

COMPRESSED = 1  # flag: the value (request) or the payload (response) is zlib-compressed
ACCEPTS_COMPRESSED = 2  # request flag: a compressed payload may be answered
FLAGS_KNOWN = COMPRESSED | ACCEPTS_COMPRESSED

COMPRESS_BYTES_MIN, COMPRESS_BYTES_MAX = 1 << 10, 1 << 20  # of a response: a smaller one does not pay, a larger one delays others
COMPRESS_LEVEL = 1  # 100 MB/s and more: a slower level rarely saves enough of the network
INFLATE_STEP_BYTES = 1 << 20  # inflated in one slice: about 3 ms
DEFLATED_STEP_BYTES = 16 << 10  # … and of its input: empty blocks, of 5 bytes each, take 2.4 ms and inflate to nothing

OK, NOT_FOUND, BAD_REQUEST, CONFLICT, UNAUTHORIZED, OVERLOADED, INTERNAL_ERROR, NOT_LEADER = range(8)
STATUS_NAMES = ("OK", "NOT_FOUND", "BAD_REQUEST", "CONFLICT", "UNAUTHORIZED", "OVERLOADED", "INTERNAL_ERROR", "NOT_LEADER")
# In the order in which a refusal's class is looked up: a subclass has its base's status. A status of two classes is read as the last one.
REFUSALS: tuple[tuple[int, type[Refusal]], ...] = (
    (NOT_FOUND, NotFound),
    (BAD_REQUEST, BadRequest),
    (CONFLICT, WrongKind),
    (CONFLICT, Conflict),
    (UNAUTHORIZED, Unauthorized),
    (OVERLOADED, Overloaded),
    (INTERNAL_ERROR, InternalError),
    (NOT_LEADER, NotLeader),
)
_ERROR_OF = dict(REFUSALS)
_STATUS_OF: dict[type[Refusal], int] = {kind: status for status, kind in REFUSALS}  # of these classes alone, without subclasses
_FNV_OFFSET, _FNV_PRIME, _U64 = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1

Buffer = bytes | memoryview


class FramingLost(FloError):
    """The bytes that follow cannot be split into messages: answer BAD_REQUEST (or `status`) with `req_id`, and close."""

    def __init__(self, message: str, req_id: int = 0, status: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.req_id = req_id
        self.status = status


class Frame(NamedTuple):
    """One whole message, as it was received."""

    header: bytes
    payload: Buffer


class Request(NamedTuple):
    """The parts of one request. `options` maps names to values: int, bytes, or True for an empty one."""

    operation: Operation
    flags: int
    req_id: int
    namespace_hash: int
    key: bytes
    value: bytes
    options: dict[str, Any]


class Response(NamedTuple):
    """One response. `payload` is inflated."""

    status: int
    req_id: int
    payload: bytes


def namespace_hash(name: str) -> int:
    """FNV-1a 64 of a namespace's name in UTF-8: what the header carries."""
    value = _FNV_OFFSET
    for byte in name.encode():
        value = (value ^ byte) * _FNV_PRIME & _U64
    return value


# -- framing ---------------------------------------------------------------------------------------


class FrameReader:
    """Splits a stream of bytes, cut anywhere, into whole messages. After `FramingLost` it must not be fed again."""

    __slots__ = ("_body", "_filled", "_header", "_header_bytes", "_length", "limit")

    def __init__(self, header_bytes: int, limit: int = REQUEST_BYTES_MAX) -> None:
        """`header_bytes` says which direction is read: REQUEST_BYTES or RESPONSE_BYTES. `limit` bounds a payload."""
        self._header_bytes = header_bytes
        self.limit: int = limit
        self._header = b""  # of the message whose payload is being received
        self._body: bytearray | None = None
        self._length = 0
        self._filled = 0

    @property
    def idle(self) -> bool:
        """Whether no payload is being received."""
        return self._body is None

    @property
    def held(self) -> int:
        """Bytes of memory that the payload being received holds."""
        return len(self._body) if self._body is not None else 0

    def body_room(self) -> memoryview | None:
        """The place for the next bytes of a payload; None if no payload is being received. Release it before the next call."""
        body = self._body
        if body is None:
            return None
        if self._filled == len(body):
            body.extend(bytes(min(max(len(body), BODY_GROWTH_BYTES), self._length - len(body))))
        return memoryview(body)[self._filled :]

    def body_received(self, count: int) -> Frame | None:
        """Take the `count` bytes that were put into `body_room()`; returns the message if it is whole now."""
        self._filled += count
        if self._filled < self._length:
            return None
        body, self._body = self._body, None
        assert body is not None
        return Frame(self._header, memoryview(body))

    def parse(self, data: bytes, at: int) -> tuple[Frame | None, int]:
        """(the next whole message in `data` from offset `at`, or None if it is not whole yet; the offset up to which `data` was taken).
        Bytes that were not taken, less than a header, must begin the next `data`. Raises `FramingLost`."""
        size = len(data)
        while self._body is not None and at < size:
            room = self.body_room()
            assert room is not None
            count = min(len(room), size - at)
            room[:count] = data[at : at + count]
            room.release()
            at += count
            frame = self.body_received(count)
            if frame is not None:
                return frame, at
        if size - at < self._header_bytes:
            return None, at  # even if this cannot become a header: the answer repeats the id, which has not come yet
        header = data[at : at + self._header_bytes]
        if header[:4] != MAGIC:
            raise _not_magic(header[:4], int.from_bytes(header[8:16], "little"))
        length = int.from_bytes(header[16:20], "little")
        if length > self.limit:
            raise FramingLost(
                f"the header declares a payload of {length} bytes; at most {self.limit} are allowed"
                + (" before the secret is given" if self.limit == UNAUTHENTICATED_BYTES_MAX else "")
                + ". The connection is closed",
                int.from_bytes(header[8:16], "little"),
            )
        at += self._header_bytes
        end = at + length
        if end <= size:
            return Frame(header, data[at:end]), end
        self._header, self._length, self._filled = header, length, size - at
        self._body = bytearray(min(length, max(BODY_GROWTH_BYTES, 2 * (size - at))))
        self._body[: self._filled] = data[at:]
        return None, size


def _not_magic(found: bytes, req_id: int) -> FramingLost:
    if found[:3] == MAGIC[:3] and len(found) > 3:
        return FramingLost(
            f"version {found[3]} of the binary protocol is not supported; send version 1: 46 4C 4F 01. The connection is closed",
            req_id,
        )
    return FramingLost(f"a message begins with 46 4C 4F 01, not with {found.hex(' ').upper()}. The connection is closed", req_id)


# -- requests --------------------------------------------------------------------------------------


def split_request(frame: Frame, operations: Mapping[int, Operation]) -> Request:
    """Split a request into its parts and check it against its operation's row, which is found in `operations` by code. The layout of the
    value is not checked, because the value may still be compressed. Raises `BadRequest`."""
    _, opcode, flags, req_id, _, namespace, key_length, options_length = REQUEST.unpack(frame.header)
    payload = frame.payload
    operation = operations.get(opcode)
    if operation is None:
        raise BadRequest(f"{opcode:#04x} is not an operation of this server; docs/wire-protocol.md lists them")
    if flags & ~FLAGS_KNOWN:
        raise BadRequest(f"the flags are {flags:#06x}; only bit 0 (compressed value) and bit 1 (accepts compressed) are known")
    middle = len(payload) - options_length
    if key_length > middle:
        raise BadRequest(
            f"the key of {key_length} bytes and the options of {options_length} do not fit the payload of {len(payload)} bytes"
        )
    options = decode_options(operation, bytes(payload[middle:])) if options_length else operation.defaults
    check_request(operation, key_length, middle - key_length, options)
    return Request(operation, flags, req_id, namespace, bytes(payload[:key_length]), bytes(payload[key_length:middle]), options)


def check_request(operation: Operation, key_bytes: int, value_bytes: int, options: dict[str, Any]) -> None:
    """Raise `BadRequest` if the operation's row does not allow a key and a value of these sizes, with these options."""
    for name in operation.required:
        if name not in options:
            raise BadRequest(f"{operation.name} needs the option {name} ({operation.options[name].code:#04x})")
    if key_bytes and not operation.key:
        raise BadRequest(f"{operation.name} takes no key, and one of {key_bytes} bytes was sent")
    if value_bytes and not operation.value:
        raise BadRequest(f"{operation.name} takes no value, and one of {value_bytes} bytes was sent")
    if value_bytes > value_limit(operation):
        raise BadRequest(f"the value is {value_bytes} bytes; {operation.name} takes {value_limit(operation)} at most")


def value_limit(operation: Operation) -> int:
    """The most bytes that the operation's value may have, inflated. A value with a layout may be as long as a request."""
    return REQUEST_BYTES_MAX if operation.layout else VALUE_BYTES_MAX


def decode_options(operation: Operation, data: bytes) -> dict[str, Any]:
    """The options in `data`, by name, and the default of `limit` if the operation takes it. Raises `BadRequest` for an option that is
    unknown, repeated, misplaced or of a wrong length."""
    options: dict[str, Any] = {}
    by_code, at, size = operation.by_code, 0, len(data)
    while at < size:
        if size - at < OPTION_BYTES:
            raise BadRequest(f"the options end inside the type and length of one: {size - at} bytes are left")
        code, length = OPTION.unpack_from(data, at)
        start = at + OPTION_BYTES
        at = start + length
        option = by_code.get(code)
        if option is None:
            takes = ", ".join(f"{each.name} ({each.code:#04x})" for each in by_code.values()) or "none"
            raise BadRequest(f"{operation.name} does not take the option {code:#04x}; it takes {takes}")
        name, form = option.name, option.form
        if name in options:
            raise BadRequest(f"the option {name} ({code:#04x}) is given twice")
        if at > size:
            raise BadRequest(f"the option {name} ({code:#04x}) declares {length} bytes, but {size - start} are left")
        unpack = NUMBERS.get(form)
        if unpack is not None and length == unpack.size:
            (value,) = unpack.unpack_from(data, start)
            if value < option.least:
                raise BadRequest(f"the option {name} is {value}; it is {option.least} at least")
        elif form == "bytes":
            value = data[start:at]
        elif form == "id" and length == ID_BYTES:
            value = unpack_id(data, start)
        elif form == "rate" and length == RATE.size:
            value = RATE.unpack_from(data, start)
        elif form == "empty" and not length:
            value = True
        else:
            raise BadRequest(f"the option {name} ({code:#04x}) is {length} bytes, which does not fit its form, {form}")
        options[name] = value
    default, most = operation.limits
    if most and not 1 <= options.setdefault("limit", default) <= most:
        raise BadRequest(f"the option limit is {options['limit']}; {operation.name} takes 1 to {most}")
    if len(options) > 1:
        for one, other in operation.either:
            if one in options and other in options:
                raise BadRequest(f"{operation.name} takes {one} or {other}, not both")
    return options


def inflate(value: bytes, limit: int) -> Generator[None, None, bytes]:
    """Inflate a compressed value. Yields after each INFLATE_STEP_BYTES of output or DEFLATED_STEP_BYTES of input, so that others need not
    wait. Raises `BadRequest` if the value is no zlib stream or inflates to more than `limit` bytes; no more than that is ever held."""
    stream = zlib.decompressobj()
    pieces: list[bytes] = []
    size = at = 0
    rest = b""  # of the last step's input: it would inflate to more than a step's output
    while not stream.eof:
        if not rest:
            rest = value[at : at + DEFLATED_STEP_BYTES]
            at += len(rest)
        try:
            piece = stream.decompress(rest, min(INFLATE_STEP_BYTES, limit + 1 - size))
        except zlib.error as e:
            raise BadRequest(f"the flag says that the value is compressed, but it is not a zlib stream: {e}") from None
        rest = stream.unconsumed_tail
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise BadRequest(f"the value inflates to more than {limit} bytes")
        if not piece and not rest and at == len(value) and not stream.eof:
            raise BadRequest("the value's zlib stream ends early")
        if not stream.eof and size < limit:
            yield
    unused = len(stream.unused_data) + len(value) - at
    if unused:
        raise BadRequest(f"{unused} bytes follow the value's zlib stream")
    return b"".join(pieces)


def encode_options(operation: Operation, options: Mapping[str, Any]) -> bytes:
    """The bytes of the options; one that is None is left out. Raises `BadRequest` for a value that does not fit."""
    parts: list[bytes] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        assert name in operation.options, f"{operation.name} takes no {name}"
        parts.append(encode_option(operation.options[name], value))
    return b"".join(parts)


def encode_option(option: Option, value: Any) -> bytes:
    """The bytes of one option. Raises `BadRequest` for a value that does not fit."""
    data = _option_value(option, value)
    if len(data) > 0xFFFF:
        raise BadRequest(f"the option {option.name} is {len(data)} bytes; at most 65,535 are allowed")
    return OPTION.pack(option.code, len(data)) + data


def _option_value(option: Option, value: Any) -> bytes:
    if option.form == "bytes":
        return bytes(value)
    if option.form == "empty":
        return b""
    try:
        if option.form == "rate":
            return RATE.pack(*value)
        return pack_id(value) if option.form == "id" else NUMBERS[option.form].pack(value)
    except struct.error:
        raise BadRequest(f"{option.name} does not fit {option.form}: {value!r}") from None


def encode_request(
    operation: Operation,
    req_id: int,
    namespace: int = 0,
    key: bytes = b"",
    value: bytes = b"",
    options: Mapping[str, Any] | None = None,
    *,
    compress: bool = False,
    accept_compressed: bool = False,
) -> bytes:
    """A request's bytes. `namespace` is the hash of its name. Raises `BadRequest` for a part that exceeds its limit."""
    section = encode_options(operation, options) if options else b""
    return encode_parts(operation.code, req_id, namespace, key, value, section, compress, accept_compressed)


def encode_parts(
    code: int,
    req_id: int,
    namespace: int,
    key: bytes,
    value: bytes,
    section: bytes,
    compress: bool = False,
    accept_compressed: bool = False,
) -> bytes:
    """A request's bytes, with its options encoded. Raises `BadRequest` for a part that exceeds its limit."""
    flags = 0
    if compress:
        value, flags = zlib.compress(value), COMPRESSED
    if accept_compressed:
        flags |= ACCEPTS_COMPRESSED
    key_bytes, section_bytes = len(key), len(section)
    size = key_bytes + len(value) + section_bytes
    if key_bytes > KEY_BYTES_MAX:
        raise BadRequest(f"the key is {key_bytes} bytes; at most {KEY_BYTES_MAX} are allowed")
    if section_bytes > 0xFFFF:
        raise BadRequest(f"the options are {section_bytes} bytes; at most 65,535 are allowed")
    if size > REQUEST_BYTES_MAX:
        raise BadRequest(f"the request is {size} bytes; at most {REQUEST_BYTES_MAX} are allowed")
    return b"".join((REQUEST.pack(MAGIC, code, flags, req_id, size, namespace, key_bytes, section_bytes), key, value, section))


# -- responses -------------------------------------------------------------------------------------


def encode_response(status: int, req_id: int, payload: bytes = b"", *, compress: bool = False) -> bytes:
    """A response's bytes. With `compress` the client accepts a compressed payload; it gets one if that is smaller."""
    flags = 0
    if compress and COMPRESS_BYTES_MIN < len(payload) <= COMPRESS_BYTES_MAX:
        smaller = zlib.compress(payload, COMPRESS_LEVEL)
        if len(smaller) < len(payload):
            payload, flags = smaller, COMPRESSED
    return RESPONSE.pack(MAGIC, status, flags, req_id, len(payload)) + payload


def encode_refusal(e: Refusal, req_id: int) -> bytes:
    """The bytes of the response for a refusal."""
    status = _STATUS_OF.get(type(e)) or next((status for status, kind in REFUSALS if isinstance(e, kind)), BAD_REQUEST)
    sentence = str(e).encode("utf-8", "replace")
    if isinstance(e, (Conflict, WrongKind)):
        sentence = VERSION.pack(e.version) + sentence
    return encode_response(status, req_id, sentence)


def split_response(frame: Frame, limit: int = RESPONSE_BYTES_MAX) -> Response:
    """Split a response into its parts; a payload inflates to `limit` bytes at most. Raises `FramingLost` for a response that no server of
    version 1 sends."""
    _, status, flags, req_id, _ = RESPONSE.unpack(frame.header)
    if status >= len(STATUS_NAMES) or flags & ~COMPRESSED:
        raise FramingLost(f"the answer has status {status} and flags {flags:#06x}, which version 1 does not know", req_id)
    payload = bytes(frame.payload)
    if flags & COMPRESSED:
        job = inflate(payload, limit)
        try:
            while True:
                next(job)
        except StopIteration as end:
            payload = end.value
        except BadRequest as e:
            raise FramingLost(f"the answer cannot be inflated: {e}", req_id) from None
    return Response(status, req_id, payload)


def error_of(response: Response) -> Refusal:
    """The refusal in a response whose status is not OK."""
    payload, version = response.payload, 0
    if response.status == CONFLICT and len(payload) >= VERSION.size:
        version, payload = VERSION.unpack_from(payload)[0], payload[VERSION.size :]
    sentence = payload.decode("utf-8", "replace")
    kind = _ERROR_OF[response.status]
    return Conflict(sentence, version) if kind is Conflict else kind(sentence)


def decode_answer(operation: Operation, payload: bytes) -> tuple[Any, ...]:
    """The values in the payload of an OK answer, as the operation's row lays them out. Raises `BadRequest`."""
    return shape(operation.answer).decode(payload)
