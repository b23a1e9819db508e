"""The shapes of what routes answer: money and quantities are decimal strings, times RFC 3339 in UTC."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

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
    """`available` = `balance` - `held` + what the customer's bounds allow beyond it."""

    currency: str
    balance: Amount
    held: Amount
    available: Amount
    receivable: Annotated[Amount, Field(description="Charged to a postpaid customer, and not paid yet")]
    grants: list[CreditGrant]


class Balance(BaseModel):
    """A customer's wallet, which has one currency; of nothing until money moved."""

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
    retried_at: Annotated[Time | None, Field(description="When its original was sent again")]
    dropped_at: Annotated[Time | None, Field(description="When it was given up")]
    note: Annotated[str | None, Field(description="Why it was given up")]


class DeadLetterPage(BaseModel):
    """A page of dead letters."""

    data: list[DeadLetter]
    next_cursor: NextCursor


class DeadLetterAnswer(DeadLetter):
    """With the original: as text where it is UTF-8, and always as base64."""

    original: str | None
    original_base64: str


class DeadLetterResolved(BaseModel):
    """How a dead letter ended, once, whoever asks how often."""

    id: str
    resolution: Annotated[str, Field(description="retried or dropped")]
    resolved_at: Time
    now: Annotated[bool, Field(description="By this request; else it had ended so before, and nothing was done")]


class CatalogApplied(BaseModel):
    """A catalogue that is now the tenant's own."""

    version: int
    tenant: str
    checksum: str
    applied_at: Time
    picked_up: bool
    """False: a process has not said within 30 seconds that it has the version, or nobody knows; it comes later."""


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
    breaker: Annotated[str | None, Field(description="closed, open or half_open; null where there is none")] = None


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
