"""A cache for a web application (WSGI, here by wsgiref): a page that takes a second to make is made once in ten.

    python3 cached_web.py 8080 &
    curl -i localhost:8080/tea       # X-Cache: miss
    curl -i localhost:8080/tea       # X-Cache: hit

All processes share the cache. When a page is missing, one request makes it and the others wait for it, so that a popular page does not
bring down the database behind it when it expires. Whoever makes a page holds a lease: if it dies, the lease runs out and another goes
on. A cache must not take the application down with it: if Flo is away, each page is made anew. A page is at most TTL seconds older than
its data.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import flo
from flo.errors import Conflict, FloError

TTL = 10
LEASE = 5

client = flo.Client(os.environ.get("FLO_URL", "flo://127.0.0.1:9000"), connect_timeout=0.5, timeout=2, retries=0, max_connections=64)


def make_page(path: str) -> bytes:
    time.sleep(1)  # the database
    return f"the price of {path.strip('/')}, as of {time.time():.3f}\n".encode()


def cached(key: str, make: Callable[[], bytes]) -> tuple[bytes, str]:
    """The cached value or a new one, and "hit", "miss", or "away" if there is no cache."""
    value = None
    try:
        while True:
            if entry := client.kv.get(key):
                return entry.value, "hit"
            try:
                lease = client.kv.put(f"making:{key}", "", ttl=LEASE, if_absent=True)
            except Conflict as held:  # another request makes it: wait until it is made, or the lease has run out
                client.kv.changed(f"making:{key}", LEASE * 1000, known=held.version)
                continue
            try:
                if entry := client.kv.get(key):  # made between the look above and the lease
                    return entry.value, "hit"
                value = make()
                client.kv.put(key, value, ttl=TTL)
            finally:
                with suppress(Conflict):  # it took longer than the lease
                    client.kv.delete(f"making:{key}", cas=lease)
            return value, "miss"
    except FloError:
        return make() if value is None else value, "away"


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    page, cache = cached(f"page:{path}", lambda: make_page(path))
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Cache", cache)])
    return [page]


class Server(ThreadingMixIn, WSGIServer):
    """wsgiref's, with a thread for each request."""


if __name__ == "__main__":
    with make_server("127.0.0.1", int(sys.argv[1]), application, Server) as server:
        print(f"http://127.0.0.1:{server.server_port}/tea", flush=True)
        server.serve_forever()
