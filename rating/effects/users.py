"""Users: a customer comes into being, changes its tier, is deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rating.effects.credits import customer_named, open_wallet, tell_moved
from rating.effects.order_flow import cancel_open_orders
from rating.effects.subscriptions import end_all
from rating.subscriptions import respanned
from rating.turn import Effect, Naming, NoEffect, Turn
from rating.wallet import lapse, pay_out, payable
from schemas.account import PAID, PlanSpan
from schemas.claims import USER, Claim, claim_of
from schemas.documents import CUSTOMER
from schemas.event import Event
from schemas.ledger import PostingKind
from schemas.money import format_nanos
from schemas.period import format_time


def user_created(turn: Turn) -> None:
    """user.created: the wallet comes into being, if money did not make it; a plan it names is the account's plan."""
    plan = turn.event.data.get("plan_id") or turn.event.data.get("tier") or turn.account.plan
    made = _made(turn.event)
    if made.identity not in turn.booked:
        turn.claim(made.identity, made.content)
    elif plan == turn.account.plan:
        raise NoEffect
    open_wallet(turn)
    turn.account.plan = plan


def user_upgraded(turn: Turn) -> None:
    """user.upgraded: the plan from the event's time on; usage of before keeps the one it had."""
    plan = turn.event.data.get("plan_id") or turn.event.data.get("tier")
    account, at = turn.account, turn.event.occurred_at
    if not plan or account.plan_at(at) == plan:
        raise NoEffect
    stands = account.span_at(at)
    before = account.spans or ([PlanSpan(0, account.plan, "", 0, 1)] if account.plan else [])
    kept = (stands.subscription_id, stands.anchor, stands.months) if stands is not None else ("", 0, 1)
    account.spans = respanned(before, at, [PlanSpan(at, plan, *kept)])


def user_deleted(turn: Turn) -> None:
    """user.deleted: what was paid goes back, what was given lapses; holds, open orders and subscriptions end. Usage
    that is still to come is charged."""
    account, event = turn.account, turn.event
    if account.closed_at:
        raise NoEffect
    open_wallet(turn)
    account.closed_at = turn.now
    amount = payable(account)
    if amount:
        turn.post(PostingKind.REFUND, -amount, event.id, pay_out(account, amount))
        tell_moved(turn, PostingKind.REFUND, -amount, event.id, reason="user_deleted")
    for grant in [grant for grant in account.grants if grant.kind != PAID]:
        lapse(account, grant)
        turn.post(PostingKind.EXPIRY, -grant.remaining, grant.credit_id, [(grant.credit_id, grant.remaining)])
        tell_moved(turn, PostingKind.EXPIRY, -grant.remaining, grant.credit_id, reason="user_deleted")
    for hold_id in turn.open_holds():
        turn.end_hold(hold_id, "released")
    cancel_open_orders(turn, "user_deleted")
    end_all(turn, "user_deleted")
    body = turn.document(CUSTOMER, event.customer) or {}
    closed = {"closed_at": format_time(turn.now), "closing_refund": format_nanos(amount)}
    turn.put(CUSTOMER, event.customer, {**body, **closed})


def _made(event: Event) -> Claim:
    """That a user came into being; of several users of one customer each does."""
    return claim_of(event, USER, str(event.data.get("user_id") or event.customer))


EFFECTS: Final[dict[str, Effect]] = {
    "user.created": user_created,
    "user.upgraded": user_upgraded,
    "user.deleted": user_deleted,
}
DOCUMENTS: Final[dict[str, Naming]] = {"user.created": customer_named, "user.deleted": customer_named}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {"user.created": lambda event: [_made(event).identity]}
