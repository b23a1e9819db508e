"""What a catalogue of well-formed parts can still have wrong: what concerns several fields, or several parts.

Owns tiers and bounds that contradict one another, ids used twice, references to nothing, and prices between which an
event could not choose. A price that would be silently wrong is refused by name. Faults are told one by one, so that
whoever has heard enough stops asking.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from schemas import expression
from schemas.account_types import ACCOUNT_TYPES
from schemas.catalog_document import Fault, path_of
from schemas.catalog_shapes import (
    AmountTier,
    Dynamic,
    Graduated,
    GraduatedPercentage,
    Meter,
    Percentage,
    PercentTier,
    Plan,
    Price,
    Quota,
    Stairstep,
    UnitTier,
    Volume,
)
from schemas.usage_types import DEVICE_HEARTBEAT, PRODUCT_USAGE_RECORDED, USAGE_CORRECTED, USAGE_REPORTED
from schemas.window import CALENDAR

SUMMED: Final = frozenset(("sum", "count"))
"""The aggregations whose events each have a part of the period's quantity."""

BUILT_IN_LEVELS: Final = frozenset(("devices_open",))
"""What a quota may bound although no meter measures it."""

ROLLING_WINDOWS: Final = frozenset((*CALENDAR, "period"))
"""Windows that follow one another, so that what is left of one can be taken into the next."""

UNMETERED_TYPES: Final = frozenset((USAGE_CORRECTED, DEVICE_HEARTBEAT, *ACCOUNT_TYPES))
"""Built-in types that carry no usage of their own: corrections, signs of life, money and customers."""


def price_faults(price: Price) -> Iterator[Fault]:
    """What is wrong within one price; paths start at the price."""
    if isinstance(price, Graduated | Volume | Stairstep | GraduatedPercentage):
        yield from _tier_faults(price.tiers)
    if _exceeds(price.minimum_amount, price.maximum_amount):
        yield Fault("minimum_amount", "is more than maximum_amount")
    if isinstance(price, Percentage) and _exceeds(price.min_per_event, price.max_per_event):
        yield Fault("min_per_event", "is more than max_per_event")


def _exceeds(low: Decimal | None, high: Decimal | None) -> bool:
    return low is not None and high is not None and low > high


def _tier_faults(tiers: Sequence[UnitTier | AmountTier | PercentTier]) -> Iterator[Fault]:
    last = len(tiers) - 1
    reached = None
    for index, tier in enumerate(tiers):
        path = f"tiers[{index}]"
        if isinstance(tier, UnitTier) and tier.unit_amount is None and tier.flat_amount is None:
            yield Fault(path, "has neither unit_amount nor flat_amount")
        if isinstance(tier, PercentTier) and tier.rate_percent is None and tier.flat_amount is None:
            yield Fault(path, "has neither rate_percent nor flat_amount")
        if index == last and tier.up_to is not None:
            yield Fault(f"{path}.up_to", "must be null in the last tier, so that no quantity is left without a price")
        if index != last and tier.up_to is None:
            yield Fault(f"{path}.up_to", "is missing; only the last tier has no end")
        if tier.up_to is not None:
            if reached is not None and tier.up_to <= reached:
                yield Fault(f"{path}.up_to", f"is not more than the {format(reached, 'f')} of the tier before")
            reached = tier.up_to


