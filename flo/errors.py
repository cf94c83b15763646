"""The refusals and failures every room of Flo shares. Each message is a sentence for the person who reads it.

A `Refusal` is an answer: the request changed nothing and the connection goes on. Its class gives the status
of SPEC section 2's table and RESP's error word. The other errors stop a command line or the process.
"""


class FloError(Exception):
    """Anything Flo raises on purpose."""


class Refusal(FloError):
    """A request that was understood far enough to be refused. `code` is RESP's error word."""

    code = "ERR"


class NotFound(Refusal):
    """The thing named is not there."""


class NoGroup(NotFound):
    """The stream has no such consumer group, or there is no stream."""

    code = "NOGROUP"


class BadRequest(Refusal):
    """Malformed, or asks for what Flo cannot do."""


class Conflict(Refusal):
    """A precondition failed. `version` is the version that stands, 0 where none applies."""

    code = "CONFLICT"

    def __init__(self, message: str, version: int = 0) -> None:
        super().__init__(message)
        self.version = version


class GroupExists(Conflict):
    """The stream has a consumer group of that name."""

    code = "BUSYGROUP"


class WrongKind(Conflict):
    """The operation is for another kind of value than the key holds."""

    code = "WRONGTYPE"


class Overloaded(Refusal):
    """A limit is reached: retry later."""

    code = "BUSY"


class Unauthorized(Refusal):
    """The secret is owed, or was wrong."""

    code = "NOAUTH"


class InternalError(Refusal):
    """A defect of the server: its log has the details."""


class Damaged(InternalError):
    """What was asked for lies on disk and does not read; the message names the file and the index. Not a defect: everything else is served,
    and `flo check` tells more."""

    code = "DAMAGED"


class NotLeader(Refusal):
    """Another node leads; the message is its address, if it is known."""

    code = "CLUSTERDOWN"


class OutOfMemory(Overloaded):
    """Writes that add are refused until memory is freed."""

    code = "OOM"


class Forked(FloError):
    """An engine or a client is used in a process that was forked from the one that opened it."""


class LogFailed(FloError):
    """The log could not be written or synced: memory no longer agrees with disk, so the process must end."""


class LogDamaged(FloError):
    """The data directory cannot be trusted as it is; the message says where and what to do."""


class DirectoryInUse(FloError):
    """Another process holds the data directory."""


class ConfigError(FloError):
    """A setting is wrong; the message names it, its source and what is allowed."""


def trace_of(e: BaseException) -> str:
    """The traceback of an exception, for the log."""
    import traceback  # 5 ms of start-up that hardly any process ever needs

    return "".join(traceback.format_exception(e))


class Fatal(FloError):
    """Something failed after a record was appended: memory no longer agrees with the log, the process must end."""


class LaneFailure(Exception):
    """A defect while requests of many connections were executed in one go; its cause says which."""

    def __init__(self, position: int) -> None:
        """`position`: of the connection whose requests they were, or the first of those that they were."""
        super().__init__(position)
        self.position = position
