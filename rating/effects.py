"""What each type of account event does to an account. Pure; amounts in nanos.

An effect checks first and changes then: InvalidInput means that nothing changed. It answers its wallet postings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from rating.claims import INVOICE_PAYMENT, claim_identity
from rating.wallet import Burnt, check_balance, check_room_for, credit, expire, settle_currency, take_back
from schemas.account import PAID, PROMOTIONAL, Account, Grant
from schemas.errors import InvalidInput
from schemas.event import Event
from schemas.ledger import PostingKind


class Posting(NamedTuple):
    """One movement of a wallet."""

    kind: PostingKind
    amount: int
    """Into the wallet."""
    balance: int
    """After it."""
    cause: str
    """The credit, payment or refund it is about; empty: the event itself."""
    burnt: Burnt


Effect = Callable[[Account, Event, Mapping[bytes, bytes]], list[Posting]]
"""Account, event, and what is booked of the identities the event names."""


def credit_granted(account: Account, event: Event, booked: Mapping[bytes, bytes]) -> list[Posting]:
    """credit.granted: a credit with its own priority, expiry and scope."""
    data = event.data
    amount: int = data["amount"]
    grant = Grant(
        data["credit_id"],
        amount,
        amount,
        data.get("priority") or 0,
        data.get("expires_at") or 0,
        event.occurred_at,
        PROMOTIONAL if data.get("kind") == "promotional" else PAID,
        tuple(data.get("scope") or ()),
    )
    return _credited(account, grant, data["currency"], PostingKind.GRANT)


def payment_completed(account: Account, event: Event, booked: Mapping[bytes, bytes]) -> list[Posting]:
    """payment.completed: credits the wallet, unless it names the invoice it pays."""
    data = event.data
    if data.get("invoice_id") is not None:
        return []
    amount: int = data["amount"]
    grant = Grant(data["payment_id"], amount, amount, 0, 0, event.occurred_at, PAID, ())
    return _credited(account, grant, data["currency"], PostingKind.DEPOSIT)


def payment_refunded(account: Account, event: Event, booked: Mapping[bytes, bytes]) -> list[Posting]:
    """payment.refunded: takes back what a known payment brought to the wallet."""
    payment_id = event.data["payment_id"]
    if payment_identity(event) not in booked:
        raise InvalidInput("unknown_payment", f"payment {payment_id!r} is not known here", "/data/payment_id")
    if invoice_payment_identity(event) in booked:
        return []
    amount: int = event.data["amount"]
    check_balance(account.balance - amount)
    burnt = take_back(account, amount, payment_id)
    return [Posting(PostingKind.REFUND, -amount, account.balance, event.data["refund_id"], burnt)]


def user_created(account: Account, event: Event, booked: Mapping[bytes, bytes]) -> list[Posting]:
    """user.created: the wallet comes into being; a plan it names is the account's plan."""
    plan = event.data.get("plan_id") or event.data.get("tier")
    if plan:
        account.plan = plan
    return []


EFFECTS: dict[str, Effect] = {
    "credit.granted": credit_granted,
    "payment.completed": payment_completed,
    "payment.refunded": payment_refunded,
    "user.created": user_created,
}
"""By event type; an account event of any other type is `ignored` (`no_effect`)."""


def expired(account: Account, now: int) -> list[Posting]:
    """Takes out what credits that expired at or before `now` have left."""
    for grant in account.grants:
        if 0 < grant.expires_at <= now:
            break
    else:
        return []
    balance = account.balance
    postings: list[Posting] = []
    for credit_id, amount in expire(account, now):
        balance -= amount
        postings.append(Posting(PostingKind.EXPIRY, -amount, balance, credit_id, [(credit_id, amount)]))
    return postings


def payment_identity(event: Event) -> bytes:
    """Under which the payment that a refund is about was booked."""
    return claim_identity(event.tenant, event.customer, "payment", event.data["payment_id"])


def invoice_payment_identity(event: Event) -> bytes:
    """What stands beside it if that payment paid an invoice."""
    return claim_identity(event.tenant, event.customer, INVOICE_PAYMENT, event.data["payment_id"])


def _credited(account: Account, grant: Grant, currency: str, kind: PostingKind) -> list[Posting]:
    check_balance(account.balance + grant.amount)
    check_room_for(account, grant)
    settle_currency(account, currency)
    cause, amount = grant.credit_id, grant.amount
    credit(account, grant)
    return [Posting(kind, amount, account.balance, cause, [])]
