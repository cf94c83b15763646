"""Checks of the arguments that a program passes to `flo.Engine` and `flo.Client`: one check and one error sentence for each kind.

A name or a value is text or bytes, a number is an int. Anything else is a `TypeError`: 5 must not be stored as `bytes(5)`, which is five
NULs. A number out of its range is a `BadRequest`.
"""

import operator
from typing import Any

from flo.errors import BadRequest

Text = str | bytes | bytearray | memoryview  # text is encoded as UTF-8
SHOWN_MAX = 40  # characters of a wrong argument in an error
RANGES = {kind: (0, (1 << bits) - 1) for kind, bits in (("u8", 8), ("u16", 16), ("u32", 32), ("u64", 64))} | {
    "i64": (-(1 << 63), (1 << 63) - 1)
}


def data(given: Any, what: str) -> bytes:
    """A name or a value as bytes. `what` is the argument's name. Raises `TypeError`, and `BadRequest` for text that UTF-8 cannot encode."""
    if type(given) is bytes:
        return given
    if isinstance(given, str):
        try:
            return given.encode()
        except UnicodeError:
            raise BadRequest(f"the {what} {given[:SHOWN_MAX]!r} cannot be written in UTF-8: it has a lone surrogate") from None
    if isinstance(given, (bytes, bytearray, memoryview)):
        return bytes(given)
    raise TypeError(f"the {what} {told(given, what)}; give it as str or bytes, such as str(…) or json.dumps(…)")


def text(given: Any, what: str) -> str:
    """A name as text. Raises `TypeError`, and `BadRequest` for bytes that are not UTF-8."""
    if type(given) is str:
        return given
    try:
        return data(given, what).decode()
    except UnicodeDecodeError:
        raise BadRequest(f"the {what} {told(given, what)}, which is not UTF-8") from None


def number(given: Any, what: str) -> int:
    """An int. Raises `TypeError`."""
    if type(given) is int:
        return given
    try:
        if isinstance(given, bool):
            raise TypeError
        return operator.index(given)
    except TypeError:
        raise TypeError(f"the {what} {told(given, what)}; give it as an int") from None


def ranged(given: Any, what: str, low: int, high: int) -> int:
    """An int from `low` to `high`. Raises `TypeError`, `BadRequest`."""
    value = number(given, what)
    if not low <= value <= high:
        raise BadRequest(f"the {what} is {value}; give a number from {low} to {high}")
    return value


def flag(given: Any, what: str) -> bool:
    """True or False. Raises `TypeError`."""
    if type(given) is bool:
        return given
    raise TypeError(f"{what} {told(given, what)}; give True or False")


def several(given: Any, what: str) -> list[Any]:
    """A list of arguments; the caller checks each one. Raises `TypeError` for text or bytes, whose characters are not a list, and for a
    message, which is a tuple."""
    if hasattr(given, "receipt"):
        raise TypeError(f"{what} is one {type(given).__name__}; give a list, such as [message]")
    if not isinstance(given, (str, bytes, bytearray, memoryview)):
        try:
            return list(given)
        except TypeError:
            pass
    raise TypeError(f"{what} {told(given, what)}; give a list, such as [{told_short(given)}]")


def told(given: Any, what: str) -> str:
    """The wrong argument and its type, for an error. A secret is not shown."""
    kind = type(given).__name__
    article = "an" if kind[0] in "aeiou" else "a"
    return f"is {article} {kind}" if what == "secret" else f"is {told_short(given)}, {article} {kind}"


def told_short(given: Any) -> str:
    """The argument's literal, cut to `SHOWN_MAX`."""
    shown = repr(given)
    return shown if len(shown) <= SHOWN_MAX else shown[:SHOWN_MAX] + "…"
