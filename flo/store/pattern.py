"""Redis's patterns for names: `*` `?` `[abc]` `[a-z]` `[^x]` and `\\` (stringmatchlen in Redis's util.c, read as bytes).

A pattern is cut at its stars into pieces. A piece matches a fixed number of bytes. The first piece must match at the name's start and the
last at its end; each piece between is taken where it matches first behind the piece before. No later place can be better, so nothing is
tried twice, and the time is linear in the name's length, however many stars there are:

- A piece of plain bytes is looked for with `bytes.find`.
- Another piece is looked for with one bit for each of its places (the algorithm "shift-and"): a byte costs one step, whatever was read
  before it.

What Redis's code answers where a pattern is odd is kept: `[` without its end goes to the pattern's end, `[]` matches nothing, `[^]` any
byte, `[z-a]` is `[a-z]`, in `[a-]` the bracket is the range's end, and a backslash at the end is a backslash. Two things are decided
otherwise: ranges compare bytes as unsigned (Redis compares `char`, which is signed on x86), and `**` matches the empty name, as `*` does.
"""

from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache

from flo.errors import BadRequest

PATTERN_BYTES_MAX = 8192  # of one with wildcards: a step on a piece of that many places takes 0.3 us
MATCH_SLICE_BYTES = 32 << 10  # of names matched in one slice: 3 ms with the slowest of usual patterns
STAR, QUESTION, OPEN, CLOSE, BACKSLASH, DASH = b"*?[]\\-"

Element = tuple[bool, frozenset[int]]  # the bytes one place takes: these, or all but these
ANY: Element = True, frozenset()


class _Piece:
    """What stands between two stars."""

    __slots__ = ("_elements", "_masks", "literal", "size")

    def __init__(self, elements: list[Element]) -> None:
        self.size = len(elements)
        self.literal: bytes | None = None
        self._elements = elements
        self._masks: list[int] = []  # by byte: the places that take it
        if all(_is_literal(element) for element in elements):
            self.literal = b"".join([bytes(members) for _, members in elements])

    def stands_at(self, name: bytes, at: int) -> bool:
        """Whether it matches at that place, where the name has as many bytes as it needs."""
        if self.literal is not None:
            return name.startswith(self.literal, at)
        part = name[at : at + self.size]
        return all((byte in members) != other for byte, (other, members) in zip(part, self._elements, strict=True))

    def find(self, name: bytes, start: int, end: int) -> int:
        """Where the first match within `start` and `end` ends; -1 for none."""
        if self.literal is not None:
            at = name.find(self.literal, start, end)
            return at + self.size if at >= 0 else -1
        masks = self._masks or self._make_masks()
        places, done = 0, 1 << self.size - 1
        for at in range(start, end):
            places = (places << 1 | 1) & masks[name[at]]
            if places & done:
                return at + 1
        return -1

    def _make_masks(self) -> list[int]:
        all_but, masks, unwanted = 0, [0] * 256, [0] * 256
        for place, (other, members) in enumerate(self._elements):
            bit = 1 << place
            if other:
                all_but |= bit
            for byte in members:
                (unwanted if other else masks)[byte] |= bit
        self._masks = [mask | all_but & ~without for mask, without in zip(masks, unwanted, strict=True)]
        return self._masks


def _is_literal(element: Element) -> bool:
    return not element[0] and len(element[1]) == 1


class Pattern:
    """A pattern that has been read. Every name it matches begins with `prefix`."""

    __slots__ = ("_first", "_last", "_middle", "exact", "prefix", "whole_prefix")

    def __init__(self, pattern: bytes) -> None:
        """Raises `BadRequest` for one with wildcards that is too long."""
        if len(pattern) > PATTERN_BYTES_MAX and any(pattern.find(byte) >= 0 for byte in (STAR, QUESTION, OPEN, BACKSLASH)):
            raise BadRequest(f"the pattern is {len(pattern)} bytes; one with * ? [ or \\ may have {PATTERN_BYTES_MAX}")
        pieces: list[list[Element]] = [[]]
        for element in _elements(pattern):
            if element is not None:
                pieces[-1].append(element)
            elif len(pieces) == 1 or pieces[-1]:  # two stars are as good as one
                pieces.append([])
        first = pieces[0]
        known = next((place for place, element in enumerate(first) if not _is_literal(element)), len(first))
        self.prefix: bytes = b"".join([bytes(members) for _, members in first[:known]])
        stars = len(pieces) > 1
        self.exact: bool = not stars and known == len(first)  # only `prefix` itself matches
        self.whole_prefix: bool = len(pieces) == 2 and known == len(first) and not pieces[1]  # whatever begins with it matches
        self._first = _Piece(first)
        self._middle = [_Piece(piece) for piece in pieces[1:-1]]
        self._last = _Piece(pieces[-1]) if stars else None

    def matches(self, name: bytes) -> bool:
        """Whether the whole name matches."""
        first, last = self._first, self._last
        if last is None:
            return len(name) == first.size and first.stands_at(name, 0)
        at, end = first.size, len(name) - last.size
        if at > end or not first.stands_at(name, 0) or not last.stands_at(name, end):
            return False
        for piece in self._middle:
            at = piece.find(name, at, end)
            if at < 0:
                return False
        return True

    def within(self, prefix: bytes) -> bytes | None:
        """What names that match and begin with `prefix` begin with; None where there can be none."""
        if prefix.startswith(self.prefix):
            return prefix
        return self.prefix if self.prefix.startswith(prefix) else None

    def matching(self, names: Iterable[bytes]) -> Generator[None, None, list[bytes]]:
        """Those of `names` that match. Yields between slices."""
        found: list[bytes] = []
        left = MATCH_SLICE_BYTES
        for name in names:
            if left < 0:
                left = MATCH_SLICE_BYTES
                yield
            left -= len(name)
            if self.matches(name):
                found.append(name)
        return found


@lru_cache(maxsize=16)
def read_pattern(pattern: bytes) -> Pattern:
    """The pattern that is written so: a scan sends the same one with each call. Raises `BadRequest`."""
    return Pattern(pattern)


def _elements(pattern: bytes) -> Iterator[Element | None]:
    """What the pattern says of each place; None for a star."""
    at, size = 0, len(pattern)
    while at < size:
        byte = pattern[at]
        at += 1
        if byte == STAR:
            yield None
        elif byte == QUESTION:
            yield ANY
        elif byte == OPEN:
            element, at = _class(pattern, at)
            yield element
        else:
            if byte == BACKSLASH and at < size:
                byte = pattern[at]
                at += 1
            yield False, frozenset((byte,))


def _class(pattern: bytes, at: int) -> tuple[Element, int]:
    """The bytes named behind a `[`, and where the pattern goes on."""
    other = pattern.startswith(b"^", at)
    at, size = at + other, len(pattern)
    members: set[int] = set()
    while at < size:
        byte = pattern[at]
        if byte == BACKSLASH and at + 1 < size:
            members.add(pattern[at + 1])
            at += 2
        elif byte == CLOSE:
            at += 1
            break
        elif at + 2 < size and pattern[at + 1] == DASH:
            low, high = sorted((byte, pattern[at + 2]))
            members.update(range(low, high + 1))
            at += 3
        else:
            members.add(byte)
            at += 1
    return (other, frozenset(members)), at
