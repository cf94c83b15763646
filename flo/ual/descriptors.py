"""File descriptors: a process may have so many at once (RLIMIT_NOFILE), and its connections, the log's files and everything else share
them. What a log keeps open to be quicker is a share of that limit (`share`); the server leaves the rest to clients (flo.server)."""

import errno
import resource
import sys
from contextlib import suppress

SHARE = 8  # the files of one kind that are kept open may take an eighth of the process's descriptors; a base takes two
NONE_LEFT = frozenset((errno.EMFILE, errno.ENFILE))  # the process or the system has no more: that may be over in a moment


def limit() -> int:
    """How many descriptors the process may have."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def share(most: int) -> int:
    """How many files of one kind may be kept open, `most` if the limit allows it."""
    return min(most, limit() // SHARE)


def raise_limit(wanted: int) -> int:
    """Raise the limit to `wanted`, as far as it is allowed; returns the limit then, `wanted` if there is none."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if limit() < target:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    found = limit()
    return wanted if found == sys.maxsize else found
