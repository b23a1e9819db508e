"""What every price model is: a total as a function of a period's quantity, exact, and the steps that led to it.

A model knows nothing of periods, events or rounding. Quantities are nano-units: an int in the pipeline, a Fraction
where an estimate asks beyond the ninth place. Totals are nanos, as a numerator over one constant denominator, so that
the pipeline computes in whole numbers alone. A model is asked for quantities from 0 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Final, Protocol, TypeAlias

from schemas.money import NANOS

Exact: TypeAlias = int | Fraction

DIGITS_OF_ENDLESS: Final = 30
"""Digits of a quotient that does not end, where it is written out, half even. What ends is written whole."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a price's arithmetic; the amounts of a walk sum exactly to its total."""

    name: str
    """Which part of the price: `units`, `tier 2`, `tier 2 flat`, `discount`, ..."""
    quantity: Exact
    """Nano-units."""
    unit_amount: Fraction | None
    """Nanos for one nano-unit, which is major units for one unit; None where the amount is not by quantity."""
    amount: Fraction
    """Nanos."""


class PriceModel(Protocol):
    """A price model with its numbers filled in."""

    @property
    def denominator(self) -> int:
        """Of every total; positive."""

    def numerator(self, quantity: Exact) -> Exact:
        """The total of a quantity, in nanos, times the denominator; an int for an int."""

    def steps(self, quantity: Exact) -> tuple[Step, ...]:
        """The same total, step by step."""


def nanos(amount: Decimal | None) -> Fraction:
    """Money of the catalogue as exact nanos; absent money is none."""
    return Fraction(amount) * NANOS if amount is not None else Fraction(0)


def nano_units(quantity: Decimal) -> Exact:
    """A quantity of the catalogue in nano-units: an int wherever it has at most nine decimals."""
    exact = Fraction(quantity) * NANOS
    return exact.numerator if exact.denominator == 1 else exact


def unit_rate(unit_amount: Decimal | None, unit_divisor: Decimal | None) -> Fraction:
    """Nanos for one nano-unit. `unit_divisor` units cost `unit_amount`; the quotient is exact."""
    if unit_amount is None:
        return Fraction(0)
    return Fraction(unit_amount) / (Fraction(unit_divisor) if unit_divisor is not None else 1)


def decimal_parts(value: Exact) -> tuple[int, int] | None:
    """Digits and decimal places, digits / 10^places, the fewest that do; None for a quotient that does not end."""
    denominator = value.denominator
    twos, fives = _power(denominator, 2), _power(denominator, 5)
    if denominator != 2**twos * 5**fives:
        return None
    places = max(twos, fives)
    return value.numerator * 10**places // denominator, places


def exact_text(value: Exact) -> str:
    """An exact number as plain decimal text, with no exponent and no trailing zeros."""
    parts = decimal_parts(value)
    if parts is not None:
        digits, places = parts
        number = Decimal(f"{digits}e-{places}")
    else:
        number = _ENDLESS.divide(Decimal(value.numerator), Decimal(value.denominator))
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


_ENDLESS: Final = Context(prec=DIGITS_OF_ENDLESS, rounding=ROUND_HALF_EVEN)


def _power(number: int, base: int) -> int:
    power = 0
    while number % base == 0:
        number //= base
        power += 1
    return power
