"""The equations that prove it: log = outcomes = ledger = rows = accounts. Pure: tallies in, equations out.

Every tally is taken from a store itself, never from a counter that the pipeline kept. Sums are whole numbers of nanos.
Besides its sum an amount is summed weighted by its seq, counted from 1: two rows that are wrong by amounts that cancel
out would keep the one sum and not the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.account import account_key, unpack_account
from schemas.errors import InvariantBroken
from schemas.ledger import INPUT_TOPICS, Entries, LedgerRecord
from schemas.money import format_nanos, unpack_int
from schemas.outcome import OUTCOME_NAMES, Outcome
from schemas.period import Period


@dataclass(frozen=True, slots=True)
class Equation:
    """Two sides that have to be equal, counted in two places."""

    name: str
    left: int
    right: int
    partition: int | None = None
    """Of the ledger; None for the whole."""
    money: bool = False
    """Whether the sides are nanos."""

    @property
    def difference(self) -> int:
        """0 if it holds."""
        return self.left - self.right

    def document(self) -> dict[str, Any]:
        """As JSON has it: counts as numbers, money as decimal text."""
        name = self.name if self.partition is None else f"{self.name} [{self.partition}]"
        sides = {"left": self.left, "right": self.right, "difference": self.difference}
        return {"name": name, **({side: format_nanos(value) for side, value in sides.items()} if self.money else sides)}


def drift_of(equations: Iterable[Equation]) -> dict[str, int]:
    """By name the greatest difference in any partition: one that holds elsewhere does not hide one that does not."""
    found: dict[str, int] = {}
    for equation in equations:
        if abs(equation.difference) >= abs(found.get(equation.name, 0)):
            found[equation.name] = equation.difference
    return found


@dataclass(slots=True)
class Sums:
    """What the ledger and its rows in ClickHouse must agree on, of one partition."""

    entries: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    charges: int = 0
    charged: int = 0
    charged_by_seq: int = 0
    quantity: int = 0
    postings: int = 0
    posted: int = 0
    posted_by_seq: int = 0
    balances: int = 0
    """Sum of the balances after each posting: of no meaning, but it must be the same in both."""


class LedgerTally:
    """Folds the ledger of one partition, record by record; counts entries below `until_seq` into `sums`.

    `begin`: the first offset that each input topic still holds; outcomes of records before it are not counted as such.
    """

    def __init__(self, until_seq: int, begin: Mapping[int, int], period: Period | None = None) -> None:
        self.sums = Sums()
        self.accounts: dict[str, bytes] = {}
        """Values after, by account key: as of the last record folded, also beyond `until_seq`."""
        self.wallets: dict[str, int] = {}
        """Sum of its postings by account key, as of the last record folded."""
        self.decided = dict.fromkeys(begin, 0)
        """Outcomes of records that are still there, by input topic."""
        self.ascending = dict.fromkeys(begin, 0)
        """Of these, the ones whose offset lies beyond all before it: a record decided twice is not among them."""
        self._last = {topic: offset - 1 for topic, offset in begin.items()}
        self._begin = begin
        self._until = until_seq
        self._period = period

    def fold(self, record: LedgerRecord) -> None:
        """Takes the next record. InvariantBroken if the bound lies inside of it: bounds are those of records."""
        entries = record.entries
        self.accounts.update(record.accounts)
        if entries is None:
            return
        self._fold_wallets(entries)
        if record.first_seq >= self._until:
            return
        if record.next_seq > self._until:
            raise InvariantBroken(f"seq {self._until} lies inside the record that begins at {record.first_seq}")
        sums = self.sums
        sums.entries += record.count
        for outcome, count in Counter(entries.outcome).items():
            sums.outcomes[OUTCOME_NAMES[outcome]] += count
        for topic, offset in zip(entries.input, entries.offset, strict=True):
            if offset >= self._begin[topic]:
                self.decided[topic] += 1
            if offset > self._last[topic]:
                self.ascending[topic] += 1
                self._last[topic] = offset
        period = self._period
        charge = posting = 0
        for index, (charges, postings) in enumerate(zip(entries.charges, entries.postings, strict=True)):
            seq = record.first_seq + index
            first, charge = charge, charge + charges
            if charges and (period is None or entries.occurred_at[index] in period):
                amount = sum(entries.charge_amount[first:charge])
                sums.charges += charges
                sums.charged += amount
                sums.charged_by_seq += amount * (seq + 1)
                sums.quantity += sum(map(unpack_int, entries.charge_quantity[first:charge]))
            first, posting = posting, posting + postings
            if postings:
                amount = sum(entries.posting_amount[first:posting])
                sums.postings += postings
                sums.posted += amount
                sums.posted_by_seq += amount * (seq + 1)
                sums.balances += sum(entries.posting_balance[first:posting])

    def balances(self, keys: Iterable[str]) -> int:
        """Sum of the balances of accounts by their values after."""
        return sum(unpack_account(self.accounts[key]).balance for key in keys)

    def agreeing(self) -> int:
        """How many accounts have the balance that their postings sum to."""
        return sum(unpack_account(value).balance == self.wallets.get(key, 0) for key, value in self.accounts.items())

    def _fold_wallets(self, entries: Entries) -> None:
        posting = 0
        for index, postings in enumerate(entries.postings):
            if postings:
                first, posting = posting, posting + postings
                key = account_key(entries.tenant[index], entries.customer[index])
                self.wallets[key] = self.wallets.get(key, 0) + sum(entries.posting_amount[first:posting])


def rows_equations(partition: int, ledger: Sums, rows: Sums) -> Iterable[Equation]:
    """Ledger = rows in ClickHouse."""
    yield Equation("ledger entries = rows", ledger.entries, rows.entries, partition)
    for outcome in OUTCOME_NAMES.values():
        yield Equation(
            f"ledger {outcome} = rows {outcome}", ledger.outcomes[outcome], rows.outcomes[outcome], partition
        )
    yield Equation("ledger charges = rows' charges", ledger.charges, rows.charges, partition)
    yield Equation("ledger amount = rows' amount", ledger.charged, rows.charged, partition, money=True)
    yield Equation(
        "ledger amount by seq = rows' amount by seq", ledger.charged_by_seq, rows.charged_by_seq, partition, money=True
    )
    yield Equation("ledger quantity = rows' quantity", ledger.quantity, rows.quantity, partition, money=True)
    yield Equation("ledger postings = rows' postings", ledger.postings, rows.postings, partition)
    yield Equation("ledger posted = rows' posted", ledger.posted, rows.posted, partition, money=True)
    yield Equation(
        "ledger posted by seq = rows' posted by seq", ledger.posted_by_seq, rows.posted_by_seq, partition, money=True
    )
    yield Equation(
        "ledger balances after = rows' balances after", ledger.balances, rows.balances, partition, money=True
    )


def records_equations(partition: int, records: Mapping[int, int], tally: LedgerTally) -> Iterable[Equation]:
    """Records of an input topic that are still there = their outcomes, and none has two.

    `records` by input topic: how many lie below the decided position."""
    for topic, name in enumerate(INPUT_TOPICS):
        yield Equation(f"{name} records = outcomes", records[topic], tally.decided[topic], partition)
        yield Equation(f"{name} outcomes = distinct records", tally.decided[topic], tally.ascending[topic], partition)


def seq_equation(partition: int, next_seq: int, tally: LedgerTally) -> Equation:
    """Entries are numbered without a gap: the next number is how many there are."""
    return Equation("ledger next seq = entries", next_seq, tally.sums.entries, partition)


@dataclass(slots=True)
class Alike:
    """What comparing the accounts of a partition with the ledger's values after came to, position by position."""

    ledger_offset: int = 0
    """The offset after the last ledger record that the store has to have applied, or says that it has."""
    ledger_seq: int = 0
    """The next seq there."""
    offset: int = 0
    """Of the first position the store named; 0 if it names none."""
    seq: int = 0
    foreign: int = 0
    """1 if the position is one in another ledger."""
    accounts: int = 0
    equal: int = 0
    """Accounts that stand in the store byte for byte."""
    expected: int = 0
    """Sum of balances by the ledger, nanos."""
    found: int = 0
    """Sum of balances by the store, nanos."""
    unknown: int = 0
    """Accounts in the store that the ledger does not have."""


