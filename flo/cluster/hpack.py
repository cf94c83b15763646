"""HPACK (RFC 7541), which HTTP/2 packs headers with: as little as a client of gRPC needs. No socket, no clock.

`encode` uses no compression: every header is a literal that is not indexed (RFC 7541 section 6.2.2), for a client sends the same few short
headers, and a table would have to be kept. `Decoder` reads everything that a server may send.
"""

from collections import deque

from flo.errors import FloError

TABLE_BYTES_MAX = 4096  # of the dynamic table: the default, which the client's settings do not change
ENTRY_BYTES = 32  # that an entry counts besides its bytes: RFC 7541 section 4.1
HEADERS_MAX = 200  # of one block
INTEGER_MAX = 1 << 24

Header = tuple[bytes, bytes]


class HpackError(FloError):
    """A block of headers that breaks RFC 7541: the connection cannot go on."""


# RFC 7541 appendix A. Index 1 is the first.
_STATIC: tuple[Header, ...] = tuple(
    (name, value)
    for line in (
        b":authority|", b":method|GET", b":method|POST", b":path|/", b":path|/index.html", b":scheme|http", b":scheme|https",
        b":status|200", b":status|204", b":status|206", b":status|304", b":status|400", b":status|404", b":status|500",
        b"accept-charset|", b"accept-encoding|gzip, deflate", b"accept-language|", b"accept-ranges|", b"accept|",
        b"access-control-allow-origin|", b"age|", b"allow|", b"authorization|", b"cache-control|", b"content-disposition|",
        b"content-encoding|", b"content-language|", b"content-length|", b"content-location|", b"content-range|",
        b"content-type|", b"cookie|", b"date|", b"etag|", b"expect|", b"expires|", b"from|", b"host|", b"if-match|",
        b"if-modified-since|", b"if-none-match|", b"if-range|", b"if-unmodified-since|", b"last-modified|", b"link|",
        b"location|", b"max-forwards|", b"proxy-authenticate|", b"proxy-authorization|", b"range|", b"referer|", b"refresh|",
        b"retry-after|", b"server|", b"set-cookie|", b"strict-transport-security|", b"transfer-encoding|", b"user-agent|",
        b"vary|", b"via|", b"www-authenticate|",
    )
    for name, _, value in (line.partition(b"|"),)
)  # fmt: skip
assert len(_STATIC) == 61

# RFC 7541 appendix B is a canonical code: codes of one length follow each other in the order of their bytes, so the lengths say it all.
# Lengths in bits of the codes of 0 to 255, and of the end: (how many, length)
_LENGTHS = (
    (1, 13), (1, 23), (7, 28), (1, 24), (1, 30), (2, 28), (1, 30), (8, 28), (1, 30), (9, 28), (1, 6), (2, 10), (1, 12), (1, 13), (1, 6),
    (1, 8), (1, 11), (2, 10), (1, 8), (1, 11), (1, 8), (3, 6), (3, 5), (7, 6), (1, 7), (1, 8), (1, 15), (1, 6), (1, 12), (1, 10), (1, 13),
    (1, 6), (22, 7), (1, 8), (1, 7), (1, 8), (1, 13), (1, 19), (1, 13), (1, 14), (1, 6), (1, 15), (1, 5), (1, 6), (1, 5), (1, 6), (1, 5),
    (3, 6), (1, 5), (2, 7), (3, 6), (1, 5), (1, 6), (1, 7), (1, 6), (2, 5), (1, 6), (5, 7), (1, 15), (1, 11), (1, 14), (1, 13), (1, 28),
    (1, 20), (1, 22), (2, 20), (3, 22), (1, 23), (1, 22), (5, 23), (1, 24), (1, 23), (2, 24), (1, 22), (1, 23), (1, 24), (4, 23), (1, 21),
    (1, 22), (1, 23), (1, 22), (2, 23), (1, 24), (1, 22), (1, 21), (1, 20), (2, 22), (2, 23), (1, 21), (1, 23), (2, 22), (1, 24), (1, 21),
    (1, 22), (2, 23), (2, 21), (1, 22), (1, 21), (1, 23), (1, 22), (2, 23), (1, 20), (3, 22), (1, 23), (2, 22), (1, 23), (2, 26), (1, 20),
    (1, 19), (1, 22), (1, 23), (1, 22), (1, 25), (3, 26), (2, 27), (1, 26), (1, 24), (1, 25), (1, 19), (1, 21), (1, 26), (2, 27), (1, 26),
    (1, 27), (1, 24), (2, 21), (2, 26), (1, 28), (3, 27), (1, 20), (1, 24), (1, 20), (1, 21), (1, 22), (2, 21), (1, 23), (2, 22), (2, 25),
    (2, 24), (1, 26), (1, 23), (1, 26), (1, 27), (2, 26), (5, 27), (1, 28), (5, 27), (1, 26), (1, 30),
)  # fmt: skip
END_OF_STRING = 256


