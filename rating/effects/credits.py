"""Credits: granted, and taken out when they expire; and what `billing.events` tells of a wallet that moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rating.billing import FINAL
from rating.turn import Effect, Naming, Refused, Turn
from rating.wallet import Burnt, check_balance, check_room_for, credit, debt, expire, settle_currency
from schemas.account import PAID, PROMOTIONAL, Account, Grant
from schemas.documents import COUNTER, CUSTOMER
from schemas.event import Event
from schemas.invoicing_commands import INVOICES_COLLECT, billing_id
from schemas.ledger import PostingKind
from schemas.limits import ID_MAX_CHARACTERS
from schemas.money import format_nanos
from schemas.period import format_time

_TOLD: Final[dict[PostingKind, str]] = {
    PostingKind.CHARGE: "wallet.consumed",
    PostingKind.GRANT: "wallet.deposited",
    PostingKind.DEPOSIT: "wallet.deposited",
    PostingKind.WITHDRAWAL: "wallet.withdrawn",
    PostingKind.TRANSFER_IN: "wallet.transferred",
    PostingKind.TRANSFER_OUT: "wallet.transferred",
    PostingKind.REFUND: "wallet.refunded",
}
"""What a movement is told as, beside the change of the balance."""


def credit_granted(turn: Turn) -> None:
    """credit.granted: a credit with its own priority, expiry and scope."""
    data = turn.event.data
    open_wallet(turn)
    put_in(turn, grant_of(turn, data["credit_id"]), data["currency"], PostingKind.GRANT)


def grant_of(turn: Turn, credit_id: str) -> Grant:
    """The credit that an event's data describes."""
    data = turn.event.data
    amount: int = data["amount"]
    return Grant(
        credit_id,
        amount,
        amount,
        data.get("priority") or 0,
        data.get("expires_at") or 0,
        turn.now,
        PROMOTIONAL if data.get("kind") == "promotional" else PAID,
        tuple(data.get("scope") or ()),
    )


def paid_grant(turn: Turn, credit_id: str, amount: int) -> Grant:
    """Money that was paid: it has no end and no scope."""
    return Grant(credit_id, amount, amount, 0, 0, turn.now, PAID, ())


def put_in(turn: Turn, grant: Grant, currency: str, kind: PostingKind, **more: Any) -> str:
    """A credit into the wallet, with its posting, whose place in the entry it answers. InvalidInput where there is no
    room for it. `more` is told with it."""
    account = turn.account
    check_balance(account.balance + grant.amount)
    check_room_for(account, grant)
    settle_currency(account, currency)
    cause, amount = grant.credit_id, grant.amount
    owed = debt(account) > 0
    credit(account, grant)
    debt_paid = amount - grant.remaining
    place = turn.post(kind, amount, cause, [(cause, debt_paid)] if debt_paid else None)
    tell_moved(turn, kind, amount, cause, **more)
    if owed and debt(account) <= 0:
        _collect(turn)
    return place


def _collect(turn: Turn) -> None:
    """A wallet that is out of debt pays the invoices that waited for it."""
    billing = turn.document(COUNTER, billing_id(turn.event.customer))
    if billing is not None and any(one["state"] == FINAL for one in billing["invoices"]):
        turn.command(
            turn.event.customer, INVOICES_COLLECT, f"collect:{turn.event.id}"[:ID_MAX_CHARACTERS], {"reason": "top_up"}
        )


def tell_moved(turn: Turn, kind: PostingKind, amount: int, cause: str, **more: Any) -> None:
    """Tells of a movement of `amount` nanos into the wallet that is posted already."""
    data = {**moved(turn.account, kind, amount, cause, turn.account.balance), **more}
    if kind in _TOLD:
        turn.emit(_TOLD[kind], {**data, "amount": format_nanos(abs(amount))})
    turn.emit("wallet.balance_changed", data)


def moved(account: Account, kind: PostingKind, amount: int, cause: str, balance: int) -> dict[str, Any]:
    """What is told of a movement of `amount` nanos into a wallet that has `balance` after it."""
    return {
        "user_id": account.customer,
        "kind": kind.name.lower(),
        "transaction_id": cause,
        "amount": format_nanos(amount),
        "currency": account.currency,
        "balance_before": format_nanos(balance - amount),
        "balance_after": format_nanos(balance),
    }


def open_wallet(turn: Turn) -> None:
    """The wallet comes into being with what first touches it. The event has to name `customer_named`."""
    if turn.document(CUSTOMER, turn.event.customer) is None:
        at = format_time(turn.now)
        turn.put(CUSTOMER, turn.event.customer, {"created_at": at, "updated_at": at})
        turn.emit("wallet.created", {"user_id": turn.event.customer, "created_at": at})


def currency_of(turn: Turn) -> str:
    """The currency of a command's money, as the customer has it. Refused where they differ or there is none."""
    account = turn.account
    stated = (turn.document(CUSTOMER, turn.event.customer) or {}).get("currency")
    known = account.currency or stated
    given: str | None = turn.event.data.get("currency")
    if given is not None and known and given != known:
        raise Refused("currency_mismatch", f"the customer's money is in {known}, not in {given}")
    catalogue = turn.catalogue
    found = given or known or (catalogue.currency if catalogue is not None else None)
    if found is None:
        raise Refused("missing_field", "currency is missing: neither the customer nor a catalogue has one")
    return found


def customer_named(event: Event) -> list[tuple[str, str]]:
    """The customer object's document, and the one that lists its invoices."""
    return [(CUSTOMER, event.customer), (COUNTER, billing_id(event.customer))]


def expired(account: Account, now: int) -> Burnt:
    """Takes out what credits that expired at or before `now` have left; which and how much, in order."""
    for grant in account.grants:
        if 0 < grant.expires_at <= now:
            return expire(account, now)
    return []


EFFECTS: Final[dict[str, Effect]] = {"credit.granted": credit_granted}
DOCUMENTS: Final[dict[str, Naming]] = {"credit.granted": customer_named}
IDENTITIES: Final[dict[str, Callable[[Event], list[bytes]]]] = {}
