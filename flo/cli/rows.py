"""The commands that follow from the rows of the operations (flo.operations): their arguments, their request, and how it prints its answer.

A group's module may do something else with the arguments of a row than that: it passes its own action for it.
"""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flo.cli.output import fail, json_bytes, line, print_bytes, print_json, say, time_text
from flo.cli.remote import Action, argument, command, value_argument, whole
from flo.given import RANGES
from flo.operations import DECLARED, OPERATIONS
from flo.operations.declared import Declared
from flo.proto.row import Command, Option
from flo.proto.shapes import shape

if TYPE_CHECKING:
    from flo.calls import Message, StreamRecord
    from flo.client import Client


def add_rows(group: Any, words: str, actions: Mapping[str, Action] | None = None) -> dict[str, argparse.ArgumentParser]:
    """Add the commands of the rows whose words are `words` and one more; returns their parsers, by that word. `actions` has those that do
    something of their own."""
    added = {}
    for row in OPERATIONS:
        if row.command is not None and row.command.words.rpartition(" ")[0] == words:
            name = row.command.words.rpartition(" ")[2]
            action = (actions or {}).get(name) or _action(DECLARED[row.name], row.command)
            added[name] = command(group, name, action, row.command.summary)
            add_arguments(added[name], DECLARED[row.name], row.command)
    return added


# -- arguments -------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser, declared: Declared, shown: Command) -> None:
    """Add the arguments and flags of an operation."""
    flags = [option.name for name, option in declared.options.items() if name in shown.help]
    groups: dict[str, Any] = {}  # the group of each option that is one of a pair
    for pair in declared.row.either:
        if set(pair) <= set(flags):
            groups |= dict.fromkeys(pair, parser.add_mutually_exclusive_group())
    for name in declared.names:
        option, help = declared.options.get(name), shown.help.get(name)
        if option is None:
            parser.add_argument(name, help=help, **_form(declared, name))
        elif name in declared.required:
            parser.add_argument(name, help=help, **({"metavar": name.upper()} | _option_form(declared, option)))
        elif help is not None:
            if name == shown.last:
                left_out = argparse.SUPPRESS if option.form == "bytes" else None  # argparse would read the first one as a number
                form = {"metavar": name.upper()} | _option_form(declared, option)
                parser.add_argument(name, help=help, nargs="?", default=left_out, **form)
                if left_out is None:
                    continue
            to = groups.get(option.name, parser)
            to.add_argument("--" + name.replace("_", "-"), help=help, **_option_form(declared, option))


def _form(declared: Declared, name: str) -> dict[str, Any]:
    """How a key or a value is written."""
    if name == declared.key or not declared.row.layout:
        return {"metavar": name.upper()} | ({} if name in declared.required else {"nargs": "?"})
    layout = shape(declared.row.value)
    if not layout.is_list:
        return {"metavar": "on|off", "type": _on_or_off} if layout.kinds == ["bool"] else {"metavar": name.upper(), "type": int}
    kinds = [kind for _, kind in layout.columns]
    if kinds == ["id"]:
        return {"metavar": "ID", "nargs": "+", "type": stream_id_argument}
    return {"metavar": "SEQ[-ATTEMPT]", "nargs": "+", "type": receipt_argument}


def _option_form(declared: Declared, option: Option) -> dict[str, Any]:
    """How an option is written."""
    if option.form == "empty":
        return {"action": "store_true"}
    form: dict[str, Any] = {"metavar": option.metavar} if option.metavar else {}
    if option.form == "id":
        return form | {"type": stream_id_argument}
    if option.form == "bytes":
        return form
    if option.form == "rate":
        return form | {"type": rate_argument}
    low, high = RANGES[option.form]
    return form | {"type": whole(1, declared.row.limits[1]) if option.name == "limit" else whole(max(low, option.least), high)}


def _on_or_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is not on or off")
    return text == "on"


