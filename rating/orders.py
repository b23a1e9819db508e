"""Orders and payments as states: which follows which, whoever tells of it and in whatever order. Pure.

Events of other services may come late, twice or out of order. So a state only ever moves forward, by rank: what tells
of an earlier one than the one that stands changes nothing. What a command of ours asks for is held to ALLOWED: the
states it may find.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.money import parse_nanos

CREATED: Final = "created"
PAYMENT_PENDING: Final = "payment_pending"
EXPIRED: Final = "expired"
CANCELED: Final = "canceled"
COMPLETED: Final = "completed"
FULFILLED: Final = "fulfilled"
REFUNDED: Final = "refunded"

ORDER_RANK: Final = {
    name: rank
    for rank, name in enumerate((CREATED, PAYMENT_PENDING, EXPIRED, CANCELED, COMPLETED, FULFILLED, REFUNDED))
}
"""Money that comes for an order that expired or was canceled completes it after all: it was paid."""

OPEN: Final = frozenset((CREATED, PAYMENT_PENDING))
"""Not paid yet, and still to be paid."""

ALLOWED: Final[dict[str, frozenset[str]]] = {
    PAYMENT_PENDING: OPEN,
    EXPIRED: OPEN,
    CANCELED: OPEN,
    COMPLETED: OPEN | {EXPIRED, CANCELED},
    FULFILLED: frozenset((COMPLETED,)),
    REFUNDED: frozenset((COMPLETED, FULFILLED)),
}
"""By the state that a command leads to: the states it may find."""

PENDING: Final = "pending"
FAILED: Final = "failed"
SUCCEEDED: Final = "succeeded"
PARTIALLY_REFUNDED: Final = "partially_refunded"

PAYMENT_RANK: Final = {
    name: rank for rank, name in enumerate((PENDING, FAILED, CANCELED, SUCCEEDED, PARTIALLY_REFUNDED, REFUNDED))
}
"""A payment that failed may be tried again and succeed."""

UNPAID: Final = frozenset((PENDING, FAILED))

KEPT: Final[tuple[str, ...]] = (
    "order_type", "currency", "items", "plan_id", "subscription_id", "payment_intent_id", "payment_id", "refund_id",
    "reason", "metadata", "fulfillment_details", "organization_id", "cancellation_reason",
)  # fmt: skip
"""Fields of an order event that its document keeps as they were sent."""

ORDER_PREFIX: Final = "pi_"
"""What stands before an order's id in the id of its payment intent, so that a payment that names the intent alone leads
to the order."""


def moves(rank: dict[str, int], before: str | None, after: str) -> bool:
    """Whether a state that is told of lies beyond the one that stands."""
    return before is None or rank[after] > rank.get(before, -1)


def refund_takes(body: dict[str, Any], amount: str | None) -> int:
    """What a refund takes out of the wallet, nanos: all that its payment brought and that is not taken back yet, where
    it is wholly refunded with it; else at most that. `amount` None: all that is left of the payment."""
    left = parse_nanos(body["amount"]) - parse_nanos(body.get("refunded_amount", "0"))
    brought = parse_nanos(body.get("credited", "0")) - parse_nanos(body.get("taken_back", "0"))
    asked = left if amount is None else parse_nanos(amount)
    return brought if asked == left else min(asked, brought)


def order_of(data: dict[str, Any]) -> str | None:
    """The order that a payment's data is about: named, or the one whose intent it names."""
    named = data.get("order_id")
    if named is not None:
        return str(named)
    intent = data.get("payment_intent_id")
    if isinstance(intent, str) and intent.startswith(ORDER_PREFIX) and len(intent) > len(ORDER_PREFIX):
        return intent[len(ORDER_PREFIX) :]
    return None
