"""The ledger's record as it travels: its columns packed, see `schemas.packing`.

`encode_record` and `decode_record` go from and to the record in memory. Who only passes columns on, as the sink does,
takes the PackedRecord of `decode_packed` and never makes a value of an entry. What few entries have stands as maps by
entry; a record that was not packed here does not fit its count, and every reader asks for that first.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from typing import Any, Final

import msgspec

from schemas.errors import InvariantBroken
from schemas.ledger import LEDGER_FORMAT, Entries, LedgerRecord, Rate
from schemas.limits import LEDGER_RECORD_MAX_BYTES
from schemas.packing import (
    Texts,
    Words,
    counts_of,
    int64s_of,
    pack_counts,
    pack_int64s,
    pack_octets,
    pack_texts,
    pack_words,
    unpack_octets,
    unpack_texts,
    unpack_words,
)

_BYTES_OF_INT: Final = 8
_BYTES_OF_COUNT: Final = 4


class Columns(msgspec.Struct, array_like=True, frozen=True):
    """`schemas.ledger.Entries`, packed: a byte for each input, outcome and kind; counts in four; the rest in eight."""

    input: bytes
    offset: bytes
    outcome: bytes
    tenant: Words
    customer: Texts
    source: Words
    event_id: Texts
    event_type: Words
    fingerprints: Texts
    occurred_at: bytes
    received_at: bytes
    user_id: Texts
    session_id: Texts
    charges: bytes
    postings: bytes
    charge_rate: bytes
    charge_quantity: bytes | list[int | str]
    """As it is where one is beyond 64 bit."""
    charge_amount: bytes
    posting_kind: bytes
    posting_amount: bytes
    posting_balance: bytes
    posting_currency: Words
    rates: list[Rate]
    reason: dict[int, str]
    flags: dict[int, int]
    device_id: dict[int, str]
    allocation_id: dict[int, str]
    hold_id: dict[int, str]
    upstream_cost: dict[int, str]
    charge_before: dict[int, int | str]
    posting_cause: dict[int, str]
    burnt_posting: bytes
    """Of each credit that was burnt: by which posting, ascending."""
    burnt_credit: Texts
    burnt_amount: bytes
    subscription_id: dict[int, str]
    documents: dict[int, list[tuple[str, str, bytes]]]
    hold_ends: dict[int, list[tuple[str, str, int]]]

    def fit(self, count: int) -> bool:
        """Whether every column holds what `count` entries have."""
        if not len(self.charges) == len(self.postings) == count * _BYTES_OF_COUNT:
            return False
        charges, postings = int(counts_of(self.charges).sum()), int(counts_of(self.postings).sum())
        quantity, burnt = self.charge_quantity, len(self.burnt_posting) // _BYTES_OF_COUNT
        return (
            len(self.input) == len(self.outcome) == count
            and len(self.offset) == len(self.occurred_at) == len(self.received_at) == count * _BYTES_OF_INT
            and all(column.fit(count) for column in (self.tenant, self.customer, self.source, self.event_id))
            and all(column.fit(count) for column in (self.event_type, self.fingerprints, self.user_id, self.session_id))
            and len(self.charge_rate) == charges * _BYTES_OF_COUNT
            and len(quantity) == (charges * _BYTES_OF_INT if isinstance(quantity, bytes) else charges)
            and len(self.charge_amount) == charges * _BYTES_OF_INT
            and len(self.posting_kind) == postings
            and len(self.posting_amount) == len(self.posting_balance) == postings * _BYTES_OF_INT
            and self.posting_currency.fit(postings)
            and len(self.burnt_posting) == burnt * _BYTES_OF_COUNT
            and self.burnt_credit.fit(burnt)
            and len(self.burnt_amount) == burnt * _BYTES_OF_INT
            and (not charges or int(counts_of(self.charge_rate).max()) < len(self.rates))
            and (not burnt or int(counts_of(self.burnt_posting).max()) < postings)
        )


class PackedRecord(msgspec.Struct, array_like=True, frozen=True):
    """`schemas.ledger.LedgerRecord` with its columns packed."""

    format: int
    kind: int
    partition: int
    first_seq: int
    count: int
    usage_next: int
    account_next: int
    catalog_position: int
    decided_at: int
    block_seq: int
    closes_block: bool
    entries: Columns | None
    accounts: dict[str, bytes]
    ledger_id: str

    @property
    def next_seq(self) -> int:
        """seq of the entry after this record."""
        return self.first_seq + self.count

    def fits(self) -> bool:
        """Whether the columns hold its entries."""
        return self.entries is not None and self.count > 0 and self.entries.fit(self.count)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PackedRecord).decode
_decode_list = msgspec.msgpack.Decoder(list[Any]).decode


def encode_record(record: LedgerRecord) -> bytes:
    """As `encode_packed`, from the record in memory."""
    return encode_packed(packed(record))


def encode_packed(record: PackedRecord) -> bytes:
    """To bytes; InvariantBroken beyond the bound, which the chunking of batches keeps."""
    value = _encode(record)
    if len(value) > LEDGER_RECORD_MAX_BYTES:
        raise InvariantBroken(f"ledger record of {len(value)} bytes at seq {record.first_seq}")
    return value


def decode_packed(value: bytes) -> PackedRecord:
    """From bytes; InvariantBroken for what no writer of ours has written."""
    try:
        record = _decode(value)
    except msgspec.DecodeError as error:
        # A format is known by the number it begins with, whatever comes after.
        with suppress(msgspec.DecodeError):
            _check_format(next(iter(_decode_list(value)), LEDGER_FORMAT))
        raise InvariantBroken(f"a ledger record cannot be read: {error}") from error
    _check_format(record.format)
    return record


def _check_format(found: object) -> None:
    if found != LEDGER_FORMAT:
        raise InvariantBroken(f"ledger format {found!r} is not known; this version reads {LEDGER_FORMAT}")


def decode_record(value: bytes) -> LedgerRecord:
    """As `decode_packed`, to the record in memory."""
    record = decode_packed(value)
    if record.entries is not None and not record.fits():
        raise InvariantBroken(f"a ledger record has columns that do not hold its {record.count} entries")
    return unpacked(record)


def packed(record: LedgerRecord) -> PackedRecord:
    """A record as it travels. Errors: OverflowError for a number beyond its column."""
    return PackedRecord(
        record.format,
        record.kind,
        record.partition,
        record.first_seq,
        record.count,
        record.usage_next,
        record.account_next,
        record.catalog_position,
        record.decided_at,
        record.block_seq,
        record.closes_block,
        _pack(record.entries) if record.entries is not None else None,
        record.accounts,
        record.ledger_id,
    )


def unpacked(record: PackedRecord) -> LedgerRecord:
    """The inverse of `packed`, for one that fits."""
    return LedgerRecord(
        record.format,
        record.kind,
        record.partition,
        record.first_seq,
        record.count,
        record.usage_next,
        record.account_next,
        record.catalog_position,
        record.decided_at,
        record.block_seq,
        record.closes_block,
        _unpack(record.entries, record.count) if record.entries is not None else None,
        record.accounts,
        record.ledger_id,
    )


def _pack(entries: Entries) -> Columns:
    burnt_posting, burnt_credit, burnt_amount = _flat(entries.burnt)
    return Columns(
        bytes(entries.input),
        pack_int64s(entries.offset),
        bytes(entries.outcome),
        pack_words(entries.tenant),
        pack_texts(entries.customer),
        pack_words(entries.source),
        pack_texts(entries.event_id),
        pack_words(entries.event_type),
        pack_octets(entries.fingerprints),
        pack_int64s(entries.occurred_at),
        pack_int64s(entries.received_at),
        pack_texts(entries.user_id),
        pack_texts(entries.session_id),
        pack_counts(entries.charges),
        pack_counts(entries.postings),
        pack_counts(entries.charge_rate),
        pack_quantities(entries.charge_quantity),
        pack_int64s(entries.charge_amount),
        bytes(entries.posting_kind),
        pack_int64s(entries.posting_amount),
        pack_int64s(entries.posting_balance),
        pack_words(entries.posting_currency),
        entries.rates,
        entries.reason,
        entries.flags,
        entries.device_id,
        entries.allocation_id,
        entries.hold_id,
        entries.upstream_cost,
        entries.charge_before,
        entries.posting_cause,
        pack_counts(burnt_posting),
        pack_texts(burnt_credit),
        pack_int64s(burnt_amount),
        entries.subscription_id,
        entries.documents,
        entries.hold_ends,
    )


def _unpack(columns: Columns, count: int) -> Entries:
    quantity = columns.charge_quantity
    return Entries(
        list(columns.input),
        int64s_of(columns.offset).tolist(),
        list(columns.outcome),
        unpack_words(columns.tenant),
        unpack_texts(columns.customer, count),
        unpack_words(columns.source),
        unpack_texts(columns.event_id, count),
        unpack_words(columns.event_type),
        unpack_octets(columns.fingerprints, count),
        int64s_of(columns.occurred_at).tolist(),
        int64s_of(columns.received_at).tolist(),
        unpack_texts(columns.user_id, count),
        unpack_texts(columns.session_id, count),
        counts_of(columns.charges).tolist(),
        counts_of(columns.postings).tolist(),
        counts_of(columns.charge_rate).tolist(),
        int64s_of(quantity).tolist() if isinstance(quantity, bytes) else quantity,
        int64s_of(columns.charge_amount).tolist(),
        list(columns.posting_kind),
        int64s_of(columns.posting_amount).tolist(),
        int64s_of(columns.posting_balance).tolist(),
        unpack_words(columns.posting_currency),
        columns.rates,
        columns.reason,
        columns.flags,
        columns.device_id,
        columns.allocation_id,
        columns.hold_id,
        columns.upstream_cost,
        columns.charge_before,
        columns.posting_cause,
        _by_posting(columns),
        columns.subscription_id,
        columns.documents,
        columns.hold_ends,
    )


def pack_quantities(quantities: list[int | str]) -> bytes | list[int | str]:
    """Nano-units as they travel: in eight bytes each, or as they are where one is text, beyond 64 bit."""
    try:
        return pack_int64s(quantities)  # type: ignore[arg-type]  # texts go the other way
    except TypeError:
        return quantities


def _flat(burnt: Mapping[int, list[tuple[str, int]]]) -> tuple[list[int], list[str], list[int]]:
    if list(map(len, burnt.values())).count(1) == len(burnt) and list(burnt) == sorted(burnt):
        parts = list(chain.from_iterable(burnt.values()))  # nearly always: one credit a posting
        return list(burnt), [credit_id for credit_id, _ in parts], [amount for _, amount in parts]
    postings: list[int] = []
    credit_ids: list[str] = []
    amounts: list[int] = []
    for posting in sorted(burnt):
        for credit_id, amount in burnt[posting]:
            postings.append(posting)
            credit_ids.append(credit_id)
            amounts.append(amount)
    return postings, credit_ids, amounts


def _by_posting(columns: Columns) -> dict[int, list[tuple[str, int]]]:
    postings = counts_of(columns.burnt_posting).tolist()
    taken = zip(
        unpack_texts(columns.burnt_credit, len(postings)), int64s_of(columns.burnt_amount).tolist(), strict=True
    )
    burnt: dict[int, list[tuple[str, int]]] = {}
    for posting, part in zip(postings, taken, strict=True):
        burnt.setdefault(posting, []).append(part)
    return burnt
