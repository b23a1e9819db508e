"""Proration: a part of a fee for a part of its period, and the two lines of a change of plan."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rating.proration import Basis, Fee, plan_change, prorate, remaining_share
from schemas.errors import InvalidInput
from schemas.money import NANOS, parse_nanos
from schemas.period import Period, parse_time


def at(text: str) -> int:
    return parse_time(text if "T" in text else f"{text}T00:00:00Z")


def span(start: str, end: str) -> Period:
    return Period(at(start), at(end))


NOVEMBER = span("2026-11-01", "2026-12-01")
FEBRUARY = span("2026-02-01", "2026-03-01")


@pytest.mark.parametrize(
    ("period", "instant", "basis", "share"),
    [
        (NOVEMBER, "2026-11-01", "seconds", Fraction(1)),
        (NOVEMBER, "2026-12-01", "seconds", Fraction(0)),
        (NOVEMBER, "2026-11-16", "seconds", Fraction(1, 2)),
        (NOVEMBER, "2026-11-16T00:00:01Z", "seconds", Fraction(15 * 86_400 - 1, 30 * 86_400)),
        (NOVEMBER, "2026-11-16T00:00:00.999999Z", "seconds", Fraction(1, 2)),
        (NOVEMBER, "2026-11-01", "days", Fraction(1)),
        (NOVEMBER, "2026-11-01T23:59:59Z", "days", Fraction(1)),
        (NOVEMBER, "2026-11-02", "days", Fraction(29, 30)),
        (NOVEMBER, "2026-11-30T12:00:00Z", "days", Fraction(1, 30)),
        (NOVEMBER, "2026-12-01", "days", Fraction(0)),
        (FEBRUARY, "2026-02-15", "days", Fraction(1, 2)),
        # an anchored period: its days begin when it began
        (span("2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z"), "2026-02-01T09:59:59Z", "days", Fraction(1)),
        (span("2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z"), "2026-02-01T10:00:00Z", "days", Fraction(27, 28)),
        # a last day that is not whole is a day all the same
        (span("2026-11-01", "2026-11-02T12:00:00Z"), "2026-11-02T11:00:00Z", "days", Fraction(1, 2)),
        (span("2026-11-01", "2026-11-02T12:00:00Z"), "2026-11-02T12:00:00Z", "days", Fraction(0)),
    ],
)
def test_the_share_that_remains(period: Period, instant: str, basis: Basis, share: Fraction) -> None:
    """Seconds to the second, days begun at the period's own hour."""
    assert remaining_share(period, at(instant), basis) == share


@pytest.mark.parametrize(
    ("old", "new", "instant", "basis", "places", "credit", "charge"),
    [
        # docs.stripe.com/billing/subscriptions/prorations: $10 to $20 halfway through the month
        ("10", "20", "2026-11-16", "seconds", 2, "-5.00", "10.00"),
        ("20", "10", "2026-11-16", "seconds", 2, "-10.00", "5.00"),
        # at the begin everything, at the end nothing
        ("10", "20", "2026-11-01", "seconds", 2, "-10.00", "20.00"),
        ("10", "20", "2026-12-01", "seconds", 2, "0", "0"),
        # own arithmetic: by days, 11 of 30 remain: 7.3333, 36.6667
        ("20", "100", "2026-11-20T15:00:00Z", "days", 2, "-7.33", "36.67"),
        # a half goes away from zero, on both sides; without minor units, and with three
        ("0.01", "0.01", "2026-11-16", "seconds", 2, "-0.01", "0.01"),
        ("1000", "3001", "2026-11-16", "seconds", 0, "-500", "1501"),
        ("1", "0.001", "2026-11-21", "days", 3, "-0.333", "0"),
        ("0", "9.99", "2026-11-11", "days", 2, "0", "6.66"),
    ],
)
def test_a_change_of_plan_is_two_rounded_lines(
    old: str, new: str, instant: str, basis: Basis, places: int, credit: str, charge: str
) -> None:
    """A credit of what is unused, and a charge of what remains, each rounded by itself."""
    fees = (Fee(parse_nanos(old), NOVEMBER), Fee(parse_nanos(new), NOVEMBER))
    change = plan_change(*fees, at(instant), basis, places)
    assert (change.credit.amount, change.charge.amount) == (parse_nanos(credit), parse_nanos(charge))
    assert change.amount == parse_nanos(credit) + parse_nanos(charge)
    assert change.credit.period == change.charge.period == Period(at(instant), NOVEMBER.end)
    assert change.credit.exact == -parse_nanos(old) * change.credit.share


def test_a_plan_with_a_period_of_its_own_is_charged_whole() -> None:
    """Monthly to yearly: the year begins with the change."""
    year = span("2026-11-16", "2027-11-16")
    change = plan_change(Fee(30 * NANOS, NOVEMBER), Fee(300 * NANOS, year), year.start, "seconds", 2)
    assert (change.credit.amount, change.charge.amount) == (-15 * NANOS, 300 * NANOS)
    assert change.charge.period == year


def test_a_part_of_a_period_pays_its_part() -> None:
    """From a late begin on, up to an early end; the parts' exact amounts sum to the whole's."""
    fee = Fee(100 * NANOS, NOVEMBER)
    first = prorate(fee, span("2026-11-01", "2026-11-11"), "days", 2)
    second = prorate(fee, span("2026-11-11", "2026-12-01"), "days", 2)
    assert (first.amount, second.amount) == (parse_nanos("33.33"), parse_nanos("66.67"))
    assert first.exact + second.exact == fee.amount
    assert prorate(fee, NOVEMBER, "seconds", 2).amount == fee.amount


@pytest.mark.parametrize("instant", ["2026-10-31T23:59:59.999999Z", "2026-12-01T00:00:00.000001Z"])
def test_a_change_outside_of_its_period_is_refused(instant: str) -> None:
    """It names both."""
    with pytest.raises(InvalidInput, match=r"outside of the period 2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z"):
        remaining_share(NOVEMBER, at(instant), "seconds")
