"""The settlement of a hold by API: its charge, and the hold's end with it.

The hold was open when the settlement was sent, so it is charged whatever became of the hold since; but if an event
settled it before, that was the charge, and this one has no effect. What an event says of holds is `rating.holds`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from rating.admission import fill_times
from rating.holds import BY_API, SETTLED, hold_identity
from rating.turn import Effect, Naming, NoEffect, Turn
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.hold_commands import HOLD_SETTLE, HOLD_SETTLED
from schemas.money import format_nanos, parse_nanos
from schemas.usage_types import USAGE_TYPES


def settle(turn: Turn) -> None:
    """tollgate.hold.settle"""
    data = turn.event.data
    hold_id: str = data["hold_id"]
    identity = hold_identity(turn.event, hold_id)
    if identity in turn.booked or turn.hold_state(hold_id) == SETTLED:
        raise NoEffect
    turn.tell_as(HOLD_SETTLED)
    if "amount" in data:
        charged: int = data["amount"]
        turn.charge_amount(charged, data.get("meter") or "", _currency(turn))
    elif data.get("event") is not None:
        charged = turn.charge(_event(turn.event, data))
    else:
        charged = _charge_meter(turn, data)
    turn.claim(identity, BY_API)
    turn.end_hold(hold_id, SETTLED, max(charged, 0))
    turn.result.update(state=SETTLED, charged=format_nanos(charged))


def _charge_meter(turn: Turn, data: dict[str, Any]) -> int:
    meter, quantity = data.get("meter"), data.get("quantity")
    if meter is None or quantity is None:
        raise InvalidInput("missing_field", "amount, quantity or data is needed", "/data/quantity")
    nanos = parse_nanos(quantity, "/data/quantity")
    if nanos < 0:
        raise InvalidInput("out_of_range", "the quantity is below zero", "/data/quantity")
    return turn.charge_meter(meter, nanos, data.get("dimensions") or {})


def _event(command: Event, data: dict[str, Any]) -> Event:
    """The usage that a settlement tells of, as of the settlement's time."""
    event_type: str = data.get("event_type") or ""
    sent: dict[str, Any] = dict(data["event"])
    if "duration_seconds" in sent:
        fill_times(sent, event_type, command.occurred_at)
    built_in = USAGE_TYPES.get(event_type)
    if built_in is not None:
        filled = built_in.complete(built_in.without_nulls(sent))
        sent = {**filled.data, **(filled.computed or {})}
    return replace(command, type=event_type, data=sent)


def _currency(turn: Turn) -> str:
    catalogue = turn.catalogue
    return turn.account.currency or (catalogue.currency if catalogue is not None else "USD")


def _identities(event: Event) -> list[bytes]:
    return [hold_identity(event, event.data["hold_id"])]


EFFECTS: Final[dict[str, Effect]] = {HOLD_SETTLE: settle}
DOCUMENTS: Final[dict[str, Naming]] = {}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {HOLD_SETTLE: _identities}
