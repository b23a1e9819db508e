"""The billing periods of a customer, from the spans of its account: calendar months without a subscription, anchored
periods with one, and a border wherever the one gives way to the other. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from schemas.account import PlanSpan
from schemas.period import TIME_END, Period, period_of


class Stretch(NamedTuple):
    """A time whose billing periods are counted alike."""

    start: int
    end: int
    anchor: int
    months: int


def stretches(spans: Sequence[PlanSpan]) -> list[Stretch]:
    """All time, in stretches. A change of plan that keeps anchor and length is no border."""
    found = [Stretch(0, TIME_END, 0, 1)]
    for span in spans:
        last = found[-1]
        if (last.anchor, last.months) == (span.anchor, span.months):
            continue
        found[-1] = last._replace(end=span.start)
        found.append(Stretch(span.start, TIME_END, span.anchor, span.months))
    return [one for one in found if one.start < one.end]


def period_at(spans: Sequence[PlanSpan], instant: int) -> Period:
    """The billing period that an instant lies in, cut where its stretch begins or ends."""
    for one in stretches(spans):
        if one.start <= instant < one.end:
            whole = period_of(one.anchor, one.months, instant)
            return Period(max(whole.start, one.start), min(whole.end, one.end))
    raise AssertionError(f"{instant} lies in no stretch")


def ending_in(spans: Sequence[PlanSpan], window: Period) -> Iterator[Period]:
    """Billing periods that end after the window's start, up to and including its end."""
    # The period that lies around the window's start is the first that can end after it.
    instant = window.start
    while True:
        period = period_at(spans, instant)
        if period.end > window.end:
            return
        yield period
        instant = period.end
