"""RESP2 and RESP3 (https://redis.io/docs/latest/develop/reference/protocol-spec): the complete request parser, replies.

`RequestParser` is fed bytes cut anywhere and returns whole requests. It is strict and complete. The fast decoder in
commands/resp/decode.py takes the common requests and leaves all others to this parser.

A request is an array of bulk strings, or an inline command:

    *<count>\\r\\n  ($<length>\\r\\n <bytes> \\r\\n) x count            SET key "a value"\\r\\n
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice

from flo.errors import FloError
from flo.limits import BODY_GROWTH_BYTES, INLINE_BYTES_MAX, REQUEST_BYTES_MAX, UNAUTHENTICATED_BYTES_MAX

ARGUMENTS_MAX = 1_048_576
LENGTH_LINE_BYTES_MAX = 64 << 10  # how far the end of a `*` or `$` line is looked for; Redis's own bound
UNAUTHENTICATED_ARGUMENTS_MAX = 16
BODY_BYTES_MIN = 32 << 10  # an argument of at least this size is received into its own buffer
ARGUMENT_OVERHEAD_BYTES = 41  # of a bytes object, besides its bytes, and of its place in a list

CRLF = b"\r\n"
OK = b"+OK\r\n"
NIL2 = b"$-1\r\n"
NIL_ARRAY2 = b"*-1\r\n"
NIL3 = b"_\r\n"
EMPTY_ARRAY = b"*0\r\n"
EMPTY_BULK = b"$0\r\n\r\n"
ZERO = b":0\r\n"
ONE = b":1\r\n"


class ProtocolError(FloError):
    """The bytes that follow cannot be split into requests. The client gets `-ERR Protocol error: …` and the connection is closed."""


class RequestParser:
    """Splits a stream of bytes into requests. After a `ProtocolError` it must not be fed again."""

    __slots__ = ("_args", "_body", "_filled", "_length", "_missing", "_size", "authenticated", "passed_empty", "searched")

    def __init__(self, authenticated: bool = True) -> None:
        self.authenticated: bool = authenticated
        self._args: list[bytes] = []
        self._missing = 0  # the number of arguments of the request under way that are still to come
        self._length = -1  # of the argument under way; -1 before its `$` line
        self._size = 0  # bytes of the request under way, as declared so far
        self._body: bytearray | None = None  # a large argument under way; includes its CRLF
        self._filled = 0
        self.searched: int = 0  # bytes of an unfinished line that were searched already
        self.passed_empty: bool = False  # a request without arguments (an empty line, `*0`) was passed since a user last cleared this

    @property
    def idle(self) -> bool:
        """Whether no request is under way, not even a line whose first part was searched."""
        return not (self._missing or self.searched)

    @property
    def length_known(self) -> bool:
        """Whether an argument is under way whose length is known."""
        return self._length >= 0

    @property
    def held(self) -> int:
        """Bytes of memory held by the request under way."""
        if not self._missing:
            return 0
        body = len(self._body) if self._body is not None else 0
        return self._size + ARGUMENT_OVERHEAD_BYTES * len(self._args) if body == 0 else self._size - self._length + body

    # -- a large argument, received in place -------------------------------------------------------

    def body_room(self) -> memoryview | None:
        """The place for the next bytes of a large argument; None if none is being received. Release it before the next call."""
        body = self._body
        if body is None:
            return None
        if self._filled == len(body):
            body.extend(bytes(min(len(body), self._length + 2 - len(body))))
        return memoryview(body)[self._filled :]

    def body_received(self, count: int) -> list[bytes] | None:
        """Take the `count` bytes that were put into `body_room()`; returns the request if it is whole now."""
        self._filled += count
        return self._finish_body()

    def _finish_body(self) -> list[bytes] | None:
        body = self._body
        assert body is not None
        if self._filled < self._length + 2:
            return None
        if body[-2:] != CRLF:
            raise ProtocolError("expected CR and LF behind a bulk string")
        del body[-2:]
        self._args.append(bytes(body))
        self._body = None
        self._length = -1
        self._missing -= 1
        return None if self._missing else self._take()

    def _take(self) -> list[bytes]:
        args, self._args = self._args, []
        self._size = 0
        return args

    # -- everything else ---------------------------------------------------------------------------

    def parse(self, data: bytes, at: int) -> tuple[list[bytes] | None, int]:
        """(the next whole request in `data` from offset `at`, or None if it is not whole yet; the offset up to which `data` was taken).
        Bytes that were not taken must begin the next `data`. Raises `ProtocolError`."""
        size = len(data)
        if self._body is not None:
            room = self.body_room()
            while room is not None and at < size:
                count = min(len(room), size - at)
                room[:count] = data[at : at + count]
                room.release()
                at += count
                args = self.body_received(count)
                if args is not None:
                    return args, at
                room = self.body_room()
            if room is not None:
                room.release()
            if self._body is not None:
                return None, at
        while not self._missing:
            if at >= size:
                return None, at
            mark = data[at]
            if mark != 0x2A:
                args, at, whole = self._parse_inline(data, at)
                if not whole or args:
                    return args, at
                self.passed_empty = True
                continue
            end = self._line_end(data, at, "too big mbulk count string")
            if end < 0:
                return None, at
            declared = _strict_int(data[at + 1 : end])
            if declared is None or declared > ARGUMENTS_MAX:
                raise ProtocolError("invalid multibulk length")
            if declared > UNAUTHENTICATED_ARGUMENTS_MAX and not self.authenticated:
                raise ProtocolError("unauthenticated multibulk length")
            at = end + 2
            self._missing = max(declared, 0)
            self.passed_empty |= not self._missing
        while True:
            if self._length < 0:
                if at >= size:
                    return None, at
                if data[at] != 0x24:
                    raise ProtocolError(f"expected '$', got '{_printable(data[at])}'")
                end = self._line_end(data, at, "too big bulk count string")
                if end < 0:
                    return None, at
                length = _strict_int(data[at + 1 : end])
                if length is None or length < 0 or length > REQUEST_BYTES_MAX:
                    raise ProtocolError("invalid bulk length")
                self._size += length
                if not self.authenticated and self._size > UNAUTHENTICATED_BYTES_MAX:
                    raise ProtocolError("unauthenticated bulk length")
                if self._size > REQUEST_BYTES_MAX:
                    raise ProtocolError(f"the request is over {REQUEST_BYTES_MAX} bytes")
                self._length = length
                at = end + 2
            length = self._length
            stop = at + length
            if stop + 2 > size:
                if length >= BODY_BYTES_MIN:
                    body = self._body = bytearray(min(length + 2, max(BODY_GROWTH_BYTES, 2 * (size - at))))
                    self._filled = size - at
                    body[: self._filled] = data[at:]
                    return None, size
                return None, at
            if data[stop : stop + 2] != CRLF:
                raise ProtocolError("expected CR and LF behind a bulk string")
            self._args.append(data[at:stop])
            at = stop + 2
            self._length = -1
            self._missing -= 1
            if not self._missing:
                return self._take(), at

    def _line_end(self, data: bytes, at: int, too_big: str) -> int:
        """The offset of the CR of the line at `at`; -1 if the CR has not come yet."""
        end = data.find(CRLF, at + self.searched)
        if end < 0:
            if len(data) - at > LENGTH_LINE_BYTES_MAX:
                raise ProtocolError(too_big)
            self.searched = max(len(data) - at - 1, 0)  # the last byte may be the CR
        else:
            self.searched = 0
        return end

    def _parse_inline(self, data: bytes, at: int) -> tuple[list[bytes] | None, int, bool]:
        """An inline command at `at`: (its arguments, where it ends, whether its line was whole)."""
        if data[at] in b"$+-:":
            raise ProtocolError(f"expected '*', got '{_printable(data[at])}'")
        end = data.find(b"\n", at + self.searched)
        limit = INLINE_BYTES_MAX if self.authenticated else UNAUTHENTICATED_BYTES_MAX
        if (end if end >= 0 else len(data)) - at > limit:
            raise ProtocolError("too big inline request")
        if end < 0:
            self.searched = len(data) - at
            return None, at, False
        self.searched = 0
        arguments_max = ARGUMENTS_MAX if self.authenticated else UNAUTHENTICATED_ARGUMENTS_MAX
        args = split_inline(data[at:end].removesuffix(b"\r"), arguments_max)
        if len(args) > arguments_max:
            raise ProtocolError("unauthenticated multibulk length")
        return args or None, end + 1, True


def _strict_int(text: bytes) -> int | None:
    """A decimal without plus, spaces, underscores or needless zeros; None for anything else."""
    if not 1 <= len(text) <= 20 or not text.removeprefix(b"-").isdigit():
        return None
    value = int(text)
    return value if b"%d" % value == text else None


def _printable(byte: int) -> str:
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


ESCAPES = (("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t"), ("\\b", "\b"), ("\\a", "\a"))
BACKSLASH = "\ue000"  # stands for a backslash that is no escape any more: text decoded as Latin-1 does not have this character


@cache
def _patterns() -> tuple[re.Pattern[bytes], re.Pattern[str]]:
    """The next argument of an inline command, quotes included (group 1 is None, and the rest of the line is taken, if quotes do not
    balance); an escape with two hexadecimal digits. They are compiled when they are first needed: that takes half a ms."""
    double, single = rb'"(?:[^"\\]++|\\.)*+"', rb"'(?:[^'\\]++|\\'?)*+'"
    argument = rb"((?:[^\s\"']++(?:%b|%b)?|%b|%b)(?=\s|\Z))|\S.*" % (double, single, double, single)
    return re.compile(argument, re.DOTALL), re.compile(r"\\x([0-9a-fA-F]{2})")


def split_inline(line: bytes, arguments_max: int = ARGUMENTS_MAX) -> list[bytes]:
    """The arguments of an inline command: separated by white space, quoted with "…" (with \\n, \\xhh and the like) or '…'. A line of more
    than `arguments_max` is not split to its end: the list is one longer then. Raises `ProtocolError` for quotes that do not balance.

    Strangers may send such lines, so no byte costs a step of Python's."""
    if b'"' not in line and b"'" not in line:
        return line.split(None, arguments_max)
    found = [match[1] for match in islice(_patterns()[0].finditer(line), arguments_max + 1)]
    if found and found[-1] is None:
        raise ProtocolError("unbalanced quotes in request")
    return [argument if argument[-1] not in b"\"'" else _unquote(argument) for argument in found]


