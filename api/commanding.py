"""Requests that change a customer: from an Idempotency-Key and a body to a command, and from its outcome to an answer.

A key counts once for ever, for its customer: the same request again is answered by what it did, another request under
the same key is a conflict. What was refused is not final, and neither is what a store was away for: the key may be used
again. An outcome that is not known in time is answered 202, with the place where it can be asked for.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final

from fastapi import Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.bodies import JSON, json_judged, read_body
from api.parts import Application
from api.problems import Problem, Refused
from api.tokens import Token
from schemas import commands
from schemas.canonical import parse
from schemas.commands import Command, operation_id, request_digest
from schemas.errors import InvalidInput
from schemas.event import decode
from schemas.ids import check_id
from schemas.limits import ID_MAX_CHARACTERS
from streams.admission.answers import Denial, Standing
from streams.commands import DONE, PENDING, Operation

Key = Annotated[str | None, Header(alias="Idempotency-Key", description="Counts once for ever, for its customer")]

OPEN: Final = "open"
MONEY: Final = ("amount", "credit_amount", "total_amount")
PAYING_OUT: Final = frozenset(
    (
        commands.WALLET_CONSUME,
        commands.WALLET_WITHDRAW,
        commands.WALLET_ADJUST,
        commands.WALLET_REFUND,
        commands.WALLET_TRANSFER,
        commands.ORDER_REFUND,
        commands.PAYMENT_REFUND,
    )
)
"""Commands that name the hold that has their money; without one they end nothing."""

OURS: Final = frozenset(("request", "hold_id"))
"""Fields of a command that no body sets."""

STATUS_OF_REFUSAL: Final[dict[str, int]] = {
    "insufficient_funds": 402,
    "amount_overflow": 422,
    "currency_mismatch": 422,
    "missing_field": 422,
    "out_of_range": 422,
    "bad_catalog": 422,
    "refund_too_large": 422,
    "same_customer": 422,
    "too_large": 422,
    "unknown_plan": 422,
    "wrong_type": 422,
    "unknown_invoice": 404,
    "unknown_order": 404,
    "unknown_payment": 404,
    "unknown_subscription": 404,
}
"""Any other refusal is that of a state: 409."""

COMMAND_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    402: {"model": Problem, "description": "The wallet does not have it; not final for the key"},
    409: {"model": Problem, "description": "The state does not allow it, or the key stands for another request"},
}
KEYED_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    **COMMAND_RESPONSES,
    428: {"model": Problem, "description": "An Idempotency-Key is needed"},
}


class PendingOperation(BaseModel):
    """Not known yet; `Location` tells where to ask."""

    operation_id: str
    status: str


PENDING_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {
    202: {"model": PendingOperation, "description": "Taken; its outcome is not known yet"}
}


def needed_key(key: str | None) -> str:
    """The Idempotency-Key of a request that has to have one: 428 without."""
    if not key:
        raise Refused(428, "idempotency_key_missing", "this request needs a header Idempotency-Key")
    return optional_key(key)


def optional_key(key: str | None) -> str:
    """The key of a request, or one of its own: then every request is another."""
    if not key:
        return uuid.uuid4().hex
    if len(key) > ID_MAX_CHARACTERS:
        raise InvalidInput(
            "out_of_range", f"Idempotency-Key has more than {ID_MAX_CHARACTERS} characters", "/header/Idempotency-Key"
        )
    return key


async def body_of(request: Request, *, nulls: bool = False) -> dict[str, Any]:
    """A JSON object as a body, without what is null in it but for `nulls`; an empty body is an empty object."""
    if request.headers.get("content-length") in (None, "0") and "transfer-encoding" not in request.headers:
        return {}
    _, body = await read_body(request, JSON)
    with json_judged(body):
        found = parse(body)
    for name in MONEY:
        if found.get(name) is not None and not isinstance(found[name], str):
            raise InvalidInput("wrong_type", f"{name} is money, and so decimal text", f"/{name}")
    return {name: value for name, value in found.items() if name not in OURS and (nulls or value is not None)}


def customer_in(body: dict[str, Any]) -> str:
    """The customer that a body names, taken out of it."""
    return check_id(body.pop("customer", None), "/customer")


def command(
    tollgate: Application, token: Token, customer: str, event_type: str, data: dict[str, Any], key: str
) -> Command:
    """The command of a request, held to its shape as its worker will. Errors: InvalidInput, by the body's fields."""
    asked = {**data, "request": request_digest(event_type, data)}
    made = Command(token.tenant, check_id(customer, "/customer"), event_type, operation_id(customer, key), asked)
    if event_type in PAYING_OUT:
        asked["hold_id"] = hold_of(made)
    try:
        decode(made.encoded(), tollgate.parts.now(), tollgate.parts.max_future)
    except InvalidInput as fault:
        pointer = fault.pointer.removeprefix("/data")
        raise InvalidInput(fault.reason, fault.detail.replace("data.", "", 1), pointer) from None
    return made


