"""Programs and libraries written for Redis, as released: their environment, and the table of docs/redis.md that tells of them.

Each has a script, in tests/programs (Python) or tests/node, that does its main job against a server on the port it is given. The Python
ones have an environment of their own, `.tools/programs`, made from the list `programs` in pyproject.toml when it is needed.
"""

import ast
import fcntl
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.node import PACKAGES, need
from tests.support.processes import ROOT

HOME = ROOT / ".tools" / "programs"
SCRIPTS = ROOT / "tests" / "programs"
NODE_SCRIPTS = ROOT / "tests" / "node"
BEGIN = "<!-- pytest tests/system/test_redis_programs.py --programs-table -->\n"
END = "<!-- end of the programs -->\n"


class Program(NamedTuple):
    """One of them: its name on PyPI or npm, and its script."""

    package: str
    script: str

    @property
    def path(self) -> Path:
        """Where its script is."""
        return (NODE_SCRIPTS if self.script.endswith(".mjs") else SCRIPTS) / self.script

    @property
    def sentence(self) -> str:
        """What its script does, as its first line says."""
        text = self.path.read_text()
        if self.script.endswith(".mjs"):
            return text.split("\n", 1)[0].removeprefix("// ").partition(". ")[0]
        return ast.get_docstring(ast.parse(text)) or ""

    def version(self) -> str:
        """That is installed."""
        if self.script.endswith(".mjs"):
            return str(json.loads((PACKAGES / self.package / "package.json").read_text())["version"])
        ask = f"from importlib.metadata import version; print(version({self.package!r}))"
        return subprocess.run([HOME / "bin" / "python", "-c", ask], capture_output=True, text=True, check=True).stdout.strip()

    def command(self, port: int) -> list[str]:
        """What runs its script. Skips the test where something is missing."""
        if self.script.endswith(".mjs"):
            return [need(self.package), str(self.path), str(port)]
        return [str(python()), "-W", "ignore", str(self.path), str(port)]


PROGRAMS = (
    Program("redis", "redis_py.py"),
    Program("django", "django_cache.py"),
    Program("django-redis", "django_redis_cache.py"),
    Program("dogpile.cache", "dogpile_cache.py"),
    Program("aiocache", "aiocache_cache.py"),
    Program("cashews", "cashews_cache.py"),
    Program("beaker", "beaker_cache.py"),
    Program("fastapi-cache2", "fastapi_cache2.py"),
    Program("redlock-py", "redlock_py.py"),
    Program("aioredlock", "aioredlock_locks.py"),
    Program("celery", "celery_results.py"),
    Program("taskiq-redis", "taskiq_redis_tasks.py"),
    Program("faststream", "faststream_lists.py"),
    Program("walrus", "walrus_cache.py"),
    Program("@keyv/redis", "keyv.mjs"),
    Program("connect-redis", "connect_redis.mjs"),
)


def wanted() -> list[str]:
    """The list `programs` in pyproject.toml."""
    packages: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["programs"]
    return packages


def python() -> Path:
    """The environment's Python, which is made at its first use. Skips the test if that cannot be."""
    stamp, content = HOME / "installed", "\n".join(wanted())
    HOME.parent.mkdir(exist_ok=True)
    with (HOME.parent / "programs.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests may need it at once
        if not stamp.exists() or stamp.read_text() != content:
            for command in ([sys.executable, "-m", "venv", str(HOME)], [str(HOME / "bin" / "pip"), "install", "--quiet", *wanted()]):
                done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
                if done.returncode:
                    pytest.skip(f"the environment of the programs cannot be made: {done.stderr.strip()[-300:]}")
            stamp.write_text(content)
    return HOME / "bin" / "python"


def table(versions: dict[str, str]) -> str:
    """The rows of docs/redis.md."""
    lines = ["| program | version | what the test does with it |", "|---|---|---|"]
    lines += [f"| {each.package} | {versions[each.package]} | {each.sentence} |" for each in PROGRAMS]
    return "\n".join([*lines, ""])
