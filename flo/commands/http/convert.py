"""Between HTTP and the operations' layouts (flo.proto.shapes): a request's path, query, headers and body become the key, value and options
that the binary protocol would send; an answer's payload becomes a body.

- Options are query parameters: numbers in decimal, flags as `true` or `false`, ids as `ms-seq`, bytes as they are.
- A value without a layout is the raw body. With a layout, the body is a JSON object: `{"paused": true}`, `{"receipts": [{"seq": 7}]}`.
  A number that is left out is 0.
- An answer whose last item is bare has that as its raw body. Every other answer is JSON, with one item too.
- In JSON, bytes are a string if they are UTF-8, else `{"base64": "…"}`; an id is `ms-seq`; a cursor is base64url.
- The version of a key is the `ETag`; `If-Match`, `If-None-Match` and `Idempotency-Key` are options of the operations that take them.
"""

import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from flo.errors import BadRequest
from flo.limits import KEY_BYTES_MAX
from flo.operations.declared import number_of
from flo.operations.ids import from_wire, to_wire
from flo.operations.options import RUN_STATES
from flo.proto import fields
from flo.proto.binary import VERSION, check_request, decode_options, encode_options
from flo.proto.row import Operation, Option
from flo.proto.shapes import NUMBERS, Shape, shape

RAW = "application/octet-stream"
JSON = "application/json"
TYPE_JSON = ((b"Content-Type", JSON.encode()),)
SHOWN_BYTES = 40  # of a wrong value, in an error
BRACKETS_MAX = 1 << 20  # in a JSON body, as RESP's arguments: an empty object takes 64 bytes of memory, 20 times its text
FLOAT_EXACT_MAX = 1 << 53  # up to here a float holds every whole number
SLICE_BYTES = 512 << 10  # of JSON made in one go: 3 ms
BASE64_SLICE_BYTES = SLICE_BYTES // 3 * 3  # base64 of a multiple of three bytes has no padding
MISSING = object()  # in the place of a value that a JSON object does not have
PRINTABLE = "".join(map(chr, range(33, 127))).replace("%", "")
COMPLETED = RUN_STATES.index("completed")
BLOCK_MS_MAX = 60_000  # of a request that waits: proxies close connections that are silent for longer

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# Options that a header gives, by the header's name
HEADER_OPTIONS = {b"idempotency-key": ("dedup_key", "idempotency_key")}


class Answer(NamedTuple):
    """An OK answer, as HTTP has it."""

    body: bytes
    fields: tuple[tuple[bytes, bytes], ...]  # of the header: the media type, where there is a body, and others
    version: int | None = None  # of the key: the ETag
    status: int = 0  # 0: 200, or 204 where there is no body


# -- requests --------------------------------------------------------------------------------------


def options_of(row: Operation, given: Mapping[str, bytes]) -> dict[str, Any]:
    """The options of an operation from their texts, checked as those of the binary protocol are. Raises `BadRequest`."""
    values: dict[str, Any] = {}
    for name, text in given.items():
        option = row.options.get(name)
        if option is None:
            takes = ", ".join(row.options) or "none"
            raise BadRequest(f"{row.name} does not take the parameter {_shown_text(name)}; it takes {takes}")
        value = _option(option, text)
        if option.waits and not 1 <= value <= BLOCK_MS_MAX:
            raise BadRequest(f"{name} is {value}; over HTTP it is 1 to {BLOCK_MS_MAX} ms")
        values[name] = value
    return decode_options(row, encode_options(row, values))


def _option(option: Option, text: bytes) -> Any:
    if option.name == "cursor":
        return _from_base64(text.replace(b" ", b"+"), "cursor", url=True)  # queue_list's has +, which stands for a space in a query
    if option.form == "bytes":
        return text
    if option.form == "empty":
        if text.lower() in (b"", b"1", b"true"):
            return True
        if text.lower() in (b"0", b"false"):
            return False
        raise BadRequest(f"{option.name} is {_shown(text)}; it is true or false")
    if option.form == "id":
        return to_wire(_text(text, option.name))
    if option.form == "rate":
        return _rate(text, option.name)
    if option.words:
        return number_of(option, text.decode("utf-8", "replace"))
    return _whole_number(text, option.name, signed=option.form == "i64")


def _rate(text: bytes, name: str) -> tuple[int, ...]:
    """The starts and the ms of a rate."""
    halves = text.split(b"/")
    if len(halves) != 2:
        raise BadRequest(f"{name} is {_shown(text)}; it is starts/ms, such as 10/1000")
    return tuple(_whole_number(half, name) for half in halves)