async def carried_out(tollgate: Application, made: Command) -> Operation | Response:
    """Carries a command out: what it did, or the answer of a request that is not known to have done anything."""
    operation = await tollgate.parts.commands.run(made)
    return judged(operation, made.data["request"])


async def paid_out(tollgate: Application, made: Command, amount: int) -> Operation | Response:
    """As `carried_out`, where `amount` nanos leave the wallet: they are held first, so that nobody else has them.

    The command ends that hold with itself. After a refusal it has ended too, so whoever asks again holds under another
    name. Errors: Refused, Conflict, Unavailable."""
    admission = tollgate.parts.admission
    if admission is None or amount <= 0:
        return await carried_out(tollgate, made)
    known = await tollgate.parts.commands.known(made)
    if known is not None:
        return judged(known, made.data["request"])
    hold_id = hold_of(made)
    held = await admission.hold_amount(made.tenant, made.customer, hold_id, amount)
    if isinstance(held, Standing) and held.state != OPEN:
        known = await tollgate.parts.commands.known(made)  # by another request with the same key, meanwhile
        if known is not None:
            return judged(known, made.data["request"])
        hold_id = f"{hold_id}:{uuid.uuid4().hex}"
        held = await admission.hold_amount(made.tenant, made.customer, hold_id, amount)
    if not isinstance(held, Standing):
        raise await _unpaid(tollgate, made, held)
    operation = await tollgate.parts.commands.run(made)
    if operation.status != PENDING:
        # Ended with it, if it was booked now: not after a refusal, nor where its id was booked long ago.
        await admission.release_amount(made.tenant, made.customer, hold_id)
    return judged(operation, made.data["request"])


async def _unpaid(tollgate: Application, made: Command, denial: Denial) -> Refused:
    """Why a command's money cannot be held: a wallet of another currency would not pay it with any balance."""
    if denial.reason == "customer_closed":
        return Refused(409, "customer_closed", denial.detail)
    currency, account = made.data.get("currency"), await tollgate.balances.account(made.tenant, made.customer)
    if currency is not None and account is not None and account.currency not in ("", currency):
        detail = f"the customer's money is in {account.currency}, not in {currency}"
        return Refused(STATUS_OF_REFUSAL["currency_mismatch"], "currency_mismatch", detail)
    return Refused(STATUS_OF_REFUSAL["insufficient_funds"], "insufficient_funds", denial.detail)


def hold_of(made: Command) -> str:
    """The hold that has a command's money until it is booked."""
    return f"w:{made.id}"


def judged(operation: Operation, request: str) -> Operation | Response:
    """An operation that is done, as its request asked for it; else the answer. Errors: Refused."""
    if operation.status == PENDING:
        return pending(operation)
    if operation.status != DONE:
        if operation.status == "conflict":
            raise Refused(409, "idempotency_conflict", "the Idempotency-Key stands for another request")
        status = STATUS_OF_REFUSAL.get(operation.reason, 422 if operation.status == "invalid" else 409)
        raise Refused(status, operation.reason, operation.detail)
    if operation.result.get("request", request) != request:
        raise Refused(409, "idempotency_conflict", "the Idempotency-Key stands for another request")
    return operation


def pending(operation: Operation) -> Response:
    """202, with the place where to ask."""
    at = f"?at={operation.partition}-{operation.offset}"
    return JSONResponse(
        {"operation_id": operation.id, "status": PENDING}, 202, {"Location": f"/v1/operations/{operation.id}{at}"}
    )
