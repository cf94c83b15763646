"""Cron expressions: compared with cronsim and croniter (PyPI), examples at the calendar's edges, and refusals.

cronsim follows Debian's cron, as Flo does, so it is the oracle. The three differ in these, and Flo takes Debian's way each time:

- `*/2` in day-of-month or day-of-week. Debian, cronsim and Flo: not restricted, so a day must match both fields. croniter: restricted, so
  one field is enough, unless `implement_cron_bug` is set. It is set here.
- `5/10`, a step without a range. Debian and Flo refuse it. cronsim and croniter read `5-59/10`.
- `FRI-MON`, a range that runs backwards. Debian, cronsim and Flo refuse it. croniter goes around the end.
- `1-31` in day-of-month, `0-6` in day-of-week, and other lists of all days that do not begin with `*`. Debian, cronsim and Flo: restricted.
  croniter: not restricted.
- `5-5`, a range of one value. Debian, cronsim and Flo: that value. croniter: every value. `5-5/10`: Debian and Flo, that value; cronsim,
  `5-59/10`; croniter, `*/10`.
- `L`, `LW`, `MON#2` and a sixth field. Debian and Flo refuse them. cronsim and croniter read most of them.
- `@daily` and the other macros. Debian, croniter and Flo read them. cronsim refuses them.
- Day 31 in months that have no such day, with no other day. cronsim and Flo refuse it at once; croniter, when asked for the next time.
"""

import re
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from croniter import CroniterBadDateError, croniter
from cronsim import CronSim, CronSimError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flo.cron import CRON_CHARS_MAX, FIELDS, MACROS, Cron, Field, date_of, parse
from flo.errors import BadRequest
from tests.support.examples import examples

pytestmark = pytest.mark.computes

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = 5  # of an expression, one after the other
YEARS = st.datetimes(datetime(1900, 1, 1), datetime(2500, 1, 1), timezones=st.just(UTC))  # with 1900, 2000 and 2100, of which one is leap
OWN_TO_CRONSIM = re.compile(r"[L#]|(^|[\s,])\w+/", re.IGNORECASE)  # Flo refuses it: `L`, `#`, and `5/10`
ONE_VALUE = re.compile(r"\b(\w+)-0*\1/", re.IGNORECASE)  # `5-5/10`


def ms(time: datetime) -> int:
    return (time - EPOCH) // timedelta(milliseconds=1)


def times(cron: Cron, after: datetime, count: int = TIMES) -> list[datetime]:
    """The next times of Flo."""
    found, last = [], ms(after)
    for _ in range(count):
        last = cron.next(last)
        found.append(EPOCH + timedelta(milliseconds=last))
    return found


def simulated(text: str, after: datetime) -> list[datetime] | None:
    """The next times of cronsim; None if it refuses the expression or finds no time in 50 years."""
    try:
        return list(islice(CronSim(text, after), TIMES)) or None
    except CronSimError:
        return None


def iterated(text: str, after: datetime) -> list[datetime] | None:
    """The next times of croniter, as `simulated`."""
    try:
        source = croniter(text, after, implement_cron_bug=True)
        return [source.get_next(datetime) for _ in range(TIMES)]
    except CroniterBadDateError:
        return None


def all_days_listed(text: str) -> bool:
    """Whether a field of days has all of them and does not begin with `*`: croniter then sees `*`."""
    parts, found = text.split(), CronSim(text, EPOCH)
    whole = (len(found.days) == 31, {weekday % 7 for weekday in found.weekdays if isinstance(weekday, int)} == set(range(7)))
    return any(full and not part.startswith("*") for full, part in zip(whole, (parts[2], parts[4]), strict=True))


def values(field: Field) -> st.SearchStrategy[str]:
    """A number, a number with a zero before it, or a name in any case."""
    numbers = st.integers(field.low, field.high)
    written = st.one_of(numbers.map(str), numbers.map("{:02d}".format))
    if not field.names:
        return written
    return st.one_of(written, st.sampled_from(field.names).flatmap(lambda name: st.sampled_from([name, name.lower(), name.title()])))


def numbered(field: Field, value: str) -> int:
    return int(value) if value.isdigit() else field.names.index(value.upper()) + field.low


@st.composite
def items(draw: st.DrawFn, field: Field) -> str:
    """`*`, `a` or `a-b`, the last two steps too."""
    kind = draw(st.sampled_from(["*", "a", "a", "a-b"]))
    if kind == "a":
        return draw(values(field))
    if kind == "a-b":
        ends = st.lists(values(field), min_size=2, max_size=2, unique_by=lambda value: numbered(field, value))
        kind = "-".join(sorted(draw(ends), key=lambda value: numbered(field, value)))
    return kind + draw(st.one_of(st.just(""), st.integers(1, field.high + 5).map("/{}".format)))


def fields(field: Field) -> st.SearchStrategy[str]:
    return st.one_of(st.just("*"), st.lists(items(field), min_size=1, max_size=4).map(",".join))


EXPRESSIONS = st.tuples(*map(fields, FIELDS)).map(" ".join)