def _unquote(argument: bytes) -> bytes:
    """The value of an argument that ends with a quoted part."""
    quote = argument[-1:]
    if b"\\" not in argument:
        return argument.replace(quote, b"")
    plain, _, quoted = argument[:-1].partition(quote)
    if quote == b"'":
        return plain + quoted.replace(b"\\'", b"'")
    text = quoted.decode("latin-1").replace("\\\\", BACKSLASH)
    if "\\x" in text:
        parts = _patterns()[1].split(text)
        parts[1::2] = bytes.fromhex("".join(parts[1::2])).decode("latin-1").replace("\\", BACKSLASH)
        text = "".join(parts)
    for escape, value in ESCAPES:
        text = text.replace(escape, value)
    return plain + text.replace("\\", "").replace(BACKSLASH, "\\").encode("latin-1")


# -- replies ---------------------------------------------------------------------------------------
# Each function returns the whole bytes of a reply; `v3` says whether the connection speaks RESP3.


def simple(text: str) -> bytes:
    """`+text`."""
    return b"+%b\r\n" % text.encode()


def error(text: str) -> bytes:
    """`-text`, its first word the code. Line breaks become spaces: an error is one line."""
    return b"-%b\r\n" % text.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace")


def integer(value: int) -> bytes:
    """`:value`."""
    return b":%d\r\n" % value


