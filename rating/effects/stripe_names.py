"""What our objects are called in Stripe: written into their documents, once Stripe has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rating.turn import Effect, Naming, NoEffect, Turn
from schemas.documents import CUSTOMER, INVOICE, PAYMENT
from schemas.event import Event
from schemas.stripe_commands import STRIPE_CUSTOMER, STRIPE_INVOICE, STRIPE_PAYMENT


def name_customer(turn: Turn) -> None:
    """tollgate.stripe.customer: the first name stands."""
    body = turn.document(CUSTOMER, turn.event.customer) or {}
    if body.get("stripe_customer_id"):
        raise NoEffect
    turn.put(CUSTOMER, turn.event.customer, {**body, "stripe_customer_id": turn.event.data["stripe_customer_id"]})


def name_invoice(turn: Turn) -> None:
    """tollgate.stripe.invoice: what it is called there, and how it stands there."""
    data = turn.event.data
    _merge(
        turn,
        INVOICE,
        data["invoice_id"],
        {
            "stripe_invoice_id": data["stripe_invoice_id"],
            "stripe_status": data["stripe_status"],
            "payment_url": data.get("url") or None,
        },
    )


def name_payment(turn: Turn) -> None:
    """tollgate.stripe.payment: what it is called there, and the secret with which its customer's browser pays it."""
    data = turn.event.data
    names = {
        "stripe_payment_intent_id": data["stripe_payment_intent_id"],
        "client_secret": data.get("client_secret") or None,
    }
    _merge(turn, PAYMENT, data["payment_intent_id"], names)


def _merge(turn: Turn, kind: str, document_id: str, names: dict[str, Any]) -> None:
    body = turn.document(kind, document_id)
    if body is None or all(body.get(name) == value for name, value in names.items()):
        raise NoEffect
    turn.put(kind, document_id, {**body, **names})


EFFECTS: Final[dict[str, Effect]] = {
    STRIPE_CUSTOMER: name_customer,
    STRIPE_INVOICE: name_invoice,
    STRIPE_PAYMENT: name_payment,
}
DOCUMENTS: Final[dict[str, Naming]] = {
    STRIPE_CUSTOMER: lambda event: [(CUSTOMER, event.customer)],
    STRIPE_INVOICE: lambda event: [(INVOICE, event.data["invoice_id"])],
    STRIPE_PAYMENT: lambda event: [(PAYMENT, event.data["payment_intent_id"])],
}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
