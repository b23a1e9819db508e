"""Settling a hold by its holder: marked, sent through the log, and ended by the entry that charges it.

The mark comes first and is set once, so that of two settlements at once one is sent; it keeps the hold from expiring
until the entry can be there. What a hold was settled for stands: to settle or release it again changes nothing.

Errors: Unavailable while Redis or Kafka is away; InvalidInput for a settlement that cannot be charged, which leaves the
hold open.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Protocol

from schemas.canonical import content_of
from schemas.commands import Command
from schemas.errors import InvalidInput
from schemas.hold_commands import HOLD_SETTLE
from schemas.money import format_nanos
from schemas.usage_types import SESSION_ENDED, TOKENS_USED, USAGE_REPORTED
from streams.admission.answers import Standing, standing_of
from streams.admission.client import Admission
from streams.admission.values import Finished
from streams.commands import DONE, PENDING, Operation

SETTLING_MS: Final = 10 * 60 * 1000
"""A hold whose settlement was sent stays at least so long: no outage of a worker frees its money in between."""

LOOK_SECONDS: Final = 0.01
WAIT_SECONDS: Final = 2.0


SIZES: Final = ("cpu_cores", "memory_mb", "storage_mb")
"""Of an allocation, from its begin to its end."""


class Commands(Protocol):
    """Carries commands out. Errors: Unavailable."""

    async def run(self, command: Command) -> Operation:
        """Sends a command, unless its id has a final outcome, and waits for a while for what becomes of it."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a hold is settled for: exactly one of the three."""

    amount: int | None = None
    """Nanos."""
    quantity: int | None = None
    """Nano-units of the hold's meter."""
    data: dict[str, Any] | None = None
    """Of an event of the hold's type."""


class Settlements:
    """Settles holds for all tenants."""

    def __init__(self, admission: Admission, commands: Commands) -> None:
        self._admission = admission
        self._commands = commands

    async def settle(self, tenant: str, hold_id: str, settlement: Settlement) -> Standing | Operation | None:
        """The hold as it ended; an Operation while that is not known yet; None where there is no such hold."""
        hold = await self._admission.find(tenant, hold_id)
        if hold is None or hold.state != "open":
            return hold
        data = _data(hold, settlement, self._admission.event_type_of(tenant, hold.asked.get("meter")))
        digest = content_of(data).hex()
        marked = await self._admission.settling(tenant, hold_id, digest, settlement.amount, SETTLING_MS)
        if marked is None:
            return None
        customer, stands = marked
        if isinstance(stands, Finished):
            return standing_of(hold_id, customer, stands.ended)
        if not stands.ours:
            return await self._ended(tenant, hold_id)
        operation = await self._commands.run(Command(tenant, customer, HOLD_SETTLE, _id(tenant, hold_id), data))
        if operation.status == PENDING:
            return operation
        if operation.status != DONE and operation.status != "conflict":
            await self._admission.settling(tenant, hold_id, "", None, 0)
            raise InvalidInput(operation.reason, operation.detail)
        return await self._ended(tenant, hold_id)

    async def release(self, tenant: str, hold_id: str) -> Standing | None:
        """Ends a hold, or waits for the settlement that is on its way; None where there is no such hold."""
        hold = await self._admission.release(tenant, hold_id)
        if hold is None or hold.state != "open":
            return hold
        return await self._ended(tenant, hold_id)

    async def _ended(self, tenant: str, hold_id: str) -> Standing | None:
        """How a hold stands whose settlement is on its way, as soon as it has ended."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            hold = await self._admission.find(tenant, hold_id)
            if hold is None or hold.state != "open" or time.monotonic() >= deadline:
                return hold
            await asyncio.sleep(LOOK_SECONDS)


def _id(tenant: str, hold_id: str) -> str:
    """One command a hold, whoever sends it."""
    return "hs_" + blake2b(f"{len(tenant)}:{tenant}{hold_id}".encode(), digest_size=16).hexdigest()


def _data(hold: Standing, settlement: Settlement, event_type: str | None) -> dict[str, Any]:
    """What the command says; `event_type`: of the events that the hold's meter measures."""
    asked = hold.asked
    data: dict[str, Any] = {"hold_id": hold.hold_id}
    if settlement.amount is not None:
        data["amount"] = format_nanos(settlement.amount)
        if "meter" in asked:
            data["meter"] = asked["meter"]
    elif settlement.quantity is not None:
        meters = [asked["meter"]] if "meter" in asked else [line["meter"] for line in asked["prices"]]
        if len(meters) != 1:
            raise InvalidInput("wrong_type", "the hold is not of one meter: settle it by data or amount", "/quantity")
        data |= {"meter": meters[0], "quantity": format_nanos(settlement.quantity)}
        known = {name: str(value) for name, value in asked.get("data", {}).items() if isinstance(value, str)}
        data["dimensions"] = {**known, **asked.get("dimensions", {})}
    else:
        data |= _of_event(hold, settlement.data or {}, event_type)
    if "user" in asked:
        data["user_id"] = asked["user"]
    if hold.session:
        data["session_id"] = hold.session
    if hold.allocation:
        data["allocation_id"] = hold.allocation
    return data


def _of_event(hold: Standing, sent: dict[str, Any], event_type: str | None) -> dict[str, Any]:
    """The event that the hold, or its meter, was for, with what is told of it now. What it was held for at most is not
    taken over; what an allocation is, is."""
    asked = hold.asked
    event_type = asked.get("type", event_type)
    if event_type is None:
        raise InvalidInput("wrong_type", "the hold is for no event: settle it by amount", "/data")
    told = {name: value for name, value in asked.get("data", {}).items() if isinstance(value, str) or name in SIZES}
    event = {**told, **asked.get("dimensions", {}), **sent}
    if event_type == TOKENS_USED:
        event = {"session_id": hold.session or hold.hold_id, "input_tokens": 0, "output_tokens": 0, **event}
    elif event_type == USAGE_REPORTED:
        event = {**event, "meter": asked.get("meter") or event.get("meter")}
    elif event_type == SESSION_ENDED:
        event = {"session_id": hold.session or hold.hold_id, **event}
    elif event_type.startswith("device."):
        of = hold.allocation or hold.hold_id
        event = {"device_id": of, "allocation_id": of, **dict.fromkeys(SIZES, 0), **event}
    return {"event_type": event_type, "event": event}
