"""Times inward and outward, and the months they lie in."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidInput
from schemas.period import (
    DAY,
    TIME_END,
    Period,
    add_months,
    format_month,
    format_time,
    month_of,
    month_start,
    nth_period,
    parse_month,
    parse_time,
    period_of,
    span_end,
)

T = 1_795_169_730_000_000
"""2026-11-20T10:15:30Z."""


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-20T10:15:30Z", T),
        ("2026-11-20t10:15:30z", T),
        ("2026-11-20T11:15:30+01:00", T),
        ("2026-11-19T22:15:30-12:00", T),
        ("2026-11-20T10:15:30.1Z", T + 100_000),
        ("2026-11-20T10:15:30.123456Z", T + 123_456),
        ("2026-11-20T11:15:30.123456+01:00", T + 123_456),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
        ("9999-12-31T23:59:59.999999Z", TIME_END - 1),
    ],
)
def test_rfc_3339_of_any_offset_is_read(text: str, instant: int) -> None:
    """Microseconds since 1970, in UTC."""
    assert parse_time(text) == instant


@pytest.mark.parametrize("offset", ["Z", "+00:00"])
def test_digits_beyond_a_microsecond_are_cut_not_rounded(offset: str) -> None:
    """The last instant of a month stays in it, however fine it is written."""
    instant = parse_time(f"2026-12-31T23:59:59.9999999999{offset}")
    assert format_time(instant) == "2026-12-31T23:59:59.999999Z"
    assert instant in parse_month("2026-12")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-20",
        "2026-11-20T10:15:30",
        "2026-11-20T10:15Z",
        "20261120T101530Z",
        "2026-W47-5T10:15:30Z",
        "2026-02-29T00:00:00Z",
        "2026-11-20T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "2026-11-20T10:15:30+24:00",
        "2026-11-20T10:15:30Z ",
        "1795169730",
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "0001-01-01T00:00:00+23:59",
    ],
)
def test_what_is_no_instant_that_can_be_kept_is_refused(text: str) -> None:
    """Without an offset, without a day, before 1970 or beyond 9999: bad_time, with the text that was sent."""
    with pytest.raises(InvalidInput) as refused:
        parse_time(text, "/time")
    assert refused.value.reason == "bad_time"
    assert refused.value.pointer == "/time"
    assert repr(text) in refused.value.detail


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (T, "2026-11-20T10:15:30Z"),
        (T + 120_000, "2026-11-20T10:15:30.120Z"),
        (T + 1, "2026-11-20T10:15:30.000001Z"),
        (TIME_END - 1, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_times_go_out_in_utc_with_no_more_digits_than_they_need(instant: int, text: str) -> None:
    """None, three or six digits of fraction; reading it back gives the instant."""
    assert format_time(instant) == text
    assert parse_time(text) == instant


def test_a_month_is_half_open() -> None:
    """Its end is the next month's start."""
    november, december = parse_month("2026-11"), parse_month("2026-12")
    assert november == Period(parse_time("2026-11-01T00:00:00Z"), parse_time("2026-12-01T00:00:00Z"))
    assert november.start in november
    assert november.end not in november
    assert december.start == november.end
    assert december.end == parse_month("2027-01").start
    assert format_month(november) == "2026-11"


@pytest.mark.parametrize("text", ["2024-02", "1970-01", "9999-12", "2026-12"])
def test_every_instant_of_a_month_finds_it(text: str) -> None:
    """From its first microsecond to its last."""
    month = parse_month(text)
    for instant in (month.start, month.start + DAY, month.end - 1):
        assert month_of(instant) == month
        assert month_start(instant) == month.start


@pytest.mark.parametrize("text", ["", "2026", "2026-13", "2026-00", "2026-1", "1969-12", "2026-11-01", "２０２６-11"])
def test_what_is_no_month_is_refused(text: str) -> None:
    """YYYY-MM since 1970 and nothing else."""
    with pytest.raises(InvalidInput, match="no month"):
        parse_month(text)


def _time(text: str) -> int:
    return parse_time(f"{text}Z" if "T" in text else f"{text}T00:00:00Z")


