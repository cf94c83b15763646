r"""Regular expressions in linear time, for tags and measurements (SPEC section 6).

A query comes from a stranger, so a match must not take exponential time, as Python's `re` does for `(a*)*b`. A pattern is parsed to a tree
and the tree to an automaton of states (Thompson's construction). A match follows all states at once. Each set of states that a match meets
is kept with its moves by character, so usual text costs one lookup a character (a lazily built deterministic automaton, as in RE2). The
worst case is the number of states times the length of the text; a match that goes past a number of steps is refused.

Syntax: literals; `.` (any character but a newline); classes `[a-z]`, `[^…]`; `\d \D \w \W \s \S` (ASCII); `\n \r \t \f \v \xHH`;
`^ $ \A \z` (only the ends of the text); groups `(…)`, `(?:…)`, `(?P<name>…)`; `|`; `* + ? {n} {n,} {n,m}`, each with a lazy mark `?`, which
changes nothing, because only whether the text matches is asked. `(?i)` may lead. Refused by name: backreferences, look-around, word
boundaries, other flags.

An alternation of literals, with or without anchors, needs no automaton and no states: it is a set of texts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from flo.errors import BadRequest

PATTERN_BYTES_MAX = 8 << 10  # SPEC section 6; a dashboard's variable with some hundred hosts fits
STATES_MAX = 10_000  # SPEC section 6, repeats written out: a character costs at most this many steps, about 2 ms
NESTING_MAX = 50  # groups in groups: the parser makes five calls for each, and Python's stack has 1,000
SEARCH_STEPS_MAX = 100_000  # of one match, beside one for each character: 20 ms, and no other client is served meanwhile
CACHE_ENTRIES_MAX = 100_000  # kept states and moves of one pattern, about 10 MB; then the cache is emptied and fills again
_CHARACTER_MAX = "\U0010ffff"


class PatternError(ValueError):
    """The pattern is not one. `position` is the place in the pattern, from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


# -- the tree --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Characters:
    """One character out of ranges, both ends included, or out of all others."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def takes(self, variants: tuple[str, ...]) -> bool:
        """Whether it takes a character, given with its other cases if case does not matter."""
        return any(low <= c <= high for c in variants for low, high in self.ranges) != self.negated


@dataclass(frozen=True)
class _Start:
    """The start of the text."""


@dataclass(frozen=True)
class _End:
    """The end of the text."""


@dataclass(frozen=True)
class _Sequence:
    parts: "tuple[_Node, ...]"


@dataclass(frozen=True)
class _Choice:
    parts: "tuple[_Node, ...]"


@dataclass(frozen=True)
class _Repeat:
    part: "_Node"
    least: int
    most: int | None


_Node = _Characters | _Start | _End | _Sequence | _Choice | _Repeat

_DIGITS = (("0", "9"),)
_WORD = (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z"))
_SPACE = (("\t", "\r"), (" ", " "))
_NAMED = {"d": _DIGITS, "w": _WORD, "s": _SPACE}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_SPECIAL = frozenset("\\.^$|()[]*+?{")
_REPEATS = frozenset("*+?{")
_ANY = _Characters((("\n", "\n"),), negated=True)


def _others(ranges: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The ranges of all characters outside ascending ranges."""
    others = []
    low = 0
    for first, last in ranges:
        if low < ord(first):
            others.append((chr(low), chr(ord(first) - 1)))
        low = ord(last) + 1
    return (*others, (chr(low), _CHARACTER_MAX))


