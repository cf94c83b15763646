"""Which methods of a part are operations, and how a program calls them.

The server calls an operation's method itself: within a turn, in one thread, with arguments that the protocol has checked. A program calls
the method of a subclass that `in_program` makes. It checks and converts the arguments (flo.given) and makes the call a turn of its own
(`Engine.run`), in which threads wait for each other and a forked child is refused.
"""

from collections.abc import Callable, Generator, Sequence
from functools import wraps
from types import FunctionType
from typing import Any, TypeVar, get_args, get_origin

from flo.engine.part import Part
from flo.given import RANGES, data, flag, ranged, several, told
from flo.limits import DEADLINE_MAX

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
P = TypeVar("P", bound=Part)
Take = Callable[[Any, str], Any]  # (argument, its name) -> the argument, checked and converted

_OPERATIONS: set[Callable[..., Any]] = set()
_ID_MAX = (1 << 128) - 1
_WIDEST = (RANGES["i64"][0], RANGES["u64"][1])
# The ranges of numbers, by parameter name: a name means the same in every operation. Other names are checked by their methods.
_RANGES = {
    **dict.fromkeys(("deadline", "delay", "lease", "min_idle", "idle", "max_age"), (0, DEADLINE_MAX)),
    **dict.fromkeys(("start", "end", "after", "last", "id", "min_id"), (0, _ID_MAX)),
    **dict.fromkeys(("limit", "count", "ack_timeout", "max_deliver", "deliveries", "max_attempts"), RANGES["u32"]),
    **dict.fromkeys(("cas", "max_len", "max_bytes", "ms", "seq", "receipt", "time"), RANGES["u64"]),
    **dict.fromkeys(("delta", "read"), RANGES["i64"]),
    "kind": (0, 1),
}


def operation(method: F) -> F:
    """Mark a method of a `Part` as an operation."""
    _OPERATIONS.add(method)
    return method


_IN_PROGRAM: dict[type[Part], type[Part]] = {}


def in_program(part: type[P]) -> type[P]:
    """The subclass of `part` for programs: each of its operations checks its arguments and is a turn of its own."""
    if part not in _IN_PROGRAM:
        _IN_PROGRAM[part] = _subclass_for_programs(part)
    return _IN_PROGRAM[part]  # type: ignore[return-value]


def _subclass_for_programs(part: type[P]) -> type[P]:
    methods = {name: item for kind in reversed(part.__mro__) for name, item in vars(kind).items()}  # inherited ones too
    operations = {name: item for name, item in methods.items() if isinstance(item, FunctionType) and item in _OPERATIONS}
    return type(part.__name__, (part,), {name: _for_programs(method) for name, method in operations.items()})


def _for_programs(method: Callable[..., Any]) -> Callable[..., Any]:
    """The operation for programs."""
    code = method.__code__
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    takes = {name: _take(method.__annotations__[name]) for name in names}
    positional = [(name, takes[name]) for name in names[: code.co_argcount - 1]]

    def convert(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        taken = [take(arg, name) for (name, take), arg in zip(positional, args, strict=False)]
        named = {name: takes[name](arg, name) if name in takes else arg for name, arg in kwargs.items()}
        return [*taken, *args[len(taken) :]], named  # Python itself refuses surplus arguments

    @wraps(method)
    def run(self: Part, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = convert(args, kwargs)  # type: ignore[assignment]
        return self.engine.run(method, self, *args, **kwargs)

    return run


def run_job(job: Generator[None, None, R]) -> R:
    """Run a sliced job to its end."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            result: R = end.value
            return result


def _take(annotation: Any) -> Take:
    """The function that checks and converts an argument with this annotation."""
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    inner, origin = get_args(annotation), get_origin(annotation)
    if type(None) in inner:
        take = _take(inner[0])
        return lambda given, what: None if given is None else take(given, what)
    if origin is Sequence:
        take = _take(inner[0])
        return lambda given, what: [take(each, what.removesuffix("s")) for each in several(given, what)]  # an item of `keys` is a `key`
    if origin is tuple:
        return _take_tuple([_take(kind) for kind in inner])
    if origin is dict:
        return _take_dict(*map(_take, inner))
    if origin is Callable:
        if bytes not in get_args(inner[-1]):
            return lambda given, what: given
        result = _take(inner[-1])  # the callable returns a value
        return lambda given, what: lambda *args: result(given(*args), "value")
    return _take_named_tuple(annotation)


def _number(given: Any, what: str) -> int:
    if what == "seq" and hasattr(given, "receipt"):
        given = given.seq  # a message stands for its seq
    return ranged(given, what, *_RANGES.get(what, _WIDEST))


_SIMPLE: dict[Any, Take] = {bytes: data, int: _number, bool: flag}


def _take_dict(key: Take, value: Take) -> Take:
    """A `Take` of a dict whose keys are names."""

    def take(given: Any, what: str) -> dict[Any, Any]:
        if not isinstance(given, dict):
            raise TypeError(f"{what} {told(given, what)}; give a dict")
        return {key(name, "name"): value(each, what) for name, each in given.items()}

    return take


def _take_tuple(takes: Sequence[Take]) -> Take:
    """A `Take` of a tuple, such as a receipt."""

    def take(given: Any, what: str) -> tuple[Any, ...]:
        row = several(getattr(given, "receipt", given), what)  # a message stands for its receipt
        if len(row) != len(takes):
            raise TypeError(f"the {what} {told(given, what)}; give a tuple of {len(takes)}")
        return tuple(take(each, what) for take, each in zip(takes, row, strict=True))

    return take


def _take_named_tuple(kind: Any) -> Take:
    """A `Take` of a NamedTuple, each field by its own annotation."""
    takes = {name: _take(annotation) for name, annotation in kind.__annotations__.items()}

    def take(given: Any, what: str) -> Any:
        if not isinstance(given, kind):
            raise TypeError(f"the {what} {told(given, what)}; give {kind.__name__}(…)")
        return kind(*(take(value, name) for (name, take), value in zip(takes.items(), given, strict=True)))

    return take
