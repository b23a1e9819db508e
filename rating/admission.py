"""May this be spent: what a customer asks for, as bounds on what open holds may hold. Pure; the answer is Redis's.

`assess` looks at an account, a catalogue and a time, and says what is to be held under which names, and how much room
there is under each before anything is held: the wallet's money, every quota that the usage counts in, and, for a price
that depends on its period, how much of it is assumed to be on its way (`reach`). It never sees what others hold: the
bounds are compared with that where both can be compared in one step, in Redis. What the account alone forbids (it is
closed, its plan lacks a feature) is `denied` at once.

Room of the wallet, prepaid: balance + overdraft; postpaid: balance + credit limit - receivable. A hard quota has room
up to its limit and grace, a soft one any.

Errors: InvalidInput `unknown_meter`, and those of `rating.sizing` and of measuring.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from rating.book import CompiledCatalogue
from rating.measure import compile_dimensions
from rating.quota_rule import QuotaRule
from rating.quotas import DEVICES_OPEN, Used, level_of, limit_of, quota_key, scope_of, usage
from rating.sizing import Buyer, Shape, Sized, affordable, reach_name, size_event, size_meter
from rating.wallet import spendable
from schemas.account import Account
from schemas.errors import InvalidInput
from schemas.limits import ID_MAX_CHARACTERS
from schemas.money import NANOS
from schemas.period import SECOND, format_time
from schemas.usage_types import (
    DEVICE_ALLOCATED,
    DEVICE_RELEASED,
    SESSION_ENDED,
    TOKENS_USED,
    USAGE_REPORTED,
    USAGE_TYPES,
)

MONEY: Final = "money"
"""Under which open holds count what they hold of the wallet."""

NO_CURRENCY: Final = "USD"
"""Of a customer without money whose tenant has no catalogue."""

LASTING: Final = {SESSION_ENDED: ("started_at", "ended_at"), DEVICE_RELEASED: ("allocated_at", "released_at")}
"""Types of events about a span of time: the fields of its two ends."""

BoundKind = Literal["wallet", "budget", "quota", "reach"]
Reason = Literal["quota", "budget", "wallet", "subscription", "customer_closed", "unavailable"]


class MeterAsk(msgspec.Struct, frozen=True):
    """So much of a meter, a built-in level or a feature."""

    meter: str
    quantity: int
    """Nano-units."""


class EventAsk(msgspec.Struct, frozen=True):
    """An event that is yet to come, with its largest counts."""

    type: str
    data: Mapping[str, Any]


class AmountAsk(msgspec.Struct, frozen=True):
    """So much money; `meter`: what it is for."""

    amount: int
    """Nanos."""
    meter: str | None = None


Wish: TypeAlias = MeterAsk | EventAsk | AmountAsk


class Ask(msgspec.Struct, frozen=True):
    """What a customer asks for."""

    wish: Wish
    user: str | None = None
    dimensions: Mapping[str, str] = msgspec.field(default_factory=dict)
    session: str = ""
    allocation: str = ""


class Bound(NamedTuple):
    """What is wanted under a name, and what all open holds together may hold there."""

    name: str
    meter: str
    """Whose units are wanted; empty: money."""
    room: int | None
    """None: any; below zero: nothing, however little."""
    wanted: int
    kind: BoundKind
    rule: QuotaRule | None = None
    used: Used | None = None
    scope: str = ""


class Denied(NamedTuple):
    """What the account alone forbids."""

    reason: Reason
    detail: str


class Assessment(msgspec.Struct, frozen=True):
    """What an ask comes to. The wallet's bound comes first, and is always there."""

    currency: str
    amount: int
    """Nanos that are wanted of the wallet."""
    balance: int
    room: int
    """Nanos that the wallet has before anything is held; below zero: debt."""
    bounds: tuple[Bound, ...]
    sized: tuple[Sized, ...]
    denied: Denied | None
    catalog_version: int
    """0: none."""
    buyer: Buyer | None
    """None: there is no catalogue."""
    counts_on_periods: bool
    """Whether what it comes to depends on what the account has counted of prices."""

    @property
    def plan(self) -> str:
        """The buyer's; empty: none."""
        return self.buyer.plan if self.buyer is not None else ""


def wallet_room(account: Account | None) -> int:
    """What a customer may spend before anything is held, in nanos."""
    return spendable(account) if account is not None else 0


