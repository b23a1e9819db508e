"""A customer's own prices and quotas: checked when they are given, compiled once, and kept by their bytes."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any, Final

from rating.match import FOREVER_AGO, Offer, Offers
from rating.rate import Price, compile_price
from schemas.catalog import Catalog
from schemas.catalog_document import CatalogRefused
from schemas.errors import InvalidInput
from schemas.own_terms import OwnTerms, decode_own, read_own

MAX_KEPT: Final = 4_096
"""Sets of own terms kept compiled."""


class CompiledOwn:
    """A customer's own prices, ready to be offered, and its quotas."""

    __slots__ = ("offers", "prices", "terms")

    def __init__(self, terms: OwnTerms, unsummed: frozenset[str]) -> None:
        self.terms = terms
        self.prices: dict[str, Price] = {}
        """By id."""
        offers: dict[str, list[Offer]] = defaultdict(list)
        for price in terms.prices:
            compiled = self.prices[price.id] = compile_price(price, summed=price.meter not in unsummed)
            start = FOREVER_AGO if price.effective_from is None else price.effective_from
            offers[price.meter].append(Offer(price.match, start, compiled))
        self.offers = {meter: Offers(listed) for meter, listed in offers.items()}
        """By meter."""


@lru_cache(MAX_KEPT)
def compile_own(own: bytes, unsummed: frozenset[str] = frozenset()) -> CompiledOwn:
    """The own terms that an account carries (`terms.own`); `unsummed`: the meters of which no event has a part of its
    own in the period's quantity.

    Errors: InvalidInput `internal_error` for bytes that `check_own` did not make: no event of the customer can be
    rated, and each waits among the dead letters until they are mended.
    """
    try:
        return CompiledOwn(decode_own(own), unsummed)
    except CatalogRefused as refused:
        raise InvalidInput("internal_error", f"the customer's own terms cannot be read: {refused.detail}") from None


def check_own(catalog: Catalog | None, price_overrides: Any, quota_overrides: Any) -> bytes:
    """What an account is to carry (`terms.own`) of a customer object's `price_overrides` and `quota_overrides`, which
    are lists as in the catalogue, or None; empty for nothing. They are judged beside the catalogue of its tenant.

    Errors: CatalogRefused with every fault by its path: `price_overrides[0].unit_amount`.
    """
    return read_own(price_overrides, quota_overrides, catalog or _WITHOUT).encode()


_WITHOUT: Final = Catalog("USD", ())
