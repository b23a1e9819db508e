"""Signals of other services that move nothing here, but are somebody's to act on: told on as they came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rating.turn import Effect, Naming, Turn
from schemas.event import Event
from schemas.money import format_nanos

_MONEY: Final = ("amount", "credit_amount", "total_amount")


def told_on(turn: Turn) -> None:
    """storage.quota_exceeded: a flow may sell more."""
    data: dict[str, Any] = dict(turn.event.data)
    for name in _MONEY:
        if isinstance(data.get(name), int):
            data[name] = format_nanos(data[name])
    turn.emit(turn.event.type, {**data, "user_id": turn.event.customer})


EFFECTS: Final[dict[str, Effect]] = {"storage.quota_exceeded": told_on}
DOCUMENTS: Final[dict[str, Naming]] = {}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
