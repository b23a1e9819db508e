"""Laws of billing periods and windows."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from schemas.period import DAY, TIME_END, add_months, nth_period, period_of
from schemas.window import CALENDAR, Window, bucket_end, bucket_of, buckets_of, span_of

INSTANTS = st.integers(0, TIME_END - 400 * DAY)
MONTHS = st.sampled_from((1, 2, 3, 6, 12, 24))


@given(INSTANTS, MONTHS, INSTANTS)
def test_every_instant_lies_in_its_billing_period(anchor: int, months: int, instant: int) -> None:
    """Whenever the subscription began, also before it."""
    assert instant in period_of(anchor, months, instant)


@given(INSTANTS, MONTHS, INSTANTS)
def test_billing_periods_follow_one_another_without_a_gap(anchor: int, months: int, instant: int) -> None:
    """The next one begins where this one ends, the one before ends where this one begins."""
    period = period_of(anchor, months, instant)
    if period.end < TIME_END:
        assert period_of(anchor, months, period.end).start == period.end
    if period.start > 0:
        assert period_of(anchor, months, period.start - 1).end == period.start


@given(INSTANTS, MONTHS, st.integers(-200, 200))
def test_a_period_is_found_from_its_start(anchor: int, months: int, number: int) -> None:
    """`period_of` and `nth_period` cut time alike."""
    period = nth_period(anchor, months, number)
    if 0 <= period.start < period.end < TIME_END:
        assert period_of(anchor, months, period.start) == period
        assert period_of(anchor, months, period.end - 1) == period


@given(INSTANTS, st.integers(-240, 240))
def test_months_keep_the_time_of_day(instant: int, months: int) -> None:
    """And the day, but where the month lacks it."""
    moved = add_months(instant, months)
    if 0 <= moved < TIME_END:
        assert moved % DAY == instant % DAY


@given(st.sampled_from((*CALENDAR, "period", "lifetime")), INSTANTS, INSTANTS)
def test_instants_share_a_window_exactly_if_they_share_its_id(kind: str, one: int, other: int) -> None:
    """An id stands for one span, and ids sort by time."""
    window = Window(kind)  # type: ignore[arg-type]
    first, second = span_of(window, one), span_of(window, other)
    assert first.start <= one < first.end
    assert (first.id == second.id) == (first.start <= other < first.end)
    assert (first.id < second.id) == (first.start < second.start)


@given(st.integers(1, 99_999 * DAY), INSTANTS, st.fractions(0, 2))
def test_usage_counts_for_at_least_59_of_60_parts_of_a_sliding_window(length: int, used: int, passed: Fraction) -> None:
    """And never for longer than the window."""
    window = Window("sliding", length)
    later = used + int(length * passed)
    counts = bucket_of(window, used) in buckets_of(window, later)
    if (later - used) * 60 <= length * 59:
        assert counts
    if later - used >= length:
        assert not counts


@given(st.integers(60, 99_999 * DAY), INSTANTS)
def test_a_bucket_ends_where_the_next_begins(length: int, instant: int) -> None:
    """Whatever length sixty of them have."""
    window = Window("sliding", length)
    bucket = bucket_of(window, instant)
    end = bucket_end(window, bucket)
    assert bucket_of(window, end - 1) == bucket
    assert bucket_of(window, end) == bucket + 1
