"""What the effects about subscriptions have in common: the one that is named, its plan, how it is kept and told of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rating import subscriptions as pure
from rating.subscription_document import from_document, to_document
from rating.subscriptions import Discount, IllegalTransition, Subscription
from rating.turn import Effect, NoEffect, Refused, Turn
from schemas.catalog_shapes import Plan
from schemas.documents import SUBSCRIPTION
from schemas.errors import InvalidInput
from schemas.period import format_time, parse_time


def told_by_others(effect: Effect) -> Effect:
    """Of another service's events: what its subscription's state has no room for any more changes nothing."""

    def act(turn: Turn) -> None:
        try:
            effect(turn)
        except Refused:
            raise NoEffect from None

    return act


def unheard_of(turn: Turn) -> bool:
    """Whether another service tells of a plan in a subscription whose beginning was never told here."""
    data = turn.event.data
    names_plan = bool(data.get("new_plan") or data.get("plan_id")) and not turn.event.type.startswith("tollgate.")
    return names_plan and turn.document(SUBSCRIPTION, data["subscription_id"]) is None


def named(turn: Turn) -> Subscription:
    """The subscription that an event names. Refused `not_found`, of other services InvalidInput."""
    subscription_id = turn.event.data["subscription_id"]
    document = turn.document(SUBSCRIPTION, subscription_id)
    if document is None:
        if turn.event.type.startswith("tollgate."):
            raise Refused("not_found", f"there is no subscription {subscription_id!r}")
        raise InvalidInput(
            "unknown_subscription", f"subscription {subscription_id!r} is not known here", "/data/subscription_id"
        )
    return from_document(document)


def known_plan(turn: Turn, plan_id: str) -> Plan | None:
    """A plan of the catalogue; None: it has none of this id."""
    return turn.catalogue.plan(plan_id) if turn.catalogue is not None else None


def plan_named(turn: Turn, plan_id: str) -> Plan:
    """A plan of the catalogue. Refused `unknown_plan`."""
    plan = known_plan(turn, plan_id)
    if plan is None:
        raise Refused("unknown_plan", f"the catalogue has no plan {plan_id!r}")
    return plan


def feeless(plan_id: str, cycle: Any) -> Plan:
    """A plan that the catalogue lacks: a name to price usage by, without a fee."""
    yearly = cycle in ("year", "yearly", "annual", "annually")
    return Plan.model_validate({"id": plan_id, "interval": "year" if yearly else "month", "amount": "0"})


def discount_of(given: Mapping[str, Any]) -> Discount:
    """From a command."""
    ends_at = given.get("ends_at")
    return Discount(given.get("percent") or "", given.get("amount") or "", parse_time(ends_at) if ends_at else 0)


def moved(subscription: Subscription, action: pure.Action) -> pure.Status:
    """The state after an action. Refused `state`."""
    try:
        return pure.moved(subscription.status, action)
    except IllegalTransition as illegal:
        raise Refused("state", str(illegal)) from None


def allowed(made: Callable[[], Subscription]) -> Subscription:
    """What an action makes of a subscription. Refused `state`."""
    try:
        return made()
    except IllegalTransition as illegal:
        raise Refused("state", str(illegal)) from None


def put(turn: Turn, subscription: Subscription) -> None:
    """The subscription as it is from now on, and the command's answer."""
    document = to_document(subscription)
    turn.put(SUBSCRIPTION, subscription.id, document)
    turn.result["subscription"] = document


def tell(turn: Turn, event_type: str, subscription: Subscription, **more: Any) -> None:
    """A `subscription.*` event."""
    turn.emit(
        event_type,
        {
            "subscription_id": subscription.id,
            "user_id": turn.event.customer,
            "plan_id": subscription.plan,
            "status": subscription.status,
            "billing_cycle": "year" if subscription.months == 12 else "month",
            "current_period": {
                "start": format_time(subscription.period.start),
                "end": format_time(subscription.period.end),
            },
            "attempt_count": subscription.attempts,
            **more,
        },
    )
