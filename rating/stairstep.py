"""`stairstep`: the amount of the tier reached."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rating.model import Exact, Step, nanos
from rating.tiers import Line, TieredModel, TieredTotal, tiers_of
from schemas.catalog_shapes import Stairstep


@dataclass(frozen=True, slots=True)
class StairstepModel(TieredModel):
    """The total is one amount a tier."""

    @classmethod
    def of(cls, price: Stairstep) -> StairstepModel:
        """From the catalogue."""
        amounts = [nanos(tier.amount) for tier in price.tiers]
        tiers = tiers_of(price.tiers, [Fraction(0)] * len(amounts), amounts)
        at_zero = amounts[0] if price.charge_first_flat_at_zero else Fraction(0)
        lines = [Line(amount, Fraction(0)) for amount in amounts]
        total = TieredTotal.of([tier.start for tier in tiers[1:]], lines, at_zero)
        return cls(tiers, total, price.charge_first_flat_at_zero)

    def steps(self, quantity: Exact) -> tuple[Step, ...]:
        if not quantity and not self.flat_at_zero:
            return ()
        tier = self.tiers[self.total.tier_of(quantity)]
        return (Step(tier.name, quantity, None, tier.flat),)
