"""docs/floql.md: each example gives the answer that stands below it, each stage has one, and the grammar names every stage."""

import re

import pytest

from flo.errors import BadRequest
from flo.floql.evaluate import AnswerSeries
from flo.floql.parser import parse
from flo.floql.query import STAGES
from tests.floql.memory import MemorySource, ask
from tests.floql.reference import Data, answer
from tests.support.processes import ROOT

pytestmark = pytest.mark.computes

PAGE = (ROOT / "docs" / "floql.md").read_text()
EXAMPLES = re.findall(r"```floql\n(.*?)\n```\n\n```text\n(.*?)\n```", PAGE, re.DOTALL)


def page_data() -> Data:
    """The series of the block `data`."""
    data: Data = {}
    block = re.search(r"```data\n(.*?)\n```", PAGE, re.DOTALL)
    assert block
    for line in block[1].splitlines():
        match = re.fullmatch(r"(\w+)\{(.*)\} (\w+) (.*)", line)
        assert match, line
        tags = tuple((name, value) for name, _, value in (tag.partition("=") for tag in match[2].split(",")))
        points = [(int(time), float(value)) for time, _, value in (point.partition("=") for point in match[4].split())]
        data[match[1], tags, match[3]] = points
    return data


def shown(series: AnswerSeries) -> str:
    """A series as the page shows it."""
    tags = ",".join(f"{name}={value}" for name, value in series.tags.items())
    name = series.name if series.name.isidentifier() else f'"{series.name}"'
    points = " ".join(f"{time}={value:.6g}" for time, value in series.points)
    return f"{name}{{{tags}}} {series.field} {points}"


@pytest.mark.parametrize(("query", "expected"), EXAMPLES, ids=[query for query, _ in EXAMPLES])
def test_an_example_gives_the_answer_below_it(query: str, expected: str) -> None:
    data = page_data()
    result = ask(MemorySource(data), query)
    assert "\n".join(map(shown, result.series)) == expected
    lines = answer(parse(query), data)
    plain = [AnswerSeries(line.name, line.tags, line.field, line.points) for line in lines]
    assert "\n".join(map(shown, plain)) == expected, "the reference says something else"


def test_every_stage_has_an_example_and_is_in_the_grammar() -> None:
    assert PAGE.count("```floql\n") == len(EXAMPLES), "an example has no answer"
    used = {stage.name for query, _ in EXAMPLES for stage in parse(query).stages}
    assert used == set(STAGES)
    grammar = PAGE[PAGE.index("## Grammar") :]
    assert set(STAGES) <= set(re.findall(r'"(\w+)"', grammar))


def test_the_manual_page_has_every_stage_and_example() -> None:
    """man/floql.7 is made from docs/floql.md and the table of stages (tests/generate_man.py)."""
    page = (ROOT / "man" / "floql.7").read_text()
    listed = re.findall(r"^\.It Cm (\w+)$", page, re.MULTILINE)
    assert listed == list(STAGES)
    grammar = page[page.index(".Ss Grammar") : page.index(".Sh STAGES")]
    assert set(STAGES) <= set(re.findall(r'"(\w+)"', grammar))
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)\n\.Ed", page, re.MULTILINE | re.DOTALL)
    shown = {block.replace("\\e", "\\") for block in blocks}
    assert EXAMPLES and {query for query, _ in EXAMPLES} <= shown
    for query in re.findall(r"^\.Dl flo ts query '(.*)'", page, re.MULTILINE):
        parse(query)


def test_the_error_is_the_one_shown() -> None:
    match = re.search(r"```error\n(.*?)\n```\n\n```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert match
    with pytest.raises(BadRequest) as refusal:
        ask(MemorySource({}), match[1])
    assert str(refusal.value) == match[2]
