"""`stairstep`: the amount of the tier reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from rating.model import Exact, Step, nano_units, nanos
from rating.tiers import Line, Tier, TieredTotal, tiers_of
from schemas.catalog_shapes import Stairstep


@dataclass(frozen=True, slots=True)
class StairstepModel:
    """The total is one amount a tier."""

    tiers: tuple[Tier, ...]
    total: TieredTotal
    flat_at_zero: bool

    @classmethod
    def of(cls, price: Stairstep) -> StairstepModel:
        """From the catalogue."""
        ends = [nano_units(tier.up_to) if tier.up_to is not None else None for tier in price.tiers]
        amounts = [nanos(tier.amount) for tier in price.tiers]
        tiers = tiers_of(ends, [Fraction(0)] * len(ends), amounts)
        at_zero = amounts[0] if price.charge_first_flat_at_zero else Fraction(0)
        lines = [Line(amount, Fraction(0)) for amount in amounts]
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
        return (Step(tier.name, quantity, None, tier.flat),)
