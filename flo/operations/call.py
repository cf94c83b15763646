"""Requests as values: a `Call` encodes itself and reads its answer. It knows no socket."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from flo.errors import BadRequest, Conflict, FloError, NotFound, WrongKind
from flo.proto import binary
from flo.proto.binary import Response, decode_options, encode_parts, error_of
from flo.proto.row import Operation

T = TypeVar("T")


class NotAnAnswer(FloError):
    """The payload of an OK answer does not have the operation's layout: no Flo server sent it."""


class Form(Generic[T]):
    """What all calls of one method have in common. `decode` turns the payload of an OK answer into the result. `missing` says that
    NOT_FOUND is the result None. `undo` makes the call that gives back what an answer gave, from the call and its result; None if nothing
    is to be given back."""

    __slots__ = ("decode", "missing", "operation", "undo")

    def __init__(
        self,
        operation: Operation,
        decode: Callable[[bytes], T],
        missing: bool = False,
        undo: "Callable[[Call[Any], Any], Call[Any] | None] | None" = None,
    ) -> None:
        self.operation: Operation = operation
        self.decode: Callable[[bytes], T] = decode
        self.missing: bool = missing
        self.undo: Callable[[Call[Any], Any], Call[Any] | None] | None = undo


class Call(Generic[T]):
    """One request: its key, its value and its options as bytes. `waits` is how many ms the server may delay the answer: 0 for ever, None
    not at all."""

    __slots__ = ("_form", "_key", "_section", "_value", "waits")

    def __init__(self, form: Form[T], key: bytes, value: bytes, section: bytes = b"", waits: int | None = None) -> None:
        self._form = form
        self._key = key
        self._value = value
        self._section = section
        self.waits: int | None = waits

    @property
    def operation(self) -> Operation:
        """The row of its operation."""
        return self._form.operation

    @property
    def key(self) -> bytes:
        """The request's key."""
        return self._key

    @property
    def value(self) -> bytes:
        """The request's value, as its operation lays it out."""
        return self._value

    @property
    def options(self) -> dict[str, Any]:
        """The request's options, by name."""
        return decode_options(self._form.operation, self._section)

    @property
    def may_miss(self) -> bool:
        """Whether its result is None if the answer is NOT_FOUND."""
        return self._form.missing

    @property
    def gives(self) -> bool:
        """Whether an answer gives something that can be given back: a message, a run, a group's records."""
        return self._form.undo is not None

    @property
    def identity(self) -> tuple[int, bytes, bytes, bytes]:
        """Equal for two calls that ask the same."""
        return self._form.operation.code, self._key, self._value, self._section

    def encode(self, req_id: int, namespace_hash: int, compress: bool = False) -> bytes:
        """The request's bytes. Raises `BadRequest` if it exceeds a limit of the protocol."""
        operation, value = self._form.operation, self._value
        return encode_parts(
            operation.code,
            req_id,
            0 if operation.plain else namespace_hash,
            self._key,
            value,
            self._section,
            compress and len(value) >= binary.COMPRESS_BYTES_MIN,
            compress,
        )

    def finish(self, response: Response) -> T:
        """The result. Raises the refusal in the response, if it is one, or `NotAnAnswer`."""
        status, _, payload = response
        if not status:
            try:
                return self._form.decode(payload)
            except BadRequest as e:
                raise NotAnAnswer(str(e)) from None
        error = error_of(response)
        if isinstance(error, NotFound) and self._form.missing:
            return None  # type: ignore[return-value]  # T has None in it
        if isinstance(error, Conflict) and self.operation.needs_kind and self.options.get("cas_version") in (None, error.version):
            raise WrongKind(str(error), error.version)  # there was no condition, or it held: it is what the key holds
        raise error

    def undo(self, response: Response) -> "Call[Any] | None":
        """The call that gives back what a response gave that nobody waits for any more."""
        undo = self._form.undo
        return None if undo is None or response.status else undo(self, self.finish(response))
