"""Subscriptions: a customer's plan, begun, changed with its proration stated, cancelled, taken up again."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api.answers import Amount, Time
from api.auth import needs
from api.bodies import JSON, described_body
from api.commanding import COMMAND_RESPONSES, PENDING_RESPONSE, Key, body_of, carried_out, command, optional_key
from api.pages import Id
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, not_found
from api.tokens import Token
from schemas import invoicing_commands as types
from schemas.commands import operation_id
from schemas.documents import SUBSCRIPTION
from schemas.errors import InvalidInput
from streams.commands import Operation

router = APIRouter(
    tags=["subscriptions"], prefix="/v1/customers/{id:segment}/subscription", responses=PROBLEM_RESPONSES
)

Reader = Annotated[Token, needs("usage:read")]
Writer = Annotated[Token, needs("subscriptions:write")]

_ID: Final = {"type": "string", "minLength": 1, "maxLength": 200}
_TIME: Final = {"type": "string", "format": "date-time"}
_CREATE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["plan_id"],
    "properties": {
        "plan_id": _ID,
        "subscription_id": _ID,
        "start": {**_TIME, "description": "Now where it is not said"},
        "anchor": {**_TIME, "description": "When the first whole period begins; the start where it is not said"},
        "trial_days": {"type": "integer", "minimum": 0, "description": "The plan's where it is not said"},
        "status": {"enum": ["active", "incomplete"], "description": "An incomplete one begins when it is paid"},
        "discount": {
            "type": "object",
            "properties": {"percent": {"type": "string"}, "amount": {"type": "string"}, "ends_at": _TIME},
        },
        "metadata": {"type": "object"},
    },
}
_CHANGE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "plan_id": _ID,
        "when": {"enum": ["now", "period_end"], "description": "now, with proration, where it is not said"},
        "status": {"enum": ["paused", "active"], "description": "Pauses; active resumes or reactivates"},
        "cancel_at_period_end": {"type": "boolean", "description": "false takes a cancellation back"},
    },
}


class Span(BaseModel):
    """Half-open."""

    start: Time
    end: Time


class Item(BaseModel):
    """An amount that waits for the next invoice."""

    id: str
    description: str
    amount: Amount
    period: Span


class Proration(BaseModel):
    """What a change of plan gives back and adds; exact, the invoice rounds."""

    items: list[Item]
    credit: Amount
    charge: Amount
    net: Amount


class Subscription(BaseModel):
    """A subscription as it stands."""

    model_config = ConfigDict(extra="ignore")

    subscription_id: str
    customer: str
    plan_id: str
    status: Annotated[str, Field(description="incomplete, trialing, active, past_due, paused, canceled or expired")]
    billing_cycle: str
    amount: Amount
    anchor: Time
    current_period: Span
    started_at: Time
    billed_to: Time
    trial_end: Time | None = None
    cancel_at: Time | None = None
    ended_at: Time | None = None
    paused_at: Time | None = None
    next_plan_id: str | None = None
    items: list[Item] = []
    attempt_count: int = 0
    discount: dict[str, Any] | None = None
    metadata: dict[str, Any] = {}
    proration: Annotated[Proration | None, Field(description="Of a change of plan, in its answer alone")] = None
    invoice_id: Annotated[str | None, Field(description="Of the first fee, in the answer that began it")] = None


_WRITTEN: Final[dict[int | str, dict[str, Any]]] = {**BODY_RESPONSES, **COMMAND_RESPONSES, **PENDING_RESPONSE}


@router.post(
    "", status_code=201, responses=_WRITTEN, response_model=Subscription, openapi_extra=described_body(_CREATE, JSON)
)
async def post_subscription(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Subscription | Response:
    """Begins a plan; its first fee is invoiced at once."""
    body, used = await body_of(request), optional_key(key)
    if "plan" in body and "plan_id" not in body:
        body["plan_id"] = body.pop("plan")
    _known_fields(body, _CREATE)
    body.setdefault("subscription_id", f"sub_{operation_id(customer, used).removeprefix('op_')}")
    return await _answered(tollgate, token, customer, types.SUBSCRIPTION_CREATE, body, used)


@router.get("")
async def get_subscription(customer: Id, tollgate: Tollgate, token: Reader) -> Subscription:
    """The subscription the customer has, or the last it had."""
    body = await _current(tollgate, token, customer)
    return _shaped(customer, body)


@router.patch("", responses=_WRITTEN, response_model=Subscription, openapi_extra=described_body(_CHANGE, JSON))
async def patch_subscription(
    customer: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None
) -> Subscription | Response:
    """Changes the plan, pauses, resumes, or takes a cancellation back."""
    stands = await _current(tollgate, token, customer)
    body, used = await body_of(request), optional_key(key)
    if "plan" in body and "plan_id" not in body:
        body["plan_id"] = body.pop("plan")
    _known_fields(body, _CHANGE)
    event_type, more = _change_of(body, stands)
    data = {"subscription_id": stands["id"], **more}
    return await _answered(tollgate, token, customer, event_type, data, used)


@router.delete("", responses={**COMMAND_RESPONSES, **PENDING_RESPONSE}, response_model=Subscription)
async def delete_subscription(
    customer: Id,
    tollgate: Tollgate,
    token: Writer,
    when: Annotated[Literal["now", "period_end"], Query()] = "now",
    prorate: Annotated[bool, Query(description="Whether what is unused is given back")] = True,
    reason: Annotated[str | None, Query(max_length=1000)] = None,
    key: Key = None,
) -> Subscription | Response:
    """Cancels: now, with what is unused given back, or at the period's end."""
    stands = await _current(tollgate, token, customer)
    data: dict[str, Any] = {"subscription_id": stands["id"], "when": when, "prorate": prorate}
    if reason:
        data["reason"] = reason
    return await _answered(tollgate, token, customer, types.SUBSCRIPTION_CANCEL, data, optional_key(key))


