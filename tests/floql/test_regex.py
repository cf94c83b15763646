"""Regular expressions against Python's `re`, and their cost counted in steps."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flo.errors import BadRequest
from flo.floql.regex import CACHE_ENTRIES_MAX, NESTING_MAX, PATTERN_BYTES_MAX, SEARCH_STEPS_MAX, STATES_MAX, PatternError, Regex
from tests.support.examples import examples

pytestmark = pytest.mark.computes

TEXTS = st.text("abcABC12_. -", max_size=8)
ATOMS = st.sampled_from(
    [
        *"abcAB1_",
        ".",
        r"\d",
        r"\D",
        r"\w",
        r"\W",
        r"\s",
        r"\S",
        r"\.",
        r"\x61",
        "[ab]",
        "[^a]",
        "[a-c1]",
        "[]a-]",
        r"[\d_]",
        r"[^\w]",
        "^",
        "$",
        r"\A",
        "",
    ]
)
REPEATS = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?", "+?", "??", "{1,2}?"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: "(" + "|".join(parts) + ")"),
        st.tuples(inner, REPEATS).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        inner.map(lambda part: f"(?P<x>{part})" if "?P<" not in part else part),
    ),
    max_leaves=8,
)


def python(pattern: str) -> "re.Pattern[str] | None":
    """Python's pattern; `$` is only the end here, and Python's is also in front of a last newline. None where Python refuses."""
    try:
        return re.compile(pattern.replace("$", r"\Z"))
    except re.error:
        return None


@pytest.mark.slow
@examples(1500)
@given(PATTERNS, st.sampled_from(["", "(?i)"]), st.lists(TEXTS, min_size=1, max_size=8))
def test_what_python_accepts_too_gives_the_same(pattern: str, flag: str, texts: list[str]) -> None:
    theirs = python(flag + pattern)
    if theirs is None:
        return
    ours = Regex(flag + pattern)
    for text in texts:
        assert ours.search(text) == bool(theirs.search(text)), text


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("abA.", max_size=3), min_size=1, max_size=5),
    st.sampled_from(["", "(?i)"]),
    st.sampled_from(["{}", "^({})", "({})$", "^(?:{})$"]),
    TEXTS,
)
def test_an_alternation_of_literals_gives_the_same(literals: list[str], flag: str, frame: str, text: str) -> None:
    pattern = flag + frame.format("|".join(map(re.escape, literals)))
    ours = Regex(pattern)
    assert ours.search(text) == bool(re.search(pattern.replace("$", r"\Z"), text))
    ours.search("x" * 100)
    assert ours.steps == 0, "it needs no automaton"


@settings(max_examples=500, deadline=None)
@given(st.text("ab()[]{}|*+?\\^$.-,0123dwPxi<>:=!", max_size=20))
def test_any_text_is_a_pattern_or_a_sentence_with_a_place(pattern: str) -> None:
    try:
        Regex(pattern).search("ab0")
    except PatternError as e:
        assert 0 <= e.position <= len(pattern)
        assert str(e).endswith(".")


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|a)*c", "(a+)+$b", "(a|aa)+b", "(.*a){20}b", "(?:a?){30}a{30}b", "((a*)*)*b"])
def test_patterns_built_to_blow_up_take_linear_time(pattern: str) -> None:
    short, long = Regex(pattern), Regex(pattern)
    assert not short.search("a" * 2_000)
    assert not long.search("a" * 20_000)
    assert long.steps < 10 * short.steps + 1_000
    assert long.steps < 20_000 * 2 + 50_000, "the moves are kept: one step a character, and a few thousand to find them"


def test_a_pattern_of_many_sets_of_states_costs_at_most_states_times_characters_and_keeps_a_bounded_cache() -> None:
    """Whether the 100th character from the end is an `a` needs 2 ** 100 sets of states."""
    regex = Regex("(a|b)*a(a|b){100}c")
    texts = ["".join("ab"[(n * n // seed + n // 3) % 2] for n in range(200)) for seed in range(7, 57)]
    assert not any(map(regex.search, texts))
    assert 10 * CACHE_ENTRIES_MAX < regex.steps < 50 * 200 * 400 * 2
    assert regex._automaton is not None
    assert regex._automaton._cached <= CACHE_ENTRIES_MAX + 2_000
    alive, waiting = {}, [regex._automaton._begin]
    while waiting:
        state = waiting.pop()
        alive[id(state)] = state
        waiting += [target for target in state.moves.values() if id(target) not in alive]
    assert sum(1 + len(state.states) + len(state.moves) for state in alive.values()) <= CACHE_ENTRIES_MAX + 2_000
    assert regex.search("ab" * 20 + "a" + "b" * 100 + "c"), "it is right after its cache was emptied"


def test_a_class_of_many_ranges_is_looked_at_once_for_all_copies_of_a_repeat_and_counted() -> None:
    ranges = "".join(f"{chr(300 + 2 * n)}-{chr(301 + 2 * n)}" for n in range(1_000))
    regex = Regex(f"(?:[{ranges}]?){{3000}}x")
    before = regex.steps
    assert not regex.search("a")
    assert 1_000 + 6_000 <= regex.steps - before < 20_000


def test_anchored_literals_tell_their_set() -> None:
    assert Regex(r"^(web-1|web\.2)$").exact == frozenset(["web-1", "web.2"])
    assert Regex("^a$").exact == frozenset(["a"])
    assert Regex("^$").exact == frozenset([""])
    for pattern in ("(a|b)", "^(a|b)", "(?i)^(a|b)$", "^(a|b+)$", "^a$|^b$"):
        assert Regex(pattern).exact is None


def test_the_empty_text_is_at_its_start_and_its_end() -> None:
    for pattern in ("$^", "a*$^b*", "(x|$)(^|y)"):
        assert Regex(pattern).search("") and re.search(pattern, "")
        assert not Regex(pattern).search("ab")


def test_case_is_ignored_beyond_ascii() -> None:
    assert Regex("(?i)^é+$").search("éÉ")
    assert Regex("(?i)^(É|x)$").search("é")
    assert Regex("(?i)[à-ý]").search("É")
    assert not Regex("É").search("é")


@pytest.mark.parametrize(
    ("pattern", "position", "sentence"),
    [
        (r"a\1", 1, "backreference"),
        ("a(?P=x)", 1, "backreference"),
        ("b(?=a)", 1, "looks around"),
        ("b(?!a)", 1, "looks around"),
        ("(?<=a)", 0, "looks around"),
        ("(?<!a)", 0, "looks around"),
        (r"\bx", 0, "word boundaries"),
        (r"x\q", 1, "not known"),
        ("a(?i)", 1, "flag"),
        ("(?s)a", 0, "flag"),
        ("ab(c", 2, r"no `\)`"),
        ("ab)c", 2, "closes no group"),
        ("x[ab", 1, "no `]`"),
        ("x[b-a]", 2, "no range"),
        (r"[\d-z]", 1, "no range"),
        ("[[:alpha:]]", 1, "Named classes"),
        ("*a", 0, "repeats nothing"),
        ("a|+", 2, "repeats nothing"),
        ("a**", 2, "repeated already"),
        ("a+{2}", 2, "repeated already"),
        ("a{3,2}", 1, "swap"),
        ("a{,3}", 1, "lower number"),
        ("a{99999}", 1, "at most"),
        ("a\\", 1, "lone"),
        (r"\x4", 0, "hexadecimal"),
        ("(" * (NESTING_MAX + 1) + ")" * (NESTING_MAX + 1), NESTING_MAX, "nested"),
        ("(a{100}){101}", 0, f"at most {STATES_MAX:,}"),
        ("(((){1000}){1000}){1000}", 0, f"at most {STATES_MAX:,}"),
        ("a" * (PATTERN_BYTES_MAX + 1), 0, "bytes"),
        ("é" * (PATTERN_BYTES_MAX // 2 + 1), 0, "bytes"),
    ],
)
def test_a_refusal_says_why_and_where(pattern: str, position: int, sentence: str) -> None:
    with pytest.raises(PatternError, match=sentence) as refusal:
        Regex(pattern)
    assert refusal.value.position == position


def test_the_largest_patterns_are_accepted() -> None:
    regex = Regex("(a{97}){100}")
    assert not regex.search("a" * 97 + "b" * 500)
    with pytest.raises(BadRequest, match="more than 100,000 steps on one text: 9,701 states"):
        regex.search("a" * 9_700)
    assert regex.steps < 2 * SEARCH_STEPS_MAX, "it stopped there"
    assert not regex.search("a" * 97), "and goes on with the next text"
    assert Regex("(" * NESTING_MAX + "a+" + ")" * NESTING_MAX).search("a")
    names = "|".join(f"web-{n}" for n in range(900))
    assert Regex(f"^({names})$").search("web-899"), "a set has no states"
    assert Regex("a{").search("a{") and Regex("a{x}").search("a{x}"), "no repeat"
