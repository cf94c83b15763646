"""The types of the rows that describe options and operations. flo.operations has the rows; the codec needs a request's row alone."""

from collections.abc import Mapping
from typing import NamedTuple


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
    metavar: str = ""  # its argument on a command line, if that is not its name

    @property
    def called(self) -> str:
        """Its name in a program."""
        return self.parameter or self.name


class Command(NamedTuple):
    """An operation's command: `flo WORDS …`. The key, the value and the options that are required are its arguments; `help` has the
    options that are its flags. What it prints, flo.cli.rows knows by name."""

    words: str
    summary: str
    prints: str
    text: str = ""  # the answer as a sentence; `{}` is the number in it, or an argument by its name
    help: Mapping[str, str] = {}  # of flags and arguments, by the name in a program
    last: str = ""  # an option that may be the last argument; text also by its flag


class Resp(NamedTuple):
    """An operation's RESP command: its name, the key, the value, and options as a word and its argument."""

    name: str
    summary: str
    flags: str  # as the table of commands has them
    words: Mapping[str, str] = {}  # the options that it takes, by the name in a program
    first: str = ""  # one whose argument stands behind the key, without a word


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
    value_optional: bool = False  # whether it may be empty, for None
    command: Command | None = None
    resp: Resp | None = None
    needs_kind: bool = False  # whether it is refused as CONFLICT where the key holds another kind of value

    @property
    def codes(self) -> tuple[int, ...]:
        """Its code, and the second one."""
        return (self.code, self.also) if self.also else (self.code,)
