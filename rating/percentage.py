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
from schemas.money import round_half_even

_PLACES: Final = 1000
"""A total is packed as digits x 1000 + decimal places: exact, and of any price."""


class Parts(NamedTuple):
    """What one event comes to, amounts in nanos times the model's denominator; they sum to its amount."""

    free: Exact
    """Nano-units."""
    paid: Exact
    share: Exact
    """Of what is paid."""
    fixed: int
    raised: Exact
    """To the minimum of an event."""
    cut: Exact
    """To its maximum; not above zero."""

    @property
    def amount(self) -> Exact:
        """Their sum."""
        return self.share + self.fixed + self.raised + self.cut


_NOTHING: Final = Parts(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class PercentageModel:
    """What each event pays, in whole numbers over one power of ten."""

    places: int
    denominator: int
    rate: int
    """Nanos for one nano-unit, times the denominator, as all that follows."""
    fixed: int
    free_events: Fraction | None
    free_amount: Exact | None
    """Nano-units."""
    least: int | None
    most: int | None

    @classmethod
    def of(cls, price: Percentage) -> PercentageModel:
        """From the catalogue."""
        rate, fixed = Fraction(price.rate_percent) / 100, nanos(price.fixed_per_event)
        least = nanos(price.min_per_event) if price.min_per_event is not None else None
        most = nanos(price.max_per_event) if price.max_per_event is not None else None
        places = max(_places(amount) for amount in (rate, fixed, least, most) if amount is not None)
        denominator = 10**places
        return cls(
            places=places,
            denominator=denominator,
            rate=int(rate * denominator),
            fixed=int(fixed * denominator),
            free_events=Fraction(price.free_events) if price.free_events is not None else None,
            free_amount=nano_units(price.free_amount) if price.free_amount is not None else None,
            least=int(least * denominator) if least is not None else None,
            most=int(most * denominator) if most is not None else None,
        )

    def event(self, before: Exact, events: int, quantity: Exact) -> Parts:
        """What an event pays that comes after so many events of so much money in all."""
        free = self._free(before, events, quantity)
        if free is not None and free == quantity:
            return Parts(free, 0, 0, 0, 0, 0)
        paid = quantity - (free or 0)
        share = paid * self.rate
        amount = share + self.fixed
        raised = self.least - amount if self.least is not None and amount < self.least else 0
        amount += raised
        cut = self.most - amount if self.most is not None and amount > self.most else 0
        return Parts(free or 0, paid, share, self.fixed, raised, cut)

    def undone(self, before: Exact, events: int, quantity: Exact) -> Parts:
        """What is given back where money is taken out of the period; `quantity` is negative."""
        by_amount = self.free_amount is not None and (self.free_events is None or events < self.free_events)
        beyond = before - self.free_amount if by_amount and self.free_amount is not None else before
        back = -min(-quantity, max(beyond, 0))
        return Parts(0, back, back * self.rate, 0, 0, 0)

    def steps(self, parts: Parts) -> tuple[Step, ...]:
        """The parts, told."""
        steps = [Step("free", parts.free, Fraction(0), Fraction(0))] if parts.free else []
        if parts.paid:
            steps.append(Step("rate", parts.paid, Fraction(self.rate, self.denominator), self._nanos(parts.share)))
        named = (("fixed", parts.fixed), ("minimum per event", parts.raised), ("maximum per event", parts.cut))
        return (*steps, *(Step(name, 0, None, self._nanos(amount)) for name, amount in named if amount))

    def _nanos(self, numerator: Exact) -> Fraction:
        return Fraction(numerator) / self.denominator

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


class SoFar(NamedTuple):
    """A period up to an event."""

    quantity: Exact
    """Nano-units of money, included ones among them."""
    events: int
    """Those that reached the model."""
    total: Exact
    """Nanos times the price's denominator, after the discount, before any maximum."""


class PercentagePrice:
    """A percentage with what stands around it. Its counters: quantity, events, and the exact total, packed."""

    __slots__ = (
        "_denominator",
        "_kept",
        "_maximum",
        "_places",
        "around",
        "id",
        "model",
        "percentage",
        "unit_amount_text",
    )

    cumulative: Final[Literal[False]] = False
    counters: Final = ("", "events:", "total:")

    def __init__(self, price_id: str, percentage: PercentageModel, around: Around) -> None:
        self.id = price_id
        self.model = "percentage"
        self.percentage = percentage
        self.around = around
        self.unit_amount_text: str | None = exact_text(Fraction(percentage.rate, percentage.denominator))
        kept = _places(around.kept)
        maximum = _places(around.maximum) if around.maximum is not None else 0
        self._places = max(percentage.places + kept, maximum)
        self._denominator = 10**self._places
        self._kept = int(around.kept * 10 ** (self._places - percentage.places))
        """What a numerator of the model is multiplied by."""
        self._maximum = int(around.maximum * self._denominator) if around.maximum is not None else None

    def charge(self, quantity: int) -> int:
        """Never: what an event costs depends on those before it."""
        raise InvariantBroken(f"the price {self.id} was asked for a charge without the period so far")

    def advance(self, before: tuple[int, ...] | None, quantity: int) -> tuple[int, tuple[int, ...]]:
        """Nanos for an event of that much money (nano-units), and the counters after it."""
        so_far = self._unpacked(before)
        not_below_zero(int(so_far.quantity) + quantity)
        after = self._next(so_far, quantity)[0]
        amount = self._rounded(after.total) - (self._rounded(so_far.total) if so_far.total else 0)
        return within_bounds(amount), self._packed(after)

    def walk(self, before: tuple[int, ...] | None, quantity: int) -> tuple[Step, ...]:
        """The arithmetic of `advance`, before its two roundings."""
        so_far = self._unpacked(before)
        after, included, parts = self._next(so_far, quantity)
        steps = self._steps(so_far, after, included, parts)
        grown = Fraction(self._capped(after.total) - self._capped(so_far.total)) / self._denominator
        return merged((*steps, Step("maximum", 0, None, grown - sum_of(steps))))

    def closed(self, quantities: Iterable[Exact]) -> Closing:
        """The closing total of a period with these events, in this order."""
        so_far, steps = SoFar(0, 0, 0), list[Step]()
        for quantity in quantities:
            before = so_far
            so_far, included, parts = self._next(before, quantity)
            steps += self._steps(before, so_far, included, parts)
        bounds = Around(0, Fraction(1), self.around.minimum, self.around.maximum)
        steps += bounds.after_model(Fraction(so_far.total) / self._denominator, closing=True)
        return Closing(sum_of(steps), merged(steps))

    def due_at_close(self, booked: int | None) -> int:
        """Nanos that the close of a period adds to what its events were charged (None: it had no event)."""
        return self.around.missing(booked or 0)

    def _next(self, so_far: SoFar, quantity: Exact) -> tuple[SoFar, Exact, Parts]:
        """The period after an event, what of the event is included, and what the rest comes to."""
        free_of_price, events = self.around.included, so_far.events
        end = so_far.quantity + quantity
        paid_before, paid = so_far.quantity, quantity
        if free_of_price:
            paid_before = max(so_far.quantity - free_of_price, 0)
            paid = max(end - free_of_price, 0) - paid_before
        if quantity < 0:
            parts = self.percentage.undone(paid_before, events, paid)
        elif end > free_of_price or so_far.quantity >= free_of_price:
            parts = self.percentage.event(paid_before, events, paid)
            events += 1
        else:
            parts = _NOTHING
        total = so_far.total + parts.amount * self._kept
        return SoFar(end, events, max(total, 0)), quantity - paid, parts

    def _steps(self, before: SoFar, after: SoFar, included: Exact, parts: Parts) -> tuple[Step, ...]:
        """An event's steps, before any bound of the period."""
        told = [Step("included", included, Fraction(0), Fraction(0))] if included else []
        told += self.percentage.steps(parts)
        told += Around(0, self.around.kept, None, None).after_model(sum_of(told), closing=False)
        grown = Fraction(after.total - before.total) / self._denominator
        beyond = grown - sum_of(told)  # what a correction does not give back, since it was never charged
        return (*told, Step("charged before", 0, None, beyond)) if beyond else tuple(told)

    def _capped(self, total: Exact) -> Exact:
        return total if self._maximum is None else min(total, self._maximum)

    def _rounded(self, total: Exact) -> int:
        capped = self._capped(total)
        if type(capped) is int:
            return round_half_even(capped, self._denominator)
        return rounded(Fraction(capped) / self._denominator)

    def _unpacked(self, counters: tuple[int, ...] | None) -> SoFar:
        if counters is None:
            return SoFar(0, 0, 0)
        quantity, events, packed = counters
        digits, places = divmod(packed, _PLACES)
        if places <= self._places:
            return SoFar(quantity, events, digits * 10 ** (self._places - places))
        return SoFar(quantity, events, Fraction(digits, 10 ** (places - self._places)))  # the price had more of them

    def _packed(self, so_far: SoFar) -> tuple[int, ...]:
        total, places = so_far.total, self._places
        if type(total) is not int:
            parts = decimal_parts(Fraction(total) / self._denominator)
            assert parts is not None, "rates, shares and quantities are decimals, and so are their products"
            total, places = parts
        return int(so_far.quantity), so_far.events, int(total) * _PLACES + places


def _places(amount: Fraction) -> int:
    """Decimal places of an amount of the catalogue."""
    parts = decimal_parts(amount)
    assert parts is not None, "a catalogue's numbers are decimals, and a hundred divides into decimals"
    return parts[1]
