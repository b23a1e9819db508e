"""The plans of the catalogue that is in force for the tenant."""

from __future__ import annotations

from bisect import bisect_right
from typing import Annotated, Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.answers import Amount, NextCursor
from api.auth import needs
from api.cursors import decode_cursor, encode_cursor
from api.pages import PAGE_ROWS, Cursor, Id, Limit
from api.parts import Parts, Tollgate
from api.problems import PROBLEM_RESPONSES, not_found
from api.routes.catalog import in_force
from api.tokens import Token
from schemas.catalog import CatalogVersion
from schemas.catalog_shapes import Plan

router = APIRouter(tags=["catalogue"], responses=PROBLEM_RESPONSES)

Reader = Annotated[Token, needs("usage:read")]

_LISTING: Final = "plans"


class PlanAnswer(BaseModel):
    """A plan as the catalogue has it."""

    id: str
    name: str | None
    description: str | None
    interval: Annotated[str, Field(description="month or year: how long a billing period is")]
    amount: Annotated[Amount, Field(description="The recurring fee of a period, in advance")]
    currency: str
    trial_days: int
    proration: Annotated[str, Field(description="seconds or days: what a part of a period is counted in")]
    prices: Annotated[list[str], Field(description="Ids of the prices that hold for its subscribers alone")]
    features: dict[str, bool | str]
    credits: list[dict[str, Any]]
    quotas: list[dict[str, Any]]
    commitment: dict[str, Any] | None
    catalog_version: int


class PlanPage(BaseModel):
    """Plans by id."""

    data: list[PlanAnswer]
    next_cursor: NextCursor


@router.get("/v1/plans")
async def get_plans(tollgate: Tollgate, token: Reader, limit: Limit = PAGE_ROWS, cursor: Cursor = None) -> PlanPage:
    """All plans that a customer of the tenant can have now."""
    version = _version(tollgate.parts, token.tenant)
    plans = sorted(version.catalog.plans, key=lambda plan: plan.id) if version is not None else []
    after = decode_cursor(cursor, _LISTING, (str,))
    start = bisect_right(plans, after[0], key=lambda plan: plan.id) if after is not None else 0
    page = plans[start : start + limit]
    more = len(plans) > start + limit
    return PlanPage(
        data=[shaped(plan, version) for plan in page if version is not None],
        next_cursor=encode_cursor(_LISTING, [page[-1].id]) if more else None,
    )


@router.get("/v1/plans/{id}")
async def get_plan(tollgate: Tollgate, token: Reader, plan_id: Id) -> PlanAnswer:
    """One of them."""
    version = _version(tollgate.parts, token.tenant)
    for plan in version.catalog.plans if version is not None else ():
        if plan.id == plan_id and version is not None:
            return shaped(plan, version)
    raise not_found(f"plan {plan_id!r}")


def shaped(plan: Plan, version: CatalogVersion) -> PlanAnswer:
    """A plan of a version as it is answered: numbers as decimal text, what is not said with its default."""
    whole: dict[str, Any] = {"name": None, "description": None, "commitment": None}
    whole |= plan.model_dump(mode="json", exclude_none=True) | {"trial_days": plan.trial_days or 0}
    return PlanAnswer(**whole, currency=version.catalog.currency, catalog_version=version.version)


def _version(parts: Parts, tenant: str) -> CatalogVersion | None:
    return in_force(parts.book, tenant, parts.now())
