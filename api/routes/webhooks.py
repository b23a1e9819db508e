"""What Stripe tells: a signed delivery becomes an account event, and is answered 200 once Kafka has it.

No token: the signature says who it is. Whatever is answered otherwise Stripe delivers again, for days; so a delivery is
answered 503 where it speaks of a payment that is not known yet (they come in no order), and 200 where it is none of our
business or was told before.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field

from api.bodies import JSON, described_body, read_body
from api.parts import Application, Tollgate
from api.problems import BODY_RESPONSES, PROBLEM_RESPONSES, Refused, not_found
from ingest.accept import judge
from invoicing.stripe.webhook import account_event, verified
from schemas.documents import PAYMENT
from schemas.errors import InvalidInput, Unavailable

router = APIRouter(tags=["webhooks"], responses=PROBLEM_RESPONSES)


class Taken(BaseModel):
    """A delivery that need not come again."""

    outcome: Annotated[str, Field(description="`accepted`: Kafka has the event; `ignored`: it concerns nothing here")]


@router.post(
    "/webhooks/stripe",
    responses=BODY_RESPONSES,
    openapi_extra=described_body({"type": "object", "description": "An event of Stripe, signed"}, JSON),
)
async def stripe_delivery(
    request: Request,
    tollgate: Tollgate,
    signature: Annotated[str, Header(alias="Stripe-Signature", max_length=4096)] = "",
) -> Taken:
    """One delivery. 400 for a signature that none of the secrets made."""
    secrets = tollgate.parts.stripe_webhook_secrets
    if not secrets:
        raise not_found("webhooks of Stripe are not configured here (TOLLGATE_STRIPE_WEBHOOK_SECRET)")
    _, body = await read_body(request, JSON)
    try:
        event = account_event(verified(body, signature, secrets))
    except InvalidInput as error:
        if error.reason == "bad_signature":
            raise Refused(400, error.reason, error.detail) from None
        raise
    if event is None:
        return Taken(outcome="ignored")
    if event["type"] == "payment.refunded":
        await _must_be_known(tollgate, event)
    parts = tollgate.parts
    _, record = judge(json.dumps(event).encode(), event["tenantid"], parts.now(), parts.max_future)
    await parts.publisher.publish([record])
    return Taken(outcome="accepted")


async def _must_be_known(tollgate: Application, event: dict[str, Any]) -> None:
    payment_id = event["data"]["payment_id"]
    if await tollgate.documents.get(event["tenantid"], PAYMENT, payment_id) is None:
        raise Unavailable(f"payment {payment_id!r}, which is refunded, is not known yet")
