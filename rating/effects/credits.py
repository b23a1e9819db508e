"""Credits: granted, and taken out when they expire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rating.turn import Effect, Naming, Turn
from rating.wallet import Burnt, check_balance, check_room_for, credit, expire, settle_currency
from schemas.account import PAID, PROMOTIONAL, Account, Grant
from schemas.event import Event
from schemas.ledger import PostingKind


def credit_granted(turn: Turn) -> None:
    """credit.granted: a credit with its own priority, expiry and scope."""
    data = turn.event.data
    amount: int = data["amount"]
    grant = Grant(
        data["credit_id"],
        amount,
        amount,
        data.get("priority") or 0,
        data.get("expires_at") or 0,
        turn.event.occurred_at,
        PROMOTIONAL if data.get("kind") == "promotional" else PAID,
        tuple(data.get("scope") or ()),
    )
    put_in(turn, grant, data["currency"], PostingKind.GRANT)


def put_in(turn: Turn, grant: Grant, currency: str, kind: PostingKind) -> None:
    """A credit into the wallet, with its posting. InvalidInput where there is no room for it."""
    account = turn.account
    check_balance(account.balance + grant.amount)
    check_room_for(account, grant)
    settle_currency(account, currency)
    cause, amount = grant.credit_id, grant.amount
    credit(account, grant)
    turn.post(kind, amount, cause)


def expired(account: Account, now: int) -> Burnt:
    """Takes out what credits that expired at or before `now` have left; which and how much, in order."""
    for grant in account.grants:
        if 0 < grant.expires_at <= now:
            return expire(account, now)
    return []


EFFECTS: Final[dict[str, Effect]] = {"credit.granted": credit_granted}
DOCUMENTS: Final[dict[str, Naming]] = {}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
