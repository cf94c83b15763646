"""The control socket in the data directory, CONTROL: `flo compact` and `flo backup` talk to the server through it.

Only the process that serves a directory listens on it, and only users who may open the directory reach it. (A process id in a file could
mean another process in another container.) A caller sends one line and gets one line; then the connection is closed:

    index     "index N": all records up to N are acknowledged, or may be at any moment
    compact   after the log is compacted: "compacted BEFORE AFTER HISTORY", in bytes; or "failed", and a sentence

`ask` is the caller's side.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from flo.errors import FloError

NAME = "CONTROL"
LINE_BYTES_MAX = 64
ANSWER_BYTES_MAX = 4096
CALLERS_MAX = 8  # at once; further callers are disconnected
ANSWER_SECONDS = 10.0  # a server answers `index` at once; longer means that it hangs

Answer = Callable[[str], None]


class Control:
    """The listening side."""

    def __init__(
        self,
        directory: str,
        watch: Callable[[int, Callable[[int], None]], None],
        unwatch: Callable[[int], None],
        pause: Callable[[int], None],
        requests: dict[str, Callable[[Answer], None]],
    ) -> None:
        """`watch(fd, handler)` has `handler` called when `fd` can be read, until `unwatch(fd)`; not for a moment after `pause(fd)`.
        `requests` maps each word to a function; it gets a callback, to be called once with the answer. Raises `OSError` if the directory's
        file system has no sockets."""
        self._directory = directory
        self._watch = watch
        self._unwatch = unwatch
        self._pause = pause
        self._requests = requests
        self._callers: dict[int, socket.socket] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            with inside(directory):
                with suppress(FileNotFoundError):  # left by a server that was killed: this process holds the directory's lock
                    os.unlink(NAME)
                self._listener.bind(NAME)
            self._listener.listen(CALLERS_MAX)
        except BaseException:
            self._listener.close()
            raise
        watch(self._listener.fileno(), self._accept)

    def _accept(self, _events: int) -> None:
        try:
            caller, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptor is left: the caller waits, and until then the listener is ready all the time
            self._pause(self._listener.fileno())
            return
        caller.setblocking(False)
        if len(self._callers) >= CALLERS_MAX:
            caller.close()
            return
        fd = caller.fileno()
        self._callers[fd] = caller
        self._watch(fd, lambda _: self._heard(fd))

    def _heard(self, fd: int) -> None:
        try:
            line = self._callers[fd].recv(LINE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            line = b""
        request = self._requests.get(line.decode("ascii", "replace").strip())
        if request is None:  # an unknown word, or the caller has gone
            self._end(fd)
            return
        caller = self._callers[fd]

        def answer(text: str) -> None:
            if self._callers.get(fd) is caller:
                with suppress(OSError):
                    caller.send(text.encode()[: ANSWER_BYTES_MAX - 1] + b"\n")
                self._end(fd)

        request(answer)

    def _end(self, fd: int) -> None:
        self._unwatch(fd)
        self._callers.pop(fd).close()

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        for fd in list(self._callers):
            self._end(fd)
        self._unwatch(self._listener.fileno())
        self._listener.close()
        with suppress(OSError):
            os.unlink(os.path.join(self._directory, NAME))


def ask(directory: str, word: str, seconds: float | None = ANSWER_SECONDS) -> str | None:
    """The answer of the server that serves `directory`; None if no server listens there. Waits so many `seconds` (None: for ever). Raises
    `FloError` if a server listens and does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(seconds)
        try:
            with inside(directory):
                caller.connect(NAME)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as e:
            raise FloError(f"the server that holds {directory} cannot be asked: {e}") from e
        text = b""
        try:
            caller.sendall(word.encode() + b"\n")
            while not text.endswith(b"\n") and len(text) < ANSWER_BYTES_MAX:
                data = caller.recv(ANSWER_BYTES_MAX)
                if not data:
                    break
                text += data
        except OSError as e:
            raise FloError(f"the server that holds {directory} did not answer: {e}") from e
        if not text.endswith(b"\n"):
            raise FloError(f"the server that holds {directory} did not answer {word!r}: it has ended, or has another version.")
        return text.decode(errors="replace").strip()


@contextmanager
def inside(directory: str) -> Iterator[None]:
    """Make `directory` the working directory meanwhile: a socket's path has at most 100 bytes, a directory's has no such bound."""
    before = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
