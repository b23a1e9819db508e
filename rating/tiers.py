"""Totals over tiers as pieces of straight lines: what graduated, volume and stairstep prices share.

A tier reaches from the bound before it, exclusive, to its own `up_to`, inclusive. Within a tier a total is
constant + slope x quantity; each model computes its tiers' constants and slopes once. Zero usage is in no tier.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from rating.model import Exact, nano_units
from schemas.catalog_shapes import AmountTier, PercentTier, UnitTier


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier in nano-units and nanos."""

    name: str
    start: Exact
    """Exclusive."""
    rate: Fraction
    """Nanos for one nano-unit."""
    flat: Fraction
    """Nanos for reaching the tier."""


@dataclass(frozen=True, slots=True)
class Line:
    """A total within one tier."""

    constant: Fraction
    slope: Fraction


@dataclass(frozen=True, slots=True)
class TieredTotal:
    """The total of any quantity, in whole numbers over one denominator."""

    denominator: int
    bounds: tuple[Exact, ...]
    """The end of every tier but the last, inclusive, ascending."""
    constants: tuple[int, ...]
    slopes: tuple[int, ...]
    at_zero: int

    @classmethod
    def of(cls, bounds: Sequence[Exact], lines: Sequence[Line], at_zero: Fraction) -> TieredTotal:
        """From exact lines, one a tier."""
        denominator = lcm(
            at_zero.denominator,
            *(line.constant.denominator for line in lines),
            *(line.slope.denominator for line in lines),
        )
        return cls(
            denominator=denominator,
            bounds=tuple(bounds),
            constants=tuple(int(line.constant * denominator) for line in lines),
            slopes=tuple(int(line.slope * denominator) for line in lines),
            at_zero=int(at_zero * denominator),
        )

    def numerator(self, quantity: Exact) -> Exact:
        """The total times the denominator."""
        if not quantity:
            return self.at_zero
        tier = self.tier_of(quantity)
        return self.constants[tier] + self.slopes[tier] * quantity

    def tier_of(self, quantity: Exact) -> int:
        """The index of the tier that a quantity beyond zero reaches."""
        return bisect_left(self.bounds, quantity)  # equal to a bound: still the tier that ends there


@dataclass(frozen=True, slots=True)
class TieredModel:
    """What the three have in common; each says what its lines are, and tells its steps."""

    tiers: tuple[Tier, ...]
    total: TieredTotal
    flat_at_zero: bool

    @property
    def denominator(self) -> int:
        return self.total.denominator

    @property
    def numerator(self) -> Callable[[Exact], Exact]:
        return self.total.numerator  # itself, not a call of it: it is on the path of every event


def tiers_of(
    declared: Sequence[UnitTier | AmountTier | PercentTier],
    rates: Sequence[Fraction],
    flats: Sequence[Fraction],
) -> tuple[Tier, ...]:
    """The tiers with their names and starts; the last of those declared has no end."""
    starts: list[Exact] = [0, *(nano_units(tier.up_to) for tier in declared[:-1] if tier.up_to is not None)]
    return tuple(
        Tier(f"tier {number}", start, rate, flat)
        for number, (start, rate, flat) in enumerate(zip(starts, rates, flats, strict=True), start=1)
    )
