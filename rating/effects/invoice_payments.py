"""Payments of an invoice that come by command: what the payment of another service does, for whoever records one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rating.effects.invoice_body import invoice_named
from rating.effects.payments import complete, payment_documents, payment_identities
from rating.turn import Effect, Naming, Refused, Turn
from schemas import invoicing_commands as types
from schemas.claims import INVOICE_PAYMENT, PAYMENT, claim_of
from schemas.documents import INVOICE
from schemas.event import Event
from schemas.invoice import OWED, money_of


def pay_invoice(turn: Turn) -> None:
    """tollgate.invoice.pay: all that is due, or an amount."""
    data, body = turn.event.data, invoice_named(turn)
    if body["state"] not in OWED:
        raise Refused("state", f"the invoice is {body['state']}")
    payment_id, currency = data["payment_id"], body["currency"]
    amount: int = data.get("amount") or money_of(body, "amount_due")
    if data.get("currency") not in (None, currency):
        raise Refused("currency_mismatch", f"the invoice is in {currency}, not in {data['currency']}")
    claim = claim_of(turn.event, PAYMENT, payment_id, str(amount), currency)
    if claim.identity in turn.booked:
        raise Refused("payment_exists", f"the payment {payment_id!r} is booked already")
    turn.claim(claim.identity, claim.content)
    paying = claim_of(turn.event, INVOICE_PAYMENT, payment_id)
    turn.claim(paying.identity, paying.content)
    complete(turn, payment_id, None, amount, currency)
    turn.result["request"] = data.get("request")
    turn.result["invoice"] = turn.document(INVOICE, body["id"])


EFFECTS: Final[dict[str, Effect]] = {types.INVOICE_PAY: pay_invoice}
DOCUMENTS: Final[dict[str, Naming]] = {types.INVOICE_PAY: payment_documents}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {types.INVOICE_PAY: payment_identities}
