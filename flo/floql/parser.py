"""The text of a query to its tree, by recursive descent; the grammar is at the end of docs/floql.md."""

from flo.floql.lexer import Lexer
from flo.floql.query import (
    STAGES,
    Argument,
    ArgumentValue,
    Comparison,
    Expression,
    FixedRange,
    LastRange,
    Negative,
    Number,
    Operation,
    Query,
    Stage,
    Value,
)
from flo.floql.source import TagMatcher

STAGES_MAX = 64  # each is a walk over the points; real queries have under ten
MATCHERS_MAX = 64  # each is tried on each series
TAGS_MAX = 64  # of one `group_by`
NESTING_MAX = 32  # of parentheses and signs in `math`: the parser calls itself for each
OPERATORS_MAX = 100  # of one `math`: each is a walk over the points, and the evaluation calls itself for each
COUNT_MAX = 1_000_000_000  # of `limit` and `topk`: more than any answer has
DIGITS_MAX = 15  # of `round`: a float has no more

_COMPARISONS = (">=", "<=", "==", "!=", ">", "<")
_END = "`|` or the end of the query"


def parse(text: str) -> Query:
    """Read a query. Raise `BadRequest` with the line, a caret below the column and what was expected."""
    return _Parser(text).query()


class _Parser:
    def __init__(self, text: str) -> None:
        self._lexer = Lexer(text)
        self._depth = 0
        self._operators = 0

    def query(self) -> Query:
        """Read the whole text."""
        lexer = self._lexer
        measurement = lexer.regex(bare=False) if lexer.take("~") else lexer.name("a measurement")
        matchers = self._matchers() if lexer.take("{") else ()
        range_ = self._range() if lexer.at("[") else None
        stages: list[Stage] = []
        while lexer.take("|"):
            if len(stages) == STAGES_MAX:
                raise lexer.fail(lexer.skip(), f"A query has at most {STAGES_MAX} stages; expected its end.")
            stages.append(self._stage())
        if lexer.skip() < len(lexer.text):
            before = "" if stages else "`[` with a range, " if range_ is None else ""
            before = "`{` with matchers, " + before if not matchers and range_ is None and not stages else before
            raise lexer.unexpected(before + _END)
        return Query(measurement, matchers, range_, tuple(stages), lexer.text)

    def _matchers(self) -> tuple[TagMatcher, ...]:
        lexer = self._lexer
        matchers: list[TagMatcher] = []
        if lexer.take("}"):
            return ()
        while True:
            position = lexer.skip()
            name = lexer.name("a tag")
            if len(matchers) == MATCHERS_MAX:
                raise lexer.fail(position, f"A query has at most {MATCHERS_MAX} matchers; expected `}}`.")
            operator = lexer.take("=~", "!~", "!=", "=")
            if operator == "=~" or operator == "!~":
                matchers.append(TagMatcher(name, operator, lexer.regex(bare=True)))
            elif operator == "=" or operator == "!=":
                matchers.append(TagMatcher(name, operator, lexer.name("the tag's value")))
            else:
                raise lexer.unexpected("one of = != =~ !~")
            if lexer.take("}"):
                return tuple(matchers)
            lexer.need(",", "`,` or `}`")

    def _range(self) -> LastRange | FixedRange:
        lexer = self._lexer
        position = lexer.position
        lexer.need("[")
        end = lexer.text.find("]", position)
        if ".." not in lexer.text[position : end if end >= 0 else len(lexer.text)]:
            duration = lexer.duration("a duration such as 1h, or two times with `..` between them")
            lexer.need("]")
            return LastRange(duration, position)
        start = lexer.time()
        lexer.need("..")
        at = lexer.skip()
        last = lexer.time()
        if last < start:
            raise lexer.fail(at, "The range ends before it starts; expected a later time here.")
        lexer.need("]")
        return FixedRange(start, last, position)

    def _stage(self) -> Stage:
        lexer = self._lexer
        position = lexer.skip()
        name = lexer.word()
        if name not in STAGES:
            lexer.position = position
            raise lexer.unexpected(f"a stage: {' '.join(STAGES)}")
        lexer.need("(", f"`(` behind the stage `{name}`")
        arguments: list[ArgumentValue] = []
        for number, kind in enumerate(STAGES[name]):
            if number and not lexer.at(")"):
                lexer.need(",", "`,` or `)`")
            arguments.append(self._argument(kind))
        lexer.need(")")
        return Stage(name, tuple(arguments), position)

    def _argument(self, kind: Argument) -> ArgumentValue:
        lexer = self._lexer
        position = lexer.skip()
        match kind:
            case Argument.NAME:
                return lexer.name(kind.value)
            case Argument.TAGS:
                return self._tags()
            case Argument.DURATION:
                return lexer.duration(kind.value)
            case Argument.WINDOW:
                return None if lexer.at(")") else lexer.duration(kind.value)
            case Argument.PERCENT:
                number = lexer.number(kind.value)
                if number > 100:
                    raise lexer.fail(position, f"There is no percentile above 100; expected {kind.value}.")
                return number
            case Argument.COUNT:
                return lexer.integer(kind.value, 1, COUNT_MAX)
            case Argument.DIGITS:
                return None if lexer.at(")") else lexer.integer(kind.value, 0, DIGITS_MAX)
            case Argument.COMPARISON:
                return self._comparison()
            case Argument.EXPRESSION:
                return self._math(position)
            case Argument.FILL:
                word = lexer.take("0") or lexer.word()
                if word in ("0", "previous", "linear", "none") and lexer.at(")"):
                    return word
            case Argument.ORDER:
                sign = lexer.take("-")
                if lexer.word() == "time":
                    return sign + "time"
        lexer.position = position
        raise lexer.unexpected(kind.value)

    def _tags(self) -> tuple[str, ...]:
        lexer = self._lexer
        tags: list[str] = []
        if lexer.at(")"):
            return ()
        while not tags or lexer.take(","):
            position = lexer.skip()
            tags.append(lexer.name("a tag"))
            if len(tags) > TAGS_MAX:
                raise lexer.fail(position, f"At most {TAGS_MAX} tags can be grouped by; expected `)`.")
        if not lexer.at(")"):
            raise lexer.unexpected("`,` or `)`")
        return tuple(tags)

    def _comparison(self) -> Comparison:
        lexer = self._lexer
        position = lexer.skip()
        if (word := lexer.word()) and word != "value":
            lexer.position = position
            raise lexer.unexpected(Argument.COMPARISON.value)
        operator = lexer.take(*_COMPARISONS)
        if not operator:
            raise lexer.unexpected("one of > >= < <= == !=")
        sign = -1.0 if lexer.take("-") else 1.0
        return Comparison(operator, sign * lexer.number("a number"))

    # -- math ---------------------------------------------------------------------------------------

    def _math(self, position: int) -> Expression:
        """An expression. One that begins with an operator, and one that begins with `-` and has no `value`, continue from `value`."""
        lexer = self._lexer
        self._operators = 0
        first = lexer.text[position : position + 1]
        if first and first in "+*/%":
            return self._sum(Value())
        expression = self._sum(None)
        if _uses_value(expression):
            return expression
        if first != "-":
            raise lexer.fail(position, "This does not depend on the point's value; expected an expression with `value`.")
        lexer.position = position
        return self._sum(Value())

    def _sum(self, left: Expression | None) -> Expression:
        """Terms with `+` and `-` between them. `left` is the first operand, if it is given already."""
        left = self._product(left)
        while operator := self._operator("+", "-"):
            left = Operation(operator, left, self._product(None))
        return left

    def _product(self, left: Expression | None) -> Expression:
        if left is None:
            left = self._operand()
        while operator := self._operator("*", "/", "%"):
            left = Operation(operator, left, self._operand())
        return left

    def _operator(self, *operators: str) -> str:
        operator = self._lexer.take(*operators)
        if operator:
            self._operators += 1
            if self._operators > OPERATORS_MAX:
                position = self._lexer.position - 1
                raise self._lexer.fail(position, f"An expression has at most {OPERATORS_MAX} operators; expected `)`.")
        return operator

    def _operand(self) -> Expression:
        lexer = self._lexer
        position = lexer.skip()
        opening = lexer.take("-", "(")
        if opening:
            self._depth += 1
            if self._depth > NESTING_MAX:
                raise lexer.fail(position, f"Parentheses and signs are nested at most {NESTING_MAX} deep; expected `value` or a number.")
            if opening == "-":
                inner: Expression = Negative(self._operand())
            else:
                inner = self._sum(None)
                lexer.need(")", "an operator or `)`")
            self._depth -= 1
            return inner
        word = lexer.word()
        if word == "value":
            return Value()
        if word:
            lexer.position = position
            raise lexer.unexpected("`value`, a number, `-` or `(`")
        return Number(lexer.number("`value`, a number, `-` or `(`"))


def _uses_value(expression: Expression) -> bool:
    match expression:
        case Value():
            return True
        case Negative(operand):
            return _uses_value(operand)
        case Operation(_, left, right):
            return _uses_value(left) or _uses_value(right)
    return False
