"""How a row is declared, and what follows from it for programs: calls and a client's methods.

An operation is declared as a method without a body, which gives the types and the docstring. Its decorator gives the rest of the row:

    @operation("queue_purge", 0x2A, "queues.purge", answer="removed u32")
    def purge(self, queue: Text) -> int:
        \"\"\"Remove every message; returns how many there were.\"\"\"

    queue_purge = call(QueueOperations.purge)

A parameter with the name of an option (flo.operations.options) is that option. Of the other parameters, the first is the request's key and
the second its value. `flo.Client` has the method; `queue_purge(…)` makes the request as a value, a `Call`, for `Client.run_many`. `decode`
turns the answer's values into the result. Without it, the return annotation decides: None, the one value, a tuple or NamedTuple of the
values, or a list of these. With `| None`, the result is None if the answer is NOT_FOUND.

A new operation needs a declaration, a method of the engine, and a test. Its handler (flo.commands.binary.rows), its documentation and its
command follow from the row.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial, wraps
from types import GenericAlias, UnionType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, get_args

from flo.errors import BadRequest, Conflict, FloError, NotFound, WrongKind
from flo.given import RANGES, data, flag, ranged, several, told, told_short
from flo.limits import ATOMIC_ITEMS_MAX
from flo.operations.ids import to_wire
from flo.operations.options import BY_NAME as OPTION_BY_NAME
from flo.operations.options import BY_PARAMETER
from flo.proto import binary
from flo.proto.binary import Response, decode_answer, encode_request, error_of
from flo.proto.row import Command, Http, Operation, Option, Resp
from flo.proto.shapes import Shape, shape

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

VARARGS = 4  # of a code's flags: inspect.CO_VARARGS, without the 5 ms that importing inspect takes

OPERATIONS: list[Operation] = []  # as they are declared
BY_NAME: dict[str, Operation] = {}
BY_CODE: dict[int, Operation] = {}
DECLARED: dict[str, "Declared"] = {}  # by the operation's name


class NotAnAnswer(FloError):
    """The payload of an OK answer does not have the operation's layout: no Flo server sent it."""


class Call(Generic[T]):
    """One request. `decode` turns the values of an OK answer into the result. `missing`, if given, makes NOT_FOUND a result instead of
    an error. `waits` is how many ms the server may delay the answer: 0 for ever, None not at all."""

    __slots__ = ("_decode", "_key", "_missing", "_options", "_value", "operation", "waits")

    def __init__(
        self,
        operation: Operation,
        decode: Callable[..., T],
        key: bytes,
        value: bytes,
        options: Mapping[str, Any],
        missing: Callable[[], T] | None = None,
        waits: int | None = None,
    ) -> None:
        self.operation = operation
        self._decode = decode
        self._key = key
        self._value = value
        self._options = options
        self._missing = missing
        self.waits = waits

    def encode(self, req_id: int, namespace_hash: int, compress: bool = False) -> bytes:
        """The request's bytes. Raises `BadRequest` if it exceeds a limit of the protocol."""
        return encode_request(
            self.operation,
            req_id,
            0 if self.operation.plain else namespace_hash,
            self._key,
            self._value,
            self._options,
            compress=compress and len(self._value) >= binary.COMPRESS_BYTES_MIN,
            accept_compressed=compress,
        )

    def finish(self, response: Response) -> T:
        """The result. Raises the refusal in the response, if it is one, or `NotAnAnswer`."""
        if response.status == binary.OK:
            try:
                values = decode_answer(self.operation, response.payload)
            except BadRequest as e:
                raise NotAnAnswer(str(e)) from None
            return self._decode(*values)
        error = error_of(response)
        if self._missing is not None and isinstance(error, NotFound):
            return self._missing()
        if isinstance(error, Conflict) and self.operation.needs_kind and self._options.get("cas_version") in (None, error.version):
            raise WrongKind(str(error), error.version)  # there was no condition, or it held: it is what the key holds
        raise error


class Runner(Protocol):
    """An object that sends calls: `flo.Client`."""

    def run(self, call: Call[T]) -> T:
        """The result of a call."""


class Operations:
    """A client's operations of one kind."""

    def __init__(self, runner: Runner) -> None:
        self._run = runner.run


