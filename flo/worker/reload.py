"""Finding a worker by `module:name`, and starting its process anew when a file of its modules changes: for development."""

import os
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Event

from flo.errors import FloError
from flo.worker.worker import Worker

LOOK_SECONDS = 1.0
INSTALLED = tuple(os.path.join(sysconfig.get_path(kind), "") for kind in ("stdlib", "platstdlib", "purelib", "platlib"))


def load(target: str) -> Worker:
    """The worker that `module:name` names; the module is looked for in the working directory too. Raises `FloError` for another name, and
    whatever the module raises."""
    module_name, colon, name = target.partition(":")
    if not module_name or not colon or not name:
        raise FloError(f"{target!r} does not name a worker; give module:name, such as tasks:worker for `worker = Worker(…)` in tasks.py")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name is None or not f"{module_name}.".startswith(f"{e.name}."):
            raise  # a module that this one imports
        raise FloError(f"there is no module {e.name!r} in {os.getcwd()} or among the installed ones") from None
    found = getattr(module, name, None)
    if not isinstance(found, Worker):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise FloError(f"{name} of the module {module_name} is {what}; it is to be a flo.Worker")
    return found


def files_of(error: BaseException | None = None, target: str = "") -> set[str]:
    """The files of the modules that are loaded and not installed; and those that the failed import of `target` came through."""
    found = {path for module in list(sys.modules.values()) if (path := getattr(module, "__file__", None))}
    if error is not None:
        found |= {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
        if isinstance(error, SyntaxError) and error.filename:
            found.add(error.filename)
        spec = find_spec(target.partition(":")[0].partition(".")[0])
        if spec is not None and spec.origin:
            found.add(spec.origin)
    return {path for path in found if path.endswith(".py") and not path.startswith(INSTALLED)}


def wait_for_change(files: Callable[[], Iterable[str]], loaded_at: int, ended: Event) -> str | None:
    """Look once a second until one of the files has changed since `loaded_at` (ns), when they began to be loaded; returns its name, or None
    once `ended` is set."""
    times: dict[str, int] = {}
    while True:
        for path in files():
            changed_at = _changed_at(path)
            if times.setdefault(path, changed_at) != changed_at or loaded_at <= changed_at <= time.time_ns():
                return path
        if ended.wait(LOOK_SECONDS):
            return None


def _changed_at(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


def restart() -> None:
    """Execute this process's command anew, in its place; does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
