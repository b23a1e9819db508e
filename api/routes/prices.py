"""What a price would come to, on the pipeline's own arithmetic."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from api.answers import PriceEstimate
from api.auth import needs
from api.bodies import JSON, described_body, json_judged, read_body
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES
from api.tokens import Token
from rating.estimate import estimate
from schemas.canonical import parse
from schemas.limits import BODY_MAX_BYTES

router = APIRouter(tags=["prices"], responses=PROBLEM_RESPONSES)

_QUANTITY: Final[dict[str, Any]] = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
_DIMENSION: Final[dict[str, Any]] = {"type": ["string", "number", "boolean", "null"]}
_REQUEST: Final[dict[str, Any]] = {
    "type": "object",
    "description": "A price, and a quantity or the quantities of several events of one period",
    "required": ["price"],
    "properties": {
        "price": {"type": "object"},
        "quantity": _QUANTITY,
        "quantities": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["quantity"],
                "properties": {
                    "quantity": _QUANTITY,
                    "dimensions": {
                        "type": "object",
                        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
                    },
                },
            },
        },
    },
}


@router.post("/v1/prices/estimate", responses=BODY_RESPONSES, openapi_extra=described_body(_REQUEST, JSON))
async def post_estimate(request: Request, token: Annotated[Token, needs("usage:read")]) -> PriceEstimate:
    """The amount of a period, exact and not rounded, with the steps that lead to it."""
    _, body = await read_body(request, JSON)
    with json_judged(body):
        found = await run_in_threadpool(estimate, parse(body, BODY_MAX_BYTES))
        return PriceEstimate.model_validate(found.document())
