"""The equations of reconcile, pure: they hold for what belongs together, and one unit of difference shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from invoicing.reconcile import (
    Alike,
    Equation,
    LedgerTally,
    Sums,
    accounts_equations,
    dead_letters_equations,
    drift_of,
    records_equations,
    rows_equations,
    seq_equation,
    totals,
)
from schemas.account import account_key, new_account, pack_account
from schemas.errors import InvariantBroken
from schemas.ledger import (
    ACCOUNT,
    LEDGER_FORMAT,
    USAGE,
    Entries,
    LedgerRecord,
    PostingKind,
    Rate,
    RecordKind,
    genesis,
)
from schemas.outcome import Outcome
from schemas.period import parse_month, parse_time

BEGIN = {USAGE: 0, ACCOUNT: 0}
MARCH, APRIL = parse_time("2026-03-31T23:59:59.999999Z"), parse_time("2026-04-01T00:00:00Z")
RATE = Rate("m", "p", 1, "0.1", "USD", ())
RATED, DUPLICATE, DEAD_LETTER = int(Outcome.RATED), int(Outcome.DUPLICATE), int(Outcome.DEAD_LETTER)


def record(
    first_seq: int,
    offsets: list[int],
    *,
    outcomes: list[int] | None = None,
    amounts: list[int] | None = None,
    times: list[int] | None = None,
) -> LedgerRecord:
    """Entries of one customer, each with one charge and its posting if it has an amount; a zero has neither."""
    count = len(offsets)
    amounts = amounts or [0] * count
    charged = [amount for amount in amounts if amount]
    entries = Entries(
        input=[USAGE] * count,
        offset=offsets,
        outcome=outcomes or [RATED] * count,
        tenant=["t"] * count,
        customer=["c"] * count,
        occurred_at=times or [MARCH] * count,
        charges=[int(amount != 0) for amount in amounts],
        postings=[int(amount != 0) for amount in amounts],
        charge_rate=[0] * len(charged),
        charge_quantity=[str(2**70)] * len(charged),
        charge_amount=charged,
        posting_kind=[int(PostingKind.CHARGE)] * len(charged),
        posting_amount=[-amount for amount in charged],
        posting_balance=[-sum(charged[: at + 1]) for at in range(len(charged))],
        posting_currency=["USD"] * len(charged),
        rates=[RATE],
    )
    account = new_account("t", "c")
    account.balance = -sum(charged)
    after = {account_key("t", "c"): pack_account(account)} if charged else {}
    kind = RecordKind.ENTRIES
    return LedgerRecord(
        LEDGER_FORMAT, kind, 0, first_seq, count, max(offsets) + 1, 0, 1, MARCH, 0, False, entries, after, ""
    )


def tally_of(records: Iterable[LedgerRecord], until: int, **options: object) -> LedgerTally:
    tally = LedgerTally(until, BEGIN, **options)  # type: ignore[arg-type]  # a period
    for each in records:
        tally.fold(each)
    return tally


def differing(equations: Iterable[Equation]) -> set[str]:
    return {equation.name for equation in equations if equation.difference}


@pytest.fixture
def tally() -> LedgerTally:
    """Of four entries: two charged, a duplicate and a dead letter."""
    outcomes = [RATED, RATED, DUPLICATE, DEAD_LETTER]
    return tally_of([genesis(0, MARCH), record(0, [0, 1, 2, 3], outcomes=outcomes, amounts=[5, 7, 0, 0])], 4)


def test_a_whole_ledger_satisfies_every_equation(tally: LedgerTally) -> None:
    """Records = outcomes, seq without a gap, rows = entries, accounts = postings, dead letters = originals = rows."""
    alike = Alike(2, 4, 2, 4, accounts=1, equal=1, expected=-12, found=-12)
    equations = [
        *records_equations(0, {USAGE: 4, ACCOUNT: 0}, tally),
        seq_equation(0, 4, tally),
        *rows_equations(0, tally.sums, tally.sums),
        *accounts_equations(0, tally.agreeing(), len(tally.accounts), alike),
        *dead_letters_equations(0, tally, 1, 1),
    ]
    assert differing(equations) == set()
    assert (tally.sums.charged, tally.sums.charged_by_seq, tally.sums.quantity) == (12, 5 + 2 * 7, 2 * 2**70)
    assert (tally.sums.posted, tally.sums.posted_by_seq, tally.sums.balances) == (-12, -19, -17)


@pytest.mark.parametrize("records", [3, 5])
def test_a_record_without_an_outcome_or_an_outcome_without_a_record_shows(tally: LedgerTally, records: int) -> None:
    """One unit either way."""
    assert differing(records_equations(0, {USAGE: records, ACCOUNT: 0}, tally)) == {"usage.events records = outcomes"}


def test_a_record_with_two_outcomes_shows_though_the_number_is_right() -> None:
    """One record decided twice and another never: the count alone would not tell."""
    twice = tally_of([genesis(0, MARCH), record(0, [0, 1]), record(2, [1, 3])], 4)
    assert differing(records_equations(0, {USAGE: 4, ACCOUNT: 0}, twice)) == {
        "usage.events outcomes = distinct records"
    }


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("entries", "ledger entries = rows"),
        ("charges", "ledger charges = rows' charges"),
        ("charged", "ledger amount = rows' amount"),
        ("charged_by_seq", "ledger amount by seq = rows' amount by seq"),
        ("quantity", "ledger quantity = rows' quantity"),
        ("postings", "ledger postings = rows' postings"),
        ("posted", "ledger posted = rows' posted"),
        ("posted_by_seq", "ledger posted by seq = rows' posted by seq"),
        ("balances", "ledger balances after = rows' balances after"),
    ],
)
def test_every_sum_of_the_rows_is_compared(tally: LedgerTally, field: str, name: str) -> None:
    """A unit of one sum breaks the equation of its name and no other."""
    rows: Sums = replace(tally.sums, **{field: getattr(tally.sums, field) + 1})
    assert differing(rows_equations(0, tally.sums, rows)) == {name}


def test_amounts_that_cancel_out_are_told_apart_by_their_seq() -> None:
    """Also where the first of them is the ledger's first entry."""
    one, other = (tally_of([record(0, [0, 1], amounts=amounts)], 2).sums for amounts in ([5, 7], [6, 6]))
    assert one.charged == other.charged
    assert "ledger amount by seq = rows' amount by seq" in differing(rows_equations(0, one, other))


