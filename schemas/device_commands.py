"""The commands about allocations and corrections of usage: their types and the shapes of their data."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.account_shape import Named, account_type
from schemas.period import Timestamp
from schemas.shape import Id
from schemas.usage_types import BuiltIn

ALLOCATION_EXPIRE: Final = "tollgate.allocation.expire"
"""The allocation's `expires_at` has gone by, and no release has come."""

USAGE_CORRECT: Final = "tollgate.usage.correct"
"""What a `usage.corrected` asked for, with the charges of the event that it is about."""


class _Expire(Named, frozen=True, kw_only=True, gc=False):
    allocation_id: Id


class Charged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class Correct(Named, frozen=True, kw_only=True, gc=False):
    """See USAGE_CORRECT."""

    correction: Id
    """The document that asked for it."""
    event_type: Id = ""
    """Of the event; empty: it is not known here."""
    occurred_at: Timestamp | None = None
    charges: tuple[Charged, ...] = ()
    replace: dict[str, Any] | None = None
    """The event's data as it should have been; absent: it should not have been."""


DEVICE_COMMANDS: Final[dict[str, BuiltIn]] = {
    ALLOCATION_EXPIRE: account_type(_Expire),
    USAGE_CORRECT: account_type(Correct),
}
"""By type."""
