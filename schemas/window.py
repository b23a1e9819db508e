"""The windows that quotas count in: which one an instant lies in, by a computed id, and where it begins and ends.

Calendar windows are those of UTC; a week is ISO's, from Monday on. `period` is the customer's billing period,
`lifetime` has no end. An id is the same for whoever computes it, unique among the windows of its kind, and sorts by
time:

    minute 2026-11-20T10:15 · hour 2026-11-20T10 · day 2026-11-20 · week 2026-W47 · month 2026-11
    period P2026-11-20T10:15:30Z (its start) · lifetime all

`sliding:5h` is counted in 60 buckets, the last of which is still open: what lies in the buckets of `buckets_of` counts.
So usage counts for at least 59/60 of the window and at most for all of it; 5 minutes of error for 5 hours. Buckets are
numbered from 1970 on, the same for all customers.

`session:5h` begins at the first use and ends 5 hours later; the first use after that begins the next one. Where it
began is not computed but remembered, by whoever counts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from schemas.errors import InvalidInput
from schemas.period import (
    DAY,
    EPOCH,
    MICROSECOND,
    SECOND,
    TIME_END,
    Period,
    format_time,
    month_of,
    period_of,
)

MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
WEEK: Final = 7 * DAY

SLIDING_BUCKETS: Final = 60
"""Of every sliding window, whatever its length."""

WindowKind = Literal["minute", "hour", "day", "week", "month", "period", "lifetime", "sliding", "session"]

CALENDAR: Final[tuple[WindowKind, ...]] = ("minute", "hour", "day", "week", "month")
"""Windows that are the same for all customers."""

WINDOW: Final = re.compile(
    r"minute|hour|day|week|month|period|lifetime|(sliding|session):([1-9][0-9]{0,4})([smhd])", re.ASCII
)
"""A window as it is written."""

_UNITS: Final = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_THURSDAY: Final = 3 * DAY
"""1970 began on a Thursday: the Monday before lies so long before it."""


class Window(NamedTuple):
    """A kind of window, and its length where it has one of its own."""

    kind: WindowKind
    length: int = 0
    """Microseconds; of `sliding` and `session` alone."""


class WindowSpan(NamedTuple):
    """One window in time: half-open, microseconds."""

    id: str
    start: int
    end: int


@lru_cache(1024)
def parse_window(text: str) -> Window:
    """`day`, `sliding:5h`, `session:30m`. Errors: InvalidInput `bad_window`."""
    match = WINDOW.fullmatch(text)
    if match is None:
        raise InvalidInput("bad_window", f"{text[:40]!r} is no window")
    if match[1] is None:
        return Window(text)  # type: ignore[arg-type]  # the pattern has no other words
    return Window(match[1], int(match[2]) * _UNITS[match[3]])  # type: ignore[arg-type]  # as above


def span_of(window: Window, instant: int, anchor: int = 0, months: int = 1) -> WindowSpan:
    """The window that an instant lies in; anchor and months are those of the customer's billing period.

    Not for `sliding` (see `buckets_of`), nor for `session` (see `session_span`).
    """
    match window.kind:
        case "minute":
            return _minute(instant // MINUTE)
        case "hour":
            return _hour(instant // HOUR)
        case "day":
            return _day(instant // DAY)
        case "week":
            return _week((instant + _THURSDAY) // WEEK)
        case "month":
            return _month(month_of(instant))
        case "period":
            return _billing(period_of(anchor, months, instant))
        case "lifetime":
            return LIFETIME
        case "sliding" | "session":
            raise AssertionError(f"a {window.kind} window is not computed from an instant alone")


def session_span(window: Window, first_use: int) -> WindowSpan:
    """The session window that began with a use; its id is when that was."""
    return WindowSpan(f"S{format_time(first_use)}", first_use, first_use + window.length)


def bucket_of(window: Window, instant: int) -> int:
    """The number of the bucket of a sliding window in which usage of an instant is counted."""
    return instant * SLIDING_BUCKETS // window.length


def buckets_of(window: Window, instant: int) -> range:
    """The numbers of the buckets whose usage counts at an instant: the open one last."""
    last = bucket_of(window, instant)
    return range(last - SLIDING_BUCKETS + 1, last + 1)


def bucket_end(window: Window, bucket: int) -> int:
    """The first instant after a bucket; it stops counting SLIDING_BUCKETS - 1 buckets after that."""
    return -(-(bucket + 1) * window.length // SLIDING_BUCKETS)


LIFETIME: Final = WindowSpan("all", 0, TIME_END)


@lru_cache(4096)
def _minute(number: int) -> WindowSpan:
    start = number * MINUTE
    return WindowSpan(format_time(start)[:16], start, start + MINUTE)


@lru_cache(4096)
def _hour(number: int) -> WindowSpan:
    start = number * HOUR
    return WindowSpan(format_time(start)[:13], start, start + HOUR)


@lru_cache(4096)
def _day(number: int) -> WindowSpan:
    start = number * DAY
    return WindowSpan(format_time(start)[:10], start, start + DAY)


@lru_cache(1024)
def _week(number: int) -> WindowSpan:
    start = number * WEEK - _THURSDAY
    year, week, _ = (EPOCH + start * MICROSECOND).isocalendar()
    return WindowSpan(f"{year:04}-W{week:02}", start, start + WEEK)


@lru_cache(1024)
def _month(month: Period) -> WindowSpan:
    return WindowSpan(format_time(month.start)[:7], month.start, month.end)


@lru_cache(4096)
def _billing(period: Period) -> WindowSpan:
    return WindowSpan(f"P{format_time(period.start)}", period.start, period.end)
