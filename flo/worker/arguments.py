"""From a call of a handler to the bytes of an input and back, and from its result to the bytes of an output and back.

Arguments travel as a JSON object by the names of the parameters, so that `flo action invoke send-email '{"to": "a@b"}'` and programs in
other languages say the same. A function whose one parameter is `input: bytes` gets the input as it is, and one that is annotated `-> bytes`
returns the output as it is. Neither side's types are checked: the annotations choose the form and nothing else.
"""

import inspect
import json
import typing
from collections.abc import Callable
from typing import Any

from flo.limits import VALUE_BYTES_MAX
from flo.worker.context import Context, NonRetryable

JSON_CARRIES = "JSON carries text, numbers, booleans, None, lists and dicts with keys of text"


class Parameters:
    """The parameters of a handler, behind its context if it takes one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises `TypeError` for parameters that no JSON object can name."""
        hints = _hints(function)
        found = list(inspect.signature(function).parameters.values())
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self.takes_context: bool = bool(found) and hints.get(found[0].name) in (Context, "Context", "flo.worker.Context", "worker.Context")
        self.signature: inspect.Signature = inspect.Signature(found[self.takes_context :])
        self.annotations: list[Any] = [hints.get(parameter.name) for parameter in self.signature.parameters.values()]
        self.returns_bytes: bool = hints.get("return") in (bytes, "bytes")
        for parameter in self.signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                raise TypeError(f"{self.name}() has the parameter {parameter}, which cannot be given by its name; a handler's must all be")
        names = list(self.signature.parameters)
        self.raw: bool = names == ["input"] and self.annotations[0] in (bytes, "bytes")

    def pack(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The input that carries these arguments. Raises `TypeError`."""
        bound = self.signature.bind(*args, **kwargs)
        if self.raw:
            (given,) = bound.args
            if not isinstance(given, bytes):
                raise TypeError(f"the input of {self.name}() is {type(given).__name__}; give bytes")
            return given
        named = dict(bound.arguments)
        for parameter in self.signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                named |= named.pop(parameter.name, {})
        return as_json(named, f"an argument of {self.name}()")

    def unpack(self, given: bytes) -> dict[str, Any]:
        """The arguments by name. Raises `NonRetryable` if the input does not fit: it fits no better the next time."""
        if self.raw:
            return {"input": given}
        try:
            named = json.loads(given) if given else {}
        except ValueError as e:
            raise NonRetryable(f"the input is not JSON: {e}") from None
        if not isinstance(named, dict):
            raise NonRetryable(f"the input is a JSON {type(named).__name__}; an object with the arguments of {self.name}() is expected")
        try:
            self.signature.bind(**named)
        except TypeError as e:
            raise NonRetryable(f"the input does not fit {self.name}{self.signature}: {e}") from None
        return named

    def pack_result(self, result: Any) -> bytes:
        """The output that carries this result. Raises `NonRetryable`: the work is done, and doing it again helps nothing."""
        if self.returns_bytes:
            if not isinstance(result, bytes):
                raise NonRetryable(f"{self.name}() returned {type(result).__name__}, though it is annotated -> bytes")
            output = result
        else:
            try:
                output = as_json(result, f"the result of {self.name}()")
            except TypeError as e:
                raise NonRetryable(str(e)) from None
        if len(output) > VALUE_BYTES_MAX:
            raise NonRetryable(f"the result of {self.name}() is {len(output)} bytes; at most {VALUE_BYTES_MAX} are kept")
        return output

    def unpack_result(self, output: bytes) -> Any:
        """The result that this output carries; None for an empty output, which other workers give."""
        if self.returns_bytes:
            return output
        return json.loads(output) if output else None


def as_json(given: Any, what: str) -> bytes:
    """Compact JSON. Raises `TypeError`, also for NaN and infinities."""
    try:
        return json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as e:
        raise TypeError(f"{what} cannot be carried: {e}. {JSON_CARRIES}") from None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations; as text where a name in one of them is missing at run time."""
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return dict(getattr(function, "__annotations__", {}))
