"""Every limit under attack, three times over: nobody else waits long, and the third time takes no more memory or descriptors than the
second. What a client gets that goes past a limit is in tests/server/test_hostile.py and tests/server/test_binary_server.py."""

import gzip
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from loadtest.generator import prepare
from tests.support.processes import FloProcess, RedisProcess, encode, wait_until

pytestmark = pytest.mark.slow

Attacked = FloProcess | RedisProcess
Attack = Callable[[Attacked], None]
ATTACK_SECONDS = 0.7  # of those that trickle
NEIGHBOUR_P99_USEC = 50_000
RSS_SLACK_BYTES = 1 << 20  # malloc's arenas
IDLE_CONNECTIONS = 10_000
IDLE_BYTES_MAX = 4096


def connect(flo: Attacked, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", flo.port), timeout=30))


def send_what_goes(sock: socket.socket, data: bytes) -> None:
    """As much as the server takes before it closes, or for a second."""
    sock.settimeout(1)
    with suppress(OSError):
        sock.sendall(data)


def trickle(flo: Attacked, start: bytes, piece: bytes, count: int) -> None:
    """Many connections that send a little at a time."""
    with ExitStack() as stack:
        socks = [connect(flo, stack) for _ in range(count)]
        for sock in socks:
            sock.sendall(start)
        end = time.monotonic() + ATTACK_SECONDS
        while time.monotonic() < end:
            for sock in socks:
                send_what_goes(sock, piece)


def slow_headers(flo: Attacked) -> None:
    trickle(flo, b"*2\r\n$", b"0", 150)


def slow_bodies(flo: Attacked) -> None:
    trickle(flo, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9000000\r\n", b"x" * 100, 150)


def slow_binary_payloads(flo: Attacked) -> None:
    trickle(flo, b"FLO\x01\x11\x00\x00\x00" + bytes(8) + (9_000_000).to_bytes(4, "little") + bytes(12), b"x" * 100, 150)


def readers_that_never_read(flo: Attacked) -> None:
    with flo.connect() as client:
        client.command("SET", "large", b"v" * 1_000_000)
    with ExitStack() as stack:
        for sock in [connect(flo, stack) for _ in range(30)]:
            sock.sendall(encode("GET", "large") * 20)
        with flo.connect() as client:
            for _ in range(50):
                client.command("PING")


def tiny_requests(flo: Attacked) -> None:
    """Hundreds of thousands, in all repeats."""
    count = 120_000
    with ExitStack() as stack:
        sock = connect(flo, stack)
        thread = threading.Thread(target=sock.sendall, args=(b"PING\r\n" * count,))
        thread.start()
        left = count * len(b"+PONG\r\n")
        while left:
            left -= len(sock.recv(1 << 20))
        thread.join()


def false_lengths(flo: Attacked) -> None:
    for length in (2**31, 2**31 - 1, 2**32, 2**63, 2**63 - 1, 2**64, -1, -(2**63)):
        for data in (b"*%d\r\n" % length, b"*2\r\n$3\r\nGET\r\n$%d\r\n" % length, b"$%d\r\n" % length):
            with ExitStack() as stack:
                for sock in [connect(flo, stack) for _ in range(5)]:
                    send_what_goes(sock, data + b"x" * 1000)
    for length in (2**31, 2**32 - 1):
        with ExitStack() as stack:
            send_what_goes(connect(flo, stack), b"FLO\x01\x11\x00\x00\x00" + bytes(8) + length.to_bytes(4, "little") + bytes(12))


def nested_arrays(flo: Attacked) -> None:
    with ExitStack() as stack:
        for sock in [connect(flo, stack) for _ in range(20)]:
            send_what_goes(sock, b"*1\r\n" * 100_000)


def many_arguments(flo: Attacked) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            sock = connect(flo, stack)
            send_what_goes(sock, b"*1048576\r\n$3\r\nDEL\r\n" + b"$1\r\nk\r\n" * 300_000)


def long_lines(flo: Attacked) -> None:
    with ExitStack() as stack:
        for sock in [connect(flo, stack) for _ in range(20)]:
            send_what_goes(sock, b"x" * 200_000)


def churn(flo: Attacked) -> None:
    for number in range(1500):
        sock = socket.create_connection(("127.0.0.1", flo.port), timeout=30)
        if number % 3 == 0:
            sock.sendall(b"PING\r\n")
        sock.close()


def many_connections(flo: Attacked) -> None:
    with ExitStack() as stack:
        for sock in [connect(flo, stack) for _ in range(1500)]:
            sock.sendall(b"PING\r\n")


def large_values(flo: Attacked) -> None:
    with flo.connect() as client:
        for _ in range(5):
            client.command("SET", "large", b"v" * (4 << 20))
        client.command("DEL", "large")


def many_waits(flo: Attacked) -> None:
    with ExitStack() as stack:
        for sock in [connect(flo, stack) for _ in range(500)]:
            sock.sendall(encode("BRPOP", "nothing", "0"))
        with flo.connect() as client:
            for _ in range(20):
                client.command("PING")


HTTP_PUT = b"PUT /api/v1/kv/default/keys/k HTTP/1.1\r\nHost: localhost\r\n"


def http_header_floods(flo: Attacked) -> None:
    with ExitStack() as stack:
        for sock in [connect(flo, stack) for _ in range(20)]:
            send_what_goes(sock, HTTP_PUT + b"X-Y: z\r\n" * 30_000)
        for sock in [connect(flo, stack) for _ in range(20)]:
            send_what_goes(sock, b"GET /" + b"%41" * 60_000)


def http_slow_headers(flo: Attacked) -> None:
    trickle(flo, HTTP_PUT, b"X-Y: z\r\n", 150)


def http_slow_bodies(flo: Attacked) -> None:
    trickle(flo, HTTP_PUT + b"Content-Length: 9000000\r\n\r\n", b"x" * 100, 150)


def http_tiny_chunks(flo: Attacked) -> None:
    with ExitStack() as stack:
        for sock in [connect(flo, stack) for _ in range(20)]:
            send_what_goes(sock, HTTP_PUT + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000)


def http_large_lists(flo: Attacked) -> None:
    """In JSON, of bytes that need base64 there, and of text that needs escapes."""
    for value in (b"\xff" * 500_000, b'"\n' * 250_000):
        with flo.connect() as client:
            for number in range(30):
                client.command("SET", f"large:{number}", value)
        with ExitStack() as stack:
            for sock in [connect(flo, stack) for _ in range(3)]:
                sock.settimeout(10)
                sock.sendall(b"GET /api/v1/kv/default/keys?prefix=large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while sock.recv(1 << 20):
                    pass
    with flo.connect() as client:
        client.command("DEL", *[f"large:{number}" for number in range(30)])


def http_pipelines(flo: Attacked) -> None:
    with ExitStack() as stack:
        for sock in [connect(flo, stack) for _ in range(20)]:
            send_what_goes(sock, b"GET /api/v1/kv/default/keys/k?wait=1 HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        for sock in [connect(flo, stack) for _ in range(20)]:
            send_what_goes(sock, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)


def http_gzip_bombs(flo: Attacked) -> None:
    """At the door for line protocol: what inflates to too much, what ends too soon, what is no gzip, what is refused only at its end."""
    bomb = gzip.compress(b"\n" * (40 << 20))
    late = gzip.compress(b"\n".join(b"m v=%d" % number for number in range(30_000)) + b"\nm v=")
    bodies = [bomb, bomb[:-9], bomb[: len(bomb) // 2], b"x" * 10_000, late]
    for _ in range(3):
        with ExitStack() as stack:
            socks = [connect(flo, stack) for _ in bodies]
            for sock, body in zip(socks, bodies, strict=True):
                head = b"POST /write?precision=ms HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Encoding: gzip\r\n"
                send_what_goes(sock, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            for sock in socks:
                sock.settimeout(10)
                with suppress(OSError):
                    while sock.recv(1 << 20):
                        pass
    with flo.connect() as client:
        client.command("FLUSHALL")


def series_refused(flo: Attacked) -> None:
    """Queries and lines that are wrong at their end, too deep, or too much; and a regular expression that makes other machines slow."""
    with flo.connect() as client:
        client.command("TS.WRITE", "\n".join(f"cpu,host={'a' * (number % 40)}{number} v=1" for number in range(2000)))
        for _ in range(10):
            client.pipeline(
                ("TS.WRITE", "cpu v=1\n" * 20_000 + "cpu v="),
                ("TS.WRITE", "cpu," + ",".join(f"t{number}=v" for number in range(20_000)) + " v=1"),
                ("TS.WRITE", "m" * 200_000 + " v=1"),
                ("TS.QUERY", "cpu[" + "9" * 50_000),
                ("TS.QUERY", "cpu | math(" + "(" * 50_000),
                ("TS.QUERY", "cpu" + " | abs()" * 20_000),
                ("TS.QUERY", "cpu[3650d] | window(1ms) | avg()"),
                ("TS.QUERY", 'cpu{host=~"(a|a|aa)*(a*)*b$"}[1h] | count()'),
                ("TS.QUERY", 'cpu{host=~"' + "(" * 20_000 + '"}'),
            )
        client.command("FLUSHALL")


ATTACKS: list[Attack] = [
    slow_headers, slow_bodies, slow_binary_payloads, readers_that_never_read, tiny_requests, false_lengths, nested_arrays,
    many_arguments, long_lines, churn, many_connections, large_values, many_waits, http_header_floods, http_slow_headers, http_slow_bodies,
    http_tiny_chunks, http_large_lists, http_pipelines, http_gzip_bombs, series_refused,
]  # fmt: skip


NEIGHBOUR = """
import select, socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
if sys.argv[2:]:
    sock.sendall(b"AUTH " + sys.argv[2].encode() + b"\\r\\n")
    assert sock.recv(100) == b"+OK\\r\\n"
request = b"*3\\r\\n$3\\r\\nSET\\r\\n$9\\r\\nneighbour\\r\\n$1\\r\\nv\\r\\n*2\\r\\n$3\\r\\nGET\\r\\n$9\\r\\nneighbour\\r\\n"
expected = b"+OK\\r\\n$1\\r\\nv\\r\\n"
waits = []
while not select.select([sys.stdin], [], [], 0.001)[0] or not waits:
    started = time.monotonic()
    sock.sendall(request)
    data = b""
    while len(data) < len(expected):
        more = sock.recv(100)
        assert more
        data += more
    assert data == expected, data
    waits.append(time.monotonic() - started)
    if len(waits) == 1:
        print("here", flush=True)
print(len(waits), sorted(waits)[len(waits) * 99 // 100], max(waits))
"""


class Neighbour:
    """A client, in a process of its own, that minds its own business meanwhile: a SET and a GET a millisecond or so."""

    def __init__(self, flo: Attacked, *secret: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NEIGHBOUR, str(flo.port), *secret], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.served = 0
        self.p99 = self.longest = 0.0  # seconds, by its own clock

    def __enter__(self) -> "Neighbour":
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "here\n"
        return self

    def __exit__(self, *_: object) -> None:
        told, _error = self._process.communicate(timeout=60)
        count, p99, longest = told.split()
        self.served, self.p99, self.longest = int(count), float(p99), float(longest)


def info(flo: FloProcess) -> dict[str, str]:
    with flo.connect() as client:
        return dict(line.split(":", 1) for line in client.command("INFO").decode().split("\r\n") if ":" in line)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    with FloProcess(tmp_path_factory.mktemp("limits") / "data", environment={"FLO_KV_HISTORY_DEPTH": "1"}) as flo:
        yield flo


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_neighbours_memory_and_descriptors(attacked: FloProcess, attack: Attack, tmp_path: Path, long_run: bool) -> None:
    """By the server's own histogram, 99 of 100 waits are under 50 ms, the attackers' own too; or else the neighbour's are no longer than
    its like's at redis-server under the same attack. Then everything that was taken is given back."""
    flo = attacked
    waits: list[float] = []  # the neighbour's, seconds, of each repeat; 0 where the server's own histogram is well
    left: list[tuple[int, int]] = []
    # the last repeat takes no more than the one before; malloc's arenas may need a repeat or two more to settle
    while len(left) < (3 if long_run else 2) or (len(left) < 6 and (min(waits) > 0 or left[-1][0] > left[-2][0] + RSS_SLACK_BYTES)):
        with flo.connect() as client:
            client.command("CONFIG", "RESETSTAT")
        with Neighbour(flo) as neighbour:
            attack(flo)
        assert neighbour.served > 0
        waits.append(neighbour.p99 if int(info(flo)["flo_wait_p99_usec"]) >= NEIGHBOUR_P99_USEC else 0.0)
        wait_until(lambda: info(flo)["connected_clients"] == "1", "all of them gone")
        left.append((flo.rss_bytes(), flo.sockets()))
    if min(waits) * 1e6 >= NEIGHBOUR_P99_USEC:  # a fault of the server's shows in every repeat; a slow disk, or a busy machine, in some
        allowed = 0.0
        with RedisProcess(tmp_path) as redis:
            for _ in range(3):
                with Neighbour(redis) as neighbour:
                    attack(redis)
                allowed = max(allowed, neighbour.p99)
        assert min(waits) <= allowed, f"{min(waits) * 1000:.0f} ms, at redis-server {allowed * 1000:.0f} ms"
    wait_until(lambda: flo.sockets() <= left[-2][1], f"no more sockets than after the repeat before: {left}")
    assert left[-1][0] <= left[-2][0] + RSS_SLACK_BYTES, f"memory: {left}"
    assert "Traceback" not in flo.output()


@contextmanager
def many_descriptors() -> Iterator[None]:
    """As many as IDLE_CONNECTIONS take; where there may not be so many, the test is skipped."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE_CONNECTIONS + 500:
        pytest.skip(f"only {hard} descriptors may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE_CONNECTIONS + 500), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_request_costs_no_more_in_a_crowd(tmp_path: Path) -> None:
    """Ten thousand clients that always have a request on its way: the server's CPU for one, beside that of three hundred."""
    costs: dict[int, float] = {}
    with many_descriptors(), FloProcess(tmp_path / "data", "--durability", "ephemeral") as flo:
        for count in (300, IDLE_CONNECTIONS - 10):
            crowd = prepare(flo.port, "resp", "put", 1, count, 10_000, b"xxx")
            try:
                while crowd.done < 2 * count:  # all were served
                    crowd.run(0.2)
                before, done = flo.cpu_seconds(), 0
                while done < 20_000:
                    done += crowd.run(0.2)[0]
                costs[count] = (flo.cpu_seconds() - before) / done
            finally:
                crowd.close()
    few, many = costs.values()
    assert many < 4 * few, f"{many * 1e6:.0f} us a request, beside {few * 1e6:.0f}"


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"", id="silent", marks=pytest.mark.long),
        pytest.param(b"PING\r\n", id="resp", marks=pytest.mark.long),
        pytest.param(b"FLO\x01" + bytes(28), id="binary"),  # the most costly
    ],
)
def test_idle_connections(tmp_path: Path, first: bytes) -> None:
    """10,000 of them cost at most 4 KiB of memory each, and no CPU."""
    with many_descriptors(), FloProcess(tmp_path / "data") as flo, ExitStack() as stack:
        info(flo)
        before = flo.rss_bytes()
        for _ in range(IDLE_CONNECTIONS - 1):
            sock = connect(flo, stack)
            if first:
                sock.sendall(first)
                assert sock.recv(100)
        assert int(info(flo)["connected_clients"]) == IDLE_CONNECTIONS
        each = (flo.rss_bytes() - before) / IDLE_CONNECTIONS
        assert each <= IDLE_BYTES_MAX, f"{each:.0f} bytes a connection"
        cpu = flo.cpu_seconds()
        threading.Event().wait(1.5)  # what is measured is that nothing happens
        assert flo.cpu_seconds() - cpu <= 0.02
