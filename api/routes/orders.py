"""Orders: credits or a plan, bought by a payment. An order asks for its payment, which completes it, or it expires."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api.answers import Amount, NextCursor, Time
from api.auth import needs
from api.bodies import JSON, described_body
from api.commanding import (
    COMMAND_RESPONSES,
    PENDING_RESPONSE,
    Key,
    body_of,
    carried_out,
    command,
    customer_in,
    optional_key,
    paid_out,
)
from api.cursors import decode_cursor, encode_cursor
from api.documents import documents
from api.pages import PAGE_ROWS, Cursor, Id, Limit
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, not_found
from api.tokens import Token
from rating.orders import refund_takes
from schemas import commands
from schemas.commands import operation_id
from schemas.documents import ORDER, PAYMENT, decode_body
from streams.commands import Operation

router = APIRouter(tags=["orders"], responses=PROBLEM_RESPONSES)

Reader = Annotated[Token, needs("usage:read")]
Writer = Annotated[Token, needs("wallet:write")]

_ID: Final = {"type": "string", "minLength": 1, "maxLength": 200}
_MONEY: Final = {"type": "string", "description": "Decimal text"}
_OBJECT: Final = {"type": "object"}
_ITEMS: Final = {"type": "array", "items": {"type": "object"}}
_REASON: Final = {"type": "string", "maxLength": 1000}
_ORDER: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["customer", "total_amount"],
    "properties": {
        "customer": _ID,
        "order_id": _ID,
        "order_type": {"type": "string", "description": "credits (default), subscription, …"},
        "total_amount": _MONEY,
        "currency": {"type": "string"},
        "credit_amount": {**_MONEY, "description": "What an order of credits puts into the wallet; else its total"},
        "plan_id": {**_ID, "description": "The plan that an order of a subscription buys"},
        "subscription_id": _ID,
        "items": _ITEMS,
        "metadata": _OBJECT,
        "expires_in_seconds": {"type": "integer", "minimum": 1, "description": "1800 where it is not said"},
    },
}


class Order(BaseModel):
    """An order as of the last event about it."""

    order_id: str
    customer: str
    order_type: str | None = None
    status: Annotated[
        str,
        Field(description="created, payment_pending, then completed, fulfilled, refunded; or expired, canceled"),
    ]
    total_amount: Amount | None = None
    currency: str | None = None
    credit_amount: Amount | None = None
    amount_paid: Amount | None = None
    refunded_amount: Amount | None = None
    items: list[Any] = []
    plan_id: str | None = None
    subscription_id: str | None = None
    payment_intent_id: str | None = None
    payment_id: str | None = None
    refund_id: str | None = None
    reason: str | None = None
    metadata: dict[str, Any] = {}
    fulfillment_details: dict[str, Any] | None = None
    created_at: Time | None = None
    updated_at: Time | None = None
    expires_at: Time | None = None
    completed_at: Time | None = None
    fulfilled_at: Time | None = None


class OrderPage(BaseModel):
    """A page of orders."""

    data: list[Order]
    next_cursor: NextCursor


_WRITTEN: Final[dict[int | str, dict[str, Any]]] = {**BODY_RESPONSES, **COMMAND_RESPONSES, **PENDING_RESPONSE}


def _body(**properties: Any) -> dict[str, Any]:
    return described_body({"type": "object", "properties": properties}, JSON)


@router.post(
    "/v1/orders",
    status_code=201,
    responses=_WRITTEN,
    response_model=Order,
    openapi_extra=described_body(_ORDER, JSON),
)
async def post_order(request: Request, tollgate: Tollgate, token: Writer, key: Key = None) -> Order | Response:
    """Orders, and asks for the payment: `payment_intent_id` names it."""
    body = await body_of(request)
    customer, used = customer_in(body), optional_key(key)
    body.setdefault("order_type", "credits")
    body.setdefault("order_id", f"ord_{operation_id(customer, used).removeprefix('op_')}")
    return await _changed(tollgate, token, customer, commands.ORDER_CREATE, body, used)


@router.get("/v1/orders")
async def list_orders(
    tollgate: Tollgate,
    token: Reader,
    customer: str = "",
    status: Annotated[str, Query(description="Only orders in this state")] = "",
    limit: Limit = PAGE_ROWS,
    cursor: Cursor = None,
) -> OrderPage:
    """Orders of the tenant, by id."""
    (after,) = decode_cursor(cursor, "orders", (str,)) or ("",)
    rows = await tollgate.parts.rows.fetch(documents(token.tenant, ORDER, customer, status, after, limit))
    data = [_shaped(decode_body(row[1].encode())) for row in rows[:limit]]
    following = encode_cursor("orders", [data[-1].order_id]) if len(rows) > limit else None
    return OrderPage(data=data, next_cursor=following)


@router.get("/v1/orders/{id:segment}")
async def get_order(order_id: Id, tollgate: Tollgate, token: Reader) -> Order:
    """One order."""
    return _shaped(await _found(tollgate, token, order_id))


@router.patch(
    "/v1/orders/{id:segment}",
    responses=_WRITTEN,
    response_model=Order,
    openapi_extra=_body(items=_ITEMS, metadata=_OBJECT, reason=_REASON),
)
async def patch_order(
    order_id: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Order | Response:
    """Changes items and metadata of an order that is not paid."""
    return await _acted(request, tollgate, token, order_id, commands.ORDER_UPDATE, key)


@router.post(
    "/v1/orders/{id:segment}/cancel", responses=_WRITTEN, response_model=Order, openapi_extra=_body(reason=_REASON)
)
async def post_cancel(
    order_id: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Order | Response:
    """Ends an order that is not paid, and its payment intent with it."""
    return await _acted(request, tollgate, token, order_id, commands.ORDER_CANCEL, key)


@router.post(
    "/v1/orders/{id:segment}/fulfill",
    responses=_WRITTEN,
    response_model=Order,
    openapi_extra=_body(fulfillment_details=_OBJECT),
)
async def post_fulfill(
    order_id: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Order | Response:
    """What a completed order bought is delivered."""
    return await _acted(request, tollgate, token, order_id, commands.ORDER_FULFILL, key)


@router.post(
    "/v1/orders/{id:segment}/refund",
    responses=_WRITTEN,
    response_model=Order,
    openapi_extra=_body(amount=_MONEY, refund_id=_ID, reason=_REASON),
)
async def post_refund(
    order_id: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Order | Response:
    """Gives an order's payment back, or an amount of it, as far as the wallet still has it."""
    return await _acted(request, tollgate, token, order_id, commands.ORDER_REFUND, key)