def _whole_number(text: bytes, name: str, signed: bool = False) -> int:
    digits = text[1:] if signed and text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > 20:
        raise BadRequest(f"{name} is {_shown(text)}; it is a whole number")
    return int(text)


def value_of(row: Operation, body: bytes) -> bytes:
    """The value that a request's body stands for. Raises `BadRequest`."""
    if not row.layout:
        return body
    brackets = body.count(b"{") + body.count(b"[")
    if brackets > BRACKETS_MAX:
        raise BadRequest(f"the body has {brackets} opening braces and brackets; at most {BRACKETS_MAX} are allowed")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(f"the body is no JSON; {row.name} takes an object such as {json.dumps(example_of(row))}") from None
    layout = shape(row.value)
    if not isinstance(given, dict):
        raise BadRequest(f"the body is no JSON object; {row.name} takes one such as {json.dumps(example_of(row))}")
    names = [row.value_parameter] if layout.is_list else layout.names
    for name in given:
        if name not in names:
            raise BadRequest(f"the body has {_shown_text(name)}, which {row.name} does not take; it takes {', '.join(names)}")
    if not layout.is_list:
        return layout.encode(*(_value(given.get(name, MISSING), kind, name) for name, kind in zip(names, layout.kinds, strict=True)))
    (name,), columns = names, layout.columns
    items = given.get(name, MISSING)
    if not isinstance(items, list):
        raise BadRequest(f"{name} is {_not('list', items)}; {row.name} takes an object such as {json.dumps(example_of(row))}")
    if len(items) > row.items_max:
        raise BadRequest(f"{name} has {len(items)} items; at most {row.items_max} are allowed in one request")
    return layout.encode([_item(item, columns, f"{name}[{at}]") for at, item in enumerate(items)])


def _item(item: Any, columns: list[tuple[str, str]], where: str) -> Any:
    if len(columns) == 1:
        return _value(item, columns[0][1], where)
    if not isinstance(item, dict):
        raise BadRequest(f"{where} is no object with {', '.join(name for name, _ in columns)}")
    known = [name for name, _ in columns]
    for name in item:
        if name not in known:
            raise BadRequest(f"{where} has {_shown_text(name)}; it takes {', '.join(known)}")
    return tuple(_value(item.get(name, MISSING), kind, f"{where}.{name}") for name, kind in columns)


def _value(given: Any, kind: str, where: str) -> Any:
    """A value of a layout from JSON. Each sentence begins with where it is."""
    if kind == "bool":
        if not isinstance(given, bool):
            raise BadRequest(f"{where} is {_not('boolean', given)}; it is true or false")
        return given
    if kind in NUMBERS:
        return _number(given, kind, where)
    if kind == "id":
        if not isinstance(given, str):
            raise BadRequest(f'{where} is {_not("text", given)}; the id of a record is text such as "1700000000000-0"')
        try:
            return to_wire(given)
        except BadRequest as e:
            raise BadRequest(f"{where}: {e}") from None
    if isinstance(given, str):
        try:
            data = given.encode()
        except UnicodeError:
            raise BadRequest(f"{where} has a lone surrogate, which UTF-8 cannot hold") from None
    elif isinstance(given, dict) and given.keys() == {"base64"} and isinstance(given["base64"], str):
        data = _from_base64(given["base64"].encode("utf-8", "replace"), where)
    else:
        raise BadRequest(f'{where} is {_not("text", given)}; it is a string, or {{"base64": "…"}} for other bytes')
    if kind == "name" and len(data) > KEY_BYTES_MAX:
        raise BadRequest(f"{where} has {len(data)} bytes; at most {KEY_BYTES_MAX} are allowed")
    return data


def _number(given: Any, kind: str, where: str) -> int:
    if given is MISSING:
        return 0
    if type(given) is float and given.is_integer() and abs(given) <= FLOAT_EXACT_MAX:
        given = int(given)  # 5.0 is a whole number in JSON; some languages write it so
    if type(given) is not int:
        raise BadRequest(f"{where} is no whole number")
    least, most = bounds(kind)
    if not least <= given <= most:
        raise BadRequest(f"{where} is {str(given)[:SHOWN_BYTES]}; it is {least} to {most}")
    return given


def bounds(kind: str) -> tuple[int, int]:
    """The lowest and the highest number of a type of a layout."""
    bits = NUMBERS[kind].size * 8
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind == "i64" else (0, (1 << bits) - 1)


def _not(kind: str, given: Any) -> str:
    return "missing" if given is MISSING else f"no {kind}"