# -- declaring -------------------------------------------------------------------------------------


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
    waits: bool = False,
    also: int = 0,
    refusals: str = "",
    needs_kind: bool = False,
    item: Callable[[Any], Any] | None = None,
    decode: Callable[..., Any] | None = None,
    command: Command | None = None,
    resp: Resp | None = None,
    http: Http | None = None,
    **names: str,
) -> Callable[[F], F]:
    """Declare an operation by a method without a body. `method` is the engine's method, as `part.method` of a namespace; without it, the
    handler is written by hand. `key` and `value` describe the key and the value in the documents, if the parameter's name does not.
    `key=""`: the first parameter is the value. `layout` is the layout of the value, if it is not plain bytes; `item` converts one item of
    it. `options` are the options without a parameter. `names` maps a parameter to its option, if their names differ. The default of
    `summary` is the first sentence of the docstring. The other arguments are fields of `Operation`."""

    def declared(function: F) -> F:
        """Add the row to the tables; returns the client's method."""
        parameters, required = _parameters(function)
        parts = [parameter for parameter in parameters if _option_of(parameter, names) is None]
        keyed = bool(parts) and key != "" and not (len(parts) == 1 and (value or layout))
        given = {parameter: option for parameter in parameters if (option := _option_of(parameter, names)) is not None}
        taken = {option.name: option for option in (*given.values(), *(OPTION_BY_NAME[each] for each in options))}
        value_parameter = parts[-1] if len(parts) > keyed else ""
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
            tuple(option.name for parameter, option in given.items() if parameter in required),
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
            bool(value_parameter) and value_parameter not in required,
            command,
            resp,
            needs_kind,
            http,
            parts[0] if keyed else "",
            value_parameter,
        )
        assert name not in BY_NAME, f"{name} is declared twice"
        OPERATIONS.append(row)
        BY_NAME[name] = row
        BY_CODE.update(dict.fromkeys(row.codes, row))
        DECLARED[name] = Declared(row, function, parts[0] if keyed else "", given, item, decode)
        return cast(F, _client_method(function, DECLARED[name].as_function(name)))

    return declared


def another(name: str, **names: str) -> Callable[[F], F]:
    """Declare another client method for the operation `name`. `names` maps a parameter to its option, if their names differ."""

    def declared(function: F) -> F:
        """Return the client's method."""
        row = BY_NAME[name]
        parameters, _ = _parameters(function)
        given = {parameter: option for parameter in parameters if (option := _option_of(parameter, names)) is not None}
        parts = [parameter for parameter in parameters if parameter not in given]
        return cast(F, _client_method(function, Declared(row, function, parts[0], given, None, None).as_function(function.__name__)))

    return declared


def call(method: Callable[Concatenate[Any, P], T]) -> Callable[P, Call[T]]:
    """The function that makes the `Call` of a client's method."""
    made: Callable[P, Call[T]] = method.call  # type: ignore[attr-defined]
    return made


def forget(name: str) -> None:
    """Remove an operation that a test has declared."""
    row = BY_NAME.pop(name)
    OPERATIONS.remove(row)
    del DECLARED[name]
    for code in row.codes:
        del BY_CODE[code]


def _option_of(parameter: str, names: Mapping[str, str]) -> Option | None:
    return OPTION_BY_NAME[names[parameter]] if parameter in names else BY_PARAMETER.get(parameter)


def _parameters(function: Callable[..., Any]) -> tuple[list[str], set[str]]:
    """A method's parameters, in order, and those without a default."""
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    has_list = bool(code.co_flags & VARARGS)
    names = list(code.co_varnames[1:count])
    if has_list:
        names.insert(code.co_argcount - 1, code.co_varnames[count])
    return names, {name for name in names if name not in _defaults(function)}


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    code, values = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    return dict(zip(positional[len(positional) - len(values) :], values, strict=True)) | (function.__kwdefaults__ or {})


def _client_method(function: Callable[..., Any], make: Callable[..., Call[Any]]) -> Callable[..., Any]:
    @wraps(function)
    def method(self: Operations, *args: Any, **kwargs: Any) -> Any:
        return self._run(make(*args, **kwargs))

    method.call = make  # type: ignore[attr-defined]
    return method