def receipt_argument(text: str) -> tuple[int, int]:
    """A receipt: SEQ or SEQ-ATTEMPT."""
    seq, dash, attempt = text.partition("-")
    if not seq.isdigit() or (dash and not attempt.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a receipt: SEQ or SEQ-ATTEMPT is expected")
    return int(seq), int(attempt or 0)


def rate_argument(text: str) -> tuple[int, int]:
    """A rate: STARTS/MS."""
    starts, slash, ms = text.partition("/")
    if not (starts.isascii() and starts.isdigit() and slash and ms.isascii() and ms.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate: STARTS/MS, such as 10/1000, is expected")
    return int(starts), int(ms)


def stream_id_argument(text: str) -> tuple[int, int]:
    """A stream's id: MS-SEQ, or MS for MS-0."""
    ms, dash, seq = text.partition("-")
    if not (ms.isascii() and ms.isdigit()) or (dash and not (seq.isascii() and seq.isdigit())) or max(int(ms), int(seq or 0)) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not an id: MS-SEQ is expected")
    return int(ms), int(seq or 0)


# -- the request -----------------------------------------------------------------------------------


def ask(client: "Client", args: argparse.Namespace, operation: str) -> Any:
    """The result of an operation with these arguments."""
    declared = DECLARED[operation]
    given: dict[str, Any] = {}
    for name in declared.names:
        value, option = getattr(args, name, None), declared.options.get(name)
        if value is None:
            continue
        if name == declared.key or (option is not None and option.form == "bytes"):
            given[name] = argument(value)
        elif option is None and not declared.row.layout:
            given[name] = value_argument(value)
        else:
            given[name] = value
    listed = given.pop(declared.listed, ())
    return client.run(declared.make(*(given.pop(name) for name in declared.positional if name in declared.required), *listed, **given))


def _action(declared: Declared, shown: Command) -> Action:
    named = next((name for name in declared.names if name != declared.key and name not in declared.options), "")

    def act(client: "Client", args: argparse.Namespace) -> int:
        result = ask(client, args, declared.row.name)
        _print(args, declared, shown, result)
        return unless_missing(getattr(args, named), result, named) if shown.prints == "count" and named else 0

    return act


# -- the answer ------------------------------------------------------------------------------------


def _print(args: argparse.Namespace, declared: Declared, shown: Command, result: Any) -> None:
    """Print a result: by its kind where `prints` is one of these, else as the value that it names."""
    named = {declared.key: json_bytes(argument(getattr(args, declared.key)))} if declared.key else {}
    if shown.prints == "messages":
        print_messages(args, result)
    elif shown.prints == "deliveries":
        print_records(args, result, grouped=True)
    elif shown.prints == "table":
        print_table(args, result)
    elif shown.prints == "fields":
        print_facts(args, named | (result._asdict() if args.format == "json" else {}), result[0], "{}")
    elif shown.prints == "done":
        given = [name for name, option in declared.options.items() if option.form == "bytes" and name in declared.required]
        print_facts(args, named | {name: json_bytes(argument(getattr(args, name))) for name in given}, None, shown.text or "OK")
    else:
        print_facts(args, named | {shown.prints: result if isinstance(result, int) else str(result)}, result, shown.text)


def print_facts(args: argparse.Namespace, facts: dict[str, Any], value: Any, text: str) -> None:
    """JSON has the facts, raw the value, unless it is None, and a person gets the text, with one thing in the singular."""
    if args.format == "json":
        print_json(facts)
    elif args.format == "text":
        shown = text.format(value, **vars(args))
        say(shown.removesuffix("s") if value == 1 else shown)
    elif value is not None:
        print(value)


def unless_missing(named: list[Any], count: int, nouns: str) -> int:
    """Exit 1, and say so, if fewer things were found than were named."""
    missing = len(named) - count
    return fail(f"nothing was found for {missing} of {len(named)} {nouns}") if missing else 0


def print_count(args: argparse.Namespace, count: int, text: str) -> None:
    """How many things of a queue or a stream there were."""
    key = "queue" if "queue" in args else "stream"
    print_facts(args, {key: json_bytes(argument(getattr(args, key))), "count": count}, count, text)


def print_table(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """Names and values, a line each."""
    if args.format == "json":
        print_json(result)
        return
    for name, value in result.items():
        say(f"{name}\t{value}" if args.format == "raw" else f"{name:<14}{value}")


def print_messages(args: argparse.Namespace, messages: "list[Message]") -> None:
    """A queue's messages."""
    if args.format == "json":
        print_json([message._asdict() | {"payload": json_bytes(message.payload)} for message in messages])
    for message in messages:
        if args.format == "raw":
            print_bytes(message.payload, b"\n")
        elif args.format == "text":
            print(f"{message.seq}-{message.attempts}\t{time_text(message.time)}\t{line(message.payload)}")


def print_records(args: argparse.Namespace, records: "list[StreamRecord]", grouped: bool = False) -> None:
    """A stream's records; if `grouped`, each with how often it was delivered."""
    if args.format == "json":
        print_json([_record_json(record, grouped) for record in records])
        return
    for record in records:
        print_record(args, record, grouped)


def _record_json(record: "StreamRecord", grouped: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": str(record.id)}
    if grouped:
        shown["deliveries"] = record.deliveries
    if record.kind == 0:
        return shown | {"payload": json_bytes(record.payload)}
    return shown | {"fields": [[json_bytes(name), json_bytes(value)] for name, value in record.fields]}


def print_record(args: argparse.Namespace, record: "StreamRecord", grouped: bool = False) -> None:
    """A record, on a line."""
    text = line(record.payload) if record.kind == 0 else " ".join(f"{line(name)}={line(value)}" for name, value in record.fields)
    if args.format == "json":
        print_json(_record_json(record, grouped))
    elif args.format == "raw":
        print_bytes(record.payload if record.kind == 0 else text.encode("utf-8", "replace"), b"\n")
    else:
        deliveries = f"\t{record.deliveries}" if grouped else ""
        print(f"{record.id}{deliveries}\t{text}", flush=True)
