"""How a row is declared, and what follows from it for programs: calls and the clients' methods.

An operation is declared as a method without a body, which gives the types and the docstring. Its decorator gives the rest of the row:

    @operation("queue_purge", 0x2A, "queues.purge", answer="removed u32")
    def purge(self, queue: Text) -> int:
        \"\"\"Remove every message; returns how many there were.\"\"\"

    queue_purge = call(QueueOperations.purge)

A parameter with the name of an option (flo.operations.options) is that option. Of the other parameters, the first is the request's key and
the second its value; one that is called `json` stands for the value, as anything that JSON has. `flo.Client` and `flo.aio.Client` have the
method (flo.operations.method); `queue_purge(…)` makes the request as a value, a `Call`, for `run_many`. `decode` turns the answer's values
into the result. Without it, the return annotation decides: None, the one value, a tuple or NamedTuple of the values, or a list of these.
With `| None`, the result is None if the answer is NOT_FOUND.

A new operation needs a declaration, a method of the engine, and a test. Its handler (flo.commands.binary.rows), its documentation and its
command follow from the row.
"""

from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from flo.limits import ATOMIC_ITEMS_MAX
from flo.operations.call import Call
from flo.operations.declared import Declared, required
from flo.operations.method import Method
from flo.operations.options import BY_NAME as OPTION_BY_NAME
from flo.operations.options import BY_PARAMETER
from flo.operations.source import Parameters
from flo.proto.row import Command, Http, Operation, Option, Repeats, Resp

P = ParamSpec("P")
T = TypeVar("T")

OPERATIONS: list[Operation] = []  # as they are declared
BY_NAME: dict[str, Operation] = {}
BY_CODE: dict[int, Operation] = {}
DECLARED: dict[str, Declared] = {}  # by the operation's name


def operation(
    name: str,
    code: int,
    method: str = "",
    *,
    key: str | None = None,
    value: str = "",
    layout: str = "",
    items_max: int = ATOMIC_ITEMS_MAX,
    value_note: str = "",
    answer: str = "",
    summary: str = "",
    options: tuple[str, ...] = (),
    either: tuple[tuple[str, str], ...] = (),
    limits: tuple[int, int] = (0, 0),
    plain: bool = False,
    reads: bool = False,
    repeats: Repeats = "",
    waits: bool = False,
    also: int = 0,
    refusals: str = "",
    needs_kind: bool = False,
    item: Callable[[Any], Any] | None = None,
    decode: Callable[..., Any] | None = None,
    undo: Callable[[Call[Any], Any], Call[Any] | None] | None = None,
    command: Command | None = None,
    resp: Resp | None = None,
    http: Http | None = None,
    **names: str,
) -> Callable[[Callable[Concatenate[Any, P], T]], Method[P, T]]:
    """Declare an operation by a method without a body. `method` is the engine's method, as `part.method` of a namespace; without it, the
    handler is written by hand. `key` and `value` describe the key and the value in the documents, if the parameter's name does not.
    `key=""`: the first parameter is the value. `layout` is the layout of the value, if it is not plain bytes; `item` converts one item of
    it. `options` are the options without a parameter. `names` maps a parameter to its option, if their names differ. The default of
    `summary` is the first sentence of the docstring. `undo` makes the call that gives back what a cancelled call was given. The other
    arguments are fields of `Operation`."""

    def declared(function: Callable[Concatenate[Any, P], T]) -> Method[P, T]:
        """Add the row to the tables; returns the clients' method."""
        shown = Parameters(function)
        parameters = [each for each in shown.names if each != "json"]
        parts = [parameter for parameter in parameters if _option_of(parameter, names) is None]
        keyed = bool(parts) and key != "" and not (len(parts) == 1 and (value or layout))
        given = {parameter: option for parameter in parameters if (option := _option_of(parameter, names)) is not None}
        taken = {option.name: option for option in (*given.values(), *(OPTION_BY_NAME[each] for each in options))}
        value_parameter = parts[-1] if len(parts) > keyed else ""
        needed = required(shown, value_parameter)
        row = Operation(
            code,
            name,
            (key or parts[0]) if keyed else "",
            layout or value or value_parameter,
            answer,
            summary or " ".join((function.__doc__ or "").split()).partition(". ")[0].rstrip(".;") + ".",
            taken,
            {option.code: option for option in taken.values()},
            {"limit": limits[0]} if "limit" in taken else {},
            tuple(option.name for parameter, option in given.items() if parameter in needed),
            either,
            bool(layout),
            items_max,
            value_note,
            limits,
            plain,
            reads,
            waits,
            also,
            refusals,
            method,
            bool(value_parameter) and value_parameter not in needed,
            command,
            resp,
            needs_kind,
            http,
            parts[0] if keyed else "",
            value_parameter,
            repeats,
        )
        assert name not in BY_NAME, f"{name} is declared twice"
        OPERATIONS.append(row)
        BY_NAME[name] = row
        BY_CODE.update(dict.fromkeys(row.codes, row))
        DECLARED[name] = Declared(row, function, row.key_parameter, value_parameter, given, item, decode, undo)
        return Method(DECLARED[name], function, name)

    return declared


def another(name: str, **names: str) -> Callable[[Callable[Concatenate[Any, P], T]], Method[P, T]]:
    """Declare another method of the clients for the operation `name`. `names` maps a parameter to its option, if their names differ."""

    def declared(function: Callable[Concatenate[Any, P], T]) -> Method[P, T]:
        """Return the clients' method."""
        parameters = Parameters(function).names
        given = {parameter: option for parameter in parameters if (option := _option_of(parameter, names)) is not None}
        parts = [parameter for parameter in parameters if parameter not in given]
        return Method(Declared(BY_NAME[name], function, parts[0], "", given), function, function.__name__)

    return declared


def call(method: Method[P, T]) -> Callable[P, Call[T]]:
    """The function that makes the `Call` of a client's method."""
    return method.call


def forget(name: str) -> None:
    """Remove an operation that a test has declared."""
    row = BY_NAME.pop(name)
    OPERATIONS.remove(row)
    del DECLARED[name]
    for code in row.codes:
        del BY_CODE[code]


def _option_of(parameter: str, names: Mapping[str, str]) -> Option | None:
    return OPTION_BY_NAME[names[parameter]] if parameter in names else BY_PARAMETER.get(parameter)
