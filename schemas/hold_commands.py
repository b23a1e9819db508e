"""The command that settles a hold, and the shape of its data."""

from __future__ import annotations

from typing import Any, Final

from schemas.account_shape import Named, account_type
from schemas.shape import Id
from schemas.usage_types import BuiltIn

HOLD_SETTLE: Final = "tollgate.hold.settle"
"""Charges what a hold was for, and ends it: an amount, a quantity of its meter, or an event's data."""

HOLD_SETTLED: Final = "hold.settled"
"""The event type of its charges."""


class _Settle(Named, frozen=True, kw_only=True, gc=False):
    hold_id: Id
    quantity: str | None = None
    """Decimal text, in units of `meter`."""
    meter: Id | None = None
    event_type: Id | None = None
    event: dict[str, Any] | None = None
    """Data of an event of `event_type`."""
    dimensions: dict[str, str] | None = None
    session_id: Id | None = None
    allocation_id: Id | None = None


HOLD_COMMANDS: Final[dict[str, BuiltIn]] = {HOLD_SETTLE: account_type(_Settle)}
"""By type."""
