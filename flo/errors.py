"""The refusals and failures that all parts of Flo share. Each message is a sentence for a person.

A `Refusal` is an answer: the request changed nothing and the connection goes on. Its class decides the status
of SPEC section 2's table and RESP's error word. The other errors end a command line or the process.
"""

RESTORE = "`flo check` tells more; restore the directory from a backup."  # the remedy of `LogDamaged`


class FloError(Exception):
    """Anything Flo raises on purpose."""


class Refusal(FloError):
    """The refusal of a request. `code` is RESP's error word."""

    code = "ERR"


class NotFound(Refusal):
    """The named object does not exist."""


class NoGroup(NotFound):
    """The stream has no such consumer group, or the stream does not exist."""

    code = "NOGROUP"


class BadRequest(Refusal):
    """The request is malformed, or Flo cannot do what it asks."""


class Conflict(Refusal):
    """A precondition failed. `version` is the present version, 0 if none applies."""

    code = "CONFLICT"

    def __init__(self, message: str, version: int = 0) -> None:
        super().__init__(message)
        self.version = version


class GroupExists(Conflict):
    """The stream already has a consumer group of that name."""

    code = "BUSYGROUP"


class WrongKind(Refusal):
    """The key holds a value that the operation cannot use, such as text where a number is needed. It is no `Conflict`: reading the key's
    version again and repeating the operation does not help. `version` is the present version."""

    code = "WRONGTYPE"

    def __init__(self, message: str, version: int = 0) -> None:
        super().__init__(message)
        self.version = version


class OutOfRange(WrongKind):
    """The number would leave its 64 bits."""

    code = "CONFLICT"


class Overloaded(Refusal):
    """A limit is reached: retry later."""

    code = "BUSY"


class Unauthorized(Refusal):
    """The secret is missing or wrong."""

    code = "NOAUTH"


class Forbidden(Unauthorized):
    """The connection gave the read-only secret, and the request is none that only reads."""

    code = "NOPERM"


class InternalError(Refusal):
    """A defect of the server: its log has the details."""


class Damaged(InternalError):
    """The requested data is damaged on disk; the message names the file and the index. This is not a defect: Flo serves all other data, and
    `flo check` tells more."""

    code = "DAMAGED"


class NotLeader(Refusal):
    """Another node leads; the message is its address, if known."""

    code = "CLUSTERDOWN"

    @property
    def sentence(self) -> str:
        """The refusal for a person."""
        where = f"the leader is at {self}" if str(self) else "no leader is known at the moment"
        return f"this member of the cluster follows; {where}"


class OutOfMemory(Overloaded):
    """Writes that add are refused until memory is freed."""

    code = "OOM"


class Disconnected(FloError):
    """The connection could not be made, or was lost. Requests under way may or may not have been executed."""


class CannotConnect(Disconnected):
    """The connection could not be made: nothing was sent."""


class TimedOut(Disconnected):
    """The answer did not come in time."""


class Forked(FloError):
    """A forked child uses an engine or a client that its parent opened."""


class LogFailed(FloError):
    """The log could not be written or synced. Memory no longer agrees with disk, so the process must end."""


class LogDamaged(FloError):
    """The data directory is damaged; the message says where and names the remedy."""


class DirectoryInUse(FloError):
    """Another process holds the data directory."""


class ConfigError(FloError):
    """A setting is wrong; the message names the setting, its source and the allowed values."""


def trace_of(e: BaseException) -> str:
    """The traceback of an exception, for the log."""
    try:
        import traceback  # takes 5 ms, and hardly any process needs it
    except (ImportError, OSError) as other:  # no descriptor is left to read it: the log's line must not fail for that
        return f"{e!r}; no traceback, because of {other!r}"
    return "".join(traceback.format_exception(e))


class Fatal(FloError):
    """A failure after a record was appended. Memory no longer agrees with the log, so the process must end."""
