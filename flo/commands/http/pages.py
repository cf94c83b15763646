"""The pages that are no operation: `/`, `/health` and `/ready`."""

from typing import Any

from flo.commands.http.answers import RETRY_AFTER
from flo.commands.http.routes import page
from flo.commands.http.session import Exchange, HttpSession

TEXT = ((b"Content-Type", b"text/plain; charset=utf-8"),)


@page("GET", "health", open=True)
def health(session: HttpSession, exchange: Exchange) -> Any:
    """200: the process answers."""
    return 200, TEXT, b"alive\n"


@page("GET", "ready", open=True)
def ready(session: HttpSession, exchange: Exchange) -> Any:
    """200 when requests are served, 503 while the log is read. Why is said to who may know."""
    host = session.host
    if host.loading:
        told = host.progress.sentence() if host.secret is None else "loading"
        return 503, TEXT + RETRY_AFTER, told.encode() + b"\n"
    return 200, TEXT, b"ready\n"
