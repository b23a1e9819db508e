"""From a row of ClickHouse, in the order of its query's columns, to what a route answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.answers import Charge, EventCharge, EventPlace, EventRecord, Movement, UsageSum
from schemas.money import NANOS, format_nanos
from schemas.period import format_time


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
     retried_at, dropped_at, note) = row  # fmt: skip
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
        "retried_at": time(retried_at) if retried_at is not None else None,
        "dropped_at": time(dropped_at) if dropped_at is not None else None,
        "note": note or None,
    }


def time(instant: Any) -> str:
    """Microseconds as ClickHouse writes them, to RFC 3339."""
    return format_time(int(instant))
