"""The scripts of `flo completion`: the table of all commands, and how bash, zsh and fish are told it.

The function that leads a line through the table is the same in the three shells: it begins at the entry of `flo` itself; a word that is a
command there leads to that command's entry; a flag with a value takes the next word; every other word is an argument.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

from flo.cli import SERVER_FLAGS
from flo.cli.remote import remote_flags

LIVE = {"QUEUE": "queues", "STREAM": "streams", "ACTION": "actions"}  # by an argument's metavar: the names it takes
FILES = ("FILE", "DIR", "OUT")


class Word(NamedTuple):
    """A word that can be typed, and its description. For a flag with a value, and for an argument, `value` says what that is: `file`,
    `:queues` (names of a server), `|a|b` (one of these) or `any`; empty for a flag without a value."""

    text: str
    help: str
    value: str = ""


class Entry(NamedTuple):
    """What can be typed behind a command: commands, flags, and what the arguments are. If `repeats`, the last of these comes again."""

    path: str
    commands: list[Word]
    flags: list[Word]
    arguments: list[str]
    repeats: bool


def table(parser: argparse.ArgumentParser, path: str = "") -> Iterator[Entry]:
    """The entries of a parser and of the commands below it, by the words of each command."""
    inner: dict[str, argparse.ArgumentParser] = {}
    commands: list[Word] = []
    flags: list[Word] = []
    arguments: list[str] = []
    repeats = False
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner = dict(action.choices)
            help_of = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands = [Word(name, _first_sentence(help_of.get(name, "the same as list"))) for name in inner]
        elif action.option_strings:
            text = _first_sentence((action.help or "") % {"default": action.default, "prog": parser.prog})
            flags += [Word(name, text, "" if action.nargs == 0 else _value(action)) for name in action.option_strings]
        else:
            arguments.append(_value(action))
            repeats = action.nargs in ("+", "*")
    if not path:  # a server's flags may stand in front of the command too
        flags += [word for word in next(table(remote_flags(), "-")).flags if word.text in SERVER_FLAGS]
    yield Entry(path, commands, flags, arguments, repeats)
    for name, sub in inner.items():
        yield from table(sub, f"{path} {name}".strip())


def _value(action: argparse.Action) -> str:
    metavar = str(action.metavar or "")
    if action.choices:
        return "".join(f"|{choice}" for choice in action.choices)
    if metavar in FILES:
        return "file"
    if metavar in LIVE:
        return f":{LIVE[metavar]}"
    return f"|{metavar}" if "|" in metavar and metavar.replace("|", "").isalnum() else "any"


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


# -- bash ------------------------------------------------------------------------------------------

BASH = r"""
# The words that COMP_LINE has are read anew: bash has split them at : and =, which names may hold.
_flo() {
    local program=$1 line=${COMP_LINE:0:COMP_POINT} path= flag= rest= live= name= quoted= commands flags values arguments repeats
    local -a words=() specs=() candidates=()
    read -a words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local last=$((${#words[@]} - 1)) at=0 i word spec=
    local current=${words[last]}
    _flo_table ""
    for ((i = 1; i < last; i++)); do
        word=${words[i]}
        flag=
        if [[ $word == -?* ]]; then
            [[ " $values" == *" $word="* ]] && flag=$word && ((i++))
        elif [[ " $commands " == *" $word "* ]]; then
            path="${path:+$path }$word"
            _flo_table "$path"
        else
            ((at++))
        fi
    done
    # a flag whose value is the current word
    ((i == last)) && flag=
    [[ $current == --*=* ]] && flag=${current%%=*} && current=${current#*=}
    if [[ $flag ]]; then
        spec=${values##*" $flag="}
        [[ " $values" == *" $flag="* ]] && spec=${spec%% *} || spec=any
    elif [[ $current == -* ]]; then
        candidates=($flags)
    elif [[ $commands ]]; then
        candidates=($commands)
    else
        specs=($arguments)
        ((at >= ${#specs[@]} && repeats)) && at=$((${#specs[@]} - 1))
        ((at < ${#specs[@]})) && spec=${specs[at]}
    fi
    COMPREPLY=()
    case $spec in
        file) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current")); return ;;
        :*)
            while IFS= read -r name; do
                candidates+=("$name")
            done < <("$program" completion names "${spec#:}" -- "${words[@]:1:last-1}" 2>/dev/null)
            ;;
        "|"*) IFS='|' read -ra candidates <<<"${spec#|}" ;;
    esac
    # readline replaces what is behind the last : or = only
    rest=${current##*[:=]}
    [[ $COMP_WORDBREAKS == *:* ]] || rest=$current
    rest=${current%"$rest"}
    for name in "${candidates[@]}"; do
        if [[ $name == "$current"* ]]; then
            printf -v quoted %q "${name#"$rest"}"
            COMPREPLY+=("$quoted")
        fi
    done
}
complete -F _flo flo
"""


def bash(entries: list[Entry]) -> str:
    """The script for bash."""
    lines = [HEAD.format("source <(flo completion bash)"), "_flo_table() {", "    case $1 in"]
    for entry in entries:
        commands = " ".join(word.text for word in entry.commands)
        flags = " ".join(word.text for word in entry.flags)
        values = "".join(f" {word.text}={word.value}" for word in entry.flags if word.value)
        lines.append(
            f"        {_quoted(entry.path)}) commands={_quoted(commands)} flags={_quoted(flags)} values={_quoted(values + ' ')} "
            f"arguments={_quoted(' '.join(entry.arguments))} repeats={int(entry.repeats)} ;;"
        )
    return "\n".join([*lines, "    esac", "}"]) + BASH


# -- zsh -------------------------------------------------------------------------------------------

ZSH = r"""
_flo() {
    local current=${(Q)words[CURRENT]} path_of= flag= spec= word= values= repeats=0 at=0 i
    local -a commands flags arguments line
    line=("${(@Q)words}")
    _flo_table ""
    for ((i = 2; i < CURRENT; i++)); do
        word=$line[i]
        flag=
        if [[ $word == -?* ]]; then
            [[ $values == *" $word="* ]] && flag=$word && ((i++))
        elif ((${commands[(I)$word:*]})); then
            path_of="${path_of:+$path_of }$word"
            _flo_table "$path_of"
        else
            ((at++))
        fi
    done
    ((i == CURRENT)) && flag=
    if [[ $current == --*=* ]]; then
        flag=${current%%=*}
        compset -P '*='
    fi
    if [[ -n $flag ]]; then
        spec=any
        [[ $values == *" $flag="* ]] && spec=${${values##* $flag=}%% *}
    elif [[ $current == -* ]]; then
        _describe -o flag flags
        return
    elif ((${#commands})); then
        _describe command commands
        return
    else
        ((at >= ${#arguments} && repeats)) && at=$((${#arguments} - 1))
        spec=$arguments[at+1]
    fi
    case $spec in
        file) _files ;;
        :*) compadd -- "${(@f)$("$line[1]" completion names ${spec#:} -- "${(@)line[2,CURRENT-1]}" 2>/dev/null)}" ;;
        "|"*) compadd -- "${(@s:|:)${spec#|}}" ;;
    esac
}
if [[ $funcstack[1] == _flo ]]; then _flo "$@"; else compdef _flo flo; fi
"""


def zsh(entries: list[Entry]) -> str:
    """The script for zsh."""
    lines = ["#compdef flo", HEAD.format("source <(flo completion zsh), behind compinit"), "_flo_table() {", "    case $1 in"]
    for entry in entries:
        commands = " ".join(_quoted(f"{word.text}:{word.help}") for word in entry.commands)
        flags = " ".join(_quoted(f"{word.text}:{word.help}") for word in entry.flags)
        values = "".join(f" {word.text}={word.value}" for word in entry.flags if word.value)
        lines.append(
            f"        {_quoted(entry.path)}) commands=({commands}) flags=({flags}) values={_quoted(values + ' ')} "
            f"arguments=({' '.join(map(_quoted, entry.arguments))}) repeats={int(entry.repeats)} ;;"
        )
    return "\n".join([*lines, "    esac", "}"]) + ZSH


# -- fish ------------------------------------------------------------------------------------------

FISH = r"""
function __flo_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l path
    set -l flag
    set -l at 0
    set -l spec
    __flo_table ""
    for word in $words[2..]
        if test -n "$flag"
            set flag # this word was its value
        else if string match -q -- '-?*' $word
            contains -- $word (string replace -r '=.*' '' -- $__flo_values); and set flag $word
        else if contains -- $word (string split -f 1 \t -- $__flo_commands)
            set -a path $word
            __flo_table "$path"
        else
            set at (math $at + 1)
        end
    end
    set -l before ""
    if string match -q -- '--*=*' $current
        set flag (string replace -r '=.*' '' -- $current)
        set before $flag=
    end
    if test -n "$flag"
        set spec (string replace -f -- "$flag=" '' $__flo_values)
    else if string match -q -- '-*' $current
        string join -- \n $__flo_flags
    else if set -q __flo_commands[1]
        string join -- \n $__flo_commands
    else
        if test $at -ge (count $__flo_arguments) -a $__flo_repeats = 1
            set at (math (count $__flo_arguments) - 1)
        end
        set spec $__flo_arguments[(math $at + 1)]
    end
    switch "$spec"
        case file
            __fish_complete_path (string replace -- "$before" '' $current)
        case ':*'
            string join -- \n $before(command $words[1] completion names (string sub -s 2 -- $spec) -- $words[2..] 2>/dev/null)
        case '|*'
            string join -- \n $before(string split -n '|' -- $spec)
    end
end
complete -c flo -e
complete -c flo -f -a '(__flo_complete)'
"""


def fish(entries: list[Entry]) -> str:
    """The script for fish."""
    lines = [HEAD.format("flo completion fish > ~/.config/fish/completions/flo.fish"), "function __flo_table", "    switch $argv[1]"]
    for entry in entries:
        rows = {
            "commands": [f"{word.text}\t{word.help}" for word in entry.commands],
            "flags": [f"{word.text}\t{word.help}" for word in entry.flags],
            "values": [f"{word.text}={word.value}" for word in entry.flags if word.value],
            "arguments": entry.arguments,
            "repeats": [str(int(entry.repeats))],
        }
        lines.append(f"        case {_fish_quoted(entry.path)}")
        lines += [f"            set -g __flo_{name} {' '.join(map(_fish_quoted, words))}".rstrip() for name, words in rows.items()]
    return "\n".join([*lines, "    end", "end"]) + FISH


HEAD = "# Made by Flo: {}"
SCRIPTS: dict[str, Callable[[list[Entry]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _quoted(text: str) -> str:
    """One word for bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
