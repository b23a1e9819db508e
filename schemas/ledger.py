"""The record of `usage.rated`, the ledger: format 2.

A record is one decided chunk of a batch, in columns: position i of every entry column is entry `first_seq + i`. `seq`
is dense by partition and counts entries alone; a record without entries (genesis, block end) takes none. The first
record of a partition is its genesis: it names the ledger (a random id), and every projection keeps that name beside its
position, so that a ledger that was replaced is recognized. `schemas.ledger_packed` says how it is encoded; fields are
only appended.

Every entry is the outcome of one input record. Its charges, wallet postings and claims are what a replay folds; nothing
is ever rated again to know them. A posting moves `amount` into the wallet (negative: out of it) against the counter
account of its kind, so each sums to zero by construction.

The sink's blocks are borders in the ledger itself: a block is all records from the one with `block_seq == first_seq`
up to the one that says `closes_block`, whoever inserts it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final

import msgspec

from schemas.documents import decode_body, document_key
from schemas.money import unpack_int, unpack_ints
from schemas.outcome import OUTCOME_NAMES

LEDGER_FORMAT: Final = 2
"""1 had its columns as lists; nothing but development ever wrote it, and nothing reads it."""
FINGERPRINT_BYTES: Final = 24
"""16 bytes of identity and 8 of content; an entry books none, one, or several joined."""

USAGE: Final = 0
ACCOUNT: Final = 1
INPUT_TOPICS: Final = ("usage.events", "account.events")

LATE: Final = 1
"""The period of the event's time had ended when Kafka received it."""
BELOW_ZERO: Final = 2
"""The charge took the wallet below zero, or found it there."""
HOLD_NOT_OPEN: Final = 4
"""It named a hold that was not open; charged in full."""
CUSTOMER_CLOSED: Final = 8
"""Usage of a customer that was deleted before; charged all the same."""


class RecordKind(IntEnum):
    """What a ledger record is."""

    GENESIS = 0
    ENTRIES = 1
    BLOCK_END = 2


class PostingKind(IntEnum):
    """Why a wallet moved, and against which account."""

    CHARGE = 1
    GRANT = 2
    DEPOSIT = 3
    WITHDRAWAL = 4
    TRANSFER_IN = 5
    TRANSFER_OUT = 6
    REFUND = 7
    ADJUSTMENT = 8
    EXPIRY = 9
    CORRECTION = 10


COUNTER_ACCOUNTS: Final[dict[PostingKind, str]] = {
    PostingKind.CHARGE: "revenue",
    PostingKind.GRANT: "credits_issued",
    PostingKind.DEPOSIT: "cash",
    PostingKind.WITHDRAWAL: "cash",
    PostingKind.TRANSFER_IN: "clearing",
    PostingKind.TRANSFER_OUT: "clearing",
    PostingKind.REFUND: "cash",
    PostingKind.ADJUSTMENT: "adjustments",
    PostingKind.EXPIRY: "credits_expired",
    PostingKind.CORRECTION: "revenue",
}


class Rate(msgspec.Struct, array_like=True, frozen=True):
    """What many charges of a record share: they name it by its index."""

    meter: str
    price_id: str
    """Empty: the meter has no price and only counts."""
    catalog_version: int
    unit_amount: str
    """Decimal text of the price's amount for one unit, empty where the model has none."""
    currency: str
    dimensions: tuple[tuple[str, str], ...]


class Entries(msgspec.Struct):
    """Columns of a record's entries. `charge_*` and `posting_*` are flat, in entry order; the counts part them."""

    input: list[int] = []
    """USAGE or ACCOUNT."""
    offset: list[int] = []
    outcome: list[int] = []
    tenant: list[str] = []
    customer: list[str] = []
    source: list[str] = []
    event_id: list[str] = []
    event_type: list[str] = []
    fingerprints: list[bytes] = []
    """Identity and content booked by the entry, FINGERPRINT_BYTES each; empty: it books none."""
    occurred_at: list[int] = []
    received_at: list[int] = []
    user_id: list[str] = []
    session_id: list[str] = []
    charges: list[int] = []
    """How many charges the entry has."""
    postings: list[int] = []
    """How many wallet postings the entry has."""

    charge_rate: list[int] = []
    """Index into `rates`."""
    charge_quantity: list[int | str] = []
    """Nano-units; text beyond 64 bit."""
    charge_amount: list[int] = []
    """Nanos."""

    posting_kind: list[int] = []
    posting_amount: list[int] = []
    """Nanos into the wallet; a charge is negative."""
    posting_balance: list[int] = []
    """The wallet's balance after it, nanos."""
    posting_currency: list[str] = []

    rates: list[Rate] = []

    reason: dict[int, str] = {}
    """By entry index, where the outcome is not plainly `rated`."""
    flags: dict[int, int] = {}
    device_id: dict[int, str] = {}
    allocation_id: dict[int, str] = {}
    hold_id: dict[int, str] = {}
    upstream_cost: dict[int, str] = {}
    """By entry index: decimal text in the major unit, as the producer sent it."""
    charge_before: dict[int, int | str] = {}
    """By charge index: what the price's counters held before it, the quantity so far first, by `pack_ints`; for prices
    that depend on them, where they did not all hold 0."""
    posting_cause: dict[int, str] = {}
    """By posting index: what it is about (a credit, payment or refund id), where that is not the entry's event."""
    burnt: dict[int, list[tuple[str, int]]] = {}
    """By posting index: the credits that it burnt and how much of each, nanos; of one that brings a credit, what of
    that paid debt at once."""
    subscription_id: dict[int, str] = {}
    documents: dict[int, list[tuple[str, str, bytes]]] = {}
    """By entry index: kind, id and body of the documents it wrote; see schemas.documents."""
    hold_ends: dict[int, list[tuple[str, str, int]]] = {}
    """By entry index: id and end state of the holds that end with it, and the nanos charged against each."""


