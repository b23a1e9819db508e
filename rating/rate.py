"""A price of the catalogue, ready to charge: its model, what stands around it, in one order, and the one rounding.

The order is: included quantity -> model -> discount -> minimum -> maximum. The included quantity is usage that has no
price, so it comes off before a package is begun or a tier entered. A discount is a share of what the model asks. The
minimum is what a period is worth at least, so a discount does not go below it; the maximum is the last word, because
it is a promise to the customer. The minimum belongs to a period, not to an event: no charge contains it, the close of
the period books what is missing.

Two kinds. A price whose total is a straight line through zero charges every event by itself: quantity x rate, rounded
once, half even. Any other depends on the period so far, and charges round(total after) - round(total before), so that a
period's charges sum to its rounded total however usage is split and in whatever order it comes.

Errors: InvalidInput `amount_overflow` beyond +-AMOUNT_MAX_NANOS, `out_of_range` for a total of usage below zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, TypeAlias, assert_never

from rating.adjust import Total, at_least, at_most, beyond_included, discounted
from rating.flat import FlatModel
from rating.graduated import GraduatedModel
from rating.model import Exact, PriceModel, Step, exact_text, nano_units, nanos
from rating.package import PackageModel
from rating.per_unit import PerUnitModel
from rating.stairstep import StairstepModel
from rating.volume import VolumeModel
from schemas import catalog_shapes
from schemas.errors import InvalidInput, InvariantBroken
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.money import format_nanos, round_half_even


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a price adds up to, exact: model and adjustments in their order."""

    model: PriceModel
    included: Exact
    kept: Fraction
    """The share that is left after the discount."""
    minimum: Fraction | None
    maximum: Fraction | None

    def running(self) -> Total:
        """The total that charges are differences of."""
        return self._bounded(self._priced())

    def closing(self) -> Total:
        """The total that the period comes to when it is closed."""
        priced = self._priced()
        return self._bounded(at_least(priced, self.minimum) if self.minimum is not None else priced)

    def _priced(self) -> Total:
        total = Total(self.model.numerator, self.model.denominator)
        if self.included:
            total = beyond_included(total, self.included)
        return discounted(total, self.kept) if self.kept != 1 else total

    def _bounded(self, total: Total) -> Total:
        return at_most(total, self.maximum) if self.maximum is not None else total

    def steps(self, quantity: Exact, *, closing: bool = False) -> tuple[Step, ...]:
        """The running (or closing) total of a quantity, step by step; the amounts sum exactly to it."""
        steps: list[Step] = []
        paid = quantity
        if self.included:
            paid = max(quantity - self.included, 0)
            if quantity:
                steps.append(Step("included", min(quantity, self.included), Fraction(0), Fraction(0)))
        steps += self.model.steps(paid)
        amount = sum((step.amount for step in steps), Fraction(0))
        if self.kept != 1 and amount:
            steps.append(Step("discount", 0, None, amount * self.kept - amount))
            amount *= self.kept
        if closing and self.minimum is not None and amount < self.minimum:
            steps.append(Step("minimum", 0, None, self.minimum - amount))
            amount = self.minimum
        if self.maximum is not None and amount > self.maximum:
            steps.append(Step("maximum", 0, None, self.maximum - amount))
        return tuple(steps)


class PerEventPrice:
    """A price that charges every event by itself."""

    __slots__ = ("_denominator", "_numerator", "arithmetic", "id", "model", "unit_amount_text")

    cumulative: Final[Literal[False]] = False

    def __init__(self, price_id: str, model: str, rate: Fraction, arithmetic: Arithmetic, unit_amount: str) -> None:
        self.id = price_id
        self.model = model
        self.arithmetic = arithmetic
        self.unit_amount_text: str | None = unit_amount
        self._numerator = rate.numerator
        self._denominator = rate.denominator

    @property
    def ratio(self) -> tuple[int, int]:
        """Nanos for a nano-unit: numerator and denominator, for loops that round with them as `charge` does."""
        return self._numerator, self._denominator

    def charge(self, quantity: int) -> int:
        """Nanos for an event's quantity in nano-units.

        A negative one needs the period's total beside it: `charge_after`.
        """
        if quantity < 0:
            raise InvalidInput("out_of_range", f"the quantity {format_nanos(quantity)} is below zero")
        amount = round_half_even(quantity * self._numerator, self._denominator)
        if amount > AMOUNT_MAX_NANOS:
            raise _overflow(amount)
        return amount

    def charge_after(self, before: int | None, after: int) -> int:
        """Nanos for the event that took the period's quantity from `before` (None: no event yet) to `after`."""
        if after < 0:
            raise _below_zero(after)
        amount = round_half_even((after - (before or 0)) * self._numerator, self._denominator)
        if not -AMOUNT_MAX_NANOS <= amount <= AMOUNT_MAX_NANOS:
            raise _overflow(amount)
        return amount

    def walk(self, before: int | None, after: int) -> tuple[Step, ...]:
        """The arithmetic of `charge_after`, before its rounding."""
        return _difference(self.arithmetic, before, after)


