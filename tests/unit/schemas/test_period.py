"""Times inward and outward, and the months they lie in."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidInput
from schemas.period import (
    DAY,
    TIME_END,
    Period,
    format_month,
    format_time,
    month_of,
    month_start,
    parse_month,
    parse_time,
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
