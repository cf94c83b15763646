"""The RESP commands that follow from the rows of the operations (flo.operations): `NAME key [WORD argument …] [value …]`.

The reply is what the answer's layout says: OK for nothing, an integer, an array of several values, or a map for a
JSON text.
"""

from collections.abc import Callable
from typing import Any

from flo.commands.operations import arguments_of, method_of
from flo.commands.resp.arguments import integer, syntax_error
from flo.commands.resp.queues import receipt
from flo.commands.resp.session import RespSession, wrong_arity
from flo.commands.resp.table import command
from flo.commands.runner import Handler, Reply
from flo.errors import BadRequest
from flo.operations import OPERATIONS
from flo.proto import resp
from flo.proto.resp import OK
from flo.proto.row import Operation, Option, Resp
from flo.proto.shapes import NUMBERS, shape


def add_command(row: Operation, spoken: Resp) -> None:
    """Add the command of a row to the table."""
    options = {option.called: option for option in row.options.values()}
    words = {word.encode(): options[name] for name, word in spoken.words.items()}
    first = options[spoken.first] if spoken.first else None
    layout = shape(row.value) if row.layout else None
    listed = layout is not None and layout.is_list
    syntax = [row.key, *([_argument(first)] if first else []), *(_flag(word, option) for word, option in words.items())]
    syntax += ["seq[-attempt] …"] if listed else ["ON|OFF"] if layout is not None else []
    fewest = 2 + (first is not None) + (layout is not None)
    command(
        spoken.name,
        -fewest if words or listed else fewest,
        " ".join(syntax),
        spoken.summary,
        group="flo",
        since="flo 0.1",
        keys=(1, 1, 1),
        flags=spoken.flags,
    )(_handler(row, first, words, _reader(listed) if layout is not None else None))


def _argument(option: Option) -> str:
    return (option.metavar or "N").lower()


def _flag(word: bytes, option: Option) -> str:
    return f"[{word.decode()}]" if option.form == "empty" else f"[{word.decode()} {_argument(option)}]"


def _handler(row: Operation, first: Option | None, words: dict[bytes, Option], read: Callable[[list[bytes]], Any] | None) -> Handler:
    part_of, method, check = method_of(row)
    arguments, reply, name = arguments_of(row), _replier(row), row.resp.name.lower() if row.resp else ""

    def handler(session: RespSession, args: list[bytes]) -> Reply:
        """Ask the engine, and put its result into a reply."""
        options, at = _options(args, first, words)
        if read is None and at < len(args):
            raise syntax_error()
        if read is not None and at == len(args):
            return wrong_arity(name)
        if check is not None:
            check(args[1])
        given = arguments(session.host.engine, options)
        part = part_of(session.namespace)
        return reply(session, method(part, args[1], **given) if read is None else method(part, args[1], read(args[at:]), **given))

    return handler


def _options(args: list[bytes], first: Option | None, words: dict[bytes, Option]) -> tuple[dict[str, Any], int]:
    """The options behind the key, by name, and where the arguments behind them begin."""
    options: dict[str, Any] = {}
    at = 2
    if first is not None:
        options[first.name], at = _value(first, args[2]), 3
    while at < len(args) and (option := words.get(args[at].upper())) is not None:
        if option.name in options or (option.form != "empty" and at + 1 == len(args)):
            raise syntax_error()
        options[option.name] = option.form == "empty" or _value(option, args[at + 1])
        at += 1 if option.form == "empty" else 2
    return options, at


def _value(option: Option, arg: bytes) -> Any:
    """The argument of an option. Raises `BadRequest`."""
    if option.form == "bytes":
        return arg
    value, low = integer(arg), max(option.least, 0) if option.form != "i64" else option.least
    high = (1 << 8 * NUMBERS[option.form].size) - 1
    if not low <= value <= high:
        raise BadRequest(f"the {option.called} is {value}; it is {low} to {high}")
    return value


def _reader(listed: bool) -> Callable[[list[bytes]], Any]:
    """What reads the value, of the arguments that are left: a list of receipts, or ON or OFF."""
    if listed:
        return lambda args: [receipt(arg) for arg in args]

    def on_or_off(args: list[bytes]) -> bool:
        if len(args) > 1 or args[0].upper() not in (b"ON", b"OFF"):
            raise syntax_error()
        return args[0].upper() == b"ON"

    return on_or_off


def _replier(row: Operation) -> Callable[[RespSession, Any], bytes]:
    kinds = shape(row.answer).kinds
    if not kinds:
        return lambda session, result: OK
    if kinds == ["json"]:
        return lambda session, result: resp.mapping({name.encode(): resp.integer(int(value)) for name, value in result.items()}, session.v3)
    if len(kinds) == 1:
        return lambda session, result: resp.integer(result)
    return lambda session, result: resp.array([resp.bulk(each) if isinstance(each, bytes) else resp.integer(each) for each in result])


for _row in OPERATIONS:
    if _row.resp is not None:
        add_command(_row, _row.resp)
