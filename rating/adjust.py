"""What stands around a price model: included quantity, discount, and the bounds of a period's total.

Each takes a total (a function of the period's quantity, as a numerator over a constant denominator) and answers the
adjusted one, still in whole numbers for whole numbers. In which order they apply is decided in `rating.arithmetic`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from rating.model import Exact


class Total(NamedTuple):
    """A total in nanos: numerator(quantity in nano-units) / denominator."""

    numerator: Callable[[Exact], Exact]
    denominator: int

    def exact(self, quantity: Exact) -> Fraction:
        """The total itself."""
        return Fraction(self.numerator(quantity)) / self.denominator


def beyond_included(total: Total, included: Exact) -> Total:
    """The total of what goes beyond the included quantity; up to it, that of zero usage."""
    inner = total.numerator

    def numerator(quantity: Exact) -> Exact:
        return inner(quantity - included if quantity > included else 0)

    return Total(numerator, total.denominator)


def discounted(total: Total, share: Fraction) -> Total:
    """The share of the total that is left after a discount."""
    inner, kept = total.numerator, share.numerator

    def numerator(quantity: Exact) -> Exact:
        return inner(quantity) * kept

    return Total(numerator, total.denominator * share.denominator)


def at_least(total: Total, minimum: Fraction) -> Total:
    """The total, or the minimum where that is more; also at zero usage."""
    common, inner, factor, bound = _with_bound(total, minimum)

    def numerator(quantity: Exact) -> Exact:
        return max(inner(quantity) * factor, bound)

    return Total(numerator, common)


def at_most(total: Total, maximum: Fraction) -> Total:
    """The total, or the maximum where that is less."""
    common, inner, factor, bound = _with_bound(total, maximum)

    def numerator(quantity: Exact) -> Exact:
        return min(inner(quantity) * factor, bound)

    return Total(numerator, common)


def _with_bound(total: Total, bound: Fraction) -> tuple[int, Callable[[Exact], Exact], int, int]:
    """A denominator that both share, and what each is multiplied by to stand over it."""
    common = lcm(total.denominator, bound.denominator)
    return common, total.numerator, common // total.denominator, int(bound * common)
