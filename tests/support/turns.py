"""An engine as a server runs it, and how long its turns take: nobody may wait over 20 ms for another's request."""

import gc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from time import thread_time

from flo.engine import Engine, EngineSettings

TURN_SECONDS = 0.02
START = 1_700_000_000_000


class Turns:
    """The engine, its clocks, and the longest turn so far."""

    def __init__(self, directory: Path, *, keep_runs: int = 10**9) -> None:
        self.wall, self.steady = START, 0
        settings = EngineSettings(durability="ephemeral", keep_runs=keep_runs)
        self.engine = Engine(str(directory), settings, manual=True, clock=lambda: self.wall, steady=lambda: self.steady)
        self.longest = 0.0

    def turn(self, do: Callable[[], object]) -> object:
        """Do something as a turn that counts."""
        began = thread_time()
        found = do()
        self.end_turn(began)
        return found

    def end_turn(self, began: float) -> None:
        """The turn that began at this `thread_time` is over."""
        self.longest = max(self.longest, thread_time() - began)
        self.engine.commit()
        self.engine.tick()

    def pass_by(self, ms: int) -> None:
        """Let time pass."""
        self.wall += ms
        self.steady += ms
        self.engine.tick()

    @contextmanager
    def served(self) -> Generator[None, None, None]:
        """Collect no garbage meanwhile, as a server does; close the engine then."""
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            self.engine.close()

    def hold(self, once: Callable[[], object], prepare: Callable[[], object] = lambda: None, tries: int = 4) -> None:
        """No turn of it may take longer than TURN_SECONDS. A machine that others share may need some tries."""
        took = []
        for _ in range(tries):
            prepare()
            self.longest = 0.0
            once()
            took.append(self.longest)
            if self.longest <= TURN_SECONDS:
                return
        raise AssertionError(f"the longest turns took {[round(1000 * each, 1) for each in took]} ms")
