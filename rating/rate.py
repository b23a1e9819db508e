"""A price of the catalogue, ready to charge, and its one rounding.

What a charge depends on makes four kinds of price, of one interface:

- `PerEventPrice`: on the event alone, where the total is a straight line through zero: quantity x rate.
- `PeriodPrice`: on the quantity of its period so far, one counter.
- `PercentagePrice`: on the period's money, events and total so far, three counters.
- `DynamicPrice`: on the amount that the event brings; it has a counter only where something bounds its period.

**Charging.** For every event, `advance(before, quantity)` answers the nanos to charge and the counters after it.
`before` is what the counters held, in the order of `counters`, or None where the period had no event of this price: its
total was then 0, whatever the model says of zero usage. Zeros are another thing: events were there, and what zero usage
costs is charged already. The quantity is what the meter measured, in nano-units, but for a DynamicPrice, which has its
own: `amount_of(event)`. A counter's key is its name in `counters` followed by `schemas.account.counter_key`; all are
whole numbers, not below zero.

Charges of a period are differences of rounded totals, round(total after) - round(total before), so that they sum to the
period's rounded total however usage is split and in whatever order it comes (but for a percentage, whose bounds hold
for each event). A price with no counters rounds every event by itself. Rounding is half even, to a nano.

Where a meter does not sum (a maximum, an average), the caller works out what the period's quantity became and asks
`charge_after(before, after)` of a PeriodPrice; `compile_price(…, summed=False)` makes nothing else of such models.

**Corrections.** A negative quantity needs its period's quantity so far, and must leave it at or above zero. A price
without a counter takes one all the same, where the caller keeps one.

**Closing.** `due_at_close(booked)` is what is missing from the charges when the period ends: a minimum, and, for a
period without an event (`booked` is None), what the price asks for no usage. `closed(quantities)` is the whole of a
period from its events, exact: what an estimate answers. `walk(before, quantity)` is the arithmetic of one charge.

Errors: InvalidInput `amount_overflow` beyond +-AMOUNT_MAX_NANOS, `out_of_range` for a period's usage below zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final, Literal, TypeAlias, assert_never

from rating.arithmetic import Arithmetic, Around, Closing, not_below_zero, rounded, within_bounds
from rating.dynamic import AmountOf, DynamicModel, compile_amount_of
from rating.flat import FlatModel
from rating.graduated import GraduatedModel
from rating.model import Exact, PriceModel, Step, exact_text
from rating.package import PackageModel
from rating.per_unit import PerUnitModel
from rating.percentage import PercentageModel, PercentagePrice
from rating.stairstep import StairstepModel
from rating.volume import VolumeModel
from schemas import catalog_shapes, expression
from schemas.errors import InvalidInput, InvariantBroken
from schemas.money import format_nanos, round_half_even

Counters: TypeAlias = tuple[int, ...]
"""What is kept of a period, one number for each name in a price's `counters`."""


class PerEventPrice:
    """A price that charges every event by itself."""

    __slots__ = ("_denominator", "_numerator", "arithmetic", "id", "model", "unit_amount_text")

    cumulative: Final[Literal[False]] = False
    counters: Final[tuple[str, ...]] = ()

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
            raise _alone_below_zero(quantity)
        return within_bounds(round_half_even(quantity * self._numerator, self._denominator))

    def charge_after(self, before: int | None, after: int) -> int:
        """Nanos for the event that took the period's quantity from `before` (None: no event yet) to `after`."""
        not_below_zero(after)
        return within_bounds(round_half_even((after - (before or 0)) * self._numerator, self._denominator))

    def advance(self, before: Counters | None, quantity: int) -> tuple[int, Counters]:
        """Nanos for an event, and what it leaves of the counters it was given: as the module says."""
        if before is None or not before:
            return self.charge(quantity), ()
        after = before[0] + quantity
        return self.charge_after(before[0], after), (after,)

    def walk(self, before: Counters | None, quantity: int) -> tuple[Step, ...]:
        """The arithmetic of `advance`, before its rounding."""
        return self.arithmetic.walk(None, quantity) if quantity >= 0 else self.arithmetic.walk(-quantity, 0)

    def closed(self, quantities: Iterable[Exact]) -> Closing:
        """The closing total of a period with these events, and its steps."""
        return self.arithmetic.closed(quantities)

    def due_at_close(self, booked: int | None) -> int:
        """Nanos that the close of a period adds to what its events were charged (None: it had no event)."""
        return self.arithmetic.around.missing(booked or 0)


class PeriodPrice:
    """A price that depends on the quantity of its period so far."""

    __slots__ = ("_denominator", "_numerator", "arithmetic", "id", "model", "unit_amount_text")

    cumulative: Final[Literal[True]] = True
    counters: Final[tuple[str, ...]] = ("",)

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
        """Nanos for the event that took the period's quantity from `before` (None: no event yet) to `after`.

        As `advance`, for loops that keep the one counter themselves.
        """
        not_below_zero(after)
        amount = self._rounded(after)
        if before is not None:
            amount -= self._rounded(before)
        return within_bounds(amount)

    def advance(self, before: Counters | None, quantity: int) -> tuple[int, Counters]:
        """Nanos for an event, and the counter after it: as the module says."""
        if before is None:
            return self.charge_after(None, quantity), (quantity,)
        after = before[0] + quantity
        return self.charge_after(before[0], after), (after,)

    def walk(self, before: Counters | None, quantity: int) -> tuple[Step, ...]:
        """The arithmetic of `advance`, before its two roundings: the steps after less the steps before."""
        if before is None:
            return self.arithmetic.walk(None, quantity)
        return self.arithmetic.walk(before[0], before[0] + quantity)

    def closed(self, quantities: Iterable[Exact]) -> Closing:
        """The closing total of a period with these events, and its steps."""
        return self.arithmetic.closed(quantities)

    def due_at_close(self, booked: int | None) -> int:
        """Nanos that the close of a period adds to what its events were charged (None: it had no event)."""
        if booked is None:
            return rounded(self.arithmetic.closing().exact(0))
        return self.arithmetic.around.missing(booked)

    def _rounded(self, quantity: int) -> int:
        numerator = self._numerator(quantity)
        if type(numerator) is int:
            return round_half_even(numerator, self._denominator)
        return round_half_even(numerator.numerator, numerator.denominator * self._denominator)


