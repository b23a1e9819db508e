"""Test clocks: customers that live on a time which tests move, so that a year of billing runs in seconds."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.answers import Time
from api.auth import needs
from api.bodies import JSON, described_body
from api.commanding import COMMAND_RESPONSES, PENDING_RESPONSE, Key, body_of, carried_out, command, optional_key
from api.pages import Id
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, not_found
from api.tokens import Token
from invoicing.jobs import Jobs
from schemas import invoicing_commands as types
from schemas.commands import operation_id
from schemas.documents import COUNTER
from schemas.errors import InvalidInput
from schemas.period import SECOND, format_time, parse_time
from streams.commands import Operation

router = APIRouter(tags=["test clocks"], prefix="/v1/test-clocks", responses=PROBLEM_RESPONSES)

Writer = Annotated[Token, needs("admin")]

_TIME: Final = {"type": "string", "format": "date-time"}
_CUSTOMERS: Final = {"type": "array", "items": {"type": "string"}, "description": "Put on the clock, for good"}
_CLOCK: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "now": _TIME, "name": {"type": "string"}, "customers": _CUSTOMERS},
}
_ADVANCE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"to": _TIME, "seconds": {"type": "integer", "minimum": 1}},
}


class Clock(BaseModel):
    """A clock and who lives on it."""

    id: str
    name: str | None = None
    now: Time
    customers: list[str]


_WRITTEN: Final[dict[int | str, dict[str, Any]]] = {**BODY_RESPONSES, **COMMAND_RESPONSES, **PENDING_RESPONSE}


@router.post("", status_code=201, responses=_WRITTEN, response_model=Clock, openapi_extra=described_body(_CLOCK, JSON))
async def post_clock(request: Request, tollgate: Tollgate, token: Writer, key: Key = None) -> Response:
    """Makes a clock, or puts more customers on one."""
    body, used = await body_of(request), optional_key(key)
    clock = body.pop("id", None) or f"clock_{operation_id(types.CLOCKS_CUSTOMER, used).removeprefix('op_')}"
    now = body.pop("now", None) or body.pop("frozen_time", None)
    data = {"clock": clock, "now": now or format_time(tollgate.parts.now()), **body}
    return await _set(tollgate, token, data, used, 201)


@router.get("/{id:segment}")
async def get_clock(clock: Id, tollgate: Tollgate, token: Writer) -> Clock:
    """Where a clock stands."""
    return Clock.model_validate(await _clock(tollgate, token, clock))


@router.post(
    "/{id:segment}/advance", responses=_WRITTEN, response_model=Clock, openapi_extra=described_body(_ADVANCE, JSON)
)
async def post_advance(clock: Id, request: Request, tollgate: Tollgate, token: Writer, key: Key = None) -> Response:
    """Moves a clock on, and does what falls due for its customers: renewals, closes, dunning, overdue, expiry."""
    stands = await _clock(tollgate, token, clock)
    body, used = await body_of(request), optional_key(key)
    to = body.get("to") or body.get("now")
    if to is None:
        seconds = body.get("seconds")
        if not isinstance(seconds, int) or seconds < 1:
            raise InvalidInput("missing_field", "to, or a whole number of seconds, is needed", "/to")
        to = format_time(parse_time(stands["now"]) + seconds * SECOND)
    answer = await _set(tollgate, token, {"clock": clock, "now": format_time(parse_time(to, "/to"))}, used, 200)
    jobs = Jobs(await tollgate.parts.closing())
    await jobs.catch_up(token.tenant, stands["customers"], parse_time(to, "/to"))
    return answer


async def _clock(tollgate: Application, token: Token, clock: str) -> dict[str, Any]:
    body = await tollgate.documents.get(token.tenant, COUNTER, types.clock_id(clock))
    if body is None:
        raise not_found("test clock with this id")
    return body


async def _set(tollgate: Application, token: Token, data: dict[str, Any], key: str, status: int) -> Response:
    made = command(tollgate, token, types.CLOCKS_CUSTOMER, types.CLOCK_SET, data, key)
    done = await carried_out(tollgate, made)
    if not isinstance(done, Operation):
        return done
    return JSONResponse(Clock.model_validate(done.result["clock"]).model_dump(mode="json"), status)
