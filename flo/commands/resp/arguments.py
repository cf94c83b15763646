"""Reading command arguments: numbers, options, deadlines. Errors are in Redis's wording: clients match on it."""

import re

from flo.errors import BadRequest
from flo.limits import DEADLINE_MAX

I64_MIN, I64_MAX = -(1 << 63), (1 << 63) - 1
NOT_AN_INTEGER = "value is not an integer or out of range"
SYNTAX = "syntax error"
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,18})")


def syntax_error() -> BadRequest:
    """The options make no sense together."""
    return BadRequest(SYNTAX)


def integer(arg: bytes, low: int = I64_MIN, high: int = I64_MAX, message: str = NOT_AN_INTEGER) -> int:
    """A decimal i64 within bounds. Raises `BadRequest(message)`."""
    if not (arg.isdigit() and arg[0] != 0x30 and len(arg) < 19) and (not _INTEGER.fullmatch(arg) or arg == b"-0"):  # the first is faster
        raise BadRequest(message)
    value = int(arg)
    if not low <= value <= high:
        raise BadRequest(message)
    return value


def word_pairs(args: list[bytes], *known: bytes) -> dict[bytes, bytes]:
    """Pairs of a word and its value, each at most once."""
    found: dict[bytes, bytes] = {}
    if len(args) % 2:
        raise syntax_error()
    for at in range(0, len(args), 2):
        word = args[at].upper()
        if word not in known or word in found:
            raise syntax_error()
        found[word] = args[at + 1]
    return found


def deadline(arg: bytes, unit_ms: int, base: int, name: str) -> int:
    """The deadline, in Unix ms, of a time in `unit_ms` from `base` (0: an absolute time); it must be positive, as SET and its kin
    demand. `name` is the command's, for the error."""
    value = (int(arg) if arg.isdigit() and arg[0] != 0x30 and len(arg) < 19 else integer(arg)) * unit_ms
    if 0 < value <= DEADLINE_MAX - base:
        return value + base
    raise BadRequest(f"invalid expire time in '{name.lower()}' command")
