"""Writes the parts of the manual pages that come from tables (the commands, the settings, the protocol's codes) and
from docs/floql.md.

`make docs` runs it; tests/test_docs.py checks that the pages are current, and mandoc checks their form.
"""

import argparse
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from flo.cli import GROUPS, build_parser
from flo.config import setting_rows
from flo.floql.query import STAGES
from flo.operations import OPERATIONS, OPTIONS
from flo.proto.binary import STATUS_NAMES

MAN = Path(__file__).parent.parent / "man"
DOCS = MAN.parent / "docs"
LINE_WIDTH = 78
LITERAL_WIDTH = 66  # of a block of code: it is indented
REMOTE_TITLE = "server"  # the group of flags shared by all commands that speak to a server
STATUS_TEXT = (
    "The payload is the operation's answer.",
    "The named object does not exist.",
    "The request is malformed, not understood, over a limit, or names a namespace that does not exist.",
    "A precondition failed: a version, a kind of value, a number out of range.",
    "The secret is missing or wrong.",
    "A limit is reached: retry later.",
    "A defect of the server, or damaged data on disk.",
    "Another node leads. A standalone server never answers this.",
)


SENTENCE_END = re.compile(r"(?<=[.?!]) +(?=[^`]*(?:`[^`]*`[^`]*)*$)")  # outside of `code`


def roff(text: str, code: bool = False) -> str:
    """Text for mdoc: each sentence starts a line, and no text is taken for an escape or a request by accident. `code`: what stands in
    backticks is bold."""
    lines: list[str] = []
    for sentence in SENTENCE_END.split(text.replace("\\", "\\e")):
        if code:  # name() would be taken for a function of C
            sentence = re.sub(r"`(.+?)`", r"\\fB\1\\fR", sentence).replace("()", "\\&()")
        lines += textwrap.wrap(sentence, LINE_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in lines)


def word(text: str) -> str:
    """One argument of a macro."""
    text = text.replace("\\", "\\e").replace('"', "\\(dq")
    # punctuation alone would be taken for a delimiter
    return f'"{text}"' if " " in text else text


def commands() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its parser: `kv get`, `ping`, `stream group read`, …"""
    parser = build_parser()
    for group in GROUPS:
        yield from _leaves(group, _choices(parser)[group])


def _leaves(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    inner = _choices(parser)
    if not inner:
        yield name, parser
    for word, sub in inner.items():
        if word != "ls":  # the second name of `list`
            yield from _leaves(f"{name} {word}", sub)


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _own(parser: argparse.ArgumentParser, remote: bool) -> Iterator[argparse.Action]:
    """A command's flags and arguments: those shared with the other commands that speak to a server if `remote`, else its own."""
    shared = [action for group in parser._action_groups if group.title == REMOTE_TITLE for action in group._group_actions]
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction) and (action in shared) == remote:
            yield action


def _flag(action: argparse.Action) -> str:
    names = " , ".join(f"Fl {name.removeprefix('-')}" for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} Ar {_metavar(action)}"


def _metavar(action: argparse.Action) -> str:
    if action.choices and not action.metavar:
        return word("|".join(map(str, action.choices)))
    return word(str(action.metavar or action.dest.upper()).lower())


