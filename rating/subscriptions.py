"""Subscriptions: their states and legal transitions in one table, and what each action makes of one. Pure.

A subscription is one customer's plan over time. Its periods are counted from its anchor (`schemas.period`). Fees are in
advance: `billed_to` says up to when they are billed; what a change in the middle of a period gives back or adds waits
as items for the next invoice. What the plan was at a time stands in the account's spans, so that usage is priced by the
plan of its own time however late it comes.

Proration is by seconds or by days, as the plan says (`rating.proration`), to the nano, half even; the invoice's line
rounds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from rating.proration import Basis, remaining_share
from schemas.account import PlanSpan
from schemas.catalog_shapes import Plan
from schemas.errors import InvalidInput
from schemas.money import decimal_to_nanos, round_half_even
from schemas.period import Period, add_months, period_of

Status = Literal["incomplete", "trialing", "active", "past_due", "paused", "canceled", "expired"]
Action = Literal["activate", "payment_failed", "change", "renew", "pause", "resume", "cancel", "expire", "reactivate"]

LIVE: Final = frozenset({"trialing", "active", "past_due"})
"""The customer has the plan."""
ENDED: Final = frozenset({"canceled", "expired"})

TRANSITIONS: Final[dict[tuple[Status, Action], Status]] = {
    ("incomplete", "activate"): "active",
    ("incomplete", "payment_failed"): "incomplete",
    ("incomplete", "cancel"): "canceled",
    ("incomplete", "expire"): "expired",
    ("trialing", "activate"): "active",
    ("trialing", "renew"): "active",
    ("trialing", "change"): "trialing",
    ("trialing", "pause"): "paused",
    ("trialing", "cancel"): "canceled",
    ("trialing", "expire"): "expired",
    ("active", "activate"): "active",
    ("active", "renew"): "active",
    ("active", "change"): "active",
    ("active", "payment_failed"): "past_due",
    ("active", "pause"): "paused",
    ("active", "cancel"): "canceled",
    ("active", "expire"): "expired",
    ("past_due", "activate"): "active",
    ("past_due", "renew"): "past_due",
    ("past_due", "change"): "past_due",
    ("past_due", "payment_failed"): "past_due",
    ("past_due", "pause"): "paused",
    ("past_due", "cancel"): "canceled",
    ("past_due", "expire"): "expired",
    ("paused", "resume"): "active",
    ("paused", "cancel"): "canceled",
    ("paused", "expire"): "expired",
    ("canceled", "reactivate"): "active",
    ("expired", "reactivate"): "active",
}
"""What is not here is refused."""

MONTHS: Final[dict[str, int]] = {"month": 1, "year": 12}


class IllegalTransition(Exception):
    """A subscription in this state does not allow the action."""

    def __init__(self, status: str, action: str) -> None:
        super().__init__(f"a subscription that is {status} allows no {action}")


@dataclass(frozen=True, slots=True)
class Item:
    """An amount that waits for the next invoice."""

    id: str
    description: str
    amount: int
    """Nanos; what is given back is negative."""
    period: Period


@dataclass(frozen=True, slots=True)
class Discount:
    """What its invoices are lessened by: a share (`percent`) or an amount, not both."""

    percent: str = ""
    amount: str = ""
    ends_at: int = 0
    """0: never."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription. Times in microseconds, 0 for what has not come."""

    id: str
    plan: str
    status: Status
    months: int
    """Of a period: 1 or 12."""
    amount: int
    """The fee of a period, nanos, as of the last change or renewal."""
    anchor: int
    period: Period
    """The current one; of a trial, the trial."""
    started_at: int
    billed_to: int
    """Fees are billed up to here."""
    trial_end: int = 0
    cancel_at: int = 0
    ended_at: int = 0
    paused_at: int = 0
    next_plan: str = ""
    """Takes over at the period's end; empty: none."""
    items: tuple[Item, ...] = ()
    credited: int = 0
    """Times that its recurring credits were granted."""
    attempts: int = 0
    """Failed attempts to be paid since the last success."""
    proration: Basis = "seconds"
    """What its fee's share of a part of a period is counted in, as of the last change or renewal."""
    discount: Discount | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def next_at(self) -> int:
        """When something is due that nobody sends: renewal, trial end, cancellation, recurring credits; 0: nothing."""
        if self.status not in LIVE:
            return 0
        due = [self.period.end, add_months(self.anchor, self.credited)]
        if self.cancel_at:
            due.append(self.cancel_at)
        return min(instant for instant in due)

    def next_period(self) -> Period:
        """The one after the current."""
        return period_of(self.anchor, self.months, self.period.end)


