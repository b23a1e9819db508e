"""What usage that is yet to come may cost at most, and how much of it an amount of money buys. Pure, in nanos.

What comes is known in part: how much of a meter at most, and some of its dimensions. So every price that can apply is
tried (of dimensions that are not known, and of bounds that the usage may or may not cross), and of a price with tiers
every place in the period where the usage may lie: from where the period stands to where all that is held now
(`reach`) would take it. The dearest is what a hold holds. It is sized once; what the usage then costs is the ledger's
word.

A total over tiers is made of straight lines, so the dearest place is found where one of them begins or ends.

Errors: InvalidInput `no_price` where the meter has prices and none can apply, `unsized` for a price whose amount only
the event itself brings, `amount_overflow`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from rating.book import CompiledCatalogue
from rating.match import FOREVER_AGO
from rating.measure import Dimensions
from rating.model import nano_units
from rating.own import compile_own
from rating.percentage import PercentagePrice
from rating.quotas import billing_of
from rating.rate import DynamicPrice, PerEventPrice, PeriodPrice, Price
from schemas import catalog_shapes
from schemas.account import Account, counter_key
from schemas.errors import InvalidInput
from schemas.limits import QUANTITY_MAX_UNITS
from schemas.money import NANOS
from schemas.period import period_of

REACH: Final = "reach:"
"""Begins the name under which open holds count what they hold of a price that depends on its period."""


class Shape(NamedTuple):
    """An event that is yet to come, as meters look at it."""

    data: dict[str, Any]
    attributes: dict[str, Any]


class Kinks(NamedTuple):
    """Where a price's total bends, in nano-units: at bounds, and at every multiple of a step beyond the first."""

    bounds: tuple[int, ...]
    first: int
    step: int
    """0: none."""


class Priced(NamedTuple):
    """A price that can apply, and where its total bends."""

    price: Price
    kinks: Kinks


class Sized(msgspec.Struct, frozen=True):
    """What a meter will measure at most, and what that costs at the dearest."""

    meter: str
    quantity: int
    """Nano-units."""
    amount: int
    """Nanos."""
    priced: tuple[Priced, ...]
    """All prices that can apply; empty: it only counts."""
    dearest: Price | None


class Buyer(NamedTuple):
    """Whose usage it is, and when."""

    catalogue: CompiledCatalogue
    account: Account | None
    plan: str
    own: bytes
    now: int

    @classmethod
    def of(cls, catalogue: CompiledCatalogue, account: Account | None, now: int) -> Buyer:
        """A customer as its account has it; without one it has no plan and no terms."""
        if account is None:
            return cls(catalogue, None, "", b"", now)
        return cls(catalogue, account, account.plan_at(now), account.terms.own, now)

    def counted(self, price: Price) -> tuple[int, ...] | None:
        """What the period has counted of a price; None before its first event."""
        if self.account is None or not price.counters:
            return None
        anchor, months = billing_of(self.account, self.now)
        key = counter_key(price.id, period_of(anchor, months, self.now).start)
        found = [self.account.counted(name + key) for name in price.counters]
        return None if found[0] is None else tuple(value or 0 for value in found)


def size_event(buyer: Buyer, shape: Shape, event_type: str, reach: Mapping[str, int]) -> list[Sized]:
    """What each meter of an event's shape comes to; counts are the largest that may come."""
    sized = []
    for meter in buyer.catalogue.meters_of(event_type, shape.data):
        quantity, dimensions = max(meter.measure(shape), 0), meter.dimensions(shape)
        priced = _priced(buyer, meter.id, _crossings(meter.bounds, dimensions) if meter.bounds else (dimensions,))
        if quantity or any(price.counters or isinstance(price, DynamicPrice) for price, _ in priced):
            sized.append(_size(buyer, meter.id, quantity, priced, meter.priced, reach, shape))
    return sized


