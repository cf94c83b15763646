"""Cron expressions as Debian's cron(8) reads them, in UTC: text to a `Cron`, a `Cron` to its next time. No clock, no schedules.

    minute hour day-of-month month day-of-week                          0-59 0-23 1-31 1-12 0-7, as lists of `*`, `a`, `a-b`, `*/n`, `a-b/n`

JAN to DEC and SUN to SAT stand for their numbers, in any case; 0 and 7 are Sunday. A field that begins with `*`, such as `*/2`, is not
restricted. A day must match day-of-month and day-of-week; if both are restricted, one of the two is enough (crontab(5), and the flags
DOM_STAR and DOW_STAR in Debian's entry.c). Debian reads no `a/n`, `?`, `L`, `W` or `#`, and no range that runs backwards; Flo neither.

Each field is an int whose bit v is set if the field has the value v. The Gregorian calendar repeats after 400 years of whole weeks, and in
them every day of a month that exists, 29 February too, falls on every day of the week. So an expression has no time at all only if it
needs a day of the month that none of its months has; `parse` refuses those, and `Cron.next` always finds a time. The longest gap is 40
years, from one 29 February on a Sunday to the next around the year 2100.
"""

from dataclasses import dataclass
from typing import NamedTuple

from flo.errors import BadRequest

CRON_CHARS_MAX = 1000  # of an expression: one that lists every value of every field has under 500
MINUTE_MS, DAY_MINUTES = 60_000, 24 * 60
MONTH_DAYS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
FEBRUARY = 2
WEEKDAY_OF_EPOCH = 4  # 1 January 1970 was a Thursday
SIX_WEEKS = sum(1 << 7 * week for week in range(6))  # multiplies a set of weekdays into one of 42 days: any month, begun on any weekday

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Field(NamedTuple):
    """A field of an expression. The names stand for `low` and the numbers after it; `expected` is for errors."""

    name: str
    low: int
    high: int
    expected: str
    names: tuple[str, ...] = ()


MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIELDS = (
    Field("minute", 0, 59, "a number from 0 to 59"),
    Field("hour", 0, 23, "a number from 0 to 23"),
    Field("day of month", 1, 31, "a number from 1 to 31"),
    Field("month", 1, 12, "a number from 1 to 12 or a name from JAN to DEC", MONTH_NAMES),
    Field("day of week", 0, 7, "a number from 0 to 7 (0 and 7 are Sunday) or a name from SUN to SAT", WEEKDAY_NAMES),
)
FORMS = "`*`, a value, a range such as 2-5, a step such as */2 or 2-5/2, or a list of these such as 1,3"


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression: each field's values as bits. With `days_and_weekdays` a day must match both its fields, else one is enough."""

    minutes: int
    hours: int
    days: int
    months: int
    weekdays: int
    days_and_weekdays: bool

    def next(self, after_ms: int) -> int:
        """The first time strictly after `after_ms`; both are ms since 1970 in UTC, and may be before 1970."""
        day, minute_of_day = divmod(after_ms // MINUTE_MS + 1, DAY_MINUTES)
        year, month, day_of_month = date_of(day)
        first = day - day_of_month + 1  # the number of the month's first day
        while True:
            length = MONTH_DAYS[month] + (month == FEBRUARY and is_leap(year))
            if self.months >> month & 1:
                found = self._days_of_month(first, length) >> day_of_month << day_of_month
                if found and first + lowest(found) - 1 == day:
                    time = self._time_of_day(minute_of_day)
                    if time is not None:
                        return (day * DAY_MINUTES + time) * MINUTE_MS
                    found &= found - 1  # the day's last time is over
                if found:
                    day = first + lowest(found) - 1
                    return (day * DAY_MINUTES + lowest(self.hours) * 60 + lowest(self.minutes)) * MINUTE_MS
            first += length
            day_of_month = 1
            month += 1
            if month > 12:
                month, year = 1, year + 1

    def _days_of_month(self, first: int, length: int) -> int:
        """The days of a month that match, as bits 1 to `length`. `first` is the number of its first day since 1970."""
        weekdays = self.weekdays * SIX_WEEKS >> (first + WEEKDAY_OF_EPOCH) % 7 << 1
        days = self.days & weekdays if self.days_and_weekdays else self.days | weekdays
        return days & ((2 << length) - 2)

    def _time_of_day(self, minute_of_day: int) -> int | None:
        """The first minute of a day that matches, from `minute_of_day` on."""
        hour, minute = divmod(minute_of_day, 60)
        if self.hours >> hour & 1:
            minutes = self.minutes >> minute << minute
            if minutes:
                return hour * 60 + lowest(minutes)
        hours = self.hours >> hour + 1 << hour + 1
        return lowest(hours) * 60 + lowest(self.minutes) if hours else None


def parse(text: str) -> Cron:
    """An expression of five fields, or a macro such as `@daily`. Raises `BadRequest`, which names the field and its value."""
    if len(text) > CRON_CHARS_MAX:
        raise BadRequest(f"the cron expression has {len(text):,} characters; at most {CRON_CHARS_MAX:,} are taken: use ranges and steps")
    if not text.isascii():  # Python takes other digits for numbers, and ſ for a small S
        strange = next(character for character in text if not character.isascii())
        raise BadRequest(f"the cron expression {text!r} has the character {strange!r}; give digits, *, commas, hyphens, slashes and names")
    macro = text.strip().lower()
    if macro.startswith("@"):
        if macro not in MACROS:
            raise BadRequest(f"the cron expression {text!r} is no macro that Flo knows; give one of {', '.join(MACROS)}, or five fields")
        return parse(MACROS[macro])
    parts = text.split()
    if len(parts) != len(FIELDS):
        count = "1 field" if len(parts) == 1 else f"{len(parts)} fields"
        names = ", ".join(field.name for field in FIELDS)
        raise BadRequest(f"the cron expression {text!r} has {count}; give five, separated by spaces: {names}")
    minutes, hours, days, months, weekdays = map(values_of, FIELDS, parts)
    weekdays = (weekdays | weekdays >> 7) & 0x7F  # 7 is Sunday, as 0 is
    both = parts[2].startswith("*") or parts[4].startswith("*")
    longest = max(MONTH_DAYS[month] + (month == FEBRUARY) for month in range(1, 13) if months >> month & 1)
    if both and lowest(days) > longest:
        raise BadRequest(
            f"the cron expression {text!r} has no time: its months have at most {longest} days, "
            f"and its day of month is {parts[2]!r}; give a day of {longest} or less, or another month"
        )
    return Cron(minutes, hours, days, months, weekdays, both)


def values_of(field: Field, text: str) -> int:
    """The values of a field as bits. Raises `BadRequest`."""
    values = 0
    for item in text.split(","):
        span, slash, step_text = item.partition("/")
        step = 1
        if slash:
            if not step_text.isdigit() or int(step_text) == 0:
                raise BadRequest(
                    f"the {field.name} {item!r} of the cron expression has the step {step_text!r}; give a number of at least 1"
                )
            step = int(step_text)
        start_text, dash, end_text = span.partition("-")
        if span == "*":
            start, end = field.low, field.high
        elif dash:
            start, end = value_of(field, start_text, item), value_of(field, end_text, item)
            if start > end:
                two = f"{start_text}-{field.high}{slash}{step_text},{field.low}-{end_text}{slash}{step_text}"
                raise BadRequest(f"the {field.name} {item!r} of the cron expression runs backwards; give two ranges: {two}")
        else:
            start = end = value_of(field, span, item)
            if slash:
                raise BadRequest(
                    f"the {field.name} {item!r} of the cron expression has a step without a range; "
                    f"give the range: {span}-{field.high}/{step_text}"
                )
        for value in range(start, end + 1, step):
            values |= 1 << value
    return values


def value_of(field: Field, text: str, item: str) -> int:
    """One value of a field, a number or a name. `item` is the part of the expression that has it, for errors. Raises `BadRequest`."""
    if text.upper() in field.names:
        return field.low + field.names.index(text.upper())
    if text.isdigit() and field.low <= int(text) <= field.high:
        return int(text)
    where = f"the {field.name} of the cron expression"
    if text == item:
        raise BadRequest(f"{where} is {text!r}, which is not {field.expected}; give {FORMS}")
    raise BadRequest(f"{where} has {text!r} in {item!r}, which is not {field.expected}; give {FORMS}")


def lowest(values: int) -> int:
    """The lowest value of a set that is not empty."""
    return (values & -values).bit_length() - 1


def is_leap(year: int) -> bool:
    """Whether the year has a 29 February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def date_of(day: int) -> tuple[int, int, int]:
    """(year, month, day of month) of a number of days since 1 January 1970, in the Gregorian calendar. `datetime.date` ends at the year
    9999, which a deadline may be after (`limits.DEADLINE_MAX`).

    The years of the reckoning begin in March, so that a leap day is the last day of a year, of 4 years, of a century and of 400 years. From
    March on, five months have 153 days again and again. The algorithm is Howard Hinnant's `civil_from_days`
    (https://howardhinnant.github.io/date_algorithms.html).
    """
    cycles, day = divmod(day + 719_468, 146_097)  # days from 1 March of the year 0; days of 400 years
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153  # March is 0
    day_of_month = day - (153 * month + 2) // 5 + 1
    return cycles * 400 + year + (month >= 10), month + 3 if month < 10 else month - 9, day_of_month
