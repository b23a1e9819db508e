"""Wallets moved by request: each a command that the customer's owner books or refuses, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from api.answers import Amount
from api.auth import needs
from api.bodies import JSON, described_body
from api.commanding import (
    KEYED_RESPONSES,
    PAYING_OUT,
    PENDING_RESPONSE,
    Key,
    body_of,
    command,
    needed_key,
    paid_out,
)
from api.pages import Id
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, not_found
from api.tokens import Token
from schemas import commands
from schemas.commands import Command
from schemas.money import parse_amount
from streams.commands import Operation

router = APIRouter(tags=["wallets"], responses=PROBLEM_RESPONSES)

Writer = Annotated[Token, needs("wallet:write")]

_MONEY: Final = {"type": "string", "description": "Decimal text", "examples": ["12.5"]}
_ID: Final = {"type": "string", "minLength": 1, "maxLength": 200}
_TEXT: Final = {"type": "string", "maxLength": 1000}
_BASE: Final[dict[str, Any]] = {
    "amount": _MONEY,
    "currency": {"type": "string", "description": "The customer's; it need not be said"},
    "description": _TEXT,
    "reason": _TEXT,
}


def _body(summary: str, required: tuple[str, ...] = ("amount",), **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "description": summary, "required": list(required), "properties": {**_BASE, **more}}
    return described_body(schema, JSON)


class Moved(BaseModel):
    """What the ledger booked."""

    operation_id: str
    customer: str
    status: str
    entry_id: Annotated[str | None, Field(description="The movement's; null where a charge became receivable whole")]
    entry_ids: list[str]
    amount: Amount
    currency: str
    balance_after: Amount
    credit_id: str | None = None
    refund_id: str | None = None
    transfer_id: str | None = None
    to_customer: str | None = None


class OperationAnswer(BaseModel):
    """What became of a request."""

    operation_id: str
    status: Annotated[str, Field(description="`pending`, `done`, `refused`, `invalid` or `conflict`")]
    reason: str | None
    detail: str | None
    result: dict[str, Any]


_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {**BODY_RESPONSES, **KEYED_RESPONSES, **PENDING_RESPONSE}


@router.post(
    "/v1/customers/{id:segment}/credits",
    responses=_ANSWERS,
    response_model=Moved,
    openapi_extra=_body(
        "A credit",
        credit_id=_ID,
        expires_at={"type": "string", "format": "date-time"},
        priority={"type": "integer", "description": "Lower burns first"},
        scope={"type": "array", "items": _ID, "description": "Meters it pays for; absent: all"},
        kind={"enum": ["paid", "promotional"]},
    ),
)
async def post_credit(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Moved | Response:
    """Grants a credit, which charges burn in the order priority, expiry, age."""
    return await _moved(request, tollgate, token, customer, commands.WALLET_CREDIT, key)


@router.post(
    "/v1/customers/{id:segment}/wallet/deposit",
    responses=_ANSWERS,
    response_model=Moved,
    openapi_extra=_body("Money that was paid", payment_id=_ID),
)
async def post_deposit(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Moved | Response:
    """Puts paid money into the wallet."""
    return await _moved(request, tollgate, token, customer, commands.WALLET_DEPOSIT, key)


@router.post(
    "/v1/customers/{id:segment}/wallet/consume",
    responses=_ANSWERS,
    response_model=Moved,
    openapi_extra=_body("An amount to charge", meter=_ID),
)
async def post_consume(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Moved | Response:
    """Charges an amount that no price made, as far as the wallet has it."""
    return await _moved(request, tollgate, token, customer, commands.WALLET_CONSUME, key)


@router.post(
    "/v1/customers/{id:segment}/wallet/withdraw",
    responses=_ANSWERS,
    response_model=Moved,
    openapi_extra=_body("Paid money to take out"),
)
async def post_withdraw(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Moved | Response:
    """Takes paid money out; promotional credit can be spent, never taken out."""
    return await _moved(request, tollgate, token, customer, commands.WALLET_WITHDRAW, key)


@router.post(
    "/v1/customers/{id:segment}/wallet/adjust",
    responses=_ANSWERS,
    response_model=Moved,
    openapi_extra=_body(
        "A correction; negative takes out",
        allow_negative={"type": "boolean", "description": "Also below what the wallet has"},
    ),
)
async def post_adjust(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Moved | Response:
    """Corrects a wallet by hand."""
    return await _moved(request, tollgate, token, customer, commands.WALLET_ADJUST, key)


@router.post(
    "/v1/customers/{id:segment}/wallet/refund",
    responses=_ANSWERS,
    response_model=Moved,
    openapi_extra=_body("Paid money that goes back to who paid it", payment_id=_ID, refund_id=_ID),
)
async def post_refund(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Moved | Response:
    """Gives paid money back: of one payment if it is named, and then no more than it was."""
    return await _moved(request, tollgate, token, customer, commands.WALLET_REFUND, key)


@router.post(
    "/v1/customers/{id:segment}/wallet/transfer",
    responses=_ANSWERS,
    response_model=Moved,
    openapi_extra=_body("Paid money for another customer", ("to_customer", "amount"), to_customer=_ID),
)
async def post_transfer(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Moved | Response:
    """Moves paid money to another customer of the tenant; it arrives a moment later, or comes back."""
    return await _moved(request, tollgate, token, customer, commands.WALLET_TRANSFER, key)


@router.get("/v1/operations/{id:segment}")
async def get_operation(
    operation_id: Annotated[str, Path(alias="id")],
    tollgate: Tollgate,
    token: Annotated[Token, needs("usage:read")],
    at: Annotated[str | None, Query(description="As in the Location of its 202", pattern=r"^\d{1,9}-\d{1,18}$")] = None,
) -> OperationAnswer:
    """What became of a request that was answered 202."""
    partition, offset = (int(part) for part in at.split("-")) if at is not None else (-1, -1)
    found = await tollgate.parts.commands.find(token.tenant, operation_id, partition, offset)
    if found is None:
        raise not_found("operation with this id")
    return OperationAnswer(
        operation_id=found.id,
        status=found.status,
        reason=found.reason or None,
        detail=found.detail or None,
        result={name: value for name, value in found.result.items() if name != "request"},
    )


async def _moved(
    request: Request, tollgate: Application, token: Token, customer: str, event_type: str, key: str | None
) -> Moved | Response:
    made = command(tollgate, token, customer, event_type, await _asked(request, key), needed_key(key))
    found = await paid_out(tollgate, made, _goes_out(made))
    return _answer(customer, found) if isinstance(found, Operation) else found


def _goes_out(made: Command) -> int:
    """What has to be held until the command is booked, nanos; 0 where nothing leaves the wallet."""
    amount = parse_amount(made.data["amount"])
    if made.type == commands.WALLET_ADJUST:
        return 0 if made.data.get("allow_negative") else -amount
    return amount if made.type in PAYING_OUT else 0


async def _asked(request: Request, key: str | None) -> dict[str, Any]:
    needed_key(key)  # said before the body is read
    return await body_of(request)


def _answer(customer: str, found: Operation) -> Moved:
    result = found.result
    entries = [f"{found.entry}-{place}" for place in result["places"]]
    return Moved(
        operation_id=found.id,
        customer=customer,
        status=found.status,
        entry_id=entries[0] if entries else None,
        entry_ids=entries,
        **{name: result[name] for name in Moved.model_fields if name in result},
    )
