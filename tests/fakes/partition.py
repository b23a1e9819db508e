"""A partition without stores: decides raw records as a lane does, and keeps what the ledger would keep.

Its `restart` forgets all memory and goes on from the ledger alone, as a worker that takes the partition over does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rating.book import PriceBook
from rating.decision import Standing
from rating.received import Received, Records
from schemas.account import Account, account_key, new_account, unpack_account
from schemas.billing_events import BILLING_EVENTS
from schemas.catalog import CatalogVersion, parse
from schemas.ids import partition_of
from schemas.ledger import ACCOUNT, FINGERPRINT_BYTES, USAGE, LedgerRecord, documents_of, rows
from schemas.topics import BILLING_EVENTS as BILLING_EVENTS_TOPIC
from streams.deciding import Decided, Place, decide_batch, decide_singly, elsewhere, name
from streams.transaction import Message

NOW = 1_795_000_000_000_000
"""When Kafka received the first record: 2026-11-18."""

MAX_FUTURE = 3_600 * 10**6

CATALOG = """
currency: USD
meters:
  - {id: input_tokens, event_type: session.tokens_used, quantity: data.input_tokens, aggregation: sum,
     dimensions: [model]}
  - {id: output_tokens, event_type: session.tokens_used, quantity: data.output_tokens, aggregation: sum}
  - {id: reasoning, event_type: session.tokens_used, quantity: data.reasoning_tokens, aggregation: sum,
     dimensions: [model]}
  - {id: seconds, event_type: device.released, quantity: data.duration_seconds, aggregation: sum}
  - {id: chats, event_type: usage.reported, aggregation: sum}
  - {id: seats, event_type: usage.reported, aggregation: sum}
  - {id: tiers, event_type: usage.reported, aggregation: sum}
  - {id: launches, event_type: rocket.launched, quantity: data.thrust, aggregation: sum}
prices:
  - {id: input, meter: input_tokens, model: per_unit, unit_amount: "0.001"}
  - {id: output, meter: output_tokens, model: per_unit, unit_amount: "0.0000000015"}
  - {id: thinking, meter: reasoning, match: {model: m}, model: per_unit, unit_amount: "1"}
  - {id: second, meter: seconds, model: per_unit, unit_amount: "0.01"}
  - {id: chat, meter: chats, model: per_unit, unit_amount: "1"}
  - id: tier
    meter: tiers
    model: graduated
    tiers: [{up_to: 10, unit_amount: "0.0000000015"}, {up_to: null, unit_amount: "0.3333333333", flat_amount: "5"}]
  - {id: launch, meter: launches, model: per_unit, unit_amount: "2"}
"""


class MemoryPartition:
    """One partition's ledger and what a lane remembers of it."""

    def __init__(self, catalog: str | None = CATALOG, *, partition: int = 0, partitions: int = 1) -> None:
        self.book = PriceBook()
        if catalog is not None:
            self.book.add(CatalogVersion(1, None, 0, parse(catalog)))
        self.partitions = partitions
        self.place = Place(partition, "ledger", 0, 0, 0, 0, NOW)
        self.decided: list[Decided] = []
        self.accounts: dict[str, Account] = {}
        self.booked: dict[bytes, bytes] = {}
        self.documents: dict[str, bytes] = {}
        self._offsets = [0, 0]

    def received(self, value: bytes | dict[str, Any] | None, topic: int = USAGE, received_at: int = NOW) -> Received:
        """A record at the next offset of an input."""
        if isinstance(value, dict):
            value = json.dumps(value).encode()
        self._offsets[topic] += 1
        return Received(topic, self._offsets[topic] - 1, received_at, b"key", value)

    def take(self, records: Sequence[Received], *, singly: bool = False, fewest: int | None = None) -> list[Decided]:
        """Decides a batch and makes it fact; from `fewest` plain events on in columns."""
        named = name(Records.of(records), MAX_FUTURE, isolate=singly)
        booked = found_in(self.booked, named.identities)
        away = elsewhere(
            named.customers, self.place.partition, lambda customer: partition_of(customer, self.partitions)
        )
        documents = {key: self.documents[key] for key in named.documents if key in self.documents}
        standing = Standing(self.accounts, booked, away, documents)
        deciding = decide_singly if singly else decide_batch if fewest is None else partial(decide_batch, fewest=fewest)
        known = dict(self.booked)  # the index hears of a batch when it is fact
        deciding_it = deciding(
            named,
            standing,
            self.book,
            self.book.position,
            self.place,
            lambda: NOW,
            lambda wanted: found_in(known, wanted),
        )
        decided = [chunk for chunk in deciding_it if chunk is not None]
        for chunk in decided:
            for booked_now in rows_as_bytes(chunk.booked):
                self.booked.setdefault(booked_now[:16], booked_now[16:])
            self.documents.update(documents_of(chunk.record))
            for message in chunk.messages:
                check_told(message)
        self.decided += decided
        return decided

    def usage(self, *values: bytes | dict[str, Any] | None, received_at: int = NOW) -> list[dict[str, Any]]:
        """Sends records to the usage topic as one batch; their ledger rows."""
        return rows_of(self.take([self.received(value, USAGE, received_at) for value in values]))

    def account(self, *values: bytes | dict[str, Any] | None, received_at: int = NOW) -> list[dict[str, Any]]:
        """Sends records to the account topic as one batch; their ledger rows."""
        return rows_of(self.take([self.received(value, ACCOUNT, received_at) for value in values]))

    def of(self, customer: str, tenant: str = "default") -> Account:
        """A customer's account as the lane has it in memory."""
        return self.accounts.get(account_key(tenant, customer)) or new_account(tenant, customer)

    def told(self) -> dict[str, bytes]:
        """The accounts as the ledger tells them: the newest values after of each."""
        folded: dict[str, bytes] = {}
        for chunk in self.decided:
            folded.update(chunk.record.accounts)
        return folded

    def restart(self) -> None:
        """Forgets everything and folds the ledger."""
        self.accounts = {key: unpack_account(packed) for key, packed in self.told().items()}
        self.booked, self.documents = {}, {}
        for record in self.records():
            self.documents.update(documents_of(record))
            assert record.entries is not None
            for fingerprints in record.entries.fingerprints:
                for at in range(0, len(fingerprints), FINGERPRINT_BYTES):
                    self.booked[fingerprints[at : at + 16]] = fingerprints[at + 16 : at + FINGERPRINT_BYTES]

    def records(self) -> list[LedgerRecord]:
        """The ledger."""
        return [chunk.record for chunk in self.decided]

    def rows(self) -> list[dict[str, Any]]:
        """Every entry so far."""
        return rows_of(self.decided)


