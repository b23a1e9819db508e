"""Orders: what other services tell of theirs, and what is asked of ours.

order → payment intent → payment → wallet → completed → fulfilled; unpaid it expires. An order of credits puts its
credit into the wallet once, whoever tells of it first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rating.effects.credits import currency_of, customer_named, open_wallet, paid_grant, put_in
from rating.effects.intents import close_intent, intent_body, named, put_intent
from rating.effects.order_flow import move_order, order_documents, put_order, tell_order
from rating.effects.payments import check_payable, refund_identities, refund_of_payment
from rating.orders import (
    CANCELED,
    COMPLETED,
    CREATED,
    EXPIRED,
    FULFILLED,
    KEPT,
    OPEN,
    ORDER_PREFIX,
    ORDER_RANK,
    PAYMENT_PENDING,
    PENDING,
    REFUNDED,
    moves,
)
from rating.turn import Effect, Naming, NoEffect, Refused, Turn
from schemas import commands, documents
from schemas.claims import ORDER, claim_of
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import PostingKind
from schemas.money import format_nanos, parse_nanos
from schemas.period import SECOND, format_time

UNPAID_SECONDS: Final = 30 * 60
"""An order that is not paid by then expires."""

Body = dict[str, Any]

_STATES: Final = {
    "order.created": CREATED,
    "order.payment_pending": PAYMENT_PENDING,
    "order.completed": COMPLETED,
    "order.fulfilled": FULFILLED,
    "order.expired": EXPIRED,
    "order.canceled": CANCELED,
    "order.refunded": REFUNDED,
}


def order_told(turn: Turn) -> None:
    """order.*: another service's order has come to a state, or has changed."""
    event, data = turn.event, turn.event.data
    order_id = data["order_id"]
    stands = turn.document(documents.ORDER, order_id)
    before = stands["status"] if stands is not None else None
    told = _STATES.get(event.type)
    open_wallet(turn)
    at = format_time(turn.now)
    forward = told is not None and moves(ORDER_RANK, before, told)
    body: Body = {"order_id": order_id, "origin": "event", "created_at": at, **(stands or {}), **_fields(data)}
    body["status"] = told if told is not None and forward else before or CREATED
    if told is not None and forward:
        body[f"{told}_at"] = at
    credited = _credit(turn, body) if event.type == "order.completed" else None
    if credited is not None:
        body["credited"] = format_nanos(credited)
    nothing = stands is None and told is None and not _fields(data)
    if nothing or body == stands or (told is not None and not forward and credited is None):
        raise NoEffect
    put_order(turn, body)


def _fields(data: Body) -> Body:
    """What of an order event its document keeps; a later `changes` goes before what it says beside it."""
    kept = {name: data[name] for name in KEPT if data.get(name) is not None}
    for name in ("total_amount", "credit_amount"):
        if isinstance(data.get(name), int):
            kept[name] = format_nanos(data[name])
    if isinstance(data.get("expires_at"), int):
        kept["expires_at"] = format_time(data["expires_at"])
    changes = data.get("changes")
    if isinstance(changes, dict):
        kept["changes"] = changes
    return kept


def _credit(turn: Turn, body: Body) -> int | None:
    """The credit of a completed order, nanos; None where it brings none, or its payment brought it."""
    if body.get("order_type") != "credits":
        return None
    claim = claim_of(turn.event, ORDER, body["order_id"])
    worth = body.get("credit_amount") or body.get("amount_paid") or body.get("total_amount")
    if claim.identity in turn.booked or worth is None or not parse_nanos(worth):
        return None
    amount = parse_nanos(worth)
    grant = paid_grant(turn, body.get("payment_id") or body["order_id"], amount)
    try:
        currency = body.get("currency") or currency_of(turn)
    except Refused as unknown:
        raise InvalidInput(unknown.reason, unknown.detail, "/data/currency") from None
    put_in(turn, grant, currency, PostingKind.DEPOSIT)
    turn.claim(claim.identity, claim.content)
    return amount


def create_order(turn: Turn) -> None:
    """tollgate.order.create: an order of ours, with the intent that asks for its payment."""
    data = turn.event.data
    order_id = data["order_id"]
    if turn.document(documents.ORDER, order_id) is not None:
        raise Refused("order_exists", f"the order {order_id!r} is there already")
    if turn.account.closed_at:
        raise Refused("customer_closed", "the customer is closed")
    total: int = data["total_amount"]
    if total <= 0:
        raise Refused("out_of_range", "total_amount is not above zero")
    if data["order_type"] == "subscription" and not data.get("plan_id"):
        raise Refused("missing_field", "plan_id is missing: an order of a subscription buys a plan")
    plan_id, catalogue = data.get("plan_id"), turn.catalogue
    if plan_id is not None and (catalogue is None or catalogue.plan(plan_id) is None):
        raise Refused("unknown_plan", f"the catalogue has no plan {plan_id!r}")
    currency = currency_of(turn)
    intent_id = f"{ORDER_PREFIX}{order_id}"
    at = turn.now
    unpaid = data.get("expires_in_seconds") or UNPAID_SECONDS
    body: Body = {
        "order_id": order_id,
        "origin": "api",
        "status": CREATED,
        **_fields(data),
        "currency": currency,
        "payment_intent_id": intent_id,
        "created_at": format_time(at),
        "expires_at": format_time(at + unpaid * SECOND),
    }
    if data["order_type"] == "credits":
        body.setdefault("credit_amount", format_nanos(total))
    open_wallet(turn)
    tell_order(turn, "order.created", body)
    put_intent(turn, intent_body(turn, intent_id, total, currency, PENDING, order_id=order_id))
    _answer(turn, move_order(turn, body, PAYMENT_PENDING))


