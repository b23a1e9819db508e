"""The proof that log, ledger, accounts, rows and invoices agree, from the stores themselves, as the command has it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.auth import needs
from api.pages import Month
from api.parts import Tollgate
from api.problems import PROBLEM_RESPONSES
from api.tokens import Token
from schemas.period import parse_month

router = APIRouter(tags=["reconciliation"], responses=PROBLEM_RESPONSES)


class EquationAnswer(BaseModel):
    """Two sides that have to be equal: counts are numbers, money is decimal text."""

    name: str
    left: int | str
    right: int | str
    difference: int | str


class Reconciliation(BaseModel):
    """All equations, of all tenants."""

    ok: Annotated[bool, Field(description="Every difference is exactly 0")]
    equations: list[EquationAnswer]


@router.get("/v1/reconciliation")
async def get_reconciliation(
    tollgate: Tollgate, token: Annotated[Token, needs("admin")], period: Month = None
) -> Reconciliation:
    """Reads all that the stores have: it takes as long as that is much. One is made at a time."""
    span = parse_month(period, "/query/period") if period is not None else None
    async with tollgate.reconciling:
        equations = await tollgate.parts.reconcile(span)
    return Reconciliation(
        ok=not any(equation.difference for equation in equations),
        equations=[EquationAnswer(**equation.document()) for equation in equations],
    )
