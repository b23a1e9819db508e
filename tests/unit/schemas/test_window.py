"""The windows that quotas count in."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidInput
from schemas.period import TIME_END, parse_time
from schemas.window import (
    MINUTE,
    SLIDING_BUCKETS,
    Window,
    WindowSpan,
    bucket_end,
    bucket_of,
    buckets_of,
    parse_window,
    session_span,
    span_of,
)

T = parse_time("2026-11-20T10:15:30Z")


def _time(text: str) -> int:
    return parse_time(f"{text}Z")


@pytest.mark.parametrize(
    ("window", "identity", "start", "end"),
    [
        ("minute", "2026-11-20T10:15", "2026-11-20T10:15:00", "2026-11-20T10:16:00"),
        ("hour", "2026-11-20T10", "2026-11-20T10:00:00", "2026-11-20T11:00:00"),
        ("day", "2026-11-20", "2026-11-20T00:00:00", "2026-11-21T00:00:00"),
        ("week", "2026-W47", "2026-11-16T00:00:00", "2026-11-23T00:00:00"),
        ("month", "2026-11", "2026-11-01T00:00:00", "2026-12-01T00:00:00"),
        ("period", "P2026-11-01T00:00:00Z", "2026-11-01T00:00:00", "2026-12-01T00:00:00"),
    ],
)
def test_a_calendar_window_has_a_computed_id_and_bounds(window: str, identity: str, start: str, end: str) -> None:
    """In UTC, half-open."""
    assert span_of(parse_window(window), T) == WindowSpan(identity, _time(start), _time(end))
    assert span_of(parse_window(window), _time(start)).id == identity
    assert span_of(parse_window(window), _time(end) - 1).id == identity
    assert span_of(parse_window(window), _time(end)).id > identity


@pytest.mark.parametrize(
    ("instant", "identity"),
    [
        ("2021-01-03T23:59:59", "2020-W53"),
        ("2021-01-04T00:00:00", "2021-W01"),
        ("2024-12-30T00:00:00", "2025-W01"),
        ("1970-01-01T00:00:00", "1970-W01"),
    ],
)
def test_a_week_is_that_of_iso(instant: str, identity: str) -> None:
    """The days around New Year belong to the week's own year."""
    assert span_of(Window("week"), _time(instant)).id == identity


def test_the_period_is_the_customers_billing_period() -> None:
    """Anchored where the subscription began."""
    found = span_of(Window("period"), T, _time("2026-01-31T08:30:00"), 1)
    assert found == WindowSpan("P2026-10-31T08:30:00Z", _time("2026-10-31T08:30:00"), _time("2026-11-30T08:30:00"))


def test_a_lifetime_has_no_end() -> None:
    """One window for all time."""
    assert span_of(Window("lifetime"), T) == WindowSpan("all", 0, TIME_END)


def test_a_session_lasts_from_its_first_use() -> None:
    """Its id tells it from the next one."""
    window = parse_window("session:5h")
    assert session_span(window, T) == WindowSpan("S2026-11-20T10:15:30Z", T, T + 300 * MINUTE)


def test_a_sliding_window_has_sixty_buckets() -> None:
    """Five minutes each for five hours: usage counts for at least 59/60 of the window and at most for all of it."""
    window = parse_window("sliding:5h")
    used = _time("2026-11-20T10:15:00")
    bucket = bucket_of(window, used)
    assert bucket_end(window, bucket) == _time("2026-11-20T10:20:00")
    assert len(buckets_of(window, used)) == SLIDING_BUCKETS
    assert buckets_of(window, used)[-1] == bucket
    assert bucket in buckets_of(window, _time("2026-11-20T15:14:59"))
    assert bucket not in buckets_of(window, _time("2026-11-20T15:15:00"))


@pytest.mark.parametrize("length", ["1s", "7s", "59s", "90m", "31d"])
def test_buckets_of_any_length_follow_one_another(length: str) -> None:
    """Also where sixty of them do not divide a second."""
    window = parse_window(f"sliding:{length}")
    end = bucket_end(window, bucket_of(window, T))
    assert bucket_of(window, end - 1) == bucket_of(window, T)
    assert bucket_of(window, end) == bucket_of(window, T) + 1
    assert bucket_of(window, T + window.length) == bucket_of(window, T) + SLIDING_BUCKETS


@pytest.mark.parametrize("text", ["", "year", "sliding", "session:", "sliding:0h", "session:5w", "day:1h", "Day"])
def test_what_is_no_window_is_refused(text: str) -> None:
    """By its text."""
    with pytest.raises(InvalidInput, match="is no window"):
        parse_window(text)
