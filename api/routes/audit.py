"""Who changed what."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.answers import NextCursor, Time
from api.auth import needs
from api.cursors import decode_cursor
from api.pages import PAGE_ROWS, Cursor, From, Limit, To, page_of, span_of
from api.parts import Tollgate
from api.problems import PROBLEM_RESPONSES
from api.queries import Query
from api.shaping import time
from api.tokens import Token
from schemas.period import TIME_END

router = APIRouter(tags=["audit"], responses=PROBLEM_RESPONSES)

KEY: Final = (int, str)

_SQL: Final = """SELECT
    toUnixTimestamp64Micro(at), audit_id, actor, action, target, status, detail
FROM tollgate.audit_log
WHERE tenant = {tenant:String}
  AND at >= fromUnixTimestamp64Micro({start:Int64})
  AND at < fromUnixTimestamp64Micro({end:Int64})
  AND (toUnixTimestamp64Micro(at), audit_id) > ({after_at:Int64}, {after_id:String})
ORDER BY at, audit_id
LIMIT {limit:UInt32}"""


class AuditAnswer(BaseModel):
    """One change that was asked for."""

    id: str
    at: Time
    actor: Annotated[str, Field(description="Id of a token, or user@host of a command")]
    action: Annotated[str, Field(description="Method and route, or a command")]
    target: str
    status: Annotated[int | None, Field(description="HTTP's; null where the answer is not known")]
    detail: Annotated[dict[str, Any], Field(description="Size, SHA-256 and named fields of the body")]


class AuditPage(BaseModel):
    """A page of changes."""

    data: list[AuditAnswer]
    next_cursor: NextCursor


@router.get("/v1/audit")
async def list_audit(
    tollgate: Tollgate,
    token: Annotated[Token, needs("admin")],
    since: From = None,
    to: To = None,
    limit: Limit = PAGE_ROWS,
    cursor: Cursor = None,
) -> AuditPage:
    """Changes of the tenant by time: those asked for with its tokens, and commands that named it."""
    after_at, after_id = decode_cursor(cursor, "audit", KEY) or (-1, "")
    span = span_of(since, to)
    query = Query(
        _SQL,
        {
            "tenant": token.tenant,
            "start": max(span.start or 0, after_at),
            "end": span.end if span.end is not None else TIME_END,
            "after_at": after_at,
            "after_id": after_id,
            "limit": limit + 1,
        },
    )
    rows = await tollgate.parts.rows.fetch(query)
    data, following = page_of(rows, limit, "audit", KEY, _answer)
    return AuditPage(data=data, next_cursor=following)


def _answer(row: Any) -> AuditAnswer:
    at, audit_id, actor, action, target, status, detail = row
    return AuditAnswer(
        id=audit_id,
        at=time(at),
        actor=actor,
        action=action,
        target=target,
        status=int(status) if status is not None else None,
        detail=msgspec.json.decode(detail, type=dict[str, Any]) if detail else {},
    )
