"""Why something came to what it did."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Path

from api.auth import needs
from api.explaining import EXPLAINERS
from api.parts import Tollgate
from api.problems import PROBLEM_RESPONSES, not_found
from api.sources import Sources
from api.tokens import Token
from rating.book import PriceBook
from schemas.catalog import CatalogVersion
from schemas.errors import Unavailable

router = APIRouter(tags=["explanations"], responses=PROBLEM_RESPONSES)


@router.get("/v1/explain/{kind:segment}/{id:segments}")
async def get_explanation(
    kind: Annotated[str, Path(description="event, charge, line or denial")],
    name: Annotated[str, Path(alias="id", description="Of an event also source/id")],
    tollgate: Tollgate,
    token: Annotated[Token, needs("usage:read")],
) -> dict[str, Any]:
    """The event, its records, prices and steps, credits burnt, and the balance before and after."""
    explain = EXPLAINERS.get(kind)
    if explain is None:
        raise not_found("such kind of explanation")
    parts = tollgate.parts
    if kind == "denial" and parts.admission is not None:
        with suppress(Unavailable):  # ClickHouse has it too, a moment later
            denial = await parts.admission.denial(token.tenant, name)
            if denial is not None:
                return {"kind": kind, "id": name, **denial}
    sources = Sources(parts.rows, parts.records, lambda number: version_of(parts.book, token.tenant, number))
    found = await explain(sources, token.tenant, name)
    if found is None:
        raise not_found(f"{kind} with this id")
    return found


def version_of(book: PriceBook, tenant: str, number: int) -> CatalogVersion | None:
    """A catalogue version by its number, if it was ever the tenant's."""
    for whose in (tenant, None):
        found = book.version(whose, number)
        if found is not None and found.version == number:
            return found
    return None
