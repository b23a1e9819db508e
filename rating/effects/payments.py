"""Payments: what they bring to the wallet, and what a refund takes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rating.claims import INVOICE_PAYMENT, claim_identity
from rating.effects.credits import put_in
from rating.turn import Effect, Naming, Turn
from rating.wallet import check_balance, take_back
from schemas.account import PAID, Grant
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import PostingKind


def payment_completed(turn: Turn) -> None:
    """payment.completed: credits the wallet, unless it names the invoice it pays."""
    data = turn.event.data
    if data.get("invoice_id") is not None:
        return
    amount: int = data["amount"]
    grant = Grant(data["payment_id"], amount, amount, 0, 0, turn.event.occurred_at, PAID, ())
    put_in(turn, grant, data["currency"], PostingKind.DEPOSIT)


def payment_refunded(turn: Turn) -> None:
    """payment.refunded: takes back what a known payment brought to the wallet."""
    event, account = turn.event, turn.account
    payment_id = event.data["payment_id"]
    if payment_identity(event) not in turn.booked:
        raise InvalidInput("unknown_payment", f"payment {payment_id!r} is not known here", "/data/payment_id")
    if invoice_payment_identity(event) in turn.booked:
        return
    amount: int = event.data["amount"]
    check_balance(account.balance - amount)
    burnt = take_back(account, amount, payment_id)
    turn.post(PostingKind.REFUND, -amount, event.data["refund_id"], burnt)


def payment_identity(event: Event) -> bytes:
    """Under which the payment that a refund is about was booked."""
    return claim_identity(event.tenant, event.customer, "payment", event.data["payment_id"])


def invoice_payment_identity(event: Event) -> bytes:
    """What stands beside it if that payment paid an invoice."""
    return claim_identity(event.tenant, event.customer, INVOICE_PAYMENT, event.data["payment_id"])


EFFECTS: Final[dict[str, Effect]] = {
    "payment.completed": payment_completed,
    "payment.refunded": payment_refunded,
}
DOCUMENTS: Final[dict[str, Naming]] = {}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {
    "payment.refunded": lambda event: [payment_identity(event), invoice_payment_identity(event)],
}
