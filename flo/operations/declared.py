"""What follows from a declared method for programs: the function that turns its arguments into a `Call`.

The function is made when it is first needed, as source text: a check of the key, of the value and of each option, then the call. One
function for each option encodes it: it knows the option's code and form.
"""

import json
import struct
from collections.abc import Callable, Iterable
from functools import cached_property, partial, wraps
from types import GenericAlias, UnionType
from typing import Any, get_args

from flo.errors import BadRequest
from flo.given import RANGES, data, flag, ranged, several, told, told_short
from flo.operations.call import Call, Form
from flo.operations.ids import to_wire
from flo.operations.source import Parameters, made_from
from flo.proto.binary import OPTION, encode_option
from flo.proto.row import Operation, Option
from flo.proto.shapes import NUMBERS, Shape, shape

ITEMS_MAX = 1 << 32  # in an answer: its length bounds them
JSON = "json"  # the parameter that stands for the value, as anything that JSON has


class Declared:
    """Makes the `Call` of an operation from the arguments of the method that declares it."""

    def __init__(
        self,
        row: Operation,
        method: Callable[..., Any],
        key: str,
        value: str,
        options: dict[str, Option],
        item: Callable[[Any], Any] | None = None,
        decode: Callable[..., Any] | None = None,
        undo: Callable[[Call[Any], Any], Call[Any] | None] | None = None,
    ) -> None:
        self.row = row
        self.method = method
        self.key: str = key  # its parameter, if there is a key
        self.value: str = value  # likewise
        self.options = options  # by parameter
        self.parameters: Parameters = Parameters(method)
        self.names: list[str] = [name for name in self.parameters.names if name != JSON]
        self.defaults: dict[str, Any] = self.parameters.defaults
        self.required: set[str] = required(self.parameters, value)
        self.positional: tuple[str, ...] = self.parameters.positional
        self.listed: str = self.parameters.listed
        self._item = item
        self._decode = decode
        self._undo = undo

    @cached_property
    def make(self) -> Callable[..., Call[Any]]:
        """The function: arguments to a `Call`. Raises `TypeError`, `BadRequest`."""
        return self.function(f"return {self.expression}", module="flo.calls", name=self.row.name)

    def function(self, last: str, **more: Any) -> Callable[..., Any]:
        """A function of the arguments that ends with the line `last`."""
        return made_from(self.method, self.parameters, [*self._body, last], self._names, **more)

    def as_function(self, name: str) -> Callable[..., Call[Any]]:
        """`make`, as a function that is made without cost: most programs use few of all operations."""

        @wraps(self.method)
        def make(*args: Any, **kwargs: Any) -> Call[Any]:
            return self.make(*args, **kwargs)

        make.__wrapped__ = partial(self.method, None)  # without its `self`
        make.__module__, make.__name__, make.__qualname__ = "flo.calls", name, name
        return make

    @property
    def expression(self) -> str:
        """The call, in the source of a function, behind the lines of `_body`."""
        key, value = self.key or "b''", self.value or "b''"
        return f"_Call(_form, {key}, {value}, {'_section' if self.options else repr(b'')}, {self._waiting or None})"

    @property
    def _waiting(self) -> str:
        return next((name for name, option in self.options.items() if option.waits), "")

    @property
    def _body(self) -> list[str]:
        """The lines that turn the arguments into the parts of a call."""
        lines = ["_section = b''"] if self.options else []
        for name in self.names:
            lines += self._lines(name)
        return lines

    def _lines(self, name: str) -> list[str]:
        optional = self.defaults.get(name, ...) is None
        if name in self.options:
            add = f"_section += _encode_{name}({name})"
            absent = self.defaults.get(name, ...)
            return [f"if {name} is not {absent}: {add}"] if absent is None or absent is False else [add]
        if name == self.value and JSON in self.parameters.names:
            return [
                f"if {JSON} is not ...: {name} = _from_json({name}, {JSON}, _default_{name})",
                f"elif type({name}) is not bytes: {name} = _data({name}, {name!r})",
            ]
        if name == self.value and self.row.layout:
            made = f"{name} = _laid_out({name})"
            return [f"if {name} is None: {name} = b''", f"else: {made}"] if optional else [made]
        return [f"if type({name}) is not bytes: {name} = _data({name}, {name!r})"]

    @property
    def _names(self) -> dict[str, Any]:
        """What the lines use."""
        names: dict[str, Any] = {f"_encode_{name}": encoder(option, name) for name, option in self.options.items()}
        names |= {"_Call": Call, "_form": self.form, "_data": data, "_from_json": partial(from_json, self.value)}
        return names | {"_laid_out": partial(laid_out, self.row, self.value, self._item)}

    @cached_property
    def form(self) -> Form[Any]:
        """What its calls have in common: how the answer becomes a result."""
        result: Any = self.method.__annotations__["return"]
        missing = isinstance(result, UnionType)
        if missing:
            result = next(kind for kind in get_args(result) if kind is not type(None))
        return Form(self.row, decoder(shape(self.row.answer), self._decode or result_of(result)), missing, self._undo)