class DynamicPrice:
    """A price whose amount comes with the event; bounded over a period, it counts those amounts, each to a nano."""

    __slots__ = ("_period", "_rate", "amount_of", "arithmetic", "counters", "id", "model", "unit_amount_text")

    cumulative: Final[Literal[False]] = False

    def __init__(self, price_id: str, arithmetic: Arithmetic, multiplier: Fraction, amount_of: AmountOf) -> None:
        self.id = price_id
        self.model = "dynamic"
        self.arithmetic = arithmetic
        self.amount_of = amount_of
        """What an event's quantity is to this price."""
        self.unit_amount_text: str | None = None
        self._rate = multiplier * arithmetic.around.kept
        bounded = _bounds_a_period(arithmetic.around)
        self._period = PeriodPrice(price_id, self.model, arithmetic, None) if bounded else None
        self.counters: tuple[str, ...] = self._period.counters if self._period is not None else ()

    def charge(self, quantity: int) -> int:
        """Never: what an event costs stands in the event, not in its meter's quantity."""
        raise InvariantBroken(f"the price {self.id} was asked for a charge without the event's own amount")

    def advance(self, before: Counters | None, quantity: Exact) -> tuple[int, Counters]:
        """Nanos for an event of that amount, `amount_of(event)`, and the counter after it, if there is one."""
        if self._period is not None:
            return self._period.advance(before, rounded(quantity))
        counted = rounded(quantity)
        after: Counters = ()
        if before:
            after = (not_below_zero(before[0] + counted),)
        elif quantity < 0:
            raise _alone_below_zero(counted)
        return within_bounds(rounded(quantity * self._rate)), after

    def walk(self, before: Counters | None, quantity: Exact) -> tuple[Step, ...]:
        """The arithmetic of `advance`, before its rounding."""
        if self._period is not None:
            return self._period.walk(before, rounded(quantity))
        return self.arithmetic.walk(None, quantity) if quantity >= 0 else self.arithmetic.walk(-quantity, 0)

    def amount_behind(self, charge: int) -> Exact | None:
        """The amount that an event brought which was charged so many nanos, to a nano where that explains it; None
        where the bounds of a period, or a price of nothing, hide it."""
        if self._period is not None or not self._rate:
            return None
        exact = charge / self._rate
        near = rounded(exact)
        return near if rounded(near * self._rate) == charge else exact

    def closed(self, quantities: Iterable[Exact]) -> Closing:
        """The closing total of a period with events of these amounts, and its steps."""
        return self.arithmetic.closed(quantities)

    def due_at_close(self, booked: int | None) -> int:
        """Nanos that the close of a period adds to what its events were charged (None: it had no event)."""
        return self.arithmetic.around.missing(booked or 0)


Price: TypeAlias = PerEventPrice | PeriodPrice | PercentagePrice | DynamicPrice


def compile_price(price: catalog_shapes.Price, *, summed: bool = True) -> Price:
    """A price of the catalogue, ready to charge.

    `summed`: whether each event has a part of its own in the meter's quantity, as in sums and counts. Where it has not
    (a maximum, an average), no event can be charged by itself, and every price is one of the period.
    """
    around = Around.of(price)
    if isinstance(price, catalog_shapes.Percentage):
        return PercentagePrice(price.id, PercentageModel.of(price), around)
    model = _model(price)
    arithmetic = Arithmetic(model, around)
    if isinstance(price, catalog_shapes.Dynamic):
        amount_of = compile_amount_of(expression.parse_field(price.amount_field))
        return DynamicPrice(price.id, arithmetic, DynamicModel.of(price).multiplier, amount_of)
    if not isinstance(model, PerUnitModel):
        return PeriodPrice(price.id, price.model, arithmetic, None)
    if not summed or _bounds_a_period(around):
        return PeriodPrice(price.id, price.model, arithmetic, exact_text(model.rate))
    return PerEventPrice(price.id, price.model, model.rate * around.kept, arithmetic, exact_text(model.rate))


def _bounds_a_period(around: Around) -> bool:
    """Whether a straight line through zero bends within a period, so that a charge depends on those before it."""
    return bool(around.included) or around.maximum is not None


Summed: TypeAlias = (
    catalog_shapes.Flat
    | catalog_shapes.PerUnit
    | catalog_shapes.Package
    | catalog_shapes.Graduated
    | catalog_shapes.Volume
    | catalog_shapes.Stairstep
    | catalog_shapes.GraduatedPercentage
    | catalog_shapes.Dynamic
)
"""Prices whose total is a function of the period's quantity, or of the sum of its amounts."""


def _model(price: Summed) -> PriceModel:
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
        case catalog_shapes.Dynamic():
            return DynamicModel.of(price)
        case _:
            assert_never(price)


def _alone_below_zero(quantity: int) -> InvalidInput:
    return InvalidInput("out_of_range", f"the quantity {format_nanos(quantity)} is below zero")
