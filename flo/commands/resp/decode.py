"""RESP requests out of a buffer: the usual framing, many at once.

One `split` cuts the whole buffer at its line ends; each `$n` line is then compared with the ready-made line for the length of the piece
that follows. So a request costs a few list operations and one look in a table. What is framed in another way (inline commands, a value
with CR LF inside, more arguments than COUNTS knows, a request that is not whole) is left to `RequestParser`, which is slower and complete.
"""

from typing import Any

from flo.commands.resp.table import Plain
from flo.commands.runner import Call, Decoded, Handler

CRLF = b"\r\n"
TOKENS = tuple(b"$%d" % size for size in range(2049))  # the lengths of nearly all arguments
COUNTS = {b"*%d" % count: count for count in range(1, 65)}  # arguments of a request; more are rare, and parsing is the least of their cost
LARGE_BYTES = 2048  # input from here on may be one large value


def decode(data: bytes, other: Handler, plain: dict[bytes, Plain]) -> Decoded:
    """The requests of `data` that are whole and framed as usual, up to the first that is not. `other` executes what is not in `plain`,
    or has a wrong number of arguments."""
    tokens, counts = TOKENS, COUNTS
    pieces = data.split(CRLF) if len(data) <= LARGE_BYTES else _pieces_of(data)
    last = len(pieces) - 1
    calls: list[Call] = []
    places: list[int] = []  # in `pieces`, where each ends
    at = 0
    while at + 2 < last:
        try:
            count = counts[pieces[at]]
            end = at + 2 * count + 1
            if end > last:
                break
            if count == 2:  # most requests: the same as below, in half the time
                name, key = args = [pieces[at + 2], pieces[at + 4]]
                if tokens[len(key)] != pieces[at + 3] or tokens[len(name)] != pieces[at + 1]:
                    break
            else:
                args = pieces[at + 2 : end : 2]
                if [tokens[len(arg)] for arg in args] != pieces[at + 1 : end : 2]:
                    break
        except (KeyError, IndexError):
            if pieces[at] not in counts:
                break
            args = pieces[at + 2 : end : 2]  # some are longer than `tokens` knows
            if [b"$%d" % len(arg) for arg in args] != pieces[at + 1 : end : 2]:
                break
        known: Any = plain.get(args[0])
        calls.append((other, args) if known is None or not known[1] <= count <= known[2] else (known[0], args))
        places.append(end)
        at = end

    def end_of(count: int) -> int:
        rest = pieces[places[count - 1] :]
        return len(data) - sum(map(len, rest)) - 2 * (len(rest) - 1)

    return calls, end_of


def _pieces_of(data: bytes) -> list[bytes]:
    """`data` cut at its line ends. Looking for them in a large value costs more than all else: where `data` is one request of three
    arguments, as a SET is, its last is taken by its length, whatever is in it."""
    pieces = data[:LARGE_BYTES].split(CRLF, 6)
    if len(pieces) == 7 and pieces[0] == b"*3":
        at = sum(map(len, pieces[:6])) + 12
        if pieces[5] == b"$%d" % (len(data) - at - 2) and data.endswith(CRLF):
            return [*pieces[:6], data[at:-2], b""]
    return data.split(CRLF)
