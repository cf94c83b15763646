"""The id of this process, without a system call each time: a forked child must not use the engines and clients that its parent opened."""

import os

from flo.errors import Forked

_process = os.getpid()


def process() -> int:
    """The id of this process."""
    return _process


def refuse(what: str, opened_by: int, remedy: str) -> Forked:
    """The error for the use of `what`, opened by the process `opened_by`, in this process."""
    return Forked(f"this {what} was opened by process {opened_by}, and this is process {_process}, forked from it: {remedy}")


def _renew() -> None:
    global _process
    _process = os.getpid()


os.register_at_fork(after_in_child=_renew)