def catalog_faults(
    meters: Mapping[int, Meter],
    prices: Mapping[int, Price],
    plans: Mapping[int, Plan],
    document: Mapping[str, Any],
) -> Iterator[Fault]:
    """All faults between the parts, by their index in the document. A part with faults of its own has its id as well,
    so that what names it is no fault, and neither is what it names itself let pass.
    """
    ids = {kind: _ids(document.get(kind)) for kind in ("meters", "prices", "plans")}
    for kind, by_index in ids.items():
        yield from _repeated(kind, by_index)
    named = {kind: frozenset(by_index.values()) for kind, by_index in ids.items()}
    for index, meter in meters.items():
        yield from _under(("meters", index), _meter_faults(meter))
    by_id = {meter.id: meter for meter in meters.values()}
    for index, price in prices.items():
        yield from _under(("prices", index), price_faults(price))
        yield from _under(("prices", index), _meter_of_price_faults(price, by_id, named["meters"]))
    for index, plan in plans.items():
        yield from _under(("plans", index), _plan_faults(plan, by_id, named))
    for index, faulty in _texts(document.get("prices"), "meter"):
        if index not in prices and faulty not in named["meters"]:
            yield Fault(f"prices[{index}].meter", f"no meter has the id {faulty!r}")
    for index, part in enumerate(_listed_in(document.get("plans"))):
        if index not in plans and isinstance(part, dict):
            for at, price_id in enumerate(_listed_in(part.get("prices"))):
                if isinstance(price_id, str) and price_id and price_id not in named["prices"]:
                    yield Fault(f"plans[{index}].prices[{at}]", f"no price has the id {price_id!r}")
    yield from _ambiguities(prices, plans.values())


def _ids(listed: Any) -> dict[int, str]:
    return dict(_texts(listed, "id"))


def _texts(listed: Any, name: str) -> Iterator[tuple[int, str]]:
    """Of each part of a list, whatever else is wrong with it, the text in one of its fields."""
    for index, part in enumerate(_listed_in(listed)):
        text = part.get(name) if isinstance(part, dict) else None
        if isinstance(text, str) and text:
            yield index, text


