"""Deciding rehearsed on a small batch that never was: whatever is compiled, loaded or first asked for by deciding is
ready before a real event waits for it.

    python -m streams.rehearsal      compiles the loops, so that no worker has to
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from rating.book import PriceBook
from rating.columns import FEWEST
from rating.decision import Standing
from rating.received import Records
from schemas.account import PAID, Account, Grant, account_key, new_account
from schemas.catalog import CatalogVersion, from_document
from schemas.topics import USAGE_EVENTS
from streams.announcing import announcements
from streams.deciding import Place, decide_batch, name
from streams.fetched import Blob, Columnar
from streams.identity.memtable import Memtable

_WHEN: Final = 1_795_000_000_000_000
_HOUR: Final = 3_600 * 10**6
_TENANT, _CUSTOMER = "rehearsal", "nobody"
_CATALOGUE: Final[dict[str, Any]] = {
    "currency": "USD",
    "meters": [{"id": "tokens", "event_type": "session.tokens_used", "quantity": "data.input_tokens"}],
    "prices": [{"id": "token", "meter": "tokens", "model": "per_unit", "unit_amount": "0.001"}],
}


def rehearse() -> int:
    """Decides and tells of a few plain events of a customer with a credit; how many ledger entries that makes."""
    book = PriceBook()
    book.add(CatalogVersion(1, None, 0, from_document(_CATALOGUE)))
    named = name(_fetched(2 * FEWEST), _HOUR)
    standing = Standing({account_key(_TENANT, _CUSTOMER): _account()}, {}, {})
    place = Place(0, "rehearsal", 0, 0, 0, 0, _WHEN)
    decided = [one for one in decide_batch(named, standing, book, 1, place, lambda: _WHEN) if one is not None]
    list(announcements([one.packed for one in decided]))
    booked = Memtable()
    for one in decided:
        booked.add(one.booked)
    booked.find(named.identities)
    return sum(one.packed.count for one in decided)


def _fetched(count: int) -> Records:
    """Plain events as they come from Kafka."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, -1, -1, -1, 1 << 20)
    for number in range(count):
        builder.append(number, _WHEN // 1_000, _CUSTOMER.encode(), _event(number), [])
    place = TopicPartition(USAGE_EVENTS, 0)
    records: Records
    (records,) = Columnar(place, Blob(bytes(builder.build())), [], 0, None, None, True, READ_COMMITTED)
    return records


def _account() -> Account:
    account = new_account(_TENANT, _CUSTOMER)
    account.currency, account.balance = "USD", 10**12
    account.grants = [Grant("credit", 10**12, 10**12, 0, 0, _WHEN, PAID, ())]
    return account


def _event(number: int) -> bytes:
    data = {"session_id": "session", "model": f"model-{number % 2}", "input_tokens": number + 1, "output_tokens": 1}
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": str(number),
            "source": f"rehearsal-{number % 2}",
            "type": "session.tokens_used",
            "subject": _CUSTOMER,
            "tenantid": _TENANT,
            "time": "2026-11-18T00:00:00Z",
            "data": data,
        }
    )


if __name__ == "__main__":
    rehearse()