@pytest.mark.parametrize(
    ("anchor", "months", "instant", "start", "end"),
    [
        ("2026-01-15", 1, "2026-01-15", "2026-01-15", "2026-02-15"),
        ("2026-01-15", 1, "2026-02-14T23:59:59.999999", "2026-01-15", "2026-02-15"),
        ("2026-01-15", 1, "2026-02-15", "2026-02-15", "2026-03-15"),
        ("2026-01-15", 1, "2025-12-31", "2025-12-15", "2026-01-15"),
        ("2026-01-31", 1, "2026-02-15", "2026-01-31", "2026-02-28"),
        ("2026-01-31", 1, "2026-02-28", "2026-02-28", "2026-03-31"),
        ("2026-01-31", 1, "2026-03-30", "2026-02-28", "2026-03-31"),
        ("2026-01-31", 1, "2026-04-30", "2026-04-30", "2026-05-31"),
        ("2028-01-31", 1, "2028-02-29", "2028-02-29", "2028-03-31"),
        ("2026-01-30", 1, "2026-02-28", "2026-02-28", "2026-03-30"),
        ("2024-02-29", 12, "2025-02-27", "2024-02-29", "2025-02-28"),
        ("2024-02-29", 12, "2025-02-28", "2025-02-28", "2026-02-28"),
        ("2024-02-29", 12, "2028-02-29", "2028-02-29", "2029-02-28"),
        ("2026-11-30", 3, "2027-02-28", "2027-02-28", "2027-05-30"),
        ("2026-05-20T10:15:30.5", 1, "2026-06-20T10:15:30.499999", "2026-05-20T10:15:30.5", "2026-06-20T10:15:30.5"),
        ("2026-05-20T10:15:30.5", 1, "2026-06-20T10:15:30.5", "2026-06-20T10:15:30.5", "2026-07-20T10:15:30.5"),
        ("1970-01-01", 1, "2026-12-31T23:59:59.999999", "2026-12-01", "2027-01-01"),
    ],
)
def test_a_billing_period_is_anchored(anchor: str, months: int, instant: str, start: str, end: str) -> None:
    """By the anchor's day and time of day; a day that a month lacks is its last, and comes back the month after."""
    assert period_of(_time(anchor), months, _time(instant)) == Period(_time(start), _time(end))


def test_without_an_anchor_the_billing_period_is_the_calendar_month() -> None:
    """Anchor 0, one month: what a customer without a subscription has."""
    assert period_of(0, 1, T) == month_of(T)


def test_the_nth_period_counts_from_the_anchors_own() -> None:
    """Number 0 begins at the anchor, number -1 ends there."""
    anchor = _time("2026-01-31")
    assert nth_period(anchor, 1, 0) == Period(anchor, _time("2026-02-28"))
    assert nth_period(anchor, 1, 13) == Period(_time("2027-02-28"), _time("2027-03-31"))
    assert nth_period(anchor, 1, -1) == Period(_time("2025-12-31"), anchor)


def test_months_stop_at_the_ends_of_the_calendar() -> None:
    """What no RFC 3339 time can say is the first instant beyond."""
    assert add_months(_time("9999-12-15"), 1) == TIME_END
    assert period_of(0, 12, TIME_END - 1) == Period(_time("9999-01-01"), TIME_END)
    assert add_months(0, -12 * 3000) == add_months(0, -12 * 1969)


@pytest.mark.parametrize(
    ("span", "end"),
    [
        ("P1M", "2026-02-28T10:00:00"),
        ("P1Y", "2027-01-31T10:00:00"),
        ("P1Y1M", "2027-02-28T10:00:00"),
        ("P2W", "2026-02-14T10:00:00"),
        ("P1DT2H3M4S", "2026-02-01T12:03:04"),
        ("PT36H", "2026-02-01T22:00:00"),
        ("P1M1D", "2026-03-01T10:00:00"),
    ],
)
def test_a_span_ends_months_first(span: str, end: str) -> None:
    """Calendar parts, then fixed ones."""
    assert span_end(_time("2026-01-31T10:00:00"), span) == _time(end)


@pytest.mark.parametrize("span", ["", "P", "PT", "P1M1", "1M", "P-1M", "P1.5D", "PT1H\n", "P1D1M"])
def test_what_is_no_span_is_refused(span: str) -> None:
    """By itself, not as zero."""
    with pytest.raises(InvalidInput, match="span of ISO 8601"):
        span_end(T, span)


def test_a_span_beyond_the_calendar_ends_with_it() -> None:
    """A credit that expires then never does."""
    assert span_end(_time("9999-06-01"), "P9999Y") == TIME_END
    assert span_end(_time("9999-12-31"), "P9999D") == TIME_END
