"""`package`: whole packages at one price each; a begun one counts (`up`) or does not (`down`)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rating.model import Exact, Step, nano_units, nanos
from schemas.catalog_shapes import Package


@dataclass(frozen=True, slots=True)
class PackageModel:
    """total = packages x amount; no usage is no package."""

    size: Exact
    """Nano-units in one package."""
    amount: Fraction
    rounds_up: bool

    @classmethod
    def of(cls, price: Package) -> PackageModel:
        """From the catalogue."""
        return cls(nano_units(price.package_size), nanos(price.amount), price.rounding == "up")

    @property
    def denominator(self) -> int:
        return self.amount.denominator

    def numerator(self, quantity: Exact) -> Exact:
        return self._packages(quantity) * self.amount.numerator

    def steps(self, quantity: Exact) -> tuple[Step, ...]:
        packages = self._packages(quantity)
        if not packages:
            return ()
        return (Step("packages", packages * self.size, self.amount / self.size, packages * self.amount),)

    def _packages(self, quantity: Exact) -> int:
        return -(-quantity // self.size) if self.rounds_up else quantity // self.size
