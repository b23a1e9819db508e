"""Account events: each effect's postings, and that a refusal changes nothing."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from rating.book import PriceBook
from rating.chunk import Chunk
from rating.decision import Standing
from rating.effects import EFFECTS
from rating.effects.credits import expired
from rating.turn import Turn
from schemas.account import PROMOTIONAL, Account, new_account, pack_account
from schemas.errors import InvalidInput
from schemas.event import ACCOUNT_TYPES, decode
from schemas.ledger import COUNTER_ACCOUNTS, PostingKind
from schemas.usage_types import USAGE_TYPES
from tests.fakes.partition import MAX_FUTURE, NOW, event, granted, paid, refunded

NANOS = 10**9


class Posted(NamedTuple):
    """A posting as the entry has it."""

    kind: int
    amount: int
    balance: int
    cause: str
    burnt: list[tuple[str, int]]


def apply(account: Account, value: dict[str, Any]) -> list[Posted]:
    """An event's effect on an account of which nothing is booked; its postings."""
    read = decode(json.dumps(value).encode(), NOW, MAX_FUTURE)
    chunk = Chunk(1, Standing({}, {}, {}), PriceBook(), 0)
    EFFECTS[read.type](Turn(chunk, 0, read, NOW, account))
    entries = chunk.entries
    return [
        Posted(
            entries.posting_kind[at],
            entries.posting_amount[at],
            entries.posting_balance[at],
            entries.posting_cause.get(at, ""),
            entries.burnt.get(at, []),
        )
        for at in range(entries.postings[0])
    ]


def test_every_effect_is_of_a_known_account_type() -> None:
    """No effect waits for an event that cannot come, and every posting kind has its counter account."""
    assert set(EFFECTS) <= ACCOUNT_TYPES | set(USAGE_TYPES)
    assert set(COUNTER_ACCOUNTS) == set(PostingKind)


def test_a_grant_keeps_what_it_was_granted_with() -> None:
    """Priority, expiry, scope and kind are the grant's own; its posting is caused by the credit."""
    account = new_account("default", "c")
    value = granted(
        1, "1.000000001", priority=-3, scope=["chats"], kind="promotional", expires_at="2026-12-01T00:00:00Z"
    )
    (posting,) = apply(account, value)
    assert (posting.kind, posting.amount, posting.balance, posting.cause, posting.burnt) == (
        PostingKind.GRANT,
        NANOS + 1,
        NANOS + 1,
        "credit-1",
        [],
    )
    (grant,) = account.grants
    assert (grant.priority, grant.scope, grant.kind) == (-3, ("chats",), PROMOTIONAL)
    assert (account.currency, grant.amount, grant.remaining) == ("USD", NANOS + 1, NANOS + 1)


def test_a_deposit_is_a_grant_without_end() -> None:
    """A payment's credit never expires, has no scope, and is named by the payment."""
    account = new_account("default", "c")
    (posting,) = apply(account, paid(1, "2", payment="pay"))
    assert (posting.kind, posting.cause) == (PostingKind.DEPOSIT, "pay")
    assert [(grant.credit_id, grant.expires_at, grant.scope) for grant in account.grants] == [("pay", 0, ())]


def test_a_user_brings_a_plan() -> None:
    """`plan_id` goes before `tier`; without either the plan stays."""
    account = new_account("default", "c")
    for data, plan in (({"tier": "free"}, "free"), ({"plan_id": "pro", "tier": "free"}, "pro"), ({}, "pro")):
        assert apply(account, event(1, "user.created", {"user_id": "c", **data})) == []
        assert account.plan == plan


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (granted(2, "9223372036.854775807"), "amount_overflow"),
        (granted(2, "1", currency="EUR"), "currency_mismatch"),
        (paid(2, "1", currency="EUR"), "currency_mismatch"),
        (refunded(2, "1", payment="never"), "unknown_payment"),
        (granted(2, "1", scope=["x" * 200] * 900), "out_of_range"),
    ],
)
def test_a_refused_effect_changes_nothing(value: dict[str, Any], reason: str) -> None:
    """The account is byte for byte what it was."""
    account = new_account("default", "c")
    apply(account, granted(1, "1", scope=["y" * 200] * 700))
    before = pack_account(account)
    with pytest.raises(InvalidInput) as refused:
        apply(account, value)
    assert refused.value.reason == reason
    assert pack_account(account) == before


def test_expired_credits_are_taken_out_one_by_one() -> None:
    """Each with what it has left, in burn order; what has not expired stays."""
    account = new_account("default", "c")
    for number, day in ((1, 2), (2, 1)):
        apply(account, granted(number, str(number), expires_at=f"2026-11-{20 + day}T00:00:00Z"))
    apply(account, granted(3, "4"))
    assert expired(account, NOW) == []
    assert expired(account, NOW + 30 * 86_400 * 10**6) == [("credit-2", 2 * NANOS), ("credit-1", NANOS)]
    assert account.balance == 4 * NANOS
