"""The HTTP door: REST over every operation, and the few pages that are no operation."""

from flo.commands.binary import load_handlers
from flo.commands.modules import Modules

PAGES = Modules(
    *(f"flo.commands.http.{name}" for name in ("session", "pages", "metrics", "websocket", "dashboard", "influx")),
    *(f"flo.influxql.{name}" for name in ("statement", "parser", "columns", "where", "plan", "rows", "show", "execute", "answer")),
    "flo.commands.http.influx_query",
)


def load_pages() -> None:
    """Fill the tables of handlers and of pages."""
    load_handlers()
    PAGES.load()