def update_order(turn: Turn) -> None:
    """tollgate.order.update: items and metadata of an order that is not paid."""
    body, data = _of_ours(turn), turn.event.data
    if body["status"] not in OPEN:
        raise Refused("illegal_state", f"the order is {body['status']}")
    changes = named(items=data.get("items"), metadata=data.get("metadata"), reason=data.get("reason"))
    body = put_order(turn, {**body, **changes})
    tell_order(turn, "order.updated", {**body, "updated_fields": sorted(changes)})
    _answer(turn, body)


def cancel_order(turn: Turn) -> None:
    """tollgate.order.cancel: an order that is not paid, and its intent with it."""
    body = _of_ours(turn)
    if body["status"] != CANCELED:
        body = _end(turn, body, CANCELED)
    _answer(turn, body)


def expire_order(turn: Turn) -> None:
    """tollgate.order.expire: an order that was not paid in time."""
    body = turn.document(documents.ORDER, turn.event.data["order_id"])
    if body is None or body["status"] not in OPEN:
        raise NoEffect
    _answer(turn, _end(turn, body, EXPIRED))


def _end(turn: Turn, body: Body, status: str) -> Body:
    body = move_order(turn, body, status, **named(reason=turn.event.data.get("reason")))
    close_intent(turn, f"{ORDER_PREFIX}{body['order_id']}")
    return body


def fulfill_order(turn: Turn) -> None:
    """tollgate.order.fulfill: what was bought is delivered."""
    body = _of_ours(turn)
    if body["status"] != FULFILLED:
        details = turn.event.data.get("fulfillment_details") or None
        subscription_id = _subscription_in(turn.event)
        if subscription_id is not None:
            bought = turn.document(documents.SUBSCRIPTION, subscription_id)
            if bought is None or bought["plan_id"] != body.get("plan_id"):
                raise Refused("illegal_state", f"the subscription {subscription_id!r} does not have the plan")
        body = move_order(turn, body, FULFILLED, **named(fulfillment_details=details))
    _answer(turn, body)


def refund_order(turn: Turn) -> None:
    """tollgate.order.refund: its payment goes back, as far as the wallet has it, and what it bought with it."""
    body, data = _of_ours(turn), turn.event.data
    payment_id = body.get("payment_id")
    if payment_id is None or payment_id != data.get("payment_id"):
        raise Refused("illegal_state", f"the order is {body['status']}, and no payment of it can be refunded")
    payment = turn.document(documents.PAYMENT, payment_id)
    if payment is None:
        raise Refused("unknown_payment", f"payment {payment_id!r} is not known")
    left = parse_nanos(payment["amount"]) - parse_nanos(payment["refunded_amount"])
    amount: int = data.get("amount") or left
    check_payable(turn, payment, amount)
    refund_id = data.get("refund_id") or turn.event.id
    try:
        refund_of_payment(turn, payment_id, refund_id, amount)
    except InvalidInput as fault:
        raise Refused(fault.reason, fault.detail) from None
    noted = {"refund_id": refund_id, "refunded_amount": format_nanos(parse_nanos(payment["refunded_amount"]) + amount)}
    if amount == left:
        body = move_order(turn, body, REFUNDED, **noted, **named(reason=data.get("reason")))
    else:
        body = put_order(turn, {**body, **noted})
    _answer(turn, body)


def mark_order(turn: Turn) -> None:
    """tollgate.order.mark: what became of its payment."""
    data = turn.event.data
    body = turn.document(documents.ORDER, data["order_id"])
    status = data["status"]
    if body is None or not moves(ORDER_RANK, body["status"], status):
        raise NoEffect
    at = format_time(turn.now)
    body = put_order(turn, {**body, "status": status, f"{status}_at": at, **named(refund_id=data.get("refund_id"))})
    tell_order(turn, f"order.{status}", body)
    _answer(turn, body)


def _subscription_in(event: Event) -> str | None:
    details = event.data.get("fulfillment_details")
    found = details.get("subscription_id") if isinstance(details, dict) else None
    return found if isinstance(found, str) and found else None


def _of_ours(turn: Turn) -> Body:
    order_id = turn.event.data["order_id"]
    body = turn.document(documents.ORDER, order_id)
    if body is None:
        raise Refused("unknown_order", f"there is no order {order_id!r}")
    return body


def _answer(turn: Turn, body: Body) -> None:
    turn.result.update(request=turn.event.data.get("request"), order=body)


def _documents(event: Event) -> list[tuple[str, str]]:
    order_id, payment_id = event.data["order_id"], event.data.get("payment_id")
    intent = [(documents.PAYMENT, f"{ORDER_PREFIX}{order_id}")]
    paid = [(documents.PAYMENT, payment_id)] if payment_id is not None else []
    subscription_id = _subscription_in(event)
    bought = [(documents.SUBSCRIPTION, subscription_id)] if subscription_id is not None else []
    return customer_named(event) + order_documents(order_id) + intent + paid + bought


def _claimed(event: Event) -> list[bytes]:
    return [claim_of(event, ORDER, event.data["order_id"]).identity]


EFFECTS: Final[dict[str, Effect]] = {
    **dict.fromkeys((*_STATES, "order.updated"), order_told),
    commands.ORDER_CREATE: create_order,
    commands.ORDER_UPDATE: update_order,
    commands.ORDER_CANCEL: cancel_order,
    commands.ORDER_EXPIRE: expire_order,
    commands.ORDER_FULFILL: fulfill_order,
    commands.ORDER_REFUND: refund_order,
    commands.ORDER_MARK: mark_order,
}
DOCUMENTS: Final[dict[str, Naming]] = dict.fromkeys(EFFECTS, _documents)
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {
    "order.completed": _claimed,
    commands.ORDER_REFUND: refund_identities,
}
