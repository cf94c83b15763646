"""The cost of compaction: the final size of a directory, and the waits of a steady client during a compaction.

    python3 loadtest/compaction.py [--keys 1000000] [--times 20] [--depth 1] [--pairs 5] [--python PATH]

Overwrites --keys keys of 64 bytes --times times at random, while compactions begin by themselves; then prints the size of the directory
compared with its live data (and history). Then it measures pairs of a few seconds without and with a compaction, with a client that sends
1,000 requests a second; the figures are the server's own (flo_wait_p99_usec, ticks over 20 ms).
"""

import argparse
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.processes import FloProcess, RespClient, encode, wait_until  # noqa: E402

VALUE_BYTES = 64
RECORD_BYTES = 28  # of a record, in addition to its key and its value
BATCH = 1000
RATE = 1000
WINDOW_SECONDS = 3.0
TICK_MS = 20
SETTLE_SECONDS = 600  # enough for two gigabytes on a slow disk


def info(client: RespClient) -> dict[str, str]:
    """INFO's fields."""
    return dict(line.split(":", 1) for line in client.command("INFO").decode().split("\r\n") if ":" in line)


def overwrite(client: RespClient, keys: int, times: int, rng: random.Random) -> None:
    """Write every key once, then keys at random; check that no reply is an error."""
    for start in range(0, keys * times, BATCH):
        first = start < keys
        batch = [b"key:%d" % (start + i if first else rng.randrange(keys)) for i in range(min(BATCH, keys * times - start))]
        value = rng.randbytes(VALUE_BYTES)
        client.send(b"".join([encode("SET", key, value) for key in batch]))
        left = len(batch) * len(b"+OK\r\n")
        while left:
            data = client.sock.recv(left)
            assert data and b"-" not in data, data[:200]
            left -= len(data)


def steady(client: RespClient, keys: int, seconds: float, rng: random.Random) -> dict[str, str]:
    """Send a request each ms; returns INFO's fields afterwards."""
    client.command("CONFIG", "RESETSTAT")
    client.command("LATENCY", "RESET")
    began = time.monotonic()
    for number in range(int(seconds * RATE)):
        key = b"key:%d" % rng.randrange(keys)
        client.command("GET", key) if number % 2 else client.command("SET", key, rng.randbytes(VALUE_BYTES))
        pause = began + (number + 1) / RATE - time.monotonic()
        if pause > 0:
            time.sleep(pause)
    return info(client)


def main() -> int:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--python", default=sys.executable)
    args = parser.parse_args()
    rng = random.Random(1)
    directory = Path(tempfile.mkdtemp(prefix="flo-compaction-"))
    settings = {"FLO_KV_HISTORY_DEPTH": str(args.depth)}
    try:
        with FloProcess(directory / "data", environment=settings, python=args.python) as flo, flo.connect() as client:
            began = time.monotonic()
            overwrite(client, args.keys, args.times, rng)
            print(f"{args.keys * args.times} writes in {time.monotonic() - began:.0f} s")
            flo_settles(client)
            each = len(b"key:%d" % (args.keys // 2)) + VALUE_BYTES + RECORD_BYTES
            kept = args.keys * min(args.depth, args.times) * each
            size = sum(path.stat().st_blocks * 512 for path in (directory / "data").iterdir())
            what = "live and history" if args.depth > 1 else "live"
            log = int(info(client)["flo_log_size"])
            print(f"{what} {kept >> 20} MiB; log {log / kept:.2f} times that, directory {size / kept:.2f}")
            before: list[int] = []
            during: list[int] = []
            client.command("CONFIG", "SET", "latency-monitor-threshold", str(TICK_MS))
            for _ in range(args.pairs):
                calm = steady(client, args.keys, WINDOW_SECONDS, rng)
                assert flo.process is not None
                flo.process.send_signal(signal.SIGUSR1)
                wait_until(lambda: info(client)["aof_rewrite_in_progress"] == "1", "a compaction")
                busy = steady(client, args.keys, WINDOW_SECONDS, rng)
                ticks = client.command("LATENCY", "HISTORY", "tick")
                before.append(int(calm["flo_wait_p99_usec"]))
                during.append(int(busy["flo_wait_p99_usec"]))
                longest = f"longest {calm['flo_wait_max_usec']} and {busy['flo_wait_max_usec']} us"
                going_on = "" if busy["aof_rewrite_in_progress"] == "1" else "; the compaction ended before the measurement"
                print(f"p99 {before[-1]} us without, {during[-1]} us with; {longest}; ticks over {TICK_MS} ms: {len(ticks)}{going_on}")
                flo_settles(client)
            ratios = [with_ / without for with_, without in zip(during, before, strict=True)]
            if ratios:
                print(f"p99 with compaction over without: {statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})")
    finally:
        shutil.rmtree(directory)
    return 0


def flo_settles(client: RespClient) -> None:
    """Wait until no compaction runs."""
    wait_until(lambda: info(client)["aof_rewrite_in_progress"] == "0", "the end of a compaction", SETTLE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
