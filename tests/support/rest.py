"""HTTP clients with nothing hidden: http.client for requests, a socket for bytes, curl."""

import http.client
import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

SECONDS = 30


class Answer(NamedTuple):
    """A response. The names in `headers` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def sentence(self) -> str:
        """A refusal's sentence. Fails if the body is no problem of RFC 9457."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json
        assert problem["status"] == self.status and problem["title"] and problem["detail"] == problem["error"], self
        return str(problem["detail"])


class Rest:
    """One connection, kept alive: a context manager. Paths are sent as they are."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request. `if_match="7"` is the field If-Match."""
        self.connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = self.connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    def send_json(self, method: str, path: str, value: Any) -> Answer:
        """One request with a JSON body."""
        return self.ask(method, path, json.dumps(value).encode(), content_type="application/json")

    def __enter__(self) -> "Rest":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


class Raw:
    """A socket, and a reader of responses: a context manager."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.file = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self.sock.sendall(data)

    def answer(self, method: str = "GET") -> Answer:
        """The next response. Raises `ConnectionError` at the end of input."""
        line = self.file.readline()
        if not line:
            raise ConnectionError("the connection has ended")
        version, status, _ = line.decode().split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {}
        while (field := self.file.readline()) != b"\r\n":
            name, _, value = field.decode("latin-1").rstrip("\r\n").partition(": ")
            headers[name.lower()] = value
        bodiless = method == "HEAD" or int(status) in (100, 204, 304)
        return Answer(int(status), headers, b"" if bodiless else self.file.read(int(headers["content-length"])))

    def at_end(self) -> bool:
        """Whether the server has closed the connection (waits for it or for data)."""
        return self.file.read(1) == b""

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()


def request(method: str, path: str, body: bytes = b"", *fields: str) -> bytes:
    """A request's bytes."""
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def key_path(key: bytes, rest: str = "") -> str:
    """The path of a key of the namespace `default`."""
    return f"/api/v1/kv/default/keys/{escaped(key)}{rest}"


def escaped(name: bytes) -> str:
    """A name as a segment of a path; a client that does not rewrite `.` and `..` is needed for these."""
    return quote(name, safe="")


def curl(port: int, path: str, *flags: str, directory: Path | None = None) -> bytes:
    """What curl prints. Skips the test where it is not installed."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed: apt-get install curl")
    command = [program, "-sS", "--path-as-is", "--max-time", str(SECONDS), *flags, f"http://127.0.0.1:{port}{path}"]
    done = subprocess.run(command, capture_output=True, cwd=directory, timeout=2 * SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
