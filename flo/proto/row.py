"""The types of the rows that describe options and operations. flo.operations has the rows; the codec needs a request's row alone."""

from typing import Any, NamedTuple


class Option(NamedTuple):
    """One type of option. `form`: u8, u32, u64, i64, empty, bytes, or id (flo.proto.shapes)."""

    code: int
    name: str
    form: str
    summary: str
    parameter: str = ""  # its name in a program, and that of the engine's parameter, if that is another
    least: int = -(1 << 63)  # of a number; the most is its form's
    waits: bool = False  # so many ms the answer may be delayed
    absent: bytes | None = None  # a value by which a program means that the option is absent

    @property
    def called(self) -> str:
        """Its name in a program."""
        return self.parameter or self.name


class Operation(NamedTuple):
    """One operation.

    `key` and `value` say what the request's key and value are; an empty `key` or `value` must be empty in the request. A
    `value` is a layout where `layout` is set. `answer` is the layout of the payload of status OK. `limits` gives, for the option
    `limit`, (default, most). `plain` operations are about no namespace: the header's hash is ignored.
    """

    code: int
    name: str
    key: str
    value: str
    answer: str
    summary: str
    options: dict[str, Option]  # by name
    by_code: dict[int, Option]  # the same
    defaults: dict[str, int]  # the options of a request without any: the limit, if there is one. Nobody changes it
    required: tuple[str, ...] = ()
    either: tuple[str, ...] = ()  # options of which a request may have one
    layout: bool = False
    value_note: str = ""  # what is to be said of a layout
    limits: tuple[int, int] = (0, 0)
    plain: bool = False
    waits: bool = False
    also: int = 0  # a second code, of a later edition of the protocol
    refusals: str = ""  # what it answers besides OK, beyond BAD_REQUEST
    method: str = ""  # the engine's, such as `queues.enqueue`; empty where a handler is written by hand
    value_parameter: str = ""  # what a program and the engine call the value
    value_optional: bool = False  # whether it may be empty, for None
    shown: Any = None  # its command line: flo.operations.command

    @property
    def codes(self) -> tuple[int, ...]:
        """Its code, and the second one."""
        return (self.code, self.also) if self.also else (self.code,)
