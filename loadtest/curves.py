"""The cost of a request as one quantity grows: connections, the pipeline's depth, a value's size, the number of keys. Part of bench.py.

Each point is the server's CPU time for a request, user and system. The load comes from redis-benchmark. For the curve over connections it
comes from generator.py, because redis-benchmark opens only 1,280 a second; measuring begins when all are connected.
"""

import resource
import socket
from collections import deque
from collections.abc import Iterable, Sequence

from loadtest.compare import KEYS, Target, cpu_seconds, load
from loadtest.generator import prepare

DESCRIPTORS_BESIDES = 500
LARGE_KEYS = 500  # keys, for values over LARGE_BYTES
LARGE_BYTES = 10_000
MIDDLE_BYTES = 1000  # from this size on a tenth of the keys is used, or filling them would take most of the time
FEW_KEYS = 100_000  # used when the number of keys does not grow
AHEAD = 2  # batches sent before all answers of the first one have come
BATCH = 5_000  # requests
CURVES: dict[str, Sequence[int]] = {
    "connections": (1, 10, 100, 1000, 10_000),
    "depth": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "bytes": (10, 100, 1000, 10_000, 100_000, 1_000_000),
    "keys": (1000, 10_000, 100_000, 1_000_000, 10_000_000),  # last, because of the keys it leaves behind
}
Points = list[tuple[float, float]]


def pour(port: int, batches: Iterable[tuple[bytes, int]]) -> None:
    """Send batches (requests, number of line ends in their answers) as fast as they are answered. Raises `RuntimeError` for an error
    reply."""
    with socket.create_connection(("127.0.0.1", port), 120) as sock:
        owed: deque[int] = deque()
        got = 0

        def take(most: int) -> None:
            nonlocal got
            while len(owed) > most:
                while got < owed[0]:
                    data = sock.recv(1 << 20)
                    if not data or data.startswith(b"-"):
                        raise RuntimeError(f"the server answered {data[:100]!r}")
                    got += data.count(b"\n")
                got -= owed.popleft()

        for requests, lines in batches:
            sock.sendall(requests)
            owed.append(lines)
            take(AHEAD - 1)
        take(0)


def fill(target: Target, count: int) -> None:
    """Write the first `count` of redis-benchmark's keys, in order."""
    request = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$3\r\nxxx\r\n"
    pour(target.port, ((b"".join([request % n for n in range(at, min(at + BATCH, count))]), BATCH) for at in range(0, count, BATCH)))


def curve(targets: list[Target], across: str, seconds: float) -> dict[str, dict[str, Points]]:
    """CPU us a request of SET and GET as one quantity grows, by command and server."""
    found: dict[str, dict[str, Points]] = {command: {target.name: [] for target in targets} for command in ("set", "get")}
    for value in CURVES[across]:
        if across == "connections" and value + DESCRIPTORS_BESIDES > resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
            print(f"{value:,} connections are more than this machine's limit of descriptors")
            continue
        for command, lines in found.items():
            for target in targets:
                lines[target.name].append((value, _cost(target, command, across, value, seconds)))
    for command, lines in found.items():
        for name, points in lines.items():
            print(f"{command.upper()} against {across:<11} {name:<11} " + "  ".join(f"{x:,.0f}: {y:.2f} us" for x, y in points), flush=True)
    return found


def _cost(target: Target, command: str, across: str, value: int, seconds: float) -> float:
    """One point. SET comes before GET, and leaves the keys that GET reads."""
    size = value if across == "bytes" else 3
    large = size > LARGE_BYTES
    if across == "connections":
        return _cost_of_crowd(target, command, value, seconds)
    keys = value if across == "keys" else LARGE_KEYS if large else FEW_KEYS if size < MIDDLE_BYTES else FEW_KEYS // 10
    depth = value if across == "depth" else 1
    if command == "set" and not large:
        if across == "keys" and value > KEYS:
            fill(target, keys)
        elif across in ("bytes", "keys"):
            load(target, "set", 64, 2 * keys, keys=keys, size=size)
    least = 200 if large else 2000 * min(depth, 8)
    rate, _ = load(target, command, depth, least, keys=keys, size=size)
    _, cost = load(target, command, depth, max(int(rate * seconds), least), keys=keys, size=size)
    return cost


def _cost_of_crowd(target: Target, command: str, clients: int, seconds: float) -> float:
    if command == "set":
        fill(target, FEW_KEYS)
    crowd = prepare(target.port, "resp", {"set": "put"}.get(command, command), 1, clients, FEW_KEYS, b"xxx")
    try:
        while crowd.done < 3 * clients:  # every client was served more than once
            crowd.run(seconds / 2)
        before = cpu_seconds(target.pid)
        done, _ = crowd.run(max(seconds, clients / 10_000))
        return (cpu_seconds(target.pid) - before) / done * 1e6
    finally:
        crowd.close()
