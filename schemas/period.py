"""Points in time and periods.

Inside, a point in time is an `int`: microseconds since 1970-01-01T00:00:00Z. Outside it is RFC 3339: any offset is
accepted inward, `Z` is written outward. Digits beyond a microsecond are cut, never rounded, so that an instant stays in
the period it lies in. A period is half-open, `[start, end)`. Calendar months are those of UTC, written `YYYY-MM`.

A billing period is anchored: it begins where the subscription began, so many months later, at the same time of day. A
day that a month lacks is its last one, and the next month has the anchor's day again: 31 January, 28 February, 31
March. The anchor 0 with one month is the calendar month, which is what a customer without a subscription has.

Refuses: no offset, a leap second, a time before 1970 or from the year 10000 on in UTC (InvalidInput `bad_time`).
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from schemas.errors import InvalidInput

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
TIME_END: Final = 253_402_300_800 * SECOND
"""The first instant of the year 10000, which RFC 3339 can not write."""

MICROSECOND: Final = timedelta(microseconds=1)
MILLISECOND_CHARACTERS: Final = 24
"""As in 2026-11-20T10:15:30.123Z."""

SECONDS_REMEMBERED: Final = 4_096

EXACT_CHARACTERS: Final = 27
"""A longer text may have more than six digits of fraction (or an offset other than Z)."""

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time as msgspec reads it: RFC 3339 with an offset."""

SPAN: Final = re.compile(
    r"P(?=[0-9T])(?:([0-9]{1,4})Y)?(?:([0-9]{1,4})M)?(?:([0-9]{1,4})W)?(?:([0-9]{1,4})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,4})H)?(?:([0-9]{1,4})M)?(?:([0-9]{1,4})S)?)?"
)
"""A span of ISO 8601 in whole numbers."""

_SECONDS: Final[dict[str, int]] = {}
_BEYOND_MICROSECOND: Final = re.compile(r"(\.\d{6})\d+", re.ASCII)
_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


class Period(msgspec.Struct, frozen=True, gc=False):
    """A half-open span of time, in microseconds. Made, compared and hashed for many events, so compiled."""

    start: int
    end: int

    def __contains__(self, instant: int) -> bool:
        return self.start <= instant < self.end


def parse_time(text: str, pointer: str = "") -> int:
    """RFC 3339 text to microseconds."""
    if len(text) == MILLISECOND_CHARACTERS and text[23] == "Z" and text[19] == ".":
        # What most senders write; the events of a batch share their seconds.
        thousandths = text[20:23]
        if thousandths.isascii() and thousandths.isdigit():
            second = _SECONDS.get(text[:19])
            return (second if second is not None else _second(text[:19], text, pointer)) + int(thousandths) * 1_000
    return _instant(text, pointer)


def _instant(text: str, pointer: str) -> int:
    try:
        # Not Timestamp: msgspec would hash that annotation for every event, which takes as long as all the rest.
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise _unreadable(text, pointer) from None
    if moment.tzinfo is None:
        raise _unreadable(text, pointer)
    return instant_of(moment, text, pointer)


def _second(second: str, text: str, pointer: str) -> int:
    """The instant at which a second begins, in UTC."""
    known = _SECONDS.get(second)
    if known is None:
        known = _instant(text, pointer) // SECOND * SECOND
        if len(_SECONDS) >= SECONDS_REMEMBERED:
            _SECONDS.clear()
        _SECONDS[second] = known
    return known


def instant_of(moment: datetime, text: str, pointer: str) -> int:
    """Microseconds of a Timestamp that msgspec read from `text`: checks its bounds, cuts what msgspec rounded."""
    if len(text) > EXACT_CHARACTERS and _BEYOND_MICROSECOND.search(text):
        moment = msgspec.convert(_BEYOND_MICROSECOND.sub(r"\1", text), Timestamp)
    instant = (moment - EPOCH) // MICROSECOND
    if instant < 0:
        raise InvalidInput("bad_time", f"{_field(pointer)} {text!r} lies before 1970", pointer)
    if instant >= TIME_END:
        raise InvalidInput("bad_time", f"{_field(pointer)} {text!r} lies beyond the year 9999", pointer)
    return instant


