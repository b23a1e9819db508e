"""Points in time and periods.

Inside, a point in time is an `int`: microseconds since 1970-01-01T00:00:00Z. Outside it is RFC 3339: any offset is
accepted inward, `Z` is written outward. Digits beyond a microsecond are cut, never rounded, so that an instant stays in
the period it lies in. A period is half-open, `[start, end)`. Calendar months are those of UTC, written `YYYY-MM`.

Refuses: no offset, a leap second, a time before 1970 or from the year 10000 on in UTC (InvalidInput `bad_time`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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

_SECONDS: Final[dict[str, int]] = {}
_BEYOND_MICROSECOND: Final = re.compile(r"(\.\d{6})\d+", re.ASCII)
_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open span of time, in microseconds."""

    start: int
    end: int

    def __contains__(self, instant: int) -> bool:
        return self.start <= instant < self.end


def parse_time(text: str, pointer: str = "") -> int:
    """RFC 3339 text to microseconds."""
    if len(text) == MILLISECOND_CHARACTERS and text[-1] == "Z" and text[19] == ".":
        # What most senders write; the events of a batch share their seconds.
        thousandths = text[20:23]
        if thousandths.isascii() and thousandths.isdigit():
            return _second(text[:19], text, pointer) + int(thousandths) * 1_000
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
    fraction = instant % SECOND
    precision = "seconds" if not fraction else "microseconds" if fraction % 1000 else "milliseconds"
    return (EPOCH + instant * MICROSECOND).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


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
