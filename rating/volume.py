"""`volume`: all units at the price of the tier reached, plus that tier's flat."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rating.model import Exact, Step, nanos, unit_rate
from rating.tiers import Line, TieredModel, TieredTotal, tiers_of
from schemas.catalog_shapes import Volume


@dataclass(frozen=True, slots=True)
class VolumeModel(TieredModel):
    """The total jumps where a tier is reached: the units before it are priced anew."""

    @classmethod
    def of(cls, price: Volume) -> VolumeModel:
        """From the catalogue."""
        rates = [unit_rate(tier.unit_amount, price.unit_divisor) for tier in price.tiers]
        tiers = tiers_of(price.tiers, rates, [nanos(tier.flat_amount) for tier in price.tiers])
        at_zero = tiers[0].flat if price.charge_first_flat_at_zero else Fraction(0)
        lines = [Line(tier.flat, tier.rate) for tier in tiers]
        total = TieredTotal.of([tier.start for tier in tiers[1:]], lines, at_zero)
        return cls(tiers, total, price.charge_first_flat_at_zero)

    def steps(self, quantity: Exact) -> tuple[Step, ...]:
        if not quantity and not self.flat_at_zero:
            return ()
        tier = self.tiers[self.total.tier_of(quantity)]
        steps = [Step(tier.name, quantity, tier.rate, quantity * tier.rate)] if quantity else []
        if tier.flat:
            steps.append(Step(f"{tier.name} flat", 0, None, tier.flat))
        return tuple(steps)
