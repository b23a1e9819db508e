"""Check and usage in one: what is allowed is held, reported as usage that names the hold, and so ends it.

An Idempotency-Key counts once: the hold's id and the event's identity are made of it. Whatever was cut off between the
two is taken up by the same request again; what was denied is not final.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from api.asking import CONSUME_PREFIX
from api.parts import Application
from api.problems import Refused
from ingest.accept import Record
from rating.admission import Ask, MeterAsk
from schemas.canonical import json_of, parse
from schemas.errors import Conflict, InvalidInput, Unavailable
from schemas.money import format_nanos
from schemas.topics import USAGE_EVENTS
from schemas.usage_types import PRODUCT_USAGE_RECORDED, USAGE_REPORTED
from streams.admission.answers import Checked, Denial, Standing, refusing, tightest

SOURCE: Final = "quota.consume"
TRIES_MAX: Final = 100
"""Holds of one key that expired before their usage was reported, which only an outage makes."""


async def consume(tollgate: Application, tenant: str, customer: str, ask: Ask, key: str) -> Checked:
    """Reports usage if it is allowed. Errors: InvalidInput, Unavailable; Refused 409 for a key of another request."""
    wish = ask.wish
    assert isinstance(wish, MeterAsk)
    _check_meter(tollgate, tenant, wish.meter)
    name = blake2b(f"{len(customer)}:{customer}{key}".encode(), digest_size=16).hexdigest()
    for number in range(TRIES_MAX):
        hold_id = f"{CONSUME_PREFIX}{name}.{number}"
        try:
            answer = await tollgate.admission.hold_unlisted(tenant, customer, ask, hold_id)
        except Conflict:
            raise Refused(409, "idempotency_conflict", "the Idempotency-Key stands for another request") from None
        if isinstance(answer, Denial):
            return Checked(False, answer.reason, answer, refusing(answer), answer.available, answer.currency)
        if answer.state == "open":
            await tollgate.parts.publisher.publish([_event(tenant, customer, ask, wish, hold_id)])
        if answer.state in ("open", "settled"):
            return _allowed(answer)
    raise Unavailable("the usage of this key was never reported")


def _check_meter(tollgate: Application, tenant: str, meter: str) -> None:
    """Only what is reported can be reported here."""
    parts = tollgate.parts
    catalogue = parts.book.catalogue(tenant, parts.book.position, parts.now())
    declared = catalogue.meter(meter) if catalogue is not None else None
    if declared is None:
        raise InvalidInput("unknown_meter", f"the catalogue has no meter {meter!r}", "/meter")
    if declared.event_type not in (USAGE_REPORTED, PRODUCT_USAGE_RECORDED):
        raise InvalidInput("wrong_meter", f"the meter {meter!r} measures {declared.event_type} events", "/meter")


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
