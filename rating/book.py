"""The versions of all catalogues, and one of them compiled: the only thing that rating asks about meters and prices.

A position is a version number: the highest seen when a batch began. At a position a tenant's catalogue is its newest
own version up to there, or else the newest common one. A version with an `effective_from` holds for events from then
on; those before it are rated by the newest of the others. A batch is decided wholly at one position, so that it can be
named in the ledger.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, get_args

from rating.match import FOREVER, FOREVER_AGO, Offer, Offers, Timeline, timeline
from rating.measure import (
    Dimensions,
    Measurable,
    Measure,
    ValueOf,
    compile_dimensions,
    compile_measure,
    compile_value,
    count,
    fields_of,
    may_be_negative,
)
from rating.model import Exact, nano_units
from rating.own import compile_own
from rating.quota_rule import QuotaRule, rules_of
from rating.rate import Price, compile_price
from schemas import catalog_shapes, expression
from schemas.catalog import Catalog, CatalogVersion
from schemas.catalog_faults import BUILT_IN_LEVELS, SUMMED
from schemas.errors import InvariantBroken
from schemas.usage_types import PRODUCT_USAGE_RECORDED, TOKENS_USED, USAGE_REPORTED

MAX_TIMELINES: Final = 16_384
"""Sets of dimensions whose prices are kept at hand (some 10 MB); a sender of ever new ones only costs look-ups."""

MAX_TENANTS_AT_HAND: Final = 65_536
"""Tenants whose catalogue at a position is kept at hand."""


How = Literal["min", "max", "avg", "latest", "unique"]
_OF_THE_PERIOD: Final[dict[str, How]] = {how: how for how in get_args(How)}


@dataclass(frozen=True, slots=True)
class CompiledMeter:
    """A meter, ready to measure."""

    id: str
    measure: Measure
    """The quantity of an event in nano-units."""
    dimensions: Callable[[Measurable], Dimensions]
    """The dimensions of an event, pairs (name, text)."""
    bounds: frozenset[str]
    """Those of them that say whether a bound is crossed."""
    priced: bool
    """Whether any price is for it; one without only counts."""
    how: How | None
    """The aggregation, where events have no part of their own in a period's quantity; None: sum and count."""
    signed: bool
    """Whether an event's quantity may be negative."""
    value_of: ValueOf | None
    """What a meter of `unique` tells apart."""
    fields: tuple[str, ...] | None
    """The fields of data whose value, or difference, it measures; None: something else."""


