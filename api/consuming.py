"""Check and usage in one: what is allowed is held, reported as usage that names the hold, and so ends it.

An Idempotency-Key counts once: the hold's id and the event's identity are made of it. Whatever was cut off between the
two is taken up by the same request again; what was denied is not final.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

from api.asking import CONSUME_PREFIX
from ingest.accept import Record
from rating.admission import Ask, MeterAsk
from schemas.canonical import json_of, parse
from schemas.errors import Conflict, InvalidInput, Unavailable
from schemas.money import format_nanos
from schemas.topics import USAGE_EVENTS
from schemas.usage_types import USAGE_REPORTED
from streams.admission.answers import Checked, Denial, Standing, refusing, tightest
from streams.admission.client import Admission

SOURCE: Final = "quota.consume"
TRIES_MAX: Final = 100
"""Holds of one key that expired before their usage was reported, which only an outage makes."""


async def consume(
    admission: Admission,
    publish: Callable[[Sequence[Record]], Awaitable[None]],
    tenant: str,
    customer: str,
    ask: Ask,
    key: str,
) -> Checked:
    """Reports usage if it is allowed; `publish` returns once Kafka has it. Errors: InvalidInput, Unavailable; Conflict
    for a key of another request."""
    wish = ask.wish
    if not isinstance(wish, MeterAsk):
        raise InvalidInput("missing_field", "meter with quantity is needed", "/meter")
    _check_meter(admission, tenant, wish.meter)
    name = blake2b(f"{len(customer)}:{customer}{key}".encode(), digest_size=16).hexdigest()
    for number in range(TRIES_MAX):
        hold_id = f"{CONSUME_PREFIX}{name}.{number}"
        try:
            answer = await admission.hold_unlisted(tenant, customer, ask, hold_id)
        except Conflict:
            raise Conflict("idempotency_conflict", "the Idempotency-Key stands for another request") from None
        if isinstance(answer, Denial):
            return Checked(False, answer.reason, answer, refusing(answer), answer.available, answer.currency)
        if answer.state == "open":
            await publish([_event(tenant, customer, ask, wish, hold_id)])
        if answer.state in ("open", "settled"):
            return _allowed(answer)
    raise Unavailable("the usage of this key was never reported")


def _check_meter(admission: Admission, tenant: str, meter: str) -> None:
    """Only what is reported can be reported here."""
    event_type = admission.event_type_of(tenant, meter)
    if event_type is None:
        raise InvalidInput("unknown_meter", f"the catalogue has no meter {meter!r}", "/meter")
    if event_type != USAGE_REPORTED:
        raise InvalidInput("wrong_meter", f"the meter {meter!r} measures {event_type} events", "/meter")


def _event(tenant: str, customer: str, ask: Ask, wish: MeterAsk, hold_id: str) -> Record:
    """No time of its own, so that it is the same whenever it is sent again."""
    data: dict[str, Any] = {
        **ask.dimensions,
        "meter": wish.meter,
        "quantity": parse(f'{{"n":{format_nanos(wish.quantity)}}}'.encode())["n"],
        "hold_id": hold_id,
    }
    if ask.user is not None:
        data["user_id"] = ask.user
    event = {
        "specversion": "1.0",
        "id": hold_id,
        "source": SOURCE,
        "type": USAGE_REPORTED,
        "subject": customer,
        "tenantid": tenant,
        "data": data,
    }
    return Record(USAGE_EVENTS, customer.encode(), json_of(event))


def _allowed(hold: Standing) -> Checked:
    return Checked(True, None, None, tightest(hold.quotas), hold.available, hold.currency, hold.quotas)
