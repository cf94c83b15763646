"""What open pages of the dashboard cost the server: its CPU with none open, and with five.

    python3 loadtest/dashboard.py [--queues 10000] [--seconds 30]

It starts a server with so many queues, and five pages in a headless Chromium (overview, keys, queues, one queue, a stream's tail). It
prints the server's CPU as a share of one core, and of each page the time until it can be used and the bytes that came.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from flo.client import Client
from tests.support.node import need
from tests.support.processes import ROOT, FloProcess

SCRIPT = ROOT / "loadtest" / "dashboard.mjs"


def fill(flo: FloProcess, queues: int) -> None:
    """Queues, keys and a stream."""
    with Client(f"flo://127.0.0.1:{flo.port}") as client:
        for number in range(queues):
            client.queues.enqueue(f"queue:{number:05}", b"a message")
        client.kv.batch_put([(f"key:{number:05}", b"value") for number in range(10_000)])
        for number in range(1000):
            client.streams.append("events", b'{"number": %d}' % number)


def share(flo: FloProcess, seconds: float) -> float:
    """The CPU that the server takes in so many seconds, of one core."""
    before, began = flo.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (flo.cpu_seconds() - before) / (time.monotonic() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30)
    args = parser.parse_args()
    node = need("playwright-core")
    with tempfile.TemporaryDirectory() as directory, FloProcess(Path(directory) / "data") as flo:
        fill(flo, args.queues)
        time.sleep(5)  # what is prepared behind a fill
        none = share(flo, args.seconds)
        with subprocess.Popen(
            [node, str(SCRIPT), f"http://127.0.0.1:{flo.port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        ) as pages:
            assert pages.stdin is not None and pages.stdout is not None
            told = json.loads(pages.stdout.readline())
            five = share(flo, args.seconds)
            pages.stdin.close()
            pages.wait(30)
        print(f"{args.queues:,} queues: {none * 100:.2f} % of a core with no page open, {five * 100:.2f} % with five")
        for page in told["pages"]:
            print(f"{page['hash']:40} usable after {page['ms']:.0f} ms, {page['bytes'] / 1000:.0f} kB")


if __name__ == "__main__":
    main()
