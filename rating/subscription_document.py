"""A subscription as the document that the log keeps of it, and back. Amounts are decimal text, times RFC 3339."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rating.subscriptions import MONTHS, Discount, Item, Subscription
from schemas.invoice import period_document, period_from
from schemas.money import format_nanos, parse_nanos
from schemas.period import format_time, parse_time


def to_document(subscription: Subscription) -> dict[str, Any]:
    """The document of a subscription; `next_at` is what jobs look for."""

    def time(instant: int) -> str | None:
        return format_time(instant) if instant else None

    discount = subscription.discount
    return {
        "id": subscription.id,
        "plan_id": subscription.plan,
        "status": subscription.status,
        "billing_cycle": "year" if subscription.months == 12 else "month",
        "amount": format_nanos(subscription.amount),
        "proration": subscription.proration,
        "anchor": format_time(subscription.anchor),
        "current_period": period_document(subscription.period),
        "started_at": format_time(subscription.started_at),
        "billed_to": format_time(subscription.billed_to),
        "trial_end": time(subscription.trial_end),
        "cancel_at": time(subscription.cancel_at),
        "ended_at": time(subscription.ended_at),
        "paused_at": time(subscription.paused_at),
        "next_plan_id": subscription.next_plan or None,
        "items": [item_document(item) for item in subscription.items],
        "credited": subscription.credited,
        "attempt_count": subscription.attempts,
        "discount": {"percent": discount.percent, "amount": discount.amount, "ends_at": time(discount.ends_at)}
        if discount is not None
        else None,
        "metadata": dict(subscription.metadata),
        "next_at": time(subscription.next_at()),
    }


def from_document(document: Mapping[str, Any]) -> Subscription:
    """The inverse of `to_document`."""

    def time(name: str) -> int:
        text = document[name]
        return parse_time(text) if text else 0

    discount = document["discount"]
    return Subscription(
        id=document["id"],
        plan=document["plan_id"],
        status=document["status"],
        months=MONTHS[document["billing_cycle"]],
        amount=parse_nanos(document["amount"]),
        proration="days" if document.get("proration") == "days" else "seconds",
        anchor=time("anchor"),
        period=period_from(document["current_period"]),
        started_at=time("started_at"),
        billed_to=time("billed_to"),
        trial_end=time("trial_end"),
        cancel_at=time("cancel_at"),
        ended_at=time("ended_at"),
        paused_at=time("paused_at"),
        next_plan=document["next_plan_id"] or "",
        items=tuple(item_from(item) for item in document["items"]),
        credited=document["credited"],
        attempts=document["attempt_count"],
        discount=Discount(
            discount["percent"], discount["amount"], parse_time(discount["ends_at"]) if discount["ends_at"] else 0
        )
        if discount is not None
        else None,
        metadata=document["metadata"],
    )


def item_document(item: Item) -> dict[str, Any]:
    """An item as documents have it."""
    return {
        "id": item.id,
        "description": item.description,
        "amount": format_nanos(item.amount),
        "period": period_document(item.period),
    }


def item_from(document: Mapping[str, Any]) -> Item:
    """The inverse of `item_document`."""
    return Item(
        document["id"], document["description"], parse_nanos(document["amount"]), period_from(document["period"])
    )