def record_at(*offsets: int, received_at: int = NOW) -> Records:
    """Records of usage at these offsets."""
    return Records.of([Received(USAGE, offset, received_at, b"k", b"v") for offset in offsets])


def rows_as_bytes(digests: NDArray[np.uint8]) -> list[bytes]:
    """Digests, one a row, as bytes."""
    return [row.tobytes() for row in digests]


def found_in(booked: Mapping[bytes, bytes], identities: NDArray[np.uint8]) -> dict[bytes, bytes]:
    """What an index that holds these answers."""
    return {identity: booked[identity] for identity in rows_as_bytes(identities) if identity in booked}


def check_told(message: Message) -> None:
    """An event of ours has the shape that is published for its type, and is one that its readers' decoder takes."""
    if message.topic == BILLING_EVENTS_TOPIC:
        told = json.loads(message.value or b"")
        msgspec.convert(told["data"], BILLING_EVENTS[told["type"]])
        assert told["dataschema"].endswith(f"/{told['type']}/1")


def rows_of(decided: Iterable[Decided]) -> list[dict[str, Any]]:
    """The entries of chunks as plain values."""
    return [row for chunk in decided for row in rows(chunk.record)]


def event(number: object, event_type: str, data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An event of customer `c`; a change to None takes a field out."""
    made = {
        "specversion": "1.0",
        "id": str(number),
        "source": "test",
        "type": event_type,
        "subject": "c",
        "time": "2026-11-01T00:00:00Z",
        "data": data,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def tokens(
    number: object, taken: int = 1, given: int = 0, *, model: str = "m", thought: int = 0, **changes: Any
) -> Any:
    """session.tokens_used: a thousandth for each token taken, 1.5 nanos for each given."""
    data = {"session_id": "s", "model": model, "input_tokens": taken, "output_tokens": given}
    if thought:
        data["reasoning_tokens"] = thought
    return event(number, "session.tokens_used", data, **changes)


def reported(number: object, quantity: object = 1, meter: str = "chats", **changes: Any) -> Any:
    """usage.reported: one for each chat."""
    return event(number, "usage.reported", {"meter": meter, "quantity": quantity}, **changes)


def released(number: object, allocation: str = "a", seconds: int = 60, **changes: Any) -> Any:
    """device.released: a hundredth for each second."""
    data = {
        "device_id": "d",
        "allocation_id": allocation,
        "allocated_at": "2026-11-01T00:00:00Z",
        "released_at": f"2026-11-01T00:{seconds // 60:02d}:{seconds % 60:02d}Z",
        "cpu_cores": 1,
        "memory_mb": 1,
        "storage_mb": 1,
    }
    return event(number, "device.released", data, **changes)


def granted(number: object, amount: object = "1", *, credit: str | None = None, **more: Any) -> Any:
    """credit.granted in USD; `more` is data, but for subject and tenantid."""
    changes = {name: more.pop(name) for name in ("subject", "tenantid") if name in more}
    data = {"credit_id": credit or f"credit-{number}", "amount": amount, "currency": "USD", **more}
    return event(number, "credit.granted", data, **changes)


def paid(number: object, amount: object = "1", *, payment: str = "p", **more: Any) -> Any:
    """payment.completed in USD."""
    return event(number, "payment.completed", {"payment_id": payment, "amount": amount, "currency": "USD", **more})


def refunded(number: object, amount: object = "1", *, payment: str = "p", refund: str = "r") -> Any:
    """payment.refunded."""
    return event(number, "payment.refunded", {"payment_id": payment, "refund_id": refund, "amount": amount})
