"""A server of the binary protocol that follows a script, and both kinds of clients behind one face."""

import asyncio
import inspect
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import flo
import flo.aio
from flo.operations import BY_CODE
from flo.operations.method import Asynchronous
from flo.proto.binary import REQUEST, REQUEST_BYTES, encode_response

JOIN_SECONDS = 30
OK = 0


class Asked(NamedTuple):
    """A request that the server has received."""

    name: str
    req_id: int
    key: bytes
    rest: bytes  # the value and the options


class Peer:
    """One connection, as the script sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def take(self) -> Asked | None:
        """The next request; None at the end of input."""
        head = self._file.read(REQUEST_BYTES)
        if len(head) < REQUEST_BYTES:
            return None
        _, code, _, req_id, size, _, key_bytes, _ = REQUEST.unpack(head)
        payload = self._file.read(size)
        return Asked(BY_CODE[code].name, req_id, payload[:key_bytes], payload[key_bytes:])

    def need(self) -> Asked:
        """The next request, which must come."""
        asked = self.take()
        assert asked is not None, "the client has closed the connection"
        return asked

    def answer(self, asked: Asked, payload: bytes = b"", status: int = OK) -> None:
        """Send a response."""
        self.sock.sendall(encode_response(status, asked.req_id, payload))

    def serve(self) -> None:
        """Answer every request with version 7 and no value, until the client goes."""
        while (asked := self.take()) is not None:
            self.answer(asked, (7).to_bytes(8, "little"))


Script = Callable[[Peer], None]


class ScriptedServer:
    """A server whose n-th connection runs the n-th script; the last script serves all that follow. What a script raises, `close` raises."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"flo://127.0.0.1:{self.port}"
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._peers: list[socket.socket] = []
        self._raised: list[BaseException] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> "ScriptedServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._peers:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in (self._accepting, *self._threads):
            thread.join(JOIN_SECONDS)
            assert not thread.is_alive()
        if self._raised:
            raise self._raised[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._peers.append(sock)
            self._threads.append(threading.Thread(target=self._run, args=(script, sock), daemon=True))
            self._threads[-1].start()

    def _run(self, script: Script, sock: socket.socket) -> None:
        try:
            with sock:
                script(Peer(sock))
        except OSError:
            pass  # the client has gone
        except BaseException as e:
            self._raised.append(e)


class Later:
    """An asynchronous client, or a part of one, whose methods are called as those of a blocking one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, part: Any) -> None:
        self._loop = loop
        self._part = part

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if isinstance(found, Asynchronous):
            return Later(self._loop, found)
        return self._called(found) if callable(found) else found

    def turn(self) -> None:
        """Let the event loop look at its sockets, as that of a program does all the time."""
        self._loop.run_until_complete(asyncio.sleep(0.001))

    def _called(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if inspect.isawaitable(result):
                return self._loop.run_until_complete(result)
            return self._items(result)

        return call

    def _items(self, items: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._loop.run_until_complete(anext(items))
            except StopAsyncIteration:
                return


@contextmanager
def opened(kind: str, url: str, **settings: Any) -> Iterator[Any]:
    """A client of this kind: `blocking`, or `asyncio` behind the same face."""
    if kind == "blocking":
        with flo.Client(url, **settings) as client:
            yield client
        return
    loop = asyncio.new_event_loop()
    try:
        made = flo.aio.Client(url, **settings)
        try:
            yield Later(loop, made)
        finally:
            loop.run_until_complete(made.close())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
