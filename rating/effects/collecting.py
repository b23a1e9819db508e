"""Invoices and money: payments that name one, attempts to collect, overdue, uncollectible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rating.billing import FINAL
from rating.effects.credits import paid_grant, put_in
from rating.effects.invoice_body import (
    billing_of,
    debt_of,
    invoice_named,
    mark_paid,
    money_text,
    names,
    now_of,
    set_paid,
    tell,
)
from rating.turn import Effect, Naming, NoEffect, Turn
from rating.wallet import settle_currency
from schemas import invoicing_commands as types
from schemas.documents import COUNTER, INVOICE
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.invoice import OWED, money_of
from schemas.ledger import PostingKind
from schemas.money import format_nanos
from schemas.period import format_time


def pay(turn: Turn, invoice_id: str, payment_id: str, amount: int) -> int:
    """A payment that names an invoice; what of it came to the wallet, nanos.

    Prepaid: all of it, for the invoice is the wallet's debt. Postpaid: it clears what is receivable, and what is more
    than is due stays in the wallet. InvalidInput `unknown_invoice` where there is none of this id: whose money it is
    cannot be told, so it waits as a dead letter until the invoice is there. The event has to name `invoice_documents`.
    """
    body = turn.document(INVOICE, invoice_id)
    if body is None:
        raise InvalidInput("unknown_invoice", f"invoice {invoice_id!r} is not known here", "/data/invoice_id")
    account, currency = turn.account, body["currency"]
    sent = turn.event.data.get("currency")
    if sent is not None and sent != currency:
        raise InvalidInput("currency_mismatch", f"the invoice is in {currency}, not in {sent}", "/data/currency")
    due = money_of(body, "amount_due") if body["state"] in OWED else 0
    applied = min(amount, due)
    to_wallet = amount if body["collection"] == "prepaid" else amount - applied
    if to_wallet:
        put_in(turn, paid_grant(turn, payment_id, to_wallet), currency, PostingKind.DEPOSIT)
    if body["collection"] == "postpaid":
        settle_currency(account, currency)
        account.receivable -= applied
    at = now_of(turn)
    body["payments"] = [
        *body["payments"],
        {
            "payment_id": payment_id,
            "amount": money_text(body, amount),
            "applied": money_text(body, applied),
            "at": format_time(at),
        },
    ]
    set_paid(body, money_of(body, "amount_paid") + applied)
    if applied == due and due:
        mark_paid(turn, body, at)
    turn.put(INVOICE, invoice_id, body)
    return to_wallet


def ask_refunded(turn: Turn, invoice_id: str, payment_id: str, refund_id: str, amount: int) -> None:
    """Has an invoice marked with the refund of a payment that named it, decided next."""
    turn.command(
        turn.event.customer,
        types.INVOICE_REFUNDED,
        f"refunded:{payment_id}:{refund_id}"[:200],
        {"invoice_id": invoice_id, "payment_id": payment_id, "refund_id": refund_id, "amount": format_nanos(amount)},
    )


def refunded(turn: Turn) -> None:
    """tollgate.invoice.refunded: the mark of a refund. The invoice stays as it is: what is given back is not asked for
    again."""
    body, data = turn.document(INVOICE, turn.event.data["invoice_id"]), turn.event.data
    if body is None:
        raise NoEffect
    refund = {
        "refund_id": data["refund_id"],
        "payment_id": data["payment_id"],
        "amount": money_text(body, data["amount"]),
        "at": format_time(now_of(turn)),
    }
    turn.put(INVOICE, body["id"], {**body, "refunds": [*body.get("refunds", ()), refund]})


def collect(turn: Turn) -> None:
    """tollgate.invoice.collect: paid, if the wallet is out of debt by now; else one more attempt has failed."""
    body = invoice_named(turn)
    if body["state"] not in OWED:
        raise NoEffect
    at = now_of(turn)
    if body["collection"] == "prepaid" and debt_of(turn) <= 0:
        set_paid(body, money_of(body, "total"))
        mark_paid(turn, body, at)
        turn.put(INVOICE, body["id"], body)
        return
    if turn.event.data.get("reason") == "top_up":
        raise NoEffect
    body["attempt_count"] = body.get("attempt_count", 0) + 1
    body["attempted_at"] = format_time(at)
    turn.put(INVOICE, body["id"], body)
    subscription_id = body["subscription_id"]
    if subscription_id:
        turn.command(
            turn.event.customer,
            types.SUBSCRIPTION_UNPAID,
            f"unpaid:{body['id']}:{body['attempt_count']}",
            {"subscription_id": subscription_id, "invoice_id": body["id"], "attempt_count": body["attempt_count"]},
        )


def collect_all(turn: Turn) -> None:
    """tollgate.invoices.collect: an attempt for each final invoice; those that owe nothing are not changed by it."""
    billing = billing_of(turn)
    for one in billing["invoices"]:
        if one["state"] == FINAL:
            turn.command(
                turn.event.customer,
                types.INVOICE_COLLECT,
                f"collect:{one['id']}:{turn.event.id}",
                {"invoice_id": one["id"], "reason": "top_up"},
            )


def overdue(turn: Turn) -> None:
    """tollgate.invoice.overdue: open, and its due time is past."""
    body = invoice_named(turn)
    if body["state"] != "open":
        raise NoEffect
    body["state"] = "overdue"
    turn.put(INVOICE, body["id"], body)
    tell(turn, "invoice.overdue", body)


def uncollectible(turn: Turn) -> None:
    """tollgate.invoice.uncollectible: no more is done to collect it; a payment is still taken."""
    body = invoice_named(turn)
    if body["state"] not in ("open", "overdue"):
        raise NoEffect
    body["state"] = "uncollectible"
    turn.put(INVOICE, body["id"], body)


def _billing_name(event: Event) -> list[tuple[str, str]]:
    return [(COUNTER, types.billing_id(event.customer))]


EFFECTS: Final[dict[str, Effect]] = {
    types.INVOICE_COLLECT: collect,
    types.INVOICES_COLLECT: collect_all,
    types.INVOICE_OVERDUE: overdue,
    types.INVOICE_REFUNDED: refunded,
    types.INVOICE_UNCOLLECTIBLE: uncollectible,
}
DOCUMENTS: Final[dict[str, Naming]] = {
    types.INVOICE_COLLECT: names,
    types.INVOICES_COLLECT: _billing_name,
    types.INVOICE_OVERDUE: names,
    types.INVOICE_REFUNDED: names,
    types.INVOICE_UNCOLLECTIBLE: names,
}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