def example_of(row: Operation) -> dict[str, Any]:
    """A body for an operation whose value has a layout."""
    samples: dict[str, Any] = {"bool": True, "id": "1700000000000-0", "name": "text", "blob": "text"}
    layout = shape(row.value)
    columns = layout.columns if layout.is_list else list(zip(layout.names, layout.kinds, strict=True))
    item: dict[str, Any] = {name: samples.get(kind, 1) for name, kind in columns}
    if layout.is_list:
        item = {row.value_parameter: [item if len(columns) > 1 else item[columns[0][0]]]}
    return item


def one_item(row: Operation, given: dict[str, bytes]) -> bytes:
    """The value of an operation on one item of its list, a number that stands in the path. Raises `BadRequest`."""
    assert row.http is not None
    name = row.http.one.rpartition("{")[2][:-1]
    return shape(row.value).encode([_whole_number(given.pop(name), name)])


def every_item(row: Operation, given: dict[str, bytes]) -> bytes:
    """The value of an operation on all that there are: empty. The parameter `all` must say so: a body alone may have got lost on the way.
    Raises `BadRequest`."""
    if given.pop("all", b"").lower() not in (b"1", b"true"):
        raise BadRequest(f"{row.name} of all needs the parameter all=true")
    return b""


def value_parameter(row: Operation, given: dict[str, bytes]) -> bytes:
    """The value of a request by GET: a query parameter. Raises `BadRequest` without it."""
    value = given.pop(row.value_parameter, None)
    if value is None:
        raise BadRequest(f"{row.name} by GET needs the parameter {row.value_parameter}")
    return value


def request_of(
    row: Operation, key: bytes, body: bytes, given: dict[str, bytes], value_in: Callable[[dict[str, bytes]], bytes] | None = None
) -> tuple[bytes, bytes, dict[str, Any]]:
    """(key, value, options) of an operation, checked by its row. `value_in` takes the value from `given`, if it is not the body. Raises
    `BadRequest`."""
    if value_in is not None:
        if body:
            raise BadRequest(f"this request has a body of {len(body)} bytes; it takes none")
        value = value_in(given)
    else:
        value = value_of(row, body) if row.value else body
    options = options_of(row, given) if given else row.defaults
    check_request(row, len(key), len(value), options)
    return key, value, options


def media_of(row: Operation) -> str:
    """The media type of a value without a layout, in a request or an answer."""
    return JSON if row.name.startswith("kv_json") else RAW


# -- answers ---------------------------------------------------------------------------------------


def answer_of(row: Operation) -> Callable[[bytes], Answer]:
    """The function that makes the HTTP answer of an OK payload."""
    layout = shape(row.answer)
    names, kinds = layout.names, layout.kinds
    if not names:
        return lambda payload: Answer(b"", ())
    if kinds == ["json"]:
        return lambda payload: Answer(payload, TYPE_JSON)
    if kinds[-1] == "rest":
        media = (b"Content-Type", media_of(row).encode())
        if names == ["version", "value"]:  # a GET of a key: most of all requests
            return lambda payload: Answer(payload[8:], (media,), VERSION.unpack_from(payload)[0])
        return lambda payload: _bare(names, layout.decode(payload), media)
    lists = row.http.items if row.http is not None else ""

    def answer(payload: bytes) -> Answer:
        values = layout.decode(payload)
        shown: dict[str, Any] = {
            (lists if group is not None else name): _list(group, value) if group is not None else _shown_value(name, kind, value)
            for (name, kind, group), value in zip(layout.items, values, strict=True)
        }
        return Answer(_json(shown).encode(), TYPE_JSON, shown.get("version"))

    return answer


def answer_in_slices(row: Operation, payload: bytes) -> Generator[None, None, list[bytes]]:
    """The pieces of the body that `answer_of` makes, of a large payload with a list: a job, for JSON takes 3 to 6 ms for each MiB. Nothing
    is joined that is large: fresh memory costs more than the conversion."""
    pieces: list[bytes] = []
    small: list[bytes] = [b"{"]
    size = at = 0
    for name, kind, group in shape(row.answer).items:
        if at:
            small.append(b",")
        if group is None:
            (value,), at = shape(f"{name} {kind}").decode_from(payload, at)
            small.append(b"%b:%b" % (_json(name).encode(), _json(_shown_value(name, kind, value)).encode()))
            continue
        assert row.http is not None
        (count,), at = shape(f"{name} {kind}").decode_from(payload, at)
        small.append(b"%b:[" % _json(row.http.items).encode())
        for number in range(count):
            values, at = group.decode_from(payload, at)
            text = yield from _item_in_slices(group, values if len(values) > 1 else values[0])
            small += (b",", text) if number else (text,)
            size += len(text)
            if size > SLICE_BYTES:
                pieces.append(small[0] if len(small) == 1 else b"".join(small))
                small, size = [], 0
                yield
        small.append(b"]")
    pieces.append(b"".join(small) + b"}")
    return pieces


