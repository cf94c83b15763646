"""The time of flo.pyz from exec to its first PONG, in an empty directory, and to print its help; on each given Python. The first start
compiles; later starts find the compiled code (contrib/pyz_main.py).

make dist && python3 loadtest/startup.py [PYTHON …]
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.processes import free_port  # noqa: E402

RUNS = 7
PYZ = ROOT / "dist" / "flo.pyz"


def very_first_pong(python: str) -> float:
    """`first_pong` without compiled code."""
    with tempfile.TemporaryDirectory(prefix="flo-startup-") as empty:
        return first_pong(python, empty)


def first_pong(python: str, cache: str | None = None) -> float:
    """Seconds from exec to the first PONG."""
    port = free_port()
    environment = os.environ | ({"XDG_CACHE_HOME": cache} if cache else {})
    with tempfile.TemporaryDirectory(prefix="flo-startup-") as directory:
        began = time.perf_counter()
        command = [python, str(PYZ), "server", "start", "--port", str(port), "--data-dir", f"{directory}/data"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        try:
            while server.poll() is None:
                try:
                    with socket.create_connection(("127.0.0.1", port)) as client:
                        client.sendall(b"PING\r\n")
                        if client.recv(100) == b"+PONG\r\n":
                            return time.perf_counter() - began
                except OSError:
                    time.sleep(0.001)
            raise SystemExit(f"the server ended with {server.returncode}")
        finally:
            server.terminate()
            server.wait()


def help_text(python: str) -> float:
    """Seconds to print the help."""
    began = time.perf_counter()
    subprocess.run([python, str(PYZ), "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> int:
    """Print the median and the worst time."""
    if not PYZ.exists():
        print("dist/flo.pyz is missing: make dist", file=sys.stderr)
        return 1
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="flo-startup-") as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        for python in sys.argv[1:] or [sys.executable]:
            version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.strip()
            for name, measure in (("very first PONG", very_first_pong), ("first PONG", first_pong), ("--help", help_text)):
                measure(python)
                times = sorted(measure(python) * 1000 for _ in range(RUNS))
                print(f"{version}: {name:<15} {times[RUNS // 2]:.0f} ms median, {times[-1]:.0f} ms worst of {RUNS}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
