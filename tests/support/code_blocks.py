"""The code blocks of the documents, and the sandbox that runs them: a server, and a directory with `flo` and `python3` in its path.

A block's fence says what it is; CONTRIBUTING.md has the table of kinds. The blocks of a page run one after the other in one sandbox, so
a block finds what the ones before it have made. A block that cannot run there has the line `<!-- not run: REASON -->` above it, and
is parsed only."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM
from typing import NamedTuple

import yaml

import flo
from flo.config import load
from tests.support.node import need
from tests.support.processes import ROOT, FloProcess, wait_until

SECONDS = 120  # of a command; pip takes ten
MARK = re.compile(r"<!-- not run: (.+) -->")
# Commands that work until they are told to stop: what they say when they are at work, and what a sandbox adds to them.
SERVING = {"flo server start": ("listening on ", " --port 0"), "flo worker run": (" started: ", "")}
# The documents' places on a machine, in the sandbox.
PLACES = {"/etc/flo": "etc", "/backup/": "backup-", "0.0.0.0": "127.0.0.1"}


class Block(NamedTuple):
    page: Path
    line: int
    kind: str
    text: str
    before: str
    """The paragraph above it."""
    reason: str
    """Why it is not run; empty if it is."""

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The page's code blocks: fenced, or indented by four spaces."""
    lines = [*page.read_text().splitlines(), ""]
    found: list[Block] = []
    paragraph: list[str] = []
    at = 0
    while at < len(lines):
        start = at
        fence = re.fullmatch(r"( *)```(\w*)", lines[at])
        if fence:
            at = lines.index(f"{fence[1]}```", at + 1)
            kind, body = fence[2] or "session", [line[len(fence[1]) :] for line in lines[start + 1 : at]]
        elif lines[at].startswith("    ") and not (at and lines[at - 1]):
            while lines[at + 1].startswith("    "):
                at += 1
            kind, body = "sh", [line[4:] for line in lines[start : at + 1]]
        else:
            paragraph = [*paragraph, lines[at]] if lines[at] and lines[at - 1] else [lines[at]] if lines[at] else paragraph
            at += 1
            continue
        mark = MARK.fullmatch(paragraph[-1].strip()) if paragraph else None
        found.append(Block(page, start + 1, kind, "\n".join(body) + "\n", " ".join(paragraph), mark[1] if mark else ""))
        at += 1
    return found


def commands(text: str) -> list[str]:
    """The commands of a block `sh`, one a line but for lines that are continued."""
    return re.findall(r"^(?:.*\\\n)*.*[^\\\n]$", text, re.MULTILINE)


def prints(text: str) -> list[str]:
    """What a program prints, as the comments behind its calls of print or console.log say."""
    return re.findall(r"^ *(?:print|console\.log)\(.*(?:  #|; //) (.*)$", text, re.MULTILINE)