def _codes() -> dict[tuple[int, int], int]:
    """Byte by (length of the code, code)."""
    lengths = [length for count, length in _LENGTHS for _ in range(count)]
    found, code, last = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
        code <<= length - last
        last = length
        found[length, code] = symbol
        code += 1
    return found


_CODES = _codes()


def _unhuffman(data: bytes) -> bytes:
    """The text of a string that is packed by Huffman's code. Raises `HpackError`."""
    text = bytearray()
    code = length = 0
    for byte in data:
        for place in range(7, -1, -1):
            code, length = code << 1 | byte >> place & 1, length + 1
            symbol = _CODES.get((length, code))
            if symbol == END_OF_STRING:
                raise HpackError("a header holds the code for the end")
            if symbol is not None:
                text.append(symbol)
                code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise HpackError("a header's code is not padded with the code for the end")
    return bytes(text)


def _integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 section 5.1: an integer whose first byte has `bits` for it, below `first`."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    found = bytearray((first | most,))
    value -= most
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def encode(headers: list[Header]) -> bytes:
    """A block of headers. It begins by giving up the table: a peer that has made its own smaller waits for that (section 4.2)."""
    return b"\x20" + b"".join(
        b"\0%b%b%b%b" % (_integer(len(name), 7, 0), name, _integer(len(value), 7, 0), value) for name, value in headers
    )


class Decoder:
    """The blocks of headers of one connection, in their order: each may change the table for the next."""

    def __init__(self) -> None:
        self.table_bytes: int = 0
        self._table: deque[Header] = deque()  # the newest first
        self._bytes_max = TABLE_BYTES_MAX

    def decode(self, block: bytes) -> list[Header]:
        """The headers of a block. Raises `HpackError`."""
        headers: list[Header] = []
        at = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = self._read_integer(block, at, 7)
                headers.append(self._entry(index))
            elif first & 0xE0 == 0x20:
                size, at = self._read_integer(block, at, 5)
                if size > TABLE_BYTES_MAX:
                    raise HpackError(f"a table of {size} bytes was asked for, and {TABLE_BYTES_MAX} are allowed")
                self._bytes_max = size
                self._evict()
            else:
                keeps = bool(first & 0x40)
                index, at = self._read_integer(block, at, 6 if keeps else 4)
                name, at = (self._entry(index)[0], at) if index else self._read_string(block, at)
                value, at = self._read_string(block, at)
                headers.append((name, value))
                if keeps:
                    self._table.appendleft((name, value))
                    self.table_bytes += ENTRY_BYTES + len(name) + len(value)
                    self._evict()
            if len(headers) > HEADERS_MAX:
                raise HpackError(f"a block has over {HEADERS_MAX} headers")
        return headers

    def _evict(self) -> None:
        while self.table_bytes > self._bytes_max:
            name, value = self._table.pop()
            self.table_bytes -= ENTRY_BYTES + len(name) + len(value)

    def _entry(self, index: int) -> Header:
        if 0 < index <= len(_STATIC):
            return _STATIC[index - 1]
        if not 0 < index <= len(_STATIC) + len(self._table):
            raise HpackError(f"there is no header {index} in the tables")
        return self._table[index - len(_STATIC) - 1]

    @staticmethod
    def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
        most = (1 << bits) - 1
        value = block[at] & most
        at += 1
        if value < most:
            return value, at
        shift = 0
        while at < len(block):
            value += (block[at] & 127) << shift
            shift += 7
            at += 1
            if value > INTEGER_MAX:
                break
            if not block[at - 1] & 128:
                return value, at
        raise HpackError("an integer in a block of headers has no end, or is too large")

    def _read_string(self, block: bytes, at: int) -> tuple[bytes, int]:
        if at >= len(block):
            raise HpackError("a block of headers ends within a header")
        packed = block[at] & 0x80
        length, at = self._read_integer(block, at, 7)
        data = block[at : at + length]
        if len(data) < length:
            raise HpackError("a block of headers ends within a string")
        return _unhuffman(data) if packed else data, at + length
