"""`per_unit`: every unit at one price."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rating.model import Exact, Step, unit_rate
from schemas.catalog_shapes import PerUnit


@dataclass(frozen=True, slots=True)
class PerUnitModel:
    """total = quantity x rate."""

    rate: Fraction

    @classmethod
    def of(cls, price: PerUnit) -> PerUnitModel:
        """From the catalogue."""
        return cls(unit_rate(price.unit_amount, price.unit_divisor))

    @property
    def denominator(self) -> int:
        return self.rate.denominator

    def numerator(self, quantity: Exact) -> Exact:
        return quantity * self.rate.numerator

    def steps(self, quantity: Exact) -> tuple[Step, ...]:
        if not quantity:
            return ()
        return (Step("units", quantity, self.rate, quantity * self.rate),)
