"""Whether something may be used, and what of a customer's quotas and features is left."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api.answers import Amount
from api.asking import CHECK, ask_of, json_body
from api.auth import needs
from api.bodies import JSON, described_body
from api.commanding import Key, needed_key
from api.consuming import consume
from api.hot import HotRoute, JsonAnswer
from api.pages import Id
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, Problem, not_found
from api.tokens import Token
from rating.admission import quotas_of
from rating.book import CompiledCatalogue
from schemas.account import Account
from schemas.ids import check_id
from schemas.money import NANOS, format_nanos
from schemas.period import format_time
from streams.admission.answers import Checked

router = APIRouter(tags=["quota"], responses=PROBLEM_RESPONSES)

Asker = Annotated[Token, needs("quota:check")]
Reader = Annotated[Token, needs("usage:read")]


class CheckAnswer(BaseModel):
    """Whether it may be used. Of several quotas the one that refuses, else the one that has the least left."""

    allowed: bool
    reason: Annotated[
        str | None,
        Field(description="`quota`, `budget`, `wallet`, `subscription`, `customer_closed`, `unavailable`"),
    ]
    denial_id: Annotated[str | None, Field(description="Explains the denial for 24 hours")]
    limit: Annotated[str | None, Field(description="null: unlimited")]
    remaining: str | None
    resets_at: str | None
    available: Annotated[Amount | None, Field(description="null: not known, as accounts cannot be reached")]
    currency: str


class QuotaStanding(BaseModel):
    """A quota as it stands."""

    quota: str
    meter: Annotated[str | None, Field(description="null: of money")]
    limit: str
    used: str
    held: Annotated[str, Field(description="By open holds")]
    remaining: str
    mode: str
    per: str
    scope: Annotated[str | None, Field(description="Which user or value of the dimension; null: the customer")]
    window: str
    window_id: str
    resets_at: str | None


class Quotas(BaseModel):
    """All quotas of a customer."""

    customer: str
    plan: str | None
    quotas: list[QuotaStanding]


class Feature(BaseModel):
    """A feature of the customer's plan."""

    feature: str
    enabled: bool
    limit: Annotated[str | None, Field(description="null: not limited, or had or not had")]
    used: str | None
    remaining: str | None
    resets_at: str | None


class Entitlements(BaseModel):
    """What a customer's plan gives."""

    customer: str
    plan: str | None
    features: list[Feature]


_BODY: Final = described_body(CHECK, JSON)
_CONSUME: Final = described_body(
    {**{k: v for k, v in CHECK.items() if k != "oneOf"}, "required": ["customer", "meter", "quantity"]}, JSON
)
_KEYED: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": Problem, "description": "The key stands for another request"},
    428: {"model": Problem, "description": "An Idempotency-Key is needed"},
    **BODY_RESPONSES,
}


@router.post("/v1/quota/check", response_model=CheckAnswer, responses=BODY_RESPONSES, openapi_extra=_BODY)
async def post_check(request: Request, tollgate: Tollgate, token: Asker) -> Response:
    """Whether this may be used now; changes nothing."""
    return await checked(tollgate, token, await json_body(request))


async def checked(tollgate: Application, token: Token, body: dict[str, Any]) -> Response:
    """The answer to a body that asks whether something may be used."""
    customer = check_id(body.get("customer"), "/customer")
    return _answer(await tollgate.admission.check(token.tenant, customer, ask_of(body)))


@router.post("/v1/quota/consume", response_model=CheckAnswer, responses=_KEYED, openapi_extra=_CONSUME)
async def post_consume(request: Request, tollgate: Tollgate, token: Asker, key: Key = None) -> Response:
    """Reports usage of a plain count if it is allowed; the key counts once."""
    named = needed_key(key)
    body = await json_body(request)
    customer = check_id(body.get("customer"), "/customer")
    ask = ask_of({"quantity": 1, **body} if "meter" in body else body)
    publish = tollgate.parts.publisher.publish
    return _answer(await consume(tollgate.admission, publish, token.tenant, customer, ask, named))


@router.get("/v1/customers/{id:segment}/quota")
async def get_quota(
    customer: Id, tollgate: Tollgate, token: Reader, user: Annotated[str | None, Query()] = None
) -> Quotas:
    """Every quota with each user or dimension that it has counted."""
    account, catalogue, now = await _customer(tollgate, token, customer)
    standing = quotas_of(account, catalogue, now, user)
    names = [(rule.id, scope) for rule, scope, _ in standing]
    held = await tollgate.admission.held_of_quotas(token.tenant, customer, names)
    listed = []
    for (rule, scope, used), holding in zip(standing, held, strict=True):
        listed.append(
            QuotaStanding(
                quota=rule.id,
                meter=rule.meter,
                limit=format_nanos(used.limit),
                used=format_nanos(used.quantity),
                held=format_nanos(holding),
                remaining=format_nanos(max(used.limit - used.quantity - holding, 0)),
                mode="hard" if rule.hard else "soft",
                per=rule.per,
                scope=scope or None,
                window=rule.window_text,
                window_id=used.window_id,
                resets_at=format_time(used.resets_at) if used.resets_at is not None else None,
            )
        )
    return Quotas(customer=customer, plan=account.plan_at(now) or None, quotas=listed)


@router.get("/v1/customers/{id:segment}/entitlements")
async def get_entitlements(customer: Id, tollgate: Tollgate, token: Reader) -> Entitlements:
    """The features of the customer's plan, and how much of each is left."""
    account, catalogue, now = await _customer(tollgate, token, customer)
    plan = account.plan_at(now)
    by_meter = {
        rule.meter: used for rule, scope, used in quotas_of(account, catalogue, now) if rule.meter and not scope
    }
    features = []
    for name, value in (catalogue.features_of(plan) if catalogue is not None else {}).items():
        used = by_meter.get(name)
        if used is not None:
            left = max(used.limit - used.quantity, 0)
            told = (used.limit, used.quantity, left)
        elif isinstance(value, Decimal):
            limit = int(value * NANOS)
            told = (limit, 0, limit)
        else:
            features.append(Feature(feature=name, enabled=value, limit=None, used=None, remaining=None, resets_at=None))
            continue
        limit_text, used_text, left_text = (format_nanos(number) for number in told)
        resets_at = used.resets_at if used is not None else None
        features.append(
            Feature(
                feature=name,
                enabled=told[0] > 0,
                limit=limit_text,
                used=used_text,
                remaining=left_text,
                resets_at=format_time(resets_at) if resets_at is not None else None,
            )
        )
    return Entitlements(customer=customer, plan=plan or None, features=features)


async def _customer(
    tollgate: Application, token: Token, customer: str
) -> tuple[Account, CompiledCatalogue | None, int]:
    """A customer's account, its catalogue and its own now; 404 for one that is not known."""
    account = await tollgate.admission.account(token.tenant, customer)
    if account is None:
        raise not_found("customer with this id")
    parts = tollgate.parts
    now = account.clock or parts.now()
    return account, parts.book.catalogue(token.tenant, parts.book.position, now), now


def _answer(checked: Checked) -> Response:
    return JsonAnswer(orjson.dumps(checked.document()))


CHECK_ROUTE: Final = HotRoute("/v1/quota/check", "quota:check", checked)
