"""The tenant's catalogue."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request

from api.answers import CatalogAnswer, CatalogApplied
from api.auth import needs
from api.bodies import JSON, YAML, described_body, is_json, read_body
from api.parts import Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, not_found
from api.tokens import Token
from rating.book import PriceBook
from schemas.catalog import CatalogVersion, parse
from schemas.errors import InvalidInput
from schemas.period import format_time

router = APIRouter(tags=["catalogue"], responses=PROBLEM_RESPONSES)

_CATALOGUE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["currency", "meters"],
    "properties": {
        "currency": {"type": "string"},
        "effective_from": {"type": "string", "description": "Events from then on are rated by it; all, if absent"},
        "meters": {"type": "array", "items": {"type": "object"}},
        "prices": {"type": "array", "items": {"type": "object"}},
        "plans": {"type": "array", "items": {"type": "object"}},
    },
}


@router.get("/v1/catalog")
async def get_catalog(tollgate: Tollgate, token: Annotated[Token, needs("usage:read")]) -> CatalogAnswer:
    """The catalogue in force now: the tenant's own, else the common one."""
    found = in_force(tollgate.parts.book, token.tenant, tollgate.parts.now())
    if found is None:
        raise not_found("catalogue yet")
    return CatalogAnswer(
        version=found.version,
        tenant=found.tenant,
        checksum=found.catalog.checksum,
        applied_at=format_time(found.applied_at),
        catalog=found.catalog.document,
    )


def in_force(book: PriceBook, tenant: str, now: int) -> CatalogVersion | None:
    """The version by which a tenant's events of now are rated."""
    return book.version(tenant, book.position, now) or book.version(None, book.position, now)


@router.put("/v1/catalog", responses=BODY_RESPONSES, openapi_extra=described_body(_CATALOGUE, JSON, *YAML))
async def put_catalog(request: Request, tollgate: Tollgate, token: Annotated[Token, needs("admin")]) -> CatalogApplied:
    """Makes a catalogue the tenant's own, as a new version, or refuses it whole with every fault.

    Answers once every process that rates by catalogues has picked it up: what is sent afterwards is rated by it."""
    media_type, body = await read_body(request, JSON, *YAML)
    if media_type == JSON and not is_json(body):
        raise InvalidInput("not_json", "the body is not JSON")
    parts = tollgate.parts
    catalogue = await asyncio.to_thread(parse, body)
    now = parts.now()
    version, picked_up = await parts.apply_catalogue(catalogue, token.tenant, now)
    return CatalogApplied(
        version=version,
        tenant=token.tenant,
        checksum=catalogue.checksum,
        applied_at=format_time(now),
        picked_up=picked_up,
    )