class CompiledCatalogue:
    """One version of a catalogue, ready to rate. Holds a bounded memory of what it looked up, and no other state."""

    def __init__(self, version: int, catalog: Catalog) -> None:
        self.version = version
        self.catalog = catalog
        self.currency = catalog.currency
        self._unsummed = frozenset(meter.id for meter in catalog.meters if meter.aggregation not in SUMMED)
        self._prices = {
            price.id: compile_price(price, summed=price.meter not in self._unsummed) for price in catalog.prices
        }
        priced = {price.meter for price in catalog.prices}
        self._by_type: dict[str, tuple[CompiledMeter, ...]] = {}
        self._reported: dict[str, tuple[CompiledMeter, ...]] = {}
        for meter in catalog.meters:
            compiled = _compile_meter(meter, meter.id in priced)
            if meter.event_type in (USAGE_REPORTED, PRODUCT_USAGE_RECORDED):
                self._reported[meter.id] = (compiled,)
            else:
                self._by_type[meter.event_type] = (*self._by_type.get(meter.event_type, ()), compiled)
        of_tokens = [meter for meter in catalog.meters if meter.event_type == TOKENS_USED]
        self.plain_by_model = all(set(meter.dimensions) <= {"model"} and not meter.bounds for meter in of_tokens)
        """Whether session.tokens_used of one model are priced alike."""
        self._common, self._of_plans = self._grouped()
        self._timelines: dict[tuple[str, Dimensions, str | None, bytes], Timeline] = {}
        self._meters = {meter.id: meter for meter in catalog.meters}
        self._plans = {plan.id: plan for plan in catalog.plans}
        self._price_names = {price.id: price.name for price in catalog.prices if price.name}
        self._quotas: dict[tuple[str, bytes], tuple[QuotaRule, ...]] = {}

    def meters_of(self, event_type: str, data: Mapping[str, Any]) -> tuple[CompiledMeter, ...]:
        """The meters that measure an event; of a reported one, the meter that it names."""
        if event_type == USAGE_REPORTED:
            return self._reported.get(data["meter"], ())
        return self._by_type.get(event_type, ())

    def knows_type(self, event_type: str) -> bool:
        """Whether any meter names this type of event."""
        return event_type in self._by_type or (event_type == USAGE_REPORTED and bool(self._reported))

    def meter(self, meter_id: str) -> catalog_shapes.Meter | None:
        """The meter with this id, as the catalogue writes it."""
        return self._meters.get(meter_id)

    def plan(self, plan_id: str) -> catalog_shapes.Plan | None:
        """The plan with this id, as the catalogue writes it."""
        return self._plans.get(plan_id)

    def features_of(self, plan_id: str) -> Mapping[str, bool | Decimal]:
        """A plan's features; none of a plan that is not known."""
        plan = self._plans.get(plan_id)
        return plan.features if plan is not None else {}

    def quotas_of(self, plan_id: str, own: bytes = b"") -> tuple[QuotaRule, ...]:
        """The quotas of a plan's subscriber (empty: none) whose account carries these own terms.

        Errors: InvalidInput for own terms that were never checked.
        """
        known = self._quotas.get((plan_id, own))
        if known is None:
            if len(self._quotas) >= MAX_TIMELINES:
                self._quotas.clear()
            countable = self._meters.keys() | BUILT_IN_LEVELS
            known = rules_of(self._plans.get(plan_id), compile_own(own, self._unsummed).terms.quotas, countable)
            self._quotas[plan_id, own] = known
        return known

    def price(
        self, meter_id: str, dimensions: Dimensions, occurred_at: int, plan: str | None = None, own: bytes = b""
    ) -> Price | None:
        """The price of a meter for these dimensions at that time, for subscribers of a plan if one is given, and for a
        customer with own prices."""
        return self.timeline(meter_id, dimensions, plan, own).at(occurred_at)

    def timeline(self, meter_id: str, dimensions: Dimensions, plan: str | None = None, own: bytes = b"") -> Timeline:
        """The prices of a meter for these dimensions over time: own ones first, then the plan's, then the common.

        Errors: InvalidInput for own terms that were never checked.
        """
        found = self._timelines.get((meter_id, dimensions, plan, own))
        return found if found is not None else self._look_up(meter_id, dimensions, plan, own)

    def price_by_id(self, price_id: str, own: bytes = b"") -> Price | None:
        """The price with this id; the customer's own where it has one of it."""
        if own and (found := compile_own(own, self._unsummed).prices.get(price_id)) is not None:
            return found
        return self._prices.get(price_id)

    def price_name(self, price_id: str) -> str:
        """What the catalogue calls a price; empty: by its id alone."""
        return self._price_names.get(price_id, "")

    def _look_up(self, meter_id: str, dimensions: Dimensions, plan: str | None, own: bytes) -> Timeline:
        groups = []
        if own and (owned := compile_own(own, self._unsummed).offers.get(meter_id)) is not None:
            groups.append(owned)
        if plan is not None and (of_plan := self._of_plans.get((plan, meter_id))) is not None:
            groups.append(of_plan)
        if (common := self._common.get(meter_id)) is not None:
            groups.append(common)
        if len(self._timelines) >= MAX_TIMELINES:
            self._timelines.clear()
        found = self._timelines[meter_id, dimensions, plan, own] = timeline(groups, dict(dimensions))
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
    how, value_of, signed = meter.aggregation, None, False
    parsed = expression.parse(meter.quantity or "data.quantity")
    if how in ("count", "unique"):
        measure: Measure = count
        value_of = compile_value(parsed) if how == "unique" else None
    else:
        measure, signed = compile_measure(parsed), may_be_negative(parsed, meter.event_type)
    of_period = _OF_THE_PERIOD.get(how)
    fields = fields_of(parsed) if how == "sum" and not signed else None
    return CompiledMeter(
        meter.id, measure, _dimensions(meter), frozenset(meter.bounds), priced, of_period, signed, value_of, fields
    )


def _dimensions(meter: catalog_shapes.Meter) -> Callable[[Measurable], Dimensions]:
    """A meter's dimensions as a function of an event: those of fields in the meter's order, then those of bounds."""
    of_fields = compile_dimensions(meter.dimensions)
    return _with_bounds(of_fields, meter.bounds)


def likeness_of(meters: Iterable[catalog_shapes.Meter]) -> Callable[[Measurable], Dimensions]:
    """What events must have in common to have all dimensions of some meters in common."""
    meters = tuple(meters)
    names = {name for meter in meters for name in meter.dimensions}
    bounds = {f"{bound.quantity} > {bound.above}": bound for meter in meters for bound in meter.bounds.values()}
    return _with_bounds(compile_dimensions(tuple(sorted(names))), bounds)


def _with_bounds(
    of_fields: Callable[[Measurable], Dimensions], named: Mapping[str, catalog_shapes.Bound]
) -> Callable[[Measurable], Dimensions]:
    if not named:
        return of_fields
    ladders = tuple(
        (compile_measure(expression.parse(quantity)), _ladder(named, quantity))
        for quantity in dict.fromkeys(bound.quantity for bound in named.values())
    )

    def dimensions(event: Measurable) -> Dimensions:
        found = of_fields(event)
        for measure, (bounds, beyond) in ladders:
            if reached := bisect_left(bounds, measure(event)):
                found += beyond[reached]
        return found

    return dimensions


