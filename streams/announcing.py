"""What is told of usage on `billing.events`: by customer and transaction, not by event, and in that transaction.

For each customer that a transaction charged, from its ledger records alone:

    usage.recorded       the quantities by meter, the number of events
    billing.processed    what they came to
    wallet.consumed      what was taken out of the wallet, and its balance after; only where something was

All three carry the same data: `events, charges, amount, currency, usage` (quantity by meter), `consumed, balance_after`
(null where the wallet did not move) and `first_seq, last_seq`, between which its entries lie in the partition's ledger.
Their ids are of the ledger's places as those of all our events. Charges and wallet are those of usage alone: what
payments and commands do they tell themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from orjson import dumps

from schemas.ledger import PostingKind
from schemas.ledger_packed import Columns, PackedRecord
from schemas.money import NANOS, format_nanos, unpack_int
from schemas.packing import Ints, counts_of, int64s_of
from schemas.period import format_time
from schemas.spans import end_to_end, numbered, spans_of

_CHARGE: Final = int(PostingKind.CHARGE)


_LIMB: Final = 32


class _Told(NamedTuple):
    """What a transaction did to one customer."""

    first: int
    last: int
    currency: str
    events: int
    charges: int
    amount: int
    consumed: int
    balance: int | None
    usage: dict[str, int]


class _Numbers:
    """A number for each customer and meter of a transaction."""

    def __init__(self) -> None:
        self.customers: dict[tuple[str, str], int] = {}
        self.meters: dict[str, int] = {}
        self.currencies: dict[str, int] = {}

    def of(self, records: Sequence[PackedRecord]) -> list[Ints]:
        """Whose each entry is, by number; an array for each record."""
        tenants: dict[str, int] = {}
        named, tenant_of = [], []
        for record in records:
            assert record.entries is not None
            named.append(spans_of(record.entries.customer, record.count))
            codes_of = [tenants.setdefault(word, len(tenants)) for word in record.entries.tenant.words]
            tenant_of.append(np.array(codes_of, np.int64)[record.entries.tenant.places()])
        spans, tenant = end_to_end(named), np.concatenate(tenant_of)
        words: list[str] = list(tenants)
        codes, firsts = numbered(spans.buffer, spans.starts, spans.sizes)
        if len(words) > 1:
            pairs = codes.astype(np.int64) * len(words) + tenant
            _, firsts, codes = np.unique(pairs, return_index=True, return_inverse=True)
        for number, first in enumerate(firsts.tolist()):
            self.customers[words[tenant[first]], spans[first]] = number
        return np.split(codes.astype(np.int64), np.cumsum([record.count for record in records])[:-1])


def announcements(records: Sequence[PackedRecord]) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each event that a transaction's ledger records are told of by; of one partition, in order."""
    told_of = _gather([record for record in records if record.entries is not None])
    if not told_of:
        return
    partition, time = records[0].partition, format_time(records[-1].decided_at // 1000 * 1000)
    head = b'{"specversion":"1.0","source":"tollgate","time":"%b","type":"' % time.encode()
    recorded, processed, consumed = (
        head + b'%b","dataschema":"https://tollgate.dev/schemas/%b/1","id":"' % (kind, kind)
        for kind in (b"usage.recorded", b"billing.processed", b"wallet.consumed")
    )
    for (tenant, customer), told in told_of:
        place = b"%d-%d-" % (partition, told.last)
        rest = b'","tenantid":%b,"subject":%b,"data":%b}' % (dumps(tenant), dumps(customer), dumps(_data(told)))
        key = customer.encode()
        yield key, b"%b%busage%b" % (recorded, place, rest)
        yield key, b"%b%bbilling%b" % (processed, place, rest)
        if told.consumed:
            yield key, b"%b%bwallet%b" % (consumed, place, rest)


def _data(told: _Told) -> dict[str, object]:
    amount = format_nanos(told.amount)
    return {
        "events": told.events,
        "charges": told.charges,
        "amount": amount,
        "currency": told.currency,
        "usage": {meter: _text(quantity) for meter, quantity in told.usage.items()},
        "consumed": amount if told.consumed == told.amount else format_nanos(told.consumed),
        "balance_after": format_nanos(told.balance) if told.balance is not None else None,
        "first_seq": told.first,
        "last_seq": told.last,
    }


def _gather(records: Sequence[PackedRecord]) -> list[tuple[tuple[str, str], _Told]]:
    """What was done to each customer (tenant and id) that was charged, in the order of first charges.

    All in columns. An event without a charge, and its postings, is none of this."""
    if not records:
        return []
    numbers = _Numbers()
    parts = [
        _part(record, record.entries, of, numbers)
        for record, of in zip(records, numbers.of(records), strict=True)
        if record.entries is not None
    ]
    if not any(len(part.of_charge) for part in parts):
        return []
    of, seq, of_charge, meter, currency, quantity, amount, of_posting, moved, balance = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    size, meters = len(numbers.customers), list(numbers.meters)
    of_usage = of_charge * len(meters) + meter
    seen = np.bincount(of_usage, minlength=size * len(meters)).reshape(size, -1).tolist()
    usage = _sums(quantity, of_usage, size * len(meters))
    consumed, amounts = _sums(moved, of_posting, size), _sums(amount, of_charge, size)
    first, last = _firsts(seq, of, size), _firsts(seq[::-1], of[::-1], size)
    left = _firsts(balance[::-1], of_posting[::-1], size)
    postings = np.bincount(of_posting, minlength=size).tolist()
    currencies, of_first = list(numbers.currencies), _firsts(currency, of_charge, size)
    events, charges = np.bincount(of, minlength=size).tolist(), np.bincount(of_charge, minlength=size).tolist()
    told: list[tuple[tuple[str, str], _Told]] = []
    for number, customer in enumerate(numbers.customers):
        if not events[number]:
            continue
        at = number * len(meters)
        used = {name: usage[at + place] for place, name in enumerate(meters) if seen[number][place]}
        told.append(
            (
                customer,
                _Told(
                    first[number],
                    last[number],
                    currencies[of_first[number]],
                    events[number],
                    charges[number],
                    amounts[number],
                    -consumed[number],
                    left[number] if postings[number] else None,
                    used,
                ),
            )
        )
    told.sort(key=lambda one: one[1].first)
    return told


class _Part(NamedTuple):
    """A record's columns of what was charged: whose each is, by number, and what it says."""

    of_event: Ints
    seq: Ints
    of_charge: Ints
    meter: Ints
    currency: Ints
    quantity: NDArray[Any]
    amount: Ints
    of_posting: Ints
    moved: Ints
    balance: Ints


def _part(record: PackedRecord, entries: Columns, of: Ints, numbers: _Numbers) -> _Part:
    charges, postings = counts_of(entries.charges), counts_of(entries.postings)
    rate = counts_of(entries.charge_rate)
    meter = np.array([numbers.meters.setdefault(rate.meter, len(numbers.meters)) for rate in entries.rates], np.int64)
    currency = [numbers.currencies.setdefault(rate.currency, len(numbers.currencies)) for rate in entries.rates]
    charged = charges > 0
    kinds = np.frombuffer(entries.posting_kind, np.uint8)
    taken = (kinds == _CHARGE) & np.repeat(charged, postings)
    quantity = entries.charge_quantity
    return _Part(
        of[charged],
        np.flatnonzero(charged) + record.first_seq,
        np.repeat(of, charges),
        meter[rate],
        np.array(currency, np.int64)[rate],
        int64s_of(quantity) if isinstance(quantity, bytes) else np.array(list(map(unpack_int, quantity)), object),
        int64s_of(entries.charge_amount),
        np.repeat(of, postings)[taken],
        int64s_of(entries.posting_amount)[taken],
        int64s_of(entries.posting_balance)[taken],
    )


def _sums(values: NDArray[Any], of: Ints, size: int) -> list[int]:
    """By number: the sum of its values, exact whatever it comes to."""
    if values.dtype == object:
        whole = np.zeros(size, object)
        np.add.at(whole, of, values)
        return list(map(int, whole))
    high, low = np.zeros(size, np.int64), np.zeros(size, np.int64)
    np.add.at(high, of, values >> _LIMB)
    np.add.at(low, of, values & ((1 << _LIMB) - 1))
    return [(above << _LIMB) + below for above, below in zip(high.tolist(), low.tolist(), strict=True)]


def _firsts(values: Ints, of: Ints, size: int) -> list[int]:
    """By number: the first of its values; 0 where there is none."""
    found: Ints = np.zeros(size, np.int64)
    found[of[::-1]] = values[::-1]  # of several the last stands
    firsts: list[int] = found.tolist()
    return firsts


def _text(quantity: int) -> str:
    """As `format_nanos`, sooner for whole units."""
    return format_nanos(quantity) if quantity % NANOS else str(quantity // NANOS)
