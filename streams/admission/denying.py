"""Why something is not allowed: the first bound that has no room, and the denial that says so."""

from __future__ import annotations

from dataclasses import replace

from rating.admission import Ask, Assessment, Bound, MeterAsk
from schemas.account import Account
from streams.admission.answers import Denial, refused
from streams.admission.values import Held, Refused


def refusing(bounds: tuple[Bound, ...], held: tuple[int, ...]) -> int | None:
    """The first bound that what is wanted does not fit into; None where all have room."""
    for at, (bound, holding) in enumerate(zip(bounds, held, strict=True)):
        if bound.room is not None and (bound.room < 0 or holding + bound.wanted > bound.room) and bound.kind != "reach":
            return at
    return None


def denial_of(
    denial_id: str,
    tenant: str,
    customer: str,
    ask: Ask,
    assessment: Assessment,
    held: Held | Refused,
    which: int | None,
    account: Account | None,
    partition: int,
    now: int,
) -> Denial:
    """The denial of an ask by its assessment, or by the bound `which` of it."""
    denied = Denial(
        denial_id,
        tenant,
        customer,
        "wallet",
        "",
        assessment.currency,
        assessment.room - held.held[0],
        assessment.amount,
        user=ask.user,
        plan=assessment.plan,
        catalog_version=assessment.catalog_version,
        balance=account.balance if account is not None else 0,
        partition=partition,
        offset=held.offset,
        denied_at=now,
    )
    if assessment.denied is not None:
        meter = ask.wish.meter if isinstance(ask.wish, MeterAsk) else None
        return replace(denied, reason=assessment.denied.reason, detail=assessment.denied.detail, meter=meter)
    assert which is not None
    return refused(denied, assessment.bounds[which], held.held[which])
