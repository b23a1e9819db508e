"""What part of a fee falls to a part of its period, and the two lines that a change of plan makes.

By `seconds`, the share is the part's whole seconds of the period's: a change takes effect at the begin of its second.
By `days`, it is whole days of 24 hours counted from the period's start, and a begun day belongs to what comes after it:
who changes on the third day of a period has used two. A period that does not end on a whole day has a last, shorter
one, which counts as one.

A fee is paid in advance, so a change inside its period makes two lines: a credit for what is unused of the old, and a
charge for what remains with the new. Each is worked out exactly and rounded once, to the currency's minor unit, half
up away from zero; their sum may therefore differ from the rounded difference of the fees, by one minor unit at most.

Times are microseconds, amounts nanos. Pure: what was charged already is the caller's to know. Errors: InvalidInput
`out_of_range` for a change outside of its period.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias, assert_never

from rating.model import Exact
from schemas.errors import InvalidInput
from schemas.money import PLACES, to_minor_units
from schemas.period import DAY, SECOND, Period, format_time

Basis: TypeAlias = Literal["seconds", "days"]
"""What a period is counted in."""


@dataclass(frozen=True, slots=True)
class Fee:
    """A recurring amount and the period it is for."""

    amount: int
    """Nanos, not negative."""
    period: Period


@dataclass(frozen=True, slots=True)
class ProratedLine:
    """One line of an invoice."""

    exact: Fraction
    """Nanos, not rounded; a credit is negative."""
    amount: int
    """Nanos of a whole number of minor units."""
    period: Period
    """What the line is for."""
    share: Fraction
    """Of the fee, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What a change of plan adds to an invoice."""

    credit: ProratedLine
    """Of what is unused of the old fee; not above zero."""
    charge: ProratedLine
    """For what remains with the new one."""

    @property
    def amount(self) -> int:
        """Nanos that are due for the change; negative where more was unused than is taken up."""
        return self.credit.amount + self.charge.amount


def remaining_share(period: Period, at: int, basis: Basis) -> Fraction:
    """The part of a period that lies from `at` on: 1 at its start, 0 at its end."""
    _check_within(period, at)
    if basis == "seconds":
        whole, used = (period.end - period.start) // SECOND, (at - period.start) // SECOND
    elif basis == "days":
        whole, used = -(-(period.end - period.start) // DAY), (at - period.start) // DAY
        if at == period.end:
            used = whole
    else:
        assert_never(basis)
    return Fraction(whole - used, whole)


def prorate(fee: Fee, part: Period, basis: Basis, places: int) -> ProratedLine:
    """The line for a part of a fee's period, such as that from a late begin on or up to an early end.

    Parts that follow on one another have shares that sum to that of the whole, but each is a line that is rounded.
    `places` are the decimals of the currency's minor unit.
    """
    share = remaining_share(fee.period, part.start, basis) - remaining_share(fee.period, part.end, basis)
    return _line(Fraction(fee.amount), share, part, places)


def plan_change(old: Fee, new: Fee, at: int, basis: Basis, places: int) -> PlanChange:
    """The two lines of a change at `at`, which lies in both periods.

    Where the new plan keeps the old one's period, both periods are the same; where it begins a period of its own
    (monthly to yearly), that begins at `at`, and its fee is charged whole.
    """
    return PlanChange(
        credit=_line(-Fraction(old.amount), remaining_share(old.period, at, basis), _rest(old.period, at), places),
        charge=_line(Fraction(new.amount), remaining_share(new.period, at, basis), _rest(new.period, at), places),
    )


def _line(amount: Fraction, share: Fraction, period: Period, places: int) -> ProratedLine:
    exact = amount * share
    return ProratedLine(exact, rounded_to_minor(exact, places), period, share)


def rounded_to_minor(exact: Exact, places: int) -> int:
    """Nanos to the nanos of a whole number of minor units, half up away from zero."""
    unit: int = 10 ** (PLACES - places)
    return to_minor_units(exact, places) * unit


def _rest(period: Period, at: int) -> Period:
    return Period(at, period.end)


def _check_within(period: Period, at: int) -> None:
    if not period.start <= at <= period.end:
        span = f"{format_time(period.start)} to {format_time(period.end)}"
        raise InvalidInput("out_of_range", f"{format_time(at)} lies outside of the period {span}")
