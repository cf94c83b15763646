"""The shape of the code: what may import what, standard library only, and the connection's table of transitions."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from flo import conn
from tests.support.processes import ROOT

pytestmark = pytest.mark.computes

FUNCTION_LINES_MAX = 100

# DESIGN.md, "The rooms". A room may import the rooms that it names here, and `limits`.
ARROWS = {
    "limits": set[str](),
    "errors": set[str](),
    "forks": {"errors"},
    "given": {"errors"},
    "series": {"errors"},
    "cron": {"errors"},
    "operations": {"proto", "errors", "given"},
    "calls": {"operations"},
    "client": {"proto", "operations", "errors", "calls", "given", "forks"},
    "worker": {"client", "calls", "engine", "operations", "proto", "errors", "given", "forks"},
    "testing": {"server", "config", "operator_log", "client", "errors"},
    "aio": {"client"},
    "operator_log": set[str](),
    "proto": {"errors", "series"},
    "ual": {"errors"},
    "store": {"errors"},
    "floql": {"errors"},
    "influxql": {"floql", "errors"},
    "engine": {"store", "ual", "floql", "cron", "errors", "given", "forks", "series"},
    "endpoint": set[str](),
    "config": {"ual", "errors", "endpoint"},
    "waits": set[str](),
    "loop": {"waits"},
    "transport": set[str](),
    "websocket": {"transport", "proto"},
    "tls": {"transport", "config", "errors"},
    "unsent": set[str](),
    "session": set[str](),
    "forward": {"endpoint", "loop", "session", "unsent"},
    "conn": {"loop", "session", "transport", "tls", "unsent", "websocket"},
    "compactor": {"ual", "errors"},
    "control": {"errors"},
    "commands": {
        *("series", "proto", "operations", "engine", "floql", "errors", "config", "session", "store", "ual", "waits", "operator_log"),
        "websocket",
        "influxql",
        "forward",
    },
    "cluster": {"errors", "loop", "engine", "ual", "config", "endpoint", "client", "waits", "unsent"},
    "server": {
        *(
            "cluster",
            "endpoint",
            "forward",
            "loop",
            "transport",
            "tls",
            "conn",
            "compactor",
            "control",
            "commands",
            "proto",
            "engine",
            "config",
            "errors",
            "operator_log",
            "ual",
        ),
    },
    "systemd": {"errors"},
    "importer": {"client", "errors"},
    "cli": {
        *("systemd", "server", "control", "client", "calls", "operations", "proto", "given", "engine", "ual", "config", "errors"),
        *("operator_log", "series", "importer", "worker", "cluster"),
    },
    "contrib": {"client", "calls", "errors", "forks"},
    "__main__": {"cli"},
    "__init__": {"engine", "client", "worker", "aio"},
}
# The exceptions inside `commands`: COMMAND, KEYS, PUBLISH match patterns, GET answers with an entry's bytes, INFO shows the log's modes
# and a key's cost, and XINFO what a stream and a group are.
LAYOUT_READERS = {
    "command_info.py": {"store"},
    "channels.py": {"store"},
    "pubsub.py": {"store"},
    "scripts.py": {"store"},
    "keys.py": {"store"},
    "strings.py": {"store"},
    "kv.py": {"store"},
    "admin.py": {"store", "ual"},
    "streams.py": {"store"},
    "groups.py": {"store"},
    "stream.py": {"store"},
}
# Modules that only the program imports which they are for.
GUESTS = {"testing/plugin.py": "pytest"}


@cache
def parsed(path: Path) -> ast.Module:
    """A file, read once for all of the tests."""
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    """The modules a file imports, by full name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            if node.module == "flo":
                yield from (f"flo.{alias.name}" for alias in node.names)
            else:
                yield node.module


def sources() -> list[Path]:
    return sorted((ROOT / "flo").rglob("*.py"))


def test_runtime_code_imports_the_standard_library_only() -> None:
    for path in sources():
        for name in imports(path):
            top = name.split(".")[0]
            served = path.parent.name == "contrib" and top == path.stem.split("_")[0]  # the one framework that the module serves
            allowed = GUESTS.get(path.relative_to(ROOT / "flo").as_posix())
            assert top in ("flo", allowed) or top in sys.stdlib_module_names or served, f"{path} imports {name}"


