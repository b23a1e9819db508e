"""The versions of all catalogues, and one of them compiled: the only thing that rating asks about meters and prices.

A position is a version number: the highest seen when a batch began. At a position a tenant's catalogue is its newest
own version up to there, or else the newest common one. A batch is decided wholly at one position, so that it can be
named in the ledger.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rating.match import FOREVER_AGO, Offer, Offers, Timeline, timeline
from rating.measure import Dimensions, Measurable, Measure, compile_dimensions, compile_measure, count
from rating.rate import Price, compile_price
from schemas import catalog_shapes, expression
from schemas.catalog import Catalog, CatalogVersion
from schemas.errors import InvariantBroken
from schemas.usage_types import PRODUCT_USAGE_RECORDED, USAGE_REPORTED

MAX_TIMELINES: Final = 16_384
"""Sets of dimensions whose prices are kept at hand (some 10 MB); a sender of ever new ones only costs look-ups."""

MAX_TENANTS_AT_HAND: Final = 65_536
"""Tenants whose catalogue at a position is kept at hand."""


@dataclass(frozen=True, slots=True)
class CompiledMeter:
    """A meter, ready to measure."""

    id: str
    measure: Measure
    """The quantity of an event in nano-units."""
    dimensions: Callable[[Measurable], Dimensions]
    """The dimensions of an event, pairs (name, text)."""
    priced: bool
    """Whether any price is for it; one without only counts."""


class CompiledCatalogue:
    """One version of a catalogue, ready to rate. Holds a bounded memory of what it looked up, and no other state."""

    def __init__(self, version: int, catalog: Catalog) -> None:
        self.version = version
        self.catalog = catalog
        self.currency = catalog.currency
        self._prices = {price.id: compile_price(price) for price in catalog.prices}
        priced = {price.meter for price in catalog.prices}
        self._by_type: dict[str, tuple[CompiledMeter, ...]] = {}
        self._reported: dict[str, tuple[CompiledMeter, ...]] = {}
        for meter in catalog.meters:
            compiled = _compile_meter(meter, meter.id in priced)
            if meter.event_type in (USAGE_REPORTED, PRODUCT_USAGE_RECORDED):
                self._reported[meter.id] = (compiled,)
            else:
                self._by_type[meter.event_type] = (*self._by_type.get(meter.event_type, ()), compiled)
        self._common, self._of_plans = self._grouped()
        self._timelines: dict[tuple[str, Dimensions, str | None], Timeline] = {}

    def meters_of(self, event_type: str, data: Mapping[str, Any]) -> tuple[CompiledMeter, ...]:
        """The meters that measure an event; of a reported one, the meter that it names."""
        if event_type == USAGE_REPORTED:
            return self._reported.get(data["meter"], ())
        return self._by_type.get(event_type, ())

    def knows_type(self, event_type: str) -> bool:
        """Whether any meter names this type of event."""
        return event_type in self._by_type or (event_type == USAGE_REPORTED and bool(self._reported))

    def price(self, meter_id: str, dimensions: Dimensions, occurred_at: int, plan: str | None = None) -> Price | None:
        """The price of a meter for these dimensions at that time, for subscribers of a plan if one is given."""
        return self.timeline(meter_id, dimensions, plan).at(occurred_at)

    def timeline(self, meter_id: str, dimensions: Dimensions, plan: str | None = None) -> Timeline:
        """The prices of a meter for these dimensions over time."""
        found = self._timelines.get((meter_id, dimensions, plan))
        return found if found is not None else self._look_up(meter_id, dimensions, plan)

    def price_by_id(self, price_id: str) -> Price | None:
        """The price with this id."""
        return self._prices.get(price_id)

    def _look_up(self, meter_id: str, dimensions: Dimensions, plan: str | None) -> Timeline:
        groups = []
        if plan is not None and (of_plan := self._of_plans.get((plan, meter_id))) is not None:
            groups.append(of_plan)
        if (common := self._common.get(meter_id)) is not None:
            groups.append(common)
        if len(self._timelines) >= MAX_TIMELINES:
            self._timelines.clear()
        found = self._timelines[meter_id, dimensions, plan] = timeline(groups, dict(dimensions))
        return found

    def _grouped(self) -> tuple[dict[str, Offers], dict[tuple[str, str], Offers]]:
        """Prices that no plan names, by meter; prices that a plan names, by plan and meter."""
        offers = {
            price.id: Offer(
                price.match,
                FOREVER_AGO if price.effective_from is None else price.effective_from,
                self._prices[price.id],
            )
            for price in self.catalog.prices
        }
        meters = {price.id: price.meter for price in self.catalog.prices}
        named = {price_id for plan in self.catalog.plans for price_id in plan.prices}
        common: dict[str, list[Offer]] = defaultdict(list)
        of_plans: dict[tuple[str, str], list[Offer]] = defaultdict(list)
        for price_id, offer in offers.items():
            if price_id not in named:
                common[meters[price_id]].append(offer)
        for plan in self.catalog.plans:
            for price_id in plan.prices:
                of_plans[plan.id, meters[price_id]].append(offers[price_id])
        return (
            {meter: Offers(listed) for meter, listed in common.items()},
            {key: Offers(listed) for key, listed in of_plans.items()},
        )


def _compile_meter(meter: catalog_shapes.Meter, priced: bool) -> CompiledMeter:
    if meter.aggregation == "count":
        measure: Measure = count
    else:
        measure = compile_measure(expression.parse(meter.quantity or "data.quantity"))
    return CompiledMeter(meter.id, measure, compile_dimensions(meter.dimensions), priced)


class PriceBook:
    """All versions seen so far. Compiles a version when it is first asked for."""

    def __init__(self) -> None:
        self._versions: dict[str | None, list[CatalogVersion]] = defaultdict(list)
        self._compiled: dict[int, CompiledCatalogue] = {}
        self._at_hand: dict[tuple[str, int], CompiledCatalogue | None] = {}
        self.position = 0
        """The highest version added; 0 before the first."""

    def add(self, version: CatalogVersion) -> None:
        """Takes a version; they come in ascending order. Errors: InvariantBroken."""
        if version.version <= self.position:
            raise InvariantBroken(f"catalogue version {version.version} came after {self.position}")
        self._versions[version.tenant].append(version)
        self.position = version.version
        self._at_hand.clear()

    def catalogue(self, tenant: str, position: int) -> CompiledCatalogue | None:
        """A tenant's catalogue at a position; None where neither it nor the common one had a version yet."""
        try:
            return self._at_hand[tenant, position]
        except KeyError:
            if len(self._at_hand) >= MAX_TENANTS_AT_HAND:
                self._at_hand.clear()
        found = self._newest(tenant, position) or self._newest(None, position)
        compiled = self._at_hand[tenant, position] = self._compile(found) if found is not None else None
        return compiled

    def version(self, tenant: str | None, position: int) -> CatalogVersion | None:
        """The newest version applied for exactly this tenant (None: for all) up to a position."""
        return self._newest(tenant, position)

    def _newest(self, tenant: str | None, position: int) -> CatalogVersion | None:
        versions = self._versions.get(tenant, [])
        at = bisect_right(versions, position, key=lambda version: version.version)
        return versions[at - 1] if at else None

    def _compile(self, version: CatalogVersion) -> CompiledCatalogue:
        compiled = self._compiled.get(version.version)
        if compiled is None:
            compiled = self._compiled[version.version] = CompiledCatalogue(version.version, version.catalog)
        return compiled


__all__ = ["CompiledCatalogue", "CompiledMeter", "Price", "PriceBook"]