def bulk(value: bytes) -> bytes:
    """`$length`, value."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def bulk_or_nil(value: bytes | None, v3: bool) -> bytes:
    """A bulk string, or nil for None."""
    if value is None:
        return NIL3 if v3 else NIL2
    return bulk(value)


def array(items: Iterable[bytes]) -> bytes:
    """An array of replies."""
    items = list(items)
    return b"*%d\r\n" % len(items) + b"".join(items)


def bulk_array(values: Iterable[bytes]) -> bytes:
    """An array of bulk strings."""
    return array([bulk(value) for value in values])


def mapping(items: Mapping[bytes, bytes], v3: bool) -> bytes:
    """A map of bulk string keys to replies: RESP3's `%`, in RESP2 an array of keys and values in turn."""
    body = b"".join([bulk(key) + value for key, value in items.items()])
    return (b"%%%d\r\n" % len(items) if v3 else b"*%d\r\n" % (2 * len(items))) + body


def unordered(items: Iterable[bytes], v3: bool) -> bytes:
    """A set of replies: RESP3's `~`, in RESP2 an array."""
    items = list(items)
    return (b"~%d\r\n" if v3 else b"*%d\r\n") % len(items) + b"".join(items)


def boolean(value: bool, v3: bool) -> bytes:
    """RESP3's `#t` and `#f`, in RESP2 1 and 0."""
    if v3:
        return b"#t\r\n" if value else b"#f\r\n"
    return ONE if value else ZERO


def verbatim(text: str, v3: bool) -> bytes:
    """Text for a person: RESP3's `=` with format txt, in RESP2 a bulk string."""
    data = text.encode()
    return b"=%d\r\ntxt:%b\r\n" % (len(data) + 4, data) if v3 else bulk(data)
