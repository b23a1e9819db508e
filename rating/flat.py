"""`flat`: one amount a period, whatever the usage, none included."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rating.model import Exact, Step, nanos
from schemas.catalog_shapes import Flat


@dataclass(frozen=True, slots=True)
class FlatModel:
    """total = amount."""

    amount: Fraction

    @classmethod
    def of(cls, price: Flat) -> FlatModel:
        """From the catalogue."""
        return cls(nanos(price.amount))

    @property
    def denominator(self) -> int:
        return self.amount.denominator

    def numerator(self, quantity: Exact) -> Exact:
        return self.amount.numerator

    def steps(self, quantity: Exact) -> tuple[Step, ...]:
        return (Step("flat", 0, None, self.amount),)