def format_time(instant: int) -> str:
    """Microseconds to RFC 3339 in UTC, with none, three or six digits of fraction: what the instant needs."""
    seconds, fraction = divmod(instant, SECOND)
    if not fraction:
        return f"{_text_of(seconds)}Z"
    thousandths, rest = divmod(fraction, 1000)
    return f"{_text_of(seconds)}.{fraction:06d}Z" if rest else f"{_text_of(seconds)}.{thousandths:03d}Z"


@lru_cache(1024)
def _text_of(seconds: int) -> str:
    return (EPOCH + seconds * SECOND * MICROSECOND).replace(tzinfo=None).isoformat(timespec="seconds")


def month_of(instant: int) -> Period:
    """The UTC calendar month that an instant lies in."""
    return _month_of_day(instant // DAY)


def month_start(instant: int) -> int:
    """The start of the UTC calendar month that an instant lies in."""
    return _month_of_day(instant // DAY).start


def parse_month(text: str, pointer: str = "") -> Period:
    """`YYYY-MM` to its period."""
    match = _MONTH.fullmatch(text)
    if match is None or int(match[1]) < 1970:
        raise InvalidInput("bad_time", f"{_field(pointer)} {text[:40]!r} is no month YYYY-MM since 1970", pointer)
    return _month(int(match[1]), int(match[2]))


def format_month(period: Period) -> str:
    """A month's period as `YYYY-MM`."""
    return format_time(period.start)[:7]


def period_of(anchor: int, months: int, instant: int) -> Period:
    """The billing period that an instant lies in: periods of `months` months, one of which begins at `anchor`.

    Before the anchor they go on backwards, so that every instant lies in one.
    """
    # Periods begin at the anchor's time of day, so all instants of a day counted from there share theirs.
    return _period_of_day(anchor, months, (instant - anchor) // DAY)


def nth_period(anchor: int, months: int, number: int) -> Period:
    """The billing period that begins `number` periods after the anchor's own, which is number 0."""
    return Period(add_months(anchor, months * number), add_months(anchor, months * (number + 1)))


def add_months(instant: int, months: int) -> int:
    """The same day and time of day so many months later (or earlier): the month's last day where it has no such day.

    What lies beyond the year 9999 is TIME_END, before the year 1 the first instant of it.
    """
    moment = EPOCH + instant * MICROSECOND
    count = moment.year * 12 + moment.month - 1 + months
    year, month = count // 12, count % 12 + 1
    if year > MAXYEAR:
        return TIME_END
    if year < MINYEAR:
        return (datetime(MINYEAR, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
    day = min(moment.day, monthrange(year, month)[1])
    return (moment.replace(year=year, month=month, day=day) - EPOCH) // MICROSECOND


def span_end(instant: int, span: str) -> int:
    """The instant that a span of ISO 8601 (`P1M`, `P1Y6M`, `PT36H`, `P2W`) ends at, begun at `instant`.

    Months first, then days and hours. Errors: InvalidInput `bad_time` for what is no such span.
    """
    match = SPAN.fullmatch(span)
    if match is None:
        raise InvalidInput("bad_time", f"{span[:40]!r} is no span of ISO 8601, such as P1M")
    years, months, weeks, days, hours, minutes, seconds = (int(count or 0) for count in match.groups())
    fixed = (weeks * 7 + days) * DAY + (hours * 3600 + minutes * 60 + seconds) * SECOND
    return min(add_months(instant, years * 12 + months) + fixed, TIME_END)


@lru_cache(16_384)
def _period_of_day(anchor: int, months: int, days: int) -> Period:
    """The billing period of the instant so many days after the anchor."""
    first, moment = EPOCH + anchor * MICROSECOND, EPOCH + (anchor + days * DAY) * MICROSECOND
    number = ((moment.year - first.year) * 12 + moment.month - first.month) // months
    if add_months(anchor, months * number) > anchor + days * DAY:
        number -= 1
    return nth_period(anchor, months, number)


@lru_cache(4096)
def _month_of_day(day: int) -> Period:
    date = EPOCH + timedelta(days=day)
    return _month(date.year, date.month)


def _month(year: int, month: int) -> Period:
    start = (datetime(year, month, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
    if (year, month) == (9999, 12):
        return Period(start, TIME_END)
    following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Period(start, (following - EPOCH) // MICROSECOND)


def _field(pointer: str) -> str:
    return pointer.lstrip("/").replace("/", ".") or "time"


def _unreadable(text: str, pointer: str) -> InvalidInput:
    return InvalidInput("bad_time", f"{_field(pointer)} {text[:60]!r} is no RFC 3339 time with an offset", pointer)