def size_meter(
    buyer: Buyer, meter_id: str, quantity: int, dimensions: Mapping[str, str], reach: Mapping[str, int]
) -> Sized:
    """What a quantity of a meter comes to, where only some of its dimensions may be known."""
    meter = buyer.catalogue.meter(meter_id)
    assert meter is not None
    known = tuple((name, dimensions[name]) for name in (*meter.dimensions, *meter.bounds) if name in dimensions)
    unknown = {name for name in (*meter.dimensions, *meter.bounds) if name not in dimensions}
    priced = _priced(buyer, meter_id, [known])
    if unknown:
        priced = tuple({id(one.price): one for one in (*priced, *_possible(buyer, meter_id, dict(known)))}.values())
    has_prices = any(price.meter == meter_id for price in buyer.catalogue.catalog.prices)
    return _size(buyer, meter_id, quantity, priced, has_prices, reach, None)


def affordable(buyer: Buyer, sized: Sized, available: int, reach: Mapping[str, int]) -> int | None:
    """How many whole units of the meter an amount of money buys on, as nano-units; None where they cost nothing."""
    if available <= 0:
        free = all(_cost(buyer, one, NANOS, reach, None) == 0 for one in sized.priced)
        return None if free else 0
    least: int | None = None
    for one in sized.priced:
        bought = _bought(buyer, one, available, reach)
        if bought is not None and (least is None or bought < least):
            least = bought
    return least


def reach_name(price_id: str) -> str:
    """Under which open holds count what they hold of a price."""
    return REACH + price_id


def _size(
    buyer: Buyer,
    meter_id: str,
    quantity: int,
    priced: tuple[Priced, ...],
    has_prices: bool,
    reach: Mapping[str, int],
    shape: Shape | None,
) -> Sized:
    if has_prices and not priced and quantity:
        raise InvalidInput("no_price", f"no price of meter {meter_id!r} can apply")
    amount, dearest = 0, None
    for one in priced:
        cost = _cost(buyer, one, quantity, reach, shape)
        if dearest is None or cost > amount:
            amount, dearest = cost, one.price
    return Sized(meter_id, quantity, amount, priced, dearest)


def _priced(buyer: Buyer, meter_id: str, known: Iterable[Dimensions]) -> tuple[Priced, ...]:
    catalogue, plan, own, now = buyer.catalogue, buyer.plan or None, buyer.own, buyer.now
    found: tuple[Priced, ...] = ()
    for dimensions in known:
        price = catalogue.timeline(meter_id, dimensions, plan, own).at(now)
        if price is not None and not (found and any(price is one.price for one in found)):
            kinks = _STRAIGHT if price.__class__ is PerEventPrice else _kinks_of(buyer, price)
            found += (Priced(price, kinks),)
    return found


def _crossings(bounds: Collection[str], dimensions: Dimensions) -> Sequence[Dimensions]:
    """The dimensions of the largest usage, and those of smaller usage that crosses fewer of the meter's bounds."""
    crossed = [pair for pair in dimensions if pair[0] in bounds]
    if not crossed:
        return (dimensions,)
    fields = tuple(pair for pair in dimensions if pair not in crossed)
    return [dimensions, fields, *((*fields, pair) for pair in crossed)]


def _possible(buyer: Buyer, meter_id: str, known: Mapping[str, str]) -> Iterator[Priced]:
    """Prices that dimensions which are not known may lead to."""
    plan = buyer.catalogue.plan(buyer.plan)
    of_plan = set(plan.prices) if plan is not None else set()
    of_others = {price_id for other in buyer.catalogue.catalog.plans for price_id in other.prices} - of_plan
    newest: dict[tuple[bool, frozenset[tuple[str, str]]], tuple[int, catalog_shapes.Priced]] = {}
    own = compile_own(buyer.own).terms.prices if buyer.own else ()
    for owned, prices in ((False, buyer.catalogue.catalog.prices), (True, own)):
        for price in prices:
            start = FOREVER_AGO if price.effective_from is None else price.effective_from
            if price.meter != meter_id or start > buyer.now or (not owned and price.id in of_others):
                continue
            if all(known.get(name, value) == value for name, value in price.match.items()):
                if all(name in known for name in price.match):
                    continue  # it is known whether this one applies
                key = owned, frozenset(price.match.items())
                if key not in newest or newest[key][0] < start:
                    newest[key] = start, price
    for (owned, _), (_, found) in newest.items():
        compiled = buyer.catalogue.price_by_id(found.id, buyer.own if owned else b"")
        if compiled is not None:
            yield Priced(compiled, kinks(found))


