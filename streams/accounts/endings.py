"""What a record of the ledger says of holds."""

from __future__ import annotations

from typing import Final

from rating.holds import OPEN
from schemas.account import account_key
from schemas.ledger import LedgerRecord
from schemas.money import unpack_int
from schemas.period import DAY
from streams.accounts.port import HoldEnd

HOLD_LIFE: Final = 31 * DAY
"""A hold lives for 30 days at most: what ended before that is in no journal that could bring it back."""


def endings_of(record: LedgerRecord, now: int | None = None) -> list[HoldEnd]:
    """The holds that end with a record, and those that were charged against. With `now` (microseconds) none of a record
    so old that none of its holds can come back."""
    entries = record.entries
    if entries is None or not entries.hold_ends or (now is not None and record.decided_at < now - HOLD_LIFE):
        return []
    found: list[HoldEnd] = []
    for index in sorted(entries.hold_ends):
        account = account_key(entries.tenant[index], entries.customer[index])
        for hold_id, state, charged in entries.hold_ends[index]:
            used = _used(record, index) if state == OPEN else ()
            found.append(HoldEnd(account, hold_id, state, charged, record.first_seq + index, used))
    return found


def _used(record: LedgerRecord, index: int) -> tuple[tuple[str, int], ...]:
    entries = record.entries
    assert entries is not None
    first = sum(entries.charges[:index])
    by_meter: dict[str, int] = {}
    for at in range(first, first + entries.charges[index]):
        meter = entries.rates[entries.charge_rate[at]].meter
        by_meter[meter] = by_meter.get(meter, 0) + unpack_int(entries.charge_quantity[at])
    return tuple((meter, quantity) for meter, quantity in by_meter.items() if quantity > 0)
