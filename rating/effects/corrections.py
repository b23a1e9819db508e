"""Corrections of usage: an earlier event is cancelled, or replaced by what it should have been.

A `usage.corrected` names an event of the same customer. What that was charged is not in the account, so the event only
asks: it leaves a document `correction`, pending, and books that the event is corrected, which it is once. Who finds the
event's charges in the ledger sends them with USAGE_CORRECT, which takes them back and charges what replaces them:
further entries, at the time of the original and the prices of that time. Nothing that is booked is changed.

Where a price depends on its period so far, what comes back is what the period's total falls by. Meters that keep a
smallest, largest, last or average value, or count what is unique, keep what was once seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from rating.charging import Booked
from rating.counting import Counted, period_start
from rating.turn import Effect, Naming, NoEffect, Turn
from schemas.account import counter_key
from schemas.canonical import CONTENT_BYTES, content_of, identity_of, json_of, parse
from schemas.claims import claim_identity
from schemas.device_commands import USAGE_CORRECT, USAGE_RERATE, Charged
from schemas.documents import CORRECTION
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import Rate
from schemas.money import format_nanos, pack_int, unpack_int
from schemas.period import format_time
from schemas.shape import read
from schemas.usage_types import PRODUCT_USAGE_RECORDED, USAGE_CORRECTED, USAGE_REPORTED, USAGE_TYPES

PENDING: Final = "pending"
BOOKED: Final = "booked"
UNKNOWN: Final = "unknown_event"

_SUMMED: Final = frozenset(("sum", "count"))


def corrected(turn: Turn) -> None:
    """usage.corrected: asks for a correction, once for each event."""
    event, data = turn.event, turn.event.data
    claim, content = _claim(event), content_of([data["reason"], data.get("replace")])
    assert len(content) == CONTENT_BYTES
    told = turn.booked.get(claim)
    if told is not None:
        if told == content:
            raise NoEffect
        raise InvalidInput(
            "conflict", f"the event {data['id']!r} of {data['source']!r} is corrected already, otherwise", "/data/id"
        )
    turn.claim(claim, content)
    replace = data.get("replace")
    turn.put(
        CORRECTION,
        _document_id(event),
        {
            "source": data["source"],
            "id": data["id"],
            "reason": data["reason"],
            "replace": json_of(replace).decode() if replace is not None else None,
            "status": PENDING,
            "asked_at": format_time(turn.received_at),
            "asked_by": {"source": event.source, "id": event.id},
        },
    )


def correct(turn: Turn) -> None:
    """USAGE_CORRECT: books a pending correction."""
    data = turn.event.data
    name: str = data["correction"]
    body = turn.document(CORRECTION, name)
    if body is None or body["status"] != PENDING:
        raise NoEffect
    if not data.get("event_type"):
        turn.put(CORRECTION, name, {**body, "status": UNKNOWN})
        return
    occurred_at = data["occurred_at"]
    back, left = _taken_back(turn, occurred_at, [read(one, Charged, "/data/charges") for one in data["charges"]])
    charged = 0
    if body["replace"] is not None:
        replaced = _replaced(turn.event, data["event_type"], occurred_at, parse(body["replace"].encode()))
        charged = turn.charge(replaced) if not replaced.zero else 0
    turn.put(
        CORRECTION,
        name,
        {
            **body,
            "status": BOOKED,
            "taken_back": format_nanos(-back),
            "charged": format_nanos(charged),
            "left_meters": left,
        },
    )
    turn.result = {"taken_back": format_nanos(-back), "charged": format_nanos(charged)}


def rerated(turn: Turn) -> None:
    """USAGE_RERATE: books what lines of history differ by; quantities are as they were."""
    charges = [read(one, Charged, "/data/charges") for one in turn.event.data["charges"]]
    total = turn.charge_booked([Booked(_rate(one), 0, one.amount) for one in charges], [])
    turn.result = {"amount": format_nanos(total)}


def _rate(charge: Charged) -> Rate:
    return Rate(
        charge.meter,
        charge.price_id,
        charge.catalog_version,
        charge.unit_amount,
        charge.currency,
        tuple(sorted(charge.dimensions.items())),
    )


def _taken_back(turn: Turn, occurred_at: int, charges: list[Charged]) -> tuple[int, list[str]]:
    """Books charges with the opposite sign; their sum in nanos, and the meters whose charges stay."""
    counted: Counted = []
    booked: list[Booked] = []
    left: list[str] = []
    catalogue = turn.catalogue_at(occurred_at)
    for one in charges:
        meter = catalogue.meter(one.meter) if catalogue is not None else None
        if meter is not None and meter.aggregation not in _SUMMED:
            left.append(one.meter)
            continue
        amount = -one.amount
        price = catalogue.price_by_id(one.price_id, turn.account.terms.own) if catalogue is not None else None
        if price is not None and price.counters == ("",):
            key = counter_key(price.id, period_start(turn.account, occurred_at))
            so_far = dict(counted).get(key, turn.account.counters.get(key))
            if so_far is not None and unpack_int(so_far) >= one.quantity:
                amount, (after,) = price.advance((unpack_int(so_far),), -one.quantity)
                counted.append((key, pack_int(after)))
        booked.append(Booked(_rate(one), -one.quantity, amount))
    return turn.charge_booked(booked, counted), left


def _replaced(event: Event, event_type: str, occurred_at: int, data: dict[str, Any]) -> Event:
    """The event as it should have been. InvalidInput where it is none."""
    built_in = USAGE_TYPES.get(event_type)
    zero = False
    if built_in is not None:
        filled = built_in.complete(built_in.without_nulls(data))
        data, zero = filled.data | (filled.computed or {}), filled.zero
    return msgspec.structs.replace(
        event,
        type=USAGE_REPORTED if event_type == PRODUCT_USAGE_RECORDED else event_type,
        occurred_at=occurred_at,
        data=data,
        zero=zero,
    )


def _claim(event: Event) -> bytes:
    """Under which it is booked that an event is corrected."""
    source: str = event.data["source"]
    return claim_identity(event.tenant, event.customer, CORRECTION, f"{len(source)}:{source}{event.data['id']}")


def _document_id(event: Event) -> str:
    return identity_of(event.tenant, event.customer, event.data["source"], event.data["id"]).hex()


EFFECTS: Final[dict[str, Effect]] = {USAGE_CORRECTED: corrected, USAGE_CORRECT: correct, USAGE_RERATE: rerated}
DOCUMENTS: Final[dict[str, Naming]] = {USAGE_CORRECT: lambda event: [(CORRECTION, event.data["correction"])]}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {USAGE_CORRECTED: lambda event: [_claim(event)]}
