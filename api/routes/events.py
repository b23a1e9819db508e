"""Events in, and what became of them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request

from api import queries
from api.answers import Acceptance, EventAnswer, EventPage, Rejection
from api.auth import needs
from api.bodies import CLOUDEVENT, CLOUDEVENTS_BATCH, JSON, described_body, json_judged, read_body
from api.cursors import decode_cursor
from api.pages import PAGE_ROWS, Cursor, From, Id, Limit, To, page_of, span_of
from api.parts import Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, Refused, not_found
from api.shaping import event_place, event_record
from api.tokens import Token
from ingest.accept import Record, judge, split_batch
from schemas.errors import InvalidInput
from schemas.event import COMMAND_PREFIX, peek
from schemas.limits import BATCH_MAX_ENTRIES
from schemas.topics import ACCOUNT_EVENTS

router = APIRouter(tags=["events"], responses=PROBLEM_RESPONSES)

RECORDS_SHOWN: Final = 100
"""Of one source and id; a sender that repeats itself more often sees the first."""

ACCOUNT_SCOPE: Final = "wallet:write"
"""Account events move money and make plans: writing events alone is not enough."""

OWN_SOURCE: Final = "tollgate"

_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A CloudEvents 1.0 event",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1, "maxLength": 200},
        "source": {"type": "string", "minLength": 1, "maxLength": 200},
        "type": {"type": "string", "minLength": 1, "maxLength": 200},
        "subject": {"type": "string", "minLength": 1, "maxLength": 200, "description": "The customer billed"},
        "time": {"type": "string", "format": "date-time"},
        "data": {"type": "object"},
    },
}
_BATCH: Final[dict[str, Any]] = {"type": "array", "items": _EVENT, "maxItems": BATCH_MAX_ENTRIES}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            **described_body(_EVENT, CLOUDEVENT, JSON)["requestBody"]["content"],
            **described_body(_BATCH, CLOUDEVENTS_BATCH)["requestBody"]["content"],
        },
    }
}


@router.post("/v1/events", status_code=202, responses=BODY_RESPONSES, openapi_extra=_BODY)
async def post_events(
    request: Request, tollgate: Tollgate, token: Annotated[Token, needs("events:write")]
) -> Acceptance:
    """Takes one event or a batch; 202 once Kafka has what is accepted, on all its replicas."""
    media_type, body = await read_body(request, CLOUDEVENT, JSON, CLOUDEVENTS_BATCH)
    parts = tollgate.parts
    now = parts.now()
    rejected: list[Rejection] = []
    with tollgate.measures.reporting() as report, json_judged(body):
        if media_type == CLOUDEVENTS_BATCH:
            accepted, rejected = _judge(_split(body), token, now, parts.max_future)
        else:
            accepted = [_allowed(body, token, now, parts.max_future)]
        report.taken, report.refused = len(accepted), len(rejected)
        if accepted:
            await parts.publisher.publish(accepted)
    tollgate.measures.events_taken(len(accepted), len(rejected))
    return Acceptance(accepted=len(accepted), rejected=rejected)


@router.get("/v1/events/{source:segments}/{id:segment}")
async def get_event(
    source: str,
    event_id: Id,
    tollgate: Tollgate,
    token: Annotated[Token, needs("usage:read")],
) -> EventAnswer:
    """What became of an event: its outcome, why, and what it was charged."""
    rows = await tollgate.parts.rows.fetch(queries.event(token.tenant, source, event_id, RECORDS_SHOWN))
    if not rows:
        raise not_found("decided event with this source and id")
    records = [event_record(row) for row in rows]
    return EventAnswer(**records[0].model_dump(), records=[event_place(record) for record in records])


@router.get("/v1/events")
async def list_events(
    tollgate: Tollgate,
    token: Annotated[Token, needs("usage:read")],
    customer: str | None = None,
    since: From = None,
    to: To = None,
    outcome: Annotated[Literal["rated", "duplicate", "ignored", "dead_letter"] | None, Query()] = None,
    limit: Limit = PAGE_ROWS,
    cursor: Cursor = None,
) -> EventPage:
    """Input records by the time of their events."""
    page = queries.Page(decode_cursor(cursor, "events", queries.EVENT_KEY), limit)
    rows = await tollgate.parts.rows.fetch(queries.events(token.tenant, customer, span_of(since, to), outcome, page))
    data, following = page_of(rows, limit, "events", queries.EVENT_KEY, event_record)
    return EventPage(data=data, next_cursor=following)


def _split(body: bytes) -> list[bytes]:
    batch = split_batch(body)
    if len(batch) > BATCH_MAX_ENTRIES:
        raise Refused(413, "too_many", f"a batch has at most {BATCH_MAX_ENTRIES} events, this one {len(batch)}")
    return batch


def _allowed(raw: bytes, token: Token, now: int, max_future: int) -> Record:
    """The record of an event that is well formed and that the token may send."""
    _refuse_commands(peek(raw).type)  # before its shape is judged: what such a type has to hold is nobody's business
    event, record = judge(raw, token.tenant, now, max_future)
    _refuse_commands(event.type)
    if event.source == OWN_SOURCE:
        # Its own commands are known by this source and their id: whoever used one up would keep it from happening.
        raise InvalidInput("out_of_range", f"the source {OWN_SOURCE!r} is Tollgate's own", "/source")
    if record.topic == ACCOUNT_EVENTS and ACCOUNT_SCOPE not in token.scopes:
        raise InvalidInput("missing_scope", f"{event.type} is an account event: it needs {ACCOUNT_SCOPE}", "/type")
    return record


def _refuse_commands(event_type: str) -> None:
    if event_type.startswith(COMMAND_PREFIX):
        raise InvalidInput("unknown_type", f"types of {COMMAND_PREFIX}* are Tollgate's own", "/type")


def _judge(batch: list[bytes], token: Token, now: int, max_future: int) -> tuple[list[Record], list[Rejection]]:
    accepted: list[Record] = []
    rejected: list[Rejection] = []
    for index, raw in enumerate(batch):
        try:
            accepted.append(_allowed(raw, token, now, max_future))
        except InvalidInput as error:
            rejected.append(
                Rejection(index=index, reason=error.reason, detail=error.detail, pointer=f"/{index}{error.pointer}")
            )
    return accepted, rejected
