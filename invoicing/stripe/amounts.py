"""Amounts as Stripe's API writes them: whole numbers of a currency's smallest unit.

Source: https://docs.stripe.com/currencies. Of currencies without decimals ISK and UGX are written with two, which must
be 00; of those with three decimals the last must be 0. Errors: InvalidInput `out_of_range` for an amount that cannot be
written.
"""

from __future__ import annotations

from typing import Final

from schemas.currencies import minor_places
from schemas.errors import InvalidInput
from schemas.money import PLACES, format_nanos, parse_nanos

_WRITTEN_WITH_TWO: Final = frozenset({"ISK", "UGX"})
_THREE_PLACES: Final = 3


def to_stripe(amount: str, currency: str) -> int:
    """Plain decimal text of the major unit to Stripe's number."""
    unit: int = 10 ** (PLACES - places(currency))
    whole, rest = divmod(parse_nanos(amount), unit)
    if rest or (minor_places(currency) == _THREE_PLACES and whole % 10):
        raise InvalidInput("out_of_range", f"Stripe cannot write {amount} {currency}: it has too many places")
    return whole


def from_stripe(amount: int, currency: str) -> str:
    """Stripe's number to plain decimal text of the major unit."""
    return format_nanos(amount * 10 ** (PLACES - places(currency)))


def places(currency: str) -> int:
    """Decimals that Stripe writes; its currencies are in small letters."""
    currency = currency.upper()
    return 2 if currency in _WRITTEN_WITH_TWO else minor_places(currency)