def _cost(buyer: Buyer, one: Priced, quantity: int, reach: Mapping[str, int], shape: Shape | None) -> int:
    price = one.price
    if isinstance(price, PerEventPrice):
        return price.charge(quantity)
    before = buyer.counted(price)
    if isinstance(price, PeriodPrice):
        return _dearest(price, one.kinks, before[0] if before is not None else None, quantity, reach)
    if isinstance(price, PercentagePrice):
        return price.advance(before, quantity)[0]
    if shape is None:
        raise InvalidInput("unsized", f"the price {price.id} takes its amount from the event: name an amount", "/event")
    return price.advance(before, price.amount_of(shape))[0]


def _dearest(price: PeriodPrice, bends: Kinks, before: int | None, quantity: int, reach: Mapping[str, int]) -> int:
    """The most that up to a quantity may cost, wherever between `before` and all that is held it lies."""
    lowest = before or 0
    highest = lowest + reach.get(reach_name(price.id), 0)
    starts = {lowest, highest}
    for bend in _bends(bends, lowest, highest + quantity):
        starts |= {at for at in (bend, bend + 1, bend - quantity, bend + 1 - quantity) if lowest <= at <= highest}
    return max(
        price.charge_after(None if before is None and start == 0 else start, end)  # None: the period's first event
        for start in starts
        for end in _ends(bends, start, start + quantity)
    )


def _ends(bends: Kinks, start: int, most: int) -> set[int]:
    return {most} | {end for bend in _bends(bends, start, most) for end in (bend, bend + 1) if end <= most}


def _bends(bends: Kinks, lowest: int, highest: int) -> Iterator[int]:
    for bound in bends.bounds:
        if lowest <= bound <= highest:
            yield bound
    if bends.step:
        # Two whole steps tell all that a regular staircase has to tell.
        steps = max(-(-(lowest - bends.first) // bends.step), 0)
        for number in (steps, steps + 1):
            if (at := bends.first + number * bends.step) <= highest:
                yield at


def _bought(buyer: Buyer, one: Priced, available: int, reach: Mapping[str, int]) -> int | None:
    price = one.price
    if isinstance(price, PerEventPrice):
        numerator, denominator = price.ratio
        return None if not numerator else available * denominator // numerator // NANOS * NANOS
    if isinstance(price, DynamicPrice):
        return None
    fits, beyond = 0, 1
    while _fits(buyer, one, beyond, available, reach):
        fits, beyond = beyond, beyond * 4
        if beyond > QUANTITY_MAX_UNITS:
            return None
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if _fits(buyer, one, middle, available, reach):
            fits = middle
        else:
            beyond = middle
    return fits * NANOS


def _fits(buyer: Buyer, one: Priced, units: int, available: int, reach: Mapping[str, int]) -> bool:
    try:
        return _cost(buyer, one, units * NANOS, reach, None) <= available
    except InvalidInput:  # beyond what a charge may be
        return False


def _kinks_of(buyer: Buyer, price: Price) -> Kinks:
    if isinstance(price, PerEventPrice):
        return _STRAIGHT
    if buyer.own:
        own = compile_own(buyer.own)
        if own.prices.get(price.id) is price:
            return kinks(next(shape for shape in own.terms.prices if shape.id == price.id))
    return _kinks_of_catalogue(buyer.catalogue).get(price.id, _STRAIGHT)


@lru_cache(256)
def _kinks_of_catalogue(catalogue: CompiledCatalogue) -> dict[str, Kinks]:
    return {price.id: kinks(price) for price in catalogue.catalog.prices}


def kinks(price: catalog_shapes.Priced) -> Kinks:
    """Where the total of a price bends."""
    included = int(nano_units(price.included_quantity)) if price.included_quantity is not None else 0
    bounds = [included] if included else []
    step = 0
    if isinstance(price, catalog_shapes.Package):
        step = max(int(nano_units(price.package_size)), 1)
    tiers = getattr(price, "tiers", ())
    bounds += [included + int(nano_units(tier.up_to)) for tier in tiers if tier.up_to is not None]
    return Kinks(tuple(bounds), included, step)


_STRAIGHT: Final = Kinks((), 0, 0)
