"""Output that the kernel has not taken yet, in order."""

from collections import deque
from collections.abc import Callable

SEND_BYTES = 256 << 10  # sent to one connection in a turn: up to 2 ms, because the kernel copies it to the reader
JOIN_BYTES = 64 << 10  # smaller replies are joined and sent together
NOTHING: deque[memoryview] = deque()  # of every connection that owes nothing, never added to: an empty deque takes 760 bytes
Bytes = bytes  # for signatures in the class: to type checkers, `bytes` is its attribute there


class Unsent:
    """One connection's unsent output."""

    __slots__ = ("_pieces", "bytes")

    def __init__(self) -> None:
        self._pieces = NOTHING
        self.bytes: int = 0

    def add(self, data: Bytes, start: int = 0) -> None:
        """Keep `data` from offset `start` on."""
        if self._pieces is NOTHING:
            self._pieces = deque()
        self._pieces.append(memoryview(data)[start:])
        self.bytes += len(data) - start

    def add_all(self, replies: list[Bytes]) -> None:
        """Keep many replies; small neighbours are joined."""
        small: list[bytes] = []
        gathered = 0
        for reply in replies:
            if len(reply) < JOIN_BYTES:
                small.append(reply)
                gathered += len(reply)
                if gathered < JOIN_BYTES:
                    continue
            if small:
                self.add(b"".join(small))
                small, gathered = [], 0
            if len(reply) >= JOIN_BYTES:
                self.add(reply)
        if small:
            self.add(b"".join(small))

    def send(self, send: Callable[[memoryview], int]) -> int:
        """Send what the kernel takes, up to SEND_BYTES; returns how much it took. Raises `OSError` where the peer is gone."""
        pieces, left = self._pieces, SEND_BYTES
        try:
            while pieces and left > 0:
                count = send(pieces[0][:left])
                left -= count
                self.bytes -= count
                if count < len(pieces[0]):
                    pieces[0] = pieces[0][count:]
                    break
                pieces.popleft()
        except BlockingIOError:
            pass
        if not pieces:
            self._pieces = NOTHING
        return SEND_BYTES - left

    def clear(self) -> None:
        """Drop all of it."""
        self._pieces = NOTHING
        self.bytes = 0
