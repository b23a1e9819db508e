"""A block of the ledger as rows of `tollgate.ledger_entries`: records in, bytes of one insert out. Pure.

The ledger says where a block begins and ends; here its records become columns, one row an entry, the same bytes whoever
makes them. `Gathering` collects the records of a partition's open block, `encode` writes a whole one.

Refuses what the reader's checks cannot have let through, as InvariantBroken. Money is Int64 nanos, a quantity whole
units and 0 to 999,999,999 nano-units above them (so -0.5 is -1 and 500,000,000).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeVar

import numpy as np

from schemas.errors import InvariantBroken
from schemas.ledger import INPUT_TOPICS, PostingKind, Rate, RecordKind
from schemas.ledger_packed import Columns, PackedRecord
from schemas.limits import BLOCK_MAX_ENTRIES
from schemas.money import NANOS, unpack_int
from schemas.outcome import OUTCOME_NAMES
from schemas.packing import Codes, Ints, Texts, Words, counts_of, int64s_of
from streams.native import LowCardinality, block, int64s, octets, offsets, sparse, texts

TABLE: Final = "tollgate.ledger_entries"

Value = TypeVar("Value")


def _enum(words: Iterable[tuple[int, str]]) -> str:
    return "Enum8(" + ", ".join(f"'{word}' = {number}" for number, word in words) + ")"


_WORD: Final = "LowCardinality(String)"
_TIME: Final = "DateTime64(6, 'UTC')"
_TOPIC: Final = _enum(enumerate(INPUT_TOPICS))
_OUTCOME: Final = _enum(OUTCOME_NAMES.items())
_KIND: Final = _enum((kind.value, kind.name.lower()) for kind in PostingKind)


@dataclass(frozen=True, slots=True)
class Block:
    """A closed block: rows first_seq to next_seq - 1 of a partition, as one insert."""

    ledger_id: str
    partition: int
    first_seq: int
    next_seq: int
    data: bytes

    @property
    def token(self) -> str:
        """Names the block and its extent: ClickHouse takes each token once."""
        return f"{self.ledger_id}/{self.partition}/{self.first_seq}/{self.next_seq - 1}"


class Gathering:
    """The records of one partition's block until it closes. `after`: the seq that the next block begins with."""

    __slots__ = ("_ledger_id", "_next_block", "_records")

    def __init__(self, ledger_id: str, after: int) -> None:
        self._ledger_id = ledger_id
        self._next_block = after
        self._records: list[tuple[int, PackedRecord]] = []

    @property
    def entries(self) -> int:
        """Entries gathered so far."""
        return self._records[-1][1].next_seq - self._next_block if self._records else 0

    def add(self, offset: int, record: PackedRecord) -> list[tuple[int, PackedRecord]] | None:
        """Takes the next record; the block's records if this one closes it and it has entries, else None."""
        if record.block_seq != self._next_block:
            if record.kind == RecordKind.BLOCK_END and record.next_seq == self._next_block:
                # The marker that closed the block before, read again: a position names a block's last entry.
                return None
            raise InvariantBroken(
                f"partition {record.partition}: the record at offset {offset} is of block {record.block_seq}, "
                f"expected {self._next_block}"
            )
        if record.count:
            self._records.append((offset, record))
        if record.next_seq - self._next_block > 2 * BLOCK_MAX_ENTRIES:
            raise InvariantBroken(f"partition {record.partition}: block {self._next_block} does not end")
        if not record.closes_block:
            return None
        records, self._records = self._records, []
        self._next_block = record.next_seq
        return records or None


def encode(ledger_id: str, records: Sequence[tuple[int, PackedRecord]]) -> Block:
    """One closed block: its ENTRIES records with their offsets, in order."""
    first, last = records[0][1], records[-1][1]
    rows = last.next_seq - first.first_seq
    all_entries = [record.entries for _, record in records if record.entries is not None]
    if len(all_entries) != len(records) or rows != sum(record.count for _, record in records):
        raise InvariantBroken(f"partition {first.partition}: block {first.block_seq} is not whole")
    columns = _places(ledger_id, records, rows)
    columns += _inputs(all_entries, rows, [record.first_seq - first.first_seq for _, record in records])
    columns += _charges(all_entries)
    columns += _postings(all_entries, rows)
    return Block(ledger_id, first.partition, first.first_seq, last.next_seq, block(rows, columns))


Column = tuple[str, str, bytes]


def _laid(entries: Sequence[Columns], column: Callable[[Columns], bytes]) -> bytes:
    return b"".join(map(column, entries))


def _texts(entries: Sequence[Columns], column: Callable[[Columns], Texts]) -> bytes:
    return b"".join(column(part).data for part in entries)


def _words(entries: Sequence[Columns], column: Callable[[Columns], Words]) -> LowCardinality:
    return LowCardinality.joined(list(map(column, entries)))