class _Parser:
    """Recursive descent over the pattern; one method for each level of precedence."""

    def __init__(self, pattern: str, position: int) -> None:
        self._text = pattern
        self._at = position
        self._depth = 0

    def parse(self) -> _Node:
        node = self._choice()
        if self._at < len(self._text):
            raise PatternError("This `)` closes no group; write `\\)` for the character.", self._at)
        return node

    def _next_is(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _choice(self) -> _Node:
        parts = [self._sequence()]
        while self._next_is("|"):
            self._at += 1
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._at < len(self._text) and not self._next_is("|") and not self._next_is(")"):
            c = self._text[self._at]
            if c not in _SPECIAL and self._text[self._at + 1 : self._at + 2] not in _REPEATS:  # most characters: four times as fast
                self._at += 1
                parts.append(_Characters(((c, c),)))
            else:
                parts.append(self._repeated())
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def _repeated(self) -> _Node:
        start = self._at
        node = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return node
        if self._next_is("?"):  # a lazy mark
            self._at += 1
        if self._at < len(self._text) and (self._text[self._at] in "*+?" or self._counted(self._at)):
            raise PatternError(f"`{self._text[start : self._at]}` is repeated already; put it in a group to repeat it again.", self._at)
        return _Repeat(node, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        """The repeat that stands next, if any."""
        for mark, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._next_is(mark):
                self._at += 1
                return bounds
        end = self._counted(self._at)
        if not end:
            return None
        first, comma, second = self._text[self._at + 1 : end - 1].partition(",")
        least = int(first)
        most = int(second) if second else None if comma else least
        if least > STATES_MAX or (most or 0) > STATES_MAX:
            raise PatternError(f"A repeat is at most {STATES_MAX:,} times.", self._at)
        if most is not None and least > most:
            raise PatternError(f"A repeat of at least {least} and at most {most} times cannot be; swap the numbers.", self._at)
        self._at = end
        return least, most

    def _counted(self, at: int) -> int:
        """The place behind `{n}`, `{n,}` or `{n,m}`; 0 if there is none, where `{` is a character as in other engines."""
        if not self._text.startswith("{", at):
            return 0
        end = self._text.find("}", at)
        first, _, second = self._text[at + 1 : max(end, at + 1)].partition(",")
        if end < 0 or not _is_count(first) or (second and not _is_count(second)):
            if end > 0 and not first and _is_count(second):
                raise PatternError(f"A repeat needs its lower number; write {{0,{second}}}.", at)
            return 0
        return end + 1

    def _atom(self) -> _Node:
        c = self._text[self._at]
        if c == "(":
            return self._group()
        if c == "[":
            return self._class()
        if c == "\\":
            return self._escape()
        if c in "*+?" or self._counted(self._at):
            raise PatternError(f"`{c}` repeats nothing; write `\\{c}` for the character.", self._at)
        self._at += 1
        if c == "^":
            return _Start()
        if c == "$":
            return _End()
        return _ANY if c == "." else _Characters(((c, c),))

    def _group(self) -> _Node:
        start = self._at
        self._at += 1
        if self._next_is("?"):
            self._group_kind(start)
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise PatternError(f"Groups are nested at most {NESTING_MAX} deep.", start)
        node = self._choice()
        self._depth -= 1
        if not self._next_is(")"):
            raise PatternError("This group has no `)`; write `\\(` for the character.", start)
        self._at += 1
        return node

    def _group_kind(self, start: int) -> None:
        """Skip `?:` or a name; refuse the other kinds of groups."""
        for look in ("?=", "?!", "?<=", "?<!"):
            if self._next_is(look):
                raise PatternError(f"`({look}` looks around, which needs more than linear time; use a second matcher instead.", start)
        if self._next_is("?:"):
            self._at += 2
            return
        named = "?P<" if self._next_is("?P<") else "?<"
        end = self._text.find(">", self._at)
        if self._next_is(named) and end > 0 and self._text[self._at + len(named) : end].isidentifier():
            self._at = end + 1
            return
        if self._next_is("?P="):
            raise PatternError("A backreference needs more than linear time; write the text again instead.", start)
        raise PatternError("After `(?` come `:` or `P<name>`; the only flag is `(?i)`, at the pattern's start.", start)

    def _escape(self) -> _Node:
        start = self._at
        c = self._text[start + 1 : start + 2]
        if c in ("A", "z", "Z"):
            self._at += 2
            return _Start() if c == "A" else _End()
        return _Characters(self._escaped_set())

    def _escaped_set(self) -> tuple[tuple[str, str], ...]:
        """The characters that the escape stands for, in a class or outside."""
        start = self._at
        c = self._text[start + 1 : start + 2]
        self._at += 2
        if not c:
            raise PatternError("The pattern ends in a lone `\\`; write `\\\\` for the character.", start)
        if c.lower() in _NAMED:
            ranges = _NAMED[c.lower()]
            return ranges if c.islower() else _others(ranges)
        if c in _CONTROLS:
            return ((_CONTROLS[c], _CONTROLS[c]),)
        if c == "x":
            digits = self._text[self._at : self._at + 2]
            if len(digits) < 2 or not set(digits) <= set("0123456789abcdefABCDEF"):
                raise PatternError("`\\x` needs two hexadecimal digits, as in `\\x2F`.", start)
            self._at += 2
            return ((chr(int(digits, 16)),) * 2,)
        if c.isascii() and c.isdigit():
            raise PatternError(f"`\\{c}` is a backreference, which needs more than linear time; write the text again instead.", start)
        if c.isascii() and c.isalpha():
            known = "word boundaries are not supported" if c in "bB" else "this escape is not known"
            raise PatternError(f"`\\{c}`: {known}. There are \\d \\w \\s, \\D \\W \\S, \\n \\r \\t \\f \\v, \\xHH, \\A and \\z.", start)
        return ((c, c),)

    def _class(self) -> _Node:
        start = self._at
        self._at += 1
        negated = self._next_is("^")
        self._at += negated
        ranges: list[tuple[str, str]] = []
        first = True
        while first or not self._next_is("]"):  # a `]` that comes first is a character
            if self._at >= len(self._text):
                raise PatternError("This class has no `]`; write `\\[` for the character.", start)
            first = False
            ranges += self._class_item()
        self._at += 1
        return _Characters(tuple(ranges), negated)

    def _class_item(self) -> tuple[tuple[str, str], ...]:
        start = self._at
        if self._next_is("[:"):
            raise PatternError("Named classes such as [:alpha:] are not supported; write a-zA-Z.", start)
        low = self._class_character()
        if not self._next_is("-") or self._text[self._at + 1 : self._at + 2] in ("]", ""):
            return low
        self._at += 1
        high = self._class_character()
        if len(low) > 1 or len(high) > 1 or low[0][0] != low[0][1] or high[0][0] != high[0][1] or low[0][0] > high[0][0]:
            raise PatternError(f"`{self._text[start : self._at]}` is no range; the lower character comes first.", start)
        return ((low[0][0], high[0][0]),)

    def _class_character(self) -> tuple[tuple[str, str], ...]:
        if self._next_is("\\"):
            return self._escaped_set()
        c = self._text[self._at]
        self._at += 1
        return ((c, c),)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


# -- sets of literals ------------------------------------------------------------------------------


def _literal(node: _Node) -> str | None:
    """The one text that the node matches."""
    if isinstance(node, _Characters) and not node.negated and len(node.ranges) == 1 and node.ranges[0][0] == node.ranges[0][1]:
        return node.ranges[0][0]
    if isinstance(node, _Sequence):
        texts = [_literal(part) for part in node.parts]
        known = [text for text in texts if text is not None]
        return "".join(known) if len(known) == len(texts) else None
    return None


def _literals(node: _Node) -> list[str] | None:
    """The texts that the node matches, if it is an alternation of literals."""
    parts = node.parts if isinstance(node, _Choice) else (node,)
    texts: list[str] = []
    for part in parts:
        inner = _literals(part) if isinstance(part, _Choice) else None
        text = _literal(part)
        if inner is None and text is None:
            return None
        texts += inner if inner is not None else [text or ""]
    return texts


def _fold(text: str) -> str:
    """The text with one case. Characters whose other case is longer stay as they are: a match goes by single characters."""
    if text.isascii():
        return text.lower()
    return "".join([c.lower() if len(c.lower()) == 1 else c for c in text])


@dataclass(frozen=True)
class _Literals:
    """Texts to look for, at the start or the end or anywhere."""

    texts: tuple[str, ...]
    at_start: bool
    at_end: bool
    fold: bool
    members: frozenset[str]

    def search(self, text: str) -> bool:
        if self.fold:
            text = _fold(text)
        if self.at_start and self.at_end:
            return text in self.members
        if self.at_start:
            return text.startswith(self.texts)
        if self.at_end:
            return text.endswith(self.texts)
        return any(literal in text for literal in self.texts)


def _set_of(node: _Node, fold: bool) -> _Literals | None:
    parts = node.parts if isinstance(node, _Sequence) else (node,)
    at_start = bool(parts) and isinstance(parts[0], _Start)
    at_end = len(parts) > at_start and isinstance(parts[-1], _End)
    body = parts[at_start : len(parts) - at_end]
    texts = _literals(body[0] if len(body) == 1 else _Sequence(body))
    if texts is None:
        return None
    folded = [_fold(text) for text in texts] if fold else texts
    return _Literals(tuple(folded), at_start, at_end, fold, frozenset(folded))


# -- the automaton ---------------------------------------------------------------------------------

_TAKE, _SPLIT, _AT_START, _AT_END, _ACCEPT = range(5)


def _size(node: _Node) -> int:
    """The states that the node needs. A node without any counts one, so that repeats of nothing are bounded too."""
    if isinstance(node, _Sequence):
        return max(1, sum(map(_size, node.parts)))
    if isinstance(node, _Choice):
        return sum(map(_size, node.parts)) + len(node.parts) - 1
    if isinstance(node, _Repeat):
        if node.most is None:
            return _size(node.part) * max(node.least, 1) + 1
        return _size(node.part) * max(node.most, 1) + node.most - node.least
    return 1


@dataclass
class _State:
    """A set of states of the automaton that a match can be in at once, and where each character leads from it."""

    states: tuple[int, ...]
    accepts: bool
    moves: "dict[str, _State]" = field(default_factory=dict)
    accepts_at_end: bool | None = None


class _Automaton:
    """Thompson's construction: lists of what each state is, what it takes, and where it leads."""

    def __init__(self, node: _Node, fold: bool) -> None:
        self._kinds = [_ACCEPT]
        self._takes: list[_Characters | None] = [None]
        self._nexts = [0]
        self._others = [0]
        self._fold = fold
        self._start = self._add(node, 0)
        self._cache: dict[tuple[tuple[int, ...], bool], _State] = {}
        self._cached = 0
        self.steps = 0
        self._stop = 0  # the steps at which the present match is refused
        self._begin = self._make_begin()

    def _new(self, kind: int, next_: int, other: int = 0, takes: _Characters | None = None) -> int:
        self._kinds.append(kind)
        self._nexts.append(next_)
        self._others.append(other)
        self._takes.append(takes)
        return len(self._kinds) - 1

    def _add(self, node: _Node, next_: int) -> int:
        """Add the states of the node, which lead to `next_` in the end; the first of them."""
        if isinstance(node, _Characters):
            return self._new(_TAKE, next_, takes=node)
        if isinstance(node, (_Start, _End)):
            return self._new(_AT_START if isinstance(node, _Start) else _AT_END, next_)
        if isinstance(node, _Sequence):
            for part in reversed(node.parts):
                next_ = self._add(part, next_)
            return next_
        if isinstance(node, _Choice):
            first = self._add(node.parts[-1], next_)
            for part in reversed(node.parts[:-1]):
                first = self._new(_SPLIT, self._add(part, next_), first)
            return first
        return self._add_repeat(node, next_)

    def _add_repeat(self, node: _Repeat, next_: int) -> int:
        first = next_
        copies = node.least
        if node.most is None:
            loop = self._new(_SPLIT, 0, next_)
            body = self._nexts[loop] = self._add(node.part, loop)
            first = body if node.least else loop
            copies = max(node.least - 1, 0)
        else:
            for _ in range(node.most - node.least):
                first = self._new(_SPLIT, self._add(node.part, first), next_)
        for _ in range(copies):
            first = self._add(node.part, first)
        return first

    def _reach(self, starts: list[int], at_start: bool, at_end: bool = False) -> tuple[int, ...]:
        """The states reached without a character that take one, accept, or wait for the text's end."""
        seen = set(starts)
        waiting = list(seen)
        found = []
        while waiting:
            state = waiting.pop()
            kind = self._kinds[state]
            if kind in (_TAKE, _ACCEPT) or (kind == _AT_END and not at_end):
                found.append(state)
                continue
            if kind == _AT_START and not at_start:
                continue
            nexts = (self._nexts[state], self._others[state]) if kind == _SPLIT else (self._nexts[state],)
            for next_ in nexts:
                if next_ not in seen:
                    seen.add(next_)
                    waiting.append(next_)
        self.steps += len(seen)
        found.sort()
        return tuple(found)

    def _state(self, states: tuple[int, ...], begin: bool) -> _State:
        known = self._cache.get((states, begin))
        if known is None:
            known = self._cache[states, begin] = _State(states, accepts=bool(states) and states[0] == 0)
            self._cached += 1 + len(states)
        return known

    def _make_begin(self) -> _State:
        return self._state(self._reach([self._start], at_start=True), True)

    def _move(self, state: _State, c: str) -> _State:
        """Where the character leads; the result is kept."""
        if self.steps > self._stop:
            raise BadRequest(
                f"A regular expression takes more than {SEARCH_STEPS_MAX:,} steps on one text: {len(self._kinds):,} states are too many "
                "for it. Write fewer repeats, or ask for the text in another way."
            )
        if self._cached > CACHE_ENTRIES_MAX:
            self._cache.clear()
            self._cached = 0
            self._begin = self._make_begin()
        variants = tuple({c, _fold(c), c.upper() if len(c.upper()) == 1 else c}) if self._fold else (c,)
        nexts = [self._start]  # a match may begin anywhere
        verdicts: dict[int, bool] = {}  # of the class, which the copies of a repeat share
        for number in state.states:
            takes = self._takes[number]
            if takes is None:
                continue
            taken = verdicts.get(id(takes))
            if taken is None:
                taken = verdicts[id(takes)] = takes.takes(variants)
                self.steps += len(takes.ranges)
            if taken:
                nexts.append(self._nexts[number])
        self.steps += len(state.states)
        target = self._state(self._reach(nexts, at_start=False), False)
        state.moves[c] = target
        self._cached += 1
        return target

    def _accepts_at_end(self, state: _State) -> bool:
        if state.accepts_at_end is None:
            ends = [self._nexts[number] for number in state.states if self._kinds[number] == _AT_END]
            state.accepts_at_end = 0 in self._reach(ends, at_start=state is self._begin, at_end=True)
        return state.accepts_at_end

    def search(self, text: str) -> bool:
        self._stop = self.steps + len(text) + SEARCH_STEPS_MAX
        state = self._begin
        for c in text:
            if state.accepts:
                return True
            self.steps += 1
            state = state.moves.get(c) or self._move(state, c)
        return state.accepts or self._accepts_at_end(state)


class Regex:
    """A compiled pattern. `exact` has the only texts that match, where the pattern is an anchored alternation of literals, for an index."""

    def __init__(self, pattern: str) -> None:
        """Compile the pattern. Raise `PatternError` with the place of what is wrong."""
        self.pattern = pattern
        if len(pattern.encode(errors="surrogatepass")) > PATTERN_BYTES_MAX:
            raise PatternError(f"A regular expression has at most {PATTERN_BYTES_MAX:,} bytes.", 0)
        fold = pattern.startswith("(?i)")
        node = _Parser(pattern, 4 if fold else 0).parse()
        literals = _set_of(node, fold)
        self.exact: frozenset[str] | None = None
        self.search: Callable[[str], bool]  # whether the pattern matches anywhere in a text
        self._automaton: _Automaton | None = None
        if literals is not None:
            self.search = literals.search
            if literals.at_start and literals.at_end and not fold:
                self.exact = literals.members
            return
        if (size := _size(node)) > STATES_MAX:
            raise PatternError(f"With its repeats written out, the pattern has {size:,} states; at most {STATES_MAX:,} are allowed.", 0)
        self._automaton = _Automaton(node, fold)
        self.search = self._automaton.search

    @property
    def states(self) -> int:
        """The states of the automaton, 0 for a set of literals."""
        return len(self._automaton._kinds) if self._automaton else 0

    @property
    def steps(self) -> int:
        """The steps of the automaton so far, over all matches: what a match costs, without a clock."""
        return self._automaton.steps if self._automaton else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Regex) and self.pattern == other.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"Regex({self.pattern!r})"
