"""What a customer has of its own: prices that go before its plan's, and quotas that replace its plan's.

Written as in the catalogue: `price_overrides` are prices, `quota_overrides` quotas. A price that has the id of one of
the catalogue's may leave out `meter`, `match` and `model`, which are then that price's; one without an id is named
after its meter and match. A quota replaces those of the plan with its id, or of the same meter (or `spend`), window and
per; with `limit: null` (or `spend: null`) it takes them away.

They are stored as one canonical text, whose bytes are their name in caches; none is the empty text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import orjson
from pydantic import TypeAdapter

from schemas.catalog import PRICE, Catalog, well_formed
from schemas.catalog_document import MAX_FAULTS, CatalogRefused, Fault
from schemas.catalog_faults import own_faults
from schemas.catalog_shapes import Price, Quota
from schemas.limits import ID_MAX_CHARACTERS

OWN_MAX_BYTES: Final = 32_000
"""They travel in every ledger record that changes the account."""

PRICES: Final = "price_overrides"
QUOTAS: Final = "quota_overrides"

_QUOTA: Final[TypeAdapter[Quota]] = TypeAdapter(Quota)
_OF_BASE: Final = ("meter", "match", "model")


@dataclass(frozen=True, slots=True)
class OwnTerms:
    """A customer's own prices and quotas."""

    prices: tuple[Price, ...] = ()
    quotas: tuple[Quota, ...] = ()

    def encode(self) -> bytes:
        """Canonical JSON; empty where there is nothing."""
        if not self.prices and not self.quotas:
            return b""
        document = {
            "prices": [price.model_dump(mode="json", exclude_defaults=True) for price in self.prices],
            "quotas": [quota.model_dump(mode="json", exclude_defaults=True) for quota in self.quotas],
        }
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def read_own(prices: Any, quotas: Any, catalog: Catalog) -> OwnTerms:
    """Own prices and quotas as they were given, beside the catalogue that they are for; None is none.

    Errors: CatalogRefused with every fault, by its path (`price_overrides[0].unit_amount`).
    """
    faults: list[Fault] = []
    named = {price.id: price for price in catalog.prices} if prices else {}
    completed = [_completed(price, named) for price in prices] if isinstance(prices, list) else prices
    own_prices = well_formed(PRICE, PRICES, completed, faults)
    own_quotas = well_formed(_QUOTA, QUOTAS, quotas, faults)
    meters = {meter.id: meter for meter in catalog.meters}
    unlimited = frozenset(index for index in own_quotas if _says_unlimited(quotas[index]))
    between = own_faults(own_prices, own_quotas, meters, unlimited, (PRICES, QUOTAS))
    faults += islice(between, max(0, MAX_FAULTS + 1 - len(faults)))
    if faults:
        raise CatalogRefused(faults)
    own = OwnTerms(tuple(own_prices.values()), tuple(own_quotas.values()))
    if len(own.encode()) > OWN_MAX_BYTES:
        raise CatalogRefused((Fault(PRICES, f"own prices and quotas have more than {OWN_MAX_BYTES} bytes"),))
    return own


def decode_own(raw: bytes) -> OwnTerms:
    """What `encode` wrote; not judged again by what a catalogue has now. Errors: CatalogRefused."""
    if not raw:
        return OwnTerms()
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise CatalogRefused((Fault(PRICES, f"own prices and quotas are not JSON: {error}"),)) from None
    if not isinstance(document, dict):
        raise CatalogRefused((Fault(PRICES, "own prices and quotas are no mapping"),))
    faults: list[Fault] = []
    prices = well_formed(PRICE, PRICES, document.get("prices"), faults)
    quotas = well_formed(_QUOTA, QUOTAS, document.get("quotas"), faults)
    if faults:
        raise CatalogRefused(faults)
    return OwnTerms(tuple(prices.values()), tuple(quotas.values()))


def _completed(given: Any, named: Mapping[str, Price]) -> Any:
    """A price with what it may leave out."""
    if not isinstance(given, dict):
        return given
    if "id" not in given:
        return {"id": _named_after(given), **given}
    base = named.get(given["id"]) if isinstance(given["id"], str) else None
    if base is None:
        return given
    taken = base.model_dump(mode="json", include=set(_OF_BASE))
    # A match belongs to a meter, and fields to a model: who gives another meter has another match.
    return {**({} if "meter" in given else taken), "model": base.model, **given}


def _named_after(given: Mapping[str, Any]) -> str:
    match = given.get("match")
    pairs = [f"{name}={value}" for name, value in sorted(match.items())] if isinstance(match, dict) else []
    start = given.get("effective_from")
    return ":".join(("own", str(given.get("meter")), *pairs, *([str(start)] if start else [])))[:ID_MAX_CHARACTERS]


def _says_unlimited(given: Mapping[str, Any]) -> bool:
    """Whether a quota that has no bound says so."""
    bound = "spend" if given.get("meter") is None else "limit"
    return bound in given and given[bound] is None