def _places(ledger_id: str, records: Sequence[tuple[int, PackedRecord]], rows: int) -> list[Column]:
    first = records[0][1]
    counts = [record.count for _, record in records]

    def by_record(values: list[int]) -> bytes:
        return np.repeat(np.array(values, np.int64), counts).tobytes()

    return [
        ("partition", "UInt16", np.full(rows, first.partition, "<u2").tobytes()),
        ("block_seq", "Int64", np.full(rows, first.block_seq, "<i8").tobytes()),
        ("seq", "Int64", np.arange(first.first_seq, first.first_seq + rows, dtype="<i8").tobytes()),
        ("ledger_id", _WORD, LowCardinality([ledger_id], np.zeros(rows, np.uint8)).column()),
        ("ledger_offset", "Int64", by_record([offset for offset, _ in records])),
        ("catalog_position", "Int64", by_record([record.catalog_position for _, record in records])),
        ("rated_at", _TIME, by_record([record.decided_at for _, record in records])),
    ]


def _inputs(entries: Sequence[Columns], rows: int, starts: Sequence[int]) -> list[Column]:
    def rare(column: Callable[[Columns], Mapping[int, str]]) -> dict[int, str]:
        return dict(_rare(entries, starts, column))

    reasons, flags = [""] * rows, bytearray(rows)
    for row, reason in rare(lambda part: part.reason).items():
        reasons[row] = reason
    for start, part in zip(starts, entries, strict=True):
        for row, value in part.flags.items():
            flags[start + row] = value
    return [
        ("topic", _TOPIC, _laid(entries, lambda part: part.input)),
        ("offset", "Int64", _laid(entries, lambda part: part.offset)),
        ("outcome", _OUTCOME, _laid(entries, lambda part: part.outcome)),
        ("reason", _WORD, LowCardinality.of(reasons).column()),
        ("flags", "UInt8", bytes(flags)),
        ("tenant", _WORD, _words(entries, lambda part: part.tenant).column()),
        ("customer", "String", _texts(entries, lambda part: part.customer)),
        ("source", _WORD, _words(entries, lambda part: part.source).column()),
        ("event_id", "String", _texts(entries, lambda part: part.event_id)),
        ("event_type", _WORD, _words(entries, lambda part: part.event_type).column()),
        ("fingerprints", "String", _texts(entries, lambda part: part.fingerprints)),
        ("occurred_at", _TIME, _laid(entries, lambda part: part.occurred_at)),
        ("received_at", _TIME, _laid(entries, lambda part: part.received_at)),
        ("user_id", "String", _texts(entries, lambda part: part.user_id)),
        ("session_id", "String", _texts(entries, lambda part: part.session_id)),
        ("device_id", "String", sparse(rows, rare(lambda part: part.device_id))),
        ("allocation_id", "String", sparse(rows, rare(lambda part: part.allocation_id))),
        ("hold_id", "String", sparse(rows, rare(lambda part: part.hold_id))),
        ("upstream_cost", "String", sparse(rows, rare(lambda part: part.upstream_cost))),
        ("subscription_id", "String", sparse(rows, rare(lambda part: part.subscription_id))),
        *_documents(rows, dict(_rare(entries, starts, lambda part: part.documents))),
    ]


def _rare(
    entries: Sequence[Columns], starts: Sequence[int], column: Callable[[Columns], Mapping[int, Value]]
) -> Iterator[tuple[int, Value]]:
    """What few entries have, by row of the block."""
    for start, part in zip(starts, entries, strict=True):
        for row, value in column(part).items():
            yield start + row, value


def _documents(rows: int, by_row: Mapping[int, list[tuple[str, str, bytes]]]) -> list[Column]:
    counts: Ints = np.zeros(rows, np.int64)
    written: list[tuple[str, str, bytes]] = []
    for row in sorted(by_row):
        counts[row] = len(by_row[row])
        written += by_row[row]
    ends = offsets(counts)
    kinds = LowCardinality.of([kind for kind, _, _ in written])
    return [
        ("document.kind", f"Array({_WORD})", kinds.prefix + ends + kinds.data()),
        ("document.id", "Array(String)", ends + texts([name for _, name, _ in written])),
        ("document.body", "Array(String)", ends + octets([body for _, _, body in written])),
    ]