class Sandbox:
    """See the module."""

    def __init__(self, directory: Path, server: FloProcess | None) -> None:
        """Without a server, the first `flo server start` of a block becomes the one that the blocks speak to."""
        self.data = str(server.directory) if server else ""
        self.port = server.port if server else 0
        self.directory = directory / "sandbox"
        self._serving: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._bin = directory / "bin"
        (self.directory / "etc").mkdir(parents=True)
        self._bin.mkdir()
        self._program("flo", f"{sys.executable} -m flo")
        self._program("python3", sys.executable)
        (directory / ".curlrc").write_text("silent\nshow-error\n")
        self.environment = os.environ | {
            "FLO_PORT": str(self.port),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
            "COLUMNS": "80",
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "CURL_HOME": str(directory),
        }

    def _program(self, name: str, command: str) -> None:
        path = self._bin / name
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)

    def run(self, block: Block) -> None:
        """Run or parse the block. Raises `AssertionError` if it does not do what it says."""
        if block.reason:
            PARSERS[block.kind](block.text)
        else:
            RUNNERS[block.kind](self, block)

    def here(self, text: str) -> str:
        """The text with this sandbox's port and places."""
        text = re.sub(r"(?<=[: ]|=)9000\b", str(self.port), text)
        text = text.replace("/var/lib/flo", self.data)
        for place, ours in PLACES.items():
            text = text.replace(place, ours if place[0] != "/" else str(self.directory / ours))
        return text

    # -- shells ------------------------------------------------------------------------------------

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end."""
        return subprocess.run(
            ["sh", "-c", self.here(command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            cwd=self.directory,
            timeout=SECONDS,
        )

    def run_commands(self, block: Block) -> None:
        """Each must succeed: `curl` and `redis-cli` too, which otherwise end well whatever the server says."""
        for command in commands(block.text):
            strict = re.sub(r"\bcurl ", "curl --fail ", re.sub(r"\bredis-cli ", "redis-cli -e ", command))
            serving = next((name for name in SERVING if name in command), None)
            if serving is not None:
                self.serve(command.partition("  #")[0], *SERVING[serving])
                continue
            done = self.shell(strict)
            assert done.returncode == 0, f"{block.name}: {command}\n{done.stdout}"

    def serve(self, command: str, said: str, added: str) -> None:
        """Start a command that works until it is told, and wait until it says that it does. `end` ends it."""
        output = self.directory / f"serving-{len(self._serving)}"
        process = self._start(command + added, output)
        self._serving.append((command, process))
        wait_until(lambda: said in output.read_text() or process.poll() is not None, f"the start of {command}")
        assert process.poll() is None, output.read_text()
        port = re.search(r" is listening on \S+:(\d+)", output.read_text())
        if port and not self.port:
            self.port = int(port[1])
            self.environment["FLO_PORT"] = port[1]

    def _start(self, command: str, output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(
                ["sh", "-c", f"exec {self.here(command)}"],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self.environment,
            )

    def end(self) -> None:
        """End what serves, the last one first, by SIGTERM. Each must end well."""
        try:
            for command, process in reversed(self._serving):
                process.terminate()
                assert process.wait(SECONDS) == 0, command
        finally:
            for _, process in self._serving:
                process.kill()
                process.wait()

    def run_session(self, text: str, name: str) -> int:
        """Run the lines that begin with `$ `, and compare what they print with the lines behind; returns how many there were."""
        parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
        assert parts[0] == "" and len(parts) > 1, f"{name}: a block of no kind is a session, and begins with `$ `"
        for part in parts[1:]:
            command, _, expected = part.partition("\n")
            if expected.startswith("127.0.0.1:9000> "):
                self.run_redis_cli(expected)
                continue
            output = self.shell(command).stdout
            assert output.rstrip("\n") == self.here(expected).rstrip("\n"), f"{name}: {command}"
        return len(parts) - 1

    def run_redis_cli(self, text: str) -> None:
        """A session within redis-cli: what stands behind its prompts is typed."""
        for part in re.split(r"^127\.0\.0\.1:9000> ", text, flags=re.MULTILINE)[1:]:
            typed, _, expected = part.partition("\n")
            command = ["redis-cli", "--no-raw", "-p", str(self.port)]
            shown = subprocess.run(command, input=f"{typed}\n", capture_output=True, text=True, check=True, timeout=SECONDS).stdout
            assert shown.strip() == expected.strip(), typed

    # -- programs ----------------------------------------------------------------------------------

    def run_python(self, block: Block) -> None:
        """A program that ends; or a worker, which is told to. Kept as a file if the paragraph above names one."""
        script = self.here(block.text)
        for name in re.findall(r"`(\w+\.py)`", block.before):
            (self.directory / name).write_text(script)
        if "while True:" in script and "break" not in script:
            self.run_workers(script)
            return
        expected = prints(block.text)
        if "worker.run(" in script:
            (self.directory / "worker.py").write_text(script)
            assert self.until("python3 worker.py", lambda output: output.splitlines() == expected).splitlines() == expected
            return
        done = subprocess.run(
            ["python3", "-c", script], capture_output=True, text=True, timeout=SECONDS, cwd=self.directory, env=self.environment
        )
        raises = re.search(r"# raises (\S+)", script)
        assert done.returncode == (1 if raises else 0) and (not raises or raises[1] in done.stderr), f"{block.name}: {done.stderr}"
        assert done.stdout.splitlines() == expected, block.name

    def until(self, command: str, enough: Callable[[str], bool], ends: tuple[int, ...] = (0,)) -> str:
        """Run a command that works until it is told: SIGTERM, when its output is enough. It must end with one of these statuses. Returns
        the output."""
        output = self.directory / "output"
        process = self._start(command, output)
        try:
            wait_until(lambda: enough(output.read_text()) or process.poll() is not None, f"the output of {command}")
            process.terminate()
            assert process.wait(SECONDS) in ends, f"{command}\n{output.read_text()}"
        finally:
            process.kill()
            process.wait()
        return output.read_text()

    def run_workers(self, script: str) -> None:
        """Run a worker until it has printed what it is to print and waits for more; then start it once more, as a second one."""
        workers: list[subprocess.Popen[bytes]] = []
        try:
            with flo.Client(f"flo://127.0.0.1:{self.port}") as client:
                for number in (1, 2):
                    output = self.directory / f"worker-{number}"
                    with output.open("wb") as file:
                        workers.append(
                            subprocess.Popen(
                                ["python3", "-c", script],
                                stdout=file,
                                stderr=subprocess.STDOUT,
                                cwd=self.directory,
                                env=self.environment,
                            )
                        )
                    wait_until(
                        lambda: client.status()["waiting"] == number or any(worker.poll() is not None for worker in workers),  # noqa: B023
                        "a worker that waits for work",
                    )
                    assert workers[-1].poll() is None, output.read_text()
                    assert output.read_text().splitlines() == (prints(script) if number == 1 else [])
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()

    def run_js(self, block: Block) -> None:
        """A module for Node, which imports the server's own, until it has printed what it is to print. Node 20 needs the flag."""
        for name in ("flo.js", "operations.js"):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/dashboard/{name}", timeout=SECONDS) as answer:
                (self.directory / name).write_bytes(answer.read())
        (self.directory / "package.json").write_text('{"type": "module"}')
        (self.directory / "block.js").write_text(self.here(block.text).replace(f"http://localhost:{self.port}/dashboard/", "./"))
        command = f"{need()} --experimental-websocket --no-warnings block.js"
        expected = prints(block.text)
        assert self.until(command, lambda output: output.splitlines() == expected, (0, -SIGTERM)).splitlines() == expected

    def run_toml(self, block: Block) -> None:
        """A flo.toml: every setting exists and has a value that it may have."""
        path = self.directory / "flo.toml"
        path.write_text(self.here(block.text))
        load(str(path), {}, {})
        path.unlink()


