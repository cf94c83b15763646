"""A hundred clients with requests that take long: a neighbour with short ones waits for one or two of them, not for all."""

import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from flo.operations import BY_NAME
from flo.proto.binary import COMPRESSED, REQUEST, encode_request
from tests.server.test_limits import Attacked, Neighbour
from tests.support.processes import FloProcess, RedisProcess, encode

pytestmark = pytest.mark.slow

CLIENTS = 100
SECONDS = 1.2
WAIT_SECONDS = 0.1  # what the contract allows beside a hundred such clients, on a machine that is this test's alone
REQUESTS_WAITED = 8  # where one request alone takes so long that it is more: "one or two of them", and what else the machine has to do
TRIES = 8  # a machine that others use as well may stand still for a tenth of a second; a server that serves in turn takes seconds


def document() -> bytes:
    return json.dumps({"a": [{f"k{number}": "v" * 20} for number in range(20_000)], "z": {"b": 1}}).encode()


def empty_blocks() -> bytes:
    """A value compressed to as much as a request may hold, which inflates to nothing."""
    value = b"\x78\x01" + b"\x00\x00\x00\xff\xff" * (3 << 20) + b"\x03\x00" + zlib.adler32(b"").to_bytes(4, "big")
    request = bytearray(encode_request(BY_NAME["kv_put"], 1, 0, b"inflated", value, {}))
    assert zlib.decompress(value) == b""
    magic, code, _, *rest = REQUEST.unpack_from(request)
    REQUEST.pack_into(request, 0, magic, code, COMPRESSED, *rest)
    return bytes(request)


def repeated(server: Attacked, request: bytes, clients: int) -> Callable[[], None]:
    """Have so many clients send the request again and again; what ends that."""
    stop = threading.Event()

    def run() -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port)) as sock:
            while not stop.is_set():
                sock.sendall(request)
                sock.recv(1 << 20)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()

    def end() -> None:
        stop.set()
        for thread in threads:
            thread.join()

    return end


HOSTS = 5000


def lines(time: int) -> str:
    return "\n".join(f"cpu,host=h{number} v={number} {time}" for number in range(HOSTS))


MANY = [f"k{number}" for number in range(10_000)]
# name: what makes the request, clients, whether redis-server has it, whether somebody watches by MONITOR
ATTACKS: dict[str, tuple[Callable[[], bytes], int, bool, bool]] = {
    "JSON.GET of a path": (lambda: encode("JSON.GET", "document", "$.z"), CLIENTS, False, False),
    "JSON.SET of a path": (lambda: encode("JSON.SET", "document", "$.z.b", "2"), CLIENTS, False, False),
    "APPEND to 8 MiB": (lambda: encode("APPEND", "large", "x"), CLIENTS, True, False),
    "MGET of 10,000 keys": (lambda: encode("MGET", *MANY), CLIENTS, True, False),
    "MONITOR beside 10,000 keys": (lambda: encode("EXISTS", *(key.ljust(1000) for key in MANY)), 3, True, True),
    "MONITOR beside a million arguments": (lambda: encode("EXISTS", *["k"] * 1_000_000), 2, True, True),
    "50,000 points": (lambda: encode("TS.WRITE", "\n".join(map(lines, range(10**15, 10**15 + 10**10, 10**9)))), 8, False, False),
    "a regular expression over all tags": (
        lambda: encode("TS.QUERY", 'cpu{host=~"^(h|hh|h1)*([0-9]|[5-9]|1)*7$"}[0..2000000000000] | avg(1000d)'),
        20,
        False,
        False,
    ),
    "a query of all points": (lambda: encode("TS.QUERY", "cpu[0..2000000000000] | percentile(99) | topk(2)"), 20, False, False),
    "16 MiB of empty blocks": (empty_blocks, 4, False, False),
}


@pytest.fixture(scope="module")
def flo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FloProcess]:
    with FloProcess(tmp_path_factory.mktemp("slow") / "data", environment={"FLO_KV_HISTORY_DEPTH": "1"}) as flo:
        with flo.connect() as client:
            client.command("JSON.SET", "document", "$", document())
            assert client.command("TS.WRITE", lines(10**14)) == HOSTS
        yield flo


def wait_beside(server: Attacked, request: bytes, clients: int, monitored: bool) -> float:
    """What a neighbour waits, seconds: the 99th of a hundred, the worst where there were fewer."""
    with ExitStack() as stack:
        client = stack.enter_context(server.connect())
        client.command("SET", "large", b"v" * (8 << 20))
        if monitored:
            watcher = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            watcher.sendall(encode("MONITOR"))
            threading.Thread(target=lambda: drain(watcher), daemon=True).start()
        with Neighbour(server) as neighbour:
            end = repeated(server, request, clients)
            threading.Event().wait(SECONDS)  # how long the attack lasts
        end()
    return neighbour.p99


def takes_alone(server: Attacked, request: bytes) -> float:
    """What one such request takes when nobody else asks, seconds: the median of five."""
    took: list[float] = []
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        for _ in range(5):
            began = time.monotonic()
            sock.sendall(request)
            sock.recv(1)
            took.append(time.monotonic() - began)
            sock.settimeout(0.2)
            with suppress(TimeoutError):  # the rest of the answer
                while sock.recv(1 << 20):
                    pass
            sock.settimeout(None)
    return sorted(took)[2]


def drain(sock: socket.socket) -> None:
    with suppress(OSError):
        while sock.recv(1 << 20):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_a_neighbour_waits_for_one_or_two_of_them(flo: FloProcess, name: str, tmp_path: Path) -> None:
    make, clients, redis_has_it, monitored = ATTACKS[name]
    request = make()
    waits: list[float] = []
    allowed = WAIT_SECONDS
    while len(waits) < TRIES and min(waits, default=1e9) > allowed:
        waits.append(wait_beside(flo, request, clients, monitored))
        if waits[-1] > allowed:
            allowed = max(allowed, REQUESTS_WAITED * takes_alone(flo, request))
    beside = 0.0
    if redis_has_it and min(waits) > allowed:
        with RedisProcess(tmp_path) as redis:
            beside = wait_beside(redis, request, clients, monitored)
    print(f"{name}: {min(waits) * 1000:.0f} ms")
    assert min(waits) <= max(allowed, beside), f"{waits}, allowed {allowed}, at redis-server {beside}"
