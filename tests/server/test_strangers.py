"""What strangers may cost: clients that do not know the secret. Where redis-server has the feature, it is attacked beside Flo, and both
waits are printed (pytest -s)."""

import select
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from flo.commands.guesses import COMPARED_MAX
from flo.operations import BY_NAME
from flo.proto.binary import encode_request
from tests.server.test_limits import Attacked, Neighbour, connect
from tests.support.processes import FloProcess, RedisProcess, encode

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


# -- guessing the secret ---------------------------------------------------------------------------

GUESSER = "127.0.0.2"
AUTH = BY_NAME["auth"]
FORMS: dict[str, Callable[[str], bytes]] = {
    "auth": lambda secret: encode("AUTH", secret),
    "hello": lambda secret: encode("HELLO", 3, "AUTH", "default", secret),
    "binary": lambda secret: encode_request(AUTH, 1, 0, b"", secret.encode()),
}


def dial(server: FloProcess, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 30, source_address=(source, 0))


def ask(server: FloProcess, source: str, request: bytes) -> tuple[float, bytes]:
    """(the seconds that the answer took, the answer)."""
    with dial(server, source) as sock:
        started = time.monotonic()
        sock.sendall(request)
        data = sock.recv(1000)
        return time.monotonic() - started, data


def wrong_secrets(server: FloProcess, source: str, count: int) -> None:
    """Guesses whose answers the guesser does not wait for: it closes and connects again."""
    for number in range(count):
        with dial(server, source) as sock:
            sock.sendall(encode("AUTH", f"guess {number}") if number % 2 else FORMS["binary"](f"guess {number}"))
            select.select([sock], [], [], 0.01)
    with dial(server, "127.0.0.9") as sock:  # answered behind all of them
        sock.sendall(encode("AUTH", SECRET))
        assert sock.recv(100) == b"+OK\r\n"


def test_closing_and_connecting_again_makes_no_more_guesses(tmp_path: Path) -> None:
    """After twenty guesses, the silence of 50 ms does not tell a guesser that the secret was wrong. Others are not delayed."""
    with guarded(tmp_path) as server:
        for form in FORMS.values():
            assert ask(server, GUESSER, form(SECRET))[0] < 0.5, "an address that never failed"
        wrong_secrets(server, GUESSER, 20)
        for form in FORMS.values():
            took, answer = ask(server, GUESSER, form(SECRET))
            assert took > 0.9 and not answer.startswith(b"-"), (took, answer)
            assert ask(server, "127.0.0.3", form(SECRET))[0] < 0.5
        assert SECRET not in server.output()


def test_many_connections_of_one_address_make_few_guesses(tmp_path: Path) -> None:
    """Two hundred at once, all with the right secret: so many of them are compared as may be in a second, or in two that follow."""
    with guarded(tmp_path) as server, ExitStack() as stack:
        wrong_secrets(server, GUESSER, 20)
        socks = [stack.enter_context(dial(server, GUESSER)) for _ in range(200)]
        for sock in socks:
            sock.sendall(encode("AUTH", SECRET))
        answers = [sock.recv(1000) for sock in socks]
        assert 0 < answers.count(b"+OK\r\n") <= 2 * COMPARED_MAX
        assert all(answer == b"+OK\r\n" or answer.startswith(b"-BUSY too many wrong secrets") for answer in answers)
