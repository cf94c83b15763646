"""A recorder of metrics, and their chart in the terminal: the load of this machine.

    python3 metrics.py record 60       # sixty samples, one a second
    python3 metrics.py chart           # the last quarter of an hour, in bars of text
    flo ts query 'machine[15m] | field(load) | avg(10s)' --plot     # the same by flo itself, as a curve

A sample that could not be written because Flo was away is dropped after the client's own attempts: the next one is a second later. It
has the time at which it was taken, so the client may send it again after a lost connection: the same point twice is one point.
"""

import os
import sys
import time

import flo
from flo.errors import Disconnected


def record(client: flo.Client, samples: int, seconds: float) -> None:
    for _ in range(samples):
        load, load5, _ = os.getloadavg()
        try:
            client.ts.write(
                "machine", f"load={load},load5={load5}", tags=f"host={os.uname().nodename}", timestamp=time.time_ns() // 1_000_000
            )
        except Disconnected as e:
            print(f"dropped a sample: {e}", file=sys.stderr)
        time.sleep(seconds)


def chart(client: flo.Client, window: str) -> None:
    for series in client.ts.query(f"machine[15m] | field(load) | avg({window})")["series"]:
        print(series["tags"]["host"])
        most = max(value for _, value in series["points"]) or 1
        for ms, value in series["points"]:
            print(f"{time.strftime('%H:%M:%S', time.localtime(ms / 1000))} {value:6.2f} {'#' * round(40 * value / most)}")


if __name__ == "__main__":
    with flo.Client(os.environ.get("FLO_URL", "flo://127.0.0.1:9000")) as client:
        match sys.argv[1:]:
            case ["record", samples, *seconds]:
                record(client, int(samples), float(*seconds or ["1"]))
            case ["chart", *window]:
                chart(client, *window or ["10s"])
            case _:
                sys.exit(__doc__)