def _item_in_slices(group: Shape, item: Any) -> Generator[None, None, bytes]:
    """An item of a list as JSON. What is large in it is converted by itself; but for a record's fields."""
    row = item if isinstance(item, tuple) else (item,)
    texts: list[bytes] = []
    if "kind" in group.names or all(type(value) is not bytes or len(value) <= SLICE_BYTES for value in row):
        return _json(_list(group, [item])[0]).encode()
    for name, kind, value in zip(group.names, group.kinds, row, strict=True):
        large = type(value) is bytes and len(value) > SLICE_BYTES
        text = (yield from _bytes_in_slices(value)) if large else _json(_shown_value(name, kind, value)).encode()
        texts.append(b"%b:%b" % (_json(name).encode(), text) if isinstance(item, tuple) else text)
    return b"{%b}" % b",".join(texts) if isinstance(item, tuple) else texts[0]


def _bytes_in_slices(value: bytes) -> Generator[None, None, bytes]:
    """`_bytes` as JSON."""
    parts: list[bytes] = []
    try:
        text = value.decode()
    except UnicodeDecodeError:
        for at in range(0, len(value), BASE64_SLICE_BYTES):
            yield
            parts.append(b64encode(value[at : at + BASE64_SLICE_BYTES]))
        return b'{"base64":"%b"}' % b"".join(parts)
    for at in range(0, len(text), SLICE_BYTES):
        yield
        parts.append(_json(text[at : at + SLICE_BYTES])[1:-1].encode())
    return b'"%b"' % b"".join(parts)


def _bare(names: list[str], values: tuple[Any, ...], media: tuple[bytes, bytes]) -> Answer:
    """The last value as the body, the others as fields of the header."""
    version, fields = None, [media]
    for name, value in zip(names[:-1], values[:-1], strict=True):
        if name == "version":
            version = value
        else:
            fields.append((f"Flo-{name.replace('_', '-').title()}".encode(), _field(name, value)))
    if may_wait(names) and values[0] < COMPLETED:
        return Answer(b"", tuple(fields[1:]), version, 202)
    return Answer(values[-1], tuple(fields), version)


def may_wait(names: list[str]) -> bool:
    """Whether an answer of these names tells of a run, which may not have ended: 202, and empty."""
    return names == ["state", "output"]


def _field(name: str, value: Any) -> bytes:
    """A value as a field of the header. In bytes, % and all but printable ASCII is percent-encoded: a line's end would begin another
    field."""
    if isinstance(value, bytes):
        return quote(value, PRINTABLE).encode()
    return RUN_STATES[value].encode() if name == "state" else str(value).encode()


def _list(group: Shape, items: list[Any]) -> list[Any]:
    columns = list(zip(group.names, group.kinds, strict=True))
    if len(columns) == 1:
        ((name, kind),) = columns
        return [_shown_value(name, kind, item) for item in items]
    shown = [{name: _shown_value(name, kind, value) for (name, kind), value in zip(columns, item, strict=True)} for item in items]
    if "kind" in group.names:  # records of a stream: 1 is a list of fields (flo.proto.fields)
        at = group.names.index("payload")
        for made, item in zip(shown, items, strict=True):
            if made.pop("kind"):
                del made["payload"]
                pairs = fields.unpack_clipped(item[at])
                made["fields"] = [[_bytes(pairs[each]), _bytes(pairs[each + 1])] for each in range(0, len(pairs), 2)]
    return shown


def _shown_value(name: str, kind: str, value: Any) -> Any:
    if name == "cursor":
        return urlsafe_b64encode(value).rstrip(b"=").decode()
    if kind in ("name", "blob"):
        return _bytes(value)
    return str(from_wire(value)) if kind == "id" else value


def _bytes(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def name64(text: bytes) -> bytes:
    """The name in a parameter `name64`. Raises `BadRequest`."""
    return _from_base64(text, "name64", url=True)


def _from_base64(text: bytes, where: str, url: bool = False) -> bytes:
    try:
        if url:
            text, also = text + b"=" * (-len(text) % 4), b"-_"
        return b64decode(text, also if url else None, validate=True)
    except (Base64Error, ValueError):
        raise BadRequest(f"{where} is no base64{'url' if url else ''}") from None


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{where} is {_shown(data)}, which is not UTF-8") from None


def _shown_text(text: str) -> str:
    return _shown(text.encode("utf-8", "replace"))


def _shown(data: bytes) -> str:
    return repr(data[:SHOWN_BYTES].decode("utf-8", "replace"))
