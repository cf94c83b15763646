"""The rules of downsampling, and how far each has come (SPEC section 2.2, option 0x66).

A rule `1m:avg:30d` of the measurement `cpu` writes the mean of each minute, at the minute's start, into the measurement `cpu:1m:avg`, which
keeps its points for 30 days. `0` as the last part keeps them for ever.
"""

import re
from typing import NamedTuple

from flo.errors import BadRequest

RULES_MAX = 16  # of a measurement: each reads every point once more
WIDTH_MIN = 1000  # ms, of a window: shorter ones have hardly fewer points than what they sum up
FUNCTIONS = ("avg", "sum", "count", "min", "max", "first", "last", "stddev", "median")
_RULE = re.compile(r"([1-9][0-9]{0,14}(ms|s|m|h|d|w)):([a-z0-9]+):(0|[1-9][0-9]{0,14}(ms|s|m|h|d|w))")
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class Rule(NamedTuple):
    """One rule. `key` is its interval and function as they were given, which names the measurement that it writes."""

    key: str
    width: int  # ms, of a window
    function: str
    max_age: int  # ms, of what it writes; 0 for ever


class Progress(NamedTuple):
    """How far a rule has come: the windows before `done` are written, but for those from `late` on that got points since. Times are in ms;
    `late` is `done` if there are none."""

    done: int
    late: int


def parse_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a text such as `1m:avg:30d,1h:max:0`. Raises `BadRequest`."""
    rules: dict[str, Rule] = {}
    for each in text.split(",") if text else ():
        match = _RULE.fullmatch(each.strip())
        if match is None:
            raise BadRequest(
                f"the rule {each[:60]!r} is none: expected interval:function:age, such as 1m:avg:30d, or 1m:avg:0 to keep for ever"
            )
        key, function = f"{match[1]}:{match[3]}", match[3]
        if function not in FUNCTIONS:
            raise BadRequest(f"the rule {each[:60]!r} has the function {function[:20]!r}; it is one of {', '.join(FUNCTIONS)}")
        width = _milliseconds(match[1], match[2])
        if width < WIDTH_MIN:
            raise BadRequest(f"the rule {each[:60]!r} has windows of {width} ms; they are {WIDTH_MIN} or more")
        if key in rules:
            raise BadRequest(f"two rules are {key}; they would write into one measurement")
        rules[key] = Rule(key, width, function, _milliseconds(match[4], match[5]) if match[5] else 0)
    if len(rules) > RULES_MAX:
        raise BadRequest(f"{len(rules)} rules are given; a measurement has {RULES_MAX} at most")
    return tuple(rules.values())


def _milliseconds(text: str, unit: str) -> int:
    return int(text.removesuffix(unit)) * _UNITS[unit]
