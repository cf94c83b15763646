"""`flo completion`: the scripts in real shells. `flo` is a stub there that prints its arguments, but for `flo completion …` itself; so a
line that is completed with TAB shows what the shell has understood."""

import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flo
from flo.cli import build_parser
from flo.cli.completion_scripts import table
from tests.support.processes import ROOT, FloProcess

SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is missing: apt-get install {shell}"))
    for shell in ("bash", "zsh", "fish")
]
STUB = """#!{python} -S
import json, os, sys
if sys.argv[1:2] == ["completion"]:
    os.execv({python!r}, [{python!r}, "-m", "flo", *sys.argv[1:]])
print("RAN" + json.dumps(sys.argv[1:]))
"""
ANSWER_SECONDS = 30


class Shells:
    """A directory with the stub and the scripts, and a server with names."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        stub = directory / "flo"
        stub.write_text(STUB.format(python=sys.executable))
        stub.chmod(0o755)
        self.environment = {
            "HOME": str(directory),
            "XDG_CONFIG_HOME": str(directory),
            "XDG_DATA_HOME": str(directory),
            "PATH": f"{directory}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "FLO_PORT": str(port),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
        }
        for shell in ("bash", "zsh", "fish"):
            text = subprocess.run([sys.executable, "-m", "flo", "completion", shell], capture_output=True, check=True, cwd=ROOT).stdout
            (directory / f"flo.{shell}").write_bytes(text)

    def candidates(self, shell: str, line: str) -> list[str]:
        """What the shell offers for the line, in order."""
        script = self.directory / f"flo.{shell}"
        if shell == "bash":
            ask = f'source {script}; COMP_POINT=${{#COMP_LINE}}; _flo flo; printf "%s\\n" "${{COMPREPLY[@]}}"'
            words = ["bash", "--norc", "-c", ask]
        elif shell == "fish":
            words = ["fish", "--no-config", "-c", f'source {script}; complete -C "$COMP_LINE"']
        else:  # compadd is what everything ends in; the real one needs the line editor
            ask = (
                f"autoload -U compinit; compinit -u -d {self.directory}/dump; source {script}; words=(${{(Q)${{(z)COMP_LINE}}}}); "
                '[[ $COMP_LINE == *" " ]] && words+=(""); CURRENT=$#words; compset() { : }; '
                '_describe() { local -a all; all=("${(@P)@[-1]}"); print -rl -- "${(@)all%%:*}"; }; _files() { print -rl -- *(N); }; '
                'compadd() { print -rl -- "${@[2,-1]}"; }; _flo'
            )
            words = ["zsh", "-f", "-c", ask]
        done = subprocess.run(
            words, capture_output=True, text=True, env=self.environment | {"COMP_LINE": line}, cwd=self.directory, timeout=ANSWER_SECONDS
        )
        assert not done.stderr, done
        begun = line.rpartition(" ")[2].rpartition("=")[2]  # zsh itself leaves out what does not begin so
        found = [text.partition("\t")[0] for text in done.stdout.splitlines() if text]
        return [text for text in found if shell != "zsh" or text.startswith(begun)]

    def typed(self, shell: str, keys: str) -> list[str]:
        """The arguments that `flo` gets when a person types this line at a terminal; a tab is the key."""
        rc = self.directory / f"rc.{shell}"
        init = {
            "bash": f"PS1='READY> '\nbind 'set bell-style none'\nsource {self.directory}/flo.bash\n",
            "zsh": f"PS1='READY> '\nautoload -U compinit\ncompinit -u -d {self.directory}/dump\nsource {self.directory}/flo.zsh\n",
        }[shell]
        rc.write_text(init)
        (self.directory / ".zshrc").write_text(init)
        words = ["bash", "--noprofile", "--rcfile", str(rc), "-i"] if shell == "bash" else ["zsh", "-i"]
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(self.directory)
            os.execvpe(words[0], words, self.environment | {"ZDOTDIR": str(self.directory)})
        try:
            _read(master, "READY> ")
            os.write(master, keys.encode())
            shown = _read(master, "RAN", "\n")
            return list(json.loads(shown.rpartition("RAN")[2].splitlines()[0]))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(master)


def _read(master: int, *wanted: str) -> str:
    """What the terminal shows, until it has shown these texts one behind the other."""
    shown, deadline = "", time.monotonic() + ANSWER_SECONDS
    while not re.search(".*".join(map(re.escape, wanted)), shown, re.DOTALL):
        assert select.select([master], [], [], max(deadline - time.monotonic(), 0))[0], shown
        shown += os.read(master, 4096).decode("utf-8", "replace")
    return shown


def eventually(ask: Callable[[], list[str]], expected: list[str]) -> list[str]:
    """What `ask` gives, asked a few times more if it is not this: a server of a busy machine may take over 200 ms to answer."""
    for _ in range(4):
        found = ask()
        if found == expected:
            break
    return found


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shells]:
    with FloProcess(tmp_path_factory.mktemp("completion") / "data") as server:
        with flo.Client(f"flo://127.0.0.1:{server.port}") as client:
            for name in ("jobs", "mail:in", "mail:out", "my queue", "zebra\nend"):
                client.queues.enqueue(name, "")
            client.streams.append("events", "")
            client.actions.register("send-mail")
            client.namespaces.create("other")
        with flo.Client(f"flo://127.0.0.1:{server.port}/other") as client:
            client.queues.enqueue("elsewhere", "")
        yield Shells(tmp_path_factory.mktemp("shells"), server.port)


COMMANDS = [
    ("flo que", ["queue"]),
    ("flo kv ge", ["get"]),
    ("flo stream group p", ["pending"]),
    ("flo --port 9001 queue pa", ["pause"]),
    ("flo -n mine --port=9001 queue pa", ["pause"]),
    ("flo kv set --ttl get k", []),
    ("flo kv get --fo", ["--format"]),
    ("flo kv get --format ", ["json", "raw", "text"]),
    ("flo server start --durability ", ["async", "ephemeral", "sync"]),
    ("flo import --hashes ", ["json"]),
    ("flo queue pause q ", ["off", "on"]),
    ("flo queue pause q on ", []),
    ("flo completion z", ["zsh"]),
    ("flo kv ls --li", ["--limit"]),
    ("flo action runs --state fa", ["failed"]),
]
LIVE = [
    ("flo queue peek j", ["jobs"]),
    ("flo queue peek z", []),  # what holds a line end cannot be typed
    ("flo stream read ", ["events"]),
    ("flo action invoke ", ["send-mail"]),
    ("flo action runs --state failed s", ["send-mail"]),
    ("flo queue peek -n other ", ["elsewhere"]),
    ("flo -n other queue peek ", ["elsewhere"]),
    ("flo queue peek --port 1 ", []),
    ("flo queue peek --secret-file /nowhere ", []),
]


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_flags_and_choices(shells: Shells, shell: str) -> None:
    for line, expected in COMMANDS:
        assert sorted(shells.candidates(shell, line)) == expected, line


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_names_come_from_the_server(shells: Shells, shell: str) -> None:
    for line, expected in LIVE:
        assert eventually(lambda: shells.candidates(shell, line), expected) == expected, line  # noqa: B023


@pytest.mark.parametrize("shell", SHELLS)
def test_files(shells: Shells, shell: str) -> None:
    assert "flo.bash" in [Path(text).name for text in shells.candidates(shell, "flo check flo.b")]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_can_be_reached(shells: Shells, shell: str) -> None:
    """The first flag of each command's own, through all of its words."""
    script = (shells.directory / f"flo.{shell}").read_text()
    entries = list(table(build_parser()))
    assert len(entries) > 80
    for entry in entries:
        assert f"'{entry.path}'" in script, entry.path
    last = max((entry for entry in entries if not entry.commands), key=lambda entry: len(entry.path))
    assert shells.candidates(shell, f"flo {last.path} {last.flags[-1].text}") == [last.flags[-1].text]


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS[:2])
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("flo que\tpe\tjo\t\r", ["queue", "peek", "jobs"]),
        ("flo queue peek my\t\r", ["queue", "peek", "my queue"]),
        ("flo queue peek mail:i\t\r", ["queue", "peek", "mail:in"]),
        ("flo kv get --format=j\t\r", ["kv", "get", "--format=json"]),
        ("flo kv get --form\tj\tk\r", ["kv", "get", "--format", "json", "k"]),
        ("flo check flo.b\t\r", ["check", "flo.bash"]),
    ],
)
def test_at_a_terminal(shells: Shells, shell: str, keys: str, expected: list[str]) -> None:
    assert eventually(lambda: shells.typed(shell, keys), expected) == expected


def test_a_server_that_does_not_answer_is_not_waited_for(shells: Shells) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words = [sys.executable, "-m", "flo", "completion", "names", "queues", "--", "--port", str(silent.getsockname()[1])]
        began = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=ANSWER_SECONDS)
        took = time.monotonic() - began
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert took < 10
