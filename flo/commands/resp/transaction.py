"""The commands between a MULTI and its EXEC, and their limits (flo.commands.resp.transactions executes them)."""

from flo.commands.resp.table import KEY_GROUPS, Command
from flo.commands.runner import Reply
from flo.errors import BadRequest, Refusal

COMMANDS_MAX = 10_000  # of a transaction: 3 to 5 us each, and nothing else happens meanwhile
ARGUMENTS_MAX = 40_000  # … of all its commands: some cost as much for each argument
BYTES_MAX = 32 << 20  # … as many as one request may have
ARGUMENT_BYTES = 40  # of memory, for an argument besides its bytes
COMMAND_BYTES = 150

QUEUED = b"+QUEUED\r\n"
# Not queued: what concerns the connection, and what is cut into slices because it may take more than a turn
REFUSED = frozenset(
    (
        "AUTH", "HELLO", "USE", "SELECT", "MONITOR", "SHUTDOWN", "SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "NAMESPACE",
        "KEYS", "FLUSHALL", "FLUSHDB", "XCLAIM", "XAUTOCLAIM", "XGROUP", "TS.WRITE", "TS.QUERY",
    )
)  # fmt: skip


class Transaction:
    """The commands between a MULTI and its EXEC."""

    __slots__ = ("aborted", "arguments", "held", "queued")

    def __init__(self) -> None:
        self.queued: list[tuple[Command, list[bytes]]] = []
        self.aborted: bool = False  # one of its commands was refused: EXEC executes none
        self.arguments: int = 0
        self.held: int = 0  # bytes of memory

    def add(self, found: Command, args: list[bytes]) -> Reply:
        """Keep a command that was found right."""
        if self.aborted:
            return QUEUED  # none will be executed
        if found.name in REFUSED:
            return self.refuse(f"{found.name} cannot be part of a transaction: it concerns the connection, or takes more than a turn")
        self.arguments += len(args)
        self.held += COMMAND_BYTES + ARGUMENT_BYTES * len(args) + sum(map(len, args))
        if len(self.queued) == COMMANDS_MAX or self.arguments > ARGUMENTS_MAX or self.held > BYTES_MAX:
            self.queued.clear()
            self.held = 0
            limits = f"{COMMANDS_MAX:,} commands, {ARGUMENTS_MAX:,} arguments or {BYTES_MAX >> 20} MiB"
            return self.refuse(f"the transaction has more than {limits}; make several of it")
        self.queued.append((found, args))
        return QUEUED

    def refuse(self, sentence: str) -> Refusal:
        """Refuse a command, and with it the transaction."""
        self.aborted = True
        return BadRequest(sentence)

    def keys(self) -> list[bytes]:
        """The keys of its commands."""
        found: list[bytes] = []
        for each, args in self.queued:
            first, last, step = each.keys
            if first and each.group in KEY_GROUPS:
                found += args[first : len(args) + 1 + last if last < 0 else last + 1 : step]
        return found
