"""What a movement of money does to an account: charge, credit, take back, expire. Pure, in nanos.

Charges burn credits in the order priority, expiry, age, each credit only for the meters of its scope; what no credit
pays is debt and takes the balance below zero. A new credit pays debt first. Every function changes the account in
place (its owner drops the account whole if deciding fails), expects its caller to have checked the balance, and keeps
`balance = sum of what credits have left - debt`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Final

from schemas.account import PAID, PREPAID, Account, Grant, pack_account, pack_grant
from schemas.errors import InvalidInput
from schemas.limits import ACCOUNT_MAX_BYTES, AMOUNT_MAX_NANOS

Burnt = list[tuple[str, int]]

COUNTERS_SURE: Final = 16
"""So many counters need no look at what an account weighs."""


def check_balance(balance: int) -> None:
    """InvalidInput `amount_overflow` for a balance that no wallet can hold."""
    if not -AMOUNT_MAX_NANOS <= balance <= AMOUNT_MAX_NANOS:
        raise InvalidInput("amount_overflow", f"the balance would be {balance} nanos, beyond its bounds")


def check_debt(account: Account, total: int) -> None:
    """InvalidInput `amount_overflow` for a charge whose debt no wallet could hold once all its credits are gone: when
    they expire, the balance is what is left, and an expiry cannot be refused."""
    if total + debt(account) > AMOUNT_MAX_NANOS:
        raise InvalidInput("amount_overflow", f"a charge of {total} nanos would make the debt larger than its bounds")


def check_room(account: Account, counter: str) -> None:
    """InvalidInput `out_of_range` where an account cannot count under one more key."""
    if len(account.counters) >= COUNTERS_SURE and len(pack_account(account)) + len(counter) > ACCOUNT_MAX_BYTES:
        raise _no_room("counter", counter)


def check_room_for(account: Account, grant: Grant) -> None:
    """InvalidInput `out_of_range` where an account cannot hold one more credit."""
    if len(pack_account(account)) + len(pack_grant(grant)) > ACCOUNT_MAX_BYTES:
        raise _no_room("credit", grant.credit_id)


def _no_room(what: str, name: str) -> InvalidInput:
    return InvalidInput(
        "out_of_range",
        f"the account's values would be larger than {ACCOUNT_MAX_BYTES} bytes with one more {what}, {name!r}",
    )


def burn_first(account: Account, total: int) -> Burnt | None:
    """As `charge`, where the first credit pays for all of it, as it mostly does; else None, and nothing is done."""
    first = account.grants[0]
    if first.scope or not first.remaining > total >= 0:
        return None
    first.remaining -= total
    account.balance -= total
    return [(first.credit_id, total)]


def charge(account: Account, total: int, by_meter: Sequence[tuple[str, int]]) -> Burnt:
    """Takes `total` (the sum of `by_meter`, meter and amount) out of the wallet; the credits it burnt."""
    account.balance -= total
    burnt: Burnt = []
    for meter, amount in by_meter:
        left = amount
        for grant in account.grants:
            if left <= 0:
                break
            if grant.remaining and (not grant.scope or meter in grant.scope):
                part = min(left, grant.remaining)
                grant.remaining -= part
                left -= part
                burnt.append((grant.credit_id, part))
    account.grants = [grant for grant in account.grants if grant.remaining]
    return _merge(burnt)


def charge_credits(account: Account, total: int, by_meter: Sequence[tuple[str, int]]) -> Burnt:
    """As `charge` of a customer who pays afterwards: what no credit pays is receivable, and no debt of the wallet."""
    burnt = charge(account, total, by_meter)
    unpaid = total - sum(amount for _, amount in burnt)
    account.balance += unpaid
    account.receivable += unpaid
    return burnt


def credit(account: Account, grant: Grant) -> None:
    """Puts a credit into the wallet; debt is paid from it first, so that what remains of it is really there."""
    owed = max(debt(account), 0)
    account.balance += grant.remaining
    # A scoped credit pays no debt: it is not known what the debt was for.
    grant.remaining -= 0 if grant.scope else min(owed, grant.remaining)
    if grant.remaining:
        insort(account.grants, grant, key=Grant.burn_order)


def take_back(account: Account, amount: int, credit_id: str) -> Burnt:
    """Takes `amount` out, from the named credit first, then from the others in burn order, then as debt."""
    account.balance -= amount
    left = amount
    burnt: Burnt = []
    for grant in sorted(account.grants, key=lambda grant: grant.credit_id != credit_id):
        part = min(left, grant.remaining)
        if part:
            grant.remaining -= part
            left -= part
            burnt.append((grant.credit_id, part))
    account.grants = [grant for grant in account.grants if grant.remaining]
    return burnt


def spendable(account: Account) -> int:
    """What charges may take before anybody is refused, holds apart: `available` without what is held."""
    terms = account.terms
    if terms.collection == PREPAID:
        return account.balance + terms.overdraft
    return account.balance + terms.credit_limit - account.receivable


def payable(account: Account) -> int:
    """What may leave the wallet as money, holds apart: what was paid for. Promotional credit can be spent, never taken
    out, and neither can an overdraft."""
    promotional = sum(grant.remaining for grant in account.grants if grant.kind != PAID)
    return max(min(account.balance, account.balance + max(debt(account), 0) - promotional), 0)


def pay_out(account: Account, amount: int) -> Burnt:
    """Takes money out that `payable` has: from paid credits, in burn order."""
    account.balance -= amount
    left = amount
    burnt: Burnt = []
    for grant in account.grants:
        part = min(left, grant.remaining) if grant.kind == PAID else 0
        if part:
            grant.remaining -= part
            left -= part
            burnt.append((grant.credit_id, part))
    account.grants = [grant for grant in account.grants if grant.remaining]
    return burnt


def expire(account: Account, now: int) -> Burnt:
    """Takes out what credits that expired at or before `now` have left; which and how much."""
    expired = [grant for grant in account.grants if 0 < grant.expires_at <= now]
    for grant in expired:
        lapse(account, grant)
    return [(grant.credit_id, grant.remaining) for grant in expired]


def lapse(account: Account, grant: Grant) -> None:
    """Takes out what one credit has left."""
    account.balance -= grant.remaining
    account.grants.remove(grant)


def settle_currency(account: Account, currency: str) -> None:
    """Gives an account its currency with its first money; InvalidInput `currency_mismatch` for any other later."""
    if account.currency != currency:
        if account.currency:
            raise InvalidInput(
                "currency_mismatch",
                f"data.currency is {currency}, the account's is {account.currency}",
                "/data/currency",
            )
        account.currency = currency


def debt(account: Account) -> int:
    """What no credit paid; below zero: money that no credit names."""
    return sum(grant.remaining for grant in account.grants) - account.balance


def _merge(burnt: Burnt) -> Burnt:
    if len(burnt) < 2:
        return burnt
    by_credit: dict[str, int] = {}
    for credit_id, amount in burnt:
        by_credit[credit_id] = by_credit.get(credit_id, 0) + amount
    return list(by_credit.items())
