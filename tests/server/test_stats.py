"""server_stats and server_view over HTTP, and how often their parts are made. tests/client/test_wire_client.py has them over the binary
protocol."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from flo.commands import stats as module
from flo.commands.http import load_pages
from flo.commands.http.session import HttpSession
from flo.commands.stats import Stats
from tests.support.fakes import FakeHost, FakePeer
from tests.support.processes import FloProcess


@pytest.fixture
def web(shared_flo: FloProcess) -> Iterator[http.client.HTTPConnection]:
    """A kept connection."""
    connection = http.client.HTTPConnection("127.0.0.1", shared_flo.port, 30)
    yield connection
    connection.close()


def get(web: http.client.HTTPConnection, path: str) -> tuple[int, Any]:
    """(status, body) of a route."""
    web.request("GET", "/api/v1/" + path)
    response = web.getresponse()
    return response.status, json.loads(response.read())


def test_stats_over_http(web: http.client.HTTPConnection) -> None:
    status, first = get(web, "stats")
    assert status == 200
    status, next_one = get(web, "stats?block=5000")
    assert status == 200
    assert next_one["time"] >= first["time"]
    assert next_one["requests"] > first["requests"]
    counted = {(each["protocol"], each["command"]): each["calls"] for each in next_one["commands"]}
    assert counted["http", "server_stats"] >= 1
    assert get(web, "stats?block=0")[0] == 400, "over HTTP a wait has an end"


@pytest.mark.parametrize("view", ["clients", "slow", "log", "settings"])
def test_views_over_http_page_by_page(web: http.client.HTTPConnection, view: str) -> None:
    status, whole = get(web, f"views/{view}?limit=1000")
    assert (status, set(whole), whole["cursor"]) == (200, {view, "cursor"}, "")
    rows, cursor = [], ""
    for _ in range(len(whole[view]) + 1):
        status, page = get(web, f"views/{view}?limit=1&cursor={quote(cursor)}")
        assert status == 200
        rows += page[view]
        cursor = page["cursor"]
        if not cursor:
            break
    if view == "settings":
        assert rows == whole[view]
        assert len(rows) > 20
    assert len(rows) == len(whole[view])


def test_there_is_no_other_view(web: http.client.HTTPConnection) -> None:
    for path in ("views/secrets", "views/clients?view=log", "views/clients?cursor=bG9nOjE"):
        status, problem = get(web, path)
        assert status == 400, path
        assert problem["detail"]
    assert get(web, "views")[0] == 404


class Held:
    """A host whose samples are made by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        load_pages()
        self.host = FakeHost()
        self.now = 1000.0
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        self.walks = 0
        largest = module.largest

        def counted(*args: Any) -> Any:
            self.walks += 1
            return largest(*args)

        monkeypatch.setattr(module, "largest", counted)

    def sessions(self, count: int) -> list[HttpSession]:
        """Clients that wait for the next answer."""
        made = [HttpSession(self.host, FakePeer()) for _ in range(count)]
        for session in made:
            session.feed(b"GET /api/v1/stats?block=60000 HTTP/1.1\r\nHost: localhost\r\n\r\n", 1 << 20)
        return made

    def run_timers(self) -> list[float]:
        """Call what is due at once, and what follows from it; returns after how many seconds each was to be called."""
        seconds = []
        while due := [timer for timer in self.host.timers if timer.seconds < 60 and not timer.cancelled]:
            self.host.timers = [timer for timer in self.host.timers if timer not in due]
            for timer in due:
                seconds.append(timer.seconds)
                timer.callback()
        return seconds


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held(monkeypatch)
    yield made
    made.host.close()


def answers(sessions: list[HttpSession]) -> list[bytes]:
    """What the clients got."""
    return [b"".join(session.peer.out).partition(b"\r\n\r\n")[2] for session in sessions]


def test_one_answer_is_made_for_all_who_wait(held: Held) -> None:
    sessions = held.sessions(3)
    assert answers(sessions) == [b"", b"", b""]
    assert held.run_timers() == [0.0], "there was none in the last second"
    one, two, three = answers(sessions)
    assert one == two == three != b""
    held.now += 0.25
    later = held.sessions(2)
    assert held.run_timers() == [0.75], "at most one a second"
    assert answers(later)[0] == answers(later)[1] != one
    assert held.host.waiting == 0


def test_nothing_is_made_where_nobody_waits_any_more(held: Held) -> None:
    held.host.stats = Stats(held.host)
    for session in held.sessions(2):
        session.end()
    held.run_timers()
    assert held.walks == 0
    sessions = held.sessions(1)
    held.run_timers()
    assert answers(sessions) != [b""]


def test_long_walks_are_rare(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second for all queues and streams: 1 % of the time is another in 50 s at the earliest."""
    for number in range(3 * module.LOOK_SLICE):
        held.host.engine.queues.enqueue(b"%d" % number, b"")
    measure = held.host.engine.queues.measure

    def slow(container: Any) -> Any:
        held.now += 0.5 / (3 * module.LOOK_SLICE)
        return measure(container)

    monkeypatch.setattr(held.host.engine.queues, "measure", slow)
    sessions = held.sessions(1)
    assert len(held.run_timers()) >= 3, "in slices"
    began = held.now
    kinds = held.walks
    assert kinds == 4, "queues, streams, measurements, actions"
    while held.now < began + 120:
        held.now += 1
        sessions = held.sessions(1)
        held.run_timers()
        assert len(json.loads(answers(sessions)[0])["largest"]["queue"]) == module.LARGEST
    assert held.walks - kinds in (2 * kinds, 3 * kinds)


def test_after_a_defect_the_next_answer_is_made(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    first = held.sessions(1)
    with monkeypatch.context() as broken:
        broken.setattr(module, "server_counts", lambda host: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            held.run_timers()
    second = held.sessions(1)
    held.now += 1
    held.run_timers()
    assert answers(first) == answers(second) != [b""]
