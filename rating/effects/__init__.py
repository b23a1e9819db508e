"""What each type of account event does: one module a flow, and here all of them by type.

A module has EFFECTS, by event type, and what an event of a type must find read before it is decided: DOCUMENTS, and
IDENTITIES, of which it asks whether they are booked. An account event of a type that none has is `ignored`
(`no_effect`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rating.effects import (
    clocks,
    collecting,
    corrections,
    customers,
    devices,
    holds,
    intents,
    invoice_payments,
    invoices,
    orders,
    payments,
    signals,
    stripe_names,
    subscriptions,
    users,
    wallet_commands,
)
from rating.effects import credits as credits_flow
from rating.turn import Effect, Naming
from schemas.event import Event

_FLOWS: Final = (
    clocks,
    collecting,
    corrections,
    credits_flow,
    customers,
    devices,
    holds,
    intents,
    invoice_payments,
    invoices,
    orders,
    payments,
    signals,
    stripe_names,
    subscriptions,
    users,
    wallet_commands,
)

EFFECTS: Final[dict[str, Effect]] = {kind: effect for flow in _FLOWS for kind, effect in flow.EFFECTS.items()}
"""By event type."""

DOCUMENTS: Final[dict[str, Naming]] = {kind: naming for flow in _FLOWS for kind, naming in flow.DOCUMENTS.items()}
"""By event type; absent: none."""


IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {
    kind: naming for flow in _FLOWS for kind, naming in flow.IDENTITIES.items()
}
"""By event type: identities and claims that its effect asks for in `booked`, beside those it books itself."""


def documents_named(event: Event) -> list[tuple[str, str]]:
    """Kind and id of the documents that must be read before an event is decided."""
    naming = DOCUMENTS.get(event.type)
    return naming(event) if naming is not None else []


assert len(EFFECTS) == sum(len(flow.EFFECTS) for flow in _FLOWS), "two flows act on one type of event"
