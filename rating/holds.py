"""What events do to holds: whichever comes first ends a hold, the others are harmless. Pure.

A hold is named by an event, or was made with its session or allocation, which `session.ended` and `device.released`
end. An event that names an open hold is charged and ends it, unless it says `final: false`: then what it was charged is
taken out of the hold. If the hold was settled by API, that was the charge and the event is a duplicate: that is known
for ever, by a claim. If the hold was released, has expired or is unknown, the event is charged in full and flagged.

Which holds are open is Redis's word, read before a batch is decided; what follows from it stands in the ledger.
"""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple, Protocol

from schemas.claims import claim_identity
from schemas.event import Event
from schemas.ledger import HOLD_NOT_OPEN
from schemas.outcome import Outcome
from schemas.usage_types import DEVICE_RELEASED, SESSION_ENDED

HOLD: Final = "h"
SESSION: Final = "s"
ALLOCATION: Final = "a"
ALL: Final = "*"
"""Every open hold of the customer."""

OPEN: Final = "open"
SETTLED: Final = "settled"

USER_DELETED: Final = "user.deleted"
"""Releases every open hold of its customer."""

ENDING: Final = frozenset({SESSION_ENDED, DEVICE_RELEASED})
"""Types that end the holds made with their session or allocation."""

BY_USAGE: Final = b"by-usage"
BY_API: Final = b"by-api--"
"""Contents of the claim that a hold was settled: how."""


class HoldName(NamedTuple):
    """What is asked of a customer's holds: how one stands, or which open ones were made with a session."""

    account: str
    """Account key."""
    kind: str
    """HOLD, SESSION, ALLOCATION or ALL."""
    name: str


Holds = dict[HoldName, tuple[str, ...]]
"""What is known: of a hold its state alone, of a session, an allocation or of all the ids of open holds. Absent:
unknown, none."""


class Entries(Protocol):
    """What of a chunk's entries is needed here."""

    outcome: bytearray
    charges: array[int]
    charge_amount: list[int]
    flags: dict[int, int]


class Columns(Protocol):
    """What of a chunk is needed here."""

    @property
    def entries(self) -> Entries:
        """What was put down."""

    booked: dict[bytes, bytes]
    holds: Holds
    charged: int

    def end_hold(self, index: int, hold_id: str, state: str, charged: int) -> None:
        """A hold that ends with the entry."""

    def claim(self, identity: bytes, content: bytes) -> None:
        """What the entry books beside its identity."""


def hold_identity(event: Event, hold_id: str) -> bytes:
    """Under which it is booked that a hold of the event's customer was settled."""
    return claim_identity(event.tenant, event.customer, "hold", hold_id)


def holds_named(event: Event, key: str) -> list[HoldName]:
    """What must be read of holds before an event is decided."""
    if event.type == USER_DELETED:
        return [HoldName(key, ALL, "")]
    named = [HoldName(key, HOLD, event.hold_id)] if event.hold_id is not None else []
    if event.type in ENDING:
        if event.session_id is not None:
            named.append(HoldName(key, SESSION, event.session_id))
        if event.allocation_id is not None:
            named.append(HoldName(key, ALLOCATION, event.allocation_id))
    return named


def settled_by_api(chunk: Columns, event: Event) -> bool:
    """Whether the hold that the event names was settled by the API, which was its charge."""
    return event.hold_id is not None and chunk.booked.get(hold_identity(event, event.hold_id)) == BY_API


def end_holds(chunk: Columns, index: int, event: Event, key: str) -> None:
    """Ends what an event ends, or takes what it was charged out of its hold. The event is decided: rated or ignored."""
    entries = chunk.entries
    if event.hold_id is not None:
        charges = entries.charges[index]
        charged = sum(entries.charge_amount[chunk.charged - charges : chunk.charged]) if charges else 0
        _end_named(chunk, index, event, HoldName(key, HOLD, event.hold_id), max(charged, 0))
    if chunk.holds and event.type in ENDING:
        for kind, name in ((SESSION, event.session_id), (ALLOCATION, event.allocation_id)):
            if name is None:
                continue
            for hold_id in chunk.holds.pop(HoldName(key, kind, name), ()):
                if hold_id != event.hold_id:
                    chunk.end_hold(index, hold_id, SETTLED, 0)
                    chunk.holds[HoldName(key, HOLD, hold_id)] = (SETTLED,)


def _end_named(chunk: Columns, index: int, event: Event, name: HoldName, charged: int) -> None:
    (state,) = chunk.holds.get(name, ("",))
    if state != OPEN and chunk.entries.outcome[index] == Outcome.RATED:
        chunk.entries.flags[index] = chunk.entries.flags.get(index, 0) | HOLD_NOT_OPEN
    if not event.final:
        if state == OPEN and charged:
            chunk.end_hold(index, name.name, OPEN, charged)
        return
    if state in (OPEN, ""):
        # Also of one that is not known: what lost it may bring it back, and then it has ended.
        chunk.end_hold(index, name.name, SETTLED, charged)
        chunk.holds[name] = (SETTLED,)
    identity = hold_identity(event, name.name)
    if identity not in chunk.booked:
        chunk.claim(identity, BY_USAGE)
