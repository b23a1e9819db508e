"""Ledgers as a rating worker would write them, of made-up decisions: the same for a seed, with every kind of entry.

Nothing here is rated. Amounts and quantities are chosen to be awkward: 2^53 and 2^63 and their neighbours, fractions,
negative ones, quantities beyond 64 bit. `schemas.ledger.rows` of the records is what must be found again elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from schemas.documents import ORDER, PAYMENT
from schemas.ledger import ACCOUNT, LEDGER_FORMAT, USAGE, Entries, LedgerRecord, PostingKind, Rate, RecordKind, genesis
from schemas.outcome import Outcome

STARTED_AT = 1_795_000_000_000_000
"""Microseconds; the first entry's time."""

RATES = tuple(
    Rate(meter, f"{model}-{meter}" if priced else "", version, unit_amount, "USD", dimensions)
    for model, dimensions in (
        ("gpt-4o", (("model", "gpt-4o"),)),
        ("größe-7", (("model", "größe-7"), ("region", "eu"))),
        ("plain", ()),
    )
    for meter, priced, version, unit_amount in (
        ("input_tokens", True, 1, "0.0000025"),
        ("output_tokens", True, 2, "0.0000000375"),
        ("sessions", False, 2, ""),
    )
)

QUANTITIES: tuple[int | str, ...] = (
    0,
    1,
    999_999_999,
    1_000_000_000,
    -500_000_000,
    2**53 + 1,
    2**63 - 1,
    str(2**63),
    str((2**63 - 1) * 10**9 + 999_999_999),
    str(-(2**63)),
)
AMOUNTS = (0, 1, -1, 37_500, 2**53 - 1, 2**53 + 1, 2**63 - 1, -(2**63 - 1))


