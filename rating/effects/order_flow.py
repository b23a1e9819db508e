"""How an order goes on: its document, the events that tell of it, and the customer's list of open orders.

An order of ours (`origin` api) is moved by what happens to its payment; one that another service runs (`origin` event)
is moved by what that service says, and only keeps note of its payment.
"""

from __future__ import annotations

from typing import Any, Final

from rating.orders import ALLOWED, COMPLETED, FULFILLED, OPEN, ORDER_RANK, moves
from rating.turn import Refused, Turn
from schemas import commands
from schemas.documents import CUSTOMER, ORDER
from schemas.invoicing_commands import SUBSCRIPTION_CHANGE, SUBSCRIPTION_CREATE
from schemas.limits import ID_MAX_CHARACTERS
from schemas.money import format_nanos, parse_nanos
from schemas.period import format_time

Body = dict[str, Any]

OPEN_ORDERS: Final = "open_orders"
"""In the customer's document: by order id, the subscription it is about, or empty."""

OPEN_ORDERS_MAX: Final = 500
"""A customer with more orders unpaid has the oldest of them left to expire by itself."""

_TOLD: Final = (
    "order_id", "order_type", "status", "total_amount", "currency", "credit_amount", "items", "plan_id",
    "subscription_id", "payment_intent_id", "payment_id", "refund_id", "reason", "expires_at", "fulfillment_details",
)  # fmt: skip


def put_order(turn: Turn, body: Body) -> Body:
    """Writes an order down, and whether it is open."""
    body |= {"updated_at": format_time(turn.now)}
    turn.put(ORDER, body["order_id"], body)
    customer = turn.document(CUSTOMER, turn.event.customer)
    if customer is not None:
        _note_open(turn, customer, body)
    return body


def _note_open(turn: Turn, customer: Body, body: Body) -> None:
    listed: dict[str, str] = customer.get(OPEN_ORDERS) or {}
    order_id = body["order_id"]
    if body["status"] in OPEN:
        if order_id in listed or len(listed) >= OPEN_ORDERS_MAX:
            return
        listed[order_id] = body.get("subscription_id") or ""
    elif listed.pop(order_id, None) is None:
        return
    turn.put(CUSTOMER, turn.event.customer, {**customer, OPEN_ORDERS: listed})


def move_order(turn: Turn, body: Body, status: str, **more: Any) -> Body:
    """Moves an order of ours on and tells of it. Refused from a state that does not allow it."""
    if body["status"] not in ALLOWED[status]:
        raise Refused("illegal_state", f"the order is {body['status']}")
    at = format_time(turn.now)
    body = put_order(turn, {**body, "status": status, f"{status}_at": at, **more})
    tell_order(turn, f"order.{status}", body)
    return body


def tell_order(turn: Turn, event_type: str, body: Body) -> None:
    """An event of ours about an order."""
    told = {name: body[name] for name in _TOLD if body.get(name) is not None}
    turn.emit(event_type, {"user_id": turn.event.customer, **told})


def pay_order(turn: Turn, body: Body, payment_id: str, amount: int) -> None:
    """An order's payment came in. Paid in full, an order of ours is completed, one of credits fulfilled with it."""
    paid = parse_nanos(body.get("amount_paid", "0")) + amount
    body |= {"payment_id": body.get("payment_id") or payment_id, "amount_paid": format_nanos(paid)}
    whole = paid >= parse_nanos(body.get("total_amount") or "0")
    if body.get("origin") != "api" or not whole or not moves(ORDER_RANK, body["status"], COMPLETED):
        put_order(turn, body)
        return
    body = move_order(turn, body, COMPLETED)
    if body["order_type"] == "credits":
        move_order(turn, body, FULFILLED)
    elif body["order_type"] == "subscription" and body.get("plan_id"):
        _subscribe(turn, body)


def _subscribe(turn: Turn, body: Body) -> None:
    """The plan that was bought, for the subscription that the customer has or for a new one; decided next, and with it
    whether that fulfils the order."""
    account, at = turn.account, turn.now
    span = account.span_at(at)
    has = span.subscription_id if span is not None and span.plan else ""
    subscription_id = has or body.get("subscription_id") or f"sub_{body['order_id']}"[:ID_MAX_CHARACTERS]
    turn.command(
        turn.event.customer,
        SUBSCRIPTION_CHANGE if has else SUBSCRIPTION_CREATE,
        f"order:{body['order_id']}"[:ID_MAX_CHARACTERS],
        {"subscription_id": subscription_id, "plan_id": body["plan_id"]},
    )
    turn.command(
        turn.event.customer,
        commands.ORDER_FULFILL,
        f"fulfill:{body['order_id']}"[:ID_MAX_CHARACTERS],
        {"order_id": body["order_id"], "fulfillment_details": {"subscription_id": subscription_id}},
    )


def cancel_open_orders(turn: Turn, reason: str, subscription_id: str | None = None) -> None:
    """Cancels the customer's unpaid orders, or those about one subscription; the event has to name the customer's
    document."""
    listed = (turn.document(CUSTOMER, turn.event.customer) or {}).get(OPEN_ORDERS) or {}
    for order_id in sorted(listed):
        if subscription_id is None or listed[order_id] == subscription_id:
            turn.command(
                turn.event.customer,
                commands.ORDER_CANCEL,
                f"cancel:{order_id}"[:ID_MAX_CHARACTERS],
                {"order_id": order_id, "reason": reason},
            )


def order_documents(order_id: str | None) -> list[tuple[str, str]]:
    """An order's own."""
    return [] if order_id is None else [(ORDER, order_id)]
