"""The types of the rows that describe options and operations. flo.operations has the rows; the codec needs only these types."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from flo.limits import ATOMIC_ITEMS_MAX

# Whether a client may send a request again that may have been executed: "same" if a second execution leaves the same state and gives the
# same answer; "once" if a second execution changes nothing, but its answer may tell only that; "" if it may not.
Repeats = Literal["", "same", "once"]


class Option(NamedTuple):
    """One type of option. `form`: u8, u32, u64, i64, empty, bytes, id (flo.proto.shapes), or rate: u32 starts, u32 ms, as a pair."""

    code: int
    name: str
    form: str
    summary: str
    parameter: str = ""  # its name in a program and in the engine, if that is not `name`
    least: int = -(1 << 63)  # the lowest value of a number; the highest follows from `form`
    waits: bool = False  # its value is the ms that the answer may be delayed
    absent: bytes | None = None  # a program's value that stands for an absent option
    metavar: str = ""  # the word for its argument on a command line, if that is not its name
    words: tuple[str, ...] = ()  # the names of its numbers, from 0 on, which stand for them in programs and over HTTP

    @property
    def called(self) -> str:
        """Its name in a program."""
        return self.parameter or self.name


class Command(NamedTuple):
    """An operation's command: `flo WORDS …`. The key, the value and the options that are required are its arguments; `help` has the
    options that are its flags. `prints` is the name of an output format in flo.cli.rows."""

    words: str
    summary: str
    prints: str
    text: str = ""  # the answer as a sentence; `{}` is the number in it, or an argument by its name
    help: Mapping[str, str] = {}  # of flags and arguments, by the name in a program
    last: str = ""  # an option that may be the last argument, without its flag


class Resp(NamedTuple):
    """An operation's RESP command: its name, the key, the value, then each option as a word and an argument."""

    name: str
    summary: str
    flags: str  # as in the table of RESP commands
    words: Mapping[str, str] = {}  # the options that it takes, by the name in a program
    first: str = ""  # an option whose argument stands behind the key, without a word


class Http(NamedTuple):
    """An operation's route over HTTP: the method and the path below /api/v1/, as `PUT kv/{ns}/keys/{key}`. `{ns}` is the namespace, `{key}`
    the request's key; any other word in braces is an option. A key that has no place in the path is a query parameter, as the options are.
    `items` is the name, in JSON, of the list in the answer. More routes: `one`, for one item of the list that is the value (its last
    variable is the item); `every`, for an empty value, which stands for all (it needs the parameter `all`); `bare`, for an empty key;
    `get`, by GET, with the value as a query parameter."""

    route: str
    items: str = ""
    one: str = ""
    every: str = ""
    bare: str = ""
    get: str = ""


class Operation(NamedTuple):
    """One operation.

    `key` and `value` describe the request's key and value; if one is empty here, it must be empty in the request. With `layout`,
    `value` is a layout. `answer` is the layout of the payload of status OK. `limits` is (default, maximum) of the option `limit`. `plain`
    operations need no namespace: the header's hash is ignored.
    """

    code: int
    name: str
    key: str
    value: str
    answer: str
    summary: str
    options: dict[str, Option]  # by name
    by_code: dict[int, Option]  # the same options
    defaults: dict[str, int]  # the options of a request without options: the limit, if there is one. Never changed
    required: tuple[str, ...] = ()
    either: tuple[tuple[str, str], ...] = ()  # pairs of options of which a request may have only one
    layout: bool = False
    items_max: int = ATOMIC_ITEMS_MAX  # in the list of a layout
    value_note: str = ""  # a remark on the layout, for the documents
    limits: tuple[int, int] = (0, 0)
    plain: bool = False
    reads: bool = False  # it only reads, or concerns nothing but the connection: the read-only secret is enough
    waits: bool = False
    also: int = 0  # a second code, of a later edition of the protocol
    refusals: str = ""  # the statuses that it may answer besides OK and BAD_REQUEST
    method: str = ""  # of the engine, such as `queues.enqueue`; empty if the handler is written by hand
    value_optional: bool = False  # an empty value stands for None
    command: Command | None = None
    resp: Resp | None = None
    needs_kind: bool = False  # whether it is refused as CONFLICT where the key holds another kind of value
    http: Http | None = None
    key_parameter: str = ""  # the key's name in a program
    value_parameter: str = ""  # the value's
    repeats: Repeats = ""

    @property
    def codes(self) -> tuple[int, ...]:
        """Its code, and its second code if it has one."""
        return (self.code, self.also) if self.also else (self.code,)
