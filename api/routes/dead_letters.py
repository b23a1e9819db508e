"""Input records that could not be taken: what they were, and how they end."""

from __future__ import annotations

from base64 import b64decode
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Request

from api import queries
from api.answers import DeadLetter, DeadLetterAnswer, DeadLetterPage, DeadLetterResolved
from api.auth import needs
from api.bodies import JSON, described_body, json_judged, read_body
from api.cursors import decode_cursor
from api.pages import PAGE_ROWS, Cursor, From, Id, Limit, To, page_of, span_of
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, not_found
from api.shaping import dead_letter_fields
from api.tokens import Token
from schemas.canonical import parse
from schemas.limits import DETAIL_MAX_CHARACTERS
from schemas.period import format_time
from schemas.shape import read
from streams.resolving import Place, Resolved, place_of

router = APIRouter(tags=["dead letters"], responses=PROBLEM_RESPONSES)

Administrator = Annotated[Token, needs("admin")]


class _Drop(msgspec.Struct):
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=DETAIL_MAX_CHARACTERS)]


_DROP: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["reason"],
    "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": DETAIL_MAX_CHARACTERS}},
}


@router.get("/v1/dead-letters")
async def list_dead_letters(
    tollgate: Tollgate,
    token: Administrator,
    reason: str | None = None,
    customer: str | None = None,
    since: From = None,
    to: To = None,
    limit: Limit = PAGE_ROWS,
    cursor: Cursor = None,
) -> DeadLetterPage:
    """Dead letters by the time Kafka received them, without their originals."""
    page = queries.Page(decode_cursor(cursor, "dead_letters", queries.DEAD_LETTER_KEY), limit)
    rows = await tollgate.parts.rows.fetch(
        queries.dead_letters(token.tenant, reason, customer, span_of(since, to), page)
    )
    data, following = page_of(
        rows, limit, "dead_letters", queries.DEAD_LETTER_KEY, lambda row: DeadLetter(**dead_letter_fields(row))
    )
    return DeadLetterPage(data=data, next_cursor=following)


@router.get("/v1/dead-letters/{id:segment}")
async def get_dead_letter(dead_letter: Id, tollgate: Tollgate, token: Administrator) -> DeadLetterAnswer:
    """One dead letter with its original."""
    _, (*fields, encoded) = await _found(tollgate, token, dead_letter)
    return DeadLetterAnswer(**dead_letter_fields(fields), original=_text(encoded), original_base64=encoded)


@router.post("/v1/dead-letters/{id:segment}/retry")
async def retry_dead_letter(dead_letter: Id, tollgate: Tollgate, token: Administrator) -> DeadLetterResolved:
    """Sends the original to its own topic again. Once: asked again, it says when that was."""
    place, _ = await _found(tollgate, token, dead_letter)
    return _resolved(await tollgate.parts.letters.retry([place]))


@router.post("/v1/dead-letters/{id:segment}/drop", responses=BODY_RESPONSES, openapi_extra=described_body(_DROP, JSON))
async def drop_dead_letter(
    dead_letter: Id, request: Request, tollgate: Tollgate, token: Administrator
) -> DeadLetterResolved:
    """Gives a dead letter up, for a reason that is kept; its original stays."""
    place, _ = await _found(tollgate, token, dead_letter)
    _, body = await read_body(request, JSON)
    with json_judged(body):
        reason = read(parse(body), _Drop, "").reason
    return _resolved(await tollgate.parts.letters.drop([place], reason))


async def _found(tollgate: Application, token: Token, dead_letter: str) -> tuple[Place, list[Any]]:
    """The place and the row of one of the tenant's letters; 404 for any other."""
    place = place_of(dead_letter)
    rows = await tollgate.parts.rows.fetch(queries.dead_letter(token.tenant, *place)) if place is not None else []
    if place is None or not rows:
        raise not_found("dead letter with this id")
    return place, rows[0]


def _resolved(resolved: list[Resolved]) -> DeadLetterResolved:
    if not resolved:
        raise not_found("dead letter with this id")
    (one,) = resolved
    return DeadLetterResolved(
        id=one.place.id, resolution=one.resolution, resolved_at=format_time(one.resolved_at), now=one.now
    )


def _text(encoded: str) -> str | None:
    try:
        return b64decode(encoded).decode()
    except UnicodeDecodeError:
        return None