def _change_of(body: dict[str, Any], stands: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The command that a change asks for. Errors: InvalidInput."""
    asked = [name for name in ("plan_id", "status", "cancel_at_period_end") if name in body]
    if len(asked) != 1:
        raise InvalidInput("missing_field", "one of plan_id, status and cancel_at_period_end is needed", "")
    if "plan_id" in body:
        return types.SUBSCRIPTION_CHANGE, {"plan_id": body["plan_id"], "when": body.get("when", "now")}
    if "cancel_at_period_end" in body:
        if body["cancel_at_period_end"] is True:
            return types.SUBSCRIPTION_CANCEL, {"when": "period_end"}
        return types.SUBSCRIPTION_REACTIVATE, {}
    if body["status"] == "paused":
        return types.SUBSCRIPTION_PAUSE, {}
    if body["status"] != "active":
        raise InvalidInput("out_of_range", "status is paused or active", "/status")
    return (types.SUBSCRIPTION_RESUME if stands["status"] == "paused" else types.SUBSCRIPTION_REACTIVATE), {}


def _known_fields(body: dict[str, Any], schema: dict[str, Any]) -> None:
    unknown = next((name for name in body if name not in schema["properties"]), None)
    if unknown is not None:
        raise InvalidInput("unknown_field", f"a subscription has no field {unknown[:60]!r}", f"/{unknown}")


async def _current(tollgate: Application, token: Token, customer: str) -> dict[str, Any]:
    account = await tollgate.balances.account(token.tenant, customer)
    if account is None:
        raise not_found("customer with this id")
    now = account.clock or tollgate.parts.now()
    spans = [span for span in account.spans if span.subscription_id]
    begun = [span for span in spans if span.start <= now]
    for span in reversed(begun or spans):
        body = await tollgate.documents.get(token.tenant, SUBSCRIPTION, span.subscription_id)
        if body is not None and body["customer"] == customer:
            return body
    raise not_found("subscription of this customer")


async def _answered(
    tollgate: Application, token: Token, customer: str, event_type: str, data: dict[str, Any], key: str
) -> Subscription | Response:
    done = await carried_out(tollgate, command(tollgate, token, customer, event_type, data, key))
    if not isinstance(done, Operation):
        return done
    result = done.result
    shaped = _shaped(customer, result["subscription"], result)
    if event_type == types.SUBSCRIPTION_CREATE:
        return JSONResponse(shaped.model_dump(mode="json"), 201)
    return shaped


def _shaped(customer: str, body: dict[str, Any], result: dict[str, Any] | None = None) -> Subscription:
    told = result or {}
    return Subscription.model_validate(
        {
            **body,
            "customer": customer,
            "subscription_id": body["id"],
            "proration": told.get("proration"),
            "invoice_id": told.get("invoice_id"),
        }
    )