async def _acted(
    request: Request, tollgate: Application, token: Token, order_id: str, event_type: str, key: str | None
) -> Order | Response:
    found = await _found(tollgate, token, order_id)
    body = await body_of(request)
    data = {name: value for name, value in body.items() if name not in ("customer", "payment_id")}
    if event_type == commands.ORDER_REFUND and found.get("payment_id"):
        data["payment_id"] = found["payment_id"]
    data["order_id"] = order_id
    if "payment_id" in data:
        return await _refunded(tollgate, token, found, data, optional_key(key))
    return await _changed(tollgate, token, found["customer"], event_type, data, optional_key(key))


async def _refunded(
    tollgate: Application, token: Token, found: dict[str, Any], data: dict[str, Any], key: str
) -> Order | Response:
    payment = await tollgate.documents.get(token.tenant, PAYMENT, data["payment_id"])
    made = command(tollgate, token, found["customer"], commands.ORDER_REFUND, data, key)
    takes = refund_takes(payment, data.get("amount")) if payment is not None else 0
    return _answered(found["customer"], await paid_out(tollgate, made, takes))


async def _changed(
    tollgate: Application, token: Token, customer: str, event_type: str, data: dict[str, Any], key: str
) -> Order | Response:
    return _answered(customer, await carried_out(tollgate, command(tollgate, token, customer, event_type, data, key)))


def _answered(customer: str, operation: Operation | Response) -> Order | Response:
    if not isinstance(operation, Operation):
        return operation
    return _shaped({**operation.result["order"], "customer": customer})


async def _found(tollgate: Application, token: Token, order_id: str) -> dict[str, Any]:
    body = await tollgate.documents.get(token.tenant, ORDER, order_id)
    if body is None:
        raise not_found("order with this id")
    return body


def _shaped(body: dict[str, Any]) -> Order:
    return Order(**{name: body[name] for name in Order.model_fields if body.get(name) is not None})