def parse_shell(text: str) -> None:
    """The shell can read it."""
    subprocess.run(["sh", "-n"], input=text, text=True, check=True, timeout=SECONDS)


def parse_session(text: str) -> None:
    """The shell can read its commands."""
    for command in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
        parse_shell(command)


def parse_ini(text: str) -> None:
    """A unit of systemd."""
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)


RUNNERS: dict[str, Callable[[Sandbox, Block], object]] = {
    "sh": Sandbox.run_commands,
    "session": lambda sandbox, block: sandbox.run_session(block.text, block.name),
    "python": Sandbox.run_python,
    "js": Sandbox.run_js,
    "toml": Sandbox.run_toml,
}
PARSERS: dict[str, Callable[[str], object]] = {
    "sh": parse_shell,
    "session": parse_session,
    "python": ast.parse,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "ini": parse_ini,
}
# text is for people: output, grammars, drawings. The others are blocks of one page, which has a test of its own.
OTHERS = {"text", "hex", "floql", "data", "error"}
TOOLS = {"curl": "curl ", "redis-cli": "redis-cli "}


def missing_tool(page: Path) -> str:
    """A tool that the page's blocks use and that is not installed; empty if there is none."""
    text = "".join(block.text for block in blocks(page) if block.kind in ("sh", "session") and not block.reason)
    return next((tool for tool, used in TOOLS.items() if used in text and shutil.which(tool) is None), "")
