"""The account's plan over time, as its subscription has it: what usage is priced by, however late it comes."""

from __future__ import annotations

from rating import subscriptions as pure
from rating.subscriptions import Subscription
from rating.turn import Turn
from schemas.account import PlanSpan


def respan(turn: Turn, at: int, subscription: Subscription | None, plan: str | None = None) -> None:
    """The account's plan from `at` on; of no subscription, none and calendar months. What lies ahead is dropped."""
    begins = (
        span_of(subscription, at, subscription.plan if plan is None else plan) if subscription is not None else None
    )
    following = [begins or PlanSpan(at, "", "", 0, 1)]
    if subscription is not None and subscription.cancel_at > at:
        following.append(PlanSpan(subscription.cancel_at, "", "", 0, 1))
    elif subscription is not None and subscription.next_plan:
        following.append(span_of(subscription, subscription.period.end, subscription.next_plan))
    respan_after(turn, at, following)


def respan_after(turn: Turn, at: int, following: list[PlanSpan]) -> None:
    """What the account has from `at` on is what follows."""
    account = turn.account
    before = account.spans
    if not before and account.plan:
        before = [PlanSpan(0, account.plan, "", 0, 1)]
    account.spans = pure.respanned(before, at, following)


def span_of(subscription: Subscription, at: int, plan: str) -> PlanSpan:
    """A plan of a subscription's from `at` on."""
    return PlanSpan(at, plan, subscription.id, subscription.anchor, subscription.months)
