"""What payments of a void invoice become: of who pays afterwards they are the wallet's, until an invoice takes them.

The invoice is owed again, for its next revision bills it; what was paid of it and not given back is a credit of the
wallet, named after the invoice. It can be refunded like any payment, charges burn it, and the next invoice that becomes
final takes what is left of it. Of who pays in advance a payment is the wallet's anyway.
"""

from __future__ import annotations

from typing import Any

from rating.billing import VOID
from rating.effects.credits import paid_grant, put_in, tell_moved
from rating.effects.invoice_body import billing_of, money_text, now_of, set_paid
from rating.turn import Refused, Turn
from rating.wallet import take_back
from schemas.documents import PAYMENT
from schemas.invoice import money_of
from schemas.ledger import PostingKind
from schemas.money import format_nanos, parse_nanos
from schemas.period import format_time


def free_payments(turn: Turn, body: dict[str, Any]) -> None:
    """Of an invoice that is taken back. The event has to name the documents of its `payments`: Refused `stale` where
    there is one more by now."""
    if body["collection"] != "postpaid" or not body["payments"]:
        return
    named = turn.event.data.get("payments") or ()
    if any(one["payment_id"] not in named for one in body["payments"]):
        raise Refused("stale", "a payment came in for the invoice meanwhile")
    turn.account.receivable += money_of(body, "amount_paid")
    freed = sum(_freed(turn, one["payment_id"], money_of(one, "applied")) for one in body["payments"])
    if freed:
        put_in(turn, paid_grant(turn, _credit_id(body["id"]), freed), body["currency"], PostingKind.DEPOSIT)


def _freed(turn: Turn, payment_id: str, applied: int) -> int:
    """What of a payment paid the invoice and was not given back. A payment without a document is what an earlier void
    left."""
    payment = turn.document(PAYMENT, payment_id)
    if payment is None:
        return applied
    freed = applied - (parse_nanos(payment["refunded_amount"]) - parse_nanos(payment["taken_back"]))
    credited = parse_nanos(payment["credited"]) + freed
    turn.put(PAYMENT, payment_id, {**payment, "credited": format_nanos(credited), "updated_at": format_time(turn.now)})
    return freed


def take_freed(turn: Turn, body: dict[str, Any]) -> None:
    """What payments of void invoices left pays an invoice that becomes final, as far as it is there."""
    if body["collection"] != "postpaid":
        return
    account = turn.account
    for one in billing_of(turn)["invoices"]:
        name = _credit_id(one["id"])
        grant = next((grant for grant in account.grants if grant.credit_id == name), None)
        part = min(grant.remaining, money_of(body, "amount_due")) if grant is not None else 0
        if one["state"] != VOID or part <= 0:
            continue
        burnt = take_back(account, part, name)
        account.receivable -= part
        turn.post(PostingKind.ADJUSTMENT, -part, body["id"], burnt)
        tell_moved(turn, PostingKind.ADJUSTMENT, -part, body["id"])
        amount = money_text(body, part)
        payment = {"payment_id": name, "amount": amount, "applied": amount, "at": format_time(now_of(turn))}
        body["payments"] = [*body["payments"], payment]
        set_paid(body, money_of(body, "amount_paid") + part)


def _credit_id(invoice_id: str) -> str:
    return f"{invoice_id}:payments"
