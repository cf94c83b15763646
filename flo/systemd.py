"""The server as a systemd service: it reports its state (sd_notify) and takes the socket that systemd opened (socket activation).

Both use environment variables and a file descriptor (sd_notify(3), sd_listen_fds(3)); without them this module does nothing.
"""

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

from flo.errors import ConfigError

LISTEN_FDS_START = 3
EXTEND_USEC = 30_000_000  # more time for a start that makes progress


class Notifier:
    """Reports to the service manager; does nothing if there is none."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Remove the service manager's variables from `environment`, so that child processes do not use them."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watched = environment.pop("WATCHDOG_USEC", "")
        watched_pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        self.watchdog_seconds: float = int(watched) / 1e6 if watched.isdigit() and watched_pid == str(os.getpid()) else 0.0
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            try:
                self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
            except OSError:
                self.close()

    def tell(self, *assignments: str) -> None:
        """Send assignments such as `READY=1`. A message that cannot be sent is dropped: the server must not wait for a service manager."""
        if self._socket is None:
            return
        with suppress(OSError):
            self._socket.send("\n".join(assignments).encode())

    def close(self) -> None:
        """Stop reporting."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def activated_socket(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The listening socket that the service manager passed, None if it passed none. Raises `ConfigError` for any other socket."""
    count = environment.pop("LISTEN_FDS", "")
    pid = environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count or pid != str(os.getpid()):
        return None
    if count != "1":
        raise ConfigError(f"the service manager passed {count} sockets; Flo listens on one: keep one ListenStream=.")
    os.set_inheritable(LISTEN_FDS_START, False)
    found = socket.socket(fileno=LISTEN_FDS_START)
    if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
        found.close()
        raise ConfigError("the service manager passed a socket that is not TCP; use ListenStream= with a port.")
    found.setblocking(False)
    return found