def _ladder(
    named: Mapping[str, catalog_shapes.Bound], quantity: str
) -> tuple[tuple[Exact, ...], tuple[Dimensions, ...]]:
    """The bounds of one quantity, ascending, and the dimensions of an event that lies above so many of them."""
    ascending = sorted((nano_units(bound.above), name) for name, bound in named.items() if bound.quantity == quantity)
    names = tuple((name, "true") for _, name in ascending)
    return tuple(bound for bound, _ in ascending), tuple(names[:count] for count in range(len(names) + 1))


class Reigns(NamedTuple):
    """The catalogues of a tenant at a position, by the events' time: catalogues[i] from starts[i - 1] on."""

    starts: tuple[int, ...]
    catalogues: tuple[CompiledCatalogue | None, ...]

    def span(self, instant: int) -> tuple[int, int, CompiledCatalogue | None]:
        """The catalogue of an instant, and from when until when it is that."""
        place = bisect_right(self.starts, instant)
        start = self.starts[place - 1] if place else FOREVER_AGO
        end = self.starts[place] if place < len(self.starts) else FOREVER
        return start, end, self.catalogues[place]


class PriceBook:
    """All versions seen so far, packed but for those in force. Compiles a version when it is first asked for."""

    def __init__(self) -> None:
        self._versions: dict[str | None, list[CatalogVersion]] = defaultdict(list)
        self._compiled: dict[int, CompiledCatalogue] = {}
        self._at_hand: dict[tuple[str, int], Reigns] = {}
        self.position = 0
        """The highest version added; 0 before the first."""

    def add(self, version: CatalogVersion) -> None:
        """Takes a version; they come in ascending order. Errors: InvariantBroken."""
        if version.version <= self.position:
            raise InvariantBroken(f"catalogue version {version.version} came after {self.position}")
        replaced = self._standing(version.tenant, self.position)
        self._versions[version.tenant].append(version)
        self.position = version.version
        self._at_hand.clear()
        standing = {still.version for still in self._standing(version.tenant, self.position)}
        for old in replaced:
            if old.version not in standing:
                self._compiled.pop(old.version, None)  # a batch that still goes by it compiles it again

    def prepare(self, version: CatalogVersion) -> None:
        """Compiles a version ahead of `add`; may run in another thread."""
        self._compile(version)

    def catalogue(self, tenant: str, position: int, occurred_at: int = FOREVER) -> CompiledCatalogue | None:
        """A tenant's catalogue at a position for events of a time, without one for those of the farthest future; None
        where neither it nor the common one had a version for them yet."""
        return self.reigns(tenant, position).span(occurred_at)[2]

    def reigns(self, tenant: str, position: int) -> Reigns:
        """All catalogues of a tenant at a position."""
        try:
            return self._at_hand[tenant, position]
        except KeyError:
            if len(self._at_hand) >= MAX_TENANTS_AT_HAND:
                self._at_hand.clear()
        found = self._at_hand[tenant, position] = self._reigns(tenant, position)
        return found

    def version(self, tenant: str | None, position: int, instant: int = FOREVER) -> CatalogVersion | None:
        """The newest version applied for exactly this tenant (None: for all) up to a position, of those that hold for
        events of a time."""
        for version in self._standing(tenant, position):
            if _start(version) <= instant:
                return version
        return None

    def versions(self, tenant: str) -> list[CatalogVersion]:
        """All versions that were ever a tenant's: its own and the common ones, ascending."""
        listed = (*self._versions.get(tenant, ()), *self._versions.get(None, ()))
        return sorted(listed, key=lambda version: version.version)

    def _standing(self, tenant: str | None, position: int) -> list[CatalogVersion]:
        """The versions up to a position that no newer one replaces for all time, newest first."""
        versions = self._versions.get(tenant, [])
        standing = []
        for version in reversed(versions[: bisect_right(versions, position, key=lambda version: version.version)]):
            standing.append(version)
            if version.effective_from is None:
                break
        return standing

    def _reigns(self, tenant: str, position: int) -> Reigns:
        tried = (*self._standing(tenant, position), *self._standing(None, position))
        starts = sorted({_start(version) for version in tried})
        found = [next(version for version in tried if _start(version) <= start) for start in starts]
        compiled = [self._compile(version) for version in found]
        if starts and starts[0] == FOREVER_AGO:
            return Reigns(tuple(starts[1:]), tuple(compiled))
        return Reigns(tuple(starts), (None, *compiled))

    def _compile(self, version: CatalogVersion) -> CompiledCatalogue:
        compiled = self._compiled.get(version.version)
        if compiled is None:
            compiled = self._compiled[version.version] = CompiledCatalogue(version.version, version.catalog)
        return compiled


def _start(version: CatalogVersion) -> int:
    start = version.effective_from
    return FOREVER_AGO if start is None else start


__all__ = ["CompiledCatalogue", "CompiledMeter", "Price", "PriceBook", "QuotaRule", "Reigns", "likeness_of"]
