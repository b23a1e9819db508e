"""What goes into a decision and what comes out of it: records as read, what stands, what is to become.

Values only; `rating.decide` says how the one leads to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rating.holds import Holds
from schemas.account import Account
from schemas.errors import InvalidInput
from schemas.event import Event, Peek
from schemas.ledger import FINGERPRINT_BYTES
from schemas.ledger_packed import Columns
from schemas.limits import ID_MAX_CHARACTERS


class Unreadable:
    """A record that is no event, with as much of its names as can be read; in columns it stands like an event."""

    __slots__ = ("customer", "id", "occurred_at", "refusal", "source", "tenant", "type")
    user_id = session_id = device_id = allocation_id = hold_id = None

    def __init__(self, seen: Peek, received_at: int, refusal: InvalidInput) -> None:
        self.tenant = seen.tenant[:ID_MAX_CHARACTERS]
        self.customer = seen.customer[:ID_MAX_CHARACTERS]
        self.source = seen.source[:ID_MAX_CHARACTERS]
        self.id = seen.id[:ID_MAX_CHARACTERS]
        self.type = seen.type[:ID_MAX_CHARACTERS]
        self.occurred_at = received_at
        self.refusal = refusal


Judged = Event | Unreadable
"""What decoding made of a record."""


class DeadLetter(NamedTuple):
    """A record that goes to the dead letter topic, by its place in the chunk."""

    place: int
    reason: str
    detail: str


class Outgoing(NamedTuple):
    """An event of ours on `billing.events`, by the place of its entry in the chunk."""

    place: int
    type: str
    data: dict[str, Any]


class Command(NamedTuple):
    """An event for another customer's partition of `account.events`, by the place of the entry that sends it."""

    place: int
    customer: str
    type: str
    id: str
    """Derived from what caused it, so that it is the same whoever decides."""
    data: dict[str, Any]


@dataclass(slots=True)
class Standing:
    """What stands when a chunk is decided; the decision writes on in it."""

    accounts: dict[str, Account]
    """By account key: every account that the chunk's events name and that there is."""
    booked: dict[bytes, bytes]
    """Identity to content: of the identities and claims the chunk's events name, those that are booked."""
    elsewhere: Mapping[str, int]
    """By account key: the partition of customers that do not live here."""
    documents: dict[str, bytes] = field(default_factory=dict)
    """By document key: of the documents that the chunk's events name, those that there are."""
    holds: Holds = field(default_factory=dict)
    """Of the holds, sessions and allocations that the chunk's events name, what was known when it was read."""
    looked_up: set[bytes] = field(default_factory=set)
    """Values of unique meters of which it is known whether they are booked; see `rating.counting`."""


@dataclass(slots=True)
class Decision:
    """What becomes of a chunk: as many records as `count`."""

    count: int = 0
    columns: Columns | None = None
    """Of its entries; None: it has none."""
    touched: dict[str, Account] = field(default_factory=dict)
    """By account key: the accounts whose values changed."""
    booked: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, FINGERPRINT_BYTES), np.uint8))
    """Of all that is newly booked, identity and content end to end; what one entry books in its order."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    reroutes: list[tuple[int, int]] = field(default_factory=list)
    """Index in the chunk and the partition it is sent on to."""
    outgoing: list[Outgoing] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    unseen: list[bytes] = field(default_factory=list)
    """It ends before a record that needs these looked up; empty: it does not."""
