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

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from orjson import dumps

from schemas.ledger import Entries, LedgerRecord, PostingKind
from schemas.money import NANOS, format_nanos, unpack_int
from schemas.period import format_time

_CHARGE: Final = int(PostingKind.CHARGE)


class _Told:
    """What a transaction did to one customer."""

    __slots__ = ("amount", "balance", "charges", "consumed", "currency", "events", "first", "last", "usage")

    def __init__(self, first: int, currency: str) -> None:
        self.first = self.last = first
        self.currency = currency
        self.events = self.charges = self.amount = self.consumed = 0
        self.balance: int | None = None
        self.usage: dict[str, int] = {}


def announcements(records: Sequence[LedgerRecord]) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each event that a transaction's ledger records are told of by; of one partition, in order."""
    by_customer: dict[tuple[str, str], _Told] = {}
    for record in records:
        if record.entries is not None:
            _gather(record.entries, record.first_seq, by_customer)
    if not by_customer:
        return
    partition, time = records[0].partition, format_time(records[-1].decided_at // 1000 * 1000)
    head = b'{"specversion":"1.0","source":"tollgate","time":"%b","type":"' % time.encode()
    recorded, processed, consumed = (
        head + b'%b","dataschema":"https://tollgate.dev/schemas/%b/1","id":"' % (kind, kind)
        for kind in (b"usage.recorded", b"billing.processed", b"wallet.consumed")
    )
    for (tenant, customer), told in by_customer.items():
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


def _gather(entries: Entries, first_seq: int, by_customer: dict[tuple[str, str], _Told]) -> None:
    meters = [rate.meter for rate in entries.rates]
    all_charges = zip(entries.charge_rate, entries.charge_quantity, entries.charge_amount, strict=True)
    all_postings = zip(entries.posting_kind, entries.posting_amount, entries.posting_balance, strict=True)
    columns = zip(entries.tenant, entries.customer, entries.charges, entries.postings, strict=True)
    place = 0
    for seq, (tenant, customer, charges, postings) in enumerate(columns, first_seq):
        if not charges:
            deque(islice(all_postings, postings), maxlen=0)
            continue
        told = by_customer.get((tenant, customer))
        if told is None:
            currency = entries.rates[entries.charge_rate[place]].currency
            told = by_customer[tenant, customer] = _Told(seq, currency)
        place += charges
        told.last = seq
        told.events += 1
        told.charges += charges
        usage, amounts = told.usage, 0
        for rate, quantity, amount in islice(all_charges, charges):
            meter = meters[rate]
            usage[meter] = usage.get(meter, 0) + (quantity if type(quantity) is int else unpack_int(quantity))
            amounts += amount
        told.amount += amounts
        for kind, moved, balance in islice(all_postings, postings):
            if kind == _CHARGE:
                told.consumed -= moved
                told.balance = balance


def _text(quantity: int) -> str:
    """As `format_nanos`, sooner for whole units."""
    return format_nanos(quantity) if quantity % NANOS else str(quantity // NANOS)
