"""The lists of server_view: the connected clients, the slow requests, the last lines of the log, the settings.

Each is a list of (position, row), in ascending order of the position; a cursor is the position of the last row of a page. No row holds a
secret: requests with one are in no list, and where a secret lies is not shown.
"""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from flo.commands.binary.names import json_text
from flo.commands.host import Host
from flo.config import setting_rows
from flo.errors import BadRequest

Row = dict[str, Any]
Rows = list[tuple[int, Callable[[], Row]]]  # only the rows of a page are made


def page(host: Host, view: str, limit: int, cursor: bytes) -> Row:
    """One page of a view, and the cursor of the next one. Raises `BadRequest` for a cursor of another view."""
    mark, _, digits = cursor.partition(b":")
    if cursor and (mark != view.encode() or not digits.removeprefix(b"-").isdigit() or len(digits) > 20):
        raise BadRequest(f"the option cursor is no cursor of the view {view}; send the cursor of the answer before, unchanged")
    rows = LISTS[view](host)
    left = [row for row in rows if row[0] > int(digits)] if cursor else rows
    following = b64encode(b"%b:%d" % (view.encode(), left[limit - 1][0])).decode() if len(left) > limit else ""
    return {view: [make() for _, make in left[:limit]], "cursor": following}


def _clients(host: Host) -> Rows:
    def row(session: Any) -> Row:
        peer = session.peer
        return {
            "id": peer.id,
            "address": peer.address,
            "local_address": peer.local_address,
            "protocol": session.protocol,
            "name": json_text(session.name),
            "age_seconds": int(peer.age_seconds),
            "idle_seconds": int(peer.idle_seconds),
            "last_command": session.last_command,
            "waiting": len(session.waits),
            "input_bytes": peer.input_bytes,
            "output_bytes": peer.output_bytes,
            "held_bytes": session.held,
        }

    return [(session.peer.id, lambda session=session: row(session)) for session in host.sessions()]  # type: ignore[misc]


def _slow(host: Host) -> Rows:
    def row(entry: Any) -> Row:
        return {
            "id": entry.id,
            "time": entry.when * 1000,
            "usec": entry.micros,
            "words": [json_text(word) for word in entry.args],
            "address": entry.peer,
            "name": json_text(entry.name),
        }

    return [(-entry.id, lambda entry=entry: row(entry)) for entry in reversed(host.slow)]  # type: ignore[misc]


def _log(host: Host) -> Rows:
    return [(-line.number, line._asdict) for line in reversed(host.operator_log.recent)]


def _settings(host: Host) -> Rows:
    def row(setting: Any) -> Row:
        value = getattr(host.settings, setting.attribute)
        if setting.attribute == "port":
            value = host.port
        return {"name": setting.full_name, "value": value, "default": setting.default, "summary": setting.summary, "live": setting.live}

    shown = [setting for setting in setting_rows() if "secret" not in setting.name]
    return [(at, lambda setting=setting: row(setting)) for at, setting in enumerate(shown)]  # type: ignore[misc]


LISTS: dict[str, Callable[[Host], Rows]] = {"clients": _clients, "slow": _slow, "log": _log, "settings": _settings}