def moved(status: Status, action: Action) -> Status:
    """The state after an action. Errors: IllegalTransition."""
    try:
        return TRANSITIONS[status, action]
    except KeyError:
        raise IllegalTransition(status, action) from None


def share(amount: int, period: Period, at: int, basis: Basis) -> int:
    """What of an amount for a period falls to the time from `at` to its end, nanos."""
    left = remaining_share(period, min(max(at, period.start), period.end), basis)
    return round_half_even(amount * left.numerator, left.denominator)


def fee(plan: Plan) -> int:
    """A plan's recurring fee, nanos."""
    return decimal_to_nanos(plan.amount)


def create(
    subscription_id: str,
    plan: Plan,
    at: int,
    *,
    trial_end: int = 0,
    anchor: int = 0,
    incomplete: bool = False,
    discount: Discount | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Subscription:
    """A new subscription from `at` on. An `anchor` later than that makes a first period of less than a whole one.

    Nothing of its first period is billed yet: `billed_to` is where it begins.
    """
    months = MONTHS[plan.interval]
    first = trial_end or at
    if trial_end and trial_end <= at:
        raise InvalidInput("out_of_range", "trial_end lies before the beginning", "/trial_end")
    anchor = anchor or first
    period = Period(at, trial_end) if trial_end else Period(at, period_of(anchor, months, at).end)
    return Subscription(
        id=subscription_id,
        plan=plan.id,
        status="incomplete" if incomplete else "trialing" if trial_end else "active",
        months=months,
        amount=fee(plan),
        proration=plan.proration,
        anchor=anchor,
        period=period,
        started_at=at,
        billed_to=first,
        trial_end=trial_end,
        discount=discount,
        metadata=metadata or {},
    )


def fee_of(subscription: Subscription, period: Period) -> int:
    """The fee for a period that may be part of a whole one, nanos."""
    whole = period_of(subscription.anchor, subscription.months, period.start)
    amount, basis = subscription.amount, subscription.proration
    return share(amount, whole, period.start, basis) - share(amount, whole, period.end, basis)


def change(subscription: Subscription, plan: Plan, at: int, cause: str) -> Subscription:
    """Another plan from `at` on, in the middle of a period: what is unused of the old one is given back, the rest of
    the period is billed at the new one. With another interval a new period, and a new anchor, begin at `at`."""
    if plan.id == subscription.plan:
        return replace(subscription, next_plan="")
    status = moved(subscription.status, "change")
    months = MONTHS[plan.interval]
    paid = Period(min(at, subscription.billed_to), subscription.billed_to)
    items = list(subscription.items)
    unused = fee_of(subscription, paid) if subscription.billed_to > at else 0
    if unused:
        items.append(Item(f"{cause}:unused", f"Unused time on {subscription.plan}", -unused, paid))
    changed = replace(
        subscription,
        plan=plan.id,
        status=status,
        months=months,
        amount=fee(plan),
        proration=plan.proration,
        next_plan="",
        items=tuple(items),
    )
    if subscription.status == "trialing":
        return changed
    if months != subscription.months:
        return replace(
            changed,
            anchor=at,
            period=Period(at, add_months(at, months)),
            billed_to=min(subscription.billed_to, at),
            credited=0,
        )
    remaining = fee_of(changed, paid) if subscription.billed_to > at else 0
    if remaining:
        items.append(Item(f"{cause}:remaining", f"Remaining time on {plan.id}", remaining, paid))
    return replace(changed, items=tuple(items))


def change_at_period_end(subscription: Subscription, plan: Plan) -> Subscription:
    """Another plan from the next period on."""
    moved(subscription.status, "change")
    return replace(subscription, next_plan=plan.id if plan.id != subscription.plan else "")


def cancel(subscription: Subscription, at: int, cause: str, *, prorate: bool = True) -> Subscription:
    """Ends it at `at`; with `prorate` what is billed beyond is given back."""
    status = moved(subscription.status, "cancel")
    return _ended(subscription, status, at, cause, prorate)


def expire(subscription: Subscription, at: int, cause: str) -> Subscription:
    """Ends it at `at`, with nothing given back."""
    return _ended(subscription, moved(subscription.status, "expire"), at, cause, prorate=False)


def cancel_at_period_end(subscription: Subscription) -> Subscription:
    """Ends it with the current period."""
    moved(subscription.status, "cancel")
    return replace(subscription, cancel_at=subscription.period.end, next_plan="")


def reactivate(subscription: Subscription, at: int) -> Subscription:
    """Takes a cancellation back that has not come yet; one that has ended begins anew, with a new anchor."""
    if subscription.status not in ENDED:
        if not subscription.cancel_at:
            raise IllegalTransition(subscription.status, "reactivate")
        return replace(subscription, cancel_at=0)
    return replace(
        subscription,
        status=moved(subscription.status, "reactivate"),
        anchor=at,
        period=Period(at, add_months(at, subscription.months)),
        started_at=at,
        billed_to=at,
        trial_end=0,
        cancel_at=0,
        ended_at=0,
        next_plan="",
        credited=0,
        attempts=0,
    )


def pause(subscription: Subscription, at: int) -> Subscription:
    """The customer has no plan until it is resumed."""
    return replace(subscription, status=moved(subscription.status, "pause"), paused_at=at)


def resume(subscription: Subscription, at: int) -> Subscription:
    """The plan again. Periods that went by meanwhile are not billed."""
    status = moved(subscription.status, "resume")
    period = subscription.period
    if at >= period.end:
        period = Period(at, period_of(subscription.anchor, subscription.months, at).end)
    return replace(
        subscription, status=status, paused_at=0, period=period, billed_to=max(subscription.billed_to, period.start)
    )


def renew(subscription: Subscription, plan: Plan | None) -> Subscription:
    """The next period, under `plan`: the one that takes over, or the same at its fee of today (None: as it was)."""
    status = moved(subscription.status, "renew")
    start = subscription.period.end
    renewed = replace(subscription, status=status, trial_end=0, next_plan="")
    if plan is not None:
        months = MONTHS[plan.interval]
        renewed = replace(renewed, plan=plan.id, amount=fee(plan), proration=plan.proration, months=months)
        if months != subscription.months:
            renewed = replace(renewed, anchor=start, credited=0)
    return replace(renewed, period=Period(start, period_of(renewed.anchor, renewed.months, start).end))


def _ended(subscription: Subscription, status: Status, at: int, cause: str, prorate: bool) -> Subscription:
    items = subscription.items
    billed = subscription.billed_to
    if prorate and billed > at and subscription.status != "paused":
        unused = Period(at, billed)
        given_back = fee_of(subscription, unused)
        if given_back:
            items = (*items, Item(f"{cause}:unused", f"Unused time on {subscription.plan}", -given_back, unused))
    return replace(
        subscription,
        status=status,
        ended_at=at,
        cancel_at=0,
        next_plan="",
        items=items,
        period=Period(subscription.period.start, max(at, subscription.period.start)),
    )


def respanned(spans: list[PlanSpan], start: int, following: list[PlanSpan]) -> list[PlanSpan]:
    """Spans of an account with everything from `start` on replaced; equal neighbours become one."""
    kept = [span for span in spans if span.start < start]
    for span in following:
        last = kept[-1] if kept else None
        if last is None or (last.plan, last.subscription_id, last.anchor, last.months) != (
            span.plan,
            span.subscription_id,
            span.anchor,
            span.months,
        ):
            kept.append(span)
    return kept


def billed(subscription: Subscription, items: Iterable[str], until: int) -> Subscription:
    """An invoice that is final has billed these items, and its fees up to `until`."""
    taken = set(items)
    left = tuple(item for item in subscription.items if item.id not in taken)
    return replace(subscription, items=left, billed_to=max(subscription.billed_to, until))


def unbilled(
    subscription: Subscription, items: Iterable[Item], before: int, after: int, advance: Iterable[Item]
) -> Subscription:
    """That invoice is void: its items wait again, and so do its fees: as what is next to be billed, or, where
    later fees are billed already or none will be, as items."""
    if subscription.billed_to == after and subscription.status in LIVE:
        return replace(subscription, items=(*items, *subscription.items), billed_to=before)
    return replace(subscription, items=(*items, *advance, *subscription.items))
