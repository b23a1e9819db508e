"""`graduated` and `graduated_percentage`: each tier's units (or money) at that tier's price, its flat once entered."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rating.model import Exact, Step, nanos, unit_rate
from rating.tiers import Line, Tier, TieredModel, TieredTotal, tiers_of
from schemas.catalog_shapes import Graduated, GraduatedPercentage


@dataclass(frozen=True, slots=True)
class GraduatedModel(TieredModel):
    """The total climbs tier by tier."""

    @classmethod
    def of(cls, price: Graduated) -> GraduatedModel:
        """From the catalogue."""
        rates = [unit_rate(tier.unit_amount, price.unit_divisor) for tier in price.tiers]
        flats = [nanos(tier.flat_amount) for tier in price.tiers]
        return cls._of(tiers_of(price.tiers, rates, flats), price.charge_first_flat_at_zero)

    @classmethod
    def of_percentage(cls, price: GraduatedPercentage) -> GraduatedModel:
        """From the catalogue, on money: one unit of the quantity is one of the currency, a rate is its share."""
        rates = [Fraction(tier.rate_percent or 0) / 100 for tier in price.tiers]
        flats = [nanos(tier.flat_amount) for tier in price.tiers]
        return cls._of(tiers_of(price.tiers, rates, flats), price.charge_first_flat_at_zero)

    @classmethod
    def _of(cls, tiers: tuple[Tier, ...], flat_at_zero: bool) -> GraduatedModel:
        lines = []
        reached = Fraction(0)  # the total at the tier's start
        for index, tier in enumerate(tiers):
            entered = reached + tier.flat
            lines.append(Line(entered - tier.start * tier.rate, tier.rate))
            if index + 1 < len(tiers):
                reached = entered + (tiers[index + 1].start - tier.start) * tier.rate
        at_zero = tiers[0].flat if flat_at_zero else Fraction(0)
        total = TieredTotal.of([tier.start for tier in tiers[1:]], lines, at_zero)
        return cls(tiers, total, flat_at_zero)

    def steps(self, quantity: Exact) -> tuple[Step, ...]:
        steps: list[Step] = []
        for index, tier in enumerate(self.tiers):
            entered = quantity > tier.start
            if tier.flat and (entered or (index == 0 and self.flat_at_zero)):
                steps.append(Step(f"{tier.name} flat", 0, None, tier.flat))
            if not entered:
                break
            end = self.tiers[index + 1].start if index + 1 < len(self.tiers) else quantity
            within = min(quantity, end) - tier.start
            steps.append(Step(tier.name, within, tier.rate, within * tier.rate))
        return tuple(steps)
