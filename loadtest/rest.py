#!/usr/bin/env python3
"""HTTP beside RESP on one server: GET and PUT of a key by wrk, GET and SET by redis-benchmark, 50 connections that are kept.

    python3 loadtest/rest.py [--python /path/to/python3.13] [--seconds 3] [--rounds 3]

Slices alternate; a row is the median of the rounds, and the ratio has its lowest and highest. Needs wrk and redis-benchmark.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.processes import FloProcess

CLIENTS = 50
KEYS = 10_000
PAIRS = (("GET", "GET", "get"), ("PUT", "SET", "set"))  # over HTTP, over RESP, redis-benchmark's name
SCRIPT = """
request = function()
  local path = "/api/v1/kv/default/keys/key:" .. string.format("%%012d", math.random(0, %d))
  return wrk.format("%s", path, nil, %s)
end
"""


def over_http(port: int, method: str, seconds: float, directory: Path) -> float:
    """Requests a second."""
    script = directory / f"{method}.lua"
    script.write_text(SCRIPT % (KEYS - 1, method, '"xxx"' if method == "PUT" else "nil"))
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds:.0f}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 + seconds).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"wrk met errors:\n{said}")
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])


def over_resp(port: int, test: str, rate: float, seconds: float) -> float:
    """Requests a second. `rate` is about how many there will be: redis-benchmark takes a number of requests."""
    command = ["redis-benchmark", "-p", str(port), "-c", str(CLIENTS), "-r", str(KEYS), "-t", test, "-n", str(int(rate * seconds)), "-q"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60 + 10 * seconds).stdout
    return float(re.findall(r"([\d.]+) requests per second", said)[-1])


def main() -> int:
    """Print a line for each pair."""
    parser = argparse.ArgumentParser(description="HTTP beside RESP on one server.")
    parser.add_argument("--python", default=sys.executable, help="the Python that Flo runs on (default: this one)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a slice")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flo-rest-") as name:
        directory = Path(name)
        with FloProcess(directory / "data", python=args.python) as server:
            with server.connect() as client:
                client.pipeline(*[("SET", f"key:{number:012}", "xxx") for number in range(KEYS)])  # a miss would be a 404
            rates: dict[str, list[float]] = {}
            for _ in range(args.rounds):
                for method, _, test in PAIRS:
                    rates.setdefault(f"http {method}", []).append(over_http(server.port, method, args.seconds, directory))
                    rates.setdefault(f"resp {test}", []).append(over_resp(server.port, test, 60_000, args.seconds))
    for method, command, test in PAIRS:
        http, resp = rates[f"http {method}"], rates[f"resp {test}"]
        ratios = [h / r for h, r in zip(http, resp, strict=True)]
        print(
            f"HTTP {method} over RESP {command}: {statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]   "
            f"{statistics.median(http) / 1000:.1f} k/s, {statistics.median(resp) / 1000:.1f} k/s"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
