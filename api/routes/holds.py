"""Holds on what a customer may spend: reserved, extended, settled, released."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from api.answers import Amount
from api.asking import (
    HOLD,
    MONEY,
    QUANTITY,
    TTL,
    ask_of,
    generation_in,
    hold_id_in,
    json_body,
    more_in,
    settlement_in,
    ttl_in,
)
from api.auth import needs
from api.bodies import JSON, described_body
from api.commanding import PENDING_RESPONSE, pending
from api.hot import HotRoute, JsonAnswer
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, MEDIA_TYPE, PROBLEM_RESPONSES, Problem, not_found, status_of_denial
from api.tokens import Token
from schemas.errors import InvalidInput
from schemas.ids import check_id
from schemas.period import SECOND
from streams.admission.answers import Denial, Standing
from streams.commands import Operation

router = APIRouter(tags=["holds"], prefix="/v1/holds", responses=PROBLEM_RESPONSES)

Holder = Annotated[Token, needs("holds:write")]
HoldId = Annotated[str, Path(alias="id", description="The hold")]


class Money(BaseModel):
    """An amount with its currency."""

    amount: Amount
    currency: str


class QuotaLeft(BaseModel):
    """A quota the hold counts in, and what of it is left beside what is used and held."""

    meter: Annotated[str | None, Field(description="null: of money")]
    limit: str
    remaining: str
    resets_at: str | None
    window: str
    per: str
    soft: bool


class HoldAnswer(BaseModel):
    """A hold as it stands."""

    hold_id: str
    customer: str
    state: Annotated[str, Field(description="`open`, then one of `settled`, `released`, `expired`")]
    generation: Annotated[int, Field(description="1, and one more with every extension")]
    held: Money
    expires_at: str | None
    ended_at: str | None = None
    charged: Annotated[Money | None, Field(description="What the ledger charged with its end")] = None
    session_id: str | None = None
    allocation_id: str | None = None
    settling: Annotated[bool, Field(description="Its settlement is on its way")] = False
    prices: Annotated[
        list[dict[str, Any]], Field(description="What each meter was sized at: price, catalogue version, amount")
    ] = []
    available: Annotated[Amount | None, Field(description="What can be spent besides; in answers that hold")] = None
    quotas: list[QuotaLeft] = []
    affordable: Annotated[
        dict[str, str | None],
        Field(description="By meter: how many whole units `available` still buys; null: they cost nothing"),
    ] = {}


class DenialProblem(Problem):
    """Why it was not allowed."""

    denial_id: str
    reason: str
    available: Amount
    limit: str | None
    remaining: str | None
    resets_at: str | None


_DENIED: Final[dict[int | str, dict[str, Any]]] = {
    402: {"model": DenialProblem, "description": "The wallet, a budget or the plan does not allow it"},
    429: {"model": DenialProblem, "description": "A quota does not allow it"},
}
_CONFLICT: Final[dict[int | str, dict[str, Any]]] = {409: {"model": Problem, "description": "Conflict"}}
_HELD: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": HoldAnswer, "description": "The same hold, asked for before"},
    **_DENIED,
    **_CONFLICT,
    **BODY_RESPONSES,
}


@router.post("", status_code=201, response_model=HoldAnswer, responses=_HELD, openapi_extra=described_body(HOLD, JSON))
async def post_hold(request: Request, tollgate: Tollgate, token: Holder) -> Response:
    """Holds what is asked for, all of it or nothing."""
    return await opened(tollgate, token, await json_body(request))


async def opened(tollgate: Application, token: Token, body: dict[str, Any]) -> Response:
    """The answer to a body that asks for a hold."""
    customer = check_id(body.get("customer"), "/customer")
    admission = tollgate.admission
    answer = await admission.hold(token.tenant, customer, ask_of(body), hold_id_in(body), ttl_in(body))
    return held(answer, tollgate)


@router.get("/{id:segment}")
async def get_hold(hold_id: HoldId, tollgate: Tollgate, token: Holder) -> HoldAnswer:
    """A hold as it stands; an ended one for 24 hours."""
    found = await tollgate.admission.find(token.tenant, hold_id)
    if found is None:
        raise _unknown()
    return HoldAnswer.model_validate(found.document())


_EXTEND: Final = {
    "type": "object",
    "required": ["ttl_seconds"],
    "properties": {
        "ttl_seconds": TTL,
        "quantity": QUANTITY,
        "amount": MONEY,
        "generation": {"type": "integer", "description": "Refuse where the hold has another"},
    },
}


@router.post(
    "/{id:segment}/extend",
    response_model=HoldAnswer,
    responses={**_DENIED, **_CONFLICT, **BODY_RESPONSES},
    openapi_extra=described_body(_EXTEND, JSON),
)
async def post_extend(hold_id: HoldId, request: Request, tollgate: Tollgate, token: Holder) -> Response:
    """Gives a hold more time, from now on, and more to hold; refused, it stays as it was."""
    await _known(tollgate, token, hold_id)
    body = await json_body(request)
    if "ttl_seconds" not in body:
        raise InvalidInput("missing_field", "ttl_seconds is missing", "/ttl_seconds")
    quantity, amount = more_in(body)
    ttl, generation = ttl_in(body), generation_in(body)
    answer = await tollgate.admission.extend(token.tenant, hold_id, ttl, quantity, amount, generation)
    if answer is None:
        raise _unknown()
    return held(answer, tollgate)


_SETTLE: Final = {
    "type": "object",
    "properties": {"quantity": QUANTITY, "amount": MONEY, "data": {"type": "object"}},
    "oneOf": [{"required": ["quantity"]}, {"required": ["amount"]}, {"required": ["data"]}],
}


@router.post(
    "/{id:segment}/settle",
    response_model=HoldAnswer,
    responses={**PENDING_RESPONSE, **_CONFLICT, **BODY_RESPONSES},
    openapi_extra=described_body(_SETTLE, JSON),
)
async def post_settle(hold_id: HoldId, request: Request, tollgate: Tollgate, token: Holder) -> Response:
    """Books the charge, also above what was held, and frees the rest."""
    await _known(tollgate, token, hold_id)
    answer = await tollgate.settlements.settle(token.tenant, hold_id, settlement_in(await json_body(request)))
    if isinstance(answer, Operation):
        return pending(answer)
    return _ended(answer)


@router.post("/{id:segment}/release", response_model=HoldAnswer, responses=BODY_RESPONSES)
async def post_release(hold_id: HoldId, tollgate: Tollgate, token: Holder) -> Response:
    """Frees what was held."""
    return _ended(await tollgate.settlements.release(token.tenant, hold_id))


def held(answer: Standing | Denial, tollgate: Application) -> Response:
    """A hold, 201 where it was opened by this request, or why there is none."""
    if isinstance(answer, Denial):
        return denied(answer, tollgate.parts.now())
    return _document(answer.document(), 201 if answer.created else 200)


def denied(denial: Denial, now: int) -> Response:
    """A denial as a problem; 429 says when to come again, where that is known."""
    status = status_of_denial(denial.reason)
    told = denial.document()
    body = {
        "type": f"urn:tollgate:problem:{denial.reason}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": denial.detail,
        "errors": [],
        **{name: told[name] for name in ("denial_id", "reason", "available", "limit", "remaining", "resets_at")},
    }
    headers = {}
    if status == 429 and denial.resets_at is not None:
        headers["Retry-After"] = str(max((denial.resets_at - now) // SECOND + 1, 1))
    return Response(orjson.dumps(body), status, headers, MEDIA_TYPE)


async def _known(tollgate: Application, token: Token, hold_id: str) -> None:
    """404 before the body is looked at."""
    if await tollgate.admission.find(token.tenant, hold_id) is None:
        raise _unknown()


def _ended(answer: Standing | None) -> Response:
    if answer is None:
        raise _unknown()
    return _document(answer.document(), 200)


def _document(document: dict[str, Any], status: int) -> Response:
    return JsonAnswer(orjson.dumps(document), status)


def _unknown() -> Exception:
    return not_found("hold with this id")


HOLD_ROUTE: Final = HotRoute("/v1/holds", "holds:write", opened)
