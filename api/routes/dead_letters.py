"""Input records that could not be taken."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Annotated, Final

from fastapi import APIRouter

from api import queries
from api.answers import DeadLetter, DeadLetterAnswer, DeadLetterPage
from api.auth import needs
from api.cursors import decode_cursor
from api.pages import PAGE_ROWS, Cursor, From, Id, Limit, To, page_of, span_of
from api.parts import Tollgate
from api.problems import not_found
from api.shaping import dead_letter_fields
from api.tokens import Token
from schemas.topics import INPUTS

router = APIRouter(tags=["dead letters"])

Administrator = Annotated[Token, needs("admin")]

_ID: Final = re.compile(rf"({'|'.join(re.escape(topic) for topic in INPUTS)})-(\d{{1,9}})-(\d{{1,18}})", re.ASCII)


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
    match = _ID.fullmatch(dead_letter)
    query = queries.dead_letter(token.tenant, match[1], int(match[2]), int(match[3])) if match is not None else None
    rows = await tollgate.parts.rows.fetch(query) if query is not None else []
    if not rows:
        raise not_found("dead letter with this id")
    *fields, encoded = rows[0]
    return DeadLetterAnswer(**dead_letter_fields(fields), original=_text(encoded), original_base64=encoded)


def _text(encoded: str) -> str | None:
    try:
        return b64decode(encoded).decode()
    except UnicodeDecodeError:
        return None
