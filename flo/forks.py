"""Which process this is, without a system call each time: what a parent has opened must not be used in a child that was forked from it."""

import os

from flo.errors import Forked

_process = os.getpid()


def process() -> int:
    """The id of this process."""
    return _process


def refuse(what: str, opened_by: int, remedy: str) -> Forked:
    """The error for `what`, which the process `opened_by` has opened."""
    return Forked(f"this {what} was opened by process {opened_by}, and this is process {_process}, forked from it: {remedy}")


def _renew() -> None:
    global _process
    _process = os.getpid()


os.register_at_fork(after_in_child=_renew)
