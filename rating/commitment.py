"""What a plan's commitment adds to a period's usage when it is closed.

A customer committed to an amount a period pays its usage at the plan's prices up to that amount, and what goes beyond
it `overage_factor` times. With `true_up` (which a commitment has unless it says false) a period that comes to less is
topped up to the amount; without it the commitment only sets where the overage begins.

Charges are booked at the plan's prices as usage comes, so the close books two lines at most, and never both: what is
missing to the amount, or the surcharge on the overage. A factor below 1 makes that a rebate. Each is rounded once.

Amounts are nanos. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rating.model import Exact, nanos
from rating.proration import rounded_to_minor
from schemas import catalog_shapes


@dataclass(frozen=True, slots=True)
class Settlement:
    """A period's usage against its commitment; `within + overage` is the usage."""

    within: Fraction
    """What of the usage the commitment covers."""
    overage: Fraction
    """What goes beyond it, at the plan's prices."""
    surcharge: Fraction
    """What the overage costs besides; negative where its factor is below 1."""
    true_up: Fraction
    """What is missing to the commitment."""

    @property
    def total(self) -> Fraction:
        """What the period comes to."""
        return self.within + self.overage + self.surcharge + self.true_up

    def lines(self, places: int) -> tuple[int, int]:
        """Surcharge and true-up in nanos of whole minor units, each rounded once, half up away from zero."""
        return rounded_to_minor(self.surcharge, places), rounded_to_minor(self.true_up, places)


@dataclass(frozen=True, slots=True)
class Commitment:
    """An amount a period that the customer is committed to."""

    amount: Fraction
    overage_factor: Fraction
    true_up: bool

    @classmethod
    def of(cls, declared: catalog_shapes.Commitment) -> Commitment:
        """From the catalogue; the factor is 1 and the true-up is on unless it says otherwise."""
        factor = declared.overage_factor
        return cls(
            amount=nanos(declared.amount),
            overage_factor=Fraction(factor) if factor is not None else Fraction(1),
            true_up=declared.true_up is not False,
        )

    def settle(self, usage: Exact, share: Fraction = Fraction(1)) -> Settlement:
        """A period whose charges come to `usage`; `share` is the part of the period that the plan was held for."""
        committed = self.amount * share
        within = min(Fraction(usage), committed)
        overage = usage - within
        missing = committed - within if self.true_up else Fraction(0)
        return Settlement(within, overage, overage * (self.overage_factor - 1), missing)
