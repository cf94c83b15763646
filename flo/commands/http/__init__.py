"""The HTTP door: REST over every operation, and the few pages that are no operation."""

from flo.commands.binary import load_handlers
from flo.commands.modules import Modules

PAGES = Modules("flo.commands.http.session", "flo.commands.http.pages", "flo.commands.http.metrics", "flo.commands.http.websocket")


def load_pages() -> None:
    """Fill the tables of handlers and of pages."""
    load_handlers()
    PAGES.load()