class LedgerWriter:
    """Writes one partition's ledger record by record, and remembers what it wrote."""

    def __init__(self, partition: int, seed: int = 0, customers: int = 5) -> None:
        self.partition = partition
        self.records: list[LedgerRecord] = []
        self._random = random.Random(f"{partition}/{seed}")
        self._customers = customers
        self._next_seq = 0
        self._block_seq = 0
        self._inputs = [0, 0]

    @property
    def ledger_id(self) -> str:
        """The ledger's name, once `begin` was called."""
        return self.records[0].ledger_id

    def begin(self) -> LedgerRecord:
        """The genesis."""
        return self._written(genesis(self.partition, STARTED_AT))

    def entries(self, count: int, *, closes_block: bool = False) -> LedgerRecord:
        """A record of this many entries, about every tenth of them not rated."""
        entries = Entries()
        for index in range(count):
            self._entry(entries, index)
        return self._record(RecordKind.ENTRIES, entries, count, closes_block)

    def plain(self, count: int, rates: Sequence[Rate] = RATES, *, closes_block: bool = False) -> LedgerRecord:
        """A record of this many usual entries: rated, two charges, one posting that burns one credit."""
        entries = Entries()
        for _ in range(count):
            self._usual(entries, rates)
        return self._record(RecordKind.ENTRIES, entries, count, closes_block)

    def block_end(self) -> LedgerRecord:
        """A marker that closes the block."""
        return self._record(RecordKind.BLOCK_END, None, 0, True)

    def blocks(self, blocks: int, records: int, count: int) -> Iterator[LedgerRecord]:
        """Whole blocks of some records of some entries each; every second one is closed by a marker."""
        for block in range(blocks):
            for record in range(records):
                yield self.entries(count, closes_block=block % 2 == 0 and record == records - 1)
            if block % 2:
                yield self.block_end()

    def _record(self, kind: RecordKind, entries: Entries | None, count: int, closes_block: bool) -> LedgerRecord:
        return self._written(
            LedgerRecord(
                LEDGER_FORMAT,
                kind,
                self.partition,
                self._next_seq,
                count,
                self._inputs[USAGE],
                self._inputs[ACCOUNT],
                3,
                STARTED_AT + self._next_seq,
                self._block_seq,
                closes_block,
                entries,
                {"4:acme:cust-0": b"values"} if count else {},
                "",
            )
        )

    def _written(self, record: LedgerRecord) -> LedgerRecord:
        self.records.append(record)
        self._next_seq = record.next_seq
        if record.closes_block:
            self._block_seq = record.next_seq
        return record

    def _head(self, entries: Entries, source: int, outcome: Outcome, event_type: str) -> int:
        seq = self._next_seq + len(entries.offset)
        place = self._random.randrange(self._customers)
        entries.input.append(source)
        entries.offset.append(self._inputs[source])
        self._inputs[source] += 1
        entries.outcome.append(outcome)
        entries.tenant.append("acme" if place % 3 else "größe")
        entries.customer.append(f"cust-{place}")
        entries.source.append("chat")
        entries.event_id.append(f"event-{self.partition}-{seq}")
        entries.event_type.append(event_type)
        entries.fingerprints.append(self._random.randbytes(24) if outcome == Outcome.RATED else b"")
        entries.occurred_at.append(STARTED_AT + self._random.randrange(40 * 86_400) * 1_000_000 + seq)
        entries.received_at.append(STARTED_AT + seq)
        entries.user_id.append(f"user-{place % 3}" if place % 2 else "")
        entries.session_id.append(f"session-{place}" if event_type.startswith("session.") else "")
        entries.charges.append(0)
        entries.postings.append(0)
        return len(entries.offset) - 1

    def _usual(self, entries: Entries, rates: Sequence[Rate]) -> None:
        index = self._head(entries, USAGE, Outcome.RATED, "session.tokens_used")
        if not entries.rates:
            entries.rates.extend(rates)
        total = 0
        for _ in range(2):
            amount = self._random.randrange(10**9)
            entries.charge_rate.append(self._random.randrange(len(rates)))
            entries.charge_quantity.append(self._random.randrange(10**6) * 10**9)
            entries.charge_amount.append(amount)
            total += amount
        entries.charges[index] = 2
        entries.burnt[len(entries.posting_kind)] = [("credit-1", total)]
        self._posting(entries, index, PostingKind.CHARGE, -total)

    def _posting(self, entries: Entries, index: int, kind: PostingKind, amount: int) -> None:
        entries.posting_kind.append(kind)
        entries.posting_amount.append(amount)
        entries.posting_balance.append(self._random.choice(AMOUNTS))
        entries.posting_currency.append("USD")
        entries.postings[index] += 1

    def _entry(self, entries: Entries, index: int) -> None:
        choice = self._random.randrange(20)
        if choice == 0:
            self._head(entries, USAGE, Outcome.DEAD_LETTER, "")
            entries.reason[index] = "not_json"
        elif choice == 1:
            self._head(entries, USAGE, Outcome.DUPLICATE, "session.tokens_used")
            entries.reason[index] = "same_identity"
        elif choice == 2:
            self._head(entries, ACCOUNT, Outcome.IGNORED, "wallet.credits_added")
            entries.reason[index] = "no_effect"
        elif choice == 3:
            self._head(entries, ACCOUNT, Outcome.RATED, "credit.granted")
            entries.fingerprints[-1] *= 2
            entries.posting_cause[len(entries.posting_kind)] = f"credit-{index}"
            self._posting(entries, index, PostingKind.GRANT, self._random.choice(AMOUNTS[3:7]))
            entries.documents[index] = [
                (kind, f"{self.partition}/{entries.customer[index]}", f'{{"größe": {self._random.random()}}}'.encode())
                for kind in (ORDER, PAYMENT)[: 1 + index % 2]
            ]
        elif choice == 4:
            self._device(entries, index)
        else:
            self._chat(entries, index)

    def _device(self, entries: Entries, index: int) -> None:
        self._head(entries, USAGE, Outcome.RATED, "device.released")
        entries.device_id[index] = "device-ß"
        entries.allocation_id[index] = f"allocation-{index}"
        entries.hold_id[index] = "hold-1"
        entries.flags[index] = 5
        entries.subscription_id[index] = f"subscription-{index}"
        for at, kind in enumerate((PostingKind.EXPIRY, PostingKind.CHARGE)):
            entries.burnt[len(entries.posting_kind)] = [(f"credit-{at}", 7), ("credit-long-" + "x" * 150, 8)][: at + 1]
            self._posting(entries, index, kind, -7 if at == 0 else -15)

    def _chat(self, entries: Entries, index: int) -> None:
        self._head(entries, USAGE, Outcome.RATED, "session.tokens_used")
        if index % 4 == 0:
            entries.upstream_cost[index] = "0.0012"
        charges = self._random.randrange(4)
        for _ in range(charges):
            rate = self._random.choice(RATES)
            if rate not in entries.rates:
                entries.rates.append(rate)
            entries.charge_rate.append(entries.rates.index(rate))
            entries.charge_quantity.append(self._random.choice(QUANTITIES))
            entries.charge_amount.append(self._random.choice(AMOUNTS))
        entries.charges[index] = charges
        if charges:
            self._posting(entries, index, PostingKind.CHARGE, self._random.choice(AMOUNTS))