def assess(
    account: Account | None,
    catalogue: CompiledCatalogue | None,
    ask: Ask,
    now: int,
    reach: Mapping[str, int] | None = None,
) -> Assessment:
    """What an ask comes to at `now`; `reach` is what open holds are taken to hold of prices, by `reach_name`."""
    reach, counts_on_periods = reach or {}, False
    buyer = Buyer.of(catalogue, account, now) if catalogue is not None else None
    shape = _shape(ask, now) if isinstance(ask.wish, EventAsk) else None
    sized = _sizes(buyer, ask, shape, reach)
    amount = ask.wish.amount if isinstance(ask.wish, AmountAsk) else sum(one.amount for one in sized)
    room = wallet_room(account)
    bounds = [Bound(MONEY, "", room if amount else None, amount, "wallet")]
    denied = _closed(account)
    if buyer is not None:
        denied = denied or _lacking(buyer, ask, sized)
        wanted = {one.meter: one.quantity for one in sized}
        if isinstance(ask.wish, EventAsk) and ask.wish.type == DEVICE_ALLOCATED:
            wanted[DEVICES_OPEN] = NANOS
        if isinstance(ask.wish, MeterAsk) and ask.wish.meter not in wanted:
            wanted[ask.wish.meter] = ask.wish.quantity
        bounds += _quotas(buyer, ask, shape, wanted, amount)
        for one in sized:
            counting = {reach_name(price.id) for price, _ in one.priced if price.counters}
            if not counting:
                continue
            counts_on_periods = True
            if one.quantity:
                bounds += [
                    Bound(name, one.meter, reach.get(name, 0) + one.quantity, one.quantity, "reach")
                    for name in sorted(counting)
                ]
    return Assessment(
        (account.currency if account is not None else "") or (catalogue.currency if catalogue else "") or NO_CURRENCY,
        amount,
        account.balance if account is not None else 0,
        room,
        tuple(bounds),
        tuple(sized),
        denied,
        catalogue.version if catalogue is not None else 0,
        buyer,
        counts_on_periods,
    )


def buys(assessment: Assessment, available: int, reach: Mapping[str, int]) -> dict[str, int | None]:
    """By meter: how many whole units, in nano-units, `available` nanos still buy; None: they cost nothing."""
    buyer = assessment.buyer
    if buyer is None:
        return {}
    return {one.meter: affordable(buyer, one, available, reach) for one in assessment.sized}


def quotas_of(
    account: Account | None, catalogue: CompiledCatalogue | None, now: int, user: str | None = None
) -> list[tuple[QuotaRule, str, Used]]:
    """Every quota of a customer with each scope that is known of it, as it stands."""
    if catalogue is None:
        return []
    buyer = Buyer.of(catalogue, account, now)
    found = []
    for rule in catalogue.quotas_of(buyer.plan, buyer.own):
        for scope in _scopes(account, rule, user):
            found.append((rule, scope, _used(account, rule, scope, now)))  # noqa: PERF401
    return found


def _scopes(account: Account | None, rule: QuotaRule, user: str | None) -> list[str]:
    if rule.per == "customer":
        return [""]
    if rule.per == "user" and user is not None:
        return [user]
    prefix = quota_key(rule.id, "")
    counters = account.counters if account is not None else {}
    return sorted(key[len(prefix) :] for key in counters if key.startswith(prefix))


def _sizes(buyer: Buyer | None, ask: Ask, shape: Shape | None, reach: Mapping[str, int]) -> list[Sized]:
    wish = ask.wish
    if isinstance(wish, EventAsk):
        if buyer is None:
            raise InvalidInput("no_meter", "there is no catalogue yet that says what events cost", "/event")
        assert shape is not None
        sized = size_event(buyer, shape, wish.type, reach)
        if not sized and wish.type not in (DEVICE_ALLOCATED, SESSION_ENDED) and not _measured(buyer, wish, shape):
            raise InvalidInput("unknown_meter", f"no meter measures {wish.type} events", "/event/type")
        return sized
    meter = wish.meter
    if meter is None:
        return []
    if buyer is not None and buyer.catalogue.meter(meter) is not None:
        quantity = wish.quantity if isinstance(wish, MeterAsk) else 0
        return [size_meter(buyer, meter, quantity, ask.dimensions, reach)]
    if meter == DEVICES_OPEN or (buyer is not None and _is_feature(buyer.catalogue, meter)):
        return []
    raise InvalidInput("unknown_meter", f"the catalogue has no meter {meter!r}", "/meter")


def _measured(buyer: Buyer, wish: EventAsk, shape: Shape) -> bool:
    return bool(buyer.catalogue.meters_of(wish.type, shape.data))


def _closed(account: Account | None) -> Denied | None:
    if account is not None and account.closed_at:
        return Denied("customer_closed", f"the customer is closed since {format_time(account.closed_at)}")
    return None


def _lacking(buyer: Buyer, ask: Ask, sized: list[Sized]) -> Denied | None:
    """A feature that plans give, and this customer's does not. What has a price may be bought without one."""
    if not isinstance(ask.wish, MeterAsk) or any(one.priced for one in sized):
        return None
    name = ask.wish.meter
    given = buyer.catalogue.features_of(buyer.plan).get(name)
    if given is False or (given is None and _is_feature(buyer.catalogue, name) and not _has_quota(buyer, name)):
        of = f"the plan {buyer.plan!r}" if buyer.plan else "a customer without a plan"
        return Denied("subscription", f"{of} does not have the feature {name!r}")
    return None


def _has_quota(buyer: Buyer, meter: str) -> bool:
    return any(rule.meter == meter for rule in buyer.catalogue.quotas_of(buyer.plan, buyer.own))


