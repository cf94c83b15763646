"""Clients of several servers that write down what they did and what they were told, for tests.support.linearizable.

A server that follows, or is not there, has done nothing: the operation is asked of the next server. An operation whose answer is lost may
have been done, and is not asked again: it is indeterminate. Values that are written are all different, so a read says which write it saw.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from time import monotonic
from typing import Protocol

from flo.client import Client, Disconnected
from flo.errors import Conflict, NotLeader, Overloaded
from tests.support.linearizable import Operation
from tests.support.processes import ReplyError, RespClient, select_pause

ANSWER_SECONDS = 10.0  # an answer that takes longer is lost
REFUSED = ("READONLY", "CLUSTERDOWN", "BUSY", "OOM", "LOADING", "EXECABORT")  # errors of servers that have done nothing


class Elsewhere(Exception):
    """This server has done nothing: another leads, or none does, or it is not there."""


class Lost(Exception):
    """The answer is lost: nobody knows whether it was done."""


class Unknown(Exception):
    """Nothing was done, for a reason that says nothing about the value: somebody else changed the key meanwhile."""


class Door(Protocol):
    """A connection to one server."""

    def do(self, name: str, key: str, argument: object) -> object:
        """Do an operation of tests.support.linearizable; returns its answer. Raises `Elsewhere`, `Lost` or `Unknown`."""

    def close(self) -> None:
        """Close the connection."""


class BinaryDoor:
    """By flo.Client."""

    def __init__(self, port: int, secret: str | None = None) -> None:
        """Connect. Raises `Elsewhere`."""
        self._client = Client(f"flo://127.0.0.1:{port}", secret=secret, timeout=ANSWER_SECONDS)
        try:
            self._client.connect()
        except (Disconnected, NotLeader):
            self._client.close()
            raise Elsewhere from None

    def do(self, name: str, key: str, argument: object) -> object:
        """See `Door`."""
        try:
            return self._do(name, key, argument)
        except (NotLeader, Overloaded):
            raise Elsewhere from None
        except Disconnected:
            raise Lost from None

    def _do(self, name: str, key: str, argument: object) -> object:
        kv = self._client.kv
        if name == "set":
            assert isinstance(argument, bytes)
            kv.put(key, argument)
            return None
        if name == "delete":
            return kv.delete(key) is not None
        if name == "incr":
            assert isinstance(argument, int)
            return kv.incr(key, argument).value
        entry = kv.get(key)
        value = entry.value if entry is not None else None
        if name == "get":
            return value
        assert name == "cas" and isinstance(argument, tuple)
        if value != argument[0]:
            return False
        try:
            kv.cas(key, argument[1], entry.version if entry is not None else 0)
        except Conflict:
            raise Unknown from None
        return True

    def close(self) -> None:
        """See `Door`."""
        self._client.close()


class RespDoor:
    """By Redis's protocol. A compare-and-set is a transaction, so the server's setting `resp.profile` must be `redis`."""

    def __init__(self, port: int, secret: str | None = None) -> None:
        """Connect. Raises `Elsewhere`."""
        try:
            self._client = RespClient(port, ANSWER_SECONDS)
        except OSError:
            raise Elsewhere from None
        if secret is not None:
            try:
                self._ask("AUTH", secret)
            except Lost:
                self.close()
                raise Elsewhere from None

    def _ask(self, *words: bytes | str | int) -> object:
        try:
            reply = self._client.command(*words)
        except OSError:
            raise Lost from None
        if isinstance(reply, ReplyError):
            if str(reply).startswith(REFUSED):
                raise Elsewhere
            raise reply
        return reply

    def do(self, name: str, key: str, argument: object) -> object:
        """See `Door`."""
        if name == "set":
            assert isinstance(argument, bytes)
            self._ask("SET", key, argument)
            return None
        if name == "delete":
            return self._ask("DEL", key) == 1
        if name == "incr":
            assert isinstance(argument, int)
            return self._ask("INCRBY", key, argument)
        if name == "get":
            return self._ask("GET", key)
        assert name == "cas" and isinstance(argument, tuple)
        self._ask("WATCH", key)
        if self._ask("GET", key) != argument[0]:
            self._ask("UNWATCH")
            return False
        self._ask("MULTI")
        self._ask("SET", key, argument[1])
        if self._ask("EXEC") is None:
            raise Unknown
        return True

    def close(self) -> None:
        """See `Door`."""
        with suppress(OSError):
            self._client.close()


class History:
    """What all clients did, in the order in which they ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: list[Operation] = []

    def add(self, operation: Operation) -> None:
        """One more."""
        with self._lock:
            self._operations.append(operation)

    def operations(self) -> list[Operation]:
        """All of them so far."""
        with self._lock:
            return list(self._operations)


class Writer:
    """One client, in a thread of its own from `start` to `stop`."""

    def __init__(self, process: int, doors: Sequence[Callable[[], Door]], history: History, *, keys: int = 5) -> None:
        """`doors` connect to the servers, and raise `Elsewhere` where one is not there. There are `keys` registers and `keys` counters."""
        self._process, self._doors, self._history, self._keys = process, doors, history, keys
        self._rng = Random(process)
        self._at = process % len(doors)
        self._door: Door | None = None
        self._serial = 0
        self._seen: dict[str, object] = {}  # the value of a register that this client read last
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"writer {process}")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End behind the operation that is under way. Raises what the thread failed of."""
        self._over.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self.do(*self._draw())
        except BaseException as e:  # the thread that stops this one raises it
            self._failure = e
        finally:
            self._leave()

    def _draw(self) -> tuple[str, str, object]:
        """The next operation, and its key and argument."""
        number = self._rng.randrange(self._keys)
        if self._rng.random() < 0.4:
            return self._rng.choice([("get", f"counter{number}", None), ("incr", f"counter{number}", self._rng.choice([1, 1, 7]))])
        key = f"register{number}"
        self._serial += 1
        value = b"%d.%d" % (self._process, self._serial)
        return self._rng.choice(
            [("get", key, None), ("get", key, None), ("set", key, value), ("cas", key, (self._seen.get(key), value)), ("delete", key, None)]
        )

    def do(self, name: str, key: str, argument: object) -> None:
        """Ask one server after the other until one has done it, or has perhaps; then write that down."""
        pause = select_pause()
        while not self._over.is_set():
            invoked = monotonic()
            try:
                if self._door is None:
                    self._door = self._doors[self._at]()
                answer = self._door.do(name, key, argument)
            except Elsewhere:
                self._leave()
                pause()
                continue
            except Lost:
                self._leave()
                self._history.add(Operation(self._process, key, name, argument, invoked, None, None))
                return
            except Unknown:
                return
            self._history.add(Operation(self._process, key, name, argument, invoked, monotonic(), answer))
            if name == "get":
                self._seen[key] = answer
            return

    def _leave(self) -> None:
        """Close the connection; the next one is to the next server."""
        if self._door is not None:
            self._door.close()
            self._door = None
        self._at = (self._at + 1) % len(self._doors)