def accounts_equations(partition: int, agreeing: int, accounts: int, alike: Alike) -> Iterable[Equation]:
    """Ledger = accounts. `agreeing` and `accounts` are the ledger's at the line."""
    yield Equation("ledger accounts = accounts that are the sum of their postings", accounts, agreeing, partition)
    yield Equation("accounts of another ledger = none", alike.foreign, 0, partition)
    yield Equation("ledger offset = accounts' offset", alike.ledger_offset, alike.offset, partition)
    yield Equation("ledger next seq = accounts' next seq", alike.ledger_seq, alike.seq, partition)
    yield Equation("ledger accounts = accounts in Redis", alike.accounts, alike.equal, partition)
    yield Equation("ledger balances = balances in Redis", alike.expected, alike.found, partition, money=True)
    yield Equation("accounts in Redis that the ledger lacks = none", alike.unknown, 0, partition)


def dead_letters_equations(partition: int, tally: LedgerTally, topic_records: int, rows: int) -> Iterable[Equation]:
    """Dead letters decided = originals kept = rows that show them."""
    decided = tally.sums.outcomes[OUTCOME_NAMES[Outcome.DEAD_LETTER]]
    yield Equation("dead letters = originals kept", decided, topic_records, partition)
    yield Equation("dead letters = rows of originals", decided, rows, partition)


def totals(equations: Iterable[Equation]) -> list[Equation]:
    """The same equations summed over partitions, in the order of their first appearance."""
    summed: dict[str, list[Equation]] = {}
    for equation in equations:
        summed.setdefault(equation.name, []).append(equation)
    return [
        Equation(name, sum(one.left for one in of), sum(one.right for one in of), None, of[0].money)
        for name, of in summed.items()
    ]
