"""Payments: intents, what they bring to the wallet, and what a refund takes back.

A payment's document stands under its payment id, its intent's under the intent's id; where the two ids are one, so is
the document. A wallet is credited once for an order, by its payment or by its completion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rating.effects.collecting import ask_refunded, pay
from rating.effects.credits import customer_named, open_wallet, paid_grant, put_in, tell_moved
from rating.effects.intents import named, told_of
from rating.effects.invoice_body import invoice_documents
from rating.effects.order_flow import order_documents, pay_order
from rating.orders import PARTIALLY_REFUNDED, REFUNDED, SUCCEEDED, UNPAID, order_of, refund_takes
from rating.turn import Effect, Naming, Refused, Turn
from rating.wallet import check_balance, payable, take_back
from schemas import commands, documents
from schemas.claims import INVOICE_PAYMENT, ORDER, PAYMENT, claim_identity, claim_of
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import PostingKind
from schemas.money import format_nanos, parse_nanos
from schemas.period import format_time

Body = dict[str, Any]


def payment_completed(turn: Turn) -> None:
    """payment.completed: credits the wallet, unless it names the invoice it pays."""
    data = turn.event.data
    complete(turn, data["payment_id"], data.get("payment_intent_id"), data["amount"], data["currency"])


def complete(turn: Turn, payment_id: str, intent_id: str | None, amount: int, currency: str) -> None:
    """A payment that came in: the wallet or the invoice has it, its order goes on, its documents say so."""
    data = turn.event.data
    open_wallet(turn)
    intent = turn.document(documents.PAYMENT, intent_id) if intent_id and intent_id != payment_id else None
    stands = turn.document(documents.PAYMENT, payment_id) or {}
    invoice_id, order_id = data.get("invoice_id"), order_of(data)
    order = turn.document(documents.ORDER, order_id) if order_id is not None else None
    if order_id is not None and order is None and data.get("order_id") is None:
        order_id = None  # an intent of somebody else's, which only looks like an order's
    credited = 0
    if invoice_id is None:
        credited = _credit(turn, payment_id, amount, currency, order_id, order)
    else:
        credited = pay(turn, invoice_id, payment_id, amount)
    at = format_time(turn.now)
    body = {
        "created_at": at,
        "refunded_amount": "0",
        "taken_back": "0",
        **stands,
        "object": "payment",
        "payment_id": payment_id,
        "status": SUCCEEDED,
        "amount": format_nanos(amount),
        "currency": currency,
        "credited": format_nanos(credited),
        "completed_at": at,
        "updated_at": at,
        **named(payment_intent_id=intent_id, order_id=order_id, invoice_id=invoice_id),
    }
    turn.put(documents.PAYMENT, payment_id, body)
    if intent is not None and intent_id is not None:
        told = {**intent, "status": SUCCEEDED, "payment_id": payment_id, "updated_at": at}
        turn.put(documents.PAYMENT, intent_id, told)
    _tell(turn, "payment.completed", body)
    if order is not None:
        pay_order(turn, order, payment_id, amount)
    turn.result["payment"] = body


def _credit(turn: Turn, payment_id: str, amount: int, currency: str, order_id: str | None, order: Body | None) -> int:
    """Into the wallet, once for an order; what stands in it for this payment."""
    if order_id is not None:
        claim = claim_of(turn.event, ORDER, order_id)
        if claim.identity in turn.booked:
            # Its completion brought the credit; of a second payment for it there is none.
            credited = parse_nanos((order or {}).get("credited", "0"))
            return credited if order is not None and order.get("payment_id") in (None, payment_id) else 0
        turn.claim(claim.identity, claim.content)
        if order is not None and order.get("credit_amount") and amount >= parse_nanos(order.get("total_amount", "0")):
            amount = parse_nanos(order["credit_amount"])
    if amount:
        put_in(turn, paid_grant(turn, payment_id, amount), currency, PostingKind.DEPOSIT)
    return amount


def payment_refunded(turn: Turn) -> None:
    """payment.refunded: takes back what a known payment brought to the wallet."""
    data = turn.event.data
    refund_of_payment(turn, data["payment_id"], data["refund_id"], data["amount"])


def refund_of_payment(turn: Turn, payment_id: str, refund_id: str, amount: int) -> str:
    """A refund, bounded by its payment; the place of its posting, empty where the wallet had nothing of it."""
    event, account = turn.event, turn.account
    if claim_identity(event.tenant, event.customer, PAYMENT, payment_id) not in turn.booked:
        raise InvalidInput("unknown_payment", f"payment {payment_id!r} is not known here", "/data/payment_id")
    paid_invoice = claim_identity(event.tenant, event.customer, INVOICE_PAYMENT, payment_id) in turn.booked
    body = turn.document(documents.PAYMENT, payment_id)
    take = amount
    if body is not None:
        paid, refunded = parse_nanos(body["amount"]), parse_nanos(body["refunded_amount"]) + amount
        if refunded > paid:
            raise InvalidInput(
                "refund_too_large",
                f"{format_nanos(refunded)} of payment {payment_id!r} would be refunded, it was {body['amount']}",
                "/data/amount",
            )
        # A payment that is wholly refunded leaves nothing, nor what its order gave on top.
        take = refund_takes(body, format_nanos(amount))
        if body.get("invoice_id"):
            ask_refunded(turn, body["invoice_id"], payment_id, refund_id, amount)
    place = ""
    if paid_invoice and body is None:
        take = 0
    if take:
        check_balance(account.balance - take)
        burnt = take_back(account, take, payment_id)
        place = turn.post(PostingKind.REFUND, -take, refund_id, burnt)
        tell_moved(turn, PostingKind.REFUND, -take, refund_id, payment_id=payment_id)
    if body is not None:
        _note_refund(turn, body, refund_id, amount, take)
    return place


def _note_refund(turn: Turn, body: Body, refund_id: str, amount: int, taken: int) -> None:
    at = format_time(turn.now)
    refunded = parse_nanos(body["refunded_amount"]) + amount
    whole = refunded == parse_nanos(body["amount"])
    body |= {
        "status": REFUNDED if whole else PARTIALLY_REFUNDED,
        "refunded_amount": format_nanos(refunded),
        "taken_back": format_nanos(parse_nanos(body["taken_back"]) + taken),
        "refunds": [*body.get("refunds", ()), {"refund_id": refund_id, "amount": format_nanos(amount), "at": at}],
        "updated_at": at,
    }
    turn.put(documents.PAYMENT, body["payment_id"], body)
    reason = turn.event.data.get("reason")
    told = {"refund_id": refund_id, "amount": format_nanos(amount), **named(reason=reason)}
    _tell(turn, "payment.refunded", body, **told)
    if body.get("order_id") is not None and whole and turn.event.type != commands.ORDER_REFUND:
        turn.command(
            turn.event.customer,
            commands.ORDER_MARK,
            f"{body['payment_id']}:{refund_id}"[:200],
            {"order_id": body["order_id"], "status": REFUNDED, "refund_id": refund_id},
        )


def complete_payment(turn: Turn) -> None:
    """tollgate.payment.complete: an intent of ours was paid, as its sender knows."""
    data = turn.event.data
    intent_id = data["payment_intent_id"]
    intent = turn.document(documents.PAYMENT, intent_id)
    if intent is None:
        raise Refused("unknown_payment", f"there is no payment {intent_id!r}")
    if intent["status"] not in UNPAID:
        raise Refused("illegal_state", f"the payment is {intent['status']}")
    payment_id = data.get("payment_id") or intent_id
    amount, currency = parse_nanos(intent["amount"]), intent["currency"]
    claim = claim_of(turn.event, PAYMENT, payment_id, str(amount), currency)
    if claim.identity in turn.booked:
        raise Refused("payment_exists", f"the payment {payment_id!r} is booked already")
    turn.claim(claim.identity, claim.content)
    if data.get("invoice_id") is not None:
        paying = claim_of(turn.event, INVOICE_PAYMENT, payment_id)
        turn.claim(paying.identity, paying.content)
    try:
        complete(turn, payment_id, intent_id, amount, currency)
    except InvalidInput as fault:
        raise Refused(fault.reason, fault.detail) from None
    turn.result["request"] = data.get("request")


def refund_payment(turn: Turn) -> None:
    """tollgate.payment.refund: all that is left of a payment, or an amount of it; as far as the wallet has it."""
    data = turn.event.data
    payment_id, refund_id = data["payment_id"], data.get("refund_id") or turn.event.id
    body = turn.document(documents.PAYMENT, payment_id)
    if body is None or body["status"] not in (SUCCEEDED, PARTIALLY_REFUNDED):
        raise Refused("illegal_state", f"the payment is {body['status'] if body else 'not known'}")
    left = parse_nanos(body["amount"]) - parse_nanos(body["refunded_amount"])
    amount: int = data.get("amount") or left
    check_payable(turn, body, amount)
    try:
        refund_of_payment(turn, payment_id, refund_id, amount)
    except InvalidInput as fault:
        raise Refused(fault.reason, fault.detail) from None
    after = turn.document(documents.PAYMENT, payment_id)
    turn.result.update(request=data.get("request"), refund_id=refund_id, payment=after)


def check_payable(turn: Turn, body: Body, amount: int) -> None:
    """Refused where the wallet has spent what a refund of ours would take back. Its hold ends with it."""
    takes, there = refund_takes(body, format_nanos(amount)), payable(turn.account)
    hold_id = turn.event.data.get("hold_id")
    if hold_id is not None and takes > 0:
        turn.end_hold(hold_id, "settled", takes)
    if takes > there:
        raise Refused("insufficient_funds", f"the wallet has {format_nanos(there)} left to refund")


def _tell(turn: Turn, event_type: str, body: Body, **more: Any) -> None:
    turn.emit(event_type, {"user_id": turn.event.customer, **told_of(body), **more})


def payment_documents(event: Event) -> list[tuple[str, str]]:
    """What a payment that came in looks at."""
    data = event.data
    ids = [data[name] for name in ("payment_id", "payment_intent_id") if data.get(name)]
    named_here = customer_named(event) + [(documents.PAYMENT, of) for of in ids] + order_documents(order_of(data))
    return named_here + (invoice_documents(event.customer, data["invoice_id"]) if data.get("invoice_id") else [])


def payment_identities(event: Event) -> list[bytes]:
    """Of a payment that is said to have come in: its own claim, and its order's."""
    payment_id = event.data.get("payment_id") or event.data["payment_intent_id"]
    return [claim_of(event, PAYMENT, payment_id).identity, *order_identity(event)]


def order_identity(event: Event) -> list[bytes]:
    """The claim of the order that a payment is for."""
    order_id = order_of(event.data)
    return [] if order_id is None else [claim_of(event, ORDER, order_id).identity]


def refund_identities(event: Event) -> list[bytes]:
    """Of a refund: the claims of the payment it is about."""
    payment_id = event.data.get("payment_id")
    if payment_id is None:
        return []
    return [claim_identity(event.tenant, event.customer, kind, payment_id) for kind in (PAYMENT, INVOICE_PAYMENT)]


EFFECTS: Final[dict[str, Effect]] = {
    "payment.completed": payment_completed,
    "payment.refunded": payment_refunded,
    commands.PAYMENT_COMPLETE: complete_payment,
    commands.PAYMENT_REFUND: refund_payment,
}
DOCUMENTS: Final[dict[str, Naming]] = dict.fromkeys(EFFECTS, payment_documents)
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {
    "payment.completed": order_identity,
    "payment.refunded": refund_identities,
    commands.PAYMENT_COMPLETE: payment_identities,
    commands.PAYMENT_REFUND: refund_identities,
}
