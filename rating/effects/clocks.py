"""Test clocks: time that tests move. A clock lives with a customer of its own and tells the customers on it.

A customer on a clock has its time: its credits expire by it, its subscriptions renew by it, and what is decided for it
happens then. A clock goes forward only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rating.turn import Effect, Naming, NoEffect, Refused, Turn
from schemas import invoicing_commands as types
from schemas.documents import COUNTER
from schemas.event import Event
from schemas.period import format_time, parse_time


def set_clock(turn: Turn) -> None:
    """tollgate.clock.set: makes a clock or moves it on, and tells its customers in the same transaction."""
    data = turn.event.data
    clock = data["clock"]
    stands = turn.document(COUNTER, types.clock_id(clock))
    if not data.get("now") and stands is None:
        raise Refused("not_found", f"there is no clock {clock!r}")
    now = parse_time(data.get("now") or (stands or {})["now"])
    if stands is not None and now < parse_time(stands["now"]):
        raise Refused("state", f"the clock {clock!r} stands at {stands['now']}; it goes forward only")
    customers = list(dict.fromkeys([*(stands["customers"] if stands else ()), *(data.get("customers") or ())]))
    if len(customers) > types.CLOCK_CUSTOMERS_MAX:
        raise Refused("out_of_range", f"a clock has at most {types.CLOCK_CUSTOMERS_MAX} customers")
    name = data.get("name") or (stands or {}).get("name")
    body = {"id": clock, "name": name, "now": format_time(now), "customers": customers}
    turn.put(COUNTER, types.clock_id(clock), body)
    turn.result["clock"] = body
    for customer in customers:
        turn.command(customer, types.CLOCK_TOLD, f"{turn.event.id}:told", {"clock": clock, "now": format_time(now)})


def told(turn: Turn) -> None:
    """tollgate.clock.told: the customer's time is the clock's."""
    now = parse_time(turn.event.data["now"])
    if now <= turn.account.clock:
        raise NoEffect
    turn.account.clock = now


def _clock(event: Event) -> list[tuple[str, str]]:
    return [(COUNTER, types.clock_id(event.data["clock"]))]


EFFECTS: Final[dict[str, Effect]] = {types.CLOCK_SET: set_clock, types.CLOCK_TOLD: told}
DOCUMENTS: Final[dict[str, Naming]] = {types.CLOCK_SET: _clock}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