def _is_feature(catalogue: CompiledCatalogue, name: str) -> bool:
    return any(name in plan.features for plan in catalogue.catalog.plans)


def _quotas(buyer: Buyer, ask: Ask, shape: Shape | None, wanted: Mapping[str, int], amount: int) -> list[Bound]:
    bounds = []
    for rule in buyer.catalogue.quotas_of(buyer.plan, buyer.own):
        counts = amount if rule.meter is None else wanted.get(rule.meter)
        if counts is None or (rule.meter is None and not amount):
            continue
        scope = scope_of(rule, _user(ask, shape), _dimensions(rule, ask, shape))
        if scope is None:
            continue
        used = _used(buyer.account, rule, scope, buyer.now)
        room = used.refuse_above - used.quantity if used.refuse_above is not None else None
        kind: BoundKind = "quota" if rule.meter is not None else "budget"
        bounds.append(Bound(quota_key(rule.id, scope), rule.meter or "", room, counts, kind, rule, used, scope))
    bounds += _plain_features(buyer, wanted, {bound.meter for bound in bounds})
    return bounds


def _plain_features(buyer: Buyer, wanted: Mapping[str, int], bounded: set[str]) -> list[Bound]:
    """Numbers of features that nothing measures: no more than the number may be held at once."""
    bounds = []
    for name, value in buyer.catalogue.features_of(buyer.plan).items():
        if name in wanted and name not in bounded and isinstance(value, Decimal):
            limit = int(value * NANOS)
            used = Used(0, limit, limit, "all", None)
            bounds.append(Bound(quota_key(name, ""), name, limit, wanted[name], "quota", None, used))
    return bounds


def _used(account: Account | None, rule: QuotaRule, scope: str, now: int) -> Used:
    level = level_of(account, rule.meter) if rule.meter is not None else None
    if level is None:
        return usage(rule, account, scope, now)
    return Used(level, limit_of(rule), rule.refuse_above, "now", None)


def _user(ask: Ask, shape: Shape | None) -> str | None:
    if ask.user is not None or shape is None:
        return ask.user
    found = shape.data.get("user_id")
    return found if isinstance(found, str) else None


def _dimensions(rule: QuotaRule, ask: Ask, shape: Shape | None) -> Mapping[str, str]:
    if rule.per in ("customer", "user") or rule.per in ask.dimensions or shape is None:
        return ask.dimensions
    return {**dict(compile_dimensions((rule.per,))(shape)), **ask.dimensions}


def _shape(ask: Ask, now: int) -> Shape:
    """The event that is asked about with what it will have to carry and is not known yet."""
    wish = ask.wish
    assert isinstance(wish, EventAsk)
    data: dict[str, Any] = {**ask.dimensions, **wish.data}
    if ask.user is not None:
        data.setdefault("user_id", ask.user)
    built_in = USAGE_TYPES.get(wish.type)
    if built_in is not None:
        data = {name: value for name, value in data.items() if value is not None}
        _fill(data, wish.type, ask, now)
        try:
            filled = built_in.complete(data)
        except InvalidInput as error:
            raise InvalidInput(error.reason, error.detail, f"/event{error.pointer}") from None
        data = {**filled.data, **(filled.computed or {})}
    return Shape(data, {"type": wish.type, "source": "hold", "specversion": "1.0"})


def _fill(data: dict[str, Any], event_type: str, ask: Ask, now: int) -> None:
    if event_type == TOKENS_USED:
        data.setdefault("session_id", ask.session or "-")
        if data.get("input_tokens") is not None or data.get("output_tokens") is not None:
            data.setdefault("input_tokens", 0)
            data.setdefault("output_tokens", 0)
        elif "tokens_used" not in data:
            data.update(input_tokens=0, output_tokens=0)
    elif event_type == USAGE_REPORTED:
        data.setdefault("quantity", 1)
    elif event_type == SESSION_ENDED:
        data.setdefault("session_id", ask.session or "-")
        fill_times(data, event_type, now)
    elif event_type.startswith("device."):
        data.setdefault("device_id", "-")
        data.setdefault("allocation_id", ask.allocation or "-")
        for size in ("cpu_cores", "memory_mb", "storage_mb"):
            data.setdefault(size, 0)
        if event_type == DEVICE_ALLOCATED:
            data.setdefault("allocated_at", format_time(now))
        else:
            fill_times(data, DEVICE_RELEASED, now)


def fill_times(data: dict[str, Any], event_type: str, now: int) -> None:
    """Begin and end of what lasts `duration_seconds`, or no time at all, where an event has both and lacks one."""
    start, end = LASTING.get(event_type, ("", ""))
    if not start or (start in data and end in data):
        return
    seconds = data.get("duration_seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | Decimal) or not 0 <= seconds <= 10**9:
        raise InvalidInput("wrong_type", "duration_seconds is no number of seconds", "/data/duration_seconds")
    data[start], data[end] = format_time(now), format_time(now + int(seconds * SECOND))


assert len(MONEY) < ID_MAX_CHARACTERS
