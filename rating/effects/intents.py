"""Payment intents: asked for, failed, canceled. What they bring when they are paid is `payments`' business."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rating.effects.credits import currency_of, customer_named, open_wallet
from rating.orders import CANCELED, FAILED, PAYMENT_RANK, PENDING, UNPAID, moves
from rating.turn import Effect, Naming, NoEffect, Refused, Turn
from schemas import commands
from schemas.documents import PAYMENT
from schemas.event import Event
from schemas.money import format_nanos
from schemas.period import format_time

Body = dict[str, Any]

_TOLD: Final = (
    "payment_id", "payment_intent_id", "status", "amount", "currency", "order_id", "invoice_id", "reason",
)  # fmt: skip


def named(**fields: Any) -> Body:
    """The fields that are there."""
    return {name: value for name, value in fields.items() if value is not None}


def told_of(body: Body) -> Body:
    """What an event of ours says of a payment."""
    return {name: body[name] for name in _TOLD if name in body}


def intent_body(turn: Turn, intent_id: str, amount: int, currency: str, status: str, **more: Any) -> Body:
    """An intent as its document has it, with what its event says of it."""
    data = turn.event.data
    kept = {name: data.get(name) for name in ("order_id", "invoice_id", "description", "metadata", "reason")}
    return {
        "object": "intent",
        "payment_intent_id": intent_id,
        "status": status,
        "amount": format_nanos(amount),
        "currency": currency,
        **named(**{**kept, **more}),
    }


def put_intent(turn: Turn, body: Body) -> None:
    """Writes a new intent down and tells of it."""
    at = format_time(turn.now)
    body |= {"created_at": at, "updated_at": at}
    turn.put(PAYMENT, body["payment_intent_id"], body)
    turn.emit("payment.intent.created", {"user_id": turn.event.customer, **told_of(body)})


def intent_created(turn: Turn) -> None:
    """payment.intent.created: a payment that another service waits for."""
    data = turn.event.data
    _move(turn, intent_body(turn, data["payment_intent_id"], data["amount"], data["currency"], PENDING))


def payment_failed(turn: Turn) -> None:
    """payment.failed: it may be tried again, and its order waits."""
    data = turn.event.data
    error = data.get("error")
    body = intent_body(turn, data["payment_intent_id"], data["amount"], data["currency"], FAILED, error=error)
    body = _move(turn, body)
    turn.emit("payment.failed", {"user_id": turn.event.customer, **told_of(body), **named(error=body.get("error"))})


def create_intent(turn: Turn) -> None:
    """tollgate.payment.create: asks for a payment."""
    data = turn.event.data
    intent_id = data["payment_intent_id"]
    if turn.document(PAYMENT, intent_id) is not None:
        raise Refused("payment_exists", f"the payment {intent_id!r} is there already")
    body = intent_body(turn, intent_id, data["amount"], currency_of(turn), PENDING)
    open_wallet(turn)
    put_intent(turn, body)
    turn.result.update(request=data.get("request"), payment=body)


def cancel_intent(turn: Turn) -> None:
    """tollgate.payment.cancel: it is no longer asked for."""
    data = turn.event.data
    intent_id = data["payment_intent_id"]
    body = turn.document(PAYMENT, intent_id)
    if body is None or body["status"] not in UNPAID:
        raise Refused("illegal_state", f"the payment is {body['status'] if body else 'not known'}")
    body |= {"status": CANCELED, "updated_at": format_time(turn.now)}
    turn.put(PAYMENT, intent_id, body)
    turn.emit("payment.canceled", {"user_id": turn.event.customer, **told_of(body)})
    turn.result.update(request=data.get("request"), payment=body)


def close_intent(turn: Turn, intent_id: str) -> None:
    """An order's intent ends with the order, unless it was paid."""
    body = turn.document(PAYMENT, intent_id)
    if body is not None and body["status"] in UNPAID:
        turn.put(PAYMENT, intent_id, {**body, "status": CANCELED, "updated_at": format_time(turn.now)})


def _move(turn: Turn, body: Body) -> Body:
    intent_id = body["payment_intent_id"]
    stands = turn.document(PAYMENT, intent_id) or {}
    before = stands.get("status")
    if not (before == body["status"] == FAILED) and not moves(PAYMENT_RANK, before, body["status"]):
        raise NoEffect
    at = format_time(turn.now)
    after = {"created_at": at, **stands, **body, "object": stands.get("object", "intent"), "updated_at": at}
    turn.put(PAYMENT, intent_id, after)
    return after


def intent_documents(event: Event) -> list[tuple[str, str]]:
    """The customer's and the intent's."""
    return [*customer_named(event), (PAYMENT, event.data["payment_intent_id"])]


EFFECTS: Final[dict[str, Effect]] = {
    "payment.intent.created": intent_created,
    "payment.failed": payment_failed,
    commands.PAYMENT_CREATE: create_intent,
    commands.PAYMENT_CANCEL: cancel_intent,
}
DOCUMENTS: Final[dict[str, Naming]] = dict.fromkeys(EFFECTS, intent_documents)
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