class LedgerRecord(msgspec.Struct):
    """One record of a partition of `usage.rated`."""

    format: int
    kind: int
    partition: int
    first_seq: int
    """seq of the first entry; for a record without entries, that the next entry will have."""
    count: int
    usage_next: int
    """Every record of the partition's `usage.events` below this offset is decided."""
    account_next: int
    """Likewise of `account.events`."""
    catalog_position: int
    """The newest catalogue version the whole batch was decided under."""
    decided_at: int
    block_seq: int
    """seq of the first entry of the block it belongs to."""
    closes_block: bool
    entries: Entries | None
    accounts: dict[str, bytes]
    """By account key, packed: the values of the accounts it changed, after its transaction. One that several records of
    a transaction changed stands in the last of them."""
    ledger_id: str
    """In the genesis record alone: the ledger's name."""

    @property
    def next_seq(self) -> int:
        """seq of the entry after this record."""
        return self.first_seq + self.count


def genesis(partition: int, decided_at: int) -> LedgerRecord:
    """The first record of a partition's ledger, with a new name."""
    return LedgerRecord(
        LEDGER_FORMAT, RecordKind.GENESIS, partition, 0, 0, 0, 0, 0, decided_at, 0, False, None, {}, uuid.uuid4().hex
    )


def documents_of(record: LedgerRecord) -> dict[str, bytes]:
    """By document key: the bodies after this record of every document it wrote."""
    entries = record.entries
    if entries is None or not entries.documents:
        return {}
    return {
        document_key(entries.tenant[index], kind, name): body
        for index in sorted(entries.documents)
        for kind, name, body in entries.documents[index]
    }


def rows(record: LedgerRecord) -> Iterator[dict[str, Any]]:
    """The entries one by one, as plain values: for `rated tail`, explanations and tests, not for the hot path."""
    entries = record.entries
    if entries is None:
        return
    charge = posting = 0
    for index in range(record.count):
        charges = range(charge, charge + entries.charges[index])
        postings = range(posting, posting + entries.postings[index])
        charge, posting = charges.stop, postings.stop
        yield {
            "partition": record.partition,
            "seq": record.first_seq + index,
            "topic": INPUT_TOPICS[entries.input[index]],
            "offset": entries.offset[index],
            "outcome": OUTCOME_NAMES[entries.outcome[index]],
            "reason": entries.reason.get(index, ""),
            "tenant": entries.tenant[index],
            "customer": entries.customer[index],
            "source": entries.source[index],
            "event_id": entries.event_id[index],
            "event_type": entries.event_type[index],
            "occurred_at": entries.occurred_at[index],
            "received_at": entries.received_at[index],
            "rated_at": record.decided_at,
            "user_id": entries.user_id[index],
            "session_id": entries.session_id[index],
            "device_id": entries.device_id.get(index, ""),
            "allocation_id": entries.allocation_id.get(index, ""),
            "hold_id": entries.hold_id.get(index, ""),
            "upstream_cost": entries.upstream_cost.get(index, ""),
            "subscription_id": entries.subscription_id.get(index, ""),
            "flags": entries.flags.get(index, 0),
            "documents": [
                {"kind": kind, "id": name, "body": decode_body(body)}
                for kind, name, body in entries.documents.get(index, ())
            ],
            "hold_ends": [
                {"hold_id": hold_id, "state": state, "charged": charged}
                for hold_id, state, charged in entries.hold_ends.get(index, ())
            ],
            "charges": [
                {
                    "charge_id": f"{record.partition}-{record.first_seq + index}-{at - charges.start}",
                    "meter": (rate := entries.rates[entries.charge_rate[at]]).meter,
                    "price_id": rate.price_id,
                    "catalog_version": rate.catalog_version,
                    "unit_amount": rate.unit_amount,
                    "currency": rate.currency,
                    "dimensions": dict(rate.dimensions),
                    "quantity": unpack_int(entries.charge_quantity[at]),
                    "quantity_before": (before := unpack_ints(entries.charge_before.get(at, 0)))[0],
                    "counters_before": list(before),
                    "amount": entries.charge_amount[at],
                }
                for at in charges
            ],
            "postings": [
                {
                    "entry_id": f"{record.partition}-{record.first_seq + index}-{at - postings.start}",
                    "kind": PostingKind(entries.posting_kind[at]).name.lower(),
                    "amount": entries.posting_amount[at],
                    "balance_after": entries.posting_balance[at],
                    "currency": entries.posting_currency[at],
                    "cause": entries.posting_cause.get(at, ""),
                    "burnt": entries.burnt.get(at, []),
                }
                for at in postings
            ],
        }