class PeriodPrice:
    """A price that depends on the period so far."""

    __slots__ = ("_denominator", "_numerator", "arithmetic", "id", "model", "unit_amount_text")

    cumulative: Final[Literal[True]] = True

    def __init__(self, price_id: str, model: str, arithmetic: Arithmetic, unit_amount: str | None) -> None:
        self.id = price_id
        self.model = model
        self.arithmetic = arithmetic
        self.unit_amount_text = unit_amount
        self._numerator, self._denominator = arithmetic.running()

    def charge(self, quantity: int) -> int:
        """Never: what an event costs depends on those before it."""
        raise InvariantBroken(f"the price {self.id} was asked for a charge without the period's quantity so far")

    def charge_after(self, before: int | None, after: int) -> int:
        """Nanos for the event that took the period's quantity from `before` to `after`, in nano-units.

        `before` is None where the period had no event of this price: its total was then 0, whatever the model says of
        zero usage. 0 is another thing: events were there, and what zero usage costs is charged already.
        """
        if after < 0:
            raise _below_zero(after)
        amount = self._rounded(after)
        if before is not None:
            amount -= self._rounded(before)
        if not -AMOUNT_MAX_NANOS <= amount <= AMOUNT_MAX_NANOS:
            raise _overflow(amount)
        return amount

    def walk(self, before: int | None, after: int) -> tuple[Step, ...]:
        """The arithmetic of `charge_after`, before its two roundings: the steps after less the steps before."""
        return _difference(self.arithmetic, before, after)

    def _rounded(self, quantity: int) -> int:
        numerator = self._numerator(quantity)
        if type(numerator) is int:
            return round_half_even(numerator, self._denominator)
        return round_half_even(numerator.numerator, numerator.denominator * self._denominator)


Price: TypeAlias = PerEventPrice | PeriodPrice


def compile_price(price: catalog_shapes.Price) -> Price:
    """A price of the catalogue, ready to charge. Errors: InvalidInput `unknown_model` for one that rating lacks."""
    arithmetic = Arithmetic(
        model=_model(price),
        included=nano_units(price.included_quantity) if price.included_quantity is not None else 0,
        kept=1 - Fraction(price.discount_percent or 0) / 100,
        minimum=nanos(price.minimum_amount) if price.minimum_amount is not None else None,
        maximum=nanos(price.maximum_amount) if price.maximum_amount is not None else None,
    )
    if not isinstance(arithmetic.model, PerUnitModel):
        return PeriodPrice(price.id, price.model, arithmetic, None)
    rate = arithmetic.model.rate
    if arithmetic.included or arithmetic.maximum is not None:
        return PeriodPrice(price.id, price.model, arithmetic, exact_text(rate))
    return PerEventPrice(price.id, price.model, rate * arithmetic.kept, arithmetic, exact_text(rate))


def _model(price: catalog_shapes.Price) -> PriceModel:
    match price:
        case catalog_shapes.PerUnit():
            return PerUnitModel.of(price)
        case catalog_shapes.Package():
            return PackageModel.of(price)
        case catalog_shapes.Graduated():
            return GraduatedModel.of(price)
        case catalog_shapes.Flat():
            return FlatModel.of(price)
        case catalog_shapes.Volume():
            return VolumeModel.of(price)
        case catalog_shapes.Stairstep():
            return StairstepModel.of(price)
        case catalog_shapes.GraduatedPercentage():
            return GraduatedModel.of_percentage(price)
        case catalog_shapes.Percentage() | catalog_shapes.Dynamic():
            raise InvalidInput(
                "unknown_model", f"the price {price.id} has the model {price.model}, which is not priced"
            )
        case _:
            assert_never(price)


def _below_zero(after: int) -> InvalidInput:
    return InvalidInput("out_of_range", f"the period's quantity would be {format_nanos(after)}, below zero")


def _overflow(amount: int) -> InvalidInput:
    return InvalidInput("amount_overflow", f"a charge of {amount} nanos is beyond +-{AMOUNT_MAX_NANOS}")


def _difference(arithmetic: Arithmetic, before: Exact | None, after: Exact) -> tuple[Step, ...]:
    earlier = arithmetic.steps(before) if before is not None else ()
    return _merged((*arithmetic.steps(after), *(_negated(step) for step in earlier)))


def _negated(step: Step) -> Step:
    return Step(step.name, -step.quantity, step.unit_amount, -step.amount)


def _merged(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Steps of the same name at the same price as one; what comes to nothing is left out."""
    merged: dict[tuple[str, Fraction | None], Step] = {}
    for step in steps:
        key = (step.name, step.unit_amount)
        so_far = merged.get(key)
        if so_far is not None:
            step = Step(step.name, so_far.quantity + step.quantity, step.unit_amount, so_far.amount + step.amount)
        merged[key] = step
    return tuple(step for step in merged.values() if step.quantity or step.amount)
