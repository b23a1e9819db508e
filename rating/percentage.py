"""`percentage`: of the money that each event is about, a share, and a fixed fee; some of it may be free.

An event's quantity is the money it is about. The free allowance ends when `free_events` or `free_amount` is used up,
whichever is first; a bound of 0 is used up from the start, and without either bound nothing is free. The event that
crosses `free_amount` pays the rate on its excess and the whole fixed fee; a wholly free event pays nothing, not even
the minimum. Rate + fixed, then `min_per_event`, then `max_per_event`. What of an event is included in the price never
reaches the model; an event that is wholly included is none for it.

A negative quantity takes back the rate on what it undoes beyond the allowance, and never more than was charged. It is
no event of its own: it pays no fixed fee, and gives none back, since the events that paid it stand.

Because bounds apply to each event, a period's total depends on the order of its events, which is that of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, NamedTuple

from rating.arithmetic import Around, Closing, merged, not_below_zero, rounded, sum_of, within_bounds
from rating.model import Exact, Step, decimal_parts, exact_text, nano_units, nanos
from schemas.catalog_shapes import Percentage
from schemas.errors import InvariantBroken

_PLACES: Final = 1000
"""A total is packed as digits x 1000 + decimal places: exact, and of any price."""


class SoFar(NamedTuple):
    """A period up to an event."""

    quantity: Exact
    """Nano-units of money, included ones among them."""
    events: int
    """Those that reached the model."""
    total: Fraction
    """Nanos after the discount, before any maximum."""


@dataclass(frozen=True, slots=True)
class PercentageModel:
    """What each event pays."""

    rate: Fraction
    """Nanos for one nano-unit."""
    fixed: Fraction
    free_events: Fraction | None
    free_amount: Exact | None
    """Nano-units."""
    least: Fraction | None
    most: Fraction | None

    @classmethod
    def of(cls, price: Percentage) -> PercentageModel:
        """From the catalogue."""
        return cls(
            rate=Fraction(price.rate_percent) / 100,
            fixed=nanos(price.fixed_per_event),
            free_events=Fraction(price.free_events) if price.free_events is not None else None,
            free_amount=nano_units(price.free_amount) if price.free_amount is not None else None,
            least=nanos(price.min_per_event) if price.min_per_event is not None else None,
            most=nanos(price.max_per_event) if price.max_per_event is not None else None,
        )

    def event(self, before: Exact, events: int, quantity: Exact) -> tuple[Step, ...]:
        """What an event pays that comes after so many events of so much money in all."""
        free = self._free(before, events, quantity)
        steps = [Step("free", free, Fraction(0), Fraction(0))] if free is not None else []
        paid = quantity - (free or 0)
        if free is not None and not paid:
            return tuple(steps)
        steps.append(Step("rate", paid, self.rate, paid * self.rate))
        if self.fixed:
            steps.append(Step("fixed", 0, None, self.fixed))
        amount = sum_of(steps)
        if self.least is not None and amount < self.least:
            steps.append(Step("minimum per event", 0, None, self.least - amount))
            amount = self.least
        if self.most is not None and amount > self.most:
            steps.append(Step("maximum per event", 0, None, self.most - amount))
        return tuple(steps)

    def undone(self, before: Exact, events: int, quantity: Exact) -> Step:
        """What is given back where money is taken out of the period; `quantity` is negative."""
        by_amount = self.free_amount is not None and (self.free_events is None or events < self.free_events)
        beyond = before - self.free_amount if by_amount and self.free_amount is not None else before
        back = -min(-quantity, max(beyond, 0))
        return Step("rate", back, self.rate, back * self.rate)

    def _free(self, before: Exact, events: int, quantity: Exact) -> Exact | None:
        """How much of the event is free; None where the allowance is used up, or there is none."""
        if self.free_events is None and self.free_amount is None:
            return None
        if self.free_events is not None and events >= self.free_events:
            return None
        if self.free_amount is None:
            return quantity
        left = self.free_amount - before
        return min(quantity, left) if left > 0 else None


class PercentagePrice:
    """A percentage with what stands around it. Its counters: quantity, events, and the exact total, packed."""

    __slots__ = ("around", "id", "model", "percentage", "unit_amount_text")

    cumulative: Final[Literal[False]] = False
    counters: Final = ("", "events:", "total:")

    def __init__(self, price_id: str, percentage: PercentageModel, around: Around) -> None:
        self.id = price_id
        self.model = "percentage"
        self.percentage = percentage
        self.around = around
        self.unit_amount_text: str | None = exact_text(percentage.rate)

    def charge(self, quantity: int) -> int:
        """Never: what an event costs depends on those before it."""
        raise InvariantBroken(f"the price {self.id} was asked for a charge without the period so far")

    def advance(self, before: tuple[int, ...] | None, quantity: int) -> tuple[int, tuple[int, ...]]:
        """Nanos for an event of that much money (nano-units), and the counters after it."""
        so_far = _unpacked(before)
        not_below_zero(int(so_far.quantity) + quantity)
        after = self._next(so_far, quantity)[0]
        amount = rounded(self.around.capped(after.total)) - rounded(self.around.capped(so_far.total))
        return within_bounds(amount), _packed(after)

    def walk(self, before: tuple[int, ...] | None, quantity: int) -> tuple[Step, ...]:
        """The arithmetic of `advance`, before its two roundings."""
        so_far = _unpacked(before)
        after, steps = self._next(so_far, quantity)
        grown = self.around.capped(after.total) - self.around.capped(so_far.total)
        return merged((*steps, Step("maximum", 0, None, grown - sum_of(steps))))

    def closed(self, quantities: Iterable[Exact]) -> Closing:
        """The closing total of a period with these events, in this order."""
        so_far, steps = SoFar(0, 0, Fraction(0)), list[Step]()
        for quantity in quantities:
            so_far, taken = self._next(so_far, quantity)
            steps += taken
        bounds = Around(0, Fraction(1), self.around.minimum, self.around.maximum)
        steps += bounds.after_model(so_far.total, closing=True)
        return Closing(sum_of(steps), merged(steps))

    def due_at_close(self, booked: int | None) -> int:
        """Nanos that the close of a period adds to what its events were charged (None: it had no event)."""
        return self.around.missing(booked or 0)

    def _next(self, so_far: SoFar, quantity: Exact) -> tuple[SoFar, tuple[Step, ...]]:
        """The period after an event, and what the event adds before any bound of the period."""
        included = self.around.included
        end = so_far.quantity + quantity
        paid_before, paid_after = max(so_far.quantity - included, 0), max(end - included, 0)
        paid = paid_after - paid_before
        steps, events = [], so_far.events
        if paid != quantity:
            steps.append(Step("included", quantity - paid, Fraction(0), Fraction(0)))
        if quantity < 0:
            steps.append(self.percentage.undone(paid_before, events, paid))
        elif end > included or so_far.quantity >= included:
            steps += self.percentage.event(paid_before, events, paid)
            events += 1
        amount = sum_of(steps)
        steps += Around(0, self.around.kept, None, None).after_model(amount, closing=False)
        total = so_far.total + amount * self.around.kept
        if total < 0:
            steps.append(Step("charged before", 0, None, -total))
            total = Fraction(0)
        return SoFar(end, events, total), tuple(steps)


def _unpacked(counters: tuple[int, ...] | None) -> SoFar:
    if counters is None:
        return SoFar(0, 0, Fraction(0))
    quantity, events, packed = counters
    digits, places = divmod(packed, _PLACES)
    return SoFar(quantity, events, Fraction(digits, 10**places))


def _packed(so_far: SoFar) -> tuple[int, ...]:
    parts = decimal_parts(so_far.total)
    assert parts is not None, "rates, shares and quantities are decimals, and so are their products"
    digits, places = parts
    return int(so_far.quantity), so_far.events, digits * _PLACES + places