def _listed_in(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _under(parts: Sequence[str | int], faults: Iterable[Fault]) -> Iterator[Fault]:
    prefix = path_of(parts)
    for fault in faults:
        yield Fault(f"{prefix}.{fault.path}" if fault.path else prefix, fault.reason)


def _repeated(kind: str, ids: Mapping[int, str]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, name in ids.items():
        if name in first:
            yield Fault(f"{kind}[{index}].id", f"{name!r} is the id of {kind}[{first[name]}] already")
        else:
            first[name] = index


def _meter_faults(meter: Meter) -> Iterator[Fault]:
    reported = meter.event_type in (USAGE_REPORTED, PRODUCT_USAGE_RECORDED)
    if meter.aggregation == "unique":
        if meter.quantity is None:
            yield Fault("quantity", "is missing; a meter of unique values names their field, such as data.user_id")
        elif not expression.is_field(meter.quantity):
            yield Fault("quantity", "must be a lone field: unique counts its values")
    elif meter.aggregation != "count" and meter.quantity is None and not reported:
        yield Fault("quantity", f"is missing; only a meter of {USAGE_REPORTED} or one that counts goes without")
    if meter.event_type in UNMETERED_TYPES:
        yield Fault("event_type", f"{meter.event_type} is not metered: it carries no usage of its own")
    for name in sorted({name for name in meter.dimensions if meter.dimensions.count(name) > 1}):
        yield Fault("dimensions", f"{name} stands twice")
    for name in meter.bounds:
        if name in meter.dimensions:
            yield Fault(f"bounds.{name}", "stands among the dimensions too")


def _meter_of_price_faults(price: Price, meters: Mapping[str, Meter], named: frozenset[str]) -> Iterator[Fault]:
    if price.meter not in named:
        yield Fault("meter", f"no meter has the id {price.meter!r}")
    elif price.meter in meters:
        meter = meters[price.meter]
        for name in price.match:
            if name not in meter.dimensions and name not in meter.bounds:
                yield Fault(f"match.{name}", f"is no dimension of the meter {price.meter}")
        if isinstance(price, Percentage | Dynamic) and meter.aggregation not in SUMMED:
            yield Fault("model", f"{price.model} prices event by event; the meter {price.meter} has no part of each")


def _plan_faults(plan: Plan, meters: Mapping[str, Meter], named: Mapping[str, frozenset[str]]) -> Iterator[Fault]:
    for index, price in enumerate(plan.prices):
        if price not in named["prices"]:
            yield Fault(f"prices[{index}]", f"no price has the id {price!r}")
        elif price in plan.prices[:index]:
            yield Fault(f"prices[{index}]", f"{price!r} stands twice")
    for index, credit in enumerate(plan.credits):
        for at, meter in enumerate(credit.scope or ()):
            if meter not in named["meters"]:
                yield Fault(f"credits[{index}].scope[{at}]", f"no meter has the id {meter!r}")
    first: dict[str, int] = {}
    for index, quota in enumerate(plan.quotas):
        yield from _under(("quotas", index), quota_faults(quota, meters, named["meters"]))
        if quota.quota_id in first:
            other = f"quotas[{first[quota.quota_id]}]"
            reason = "has the same id" if quota.id is not None else "is of the same kind; give one of them an id"
            yield Fault(f"quotas[{index}]", f"{other} {reason}")
        first.setdefault(quota.quota_id, index)


def quota_faults(quota: Quota, meters: Mapping[str, Meter], named: frozenset[str]) -> Iterator[Fault]:
    """What is wrong with one quota; `named` are the meters that the document names, with their faults or without."""
    if (quota.meter is None) == (quota.spend is None):
        yield Fault("", "must have either a meter with its limit, or spend")
    elif quota.meter is not None and quota.limit is None:
        yield Fault("limit", "is missing")
    elif quota.meter is None and quota.limit is not None:
        yield Fault("limit", "goes with a meter; the bound of money is spend")
    if quota.meter is not None and quota.meter not in named and quota.meter not in BUILT_IN_LEVELS:
        yield Fault("meter", f"no meter has the id {quota.meter!r}")
    if list(quota.thresholds) != sorted(set(quota.thresholds)):
        yield Fault("thresholds", "must ascend, each once")
    if quota.grace_percent is not None and quota.mode != "hard":
        yield Fault("grace_percent", "goes with hard; a soft quota refuses nothing")
    if quota.rollover_max is not None and quota.window not in ROLLING_WINDOWS:
        yield Fault("rollover_max", f"nothing rolls over of {quota.window}; it does of {_listed(ROLLING_WINDOWS)}")
    if quota.per not in ("customer", "user") and not _is_dimension(quota, meters, named):
        whose = "any meter" if quota.meter is None else f"the meter {quota.meter}"
        yield Fault("per", f"{quota.per} is neither customer, user nor a dimension of {whose}")


def _is_dimension(quota: Quota, meters: Mapping[str, Meter], named: frozenset[str]) -> bool:
    """Whether a quota can be counted per what it says; of a meter that has faults itself, nobody knows."""
    if quota.meter is None:
        return any(quota.per in meter.dimensions or quota.per in meter.bounds for meter in meters.values())
    if quota.meter in meters:
        return quota.per in meters[quota.meter].dimensions or quota.per in meters[quota.meter].bounds
    return quota.meter in named


def _ambiguities(prices: Mapping[int, Price], plans: Iterable[Plan]) -> Iterator[Fault]:
    """Prices of one meter between which some event could not choose, within each plan and among the common ones."""
    by_id = {price.id: index for index, price in prices.items()}
    groups = [[by_id[name] for name in dict.fromkeys(plan.prices) if name in by_id] for plan in plans]
    of_plans = {index for members in groups for index in members}
    groups.append([index for index in prices if index not in of_plans])
    told: set[tuple[int, int]] = set()
    for members in groups:
        for earlier, later, reason in _undecided_of(prices, members, "prices"):
            if (earlier, later) not in told:
                told.add((earlier, later))
                yield Fault(f"prices[{later}].match", reason)


def own_faults(
    prices: Mapping[int, Price],
    quotas: Mapping[int, Quota],
    meters: Mapping[str, Meter],
    unlimited: frozenset[int],
    names: tuple[str, str],
) -> Iterator[Fault]:
    """What is wrong with a customer's own prices and quotas, beside a catalogue's meters; `names` are those of the two
    lists where they were given. A quota of `unlimited` has neither limit nor spend, and means that."""
    yield from _repeated(names[0], {index: price.id for index, price in prices.items()})
    known = frozenset(meters)
    for index, price in prices.items():
        yield from _under((names[0], index), price_faults(price))
        yield from _under((names[0], index), _meter_of_price_faults(price, meters, known))
    for _, later, reason in _undecided_of(prices, list(prices), names[0]):
        yield Fault(f"{names[0]}[{later}].match", reason)
    first: dict[str, int] = {}
    for index, quota in quotas.items():
        faults = quota_faults(quota, meters, known)
        if index in unlimited:
            faults = (fault for fault in faults if fault.path not in ("", "limit"))
        yield from _under((names[1], index), faults)
        if quota.quota_id in first:
            yield Fault(f"{names[1]}[{index}]", f"{names[1]}[{first[quota.quota_id]}] is the same quota")
        first.setdefault(quota.quota_id, index)


def _undecided_of(prices: Mapping[int, Price], members: Iterable[int], listed: str) -> Iterator[tuple[int, int, str]]:
    """Pairs of one group's prices that the same event could take, neither before the other."""
    by_meter: dict[str, list[int]] = defaultdict(list)
    for index in members:
        by_meter[prices[index].meter].append(index)
    for of_meter in by_meter.values():
        yield from _undecided(prices, sorted(of_meter), listed)


_FOREVER_AGO: Final = -(2**63)


def _undecided(prices: Mapping[int, Price], members: list[int], listed: str) -> Iterator[tuple[int, int, str]]:
    """Pairs of one meter's prices that the same event could take, neither before the other."""
    windows: dict[tuple[frozenset[tuple[str, str]], int], int] = {}
    first_effect: dict[frozenset[tuple[str, str]], int] = {}
    owner: dict[frozenset[tuple[str, str]], int] = {}
    for index in members:
        match = frozenset(prices[index].match.items())
        begin = prices[index].effective_from
        start = _FOREVER_AGO if begin is None else begin
        if (match, start) in windows:
            other = windows[match, start]
            yield other, index, f"{listed}[{other}] has the same meter, match and effective_from"
        windows.setdefault((match, start), index)
        first_effect[match] = min(start, first_effect.get(match, start))
        owner.setdefault(match, index)
    by_names: dict[frozenset[str], list[frozenset[tuple[str, str]]]] = defaultdict(list)
    for match in first_effect:
        by_names[frozenset(name for name, _ in match)].append(match)
    kinds = list(by_names)
    for at, names in enumerate(kinds):
        for others in kinds[at + 1 :]:
            if len(names) == len(others):
                yield from _crossing(by_names[names], by_names[others], names & others, first_effect, owner, listed)


def _crossing(
    ones: list[frozenset[tuple[str, str]]],
    others: list[frozenset[tuple[str, str]]],
    shared: frozenset[str],
    first_effect: Mapping[frozenset[tuple[str, str]], int],
    owner: Mapping[frozenset[tuple[str, str]], int],
    listed: str,
) -> Iterator[tuple[int, int, str]]:
    """Pairs of equally specific matches by different names that agree where they share one.

    A more specific price that covers just what both match, from when both hold, decides between them.
    """
    by_shared: dict[frozenset[tuple[str, str]], list[frozenset[tuple[str, str]]]] = defaultdict(list)
    for other in others:
        by_shared[frozenset(pair for pair in other if pair[0] in shared)].append(other)
    for one in ones:
        for other in by_shared[frozenset(pair for pair in one if pair[0] in shared)]:
            both = one | other
            if both in first_effect and first_effect[both] <= max(first_effect[one], first_effect[other]):
                continue
            earlier, later = sorted((owner[one], owner[other]))
            values = ", ".join(f"{name}: {value}" for name, value in sorted(both))
            yield earlier, later, f"is as specific as that of {listed}[{earlier}], and both match {{{values}}}"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