def _summary(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = (action.help or "") % {"default": action.default, "prog": parser.prog}
    first = text.partition(" ")[0]
    if ":" not in first:  # "sync: …" and "host:port …" stay as they are
        text = text[:1].upper() + text[1:]
    return roff(text + ("" if text.endswith(".") else "."))


def remote_flags() -> str:
    """The flags of every command that speaks to a server."""
    parser = dict(commands())["ping"]
    lines = [".Bl -tag -width Ds"]
    for action in _own(parser, remote=True):
        lines += [f".It {_flag(action)}", _summary(action, parser)]
    return "\n".join([*lines, ".El"])


def command_list() -> str:
    """Every command with its own flags and arguments."""
    lines = [".Bl -tag -width Ds"]
    for name, parser in commands():
        arguments = ""
        flags = [action for action in _own(parser, remote=False) if action.option_strings]
        for action in _own(parser, remote=False):
            if not action.option_strings:
                shown = f"Ar {_metavar(action)}" + (" ..." if action.nargs == "+" else "")
                arguments += f" Oo {shown} Oc" if action.nargs == "?" else f" {shown}"
        lines += [f".It Cm {name}{' Oo Ar options Oc' if flags else ''}{arguments}", roff(str(parser.description or ""))]
        own = list(_own(parser, remote=False))
        if any(action.help for action in own):
            lines += [".Bl -tag -width Ds -compact"]
            for action in own:
                if action.help:
                    shown = _flag(action) if action.option_strings else f"Ar {_metavar(action)}"
                    lines += [f".It {shown}", _summary(action, parser)]
            lines += [".El"]
    return "\n".join([*lines, ".El"])


def settings() -> str:
    """Every setting, by section."""
    lines: list[str] = []
    section = ""
    for row in setting_rows():
        if row.section != section:
            if section:
                lines.append(".El")
            section = row.section
            lines += [f".Ss Section {section}", ".Bl -tag -width Ds"]
        default = f"Default: {row.shown}." if row.shown else "Default: none."
        live = ["Live."] if row.live else []
        lines += [
            f".It Cm {row.name}",
            roff(row.summary),
            default,
            *live,
            "In the environment:",
            f".Ev {row.environment} .",
        ]
    return "\n".join([*lines, ".El"])


def statuses() -> str:
    """Every status of the binary protocol."""
    lines = [".Bl -tag -width INTERNAL_ERROR"]
    for number, (name, text) in enumerate(zip(STATUS_NAMES, STATUS_TEXT, strict=True)):
        lines += [f".It {number} {name}", roff(text)]
    return "\n".join([*lines, ".El"])


def operations() -> str:
    """Every operation of the binary protocol."""
    lines = [".Bl -tag -width Ds"]
    for o in OPERATIONS:
        also = f" , {o.also:#05x}" if o.also else ""
        lines += [f".It Cm {o.name} {o.code:#04x}{also}", roff(o.summary)]
        rows = [
            ("Key", o.key),
            ("Value", f"{o.value}; {o.value_note}" if o.value_note else o.value),
            ("Options", ", ".join(o.options)),
            ("Answer", o.answer or "empty"),
            ("Refused as", o.refusals),
        ]
        for title, text in rows:
            if text:
                lines += [".br", roff(f"{title}: {text}" + ("" if text.endswith(".") else "."))]
    return "\n".join([*lines, ".El"])


def options() -> str:
    """Every option of the binary protocol."""
    lines = [".Bl -tag -width Ds"]
    for option in OPTIONS:
        lines += [f".It Cm {option.name} {option.code:#04x} , {option.form}", roff(option.summary[:1].upper() + option.summary[1:] + ".")]
    return "\n".join([*lines, ".El"])


def floql_stages() -> str:
    """Every stage with its arguments."""
    lines = [".Bl -tag -width percentile -compact"]
    for name, arguments in STAGES.items():
        taken = "; then ".join(argument.value for argument in arguments)
        lines += [f".It Cm {name}", roff(taken[:1].upper() + taken[1:] + ".") if taken else "No arguments."]
    return "\n".join([*lines, ".El"])


def floql_language() -> str:
    """docs/floql.md in mdoc."""
    return markdown((DOCS / "floql.md").read_text().partition("\n")[2])


def markdown(text: str) -> str:
    """What our documents use of Markdown, in mdoc: headings, paragraphs, lists, blocks of code, and code and bold text in a line."""
    lines: list[str] = []
    for number, part in enumerate(re.split(r"^```.*\n", text, flags=re.MULTILINE)):
        if number % 2:
            lines += [".Bd -literal -offset indent", *literal(part), ".Ed"]
            continue
        for block in filter(None, map(str.strip, part.split("\n\n"))):
            if block.startswith("#"):
                lines.append(f".Ss {block.lstrip('# ')}")
            elif block.startswith("- "):
                items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
                lines += [".Bl -bullet -width Ds", *(line for item in items for line in (".It", prose(item))), ".El"]
            else:
                lines += [*([".Pp"] if lines and not lines[-1].startswith(".Ss") else []), prose(block)]
    return "\n".join(lines)


def prose(text: str) -> str:
    """A paragraph; code and bold text are bold."""
    marked = re.sub(r"\*\*(.+?)\*\*", lambda m: m[1] if "`" in m[1] else f"`{m[1]}`", " ".join(text.split()))
    return roff(marked.replace("…", "..."), code=True)


def literal(text: str) -> Iterator[str]:
    """Lines of code as they are; the long ones are wrapped."""
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        for piece in textwrap.wrap(line, LITERAL_WIDTH, initial_indent=indent, subsequent_indent=indent + "    ") or [""]:
            escaped = piece.replace("\\", "\\e")
            yield "\\&" + escaped if escaped[:1] in (".", "'") else escaped


PARTS: dict[str, Callable[[], str]] = {
    "remote flags": remote_flags,
    "commands": command_list,
    "settings": settings,
    "statuses": statuses,
    "operations": operations,
    "options": options,
    "FloQL's stages": floql_stages,
    "docs/floql.md": floql_language,
}


def page(current: str) -> str:
    """A page with its generated parts renewed."""
    kept = {name: os.environ.pop(name) for name in [n for n in os.environ if n.startswith("FLO_")]}  # they change defaults
    try:
        return re.sub(
            r'(\.\\" begin: make docs \((.*?)\)\n).*?(\.\\" end\n)', lambda m: f"{m[1]}{PARTS[m[2]]()}\n{m[3]}", current, flags=re.DOTALL
        )
    finally:
        os.environ.update(kept)


if __name__ == "__main__":
    for path in sorted(MAN.glob("*.[1-9]")):
        path.write_text(page(path.read_text()))
