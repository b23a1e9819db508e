"""Laws of wallets: whatever is asked of them, repeated or refused, money is neither made nor lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import commands
from schemas.account import PAID, account_key, unpack_account
from schemas.commands import Command
from schemas.money import format_nanos
from tests.fakes.commands import FakeCommands
from tests.fakes.partition import reported

CUSTOMERS = ("a", "b")
OUT = {commands.WALLET_WITHDRAW, commands.WALLET_REFUND, commands.WALLET_TRANSFER}

amounts = st.integers(1, 8 * 10**9).map(format_nanos)
money = st.fixed_dictionaries({"amount": amounts, "currency": st.just("USD")})
usage = st.tuples(st.just("usage"), st.fixed_dictionaries({"quantity": st.integers(1, 5)}))
asked = st.one_of(
    usage,
    st.tuples(st.just(commands.WALLET_DEPOSIT), money),
    st.tuples(
        st.just(commands.WALLET_CREDIT),
        st.builds(lambda one, kind: {**one, "kind": kind}, money, st.sampled_from(("paid", "promotional"))),
    ),
    st.tuples(st.sampled_from((commands.WALLET_WITHDRAW, commands.WALLET_REFUND, commands.WALLET_CONSUME)), money),
    st.tuples(
        st.just(commands.WALLET_TRANSFER),
        st.builds(lambda one, to: {**one, "to_customer": to}, money, st.sampled_from(CUSTOMERS)),
    ),
    st.tuples(
        st.just(commands.CUSTOMER_PUT),
        st.sampled_from(("prepaid", "postpaid")).map(lambda how: {"fields": {"collection": how, "credit_limit": "5"}}),
    ),
    usage,
)
steps = st.lists(st.tuples(st.sampled_from(CUSTOMERS), asked, st.booleans()), min_size=8, max_size=30)


class Carried:
    """Commands and usage, one after the other, and what the ledger has of them."""

    def __init__(self) -> None:
        self.commands = FakeCommands()
        self.number = 0

    def step(self, customer: str, event_type: str, data: dict[str, Any], again: bool) -> str:
        """One step, perhaps asked for twice; how it ended."""
        self.number += 1
        if event_type == "usage":
            values = [reported(self.number, data["quantity"], subject=customer)] * (2 if again else 1)
            self.commands.partition.usage(*values)
            return "done"
        command = Command("default", customer, event_type, f"k-{self.number}", data)
        ended = asyncio.run(self.commands.run(command)).status
        if again:
            self.commands.take(command.encoded())
        return ended

    def wallets(self) -> dict[str, int]:
        """The sums of postings by account key."""
        sums: defaultdict[str, int] = defaultdict(int)
        for row in self.commands.partition.rows():
            for posting in row["postings"]:
                sums[account_key(row["tenant"], row["customer"])] += posting["amount"]
                assert posting["balance_after"] == sums[account_key(row["tenant"], row["customer"])]
        return sums

    def posted(self, *kinds: str) -> int:
        """The sum of all postings of some kinds."""
        rows = self.commands.partition.rows()
        return sum(one["amount"] for row in rows for one in row["postings"] if one["kind"] in kinds)


@settings(max_examples=150)
@given(steps)
def test_a_balance_is_the_sum_of_its_postings_and_of_its_credits_less_its_debt(taken: list[Any]) -> None:
    """At the end of any history, by the ledger's own values after, and a receivable what was charged and not paid."""
    carried = Carried()
    for customer, (event_type, data), again in taken:
        carried.step(customer, event_type, data, again)
    wallets = carried.wallets()
    charged: defaultdict[str, int] = defaultdict(int)
    for row in carried.commands.partition.rows():
        charged[account_key(row["tenant"], row["customer"])] += sum(one["amount"] for one in row["charges"])
        charged[account_key(row["tenant"], row["customer"])] += sum(
            one["amount"] for one in row["postings"] if one["kind"] == "charge"
        )
    for key, packed in carried.commands.partition.told().items():
        account = unpack_account(packed)
        assert account.balance == wallets[key]
        assert account.receivable == charged[key]
        assert all(grant.remaining > 0 for grant in account.grants)


@settings(max_examples=150)
@given(steps)
def test_transfers_sum_to_zero_and_take_only_what_was_paid_in(taken: list[Any]) -> None:
    """Clearing is empty once all legs are booked; what left as money is no more than what was paid into all wallets."""
    carried = Carried()
    for customer, (event_type, data), again in taken:
        account = carried.commands.partition.of(customer)
        paid = sum(grant.remaining for grant in account.grants if grant.kind == PAID)
        before = account.balance
        ended = carried.step(customer, event_type, data, again)
        if event_type in OUT and ended == "done":
            after = carried.commands.partition.of(customer).balance
            assert before - after <= min(paid, before)
            assert after >= 0
    assert carried.posted("transfer_in", "transfer_out") == 0
    assert -carried.posted("withdrawal", "refund") <= carried.posted("deposit", "grant")


@settings(max_examples=60)
@given(steps)
def test_a_ledger_folded_again_is_the_same_accounts_and_a_repeated_command_is_nothing(taken: list[Any]) -> None:
    """Restarted from the ledger the whole history changes nothing any more."""
    carried = Carried()
    sent = []
    for customer, (event_type, data), again in taken:
        if carried.step(customer, event_type, data, again) == "done" and event_type != "usage":
            sent.append(Command("default", customer, event_type, f"k-{carried.number}", data).encoded())
    partition = carried.commands.partition
    told = partition.told()
    partition.restart()
    carried.commands.take(*sent)
    assert partition.told() == told
