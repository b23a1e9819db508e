"""What the effects about invoices have in common: the bodies they read and write, and how they tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rating.billing import Billing, new_billing
from rating.turn import Refused, Turn
from schemas import invoicing_commands as types
from schemas.currencies import format_minor, round_to_minor
from schemas.documents import COUNTER, INVOICE, SUBSCRIPTION
from schemas.event import Event
from schemas.invoice import money_of
from schemas.money import format_nanos
from schemas.period import format_time

TAKEN_AT_ONCE: Final = frozenset({"fee", "minimum", "discount", "tax"})
"""Kinds of lines that finalization takes; usage and its adjustments were charged as they came."""


def now_of(turn: Turn) -> int:
    """The customer's time: its test clock's, or the event's."""
    return turn.account.clock or turn.event.occurred_at


def invoice_documents(customer: str, invoice_id: str) -> list[tuple[str, str]]:
    """What an event must name whose effect pays an invoice."""
    return [(INVOICE, invoice_id), (COUNTER, types.billing_id(customer))]


def mark_paid(turn: Turn, body: dict[str, Any], at: int) -> None:
    """Nothing is due any more; whoever waited for it is told."""
    body |= {"state": "paid", "paid_at": format_time(at)}
    # What rounding made of the lines is no longer owed, nor owed more than was billed.
    turn.account.receivable -= _rounded_off(body)
    tell(turn, "invoice.paid", body)
    if body["subscription_id"]:
        turn.command(
            turn.event.customer,
            types.SUBSCRIPTION_PAID,
            f"paid:{body['id']}",
            {"subscription_id": body["subscription_id"]},
        )


def unmark_paid(turn: Turn, body: Mapping[str, Any]) -> None:
    """An invoice that asked for nothing is void: what its rounding made is owed again, or no longer."""
    if body["state"] == "paid":
        turn.account.receivable += _rounded_off(body)


def _rounded_off(body: Mapping[str, Any]) -> int:
    """Of an invoice that is paid afterwards: what its charges were more than its lines say."""
    if body["collection"] != "postpaid":
        return 0
    return sum(
        money_of(line, "exact_amount") - money_of(line, "amount")
        for line in body["lines"]
        if line["kind"] not in TAKEN_AT_ONCE
    )


def set_paid(body: dict[str, Any], paid: int) -> None:
    """So many nanos are paid of it."""
    body["amount_paid"] = money_text(body, paid)
    body["amount_due"] = money_text(body, max(money_of(body, "total") - paid, 0))


def debt_of(turn: Turn) -> int:
    """What the wallet owes, nanos: what its credits have left above its balance."""
    account = turn.account
    return sum(grant.remaining for grant in account.grants) - account.balance


def money_text(body: Mapping[str, Any], nanos: int) -> str:
    """An amount with the places of the invoice's currency, or all it has where a payment has more."""
    currency = body["currency"]
    return format_minor(nanos, currency) if round_to_minor(nanos, currency) == nanos else format_nanos(nanos)


def invoice_named(turn: Turn) -> dict[str, Any]:
    """The invoice that a command names. Refused `not_found`."""
    invoice_id = turn.event.data["invoice_id"]
    body = turn.document(INVOICE, invoice_id)
    if body is None:
        raise Refused("not_found", f"there is no invoice {invoice_id!r}")
    return body


def billing_of(turn: Turn) -> Billing:
    """The customer's billing document."""
    return turn.document(COUNTER, types.billing_id(turn.event.customer)) or new_billing()


def tell(turn: Turn, event_type: str, body: Mapping[str, Any]) -> None:
    """An `invoice.*` event."""
    names = ("number", "kind", "state", "currency", "period", "subtotal", "tax", "total", "amount_paid", "amount_due")
    data = {name: body[name] for name in names}
    turn.emit(
        event_type,
        {
            "invoice_id": body["id"],
            "user_id": turn.event.customer,
            **data,
            "due_at": body["due_at"],
            "subscription_id": body["subscription_id"],
        },
    )


def names(event: Event) -> list[tuple[str, str]]:
    """What a command about an invoice must find read."""
    named = invoice_documents(event.customer, event.data["invoice_id"])
    subscription_id = event.data.get("subscription_id")
    return [*named, (SUBSCRIPTION, subscription_id)] if subscription_id else named
