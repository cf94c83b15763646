"""Functions made from source text: with the parameters of a declared method, and a body that fits its row.

A call of such a function costs what its body costs. It checks its arguments as Python does, and help() and inspect.signature() show its
parameters with their types. A body may use any name that begins with an underscore: no parameter begins with one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

VARARGS = 4  # of a code's flags: inspect.CO_VARARGS, without the 5 ms that importing inspect takes


class Parameters:
    """The parameters of a method, without `self`."""

    def __init__(self, method: Callable[..., Any]) -> None:
        code, values = method.__code__, method.__defaults__ or ()
        count = code.co_argcount + code.co_kwonlyargcount
        self.positional: tuple[str, ...] = code.co_varnames[1 : code.co_argcount]
        self.named: tuple[str, ...] = code.co_varnames[code.co_argcount : count]  # by name alone
        self.listed: str = code.co_varnames[count] if code.co_flags & VARARGS else ""  # takes any number of arguments
        first = len(self.positional) - len(values)
        self.defaults: dict[str, Any] = dict(zip(self.positional[first:], values, strict=True)) | (method.__kwdefaults__ or {})
        self.names: list[str] = [*self.positional, *([self.listed] if self.listed else ()), *self.named]

    def source(self) -> str:
        """The parameters as they stand in the source of a function."""
        parts = [self._one(name) for name in self.positional]
        if self.listed or self.named:
            parts.append("*" + self.listed)
        return ", ".join(parts + [self._one(name) for name in self.named])

    def handed_on(self) -> str:
        """The same arguments, as they stand in the source of a call."""
        return ", ".join([*self.positional, *([f"*{self.listed}"] if self.listed else ()), *(f"{name}={name}" for name in self.named)])

    def _one(self, name: str) -> str:
        return f"{name}=_default_{name}" if name in self.defaults else name


def made_from(
    method: Callable[..., Any],
    parameters: Parameters,
    body: Sequence[str],
    names: Mapping[str, Any],
    *,
    kind: str = "def",
    first: str = "",
    name: str = "",
    module: str = "",
    returns: Any = ...,
) -> Callable[..., Any]:
    """A function with the parameters, types and docstring of `method`. `names` are what its body uses. `kind` is `def` or `async def`;
    `first` is a parameter before the others; `returns` is its result's type, if that is another than the method's."""
    name = name or method.__name__
    head = ", ".join(part for part in (first, parameters.source()) if part)
    source = f"{kind} {name}({head}):\n" + "".join(f"    {line}\n" for line in body)
    space: dict[str, Any] = {f"_default_{each}": value for each, value in parameters.defaults.items()} | dict(names)
    exec(compile(source, f"<the method {name}>", "exec"), space)
    made: Callable[..., Any] = space[name]
    made.__annotations__ = dict(method.__annotations__) | ({} if returns is ... else {"return": returns})
    made.__doc__, made.__module__ = method.__doc__, module or method.__module__
    made.__qualname__ = method.__qualname__ if name == method.__name__ else name
    return made
