"""The shapes of what routes answer, and how a row of ClickHouse becomes one.

Money and quantities are decimal strings, times RFC 3339 in UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from schemas.money import NANOS, format_nanos
from schemas.period import format_time

Amount = Annotated[str, Field(description="Decimal, in the currency's major unit", examples=["12.5"])]
Quantity = Annotated[str, Field(description="Decimal, in the meter's unit", examples=["1200"])]
Time = Annotated[str, Field(description="RFC 3339, UTC", examples=["2026-11-20T10:15:30.123Z"])]
NextCursor = Annotated[str | None, Field(description="`cursor` of the next page; null on the last one")]


class Rejection(BaseModel):
    """An event of a batch that was not taken."""

    index: int
    reason: str
    detail: str
    pointer: str


class Acceptance(BaseModel):
    """Kafka has the accepted events."""

    accepted: int
    rejected: list[Rejection]


class EventCharge(BaseModel):
    """What one meter of an event costs."""

    charge_id: str
    meter: str
    quantity: Quantity
    price_id: Annotated[str, Field(description="Empty: the meter has no price and only counts")]
    catalog_version: int
    unit_amount: Amount | None
    amount: Amount
    currency: str
    dimensions: dict[str, str]


class EventRecord(BaseModel):
    """What became of one record."""

    source: str
    id: str
    type: str
    customer: str
    outcome: str
    reason: Annotated[str | None, Field(description="Machine-readable; null where it was rated")]
    occurred_at: Time
    received_at: Time
    decided_at: Time
    topic: str
    partition: int
    offset: int
    seq: int
    charges: list[EventCharge]


class EventPlace(BaseModel):
    """Another record of the same source and id."""

    customer: str
    outcome: str
    reason: str | None
    topic: str
    partition: int
    offset: int
    seq: int
    decided_at: Time


class EventAnswer(EventRecord):
    """The record that booked the event, or the first where none did, and all records that named it."""

    records: list[EventPlace]


class EventPage(BaseModel):
    """A page of records."""

    data: list[EventRecord]
    next_cursor: NextCursor


class CreditGrant(BaseModel):
    """What is left of a credit."""

    credit_id: str
    amount: Amount
    remaining: Amount
    expires_at: Time | None
    priority: int


class CurrencyBalance(BaseModel):
    """`available` = `balance` - `held`."""

    currency: str
    balance: Amount
    held: Amount
    available: Amount
    grants: list[CreditGrant]


class Balance(BaseModel):
    """A customer's wallet; without an entry until money moved."""

    customer: str
    balances: list[CurrencyBalance]


class UsageSum(BaseModel):
    """One row of usage."""

    window_start: Annotated[Time | None, Field(description="Null without `window`")]
    meter: str
    dimensions: Annotated[dict[str, str], Field(description="The values of what it is grouped by")]
    currency: str
    quantity: Quantity
    amount: Amount
    events: int


class UsagePage(BaseModel):
    """A page of usage."""

    customer: str
    data: list[UsageSum]
    next_cursor: NextCursor


class Charge(EventCharge):
    """A charge and the event it is for."""

    source: str
    event_id: str
    event_type: str
    occurred_at: Time
    rated_at: Time
    user_id: str | None
    session_id: str | None
    device_id: str | None
    allocation_id: str | None
    late: bool
    topic: str
    partition: int
    offset: int
    seq: int


class ChargePage(BaseModel):
    """A page of charges."""

    customer: str
    data: list[Charge]
    next_cursor: NextCursor


class Movement(BaseModel):
    """One movement of a wallet; a charge is negative."""

    entry_id: str
    seq: int
    kind: str
    amount: Amount
    balance_after: Amount
    currency: str
    occurred_at: Time
    cause: str


class LedgerPage(BaseModel):
    """A page of movements."""

    customer: str
    data: list[Movement]
    next_cursor: NextCursor


class DeadLetter(BaseModel):
    """An input record that could not be taken, kept as it was."""

    id: str
    topic: str
    partition: int
    offset: int
    customer: str
    source: str
    event_id: str
    event_type: str
    reason: str
    detail: str
    size: Annotated[int, Field(description="Bytes of the original")]
    received_at: Time
    retried_at: Time | None


class DeadLetterPage(BaseModel):
    """A page of dead letters."""

    data: list[DeadLetter]
    next_cursor: NextCursor


class DeadLetterAnswer(DeadLetter):
    """With the original: as text where it is UTF-8, and always as base64."""

    original: str | None
    original_base64: str


class CatalogApplied(BaseModel):
    """A catalogue that is now the tenant's own."""

    version: int
    tenant: str
    checksum: str
    applied_at: Time


class CatalogAnswer(BaseModel):
    """The catalogue in force for the tenant."""

    version: int
    tenant: Annotated[str | None, Field(description="Null: the one of all tenants that have none of their own")]
    checksum: str
    applied_at: Time
    catalog: dict[str, Any]


