"""`volume`: all units at the price of the tier reached, plus that tier's flat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from rating.model import Exact, Step, nano_units, nanos, unit_rate
from rating.tiers import Line, Tier, TieredTotal, tiers_of
from schemas.catalog_shapes import Volume


@dataclass(frozen=True, slots=True)
class VolumeModel:
    """The total jumps where a tier is reached: the units before it are priced anew."""

    tiers: tuple[Tier, ...]
    total: TieredTotal
    flat_at_zero: bool

    @classmethod
    def of(cls, price: Volume) -> VolumeModel:
        """From the catalogue."""
        ends = [nano_units(tier.up_to) if tier.up_to is not None else None for tier in price.tiers]
        rates = [unit_rate(tier.unit_amount, price.unit_divisor) for tier in price.tiers]
        tiers = tiers_of(ends, rates, [nanos(tier.flat_amount) for tier in price.tiers])
        at_zero = tiers[0].flat if price.charge_first_flat_at_zero else Fraction(0)
        lines = [Line(tier.flat, tier.rate) for tier in tiers]
        total = TieredTotal.of([tier.start for tier in tiers[1:]], lines, at_zero)
        return cls(tiers, total, price.charge_first_flat_at_zero)

    @property
    def denominator(self) -> int:
        return self.total.denominator

    @property
    def numerator(self) -> Callable[[Exact], Exact]:
        return self.total.numerator  # itself, not a call of it: it is on the path of every event

    def steps(self, quantity: Exact) -> tuple[Step, ...]:
        if not quantity and not self.flat_at_zero:
            return ()
        tier = self.tiers[self.total.tier_of(quantity)]
        steps = [Step(tier.name, quantity, tier.rate, quantity * tier.rate)] if quantity else []
        if tier.flat:
            steps.append(Step(f"{tier.name} flat", 0, None, tier.flat))
        return tuple(steps)
