"""A private InfluxDB 1.6 (Debian's package `influxdb`) for comparisons: its own directory, a port from the kernel, no reports to its maker.

Its line-protocol parser crashes on some malformed lines: write only well-formed ones to it.
"""

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from tests.support.processes import STOP_SECONDS, wait_until
from tests.support.rest import Rest

MISSING = "influxd is missing: apt-get install influxdb"
_CONFIGURATION = """
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:0"
  log-enabled = false
[monitor]
  store-enabled = false
[continuous_queries]
  enabled = false
"""


def is_installed() -> bool:
    """Whether this machine has InfluxDB."""
    return shutil.which("influxd") is not None


class InfluxProcess:
    """An InfluxDB: a context manager."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        configuration = directory / "influxdb.conf"
        configuration.write_text(_CONFIGURATION.format(directory=directory))
        self._log = directory / "log"
        with self._log.open("wb") as log:
            command = ["influxd", "run", "-config", str(configuration)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.port: int = wait_until(self._listening_port, "InfluxDB's listening line")

    def _listening_port(self) -> int:
        match = re.search(r"Listening on HTTP\S* .*?addr=\S+?:(\d+)", self._log.read_text())
        if match:
            return int(match[1])
        if self._process.poll() is not None:
            raise RuntimeError(f"InfluxDB ended with {self._process.returncode}: {self._log.read_text()}")
        return 0

    def __enter__(self) -> "InfluxProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class InfluxDoor:
    """The doors of InfluxDB, or of Flo, on one connection."""

    def __init__(self, port: int) -> None:
        self.rest = Rest(port)

    def create(self, database: str) -> None:
        """Make a database."""
        answer = self.rest.ask("POST", f"/query?{urlencode({'q': f'CREATE DATABASE {database}'})}")
        assert answer.json == {"results": [{"statement_id": 0}]}, answer

    def write(self, database: str, lines: str) -> None:
        """Write lines with times in ms."""
        answer = self.rest.ask("POST", f"/write?db={database}&precision=ms", lines.encode())
        assert answer.status == 204, answer

    def query(self, database: str, text: str, **parameters: str) -> Any:
        """The JSON of an answer."""
        return self.rest.ask("GET", f"/query?{urlencode({'db': database, 'q': text, **parameters})}").json

    def chunks(self, database: str, text: str, **parameters: str) -> list[Any]:
        """The documents of a chunked answer."""
        answer = self.rest.ask("GET", f"/query?{urlencode({'db': database, 'q': text, 'chunked': 'true', **parameters})}")
        return [json.loads(line) for line in answer.body.splitlines()]

    def close(self) -> None:
        """Close the connection."""
        self.rest.connection.close()