@pytest.mark.slow
@examples(800)
@given(EXPRESSIONS, YEARS)
@example("0 0 31 2,4,6,9,11 *", EPOCH)
@example("0 0 30 2 */3", EPOCH)
@example("0 0 30 2 MON", EPOCH)
@example("0 0 29 2 *", datetime(2096, 2, 29, tzinfo=UTC))
@example("0 0 29 2 */7", datetime(2072, 1, 1, tzinfo=UTC))
@example("59 23 */31 * 7", datetime(2024, 12, 31, 23, 59, tzinfo=UTC))
def test_as_cronsim_and_croniter(text: str, after: datetime) -> None:
    expected = simulated(text, after)
    if expected is None or not all_days_listed(text):
        assert iterated(text, after) == expected  # else an oracle is wrong
    if expected is None:
        with pytest.raises(BadRequest, match="has no time"):
            parse(text)
    else:
        assert times(parse(text), after) == expected


@examples(800)
@given(st.one_of(st.text("0123456789*,-/ ", max_size=25), st.text("059*,-/ JANSUNL#?@", max_size=15).map("0 0 {}".format)))
@example("5/10 * * * *")
@example("0 0 1-3/2/2 * *")
@example("0 0 * * FRI-MON")
@example("0 0 L * *")
@example("5-05/10 * * * *")
def test_reads_what_cronsim_reads(text: str) -> None:
    expected = simulated(text, EPOCH) if len(text.split()) == 5 else None
    try:
        cron = parse(text)
    except BadRequest:
        assert expected is None or OWN_TO_CRONSIM.search(text)
    else:
        assert times(cron, EPOCH) == expected or ONE_VALUE.search(text)


@given(st.text(max_size=30), st.integers(-(1 << 60), 1 << 60))
def test_any_text_is_read_or_refused(text: str, after_ms: int) -> None:
    try:
        cron = parse(text)
    except BadRequest:
        return
    assert cron.next(after_ms) > after_ms


@settings(deadline=None)
@given(EXPRESSIONS, st.integers(-(1 << 60), 1 << 60))
def test_no_time_is_missed_or_made_again(text: str, after_ms: int) -> None:
    """Also far outside the years of `datetime`: the gap before a time has none, and a time repeats after 400 years."""
    try:
        cron = parse(text)
    except BadRequest:
        return
    found = cron.next(after_ms)
    assert found > after_ms
    assert found % 60_000 == 0
    assert cron.next(found - 1) == found
    assert cron.next((after_ms + found) // 2) == found  # unless it is `found` itself, it is before it
    assert cron.next(found) > found
    assert cron.next(after_ms + 146_097 * 86_400_000) == found + 146_097 * 86_400_000


@given(st.dates())
def test_date_of_a_day(date: datetime) -> None:
    assert date_of(date.toordinal() - EPOCH.toordinal()) == (date.year, date.month, date.day)


def test_days_and_weekdays_as_in_debian() -> None:
    """Two restricted fields: one is enough. A field that begins with `*`: both must match."""
    may = datetime(2026, 5, 1, tzinfo=UTC)  # a Friday

    def days(text: str) -> list[int]:
        return [time.day for time in times(parse(text), may, 6)]

    assert days("0 0 13 * FRI") == [8, 13, 15, 22, 29, 5]
    assert days("0 0 */2 * FRI") == [15, 29, 5, 19, 3, 17]
    assert days("0 0 1-31/2 * FRI") == [3, 5, 7, 8, 9, 11]
    assert days("0 0 13 * */5") == [13, 13, 13, 13, 13, 13]
    assert [time.month for time in times(parse("0 0 13 * */5"), may, 3)] == [9, 11, 12]  # 0 and 5: Sundays and Fridays
    croniters_own = croniter("0 0 */2 * FRI", may)
    assert [croniters_own.get_next(datetime).day for _ in range(6)] == [3, 5, 7, 8, 9, 11]


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("* * * * *", "2026-05-01 00:00", "2026-05-01 00:01"),
        ("0 0 * * *", "2026-12-31 23:59", "2027-01-01 00:00"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 0 29 2 *", "2096-02-29 00:00", "2104-02-29 00:00"),  # 2100 is no leap year
        ("0 0 29 2 *", "1996-02-29 00:00", "2000-02-29 00:00"),  # 2000 is one
        ("0 0 29 2 */7", "2088-02-29 00:00", "2128-02-29 00:00"),  # both Sundays, and the longest gap that there is
        ("0 0 31 * *", "2026-01-31 00:00", "2026-03-31 00:00"),
        ("59 23 30 4 *", "2026-04-30 23:58", "2026-04-30 23:59"),
        ("59 23 30 4 *", "2026-04-30 23:59", "2027-04-30 23:59"),
        ("30 2 28 2 *", "2028-02-28 02:30", "2029-02-28 02:30"),
        ("0 0 * * 7", "2026-12-27 00:00", "2027-01-03 00:00"),  # from week 52 through week 53, which 2026 has
        ("0 0 * * MON", "2026-12-28 00:00", "2027-01-04 00:00"),
        ("0 0 * * sun", "2027-01-01 00:00", "2027-01-03 00:00"),
        ("*/7 * * * *", "2026-05-01 00:56", "2026-05-01 01:00"),  # a step begins anew each hour
        ("*/100 * * * *", "2026-05-01 00:00", "2026-05-01 01:00"),  # a step past the end: the first value alone
        ("10-20/100 * * * *", "2026-05-01 00:10", "2026-05-01 01:10"),
        ("0 0 1 nov-DEC *", "2026-12-01 00:00", "2027-11-01 00:00"),
        ("5-5 * * * *", "2026-05-01 00:05", "2026-05-01 01:05"),
        ("5-5/10 * * * *", "2026-05-01 00:05", "2026-05-01 01:05"),
        ("  0\t12 * * *  ", "2026-05-01 00:05", "2026-05-01 12:00"),
    ],
)
def test_edges(text: str, after: str, expected: str) -> None:
    assert times(parse(text), datetime.fromisoformat(after + "+00:00"), 1) == [datetime.fromisoformat(expected + "+00:00")]


