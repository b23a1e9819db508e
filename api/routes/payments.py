"""Payments: what is asked for (intents), what came in, what went back."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.answers import Amount, Time
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
from api.pages import Id
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, not_found
from api.tokens import Token
from rating.orders import refund_takes
from schemas import commands
from schemas.commands import operation_id
from schemas.documents import PAYMENT
from streams.commands import Operation

router = APIRouter(tags=["payments"], responses=PROBLEM_RESPONSES)

Reader = Annotated[Token, needs("usage:read")]
Writer = Annotated[Token, needs("wallet:write")]

_ID: Final = {"type": "string", "minLength": 1, "maxLength": 200}
_MONEY: Final = {"type": "string", "description": "Decimal text"}
_REASON: Final = {"type": "string", "maxLength": 1000}
_INTENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["customer", "amount"],
    "properties": {
        "customer": _ID,
        "amount": _MONEY,
        "currency": {"type": "string"},
        "payment_id": _ID,
        "invoice_id": {**_ID, "description": "The invoice that it is to pay"},
        "description": _REASON,
        "metadata": {"type": "object"},
    },
}


class Payment(BaseModel):
    """A payment, or the intent that asks for it."""

    payment_id: str
    customer: str
    object: Annotated[str, Field(description="`intent` until it is paid, then `payment`")]
    status: Annotated[str, Field(description="pending, failed, canceled, succeeded, partially_refunded or refunded")]
    amount: Amount
    currency: str
    payment_intent_id: str | None = None
    order_id: str | None = None
    invoice_id: str | None = None
    refunded_amount: Amount = "0"
    refunds: list[dict[str, Any]] = []
    description: str | None = None
    reason: str | None = None
    error: Any = None
    stripe_payment_intent_id: str | None = None
    client_secret: Annotated[str | None, Field(description="With which its customer's browser pays it at Stripe")] = (
        None
    )
    metadata: dict[str, Any] = {}
    created_at: Time | None = None
    updated_at: Time | None = None
    completed_at: Time | None = None


_WRITTEN: Final[dict[int | str, dict[str, Any]]] = {**BODY_RESPONSES, **COMMAND_RESPONSES, **PENDING_RESPONSE}


def _body(**properties: Any) -> dict[str, Any]:
    return described_body({"type": "object", "properties": properties}, JSON)


@router.post(
    "/v1/payments",
    status_code=201,
    responses=_WRITTEN,
    response_model=Payment,
    openapi_extra=described_body(_INTENT, JSON),
)
async def post_payment(request: Request, tollgate: Tollgate, token: Writer, key: Key = None) -> Payment | Response:
    """Asks for a payment; nothing moves before it came in."""
    body = await body_of(request)
    customer, used = customer_in(body), optional_key(key)
    named = body.pop("payment_id", None) or body.get("payment_intent_id")
    body["payment_intent_id"] = named or f"pay_{operation_id(customer, used).removeprefix('op_')}"
    return await _changed(tollgate, token, customer, commands.PAYMENT_CREATE, body, used)


@router.get("/v1/payments/{id:segment}")
async def get_payment(payment_id: Id, tollgate: Tollgate, token: Reader) -> Payment:
    """One payment, by its own id or its intent's."""
    return _shaped(payment_id, await _found(tollgate, token, payment_id))


@router.post(
    "/v1/payments/{id:segment}/confirm",
    responses=_WRITTEN,
    response_model=Payment,
    openapi_extra=_body(payment_id={**_ID, "description": "Its id at whoever took it; else the intent's"}),
)
async def post_confirm(
    payment_id: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Payment | Response:
    """Records that a payment of ours came in: the wallet, the order or the invoice has it."""
    found = await _found(tollgate, token, payment_id)
    body = await body_of(request)
    data = {
        "payment_intent_id": found.get("payment_intent_id") or payment_id,
        **{name: found[name] for name in ("order_id", "invoice_id") if found.get(name)},
        **{name: body[name] for name in ("payment_id",) if name in body},
    }
    return await _changed(tollgate, token, found["customer"], commands.PAYMENT_COMPLETE, data, optional_key(key))


@router.post(
    "/v1/payments/{id:segment}/cancel", responses=_WRITTEN, response_model=Payment, openapi_extra=_body(reason=_REASON)
)
async def post_cancel(
    payment_id: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Payment | Response:
    """A payment that did not come in is no longer asked for."""
    found = await _found(tollgate, token, payment_id)
    body = await body_of(request)
    data = {"payment_intent_id": found.get("payment_intent_id") or payment_id}
    data |= {name: body[name] for name in ("reason",) if name in body}
    return await _changed(tollgate, token, found["customer"], commands.PAYMENT_CANCEL, data, optional_key(key))


@router.post(
    "/v1/payments/{id:segment}/refund",
    responses=_WRITTEN,
    response_model=Payment,
    openapi_extra=_body(amount=_MONEY, refund_id=_ID, reason=_REASON),
)
async def post_refund(
    payment_id: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Payment | Response:
    """Gives a payment back, or an amount of it, as far as the wallet still has it."""
    found = await _found(tollgate, token, payment_id)
    body = await body_of(request)
    data = {name: value for name, value in body.items() if name in ("amount", "refund_id", "reason")}
    data["payment_id"] = found.get("payment_id") or payment_id
    if found.get("invoice_id"):
        data["invoice_id"] = found["invoice_id"]
    made = command(tollgate, token, found["customer"], commands.PAYMENT_REFUND, data, optional_key(key))
    return _answered(found["customer"], await paid_out(tollgate, made, refund_takes(found, data.get("amount"))))


async def _changed(
    tollgate: Application, token: Token, customer: str, event_type: str, data: dict[str, Any], key: str
) -> Payment | Response:
    return _answered(customer, await carried_out(tollgate, command(tollgate, token, customer, event_type, data, key)))


def _answered(customer: str, operation: Operation | Response) -> Payment | Response:
    if not isinstance(operation, Operation):
        return operation
    body = operation.result["payment"]
    return _shaped(body.get("payment_id") or body["payment_intent_id"], {**body, "customer": customer})


async def _found(tollgate: Application, token: Token, payment_id: str) -> dict[str, Any]:
    body = await tollgate.documents.get(token.tenant, PAYMENT, payment_id)
    if body is None:
        raise not_found("payment with this id")
    return body


def _shaped(payment_id: str, body: dict[str, Any]) -> Payment:
    known = {name: body[name] for name in Payment.model_fields if body.get(name) is not None}
    return Payment(**{"payment_id": payment_id, **known})
