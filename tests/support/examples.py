"""How many examples a property is shown: all of them under --long, a third in `make test`."""

from hypothesis import settings

in_full = False  # tests/conftest.py says, before it collects


def examples(count: int) -> settings:
    """Settings for a property whose `count` examples take a second or more."""
    return settings(max_examples=count if in_full else count // 3, deadline=None)
