"""The commands about allocations and corrections of usage: their types and the shapes of their data."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.account_shape import Named, account_type
from schemas.errors import InvalidInput
from schemas.period import Timestamp
from schemas.shape import Id, read, read_time
from schemas.usage_types import BuiltIn, Filled

ALLOCATION_EXPIRE: Final = "tollgate.allocation.expire"
"""The allocation's `expires_at` has gone by, and no release has come."""

USAGE_CORRECT: Final = "tollgate.usage.correct"
"""What a `usage.corrected` asked for, with the charges of the event that it is about."""


USAGE_RERATE: Final = "tollgate.usage.rerate"
"""What a customer's history differs by under another catalogue, line by line."""

RERATED: Final = "rerated"
"""The dimension of such a charge that says for which span, `<start>/<end>`."""
RERATED_PERIOD: Final = "rerated_period"
"""And for which period of the price, by its start."""
RERATED_FROM: Final = "rerated_from"
"""And which price it was charged at."""


class Charged(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as it was booked."""

    meter: Id
    price_id: str
    catalog_version: int
    unit_amount: str
    currency: str
    dimensions: dict[str, str]
    quantity: int
    """Nano-units."""
    amount: int
    """Nanos."""


class _Rerate(Named, frozen=True, kw_only=True):
    reason: str
    charges: tuple[Charged, ...]


class _Expire(Named, frozen=True, kw_only=True, gc=False):
    allocation_id: Id


class Correct(Named, frozen=True, kw_only=True):
    """See USAGE_CORRECT."""

    correction: Id
    """The document that asked for it."""
    event_type: Id = ""
    """Of the event; empty: it is not known here."""
    occurred_at: Timestamp | None = None
    charges: tuple[Charged, ...] = ()
    user_id: Id | None = None
    session_id: Id | None = None
    device_id: Id | None = None
    allocation_id: Id | None = None


def _correct(data: dict[str, Any]) -> Filled:
    sent = read(data, Correct, "/data")
    computed: dict[str, Any] = {"event_type": sent.event_type, "charges": list(data.get("charges", ()))}
    if sent.occurred_at is not None:
        computed["occurred_at"] = read_time(sent.occurred_at, data, "occurred_at")
    elif sent.event_type:
        raise InvalidInput("missing_field", "data.occurred_at is missing", "/data/occurred_at")
    return Filled(data, computed)


DEVICE_COMMANDS: Final[dict[str, BuiltIn]] = {
    ALLOCATION_EXPIRE: account_type(_Expire),
    USAGE_RERATE: account_type(_Rerate),
    USAGE_CORRECT: BuiltIn(Correct, _correct),
}
"""By type."""
