"""What clients have written down is held against what is there: each kind of loss is seen."""

import pytest

from tests.support.histories import FIRST_MS, Ack, Append, Delivery, History, Point, Push
from tests.support.linearizable import LOST


@pytest.fixture
def history() -> History:
    return History("round1")


def test_a_stream_is_what_was_appended(history: History) -> None:
    stream = history.streams[0]
    first = Append(stream, b"a", b"1-0", 0.0, 1.0)
    history.appends = [first, Append(stream, b"b", LOST, 0.0, 9.0), Append(stream, b"c", b"1-1", 2.0, 3.0)]
    history.check_stream(stream, [(b"1-0", b"a"), (b"1-1", b"c")])
    history.check_stream(stream, [(b"1-0", b"a"), (b"1-1", b"c"), (b"1-2", b"b")])
    with pytest.raises(AssertionError, match="acknowledged and lost"):
        history.check_stream(stream, [(b"1-1", b"c")])
    with pytest.raises(AssertionError, match="twice"):
        history.check_stream(stream, [(b"1-0", b"a"), (b"1-1", b"c"), (b"1-2", b"a")])
    with pytest.raises(AssertionError, match="never appended"):
        history.check_stream(stream, [(b"1-0", b"a"), (b"1-1", b"c"), (b"1-2", b"d")])
    history.appends[0] = first._replace(answer=b"1-1")
    history.appends[2] = history.appends[2]._replace(answer=b"1-0")
    with pytest.raises(AssertionError, match="before"):
        history.check_stream(stream, [(b"1-0", b"c"), (b"1-1", b"a")])


def test_a_series_has_the_points_that_were_written(history: History) -> None:
    series = history.series[0]
    history.points = [Point(series, FIRST_MS, 1, True), Point(series, FIRST_MS + 1, 2, LOST)]
    history.check_series(series, {FIRST_MS: 1.0})
    history.check_series(series, {FIRST_MS: 1.0, FIRST_MS + 1: 2.0})
    with pytest.raises(AssertionError, match="acknowledged and lost"):
        history.check_series(series, {FIRST_MS + 1: 2.0})
    for wrong in ({FIRST_MS: 2.0}, {FIRST_MS: 1.0, FIRST_MS + 2: 3.0}):
        with pytest.raises(AssertionError, match="never written"):
            history.check_series(series, wrong)


def test_a_message_has_one_holder(history: History) -> None:
    queue = history.queues[0]
    history.pushes = [Push(queue, b"a", True)]
    first, second = Delivery(queue, 1, 1, b"a", 0.0, 0.1), Delivery(queue, 1, 2, b"a", 0.5, 0.6)
    history.deliveries = [first, second]
    with pytest.raises(AssertionError, match="two have a message at once"):
        history.check()
    history.clock_jumps = True
    history.check()
    history.deliveries = [first, second._replace(attempt=1)]
    with pytest.raises(AssertionError, match="given twice"):
        history.check()
    history.deliveries = [first]
    ack = Ack(queue, 1, 1, b"a", 1, 0.2, 0.3)
    history.acks = [ack, ack]
    with pytest.raises(AssertionError, match="acknowledged twice"):
        history.check()
    history.acks = []
    assert history.unsettled(queue) == {b"a"}
