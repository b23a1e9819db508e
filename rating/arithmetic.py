"""What a price adds up to: its model, and what stands around it in one order; every step exact.

The order is: included quantity -> model -> discount -> minimum -> maximum. The included quantity is usage that has no
price, so it comes off before a package is begun or a tier entered. A discount is a share of what the model asks. The
minimum is what a period is worth at least, so a discount does not go below it; the maximum is the last word, because
it is a promise to the customer. The minimum belongs to a period, not to an event: no charge contains it, the close of
the period books what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from rating.adjust import Total, at_least, at_most, beyond_included, discounted
from rating.model import Exact, PriceModel, Step, nano_units, nanos
from schemas.catalog_shapes import Priced
from schemas.errors import InvalidInput
from schemas.limits import AMOUNT_MAX_NANOS
from schemas.money import format_nanos, round_half_even


class Closing(NamedTuple):
    """What a period comes to when it is closed, and how; nanos, exact. The steps sum to the amount."""

    amount: Fraction
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around a model."""

    included: Exact
    """Nano-units."""
    kept: Fraction
    """The share that is left after the discount."""
    minimum: Fraction | None
    """Nanos, as the maximum."""
    maximum: Fraction | None

    @classmethod
    def of(cls, price: Priced) -> Around:
        """From the catalogue."""
        return cls(
            included=nano_units(price.included_quantity) if price.included_quantity is not None else 0,
            kept=1 - Fraction(price.discount_percent or 0) / 100,
            minimum=nanos(price.minimum_amount) if price.minimum_amount is not None else None,
            maximum=nanos(price.maximum_amount) if price.maximum_amount is not None else None,
        )

    def capped(self, amount: Fraction) -> Fraction:
        """The amount, or the maximum where that is less."""
        return amount if self.maximum is None else min(amount, self.maximum)

    def after_model(self, amount: Fraction, *, closing: bool) -> tuple[Step, ...]:
        """The steps that follow on what the model came to."""
        steps: list[Step] = []
        if self.kept != 1 and amount:
            steps.append(Step("discount", 0, None, amount * self.kept - amount))
            amount *= self.kept
        if closing and self.minimum is not None and amount < self.minimum:
            steps.append(Step("minimum", 0, None, self.minimum - amount))
            amount = self.minimum
        if self.maximum is not None and amount > self.maximum:
            steps.append(Step("maximum", 0, None, self.maximum - amount))
        return tuple(steps)

    def missing(self, booked: int) -> int:
        """Nanos that the close of a period adds to what its events were charged."""
        if self.minimum is None:
            return 0
        return max(0, rounded(self.capped(self.minimum)) - booked)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The arithmetic of a price whose total is a function of the period's quantity."""

    model: PriceModel
    around: Around

    def running(self) -> Total:
        """The total that charges are differences of."""
        return self._bounded(self._priced())

    def closing(self) -> Total:
        """The total that the period comes to when it is closed."""
        priced, minimum = self._priced(), self.around.minimum
        return self._bounded(at_least(priced, minimum) if minimum is not None else priced)

    def _priced(self) -> Total:
        total = Total(self.model.numerator, self.model.denominator)
        if self.around.included:
            total = beyond_included(total, self.around.included)
        return discounted(total, self.around.kept) if self.around.kept != 1 else total

    def _bounded(self, total: Total) -> Total:
        return at_most(total, self.around.maximum) if self.around.maximum is not None else total

    def steps(self, quantity: Exact, *, closing: bool = False) -> tuple[Step, ...]:
        """The running (or closing) total of a quantity, step by step; the amounts sum exactly to it."""
        steps: list[Step] = []
        paid, included = quantity, self.around.included
        if included:
            paid = max(quantity - included, 0)
            if quantity:
                steps.append(Step("included", min(quantity, included), Fraction(0), Fraction(0)))
        steps += self.model.steps(paid)
        return (*steps, *self.around.after_model(sum_of(steps), closing=closing))

    def walk(self, before: Exact | None, after: Exact) -> tuple[Step, ...]:
        """What a period's total grew by: the steps after less the steps before (None: there was no event yet)."""
        earlier = self.steps(before) if before is not None else ()
        return merged((*self.steps(after), *(_negated(step) for step in earlier)))

    def closed(self, quantities: Iterable[Exact]) -> Closing:
        """The closing total of a period with these quantities."""
        quantity = sum(quantities)
        return Closing(self.closing().exact(quantity), self.steps(quantity, closing=True))


def sum_of(steps: Iterable[Step]) -> Fraction:
    """Nanos."""
    return sum((step.amount for step in steps), Fraction(0))


def rounded(amount: Exact) -> int:
    """To whole nanos, half even."""
    return round_half_even(amount.numerator, amount.denominator)


def merged(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Steps of the same name at the same price as one; what comes to nothing is left out."""
    found: dict[tuple[str, Fraction | None], Step] = {}
    for step in steps:
        key = (step.name, step.unit_amount)
        so_far = found.get(key)
        if so_far is not None:
            step = Step(step.name, so_far.quantity + step.quantity, step.unit_amount, so_far.amount + step.amount)
        found[key] = step
    return tuple(step for step in found.values() if step.quantity or step.amount)


def within_bounds(amount: int) -> int:
    """The charge itself. Errors: InvalidInput `amount_overflow`."""
    if not -AMOUNT_MAX_NANOS <= amount <= AMOUNT_MAX_NANOS:
        raise InvalidInput("amount_overflow", f"a charge of {amount} nanos is beyond +-{AMOUNT_MAX_NANOS}")
    return amount


def not_below_zero(quantity: int) -> int:
    """A period's quantity. Errors: InvalidInput `out_of_range`."""
    if quantity < 0:
        raise InvalidInput("out_of_range", f"the period's quantity would be {format_nanos(quantity)}, below zero")
    return quantity


def _negated(step: Step) -> Step:
    return Step(step.name, -step.quantity, step.unit_amount, -step.amount)
