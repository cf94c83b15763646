"""Modules that are imported in steps: one that could not be read is tried again."""

import pytest

from flo.commands import modules
from flo.commands.modules import Modules

pytestmark = pytest.mark.computes


def test_a_module_that_could_not_be_read_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = Modules("one", "two"), list[str]()

    def fail(name: str) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(modules, "import_module", fail)
    for _ in range(2):
        with pytest.raises(OSError, match="Too many"):
            made.step()
    monkeypatch.setattr(modules, "import_module", asked.append)
    assert made.step() and asked == ["one"]
    made.load()
    assert not made.step() and asked == ["one", "two"]