def test_strictly_after_by_the_millisecond() -> None:
    hourly = parse("@hourly")
    assert hourly.next(3_599_999) == 3_600_000
    assert hourly.next(3_600_000) == 7_200_000
    assert hourly.next(-1) == 0


@settings(deadline=None)
@given(st.sampled_from(sorted(MACROS)), YEARS)
def test_macros_are_croniters(macro: str, after: datetime) -> None:
    assert times(parse(macro), after) == times(parse(f" {macro.upper()} "), after) == iterated(macro, after)


def test_every_value_of_every_field_fits() -> None:
    text = " ".join(",".join(map(str, range(field.low, field.high + 1))) for field in FIELDS)
    assert len(text) < CRON_CHARS_MAX / 2
    assert parse(text).next(0) == 60_000
    padded = text.ljust(CRON_CHARS_MAX)
    assert parse(padded) == parse(text)
    with pytest.raises(BadRequest, match=r"has 1,001 characters; at most 1,000 are taken"):
        parse(padded + " ")


FORMS = "; give `*`, a value, a range such as 2-5, a step such as */2 or 2-5/2, or a list of these such as 1,3"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("60 * * * *", "the minute of the cron expression is '60', which is not a number from 0 to 59" + FORMS),
        ("* 5-24 * * *", "the hour of the cron expression has '24' in '5-24', which is not a number from 0 to 23" + FORMS),
        ("* * 0 * *", "the day of month of the cron expression is '0', which is not a number from 1 to 31" + FORMS),
        ("* * ? * *", "the day of month of the cron expression is '?', which is not a number from 1 to 31" + FORMS),
        (
            "* * * january *",
            "the month of the cron expression is 'january', which is not a number from 1 to 12 or a name from JAN to DEC" + FORMS,
        ),
        (
            "* * * * 1,8",
            "the day of week of the cron expression is '8', which is not a number from 0 to 7 (0 and 7 are Sunday) "
            "or a name from SUN to SAT" + FORMS,
        ),
        ("1,,2 * * * *", "the minute of the cron expression is '', which is not a number from 0 to 59" + FORMS),
        ("*/0 * * * *", "the minute '*/0' of the cron expression has the step '0'; give a number of at least 1"),
        ("*/ * * * *", "the minute '*/' of the cron expression has the step ''; give a number of at least 1"),
        ("* 5/4 * * *", "the hour '5/4' of the cron expression has a step without a range; give the range: 5-23/4"),
        ("* * * * FRI-MON", "the day of week 'FRI-MON' of the cron expression runs backwards; give two ranges: FRI-7,0-MON"),
        ("50-10/5 * * * *", "the minute '50-10/5' of the cron expression runs backwards; give two ranges: 50-59/5,0-10/5"),
        (
            "0 0 30,31 FEB *",
            "the cron expression '0 0 30,31 FEB *' has no time: its months have at most 29 days, and its day of month is '30,31'; "
            "give a day of 29 or less, or another month",
        ),
        (
            "* * * *",
            "the cron expression '* * * *' has 4 fields; give five, separated by spaces: minute, hour, day of month, month, day of week",
        ),
        (
            "@reboot",
            "the cron expression '@reboot' is no macro that Flo knows; give one of @yearly, @annually, @monthly, @weekly, @daily, "
            "@midnight, @hourly, or five fields",
        ),
        (
            "٥ * * * *",
            "the cron expression '٥ * * * *' has the character '٥'; give digits, *, commas, hyphens, slashes and names",
        ),
    ],
)
def test_refusals_are_sentences(text: str, sentence: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse(text)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(("text", "field"), [("* * * * FRI-MON", 4), ("* * * * 7-1", 4), ("* * * NOV-2 *", 3), ("* 5/4 * * *", 1)])
def test_the_remedy_of_a_refusal_is_read(text: str, field: int) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse(text)
    parts = text.split()
    parts[field] = str(refusal.value).rsplit(": ", 1)[1]
    parse(" ".join(parts))