def required(parameters: Parameters, value: str) -> set[str]:
    """The parameters that must be given: `value` may be given as JSON instead, but must be given."""
    names = {name for name in parameters.names if name not in parameters.defaults and name != JSON}
    return names | {value} if JSON in parameters.names and parameters.defaults.get(value, ...) is None else names


# -- results ---------------------------------------------------------------------------------------


def result_of(kind: Any) -> Callable[..., Any]:
    """The function from an answer's values to a result of this type."""
    if kind is None:
        return _nothing
    (inner,) = get_args(kind) if isinstance(kind, GenericAlias) and kind.__origin__ is list else (None,)
    if hasattr(inner, "_fields"):
        make = inner._make
        return lambda rows: [make(row) for row in rows]
    return kind if hasattr(kind, "_fields") or kind is bool else _same


def decoder(layout: Shape, decode: Callable[..., Any]) -> Callable[[bytes], Any]:
    """The function from an answer's payload to the result."""
    values, at_once = layout.decode, layout.unpack
    if decode is _same and len(layout.names) == 1:
        return lambda payload: (at_once(payload, ITEMS_MAX) or values(payload))[0]
    return lambda payload: decode(*(at_once(payload, ITEMS_MAX) or values(payload)))


def _nothing(*values: Any) -> None:
    return None


def _same(*values: Any) -> Any:
    return values if len(values) > 1 else values[0]


# -- options ---------------------------------------------------------------------------------------


def encoder(option: Option, what: str) -> Callable[[Any], bytes]:
    """The function from an argument to the option's bytes; none for one that stands for an absent option. Raises `TypeError`,
    `BadRequest`."""
    if option.form == "empty":
        present = encode_option(option, True)
        return lambda given: present if flag(given, what) else b""
    if option.form == "bytes":
        return partial(_bytes_option, option, what)
    if option.form in NUMBERS and not option.words:
        return _number_encoder(option, what)
    return lambda given: encode_option(option, _value(option, given, what))


def _bytes_option(option: Option, what: str, given: Any) -> bytes:
    value = data(given, what)
    return b"" if value == option.absent else encode_option(option, value)


def _number_encoder(option: Option, what: str) -> Callable[[Any], bytes]:
    number = NUMBERS[option.form]
    whole = struct.Struct(OPTION.format + number.format[1:])
    pack, code, size = whole.pack, option.code, number.size

    def encode(given: Any) -> bytes:
        """An int that fits needs no further check."""
        if type(given) is int:
            try:
                return pack(code, size, given)
            except struct.error:
                pass
        return pack(code, size, ranged(given, what, *RANGES[option.form]))

    return encode


def _value(option: Option, given: Any, what: str) -> Any:
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


# -- values ----------------------------------------------------------------------------------------


def from_json(what: str, given: Any, value: Any, default: Any) -> bytes:
    """The JSON text of `value`, which stands in the place of the argument `what`. Raises `TypeError`, `BadRequest`."""
    if given is not default:
        raise TypeError(f"the {what} {told(given, what)}, and json is given as well; give one of them")
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except TypeError as e:
        raise TypeError(f"json {told(value, JSON)}; give what JSON has ({e})") from None
    except (ValueError, RecursionError) as e:
        raise BadRequest(f"json is {told_short(value)}, which JSON cannot say: {e}") from None


def laid_out(row: Operation, what: str, convert: Callable[[Any], Any] | None, given: Any) -> bytes:
    """The bytes of a value with a layout. Each cell is checked against the layout. Raises `TypeError`, `BadRequest`."""
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