def test_a_balance_that_is_not_the_sum_of_its_postings_shows(tally: LedgerTally) -> None:
    """The ledger's own values after are held against its own postings."""
    assert tally.agreeing() == 1
    account = new_account("t", "c")
    account.balance = -11
    tally.accounts[account_key("t", "c")] = pack_account(account)
    assert tally.agreeing() == 0


def test_a_period_bounds_charges_alone() -> None:
    """Its end is not in it; postings, entries and outcomes are compared whole."""
    records = [record(0, [0, 1], amounts=[5, 7], times=[MARCH, APRIL])]
    march, april = (tally_of(records, 2, period=parse_month(month)).sums for month in ("2026-03", "2026-04"))
    assert (march.charged, april.charged) == (5, 7)
    assert march.posted == april.posted == -12
    assert march.entries == april.entries == 2


def test_entries_beyond_the_line_count_for_accounts_alone() -> None:
    """Under traffic the ledger goes on while accounts are compared; a line inside of a record is none."""
    tally = tally_of([record(0, [0], amounts=[5]), record(1, [1], amounts=[5])], 1)
    assert (tally.sums.entries, tally.sums.charged, tally.wallets) == (1, 5, {account_key("t", "c"): -10})
    with pytest.raises(InvariantBroken, match="seq 1 lies inside"):
        tally_of([record(0, [0, 1])], 1)


def test_records_that_kafka_no_longer_holds_are_compared_no_more() -> None:
    """What retention took away is left out on both sides."""
    tally = LedgerTally(4, {USAGE: 2, ACCOUNT: 0})
    tally.fold(record(0, [0, 1, 2, 3]))
    assert differing(records_equations(0, {USAGE: 2, ACCOUNT: 0}, tally)) == set()


def test_totals_keep_both_sides_and_the_order() -> None:
    """Sums over partitions, money as decimal text."""
    equations = [Equation("b", 1, 2, 0), Equation("a", 5, 5, 0, money=True), Equation("b", 2, 1, 1)]
    assert [(total.name, total.left, total.right) for total in totals(equations)] == [("b", 3, 3), ("a", 5, 5)]
    assert equations[0].document() == {"name": "b [0]", "left": 1, "right": 2, "difference": -1}
    assert totals(equations)[1].document()["left"] == "0.000000005"


def test_what_holds_in_one_partition_does_not_hide_what_does_not_in_another() -> None:
    """The alert on drift looks at equations by name: each has the greatest difference of its partitions."""
    found = [
        Equation("a = b", 1, 1, 0),
        Equation("a = b", 1, 4, 1),
        Equation("a = b", 3, 1, 2),
        Equation("c = d", 2, 2),
    ]
    assert drift_of(found) == {"a = b": -3, "c = d": 0}
    assert drift_of(reversed(found)) == {"a = b": -3, "c = d": 0}
