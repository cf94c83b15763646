"""What strangers may cost: clients that do not know the secret. Where redis-server has the feature, it is attacked beside Flo, and both
waits are printed (pytest -s)."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.server.test_limits import Attacked, Neighbour, connect
from tests.support.processes import FloProcess, RedisProcess

pytestmark = pytest.mark.slow

SECRET = "open-sesame"
STRANGERS = 200
WAIT_SECONDS_MAX = 0.25  # of an established client, whatever strangers send


def guarded(tmp_path: Path) -> FloProcess:
    """A server with a secret."""
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return FloProcess(tmp_path / "data", environment={"FLO_SECRET_FILE": str(path)})


def answer(sock: socket.socket, lines: int) -> None:
    """Receive so many lines."""
    while lines > 0:
        data = sock.recv(1 << 16)
        assert data
        lines -= data.count(b"\n")


def quoted_lines(server: Attacked, line: bytes) -> None:
    """Strangers that send as many lines as one buffer holds, and again once they are answered."""
    with ExitStack() as stack:
        socks = [connect(server, stack) for _ in range(STRANGERS)]
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            for sock in socks:
                sock.sendall(line * 4)
            for sock in socks:
                answer(sock, 4)


@pytest.mark.parametrize("content", [b"a" * 15_000, b"\\n" * 7_500, b"\\x41" * 3_750], ids=["plain", "escapes", "hexadecimal"])
def test_quoted_inline_commands_of_strangers_delay_nobody_for_long(tmp_path: Path, content: bytes) -> None:
    line = b'ECHO "' + content + b'"\r\n'
    (tmp_path / "redis").mkdir()
    longest = []
    with guarded(tmp_path) as flo, RedisProcess(tmp_path / "redis", "--requirepass", SECRET) as redis:
        for _ in range(3):  # a machine that is busy with something else is given another chance
            with Neighbour(flo, SECRET) as neighbour:
                quoted_lines(flo, line)
            with Neighbour(redis, SECRET) as other:
                quoted_lines(redis, line)
            print(f"the longest wait of a neighbour: {neighbour.longest:.3f} s at flo, {other.longest:.3f} s at redis-server")
            if neighbour.longest < max(WAIT_SECONDS_MAX, 2 * other.longest):
                return
            longest.append(neighbour.longest)
    pytest.fail(f"established clients waited {longest} s")