class Declared:
    """Makes the `Call` of an operation from the arguments of the method that declares it."""

    def __init__(
        self,
        row: Operation,
        function: Callable[..., Any],
        key: str,
        options: dict[str, Option],
        item: Callable[[Any], Any] | None,
        decode: Callable[..., Any] | None,
    ) -> None:
        self.row = row
        self.key = key  # the parameter that is the key
        self.options = options  # by parameter
        self.names, self.required = _parameters(function)
        self.defaults = _defaults(function)
        count = function.__code__.co_argcount - 1
        self.positional = self.names[:count]
        self.listed = self.names[count] if function.__code__.co_flags & VARARGS else ""  # the parameter that takes any number of arguments
        self._function = function
        self._item = item
        self._given_decode = decode

    def as_function(self, name: str) -> Callable[..., Call[Any]]:
        """`make`, as a function that help() and inspect.signature() understand."""

        @wraps(self._function)
        def make(*args: Any, **kwargs: Any) -> Call[Any]:
            return self.make(*args, **kwargs)

        make.__wrapped__ = partial(self._function, None)  # without its `self`
        make.__module__, make.__name__, make.__qualname__ = "flo.calls", name, name
        return make

    def make(self, *args: Any, **kwargs: Any) -> Call[Any]:
        """The `Call`. Raises `TypeError`, `BadRequest`."""
        self._function(None, *args, **kwargs)  # without a body: the call only checks the arguments
        given = self.defaults | dict(zip(self.positional, args, strict=False)) | kwargs
        if self.listed:
            given[self.listed] = args[len(self.positional) :]
        key = value = b""
        options: dict[str, Any] = {}
        waits = None
        for name in self.names:
            argument, option = given[name], self.options.get(name)
            if argument is None and self.defaults.get(name, ...) is None:
                continue
            if option is not None:
                taken = _option_value(option, argument, name)
                if taken is not False and (option.absent is None or taken != option.absent):
                    options[option.name] = taken
                    waits = taken if option.waits else waits
            elif name == self.key:
                key = data(argument, name)
            elif self.row.layout:
                value = _laid_out(self.row, argument, name, self._item)
            else:
                value = data(argument, name)
        decode, missing = self._result
        return Call(self.row, decode, key, value, options, missing, waits)

    @cached_property
    def _result(self) -> tuple[Callable[..., Any], Callable[[], None] | None]:
        """(a function from an answer's values to the result, a function that gives the result of NOT_FOUND). The second is None if
        NOT_FOUND is an error."""
        result: Any = self._function.__annotations__["return"]
        missing = None
        if isinstance(result, UnionType):
            missing = _nothing
            result = next(kind for kind in get_args(result) if kind is not type(None))
        if self._given_decode is not None:
            return self._given_decode, missing
        if result is None:
            return _nothing, missing
        (inner,) = get_args(result) if isinstance(result, GenericAlias) and result.__origin__ is list else (None,)
        if hasattr(inner, "_fields"):
            return lambda rows: [inner(*row) for row in rows], missing
        return result if hasattr(result, "_fields") or result is bool else _same, missing


def _nothing(*values: Any) -> None:
    return None


def _same(*values: Any) -> Any:
    return values if len(values) > 1 else values[0]


def _option_value(option: Option, given: Any, what: str) -> Any:
    """The value of an option, checked against its row."""
    if option.form == "bytes":
        return data(given, what)
    if option.form == "empty":
        return flag(given, what)
    if option.form == "rate":
        return _rate(given, what)
    if option.words and isinstance(given, str):
        return number_of(option, given)
    return to_wire(given) if option.form == "id" else ranged(given, what, *RANGES[option.form])


def number_of(option: Option, word: str) -> int:
    """The number that a word of an option stands for. Raises `BadRequest`."""
    if word not in option.words:
        raise BadRequest(f"the {option.called} is {told_short(word)}; it is one of {', '.join(option.words)}")
    return option.words.index(word)


def _rate(given: Any, what: str) -> tuple[int, ...]:
    pair = several(given, what)
    if len(pair) != 2:
        raise TypeError(f"the {what} {told(given, what)}; give (starts, ms), such as (10, 1000)")
    return tuple(ranged(each, what, *RANGES["u32"]) for each in pair)


def _laid_out(row: Operation, given: Any, what: str, convert: Callable[[Any], Any] | None) -> bytes:
    """The bytes of a value with a layout. Each cell is checked against the layout."""
    layout = shape(row.value)
    try:
        if not layout.is_list:
            return layout.encode(_cell(given, what, layout.kinds[0]))
        items: Iterable[Any] = several(given, what)
        return layout.encode([_item(row, layout, item if convert is None else convert(item)) for item in items])
    except BadRequest as e:
        raise BadRequest(f"{row.name}: {e}") from None


def _item(row: Operation, layout: Shape, item: Any) -> Any:
    columns = layout.columns
    if len(columns) == 1:
        return _cell(item, *columns[0])
    if not isinstance(item, tuple) or len(item) != len(columns):
        raise TypeError(f"one of the items of {row.name} {told(item, 'item')}; give tuples of {', '.join(name for name, _ in columns)}")
    return tuple(_cell(cell, *column) for cell, column in zip(item, columns, strict=True))


def _cell(given: Any, what: str, kind: str) -> Any:
    if kind == "id":
        return to_wire(given)
    if kind == "bool":
        return flag(given, what)
    return ranged(given, what, *RANGES[kind]) if kind in RANGES else data(given, what)
