"""Users: a customer comes into being."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rating.turn import Effect, Naming, Turn
from schemas.event import Event


def user_created(turn: Turn) -> None:
    """user.created: the wallet comes into being; a plan it names is the account's plan."""
    plan = turn.event.data.get("plan_id") or turn.event.data.get("tier")
    if plan:
        turn.account.plan = plan


EFFECTS: Final[dict[str, Effect]] = {"user.created": user_created}
DOCUMENTS: Final[dict[str, Naming]] = {}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