def _charges(entries: Sequence[Columns]) -> list[Column]:
    ends = offsets(counts_of(_laid(entries, lambda part: part.charges)))
    rates, of_charge = _rates(entries)
    units, nanos = _quantities([part.charge_quantity for part in entries])

    def words(name: str, value: Callable[[Rate], str]) -> Column:
        chosen = LowCardinality.of([value(rate) for rate in rates]).take(of_charge)
        return name, f"Array({_WORD})", chosen.prefix + ends + chosen.data()

    versions: Ints = np.array([rate.catalog_version for rate in rates], np.int64)
    return [
        words("charge.meter", lambda rate: rate.meter),
        words("charge.price_id", lambda rate: rate.price_id),
        ("charge.catalog_version", "Array(Int64)", ends + versions[of_charge].tobytes()),
        words("charge.unit_amount", lambda rate: rate.unit_amount),
        words("charge.currency", lambda rate: rate.currency),
        ("charge.dimensions", f"Array(Map({_WORD}, {_WORD}))", _dimensions(rates, of_charge, ends)),
        ("charge.quantity_units", "Array(Int64)", ends + units),
        ("charge.quantity_nanos", "Array(UInt32)", ends + nanos),
        ("charge.amount", "Array(Int64)", ends + _laid(entries, lambda part: part.charge_amount)),
    ]


def _rates(entries: Sequence[Columns]) -> tuple[list[Rate], Ints]:
    """The rates of all records, each once, and by charge its place among them."""
    places: dict[Rate, int] = {}
    of_charge = [
        np.array([places.setdefault(rate, len(places)) for rate in part.rates], np.int64)[counts_of(part.charge_rate)]
        for part in entries
        if part.charge_rate
    ]
    return list(places), np.concatenate(of_charge) if of_charge else np.zeros(0, np.int64)


def _dimensions(rates: Sequence[Rate], of_charge: Ints, ends: bytes) -> bytes:
    """A map for each charge, out of the few maps that the rates have: only codes are moved."""
    pairs = [pair for rate in rates for pair in rate.dimensions]
    names = LowCardinality.of([name for name, _ in pairs])
    values = LowCardinality.of([value for _, value in pairs])
    sizes: Ints = np.array([len(rate.dimensions) for rate in rates], np.int64)
    begins = np.cumsum(sizes) - sizes
    taken = sizes[of_charge]
    before = np.cumsum(taken) - taken
    places: Codes = np.repeat(begins[of_charge] - before, taken) + np.arange(int(taken.sum()))
    return b"".join(
        (
            names.prefix,
            values.prefix,
            ends,
            offsets(taken),
            names.take(places).data(),
            values.take(places).data(),
        )
    )


def _quantities(parts: Sequence[bytes | list[int | str]]) -> tuple[bytes, bytes]:
    if all(isinstance(part, bytes) for part in parts):
        whole, fraction = np.divmod(int64s_of(b"".join(parts)), NANOS)  # type: ignore[arg-type]  # all are
        return whole.tobytes(), fraction.astype("<u4").tobytes()
    of_part = (int64s_of(part).tolist() if isinstance(part, bytes) else map(unpack_int, part) for part in parts)
    split = [divmod(quantity, NANOS) for quantity in chain.from_iterable(of_part)]
    return int64s(units for units, _ in split), np.array([nanos for _, nanos in split], "<u4").tobytes()


def _postings(entries: Sequence[Columns], rows: int) -> list[Column]:
    counts = counts_of(_laid(entries, lambda part: part.postings))
    ends = offsets(counts)
    kinds = _laid(entries, lambda part: part.posting_kind)
    currencies = _words(entries, lambda part: part.posting_currency)
    causes: dict[int, str] = {}
    start = 0
    for part in entries:
        for at, cause in part.posting_cause.items():
            causes[start + at] = cause
        start += len(part.posting_kind)
    return [
        ("posting.kind", f"Array({_KIND})", ends + kinds),
        ("posting.amount", "Array(Int64)", ends + _laid(entries, lambda part: part.posting_amount)),
        ("posting.balance_after", "Array(Int64)", ends + _laid(entries, lambda part: part.posting_balance)),
        ("posting.currency", f"Array({_WORD})", currencies.prefix + ends + currencies.data()),
        ("posting.cause", "Array(String)", ends + sparse(len(kinds), causes)),
        *_burnt(entries, counts, rows),
    ]


def _burnt(entries: Sequence[Columns], postings: Ints, rows: int) -> list[Column]:
    """By entry: the credits its postings took from, and which of the postings it was."""
    starts = np.cumsum([0, *(len(part.posting_kind) for part in entries)]).tolist()
    taker = np.concatenate(
        [counts_of(part.burnt_posting) + start for start, part in zip(starts, entries, strict=False)]
    )
    first_posting = np.cumsum(postings) - postings
    row = np.searchsorted(np.cumsum(postings), taker, side="right")
    ends = offsets(np.bincount(row, minlength=rows))
    return [
        ("burnt.posting", "Array(UInt8)", ends + (taker - first_posting[row]).astype("<u1").tobytes()),
        ("burnt.credit_id", "Array(String)", ends + _texts(entries, lambda part: part.burnt_credit)),
        ("burnt.amount", "Array(Int64)", ends + _laid(entries, lambda part: part.burnt_amount)),
    ]
