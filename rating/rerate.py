"""History rated again: what a customer's charges would be under another catalogue, line by line. Pure.

It goes by the quantities that the ledger has, in the ledger's order, so that meters measure as they did and prices that
depend on their period build up as they did: charges of a period before the span are rated too, and not told. What no
catalogue prices (an amount that was booked as such, a price whose amount comes with the event) stays as it is, and so
does device time that was split between two prices or periods.

Errors: InvalidInput `no_price` and `no_meter` for charges that the other catalogue could not have made, and those of
`rating.rate`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from rating.book import CompiledCatalogue
from rating.counting import period_start
from rating.rate import DynamicPrice, PerEventPrice, Price
from schemas.account import Account
from schemas.errors import InvalidInput
from schemas.period import Period


class Charge(NamedTuple):
    """A charge of the ledger, in its order."""

    occurred_at: int
    meter: str
    price_id: str
    dimensions: tuple[tuple[str, str], ...]
    currency: str
    quantity: int
    """Nano-units."""
    amount: int
    """Nanos."""
    split: bool = False
    """One of several that its event had of the meter: at which time's price is not in the ledger, so it stays."""


class Name(NamedTuple):
    """What makes charges one line."""

    period_start: int
    meter: str
    price_before: str
    price_after: str
    currency: str


@dataclass(slots=True)
class Line:
    """The charges of one line: as they are, and as they would be."""

    name: Name
    charges: int = 0
    quantity: int = 0
    before: int = 0
    after: int = 0

    @property
    def difference(self) -> int:
        """Nanos that the customer would owe more."""
        return self.after - self.before


def rerate(charges: Iterable[Charge], catalogue: CompiledCatalogue, account: Account, span: Period) -> list[Line]:
    """The lines of one customer's charges within `span`; `charges` begin with the period that `span` begins in."""
    lines: dict[Name, Line] = {}
    counters: dict[tuple[str, int], tuple[int, ...]] = {}
    for charge in charges:
        period = period_start(account, charge.occurred_at)
        price = _price(catalogue, account, charge)
        amount = charge.amount if isinstance(price, _Kept) else _amount(price, charge.quantity, period, counters)
        if charge.occurred_at not in span:
            continue
        after = charge.price_id if isinstance(price, _Kept) else price.id if price is not None else ""
        name = Name(period, charge.meter, charge.price_id, after, charge.currency)
        line = lines.get(name)
        if line is None:
            line = lines[name] = Line(name)
        line.charges += 1
        line.quantity += charge.quantity
        line.before += charge.amount
        line.after += amount
    return [lines[name] for name in sorted(lines)]


class _Kept:
    """Of a charge that no catalogue prices anew."""


_KEPT = _Kept()


def _price(catalogue: CompiledCatalogue, account: Account, charge: Charge) -> Price | _Kept | None:
    if charge.split or (not charge.price_id and charge.amount):
        return _KEPT
    if catalogue.meter(charge.meter) is None:
        raise InvalidInput("no_meter", f"the other catalogue has no meter {charge.meter!r}")
    plan = account.plan_at(charge.occurred_at) or None
    price = catalogue.price(charge.meter, charge.dimensions, charge.occurred_at, plan, account.terms.own)
    if isinstance(price, DynamicPrice):
        return _KEPT
    if price is None and charge.quantity and any(one.meter == charge.meter for one in catalogue.catalog.prices):
        named = ", ".join(f"{name}={value!r}" for name, value in charge.dimensions) or "an event without dimensions"
        raise InvalidInput("no_price", f"no price of meter {charge.meter!r} in the other catalogue matches {named}")
    return price


def _amount(price: Price | None, quantity: int, period: int, counters: dict[tuple[str, int], tuple[int, ...]]) -> int:
    if price is None:
        return 0
    if isinstance(price, PerEventPrice):
        return price.charge(quantity) if quantity >= 0 else -price.charge(-quantity)
    key = (price.id, period)
    amount, after = price.advance(counters.get(key), quantity)
    counters[key] = after
    return amount