def test_arrows_point_one_way() -> None:
    for path in sources():
        parts = path.relative_to(ROOT / "flo").parts
        room = parts[0].removesuffix(".py")
        allowed = ARROWS[room] | {room, "limits"}
        if room == "commands":
            allowed = allowed - {"store", "ual"} | LAYOUT_READERS.get(parts[-1], set())
        for name in imports(path):
            target = name.split(".")
            if target[0] == "flo" and len(target) > 1 and target[1] in ARROWS:
                assert target[1] in allowed, f"{path} imports {name}: an arrow that points back"


# Imports for types alone that close a circle: each of these two knows the other's objects, but makes none of them.
MUTUAL_FOR_TYPES = {
    ("flo.engine.group", "flo.engine.stream"),
    ("flo.engine.schedule", "flo.engine.action"),
    ("flo.engine.worker", "flo.engine.action"),
    ("flo.ual.keyindex", "flo.ual.base"),
    ("flo.commands.resp.table", "flo.commands.resp.session"),
    ("flo.commands.host", "flo.commands.stats"),
    ("flo.commands.binary.table", "flo.commands.binary.session"),
    ("flo.commands.http.routes", "flo.commands.http.session"),
}


def module_graph() -> tuple[dict[str, set[str]], set[tuple[str, str]]]:
    """What each module imports when it is imported, and the (module, other) that are imported for types only."""
    modules = {}
    for path in sources():
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for_types: set[tuple[str, str]] = set()

    def targets(node: ast.stmt) -> Iterator[str]:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name:
                yield name

    for module, path in modules.items():
        for node in parsed(path).body:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                for_types |= {(module, name) for inner in node.body for name in targets(inner)}
            else:
                graph[module].update(name for name in targets(node) if name != module)
    return graph, for_types


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """The modules that importing `start` imports."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph[waiting.pop()] - found:
            found.add(name)
            waiting.append(name)
    return found


def test_no_imports_go_in_a_circle() -> None:
    graph, for_types = module_graph()
    for module in graph:
        assert module not in reachable(graph, module), f"{module} imports itself, by way of others"
    assert {(module, name) for module, name in for_types if module in reachable(graph, name)} == MUTUAL_FOR_TYPES


def test_stores_protocols_and_queries_do_no_io_and_ask_no_clock() -> None:
    for room in ("proto", "store", "floql", "influxql"):
        for path in sorted((ROOT / "flo" / room).glob("*.py")):
            for name in imports(path):
                assert name not in ("os", "socket", "time", "random", "select", "threading"), f"{path} imports {name}"


def test_no_function_is_long() -> None:
    """What does not fit a screen or two is several things."""
    for path in sources():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                lines = node.end_lineno - node.lineno + 1
                assert lines <= FUNCTION_LINES_MAX, f"{path}: {node.name} has {lines} lines"


def test_every_file_says_what_it_owns() -> None:
    for path in sources():
        text = ast.get_docstring(parsed(path))
        assert text and len(text) > 15, f"{path} has no opening lines"


def test_public_functions_have_docstrings() -> None:
    """Handlers in the table of commands have their summary there instead."""
    for path in sources():
        for node in ast.walk(parsed(path)):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
                continue
            decorated = any(isinstance(d, ast.Call) and getattr(d.func, "id", "") in ("command", "handles") for d in node.decorator_list)
            small = len(node.body) <= 6
            assert ast.get_docstring(node) or decorated or small, f"{path}:{node.lineno} {node.name} has no docstring"


def test_the_transition_table_is_closed() -> None:
    """Every state can be left, CLOSED is final, and each move has its cause in words."""
    for state in range(9):
        for event, (target, cause) in conn._CAUSES[state].items():
            assert conn.NEXT[state][event] == target
            assert cause
    assert not conn._CAUSES[conn.CLOSED]
    for state in range(8):
        assert conn.NEXT[state][conn.GONE_AWAY] == conn.CLOSED


def test_a_server_imports_its_handlers_after_its_port_is_open() -> None:
    """They are a fifth of a start. Whoever asks for one before they are there gets it all the same."""
    script = """
import sys
import flo.server
from flo.commands.resp import TABLE, table
from flo.commands.binary import HANDLERS
TABLE.step()
assert table.SPELLINGS.get(b"ping") and not table.SPELLINGS.get(b"XADD"), "the first step is what clients begin with"
late = [name for name in sys.modules if name.startswith(("flo.proto.binary", "flo.commands.resp.strings", "flo.commands.binary."))]
assert not late, late
assert table.find(b"xAdd") and table.find(b"XADD") and not table.find(b"NONE") and not TABLE.step()
from flo.commands.binary.table import SERVED as handlers
while HANDLERS.step():
    pass
assert handlers
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