class EstimateLine(BaseModel):
    """One step that leads to an amount."""

    name: str
    quantity: Quantity
    unit_amount: Amount | None = None
    amount: Amount


class PriceEstimate(BaseModel):
    """Exact, not rounded."""

    amount: Amount
    lines: list[EstimateLine]


class Dependency(BaseModel):
    """One dependency."""

    ready: bool
    detail: str | None


class UnservedPartition(BaseModel):
    """A partition that no worker serves."""

    partition: int
    detail: str


class ReadyAnswer(BaseModel):
    """What is ready and what is not."""

    ready: bool
    dependencies: dict[str, Dependency]
    partitions: int
    unserved: list[UnservedPartition]


class AliveAnswer(BaseModel):
    """The process answers."""

    status: str


def event_record(row: Sequence[Any]) -> EventRecord:
    """A row of `queries.event` or `queries.events`."""
    (occurred_at, partition, seq, topic, offset, outcome, reason, customer, source, event_id, event_type, received_at,
     decided_at, *charges) = row  # fmt: skip
    return EventRecord(
        source=source,
        id=event_id,
        type=event_type,
        customer=customer,
        outcome=outcome,
        reason=reason or None,
        occurred_at=time(occurred_at),
        received_at=time(received_at),
        decided_at=time(decided_at),
        topic=topic,
        partition=int(partition),
        offset=int(offset),
        seq=int(seq),
        charges=[
            event_charge(f"{partition}-{seq}-{number}", *parts)
            for number, parts in enumerate(zip(*charges, strict=True))
        ],
    )


def event_place(record: EventRecord) -> EventPlace:
    """The place of a record alone."""
    return EventPlace(**{name: getattr(record, name) for name in EventPlace.model_fields})


def event_charge(
    charge_id: str,
    meter: str,
    price_id: str,
    catalog_version: Any,
    unit_amount: str,
    currency: str,
    dimensions: dict[str, str],
    units: Any,
    nanos: Any,
    amount: Any,
) -> EventCharge:
    """The nested columns of one charge."""
    return EventCharge(
        charge_id=charge_id,
        meter=meter,
        quantity=format_nanos(int(units) * NANOS + int(nanos)),
        price_id=price_id,
        catalog_version=int(catalog_version),
        unit_amount=unit_amount or None,
        amount=format_nanos(int(amount)),
        currency=currency,
        dimensions=dimensions,
    )


def charge(row: Sequence[Any]) -> Charge:
    """A row of `queries.charges`."""
    (occurred_at, partition, seq, number, topic, offset, source, event_id, event_type, user_id, session_id, device_id,
     allocation_id, rated_at, late, *parts) = row  # fmt: skip
    return Charge(
        **event_charge(f"{partition}-{seq}-{int(number) - 1}", *parts).model_dump(),
        source=source,
        event_id=event_id,
        event_type=event_type,
        occurred_at=time(occurred_at),
        rated_at=time(rated_at),
        user_id=user_id or None,
        session_id=session_id or None,
        device_id=device_id or None,
        allocation_id=allocation_id or None,
        late=bool(int(late)),
        topic=topic,
        partition=int(partition),
        offset=int(offset),
        seq=int(seq),
    )


def movement(row: Sequence[Any]) -> Movement:
    """A row of `queries.ledger`."""
    seq, _, entry_id, kind, amount, balance_after, currency, occurred_at, cause = row
    return Movement(
        entry_id=entry_id,
        seq=int(seq),
        kind=kind,
        amount=amount,
        balance_after=balance_after,
        currency=currency,
        occurred_at=time(occurred_at),
        cause=cause,
    )


def usage_sum(row: Sequence[Any], group_by: Sequence[str], *, windowed: bool) -> UsageSum:
    """A row of `queries.usage`."""
    window_start, meter, currency, *rest = row
    *values, quantity, amount, events = rest
    return UsageSum(
        window_start=time(window_start) if windowed else None,
        meter=meter,
        dimensions=dict(zip(group_by, values, strict=True)),
        currency=currency,
        quantity=quantity,
        amount=amount,
        events=int(events),
    )


def dead_letter_fields(row: Sequence[Any]) -> dict[str, Any]:
    """The fields of a DeadLetter from a row of `queries.dead_letters`."""
    (received_at, topic, partition, offset, customer, source, event_id, event_type, reason, detail, size,
     retried_at) = row  # fmt: skip
    return {
        "id": f"{topic}-{partition}-{offset}",
        "topic": topic,
        "partition": int(partition),
        "offset": int(offset),
        "customer": customer,
        "source": source,
        "event_id": event_id,
        "event_type": event_type,
        "reason": reason,
        "detail": detail,
        "size": int(size),
        "received_at": time(received_at),
        "retried_at": time(retried_at) if retried_at is not None and int(retried_at) > 0 else None,
    }


def time(instant: Any) -> str:
    """Microseconds as ClickHouse writes them, to RFC 3339."""
    return format_time(int(instant))
