"""Recurring credits of a plan: what is granted each month, and what of the month before rolls over. Pure.

A credit with `rollover_max` does not expire by a time: when the next is granted, what is left of those before stays up
to that bound, the rest lapses; with the subscription's end they get the expiry that the plan says. A credit without it
expires after `expires_after`, if the plan says one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rating.subscriptions import Subscription
from schemas.account import PAID, PROMOTIONAL, Grant
from schemas.catalog_shapes import Credit
from schemas.money import decimal_to_nanos
from schemas.period import add_months, format_time, span_end


class Due(NamedTuple):
    """A credit that falls due."""

    at: int
    place: int
    """Among the plan's credits."""
    credit: Credit


def credits_due(subscription: Subscription, recurring: Sequence[Credit], until: int) -> tuple[list[Due], int]:
    """What falls due up to and including `until`, and how many months are then done.

    Yearly ones fall due each twelfth month from the anchor.
    """
    due: list[Due] = []
    month = subscription.credited
    while (at := add_months(subscription.anchor, month)) <= until:
        due += [Due(at, index, one) for index, one in enumerate(recurring) if one.every == "month" or month % 12 == 0]
        month += 1
    return due, month


def prefix(subscription_id: str, index: int) -> str:
    """How the ids of one recurring credit begin."""
    return f"{subscription_id}:credit-{index}:"


def grant_of(subscription_id: str, due: Due) -> Grant:
    """The grant of a credit that is due."""
    credit = due.credit
    amount = decimal_to_nanos(credit.amount)
    return Grant(
        credit_id=f"{prefix(subscription_id, due.place)}{format_time(due.at)}",
        amount=amount,
        remaining=amount,
        priority=credit.priority or 0,
        expires_at=0 if credit.rollover_max is not None else expiry(due.at, credit),
        granted_at=due.at,
        kind=PROMOTIONAL if credit.kind == "promotional" else PAID,
        scope=credit.scope or (),
    )


def expiry(granted_at: int, credit: Credit) -> int:
    """When a grant of it expires by the plan; 0: never."""
    return span_end(granted_at, credit.expires_after) if credit.expires_after is not None else 0


def lapsing(grants: Sequence[Grant], subscription_id: str, due: Due) -> Iterator[tuple[Grant, int]]:
    """What of the grants before has to go when the next is granted, the oldest first: grant and nanos."""
    bound = due.credit.rollover_max
    if bound is None:
        return
    before = [grant for grant in grants if grant.credit_id.startswith(prefix(subscription_id, due.place))]
    beyond = sum(grant.remaining for grant in before) - decimal_to_nanos(bound)
    for grant in sorted(before, key=lambda grant: grant.granted_at):
        if beyond <= 0:
            return
        part = min(grant.remaining, beyond)
        beyond -= part
        yield grant, part
